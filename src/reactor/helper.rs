//! A helper: a copy of the daemon that does one thing which may block, tells the result on a pipe
//! and ends. Ending trees, resolving names, HTTPS probes, reading definitions.
//!
//! No exec: it starts in the time of a fork and shares all its memory with us but what it writes.
//! In exchange it must touch little: no big buffers, no walk over the engine's tables.
//!
//! Invariants: it dies with the daemon; it holds no descriptor of ours but 0–2, its pipe and the
//! named ones; it is in a session of its own (the terminal's Ctrl-C is ours to judge); no panic of
//! it unwinds into the daemon's code or runs the daemon's hook.

use crate::engine::event::SpawnError;
use crate::id::Pid;
use crate::reactor::child_setup;
use crate::reactor::sys::{self, Origin};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A helper at work. Reap it by its pidfd like any other child.
#[derive(Debug)]
pub struct Helper {
    pub pid: Pid,
    pub pidfd: OwnedFd,
    /// What it writes; does not block. A helper that must not write longer than we want is
    /// bounded by [`Output`].
    pub pipe: OwnedFd,
}

/// Exit code of a helper that panicked; a build that aborts on panic ends it by SIGABRT instead.
pub const PANICKED: u8 = 101;

/// Where a helper writes its result. What is over the limit is an error (StorageFull), so the
/// reader's memory is bounded by what it gave.
pub struct Output {
    pipe: File,
    left: usize,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.get(..self.left.min(bytes.len())).unwrap_or_default();
        if fits.is_empty() && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.pipe.write(fits)?;
        self.left -= written;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts a helper. `name` is what `ps` shows (15 bytes), `keep` the descriptors it needs, `limit`
/// the most bytes it may write, `work` what it does; its return value is the exit code.
///
/// `work` borrows; it must not own descriptors that are not in `keep` (they are closed already).
pub fn start(
    name: &CStr,
    origin: &Origin,
    keep: &[BorrowedFd],
    limit: usize,
    work: impl FnOnce(&mut Output) -> u8,
) -> Result<Helper, SpawnError> {
    match fork(name, origin, keep)? {
        Forked::Parent(helper) => Ok(helper),
        Forked::Child(pipe) => {
            let mut output = Output { pipe, left: limit };
            let code = catch_unwind(AssertUnwindSafe(|| work(&mut output)));
            // Without the daemon's exit handlers and destructors.
            // SAFETY: always allowed.
            unsafe { libc::_exit(code.unwrap_or(PANICKED).into()) }
        }
    }
}

enum Forked {
    Parent(Helper),
    Child(File),
}

fn fork(name: &CStr, origin: &Origin, keep: &[BorrowedFd]) -> Result<Forked, SpawnError> {
    let (reader, writer) = sys::pipe(true).map_err(|e| sys::failed("pipe", &e))?;
    let mut keep: Vec<RawFd> = keep.iter().map(|fd| fd.as_raw_fd()).collect();
    keep.push(writer.as_raw_fd());
    let parent = std::process::id();
    // The C library's fork, not a bare clone: the child uses the library like any program.
    // SAFETY: the daemon has one thread, so nothing is locked in the child.
    match unsafe { libc::fork() } {
        0 => {
            become_helper(parent, name, origin, &mut keep);
            // It is closed already.
            std::mem::forget(reader);
            Ok(Forked::Child(writer.into()))
        }
        pid if pid > 0 => {
            let pid = Pid(pid);
            // It cannot vanish before we reap it, so the number is still its own.
            let pidfd = sys::pidfd_open(pid).map_err(|e| {
                // SAFETY: a child of ours that nobody else knows; it ends at once.
                unsafe {
                    libc::kill(pid.0, libc::SIGKILL);
                    libc::waitpid(pid.0, std::ptr::null_mut(), 0);
                }
                sys::failed("pidfd", &e)
            })?;
            Ok(Forked::Parent(Helper {
                pid,
                pidfd,
                pipe: reader,
            }))
        }
        _ => Err(sys::failed("fork", &io::Error::last_os_error())),
    }
}

/// In the child. What it inherited is closed by number, behind its owners' back: none of them may
/// be dropped or used in this process.
fn become_helper(parent: u32, name: &CStr, origin: &Origin, keep: &mut [RawFd]) {
    // SAFETY: numbers, and a name closed by null.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
        if libc::getppid() as u32 != parent {
            libc::_exit(127);
        }
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        libc::setsid();
        child_setup::reset_signals(child_setup::altered_signals());
    }
    sys::close_all_but(keep);
    origin.restore_oom_score_adj();
    // The daemon's hook restarts the daemon.
    drop(std::panic::take_hook());
}
