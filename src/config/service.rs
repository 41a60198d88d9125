//! Builds a service's [`Definition`] from the tree.
//!
//! Here are the rules that concern more than one key; single keys are checked by `reader`.
//! Invariant: what is returned is only used when no error was recorded.

use crate::config::definition::*;
use crate::config::keys::{retry_policy, service};
use crate::config::log::{self, Log};
use crate::config::problem::Problems;
use crate::config::reader::{self, Table};
use crate::config::ties::{self, Named, Relation};
use crate::config::tree::{Entry, Span, Value};
use crate::config::{hints, kinds, names, probe, resources, rungs, schedule, socket};
use crate::exit::Signal;
use crate::limits;
use std::collections::BTreeMap;
use std::time::Duration;

/// The definition, where its dependencies stand, and where its probes stand.
pub struct Built {
    pub definition: Definition,
    pub dependencies: Named,
    pub places: Places,
}

/// Where the parts stand that the lint may have words for.
pub struct Places {
    pub exec: Span,
    pub env: Span,
    pub oom_score_adj: Span,
    pub observe: Span,
    pub start_timeout: Span,
    pub restart: Span,
    pub stability_period: Span,
    pub max_attempts: Span,
    pub escalate: Span,
    pub probes: Vec<Span>,
    pub sockets: Vec<Span>,
}

/// None when there is nothing that could be started: `exec` is missing or broken.
///
/// `template`: what is read is one, and `name` one of its instances.
pub fn build(name: &str, template: bool, root: &[Entry<'_>], p: &mut Problems) -> Option<Built> {
    let t = Table::open(Span::default(), root, service::ALL, p);
    instances(name, template, &t, p);
    let kind = kinds::kind(&t, p);
    let exec = match (t.has(&service::EXEC), kind) {
        (_, Kind::Target) => None,
        (true, _) => t.command(&service::EXEC, p),
        (false, _) => {
            let example = p.assign("exec", "[\"/usr/bin/web\", \"--port\", \"8080\"]");
            p.error(
                t.at,
                format!("`exec` is missing: write what to run, as in {example}"),
            );
            None
        }
    };
    let pid_file = kinds::pid_file(&t, kind, p);
    let process = process(&t, p);
    let hooks = hooks(&t, p);
    let dependencies = ties::named(name, &t, p);
    let ties = ties::ties(&dependencies, &t, p);
    let requires = ties::names(&dependencies, Relation::Requires);
    let (retry_policy, [stability_period, max_attempts, escalate]) = retry(&t, &requires, p);
    let probes = probe::build_all(&t, p);
    if kind == Kind::Oneshot
        && let Some(entry) = t.entry(&service::PROBE)
        && !probes.is_empty()
    {
        p.error(
            entry.key_at,
            "a oneshot cannot have probes, it is well when it exits with 0: \
             remove them, or write kind = \"process\"",
        );
    }
    let start_timeout = start_timeout(&t, kind, &probes, p);
    let sockets = socket::build_all(name, &t, p);
    let start_on = start_on(&t, &sockets, p);
    let notify = notify(&t, kind, sockets.len(), p);
    let log = log::read(&t, p);
    let restarts = [Restart::Always, Restart::OnFailure, Restart::Never];
    let restart =
        t.choice_given(&service::RESTART, &restarts, p)
            .unwrap_or(match (kind, start_on) {
                (Kind::Oneshot, _) | (_, StartOn::Connection) => Restart::OnFailure,
                (Kind::Process | Kind::Forking | Kind::Target, StartOn::Boot) => Restart::Always,
            });
    let places = Places {
        exec: t.place(&service::EXEC),
        env: t.place(&service::ENV),
        oom_score_adj: t.place(&service::OOM_SCORE_ADJ),
        observe: t.place(&service::OBSERVE),
        start_timeout: t.place(&service::START_TIMEOUT),
        restart: t.place(&service::RESTART),
        stability_period,
        escalate,
        max_attempts,
        probes: probes.iter().map(|(_, at)| *at).collect(),
        sockets: sockets.iter().map(|(_, at)| *at).collect(),
    };
    let named = |relation| ties::names(&dependencies, relation);
    let definition = Definition {
        description: t.text(&service::DESCRIPTION, p).map(Into::into),
        exec: exec.unwrap_or_default(),
        kind,
        pid_file,
        after: named(Relation::After),
        requires: named(Relation::Requires),
        wants: named(Relation::Wants),
        ties,
        process,
        stop_signal: t.signal(&service::STOP_SIGNAL, p),
        stop_timeout: t.millis(&service::STOP_TIMEOUT, p),
        health_stop_timeout: t.millis_given(&service::HEALTH_STOP_TIMEOUT, p),
        start_timeout,
        restart,
        autostart: t.boolean(&service::AUTOSTART, p),
        schedule: schedule::read(&t, kind, p),
        critical: t.boolean(&service::CRITICAL, p),
        observe: t.boolean(&service::OBSERVE, p),
        safe: t.boolean(&service::SAFE, p),
        kill_mode: t.choice(
            &service::KILL_MODE,
            &[KillMode::Tree, KillMode::Mixed, KillMode::Process],
            KillMode::Tree,
            p,
        ),
        hooks: Box::new(hooks),
        retry_policy,
        notify,
        held: (!sockets.is_empty()).then(|| {
            Box::new(Held {
                sockets: sockets.into_iter().map(|(socket, _)| socket).collect(),
                start_on,
            })
        }),
        probes_required: probe::required(&t, &probes, p),
        probes: probes.into_iter().map(|(probe, _)| probe).collect(),
        log: (log != Log::default()).then(|| Box::new(log)),
    };
    schedule::fits(&definition, &t, p);
    let whole = kind == Kind::Target || !definition.exec.is_empty();
    whole.then_some(Built {
        definition,
        dependencies,
        places,
    })
}

/// What a template lists is made by `templates`; here is said what is wrong with it.
fn instances(name: &str, template: bool, t: &Table<'_>, p: &mut Problems) {
    let Some(entry) = t.entry(&service::INSTANCES).filter(|_| !template) else {
        let prefix = names::instance_of(name).map_or("", |(prefix, _)| prefix);
        t.instances(&service::INSTANCES, prefix, p);
        return;
    };
    let stem = name.split('@').next().unwrap_or(name);
    p.error(
        entry.key_at,
        format!(
            "`instances` is for templates: remove it, or call the file `{stem}@`, and write %i \
             where its instances differ"
        ),
    );
}

fn process(t: &Table<'_>, p: &mut Problems) -> Process {
    let working_dir = t.text(&service::WORKING_DIR, p);
    if let Some(path) = working_dir.filter(|path| !path.starts_with('/')) {
        let words = format!(
            "`working_dir` is `{}`; it must be absolute",
            hints::shorten(path)
        );
        p.error(t.place(&service::WORKING_DIR), words);
    }
    let env_file = t.text(&service::ENV_FILE, p);
    if let Some(path) = env_file.filter(|f| !f.strip_prefix('-').unwrap_or(f).starts_with('/')) {
        let words = format!(
            "`env_file` is `{}`; it must be absolute",
            hints::shorten(path)
        );
        p.error(t.place(&service::ENV_FILE), words);
    }
    // The ranges in the key table are those of the types.
    let nice = t
        .number_given(&service::NICE, p)
        .and_then(|n| i8::try_from(n).ok());
    let oom = t
        .number_given(&service::OOM_SCORE_ADJ, p)
        .and_then(|n| i16::try_from(n).ok());
    Process {
        user: t.account(&service::USER, p),
        group: t.account(&service::GROUP, p),
        groups: t.accounts(&service::GROUPS, p),
        umask: t.umask(&service::UMASK, p),
        working_dir: working_dir.map(Into::into),
        env: env(t, p),
        env_file: env_file.map(Into::into),
        inherit_env: t.boolean(&service::INHERIT_ENV, p),
        limits: t.limits(&service::LIMITS, p),
        nice,
        oom_score_adj: oom,
        confine: confine(t, p),
        resources: some(resources::read(t, p)),
        directories: kinds::directories(t, p),
    }
}

fn confine(t: &Table<'_>, p: &mut Problems) -> Confine {
    let read_only = t.boolean(&service::READ_ONLY, p);
    if let (Some(entry), false) = (t.entry(&service::WRITABLE), read_only) {
        let advice = p.assign("read_only", "true");
        let words = format!("`writable` is nothing without `read_only`: write {advice}");
        p.error(entry.key_at, words);
    }
    Confine {
        no_new_privs: t.boolean(&service::NO_NEW_PRIVS, p),
        capabilities: t.capabilities(&service::CAPABILITIES, p),
        read_only,
        writable: t.paths(&service::WRITABLE, p),
        private_tmp: t.boolean(&service::PRIVATE_TMP, p),
        secrets: secrets(t, p),
    }
}

/// Names are those of files: as systemd.exec(5) has them, at most 255 bytes.
fn secrets(t: &Table<'_>, p: &mut Problems) -> BTreeMap<Box<str>, Box<str>> {
    let mut found = BTreeMap::new();
    for (member, path) in t.strings(&service::SECRETS, p) {
        let name = member.key.as_ref();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let shown = hints::shorten(name);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(sound) || name.len() > 255
        {
            let words = format!("`{shown}` cannot name a secret: write letters, digits, `_`, `-`");
            p.error(member.key_at, words);
        } else if !path.starts_with('/') {
            let words = format!("the secret `{shown}` is a file: write its absolute path");
            p.error(member.value.at, words);
        } else {
            found.insert(name.into(), path.into());
        }
    }
    if found.len() > limits::MAX_SECRETS {
        let words = format!("there are at most {} secrets", limits::MAX_SECRETS);
        p.error(t.place(&service::SECRETS), words);
    }
    found
}

fn some(resources: Resources) -> Option<Box<Resources>> {
    (resources != Resources::default()).then(|| Box::new(resources))
}

fn hooks(t: &Table<'_>, p: &mut Problems) -> Hooks {
    let reload_exec = t.commands(&service::RELOAD_EXEC, p);
    let by_signal = t.has(&service::RELOAD_SIGNAL);
    if by_signal && !reload_exec.is_empty() {
        p.error(
            t.place(&service::RELOAD_SIGNAL),
            "`reload_signal` and `reload_exec` are two ways of one thing: remove one of them",
        );
    }
    let (diagnose, diagnose_signal) = diagnose(t, p);
    Hooks {
        pre_start: t.commands(&service::PRE_START, p),
        pre_start_timeout: t.millis(&service::PRE_START_TIMEOUT, p),
        stop_exec: t.commands(&service::STOP_EXEC, p),
        post_stop: t.commands(&service::POST_STOP, p),
        post_stop_timeout: t.millis(&service::POST_STOP_TIMEOUT, p),
        undo: t.commands(&service::UNDO, p),
        // Written out, a default is no other.
        undo_timeout: t
            .millis_given(&service::UNDO_TIMEOUT, p)
            .filter(|length| *length != UNDO_TIMEOUT),
        reload_signal: by_signal.then(|| t.signal(&service::RELOAD_SIGNAL, p)),
        reload_exec,
        reload_timeout: t.millis(&service::RELOAD_TIMEOUT, p),
        dossier_timeout: t
            .millis_given(&service::DOSSIER_TIMEOUT, p)
            .filter(|length| *length != DOSSIER_TIMEOUT),
        diagnose,
        diagnose_signal,
        diagnose_timeout: t
            .millis_given(&service::DIAGNOSE_TIMEOUT, p)
            .filter(|length| *length != DIAGNOSE_TIMEOUT),
    }
}

/// A command, or a signal: no program is called SIGQUIT.
fn diagnose(t: &Table<'_>, p: &mut Problems) -> (Commands, Option<Signal>) {
    let argv = t.command(&service::DIAGNOSE, p).unwrap_or_default();
    let at = t.place(&service::DIAGNOSE);
    let word = match &argv[..] {
        [word] if word.starts_with("SIG") => word,
        [] => return (Commands::default(), None),
        _ => return (Box::new([argv]), None),
    };
    let signal = Signal::parse(word);
    match signal {
        None => {
            let shown = hints::shorten(word);
            let advice = p.assign("diagnose", "\"SIGQUIT\"");
            p.error(
                at,
                format!(
                    "`diagnose` is `{shown}`, which is no signal: write {advice}, or a command"
                ),
            );
        }
        Some(Signal::KILL | Signal::STOP) => {
            let words =
                format!("`diagnose` is {word}: nothing can act on that, write SIGQUIT or SIGABRT");
            p.error(at, words);
        }
        Some(_) => {}
    }
    (Commands::default(), signal)
}

fn env(t: &Table<'_>, p: &mut Problems) -> BTreeMap<Box<str>, Box<str>> {
    let mut env = BTreeMap::new();
    for (member, value) in t.strings(&service::ENV, p) {
        let name = member.key.as_ref();
        if name.is_empty() || name.contains(['=', '\0']) {
            let shown = hints::shorten(name);
            p.error(
                member.key_at,
                format!(
                    "`{shown}` cannot name an environment variable: write letters, digits, `_`"
                ),
            );
        } else if name.starts_with("VITALD_") {
            p.error(
                member.key_at,
                format!("`{name}` is set by vitald itself: use another name"),
            );
        } else {
            env.insert(name.into(), value.into());
        }
    }
    env
}

/// The policy, and where `stability_period_ms`, `max_attempts` and `escalate` stand.
fn retry(t: &Table<'_>, requires: &[Box<str>], p: &mut Problems) -> (RetryPolicy, [Span; 3]) {
    let (at, members): (Span, &[Entry<'_>]) = match t.entry(&service::RETRY_POLICY) {
        None => (t.at, &[]),
        Some(entry) => match &entry.value.value {
            Value::Table(members) => (entry.value.at, members),
            other => {
                reader::wrong::<()>(entry, "a table: [retry_policy]", other, p);
                (entry.value.at, &[])
            }
        },
    };
    let t = Table::open(at, members, retry_policy::ALL, p);
    let delay = t.millis(&retry_policy::DELAY, p);
    let max_delay = match t.millis_given(&retry_policy::MAX_DELAY, p) {
        None => reader::default_millis(&retry_policy::MAX_DELAY).max(delay),
        Some(max) if max < delay => {
            let advice = p.assign("max_delay_ms", &delay.as_millis().to_string());
            p.error(
                t.place(&retry_policy::MAX_DELAY),
                format!("`max_delay_ms` is less than `delay_ms`: write {advice} or more"),
            );
            max
        }
        Some(max) => max,
    };
    let backoffs = [Backoff::Fixed, Backoff::Linear, Backoff::Exponential];
    let ends = [OnExhausted::Keep, OnExhausted::Stop, OnExhausted::Reboot];
    let max_attempts = max_attempts(&t, p);
    let policy = RetryPolicy {
        max_attempts,
        delay,
        backoff: t.choice(&retry_policy::BACKOFF, &backoffs, Backoff::Exponential, p),
        max_delay,
        jitter: t.fraction(&retry_policy::JITTER, p),
        stability_period: t.millis(&retry_policy::STABILITY_PERIOD, p),
        on_exhausted: t.choice(&retry_policy::ON_EXHAUSTED, &ends, OnExhausted::Keep, p),
        on_exhausted_exec: t.command(&retry_policy::ON_EXHAUSTED_EXEC, p),
        escalate: Some(rungs::read(&t, requires, max_attempts, p))
            .filter(|rungs| !rungs.is_empty()),
    };
    let places = [
        t.place(&retry_policy::STABILITY_PERIOD),
        t.place(&retry_policy::MAX_ATTEMPTS),
        t.place(&retry_policy::ESCALATE),
    ];
    (policy, places)
}

/// None: any number.
fn max_attempts(t: &Table<'_>, p: &mut Problems) -> Option<u32> {
    let key = &retry_policy::MAX_ATTEMPTS;
    if let Some(entry) = t.entry(key)
        && let Value::String(word) = &entry.value.value
    {
        if word != "unlimited" {
            let advice = p.assign(key.name, "10");
            p.error(
                entry.value.at,
                format!(
                    "`{}` must be a whole number or \"unlimited\": write {advice}",
                    key.name
                ),
            );
        }
        return None;
    }
    u32::try_from(t.number(key, p)).ok()
}

/// A connection can only start what has a socket.
fn start_on(t: &Table<'_>, sockets: &[(Socket, Span)], p: &mut Problems) -> StartOn {
    let choices = [StartOn::Boot, StartOn::Connection];
    let start_on = t.choice(&service::START_ON, &choices, StartOn::Boot, p);
    if start_on == StartOn::Connection && sockets.is_empty() {
        p.error(
            t.place(&service::START_ON),
            "a connection starts it, and it has no `socket`: write [[socket]] with its `listen`",
        );
    }
    start_on
}

/// What it tells of itself; None: nothing.
fn notify(t: &Table<'_>, kind: Kind, sockets: usize, p: &mut Problems) -> Option<Box<Notify>> {
    #[derive(Clone, Copy, PartialEq)]
    enum By {
        Probe,
        Notify,
        Fd,
    }
    let by = [By::Probe, By::Notify, By::Fd];
    let by = t.choice(&service::READY, &by, By::Probe, p);
    let fd = t.number_given(&service::NOTIFY_FD, p);
    let accesses = [NotifyAccess::None, NotifyAccess::Main, NotifyAccess::Tree];
    let access = t.choice_given(&service::NOTIFY_ACCESS, &accesses, p);
    let watchdog = t.millis_given(&service::WATCHDOG, p);
    let fd_store_max = u16::try_from(t.number(&service::FD_STORE_MAX, p)).unwrap_or(0);
    kinds::not_by_itself(t, kind, p);
    if let (Some(entry), false) = (t.entry(&service::NOTIFY_FD), by == By::Fd) {
        let advice = p.assign("ready", "\"fd\"");
        let words = format!("`notify_fd` is nothing without `ready`: write {advice}");
        p.error(entry.key_at, words);
    }
    let wants = [
        (by == By::Notify, "ready = \"notify\""),
        (watchdog.is_some(), "`watchdog_ms`"),
        (fd_store_max > 0, "`fd_store_max`"),
    ];
    let needed = wants.into_iter().find(|(wants, _)| *wants);
    if let (Some(NotifyAccess::None), Some((_, who))) = (access, needed) {
        let advice = p.assign("notify_access", "\"main\"");
        let words = format!("{who} needs the notify socket: write {advice}, or remove one of them");
        p.error(t.place(&service::NOTIFY_ACCESS), words);
    }
    let fd = fd.and_then(|fd| u16::try_from(fd).ok()).unwrap_or(3);
    // Few: their number has a bound.
    let least = 3 + fd_store_max + sockets as u16;
    if by == By::Fd && fd < least {
        let advice = p.assign("notify_fd", &least.to_string());
        let whose = match fd_store_max {
            0 => "`socket`",
            _ if sockets > 0 => "`socket` and `fd_store_max`",
            _ => "`fd_store_max`",
        };
        let words = format!(
            "`notify_fd` is {fd}, and descriptors from 3 on are those of {whose}: write {advice} or \
             more"
        );
        let key = match (t.has(&service::NOTIFY_FD), fd_store_max) {
            (true, _) => &service::NOTIFY_FD,
            (false, 0) => &service::SOCKET,
            (false, _) => &service::FD_STORE_MAX,
        };
        p.error(t.place(key), words);
    }
    let access = access.unwrap_or(match needed {
        Some(_) => NotifyAccess::Main,
        None => NotifyAccess::None,
    });
    let ready = match by {
        By::Probe => Ready::Probe,
        By::Notify => Ready::Notify,
        By::Fd => Ready::Fd(fd),
    };
    (ready != Ready::Probe || access != NotifyAccess::None).then(|| {
        Box::new(Notify {
            ready,
            access,
            watchdog,
            fd_store_max,
        })
    })
}

/// Never less than the largest `start_period_ms`: while failures do not count nothing is judged.
fn start_timeout(
    t: &Table<'_>,
    kind: Kind,
    probes: &[(Probe, Span)],
    p: &mut Problems,
) -> Option<Duration> {
    /// Of a process (design §3).
    const DEFAULT: Duration = Duration::from_secs(30);
    let longest = probes
        .iter()
        .map(|(probe, _)| probe.start_period)
        .max()
        .unwrap_or_default();
    match t.millis_given(&service::START_TIMEOUT, p) {
        None if matches!(kind, Kind::Oneshot | Kind::Target) => None,
        None => Some(DEFAULT.max(longest)),
        Some(given) if given < longest => {
            let advice = p.assign("start_timeout_ms", &longest.as_millis().to_string());
            p.error(
                t.place(&service::START_TIMEOUT),
                format!(
                    "`start_timeout_ms` is less than the probe's `start_period_ms`: write {advice} or more"
                ),
            );
            Some(given)
        }
        Some(given) => Some(given),
    }
}
