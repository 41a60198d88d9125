//! Making processes: a plan in, a process with its pidfd out, and the child's word on a pipe.
//!
//! `Spawner::spawn` prepares everything (strings, environment, user, limits), clones, and returns
//! while the child is still setting itself up (`child_setup`). Readable, the `exec_pipe` then says
//! how that went: [`exec_report`]. A probe's command is made by the same code.
//!
//! Not vfork: with it the loop would stand still until the exec, and an exec, a chdir or an env
//! file on a dead mount never comes back. Measured here, from the call to the reaped child of a
//! program of no memory: clone3 1, fork + pidfd_open 1.00, vfork-like clone 0.87.
//!
//! The child gets: its own session and process group, no blocked and no ignored signal,
//! descriptors 0 (empty), 1, 2 and the plan's, the daemon's former limits, and an environment of
//! PATH, HOME, USER, LOGNAME, SHELL, VITALD_SERVICE, VITALD_RUN, VITALD_SOCKET and what the
//! definition adds. Where it is to tell us of itself, NOTIFY_SOCKET,
//! WATCHDOG_USEC, LISTEN_FDS and their like; those that were meant for us never reach it.

use crate::config::Process;
use crate::engine::event::SpawnError;
use crate::id::Pid;
use crate::reactor::cgroup::Room;
use crate::reactor::child_setup::{
    self, ChildSetup, Env, EnvFile, IdentitySetting, LimitSetting, MAX_REPORT,
};
use crate::reactor::confine;
use crate::reactor::directories;
use crate::reactor::env_file;
use crate::reactor::identity::{Accounts, Identity};
use crate::reactor::procfs;
use crate::reactor::sys::{self, Origin};
use std::cell::Cell;
use std::ffi::{CString, OsString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

/// Where a service's program is sought unless its environment says otherwise.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_UMASK: u32 = 0o022;
/// Names and values of these mean us, not the service.
const OURS: [&str; 12] = [
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "FDSTORE",
    "MAINPID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "RUNTIME_DIRECTORY",
];

/// Room for a process id in an environment entry; the child writes its own over it.
const PID_ROOM: &str = "          ";

/// What to start.
pub struct SpawnPlan<'a> {
    /// The service's name: VITALD_SERVICE.
    pub service: &'a str,
    /// The run's number: VITALD_RUN=service/number. None for a probe's command, which must not be
    /// taken for a part of the run's tree.
    pub run: Option<u32>,
    /// It lives on when the daemon dies.
    pub outlives: bool,
    /// Program and arguments, never empty. A name without a slash is sought along PATH.
    pub exec: &'a [Box<str>],
    pub process: &'a Process,
    /// None: it is empty.
    pub stdin: Option<BorrowedFd<'a>>,
    pub stdout: BorrowedFd<'a>,
    pub stderr: BorrowedFd<'a>,
    /// More descriptors, placed as 3, 4, 5 …
    pub fds: &'a [BorrowedFd<'a>],
    /// One more, placed as that number, behind those.
    pub fd_at: Option<(RawFd, BorrowedFd<'a>)>,
    /// More environment; overrides the definition's.
    pub env: &'a [(&'a str, &'a str)],
    /// Variables whose value is the new process's id.
    pub pid_env: &'a [&'a str],
    /// The cgroup that it is born in; None: ours.
    pub room: Option<&'a Room>,
}

/// A process that exists, and may still be setting itself up.
#[derive(Debug)]
pub struct Spawned {
    /// Also its session and process group, once it has set itself up.
    pub pid: Pid,
    pub pidfd: OwnedFd,
    /// Says how the set-up went, see [`exec_report`]. Does not block.
    pub exec_pipe: OwnedFd,
    /// Start time, clock ticks since boot; 0 where there is no /proc (it cannot be adopted then).
    pub started: u64,
}

/// Makes processes. One for the daemon's life.
pub struct Spawner {
    stdin: OwnedFd,
    origin: Origin,
    socket: Box<str>,
    accounts: Accounts,
    /// Signals that a child must reset.
    altered: u64,
    /// Does the clock tell start times as /proc does? Found out at the first spawn.
    clock_agrees: Cell<Option<bool>>,
}

impl Spawner {
    /// `socket`: the control socket's absolute path. Services get it as VITALD_SOCKET, and by it
    /// the processes of one daemon are told from those of another (`tree`).
    pub fn new(origin: Origin, socket: &str) -> io::Result<Spawner> {
        Ok(Spawner {
            stdin: sys::empty_input()?,
            origin,
            socket: socket.into(),
            accounts: Accounts::default(),
            altered: child_setup::altered_signals(),
            clock_agrees: Cell::new(None),
        })
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Starts the plan's program. An error: no process was made.
    pub fn spawn(&self, plan: &SpawnPlan) -> Result<Spawned, SpawnError> {
        self.spawn_without(plan, None)
    }

    /// The same; before it is executed, and as its user, the child removes a file that a run before it
    /// may have left.
    pub fn spawn_without(
        &self,
        plan: &SpawnPlan,
        stale: Option<&str>,
    ) -> Result<Spawned, SpawnError> {
        let identity = self.accounts.resolve(
            plan.process.user.as_deref(),
            plan.process.group.as_deref(),
            plan.process.groups.as_deref(),
        )?;
        // These own what the setup points to, until the clone.
        let mut strings = self.environment(plan, &identity)?;
        let arguments = Strings::of(plan.exec).ok_or_else(|| bad("exec: a null byte in it"))?;
        let (exec_pipe, report) = sys::pipe(false).map_err(|e| sys::failed("pipe", &e))?;
        let mut setup = self.prepare(plan, identity, &strings, &arguments)?;
        setup.report = report.as_raw_fd();
        setup.stale = stale.map(|path| text("pid_file", path)).transpose()?;
        setup.pids = strings.0.places(plan.pid_env);
        let before = procfs::boot_ticks();
        // SAFETY: the child goes straight to `child_setup`, which keeps to what is asked of it.
        let Some((pid, pidfd)) = (unsafe { clone(plan.room, &mut setup) })? else {
            // SAFETY: this is that child.
            unsafe { child_setup::run(&mut setup) }
        };
        Ok(Spawned {
            pid,
            pidfd,
            exec_pipe,
            started: self.start_time(pid, before),
        })
    }

    /// The start time of a child that was cloned since `before`. When no tick has passed it is
    /// that tick, and /proc need not be read (7 µs); but only once both were seen to agree.
    fn start_time(&self, pid: Pid, before: u64) -> u64 {
        let unambiguous = before == procfs::boot_ticks();
        if unambiguous && self.clock_agrees.get() == Some(true) {
            return before;
        }
        let told = procfs::start_time(pid).unwrap_or(0);
        if unambiguous && self.clock_agrees.get().is_none() {
            self.clock_agrees.set(Some(told == before));
        }
        told
    }

    fn prepare(
        &self,
        plan: &SpawnPlan,
        identity: Identity,
        (environment, fixed): &(Strings, usize),
        arguments: &Strings,
    ) -> Result<ChildSetup, SpawnError> {
        let process = plan.process;
        let env_file = process
            .env_file
            .as_deref()
            .map(env_file_setting)
            .transpose()?;
        let place = confine::Place::of(&self.socket, plan.service);
        let room = if env_file.is_some() {
            env_file::MAX_ENTRIES
        } else {
            0
        };
        let mut entries = environment.pointers();
        let used = entries.len();
        entries.resize(used + room + 1, ptr::null());
        let mut argv = arguments.pointers();
        argv.push(ptr::null());
        let oom_score_adj = match (process.oom_score_adj, self.origin.oom_score_adj) {
            (Some(asked), _) => Some((number(asked.into()), true)),
            (None, Some(former)) => Some((number(former.into()), false)),
            (None, None) => None,
        };
        let program = plan.exec.first().map_or("", |program| program);
        Ok(ChildSetup {
            parent: std::process::id() as i32,
            outlives: plan.outlives,
            altered: self.altered,
            report: -1,
            door: None,
            stdin: plan.stdin.unwrap_or(self.stdin.as_fd()).as_raw_fd(),
            stdout: plan.stdout.as_raw_fd(),
            stderr: plan.stderr.as_raw_fd(),
            fds: plan.fds.iter().map(|fd| fd.as_raw_fd()).collect(),
            fd_at: plan.fd_at.map(|(place, fd)| (place, fd.as_raw_fd())),
            pids: Vec::new(),
            env_file,
            env: Env {
                entries,
                fixed: *fixed,
                used,
            },
            oom_score_adj,
            limits: self.limits(process)?,
            nice: process.nice.map(|nice| (nice.into(), number(nice.into()))),
            confinement: confine::confinement(process, &identity, &place)?,
            secrets: confine::secrets(process, &identity, &place)?,
            identity: identity_setting(process, identity)?,
            umask: process.umask.unwrap_or(DEFAULT_UMASK),
            stale: None,
            working_dir: text("working_dir", process.working_dir.as_deref().unwrap_or("/"))?,
            program: text("exec", program)?,
            argv,
            candidate: match program.contains('/') {
                true => Vec::new(),
                false => vec![0; libc::PATH_MAX as usize],
            },
        })
    }

    /// The definition's limits, and the daemon's former number of descriptors.
    fn limits(&self, process: &Process) -> Result<Vec<LimitSetting>, SpawnError> {
        let mut limits = Vec::new();
        if let Some((soft, hard)) = self.origin.nofile
            && !process.limits.contains_key("nofile")
        {
            let (name, resource) = (c"nofile".into(), libc::RLIMIT_NOFILE as i32);
            limits.push(LimitSetting {
                name,
                resource,
                soft,
                hard,
                required: false,
            });
        }
        for (name, limit) in &process.limits {
            let resource =
                resource(name).ok_or_else(|| bad(&format!("limit {name}: no such limit")))?;
            limits.push(LimitSetting {
                name: text("limit", name)?,
                resource,
                soft: limit.soft.unwrap_or(u64::MAX),
                hard: limit.hard.unwrap_or(u64::MAX),
                required: true,
            });
        }
        Ok(limits)
    }

    /// The environment, and how many of its entries (the first) nothing may override.
    fn environment(
        &self,
        plan: &SpawnPlan,
        identity: &Identity,
    ) -> Result<(Strings, usize), SpawnError> {
        let process = plan.process;
        let run = plan.run.map(|number| format!("{}/{number}", plan.service));
        let made = directories::variable(&process.directories);
        // Put in order of precedence: the first of a key stays.
        let mut entries = Entries::default();
        entries.put("VITALD_SERVICE", plan.service);
        entries.put("VITALD_SOCKET", &self.socket);
        if let Some(run) = &run {
            entries.put("VITALD_RUN", run);
        }
        for (key, value) in plan.env {
            entries.put(key, value);
        }
        if let Some(paths) = &made {
            entries.put("RUNTIME_DIRECTORY", paths);
        }
        let place = confine::Place::of(&self.socket, plan.service);
        let secrets = confine::variable(process, &place);
        if let Some(dir) = &secrets {
            entries.put("CREDENTIALS_DIRECTORY", dir);
        }
        for key in plan.pid_env {
            entries.put(key, PID_ROOM);
        }
        for (key, value) in &process.env {
            if key.is_empty() || key.contains('=') {
                return Err(bad(&format!("env {key:?}: no name of a variable")));
            }
            entries.put(key, value);
        }
        let fixed = entries.0.len();
        let Identity {
            name, home, shell, ..
        } = identity;
        let of_user = [
            ("HOME", home),
            ("USER", name),
            ("LOGNAME", name),
            ("SHELL", shell),
        ];
        let inherited = inherited(process.inherit_env);
        for (key, value) in &inherited {
            // Who runs as another user must not be told of our home.
            if process.user.is_none() || !of_user.iter().any(|(name, _)| *name == key) {
                entries.put_bytes(key.as_bytes(), value.as_bytes());
            }
        }
        for (key, value) in of_user {
            entries.put(key, value);
        }
        entries.put("PATH", DEFAULT_PATH);
        let strings = Strings::joined(&entries.0).map_err(|key| {
            bad(&format!(
                "env {}: a null byte in it",
                String::from_utf8_lossy(key)
            ))
        })?;
        Ok((strings, fixed))
    }
}

/// A child, in the cgroup that it is to be in, or about to go there.
///
/// # Safety
/// As `sys::clone_process`.
unsafe fn clone(
    room: Option<&Room>,
    setup: &mut ChildSetup,
) -> Result<Option<(Pid, OwnedFd)>, SpawnError> {
    let fork = |error: io::Error| sys::failed("fork", &error);
    let Some(room) = room else {
        // SAFETY: as the caller promises.
        return unsafe { sys::clone_process() }.map_err(fork);
    };
    let shown = room.leaf.0.display();
    // SAFETY: as above.
    match unsafe { sys::clone_into(room.dir()) } {
        Ok(cloned) => Ok(cloned),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let door = room.door();
            let door = door.map_err(|e| sys::failed(format!("cgroup {shown}"), &e))?;
            // The setup's, for whatever is of this function the child drops as well.
            setup.door = Some(door);
            // SAFETY: as above.
            unsafe { sys::clone_process() }.map_err(fork)
        }
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && room.leaf.is_full() => {
            Err(bad(&format!(
                "pids_max: as many processes as it may have are in {shown} already"
            )))
        }
        Err(error) => match error.raw_os_error().is_some_and(sys::is_ours) {
            true => Err(fork(error)),
            false => Err(sys::failed(format!("cgroup {shown}"), &error)),
        },
    }
}

/// What a definition got wrong in a way that no system call told.
pub(super) fn bad(step: &str) -> SpawnError {
    SpawnError {
        step: step.into(),
        errno: 0,
        ours: false,
    }
}

pub(super) fn text(step: &str, value: &str) -> Result<CString, SpawnError> {
    CString::new(value).map_err(|_| bad(&format!("{step} {value:?}: a null byte in it")))
}

fn number(value: i32) -> CString {
    // Digits hold no null byte.
    CString::new(value.to_string()).unwrap_or_default()
}

fn env_file_setting(path: &str) -> Result<EnvFile, SpawnError> {
    let (path, optional) = match path.strip_prefix('-') {
        Some(path) => (path, true),
        None => (path, false),
    };
    Ok(EnvFile {
        path: text("env_file", path)?,
        optional,
        // One more than the file may have: the parser's, and a larger file is noticed by it.
        buffer: vec![0; env_file::MAX_BYTES + 1],
    })
}

fn identity_setting(
    process: &Process,
    identity: Identity,
) -> Result<Option<IdentitySetting>, SpawnError> {
    if identity.unchanged {
        return Ok(None);
    }
    let group = process.group.as_deref();
    Ok(Some(IdentitySetting {
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups,
        group: match group {
            Some(group) => text("group", group)?,
            None => number(identity.gid as i32),
        },
        user: text("user", process.user.as_deref().unwrap_or(&identity.name))?,
    }))
}

fn inherited(wanted: bool) -> Vec<(OsString, OsString)> {
    if !wanted {
        return Vec::new();
    }
    std::env::vars_os()
        .filter(|(key, _)| {
            let key = key.to_string_lossy();
            !key.starts_with("VITALD_") && !OURS.contains(&key.as_ref())
        })
        .collect()
}

/// Names of resource limits as setrlimit(2) has them, without RLIMIT_, lower case.
fn resource(name: &str) -> Option<i32> {
    Some(match name {
        "as" => libc::RLIMIT_AS,
        "core" => libc::RLIMIT_CORE,
        "cpu" => libc::RLIMIT_CPU,
        "data" => libc::RLIMIT_DATA,
        "fsize" => libc::RLIMIT_FSIZE,
        "locks" => libc::RLIMIT_LOCKS,
        "memlock" => libc::RLIMIT_MEMLOCK,
        "msgqueue" => libc::RLIMIT_MSGQUEUE,
        "nice" => libc::RLIMIT_NICE,
        "nofile" => libc::RLIMIT_NOFILE,
        "nproc" => libc::RLIMIT_NPROC,
        "rss" => libc::RLIMIT_RSS,
        "rtprio" => libc::RLIMIT_RTPRIO,
        "rttime" => libc::RLIMIT_RTTIME,
        "sigpending" => libc::RLIMIT_SIGPENDING,
        "stack" => libc::RLIMIT_STACK,
        _ => return None,
    } as i32)
}

/// Keys and values in order; a key that is there already stays as it is.
#[derive(Default)]
struct Entries<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Entries<'a> {
    fn put(&mut self, key: &'a str, value: &'a str) {
        self.put_bytes(key.as_bytes(), value.as_bytes());
    }
    fn put_bytes(&mut self, key: &'a [u8], value: &'a [u8]) {
        if !self.0.iter().any(|(known, _)| *known == key) {
            self.0.push((key, value));
        }
    }
}

/// Null-terminated strings in one piece of memory.
struct Strings {
    block: Vec<u8>,
    starts: Vec<usize>,
}

impl Strings {
    /// None: a null byte in one of them.
    fn of(words: &[Box<str>]) -> Option<Strings> {
        let mut strings = Strings {
            block: Vec::new(),
            starts: Vec::new(),
        };
        words
            .iter()
            .all(|word| strings.push(&[word.as_bytes()]))
            .then_some(strings)
    }

    /// `KEY=VALUE` each; an error: the key of one with a null byte.
    fn joined<'a>(entries: &[(&'a [u8], &'a [u8])]) -> Result<Strings, &'a [u8]> {
        let mut strings = Strings {
            block: Vec::with_capacity(512),
            starts: Vec::new(),
        };
        for (key, value) in entries {
            if !strings.push(&[key, b"=", value]) {
                return Err(key);
            }
        }
        Ok(strings)
    }

    fn push(&mut self, parts: &[&[u8]]) -> bool {
        self.starts.push(self.block.len());
        for part in parts {
            self.block.extend_from_slice(part);
        }
        self.block.push(0);
        !parts.iter().any(|part| part.contains(&0))
    }

    /// Where the values of these keys stand, each with [`PID_ROOM`].
    fn places(&mut self, keys: &[&str]) -> Vec<*mut u8> {
        let block = self.block.as_mut_ptr();
        let place = |key: &&str| {
            let wanted = [key.as_bytes(), b"=", PID_ROOM.as_bytes()].concat();
            let tail = |start: usize| self.block.get(start..).unwrap_or_default();
            let start = self
                .starts
                .iter()
                .find(|start| tail(**start).starts_with(&wanted))?;
            // SAFETY: within the block: it begins with the key there.
            Some(unsafe { block.add(start + key.len() + 1) })
        };
        keys.iter().filter_map(place).collect()
    }

    /// Valid while the strings live and do not change.
    fn pointers(&self) -> Vec<*const c_char> {
        let tail = |start: &usize| self.block.get(*start..).unwrap_or_default();
        self.starts
            .iter()
            .map(|start| tail(start).as_ptr().cast())
            .collect()
    }
}

/// What the exec pipe says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExecReport {
    /// Nothing yet: the child is still setting itself up.
    Pending,
    /// The program was executed, or the child was killed before; its exit then tells.
    Executed,
    /// A step failed; the child ends by itself with exit code 127 and is to be reaped.
    Failed(SpawnError),
}

/// Reads an exec pipe that may be readable. After anything but `Pending` it is to be closed.
pub fn exec_report(pipe: BorrowedFd) -> ExecReport {
    let mut message = [0u8; MAX_REPORT];
    match sys::read_ready(pipe, &mut message) {
        Ok(None) => ExecReport::Pending,
        Ok(Some(length)) => match read_exec_report(message.get(..length).unwrap_or_default()) {
            Some(error) => ExecReport::Failed(error),
            None => ExecReport::Executed,
        },
        Err(e) => ExecReport::Failed(sys::failed("exec pipe", &e)),
    }
}

/// All bytes of an exec pipe, decoded; `None`: no step failed. Short of memory or descriptors in
/// the child is our own want as it is in the parent.
pub fn read_exec_report(bytes: &[u8]) -> Option<SpawnError> {
    let (errno, words) = bytes.split_first_chunk::<4>()?;
    let errno = i32::from_ne_bytes(*errno);
    Some(SpawnError {
        step: String::from_utf8_lossy(words).into(),
        errno,
        ours: sys::is_ours(errno),
    })
}
