//! A rung's repair (`escalate`, `exec`): a command between two runs, when restarts did not cure.
//!
//! It is of the run that was stopped for its health: begun when nothing of that is left and its
//! `post_stop` is done. What becomes of it is told; the start follows in any case.
//!
//! Invariants: it is made for an allowed restart alone, and at most once for each; never against an
//! operator's stop, start or hold that came meanwhile; a stop asks it to end at once, and the time
//! that it has then is that of a stop.

use super::*;
use crate::service::state::Wanted;

impl Engine {
    /// The stop that begins now is to be followed by the repair of this rung.
    pub(in crate::engine) fn intend_repair(&mut self, id: ServiceId, rung: u8) {
        if let Some(progress) = self.progress_mut(id) {
            progress.repair = Some(rung);
        }
    }

    /// Nothing of the run is left: its repair, if one is to be made, and then it is gone.
    pub(super) fn repair_or_go(&mut self, id: ServiceId) {
        let Some(hook) = self.next_hook(id, Purpose::Repair) else {
            return self.gone(id);
        };
        if let Some(why) = self.no_repair(id, hook) {
            self.forgo_repair(id, why);
            return self.gone(id);
        }
        let until = self.stops_until().min(self.now + self.repair_timeout(id));
        if let Some(stop) = self.stop_mut(id) {
            (stop.killed, stop.deadline) = (false, until);
        }
        self.begin_hook(id, hook, until);
    }

    /// What has come between its being decided and now.
    fn no_repair(&self, id: ServiceId, hook: Hook) -> Option<&'static str> {
        let service = self.service(id);
        let run = service.run.as_ref()?;
        let rung = run.definition.retry_policy.rungs();
        let rung = rung.get(usize::from(hook.index));
        let stop = run.stop.as_ref();
        if self.will(id) == Wanted::Stop || stop.is_some_and(|stop| stop.wanted) {
            Some("it is to be stopped")
        } else if stop.is_some_and(|stop| stop.then_start) {
            Some("an operator starts it")
        } else if self.hold.is_some() {
            Some("restarts are held")
        } else if rung.is_none_or(|rung| service.uncured < rung.after) {
            Some("its restarts are counted anew")
        } else {
            None
        }
    }

    fn forgo_repair(&mut self, id: ServiceId, why: &str) {
        if let Some(progress) = self.progress_mut(id) {
            progress.repair = None;
        }
        self.tell_hook(id, Some(format!("repair: not made, {why}").into()));
        self.mark(id);
    }

    /// It waited to be tried again, and is not to be made any more.
    pub(super) fn repair_lost_its_object(&mut self, id: ServiceId) -> bool {
        let run = self.service(id).run.as_ref();
        let live = run.and_then(|run| run.hooks.live.as_ref());
        let live = live.filter(|live| live.retry && live.hook.purpose == Purpose::Repair);
        let Some(why) = live.and_then(|live| self.no_repair(id, live.hook)) else {
            return false;
        };
        if let Some(progress) = self.progress_mut(id) {
            progress.live = None;
        }
        self.forgo_repair(id, why);
        self.clear_up(id);
        true
    }

    fn repair_timeout(&self, id: ServiceId) -> Duration {
        let run = self.service(id).run.as_ref();
        run.map_or(Duration::ZERO, |run| repair_timeout(run))
    }

    /// Its time is up, or the service is to be stopped: it is asked to end, as a program is; one that
    /// is not begun is not made.
    pub(in crate::engine) fn cut_repair(&mut self, id: ServiceId) {
        let bound = self.stops_until();
        let now = self.now;
        let key = self.service_key(id, Key::lifecycle);
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let signal = run.definition.stop_signal;
        let grace = run.definition.stop_timeout;
        if run.hooks.repair.is_none() || run.stop.is_none() {
            return;
        }
        let waits = run.hooks.live.take_if(|live| live.retry).is_some();
        let Some(live) = run.hooks.live.as_mut() else {
            self.forgo_repair(id, "it is to be stopped");
            if waits {
                self.clear_up(id);
            }
            return;
        };
        if live.hook.purpose != Purpose::Repair {
            return self.forgo_repair(id, "it is to be stopped");
        }
        if std::mem::replace(&mut live.asked, true) {
            return;
        }
        let deadline = bound.min(now + grace);
        if let Some(stop) = run.stop.as_mut() {
            stop.deadline = deadline;
        }
        self.timers.set(key, deadline);
        self.ask_repair_to_end(id, signal);
        self.mark(id);
    }

    pub(super) fn ask_repair_to_end(&mut self, id: ServiceId, signal: Signal) {
        self.signal_hook(id, signal);
        self.signal_hook(id, Signal::CONT);
    }

    pub(super) fn repair_ended(
        &mut self,
        id: ServiceId,
        hook: Hook,
        live: &Live,
        end: &HookEnd,
        failure: Option<Box<str>>,
    ) {
        let limit = self.repair_timeout(id);
        let cut = live.asked || live.killed;
        let words = match failure {
            _ if cut && self.will(id) == Wanted::Stop => {
                format!("repair: cut short by a stop: {}", end.exit)
            }
            _ if cut => format!("repair: not done within {}: {}", spoken(limit), end.exit),
            Some(words) => words.into(),
            None if end.exit == Exit::Unknown => "repair: how it ended is not known".to_owned(),
            None => "repair: done".to_owned(),
        };
        self.tell_hook(id, Some(words.into()));
        let now = self.now;
        if let Some(run) = self.service_mut(id).run.as_mut() {
            run.hooks.done(hook);
            // What it leaves behind has a stop's time, and not what is left of its own.
            let grace = run.definition.stop_timeout;
            if let Some(stop) = run.stop.as_mut() {
                stop.deadline = stop.deadline.min(now + grace);
            }
        }
        self.mark(id);
        self.clear_up(id);
    }
}

/// Of the one that is to be made, or is under way.
pub(in crate::engine) fn repair_timeout(run: &crate::engine::table::Run) -> Duration {
    let rungs = run.definition.retry_policy.rungs();
    let rung = run.hooks.repair.and_then(|at| rungs.get(usize::from(at)));
    let repair = rung.and_then(|rung| rung.action.repair());
    repair.map_or(Duration::ZERO, |(_, timeout)| timeout)
}
