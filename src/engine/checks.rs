//! Asking probes: when, for how long, and what an answer moves.
//!
//! Invariants: a probe never overlaps itself; an answer that carries an old check's id moves
//! nothing; nothing of a run that is being ended is asked or judged.

use super::table::{InFlight, Last, Run, Standing, Watch};
use super::*;
use crate::config::{Ask, Probe};
use crate::id::CheckId;
use crate::prng::fnv1a;
use crate::probe::{Outcome, Report, Trouble};
use crate::service::doubt;
use crate::service::health::{Change, Health};
use crate::service::state::{Cause, State};
use crate::time::{micros, spoken};

impl Engine {
    /// The program runs: every probe is asked, at the start pace until it is ready. Of one that says
    /// so by itself, only then.
    pub(super) fn begin_checks(&mut self, id: ServiceId) {
        let run = self.service(id).run.as_ref();
        let asked = run.filter(|run| run.ready_at.is_some() || run.is_asked_early());
        let count = asked.map_or(0, |run| run.probes.len());
        for probe in 0..count as u16 {
            self.check_due(id, probe);
        }
    }

    pub(super) fn check_due(&mut self, id: ServiceId, probe: u16) {
        let at = usize::from(probe);
        let may = |run: &Run| {
            let free = run
                .probes
                .get(at)
                .is_some_and(|watch| watch.check.is_none());
            run.is_judged() && run.executed && free
        };
        let run = self.service(id).run.as_deref();
        if !run.is_some_and(may) || !self.takes_slot(id, probe) {
            return;
        }
        let (now, late_mark) = (self.now, self.lateness.total);
        let serial = self.serial.wrapping_add(1);
        let service = self.service_mut(id);
        let Some(&unit) = service.probe_units.get(at) else {
            return;
        };
        let Some(run) = service.run.as_mut() else {
            return;
        };
        let definition = run.definition.clone();
        let Some(asked) = definition.probes.get(usize::from(probe)) else {
            return;
        };
        let watch = &mut run.probes[at];
        watch.check = Some(InFlight {
            serial,
            begun: now,
            late_mark,
            extended: false,
            excused: false,
        });
        watch.asked = watch.asked.saturating_add(1);
        let check = CheckId {
            run: run.id,
            probe,
            serial,
        };
        self.serial = serial;
        self.timers
            .set(Key::check_timeout(unit), now + asked.timeout);
        self.effects.push(Effect::Check { check, definition });
        self.slot_waits(id, probe, false);
    }

    /// No answer in time. Whatever came back meanwhile was read before this.
    pub(super) fn check_timeout(&mut self, id: ServiceId, probe: u16) {
        let (now, total) = (self.now, self.lateness.total);
        let service = self.service_mut(id);
        let Some(&unit) = service.probe_units.get(usize::from(probe)) else {
            return;
        };
        let Some(run) = service.run.as_mut() else {
            return;
        };
        let run_id = run.id;
        let Some(watch) = run.probes.get_mut(usize::from(probe)) else {
            return;
        };
        let Some(flight) = watch.check.as_mut() else {
            return;
        };
        let check = CheckId {
            run: run_id,
            probe,
            serial: flight.serial,
        };
        let carried = total.saturating_sub(flight.late_mark);
        let most = doubt::most(run.definition.probes[usize::from(probe)].failure_threshold);
        let spent = flight.extended && watch.doubted >= most;
        if carried.is_zero() || spent {
            self.effects.push(Effect::CheckExpired { check });
        } else if !flight.extended {
            // The loop was late, not the service: it gets as much time again, once.
            flight.extended = true;
            flight.late_mark = total;
            let again = carried.min(run.definition.probes[usize::from(probe)].timeout);
            self.timers.set(Key::check_timeout(unit), now + again);
        } else {
            let latency = now.since(flight.begun);
            self.effects.push(Effect::CheckCancelled { check });
            let outcome = Outcome::Inconclusive(Trouble::Starved);
            self.probe_finished(
                check,
                Report {
                    outcome,
                    latency,
                    output: "".into(),
                },
            );
        }
    }

    /// The machine slept: what was under way says nothing.
    pub(super) fn resumed(&mut self, _slept: Duration) {
        for id in self.ids() {
            let Some(run) = self.service(id).run.as_ref() else {
                continue;
            };
            let run_id = run.id;
            let open: Vec<CheckId> = run
                .probes
                .iter()
                .enumerate()
                .filter_map(|(i, w)| {
                    let serial = w.check.as_ref()?.serial;
                    Some(CheckId {
                        run: run_id,
                        probe: i as u16,
                        serial,
                    })
                })
                .collect();
            for check in open {
                self.effects.push(Effect::CheckCancelled { check });
                let outcome = Outcome::Inconclusive(Trouble::Suspended);
                let (latency, output) = (Duration::ZERO, "".into());
                self.probe_finished(
                    check,
                    Report {
                        outcome,
                        latency,
                        output,
                    },
                );
            }
            self.arm_watchdog(id);
        }
    }

    pub(super) fn cancel_checks(&mut self, id: ServiceId) {
        self.disarm_watchdog(id);
        let service = &mut self.services[id.index()];
        let Some(run) = service.run.as_mut() else {
            return;
        };
        let run_id = run.id;
        let mut ended = 0;
        for (index, watch) in run.probes.iter_mut().enumerate() {
            watch.waits = false;
            if let Some(flight) = watch.check.take() {
                let check = CheckId {
                    run: run_id,
                    probe: index as u16,
                    serial: flight.serial,
                };
                self.effects.push(Effect::CheckCancelled { check });
                ended += 1;
            }
        }
        for &unit in &service.probe_units {
            self.timers.cancel(Key::check_due(unit));
            self.timers.cancel(Key::check_timeout(unit));
        }
        (0..ended).for_each(|_| self.slot_free());
        self.leave_slots(id);
    }

    pub(super) fn probe_finished(&mut self, check: CheckId, report: Report) {
        if self.manual_finished(check, &report) {
            return;
        }
        let Some(id) = self.current(check.run) else {
            return;
        };
        let report = self.doubted(check, report);
        let now = self.now;
        let index = usize::from(check.probe);
        let service = &mut self.services[id.index()];
        let Some(&unit) = service.probe_units.get(index) else {
            return;
        };
        let state = service.state;
        let Some(run) = service.run.as_mut() else {
            return;
        };
        let definition = run.definition.clone();
        let fits = run
            .probes
            .get(index)
            .and_then(|w| w.check)
            .filter(|c| c.serial == check.serial);
        let (Some(flight), Some(probe)) = (fits, definition.probes.get(index)) else {
            self.stale += 1;
            return;
        };
        let was_down = run.is_down();
        let counts_from = run.spawned_at + probe.start_period;
        let watch = &mut run.probes[index];
        watch.check = None;
        let before = watch.streak.clone();
        self.timers.cancel(Key::check_timeout(unit));
        let change = match &report.outcome {
            Outcome::Pass => {
                watch
                    .streak
                    .pass(flight.begun, now, probe.success_threshold, probe.window)
            }
            Outcome::Fail(_) => {
                let in_period = flight.begun < counts_from && !watch.streak.passed;
                if state == State::Starting || in_period || flight.excused {
                    watch.streak.fail_uncounted();
                    Change::None
                } else {
                    watch
                        .streak
                        .fail(flight.begun, probe.failure_threshold, probe.window)
                }
            }
            Outcome::Inconclusive(_) => watch
                .streak
                .inconclusive(flight.begun, probe.failure_threshold),
        };
        let moved = before.failures != watch.streak.failures
            || before.up != watch.streak.up
            || before.passed != watch.streak.passed
            || before.recent != watch.streak.recent
            || (before.passes != watch.streak.passes && watch.streak.up != Some(true))
            || before.chain_since.is_some() != watch.streak.chain_since.is_some();
        let Report {
            outcome,
            latency,
            output,
        } = report;
        watch.last = Some(Last {
            outcome,
            latency,
            output,
        });
        self.slot_free();
        if moved {
            self.mark(id);
        }
        self.mind_doubt(id, check.probe);
        if state == State::Starting {
            let run = self.service(id).run.as_ref();
            let unasked = run.is_some_and(|run| run.probes[index].streak.inconclusive > 0);
            // Where only another probe waits for its turn, this was asked until now.
            self.excuse(id, if unasked { flight.begun } else { now });
        }
        self.schedule(id, check.probe, flight.begun);
        self.storm_answered(id, check.probe, flight.begun);
        self.answered(id, check.probe, change, was_down);
    }

    /// Time in which a starting service could not be asked is not the service's: its start limit
    /// stands still until it can be again.
    pub(super) fn excuse(&mut self, id: ServiceId, begun: Time) {
        let now = self.now;
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        match (run.is_excused(), run.excused_since) {
            (true, None) => run.excused_since = Some(begun.max(run.excused_until)),
            (false, Some(_)) => run.end_excuse(now),
            (true, Some(_)) | (false, None) => return,
        }
        if !run.overdue {
            self.set_start_limit(id);
        }
    }

    /// When this probe is asked next.
    fn schedule(&mut self, id: ServiceId, index: u16, begun: Time) {
        let now = self.now;
        let service = &self.services[id.index()];
        let Some(run) = service.run.as_ref() else {
            return;
        };
        let probe = &run.definition.probes[usize::from(index)];
        let watch = &run.probes[usize::from(index)];
        let in_period = now < run.spawned_at + probe.start_period && !watch.streak.passed;
        let hurried = service.asked_until.is_some_and(|until| now < until);
        let due = if watch.streak.inconclusive > 0 {
            let doubled = 2u32.saturating_pow(watch.streak.inconclusive.min(20) - 1);
            now + limits::INCONCLUSIVE_RETRY
                .saturating_mul(doubled)
                .min(probe.interval)
        } else if service.state == State::Starting {
            (begun + start_pace(probe, watch.asked)).max(now)
        } else if hurried || in_period {
            (begun + probe.start_interval).max(now)
        } else {
            next_of_ready(&service.name, probe, watch, begun).max(now)
        };
        let unit = service.probe_units[usize::from(index)];
        self.timers.set(Key::check_due(unit), due);
    }

    /// What an answer means for the run.
    fn answered(&mut self, id: ServiceId, index: u16, change: Change, was_down: bool) {
        let observing = self.is_observing(id, index);
        match change {
            Change::None => {}
            Change::Up => self.tell_probe(id, index, "up", "".into()),
            Change::Down => {
                let detail = if observing {
                    "observing: would restart"
                } else {
                    ""
                };
                self.tell_probe(id, index, "down", detail.into());
                if observing {
                    self.shadow_of_probe(id, index);
                }
            }
            Change::NoVerdict => {
                self.tell_probe(
                    id,
                    index,
                    "no verdict",
                    "nothing is restarted for it".into(),
                );
            }
        }
        self.retell_health(id, |engine| engine.health_words(id, index).into());
        let (now, late) = (self.now, self.lateness.total);
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        let is_down = run.is_down();
        let in_time = run.start_deadline(now, late).is_none_or(|due| now <= due);
        let (overdue, health) = (run.overdue, run.verdict());
        let sustained = run.is_sustained();
        let missed = run.is_watchdog_down();
        let standing = self.service(id).standing.as_ref();
        let fails_again = standing.is_some_and(Standing::is_recovering) && !run.is_recovering();

        self.ready_if_it_is(id);
        if health == Some(Health::Healthy) {
            self.settle_cure(id, in_time);
        }
        match (was_down, is_down) {
            // Missed as well: the gate has been asked.
            (false, true) if !missed => self.consider(id, Cause::Unhealthy),
            (_, false) if !overdue && !missed => self.recovered(id),
            (true, true) if fails_again => self.consider(id, Cause::Unhealthy),
            (_, true) | (_, false) => {}
        }
        if sustained {
            self.refund(id);
        }
        if self.service(id).asked_until.is_some() {
            self.asked_answered(id);
        }
    }

    /// Ready: from now on at the interval, in phase.
    pub(super) fn rephase(&mut self, id: ServiceId) {
        let now = self.now;
        let service = &self.services[id.index()];
        let Some(run) = service.run.as_ref() else {
            return;
        };
        for (index, probe, watch) in run.watched() {
            let key = Key::check_due(service.probe_units[usize::from(index)]);
            // What could not be asked is asked again soon; after the daemon's death nothing is set.
            let soon = watch.streak.inconclusive > 0 && self.timers.deadline(key).is_some();
            if watch.check.is_none() && !soon {
                let due = next_of_ready(&service.name, probe, watch, now);
                self.timers.set(key, due);
            }
        }
    }

    pub(super) fn tell_probe(
        &mut self,
        id: ServiceId,
        index: u16,
        to: &'static str,
        more: Box<str>,
    ) {
        let words = self.probe_words(id, index);
        let detail = if more.is_empty() {
            words
        } else {
            format!("{words}; {more}")
        };
        self.tell(id, TransitionKind::Probe, "", to, "", detail.into());
    }

    /// `http: timeout, 3 in a row`
    pub(super) fn probe_words(&self, id: ServiceId, index: u16) -> String {
        let Some(run) = self.service(id).run.as_ref() else {
            return String::new();
        };
        let index = usize::from(index);
        let (probe, watch) = (&run.definition.probes[index], &run.probes[index]);
        let name = &probe.name;
        if let Some(window) = probe.window
            && watch.streak.failures < probe.failure_threshold
            && watch.streak.up == Some(false)
            && watch.streak.is_over(probe.window)
            && let Some(last) = &watch.last
        {
            let (failed, of) = (watch.streak.recent.count_ones(), window.of);
            let outcome = &last.outcome;
            return format!("{name}: {outcome}; {failed} of its last {of} answers failed");
        }
        match &watch.last {
            Some(Last {
                outcome: outcome @ Outcome::Fail(_),
                ..
            }) => match watch.streak.failures {
                0 => format!("{name}: {outcome}"), // it does not count yet
                failures => format!("{name}: {outcome}, {failures} in a row"),
            },
            Some(Last {
                outcome: outcome @ Outcome::Inconclusive(_),
                ..
            }) => {
                format!("{name}: {outcome}, {} in a row", watch.streak.inconclusive)
            }
            Some(Last {
                outcome: Outcome::Pass,
                ..
            }) if watch.streak.up == Some(false) => {
                let (passes, needed) = (watch.streak.passes, probe.success_threshold);
                format!("{name}: down, {passes} of {needed} passes")
            }
            Some(Last {
                outcome: Outcome::Pass,
                latency,
                ..
            }) => {
                format!("{name}: pass in {}", spoken(*latency))
            }
            None => format!("{name}: not asked yet"),
        }
    }

    /// A failure that makes nothing unhealthy yet says how far it is from that: after doubt is over
    /// health goes by the streak again.
    fn health_words(&self, id: ServiceId, index: u16) -> String {
        let words = self.probe_words(id, index);
        let run = self.service(id).run.as_ref();
        let found = run.and_then(|run| run.watched().find(|(at, ..)| *at == index));
        match found {
            Some((_, probe, watch))
                if watch.streak.failures > 0 && watch.streak.up == Some(true) =>
            {
                format!("{words}; down at {}", probe.failure_threshold)
            }
            _ => words,
        }
    }

    /// Tells health where it has changed.
    pub(super) fn retell_health(&mut self, id: ServiceId, words: impl FnOnce(&Engine) -> Box<str>) {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let health = run.verdict();
        let before = std::mem::replace(&mut run.health, health);
        let (Some(to), true) = (health, health != before) else {
            return;
        };
        let from = before.map_or("unknown", Health::word);
        if from != to.word() {
            let detail = words(self);
            self.tell(id, TransitionKind::Health, from, to.word(), "", detail);
            self.unsettled.push(id);
        }
    }
}

/// While starting: soon at first, because most services are ready soon, then ever slower up to
/// the start interval. A command costs more than a connection, and is asked less eagerly.
fn start_pace(probe: &Probe, asked: u32) -> Duration {
    let first = match probe.ask {
        Ask::Http(_) | Ask::Tcp { .. } | Ask::Unix { .. } | Ask::Server(_) => {
            Duration::from_millis(2)
        }
        Ask::Https(_) | Ask::Exec { .. } | Ask::Look(_) => Duration::from_millis(16),
    };
    first
        .saturating_mul(2u32.saturating_pow(asked.saturating_sub(1).min(16)))
        .min(probe.start_interval)
}

/// When a probe of a ready run is due that was asked last at `last`: in phase, or sooner while there
/// is suspicion.
fn next_of_ready(service: &str, probe: &Probe, watch: &Watch, last: Time) -> Time {
    let due = next_in_phase(service, probe, last);
    match probe.confirm_interval {
        Some(pace) if watch.streak.is_suspicious() => due.min(last + pace),
        Some(_) | None => due,
    }
}

/// The next time after `last` at which this probe is due: every interval, at an offset that is a
/// function of the names alone, so that a hundred services do not fire in the same millisecond.
fn next_in_phase(service: &str, probe: &Probe, last: Time) -> Time {
    let interval = micros(probe.interval).max(1000);
    let phase = fnv1a(service.as_bytes()) ^ fnv1a(probe.name.as_bytes()).rotate_left(32);
    let phase = phase % interval;
    let Some(since) = last.0.checked_sub(phase) else {
        return Time(phase);
    };
    Time(
        (since / interval)
            .saturating_add(1)
            .saturating_mul(interval)
            .saturating_add(phase),
    )
}
