//! The pipes by which services speak: one FIFO each, `R/log/NAME.fifo`, for stdout and stderr.
//!
//! A FIFO and not a pipe, because it has a name, and every end of it is opened for reading *and*
//! writing: so a service holds a read end of its own pipe, is not killed by SIGPIPE when the
//! daemon dies, and writes on into the buffer; the next daemon opens the name again and finds
//! every byte. Nothing here waits for the end of a file: there is none, and a grandchild may hold
//! the other end for ever.
//!
//! What is read goes into the service's [`Ring`] and to the [`Scribe`]. Bytes are not looked at.
//! Invariants: one turn reads at most [`limits::LOG_READ_PER_TURN`] of one service; readiness is
//! edge-triggered, so whoever gets [`Drained::More`] must call again without waiting for an event.

use super::ring::Ring;
use super::scribe::Scribe;
use crate::journal::Fault;
use crate::limits;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, lstat};
use nix::unistd::{Gid, Uid, chown, mkfifo, read, unlink};
use std::fs::DirBuilder;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directory of the FIFOs.
#[derive(Debug)]
pub struct LogDir {
    path: PathBuf,
}

impl LogDir {
    /// `R/log`, for us alone: a service reaches its own pipe by the descriptors it was given.
    pub fn prepare(runtime_dir: &Path) -> Result<LogDir, Fault> {
        let path = runtime_dir.join("log");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        match made {
            Ok(()) => Ok(LogDir { path }),
            Err(error) => Err(Fault::io("make directory", &path, &error)),
        }
    }

    fn fifo(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.fifo"))
    }

    /// Opens a service's pipe, the one that is there or a new one. It belongs to the service's
    /// user, so that the service can open /dev/stdout.
    pub fn open(&self, name: &str, uid: u32, gid: u32) -> Result<LogPipe, Fault> {
        let path = self.fifo(name);
        let fault = |verb: &str, errno: Errno| Fault::new(verb, &path, errno);
        let found = match lstat(&path) {
            Ok(found) if is_fifo(&found) => Some(found),
            Ok(_) => {
                unlink(&path).map_err(|errno| fault("replace", errno))?;
                None
            }
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(fault("look at", errno)),
        };
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        if found.is_none() {
            mkfifo(&path, private).map_err(|errno| fault("make", errno))?;
        }
        let ours = Uid::effective().as_raw();
        let owner = found.map_or((ours, None), |found| (found.st_uid, Some(found.st_gid)));
        if owner != (uid, Some(gid)) {
            chown(&path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|errno| fault("chown", errno))?;
        }
        if found.is_none_or(|found| found.st_mode & 0o7777 != 0o600) {
            fchmodat(
                nix::fcntl::AT_FDCWD,
                &path,
                private,
                FchmodatFlags::FollowSymlink,
            )
            .map_err(|errno| fault("chmod", errno))?;
        }
        let fd = open(&path, ENDS | OFlag::O_NONBLOCK, Mode::empty())
            .map_err(|errno| fault("open", errno))?;
        Ok(LogPipe { fd })
    }

    /// Opens the pipe of a living service whose FIFO was removed from under it: by the service's
    /// own descriptors. None when its stdout and stderr are no pipe of ours that was removed.
    pub fn reopen_removed(&self, name: &str, pid: i32) -> Option<LogPipe> {
        let removed = format!("{} (deleted)", self.fifo(name).display());
        [1, 2].iter().find_map(|fd| {
            let path = format!("/proc/{pid}/fd/{fd}");
            let target = readlink(path.as_str()).ok()?;
            if target != removed.as_str() {
                return None;
            }
            let fd = open(path.as_str(), ENDS_LINK | OFlag::O_NONBLOCK, Mode::empty()).ok()?;
            fstat(&fd).ok().filter(is_fifo)?;
            Some(LogPipe { fd })
        })
    }

    /// The end that a new run gets as stdout and stderr: a description of its own, because
    /// whether writes block belongs to the description, and a service expects that they do.
    /// Only needed from spawn to exec.
    pub fn child_end(&self, name: &str, pipe: &LogPipe) -> Result<OwnedFd, Fault> {
        let path = self.fifo(name);
        let ours = |fd: &OwnedFd| match (fstat(fd), fstat(&pipe.fd)) {
            (Ok(new), Ok(old)) => (new.st_dev, new.st_ino) == (old.st_dev, old.st_ino),
            _ => false,
        };
        match open(&path, ENDS | OFlag::O_NONBLOCK, Mode::empty()) {
            Ok(fd) if ours(&fd) => {
                // Opened without waiting, should it be something strange; blocking from here on.
                nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_RDWR))
                    .map_err(|errno| Fault::new("open", &path, errno))?;
                Ok(fd)
            }
            // The name is gone or another's: by the open descriptor, which cannot be.
            _ => {
                let by_number = format!("/proc/self/fd/{}", pipe.fd.as_raw_fd());
                open(by_number.as_str(), ENDS_LINK, Mode::empty())
                    .map_err(|errno| Fault::new("open", &path, errno))
            }
        }
    }

    /// The service is gone for good.
    pub fn remove(&self, name: &str) {
        let path = self.fifo(name);
        if let Err(errno) = unlink(&path)
            && errno != Errno::ENOENT
        {
            log::debug!("{}", Fault::new("remove", &path, errno));
        }
    }
}

const ENDS_LINK: OFlag = OFlag::O_RDWR.union(OFlag::O_CLOEXEC).union(OFlag::O_NOCTTY);
const ENDS: OFlag = ENDS_LINK.union(OFlag::O_NOFOLLOW);

fn is_fifo(found: &nix::sys::stat::FileStat) -> bool {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO
}

/// The daemon's end. Kept across the service's runs.
#[derive(Debug)]
pub struct LogPipe {
    fd: OwnedFd,
}

impl AsRawFd for LogPipe {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Whether a pipe holds more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drained {
    /// Nothing is left; new bytes make an event.
    Empty,
    /// The turn's share was read and there may be more: no event will say so.
    More,
}

/// A service's pipe and what came out of it.
#[derive(Debug)]
pub struct ServiceLog {
    pub pipe: LogPipe,
    pub ring: Ring,
    /// Stands on the loop's list of pipes to be drained: an edge and a cap put it there once.
    pub queued: bool,
    /// The run ended; its last bytes may still be in the pipe.
    ended: bool,
}

impl ServiceLog {
    pub fn new(pipe: LogPipe) -> ServiceLog {
        ServiceLog {
            pipe,
            ring: Ring::new(),
            queued: false,
            ended: false,
        }
    }

    /// The service's process is gone: when the pipe is empty, an unfinished line ends. Call
    /// [`ServiceLog::drain`] after it.
    pub fn run_ended(&mut self) {
        self.ended = true;
    }

    /// A new run begins: what it says is not the old one's.
    pub fn run_began(&mut self, name: &str, wall_ms: u64, scribe: &mut Scribe) {
        if std::mem::take(&mut self.ended) {
            self.end_line(name, wall_ms, scribe);
        }
    }

    fn end_line(&mut self, name: &str, wall_ms: u64, scribe: &mut Scribe) {
        if self.ring.open_line().is_some() {
            self.ring.end_line();
            scribe.end_line(name, wall_ms);
        }
    }

    /// Reads one turn's share. `scratch` is a buffer for all services, of
    /// [`limits::LOG_READ_PER_TURN`]; a shorter one makes the share smaller.
    pub fn drain(
        &mut self,
        name: &str,
        wall_ms: u64,
        scratch: &mut [u8],
        scribe: &mut Scribe,
    ) -> Result<Drained, Errno> {
        let share = scratch.len().min(limits::LOG_READ_PER_TURN);
        let length = loop {
            match read(&self.pipe.fd, &mut scratch[..share]) {
                Ok(length) => break length,
                Err(Errno::EAGAIN) => break 0,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        };
        if length > 0 {
            self.ring.push(wall_ms, &scratch[..length]);
            scribe.log(name, wall_ms, &scratch[..length]);
        }
        // A short read emptied the pipe, and the next write to it is an edge (epoll(7), Q9).
        if length == share {
            return Ok(Drained::More);
        }
        if std::mem::take(&mut self.ended) {
            self.end_line(name, wall_ms, scribe);
        }
        Ok(Drained::Empty)
    }
}
