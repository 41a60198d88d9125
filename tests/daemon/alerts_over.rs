//! Alerts that wait, and one that is under way, over an upgrade, a panic and kill -9: each is delivered,
//! in order, and what was taken is not sent again. And what becomes of them when `vitald.toml` changes.

use super::alerts::{DOOMED, Hook, Mode};
use super::host::{Host, alive, until};
use super::upgrade::{can_panic, panic, upgrade};
use serde_json::json;
use std::fs;

/// Three services that are given up, one after the other, while nobody takes what is told of them.
fn three(test: &str) -> (Host, Hook) {
    let mut host = Host::new(test);
    host.set_env("VITALD_TEST_PANIC", "1");
    let hook = Hook::new(Mode::Hang);
    host.settings(&format!(
        "[[alert]]\nname = 'chat'\nwebhook = '{}'\ntimeout_ms = 60000\n",
        hook.url
    ));
    host.start();
    for name in ["a", "b", "c"] {
        host.define(name, DOOMED);
        host.call("system.reload", &json!({}));
        host.until(name, "given up", |s| s.state == "failed");
    }
    until("three wait", || host.daemon().alerts[0].waiting == 3);
    until("the first is under way", || hook.asked() == 1);
    (host, hook)
}

fn are_delivered(host: &mut Host, hook: &Hook) {
    // What was under way is sent once more, and hangs again.
    until("it is sent once more", || hook.asked() == 2);
    assert_eq!(host.daemon().alerts[0].waiting, 3);
    assert_eq!(hook.kinds(), [""; 0]);
    // The connection that hangs is cut with its helper, by another death; from now on they are taken.
    hook.be(Mode::Take);
    host.kill();
    host.start();
    let all = ["exhausted a", "exhausted b", "exhausted c"];
    until("all are taken", || hook.kinds().len() >= 3);
    assert_eq!(hook.kinds(), all);
    until("that is known", || host.daemon().alerts[0].waiting == 0);
    // It would come before this one.
    host.kill();
    host.start();
    host.call("alert.test", &json!({}));
    assert_eq!(hook.kinds(), [&all[..], &["test "]].concat());
}

#[test]
fn what_waits_and_what_is_under_way_goes_on_after_an_upgrade() {
    let (mut host, hook) = three("alerts-upgrade");
    upgrade(&host);
    are_delivered(&mut host, &hook);
}

#[test]
fn what_waits_and_what_is_under_way_goes_on_after_kill_9() {
    let (mut host, hook) = three("alerts-killed");
    host.kill();
    host.start();
    are_delivered(&mut host, &hook);
}

#[test]
fn what_waits_and_what_is_under_way_goes_on_after_a_panic() {
    if !can_panic() {
        return;
    }
    let (mut host, hook) = three("alerts-panic");
    panic(&host, 1);
    are_delivered(&mut host, &hook);
}

/// An `[[alert]]` that is removed, or sent elsewhere, while it waits for an answer.
#[test]
fn an_alert_that_is_removed_ends_and_one_that_goes_elsewhere_goes_there_at_once() {
    let mut host = Host::new("alerts-elsewhere");
    let (bad, good) = (Hook::new(Mode::Fail), Hook::new(Mode::Take));
    let pid = host.path("pid");
    let hang = format!("echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000");
    let pager =
        format!("[[alert]]\nname = 'pager'\nexec = ['sh', '-c', '{hang}']\ntimeout_ms = 600000\n");
    let chat = |hook: &Hook| format!("[[alert]]\nname = 'chat'\nwebhook = '{}'\n", hook.url);
    host.settings(&format!("{pager}{}", chat(&bad)));
    host.define("web", DOOMED);
    host.start();
    until("it hangs", || fs::exists(&pid).unwrap_or(false));
    // So often that the next try is some time away.
    until("it is refused", || bad.asked() >= 3);
    let text = fs::read_to_string(&pid).expect("read");
    let hangs: i32 = text.trim().parse().expect("a pid");
    assert!(alive(hangs));
    host.settings(&chat(&good));
    host.call("system.reload", &json!({}));
    until("it is ended", || !alive(hangs));
    until("the other is taken elsewhere", || {
        good.kinds() == ["exhausted web"]
    });
    let alerts = host.daemon().alerts;
    assert_eq!(alerts.len(), 1);
    assert!(
        host.said()
            .contains("pager: exhausted web: its [[alert]] is gone: ended")
    );
    assert!(!host.said().contains("SECRET"), "{}", host.said());
    // Its name is back, and it has nothing to tell of what was.
    host.settings(&format!("{}{pager}", chat(&good)));
    host.call("system.reload", &json!({}));
    host.kill();
    host.start();
    host.call("alert.test", &json!({"name": "chat"}));
    assert_eq!(good.kinds(), ["exhausted web", "test "]);
    assert_eq!(host.daemon().alerts[1].waiting, 0);
}

/// A command that hangs, with a child that does: both are ended when its time is up, and meanwhile the
/// loop is served.
#[test]
fn a_command_that_hangs_is_ended_with_its_children_when_its_time_is_up() {
    let mut host = Host::new("alerts-time");
    let pids = host.path("pids");
    let hang = format!(
        "trap \"\" TERM; echo told >&2; sleep 1000 & echo $! $$ > {pids}.new; \
         mv {pids}.new {pids}; wait"
    );
    host.settings(&format!(
        "[[alert]]\nname = 'pager'\nexec = ['sh', '-c', '{hang}']\ntimeout_ms = 1500\n"
    ));
    host.define("web", DOOMED);
    host.start();
    until("it runs", || fs::exists(&pids).unwrap_or(false));
    let text = fs::read_to_string(&pids).expect("read");
    let pids: Vec<i32> = text.split_whitespace().flat_map(str::parse).collect();
    assert_eq!(pids.len(), 2, "{text}");
    // Answered at once, whoever hangs.
    host.call("system.ping", &json!({}));
    until("its time is up", || {
        host.daemon().alerts[0].trouble.is_some()
    });
    assert_eq!(
        host.daemon().alerts[0].trouble.as_deref(),
        Some("it did not end within 1.5 s and was killed: told")
    );
    until("both are gone", || pids.iter().all(|pid| !alive(*pid)));
    assert!(host.daemon().alerts[0].next_in_ms.is_some());
}
