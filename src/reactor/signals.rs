//! Signals to the daemon, read from a descriptor.
//!
//! They are blocked for good and wait in a signalfd(2) until the loop reads it, so no handler ever
//! interrupts anything. Those of one number coalesce: a SIGCHLD says "at least one". Children
//! start with an empty mask and default dispositions whatever stands here (`child_setup`).

use crate::exit::Signal;
use crate::id::Pid;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as Number, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What we listen to.
const HEARD: [Number; 7] = [
    Number::SIGTERM,
    Number::SIGINT,
    Number::SIGHUP,
    Number::SIGCHLD,
    Number::SIGUSR1,
    Number::SIGUSR2,
    Number::SIGPWR,
];

/// The daemon's ear. Its descriptor is readable when signals wait; edge-triggered, so [`read`]
/// until None.
///
/// [`read`]: Signals::read
pub struct Signals {
    fd: SignalFd,
}

/// A signal that came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caught {
    pub signal: Signal,
    /// Who sent it; 0 from the kernel or from outside our pid namespace.
    pub from: Pid,
    pub uid: u32,
}

impl Signals {
    /// Blocks what we listen to, ignores SIGPIPE, and takes back what our own parent may have
    /// ignored: an ignored SIGCHLD would let the kernel reap our children before we see how they
    /// ended.
    pub fn listen() -> io::Result<Signals> {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        let heard: SigSet = HEARD.into_iter().collect();
        heard.thread_block()?;
        for signal in HEARD {
            // SAFETY: default dispositions, and ignoring, run no code of ours.
            unsafe { sigaction(signal, &default) }?;
        }
        // SAFETY: as above.
        unsafe { sigaction(Number::SIGPIPE, &ignore) }?;
        let fd = SignalFd::with_flags(&heard, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { fd })
    }

    /// The next signal, or None when none waits.
    pub fn read(&self) -> io::Result<Option<Caught>> {
        Ok(self.fd.read_signal()?.map(|info| Caught {
            signal: Signal(info.ssi_signo as u8),
            from: Pid(info.ssi_pid as i32),
            uid: info.ssi_uid,
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
