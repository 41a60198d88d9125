//! The moves of a service: what the state table says, done. Spawning, stopping, ends.
//!
//! Invariants: [`Engine::put`] is the only writer of `state`; a run is dropped only in
//! [`Engine::gone`], when nothing of it is left (or nothing ever was); a stop always has a
//! deadline.

use super::*;
use crate::config::OnUnhealthy;
use crate::service::state::{self, Act, Cause, Cue, Next, State, Wanted};

impl Engine {
    /// The only writer of state.
    pub(super) fn put(&mut self, id: ServiceId, to: State, cause: Cause, since: Time) {
        let service = self.service_mut(id);
        service.state = to;
        service.cause = cause;
        service.since = since;
        let oneshot = service.is_oneshot();
        if matches!(to, State::Inactive | State::Exited | State::Failed) {
            service.restarting = false;
            if !self.keeps_sockets(id) {
                self.unstore(id);
            }
        }
        if matches!(to, State::Inactive | State::Failed) || (to == State::Exited && !oneshot) {
            self.leave_directories(id);
        }
        self.mind_sockets(id);
        if to == State::Inactive && !self.is_present(id) {
            self.effects.push(Effect::Forget { service: id });
        }
        self.unsettled.push(id);
    }

    pub(super) fn enter(&mut self, id: ServiceId, to: State, cause: Cause, detail: Box<str>) {
        let from = self.service(id).state;
        self.put(id, to, cause, self.now);
        self.tell(
            id,
            TransitionKind::State,
            from.word(),
            to.word(),
            cause.word(),
            detail,
        );
    }

    /// The operator's will as it counts now: nothing starts without a definition or while the
    /// daemon shuts down.
    pub(super) fn will(&self, id: ServiceId) -> Wanted {
        let service = self.service(id);
        match self.shutdown.is_some() || service.definition.is_none() {
            true => Wanted::Stop,
            false => service.wanted,
        }
    }

    pub(super) fn cue(&mut self, id: ServiceId, cue: Cue, cause: Cause, detail: Box<str>) {
        let cue = match cue {
            Cue::Stop if self.is_undoable(id) => Cue::Undo,
            cue => cue,
        };
        match state::next(self.will(id), self.service(id).state, cue) {
            // Somebody's word: it is not waited for what it is stuck on.
            Act::Stay if cue == Cue::Stop => {
                self.cut_evidence(id);
                self.cut_repair(id);
            }
            Act::Stay => {}
            Act::Rest(to) => {
                let key = self.service_key(id, Key::lifecycle);
                self.timers.cancel(key);
                if to == State::Running {
                    self.begin_running(id, cause);
                } else {
                    self.enter(id, to, cause, detail);
                }
            }
            Act::Launch => {
                let came = cause == Cause::Connection;
                self.launch(id, cause, if came { &detail } else { "" });
            }
            Act::End => self.end(id, cause, detail),
            Act::Sweep => self.sweep(id),
            Act::Wait => self.wait(id, cause, detail),
            Act::Undo => self.undo(id, cause, detail),
        }
    }

    /// Start it if it may be, block it if it must wait.
    pub(super) fn start(&mut self, id: ServiceId, cause: Cause) {
        if let Some(words) = self.obstacle_of_definition(id) {
            let words: Box<str> = format!("definition: {words}").into();
            let service = self.service(id);
            if service.state == State::Failed && service.trouble == words {
                return;
            }
            self.service_mut(id).trouble = words.clone();
            self.cue(id, Cue::Broken, Cause::Config, words);
            return;
        }
        if self.starts_when_due(id, cause) {
            return;
        }
        if self.starts_later(id, cause) {
            return self.await_connection(id, cause);
        }
        let free = self.is_free(id);
        let detail = if free {
            "".into()
        } else {
            self.waits_for(id, None)
        };
        let blocked = self.service(id).state == State::Blocked;
        if free || !blocked {
            self.cue(id, Cue::Start { free }, cause, detail);
        } else if cause == Cause::Operator && self.service(id).cause != cause {
            // It waits on, by the operator's word now.
            self.put(id, State::Blocked, cause, self.service(id).since);
            self.mark(id);
        }
    }

    /// It rests: what was made for its last run goes, unless it is to stay for ever.
    fn leave_directories(&mut self, id: ServiceId) {
        let service = self.service(id);
        let definition = service.definition.as_ref().filter(|_| service.number > 0);
        if let Some(definition) = definition.cloned()
            && definition.process.directories.are_passing()
        {
            self.effects.push(Effect::RemoveDirectories {
                runtime: true,
                service: id,
                definition,
            });
        }
    }

    pub(super) fn lifecycle_due(&mut self, id: ServiceId) {
        if self.hook_due(id) {
            return;
        }
        let state = self.service(id).state;
        match state {
            State::Starting if self.waits_to_spawn(id) => {
                // The spawn that failed for our own want of something.
                if self.is_held(id) {
                    return;
                }
                self.spawn_again(id, self.service(id).cause);
            }
            State::Starting => self.start_limit_passed(id),
            State::Stopping if self.stop_waits_no_more(id) => self.begin_stop(id),
            State::Stopping if self.evidence_overdue(id) => {}
            State::Stopping => self.escalate(id),
            State::Backoff => self.backoff_over(id),
            State::Inactive => self.listen_due(id),
            State::Blocked | State::Running | State::Exited | State::Failed => {}
        }
    }

    /// The spawn that waits to be tried again; it waits on for what has gone meanwhile.
    pub(super) fn spawn_again(&mut self, id: ServiceId, cause: Cause) {
        let free = self.is_free(id);
        let detail = match free {
            true => "".into(),
            false => self.waits_for(id, None),
        };
        self.cue(id, Cue::Gone(Next::Start { free }), cause, detail);
    }

    /// Observing probes of this service, for a reader: would have restarted it.
    pub(super) fn is_observing(&self, id: ServiceId, probe: u16) -> bool {
        self.service(id).run.as_ref().is_some_and(|run| {
            run.definition
                .probes
                .get(usize::from(probe))
                .is_some_and(|p| p.on_unhealthy == OnUnhealthy::Observe)
        })
    }
}
