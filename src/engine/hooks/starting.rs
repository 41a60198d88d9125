//! `pre_start`: before the program is spawned, and what its failure is.

use super::*;

impl Engine {
    pub(super) fn pre_start_ended(
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
    pub(in crate::engine) fn spawn_program(&mut self, id: ServiceId) {
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
    pub(super) fn pre_start_overdue(&mut self, id: ServiceId) {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let limit = run.definition.hooks.pre_start_timeout;
        let words: Box<str> = format!("pre_start: not done within {}", spoken(limit)).into();
        run.hooks.failed = Some(words.clone());
        run.hooks.hopeless = run.begun_by == Cause::Operator;
        self.end(id, Cause::Exit, words);
    }
}
