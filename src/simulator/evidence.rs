//! The fake kernel's helpers that look at a service: how long they take, what they find, and that they
//! may hang.

use super::kernel::{Answers, Kernel, told};
use crate::engine::{Engine, Event, Gathered};
use crate::id::RunId;
use crate::time::Time;
use std::time::Duration;

impl Kernel {
    pub(super) fn look_at(&mut self, now: Time, engine: &Engine, run: RunId) -> Answers {
        let after = self.script(engine.name(run.service)).looked_at;
        self.looking.retain(|(open, _)| open.service != run.service);
        self.looking.push((run, now));
        match after {
            Some(after) => told(after, self.looked(now, engine, run)),
            None => Vec::new(),
        }
    }

    /// Who looks tells what there is, at once; what comes later says nothing new.
    pub(super) fn look_away(&mut self, engine: &Engine, run: RunId) -> Answers {
        let begun = self.looking.iter().find(|(open, _)| *open == run);
        let begun = begun.map(|(_, begun)| *begun);
        self.looking.retain(|(open, _)| *open != run);
        match begun {
            Some(begun) => told(Duration::ZERO, self.looked(begun, engine, run)),
            None => Vec::new(),
        }
    }

    fn looked(&mut self, begun: Time, engine: &Engine, run: RunId) -> Event {
        let name = engine.name(run.service);
        let found = self.script(name).stuck_on.clone();
        let dossier = found.map(|summary| {
            Box::new(Gathered {
                id: format!("{name}-{}-{}", run.number, begun.as_millis()).into(),
                summary: summary.into(),
            })
        });
        Event::EvidenceDone { run, dossier }
    }
}
