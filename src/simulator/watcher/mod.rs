//! The promises of the design, checked from the outside after each event.
//!
//! It sees what the engine is told and what it wants done, what the kernel knows to be so, what
//! the journal holds, and what an operator is shown. `book` is its model of a service; `effects`
//! checks what is done, `rules` what is shown, `ties` what services are to each other.
//!
//! Invariant: it changes nothing, and the first breach is the one that is told.

mod alerts;
mod book;
mod effects;
mod events;
mod evidence;
mod groups;
mod ladder;
mod looks;
mod provisional;
mod rules;
mod says;
mod settings;
mod sockets;
mod storm;
mod ties;
mod timers;
mod words;

use crate::engine::snapshot::{HoldRecord, WantedRecord};
use crate::engine::{Command, Event, HostRules};
use crate::id::{CheckId, Pid, RunId, ServiceId, Ticket};
use crate::service::state::Cause;
use crate::simulator::store::Store;
use crate::time::Time;
use book::Book;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Default)]
pub struct Watcher {
    /// Answers to probes by hand take as much longer.
    pace: u32,
    /// That may be under way at once.
    pub(super) most_checks: Option<u32>,
    rules: HostRules,
    /// Nothing is wrong with any service: none may be touched.
    calm: bool,
    breach: Option<String>,
    books: BTreeMap<String, Book>,
    ids: BTreeMap<ServiceId, String>,
    hold: Option<HoldRecord>,
    /// When the last one ended by itself.
    hold_over: Option<Time>,
    shutting: bool,
    /// How late the loop was, and how long there was no daemon, in all.
    stolen: Duration,
    /// The loop's lateness as it counts: beyond the bound.
    late: Duration,
    died_at: Time,
    /// Perhaps amid the effects of an event.
    amid: bool,
    /// Requests without an answer; when one is due, where it is.
    tickets: BTreeMap<Ticket, Option<(Time, Duration)>>,
    /// What a request that waits to be durable said of whom.
    promises: BTreeMap<Ticket, Promise>,
    /// Daemons before this one.
    life: u32,
    /// Checks that were asked for by hand.
    manual: BTreeSet<CheckId>,
    /// A oneshot that was done and is undone: what that left behind is ended last.
    undone: Option<RunId>,
    step: Step,
    /// What comes back when a reload is not confirmed, or came back.
    kept: Option<provisional::Kept>,
    alerts: alerts::AlertBook,
    /// The power has not gone since the last daemon.
    same_boot: bool,
    /// As it was before this event, should the daemon die of it.
    before: Option<(BTreeMap<String, Book>, Option<HoldRecord>)>,
    line: storm::Line,
    turns: u64,
    turn_at: Time,
    turns_then: u32,
}

/// What is durable when the answer says so.
#[derive(Clone, PartialEq, Eq)]
enum Promise {
    Will(String, bool),
    /// A definition that was given or deleted.
    Given(String),
}

/// What is known of the event being handled.
#[derive(Default)]
struct Step {
    words: String,
    stale: bool,
    boot: bool,
    /// What was found alive.
    adopted: BTreeMap<String, Pid>,
    timers: bool,
    /// It is known what a calendar says.
    due: bool,
    reload: bool,
    read: Option<provisional::Read>,
    /// Who was wanted before definitions came that may go again.
    wanted_then: BTreeSet<String>,
    /// It was found that a reload must go back, by an event of its own.
    verdict: bool,
    resumed: bool,
    /// Cause of all stops of all services in it, where it is not health.
    asked: Option<(Ticket, Command, String)>,
    /// Whose snapshots are among its effects; which of them are performed.
    recorded: BTreeSet<String>,
    performed: BTreeSet<String>,
    /// What is wanted of whom, by the snapshots among its effects.
    wills: BTreeMap<String, bool>,
    hold_recorded: bool,
    hold_performed: bool,
    decided: BTreeSet<String>,
    /// Who is stopped with what it requires.
    followed: BTreeSet<String>,
    /// Who is restarted with another.
    with: BTreeSet<String>,
    /// Whose budget was found to be spent.
    denied: BTreeSet<String>,
    /// Who ended by itself, and as what that is to be told.
    ended: Option<(String, Cause)>,
    /// Automatic stops that want a decision.
    stopped: BTreeSet<String>,
    moved: bool,
}

impl Promise {
    fn of(&self) -> &str {
        match self {
            Promise::Will(name, _) | Promise::Given(name) => name,
        }
    }
}

impl Watcher {
    pub fn new(services: impl Iterator<Item = String>, pace: u32) -> Watcher {
        Watcher {
            pace,
            most_checks: None,
            books: services.map(|name| (name, Book::default())).collect(),
            ..Watcher::default()
        }
    }

    /// The first promise that was broken.
    pub fn found(&self) -> Option<&str> {
        self.breach.as_deref()
    }

    pub fn breach(&mut self, now: Time, words: String) {
        if self.breach.is_none() {
            let (ms, during) = (now.as_millis(), &self.step.words);
            let seconds = format!("{}.{:03}", ms / 1000, ms % 1000);
            self.breach = Some(format!("at {seconds}, {words} (event: {during})"));
        }
    }

    /// From now on nothing is wrong with any service.
    pub fn be_calm(&mut self) {
        self.calm = true;
    }

    /// Turns of the loop so far.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// Whether a death may come with the next event: what was before it is kept.
    pub fn brace(&mut self) {
        self.before = Some((self.books.clone(), self.hold.clone()));
    }

    /// An event that speaks of a run or a check that is over.
    pub fn is_stale(&self, event: &Event) -> bool {
        let of = |run: &crate::id::RunId| {
            let book = self
                .ids
                .get(&run.service)
                .and_then(|name| self.books.get(name));
            let known = book.and_then(|book| book.run.as_ref());
            known.filter(|known| known.number == run.number)
        };
        match event {
            Event::Spawned { run, .. }
            | Event::Notified { run, .. }
            | Event::Executed { run }
            | Event::SpawnFailed { run, .. } => of(run).is_none(),
            Event::OutOfMemory { run, .. } | Event::Exited { run, .. } => {
                of(run).is_none_or(|run| run.exit.is_some() || run.is_seeking())
            }
            Event::Looked { run, .. } => of(run).is_none(),
            Event::MainSought { run, .. } => of(run).is_none_or(|run| !run.is_seeking()),
            Event::HookSpawned { .. } | Event::HookEnded { .. } | Event::EvidenceDone { .. } => {
                false
            }
            Event::TreeEnded { run, .. } => match of(run) {
                Some(run) => run.exit.is_none(),
                None => self.undone != Some(*run) && !self.is_swept_after_repair(run),
            },
            Event::ProbeFinished { check, .. } => {
                let probe = of(&check.run)
                    .filter(|run| run.is_judged())
                    .and_then(|run| run.probes.get(usize::from(check.probe)));
                let open = probe
                    .and_then(|p| p.open)
                    .is_some_and(|o| o.0 == check.serial);
                !open && !self.manual.contains(check)
            }
            Event::Boot(_)
            | Event::Turn
            | Event::Timers
            | Event::Resumed(_)
            | Event::Request(_)
            | Event::Durable { .. }
            | Event::Stored { .. }
            | Event::Due { .. }
            | Event::ClockSet(_)
            | Event::RebootCounted { .. }
            | Event::Listening { .. }
            | Event::Connected { .. }
            | Event::ExhaustedTold { .. }
            | Event::AlertSent { .. }
            | Event::Reloaded { .. } => false,
        }
    }

    /// The daemon was killed, perhaps amid the effects of an event: of a service whose snapshot
    /// was not written, what the event brought is unknown to the next daemon.
    pub fn daemon_died(&mut self, now: Time) {
        self.amid = self.before.is_some();
        if let Some((books, hold)) = self.before.take() {
            for name in self.step.recorded.difference(&self.step.performed) {
                if let Some(old) = books.get(name) {
                    self.books.insert(name.clone(), old.clone());
                }
            }
            if self.step.hold_recorded && !self.step.hold_performed {
                self.hold = hold;
            }
        }
        self.step.recorded.clear();
        self.died_at = now;
        self.tickets.clear();
        self.promises.clear();
        self.manual.clear();
        self.shutting = false;
        self.life += 1;
    }

    /// The power went: nothing runs, and of the operator's will there is what was durable.
    pub fn power_went(&mut self, store: &Store) {
        self.same_boot = false;
        self.hold = None;
        self.line.forget();
        let written: BTreeMap<&str, &WantedRecord> = store
            .wanted()
            .map(|record| (&*record.name, record))
            .collect();
        let mut lost = None;
        for (name, book) in &mut self.books {
            let record = written.get(name.as_str());
            let found = record.map(|record| &*record.wanted == "start");
            let given = record.and_then(|record| record.definition.clone());
            if book.durable.is_some() && book.durable != found {
                lost = Some(name.clone());
            }
            if book.durable_given.as_ref().is_some_and(|d| *d != given) {
                lost = Some(name.clone());
            }
            *book = Book {
                wanted: found,
                said: record.is_some_and(|record| !record.by.is_empty()),
                pinned: record.is_some_and(|record| record.pinned),
                durable: book.durable,
                durable_given: book.durable_given.take(),
                ..Book::default()
            };
        }
        if let Some(name) = lost {
            let words = format!("{name}: what was answered to be durable is not on the disk");
            self.breach(self.died_at, words);
        }
    }

    /// The loop has nothing more to do now; the next timer is due at `due`.
    pub fn turn_ended(&mut self, now: Time, due: Time) {
        let reload = self.step.verdict || self.goes_back();
        if due <= now && !reload {
            self.breach(now, "a timer that is due was not fired".to_owned());
        }
        self.turns += 1;
        self.turns_then = if self.turn_at == now {
            self.turns_then + 1
        } else {
            0
        };
        self.turn_at = now;
        let allowed = 20_000 + now.as_millis() / 10 * self.books.len() as u64;
        if self.turns_then > 100 || self.turns > allowed {
            self.breach(now, "the loop turns and turns".to_owned());
        }
        let stolen = self.stolen;
        let late = self.tickets.iter().find(|(_, due)| {
            due.is_some_and(|(due, then)| due + stolen.saturating_sub(then) < now)
        });
        if let Some((ticket, _)) = late {
            let words = format!("request {} was never answered", ticket.0);
            self.breach(now, words);
        }
    }

    /// Automatic restarts wait.
    fn is_held(&self, now: Time) -> bool {
        let hold = self.hold.as_ref();
        hold.is_some_and(|hold| hold.until.is_none_or(|until| now < until))
    }
}
