//! What changed from one definition to another, key by key with the values in short, for people
//! who look before they reload.
//!
//! Which keys changed is `diff`'s; here is how a value reads. Invariant: no value of `env`, of a
//! probe's headers, nor what a probe sends is shown: those are only said to have changed.

use crate::config::Rung;
use crate::config::ask::{JsonRpc, Look, Speaks};
use crate::config::capabilities::NAMES;
use crate::config::definition::{
    Address, Ask, Backoff, Commands, Definition, Http, KillMode, Kind, Limit, NotifyAccess,
    OnExhausted, OnUnhealthy, Preserve, Probe, Ready, Restart, StartOn, Window,
};
use crate::config::diff::{Change, diff};
use crate::config::log::{FACILITIES, Log, SEVERITIES};
use crate::config::schedule::{When, written};
use crate::config::ties::OnDependency;
use crate::time::millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Longer values end in `…`.
const LONGEST: usize = 80;

/// One key that changed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyChange {
    /// `exec`, `env.HOME`, `probe.http.interval_ms`.
    pub key: String,
    /// As it would be written in a definition; null: not set, or not shown.
    pub from: Option<String>,
    pub to: Option<String>,
    /// Its value is not shown: it may be a secret.
    pub hidden: bool,
}

impl fmt::Display for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        match (&self.from, &self.to) {
            (None, Some(_)) if self.hidden => f.write_str(": added"),
            (Some(_), None) if self.hidden => f.write_str(": removed"),
            _ if self.hidden => f.write_str(": changed"),
            (None, None) => Ok(()),
            (from, to) => write!(f, ": {} -> {}", word(from), word(to)),
        }
    }
}

/// All that differs. Empty: nothing does.
pub fn changes(old: &Definition, new: &Definition) -> Vec<KeyChange> {
    let (Change::Live(keys) | Change::Restart(keys)) = diff(old, new) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for key in keys {
        match key {
            "env" => env(&old.process.env, &new.process.env, &mut all),
            "probe" => probes(&old.probes, &new.probes, &mut all),
            _ => all.push(KeyChange {
                key: key.to_owned(),
                from: value(old, key).map(short),
                to: value(new, key).map(short),
                hidden: false,
            }),
        }
    }
    all
}

fn env(
    old: &BTreeMap<Box<str>, Box<str>>,
    new: &BTreeMap<Box<str>, Box<str>>,
    all: &mut Vec<KeyChange>,
) {
    let names = old
        .keys()
        .chain(new.keys().filter(|n| !old.contains_key(*n)));
    for name in names.filter(|name| old.get(*name) != new.get(*name)) {
        let known = |of: &BTreeMap<Box<str>, Box<str>>| of.contains_key(name);
        all.push(hidden(format!("env.{name}"), known(old), known(new)));
    }
}

fn hidden(key: String, before: bool, after: bool) -> KeyChange {
    let value = |set: bool| set.then(|| "(not shown)".to_owned());
    KeyChange {
        key,
        from: value(before),
        to: value(after),
        hidden: true,
    }
}

/// By name; what has another name is another probe.
fn probes(old: &[Probe], new: &[Probe], all: &mut Vec<KeyChange>) {
    let find = |among: &'_ [Probe], name: &str| among.iter().position(|p| &*p.name == name);
    let whole = |probe: &Probe| {
        let target = target(&probe.ask);
        short(format!("{} {target}", probe.ask.type_name()))
    };
    let before = all.len();
    for probe in old.iter().filter(|p| find(new, &p.name).is_none()) {
        all.push(KeyChange {
            key: format!("probe.{}", probe.name),
            from: Some(whole(probe)),
            ..KeyChange::default()
        });
    }
    for probe in new {
        match find(old, &probe.name) {
            Some(at) => one_probe(&old[at], probe, all),
            None => all.push(KeyChange {
                key: format!("probe.{}", probe.name),
                to: Some(whole(probe)),
                ..KeyChange::default()
            }),
        }
    }
    if all.len() == before {
        // Nothing but their order.
        all.push(KeyChange {
            key: "probe".to_owned(),
            ..KeyChange::default()
        });
    }
}

fn one_probe(old: &Probe, new: &Probe, all: &mut Vec<KeyChange>) {
    let mut put = |key: &str, from: String, to: String| {
        if from != to {
            all.push(shown(new, key, from, to));
        }
    };
    let of = |probe: &Probe| {
        let on = match probe.on_unhealthy {
            OnUnhealthy::Restart => "restart",
            OnUnhealthy::Observe => "observe",
        };
        [
            ("type", quoted(probe.ask.type_name())),
            ("target", target(&probe.ask)),
            ("interval_ms", ms(probe.interval)),
            ("timeout_ms", ms(probe.timeout)),
            ("failure_threshold", probe.failure_threshold.to_string()),
            ("success_threshold", probe.success_threshold.to_string()),
            ("start_period_ms", ms(probe.start_period)),
            ("start_interval_ms", ms(probe.start_interval)),
            ("on_unhealthy", quoted(on)),
            ("failure_window", window(probe)),
            (
                "confirm_interval_ms",
                probe.confirm_interval.map_or("none".to_owned(), ms),
            ),
        ]
    };
    for ((key, from), (_, to)) in of(old).into_iter().zip(of(new)) {
        put(key, from, to);
    }
    if let (Ask::Http(was) | Ask::Https(was), Ask::Http(is) | Ask::Https(is)) = (&old.ask, &new.ask)
    {
        for ((key, from), (_, to)) in http(was).into_iter().zip(http(is)) {
            put(key, from, to);
        }
        if was.headers != is.headers {
            let key = format!("probe.{}.headers", new.name);
            all.push(hidden(key, !was.headers.is_empty(), !is.headers.is_empty()));
        }
        return;
    }
    if old.ask.type_name() == new.ask.type_name() {
        let (was, is) = (own_keys(&old.ask), own_keys(&new.ask));
        for ((key, from), (_, to)) in was.into_iter().zip(is) {
            if from != to {
                all.push(shown(new, key, from, to));
            }
        }
        let params = |ask: &Ask| match ask {
            Ask::Server(server) => match &server.speaks {
                Speaks::JsonRpc(rpc) => rpc.params.clone(),
                _ => None,
            },
            _ => None,
        };
        let (was, is) = (params(&old.ask), params(&new.ask));
        if was != is {
            let key = format!("probe.{}.params", new.name);
            all.push(hidden(key, was.is_some(), is.is_some()));
        }
    }
    let ((sent, expected), (sends, expects)) = (talk(&old.ask), talk(&new.ask));
    if expected != expects {
        all.push(shown(new, "expect", optional(expected), optional(expects)));
    }
    if sent != sends {
        let key = format!("probe.{}.send", new.name);
        all.push(hidden(key, sent.is_some(), sends.is_some()));
    }
}

fn shown(probe: &Probe, key: &str, from: String, to: String) -> KeyChange {
    KeyChange {
        key: format!("probe.{}.{key}", probe.name),
        from: Some(short(from)),
        to: Some(short(to)),
        hidden: false,
    }
}

fn window(probe: &Probe) -> String {
    match probe.window {
        Some(Window { failures, of }) => format!("{{ failures = {failures}, of = {of} }}"),
        None => "none".to_owned(),
    }
}

/// The keys that only some types have, as many for each definition of a type.
fn own_keys(ask: &Ask) -> Vec<(&'static str, String)> {
    let text = |value: &Option<Box<str>>| optional(value.as_deref());
    let count = |n: &Option<u32>| n.map_or("none".to_owned(), |n| n.to_string());
    match ask {
        Ask::Server(server) => match &server.speaks {
            Speaks::Redis {
                user,
                password_file,
            } => vec![("user", text(user)), ("password_file", text(password_file))],
            Speaks::Postgres { user, database } => {
                vec![("user", text(user)), ("database", text(database))]
            }
            Speaks::JsonRpc(rpc) => vec![
                ("call", quoted(&rpc.call)),
                ("expect_result", text(&rpc.expect_result)),
            ],
            Speaks::Grpc { service } => vec![("service", quoted(service))],
        },
        Ask::Look(look) => match &**look {
            Look::File {
                max_age, expect, ..
            } => vec![
                ("max_age_ms", max_age.map_or("none".to_owned(), ms)),
                ("expect", text(expect)),
            ],
            Look::Memory { max, measure } => vec![
                ("max_memory", quoted(&super::sized(*max))),
                ("measure", quoted(&format!("{measure:?}").to_lowercase())),
            ],
            Look::Cpu {
                max_percent,
                window,
            } => vec![
                ("max_cpu", quoted(&format!("{max_percent}%"))),
                ("window_ms", ms(*window)),
            ],
            Look::Fds { max, max_percent } => {
                vec![
                    ("max_fds", count(max)),
                    ("max_fds_percent", count(max_percent)),
                ]
            }
            Look::Dns(dns) => vec![
                ("query", quoted(&dns.query)),
                ("record", dns.record.to_string()),
                ("expect_rcode", dns.expect_rcode.to_string()),
                ("expect", text(&dns.expect)),
            ],
        },
        Ask::Http(_) | Ask::Https(_) | Ask::Tcp { .. } | Ask::Unix { .. } | Ask::Exec { .. } => {
            Vec::new()
        }
    }
}

fn http(http: &Http) -> [(&'static str, String); 6] {
    let statuses: Vec<String> = http.expect_status.iter().map(range).collect();
    [
        ("method", quoted(&http.method)),
        ("expect_status", quoted(&statuses.join(","))),
        ("expect_body", optional(http.expect_body.as_deref())),
        ("follow_redirects", http.follow_redirects.to_string()),
        ("keep_alive", http.keep_alive.to_string()),
        ("verify", http.verify.to_string()),
    ]
}

fn range(range: &RangeInclusive<u16>) -> String {
    match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    }
}

fn talk(ask: &Ask) -> (Option<&str>, Option<&str>) {
    match ask {
        Ask::Tcp { send, expect, .. } | Ask::Unix { send, expect, .. } => {
            (send.as_deref(), expect.as_deref())
        }
        Ask::Http(_) | Ask::Https(_) | Ask::Exec { .. } | Ask::Server(_) | Ask::Look(_) => {
            (None, None)
        }
    }
}

fn target(ask: &Ask) -> String {
    let at = |address: &Address| match address {
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port } => format!("{host}:{port}"),
        Address::Unix { path } => format!("unix:{path}"),
    };
    match ask {
        Ask::Http(http) | Ask::Https(http) => match &http.address {
            Address::Unix { path } => quoted(&format!("unix:{path}:{}", http.path)),
            address => quoted(&format!(
                "{}://{}{}",
                ask.type_name(),
                at(address),
                http.path
            )),
        },
        Ask::Tcp { address, .. } => quoted(&at(address)),
        Ask::Unix { path, .. } => quoted(path),
        Ask::Exec { argv } => words(argv),
        Ask::Server(server) => match &server.speaks {
            Speaks::JsonRpc(JsonRpc {
                http: Some(http), ..
            }) => target(&Ask::Http((**http).clone())),
            _ => quoted(&at(&server.address)),
        },
        Ask::Look(look) => match &**look {
            Look::File { path, .. } => quoted(path),
            Look::Dns(dns) => quoted(&at(&dns.server)),
            Look::Memory { .. } | Look::Cpu { .. } | Look::Fds { .. } => String::new(),
        },
    }
}

/// The value of a service's key, as it would be written; None: not set, or not known here.
fn value(definition: &Definition, key: &str) -> Option<String> {
    let d = definition;
    let p = &d.process;
    let r = &d.retry_policy;
    let h = &d.hooks;
    let text = |value: &Option<Box<str>>| value.as_deref().map(quoted);
    let size = |bytes: u64| quoted(&super::sized(bytes));
    let signal = |signal: crate::exit::Signal| quoted(&signal.to_string());
    Some(match key {
        "description" => return text(&d.description),
        "exec" => words(&d.exec),
        "kind" => quoted(match d.kind {
            Kind::Process => "process",
            Kind::Oneshot => "oneshot",
            Kind::Forking => "forking",
            Kind::Target => "target",
        }),
        "after" => return list(&d.after),
        "requires" => return list(&d.requires),
        "wants" => return list(&d.wants),
        "before" => return list(d.before()),
        "milestone" => return list(d.milestone()),
        "after_exit" => return list(d.after_exit()),
        "conflicts" => return list(d.conflicts()),
        "on_dependency" => quoted(match d.on_dependency() {
            OnDependency::Run => "run",
            OnDependency::Restart => "restart",
            OnDependency::Stop => "stop",
        }),
        "user" => return text(&p.user),
        "group" => return text(&p.group),
        "groups" => return p.groups.as_deref().map(words),
        "umask" => return p.umask.map(|mask| quoted(&format!("{mask:03o}"))),
        "working_dir" => return text(&p.working_dir),
        "env_file" => return text(&p.env_file),
        "inherit_env" => p.inherit_env.to_string(),
        "limits" => {
            let one = |name: &str, limit: &Limit| format!("{name} = {}", bound(limit));
            let all: Vec<String> = p.limits.iter().map(|(n, l)| one(n, l)).collect();
            return (!all.is_empty()).then(|| format!("{{ {} }}", all.join(", ")));
        }
        "nice" => return p.nice.map(|nice| nice.to_string()),
        "oom_score_adj" => return p.oom_score_adj.map(|adj| adj.to_string()),
        "socket" => {
            let all: Vec<&str> = d.sockets().iter().map(|socket| &*socket.listen).collect();
            return (!all.is_empty()).then(|| format!("[{}]", all.join(", ")));
        }
        "start_on" => quoted(match d.start_on() {
            StartOn::Boot => "boot",
            StartOn::Connection => "connection",
        }),
        "no_new_privs" => p.confine.no_new_privs.to_string(),
        "capabilities" => {
            let bits = p.confine.capabilities?;
            let named = NAMES.iter().enumerate();
            let named = named.filter(|(number, _)| bits >> number & 1 == 1);
            format!("{:?}", named.map(|(_, name)| *name).collect::<Vec<_>>())
        }
        "read_only" => p.confine.read_only.to_string(),
        "writable" => return list(&p.confine.writable),
        "private_tmp" => p.confine.private_tmp.to_string(),
        "secrets" => {
            let secrets = &p.confine.secrets;
            return (!secrets.is_empty()).then(|| format!("{secrets:?}"));
        }
        "memory_max" => return p.resources().memory_max.map(size),
        "memory_high" => return p.resources().memory_high.map(size),
        "cpu_max" => return p.resources().cpu_max.map(|max| quoted(&format!("{max}%"))),
        "cpu_weight" => return p.resources().cpu_weight.map(|weight| weight.to_string()),
        "pids_max" => return p.resources().pids_max.map(|pids| pids.to_string()),
        "probes_required" => match d.probes_required {
            None => quoted("all"),
            Some(1) => quoted("any"),
            Some(n) => n.to_string(),
        },
        "pid_file" => return text(&d.pid_file),
        "runtime_directory" => return list(&p.directories.runtime),
        "runtime_directory_mode" => {
            let mode = p.directories.mode;
            return mode.map(|mode| quoted(&format!("{mode:04o}")));
        }
        "runtime_directory_preserve" => quoted(match p.directories.preserve {
            Preserve::No => "no",
            Preserve::Restart => "restart",
            Preserve::Yes => "yes",
        }),
        "undo" => return commands(&h.undo),
        "undo_timeout_ms" => ms(h.undo_timeout()),
        "dossier_timeout_ms" => ms(h.dossier_timeout()),
        "diagnose" => match h.diagnose_signal {
            Some(word) => signal(word),
            None => return commands(&h.diagnose),
        },
        "diagnose_timeout_ms" => ms(h.diagnose_timeout()),
        "stop_signal" => signal(d.stop_signal),
        "stop_timeout_ms" => ms(d.stop_timeout),
        "health_stop_timeout_ms" => return d.health_stop_timeout.map(ms),
        "start_timeout_ms" => return d.start_timeout.map(ms),
        "ready" => quoted(match d.ready() {
            Ready::Probe => "probe",
            Ready::Notify => "notify",
            Ready::Fd(_) => "fd",
        }),
        "notify_fd" => match d.ready() {
            Ready::Fd(fd) => fd.to_string(),
            Ready::Probe | Ready::Notify => return None,
        },
        "notify_access" => quoted(match d.notify_access() {
            NotifyAccess::None => "none",
            NotifyAccess::Main => "main",
            NotifyAccess::Tree => "tree",
        }),
        "watchdog_ms" => return d.watchdog().map(ms),
        "fd_store_max" => d.fd_store_max().to_string(),
        "restart" => quoted(match d.restart {
            Restart::Always => "always",
            Restart::OnFailure => "on-failure",
            Restart::Never => "never",
        }),
        "autostart" => d.autostart.to_string(),
        "schedule" => match &d.schedule.as_ref()?.when {
            When::At(cron) => quoted(&cron.to_string()),
            When::Every(_) => return None,
        },
        "every" => match d.schedule.as_ref()?.when {
            When::Every(length) => quoted(&written(length)),
            When::At(_) => return None,
        },
        "catch_up" => d.schedule.as_ref()?.catch_up.to_string(),
        "random_delay" => match d.schedule.as_ref()?.random_delay {
            Duration::ZERO => return None,
            length => quoted(&written(length)),
        },
        "critical" => d.critical.to_string(),
        "observe" => d.observe.to_string(),
        "safe" => d.safe.to_string(),
        "kill_mode" => quoted(match d.kill_mode {
            KillMode::Tree => "tree",
            KillMode::Mixed => "mixed",
            KillMode::Process => "process",
        }),
        "pre_start" => return commands(&h.pre_start),
        "pre_start_timeout_ms" => ms(h.pre_start_timeout),
        "stop_exec" => return commands(&h.stop_exec),
        "post_stop" => return commands(&h.post_stop),
        "post_stop_timeout_ms" => ms(h.post_stop_timeout),
        "reload_signal" => return h.reload_signal.map(signal),
        "reload_exec" => return commands(&h.reload_exec),
        "reload_timeout_ms" => ms(h.reload_timeout),
        "max_attempts" => match r.max_attempts {
            Some(most) => most.to_string(),
            None => quoted("unlimited"),
        },
        "delay_ms" => ms(r.delay),
        "backoff" => quoted(match r.backoff {
            Backoff::Fixed => "fixed",
            Backoff::Linear => "linear",
            Backoff::Exponential => "exponential",
        }),
        "max_delay_ms" => ms(r.max_delay),
        "jitter" => r.jitter.to_string(),
        "stability_period_ms" => ms(r.stability_period),
        "on_exhausted" => quoted(match r.on_exhausted {
            OnExhausted::Keep => "keep",
            OnExhausted::Stop => "stop",
            OnExhausted::Reboot => "reboot",
        }),
        "on_exhausted_exec" => return r.on_exhausted_exec.as_deref().map(words),
        "escalate" => {
            let rung = |rung: &Rung| format!("{}: {}", rung.after, rung.action.words());
            let rungs: Vec<String> = r.rungs().iter().map(rung).collect();
            return (!rungs.is_empty()).then(|| format!("[{}]", rungs.join(", ")));
        }
        _ => return log_value(d.log.as_deref()?, key),
    })
}

fn log_value(log: &Log, key: &str) -> Option<String> {
    let lower = |word: String| quoted(&word.to_lowercase());
    Some(match key {
        "log_to" => lower(format!("{:?}", log.to?)),
        "log_time" => lower(format!("{:?}", log.time?)),
        "log_prefix" => lower(format!("{:?}", log.prefix?)),
        "log_file_bytes" => log.file_bytes?.to_string(),
        "log_files" => log.files?.to_string(),
        "log_stderr" => lower(format!("{:?}", log.stderr?)),
        "log_priority" => quoted(SEVERITIES.get(usize::from(log.priority?.0))?),
        "log_facility" => quoted(FACILITIES.get(usize::from(log.facility?))?),
        "log_tag" => quoted(log.tag.as_deref()?),
        "log_line_bytes" => log.line_bytes?.to_string(),
        "log_long_lines" => lower(format!("{:?}", log.long_lines?)),
        "log_rate_limit" => {
            let limit = log.rate_limit?;
            let per_ms = ms(limit.per);
            format!("{{ count = {}, per_ms = {per_ms} }}", limit.count)
        }
        "logger" => words(log.logger.as_deref()?),
        _ => return None,
    })
}

fn bound(limit: &Limit) -> String {
    let one = |bound: Option<u64>| bound.map_or(quoted("unlimited"), |n| n.to_string());
    match limit.soft == limit.hard {
        true => one(limit.soft),
        false => format!("[{}, {}]", one(limit.soft), one(limit.hard)),
    }
}

fn ms(duration: Duration) -> String {
    millis(duration).to_string()
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn optional(text: Option<&str>) -> String {
    text.map_or("none".to_owned(), quoted)
}

fn words(words: &[Box<str>]) -> String {
    bracketed(words)
}

fn list(names: &[Box<str>]) -> Option<String> {
    (!names.is_empty()).then(|| bracketed(names))
}

fn commands(commands: &Commands) -> Option<String> {
    match &**commands {
        [] => None,
        [one] => Some(words(one)),
        many => Some(bracketed(many)),
    }
}

fn bracketed(items: &[impl Debug]) -> String {
    format!("{items:?}")
}

fn short(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests;
