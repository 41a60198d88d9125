//! The rescue shell of a host: on the console, with job control, as root.
//!
//! Where the loop runs it is a child among others (`loops`). Where it cannot, [`go_on`] does what
//! PID 1 must do meanwhile: it reaps, and it hears who wants the machine to end.

use super::{SHELL, end_machine, rescue_command};
use crate::control::power::Role;
use crate::exit::errno_words;
use crate::id::Pid;
use crate::reactor::child::{self, Ended};
use crate::reactor::reexec;
use crate::reactor::signals::Signals;
use crate::reactor::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A shell that ended sooner could not be used: the next try is not made at once.
const SHORT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(5);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts it. A program that cannot be executed ends with 127, as a shell would tell it.
pub(super) fn start() -> io::Result<(Pid, OwnedFd)> {
    let arguments = rescue_command();
    let mut environment: Vec<CString> = Vec::new();
    let mut named = false;
    for (name, value) in std::env::vars_os() {
        named |= name == "PATH";
        let pair = [name, value].join("=".as_ref()).into_vec();
        environment.extend(CString::new(pair));
    }
    if !named {
        environment.extend(CString::new(format!("PATH={PATH}")));
    }
    let pointers = |strings: &[CString]| {
        let ends = std::iter::once(std::ptr::null());
        strings.iter().map(|s| s.as_ptr()).chain(ends).collect()
    };
    let (argv, envp): (Vec<_>, Vec<_>) = (pointers(&arguments), pointers(&environment));
    // SAFETY: the child makes system calls only.
    let Some((pid, pidfd)) = (unsafe { sys::clone_process() })? else {
        // SAFETY: the arrays and their strings are whole, and end in a null.
        unsafe { become_shell(&argv, &envp) }
    };
    SHELL.store(pid.0, Ordering::Relaxed);
    Ok((pid, pidfd))
}

/// # Safety
/// In a new process; both arrays end in a null.
unsafe fn become_shell(argv: &[*const libc::c_char], envp: &[*const libc::c_char]) -> ! {
    // SAFETY: async-signal-safe system calls, on what is our own.
    unsafe {
        libc::setsid();
        let console = libc::open(c"/dev/console".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if console >= 0 {
            // Its own, so that ctrl-c reaches it.
            libc::ioctl(console, libc::TIOCSCTTY, 1);
            for number in 0..=2 {
                libc::dup2(console, number);
            }
        }
        let adj = libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        );
        if adj >= 0 {
            libc::write(adj, c"0".as_ptr().cast(), 1);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::execve(argv[0], argv.as_ptr(), envp.as_ptr());
        libc::_exit(127)
    }
}

pub(super) fn has_ended() {
    SHELL.store(0, Ordering::Relaxed);
}

/// Without a loop: the shell, then a new execution of this program, for ever.
pub(super) fn go_on() -> ! {
    let signals = Signals::listen().ok();
    loop {
        log::error!(
            "vitald cannot go on: a rescue shell follows; when it ends vitald starts again"
        );
        let begun = Instant::now();
        match start() {
            Ok((pid, pidfd)) => wait_for(pid, pidfd.as_fd(), signals.as_ref()),
            Err(error) => log::error!("cannot start the rescue shell: {error}"),
        }
        has_ended();
        if begun.elapsed() < SHORT {
            log::error!(
                "the rescue shell ended at once; trying again in {} s",
                PAUSE.as_secs()
            );
            rest(signals.as_ref());
        }
        let error = reexec::execute_afresh();
        let words = error
            .raw_os_error()
            .map_or_else(|| error.to_string(), errno_words);
        log::error!("cannot execute vitald again: {words}");
        rest(signals.as_ref());
    }
}

fn wait_for(pid: Pid, pidfd: BorrowedFd, signals: Option<&Signals>) {
    loop {
        let mut asked = vec![PollFd::new(pidfd, PollFlags::POLLIN)];
        asked.extend(signals.map(|signals| PollFd::new(signals.as_fd(), PollFlags::POLLIN)));
        let _ = poll(&mut asked, PollTimeout::from(1000u16));
        hear(signals);
        child::reap_orphans(&mut |other| other == pid);
        if !matches!(child::reap(pidfd), Ended::No) {
            return;
        }
    }
}

fn rest(signals: Option<&Signals>) {
    let end = Instant::now() + PAUSE;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let mut asked: Vec<PollFd> = Vec::new();
        asked.extend(signals.map(|signals| PollFd::new(signals.as_fd(), PollFlags::POLLIN)));
        let left = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        let _ = poll(&mut asked, PollTimeout::from(left));
        hear(signals);
        child::reap_orphans(&mut |_| false);
    }
}

/// Nothing is supervised, so nothing is waited for.
fn hear(signals: Option<&Signals>) {
    while let Some(Ok(Some(caught))) = signals.map(Signals::read) {
        if let Some(ending) = Role::Host.ending(caught.signal) {
            log::info!("{}: {}", caught.signal, ending.words());
            end_machine(ending, &|| {});
        }
    }
}
