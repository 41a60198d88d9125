//! A process and its daemon: who outlives whom, adoption, leaks, old kernels; signals and reaping.

use crate::rig::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use vitald::config::Process;
use vitald::exit::{Exit, Signal};
use vitald::id::Pid;
use vitald::reactor::child::{self, Ended};
use vitald::reactor::helper;
use vitald::reactor::procfs;
use vitald::reactor::spawn::{ExecReport, Spawner, exec_report};
use vitald::reactor::sys::{self, Origin};
use vitald::reactor::tree::{self, RunMark, TreeJob};

#[test]
fn a_set_up_that_stalls_stalls_only_the_child_which_dies_with_us() {
    let scratch = Scratch::new("stall");
    let fifo = scratch.0.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let process = Process {
        // Opening it waits for a writer that never comes, as a dead mount would.
        env_file: Some(fifo.to_str().unwrap().into()),
        ..Process::default()
    };
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let daemon = helper::start(c"test", &Origin::default(), &[writer.as_fd()], 0, |_| {
        let (spawned, _output) = start(&spawner("stall"), &process, &["true"]).unwrap();
        assert_eq!(exec_report(spawned.exec_pipe.as_fd()), ExecReport::Pending);
        (&writer).write_all(&spawned.pid.0.to_ne_bytes()).unwrap();
        loop {
            std::thread::park();
        }
    });
    let daemon = daemon.unwrap();
    let mut pid = [0; 4];
    reader.read_exact(&mut pid).unwrap();
    let pid = Pid(i32::from_ne_bytes(pid));
    let pidfd = sys::pidfd_open(pid).unwrap();
    until("the child waits in open", || {
        procfs::proc_stat(pid).is_ok_and(|stat| stat.state == b'S')
    });
    sys::pidfd_send_signal(daemon.pidfd.as_fd(), Signal::KILL).unwrap();
    assert!(
        child::wait_ended(&pidfd, SOON),
        "it outlived its daemon before the exec"
    );
    assert_eq!(ended(&daemon.pidfd), Exit::Signal(Signal::KILL));
}

#[test]
fn a_service_outlives_us() {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let socket = socket("outlive");
    let daemon = helper::start(c"test", &Origin::default(), &[writer.as_fd()], 0, |_| {
        let spawner = Spawner::new(Origin::default(), &socket).unwrap();
        let (spawned, _output) = start(&spawner, &Process::default(), &["sleep", "60"]).unwrap();
        assert_eq!(word(&spawned), ExecReport::Executed);
        (&writer).write_all(&spawned.pid.0.to_ne_bytes()).unwrap();
        loop {
            std::thread::park();
        }
    });
    let daemon = daemon.unwrap();
    let mut pid = [0; 4];
    reader.read_exact(&mut pid).unwrap();
    let pid = Pid(i32::from_ne_bytes(pid));
    sys::pidfd_send_signal(daemon.pidfd.as_fd(), Signal::KILL).unwrap();
    assert_eq!(ended(&daemon.pidfd), Exit::Signal(Signal::KILL));
    // The next daemon finds it by its mark, adopts it, and only it.
    let mark = RunMark {
        run: "web/3".into(),
        socket,
    };
    let from = |name: &str, number: u32| BTreeMap::from([(name.into(), number)]);
    let search = |from: &BTreeMap<Box<str>, u32>| {
        let found = tree::find_runs_within(SOON, &Origin::default(), &mark.socket, from);
        assert_eq!(found.as_ref(), Some(&tree::find_runs(&mark.socket, from)));
        found.unwrap()
    };
    assert_eq!(search(&from("web", 4)), [], "an older run");
    assert_eq!(tree::find_runs("/run/another.sock", &from("web", 1)), []);
    assert_eq!(search(&from("db", 7)).len(), 1, "a service nobody knows");
    let [found] = &search(&from("web", 3))[..] else {
        panic!("one is there")
    };
    assert_eq!((&*found.name, found.number, found.pid), ("web", 3, pid));
    let started = found.started;
    assert!(
        child::adopt(pid, started + 1, false).is_none(),
        "another process of this number"
    );
    let pidfd = child::adopt(pid, started, false).unwrap();
    assert_eq!(child::reap(pidfd.as_fd()), Ended::No);
    let job = TreeJob {
        main: pid,
        also: None,
        started,
        mark,
        signal: Signal::TERM,
        grace: SOON,
        leaf: None,
    };
    assert_eq!(tree::end_tree(&job), 0);
    assert!(child::wait_ended(&pidfd, SOON));
    // Whoever has it for a child now reaps it, sooner or later.
    until("it is reaped", || {
        child::reap(pidfd.as_fd()) != Ended::Unreaped
    });
    match child::reap(pidfd.as_fd()) {
        Ended::Yes(Exit::Signal(Signal::TERM)) => {}
        Ended::Yes(Exit::Unknown) => eprintln!("this kernel does not tell (before 6.15)"),
        other => panic!("{other:?}"),
    }
    assert!(child::adopt(pid, started, false).is_none());
}

#[test]
fn two_hundred_spawns_leak_no_descriptor_and_no_child() {
    alone(|| {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let spawner = spawner("leak");
        let bad = Process {
            working_dir: Some("/nonexistent".into()),
            ..Process::default()
        };
        let before = open();
        for round in 0..200 {
            let process = if round % 4 == 0 {
                &bad
            } else {
                &Process::default()
            };
            let (spawned, _output) = start(&spawner, process, &["true"]).unwrap();
            assert_eq!(Some(spawned.started), procfs::start_time(spawned.pid));
            let wanted = if round % 4 == 0 { 127 } else { 0 };
            assert_eq!(ended(&spawned.pidfd), Exit::Code(wanted));
        }
        let unknown = Process {
            user: Some("nobody2".into()),
            ..Process::default()
        };
        assert!(start(&spawner, &unknown, &["true"]).is_err());
        assert_eq!(open(), before);
        assert_eq!(procfs::Children::default().all().unwrap(), []);
    });
}

#[test]
fn old_kernels_and_container_filters_are_survived() {
    alone(|| {
        // clone3: EPERM as old container runtimes answer; close_range: not there.
        forbid(&[
            (libc::SYS_clone3, libc::EPERM),
            (libc::SYS_close_range, libc::ENOSYS),
        ]);
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        assert!(unsafe { libc::syscall(libc::SYS_close_range, 3, 3, 0) } < 0);
        let null = fs::File::open("/dev/null").unwrap();
        assert!(unsafe { libc::dup2(null.as_raw_fd(), 77) } >= 0);
        sys::keep_descriptors_to_ourselves();
        let status = say(&Process::default(), &["cat", "/proc/self/status"]);
        assert_eq!(line(&status, "SigIgn:"), "0000000000000000");
        let text = say(
            &Process::default(),
            &["sh", "-c", "readlink /proc/self/fd/*; exit 0"],
        );
        assert_eq!(text.lines().count(), 3, "{text}");
        alone(|| assert_eq!(fs::read_dir("/proc/self/fd").unwrap().count(), 5));
    });
}

/// Has the kernel answer these system calls with an errno, as a container's filter does.
fn forbid(calls: &[(libc::c_long, i32)]) {
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    // BPF: load the number; if it equals, answer; else go on.
    let mut program = vec![statement(
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        0,
        0,
        0,
    )];
    for (number, errno) in calls {
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        program.push(statement(equal, 0, 1, *number as u32));
        let answer = libc::SECCOMP_RET_ERRNO | *errno as u32;
        program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, answer));
    }
    program.push(statement(
        libc::BPF_RET | libc::BPF_K,
        0,
        0,
        libc::SECCOMP_RET_ALLOW,
    ));
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter),
            0
        );
    }
}

#[test]
fn a_stopped_process_gets_its_signal_and_a_group_gets_it_once() {
    let script =
        "trap 'echo term; exit 5' TERM; sh -c 'echo ready; exec sleep 60' & while :; do wait; done";
    let (spawned, mut output) =
        start(&spawner("stop"), &Process::default(), &["sh", "-c", script]).unwrap();
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    let stop = Signal(libc::SIGSTOP as u8);
    child::signal(spawned.pidfd.as_fd(), spawned.pid, stop, true).unwrap();
    until("stopped", || {
        procfs::proc_stat(spawned.pid).unwrap().state == b'T'
    });
    child::signal(spawned.pidfd.as_fd(), spawned.pid, Signal::TERM, true).unwrap();
    child::signal(spawned.pidfd.as_fd(), spawned.pid, Signal::CONT, true).unwrap();
    assert_eq!(ended(&spawned.pidfd), Exit::Code(5));
    let mut rest = String::new();
    // Until end of file: the sleep in the group, which held the pipe too, got the signal as well.
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.matches("term").count(), 1, "{rest}");
}

#[test]
fn death_by_a_real_time_signal_is_told() {
    let (spawned, _output) = start(&spawner("rt"), &Process::default(), &["sleep", "60"]).unwrap();
    assert_eq!(word(&spawned), ExecReport::Executed);
    let signal = Signal::parse("RTMIN+3").unwrap();
    child::signal(spawned.pidfd.as_fd(), spawned.pid, signal, false).unwrap();
    assert_eq!(ended(&spawned.pidfd), Exit::Signal(signal));
}
