//! What is told afterwards: transitions and decisions. Kept in short rings, journalled,
//! published, shown by `why` and `history`.
//!
//! Words in them are static: a ring of a thousand services must not be made of small strings.

use crate::time::Time;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::rc::Rc;

/// A word of the house: a state, a health, a cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Word(pub &'static str);

/// Every word that may stand in a journal, so that reading one back costs no allocation.
const WORDS: &[&str] = &[
    "",
    "inactive",
    "blocked",
    "starting",
    "running",
    "stopping",
    "backoff",
    "exited",
    "failed",
    "unknown",
    "healthy",
    "unhealthy",
    "start",
    "stop",
    "once",
    "operator",
    "exit",
    "start_timeout",
    "watchdog",
    "dependency",
    "config",
    "memory",
    "boot",
    "connection",
    "up",
    "down",
    "no verdict",
    "in doubt",
    "counted",
    "observe",
    "answered",
    "supervisor",
    "pinned",
    "unpinned",
    "in force",
    "provisional",
    "previous",
    "fed",
    "unfed",
    "collected",
    "calm",
    "storm",
    "held",
    "timer",
    "due",
    "skipped",
    "missed",
    "made up",
    "exhausted",
    "kept",
    "reboot",
    "uncured",
    "denied",
];

impl Word {
    /// A word read back; one that this version does not know is shown as `?`.
    pub fn parse(text: &str) -> Word {
        Word(
            WORDS
                .iter()
                .find(|word| **word == text)
                .copied()
                .unwrap_or("?"),
        )
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
        Ok(Word::parse(&<std::borrow::Cow<'_, str>>::deserialize(
            deserializer,
        )?))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A change a person may want to know of.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Transition {
    /// Counts up over all services while the daemon's state lives.
    pub seq: u64,
    pub at: Time,
    pub service: Rc<str>,
    pub run: u32,
    pub kind: TransitionKind,
    pub from: Word,
    pub to: Word,
    pub cause: Word,
    pub detail: Box<str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionKind {
    State,
    Health,
    Wanted,
    Probe,
    /// Which definition is in force, where a reload can go back.
    Definition,
    /// What becomes of the host for its sake: whether its watchdog is fed, a reboot.
    Host,
    /// What it was stuck on, before it was stopped for that.
    Dossier,
    /// An incident, of which this service is the canary: it began, is held, or is over.
    Storm,
    /// What became of a time at which it was due, where it was not simply started.
    Timer,
}

impl TransitionKind {
    pub const fn word(self) -> &'static str {
        match self {
            TransitionKind::State => "state",
            TransitionKind::Health => "health",
            TransitionKind::Wanted => "wanted",
            TransitionKind::Probe => "probe",
            TransitionKind::Definition => "definition",
            TransitionKind::Host => "host",
            TransitionKind::Dossier => "dossier",
            TransitionKind::Storm => "storm",
            TransitionKind::Timer => "timer",
        }
    }
}

/// One evaluation of the gate.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Decision {
    pub seq: u64,
    pub at: Time,
    pub service: Rc<str>,
    pub run: u32,
    /// What asked: `unhealthy`, `start_timeout`, `exit` …
    pub cause: Word,
    pub verdict: Verdict,
    /// In words: `budget 10/10`, `http: timeout, 3 in a row` …
    pub reason: Box<str>,
    /// What was weighed: attempts used before it, allowed in all.
    pub attempts: u32,
    pub max_attempts: Option<u32>,
    /// When it is carried out or looked at again; None: when what it waits for changes.
    pub next: Option<Time>,
    /// The end of the story, once known: was the restart a cure?
    pub cured: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Allowed,
    Deferred,
    Denied,
    Absorbed,
    /// A deferral or denial that ended because the service recovered or was stopped.
    Cancelled,
    /// It would have been allowed, but is only observed.
    WouldRestart,
}

impl Verdict {
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Allowed => "allowed",
            Verdict::Deferred => "deferred",
            Verdict::Denied => "denied",
            Verdict::Absorbed => "absorbed",
            Verdict::Cancelled => "cancelled",
            Verdict::WouldRestart => "would restart",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::health::Health;
    use crate::service::state::{Cause, State, Wanted};

    #[test]
    fn every_word_in_use_reads_back() {
        let states = State::ALL.map(State::word);
        let causes = Cause::ALL.map(Cause::word);
        let others = [
            Health::Unknown.word(),
            Health::Healthy.word(),
            Health::Unhealthy.word(),
            Wanted::Start.word(),
            Wanted::Stop.word(),
        ];
        for word in states.into_iter().chain(causes).chain(others) {
            assert_eq!(Word::parse(word).0, word);
        }
    }
}
