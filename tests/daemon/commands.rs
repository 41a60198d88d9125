//! The commands around a run: `pre_start`, `stop_exec`, `post_stop`, `reload_exec`. They come in
//! their order, tell what became of them, end, and are never run twice at once, whatever becomes of
//! the daemon.

use super::host::{Host, alive, process, send, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// A command that writes a line into a file (`NAME`), and then waits until `gate` is there.
fn gated(host: &Host, name: &str) -> String {
    let (file, gate) = (host.path(name), host.path("gate"));
    format!("['sh', '-c', 'echo $$ >> {file}; until [ -e {gate} ]; do sleep 0.02; done']")
}

fn lines(host: &Host, file: &str) -> Vec<String> {
    let text = fs::read_to_string(host.path(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn begun(host: &Host, file: &str, times: usize) -> i32 {
    until(&format!("{file} {times}"), || {
        lines(host, file).len() == times
    });
    let last = lines(host, file).pop().expect("a line");
    last.parse().expect("a pid")
}

fn open_gate(host: &Host) {
    fs::write(host.path("gate"), "").expect("write");
}

fn phase(host: &Host, name: &str, phase: &str) {
    host.until(name, phase, |s| s.phase.as_deref() == Some(phase));
}

/// Its output is the service's, its failure is the start's, with exit code and last lines.
#[test]
fn pre_start_comes_first_and_its_failure_is_the_starts() {
    let mut host = Host::new("pre-start");
    let flag = host.path("flag");
    let check =
        format!("echo $VITALD_HOOK $VITALD_RUN; [ -e {flag} ] || {{ echo no flag >&2; exit 3; }}");
    host.define(
        "web",
        &format!(
            "exec = ['sh', '-c', 'echo the program; exec sleep 1000']\n\
             pre_start = [['true'], ['sh', '-c', '{check}']]\n\
             [retry_policy]\nmax_attempts = 1\ndelay_ms = 10\n"
        ),
    );
    host.start();
    // At a boot nobody is there to try again: it is judged like a crash.
    let status = host.until("web", "failed", |s| s.state == "failed");
    assert_eq!((status.run, status.attempts), (2, 1));
    let told = "pre_start: exit code 3: pre_start/1 web/2 | no flag";
    assert!(status.detail.expect("a detail").contains(told));
    // An operator sees it at once.
    host.call("service.start", &json!({"name": "web"}));
    let status = host.until("web", "failed", |s| s.run == 3 && s.state == "failed");
    assert_eq!(status.attempts, 0);
    let story = host.why("web").story;
    assert!(story.iter().any(|line| {
        line.detail
            .contains("exit code 3: pre_start/1 web/3 | no flag")
    }));
    assert!(!host.lines("web").contains(&"the program".to_owned()));
    fs::write(&flag, "").expect("write");
    host.wait("start", "web");
    assert_eq!(host.up("web").run, 4);
    host.line("web", "its output", |line| line == "pre_start/1 web/4");
    host.line("web", "the program", |line| line == "the program");
}

/// What cannot be executed is failed at once on a first start, as a program would be.
#[test]
fn a_missing_pre_start_is_failed_at_once() {
    let text = "exec = ['sleep', '1000']\npre_start = '/does/not/exist'\n";
    let host = Host::with("pre-missing", &[("web", text)]);
    let status = host.until("web", "failed", |s| s.state == "failed");
    assert_eq!((status.run, status.attempts), (1, 0));
    let detail = status.detail.expect("a detail");
    assert!(
        detail.contains("/does/not/exist") && detail.contains("(2)"),
        "{detail}"
    );
}

/// What it leaves behind is of the run, and ends with it.
#[test]
fn what_pre_start_leaves_ends_with_the_run() {
    let mut host = Host::new("pre-leaves");
    let script = "setsid sh -c 'echo $$ > left; exec sleep 1000' &\n\
                  until [ -s left ]; do sleep 0.02; done\n";
    fs::write(host.path("prepare.sh"), script).expect("write");
    let dir = host.path("");
    host.define(
        "web",
        &format!("exec = ['sleep', '1000']\npre_start = 'sh prepare.sh'\nworking_dir = '{dir}'\n"),
    );
    host.start();
    host.up("web");
    let left = begun(&host, "left", 1);
    assert!(alive(left));
    host.wait("stop", "web");
    assert!(!alive(left) && host.processes().is_empty());
}

/// Killed in the midst of each, the daemon that returns waits for what runs.
#[test]
fn commands_outlive_the_daemon_and_run_once() {
    let mut host = Host::new("commands-death");
    let (pre, post) = (gated(&host, "pre"), gated(&host, "post"));
    let quit = gated(&host, "quit");
    host.define(
        "web",
        &format!(
            "exec = ['sleep', '1000']\npre_start = {pre}\npost_stop = {post}\nstop_exec = {quit}\n\
             pre_start_timeout_ms = 600000\npost_stop_timeout_ms = 600000\n\
             stop_timeout_ms = 3600000\n"
        ),
    );
    host.start();
    let pid = begun(&host, "pre", 1);
    phase(&host, "web", "pre_start");
    assert_eq!(host.status("web").pid, None);
    host.kill();
    host.start();
    phase(&host, "web", "pre_start");
    assert!(alive(pid));
    open_gate(&host);
    let main = host.up("web");
    assert_eq!(main.run, 1);
    // Where the kernel does not tell how it ended (before Linux 6.15) it was run once more.
    let first = lines(&host, "pre").len();
    assert!(first <= 2, "{first}");
    close_gate(&host);
    host.call("service.stop", &json!({"name": "web"}));
    begun(&host, "quit", 1);
    host.kill();
    host.start();
    phase(&host, "web", "stop_exec");
    let status = host.status("web");
    assert_eq!((status.state.as_str(), status.pid), ("stopping", main.pid));
    open_gate(&host);
    begun(&host, "post", 1);
    host.until("web", "inactive", |s| s.state == "inactive");
    close_gate(&host);
    // What ended while there was no daemon: pre_start is run again, for nobody knows how it ended.
    host.call("service.start", &json!({"name": "web"}));
    let pid = begun(&host, "pre", first + 1);
    phase(&host, "web", "pre_start");
    host.kill();
    open_gate(&host);
    until("it ended", || !alive(pid));
    let zombie = is_left_a_zombie(pid);
    host.start();
    assert_eq!(host.up("web").run, 2);
    // Who is reaped under the eyes of the daemon tells it how it ended.
    let again = lines(&host, "pre").len() - first;
    assert!(again == 2 || (zombie && again == 1), "{again}, {zombie}");
    close_gate(&host);
    // post_stop is taken for done.
    send(host.status("web").pid.expect("a pid"), Signal::SIGKILL);
    let pid = begun(&host, "post", 2);
    phase(&host, "web", "post_stop");
    host.kill();
    open_gate(&host);
    until("it ended", || !alive(pid));
    host.start();
    host.up_again("web", 3);
    assert_eq!(lines(&host, "post").len(), 2);
}

/// Whoever it belongs to now takes his time to reap it, or never does.
fn is_left_a_zombie(pid: i32) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while process(pid).is_some() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    process(pid).is_some()
}

fn close_gate(host: &Host) {
    fs::remove_file(host.path("gate")).expect("remove");
}

/// Executed anew in its place the daemon is still the command's parent.
#[test]
fn a_command_goes_on_over_an_upgrade() {
    let mut host = Host::new("commands-upgrade");
    let pre = gated(&host, "pre");
    host.define(
        "web",
        &format!("exec = ['sleep', '1000']\npre_start = {pre}\npre_start_timeout_ms = 600000\n"),
    );
    host.start();
    begun(&host, "pre", 1);
    phase(&host, "web", "pre_start");
    host.call("system.upgrade", &json!({}));
    until("it is another", || host.daemon().began.is_some());
    phase(&host, "web", "pre_start");
    open_gate(&host);
    let status = host.up("web");
    assert_eq!((status.run, lines(&host, "pre").len()), (1, 1));
}

#[test]
fn post_stop_learns_what_ended_the_run() {
    let mut host = Host::new("post-stop");
    let file = host.path("ends");
    let tell = format!("echo $VITALD_CAUSE $VITALD_EXIT_CODE$VITALD_EXIT_SIGNAL >> {file}; exit 9");
    host.define(
        "web",
        &format!(
            "exec = ['sleep', '1000']\npost_stop = ['sh', '-c', '{tell}']\n\
             [retry_policy]\ndelay_ms = 0\n"
        ),
    );
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    send(pid, Signal::SIGKILL);
    host.up_again("web", 2);
    host.wait("stop", "web");
    assert_eq!(lines(&host, "ends"), ["exit SIGKILL", "operator SIGTERM"]);
    // Its failure is told, and changes nothing.
    let story = host.why("web").story;
    assert!(
        story
            .iter()
            .any(|line| line.detail == "post_stop: exit code 9")
    );
    assert_eq!(host.status("web").state, "inactive");
}

/// A stop ends, whatever post_stop does.
#[test]
fn a_post_stop_that_hangs_is_killed() {
    let text = "exec = ['sleep', '1000']\npost_stop_timeout_ms = 200\n\
                post_stop = ['sh', '-c', 'trap \"\" TERM; sleep 1000; sleep 1000']\n";
    let host = Host::with("post-hangs", &[("web", text)]);
    host.up("web");
    host.wait("stop", "web");
    assert_eq!(host.status("web").state, "inactive");
    assert!(host.processes().is_empty());
}

#[test]
fn stop_exec_ends_what_is_deaf_to_the_signal() {
    let mut host = Host::new("stop-exec");
    let quit = "trap \"\" TERM; trap \"exit 5\" USR1; echo ready; while :; do sleep 0.02; done";
    host.define(
        "web",
        &format!(
            "exec = ['sh', '-c', '{quit}']\nstop_timeout_ms = 3600000\n\
             stop_exec = ['sh', '-c', 'kill -USR1 $MAINPID']\n"
        ),
    );
    host.start();
    host.up("web");
    host.line("web", "it is ready", |line| line == "ready");
    host.wait("stop", "web");
    let end = host.status("web").last_end.expect("an end");
    assert_eq!((end.cause.as_str(), end.code), ("operator", Some(5)));
}

#[test]
fn reload_of_a_service_tells_what_came_of_it() {
    let hup = "trap \"echo read anew\" HUP; echo ready; while :; do sleep 0.02; done";
    let by_signal = format!("exec = ['sh', '-c', '{hup}']\nreload_signal = 'HUP'\n");
    let mut host = Host::new("reload-service");
    let flag = host.path("flag");
    let check = format!("kill -0 $MAINPID && [ -e {flag} ] || {{ echo bad config; exit 4; }}");
    host.define("web", &by_signal);
    host.define(
        "db",
        &format!("exec = ['sleep', '1000']\nreload_exec = ['sh', '-c', '{check}']\n"),
    );
    host.define("mail", "exec = ['sleep', '1000']\n");
    host.start();
    for name in ["web", "db", "mail"] {
        host.up(name);
    }
    host.line("web", "it is ready", |line| line == "ready");
    let (code, out, _) = host.cli(&["reload", "web"]);
    assert!(code == 0 && out.contains("SIGHUP sent to pid"), "{out}");
    host.line("web", "it read anew", |line| line == "read anew");
    let (code, words) = host.refused("system.reload", &json!({"name": "db"}));
    assert_eq!(code, -32013);
    assert_eq!(words, "reload_exec: exit code 4: bad config");
    fs::write(&flag, "").expect("write");
    host.call("system.reload", &json!({"name": "db"}));
    let (code, words) = host.refused("system.reload", &json!({"name": "mail"}));
    assert!(code == -32005 && words.contains("reload_exec"), "{words}");
    host.wait("stop", "mail");
    let (code, _) = host.refused("system.reload", &json!({"name": "mail"}));
    assert_eq!(code, -32003);
    // Without a name it is the definitions that are read anew.
    let (code, out, _) = host.cli(&["reload"]);
    assert!(code == 0 && out.contains("nothing changed"), "{out}");
}
