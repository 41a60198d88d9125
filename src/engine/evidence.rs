//! The first phase of a stop for a service's health: what it is stuck on is looked at before the
//! first signal ends it, and then it, or a command, is asked to tell more (`diagnose`).
//!
//! Not here: what is collected (`reactor`), and what becomes of the dossier (the scribe).
//!
//! Invariants: the stop signal waits for this until a deadline that is journalled, and no longer,
//! whatever becomes of the helper or the daemon; an operator's word, a shutdown and the process's
//! own end are the end of the phase; from then on the stop has all the time it has anyway.

use super::snapshot::DossierRecord;
use super::table::Evidence;
use super::*;
use crate::service::hook::Purpose;
use crate::service::state::{Cause, State};

impl Engine {
    /// What a stop for this cause begins with, and until when; None: with itself.
    pub(super) fn evidence_due_for(&self, id: ServiceId, cause: Cause) -> Option<(Evidence, Time)> {
        let stuck = match cause {
            Cause::Unhealthy | Cause::StartTimeout | Cause::Watchdog => true,
            Cause::Operator
            | Cause::Exit
            | Cause::Dependency
            | Cause::Config
            | Cause::Memory
            | Cause::Boot
            | Cause::Timer
            | Cause::Connection => false,
        };
        let run = self.service(id).run.as_ref()?;
        // A command of it has the stage, or what is to be looked at is not known.
        let quiet = run.hooks.live.is_none() && run.executed && run.seek.is_none();
        if !stuck || !quiet || run.exit.is_some() {
            return None;
        }
        run.main()?;
        let hooks = &run.definition.hooks;
        let timeout = hooks.dossier_timeout();
        match (timeout.is_zero(), hooks.diagnoses()) {
            (false, _) => Some((Evidence::Collect, self.now + timeout)),
            (true, true) => Some((Evidence::Diagnose, self.now + hooks.diagnose_timeout())),
            (true, false) => None,
        }
    }

    /// The phase that the stop of it is in.
    pub(super) fn evidence(&self, id: ServiceId) -> Option<Evidence> {
        let run = self.service(id).run.as_ref()?;
        run.stop.as_ref()?.evidence
    }

    /// The command of it that is under way, or the phase.
    pub(super) fn phase_word(&self, id: ServiceId) -> Option<&'static str> {
        let phase = self.phase(id).map(Purpose::word);
        phase.or(self.evidence(id).map(|phase| match phase {
            Evidence::Collect => "evidence",
            Evidence::Diagnose => "diagnose",
        }))
    }

    pub(super) fn begin_evidence(&mut self, id: ServiceId, cause: Cause, reason: Box<str>) {
        match self.evidence(id) {
            Some(Evidence::Collect) => self.collect(id, cause, reason),
            Some(Evidence::Diagnose) => self.diagnose(id),
            None => {}
        }
    }

    fn collect(&mut self, id: ServiceId, cause: Cause, reason: Box<str>) {
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        let (Some(stop), Some(pid)) = (run.stop.as_ref(), run.main()) else {
            return;
        };
        let timeout = stop.deadline.since(self.now);
        let effect = Effect::CollectEvidence {
            run: run.id,
            pid,
            definition: run.definition.clone(),
            cause,
            reason,
            timeout,
        };
        self.effects.push(effect);
    }

    /// The daemon before this one died while it was collected, and its helper with it: once more,
    /// with the time that is left.
    pub(super) fn collect_again(&mut self, id: ServiceId) {
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        let stop = run.stop.as_ref();
        let due = stop.filter(|stop| stop.evidence == Some(Evidence::Collect));
        if let Some(cause) = due.filter(|s| s.deadline > self.now).map(|stop| stop.cause) {
            let told = self.service(id).transitions.iter().rev();
            let mut told = told.filter(|t| t.to.0 == State::Stopping.word());
            let reason = told.next().map_or("".into(), |t| t.detail.clone());
            self.collect(id, cause, reason);
        }
    }

    pub(super) fn evidence_done(&mut self, run: RunId, dossier: Option<Box<Gathered>>) {
        let known = self.services.get(run.service.index());
        // Of a run that is over by now it is worth as much.
        if known.is_none_or(|service| service.number < run.number || run.number == 0) {
            self.stale += 1;
            return;
        }
        let id = run.service;
        if let Some(gathered) = dossier {
            let Gathered { id: key, summary } = *gathered;
            let last = self.service(id).dossier.as_ref();
            if last.is_some_and(|last| last.id == key) {
                self.stale += 1;
                return;
            }
            let words = format!("{key}: {summary}").into();
            let at = self.now;
            self.service_mut(id).dossier = Some(Box::new(DossierRecord {
                id: key,
                run: run.number,
                at,
                summary,
            }));
            self.tell(id, TransitionKind::Dossier, "", "collected", "", words);
        }
        let present = self.service(id).run.as_ref().is_some_and(|r| r.id == run);
        if present && self.evidence(id) == Some(Evidence::Collect) {
            self.collected(id);
        }
    }

    /// The helper is done, or its time is up: what is to tell more has its turn, then the stop.
    fn collected(&mut self, id: ServiceId) {
        let now = self.now;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let hooks = &run.definition.hooks;
        if !hooks.diagnoses() {
            self.cut_evidence(id);
            return;
        }
        let until = now + hooks.diagnose_timeout();
        if let Some(stop) = run.stop.as_mut() {
            (stop.evidence, stop.deadline) = (Some(Evidence::Diagnose), until);
        }
        self.diagnose(id);
    }

    fn diagnose(&mut self, id: ServiceId) {
        let key = self.service_key(id, Key::lifecycle);
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        let Some(until) = run.stop.as_ref().map(|stop| stop.deadline) else {
            return;
        };
        let hook = self.next_hook(id, Purpose::Diagnose);
        match (run.definition.hooks.diagnose_signal, run.main(), hook) {
            (Some(signal), Some(pid), _) => {
                let run = run.id;
                self.timers.set(key, until);
                self.mark(id);
                self.effects.push(Effect::Signal {
                    run,
                    pid,
                    signal,
                    group: false,
                });
            }
            (_, _, Some(hook)) => self.begin_hook(id, hook, until),
            (_, _, None) => self.cut_evidence(id),
        }
    }

    /// The command is over, whatever it said: the stop goes on.
    pub(super) fn diagnose_ended(&mut self, id: ServiceId, failure: Option<Box<str>>) {
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        if run.exit.is_some() {
            return self.clear_up(id);
        }
        if failure.is_some() {
            let (word, cause) = (State::Stopping.word(), self.service(id).cause.word());
            let words = failure.unwrap_or_default();
            self.tell(id, TransitionKind::State, word, word, cause, words);
        }
        if !self.end_evidence(id) {
            // Its time was up before: the stop has had its deadline since.
            let key = self.service_key(id, Key::lifecycle);
            let deadline = self.stop_mut(id).map(|stop| stop.deadline);
            self.timers.set(key, deadline.unwrap_or(self.now));
        }
        self.begin_stop(id);
    }

    /// The lifecycle timer was this phase's.
    pub(super) fn evidence_overdue(&mut self, id: ServiceId) -> bool {
        match self.evidence(id) {
            Some(Evidence::Collect) => {
                let diagnoses = |run: &table::Run| run.definition.hooks.diagnoses();
                if self.service(id).run.as_ref().is_some_and(|r| diagnoses(r)) {
                    self.evidence_over(id, true);
                }
                self.collected(id);
                true
            }
            Some(Evidence::Diagnose) => {
                self.cut_evidence(id);
                true
            }
            None => false,
        }
    }

    /// The stop itself begins, now.
    pub(super) fn cut_evidence(&mut self, id: ServiceId) {
        if self.end_evidence(id) {
            self.begin_stop(id);
        }
    }

    /// True: it was in this phase, and has its whole time to stop from now on.
    pub(super) fn end_evidence(&mut self, id: ServiceId) -> bool {
        let waited = self.stop_has_whole_time(id, |stop| stop.evidence.take().is_some());
        if waited {
            self.evidence_over(id, false);
        }
        waited
    }

    fn evidence_over(&mut self, id: ServiceId, more: bool) {
        if let Some(run) = self.service(id).run.as_ref().map(|run| run.id) {
            self.effects.push(Effect::EvidenceOver { run, more });
        }
    }
}
