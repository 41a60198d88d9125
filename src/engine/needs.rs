//! Condition 4 of the gate: what a service requires is asked before it is judged.
//!
//! What is required is required through others, too: a requirement that no probe watches says
//! nothing of what it requires itself, so that is looked at as well. One whose own probe has passed
//! since the trouble began vouches for what is below it. Where one is not well, the deepest one that
//! is not is named: who waits for a dead database says so, not who stands between.
//!
//! Invariants: whoever is waited for is a name whose change judges the waiting again; who is asked
//! is asked for a bounded time.

use super::*;
use crate::graph::Edge;
use crate::service::gate::Reason;
use crate::service::state::State;
use std::collections::BTreeSet;
use table::{Run, Standing, Watch};

/// `gate::Requirement`, owning its name.
pub(super) enum Need {
    Satisfied,
    Asking(Rc<str>, Time),
    Unwell(Rc<str>),
}

/// What is known of one that is satisfied.
enum Word {
    /// All its probes have passed since.
    Vouches,
    Stale,
    /// It has none.
    None,
}

impl Engine {
    /// How the requirements are doing, and whom to ask now, until when.
    pub(super) fn requirement(&self, id: ServiceId, since: Time) -> (Vec<(ServiceId, Time)>, Need) {
        if let Some(name) = self.missing(id) {
            // Stopped, it could not be started again.
            return (Vec::new(), Need::Unwell(name));
        }
        let mut seen = BTreeSet::from([id]);
        let mut asking = Vec::new();
        let need = self.need_of(id, id, since, &mut seen, &mut asking);
        (asking, need)
    }

    /// Of what `below` requires, for the sake of `id`.
    fn need_of(
        &self,
        id: ServiceId,
        below: ServiceId,
        since: Time,
        seen: &mut BTreeSet<ServiceId>,
        asking: &mut Vec<(ServiceId, Time)>,
    ) -> Need {
        for &(other, edge) in self.graph.needs(below) {
            if edge != Edge::Requires || !seen.insert(other) {
                continue;
            }
            let service = self.service(other);
            // Nobody can ask what outlived its definition how it is.
            let orphan = service.run.is_some() && service.definition.is_none();
            if orphan || !service.is_satisfied() {
                return Need::Unwell(self.service(self.root_of(other)).name.clone());
            }
            let need = match self.word_of(other, since) {
                Word::Vouches => Need::Satisfied,
                Word::Stale => self.ask(id, other, asking),
                // Nobody runs yet: whoever comes starts it, with all that it requires.
                Word::None if service.state == State::Inactive => Need::Satisfied,
                Word::None => self.need_of(id, other, since, seen, asking),
            };
            if !matches!(need, Need::Satisfied) {
                return need;
            }
        }
        Need::Satisfied
    }

    fn word_of(&self, id: ServiceId, since: Time) -> Word {
        let Some(run) = self.service(id).run.as_ref() else {
            return Word::None;
        };
        let fresh = |watch: &Watch| {
            let begun = watch.streak.last_pass_begun;
            begun.is_some_and(|begun| begun >= since)
        };
        match run.has_restart_probes() {
            false => Word::None,
            true if run.is_enough(&fresh) => Word::Vouches,
            true => Word::Stale,
        }
    }

    /// Its word is older than the trouble of `id`: it is asked, or has not answered in time.
    fn ask(&self, id: ServiceId, other: ServiceId, asking: &mut Vec<(ServiceId, Time)>) -> Need {
        let service = self.service(other);
        let name = service.name.clone();
        let standing = self.service(id).standing.as_ref();
        let asked = standing.is_some_and(|s| s.waits_for(&name));
        let until = match service.asked_until.filter(|_| asked) {
            Some(until) if until <= self.now => return Need::Unwell(name),
            Some(until) => until,
            None => {
                let probes = service
                    .run
                    .iter()
                    .flat_map(|run| run.definition.probes.iter());
                let bound = probes.map(|p| p.timeout.saturating_mul(p.failure_threshold));
                self.now + bound.max().unwrap_or_default()
            }
        };
        asking.push((other, until));
        Need::Asking(name, until)
    }

    /// Why this one is not well: the deepest that it requires and that is not; else it itself.
    fn root_of(&self, id: ServiceId) -> ServiceId {
        let mut seen = BTreeSet::from([id]);
        let mut at = id;
        loop {
            let own = match self.service(at).state {
                // By an operator's word, or for good.
                State::Inactive | State::Exited | State::Failed => true,
                State::Blocked
                | State::Starting
                | State::Running
                | State::Stopping
                | State::Backoff => false,
            };
            let mut needs = self.graph.needs(at).iter();
            let unwell = needs.find(|(other, edge)| {
                *edge == Edge::Requires
                    && !self.service(*other).is_satisfied()
                    && !seen.contains(other)
            });
            match unwell {
                Some((other, _)) if !own => at = *other,
                Some(_) | None => return at,
            }
            seen.insert(at);
        }
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

    pub(super) fn ask_now(&mut self, id: ServiceId, until: Time) {
        if self.service(id).asked_until.is_none_or(|u| u < until) {
            self.service_mut(id).asked_until = Some(until);
        }
        let run = self.service(id).run.as_ref();
        let count = run.map_or(0, |run| run.probes.len());
        for probe in 0..count as u16 {
            self.check_due(id, probe);
        }
    }

    // --- what becomes of those who wait

    /// All who require it, directly or through others.
    fn requirers(&self, id: ServiceId) -> Vec<ServiceId> {
        let mut seen = BTreeSet::from([id]);
        let mut all = vec![id];
        let mut at = 0;
        while let Some(&of) = all.get(at) {
            at += 1;
            for &(who, edge) in self.graph.needed_by(of) {
                if edge == Edge::Requires && seen.insert(who) {
                    all.push(who);
                }
            }
        }
        all.remove(0);
        all
    }

    /// State or health of this one has moved: those who wait for it, or for what is below it.
    pub(super) fn tell_requirers(&mut self, id: ServiceId) {
        let satisfied = self.service(id).is_satisfied();
        let name = self.service(id).name.clone();
        for who in self.requirers(id) {
            let Some(standing) = self.service(who).standing.as_ref() else {
                if satisfied {
                    self.forgive(who);
                }
                continue;
            };
            let (named, asking) = (standing.waits_for(&name), standing.is_asking());
            match (named, asking, satisfied) {
                (true, false, true) => self.judge_afresh(who, &name),
                (true, true, false) => self.reconsider(who),
                // It is well, whatever is the matter with what it requires itself.
                (false, false, true) if waits_for_any(standing) => {
                    let since = self.trouble_since(who);
                    if let Need::Satisfied = self.requirement(who, since).1 {
                        self.judge_afresh(who, &name);
                    }
                }
                // Who stands between is not well because this one is not.
                (false, false, false) if waits_for_any(standing) => {
                    let since = self.trouble_since(who);
                    if let Need::Unwell(root) = self.requirement(who, since).1
                        && root == name
                    {
                        self.reconsider(who);
                    }
                }
                (_, _, _) => {}
            }
        }
    }

    /// What it requires has come back: failures that were not yet enough are not counted either.
    fn forgive(&mut self, id: ServiceId) {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        if !run.is_judged() || run.ready_at.is_none() {
            return;
        }
        let mut forgot = false;
        excuse_flights(run);
        for watch in run.probes.iter_mut() {
            if watch.streak.failures > 0 && watch.streak.up == Some(true) {
                watch.streak.forget_failures();
                forgot = true;
            }
        }
        if forgot {
            self.mark(id);
        }
    }

    /// A service that is being asked has answered: those who wait for it are judged again.
    pub(super) fn asked_answered(&mut self, id: ServiceId) {
        let name = self.service(id).name.clone();
        let mut waiting = self.requirers(id);
        waiting.retain(|who| {
            let standing = self.service(*who).standing.as_ref();
            standing.is_some_and(|s| s.waits_for(&name))
        });
        if waiting.is_empty() {
            self.service_mut(id).asked_until = None;
        }
        for who in waiting {
            let since = self.trouble_since(who);
            let standing = self.service(who).standing.as_ref();
            let asking = standing.is_some_and(Standing::is_asking);
            // Only news is worth a decision: that it is well, or that it is not.
            match (self.requirement(who, since).1, asking) {
                (Need::Asking(next, _), true) if next != name => self.reconsider(who),
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
        excuse_flights(run);
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

/// What was asked before it came back may still tell that it was away.
fn excuse_flights(run: &mut Run) {
    let flights = run.probes.iter_mut().filter_map(|w| w.check.as_mut());
    flights.for_each(|flight| flight.excused = true);
}

fn waits_for_any(standing: &Standing) -> bool {
    matches!(standing.deferral(), Some(Reason::Dependency(_)))
}
