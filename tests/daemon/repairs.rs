//! `escalate` with `exec`: a repair between two runs that restarts did not cure. It is made once, told,
//! ended by a stop, and waited for by a daemon that was killed meanwhile. And with `reboot`, where that
//! may not be.

use super::host::{Host, alive, until};
use serde_json::json;
use std::fs;

/// Never ready: its first restart does not cure it, and the second comes after `repair`.
fn define(host: &Host, repair: &str, more: &str) {
    host.settings("health_restart_limit = { count = 0 }\n");
    host.define(
        "web",
        &format!(
            "exec = ['sleep', '1000']\nstart_timeout_ms = 300\ndossier_timeout_ms = 0\n\
             [retry_policy]\nmax_attempts = 'unlimited'\ndelay_ms = 100\nbackoff = 'fixed'\n\
             escalate = [{{ after_uncured = 1, action = 'exec', exec = {repair}{more} }}]\n\
             [[probe]]\ntype = 'exec'\ntarget = 'false'\ninterval_ms = 100\n"
        ),
    );
}

/// A command that writes a line into a file, and then waits until `gate` is there.
fn gated(host: &Host) -> String {
    let (file, gate) = (host.path("mended"), host.path("gate"));
    format!(
        "['sh', '-c', 'echo $VITALD_HOOK $VITALD_RUN $VITALD_CAUSE; echo $$ >> {file}; \
         until [ -e {gate} ]; do sleep 0.02; done; exit 4']"
    )
}

fn begun(host: &Host, times: usize) -> i32 {
    let lines = || {
        let text = fs::read_to_string(host.path("mended")).unwrap_or_default();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    until(&format!("repair {times}"), || lines().len() >= times);
    lines()[times - 1].parse().expect("a pid")
}

fn repairing(host: &Host) {
    host.until("web", "being repaired", |s| {
        s.phase.as_deref() == Some("repair")
    });
}

/// What was told of repairs, in order.
fn told(host: &Host) -> Vec<String> {
    let story = host.why("web").story.into_iter();
    let told = story.map(|line| line.detail);
    told.filter(|words| words.starts_with("repair: ")).collect()
}

fn tells(host: &Host, words: &str) {
    until(words, || {
        told(host).iter().any(|told| told.starts_with(words))
    });
}

/// Killed in the midst of it, the daemon that returns waits for it, and makes no second one; the start
/// follows, though it failed.
#[test]
fn a_repair_outlives_the_daemon_and_is_made_once() {
    let mut host = Host::new("repair-death");
    define(&host, &gated(&host), "");
    host.start();
    let pid = begun(&host, 1);
    repairing(&host);
    host.kill();
    host.start();
    repairing(&host);
    assert!(alive(pid));
    let status = host.status("web");
    assert_eq!((status.state.as_str(), status.run), ("stopping", 2));
    assert_eq!((status.pid, status.attempts), (None, 2));
    assert_eq!(status.next.as_deref(), Some("repair timeout"));
    let decisions = host.decisions("web");
    let last = decisions.last().expect("a decision");
    assert!(
        last.detail
            .ends_with("; 1 uncured in a row: restart after sh"),
        "{last:?}"
    );
    fs::write(host.path("gate"), "").expect("write");
    host.until("web", "started again", |s| s.run >= 3);
    // Where the kernel does not tell how it ended (before Linux 6.15), that is said.
    let told = told(&host);
    let first = told.first().expect("told");
    let known = first.starts_with("repair: exit code 4");
    assert!(
        known || first == "repair: how it ended is not known",
        "{told:?}"
    );
    host.line("web", "its output", |line| {
        line == "repair/0 web/2 start_timeout"
    });
    assert!(!alive(pid));
}

/// What ended while there was no daemon is not made once more.
#[test]
fn a_repair_that_ended_unseen_is_taken_for_done() {
    let mut host = Host::new("repair-unseen");
    define(&host, &gated(&host), "");
    host.start();
    let pid = begun(&host, 1);
    repairing(&host);
    host.kill();
    fs::write(host.path("gate"), "").expect("write");
    until("it ended", || !alive(pid));
    // The next one waits again.
    fs::remove_file(host.path("gate")).expect("remove");
    host.start();
    host.until("web", "started again", |s| s.run >= 3);
    assert_eq!(told(&host).len(), 1, "{:?}", told(&host));
    begun(&host, 2);
}

/// It goes on over an upgrade, whose daemon is its parent still, and knows how it ended.
#[test]
fn a_repair_goes_on_over_an_upgrade() {
    let mut host = Host::new("repair-upgrade");
    define(&host, &gated(&host), "");
    host.start();
    begun(&host, 1);
    repairing(&host);
    host.call("system.upgrade", &json!({}));
    until("it is another", || host.daemon().began.is_some());
    repairing(&host);
    fs::write(host.path("gate"), "").expect("write");
    tells(&host, "repair: exit code 4");
    begun(&host, 2);
}

/// A stop ends it, and nothing follows.
#[test]
fn a_stop_ends_a_repair() {
    let host = {
        let mut host = Host::new("repair-stop");
        define(&host, &gated(&host), "");
        host.start();
        host
    };
    let pid = begun(&host, 1);
    repairing(&host);
    host.wait("stop", "web");
    assert!(!alive(pid) && host.processes().is_empty());
    let status = host.status("web");
    assert_eq!((status.state.as_str(), status.run), ("inactive", 2));
    tells(&host, "repair: cut short by a stop: signal SIGTERM");
}

/// What becomes of it otherwise is told, and the start follows.
#[test]
fn what_becomes_of_a_repair_is_told() {
    let mut host = Host::new("repair-told");
    define(&host, "['sh', '-c', 'echo cannot mend; kill -9 $$']", "");
    host.start();
    tells(&host, "repair: signal SIGKILL: cannot mend");
    define(&host, "'true'", "");
    host.call("system.reload", &json!({}));
    tells(&host, "repair: done");
    define(&host, "'/does/not/exist'", "");
    host.call("system.reload", &json!({}));
    until("that it is not there", || {
        let told = told(&host);
        let last = told.last().expect("told");
        last.contains("/does/not/exist") && last.contains("(2)")
    });
    define(&host, "'sleep 1000'", ", timeout_ms = 100");
    host.call("system.reload", &json!({}));
    tells(&host, "repair: not done within 100 ms: signal SIGTERM");
    let before = host.status("web").run;
    host.until("web", "started again", |s| s.run > before);
}

/// vitald is not the first process here: the rung below is taken, and why is told.
#[test]
fn a_reboot_that_may_not_be_is_a_restart() {
    let mut host = Host::new("repair-reboot");
    let text = "exec = ['sleep', '1000']\nstart_timeout_ms = 300\ndossier_timeout_ms = 0\n\
        [retry_policy]\nmax_attempts = 3\ndelay_ms = 100\nbackoff = 'fixed'\n\
        escalate = [{ after_uncured = 1, action = 'exec', exec = 'true' },\n\
        { after_uncured = 2, action = 'reboot' }]\n\
        [[probe]]\ntype = 'exec'\ntarget = 'false'\ninterval_ms = 100\n";
    host.define("web", text);
    host.start();
    host.until("web", "left as it is", |s| {
        let gate = s.gate.as_ref();
        s.run == 4 && gate.is_some_and(|gate| gate.verdict == "denied")
    });
    let story = host.why("web").story;
    let denied = story
        .iter()
        .find(|line| line.to == "denied" && line.kind == "host");
    assert_eq!(
        denied.expect("told").detail,
        "2 restarts in a row did not cure web; no reboot: vitald is not the first process of this \
         host, and does not reboot it"
    );
    assert_eq!(told(&host), ["repair: done", "repair: done"]);
    let (_, said, _) = host.cli(&["history", "web"]);
    assert!(said.contains("uncured -> denied"), "{said}");
}
