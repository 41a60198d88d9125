//! `undo`: what a oneshot has done is taken back when it is stopped, or run again.
//!
//! It is done by a run that has ended already: the number of the run that did the work, without a
//! program. Invariant: it is undone at most once for each time it was done.

use super::*;
use crate::engine::table::Stop;

impl Engine {
    /// It is done, and can be undone.
    pub(in crate::engine) fn is_undoable(&self, id: ServiceId) -> bool {
        let service = self.service(id);
        let definition = service.definition.as_ref();
        service.state == State::Exited
            && service.is_satisfied()
            && definition.is_some_and(|d| !d.hooks.undo.is_empty())
    }

    pub(in crate::engine) fn cue_undo(&mut self, id: ServiceId, cause: Cause, words: &str) {
        if self.is_undoable(id) {
            self.cue(id, Cue::Undo, cause, words.into());
        }
    }

    pub(in crate::engine) fn undo(&mut self, id: ServiceId, cause: Cause, detail: Box<str>) {
        let Some(definition) = self.service(id).definition.clone() else {
            return;
        };
        let number = self.service(id).number;
        let until = self.now + definition.hooks.undo_timeout();
        let deadline = self.stops_until().min(until);
        let mut run = self.new_run(id, number, definition, cause);
        run.executed = true;
        run.exit = Some(Exit::Code(0));
        run.start_until = None;
        run.stop = Some(Stop::new(cause, deadline));
        run.hooks = Progress {
            // It was run when the work was done.
            post_stop: u8::MAX,
            ..Progress::default()
        };
        self.service_mut(id).run = Some(Box::new(run));
        self.service_mut(id).trouble = "".into();
        let detail = match detail.is_empty() {
            true => "undo".into(),
            false => format!("undo, {detail}").into(),
        };
        self.enter(id, State::Stopping, cause, detail);
        match self.next_hook(id, Purpose::Undo) {
            Some(hook) => self.begin_hook(id, hook, deadline),
            None => self.clear_up(id),
        }
    }

    pub(super) fn undo_ended(
        &mut self,
        id: ServiceId,
        hook: Hook,
        live: &Live,
        failure: Option<Box<str>>,
    ) {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let limit = run.definition.hooks.undo_timeout();
        let late = || format!("undo: not done within {}", spoken(limit)).into();
        let failed = failure.or(live.killed.then(late));
        run.hooks.failed = failed.clone();
        run.hooks.done(hook);
        self.tell_hook(id, failed);
        let next = self.next_hook(id, Purpose::Undo);
        let failed = self
            .service(id)
            .run
            .as_ref()
            .is_some_and(|run| run.hooks.failed.is_some());
        match next.filter(|_| !failed) {
            Some(next) => self.begin_hook(id, next, live.until),
            None => self.clear_up(id),
        }
    }
}
