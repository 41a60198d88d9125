//! What becomes of a service when one that it requires goes down (`on_dependency`).
//!
//! By level, not by edge: whoever is not to run without what it requires, and lives though that is
//! down, is stopped. So nothing is lost when a daemon dies in between, and no order of events
//! matters. Restarts by this cause spend nothing.
//!
//! A stop by somebody's will goes the other way round: it begins with those who go down with it,
//! and the service itself has its stop signal when they are gone ([`Stop::waits`]).
//!
//! Invariant: such a wait has a deadline.
//!
//! [`Stop::waits`]: super::table::Stop::waits

use super::*;
use crate::config::OnDependency;
use crate::graph::Edge;
use crate::service::state::{Cause, Cue, Next, State};

impl Engine {
    /// Those who require it can run on: it runs, has done what it was for, or listens. A daemon that
    /// has just returned watches its sockets only with their answer.
    pub(super) fn is_there(&self, id: ServiceId) -> bool {
        let service = self.service(id);
        service.state == State::Running || service.is_satisfied() || self.is_listening(id)
    }

    /// What is to become of it without what it requires.
    fn follows(&self, id: ServiceId) -> OnDependency {
        let service = self.service(id);
        match &service.definition {
            Some(definition) if !service.pinned => definition.on_dependency(),
            Some(_) | None => OnDependency::Run,
        }
    }

    /// Who goes down with it, and has a run.
    pub(super) fn followers(&self, id: ServiceId) -> Vec<ServiceId> {
        let links = self.graph.needed_by(id).iter();
        let requirers = links.filter(|(_, edge)| *edge == Edge::Requires);
        let who = requirers.map(|(who, _)| *who);
        who.filter(|who| self.service(*who).state.is_live())
            .filter(|who| self.follows(*who) != OnDependency::Run)
            .collect()
    }

    /// Its name goes: those who go down with it do so now.
    pub(super) fn take_down(&mut self, id: ServiceId) {
        for who in self.followers(id) {
            self.go_down(who, id);
        }
    }

    /// It moved, or its definition has: who must not live without it, or it itself.
    pub(super) fn follow(&mut self, id: ServiceId) {
        if self.shutdown.is_some() {
            return;
        }
        if !self.is_there(id) {
            self.take_down(id);
        }
        let down = |engine: &Engine| {
            let mut needs = engine.graph.needs(id).iter();
            let down = |(other, edge): &&(ServiceId, Edge)| {
                *edge == Edge::Requires && !engine.is_there(*other)
            };
            needs.find(down).map(|(other, _)| *other)
        };
        if self.follows(id) != OnDependency::Run
            && let Some(other) = down(self)
        {
            self.go_down(id, other);
        }
        self.stop_goes_on(id);
        for at in 0..self.graph.needs(id).len() {
            let (other, _) = self.graph.needs(id)[at];
            self.stop_goes_on(other);
        }
    }

    /// Who is stopped before it; empty when nobody is.
    pub(super) fn waited_with(&self, id: ServiceId) -> String {
        let stop = self.service(id).run.as_ref().and_then(|r| r.stop.as_ref());
        if !stop.is_some_and(|stop| stop.waits) {
            return String::new();
        }
        let followers = self.followers(id);
        let names: Vec<&str> = followers
            .iter()
            .map(|who| &*self.service(*who).name)
            .collect();
        names.join(", ")
    }

    /// A line that names them.
    pub(super) fn stopping_first(&self, id: ServiceId) -> String {
        match self.waited_with(id) {
            names if names.is_empty() => names,
            names => format!("\nafter those that go down with it: {names}"),
        }
    }

    /// Stopped for the sake of `other`; or it is on its way to be.
    fn go_down(&mut self, id: ServiceId, other: ServiceId) {
        let state = self.service(id).state;
        if !matches!(state, State::Starting | State::Running) {
            return;
        }
        let for_good = self.follows(id) == OnDependency::Stop;
        let why = &self.service(other);
        let words: Box<str> = format!("requires {}, {}", why.name, why.state).into();
        if for_good && self.service(id).run.is_none() {
            return self.cue(id, Cue::Gone(Next::Exited), Cause::Dependency, words);
        }
        self.cue(id, Cue::Cycle, Cause::Dependency, words);
        if let Some(stop) = self.stop_mut(id).filter(|_| for_good) {
            stop.final_stop = true;
        }
        self.mark(id);
    }

    /// Whether a stop for this cause begins with those who go down with it; and until when they
    /// are waited for. What does not work is not waited with.
    pub(super) fn waits_for_followers(&self, id: ServiceId, cause: Cause) -> Option<Time> {
        let service = self.service(id);
        let run = service.run.as_ref()?;
        let willed = match cause {
            Cause::Operator | Cause::Config | Cause::Dependency => true,
            Cause::Exit
            | Cause::Unhealthy
            | Cause::StartTimeout
            | Cause::Watchdog
            | Cause::Memory
            | Cause::Connection
            | Cause::Timer
            | Cause::Boot => false,
        };
        let quiet = service.state == State::Running && run.hooks.live.is_none();
        if !willed || !quiet || self.shutdown.is_some() {
            return None;
        }
        let mut all = self.followers(id);
        let mut at = 0;
        while let Some(who) = all.get(at).copied() {
            at += 1;
            for more in self.followers(who) {
                if more != id && !all.contains(&more) {
                    all.push(more);
                }
            }
        }
        if all.is_empty() {
            return None;
        }
        // Each in its turn at the worst, and one of them may not be killable.
        let time = |who: &ServiceId| {
            let run = self.service(*who).run.as_ref();
            let time = |d: &crate::config::Definition| {
                d.stop_timeout
                    .max(d.health_stop_timeout.unwrap_or_default())
            };
            run.map_or(Duration::ZERO, |run| time(&run.definition))
        };
        let together: Duration = all.iter().map(time).sum();
        Some(self.now + together + limits::UNKILLABLE)
    }

    /// Those who go down with it are gone: it is stopped itself, with all the time it has.
    fn stop_goes_on(&mut self, id: ServiceId) {
        let waits = |run: &table::Run| run.stop.as_ref().is_some_and(|stop| stop.waits);
        let waits = self.service(id).run.as_ref().is_some_and(|run| waits(run));
        if waits && self.followers(id).is_empty() {
            self.stop_now(id);
        }
    }

    /// Its own stop begins, whoever is still there.
    pub(super) fn stop_now(&mut self, id: ServiceId) {
        if self.stop_waits_no_more(id) {
            self.begin_stop(id);
        }
    }

    /// True: it did wait, and has its whole time from now on.
    pub(super) fn stop_waits_no_more(&mut self, id: ServiceId) -> bool {
        self.stop_has_whole_time(id, |stop| std::mem::take(&mut stop.waits))
    }
}
