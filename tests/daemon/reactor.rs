//! The loop and its children at their limits: floods, want of space, set-ups that stall, what dies
//! with the daemon and what does not.

use super::host::{Host, alive, until};
use std::fs;

/// A probe's command whose program was never executed says nothing of the service.
#[test]
fn a_probe_command_that_stalls_before_its_program_restarts_nothing() {
    let mut host = Host::new("probe-stall");
    let file = host.path("env");
    fs::write(&file, "A=1\n").expect("write");
    let text = format!(
        "exec = ['sleep', '1000']\nenv_file = '{file}'\n[[probe]]\ntype = 'exec'\n\
         target = ['true']\ninterval_ms = 200\ntimeout_ms = 200\nfailure_threshold = 1\n"
    );
    host.define("web", &text);
    host.start();
    let first = host.up("web");
    fs::remove_file(&file).expect("remove");
    // Opening it waits for a writer that never comes, as a dead mount would.
    nix::unistd::mkfifo(file.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let status = host.until("web", "without a verdict", |s| {
        s.probes[0].outcome.as_deref() == Some("inconclusive")
    });
    let reason = status.probes[0].reason.as_deref().unwrap_or_default();
    assert!(reason.contains("timed out"), "{reason}");
    assert_eq!((status.pid, status.run), (first.pid, 1));
}

/// No pipe for a service's output is our trouble: no attempt is spent, and it starts when it can.
#[test]
fn a_runtime_directory_in_trouble_is_not_the_services_fault() {
    let mut host = Host::new("no-pipe");
    host.define("web", "exec = ['sleep', '1000']\nautostart = false\n");
    host.start();
    let (logs, away) = (host.dir.join("run/log"), host.dir.join("run/away"));
    fs::rename(&logs, &away).expect("rename");
    host.call("service.start", &serde_json::json!({"name": "web"}));
    let status = host.until("web", "tried again", |s| {
        s.detail
            .as_deref()
            .is_some_and(|detail| detail.contains("web.fifo"))
    });
    assert_eq!((status.state.as_str(), status.attempts), ("starting", 0));
    fs::rename(&away, &logs).expect("rename");
    let status = host.up("web");
    assert_eq!(status.attempts, 0);
}

/// A dozen services that write as fast as they can: others are served, and the list of full pipes
/// does not grow (the daemon of a debug build asserts it).
#[test]
fn a_flood_from_many_services_slows_nobody_and_piles_nothing_up() {
    let mut host = Host::new("flood");
    // One write(2) a line: each is an edge, and the pipes are never full.
    for number in 0..12 {
        let text = "exec = ['sh', '-c', 'while :; do echo line; done']\n";
        host.define(&format!("f{number}"), text);
    }
    host.define(
        "calm",
        "exec = ['sh', '-c', 'echo calm; exec sleep 1000']\n",
    );
    host.start();
    for number in 0..12 {
        host.up(&format!("f{number}"));
    }
    host.line("calm", "its line", |line| line.ends_with("calm"));
    for _ in 0..20 {
        host.call("system.ping", &serde_json::json!({}));
    }
    for number in 0..12 {
        host.wait("stop", &format!("f{number}"));
    }
    assert!(alive(host.pid()), "{}", host.said());
}

/// A service outlives the daemon; the command that probes it does not, nor does it pile up.
#[test]
fn a_probes_command_dies_with_the_daemon() {
    let mut host = Host::new("probe-dies");
    let file = host.path("pid");
    let text = format!(
        "exec = ['sleep', '1000']\n[[probe]]\ntype = 'exec'\n\
         target = ['sh', '-c', 'echo $$ > {file}; exec sleep 1000']\n\
         interval_ms = 60000\ntimeout_ms = 60000\non_unhealthy = 'observe'\n"
    );
    host.define("web", &text);
    host.start();
    let service = host.up("web").pid.expect("a pid");
    let mut command = 0;
    until("the command runs", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        command = text.trim().parse().unwrap_or(0);
        command > 0
    });
    host.kill();
    until("the command is gone", || !alive(command));
    assert!(alive(service));
}

/// The journal is lost or damaged, its services live: none is started twice, and a stop that was
/// asked for is finished.
#[test]
fn a_lost_journal_doubles_nothing() {
    let mut host = Host::new("lost-journal");
    host.define("web", "exec = ['sleep', '1000']\n");
    let twice = "trap 'trap - TERM; echo once' TERM; echo up; while :; do sleep 0.02; done";
    let text = format!("exec = ['sh', '-c', \"{twice}\"]\nstop_timeout_ms = 60000\n");
    host.define("slow", &text);
    // What a service leaves running on purpose is no run of it.
    host.define(
        "shell",
        "exec = ['sh', '-c', '(setsid sleep 1000 &); exec sleep 1000']\nkill_mode = 'process'\n",
    );
    host.start();
    let web = host.up("web");
    let shell = host.up("shell");
    host.up("slow");
    host.line("slow", "its trap", |line| line.ends_with("up"));
    host.call("service.stop", &serde_json::json!({"name": "slow"}));
    host.line("slow", "the first signal", |line| line.ends_with("once"));
    host.kill();
    fs::remove_file(host.dir.join("run/journal")).expect("remove");
    host.start();
    for before in [&web, &shell] {
        let after = host.up(&before.name);
        assert_eq!((after.pid, after.run), (before.pid, 1), "{}", host.said());
    }
    let slow = host.until("slow", "stopped", |s| s.state == "inactive");
    assert_eq!((slow.wanted.as_str(), slow.run), ("stop", 1));
    // The same for one that was started anew since the last record of it.
    host.wait("restart", "web");
    let web = host.up("web");
    host.kill();
    let journal = host.dir.join("run/journal");
    let text = fs::read_to_string(&journal).expect("read");
    let damaged: String = text
        .lines()
        .map(|line| match line.contains("\"name\":\"web\"") {
            true => "damaged\n".to_owned(),
            false => format!("{line}\n"),
        })
        .collect();
    fs::write(&journal, damaged).expect("write");
    host.start();
    let after = host.up("web");
    assert_eq!(
        (after.pid, after.run),
        (web.pid, web.run),
        "{}",
        host.said()
    );
}
