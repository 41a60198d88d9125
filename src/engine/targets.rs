//! Targets: groups without a process. One is `running` while all that it requires is satisfied,
//! and `blocked` while something is not.
//!
//! An operator's `start`, `stop` and `restart` of a target are those of its members: all that it
//! requires or wants, through targets within it. What somebody outside needs is left running, and
//! the answer says so.
//!
//! Invariant: a target has no run; its state alone says whether it is satisfied, so that a chain
//! of targets is looked at link by link.

use super::operator::Actor;
use super::*;
use crate::graph::Edge;
use crate::service::health::Health;
use crate::service::state::{Cause, Cue, State, Wanted};
use std::collections::BTreeSet;

impl Engine {
    /// All that it requires is there.
    pub(super) fn reach(&mut self, id: ServiceId, cause: Cause) {
        let service = self.service_mut(id);
        service.number = service.number.saturating_add(1);
        service.trouble = "".into();
        self.enter(id, State::Running, cause, "all it requires is there".into());
    }

    /// Something that a target requires has gone, perhaps.
    pub(super) fn mind_target(&mut self, id: ServiceId) {
        let service = self.service(id);
        if service.state != State::Running || !service.is_target() {
            return;
        }
        let lacks = |&(other, edge): &(ServiceId, Edge)| {
            if self.is_listening(other) {
                return false;
            }
            let other = self.service(other);
            // That we cannot ask it is no fault of its.
            let unknown = other.health() == Some(Health::Unknown);
            let doubtful = other.state == State::Running && unknown;
            edge == Edge::Requires && !other.is_satisfied() && !doubtful
        };
        let lacks = self.graph.needs(id).iter().any(lacks);
        if lacks || self.held_back.contains_key(&id) {
            let cause = service.cause;
            let detail = self.waits_for(id, None);
            self.cue(id, Cue::Unmet, cause, detail);
        }
    }

    /// Those whom an operator's word on it is for as well; of what is no target, nobody.
    pub(super) fn members(&self, id: ServiceId) -> Vec<ServiceId> {
        let mut seen = BTreeSet::from([id]);
        let mut all = vec![id];
        let mut at = 0;
        while let Some(&of) = all.get(at) {
            at += 1;
            if !self.service(of).is_target() {
                continue;
            }
            for &(other, edge) in self.graph.needs(of) {
                if matches!(edge, Edge::Requires | Edge::Wants) && seen.insert(other) {
                    all.push(other);
                }
            }
        }
        all.remove(0);
        all
    }

    /// Stops its members, but for those whom others need; what is told of that.
    pub(super) fn stop_members(&mut self, id: ServiceId, for_good: bool, actor: &Actor) -> String {
        let mut leaving = self.members(id);
        leaving.push(id);
        // Who stays may need another of them.
        let needed = loop {
            let stays = leaving
                .iter()
                .position(|who| *who != id && self.is_needed_by_others(*who, &leaving));
            match stays {
                Some(at) => leaving.remove(at),
                None => break self.members(id),
            };
        };
        let mut notes = String::new();
        for other in needed {
            let name = self.service(other).name.clone();
            if !leaving.contains(&other) {
                notes.push_str(&format!("\n{name} runs on: others need it"));
                continue;
            }
            if self.will(other) == Wanted::Start || self.service(other).state.is_live() {
                self.stop_one(other, for_good, actor);
                notes.push_str(&format!("\n{name}: {}", self.service(other).state));
            }
        }
        notes
    }

    fn is_needed_by_others(&self, id: ServiceId, group: &[ServiceId]) -> bool {
        let mut needed_by = self.graph.needed_by(id).iter();
        needed_by.any(|(who, edge)| {
            edge.pulls() && !group.contains(who) && self.will(*who) == Wanted::Start
        })
    }

    /// Restarts its members; what is told of that.
    pub(super) fn restart_members(&mut self, id: ServiceId, actor: &Actor) -> String {
        let mut notes = String::new();
        for other in self.members(id) {
            let service = self.service(other);
            if service.is_target() && service.state == State::Running {
                // It goes by its own.
                continue;
            }
            let name = service.name.clone();
            let note = match self.restart_one(other, actor) {
                Ok(note) => note,
                Err(refusal) => refusal.message.into(),
            };
            notes.push_str(&format!("\n{name}: {note}"));
        }
        notes
    }
}
