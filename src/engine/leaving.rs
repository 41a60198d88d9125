//! Services whose definitions are gone: stopped, who needs them first.
//!
//! Invariants: what the operator wanted is remembered; the wait of each ends, because every stop
//! does, or is given up as unkillable.

use super::*;
use crate::service::state::{Cause, Cue, State};

const REMOVED: &str = "its definition was removed";

impl Engine {
    /// Their files are gone, all at once. Whoever needs another one of them is stopped before it.
    /// Before the graph is made anew.
    pub(super) fn remove_all(&mut self, gone: Vec<ServiceId>) {
        for id in &gone {
            let waits: Vec<ServiceId> = self
                .graph
                .needed_by(*id)
                .iter()
                .map(|(who, _)| *who)
                .filter(|who| who != id && gone.contains(who) && self.service(*who).state.is_live())
                .collect();
            if waits.is_empty() || !self.service(*id).state.is_live() {
                self.remove(*id);
                continue;
            }
            let service = self.service_mut(*id);
            service.definition = None;
            service.problem = None;
            self.leaving.push((*id, waits));
            self.mark(*id);
        }
    }

    /// The definition is gone: the service is stopped, what the operator wanted is remembered.
    pub(super) fn remove(&mut self, id: ServiceId) {
        // As long as it is known who they are.
        self.take_down(id);
        // By the definition that it had.
        self.cue_undo(id, Cause::Config, REMOVED);
        let service = self.service_mut(id);
        service.definition = None;
        service.problem = None;
        if service.state == State::Inactive {
            self.effects.push(Effect::Forget { service: id });
        }
        self.leave(id);
    }

    fn leave(&mut self, id: ServiceId) {
        self.leaving.retain(|(who, _)| *who != id);
        self.cue(id, Cue::Stop, Cause::Config, REMOVED.into());
        self.mind_sockets(id);
        self.mind_schedule(id);
        self.mark(id);
    }

    /// Those for whom they wait are gone: their turn.
    pub(super) fn leaving_goes_on(&mut self) {
        while !self.leaving.is_empty() {
            let holds_up = |who: &ServiceId| self.holds_up(*who);
            let free = |(_, waits): &&(ServiceId, Vec<ServiceId>)| !waits.iter().any(holds_up);
            let next = self.leaving.iter().find(free).map(|(id, _)| *id);
            // They need each other.
            let stopping = |id: &ServiceId| self.service(*id).state == State::Stopping;
            let stuck = || {
                let waits = self.leaving.iter().flat_map(|(_, waits)| waits);
                let moves = waits.clone().any(|who| stopping(who) || !self.leaves(*who));
                self.leaving.first().filter(|_| !moves).map(|(id, _)| *id)
            };
            match next.or_else(stuck) {
                Some(id) => self.leave(id),
                None => return,
            }
        }
    }

    /// It is to be stopped when others are.
    pub(super) fn leaves(&self, id: ServiceId) -> bool {
        self.leaving.iter().any(|(who, _)| *who == id)
    }

    /// For the journal: who is to be gone before it.
    pub(super) fn leaves_after(&self, id: ServiceId) -> Vec<Box<str>> {
        let of = |(who, waits): &(ServiceId, Vec<ServiceId>)| (*who == id).then(|| waits.clone());
        let waits = self.leaving.iter().find_map(of).unwrap_or_default();
        waits
            .iter()
            .map(|who| (&*self.service(*who).name).into())
            .collect()
    }

    /// It was leaving when the daemon before this one died.
    pub(super) fn leaves_still(&mut self, id: ServiceId, after: &[Box<str>]) {
        let service = self.service(id);
        if after.is_empty() || self.is_present(id) || !service.state.is_live() {
            return;
        }
        if service.state != State::Stopping {
            let waits = after.iter().filter_map(|name| self.find(name)).collect();
            self.leaving.push((id, waits));
        }
    }
}
