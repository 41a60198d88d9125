//! Condition 7 of the gate: the host-wide limit on restarts for health, and the storm breaker.
//!
//! Whoever finds no token, or somebody already waiting, is given a place; places go one by one, in
//! the order in which they were given. Before the first of them goes, the one before must be
//! cured, stopped, or waited for long enough, and it is asked once more itself: what has recovered
//! meanwhile is not restarted.
//!
//! When many want a restart at once it is one incident: the next goes only after a cure, and when
//! the canary was not cured nobody goes any more, until an operator releases it, the canary is
//! well after all, or all have recovered.
//!
//! Not here: first starts, what follows an end (crashes), and what an operator asked for.
//!
//! Invariants: never more than `count` tokens within `per`; who waits has a place, and keeps it
//! while its restart is deferred for whatever reason; whatever is waited for has a time or is shown
//! as a hold.

mod change;
mod record;

pub use record::{Held, OWNER, StormRecord};

use super::status::StormStatus;
use super::*;
use crate::config::{OnUnhealthy, Probe, StormLimits};
use crate::probe::Outcome;
use crate::service::gate::{self, Reason, Ruling};
use crate::service::retry_policy::delay_for_attempt;
use crate::service::state::{State, Wanted};
use crate::time::{Wall, spoken};
use record::{Incident, Patient, listed};
use timers::Unit;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Storm {
    pub(super) limits: StormLimits,
    pub(super) record: StormRecord,
    /// Who waits, by place; the same as in the services.
    pub(super) queue: BTreeMap<u64, ServiceId>,
    pub(super) next_place: u64,
    pub(super) unit: Option<Unit>,
    /// The first in line, while it is asked once more.
    pub(super) asked: Option<Asked>,
    /// What those in line wait for has changed: each is to be told.
    pub(super) renew: bool,
    /// To be recorded at the end of this event.
    pub(super) changed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) service: ServiceId,
    pub(super) since: Time,
    pub(super) until: Time,
    /// It failed again.
    pub(super) failed: bool,
}

/// What came of a restart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Cured,
    /// It was ended by somebody else: nothing is known of it.
    Stopped,
    Uncured,
    /// It is not known, and waited for no longer.
    Late,
}

impl Storm {
    fn is_idle(&self) -> bool {
        let record = &self.record;
        self.queue.is_empty() && record.patient.is_none() && record.incident.is_none()
    }
}

impl Engine {
    pub(super) fn take_up_storm(&mut self, limits: StormLimits, record: Option<StormRecord>) {
        self.storm.limits = limits;
        self.storm.record = record.unwrap_or_default();
        if !limits.has_incidents() {
            // By what is set now it is none, and nobody may wait for its end.
            self.storm.record.incident = None;
        }
        self.storm.changed = !limits.is_off();
    }

    /// A place that was given by the daemon before this one.
    pub(super) fn take_up_place(&mut self, id: ServiceId, place: u64) {
        if self.storm.limits.is_off() {
            return;
        }
        self.service_mut(id).place = Some(place);
        self.storm.queue.insert(place, id);
        self.storm.next_place = self.storm.next_place.max(place + 1);
    }

    /// All else allows the restart of this service: may it go now?
    pub(super) fn storm_says(&mut self, id: ServiceId) -> gate::Storm {
        if self.storm.limits.is_off() {
            return gate::Storm::Token;
        }
        self.judge_patient();
        if self.service(id).place.is_none() {
            self.wants_restart(id);
        }
        match self.storm_wait(id) {
            Some((words, until)) => gate::Storm::Wait { words, until },
            None => gate::Storm::Token,
        }
    }

    /// For whom or what it waits, and until when at the latest; None: its turn is now.
    fn storm_wait(&self, id: ServiceId) -> Option<(Box<str>, Option<Time>)> {
        let (limits, record) = (&self.storm.limits, &self.storm.record);
        if let Some(held) = record.held() {
            return Some((format!("held: {}", held.why).into(), None));
        }
        let place = self.service(id).place;
        let before = self.storm.queue.range(..place.unwrap_or(u64::MAX));
        let ahead = || {
            before
                .clone()
                .map(|(_, id)| *id)
                .filter(|id| !self.is_passed_over(*id))
        };
        let last = ahead().next_back();
        let waits = place.is_some() || last.is_some();
        let patient = record.patient.as_ref();
        let pending = patient.filter(|_| waits || record.incident.is_some());
        let asked = self.storm.asked.filter(|asked| asked.service == id);
        let token = record.token_at(limits, self.now) <= self.now;
        if last.is_none() && pending.is_none() && token {
            if place.is_none() || self.is_asked_afresh(id) {
                return None;
            }
            let until = asked
                .map(|asked| asked.until)
                .filter(|until| self.now < *until);
            let until = until.unwrap_or(self.now + self.ask_bound(id));
            return Some(("asked once more".into(), Some(until)));
        }
        let behind = last.map(|id| &*self.service(id).name);
        let words = match behind.or(patient.map(|patient| &*patient.name)) {
            Some(name) => format!("behind {name}"),
            None => {
                let (count, per) = (limits.count, spoken(limits.per));
                format!("{count} health restarts within {per}")
            }
        };
        let patience = |id| self.patience(id) + self.ask_bound(id);
        let turn = record.turn_at(limits, self.now, ahead().map(patience));
        Some((words.into(), Some(turn + self.ask_bound(id))))
    }

    /// It has a place, and something that is its own keeps it from using it.
    fn is_passed_over(&self, id: ServiceId) -> bool {
        let standing = self.service(id).standing.as_ref();
        standing.is_some_and(|standing| {
            matches!(
                &standing.ruling,
                Ruling::Deferred {
                    reason: Reason::Asking(_)
                        | Reason::Dependency(_)
                        | Reason::Stability
                        | Reason::Recovering,
                    ..
                }
            )
        })
    }

    /// The words of the gate on a restart that waits for its turn, as they are by now.
    pub(super) fn storm_reason(&self, id: ServiceId, reason: &Reason) -> String {
        match reason {
            Reason::Storm(_) => match self.storm_wait(id) {
                Some((words, _)) => Reason::Storm(words).to_string(),
                None => reason.to_string(),
            },
            _ => reason.to_string(),
        }
    }

    /// What those who wait wait for, beside their places in line: for `why`.
    pub(super) fn incident_words(&self) -> Option<String> {
        let incident = self.storm.record.incident.as_ref()?;
        let (services, canary) = (incident.services, &incident.canary);
        Some(match incident.held {
            Some(_) => "`release` lets restarts for health go on".to_owned(),
            None => format!(
                "{services} services wanted a restart at once: {canary} went first, and the others \
                 go on when it is well"
            ),
        })
    }

    /// Its restart is deferred for its turn: it is given a place, unless it has one.
    pub(super) fn join_storm(&mut self, id: ServiceId) {
        if self.service(id).place.is_none() {
            let place = self.storm.next_place;
            self.storm.next_place += 1;
            self.storm.queue.insert(place, id);
            self.service_mut(id).place = Some(place);
        }
        let mut queue = self.storm.queue.values();
        let first = queue.find(|id| !self.is_passed_over(**id)) == Some(&id);
        if first && self.is_its_turn(id) {
            self.ask_afresh(id);
        }
    }

    /// It waits no more.
    pub(super) fn leave_storm(&mut self, id: ServiceId) {
        if let Some(place) = self.service_mut(id).place.take() {
            self.storm.queue.remove(&place);
            self.mark(id);
        }
        if self.storm.asked.is_some_and(|asked| asked.service == id) {
            self.storm.asked = None;
        }
    }

    /// Its restart is allowed, by this decision: a token is taken.
    pub(super) fn storm_allows(&mut self, id: ServiceId, decision: u64) {
        let limits = self.storm.limits;
        self.leave_storm(id);
        if limits.is_off() {
            return;
        }
        let now = self.now;
        let until = now + self.patience(id);
        let name: Box<str> = (&*self.service(id).name).into();
        let record = &mut self.storm.record;
        record.take(&limits, now);
        if let Some(incident) = &mut record.incident {
            incident.canary = name.clone();
            incident.over_at = now + limits.within;
        }
        record.patient = Some(Patient {
            name,
            decision,
            until,
        });
        self.storm.changed = true;
    }

    /// How long its cure is waited for, if it were to be restarted now.
    fn patience(&self, id: ServiceId) -> Duration {
        if self.storm.record.incident.is_none() {
            return limits::STORM_PATIENCE;
        }
        let definition = self.definition_of(id);
        let stop = definition.health_stop_timeout;
        let stop = stop.unwrap_or(definition.stop_timeout);
        // As it will be drawn, unless somebody else draws first.
        let (attempts, mut dice) = (self.service(id).attempts, self.prng.clone());
        let delay = delay_for_attempt(&definition.retry_policy, attempts, &mut dice);
        let start = definition.start_timeout.unwrap_or(limits::CANARY_PATIENCE);
        let repair = self.repair_ahead(id);
        let all = [stop, repair, delay, start];
        let all = all
            .into_iter()
            .fold(Duration::ZERO, Duration::saturating_add);
        all.clamp(limits::STORM_PATIENCE, limits::CANARY_PATIENCE)
    }

    // --- asked once more

    /// Long enough for an answer of what is under way, and one that is begun after it.
    fn ask_bound(&self, id: ServiceId) -> Duration {
        let probes = self.service(id).run.iter().flat_map(|run| in_trouble(run));
        let longest = probes.map(|(_, probe, _)| probe.timeout).max();
        longest.map_or(Duration::ZERO, |timeout| 2 * timeout)
    }

    /// It failed again after its turn had come, or could not be asked.
    fn is_asked_afresh(&self, id: ServiceId) -> bool {
        let Some(run) = self.service(id).run.as_ref() else {
            return true;
        };
        // By its watchdog, or by what it did not say: there is nobody to ask.
        if in_trouble(run).next().is_none() {
            return true;
        }
        let Some(asked) = self.storm.asked.filter(|asked| asked.service == id) else {
            return false;
        };
        let passes = || {
            let passed = |watch: &table::Watch| {
                let last = watch.last.as_ref();
                last.is_some_and(|last| last.outcome == Outcome::Pass)
            };
            in_trouble(run).all(|(_, _, watch)| passed(watch))
        };
        asked.failed || (self.now >= asked.until && !passes())
    }

    fn ask_afresh(&mut self, id: ServiceId) {
        let (since, until) = (self.now, self.now + self.ask_bound(id));
        self.storm.asked = Some(Asked {
            service: id,
            since,
            until,
            failed: false,
        });
        self.ask_now(id, until);
    }

    /// A probe of a service has answered.
    pub(super) fn storm_answered(&mut self, id: ServiceId, index: u16, begun: Time) {
        let Some(asked) = self.storm.asked else {
            return;
        };
        if asked.service != id {
            return;
        }
        if begun < asked.since {
            // That was before: now.
            return self.check_due(id, index);
        }
        let failed = self.service(id).run.as_ref().is_some_and(|run| {
            in_trouble(run).any(|(at, _, watch)| {
                let last = watch.last.as_ref().map(|last| &last.outcome);
                at == index && matches!(last, Some(Outcome::Fail(_)))
            })
        });
        self.storm.asked = Some(Asked {
            failed: asked.failed || failed,
            ..asked
        });
    }

    // --- the incident

    /// One more service that is to be restarted for its health.
    fn wants_restart(&mut self, id: ServiceId) {
        let (now, limits) = (self.now, self.storm.limits);
        self.storm.changed = true;
        if let Some(incident) = &mut self.storm.record.incident {
            incident.over_at = now + limits.within;
            return;
        }
        let runs = self.services.iter().filter_map(|s| s.run.as_ref());
        let watched = runs.filter(|run| run.has_judges()).count();
        let name = self.service(id).name.clone();
        if !self.storm.record.note(&limits, &name, now, watched) {
            return;
        }
        let sick = std::mem::take(&mut self.storm.record.sick);
        let names: Vec<&str> = sick.iter().map(|sick| &*sick.name).collect();
        let patient = self.storm.record.patient.as_ref();
        let canary: Box<str> = patient.map_or((&*name).into(), |patient| patient.name.clone());
        let words = format!(
            "{} services want a restart within {}: {}; one at a time, and {canary} first",
            names.len(),
            spoken(limits.within),
            listed(&names)
        );
        self.storm.record.incident = Some(Incident {
            since: now,
            services: sick.len() as u32,
            canary: canary.clone(),
            over_at: now + limits.within,
            held: None,
        });
        // It has become the canary, which is waited for longer.
        if let Some(canary) = self.find(&canary) {
            let until = now + self.patience(canary);
            let patient = self.storm.record.patient.as_mut();
            patient
                .into_iter()
                .for_each(|p| p.until = p.until.max(until));
        }
        self.tell_storm("calm", "storm", "unhealthy", &words);
        self.storm.renew = true;
    }

    /// Told with the canary's name.
    fn tell_storm(
        &mut self,
        from: &'static str,
        to: &'static str,
        cause: &'static str,
        words: &str,
    ) {
        self.storm.changed = true;
        let incident = self.storm.record.incident.as_ref();
        let canary = incident.and_then(|incident| self.find(&incident.canary));
        if let Some(canary) = canary {
            let kind = TransitionKind::Storm;
            self.tell(canary, kind, from, to, cause, words.into());
        }
    }

    /// What came of the last restart, as soon as it is known.
    fn judge_patient(&mut self) {
        let Some(patient) = &self.storm.record.patient else {
            return;
        };
        let Some(verdict) = self.verdict_on(patient) else {
            return;
        };
        let name = patient.name.clone();
        let (now, within) = (self.now, self.storm.limits.within);
        self.storm.record.patient = None;
        self.storm.changed = true;
        let Some(incident) = &mut self.storm.record.incident else {
            return;
        };
        incident.over_at = now + within;
        let why = match verdict {
            Verdict::Cured | Verdict::Stopped => return,
            Verdict::Uncured => format!("the canary {name} was not cured"),
            Verdict::Late => format!("the canary {name} did not get well in time"),
        };
        incident.canary = name;
        incident.held = Some(Held {
            since: now,
            why: why.as_str().into(),
        });
        let words = format!(
            "{why}: no restarts for health until `release`, or until it or all others are well"
        );
        self.tell_storm("storm", "held", "unhealthy", &words);
        self.storm.renew = true;
    }

    fn verdict_on(&self, patient: &Patient) -> Option<Verdict> {
        let Some(id) = self.find(&patient.name) else {
            return Some(Verdict::Stopped);
        };
        let service = self.service(id);
        if service.definition.is_none() || self.will(id) == Wanted::Stop {
            return Some(Verdict::Stopped);
        }
        if service
            .cure
            .is_some_and(|cure| cure.decision == patient.decision)
        {
            let well = service.state == State::Running && service.is_satisfied();
            return match (self.now >= patient.until, well) {
                (false, _) => None,
                (true, true) => Some(Verdict::Cured),
                (true, false) => Some(Verdict::Late),
            };
        }
        let decision = service.decisions.iter().find(|d| d.seq == patient.decision);
        Some(match decision.and_then(|decision| decision.cured) {
            Some(true) => Verdict::Cured,
            // Well, if late.
            Some(false) if service.state == State::Running && service.is_satisfied() => {
                Verdict::Cured
            }
            Some(false) => Verdict::Uncured,
            None => Verdict::Stopped,
        })
    }

    /// A canary that is well after all shows that it is worth going on.
    fn mind_canary(&mut self) {
        let incident = self.storm.record.incident.as_ref();
        let Some(incident) = incident.filter(|incident| incident.held.is_some()) else {
            return;
        };
        let canary = incident.canary.clone();
        let Some(id) = self.find(&canary) else { return };
        let service = self.service(id);
        if service.state == State::Running && service.is_satisfied() {
            self.lift(&format!("{canary} is well after all"));
        }
    }

    fn lift(&mut self, words: &str) {
        let over_at = self.now + self.storm.limits.within;
        if let Some(incident) = &mut self.storm.record.incident {
            incident.held = None;
            incident.over_at = over_at;
        }
        self.tell_storm("held", "storm", "", words);
        self.storm.renew = true;
    }

    /// An operator says that restarts go on: whether they were held by a storm.
    pub(super) fn release_storm(&mut self, by: &str) -> bool {
        if self.storm.record.held().is_none() {
            return false;
        }
        self.tell_storm("held", "calm", "operator", &format!("released by {by}"));
        self.storm.record.incident = None;
        self.storm.renew = true;
        true
    }

    // --- what comes of time and of others

    /// The first in line, if its turn has come.
    fn next_in_storm(&mut self) -> Option<ServiceId> {
        if self.hold.is_some() || self.storm.record.held().is_some() {
            return None;
        }
        loop {
            let mut queue = self.storm.queue.values().copied();
            let first = queue.find(|id| !self.is_passed_over(*id))?;
            if self.service(first).standing.is_some() {
                return self.is_its_turn(first).then_some(first);
            }
            // Restored, and in no trouble any more.
            self.leave_storm(first);
        }
    }

    /// Nobody is before this one, which is the first in line.
    fn is_its_turn(&self, id: ServiceId) -> bool {
        let record = &self.storm.record;
        let token = record.token_at(&self.storm.limits, self.now) <= self.now;
        let asked = self.storm.asked.filter(|asked| asked.service == id);
        let answered = asked.is_none_or(|asked| asked.failed || self.now >= asked.until);
        record.held().is_none() && record.patient.is_none() && token && answered
    }

    /// Whoever's turn has come goes. Whether anything was moved.
    pub(super) fn mind_storm(&mut self) -> bool {
        // In a shutdown nobody goes; but whose hold is released then is told that it is not to.
        let ends = self.storm.is_idle() || self.shutdown.is_some();
        if ends && !self.storm.renew {
            return false;
        }
        self.judge_patient();
        self.mind_canary();
        let mut moved = false;
        if std::mem::take(&mut self.storm.renew) {
            let waiting: Vec<ServiceId> = self.storm.queue.values().copied().collect();
            let off = self.storm.limits.is_off();
            for id in waiting {
                if off {
                    // There are no turns any more.
                    self.leave_storm(id);
                }
                if off || self.has_news(id) {
                    self.reconsider(id);
                    moved = true;
                }
            }
        }
        while let Some(first) = self.next_in_storm() {
            self.reconsider(first);
            moved = true;
            if self.service(first).place.is_some() {
                if self.next_in_storm() == Some(first) {
                    // Nothing is left to be judged.
                    self.leave_storm(first);
                }
                break;
            }
        }
        self.end_incident();
        self.time_storm();
        moved
    }

    /// What this one was told is no longer so.
    fn has_news(&self, id: ServiceId) -> bool {
        let standing = self.service(id).standing.as_ref();
        let told = standing.map(|standing| &standing.ruling);
        match (told, self.storm_wait(id)) {
            (
                Some(Ruling::Deferred {
                    reason: Reason::Storm(old),
                    until,
                }),
                Some((words, turn)),
            ) => *old != words || *until != turn,
            (Some(Ruling::Deferred { .. }), _) => !self.is_passed_over(id),
            (_, _) => false,
        }
    }

    /// Nobody wants a restart any more, and nobody did for a while.
    fn end_incident(&mut self) {
        let over = self
            .storm
            .record
            .incident
            .as_ref()
            .map(|i| (i.over_at, i.held.is_some()));
        let Some((over_at, held)) = over else { return };
        let quiet = self.storm.queue.is_empty() && self.storm.record.patient.is_none();
        if quiet && self.now >= over_at {
            let from = if held { "held" } else { "storm" };
            self.tell_storm(from, "calm", "", "nobody waits for a restart any more");
            self.storm.record.incident = None;
        }
    }

    fn time_storm(&mut self) {
        let (record, limits) = (&self.storm.record, &self.storm.limits);
        let waiting = !self.storm.queue.is_empty();
        let patient = record.patient.as_ref().map(|patient| patient.until);
        let token = record.token_at(limits, self.now);
        let token = (waiting && record.held().is_none()).then_some(token);
        let asked = self.storm.asked.map(|asked| asked.until);
        let over = record.incident.as_ref().filter(|_| !waiting);
        let over = over.map(|incident| incident.over_at);
        let due = [patient, token, asked, over].into_iter().flatten();
        let due = due.filter(|due| *due > self.now).min();
        match (due, self.storm.unit) {
            (Some(due), unit) => {
                let unit = unit.unwrap_or_else(|| self.timers.storm_unit());
                self.storm.unit = Some(unit);
                self.timers.set(Key::storm(unit), due);
            }
            (None, Some(unit)) => self.timers.cancel(Key::storm(unit)),
            (None, None) => {}
        }
    }

    /// Before all that it leads to.
    pub(super) fn record_storm(&mut self) -> Option<Record> {
        let changed = std::mem::take(&mut self.storm.changed);
        changed.then(|| Record::Storm(Box::new(self.storm.record.clone())))
    }

    /// None: nobody waits, and there is no incident.
    pub(super) fn storm_status(&self, wall: Wall) -> Option<StormStatus> {
        let incident = self.storm.record.incident.as_ref();
        let mut queue = self.storm.queue.values();
        let waiting = queue.len() as u32;
        if incident.is_none() && waiting == 0 {
            return None;
        }
        let held = incident.and_then(|incident| incident.held.as_ref());
        Some(StormStatus {
            incident: incident.is_some(),
            since: incident.map(|incident| wall.rfc3339(incident.since)),
            services: incident.map_or(0, |incident| incident.services),
            canary: incident.map(|incident| incident.canary.to_string()),
            waiting,
            next: queue.next().map(|id| self.service(*id).name.to_string()),
            held: held.map(|held| held.why.to_string()),
        })
    }
}

/// The probes for which it is to be restarted: those that are down, or did not pass in time.
fn in_trouble(run: &table::Run) -> impl Iterator<Item = (u16, &Probe, &table::Watch)> {
    run.watched().filter(|(_, probe, watch)| {
        let unready = run.overdue && !watch.streak.passed;
        probe.on_unhealthy == OnUnhealthy::Restart && (unready || watch.streak.is_down(probe))
    })
}
