//! PID 1 within the loop: who asks for the end, and the rescue shell where nothing runs.
//!
//! Invariant: at most one rescue shell, and none while services run, may still start by
//! themselves, or are being stopped.

use super::{rescue, role};
use crate::control::power::{Ending, Role};
use crate::control::rpc::code;
use crate::engine::{Accepted, Command, Refusal};
use crate::exit::Signal;
use crate::id::{Pid, Ticket};
use crate::reactor::child::{self, Ended};
use crate::reactor::procfs;
use crate::reactor::sources::timer_key;
use crate::reactor::{Child, Reactor, reexec, sys};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Before the next rescue shell, as one may end at once for ever.
const PAUSE: Duration = Duration::from_secs(1);

/// The rescue shell that runs under the loop.
pub(in crate::reactor) struct Shell {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Reactor {
    /// What the end is to be, last asked first.
    pub fn ending(&self) -> Ending {
        self.ending
    }

    /// What comes of the shutdown from now on, also after a panic.
    pub(in crate::reactor) fn ends_in(&mut self, ending: Ending) {
        self.ending = ending;
        reexec::ends_in(ending);
    }

    pub(in crate::reactor) fn end_by_signal(&mut self, signal: Signal) {
        let Some(ending) = role().ending(signal) else {
            log::info!("{signal}: ignored");
            return;
        };
        match ending {
            Ending::Exit => log::info!("{signal}: stopping all services"),
            machine => log::info!("{signal}: stopping all services, then {}", machine.words()),
        }
        self.ends_in(ending);
        self.own_request(Command::Shutdown { keep: false });
    }

    /// `poweroff`, `reboot`, `halt`.
    pub(in crate::reactor) fn end_machine(&mut self, ticket: Ticket, ending: Ending, by: Box<str>) {
        if self.refuses_end(ticket, ending, false) {
            return;
        }
        let note = format!("stopping all services, then {}", ending.words());
        log::info!("{note}, asked by {by}");
        self.ends_in(ending);
        let accepted = Accepted {
            note: note.into(),
            ..Accepted::default()
        };
        self.answer(ticket, &Ok(accepted));
        self.own_request(Command::Shutdown { keep: false });
    }

    /// Whether an operator's request is refused because of whose first process we are.
    pub(in crate::reactor) fn refuses_end(
        &mut self,
        ticket: Ticket,
        ending: Ending,
        keep: bool,
    ) -> bool {
        let Some(message) = role().refuses(ending, keep) else {
            return false;
        };
        let code = code::BAD_PARAMS;
        self.answer(ticket, &Err(Refusal::new(code, &message)));
        true
    }

    // --- the rescue shell

    /// A shell that the execution before us started.
    pub(in crate::reactor) fn take_up_shell(&mut self, pid: Option<i32>) {
        let Some(pid) = pid.map(Pid).filter(|_| role() == Role::Host) else {
            return;
        };
        let ours = procfs::proc_stat(pid).is_ok_and(|stat| stat.parent.0 == 1);
        if ours && let Ok(pidfd) = sys::pidfd_open(pid) {
            super::SHELL.store(pid.0, std::sync::atomic::Ordering::Relaxed);
            self.watch_shell(pid, pidfd);
        }
    }

    /// At the end of a turn.
    pub(in crate::reactor) fn mind_rescue(&mut self) {
        let dead = role() == Role::Host
            && self.shell.is_none()
            && self.now >= self.shell_due
            && self.exit.is_none()
            && !self.engine.is_shutting_down()
            && self.engine.is_idle();
        if !dead {
            return;
        }
        log::error!(
            "nothing runs, and nothing will by itself: a rescue shell follows; `vitald status` \
             tells more, `vitald start NAME` or `vitald reload` go on"
        );
        self.shell_due = self.now + PAUSE;
        match rescue::start() {
            Ok((pid, pidfd)) => self.watch_shell(pid, pidfd),
            Err(error) => {
                log::error!("cannot start the rescue shell: {error}");
                self.wheel.set(timer_key(self.shell_token), self.shell_due);
            }
        }
    }

    fn watch_shell(&mut self, pid: Pid, pidfd: OwnedFd) {
        self.children.insert(pid, Child::Job);
        if let Err(error) = self.register(&pidfd, self.shell_token) {
            log::error!("cannot watch the rescue shell: {error}");
        }
        self.shell = Some(Shell { pid, pidfd });
        self.shell_ready();
    }

    pub(in crate::reactor) fn shell_ready(&mut self) {
        let Some(shell) = &self.shell else { return };
        if matches!(child::reap(shell.pidfd.as_fd()), Ended::No) {
            return;
        }
        let Some(Shell { pid, pidfd }) = self.shell.take() else {
            return;
        };
        self.deregister(&pidfd);
        self.children.remove(&pid);
        rescue::has_ended();
        log::info!("the rescue shell ended");
        // So that there is a turn in which it is looked whether another is needed.
        self.shell_due = self.now + PAUSE;
        self.wheel.set(timer_key(self.shell_token), self.shell_due);
    }
}
