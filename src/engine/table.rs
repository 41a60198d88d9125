//! What the engine keeps of each service and of its present run. Plain data: no decisions here.

use crate::config::{Definition, KillMode, Kind, OnUnhealthy, Probe, Ready};
use crate::engine::snapshot::{DossierRecord, EndRecord};
use crate::engine::story::{Decision, Transition};
use crate::engine::timers::Unit;
use crate::exit::{Exit, Signal};
use crate::id::{Pid, RunId, ServiceId};
use crate::probe::{Outcome, Trouble};
use crate::service::doubt::Look;
use crate::service::gate::{Reason, Ruling};
use crate::service::health::{self, Health, Streak};
use crate::service::hook::Progress;
use crate::service::state::{Cause, State, Wanted};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// One service.
#[derive(Debug)]
pub struct Service {
    pub name: Rc<str>,
    /// The file it comes from, for messages.
    pub source: Box<str>,
    /// In force; None when the name has no (good) definition.
    pub definition: Option<Rc<Definition>>,
    /// The text of a definition that an operator gave by `set`; a file of the name beats it.
    pub given: Option<Box<str>>,
    /// What is wrong with its definition; it may still run by the previous one.
    pub problem: Option<Box<str>>,
    pub wanted: Wanted,
    /// Who said so and when (wall clock); empty when nobody did.
    pub wanted_by: Box<str>,
    pub wanted_at_ms: u64,
    /// Wanted to start, but once: no run follows its end.
    pub once: bool,
    /// What is wanted now is so until the next boot; what is from then on.
    pub at_boot: Option<Wanted>,
    /// Only a word about itself changes that.
    pub pinned: bool,
    /// Written only by `Engine::put`.
    pub state: State,
    pub cause: Cause,
    pub since: Time,
    /// Of the present or last run; counts up for ever.
    pub number: u32,
    pub run: Option<Box<Run>>,
    /// Automatic restarts spent since the last refund.
    pub attempts: u32,
    /// Restarts for its health in a row that did not cure it.
    pub uncured: u32,
    /// How far the telling of a spent budget is.
    pub exhausted: Exhausted,
    pub last_end: Option<EndRecord>,
    /// The last one that was collected.
    pub dossier: Option<Box<DossierRecord>>,
    /// Why it failed or cannot start, in words.
    pub trouble: Box<str>,
    /// The run that ended is to be followed by another: that one begins by a restart.
    pub restarting: bool,
    /// When the delay of the present attempt ends.
    pub backoff_until: Option<Time>,
    /// Spawns in a row that failed for our own want of something.
    pub respawns: u32,
    /// The gate's last word on this run, while it stands.
    pub standing: Option<Standing>,
    /// The allowed health restart whose cure is awaited.
    pub cure: Option<Cure>,
    /// In the line of those who wait for a restart for their health.
    pub place: Option<u64>,
    /// What would have been done to a service that is observed.
    pub shadow: Shadow,
    /// Somebody asks its probes before judging a dependent; until when.
    pub asked_until: Option<Time>,
    pub unit: Unit,
    pub watchdog_unit: Option<Unit>,
    /// Descriptors that are kept for it; None: none.
    pub stored: Option<u16>,
    pub sockets: Sockets,
    pub probe_units: Box<[Unit]>,
    pub timed: Timed,
    pub transitions: VecDeque<Transition>,
    pub decisions: VecDeque<Decision>,
    pub dirty: bool,
}

/// How it stands with a service's schedule.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Timed {
    /// It is in force.
    pub on: bool,
    /// Up to here, by the wall clock, all that was due is dealt with.
    pub since_ms: Option<u64>,
    /// None: it is being asked for, or there is none.
    pub next: Option<NextRun>,
    /// How many times were skipped.
    pub skipped: u32,
    /// The run for whose sake it was last told that one is skipped.
    pub told_of: Option<u32>,
    #[serde(skip)]
    pub unit: Option<Unit>,
}

/// When it is started next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NextRun {
    /// When it is due.
    pub base: Time,
    /// The same, and what was drawn of `random_delay`.
    pub at: Time,
    /// By the calendar; 0: by an interval.
    pub due_ms: u64,
}

/// `on_exhausted_exec` is run once per exhaustion, whatever becomes of the daemon meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exhausted {
    #[default]
    No,
    /// It is to be run, or is being started.
    Due,
    Told,
}

/// How the sockets stand that are held for a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sockets {
    /// They are closed, or there are none.
    #[default]
    Closed,
    /// For a run that is to begin.
    Asked,
    /// To be watched.
    Wanted,
    /// The same, after a run that ended well.
    Again,
    Open,
    /// Watched, as they were defined before.
    Outdated,
    /// They could not all be opened, or had back.
    Partly,
    /// Open, and whoever comes starts it.
    Watched,
}

/// Restarts that were only told, and which trouble of which run the last one was for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Shadow {
    pub attempts: u32,
    pub run: u32,
    pub since: Time,
}

impl Shadow {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it so
    pub fn is_none(&self) -> bool {
        self.attempts == 0
    }
}

/// An allowed health restart: which decision, and which run it ended. A later run tells whether
/// it was a cure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cure {
    pub decision: u64,
    pub run: u32,
}

/// The gate's last word, and what it was about.
#[derive(Debug, Clone)]
pub struct Standing {
    pub cause: Cause,
    pub ruling: Ruling,
    /// When the trouble began that it rules on.
    pub trouble_since: Time,
}

/// One incarnation.
#[derive(Debug)]
pub struct Run {
    pub id: RunId,
    /// What it was started with.
    pub definition: Rc<Definition>,
    /// None until the process exists.
    pub pid: Option<Pid>,
    /// Start time in clock ticks since boot, as /proc tells it.
    pub started: u64,
    pub spawned_at: Time,
    pub executed: bool,
    pub ready_at: Option<Time>,
    pub begun_by: Cause,
    /// It began by a restart of any kind: the stability window applies.
    pub restarted: bool,
    pub adopted: bool,
    /// It passed its start limit and was not restarted (yet).
    pub overdue: bool,
    /// Of the program; where that never ran, of what was run for it.
    pub exit: Option<Exit>,
    /// As many of its processes were killed by the kernel for want of memory.
    pub oom_kills: u64,
    /// The commands around it.
    pub hooks: Progress,
    pub stop: Option<Stop>,
    /// The loop's lateness when the run, or its stop, began; whether the stop was extended by it.
    pub late_mark: Duration,
    pub extended: bool,
    /// When its start limit ends, before what is excused is added; None: it has none.
    pub start_until: Option<Time>,
    /// Time while starting in which we could not ask it: not the service's.
    pub excused: Duration,
    /// Such a time is under way: the start limit stands still.
    pub excused_since: Option<Time>,
    /// Up to here it is counted in `excused`.
    pub excused_until: Time,
    pub probes: Box<[Watch]>,
    /// What it has said of itself; None: nothing.
    pub told: Option<Box<Told>>,
    /// The last health that was told.
    pub health: Option<Health>,
    /// The first process of a forking daemon has ended well, its main one is looked for.
    pub seek: Option<Box<Seek>>,
    /// The last look at the host, when something of it was late.
    pub look: Option<Look<Time>>,
    /// A timer that is up waits for such a look.
    pub looks: bool,
    /// How often its start limit was doubted.
    pub start_doubts: u32,
}

/// How the search for a forking daemon's main process goes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Seek {
    pub looks: u32,
    /// In a row that found the same thing wrong.
    pub wrong: u32,
    /// What keeps it from being known.
    pub words: Box<str>,
}

/// What a run has said of itself, and its watchdog.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// `READY=1`, or a newline on its descriptor.
    pub ready: bool,
    /// It may have said so while no daemon was there to hear it.
    pub doubt: bool,
    pub reloading: bool,
    pub stopping: bool,
    pub status: Box<str>,
    /// When the status was last written down.
    pub status_at: Option<Time>,
    pub errno: Option<i32>,
    /// Another process is its main one than the one that was spawned: its start time, too.
    pub main: Option<(Pid, u64)>,
    /// Another watchdog period than its definition's; zero: none.
    pub period: Option<Duration>,
    /// Of the watchdog: a word is a pass, a miss a failure.
    pub streak: Streak,
    /// How it was missed, in words.
    pub missed: Box<str>,
    /// The loop's lateness when it was armed; whether it was extended by it since.
    pub late_mark: Duration,
    pub extended: bool,
    /// Misses in a row that were doubted.
    pub doubted: u32,
}

/// A stop under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    pub cause: Cause,
    /// Do not start it again although it is wanted: the budget is spent, or what it requires went
    /// down, and so it was defined.
    pub final_stop: bool,
    /// An operator said stop: a start that follows is no restart.
    pub wanted: bool,
    /// The operator asked for a start meanwhile: at once, whatever ended it.
    pub then_start: bool,
    pub killed: bool,
    /// It begins when those are gone who go down with it; until then the deadline is that of this.
    pub waits: bool,
    /// It begins when evidence was collected; until then the deadline is that of this.
    pub evidence: Option<Evidence>,
    /// When SIGKILL is due, or was sent.
    pub deadline: Time,
    /// What is left is being ended by a helper.
    pub sweeping: bool,
}

/// What a stop for its health begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// A helper looks at it.
    Collect,
    /// It, or a command, is to tell more.
    Diagnose,
}

/// One probe of one run.
#[derive(Debug, Default)]
pub struct Watch {
    pub streak: Streak,
    pub check: Option<InFlight>,
    /// It is due, and waits for a slot.
    pub waits: bool,
    pub last: Option<Last>,
    /// Answers since the run began: the start pace grows with them.
    pub asked: u32,
    pub shadow_attempts: u32,
    /// Answers since the last pass that were doubted; one more than may be when that was told.
    pub doubted: u32,
}

#[derive(Debug, Clone, Copy)]
pub struct InFlight {
    pub serial: u32,
    pub begun: Time,
    pub late_mark: Duration,
    pub extended: bool,
    /// What the service requires has come back since: a failure says nothing of the service.
    pub excused: bool,
}

#[derive(Debug, Clone)]
pub struct Last {
    pub outcome: Outcome,
    pub latency: Duration,
    pub output: Box<str>,
}

impl Service {
    /// Ready and, if it has probes, healthy; a oneshot: done. The one test of `requires`,
    /// `after`, `wants` and the gate.
    pub fn is_satisfied(&self) -> bool {
        match self.state {
            State::Running => self.health().is_none_or(|h| h == Health::Healthy),
            State::Exited => {
                self.is_oneshot()
                    && self
                        .last_end
                        .as_ref()
                        .is_some_and(|e| e.exit == Exit::Code(0))
            }
            // Whoever needs it connects to it, and that starts it.
            State::Inactive => self.sockets == Sockets::Watched,
            State::Blocked | State::Starting | State::Stopping | State::Backoff | State::Failed => {
                false
            }
        }
    }

    pub fn is_target(&self) -> bool {
        let definition = self.definition.as_ref();
        definition.is_some_and(|d| d.kind == Kind::Target)
    }

    pub fn is_oneshot(&self) -> bool {
        self.definition
            .as_ref()
            .is_some_and(|d| d.kind == Kind::Oneshot)
    }

    /// None where no probe restarts, or nothing runs.
    pub fn health(&self) -> Option<Health> {
        self.run.as_ref().and_then(|run| run.verdict())
    }

    pub fn is_exhausted(&self) -> bool {
        self.definition.as_ref().is_some_and(|d| {
            !crate::service::retry_policy::has_budget(&d.retry_policy, self.attempts)
        })
    }
}

impl Run {
    pub fn verdict(&self) -> Option<Health> {
        let probes = self.verdict_of_probes();
        if self.is_watchdog_down() {
            return Some(Health::Unhealthy);
        }
        if probes.is_some() || self.watchdog_period().is_none() {
            return probes;
        }
        // By a watchdog alone: well until it is missed.
        Some(match self.ready_at {
            Some(_) => Health::Healthy,
            None => Health::Unknown,
        })
    }

    fn verdict_of_probes(&self) -> Option<Health> {
        let streaks = self
            .watched()
            .map(|(_, probe, watch)| (probe, &watch.streak));
        health::verdict(self.definition.probes_required, streaks)
    }

    /// As many probes are down as make it unhealthy.
    pub fn is_down(&self) -> bool {
        self.verdict_of_probes() == Some(Health::Unhealthy)
    }

    /// It is down, and would not be by the probes that failed when last asked: a window has more
    /// failures than it may have, or it has not passed often enough yet.
    pub fn is_recovering(&self) -> bool {
        let (all, needed) = self.needed();
        let failing = self.down().filter(|(_, watch)| watch.streak.passes == 0);
        let down = self.is_down() && !self.is_watchdog_down() && !self.overdue;
        down && all - failing.count() >= needed
    }

    /// When the first failure was begun of the probe by which it became so.
    pub fn down_since(&self) -> Option<Time> {
        let mut since: Vec<Time> = self
            .down()
            .filter_map(|(_, w)| w.streak.failing_since)
            .collect();
        since.sort_unstable();
        let (all, needed) = self.needed();
        since.get(all - needed).or(since.last()).copied()
    }

    /// How many probes restart it, and how many of them must be up.
    fn needed(&self) -> (usize, usize) {
        let restarts = |p: &&Probe| p.on_unhealthy == OnUnhealthy::Restart;
        let all = self.definition.probes.iter().filter(restarts).count();
        (all, health::needed(self.definition.probes_required, all))
    }

    /// Of the probes that restart it, as many are so as must be up.
    pub fn is_enough(&self, so: &dyn Fn(&Watch) -> bool) -> bool {
        let restarting = self
            .watched()
            .filter(|(_, probe, _)| probe.on_unhealthy == OnUnhealthy::Restart);
        restarting.filter(|(_, _, watch)| so(watch)).count() >= self.needed().1
    }

    /// `1 of 3 probes up, 2 required`, where not all are.
    pub fn required_words(&self) -> Option<String> {
        self.definition.probes_required?;
        let (all, needed) = self.needed();
        let left = all - self.down().count();
        Some(format!(
            "{left} of {all} probes not down, {needed} required"
        ))
    }

    pub fn watchdog_period(&self) -> Option<Duration> {
        let own = self.told.as_ref().and_then(|told| told.period);
        let period = own.or(self.definition.watchdog())?;
        (!period.is_zero()).then_some(period)
    }

    /// It was to say that it is well, and did not.
    pub fn is_watchdog_down(&self) -> bool {
        let told = self.told.as_ref();
        told.is_some_and(|t| t.streak.up == Some(false))
    }

    /// Somebody would restart it: a probe, a watchdog. Only by their word is it refunded.
    pub fn has_judges(&self) -> bool {
        self.has_restart_probes() || self.watchdog_period().is_some()
    }

    /// All who would restart it have found it well for a whole stability period.
    pub fn is_sustained(&self) -> bool {
        let period = self.definition.retry_policy.stability_period;
        let fed = |told: &Told| told.streak.is_sustained(period);
        self.has_judges()
            && (self.watchdog_period().is_none() || self.told.as_deref().is_some_and(fed))
            && self.is_enough(&|watch| watch.streak.is_sustained(period))
    }

    /// Its probes are asked before it is ready: they make it so.
    pub fn is_asked_early(&self) -> bool {
        self.definition.ready() == Ready::Probe || self.is_doubtful()
    }

    /// Whether it has said that it is ready nobody knows.
    pub fn is_doubtful(&self) -> bool {
        self.told.as_ref().is_some_and(|t| t.doubt && !t.ready)
    }

    pub fn watched(&self) -> impl Iterator<Item = (u16, &Probe, &Watch)> {
        self.definition
            .probes
            .iter()
            .zip(self.probes.iter())
            .enumerate()
            .map(|(index, (probe, watch))| (index as u16, probe, watch))
    }

    /// The restarting probes that are down.
    pub fn down(&self) -> impl Iterator<Item = (&Probe, &Watch)> {
        self.watched()
            .filter(|(_, probe, watch)| {
                probe.on_unhealthy == OnUnhealthy::Restart && watch.streak.is_down(probe)
            })
            .map(|(_, probe, watch)| (probe, watch))
    }

    pub fn has_restart_probes(&self) -> bool {
        self.definition
            .probes
            .iter()
            .any(|p| p.on_unhealthy == OnUnhealthy::Restart)
    }

    /// What ended it, where that was not we: the kernel, for want of memory, or it itself.
    pub fn own_cause(&self) -> Cause {
        match self.exit {
            Some(Exit::Signal(Signal::KILL)) if self.oom_kills > 0 => Cause::Memory,
            Some(_) | None => Cause::Exit,
        }
    }

    /// What it is ended by, or ended by.
    pub fn end_cause(&self) -> Cause {
        match &self.stop {
            Some(stop) if stop.cause != Cause::Exit => stop.cause,
            Some(_) | None => self.own_cause(),
        }
    }

    /// How it ended, in words.
    pub fn own_end(&self) -> String {
        let exit = self.exit.unwrap_or(Exit::Unknown);
        match (
            self.own_cause(),
            self.definition.process.resources().memory_max,
        ) {
            (Cause::Memory, Some(max)) => {
                format!(
                    "{exit}: out of memory (memory_max = {})",
                    crate::config::sized(max)
                )
            }
            (Cause::Memory, None) => format!("{exit}: out of memory"),
            (_, _) => exit.to_string(),
        }
    }

    /// Nothing has ended it yet: what its probes say counts.
    pub fn is_judged(&self) -> bool {
        self.stop.is_none() && self.exit.is_none()
    }

    /// It waits to be ready, and a probe that must pass for that could not be asked last time, or
    /// waits for a slot that others hold.
    /// (Where the loop was late, the start limit is extended by the lateness itself.)
    pub fn is_excused(&self) -> bool {
        let starved = |last: &Last| last.outcome == Outcome::Inconclusive(Trouble::Starved);
        // While one of its own holds a slot it is being asked.
        let free = self.probes.iter().all(|watch| watch.check.is_none());
        self.ready_at.is_none()
            && self.is_asked_early()
            && self.watched().any(|(_, probe, watch)| {
                probe.on_unhealthy == OnUnhealthy::Restart
                    && !watch.streak.passed
                    && ((watch.waits && free)
                        || (watch.streak.inconclusive > 0
                            && !watch.last.as_ref().is_some_and(starved)))
            })
    }

    /// Its whole start limit, from now on.
    pub fn begin_start_limit(&mut self, now: Time, late: Duration) {
        self.start_until = self.definition.start_timeout.map(|limit| now + limit);
        self.late_mark = late;
        self.excused = Duration::ZERO;
        self.excused_since = self.excused_since.map(|_| now);
        self.excused_until = now;
    }

    /// Ready by its own definition of ready: its program runs, and the probes that must have passed,
    /// or it has said so. Where its word may have been lost its probes will do. A oneshot never is.
    pub fn is_ready(&self) -> bool {
        let passed = || self.is_enough(&|watch| watch.streak.passed);
        let ready = match self.definition.ready() {
            Ready::Probe => passed(),
            Ready::Notify | Ready::Fd(_) => {
                let said = self.told.as_ref().is_some_and(|told| told.ready);
                said || (self.is_doubtful() && self.has_restart_probes() && passed())
            }
        };
        let up = match self.definition.kind {
            Kind::Process => true,
            Kind::Forking => self.named().is_some(),
            Kind::Oneshot | Kind::Target => false,
        };
        self.executed && up && ready
    }

    /// It can be asked again, or has no probe any more that could not be.
    pub fn end_excuse(&mut self, now: Time) {
        if let Some(since) = self.excused_since.filter(|_| !self.is_excused()) {
            self.excused += now.since(since);
            self.excused_since = None;
            self.excused_until = now;
        }
    }

    /// When its start limit ends, as far as is known at `now`; `late` is all lateness so far.
    pub fn start_deadline(&self, now: Time, late: Duration) -> Option<Time> {
        let ongoing = self
            .excused_since
            .map_or(Duration::ZERO, |since| now.since(since));
        let late = late.saturating_sub(self.late_mark);
        Some(self.start_until? + self.excused + ongoing + late)
    }

    /// Another process than the one that was spawned is its main one.
    pub fn named(&self) -> Option<(Pid, u64)> {
        self.told.as_ref().and_then(|told| told.main)
    }

    /// It is to fork its main process, which is not known yet.
    pub fn is_forking(&self) -> bool {
        self.definition.kind == Kind::Forking && self.named().is_none()
    }

    /// A daemon whose main process is not known is ended with all there is of it: no second one may
    /// come beside it.
    pub fn kills_tree(&self) -> bool {
        self.definition.kill_mode != KillMode::Process || self.is_forking()
    }
}

impl Stop {
    pub fn new(cause: Cause, deadline: Time) -> Stop {
        Stop {
            cause,
            final_stop: false,
            wanted: false,
            then_start: false,
            killed: false,
            waits: false,
            evidence: None,
            deadline,
            sweeping: false,
        }
    }
}

impl Standing {
    /// What its restart waits for.
    pub fn deferral(&self) -> Option<&Reason> {
        match &self.ruling {
            Ruling::Deferred { reason, .. } => Some(reason),
            Ruling::Allowed { .. }
            | Ruling::Denied { .. }
            | Ruling::Absorbed { .. }
            | Ruling::Shadow => None,
        }
    }

    pub fn is_asking(&self) -> bool {
        matches!(self.deferral(), Some(Reason::Asking(_)))
    }

    /// It waits for a failure, or for its recovery.
    pub fn is_recovering(&self) -> bool {
        matches!(self.deferral(), Some(Reason::Recovering))
    }

    pub fn waits_for(&self, name: &str) -> bool {
        match self.deferral() {
            Some(Reason::Asking(n) | Reason::Dependency(n)) => &**n == name,
            Some(_) | None => false,
        }
    }
}

/// A set of services by number, in the order in which they came.
#[derive(Debug, Default)]
pub struct Queue(pub(super) VecDeque<ServiceId>);

impl Queue {
    pub fn push(&mut self, id: ServiceId) {
        if self.0.back() != Some(&id) {
            self.0.push_back(id);
        }
    }
    pub fn pop(&mut self) -> Option<ServiceId> {
        self.0.pop_front()
    }
}
