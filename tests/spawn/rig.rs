//! What the tests of spawning share: a spawner, a command's output, its end, a process to be alone
//! in.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vitald::config::Process;
use vitald::engine::event::SpawnError;
use vitald::exit::Exit;
use vitald::id::Pid;
use vitald::reactor::child::{self, Ended};
use vitald::reactor::helper;
use vitald::reactor::procfs;
use vitald::reactor::spawn::{ExecReport, SpawnPlan, Spawned, Spawner, exec_report};
use vitald::reactor::sys::Origin;

pub const SOON: Duration = Duration::from_secs(20);

pub fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// A socket path of this test alone: marks its processes.
pub fn socket(test: &str) -> String {
    format!("/run/test-{}-{test}.sock", std::process::id())
}

pub fn spawner(test: &str) -> Spawner {
    Spawner::new(Origin::default(), &socket(test)).unwrap()
}

pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(test: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("vitald-spawn-{}-{test}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        Scratch(dir)
    }
    pub fn file(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().into()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn words(words: &[&str]) -> Vec<Box<str>> {
    words.iter().map(|word| (*word).into()).collect()
}

/// Spawns `web` run 3; its output goes to the returned pipe.
pub fn start(
    spawner: &Spawner,
    process: &Process,
    exec: &[&str],
) -> Result<(Spawned, fs::File), SpawnError> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let spawned = spawner.spawn(&SpawnPlan {
        service: "web",
        run: Some(3),
        outlives: true,
        exec: &words(exec),
        process,
        stdin: None,
        stdout: writer.as_fd(),
        stderr: writer.as_fd(),
        fds: &[],
        fd_at: None,
        pid_env: &[],
        room: None,
        env: &[],
    })?;
    Ok((spawned, reader.into()))
}

/// Waits for the exec pipe's word.
pub fn word(spawned: &Spawned) -> ExecReport {
    assert!(
        child::wait_ended(&spawned.exec_pipe, SOON),
        "no word from the child"
    );
    exec_report(spawned.exec_pipe.as_fd())
}

pub fn ended(pidfd: &OwnedFd) -> Exit {
    assert!(child::wait_ended(pidfd, SOON), "the child does not end");
    match child::reap(pidfd.as_fd()) {
        Ended::Yes(exit) => exit,
        other => panic!("{other:?}"),
    }
}

/// Runs a command to its end and gives what it wrote.
pub fn say(process: &Process, exec: &[&str]) -> String {
    let (spawned, mut output) = start(&spawner("say"), process, exec).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(word(&spawned), ExecReport::Executed, "{text}");
    assert_eq!(ended(&spawned.pidfd), Exit::Code(0), "{text}");
    text
}

/// The error a plan ends with, before or after the clone.
pub fn error(process: &Process, exec: &[&str]) -> SpawnError {
    match start(&spawner("error"), process, exec) {
        Err(error) => error,
        Ok((spawned, _output)) => {
            let ExecReport::Failed(error) = word(&spawned) else {
                panic!("it was executed");
            };
            assert_eq!(ended(&spawned.pidfd), Exit::Code(127));
            error
        }
    }
}

/// Runs `work` in a process of its own and fails when it panics.
pub fn alone(work: impl FnOnce()) {
    let started = helper::start(c"test", &Origin::default(), &[], 0, |_| {
        // Past the harness, which would keep the words of a test that it does not know.
        std::panic::set_hook(Box::new(|panic| {
            let text = format!("{panic}\n");
            unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        }));
        work();
        0
    });
    assert_eq!(ended(&started.unwrap().pidfd), Exit::Code(0));
}

pub fn line<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).trim()
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn alive(pid: Pid) -> bool {
    procfs::proc_stat(pid).is_ok_and(|stat| stat.state != b'Z')
}
