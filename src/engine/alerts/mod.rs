//! Alerts: what is told to whom, how often, and again until it was taken; the all-clear.
//!
//! A rule is one `[[alert]]`. What it tells waits in its queue, in order, one under way at a time;
//! what is not taken is tried again, with growing pauses and a last time. Of a service of which
//! trouble was told the end is told, too: when it has been well for its stability period. So one
//! that flaps is told once, and no more than one all-clear comes within a rule's `repeat_after`.
//!
//! Not here: sending (the reactor), addresses and headers (nobody but the reactor has them).
//!
//! Invariants: nothing is told twice within `repeat_after` but after an all-clear; an all-clear
//! follows trouble that was told; every queue is bounded, what finds no room is counted; a record
//! stands before each effect, so that whatever becomes of the daemon an alert is sent at least once.

mod by_hand;
mod change;
mod shown;

use super::story::Verdict;
use super::timers::Unit;
use super::*;
use crate::config::alerts::{Rule, What};
use crate::service::health::Health;
use crate::service::state::{State, Wanted};
use crate::time::spoken;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// What is told.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Alert {
    /// The same in every try; counts up within a boot.
    pub number: u64,
    /// A kind's word, or `test`.
    pub kind: Box<str>,
    pub service: Box<str>,
    pub run: u32,
    pub at: Time,
    pub cause: Box<str>,
    pub reason: Box<str>,
    pub state: Box<str>,
    pub health: Option<Box<str>>,
    pub attempts: u32,
    pub max_attempts: Option<u32>,
    /// The gate's last word on it.
    pub decision: Option<Box<str>>,
    pub dossier: Option<Box<str>>,
    /// So often the same was not told since it was last.
    pub withheld: u32,
    /// So many of this rule's found no room since the last.
    pub dropped: u64,
}

/// How far the telling is, as it is journalled: a line about an alert, about what was told of a
/// service, or both.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertRecord {
    /// The rule's name.
    pub to: Box<str>,
    /// Of an alert; 0: of none.
    pub number: u64,
    pub tries: u32,
    /// None: it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<Rc<Alert>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
}

/// What a rule has told of a service.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    pub service: Box<str>,
    /// Trouble was, and its end was not.
    pub open: bool,
    /// By kind: when last.
    pub at: Vec<(Box<str>, Time)>,
    /// The last all-clear.
    pub clear_at: Option<Time>,
}

#[derive(PartialEq, Debug, Default)]
pub(super) struct Alerts {
    pub(super) rules: Vec<Rule>,
    /// One for each.
    pub(super) desks: Vec<Desk>,
    /// In the order of rule and service.
    pub(super) known: Vec<Known>,
    pub(super) tests: Vec<Test>,
    pub(super) unit: Option<Unit>,
    pub(super) number: u64,
    /// The daemon returns: what stands is no news.
    pub(super) returning: bool,
}

/// A rule's queue, and how it went since the daemon began.
#[derive(PartialEq, Debug, Default)]
pub(super) struct Desk {
    pub(super) waiting: VecDeque<Waiting>,
    /// The first is under way; its time is up then.
    pub(super) under_way: Option<Time>,
    /// The first is tried again then.
    pub(super) next_at: Option<Time>,
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) dropped: u64,
    /// Of these the next one tells.
    pub(super) untold: u64,
    pub(super) withheld: u64,
    /// When, and what it was.
    pub(super) last: Option<(Time, Box<str>)>,
    /// Until one is taken.
    pub(super) trouble: Option<(Time, Box<str>)>,
}

#[derive(PartialEq, Debug)]
pub(super) struct Waiting {
    pub(super) tries: u32,
    pub(super) alert: Rc<Alert>,
}

/// [`Told`], at hand.
#[derive(PartialEq, Debug)]
pub(super) struct Known {
    pub(super) rule: u16,
    pub(super) service: ServiceId,
    pub(super) open: bool,
    /// By kind: when it was told, how often it was not since then.
    pub(super) told: Vec<Option<(Time, u32)>>,
    pub(super) clear_at: Option<Time>,
    pub(super) well_since: Option<Time>,
}

/// Alerts that are sent by hand.
#[derive(PartialEq, Debug)]
pub(super) struct Test {
    pub(super) ticket: Ticket,
    /// Number, rule, and when its time is up.
    pub(super) open: Vec<(u64, u16, Time)>,
    pub(super) words: Vec<Box<str>>,
    pub(super) failed: bool,
}

impl Engine {
    // --- what a daemon before this one left

    pub(super) fn take_up_alerts(&mut self, rules: Vec<Rule>, records: Vec<AlertRecord>) {
        let alerts = &mut self.alerts;
        alerts.desks.resize_with(rules.len(), Desk::default);
        alerts.rules = rules;
        alerts.returning = !records.is_empty();
        if !alerts.rules.is_empty() {
            alerts.unit = Some(self.timers.alerts_unit());
        }
        for record in records {
            self.alerts.number = self.alerts.number.max(record.number);
            let known = self.alerts.rules.iter().position(|r| r.name == record.to);
            // Of a rule that is no more nobody is told.
            let Some(rule) = known else {
                // Should its name return it begins with nothing.
                self.close_record(&record);
                continue;
            };
            if let Some(alert) = record.alert {
                // Of the last one it is not known how it went.
                let tries = record.tries.min(limits::ALERT_TRIES - 1);
                let waiting = &mut self.alerts.desks[rule].waiting;
                if waiting.len() < limits::ALERTS_WAITING {
                    waiting.push_back(Waiting { tries, alert });
                }
            }
            let Some(told) = record.told else { continue };
            if let Some(id) = self.find(&told.service) {
                self.know_again(rule as u16, id, &told);
            }
        }
    }

    fn know_again(&mut self, rule: u16, id: ServiceId, told: &Told) {
        let known = self.known(rule, id);
        known.open = told.open;
        known.clear_at = told.clear_at;
        for (word, at) in &told.at {
            if let Some(what) = What::parse(word) {
                known.told[what.index()] = Some((*at, 0));
            }
        }
    }

    /// All is taken up: from here on there is news.
    pub(super) fn alerts_go_on(&mut self) {
        self.alerts.returning = false;
        for at in 0..self.alerts.known.len() {
            let id = self.alerts.known[at].service;
            self.mind_end(at, id);
        }
    }

    fn known(&mut self, rule: u16, service: ServiceId) -> &mut Known {
        let known = &mut self.alerts.known;
        let at = known.binary_search_by_key(&(rule, service), |k| (k.rule, k.service));
        let at = at.unwrap_or_else(|at| {
            let new = Known {
                rule,
                service,
                open: false,
                told: vec![None; What::ALL.len()],
                clear_at: None,
                well_since: None,
            };
            known.insert(at, new);
            at
        });
        &mut known[at]
    }

    // --- something happened

    /// There is something to tell of a service.
    pub(super) fn raise(&mut self, id: ServiceId, what: What, cause: &str, reason: &str) {
        if self.shutdown.is_some() {
            return;
        }
        for rule in 0..self.alerts.rules.len() as u16 {
            let of = &self.alerts.rules[usize::from(rule)];
            if !of.tells(what) || !of.is_for(&self.service(id).name) {
                continue;
            }
            let (now, repeat, returning) = (self.now, of.repeat_after, self.alerts.returning);
            let full = self.is_full(rule);
            let known = self.known(rule, id);
            known.well_since = None;
            let told = &mut known.told[what.index()];
            let again = told.is_some_and(|(at, _)| returning || now < at + repeat);
            if again {
                *told = told.map(|(at, withheld)| (at, withheld.saturating_add(1)));
                self.alerts.desks[usize::from(rule)].withheld += 1;
                continue;
            }
            if full {
                self.drop_one(rule);
                continue;
            }
            let withheld = told.replace((now, 0)).map_or(0, |(_, withheld)| withheld);
            known.open = true;
            let alert = Alert {
                withheld,
                cause: cause.into(),
                reason: bounded(reason),
                ..self.alert_of(id, what.word())
            };
            self.enqueue(rule, id, alert);
        }
    }

    /// A change that was just told to everybody may be one for an alert.
    pub(super) fn raise_of(&mut self, id: ServiceId, change: &Transition) {
        if self.alerts.rules.is_empty() {
            return;
        }
        let what = match (change.kind.word(), change.to.0) {
            ("health", "unhealthy") => What::Unhealthy,
            ("storm", "storm") => What::Storm,
            ("storm", "held") => What::Held,
            ("host", "unfed") => What::Host,
            // That its budget is spent is told as that.
            ("state", "failed") if !self.service(id).trouble.starts_with("budget ") => What::Failed,
            _ => return,
        };
        self.raise(id, what, change.cause.0, &change.detail);
    }

    /// The same for a decision.
    pub(super) fn raise_decided(&mut self, id: ServiceId, decision: &Decision) {
        if self.alerts.rules.is_empty() {
            return;
        }
        let (cause, reason) = (decision.cause.0, &decision.reason);
        if cause == "start_timeout" && decision.verdict != Verdict::Cancelled {
            self.raise(id, What::Unhealthy, cause, reason);
        }
        if decision.verdict == Verdict::Allowed {
            self.raise(id, What::Restarted, cause, reason);
        }
    }

    /// The restart that this decision allowed was no cure.
    pub(super) fn raise_uncured(&mut self, id: ServiceId, decision: u64) {
        let mut decisions = self.service(id).decisions.iter();
        let of = decisions.find(|d| d.seq == decision);
        let of = of.map(|d| (d.cause.0, d.reason.clone()));
        let (cause, reason) = of.unwrap_or_default();
        self.raise(id, What::Uncured, cause, &reason);
    }

    fn is_full(&self, rule: u16) -> bool {
        self.alerts.desks[usize::from(rule)].waiting.len() >= limits::ALERTS_WAITING
    }

    fn drop_one(&mut self, rule: u16) {
        let desk = &mut self.alerts.desks[usize::from(rule)];
        desk.dropped += 1;
        desk.untold += 1;
    }

    fn alert_of(&self, id: ServiceId, kind: &str) -> Alert {
        let service = self.service(id);
        let definition = service.definition.as_ref();
        let decision = service.decisions.back();
        let dossier = service
            .transitions
            .iter()
            .rfind(|change| change.kind.word() == "dossier");
        Alert {
            number: 0,
            kind: kind.into(),
            service: (*service.name).into(),
            run: service.number,
            at: self.now,
            cause: "".into(),
            reason: "".into(),
            state: service.state.word().into(),
            health: service.health().map(|health| health.word().into()),
            attempts: service.attempts,
            max_attempts: definition.and_then(|d| d.retry_policy.max_attempts),
            decision: decision.map(|d| bounded(&format!("{}: {}", d.verdict, d.reason))),
            dossier: dossier.map(|change| bounded(&change.detail)),
            withheld: 0,
            dropped: 0,
        }
    }

    fn enqueue(&mut self, rule: u16, id: ServiceId, alert: Alert) {
        self.alerts.number += 1;
        let desk = &mut self.alerts.desks[usize::from(rule)];
        let alert = Rc::new(Alert {
            number: self.alerts.number,
            dropped: std::mem::take(&mut desk.untold),
            ..alert
        });
        desk.waiting.push_back(Waiting {
            tries: 0,
            alert: alert.clone(),
        });
        let told = self.told_of(rule, id);
        self.records.push(Record::Alert(Box::new(AlertRecord {
            to: self.alerts.rules[usize::from(rule)].name.clone(),
            number: alert.number,
            tries: 0,
            alert: Some(alert),
            told,
        })));
    }

    fn told_of(&self, rule: u16, id: ServiceId) -> Option<Told> {
        let known = &self.alerts.known;
        let at = known.binary_search_by_key(&(rule, id), |k| (k.rule, k.service));
        at.ok().map(|at| self.told(&known[at]))
    }

    fn told(&self, known: &Known) -> Told {
        let of = |what: What| known.told[what.index()].map(|(at, _)| (what.word().into(), at));
        Told {
            service: (*self.service(known.service).name).into(),
            open: known.open,
            at: What::ALL.into_iter().filter_map(of).collect(),
            clear_at: known.clear_at,
        }
    }

    // --- the all-clear

    /// What is so of a service has changed: whether the trouble is over that was told.
    fn mind_end(&mut self, at: usize, id: ServiceId) {
        if !self.alerts.known[at].open {
            return;
        }
        let (now, service, gone) = (self.now, self.service(id), !self.is_present(id));
        let well = service.is_satisfied();
        let stopped = service.wanted == Wanted::Stop || gone;
        let stopped = stopped && !service.state.is_live() && self.shutdown.is_none();
        let words = match &*service.wanted_by {
            _ if gone => "its definition is gone".to_owned(),
            "" => "stopped".to_owned(),
            by => format!("stopped by {by}"),
        };
        let known = &mut self.alerts.known[at];
        known.well_since = match well {
            true => known.well_since.or(Some(now)),
            false => None,
        };
        if stopped && !well {
            self.clear(at, &words);
        }
    }

    /// When the end of the trouble is to be told, as far as is known now.
    fn clear_due(&self, known: &Known) -> Option<Time> {
        let since = known.well_since.filter(|_| known.open)?;
        let repeat = self.alerts.rules[usize::from(known.rule)].repeat_after;
        let due = since + self.stable_after(known.service);
        Some(due.max(known.clear_at.map_or(due, |at| at + repeat)))
    }

    fn stable_after(&self, id: ServiceId) -> Duration {
        self.definition_of(id).retry_policy.stability_period
    }

    fn clear(&mut self, at: usize, words: &str) {
        let (rule, id) = (self.alerts.known[at].rule, self.alerts.known[at].service);
        let told = self.alerts.rules[usize::from(rule)].tells(What::Recovered);
        let full = told && self.is_full(rule);
        let (now, known) = (self.now, &mut self.alerts.known[at]);
        known.open = false;
        known.well_since = None;
        let before = &mut known.told;
        let troubles: Vec<&str> = (What::ALL.into_iter())
            .filter(|what| before[what.index()].is_some())
            .map(What::word)
            .collect();
        let reason = format!("{words}; told before: {}", troubles.join(", "));
        if told {
            // It was, so what comes now is news.
            before.fill(None);
            known.clear_at = Some(now);
        }
        if full {
            return self.drop_one(rule);
        }
        if told {
            let alert = Alert {
                reason: bounded(&reason),
                ..self.alert_of(id, What::Recovered.word())
            };
            return self.enqueue(rule, id, alert);
        }
        let record = AlertRecord {
            to: self.alerts.rules[usize::from(rule)].name.clone(),
            told: self.told_of(rule, id),
            ..AlertRecord::default()
        };
        self.records.push(Record::Alert(Box::new(record)));
    }

    /// What is forgotten: nothing of it matters any more.
    fn is_past(&self, known: &Known) -> bool {
        let repeat = self.alerts.rules[usize::from(known.rule)].repeat_after;
        let past = |at: Time| at + repeat <= self.now;
        !known.open
            && known.told.iter().flatten().all(|(at, _)| past(*at))
            && known.clear_at.is_none_or(past)
    }

    // --- sending

    /// The end of an event: whatever of it is for alerts. What is due by the clock waits for the
    /// `timers`.
    pub(super) fn mind_alerts(&mut self, timers: bool) {
        let Some(unit) = self.alerts.unit else {
            return;
        };
        if !self.alerts.known.is_empty() {
            self.mind_ends(timers);
        }
        for rule in 0..self.alerts.desks.len() as u16 {
            self.mind_desk(rule, timers);
        }
        if timers {
            self.mind_tests();
        }
        let desks = self.alerts.desks.iter();
        let desks = desks.filter_map(|desk| desk.under_way.or(desk.next_at));
        let clears = self.alerts.known.iter().filter_map(|k| self.clear_due(k));
        let tests = self.alerts.tests.iter().flat_map(|test| &test.open);
        let tests = tests.map(|(.., due)| *due);
        let due = desks.chain(clears).chain(tests).min();
        let key = Key::alerts(unit);
        match due.filter(|due| *due < Time::MAX) {
            Some(due) if self.timers.deadline(key) != Some(due) => self.timers.set(key, due),
            Some(_) => {}
            None => self.timers.cancel(key),
        }
    }

    fn mind_ends(&mut self, timers: bool) {
        for at in 0..self.alerts.known.len() {
            let id = self.alerts.known[at].service;
            // Whoever has changed is about to be journalled.
            if self.service(id).dirty {
                self.mind_end(at, id);
            }
            let known = &self.alerts.known[at];
            if timers && self.clear_due(known).is_some_and(|due| due <= self.now) {
                let since = known.well_since.unwrap_or(self.now);
                let service = self.service(id);
                let word = match (service.state, service.health()) {
                    (_, Some(Health::Healthy)) => "healthy",
                    (State::Exited, _) => "done",
                    (State::Inactive, _) => "listening",
                    (..) => "running",
                };
                let words = format!("{word} for {}", spoken(self.now.since(since)));
                self.clear(at, &words);
            }
        }
        let mut known = std::mem::take(&mut self.alerts.known);
        known.retain(|known| !self.is_past(known));
        self.alerts.known = known;
    }

    fn mind_desk(&mut self, rule: u16, timers: bool) {
        let (now, number) = (self.now, usize::from(rule));
        let to = self.alerts.rules[number].name.clone();
        let timeout = self.alerts.rules[number].timeout;
        let desk = &mut self.alerts.desks[number];
        let Some(first) = desk.waiting.front_mut() else {
            return;
        };
        match desk.under_way {
            Some(due) if timers && due <= now => {
                // It is answered at once; never ask for that twice.
                desk.under_way = Some(Time::MAX);
                let number = first.alert.number;
                self.effects.push(Effect::AlertExpired { number });
            }
            Some(_) => {}
            None if desk.next_at.is_some_and(|at| !timers || now < at) => {}
            None => {
                first.tries += 1;
                desk.next_at = None;
                desk.under_way = Some(now + timeout);
                let (tries, alert) = (first.tries, first.alert.clone());
                self.records.push(Record::Alert(Box::new(AlertRecord {
                    to,
                    number: alert.number,
                    tries,
                    alert: Some(alert.clone()),
                    told: None,
                })));
                self.effects.push(Effect::SendAlert {
                    rule,
                    alert,
                    tries,
                    last: tries >= limits::ALERT_TRIES,
                });
            }
        }
    }

    /// The answer to `SendAlert`.
    pub(super) fn alert_sent(&mut self, number: u64, error: Option<Box<str>>) {
        if self.test_sent(number, error.as_deref()) {
            return;
        }
        let now = self.now;
        let is_it = |desk: &Desk| {
            let first = desk.waiting.front();
            desk.under_way.is_some() && first.is_some_and(|w| w.alert.number == number)
        };
        let Some(rule) = self.alerts.desks.iter().position(is_it) else {
            self.stale += 1;
            return;
        };
        let desk = &mut self.alerts.desks[rule];
        desk.under_way = None;
        let Some(first) = desk.waiting.front() else {
            return;
        };
        let tries = first.tries;
        match error {
            None => {
                desk.sent += 1;
                desk.trouble = None;
                desk.last = Some((now, first.alert.words()));
            }
            Some(error) => {
                desk.trouble = Some((now, bounded(&error)));
                if tries < limits::ALERT_TRIES {
                    desk.next_at = Some(now + pause(tries));
                    return;
                }
                desk.failed += 1;
            }
        }
        desk.waiting.pop_front();
        let record = AlertRecord {
            to: self.alerts.rules[rule].name.clone(),
            number,
            ..AlertRecord::default()
        };
        self.records.push(Record::Alert(Box::new(record)));
    }
}

impl Alert {
    /// `exhausted web`
    fn words(&self) -> Box<str> {
        format!("{} {}", self.kind, self.service).into()
    }
}

/// Before the next try.
fn pause(tries: u32) -> Duration {
    let doubled = 2u32.saturating_pow(tries.saturating_sub(1).min(16));
    (limits::ALERT_RETRY * doubled).min(limits::ALERT_RETRY_MAX)
}

/// Somebody else's words, no more than fit.
fn bounded(words: &str) -> Box<str> {
    words[..words.floor_char_boundary(limits::ALERT_WORDS)].into()
}
