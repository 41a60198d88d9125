//! The commands around a run: `pre_start`, `stop_exec`, `post_stop`, `reload_exec`.
//!
//! They are of the run: its number, its identity, its tree. Not here: what follows the end of a
//! run (`aftermath`), when a stop begins (`ending`).
//!
//! Invariants: of one run at most one command is under way, and it is over before the run is; the
//! program is spawned only when all of `pre_start` succeeded; every command has a deadline; which
//! command runs is journalled before it is asked for, so that a daemon that returns waits for
//! what lives and runs nothing twice at once.

use super::operator::refuse;
use super::*;
use crate::exit::{Exit, Signal};
use crate::id::{Pid, Ticket};
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
    pub(super) fn phase(&self, id: ServiceId) -> Option<Purpose> {
        let run = self.service(id).run.as_ref()?;
        run.hooks.live.as_ref().map(|live| live.hook.purpose)
    }

    /// The next command of this list, if one is left.
    pub(super) fn next_hook(&self, id: ServiceId, purpose: Purpose) -> Option<Hook> {
        let run = self.service(id).run.as_ref()?;
        run.hooks.next(purpose, &run.definition.hooks)
    }

    /// The command is written down as the one under way, and asked for.
    pub(super) fn begin_hook(&mut self, id: ServiceId, hook: Hook, until: Time) {
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
            retry: false,
        });
        self.ask_hook(id);
    }

    fn ask_hook(&mut self, id: ServiceId) {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let Some(live) = run.hooks.live.as_mut() else {
            return;
        };
        (live.pid, live.retry) = (None, false);
        let until = live.until;
        let cause = run.stop.as_ref().map_or(Cause::Exit, |stop| stop.cause);
        let effect = Effect::Hook {
            run: run.id,
            hook: live.hook,
            definition: run.definition.clone(),
            main: run.pid.filter(|_| run.exit.is_none()),
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

    pub(super) fn kill_hook(&mut self, id: ServiceId) {
        self.signal_hook(id, Signal::KILL);
    }

    pub(super) fn hook_spawned(&mut self, run: RunId, hook: Hook, pid: Pid, started: u64) {
        let Some(id) = self.current(run) else { return };
        let Some(progress) = self.progress_mut(id) else {
            return;
        };
        let Some(live) = progress.live.as_mut().filter(|live| live.hook == hook) else {
            self.stale += 1;
            return;
        };
        (live.pid, live.started) = (Some(pid), started);
        let killed = live.killed;
        if progress.began == 0 && progress.waits {
            progress.began = started;
        }
        self.service_mut(id).respawns = 0;
        self.mark(id);
        match (killed, self.service(id).state) {
            (true, _) => self.kill_hook(id),
            (false, State::Stopping) if hook.purpose == Purpose::PreStart => self.begin_stop(id),
            (false, _) => {}
        }
    }

    pub(super) fn hook_ended(&mut self, run: RunId, hook: Hook, end: HookEnd) {
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

    // --- pre_start

    fn pre_start_ended(
        &mut self,
        id: ServiceId,
        hook: Hook,
        live: &Live,
        end: &HookEnd,
        failure: Option<Box<str>>,
    ) {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let over = run.stop.is_some() || failure.is_some() || live.killed;
        if !over {
            run.hooks.done(hook);
            return match self.next_hook(id, Purpose::PreStart) {
                Some(next) => self.begin_hook(id, next, live.until),
                None => self.spawn_program(id),
            };
        }
        run.exit = Some(end.exit);
        if run.stop.is_none() {
            // What cannot be executed will not be a moment later, either; and an operator is there
            // to see that it failed.
            let first = !run.begun_by.is_automatic();
            let asked = run.begun_by == Cause::Operator;
            run.hooks.hopeless = asked || first && end.error.is_some();
            run.hooks.failed = failure;
        }
        self.run_over(id);
    }

    /// `pre_start` is done: the program's turn, which has its whole start limit.
    pub(super) fn spawn_program(&mut self, id: ServiceId) {
        let (now, late) = (self.now, self.lateness.total);
        let cause = self.service(id).cause;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let (run_id, definition) = (run.id, run.definition.clone());
        let took = now.since(run.spawned_at);
        run.hooks.again = false;
        let waited = std::mem::replace(&mut run.hooks.waits, false);
        run.spawned_at = now;
        run.extended = false;
        run.begin_start_limit(now, late);
        self.set_start_limit(id);
        if waited {
            let word = State::Starting.word();
            let words = format!("pre_start done after {}", spoken(took)).into();
            self.tell(id, TransitionKind::State, word, word, cause.word(), words);
        }
        let run = run_id;
        self.effects.push(Effect::Spawn { run, definition });
    }

    /// Its time is up: it is asked to end like a program, and the start has failed.
    fn pre_start_overdue(&mut self, id: ServiceId) {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let limit = run.definition.hooks.pre_start_timeout;
        let words: Box<str> = format!("pre_start: not done within {}", spoken(limit)).into();
        run.hooks.failed = Some(words.clone());
        run.hooks.hopeless = run.begun_by == Cause::Operator;
        self.end(id, Cause::Exit, words);
    }

    // --- stop_exec

    /// How a stop begins: with its command, where there is one, else with the signal.
    pub(super) fn begin_stop(&mut self, id: ServiceId) {
        let now = self.now;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
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
            Some(Purpose::ReloadExec) => self.kill_hook(id),
            Some(Purpose::StopExec | Purpose::PostStop) => {}
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

    fn stop_exec_ended(
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

    fn signal_after_hook(&mut self, id: ServiceId, deadline: Option<Time>) {
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, deadline.unwrap_or(self.now));
        self.signal_stop(id);
    }

    // --- post_stop

    /// Nothing runs any more but what is left, or a command: those first, then `post_stop`, then
    /// the run is gone.
    pub(super) fn run_over(&mut self, id: ServiceId) {
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        let left = run.hooks.leftovers && run.kills_tree();
        let clear = !left && run.hooks.live.is_none() && self.post_stop_due(id).is_none();
        match clear {
            true => self.gone(id),
            false => self.cue(id, Cue::Remains, Cause::Exit, "".into()),
        }
    }

    /// What has never run needs no cleaning up.
    fn post_stop_due(&self, id: ServiceId) -> Option<Hook> {
        let run = self.service(id).run.as_ref()?;
        let ran = run.pid.or(run.hooks.last).is_some();
        self.next_hook(id, Purpose::PostStop).filter(|_| ran)
    }

    pub(super) fn clear_up(&mut self, id: ServiceId) {
        let now = self.now;
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        match run.hooks.live.as_ref().map(|live| live.hook.purpose) {
            Some(Purpose::ReloadExec) => {
                let key = self.service_key(id, Key::lifecycle);
                self.timers.set(key, now + Duration::from_secs(1));
                return self.kill_hook(id);
            }
            // Their ends are waited for, within their time.
            Some(Purpose::PreStart | Purpose::StopExec | Purpose::PostStop) => return,
            None => {}
        }
        let number = run.pid.or(run.hooks.last);
        if let Some(pid) = number.filter(|_| run.hooks.leftovers && run.kills_tree()) {
            return self.end_tree(id, pid);
        }
        let bound = self.stops_until();
        let Some(hook) = self.post_stop_due(id) else {
            return self.gone(id);
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

    fn post_stop_ended(
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

    // --- reload_exec

    pub(super) fn verb_reload(
        &mut self,
        ticket: Ticket,
        id: ServiceId,
    ) -> Result<Option<String>, Refusal> {
        let service = self.service(id);
        let name = &service.name;
        let running = service.state == State::Running;
        let Some((run, pid)) = service
            .run
            .as_ref()
            .filter(|run| running && run.is_judged())
            .and_then(|run| Some((run, run.pid?)))
        else {
            let words = format!("{name} does not run: it is {}", service.state);
            return Err(refuse(code::IS_DOWN, &words));
        };
        let hooks = &run.definition.hooks;
        if let Some(signal) = hooks.reload_signal {
            let run = run.id;
            let group = false;
            self.effects.push(Effect::Signal {
                run,
                pid,
                signal,
                group,
            });
            return Ok(Some(format!("{signal} sent to pid {pid}")));
        }
        let Some(hook) = run.hooks.next(Purpose::ReloadExec, hooks) else {
            let source = &service.source;
            let words = format!(
                "{name} has no `reload_signal` and no `reload_exec`: add one to {source}, or `restart {name}`"
            );
            return Err(refuse(code::CONFIG, &words));
        };
        if run.hooks.live.is_some() {
            let words = format!("{name} is being reloaded: wait for its end");
            return Err(refuse(code::TOO_MANY, &words));
        }
        let (run, until) = (run.id, self.now + hooks.reload_timeout);
        self.reloading.push((run, ticket));
        self.begin_hook(id, hook, until);
        Ok(None)
    }

    fn reload_exec_ended(
        &mut self,
        id: ServiceId,
        hook: Hook,
        live: &Live,
        failure: Option<Box<str>>,
    ) {
        let key = self.service_key(id, Key::lifecycle);
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        let (run_id, over) = (run.id, run.exit.is_some());
        let stopping = run.stop.is_some();
        let index = hook.index.saturating_add(1);
        let next = Hook { index, ..hook };
        let more = next.argv(&run.definition.hooks).is_some();
        let limit = run.definition.hooks.reload_timeout;
        if failure.is_none() && !live.killed && !stopping && more {
            return self.begin_hook(id, next, live.until);
        }
        let failure = match (live.killed, stopping) {
            (_, true) => Some("reload_exec: ended, the service is stopping".into()),
            (true, false) => Some(format!("reload_exec: not done within {}", spoken(limit)).into()),
            (false, false) => failure,
        };
        if !stopping {
            self.timers.cancel(key);
            self.tell_hook(id, failure.clone().or(Some("reload_exec done".into())));
        }
        self.answer_reload(run_id, failure);
        match (stopping, over) {
            (true, true) => self.clear_up(id),
            (true, false) => {
                let stop = self.stop_mut(id).map(|stop| stop.deadline);
                self.timers.set(key, stop.unwrap_or(self.now));
                self.begin_stop(id);
            }
            (false, _) => {}
        }
    }

    fn answer_reload(&mut self, run: RunId, failure: Option<Box<str>>) {
        let Some(at) = self.reloading.iter().position(|(who, _)| *who == run) else {
            return;
        };
        let (_, ticket) = self.reloading.remove(at);
        let note = "reload_exec done".into();
        let answer = match failure {
            Some(words) => Err(refuse(code::HOOK_FAILED, &words)),
            None => Ok(Accepted {
                note,
                ..Accepted::default()
            }),
        };
        self.answer(ticket, answer);
    }

    // --- both

    /// Goes into the story: the state stays as it is.
    fn tell_hook(&mut self, id: ServiceId, words: Option<Box<str>>) {
        if let Some(words) = words {
            let service = self.service(id);
            let (word, cause) = (service.state.word(), service.cause.word());
            self.tell(id, TransitionKind::State, word, word, cause, words);
        }
    }

    /// The lifecycle timer was a command's. False: it was not, or a stop's that comes first.
    pub(super) fn hook_due(&mut self, id: ServiceId) -> bool {
        let now = self.now;
        let state = self.service(id).state;
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
        let first = !live.killed;
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

    /// Half of the time to stop is up: the signal, whatever becomes of the command.
    fn stop_exec_overdue(&mut self, id: ServiceId) {
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

    /// What a daemon before this one was in the midst of. What became of its command comes as an
    /// event.
    pub(super) fn go_on_with_hooks(&mut self, id: ServiceId, deadline: Option<Time>) {
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
