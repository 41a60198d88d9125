//! What a process may not do: capabilities, new privileges, a file system that is read-only.
//! What needs the daemon's directories too (secrets, a /tmp of its own) is in tests/daemon.

use super::rig::*;
use vitald::config::{Confine, Process};

const BIND: u64 = 1 << 10;

fn of(confine: Confine) -> Process {
    Process {
        confine,
        ..Process::default()
    }
}

fn caps(process: &Process) -> [u64; 4] {
    let status = say(process, &["cat", "/proc/self/status"]);
    let of = |key: &str| u64::from_str_radix(line(&status, key), 16).unwrap();
    [of("CapPrm:"), of("CapEff:"), of("CapBnd:"), of("CapAmb:")]
}

#[test]
fn no_new_privs_is_set_when_asked_for() {
    let says = |process: &Process| {
        let status = say(process, &["cat", "/proc/self/status"]);
        line(&status, "NoNewPrivs:").to_owned()
    };
    assert_eq!(says(&Process::default()), "0");
    let confine = Confine {
        no_new_privs: true,
        ..Confine::default()
    };
    assert_eq!(says(&of(confine)), "1");
}

#[test]
fn capabilities_are_all_that_root_has_and_what_another_user_is_given() {
    if !root() {
        return;
    }
    let confine = |bits| Confine {
        capabilities: Some(bits),
        ..Confine::default()
    };
    // root has what is left of the bounding set.
    assert_eq!(caps(&of(confine(BIND))), [BIND, BIND, BIND, 0]);
    assert_eq!(caps(&of(confine(0))), [0; 4]);
    // Another user has them over the exec, and no others.
    let user = |bits| Process {
        user: Some("nobody".into()),
        ..of(confine(bits))
    };
    assert_eq!(caps(&user(BIND)), [BIND; 4]);
    assert_eq!(caps(&user(0)), [0; 4]);
    // A user without the key has none but may gain them.
    let plain = Process {
        user: Some("nobody".into()),
        ..Process::default()
    };
    let [permitted, _, bounding, ambient] = caps(&plain);
    assert!((permitted, ambient) == (0, 0) && bounding != 0);
}

#[test]
fn read_only_leaves_what_is_named_and_the_kernels_own() {
    if !root() {
        return;
    }
    let scratch = Scratch::new("read-only");
    let inside = scratch.file("inside/file", "", 0o644);
    let outside = scratch.file("outside", "", 0o644);
    let dir = inside.rsplit_once('/').unwrap().0;
    let process = of(Confine {
        read_only: true,
        writable: Box::new([dir.into(), "-/no/such/directory".into()]),
        ..Confine::default()
    });
    let script = format!(
        "echo x > {inside} && echo writable; echo x > {outside} || echo not
         echo x > /dev/null && echo null; echo 7 > /proc/self/oom_score_adj && echo proc"
    );
    let said = say(&process, &["sh", "-c", &script]);
    let said: Vec<&str> = said.lines().filter(|l| !l.starts_with("sh:")).collect();
    assert_eq!(said, ["writable", "not", "null", "proc"]);
    // It is the process's own view.
    std::fs::write(&outside, "y").unwrap();
    assert_eq!(std::fs::read_to_string(&inside).unwrap(), "x\n");

    let missing = of(Confine {
        read_only: true,
        writable: Box::new(["/no/such/directory".into()]),
        ..Confine::default()
    });
    let error = error(&missing, &["true"]);
    assert_eq!(
        (&*error.step, error.errno),
        ("writable /no/such/directory", libc::ENOENT)
    );
}

/// What the host has mounted stays the host's, also where its mounts are shared with whoever comes
/// after, as systemd has them; what is mounted below the root is read-only with it; and what of the
/// kernel's own is read-only already, as a container's /proc/sys, does not become writable.
#[test]
fn the_hosts_mounts_stay_as_they_are() {
    if !root() {
        return;
    }
    let scratch = Scratch::new("mounts");
    let inside = scratch.file("inside/file", "", 0o644);
    let deep = scratch.file("deep/file", "", 0o644);
    let dir = |file: &str| file.rsplit_once('/').unwrap().0.to_owned();
    let (inside, deep) = (dir(&inside), dir(&deep));
    let process = of(Confine {
        read_only: true,
        writable: Box::new([inside.clone().into()]),
        ..Confine::default()
    });
    let script =
        format!("cat /proc/self/mountinfo; echo > {deep}/new && echo WRITTEN; echo > {inside}/new");
    let below = std::ffi::CString::new(deep).unwrap();
    alone(|| {
        // Shared from here on; first not with the machine that this is tried on.
        let (own, shared) = (
            libc::MS_REC | libc::MS_PRIVATE,
            libc::MS_REC | libc::MS_SHARED,
        );
        let (root, none) = (c"/".as_ptr(), std::ptr::null());
        let frozen = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
        let (tmpfs, sys) = (c"tmpfs".as_ptr(), c"/proc/sys".as_ptr());
        // SAFETY: numbers, and strings that live through the calls.
        let done = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(none, root, none, own, none.cast()) == 0
                && libc::mount(none, root, none, shared, none.cast()) == 0
                && libc::mount(tmpfs, below.as_ptr(), tmpfs, 0, none.cast()) == 0
                && libc::mount(sys, sys, none, libc::MS_BIND, none.cast()) == 0
                && libc::mount(none, sys, none, frozen, none.cast()) == 0
        };
        assert!(done, "{}", std::io::Error::last_os_error());
        let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts();
        let seen = say(&process, &["sh", "-c", &script]);
        assert!(seen.contains(&inside) && !before.contains(&inside));
        assert!(!seen.contains("WRITTEN"), "{seen}");
        let sys: Vec<&str> = seen.lines().filter(|l| l.contains(" /proc/sys ")).collect();
        assert!(
            !sys.is_empty() && sys.iter().all(|l| l.contains(" ro,")),
            "{sys:?}"
        );
        assert_eq!(mounts(), before);
    });
}

/// Who may not is told, by the key.
#[test]
fn what_needs_root_says_so() {
    if !root() {
        return;
    }
    alone(|| {
        nix::unistd::setuid(nix::unistd::Uid::from_raw(65534)).unwrap();
        let fails = |confine: Confine, step: &str| {
            let error = error(&of(confine), &["true"]);
            assert_eq!((&*error.step, error.errno), (step, libc::EPERM));
        };
        let read_only = true;
        fails(
            Confine {
                read_only,
                ..Confine::default()
            },
            "read_only or private_tmp, a mount namespace",
        );
        fails(
            Confine {
                capabilities: Some(0),
                ..Confine::default()
            },
            "capabilities",
        );
    });
}
