//! What must not be lost, under what disks and kills do to it: journals torn and damaged, full
//! and read-only disks, a scribe and a daemon killed with SIGKILL, pipes whose reader died.
//!
//! Real files, processes and signals; every wait is for an event and bounded. What needs a mount
//! is skipped with a message where mounting is not allowed, and fails under
//! `VITALD_TEST_REQUIRE=1`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

#[path = "journal/lock.rs"]
mod lock;
#[path = "journal/logs.rs"]
mod logs;
#[path = "journal/pipes.rs"]
mod pipes;
#[path = "journal/reboots.rs"]
mod reboots;
#[path = "journal/recording.rs"]
mod recording;
#[path = "journal/runtime.rs"]
mod runtime;
#[path = "journal/scribe.rs"]
mod scribe;
#[path = "journal/state.rs"]
mod state;

/// A directory of the test's own; gone, and unmounted, when dropped.
struct Dir {
    path: PathBuf,
    mounted: bool,
}

impl Dir {
    fn new() -> Dir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vitald-journal-{}-{n}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Dir {
            path,
            mounted: false,
        }
    }

    /// A file system of `kib` KiB; None where that cannot be had.
    fn small(kib: u32) -> Option<Dir> {
        let mut dir = Dir::new();
        dir.mounted = dir.mount(&["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]);
        if !dir.mounted {
            let required = std::env::var_os("VITALD_TEST_REQUIRE").is_some_and(|v| v == "1");
            assert!(!required, "cannot mount a tmpfs, and VITALD_TEST_REQUIRE=1");
            println!("skipped: cannot mount a tmpfs here");
            return None;
        }
        Some(dir)
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new("mount");
        let done = command.args(arguments).arg(&self.path).output();
        done.is_ok_and(|done| done.status.success())
    }

    fn remount(&self, how: &str) {
        assert!(self.mount(&["-o", &format!("remount,{how}")]));
    }

    /// Files whose name contains `part`.
    fn named(&self, part: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.path).unwrap();
        let mut paths: Vec<PathBuf> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().contains(part))
            .collect();
        paths.sort();
        paths
    }
}

impl std::ops::Deref for Dir {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.path).output();
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A forked process that runs `body` and ends with its result; killed when dropped.
struct Forked {
    pid: nix::unistd::Pid,
    waited: bool,
}

impl Forked {
    fn run(body: impl FnOnce() -> i32) -> Forked {
        // SAFETY: the child runs `body` and ends; the C library makes its allocator safe for that.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Parent { child } => Forked {
                pid: child,
                waited: false,
            },
            nix::unistd::ForkResult::Child => {
                let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                // SAFETY: always allowed; the harness's destructors must not run here.
                unsafe { libc::_exit(code.unwrap_or(99)) }
            }
        }
    }

    fn kill(&self) {
        nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    fn wait(&mut self) -> nix::sys::wait::WaitStatus {
        self.waited = true;
        nix::sys::wait::waitpid(self.pid, None).unwrap()
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        if !self.waited {
            self.kill();
            self.wait();
        }
    }
}

fn wanted(name: &str, what: &str, at: u64) -> vitald::engine::snapshot::WantedRecord {
    vitald::engine::snapshot::WantedRecord {
        definition: None,
        since_ms: None,
        name: name.into(),
        wanted: what.into(),
        by: "root".into(),
        at_wall_ms: at,
        pinned: false,
    }
}

/// Where the last line of a file begins.
fn last_line(bytes: &[u8]) -> usize {
    let before = &bytes[..bytes.len() - 1];
    before.iter().rposition(|byte| *byte == b'\n').unwrap() + 1
}
