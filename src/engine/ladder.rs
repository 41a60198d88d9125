//! The ladder: what is done when restarts for its health do not cure a service (`escalate`).
//!
//! Each health restart after which the service is not well again in time counts; a cure, and a
//! refund, begin anew. The rung is the last whose number is reached; without one it is a plain
//! restart.
//!
//! Invariant: who is restarted with it is asked as the gate asks: never against an operator's stop
//! or pin, never while it is being stopped; nothing of its own is spent.

use super::*;
use crate::config::{Escalation, Restart};
use crate::service::state::{Cause, Cue, State, Wanted};
use story::Verdict;

/// A rung that is reached.
pub(super) struct Reached {
    pub(super) uncured: u32,
    /// Its place in the ladder.
    pub(super) index: u8,
    pub(super) action: Escalation,
}

impl Engine {
    /// What comes in place of a plain restart.
    pub(super) fn rung(&self, id: ServiceId) -> Option<Reached> {
        self.rung_but(id, |_| true)
    }

    /// The same where the host is not rebooted.
    pub(super) fn rung_without_reboot(&self, id: ServiceId) -> Option<Reached> {
        self.rung_but(id, |action| *action != Escalation::Reboot)
    }

    fn rung_but(&self, id: ServiceId, may: impl Fn(&Escalation) -> bool) -> Option<Reached> {
        let service = self.service(id);
        let uncured = service.uncured;
        let policy = &service.definition.as_ref()?.retry_policy;
        let mut rungs = policy.rungs().iter().enumerate().rev();
        let (index, rung) =
            rungs.find(|(_, rung)| service.uncured >= rung.after && may(&rung.action))?;
        Some(Reached {
            uncured,
            index: index as u8,
            action: rung.action.clone(),
        })
    }

    /// How long the repair takes at most that would come with a restart now.
    pub(super) fn repair_ahead(&self, id: ServiceId) -> Duration {
        let rung = self.rung_without_reboot(id);
        let repair = rung.and_then(|rung| rung.action.repair().map(|(_, timeout)| timeout));
        repair.unwrap_or_default()
    }

    /// The last restart was, or was not, a cure.
    pub(super) fn count_cure(&mut self, id: ServiceId, cured: bool) {
        let service = self.service_mut(id);
        service.uncured = match cured {
            true => 0,
            false => service.uncured.saturating_add(1),
        };
    }

    /// The last rung: it is stopped for good, whatever budget is left.
    pub(super) fn give_up(&mut self, id: ServiceId, cause: Cause, uncured: u32, trouble: Box<str>) {
        let words: Box<str> = format!("{uncured} uncured in a row: stop ({trouble})").into();
        let attempts = self.service(id).attempts;
        self.decide(id, cause, Verdict::Denied, words.clone(), attempts, None);
        self.leave_storm(id);
        self.cue(id, Cue::Cycle, cause, words);
        if let Some(stop) = self.stop_mut(id) {
            stop.final_stop = true;
        }
        self.mark(id);
    }

    /// `name` is restarted with it, if that may be.
    pub(super) fn restart_with(&mut self, id: ServiceId, name: &str, uncured: u32) {
        let Some(other) = self.find(name) else { return };
        let mine = self.service(id).name.clone();
        let service = self.service(other);
        let restart = service.definition.as_ref().map(|d| d.restart);
        let judged = service.run.as_ref().is_some_and(|run| run.is_judged());
        let up = matches!(service.state, State::Starting | State::Running) && judged;
        let no = match restart {
            _ if self.will(other) == Wanted::Stop => Some("wanted stop"),
            None | Some(Restart::Never) => Some("restart never"),
            Some(Restart::Always | Restart::OnFailure) if service.pinned => Some("pinned"),
            Some(_) if service.once => Some("wanted once"),
            Some(_) if !up => Some("already stopping, or not up"),
            Some(_) => None,
        };
        let attempts = service.attempts;
        let why = format!("with {mine}, {uncured} uncured in a row");
        let (verdict, words): (Verdict, Box<str>) = match no {
            Some(no) => (Verdict::Denied, format!("{no} ({why})").into()),
            None => (Verdict::Allowed, why.into()),
        };
        let cause = Cause::Dependency;
        self.decide(other, cause, verdict, words.clone(), attempts, None);
        if verdict == Verdict::Allowed {
            self.cue(other, Cue::Cycle, cause, words);
        }
    }
}
