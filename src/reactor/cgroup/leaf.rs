//! One cgroup and all below it: who is in it, what it used, its end. Files of the kernel's, each
//! read or written at once; nothing is remembered.
//!
//! Kernel: `cgroup.events` is 4.5 (`populated`), `cgroup.freeze` 5.2, `cgroup.kill` 5.14,
//! `memory.events`' `oom_kill` 4.13.

use crate::id::Pid;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Cgroups within one another that are looked into; more is a service's doing, and ended all the
/// same by `cgroup.kill`.
const DEPTH: usize = 16;
/// Bytes of a file of the kernel's: what most have, and more than any has that is read here.
const SHORT: usize = 512;
const LONG: u64 = 16 << 20;

/// By its directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaf(pub PathBuf);

impl Leaf {
    /// These files are short, and are asked for with each `status`: no look at their size first.
    fn read(&self, file: &str) -> io::Result<String> {
        let mut text = String::with_capacity(SHORT);
        let file = fs::File::open(self.0.join(file))?;
        file.take(LONG).read_to_string(&mut text)?;
        Ok(text)
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        // Not `fs::write`, which would make the file.
        let mut to = fs::OpenOptions::new().write(true).open(self.0.join(file))?;
        io::Write::write_all(&mut to, text.as_bytes())
    }

    /// A number that stands behind this word in a file of words and numbers.
    fn number(&self, file: &str, word: &str) -> Option<u64> {
        let text = self.read(file).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(word))?;
        line.trim_start().parse().ok()
    }

    pub fn exists(&self) -> bool {
        self.0.is_dir()
    }

    /// Processes in it, and in what is below it. 0: one of another pid namespace.
    pub fn processes(&self) -> Vec<Pid> {
        self.list().0
    }

    /// The same, and whether that is all of them.
    fn list(&self) -> (Vec<Pid>, bool) {
        let (mut found, mut whole) = (Vec::new(), true);
        let reached = self.walk(DEPTH, &mut |leaf| match leaf.read("cgroup.procs") {
            Ok(text) => found.extend(text.lines().filter_map(|line| line.parse().ok().map(Pid))),
            // A threaded one does not tell (EOPNOTSUPP).
            Err(error) => whole &= error.kind() == ErrorKind::NotFound,
        });
        (found, whole && reached)
    }

    /// Does nobody live in it, or below it, but these? A zombie does not.
    pub fn is_empty_but(&self, known: &[Pid]) -> bool {
        if self.number("cgroup.events", "populated") == Some(0) {
            return true;
        }
        // One that is just going counts as there a moment longer than it is listed.
        let (listed, whole) = self.list();
        whole && listed.iter().all(|pid| known.contains(pid))
    }

    /// Its links tell, as those of most directories: two, and one for each within it. Reading it
    /// instead costs five system calls, at each start.
    fn has_inner(&self) -> bool {
        fs::metadata(&self.0).is_ok_and(|data| data.nlink() != 2)
    }

    /// It, and what is below it, that first. False: there is more below than is looked into.
    fn walk(&self, depth: usize, visit: &mut dyn FnMut(&Leaf)) -> bool {
        let mut whole = true;
        let inside = self.has_inner().then(|| fs::read_dir(&self.0));
        for entry in inside.into_iter().flatten().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                whole &= depth > 0 && Leaf(entry.path()).walk(depth - 1, visit);
            }
        }
        visit(self);
        whole
    }

    /// SIGKILL to all in it and below it, at once: nobody forks away from it.
    pub fn kill(&self) {
        let done = self.write("cgroup.kill", "1");
        if done.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            // An older kernel. Who forks meanwhile is found by asking again.
            self.thaw();
            for pid in self.processes().into_iter().filter(|pid| pid.0 > 1) {
                // SAFETY: numbers only; a process of this cgroup a moment ago.
                unsafe { libc::kill(pid.0, libc::SIGKILL) };
            }
        }
    }

    /// What is frozen handles no signal; it only dies of one that is fatal by itself.
    pub fn thaw(&self) {
        self.walk(DEPTH, &mut |leaf| {
            let frozen = leaf.read("cgroup.freeze");
            if frozen.is_ok_and(|text| text.trim() == "1") {
                let _ = leaf.write("cgroup.freeze", "0");
            }
        });
    }

    /// Waits until nobody is in it any more, or it is time. False: somebody is.
    pub fn wait_empty(&self, until: Instant) -> bool {
        let Ok(mut events) = fs::File::open(self.0.join("cgroup.events")) else {
            return true;
        };
        loop {
            let mut text = String::new();
            // Reading also says that what changes from now on is to be told (poll(2), POLLPRI).
            let told =
                io::Seek::rewind(&mut events).and_then(|()| events.read_to_string(&mut text));
            if told.is_err() || text.contains("populated 0") {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let mut poll = libc::pollfd {
                fd: events.as_raw_fd(),
                events: libc::POLLPRI,
                revents: 0,
            };
            let timeout = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
            // SAFETY: one entry, as is said.
            unsafe { libc::poll(&raw mut poll, 1, timeout) };
        }
    }

    /// Removes it and what is below it. An error (EBUSY): somebody is in it.
    pub fn remove(&self) -> io::Result<()> {
        let mut last = fs::remove_dir(&self.0);
        if last.is_err() && self.has_inner() {
            self.walk(DEPTH, &mut |leaf| last = fs::remove_dir(&leaf.0));
        }
        match last {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Processes of it that the kernel has killed for want of memory; None: nobody counts.
    pub fn oom_kills(&self) -> Option<u64> {
        self.number("memory.events", "oom_kill ")
    }

    /// All numbers of processes that it may have are taken.
    pub fn is_full(&self) -> bool {
        let number = |file| self.read(file).ok()?.trim().parse::<u64>().ok();
        match (number("pids.current"), number("pids.max")) {
            (Some(current), Some(max)) => current >= max,
            (_, _) => false,
        }
    }

    /// Bytes of memory, processes, and microseconds of processor time; what is not counted is None.
    pub fn usage(&self) -> (Option<u64>, u64, Option<u64>) {
        let memory = self.read("memory.current").ok();
        let memory = memory.and_then(|text| text.trim().parse().ok());
        let processes = self.processes().len() as u64;
        (memory, processes, self.cpu_us())
    }

    pub fn cpu_us(&self) -> Option<u64> {
        self.number("cpu.stat", "usage_usec")
    }

    /// Bytes of memory without the file pages that can be dropped at once; None: nobody counts.
    pub fn working_set(&self) -> Option<u64> {
        let inactive = self.number("memory.stat", "inactive_file ").unwrap_or(0);
        self.usage().0.map(|bytes| bytes.saturating_sub(inactive))
    }

    /// A controller's setting.
    pub fn set(&self, file: &str, value: &str) -> io::Result<()> {
        self.write(file, value)
    }

    /// Controllers that are named in this file of it.
    pub fn names(&self, file: &str) -> Vec<String> {
        let text = self.read(file).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }
}

impl From<&Path> for Leaf {
    fn from(dir: &Path) -> Leaf {
        Leaf(dir.to_owned())
    }
}
