//! One event through the door, watched; deaths between two of its effects; commands that wait for
//! the worst moment.

use super::World;
use super::kernel::Happening;
use crate::engine::story::TransitionKind;
use crate::engine::{Effect, Engine, Event, Record};
use std::time::Duration;

/// A kind of effect, as a moment for something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    Spawn,
    Signal,
    Tree,
    Decision,
    State,
    Check,
    Answer,
}

pub struct Armed {
    pub moment: Moment,
    pub command: String,
}

/// The daemon dies after so many of the next effects.
#[derive(Clone, Copy, Debug)]
pub struct Doom {
    pub after: usize,
    pub down: Duration,
    /// And all processes with it, and the runtime journal.
    pub reboot: bool,
}

impl Moment {
    pub const ALL: [Moment; 7] = [
        Moment::Spawn,
        Moment::Signal,
        Moment::Tree,
        Moment::Decision,
        Moment::State,
        Moment::Check,
        Moment::Answer,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Moment::Spawn => "spawn",
            Moment::Signal => "signal",
            Moment::Tree => "tree",
            Moment::Decision => "decision",
            Moment::State => "state",
            Moment::Check => "check",
            Moment::Answer => "answer",
        }
    }

    pub fn parse(word: &str) -> Option<Moment> {
        Moment::ALL.into_iter().find(|moment| moment.word() == word)
    }

    fn is(self, effect: &Effect) -> bool {
        match effect {
            Effect::Spawn { .. } => self == Moment::Spawn,
            Effect::Hook { .. } => self == Moment::Spawn,
            Effect::Signal { .. } | Effect::HookSignal { .. } => self == Moment::Signal,
            Effect::EndTree { .. } | Effect::KillTree { .. } => self == Moment::Tree,
            Effect::Record(Record::Decision(_)) => self == Moment::Decision,
            Effect::Record(Record::Transition(t)) => {
                self == Moment::State && t.kind == TransitionKind::State
            }
            Effect::Check { .. } | Effect::CheckExpired { .. } => self == Moment::Check,
            Effect::Answer { .. } => self == Moment::Answer,
            Effect::Record(
                Record::Service(_)
                | Record::Hold(_)
                | Record::Reload(_)
                | Record::Alert(_)
                | Record::Storm(_),
            )
            | Effect::SendAlert { .. }
            | Effect::AlertExpired { .. }
            | Effect::Remember { .. }
            | Effect::Keep { .. }
            | Effect::CheckCancelled { .. }
            | Effect::Look { .. }
            | Effect::TellExhausted { .. }
            | Effect::FindMain { .. }
            | Effect::CollectEvidence { .. }
            | Effect::EvidenceOver { .. }
            | Effect::RemoveDirectories { .. }
            | Effect::AskDue { .. }
            | Effect::CountReboot { .. }
            | Effect::Reboot
            | Effect::RevertSettings
            | Effect::Listen { .. }
            | Effect::Unlisten { .. }
            | Effect::Unstore { .. }
            | Effect::Forget { .. }
            | Effect::FeedWatchdog
            | Effect::TellAlive
            | Effect::BootWell
            | Effect::Exit { .. } => false,
        }
    }
}

impl World {
    pub(super) fn handle(&mut self, event: Event) {
        let Some(mut engine) = self.engine.take() else {
            return;
        };
        self.events += 1;
        if let Event::Durable { seq, error: None } = &event {
            self.store.written(*seq);
        }
        let doomed = self.doom.is_some()
            || self
                .armed
                .iter()
                .any(|armed| armed.command.starts_with("die "));
        if let Some(watcher) = &mut self.watcher {
            if doomed {
                watcher.brace();
            }
            watcher.event(self.now, &event, &mut engine, &self.store);
        }
        if let Some(mischief) = &mut self.mischief {
            mischief.saw(&event);
        }
        let mut expected = Vec::new();
        let twin = self.twin.as_mut().map(|twin| {
            twin.handle(self.now, event.clone(), &mut expected);
        });
        let mut effects = Vec::new();
        self.told(&engine, &event);
        engine.handle(self.now, event, &mut effects);
        if let Some(recorder) = &mut self.recorder {
            recorder.effects(&effects);
        }
        self.engine = Some(engine);
        if twin.is_some() && effects != expected {
            self.breach("the same seed and events gave other effects".to_owned());
        }
        if let Some(watcher) = &mut self.watcher {
            watcher.effects(self.now, &effects);
        }
        let commands = self.triggered(&effects);
        let cut = match self.doom.take() {
            Some(doom) if effects.is_empty() => {
                self.doom = Some(doom);
                None
            }
            doom => doom.map(|doom| (doom.after % (effects.len() + 1), doom)),
        };
        for (at, effect) in effects.into_iter().enumerate() {
            if let Some((_, doom)) = cut.filter(|(cut, _)| *cut == at) {
                return self.meets(doom);
            }
            if let (Some(watcher), Some(engine)) = (&mut self.watcher, &self.engine) {
                watcher.effect(self.now, &effect, engine, &self.kernel, &self.store);
            }
            self.tell(&effect);
            self.perform(effect);
            if self.engine.is_none() {
                return;
            }
        }
        let wall = self.wall();
        if let (Some(watcher), Some(engine)) = (&mut self.watcher, &mut self.engine) {
            watcher.finished(wall, engine, &self.kernel);
        }
        if let Some((_, doom)) = cut {
            return self.meets(doom);
        }
        for command in commands {
            // A command that makes no sense now is one that nobody would give.
            let _ = self.command(&command);
        }
    }

    /// Into the recording, where there is one.
    fn told(&mut self, engine: &Engine, event: &Event) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        let part = self.events_per_part;
        if part > 0 && recorder.events() > 0 && recorder.events() % part == 0 {
            recorder.begin(engine, self.now, self.now.as_millis(), "");
        }
        recorder.event(self.now, event);
    }

    /// The commands whose moment has come; a death among them is prepared for these effects.
    fn triggered(&mut self, effects: &[Effect]) -> Vec<String> {
        let mut commands = Vec::new();
        let mut waiting = Vec::new();
        for armed in std::mem::take(&mut self.armed) {
            if !effects.iter().any(|effect| armed.moment.is(effect)) {
                waiting.push(armed);
            } else if armed.command.starts_with("die ") || armed.command.starts_with("power-cut ") {
                let _ = self.command(&armed.command);
            } else {
                commands.push(armed.command);
            }
        }
        self.armed = waiting;
        commands
    }

    fn meets(&mut self, doom: Doom) {
        match doom.reboot {
            true => self.say("! the power goes"),
            false => self.say("! the daemon is killed"),
        }
        self.daemon_dies();
        if doom.reboot {
            self.queue.clear();
            self.kernel.reboot();
            self.store.reboot();
            if let Some(watcher) = &mut self.watcher {
                watcher.power_went(&self.store);
            }
        }
        self.happens(doom.down, Happening::Boots);
    }
}
