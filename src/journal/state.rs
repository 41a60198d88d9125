//! The state directory's journal, `wanted`: what operators want, by name, for ever.
//!
//! The daemon only reads it, once, before its loop runs ([`load`]). Everything that writes is
//! called by the scribe, which may block: [`Writer`] and [`rewrite`].
//!
//! Invariants: the last line of a name counts; an empty `wanted` forgets the name. What
//! [`Writer::append`] has answered with Ok outlives a power cut: after a sync that failed nothing
//! that stands in the file is trusted to be on disk, because the kernel reports such a failure once
//! and takes the pages for written (fsync(2), notes), so all of it is written anew. What of a file can be read is
//! used, whatever the rest looks like: forgetting an operator's stop is worse than old news.

use super::file::{self, Append, Replace};
use super::{Fault, line};
use crate::engine::snapshot::{Before, ReloadRecord, WantedRecord};
use crate::limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
const NAME: &str = "wanted";

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
}

/// What the state directory held.
#[derive(Debug, Default)]
pub struct Loaded {
    /// By name; no forgotten ones.
    pub wanted: Vec<WantedRecord>,
    /// A reload that can go back, or did.
    pub reload: Option<ReloadRecord>,
    /// What a person should know of what was found.
    pub notes: Vec<String>,
    /// The file is damaged or mostly history: the scribe should write it anew.
    pub rewrite: bool,
    /// A newer version wrote it, in a format that is not understood in all.
    pub newer: bool,
    damaged: bool,
}

/// Reads `dir/wanted`. Writes nothing.
pub fn load(dir: &Path) -> Loaded {
    let path = dir.join(NAME);
    let mut loaded = Loaded::default();
    let bytes = match file::read(&path) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(fault) => {
            loaded.notes.push(format!(
                "{fault}; what operators wanted is not known, services start as their definitions \
                 say"
            ));
            loaded.rewrite = true;
            loaded.damaged = true;
            return loaded;
        }
    };
    let mut wanted: BTreeMap<Box<str>, WantedRecord> = BTreeMap::new();
    let mut skipped = 0;
    let mut newer = None;
    let mut before: Vec<Before> = Vec::new();
    let scan = line::scan(&bytes, &mut |kind, value| match kind {
        "state" => match serde_json::from_slice::<Header>(value) {
            Ok(header) if header.format <= FORMAT => {}
            Ok(header) => newer = Some(header.format),
            Err(_) => skipped += 1,
        },
        "wanted" => match serde_json::from_slice::<WantedRecord>(value) {
            Ok(record) if record.wanted.is_empty() => {
                wanted.remove(&record.name);
            }
            Ok(record) => {
                wanted.insert(record.name.clone(), record);
            }
            Err(_) => skipped += 1,
        },
        BEFORE => match serde_json::from_slice(value) {
            Ok(one) => before.push(one),
            Err(_) => skipped += 1,
        },
        RELOAD => match serde_json::from_slice::<Option<ReloadHead>>(value) {
            Ok(head) => {
                let lines = std::mem::take(&mut before);
                loaded.reload = head.and_then(|head| head.with(lines));
            }
            Err(_) => skipped += 1,
        },
        _ => skipped += 1,
    });
    let path = path.display();
    let mut note = |text: String| loaded.notes.push(format!("{path}: {text}"));
    if let Some(format) = newer {
        note(format!(
            "written by a newer vitald (format {format}, this one writes {FORMAT}); what is \
             understood is used"
        ));
    }
    if skipped > 0 {
        note(format!("{skipped} records not understood and skipped"));
    }
    // A first write that was cut has its header first.
    let nothing_sound = scan.lines == 0 && scan.torn > 0;
    if nothing_sound {
        note(format!(
            "not one sound line in {} bytes; what operators wanted is not known, services start \
             as their definitions say",
            scan.torn
        ));
    } else if scan.torn > 0 {
        note(format!(
            "the last write was cut; {} bytes dropped, which nobody was told are durable",
            scan.torn
        ));
    }
    if scan.corrupt > 0 {
        note(format!(
            "{} damaged lines from line {} on; the {} sound ones are used; what is wanted of a \
             service may be an older word: look at `vitald status`",
            scan.corrupt, scan.first_corrupt, scan.lines
        ));
    }
    loaded.newer = newer.is_some();
    loaded.damaged = scan.corrupt > 0 || nothing_sound || skipped > 0 || loaded.newer;
    // Old lines cost only their reading: twice as many as needed, and a few, may stay.
    loaded.rewrite = scan.corrupt > 0 || scan.torn > 0 || scan.lines > 2 * wanted.len() + 64;
    loaded.wanted = wanted.into_values().collect();
    loaded
}

/// Appends one record as a line of `wanted`.
pub fn encode(out: &mut Vec<u8>, record: &WantedRecord) -> Result<(), serde_json::Error> {
    line::write(out, NAME, record)
}

/// A service as it was before a reload; counts with the line of the reload behind it.
const BEFORE: &str = "before";
const RELOAD: &str = "reload";

/// A reload without what was before it, and how much that is.
#[derive(Serialize, Deserialize)]
struct ReloadHead {
    reload: ReloadRecord,
    before: usize,
}

impl ReloadHead {
    /// None: some of them are lost, so that half of it would come back.
    fn with(self, before: Vec<Before>) -> Option<ReloadRecord> {
        let whole = before.len() == self.before;
        whole.then_some(ReloadRecord {
            before,
            ..self.reload
        })
    }
}

/// A reload as lines, each short enough for itself; None: that there is none any more.
pub fn encode_reload(reload: Option<&ReloadRecord>) -> Result<Vec<Vec<u8>>, serde_json::Error> {
    let mut lines = Vec::new();
    for before in reload.iter().flat_map(|reload| &reload.before) {
        let mut out = Vec::new();
        line::write(&mut out, BEFORE, before)?;
        lines.push(out);
    }
    let head = reload.map(|reload| ReloadHead {
        before: reload.before.len(),
        reload: ReloadRecord {
            before: Vec::new(),
            watched: Vec::new(),
            ..reload.clone()
        },
    });
    let mut out = Vec::new();
    line::write(&mut out, RELOAD, &head)?;
    lines.push(out);
    Ok(lines)
}

fn header() -> Vec<u8> {
    let mut out = Vec::new();
    // One number: it cannot fail to be put as JSON.
    let _ = line::write(&mut out, "state", &Header { format: FORMAT });
    out
}

/// Writes `wanted` anew with only what counts; a file that holds more than is understood is kept
/// beside it as `wanted.corrupt-N`. Reads all of it: call it where memory is given back.
pub fn rewrite(dir: &Path) -> Result<(), Fault> {
    let path = dir.join(NAME);
    let loaded = load(dir);
    if loaded.damaged && path.symlink_metadata().is_ok() {
        file::set_aside(&path, "corrupt")?;
    }
    let mut new = Replace::begin(&path)?;
    let mut buffer = header();
    for record in &loaded.wanted {
        // Read from JSON a moment ago, so it can be put as JSON.
        let _ = encode(&mut buffer, record);
    }
    if let Some(reload) = &loaded.reload {
        let lines = encode_reload(Some(reload)).unwrap_or_default();
        buffer.extend(lines.into_iter().flatten());
    }
    new.write(&buffer)?;
    new.commit(true).map(drop)
}

/// [`rewrite`]; false: it failed when the new file had the name already, which may not be on disk.
pub fn rewrite_soundly(dir: &Path) -> bool {
    let file = || {
        std::fs::metadata(dir.join(NAME))
            .map(|file| file.ino())
            .ok()
    };
    let before = file();
    // The old file serves as well.
    rewrite(dir).is_ok() || file() == before
}

/// Appends to `wanted`, durably. After any failure the file is opened anew, so that a directory
/// that was replaced, mounted or made writable meanwhile is found.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    file: Option<Append>,
    /// Its size when it was last known to hold only what counts, at least.
    compacted: u64,
    /// A sync failed, of the file or of its name: no later one makes good for it.
    unsound: bool,
}

impl Writer {
    pub fn new(dir: &Path) -> Writer {
        Writer {
            dir: dir.to_path_buf(),
            file: None,
            compacted: 0,
            unsound: false,
        }
    }

    /// Whole lines, written and synced when this returns Ok; not there when it returns an error.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), Fault> {
        let path = self.dir.join(NAME);
        if self.unsound {
            self.file = None;
            self.file = Some(append_anew(&path, lines)?);
            self.unsound = false;
            return Ok(());
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => Append::open(&path)?,
        };
        let before = file.len();
        if file.is_empty() {
            let mut all = header();
            all.extend_from_slice(lines);
            file.append(&all)
        } else {
            file.append(lines)
        }
        .map_err(|error| Fault::io("write", &path, &error))?;
        if let Err(error) = file.sync() {
            self.unsound = true;
            file.cut_to(before);
            return Err(Fault::io("sync", &path, &error));
        }
        if before == 0 {
            file::sync_dir(&self.dir).inspect_err(|_| {
                self.unsound = true;
                file.cut_to(before);
            })?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Whether [`rewrite`] is worth its while.
    pub fn rewrite_due(&self) -> bool {
        let bound = limits::JOURNAL_COMPACT_BYTES.max(2 * self.compacted);
        self.file.as_ref().is_some_and(|file| file.len() > bound)
    }

    /// [`rewrite`] was called, by whomever: go on with what is there. `well`: it said so; else the
    /// name may lead to the new file, and not on disk.
    pub fn rewritten(&mut self, well: bool) {
        self.unsound |= !well;
        self.file = Append::open(&self.dir.join(NAME)).ok();
        self.compacted = self.file.as_ref().map_or(0, Append::len);
    }
}

/// All sound lines of the file and these, in a new one that takes its place.
fn append_anew(path: &Path, lines: &[u8]) -> Result<Append, Fault> {
    let old = Append::open(path)?;
    let mut new = Replace::begin(path)?;
    if old.is_empty() {
        new.write(&header())?;
    }
    old.copy_to(&mut |part| new.write(part), path)?;
    new.write(lines)?;
    new.commit(true)
}
