//! What becomes of output, as `log_*` says: its form in files, streams apart, syslog, limits; and
//! `logs` over several services, with filters.

use super::host::{Host, until, untimed};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

fn sh(script: &str) -> String {
    format!("exec = ['sh', '-c', '''{script}''']\n")
}

fn file(host: &Host, name: &str) -> String {
    let path = host.dir.join("state/logs").join(name).join("current");
    fs::read_to_string(path).unwrap_or_default()
}

fn texts(logs: &Value) -> Vec<String> {
    let entries = logs["entries"].as_array().expect("entries");
    let text = |entry: &Value| entry["text"].as_str().expect("text").to_owned();
    entries.iter().map(text).collect()
}

#[test]
fn a_log_file_has_the_form_that_is_asked_for_and_is_shown_in_ours() {
    let script = "echo out; echo '<3>bad' >&2; exec sleep 1000";
    let tai = "log_time = 'tai64n'\nlog_prefix = 'both'\nlog_stderr = 'apart'\n";
    let plain = "log_time = 'none'\nlog_prefix = 'name'\n";
    let mut host = Host::with(
        "form",
        &[
            ("tai", &(sh(script) + tai)),
            ("plain", &(sh(script) + plain)),
        ],
    );
    until("both are written", || {
        file(&host, "tai").lines().count() == 2 && file(&host, "plain").lines().count() == 2
    });
    assert_eq!(file(&host, "plain"), "plain: out\nplain: <3>bad\n");
    let text = file(&host, "tai");
    let mut lines: Vec<(&str, &str)> = text.lines().filter_map(|l| l.split_once(' ')).collect();
    lines.sort_by_key(|(_, rest)| *rest);
    assert!(
        lines
            .iter()
            .all(|(time, _)| time.len() == 25 && time.starts_with("@4000000"))
    );
    assert_eq!(
        (lines[0].1, lines[1].1),
        ("tai stderr: <3>bad", "tai stdout: out")
    );
    // Read back from the files by another daemon: in our form, the severity beside the text.
    host.kill();
    host.start();
    host.up("tai");
    for name in ["tai", "plain"] {
        let logs = host.call("logs.tail", &json!({"name": name}));
        let mut texts = texts(&logs);
        texts.sort();
        assert_eq!(texts, ["bad", "out"]);
    }
    let logs = host.call("logs.tail", &json!({"name": "tai", "priority": "err"}));
    let entry = &logs["entries"][0];
    assert_eq!(
        (&entry["stream"], &entry["priority"]),
        (&json!("stderr"), &json!("err"))
    );
    assert_eq!(texts(&logs), ["bad"]);
    let (code, out, _) = host.cli(&["logs", "tai", "-p", "3"]);
    let lines: Vec<&str> = out.lines().map(untimed).collect();
    assert_eq!((code, lines.as_slice()), (0, &["bad"][..]));
    // A change of the form is no reason for a restart.
    host.define(
        "plain",
        &(sh(script) + "log_prefix = 'name'\nlog_files = 2\n"),
    );
    host.call("system.reload", &json!({}));
    assert_eq!(host.status("plain").run, 1);
    // Two pipes instead of one are.
    host.define("plain", &(sh(script) + "log_stderr = 'apart'\n"));
    host.call("system.reload", &json!({}));
    host.up_again("plain", 2);
}

/// Issue: no line is lost or doubled by `kill -9`, with streams told apart either.
#[test]
fn with_streams_apart_no_line_is_lost_when_the_daemon_is_killed() {
    let mut host = Host::new("apart");
    let script = format!(
        "cd {}; n=1; while :; do while ! test -e go.$n; do sleep 0.02; done; \
         seq -f o%g $((n * 1000 - 999)) $((n * 1000)); \
         seq -f e%g $((n * 1000 - 999)) $((n * 1000)) >&2; : > done.$n; n=$((n + 1)); done",
        host.dir.display()
    );
    let more = "log_stderr = 'apart'\nlog_prefix = 'stream'\n";
    host.define("web", &(sh(&script) + more));
    host.start();
    host.up("web");
    for turn in 1..=3 {
        host.kill();
        fs::write(host.path(&format!("go.{turn}")), "").expect("write");
        until("it is written", || {
            fs::exists(host.path(&format!("done.{turn}"))).expect("look")
        });
        host.start();
        let ends = |word: &str| format!("{word}{}", turn * 1000);
        host.line("web", "the last", |line| line == ends("o"));
        host.line("web", "the last", |line| line == ends("e"));
    }
    until("all is written", || {
        file(&host, "web").lines().count() >= 6000
    });
    let text = file(&host, "web");
    for (stream, word) in [("stdout", "o"), ("stderr", "e")] {
        let of = |line: &str| {
            let (_, text) = line.split_once(&format!(" {stream}: "))?;
            Some(text.to_owned())
        };
        let lines: Vec<String> = text.lines().filter_map(of).collect();
        let expected: Vec<String> = (1..=3000).map(|n| format!("{word}{n}")).collect();
        assert!(lines == expected, "{stream}: {} lines", lines.len());
    }
    assert_eq!(host.status("web").run, 1);
}

#[test]
fn beyond_the_rate_lines_are_dropped_and_said() {
    let script = "seq 1 1000; exec sleep 1000";
    let limit = "log_rate_limit = { count = 10, per_ms = 300 }\n";
    let host = Host::with("rate", &[("web", &(sh(script) + limit))]);
    // Said though nothing more comes.
    host.line("web", "what was dropped", |line| {
        line.starts_with("… 990 lines dropped in ") && line.contains("10 in 300 ms")
    });
    let lines = host.lines("web");
    assert_eq!(
        lines[..10],
        (1..=10).map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(lines.len(), 11, "{lines:?}");
    until("it is written", || file(&host, "web").lines().count() == 11);
    let log = host.status("web").log.expect("something of note");
    assert_eq!(log.dropped_lines, 990);
    let (_, out, _) = host.cli(&["status", "web"]);
    assert!(out.contains("990 lines dropped by log_rate_limit"), "{out}");
}

#[test]
fn long_lines_are_cut_where_the_definition_says() {
    let script = "echo 0123456789; head -c 100000 /dev/zero | tr \"\\\\000\" x; echo; echo end; \
                  exec sleep 1000";
    let bound = "log_line_bytes = 64\nlog_long_lines = 'truncate'\n";
    let host = Host::with("long", &[("web", &(sh(script) + bound))]);
    host.line("web", "the end", |line| line == "end");
    let long = format!("{} … cut: longer than 64 bytes …", "x".repeat(64));
    assert_eq!(host.lines("web"), ["0123456789", &long, "end"]);
}

#[test]
fn logs_of_several_services_are_merged_by_time_and_followed() {
    let turn = |mine: u32, host: &Host| {
        sh(&format!(
            "cd {}; n={mine}; while test $n -lt 20; do while ! test -e turn.$n; do sleep 0.01; \
             done; echo line $n; n=$((n + 2)); done; exec sleep 1000",
            host.dir.display()
        ))
    };
    let mut host = Host::new("merge");
    host.define("even", &turn(0, &host));
    host.define("odd", &turn(1, &host));
    host.define("quiet", "exec = ['sleep', '1000']\n");
    host.start();
    let mut follower = host.client();
    follower
        .call("logs.tail", &json!({"all": true, "follow": true}))
        .expect("lines");
    for n in 0..20 {
        fs::write(host.path(&format!("turn.{n}")), "").expect("write");
        let name = ["even", "odd"][n % 2];
        host.line(name, "its turn", |line| line == format!("line {n}"));
    }
    let expected: Vec<String> = (0..20)
        .map(|n| format!("{}: line {n}", ["even", "odd"][n % 2]))
        .collect();
    let (code, out, _) = host.cli(&["logs", "odd", "even"]);
    let lines: Vec<&str> = out.lines().map(untimed).collect();
    assert_eq!(code, 0);
    assert_eq!(lines, expected);
    // The newest of all together; of what has this text.
    let newest = host.call("logs.tail", &json!({"name": ["odd", "even"], "lines": 3}));
    assert_eq!(texts(&newest), ["line 17", "line 18", "line 19"]);
    let found = host.call("logs.tail", &json!({"all": true, "grep": "ne 1"}));
    assert_eq!(texts(&found).len(), 11);
    let since = host.call("logs.tail", &json!({"all": true, "since_ms": 3_600_000}));
    assert_eq!(texts(&since).len(), 20);
    let mut followed = Vec::new();
    while followed.len() < 20 {
        let message = follower.json();
        if message["method"] == "logs.lines" {
            for line in message["params"]["lines"].as_array().expect("lines") {
                followed.push(untimed(line.as_str().expect("text")).to_owned());
            }
        }
    }
    assert_eq!(followed, expected);
    let (code, words) = host.refused("logs.tail", &json!({}));
    assert_eq!(code, -32602, "{words}");
}

/// A datagram from syslog's side, without its time.
fn next(log: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = log.recv(&mut buffer).expect("a message");
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    // <27>Nov 29 06:58:12 web: text
    let (priority, rest) = text.split_once('>').expect("a priority");
    assert_eq!(rest.as_bytes()[15], b' ', "{text}");
    format!("{priority}>{}", &rest[16..])
}

#[test]
fn lines_go_to_syslog_and_are_dropped_and_counted_while_it_is_away() {
    let mut host = Host::new("syslog");
    let path = host.path("log.sock");
    fs::write(
        host.path("config/vitald.toml"),
        format!("syslog_socket = '{path}'\nlog_to = 'syslog'\n"),
    )
    .expect("write");
    let listen = || {
        let log = UnixDatagram::bind(&path).expect("bind");
        log.set_read_timeout(Some(Duration::from_secs(20)))
            .expect("timeout");
        log
    };
    let log = listen();
    let script = format!(
        "cd {}; echo plain; echo '<3>broken'; printf half; sleep 0.1; echo ' a line'; n=1; \
         while :; do while ! test -e go.$n; do sleep 0.02; done; echo turn $n; : > done.$n; \
         n=$((n + 1)); done",
        host.dir.display()
    );
    let more = "log_facility = 'local3'\nlog_tag = 'www'\nlog_priority = 'notice'\n";
    host.define("web", &(sh(&script) + more));
    host.start();
    // local3 is 19: 152 and the severity.
    let expected = [
        "<157>www: plain",
        "<155>www: broken",
        "<157>www: half a line",
    ];
    for line in expected {
        assert_eq!(next(&log), line);
    }
    drop(log);
    fs::remove_file(&path).expect("remove");
    let go = |turn: u32| {
        fs::write(host.path(&format!("go.{turn}")), "").expect("write");
        until("it is written", || {
            fs::exists(host.path(&format!("done.{turn}"))).expect("look")
        });
        host.line("web", "in memory", |line| line == format!("turn {turn}"));
    };
    for turn in 1..=3 {
        go(turn);
    }
    until("it is said", || {
        host.said().contains("syslog does not take messages")
    });
    let log = listen();
    let said = next(&log);
    assert!(said.starts_with("<156>www: … 3 lines dropped: "), "{said}");
    go(4);
    assert_eq!(next(&log), "<157>www: turn 4");
    assert!(
        !fs::exists(host.path("state/logs/web")).expect("look"),
        "no file"
    );
    assert_eq!(host.status("web").run, 1);
}

/// A syslog that hangs: its queue is full.
#[test]
fn a_syslog_that_takes_nothing_blocks_nobody() {
    let mut host = Host::new("syslog-full");
    let path = host.path("log.sock");
    let settings = format!("syslog_socket = '{path}'\nlog_to = 'both'\n");
    fs::write(host.path("config/vitald.toml"), settings).expect("write");
    let log = UnixDatagram::bind(&path).expect("bind");
    log.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("timeout");
    let done = host.path("done");
    host.define(
        "web",
        &sh(&format!(
            "seq 1 5000; echo end; : > {done}; exec sleep 1000"
        )),
    );
    host.start();
    until("it is written", || fs::exists(&done).expect("look"));
    until("all is in the file", || {
        file(&host, "web").ends_with(" end\n")
    });
    assert_eq!(file(&host, "web").lines().count(), 5001);
    // It reads again: what it took before, then how many it did not. The file may be ahead of it,
    // so there may be more lines behind the first such word, and another word.
    let (mut taken, mut dropped) = (0, 0);
    while taken + dropped < 5001 {
        let line = next(&log);
        match line.strip_prefix("<28>web: … ") {
            Some(words) => {
                let number = words.split(' ').next().expect("a number");
                dropped += number.parse::<usize>().expect("a number");
            }
            None => taken += 1,
        }
    }
    assert_eq!(taken + dropped, 5001);
    assert!(dropped > 0, "its queue was never full");
}
