//! Alerts in the runtime journal, read back: of each the last line counts, and one that is over is
//! none.

use crate::engine::alerts::AlertRecord;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Alerts {
    waiting: BTreeMap<u64, AlertRecord>,
    /// By rule and service.
    told: BTreeMap<(Box<str>, Box<str>), AlertRecord>,
    last: u64,
}

impl Alerts {
    pub fn take(&mut self, mut record: AlertRecord) {
        self.last = self.last.max(record.number);
        if let Some(told) = record.told.take() {
            let key = (record.to.clone(), told.service.clone());
            let record = AlertRecord {
                to: record.to.clone(),
                told: Some(told),
                ..AlertRecord::default()
            };
            self.told.insert(key, record);
        }
        match record.alert {
            Some(_) => self.waiting.insert(record.number, record),
            None => self.waiting.remove(&record.number),
        };
    }

    /// The same in as few lines as it takes, in order.
    pub fn records(self) -> Vec<AlertRecord> {
        let last = AlertRecord {
            number: self.last,
            ..AlertRecord::default()
        };
        let last = (self.last > 0).then_some(last);
        let told = self.told.into_values();
        last.into_iter()
            .chain(told)
            .chain(self.waiting.into_values())
            .collect()
    }
}
