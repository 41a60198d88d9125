//! The host's own health: whether its watchdog is fed, or the host is let go; whether its boot is
//! well, and who starts when too many were not.
//!
//! A watchdog (/dev/watchdog) resets a host that does not feed it in time. It is fed as long as all
//! that the operator called critical is well, is starting, or is being healed within its budget.
//! When that is used up, or the gate says no, nobody here can do any more, and a reset may.
//!
//! The operator is never overruled: what he stopped is not missed, under a hold nothing is healed by
//! a reset either, and an ordered shutdown is fed for as long as it may take.
//!
//! Not here: the device, and who is told otherwise that the daemon lives (the reactor).
//!
//! Invariant: without a watchdog, and when the boot is well, there is no timer, and nothing is
//! looked at.

use super::*;
use crate::graph::Edge;
use crate::service::gate::{Reason, Ruling};
use crate::service::state::{State, Wanted};
use crate::time::{millis, spoken};
use status::HostWatchdog;
use timers::Unit;

/// Who waits to hear of us, and resets what we run on when he does not for so long.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Watchdogs {
    /// The host's: the timeout that its device is set to.
    pub device: Option<Duration>,
    /// Who started us (WATCHDOG_USEC): it is told that the loop goes round, whatever services do.
    pub parent: Option<Duration>,
}

/// How boots went lately: one that was never well, and did not end in order, has failed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BootGuard {
    /// In a row, before this one.
    pub failed: u32,
    /// After so many only the safe set starts.
    pub attempts: u32,
    /// How long all must be well.
    pub ok_after: Duration,
}

impl BootGuard {
    pub fn is_safe_mode(&self) -> bool {
        self.failed >= self.attempts
    }

    /// In words, for `info`, `status` and the console.
    pub fn words(&self) -> String {
        let failed = match self.failed {
            1 => "the last boot failed".to_owned(),
            number => format!("the last {number} boots failed"),
        };
        format!(
            "{failed}: only services with safe = true, and what they require, were started; mend \
             the others, `vitald start` them, and end this by `vitald reboot`"
        )
    }
}

#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Host {
    /// None: nobody counts, or this boot is known to be well.
    pub(super) guard: Option<BootGuard>,
    pub(super) watchdogs: Watchdogs,
    pub(super) unit: Option<Unit>,
    pub(super) fed_at: Time,
    pub(super) starved: Option<Starved>,
    /// We may reboot it.
    pub(super) reboots: bool,
    /// A reboot for the sake of this one is being counted.
    pub(super) counting: Option<ServiceId>,
    /// Its restarts did not cure it; else its budget is spent.
    pub(super) for_rung: bool,
    /// What came of it, while that is acted on.
    pub(super) counted: Option<Counted>,
}

/// The watchdog is not fed.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Starved {
    pub(super) service: ServiceId,
    pub(super) why: Box<str>,
}

impl Host {
    /// So often is enough, should two of three be late.
    fn period(&self) -> Option<Duration> {
        let both = [self.watchdogs.device, self.watchdogs.parent];
        both.into_iter().flatten().min().map(|timeout| timeout / 3)
    }
}

impl Engine {
    pub(super) fn watch_host(&mut self, watchdogs: Watchdogs, guard: Option<BootGuard>) {
        self.host.guard = guard;
        self.host.watchdogs = watchdogs;
        // The device was opened just now, or fed by the daemon before us.
        self.host.fed_at = self.now;
        if self.host.period().is_some() || self.host.guard.is_some() {
            self.host.unit = Some(self.timers.host_unit());
        }
    }

    /// All is known at the boot: the first word.
    pub(super) fn greet_host(&mut self) {
        if self.host.unit.is_some() {
            self.mind_watchdog();
            self.feed_due();
        }
    }

    pub(super) fn feed_due(&mut self) {
        let (Some(unit), Some(period)) = (self.host.unit, self.host.period()) else {
            return;
        };
        self.timers.set(Key::feed(unit), self.now + period);
        if self.host.watchdogs.parent.is_some() {
            self.effects.push(Effect::TellAlive);
        }
        self.feed();
    }

    fn feed(&mut self) {
        let until = self.shutdown.as_ref().and_then(|shutdown| shutdown.until);
        let overdue = until.is_some_and(|until| self.now > until + 2 * limits::UNKILLABLE);
        if self.host.watchdogs.device.is_some() && self.host.starved.is_none() && !overdue {
            self.host.fed_at = self.now;
            self.effects.push(Effect::FeedWatchdog);
        }
    }

    /// Something may have changed: whether the device is fed from now on.
    pub(super) fn mind_watchdog(&mut self) {
        let Some(timeout) = self.host.watchdogs.device else {
            return;
        };
        match (self.host.starved.take(), self.lost()) {
            (None, None) => {}
            // What was said of it stands.
            (Some(before), Some(lost)) if before.service == lost.service => {
                self.host.starved = Some(before);
            }
            (_, Some(lost)) => {
                let left = spoken((self.host.fed_at + timeout).since(self.now));
                let words = format!("the host is reset in about {left} because {}", lost.why);
                let (id, kind) = (lost.service, TransitionKind::Host);
                let cause = self.service(id).cause.word();
                self.tell(id, kind, "fed", "unfed", cause, words.into());
                self.host.starved = Some(lost);
            }
            (Some(Starved { service, .. }), None) => {
                let words = "the host is not reset".into();
                let cause = self.service(service).cause.word();
                self.tell(service, TransitionKind::Host, "unfed", "fed", cause, words);
                // It may be the last moment.
                self.feed();
            }
        }
    }

    /// The first of those that are critical for whom nothing is done any more.
    fn lost(&self) -> Option<Starved> {
        // In safe mode it is the operator's turn.
        if self.hold.is_some() || self.shutdown.is_some() || self.is_safe_mode() {
            return None;
        }
        self.ids().find_map(|service| {
            let why = self.why_lost(service)?.into();
            Some(Starved { service, why })
        })
    }

    fn why_lost(&self, id: ServiceId) -> Option<String> {
        let service = self.service(id);
        let critical = service.definition.as_ref().is_some_and(|d| d.critical);
        // A run that was asked for once is the operator's, too.
        if !critical || self.will(id) == Wanted::Stop || service.once {
            return None;
        }
        let name = &service.name;
        match service.state {
            State::Failed if service.trouble.starts_with("budget ") => {
                Some(format!("{name} is exhausted: {}", service.trouble))
            }
            State::Failed => Some(format!("{name} is failed: {}", service.trouble)),
            State::Starting | State::Running => match &service.standing.as_ref()?.ruling {
                Ruling::Denied {
                    reason: Reason::Budget(used),
                } => Some(format!("{name} is unhealthy and exhausted: budget {used}")),
                Ruling::Denied { reason } => {
                    Some(format!("{name} is unhealthy and not restarted: {reason}"))
                }
                Ruling::Allowed { .. }
                | Ruling::Deferred { .. }
                | Ruling::Absorbed { .. }
                | Ruling::Shadow => None,
            },
            State::Blocked => self.why_stuck(id),
            State::Inactive | State::Stopping | State::Backoff | State::Exited => None,
        }
    }

    /// It waits for what does not come by itself.
    fn why_stuck(&self, id: ServiceId) -> Option<String> {
        let name = &self.service(id).name;
        if let Some(words) = self.obstacle_of_definition(id) {
            return Some(format!("{name} cannot be started: {words}"));
        }
        let mut at = id;
        // One after the other; those in a cycle are held back, above.
        for _ in self.ids() {
            let (other, edge) = self.first_need(at)?;
            let needed = self.service(other);
            let needs = matches!(edge, Edge::Requires | Edge::Milestone);
            if !needs || self.will(other) == Wanted::Stop {
                return None;
            }
            match needed.state {
                State::Failed | State::Exited => {
                    let state = needed.state.word();
                    return Some(format!(
                        "{name} waits for {}, which is {state}",
                        needed.name
                    ));
                }
                State::Blocked => at = other,
                State::Inactive
                | State::Starting
                | State::Running
                | State::Stopping
                | State::Backoff => return None,
            }
        }
        None
    }

    // --- the boot-loop guard

    pub(super) fn is_safe_mode(&self) -> bool {
        let guard = self.host.guard.as_ref();
        guard.is_some_and(BootGuard::is_safe_mode)
    }

    /// Who starts at this boot; None: all.
    fn safe_set(&self) -> Option<Vec<bool>> {
        if !self.is_safe_mode() {
            return None;
        }
        let is_safe = |id: &ServiceId| {
            let definition = self.service(*id).definition.as_ref();
            definition.is_some_and(|d| d.safe)
        };
        let mut safe = vec![false; self.services.len()];
        let mut rest: Vec<ServiceId> = self.ids().filter(is_safe).collect();
        while let Some(id) = rest.pop() {
            if !std::mem::replace(&mut safe[id.index()], true) {
                let needs = self.graph.needs(id).iter();
                let required =
                    needs.filter(|(_, edge)| matches!(edge, Edge::Requires | Edge::Milestone));
                rest.extend(required.map(|(other, _)| *other));
            }
        }
        Some(safe)
    }

    /// It is not started at this boot but by an operator: nobody waits for it.
    pub(super) fn is_left_out(&self, id: ServiceId) -> bool {
        let safe = self.safe_set();
        safe.is_some_and(|safe| !safe[id.index()]) && self.service(id).state == State::Inactive
    }

    /// The boot is well when all that is wanted is, for a while.
    pub(super) fn mind_boot(&mut self) {
        let (Some(guard), Some(unit)) = (&self.host.guard, self.host.unit) else {
            return;
        };
        // An end in order is told by who ends the host.
        if guard.is_safe_mode() || self.shutdown.is_some() {
            return;
        }
        let due = self.now + guard.ok_after;
        let is_well = |id: ServiceId| {
            let service = self.service(id);
            self.will(id) == Wanted::Stop
                || self.is_scheduled(id)
                || service.state == State::Exited
                || service.is_satisfied()
        };
        let well = self.ids().all(is_well);
        let key = Key::boot_well(unit);
        match (well, self.timers.deadline(key)) {
            (true, None) => self.timers.set(key, due),
            (false, Some(_)) => self.timers.cancel(key),
            (true, Some(_)) | (false, None) => {}
        }
    }

    pub(super) fn boot_is_well(&mut self) {
        self.host.guard = None;
        self.effects.push(Effect::BootWell);
    }

    pub(super) fn safe_mode_words(&self) -> Option<String> {
        let guard = self
            .host
            .guard
            .as_ref()
            .filter(|guard| guard.is_safe_mode());
        guard.map(BootGuard::words)
    }

    pub(super) fn host_watchdog(&self) -> Option<HostWatchdog> {
        let timeout = self.host.watchdogs.device?;
        let reset = (self.host.fed_at + timeout).since(self.now);
        let starved = self.host.starved.as_ref();
        Some(HostWatchdog {
            timeout_ms: millis(timeout),
            fed: starved.is_none(),
            why: starved.map(|starved| starved.why.to_string()),
            reset_in_ms: starved.map(|_| millis(reset)),
            ..HostWatchdog::default()
        })
    }
}
