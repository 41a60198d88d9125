//! The daemon's end: everything stopped in order or left running, whatever is under way; what is
//! wanted is kept, and the next daemon goes on with it.

use super::host::{Host, alive, send, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::path::Path;

/// Writes its name to `file` when it has ended, and takes its time for that.
fn slow_to_end(name: &str, file: &str) -> String {
    format!(
        "exec = ['sh', '-c', '''trap \"sleep 0.1; echo {name} >> {file}; exit 0\" TERM; \
         echo ready; while :; do sleep 0.02; done''']\n"
    )
}

fn deaf() -> String {
    "exec = ['sh', '-c', '''trap \"\" TERM; echo deaf; exec sleep 1000''']\n".to_owned()
}

/// Gone without a trace, but for what the next daemon needs.
fn is_gone(host: &mut Host) {
    assert_eq!(host.ended().code(), Some(0), "{}", host.said());
    assert_eq!(host.processes(), [0; 0]);
    assert!(!Path::new(&host.path("run/control.sock")).exists());
}

/// Three that need each other in a row, and when they ended.
fn chain(test: &str) -> (Host, String) {
    let mut host = Host::new(test);
    let order = host.path("order");
    host.define("db", &slow_to_end("db", &order));
    let requires = |name: &str, on: &str| {
        let text = slow_to_end(name, &order);
        host.define(name, &format!("requires = ['{on}']\n{text}"));
    };
    requires("api", "db");
    requires("web", "api");
    host.define("off", "exec = ['sleep', '1000']\n");
    host.start();
    for name in ["db", "api", "web"] {
        host.up(name);
        host.line(name, "it has its trap", |line| line == "ready");
    }
    host.wait("stop", "off");
    (host, order)
}

fn ended_in_order(order: &str) {
    let ended = fs::read_to_string(order).expect("what ended");
    assert_eq!(ended, "web\napi\ndb\n");
}

/// Issue: ordered stop, dependents first; `wanted` kept, exit 0; the next daemon brings up what is
/// wanted, with a whole budget, and nothing else.
#[test]
fn all_are_stopped_in_reverse_order_and_the_next_daemon_brings_them_back() {
    let (mut host, order) = chain("ordered");
    let mut waiting = host.client();
    let id = waiting.ask("system.shutdown", &json!({"wait": true}));
    is_gone(&mut host);
    ended_in_order(&order);
    let (answered, result) = waiting.answer().expect("answered before the end");
    assert!(answered == id && result.is_ok(), "{result:?}");
    assert!(waiting.answer().is_none(), "and then it closes");
    host.start();
    for name in ["db", "api", "web"] {
        let status = host.up_again(name, 2);
        assert_eq!((status.wanted.as_str(), status.attempts), ("start", 0));
    }
    let off = host.status("off");
    assert_eq!(
        (off.wanted.as_str(), off.state.as_str(), off.pid),
        ("stop", "inactive", None)
    );
}

/// Design §2.4: SIGTERM to the daemon is `shutdown`, and so is SIGINT.
#[test]
fn sigterm_and_sigint_are_a_shutdown() {
    let (mut host, order) = chain("sigterm");
    send(host.pid(), Signal::SIGTERM);
    is_gone(&mut host);
    ended_in_order(&order);
    host.start();
    host.up("web");
    assert_eq!(host.status("off").wanted, "stop");
    send(host.pid(), Signal::SIGINT);
    is_gone(&mut host);
}

/// The command line waits for the end, its services' and its own: a script may start the next
/// daemon at once, again and again.
#[test]
fn the_command_line_waits_for_the_daemon_s_end() {
    let mut host = Host::with("cli-shutdown", &[("web", "exec = ['sleep', '1000']\n")]);
    for arguments in [
        &["shutdown", "--wait"][..],
        &["shutdown", "--keep", "--wait"],
    ]
    .repeat(3)
    {
        let pid = host.up("web").pid.expect("a pid");
        let daemon = host.pid();
        let (code, _, err) = host.cli(arguments);
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(alive(pid), arguments.contains(&"--keep"));
        assert!(!alive(daemon), "gone when it answers");
        assert_eq!(host.ended().code(), Some(0));
        host.start();
    }
    host.call("system.shutdown", &json!({}));
    is_gone(&mut host);
    let (code, _, err) = host.cli(&["status"]);
    assert_eq!(code, 3);
    assert!(err.contains("no daemon"), "{err}");
}

/// Design §2.4: `shutdown --keep` leaves the services running; the next daemon adopts them, and
/// what an adopted one wrote meanwhile is not lost.
#[test]
fn keep_leaves_the_services_running_and_the_next_daemon_adopts_them() {
    let mut host = Host::new("keep");
    let go = host.path("go");
    let script = format!(
        "echo first; while ! test -e {go}; do sleep 0.02; done; echo second; exec sleep 1000"
    );
    host.define("web", &format!("exec = ['sh', '-c', '{script}']\n"));
    host.define("off", "exec = ['sleep', '1000']\n");
    host.define(
        "ill",
        "exec = ['false']\n[retry_policy]\ndelay_ms = 600000\n",
    );
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    host.line("web", "it began", |line| line == "first");
    host.wait("stop", "off");
    host.until("ill", "in backoff", |s| s.state == "backoff");
    let (code, _, err) = host.cli(&["shutdown", "--keep"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(host.ended().code(), Some(0));
    assert!(alive(pid));
    fs::write(&go, "").expect("write");
    host.start();
    let status = host.up("web");
    assert_eq!((status.pid, status.run, status.attempts), (Some(pid), 1, 0));
    host.line("web", "what it wrote meanwhile", |line| line == "second");
    assert_eq!(host.status("off").state, "inactive");
    let ill = host.status("ill");
    assert_eq!(
        (ill.state.as_str(), ill.run, ill.attempts),
        ("backoff", 1, 1)
    );
    host.call("system.shutdown", &json!({}));
    is_gone(&mut host);
}

/// Promise: a stop ends. One that ignores SIGTERM does not hang a shutdown; nor one that is
/// stopped, nor one whose child ignores it.
#[test]
fn who_ignores_sigterm_does_not_hang_a_shutdown() {
    let mut host = Host::new("deaf-shutdown");
    let time = "stop_timeout_ms = 300\n";
    host.define("deaf", &format!("{}{time}", deaf()));
    let parent = "exec = ['sh', '-c', '''(trap \"\" TERM; echo deaf; exec sleep 1000) & \
                  exec sleep 1000''']\n";
    host.define("parent", &format!("{parent}{time}"));
    host.define("frozen", "exec = ['sleep', '1000']\n");
    host.start();
    for name in ["deaf", "parent"] {
        host.line(name, "it is deaf", |line| line == "deaf");
    }
    send(host.up("frozen").pid.expect("a pid"), Signal::SIGSTOP);
    host.call("system.shutdown", &json!({}));
    is_gone(&mut host);
}

/// A shutdown while services wait: in backoff, blocked, held, in a oneshot that never ends.
#[test]
fn a_shutdown_while_services_wait_is_not_waited_for_and_forgets_nothing() {
    let mut host = Host::new("waiting-shutdown");
    host.define(
        "ill",
        "exec = ['false']\n[retry_policy]\ndelay_ms = 600000\n",
    );
    host.define("once", "kind = 'oneshot'\nexec = ['sleep', '1000']\n");
    host.define("needs", "exec = ['sleep', '1000']\nrequires = ['once']\n");
    host.start();
    host.until("ill", "in backoff", |s| s.state == "backoff");
    host.until("once", "starting", |s| s.state == "starting");
    host.until("needs", "blocked", |s| s.state == "blocked");
    host.call("system.shutdown", &json!({}));
    is_gone(&mut host);
    host.start();
    // All three are wanted as before; the one in backoff is tried afresh.
    let status = host.until("ill", "in backoff again", |s| s.state == "backoff");
    assert_eq!((status.wanted.as_str(), status.run), ("start", 2));
    host.until("once", "starting again", |s| s.state == "starting");
    host.until("needs", "blocked again", |s| s.state == "blocked");
}

/// A shutdown while a health stop is under way: the process ends by the one stop, is not started
/// again by this daemon, and is by the next.
#[test]
fn a_shutdown_during_a_health_stop_starts_nothing_again() {
    let mut host = Host::new("health-shutdown");
    let flag = host.path("ill");
    let text = format!(
        "{}stop_timeout_ms = 1000\n[retry_policy]\ndelay_ms = 0\n[[probe]]\ntype = 'exec'\n\
         target = ['test', '!', '-e', '{flag}']\ninterval_ms = 200\ntimeout_ms = 200\n\
         failure_threshold = 1\n",
        deaf()
    );
    host.define("web", &text);
    host.start();
    host.up("web");
    host.line("web", "it is deaf", |line| line == "deaf");
    fs::write(&flag, "").expect("write");
    let status = host.until("web", "stopping", |s| s.state == "stopping");
    assert_eq!(status.cause, "unhealthy");
    host.call("system.shutdown", &json!({}));
    is_gone(&mut host);
    fs::remove_file(&flag).expect("remove");
    host.start();
    let status = host.up_again("web", 2);
    assert_eq!((status.run, status.wanted.as_str()), (2, "start"));
}

/// While it shuts down, the daemon still answers; who asks for a start is told why not, a second
/// shutdown is no error, and nothing that ends is started again.
#[test]
fn during_a_shutdown_questions_are_answered_and_starts_refused() {
    let mut host = Host::new("during");
    host.define("deaf", &format!("{}stop_timeout_ms = 3600000\n", deaf()));
    host.define(
        "web",
        "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 0\n",
    );
    host.start();
    host.line("deaf", "it is deaf", |line| line == "deaf");
    host.up("web");
    host.call("system.shutdown", &json!({}));
    assert!(host.daemon().shutting_down);
    let (code, message) = host.refused("service.start", &json!({"name": "web"}));
    assert_eq!(code, -32006, "{message}");
    let (code, _) = host.refused("service.restart", &json!({"name": "deaf"}));
    assert_eq!(code, -32006);
    host.call("system.shutdown", &json!({}));
    let web = host.until("web", "stopped", |s| s.pid.is_none());
    assert_eq!((web.state.as_str(), web.run), ("inactive", 1));
    let pid = host.status("deaf").pid.expect("a pid");
    send(pid, Signal::SIGKILL);
    is_gone(&mut host);
}

/// A daemon killed in the middle of a shutdown: what it was told last was to end, but the next one
/// was started, so what is wanted runs.
#[test]
fn killed_during_a_shutdown_the_next_daemon_brings_up_what_is_wanted() {
    let mut host = Host::new("killed-shutdown");
    host.define("deaf", &format!("{}stop_timeout_ms = 1000\n", deaf()));
    host.define("web", "exec = ['sleep', '1000']\n");
    host.start();
    host.line("deaf", "it is deaf", |line| line == "deaf");
    host.up("web");
    host.call("system.shutdown", &json!({}));
    host.until("web", "stopped", |s| s.state == "inactive");
    let pid = host.status("deaf").pid.expect("a pid");
    host.kill();
    host.start();
    host.up_again("web", 2);
    let status = host.up_again("deaf", 2);
    assert_eq!((status.wanted.as_str(), status.attempts), ("start", 0));
    until("the old one is gone", || !alive(pid));
}
