//! The scribe: what it answered is on the disk, whoever is killed and whatever the disk does.

use super::logs::{accounted, log_until_written};
use super::*;
use mio::{Events, Poll, Token};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::time::{Duration, Instant};
use vitald::config::Log;
use vitald::journal::lock::Lock;
use vitald::journal::state::load;
use vitald::limits;
use vitald::reactor::scribe::frame::Ack;
use vitald::reactor::scribe::style::{Stream, Style};
use vitald::reactor::scribe::{Options, Scribe, State, Whose};

/// 2026-11-23T22:48:01.123Z
pub const NOW: u64 = 1_795_474_081_123;

pub struct Rig {
    poll: Poll,
    pub scribe: Scribe,
    pub acks: Vec<Ack>,
    pub deaths: u32,
    log: Log,
}

impl Rig {
    pub fn new(dir: &Path) -> Rig {
        Rig::with(dir, limits::LOG_FILE_BYTES, limits::LOG_FILES)
    }

    pub fn with(dir: &Path, log_file_bytes: u64, log_files: u32) -> Rig {
        let poll = Poll::new().unwrap();
        let options = Options {
            state_dir: dir.into(),
            record_dir: dir.join("recording"),
            syslog: dir.join("syslog"),
            dossier_keep: 1,
            dossier_max_bytes: 1 << 20,
        };
        let registry = poll.registry().try_clone().unwrap();
        let scribe = Scribe::start(options, registry, Token(1)).unwrap();
        Rig {
            poll,
            scribe,
            acks: Vec::new(),
            deaths: 0,
            log: Log {
                file_bytes: Some(log_file_bytes),
                files: Some(log_files),
                ..Log::default()
            },
        }
    }

    fn whose<'a>(log: &'a Log, service: &'a str, stream: Stream) -> Whose<'a> {
        let style = Style::of(log);
        Whose {
            service,
            stream,
            style,
        }
    }

    pub fn log(&mut self, service: &str, wall_ms: u64, data: &[u8]) {
        self.log_of(Stream::Joined, service, wall_ms, data);
    }

    fn log_of(&mut self, stream: Stream, service: &str, wall_ms: u64, data: &[u8]) {
        let whose = Rig::whose(&self.log, service, stream);
        self.scribe.log(&whose, wall_ms, data);
    }

    pub fn end_line(&mut self, service: &str, wall_ms: u64) {
        let whose = Rig::whose(&self.log, service, Stream::Joined);
        self.scribe.end_line(&whose, wall_ms);
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.scribe.pid().unwrap())
    }

    pub fn remember(&mut self, seq: u64, name: &str, what: &str) {
        self.scribe.remember(seq, &wanted(name, what, seq)).unwrap();
    }

    /// Serves events until `done`, as the loop would. Files are looked at between events.
    pub fn until(&mut self, done: impl Fn(&Rig) -> bool) {
        let begun = Instant::now();
        let mut events = Events::with_capacity(8);
        while !done(self) {
            let left = Duration::from_secs(20).saturating_sub(begun.elapsed());
            assert!(
                !left.is_zero(),
                "nothing came; last: {:?}",
                self.acks.last()
            );
            let look = left.min(Duration::from_millis(10));
            let _ = self.poll.poll(&mut events, Some(look));
            if !events.is_empty()
                && let State::Died(_) = self.scribe.on_ready(&mut self.acks)
            {
                self.deaths += 1;
            }
        }
    }

    /// Waits for an event and does not serve it.
    fn until_event(&mut self) {
        let mut events = Events::with_capacity(8);
        let bound = Some(Duration::from_secs(20));
        self.poll.poll(&mut events, bound).unwrap();
        assert!(!events.is_empty());
    }

    pub fn until_durable(&mut self, seq: u64) {
        self.until(|rig| {
            let mut acks = rig.acks.iter();
            acks.any(|ack| ack.seq >= seq && ack.result.is_ok())
        });
    }

    fn until_dead(&mut self) {
        let deaths = self.deaths;
        self.until(|rig| rig.deaths > deaths);
    }

    /// Stops the scribe, and waits until it stands.
    pub fn freeze(&self) {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.pid()), flags).unwrap();
    }

    pub fn finish(&mut self) {
        assert!(self.scribe.finish(Duration::from_secs(20)));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        end(&self.scribe);
    }
}

/// Ends a scribe, so that it does not write into a directory that is being removed.
pub fn end(scribe: &Scribe) {
    if let Some(pid) = scribe.pid().map(Pid::from_raw) {
        kill(pid, Signal::SIGKILL).unwrap();
        waitpid(pid, None).unwrap();
    }
}

fn words(dir: &Path) -> Vec<String> {
    let loaded = load(dir);
    assert!(loaded.notes.is_empty(), "{:?}", loaded.notes);
    let word = |r: &vitald::engine::snapshot::WantedRecord| format!("{} {}", r.name, r.wanted);
    loaded.wanted.iter().map(word).collect()
}

pub fn log(dir: &Path, service: &str) -> String {
    let bytes = fs::read(dir.join("logs").join(service).join("current")).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_is_answered_is_in_the_file() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir);
    rig.remember(1, "web", "stop");
    rig.until_durable(1);
    assert_eq!(words(&dir), ["web stop"]);
    for seq in 2..500 {
        rig.remember(seq, &format!("s{}", seq % 7), "start");
    }
    rig.until_durable(499);
    assert_eq!(words(&dir).len(), 8);
    assert_eq!(rig.scribe.waiting(), 0);
}

#[test]
fn records_that_come_together_share_a_sync() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir);
    rig.remember(1, "web", "start");
    rig.until_durable(1);
    rig.freeze();
    for seq in 2..=50 {
        rig.remember(seq, "web", "stop");
    }
    rig.acks.clear();
    kill(rig.pid(), Signal::SIGCONT).unwrap();
    rig.until_durable(50);
    assert_eq!(rig.acks.len(), 1, "{:?}", rig.acks);
}

#[test]
fn a_killed_scribe_loses_nothing_that_was_answered_and_the_rest_is_sent_again() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir);
    let mut seq = 0;
    for round in 0..10 {
        for _ in 0..=round {
            seq += 1;
            rig.remember(seq, &format!("answered{seq}"), "stop");
        }
        rig.until_durable(seq);
        if round % 2 == 0 {
            // Sometimes before it can take them, sometimes whenever it happens.
            rig.freeze();
        }
        for _ in 0..3 {
            seq += 1;
            rig.remember(seq, &format!("unanswered{seq}"), "stop");
        }
        kill(rig.pid(), Signal::SIGKILL).unwrap();
        rig.until_dead();
        // Cut lines of a write that never ended are dropped; nothing answered is.
        let found: Vec<_> = load(&dir).wanted.iter().map(|r| r.name.clone()).collect();
        let durable = rig.acks.iter().filter(|ack| ack.result.is_ok());
        let durable = durable.map(|ack| ack.seq).max().unwrap();
        for n in 1..=durable {
            let named = |kind: &str| found.contains(&format!("{kind}{n}").into());
            assert!(named("answered") || named("unanswered"), "lost {n}");
        }
        // While there is none, words wait.
        seq += 1;
        rig.remember(seq, &format!("unanswered{seq}"), "stop");
        assert!(rig.scribe.waiting() >= 1);
        rig.scribe.restart().unwrap();
        rig.until_durable(seq);
        assert_eq!(words(&dir).len() as u64, seq);
    }
    assert_eq!(rig.deaths, 10);
}

#[test]
fn a_killed_daemon_loses_nothing_that_it_had_sent() {
    let dir = Dir::new();
    let (mut told, tell) = std::io::pipe().unwrap();
    let mut daemon = Forked::run(|| {
        let _lock = Lock::take(&dir).unwrap();
        let mut rig = Rig::new(&dir);
        // Answers are left unread, which the scribe sees as a reset before its last messages.
        rig.remember(1, "s1", "stop");
        rig.until_event();
        rig.freeze();
        for seq in 2..=40 {
            rig.remember(seq, &format!("s{seq}"), "stop");
            let line = format!("line {seq}\n");
            rig.log("web", NOW, line.as_bytes());
        }
        let scribe = rig.pid().as_raw();
        (&tell).write_all(&scribe.to_ne_bytes()).unwrap();
        kill(Pid::this(), Signal::SIGKILL).unwrap();
        0
    });
    let mut scribe = [0; 4];
    told.read_exact(&mut scribe).unwrap();
    daemon.wait();
    let scribe = Pid::from_raw(i32::from_ne_bytes(scribe));
    let lock = Lock::take(&dir).unwrap();
    assert!(!lock.scribe_gone(None, Duration::from_millis(20)));
    kill(scribe, Signal::SIGCONT).unwrap();
    assert!(lock.scribe_gone(None, Duration::from_secs(20)));
    assert_eq!(words(&dir).len(), 40);
    assert_eq!(log(&dir, "web").lines().count(), 39);
}

#[test]
fn what_a_scribe_answered_before_it_was_killed_is_heard() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir);
    rig.remember(1, "web", "stop");
    rig.until_event();
    rig.freeze();
    rig.remember(2, "web", "start");
    kill(rig.pid(), Signal::SIGKILL).unwrap();
    rig.until_dead();
    let ack = Ack {
        seq: 1,
        result: Ok(()),
    };
    assert_eq!(rig.acks, [ack]);
    assert_eq!(rig.scribe.waiting(), 1);
    assert_eq!(rig.scribe.on_ready(&mut rig.acks), State::Down);
}

#[test]
fn the_next_daemons_scribe_waits_for_the_last_ones() {
    let dir = Dir::new();
    let mut old = Rig::new(&dir);
    old.remember(1, "web", "start");
    old.until_durable(1);
    let mut new = Rig::new(&dir);
    new.remember(1, "web", "stop");
    old.remember(2, "web", "start");
    old.until_durable(2);
    old.finish();
    new.until_durable(1);
    assert_eq!(words(&dir), ["web stop"]);
}

#[test]
fn no_signal_but_the_last_ends_it_and_it_holds_only_what_is_its_own() {
    let dir = Dir::new();
    let kept = fs::File::create(dir.join("kept")).unwrap();
    // Not close-on-exec, as a descriptor that came from our parent.
    let leaked = nix::unistd::dup(&kept).unwrap();
    let mut rig = Rig::new(&dir);
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
    ] {
        kill(rig.pid(), signal).unwrap();
    }
    rig.remember(1, "web", "stop");
    rig.until_durable(1);
    let proc = PathBuf::from(format!("/proc/{}", rig.pid()));
    let mut held: Vec<String> = fs::read_dir(proc.join("fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|path| path.display().to_string())
        .map(|path| path.replace(&dir.path.display().to_string(), "S"))
        .map(|path| path.split(':').next().unwrap().to_string())
        .collect();
    held.sort();
    let expected = [
        "S/lock", "S/wanted", "pipe", "pipe", "pipe", "socket", "socket",
    ];
    assert_eq!(held, expected);
    let status = fs::read_to_string(proc.join("status")).unwrap();
    assert!(status.contains("Name:\tvitald-scribe\n"));
    assert!(status.contains("SigBlk:\t0000000000000000\n"));
    drop(leaked);
    rig.finish();
}

#[test]
fn a_full_disk_is_answered_with_its_cause_and_overcome() {
    let Some(dir) = Dir::small(64) else { return };
    let mut rig = Rig::new(&dir);
    rig.remember(1, "web", "start");
    rig.until_durable(1);
    while fs::write(
        dir.join(format!("filler{}", dir.named("filler").len())),
        [0; 4096],
    )
    .is_ok()
    {}
    // The rest of the last page is used up first.
    let mut seq = 1;
    while rig.acks.iter().all(|ack| ack.result.is_ok()) {
        seq += 1;
        rig.remember(seq, "db", "stop");
        rig.until(|rig| rig.acks.iter().any(|ack| ack.seq == seq));
    }
    let error = rig.acks.last().unwrap().result.clone().unwrap_err();
    assert!(error.contains("No space left on device (28)"), "{error}");
    rig.remember(seq + 1, "cache", "stop");
    rig.until(|rig| rig.acks.iter().any(|ack| ack.seq == seq + 1));
    // Killed meanwhile, the new one is told all that is not durable.
    kill(rig.pid(), Signal::SIGKILL).unwrap();
    rig.until_dead();
    assert!(rig.scribe.waiting() >= 2);
    assert!(!words(&dir).contains(&"cache stop".to_string()));
    rig.scribe.restart().unwrap();
    for filler in dir.named("filler") {
        fs::remove_file(filler).unwrap();
    }
    // By itself, without another word.
    rig.until_durable(seq + 1);
    assert_eq!(words(&dir), ["cache stop", "db stop", "web start"]);
    assert_eq!(rig.scribe.waiting(), 0);
}

#[test]
fn a_read_only_disk_is_answered_with_its_cause_and_overcome() {
    let Some(dir) = Dir::small(64) else { return };
    dir.remount("ro");
    let mut rig = Rig::new(&dir);
    rig.log("web", NOW, b"lost\n");
    rig.remember(1, "web", "stop");
    rig.until(|rig| !rig.acks.is_empty());
    let error = rig.acks[0].result.clone().unwrap_err();
    assert!(error.ends_with("Read-only file system (30)"), "{error}");
    // Records go first; between two of them it takes a log message.
    rig.remember(2, "web", "stop");
    rig.until(|rig| rig.acks.iter().any(|ack| ack.seq == 2));
    dir.remount("rw");
    rig.until_durable(2);
    assert_eq!(words(&dir), ["web stop"]);
    let logged = 5 + log_until_written(&mut rig, &dir, b"kept\n");
    rig.finish();
    let text = log(&dir, "web");
    let first = text.lines().next().unwrap();
    assert!(first.contains(" bytes dropped: cannot open "), "{text}");
    assert!(first.contains("Read-only file system (30)"), "{text}");
    assert_eq!(accounted(&text), logged);
}

#[test]
fn the_scribe_wakes_the_daemon_only_to_answer() {
    let dir = Dir::new();
    let mut rig = Rig::with(&dir, 1 << 30, 1);
    rig.remember(1, "web", "stop");
    rig.until_durable(1);
    // And, while it cannot take more, to say that it can again.
    rig.freeze();
    rig.log("web", NOW, &b"0123456\n".repeat(30_000));
    kill(rig.pid(), Signal::SIGCONT).unwrap();
    let path = dir.join("logs/web/current");
    let length = || fs::metadata(&path).map_or(0, |file| file.len());
    rig.until(|_| length() == 33 * 30_000);
    let mut events = Events::with_capacity(8);
    rig.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    for n in 1..=100 {
        rig.log("web", NOW, b"x\n");
        while length() < 33 * 30_000 + 27 * n {
            std::thread::yield_now();
        }
        rig.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "{events:?}");
    }
}

#[test]
fn the_last_thing_it_does_is_to_try_again() {
    let Some(dir) = Dir::small(64) else { return };
    dir.remount("ro");
    let mut rig = Rig::new(&dir);
    rig.remember(1, "web", "stop");
    rig.until(|rig| !rig.acks.is_empty());
    assert!(rig.acks[0].result.is_err());
    dir.remount("rw");
    rig.finish();
    assert_eq!(words(&dir), ["web stop"]);
}

#[test]
fn damage_is_cut_out_by_the_scribe() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir);
    for (seq, name) in (1..).zip(["a", "b", "c"]) {
        rig.remember(seq, name, "stop");
    }
    rig.until_durable(3);
    rig.finish();
    let mut bytes = fs::read(dir.join("wanted")).unwrap();
    let at = bytes.windows(3).position(|w| w == b"\"b\"").unwrap();
    bytes[at + 1] = b'x';
    fs::write(dir.join("wanted"), &bytes).unwrap();
    assert!(load(&dir).rewrite);
    let mut rig = Rig::new(&dir);
    rig.scribe.rewrite();
    rig.remember(1, "d", "stop");
    rig.until_durable(1);
    assert_eq!(words(&dir), ["a stop", "c stop", "d stop"]);
    assert_eq!(dir.named("wanted.corrupt-").len(), 1);
    rig.finish();
}

#[test]
fn words_beyond_the_bound_replace_older_ones_of_their_name() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir);
    kill(rig.pid(), Signal::SIGKILL).unwrap();
    rig.until_dead();
    let bound = limits::SCRIBE_RECORD_BACKLOG as u64;
    for seq in 1..=bound + 10 {
        rig.remember(seq, &format!("s{}", seq % 100), "stop");
    }
    assert!(rig.scribe.waiting() <= limits::SCRIBE_RECORD_BACKLOG);
    rig.scribe.restart().unwrap();
    rig.until_durable(bound + 10);
    assert_eq!(words(&dir).len(), 100);
    // With as many names as there is room, one more is refused, and said so.
    kill(rig.pid(), Signal::SIGKILL).unwrap();
    rig.until_dead();
    for n in 0..bound {
        rig.remember(bound + 11 + n, &format!("n{n}"), "stop");
    }
    let refused = rig.scribe.remember(bound * 3, &wanted("more", "stop", 1));
    assert!(refused.unwrap_err().contains("wait for the disk"));
}
