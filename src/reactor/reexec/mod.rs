//! The daemon executes itself anew in its own process: another binary by `upgrade`, the same one
//! after a panic. The process keeps its number, so its children stay its children and how they
//! end is still known; the rest is what a daemon's death and return do anyway (the runtime
//! journal), but for what is handed over here: descriptors that must not close in between, and
//! what the host was like before we changed it.
//!
//! The handover is JSON in a memory file (memfd_create(2)) whose number stands in the environment.
//! Fields are added, never renamed, so that versions understand one another.
//!
//! Until the next execution has taken over, what it was handed stays open, and the program before
//! it too: if it cannot take over it executes that one, with the same handover ([`fall_back`]).
//!
//! Not here: who asks for it and when (`upgrade`), what the next daemon does with it (`daemon`).
//!
//! Invariants: until execve(2) succeeds nothing is given up; a number that is handed over is
//! believed only if it is an open descriptor, and closed if nobody wants it; only the daemon's own
//! process executes, never a helper that has inherited the panic hook.

mod panic;
mod taken;

pub use panic::{Kept, arm, ends_in, keep, shutting_down};
pub use taken::{claim, claim_copy, claim_open, fall_back, taken_over};

use crate::control::power::Ending;
use crate::control::session::{Carried, Text};
use crate::journal::runtime::Identity;
use crate::reactor::known::Heard;
use crate::reactor::program::{self, Program};
use crate::reactor::sys::Origin;
use crate::time::Time;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names the memory file to the next execution.
pub const VARIABLE: &str = "VITALD_HANDOVER";
/// As many panics within [`PANIC_WINDOW`] are taken for bad luck; with one more the daemon goes on
/// without what it can do without.
const PANICS: usize = 3;
const PANIC_WINDOW: Duration = Duration::from_secs(60);
/// Before PID 1, which must not end, tries again although it panics even so.
const LAST_RESORT_PAUSE: Duration = Duration::from_secs(10);

/// What one execution leaves to the next.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Handover {
    pub cause: Cause,
    pub origin: Origin,
    /// When this process panicked lately, over all its executions.
    pub panics: Vec<Time>,
    /// Helpers and commands that were at work for the execution before: nobody waits for them.
    pub jobs: BTreeSet<i32>,
    pub runtime_lock: Option<RawFd>,
    pub state_lock: Option<RawFd>,
    pub socket: Option<Socket>,
    /// The daemon's ends of log pipes, by service.
    pub logs: Vec<(String, RawFd)>,
    /// The pipes by which children tell how their set-up goes, by process id.
    pub execs: BTreeMap<i32, RawFd>,
    /// Connections, with what their clients wait for or listen to.
    pub clients: Vec<Carried>,
    /// What services speak by, and have left, by service.
    pub heard: BTreeMap<String, Heard>,
    /// It was ending: all services are to be stopped, and then this.
    pub shutting_down: bool,
    pub ending: Ending,
    /// PID 1's rescue shell.
    pub shell: Option<i32>,
    /// The host's watchdog: closed it would count on.
    pub watchdog: Option<RawFd>,
    /// As what the execution before knew this boot: where there is no /proc nobody else can tell.
    pub identity: Option<Identity>,
    /// The program that is executed, if it is by its descriptor.
    pub program: Option<Executable>,
    /// The program that is executed if this one cannot take over.
    pub before: Option<Executable>,
    /// All descriptors that were left open, also those of which only a later version knows.
    pub open: Vec<RawFd>,
}

/// An open program, and its name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Executable {
    pub fd: RawFd,
    pub path: String,
    /// With what it ran, because the next program may be a script that changes both: strings, each
    /// closed by a null byte.
    #[serde(default)]
    arguments: Text,
    #[serde(default)]
    environment: Text,
}

impl Executable {
    /// The one that runs now; None: that is not known.
    pub fn own() -> Option<Executable> {
        let path = program::path()?.to_str()?.to_owned();
        let (arguments, environment) = Default::default();
        program::descriptor().map(|fd| Executable {
            fd,
            path,
            arguments,
            environment,
        })
    }

    /// The same, with its command line and environment.
    pub fn running() -> Option<Executable> {
        let run = Run::own().ok()?;
        Some(Executable {
            arguments: joined(&run.arguments),
            environment: joined(&run.environment),
            ..Executable::own()?
        })
    }
}

fn joined(strings: &[CString]) -> Text {
    let bytes = strings.iter().flat_map(|text| text.as_bytes_with_nul());
    Text::of(&bytes.copied().collect::<Vec<u8>>())
}

fn parted(text: &Text) -> Vec<CString> {
    let bytes = text.bytes();
    let parts = bytes.split_inclusive(|byte| *byte == 0);
    parts
        .filter_map(|part| Some(CStr::from_bytes_with_nul(part).ok()?.to_owned()))
        .collect()
}

/// A command line and an environment.
struct Run {
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Run {
    fn own() -> io::Result<Run> {
        let variables = std::env::vars_os().filter(|(name, _)| name != VARIABLE);
        Ok(Run {
            arguments: c_strings(std::env::args_os())?,
            environment: c_strings(
                variables.map(|(name, value)| [name, value].join("=".as_ref())),
            )?,
        })
    }
}

/// The control socket: its descriptor, and the file that is its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Socket {
    pub fd: RawFd,
    pub device: u64,
    pub inode: u64,
}

/// Why the process executed itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    #[default]
    Unknown,
    Upgrade {
        by: String,
        from: String,
    },
    Panic {
        message: String,
    },
    /// Another program took this one's place and could not take over; this is the old one again.
    FellBack {
        to: String,
        message: String,
    },
}

/// With this a daemon says that it took another one's place, and is not the old one again.
pub const UPGRADED: &str = "upgraded from ";

impl Handover {
    /// Takes what the execution before left, and all that it left open; None: there was none.
    /// Before there are threads, and before descriptors are made that might bear the numbers.
    pub fn take() -> Option<Handover> {
        let read = Handover::read();
        // SAFETY: the daemon has one thread.
        unsafe { std::env::remove_var(VARIABLE) };
        let handover = match read? {
            Ok(handover) => handover,
            Err(error) => {
                log::warn!("cannot understand what the execution before left: {error}");
                return None;
            }
        };
        let mut taken = taken::Taken::default();
        for number in handover.descriptors() {
            if let Some(fd) = inherited(number) {
                taken.unclaimed.insert(number, fd);
            }
        }
        let mut executed = handover.program.as_ref();
        if let Some(before) = &handover.before {
            taken.before = Some(Box::new(handover.clone()));
            taken.held.extend(taken.unclaimed.remove(&before.fd));
            executed = executed.filter(|program| program.fd != before.fd);
        }
        let of_ours = executed.and_then(|it| Some((taken.unclaimed.remove(&it.fd)?, &it.path)));
        program::remember(of_ours.map(|(fd, path)| (fd, path.into())));
        program::bear_own_name();
        if let Ok(mut slot) = taken::TAKEN.lock() {
            *slot = Some(taken);
        }
        Some(handover)
    }

    /// Reads what the execution before left, and touches nothing; None: there was none.
    pub fn read() -> Option<io::Result<Handover>> {
        let number = std::env::var(VARIABLE).ok()?.parse().ok()?;
        let mut file = File::from(inherited(number)?);
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
        Some(read.and_then(|_| Ok(serde_json::from_slice(text.as_bytes())?)))
    }

    /// There was no execution before this one.
    pub fn is_none(&self) -> bool {
        self.cause == Cause::Unknown
    }

    /// The panics that still count at `now`.
    pub fn recent_panics(&self, now: Time) -> Vec<Time> {
        let mut panics = self.panics.clone();
        panics.retain(|at| now.since(*at) < PANIC_WINDOW);
        panics
    }

    /// In words, for `info`; None: nothing to tell.
    pub fn words(&self) -> Option<String> {
        match &self.cause {
            Cause::Unknown => None,
            Cause::Upgrade { by, from } => Some(format!("{UPGRADED}{from} by {by}")),
            Cause::FellBack { to, message } => Some(format!(
                "the upgrade to {to} failed before it had taken over ({message}); this is the \
                 program before it again"
            )),
            Cause::Panic { message } => Some(format!(
                "executed itself anew after a panic ({} within a minute): {message}",
                self.panics.len()
            )),
        }
    }

    /// Why the daemon goes on without probing; None: it does not.
    pub fn reduced(&self) -> Option<String> {
        (self.panics.len() > PANICS).then(|| {
            format!(
                "it panicked {} times within a minute: services are supervised but not probed; \
                 `vitald upgrade` ends this",
                self.panics.len()
            )
        })
    }
}

/// A descriptor of this number, if there is one; it is ours from now on, and not our children's.
fn inherited(number: RawFd) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: it is only asked whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // SAFETY: it is open, and whoever named it to us gave it up by executing us.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Ends what still works for the execution before. Those that are our children and not reaped,
/// because only their numbers are their own; a command has its group.
pub fn end_jobs(jobs: &BTreeSet<i32>) {
    for job in jobs.iter().copied().filter(|job| is_our_child(*job)) {
        // SAFETY: signals are sent, nothing is touched.
        unsafe {
            libc::kill(-job, libc::SIGKILL);
            libc::kill(job, libc::SIGKILL);
        }
    }
}

fn is_our_child(pid: i32) -> bool {
    let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    pid > 1 && waitid(Id::Pid(Pid::from_raw(pid)), ended).is_ok()
}

/// Executes `program` in this process, with our command line and environment. Returns only if that
/// fails, and then everything is as it was.
pub fn execute(program: &Program, handover: Handover) -> io::Error {
    match Run::own().and_then(|run| try_execute(program, run, handover)) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// The same program once more, as if it had not run before, but for what it found the host like.
/// Returns only if that fails.
pub fn execute_afresh() -> io::Error {
    let armed = panic::ARMED.get().map(|armed| armed.origin);
    let handover = Handover {
        origin: armed.unwrap_or_else(|| Origin::take(None)),
        ..Handover::default()
    };
    execute_own(&handover)
}

/// The very file that runs, even if its name is gone or another's; without /proc the name by which
/// we were called.
fn execute_own(handover: &Handover) -> io::Error {
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    if let Some(own) = Executable::own() {
        let open = Program::Open(own.fd);
        let mut handover = handover.clone();
        handover.program = Some(own);
        error = execute(&open, handover);
    }
    // A filter may forbid an execution by descriptor.
    let called = std::env::args_os().next().map(PathBuf::from);
    let called = called.filter(|path| path.is_absolute());
    let exe = Some(Path::new("/proc/self/exe").into());
    for path in [exe, program::path().or(called)] {
        if let Some(program) = path.and_then(Program::named) {
            error = execute(&program, handover.clone());
        }
    }
    error
}

fn try_execute(
    program: &Program,
    mut run: Run,
    mut handover: Handover,
) -> io::Result<std::convert::Infallible> {
    handover.open = handover.descriptors();
    let file = memory_file(&handover)?;
    let number = format!("{VARIABLE}={}", file.as_raw_fd());
    run.environment.push(CString::new(number)?);
    keep_over_exec(&handover.open, true);
    let failed = program.execute(&run.arguments, &run.environment);
    keep_over_exec(&handover.open, false);
    failed
}

/// The handover as the next execution finds it: without close-on-exec, by its number.
pub fn memory_file(handover: &Handover) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"vitald-handover", MFdFlags::empty())?);
    file.write_all(&serde_json::to_vec(handover)?)?;
    Ok(file)
}

impl Handover {
    fn descriptors(&self) -> Vec<RawFd> {
        let locks = [self.runtime_lock, self.state_lock].into_iter().flatten();
        let programs = [&self.program, &self.before].into_iter().flatten();
        let heard = self.heard.values().flat_map(|heard| {
            let stored = heard.stored.iter().map(|(_, fd, _)| *fd);
            let sockets = heard.sockets.iter().map(|socket| socket.fd);
            let spoken = heard.socket.into_iter().chain(heard.fifo);
            spoken.chain(stored).chain(sockets)
        });
        let mut all: Vec<RawFd> = locks
            .chain(programs.map(|program| program.fd))
            .chain(self.socket.map(|socket| socket.fd))
            .chain(self.logs.iter().map(|(_, fd)| *fd))
            .chain(self.execs.values().copied())
            .chain(self.watchdog)
            .chain(self.clients.iter().map(|client| client.fd))
            .chain(heard)
            .chain(self.open.iter().copied())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// One that was closed in the meantime is passed over: the next execution finds it closed.
fn keep_over_exec(numbers: &[RawFd], keep: bool) {
    let flags = if keep {
        FdFlag::empty()
    } else {
        FdFlag::FD_CLOEXEC
    };
    for number in numbers {
        // SAFETY: it is only marked.
        let fd = unsafe { BorrowedFd::borrow_raw(*number) };
        let _ = fcntl(fd, FcntlArg::F_SETFD(flags));
    }
}

fn c_strings(strings: impl Iterator<Item = OsString>) -> io::Result<Vec<CString>> {
    strings
        .map(|text| CString::new(text.into_vec()).map_err(io::Error::other))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handover_of_another_version_is_understood() {
        let text =
            r#"{"cause":{"upgrade":{"by":"root","from":"9.9.9"}},"later":1,"logs":[["web",7]]}"#;
        let handover: Handover = serde_json::from_str(text).expect("read");
        assert_eq!(handover.logs, [("web".to_owned(), 7)]);
        let words = handover.words().expect("words");
        assert_eq!(words, "upgraded from 9.9.9 by root");
        let again = serde_json::to_string(&handover).expect("written");
        assert_eq!(
            serde_json::from_str::<Handover>(&again).expect("read"),
            handover
        );
    }

    #[test]
    fn only_recent_panics_count_and_only_many_reduce() {
        let at = |s: u64| Time::from_millis(s * 1000);
        let mut handover = Handover {
            panics: vec![at(1), at(30), at(59), at(60)],
            ..Handover::default()
        };
        assert!(handover.reduced().is_some());
        handover.panics = handover.recent_panics(at(61));
        assert_eq!(handover.panics, [at(30), at(59), at(60)]);
        assert!(handover.reduced().is_none());
    }

    #[test]
    fn only_children_of_ours_are_ended_as_jobs() {
        // Ours, and one that is a child of it.
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a child");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output");
        io::BufRead::read_line(&mut io::BufReader::new(out), &mut line).expect("a line");
        let stranger: i32 = line.trim().parse().expect("a number");
        let ours = child.id() as i32;
        end_jobs(&BTreeSet::from([-1, 0, 1, stranger]));
        assert!(
            child.try_wait().expect("wait").is_none(),
            "nothing was ended"
        );
        end_jobs(&BTreeSet::from([ours]));
        let ended = child.wait().expect("wait");
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&ended),
            Some(9)
        );
        // It was left alone all the time.
        let left = nix::sys::signal::kill(Pid::from_raw(stranger), None);
        let _ = nix::sys::signal::kill(Pid::from_raw(stranger), nix::sys::signal::Signal::SIGKILL);
        assert_eq!(left, Ok(()));
    }

    #[test]
    fn a_number_that_is_no_descriptor_is_not_believed() {
        for number in [-1, 0, 2, 999_999] {
            assert!(inherited(number).is_none());
        }
    }
}
