//! Alerts that an operator sends to see whether they arrive: once each, past all queues.

use super::{Alert, Test};
use crate::config::alerts::Rule;
use crate::engine::operator::refuse;
use crate::engine::*;

impl Engine {
    pub(in crate::engine) fn verb_alert_test(
        &mut self,
        ticket: Ticket,
        name: Option<&str>,
    ) -> Result<(), Refusal> {
        let rules = &self.alerts.rules;
        if rules.is_empty() {
            let words = "no alerts are defined: write an [[alert]] into vitald.toml, then \
                         `vitald reload`";
            return Err(refuse(code::CONFIG, words));
        }
        if self.alerts.tests.len() >= limits::MAX_ALERT_TESTS {
            let words = "too many alerts are tried at once: wait for their answers";
            return Err(refuse(code::TOO_MANY, words));
        }
        let chosen = |rule: &&Rule| name.is_none_or(|name| *rule.name == *name);
        if !rules.iter().any(|rule| chosen(&rule)) {
            let known: Vec<&str> = rules.iter().map(|rule| &*rule.name).collect();
            let words = format!(
                "no alert {} in vitald.toml; there are {}",
                crate::config::hints::shorten(name.unwrap_or_default()),
                known.join(", ")
            );
            return Err(refuse(code::NOT_FOUND, &words));
        }
        let mut open = Vec::new();
        for (rule, of) in rules.iter().enumerate() {
            if chosen(&of) {
                self.alerts.number += 1;
                let (number, due) = (self.alerts.number, self.now + of.timeout);
                open.push((number, rule as u16, due));
            }
        }
        for (number, rule, _) in &open {
            let alert = Alert {
                number: *number,
                kind: "test".into(),
                at: self.now,
                reason: "somebody tries whether alerts arrive".into(),
                ..Alert::default()
            };
            self.effects.push(Effect::SendAlert {
                rule: *rule,
                alert: Rc::new(alert),
                tries: 1,
                last: true,
            });
        }
        self.alerts.tests.push(Test {
            ticket,
            open,
            words: Vec::new(),
            failed: false,
        });
        Ok(())
    }

    pub(super) fn mind_tests(&mut self) {
        for test in &mut self.alerts.tests {
            for (number, _, due) in &mut test.open {
                if *due <= self.now {
                    let number = *number;
                    self.effects.push(Effect::AlertExpired { number });
                    *due = Time::MAX;
                }
            }
        }
    }

    pub(super) fn test_sent(&mut self, number: u64, error: Option<&str>) -> bool {
        let is_it = |test: &Test| test.open.iter().any(|(open, ..)| *open == number);
        let Some(at) = self.alerts.tests.iter().position(is_it) else {
            return false;
        };
        let test = &mut self.alerts.tests[at];
        if let Some(which) = test.open.iter().position(|(open, ..)| *open == number) {
            let (_, rule, _) = test.open.remove(which);
            let name = &self.alerts.rules[usize::from(rule)].name;
            let words = match error {
                None => format!("{name}: taken"),
                Some(error) => format!("{name}: {error}"),
            };
            test.failed |= error.is_some();
            test.words.push(words.into());
        }
        if !test.open.is_empty() {
            return true;
        }
        let test = self.alerts.tests.remove(at);
        self.test_over(test);
        true
    }

    pub(super) fn test_over(&mut self, test: Test) {
        let words = test.words.join("\n");
        self.answer(
            test.ticket,
            match test.failed {
                true if words.contains('\n') => {
                    let words = format!("not all were taken\n{words}");
                    Err(refuse(code::HOOK_FAILED, &words))
                }
                true => Err(refuse(code::HOOK_FAILED, &words)),
                false => Ok(Accepted {
                    note: words.into(),
                    ..Accepted::default()
                }),
            },
        );
    }
}
