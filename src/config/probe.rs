//! Builds the probes of a definition from the tree.
//!
//! Invariants of what is returned without an error: `timeout` and `start_interval` are not longer
//! than `interval`; no name is used twice.

use crate::config::ask;
use crate::config::definition::*;
use crate::config::hints;
use crate::config::keys::probe::failure_window;
use crate::config::keys::{Key, probe as keys, service};
use crate::config::names;
use crate::config::problem::Problems;
use crate::config::reader::{self, Table};
use crate::config::target;
use crate::config::tree::{Entry, Node, Span, Value};
use crate::limits::{MAX_HEADERS, MAX_PROBES};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Redirects followed when `follow_redirects = true`, and the most there may be.
const REDIRECTS: u8 = 5;
const MAX_REDIRECTS: i64 = 20;

/// All probes of a service, each with the place of its table.
pub fn build_all(t: &Table<'_>, p: &mut Problems) -> Vec<(Probe, Span)> {
    let Some(entry) = t.entry(&service::PROBE) else {
        return Vec::new();
    };
    let tables: &[Node<'_>] = match &entry.value.value {
        Value::Array(tables) => tables,
        other => {
            let how = "an array of tables: write [[probe]]";
            reader::wrong::<()>(entry, how, other, p);
            return Vec::new();
        }
    };
    if tables.len() > MAX_PROBES {
        let words = format!("{} probes; at most {MAX_PROBES} are taken", tables.len());
        p.error(entry.key_at, words);
        return Vec::new();
    }
    let mut probes: Vec<(Probe, Span)> = Vec::new();
    for node in tables {
        let Value::Table(members) = &node.value else {
            let what = node.value.what();
            p.error(
                node.at,
                format!("`{}` must hold tables, not {what}", entry.key),
            );
            continue;
        };
        if let Some(probe) = build(node.at, members, &probes, p) {
            probes.push((probe, node.at));
        }
    }
    name_the_nameless(&mut probes);
    probes
}

/// How many of those that restart it must be up; None: all.
pub fn required(t: &Table<'_>, probes: &[(Probe, Span)], p: &mut Problems) -> Option<u32> {
    let key = &service::PROBES_REQUIRED;
    let entry = t.entry(key)?;
    let number = match &entry.value.value {
        Value::String(word) if word == "all" => return None,
        Value::String(word) if word == "any" => 1,
        Value::Integer(number) => *number,
        other => return reader::wrong(entry, "\"all\", \"any\" or a number", other, p),
    };
    let restarts = |(probe, _): &&(Probe, Span)| probe.on_unhealthy == OnUnhealthy::Restart;
    let all = probes.iter().filter(restarts).count();
    let found = u32::try_from(number).ok();
    let fits = found.filter(|n| (1..=all.max(1)).contains(&(*n as usize)));
    if fits.is_none() {
        let words = format!(
            "`{}` is {number}; probes that restart it: {all}; write \"all\", \"any\"{}",
            key.name,
            match all {
                0 | 1 => ", or 1".to_owned(),
                _ => format!(", or 1 to {all}"),
            }
        );
        p.error(entry.value.at, words);
    }
    fits
}

/// A name that is not given is the type, the second of that type `type-2`, and so on.
fn name_the_nameless(probes: &mut [(Probe, Span)]) {
    for i in 0..probes.len() {
        if !probes[i].0.name.is_empty() {
            continue;
        }
        let kind = probes[i].0.ask.type_name();
        let nth = probes[..i]
            .iter()
            .filter(|(probe, _)| probe.ask.type_name() == kind)
            .count();
        let free = |name: &String| !probes.iter().any(|(probe, _)| *probe.name == **name);
        let name = (nth + 1..)
            .map(|n| {
                if n == 1 {
                    kind.to_owned()
                } else {
                    format!("{kind}-{n}")
                }
            })
            .find(free);
        probes[i].0.name = name.unwrap_or_default().into();
    }
}

/// None when its type or its target cannot be used.
fn build(
    at: Span,
    members: &[Entry<'_>],
    others: &[(Probe, Span)],
    p: &mut Problems,
) -> Option<Probe> {
    let t = Table::open(at, members, keys::ALL, p);
    let kind = probe_type(&t, p);
    if let Some(kind) = kind {
        refuse_foreign(&t, kind, p);
    }
    let name = name(&t, others, p);
    let given = t.millis_given(&keys::INTERVAL, p);
    let timeout = within(&t, &keys::TIMEOUT, given, p);
    let start_interval = within(&t, &keys::START_INTERVAL, given, p);
    let interval = given.unwrap_or(reader::default_millis(&keys::INTERVAL));
    let failure_threshold = threshold(&t, &keys::FAILURE_THRESHOLD, p);
    let success_threshold = threshold(&t, &keys::SUCCESS_THRESHOLD, p);
    let start_period = t.millis(&keys::START_PERIOD, p);
    let effects = [OnUnhealthy::Restart, OnUnhealthy::Observe];
    let on_unhealthy = t.choice(&keys::ON_UNHEALTHY, &effects, OnUnhealthy::Restart, p);
    let window = window(&t, p);
    let confirm_interval = t
        .has(&keys::CONFIRM_INTERVAL)
        .then(|| within(&t, &keys::CONFIRM_INTERVAL, given, p));
    let ask = ask(kind?, timeout, &t, p)?;
    Some(Probe {
        name: name.unwrap_or_default(),
        ask,
        interval,
        timeout,
        failure_threshold,
        success_threshold,
        start_period,
        start_interval,
        on_unhealthy,
        window,
        confirm_interval,
    })
}

fn window(t: &Table<'_>, p: &mut Problems) -> Option<Window> {
    let entry = t.entry(&keys::FAILURE_WINDOW)?;
    let Value::Table(members) = &entry.value.value else {
        let how = "a table, as { failures = 3, of = 5 }";
        return reader::wrong(entry, how, &entry.value.value, p);
    };
    let t = Table::open(entry.value.at, members, failure_window::ALL, p);
    for key in failure_window::ALL.iter().filter(|key| !t.has(key)) {
        let words = format!(
            "`failure_window` has no `{}`: write {{ failures = 3, of = 5 }}",
            key.name
        );
        p.error(t.at, words);
    }
    let mut number = |key| t.number_given(key, p).and_then(|n| u32::try_from(n).ok());
    let (failures, of) = (
        number(&failure_window::FAILURES)?,
        number(&failure_window::OF)?,
    );
    if failures > of {
        let words =
            format!("{failures} failures of {of} answers cannot be: write less, or more `of`");
        p.error(t.at, words);
        return None;
    }
    Some(Window { failures, of })
}

fn probe_type(t: &Table<'_>, p: &mut Problems) -> Option<&'static str> {
    let Some(entry) = t.entry(&keys::TYPE) else {
        let words = "`type` is missing in this probe: write `type = \"http\"`, or another that the reference names";
        p.error(t.at, words);
        return None;
    };
    if matches!(&entry.value.value, Value::String(word) if word == "notify") {
        let words = "there are no probes of type \"notify\": what a service says of itself is \
                     asked for by its `watchdog_ms`";
        p.error(entry.value.at, words);
        return None;
    }
    let kind = t.choice_given(&keys::TYPE, keys::TYPES, p)?;
    if kind == "https" && !cfg!(feature = "tls") {
        let words = "this vitald was built without TLS: use the build with it (cargo feature `tls`), \
                     or ask by \"http\" or \"exec\"";
        p.error(entry.value.at, words);
        return None;
    }
    Some(kind)
}

/// Keys that only other types have.
fn refuse_foreign(t: &Table<'_>, kind: &str, p: &mut Problems) {
    for key in keys::ALL.iter().filter(|key| !key.is_for(kind)) {
        if let Some(entry) = t.entry(key) {
            let whose = key.whose();
            if kind == "jsonrpc" && std::ptr::eq(*key, &keys::METHOD) {
                let words = "`method` is that of http: a probe of type jsonrpc has `call`";
                p.error(entry.key_at, words);
                continue;
            }
            let words = format!(
                "`{}` is for probes of type {whose}, this one is {kind}: remove it",
                entry.key
            );
            p.error(entry.key_at, words);
        }
    }
}

fn name(t: &Table<'_>, others: &[(Probe, Span)], p: &mut Problems) -> Option<Box<str>> {
    let name = t.text(&keys::NAME, p)?;
    let at = t.place(&keys::NAME);
    if let Err(problem) = names::check(name) {
        p.error(at, problem);
    } else if others.iter().any(|(probe, _)| *probe.name == *name) {
        p.error(
            at,
            format!("there is already a probe `{name}`: give each its own name"),
        );
    }
    Some(name.into())
}

/// A duration that is never longer than the interval; its default shrinks with it.
fn within(
    t: &Table<'_>,
    key: &'static Key,
    interval: Option<Duration>,
    p: &mut Problems,
) -> Duration {
    let Some(length) = t.millis_given(key, p) else {
        return reader::default_millis(key).min(interval.unwrap_or(Duration::MAX));
    };
    // Without a usable interval there is nothing to compare with, and its own error to read.
    let known = match t.has(&keys::INTERVAL) {
        true => interval,
        false => Some(reader::default_millis(&keys::INTERVAL)),
    };
    if let Some(interval) = known.filter(|interval| length > *interval) {
        let (length_ms, interval_ms) = (length.as_millis(), interval.as_millis());
        let default = if t.has(&keys::INTERVAL) {
            ""
        } else {
            ", the default"
        };
        let shorter = p.assign(key.name, &interval_ms.to_string());
        let longer = p.assign(keys::INTERVAL.name, &length_ms.to_string());
        p.error(
            t.place(key),
            format!(
                "`{}` is {length_ms}, longer than `interval_ms` ({interval_ms}{default}): \
                 write {shorter} or less, or {longer} or more",
                key.name
            ),
        );
    }
    length
}

fn threshold(t: &Table<'_>, key: &'static Key, p: &mut Problems) -> u32 {
    u32::try_from(t.number(key, p)).unwrap_or(1)
}

fn ask(kind: &str, timeout: Duration, t: &Table<'_>, p: &mut Problems) -> Option<Ask> {
    let example = ask::example(kind);
    let Some(entry) = t.entry(&keys::TARGET) else {
        let Some(example) = example else {
            return ask::read(kind, timeout, t, p);
        };
        let advice = p.assign("target", example);
        p.error(
            t.at,
            format!("`target` is missing in this probe: write whom to ask, as in {advice}"),
        );
        return None;
    };
    if !matches!(kind, "http" | "https" | "tcp" | "unix" | "exec") {
        return ask::read(kind, timeout, t, p);
    }
    if kind == "exec" {
        return Some(Ask::Exec {
            argv: t.command(&keys::TARGET, p)?,
        });
    }
    let target = t.text(&keys::TARGET, p)?;
    let mut usable = |result: Result<Address, String>| match result {
        Ok(address) => Some(address),
        Err(problem) => {
            p.error(entry.value.at, format!("`target` {problem}"));
            None
        }
    };
    match kind {
        "tcp" => {
            let address = usable(target::tcp(target))?;
            let (send, expect) = (t.text(&keys::SEND, p), t.text(&keys::EXPECT, p));
            Some(Ask::Tcp {
                address,
                send: send.map(Into::into),
                expect: expect.map(Into::into),
            })
        }
        "unix" => {
            let address = usable(target::unix(target).map(|path| Address::Unix { path }))?;
            let Address::Unix { path } = address else {
                return None;
            };
            let (send, expect) = (t.text(&keys::SEND, p), t.text(&keys::EXPECT, p));
            Some(Ask::Unix {
                path,
                send: send.map(Into::into),
                expect: expect.map(Into::into),
            })
        }
        _ => {
            let tls = kind == "https";
            let mut path = None;
            let address = usable(target::http(target, tls).map(|(address, found)| {
                path = Some(found);
                address
            }));
            let http = http(t, address, path, p)?;
            Some(if tls {
                Ask::Https(http)
            } else {
                Ask::Http(http)
            })
        }
    }
}

fn http(
    t: &Table<'_>,
    address: Option<Address>,
    path: Option<Box<str>>,
    p: &mut Problems,
) -> Option<Http> {
    let methods = ["GET", "HEAD", "OPTIONS", "POST"];
    let method = t.choice(&keys::METHOD, &methods, "GET", p);
    let expect_body = t.text(&keys::EXPECT_BODY, p);
    if method == "HEAD" && expect_body.is_some() {
        let words = "`expect_body` cannot hold: the answer to HEAD has no body; use GET";
        p.error(t.place(&keys::EXPECT_BODY), words);
    }
    let headers = headers(t, &keys::HEADERS, p);
    let expect_status = statuses(t, p);
    let follow_redirects = redirects(t, p);
    let keep_alive = t.boolean(&keys::KEEP_ALIVE, p);
    let verify = t.boolean(&keys::VERIFY, p);
    Some(Http {
        address: address?,
        path: path?,
        method: method.into(),
        headers,
        expect_status,
        expect_body: expect_body.map(Into::into),
        follow_redirects,
        keep_alive,
        verify,
    })
}

/// Names and values as RFC 9110 §5 allows them. What frames the message is the probe's own.
pub(super) fn headers(
    t: &Table<'_>,
    key: &'static Key,
    p: &mut Problems,
) -> Box<[(Box<str>, Box<str>)]> {
    const OURS: [&str; 4] = [
        "connection",
        "content-length",
        "transfer-encoding",
        "upgrade",
    ];
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let mut found: Vec<(Box<str>, Box<str>)> = Vec::new();
    let given = t.strings(key, p);
    if given.len() > MAX_HEADERS {
        let words = format!("{} headers; at most {MAX_HEADERS} are taken", given.len());
        p.error(t.place(key), words);
        return Box::default();
    }
    for (member, value) in given {
        let name = member.key.as_ref();
        let shown = hints::shorten(name);
        if name.is_empty() || !name.chars().all(is_token) {
            let words = format!("`{shown}` is no header name: write letters, digits and `-`");
            p.error(member.key_at, words);
        } else if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
            p.error(
                member.key_at,
                format!("`{shown}` is set by vitald itself: remove it"),
            );
        } else if found
            .iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            p.error(
                member.key_at,
                format!("`{shown}` is given twice: remove one of the two"),
            );
        } else if value.chars().any(|c| c.is_control() && c != '\t') {
            p.error(
                member.value.at,
                format!("`{shown}` holds a control character: remove it"),
            );
        } else {
            found.push((name.into(), value.trim().into()));
        }
    }
    found.into_boxed_slice()
}

fn statuses(t: &Table<'_>, p: &mut Problems) -> Box<[RangeInclusive<u16>]> {
    let default: Box<[RangeInclusive<u16>]> = Box::new([200..=399]);
    let Some(entry) = t.entry(&keys::EXPECT_STATUS) else {
        return default;
    };
    let text = match &entry.value.value {
        Value::Integer(code) => code.to_string(),
        Value::String(text) => text.as_ref().to_owned(),
        other => {
            return reader::wrong(entry, "a status, or ranges as in \"200-399\"", other, p)
                .unwrap_or(default);
        }
    };
    target::status(&hints::shorten(&text)).unwrap_or_else(|problem| {
        p.error(entry.value.at, format!("`{}` {problem}", entry.key));
        default
    })
}

fn redirects(t: &Table<'_>, p: &mut Problems) -> u8 {
    let Some(entry) = t.entry(&keys::FOLLOW_REDIRECTS) else {
        return 0;
    };
    match &entry.value.value {
        Value::Boolean(true) => REDIRECTS,
        Value::Boolean(false) => 0,
        Value::Integer(n) if (0..=MAX_REDIRECTS).contains(n) => u8::try_from(*n).unwrap_or(0),
        Value::Integer(n) => {
            let words = format!("`{}` is {n}; it must be 0 to {MAX_REDIRECTS}", entry.key);
            p.error(entry.value.at, words);
            0
        }
        other => reader::wrong(entry, "true, false or a number", other, p).unwrap_or(0),
    }
}
