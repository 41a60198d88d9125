//! What a run says of itself: ready, well, busy; and the watchdog that is due when it says nothing.
//!
//! A watchdog is a probe that the service asks of itself: missed once it is down, said again it is
//! up, and a run whose watchdog is missed goes through the gate as any other that is unhealthy.
//!
//! Invariants: it is armed from ready to the run's end; what the loop's lateness may have kept from
//! being read is not a miss; nothing that is said moves a run that is being ended, but for how long
//! that may take.

use super::table::{Run, Standing};
use super::*;
use crate::config::Ready;
use crate::exit::errno_words;
use crate::id::Pid;
use crate::service::notify::Notice;
use crate::service::state::{Cause, State};

impl Engine {
    pub(super) fn notified(&mut self, run: RunId, says: Box<[Notice]>) {
        let Some(id) = self.current(run) else { return };
        for notice in says {
            self.noticed(id, notice);
        }
    }

    fn noticed(&mut self, id: ServiceId, notice: Notice) {
        let now = self.now;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let judged = run.is_judged();
        let told = run.told.get_or_insert_default();
        match notice {
            Notice::Ready if judged => {
                told.reloading = false;
                (told.ready, told.doubt) = (true, false);
                let makes_ready = run.definition.ready() != Ready::Probe;
                self.mark(id);
                if makes_ready {
                    self.ready_if_it_is(id);
                }
            }
            Notice::Reloading if judged => {
                told.reloading = true;
                self.mark(id);
            }
            Notice::Stopping => {
                told.stopping = true;
                self.mark(id);
            }
            Notice::Status(text) => {
                // A chatty one is not written down at each word; the next record has it.
                let due = told
                    .status_at
                    .is_none_or(|at| now >= at + limits::STATUS_PACE);
                let changed = std::mem::replace(&mut told.status, text) != told.status;
                if changed && due {
                    told.status_at = Some(now);
                    self.mark(id);
                }
            }
            Notice::Errno(errno) => {
                told.errno = Some(errno).filter(|errno| *errno != 0);
                self.mark(id);
            }
            Notice::Watchdog if judged => self.watchdog_fed(id),
            Notice::Trigger if judged && run.ready_at.is_some() => {
                self.watchdog_missed(id, "it said WATCHDOG=trigger");
            }
            Notice::Period(period) if judged => {
                told.period = Some(period);
                self.mark(id);
                self.arm_watchdog(id);
            }
            Notice::Extend(length) => self.extend_timeout(id, length),
            Notice::Main { pid, started } => {
                told.main = Some((pid, started));
                self.mark(id);
            }
            Notice::Ready
            | Notice::Reloading
            | Notice::Watchdog
            | Notice::Trigger
            | Notice::Period(_) => {}
        }
    }

    /// So many descriptors are kept for it.
    pub(super) fn stored(&mut self, id: ServiceId, held: u16) {
        let Some(service) = self.services.get_mut(id.index()) else {
            return;
        };
        service.stored = Some(held).filter(|held| *held > 0);
        let rests = matches!(
            service.state,
            State::Inactive | State::Exited | State::Failed
        );
        if rests && !self.keeps_sockets(id) {
            self.unstore(id);
        }
    }

    /// No run comes by itself that could have them back.
    pub(super) fn unstore(&mut self, id: ServiceId) {
        if self.service_mut(id).stored.take().is_some() {
            self.effects.push(Effect::Unstore { service: id });
        }
    }

    // --- the watchdog

    fn watchdog_key(&mut self, id: ServiceId) -> Key {
        let unit = match self.service(id).watchdog_unit {
            Some(unit) => unit,
            None => {
                let unit = self.timers.watchdog_unit(id);
                self.service_mut(id).watchdog_unit = Some(unit);
                unit
            }
        };
        Key::watchdog(unit)
    }

    pub(super) fn watchdog_deadline(&self, id: ServiceId) -> Option<Time> {
        let unit = self.service(id).watchdog_unit?;
        self.timers.deadline(Key::watchdog(unit))
    }

    pub(super) fn disarm_watchdog(&mut self, id: ServiceId) {
        if let Some(unit) = self.service(id).watchdog_unit {
            self.timers.cancel(Key::watchdog(unit));
        }
    }

    /// A whole period from now, where a ready run has one and did not miss it. After the daemon's
    /// death too: what was said meanwhile nobody heard.
    pub(super) fn arm_watchdog(&mut self, id: ServiceId) {
        let (now, late) = (self.now, self.lateness.total);
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let period = run.watchdog_period();
        let armed = run.is_judged() && run.ready_at.is_some() && !run.is_watchdog_down();
        let (Some(period), true) = (period, armed) else {
            return self.disarm_watchdog(id);
        };
        let told = run.told.get_or_insert_default();
        told.late_mark = late;
        told.extended = false;
        let key = self.watchdog_key(id);
        self.timers.set(key, now + period);
    }

    fn watchdog_fed(&mut self, id: ServiceId) {
        let now = self.now;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        // It begins with ready.
        let was_down = run.is_watchdog_down();
        if run.ready_at.is_none() || (run.watchdog_period().is_none() && !was_down) {
            return;
        }
        let told = run.told.get_or_insert_default();
        let first = told.streak.chain_since.is_none();
        told.streak.pass(now, now, 1, None);
        told.doubted = 0;
        let overdue = run.overdue;
        let is_down = run.is_down();
        let sustained = run.is_sustained();
        let healthy = run.verdict() == Some(crate::service::health::Health::Healthy);
        self.arm_watchdog(id);
        if first {
            self.mark(id);
        }
        if was_down {
            let words = "it says that it is well again".into();
            self.tell_watchdog(id, "up", words);
            self.retell_health(id, |_| "watchdog: up".into());
            if !is_down && !overdue {
                self.recovered(id);
            }
        }
        if healthy {
            self.settle_cure(id, true);
        }
        if sustained {
            self.refund(id);
        }
    }

    pub(super) fn watchdog_due(&mut self, id: ServiceId) {
        let (now, total) = (self.now, self.lateness.total);
        let key = self.watchdog_key(id);
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let (Some(period), true) = (run.watchdog_period(), run.is_judged()) else {
            return;
        };
        let told = run.told.get_or_insert_default();
        let carried = total.saturating_sub(told.late_mark);
        if carried.is_zero() {
            self.look(id);
        } else if !told.extended {
            // The loop was late, not the service: it gets as much time again, once.
            told.extended = true;
            told.late_mark = total;
            self.timers.set(key, now + carried.min(period));
        } else {
            // Late again: nobody knows.
            told.streak.inconclusive(now, u32::MAX);
            self.arm_watchdog(id);
            self.mark(id);
        }
    }

    pub(super) fn watchdog_missed(&mut self, id: ServiceId, words: &str) {
        let now = self.now;
        self.disarm_watchdog(id);
        let service = self.service_mut(id);
        let Some(run) = service.run.as_mut() else {
            return;
        };
        if run.is_watchdog_down() {
            return;
        }
        let was_down = run.is_down();
        let standing = service.standing.as_ref();
        let waits = standing.is_some_and(Standing::is_recovering);
        let told = run.told.get_or_insert_default();
        told.streak.fail(now, 1, None);
        told.missed = words.into();
        self.tell_watchdog(id, "down", words.into());
        self.retell_health(id, |_| format!("watchdog: {words}").into());
        // A run that is unhealthy already has the gate's word, which may wait for just this.
        if !was_down || waits {
            self.consider(id, Cause::Watchdog);
        }
    }

    pub(super) fn tell_watchdog(&mut self, id: ServiceId, to: &'static str, words: Box<str>) {
        let detail = format!("watchdog: {words}").into();
        self.tell(id, TransitionKind::Probe, "", to, "", detail);
    }

    // --- timeouts

    /// A start or stop takes longer, by the service's word, within bounds.
    fn extend_timeout(&mut self, id: ServiceId, length: Duration) {
        let (now, late) = (self.now, self.lateness.total);
        let key = self.service_key(id, Key::lifecycle);
        let (state, since) = (self.service(id).state, self.service(id).since);
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let wish = now + length;
        match (state, &mut run.stop) {
            (State::Starting, None) if !run.overdue => {
                let limit = run.definition.start_timeout.unwrap_or_default();
                let last = run.spawned_at + limit + limits::EXTEND_MAX;
                let due = run.start_deadline(now, late);
                let more = due.map(|due| wish.min(last).since(due));
                run.start_until = run
                    .start_until
                    .map(|until| until + more.unwrap_or_default());
                self.set_start_limit(id);
            }
            // Before its stop has begun there is nothing to extend.
            (State::Stopping, Some(stop)) if stop.evidence.is_some() => {}
            (State::Stopping, Some(stop)) if !stop.killed && !stop.sweeping => {
                let last = since + run.definition.stop_timeout + limits::EXTEND_MAX;
                let wish = wish.min(last);
                if wish > stop.deadline {
                    stop.deadline = wish;
                    self.timers.set(key, wish);
                    self.mark(id);
                }
            }
            (_, _) => {}
        }
    }
}

impl Run {
    /// Its main process: the one that was spawned, or the one that it has named since.
    pub fn main(&self) -> Option<Pid> {
        self.named().map(|(pid, _)| pid).or(self.pid)
    }

    /// What it says that it does, for people.
    pub(super) fn says(&self) -> Option<String> {
        let told = self.told.as_deref();
        let waits = match self.definition.ready() {
            Ready::Probe => None,
            Ready::Notify => Some("waits for READY=1".to_owned()),
            Ready::Fd(fd) => Some(format!("waits for a newline on descriptor {fd}")),
        };
        let waits = waits.filter(|_| self.ready_at.is_none() && self.is_judged());
        let doing = match told {
            Some(told) if told.stopping => Some("stopping".to_owned()),
            Some(told) if told.reloading => Some("reloading".to_owned()),
            Some(_) | None => waits,
        };
        let errno = told.and_then(|told| told.errno).map(errno_words);
        match (doing, errno) {
            (doing, None) => doing,
            (None, errno) => errno,
            (Some(doing), Some(errno)) => Some(format!("{doing}; {errno}")),
        }
    }
}
