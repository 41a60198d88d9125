//! The listening sockets that are held for a service: opened before each run, held between them,
//! watched while the service rests until somebody comes.
//!
//! Every launch asks for them first ([`Effect::Listen`]); what is open already stays open, so
//! that who connects during a restart waits in the backlog and is not refused. A service with
//! `start_on = "connection"` rests as `inactive (listening)` and is started by the first that comes.
//! When it ends cleanly it listens again; if then somebody waits whom it has not served, that is
//! an end like any other that is to be made good: an attempt is spent, and the delay is waited for,
//! so that one that never accepts is not started without end.
//!
//! Not here: how a socket is opened, and what of the dead is in its way (the reactor's `sockets`).
//!
//! Invariants: nothing is watched but what is inactive and wanted; what is stopped, failed or done
//! has no open socket; nothing is spawned whose sockets are not open.

use super::table::Sockets;
use super::*;
use crate::config::{Definition, Restart};
use crate::exit::Exit;
use crate::service::state::{Cause, Cue, Next, State, Wanted};

impl Engine {
    /// It rests, and whoever connects to it starts it.
    pub fn is_listening(&self, id: ServiceId) -> bool {
        let service = self.service(id);
        let asked = matches!(
            service.sockets,
            Sockets::Wanted | Sockets::Again | Sockets::Watched
        );
        service.state == State::Inactive && asked && self.will(id) == Wanted::Start
    }

    /// Its sockets are to stay open if they are.
    pub fn keeps_sockets(&self, id: ServiceId) -> bool {
        match self.service(id).state {
            State::Inactive => self.is_listening(id),
            State::Exited | State::Failed => false,
            State::Blocked
            | State::Starting
            | State::Running
            | State::Stopping
            | State::Backoff => true,
        }
    }

    /// Closes them where it is not started again by itself; watches them no longer where it waits
    /// for something else.
    pub(super) fn mind_sockets(&mut self, id: ServiceId) {
        let service = self.service(id);
        let watched = matches!(
            service.sockets,
            Sockets::Wanted | Sockets::Watched | Sockets::Outdated
        );
        let (state, definition) = (service.state, service.definition.clone());
        match (self.keeps_sockets(id), definition) {
            (true, Some(definition)) if watched && state != State::Inactive => {
                self.service_mut(id).sockets = Sockets::Open;
                self.listen(id, definition, false);
            }
            // Who requires it can no longer rely on its being there to be started.
            (false, _) => self.closes_sockets(id),
            (true, _) => {}
        }
    }

    /// It rests, and nobody who connects is to start it.
    pub(super) fn closes_sockets(&mut self, id: ServiceId) {
        if self.service(id).sockets != Sockets::Closed {
            self.service_mut(id).sockets = Sockets::Closed;
            self.effects.push(Effect::Unlisten { service: id });
            self.unsettled.push(id);
        }
    }

    fn listen(&mut self, id: ServiceId, definition: Rc<Definition>, watch: bool) {
        self.effects.push(Effect::Listen {
            service: id,
            definition,
            watch,
        });
    }

    // --- before a run

    /// A run is to begin, for which sockets must be opened first: the launch goes on with the answer.
    pub(super) fn asks_for_sockets(&mut self, id: ServiceId, cause: Cause, detail: &str) -> bool {
        let service = self.service(id);
        let Some(definition) = service.definition.clone() else {
            return false;
        };
        if definition.sockets().is_empty() {
            if service.sockets != Sockets::Closed {
                // There were some.
                self.service_mut(id).sockets = Sockets::Closed;
                self.effects.push(Effect::Unlisten { service: id });
            }
            return false;
        }
        let waits = self.waits_to_spawn(id);
        let key = self.service_key(id, Key::lifecycle);
        self.timers.cancel(key);
        let service = self.service_mut(id);
        let asked = std::mem::replace(&mut service.sockets, Sockets::Asked);
        if asked != Sockets::Asked || !waits {
            // Of the run that is to begin.
            service.number = service.number.saturating_add(1);
        }
        match waits {
            true => self.put(id, State::Starting, cause, self.now),
            false => self.enter(id, State::Starting, cause, detail.into()),
        }
        self.mark(id);
        self.listen(id, definition, false);
        true
    }

    // --- instead of a run

    /// It is started by a connection and not by this.
    pub(super) fn starts_later(&self, id: ServiceId, cause: Cause) -> bool {
        let service = self.service(id);
        let by_connection = service
            .definition
            .as_ref()
            .is_some_and(|d| d.starts_on_connection());
        by_connection && matches!(cause, Cause::Boot | Cause::Config)
    }

    /// Of a daemon that returns: who listened is there again before it is seen who lacks it.
    pub(super) fn listen_first(&mut self, adopted: &[(ServiceId, bool)]) {
        for (id, _) in adopted.iter().copied() {
            let rests = self.service(id).state == State::Inactive;
            let wanted = self.service(id).wanted == Wanted::Start && self.is_present(id);
            if rests && wanted && !self.is_left_out(id) && self.starts_later(id, Cause::Boot) {
                self.start(id, Cause::Boot);
            }
        }
    }

    pub(super) fn await_connection(&mut self, id: ServiceId, cause: Cause) {
        let Some(definition) = self.service(id).definition.clone() else {
            return;
        };
        if self.is_listening(id) || self.will(id) == Wanted::Stop {
            return;
        }
        let rests = self.service(id).state == State::Inactive;
        if !rests {
            // Before it rests: what is open stays so.
            self.service_mut(id).sockets = Sockets::Again;
            let detail = format!("listening on {}", places(&definition)).into();
            self.cue(id, Cue::Listen, cause, detail);
        }
        self.watch_sockets(id, Sockets::Wanted);
    }

    /// It has come to rest: watches its sockets, unless it is not to be started after all.
    fn watch_sockets(&mut self, id: ServiceId, how: Sockets) {
        let service = self.service(id);
        let (state, definition) = (service.state, service.definition.clone());
        let (Some(definition), State::Inactive) = (definition, state) else {
            return;
        };
        if self.will(id) == Wanted::Start {
            self.service_mut(id).sockets = how;
            self.mark(id);
            self.listen(id, definition, true);
        }
    }

    /// It has rested by [`Next::Listen`]; `taken_down`: with what it requires, not by an own end.
    pub(super) fn listen_again(&mut self, id: ServiceId, taken_down: bool) {
        let how = match taken_down {
            true => Sockets::Wanted,
            false => Sockets::Again,
        };
        self.watch_sockets(id, how);
        self.mind_sockets(id);
    }

    // --- what came of it

    /// The answer to `Listen`, or what of a living run's was had back. `waits`: somebody does.
    pub(super) fn listening(&mut self, id: ServiceId, waits: bool, error: Option<&SpawnError>) {
        let Some(service) = self.services.get_mut(id.index()) else {
            return;
        };
        let asked = service.sockets;
        service.sockets = match error {
            None => Sockets::Open,
            Some(_) => Sockets::Partly,
        };
        let (state, runs) = (service.state, service.run.is_some());
        match (state, asked) {
            (State::Starting, Sockets::Asked) if !runs => match error {
                None => self.sockets_are_open(id),
                Some(error) => self.cannot_listen(id, error),
            },
            (State::Inactive, Sockets::Wanted | Sockets::Again | Sockets::Watched)
                if self.will(id) == Wanted::Start =>
            {
                match error {
                    None if waits && asked == Sockets::Again => self.unserved(id),
                    None => {
                        if asked == Sockets::Again {
                            // It has served all there was.
                            self.refund(id);
                        }
                        let service = self.service_mut(id);
                        service.sockets = Sockets::Watched;
                        (service.respawns, service.trouble) = (0, "".into());
                        self.unsettled.push(id);
                    }
                    Some(error) => self.cannot_listen(id, error),
                }
            }
            _ => {}
        }
        self.mark(id);
        self.mind_sockets(id);
    }

    fn sockets_are_open(&mut self, id: ServiceId) {
        let cause = self.service(id).cause;
        self.service_mut(id).respawns = 0;
        if self.is_held(id) {
            // The release asks again.
            return;
        }
        match self.is_free(id) {
            true if self.will(id) == Wanted::Start => self.begin_run(id, cause, true),
            _ => self.spawn_again(id, cause),
        }
    }

    fn cannot_listen(&mut self, id: ServiceId, error: &SpawnError) {
        let words: Box<str> = error.to_string().into();
        let service = self.service_mut(id);
        let (state, cause) = (service.state, service.cause);
        service.trouble = words.clone();
        if error.ours {
            let wait = limits::RESPAWN_OURS * 2u32.saturating_pow(service.respawns.min(10));
            service.respawns = service.respawns.saturating_add(1);
            let rests = state == State::Inactive;
            if rests {
                service.sockets = Sockets::Wanted;
            }
            let key = self.service_key(id, Key::lifecycle);
            self.timers
                .set(key, self.now + wait.min(limits::RESPAWN_OURS_MAX));
            if rests {
                return;
            }
            let word = state.word();
            return self.tell(id, TransitionKind::State, word, word, "supervisor", words);
        }
        if state == State::Inactive {
            return self.cue(id, Cue::Broken, Cause::Config, words);
        }
        if !cause.is_automatic() {
            // By its definition, or the host's: looked at again when that is read anew.
            return self.cue(id, Cue::Gone(Next::Failed), Cause::Config, words);
        }
        let definition = self.definition_of(id);
        let never_ran = (self.now, false);
        let own = (Cause::Exit, Exit::Unknown);
        let next = match self.judge_own_end(id, &definition, own, never_ran, &words) {
            // No process takes its time here: without a delay this turn would never end.
            Next::Start { .. } => {
                self.service_mut(id).backoff_until = Some(self.now + limits::RESPAWN_OURS);
                Next::Wait
            }
            next => next,
        };
        self.cue(id, Cue::Gone(next), Cause::Exit, words);
    }

    /// The lifecycle timer of one that rests: opening them is tried again.
    pub(super) fn listen_due(&mut self, id: ServiceId) {
        if self.is_listening(id) {
            self.watch_sockets(id, Sockets::Wanted);
        }
    }

    /// It has ended well, and left somebody waiting.
    fn unserved(&mut self, id: ServiceId) {
        let words = "a connection waits that it has not accepted before it ended";
        let mut definition = (*self.definition_of(id)).clone();
        // Not a matter of whether a failure is followed by a start: that somebody came is.
        definition.restart = Restart::Always;
        definition.kind = crate::config::Kind::Process;
        let never_ran = (self.now, false);
        let next = self.judge_own_end(
            id,
            &definition,
            (Cause::Exit, Exit::Unknown),
            never_ran,
            words,
        );
        self.service_mut(id).restarting = true;
        self.cue(id, Cue::Unserved(next), Cause::Exit, words.into());
    }

    /// Somebody has come, to the socket of that number.
    pub(super) fn connected(&mut self, id: ServiceId, socket: u16) {
        let watched = |s: &table::Service| s.sockets == Sockets::Watched;
        let watched = self.services.get(id.index()).is_some_and(watched);
        if !watched || !self.is_listening(id) {
            return;
        }
        let service = self.service_mut(id);
        service.sockets = Sockets::Open;
        let definition = service.definition.as_ref();
        let place = definition.and_then(|d| d.sockets().get(usize::from(socket)));
        let came = place.map_or(String::new(), |place| format!("to {}", place.listen));
        let free = self.is_free(id);
        let detail = match free {
            true => came.into(),
            false => self.waits_for(id, None),
        };
        // Either way it rests no longer.
        self.cue(id, Cue::Start { free }, Cause::Connection, detail);
    }

    /// A definition changed: who listens does so as it is now.
    pub(super) fn relisten(&mut self, id: ServiceId, old: &Definition, new: &Definition) {
        if self.is_listening(id) && old.sockets() != new.sockets() {
            self.service_mut(id).sockets = Sockets::Outdated;
        }
    }
}

/// `tcp:127.0.0.1:8080 and unix:/run/web.sock`
pub(super) fn places(definition: &Definition) -> String {
    let all: Vec<&str> = definition.sockets().iter().map(|s| &*s.listen).collect();
    all.join(" and ")
}
