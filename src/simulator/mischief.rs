//! What goes wrong between the engine and the world, by chance and by seed.
//!
//! Each kind of fault has its own generator, so that taking one away leaves the others as they
//! were: that is what makes a failing plan shrink.
//!
//! Invariant: what happens here can happen to the real loop, but for ghosts, which are delivered
//! on purpose and only where they speak of something that is over.

use super::World;
use super::kernel::Happening;
use super::plan::{Fault, Weights};
use crate::engine::{Event, SpawnError};
use crate::exit::errno_words;
use crate::id::RunId;
use crate::prng::Prng;
use crate::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Events kept to be delivered once more.
const REMEMBERED: usize = 48;

pub struct Mischief {
    weights: Weights,
    pace: u32,
    dice: BTreeMap<Fault, Prng>,
    /// What was told about a run comes in the order in which it happened.
    told: BTreeMap<RunId, Time>,
    past: VecDeque<Event>,
}

impl Mischief {
    pub fn new(seed: u64, pace: u32, weights: &Weights) -> Mischief {
        let dice = Fault::ALL.map(|fault| {
            let salt = (fault as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (fault, Prng::new(seed ^ salt))
        });
        Mischief {
            weights: weights.clone(),
            pace,
            dice: dice.into(),
            told: BTreeMap::new(),
            past: VecDeque::new(),
        }
    }

    fn below(&mut self, fault: Fault, bound: u64) -> u64 {
        self.dice
            .get_mut(&fault)
            .map_or(0, |dice| dice.below(bound))
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        let weight = self.weights.of(fault);
        weight > 0 && self.below(fault, 1000) < u64::from(weight)
    }

    /// Up to `most`, most often little.
    fn some(&mut self, fault: Fault, most: Duration) -> Duration {
        let most = most.as_micros() as u64;
        let scale = self.below(fault, 10);
        Duration::from_micros(self.below(fault, (most >> scale).max(1)))
    }

    /// How long the loop was not served before this turn.
    pub fn slow_turn(&mut self) -> Duration {
        match self.strikes(Fault::SlowTurn) {
            true => self.some(Fault::SlowTurn, Duration::from_secs(20)),
            false => Duration::ZERO,
        }
    }

    /// Whether the kernel tells how a process ended that was not our child.
    pub fn tells_ends(&mut self) -> bool {
        self.below(Fault::Death, 2) == 0
    }

    /// An event that reached the engine.
    pub fn saw(&mut self, event: &Event) {
        if run_of(event).is_none() || self.weights.of(Fault::Ghost) == 0 {
            return;
        }
        if self.past.len() == REMEMBERED {
            self.past.pop_front();
        }
        self.past.push_back(event.clone());
    }

    /// Numbers of checks begin anew with the next daemon; what the old one asked is closed.
    pub fn daemon_died(&mut self) {
        self.told.clear();
        self.past.clear();
    }

    fn delay(&mut self, event: &Event) -> Duration {
        // The call that makes a process tells its number when it returns.
        // So does the one that opens a socket.
        let at_once = matches!(
            event,
            Event::Spawned { .. }
                | Event::HookSpawned { .. }
                | Event::Listening { .. }
                | Event::Connected { .. }
        );
        if at_once || !self.strikes(Fault::Late) {
            return Duration::ZERO;
        }
        match event {
            Event::ProbeFinished { .. } => {
                self.some(Fault::Late, Duration::from_secs(15) * self.pace)
            }
            _ => self.some(Fault::Late, Duration::from_secs(4)),
        }
    }

    fn spawn_error(&mut self) -> Option<(SpawnError, bool)> {
        let ours = self.strikes(Fault::Fork);
        let theirs = self.strikes(Fault::Exec);
        let fault = if ours { Fault::Fork } else { Fault::Exec };
        if !ours && !theirs {
            return None;
        }
        let late = self.below(fault, 2) == 0;
        let (step, errno) = match ours {
            true => ("fork", 11),
            false => ("exec", 2),
        };
        let error = SpawnError {
            step: step.into(),
            errno,
            ours,
        };
        Some((error, late))
    }
}

/// The run an event speaks of; None: of no run.
pub fn run_of(event: &Event) -> Option<RunId> {
    match event {
        Event::Spawned { run, .. }
        | Event::Executed { run }
        | Event::SpawnFailed { run, .. }
        | Event::Exited { run, .. }
        | Event::HookSpawned { run, .. }
        | Event::HookEnded { run, .. }
        | Event::TreeEnded { run, .. }
        | Event::OutOfMemory { run, .. }
        | Event::MainSought { run, .. }
        | Event::EvidenceDone { run, .. }
        | Event::Notified { run, .. } => Some(*run),
        Event::ProbeFinished { check, .. } => Some(check.run),
        Event::Boot(_)
        | Event::Turn
        | Event::Timers
        | Event::Resumed(_)
        | Event::Request(_)
        | Event::Durable { .. }
        | Event::Stored { .. }
        | Event::Listening { .. }
        | Event::Connected { .. }
        | Event::ExhaustedTold { .. }
        | Event::Reloaded { .. } => None,
    }
}

impl World {
    /// What an effect leads to, as late, as often or as never as the dice say.
    pub(super) fn answers(&mut self, answers: Vec<(Duration, Happening)>) {
        for (after, what) in answers {
            let (Happening::Told(event), Some(mischief)) = (&what, &mut self.mischief) else {
                self.happens(after, what);
                continue;
            };
            let event = event.clone();
            if matches!(event, Event::TreeEnded { .. }) && mischief.strikes(Fault::LostTree) {
                self.say("! the helper that ends a tree is gone without a word");
                continue;
            }
            let mut at = self.now + after + mischief.delay(&event);
            if let (Some(run), false) = (run_of(&event), is_answer(&event)) {
                let told = mischief.told.entry(run).or_default();
                at = at.max(*told);
                *told = at;
            }
            let twice = mischief.strikes(Fault::Double);
            let again = mischief.some(Fault::Double, Duration::from_secs(60));
            let after = at.since(self.now);
            self.happens(after, what);
            if twice {
                self.happens(after + again, Happening::Ghost(event));
            }
            self.haunt();
        }
    }

    /// An event of the past comes once more.
    fn haunt(&mut self) {
        let Some(mischief) = &mut self.mischief else {
            return;
        };
        if !mischief.strikes(Fault::Ghost) {
            return;
        }
        let which = mischief.below(Fault::Ghost, mischief.past.len() as u64) as usize;
        let at_once = mischief.below(Fault::Ghost, 2) == 0;
        let later = mischief.some(Fault::Ghost, Duration::from_secs(10));
        let after = if at_once { Duration::ZERO } else { later };
        if let Some(event) = mischief.past.get(which).cloned() {
            self.happens(after, Happening::Ghost(event));
        }
    }

    /// Whether this spawn fails by chance; what it leads to is on its way then.
    pub(super) fn fails(&mut self, run: RunId) -> bool {
        let Some((error, late)) = self.mischief.as_mut().and_then(Mischief::spawn_error) else {
            return false;
        };
        let Some(name) = self.engine.as_ref().map(|e| e.name(run.service).to_owned()) else {
            return false;
        };
        let (step, errno) = (&error.step, errno_words(error.errno));
        self.say(&format!("! {name}: {step} fails: {errno}"));
        let answers = self.kernel.spawn_fails(self.now, &name, run, error, late);
        self.answers(answers);
        true
    }
}

fn is_answer(event: &Event) -> bool {
    matches!(event, Event::ProbeFinished { .. })
}
