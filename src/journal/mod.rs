//! What outlives the daemon: two directories, their locks, and the journals in them.
//!
//! - [`line`]: one record a line, with a checksum; the reader that tells torn from corrupt.
//! - [`runtime`]: what is so. On a tmpfs, never synced; outlives the daemon, not the boot.
//! - [`state`]: what the operator wants. Written and synced by the scribe only; outlives the boot.
//! - `alerts`: those in the former, read back.
//! - [`lock`]: making both directories and locking them.
//! - [`file`]: whole writes, atomic replacement, setting a file aside.
//!
//! It decides nothing: what a record means is the engine's business. Invariant: nothing found in
//! a file is a reason not to start; what could not be read is kept beside it and said.

mod alerts;
pub mod boots;
pub mod file;
pub mod line;
pub mod lock;
pub mod reboots;
pub mod record;
pub mod replay;
pub mod runtime;
pub mod state;

use nix::errno::Errno;
use std::fmt;
use std::path::Path;

/// Something that could not be done, with its cause.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// What was being done and to what: `open /run/vitald/lock`.
    pub doing: Box<str>,
    pub errno: i32,
}

impl Fault {
    pub fn new(verb: &str, path: &Path, errno: Errno) -> Fault {
        Fault {
            doing: format!("{verb} {}", path.display()).into(),
            errno: errno as i32,
        }
    }

    /// The same from an `io::Error`; one without a number counts as EIO.
    pub fn io(verb: &str, path: &Path, error: &std::io::Error) -> Fault {
        Fault {
            doing: format!("{verb} {}", path.display()).into(),
            errno: error.raw_os_error().unwrap_or(Errno::EIO as i32),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = Errno::from_raw(self.errno).desc();
        write!(f, "cannot {}: {cause} ({})", self.doing, self.errno)
    }
}

impl std::error::Error for Fault {}
