//! Files as journals need them: appended to wholly or not at all, replaced in one step, set aside.
//!
//! It knows nothing of lines or records. Invariant: after a failed [`Append::append`] the file
//! ends where it ended before, or the next append begins by making it so.

use super::Fault;
use crate::limits;
use nix::errno::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Opens a regular file. A FIFO or a device of that name is refused, not waited for.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(Errno::EINVAL.into()),
    }
}

/// The whole file; None when there is none. One over [`limits::JOURNAL_MAX_BYTES`] is EFBIG.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Fault> {
    let bytes = || -> io::Result<Vec<u8>> {
        let file = open(path, OpenOptions::new().read(true))?;
        let mut bytes = Vec::new();
        if file.metadata()?.len() > limits::JOURNAL_MAX_BYTES {
            return Err(Errno::EFBIG.into());
        }
        file.take(limits::JOURNAL_MAX_BYTES)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match bytes() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::io("read", path, &error)),
    }
}

/// A file that is only appended to.
#[derive(Debug)]
pub struct Append {
    file: File,
    len: u64,
    /// A part of a failed write may stand behind `len`.
    ragged: bool,
}

impl Append {
    /// Opens or makes the file, and cuts off what follows its last line feed: that is a write
    /// which never ended.
    pub fn open(path: &Path) -> Result<Append, Fault> {
        let go = || -> io::Result<Append> {
            let file = open(path, OpenOptions::new().read(true).write(true).create(true))?;
            let end = file.metadata()?.len();
            let len = last_line_ends(&file, end)?;
            let mut append = Append {
                file,
                len,
                ragged: len != end,
            };
            append.mend()?;
            Ok(append)
        };
        go().map_err(|error| Fault::io("open", path, &error))
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn mend(&mut self) -> io::Result<()> {
        if self.ragged {
            self.file.set_len(self.len)?;
            self.ragged = false;
        }
        self.file.seek(SeekFrom::Start(self.len)).map(drop)
    }

    /// All of `bytes` or nothing. One write(2), unless the kernel takes less.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.ragged {
            self.mend()?;
        }
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.ragged = true;
                // A failure here is met again, and told, by the next append.
                let _ = self.mend();
                Err(error)
            }
        }
    }

    /// Replaces the whole content where it stands, by a shorter one: for a disk that has no room for
    /// both. A process that is killed meanwhile leaves a part of it.
    pub fn shrink_to(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() as u64 > self.len {
            return Err(Errno::ENOSPC.into());
        }
        self.file.set_len(0)?;
        self.len = 0;
        self.ragged = true;
        self.append(bytes)
    }

    /// Takes back the last append, whose sync failed: the kernel may have dropped its pages, so
    /// only writing it again makes it durable.
    pub fn cut_to(&mut self, len: u64) {
        self.len = len.min(self.len);
        self.ragged = true;
        let _ = self.mend();
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reads it through, in parts; `path` is what it is called in errors.
    pub fn copy_to(
        &self,
        to: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
        path: &Path,
    ) -> Result<(), Fault> {
        let mut block = [0; 16 * 1024];
        let mut at = 0;
        while at < self.len {
            let part = block.len().min((self.len - at) as usize);
            let read = self.file.read_exact_at(&mut block[..part], at);
            read.map_err(|error| Fault::io("read", path, &error))?;
            to(&block[..part])?;
            at += part as u64;
        }
        Ok(())
    }
}

/// The offset behind the last line feed before `end`.
fn last_line_ends(file: &File, end: u64) -> io::Result<u64> {
    let mut block = [0; 4096];
    let mut to = end;
    while to > 0 {
        let from = to.saturating_sub(block.len() as u64);
        let part = &mut block[..(to - from) as usize];
        file.read_exact_at(part, from)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        to = from;
    }
    Ok(0)
}

/// A new content for a file, taken in one step by [`Replace::commit`]; dropped, it leaves nothing.
pub struct Replace {
    to: PathBuf,
    new: PathBuf,
    file: File,
    len: u64,
    done: bool,
}

impl Replace {
    pub fn begin(path: &Path) -> Result<Replace, Fault> {
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let file = open(&new, &mut options).map_err(|error| Fault::io("open", &new, &error))?;
        Ok(Replace {
            to: path.to_path_buf(),
            new,
            file,
            len: 0,
            done: false,
        })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.file
            .write_all(bytes)
            .map_err(|error| Fault::io("write", &self.new, &error))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Puts the new content in the old one's place. With `sync`, durably: content, then name.
    pub fn commit(mut self, sync: bool) -> Result<Append, Fault> {
        if sync {
            self.file
                .sync_data()
                .map_err(|error| Fault::io("sync", &self.new, &error))?;
        }
        fs::rename(&self.new, &self.to).map_err(|error| Fault::io("replace", &self.to, &error))?;
        self.done = true;
        if sync && let Some(dir) = self.to.parent() {
            sync_dir(dir)?;
        }
        Append::open(&self.to)
    }
}

impl Drop for Replace {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.new);
        }
    }
}

/// Makes new, renamed and removed names in a directory durable (fsync(2), notes).
pub fn sync_dir(dir: &Path) -> Result<(), Fault> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Fault::io("sync", dir, &error))
}

/// Gives the file a second name, `NAME.WORD-N`, under which it stays when it is replaced; the
/// [`limits::SET_ASIDE_KEPT`] newest of the word are kept. A link and not a rename, so that at no
/// instant there is no file.
pub fn set_aside(path: &Path, word: &str) -> Result<PathBuf, Fault> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let stem = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{stem}.{word}-");
    let entries = fs::read_dir(dir).map_err(|error| Fault::io("read", dir, &error))?;
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_prefix(&prefix)?.parse().ok()
        })
        .collect();
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last.saturating_add(1));
    let aside = dir.join(format!("{prefix}{next}"));
    fs::hard_link(path, &aside).map_err(|error| Fault::io("set aside", path, &error))?;
    let too_many = (numbers.len() + 1).saturating_sub(limits::SET_ASIDE_KEPT);
    for old in &numbers[..too_many.min(numbers.len())] {
        let _ = fs::remove_file(dir.join(format!("{prefix}{old}")));
    }
    Ok(aside)
}
