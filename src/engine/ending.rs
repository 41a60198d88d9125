//! Ending a run: signals, their escalation, what it leaves behind.
//!
//! Not here: what comes after (`aftermath`).
//!
//! Invariants: a stop always has a deadline; a run is over only when nothing of it is left.

use super::table::Stop;
use super::*;
use crate::config::{Definition, KillMode};
use crate::exit::{Exit, Signal};
use crate::id::Pid;
use crate::service::hook::Purpose;
use crate::service::state::{Cause, Cue, Next, State};
use crate::time::spoken;
use snapshot::EndRecord;

impl Engine {
    pub(super) fn end(&mut self, id: ServiceId, cause: Cause, detail: Box<str>) {
        let now = self.now;
        let late_mark = self.lateness.total;
        self.cancel_checks(id);
        self.forget_standing(id);
        for key in [Key::refund, Key::gate] {
            let key = self.service_key(id, key);
            self.timers.cancel(key);
        }
        let bound = self.stops_until();
        let waits = self.waits_for_followers(id, cause);
        let evidence = self.evidence_due_for(id, cause);
        let service = self.service_mut(id);
        let Some(run) = service.run.as_mut() else {
            // Nothing lives: a spawn was waiting to be tried again.
            let free = self.is_free(id);
            self.cue(id, Cue::Gone(Next::Start { free }), cause, detail);
            return;
        };
        let timeout = stop_timeout(&run.definition, cause);
        let first = evidence.map(|(_, until)| until).or(waits);
        let deadline = bound.min(first.unwrap_or(now + timeout));
        let mut stop = Stop::new(cause, deadline);
        stop.waits = waits.is_some();
        stop.evidence = evidence.map(|(phase, _)| phase);
        run.stop = Some(stop);
        run.late_mark = late_mark;
        run.extended = false;
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, deadline);
        self.enter(id, State::Stopping, cause, detail.clone());
        match evidence {
            Some(_) => self.begin_evidence(id, cause, detail),
            None if waits.is_none() => self.begin_stop(id),
            None => {}
        }
    }

    /// What its stop waits for is over; `waited` says whether it did wait, and forgets it. True: it
    /// did, and has its whole time from now on.
    pub(super) fn stop_has_whole_time(
        &mut self,
        id: ServiceId,
        waited: fn(&mut Stop) -> bool,
    ) -> bool {
        let (now, late, bound) = (self.now, self.lateness.total, self.stops_until());
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return false;
        };
        let Some(stop) = run.stop.as_mut() else {
            return false;
        };
        if !waited(stop) {
            return false;
        }
        let deadline = bound.min(now + stop_timeout(&run.definition, stop.cause));
        stop.deadline = deadline;
        (run.late_mark, run.extended) = (late, false);
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, deadline);
        self.mark(id);
        true
    }

    /// The stop signal, and SIGCONT: a stopped process cannot act on a signal it was sent.
    pub(super) fn signal_stop(&mut self, id: ServiceId) {
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        let Some(pid) = run.pid else { return };
        let (run_id, signal) = (run.id, run.definition.stop_signal);
        let group = run.definition.kill_mode == KillMode::Tree;
        for signal in [signal, Signal::CONT] {
            self.effects.push(Effect::Signal {
                run: run_id,
                pid,
                signal,
                group,
            });
        }
    }

    /// A lifecycle deadline that saw the loop's lateness is extended by it, once.
    pub(super) fn extend(&mut self, id: ServiceId) -> bool {
        let total = self.lateness.total;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return false;
        };
        let carried = total.saturating_sub(run.late_mark);
        if carried.is_zero() || run.extended {
            return false;
        }
        run.extended = true;
        run.late_mark = total;
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, self.now + carried);
        true
    }

    /// The stop's time is up.
    pub(super) fn escalate(&mut self, id: ServiceId) {
        if self.extend(id) {
            return;
        }
        let now = self.now;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let (run_id, group) = (run.id, run.kills_tree());
        let (pid, ended) = (run.pid.or(run.hooks.last), run.exit.is_some());
        let (begun, swept) = (run.pid.is_some(), run.hooks.live.is_none());
        let Some(stop) = run.stop.as_mut() else {
            return;
        };
        let again = std::mem::replace(&mut stop.killed, true);
        if !again {
            stop.deadline = now;
        }
        let since = now.since(stop.deadline);
        // SIGKILL cannot be refused, only waited for (D state). It is sent again, in case the
        // first was lost to a changed group, ever more rarely, and the reader is told.
        let pause = match again {
            true => limits::UNKILLABLE,
            false => Duration::from_secs(1),
        };
        if again {
            let words = format!(
                "unkillable for {}: sent SIGKILL, still there",
                spoken(since)
            );
            self.service_mut(id).trouble = words.into();
        }
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, now + pause);
        self.mark(id);
        self.kill_hook(id);
        let Some(pid) = pid else { return };
        match ended {
            true if swept => self.effects.push(Effect::KillTree { run: run_id, pid }),
            true => {}
            false if begun => {
                let signal = Signal::KILL;
                self.effects.push(Effect::Signal {
                    run: run_id,
                    pid,
                    signal,
                    group,
                });
            }
            false => {}
        }
    }

    pub(super) fn out_of_memory(&mut self, run: RunId, kills: u64) {
        let Some(id) = self.current(run) else { return };
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        // What is being stopped ends by that.
        if run.exit.is_none() && run.stop.is_none() {
            run.oom_kills = run.oom_kills.saturating_add(kills);
            self.mark(id);
        }
    }

    pub(super) fn exited(&mut self, run: RunId, exit: Exit, tree_gone: bool) {
        let Some(id) = self.current(run) else { return };
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        if run.exit.is_some() {
            self.stale += 1;
            return;
        }
        if run.is_forking() && run.seek.is_some() && run.stop.is_none() {
            // Its first process has ended already.
            self.stale += 1;
            return;
        }
        if self.first_ended(id, exit) {
            return;
        }
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        run.seek = None;
        run.exit = Some(exit);
        run.hooks.leftovers |= !tree_gone;
        self.stop_waits_no_more(id);
        self.end_evidence(id);
        self.cancel_checks(id);
        self.forget_standing(id);
        self.run_over(id);
    }

    /// The main process is gone, others of its tree are not, or a command is due.
    pub(super) fn sweep(&mut self, id: ServiceId) {
        let now = self.now;
        let late_mark = self.lateness.total;
        let bound = self.stops_until();
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        if run.stop.is_none() {
            let timeout = run.definition.stop_timeout;
            run.stop = Some(Stop::new(Cause::Exit, bound.min(now + timeout)));
            run.late_mark = late_mark;
            run.extended = false;
            let left = run.hooks.leftovers && run.kills_tree();
            let what = match (left, run.hooks.live.as_ref()) {
                (true, _) => "ending what it left behind",
                (false, Some(live)) => live.hook.purpose.word(),
                (false, None) => Purpose::PostStop.word(),
            };
            let exit = match (&run.hooks.failed, run.exit) {
                (Some(words), _) => words.to_string(),
                (None, Some(_)) => run.own_end(),
                (None, None) => String::new(),
            };
            let (detail, cause) = (format!("{exit}; {what}"), run.own_cause());
            self.enter(id, State::Stopping, cause, detail.into());
        }
        self.clear_up(id);
    }

    /// A helper ends what the run left behind. `pid`: its main process, or its last command.
    pub(super) fn end_tree(&mut self, id: ServiceId, pid: Pid) {
        let now = self.now;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let (run_id, signal) = (run.id, run.definition.stop_signal);
        // What is left is for SIGKILL, where only the main process is to be asked.
        let mixed = run.definition.kill_mode == KillMode::Mixed;
        let Some(stop) = run.stop.as_mut() else {
            return;
        };
        stop.sweeping = true;
        let grace = match stop.killed || mixed {
            true => Duration::ZERO,
            false => stop.deadline.since(now),
        };
        // The helper escalates by itself; this deadline is for a helper that does not.
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, now + grace + Duration::from_secs(2));
        self.mark(id);
        self.effects.push(Effect::EndTree {
            run: run_id,
            pid,
            signal,
            grace,
        });
    }

    pub(super) fn tree_ended(&mut self, run: RunId, left: u32) {
        let Some(id) = self.current(run) else { return };
        let service = self.service_mut(id);
        let Some(run) = service.run.as_mut() else {
            return;
        };
        if run.exit.is_none() || run.stop.is_none() {
            self.stale += 1;
            return;
        }
        if left == 0 {
            run.hooks.leftovers = false;
            self.clear_up(id);
            return;
        }
        // Never a second copy beside what cannot be killed; it is tried again.
        if let Some(stop) = run.stop.as_mut() {
            stop.killed = true;
        }
        service.trouble = format!("unkillable: {left} processes are left after SIGKILL").into();
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, self.now + limits::UNKILLABLE);
        self.mark(id);
    }

    /// The run's end goes into the record, and the run with it.
    pub(super) fn drop_run(&mut self, id: ServiceId, cause: Cause) {
        let at = self.now;
        for key in [Key::lifecycle, Key::gate, Key::refund] {
            let key = self.service_key(id, key);
            self.timers.cancel(key);
        }
        self.cancel_checks(id);
        let service = self.service_mut(id);
        let Some(run) = service.run.take() else {
            return;
        };
        let exit = run.exit.unwrap_or(Exit::Unknown);
        let cause = cause.word().into();
        service.last_end = Some(EndRecord { cause, exit, at });
        service.restarting = run.stop.is_none_or(|stop| !stop.wanted);
        service.standing = None;
        service.asked_until = None;
        service.trouble = "".into();
        self.mark(id);
    }
}

/// How long a stop for this cause may take.
fn stop_timeout(definition: &Definition, cause: Cause) -> Duration {
    let own = definition.health_stop_timeout;
    let own = own.filter(|_| cause.is_automatic());
    own.unwrap_or(definition.stop_timeout)
}
