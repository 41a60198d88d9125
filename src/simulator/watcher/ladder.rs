//! The ladder, counted from the outside: a rung only after so many restarts in a row that did not
//! cure, in order, begun anew by a cure; and who is restarted with another may be.

use super::Watcher;
use crate::config::Escalation;
use crate::engine::story::{Decision, Verdict};
use crate::time::Time;

impl Watcher {
    pub(super) fn rung_decided(&mut self, now: Time, decision: &Decision) {
        let name = decision.service.to_string();
        let (mut wrong, mut with) = (None, false);
        if let Some(book) = self.books.get_mut(&name) {
            match decision.cured {
                Some(true) => book.uncured = 0,
                Some(false) => book.uncured += 1,
                None => {}
            }
            let definition = book.definition.as_ref();
            let rungs = definition.map(|d| d.retry_policy.rungs());
            let (uncured, fresh) = (book.uncured, decision.cured.is_none());
            let rung = rungs.and_then(|rungs| rungs.iter().rev().find(|r| uncured >= r.after));
            let told = match (decision.verdict, decision.cause.0) {
                (Verdict::Allowed, "dependency") if fresh => {
                    with = true;
                    if book.wanted == Some(false) || book.pinned || book.once {
                        wrong = Some("is restarted with another, and is not to be".to_owned());
                    }
                    None
                }
                (Verdict::Allowed, "unhealthy" | "start_timeout" | "watchdog") if fresh => {
                    Some(match decision.reason.contains(" in a row: restart with ") {
                        true => "restart-with",
                        false => "",
                    })
                }
                (Verdict::Denied, _) if decision.reason.contains("uncured in a row: stop") => {
                    Some("stop")
                }
                _ => None,
            };
            let due = match rung.map(|rung| &rung.action) {
                None => "",
                Some(Escalation::RestartWith(_)) => "restart-with",
                Some(Escalation::Stop) => "stop",
            };
            if let Some(told) = told.filter(|told| *told != due) {
                wrong = Some(format!(
                    "{uncured} uncured: \"{told}\" in place of \"{due}\""
                ));
            }
            if with {
                book.excused = true;
            }
        }
        if with {
            self.step.with.insert(name.clone());
        }
        if let Some(words) = wrong {
            self.breach(now, format!("{name}: {words}"));
        }
    }

    /// It may be that its ladder ends here: one more restart may be found to be no cure just now.
    pub(super) fn may_give_up(&self, name: &str) -> bool {
        let Some(book) = self.books.get(name) else {
            return false;
        };
        let rungs = book.definition.as_ref().map(|d| d.retry_policy.rungs());
        let last = rungs.and_then(|rungs| rungs.last());
        last.is_some_and(|last| last.action == Escalation::Stop && book.uncured + 1 >= last.after)
    }
}
