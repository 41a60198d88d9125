//! The loop: one thread, one `mio::Poll`, over pidfds, pipes, probe sockets, the control socket
//! and the engine's next deadline. It blocks in `poll` and nowhere else.
//!
//! A turn: poll until the engine's deadline; read the clock, once; hand the turn to the engine;
//! serve what is ready, drained to WouldBlock or left at a cap on a ready list that is served in
//! the next turn; then, and only then, the timers. Effects are performed as they come; what they
//! lead to at once is an event of the same turn.
//!
//! Not here: decisions (the engine), protocols (`probe`, `control`), disks (`scribe`, helpers).
//!
//! Invariants: a record is written before the effects that stand behind it; a source is
//! deregistered by closing it, or before that where a child may hold a copy; whatever runs long
//! runs in a child that is seen through its pidfd.

mod alerts;
pub mod boots;
pub mod cgroup;
mod checks;
pub mod child;
mod child_setup;
pub mod clock;
mod confine;
pub mod definitions;
pub mod dial;
mod directories;
mod dossier;
mod env_file;
pub mod evidence;
mod exhausted;
mod forking;
mod front;
pub mod helper;
mod hooks;
pub mod https;
pub mod identity;
pub mod init;
mod jobs;
pub mod known;
mod leaves;
mod listen;
pub mod listener;
mod loggers;
pub mod logs;
mod look;
pub mod messages;
mod notify;
pub mod parent;
mod parts;
mod perform;
mod pid_file;
mod pipes;
pub mod policy;
pub mod procfs;
pub mod program;
pub mod reboots;
mod recording;
mod records;
pub mod reexec;
pub mod rehearsal;
pub mod resolve;
pub mod ring;
mod runs;
pub mod scribe;
pub mod service_log;
mod show_dossiers;
mod show_logs;
pub mod signals;
mod sockets;
mod sources;
pub mod spawn;
mod strain;
pub mod sys;
pub mod tail;
mod templates;
pub mod tree;
mod upgrade;
pub mod voice;
pub mod wall;
pub mod watchdog;

use crate::control::power::Ending;
use crate::engine::{Boot, Command, Effect, Engine, Event, Request, Terms};
use crate::exit::{Exit, Signal};
use crate::id::{Pid, RunId, ServiceId, Ticket};
use crate::journal::runtime::{Identity, Runtime};
use crate::limits;
use crate::time::Time;
use crate::wheel::Wheel;
use clock::Clock;
use dial::{Kept, Scratch};
use front::Front;
use hooks::HookProcess;
pub use hooks::LeftHook;
use jobs::Job;
use leaves::Leaves;
use logs::LogDir;
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
pub use parts::{Before, Life, Locks, Parts};
use parts::{Child, Source};
use resolve::Names;
pub use runs::Adopted;
use runs::Process;
use scribe::Scribe;
use service_log::ServiceLog;
use signals::Signals;
use sources::{Sources, timer_key};
use spawn::Spawner;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use upgrade::Upgrade;

/// A ticket that no client holds: the daemon's own wishes.
const OWN_TICKET: Ticket = Ticket(u64::MAX);
/// Room for effects that is kept from one event to the next.
const EFFECTS_KEPT: usize = 256;
/// Before a dead scribe is replaced.
const SCRIBE_PAUSE: Duration = Duration::from_secs(1);
/// Nothing to do for so long means that all is started, and what only the start needed can go.
const BOOT_QUIET: Duration = Duration::from_secs(1);
/// Before an adopted process that its own parent does not reap is taken for ended.
const UNREAPED_PAUSE: Duration = Duration::from_secs(1);

/// See the module's text.
pub struct Reactor {
    poll: Poll,
    clock: Clock,
    now: Time,
    engine: Engine,
    /// Events that effects led to, to be handled in this turn.
    caused: VecDeque<Event>,
    pub templates: templates::Kept,
    effects: Vec<Effect>,
    sources: Sources<Source>,
    /// The loop's own timers, by source: tries again, never decides.
    wheel: Wheel,
    spawner: Spawner,
    /// In the order in which the engine knows them.
    alerts: Box<[crate::config::alerts::Alert]>,
    signals: Signals,
    runtime: Runtime,
    unflushed: bool,
    scribe: Scribe,
    recording: Option<Box<recording::Recording>>,
    scribe_token: Token,
    journal_token: Token,
    log_dir: LogDir,
    /// Of services whose definitions do not say.
    log_defaults: crate::config::Log,
    loggers: BTreeMap<ServiceId, loggers::Logger>,
    /// By service.
    logs: Vec<Option<Box<ServiceLog>>>,
    /// Pipes that were left with more in them.
    talkative: VecDeque<ServiceId>,
    log_scratch: Box<[u8]>,
    /// Logs that are followed, and up to where their followers were served.
    follows: BTreeMap<ServiceId, ring::Cursor>,
    /// By service: the processes of present runs.
    processes: Vec<Option<Box<Process>>>,
    /// The cgroups of services.
    leaves: Leaves,
    /// The commands around runs that are under way.
    hooks: BTreeMap<ServiceId, HookProcess>,
    /// What is being found out about services that are to be stopped.
    looking: BTreeMap<ServiceId, dossier::Looking>,
    /// Every child of ours that has a pidfd, by pid.
    children: BTreeMap<Pid, Child>,
    /// All that the kernel takes for our children.
    kin: procfs::Children,
    /// Ends of this turn, told when all of them are known.
    ended: Vec<(RunId, Pid, Exit, bool)>,
    orphans_due: bool,
    jobs: BTreeMap<u32, Job>,
    next_job: u32,
    names: Names,
    dials: BTreeMap<(ServiceId, u16, u32), Token>,
    kept: BTreeMap<(ServiceId, u16), Kept>,
    scratch: Scratch,
    front: Front,
    config_dir: PathBuf,
    state_dir: PathBuf,
    socket: String,
    locks: Locks,
    before: Before,
    identity: Identity,
    voice_dir: voice::VoiceDir,
    heard: BTreeMap<String, known::Heard>,
    /// By service.
    voices: Vec<Option<Box<voice::Voice>>>,
    /// By service.
    sockets: Vec<Option<Box<sockets::Sockets>>>,
    /// Who was left with more to say.
    speaking: VecDeque<ServiceId>,
    /// Closed when all that is caused was handled.
    barriers: Vec<OwnedFd>,
    /// Whose main process is another, and may have ended already.
    recheck: Vec<ServiceId>,
    /// Whose process has ended, as its pidfd says; in the order in which they did.
    gone: VecDeque<ServiceId>,
    life: Life,
    simulate: policy::Simulate,
    /// What is to take our place, at the end of the turn.
    upgrade: Option<Upgrade>,
    /// Why what operators want is not on disk, as the scribe told last.
    state_trouble: Option<Box<str>>,
    exit: Option<u8>,
    /// What comes after the exit.
    ending: Ending,
    watchdog: watchdog::Watchdog,
    shell: Option<init::Shell>,
    shell_token: Token,
    shell_due: Time,
    /// None: no schedule needs it.
    wall_timer: Option<OwnedFd>,
}

impl Reactor {
    /// Builds the loop. The scribe is forked here, first, while there is little to share.
    pub fn new(parts: Parts) -> io::Result<Reactor> {
        let mut sources = Sources::default();
        let mut clock = Clock::new();
        let (now, _) = clock.read();
        let scribe_token = sources.insert(Source::Scribe);
        let registry = parts.poll.registry().try_clone()?;
        let scribe = Scribe::start(parts.scribe_options, registry, scribe_token)?;
        let signal_token = sources.insert(Source::Signals);
        let fd = parts.signals.as_fd().as_raw_fd();
        let registry = parts.poll.registry();
        registry.register(&mut SourceFd(&fd), signal_token, Interest::READABLE)?;
        let listener_token = sources.insert(Source::Listener);
        let front = Front::new(parts.listener, parts.rights, listener_token, registry)?;
        let journal_token = sources.insert(Source::Journal);
        let shell_token = sources.insert(Source::Shell);
        Ok(Reactor {
            poll: parts.poll,
            clock,
            now,
            engine: parts.engine,
            caused: VecDeque::new(),
            templates: templates::Kept::default(),
            effects: Vec::new(),
            sources,
            wheel: Wheel::new(now),
            spawner: parts.spawner,
            alerts: parts.alerts,
            signals: parts.signals,
            runtime: parts.runtime,
            unflushed: false,
            scribe,
            recording: parts
                .record_bytes
                .map(|bytes| Box::new(recording::Recording::new(bytes))),
            scribe_token,
            journal_token,
            log_dir: parts.log_dir,
            log_defaults: parts.log_defaults,
            loggers: BTreeMap::new(),
            logs: Vec::new(),
            talkative: VecDeque::new(),
            log_scratch: Box::new([]),
            follows: BTreeMap::new(),
            processes: Vec::new(),
            leaves: Leaves::new(parts.cgroups),
            hooks: BTreeMap::new(),
            looking: BTreeMap::new(),
            children: BTreeMap::new(),
            kin: procfs::Children::default(),
            ended: Vec::new(),
            orphans_due: false,
            jobs: BTreeMap::new(),
            next_job: 0,
            names: Names::default(),
            dials: BTreeMap::new(),
            kept: BTreeMap::new(),
            scratch: Scratch::default(),
            front,
            config_dir: parts.config_dir,
            state_dir: parts.state_dir,
            socket: parts.socket,
            locks: parts.locks,
            before: parts.before,
            identity: parts.identity,
            voice_dir: parts.voice_dir,
            heard: parts.heard,
            voices: Vec::new(),
            sockets: Vec::new(),
            speaking: VecDeque::new(),
            barriers: Vec::new(),
            recheck: Vec::new(),
            gone: VecDeque::new(),
            ending: parts.life.ending,
            watchdog: watchdog::Watchdog::default(),
            shell: None,
            shell_token,
            shell_due: now,
            wall_timer: None,
            life: parts.life,
            simulate: parts.simulate,
            upgrade: None,
            state_trouble: None,
            exit: None,
        })
    }

    /// Runs until the engine asks for the exit; its code.
    pub fn run(
        &mut self,
        boot: Boot,
        adopted: Vec<Adopted>,
        commands: Vec<LeftHook>,
    ) -> io::Result<u8> {
        let mut effects = Vec::new();
        let event = Event::Boot(Box::new(boot));
        self.record_event(&event);
        self.engine.handle(self.now, event, &mut effects);
        self.record_effects(&effects);
        if self.life.shutting_down {
            reexec::ends_in(self.ending);
            let event = Event::Request(self.own(Command::Shutdown { keep: false }));
            let begun = effects.len();
            self.record_event(&event);
            self.engine.handle(self.now, event, &mut effects);
            self.record_effects(&effects[begun..]);
        }
        self.take_in_clients();
        // What lives is watched before anything is done about it.
        self.take_in_voices();
        for process in adopted {
            self.adopt(process);
        }
        for command in commands {
            self.take_up_hook(command);
        }
        self.clear_leaves();
        self.take_in_log_pipes();
        self.take_up_shell(self.life.shell);
        for effect in effects {
            self.perform(effect);
        }
        self.settle();
        self.mind_rescue();
        self.flush_recording();
        self.compact_journal();
        self.taken_over();
        let (mut events, mut booting) = (Events::with_capacity(256), true);
        loop {
            if let Some(code) = self.exit {
                self.flush_records();
                self.front.say_goodbye();
                return Ok(code);
            }
            if self.upgrade.is_some() {
                self.execute_upgrade();
            }
            let mut timeout = self.timeout();
            if booting {
                timeout = Some(timeout.unwrap_or(BOOT_QUIET).min(BOOT_QUIET));
            }
            match self.poll.poll(&mut events, timeout) {
                Ok(()) if booting && events.is_empty() && timeout == Some(BOOT_QUIET) => {
                    booting = false;
                    sys::let_go_of_code();
                    continue;
                }
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.turn(&events);
        }
    }

    /// The last bytes and records to the scribe, for a bounded while.
    pub fn finish(mut self) {
        self.leaves.give_up();
        self.end_loggers();
        if !self.scribe.finish(Duration::from_secs(2)) {
            log::warn!("the scribe did not write everything within 2 s");
        }
    }

    fn timeout(&mut self) -> Option<Duration> {
        if !self.talkative.is_empty()
            || !self.speaking.is_empty()
            || !self.gone.is_empty()
            || self.front.has_work()
            || !self.caused.is_empty()
        {
            return Some(Duration::ZERO);
        }
        let due = [self.engine.deadline(), self.wheel.next()];
        let due = due.into_iter().flatten().min()?;
        let (now, slept) = self.clock.read();
        if let Some(slept) = slept {
            self.caused.push_back(Event::Resumed(slept));
            return Some(Duration::ZERO);
        }
        Some(due.since(now))
    }

    fn turn(&mut self, events: &Events) {
        let (now, slept) = self.clock.read();
        self.now = now;
        self.handle(Event::Turn);
        if let Some(slept) = slept {
            log::info!("the machine slept for {}", crate::time::spoken(slept));
            self.handle(Event::Resumed(slept));
        }
        for event in events {
            self.ready(event);
        }
        self.serve_ready_lists();
        self.own_timers();
        self.settle();
        self.serve_clients();
        self.settle();
        self.handle(Event::Timers);
        self.settle();
        self.serve_clients();
        self.settle();
        self.flush_recording();
        self.mind_journal();
        self.mind_rescue();
    }

    fn ready(&mut self, event: &mio::event::Event) {
        let token = event.token();
        let Some(source) = self.sources.get(token) else {
            return;
        };
        match *source {
            Source::Signals => self.read_signals(),
            Source::Scribe => self.scribe_ready(),
            Source::Listener => self.accept_clients(),
            Source::Client(client) => self.client_ready(client, event),
            Source::Process(id) => self.gone.push_back(id),
            Source::Exec(id) => self.exec_ready(id),
            Source::Hook(id) => self.hook_ready(id),
            Source::Log(id) => self.log_waits(id),
            Source::Logger(id) => self.logger_ready(id),
            Source::Notify(id) => self.hear(id),
            Source::Stored(id) => self.stored_ready(id),
            Source::Socket(id) => self.socket_ready(id),
            Source::Dial(_) => self.dial_ready(token),
            Source::Kept(id, probe) => self.kept_ready(id, probe),
            Source::JobEnd(job) => self.job_ended(job),
            Source::JobPipe(job) => self.job_said(job),
            Source::Journal => {}
            Source::WallClock => self.wall_clock_set(),
            Source::Shell => self.shell_ready(),
        }
    }

    /// One event through the door, and what it leads to.
    fn handle(&mut self, event: Event) {
        let redefines = match &event {
            Event::Reloaded { .. } => true,
            Event::Request(request) => matches!(
                request.command,
                Command::Set(_) | Command::Instance(_) | Command::Revert
            ),
            _ => false,
        };
        let read_for = match &event {
            Event::Reloaded { ticket, .. } => *ticket,
            _ => None,
        };
        let reloads = self.engine.reloads();
        let mut effects = std::mem::take(&mut self.effects);
        self.record_event(&event);
        self.engine.handle(self.now, event, &mut effects);
        self.record_effects(&effects);
        if let Some(ticket) = read_for {
            let done = self.engine.reloads() != reloads;
            self.templates.decided(ticket, done);
        }
        for effect in effects.drain(..) {
            self.perform(effect);
        }
        // A start of a thousand services makes thousands; nothing after it does.
        if effects.capacity() <= EFFECTS_KEPT {
            self.effects = effects;
        }
        if redefines {
            self.hear_all_living();
            self.mind_log_rules();
        }
        let ending = self.engine.is_shutting_down() && self.exit.is_none();
        if ending && reexec::shutting_down() {
            parent::stopping();
        }
    }

    /// Until nothing more follows from what happened.
    fn settle(&mut self) {
        loop {
            // What a process did comes before its end.
            while let Some(event) = self.caused.pop_front() {
                self.handle(event);
            }
            self.barriers.clear();
            for id in std::mem::take(&mut self.recheck) {
                self.process_ready(id);
            }
            if self.ended.is_empty() && self.caused.is_empty() {
                break;
            }
            self.tell_ends();
        }
        self.flush_records();
    }

    // --- signals

    fn read_signals(&mut self) {
        loop {
            match self.signals.read() {
                Ok(Some(caught)) => self.caught(caught.signal),
                Ok(None) => break,
                Err(error) => {
                    log::error!("cannot read signals: {error}");
                    break;
                }
            }
        }
    }

    fn caught(&mut self, signal: Signal) {
        match signal {
            Signal::HUP => {
                log::info!("{signal}: reading the definitions anew");
                self.read_definitions(OWN_TICKET, Terms::default());
            }
            // One for many: whoever ended without a pidfd of ours is looked for below.
            Signal::CHLD => self.orphans_due = true,
            // How tests see a panic; not in a release.
            #[cfg(debug_assertions)]
            Signal::USR2 if std::env::var_os("VITALD_TEST_PANIC").is_some() => {
                panic!("asked to panic by {signal}")
            }
            other => self.end_by_signal(other),
        }
    }

    fn own_request(&mut self, command: Command) {
        let request = self.own(command);
        self.handle(Event::Request(request));
    }

    fn own(&self, command: Command) -> Request {
        Request {
            ticket: OWN_TICKET,
            actor: "a signal".into(),
            wall_ms: self.clock.wall_ms(),
            wait: false,
            command,
        }
    }

    // --- the loop's own timers

    fn own_timers(&mut self) {
        while let Some((key, _)) = self.wheel.pop(self.now) {
            if key == timer_key(self.scribe_token) {
                self.restart_scribe();
            } else if key == timer_key(self.journal_token) {
                self.compact_journal();
            } else if self.front.owns_timer(key) {
                self.accept_clients();
            } else {
                self.source_due(key);
            }
        }
    }

    fn source_due(&mut self, key: u32) {
        let Some(token) = self.sources.token_of(key) else {
            return;
        };
        match self.sources.get(token) {
            Some(Source::Dial(_)) => self.dial_due(token),
            Some(Source::Process(id)) => self.unreaped_due(*id),
            Some(Source::Hook(id)) => self.unreaped_hook_due(*id),
            Some(Source::Log(id)) => self.log_due(*id),
            Some(Source::Logger(id)) => self.logger_due(*id),
            Some(Source::Client(client)) => self.client_due(*client),
            Some(_) | None => {}
        }
    }

    // --- ready lists

    /// What was left at a cap in an earlier turn, or in this one: one share each.
    fn serve_ready_lists(&mut self) {
        debug_assert!(self.talkative.len() <= self.logs.len(), "one entry each");
        for _ in 0..self.talkative.len().min(LOGS_PER_TURN) {
            let Some(id) = self.talkative.pop_front() else {
                break;
            };
            if let Some(Some(log)) = self.logs.get_mut(id.index()) {
                log.queued = false;
            }
            self.drain_log(id);
        }
        self.serve_voices();
        self.serve_gone();
        if std::mem::take(&mut self.orphans_due) {
            self.reap_orphans();
        }
    }

    fn slot<T>(list: &mut Vec<Option<Box<T>>>, id: ServiceId) -> &mut Option<Box<T>> {
        if list.len() <= id.index() {
            list.resize_with(id.index() + 1, || None);
        }
        &mut list[id.index()]
    }

    fn name(&self, id: ServiceId) -> &str {
        self.engine.name(id)
    }

    fn register(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        let fd = fd.as_fd().as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    fn deregister(&self, fd: impl AsFd) {
        // An error means that it was not registered, which is what is wanted.
        let fd = fd.as_fd().as_raw_fd();
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
    }
}

/// What a child process of ours costs nothing to hold: the definition is shared.
type Definition = Rc<crate::config::Definition>;

/// Logs that are drained in one turn; the others are next.
const LOGS_PER_TURN: usize = 8;
/// The share of one service's log in one turn.
const LOG_SHARE: usize = limits::LOG_READ_PER_TURN;
