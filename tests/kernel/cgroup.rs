//! Cgroups of version 2 (cgroups(7), Documentation/admin-guide/cgroup-v2.rst).

use super::{SOON, alone, kill, reap, state, until, wait};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;
use vitald::exit::{Exit, Signal};
use vitald::id::Pid;
use vitald::reactor::cgroup::{self, Leaf};
use vitald::reactor::helper::Helper;
use vitald::reactor::{child, procfs, sys};

/// A cgroup of a test's own, which goes with all in it.
struct Group(PathBuf);

impl Group {
    /// None: there are none here, and the test is passed over.
    fn new(test: &str) -> Option<Group> {
        let name = format!("/test-{}-{test}", std::process::id());
        let made = cgroup::dir_for(Path::new(&name)).and_then(|dir| {
            fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
            Ok(dir)
        });
        match made {
            Ok(dir) => Some(Group(dir)),
            Err(why) => {
                let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
                assert!(!required, "no cgroups: {why}, and VITALD_TEST_REQUIRE=1");
                eprintln!("skipped: no cgroups: {why}");
                None
            }
        }
    }

    fn leaf(&self) -> Leaf {
        Leaf(self.0.clone())
    }

    fn set(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }

    fn says(&self, words: &str) -> bool {
        let events = fs::read_to_string(self.0.join("cgroup.events")).unwrap();
        events.contains(words)
    }

    /// A child that is born in it and lives until it is killed, or ends with 7 by SIGTERM; with
    /// `young` its own child too, in a session of its own.
    fn child(&self, young: bool) -> Helper {
        extern "C" fn ends(_: libc::c_int) {
            // SAFETY: always allowed.
            unsafe { libc::_exit(7) }
        }
        let dir = File::open(&self.0).unwrap();
        let (pipe, writer) = sys::pipe(true).unwrap();
        // SAFETY: the child makes system calls only.
        let cloned = unsafe { sys::clone_into(dir.as_fd()) }.unwrap();
        let Some((pid, pidfd)) = cloned else {
            let handler: extern "C" fn(libc::c_int) = ends;
            unsafe {
                libc::signal(libc::SIGTERM, handler as libc::sighandler_t);
                if young && libc::fork() == 0 {
                    libc::setsid();
                }
                libc::write(writer.as_raw_fd(), c"x".as_ptr().cast(), 1);
                loop {
                    libc::pause();
                }
            }
        };
        assert!(child::wait_ended(&pipe, SOON), "it is never set up");
        Helper { pid, pidfd, pipe }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let end = Instant::now() + SOON;
        while self.leaf().remove().is_err() && Instant::now() < end {
            self.leaf().kill();
            std::thread::yield_now();
        }
    }
}

/// `spawn`: there is no moment in which it is elsewhere.
#[test]
fn a_child_is_born_in_the_cgroup() {
    let Some(group) = Group::new("born") else {
        return;
    };
    let child = group.child(false);
    assert_eq!(group.leaf().processes(), [child.pid]);
    let path = fs::read_to_string(format!("/proc/{}/cgroup", child.pid)).unwrap();
    let name = group.0.file_name().unwrap().to_str().unwrap();
    let own = path.lines().find_map(|line| line.strip_prefix("0::"));
    assert!(own.unwrap().ends_with(name), "{path}");
    kill(&child, libc::SIGKILL);
    reap(&child);
}

/// `leaf`: its links tell whether there are cgroups within it, without reading it.
#[test]
fn links_count_the_cgroups_within() {
    use std::os::unix::fs::MetadataExt;
    let Some(group) = Group::new("links") else {
        return;
    };
    let links = || fs::metadata(&group.0).unwrap().nlink();
    assert_eq!(links(), 2);
    fs::create_dir(group.0.join("a")).unwrap();
    fs::create_dir(group.0.join("a/b")).unwrap();
    assert_eq!(links(), 3);
    fs::remove_dir(group.0.join("a/b")).unwrap();
    fs::remove_dir(group.0.join("a")).unwrap();
    assert_eq!(links(), 2);
}

/// `tree`: all of them at once, whatever their sessions; and who waits is told.
#[test]
fn cgroup_kill_ends_all_and_tells_when_it_is_empty() {
    alone(|| {
        child::become_subreaper().unwrap();
        let Some(group) = Group::new("kill") else {
            return;
        };
        let child = group.child(true);
        until("both are there", || group.leaf().processes().len() == 2);
        let mut events = File::open(group.0.join("cgroup.events")).unwrap();
        let mut text = String::new();
        events.read_to_string(&mut text).unwrap();
        assert!(text.contains("populated 1"), "{text}");
        group.set("cgroup.kill", "1");
        let mut poll = libc::pollfd {
            fd: events.as_raw_fd(),
            events: libc::POLLPRI,
            revents: 0,
        };
        assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 20_000) }, 1);
        until("nobody is there", || {
            text.clear();
            events.rewind().unwrap();
            events.read_to_string(&mut text).unwrap();
            text.contains("populated 0")
        });
        assert_eq!(reap(&child), Exit::Signal(Signal::KILL));
        assert!(group.leaf().wait_empty(Instant::now() + SOON));
    });
}

/// `leaf`: whoever is listed lives; so the end of a run can be told before it is reaped.
#[test]
fn a_zombie_is_not_listed() {
    let Some(group) = Group::new("zombie") else {
        return;
    };
    let child = group.child(false);
    kill(&child, libc::SIGKILL);
    wait(&child);
    assert_eq!(state(&child), b'Z');
    assert!(group.leaf().is_empty_but(&[]));
    reap(&child);
}

/// What somebody is in cannot be removed; nor can what a file of the kernel's is called.
#[test]
fn a_populated_cgroup_is_not_removed() {
    let Some(group) = Group::new("busy") else {
        return;
    };
    let child = group.child(false);
    let error = group.leaf().remove().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    assert!(!group.leaf().is_empty_but(&[]));
    assert!(group.leaf().is_empty_but(&[child.pid]));
    kill(&child, libc::SIGKILL);
    reap(&child);
    let error = fs::create_dir(group.0.join("cgroup.procs")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
}

/// What is below counts for what is above, and goes first.
#[test]
fn whoever_is_below_is_there_too() {
    let Some(group) = Group::new("below") else {
        return;
    };
    let below = Group(group.0.join("a"));
    fs::create_dir(&below.0).unwrap();
    let child = below.child(false);
    assert_eq!(group.leaf().processes(), [child.pid]);
    assert!(group.says("populated 1"));
    group.leaf().kill();
    assert_eq!(reap(&child), Exit::Signal(Signal::KILL));
    drop(below);
    assert!(!group.0.join("a").exists());
}

/// `runs`: who is frozen handles no SIGTERM until it is thawed; what is fatal by itself, as SIGKILL
/// always is, it does not survive.
#[test]
fn a_frozen_process_handles_no_signal() {
    let Some(group) = Group::new("frozen") else {
        return;
    };
    let (first, second) = (group.child(false), group.child(false));
    group.set("cgroup.freeze", "1");
    until("they are frozen", || group.says("frozen 1"));
    kill(&first, libc::SIGTERM);
    kill(&first, libc::SIGCONT);
    kill(&second, libc::SIGKILL);
    assert_eq!(reap(&second), Exit::Signal(Signal::KILL));
    assert!(!sys::has_ended(first.pidfd.as_fd()));
    group.leaf().thaw();
    assert_eq!(reap(&first), Exit::Code(7));
}

/// `cgroup`: its directory can be locked like any other, by one at a time.
#[test]
fn its_directory_can_be_locked() {
    let Some(group) = Group::new("lock") else {
        return;
    };
    let open = || File::open(&group.0).unwrap();
    let held = Flock::lock(open(), FlockArg::LockExclusiveNonblock).unwrap();
    assert!(Flock::lock(open(), FlockArg::LockExclusiveNonblock).is_err());
    drop(held);
    assert!(Flock::lock(open(), FlockArg::LockExclusiveNonblock).is_ok());
}

/// `child_setup`: where clone3 cannot, a child puts itself there, also by a descriptor that it was
/// given.
#[test]
fn a_child_can_put_itself_there() {
    let Some(group) = Group::new("door") else {
        return;
    };
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).open(group.0.join("cgroup.procs"));
    let door: OwnedFd = file.unwrap().into();
    let number = door.as_raw_fd();
    let child = super::fork(&[door.as_fd()], || {
        let written = unsafe { libc::write(number, c"0".as_ptr().cast(), 1) };
        u8::from(written != 1)
    });
    wait(&child);
    let path = fs::read_to_string(format!("/proc/{}/cgroup", child.pid)).unwrap();
    let name = group.0.file_name().unwrap().to_str().unwrap();
    assert!(path.contains(name), "{path}");
    assert_eq!(reap(&child), Exit::Code(0));
    assert!(procfs::proc_stat(Pid(child.pid.0)).is_err());
}
