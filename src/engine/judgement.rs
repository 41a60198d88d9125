//! The gate asked, and its word kept: decisions, deferrals, recovery, cures.
//!
//! Invariants: every evaluation is a decision that is kept; a deferral has a timer or waits for
//! a named change; nothing is spent but by an `Allowed`.

use super::needs::Need;
use super::table::{Cure, Standing};
use super::*;
use crate::config::alerts::What;
use crate::config::{Escalation, OnExhausted, OnUnhealthy};
use crate::service::gate::{self, Inputs, Reason, Requirement, Ruling, Storm};
use crate::service::health::Health;
use crate::service::state::{Cause, Cue, State};
use crate::time::spoken;
use story::Verdict;

impl Engine {
    /// Asks the gate about this live run, because of `cause`, and does what it says.
    pub(super) fn consider(&mut self, id: ServiceId, cause: Cause) {
        // A run in trouble before it was ever healthy is no cure.
        self.settle_cure(id, false);
        let trouble_since = self.trouble_since(id);
        let wanted = self.will(id);
        let (asking, requirement) = self.requirement(id, trouble_since);
        let service = self.service(id);
        let Some(run) = service.run.as_ref() else {
            return;
        };
        let definition = run.definition.clone();
        let state = if run.is_judged() {
            service.state
        } else {
            State::Stopping
        };
        let attempts = service.attempts;
        let mut inputs = Inputs {
            now: self.now,
            wanted,
            once: service.once,
            restart: definition.restart,
            observed: definition.observe,
            state,
            held: self.hold.is_some(),
            requirement: match &requirement {
                Need::Satisfied => Requirement::Satisfied,
                Need::Asking(name, until) => Requirement::Asking {
                    name,
                    until: *until,
                },
                Need::Unwell(name) => Requirement::Unwell { name },
            },
            policy: &definition.retry_policy,
            attempts,
            spawned_at: run.spawned_at,
            restarted: run.restarted,
            ever_ready: run.ready_at.is_some(),
            recovering: cause == Cause::Unhealthy && run.is_recovering(),
            storm: Storm::Token,
        };
        let mut ruling = gate::judge(&inputs);
        if matches!(ruling, Ruling::Allowed { .. }) {
            // Only who would go takes a place in line.
            inputs.storm = self.storm_says(id);
            ruling = gate::judge(&inputs);
        }
        let trouble = self.trouble_words(id, cause);
        match ruling {
            Ruling::Allowed { attempt } => self.allow(id, cause, attempt, trouble),
            Ruling::Absorbed { reason } => {
                let words = format!("{reason} ({trouble})").into();
                self.decide(id, cause, Verdict::Absorbed, words, attempts, None);
            }
            Ruling::Shadow => {
                let standing = Standing {
                    cause,
                    ruling,
                    trouble_since,
                };
                self.shadow(id, standing, trouble);
            }
            Ruling::Deferred { .. } | Ruling::Denied { .. } => {
                let standing = Standing {
                    cause,
                    ruling,
                    trouble_since,
                };
                self.keep_waiting(id, standing, trouble);
                for (requirement, until) in asking {
                    self.ask_now(requirement, until);
                }
            }
        }
    }

    /// The attempt is spent, the run ended.
    fn allow(&mut self, id: ServiceId, cause: Cause, attempt: u32, trouble: Box<str>) {
        let mut rung = self.rung(id);
        if rung
            .as_ref()
            .is_some_and(|r| r.action == Escalation::Reboot)
        {
            if self.reboots_for(id, cause, &trouble) {
                return;
            }
            rung = self.rung_without_reboot(id);
        }
        let mut trouble = trouble;
        let (mut with, mut repair) = (None, None);
        if let Some(rung) = rung {
            let uncured = rung.uncured;
            let what = match rung.action {
                Escalation::Reboot => String::new(),
                Escalation::Stop => return self.give_up(id, cause, uncured, trouble),
                Escalation::RestartWith(name) => {
                    let what = format!("restart with {name}");
                    with = Some((name, uncured));
                    what
                }
                Escalation::Exec { argv, .. } => {
                    repair = Some(rung.index);
                    let program = argv.first().map(|program| &**program);
                    format!("restart after {}", program.unwrap_or_default())
                }
            };
            trouble = format!("{trouble}; {uncured} uncured in a row: {what}").into();
        }
        let used = std::mem::replace(&mut self.service_mut(id).attempts, attempt);
        self.decide(id, cause, Verdict::Allowed, trouble.clone(), used, None);
        let service = self.service_mut(id);
        service.cure = service.decisions.back().map(|d| Cure {
            decision: d.seq,
            run: d.run,
        });
        service.standing = None;
        let decision = service.cure.map_or(0, |cure| cure.decision);
        self.storm_allows(id, decision);
        if let Some(rung) = repair {
            self.intend_repair(id, rung);
        }
        self.cue(id, Cue::Cycle, cause, trouble);
        if let Some((name, uncured)) = with {
            self.restart_with(id, &name, uncured);
        }
    }

    /// Deferred or denied: that stands until it is asked again, or has lost its object.
    pub(super) fn keep_waiting(&mut self, id: ServiceId, standing: Standing, trouble: Box<str>) {
        let (verdict, reason, until) = match &standing.ruling {
            Ruling::Deferred { reason, until } => (Verdict::Deferred, reason, *until),
            Ruling::Denied { reason } => (Verdict::Denied, reason, None),
            Ruling::Allowed { .. } | Ruling::Absorbed { .. } | Ruling::Shadow => return,
        };
        let words = format!("{reason} ({trouble})").into();
        let exhausted = matches!((verdict, reason), (Verdict::Denied, Reason::Budget(_)));
        let (cause, attempts) = (standing.cause, self.service(id).attempts);
        let queued = matches!(reason, Reason::Storm(_));
        let before = self.service_mut(id).standing.replace(standing);
        let known = before.is_some_and(|before| {
            matches!(
                before.ruling,
                Ruling::Denied {
                    reason: Reason::Budget(_)
                }
            )
        });
        match verdict {
            Verdict::Deferred if queued => self.join_storm(id),
            Verdict::Deferred => {}
            Verdict::Denied
            | Verdict::Allowed
            | Verdict::Absorbed
            | Verdict::Cancelled
            | Verdict::WouldRestart => self.leave_storm(id),
        }
        self.decide(id, cause, verdict, words, attempts, until);
        let key = self.service_key(id, Key::gate);
        match until {
            Some(until) => self.timers.set(key, until),
            None => self.timers.cancel(key),
        }
        if exhausted {
            if !known {
                self.raise(id, What::Exhausted, cause.word(), &trouble);
            }
            self.exhausted(id, cause, trouble);
        }
    }

    /// A run that does not work has no attempt left: left as it is, or stopped for good.
    fn exhausted(&mut self, id: ServiceId, cause: Cause, trouble: Box<str>) {
        self.tell_exhausted(id, &trouble);
        self.reboot_if_defined(id);
        if self.definition_of(id).retry_policy.on_exhausted == OnExhausted::Stop {
            self.cue(id, Cue::Cycle, cause, trouble);
            if let Some(stop) = self.stop_mut(id) {
                stop.final_stop = true;
            }
            self.mark(id);
        }
    }

    /// Something the gate looks at has changed: a run that does not work is judged again.
    pub(super) fn reconsider(&mut self, id: ServiceId) {
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        if !run.is_judged() {
            return;
        }
        if run.is_down() {
            self.consider(id, Cause::Unhealthy);
        } else if run.is_watchdog_down() {
            self.consider(id, Cause::Watchdog);
        } else if run.overdue {
            self.consider(id, Cause::StartTimeout);
        }
    }

    pub(super) fn gate_due(&mut self, id: ServiceId) {
        self.reconsider(id);
    }

    /// No probe is down any more: a deferral or denial has lost its object.
    pub(super) fn recovered(&mut self, id: ServiceId) {
        let words = match self.service(id).health() {
            Some(Health::Healthy) => "recovered",
            Some(Health::Unknown | Health::Unhealthy) | None => "no longer seen to fail",
        };
        self.cancel_standing(id, words);
    }

    /// The run is being ended for another reason: a deferral is told to be over.
    pub(super) fn forget_standing(&mut self, id: ServiceId) {
        match self.service(id).standing.as_ref().map(|s| &s.ruling) {
            Some(Ruling::Deferred { .. }) => {
                self.cancel_standing(id, "the run ended first");
            }
            Some(
                Ruling::Allowed { .. }
                | Ruling::Denied { .. }
                | Ruling::Absorbed { .. }
                | Ruling::Shadow,
            ) => {
                self.service_mut(id).standing = None;
                self.leave_storm(id);
            }
            // A place that was given by the daemon before this one, which has not judged it since.
            None => self.leave_storm(id),
        }
    }

    /// What stood, if anything did, has lost its object, for the reason in `words`.
    pub(super) fn cancel_standing(&mut self, id: ServiceId, words: &str) -> bool {
        let Some(standing) = self.service_mut(id).standing.take() else {
            return false;
        };
        self.leave_storm(id);
        let key = self.service_key(id, Key::gate);
        self.timers.cancel(key);
        let attempts = self.service(id).attempts;
        let (cause, words) = (standing.cause, words.into());
        self.decide(id, cause, Verdict::Cancelled, words, attempts, None);
        true
    }

    /// A run is not ready within its start limit.
    pub(super) fn start_limit_passed(&mut self, id: ServiceId) {
        let (now, late) = (self.now, self.lateness.total);
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        if run.start_deadline(now, late).is_some_and(|due| now < due) {
            // Nobody could ask for so long, or the loop was late: it gets that time again.
            self.set_start_limit(id);
            return;
        }
        if run.is_doubtful() && !run.has_restart_probes() && run.executed {
            // Nobody is there to ask, and its word may have been lost: by no fault of its.
            run.told.get_or_insert_default().ready = true;
            self.ready_if_it_is(id);
            return;
        }
        // Whether it is slow, or the host.
        self.look(id);
    }

    pub(super) fn start_limit_over(&mut self, id: ServiceId) {
        if let Some(run) = self.service_mut(id).run.as_mut() {
            run.overdue = true;
            self.consider(id, Cause::StartTimeout);
        }
    }

    /// The timer of the start limit as it is now; none while that stands still.
    pub(super) fn set_start_limit(&mut self, id: ServiceId) {
        let (now, late) = (self.now, self.lateness.total);
        let key = self.service_key(id, Key::lifecycle);
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        match run.start_deadline(now, late) {
            Some(due) if run.excused_since.is_none() => self.timers.set(key, due),
            Some(_) | None => self.timers.cancel(key),
        }
        self.mark(id);
    }

    pub(super) fn decide(
        &mut self,
        id: ServiceId,
        cause: Cause,
        verdict: Verdict,
        reason: Box<str>,
        attempts: u32,
        next: Option<Time>,
    ) {
        self.seq += 1;
        let service = self.service(id);
        let max_attempts = service
            .definition
            .as_ref()
            .and_then(|d| d.retry_policy.max_attempts);
        let decision = Decision {
            seq: self.seq,
            at: self.now,
            service: service.name.clone(),
            run: service.number,
            cause: Word(cause.word()),
            verdict,
            reason,
            attempts,
            max_attempts,
            next,
            cured: None,
        };
        self.keep_decision(id, decision);
    }

    /// The present run tells whether the health restart that led to it was a cure.
    pub(super) fn settle_cure(&mut self, id: ServiceId, cured: bool) {
        let service = self.service_mut(id);
        let Some(cure) = service.cure else { return };
        if cure.run == service.number {
            // The run that is ended for its health; its successor will tell.
            return;
        }
        service.cure = None;
        self.count_cure(id, cured);
        if !cured {
            self.raise_uncured(id, cure.decision);
        }
        let service = self.service_mut(id);
        let of = |d: &&mut Decision| d.seq == cure.decision;
        let told = service.decisions.iter_mut().find(of).map(|decision| {
            decision.cured = Some(cured);
            decision.clone()
        });
        self.records.extend(told.map(Record::Decision));
        self.mark(id);
    }

    /// It runs, and by its new definition nobody tells whether it is well: it will never be known
    /// whether the restart cured it, and nobody waits for that.
    pub(super) fn forget_unjudged_cure(&mut self, id: ServiceId) {
        let service = self.service_mut(id);
        let number = service.number;
        let run = service.run.as_ref();
        let unjudged = run.is_some_and(|run| run.ready_at.is_some() && !run.has_judges());
        if unjudged && service.cure.is_some_and(|cure| cure.run != number) {
            service.cure = None;
            self.mark(id);
        }
    }

    pub(super) fn trouble_since(&self, id: ServiceId) -> Time {
        let service = self.service(id);
        let standing = service.standing.as_ref().map(|s| s.trouble_since);
        let failing = service.run.as_ref().and_then(|run| {
            let missed = run.told.as_ref().filter(|_| run.is_watchdog_down());
            let missed = missed.and_then(|told| told.streak.failing_since);
            run.down_since().into_iter().chain(missed).min()
        });
        failing.or(standing).unwrap_or(self.now)
    }

    pub(super) fn trouble_words(&self, id: ServiceId, cause: Cause) -> Box<str> {
        let Some(run) = self.service(id).run.as_ref() else {
            return "".into();
        };
        if cause == Cause::StartTimeout {
            let limit = spoken(run.definition.start_timeout.unwrap_or_default());
            return match self.forking_words(run) {
                Some(why) => format!("not ready within {limit}: {why}").into(),
                None => format!("not ready within {limit}").into(),
            };
        }
        if cause == Cause::Watchdog {
            let missed = run.told.as_ref().map_or("", |told| &told.missed);
            return format!("watchdog: {missed}").into();
        }
        let down = run.watched().filter(|(_, probe, watch)| {
            probe.on_unhealthy == OnUnhealthy::Restart && watch.streak.is_down(probe)
        });
        let words: Vec<String> = down
            .map(|(index, ..)| self.probe_words(id, index))
            .collect();
        let words = words.join("; ");
        match run.required_words() {
            Some(required) => format!("{required}: {words}").into(),
            None => words.into(),
        }
    }
}
