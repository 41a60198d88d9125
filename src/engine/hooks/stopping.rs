//! `stop_exec`, which asks a program to end, and `post_stop`, when nothing of it is left.

use super::*;

impl Engine {
    /// How a stop begins: with its command, where there is one, else with the signal.
    pub(in crate::engine) fn begin_stop(&mut self, id: ServiceId) {
        if self.stop_unknown_main(id) {
            return;
        }
        let now = self.now;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        if run.stop.as_ref().is_some_and(|stop| stop.waits) {
            return;
        }
        let signal = run.definition.stop_signal;
        let left = run.stop.as_ref().map(|stop| stop.deadline.since(now));
        let run_id = run.id;
        // What was to be asked for again is not any more.
        let unasked = run.hooks.live.take_if(|live| live.retry);
        if run.hooks.again || unasked.is_some() && run.pid.is_none() {
            run.hooks.again = false;
            run.exit = Some(Exit::Unknown);
            return self.run_over(id);
        }
        if unasked.is_some() {
            let words = "reload_exec: not run, the service is stopping";
            self.answer_reload(run_id, Some(words.into()));
        }
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        match run.hooks.live.as_ref().map(|live| live.hook.purpose) {
            Some(Purpose::PreStart) => {
                self.signal_hook(id, signal);
                self.signal_hook(id, Signal::CONT);
            }
            // It is in the way.
            Some(Purpose::ReloadExec | Purpose::Diagnose) => self.kill_hook(id),
            Some(Purpose::StopExec | Purpose::PostStop | Purpose::Undo | Purpose::Repair) => {}
            None => {
                let runs = run.executed && run.exit.is_none();
                let hook = self.next_hook(id, Purpose::StopExec).filter(|_| runs);
                match (hook, left) {
                    (Some(hook), Some(left)) => self.begin_hook(id, hook, now + left / 2),
                    (_, _) => self.signal_stop(id),
                }
            }
        }
    }

    pub(super) fn stop_exec_ended(
        &mut self,
        id: ServiceId,
        hook: Hook,
        live: &Live,
        failure: Option<Box<str>>,
    ) {
        self.tell_hook(id, failure);
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        if !live.killed {
            run.hooks.done(hook);
        }
        let over = run.exit.is_some();
        let deadline = run.stop.as_ref().map(|stop| stop.deadline);
        let next = self.next_hook(id, Purpose::StopExec);
        match (over, next.filter(|_| !live.killed)) {
            (true, _) => self.clear_up(id),
            (false, Some(next)) => self.begin_hook(id, next, live.until),
            (false, None) if live.killed => {}
            (false, None) => self.signal_after_hook(id, deadline),
        }
    }

    pub(super) fn signal_after_hook(&mut self, id: ServiceId, deadline: Option<Time>) {
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, deadline.unwrap_or(self.now));
        self.signal_stop(id);
    }

    /// Nothing runs any more but what is left, or a command: those first, then `post_stop`, then
    /// the run is gone.
    pub(in crate::engine) fn run_over(&mut self, id: ServiceId) {
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        let left = run.hooks.leftovers && run.kills_tree();
        let due = self.post_stop_due(id).is_some();
        let due = due || self.next_hook(id, Purpose::Repair).is_some();
        let clear = !left && run.hooks.live.is_none() && !due;
        match clear {
            true => self.gone(id),
            false => self.cue(id, Cue::Remains, Cause::Exit, "".into()),
        }
    }

    /// What has never run needs no cleaning up.
    pub(super) fn post_stop_due(&self, id: ServiceId) -> Option<Hook> {
        let run = self.service(id).run.as_ref()?;
        let ran = run.pid.or(run.hooks.last).is_some();
        self.next_hook(id, Purpose::PostStop).filter(|_| ran)
    }

    pub(in crate::engine) fn clear_up(&mut self, id: ServiceId) {
        let now = self.now;
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        match run.hooks.live.as_ref().map(|live| live.hook.purpose) {
            Some(Purpose::ReloadExec | Purpose::Diagnose) => {
                let key = self.service_key(id, Key::lifecycle);
                self.timers.set(key, now + Duration::from_secs(1));
                return self.kill_hook(id);
            }
            // Their ends are waited for, within their time.
            Some(
                Purpose::PreStart
                | Purpose::StopExec
                | Purpose::PostStop
                | Purpose::Undo
                | Purpose::Repair,
            ) => return,
            None => {}
        }
        let number = run.pid.or(run.hooks.last);
        if let Some(pid) = number.filter(|_| run.hooks.leftovers && run.kills_tree()) {
            return self.end_tree(id, pid);
        }
        let bound = self.stops_until();
        let Some(hook) = self.post_stop_due(id) else {
            return self.repair_or_go(id);
        };
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let limit = run.definition.hooks.post_stop_timeout;
        let until = *run.hooks.post_until.get_or_insert(bound.min(now + limit));
        if let Some(stop) = run.stop.as_mut() {
            (stop.killed, stop.deadline) = (false, until);
        }
        self.begin_hook(id, hook, until);
    }

    pub(super) fn post_stop_ended(
        &mut self,
        id: ServiceId,
        hook: Hook,
        live: &Live,
        failure: Option<Box<str>>,
    ) {
        self.tell_hook(id, failure);
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        match live.killed {
            true => run.hooks.post_stop = u8::MAX,
            false => run.hooks.done(hook),
        }
        self.clear_up(id);
    }

    /// Half of the time to stop is up: the signal, whatever becomes of the command.
    pub(super) fn stop_exec_overdue(&mut self, id: ServiceId) {
        let words = "stop_exec: not done within half of the time to stop".into();
        self.tell_hook(id, Some(words));
        self.kill_hook(id);
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let over = run.exit.is_some();
        let deadline = run.stop.as_ref().map(|stop| stop.deadline);
        match over {
            true => {
                let key = self.service_key(id, Key::lifecycle);
                self.timers.set(key, deadline.unwrap_or(self.now));
            }
            false => self.signal_after_hook(id, deadline),
        }
    }
}
