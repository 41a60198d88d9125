//! What can happen to the engine. Everything it knows of the world came through here.

use crate::config::alerts::Rule;
use crate::config::{Definition, StormLimits};
use crate::engine::Sought;
use crate::engine::alerts::AlertRecord;
use crate::engine::hooks::HookEnd;
use crate::engine::snapshot::{HoldRecord, ReloadRecord, ServiceSnapshot, WantedRecord};
use crate::engine::storm::StormRecord;
use crate::engine::story::{Decision, Transition};
use crate::engine::{BootGuard, Counted, Due, NewSettings, SettingsBefore, Watchdogs};
use crate::exit::{Exit, Signal, errno_words};
use crate::id::{CheckId, Pid, RunId, ServiceId, Ticket};
use crate::probe::Report;
use crate::service::doubt::Strain;
use crate::service::hook::Hook;
use crate::service::notify::Notice;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The first of the daemon's life: all it knows.
    Boot(Box<Boot>),
    /// A turn of the loop begins: its lateness is found here. First of its turn.
    Turn,
    /// All ready I/O of this turn was handed in: fire what is due. Last of its turn.
    Timers,
    /// The machine slept for this long (monotonic time stood still).
    Resumed(Duration),
    /// The wall clock was set: milliseconds since 1970.
    ClockSet(u64),

    /// The process exists; its program is not yet executed.
    Spawned { run: RunId, pid: Pid, started: u64 },
    /// The program runs (the close-on-exec pipe closed without a word).
    Executed { run: RunId },
    /// Nothing runs, or it ended before its program ran. Comes instead of `Executed` and `Exited`.
    SpawnFailed { run: RunId, error: SpawnError },
    /// The kernel has killed so many of the run's processes for want of memory. Comes before the end
    /// that it led to.
    OutOfMemory { run: RunId, kills: u64 },
    /// The main process was reaped. `tree_gone`: nothing else of the run was seen to live.
    Exited {
        run: RunId,
        exit: Exit,
        tree_gone: bool,
    },
    /// The answer to `FindMain`.
    MainSought { run: RunId, sought: Sought },
    /// The answer to `EndTree`: `left` processes could not be ended (D state).
    TreeEnded { run: RunId, left: u32 },

    /// What a run's process said on its notify socket, or its notification descriptor.
    Notified { run: RunId, says: Box<[Notice]> },
    /// The answer to `Listen`; also when the sockets of a living run were had back, or not.
    Listening {
        service: ServiceId,
        /// Somebody waits already.
        waits: bool,
        error: Option<SpawnError>,
    },
    /// Somebody came to a socket that is watched, or sent a datagram to it; it is no longer watched.
    Connected { service: ServiceId, socket: u16 },
    /// So many descriptors are kept for it now.
    Stored { service: ServiceId, held: u16 },
    /// The command's process exists.
    HookSpawned {
        run: RunId,
        hook: Hook,
        pid: Pid,
        started: u64,
    },
    /// It ended, or was never executed.
    HookEnded {
        run: RunId,
        hook: Hook,
        end: HookEnd,
    },

    /// The answer to `CollectEvidence`. None: nothing could be collected.
    EvidenceDone {
        run: RunId,
        dossier: Option<Box<Gathered>>,
    },

    /// The answer to `CountReboot`.
    RebootCounted {
        service: ServiceId,
        counted: Counted,
    },
    /// The answer to `AskDue`.
    Due { service: ServiceId, due: Due },
    /// The answer to `TellExhausted`.
    ExhaustedTold { service: ServiceId },

    /// The answer to `SendAlert`; None: it was taken.
    AlertSent {
        number: u64,
        error: Option<Box<str>>,
    },
    /// How the host is, since something of this run was late: before the answer to `CheckExpired`, if
    /// the kernel tells, and the answer to `Look`.
    Looked { run: RunId, strain: Strain },

    /// The answer to `Check`; also, at once, to `CheckExpired`.
    ProbeFinished { check: CheckId, report: Report },

    /// An operator asks.
    Request(Request),
    /// The scribe wrote and synced all `Remember`s up to `seq`; or says why not.
    Durable { seq: u64, error: Option<Box<str>> },
    /// Definitions were read anew: all there are now.
    Reloaded {
        ticket: Option<Ticket>,
        files: Vec<Loaded>,
        /// None: as they are, for good.
        terms: Option<Box<Terms>>,
        /// None: those of the daemon are as they were.
        settings: Option<Box<NewSettings>>,
    },
}

/// A dossier that is being written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gathered {
    /// By what it is found.
    pub id: Box<str>,
    /// What the service was stuck on, in a line.
    pub summary: Box<str>,
}

/// How a reload is meant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Only say what would be done.
    pub dry_run: bool,
    /// All or nothing: no file may be broken.
    pub strict: bool,
    /// What was in force comes back after so long, unless the operator confirms. Strict, too.
    pub confirm: Option<Duration>,
    /// Who asks, when (milliseconds since 1970).
    pub by: Box<str>,
    pub wall_ms: u64,
    /// Tells the files that were read from others.
    pub digest: u64,
}

/// All that is known when the daemon starts.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Boot {
    pub definitions: Vec<Loaded>,
    /// From the state directory.
    pub wanted: Vec<WantedRecord>,
    /// From the runtime journal of the same boot; empty at a boot.
    pub services: Vec<(ServiceSnapshot, Found)>,
    /// The story so far, oldest first.
    pub transitions: Vec<Transition>,
    pub decisions: Vec<Decision>,
    pub hold: Option<HoldRecord>,
    /// Wall clock now, milliseconds since 1970.
    pub wall_ms: u64,
    /// Notify sockets were not handed over: what was said meanwhile is lost. None: they were.
    pub deaf: Option<bool>,
    /// The service whose end for good is the daemon's, and whose exit code is.
    pub main: Option<Box<str>>,
    /// How long all services together may take to stop at the daemon's end; None: as long as they
    /// are allowed each by itself.
    pub shutdown_timeout: Option<Duration>,
    /// How many checks may be under way at once; None: any number.
    pub max_checks: Option<u32>,
    /// A reload that a daemon before this one did not finish.
    pub left: Option<Box<Left>>,
    /// Who is to hear regularly that all is well.
    pub watchdogs: Watchdogs,
    /// None: boots are not counted, or this one is known to be well.
    pub guard: Option<BootGuard>,
    /// Who is told of trouble; and what of that a daemon before this one left.
    pub alerts: Vec<Rule>,
    pub alerted: Vec<AlertRecord>,
    /// How many restarts for health there may be.
    pub limits: StormLimits,
    /// Who had some, and what came of them.
    pub storm: Option<Box<StormRecord>>,
    /// The host may be rebooted for a service's sake.
    pub reboots: bool,
}

/// A reload that waits to be confirmed, or went back, as it was left.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Left {
    /// None: it is over, and only the state directory does not know yet.
    pub record: Option<ReloadRecord>,
    /// It was left in this boot; else its times mean nothing.
    pub same_boot: bool,
    /// The files are those that it read.
    pub same_files: bool,
}

impl Left {
    /// The settings that are in force in place of `vitald.toml`, because the reload went back.
    pub fn settings(&self) -> Option<&SettingsBefore> {
        let record = self.record.as_ref()?;
        let back = match self.same_boot {
            true => !record.is_open(),
            false => self.same_files,
        };
        record.settings.as_deref().filter(|_| back)
    }

    /// A service of this name comes back with it.
    pub fn has_before(&self, name: &str) -> bool {
        let before = self.record.iter().flat_map(|record| &record.before);
        let mut defined = before.filter(|before| before.definition.is_some());
        defined.any(|before| *before.name == *name)
    }
}

/// What was found of a journalled run's process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// No process was expected, or none is there and how it ended is not known.
    Gone,
    /// It lives (same pid and start time) and is watched again.
    Alive { pid: Pid, started: u64 },
    /// It ended, and the kernel tells how.
    Ended(Exit),
}

/// One definition file's content.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    pub name: Box<str>,
    /// Where it stands, for messages: `services/web.toml`.
    pub source: Box<str>,
    pub definition: Result<Rc<Definition>, Box<str>>,
}

/// Why a process could not be made to run its program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpawnError {
    /// What was being done: `fork`, `working_dir /srv/web`, `user www`, `exec /usr/bin/web` …
    pub step: Box<str>,
    /// 0: no system call failed, the step says what is wrong (`user www: not in /etc/passwd …`).
    pub errno: i32,
    /// Our own want of something (EAGAIN, ENOMEM, EMFILE …): no attempt is spent.
    pub ours: bool,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.errno == 0 {
            return f.write_str(&self.step);
        }
        write!(f, "{}: {}", self.step, errno_words(self.errno))
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    pub ticket: Ticket,
    /// Who asks: `root`, `uid 1000`; shown and recorded.
    pub actor: Box<str>,
    /// Wall clock, milliseconds since 1970, for records only.
    pub wall_ms: u64,
    /// Answer when the verb's work has ended, not when it is accepted.
    pub wait: bool,
    pub command: Command,
}

/// A definition from an operator, not from a file: a service is defined, or defined anew.
#[derive(Clone, PartialEq, Debug)]
pub struct Given {
    pub name: Box<str>,
    /// What it is called in messages: `set/web.toml`.
    pub source: Box<str>,
    pub definition: Definition,
    /// What it was read from.
    pub text: Box<str>,
}

/// A definition that can be used.
#[derive(Clone, PartialEq, Debug)]
pub struct Defined {
    pub name: Box<str>,
    pub source: Box<str>,
    pub definition: Definition,
}

impl From<Defined> for Loaded {
    fn from(defined: Defined) -> Loaded {
        Loaded {
            name: defined.name,
            source: defined.source,
            definition: Ok(Rc::new(defined.definition)),
        }
    }
}

/// An instance of a template that an operator named.
#[derive(Clone, PartialEq, Debug)]
pub struct NewInstance {
    pub name: Box<str>,
    /// It, and instances that it needs and that are not there.
    pub files: Vec<Defined>,
    /// One run, which none follows.
    pub once: bool,
    pub with_requires: bool,
    pub pin: bool,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    Start {
        service: ServiceId,
        with_requires: bool,
    },
    /// The same, and a pin.
    StartPinned {
        service: ServiceId,
        with_requires: bool,
    },
    Stop {
        service: ServiceId,
    },
    /// Until the next boot.
    StopForNow {
        service: ServiceId,
    },
    /// One run, which none follows.
    Once {
        service: ServiceId,
    },
    Restart {
        service: ServiceId,
    },
    Reset {
        service: ServiceId,
    },
    /// Only a word about itself changes what is wanted of it.
    Pin {
        service: ServiceId,
    },
    Unpin {
        service: ServiceId,
    },
    /// Make it read its own configuration anew.
    Reload {
        service: ServiceId,
    },
    Signal {
        service: ServiceId,
        signal: Signal,
    },
    /// Ask one probe, or all, now; nothing is moved.
    ProbeRun {
        service: ServiceId,
        probe: Option<u16>,
    },
    Set(Box<Given>),
    /// Define an instance of a template, and start it.
    Instance(Box<NewInstance>),
    /// Stop a service that was defined so, and forget it.
    Delete {
        service: ServiceId,
    },
    Hold {
        length: Option<Duration>,
    },
    Release,
    /// Send alerts, to see whether they arrive.
    AlertTest {
        name: Option<Box<str>>,
    },
    /// The last reload stays.
    Confirm,
    /// What was in force before it comes back.
    Revert,
    /// `keep`: leave the services running.
    Shutdown {
        keep: bool,
    },
}
