//! What services write: captured, shown, followed, rotated, bounded; and no service ever waits
//! for a reader.

use super::client::Client;
use super::host::{Host, alive, binary, until, untimed};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use vitald::limits::LOG_LINE_BYTES;

/// A shell's words as a definition's `exec`.
fn sh(script: &str) -> String {
    format!("exec = ['sh', '-c', '''{script}''']\n")
}

/// The log files of a service, oldest first.
fn files(host: &Host, name: &str) -> Vec<PathBuf> {
    let dir = host.dir.join("state/logs").join(name);
    let older = |n: u32| dir.join(format!("current.{n}"));
    let count = (1..).take_while(|n| older(*n).exists()).count() as u32;
    let mut files: Vec<PathBuf> = (1..=count).rev().map(older).collect();
    files.push(dir.join("current"));
    files
}

/// What is on disk, without the times.
fn on_disk(host: &Host, name: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for file in files(host, name) {
        let bytes = fs::read(file).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        // A line that is being written has no end yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        lines.extend(whole.lines().map(|line| untimed(line).to_owned()));
    }
    lines
}

/// All that is on disk once the scribe has written this line, which is a service's last.
fn written(host: &Host, name: &str, last: &str) -> Vec<String> {
    until(&format!("{last} is on disk"), || {
        on_disk(host, name).last().is_some_and(|line| line == last)
    });
    // Read while files were rotated, it may have had a gap.
    on_disk(host, name)
}

fn numbers(lines: &[String]) -> Vec<u32> {
    lines.iter().filter_map(|line| line.parse().ok()).collect()
}

/// Neither a gap nor a repetition.
fn in_a_row(lines: &[String]) {
    let numbers = numbers(lines);
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap, None, "{} numbers", numbers.len());
}

/// Both streams, in the order in which they were written; the last `-n` lines, also of a service
/// that has ended, also those of the runs before.
#[test]
fn both_streams_are_kept_in_order_and_the_newest_are_shown() {
    let script = "for n in 1 2 3; do echo out $n; echo err $n >&2; done; printf unended";
    let text = format!("{}kind = 'oneshot'\n", sh(script));
    let host = Host::with("streams", &[("once", &text)]);
    host.until("once", "done", |s| s.state == "exited");
    let all = ["out 1", "err 1", "out 2", "err 2", "out 3", "err 3"];
    host.line("once", "its last words", |line| line == "unended");
    assert_eq!(host.lines("once")[..6], all);
    let (code, out, _) = host.cli(&["logs", "once", "-n", "2"]);
    let lines: Vec<&str> = out.lines().map(untimed).collect();
    assert_eq!((code, lines.as_slice()), (0, &["err 3", "unended"][..]));
    // What the next run says begins a line of its own.
    host.wait("start", "once");
    until("twice", || host.lines("once").len() == 14);
    assert_eq!(host.lines("once")[6..8], ["unended", "out 1"]);
    let logs = host.call("logs.tail", &json!({"name": "once", "lines": 0}));
    assert_eq!(logs["lines"], json!([]));
    let (code, _) = host.refused("logs.tail", &json!({"name": "nobody"}));
    assert_eq!(code, -32000);
}

/// The lines that follow, from notifications.
fn next_lines(client: &mut Client) -> Vec<String> {
    loop {
        let message = client.json();
        if message["method"] == "logs.lines" {
            let lines = message["params"]["lines"]
                .as_array()
                .expect("lines")
                .clone();
            let text = |line: &Value| untimed(line.as_str().expect("text")).to_owned();
            return lines.iter().map(text).collect();
        }
    }
}

/// `-f` goes on through a restart, in both tongues.
#[test]
fn following_goes_on_through_a_restart() {
    let host = Host::with(
        "follow",
        &[("web", &sh("echo run $VITALD_RUN; exec sleep 1000"))],
    );
    host.line("web", "it began", |line| line == "run web/1");
    let mut client = host.client();
    let first = client
        .call("logs.tail", &json!({"name": "web", "follow": true}))
        .expect("lines");
    assert_eq!(first["lines"].as_array().expect("lines").len(), 1);
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("VITALD_SOCKET", host.socket())
        .args(["logs", "web", "-f"])
        .stdout(Stdio::piped());
    let mut shown = command.spawn().expect("start");
    let mut out = BufReader::new(shown.stdout.take().expect("stdout"));
    let mut line = move || {
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        untimed(line.trim_end()).to_owned()
    };
    assert_eq!(line(), "run web/1");
    for run in 2..5 {
        host.wait("restart", "web");
        let expected = format!("run web/{run}");
        assert_eq!(line(), expected);
        assert_eq!(next_lines(&mut client), [expected]);
    }
    shown.kill().expect("kill");
    shown.wait().expect("wait");
}

/// Files are rotated by size and number as `vitald.toml` says, with no line lost between them.
#[test]
fn files_are_rotated_by_size_and_number() {
    let mut host = Host::new("rotate");
    let settings = "log_file_bytes = 65536\nlog_files = 3\n";
    fs::write(host.path("config/vitald.toml"), settings).expect("write");
    host.define("web", &sh("seq 1 20000; exec sleep 1000"));
    host.start();
    let lines = written(&host, "web", "20000");
    in_a_row(&lines);
    let files = files(&host, "web");
    assert_eq!(files.len(), 4, "{files:?}");
    for file in &files {
        let size = fs::metadata(file).expect("a file").len();
        // A line is never in two files.
        assert!(size <= 65536 + 40, "{file:?}: {size}");
        assert!(
            size > 60_000 || file.ends_with("current"),
            "{file:?}: {size}"
        );
    }
    // What memory no longer has is shown from the files.
    // Thousands of lines have one and the same millisecond before them.
    let shown = host.call("logs.tail", &json!({"name": "web", "lines": 5000}));
    let shown = shown["lines"].as_array().expect("lines");
    let shown: Vec<String> = shown
        .iter()
        .map(|line| untimed(line.as_str().expect("text")).to_owned())
        .collect();
    in_a_row(&shown);
    let numbers = numbers(&shown);
    assert_eq!(
        (numbers.first(), numbers.last()),
        (Some(&15_001), Some(&20_000))
    );
}

/// The most memory that a process ever used.
fn high_water_kb(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.expect("VmHWM").trim().trim_end_matches(" kB");
    number.parse().expect("a number")
}

/// Issue: a service that writes 200 MB as fast as it can: others are answered meanwhile, memory
/// does not grow, the service is never held up for good, not even by a follower that never reads;
/// the newest lines are there, and what was dropped is said.
#[test]
fn a_flood_blocks_nobody_and_costs_no_memory() {
    let mut host = Host::new("flood");
    let (go, done) = (host.path("go"), host.path("done"));
    let line = "x".repeat(119);
    let script = format!(
        "while ! test -e {go}; do sleep 0.02; done; yes {line} | head -c 200000040; \
         echo the last line; touch {done}; exec sleep 1000"
    );
    host.define("loud", &sh(&script));
    host.define(
        "quiet",
        &sh("while read line; do echo $line; done; exec sleep 1000"),
    );
    host.define("other", "exec = ['sleep', '1000']\n");
    host.start();
    host.up("loud");
    let mut deaf = host.client();
    deaf.ask("logs.tail", &json!({"name": "loud", "follow": true}));
    let mut client = host.client();
    let scribe = |host: &Host| -> i32 {
        let children = format!("/proc/{0}/task/{0}/children", host.pid());
        let children = fs::read_to_string(children).expect("children");
        let pids = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok());
        let services = ["loud", "quiet", "other"].map(|name| host.status(name).pid);
        let mut others = pids.filter(|pid| !services.contains(&Some(*pid)));
        others.next().expect("the scribe")
    };
    host.up("other");
    let scribe = scribe(&host);
    let before = [host.pid(), scribe].map(high_water_kb);
    fs::write(&go, "").expect("write");
    let mut answered = 0;
    while !fs::exists(&done).expect("look") {
        client.call("system.ping", &json!({})).expect("pong");
        if answered % 50 == 0 {
            client
                .call("service.restart", &json!({"name": "other", "wait": true}))
                .expect("restarted");
        }
        answered += 1;
    }
    assert!(
        answered > 100,
        "{answered} answers while 200 MB were written"
    );
    host.line("loud", "the newest", |line| line == "the last line");
    let after = [host.pid(), scribe].map(high_water_kb);
    for (before, after) in before.iter().zip(after) {
        // The bound of what waits for the scribe, the rings, and a client's output.
        assert!(after < before + 16 * 1024, "{before} kB, then {after} kB");
    }
    let lines = written(&host, "loud", "the last line");
    assert!(lines.len() > 1000, "{}", lines.len());
    let strange = lines.iter().find(|l| {
        **l != line && !l.ends_with(" …") && *l != "the last line" && !line.ends_with(&***l)
    });
    assert_eq!(strange, None);
    let sizes: u64 = files(&host, "loud")
        .iter()
        .map(|file| fs::metadata(file).map_or(0, |found| found.len()))
        .sum();
    assert!(sizes < 6 * 1024 * 1024, "{sizes}");
    assert_eq!((host.status("loud").run, host.status("quiet").run), (1, 1));
}

/// Issue: the daemon is killed while a service fills its pipe and waits: it lives, and no byte is
/// lost; again and again.
#[test]
fn no_byte_is_lost_when_the_daemon_is_killed() {
    let mut host = Host::new("no-byte");
    let settings = "log_file_bytes = 16777216\n";
    fs::write(host.path("config/vitald.toml"), settings).expect("write");
    // More than a pipe holds, less than what may wait for the scribe of one service.
    let script = format!(
        "n=1; for turn in 1 2 3; do while ! test -e {0}.$turn; do sleep 0.02; done; \
         seq $n $((n + 19999)); n=$((n + 20000)); touch {0}.done.$turn; done; exec sleep 1000",
        host.path("go")
    );
    host.define("web", &sh(&script));
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    for turn in 1..=3 {
        host.kill();
        fs::write(host.path(&format!("go.{turn}")), "").expect("write");
        // It waits for a reader: a pipe holds 64 KB, this is more.
        let writer = |pid: i32| {
            let path = format!("/proc/{pid}/task/{pid}/children");
            fs::read_to_string(path).is_ok_and(|children| !children.trim().is_empty())
        };
        until("it writes", || writer(pid));
        assert!(!fs::exists(host.path(&format!("go.done.{turn}"))).expect("look"));
        host.start();
        let done = host.path(&format!("go.done.{turn}"));
        until("it goes on", || fs::exists(&done).expect("look"));
        let last = (turn * 20_000).to_string();
        host.line("web", "the last", |line| line == last);
    }
    let lines = written(&host, "web", "60000");
    assert_eq!(lines.first().map(String::as_str), Some("1"));
    in_a_row(&lines);
    assert_eq!(numbers(&lines).len(), 60_000);
    assert!(alive(pid));
    assert_eq!(host.status("web").run, 1);
}

/// Binary garbage, lines without an end and very long ones: shown as text, kept as they came, and
/// split where they are too long.
#[test]
fn garbage_and_very_long_lines_are_kept() {
    let mut host = Host::new("garbage");
    let garbage: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    fs::write(host.path("garbage"), &garbage).expect("write");
    let script = format!(
        "cat {}; echo; head -c 100000 /dev/zero | tr \"\\\\000\" x; echo; \
         head -c 50000 /dev/urandom; echo; echo end; exec sleep 1000",
        host.path("garbage")
    );
    host.define("web", &sh(&script));
    host.start();
    host.line("web", "the end", |line| line == "end");
    // What memory has no room for is shown from the files, as soon as it is in them.
    written(&host, "web", "end");
    let shown = host.lines("web");
    assert_eq!(shown[0], String::from_utf8_lossy(&garbage));
    let long: Vec<&String> = shown
        .iter()
        .filter(|line| line.starts_with("xxx"))
        .collect();
    assert!(long.iter().all(|line| line.len() <= LOG_LINE_BYTES));
    let bytes = |file: &PathBuf| fs::read(file).expect("a file");
    let disk: Vec<u8> = files(&host, "web").iter().flat_map(bytes).collect();
    let has = |bytes: &[u8]| disk.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(&garbage), "as it came");
    let (code, out, _) = host.cli(&["logs", "web", "--json"]);
    assert_eq!(code, 0);
    serde_json::from_str::<Value>(&out).expect("JSON, whatever a service writes");
    let xs = on_disk(&host, "web");
    let xs: usize = xs
        .iter()
        .filter(|l| l.starts_with("xxx"))
        .map(String::len)
        .sum();
    assert_eq!(xs, 100_000);
}

/// A service whose log directory cannot be made, or whose disk is full, is served all the same.
#[test]
fn without_a_place_for_its_log_a_service_runs_and_its_newest_lines_are_shown() {
    let mut host = Host::new("no-log");
    fs::create_dir_all(host.path("state")).expect("mkdir");
    fs::write(host.path("state/logs"), "a file").expect("write");
    host.define("web", &sh("seq 1 100000; echo end; exec sleep 1000"));
    host.start();
    host.line("web", "the end", |line| line == "end");
    let lines = host.lines("web");
    in_a_row(&lines);
    assert_eq!(numbers(&lines).last(), Some(&100_000));
    // Given a place, it is written again, and what is missing is said.
    fs::remove_file(host.path("state/logs")).expect("remove");
    host.define("web", &sh("while :; do echo again; sleep 0.05; done"));
    host.call("system.reload", &json!({}));
    until("it is written", || {
        let lines = on_disk(&host, "web");
        lines.iter().any(|line| line == "again")
            && lines.iter().any(|line| line.contains("bytes dropped"))
    });
}
