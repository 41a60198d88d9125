//! Watching and reaping: a service's main process by its pidfd, everything else by SIGCHLD.
//!
//! Invariant: a process that is known (it has a pidfd of ours) is reaped by [`reap`] on that pidfd
//! and by nothing else; `waitid(P_ALL)` is only ever used to look. Deregister and close a pidfd
//! right after its process was reaped: the open descriptor would fire once more.
//!
//! Orphans of our services come to us (subreaper). While they live they are [`strangers`]; when
//! they end they are reaped by number, [`reap_orphans`].

use crate::exit::{Exit, Signal};
use crate::id::Pid;
use crate::reactor::procfs;
use crate::reactor::{program, sys};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Makes orphaned descendants children of ours instead of PID 1's (PR_SET_CHILD_SUBREAPER).
pub fn become_subreaper() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    Ok(())
}

/// What a pidfd tells of its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    No,
    /// It ended, and if it was our child it is reaped now.
    Yes(Exit),
    /// Not our child; it ended and waits for its own parent to reap it. How it ended may be known
    /// after that: the pidfd fires once more (EPOLLHUP). Do not wait long, a bad parent never
    /// does; `Exit::Unknown` then.
    Unreaped,
}

/// Asks after a process whose pidfd may have fired. Works for children (also those that were left
/// to us by an exec of ourselves) and for adopted processes that are not.
pub fn reap(pidfd: BorrowedFd) -> Ended {
    match sys::reap_pidfd(pidfd) {
        Ok(Some(exit)) => return Ended::Yes(exit),
        Ok(None) => return Ended::No,
        // Not our child.
        Err(_) => {}
    }
    if !sys::has_ended(pidfd) {
        return Ended::No;
    }
    if let Some(exit) = sys::exit_info(pidfd) {
        return Ended::Yes(exit);
    }
    // Signal 0 is no signal: it asks whether the process can still be named.
    let reaped = sys::pidfd_send_signal(pidfd, Signal(0))
        .is_err_and(|e| e.raw_os_error() == Some(libc::ESRCH));
    if reaped {
        // The parent may have reaped it between our two questions.
        return Ended::Yes(sys::exit_info(pidfd).unwrap_or(Exit::Unknown));
    }
    Ended::Unreaped
}

/// Takes a process of a former daemon up again: `None` if there is no process of this number or
/// it is another one. It may be a zombie; [`reap`] tells.
///
/// The caller has made sure that the journal is of this boot and pid namespace. The start time is
/// compared after the pidfd was opened: only then the number cannot change hands any more.
///
/// `in_place`: this process has executed itself anew. Its children were reaped by nobody meanwhile,
/// so their numbers are their own; where there is no /proc that must do for all of them.
pub fn adopt(pid: Pid, started: u64, in_place: bool) -> Option<OwnedFd> {
    let pidfd = sys::pidfd_open(pid).ok()?;
    let same = match procfs::start_time(pid) {
        Some(found) => found == started,
        None => in_place && program::without_proc(),
    };
    same.then_some(pidfd)
}

/// Signals a run's main process, with `group` its whole process group. Who wants to end it sends
/// SIGCONT after the signal: a stopped process keeps it pending.
///
/// Only while the main process is not reaped: its number stands for the group.
pub fn signal(pidfd: BorrowedFd, pid: Pid, signal: Signal, group: bool) -> io::Result<()> {
    // A child that has not called setsid yet has no group of its own: ESRCH.
    if group && signal_group(pid, signal).is_ok() {
        return Ok(());
    }
    sys::pidfd_send_signal(pidfd, signal)
}

fn signal_group(group: Pid, signal: Signal) -> io::Result<()> {
    // 1 would mean everybody.
    if group.0 <= 1 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: numbers only; 0 and 1, which would mean others, are excluded above.
    if unsafe { libc::kill(-group.0, signal.0.into()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Is nobody left in this process group? One that ended and was not reaped counts as there:
/// [`reap_orphans`] first.
pub fn group_is_empty(group: Pid) -> bool {
    signal_group(group, Signal(0)).is_err_and(|e| e.raw_os_error() == Some(libc::ESRCH))
}

/// What [`reap_orphans`] did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Orphans {
    pub reaped: Vec<(Pid, Exit)>,
    /// A known child has ended and hides what is behind it: call again once it is reaped.
    pub again: bool,
}

/// Reaps what ended among our children and is not known. On SIGCHLD, which coalesces, and again
/// after known children were reaped when `again` says so; so no orphan is missed and no list of
/// all children is read. At the end of a turn, when the known ones of that turn are reaped.
pub fn reap_orphans(known: &mut dyn FnMut(Pid) -> bool) -> Orphans {
    let mut orphans = Orphans::default();
    // The kernel shows the first that ended; an error means that we have no children.
    while let Ok(Some(pid)) = sys::first_zombie() {
        if known(pid) {
            orphans.again = true;
            return orphans;
        }
        match sys::reap_pid(pid) {
            Ok(Some(exit)) => orphans.reaped.push((pid, exit)),
            // Somebody else reaped it: it is not ours to look at any more.
            Ok(None) | Err(_) => break,
        }
    }
    orphans
}

/// Our children that are not known: orphans of our services, alive or not reaped yet.
///
/// With [`group_is_empty`] it tells whether a run left anything behind: every descendant of its
/// main process hangs under a member of its group or under a child of ours. That holds while we
/// are subreaper and the main process was our child; for an adopted one look with `tree`.
///
/// Whose a stranger is cannot be told here when several services have orphans.
pub fn strangers(ours: &mut procfs::Children, known: &mut dyn FnMut(Pid) -> bool) -> Vec<Pid> {
    let mut children = ours.all().unwrap_or_default();
    children.retain(|pid| !known(*pid));
    children
}

/// More strangers than this are not looked at one by one.
const MAX_LOOKED_AT: usize = 64;

/// When the youngest of these began, in clock ticks since boot. Called right after [`strangers`]:
/// nobody else reaps them, so each is there. None: there is nobody.
pub fn newest(strangers: &[Pid]) -> Option<u64> {
    if strangers.len() > MAX_LOOKED_AT {
        return Some(u64::MAX);
    }
    let began = |pid: &Pid| procfs::start_time(*pid).unwrap_or(u64::MAX);
    strangers.iter().map(began).max()
}

/// Waits until the process has ended, at most this long; for tests and for the end of the day,
/// never in the loop.
pub fn wait_ended(pidfd: impl AsFd, timeout: std::time::Duration) -> bool {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut fds = [nix::poll::PollFd::new(
        pidfd.as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    let timeout = nix::poll::PollTimeout::try_from(millis).unwrap_or(nix::poll::PollTimeout::MAX);
    nix::poll::poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
}
