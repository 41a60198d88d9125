//! What `check` knows of services that run: how long their starts took, and which of their times are
//! too short for that. Asked of the daemon, if one answers; without it nothing is said.

use super::arguments::Globals;
use super::client::Connection;
use super::dirs::{self, Env};
use crate::config::problem::Problem;
use crate::config::{Definition, OnUnhealthy, Ready};
use crate::engine::status::Status;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A daemon that does not answer at once has other things to do.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the last start of each service took.
#[derive(Debug, Default)]
pub struct Measured(BTreeMap<String, Duration>);

/// `own`: what is checked is what the daemon at the usual place runs. Else one must be named.
pub fn ask(globals: &Globals, own: bool, env: Env<'_>) -> Measured {
    let given = globals.socket.as_deref();
    if !own && given.is_none() && env("VITALD_SOCKET").is_none() {
        return Measured::default();
    }
    let socket = dirs::socket(given, dirs::is_root(), env, Path::exists);
    let told = Connection::open(&socket, Some(globals.timeout.unwrap_or(PATIENCE)))
        .and_then(|mut connection| connection.call("service.list", "{}"));
    let all: Vec<Status> = told
        .ok()
        .and_then(|told| serde_json::from_str(&told).ok())
        .unwrap_or_default();
    let took = |status: Status| {
        let took = Duration::from_millis(status.ready_after_ms?);
        Some((status.name, took))
    };
    Measured(all.into_iter().filter_map(took).collect())
}

impl Measured {
    /// Which times of the definition are too short for what was seen. `path`: its file, for the line.
    pub fn problems(&self, name: &str, d: &Definition, shown: &str, path: &Path) -> Vec<Problem> {
        let Some(took) = self.0.get(name).copied() else {
            return Vec::new();
        };
        let warn = |(key, words): (&str, String)| Problem {
            line: line_of(path, key),
            column: 0,
            ..Problem::warning_of_file(shown, words)
        };
        words(d, took).into_iter().map(warn).collect()
    }
}

/// The key, and what is wrong with it.
fn words(d: &Definition, took: Duration) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let ms = |length: Duration| length.as_millis();
    let (seen, twice) = (ms(took), ms(took * 2));
    if let Some(limit) = d.start_timeout.filter(|limit| took * 3 > *limit * 2) {
        found.push((
            "start_timeout_ms",
            format!(
                "`start_timeout_ms` ({}): its last start took {seen} ms, and one that takes a little \
                 longer is restarted before it is ready; write {twice} or more",
                ms(limit)
            ),
        ));
    }
    let mut judging = d.probes.iter();
    let judging = judging.any(|probe| probe.on_unhealthy == OnUnhealthy::Restart);
    let window = d.retry_policy.stability_period;
    if (judging || d.watchdog().is_some()) && window <= took {
        found.push((
            "stability_period_ms",
            format!(
                "`stability_period_ms` ({}) is over before it is ready: its last start took {seen} ms, \
                 and the window counts from the start; write {twice} or more",
                ms(window)
            ),
        ));
    }
    for probe in d.probes.iter().filter(|_| d.ready() != Ready::Probe) {
        let period = probe.start_period;
        if !period.is_zero() && period <= took {
            found.push((
                "start_period_ms",
                format!(
                    "`start_period_ms` ({}) of the probe `{}` is over before it is asked first: it \
                     counts from the start, and the last one took {seen} ms until it was ready; write \
                     {twice} or more",
                    ms(period),
                    probe.name
                ),
            ));
        }
    }
    found
}

/// Where the key stands; 0: nowhere, or nobody can tell.
fn line_of(path: &Path, key: &str) -> u32 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let is_it = |line: &str| {
        let line = line.trim_start().trim_start_matches('"');
        line.strip_prefix(key)
            .is_some_and(|rest| rest.trim_start_matches(['"', ' ']).starts_with(['=', ':']))
    };
    let at = text.lines().position(is_it);
    at.map_or(0, |at| at as u32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn keys(text: &str, took_ms: u64) -> Vec<&'static str> {
        let outcome = load::read("web", "web.toml", text.as_bytes());
        let definition = outcome.definition.unwrap();
        let found = words(&definition, Duration::from_millis(took_ms));
        found.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn times_shorter_than_what_was_measured_are_found() {
        let http = "exec = 'a'\n[[probe]]\ntype = 'http'\ntarget = 'http://a/'";
        assert_eq!(keys(http, 20_000), Vec::<&str>::new());
        assert_eq!(keys(http, 20_001), ["start_timeout_ms"]);
        let long = format!("start_timeout_ms = 300000\n{http}");
        assert_eq!(keys(&long, 29_999), Vec::<&str>::new());
        assert_eq!(keys(&long, 30_000), ["stability_period_ms"]);
        let told = format!("ready = 'notify'\n{http}\nstart_period_ms = 5000");
        assert_eq!(keys(&told, 4_999), Vec::<&str>::new());
        assert_eq!(keys(&told, 5_000), ["start_period_ms"]);
        assert_eq!(
            keys("exec = 'a'\nkind = 'oneshot'", 3_600_000),
            Vec::<&str>::new()
        );
    }
}
