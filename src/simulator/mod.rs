//! A world of virtual time around the production engine: the same door, a fake kernel behind it.
//!
//! Time moves only when it is told to, from one due thing to the next, so that a day takes
//! milliseconds and equal scripts give equal transcripts. Not here: any decision.
//!
//! - [`kernel`](self): processes and sockets; `store`: what outlives the daemon.
//! - `script`: worlds in words, for scenarios; `transcript`: what happened, in words.
//! - [`plan`]: a world by seed: services, faults, operators; [`course`] runs it: first all that may
//!   go wrong, then everything made well, and the demand that all services are well again, and
//!   at last `calm`, in which nobody may be touched; [`shrink`] makes a failing plan small.
//! - [`forecast`]: what a policy would do, or would have done.
//! - `mischief`: what goes wrong between the engine and the world; `watcher`: the promises, checked
//!   from the outside after each event, against a model of its own.
//!
//! Invariants: events reach the engine as the real loop would hand them in (turn, I/O, timers);
//! the journal is what the engine recorded, and nothing else survives a daemon's death.

mod calm;
pub mod course;
mod doom;
mod evidence;
pub mod forecast;
mod forking;
mod hooks;
mod instances;
mod kernel;
mod late;
mod lives;
mod lot;
mod mischief;
pub mod plan;
mod pressure;
mod receiver;
mod script;
mod settings;
pub mod shrink;
mod sockets;
mod store;
mod storm;
mod transcript;
mod watcher;

pub use script::{play, play_in};

use crate::config::alerts::Rule;
use crate::config::templates::{Instance, Templates};
use crate::config::{StormLimits, names};
use crate::engine::instances::known_before;
use crate::engine::snapshot::{ServiceSnapshot, WantedRecord};
use crate::engine::{
    Boot, Command, Effect, Engine, Event, Found, Given, Left, Loaded, Request, Terms,
};
use crate::engine::{BootGuard, Counted, Watchdogs};
use crate::exit::Exit;
use crate::id::{Pid, RunId, ServiceId, Ticket};
use crate::journal::record::Recorder;
use crate::journal::runtime;
use crate::limits;
use crate::time::{Time, Wall};
use doom::{Armed, Doom};
use kernel::{Disk, Happening, Kernel};
use mischief::Mischief;
use std::collections::BTreeMap;
use std::time::Duration;
use store::{Line, Store};
use watcher::Watcher;

/// The world of one scenario.
pub struct World {
    now: Time,
    seed: u64,
    /// None while the daemon is dead.
    engine: Option<Engine>,
    /// A second engine, given the same events: its effects must be the same.
    twin: Option<Engine>,
    twins: bool,
    kernel: Kernel,
    /// What will happen, by time and in the order in which it was caused.
    queue: BTreeMap<(Time, u64), Happening>,
    caused: u64,
    tickets: BTreeMap<Ticket, String>,
    asked: u64,
    definitions: BTreeMap<String, Loaded>,
    templates: Templates,
    store: Store,
    /// What `vitald.toml` says of the daemon's end.
    pub main: Option<Box<str>>,
    pub shutdown_timeout: Option<Duration>,
    pub max_checks: Option<u32>,
    /// Who is to hear regularly that all is well.
    pub watchdogs: Watchdogs,
    pub guard: Option<BootGuard>,
    /// Who is told of trouble.
    pub alerts: Vec<Rule>,
    /// Of restarts for health.
    pub limits: StormLimits,
    /// Why `vitald.toml` cannot be used.
    settings_problem: Option<Box<str>>,
    /// Those that there were first, of which some are chosen.
    all_alerts: Option<Vec<Rule>>,
    /// We are a host's first process, and it may be rebooted so often for a service's sake.
    pub reboots: Option<u32>,
    mischief: Option<Mischief>,
    watcher: Option<Box<Watcher>>,
    /// The next daemon gets the notify sockets of this one.
    hands_over: bool,
    /// Commands that wait for a kind of effect.
    armed: Vec<Armed>,
    /// The daemon dies in the midst of the next effects.
    doom: Option<Doom>,
    events: u64,
    /// What a reader sees, line by line.
    transcript: Vec<String>,
    silent: bool,
    recorder: Option<Recorder>,
    /// A new part begins after so many events; 0: only with a daemon's life.
    events_per_part: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            now: Time::ZERO,
            seed,
            engine: None,
            twin: None,
            twins: false,
            kernel: Kernel::default(),
            queue: BTreeMap::new(),
            caused: 0,
            tickets: BTreeMap::new(),
            asked: 0,
            definitions: BTreeMap::new(),
            templates: Templates::default(),
            store: Store::default(),
            main: None,
            shutdown_timeout: None,
            max_checks: None,
            watchdogs: Watchdogs::default(),
            guard: None,
            alerts: Vec::new(),
            limits: StormLimits::STANDARD,
            settings_problem: None,
            all_alerts: None,
            reboots: None,
            mischief: None,
            watcher: None,
            hands_over: false,
            armed: Vec::new(),
            doom: None,
            events: 0,
            transcript: Vec::new(),
            silent: false,
            recorder: None,
            events_per_part: 0,
        }
    }

    /// From the next boot on all is recorded. A part is what one daemon lived through, or shorter:
    /// `events_per_part`, 0 for no bound.
    pub fn start_recording(&mut self, events_per_part: u64) {
        self.recorder = Some(Recorder::fixed());
        self.events_per_part = events_per_part;
    }

    /// What was recorded so far: a file for `vitald replay`.
    pub fn recording(&mut self) -> Vec<u8> {
        let recorder = self.recorder.as_mut();
        recorder
            .map(|r| std::mem::take(r.buffer()))
            .unwrap_or_default()
    }

    /// The engine, where the daemon lives.
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    pub fn transcript(&self) -> &[String] {
        &self.transcript
    }

    pub fn define(&mut self, loaded: Loaded) {
        self.definitions.insert(loaded.name.to_string(), loaded);
    }

    pub fn undefine(&mut self, name: &str) {
        self.definitions.remove(name);
    }

    /// The files, and what was given over the socket where there is no file.
    fn with_given<'a>(
        &self,
        given: impl Iterator<Item = (&'a str, &'a str)>,
        instances: &[Instance],
    ) -> Vec<Loaded> {
        let mut all = self.definitions.clone();
        for (name, text) in given {
            let source = names::given_source(name, text);
            all.entry(name.to_owned())
                .or_insert_with(|| script::loaded(name, &source, text));
        }
        let mut all = all.into_values().collect();
        self.add_instances(&mut all, instances);
        all
    }

    /// All definitions as they would be read now.
    fn files(&self) -> Vec<Loaded> {
        let known = self.engine.as_ref().map(Engine::instances);
        let given = self.engine.iter().flat_map(Engine::given);
        self.with_given(given, &known.unwrap_or_default())
    }

    /// An operator's `set`, as the control socket hands it on when it can be used.
    pub fn set(&mut self, given: Given) {
        let words = format!("set {}", given.name);
        self.request(&words, Command::Set(Box::new(given)), false);
    }

    pub fn reload(&mut self, terms: Terms) {
        let files = self.files();
        let settings = self.new_settings();
        let terms = Terms {
            by: "root".into(),
            wall_ms: self.wall().wall_ms,
            digest: self.digest(),
            ..terms
        };
        self.asked += 1;
        let ticket = Ticket(self.asked);
        let words = match (terms.dry_run, terms.confirm) {
            (true, _) => "reload --dry-run".to_owned(),
            (false, Some(length)) => format!("reload --confirm {length:?}"),
            (false, None) if terms.strict => "reload --strict".to_owned(),
            (false, None) => "reload".to_owned(),
        };
        self.tickets.insert(ticket, words);
        self.post(
            Duration::ZERO,
            Event::Reloaded {
                ticket: Some(ticket),
                files,
                terms: Some(Box::new(terms)),
                settings,
            },
        );
    }

    fn id(&self, name: &str) -> Result<ServiceId, String> {
        let engine = self.engine.as_ref().ok_or("the daemon is dead")?;
        engine
            .find(name)
            .ok_or_else(|| format!("no service {name}"))
    }

    fn request(&mut self, words: &str, command: Command, wait: bool) {
        self.asked += 1;
        let ticket = Ticket(self.asked);
        self.tickets.insert(ticket, words.to_owned());
        let request = Request {
            ticket,
            actor: "root".into(),
            wall_ms: self.wall().wall_ms,
            wait,
            command,
        };
        self.post(Duration::ZERO, Event::Request(request));
    }

    /// Something will happen, after what is already to happen at that time.
    fn post(&mut self, after: Duration, event: Event) {
        self.happens(after, Happening::Told(event));
    }

    fn happens(&mut self, after: Duration, what: Happening) {
        self.caused += 1;
        self.queue.insert((self.now + after, self.caused), what);
    }

    /// When something will happen by itself.
    fn next_due(&mut self) -> Option<Time> {
        let due = self.queue.keys().next().map(|(at, _)| *at);
        let deadline = self.engine.as_mut().and_then(Engine::deadline);
        [due, deadline].into_iter().flatten().min()
    }

    /// Lets time pass.
    pub fn run_for(&mut self, length: Duration) {
        let end = self.now + length;
        while let Some(at) = self.next_due().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// Moves the clock to the next thing that will happen, without letting it happen.
    fn approach_next(&mut self) {
        if let Some(at) = self.next_due() {
            self.now = self.now.max(at);
        }
    }

    /// Time passes while the loop is not served: what is due is found late, all at once.
    pub fn starve(&mut self, length: Duration) {
        self.now = self.now + length;
        self.step();
    }

    /// One turn of the loop at the present time.
    fn step(&mut self) {
        if let Some(mischief) = &mut self.mischief {
            self.now = self.now + mischief.slow_turn();
        }
        let ready = self.ready();
        self.turn(ready);
    }

    fn ready(&mut self) -> Vec<Happening> {
        let mut ready = Vec::new();
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            ready.push(entry.remove());
        }
        ready
    }

    fn turn(&mut self, mut ready: Vec<Happening>) {
        self.handle(Event::Turn);
        // An effect may be answered within the turn, as the real loop does for a failed fork.
        for _ in 0..1000 {
            for happening in ready.drain(..) {
                self.happen(happening);
            }
            ready = self.ready();
            if ready.is_empty() {
                self.handle(Event::Timers);
                ready = self.ready();
            }
            if ready.is_empty() {
                self.end_turn();
                return;
            }
        }
        self.breach("a turn of the loop does not end".to_owned());
    }

    fn end_turn(&mut self) {
        let Some(engine) = self.engine.as_mut() else {
            return;
        };
        self.store.compact(engine);
        let due = engine.deadline();
        if let (Some(due), Some(watcher)) = (due, self.watcher.as_mut()) {
            watcher.turn_ended(self.now, due);
        }
    }

    fn breach(&mut self, words: String) {
        if let Some(watcher) = &mut self.watcher {
            watcher.breach(self.now, words);
        }
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Told(event) => self.handle(event),
            Happening::Ghost(event) => {
                let dead = self.watcher.as_ref().is_some_and(|w| w.is_stale(&event));
                if dead {
                    self.handle(event);
                }
            }
            Happening::Boots => {
                let event = self.revive();
                let mut commanded = Vec::new();
                if let Event::Boot(boot) = &event {
                    let known = boot.services.iter().map(|(snapshot, _)| snapshot);
                    let live = |s: &&ServiceSnapshot| {
                        s.run.as_ref().is_some_and(|run| run.hooks.live.is_some())
                    };
                    commanded.extend(known.filter(live).cloned());
                }
                self.handle(event);
                self.find_hooks(&commanded);
                self.find_sockets();
            }
            Happening::HookDies {
                service,
                number,
                hook,
                exit,
            } => {
                if !self.kernel.end_hook(&service, number, hook, exit) {
                    return;
                }
                let known = self.engine.as_ref().and_then(|e| e.find(&service));
                if let Some(service) = known {
                    let run = RunId { service, number };
                    let event = hooks::ended(run, hook, exit, None);
                    self.answers(vec![(Duration::ZERO, Happening::Told(event))]);
                }
            }
            Happening::Says {
                service,
                number,
                pid,
            } => self.says(service, number, pid),
            Happening::Forks { service, number } => {
                let known = self.engine.as_ref().and_then(|e| e.find(&service));
                if let (true, Some(id)) = (self.kernel.forks(&service, number), known) {
                    let event = Event::Exited {
                        run: RunId {
                            service: id,
                            number,
                        },
                        exit: Exit::Code(0),
                        tree_gone: false,
                    };
                    self.answers(vec![(Duration::ZERO, Happening::Told(event))]);
                }
            }
            Happening::Dies {
                service,
                number,
                exit,
            } => {
                let stuck = self.kernel.stuck_until(&service, number);
                if stuck > self.now {
                    let after = stuck.since(self.now);
                    return self.happens(after, kernel::dies(&service, number, exit));
                }
                let Some(leaves) = self.kernel.end(&service, number, exit) else {
                    return;
                };
                if self.kernel.is_unwatched(&service, number) {
                    return;
                }
                let known = self.engine.as_ref().and_then(|e| e.find(&service));
                let hungry = self.kernel.is_hungry(&service, exit);
                if let Some(service) = known {
                    let run = RunId { service, number };
                    let oom = hungry.then_some(Event::OutOfMemory { run, kills: 1 });
                    let end = Event::Exited {
                        run,
                        exit,
                        tree_gone: !leaves,
                    };
                    for event in oom.into_iter().chain([end]) {
                        match self.mischief.is_some() {
                            true => self.answers(vec![(Duration::ZERO, Happening::Told(event))]),
                            false => self.handle(event),
                        }
                    }
                }
            }
        }
    }

    /// A process says what it has to say, to whoever hears it, and goes on doing so.
    fn says(&mut self, service: String, number: u32, pid: Pid) {
        let Some((says, again)) = self.kernel.says(self.now, &service, number, pid) else {
            return;
        };
        let known = self.engine.as_ref().and_then(|e| e.find(&service));
        if let (Some(id), false) = (known, says.is_empty()) {
            let run = RunId {
                service: id,
                number,
            };
            let event = Event::Notified { run, says };
            self.answers(vec![(Duration::ZERO, Happening::Told(event))]);
        }
        if let Some(after) = again {
            let what = Happening::Says {
                service,
                number,
                pid,
            };
            self.happens(after, what);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Record(record) => self.store.record(record),
            Effect::Remember { seq, wanted } => {
                self.write(seq, Line::Wanted(wanted));
            }
            Effect::Keep { seq, reload } => self.write(seq, Line::Reload(reload)),
            Effect::Answer { ticket, .. } => {
                self.tickets.remove(&ticket);
            }
            Effect::Exit { .. } => {
                self.daemon_dies();
                if self.mischief.is_some() {
                    self.happens(Duration::from_secs(5), Happening::Boots);
                }
            }
            Effect::Forget { service } => {
                if let Some(engine) = &self.engine {
                    self.kernel.unlisten(engine.name(service));
                }
            }
            Effect::Unstore { .. }
            | Effect::RemoveDirectories { .. }
            | Effect::FeedWatchdog
            | Effect::TellAlive
            | Effect::Reboot
            | Effect::RevertSettings
            | Effect::BootWell => {}
            Effect::CountReboot { service } => {
                let left = self.reboots.unwrap_or_default();
                let counted = match left {
                    0 => Counted::TooMany,
                    _ => Counted::Yes,
                };
                self.reboots = Some(left.saturating_sub(1));
                let event = Event::RebootCounted { service, counted };
                self.post(Duration::from_millis(5), event);
            }
            Effect::CheckExpired { .. }
            | Effect::EvidenceOver { .. }
            | Effect::Look { .. }
            | Effect::AlertExpired { .. } => {
                // It answers at once with what there is; nothing is late or lost about it.
                let Some(engine) = self.engine.as_ref() else {
                    return;
                };
                for (after, what) in self.kernel.perform(self.now, engine, effect) {
                    self.happens(after, what);
                }
            }
            Effect::Spawn { run, .. } if self.fails(run) => {}
            Effect::Spawn { .. }
            | Effect::Signal { .. }
            | Effect::Hook { .. }
            | Effect::HookSignal { .. }
            | Effect::EndTree { .. }
            | Effect::KillTree { .. }
            | Effect::FindMain { .. }
            | Effect::CollectEvidence { .. }
            | Effect::TellExhausted { .. }
            | Effect::SendAlert { .. }
            | Effect::AskDue { .. }
            | Effect::Listen { .. }
            | Effect::Unlisten { .. }
            | Effect::Check { .. }
            | Effect::CheckCancelled { .. } => {
                let Some(engine) = self.engine.as_ref() else {
                    return;
                };
                let answers = self.kernel.perform(self.now, engine, effect);
                self.answers(answers);
            }
        }
    }

    /// Hands a line to the scribe.
    fn write(&mut self, seq: u64, line: Line) {
        let error = self.kernel.disk_error();
        let doubtful = self.kernel.disk == Disk::Unsynced;
        self.store.remember(seq, line, doubtful);
        if let Some(after) = self.kernel.disk_takes() {
            self.post(after, Event::Durable { seq, error });
        }
    }

    /// What the scribe could not write it tries again, a second later at first.
    fn retry_writing(&mut self) {
        let waiting = self.store.unwritten().filter(|_| self.engine.is_some());
        if let (Disk::Good, Some(seq)) = (&self.kernel.disk, waiting) {
            let error = None;
            self.post(limits::WRITE_RETRY, Event::Durable { seq, error });
        }
    }

    fn wall(&self) -> Wall {
        Wall {
            now: self.now,
            wall_ms: self.now.as_millis() + self.kernel.wall_ahead_ms,
        }
    }
}
