//! What outlives the daemon: the runtime journal and the state directory, without a disk.
//!
//! The journal is kept as records and read back by the real journal's code, lines and checksums
//! included; the state directory knows what was written before the daemon or the power went.
//!
//! Invariants: nothing survives that was not recorded; an intent can be looked up as it stands in
//! the journal at the moment its effect is performed.

use crate::engine::snapshot::{ReloadRecord, ServiceSnapshot, WantedRecord};
use crate::engine::{Engine, Record};
use crate::journal::runtime::{self, Loaded};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Records after which the journal is written anew, as the real one is by its size.
const COMPACT_AT: usize = 2048;

#[derive(Default)]
pub struct Store {
    lines: Vec<Record>,
    /// Where the last snapshot of each service stands.
    last: BTreeMap<Box<str>, usize>,
    /// On disk, by name.
    wanted: BTreeMap<Box<str>, WantedRecord>,
    /// On disk, too.
    reload: Option<Rc<ReloadRecord>>,
    /// Given to the scribe, not yet written; oldest first.
    unwritten: Vec<Unwritten>,
    /// What was written and could not be synced: on the disk, perhaps, though the scribe has cut
    /// it off again, and though nobody was told that it is.
    doubtful: Vec<Line>,
}

struct Unwritten {
    seq: u64,
    line: Line,
    doubtful: bool,
}

/// What the scribe writes.
pub enum Line {
    Wanted(WantedRecord),
    Reload(Option<Rc<ReloadRecord>>),
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
            Record::Transition(_)
            | Record::Decision(_)
            | Record::Hold(_)
            | Record::Reload(_)
            | Record::Alert(_)
            | Record::Storm(_) => None,
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

    /// The runtime directory is that of a daemon before this one.
    pub fn is_of_this_boot(&self) -> bool {
        !self.lines.is_empty()
    }

    /// The journal as the next daemon reads it.
    pub fn read(&self) -> Loaded {
        runtime::replay(self.lines.iter())
    }

    /// `doubtful`: its sync will fail.
    pub fn remember(&mut self, seq: u64, line: Line, doubtful: bool) {
        self.unwritten.push(Unwritten {
            seq,
            line,
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
            self.keep(first.line);
        }
    }

    fn keep(&mut self, line: Line) {
        let wanted = match line {
            Line::Wanted(wanted) => wanted,
            Line::Reload(reload) => {
                self.reload = reload;
                return;
            }
        };
        match wanted.wanted.is_empty() {
            true => self.wanted.remove(&wanted.name),
            false => self.wanted.insert(wanted.name.clone(), wanted),
        };
    }

    /// What the next daemon finds in the state directory.
    pub fn wanted(&self) -> impl Iterator<Item = &WantedRecord> {
        self.wanted.values()
    }

    /// The reload that it finds there.
    pub fn reload(&self) -> Option<&ReloadRecord> {
        self.reload.as_deref()
    }

    /// The daemon is gone, and what it had not handed over to the scribe with it.
    pub fn daemon_died(&mut self) {
        let unwritten = std::mem::take(&mut self.unwritten).into_iter();
        let doubtful = unwritten.filter(|waiting| waiting.doubtful);
        self.doubtful.extend(doubtful.map(|waiting| waiting.line));
    }

    /// The power went: the runtime directory is empty, and of what was not synced this and that
    /// is on the disk.
    pub fn reboot(&mut self) {
        self.lines.clear();
        self.last.clear();
        self.unwritten.clear();
        for line in std::mem::take(&mut self.doubtful) {
            let at = match &line {
                Line::Wanted(wanted) => wanted.at_wall_ms,
                Line::Reload(reload) => reload.as_ref().map_or(0, |reload| reload.at_wall_ms),
            };
            let coin = crate::prng::fnv1a(&at.to_le_bytes());
            if coin.is_multiple_of(2) {
                self.keep(line);
            }
        }
    }
}
