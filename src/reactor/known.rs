//! What the next execution of this process must know of children and descriptors, written down as
//! it changes: a panic hook cannot ask the loop.
//!
//! Locked by the loop for a moment at a time; a hook that finds a lock held does without.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;
use std::sync::Mutex;

/// Helpers and commands at work, by process id.
static JOBS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// A child works for us, and nobody after us will wait for it.
pub fn job_began(pid: i32) {
    if let Ok(mut jobs) = JOBS.lock() {
        jobs.insert(pid);
    }
}

pub fn job_ended(pid: i32) {
    if let Ok(mut jobs) = JOBS.lock() {
        jobs.remove(&pid);
    }
}

/// All of them now.
pub fn jobs() -> BTreeSet<i32> {
    JOBS.try_lock().map(|jobs| jobs.clone()).unwrap_or_default()
}

/// The pipes of children whose set-up has not been heard of.
static EXECS: Mutex<BTreeMap<i32, RawFd>> = Mutex::new(BTreeMap::new());

/// The child will tell on this pipe how its set-up went.
pub fn exec_began(pid: i32, pipe: RawFd) {
    if let Ok(mut execs) = EXECS.lock() {
        execs.insert(pid, pipe);
    }
}

/// It did, or it ended.
pub fn exec_ended(pid: i32) {
    if let Ok(mut execs) = EXECS.lock() {
        execs.remove(&pid);
    }
}

/// All of them now.
pub fn execs() -> BTreeMap<i32, RawFd> {
    EXECS.try_lock().map(|it| it.clone()).unwrap_or_default()
}

/// What services speak by, by name.
static HEARD: Mutex<BTreeMap<String, Heard>> = Mutex::new(BTreeMap::new());

/// What a service speaks by has changed.
pub fn heard(service: &str, change: impl FnOnce(&mut Heard)) {
    let Ok(mut all) = HEARD.lock() else { return };
    let one = all.entry(service.to_owned()).or_default();
    change(one);
    if *one == Heard::default() {
        all.remove(service);
    }
}

/// All of it now.
pub fn all_heard() -> BTreeMap<String, Heard> {
    HEARD.try_lock().map(|all| all.clone()).unwrap_or_default()
}

/// What a service speaks by, and what is kept for it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Heard {
    pub socket: Option<RawFd>,
    pub fifo: Option<RawFd>,
    /// Name, descriptor, and whether it is dropped when its other side hangs up.
    pub stored: Vec<(String, RawFd, bool)>,
    pub sockets: Vec<Listening>,
}

/// A socket that is held for a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Listening {
    /// As it is defined.
    pub listen: String,
    pub fd: RawFd,
    /// The file that is its name: device and inode.
    pub file: Option<(u64, u64)>,
}
