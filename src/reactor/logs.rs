//! The pipes by which services speak: one FIFO each, `R/log/NAME.fifo`, for stdout and stderr, and
//! where stderr is to be told apart, or a logger has something to say, `R/log/NAME.stderr`.
//!
//! A FIFO and not a pipe, because it has a name, and every end of it is opened for reading *and*
//! writing: so a service holds a read end of its own pipe, is not killed by SIGPIPE when the
//! daemon dies, and writes on into the buffer; the next daemon opens the name again and finds
//! every byte. Nothing here waits for the end of a file: there is none, and a grandchild may hold
//! the other end for ever.
//!
//! Who reads them: [`super::service_log`], or a logger ([`super::loggers`]).

use crate::journal::Fault;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlink};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, lstat};
use nix::unistd::{Gid, Uid, chown, mkfifo, unlink};
use std::fs::DirBuilder;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Which pipe of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Main,
    Stderr,
}

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

    pub fn fifo(&self, name: &str, which: Which) -> PathBuf {
        self.path.join(match which {
            Which::Main => format!("{name}.fifo"),
            Which::Stderr => format!("{name}.stderr"),
        })
    }

    /// Where it is written down which process is a service's logger.
    pub fn logger_note(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.logger"))
    }

    pub fn has_stderr(&self, name: &str) -> bool {
        lstat(&self.fifo(name, Which::Stderr)).is_ok_and(|found| is_fifo(&found))
    }

    /// Opens a service's pipe, the one that is there or a new one. It belongs to the service's
    /// user, so that the service can open /dev/stdout.
    pub fn open(&self, name: &str, which: Which, uid: u32, gid: u32) -> Result<LogPipe, Fault> {
        let path = self.fifo(name, which);
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
    pub fn reopen_removed(&self, name: &str, which: Which, pid: i32) -> Option<LogPipe> {
        let removed = format!("{} (deleted)", self.fifo(name, which).display());
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
    pub fn child_end(&self, name: &str, which: Which, pipe: &LogPipe) -> Result<OwnedFd, Fault> {
        self.another_end(name, which, pipe, OFlag::O_RDWR)
    }

    /// The end that a service's logger gets as stdin. For reading only: it sees an end of its
    /// input when nobody else has the pipe open any more.
    pub fn logger_end(&self, name: &str, pipe: &LogPipe) -> Result<OwnedFd, Fault> {
        self.another_end(name, Which::Main, pipe, OFlag::O_RDONLY)
    }

    fn another_end(
        &self,
        name: &str,
        which: Which,
        pipe: &LogPipe,
        access: OFlag,
    ) -> Result<OwnedFd, Fault> {
        let path = self.fifo(name, which);
        let flags = access | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let ours = |fd: &OwnedFd| match (fstat(fd), fstat(&pipe.fd)) {
            (Ok(new), Ok(old)) => (new.st_dev, new.st_ino) == (old.st_dev, old.st_ino),
            _ => false,
        };
        let careful = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        match open(&path, careful, Mode::empty()) {
            Ok(fd) if ours(&fd) => {
                // Opened without waiting, should it be something strange; blocking from here on.
                nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(access))
                    .map_err(|errno| Fault::new("open", &path, errno))?;
                Ok(fd)
            }
            // The name is gone or another's: by the open descriptor, which cannot be.
            _ => {
                let by_number = format!("/proc/self/fd/{}", pipe.fd.as_raw_fd());
                open(by_number.as_str(), flags, Mode::empty())
                    .map_err(|errno| Fault::new("open", &path, errno))
            }
        }
    }

    /// The service is gone for good.
    pub fn remove(&self, name: &str) {
        for which in [Which::Main, Which::Stderr] {
            let path = self.fifo(name, which);
            if let Err(errno) = unlink(&path)
                && errno != Errno::ENOENT
            {
                log::debug!("{}", Fault::new("remove", &path, errno));
            }
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

impl LogPipe {
    /// In the place of one that is given up: it is empty.
    pub fn nothing() -> std::io::Result<LogPipe> {
        let fd = super::sys::empty_input()?;
        Ok(LogPipe { fd })
    }
}

impl AsFd for LogPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for LogPipe {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
