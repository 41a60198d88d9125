//! Lint of times and counts: thresholds, windows, delays that do not fit each other.
//!
//! Each rule is arithmetic on one definition; what was measured of a service is `cli::measured`'s, what
//! several definitions are to each other is `lint_set`'s. What is warned of here is warned of whatever
//! the service is, so no rule guesses.

use crate::config::definition::*;
use crate::config::problem::Problems;
use crate::config::service::Places;
use std::time::Duration;

/// A timeout below this, and one lost answer is enough.
const HASTY_VERDICT: Duration = Duration::from_secs(1);
/// Whoever asks more often than this learns nothing more.
const PACE: Duration = Duration::from_millis(100);
/// Restarts in a row that are never given up want a pause of this at least.
const PAUSE: Duration = Duration::from_millis(100);
/// A hang that is left alone for longer is what nobody meant.
const LONG_WINDOW: Duration = Duration::from_secs(15 * 60);

/// Of a definition that has no errors.
pub fn check(d: &Definition, places: &Places, p: &mut Problems) {
    let probes = d.probes.iter().zip(&places.probes);
    let judging = |probe: &Probe| probe.on_unhealthy == OnUnhealthy::Restart;
    if d.observe && d.watchdog().is_none() && !d.probes.iter().any(judging) {
        p.warn(
            places.observe,
            "`observe` = true has nothing to observe but how long a start takes: add a [[probe]]",
        );
    }
    for (probe, at) in probes.filter(|(probe, _)| judging(probe)) {
        let name = &probe.name;
        let ms = |length: Duration| length.as_millis();
        if probe.failure_threshold == 1 && probe.timeout < HASTY_VERDICT {
            p.warn(
                *at,
                format!(
                    "the probe `{name}`: one answer that takes longer than {} ms restarts the \
                     service: write `failure_threshold` 2 or more, or a longer `timeout_ms`",
                    ms(probe.timeout)
                ),
            );
        }
        if probe.interval < PACE && !starts_a_process(probe) {
            p.warn(
                *at,
                format!(
                    "the probe `{name}` is asked every {} ms: that costs more than it tells; \
                     `interval_ms` 1000 with `failure_threshold` 2 notices a hang as well",
                    ms(probe.interval)
                ),
            );
        }
        let Some(limit) = d.start_timeout.filter(|_| d.ready() == Ready::Probe) else {
            continue;
        };
        let passes = probe.success_threshold.saturating_sub(1);
        if probe.timeout > limit {
            p.warn(
                places.start_timeout,
                format!(
                    "`start_timeout_ms` ({}) is shorter than what one answer of the probe `{name}` \
                     may take ({} ms), by which it is ready: write {} or more",
                    ms(limit),
                    ms(probe.timeout),
                    ms(probe.timeout * 2),
                ),
            );
        } else if probe.start_interval.saturating_mul(passes) > limit {
            p.warn(
                places.start_timeout,
                format!(
                    "`start_timeout_ms` ({}) is over before the probe `{name}` can have passed {} \
                     times, every {} ms: write a longer one, or a shorter `start_interval_ms`",
                    ms(limit),
                    probe.success_threshold,
                    ms(probe.start_interval)
                ),
            );
        }
    }
    policy(d, places, p);
}

/// Of those another rule speaks.
fn starts_a_process(probe: &Probe) -> bool {
    matches!(probe.ask, Ask::Exec { .. } | Ask::Https(_))
}

fn policy(d: &Definition, places: &Places, p: &mut Problems) {
    let policy = &d.retry_policy;
    let window = policy.stability_period;
    if d.restart != Restart::Never && policy.max_attempts.is_none() && policy.delay < PAUSE {
        p.warn(
            places.max_attempts,
            format!(
                "`max_attempts` = \"unlimited\" with a `delay_ms` of {}: what cannot start is started \
                 again and again, without a pause and without an end; write 1000 or more",
                policy.delay.as_millis()
            ),
        );
    }
    if !policy.rungs().is_empty()
        && let Some(why) = never_unhealthy(d)
    {
        let words =
            format!("`escalate` is never reached: it is for restarts for health, and {why}");
        p.warn(places.escalate, words);
    }
    let restarting = d
        .probes
        .iter()
        .filter(|probe| probe.on_unhealthy == OnUnhealthy::Restart);
    let Some(slowest) = restarting.max_by_key(|probe| notices(probe)) else {
        return;
    };
    if d.restart == Restart::Never || policy.max_attempts == Some(0) {
        return;
    }
    let noticed = notices(slowest);
    // Shorter than one interval another rule speaks of it.
    if window < noticed && window >= slowest.interval {
        p.warn(
            places.stability_period,
            format!(
                "`stability_period_ms` ({}) is over before a hang is noticed ({} ms, by `interval_ms`, \
                 `failure_threshold` and `timeout_ms` of the probe `{}`): it never holds a restart \
                 back; write {} or more",
                window.as_millis(),
                noticed.as_millis(),
                slowest.name,
                (noticed * 2).as_millis()
            ),
        );
    }
    if window > LONG_WINDOW.max(policy.max_delay) && window > noticed * 4 {
        p.warn(
            places.stability_period,
            format!(
                "`stability_period_ms` ({}): a service that hangs again after a restart is left so \
                 until {} min have passed since that, and no attempt is given back before; write \
                 what it takes to know that it is well, as {}",
                window.as_millis(),
                window.as_secs() / 60,
                (noticed * 2).max(Duration::from_secs(30)).as_millis()
            ),
        );
    }
}

/// Why it is never restarted for its health; None: it may be.
fn never_unhealthy(d: &Definition) -> Option<&'static str> {
    let judged = d.watchdog().is_some()
        || d.probes
            .iter()
            .any(|probe| probe.on_unhealthy == OnUnhealthy::Restart);
    // It may take too long to get ready, where it does not do so at once.
    let slow = match d.kind {
        Kind::Forking => true,
        Kind::Process => d.ready() != Ready::Probe,
        Kind::Oneshot => d.start_timeout.is_some(),
        Kind::Target => false,
    };
    if d.restart == Restart::Never {
        Some("`restart` is \"never\"")
    } else if d.observe {
        Some("it is only observed")
    } else if !judged && !slow {
        Some("nothing asks it: add a [[probe]]")
    } else {
        None
    }
}

/// How soon a hang can be noticed at the earliest: so many questions, and the last one's timeout.
fn notices(probe: &Probe) -> Duration {
    let gaps = probe.failure_threshold.saturating_sub(1);
    probe.interval.saturating_mul(gaps) + probe.timeout
}

#[cfg(test)]
mod tests {
    use crate::config::load;
    use crate::config::problem::Problem;

    fn said(text: &str) -> Vec<String> {
        let outcome = load::read("web", "web.toml", text.as_bytes());
        assert!(outcome.definition.is_some(), "{:?}", outcome.problems);
        outcome.problems.iter().map(Problem::to_string).collect()
    }

    fn one(text: &str, place: &str, part: &str) {
        let all = said(text);
        assert!(
            all.len() == 1 && all[0].starts_with(place) && all[0].contains(part),
            "{text}\n{all:#?}"
        );
    }

    #[test]
    fn times_that_do_not_fit_are_warned_of() {
        let http = "exec = 'a'\nprobe = [{ type = 'http', target = 'http://a/'";
        one(
            "exec = 'a'\nobserve = true",
            "web.toml:2:11:",
            "nothing to observe",
        );
        one(
            &format!("{http}, failure_threshold = 1, timeout_ms = 500 }}]"),
            "web.toml:2:10:",
            "longer than 500 ms restarts",
        );
        one(
            &format!("{http}, interval_ms = 99, timeout_ms = 50 }}]"),
            "web.toml:2:10:",
            "costs more than it tells",
        );
        one(
            &format!("start_timeout_ms = 4000\n{http} }}]"),
            "web.toml:1:20:",
            "one answer of the probe `http` may take (5000 ms)",
        );
        one(
            &format!("start_timeout_ms = 6000\n{http}, success_threshold = 26 }}]"),
            "web.toml:1:20:",
            "can have passed 26 times",
        );
        one(
            &format!("retry_policy = {{ stability_period_ms = 24999 }}\n{http} }}]"),
            "web.toml:1:40:",
            "over before a hang is noticed (25000 ms",
        );
        one(
            &format!("retry_policy = {{ stability_period_ms = 3600000 }}\n{http} }}]"),
            "web.toml:1:40:",
            "until 60 min have passed",
        );
        let ladder = "retry_policy = { escalate = [{ after_uncured = 1, action = 'stop' }] }";
        for (more, part) in [
            ("", "nothing asks it"),
            ("\nrestart = 'never'\nwatchdog_ms = 1000", "`restart` is"),
            ("\nobserve = true\nwatchdog_ms = 1000", "only observed"),
        ] {
            one(
                &format!("exec = 'a'\n{ladder}{more}"),
                "web.toml:2:29:",
                part,
            );
        }
        one(
            "exec = 'a'\nretry_policy = { max_attempts = 'unlimited', delay_ms = 0 }",
            "web.toml:2:33:",
            "without an end",
        );
    }

    #[test]
    fn times_that_fit_are_not() {
        let http = "exec = 'a'\nprobe = [{ type = 'http', target = 'http://a/'";
        let ladder = "retry_policy = { escalate = [{ after_uncured = 1, action = 'stop' }] }";
        for text in [
            format!("observe = true\n{http} }}]"),
            format!("exec = 'a'\nready = 'notify'\n{ladder}"),
            format!("exec = 'a'\nkind = 'oneshot'\nstart_timeout_ms = 9\n{ladder}"),
            "exec = 'a'\nobserve = true\nwatchdog_ms = 1000".to_owned(),
            format!("{http}, failure_threshold = 1 }}]"),
            format!("{http}, failure_threshold = 1, timeout_ms = 9, on_unhealthy = 'observe' }}]")
                .replace("timeout_ms = 9", "timeout_ms = 500"),
            format!("{http}, interval_ms = 100, timeout_ms = 100 }}]"),
            format!("start_timeout_ms = 4000\nready = 'notify'\n{http} }}]"),
            format!("start_timeout_ms = 5000\n{http} }}]"),
            format!("start_timeout_ms = 6250\n{http}, success_threshold = 26 }}]"),
            format!("retry_policy = {{ stability_period_ms = 25000 }}\n{http} }}]"),
            format!("retry_policy = {{ stability_period_ms = 900000 }}\n{http} }}]"),
            "retry_policy = { stability_period_ms = 1 }\nrestart = 'never'\nexec = 'a'".to_owned(),
            "exec = 'a'\nretry_policy = { max_attempts = 'unlimited' }".to_owned(),
        ] {
            assert_eq!(said(&text), Vec::<String>::new(), "{text}");
        }
    }
}
