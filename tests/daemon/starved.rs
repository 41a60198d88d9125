//! Self-doubt proven on the real thing: a daemon that is stopped for a minute, and a service that gets
//! no processor because others have it.

use super::host::{Host, is_up, root, send};
use super::speaker;
use nix::sys::signal::Signal;
use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vitald::engine::status::Status;
use vitald::reactor::cgroup;

const QUICK: &str = "[retry_policy]\ndelay_ms = 0\nstability_period_ms = 1000\n";
const PACE: &str = "interval_ms = 500\ntimeout_ms = 500\nfailure_threshold = 2\n";

/// Issue 5, item 6: the daemon stopped for a minute, then continued: not one service is restarted, be it
/// asked by probes, by its watchdog, or on its way to be ready.
#[test]
fn a_daemon_that_was_stopped_for_a_minute_restarts_nobody() {
    let mut host = Host::new("minute");
    let asked = ["a", "b", "c", "d"];
    for name in asked {
        let server = host.server(name);
        let probe = format!(
            "[[probe]]\ntype = 'http'\ntarget = '{}'\n{PACE}",
            server.target
        );
        host.define(name, &format!("{}{QUICK}{probe}", server.exec()));
    }
    host.define(
        "command",
        &format!(
            "exec = ['sleep', '1000']\n{QUICK}[[probe]]\ntype = 'exec'\ntarget = ['true']\n\
             {PACE}"
        ),
    );
    let fed = "ready = 'notify'\nwatchdog_ms = 3000\nstart_timeout_ms = 60000\n";
    host.define("fed", &format!("{fed}{}", speaker::exec(&host)));
    let ready = host.path("ready");
    host.define(
        "begins",
        &format!(
            "exec = ['sleep', '1000']\nstart_timeout_ms = 20000\n{QUICK}[[probe]]\ntype = 'exec'\n\
             target = ['test', '-e', '{ready}']\n{PACE}"
        ),
    );
    host.start();
    for name in asked {
        host.up(name);
    }
    host.up("command");
    speaker::tell(&host, "fed.1.main", "feed");
    speaker::tell(&host, "fed.1.main", "say READY=1");
    host.up("fed");
    host.until("begins", "asked", |s| s.probes[0].outcome.is_some());
    // The time that passes is what this test is about.
    send(host.pid(), Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(60));
    send(host.pid(), Signal::SIGCONT);
    let unharmed = |name: &str, status: &Status| {
        assert_eq!(
            (status.run, status.attempts),
            (1, 0),
            "{name}: {:#?}",
            host.why(name).story
        );
    };
    for name in asked.iter().chain(&["command"]) {
        let passed = |s: &Status| is_up(s) && s.probes[0].streak >= 3;
        unharmed(name, &host.until(name, "asked thrice since", passed));
    }
    fs::write(&ready, "").expect("write");
    unharmed("begins", &host.up("begins"));
    unharmed("fed", &host.up("fed"));
    assert!(host.daemon().late_turns > 0);
}

/// Who has a processor, and wants nothing else; ended when it is dropped.
struct Burner(Child);

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In a session of its own: the kernel shares processors out by sessions first (sched(7), autogroups).
fn burner(processor: &str) -> Burner {
    let burns = [
        "taskset",
        "-c",
        processor,
        "sh",
        "-c",
        "while :; do :; done",
    ];
    let child = Command::new("setsid")
        .args(burns)
        .stdin(Stdio::null())
        .spawn()
        .expect("taskset");
    Burner(child)
}

/// The processors that we may run on.
fn processors() -> Vec<u32> {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = list.expect("a list of processors").trim().split(',');
    let number = |text: &str| text.parse::<u32>().expect("a number");
    ranges
        .flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            number(first)..=number(last)
        })
        .collect()
}

/// Lets a process, with all its threads, run on these processors; the least of all, or as it was.
fn schedule(host: &Host, pid: i32, processors: &str, least: bool) {
    let at = pid.to_string();
    let policy = if least { "--idle" } else { "--other" };
    let chrt = ["chrt", "--all-tasks", policy, "--pid", "0", &at];
    let taskset = [
        "taskset",
        "--all-tasks",
        "--cpu-list",
        "--pid",
        processors,
        &at,
    ];
    for words in [&chrt[..], &taskset] {
        let out = Command::new(words[0]).args(&words[1..]).output();
        let out = out.expect(words[0]);
        assert!(out.status.success(), "{words:?}: {out:?}");
    }
    // Whichever of the two the kernel shares processors out by; it may be neither.
    let (nice, weight) = if least { ("19", "1") } else { ("0", "100") };
    let _ = fs::write(format!("/proc/{pid}/autogroup"), nice);
    if let Ok(dir) = cgroup::dir_for(&host.dir.join("run")) {
        let _ = fs::OpenOptions::new()
            .write(true)
            .open(dir.join("web/cpu.weight"))
            .and_then(|mut file| file.write_all(weight.as_bytes()));
    }
}

/// A service that is well and gets no processor, on one that others burn: its answers are late, the
/// kernel tells why, and it is not restarted. When it gets one it answers, the same process.
#[test]
fn who_gets_no_processor_is_doubted_and_not_restarted() {
    if !root() {
        return;
    }
    if fs::read("/proc/pressure/cpu").is_err() {
        let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
        assert!(!required, "no account of stalls, and VITALD_TEST_REQUIRE=1");
        eprintln!("skipped: this kernel has no account of stalls");
        return;
    }
    let mut host = Host::new("starving");
    host.set_env("VITALD_TEST_PRESSURE", "/proc/pressure");
    let server = host.server("web");
    let (keys, target) = (server.exec(), &server.target);
    host.define(
        "web",
        &format!(
            "{keys}{QUICK}[[probe]]\ntype = 'http'\ntarget = '{target}'\ninterval_ms = 200\n\
             timeout_ms = 20\nfailure_threshold = 10\n"
        ),
    );
    host.start();
    let pid = host.up("web").pid.expect("a process");
    let all = processors();
    let words = |some: &[u32]| {
        let some: Vec<String> = some.iter().map(u32::to_string).collect();
        some.join(",")
    };
    // Somebody waits for each of them; for one, several do.
    let one = words(&all[..1]);
    let everywhere = [&all[..], &all, &[all[0]; 4]].concat();
    let burners = everywhere.iter().map(|at| burner(&at.to_string()));
    let burners: Vec<Burner> = burners.collect();
    schedule(&host, pid, &one, true);
    let pressed = |host: &Host| {
        let doubt = host.daemon().doubt;
        let mut counts = doubt.iter().flat_map(|doubt| &doubt.counts);
        counts.any(|count| count.cause == "pressure")
    };
    let doubted = host.until("web", "doubted", |s| {
        (s.probes[0].doubted > 0 && pressed(&host)) || s.run > 1
    });
    drop(burners);
    schedule(&host, pid, &words(&all), false);
    let told = host.why("web").story;
    assert_eq!((doubted.run, doubted.attempts), (1, 0), "{told:#?}");
    let passes = |s: &Status| is_up(s) && s.probes[0].outcome.as_deref() == Some("pass");
    let after = host.until("web", "well", passes);
    assert_eq!((after.run, after.pid), (1, Some(pid)));
    let (_, info, _) = host.cli(&["info"]);
    assert!(info.contains("the host is under pressure: cpu"), "{info}");
}
