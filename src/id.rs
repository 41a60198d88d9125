//! Names for things that live and die: services, runs, checks, tickets.
//!
//! Invariant: a [`RunId`] is never used twice while the daemon's state lives, and everything that
//! happens to a process carries one; what carries an old one is dropped and counted. The same
//! holds for a [`CheckId`] and the answer to a probe.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A service's slot in the engine's table. Slots of deleted services may be used again; run
/// numbers go on, so an old [`RunId`] never fits the new tenant.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ServiceId(pub u32);

impl ServiceId {
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One incarnation of a service's process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RunId {
    pub service: ServiceId,
    /// Counts up from 1; 0 is "no run yet".
    pub number: u32,
}

/// One asking of a probe: which run it judges, which of the definition's probes, which time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct CheckId {
    pub run: RunId,
    pub probe: u16,
    pub serial: u32,
}

/// A process id as the kernel gives it (pid_t, always positive here).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A client's request that waits for its answer. Given out by whoever serves the client; the
/// engine only hands it back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub u64);
