//! The two directories: made, looked at, and locked against a second daemon.
//!
//! The lock is a POSIX record lock (fcntl(2), F_SETLK) on the file `lock`: byte 0 is the daemon's,
//! byte 1 the scribe's. A flock(2) lock would be inherited by every forked helper and outlive the
//! daemon; a record lock belongs to the process and ends with it.
//!
//! Invariant on which this rests: a process that holds such a lock opens that file nowhere else,
//! because closing any descriptor of a file drops all its record locks on it.

use super::Fault;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Of the runtime directory: clients must reach the socket, which has rights of its own.
pub const RUNTIME_MODE: u32 = 0o755;
/// Of the state directory: definitions given over the socket may hold secrets.
pub const STATE_MODE: u32 = 0o750;
/// Of the directory of log files: a group may be let in to read.
pub const LOGS_MODE: u32 = 0o750;

/// Whose byte of the lock file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    Daemon = 0,
    Scribe = 1,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LockError {
    /// Another live process has it. Pid 0: one that is not visible from this pid namespace.
    Held {
        path: PathBuf,
        pid: i32,
    },
    /// The directory cannot be written to: there is nothing to protect and nothing durable.
    ReadOnly(Fault),
    Fault(Fault),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Held { path, pid: 0 } => write!(
                f,
                "{} is locked by a process of another pid namespace; stop that one first, or \
                 choose other directories",
                path.display()
            ),
            LockError::Held { path, pid } => write!(
                f,
                "{} is locked by process {pid}: a vitald already runs there; stop it first \
                 (`vitald shutdown`), or choose other directories",
                path.display()
            ),
            LockError::ReadOnly(fault) | LockError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for LockError {}

/// Makes the directory and those above it. Returns what a person should know of it.
pub fn prepare(dir: &Path, mode: u32) -> Result<Vec<String>, Fault> {
    let fault = |error: &io::Error| Fault::io("make directory", dir, error);
    match DirBuilder::new().recursive(true).mode(mode).create(dir) {
        Ok(()) => {}
        // A name of another kind; and a read-only root says EROFS also of a directory that is.
        Err(error) if dir.is_dir() => log::debug!("{}: {error}", dir.display()),
        Err(error) => return Err(fault(&error)),
    }
    let found = dir.metadata().map_err(|error| fault(&error))?;
    let mut notes = Vec::new();
    // A sticky directory protects names from strangers, but not from being made by them.
    if found.mode() & 0o022 != 0 {
        notes.push(format!(
            "{} may be written by others (mode {:o}): they can replace what is in it; \
             `chmod go-w` it",
            dir.display(),
            found.mode() & 0o7777
        ));
    }
    Ok(notes)
}

/// A held lock; dropping it, or the process's end, lets go.
#[derive(Debug)]
pub struct Lock {
    file: ManuallyDrop<File>,
    path: PathBuf,
    /// Only the process's end lets go: should this execution fail, the one before needs it.
    inherited: bool,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.inherited {
            // SAFETY: once, and it is not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.file) };
        }
    }
}

impl Lock {
    /// Takes the daemon's lock on a directory, or says who has it.
    pub fn take(dir: &Path) -> Result<Lock, LockError> {
        let lock = Lock::open(dir)?;
        // Between the refusal and the question the holder may end: then ask once more.
        for _ in 0..3 {
            match lock.set(Owner::Daemon, false) {
                Ok(()) => return Ok(lock),
                Err(Errno::EAGAIN | Errno::EACCES) => {}
                Err(errno) => {
                    return Err(LockError::Fault(Fault::new("lock", &lock.path, errno)));
                }
            }
            if let Some(pid) = lock.holder(Owner::Daemon)? {
                let path = lock.path.clone();
                return Err(LockError::Held { path, pid });
            }
        }
        let fault = Fault::new("lock", &lock.path, Errno::EAGAIN);
        Err(LockError::Fault(fault))
    }

    /// The lock that an execution of this process before us holds: a record lock survives execve(2)
    /// as long as no descriptor of its file closes. None: it is not that directory's any more.
    pub fn inherit(dir: &Path, fd: OwnedFd) -> Option<Lock> {
        let path = dir.join("lock");
        let file = File::from(fd);
        let (held, named) = (file.metadata().ok()?, path.symlink_metadata().ok()?);
        let mut lock = Lock::of(file, path);
        let same = (held.dev(), held.ino()) == (named.dev(), named.ino());
        lock.inherited = same && lock.set(Owner::Daemon, false).is_ok();
        lock.inherited.then_some(lock)
    }

    fn of(file: File, path: PathBuf) -> Lock {
        Lock {
            file: ManuallyDrop::new(file),
            path,
            inherited: false,
        }
    }

    fn open(dir: &Path) -> Result<Lock, LockError> {
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        match file {
            Ok(file) => Ok(Lock::of(file, path)),
            Err(error) => {
                let fault = Fault::io("open", &path, &error);
                match error.kind() {
                    io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                        Err(LockError::ReadOnly(fault))
                    }
                    _ => Err(LockError::Fault(fault)),
                }
            }
        }
    }

    /// Waits for the scribe's lock: an older scribe still writes what its daemon left to it. For
    /// the scribe only, which may block.
    pub fn wait_as_scribe(dir: &Path) -> Result<Lock, LockError> {
        let lock = Lock::open(dir)?;
        loop {
            match lock.set(Owner::Scribe, true) {
                Ok(()) => return Ok(lock),
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    return Err(LockError::Fault(Fault::new("lock", &lock.path, errno)));
                }
            }
        }
    }

    fn set(&self, owner: Owner, wait: bool) -> Result<(), Errno> {
        let whole = range(owner);
        let how = match wait {
            true => FcntlArg::F_SETLKW(&whole),
            false => FcntlArg::F_SETLK(&whole),
        };
        fcntl(&*self.file, how).map(drop)
    }

    /// The process that has a byte, were we to ask for it; None when nobody else has.
    pub fn holder(&self, owner: Owner) -> Result<Option<i32>, LockError> {
        let mut asked = range(owner);
        fcntl(&*self.file, FcntlArg::F_GETLK(&mut asked))
            .map_err(|errno| LockError::Fault(Fault::new("look at", &self.path, errno)))?;
        Ok((asked.l_type != libc::F_UNLCK as libc::c_short).then_some(asked.l_pid))
    }

    /// Waits, at most for `patience`, until no scribe but `ours` has its byte: what a dead
    /// daemon's scribe still writes must be in the file before it is read. Only before the loop
    /// runs. False: it still writes.
    pub fn scribe_gone(&self, ours: Option<i32>, patience: Duration) -> bool {
        let begun = Instant::now();
        loop {
            match self.holder(Owner::Scribe) {
                Ok(None) | Err(_) => return true,
                Ok(holder) if holder == ours => return true,
                Ok(_) if begun.elapsed() >= patience => return false,
                // There is no event to wait for but the lock itself, and taking it would let the
                // scribe that follows wait in vain.
                Ok(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl AsRawFd for Lock {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

fn range(owner: Owner) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: owner as libc::off_t,
        l_len: 1,
        l_pid: 0,
    }
}
