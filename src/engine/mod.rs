//! The engine: all that decides, behind one door, [`Engine::handle`].
//!
//! It takes the time and an event, and appends effects. It never reads a clock, never calls the
//! system, never learns what an effect led to but by another event. So the real loop, the
//! simulator and a replay drive the same code.
//!
//! Invariants:
//! - the same seed and events give the same effects, in the same order;
//! - the records of what changed stand before the effects of the same event;
//! - what carries an old run's or check's id is dropped and counted.
//!
//! Parts: [`table`] what is kept; `lifecycle` the moves of a service, done by `begin`, `ending`,
//! `aftermath`; `evidence` before a stop for its health; `hooks` the commands around a run; `notify` what it says of itself; `sockets` what
//! is held for it; `checks` asking probes; `forking` the main process of daemons that fork;
//! `targets` groups; `judgement` the gate and its deferrals, `needs` what is required and asked
//! first, `storm` the host-wide limit, `ladder` what follows when restarts do not cure; `settle`
//! dependencies, `links` who needs whom, `conflicts`, `follow`, `pins`, `relations` what is shown of
//! them; `operator` requests, `answers` and `manual` what they wait for, `passing` what is wanted for
//! now; `boot` the first event, `schedule` who is started when it is due, `restore` what the daemon
//! before left; `reload` new definitions, `plan` what comes of them, `provisional` until they are
//! confirmed, `settings` of the daemon, `leaving` whose are gone, `instances` of templates; `shutdown`; `alerts` who is told of
//! what; `host` its watchdog and its boots, `reboots` for a service's sake; `doubt` of what comes
//! late; `query` what is shown, `outlook` what comes next, `chain` whose trouble it is; `plain` all of
//! it, written down and read back.

mod aftermath;
pub mod alerts;
mod answers;
mod begin;
mod boot;
mod chain;
mod checks;
pub mod code;
mod conflicts;
mod doubt;
pub mod effect;
mod ending;
pub mod event;
mod evidence;
mod follow;
mod forking;
mod given;
pub mod hooks;
pub mod host;
pub mod instances;
mod judgement;
mod ladder;
mod leaving;
mod lifecycle;
pub mod links;
mod manual;
mod needs;
mod notify;
mod observe;
mod operator;
mod outlook;
mod passing;
mod pins;
pub mod plain;
pub mod plan;
mod provisional;
pub mod query;
mod reboots;
mod relations;
mod reload;
mod restore;
mod schedule;
pub mod settings;
mod settle;
mod shutdown;
mod slots;
pub mod snapshot;
mod sockets;
pub mod status;
pub mod storm;
pub mod story;
pub mod table;
mod targets;
pub mod timers;

pub use effect::{Accepted, Answer, Effect, Record, Refusal};
pub use event::{
    Boot, Command, Defined, Event, Found, Gathered, Given, Left, Loaded, NewInstance, Request,
    SpawnError, Terms,
};
pub use forking::Sought;
pub use hooks::HookEnd;
pub use host::{BootGuard, Watchdogs};
pub use reboots::Counted;
pub use schedule::Due;
pub use settings::{HostRules, NewSettings, SettingsBefore};

use crate::graph::Graph;
use crate::id::{RunId, ServiceId, Ticket};
use crate::limits;
use crate::prng::Prng;
use crate::time::{Time, Wall};
use answers::Pending;
use manual::Manual;
use snapshot::{HoldRecord, ReloadRecord};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use story::{Decision, Transition, TransitionKind, Word};
use table::{Queue, Service};
use timers::{Key, Timer, Timers};

/// See the module's text.
pub struct Engine {
    now: Time,
    /// One reading of the wall clock, beside ours.
    wall: Wall,
    booted_at: Time,
    timers: Timers,
    services: Vec<Service>,
    names: BTreeMap<Rc<str>, ServiceId>,
    graph: Graph,
    /// Who must not run beside whom, both ways.
    conflicts: BTreeMap<ServiceId, Vec<ServiceId>>,
    /// Who can never be started as it is defined, and why.
    held_back: BTreeMap<ServiceId, Box<str>>,
    prng: Prng,
    /// Numbers transitions and decisions.
    seq: u64,
    /// Numbers checks.
    serial: u32,
    remember_seq: u64,
    /// That were done.
    reloads: u64,
    lateness: Lateness,
    stale: u64,
    hold: Option<HoldRecord>,
    shutdown: Option<shutdown::Shutdown>,
    main: Option<ServiceId>,
    shutdown_timeout: Option<Duration>,
    pending: Vec<Pending>,
    manual: Vec<Manual>,
    slots: slots::Slots,
    /// Who waits for the end of a `reload_exec`, one at a time for each run.
    reloading: Vec<(RunId, Ticket)>,
    /// It waits to be confirmed, or went back.
    reload: Option<Rc<ReloadRecord>>,
    reload_unit: Option<timers::Unit>,
    /// Whose definitions are gone, and who is to be gone before they are stopped.
    leaving: Vec<(ServiceId, Vec<ServiceId>)>,
    host: host::Host,
    alerts: alerts::Alerts,
    storm: storm::Storm,
    doubts: doubt::Doubts,
    /// Stands before all other records of this event.
    pledge: Option<Record>,
    /// Services whose change may free or hold others.
    unsettled: Queue,
    /// What the present event leads to.
    dirty: Vec<ServiceId>,
    records: Vec<Record>,
    effects: Vec<Effect>,
}

/// How late the loop was, in all: a judging timer that saw some of it is extended.
#[derive(Clone, Copy, Debug, Default)]
struct Lateness {
    total: Duration,
    turns: u64,
    longest: Duration,
}

impl Engine {
    /// `seed` is for jitter only.
    pub fn new(now: Time, seed: u64) -> Engine {
        Engine {
            now,
            wall: Wall::default(),
            booted_at: now,
            timers: Timers::new(now),
            services: Vec::new(),
            names: BTreeMap::new(),
            graph: Graph::new(0, []),
            conflicts: BTreeMap::new(),
            held_back: BTreeMap::new(),
            prng: Prng::new(seed),
            seq: 0,
            serial: 0,
            remember_seq: 0,
            reloads: 0,
            lateness: Lateness::default(),
            stale: 0,
            hold: None,
            shutdown: None,
            main: None,
            shutdown_timeout: None,
            pending: Vec::new(),
            manual: Vec::new(),
            slots: slots::Slots::default(),
            reloading: Vec::new(),
            reload: None,
            reload_unit: None,
            leaving: Vec::new(),
            host: host::Host::default(),
            alerts: alerts::Alerts::default(),
            storm: storm::Storm::default(),
            doubts: doubt::Doubts::default(),
            pledge: None,
            unsettled: Queue::default(),
            dirty: Vec::new(),
            records: Vec::new(),
            effects: Vec::new(),
        }
    }

    /// The door. `now` never goes backwards.
    pub fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        self.now = now.max(self.now);
        let idle = matches!(event, Event::Turn);
        let timers = matches!(event, Event::Timers);
        let boots = matches!(event, Event::Boot(_));
        let stale = self.stale;
        match event {
            Event::Boot(boot) => self.boot(*boot),
            Event::Turn => self.turn(),
            Event::Timers if self.is_reload_due() => self.reload_due(),
            Event::Timers => self.timers_due(),
            Event::Resumed(slept) => {
                self.resumed(slept);
                self.wall_slept(slept);
            }
            Event::ClockSet(wall_ms) => self.clock_set(wall_ms),
            Event::Due { service, due } => self.due(service, due),
            Event::Spawned { run, pid, started } => self.spawned(run, pid, started),
            Event::Executed { run } => self.executed(run),
            Event::SpawnFailed { run, error } => self.spawn_failed(run, &error),
            Event::Exited {
                run,
                exit,
                tree_gone,
            } => self.exited(run, exit, tree_gone),
            Event::OutOfMemory { run, kills } => self.out_of_memory(run, kills),
            Event::TreeEnded { run, left } => self.tree_ended(run, left),
            Event::ProbeFinished { check, report } => self.probe_finished(check, report),
            Event::Looked { run, strain } => self.looked(run, strain),
            Event::MainSought { run, sought } => self.main_sought(run, sought),
            Event::Notified { run, says } => self.notified(run, says),
            Event::Listening {
                service,
                waits,
                error,
            } => self.listening(service, waits, error.as_ref()),
            Event::Connected { service, socket } => self.connected(service, socket),
            Event::Stored { service, held } => self.stored(service, held),
            Event::HookSpawned {
                run,
                hook,
                pid,
                started,
            } => self.hook_spawned(run, hook, pid, started),
            Event::HookEnded { run, hook, end } => self.hook_ended(run, hook, end),
            Event::EvidenceDone { run, dossier } => self.evidence_done(run, dossier),
            Event::RebootCounted { service, counted } => self.reboot_counted(service, counted),
            Event::ExhaustedTold { service } => self.exhausted_told(service),
            Event::AlertSent { number, error } => self.alert_sent(number, error),
            Event::Request(request) => self.request(request),
            Event::Durable { seq, error } => self.durable(seq, error),
            Event::Reloaded {
                ticket,
                files,
                terms,
                settings,
            } => self.reloaded(
                ticket,
                files,
                terms.map_or_else(Terms::default, |terms| *terms),
                settings.as_deref(),
            ),
        }
        if self.stale != stale && !boots {
            // What is over moves nothing, not even what is due by the clock: that waits for the
            // timers, before which all is heard that has come.
            return self.flush(effects);
        }
        self.settle();
        self.give_slots();
        self.mind_reload();
        if !idle {
            self.mind_watchdog();
            self.mind_boot();
            self.mind_alerts(timers);
        }
        self.flush(effects);
    }

    /// When the next [`Event::Timers`] is due; None: never.
    pub fn deadline(&mut self) -> Option<Time> {
        self.timers.deadline_of_first()
    }

    pub fn find(&self, name: &str) -> Option<ServiceId> {
        self.names.get(name).copied()
    }

    fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.index()]
    }

    fn service_mut(&mut self, id: ServiceId) -> &mut Service {
        &mut self.services[id.index()]
    }

    /// The stop under way.
    fn stop_mut(&mut self, id: ServiceId) -> Option<&mut table::Stop> {
        let run = self.service_mut(id).run.as_mut()?;
        run.stop.as_mut()
    }

    /// The service whose present run this is; a stranger is counted.
    fn current(&mut self, run: RunId) -> Option<ServiceId> {
        let known = self
            .services
            .get(run.service.index())
            .is_some_and(|s| s.run.as_ref().is_some_and(|r| r.id == run));
        if !known {
            self.stale += 1;
        }
        known.then_some(run.service)
    }

    /// The same of a run whose program has not ended; it may wait for a command yet.
    fn current_alive(&mut self, run: RunId) -> Option<ServiceId> {
        let id = self.current(run)?;
        let known = self.service(id).run.as_ref();
        let alive = known.is_some_and(|run| run.exit.is_none());
        if !alive {
            self.stale += 1;
        }
        alive.then_some(id)
    }

    /// Every slot, whether anything is in it or not.
    pub fn ids(&self) -> impl Iterator<Item = ServiceId> + use<> {
        (0..self.services.len() as u32).map(ServiceId)
    }

    // --- time

    fn turn(&mut self) {
        let Some(due) = self.timers.deadline_of_first() else {
            return;
        };
        let late = self.now.since(due);
        if late > limits::LATENESS_BOUND {
            self.lateness.total += late;
            self.lateness.turns += 1;
            self.lateness.longest = self.lateness.longest.max(late);
        }
    }

    fn timers_due(&mut self) {
        while let Some(timer) = self.timers.pop(self.now) {
            match timer {
                Timer::Lifecycle(id) => self.lifecycle_due(id),
                Timer::Gate(id) => self.gate_due(id),
                Timer::Refund(id) => self.refund_due(id),
                Timer::Watchdog(id) => self.watchdog_due(id),
                Timer::Due(id) => self.schedule_due(id),
                Timer::CheckDue(id, probe) => self.check_due(id, probe),
                Timer::CheckTimeout(id, probe) => self.check_timeout(id, probe),
                Timer::HoldEnd => self.release(),
                Timer::DurableWait => self.durable_wait_over(),
                Timer::Manual => self.manual_due(),
                Timer::Feed => self.feed_due(),
                Timer::BootWell => self.boot_is_well(),
                // To go back is an event of its own; who is to be well by now, or told, or whose turn it
                // is, is seen after this one.
                Timer::Reload | Timer::Alerts | Timer::Storm => {}
            }
            self.settle();
        }
    }

    // --- telling

    fn mark(&mut self, id: ServiceId) {
        let service = &mut self.services[id.index()];
        if !service.dirty {
            service.dirty = true;
            self.dirty.push(id);
        }
    }

    fn tell(
        &mut self,
        id: ServiceId,
        kind: TransitionKind,
        from: &'static str,
        to: &'static str,
        cause: &'static str,
        detail: Box<str>,
    ) {
        self.seq += 1;
        let (seq, at) = (self.seq, self.now);
        let service = &mut self.services[id.index()];
        let transition = Transition {
            seq,
            at,
            service: service.name.clone(),
            run: service.number,
            kind,
            from: Word(from),
            to: Word(to),
            cause: Word(cause),
            detail,
        };
        if service.transitions.len() == limits::HISTORY_PER_SERVICE {
            service.transitions.pop_front();
        }
        service.transitions.push_back(transition.clone());
        self.raise_of(id, &transition);
        self.records.push(Record::Transition(transition));
        self.mark(id);
    }

    fn keep_decision(&mut self, id: ServiceId, decision: Decision) {
        let service = &mut self.services[id.index()];
        if service.decisions.len() == limits::DECISIONS_PER_SERVICE {
            service.decisions.pop_front();
        }
        service.decisions.push_back(decision.clone());
        self.raise_decided(id, &decision);
        self.records.push(Record::Decision(decision));
        self.mark(id);
    }

    /// Records first, so that an intent is journalled before its effect.
    fn flush(&mut self, effects: &mut Vec<Effect>) {
        effects.extend(self.pledge.take().map(Effect::Record));
        // A token is gone before anything is done with it.
        effects.extend(self.record_storm().map(Effect::Record));
        for id in std::mem::take(&mut self.dirty) {
            self.services[id.index()].dirty = false;
            let snapshot = self.snapshot(id);
            effects.push(Effect::Record(Record::Service(Box::new(snapshot))));
        }
        effects.extend(self.records.drain(..).map(Effect::Record));
        effects.append(&mut self.effects);
    }

    fn service_key(&self, id: ServiceId, key: fn(timers::Unit) -> Key) -> Key {
        key(self.service(id).unit)
    }
}
