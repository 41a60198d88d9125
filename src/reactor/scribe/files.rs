//! Log files: `logs/NAME/current`, rotated to `current.1`, `current.2` … by size and number.
//!
//! Runs in the scribe: it may block, and it never gives up. Each line begins with the time at
//! which its first byte was read and what else the service's style says; bytes are else written as
//! they came, lines longer than [`limits::LOG_LINE_BYTES`] are split. A line that has no end yet
//! is in the file already, so whoever reads along sees prompts and dots; but not of a service
//! whose streams are told apart, which comes here in whole lines ([`super::lines`]).
//!
//! Invariant: what could not be written is counted and said in the file itself, before the next
//! bytes of that service.

use super::frame::LogHead;
use super::style::{Stream, Style};
use crate::config::{LogPrefix, LogTime};
use crate::journal::Fault;
use crate::limits;
use crate::time::{rfc3339_ms, tai64n_ms};
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is made ready before it is written.
const BUFFER: usize = 16 * 1024;

/// Why the daemon dropped bytes before they reached us.
const SLOW: &str = "they came faster than they could be written";

pub struct LogFiles {
    dir: PathBuf,
    open: HashMap<Box<str>, LogFile>,
    lost: HashMap<Box<str>, Lost>,
    buffer: Vec<u8>,
    /// Counts frames, to find the file unused longest.
    frames: u64,
}

struct LogFile {
    file: File,
    size: u64,
    /// Bytes of the line that has no end yet.
    column: usize,
    /// Whose that is.
    stream: Stream,
    used: u64,
}

struct Lost {
    bytes: u64,
    why: String,
    /// Not tried again before then: a flood on a full disk must not become a flood of failures.
    retry_at: Instant,
}

impl LogFiles {
    pub fn new(dir: PathBuf) -> LogFiles {
        LogFiles {
            dir,
            open: HashMap::new(),
            lost: HashMap::new(),
            buffer: Vec::new(),
            frames: 0,
        }
    }

    /// Writes what a service said, or counts it as lost.
    pub fn write(&mut self, head: LogHead, data: &[u8]) {
        let Some(path) = self.path(head.service) else {
            return;
        };
        self.frames += 1;
        let (mut dropped, mut why) = (head.dropped, SLOW.to_string());
        if let Some(lost) = self.lost.get(head.service) {
            if Instant::now() < lost.retry_at {
                return self.lose(&head, data.len(), None);
            }
            dropped += lost.bytes;
            why.clone_from(&lost.why);
        }
        let mut file = match self.open.remove(head.service) {
            Some(file) => file,
            None => match self.open(&path) {
                Ok(file) => file,
                Err(fault) => return self.lose(&head, data.len(), Some(fault)),
            },
        };
        file.used = self.frames;
        let before = before(&head);
        let mut out = Out {
            path: &path,
            bytes: head.style.file_bytes,
            keep: head.style.files,
            file,
            buffer: std::mem::take(&mut self.buffer),
            taken: 0,
            said: false,
            before: &before,
        };
        // At once what it can grow to, a line more than full: no outgrown ones lie about.
        out.buffer
            .reserve_exact(BUFFER + limits::LOG_LINE_BYTES + 256);
        if std::mem::replace(&mut out.file.stream, head.stream) != head.stream {
            out.end_line();
        }
        out.gap(dropped, &why);
        let written = out.data(data, head.end);
        let Out {
            file, taken, said, ..
        } = out;
        self.buffer = out.buffer;
        self.buffer.clear();
        if said {
            self.lost.remove(head.service);
        }
        match written {
            Ok(()) => {
                self.open.insert(head.service.into(), file);
            }
            // The file is closed and opened anew, which finds its true end.
            Err(error) => {
                let fault = Fault::io("write", &path, &error);
                let dropped = if said { 0 } else { head.dropped };
                let head = LogHead { dropped, ..head };
                self.lose(&head, data.len() - taken, Some(fault));
            }
        }
    }

    /// `logs/NAME/current`; None for what can be no service's name.
    fn path(&self, service: &str) -> Option<PathBuf> {
        let bad = service.is_empty() || service.starts_with('.') || service.contains(['/', '\0']);
        (!bad).then(|| self.dir.join(service).join("current"))
    }

    fn lose(&mut self, head: &LogHead, bytes: usize, fault: Option<Fault>) {
        let lost = self.lost.entry(head.service.into()).or_insert(Lost {
            bytes: 0,
            why: String::new(),
            retry_at: Instant::now(),
        });
        lost.bytes += bytes as u64 + head.dropped;
        if let Some(fault) = fault {
            lost.why = fault.to_string();
            lost.retry_at = Instant::now() + limits::WRITE_RETRY;
        }
    }

    fn open(&mut self, path: &Path) -> Result<LogFile, Fault> {
        if self.open.len() >= limits::SCRIBE_OPEN_FILES {
            let oldest = self.open.iter().min_by_key(|(_, file)| file.used);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.open.remove(&name);
            }
        }
        open_current(path).map_err(|error| Fault::io("open", path, &error))
    }
}

/// What stands before each line.
fn before(head: &LogHead) -> String {
    let mut text = stamp(&head.style, head.wall_ms);
    let stream = head.stream.word();
    let (name, stream) = match head.style.prefix {
        LogPrefix::None => (None, None),
        LogPrefix::Name => (Some(head.service), None),
        LogPrefix::Stream => (None, stream),
        LogPrefix::Both => (Some(head.service), stream),
    };
    let words: Vec<&str> = name.into_iter().chain(stream).collect();
    if !words.is_empty() {
        text.push_str(&words.join(" "));
        text.push_str(": ");
    }
    text
}

fn stamp(style: &Style, wall_ms: u64) -> String {
    match style.time {
        LogTime::Iso => rfc3339_ms(wall_ms) + " ",
        LogTime::Tai64n => tai64n_ms(wall_ms) + " ",
        LogTime::None => String::new(),
    }
}

fn open_current(path: &Path) -> io::Result<LogFile> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // `logs` and `logs/NAME`, never the state directory: if that is gone, it is gone.
            for dir in [path.ancestors().nth(2), path.parent()]
                .into_iter()
                .flatten()
            {
                let mode = crate::journal::lock::LOGS_MODE;
                match DirBuilder::new().mode(mode).create(dir) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(error);
                    }
                    _ => {}
                }
            }
            options.open(path)?
        }
        opened => opened?,
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(nix::errno::Errno::EINVAL.into());
    }
    // A line left open, by an earlier scribe too, goes on: its service did not stop for us.
    let mut last = [b'\n'];
    if found.len() > 0 {
        file.read_exact_at(&mut last, found.len() - 1)?;
    }
    Ok(LogFile {
        file,
        size: found.len(),
        column: usize::from(last != [b'\n']),
        stream: Stream::Joined,
        used: 0,
    })
}

/// One message's bytes on their way into its file.
struct Out<'a> {
    path: &'a Path,
    bytes: u64,
    keep: u32,
    file: LogFile,
    buffer: Vec<u8>,
    /// Of the message's bytes, those that are in the file.
    taken: usize,
    /// Something is in the file, and the gap, which is first, with it.
    said: bool,
    before: &'a str,
}

impl Out<'_> {
    fn gap(&mut self, dropped: u64, why: &str) {
        if dropped > 0 {
            self.end_line();
            let text = format!("{}… {dropped} bytes dropped: {why} …\n", self.before);
            self.buffer.extend_from_slice(text.as_bytes());
        }
    }

    fn data(&mut self, data: &[u8], end: bool) -> io::Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            if self.file.column == 0 {
                let size = self.file.size + self.buffer.len() as u64;
                if size >= self.bytes {
                    self.flush()?;
                    self.taken = data.len() - rest.len();
                    self.rotate()?;
                }
                self.buffer.extend_from_slice(self.before.as_bytes());
            }
            let room = limits::LOG_LINE_BYTES.saturating_sub(self.file.column);
            let seen = &rest[..rest.len().min(room + 1)];
            let ends = seen.iter().position(|byte| *byte == b'\n');
            let part = ends.unwrap_or(rest.len().min(room));
            self.buffer.extend_from_slice(&rest[..part]);
            self.file.column += part;
            rest = &rest[part..];
            if ends.is_some() {
                self.buffer.push(b'\n');
                self.file.column = 0;
                rest = &rest[1..];
            } else if !rest.is_empty() {
                self.end_line();
            }
            if self.buffer.len() >= BUFFER {
                self.flush()?;
                self.taken = data.len() - rest.len();
            }
        }
        if end {
            self.end_line();
        }
        self.flush()?;
        self.taken = data.len();
        Ok(())
    }

    fn end_line(&mut self) {
        if self.file.column > 0 {
            self.buffer.push(b'\n');
            self.file.column = 0;
        }
    }

    /// All of the buffer or nothing, so that what is counted as dropped is not there.
    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.file.write_all(&self.buffer) {
            let _ = self.file.file.set_len(self.file.size);
            return Err(error);
        }
        self.file.size += self.buffer.len() as u64;
        self.buffer.clear();
        self.said = true;
        Ok(())
    }

    /// `current` becomes `current.1`, that one `current.2` …; the last is lost.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |n: u32| self.path.with_extension(n.to_string());
        if self.keep == 0 {
            self.file.file.set_len(0)?;
            self.file.size = 0;
            return Ok(());
        }
        for n in (1..self.keep).rev() {
            match fs::rename(numbered(n), numbered(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(self.path, numbered(1))?;
        let used = self.file.used;
        self.file = LogFile {
            used,
            ..open_current(self.path)?
        };
        Ok(())
    }
}
