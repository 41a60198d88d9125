//! What is left of a run: orphans, groups, sessions, double forks (conformance 27); and helpers.

use crate::rig::*;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vitald::config::Process;
use vitald::exit::{Exit, Signal};
use vitald::id::Pid;
use vitald::reactor::child;
use vitald::reactor::helper;
use vitald::reactor::procfs;
use vitald::reactor::spawn::{ExecReport, SpawnPlan, Spawned};
use vitald::reactor::sys::{self, Origin};
use vitald::reactor::tree::{self, RunMark, TreeJob};

#[test]
fn orphans_are_reaped_and_no_known_childs_status_is_stolen() {
    alone(|| {
        child::become_subreaper().unwrap();
        let spawner = spawner("orphans");
        let none = Process::default();
        // Two known children, dead; after them an orphan that outlived its parent.
        let (first, _o1) = start(&spawner, &none, &["sh", "-c", "exit 11"]).unwrap();
        let orphan = ["sh", "-c", "setsid sh -c 'exit 13' & exit 12"];
        let (second, _o2) = start(&spawner, &none, &orphan).unwrap();
        let wanted: Vec<Pid> = vec![first.pid, second.pid];
        assert!(child::wait_ended(&first.pidfd, SOON) && child::wait_ended(&second.pidfd, SOON));
        let mut known = |pid: Pid| wanted.contains(&pid);
        let mut kin = procfs::Children::default();
        until("the orphan is dead", || {
            let strangers = child::strangers(&mut kin, &mut known);
            strangers.len() == 1 && !alive(strangers[0])
        });
        // The first zombie is a known one: it hides the orphan, and is left alone.
        let looked = child::reap_orphans(&mut known);
        assert_eq!((looked.reaped.len(), looked.again), (0, true));
        assert_eq!(ended(&first.pidfd), Exit::Code(11));
        assert_eq!(ended(&second.pidfd), Exit::Code(12));
        let looked = child::reap_orphans(&mut known);
        assert_eq!(looked.reaped.len(), 1);
        assert_eq!((looked.reaped[0].1, looked.again), (Exit::Code(13), false));
        assert_eq!(child::reap_orphans(&mut known), child::Orphans::default());
        assert_eq!(child::strangers(&mut kin, &mut known), []);
    });
}

#[test]
fn a_run_that_left_something_is_told_from_one_that_did_not() {
    alone(|| {
        child::become_subreaper().unwrap();
        let run = |script: &str| {
            let (spawned, output) =
                start(&spawner("left"), &Process::default(), &["sh", "-c", script]).unwrap();
            ended(&spawned.pidfd);
            child::reap_orphans(&mut |_| false);
            let left = (
                !child::group_is_empty(spawned.pid),
                child::strangers(&mut procfs::Children::default(), &mut |_| false).len(),
            );
            (spawned, output, left)
        };
        let (.., left) = run("exit 0");
        assert_eq!(left, (false, 0));
        let (spawned, _output, left) = run("sleep 60 & exit 0");
        assert_eq!(left, (true, 1));
        end(&spawned, "left", Signal::TERM, SOON);
        let (spawned, _output, left) =
            run("x=$(setsid sh -c 'echo; exec sleep 60 >/dev/null 2>&1' &); exit 0");
        assert_eq!(left, (false, 1));
        end(&spawned, "left", Signal::TERM, SOON);
    });
}

// Conformance 27: trees.

/// Ends the tree in a helper, as the daemon does, and asserts that nothing is left.
fn end(spawned: &Spawned, test: &str, signal: Signal, grace: Duration) {
    let job = TreeJob {
        main: spawned.pid,
        also: None,
        started: spawned.started,
        mark: RunMark {
            run: "web/3".into(),
            socket: socket(test),
        },
        signal,
        grace,
        leaf: None,
    };
    let helper = helper::start(c"tree", &Origin::default(), &[], 16, |output| {
        let left = tree::end_tree(&job);
        output.write_all(&left.to_ne_bytes()).map_or(1, |()| 0)
    });
    let helper = helper.unwrap();
    assert_eq!(ended(&helper.pidfd), Exit::Code(0));
    let mut left = [9; 4];
    assert_eq!(sys::read_ready(&helper.pipe, &mut left).unwrap(), Some(4));
    assert_eq!(u32::from_ne_bytes(left), 0);
}

/// Spawns a shell script that prints process numbers, one a line, and gives them.
fn family(test: &str, script: &str, members: usize) -> (Spawned, Vec<Pid>) {
    let (spawned, output) =
        start(&spawner(test), &Process::default(), &["sh", "-c", script]).unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(output));
    let pids = lines
        .take(members)
        .map(|pid| Pid(pid.unwrap().parse().unwrap()))
        .collect();
    (spawned, pids)
}

#[test]
fn a_grandchild_in_its_own_session_is_found_and_ended() {
    let script = "setsid sh -c 'echo $$; exec sleep 60' & exit 0";
    let (spawned, pids) = family("setsid", script, 1);
    ended(&spawned.pidfd);
    assert!(alive(pids[0]));
    end(&spawned, "setsid", Signal::TERM, SOON);
    assert!(!alive(pids[0]));
}

#[test]
fn a_daemon_that_forked_twice_and_its_children_are_ended() {
    // The middle one ends, the last one has children, one of which has cleared its environment.
    let script = "setsid sh -c '(setsid sh -c \"env -i sh -c \\\"echo \\\\\\$\\\\\\$; exec sleep 60\\\" & echo \\$\\$; wait\" &) ; exit 0'; exit 0";
    let (spawned, pids) = family("double", script, 2);
    ended(&spawned.pidfd);
    assert!(pids.iter().all(|pid| alive(*pid)));
    end(&spawned, "double", Signal::TERM, SOON);
    assert!(!pids.iter().any(|pid| alive(*pid)), "{pids:?}");
}

#[test]
fn a_group_member_without_our_environment_is_ended() {
    let (spawned, pids) = family("group", "env -i sh -c 'echo $$; exec sleep 60' & exit 0", 1);
    ended(&spawned.pidfd);
    end(&spawned, "group", Signal::TERM, SOON);
    assert!(!alive(pids[0]));
}

#[test]
fn an_unwilling_leftover_is_killed_when_its_grace_is_over() {
    let script = "setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 60; done' & exit 0";
    let (spawned, pids) = family("unwilling", script, 1);
    ended(&spawned.pidfd);
    let (begun, grace) = (Instant::now(), Duration::from_millis(300));
    end(&spawned, "unwilling", Signal::TERM, grace);
    assert!(begun.elapsed() >= grace, "the grace was not given");
    assert!(!alive(pids[0]));
}

#[test]
fn a_stopped_leftover_is_continued_and_ends_within_its_grace() {
    let script = "sh -c 'echo $$; kill -STOP $$; sleep 60' & exit 0";
    let (spawned, pids) = family("stopped", script, 1);
    ended(&spawned.pidfd);
    until("stopped", || {
        procfs::proc_stat(pids[0]).is_ok_and(|stat| stat.state == b'T')
    });
    let begun = Instant::now();
    end(&spawned, "stopped", Signal::TERM, SOON);
    assert!(begun.elapsed() < SOON, "it was killed, not continued");
    assert!(!alive(pids[0]));
}

#[test]
fn other_services_and_other_daemons_are_left_alone() {
    let sleeper = |test: &str, service: &str, run: u32| {
        let (reader, writer) = sys::pipe(true).unwrap();
        let spawned = spawner(test)
            .spawn(&SpawnPlan {
                service,
                run: Some(run),
                outlives: true,
                exec: &words(&["sleep", "60"]),
                process: &Process::default(),
                stdin: None,
                stdout: writer.as_fd(),
                stderr: writer.as_fd(),
                fds: &[],
                fd_at: None,
                pid_env: &[],
                room: None,
                env: &[],
            })
            .unwrap();
        assert_eq!(word(&spawned), ExecReport::Executed);
        drop(reader);
        spawned
    };
    // In the run's own group, but another daemon's: a supervisor under ours has services too.
    let script =
        "env VITALD_RUN=inner/1 VITALD_SOCKET=/run/inner sh -c 'echo $$; exec sleep 60' & exit 0";
    let (spawned, nested) = family("others", script, 1);
    ended(&spawned.pidfd);
    let others = [
        sleeper("others", "db", 3),
        sleeper("others", "web", 33),
        sleeper("others-too", "web", 3),
    ];
    end(&spawned, "others", Signal::KILL, Duration::ZERO);
    for other in &others {
        assert!(alive(other.pid));
        child::signal(other.pidfd.as_fd(), other.pid, Signal::KILL, false).unwrap();
        ended(&other.pidfd);
    }
    assert!(alive(nested[0]));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(nested[0].0),
        nix::sys::signal::SIGKILL,
    )
    .unwrap();
}

#[test]
fn a_recycled_number_protects_its_new_owner() {
    // As if run web/3 had had this number before: same number, earlier start, other mark.
    let (spawned, _output) =
        start(&spawner("recycled"), &Process::default(), &["sleep", "60"]).unwrap();
    assert_eq!(word(&spawned), ExecReport::Executed);
    let job = TreeJob {
        main: spawned.pid,
        also: None,
        started: spawned.started - 1,
        mark: RunMark {
            run: "web/2".into(),
            socket: socket("recycled"),
        },
        signal: Signal::KILL,
        grace: Duration::ZERO,
        leaf: None,
    };
    assert_eq!(tree::end_tree(&job), 0);
    assert!(alive(spawned.pid));
    child::signal(spawned.pidfd.as_fd(), spawned.pid, Signal::KILL, false).unwrap();
    ended(&spawned.pidfd);
}

// Helpers.

#[test]
fn a_helper_writes_no_more_than_its_limit_and_its_panic_is_its_own() {
    let origin = Origin::default();
    let helper = helper::start(c"test", &origin, &[], 5, |output| {
        u8::from(output.write_all(b"1234567").is_err())
    });
    let helper = helper.unwrap();
    assert_eq!(ended(&helper.pidfd), Exit::Code(1));
    let mut text = [0; 16];
    assert_eq!(sys::read_ready(&helper.pipe, &mut text).unwrap(), Some(5));
    assert_eq!(sys::read_ready(&helper.pipe, &mut text).unwrap(), Some(0));
    let helper = helper::start(c"test", &origin, &[], 0, |_| panic!("meant")).unwrap();
    // A build that aborts on panic has no say in it.
    let panicked = match cfg!(panic = "abort") {
        true => Exit::Signal(Signal(libc::SIGABRT as u8)),
        false => Exit::Code(helper::PANICKED),
    };
    assert_eq!(ended(&helper.pidfd), panicked);
}

#[test]
fn a_helper_holds_its_own_descriptors_only_and_dies_with_its_daemon() {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let daemon = helper::start(c"daemon", &Origin::default(), &[writer.as_fd()], 0, |_| {
        let _held: Vec<fs::File> = (0..9)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        nix::sys::signal::SigSet::all().thread_block().unwrap();
        let kept = [writer.as_fd()];
        let helper = helper::start(c"inner", &Origin::default(), &kept, 0, |_| {
            // 0–2, the pipe, the kept one, and the directory that is read.
            let open = fs::read_dir("/proc/self/fd").unwrap().count() as i32;
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let clean = line(&status, "SigBlk:").bytes().all(|digit| digit == b'0');
            let own = [std::process::id() as i32, open, i32::from(clean)];
            for number in own {
                (&writer).write_all(&number.to_ne_bytes()).unwrap();
            }
            loop {
                std::thread::park();
            }
        });
        ended(&helper.unwrap().pidfd);
        0
    });
    let daemon = daemon.unwrap();
    let mut number = || {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).unwrap();
        i32::from_ne_bytes(bytes)
    };
    let (pid, open, clean) = (number(), number(), number());
    assert_eq!((open, clean), (6, 1));
    let pidfd = sys::pidfd_open(Pid(pid)).unwrap();
    sys::pidfd_send_signal(daemon.pidfd.as_fd(), Signal::KILL).unwrap();
    assert!(child::wait_ended(&pidfd, SOON), "it outlived its daemon");
    ended(&daemon.pidfd);
    drop(writer);
}
