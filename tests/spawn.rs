//! Spawning real processes: what a child is given (conformance 25), how a failed step is told
//! (24), how it lives and ends, and that nothing of it is left (27).
//!
//! Tests that look at all children or all descriptors of a process run in a process of their own
//! (`alone`), because the tests of this file are threads of one.

#[path = "spawn/confine.rs"]
mod confine;
#[path = "spawn/errors.rs"]
mod errors;
#[path = "spawn/life.rs"]
mod life;
#[path = "spawn/rig.rs"]
mod rig;
#[path = "spawn/rooms.rs"]
mod rooms;
#[path = "spawn/trees.rs"]
mod trees;

use rig::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use vitald::config::{Limit, Process};
use vitald::exit::Exit;
use vitald::reactor::spawn::{SpawnPlan, Spawner};
use vitald::reactor::sys::{self, Origin};

// Conformance 25: what a child is given.

#[test]
fn a_child_starts_with_clean_signals_and_a_session_of_its_own() {
    alone(|| {
        // What we do to ourselves must not reach the child.
        unsafe {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            libc::signal(libc::SIGRTMIN() + 3, libc::SIG_IGN);
        }
        nix::sys::signal::SigSet::all().thread_block().unwrap();
        let status = say(&Process::default(), &["cat", "/proc/self/status"]);
        for key in ["SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:"] {
            assert_eq!(line(&status, key), "0000000000000000", "{key}");
        }
        assert_eq!(line(&status, "Umask:"), "0022");
        let stat = say(&Process::default(), &["cat", "/proc/self/stat"]);
        let fields: Vec<&str> = stat.split(' ').collect();
        // pid = group = session, no terminal; its parent is ours.
        assert_eq!(
            (fields[0], fields[0], "0"),
            (fields[4], fields[5], fields[6])
        );
        assert_eq!(fields[3], std::process::id().to_string());
    });
}

#[test]
fn a_child_has_descriptors_0_to_2_and_the_declared_ones_only() {
    alone(|| {
        // Leaked by whoever started us: not close-on-exec, on numbers the child needs.
        let null = fs::File::open("/dev/null").unwrap();
        for fd in [5, 6, 77] {
            assert!(unsafe { libc::dup2(null.as_raw_fd(), fd) } >= 0);
        }
        let list = ["sh", "-c", "readlink /proc/self/fd/*; exit 0"];
        let text = say(&Process::default(), &list);
        let seen: Vec<&str> = text.lines().collect();
        assert_eq!(seen.len(), 3, "{text}");
        assert_eq!(seen[0], "/dev/null");
        assert_eq!(seen[1], seen[2]);

        // Declared ones arrive in order, also when they stand on each other's numbers.
        let scratch = Scratch::new("fds");
        let open = |name: &str, fd: i32| {
            let file = fs::File::open(scratch.file(name, "", 0o644)).unwrap();
            unsafe {
                let high = libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 200);
                drop(file);
                assert!(libc::dup3(high, fd, libc::O_CLOEXEC) >= 0);
            }
            unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) }
        };
        let (a, b, c) = (open("a", 4), open("b", 3), open("c", 90));
        let (reader, writer) = sys::pipe(true).unwrap();
        let spawned = spawner("fds").spawn(&SpawnPlan {
            service: "web",
            run: None,
            outlives: false,
            exec: &words(&list),
            process: &Process::default(),
            stdin: None,
            stdout: writer.as_fd(),
            stderr: writer.as_fd(),
            fds: &[a, b, c],
            fd_at: None,
            pid_env: &[],
            room: None,
            env: &[],
        });
        let spawned = spawned.unwrap();
        drop(writer);
        assert_eq!(ended(&spawned.pidfd), Exit::Code(0));
        let mut text = String::new();
        fs::File::from(reader).read_to_string(&mut text).unwrap();
        let names: Vec<&str> = text
            .lines()
            .map(|path| path.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(names[3..], ["a", "b", "c"], "{text}");
    });
}

#[test]
fn umask_working_dir_nice_limits_and_oom_score_are_as_defined() {
    let limit = |soft, hard| Limit {
        soft: Some(soft),
        hard: Some(hard),
    };
    let process = Process {
        umask: Some(0o027),
        working_dir: Some("/proc".into()),
        nice: Some(7),
        oom_score_adj: Some(300),
        limits: BTreeMap::from([
            ("core".into(), limit(0, 4096)),
            ("nofile".into(), limit(50, 60)),
        ]),
        ..Process::default()
    };
    assert_eq!(
        line(&say(&process, &["cat", "/proc/self/status"]), "Umask:"),
        "0027"
    );
    assert_eq!(say(&process, &["pwd"]).trim(), "/proc");
    assert_eq!(say(&process, &["nice"]).trim(), "7");
    assert_eq!(
        say(&process, &["cat", "/proc/self/oom_score_adj"]).trim(),
        "300"
    );
    let limits = say(&process, &["cat", "/proc/self/limits"]);
    let of = |name: &str| {
        let found: Vec<&str> = line(&limits, name).split_whitespace().collect();
        (found[0].to_owned(), found[1].to_owned())
    };
    assert_eq!(of("Max core file size"), ("0".into(), "4096".into()));
    assert_eq!(of("Max open files"), ("50".into(), "60".into()));
}

#[test]
fn what_the_daemon_raised_for_itself_is_given_back() {
    alone(|| {
        let lower = nix::sys::resource::setrlimit;
        let resource = nix::sys::resource::Resource::RLIMIT_NOFILE;
        lower(resource, 99, 512).unwrap();
        fs::write("/proc/self/oom_score_adj", "50").unwrap();
        let origin = Origin::take(None);
        assert_eq!(origin.nofile, Some((99, 512)));
        assert!(sys::nofile().unwrap().0 >= 512);
        // Lowering it needs CAP_SYS_RESOURCE, which root in a container may not have.
        assert!(matches!(origin.oom_score_adj, Some(50) | None));
        let origin = Origin {
            oom_score_adj: Some(60),
            ..origin
        };
        let spawner = Spawner::new(origin, "/s").unwrap();
        let command = ["cat", "/proc/self/limits", "/proc/self/oom_score_adj"];
        let (spawned, mut output) = start(&spawner, &Process::default(), &command).unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        ended(&spawned.pidfd);
        let limits: Vec<&str> = line(&text, "Max open files").split_whitespace().collect();
        assert_eq!(limits[..2], ["99", "512"]);
        assert_eq!(text.lines().last(), Some("60"));
    });
}

#[test]
fn user_group_and_groups_are_as_defined() {
    if !root() {
        return;
    }
    let process = Process {
        user: Some("4711".into()),
        group: Some("4712".into()),
        groups: Some(words(&["4713", "4714"]).into()),
        working_dir: Some("/".into()),
        ..Process::default()
    };
    let status = say(&process, &["cat", "/proc/self/status"]);
    assert_eq!(line(&status, "Uid:"), "4711\t4711\t4711\t4711");
    assert_eq!(line(&status, "Gid:"), "4712\t4712\t4712\t4712");
    assert_eq!(line(&status, "Groups:"), "4712 4713 4714");
    assert_eq!(line(&status, "CapEff:"), "0000000000000000");
    // By name, with what /etc/passwd says.
    let nobody = Process {
        user: Some("nobody".into()),
        ..Process::default()
    };
    let text = say(
        &nobody,
        &[
            "sh",
            "-c",
            "id -un; id -G; echo $HOME $USER $LOGNAME $SHELL",
        ],
    );
    let ours = std::process::Command::new("sh")
        .args(["-c", "id -G nobody; getent passwd nobody"])
        .output()
        .unwrap();
    let ours = String::from_utf8(ours.stdout).unwrap();
    let (groups, passwd) = ours.split_once('\n').unwrap();
    let passwd: Vec<&str> = passwd.trim().split(':').collect();
    let wanted = format!(
        "nobody\n{groups}\n{} nobody nobody {}\n",
        passwd[5], passwd[6]
    );
    assert_eq!(text, wanted);
}

#[test]
fn without_a_user_the_child_stays_who_we_are() {
    let groups = |text: &str| line(text, "Groups:").to_owned();
    let ours = fs::read_to_string("/proc/self/status").unwrap();
    let status = say(&Process::default(), &["cat", "/proc/self/status"]);
    assert_eq!(groups(&status), groups(&ours));
    assert_eq!(line(&status, "Uid:"), line(&ours, "Uid:"));
}

// The environment.

fn environment(process: &Process, test: &str) -> BTreeMap<String, String> {
    let (spawned, mut output) = start(&spawner(test), process, &["env", "-0"]).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(ended(&spawned.pidfd), Exit::Code(0));
    let mut all = BTreeMap::new();
    for entry in text.split_terminator('\0') {
        let (key, value) = entry.split_once('=').unwrap();
        assert_eq!(
            all.insert(key.to_owned(), value.to_owned()),
            None,
            "{key} is there twice"
        );
    }
    all
}

#[test]
fn a_child_gets_the_environment_it_is_promised_and_nothing_else_of_ours() {
    alone(|| {
        unsafe {
            std::env::set_var("NOTIFY_SOCKET", "/run/ours");
            std::env::set_var("VITALD_LOG", "debug");
            std::env::set_var("VITALD_RUN", "outer/1");
            std::env::set_var("OURS", "yes");
            std::env::set_var("HOME", "/our/home");
        }
        let mut process = Process::default();
        process.env.insert("COLOUR".into(), "blue = green".into());
        process.env.insert("VITALD_RUN".into(), "forged/1".into());
        let env = environment(&process, "env");
        let keys: Vec<&str> = env.keys().map(String::as_str).collect();
        let promised = [
            "COLOUR",
            "HOME",
            "LOGNAME",
            "PATH",
            "SHELL",
            "USER",
            "VITALD_RUN",
            "VITALD_SERVICE",
            "VITALD_SOCKET",
        ];
        assert_eq!(keys, promised);
        assert_eq!(env["COLOUR"], "blue = green");
        assert_eq!(env["VITALD_RUN"], "web/3");
        assert_eq!(env["VITALD_SOCKET"], socket("env"));
        assert_eq!(env["PATH"], vitald::reactor::spawn::DEFAULT_PATH);
        assert_ne!(env["HOME"], "/our/home");

        process.inherit_env = true;
        let env = environment(&process, "env");
        assert_eq!((&*env["OURS"], &*env["HOME"]), ("yes", "/our/home"));
        assert_eq!(env["VITALD_RUN"], "web/3");
        assert!(!env.contains_key("NOTIFY_SOCKET") && !env.contains_key("VITALD_LOG"));
        if nix::unistd::geteuid().is_root() {
            process.user = Some("4711".into());
            let env = environment(&process, "env");
            assert_eq!((&*env["OURS"], &*env["HOME"]), ("yes", "/"));
        }
    });
}

#[test]
fn the_env_file_stands_between_our_defaults_and_env() {
    let scratch = Scratch::new("envfile");
    // Readable by root only: it is read before the user is changed.
    let path = scratch.file(
        "env",
        "A=file\nB='x y'\nHOME=/h\nVITALD_RUN=no/1\nA=last\n",
        0o600,
    );
    let mut process = Process {
        env_file: Some(path.into()),
        ..Process::default()
    };
    process.env.insert("B".into(), "env".into());
    if nix::unistd::geteuid().is_root() {
        process.user = Some("4711".into());
    }
    let env = environment(&process, "file");
    let of = |key: &str| env[key].as_str();
    assert_eq!((of("A"), of("B"), of("HOME")), ("last", "env", "/h"));
    assert_eq!(of("VITALD_RUN"), "web/3");
    // A missing file is fine if the definition says so.
    process.env_file = Some("-/nonexistent/env".into());
    assert!(!environment(&process, "file").contains_key("A"));
}

#[test]
fn the_program_is_sought_along_the_services_own_path() {
    let scratch = Scratch::new("path");
    scratch.file("a/tool", "no program", 0o644);
    scratch.file("b/tool", "#!/bin/sh\necho b\n", 0o755);
    let dir = scratch.0.to_str().unwrap();
    let with = |path: String| {
        let file = scratch.file("env", &format!("PATH={path}\n"), 0o644);
        Process {
            env_file: Some(file.into()),
            ..Process::default()
        }
    };
    // Denied in one directory, found in the next.
    let process = with(format!("/nonexistent:{dir}/a/tool:{dir}/a:{dir}/b"));
    assert_eq!(say(&process, &["tool"]), "b\n");
    // Denied is remembered over "not there".
    let denied = error(&with(format!("{dir}/a:/nonexistent")), &["tool"]);
    assert_eq!(
        (&*denied.step, denied.errno),
        ("exec tool, sought along PATH", libc::EACCES)
    );
    let nowhere = error(&with(dir.into()), &["tool"]);
    assert_eq!(nowhere.errno, libc::ENOENT);
}
