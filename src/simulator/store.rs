//! What outlives the daemon: the runtime journal and the state directory, without a disk.
//!
//! The journal is kept as records and read back by the real journal's code, lines and checksums
//! included; the state directory knows what was written before the daemon or the power went.
//!
//! Invariants: nothing survives that was not recorded; an intent can be looked up as it stands in
//! the journal at the moment its effect is performed.

use crate::engine::snapshot::{ServiceSnapshot, WantedRecord};
use crate::engine::{Engine, Record};
use crate::journal::runtime::{self, Loaded};
use std::collections::BTreeMap;

/// Records after which the journal is written anew, as the real one is by its size.
const COMPACT_AT: usize = 2048;

#[derive(Default)]
pub struct Store {
    lines: Vec<Record>,
    /// Where the last snapshot of each service stands.
    last: BTreeMap<Box<str>, usize>,
    /// On disk, by name.
    wanted: BTreeMap<Box<str>, WantedRecord>,
    /// Given to the scribe, not yet written; oldest first.
    unwritten: Vec<Unwritten>,
    /// What was written and could not be synced: on the disk, perhaps, though the scribe has cut
    /// it off again, and though nobody was told that it is.
    doubtful: Vec<WantedRecord>,
}

struct Unwritten {
    seq: u64,
    wanted: WantedRecord,
    doubtful: bool,
}

impl Store {
    pub fn record(&mut self, record: Record) {
        if let Record::Service(snapshot) = &record {
            self.last.insert(snapshot.name.clone(), self.lines.len());
        }
        self.lines.push(record);
    }

    /// What the journal says of a service now.
    pub fn snapshot(&self, service: &str) -> Option<&ServiceSnapshot> {
        match self.lines.get(*self.last.get(service)?)? {
            Record::Service(snapshot) => Some(snapshot),
            Record::Transition(_) | Record::Decision(_) | Record::Hold(_) => None,
        }
    }

    /// As the daemon compacts it now and then, between two turns.
    pub fn compact(&mut self, engine: &Engine) {
        if self.lines.len() < COMPACT_AT {
            return;
        }
        self.lines.clear();
        self.last.clear();
        for record in engine.records() {
            self.record(record);
        }
    }

    /// The journal as the next daemon reads it.
    pub fn read(&self) -> Loaded {
        runtime::replay(self.lines.iter())
    }

    /// `doubtful`: its sync will fail.
    pub fn remember(&mut self, seq: u64, wanted: WantedRecord, doubtful: bool) {
        self.unwritten.push(Unwritten {
            seq,
            wanted,
            doubtful,
        });
    }

    /// The last record that waits.
    pub fn unwritten(&self) -> Option<u64> {
        self.unwritten.last().map(|waiting| waiting.seq)
    }

    /// The scribe has written and synced everything up to `seq`, what failed before once more:
    /// the kernel may have dropped its pages, and a sync would not say so.
    pub fn written(&mut self, seq: u64) {
        self.doubtful.clear();
        while self.unwritten.first().is_some_and(|first| first.seq <= seq) {
            let first = self.unwritten.remove(0);
            self.keep(first.wanted);
        }
    }

    fn keep(&mut self, wanted: WantedRecord) {
        match wanted.wanted.is_empty() {
            true => self.wanted.remove(&wanted.name),
            false => self.wanted.insert(wanted.name.clone(), wanted),
        };
    }

    /// What the next daemon finds in the state directory.
    pub fn wanted(&self) -> impl Iterator<Item = &WantedRecord> {
        self.wanted.values()
    }

    /// The daemon is gone, and what it had not handed over to the scribe with it.
    pub fn daemon_died(&mut self) {
        let unwritten = std::mem::take(&mut self.unwritten).into_iter();
        let doubtful = unwritten.filter(|waiting| waiting.doubtful);
        self.doubtful.extend(doubtful.map(|waiting| waiting.wanted));
    }

    /// The power went: the runtime directory is empty, and of what was not synced this and that
    /// is on the disk.
    pub fn reboot(&mut self) {
        self.lines.clear();
        self.last.clear();
        self.unwritten.clear();
        for wanted in std::mem::take(&mut self.doubtful) {
            let coin = crate::prng::fnv1a(&wanted.at_wall_ms.to_le_bytes());
            if coin.is_multiple_of(2) {
                self.keep(wanted);
            }
        }
    }
}
