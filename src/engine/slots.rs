//! How many checks may be under way at once, and who waits for a slot.
//!
//! Not here: probes that are run by hand, which never wait. Invariants: with a limit no more checks
//! are under way than it says; a check waits at most once, and none does while a slot is free; they
//! go in the order in which they became due, but those first that a dependent is judged by. Who waits
//! is not asked yet: its timeout begins with the question, and a start limit stands still meanwhile.

use super::*;
use crate::service::state::State;
use std::collections::VecDeque;

#[derive(Debug, Default, PartialEq)]
pub(super) struct Slots {
    /// None: as many as there are.
    pub(super) most: Option<u32>,
    pub(super) open: u32,
    pub(super) waiting: VecDeque<(ServiceId, u16)>,
}

impl Engine {
    /// Whether a check that is due may begin; if not it waits for a slot.
    pub(super) fn takes_slot(&mut self, id: ServiceId, probe: u16) -> bool {
        let Some(most) = self.slots.most else {
            return true;
        };
        if self.slots.open < most {
            self.slots.open += 1;
            return true;
        }
        let urgent = self.service(id).asked_until.is_some();
        let waits = self.slots.waiting.contains(&(id, probe));
        match (waits, urgent) {
            (true, false) => return false,
            (true, true) => self.slots.waiting.retain(|who| *who != (id, probe)),
            (false, _) => {}
        }
        match urgent {
            true => self.slots.waiting.push_front((id, probe)),
            false => self.slots.waiting.push_back((id, probe)),
        }
        self.slot_waits(id, probe, true);
        false
    }

    /// Another limit, while checks are under way and wait.
    pub(super) fn change_slots(&mut self, most: Option<u32>) {
        if self.slots.most == most {
            return;
        }
        match (self.slots.most, most) {
            (None, Some(_)) => {
                // Nobody counted them.
                let runs = self.services.iter().filter_map(|s| s.run.as_ref());
                let watches = runs.flat_map(|run| &run.probes);
                self.slots.open = watches.filter(|watch| watch.check.is_some()).count() as u32;
            }
            (Some(_), None) => {
                let waiting = std::mem::take(&mut self.slots.waiting);
                for (id, probe) in &waiting {
                    self.slot_waits(*id, *probe, false);
                }
                self.slots = Slots::default();
                for (id, probe) in waiting {
                    self.check_due(id, probe);
                }
            }
            // Who may begin now does at the end of this event; who is one too many ends first.
            (Some(_), Some(_)) | (None, None) => {}
        }
        self.slots.most = most;
    }

    /// A check has ended, however.
    pub(super) fn slot_free(&mut self) {
        if self.slots.most.is_some() {
            self.slots.open = self.slots.open.saturating_sub(1);
        }
    }

    /// What slots are free go to those who wait.
    pub(super) fn give_slots(&mut self) {
        while self.slots.most.is_some_and(|most| self.slots.open < most) {
            let Some((id, probe)) = self.slots.waiting.pop_front() else {
                return;
            };
            self.check_due(id, probe);
        }
    }

    /// Nothing of the run is asked any more.
    pub(super) fn leave_slots(&mut self, id: ServiceId) {
        self.slots.waiting.retain(|(who, _)| *who != id);
    }

    /// What it has to wait for a slot while starting, and is not asked anything, is not its own time.
    pub(super) fn slot_waits(&mut self, id: ServiceId, probe: u16, waits: bool) {
        if self.slots.most.is_none() {
            return;
        }
        let now = self.now;
        let service = self.service_mut(id);
        let starting = service.state == State::Starting;
        let watch = service
            .run
            .as_mut()
            .and_then(|run| run.probes.get_mut(usize::from(probe)));
        let Some(watch) = watch else { return };
        watch.waits = waits;
        if starting {
            self.excuse(id, now);
        }
    }
}
