//! The locks and directories.

use super::*;
use nix::sys::signal::{Signal, kill};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;
use vitald::journal::lock::{Lock, LockError, Owner, prepare};

/// A process that holds the lock, and a helper that it forked while holding it.
fn holder(dir: &Path) -> (Forked, i32) {
    let (mut told, tell) = std::io::pipe().unwrap();
    let child = Forked::run(|| {
        let _lock = Lock::take(dir).unwrap();
        let helper = Forked::run(|| {
            std::thread::sleep(Duration::from_secs(60));
            0
        });
        (&tell)
            .write_all(&helper.pid.as_raw().to_ne_bytes())
            .unwrap();
        std::thread::sleep(Duration::from_secs(60));
        0
    });
    drop(tell);
    let mut helper = [0; 4];
    told.read_exact(&mut helper).unwrap();
    (child, i32::from_ne_bytes(helper))
}

#[test]
fn a_second_daemon_is_refused_and_told_the_pid_and_a_dead_ones_helper_is_no_daemon() {
    let dir = Dir::new();
    let (mut child, helper) = holder(&dir);
    let pid = child.pid.as_raw();
    let error = Lock::take(&dir).unwrap_err();
    let path = dir.join("lock");
    assert_eq!(error, LockError::Held { path, pid });
    let text = error.to_string();
    assert!(text.contains(&format!("process {pid}")), "{text}");
    assert!(text.contains("vitald shutdown"), "{text}");
    child.kill();
    child.wait();
    // The helper inherited the descriptor, and lives: with flock(2) it would hold the lock.
    let helper = nix::unistd::Pid::from_raw(helper);
    kill(helper, None).unwrap();
    let taken = Lock::take(&dir);
    kill(helper, Signal::SIGKILL).unwrap();
    assert!(taken.is_ok(), "{taken:?}");
}

#[test]
fn daemon_and_scribe_lock_beside_each_other() {
    let dir = Dir::new();
    let (mut told, tell) = std::io::pipe().unwrap();
    let mut child = Forked::run(|| {
        let _lock = Lock::wait_as_scribe(&dir).unwrap();
        (&tell).write_all(b"1").unwrap();
        std::thread::sleep(Duration::from_secs(60));
        0
    });
    drop(tell);
    told.read_exact(&mut [0]).unwrap();
    let pid = child.pid.as_raw();
    let lock = Lock::take(&dir).unwrap();
    assert_eq!(lock.holder(Owner::Scribe), Ok(Some(pid)));
    assert!(!lock.scribe_gone(None, Duration::from_millis(20)));
    assert!(lock.scribe_gone(Some(pid), Duration::ZERO), "it is ours");
    child.kill();
    child.wait();
    assert!(lock.scribe_gone(None, Duration::from_secs(10)));
}

#[test]
fn directories_are_made_with_their_rights_and_problems_named() {
    let dir = Dir::new();
    let made = dir.join("a/b");
    assert_eq!(prepare(&made, 0o750), Ok(Vec::new()));
    assert_eq!(made.metadata().unwrap().mode() & 0o777, 0o750);
    assert_eq!(prepare(&made, 0o755), Ok(Vec::new()), "it may be there");
    fs::set_permissions(&made, fs::Permissions::from_mode(0o777)).unwrap();
    let notes = prepare(&made, 0o750).unwrap();
    assert!(notes[0].contains("may be written by others"), "{notes:?}");
    fs::write(dir.join("file"), "").unwrap();
    let fault = prepare(&dir.join("file"), 0o750).unwrap_err();
    assert!(fault.to_string().ends_with("File exists (17)"), "{fault}");
}

#[test]
fn a_read_only_directory_is_told_apart() {
    let Some(dir) = Dir::small(64) else { return };
    dir.remount("ro");
    let error = Lock::take(&dir).unwrap_err();
    assert!(matches!(error, LockError::ReadOnly(_)), "{error:?}");
    assert!(error.to_string().ends_with("Read-only file system (30)"));
    assert_eq!(prepare(&dir.join("."), 0o750).map(|_| ()), Ok(()));
}
