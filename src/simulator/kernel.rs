//! The fake kernel: processes that do what their script says, and answers to probes.
//!
//! It knows nothing of states or decisions; it turns an effect into what will happen in the world,
//! and when. Deaths happen whether a daemon watches or not; answers are lost with the daemon that
//! asked.

mod answering;

use super::hooks::{HookProcess, HookScript};
use super::receiver::Receiver;
use super::sockets::Sockets;
use crate::config::{Definition, Kind};
use crate::engine::{Due, Effect, Engine, Event, SpawnError};
use crate::exit::{Exit, Signal};
use crate::id::{CheckId, Pid, RunId};
use crate::probe::{Outcome, Reason, Report, Trouble};
use crate::service::hook::{Hook, Purpose};
use crate::service::notify::Notice;
use crate::time::{Time, micros};
use std::collections::BTreeMap;
use std::time::Duration;

/// A process, alive or a zombie nobody asked about.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: Pid,
    pub born: Time,
    pub exit: Option<Exit>,
    /// What it leaves behind lives on.
    pub leftovers: bool,
    /// How it answers from now on, whatever its service's script says.
    pub mood: Option<Mood>,
    /// It behaves as its script says; the other runs are well.
    pub bad: bool,
    /// Until then it sleeps uninterruptibly: mute, and no signal ends it.
    pub stuck_until: Time,
    /// It has said that it is ready.
    pub said: bool,
    /// It is to say that it is well within this.
    pub watchdog: Option<Duration>,
    /// It is a daemon that forks itself away.
    pub forks: bool,
    /// A daemon died before it wrote down whom it had made: the first process is watched by nobody.
    pub lost: bool,
    /// Its first process has ended; what lives is its main one.
    pub forked: bool,
    /// That one was found.
    pub found: bool,
}

/// How probes are answered.
#[derive(Clone, PartialEq, Debug)]
pub enum Mood {
    Answer,
    /// Accepts and stays mute.
    Mute,
    Fail(Reason),
    /// The supervisor cannot ask.
    Trouble(Trouble),
}

/// What a service's processes do.
#[derive(Clone, PartialEq, Debug)]
pub struct Script {
    /// Answers probes from so long after its birth on.
    pub ready_after: Duration,
    /// By probe; `""` for all others.
    pub moods: BTreeMap<String, Mood>,
    /// Stays mute from so long after its birth on.
    pub hangs_after: Option<Duration>,
    /// Dies by itself, so long after its birth.
    pub exits: Option<(Duration, Exit)>,
    /// From SIGTERM to its end; None: ignores it.
    pub stops_in: Option<Duration>,
    /// From SIGKILL to its end: long in uninterruptible sleep.
    pub dies_in: Duration,
    /// Leaves others behind when it ends; how many survive SIGKILL.
    pub leaves: Option<u32>,
    /// Those act on SIGKILL only.
    pub stubborn: bool,
    /// Answers so long, is mute so long, from its birth on.
    pub flaps: Option<(Duration, Duration)>,
    /// Answers only while these do.
    pub leans_on: Vec<String>,
    /// So many runs hang, flap and exit as written; later ones are well.
    pub bad_runs: u32,
    /// A well run ends by itself, having done its work.
    pub works: Option<Duration>,
    /// Outlives SIGKILL, as in an uninterruptible sleep.
    pub unkillable: bool,
    /// It says nothing of itself.
    pub silent: bool,
    /// Whatever ends it by SIGKILL is the kernel, for want of memory.
    pub hungry: bool,
    /// A forking daemon's first process ends after this.
    pub forks_after: Duration,
    /// What its pid file is like.
    pub pid_file: PidFile,
    /// Spawns fail so.
    pub spawn_error: Option<SpawnError>,
    /// Its sockets cannot be opened.
    pub listen_error: Option<SpawnError>,
    /// It accepts nobody.
    pub deaf: bool,
    /// How long it takes to look at it; None: who looks hangs.
    pub looked_at: Option<Duration>,
    /// What is found then; None: nothing.
    pub stuck_on: Option<String>,
    /// It takes a whole processor.
    pub burns: bool,
    /// What its commands do.
    pub hooks: BTreeMap<Purpose, HookScript>,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            ready_after: Duration::from_millis(50),
            moods: BTreeMap::new(),
            hangs_after: None,
            exits: None,
            stops_in: Some(Duration::from_millis(10)),
            dies_in: Duration::from_millis(1),
            leaves: None,
            stubborn: false,
            flaps: None,
            leans_on: Vec::new(),
            bad_runs: u32::MAX,
            works: None,
            unkillable: false,
            silent: false,
            hungry: false,
            forks_after: Duration::from_millis(10),
            pid_file: PidFile::Good,
            spawn_error: None,
            listen_error: None,
            deaf: false,
            looked_at: Some(Duration::ZERO),
            stuck_on: None,
            burns: false,
            hooks: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PidFile {
    Good,
    Missing,
    Wrong,
}

#[derive(Default)]
pub struct Kernel {
    scripts: BTreeMap<String, Script>,
    /// Processes each service has had.
    births: BTreeMap<String, u32>,
    pub(super) processes: BTreeMap<(String, u32), Process>,
    born: i32,
    pub(super) sockets: BTreeMap<String, Sockets>,
    /// The last command of each service.
    pub(super) hooks: BTreeMap<String, HookProcess>,
    /// Two commands of one service, or one beside a program that it must not meet.
    pub doubled: Option<String>,
    /// Runs that are being looked at, and since when.
    pub(super) looking: Vec<(RunId, Time)>,
    /// Checks that got no answer: these expire.
    mute: Vec<CheckId>,
    /// We can make no process and open no socket until then.
    pub trouble_until: Time,
    /// Tasks wait for a processor, in so many hundredths of a percent of the time.
    pub pressed_until: Time,
    pub pressure: u32,
    /// How the state directory's disk behaves: None never answers.
    pub disk: Disk,
    /// How whoever gets alerts behaves.
    pub receiver: Receiver,
    /// The wall clock runs this far ahead of the monotonic one.
    pub wall_ahead_ms: u64,
}

#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub enum Disk {
    #[default]
    Good,
    Full,
    Stalled,
    /// write(2) is EIO.
    Unwritable,
    /// What is written is in memory, and cannot be synced: EIO as well.
    Unsynced,
}

/// What an effect leads to.
#[derive(Clone, PartialEq, Debug)]
pub enum Happening {
    /// The daemon that asked learns of it; lost with that daemon.
    Told(Event),
    /// The same event once more, if by then it speaks of something long over.
    Ghost(Event),
    /// The daemon is started.
    Boots,
    /// The first process of a forking daemon ends.
    Forks { service: String, number: u32 },
    /// A process says of itself what it has to say, whoever hears it.
    Says {
        service: String,
        number: u32,
        pid: Pid,
    },
    /// A process ends, whoever watches.
    Dies {
        service: String,
        number: u32,
        exit: Exit,
    },
    /// A command ends, whoever watches.
    HookDies {
        service: String,
        number: u32,
        hook: Hook,
        exit: Exit,
    },
}

pub type Answers = Vec<(Duration, Happening)>;

pub fn told(after: Duration, event: Event) -> Answers {
    vec![(after, Happening::Told(event))]
}

impl Kernel {
    pub fn script(&mut self, service: &str) -> &mut Script {
        self.scripts.entry(service.to_owned()).or_default()
    }

    pub fn process(&self, service: &str, number: u32) -> Option<&Process> {
        self.processes.get(&(service.to_owned(), number))
    }

    /// The youngest process of a service.
    pub fn youngest(&mut self, service: &str) -> Option<&mut Process> {
        let (from, to) = ((service.to_owned(), 0), (service.to_owned(), u32::MAX));
        self.processes
            .range_mut(from..=to)
            .next_back()
            .map(|(_, process)| process)
    }

    pub fn youngest_number(&self, service: &str) -> Option<u32> {
        let (from, to) = ((service.to_owned(), 0), (service.to_owned(), u32::MAX));
        self.processes
            .range(from..=to)
            .next_back()
            .map(|((_, number), _)| *number)
    }

    /// Live processes of one service: never more than one.
    pub fn alive(&self, service: &str) -> usize {
        self.processes
            .iter()
            .filter(|((name, _), p)| name == service && p.exit.is_none())
            .count()
    }

    pub fn disk_error(&self) -> Option<Box<str>> {
        match self.disk {
            Disk::Good | Disk::Stalled => None,
            Disk::Full => Some("No space left on device (28)".into()),
            Disk::Unwritable => Some("cannot write: Input/output error (5)".into()),
            Disk::Unsynced => Some("cannot sync: Input/output error (5)".into()),
        }
    }

    pub fn disk_takes(&self) -> Option<Duration> {
        (self.disk != Disk::Stalled).then(|| Duration::from_millis(5))
    }

    /// The process ends; whether others of it live on. None: it is no more, or never was.
    pub fn end(&mut self, service: &str, number: u32, exit: Exit) -> Option<bool> {
        let leaves = self
            .scripts
            .get(service)
            .is_some_and(|script| script.leaves.is_some());
        let process = self.processes.get_mut(&(service.to_owned(), number))?;
        if process.exit.is_some() {
            return None;
        }
        process.exit = Some(exit);
        process.leftovers = leaves;
        Some(leaves)
    }

    /// This end is for want of memory.
    pub fn is_hungry(&self, service: &str, exit: Exit) -> bool {
        let script = self.scripts.get(service);
        exit == Exit::Signal(Signal::KILL) && script.is_some_and(|script| script.hungry)
    }

    /// A run left others behind, and they live.
    pub fn has_leftovers(&self, service: &str, number: u32) -> bool {
        self.process(service, number).is_some_and(|p| p.leftovers)
    }

    /// What a run left behind is taken for the run.
    pub fn revive(&mut self, service: &str, number: u32) -> bool {
        let process = self.processes.get_mut(&(service.to_owned(), number));
        let left = process.filter(|p| p.leftovers);
        left.is_some_and(|process| {
            process.exit = None;
            process.leftovers = false;
            true
        })
    }

    /// Nobody would notice that it is unwell: it is not.
    pub fn absolve(&mut self, service: &str) {
        if let Some(process) = self.youngest(service) {
            process.mood = None;
            process.bad = false;
        }
    }

    /// The youngest process of a service sleeps uninterruptibly.
    pub fn stick(&mut self, service: &str, until: Time) {
        if let Some(process) = self.youngest(service).filter(|p| p.exit.is_none()) {
            process.stuck_until = until;
        }
    }

    /// How often the youngest process says that it is well: by what it was told at its birth.
    pub fn talks_every(&self, service: &str) -> Option<Duration> {
        let process = self.process(service, self.youngest_number(service)?)?;
        Some(process.watchdog.filter(|_| process.exit.is_none())? / 2)
    }

    pub fn stuck_until(&self, service: &str, number: u32) -> Time {
        self.process(service, number)
            .map_or(Time::ZERO, |process| process.stuck_until)
    }

    /// The machine goes down, and all that ran with it.
    pub fn reboot(&mut self) {
        self.processes.clear();
        self.hooks.clear();
        self.sockets.clear();
        self.looking.clear();
        self.mute.clear();
    }

    /// Whatever is started from now on is well.
    pub fn heal(&mut self) {
        self.trouble_until = Time::ZERO;
        self.pressed_until = Time::ZERO;
        for script in self.scripts.values_mut() {
            script.bad_runs = 0;
            // No streak need ever be long enough to tell.
            script.flaps = None;
            script.moods.clear();
            script.ready_after = script.ready_after.min(Duration::from_millis(100));
            script.spawn_error = None;
            script.pid_file = PidFile::Good;
            script.forks_after = script.forks_after.min(Duration::from_millis(100));
            script.listen_error = None;
            script.deaf = false;
            script.hooks.clear();
            script.works = script.works.map(|d| d.min(Duration::from_millis(100)));
        }
    }

    /// Forgets all but the last few dead of each service, so that a long life stays cheap.
    pub fn bury(&mut self, service: &str, before: u32) {
        let (from, to) = ((service.to_owned(), 0), (service.to_owned(), before));
        let dead: Vec<u32> = self
            .processes
            .range(from..to)
            .filter(|(_, p)| p.exit.is_some() && !p.leftovers)
            .map(|((_, number), _)| *number)
            .collect();
        for number in dead {
            self.processes.remove(&(service.to_owned(), number));
        }
    }

    fn sweep(&mut self, service: &str, number: u32) {
        if let Some(process) = self.processes.get_mut(&(service.to_owned(), number)) {
            process.leftovers = false;
        }
    }

    pub fn perform(&mut self, now: Time, engine: &Engine, effect: Effect) -> Answers {
        match effect {
            Effect::Spawn { run, definition } => {
                self.spawn(now, engine.name(run.service), run, &definition)
            }
            Effect::Signal { run, signal, .. } => {
                self.signal(engine.name(run.service), run, signal)
            }
            Effect::Hook { run, hook, .. } => {
                self.spawn_hook(now, engine.name(run.service), run, hook)
            }
            Effect::HookSignal { run, hook, signal } => {
                self.signal_hook(engine.name(run.service), run, hook, signal)
            }
            Effect::FindMain { run, definition } => {
                self.find_main(now, engine.name(run.service), run, &definition)
            }
            Effect::EndTree { run, grace, .. } => {
                let name = engine.name(run.service);
                self.end_unknown_main(name, run.number);
                let script = self.scripts.get(name);
                let left = script.and_then(|s| s.leaves).unwrap_or(0);
                let after = match script.is_some_and(|s| s.stubborn) {
                    true => grace + Duration::from_millis(1),
                    false => grace.min(Duration::from_millis(20)),
                };
                if left == 0 {
                    self.sweep(name, run.number);
                }
                told(after, Event::TreeEnded { run, left })
            }
            Effect::KillTree { run, .. } => {
                self.end_unknown_main(engine.name(run.service), run.number);
                self.sweep(engine.name(run.service), run.number);
                let event = Event::TreeEnded { run, left: 0 };
                told(Duration::from_millis(1), event)
            }
            Effect::Check { check, definition } => {
                let probe = &definition.probes[usize::from(check.probe)].name;
                self.check(now, engine.name(check.run.service), probe, check)
            }
            Effect::CheckExpired { check } => {
                self.mute.retain(|open| *open != check);
                let latency = Duration::from_secs(1);
                let late = finished(check, Outcome::Fail(Reason::Timeout), latency);
                let mut answers = match now < self.pressed_until {
                    true => self.look(now, engine.name(check.run.service), check.run),
                    false => Vec::new(),
                };
                answers.extend(told(Duration::ZERO, late));
                answers
            }
            Effect::CollectEvidence { run, .. } => self.look_at(now, engine, run),
            Effect::EvidenceOver { run, .. } => self.look_away(engine, run),
            Effect::Look { run } => self.look(now, engine.name(run.service), run),
            Effect::TellExhausted { service, .. } => {
                told(Duration::from_millis(5), Event::ExhaustedTold { service })
            }
            Effect::SendAlert { alert, .. } => self.receiver.takes(alert.number),
            Effect::AlertExpired { number } => {
                let error = Some("not in time".into());
                told(Duration::ZERO, Event::AlertSent { number, error })
            }
            Effect::CheckCancelled { check } => {
                self.mute.retain(|open| *open != check);
                Vec::new()
            }
            Effect::Listen {
                service,
                definition,
                watch,
            } => self.listen(now, (engine.name(service), service), &definition, watch),
            Effect::Unlisten { service } => {
                self.unlisten(engine.name(service));
                Vec::new()
            }
            Effect::AskDue {
                service,
                since_ms,
                definition,
            } => {
                let now_ms = now.as_millis() + self.wall_ahead_ms;
                let due = Due::look(&definition, since_ms, now_ms, &|_| 0);
                told(Duration::ZERO, Event::Due { service, due })
            }
            Effect::CountReboot { .. }
            | Effect::Reboot
            | Effect::RevertSettings
            | Effect::Record(_)
            | Effect::Remember { .. }
            | Effect::Keep { .. }
            | Effect::Answer { .. }
            | Effect::Unstore { .. }
            | Effect::RemoveDirectories { .. }
            | Effect::Forget { .. }
            | Effect::FeedWatchdog
            | Effect::TellAlive
            | Effect::BootWell
            | Effect::Exit { .. } => Vec::new(),
        }
    }

    fn spawn(&mut self, now: Time, service: &str, run: RunId, definition: &Definition) -> Answers {
        let script = self.scripts.entry(service.to_owned()).or_default().clone();
        if now < self.trouble_until {
            let error = SpawnError {
                step: "fork".into(),
                errno: 24,
                ours: true,
            };
            return told(Duration::ZERO, Event::SpawnFailed { run, error });
        }
        if let Some(error) = script.spawn_error {
            return told(Duration::ZERO, Event::SpawnFailed { run, error });
        }
        let births = self.births.entry(service.to_owned()).or_default();
        *births += 1;
        let bad = *births <= script.bad_runs;
        let pid = self.bear(now, service, run, bad);
        if !definition.sockets().is_empty() && !self.sockets(service).open {
            self.doubled = Some(format!("{service} is spawned without its sockets"));
        }
        self.serve(service);
        let started = 1;
        let mut answers = told(Duration::ZERO, Event::Spawned { run, pid, started });
        answers.extend(told(Duration::from_millis(1), Event::Executed { run }));
        if definition.notify.is_some() && !script.silent {
            if let Some(process) = self.youngest(service) {
                process.watchdog = definition.watchdog();
            }
            let what = Happening::Says {
                service: service.to_owned(),
                number: run.number,
                pid,
            };
            answers.push((script.ready_after.max(Duration::from_millis(2)), what));
        }
        if definition.kind == Kind::Forking {
            self.youngest(service)
                .into_iter()
                .for_each(|p| p.forks = true);
            let what = Happening::Forks {
                service: service.to_owned(),
                number: run.number,
            };
            answers.push((script.forks_after + Duration::from_millis(2), what));
        }
        let done = script.works.map(|after| (after, Exit::Code(0)));
        if let Some((after, exit)) = script.exits.filter(|_| bad).or(done) {
            answers.push((after, dies(service, run.number, exit)));
        }
        answers
    }

    pub(super) fn next_pid(&mut self) -> Pid {
        self.born += 1;
        Pid(1000 + self.born)
    }

    fn bear(&mut self, now: Time, service: &str, run: RunId, bad: bool) -> Pid {
        let pid = self.next_pid();
        if self.live_hook(service).is_some() {
            self.doubled = Some(format!("{service} is spawned while a command of it runs"));
        }
        let process = Process {
            pid,
            born: now,
            exit: None,
            leftovers: false,
            mood: None,
            bad,
            stuck_until: Time::ZERO,
            said: false,
            watchdog: None,
            forks: false,
            lost: false,
            forked: false,
            found: false,
        };
        self.bury(service, run.number.saturating_sub(4));
        self.processes
            .insert((service.to_owned(), run.number), process);
        pid
    }

    /// A spawn that fails: at once, or (`late`) after the process was made, which ends by that.
    pub fn spawn_fails(
        &mut self,
        now: Time,
        service: &str,
        run: RunId,
        error: SpawnError,
        late: bool,
    ) -> Answers {
        let failed = Event::SpawnFailed { run, error };
        if !late {
            return told(Duration::ZERO, failed);
        }
        let pid = self.bear(now, service, run, false);
        if let Some(process) = self.processes.get_mut(&(service.to_owned(), run.number)) {
            process.exit = Some(Exit::Code(127));
        }
        let started = 1;
        let mut answers = told(Duration::ZERO, Event::Spawned { run, pid, started });
        answers.extend(told(Duration::from_millis(1), failed));
        answers
    }

    fn signal(&mut self, service: &str, run: RunId, signal: Signal) -> Answers {
        let script = self.scripts.entry(service.to_owned()).or_default();
        let after = match signal {
            Signal(_) if script.unkillable => return Vec::new(),
            Signal::KILL => script.dies_in,
            // A thread dump.
            Signal::CONT | Signal::QUIT => return Vec::new(),
            Signal(_) => match script.stops_in {
                Some(after) => after,
                None => return Vec::new(),
            },
        };
        vec![(after, dies(service, run.number, Exit::Signal(signal)))]
    }
}

pub fn dies(service: &str, number: u32, exit: Exit) -> Happening {
    let service = service.to_owned();
    Happening::Dies {
        service,
        number,
        exit,
    }
}

pub fn finished(check: CheckId, outcome: Outcome, latency: Duration) -> Event {
    Event::ProbeFinished {
        check,
        report: Report {
            outcome,
            latency,
            output: "".into(),
        },
    }
}
