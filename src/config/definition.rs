//! What a definition holds, after it was read and checked. Plain data.

use crate::config::log::Log;
use crate::config::ties::Ties;
use crate::exit::Signal;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

/// One service as its definition says.
#[derive(Clone, PartialEq, Debug)]
pub struct Definition {
    pub description: Option<Box<str>>,
    /// Program and arguments; empty for a target only.
    pub exec: Box<[Box<str>]>,
    pub kind: Kind,
    /// Where a forking daemon writes the number of its main process.
    pub pid_file: Option<Box<str>>,
    pub after: Box<[Box<str>]>,
    pub requires: Box<[Box<str>]>,
    pub wants: Box<[Box<str>]>,
    /// None: it has none of them.
    pub ties: Option<Box<Ties>>,
    pub process: Process,
    pub stop_signal: Signal,
    pub stop_timeout: Duration,
    /// For a health-driven stop; `stop_timeout` when not given.
    pub health_stop_timeout: Option<Duration>,
    /// None: unlimited (the default of a oneshot).
    pub start_timeout: Option<Duration>,
    pub restart: Restart,
    pub autostart: bool,
    /// The host's watchdog is fed only while it is well or being healed.
    pub critical: bool,
    /// It is started even when only the least is, after boots that failed.
    pub safe: bool,
    pub kill_mode: KillMode,
    pub hooks: Box<Hooks>,
    pub retry_policy: RetryPolicy,
    /// None: it tells us nothing by itself.
    pub notify: Option<Box<Notify>>,
    /// None: no sockets are held for it.
    pub held: Option<Box<Held>>,
    pub probes: Box<[Probe]>,
    /// None: what becomes of its output is what vitald.toml says.
    pub log: Option<Box<Log>>,
}

impl Definition {
    /// By what it is known to be ready.
    pub fn ready(&self) -> Ready {
        self.notify.as_ref().map_or(Ready::Probe, |n| n.ready)
    }

    pub fn notify_access(&self) -> NotifyAccess {
        let notify = self.notify.as_ref();
        notify.map_or(NotifyAccess::None, |n| n.access)
    }

    pub fn watchdog(&self) -> Option<Duration> {
        self.notify.as_ref()?.watchdog
    }

    pub fn fd_store_max(&self) -> u16 {
        self.notify.as_ref().map_or(0, |n| n.fd_store_max)
    }

    /// Held for it, in this order.
    pub fn sockets(&self) -> &[Socket] {
        self.held.as_ref().map_or(&[], |held| &held.sockets)
    }

    pub fn start_on(&self) -> StartOn {
        let held = self.held.as_ref();
        held.map_or(StartOn::Boot, |held| held.start_on)
    }

    pub fn starts_on_connection(&self) -> bool {
        self.start_on() == StartOn::Connection
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Process,
    Oneshot,
    /// Its first process ends when the daemon that it forked is ready.
    Forking,
    /// A group: no process, there when all it requires is.
    Target,
}

/// What is made for a run and removed after it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Directories {
    /// Below /run, or a user's XDG_RUNTIME_DIR.
    pub runtime: Box<[Box<str>]>,
    /// None: 0755.
    pub mode: Option<u32>,
    pub preserve: Preserve,
}

impl Directories {
    /// There are some, and they do not stay for ever.
    pub fn are_passing(&self) -> bool {
        !self.runtime.is_empty() && self.preserve != Preserve::Yes
    }
}

/// How long a runtime directory stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Preserve {
    /// It goes with the run.
    #[default]
    No,
    /// It goes when no run follows.
    Restart,
    Yes,
}

/// Commands in their order, each program and arguments, never empty.
pub type Commands = Box<[Box<[Box<str>]>]>;

/// The commands around a run, and how it is told to read its configuration anew.
#[derive(Clone, PartialEq, Debug)]
pub struct Hooks {
    pub pre_start: Commands,
    /// Of all together, as the other two.
    pub pre_start_timeout: Duration,
    pub stop_exec: Commands,
    pub post_stop: Commands,
    pub post_stop_timeout: Duration,
    /// What takes back what a oneshot has done.
    pub undo: Commands,
    /// None: [`UNDO_TIMEOUT`].
    pub undo_timeout: Option<Duration>,
    pub reload_signal: Option<Signal>,
    pub reload_exec: Commands,
    pub reload_timeout: Duration,
    /// How long evidence is collected before a health-driven stop; None: [`DOSSIER_TIMEOUT`], zero:
    /// it is not.
    pub dossier_timeout: Option<Duration>,
    /// One command, or none.
    pub diagnose: Commands,
    pub diagnose_signal: Option<Signal>,
    /// None: [`DIAGNOSE_TIMEOUT`].
    pub diagnose_timeout: Option<Duration>,
}

/// What `undo_timeout_ms` is when it is not given.
pub const UNDO_TIMEOUT: Duration = Duration::from_secs(30);
/// The same of `dossier_timeout_ms` and `diagnose_timeout_ms`.
pub const DOSSIER_TIMEOUT: Duration = Duration::from_millis(500);
pub const DIAGNOSE_TIMEOUT: Duration = Duration::from_secs(3);

impl Hooks {
    pub fn undo_timeout(&self) -> Duration {
        self.undo_timeout.unwrap_or(UNDO_TIMEOUT)
    }

    pub fn dossier_timeout(&self) -> Duration {
        self.dossier_timeout.unwrap_or(DOSSIER_TIMEOUT)
    }

    pub fn diagnose_timeout(&self) -> Duration {
        self.diagnose_timeout.unwrap_or(DIAGNOSE_TIMEOUT)
    }

    pub fn diagnoses(&self) -> bool {
        !self.diagnose.is_empty() || self.diagnose_signal.is_some()
    }
}

impl Default for Hooks {
    /// No commands, and what the keys say of their times.
    fn default() -> Hooks {
        let none = Commands::default;
        Hooks {
            pre_start: none(),
            pre_start_timeout: Duration::from_secs(30),
            stop_exec: none(),
            post_stop: none(),
            post_stop_timeout: Duration::from_secs(10),
            undo: none(),
            undo_timeout: None,
            reload_signal: None,
            reload_exec: none(),
            reload_timeout: Duration::from_secs(30),
            dossier_timeout: None,
            diagnose: none(),
            diagnose_signal: None,
            diagnose_timeout: None,
        }
    }
}

/// What the process is: a change in any of it means a restart on reload.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Process {
    pub user: Option<Box<str>>,
    pub group: Option<Box<str>>,
    /// Supplementary groups; None: those of the user in /etc/group.
    pub groups: Option<Box<[Box<str>]>>,
    pub umask: Option<u32>,
    pub working_dir: Option<Box<str>>,
    pub env: BTreeMap<Box<str>, Box<str>>,
    /// `KEY=VALUE` lines; a leading `-` means that the file may be missing.
    pub env_file: Option<Box<str>>,
    /// Pass on the daemon's own environment as well.
    pub inherit_env: bool,
    /// Resource limits by their name in setrlimit(2), lower case (`nofile`, `core` …).
    pub limits: BTreeMap<Box<str>, Limit>,
    pub nice: Option<i8>,
    pub oom_score_adj: Option<i16>,
    pub directories: Directories,
    pub confine: Confine,
    /// None: no limits.
    pub resources: Option<Box<Resources>>,
}

impl Process {
    pub fn resources(&self) -> Resources {
        self.resources.as_deref().copied().unwrap_or_default()
    }
}

/// What all processes of a service together may use; None: no limit. By its cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resources {
    /// Bytes.
    pub memory_max: Option<u64>,
    pub memory_high: Option<u64>,
    /// Percent of one processor.
    pub cpu_max: Option<u32>,
    /// 1 to 10,000.
    pub cpu_weight: Option<u16>,
    pub pids_max: Option<u32>,
}

impl Confine {
    /// Directories of the daemon's stand behind it, for each run anew.
    pub fn has_directories(&self) -> bool {
        self.private_tmp || !self.secrets.is_empty()
    }
}

/// What it may not do, whoever it runs as.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Confine {
    pub no_new_privs: bool,
    /// All capabilities it may ever have, bit n for capability n; None: as the daemon.
    pub capabilities: Option<u64>,
    /// The whole file system but the kernel's own and `writable`.
    pub read_only: bool,
    /// A leading `-` means that it may be missing.
    pub writable: Box<[Box<str>]>,
    /// `/tmp` and `/var/tmp` of its own.
    pub private_tmp: bool,
    /// By name: the file that is handed to it under that name.
    pub secrets: BTreeMap<Box<str>, Box<str>>,
}

/// A resource limit; None is "unlimited".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KillMode {
    Tree,
    Mixed,
    Process,
}

#[derive(Clone, PartialEq, Debug)]
pub struct RetryPolicy {
    /// None: any number.
    pub max_attempts: Option<u32>,
    pub delay: Duration,
    pub backoff: Backoff,
    pub max_delay: Duration,
    /// A fraction, 0 to 1.
    pub jitter: f64,
    /// Never zero.
    pub stability_period: Duration,
    pub on_exhausted: OnExhausted,
    /// Run once per exhaustion: program and arguments.
    pub on_exhausted_exec: Option<Box<[Box<str>]>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backoff {
    Fixed,
    Linear,
    Exponential,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnExhausted {
    Keep,
    Stop,
}

/// What a service tells of itself, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notify {
    pub ready: Ready,
    pub access: NotifyAccess,
    /// It must say that it is well at least this often.
    pub watchdog: Option<Duration>,
    /// Descriptors that are kept for it over its restarts.
    pub fd_store_max: u16,
}

/// By what a process is known to be ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ready {
    /// The first pass of every restarting probe; where there is none, that its program runs.
    Probe,
    /// `READY=1` on the notify socket.
    Notify,
    /// A newline on this descriptor.
    Fd(u16),
}

/// Whose messages on the notify socket count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotifyAccess {
    /// There is no socket.
    None,
    /// The main process.
    Main,
    /// Any process of the run.
    Tree,
}

/// The sockets that are held for a service, never none, and what they are for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    pub sockets: Box<[Socket]>,
    pub start_on: StartOn,
}

/// What starts it, where it is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StartOn {
    #[default]
    Boot,
    /// The first connection to one of its sockets, or datagram.
    Connection,
}

/// A socket that is held for a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Socket {
    /// What it is called in LISTEN_FDNAMES.
    pub name: Box<str>,
    /// As it is written: `tcp:127.0.0.1:8080`.
    pub listen: Box<str>,
    pub backlog: u32,
    /// Of a Unix socket's file, as its owner and group.
    pub mode: u32,
    pub user: Option<Box<str>>,
    pub group: Option<Box<str>>,
    pub reuse_port: bool,
}

/// Where a socket listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    /// Stream.
    Unix(Box<str>),
    Datagram(Box<str>),
}

impl Socket {
    /// Its address, parsed; what is no address was refused when it was read.
    pub fn address(&self) -> Option<Listen> {
        super::socket::address(&self.listen).ok()
    }
}

impl Listen {
    /// The path of a Unix socket.
    pub fn path(&self) -> Option<&str> {
        match self {
            Listen::Tcp(_) | Listen::Udp(_) => None,
            Listen::Unix(path) | Listen::Datagram(path) => Some(path),
        }
    }

    /// It is connected to; else datagrams are sent to it.
    pub fn is_stream(&self) -> bool {
        matches!(self, Listen::Tcp(_) | Listen::Unix(_))
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Probe {
    pub name: Box<str>,
    pub ask: Ask,
    pub interval: Duration,
    pub timeout: Duration,
    pub failure_threshold: u32,
    pub success_threshold: u32,
    pub start_period: Duration,
    pub start_interval: Duration,
    pub on_unhealthy: OnUnhealthy,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnUnhealthy {
    Restart,
    Observe,
}

/// What a probe asks, by type.
#[derive(Clone, PartialEq, Debug)]
pub enum Ask {
    Http(Http),
    /// The same over TLS, in a child process.
    Https(Http),
    /// Connects; with `send`/`expect` also speaks.
    Tcp {
        address: Address,
        send: Option<Box<str>>,
        expect: Option<Box<str>>,
    },
    Unix {
        path: Box<str>,
        send: Option<Box<str>>,
        expect: Option<Box<str>>,
    },
    Exec {
        argv: Box<[Box<str>]>,
    },
}

impl Ask {
    /// The probe's `type` as it is written.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Ask::Http(_) => "http",
            Ask::Https(_) => "https",
            Ask::Tcp { .. } => "tcp",
            Ask::Unix { .. } => "unix",
            Ask::Exec { .. } => "exec",
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Http {
    pub address: Address,
    /// Path and query, begins with `/`.
    pub path: Box<str>,
    pub method: Box<str>,
    /// In the order written. Host, User-Agent and Accept are here only when the definition sets
    /// them; the probe adds its own otherwise.
    pub headers: Box<[(Box<str>, Box<str>)]>,
    pub expect_status: Box<[RangeInclusive<u16>]>,
    /// The body (its first bytes, up to the bound) must contain this.
    pub expect_body: Option<Box<str>>,
    /// How many redirects to the same host are followed; 0: none, the status is judged as it is.
    pub follow_redirects: u8,
    /// Reuse the connection for the next check.
    pub keep_alive: bool,
    /// `https` only: check the certificate.
    pub verify: bool,
}

/// Where a socket probe connects.
#[derive(Clone, PartialEq, Debug)]
pub enum Address {
    /// A name or an IPv4/IPv6 literal (without brackets), and a port.
    Tcp {
        host: Box<str>,
        port: u16,
    },
    Unix {
        path: Box<str>,
    },
}
