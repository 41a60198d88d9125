//! Schedules: oneshots that are started again and again, when a calendar or an interval says so.
//!
//! What a calendar says depends on the wall clock and on the local time, which are the driver's:
//! [`Effect::AskDue`] asks, [`Event::Due`] answers what was due since what is dealt with, and what
//! comes next. It is asked again when the wall clock was set, and after the host has slept.
//! Intervals are the engine's own, by the monotonic clock.
//!
//! Each time that is due starts it with a whole budget. One that comes while it runs, is retried or
//! waits for others is skipped, which is told once a run. One that was missed is left out, or, with
//! `catch_up`, made up for once.
//!
//! Not here: how a calendar is read and reckoned (`calendar`).
//!
//! Invariants: no time that is due starts it twice (`since_ms` is beyond it before the start, in the
//! same record); what an operator stopped has no timer.

use super::table::NextRun;
use super::*;
use crate::config::{Definition, Schedule, When};
use crate::service::state::{Cause, Cue, State, Wanted};
use crate::time::{Wall, micros, millis, rfc3339_ms, spoken};
use status::ScheduleStatus;

/// A daemon that is started again so soon has missed nothing.
const LATE: Duration = Duration::from_secs(60);
/// 2020: a clock that shows less is not set.
const NOT_SET_MS: u64 = 1_577_836_800_000;

impl Engine {
    pub(super) fn wall_ms(&self) -> u64 {
        self.wall.ms(self.now)
    }

    pub(super) fn set_wall(&mut self, wall_ms: u64) {
        let now = self.now;
        self.wall = Wall { now, wall_ms };
    }

    fn schedule_of(&self, id: ServiceId) -> Option<&Schedule> {
        let definition = self.service(id).definition.as_ref()?;
        definition.schedule.as_deref()
    }

    /// It runs by its schedule, unless an operator said stop.
    pub(super) fn is_scheduled(&self, id: ServiceId) -> bool {
        self.schedule_of(id).is_some()
    }

    /// Its schedule is in force.
    pub(super) fn is_planned(&self, id: ServiceId) -> bool {
        self.service(id).timed.on
    }

    /// It rests until it is due: nobody waits for it who does not require it.
    pub(super) fn rests_until_due(&self, id: ServiceId) -> bool {
        self.is_planned(id) && self.service(id).state == State::Inactive
    }

    fn schedule_key(&mut self, id: ServiceId) -> Key {
        let unit = match self.service(id).timed.unit {
            Some(unit) => unit,
            None => {
                let unit = self.timers.schedule_unit(id);
                self.service_mut(id).timed.unit = Some(unit);
                unit
            }
        };
        Key::due(unit)
    }

    /// What is wanted, or its definition, may have changed: its schedule is in force, or not.
    pub(super) fn mind_schedule(&mut self, id: ServiceId) {
        let service = self.service(id);
        let there = self.is_scheduled(id);
        if !there && !service.timed.on {
            return;
        }
        let wanted = there && self.will(id) == Wanted::Start && !service.once;
        match (wanted && !self.is_left_out(id), service.timed.on) {
            (true, false) => {
                self.service_mut(id).timed.on = true;
                // Those who come after it need not wait.
                self.unsettled.push(id);
                self.plan_first(id);
            }
            (false, true) => {
                let stopped = self.shutdown.is_none();
                self.forget_plan(id, stopped);
            }
            (true, true) | (false, false) => {}
        }
    }

    /// `since`: what was dealt with is no more of use, either.
    fn forget_plan(&mut self, id: ServiceId, since: bool) {
        let key = self.schedule_key(id);
        self.timers.cancel(key);
        let timed = &mut self.service_mut(id).timed;
        (timed.on, timed.next) = (false, None);
        if since {
            timed.since_ms = None;
        }
        self.mark(id);
    }

    /// A definition changed: by another calendar nothing was missed.
    pub(super) fn reschedule(&mut self, id: ServiceId, old: &Definition) {
        let (old, new) = (old.schedule.clone(), self.schedule_of(id).cloned());
        if old.as_deref() == new.as_ref() || !self.service(id).timed.on {
            return self.mind_schedule(id);
        }
        let same = old.map(|s| s.when) == new.map(|s| s.when);
        let kept = self.service(id).timed.next;
        self.forget_plan(id, !same);
        if same && matches!(self.schedule_of(id).map(|s| &s.when), Some(When::Every(_))) {
            // It goes on as it was.
            self.service_mut(id).timed.next = kept;
        }
        self.mind_schedule(id);
    }

    /// What stands in the state directory, should the host be off.
    fn remember_due(&mut self, id: ServiceId) {
        if self.schedule_of(id).is_some_and(|s| s.catch_up) && self.wall_ms() > NOT_SET_MS {
            self.remember_will(id);
        }
    }

    fn plan_first(&mut self, id: ServiceId) {
        let Some(schedule) = self.schedule_of(id).cloned() else {
            return;
        };
        let wall = self.wall_ms();
        let fresh = self.service(id).timed.since_ms.is_none();
        if fresh {
            self.service_mut(id).timed.since_ms = Some(wall);
            self.remember_due(id);
        }
        self.mark(id);
        match (schedule.when, self.service(id).timed.next) {
            (When::At(_), _) => self.ask_due(id),
            // Of the same boot.
            (When::Every(length), Some(next)) if next.base <= self.now + length => {
                self.plan_run(id, next);
            }
            (When::Every(length), _) => {
                let since = self.service(id).timed.since_ms.unwrap_or(wall);
                let passed = Duration::from_millis(wall.saturating_sub(since));
                let left = match schedule.catch_up && since > NOT_SET_MS {
                    true => length.saturating_sub(passed),
                    false => length,
                };
                let base = self.now + left;
                self.plan_delayed(id, base, 0);
            }
        }
    }

    fn ask_due(&mut self, id: ServiceId) {
        let service = self.service(id);
        let since_ms = service.timed.since_ms.unwrap_or_default();
        if let Some(definition) = service.definition.clone() {
            self.effects.push(Effect::AskDue {
                service: id,
                since_ms,
                definition,
            });
        }
    }

    /// The next time that is due, and a delay drawn for it.
    fn plan_delayed(&mut self, id: ServiceId, base: Time, due_ms: u64) {
        let at = base + self.draw_delay(id);
        self.plan_run(id, NextRun { base, at, due_ms });
    }

    fn draw_delay(&mut self, id: ServiceId) -> Duration {
        let most = self.schedule_of(id).map_or(0, |s| micros(s.random_delay));
        match most {
            0 => Duration::ZERO,
            most => Duration::from_micros(self.prng.below(most)),
        }
    }

    fn plan_run(&mut self, id: ServiceId, next: NextRun) {
        let key = self.schedule_key(id);
        self.timers.set(key, next.at);
        self.service_mut(id).timed.next = Some(next);
        self.mark(id);
    }

    // --- what comes of it

    /// The answer to `AskDue`.
    pub(super) fn due(&mut self, id: ServiceId, due: Due) {
        self.set_wall(due.now_ms);
        let calendar = matches!(self.services.get(id.index()), Some(s) if s.timed.on)
            && matches!(self.schedule_of(id).map(|s| &s.when), Some(When::At(_)));
        if !calendar {
            return;
        }
        let now = self.now;
        let since_ms = self.service(id).timed.since_ms.unwrap_or_default();
        if is_wrong(since_ms, due.now_ms) && due.now_ms >= NOT_SET_MS {
            self.dealt_with(id, due.now_ms);
        }
        if let Some(last_ms) = due.last_ms {
            let Some(schedule) = self.schedule_of(id).cloned() else {
                return;
            };
            let late = Duration::from_millis(due.now_ms.saturating_sub(last_ms));
            let on_time = late <= LATE.saturating_add(schedule.random_delay);
            let delay = match on_time {
                true => self.draw_delay(id).saturating_sub(late),
                false => Duration::ZERO,
            };
            if !delay.is_zero() {
                // Its delay began before this daemon did.
                return self.plan_run(
                    id,
                    NextRun {
                        base: now,
                        at: now + delay,
                        due_ms: last_ms,
                    },
                );
            }
            self.dealt_with(id, due.now_ms);
            match on_time || schedule.catch_up {
                true => self.run_due(id, (late > LATE).then_some(late)),
                false => self.tell_missed(id, last_ms, late),
            }
        }
        match due.next_ms {
            Some(next_ms) => {
                let left = Duration::from_millis(next_ms.saturating_sub(due.now_ms));
                self.plan_delayed(id, now + left, next_ms);
            }
            None => {
                let key = self.schedule_key(id);
                self.timers.cancel(key);
                self.service_mut(id).timed.next = None;
                self.mark(id);
            }
        }
    }

    fn dealt_with(&mut self, id: ServiceId, wall_ms: u64) {
        self.service_mut(id).timed.since_ms = Some(wall_ms);
        self.remember_due(id);
        self.mark(id);
    }

    /// Its timer: it is due.
    pub(super) fn schedule_due(&mut self, id: ServiceId) {
        let (Some(next), Some(schedule)) = (
            self.service_mut(id).timed.next.take(),
            self.schedule_of(id).cloned(),
        ) else {
            return;
        };
        // The clocks may differ by what the turn took: never less than what was due.
        let since = self.wall_ms().max(next.due_ms);
        self.dealt_with(id, since);
        match schedule.when {
            When::At(_) => self.ask_due(id),
            When::Every(length) => {
                // What was due meanwhile, with no daemon there, is this one.
                let passed = micros(self.now.since(next.base)) / micros(length).max(1);
                let steps = u32::try_from(passed + 1).unwrap_or(u32::MAX);
                self.plan_delayed(id, next.base + length.saturating_mul(steps), 0);
            }
        }
        self.run_due(id, None);
    }

    /// `late`: it was missed so long ago.
    fn run_due(&mut self, id: ServiceId, late: Option<Duration>) {
        let service = self.service(id);
        let why = match service.state {
            State::Inactive | State::Exited | State::Failed => None,
            State::Starting | State::Running | State::Stopping => {
                Some(format!("run {} is not over", service.number))
            }
            State::Backoff => Some("a run that failed is to be tried again".to_owned()),
            State::Blocked => Some(format!("it waits: {}", self.waits_for(id, None))),
        };
        if let Some(why) = why {
            return self.tell_skipped(id, &why);
        }
        if let Some(late) = late {
            let words = format!("missed {} ago", spoken(late)).into();
            self.tell(id, TransitionKind::Timer, "due", "made up", "timer", words);
        }
        self.refund(id);
        self.start(id, Cause::Timer);
    }

    fn tell_skipped(&mut self, id: ServiceId, why: &str) {
        let timed = &mut self.service_mut(id).timed;
        timed.skipped = timed.skipped.saturating_add(1);
        let number = self.service(id).number;
        self.mark(id);
        if self.service_mut(id).timed.told_of.replace(number) != Some(number) {
            let words = format!("{why}; those that follow while it lasts are not told").into();
            self.tell(id, TransitionKind::Timer, "due", "skipped", "timer", words);
        }
    }

    fn tell_missed(&mut self, id: ServiceId, last_ms: u64, late: Duration) {
        let words = format!(
            "{}, {} ago: the host or the daemon was off, or slept; catch_up = true makes up for it",
            rfc3339_ms(last_ms),
            spoken(late)
        );
        self.tell(
            id,
            TransitionKind::Timer,
            "due",
            "missed",
            "timer",
            words.into(),
        );
    }

    // --- the clocks

    pub(super) fn clock_set(&mut self, wall_ms: u64) {
        self.set_wall(wall_ms);
        self.ask_all_due();
    }

    /// Monotonic time stood still, the wall clock did not.
    pub(super) fn wall_slept(&mut self, slept: Duration) {
        let slept = millis(slept);
        let wall_ms = self.wall_ms().saturating_add(slept);
        self.set_wall(wall_ms);
        self.ask_all_due();
    }

    fn ask_all_due(&mut self) {
        for id in self.ids() {
            let schedule = self.schedule_of(id).filter(|_| self.is_planned(id));
            if matches!(schedule.map(|s| &s.when), Some(When::At(_))) {
                self.ask_due(id);
            }
        }
    }

    // --- instead of a start

    /// It is started by its schedule and not by this.
    pub(super) fn starts_when_due(&mut self, id: ServiceId, cause: Cause) -> bool {
        let later = self.is_scheduled(id) && matches!(cause, Cause::Boot | Cause::Config);
        if !later || self.service(id).state == State::Backoff {
            return false;
        }
        self.mind_schedule(id);
        let state = self.service(id).state;
        if state != State::Inactive {
            self.cue(id, Cue::Listen, cause, "until it is due".into());
        }
        // Whoever connected to it started it before.
        self.closes_sockets(id);
        true
    }

    // --- what is shown

    pub(super) fn next_due(&self, id: ServiceId) -> Option<Time> {
        self.service(id).timed.next.map(|next| next.at)
    }

    pub(super) fn schedule_status(&self, id: ServiceId, wall: Wall) -> Option<ScheduleStatus> {
        let schedule = self.schedule_of(id)?;
        let timed = &self.service(id).timed;
        Some(ScheduleStatus {
            when: schedule.when.to_string(),
            suspended: !timed.on,
            due: timed.next.map(|next| match next.due_ms {
                0 => wall.rfc3339(next.at),
                // To the letter.
                ms => rfc3339_ms(ms.saturating_add(millis(next.at.since(next.base)))),
            }),
            due_in_ms: timed.next.map(|next| millis(next.at.since(wall.now))),
            skipped: timed.skipped,
        })
    }
}

/// What a driver knows of a calendar.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Due {
    /// Milliseconds since 1970, all three.
    pub now_ms: u64,
    /// The last that was due since what was dealt with.
    pub last_ms: Option<u64>,
    pub next_ms: Option<u64>,
}

/// The clock was not set when it showed the one, or was far ahead.
fn is_wrong(since_ms: u64, now_ms: u64) -> bool {
    since_ms > now_ms.saturating_add(SET_BACK_MS) || (since_ms < NOT_SET_MS && now_ms >= NOT_SET_MS)
}

/// How far the wall clock may have been set back for what it has shown to count.
const SET_BACK_MS: u64 = 3 * 3600 * 1000;

impl Due {
    /// By what the local time is at an instant. A clock that was not set when it was last looked at,
    /// or that has been far ahead, has missed nothing; one that was set back a little does not do
    /// again what it has done.
    pub fn look(
        definition: &Definition,
        since_ms: u64,
        now_ms: u64,
        offset: &dyn Fn(i64) -> i32,
    ) -> Due {
        let Some(When::At(cron)) = definition.schedule.as_ref().map(|s| &s.when) else {
            return Due::default();
        };
        let since_ms = match is_wrong(since_ms, now_ms) {
            true => now_ms,
            false => since_ms,
        };
        let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX / 2);
        let ms = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
        let (since, now) = (seconds(since_ms), seconds(now_ms));
        Due {
            now_ms,
            last_ms: cron.last(since, now, offset).map(ms),
            next_ms: cron.next(now.max(since), offset).map(ms),
        }
    }
}
