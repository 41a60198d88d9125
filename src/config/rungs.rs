//! `escalate` in `retry_policy`: what is done when restarts do not cure.
//!
//! Invariants of what is returned without an error: rungs stand in the order of `after`, each with
//! its own; a `stop` is the last; who is restarted with it is one that it requires.

use crate::config::hints;
use crate::config::keys::{retry_policy, rung as keys};
use crate::config::problem::Problems;
use crate::config::reader::{Table, wrong};
use crate::config::tree::{Entry, Span, Value};
use crate::limits::MAX_RUNGS;

/// From so many uncured restarts in a row on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rung {
    pub after: u32,
    pub action: Escalation,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Escalation {
    /// With this one, which it requires.
    RestartWith(Box<str>),
    Stop,
}

pub fn read(
    t: &Table<'_>,
    requires: &[Box<str>],
    max_attempts: Option<u32>,
    p: &mut Problems,
) -> Box<[Rung]> {
    let Some(entry) = t.entry(&retry_policy::ESCALATE) else {
        return Box::default();
    };
    let Value::Array(tables) = &entry.value.value else {
        let how = "an array of tables, as in [{ after_uncured = 2, action = \"restart-with\", \
                   service = \"db\" }]";
        wrong::<()>(entry, how, &entry.value.value, p);
        return Box::default();
    };
    if tables.len() > MAX_RUNGS {
        let words = format!("{} rungs; at most {MAX_RUNGS} are taken", tables.len());
        p.error(entry.key_at, words);
        return Box::default();
    }
    let mut rungs: Vec<Rung> = Vec::new();
    for node in tables {
        let Value::Table(members) = &node.value else {
            let what = node.value.what();
            let words = format!("`{}` must hold tables, not {what}", entry.key);
            p.error(node.at, words);
            continue;
        };
        let Some(rung) = rung(node.at, members, requires, p) else {
            continue;
        };
        let after = rung.after;
        if let Some(before) = rungs.last()
            && (before.after >= after || before.action == Escalation::Stop)
        {
            let words = match before.action {
                Escalation::Stop => "nothing comes after `stop`: remove it".to_owned(),
                Escalation::RestartWith(_) => format!(
                    "`after_uncured` is {after}, and was {} in the one before: write them in order",
                    before.after
                ),
            };
            p.error(node.at, words);
        } else if max_attempts.is_some_and(|max| max <= after) {
            let words = format!(
                "this is never reached: after {after} uncured restarts no attempt is left; raise \
                 `max_attempts`"
            );
            p.warn(node.at, words);
        }
        rungs.push(rung);
    }
    rungs.into()
}

fn rung(at: Span, members: &[Entry<'_>], requires: &[Box<str>], p: &mut Problems) -> Option<Rung> {
    let t = Table::open(at, members, keys::ALL, p);
    let after = t.number_given(&keys::AFTER_UNCURED, p);
    if !t.has(&keys::AFTER_UNCURED) {
        let words = "`after_uncured` is missing in this rung: write `after_uncured = 2`";
        p.error(at, words);
    }
    if !t.has(&keys::ACTION) {
        let words = "`action` is missing in this rung: write \"restart-with\" or \"stop\"";
        p.error(at, words);
        return None;
    }
    let stops = t.choice_given(&keys::ACTION, &[false, true], p)?;
    let service = t.text(&keys::SERVICE, p);
    let action = match (stops, service) {
        (true, None) => Escalation::Stop,
        (true, Some(_)) => {
            let words = "`service` is for \"restart-with\", and this is \"stop\": remove it";
            p.error(t.place(&keys::SERVICE), words);
            return None;
        }
        (false, None) => {
            if !t.has(&keys::SERVICE) {
                let words = "`service` is missing: write which of those that it requires";
                p.error(at, words);
            }
            return None;
        }
        (false, Some(name)) => {
            if !requires.iter().any(|required| **required == *name) {
                let shown = hints::shorten(name);
                let words = format!(
                    "`service` is `{shown}`, which it does not require: add it to `requires`, or \
                     name one that is there"
                );
                p.error(t.place(&keys::SERVICE), words);
                return None;
            }
            Escalation::RestartWith(name.into())
        }
    };
    Some(Rung {
        after: u32::try_from(after?).ok()?,
        action,
    })
}

impl Escalation {
    /// `restart-with db`
    pub fn words(&self) -> String {
        match self {
            Escalation::RestartWith(name) => format!("restart-with {name}"),
            Escalation::Stop => "stop".to_owned(),
        }
    }
}
