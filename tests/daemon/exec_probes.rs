//! Exec and https probes: commands that fail, hang, leave something behind, or cannot be executed.

use super::host::{Host, alive, process, until};
use std::fs;
use vitald::engine::status::{ProbeStatus, Status};

/// A service with one exec probe that only observes; its status once the probe has an outcome.
fn asked(host: &mut Host, command: &str, timeout_ms: u32) -> Status {
    let text = format!(
        "exec = ['sleep', '1000']\n[[probe]]\ntype = 'exec'\ntarget = ['sh', '-c', '''{command}''']\n\
         interval_ms = 30000\ntimeout_ms = {timeout_ms}\nstart_interval_ms = 50\n\
         failure_threshold = 1\non_unhealthy = 'observe'\n"
    );
    host.define("web", &text);
    host.start();
    host.until("web", "asked", |s| s.probes[0].outcome.is_some())
}

fn said(probe: &ProbeStatus) -> (&str, &str, &str) {
    (
        probe.outcome.as_deref().unwrap_or_default(),
        probe.reason.as_deref().unwrap_or_default(),
        probe.output.as_deref().unwrap_or_default(),
    )
}

/// Conformance 7: exit code and the last five lines.
#[test]
fn a_failing_command_shows_its_last_five_lines() {
    let mut host = Host::new("exec-fail");
    let status = asked(
        &mut host,
        "for n in 1 2 3 4 5 6 7; do echo line $n; done; exit 3",
        10_000,
    );
    let five = "line 3\nline 4\nline 5\nline 6\nline 7";
    assert_eq!(said(&status.probes[0]), ("fail", "exit code 3", five));
}

/// Conformance 7: a timeout kills the whole group.
#[test]
fn a_command_that_hangs_is_killed_with_its_whole_group() {
    let mut host = Host::new("exec-hang");
    let file = host.path("pids");
    let command = format!("sleep 1000 & echo $! > {file}; echo $$ >> {file}; wait");
    let status = asked(&mut host, &command, 700);
    assert_eq!(said(&status.probes[0]).0, "fail");
    assert_eq!(said(&status.probes[0]).1, "timeout");
    let pids = fs::read_to_string(&file).expect("both were started");
    let pids: Vec<i32> = pids
        .lines()
        .map(|pid| pid.parse().expect("a pid"))
        .collect();
    assert_eq!(pids.len(), 2);
    until("the command's group is gone", || {
        pids.iter().all(|pid| process(*pid).is_none())
    });
}

/// Conformance 7: a grandchild that keeps the pipe open does not hold the result back.
#[test]
fn a_grandchild_with_the_pipe_does_not_hold_the_answer_back() {
    let mut host = Host::new("exec-pipe");
    let file = host.path("pid");
    // In a session of its own, so that it outlives the command.
    let command = format!("setsid sleep 1000 & echo $! > {file}; echo well");
    let status = asked(&mut host, &command, 30_000);
    assert_eq!(said(&status.probes[0]), ("pass", "", "well"));
    let latency = status.probes[0].latency_us.expect("a latency");
    assert!(latency < 15_000_000, "{latency}");
}

/// Issue: a probe command that cannot be executed is our trouble: inconclusive, nothing restarted.
#[test]
fn a_command_that_is_not_there_restarts_nothing() {
    let mut host = Host::new("exec-missing");
    let text = "exec = ['sleep', '1000']\n[[probe]]\ntype = 'exec'\ntarget = ['/no/such/probe']\n\
                interval_ms = 100\ntimeout_ms = 100\nstart_interval_ms = 20\nfailure_threshold = 2\n";
    host.define("web", text);
    host.start();
    let unknown = |s: &Status| {
        s.detail
            .as_ref()
            .is_some_and(|d| d.contains("no verdict since"))
    };
    let status = host.until("web", "without a verdict", unknown);
    let (outcome, reason, _) = said(&status.probes[0]);
    assert_eq!(outcome, "inconclusive");
    assert!(reason.contains("No such file or directory"), "{reason}");
    assert_eq!((status.run, status.attempts), (1, 0));
    assert!(alive(status.pid.expect("a pid")));
}

/// An exec probe restarts as any other does.
#[test]
fn a_command_that_fails_often_enough_restarts_the_service() {
    let mut host = Host::new("exec-restart");
    let flag = host.path("ill");
    let text = format!(
        "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 10\n[[probe]]\ntype = 'exec'\n\
         target = ['sh', '-c', 'test ! -e {flag} || {{ echo ill; exit 9; }}']\n\
         interval_ms = 200\ntimeout_ms = 200\nfailure_threshold = 2\nstart_interval_ms = 50\n"
    );
    host.define("web", &text);
    host.start();
    host.up("web");
    fs::write(&flag, "").expect("write");
    host.until("web", "stopped for its health", |s| s.run == 2);
    fs::remove_file(&flag).expect("remove");
    let status = host.up_again("web", 2);
    assert_eq!(status.last_end.expect("an end").cause, "unhealthy");
    let decisions = host.decisions("web");
    assert!(
        decisions.iter().any(|d| d.detail.contains("exit code 9")),
        "{decisions:#?}"
    );
}

/// Issue: `https` in a child process. What answers here speaks no TLS, and that is what is said.
#[cfg(feature = "tls")]
#[test]
fn a_server_without_tls_fails_an_https_probe_by_name() {
    let mut host = Host::new("https");
    let server = host.tcp_server("web");
    let target = server.target.replace("http://", "https://");
    let text = format!(
        "{}[[probe]]\ntype = 'https'\ntarget = '{target}'\ninterval_ms = 30000\n\
         timeout_ms = 10000\nstart_interval_ms = 50\non_unhealthy = 'observe'\n",
        server.exec()
    );
    host.define("web", &text);
    host.start();
    let tls = |s: &Status| {
        s.probes[0]
            .reason
            .as_ref()
            .is_some_and(|r| r.starts_with("tls: "))
    };
    let status = host.until("web", "asked over TLS", tls);
    assert_eq!(status.probes[0].outcome.as_deref(), Some("fail"));
}
