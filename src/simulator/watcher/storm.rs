//! Restarts for health, over all services: never more than the limit allows, in the order in which
//! they had to wait, and in an incident one after the other.
//!
//! Tokens are counted by what is decided. Places, the incident and what came of a restart are
//! learnt from what is recorded, as the next daemon would learn them.

use super::Watcher;
use super::book::Book;
use super::rules::is_satisfied;
use crate::config::StormLimits;
use crate::engine::Engine;
use crate::engine::snapshot::ServiceSnapshot;
use crate::engine::storm::StormRecord;
use crate::engine::story::{Decision, Verdict};
use crate::simulator::store::Store;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Line {
    pub(super) limits: StormLimits,
    taken: Vec<Time>,
    record: StormRecord,
    /// There was one before this event.
    incident: bool,
    /// Place and run of those in line.
    places: BTreeMap<String, (u64, u32)>,
    /// Who left it with this event.
    left: BTreeMap<String, u64>,
    /// Who came into it with this event.
    joined: BTreeSet<String>,
    /// What the gate last said of those.
    words: BTreeMap<String, String>,
    last: Option<Last>,
}

/// The last restart that was allowed.
struct Last {
    name: String,
    decision: u64,
    cured: Option<bool>,
}

impl Line {
    pub(super) fn event(&mut self) {
        self.left.clear();
        self.joined.clear();
        self.incident = self.record.incident.is_some();
    }

    /// Nothing of it outlives the power.
    pub(super) fn forget(&mut self) {
        let limits = self.limits;
        *self = Line {
            limits,
            ..Line::default()
        };
    }

    pub(super) fn is_held(&self) -> bool {
        self.record.held().is_some()
    }

    pub(super) fn recorded(&mut self, record: &StormRecord) {
        let lifted = self.is_held() && record.held().is_none();
        let (was, is) = (&self.record.incident, &record.incident);
        // One whose story was over before is not its canary.
        let begun = was.is_none() && is.is_some() && record.patient.is_none();
        if lifted || begun || (was.is_some() && is.is_none()) {
            self.last = None;
        }
        self.record = record.clone();
    }

    fn placed(&mut self, snapshot: &ServiceSnapshot) -> Option<String> {
        let name = snapshot.name.to_string();
        let old = self.places.get(&name).copied();
        let Some(place) = snapshot.storm_place else {
            if let Some((place, _)) = self.places.remove(&name) {
                self.left.insert(name.clone(), place);
                self.words.remove(&name);
            }
            return None;
        };
        self.places.insert(name.clone(), (place, snapshot.number));
        if old.is_none() {
            self.joined.insert(name.clone());
        }
        match old {
            Some((old, run)) if run == snapshot.number => (old != place)
                .then(|| format!("{name}: its place in line was {old}, and is {place}")),
            Some(_) | None => {
                let mut others = self.places.iter().filter(|(other, _)| **other != name);
                let behind = others.any(|(_, (other, _))| *other >= place);
                behind.then(|| format!("{name}: a place in line before others"))
            }
        }
    }

    fn allowed(&mut self, now: Time, decision: &Decision, pending: bool) -> Vec<String> {
        let name = &*decision.service;
        let mut wrong = Vec::new();
        self.taken.retain(|at| now < *at + self.limits.per);
        let count = self.limits.count as usize;
        if count > 0 && self.taken.len() >= count {
            wrong.push(format!(
                "there were {count} restarts within the time already"
            ));
        }
        if count > 0 {
            // Without a limit nothing is taken of it.
            self.taken.push(now);
        }
        let own = self.left.get(name).copied();
        for (other, (place, _)) in &self.places {
            let words = self.words.get(other).map_or("", |words| words);
            // Places are recorded before decisions: who was held has come only with its own.
            let held = words.starts_with("hold") && !self.joined.contains(other);
            let waits = words.starts_with("storm") || held;
            if waits && own.is_none_or(|own| *place < own) {
                wrong.push(format!("{other} is before it in line"));
            }
        }
        if self.is_held() {
            wrong.push("a storm holds it".to_owned());
        }
        if let (true, true, Some(last)) =
            (self.incident, self.record.incident.is_some(), &self.last)
        {
            if pending {
                wrong.push(format!("it is not known what came of {}", last.name));
            }
            if last.cured == Some(false) {
                wrong.push(format!("{} was not cured", last.name));
            }
        }
        self.last = Some(Last {
            name: name.to_owned(),
            decision: decision.seq,
            cured: None,
        });
        wrong
    }
}

fn is_wanted(book: &Book) -> bool {
    book.wanted != Some(false) && book.definition.is_some()
}

impl Watcher {
    /// Whom nobody wanted, or knew, after the event before this one is waited for no longer, even
    /// if somebody wants it again.
    pub(super) fn let_go(&mut self) {
        let last = self.line.last.as_ref();
        let book = last.and_then(|last| self.books.get(&last.name));
        if !book.is_some_and(is_wanted) {
            self.line.last = None;
        }
    }

    pub(super) fn placed(&mut self, now: Time, snapshot: &ServiceSnapshot) {
        if let Some(words) = self.line.placed(snapshot) {
            self.breach(now, words);
        }
    }

    /// The gate has said something of a run.
    pub(super) fn ruled(&mut self, now: Time, decision: &Decision, engine: &Engine, store: &Store) {
        let health = matches!(decision.cause.0, "unhealthy" | "start_timeout" | "watchdog");
        if let Some(last) = &mut self.line.last
            && last.decision == decision.seq
            && let Some(cured) = decision.cured
        {
            // Or it is well, if late.
            last.cured = Some(cured || is_satisfied(engine, &last.name, now));
        }
        if !health || decision.cured.is_some() || self.line.limits.is_off() {
            return;
        }
        let name = decision.service.to_string();
        match decision.verdict {
            Verdict::Deferred => {
                let words = decision.reason.to_string();
                self.line.words.insert(name, words);
            }
            Verdict::Denied | Verdict::Cancelled | Verdict::WouldRestart => {
                self.line.words.remove(&name);
            }
            Verdict::Absorbed => {}
            Verdict::Allowed => {
                let last = self.line.last.as_ref();
                let cure = |last: &Last| {
                    let snapshot = store.snapshot(&last.name)?;
                    Some(snapshot.cure?.decision == last.decision)
                };
                let book = last.and_then(|last| self.books.get(&last.name));
                let wanted = book.is_some_and(is_wanted);
                // What runs well is no question, whoever has still to say so.
                let well = last.is_some_and(|last| is_satisfied(engine, &last.name, now));
                let pending = wanted && !well && last.and_then(cure) == Some(true);
                if !wanted {
                    self.line.last = None;
                }
                for words in self.line.allowed(now, decision, pending) {
                    self.breach(now, format!("{name} is restarted for its health: {words}"));
                }
            }
        }
    }

    /// What it requires through others, where those cannot say how they are themselves.
    pub(super) fn unwell_below(&self, now: Time, name: &str, engine: &Engine) -> Option<String> {
        let mut rest = vec![name.to_owned()];
        let mut seen = rest.clone();
        while let Some(at) = rest.pop() {
            let book = self.books.get(&at)?;
            let probed = book
                .run
                .as_ref()
                .is_some_and(|run| run.restart_probes().next().is_some());
            let Some(definition) = book.definition.as_ref().filter(|_| !probed || at == name)
            else {
                continue;
            };
            for other in &definition.requires {
                let Some(needed) = self.books.get(&**other) else {
                    continue;
                };
                // What does not exist any more is missed by who starts, not by who runs.
                if needed.present && !needed.satisfied && !is_satisfied(engine, other, now) {
                    return Some(other.to_string());
                }
                let idle = needed.seen.as_ref().is_some_and(|s| s.state == "inactive");
                if !idle && !seen.iter().any(|name| **name == **other) {
                    seen.push(other.to_string());
                    rest.push(other.to_string());
                }
            }
        }
        None
    }
}
