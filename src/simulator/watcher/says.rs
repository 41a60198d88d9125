//! What the model makes of what a service says of itself.

use super::Watcher;
use crate::config::Ready;
use crate::id::RunId;
use crate::service::notify::Notice;
use crate::time::Time;

impl Watcher {
    /// It speaks of itself.
    pub(super) fn said(&mut self, now: Time, id: RunId, says: &[Notice]) {
        let late = self.late;
        let Some(book) = self.book(id) else { return };
        let Some(run) = book.run.as_mut().filter(|run| run.is_judged()) else {
            return;
        };
        let mut earned = false;
        for notice in says {
            match notice {
                Notice::Ready => {
                    run.said = true;
                    if run.definition.ready() != Ready::Probe && run.is_ready() {
                        run.becomes_ready(now, late);
                    }
                }
                Notice::Watchdog if run.ready.is_some() && run.definition.watchdog().is_some() => {
                    run.missed = false;
                    run.unfed_doubts = 0;
                    run.fed = Some((now, late));
                    run.fed_first.get_or_insert(now);
                    run.fed_last = Some(now);
                    earned |= run.earned_refund();
                }
                _ => {}
            }
        }
        if earned {
            book.refund();
        }
    }
}
