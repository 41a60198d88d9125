//! What the watcher knows of one service: a model of its own, written the obvious way.
//!
//! Budget and refund, streaks, the stability window and the delay are worked out here from what
//! went in (events) and from what was done (effects), never from the engine's tables.

use super::sockets::SocketBook;
use crate::config::{Definition, KillMode, Kind, OnUnhealthy, Probe, Ready, Restart};
use crate::engine::status::Status;
use crate::engine::table::Evidence;
use crate::exit::Exit;
use crate::id::Pid;
use crate::probe::{Outcome, Trouble};
use crate::service::retry_policy;
use crate::time::Time;
use std::rc::Rc;
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub struct Book {
    /// It has a definition, if perhaps a broken one.
    pub present: bool,
    /// In force.
    pub definition: Option<Rc<Definition>>,
    /// What the operator wants; None: to be read from the status, because nobody could know.
    pub wanted: Option<bool>,
    /// An operator said so, for good.
    pub said: bool,
    /// Only a word about itself moves it.
    pub pinned: bool,
    /// What the last answer promised to be durable.
    pub durable: Option<bool>,
    /// An operator gave this definition; whether a file is what counts.
    pub given: Option<Box<str>>,
    pub by_file: bool,
    /// What of that the last answer promised to be durable.
    pub durable_given: Option<Option<Box<str>>>,
    /// It is wanted once; what is wanted is so until the next boot only.
    pub once: bool,
    pub passing: bool,
    /// `on_exhausted_exec` was run since the last refund.
    pub told: Option<Told>,
    /// Automatic restarts since the last refund.
    pub spent: u32,
    /// Health restarts in a row that did not cure it.
    pub uncured: u32,
    /// Of this run's end a repair was decided, and is to be made or under way.
    pub repair: Option<u32>,
    /// What a repair of this run has left is being ended.
    pub sweeps: Option<u32>,
    /// An automatic restart was decided on, and may come.
    pub charged: bool,
    /// Not before.
    pub not_before: Time,
    /// Somebody but us said that it is to start.
    pub excused: bool,
    /// The spawn failed for our own want of something: the same start again (was it automatic,
    /// was it a restart).
    pub retry: Option<(bool, bool)>,
    /// The next run begins by a restart of some kind.
    pub restarting: bool,
    pub number: u32,
    pub run: Option<RunBook>,
    /// The last run was to be ended with all it had made.
    pub tree: bool,
    /// When its schedule started it last, and how much time had been stolen the time before.
    pub due_last: Option<(Time, Duration)>,
    pub due_stolen: Duration,
    /// It had no definition for a while: the next is late.
    pub due_anew: bool,
    /// Its last run may have been found to be without hope: that is no attempt.
    pub perhaps: bool,
    /// It was `failed` by its definition, blocked or inactive when last seen.
    pub idle: bool,
    /// Fully known to work when last seen.
    pub satisfied: bool,
    pub sockets: SocketBook,
    /// All that was shown then.
    pub seen: Option<Status>,
}

#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// By which daemon; whether that learnt that it was executed.
    pub life: u32,
    pub known: bool,
}

#[derive(Clone, Debug)]
pub struct RunBook {
    pub number: u32,
    pub definition: Rc<Definition>,
    pub pid: Option<Pid>,
    pub spawned_at: Time,
    pub automatic: bool,
    pub restarted: bool,
    pub executed: bool,
    pub ready: Option<Time>,
    pub refunded: bool,
    pub exit: Option<Exit>,
    /// Some of it was killed for want of memory, and not while it was being stopped.
    pub starved: bool,
    pub stop: Option<StopBook>,
    pub probes: Vec<ProbeBook>,
    /// The loop's lateness when it began, or was taken up by another daemon; when that was.
    pub late: Duration,
    pub taken_up: Option<Time>,
    /// It was found not to be ready in time.
    pub overdue: bool,
    /// An operator said stop: a start that follows is no restart.
    pub unwanted: bool,
    /// It has said that it is ready; or may have, while no daemon was there.
    pub said: bool,
    pub doubt: bool,
    /// Its watchdog: when its time began, and the loop's lateness then.
    pub fed: Option<(Time, Duration)>,
    pub fed_first: Option<Time>,
    pub fed_last: Option<Time>,
    pub missed: bool,
    pub missed_since: Option<Time>,
    /// When somebody looked at the host last for it, and what he saw.
    pub looked: Option<LookBook>,
    /// Silences of its watchdog in a row that were not its fault.
    pub unfed_doubts: u32,
    /// The first process of a forking daemon has ended; what it wrote is wrong; its main one is known.
    pub forked: bool,
    pub wrong: bool,
    pub main: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    Operator,
    Config,
    /// What it requires went down.
    Dependency,
    /// It ended by itself and left others behind.
    Itself,
    /// Us.
    Health,
    /// Us, because the budget is spent.
    Exhausted,
}

#[derive(Clone, Debug)]
pub struct StopBook {
    pub by: By,
    pub at: Time,
    pub stolen: Duration,
    /// As it was defined when it began.
    pub timeout: Duration,
    /// The loop's lateness when it began, or was taken up by another daemon.
    pub late: Duration,
    /// The lateness it carried when its time was up: it gets that once more.
    pub owed: Option<Duration>,
    pub killed: bool,
    pub then_start: bool,
    /// It begins when those are gone who go down with it, or then.
    pub waits: Option<Time>,
    /// It begins when evidence was collected, or then; and that was, or is over.
    pub evidence: Option<(Evidence, Time)>,
    pub looked: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct LookBook {
    pub at: Time,
    pub pressed: bool,
    pub own_us: u64,
    pub busy: bool,
}

#[derive(Clone, Debug, Default)]
pub struct ProbeBook {
    /// Serial, when begun, the loop's lateness then.
    pub open: Option<(u32, Time, Duration)>,
    pub fails: u32,
    pub passes: u32,
    pub passed: bool,
    pub down: bool,
    pub inconclusive: u32,
    /// Since its last pass, because the host was pressed or we were late.
    pub doubted: u32,
    pub failing_since: Option<Time>,
    /// When the first pass of an unbroken chain ended, and when its last was begun.
    pub chain: Option<(Time, Time)>,
    /// When the last pass at all was begun.
    pub last_pass: Option<Time>,
    /// Answers that counted, the latest last: whether it failed.
    pub recent: Vec<bool>,
}

impl ProbeBook {
    /// `counts`: a failure moves the streak.
    pub fn answered(
        &mut self,
        probe: &Probe,
        outcome: &Outcome,
        begun: Time,
        now: Time,
        counts: bool,
    ) {
        match outcome {
            Outcome::Pass => {
                self.fails = 0;
                self.failing_since = None;
                self.inconclusive = 0;
                self.doubted = 0;
                self.passes += 1;
                self.passed = true;
                self.last_pass = Some(begun);
                self.chain = Some((self.chain.map_or(now, |(first, _)| first), begun));
                self.recent.push(false);
                if self.passes >= probe.success_threshold && !self.is_over(probe) {
                    self.down = false;
                }
            }
            Outcome::Fail(_) => {
                self.inconclusive = 0;
                self.passes = 0;
                self.chain = None;
                self.last_pass = None;
                if counts {
                    self.fails += 1;
                    self.failing_since.get_or_insert(begun);
                    self.recent.push(true);
                    self.down |= self.fails >= probe.failure_threshold || self.is_over(probe);
                }
            }
            Outcome::Inconclusive(trouble) => {
                self.inconclusive += 1;
                self.doubted += u32::from(*trouble == Trouble::Starved);
                self.chain = None;
                self.last_pass = None;
            }
        }
    }

    /// Too many of its last answers were failures.
    fn is_over(&self, probe: &Probe) -> bool {
        probe.window.is_some_and(|window| {
            let last = self.recent.iter().rev().take(window.of as usize);
            last.filter(|failed| **failed).count() >= window.failures as usize
        })
    }

    pub fn is_down(&self, probe: &Probe) -> bool {
        self.down && self.inconclusive < probe.failure_threshold
    }
}

impl RunBook {
    pub fn restart_probes(&self) -> impl Iterator<Item = (&Probe, &ProbeBook)> {
        let probes = self.definition.probes.iter().zip(&self.probes);
        probes.filter(|(probe, _)| probe.on_unhealthy == OnUnhealthy::Restart)
    }

    pub fn kills_tree(&self) -> bool {
        self.definition.kill_mode != KillMode::Process || self.is_forking()
    }

    /// It is to fork its main process, which is not known yet.
    pub fn is_forking(&self) -> bool {
        self.definition.kind == Kind::Forking && !self.main
    }

    /// And its first process has ended.
    pub fn is_seeking(&self) -> bool {
        self.is_forking() && self.forked && self.is_judged()
    }

    pub fn is_judged(&self) -> bool {
        self.stop.is_none() && self.exit.is_none()
    }

    /// Since when so many probes have been failing that it is unhealthy, or nothing was heard of it.
    pub fn down_since(&self) -> Option<Time> {
        let down = self.restart_probes().filter(|(p, b)| b.is_down(p));
        let mut since: Vec<Time> = down.filter_map(|(_, b)| b.failing_since).collect();
        since.sort();
        let spare = self.restart_probes().count() - self.needed();
        let by = since.get(spare).or(since.last()).copied();
        let unfed = self.missed_since.filter(|_| self.missed);
        by.into_iter().chain(unfed).min()
    }

    fn needed(&self) -> usize {
        let all = self.restart_probes().count();
        let required = self.definition.probes_required;
        required.map_or(all, |n| all.min(n as usize))
    }

    /// Of the probes that restart it, as many are so as must be up.
    pub fn is_enough(&self, so: impl Fn(&ProbeBook) -> bool) -> bool {
        self.restart_probes().filter(|(_, b)| so(b)).count() >= self.needed()
    }

    pub fn is_down(&self) -> bool {
        let down = self.restart_probes().filter(|(p, b)| b.is_down(p)).count();
        let all = self.restart_probes().count();
        all - down < self.needed()
    }

    /// It is down only by probes that passed when last asked.
    pub fn is_recovering(&self) -> bool {
        let down = self.restart_probes().filter(|(p, b)| b.is_down(p));
        let failing = down.filter(|(_, b)| b.passes == 0).count();
        let all = self.restart_probes().count();
        self.is_down() && !self.missed && all - failing >= self.needed()
    }

    /// A pass begun a whole stability period after the first of a chain, for every probe.
    pub fn earned_refund(&self) -> bool {
        let period = self.definition.retry_policy.stability_period;
        let fed = match (self.fed_first, self.fed_last) {
            (Some(first), Some(last)) => last >= first + period,
            _ => false,
        };
        let watchdog = self.definition.watchdog().is_some();
        self.is_watched()
            && (fed || !watchdog)
            && self.is_enough(|b| b.chain.is_some_and(|(first, last)| last >= first + period))
    }

    /// Somebody would restart it.
    pub fn is_watched(&self) -> bool {
        self.restart_probes().next().is_some() || self.definition.watchdog().is_some()
    }

    pub fn becomes_ready(&mut self, now: Time, late: Duration) {
        if self.ready.is_none() {
            self.ready = Some(now);
            self.fed = Some((now, late));
        }
    }

    /// By what it has said, or by what its probes have.
    pub fn is_ready(&self) -> bool {
        let asked = self.restart_probes().next().is_some();
        let passed = self.is_enough(|b| b.passed);
        let ready = match self.definition.ready() {
            Ready::Probe => passed,
            Ready::Notify | Ready::Fd(_) => self.said || (self.doubt && asked && passed),
        };
        let up = match self.definition.kind {
            Kind::Process => true,
            Kind::Forking => self.main,
            Kind::Oneshot | Kind::Target => false,
        };
        self.executed && up && ready
    }

    /// It has not said in time that it is well.
    pub fn is_unfed(&self, now: Time, late: Duration) -> bool {
        let (Some(period), Some((fed, then))) = (self.definition.watchdog(), self.fed) else {
            return false;
        };
        now >= fed + period + late.saturating_sub(then).min(period)
    }

    /// And nobody has noticed, though the loop was on time.
    pub fn is_overlooked(&self, now: Time, late: Duration) -> bool {
        let (Some(period), Some((fed, then))) = (self.definition.watchdog(), self.fed) else {
            return false;
        };
        let due = fed + period * 2;
        self.is_judged() && self.ready.is_some() && !self.missed && now > due && late == then
    }

    /// Before that nobody may find that it is not ready in time; `late` is all lateness so far.
    pub fn start_due(&self, late: Duration) -> Time {
        let limit = self.definition.start_timeout.unwrap_or(Duration::MAX);
        let grace = late.saturating_sub(self.late);
        let answers = self.definition.probes.iter().map(|probe| probe.timeout);
        let answer = answers.max().unwrap_or_default();
        let again = if self.doubt { limit } else { Duration::ZERO };
        let asked = self
            .taken_up
            .map_or(Time::ZERO, |at| at + answer.max(again));
        (self.spawned_at + limit + grace).max(asked)
    }

    pub fn stop_timeout(&self, by: By) -> Duration {
        let definition = &self.definition;
        match by {
            By::Health | By::Exhausted => definition
                .health_stop_timeout
                .unwrap_or(definition.stop_timeout),
            By::Operator | By::Config | By::Dependency | By::Itself => definition.stop_timeout,
        }
    }

    /// The definition changed while it lives: what is the same probe goes on.
    pub fn redefine(&mut self, now: Time, new: &Rc<Definition>) {
        let old = std::mem::replace(&mut self.definition, new.clone());
        let limit = new.start_timeout.unwrap_or(Duration::MAX);
        self.doubt |= old.notify.is_none() && new.notify.is_some() && self.ready.is_none();
        if old.start_timeout != new.start_timeout {
            self.taken_up = None;
        }
        self.overdue &= old.start_timeout == new.start_timeout || now >= self.spawned_at + limit;
        let books = std::mem::take(&mut self.probes);
        let mut left: Vec<_> = old.probes.iter().zip(books).collect();
        self.probes = new
            .probes
            .iter()
            .map(|probe| {
                let same = left.iter().position(|(old, _)| *old == probe);
                same.map_or_else(ProbeBook::default, |at| left.swap_remove(at).1)
            })
            .collect();
        self.probes.iter_mut().for_each(|probe| probe.open = None);
    }

    /// A new daemon has no definition for it: it is watched, and stopped as most services are.
    pub fn orphaned(&mut self) {
        let mut definition = (*self.definition).clone();
        definition.kill_mode = KillMode::Tree;
        definition.stop_timeout = Duration::from_secs(10);
        definition.health_stop_timeout = None;
        definition.restart = Restart::Never;
        definition.kind = Kind::Process;
        definition.start_timeout = None;
        definition.notify = None;
        definition.probes = Box::new([]);
        self.recall(&Rc::new(definition));
        // Nobody knows when it would have earned one.
        self.refunded = true;
    }

    /// It has a definition again.
    pub fn mended(&mut self, now: Time, late: Duration) {
        self.refunded = false;
        if self.restart_probes().next().is_none() && self.is_ready() {
            self.becomes_ready(now, late);
        }
    }

    /// A new daemon goes by the names.
    pub fn recall(&mut self, new: &Rc<Definition>) {
        let old = std::mem::replace(&mut self.definition, new.clone());
        let books = std::mem::take(&mut self.probes);
        let known: Vec<_> = old.probes.iter().zip(books).collect();
        self.probes = new
            .probes
            .iter()
            .map(|probe| {
                let same = known.iter().find(|(old, _)| old.name == probe.name);
                same.map_or_else(ProbeBook::default, |(_, book)| book.clone())
            })
            .collect();
        for probe in &mut self.probes {
            probe.open = None;
        }
    }
}

impl Book {
    pub fn refund(&mut self) {
        self.spent = 0;
        self.uncured = 0;
        self.told = None;
    }

    /// The operator wants it stopped: whatever was to come does not.
    pub fn stopped(&mut self) {
        self.wanted = Some(false);
        self.due_last = None;
        (self.once, self.passing) = (false, false);
        self.said = true;
        self.charged = false;
        self.excused = false;
        self.retry = None;
        self.restarting = false;
        if let Some(run) = &mut self.run {
            run.unwanted = true;
            run.stop.iter_mut().for_each(|stop| stop.then_start = false);
        }
    }

    /// What was given is forgotten, and the operator's will with it.
    pub fn deleted(&mut self) {
        self.given = None;
        self.durable_given = None;
        if self.by_file {
            return;
        }
        self.definition = None;
        self.present = false;
        self.stopped();
        self.said = false;
        self.pinned = false;
        self.durable = None;
    }

    /// It is to be started by somebody's word. `live`: it is, or is about to be.
    pub fn bidden(&mut self) {
        if let Some(stop) = self.run.as_mut().and_then(|run| run.stop.as_mut()) {
            stop.then_start = true;
        }
        self.charged = false;
        self.excused = true;
        self.retry = self.retry.map(|(_, restart)| (false, restart));
    }

    /// Its schedule is in force: each of its runs is one that none follows.
    pub fn is_planned(&self) -> bool {
        let seen = self.seen.as_ref().and_then(|s| s.schedule.as_ref());
        seen.is_some_and(|schedule| !schedule.suspended)
    }

    /// At rest nothing is to come by itself, and the next start is a first one.
    pub fn rests(&mut self, state: &str) {
        if matches!(state, "inactive" | "exited" | "failed") {
            self.restarting = false;
            self.charged = false;
            self.retry = None;
        }
    }

    pub fn max_attempts(&self) -> Option<u32> {
        self.definition.as_ref()?.retry_policy.max_attempts
    }

    pub fn has_budget(&self) -> bool {
        self.max_attempts().is_none_or(|max| self.spent < max)
    }

    /// Nothing of the run is left. `may`: a start may follow at all (wanted, not shutting down).
    pub fn gone(&mut self, now: Time, may: bool) {
        let Some(run) = self.run.take() else { return };
        self.restarting = !run.unwanted;
        self.tree = run.kills_tree();
        let exit = run.exit.unwrap_or(Exit::Unknown);
        let definition = self.definition.clone().unwrap_or(run.definition.clone());
        match run.stop.as_ref().map(|stop| (stop.by, stop.then_start)) {
            Some((_, true)) => {}
            None | Some((By::Itself, _)) => {
                let due = match (definition.restart, definition.kind) {
                    (_, Kind::Oneshot) if exit == Exit::Code(0) => false,
                    (_, _) if self.once => false,
                    (Restart::Never, _) => false,
                    (Restart::OnFailure, _) => !exit.is_clean(),
                    (Restart::Always, _) => true,
                };
                let well = match definition.restart {
                    _ if definition.kind == Kind::Oneshot && exit == Exit::Code(0) => true,
                    Restart::Never => exit == Exit::Code(0),
                    Restart::OnFailure | Restart::Always => !due,
                };
                let listens = definition.starts_on_connection() && !self.once;
                self.sockets.ended_well = may && well && listens;
                self.excused = false;
                self.charged = may && due && self.has_budget();
                self.spent += u32::from(self.charged);
                self.perhaps = self.charged && run.wrong && !run.automatic;
            }
            Some((By::Exhausted, _)) => self.charged = false,
            Some((By::Health, _)) => self.charged &= may,
            Some((By::Operator | By::Config | By::Dependency, _)) => {}
        }
        self.not_before = now + least_delay(&definition, self.spent);
        if !self.charged {
            self.not_before = now;
        }
    }

    /// The delay of the attempt that was spent, from now on.
    pub fn delay_from(&mut self, now: Time) {
        let delay = self.definition.as_ref().filter(|_| self.charged);
        let delay = delay.map(|definition| least_delay(definition, self.spent));
        self.not_before = now + delay.unwrap_or_default();
    }
}

/// The delay before attempt `n` with the jitter at its lowest.
fn least_delay(definition: &Definition, n: u32) -> Duration {
    let policy = &definition.retry_policy;
    let mut still = policy.clone();
    still.jitter = 0.0;
    let mut none = crate::prng::Prng::new(0);
    let delay = retry_policy::delay_for_attempt(&still, n, &mut none);
    delay
        .mul_f64(1.0 - policy.jitter)
        .saturating_sub(Duration::from_micros(1))
}
