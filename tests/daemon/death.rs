//! The daemon's death: kill -9 at any moment, started again, and nothing that a user can see has
//! changed.

use super::host::{Host, alive, is_up, process, send, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use vitald::engine::status::Status;

/// What must be the same before and after.
fn kept(status: &Status) -> (Option<i32>, u32, u32, &str, &str, Option<&str>) {
    (
        status.pid,
        status.run,
        status.attempts,
        &status.wanted,
        &status.state,
        status.health.as_deref(),
    )
}

/// Conformance 29: same pids, no second copy; wanted, attempts and streaks as before.
#[test]
fn killed_and_started_again_nothing_has_changed() {
    let mut host = Host::new("adopt");
    let server = host.server("web");
    let probe = "name = 'main'\ninterval_ms = 60000\nstart_interval_ms = 50\n";
    let probe = format!(
        "[[probe]]\ntype = 'http'\ntarget = '{}'\n{probe}",
        server.target
    );
    // An observing probe that fails all the time: its streak only grows.
    let side = "[[probe]]\ntype = 'exec'\ntarget = ['false']\nname = 'side'\ninterval_ms = 100\n\
                timeout_ms = 100\nfailure_threshold = 1000\non_unhealthy = 'observe'\n";
    let quick = "[retry_policy]\ndelay_ms = 0\n";
    host.define("web", &format!("{}{quick}{probe}{side}", server.exec()));
    host.define("idle", &format!("exec = ['sleep', '1000']\n{quick}"));
    host.define("off", "exec = ['sleep', '1000']\n");
    host.start();
    host.up("web");
    host.wait("stop", "off");
    // One attempt is spent.
    let first = host.up("idle").pid.expect("a pid");
    send(first, Signal::SIGKILL);
    host.up_again("idle", 2);
    let streak = |s: &Status| {
        s.probes
            .iter()
            .find(|p| p.name == "side")
            .expect("side")
            .streak
    };
    host.until("web", "failing on its side", |s| streak(s) <= -3);
    let names = ["web", "idle", "off"];
    let before = names.map(|name| host.status(name));
    let processes = host.processes();
    host.kill();
    assert!(before[..2].iter().all(|s| alive(s.pid.expect("a pid"))));
    host.start();
    let after = names.map(|name| host.status(name));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(kept(after), kept(before), "{}", before.name);
    }
    assert_eq!(after[1].attempts, 1);
    assert!(streak(&after[0]) <= streak(&before[0]), "{after:#?}");
    // And it is asked on.
    host.until("web", "asked on", |s| streak(s) <= streak(&before[0]) - 2);
    let copies = |pids: &[i32]| {
        let of_services = |pid: &&i32| before.iter().any(|s| s.pid == Some(**pid));
        pids.iter().filter(of_services).count()
    };
    let now = host.processes();
    assert_eq!((copies(&processes), copies(&now)), (2, 2), "{now:?}");
    let main_only = |pid: &i32| process(*pid).is_some_and(|(_, parent)| parent == 1);
    assert!(
        now.iter().filter(|pid| main_only(pid)).count() <= 2,
        "{now:?}"
    );
}

/// Issue: adopted, and watched like our own: the end of an adopted process is seen, judged, and it
/// is started again.
#[test]
fn an_adopted_service_that_crashes_is_started_again() {
    let text = "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 0\n";
    let mut host = Host::with("adopt-crash", &[("web", text)]);
    let pid = host.up("web").pid.expect("a pid");
    host.kill();
    host.start();
    assert_eq!(host.status("web").pid, Some(pid));
    send(pid, Signal::SIGKILL);
    let status = host.up_again("web", 2);
    assert_eq!((status.run, status.attempts), (2, 1));
    assert_eq!(status.last_end.expect("an end").cause, "exit");
}

/// An adopted service is healed and stopped like our own.
#[test]
fn an_adopted_service_is_healed_and_stopped() {
    let mut host = Host::new("adopt-heal");
    let server = host.server("web");
    let quick = "[retry_policy]\ndelay_ms = 10\n";
    host.define(
        "web",
        &format!("{}{quick}{}", server.exec(), server.probe("")),
    );
    host.start();
    host.up("web");
    host.kill();
    server.tell(1, "mute");
    host.start();
    let status = host.up_again("web", 2);
    assert_eq!((status.run, status.attempts), (2, 1));
    host.kill();
    host.start();
    host.wait("stop", "web");
    let status = host.status("web");
    assert_eq!((status.state.as_str(), status.run), ("inactive", 2));
    assert!(host.processes().is_empty());
}

/// End-to-end list: what ended while no daemon was there is an unknown end, judged once.
#[test]
fn a_process_that_ended_meanwhile_is_started_again() {
    let text = "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 0\n";
    let once = "exec = ['sleep', '1000']\nrestart = 'never'\n";
    let mut host = Host::with("meanwhile", &[("web", text), ("once", once)]);
    let pids = ["web", "once"].map(|name| host.up(name).pid.expect("a pid"));
    host.kill();
    for pid in pids {
        send(pid, Signal::SIGKILL);
        until("it is gone", || !alive(pid));
    }
    host.start();
    let status = host.up_again("web", 2);
    assert_eq!((status.run, status.attempts), (2, 1));
    let status = host.until("once", "failed", |s| s.state == "failed");
    assert_eq!((status.run, status.pid), (1, None));
}

/// Pitfalls, logs: a service that writes while no daemon is there is not killed by SIGPIPE, and no
/// line of it is lost.
#[test]
fn what_is_written_while_no_daemon_is_there_is_not_lost() {
    let mut host = Host::new("meanwhile-log");
    let file = host.path("count");
    let script = format!(
        "n=0; while :; do n=$((n + 1)); echo line $n; echo $n > {file}.new; \
         mv {file}.new {file}; sleep 0.01; done"
    );
    host.define("web", &format!("exec = ['sh', '-c', '{script}']\n"));
    host.start();
    let written = || -> u32 {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    };
    let pid = host.up("web").pid;
    until("it writes", || written() > 5);
    for _ in 0..2 {
        host.kill();
        let before = written();
        until("it writes on", || written() > before + 20);
        host.start();
    }
    let status = host.up("web");
    assert_eq!((status.pid, status.run), (pid, 1));
    let last = written();
    let wanted = format!("line {last}");
    host.line("web", "the last line", |line| line == wanted);
    host.wait("stop", "web");
    // All lines, in order, from the first to the last: on disk, where none is dropped.
    let mut numbers = Vec::new();
    until("all is on disk", || {
        let text = log_files(&host, "web");
        let lines = text.lines().filter_map(|line| line.split_once("line "));
        numbers = lines.filter_map(|(_, n)| n.parse().ok()).collect();
        numbers.last().is_some_and(|n: &u32| *n >= last)
    });
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(
        (numbers.first(), gap),
        (Some(&1), None),
        "{}",
        log_files(&host, "web")
    );
}

/// All that is on disk of a service's log, oldest first.
fn log_files(host: &Host, name: &str) -> String {
    let dir = host.dir.join("state/logs");
    let mut files: Vec<_> = walk(&dir)
        .into_iter()
        .filter(|p| p.contains(name))
        .collect();
    // `log.4` is older than `log.1`, and both than `log`.
    files.sort();
    files.reverse();
    files
        .iter()
        .map(|path| fs::read_to_string(path).unwrap_or_default())
        .collect()
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path.to_str().expect("UTF-8").to_owned()),
        }
    }
    found
}

/// Promise: a verb that was acknowledged is not lost, however soon the daemon dies.
#[test]
fn an_acknowledged_verb_survives_the_daemon_that_dies_right_after() {
    let text = "exec = ['sleep', '1000']\n";
    let mut host = Host::with("acknowledged", &[("web", text)]);
    host.up("web");
    for verb in ["stop", "start", "stop", "start"] {
        let answer = host.call(&format!("service.{verb}"), &json!({"name": "web"}));
        assert_eq!(answer["durable"], true, "{answer}");
        host.kill();
        // Not the journal of what is so: what operators want is in the state directory too.
        if verb == "stop" {
            fs::remove_file(host.dir.join("run/journal")).expect("remove the journal");
        }
        host.start();
        assert_eq!(host.status("web").wanted, verb);
        match verb {
            "start" => drop(host.up("web")),
            _ => drop(host.until("web", "inactive", |s| {
                s.state == "inactive" && s.pid.is_none()
            })),
        }
    }
}

/// Conformance 23a: a health restart is under way (SIGTERM sent), the daemon is killed and comes
/// back, the process dies of that SIGTERM: it is started again, one attempt spent.
#[test]
fn a_health_restart_under_way_is_finished_by_the_next_daemon() {
    let mut host = Host::new("under-way");
    let (ill, go) = (host.path("ill"), host.path("go"));
    // It ends only when it is let go, after SIGTERM.
    let script = format!(
        "trap \"while ! test -e {go}; do sleep 0.02; done; exit 0\" TERM; echo ready; \
         while :; do sleep 0.02; done"
    );
    let text = format!(
        "exec = ['sh', '-c', '{script}']\nstop_timeout_ms = 3600000\ndossier_timeout_ms = 0\n\
         [retry_policy]\ndelay_ms = 10\n[[probe]]\ntype = 'exec'\ntarget = ['test', '!', '-e', '{ill}']\n\
         interval_ms = 200\ntimeout_ms = 200\nfailure_threshold = 1\n"
    );
    host.define("web", &text);
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    host.line("web", "it has its trap", |line| line == "ready");
    fs::write(&ill, "").expect("write");
    host.until("web", "stopping", |s| s.state == "stopping");
    host.kill();
    fs::remove_file(&ill).expect("remove");
    fs::write(&go, "").expect("write");
    until("it dies of that SIGTERM", || !alive(pid));
    host.start();
    let status = host.up_again("web", 2);
    assert_eq!((status.run, status.attempts), (2, 1));
}

/// The same while it still lives: the stop goes on with what is left of its timeout.
#[test]
fn a_stop_under_way_is_finished_by_the_next_daemon() {
    let script = "trap \"\" TERM; echo deaf; while :; do sleep 1000; done";
    let text = format!("exec = ['sh', '-c', '{script}']\nstop_timeout_ms = 1000\n");
    let mut host = Host::with("stop-under-way", &[("web", &text)]);
    let pid = host.up("web").pid.expect("a pid");
    host.line("web", "it is deaf", |line| line == "deaf");
    host.call("service.restart", &json!({"name": "web"}));
    host.until("web", "stopping", |s| s.state == "stopping");
    host.kill();
    host.start();
    let status = host.up_again("web", 2);
    assert!(!alive(pid));
    // An operator's restart spends nothing.
    assert_eq!((status.run, status.attempts), (2, 0));
}

/// `backoff` goes on to its deadline, and the budget is not refilled.
#[test]
fn a_backoff_goes_on_in_the_next_daemon() {
    let text = "exec = ['false']\n[retry_policy]\ndelay_ms = 600000\njitter = 0\n";
    let mut host = Host::with("backoff-on", &[("web", text)]);
    let before = host.until("web", "in backoff", |s| s.state == "backoff");
    let left = before.next_in_ms.expect("a deadline");
    host.kill();
    host.start();
    let after = host.status("web");
    assert_eq!(kept(&after), kept(&before));
    assert!(after.next_in_ms.expect("a deadline") <= left, "{after:#?}");
    assert!(host.why("web").story.len() >= 3, "the story is kept");
}

/// `failed` stays so, and so does a hold.
#[test]
fn what_has_failed_and_a_hold_stay_so() {
    let text = "exec = ['false']\n[retry_policy]\nmax_attempts = 0\n";
    let held = "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 0\n";
    let mut host = Host::with("failed", &[("web", text), ("held", held)]);
    host.until("web", "failed", |s| s.state == "failed");
    let pid = host.up("held").pid.expect("a pid");
    host.call("system.hold", &json!({}));
    host.kill();
    host.start();
    assert_eq!(host.status("web").state, "failed");
    assert_eq!(host.daemon().hold.expect("a hold").owner, "root");
    send(pid, Signal::SIGKILL);
    let held = |s: &Status| s.state == "backoff" && s.detail.as_deref() == Some("held");
    host.until("held", "held", held);
    host.call("system.release", &json!({}));
    host.until("held", "up again", |s| s.run == 2 && is_up(s));
}
