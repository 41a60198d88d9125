//! How the telling stands, for readers and for the journal.

use super::AlertRecord;
use crate::engine::status::AlertStatus;
use crate::engine::*;
use crate::time::{Wall, millis};

impl Engine {
    /// Where they go is the reactor's to fill in.
    pub(in crate::engine) fn alert_statuses(&self, wall: Wall) -> Vec<AlertStatus> {
        let rules = self.alerts.rules.iter().zip(&self.alerts.desks);
        rules
            .map(|(rule, desk)| AlertStatus {
                name: rule.name.to_string(),
                to: String::new(),
                sent: desk.sent,
                failed: desk.failed,
                dropped: desk.dropped,
                withheld: desk.withheld,
                waiting: desk.waiting.len() as u32,
                last_at: desk.last.as_ref().map(|(at, _)| wall.rfc3339(*at)),
                last: desk.last.as_ref().map(|(_, what)| what.to_string()),
                trouble: desk.trouble.as_ref().map(|(_, why)| why.to_string()),
                trouble_at: desk.trouble.as_ref().map(|(at, _)| wall.rfc3339(*at)),
                next_in_ms: desk.next_at.map(|at| millis(at.since(wall.now))),
            })
            .collect()
    }

    /// All that a journal must hold of them.
    pub(in crate::engine) fn alert_records(&self) -> impl Iterator<Item = Record> + '_ {
        let last = AlertRecord {
            number: self.alerts.number,
            ..AlertRecord::default()
        };
        let last = (self.alerts.number > 0).then_some(last);
        let name = |rule: usize| self.alerts.rules[rule].name.clone();
        let told = self.alerts.known.iter().map(move |known| AlertRecord {
            to: name(known.rule.into()),
            told: Some(self.told(known)),
            ..AlertRecord::default()
        });
        let desks = self.alerts.desks.iter().enumerate();
        let waiting = desks.flat_map(move |(rule, desk)| {
            desk.waiting.iter().map(move |waiting| AlertRecord {
                to: name(rule),
                number: waiting.alert.number,
                tries: waiting.tries,
                alert: Some(waiting.alert.clone()),
                told: None,
            })
        });
        let all = last.into_iter().chain(told).chain(waiting);
        all.map(|record| Record::Alert(Box::new(record)))
    }
}
