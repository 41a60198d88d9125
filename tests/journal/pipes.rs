//! Log pipes: what a service says while there is no daemon, and what floods do.

use super::*;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::wait::WaitStatus;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use vitald::config::Log;
use vitald::limits;
use vitald::reactor::logs::{LogDir, LogPipe, Which};
use vitald::reactor::scribe::{Options, Scribe};
use vitald::reactor::service_log::{Drained, ServiceLog};
use vitald::time::Time;

const PIPE: Token = Token(7);

fn root() -> (u32, u32) {
    (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    )
}

fn open(logs: &LogDir, name: &str) -> LogPipe {
    let (uid, gid) = root();
    logs.open(name, Which::Main, uid, gid).unwrap()
}

/// A loop with a scribe and one service's pipe.
struct Rig {
    poll: Poll,
    scribe: Scribe,
    log: ServiceLog,
    scratch: Vec<u8>,
}

impl Rig {
    fn new(dir: &Path, pipe: LogPipe) -> Rig {
        let poll = Poll::new().unwrap();
        let options = Options {
            state_dir: dir.into(),
            record_dir: dir.join("recording"),
            syslog: dir.join("syslog"),
            dossier_keep: 1,
            dossier_max_bytes: 1 << 20,
        };
        let registry = poll.registry().try_clone().unwrap();
        registry
            .register(&mut SourceFd(&pipe.as_raw_fd()), PIPE, Interest::READABLE)
            .unwrap();
        Rig {
            poll,
            scribe: Scribe::start(options, registry, Token(1)).unwrap(),
            log: ServiceLog::new(pipe, Log::default()),
            scratch: vec![0; limits::LOG_READ_PER_TURN],
        }
    }

    /// Waits for events of the pipe and drains it, until `done`.
    fn until(&mut self, done: impl Fn(&ServiceLog) -> bool) {
        let begun = Instant::now();
        let mut events = Events::with_capacity(8);
        let mut more = false;
        while !done(&self.log) {
            let left = Duration::from_secs(20).saturating_sub(begun.elapsed());
            assert!(!left.is_zero(), "nothing came; {:?}", self.lines());
            let wait = if more { Duration::ZERO } else { left };
            let _ = self.poll.poll(&mut events, Some(wait));
            self.scribe.on_ready(&mut Vec::new());
            if more || events.iter().any(|event| event.token() == PIPE) {
                more = self.drain() == Drained::More;
            }
        }
    }

    fn drain(&mut self) -> Drained {
        self.log
            .drain("web", (Time::ZERO, 5), &mut self.scratch, &mut self.scribe)
            .unwrap()
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let ring = &self.log.ring;
        ring.read(&mut ring.tail(u64::MAX), &mut |line| {
            lines.push(line.text());
            true
        });
        lines
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        scribe::end(&self.scribe);
    }
}

/// A service: says `before`, waits for a byte, says `after`, tells that it did, waits for another
/// byte and tells that it ends by itself.
fn service(out: &OwnedFd, mut go: impl Read, mut tell: impl Write) -> i32 {
    // As a service has it: Rust ignores SIGPIPE, services do not.
    // SAFETY: a constant of the kernel, not a handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    nix::unistd::write(out, b"before\n").unwrap();
    go.read_exact(&mut [0]).unwrap();
    nix::unistd::write(out, b"after\nlast").unwrap();
    tell.write_all(b"said").unwrap();
    go.read_exact(&mut [0]).unwrap();
    tell.write_all(b"ends").unwrap();
    0
}

fn hear(from: &mut impl Read, word: &[u8; 4]) {
    let mut heard = [0; 4];
    from.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, word);
}

#[test]
fn a_service_whose_daemon_died_lives_and_no_byte_is_lost() {
    let dir = Dir::new();
    let logs = LogDir::prepare(&dir).unwrap();
    let (go, mut went) = std::io::pipe().unwrap();
    let (mut told, tell) = std::io::pipe().unwrap();
    let mut daemon = Forked::run(|| {
        let pipe = open(&logs, "web");
        let end = logs.child_end("web", Which::Main, &pipe).unwrap();
        let _service = Forked::run(|| {
            // It holds its own end only, as after an exec.
            nix::unistd::close(pipe.as_raw_fd()).unwrap();
            service(&end, &go, &tell)
        });
        drop(end);
        let mut rig = Rig::new(&dir, pipe);
        rig.until(|log| log.ring.lines() == 1);
        assert_eq!(rig.lines(), ["before"]);
        (&tell).write_all(b"read").unwrap();
        std::thread::sleep(Duration::from_secs(60));
        0
    });
    drop((go, tell));
    hear(&mut told, b"read");
    daemon.kill();
    daemon.wait();
    // There is no reader now but the service itself.
    went.write_all(b"1").unwrap();
    hear(&mut told, b"said");
    let mut rig = Rig::new(&dir, open(&logs, "web"));
    rig.until(|log| log.ring.open_line().is_some());
    assert_eq!(rig.lines(), ["after"]);
    assert_eq!(rig.log.ring.open_line().unwrap().text(), "last");
    went.write_all(b"2").unwrap();
    hear(&mut told, b"ends");
}

#[test]
fn the_pipe_of_a_living_service_is_found_again_when_its_name_was_removed() {
    let dir = Dir::new();
    let logs = LogDir::prepare(&dir).unwrap();
    let (_go, mut went) = std::io::pipe().unwrap();
    let (mut told, tell) = std::io::pipe().unwrap();
    let pipe = open(&logs, "web");
    let end = logs.child_end("web", Which::Main, &pipe).unwrap();
    let child = Forked::run(|| {
        nix::unistd::dup2_stdout(&end).unwrap();
        service(&end, &_go, &tell)
    });
    drop((pipe, end));
    went.write_all(b"1").unwrap();
    hear(&mut told, b"said");
    let pid = child.pid.as_raw();
    assert!(
        logs.reopen_removed("web", Which::Main, pid).is_none(),
        "it is not removed"
    );
    logs.remove("web");
    assert!(
        logs.reopen_removed("db", Which::Main, pid).is_none(),
        "another's"
    );
    let pipe = logs.reopen_removed("web", Which::Main, pid).unwrap();
    let mut rig = Rig::new(&dir, pipe);
    rig.until(|log| log.ring.open_line().is_some());
    assert_eq!(rig.lines(), ["before", "after"]);
}

#[test]
fn the_pipe_is_the_services_own_and_kept_across_daemons() {
    let dir = Dir::new();
    let logs = LogDir::prepare(&dir).unwrap();
    assert_eq!(dir.join("log").metadata().unwrap().mode() & 0o777, 0o700);
    let path = dir.join("log/web.fifo");
    let (uid, gid) = root();
    let _pipe = logs.open("web", Which::Main, uid, gid).unwrap();
    let first = path.metadata().unwrap();
    assert_eq!(first.mode() & 0o7777, 0o600);
    if uid == 0 {
        logs.open("web", Which::Main, 65534, 65533).unwrap();
        let changed = path.metadata().unwrap();
        assert_eq!((changed.uid(), changed.gid()), (65534, 65533));
        assert_eq!(changed.mode() & 0o7777, 0o600);
        assert_eq!(changed.ino(), first.ino(), "the same pipe");
    }
    // What is no FIFO is replaced.
    fs::write(dir.join("log/db.fifo"), "x").unwrap();
    let pipe = open(&logs, "db");
    let end = logs.child_end("db", Which::Main, &pipe).unwrap();
    nix::unistd::write(&end, b"x").unwrap();
    logs.remove("web");
    assert!(!path.exists());
    logs.remove("web");
}

#[test]
fn the_childs_end_blocks_and_leads_to_the_same_pipe() {
    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
    let dir = Dir::new();
    let logs = LogDir::prepare(&dir).unwrap();
    for (removed, replaced) in [(false, false), (true, false), (true, true)] {
        let pipe = open(&logs, "web");
        if removed {
            logs.remove("web");
        }
        let _other = replaced.then(|| open(&logs, "web"));
        let end = logs.child_end("web", Which::Main, &pipe).unwrap();
        let flags = OFlag::from_bits_retain(fcntl(&end, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK) && flags.contains(OFlag::O_RDWR));
        let cloexec = fcntl(&end, FcntlArg::F_GETFD).unwrap();
        assert_eq!(cloexec, FdFlag::FD_CLOEXEC.bits());
        nix::unistd::write(&end, b"x").unwrap();
        let mut rig = Rig::new(&dir, pipe);
        // Ours does not block: with nothing in it the second returns as well.
        assert_eq!((rig.drain(), rig.drain()), (Drained::Empty, Drained::Empty));
        assert_eq!(rig.log.ring.open_line().unwrap().text(), "x");
    }
}

#[test]
fn an_unfinished_line_ends_with_its_run() {
    let dir = Dir::new();
    let logs = LogDir::prepare(&dir).unwrap();
    let pipe = open(&logs, "web");
    let end = logs.child_end("web", Which::Main, &pipe).unwrap();
    let mut rig = Rig::new(&dir, pipe);
    nix::unistd::write(&end, b"cut off").unwrap();
    rig.log.run_ended();
    assert_eq!(rig.drain(), Drained::Empty);
    nix::unistd::write(&end, b"a new run\nno end").unwrap();
    rig.drain();
    rig.log.run_ended();
    rig.log.run_began("web", 6, &mut rig.scribe);
    assert_eq!(rig.lines(), ["cut off", "a new run", "no end"]);
    assert!(rig.scribe.finish(Duration::from_secs(20)));
    let file = fs::read_to_string(dir.join("logs/web/current")).unwrap();
    let lines: Vec<&str> = file.lines().map(|line| &line[25..]).collect();
    assert_eq!(lines, ["cut off", "a new run", "no end"]);
    assert!(file.ends_with('\n'));
}

#[test]
fn a_flood_is_read_in_shares_and_keeps_the_newest() {
    const LINES: u32 = 400_000;
    let dir = Dir::new();
    let logs = LogDir::prepare(&dir).unwrap();
    let pipe = open(&logs, "web");
    let end = logs.child_end("web", Which::Main, &pipe).unwrap();
    let mut child = Forked::run(|| {
        let mut out = std::io::BufWriter::with_capacity(1 << 16, fs::File::from(end));
        for n in 0..LINES {
            writeln!(out, "line {n}").unwrap();
        }
        out.flush().unwrap();
        0
    });
    let mut rig = Rig::new(&dir, pipe);
    let said = |log: &ServiceLog| log.ring.dropped().0 + log.ring.lines();
    rig.until(|log| said(log) == u64::from(LINES));
    assert_eq!(child.wait(), WaitStatus::Exited(child.pid, 0));
    let lines = rig.lines();
    assert_eq!(lines.last().unwrap(), &format!("line {}", LINES - 1));
    assert_eq!(
        lines.len() as u64 + rig.log.ring.dropped().0,
        u64::from(LINES)
    );
    assert_eq!(rig.log.ring.memory(), limits::LOG_RING_BYTES);
}

#[test]
fn one_turn_reads_no_more_than_its_share() {
    let dir = Dir::new();
    let logs = LogDir::prepare(&dir).unwrap();
    let pipe = open(&logs, "web");
    let end = logs.child_end("web", Which::Main, &pipe).unwrap();
    let mut rig = Rig::new(&dir, pipe);
    rig.scratch.truncate(1000);
    nix::unistd::write(&end, &b"0123456789abcde\n".repeat(125)).unwrap();
    assert_eq!(rig.drain(), Drained::More);
    assert_eq!(rig.log.ring.lines(), 62);
    // All of it, to the byte: only the next look finds the pipe empty.
    assert_eq!(rig.drain(), Drained::More);
    assert_eq!(rig.log.ring.lines(), 125);
    assert_eq!(rig.drain(), Drained::Empty);
}
