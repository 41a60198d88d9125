//! Cgroups for what is spawned: born there, or gone there by itself where clone3 cannot do it.

use crate::rig::*;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;
use vitald::config::settings::Cgroup;
use vitald::config::{KillMode, Process, Resources};
use vitald::exit::Exit;
use vitald::reactor::cgroup::{self, Cgroups, Room};
use vitald::reactor::spawn::{ExecReport, SpawnPlan};

/// From now on clone3(2) is unknown to this process (ENOSYS), as on a kernel before 5.3.
fn forget_clone3() {
    let code = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = [
        code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        code(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            libc::SYS_clone3 as u32,
            0,
            1,
        ),
        code(
            libc::BPF_RET,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
            0,
            0,
        ),
        code(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        assert_eq!(
            libc::syscall(libc::SYS_seccomp, mode, 0, &raw const filter),
            0
        );
    }
}

/// Cgroups of a test's own; None: there are none here, and the test is passed over.
fn cgroups(test: &str) -> Option<(Cgroups, PathBuf)> {
    let name = format!("/test-spawn-{}-{test}", std::process::id());
    match cgroup::dir_for(Path::new(&name)) {
        Ok(dir) => {
            let cgroups = Cgroups::prepare(&Cgroup::Auto, Path::new(&name));
            assert!(cgroups.is_on(), "{}", cgroups.words());
            Some((cgroups, dir))
        }
        Err(why) => {
            let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
            assert!(!required, "no cgroups: {why}, and VITALD_TEST_REQUIRE=1");
            eprintln!("skipped: no cgroups: {why}");
            None
        }
    }
}

/// A program says where it was when it began.
fn whereabouts(room: &Room) -> String {
    let scratch = Scratch::new("rooms");
    let path = scratch.file("out", "", 0o644);
    let output = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let spawned = spawner("rooms").spawn(&SpawnPlan {
        service: "web",
        run: Some(1),
        outlives: true,
        exec: &words(&["grep", "0::", "/proc/self/cgroup"]),
        process: &Process::default(),
        stdin: None,
        stdout: output.as_fd(),
        stderr: output.as_fd(),
        fds: &[],
        fd_at: None,
        env: &[],
        pid_env: &[],
        room: Some(room),
    });
    let spawned = spawned.unwrap();
    assert_eq!(word(&spawned), ExecReport::Executed);
    assert_eq!(ended(&spawned.pidfd), Exit::Code(0));
    fs::read_to_string(path).unwrap().trim_end().to_owned()
}

#[test]
fn a_child_is_in_its_room_with_and_without_clone3() {
    let Some((cgroups, dir)) = cgroups("room") else {
        return;
    };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    alone(|| {
        let none = Resources::default();
        let room = cgroups.room("web", &none, KillMode::Tree).unwrap().unwrap();
        let name = dir.file_name().unwrap().to_str().unwrap();
        let at = format!("{name}/web");
        let said = whereabouts(&room);
        assert!(said.ends_with(&at), "{said}");
        forget_clone3();
        let said = whereabouts(&room);
        assert!(said.ends_with(&at), "{said}");
        assert!(room.leaf.wait_empty(Instant::now() + SOON));
    });
    // Only the children went there.
    assert_eq!(fs::read_to_string("/proc/self/cgroup").unwrap(), own);
    cgroups.give_up();
    assert!(!dir.exists());
}
