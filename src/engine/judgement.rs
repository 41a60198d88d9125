//! The gate asked, and its word kept: decisions, deferrals, recovery, cures.
//!
//! Invariants: every evaluation is a decision that is kept; a deferral has a timer or waits for
//! a named change; nothing is spent but by an `Allowed`.

use super::table::{Cure, Standing};
use super::*;
use crate::config::{OnExhausted, OnUnhealthy};
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
        let inputs = Inputs {
            now: self.now,
            wanted,
            once: service.once,
            restart: definition.restart,
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
            storm: Storm::Token,
        };
        let ruling = gate::judge(&inputs);
        let trouble = self.trouble_words(id, cause);
        match ruling {
            Ruling::Allowed { attempt } => self.allow(id, cause, attempt, trouble),
            Ruling::Absorbed { reason } => {
                let words = format!("{reason} ({trouble})").into();
                self.decide(id, cause, Verdict::Absorbed, words, attempts, None);
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
        let used = std::mem::replace(&mut self.service_mut(id).attempts, attempt);
        self.decide(id, cause, Verdict::Allowed, trouble.clone(), used, None);
        let service = self.service_mut(id);
        service.cure = service.decisions.back().map(|d| Cure {
            decision: d.seq,
            run: d.run,
        });
        service.standing = None;
        self.cue(id, Cue::Cycle, cause, trouble);
    }

    /// Deferred or denied: that stands until it is asked again, or has lost its object.
    fn keep_waiting(&mut self, id: ServiceId, standing: Standing, trouble: Box<str>) {
        let (verdict, reason, until) = match &standing.ruling {
            Ruling::Deferred { reason, until } => (Verdict::Deferred, reason, *until),
            Ruling::Denied { reason } => (Verdict::Denied, reason, None),
            Ruling::Allowed { .. } | Ruling::Absorbed { .. } => return,
        };
        let words = format!("{reason} ({trouble})").into();
        let exhausted = matches!((verdict, reason), (Verdict::Denied, Reason::Budget(_)));
        let (cause, attempts) = (standing.cause, self.service(id).attempts);
        self.service_mut(id).standing = Some(standing);
        self.decide(id, cause, verdict, words, attempts, until);
        let key = self.service_key(id, Key::gate);
        match until {
            Some(until) => self.timers.set(key, until),
            None => self.timers.cancel(key),
        }
        if exhausted {
            self.exhausted(id, cause, trouble);
        }
    }

    /// A run that does not work has no attempt left: left as it is, or stopped for good.
    fn exhausted(&mut self, id: ServiceId, cause: Cause, trouble: Box<str>) {
        self.tell_exhausted(id, &trouble);
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
        if run.down().next().is_some() {
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
            Some(Ruling::Allowed { .. } | Ruling::Denied { .. } | Ruling::Absorbed { .. }) => {
                self.service_mut(id).standing = None;
            }
            None => {}
        }
    }

    /// What stood, if anything did, has lost its object, for the reason in `words`.
    pub(super) fn cancel_standing(&mut self, id: ServiceId, words: &str) -> bool {
        let Some(standing) = self.service_mut(id).standing.take() else {
            return false;
        };
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
        run.overdue = true;
        self.consider(id, Cause::StartTimeout);
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
        let of = |d: &&mut Decision| d.seq == cure.decision;
        let told = service.decisions.iter_mut().find(of).map(|decision| {
            decision.cured = Some(cured);
            decision.clone()
        });
        self.records.extend(told.map(Record::Decision));
        self.mark(id);
    }

    fn trouble_since(&self, id: ServiceId) -> Time {
        let service = self.service(id);
        let standing = service.standing.as_ref().map(|s| s.trouble_since);
        let failing = service.run.as_ref().and_then(|run| {
            let missed = run.told.as_ref().filter(|_| run.is_watchdog_down());
            let missed = missed.and_then(|told| told.streak.failing_since);
            let failing = run.down().filter_map(|(_, w)| w.streak.failing_since);
            failing.chain(missed).min()
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
        words.join("; ").into()
    }

    // --- condition 4: what it requires is asked before it is judged

    /// How the requirements are doing, and whom to ask now, until when.
    fn requirement(&self, id: ServiceId, since: Time) -> (Vec<(ServiceId, Time)>, Need) {
        if let Some(name) = self.missing(id) {
            // Stopped, it could not be started again.
            return (Vec::new(), Need::Unwell(name));
        }
        let standing = self.service(id).standing.as_ref();
        for other in self.required(id) {
            let service = self.service(other);
            let name = service.name.clone();
            // Nobody can ask what outlived its definition how it is.
            let orphan = service.run.is_some() && service.definition.is_none();
            if orphan || !service.is_satisfied() {
                return (Vec::new(), Need::Unwell(name));
            }
            let Some(run) = service.run.as_ref() else {
                continue;
            };
            let stale = |since| {
                move |(_, probe, watch): (u16, &crate::config::Probe, &table::Watch)| {
                    probe.on_unhealthy == OnUnhealthy::Restart
                        && watch
                            .streak
                            .last_pass_begun
                            .is_none_or(|begun| begun < since)
                }
            };
            if !run.watched().any(stale(since)) {
                continue;
            }
            let asked = standing.is_some_and(|s| s.waits_for(&name));
            match (asked, service.asked_until) {
                (true, Some(until)) if until <= self.now => {
                    return (Vec::new(), Need::Unwell(name));
                }
                (true, Some(until)) => return (vec![(other, until)], Need::Asking(name, until)),
                (_, _) => {
                    let bound = run
                        .definition
                        .probes
                        .iter()
                        .map(|p| p.timeout.saturating_mul(p.failure_threshold));
                    let until = self.now + bound.max().unwrap_or_default();
                    return (vec![(other, until)], Need::Asking(name, until));
                }
            }
        }
        (Vec::new(), Need::Satisfied)
    }

    /// What it requires and does not exist.
    fn missing(&self, id: ServiceId) -> Option<Rc<str>> {
        if !self.held_back.contains_key(&id) {
            return None;
        }
        let requires = &self.service(id).definition.as_ref()?.requires;
        let is_there = |name: &str| self.find(name).is_some_and(|id| self.is_present(id));
        let missing = requires.iter().find(|name| !is_there(name))?;
        Some((&**missing).into())
    }

    fn ask_now(&mut self, id: ServiceId, until: Time) {
        if self.service(id).asked_until.is_none_or(|u| u < until) {
            self.service_mut(id).asked_until = Some(until);
        }
        let count = self
            .service(id)
            .run
            .as_ref()
            .map_or(0, |run| run.probes.len());
        for probe in 0..count as u16 {
            self.check_due(id, probe);
        }
    }

    /// A service that is being asked has answered: those who wait for it are judged again.
    pub(super) fn asked_answered(&mut self, id: ServiceId) {
        let name = self.service(id).name.clone();
        let waiting: Vec<ServiceId> = self
            .graph
            .needed_by(id)
            .iter()
            .map(|(who, _)| *who)
            .filter(|who| {
                self.service(*who)
                    .standing
                    .as_ref()
                    .is_some_and(|s| s.waits_for(&name))
            })
            .collect();
        if waiting.is_empty() {
            self.service_mut(id).asked_until = None;
        }
        for who in waiting {
            let since = self.trouble_since(who);
            let asking = self
                .service(who)
                .standing
                .as_ref()
                .is_some_and(Standing::is_asking);
            // Only news is worth a decision: that it is well, or that it is not.
            match (self.requirement(who, since).1, asking) {
                (Need::Asking(..), _) | (Need::Unwell(_), false) => {}
                (Need::Satisfied | Need::Unwell(_), true) => self.reconsider(who),
                (Need::Satisfied, false) => self.judge_afresh(who, &name),
            }
        }
    }

    /// What a dependent waits for is well again: its failures are forgotten, it is judged afresh.
    pub(super) fn judge_afresh(&mut self, id: ServiceId, recovered: &str) {
        let (now, late) = (self.now, self.lateness.total);
        if !self.cancel_standing(id, &format!("{recovered} recovered: judged afresh")) {
            return;
        }
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        for watch in run.probes.iter_mut() {
            watch.streak.forget_failures();
        }
        let missed = run.is_watchdog_down();
        if let Some(told) = run.told.as_mut() {
            told.streak.forget_failures();
        }
        let overdue = std::mem::take(&mut run.overdue);
        if overdue {
            // It could not get ready without: it has its whole start limit again.
            run.begin_start_limit(now, late);
            self.set_start_limit(id);
        }
        if missed {
            self.arm_watchdog(id);
        }
        let words = |_: &Engine| format!("{recovered} recovered").into();
        self.retell_health(id, words);
    }
}

/// [`Requirement`], owning its name.
enum Need {
    Satisfied,
    Asking(Rc<str>, Time),
    Unwell(Rc<str>),
}
