//! `escalate` in `retry_policy`: what is done when restarts do not cure.
//!
//! Invariants of what is returned without an error: rungs stand in the order of `after`, each with
//! its own; a `stop` is the last; who is restarted with it is one that it requires; a repair has a
//! command, which is never empty.

use crate::config::hints;
use crate::config::keys::{retry_policy, rung as keys};
use crate::config::problem::Problems;
use crate::config::reader::{Table, wrong};
use crate::config::tree::{Entry, Span, Value};
use crate::limits::MAX_RUNGS;
use std::time::Duration;

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
    /// After this command, which is to repair it.
    Exec {
        argv: Box<[Box<str>]>,
        timeout: Duration,
    },
    /// With the host.
    Reboot,
    Stop,
}

/// The words of `action`, without what belongs to each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    RestartWith,
    Exec,
    Reboot,
    Stop,
}

impl Action {
    const ALL: [Action; 4] = [
        Action::RestartWith,
        Action::Exec,
        Action::Reboot,
        Action::Stop,
    ];

    fn word(self) -> &'static str {
        match self {
            Action::RestartWith => "restart-with",
            Action::Exec => "exec",
            Action::Reboot => "reboot",
            Action::Stop => "stop",
        }
    }
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
                Escalation::RestartWith(_) | Escalation::Exec { .. } | Escalation::Reboot => {
                    format!(
                        "`after_uncured` is {after}, and was {} in the one before: write them in \
                         order",
                        before.after
                    )
                }
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
        let words = "`action` is missing in this rung: write \"restart-with\", \"exec\", \
                     \"reboot\" or \"stop\"";
        p.error(at, words);
        return None;
    }
    let action = t.choice_given(&keys::ACTION, &Action::ALL, p)?;
    let service = t.text(&keys::SERVICE, p);
    let argv = t.command(&keys::EXEC, p);
    let timeout = t.millis(&keys::TIMEOUT, p);
    for (key, of) in [
        (&keys::SERVICE, Action::RestartWith),
        (&keys::EXEC, Action::Exec),
        (&keys::TIMEOUT, Action::Exec),
    ] {
        if t.has(key) && of != action {
            let (name, of, is) = (key.name, of.word(), action.word());
            let words = format!("`{name}` is for \"{of}\", and this is \"{is}\": remove it");
            p.error(t.place(key), words);
            return None;
        }
    }
    let action = match action {
        Action::Stop => Escalation::Stop,
        Action::Reboot => Escalation::Reboot,
        Action::Exec => {
            if !t.has(&keys::EXEC) {
                let words = "`exec` is missing in this rung: write the command that repairs it";
                p.error(at, words);
            }
            let argv = argv?;
            Escalation::Exec { argv, timeout }
        }
        Action::RestartWith => {
            if !t.has(&keys::SERVICE) {
                let words = "`service` is missing: write which of those that it requires";
                p.error(at, words);
            }
            let name = service?;
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
            Escalation::Exec { argv, .. } => format!("exec {}", argv.join(" ")),
            Escalation::Reboot => "reboot".to_owned(),
            Escalation::Stop => "stop".to_owned(),
        }
    }

    /// The command that repairs it, and for how long.
    pub fn repair(&self) -> Option<(&[Box<str>], Duration)> {
        match self {
            Escalation::Exec { argv, timeout } => Some((argv, *timeout)),
            Escalation::RestartWith(_) | Escalation::Reboot | Escalation::Stop => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use crate::config::problem::Problem;

    fn rungs(text: &str) -> (Vec<Rung>, Vec<String>) {
        let text = format!("exec = 'a'\nrequires = ['db']\nwatchdog_ms = 1000\n{text}");
        let outcome = load::read("web", "web.toml", text.as_bytes());
        let definition = outcome.definition.expect("a definition");
        let said = outcome.problems.iter().map(Problem::to_string).collect();
        (definition.retry_policy.rungs().to_vec(), said)
    }

    #[test]
    fn each_rung_is_read() {
        let (read, said) = rungs(
            "[retry_policy]\nescalate = [\n\
             { after_uncured = 1, action = 'restart-with', service = 'db' },\n\
             { after_uncured = 2, action = 'exec', exec = 'mend -f \"a b\"' },\n\
             { after_uncured = 3, action = 'exec', exec = ['mend'], timeout_ms = 5 },\n\
             { after_uncured = 4, action = 'reboot' },\n\
             { after_uncured = 5, action = 'stop' },\n]",
        );
        assert_eq!(said, [""; 0]);
        let words: Vec<String> = read.iter().map(|rung| rung.action.words()).collect();
        let expected = [
            "restart-with db",
            "exec mend -f a b",
            "exec mend",
            "reboot",
            "stop",
        ];
        assert_eq!(words, expected);
        let timeouts = read.iter().filter_map(|rung| rung.action.repair());
        let timeouts: Vec<u128> = timeouts.map(|(_, timeout)| timeout.as_millis()).collect();
        assert_eq!(timeouts, [60_000, 5]);
    }

    #[test]
    fn a_rung_for_which_no_attempt_is_left_is_warned_of() {
        for action in ["'exec', exec = 'mend'", "'reboot'", "'stop'"] {
            let of = |most: u32| {
                let rung = format!("{{ after_uncured = 3, action = {action} }}");
                rungs(&format!(
                    "retry_policy = {{ max_attempts = {most}, escalate = [{rung}] }}"
                ))
            };
            assert_eq!(of(4).1, [""; 0], "{action}");
            let said = of(3).1;
            assert!(
                said.len() == 1 && said[0].contains("after 3 uncured restarts no attempt is left"),
                "{action}: {said:?}"
            );
        }
    }
}
