//! What services say of themselves: heard, believed only of those who may say it, acted on, and
//! none the worse for the daemon's death.

use super::host::{Host, alive, process, send, until};
use super::speaker::{exec, many, notify, tell};
use super::upgrade::can_panic;
use nix::sys::signal::Signal;
use serde_json::json;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use vitald::engine::status::Status;

const LONG: &str = "start_timeout_ms = 600000\n";

fn speaker(host: &Host, name: &str, keys: &str) {
    host.define(name, &format!("{keys}{}", exec(host)));
}

fn socket(host: &Host, name: &str) -> PathBuf {
    let control = host.socket();
    let runtime = control.parent().expect("a directory");
    runtime.join(format!("notify/{name}.sock"))
}

fn text(status: &Status) -> &str {
    status.status_text.as_deref().unwrap_or_default()
}

/// It says so, and the daemon has heard all that was sent before.
fn heard(host: &Host, name: &str, words: &str) {
    let run = host.status(name).run;
    tell(
        host,
        &format!("{name}.{run}.main"),
        &format!("say STATUS={words}"),
    );
    host.until(name, words, |s| text(s) == words);
}

fn open_files(host: &Host) -> usize {
    let fds = std::fs::read_dir(format!("/proc/{}/fd", host.pid()));
    fds.expect("descriptors").count()
}

#[test]
fn it_is_ready_when_it_says_so_and_nobody_else_can() {
    let mut host = Host::new("notify-ready");
    speaker(&host, "web", &format!("ready = 'notify'\n{LONG}"));
    host.define("api", "exec = ['sleep', '1000']\nrequires = ['web']\n");
    host.start();
    let status = host.until("web", "it has a process", |s| s.pid.is_some());
    assert_eq!(status.state, "starting");
    assert_eq!(status.says.as_deref(), Some("waits for READY=1"));
    heard(&host, "web", "loading");
    let files = open_files(&host);
    // Strangers: this test, with descriptors and without, and a child of the service.
    let path = socket(&host, "web");
    let fds = many();
    let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    notify(&path, b"READY=1\nSTATUS=stranger", &[]).expect("sent");
    notify(&path, b"READY=1\nFDSTORE=1", &numbers).expect("sent");
    tell(&host, "web.1.main", "child other");
    tell(&host, "web.1.other", "say READY=1\nSTATUS=child");
    tell(&host, "web.1.other", "barrier");
    // What is no notification, or a bad one.
    for bad in [
        "say",
        "say \u{0}\u{1}\u{2}",
        "say READY=yes",
        "say =1\n==\nREADY",
        "say MAINPID=1",
        "say MAINPID=0",
        &format!("say MAINPID={}", std::process::id()),
        &format!("say MAINPID={}", host.pid()),
        "say WATCHDOG=1\nWATCHDOG_USEC=-1\nEXTEND_TIMEOUT_USEC=x\nERRNO=zero",
        "say FDSTORE=1\nFDNAME=a:b\nFDSTOREREMOVE=1",
        "say-long 5000",
        "say-long 100000",
        "flood 20",
    ] {
        tell(&host, "web.1.main", bad);
    }
    heard(&host, "web", "still loading");
    let status = host.status("web");
    assert_eq!((status.state.as_str(), status.run), ("starting", 1));
    assert_eq!(status.pid, host.status("web").pid);
    assert_eq!(host.status("api").state, "blocked");
    // Whatever came along is closed.
    until("nothing is left open", || open_files(&host) <= files);
    let said = host.said();
    assert!(said.contains("no process whose word counts"), "{said}");
    tell(&host, "web.1.main", "say READY=1\nSTATUS=serving");
    let status = host.until("web", "ready", |s| s.state == "running");
    assert_eq!((text(&status), status.run), ("serving", 1));
    host.up("api");
    tell(&host, "web.1.main", "say RELOADING=1\nMONOTONIC_USEC=1");
    host.until("web", "reloading", |s| {
        s.says.as_deref() == Some("reloading")
    });
    let (_, page, _) = host.cli(&["status", "web"]);
    assert!(page.contains("serving (reloading)"), "{page}");
    tell(&host, "web.1.main", "say READY=1\nERRNO=2");
    host.until("web", "an error", |s| {
        s.says.as_deref() == Some("No such file or directory (2)")
    });
}

#[test]
fn a_missed_watchdog_restarts_it() {
    let mut host = Host::new("notify-watchdog");
    let keys = format!("ready = 'notify'\nwatchdog_ms = 3000\n{LONG}");
    speaker(&host, "web", &keys);
    host.start();
    tell(&host, "web.1.main", "environment");
    host.line("web", "its environment", |l| l == "WATCHDOG_USEC=3000000");
    host.line("web", "its environment", |l| {
        l == "WATCHDOG_PID is ours: true"
    });
    tell(&host, "web.1.main", "feed");
    tell(&host, "web.1.main", "say READY=1");
    let armed = |s: &Status| s.watchdog.as_ref().is_some_and(|w| w.state == "armed");
    host.until("web", "armed", |s| s.state == "running" && armed(s));
    tell(&host, "web.1.main", "starve");
    tell(&host, "web.2.main", "say READY=1");
    let status = host.until("web", "a second run", |s| {
        s.run == 2 && s.state == "running"
    });
    assert_eq!(status.last_end.as_ref().expect("an end").cause, "watchdog");
    assert_eq!(status.attempts, 1);
    let (_, why, _) = host.cli(&["why", "web"]);
    assert!(why.contains("no WATCHDOG=1 for 3 s"), "{why}");
    // Its own word is enough.
    tell(&host, "web.2.main", "say WATCHDOG_USEC=600000000");
    tell(&host, "web.2.main", "say WATCHDOG=trigger");
    host.until("web", "the gate's word", |s| {
        let missed = s.watchdog.as_ref().is_some_and(|w| w.state == "missed");
        missed && s.gate.as_ref().is_some_and(|g| g.verdict == "deferred")
    });
}

#[test]
fn over_the_daemons_death_it_is_ready_still_and_heard_again() {
    let mut host = Host::new("notify-death");
    speaker(&host, "web", &format!("ready = 'notify'\n{LONG}"));
    speaker(&host, "lost", "ready = 'notify'\nstart_timeout_ms = 2500\n");
    speaker(&host, "fd", &format!("ready = 'fd'\nnotify_fd = 7\n{LONG}"));
    speaker(&host, "held", &format!("ready = 'fd'\n{LONG}"));
    host.start();
    tell(&host, "web.1.main", "say READY=1\nSTATUS=up");
    host.up("web");
    heard(&host, "lost", "loading");
    // They have set themselves up: they would not outlive the daemon before.
    for name in ["fd", "held"] {
        tell(&host, &format!("{name}.1.main"), "environment");
        host.line(name, "its environment", |l| l == "that is all");
    }
    host.kill();
    // Into nothing; the descriptor keeps its word.
    tell(&host, "lost.1.main", "say READY=1");
    tell(&host, "fd.1.main", "newline 7");
    tell(&host, "held.1.main", "newline-held 3");
    host.start();
    host.line("lost", "nobody heard it", |l| l.starts_with("not heard"));
    let web = host.up("web");
    assert_eq!((web.run, text(&web)), (1, "up"));
    heard(&host, "web", "up again");
    assert_eq!(host.up("lost").run, 1);
    let why = host.why("lost");
    let believed = |detail: &str| detail.starts_with("taken to be ready");
    assert!(why.story.iter().any(|l| believed(&l.detail)), "{why:#?}");
    host.line("fd", "its word", |l| l.starts_with("newline: "));
    // It has closed its end, and with that its word is gone; that it has closed it says the same.
    assert_eq!(host.up("fd").run, 1);
    assert_eq!(host.up("held").run, 1);
}

#[test]
fn a_newline_on_its_descriptor_is_ready() {
    let mut host = Host::new("notify-fd");
    speaker(
        &host,
        "web",
        &format!("ready = 'fd'\nnotify_fd = 7\n{LONG}"),
    );
    host.start();
    let status = host.until("web", "a process", |s| s.pid.is_some());
    assert_eq!(status.state, "starting");
    let waits = "waits for a newline on descriptor 7";
    assert_eq!(status.says.as_deref(), Some(waits));
    tell(&host, "web.1.main", "newline 7");
    assert_eq!(host.up("web").run, 1);
}

fn upgraded(host: &Host) {
    host.call("system.upgrade", &json!({}));
    until("the new daemon answers", || {
        let Ok(mut client) = super::client::Client::connect(&host.socket()) else {
            return false;
        };
        client.ask("system.status", &json!({}));
        let status = client.answer().and_then(|(_, answer)| answer.ok());
        let began = status.map(|s| s["began"].as_str().unwrap_or_default().to_owned());
        began.is_some_and(|began| began.starts_with("upgraded"))
    });
}

#[test]
fn what_it_leaves_with_us_the_next_run_gets_back() {
    let mut host = Host::new("notify-store");
    let keys = format!("ready = 'notify'\nfd_store_max = 3\n{LONG}");
    speaker(&host, "web", &keys);
    host.start();
    for words in ["keep a", "keep b", "keep-pipe c", "keep d", "say READY=1"] {
        tell(&host, "web.1.main", words);
    }
    // The same twice is once; one is too many.
    host.until("web", "three kept", |s| {
        s.state == "running" && s.stored_fds == 3
    });
    until("the fourth is told", || {
        host.said().contains("fd_store_max is 3")
    });
    tell(&host, "web.1.main", "hang-up");
    host.until("web", "one hung up", |s| s.stored_fds == 2);
    upgraded(&host);
    assert_eq!(host.status("web").stored_fds, 2);
    heard(&host, "web", "heard by the next");
    host.call("service.restart", &json!({"name": "web"}));
    tell(&host, "web.2.main", "environment");
    for line in [
        "LISTEN_FDS=2",
        "LISTEN_FDNAMES=a:b",
        "FDSTORE=3",
        "LISTEN_PID is ours: true",
        "3 holds: a of web/1",
        "4 holds: b of web/1",
    ] {
        host.line("web", line, |l| l == line);
    }
    tell(&host, "web.2.main", "say FDSTOREREMOVE=1\nFDNAME=a");
    host.until("web", "one removed", |s| s.stored_fds == 1);
    tell(&host, "web.2.main", "say STATUS=before");
    tell(&host, "web.2.main", "barrier");
    host.line("web", "the barrier", |l| l == "barrier: over");
    assert_eq!(text(&host.status("web")), "before");
    tell(&host, "web.2.main", "say READY=1");
    host.up("web");
    // Stopped for good, nothing is kept.
    host.wait("stop", "web");
    assert_eq!(host.status("web").stored_fds, 0);
}

#[test]
fn what_is_kept_outlives_a_panic_and_not_a_kill() {
    if !can_panic() {
        return;
    }
    let mut host = Host::new("notify-panic");
    host.set_env("VITALD_TEST_PANIC", "1");
    let keys = format!("ready = 'notify'\nfd_store_max = 3\n{LONG}");
    speaker(&host, "web", &keys);
    host.start();
    tell(&host, "web.1.main", "keep a");
    host.until("web", "kept", |s| s.stored_fds == 1);
    send(host.pid(), Signal::SIGUSR2);
    until("it executed itself anew", || {
        host.said().contains("executed itself anew after a panic")
    });
    // What was said to the old one the new one hears.
    tell(&host, "web.1.main", "say READY=1");
    let status = host.up("web");
    assert_eq!((status.run, status.stored_fds), (1, 1));
    host.kill();
    host.start();
    let status = host.up("web");
    assert_eq!((status.run, status.stored_fds), (1, 0));
}

#[test]
fn another_process_of_it_can_be_its_main_one() {
    let mut host = Host::new("notify-mainpid");
    let keys = format!("ready = 'notify'\nnotify_access = 'tree'\n{LONG}");
    speaker(&host, "web", &keys);
    host.start();
    let first = host.until("web", "a process", |s| s.pid.is_some()).pid;
    tell(&host, "web.1.main", "child next");
    let line = host.line("web", "a child", |l| l.starts_with("child: "));
    let next: i32 = line["child: ".len()..].parse().expect("a number");
    tell(&host, "web.1.next", "say READY=1\nSTATUS=from the tree");
    host.until("web", "the tree's word", |s| text(s) == "from the tree");
    tell(&host, "web.1.main", &format!("hand-over {next}"));
    host.until("web", "another main process", |s| s.pid == Some(next));
    let first = first.expect("a pid");
    until("the first is reaped", || process(first).is_none());
    host.kill();
    host.start();
    let status = host.up("web");
    assert_eq!((status.pid, status.run), (Some(next), 1));
    heard_by(&host, "web.1.next", "still");
    host.until("web", "heard", |s| text(s) == "still");
    // Its end is the run's; nothing of it is left beside the next.
    send(next, Signal::SIGKILL);
    tell(&host, "web.2.main", "say READY=1");
    let status = host.until("web", "a second run", |s| {
        s.run == 2 && s.state == "running"
    });
    assert!(!alive(next));
    assert_eq!(status.last_end.as_ref().expect("an end").cause, "exit");
}

fn heard_by(host: &Host, whom: &str, words: &str) {
    tell(host, whom, &format!("say STATUS={words}"));
}

/// It cannot be made where the name is too long for a socket; the others run.
#[test]
fn a_socket_that_cannot_be_made_is_told_and_others_run() {
    let mut host = Host::new("notify-taken");
    let path = socket(&host, "web");
    std::fs::create_dir_all(path.join("in the way")).expect("a directory");
    speaker(&host, "web", &format!("ready = 'notify'\n{LONG}"));
    host.define("db", "exec = ['sleep', '1000']\n");
    host.start();
    host.up("db");
    let status = host.until("web", "told", |s| s.detail.is_some());
    let detail = status.detail.expect("words");
    assert!(
        detail.contains("replace") && detail.contains("web.sock"),
        "{detail}"
    );
    assert_eq!((status.state.as_str(), status.attempts), ("starting", 0));
    std::fs::remove_dir_all(&path).expect("out of the way");
    let run = host.until("web", "a process", |s| s.pid.is_some()).run;
    tell(&host, &format!("web.{run}.main"), "say READY=1");
    host.up("web");
}
