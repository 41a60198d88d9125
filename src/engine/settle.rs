//! Dependencies: who may start, who waits for whom, and what a change frees.
//!
//! A worklist: services whose state or health moved free others, which moves those. It ends,
//! because a blocked service is started once and a start frees nobody until it is ready.

use super::table::Standing;
use super::*;
use crate::graph::Edge;
use crate::service::state::{State, Wanted};
use crate::time::spoken;

impl Engine {
    pub(super) fn settle(&mut self) {
        while let Some(id) = self.unsettled.pop() {
            self.free_dependents(id);
            self.unblock(id);
            self.check_waiters();
        }
        self.leaving_goes_on();
        self.mind_main();
        self.shutdown_goes_on();
    }

    fn free_dependents(&mut self, id: ServiceId) {
        let satisfied = self.service(id).is_satisfied();
        let name = self.service(id).name.clone();
        for at in 0..self.graph.needed_by(id).len() {
            let (who, _) = self.graph.needed_by(id)[at];
            self.unblock(who);
            self.mind_target(who);
            let standing = self
                .service(who)
                .standing
                .as_ref()
                .filter(|s| s.waits_for(&name));
            match (standing.map(Standing::is_asking), satisfied) {
                (Some(false), true) => self.judge_afresh(who, &name),
                (Some(true), false) => self.reconsider(who),
                (Some(true), true) | (Some(false), false) | (None, _) => {}
            }
        }
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

    /// Everything it requires is satisfied, and what it comes after is not about to be.
    pub(super) fn is_free(&self, id: ServiceId) -> bool {
        self.first_obstacle(id).is_none() && !self.held_back.contains_key(&id)
    }

    pub(super) fn first_obstacle(&self, id: ServiceId) -> Option<(ServiceId, Edge)> {
        self.graph.needs(id).iter().copied().find(|&(other, edge)| {
            let service = self.service(other);
            if service.is_satisfied() {
                return false;
            }
            match edge {
                Edge::Requires => true,
                Edge::After | Edge::Wants => {
                    !matches!(
                        (service.state, self.will(other)),
                        (State::Failed | State::Exited, _) | (_, Wanted::Stop)
                    ) && !self.is_left_out(other)
                }
            }
        })
    }

    /// `requires db, stopped by root 2 h 05 m ago`; how long ago only where the wall clock is known.
    pub(super) fn waits_for(&self, id: ServiceId, wall_ms: Option<u64>) -> Box<str> {
        let Some((other, edge)) = self.first_obstacle(id) else {
            return self.held_back.get(&id).cloned().unwrap_or_default();
        };
        let service = self.service(other);
        let how = match edge {
            Edge::Requires => "requires",
            Edge::Wants => "wants",
            Edge::After => "after",
        };
        let name = &service.name;
        let by = &service.wanted_by;
        let why = match (service.state, service.wanted) {
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
        format!("{how} {name}, {why}").into()
    }

    /// The graph anew, after definitions changed. Who can never be started (a cycle, a
    /// requirement that does not exist) is held back and told why.
    pub(super) fn relink(&mut self) {
        let mut edges = Vec::new();
        let mut held_back = BTreeMap::new();
        for id in self.ids() {
            let Some(definition) = &self.service(id).definition else {
                continue;
            };
            let kinds = [
                (&definition.requires, Edge::Requires),
                (&definition.wants, Edge::Wants),
                (&definition.after, Edge::After),
            ];
            for (names, edge) in kinds {
                for name in names.iter() {
                    match self.find(name).filter(|other| self.is_present(*other)) {
                        Some(other) => edges.push((id, other, edge)),
                        None if edge == Edge::Requires => {
                            let words = format!(
                                "requires {name}, which does not exist: define it, or use `wants`"
                            );
                            held_back.insert(id, words.into());
                        }
                        None => {}
                    }
                }
            }
        }
        self.graph = Graph::new(self.services.len(), edges);
        let cycles = self.graph.cycles();
        for id in self.graph.held_back() {
            let own = cycles.iter().find(|c| c.members.contains(&id));
            let Some(cycle) = own.or(cycles.first()) else {
                continue;
            };
            let path: Vec<&str> = cycle
                .path
                .iter()
                .map(|member| &*self.service(*member).name)
                .collect();
            let path = path.join(" -> ");
            let words = match own.is_some() {
                true => format!("dependency cycle: {path}"),
                false => format!("requires a member of a dependency cycle: {path}"),
            };
            held_back.insert(id, words.into());
        }
        self.held_back = held_back;
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
