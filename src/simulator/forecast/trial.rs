//! One run of a scenario: the production engine over the fake kernel, and deeds in between.
//!
//! It knows the truth, which the engine must find out by asking: whether the service would answer
//! its users right now. Every change of that, and of what is being done about it, goes into the
//! [`Account`].

use super::super::hooks;
use super::super::kernel::{Happening, Kernel, Mood, dies};
use super::account::{Account, Sight};
use super::scenario::{Deed, Scenario, Statement, Verb, When};
use super::story::{Entry, Note, Story};
use super::{Bounds, Cast};
use crate::config::{Kind, StormLimits};
use crate::control::forecast::{Lanes, Summary};
use crate::engine::snapshot::{HoldRecord, ServiceSnapshot, WantedRecord};
use crate::engine::storm::StormRecord;
use crate::engine::{Boot, Command, Counted, Effect, Engine, Event, Found, Record, Request};
use crate::exit::Exit;
use crate::id::{Pid, RunId, ServiceId, Ticket};
use crate::limits;
use crate::time::{Time, spoken};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// What a oneshot does when nothing else is said.
const WORK: (Duration, Exit) = (Duration::from_secs(1), Exit::Code(0));

/// How long the host is away when it is rebooted.
pub(super) const REBOOT: Duration = Duration::from_secs(60);

enum Due {
    World(Happening),
    /// A statement's turn; of this run, if it is about one.
    Deed(usize, Option<u32>),
}

pub(super) struct Trial<'a> {
    cast: &'a Cast,
    scenario: &'a Scenario,
    seed: u64,
    now: Time,
    /// None while the daemon is dead.
    engine: Option<Engine>,
    kernel: Kernel,
    /// By time, and in the order in which it was caused.
    queue: BTreeMap<(Time, u64), Due>,
    caused: u64,
    /// What outlives the daemon.
    snapshots: BTreeMap<Box<str>, ServiceSnapshot>,
    wanted: BTreeMap<Box<str>, WantedRecord>,
    hold: Option<HoldRecord>,
    storm: Option<Box<StormRecord>>,
    /// When the host was rebooted for its sake; it is going down for that.
    reboots: Vec<Time>,
    rebooting: bool,
    pub story: Story,
    account: Account,
}

impl<'a> Trial<'a> {
    pub fn new(cast: &'a Cast, scenario: &'a Scenario, seed: u64, bounds: &Bounds) -> Trial<'a> {
        let mut trial = Trial {
            cast,
            scenario,
            seed,
            now: Time::ZERO,
            engine: None,
            kernel: Kernel::default(),
            queue: BTreeMap::new(),
            caused: 0,
            snapshots: BTreeMap::new(),
            wanted: BTreeMap::new(),
            hold: None,
            storm: None,
            reboots: Vec::new(),
            rebooting: false,
            story: Story::default(),
            account: Account::new(&cast.name, bounds.changes),
        };
        for loaded in &cast.definitions {
            let Ok(definition) = &loaded.definition else {
                continue;
            };
            if definition.kind == Kind::Oneshot {
                trial.kernel.script(&loaded.name).exits = Some(WORK);
            }
            if loaded.name == cast.name {
                trial.account.expect(definition);
            }
        }
        for (index, statement) in scenario.statements.iter().enumerate() {
            match statement.when {
                When::Always => trial.deed(index, None),
                When::At(at) | When::Every { from: at, .. } => {
                    trial.at(at, Due::Deed(index, None));
                }
                When::AfterStart { .. } => {}
            }
        }
        trial
    }

    /// Runs to the end; why it ended before, if it did.
    pub fn play(&mut self, bounds: &Bounds) -> Option<String> {
        let end = Time::ZERO + self.scenario.length;
        self.boot();
        let mut turns = 0;
        let cut = loop {
            let change = self.look();
            let due = self.queue.keys().next().map(|(at, _)| *at);
            let deadline = self.engine.as_mut().and_then(Engine::deadline);
            let next = [due, deadline, change].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at < end) else {
                self.now = self.now.max(end);
                break None;
            };
            self.now = self.now.max(next);
            if due == Some(next) || deadline == Some(next) {
                self.turn();
            }
            turns += 1;
            if turns > bounds.turns || self.story.len() > bounds.lines {
                let what = if turns > bounds.turns {
                    "turns of the loop"
                } else {
                    "events"
                };
                break Some(format!(
                    "more {what} than are simulated: ask for a shorter time"
                ));
            }
        };
        self.look();
        self.account.close(self.now);
        cut
    }

    pub fn now(&self) -> Time {
        self.now
    }

    /// What came of it.
    pub fn finish(self) -> (Summary, Lanes) {
        self.account.tell(self.snapshots.get(&self.cast.name))
    }

    // --- the truth

    /// Tells the account how it is now; when that will change without anything happening.
    fn look(&mut self) -> Option<Time> {
        let (up, run, change) = self.answers();
        let alive = self.engine.is_some();
        let snapshot = self.snapshots.get(&self.cast.name);
        let sight = Sight { up, run, alive };
        self.account.look(self.now, &sight, snapshot);
        change
    }

    /// Would it answer its users? Which run; and when it will without anything happening.
    fn answers(&mut self) -> (bool, u32, Option<Time>) {
        let name = &self.cast.name;
        let Some(number) = self.kernel.youngest_number(name) else {
            return (false, 0, None);
        };
        let script = self.kernel.script(name);
        let (ready_after, mood) = (script.ready_after, script.moods.get("").cloned());
        let Some(process) = self.kernel.process(name, number) else {
            return (false, number, None);
        };
        if process.exit.is_some() {
            return (false, number, None);
        }
        let ready = process.born + ready_after;
        if self.now < ready {
            return (false, number, Some(ready));
        }
        let mood = process.mood.clone().or(mood).unwrap_or(Mood::Answer);
        // That we cannot ask is nothing to its users.
        let up = matches!(mood, Mood::Answer | Mood::Trouble(_));
        (up, number, None)
    }

    // --- the loop

    fn at(&mut self, at: Time, due: Due) {
        self.caused += 1;
        self.queue.insert((at, self.caused), due);
    }

    fn after(&mut self, after: Duration, event: Event) {
        self.at(self.now + after, Due::World(Happening::Told(event)));
    }

    fn ready(&mut self) -> Option<Due> {
        let entry = self.queue.first_entry()?;
        (entry.key().0 <= self.now).then(|| entry.remove())
    }

    /// As the real loop does: what has happened, then the timers; what that leads to at once, too.
    fn turn(&mut self) {
        self.handle(Event::Turn);
        for _ in 0..1000 {
            while let Some(due) = self.ready() {
                match due {
                    Due::World(Happening::Told(event)) => self.handle(event),
                    Due::World(Happening::Says {
                        service,
                        number,
                        pid,
                    }) => self.says(service, number, pid),
                    Due::World(Happening::Boots) => self.boot(),
                    Due::World(happening) => self.dies(happening),
                    Due::Deed(index, run) => self.deed(index, run),
                }
            }
            self.handle(Event::Timers);
            if self
                .queue
                .keys()
                .next()
                .is_none_or(|(at, _)| *at > self.now)
            {
                return;
            }
        }
    }

    /// A process says of itself what its definition expects, and goes on doing so.
    fn says(&mut self, service: String, number: u32, pid: Pid) {
        let Some((says, again)) = self.kernel.says(self.now, &service, number, pid) else {
            return;
        };
        let known = self.engine.as_ref().and_then(|e| e.find(&service));
        if let (Some(id), false) = (known, says.is_empty()) {
            let run = RunId {
                service: id,
                number,
            };
            self.handle(Event::Notified { run, says });
        }
        if let Some(after) = again {
            let what = Happening::Says {
                service,
                number,
                pid,
            };
            self.at(self.now + after, Due::World(what));
        }
    }

    fn dies(&mut self, happening: Happening) {
        let (service, number, exit) = match happening {
            Happening::Dies {
                service,
                number,
                exit,
            } => (service, number, exit),
            Happening::HookDies {
                service,
                number,
                hook,
                exit,
            } => {
                let lived = self.kernel.end_hook(&service, number, hook, exit);
                let known = self.engine.as_ref().and_then(|e| e.find(&service));
                if let (true, Some(service)) = (lived, known) {
                    let run = RunId { service, number };
                    self.handle(hooks::ended(run, hook, exit, None));
                }
                return;
            }
            Happening::Forks { service, number } => {
                let known = self.engine.as_ref().and_then(|e| e.find(&service));
                if let (true, Some(service)) = (self.kernel.forks(&service, number), known) {
                    self.handle(Event::Exited {
                        run: RunId { service, number },
                        exit: Exit::Code(0),
                        tree_gone: false,
                    });
                }
                return;
            }
            Happening::Told(_)
            | Happening::Ghost(_)
            | Happening::Boots
            | Happening::Says { .. } => return,
        };
        let Some(leaves) = self.kernel.end(&service, number, exit) else {
            return;
        };
        if self.kernel.is_unwatched(&service, number) {
            return;
        }
        if let Some(service) = self
            .engine
            .as_ref()
            .and_then(|engine| engine.find(&service))
        {
            let run = RunId { service, number };
            let tree_gone = !leaves;
            self.handle(Event::Exited {
                run,
                exit,
                tree_gone,
            });
        }
    }

    fn handle(&mut self, event: Event) {
        let Some(engine) = self.engine.as_mut() else {
            return;
        };
        let mut effects = Vec::new();
        engine.handle(self.now, event, &mut effects);
        for effect in effects {
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Record(record) => self.record(record),
            Effect::Remember { seq, wanted } => {
                self.wanted.insert(wanted.name.clone(), wanted);
                self.after(
                    Duration::from_millis(5),
                    Event::Durable { seq, error: None },
                );
            }
            Effect::Answer { answer, .. } => {
                if let Err(refusal) = answer {
                    let words = format!("refused: {}", refusal.message.replace('\n', "; "));
                    self.note("scenario", None, &words);
                }
            }
            Effect::CountReboot { service } => {
                let counted = self.count_reboot();
                let event = Event::RebootCounted { service, counted };
                self.after(Duration::from_millis(5), event);
            }
            Effect::Reboot => self.rebooting = true,
            Effect::Exit { .. } => {
                self.daemon_dies();
                self.reboot_if_due();
            }
            effect => {
                let Some(engine) = self.engine.as_ref() else {
                    return;
                };
                let spawned = match &effect {
                    Effect::Spawn { run, .. } => {
                        Some((engine.name(run.service).to_owned(), run.number))
                    }
                    _ => None,
                };
                for (after, what) in self.kernel.perform(self.now, engine, effect) {
                    self.at(self.now + after, Due::World(what));
                }
                if let Some((name, number)) = spawned {
                    self.foresee(&name, number);
                }
            }
        }
    }

    /// What a run will do by itself, so long after its birth.
    fn foresee(&mut self, name: &str, number: u32) {
        for (index, statement) in self.scenario.statements.iter().enumerate() {
            if let When::AfterStart { after, from, until } = statement.when
                && (from..until).contains(&self.now)
                && self.whose(statement) == name
            {
                self.at(self.now + after, Due::Deed(index, Some(number)));
            }
        }
    }

    fn record(&mut self, record: Record) {
        match record {
            Record::Service(snapshot) => {
                self.snapshots.insert(snapshot.name.clone(), *snapshot);
            }
            Record::Transition(transition) => {
                self.account.transition(&transition);
                self.story.push(Entry::Transition(transition));
            }
            Record::Decision(decision) => {
                self.account.decision(&decision);
                self.story.decision(decision);
            }
            Record::Hold(hold) => {
                let words = match &hold {
                    Some(hold) => format!("held, by {}", hold.owner),
                    None => "released".to_owned(),
                };
                if hold.is_some() || self.hold.is_some() {
                    self.note("hold", None, &words);
                }
                self.hold = hold;
            }
            Record::Storm(storm) => self.storm = Some(storm),
            // No scenario reloads, and nobody is told.
            Record::Reload(_) | Record::Alert(_) => {}
        }
    }

    // --- the daemon's life

    fn boot(&mut self) {
        self.engine = Some(Engine::new(self.now, self.seed));
        let services = self.snapshots.values().map(|snapshot| {
            let found = self.found(snapshot);
            (snapshot.clone(), found)
        });
        let (transitions, decisions) = self.story.last();
        let boot = Boot {
            definitions: self.cast.definitions.clone(),
            wanted: self.wanted.values().cloned().collect(),
            services: services.collect(),
            transitions,
            decisions,
            hold: self.hold.clone(),
            limits: StormLimits::STANDARD,
            storm: self.storm.clone(),
            wall_ms: self.now.as_millis(),
            deaf: Some(true),
            reboots: true,
            ..Boot::default()
        };
        self.handle(Event::Turn);
        self.handle(Event::Boot(Box::new(boot)));
        let engine = self.engine.as_ref();
        let snapshots = self.snapshots.values();
        let found = snapshots.filter_map(|known| {
            let id = engine?.find(&known.name)?;
            self.kernel.found_hook(id, known)
        });
        for event in found.collect::<Vec<_>>() {
            self.handle(event);
        }
        self.turn();
    }

    fn found(&self, snapshot: &ServiceSnapshot) -> Found {
        let ended = snapshot.run.as_ref().is_none_or(|run| run.exit.is_some());
        match self.kernel.process(&snapshot.name, snapshot.number) {
            Some(process) if !ended => match process.exit {
                None => Found::Alive {
                    pid: process.pid,
                    started: 1,
                },
                Some(exit) => Found::Ended(exit),
            },
            Some(_) | None => Found::Gone,
        }
    }

    fn daemon_dies(&mut self) {
        self.engine = None;
        self.queue
            .retain(|_, due| !matches!(due, Due::World(Happening::Told(_))));
    }

    fn count_reboot(&mut self) -> Counted {
        let since = self.now - limits::REBOOTS_WITHIN;
        let lately = self.reboots.iter().filter(|at| **at > since).count();
        if lately >= limits::REBOOTS {
            return Counted::TooMany;
        }
        self.reboots.push(self.now);
        Counted::Yes
    }

    /// All is stopped: nothing of this boot is left but what operators want.
    fn reboot_if_due(&mut self) {
        if !std::mem::take(&mut self.rebooting) {
            return;
        }
        let words = format!("the host reboots, and is back in {}", spoken(REBOOT));
        self.note("host", None, &words);
        self.kernel.reboot();
        self.queue
            .retain(|_, due| matches!(due, Due::Deed(_, None)));
        self.snapshots.clear();
        (self.hold, self.storm) = (None, None);
        self.at(self.now + REBOOT, Due::World(Happening::Boots));
    }

    // --- deeds

    fn whose<'s>(&'s self, statement: &'s Statement) -> &'s str {
        statement.service.as_deref().unwrap_or(&self.cast.name)
    }

    fn note(&mut self, kind: &'static str, service: Option<(Rc<str>, u32)>, words: &str) {
        let (service, run) = service.unwrap_or_default();
        self.story.push(Entry::Note(Note {
            at: self.now,
            kind,
            service,
            run,
            words: words.into(),
        }));
    }

    fn deed(&mut self, index: usize, run: Option<u32>) {
        let scenario = self.scenario;
        let Some(statement) = scenario.statements.get(index) else {
            return;
        };
        if let When::Every { every, until, .. } = statement.when {
            let next = self.now + every;
            if next <= until {
                self.at(next, Due::Deed(index, None));
            }
        }
        let name: Rc<str> = self.whose(statement).into();
        let youngest = self.kernel.youngest_number(&name).unwrap_or(0);
        let alive = self
            .kernel
            .process(&name, youngest)
            .is_some_and(|process| process.exit.is_none());
        if run.is_some_and(|run| run != youngest || !alive) {
            return;
        }
        let mut words = statement.words.to_string();
        let about_run = match &statement.deed {
            Deed::Dies(_) => true,
            Deed::Mood { for_good, .. } => !*for_good,
            _ => false,
        };
        if about_run && !alive {
            words.push_str(", but nothing of it runs");
        }
        let about_service = !matches!(
            statement.deed,
            Deed::Hold(_)
                | Deed::Release
                | Deed::DaemonDies
                | Deed::DaemonStarts
                | Deed::Suspend(_)
                | Deed::Starve(_)
        );
        if statement.when != When::Always {
            let whose = about_service.then(|| (name.clone(), if alive { youngest } else { 0 }));
            self.note("scenario", whose, &words);
        }
        self.carry_out(&statement.deed, &name, youngest);
    }

    fn carry_out(&mut self, deed: &Deed, name: &str, youngest: u32) {
        match deed {
            Deed::Mood { mood, for_good } => {
                if *for_good {
                    let moods = &mut self.kernel.script(name).moods;
                    moods.insert(String::new(), mood.clone());
                }
                if let Some(process) = self.kernel.youngest(name) {
                    process.mood = (!for_good).then(|| mood.clone());
                }
            }
            Deed::Answer => {
                self.kernel.script(name).moods.clear();
                if let Some(process) = self.kernel.youngest(name) {
                    process.mood = None;
                }
            }
            Deed::Dies(exit) => self.dies(dies(name, youngest, *exit)),
            Deed::SlowStart(length) => self.kernel.script(name).ready_after = *length,
            Deed::SlowStop(length) => self.kernel.script(name).stops_in = *length,
            Deed::Operator(verb) => self.operator(*verb, name),
            Deed::Hold(length) => self.request(Command::Hold { length: *length }),
            Deed::Release => self.request(Command::Release),
            Deed::DaemonDies => self.daemon_dies(),
            Deed::DaemonStarts if self.engine.is_none() => self.boot(),
            Deed::DaemonStarts => {}
            Deed::Suspend(length) => self.handle(Event::Resumed(*length)),
            Deed::Starve(length) => {
                self.now = self.now + *length;
                self.handle(Event::Turn);
            }
        }
    }

    fn operator(&mut self, verb: Verb, name: &str) {
        let find = |engine: &Engine| engine.find(name);
        let Some(service) = self.engine.as_ref().and_then(find) else {
            return self.no_daemon();
        };
        self.request(command(verb, service));
    }

    fn no_daemon(&mut self) {
        self.note("scenario", None, "no daemon is there to be asked");
    }

    fn request(&mut self, command: Command) {
        if self.engine.is_none() {
            return self.no_daemon();
        }
        self.handle(Event::Request(Request {
            ticket: Ticket(0),
            actor: "an operator".into(),
            wall_ms: self.now.as_millis(),
            wait: false,
            command,
        }));
    }
}

fn command(verb: Verb, service: ServiceId) -> Command {
    match verb {
        Verb::Start => Command::Start {
            service,
            with_requires: false,
        },
        Verb::Stop => Command::Stop { service },
        Verb::Restart => Command::Restart { service },
        Verb::Reset => Command::Reset { service },
    }
}
