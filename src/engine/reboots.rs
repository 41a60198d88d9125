//! A host that is of no use without a service is rebooted in order: by `on_exhausted = "reboot"` when
//! that is beyond healing, by a rung of `escalate` when restarts do not cure it.
//!
//! Before that it is counted, durably, by the driver ([`Effect::CountReboot`]): after
//! [`limits::REBOOTS`] within [`limits::REBOOTS_WITHIN`] nobody is helped by another one. Then, where
//! the count cannot be written, in safe mode, and wherever the daemon is not the first process of a
//! host, an exhausted service is left as it is, as with `keep`; one that has attempts left is restarted
//! by the rung below.
//!
//! Invariants: nothing is rebooted that was not counted before, and the gate's yes is asked anew after
//! that; an operator's hold keeps it from being asked for, because nothing is exhausted, and no
//! restart allowed, under it.

use super::table::Standing;
use super::*;
use crate::config::OnExhausted;
use crate::service::gate::{Reason, Ruling};
use crate::service::state::Cause;
use story::Verdict;

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
        if let Some(why) = self.no_reboot() {
            return self.tell_kept(id, why);
        }
        match self.host.counting {
            None => self.count_reboot(id, false),
            Some(other) if other == id => {}
            Some(_) => self.tell_kept(id, "a reboot is being counted for another service"),
        }
    }

    /// It is not for us to reboot this host, or not now.
    fn no_reboot(&self) -> Option<&'static str> {
        if !self.host.reboots {
            Some("vitald is not the first process of this host, and does not reboot it")
        } else if self.is_safe_mode() {
            Some("in safe mode it is the operator's turn")
        } else {
            None
        }
    }

    fn count_reboot(&mut self, id: ServiceId, for_rung: bool) {
        (self.host.counting, self.host.for_rung) = (Some(id), for_rung);
        self.effects.push(Effect::CountReboot { service: id });
    }

    fn tell_kept(&mut self, id: ServiceId, why: &str) {
        let words = format!("{} is left as it is: {why}", self.service(id).name).into();
        let kind = TransitionKind::Host;
        self.tell(id, kind, "exhausted", "kept", "exit", words);
    }

    /// The gate has allowed a restart, and its rung is a reboot. False: that may not be.
    pub(super) fn reboots_for(&mut self, id: ServiceId, cause: Cause, trouble: &str) -> bool {
        let uncured = self.service(id).uncured;
        let name = self.service(id).name.clone();
        let told = TransitionKind::Host;
        let why = match (self.no_reboot(), self.host.counted) {
            (Some(why), _) => why.to_owned(),
            (None, Some(Counted::Yes)) => {
                let words = format!("{uncured} uncured in a row: reboot ({trouble})");
                let attempts = self.service(id).attempts;
                self.service_mut(id).standing = None;
                self.leave_storm(id);
                self.decide(id, cause, Verdict::Denied, words.into(), attempts, None);
                let words = format!(
                    "the host is rebooted: {uncured} restarts in a row did not cure {name}"
                );
                self.tell(id, told, "uncured", "reboot", cause.word(), words.into());
                self.effects.push(Effect::Reboot);
                self.verb_shutdown(false);
                return true;
            }
            (None, Some(no)) => no.words(),
            (None, None) => {
                let standing = Standing {
                    cause,
                    ruling: Ruling::Deferred {
                        reason: Reason::Reboot,
                        until: None,
                    },
                    trouble_since: self.trouble_since(id),
                };
                self.keep_waiting(id, standing, trouble.into());
                if self.host.counting.is_none() {
                    self.count_reboot(id, true);
                }
                return true;
            }
        };
        let words = format!("{uncured} restarts in a row did not cure {name}; no reboot: {why}");
        self.tell(id, told, "uncured", "denied", cause.word(), words.into());
        false
    }

    /// The answer to `CountReboot`.
    pub(super) fn reboot_counted(&mut self, id: ServiceId, counted: Counted) {
        if self.host.counting != Some(id) || self.shutdown.is_some() {
            self.host.counting = None;
            return;
        }
        if !self.host.for_rung {
            self.host.counting = None;
            self.reboot_exhausted(id, counted);
        } else {
            // The gate is asked anew; the answer is for this one alone.
            self.host.counted = Some(counted);
            if self.waits_for_count(id) {
                self.reconsider(id);
            }
            (self.host.counting, self.host.counted) = (None, None);
        }
        for other in self.ids() {
            if self.shutdown.is_none() && self.waits_for_count(other) {
                self.reconsider(other);
            }
        }
    }

    fn waits_for_count(&self, id: ServiceId) -> bool {
        let standing = self.service(id).standing.as_ref();
        matches!(standing.and_then(Standing::deferral), Some(Reason::Reboot))
    }

    fn reboot_exhausted(&mut self, id: ServiceId, counted: Counted) {
        if counted != Counted::Yes {
            return self.tell_kept(id, &counted.words());
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

impl Counted {
    /// Why there is none.
    fn words(self) -> String {
        match self {
            Counted::Yes => String::new(),
            Counted::TooMany => format!(
                "the host was rebooted {} times within {} for such a reason, and that did not help",
                limits::REBOOTS,
                crate::time::spoken(limits::REBOOTS_WITHIN)
            ),
            Counted::Unwritten => {
                "a reboot cannot be counted in the state directory, so none is made".to_owned()
            }
        }
    }
}
