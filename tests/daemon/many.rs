//! Many at once: requests, children, services, probes. None is lost, none is served twice, and
//! one that hangs costs only itself.

use super::client::Client;
use super::host::{Host, alive, binary, process, send, until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use vitald::engine::status::Status;

const SLEEPER: &str = "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 0\n";

/// The daemon inherits it: two descriptors a service are more than 1,024 for a thousand.
fn raise_descriptors() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16_384), hard).expect("setrlimit");
}

fn list(client: &mut Client) -> Vec<Status> {
    let list = client.call("service.list", &json!({})).expect("a list");
    serde_json::from_value(list).expect("statuses")
}

/// Looks at all services until this is so of each.
fn all(host: &Host, what: &str, so: impl Fn(&Status) -> bool) -> Vec<Status> {
    let mut client = host.client();
    let mut seen = Vec::new();
    until(what, || {
        seen = list(&mut client);
        seen.iter().all(&so)
    });
    seen
}

/// Conformance 28: 200 concurrent restarts: never two live processes, each request answered once.
/// The service itself looks whether another lives when it begins.
#[test]
fn two_hundred_concurrent_restarts_are_each_answered_once_and_never_run_two() {
    let mut host = Host::new("restarts");
    let (lock, overlaps, starts) = (
        host.path("lock"),
        host.path("overlaps"),
        host.path("starts"),
    );
    // A directory can be made once. Whoever ends by SIGTERM takes it away, and takes its time.
    let script = format!(
        "trap \"sleep 0.02; rmdir {lock}; exit 0\" TERM; mkdir {lock} || echo $$ >> {overlaps}; \
         echo $VITALD_RUN >> {starts}; while :; do sleep 0.01; done"
    );
    host.define("web", &format!("exec = ['sh', '-c', '{script}']\n"));
    host.start();
    until("the first began", || Path::new(&lock).exists());
    let mut clients: Vec<Client> = (0..20).map(|_| host.client()).collect();
    for turn in 0..10 {
        for (n, client) in clients.iter_mut().enumerate() {
            let wait = (n + turn) % 2 == 0;
            client.ask("service.restart", &json!({"name": "web", "wait": wait}));
        }
    }
    for client in &mut clients {
        let mut answered = BTreeSet::new();
        for _ in 0..10 {
            let (id, result) = client.answer().expect("an answer");
            assert!(answered.insert(id), "{id} answered twice");
            if let Err((code, message)) = result {
                panic!("{code} {message}");
            }
        }
        assert_eq!(answered, (1..=10).collect());
        // And no further one: the next answer is the next request's.
        client.call("system.ping", &json!({})).expect("pong");
    }
    let status = host.up("web");
    let begun = || fs::read_to_string(&starts).unwrap_or_default();
    let last = format!("web/{}", status.run);
    until("the last began", || {
        begun().lines().any(|line| line == last)
    });
    assert!(!Path::new(&overlaps).exists(), "two lived at once");
    let runs: BTreeSet<String> = begun().lines().map(str::to_owned).collect();
    assert_eq!(runs.len(), begun().lines().count(), "one run began twice");
    assert_eq!((status.attempts, status.wanted.as_str()), (0, "start"));
    assert!(status.run > 1 && alive(status.pid.expect("a pid")));
    let of_service = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let parent = process(*pid).map(|(_, parent)| parent);
        let mark = b"VITALD_RUN=web/";
        parent == Some(host.pid()) && environ.windows(mark.len()).any(|w| w == mark)
    };
    assert_eq!(
        host.processes()
            .iter()
            .filter(|pid| of_service(pid))
            .count(),
        1
    );
}

/// Issue, conformance 30: 1,000 services are started and listed; all their processes are killed at
/// once: all are reaped, all started again, none lost; then all are stopped.
#[test]
fn a_thousand_are_started_killed_at_once_started_again_and_stopped() {
    raise_descriptors();
    let count = 1000;
    let mut host = Host::new("thousand");
    let name = |n: usize| format!("s{n:04}");
    for n in 0..count {
        host.define(&name(n), SLEEPER);
    }
    host.start();
    let before = all(&host, "all run", |s| s.state == "running");
    assert_eq!(before.len(), count);
    let (code, out, _) = host.cli(&["list"]);
    assert_eq!((code, out.lines().count()), (0, count + 1));
    let pids: Vec<i32> = before.iter().map(|s| s.pid.expect("a pid")).collect();
    assert_eq!(pids.iter().collect::<BTreeSet<_>>().len(), count);
    // The daemon does not see them die one by one.
    send(host.pid(), Signal::SIGSTOP);
    for pid in &pids {
        send(*pid, Signal::SIGKILL);
    }
    for pid in &pids {
        until("it is dead", || !alive(*pid));
    }
    send(host.pid(), Signal::SIGCONT);
    let after = all(&host, "all run again", |s| {
        s.state == "running" && s.run == 2
    });
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.name, after.attempts), (&after.name, 1));
        let end = after.last_end.as_ref().expect("an end");
        assert_eq!(end.signal.as_deref(), Some("SIGKILL"), "{}", after.name);
    }
    let mine = |pid: &i32| process(*pid).is_some_and(|(_, parent)| parent == host.pid());
    assert_eq!(pids.iter().filter(|pid| mine(pid)).count(), 0, "zombies");
    // All are stopped by requests, as many at once as one client may have.
    let mut client = host.client();
    for names in (0..count).collect::<Vec<_>>().chunks(50) {
        for n in names {
            client.ask("service.stop", &json!({"name": name(*n), "wait": true}));
        }
        for _ in names {
            let (_, result) = client.answer().expect("an answer");
            assert_eq!(result.expect("stopped")["durable"], true);
        }
    }
    all(&host, "all are stopped", |s| {
        s.state == "inactive" && s.pid.is_none() && s.wanted == "stop"
    });
    assert_eq!(host.processes(), [0; 0]);
    // What was wanted is known to the next daemon, of each.
    host.kill();
    host.start();
    let stopped = list(&mut host.client());
    assert!(stopped.len() == count && stopped.iter().all(|s| s.wanted == "stop"));
}

/// Issue: many services, many probes, several hang at the same time: only those are restarted,
/// each once, and all are healthy in the end.
#[test]
fn of_a_hundred_only_those_that_hang_are_restarted() {
    let mut host = Host::new("hundred");
    // One more than the storm limit lets pass at once.
    let ill = [7, 23, 24, 25, 61, 99];
    let name = |n: usize| format!("s{n:02}");
    // A server costs a process of ours; most services share one that is well, and are told apart
    // by their own flag.
    let well = host.server("well");
    host.define(
        "well",
        &(well.exec()
            + &well
                .probe("interval_ms = 1000\n")
                .replacen("interval_ms = 150\n", "", 1)),
    );
    let dir = host.path("");
    let flag = |n: usize| format!("{dir}ill.{n}");
    for n in 0..100 {
        // Ill is one run: the next one is well.
        let check = format!("! test -e {}.$(cut -d/ -f2 {}.run)", flag(n), flag(n));
        let exec = format!("echo $VITALD_RUN > {}.run; exec sleep 1000", flag(n));
        let target = &well.target;
        host.define(
            &name(n),
            &format!(
                "exec = ['sh', '-c', '{exec}']\n[retry_policy]\ndelay_ms = 0\n\
                 [[probe]]\ntype = 'http'\ntarget = '{target}'\ninterval_ms = 1000\n\
                 timeout_ms = 1000\nstart_interval_ms = 250\nfailure_threshold = 5\n\
                 [[probe]]\ntype = 'exec'\ntarget = ['sh', '-c', '{check}']\ninterval_ms = 3000\n\
                 timeout_ms = 3000\nstart_interval_ms = 500\nfailure_threshold = 1\n"
            ),
        );
    }
    host.start();
    all(&host, "all are well", |s| {
        s.health.as_deref() == Some("healthy")
    });
    let before: BTreeMap<String, Status> = list(&mut host.client())
        .into_iter()
        .map(|s| (s.name.clone(), s))
        .collect();
    for n in ill {
        fs::write(format!("{}.1", flag(n)), "").expect("write");
    }
    for n in ill {
        let status = host.up_again(&name(n), 2);
        assert_eq!((status.run, status.attempts), (2, 1), "{}", status.name);
        assert_eq!(status.last_end.expect("an end").cause, "unhealthy");
    }
    for status in list(&mut host.client()) {
        let was = &before[&status.name];
        let hung = ill.iter().any(|n| name(*n) == status.name);
        assert_eq!(status.pid != was.pid, hung, "{}", status.name);
        assert_eq!(status.run, if hung { 2 } else { 1 }, "{}", status.name);
    }
}

/// Design §4: many clients at once, each with its own subscription; all see all, in order.
#[test]
fn two_hundred_subscribers_see_the_same_events_in_the_same_order() {
    let host = Host::with("subscribers", &[("web", SLEEPER), ("db", SLEEPER)]);
    host.up("web");
    host.up("db");
    let mut clients: Vec<Client> = (0..200).map(|_| host.events(&[])).collect();
    for _ in 0..3 {
        host.wait("restart", "web");
        host.wait("restart", "db");
    }
    host.wait("stop", "web");
    let story = |client: &mut Client| -> Vec<(u64, String, String)> {
        let mut seen = Vec::new();
        loop {
            let event = client.event("the stop's end", |_| true);
            let end = event.service == "web"
                && event.to == "inactive"
                && event.kind == "state"
                && seen
                    .iter()
                    .any(|(_, name, to): &(u64, String, String)| name == "web" && to == "stop");
            seen.push((event.seq, event.service, event.to));
            if end {
                return seen;
            }
        }
    };
    let first = story(&mut clients[0]);
    assert!(
        first.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "{first:?}"
    );
    for client in &mut clients[1..] {
        assert_eq!(story(client), first);
    }
}

/// A thousand definitions, broken ones among them, are read by `check` and by a reload alike, and
/// the loop answers while they are read.
#[test]
fn a_reload_of_many_is_read_beside_the_loop() {
    raise_descriptors();
    let mut host = Host::new("reload-many");
    host.define("web", SLEEPER);
    host.start();
    let pid = host.up("web").pid;
    let quiet = format!("{SLEEPER}\n").replace("exec", "autostart = false\nexec");
    for n in 0..1000 {
        host.define(&format!("s{n:04}"), &quiet);
    }
    let mut asking = host.client();
    let asked = asking.ask("system.reload", &json!({}));
    let mut other = host.client();
    other.call("system.ping", &json!({})).expect("pong");
    let (id, result): (u64, Result<Value, _>) = asking.answer().expect("an answer");
    assert_eq!(id, asked);
    result.expect("read");
    let listed = list(&mut other);
    assert_eq!(listed.len(), 1001);
    assert!(
        listed
            .iter()
            .all(|s| s.name == "web" || s.state == "inactive")
    );
    assert_eq!(host.status("web").pid, pid);
    let mut check = std::process::Command::new(binary());
    let checked = check
        .args(["check", "--config-dir", &host.path("config")])
        .output();
    assert!(checked.expect("run check").status.success());
}
