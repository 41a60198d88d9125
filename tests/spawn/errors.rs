//! Conformance 24: every step that fails has its own words, and what is our own want is told apart.

use crate::rig::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use vitald::config::{Limit, Process};
use vitald::reactor::spawn::SpawnPlan;
use vitald::reactor::sys;

#[test]
fn each_failing_step_is_named_with_its_errno() {
    let scratch = Scratch::new("errors");
    let noexec = scratch.file("noexec", "x", 0o644);
    let nointerpreter = scratch.file("noint", "#!/nonexistent/sh\n", 0o755);
    let garbage = scratch.file("garbage", "no program", 0o755);
    let badenv = scratch.file("badenv", "A=1\n# c\nnonsense\n", 0o644);
    let bigenv = scratch.file("bigenv", &"A=1\n".repeat(20_000), 0o644);
    let process = Process::default;
    let failing = |process: Process, exec: &str, step: &str, errno: i32| {
        let error = error(&process, &[exec]);
        assert_eq!(
            (&*error.step, error.errno, error.ours),
            (step, errno, false)
        );
    };
    failing(
        process(),
        "/nonexistent/web",
        "exec /nonexistent/web",
        libc::ENOENT,
    );
    failing(
        process(),
        "no-such-tool",
        "exec no-such-tool, sought along PATH",
        libc::ENOENT,
    );
    failing(process(), &noexec, &format!("exec {noexec}"), libc::EACCES);
    failing(
        process(),
        &garbage,
        &format!("exec {garbage}"),
        libc::ENOEXEC,
    );
    let step = format!("exec {nointerpreter}, which is there: its interpreter or loader is not");
    failing(process(), &nointerpreter, &step, libc::ENOENT);
    let in_dir = |dir: &str| Process {
        working_dir: Some(dir.into()),
        ..process()
    };
    failing(
        in_dir("/srv/nowhere"),
        "true",
        "working_dir /srv/nowhere",
        libc::ENOENT,
    );
    failing(
        in_dir(&noexec),
        "true",
        &format!("working_dir {noexec}"),
        libc::ENOTDIR,
    );
    let env = |path: &str| Process {
        env_file: Some(path.into()),
        ..process()
    };
    failing(
        env("/nonexistent/env"),
        "true",
        "env_file /nonexistent/env",
        libc::ENOENT,
    );
    failing(
        env(&badenv),
        "true",
        &format!("env_file {badenv} line 3"),
        libc::EINVAL,
    );
    failing(
        env(&bigenv),
        "true",
        &format!("env_file {bigenv}"),
        libc::EFBIG,
    );
    failing(env("-/proc"), "true", "env_file /proc", libc::EISDIR);
    let user = |user: &str| Process {
        user: Some(user.into()),
        ..process()
    };
    let step = "user nobody2: not in /etc/passwd; add it there or write its number";
    failing(user("nobody2"), "true", step, 0);
    let group = Process {
        group: Some("nogroup2".into()),
        ..process()
    };
    let step = "group nogroup2: not in /etc/group; add it there or write its number";
    failing(group, "true", step, 0);
    let limits = |name: &str, soft: u64, hard: u64| Process {
        limits: BTreeMap::from([(
            name.into(),
            Limit {
                soft: Some(soft),
                hard: Some(hard),
            },
        )]),
        ..process()
    };
    failing(limits("nofile", 9, 8), "true", "limit nofile", libc::EINVAL);
    failing(
        limits("nofiles", 9, 9),
        "true",
        "limit nofiles: no such limit",
        0,
    );
    let mut env = process();
    env.env.insert("A=B".into(), "x".into());
    failing(env, "true", "env \"A=B\": no name of a variable", 0);
    failing(process(), "a\0b", "exec: a null byte in it", 0);
    let oom = Process {
        oom_score_adj: Some(2000),
        ..process()
    };
    failing(oom, "true", "oom_score_adj 2000", libc::EINVAL);
    if root() {
        let scratch_only = Scratch::new("secret");
        let path = scratch_only.0.to_str().unwrap().to_owned();
        fs::set_permissions(&scratch_only.0, fs::Permissions::from_mode(0o700)).unwrap();
        let process = Process {
            user: Some("4711".into()),
            ..in_dir(&path)
        };
        failing(
            process,
            "true",
            &format!("working_dir {path}"),
            libc::EACCES,
        );
    }
}

#[test]
fn who_may_not_change_users_is_told_so() {
    if !root() {
        return;
    }
    alone(|| {
        nix::unistd::setresuid(4711.into(), 4711.into(), 4711.into()).unwrap();
        let process = Process {
            user: Some("4712".into()),
            groups: Some(words(&[]).into()),
            ..Process::default()
        };
        let denied = error(&process, &["true"]);
        assert_eq!(
            (&*denied.step, denied.errno),
            ("groups of 4712", libc::EPERM)
        );
        let nice = Process {
            nice: Some(-5),
            ..Process::default()
        };
        let denied = error(&nice, &["true"]);
        assert_eq!((&*denied.step, denied.errno), ("nice -5", libc::EACCES));
        // Staying who we are needs no privilege.
        let same = Process {
            user: Some("4711".into()),
            group: Some("0".into()),
            ..Process::default()
        };
        assert_eq!(say(&same, &["echo", "ok"]), "ok\n");
    });
}

#[test]
fn our_own_want_of_descriptors_or_processes_is_told_apart() {
    if !root() {
        return;
    }
    alone(|| {
        use nix::sys::resource::{Resource, setrlimit};
        let spawner = spawner("ours");
        let (_reader, writer) = sys::pipe(true).unwrap();
        let process = Process::default();
        let plan = SpawnPlan {
            service: "web",
            run: None,
            outlives: false,
            exec: &words(&["true"]),
            process: &process,
            stdin: None,
            stdout: writer.as_fd(),
            stderr: writer.as_fd(),
            fds: &[],
            fd_at: None,
            pid_env: &[],
            room: None,
            env: &[],
        };
        let before = sys::nofile().unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 3, before.1).unwrap();
        let error = spawner.spawn(&plan).unwrap_err();
        assert_eq!(
            (&*error.step, error.errno, error.ours),
            ("pipe", libc::EMFILE, true)
        );
        setrlimit(Resource::RLIMIT_NOFILE, before.0, before.1).unwrap();
        setrlimit(Resource::RLIMIT_NPROC, 0, 0).unwrap();
        nix::unistd::setresuid(4711.into(), 4711.into(), 4711.into()).unwrap();
        let error = spawner.spawn(&plan).unwrap_err();
        assert_eq!(
            (&*error.step, error.errno, error.ours),
            ("fork", libc::EAGAIN, true)
        );
    });
}
