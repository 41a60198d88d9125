//! Reload: what changed is applied, and nothing else is touched.

use super::host::{Host, send, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;

const NAMES: [&str; 10] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"];

fn sleeper(seconds: u32, interval_ms: u32) -> String {
    format!(
        "# a comment\nexec = ['sleep', '{seconds}']\n[[probe]]\ntype = 'exec'\n\
         target = ['test', '-d', '/']\ninterval_ms = {interval_ms}\ntimeout_ms = 1000\n\
         start_interval_ms = 20\n\
         [retry_policy]\nstability_period_ms = 600000\n"
    )
}

fn ten(test: &str) -> Host {
    let mut host = Host::new(test);
    for name in NAMES {
        host.define(name, &sleeper(1000, 60_000));
    }
    host.start();
    for name in NAMES {
        host.up(name);
    }
    host
}

fn pids(host: &Host) -> Vec<Option<i32>> {
    NAMES.iter().map(|name| host.status(name).pid).collect()
}

/// Conformance 33: one of ten files edited in `exec`: only that one restarts, by cause `config`,
/// and spends nothing.
#[test]
fn a_changed_program_restarts_that_service_only() {
    let host = ten("reload-exec");
    let before = pids(&host);
    host.define("s4", &sleeper(2000, 60_000));
    host.call("system.reload", &json!({}));
    let status = host.up_again("s4", 2);
    assert_eq!((status.attempts, status.wanted.as_str()), (0, "start"));
    assert_eq!(status.last_end.expect("an end").cause, "config");
    let changed: Vec<usize> = changed(&before, &pids(&host));
    assert_eq!(changed, [4]);
    let command = fs::read(format!("/proc/{}/cmdline", status.pid.expect("a pid")));
    assert_eq!(command.expect("a command line"), b"sleep\x002000\0");
}

fn changed(before: &[Option<i32>], after: &[Option<i32>]) -> Vec<usize> {
    (0..before.len())
        .filter(|n| before[*n] != after[*n])
        .collect()
}

/// Conformance 33: an edit in `interval_ms` restarts none and is applied live.
#[test]
fn a_changed_probe_is_applied_live() {
    let host = ten("reload-probe");
    let before = pids(&host);
    let streak = |name: &str| host.status(name).probes[0].streak;
    let asked = streak("s7");
    host.define(
        "s7",
        &sleeper(1000, 1000).replace("interval_ms = 1000", "interval_ms = 1050"),
    );
    let note = host.call("system.reload", &json!({}));
    host.until("s7", "asked more often", |s| {
        s.probes[0].streak >= asked + 2
    });
    assert_eq!(pids(&host), before, "{note}");
}

/// Conformance 33: a comment changes nothing; a broken file changes nothing, its line is named,
/// and the others' changes are applied.
#[test]
fn a_comment_and_a_broken_file_change_nothing() {
    let host = ten("reload-broken");
    let before = pids(&host);
    host.define(
        "s1",
        &format!("# another comment\n{}", sleeper(1000, 60_000)),
    );
    host.call("system.reload", &json!({}));
    assert_eq!(pids(&host), before);
    host.define("s2", "exec = ['sleep', '1000']\nstop_timeout_ms = 'soon'\n");
    host.define("s3", &sleeper(3000, 60_000));
    let (code, message) = host.refused("system.reload", &json!({}));
    assert_eq!(code, -32005);
    assert!(
        message.contains("services/s2.toml:2:19: `stop_timeout_ms`"),
        "{message}"
    );
    host.up_again("s3", 2);
    assert_eq!(changed(&before, &pids(&host)), [3]);
    let status = host.status("s2");
    assert!(status.problem.unwrap_or_default().contains("s2.toml:2"));
    assert_eq!(status.state, "running");
    // Mended, it is as it was.
    host.define("s2", &sleeper(1000, 60_000));
    host.call("system.reload", &json!({}));
    assert_eq!(host.status("s2").problem, None);
    assert_eq!(changed(&before, &pids(&host)), [3]);
}

/// Design §2.4: a removed file stops the service, a new one starts it; an operator's stop is
/// remembered should the name return. By SIGHUP, as the kill of old does it.
#[test]
fn files_come_and_go_by_sighup() {
    let host = Host::with(
        "reload-files",
        &[
            ("old", &sleeper(1000, 60_000)),
            ("off", &sleeper(1000, 60_000)),
        ],
    );
    host.up("old");
    host.wait("stop", "off");
    let mut events = host.events(&[]);
    host.undefine("old");
    host.undefine("off");
    host.define("new", &sleeper(1000, 60_000));
    send(host.pid(), Signal::SIGHUP);
    events.event("the new one starts", |e| {
        e.service == "new" && e.to == "running"
    });
    until("the old one is gone", || {
        host.client()
            .call("service.status", &json!({"name": "old"}))
            .is_err()
    });
    let (code, message) = host.refused("service.status", &json!({"name": "off"}));
    assert_eq!((code, message.contains("off")), (-32000, true));
    host.define("old", &sleeper(1000, 60_000));
    host.define("off", &sleeper(1000, 60_000));
    send(host.pid(), Signal::SIGHUP);
    let mut events = host.events(&["new"]);
    until("it is known again", || {
        host.client()
            .call("service.status", &json!({"name": "old"}))
            .is_ok()
    });
    host.up("old");
    let status = host.status("off");
    assert_eq!((status.wanted.as_str(), status.pid), ("stop", None));
    // The one that was not touched was not touched.
    assert_eq!(host.status("new").run, 1);
    host.call("service.signal", &json!({"name": "new", "signal": "KILL"}));
    events.event("it crashed", |e| e.from == "running");
}

/// Issue, bad input: a broken file at the start: listed as failed with file and line, while the
/// other services run; two files of one name, and bytes that are no text.
#[test]
fn broken_files_at_the_start_hold_nobody_else_back() {
    let mut host = Host::new("broken");
    host.define("well", "exec = ['sleep', '1000']\n");
    host.define("ill", "exec = ['sleep', '1000']\n\nresart = 'always'\n");
    host.define("twice", "exec = ['sleep', '1000']\n");
    let json = r#"{"exec": ["sleep", "1000"]}"#;
    fs::write(host.dir.join("config/services/twice.json"), json).expect("write");
    fs::write(host.dir.join("config/services/json.json"), json).expect("write");
    fs::write(
        host.dir.join("config/services/bytes.toml"),
        b"exec = '\xff'",
    )
    .expect("write");
    host.start();
    host.up("well");
    host.up("json");
    let status = host.status("ill");
    assert_eq!(status.state, "failed");
    let problem = status.problem.unwrap_or_default();
    assert!(problem.contains("services/ill.toml:3"), "{problem}");
    assert!(problem.contains("restart"), "{problem}");
    for name in ["twice", "bytes"] {
        let status = host.status(name);
        assert_eq!(
            (status.state.as_str(), status.pid),
            ("failed", None),
            "{name}"
        );
        assert!(status.problem.is_some_and(|p| p.contains(name)), "{name}");
    }
    let (code, _) = host.refused("service.start", &json!({"name": "ill"}));
    assert_eq!(code, -32005);
    let said = host.said();
    assert!(said.contains("ill.toml:3"), "{said}");
}
