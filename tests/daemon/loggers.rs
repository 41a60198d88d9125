//! A program that reads a service's log pipe (`logger`): it gets every line, whoever dies; and when
//! it hangs or cannot run, nobody hangs with it.

use super::host::{Host, alive, send, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;

/// Writes 1000 numbers each time a file `go.N` appears, and makes `done.N` then.
fn counter(host: &Host) -> String {
    format!(
        "exec = ['sh', '-c', '''cd {}; n=1; while :; do while ! test -e go.$n; do sleep 0.02; \
         done; seq $((n * 1000 - 999)) $((n * 1000)); : > done.$n; n=$((n + 1)); done''']\n",
        host.dir.display()
    )
}

fn go(host: &Host, turn: u32) {
    fs::write(host.path(&format!("go.{turn}")), "").expect("write");
}

fn kept(host: &Host) -> Vec<String> {
    let text = fs::read_to_string(host.path("kept")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// All numbers up to this are there, each once and in order.
fn has_all(host: &Host, last: usize) {
    until(&format!("{last} lines are kept"), || {
        kept(host).len() >= last
    });
    let expected: Vec<String> = (1..=last).map(|n| n.to_string()).collect();
    assert!(kept(host) == expected, "{} lines", kept(host).len());
}

fn logger_pid(host: &Host) -> i32 {
    let has = host.until("web", "a logger", |s| {
        s.log.as_ref().is_some_and(|log| log.logger_pid.is_some())
    });
    has.log.and_then(|log| log.logger_pid).expect("a pid")
}

#[test]
fn a_logger_gets_every_line_through_its_own_death_and_the_daemons() {
    let mut host = Host::new("logger");
    let logger = format!(
        "logger = ['sh', '-c', 'exec cat >> {}']\n",
        host.path("kept")
    );
    host.define("web", &(counter(&host) + &logger));
    host.start();
    host.up("web");
    go(&host, 1);
    has_all(&host, 1000);
    // It is killed: what is written meanwhile waits.
    let first = logger_pid(&host);
    send(first, Signal::SIGKILL);
    go(&host, 2);
    has_all(&host, 2000);
    let second = logger_pid(&host);
    assert_ne!(first, second);
    // The daemon is: the logger reads on, and the next daemon knows it.
    host.kill();
    go(&host, 3);
    has_all(&host, 3000);
    host.start();
    assert_eq!(logger_pid(&host), second);
    // Both are: what is written waits for the next of both.
    host.kill();
    send(second, Signal::SIGKILL);
    until("it is gone", || !alive(second));
    go(&host, 4);
    until("it is written", || {
        fs::exists(host.path("done.4")).expect("look")
    });
    host.start();
    has_all(&host, 4000);
    let third = logger_pid(&host);
    assert_eq!(host.status("web").run, 1);
    // The service's restart, which begins to count anew, and its stop are nothing to it.
    host.wait("restart", "web");
    until("it counts anew", || kept(&host).len() >= 8000);
    host.wait("stop", "web");
    assert_eq!(logger_pid(&host), third);
    // At the end it reads what is left, and ends.
    host.call("system.shutdown", &json!({}));
    assert!(host.ended().success());
    assert!(!alive(third));
}

#[test]
fn a_logger_that_was_made_when_the_daemon_died_is_found_by_its_input() {
    let mut host = Host::new("logger-note");
    let logger = format!(
        "logger = ['sh', '-c', 'exec cat >> {}']\n",
        host.path("kept")
    );
    host.define("web", &(counter(&host) + &logger));
    host.start();
    host.up("web");
    let pid = logger_pid(&host);
    let note = host.path("run/log/web.logger");
    let text = fs::read_to_string(&note).expect("a note");
    host.kill();
    // As it is before the clone.
    let (_, argv) = text.split_once('\n').expect("two lines");
    fs::write(note, format!("0 0\n{argv}")).expect("write");
    host.start();
    assert_eq!(logger_pid(&host), pid, "no second one");
    go(&host, 1);
    has_all(&host, 1000);
}

#[test]
fn a_hung_logger_hangs_nobody() {
    let mut host = Host::new("logger-hung");
    let deaf = "logger = ['sh', '-c', 'trap \"\" TERM; while :; do sleep 0.1; done']\n";
    host.define("web", &(counter(&host) + deaf));
    host.define("other", "exec = ['sleep', '1000']\n");
    host.start();
    let pid = logger_pid(&host);
    for turn in 1..=40 {
        go(&host, turn);
    }
    // The pipe is full and the service waits; all others are served.
    host.wait("restart", "other");
    let (code, out, _) = host.cli(&["status", "web"]);
    assert_eq!(code, 0);
    assert!(out.contains("to its logger sh -c "), "{out}");
    assert!(out.contains(&format!("pid {pid}")), "{out}");
    host.wait("stop", "web");
    host.call("system.shutdown", &json!({}));
    assert!(host.ended().success());
    assert!(!alive(pid));
}

#[test]
fn what_a_logger_complains_of_is_shown_and_without_one_the_lines_come_to_us() {
    let mut host = Host::new("logger-bad");
    host.define(
        "web",
        &(counter(&host) + "logger = ['sh', '-c', 'echo no place for logs >&2; exit 3']\n"),
    );
    host.start();
    host.up("web");
    host.line("web", "a complaint", |line| line == "no place for logs");
    let status = host.until("web", "why it does not run", |s| {
        let log = s.log.as_ref().and_then(|log| log.logger.as_ref());
        log.is_some_and(|words| words.contains("exit code 3"))
    });
    assert_eq!(status.run, 1, "its service is not touched");
    go(&host, 1);
    until("it is written", || {
        fs::exists(host.path("done.1")).expect("look")
    });
    // Another that cannot be executed: said with its cause.
    host.define("web", &(counter(&host) + "logger = ['/nowhere/log']\n"));
    host.call("system.reload", &json!({}));
    host.until("web", "the cause", |s| {
        let log = s.log.as_ref().and_then(|log| log.logger.as_ref());
        log.is_some_and(|words| words.contains("No such file"))
    });
    // None any more: what waited comes to us, without a restart.
    host.define("web", &counter(&host));
    host.call("system.reload", &json!({}));
    host.line("web", "what waited", |line| line == "1000");
    let status = host.status("web");
    assert_eq!((status.run, status.log), (1, None));
}

#[test]
fn a_removed_services_logger_reads_what_is_left_and_ends() {
    let mut host = Host::new("logger-removed");
    // Slow, so that something is left.
    let logger = format!(
        "logger = ['sh', '-c', 'sleep 0.5; exec cat >> {}']\n",
        host.path("kept")
    );
    host.define("web", &(counter(&host) + &logger));
    host.start();
    host.up("web");
    let pid = logger_pid(&host);
    go(&host, 1);
    until("it is written", || {
        fs::exists(host.path("done.1")).expect("look")
    });
    host.undefine("web");
    host.call("system.reload", &json!({}));
    until("it ends", || !alive(pid));
    has_all(&host, 1000);
}
