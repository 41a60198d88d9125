//! What happens between clone and exec, in the child.
//!
//! Everything is prepared by `spawn` before the clone; here only async-signal-safe system calls
//! are made, nothing is allocated, nothing can panic. The first step that fails is written to a
//! close-on-exec pipe, as its errno and its name in words, and the child ends; a program that was
//! executed closes the pipe without a word.
//!
//! The order is that of what each step needs: the env file is read and limits, nice and
//! oom_score_adj are set with the daemon's rights; the working directory is entered with the
//! service's own, because a directory that it may not enter would be none to it. Whatever may
//! stall (a dead NFS mount under the env file, the working directory or the program) stalls this
//! child only, and `start_timeout_ms` judges it.
//!
//! Until the exec the child dies with the daemon (PR_SET_PDEATHSIG): it does not carry VITALD_RUN
//! yet, so the next daemon could not find it and would start a second copy. A probe's command never
//! carries it and dies with the daemon to its end: nobody would hear its answer.

mod confine;
mod secrets;

pub(super) use confine::{Confinement, Writable};
pub(super) use secrets::{Secret, SecretFiles};

use crate::reactor::env_file;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::RawFd;
use std::ptr;

/// All that the child needs, ready made.
pub(super) struct ChildSetup {
    /// The daemon's process id: no other parent is accepted.
    pub parent: i32,
    /// It is a run and lives on when the daemon dies; else a probe's command.
    pub outlives: bool,
    /// Signals that are not at their default, bit n − 1 for signal n: [`altered_signals`].
    pub altered: u64,
    /// Where a failure is reported; close-on-exec.
    pub report: RawFd,
    pub stdin: RawFd,
    pub stdout: RawFd,
    pub stderr: RawFd,
    /// Placed as 3, 4, 5 …
    pub fds: Vec<RawFd>,
    /// One more: its place, behind those, and itself.
    pub fd_at: Option<(RawFd, RawFd)>,
    /// Where our own process id is written in the environment, 10 digits and their room.
    pub pids: Vec<*mut u8>,
    pub env_file: Option<EnvFile>,
    pub env: Env,
    /// Value as text, and whether the definition asks for it (or we only restore it).
    pub oom_score_adj: Option<(CString, bool)>,
    pub limits: Vec<LimitSetting>,
    pub nice: Option<(i32, CString)>,
    pub identity: Option<IdentitySetting>,
    pub confinement: Confinement,
    pub secrets: Option<SecretFiles>,
    /// A file that a run before this one may have left.
    pub stale: Option<CString>,
    pub umask: u32,
    pub working_dir: CString,
    pub program: CString,
    /// Pointers into `program`'s strings, closed by null.
    pub argv: Vec<*const c_char>,
    /// Room to join PATH's parts and the program's name; none for a name with a slash.
    pub candidate: Vec<u8>,
}

pub(super) struct EnvFile {
    pub path: CString,
    /// It may be missing.
    pub optional: bool,
    /// Room for its content.
    pub buffer: Vec<u8>,
}

/// The environment: entries that nothing overrides, then those that the env file may replace,
/// then room for the file's own and the closing null.
pub(super) struct Env {
    pub entries: Vec<*const c_char>,
    pub fixed: usize,
    pub used: usize,
}

pub(super) struct LimitSetting {
    pub name: CString,
    pub resource: i32,
    pub soft: u64,
    pub hard: u64,
    /// Asked for by the definition; else it is the daemon's former one.
    pub required: bool,
}

pub(super) struct IdentitySetting {
    pub uid: u32,
    pub gid: u32,
    pub groups: Option<Vec<u32>>,
    /// For messages: the user's and the group's names as they were asked for.
    pub user: CString,
    pub group: CString,
}

/// A step that failed: `step thing`, `step thing line N`, `step thing, note`.
struct Failure<'a> {
    errno: i32,
    step: &'static str,
    thing: &'a [u8],
    line: u32,
    note: &'static str,
}

impl<'a> Failure<'a> {
    fn now(step: &'static str, thing: &'a [u8]) -> Failure<'a> {
        Failure::of(errno(), step, thing)
    }
    fn of(errno: i32, step: &'static str, thing: &'a [u8]) -> Failure<'a> {
        let (line, note) = (0, "");
        Failure {
            errno,
            step,
            thing,
            line,
            note,
        }
    }
}

fn errno() -> i32 {
    // Only reads errno: from_raw_os_error and last_os_error do not allocate.
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Sets the child up and executes the program. Never returns.
///
/// # Safety
/// Only in a fresh child of `sys::clone_process`.
pub(super) unsafe fn run(setup: &mut ChildSetup) -> ! {
    let mut report = setup.report;
    // SAFETY: in a fresh child, as the caller promises; so for all that is called from here on.
    if let Err(failure) = unsafe { set_up(setup, &mut report) } {
        send(report, &failure);
    }
    // SAFETY: always allowed; nothing of the daemon's runs in this process any more.
    unsafe { libc::_exit(127) }
}

/// The longest report; far below PIPE_BUF, so it is written whole or not at all.
pub(super) const MAX_REPORT: usize = 512;

/// errno in 4 bytes (native order: one machine), then the step in words.
fn send(fd: RawFd, failure: &Failure) {
    let mut message = [0u8; MAX_REPORT];
    let mut length = 0;
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            if let Some(place) = message.get_mut(length) {
                *place = *byte;
                length += 1;
            }
        }
    };
    put(&failure.errno.to_ne_bytes());
    put(failure.step.as_bytes());
    if !failure.thing.is_empty() {
        put(b" ");
        // Room is left for the line's number.
        put(failure.thing.get(..400).unwrap_or(failure.thing));
    }
    if failure.line > 0 {
        put(b" line ");
        let mut divisor = 1_000_000_000;
        while divisor > failure.line {
            divisor /= 10;
        }
        while divisor > 0 {
            put(&[b'0' + (failure.line / divisor % 10) as u8]);
            divisor /= 10;
        }
    }
    put(failure.note.as_bytes());
    // SAFETY: the buffer is an array of ours, at least `length` long.
    unsafe { libc::write(fd, message.as_ptr().cast(), length) };
}

unsafe fn set_up<'a>(setup: &'a mut ChildSetup, report: &mut RawFd) -> Result<(), Failure<'a>> {
    // SAFETY: system calls on numbers and on strings that `setup` owns, and functions of this file.
    unsafe {
        die_with_the_daemon(setup.parent);
        if libc::setsid() < 0 {
            return Err(Failure::now("session", b""));
        }
        reset_signals(setup.altered);
        place_descriptors(setup, report)?;
        write_pids(&setup.pids);
        if let Some(file) = &mut setup.env_file {
            read_env_file(file, &mut setup.env)?;
        }
        set_oom_score_adj(&setup.oom_score_adj)?;
        set_limits(&setup.limits)?;
        if let Some((nice, text)) = &setup.nice
            && libc::setpriority(libc::PRIO_PROCESS, 0, *nice) < 0
        {
            return Err(Failure::now("nice", text.as_bytes()));
        }
        if let Some(files) = &mut setup.secrets {
            secrets::hand_out(files)?;
        }
        confine::before_identity(&setup.confinement)?;
        if let Some(identity) = &setup.identity {
            become_user(identity)?;
        }
        confine::after_identity(&setup.confinement)?;
        // A change of identity clears it.
        die_with_the_daemon(setup.parent);
        if let Some(stale) = &setup.stale {
            // What cannot be removed is found to be stale later.
            libc::unlink(stale.as_ptr());
        }
        libc::umask(setup.umask as libc::mode_t);
        if libc::chdir(setup.working_dir.as_ptr()) < 0 {
            return Err(Failure::now("working_dir", setup.working_dir.as_bytes()));
        }
        if setup.outlives {
            libc::prctl(libc::PR_SET_PDEATHSIG, 0 as libc::c_ulong);
        }
        execute(
            &setup.program,
            &setup.argv,
            &setup.env,
            &mut setup.candidate,
        )
    }
}

unsafe fn die_with_the_daemon(parent: i32) {
    // SAFETY: numbers only.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
        if libc::getppid() != parent {
            libc::_exit(127);
        }
    }
}

/// Bytes of the kernel's signal set, on all but MIPS.
const SIGNAL_SET: usize = 8;
/// The kernel's `struct sigaction` differs between architectures, but never in this: all zero is
/// SIG_DFL, no flags, empty mask. As many bytes as any has, and more.
type SignalAction = [u64; 8];

/// The signals that this process handles or ignores (Rust ignores SIGPIPE, our own parent may have
/// ignored others). Raw, because the C library refuses to tell of the two signals of its own (32
/// and 33), which are inherited as ignored all the same.
pub(super) fn altered_signals() -> u64 {
    let mut altered = 0;
    for signal in 1..=64 {
        let (none, mut action): (*const u64, SignalAction) = (ptr::null(), [0; 8]);
        let (number, place) = (libc::SYS_rt_sigaction, action.as_mut_ptr());
        // SAFETY: it writes to `action`, which is longer than what the kernel has to tell.
        let told = unsafe { libc::syscall(number, signal, none, place, SIGNAL_SET) };
        if told < 0 || action != [0; 8] {
            altered |= 1 << (signal - 1);
        }
    }
    altered
}

/// These to their default, and nothing blocked.
pub(super) unsafe fn reset_signals(altered: u64) {
    let default: SignalAction = [0; 8];
    let nothing: *mut u64 = ptr::null_mut();
    // SAFETY: `default` is longer than either of the structs that the kernel reads.
    unsafe {
        for signal in (1..=64).filter(|signal| altered >> (signal - 1) & 1 == 1) {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                nothing,
                SIGNAL_SET,
            );
        }
        let (how, none) = (libc::SIG_SETMASK, default.as_ptr());
        libc::syscall(libc::SYS_rt_sigprocmask, how, none, nothing, SIGNAL_SET);
    }
}

/// 0, 1, 2 and the declared ones from 3; all others close at exec.
unsafe fn place_descriptors<'a>(
    setup: &mut ChildSetup,
    report: &mut RawFd,
) -> Result<(), Failure<'a>> {
    let failed = || Failure::now("descriptors", b"");
    // Sources that stand where something is to be placed move up first: then no source equals its
    // place (dup2 would leave close-on-exec set) and none is overwritten before its turn.
    let base = 3 + setup.fds.len() as RawFd;
    let base = setup.fd_at.map_or(base, |(place, _)| base.max(place + 1));
    let sources = [
        report,
        &mut setup.stdin,
        &mut setup.stdout,
        &mut setup.stderr,
    ];
    let fd_at = setup.fd_at.iter_mut().map(|(_, fd)| fd);
    for fd in sources.into_iter().chain(setup.fds.iter_mut()).chain(fd_at) {
        if *fd < base {
            // SAFETY: numbers only.
            *fd = unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, base) };
            if *fd < 0 {
                return Err(failed());
            }
        }
    }
    // Where the kernel has no close_range, what the daemon opened is close-on-exec anyway.
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
    // SAFETY: numbers only; it marks, it closes nothing.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, flags) };
    let standard = [setup.stdin, setup.stdout, setup.stderr];
    for (place, source) in standard.iter().chain(setup.fds.iter()).enumerate() {
        // SAFETY: the places are this process's own to fill, and no source stands in one.
        if unsafe { libc::dup2(*source, place as RawFd) } < 0 {
            return Err(failed());
        }
    }
    if let Some((place, source)) = setup.fd_at {
        // A place among the others would take one of theirs.
        let taken = place < 3 + setup.fds.len() as RawFd;
        // SAFETY: as above.
        if taken || unsafe { libc::dup2(source, place) } < 0 {
            return Err(Failure::of(
                libc::EBUSY,
                "notify_fd",
                b"is among those of LISTEN_FDS",
            ));
        }
    }
    Ok(())
}

/// Our own number, in digits, into the environment.
unsafe fn write_pids(places: &[*mut u8]) {
    // SAFETY: numbers only.
    let own = unsafe { libc::getpid() } as u32;
    for place in places {
        let mut divisor = 1;
        while own / divisor >= 10 {
            divisor *= 10;
        }
        let mut at = *place;
        while divisor > 0 {
            // SAFETY: `spawn` left room for ten digits, and a closing null behind them.
            unsafe {
                *at = b'0' + (own / divisor % 10) as u8;
                at = at.add(1);
            }
            divisor /= 10;
        }
        // SAFETY: as above.
        unsafe { *at = 0 };
    }
}

unsafe fn read_env_file<'a>(file: &'a mut EnvFile, env: &mut Env) -> Result<(), Failure<'a>> {
    let path = file.path.as_bytes();
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY;
    // SAFETY: a string that `file` owns.
    let fd = unsafe { libc::open(file.path.as_ptr(), flags) };
    if fd < 0 {
        return match errno() {
            libc::ENOENT if file.optional => Ok(()),
            errno => Err(Failure::of(errno, "env_file", path)),
        };
    }
    let mut length = 0;
    loop {
        let room = file.buffer.get_mut(length..).unwrap_or_default();
        if room.is_empty() {
            return Err(Failure::of(libc::EFBIG, "env_file", path));
        }
        // SAFETY: the buffer is `room` and not longer.
        match unsafe { libc::read(fd, room.as_mut_ptr().cast(), room.len()) } {
            0 => break,
            count if count > 0 => length += count as usize,
            _ if errno() == libc::EINTR => {}
            _ => return Err(Failure::now("env_file", path)),
        }
    }
    // SAFETY: opened above, and nobody else has it.
    unsafe { libc::close(fd) };
    let text = file.buffer.get_mut(..length + 1).unwrap_or_default();
    env_file::parse(text, &mut |entry| env.put(entry)).map_err(|bad| Failure {
        errno: bad.errno,
        step: "env_file",
        thing: path,
        line: bad.line,
        note: "",
    })
}

impl Env {
    /// Adds `KEY=VALUE`, or replaces what has that key and may be replaced. False: no room.
    fn put(&mut self, entry: &CStr) -> bool {
        let key = key(entry);
        for (index, known) in self.entries.iter_mut().take(self.used).enumerate() {
            // SAFETY: the entries up to `used` are strings of the plan or of the env file's buffer.
            if self::key(unsafe { CStr::from_ptr(*known) }) == key {
                if index >= self.fixed {
                    *known = entry.as_ptr();
                }
                return true;
            }
        }
        // The last place is the closing null's.
        if self.used + 1 >= self.entries.len() {
            return false;
        }
        if let Some(place) = self.entries.get_mut(self.used) {
            *place = entry.as_ptr();
            self.used += 1;
        }
        true
    }

    fn path(&self) -> Option<&[u8]> {
        let mut entries = self.entries.iter().take(self.used);
        entries.find_map(|entry| {
            // SAFETY: as in `put`.
            unsafe { CStr::from_ptr(*entry) }
                .to_bytes()
                .strip_prefix(b"PATH=")
        })
    }
}

fn key(entry: &CStr) -> &[u8] {
    entry
        .to_bytes()
        .split(|byte| *byte == b'=')
        .next()
        .unwrap_or_default()
}

unsafe fn set_oom_score_adj(setting: &Option<(CString, bool)>) -> Result<(), Failure<'_>> {
    let Some((value, required)) = setting else {
        return Ok(());
    };
    let (bytes, flags) = (value.as_bytes(), libc::O_WRONLY | libc::O_CLOEXEC);
    // SAFETY: strings that live through the calls; the descriptor is ours.
    let written = unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), flags);
        let written = fd >= 0 && libc::write(fd, bytes.as_ptr().cast(), bytes.len()) >= 0;
        let failure = Failure::now("oom_score_adj", bytes);
        if fd >= 0 {
            libc::close(fd);
        }
        if written { Ok(()) } else { Err(failure) }
    };
    if *required { written } else { Ok(()) }
}

/// `struct rlimit64`: the same on every architecture, which `struct rlimit` is not.
#[repr(C)]
struct Rlimit64 {
    soft: u64,
    hard: u64,
}

unsafe fn set_limits(limits: &[LimitSetting]) -> Result<(), Failure<'_>> {
    for limit in limits {
        let value = Rlimit64 {
            soft: limit.soft,
            hard: limit.hard,
        };
        let old: *mut Rlimit64 = ptr::null_mut();
        let number = libc::SYS_prlimit64;
        // SAFETY: the kernel reads `value` and writes to no old one.
        let answer = unsafe { libc::syscall(number, 0, limit.resource, &raw const value, old) };
        if answer < 0 && limit.required {
            return Err(Failure::now("limit", limit.name.as_bytes()));
        }
    }
    Ok(())
}

// The calls that take 32-bit ids. Called raw, because the C library's own would also ask threads
// that this child does not have.
#[cfg(any(target_arch = "arm", target_arch = "x86"))]
const SET_IDS: [libc::c_long; 3] = [
    libc::SYS_setgroups32,
    libc::SYS_setresgid32,
    libc::SYS_setresuid32,
];
#[cfg(not(any(target_arch = "arm", target_arch = "x86")))]
const SET_IDS: [libc::c_long; 3] = [
    libc::SYS_setgroups,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
];

unsafe fn become_user(identity: &IdentitySetting) -> Result<(), Failure<'_>> {
    let [set_groups, set_gid, set_uid] = SET_IDS;
    let (uid, gid) = (identity.uid, identity.gid);
    // SAFETY: numbers, and a list with its own length.
    unsafe {
        if let Some(groups) = &identity.groups
            && libc::syscall(set_groups, groups.len(), groups.as_ptr()) < 0
        {
            return Err(Failure::now("groups of", identity.user.as_bytes()));
        }
        if libc::syscall(set_gid, gid, gid, gid) < 0 {
            return Err(Failure::now("group", identity.group.as_bytes()));
        }
        if libc::syscall(set_uid, uid, uid, uid) < 0 {
            return Err(Failure::now("user", identity.user.as_bytes()));
        }
    }
    Ok(())
}

/// Executes the program; a bare name is sought along the service's PATH as execvp(3) does, but
/// no shell is run for a file without a `#!`.
unsafe fn execute<'a>(
    program: &'a CStr,
    argv: &[*const c_char],
    env: &Env,
    candidate: &'a mut [u8],
) -> Result<(), Failure<'a>> {
    let (name, environment) = (program.to_bytes(), env.entries.as_ptr());
    if name.contains(&b'/') {
        // SAFETY: strings and lists that live to the exec, each list closed by null.
        unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), environment) };
        let errno = errno();
        // The file is there and is not found all the same: what it needs is missing.
        // SAFETY: a string of the plan.
        if errno == libc::ENOENT && unsafe { libc::access(program.as_ptr(), libc::F_OK) } == 0 {
            let note = ", which is there: its interpreter or loader is not";
            return Err(Failure {
                note,
                ..Failure::of(errno, "exec", name)
            });
        }
        return Err(Failure::of(errno, "exec", name));
    }
    let mut denied = false;
    for directory in env.path().unwrap_or_default().split(|byte| *byte == b':') {
        if !join(candidate, directory, name) {
            continue;
        }
        // SAFETY: as above; `join` closed the candidate with a null.
        unsafe { libc::execve(candidate.as_ptr().cast(), argv.as_ptr(), environment) };
        match errno() {
            libc::EACCES => denied = true,
            libc::ENOENT
            | libc::ENOTDIR
            | libc::ENAMETOOLONG
            | libc::ELOOP
            | libc::ESTALE
            | libc::ENODEV
            | libc::ETIMEDOUT => {}
            errno => {
                let found = candidate.split(|byte| *byte == 0).next();
                return Err(Failure::of(errno, "exec", found.unwrap_or(name)));
            }
        }
    }
    let errno = if denied { libc::EACCES } else { libc::ENOENT };
    let note = ", sought along PATH";
    Err(Failure {
        note,
        ..Failure::of(errno, "exec", name)
    })
}

/// `directory/name` and a null, or false if it does not fit. An empty part of PATH is the working
/// directory.
fn join(candidate: &mut [u8], directory: &[u8], name: &[u8]) -> bool {
    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    if directory.len() + slash.len() + name.len() + 1 > candidate.len() {
        return false;
    }
    let parts = directory.iter().chain(slash).chain(name).chain(b"\0");
    for (place, byte) in candidate.iter_mut().zip(parts) {
        *place = *byte;
    }
    true
}
