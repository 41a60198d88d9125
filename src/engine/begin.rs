//! Beginning a run: the spawn, its answer, ready.
//!
//! Not here: whether it may begin (the table, `settle`) and what ends it (`ending`).
//!
//! Invariant: a run begins only where no run is.

use super::table::{Exhausted, Run, Watch};
use super::*;
use crate::config::{Definition, Kind};
use crate::exit::Exit;
use crate::id::Pid;
use crate::service::hook::{Progress, Purpose};
use crate::service::state::{Cause, Cue, Next, State};
use crate::time::spoken;

impl Engine {
    pub(super) fn launch(&mut self, id: ServiceId, cause: Cause, detail: &str) {
        if !self.asks_for_sockets(id, cause, detail) {
            self.begin_run(id, cause, false);
        }
    }

    /// `told`: that it is starting, and as which run.
    pub(super) fn begin_run(&mut self, id: ServiceId, cause: Cause, told: bool) {
        let now = self.now;
        let service = self.service_mut(id);
        let Some(definition) = service.definition.clone() else {
            return;
        };
        if definition.kind == Kind::Target {
            return self.reach(id, cause);
        }
        let service = self.service_mut(id);
        if !told {
            service.number = service.number.saturating_add(1);
        }
        service.standing = None;
        service.trouble = "".into();
        if !cause.is_automatic() {
            // Whatever this run will be like, the restart before it did not do it.
            service.cure = None;
        }
        let number = service.number;
        let restarted = std::mem::take(&mut service.restarting);
        let mut begun = self.new_run(id, number, definition.clone(), cause);
        begun.restarted = restarted;
        let run = begun.id;
        self.service_mut(id).run = Some(Box::new(begun));
        if let Some(hook) = self.next_hook(id, Purpose::PreStart) {
            self.enter(id, State::Starting, cause, "pre_start".into());
            let until = now + definition.hooks.pre_start_timeout;
            return self.begin_hook(id, hook, until);
        }
        let key = self.service_key(id, Key::lifecycle);
        match definition.start_timeout {
            Some(limit) => self.timers.set(key, now + limit),
            None => self.timers.cancel(key),
        }
        match told {
            true => self.put(id, State::Starting, cause, now),
            false => self.enter(id, State::Starting, cause, "".into()),
        }
        self.mark(id);
        self.effects.push(Effect::Spawn { run, definition });
    }

    /// A run before anything of it is.
    pub(super) fn new_run(
        &self,
        id: ServiceId,
        number: u32,
        definition: Rc<Definition>,
        cause: Cause,
    ) -> Run {
        let (now, late_mark) = (self.now, self.lateness.total);
        let run = RunId {
            service: id,
            number,
        };
        let probes = definition.probes.iter().map(|_| Watch::default()).collect();
        Run {
            id: run,
            pid: None,
            started: 0,
            spawned_at: now,
            executed: false,
            ready_at: None,
            begun_by: cause,
            restarted: false,
            adopted: false,
            overdue: false,
            exit: None,
            oom_kills: 0,
            hooks: Progress::of(&definition.hooks),
            stop: None,
            late_mark,
            extended: false,
            start_until: definition.start_timeout.map(|limit| now + limit),
            excused: Duration::ZERO,
            excused_since: None,
            excused_until: now,
            probes,
            told: None,
            definition,
            health: None,
            seek: None,
            look: None,
            looks: false,
            start_doubts: 0,
        }
    }

    pub(super) fn spawned(&mut self, run: RunId, pid: Pid, started: u64) {
        let Some(id) = self.current_alive(run) else {
            return;
        };
        let service = self.service_mut(id);
        service.respawns = 0;
        let Some(run) = service.run.as_mut() else {
            return;
        };
        run.pid = Some(pid);
        run.started = started;
        let stopping = run.stop.is_some();
        self.mark(id);
        if stopping {
            self.signal_stop(id);
        }
    }

    pub(super) fn executed(&mut self, run: RunId) {
        let Some(id) = self.current(run) else { return };
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        // It may be told after the end, but once.
        if run.exit.is_some() && run.executed {
            self.stale += 1;
            return;
        }
        run.executed = true;
        self.mark(id);
        self.ready_if_it_is(id);
        self.begin_checks(id);
    }

    /// Starting no longer, once all that makes it ready has happened.
    pub(super) fn ready_if_it_is(&mut self, id: ServiceId) {
        let service = self.service(id);
        let (state, cause) = (service.state, service.cause);
        let Some(run) = service.run.as_ref().filter(|run| run.is_ready()) else {
            return;
        };
        let early = run.is_asked_early();
        self.cue(id, Cue::Ready, cause, "".into());
        if self.service(id).state != state {
            match early {
                true => self.rephase(id),
                false => self.begin_checks(id),
            }
        }
    }

    pub(super) fn begin_running(&mut self, id: ServiceId, cause: Cause) {
        let (now, late) = (self.now, self.lateness.total);
        let service = self.service_mut(id);
        let Some(run) = service.run.as_mut() else {
            return;
        };
        let in_time = run.start_deadline(now, late).is_none_or(|due| now <= due);
        run.ready_at = Some(now);
        run.overdue = false;
        let judged = run.has_judges();
        let believed = run
            .told
            .as_ref()
            .is_some_and(|told| told.ready && told.doubt);
        let stability = run.definition.retry_policy.stability_period;
        let took = now.since(run.spawned_at);
        self.enter(
            id,
            State::Running,
            cause,
            match believed {
                true => "taken to be ready: what it said while no daemon was there is lost".into(),
                false => format!("ready after {}", spoken(took)).into(),
            },
        );
        self.cancel_standing(id, "ready after all");
        self.arm_watchdog(id);
        self.retell_health(id, |_| "ready, its watchdog begins".into());
        if !judged {
            // Nobody says more of it than that it runs.
            self.settle_cure(id, in_time);
            let key = self.service_key(id, Key::refund);
            self.timers.set(key, now + stability);
        }
    }

    /// A service without probes ran for a whole stability period.
    pub(super) fn refund_due(&mut self, id: ServiceId) {
        if self.is_seeking(id) {
            // Before it is ready the timer is the search's.
            return self.look_for_main(id);
        }
        if self.service(id).state == State::Running {
            self.refund(id);
        }
    }

    /// The whole budget and the first delay again.
    pub(super) fn refund(&mut self, id: ServiceId) {
        let service = self.service_mut(id);
        if service.attempts > 0 || service.uncured > 0 || service.exhausted != Exhausted::No {
            service.attempts = 0;
            service.uncured = 0;
            service.exhausted = Exhausted::No;
            self.mark(id);
        }
    }

    pub(super) fn spawn_failed(&mut self, run: RunId, error: &SpawnError) {
        let Some(id) = self.current_alive(run) else {
            return;
        };
        let words: Box<str> = error.to_string().into();
        let service = self.service_mut(id);
        let Some(run) = service.run.as_ref() else {
            return;
        };
        let (stopping, automatic) = (run.stop.is_some(), run.begun_by.is_automatic());
        service.trouble = words.clone();
        let prepared = run.hooks.last.is_some();
        if error.ours {
            self.count_spawn(id, error);
        }
        if error.ours && !stopping {
            self.forget_standing(id);
            let service = self.service_mut(id);
            // Our own want of something: nothing is spent, it is tried again.
            let wait = limits::RESPAWN_OURS * 2u32.saturating_pow(service.respawns.min(10));
            service.respawns = service.respawns.saturating_add(1);
            match (service.run.as_mut(), prepared) {
                // In the same run: `pre_start` is done for it.
                (Some(run), true) => (run.pid, run.hooks.again) = (None, true),
                (Some(run), false) => {
                    service.restarting = run.restarted;
                    service.run = None;
                }
                (None, _) => return,
            }
            let due = self.now + wait.min(limits::RESPAWN_OURS_MAX);
            let key = self.service_key(id, Key::lifecycle);
            self.timers.set(key, due);
            let (from, to) = (State::Starting.word(), State::Starting.word());
            self.tell(id, TransitionKind::State, from, to, "supervisor", words);
            return;
        }
        let first = !automatic && !stopping;
        if let Some(run) = self.service_mut(id).run.as_mut() {
            run.exit = Some(Exit::Unknown);
            if !stopping {
                run.hooks.failed = Some(words.clone());
            }
            run.hooks.hopeless = first;
        }
        if prepared {
            self.run_over(id);
        } else if first {
            self.drop_run(id, Cause::Exit);
            self.service_mut(id).trouble = words.clone();
            self.cue(id, Cue::Gone(Next::Failed), Cause::Exit, words);
        } else {
            self.gone(id);
        }
    }
}
