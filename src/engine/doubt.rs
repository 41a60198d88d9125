//! Self-doubt, kept: looks at the host, answers that say nothing, and how often of what cause.
//!
//! When something is late the reactor looks at the host, and tells it before the answer. The rule is
//! `service::doubt`'s; here is what it is applied to: a probe, a watchdog, a start limit.
//!
//! Invariants: a look is for what was under way when it was made; no doubt is without bound; nothing
//! is looked at while nothing is late.

use super::table::Run;
use super::*;
use crate::id::CheckId;
use crate::probe::{Outcome, Report, Trouble};
use crate::service::doubt::{self, Look, Strain};
use crate::service::state::State;
use crate::time::Wall;
use status::{DoubtCount, DoubtStatus};

/// What said nothing so far, by cause.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Doubts {
    /// As `Trouble::CAUSES`; short while the last ones never were.
    pub(super) counts: Vec<u64>,
    pub(super) last: Option<LastDoubt>,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct LastDoubt {
    pub(super) at: Time,
    pub(super) words: Box<str>,
}

impl Engine {
    /// Counted, and the last one remembered in words.
    pub(super) fn count_doubt(&mut self, cause: usize, words: String) {
        let counts = &mut self.doubts.counts;
        if counts.len() <= cause {
            counts.resize(cause + 1, 0);
        }
        counts[cause] += 1;
        let (at, words) = (self.now, words.into());
        self.doubts.last = Some(LastDoubt { at, words });
    }

    /// We could not start what we were to, for our own want of something.
    pub(super) fn count_spawn(&mut self, id: ServiceId, error: &SpawnError) {
        // ENFILE, EMFILE; ENOMEM (errno(3)).
        let cause = match error.errno {
            23 | 24 => Trouble::NoDescriptor,
            12 => Trouble::NoMemory,
            _ => Trouble::CannotFork,
        };
        let words = format!("{}: {error}", self.service(id).name);
        self.count_doubt(cause.cause(), words);
    }

    /// Something of this run was late, and this is how the host is.
    pub(super) fn looked(&mut self, run: RunId, strain: Strain) {
        let now = self.now;
        let id = run.service;
        // It may have ended since it was asked for.
        let Some(service) = self.services.get_mut(id.index()) else {
            return;
        };
        let Some(run) = service.run.as_mut().filter(|present| present.id == run) else {
            return;
        };
        let (since, before) = match &run.look {
            Some(look) => (look.at, look.strain.own_cpu_us),
            None => (run.spawned_at, Some(0)),
        };
        let took = strain.own_cpu_us.zip(before);
        let took = took.map_or(0, |(all, before)| all.saturating_sub(before));
        // At the same moment nothing more is known than before.
        let busy = match (&run.look, now > since) {
            (Some(look), false) => look.busy,
            (_, _) => doubt::is_busy(took, now.since(since)),
        };
        run.look = Some(Look {
            at: now,
            strain,
            busy,
        });
        if !std::mem::take(&mut run.looks) || !run.is_judged() {
            return;
        }
        match run.ready_at {
            Some(_) => self.watchdog_judged(id),
            None => self.start_limit_judged(id),
        }
    }

    /// A timer of this run is up: how is the host? `looked` goes on.
    pub(super) fn look(&mut self, id: ServiceId) {
        if let Some(run) = self.service_mut(id).run.as_mut() {
            run.looks = true;
            let run = run.id;
            self.effects.push(Effect::Look { run });
        }
    }

    /// A check's answer, or that it says nothing because the host was short of something.
    pub(super) fn doubted(&mut self, check: CheckId, report: Report) -> Report {
        let run = self.service(check.run.service).run.as_deref();
        let found = run.and_then(|run| {
            let index = usize::from(check.probe);
            let (watch, probe) = (run.probes.get(index)?, run.definition.probes.get(index)?);
            let begun = watch.check?.begun;
            let late = matches!(&report.outcome, Outcome::Fail(reason) if doubt::is_late(reason));
            let bounded = watch.doubted < doubt::most(probe.failure_threshold);
            run.shortage(begun).filter(|_| late && bounded)
        });
        match found {
            Some(words) => Report {
                outcome: Outcome::Inconclusive(Trouble::Pressed(words.into())),
                ..report
            },
            None => report,
        }
    }

    /// Counts what said nothing, and tells when doubt of a probe begins, or is over before it knew.
    pub(super) fn mind_doubt(&mut self, id: ServiceId, index: u16) {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let at = usize::from(index);
        let most = doubt::most(run.definition.probes[at].failure_threshold);
        let watch = &mut run.probes[at];
        let before = watch.doubted;
        let trouble = match watch.last.as_ref().map(|last| &last.outcome) {
            Some(Outcome::Inconclusive(trouble)) => Some(trouble.cause()),
            _ => None,
        };
        watch.doubted = match watch.last.as_ref().map(|last| &last.outcome) {
            Some(Outcome::Inconclusive(Trouble::Starved | Trouble::Pressed(_))) => {
                before.saturating_add(1)
            }
            Some(Outcome::Pass) => 0,
            // Spent: told once.
            Some(Outcome::Fail(_)) if before == most => most.saturating_add(1),
            Some(Outcome::Fail(_) | Outcome::Inconclusive(_)) | None => before,
        };
        let after = watch.doubted;
        if after != before {
            self.mark(id);
        }
        if let Some(cause) = trouble {
            let words = format!("{}: {}", self.service(id).name, self.probe_words(id, index));
            self.count_doubt(cause, words);
            if before == 0 && after == 1 {
                self.tell_probe(id, index, "in doubt", "it does not count".into());
            }
        } else if before == most && after > most {
            let words = format!("{most} answers in a row were doubted: from now on they count");
            self.tell_probe(id, index, "counted", words.into());
        }
    }

    // --- what has no probe

    /// A ready run said nothing in time.
    fn watchdog_judged(&mut self, id: ServiceId) {
        let now = self.now;
        // It has spoken meanwhile, or its period is another.
        if self.watchdog_deadline(id).is_some() {
            return;
        }
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let Some(period) = run.watchdog_period() else {
            return;
        };
        let short = run.shortage(now);
        let told = run.told.get_or_insert_default();
        let words = format!("no WATCHDOG=1 for {}", crate::time::spoken(period));
        match short {
            Some(short) if told.doubted < doubt::most(1) => {
                told.doubted += 1;
                let first = told.doubted == 1;
                told.streak.inconclusive(now, u32::MAX);
                self.arm_watchdog(id);
                self.mark(id);
                let trouble = Trouble::Pressed(short.into());
                let name = &self.service(id).name;
                let line = format!("{name}: {words}: {trouble}");
                self.count_doubt(trouble.cause(), line);
                if first {
                    let words = format!("{words}, but {trouble}; it does not count");
                    self.tell_watchdog(id, "in doubt", words.into());
                }
            }
            Some(_) | None => self.watchdog_missed(id, &words),
        }
    }

    /// A run is not ready within its start limit.
    fn start_limit_judged(&mut self, id: ServiceId) {
        let (now, late) = (self.now, self.lateness.total);
        if self.service(id).state != State::Starting {
            return;
        }
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        // It may have got another since.
        if run.overdue || run.start_deadline(now, late).is_none_or(|due| now < due) {
            return;
        }
        let more = run.definition.start_timeout.unwrap_or_default() / 2;
        let short = run.shortage(now);
        match short {
            Some(short) if run.start_doubts < limits::START_DOUBTS && !more.is_zero() => {
                run.start_doubts += 1;
                run.excused += more;
                self.set_start_limit(id);
                let trouble = Trouble::Pressed(short.into());
                let name = &self.service(id).name;
                let line = format!("{name}: not ready in time: {trouble}");
                self.count_doubt(trouble.cause(), line);
                let more = crate::time::spoken(more);
                let words = format!("not ready in time, but {trouble}; it has {more} more");
                let (kind, cause) = (TransitionKind::Probe, "start_timeout");
                self.tell(id, kind, "", "in doubt", cause, words.into());
            }
            Some(_) | None => self.start_limit_over(id),
        }
    }

    // --- shown

    pub(super) fn doubt_status(&self, wall: Wall) -> Option<DoubtStatus> {
        let last = self.doubts.last.as_ref()?;
        let counts = Trouble::CAUSES.iter().zip(&self.doubts.counts);
        let counts = counts.filter(|(_, count)| **count > 0);
        Some(DoubtStatus {
            counts: counts
                .map(|(cause, count)| DoubtCount {
                    cause: (*cause).to_owned(),
                    count: *count,
                })
                .collect(),
            last: last.words.to_string(),
            last_at: wall.rfc3339(last.at),
        })
    }
}

impl Run {
    /// What the host was short of when somebody looked, at `since` or after it.
    fn shortage(&self, since: Time) -> Option<String> {
        let look = self.look.as_ref().filter(|look| look.at >= since)?;
        doubt::shortage(&look.strain, look.busy)
    }
}
