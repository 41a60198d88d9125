//! Pins: a service stays as it is wanted, whatever others need, until it is unpinned.
//!
//! What is pinned is started or stopped only by a word about itself. Neither a start of those who
//! need it, nor of those who conflict with it, nor what becomes of what it requires, nor its
//! definition's `autostart` moves it. Its own health and its own end are judged as ever.
//!
//! Invariant: a pin makes what is wanted now the operator's word, so that it is as durable.

use super::operator::Actor;
use super::*;
use crate::service::state::Wanted;

impl Engine {
    pub(super) fn verb_pin(&mut self, id: ServiceId, actor: &Actor) -> String {
        let wanted = self.service(id).wanted;
        let so = match wanted {
            Wanted::Start => "started",
            Wanted::Stop => "stopped",
        };
        if self.service(id).pinned {
            return format!("is pinned {so} already");
        }
        self.service_mut(id).pinned = true;
        self.set_wanted(id, wanted, actor);
        self.tell_pin(id, actor);
        format!("pinned {so}: only a word about it changes that, until `unpin`")
    }

    pub(super) fn verb_unpin(&mut self, id: ServiceId, actor: &Actor) -> String {
        if !self.service(id).pinned {
            return "was not pinned".to_owned();
        }
        self.service_mut(id).pinned = false;
        let wanted = self.service(id).wanted.word();
        self.remember(id, wanted);
        self.tell_pin(id, actor);
        // What it requires may be down.
        self.unsettled.push(id);
        "unpinned".to_owned()
    }

    fn tell_pin(&mut self, id: ServiceId, actor: &Actor) {
        let (from, to) = match self.service(id).pinned {
            true => ("unpinned", "pinned"),
            false => ("pinned", "unpinned"),
        };
        let by = format!("by {}", actor.name).into();
        self.tell(id, TransitionKind::Wanted, from, to, "operator", by);
    }
}
