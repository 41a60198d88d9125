//! What the model makes of looks at the host.

use super::Watcher;
use super::book::LookBook;
use crate::id::RunId;
use crate::service::doubt::Strain;
use crate::time::{Time, micros};

impl Watcher {
    pub(super) fn host_looked(&mut self, now: Time, run: RunId, strain: &Strain) {
        let late = self.late;
        let Some(run) = self.run(run) else { return };
        let long = run.looked.map_or(run.spawned_at, |look| look.at);
        let before = run.looked.map_or(0, |look| look.own_us);
        let own_us = strain.own_cpu_us.unwrap_or(0);
        let mut busy = own_us.saturating_sub(before) >= micros(now.since(long)) / 2;
        if now == long {
            busy = run.looked.is_some_and(|look| look.busy);
        }
        let pressed = strain.cpu >= 6000 && !busy;
        run.looked = Some(LookBook {
            at: now,
            pressed,
            own_us,
            busy,
        });
        if pressed && run.is_unfed(now, late) && run.unfed_doubts < 3 {
            run.unfed_doubts += 1;
            run.fed = Some((now, late));
        }
    }
}
