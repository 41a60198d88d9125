//! The end of the daemon: everything stopped in reverse order of need, or left as it is.
//!
//! A daemon with a main service ends with it, as a container does with its first process.
//!
//! Invariants: `wanted` is kept; it ends, because every stop ends, or is given up; what has not
//! stopped when the shutdown's own time is over is killed, in the same order.

use super::*;
use crate::exit::Exit;
use crate::id::Ticket;
use crate::service::state::{Cause, Cue, State};

#[derive(Debug)]
pub(super) struct Shutdown {
    /// The exit was asked for; nothing more is done.
    pub(super) over: bool,
    /// Who is answered when it is over.
    pub(super) waiting: Vec<(Ticket, Accepted)>,
    /// When every stop is to be over; those that are not are killed.
    pub(super) until: Option<Time>,
}

impl Shutdown {
    fn begun(until: Option<Time>) -> Shutdown {
        Shutdown {
            over: false,
            waiting: Vec::new(),
            until,
        }
    }
}

impl Engine {
    pub(super) fn verb_shutdown(&mut self, keep: bool) -> String {
        if self.shutdown.is_some() && !keep {
            return "is shutting down".to_owned();
        }
        if keep {
            let words = "the daemon ends, its services run on";
            self.shutdown_is_over(words);
            return words.to_owned();
        }
        let until = self.shutdown_timeout.map(|length| self.now + length);
        self.shutdown = Some(Shutdown::begun(until));
        for id in self.ids() {
            self.cut_evidence(id);
            self.cut_repair(id);
        }
        self.hurry();
        let live = self
            .ids()
            .filter(|id| self.service(*id).state.is_live() || self.is_undoable(*id))
            .count();
        for id in self.ids() {
            self.mind_sockets(id);
            self.mind_schedule(id);
            if matches!(self.service(id).state, State::Backoff | State::Blocked) {
                self.cue(id, Cue::Stop, Cause::Operator, "shutdown".into());
            }
        }
        match live {
            0 => "nothing runs, the daemon ends".to_owned(),
            1 => "stopping 1 service, then the daemon ends".to_owned(),
            _ => format!("stopping {live} services, then the daemon ends"),
        }
    }

    /// Whether this answer waits for the end now, or is for who waits no longer.
    pub(super) fn answer_at_the_end(
        &mut self,
        ticket: Ticket,
        accepted: Accepted,
    ) -> Option<Accepted> {
        match &mut self.shutdown {
            Some(shutdown) if !shutdown.over => {
                shutdown.waiting.push((ticket, accepted));
                None
            }
            Some(_) | None => Some(accepted),
        }
    }

    fn shutdown_is_over(&mut self, words: &str) {
        let shutdown = self.shutdown.get_or_insert_with(|| Shutdown::begun(None));
        shutdown.over = true;
        for (ticket, mut accepted) in std::mem::take(&mut shutdown.waiting) {
            accepted.note = words.into();
            self.answer(ticket, Ok(accepted));
        }
        let code = self.exit_code();
        self.effects.push(Effect::Exit { code });
    }

    /// No stop may take longer than until then.
    pub(super) fn stops_until(&self) -> Time {
        let until = self.shutdown.as_ref().and_then(|shutdown| shutdown.until);
        until.unwrap_or(Time::MAX)
    }

    /// Stops that were under way when the shutdown began have its time, not more.
    fn hurry(&mut self) {
        for id in self.ids() {
            let stop = self.service(id).run.as_ref().and_then(|r| r.stop.as_ref());
            let Some(before) = stop.filter(|s| !s.killed).map(|s| s.deadline) else {
                continue;
            };
            let deadline = self.stops_until();
            if deadline >= before {
                continue;
            }
            let Some(run) = self.service_mut(id).run.as_mut() else {
                continue;
            };
            if let Some(stop) = run.stop.as_mut() {
                stop.deadline = deadline;
            }
            // A command within the stop has its own time, which ends no later.
            let mut due = deadline;
            if let Some(live) = run.hooks.live.as_mut() {
                live.until = live.until.min(deadline);
                due = live.until;
            }
            run.hooks.post_until = run.hooks.post_until.map(|until| until.min(deadline));
            let key = self.service_key(id, Key::lifecycle);
            self.timers.set(key, due);
            self.mark(id);
        }
    }

    /// The main service has ended and nothing starts it again but an operator: so does the daemon.
    pub(super) fn mind_main(&mut self) {
        let Some(id) = self.main else { return };
        let over = matches!(self.service(id).state, State::Exited | State::Failed);
        if over && !self.is_planned(id) && self.shutdown.is_none() {
            self.verb_shutdown(false);
        }
    }

    /// How the main service ended last, as a shell tells it: 128 + number for a signal, 1 for what
    /// never ran or ended in a way that is not known. Without a main service 0.
    fn exit_code(&self) -> u8 {
        let Some(main) = self.main.map(|id| self.service(id)) else {
            return 0;
        };
        match main.last_end.as_ref().map(|end| end.exit) {
            Some(Exit::Code(code)) => code,
            Some(Exit::Signal(signal)) => 128u8.saturating_add(signal.0),
            Some(Exit::Unknown) => 1,
            None => u8::from(main.state == State::Failed),
        }
    }

    /// Nothing runs, and nothing will by itself: all there is has ended, failed, is not wanted, or
    /// waits for what has.
    pub fn is_idle(&self) -> bool {
        let busy = |id: ServiceId| {
            let state = self.service(id).state;
            state.is_live()
                || state == State::Backoff
                || self.is_listening(id)
                || self.is_planned(id)
        };
        !self.ids().any(busy)
    }

    /// The shutdown waits for it. What outlives SIGKILL for long is left to the kernel.
    pub(super) fn holds_up(&self, id: ServiceId) -> bool {
        let service = self.service(id);
        let stop = service.run.as_ref().and_then(|run| run.stop.as_ref());
        let unkillable =
            stop.is_some_and(|s| s.killed && self.now >= s.deadline + limits::UNKILLABLE);
        (service.state.is_live() || self.is_undoable(id)) && !unkillable
    }

    /// Stops whom nobody alive needs any more; when nobody is left, asks for the exit.
    pub(super) fn shutdown_goes_on(&mut self) {
        if self.shutdown.as_ref().is_none_or(|shutdown| shutdown.over) {
            return;
        }
        loop {
            let live: Vec<ServiceId> = self.ids().filter(|id| self.holds_up(*id)).collect();
            if live.is_empty() {
                self.shutdown_is_over("all services are stopped, the daemon ends");
                return;
            }
            let stoppable = |id: &ServiceId| self.service(*id).state != State::Stopping;
            let unneeded = |id: &ServiceId| {
                let needed_by = self.graph.needed_by(*id).iter();
                !needed_by.map(|(who, _)| who).any(|who| self.holds_up(*who))
            };
            let mut next: Vec<ServiceId> = live
                .iter()
                .copied()
                .filter(stoppable)
                .filter(unneeded)
                .collect();
            let stopping = live
                .iter()
                .any(|id| self.service(*id).state == State::Stopping);
            if next.is_empty() && !stopping {
                // They need each other: an edit made a cycle of what was running.
                next = live;
            }
            if next.is_empty() {
                return;
            }
            for id in next {
                self.cue(id, Cue::Stop, Cause::Operator, "shutdown".into());
            }
        }
    }
}
