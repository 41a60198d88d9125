//! What of a storm outlives the daemon, and what follows from it alone: tokens, the count of those
//! in trouble, how long whoever waits waits at most. Names and times, no services.
//!
//! A token comes back `per` after it was taken, not in drops: so there are never more restarts
//! than `count` within any `per`, whichever one looks at.

use crate::config::StormLimits;
use crate::limits;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// In the runtime journal; the last one is all there is to know.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StormRecord {
    /// When tokens were taken that are not back yet, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Time>,
    /// Who wanted a restart lately, and when last; not while that is an incident.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sick: Vec<Sick>,
    /// Who got the last token, until it is known what came of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patient: Option<Patient>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sick {
    pub name: Box<str>,
    pub at: Time,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Patient {
    pub name: Box<str>,
    /// That allowed its restart.
    pub decision: u64,
    /// It is waited for until then.
    pub until: Time,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Incident {
    pub since: Time,
    /// Of how many services.
    pub services: u32,
    /// Who is restarted, or was last, to see whether that helps.
    pub canary: Box<str>,
    /// Nobody wanted a restart any more at this time: it is over.
    pub over_at: Time,
    /// It did not help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// No service is restarted for its health.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Held {
    pub since: Time,
    pub why: Box<str>,
}

/// Whose hold it is.
pub const OWNER: &str = "storm";

impl StormRecord {
    /// When there is a token: now, or later.
    pub fn token_at(&self, limits: &StormLimits, now: Time) -> Time {
        token_at(&self.taken, limits).max(now)
    }

    pub fn take(&mut self, limits: &StormLimits, now: Time) {
        self.taken.retain(|at| now < *at + limits.per);
        if limits.count > 0 {
            self.taken.push(now);
        }
    }

    /// This service wants a restart: whether there are so many that it is an incident.
    pub fn note(&mut self, limits: &StormLimits, name: &str, now: Time, watched: usize) -> bool {
        if !limits.has_incidents() {
            return false;
        }
        self.sick
            .retain(|sick| now < sick.at + limits.within && *sick.name != *name);
        self.sick.push(Sick {
            name: name.into(),
            at: now,
        });
        let sick = self.sick.len();
        let number = limits.services > 0 && sick >= limits.services as usize;
        let share = limits.percent > 0
            && sick >= limits::LEAST_SICK
            && sick * 100 >= watched * limits.percent as usize;
        number || share || sick >= limits::MAX_SICK as usize
    }

    pub fn held(&self) -> Option<&Held> {
        self.incident.as_ref()?.held.as_ref()
    }

    /// When the turn of the one comes at the latest before whom these have to wait so long each.
    pub fn turn_at(
        &self,
        limits: &StormLimits,
        now: Time,
        ahead: impl Iterator<Item = Duration>,
    ) -> Time {
        let mut taken = self.taken.clone();
        let mut at = self.patient.as_ref().map_or(now, |p| p.until.max(now));
        for patience in ahead {
            at = at.max(token_at(&taken, limits));
            taken.push(at);
            at = at + patience;
        }
        at.max(token_at(&taken, limits))
    }
}

fn token_at(taken: &[Time], limits: &StormLimits) -> Time {
    let count = limits.count as usize;
    match taken.len().checked_sub(count) {
        Some(at) if count > 0 => taken[at] + limits.per,
        Some(_) | None => Time::ZERO,
    }
}

/// `a, b, c and 5 more`
pub fn listed(names: &[&str]) -> String {
    let shown = names.len().min(limits::STORM_NAMES);
    let words = names[..shown].join(", ");
    match names.len() - shown {
        0 => words,
        more => format!("{words} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    fn limits() -> StormLimits {
        StormLimits {
            count: 2,
            per: Duration::from_secs(10),
            services: 4,
            percent: 50,
            within: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_token_comes_back_when_its_time_is_over_and_not_before() {
        let (limits, mut storm) = (limits(), StormRecord::default());
        storm.take(&limits, secs(1));
        assert_eq!(storm.token_at(&limits, secs(1)), secs(1));
        storm.take(&limits, secs(3));
        assert_eq!(storm.token_at(&limits, secs(3)), secs(11));
        assert_eq!(storm.token_at(&limits, secs(11)), secs(11));
        storm.take(&limits, secs(11));
        assert_eq!(storm.token_at(&limits, secs(11)), secs(13));
        // As if the limit was lowered meanwhile.
        let one = StormLimits { count: 1, ..limits };
        assert_eq!(storm.token_at(&one, secs(11)), secs(21));
        let none = StormLimits { count: 0, ..limits };
        assert_eq!(storm.token_at(&none, secs(11)), secs(11));
    }

    #[test]
    fn so_many_are_an_incident_or_half_of_all_but_three_at_least() {
        let limits = limits();
        let noted = |watched: usize, at: &[u64]| {
            let mut storm = StormRecord::default();
            let mut found = at.iter().enumerate().map(|(n, s)| {
                let name = format!("s{n}");
                storm.note(&limits, &name, secs(*s), watched)
            });
            found.position(|found| found)
        };
        assert_eq!(noted(100, &[1, 2, 3, 4]), Some(3));
        assert_eq!(
            noted(100, &[1, 2, 3, 61]),
            None,
            "the first is too long ago"
        );
        assert_eq!(noted(6, &[1, 2, 3]), Some(2));
        assert_eq!(noted(7, &[1, 2, 3]), None);
        assert_eq!(noted(2, &[1, 2]), None, "two are no storm");
        let mut storm = StormRecord::default();
        for _ in 0..9 {
            assert!(!storm.note(&limits, "web", secs(1), 1), "one counts once");
        }
        let off = StormLimits {
            services: 0,
            percent: 0,
            ..limits
        };
        assert!(!storm.note(&off, "api", secs(1), 1));
    }

    #[test]
    fn how_long_it_takes_at_most_is_known_in_advance() {
        let (limits, mut storm) = (limits(), StormRecord::default());
        let minute = Duration::from_secs(60);
        storm.take(&limits, secs(1));
        storm.take(&limits, secs(2));
        assert_eq!(storm.turn_at(&limits, secs(3), [].into_iter()), secs(11));
        storm.patient = Some(Patient {
            until: secs(62),
            ..Patient::default()
        });
        assert_eq!(storm.turn_at(&limits, secs(3), [].into_iter()), secs(62));
        let ahead = [minute, minute].into_iter();
        assert_eq!(storm.turn_at(&limits, secs(3), ahead), secs(182));
    }
}
