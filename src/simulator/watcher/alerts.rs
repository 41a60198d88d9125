//! What may be told to whom, seen from the outside: one at a time and in order, nothing twice within
//! a rule's time, an all-clear only after trouble and when the service is well.

use super::Watcher;
use crate::config::alerts::Rule;
use crate::engine::Engine;
use crate::engine::alerts::{Alert, AlertRecord};
use crate::limits::ALERT_TRIES;
use crate::time::{Time, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Default)]
pub(super) struct AlertBook {
    rules: Vec<Rule>,
    /// By rule: the number that is under way.
    under_way: BTreeMap<u16, u64>,
    expired: BTreeSet<u64>,
    /// By number.
    tries: BTreeMap<u64, u32>,
    /// By rule: the last number.
    last: BTreeMap<u16, u64>,
    /// By rule, service and kind: when it happened that was told last.
    told: BTreeMap<(u16, String, String), Time>,
    /// By rule and service: when the last all-clear came.
    clears: BTreeMap<(u16, String), Time>,
    /// By number: the rule's time when it was raised.
    repeats: BTreeMap<u64, Duration>,
    /// Tries in all, of all rules and daemons.
    tried: u64,
}

impl AlertBook {
    /// A daemon begins with these rules; what was under way is unknown to it.
    pub fn begin(&mut self, rules: &[Rule], same_boot: bool) {
        self.redefine(rules);
        let rules = rules.to_vec();
        *self = match same_boot {
            true => AlertBook {
                rules,
                under_way: BTreeMap::new(),
                expired: BTreeSet::new(),
                ..std::mem::take(self)
            },
            false => AlertBook {
                rules,
                tried: self.tried,
                ..AlertBook::default()
            },
        };
    }

    /// A rule is known by its name. Of one that is gone all is forgotten.
    pub fn redefine(&mut self, rules: &[Rule]) {
        let old = std::mem::replace(&mut self.rules, rules.to_vec());
        let place = |rule: u16| {
            let name = &old.get(usize::from(rule))?.name;
            rules.iter().position(|new| new.name == *name)
        };
        let to = |rule: u16| place(rule).map(|at| at as u16);
        let moved = |map: &mut BTreeMap<u16, u64>| {
            let all = std::mem::take(map).into_iter();
            *map = all.filter_map(|(rule, n)| Some((to(rule)?, n))).collect();
        };
        moved(&mut self.under_way);
        moved(&mut self.last);
        let told = std::mem::take(&mut self.told).into_iter();
        let told = told.filter_map(|((rule, s, kind), at)| Some(((to(rule)?, s, kind), at)));
        self.told = told.collect();
        let clears = std::mem::take(&mut self.clears).into_iter();
        let clears = clears.filter_map(|((rule, s), at)| Some(((to(rule)?, s), at)));
        self.clears = clears.collect();
    }
}

impl Watcher {
    /// Something is to be told from now on.
    pub(super) fn alert_recorded(&mut self, now: Time, record: &AlertRecord, engine: &Engine) {
        let Some(alert) = record.alert.as_ref().filter(|_| record.tries == 0) else {
            return;
        };
        let mut rules = self.alerts.rules.iter();
        if let Some(rule) = rules.find(|rule| rule.name == record.to) {
            let repeat = rule.repeat_after;
            self.alerts.repeats.insert(alert.number, repeat);
        }
        if *alert.kind != *"recovered" || !alert.reason.contains(" for ") {
            return;
        }
        let name = &alert.service;
        let Some(id) = engine.find(name) else { return };
        let status = engine.status(id, Wall { now, wall_ms: 0 });
        let health = status.health.as_deref();
        let well = match status.state.as_str() {
            "running" => health.is_none_or(|health| health == "healthy"),
            "exited" => true,
            // A connection starts it.
            _ => status.listening,
        };
        if !well {
            let words = format!("{name}: an all-clear while it is {}", status.state);
            return self.breach(now, words);
        }
        let run = self.books.get(&**name).and_then(|book| book.run.as_ref());
        let early = run.filter(|run| run.exit.is_none()).is_some_and(|run| {
            let period = run.definition.retry_policy.stability_period;
            run.ready.is_some_and(|ready| now < ready + period)
        });
        if early {
            self.breach(now, format!("{name}: an all-clear before it is stable"));
        }
    }

    pub(super) fn alerted(&mut self, now: Time, rule: u16, alert: &Alert, tries: u32) {
        let (kind, number) = (alert.kind.to_string(), alert.number);
        let service = alert.service.to_string();
        let book = &mut self.alerts;
        book.tried += 1;
        let Some(of) = book.rules.get(usize::from(rule)) else {
            return self.breach(now, "an alert by no rule".to_owned());
        };
        let mut wrong = None;
        let mut say = |words: &str| wrong = Some(format!("{service}: alert {kind}: {words}"));
        if kind == "test" {
            return;
        }
        if book.under_way.insert(rule, number).is_some() {
            say("another is under way");
        }
        let before = book.tries.insert(number, tries);
        // The last try before a death is made again.
        let least = before.map_or(1, |before| (before + 1).min(ALERT_TRIES));
        if tries < least || tries > ALERT_TRIES {
            say("it is tried more often than counted, or allowed");
        }
        let last = book.last.get(&rule).copied().unwrap_or(0);
        if number < last {
            say("it comes after a later one");
        }
        book.last.insert(rule, number);
        let repeat = book.repeats.get(&number).copied();
        let (repeat, at) = (repeat.unwrap_or(of.repeat_after), alert.at);
        let key = (rule, service.clone());
        if before.is_none() && kind == "recovered" {
            let of_it = |(r, s, _): &(u16, String, String)| *r == rule && *s == service;
            let troubles = book.told.len();
            book.told.retain(|key, _| !of_it(key));
            if book.told.len() == troubles {
                say("the end of no trouble that was told");
            }
            let again = book.clears.insert(key, at);
            let soon = again.is_some_and(|before| at < before + repeat);
            if soon && alert.reason.contains(" for ") {
                say("a second all-clear within the time");
            }
        } else if before.is_none() {
            let key = (rule, service.clone(), kind.clone());
            let again = book.told.insert(key, at);
            if again.is_some_and(|before| at < before + repeat) {
                say("told twice within the time");
            }
        }
        if let Some(words) = wrong {
            self.breach(now, words);
        }
    }

    /// How often something was sent so far.
    pub fn alerts_tried(&self) -> u64 {
        self.alerts.tried
    }

    pub(super) fn alert_expired(&mut self, now: Time, number: u64) {
        let test = !self.alerts.under_way.values().any(|n| *n == number);
        if !self.alerts.expired.insert(number) && !test {
            self.breach(now, "an alert expires twice".to_owned());
        }
    }

    pub(super) fn alert_answered(&mut self, number: u64) {
        self.alerts.expired.remove(&number);
        self.alerts.under_way.retain(|_, n| *n != number);
    }
}
