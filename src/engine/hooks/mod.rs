//! The commands around a run: `pre_start`, `stop_exec`, `post_stop`, `reload_exec`, a rung's repair.
//!
//! They are of the run: its number, its identity, its tree. Not here: what follows the end of a
//! run (`aftermath`), when a stop begins (`ending`).
//!
//! Invariants: of one run at most one command is under way, and it is over before the run is; the
//! program is spawned only when all of `pre_start` succeeded; every command has a deadline; which
//! command runs is journalled before it is asked for, so that a daemon that returns waits for
//! what lives and runs nothing twice at once.

mod reloading;
mod repair;
mod starting;
mod stopping;
mod undo;

pub(super) use repair::repair_timeout;

use super::*;
use crate::exit::{Exit, Signal};
use crate::id::Pid;
use crate::service::hook::{Hook, Live, Progress, Purpose};
use crate::service::state::{Cause, Cue, State};
use crate::time::spoken;

/// What came of a command.
#[derive(Clone, PartialEq, Debug)]
pub struct HookEnd {
    pub exit: Exit,
    /// It was never executed.
    pub error: Option<SpawnError>,
    /// Nothing else of it was seen to live.
    pub tree_gone: bool,
    /// Its last lines, bounded.
    pub output: Box<str>,
}

impl Engine {
    fn progress_mut(&mut self, id: ServiceId) -> Option<&mut Progress> {
        let run = self.service_mut(id).run.as_mut()?;
        Some(&mut run.hooks)
    }

    /// What the command is for that is under way.
    pub(in crate::engine) fn phase(&self, id: ServiceId) -> Option<Purpose> {
        let run = self.service(id).run.as_ref()?;
        run.hooks.live.as_ref().map(|live| live.hook.purpose)
    }

    /// The next command of this list, if one is left.
    pub(in crate::engine) fn next_hook(&self, id: ServiceId, purpose: Purpose) -> Option<Hook> {
        let run = self.service(id).run.as_ref()?;
        run.hooks.next(purpose, &run.definition)
    }

    /// The command is written down as the one under way, and asked for.
    pub(in crate::engine) fn begin_hook(&mut self, id: ServiceId, hook: Hook, until: Time) {
        let late_mark = self.lateness.total;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        run.late_mark = late_mark;
        run.extended = false;
        run.hooks.live = Some(Live {
            hook,
            pid: None,
            started: 0,
            until,
            killed: false,
            asked: false,
            retry: false,
        });
        self.ask_hook(id);
    }

    fn ask_hook(&mut self, id: ServiceId) {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let cause = run.end_cause();
        let Some(live) = run.hooks.live.as_mut() else {
            return;
        };
        (live.pid, live.retry) = (None, false);
        let until = live.until;
        let effect = Effect::Hook {
            run: run.id,
            hook: live.hook,
            definition: run.definition.clone(),
            main: run.main().filter(|_| run.exit.is_none()),
            end: run.exit.map(|exit| (cause, exit)),
        };
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, until);
        self.mark(id);
        self.effects.push(effect);
    }

    /// To the command's group; one that is not there yet gets SIGKILL when it is.
    fn signal_hook(&mut self, id: ServiceId, signal: Signal) {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let run_id = run.id;
        let Some(live) = run.hooks.live.as_mut() else {
            return;
        };
        live.killed |= signal == Signal::KILL;
        let (hook, there) = (live.hook, live.pid.is_some());
        self.mark(id);
        if there {
            let run = run_id;
            self.effects.push(Effect::HookSignal { run, hook, signal });
        }
    }

    pub(in crate::engine) fn kill_hook(&mut self, id: ServiceId) {
        self.signal_hook(id, Signal::KILL);
    }

    pub(in crate::engine) fn hook_spawned(
        &mut self,
        run: RunId,
        hook: Hook,
        pid: Pid,
        started: u64,
    ) {
        let Some(id) = self.current(run) else { return };
        let Some(progress) = self.progress_mut(id) else {
            return;
        };
        let Some(live) = progress.live.as_mut().filter(|live| live.hook == hook) else {
            self.stale += 1;
            return;
        };
        (live.pid, live.started) = (Some(pid), started);
        let (killed, asked) = (live.killed, live.asked);
        if progress.began == 0 && progress.waits {
            progress.began = started;
        }
        self.service_mut(id).respawns = 0;
        self.mark(id);
        match (killed, self.service(id).state) {
            (true, _) => self.kill_hook(id),
            (false, State::Stopping) if hook.purpose == Purpose::PreStart => self.begin_stop(id),
            (false, _) if asked => {
                let run = self.service(id).run.as_ref();
                let signal = run.map_or(Signal::TERM, |run| run.definition.stop_signal);
                self.ask_repair_to_end(id, signal);
            }
            (false, _) => {}
        }
    }

    pub(in crate::engine) fn hook_ended(&mut self, run: RunId, hook: Hook, end: HookEnd) {
        let Some(id) = self.current(run) else { return };
        let now = self.now;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let stopping = run.stop.is_some();
        let progress = &mut run.hooks;
        let Some(live) = progress.live.take_if(|live| live.hook == hook) else {
            self.stale += 1;
            return;
        };
        progress.leftovers |= !end.tree_gone;
        progress.last = live.pid.or(progress.last);
        let starts = hook.purpose == Purpose::PreStart;
        let moot = live.killed || stopping && (starts || hook.purpose == Purpose::ReloadExec);
        let moot = moot || live.asked || hook.purpose == Purpose::Diagnose;
        // A start waits as long as it must for what we lack; what ends something does not.
        let wanted = !moot && (starts || now < live.until);
        let anew = match starts {
            true => now + run.definition.hooks.pre_start_timeout,
            false => live.until,
        };
        let ours = end.error.as_ref().is_some_and(|error| error.ours);
        if ours && wanted {
            let until = anew;
            return self.wait_to_ask_hook(id, Live { until, ..live });
        }
        let untold = end.exit == Exit::Unknown && end.error.is_none();
        if untold && wanted && starts {
            // It ended while there was no daemon: whether it did its work nobody knows.
            let until = anew;
            progress.live = Some(Live { until, ..live });
            return self.ask_hook(id);
        }
        self.mark(id);
        let failure = failure(hook, &end).filter(|_| !live.killed && !untold);
        match hook.purpose {
            Purpose::PreStart => self.pre_start_ended(id, hook, &live, &end, failure),
            Purpose::StopExec => self.stop_exec_ended(id, hook, &live, failure),
            Purpose::PostStop => self.post_stop_ended(id, hook, &live, failure),
            Purpose::ReloadExec => self.reload_exec_ended(id, hook, &live, failure),
            Purpose::Undo => self.undo_ended(id, hook, &live, failure),
            Purpose::Diagnose => self.diagnose_ended(id, failure),
            Purpose::Repair => self.repair_ended(id, hook, &live, &end, failure),
        }
    }

    /// Our own want of something: it is tried again within its time.
    fn wait_to_ask_hook(&mut self, id: ServiceId, mut live: Live) {
        let service = self.service_mut(id);
        let wait = limits::RESPAWN_OURS * 2u32.saturating_pow(service.respawns.min(10));
        service.respawns = service.respawns.saturating_add(1);
        (live.pid, live.retry) = (None, true);
        let due = self.now + wait.min(limits::RESPAWN_OURS_MAX);
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, due.min(live.until));
        if let Some(progress) = self.progress_mut(id) {
            progress.live = Some(live);
        }
        self.mark(id);
    }

    /// Goes into the story: the state stays as it is.
    fn tell_hook(&mut self, id: ServiceId, words: Option<Box<str>>) {
        if let Some(words) = words {
            let service = self.service(id);
            let (word, cause) = (service.state.word(), service.cause.word());
            self.tell(id, TransitionKind::State, word, word, cause, words);
        }
    }

    /// The lifecycle timer was a command's. False: it was not, or a stop's that comes first.
    pub(in crate::engine) fn hook_due(&mut self, id: ServiceId) -> bool {
        let now = self.now;
        let state = self.service(id).state;
        if self.repair_lost_its_object(id) {
            return true;
        }
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return false;
        };
        let hooks = &run.definition.hooks;
        let Some(live) = run.hooks.live.as_mut() else {
            if state == State::Starting && run.hooks.again {
                self.spawn_program(id);
                return true;
            }
            return false;
        };
        let hook = live.hook;
        let starts = hook.purpose == Purpose::PreStart;
        if live.retry && (starts || now < live.until) {
            if starts {
                live.until = live.until.max(now + hooks.pre_start_timeout);
            }
            self.ask_hook(id);
            return true;
        }
        if live.retry {
            // It never was, and no more time is left.
            let (run, exit) = (run.id, Exit::Unknown);
            let error = Some(SpawnError {
                step: format!("{}: could not be spawned in time", hook.purpose.word()).into(),
                errno: 0,
                ours: false,
            });
            let (tree_gone, output) = (true, "".into());
            self.hook_ended(
                run,
                hook,
                HookEnd {
                    exit,
                    error,
                    tree_gone,
                    output,
                },
            );
            return true;
        }
        let (first, asked) = (!live.killed, live.asked);
        let (stop_limit, post_limit) = (live.until, hooks.post_stop_timeout);
        match (hook.purpose, state) {
            (Purpose::PreStart, State::Starting) => {
                if !self.extend(id) {
                    self.pre_start_overdue(id);
                }
                true
            }
            (Purpose::ReloadExec, State::Running) => {
                if first && self.extend(id) {
                    return true;
                }
                self.kill_hook(id);
                let key = self.service_key(id, Key::lifecycle);
                self.timers.set(key, now + limits::UNKILLABLE);
                true
            }
            (Purpose::StopExec, _) if first && now >= stop_limit => {
                if !self.extend(id) {
                    self.stop_exec_overdue(id);
                }
                true
            }
            (Purpose::Undo, _) if first => self.extend(id),
            (Purpose::Repair, _) if first && !asked => {
                if !self.extend(id) {
                    self.cut_repair(id);
                }
                true
            }
            (Purpose::PostStop, _) if first => {
                if self.extend(id) {
                    return true;
                }
                let words = match self.stops_until() <= now {
                    true => "post_stop: not done when the shutdown's time was up".to_owned(),
                    false => format!("post_stop: not done within {}", spoken(post_limit)),
                };
                self.tell_hook(id, Some(words.into()));
                false
            }
            (_, _) => false,
        }
    }

    /// What a daemon before this one was in the midst of. What became of its command comes as an
    /// event.
    pub(in crate::engine) fn go_on_with_hooks(&mut self, id: ServiceId, deadline: Option<Time>) {
        let due = deadline.unwrap_or(self.now);
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, due);
        let now = self.now;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        match (&run.hooks.live, &run.stop) {
            (Some(live), Some(_)) if live.hook.purpose == Purpose::PreStart => {
                // The daemon may have died before it was sent.
                self.begin_stop(id);
            }
            (Some(_), _) => {}
            (None, Some(_)) => {
                run.exit = Some(Exit::Unknown);
                self.run_over(id);
            }
            (None, None) => {
                // The program was asked for, and nothing came of it.
                run.hooks.again = true;
                self.timers.set(key, now);
            }
        }
        self.mark(id);
    }
}

/// `pre_start: exit code 3: cannot migrate`; None: it succeeded.
fn failure(hook: Hook, end: &HookEnd) -> Option<Box<str>> {
    let word = hook.purpose.word();
    let words = match (&end.error, end.exit) {
        (Some(error), _) => format!("{word}: {error}"),
        (None, Exit::Code(0)) => return None,
        (None, exit) => {
            let said = end.output.trim_end().replace('\n', " | ");
            match said.is_empty() {
                true => format!("{word}: {exit}"),
                false => format!("{word}: {exit}: {said}"),
            }
        }
    };
    Some(words.into())
}
