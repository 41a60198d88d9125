//! The first event: definitions, the operator's will, and what a daemon before this one left.
//!
//! Invariants: nothing that lives is started again; what was decided before goes on from where
//! it was; a run that was ready is not asked its start-up questions again.

use super::table::Exhausted;
use super::*;
use crate::config::{
    Backoff, Definition, KillMode, Kind, OnExhausted, Process, Restart, RetryPolicy,
};
use crate::exit::Signal;
use crate::service::state::{Cause, State, Wanted};
use std::collections::VecDeque;

impl Engine {
    pub(super) fn boot(&mut self, boot: Boot) {
        let Boot {
            mut definitions,
            wanted,
            services,
            transitions,
            decisions,
            hold,
            deaf,
            main,
            shutdown_timeout,
            max_checks,
            left,
            watchdogs,
            guard,
            alerts,
            alerted,
            limits,
            storm,
            wall_ms,
            reboots,
        } = boot;
        self.host.reboots = reboots;
        self.set_wall(wall_ms);
        let mut rules = HostRules {
            limits,
            alerts,
            max_checks,
            shutdown_timeout,
        };
        let mut yielded = Vec::new();
        if let Some(left) = left {
            if let Some(before) = left.settings() {
                rules = before.rules.clone();
            }
            yielded = self.take_up_reload(*left, &mut definitions);
        }
        self.shutdown_timeout = rules.shutdown_timeout;
        self.slots.most = rules.max_checks;
        self.watch_host(watchdogs, guard);
        self.take_up_storm(rules.limits, storm.map(|record| *record));
        for loaded in definitions {
            let id = self.add(&loaded.name);
            self.define(id, loaded);
        }
        for record in wanted {
            if record.is_of_a_schedule() && self.find(&record.name).is_none() {
                continue;
            }
            // A name without a definition is remembered too, should it return.
            let id = self.add(&record.name);
            self.recall(id, &record);
            self.service_mut(id).given = record.definition;
        }
        self.give_back(&yielded, "the reload went back");
        self.main = main.map(|name| self.add(&name));
        self.relink();
        self.restore_story(transitions, decisions);
        if let Some(hold) = hold {
            if let Some(until) = hold.until {
                self.timers.set(Key::HOLD_END, until);
            }
            self.hold = Some(hold);
        }
        let mut known = vec![false; self.services.len()];
        let mut found = Vec::new();
        for (snapshot, process) in services {
            let id = self.add(&snapshot.name);
            known.resize(self.services.len(), false);
            known[id.index()] = true;
            // What a definition wants of a service that never ran is asked of it anew.
            let said = |w: &&snapshot::WantedRecord| !w.by.is_empty() || snapshot.number > 0;
            if let Some(record) = snapshot.wanted.as_ref().filter(said) {
                self.recall(id, record);
            }
            found.push((id, snapshot, process));
        }
        self.relink();
        self.take_up_alerts(rules.alerts, alerted);
        let leaving: Vec<(ServiceId, Vec<Box<str>>)> = found
            .iter_mut()
            .map(|(id, s, _)| (*id, std::mem::take(&mut s.leaves_after)))
            .collect();
        let untold = |s: &snapshot::ServiceSnapshot| s.exhausted == Exhausted::Due;
        let adopted: Vec<(ServiceId, bool)> =
            found.iter().map(|(id, s, _)| (*id, untold(s))).collect();
        for (id, snapshot, process) in found {
            self.restore(id, snapshot, process, deaf == Some(true));
        }
        for (id, after) in leaving {
            self.leaves_still(id, &after);
        }
        // Only now: who is judged by what it requires needs that restored as well.
        for (id, untold) in &adopted {
            self.reconsider_restored(*id, *untold);
        }
        for (id, _) in &adopted {
            self.go_on_starting(*id);
        }
        // Before anything is started as it is not to be.
        self.mind_reload();
        for id in self.ids() {
            if self.will(id) == Wanted::Start {
                self.want_requirements(id);
            }
        }
        self.arbitrate();
        self.listen_first(&adopted);
        for id in self.ids() {
            if self.is_left_out(id) {
                continue;
            }
            self.mind_target(id);
            let state = self.service(id).state;
            let fresh = !known[id.index()] || state == State::Inactive;
            let unbroken = state == State::Failed
                && self.service(id).cause == Cause::Config
                && self.obstacle_of_definition(id).is_none();
            if self.service(id).wanted == Wanted::Start && (fresh || unbroken) {
                if self.is_present(id) {
                    self.start(id, Cause::Boot);
                }
            } else if state == State::Blocked && self.will(id) == Wanted::Stop {
                // It waited for the sake of somebody who does not want it any more.
                let words = "nothing wants it".into();
                self.cue(id, crate::service::state::Cue::Stop, Cause::Config, words);
            } else if !self.is_present(id) && state.is_live() && !self.leaves(id) {
                let gone = "its definition is gone".into();
                self.cue(id, crate::service::state::Cue::Stop, Cause::Config, gone);
            }
        }
        self.alerts_go_on();
        for id in self.ids() {
            self.mind_schedule(id);
        }
        self.greet_host();
    }

    /// What a service that is wanted requires and wants is wanted too, unless an operator said no.
    pub(super) fn want_requirements(&mut self, id: ServiceId) {
        for other in self.graph.started_with(id) {
            let rival = self.wanted_rival(other);
            let service = self.service_mut(other);
            let unsaid = service.wanted_by.is_empty() && rival.is_none();
            if service.wanted == Wanted::Stop && unsaid {
                service.wanted = Wanted::Start;
            }
        }
    }

    /// The slot of this name, new or known.
    pub(super) fn add(&mut self, name: &str) -> ServiceId {
        if let Some(id) = self.find(name) {
            return id;
        }
        let id = ServiceId(self.services.len() as u32);
        let name: Rc<str> = name.into();
        let unit = self.timers.service_unit(id);
        self.names.insert(name.clone(), id);
        self.services.push(Service {
            name,
            source: "".into(),
            definition: None,
            given: None,
            problem: None,
            wanted: Wanted::Stop,
            wanted_by: "".into(),
            wanted_at_ms: 0,
            once: false,
            at_boot: None,
            pinned: false,
            state: State::Inactive,
            cause: Cause::Boot,
            since: self.now,
            number: 0,
            run: None,
            attempts: 0,
            uncured: 0,
            exhausted: Exhausted::No,
            last_end: None,
            dossier: None,
            trouble: "".into(),
            restarting: false,
            backoff_until: None,
            respawns: 0,
            standing: None,
            cure: None,
            place: None,
            shadow: table::Shadow::default(),
            asked_until: None,
            unit,
            watchdog_unit: None,
            stored: None,
            sockets: super::table::Sockets::Closed,
            probe_units: Box::new([]),
            timed: super::table::Timed::default(),
            transitions: VecDeque::new(),
            decisions: VecDeque::new(),
            dirty: false,
        });
        id
    }

    /// A name's first definition, or its first good one.
    pub(super) fn define(&mut self, id: ServiceId, loaded: Loaded) {
        let service = self.service_mut(id);
        service.source = loaded.source;
        match loaded.definition {
            Ok(definition) => {
                service.problem = None;
                let first = service.number == 0;
                if service.wanted_by.is_empty() && (definition.autostart || first) {
                    service.wanted = match definition.autostart {
                        true => Wanted::Start,
                        false => Wanted::Stop,
                    };
                }
                service.definition = Some(definition);
                self.allot_probes(id);
            }
            Err(problem) => {
                service.problem = Some(problem);
                if service.wanted_by.is_empty() {
                    service.wanted = Wanted::Start;
                }
            }
        }
    }

    /// Timers for the probes of the definition in force.
    pub(super) fn allot_probes(&mut self, id: ServiceId) {
        for unit in std::mem::take(&mut self.service_mut(id).probe_units) {
            self.timers.release(unit);
        }
        let count = self
            .service(id)
            .definition
            .as_ref()
            .map_or(0, |d| d.probes.len());
        let units = (0..count as u16)
            .map(|probe| self.timers.probe_unit(id, probe))
            .collect();
        self.service_mut(id).probe_units = units;
    }

    fn recall(&mut self, id: ServiceId, record: &snapshot::WantedRecord) {
        let Some(wanted) = Wanted::parse(&record.wanted) else {
            return;
        };
        let service = self.service_mut(id);
        service.timed.since_ms = service.timed.since_ms.or(record.since_ms);
        if record.is_of_a_schedule() {
            return;
        }
        service.wanted = wanted;
        service.wanted_by = record.by.clone();
        service.wanted_at_ms = record.at_wall_ms;
        service.pinned = record.pinned;
    }
}

/// For a process whose definition is gone: enough to stop it.
pub(super) fn fallback_definition() -> Definition {
    Definition {
        description: None,
        exec: Box::new([]),
        kind: Kind::Process,
        pid_file: None,
        after: Box::new([]),
        requires: Box::new([]),
        wants: Box::new([]),
        ties: None,
        process: Process::default(),
        stop_signal: Signal::TERM,
        stop_timeout: Duration::from_secs(10),
        health_stop_timeout: None,
        start_timeout: None,
        restart: Restart::Never,
        autostart: false,
        schedule: None,
        critical: false,
        observe: false,
        safe: false,
        kill_mode: KillMode::Tree,
        hooks: Box::default(),
        retry_policy: RetryPolicy {
            max_attempts: Some(0),
            delay: Duration::from_secs(1),
            backoff: Backoff::Fixed,
            max_delay: Duration::from_secs(1),
            jitter: 0.0,
            stability_period: Duration::from_secs(30),
            on_exhausted: OnExhausted::Keep,
            on_exhausted_exec: None,
            escalate: None,
        },
        notify: None,
        held: None,
        log: None,
        probes: Box::new([]),
        probes_required: None,
    }
}
