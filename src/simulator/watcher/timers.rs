//! What a schedule starts, by the model: who has one and is wanted, when something is due, and at
//! an interval no more often than that is over.

use super::Watcher;
use crate::config::When;
use crate::engine::story::{Transition, TransitionKind};
use crate::time::Time;

impl Watcher {
    pub(super) fn started_by_schedule(&mut self, now: Time, told: &Transition) {
        let rests = matches!(told.from.0, "inactive" | "exited" | "failed");
        let begins = rests && matches!(told.to.0, "starting" | "blocked");
        if !begins || told.kind != TransitionKind::State || told.cause.0 != "timer" {
            return;
        }
        let due = self.step.timers || self.step.due;
        let stolen = self.stolen;
        let Some(book) = self.books.get_mut(&*told.service) else {
            return;
        };
        let mut wrong = Vec::new();
        if !due {
            wrong.push("nothing is due");
        }
        if book.wanted == Some(false) || book.once {
            wrong.push("its schedule is suspended");
        }
        match book.definition.as_ref().and_then(|d| d.schedule.as_ref()) {
            None => wrong.push("it has no schedule"),
            Some(schedule) => {
                let late = schedule.random_delay;
                // What came late once comes again at its time.
                if let (When::Every(length), Some((last, then))) = (&schedule.when, book.due_last)
                    && now + late + stolen.saturating_sub(then) < last + *length
                {
                    wrong.push("its interval is not over");
                }
            }
        }
        let before = std::mem::replace(&mut book.due_stolen, stolen);
        let anew = std::mem::take(&mut book.due_anew);
        book.due_last = (!anew).then_some((now, before));
        // Each has a whole budget.
        book.refund();
        book.bidden();
        if !wrong.is_empty() {
            let words = wrong.join("; ");
            let words = format!("{} is started by its schedule: {words}", told.service);
            self.breach(now, words);
        }
    }
}
