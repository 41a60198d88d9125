//! Streaks, and the verdict that is made of them.
//!
//! A streak belongs to one probe of one run; a new run starts from nothing. Not here: when to
//! ask, and what follows from a verdict.
//!
//! Invariant: `inconclusive` moves no streak. It only breaks the chain that earns a refund, and,
//! often enough in a row, takes the verdict away.

use crate::config::{OnUnhealthy, Probe};
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
    pub fn pass(&mut self, begun: Time, ended: Time, success_threshold: u32) -> Change {
        self.conclusive();
        self.failures = 0;
        self.failing_since = None;
        self.passes = self.passes.saturating_add(1);
        self.passed = true;
        self.chain_since.get_or_insert(ended);
        self.last_pass_begun = Some(begun);
        if self.passes >= success_threshold && self.up != Some(true) {
            self.up = Some(true);
            return Change::Up;
        }
        Change::None
    }

    /// A failure that counts.
    pub fn fail(&mut self, begun: Time, failure_threshold: u32) -> Change {
        self.conclusive();
        self.break_chain();
        self.passes = 0;
        self.failing_since.get_or_insert(begun);
        self.failures = self.failures.saturating_add(1);
        if self.failures >= failure_threshold && self.up != Some(false) {
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
        self.failing_since = None;
        if self.up == Some(false) {
            self.up = None;
        }
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

/// The verdict over a run's probes: unhealthy when any that restarts is down, healthy when all
/// are up, else unknown. None where no probe restarts: there is nothing to be healthy by.
pub fn verdict<'a>(probes: impl Iterator<Item = (&'a Probe, &'a Streak)>) -> Option<Health> {
    let mut health = None;
    for (probe, streak) in probes.filter(|(p, _)| p.on_unhealthy == OnUnhealthy::Restart) {
        let up = match streak.no_verdict_since(probe.failure_threshold) {
            Some(_) => None,
            None => streak.up,
        };
        health = Some(match (up, health) {
            (Some(false), _) | (_, Some(Health::Unhealthy)) => Health::Unhealthy,
            (Some(true), None | Some(Health::Healthy)) => Health::Healthy,
            (Some(true), Some(Health::Unknown)) | (None, _) => Health::Unknown,
        });
    }
    health
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
                    'P' => streak.pass(at, at, up),
                    'F' => streak.fail(at, down),
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
        streak.pass(Time::ZERO, a, 1);
        streak.pass(Time::from_millis(3099), b, 1);
        assert!(
            !streak.is_sustained(period),
            "begun a millisecond too early"
        );
        streak.pass(Time::from_millis(3100), b, 1);
        assert!(streak.is_sustained(period));
    }
}
