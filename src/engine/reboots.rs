//! `on_exhausted = "reboot"`: a host that is of no use without a service is rebooted in order when
//! that is beyond healing.
//!
//! Before that it is counted, durably, by the driver ([`Effect::CountReboot`]): after
//! [`limits::REBOOTS`] within [`limits::REBOOTS_WITHIN`] nobody is helped by another one, and the
//! service is left as it is, as with `keep`. So it is where the count cannot be written, in safe mode,
//! and wherever the daemon is not the first process of a host.
//!
//! Invariants: nothing is rebooted that was not counted before; an operator's hold keeps it from
//! being asked for, because nothing is exhausted under it.

use super::*;
use crate::config::OnExhausted;

/// What came of counting one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    Yes,
    /// There were as many as there may be.
    TooMany,
    /// It cannot be written.
    Unwritten,
}

impl Engine {
    /// The budget of a service is spent.
    pub(super) fn reboot_if_defined(&mut self, id: ServiceId) {
        let wished = self.definition_of(id).retry_policy.on_exhausted == OnExhausted::Reboot;
        if !wished || self.shutdown.is_some() {
            return;
        }
        if !self.host.reboots {
            let why = "vitald is not the first process of this host, and does not reboot it";
            return self.tell_kept(id, why);
        }
        if self.is_safe_mode() {
            return self.tell_kept(id, "in safe mode it is the operator's turn");
        }
        if self.host.counting.is_none() {
            self.host.counting = Some(id);
            self.effects.push(Effect::CountReboot { service: id });
        }
    }

    fn tell_kept(&mut self, id: ServiceId, why: &str) {
        let words = format!("{} is left as it is: {why}", self.service(id).name).into();
        let kind = TransitionKind::Host;
        self.tell(id, kind, "exhausted", "kept", "exit", words);
    }

    /// The answer to `CountReboot`.
    pub(super) fn reboot_counted(&mut self, id: ServiceId, counted: Counted) {
        if self.host.counting.take() != Some(id) || self.shutdown.is_some() {
            return;
        }
        match counted {
            Counted::Yes => {}
            Counted::TooMany => {
                let why = format!(
                    "the host was rebooted {} times within {} for such a reason, and that did not help",
                    limits::REBOOTS,
                    crate::time::spoken(limits::REBOOTS_WITHIN)
                );
                return self.tell_kept(id, &why);
            }
            Counted::Unwritten => {
                let why = "a reboot cannot be counted in the state directory, so none is made";
                return self.tell_kept(id, why);
            }
        }
        let service = self.service(id);
        if !service.is_exhausted() || self.hold.is_some() {
            // An operator was faster.
            return self.tell_kept(id, "an operator has seen to it");
        }
        let words = format!(
            "the host is rebooted: {} has used up its budget, and on_exhausted is \"reboot\"",
            service.name
        );
        let kind = TransitionKind::Host;
        self.tell(id, kind, "exhausted", "reboot", "exit", words.into());
        self.effects.push(Effect::Reboot);
        self.verb_shutdown(false);
    }
}
