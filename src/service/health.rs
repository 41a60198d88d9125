//! Streaks and windows, and the verdict that is made of them.
//!
//! A streak belongs to one probe of one run; a new run starts from nothing. Beside it a probe may
//! have a window: so many failures among the last answers take it down too, and it is not up before
//! that is over. Of several probes all must be up, or as many as the definition says. Not here: when
//! to ask, and what follows from a verdict.
//!
//! Invariant: `inconclusive` moves no streak. It only breaks the chain that earns a refund, and,
//! often enough in a row, takes the verdict away.

use crate::config::{OnUnhealthy, Probe, Window};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Unknown,
    Healthy,
    Unhealthy,
}

impl Health {
    pub const fn word(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }
}

/// What one probe of one run has shown so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Streak {
    /// Consecutive failures that counted.
    pub failures: u32,
    /// Consecutive passes.
    pub passes: u32,
    /// The verdict; None before the first.
    pub up: Option<bool>,
    /// It passed at least once in this run.
    pub passed: bool,
    /// The last answers that counted, the latest the lowest bit, 1 a failure; as many as its window
    /// has, none where it has no window.
    pub recent: u64,
    /// Inconclusive answers in a row.
    pub inconclusive: u32,
    /// When the first of them was begun.
    pub inconclusive_since: Option<Time>,
    /// When the first failure of the present streak was begun.
    pub failing_since: Option<Time>,
    /// When the first pass of the unbroken chain of passes ended.
    pub chain_since: Option<Time>,
    /// When the last pass of that chain was begun.
    pub last_pass_begun: Option<Time>,
}

/// What an answer changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    None,
    Up,
    Down,
    /// So many inconclusive answers in a row that there is no verdict any more.
    NoVerdict,
}

impl Streak {
    pub fn pass(
        &mut self,
        begun: Time,
        ended: Time,
        success_threshold: u32,
        window: Option<Window>,
    ) -> Change {
        self.conclusive();
        self.note(false, window);
        self.failures = 0;
        self.failing_since = None;
        self.passes = self.passes.saturating_add(1);
        self.passed = true;
        self.chain_since.get_or_insert(ended);
        self.last_pass_begun = Some(begun);
        if self.passes >= success_threshold && !self.is_over(window) && self.up != Some(true) {
            self.up = Some(true);
            return Change::Up;
        }
        Change::None
    }

    /// A failure that counts.
    pub fn fail(&mut self, begun: Time, failure_threshold: u32, window: Option<Window>) -> Change {
        self.conclusive();
        self.note(true, window);
        self.break_chain();
        self.passes = 0;
        self.failing_since.get_or_insert(begun);
        self.failures = self.failures.saturating_add(1);
        let is_down = self.failures >= failure_threshold || self.is_over(window);
        if is_down && self.up != Some(false) {
            self.up = Some(false);
            return Change::Down;
        }
        Change::None
    }

    /// A failure while starting or inside the start period: no streak moves.
    pub fn fail_uncounted(&mut self) {
        self.conclusive();
        self.break_chain();
        self.passes = 0;
    }

    pub fn inconclusive(&mut self, begun: Time, failure_threshold: u32) -> Change {
        self.break_chain();
        self.inconclusive = self.inconclusive.saturating_add(1);
        self.inconclusive_since.get_or_insert(begun);
        match self.inconclusive == failure_threshold {
            true => Change::NoVerdict,
            false => Change::None,
        }
    }

    /// What depended on this service came back: it is judged afresh.
    pub fn forget_failures(&mut self) {
        self.failures = 0;
        self.recent = 0;
        self.failing_since = None;
        if self.up == Some(false) {
            self.up = None;
        }
    }

    fn note(&mut self, failed: bool, window: Option<Window>) {
        if let Some(window) = window {
            let kept = u64::MAX >> (64 - window.of.clamp(1, 64));
            self.recent = (self.recent << 1 | u64::from(failed)) & kept;
        }
    }

    /// There are as many failures in the window as take a probe down.
    pub fn is_over(&self, window: Option<Window>) -> bool {
        window.is_some_and(|window| self.recent.count_ones() >= window.failures)
    }

    /// It has begun to fail, and is not known to be down.
    pub fn is_suspicious(&self) -> bool {
        self.failures > 0 && self.up != Some(false)
    }

    fn conclusive(&mut self) {
        self.inconclusive = 0;
        self.inconclusive_since = None;
    }

    fn break_chain(&mut self) {
        self.chain_since = None;
        self.last_pass_begun = None;
    }

    /// A pass was begun at least `period` after the first pass of an unbroken chain.
    pub fn is_sustained(&self, period: Duration) -> bool {
        match (self.chain_since, self.last_pass_begun) {
            (Some(first), Some(last)) => last >= first + period,
            _ => false,
        }
    }

    /// The verdict was taken away by inconclusive answers; since when.
    pub fn no_verdict_since(&self, failure_threshold: u32) -> Option<Time> {
        (self.inconclusive >= failure_threshold)
            .then_some(self.inconclusive_since)
            .flatten()
    }

    pub fn is_down(&self, probe: &Probe) -> bool {
        self.up == Some(false) && self.no_verdict_since(probe.failure_threshold).is_none()
    }
}

/// How many of so many restarting probes must be up.
pub fn needed(required: Option<u32>, probes: usize) -> usize {
    required.map_or(probes, |n| probes.min(n as usize))
}

/// The verdict over a run's probes, of those that restart: healthy when as many are up as are
/// required (None: all), unhealthy when so many are down that they cannot be, else unknown. None
/// where no probe restarts: there is nothing to be healthy by.
pub fn verdict<'a>(
    required: Option<u32>,
    probes: impl Iterator<Item = (&'a Probe, &'a Streak)>,
) -> Option<Health> {
    let (mut all, mut up, mut down) = (0, 0, 0);
    for (probe, streak) in probes.filter(|(p, _)| p.on_unhealthy == OnUnhealthy::Restart) {
        all += 1;
        match (streak.no_verdict_since(probe.failure_threshold), streak.up) {
            (None, Some(true)) => up += 1,
            (None, Some(false)) => down += 1,
            (Some(_), _) | (None, None) => {}
        }
    }
    let needed = needed(required, all);
    (all > 0).then_some(if all - down < needed {
        Health::Unhealthy
    } else if up >= needed {
        Health::Healthy
    } else {
        Health::Unknown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(streak: &mut Streak, answers: &str, up: u32, down: u32) -> Vec<Option<bool>> {
        let mut at = Time(0);
        answers
            .chars()
            .map(|answer| {
                at = at + Duration::from_secs(1);
                match answer {
                    'P' => streak.pass(at, at, up, None),
                    'F' => streak.fail(at, down, None),
                    _ => streak.inconclusive(at, down),
                };
                streak.up
            })
            .collect()
    }

    // conformance 8
    #[test]
    fn failure_threshold_counts_consecutive_failures_and_one_pass_heals_twice_over() {
        let mut streak = Streak::default();
        for _ in 0..2 {
            let seen = run(&mut streak, "PPPFFFP", 1, 3);
            let (t, f) = (Some(true), Some(false));
            assert_eq!(seen, [t, t, t, t, t, f, t]);
        }
    }

    // conformance 9
    #[test]
    fn success_threshold_counts_consecutive_passes() {
        let mut streak = Streak::default();
        run(&mut streak, "FFF", 3, 3);
        let f = Some(false);
        assert_eq!(
            run(&mut streak, "PPFPPP", 3, 3),
            [f, f, f, f, f, Some(true)]
        );
    }

    #[test]
    fn inconclusive_moves_no_streak() {
        let mut streak = Streak::default();
        run(&mut streak, "PFF", 1, 3);
        run(&mut streak, "??????????", 1, 3);
        assert_eq!((streak.failures, streak.up), (2, Some(true)));
        assert_eq!(run(&mut streak, "F", 1, 3), [Some(false)]);
    }

    #[test]
    fn a_chain_is_sustained_by_a_pass_begun_late_enough_and_broken_by_any_other_answer() {
        let period = Duration::from_secs(3);
        let mut streak = Streak::default();
        run(&mut streak, "PPP", 1, 3);
        assert!(!streak.is_sustained(period));
        run(&mut streak, "?PPP", 1, 3);
        assert!(!streak.is_sustained(period));
        let (a, b) = (Time::from_millis(100), Time::from_millis(3101));
        let mut streak = Streak::default();
        streak.pass(Time::ZERO, a, 1, None);
        streak.pass(Time::from_millis(3099), b, 1, None);
        assert!(
            !streak.is_sustained(period),
            "begun a millisecond too early"
        );
        streak.pass(Time::from_millis(3100), b, 1, None);
        assert!(streak.is_sustained(period));
    }

    #[test]
    fn a_window_counts_failures_that_are_not_in_a_row() {
        let window = Some(Window { failures: 3, of: 5 });
        let ups = |answers: &str, success_threshold| {
            let mut streak = Streak::default();
            let at = Time(0);
            let mut seen = String::new();
            for answer in answers.chars() {
                match answer {
                    'P' => streak.pass(at, at, success_threshold, window),
                    'F' => streak.fail(at, 3, window),
                    _ => streak.inconclusive(at, 3),
                };
                seen.push(match streak.up {
                    Some(true) => 'u',
                    Some(false) => 'd',
                    None => '-',
                });
            }
            seen
        };
        // The third of five; up again once it is out of the window, not by one pass between.
        assert_eq!(ups("PFFPFPPPP", 1), "uuuudduuu");
        assert_eq!(ups("FPFPF", 1), "-uuud");
        // What is inconclusive is in no window; a streak counts as it does without.
        assert_eq!(ups("F?F?F", 1), "----d");
        assert_eq!(ups("PFFPPFF", 1), "uuuuudd");
        assert_eq!(ups("PFFPPPFF", 1), "uuuuuuuu");
        let mut streak = Streak::default();
        for _ in 0..200 {
            streak.fail(Time(0), 1000, window);
        }
        assert_eq!(streak.recent, 0b11111);
        streak.forget_failures();
        assert!(!streak.is_over(window) && streak.up.is_none());
    }

    #[test]
    fn of_several_probes_as_many_must_be_up_as_are_required() {
        let outcome = crate::config::load::read(
            "web",
            "web.toml",
            b"exec = 'a'\nprobe = [{ type = 'unix', target = '/a', send = 'x' }]",
        );
        let probe = outcome.definition.expect("a definition").probes[0].clone();
        let told = |required, marks: &str| {
            let streaks: Vec<Streak> = marks
                .chars()
                .map(|mark| Streak {
                    up: match mark {
                        'u' => Some(true),
                        'd' => Some(false),
                        _ => None,
                    },
                    inconclusive: if mark == 'n' { 3 } else { 0 },
                    ..Streak::default()
                })
                .collect();
            let all = streaks.iter().map(|streak| (&probe, streak));
            verdict(required, all).map_or("none", Health::word)
        };
        for (required, marks, word) in [
            (None, "", "none"),
            (None, "uuu", "healthy"),
            (None, "uud", "unhealthy"),
            (None, "uu-", "unknown"),
            (None, "-d-", "unhealthy"),
            (Some(1), "ddu", "healthy"),
            (Some(1), "dd-", "unknown"),
            (Some(1), "ddn", "unknown"),
            (Some(1), "ddd", "unhealthy"),
            (Some(2), "uud", "healthy"),
            (Some(2), "u-d", "unknown"),
            (Some(2), "udd", "unhealthy"),
            // More than there are: all.
            (Some(9), "uuu", "healthy"),
            (Some(9), "uud", "unhealthy"),
            (Some(2), "", "none"),
        ] {
            assert_eq!(told(required, marks), word, "{required:?} {marks}");
        }
    }
}
