//! The system calls that `nix` does not wrap, and what `/proc` tells of a process.
//!
//! Thin: each function is one call, or one file read, with its errors as they come. Decisions are
//! made above. Nothing here blocks but on local memory and `/proc`.
//!
//! Lowest kernel: Linux 5.4 (`waitid(P_PIDFD)`; `pidfd_send_signal` is 5.1, `CLONE_PIDFD` 5.2,
//! `pidfd_open` 5.3). Newer calls have a way round them: `clone3` with `CLONE_CLEAR_SIGHAND` (5.5;
//! old container filters answer EPERM), `CLONE_INTO_CGROUP` (5.7), `close_range` (5.9; `CLOSE_RANGE_CLOEXEC` 5.11),
//! `PIDFD_GET_INFO` with the exit status (6.15).

use crate::engine::event::SpawnError;
use crate::exit::{Exit, Signal};
use crate::id::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Is this errno our own want of something (descriptors, memory, processes), and so not the fault
/// of what was to be started or asked?
pub fn is_ours(errno: i32) -> bool {
    matches!(
        errno,
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOBUFS
    )
}

/// A step that failed in the parent, with its errno.
pub fn failed(step: impl Into<Box<str>>, error: &io::Error) -> SpawnError {
    let errno = error.raw_os_error().unwrap_or(0);
    SpawnError {
        step: step.into(),
        errno,
        ours: is_ours(errno),
    }
}

/// 0 or more is the answer, less is errno.
fn checked(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// `CLONE_CLEAR_SIGHAND` (clone(2)), 64 bits wide; the libc crate's is cut to an int.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// `CLONE_INTO_CGROUP`, 64 bits wide as well.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` as of Linux 5.7 (clone(2)).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What of it Linux 5.3 has.
const CLONE_ARGS_5_3: usize = 64;

/// `CLONE_INTO_CGROUP` was refused once: the kernel is older than 5.7, or as for [`NO_CLONE3`].
static NO_CLONE_INTO: AtomicBool = AtomicBool::new(false);

/// clone3 was refused once: the kernel is older than 5.5, or a filter forbids it.
static NO_CLONE3: AtomicBool = AtomicBool::new(false);

/// A copy of this process, as fork(2) makes it, and its pidfd in the same instant.
/// `None` is said to the child.
///
/// # Safety
/// The C library does not know of the new process: until it executes a program or ends by
/// `_exit`, the child may make async-signal-safe calls only, and must not allocate.
pub unsafe fn clone_process() -> io::Result<Option<(Pid, OwnedFd)>> {
    let mut pidfd: RawFd = -1;
    let pid = if NO_CLONE3.load(Ordering::Relaxed) {
        // SAFETY: as the caller promises.
        unsafe { clone_old(&mut pidfd) }?
    } else {
        let mut args = CloneArgs::default();
        // SAFETY: as the caller promises.
        match unsafe { clone3(&mut args, &mut pidfd, CLONE_ARGS_5_3) } {
            Ok(pid) => pid,
            Err(e) if refused(&e) => {
                NO_CLONE3.store(true, Ordering::Relaxed);
                // SAFETY: as above.
                unsafe { clone_old(&mut pidfd) }?
            }
            Err(e) => return Err(e),
        }
    };
    parted(pid, pidfd)
}

/// The same, born in the cgroup of this directory. An error of the kind Unsupported: that cannot
/// be done, but the child can be put there.
///
/// # Safety
/// As [`clone_process`].
pub unsafe fn clone_into(cgroup: BorrowedFd) -> io::Result<Option<(Pid, OwnedFd)>> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        cgroup: cgroup.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    if NO_CLONE3.load(Ordering::Relaxed) || NO_CLONE_INTO.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: as the caller promises.
    match unsafe { clone3(&mut args, &mut pidfd, size_of::<CloneArgs>()) } {
        Ok(pid) => parted(pid, pidfd),
        Err(e) if refused(&e) || e.raw_os_error() == Some(libc::E2BIG) => {
            NO_CLONE_INTO.store(true, Ordering::Relaxed);
            Err(io::ErrorKind::Unsupported.into())
        }
        Err(e) => Err(e),
    }
}

unsafe fn clone3(args: &mut CloneArgs, pidfd: &mut RawFd, size: usize) -> io::Result<libc::c_long> {
    args.flags |= libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    args.pidfd = &raw mut *pidfd as usize as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    let args = &raw mut *args;
    // SAFETY: the kernel reads `size` of `args`, all there is at most, and writes one descriptor to
    // `pidfd`; for the child the caller has promised.
    checked(unsafe { libc::syscall(libc::SYS_clone3, args, size) })
}

/// What a clone has answered: nothing to the child.
fn parted(pid: libc::c_long, pidfd: RawFd) -> io::Result<Option<(Pid, OwnedFd)>> {
    if pid == 0 {
        return Ok(None);
    }
    let pid = Pid(pid as i32);
    if pidfd < 0 {
        // A kernel that does not know CLONE_PIDFD. The child cannot vanish before we reap it.
        let opened = pidfd_open(pid).inspect_err(|_| unsafe {
            // SAFETY: a child of ours that nobody else knows; it ends at once.
            libc::kill(pid.0, libc::SIGKILL);
            libc::waitpid(pid.0, std::ptr::null_mut(), 0);
        });
        return opened.map(|fd| Some((pid, fd)));
    }
    // SAFETY: the kernel just made it for us.
    Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })))
}

fn refused(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::ENOSYS | libc::EPERM | libc::EINVAL)
    )
}

/// The same by clone(2). The order of its arguments differs between architectures only behind
/// the third, where all are zero.
unsafe fn clone_old(pidfd: &mut RawFd) -> io::Result<libc::c_long> {
    let flags = (libc::CLONE_PIDFD | libc::SIGCHLD) as libc::c_ulong;
    let zero: libc::c_ulong = 0;
    // SAFETY: it writes one descriptor to `pidfd`; without a stack the child goes on with a copy of ours.
    checked(unsafe { libc::syscall(libc::SYS_clone, flags, zero, &raw mut *pidfd, zero, zero) })
}

/// pidfd_open(2); the descriptor is close-on-exec.
pub fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: numbers only.
    let fd = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) })?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// pidfd_send_signal(2): never hits a stranger who was given the same number.
/// ESRCH: it ended and was reaped.
pub fn pidfd_send_signal(pidfd: BorrowedFd, signal: Signal) -> io::Result<()> {
    let nothing: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: without a siginfo the kernel reads nothing.
    checked(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal.0 as libc::c_int,
            nothing,
            0,
        )
    })?;
    Ok(())
}

/// Has this process ended (reaped or not)? poll(2) on the pidfd, without waiting.
pub fn has_ended(pidfd: BorrowedFd) -> bool {
    let mut poll = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, as is said.
    unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
}

/// waitid(2) without waiting. `None`: nothing to report. Death by a real-time signal is told too,
/// which nix's `waitid` makes an error of after it has reaped.
fn waitid(id_type: libc::idtype_t, id: libc::id_t, flags: i32) -> io::Result<Option<(Pid, Exit)>> {
    // SAFETY: all zero is a siginfo that says nothing.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = flags | libc::WEXITED | libc::WNOHANG;
    // SAFETY: it writes to `info` only.
    if unsafe { libc::waitid(id_type, id, &raw mut info, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: of a child's end, or zero: the fields are there.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let exit = if info.si_code == libc::CLD_EXITED {
        Exit::Code(status as u8)
    } else {
        Exit::Signal(Signal(status as u8))
    };
    Ok(Some((Pid(pid), exit)))
}

/// Reaps the child of this pidfd if it has ended. ECHILD: not our child, or reaped already.
pub fn reap_pidfd(pidfd: BorrowedFd) -> io::Result<Option<Exit>> {
    let answer = waitid(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, 0)?;
    Ok(answer.map(|(_, exit)| exit))
}

/// Is the process of this pidfd a child of ours that was not reaped?
pub fn is_child(pidfd: BorrowedFd) -> bool {
    let id = pidfd.as_raw_fd() as libc::id_t;
    waitid(libc::P_PIDFD, id, libc::WNOWAIT).is_ok()
}

/// Reaps the child of this number if it has ended. Only for children that have no pidfd.
pub fn reap_pid(pid: Pid) -> io::Result<Option<Exit>> {
    let answer = waitid(libc::P_PID, pid.0 as libc::id_t, 0)?;
    Ok(answer.map(|(_, exit)| exit))
}

/// Some child that has ended and is not reaped; it stays so.
pub fn first_zombie() -> io::Result<Option<Pid>> {
    match waitid(libc::P_ALL, 0, libc::WNOWAIT) {
        Ok(answer) => Ok(answer.map(|(pid, _)| pid)),
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(e) => Err(e),
    }
}

/// `struct pidfd_info` as first published (linux/pidfd.h, 64 bytes).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// How a process ended that is not our child, once its parent has reaped it: `PIDFD_GET_INFO`
/// (ioctl_pidfd(2)), Linux ≥ 6.15. `None`: the kernel does not tell, or does not tell yet.
pub fn exit_info(pidfd: BorrowedFd) -> Option<Exit> {
    // _IOWR(0xFF, 11, struct pidfd_info) as x86, ARM and RISC-V encode it.
    let request = (3u32 << 30) | ((size_of::<PidfdInfo>() as u32) << 16) | (0xFF << 8) | 11;
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the kernel writes as much as the request's number says, which is the struct's size.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), request as _, &raw mut info) };
    if answer < 0 || info.mask & PIDFD_INFO_EXIT == 0 {
        return None;
    }
    let status = info.exit_code;
    Some(if libc::WIFEXITED(status) {
        Exit::Code(libc::WEXITSTATUS(status) as u8)
    } else {
        Exit::Signal(Signal(libc::WTERMSIG(status) as u8))
    })
}

/// Marks every descriptor from 3 on close-on-exec, once at the daemon's start: what we were
/// handed by whoever started us must not reach a service. All we open later is close-on-exec.
pub fn keep_descriptors_to_ourselves() {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_uint;
    // SAFETY: it marks, it closes nothing.
    if unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, flags) } == 0 {
        return;
    }
    for fd in open_descriptors() {
        // SAFETY: numbers only.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Closes every descriptor from 3 on but these. Only in a process of which nothing else of this
/// library is used any more: owners of the closed descriptors are not told.
pub fn close_all_but(keep: &mut [RawFd]) {
    keep.sort_unstable();
    let mut from: RawFd = 3;
    for &fd in keep.iter() {
        if fd > from {
            close_span(from, fd - 1);
        }
        from = from.max(fd.saturating_add(1));
    }
    close_span(from, RawFd::MAX);
}

fn close_span(first: RawFd, last: RawFd) {
    let (a, b) = (first as libc::c_uint, last as libc::c_uint);
    // SAFETY: the caller no longer uses what is in the span.
    if unsafe { libc::syscall(libc::SYS_close_range, a, b, 0) } == 0 {
        return;
    }
    for fd in open_descriptors() {
        if (first..=last).contains(&fd) {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// Lets go of the program's own code and constants, which come back from the page cache as they are
/// used: what only the start needed no longer counts as ours. Nothing is lost, for these pages were
/// never written to.
pub fn let_go_of_code() {
    // SAFETY: it calls us back once for each loaded object, with its headers.
    unsafe { libc::dl_iterate_phdr(Some(let_go_of_object), std::ptr::null_mut()) };
}

unsafe extern "C" fn let_go_of_object(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the loader's own table, which lives as long as the object.
    let (base, headers) = unsafe {
        let info = &*info;
        let count = usize::from(info.dlpi_phnum);
        (
            info.dlpi_addr as usize,
            std::slice::from_raw_parts(info.dlpi_phdr, count),
        )
    };
    // SAFETY: it only tells.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as usize;
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = base + header.p_vaddr as usize;
        // Whole pages of this segment only: at its borders a writable one may share them.
        let (from, to) = (
            start.next_multiple_of(page),
            start + header.p_filesz as usize,
        );
        let length = (to / page * page).saturating_sub(from);
        if length > 0 {
            // SAFETY: pages of a file, mapped private and never written: read again when touched.
            unsafe { libc::madvise(from as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        }
    }
    0
}

/// Our open descriptors from 3 on, by /proc/self/fd. Without /proc: all numbers up to the limit.
fn open_descriptors() -> Vec<RawFd> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        let limit = nofile().map_or(1024, |(soft, _)| soft.min(65_536));
        return (3..limit as RawFd).collect();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd >= 3)
        .collect()
}

/// RLIMIT_NOFILE, soft and hard.
#[allow(clippy::unnecessary_cast)] // rlim_t is 32 bits wide on some targets
pub fn nofile() -> Option<(u64, u64)> {
    let (soft, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).ok()?;
    Some((soft as u64, hard as u64))
}

/// A pipe, both ends close-on-exec; the read end does not block, the write end does if so wished.
pub fn pipe(writer_blocks: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let (reader, writer) = nix::unistd::pipe2(flags)?;
    if writer_blocks {
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty()))?;
    }
    Ok((reader, writer))
}

/// What the daemon was started with and changes for itself. Children get it back.
///
/// Taken once: a daemon that executes itself anew must hand it on, because by then it would take
/// its own changes for how it was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Origin {
    /// RLIMIT_NOFILE before we raised it, soft and hard.
    pub nofile: Option<(u64, u64)>,
    /// Our oom_score_adj before we lowered it.
    pub oom_score_adj: Option<i16>,
}

/// The descriptors a daemon of many services wants.
const WANTED_NOFILE: u64 = 131_072;
/// What the out-of-memory killer should think of us: last, but not never.
const OWN_OOM_SCORE_ADJ: i16 = -900;

impl Origin {
    /// Raises our own limit of descriptors as far as we may, protects us from the out-of-memory
    /// killer if we may, keeps inherited descriptors to ourselves, and remembers how it was.
    /// `handed_over`: an execution of this process before us has done it, and found this.
    pub fn take(handed_over: Option<Origin>) -> Origin {
        use nix::sys::resource::{Resource, setrlimit};
        keep_descriptors_to_ourselves();
        if let Some(origin) = handed_over {
            return origin;
        }
        let nofile = nofile();
        if let Some((soft, hard)) = nofile {
            // Beyond the hard limit only root may go; who may not takes what there is.
            let (enough, all) = (soft.max(WANTED_NOFILE), hard.max(WANTED_NOFILE));
            let raised = setrlimit(Resource::RLIMIT_NOFILE, enough as _, all as _);
            if raised.is_err() {
                let _ = setrlimit(Resource::RLIMIT_NOFILE, hard as _, hard as _);
            }
        }
        Origin {
            nofile,
            oom_score_adj: lower_oom_score_adj(),
        }
    }

    /// In a helper: be again as killable as we were.
    pub fn restore_oom_score_adj(&self) {
        if let Some(value) = self.oom_score_adj {
            let _ = fs::write("/proc/self/oom_score_adj", value.to_string());
        }
    }
}

/// Our former oom_score_adj, if it was changed.
fn lower_oom_score_adj() -> Option<i16> {
    let path = "/proc/self/oom_score_adj";
    let before: i16 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    if before <= OWN_OOM_SCORE_ADJ {
        return None;
    }
    fs::write(path, OWN_OOM_SCORE_ADJ.to_string()).ok()?;
    Some(before)
}

/// `/dev/null`, or where there is none a pipe that nobody writes to: reads as empty either way.
pub fn empty_input() -> io::Result<OwnedFd> {
    match fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
    {
        Ok(file) => Ok(file.into()),
        Err(_) => pipe(true).map(|(reader, _)| reader),
    }
}

/// Reads what is there without waiting, up to the buffer's size. `None`: nothing yet.
pub fn read_ready(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match nix::unistd::read(&fd, buffer) {
            Ok(length) => return Ok(Some(length)),
            Err(nix::Error::EAGAIN) => return Ok(None),
            Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Tells of a descriptor only that its other side has hung up, which epoll(7) always tells.
pub fn watch_hang_up(poll: &mio::Poll, fd: &OwnedFd, token: mio::Token) -> io::Result<()> {
    let mut event = libc::epoll_event {
        events: libc::EPOLLET as u32,
        u64: token.0 as u64,
    };
    let (epoll, fd, add) = (poll.as_raw_fd(), fd.as_raw_fd(), libc::EPOLL_CTL_ADD);
    // SAFETY: the kernel reads one event.
    checked(unsafe { libc::epoll_ctl(epoll, add, fd, &raw mut event) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The old way gives a child with a pidfd too.
    #[test]
    fn without_clone3_a_child_has_a_pidfd_all_the_same() {
        NO_CLONE3.store(true, Ordering::Relaxed);
        let cloned = unsafe { clone_process() }.unwrap();
        let Some((pid, pidfd)) = cloned else {
            unsafe { libc::_exit(7) }
        };
        assert!(pid.0 > 0);
        while !has_ended(pidfd.as_fd()) {
            std::thread::yield_now();
        }
        assert_eq!(reap_pidfd(pidfd.as_fd()).unwrap(), Some(Exit::Code(7)));
        NO_CLONE3.store(false, Ordering::Relaxed);
    }
}
