//! Other rules while alerts wait or are under way: what a reload of `vitald.toml` changes.
//!
//! A rule is known by its name. One that stays keeps its queue, and what it has told; what it has
//! under way goes on to where it was sent, in the time it had. Of one that is gone nobody is told any
//! more, and what it has under way is ended. One that is new tells what happens from now on.
//!
//! Invariant: what a rule that is gone had to tell is closed in the journal, too: should its name
//! return it begins with nothing.

use super::*;

impl Engine {
    /// `changed`: the keys of `vitald.toml` that did, an alert as `alert.NAME`.
    pub(in crate::engine) fn change_alerts(&mut self, rules: &[Rule], changed: &[Box<str>]) {
        let old = std::mem::replace(&mut self.alerts.rules, rules.to_vec());
        let place = |rule: &Rule| rules.iter().position(|new| new.name == rule.name);
        let places: Vec<Option<usize>> = old.iter().map(place).collect();
        let desks = std::mem::take(&mut self.alerts.desks);
        self.alerts.desks.resize_with(rules.len(), Desk::default);
        for ((desk, to), rule) in desks.into_iter().zip(&places).zip(&old) {
            match to {
                Some(to) => self.alerts.desks[*to] = desk,
                None => self.close_desk(&rule.name, &desk),
            }
        }
        self.move_known(&old, &places);
        self.move_tests(&old, &places);
        for (rule, desk) in rules.iter().zip(&mut self.alerts.desks) {
            let key = format!("alert.{}", rule.name);
            if changed.iter().any(|changed| **changed == *key) {
                // Perhaps that was what was wrong.
                desk.next_at = None;
            }
        }
        if self.alerts.unit.is_none() && !rules.is_empty() {
            self.alerts.unit = Some(self.timers.alerts_unit());
        }
    }

    /// Nobody is told of what waits there.
    fn close_desk(&mut self, name: &str, desk: &Desk) {
        if desk.under_way.is_some_and(|due| due < Time::MAX)
            && let Some(first) = desk.waiting.front()
        {
            let number = first.alert.number;
            self.effects.push(Effect::AlertExpired { number });
        }
        for waiting in &desk.waiting {
            self.close_record(&AlertRecord {
                to: name.into(),
                number: waiting.alert.number,
                ..AlertRecord::default()
            });
        }
    }

    /// What stands there counts no more.
    pub(super) fn close_record(&mut self, record: &AlertRecord) {
        if record.to.is_empty() {
            return;
        }
        let told = record.told.as_ref().map(|told| Told {
            service: told.service.clone(),
            ..Told::default()
        });
        self.records.push(Record::Alert(Box::new(AlertRecord {
            to: record.to.clone(),
            number: record.number,
            told,
            ..AlertRecord::default()
        })));
    }

    fn move_known(&mut self, old: &[Rule], places: &[Option<usize>]) {
        let mut known = std::mem::take(&mut self.alerts.known);
        known.retain_mut(|known| {
            let rule = usize::from(known.rule);
            if let Some(to) = places[rule] {
                known.rule = to as u16;
                return true;
            }
            let told = Told {
                service: (*self.services[known.service.index()].name).into(),
                ..Told::default()
            };
            self.close_record(&AlertRecord {
                to: old[rule].name.clone(),
                told: Some(told),
                ..AlertRecord::default()
            });
            false
        });
        known.sort_by_key(|known| (known.rule, known.service));
        self.alerts.known = known;
    }

    /// Those that are tried by hand.
    fn move_tests(&mut self, old: &[Rule], places: &[Option<usize>]) {
        let mut tests = std::mem::take(&mut self.alerts.tests);
        for test in &mut tests {
            let mut open = std::mem::take(&mut test.open);
            open.retain_mut(|(number, rule, due)| {
                let was = usize::from(*rule);
                if let Some(to) = places[was] {
                    *rule = to as u16;
                    return true;
                }
                if *due < Time::MAX {
                    let number = *number;
                    self.effects.push(Effect::AlertExpired { number });
                }
                let name = &old[was].name;
                let words = format!("{name}: it is no longer defined");
                test.words.push(words.into());
                test.failed = true;
                false
            });
            test.open = open;
        }
        let (open, over) = tests.into_iter().partition(|test| !test.open.is_empty());
        self.alerts.tests = open;
        for test in over {
            self.test_over(test);
        }
    }
}
