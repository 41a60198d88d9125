//! The runtime journal: what is so, in a directory that outlives the daemon but not the boot.
//!
//! It is on a tmpfs and is never synced: the page cache outlives a `kill -9`, and a power cut ends
//! what it speaks of. It does not know what a record means; only that of a service's snapshots
//! the last one counts, and how many transitions and decisions are worth keeping.
//!
//! Invariants: the first line says which boot the others belong to; a file of another boot is set
//! aside. No failure stops the daemon: it is told once, remembered, and mended by writing the
//! whole state anew ([`Runtime::compact`]) until that succeeds.

use super::alerts::Alerts;
use super::file::{self, Append, Replace};
use super::{Fault, line};
use crate::engine::alerts::AlertRecord;
use crate::engine::effect::Record;
use crate::engine::snapshot::{HoldRecord, ReloadRecord, ServiceSnapshot};
use crate::engine::storm::StormRecord;
use crate::engine::story::{Decision, Transition};
use crate::limits;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The version of the format. It changes only when an old reader would misunderstand a new file;
/// new kinds and fields do not change it.
const FORMAT: u32 = 1;

/// What is gathered before it is written, also when more comes in one turn.
const BUFFER: usize = 64 * 1024;

/// Which boot, and which view of its processes, a journal speaks of.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Identity {
    /// `/proc/sys/kernel/random/boot_id`
    pub boot: Box<str>,
    /// Inode of `/proc/self/ns/pid`: pids mean something else in another namespace.
    pub pid_namespace: u64,
    /// Start time of PID 1 (proc(5), stat field 22): a container that was restarted may keep its
    /// files, and get the same namespace number again.
    pub init_started: u64,
}

impl Identity {
    /// As `/proc` has it. An error means that no two daemons can know of each other's processes.
    pub fn read() -> io::Result<Identity> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let pid_namespace = std::fs::metadata("/proc/self/ns/pid")?.ino();
        let stat = std::fs::read("/proc/1/stat")?;
        // The name in parentheses may hold anything; what follows is fields 3 and on.
        let init_started = stat
            .iter()
            .rposition(|byte| *byte == b')')
            .and_then(|at| std::str::from_utf8(&stat[at + 1..]).ok())
            .and_then(|rest| rest.split_ascii_whitespace().nth(19))
            .and_then(|ticks| ticks.parse().ok())
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Identity {
            boot: boot.trim().into(),
            pid_namespace,
            init_started,
        })
    }
}

impl Identity {
    /// For a host that does not tell: what is known by it is known only to whom it is handed over.
    pub fn of_this_process(unique: u64) -> Identity {
        Identity {
            boot: format!("unknown, process {}, {unique:x}", std::process::id()).into(),
            ..Identity::default()
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    identity: Identity,
}

/// What a journal held.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Nothing of this boot was found: this is a boot, not a comeback.
    pub first_of_boot: bool,
    /// By name.
    pub services: Vec<ServiceSnapshot>,
    /// Oldest first, at most [`limits::HISTORY_PER_SERVICE`] of a service.
    pub transitions: Vec<Transition>,
    /// Oldest first, at most [`limits::DECISIONS_PER_SERVICE`] of a service.
    pub decisions: Vec<Decision>,
    pub hold: Option<HoldRecord>,
    /// A reload that waits to be confirmed, or went back.
    pub reload: Option<Rc<ReloadRecord>>,
    /// How far the telling of alerts is; in order.
    pub alerts: Vec<AlertRecord>,
    /// Who had restarts for health lately, and what came of them.
    pub storm: Option<Box<StormRecord>>,
    /// What a person should know of what was found.
    pub notes: Vec<String>,
}

/// An append that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub fault: Fault,
    /// The first since all was well: to be logged. Later ones are the same trouble.
    pub first: bool,
}

#[derive(Debug)]
struct Trouble {
    fault: Fault,
    retry_at: Time,
    wait: Duration,
    /// Somebody was given it to tell.
    told: bool,
}

#[derive(Debug)]
pub struct Runtime {
    path: PathBuf,
    header: Vec<u8>,
    file: Option<Append>,
    buffer: Vec<u8>,
    /// Size after the last compaction; before the first, what compaction would have left.
    compacted: u64,
    trouble: Option<Trouble>,
}

impl Runtime {
    /// Reads `dir/journal` and makes it ready to be appended to. `identity` None: nothing can be
    /// known of the boot, so whatever is found is of another one.
    pub fn open(dir: &Path, identity: Option<&Identity>) -> (Runtime, Loaded) {
        let path = dir.join("journal");
        let header = Header {
            format: FORMAT,
            identity: identity.cloned().unwrap_or_default(),
        };
        let mut runtime = Runtime {
            path,
            header: Vec::new(),
            file: None,
            buffer: Vec::new(),
            compacted: 0,
            trouble: None,
        };
        // A header is three plain values: it cannot fail to be put as JSON.
        let _ = line::write(&mut runtime.header, "journal", &header);
        let mut notes = Vec::new();
        let bytes = match file::read(&runtime.path) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(fault) => {
                notes.push(format!("{fault}; what was so before is not known"));
                Vec::new()
            }
        };
        let mut replay = Replay::default();
        let scan = line::scan(&bytes, &mut |kind, value| replay.take(kind, value));
        let ours = identity.is_some()
            && replay
                .header
                .as_ref()
                .is_some_and(|found| found.format == FORMAT && found.identity == header.identity);
        let mut loaded = match ours {
            true => replay.finish(&mut notes),
            false => Loaded {
                first_of_boot: true,
                ..Loaded::default()
            },
        };
        if ours {
            runtime.describe(&scan, &mut notes);
        } else if runtime.path.symlink_metadata().is_ok() {
            let why = replay.stranger(&header);
            notes.push(match file::set_aside(&runtime.path, "old") {
                Ok(aside) => format!("{why}; kept as {}", aside.display()),
                Err(fault) => format!("{why}; {fault}"),
            });
        }
        let opened = match ours && scan.corrupt == 0 {
            // Cut also a last line that has its line feed but not its checksum.
            true => Append::open(&runtime.path).map(|mut append| {
                append.cut_to(scan.whole as u64);
                append
            }),
            false => runtime.rewrite(&mut loaded.records()),
        };
        match opened {
            Ok(append) => runtime.file = Some(append),
            Err(fault) => {
                notes.push(format!(
                    "{fault}; if the daemon is killed now it will not know its services again"
                ));
                runtime.failed(Time::ZERO, fault);
                runtime.trouble.iter_mut().for_each(|t| t.told = true);
            }
        }
        runtime.compacted = replay.kept_bytes + runtime.header.len() as u64;
        loaded.notes = notes;
        (runtime, loaded)
    }

    fn describe(&self, scan: &line::Scan, notes: &mut Vec<String>) {
        let path = self.path.display();
        if scan.torn > 0 {
            notes.push(format!(
                "{path}: the last write was cut; {} bytes dropped",
                scan.torn
            ));
        }
        if scan.corrupt > 0 {
            let kept = match file::set_aside(&self.path, "corrupt") {
                Ok(aside) => format!("kept as {}", aside.display()),
                Err(fault) => fault.to_string(),
            };
            notes.push(format!(
                "{path}: {} damaged lines from line {} on; the {} sound ones are used; {kept}",
                scan.corrupt, scan.first_corrupt, scan.lines
            ));
        }
    }

    /// Puts a record into the buffer. What a record announces must not be done before
    /// [`Runtime::flush`] was called.
    pub fn push(&mut self, now: Time, record: &Record) {
        if encode(&mut self.buffer, record).is_err() {
            // No record of ours has a map with keys that are no strings; said if that changes.
            log::error!("a record cannot be put as JSON; it is not journalled");
        }
        if self.buffer.len() >= BUFFER {
            self.write(now);
        }
    }

    /// Writes what was pushed, with one write(2). While a trouble stands this is an error, also
    /// when the write went well: the file lacks something, so nothing may be promised.
    pub fn flush(&mut self, now: Time) -> Result<(), Failure> {
        self.write(now);
        match &mut self.trouble {
            None => Ok(()),
            Some(trouble) => Err(Failure {
                fault: trouble.fault.clone(),
                first: !std::mem::replace(&mut trouble.told, true),
            }),
        }
    }

    /// [`Runtime::push`] for each, then [`Runtime::flush`].
    pub fn append(&mut self, now: Time, records: &[Record]) -> Result<(), Failure> {
        for record in records {
            self.push(now, record);
        }
        self.flush(now)
    }

    fn write(&mut self, now: Time) {
        if self.buffer.is_empty() {
            return;
        }
        // Without a file there is a trouble already, and only compaction can end it.
        if let Some(file) = &mut self.file
            && let Err(error) = file.append(&self.buffer)
        {
            self.failed(now, Fault::io("write", &self.path, &error));
        }
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER / 4);
    }

    fn failed(&mut self, now: Time, fault: Fault) {
        let (wait, told) = match &self.trouble {
            None => (limits::WRITE_RETRY, false),
            // More of the same trouble between two retries does not put the next one off.
            Some(trouble) if now < trouble.retry_at => return,
            Some(trouble) => (
                (trouble.wait * 2).min(limits::WRITE_RETRY_MAX),
                trouble.told,
            ),
        };
        self.trouble = Some(Trouble {
            fault,
            retry_at: now + wait,
            wait,
            told,
        });
    }

    /// Whether [`Runtime::compact`] should be called now.
    pub fn compaction_due(&self, now: Time) -> bool {
        match &self.trouble {
            Some(trouble) => now >= trouble.retry_at,
            None => {
                let bound = self.compacted.saturating_mul(2);
                self.size() > bound.max(limits::JOURNAL_COMPACT_BYTES)
            }
        }
    }

    /// When compaction is to be tried again after a failure; None: nothing is wrong.
    pub fn deadline(&self) -> Option<Time> {
        self.trouble.as_ref().map(|trouble| trouble.retry_at)
    }

    /// What is wrong since when a write failed and nothing mended it.
    pub fn trouble(&self) -> Option<&Fault> {
        self.trouble.as_ref().map(|trouble| &trouble.fault)
    }

    pub fn size(&self) -> u64 {
        self.file.as_ref().map_or(0, Append::len)
    }

    /// Replaces the journal by `records`: all that is so now. Ok ends a trouble.
    pub fn compact(
        &mut self,
        now: Time,
        records: &mut dyn Iterator<Item = Record>,
    ) -> Result<(), Failure> {
        // What is in the buffer is in `records` too, and by now the newer of the two.
        self.buffer.clear();
        match self.rewrite(records) {
            Ok(append) => {
                self.compacted = append.len();
                self.file = Some(append);
                self.trouble = None;
                Ok(())
            }
            Err(fault) => {
                self.failed(now, fault.clone());
                let told = self.trouble.as_mut().map(|t| &mut t.told);
                let first = told.is_some_and(|told| !std::mem::replace(told, true));
                Err(Failure { fault, first })
            }
        }
    }

    /// [`Runtime::compact`] where it stands, after that failed for want of space: a second file
    /// beside a journal that fills the disk by itself would never fit.
    pub fn compact_in_place(
        &mut self,
        now: Time,
        records: &mut dyn Iterator<Item = Record>,
    ) -> Result<(), Failure> {
        let mut whole = self.header.clone();
        for record in records {
            // See push.
            let _ = encode(&mut whole, &record);
        }
        let written = match &mut self.file {
            Some(file) => file.shrink_to(&whole),
            None => Err(nix::errno::Errno::ENOSPC.into()),
        };
        match written {
            Ok(()) => {
                self.buffer.clear();
                self.compacted = whole.len() as u64;
                self.trouble = None;
                Ok(())
            }
            Err(error) => {
                let fault = Fault::io("write", &self.path, &error);
                self.failed(now, fault.clone());
                let first = false;
                Err(Failure { fault, first })
            }
        }
    }

    fn rewrite(&mut self, records: &mut dyn Iterator<Item = Record>) -> Result<Append, Fault> {
        let mut new = Replace::begin(&self.path)?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(&self.header);
        for record in records {
            // See push: it cannot fail, and one bad record must not keep the others out.
            let _ = encode(&mut buffer, &record);
            if buffer.len() >= BUFFER / 4 {
                new.write(&buffer)?;
                buffer.clear();
            }
        }
        new.write(&buffer)?;
        buffer.clear();
        self.buffer = buffer;
        new.commit(false)
    }
}

fn encode(out: &mut Vec<u8>, record: &Record) -> Result<(), serde_json::Error> {
    match record {
        Record::Service(service) => line::write(out, "service", service),
        Record::Transition(transition) => line::write(out, "transition", transition),
        Record::Decision(decision) => line::write(out, "decision", decision),
        Record::Hold(hold) => line::write(out, "hold", hold),
        Record::Reload(reload) => line::write(out, "reload", reload),
        Record::Alert(alert) => line::write(out, "alert", alert),
        Record::Storm(storm) => line::write(out, "storm", storm),
    }
}

/// Whether a daemon of this version would go on from `dir/journal` as it is. Changes nothing.
pub fn examine(dir: &Path, identity: &Identity) -> Result<(), String> {
    let path = dir.join("journal");
    let bytes = file::read(&path).map_err(|fault| fault.to_string())?;
    let bytes = bytes.ok_or_else(|| format!("the runtime journal {} is gone", path.display()))?;
    let mut replay = Replay::default();
    let scan = line::scan(&bytes, &mut |kind, value| replay.take(kind, value));
    let header = Header {
        format: FORMAT,
        identity: identity.clone(),
    };
    let ours = |found: &Header| found.format == FORMAT && found.identity == *identity;
    if !replay.header.as_ref().is_some_and(ours) {
        return Err(replay.stranger(&header));
    }
    if scan.corrupt > 0 {
        let (count, first) = (scan.corrupt, scan.first_corrupt);
        return Err(format!(
            "{}: {count} damaged lines from line {first} on",
            path.display()
        ));
    }
    match replay.unknown.iter().next() {
        Some((kind, count)) => Err(format!(
            "{}: {count} records of kind {kind} are not understood",
            path.display()
        )),
        None => Ok(()),
    }
}

/// What a journal that holds these records is read as: through lines and checksums, without a file.
pub fn replay<'a>(records: impl Iterator<Item = &'a Record>) -> Loaded {
    let mut bytes = Vec::new();
    for record in records {
        // See push: it cannot fail.
        let _ = encode(&mut bytes, record);
    }
    let mut replay = Replay::default();
    line::scan(&bytes, &mut |kind, value| replay.take(kind, value));
    let mut notes = Vec::new();
    let loaded = replay.finish(&mut notes);
    Loaded { notes, ..loaded }
}

impl Loaded {
    /// The same as records, to be written again.
    fn records(&self) -> impl Iterator<Item = Record> {
        let services = self.services.iter().cloned().map(Box::new);
        services
            .map(Record::Service)
            .chain(self.transitions.iter().cloned().map(Record::Transition))
            .chain(self.decisions.iter().cloned().map(Record::Decision))
            .chain(self.hold.iter().cloned().map(|h| Record::Hold(Some(h))))
            .chain(self.reload.iter().cloned().map(|r| Record::Reload(Some(r))))
            .chain(self.alerts.iter().cloned().map(Box::new).map(Record::Alert))
            .chain(self.storm.iter().cloned().map(Record::Storm))
    }
}

/// A journal being read: the state so far.
#[derive(Default)]
struct Replay {
    header: Option<Header>,
    services: BTreeMap<Box<str>, (ServiceSnapshot, usize)>,
    transitions: BTreeMap<Rc<str>, VecDeque<Transition>>,
    decisions: BTreeMap<Rc<str>, VecDeque<Decision>>,
    hold: Option<HoldRecord>,
    reload: Option<Rc<ReloadRecord>>,
    alerts: Alerts,
    storm: Option<Box<StormRecord>>,
    /// Lines of kinds that a newer version writes, and lines of ours that say something new.
    unknown: BTreeMap<Box<str>, usize>,
    kept_bytes: u64,
}

impl Replay {
    fn take(&mut self, kind: &str, value: &[u8]) {
        let known = match kind {
            "journal" => serde_json::from_slice(value).map(|header| {
                self.header.get_or_insert(header);
            }),
            "service" => serde_json::from_slice(value).map(|s| self.service(s, value.len())),
            "transition" => serde_json::from_slice(value).map(|transition: Transition| {
                let of = self.transitions.entry(transition.service.clone());
                keep(of.or_default(), transition, limits::HISTORY_PER_SERVICE);
            }),
            "decision" => serde_json::from_slice(value).map(|decision: Decision| {
                let of = self.decisions.entry(decision.service.clone()).or_default();
                // Written again when it was known whether the restart was a cure.
                match of.iter_mut().rfind(|old| old.seq == decision.seq) {
                    Some(old) => *old = decision,
                    None => keep(of, decision, limits::DECISIONS_PER_SERVICE),
                }
            }),
            "hold" => serde_json::from_slice(value).map(|hold| self.hold = hold),
            "alert" => serde_json::from_slice(value).map(|record| self.alerts.take(record)),
            "reload" => serde_json::from_slice(value).map(|reload| self.reload = reload),
            "storm" => serde_json::from_slice(value).map(|storm| self.storm = storm),
            _ => Err(serde::de::Error::custom("")),
        };
        if known.is_err() {
            *self.unknown.entry(kind.into()).or_default() += 1;
        }
    }

    /// The last snapshot wins; one without a state says that the service is forgotten.
    fn service(&mut self, service: ServiceSnapshot, bytes: usize) {
        let old = match service.state.is_empty() {
            true => self.services.remove(&service.name),
            false => {
                self.kept_bytes += bytes as u64;
                self.services.insert(service.name.clone(), (service, bytes))
            }
        };
        self.kept_bytes -= old.map_or(0, |(_, bytes)| bytes as u64);
    }

    fn finish(&mut self, notes: &mut Vec<String>) -> Loaded {
        for (kind, count) in &self.unknown {
            notes.push(format!(
                "{count} records of kind {kind} were not understood and are skipped; a newer \
                 vitald wrote them"
            ));
        }
        let mut loaded = Loaded {
            services: std::mem::take(&mut self.services)
                .into_values()
                .map(|(service, _)| service)
                .collect(),
            transitions: std::mem::take(&mut self.transitions)
                .into_values()
                .flatten()
                .collect(),
            decisions: std::mem::take(&mut self.decisions)
                .into_values()
                .flatten()
                .collect(),
            hold: self.hold.take(),
            reload: self.reload.take(),
            alerts: std::mem::take(&mut self.alerts).records(),
            storm: self.storm.take(),
            ..Loaded::default()
        };
        loaded.transitions.sort_by_key(|transition| transition.seq);
        loaded.decisions.sort_by_key(|decision| decision.seq);
        loaded
    }

    /// Why a journal is not of this boot.
    fn stranger(&self, now: &Header) -> String {
        let Some(found) = &self.header else {
            return "the runtime journal has no sound first line: taken for another boot's".into();
        };
        let why = if found.format != FORMAT {
            format!("has format {}, this vitald writes {FORMAT}", found.format)
        } else if found.identity.boot != now.identity.boot {
            "is of an earlier boot".into()
        } else if found.identity.pid_namespace != now.identity.pid_namespace {
            "is of another pid namespace".into()
        } else if found.identity.init_started != now.identity.init_started {
            "is of another life of PID 1".into()
        } else {
            "cannot be told from another boot's".into()
        };
        format!("the runtime journal {why}: this is a boot")
    }
}

fn keep<T>(queue: &mut VecDeque<T>, item: T, bound: usize) {
    if queue.len() == bound {
        queue.pop_front();
    }
    queue.push_back(item);
}
