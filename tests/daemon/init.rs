//! PID 1 of a container, in its light form: a pid namespace that unshare(1) makes. The host's form
//! is `tests/boot.rs`.

use super::client::Client;
use super::host::{Host, alive, binary, process, root, send, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use vitald::engine::status::DaemonStatus;

/// A daemon that is the first process of its namespace, and who waits for it.
pub struct Container {
    pub host: Host,
    unshare: Child,
    /// The daemon's number outside.
    init: i32,
}

/// Whether this host lets us make pid namespaces.
pub fn possible() -> bool {
    if !root() {
        return false;
    }
    let mut probe = Command::new("unshare");
    probe.args(["--pid", "--fork", "--mount-proc", "true"]);
    let made = probe
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if !made {
        let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
        assert!(!required, "unshare --pid fails, and VITALD_TEST_REQUIRE=1");
        eprintln!("skipped: unshare --pid fails");
    }
    made
}

fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().flat_map(str::parse).collect()
}

impl Container {
    /// With these arguments besides the directories.
    pub fn start(host: Host, more: &[&str]) -> Container {
        let (unshare, init) = Container::launch(&host, more);
        let container = Container {
            host,
            unshare,
            init,
        };
        until("it answers", || container.call("system.ping").is_some());
        container
    }

    /// All of it ends at once, as a host does when it is reset, and begins anew.
    pub fn reset(&mut self) {
        self.unshare.kill().expect("kill");
        self.again();
    }

    /// It has ended, and begins anew.
    pub fn again(&mut self) {
        self.unshare.wait().expect("wait");
        until("nobody is left", || !alive(self.init));
        (self.unshare, self.init) = Container::launch(&self.host, &[]);
        until("it answers", || self.call("system.ping").is_some());
    }

    fn launch(host: &Host, more: &[&str]) -> (Child, i32) {
        let log = fs::File::create(host.path("daemon.log")).expect("a log");
        let inner = host.command();
        let mut outer = Command::new("unshare");
        outer.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        outer
            .arg(inner.get_program())
            .args(inner.get_args())
            .args(more);
        outer
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"));
        let mut unshare = outer.stderr(log).spawn().expect("unshare");
        let mut init = None;
        until("the daemon is there", || {
            assert_eq!(unshare.try_wait().expect("wait"), None, "{}", host.said());
            init = children(unshare.id() as i32).first().copied();
            init.is_some()
        });
        (unshare, init.expect("found"))
    }

    pub fn call(&self, method: &str) -> Option<serde_json::Value> {
        let mut client = Client::connect(&self.host.socket()).ok()?;
        client.ask(method, &json!({}));
        client.answer()?.1.ok()
    }

    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the container ends", || {
            status = self.unshare.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("ended")
    }

    /// As outside: everything below the daemon.
    fn processes(&self) -> Vec<i32> {
        let mut found = vec![self.init];
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            found.extend(children(pid));
            at += 1;
        }
        found
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It takes the daemon along (--kill-child), and that all the rest.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        until("nobody is left", || !alive(self.init));
    }
}

/// A shell line as `exec`, its quotes those of TOML.
fn shell(line: &str) -> String {
    format!("exec = ['sh', '-c', '''{line}''']\n")
}

/// Orphans come to PID 1 and are reaped by it, also those of nobody's: nothing stays a zombie, and
/// nothing is left when it ends. What `info` says of it.
#[test]
fn the_first_process_of_a_container_reaps_orphans_and_leaves_nothing() {
    if !possible() {
        return;
    }
    let host = Host::new("reaps");
    let (go, lives) = (host.path("go"), host.path("lives"));
    host.define(
        "forks",
        // A grandchild in a session of its own that ends when it is told, and one that does not.
        &(shell(&format!(
            "(setsid sh -c 'while ! test -e {go}; do sleep 0.02; done' &)
             (setsid sh -c 'trap \"\" TERM; echo > {lives}; while :; do sleep 1; done' &)
             exec sleep 1000"
        )) + "stop_timeout_ms = 500\n"),
    );
    host.define("plain", "exec = ['sleep', '1000']\n");
    let mut container = Container::start(host, &[]);
    container.host.up("forks");
    container.host.up("plain");
    until("the stubborn one is deaf", || {
        fs::exists(&lives).unwrap_or(false)
    });
    let status = container.call("system.status").expect("a status");
    let status: DaemonStatus = serde_json::from_value(status).expect("a status");
    assert_eq!(
        (status.pid, status.init.as_deref()),
        (1, Some("PID 1 of a container"))
    );
    let shown = container.host.cli(&["info"]).1;
    assert!(shown.contains("PID 1 of a container"), "{shown}");
    let orphans = |container: &Container| {
        let below = children(container.init);
        let shells = below.iter().filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"sh\0-c\0")
        });
        shells.count()
    };
    until("both orphans are PID 1's", || orphans(&container) == 2);
    fs::write(&go, "").expect("write");
    until("the one that ended is reaped", || orphans(&container) == 1);
    until("there are no zombies", || {
        let all = container.processes();
        all.iter()
            .all(|pid| process(*pid).is_none_or(|(state, _)| state != 'Z'))
    });
    let all = container.processes();
    send(container.init, Signal::SIGTERM);
    assert_eq!(
        container.ended().code(),
        Some(0),
        "{}",
        container.host.said()
    );
    until("nothing is left", || all.iter().all(|pid| !alive(*pid)));
}

/// What is no service's is asked to end before it is killed.
#[test]
fn strangers_in_a_container_are_asked_to_end_before_they_are_killed() {
    if !possible() {
        return;
    }
    let mut container = Container::start(Host::new("strangers"), &[]);
    let (ready, asked) = (container.host.path("ready"), container.host.path("asked"));
    let line =
        format!("trap 'echo > {asked}; exit 0' TERM; echo > {ready}; while :; do sleep 0.02; done");
    let init = container.init.to_string();
    let mut enter = Command::new("nsenter");
    enter.args(["--target", &init, "--pid", "sh", "-c", &line]);
    let mut stranger = enter.spawn().expect("nsenter");
    until("it is there", || fs::exists(&ready).unwrap_or(false));
    send(container.init, Signal::SIGTERM);
    assert_eq!(container.ended().code(), Some(0));
    assert!(
        fs::exists(&asked).unwrap_or(false),
        "{}",
        container.host.said()
    );
    assert!(stranger.wait().expect("wait").success());
}

/// Each signal that an init knows ends a container in order, dependents first.
#[test]
fn signals_end_a_container_in_order() {
    if !possible() {
        return;
    }
    // SIGUSR2 is a test's panic elsewhere only (VITALD_TEST_PANIC).
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGPWR,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
    ] {
        let host = Host::new(&format!("ends-by-{signal}"));
        let order = host.path("order");
        let service = |name: &str| {
            shell(&format!(
                "trap 'echo {name} >> {order}; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
            ))
        };
        host.define("db", &service("db"));
        host.define("web", &format!("{}requires = ['db']\n", service("web")));
        let mut container = Container::start(host, &[]);
        for name in ["db", "web"] {
            container
                .host
                .line(name, "its trap is set", |line| line == "ready");
        }
        send(container.init, signal);
        assert_eq!(
            container.ended().code(),
            Some(0),
            "{}",
            container.host.said()
        );
        let order = fs::read_to_string(&order).expect("an order");
        assert_eq!(order, "web\ndb\n", "{signal}");
    }
}

/// As tini does it: the exit code of whom the container is for, or 128 and the signal; the others
/// are stopped first. A crash that is followed by a restart is no end.
#[test]
fn a_container_ends_with_its_main_service_and_its_exit_code() {
    if !possible() {
        return;
    }
    let side = "exec = ['sleep', '1000']\n";
    for (name, end, code) in [
        ("exit", "exit 7", Some(7)),
        ("well", "exit 0", Some(0)),
        ("dies", "kill -SEGV $$", Some(128 + 11)),
    ] {
        let host = Host::new(&format!("main-{name}"));
        let (first, second) = (host.path("first"), host.path("go"));
        // The first run crashes and is started again; the second waits until it is told to end.
        host.define(
            "job",
            &format!(
                "{}restart = 'on-failure'\n[retry_policy]\nmax_attempts = 1\ndelay_ms = 0\n",
                shell(&format!(
                    "test -e {first} || {{ echo > {first}; exit 3; }}
                     while ! test -e {second}; do sleep 0.02; done; {end}"
                ))
            ),
        );
        host.define("side", side);
        let mut container = Container::start(host, &["--main", "job"]);
        container.host.up_again("job", 2);
        let side = container.host.up("side").pid;
        assert!(side.is_some());
        fs::write(&second, "").expect("write");
        assert_eq!(container.ended().code(), code, "{}", container.host.said());
    }
    // Asked to end, it tells how the main service ended: by the stop signal.
    let host = Host::new("main-asked");
    host.define("web", "exec = ['sleep', '1000']\n");
    fs::write(host.path("config/vitald.toml"), "main = 'web'\n").expect("write");
    let mut container = Container::start(host, &[]);
    container.host.up("web");
    send(container.init, Signal::SIGTERM);
    assert_eq!(container.ended().code(), Some(128 + 15));
}

/// Also where it is no PID 1.
#[test]
fn a_main_service_that_cannot_be_ends_the_daemon_with_an_error() {
    let mut host = Host::new("main-missing");
    let missing = |host: &Host, name: &str| {
        let output = host.command().args(["--main", name]).output().expect("run");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status, said)
    };
    let (status, said) = missing(&host, "web");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("the main service web is not defined: write "),
        "{said}"
    );
    host.define("web", "exec = ['/no/such/program']\n");
    let (status, said) = missing(&host, "web");
    assert_eq!((status.code(), status.signal()), (Some(1), None), "{said}");
    // A key that is no name is refused, and the daemon runs as if it were not there.
    fs::write(host.path("config/vitald.toml"), "main = 'a/b'\n").expect("write");
    host.start();
    until("it says so", || host.said().contains("`main`: "));
}

/// Who is not PID 1 of a host ends no machine, and PID 1 of a container leaves nobody behind.
#[test]
fn a_machine_is_ended_by_its_first_process_only() {
    let mut host = Host::new("no-init");
    host.start();
    for verb in ["poweroff", "reboot", "halt"] {
        let (code, message) = host.refused(&format!("system.{verb}"), &json!({}));
        assert_eq!(code, -32602, "{message}");
        assert!(message.starts_with("the daemon is not PID 1"), "{message}");
        let (code, _, said) = host.cli(&[verb]);
        assert_eq!(code, 1);
        assert!(
            said.contains("`vitald shutdown` ends only the daemon"),
            "{said}"
        );
    }
    let status = host.daemon();
    assert_eq!((status.init, status.shutting_down), (None, false));
    drop(host);
    if !possible() {
        return;
    }
    let mut container = Container::start(Host::new("no-host"), &[]);
    for verb in ["poweroff", "reboot", "halt"] {
        let (_, message) = container
            .host
            .refused(&format!("system.{verb}"), &json!({}));
        assert!(
            message.starts_with("the daemon is PID 1 of a container"),
            "{message}"
        );
    }
    let (_, message) = container
        .host
        .refused("system.shutdown", &json!({"keep": true}));
    assert!(message.contains("without --keep"), "{message}");
    container.host.call("system.shutdown", &json!({}));
    assert_eq!(container.ended().code(), Some(0));
}

/// PID 1 is executed anew by `upgrade` and by a panic, and is what it was.
#[test]
fn the_first_process_of_a_container_is_executed_anew_in_place() {
    if !possible() {
        return;
    }
    let host = Host::new("init-upgrade");
    host.define("web", "exec = ['sleep', '1000']\n");
    let mut container = Container::start(host, &["--main", "web"]);
    let before = container.host.up("web");
    let program = binary().canonicalize().expect("the binary");
    let program = program.to_str().expect("UTF-8");
    container
        .host
        .call("system.upgrade", &json!({"program": program}));
    until("the next execution answers", || {
        let status = container.call("system.status");
        status.is_some_and(|status| status["began"].is_string() && status["pid"] == 1)
    });
    let status = container.call("system.status").expect("a status");
    assert_eq!(status["init"], "PID 1 of a container");
    let after = container.host.up("web");
    assert_eq!((after.pid, after.run), (before.pid, before.run));
    container.host.call(
        "service.signal",
        &json!({"name": "web", "signal": "SIGTERM"}),
    );
    // It is restarted within its budget: that was no end.
    container.host.up_again("web", before.run + 1);
    send(container.init, Signal::SIGTERM);
    assert_eq!(container.ended().code(), Some(128 + 15));
}
