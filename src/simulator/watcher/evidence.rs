//! The evidence phase of a stop for a service's health: no signal before its end or its deadline,
//! and none later than that for its sake.

use super::Watcher;
use crate::engine::snapshot::ServiceSnapshot;
use crate::engine::table::Evidence;
use crate::engine::{Command, Event};
use crate::service::hook::Purpose;
use crate::simulator::watcher::groups::service_of;
use crate::time::Time;

impl Watcher {
    /// A phase of a stop is over, as far as the world knows.
    pub(super) fn looked(&mut self, now: Time, event: &Event) {
        self.repaired(now, event);
        let (run, phase) = match event {
            Event::EvidenceDone { run, .. } => (*run, Evidence::Collect),
            Event::HookEnded { run, hook, .. } if hook.purpose == Purpose::Diagnose => {
                (*run, Evidence::Diagnose)
            }
            _ => return,
        };
        let stop = self.run(run).and_then(|run| run.stop.as_mut());
        if let Some(stop) = stop.filter(|stop| stop.evidence.is_some_and(|(p, _)| p == phase)) {
            stop.looked = true;
        }
    }

    /// The phase goes on, or is over: rightly?
    pub(super) fn looked_at(&mut self, now: Time, snapshot: &ServiceSnapshot) {
        let (stolen, late) = (self.stolen, self.late);
        // Somebody's word, or the end of all: it is not waited for it.
        let asked = self.step.asked.as_ref().map(|(_, command, _)| command);
        let stops = asked.is_some_and(|command| {
            let stop = matches!(command, Command::Stop { .. } | Command::StopForNow { .. });
            let about = service_of(command).and_then(|id| self.ids.get(&id));
            stop && about.is_some_and(|name| **name == *snapshot.name)
        });
        let cut = asked.is_some() || self.shutting || self.step.reload || self.step.boot;
        let Some(run) = self
            .books
            .get_mut(&*snapshot.name)
            .and_then(|book| book.run.as_mut())
            .filter(|run| run.number == snapshot.number)
        else {
            return;
        };
        let ended = run.exit.is_some();
        // By the definition that counts when the stop itself begins.
        let timeout = run.stop.as_ref().map(|stop| run.stop_timeout(stop.by));
        let (Some(stop), Some(shown)) = (
            run.stop.as_mut(),
            snapshot.run.as_ref().and_then(|run| run.stop.as_ref()),
        ) else {
            return;
        };
        let Some((phase, until)) = stop.evidence else {
            return;
        };
        let mut wrong = None;
        if shown.evidence != Some(phase) {
            if !(stop.looked || now >= until || ended || cut) {
                wrong = Some("its stop goes on before what it is stuck on was looked at");
            }
            stop.looked = false;
            let due = snapshot.deadline.unwrap_or(now);
            stop.evidence = shown.evidence.map(|phase| (phase, due));
            (stop.at, stop.stolen, stop.late) = (now, stolen, late);
            stop.timeout = timeout.unwrap_or(stop.timeout);
        } else if stops {
            wrong = Some("told to stop, and is looked at all the same");
        }
        if let Some(words) = wrong {
            self.breach(now, format!("{}: {words}", snapshot.name));
        }
    }
}
