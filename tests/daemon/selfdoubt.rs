//! Self-doubt and observation, with real processes: a host that is short of processors, and restarts
//! that are only told. (A service that is so by its own doing: tests/scenario/starved_by_itself.txt.)
//!
//! What the host is short of is said by files that look as the kernel's (`VITALD_TEST_PRESSURE`), so
//! that these tests mean the same on any machine; one test reads the kernel's.

use super::host::{Host, is_up, send};
use nix::sys::signal::Signal;
use std::fs;
use std::time::Instant;
use vitald::engine::status::Status;

const QUICK: &str = "[retry_policy]\ndelay_ms = 0\nstability_period_ms = 1000\n";

/// A host that says that it is so short of processors, in percent.
fn pressed(test: &str, percent: u32) -> Host {
    let mut host = Host::new(test);
    let dir = host.path("pressure");
    fs::create_dir(&dir).expect("mkdir");
    host.set_env("VITALD_TEST_PRESSURE", &dir);
    press(&host, percent);
    host
}

fn press(host: &Host, percent: u32) {
    press_since(host, percent, Instant::now());
}

/// The same, and that somebody has waited for a processor ever since.
fn press_since(host: &Host, percent: u32, since: Instant) {
    let line = |share: u32, total: u128| {
        format!("avg10={share}.00 avg60=0.00 avg300=0.00 total={total}\n")
    };
    let waited = since.elapsed().as_micros();
    for (what, share, waited) in [("cpu", percent, waited), ("memory", 0, 0), ("io", 0, 0)] {
        let text = format!("some {}full {}", line(share, waited), line(0, 0));
        // As one: the daemon may read at any time.
        let path = host.path(&format!("pressure/{what}"));
        fs::write(format!("{path}.new"), text).expect("write");
        fs::rename(format!("{path}.new"), path).expect("rename");
    }
}

fn doubted(status: &Status) -> bool {
    status.probes[0].doubted > 0
}

/// A starved process: it lives and cannot answer. Nobody restarts it while the host is short; it
/// answers again when it is not.
#[test]
fn what_is_late_on_a_starved_host_is_not_restarted() {
    let mut host = pressed("doubt", 97);
    let server = host.server("web");
    host.define(
        "web",
        &format!("{}{QUICK}{}", server.exec(), server.probe("")),
    );
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    send(pid, Signal::SIGSTOP);
    let status = host.until("web", "it is doubted", doubted);
    assert_eq!((status.run, status.state.as_str()), (1, "running"));
    let status = host.until("web", "no verdict", |s| {
        s.health.as_deref() == Some("unknown")
    });
    let detail = status.detail.unwrap_or_default();
    assert!(
        detail.contains("the host is under pressure: cpu 97 %"),
        "{detail}"
    );
    let told = host.why("web").story;
    assert!(told.iter().any(|line| line.to == "in doubt"), "{told:#?}");
    let doubt = host.daemon().doubt.expect("it was counted");
    let pressure = doubt.counts.iter().find(|count| count.cause == "pressure");
    assert!(pressure.is_some_and(|count| count.count > 0), "{doubt:?}");
    let (_, info, _) = host.cli(&["info"]);
    assert!(
        info.contains("not counted: ") && info.contains(" pressure"),
        "{info}"
    );
    // Not by the daemon's death either.
    host.kill();
    host.start();
    host.until("web", "it is doubted still", doubted);
    send(pid, Signal::SIGCONT);
    let status = host.until("web", "it is well", is_up);
    assert_eq!((status.run, status.attempts), (1, 0));
}

/// Doubt is bounded: what never answers again is restarted although the host is short.
#[test]
fn doubt_has_an_end() {
    let mut host = pressed("doubt-end", 97);
    let server = host.server("web");
    host.define(
        "web",
        &format!("{}{QUICK}{}", server.exec(), server.probe("")),
    );
    host.start();
    send(host.up("web").pid.expect("a pid"), Signal::SIGSTOP);
    host.up_again("web", 2);
    let told = host.why("web").story;
    assert!(told.iter().any(|line| line.to == "counted"), "{told:#?}");
}

/// The kernel's averages rise slowly: what was stalled between two looks counts as well.
#[test]
fn a_host_that_has_just_become_short_is_known() {
    let mut host = pressed("doubt-early", 0);
    let server = host.server("web");
    let probe = server
        .probe("")
        .replacen("failure_threshold = 2", "failure_threshold = 4", 1);
    let keys = format!("{}{QUICK}{probe}", server.exec());
    host.define("web", &keys);
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    send(pid, Signal::SIGSTOP);
    let begun = Instant::now();
    // Every moment somebody waits for a processor, and the averages say nothing of it yet.
    let status = host.until("web", "it is doubted, or restarted", |s| {
        press_since(&host, 0, begun);
        doubted(s) || s.run > 1
    });
    assert_eq!((status.run, doubted(&status)), (1, true), "{status:#?}");
    send(pid, Signal::SIGCONT);
    assert_eq!(host.until("web", "it is well", is_up).run, 1);
}

/// The kernel's own account is read, wherever it has one.
#[test]
fn the_kernel_is_asked_when_something_is_late() {
    if fs::read("/proc/pressure/cpu").is_err() {
        eprintln!("skipped: this kernel has no account of stalls");
        return;
    }
    let mut host = Host::new("doubt-real");
    host.set_env("VITALD_TEST_PRESSURE", "/proc/pressure");
    let server = host.server("web");
    host.define(
        "web",
        &format!("{}{QUICK}{}", server.exec(), server.probe("")),
    );
    host.start();
    send(host.up("web").pid.expect("a pid"), Signal::SIGSTOP);
    // Doubted or not, by what the machine does just now: it is restarted, and well.
    host.up_again("web", 2);
}

/// `observe = true`: told, counted, not done; taken out of it by a reload, done at once.
#[test]
fn who_is_observed_is_only_told_of() {
    let mut host = Host::new("observe");
    let server = host.server("web");
    let text = |observe: bool| {
        let probe = server.probe("");
        format!("observe = {observe}\n{}{QUICK}{probe}", server.exec())
    };
    host.define("web", &text(true));
    host.start();
    send(host.up("web").pid.expect("a pid"), Signal::SIGSTOP);
    let status = host.until("web", "it is told", |s| s.shadow_attempts == 1);
    assert_eq!((status.run, status.attempts), (1, 0));
    let verdict = |s: &Status| s.gate.as_ref().map(|gate| gate.verdict.clone());
    assert_eq!(verdict(&status).as_deref(), Some("would restart"));
    let decisions = host.decisions("web");
    assert!(
        decisions.iter().any(|line| line.to == "would restart"),
        "{decisions:#?}"
    );
    host.kill();
    host.start();
    let status = host.until("web", "the gate was asked again", |s| s.gate.is_some());
    assert_eq!(
        (status.run, status.shadow_attempts),
        (1, 1),
        "the same trouble"
    );
    host.define("web", &text(false));
    let (code, _, err) = host.cli(&["reload"]);
    assert_eq!(code, 0, "{err}");
    let status = host.up_again("web", 2);
    assert_eq!((status.attempts, status.observe), (1, false));
}

/// A hold ends by itself, also when the daemon is killed meanwhile.
#[test]
fn a_hold_ends_at_its_time_over_the_daemons_death() {
    let mut host = Host::with("hold-ends", &[("web", "exec = ['sleep', '1000']\n")]);
    let pid = host.up("web").pid.expect("a pid");
    let (code, _, err) = host.cli(&["hold", "--for", "2s"]);
    assert_eq!(code, 0, "{err}");
    host.kill();
    host.start();
    send(pid, Signal::SIGKILL);
    host.until("web", "it was held, and started when that was over", |s| {
        s.run == 2
    });
    assert!(host.daemon().hold.is_none());
}

/// `check` asks the daemon how long starts took.
#[test]
fn check_knows_how_long_a_start_took() {
    let mut host = Host::new("measured");
    let text = "exec = ['sh', '-c', 'sleep 1; touch \"$0\"; exec sleep 1000', 'FILE']\n\
                start_timeout_ms = 60000\n[retry_policy]\nstability_period_ms = 700\n[[probe]]\n\
                type = 'exec'\ntarget = ['test', '-e', 'FILE']\ninterval_ms = 1000\ntimeout_ms = 500\n\
                failure_threshold = 1\nstart_interval_ms = 100\n";
    host.define("web", &text.replace("FILE", &host.path("ready")));
    host.start();
    let status = host.up("web");
    assert!(
        status.ready_after_ms.is_some_and(|ms| ms >= 1000),
        "{status:#?}"
    );
    let dir = host.path("config");
    let (code, out, err) = host.cli(&["check", "--config-dir", &dir]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("services/web.toml:4:") && out.contains("is over before it is ready"),
        "{out}{err}"
    );
}
