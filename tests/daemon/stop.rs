//! Stopping: a stop ends whatever the process does, takes the whole tree along, and is final
//! until an operator says otherwise, also when the daemon dies.

use super::host::{Host, alive, process, send, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use vitald::engine::status::Status;

/// A shell's words as a definition's `exec`.
fn sh(script: &str) -> String {
    format!("exec = ['sh', '-c', '''{script}''']\n")
}

fn pids(host: &Host, file: &str, count: usize) -> Vec<i32> {
    let path = host.path(file);
    let mut found = Vec::new();
    until(&format!("{count} processes wrote their pids"), || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        found = text.lines().filter_map(|line| line.parse().ok()).collect();
        found.len() == count && text.ends_with('\n')
    });
    found
}

fn end_signal(status: &Status) -> Option<&str> {
    status.last_end.as_ref()?.signal.as_deref()
}

/// End-to-end list: one that ignores SIGTERM gets SIGKILL at `stop_timeout_ms`. Conformance 26.
#[test]
fn who_ignores_sigterm_is_killed_when_its_time_is_up() {
    let text = sh("trap \"\" TERM; echo deaf; while :; do sleep 1000; done");
    let host = Host::with(
        "deaf",
        &[("deaf", &format!("{text}stop_timeout_ms = 300\n"))],
    );
    let pid = host.up("deaf").pid.expect("a pid");
    host.line("deaf", "it is deaf", |line| line == "deaf");
    let mut events = host.events(&["deaf"]);
    host.wait("stop", "deaf");
    let status = host.status("deaf");
    assert_eq!(
        (status.state.as_str(), status.wanted.as_str()),
        ("inactive", "stop")
    );
    assert_eq!(end_signal(&status), Some("SIGKILL"));
    assert_eq!(status.last_end.expect("an end").cause, "operator");
    assert!(!alive(pid) && host.processes().is_empty());
    events.event("stopping", |e| e.kind == "state" && e.to == "stopping");
    events.event("inactive", |e| e.kind == "state" && e.to == "inactive");
}

/// Conformance 26: SIGSTOPped, it ends on SIGTERM because it is continued.
#[test]
fn who_is_stopped_ends_by_sigterm() {
    let host = Host::with("frozen", &[("frozen", "exec = ['sleep', '1000']\n")]);
    let pid = host.up("frozen").pid.expect("a pid");
    host.call(
        "service.signal",
        &json!({"name": "frozen", "signal": "STOP"}),
    );
    until("it is stopped", || {
        process(pid).is_some_and(|(state, _)| state == 'T')
    });
    host.wait("stop", "frozen");
    assert_eq!(end_signal(&host.status("frozen")), Some("SIGTERM"));
}

/// A parent with children in its group, in a session of their own, and forked twice. Each run
/// writes their pids to `family.N`, and before that who of the run before is still there.
fn define_family(host: &Host) {
    let script = r#"
        run=${VITALD_RUN#*/}
        for pid in $(cat family.$((run - 1)) 2>/dev/null); do
            case $(cut -d' ' -f3 /proc/$pid/stat 2>/dev/null) in
                [A-Y]) echo $pid >> survivors ;;
            esac
        done
        export file=family.$run
        sleep 1000 &
        echo $! >> $file
        setsid sh -c 'echo $$ >> $file; exec sleep 1000' &
        (setsid sh -c 'sh -c "echo \$\$ >> $file; exec sleep 1000" &' &)
        echo $$ >> $file
        wait
    "#;
    fs::write(host.path("family.sh"), script).expect("write a script");
    let dir = host.path("");
    let text = format!(
        "exec = ['sh', 'family.sh']\nworking_dir = '{dir}'\n[retry_policy]\ndelay_ms = 0\n"
    );
    host.define("family", &text);
}

/// End-to-end list: one that forks children that must die with it: same group, setsid'd
/// grandchild, double fork; on a stop. Conformance 27.
#[test]
fn nothing_is_left_of_a_family_after_a_stop() {
    family_after_a_stop("family", "auto");
}

/// By session, group, environment and what came to us as orphans.
#[test]
fn nothing_is_left_of_a_family_after_a_stop_without_cgroups() {
    family_after_a_stop("family-off", "off");
}

fn family_after_a_stop(test: &str, cgroup: &str) {
    let mut host = Host::new(test);
    host.settings(&format!("cgroup = '{cgroup}'\n"));
    define_family(&host);
    host.start();
    let family = pids(&host, "family.1", 4);
    assert!(family.iter().all(|pid| alive(*pid)), "{family:?}");
    host.wait("stop", "family");
    let left: Vec<&i32> = family.iter().filter(|pid| alive(**pid)).collect();
    assert!(left.is_empty(), "{left:?} of {family:?}");
    assert!(host.processes().is_empty());
}

/// The same on a crash: a new run never starts before the old tree is gone.
#[test]
fn nothing_is_left_of_a_family_when_the_next_run_starts() {
    family_after_a_crash("crash", "auto");
}

#[test]
fn nothing_is_left_of_a_family_when_the_next_run_starts_without_cgroups() {
    family_after_a_crash("crash-off", "off");
}

fn family_after_a_crash(test: &str, cgroup: &str) {
    let mut host = Host::new(test);
    host.settings(&format!("cgroup = '{cgroup}'\n"));
    define_family(&host);
    host.start();
    let before = pids(&host, "family.1", 4);
    let main = host.up("family").pid.expect("a pid");
    send(main, Signal::SIGKILL);
    host.up_again("family", 2);
    let after = pids(&host, "family.2", 4);
    assert!(!fs::exists(host.path("survivors")).expect("look"));
    assert!(before.iter().all(|pid| !alive(*pid)));
    assert!(after.iter().all(|pid| alive(*pid)));
}

/// Design: `kill_mode = "process"` touches the main process only, as sshd needs.
#[test]
fn with_kill_mode_process_the_children_live_on() {
    let mut host = Host::new("kill-mode");
    define_family(&host);
    let file = host.path("config/services/family.toml");
    let text = fs::read_to_string(&file).expect("read");
    host.define("family", &format!("kill_mode = 'process'\n{text}"));
    host.start();
    let family = pids(&host, "family.1", 4);
    let main = host.up("family").pid.expect("a pid");
    host.wait("stop", "family");
    for pid in family {
        assert_eq!(alive(pid), pid != main, "{pid}, main process {main}");
    }
}

/// End-to-end list: stop by the operator during backoff; after that a kill -9 and a restart of the
/// daemon. Conformance 21.
#[test]
fn a_stop_during_backoff_is_final_also_for_the_next_daemon() {
    let text = "exec = ['false']\n[retry_policy]\ndelay_ms = 60000\n";
    let mut host = Host::with("backoff", &[("web", text)]);
    let status = host.until("web", "in backoff", |s| s.state == "backoff");
    assert_eq!(status.next.as_deref(), Some("start"));
    let answer = host.call("service.stop", &json!({"name": "web"}));
    assert_eq!(answer["durable"], true, "{answer}");
    let stopped = |status: &Status| {
        assert_eq!(
            (status.state.as_str(), status.wanted.as_str()),
            ("inactive", "stop")
        );
        assert_eq!(
            (status.run, status.pid, status.next.as_deref()),
            (1, None, None)
        );
    };
    stopped(&host.status("web"));
    host.kill();
    host.start();
    stopped(&host.status("web"));
    // What the next start would have been is not hidden somewhere: started by hand it is run 2.
    host.call("service.start", &json!({"name": "web"}));
    let status = host.until("web", "in backoff again", |s| s.state == "backoff");
    assert_eq!((status.run, status.attempts), (2, 1));
}

/// End-to-end list: stop by the operator during a health stop; after that a kill -9 and a restart
/// of the daemon. The process is deaf, so that the health stop lasts.
#[test]
fn a_stop_during_a_health_stop_is_final_also_for_the_next_daemon() {
    let mut host = Host::new("health-stop");
    let flag = host.path("ill");
    let text = sh("trap \"\" TERM; echo deaf; while :; do sleep 1000; done");
    let text = format!(
        "{text}stop_timeout_ms = 2000\n[[probe]]\ntype = 'exec'\ntarget = ['test', '!', '-e', \
         '{flag}']\ninterval_ms = 200\ntimeout_ms = 200\nfailure_threshold = 1\n"
    );
    host.define("web", &text);
    host.start();
    host.up("web");
    host.line("web", "it is deaf", |line| line == "deaf");
    fs::write(&flag, "").expect("write");
    let status = host.until("web", "stopping", |s| s.state == "stopping");
    assert_eq!(status.cause, "unhealthy");
    let answer = host.call("service.stop", &json!({"name": "web"}));
    assert_eq!(answer["durable"], true, "{answer}");
    host.kill();
    host.start();
    let status = host.until("web", "inactive", |s| s.state == "inactive");
    assert_eq!((status.run, status.wanted.as_str()), (1, "stop"));
    until("it is gone", || host.processes().is_empty());
    host.kill();
    host.start();
    let status = host.status("web");
    assert_eq!(
        (status.state.as_str(), status.run, status.pid),
        ("inactive", 1, None)
    );
}

/// A health stop may have a time of its own.
#[test]
fn a_health_stop_has_its_own_timeout() {
    let mut host = Host::new("health-timeout");
    let flag = host.path("ill");
    let text = sh("trap \"\" TERM; echo deaf; while :; do sleep 1000; done");
    let text = format!(
        "{text}stop_timeout_ms = 3600000\nhealth_stop_timeout_ms = 100\n[retry_policy]\n\
         delay_ms = 0\n[[probe]]\ntype = 'exec'\ntarget = ['test', '!', '-e', '{flag}']\n\
         interval_ms = 200\ntimeout_ms = 200\nfailure_threshold = 1\n"
    );
    host.define("web", &text);
    host.start();
    host.up("web");
    host.line("web", "it is deaf", |line| line == "deaf");
    fs::write(&flag, "").expect("write");
    let status = host.until("web", "started again", |s| s.run == 2);
    assert_eq!(end_signal(&status), Some("SIGKILL"));
}
