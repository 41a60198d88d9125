//! The ladder, counted from the outside: a rung only after so many restarts in a row that did not
//! cure, in order, begun anew by a cure; who is restarted with another may be; and a repair is made
//! once for each restart that was decided so, and never for who is to be stopped.

use super::Watcher;
use super::book::Book;
use crate::config::{Escalation, Rung};
use crate::engine::Event;
use crate::engine::snapshot::ServiceSnapshot;
use crate::engine::story::{Decision, Verdict};
use crate::id::RunId;
use crate::service::hook::{Hook, Purpose};
use crate::time::Time;

impl Book {
    /// The daemon died, perhaps when it had written down whether the last restart was a cure, and had
    /// not told it.
    pub(super) fn recall_cure(&mut self, amid: bool, uncured: u32) {
        if amid && [0, self.uncured + 1].contains(&uncured) {
            self.uncured = uncured;
        }
    }
}

impl ServiceSnapshot {
    /// A repair is to be made, or under way.
    pub(super) fn is_repaired(&self) -> bool {
        let run = self.run.as_ref();
        run.is_some_and(|run| run.hooks.repair.is_some())
    }
}

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
            // No simulated host is rebooted.
            let may = |r: &&Rung| uncured >= r.after && r.action != Escalation::Reboot;
            let rung = rungs.and_then(|rungs| rungs.iter().rev().find(may));
            let told = match (decision.verdict, decision.cause.0) {
                (Verdict::Allowed, "dependency") if fresh => {
                    with = true;
                    if book.wanted == Some(false) || book.pinned || book.once {
                        wrong = Some("is restarted with another, and is not to be".to_owned());
                    }
                    None
                }
                (Verdict::Allowed, "unhealthy" | "start_timeout" | "watchdog") if fresh => {
                    let says = |words| decision.reason.contains(words);
                    if says(" in a row: restart after ") {
                        Some("exec")
                    } else if says(" in a row: restart with ") {
                        Some("restart-with")
                    } else {
                        Some("")
                    }
                }
                (Verdict::Denied, _) if decision.reason.contains("uncured in a row: stop") => {
                    Some("stop")
                }
                _ => None,
            };
            let due = match rung.map(|rung| &rung.action) {
                None => "",
                Some(Escalation::RestartWith(_)) => "restart-with",
                Some(Escalation::Exec { .. }) => "exec",
                Some(Escalation::Reboot) => "reboot",
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

    /// A stop begins: is it to be followed by a repair, and may it?
    pub(super) fn repair_intended(&mut self, now: Time, snapshot: &ServiceSnapshot, health: bool) {
        let Some(book) = self.books.get_mut(&*snapshot.name) else {
            return;
        };
        let rung = snapshot.run.as_ref().and_then(|run| run.hooks.repair);
        book.repair = rung.map(|_| snapshot.number);
        let Some(at) = rung else { return };
        let rungs = book.definition.as_ref().map(|d| d.retry_policy.rungs());
        let rung = rungs.and_then(|rungs| rungs.get(usize::from(at)));
        // What became of the last restart is told after this.
        let due = |rung: &Rung| rung.action.repair().is_some() && book.uncured + 1 >= rung.after;
        if !health || !rung.is_some_and(due) {
            let words = format!("{}: is to be repaired, and is not to be", snapshot.name);
            self.breach(now, words);
        }
    }

    /// A command is asked for.
    pub(super) fn repair_begins(&mut self, now: Time, run: RunId, hook: Hook) {
        if hook.purpose != Purpose::Repair {
            return;
        }
        let Some(name) = self.ids.get(&run.service).cloned() else {
            return;
        };
        let (held, shutting) = (self.is_held(now), self.shutting);
        let Some(book) = self.books.get_mut(&name) else {
            return;
        };
        let mut wrong = Vec::new();
        if book.repair != Some(run.number) {
            wrong.push("nothing that happened allows it, or it was made");
        }
        if book.wanted == Some(false) || shutting {
            wrong.push("it is wanted stopped");
        }
        if held {
            wrong.push("automatic restarts are held");
        }
        if book.run.is_some() {
            wrong.push("it lives");
        }
        if !wrong.is_empty() {
            self.breach(now, format!("{name} is repaired: {}", wrong.join("; ")));
        }
    }

    /// A repair has ended; what could not be made for our own want is made once more.
    pub(super) fn repaired(&mut self, now: Time, event: &Event) {
        let Event::HookEnded { run, hook, end } = event else {
            return;
        };
        let again = end.error.as_ref().is_some_and(|error| error.ours);
        let name = self.ids.get(&run.service);
        let book = name.and_then(|name| self.books.get_mut(name));
        if let Some(book) = book.filter(|book| book.repair == Some(run.number))
            && hook.purpose == Purpose::Repair
            && !again
        {
            book.repair = None;
            book.delay_from(now);
        }
    }

    /// What is left is ended of a run that was over before: a repair has left it.
    pub(super) fn sweeps_after_repair(&mut self, name: &str, number: u32) -> bool {
        let book = self.books.get_mut(name);
        let book = book.filter(|book| book.run.is_none() && book.number == number);
        book.is_some_and(|book| {
            book.sweeps = Some(number);
            true
        })
    }

    pub(super) fn is_swept_after_repair(&self, run: &RunId) -> bool {
        let name = self.ids.get(&run.service);
        let book = name.and_then(|name| self.books.get(name));
        book.is_some_and(|book| book.run.is_none() && book.sweeps == Some(run.number))
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
