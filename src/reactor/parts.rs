//! What the loop is made of: who is behind a token, and what the daemon prepares for it.
//!
//! Names and fields, nothing that happens.

use crate::control::access::Rights;
use crate::control::power::Ending;
use crate::control::session::Carried;
use crate::engine::Engine;
use crate::id::ServiceId;
use crate::journal::lock::Lock;
use crate::journal::runtime::{Identity, Runtime};
use crate::reactor::cgroup::Cgroups;
use crate::reactor::dial::Dial;
use crate::reactor::logs::LogDir;
use crate::reactor::signals::Signals;
use crate::reactor::spawn::Spawner;
use crate::reactor::{known, listener, policy, scribe, settings, voice};
use mio::Poll;
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Who is behind a token.
pub(super) enum Source {
    Signals,
    Scribe,
    Listener,
    Client(u32),
    /// The pidfd of a service's process.
    Process(ServiceId),
    /// Its close-on-exec pipe.
    Exec(ServiceId),
    /// The pidfd of a command around a run.
    Hook(ServiceId),
    /// Its pipes; the first's timer: what its rate limit dropped is to be said.
    Log(ServiceId),
    /// The pidfd of its logger; its timer: another is to be started, or it takes too long to end.
    Logger(ServiceId),
    /// Its notify socket, or its notification descriptor.
    Notify(ServiceId),
    /// Descriptors that are kept for it.
    Stored(ServiceId),
    /// Its listening sockets, while it rests.
    Socket(ServiceId),
    Dial(Box<Dial>),
    /// An idle connection of a probe with `keep_alive`: of whom.
    Kept(ServiceId, u16),
    /// The pidfd of a job, by the job's number.
    JobEnd(u32),
    JobPipe(u32),
    /// Timer only: the runtime journal is tried again.
    Journal,
    /// Readable when the wall clock was set.
    WallClock,
    /// PID 1's rescue shell; its timer: whether another is needed.
    Shell,
}

/// What the loop is made of, as the daemon prepared it.
pub struct Parts {
    pub poll: Poll,
    pub engine: Engine,
    pub spawner: Spawner,
    pub settings: settings::Kept,
    /// Who is told of trouble.
    pub alerts: Box<[crate::config::alerts::Alert]>,
    pub cgroups: Cgroups,
    pub signals: Signals,
    pub runtime: Runtime,
    pub scribe_options: scribe::Options,
    /// All is recorded, in so many bytes.
    pub record_bytes: Option<u64>,
    pub log_dir: LogDir,
    /// What becomes of output, where a definition does not say.
    pub log_defaults: crate::config::Log,
    pub listener: listener::Listener,
    pub rights: Rights,
    pub config_dir: PathBuf,
    pub state_dir: PathBuf,
    pub socket: String,
    /// Of the runtime and the state directory: held as long as the loop runs, and handed over.
    pub locks: Locks,
    pub before: Before,
    /// What the runtime journal knows this boot by.
    pub identity: Identity,
    pub voice_dir: voice::VoiceDir,
    /// What services spoke to it by, and left with it.
    pub heard: BTreeMap<String, known::Heard>,
    pub life: Life,
    pub simulate: policy::Simulate,
}

/// The directories' locks.
#[derive(Debug)]
pub struct Locks {
    pub runtime: Lock,
    /// None: the directory cannot be written.
    pub state: Option<Lock>,
}

/// What an execution of this process before us had open and we go on with.
#[derive(Debug, Default)]
pub struct Before {
    /// Services whose log pipes it read: they stay open until we have opened them by their names.
    pub logs: Vec<String>,
    /// The pipes of children that had not told of their set-up, by process id.
    pub execs: BTreeMap<i32, RawFd>,
    pub clients: Vec<Carried>,
}

/// How this daemon came to be, as `info` tells.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Life {
    /// It took the place of another execution of its process; how.
    pub began: Option<String>,
    /// It is the program of before again, because the one that was to take its place failed.
    pub failed: bool,
    /// It panicked too often and does without probes; why.
    pub reduced: Option<String>,
    /// The execution before was stopping all services, and what was to come then.
    pub shutting_down: bool,
    pub ending: Ending,
    /// Its rescue shell.
    pub shell: Option<i32>,
}

/// Whose a child is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Child {
    Service,
    Job,
}
