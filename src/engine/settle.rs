//! Dependencies: who may start, who waits for whom, and what a change frees.
//!
//! A worklist: services whose state or health moved free others, which moves those. It ends,
//! because a blocked service is started once and a start frees nobody until it is ready.

use super::*;
use crate::graph::Edge;
use crate::service::state::{State, Wanted};
use crate::time::spoken;

/// What keeps a service from starting.
#[derive(Clone, Copy)]
enum Obstacle {
    Needs(ServiceId, Edge),
    /// It conflicts with this one, which lives.
    Rival(ServiceId),
}

impl Engine {
    pub(super) fn settle(&mut self) {
        loop {
            while let Some(id) = self.unsettled.pop() {
                self.follow(id);
                self.mind_schedule(id);
                self.free_dependents(id);
                self.unblock(id);
                self.check_waiters();
            }
            if !self.mind_storm() {
                break;
            }
        }
        self.leaving_goes_on();
        self.mind_main();
        self.shutdown_goes_on();
    }

    fn free_dependents(&mut self, id: ServiceId) {
        for at in 0..self.rivals(id).len() {
            self.unblock(self.rivals(id)[at]);
        }
        for at in 0..self.graph.needed_by(id).len() {
            let (who, _) = self.graph.needed_by(id)[at];
            self.unblock(who);
            self.mind_target(who);
        }
        self.tell_requirers(id);
    }

    /// A blocked service starts when it may. An automatic restart may not under hold.
    pub(super) fn unblock(&mut self, id: ServiceId) {
        let (state, cause) = (self.service(id).state, self.service(id).cause);
        if state == State::Blocked && !self.is_held(id) {
            self.start(id, cause);
        }
    }

    /// An automatic restart that the hold keeps from starting.
    pub(super) fn is_held(&self, id: ServiceId) -> bool {
        let service = self.service(id);
        let waits = matches!(service.state, State::Backoff | State::Blocked);
        let waits = waits || self.waits_to_spawn(id);
        self.hold.is_some() && waits && service.cause.is_automatic()
    }

    /// Its spawn failed for our own want of something, and is to be tried again.
    pub(super) fn waits_to_spawn(&self, id: ServiceId) -> bool {
        let service = self.service(id);
        service.state == State::Starting && service.run.is_none()
    }

    /// Everything it requires is satisfied, what it comes after is not about to be, and nothing
    /// lives that conflicts with it.
    pub(super) fn is_free(&self, id: ServiceId) -> bool {
        self.first_obstacle(id).is_none() && !self.held_back.contains_key(&id)
    }

    /// What it waits for to be there, or to be over.
    pub(super) fn first_need(&self, id: ServiceId) -> Option<(ServiceId, Edge)> {
        match self.first_obstacle(id)? {
            Obstacle::Needs(other, edge) => Some((other, edge)),
            Obstacle::Rival(_) => None,
        }
    }

    fn first_obstacle(&self, id: ServiceId) -> Option<Obstacle> {
        let restarting = self.service(id).restarting;
        let mut needs = self.graph.needs(id).iter();
        let missing =
            |(other, edge): &&(ServiceId, Edge)| self.is_awaited(*other, *edge, restarting);
        if let Some((other, edge)) = needs.find(missing) {
            return Some(Obstacle::Needs(*other, *edge));
        }
        let mut rivals = self.rivals(id).iter().copied();
        let rival = rivals.find(|rival| self.service(*rival).state.is_live())?;
        Some(Obstacle::Rival(rival))
    }

    /// Whether one that is tied so to the other has to wait for it. `restarting`: it has got
    /// started before, and comes back.
    fn is_awaited(&self, other: ServiceId, edge: Edge, restarting: bool) -> bool {
        let service = self.service(other);
        let over = matches!(service.state, State::Failed | State::Exited);
        let unwanted = self.will(other) == Wanted::Stop
            || self.is_left_out(other)
            || self.rests_until_due(other);
        match edge {
            Edge::Requires => !service.is_satisfied(),
            Edge::Milestone => !restarting && !service.is_satisfied(),
            Edge::After | Edge::Before | Edge::Wants => {
                !service.is_satisfied() && !over && !unwanted
            }
            Edge::AfterExit => {
                // One that rests and listens may never run at all.
                let rests = service.state == State::Inactive && service.is_satisfied();
                !over && (service.state.is_live() || !(unwanted || rests))
            }
        }
    }

    /// `requires db, stopped by root 2 h 05 m ago`; how long ago only where the wall clock is known.
    pub(super) fn waits_for(&self, id: ServiceId, wall_ms: Option<u64>) -> Box<str> {
        let Some(obstacle) = self.first_obstacle(id) else {
            return self.held_back.get(&id).cloned().unwrap_or_default();
        };
        let (other, how) = match obstacle {
            Obstacle::Needs(other, Edge::Before) => {
                (other, format!("{} is before it", self.service(other).name))
            }
            Obstacle::Needs(other, edge) => (
                other,
                format!("{} {}", edge.word(), self.service(other).name),
            ),
            Obstacle::Rival(other) => (
                other,
                format!("conflicts with {}", self.service(other).name),
            ),
        };
        let for_its_end = !matches!(obstacle, Obstacle::Needs(_, edge) if edge != Edge::AfterExit);
        let service = self.service(other);
        let by = &service.wanted_by;
        let why = match (service.state, service.wanted) {
            // Its end is waited for, whatever is wanted of it.
            (state, Wanted::Stop) if for_its_end && state.is_live() => state.word().to_owned(),
            (_, Wanted::Stop) if !by.is_empty() => match wall_ms {
                Some(wall_ms) => {
                    let ago = wall_ms.saturating_sub(service.wanted_at_ms);
                    let ago = spoken(Duration::from_millis(ago));
                    format!("stopped by {by} {ago} ago")
                }
                None => format!("stopped by {by}"),
            },
            (State::Running, Wanted::Start) => match service.health() {
                Some(health) => health.word().to_owned(),
                None => State::Running.word().to_owned(),
            },
            (state, Wanted::Start | Wanted::Stop) => state.word().to_owned(),
        };
        let pinned = if service.pinned { ", pinned" } else { "" };
        format!("{how}, {why}{pinned}").into()
    }

    /// It has a definition, if perhaps a broken one.
    pub(super) fn is_present(&self, id: ServiceId) -> bool {
        self.service(id).definition.is_some() || self.service(id).problem.is_some()
    }

    /// Why it cannot be started as it is defined.
    pub(super) fn obstacle_of_definition(&self, id: ServiceId) -> Option<&str> {
        let service = self.service(id);
        match (&service.definition, &service.problem) {
            (Some(_), _) => self.held_back.get(&id).map(|words| &**words),
            (None, Some(problem)) => Some(problem),
            (None, None) => Some("it has no definition"),
        }
    }
}
