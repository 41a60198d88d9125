//! Single settings laid over a definition that is already read: `retry_policy.max_attempts=3`.
//!
//! For asking what a definition would do that is written nowhere. The values are read and
//! checked by the readers of files; only keys that the engine decides by are taken.

use crate::config::definition::*;
use crate::config::keys::{Key, probe, retry_policy, service};
use crate::config::problem::{Problems, Syntax};
use crate::config::reader::Table;
use crate::config::tree::{Entry, Lines, Span, Value};
use crate::config::{from_toml, hints};

/// Lays `settings` over the definition, in their order; what is wrong with the first bad one.
pub fn apply(definition: &mut Definition, settings: &[impl AsRef<str>]) -> Result<(), Box<str>> {
    for setting in settings {
        let setting = setting.as_ref();
        one(definition, setting).map_err(|why| format!("`{}`: {why}", hints::shorten(setting)))?;
    }
    settle(definition);
    Ok(())
}

/// What a file's defaults would have done: bounds follow what they depend on.
fn settle(definition: &mut Definition) {
    let policy = &mut definition.retry_policy;
    policy.max_delay = policy.max_delay.max(policy.delay);
    let mut longest = std::time::Duration::ZERO;
    for probe in &mut definition.probes {
        probe.timeout = probe.timeout.min(probe.interval);
        probe.start_interval = probe.start_interval.min(probe.interval);
        longest = longest.max(probe.start_period);
    }
    definition.start_timeout = definition.start_timeout.map(|limit| limit.max(longest));
}

fn one(definition: &mut Definition, setting: &str) -> Result<(), String> {
    let example = "write KEY=VALUE, as in retry_policy.max_attempts=3 or probe.interval_ms=2000";
    let (path, value) = setting.split_once('=').ok_or(example)?;
    let path: Vec<&str> = path.trim().split('.').collect();
    let (group, key) = match path.as_slice() {
        [key] if retry_policy::ALL.iter().any(|known| known.is_called(key)) => {
            (Group::Policy, *key)
        }
        [key] => (Group::Service, *key),
        ["retry_policy", key] => (Group::Policy, *key),
        ["probe", key] => (Group::Probe(None), *key),
        ["probe", name, key] => (Group::Probe(Some(*name)), *key),
        _ => return Err(example.to_owned()),
    };
    // Words need no quotes here: a shell would take them away.
    let value = value.trim();
    let plain = value.starts_with(['"', '\'', '[', '{']) || value.parse::<f64>().is_ok();
    let text = match plain || matches!(value, "true" | "false") {
        true => format!("{key} = {value}"),
        false => format!("{key} = {}", quoted(value)),
    };
    let mut p = Problems::new(Syntax::Toml);
    if let Some(root) = from_toml::parse(&text, &mut p)
        && let Value::Table(entries) = &root.value
    {
        lay(definition, &group, entries, &mut p)?;
    }
    let problems = p.finish("", &Lines::new(text.as_bytes()));
    match problems.into_iter().find(|problem| problem.is_error()) {
        Some(problem) => Err(problem.message.into()),
        None => Ok(()),
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

enum Group<'a> {
    Service,
    Policy,
    /// Of this probe, or of all.
    Probe(Option<&'a str>),
}

fn lay(
    definition: &mut Definition,
    group: &Group<'_>,
    entries: &[Entry<'_>],
    p: &mut Problems,
) -> Result<(), String> {
    match group {
        Group::Service => {
            let t = Table::open(Span::default(), entries, service::ALL, p);
            let taken = [
                &service::RESTART,
                &service::START_TIMEOUT,
                &service::STOP_TIMEOUT,
                &service::HEALTH_STOP_TIMEOUT,
            ];
            refuse_foreign(&t, &taken, service::ALL, p);
            let restarts = [Restart::Always, Restart::OnFailure, Restart::Never];
            put(
                &mut definition.restart,
                t.choice_given(&service::RESTART, &restarts, p),
            );
            let limit = t.millis_given(&service::START_TIMEOUT, p);
            definition.start_timeout = limit.or(definition.start_timeout);
            put(
                &mut definition.stop_timeout,
                t.millis_given(&service::STOP_TIMEOUT, p),
            );
            let limit = t.millis_given(&service::HEALTH_STOP_TIMEOUT, p);
            definition.health_stop_timeout = limit.or(definition.health_stop_timeout);
        }
        Group::Policy => policy(&mut definition.retry_policy, entries, p),
        Group::Probe(name) => {
            let mut found = false;
            for probe in &mut definition.probes {
                if name.is_none_or(|name| name == &*probe.name) {
                    found = true;
                    lay_probe(probe, entries, p);
                }
            }
            if !found {
                let names: Vec<&str> = definition.probes.iter().map(|probe| &*probe.name).collect();
                return Err(match names.as_slice() {
                    [] => "it has no probes".to_owned(),
                    names => format!("no such probe; it has {}", names.join(", ")),
                });
            }
        }
    }
    Ok(())
}

fn policy(policy: &mut RetryPolicy, entries: &[Entry<'_>], p: &mut Problems) {
    let t = Table::open(Span::default(), entries, retry_policy::ALL, p);
    if let Some(entry) = t.entry(&retry_policy::MAX_ATTEMPTS) {
        policy.max_attempts = match &entry.value.value {
            Value::String(word) if word == "unlimited" => None,
            _ => t
                .number_given(&retry_policy::MAX_ATTEMPTS, p)
                .and_then(|n| u32::try_from(n).ok()),
        };
    }
    put(&mut policy.delay, t.millis_given(&retry_policy::DELAY, p));
    put(
        &mut policy.max_delay,
        t.millis_given(&retry_policy::MAX_DELAY, p),
    );
    let period = t.millis_given(&retry_policy::STABILITY_PERIOD, p);
    put(&mut policy.stability_period, period);
    let backoffs = [Backoff::Fixed, Backoff::Linear, Backoff::Exponential];
    put(
        &mut policy.backoff,
        t.choice_given(&retry_policy::BACKOFF, &backoffs, p),
    );
    let ends = [OnExhausted::Keep, OnExhausted::Stop];
    put(
        &mut policy.on_exhausted,
        t.choice_given(&retry_policy::ON_EXHAUSTED, &ends, p),
    );
    if t.has(&retry_policy::JITTER) {
        policy.jitter = t.fraction(&retry_policy::JITTER, p);
    }
}

fn lay_probe(laid: &mut Probe, entries: &[Entry<'_>], p: &mut Problems) {
    let t = Table::open(Span::default(), entries, probe::ALL, p);
    let taken = [
        &probe::INTERVAL,
        &probe::TIMEOUT,
        &probe::START_INTERVAL,
        &probe::START_PERIOD,
        &probe::FAILURE_THRESHOLD,
        &probe::SUCCESS_THRESHOLD,
        &probe::ON_UNHEALTHY,
    ];
    refuse_foreign(&t, &taken, probe::ALL, p);
    put(&mut laid.interval, t.millis_given(&probe::INTERVAL, p));
    put(&mut laid.timeout, t.millis_given(&probe::TIMEOUT, p));
    put(
        &mut laid.start_interval,
        t.millis_given(&probe::START_INTERVAL, p),
    );
    put(
        &mut laid.start_period,
        t.millis_given(&probe::START_PERIOD, p),
    );
    let count = |key, p: &mut Problems| {
        let number = t.number_given(key, p);
        number.and_then(|n| u32::try_from(n).ok())
    };
    put(
        &mut laid.failure_threshold,
        count(&probe::FAILURE_THRESHOLD, p),
    );
    put(
        &mut laid.success_threshold,
        count(&probe::SUCCESS_THRESHOLD, p),
    );
    let effects = [OnUnhealthy::Restart, OnUnhealthy::Observe];
    put(
        &mut laid.on_unhealthy,
        t.choice_given(&probe::ON_UNHEALTHY, &effects, p),
    );
}

fn put<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

/// Keys that change what the process is, not what is decided about it.
fn refuse_foreign(
    t: &Table<'_>,
    taken: &[&'static Key],
    all: &'static [&'static Key],
    p: &mut Problems,
) {
    let foreign = |key: &&&'static Key| !taken.iter().any(|t| std::ptr::eq(*t, **key));
    for key in all.iter().filter(foreign) {
        if t.has(key) {
            let names: Vec<&str> = taken.iter().map(|key| key.name).collect();
            let words = format!(
                "nothing is decided by it; of its table: {}",
                names.join(", ")
            );
            p.error(t.at, words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use std::time::Duration;

    fn web() -> Definition {
        let text = "exec = ['web']\n[[probe]]\ntype = 'tcp'\ntarget = '127.0.0.1:1'\n\
                    [[probe]]\ntype = 'tcp'\nname = 'deep'\ntarget = '127.0.0.1:2'\n";
        load::read("web", "web.toml", text.as_bytes())
            .definition
            .unwrap()
    }

    fn with(setting: &str) -> Result<Definition, String> {
        let mut definition = web();
        apply(&mut definition, &[setting]).map_err(String::from)?;
        Ok(definition)
    }

    #[test]
    fn a_setting_says_what_a_line_in_the_file_would() {
        let policy = |setting| with(setting).unwrap().retry_policy;
        assert_eq!(policy("retry_policy.max_attempts=3").max_attempts, Some(3));
        assert_eq!(policy("max_attempts = unlimited").max_attempts, None);
        assert_eq!(policy("backoff=fixed").backoff, Backoff::Fixed);
        assert_eq!(policy("jitter=0").jitter, 0.0);
        assert_eq!(
            policy("delay_ms=600000").max_delay,
            Duration::from_secs(600)
        );
        assert_eq!(
            with("restart=on-failure").unwrap().restart,
            Restart::OnFailure
        );
        let intervals = |setting| {
            let probes = with(setting).unwrap().probes;
            [probes[0].interval, probes[1].interval].map(|i| i.as_secs())
        };
        assert_eq!(intervals("probe.interval_ms=2000"), [2, 2]);
        assert_eq!(intervals("probe.deep.interval_ms=2000"), [10, 2]);
        // As a file's default would, the timeout follows the interval.
        let probe = &with("probe.interval_ms=2000").unwrap().probes[0];
        assert_eq!(probe.timeout, Duration::from_secs(2));
    }

    #[test]
    fn a_bad_setting_is_told_what_to_write() {
        let say = |setting| with(setting).unwrap_err();
        assert!(say("max_attempts").contains("KEY=VALUE"));
        assert!(
            say("max_attempt=3").contains("did you mean"),
            "{}",
            say("max_attempt=3")
        );
        assert!(say("retry_policy.stability_period_ms=0").contains("must be"));
        assert!(say("backoff=squared").contains("\"fixed\""));
        assert!(say("exec=/bin/x").contains("nothing is decided by it"));
        assert!(say("probe.http.interval_ms=1").contains("it has tcp, deep"));
        assert!(
            say("max_attempts=3; x").contains("must be"),
            "{}",
            say("max_attempts=3; x")
        );
    }
}
