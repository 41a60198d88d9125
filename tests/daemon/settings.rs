//! `vitald.toml`, read anew by a reload: what is taken over, what waits for a start, a broken one, one
//! that is to be confirmed; by a real daemon, and the next ones.

use super::control::become_user;
use super::host::{Host, root, until};
use super::upgrade::upgrade;
use serde_json::{Value, json};
use std::fs;
use std::sync::mpsc;

/// Told by hand, it touches its file.
fn alert(host: &Host, name: &str) -> String {
    let file = host.path(name);
    format!("[[alert]]\nname = '{name}'\nexec = ['touch', '{file}']\n")
}

fn reload(host: &Host) -> Value {
    host.call("system.reload", &json!({}))
}

fn names(host: &Host) -> Vec<String> {
    let alerts = host.daemon().alerts.into_iter();
    alerts.map(|alert| alert.name).collect()
}

fn is_told(host: &Host, name: &str) {
    host.call("alert.test", &json!({ "name": name }));
    assert!(fs::exists(host.path(name)).expect("look"), "{name}");
    fs::remove_file(host.path(name)).expect("remove");
}

#[test]
fn a_reload_takes_over_what_it_can_and_names_what_waits_for_a_start() {
    let mut host = Host::new("settings-live");
    host.settings("storm = { services = 9 }\n");
    let go = host.path("go");
    let script =
        format!("echo one; while [ ! -e {go} ]; do sleep 0.02; done; echo two; exec sleep 1000");
    host.define("web", &format!("exec = ['sh', '-c', '{script}']\n"));
    host.start();
    let before = host.up("web");
    let log = || fs::read_to_string(host.path("state/logs/web/current")).unwrap_or_default();
    until("it is written", || log().ends_with("Z one\n"));
    host.settings(&format!(
        "storm = {{ services = 3 }}\nmax_concurrent_probes = 7\nlog_time = 'none'\n\
         dossier_keep = 3\nrecord = true\n{}",
        alert(&host, "pager")
    ));
    let live = json!(["storm", "max_concurrent_probes", "log_time", "alert.pager"]);
    let told = host.call("system.reload", &json!({"dry_run": true}));
    assert_eq!(told["plan"]["settings"]["live"], live);
    assert_eq!(names(&host), [""; 0]);
    assert_eq!(host.daemon().settings_waiting, [""; 0]);

    let told = reload(&host);
    let waits = json!(["dossier_keep", "record"]);
    assert_eq!(told["plan"]["settings"]["live"], live);
    assert_eq!(told["plan"]["settings"]["at_start"], waits);
    let note = told["note"].as_str().expect("a note");
    assert!(
        note.contains(
            "live     vitald.toml  storm, max_concurrent_probes, log_time, alert.pager\n"
        ) && note.contains("waits    vitald.toml  dossier_keep, record: read when the daemon")
            && note.ends_with("no service is touched"),
        "{note}"
    );
    is_told(&host, "pager");
    fs::write(&go, "").expect("write");
    until("it is written without its time", || {
        log().ends_with("Z one\ntwo\n")
    });
    assert_eq!(host.status("web").pid, before.pid);
    let (_, shown, _) = host.cli(&["info"]);
    assert!(
        shown.contains("as by `upgrade`: dossier_keep, record"),
        "{shown}"
    );
    let waiting = |host: &Host| host.daemon().settings_waiting.join(" ");
    assert_eq!(waiting(&host), "dossier_keep record");
    // Nothing is new.
    assert_eq!(reload(&host)["plan"]["settings"]["at_start"], waits);
    upgrade(&host);
    assert_eq!(waiting(&host), "");
    assert!(fs::exists(host.path("state/recording/current")).expect("look"));
    let told = reload(&host);
    assert_eq!(told["note"], "nothing changed");
    is_told(&host, "pager");
    // Gone is gone, also for the next.
    fs::remove_file(host.path("config/vitald.toml")).expect("remove");
    reload(&host);
    assert_eq!(names(&host), [""; 0]);
    host.kill();
    host.start();
    assert_eq!(names(&host), [""; 0]);
    assert_eq!(host.status("web").pid, before.pid);
}

/// What is in force stays so: over a reload, a death, an upgrade; but not over a boot.
#[test]
fn a_broken_file_changes_nothing_and_is_named() {
    let mut host = Host::new("settings-broken");
    host.settings(&alert(&host, "pager"));
    host.define("web", "exec = ['sleep', '1000']\n");
    host.start();
    host.up("web");
    let broken = "storm = { services = 'many' }\n[[alert]]\nname = 'chat'\nexec = ['true']\n";
    host.settings(broken);
    let place = "vitald.toml:1:22: `services`";
    host.define("web", "exec = ['sleep', '1001']\n");
    for how in ["strict", "dry_run"] {
        let (code, message) = host.refused("system.reload", &json!({ how: true }));
        assert_eq!(code, -32005, "{message}");
        assert!(
            message.contains(place) && message.contains("nothing was touched"),
            "{message}"
        );
        assert_eq!(host.daemon().settings_problem, None);
    }
    assert_eq!(host.status("web").run, 1);
    let (code, message) = host.refused("system.reload", &json!({}));
    assert_eq!(code, -32005);
    assert!(
        message.starts_with("vitald.toml cannot be used; all definitions are in force\n")
            && message.contains(place)
            && message.contains("vitald.toml: the settings before stay in force"),
        "{message}"
    );
    host.up_again("web", 2);
    let stands = |host: &Host| {
        assert_eq!(names(host), ["pager"]);
        is_told(host, "pager");
        let problem = host.daemon().settings_problem.unwrap_or_default();
        assert!(problem.contains(place), "{problem}");
        let (_, shown, _) = host.cli(&["status"]);
        let line = shown.lines().find(|line| line.contains(place));
        let words = "the settings before it stay in force";
        assert!(line.is_some_and(|line| line.contains(words)), "{shown}");
    };
    stands(&host);
    host.kill();
    host.start();
    stands(&host);
    upgrade(&host);
    stands(&host);
    // Not even its name is there to be read.
    fs::remove_file(host.path("config/vitald.toml")).expect("remove");
    fs::create_dir(host.path("config/vitald.toml")).expect("mkdir");
    let (_, message) = host.refused("system.reload", &json!({}));
    assert!(message.contains("vitald.toml: cannot read it: not a regular file"));
    assert_eq!(names(&host), ["pager"]);
    fs::remove_dir(host.path("config/vitald.toml")).expect("rmdir");
    // The next boot reads what can be read.
    host.settings(broken);
    host.call("system.shutdown", &json!({}));
    host.ended();
    fs::remove_dir_all(host.path("run")).expect("remove");
    host.start();
    assert_eq!(names(&host), ["chat"]);
    let problem = host.daemon().settings_problem.unwrap_or_default();
    let words = "what can be read of it is in force";
    assert!(
        problem.contains(place) && problem.ends_with(words),
        "{problem}"
    );
    // Mended, it is as it says.
    host.settings(&alert(&host, "mail"));
    reload(&host);
    assert_eq!(names(&host), ["mail"]);
    assert_eq!(host.daemon().settings_problem, None);
}

#[test]
fn settings_that_are_not_confirmed_go_back_also_over_a_death_and_an_upgrade() {
    let mut host = Host::new("settings-back");
    host.settings(&alert(&host, "pager"));
    host.define("web", "exec = ['sleep', '1000']\n");
    host.start();
    let before = host.up("web");
    host.settings(&alert(&host, "chat"));
    let confirmed_within = |host: &Host, ms: u64| {
        let told = host.call("system.reload", &json!({ "confirm_ms": ms }));
        assert_eq!(
            told["plan"]["settings"]["live"],
            json!(["alert.pager", "alert.chat"])
        );
        assert_eq!(names(host), ["chat"]);
    };
    // By the operator's word, after an upgrade.
    confirmed_within(&host, 600_000);
    upgrade(&host);
    assert_eq!(names(&host), ["chat"]);
    let told = host.call("system.revert", &json!({}));
    let note = told["note"].as_str().expect("a note");
    assert!(note.contains("is back, for vitald.toml"), "{note}");
    is_told(&host, "pager");
    // In place of the file, for the next daemon, too.
    host.kill();
    host.start();
    assert_eq!(names(&host), ["pager"]);
    is_told(&host, "pager");
    // By itself, in the next daemon.
    confirmed_within(&host, 1_500);
    host.kill();
    host.start();
    until("it goes back", || names(&host) == ["pager"]);
    is_told(&host, "pager");
    upgrade(&host);
    assert_eq!(names(&host), ["pager"]);
    // Confirmed, it stays.
    confirmed_within(&host, 600_000);
    host.call("system.confirm", &json!({}));
    host.kill();
    host.start();
    is_told(&host, "chat");
    // Not confirmed when the host went down: the next boot has what was before.
    host.settings(&alert(&host, "pager"));
    host.call("system.reload", &json!({"confirm_ms": 600_000}));
    assert_eq!(names(&host), ["pager"]);
    host.kill();
    fs::remove_dir_all(host.path("run")).expect("remove");
    host.start();
    is_told(&host, "chat");
    reload(&host);
    is_told(&host, "pager");
    assert_eq!(host.status("web").attempts, before.attempts);
}

/// Rights that are given and taken count at once, also for who is connected already.
#[test]
fn rights_are_taken_over_for_those_who_are_connected_too() {
    if !root() {
        return;
    }
    let mut host = Host::new("settings-rights");
    host.settings("access = { \"4001\" = 'act' }\n");
    host.define("web", "exec = ['sleep', '1000']\n");
    host.start();
    host.up("web");
    let socket = host.socket();
    let (ask, asked) = mpsc::channel::<&str>();
    let (tell, told) = mpsc::channel::<String>();
    let peer = std::thread::spawn(move || {
        become_user(65_534, 4001);
        let connect = || super::client::Client::connect(&socket);
        let mut client = connect().expect("let in");
        for line in asked {
            if line == "connect" {
                let said = connect().err().map(|error| error.kind().to_string());
                tell.send(said.unwrap_or_default()).expect("heard");
                continue;
            }
            let lines = client.words(line);
            tell.send(lines.last().cloned().unwrap_or_default())
                .expect("heard");
        }
    });
    let says = |line| {
        ask.send(line).expect("a peer");
        told.recv().expect("an answer")
    };
    assert_eq!(says("restart web"), "ok");
    host.settings("access = { \"4001\" = 'view' }\n");
    let live = &reload(&host)["plan"]["settings"]["live"];
    assert_eq!(*live, json!(["access"]));
    assert!(says("restart web").starts_with("error: permission denied: "));
    assert_eq!(says("status web"), "ok");
    assert_eq!(says("connect"), "");
    // A group that does not exist lets nobody in.
    host.settings("access = { no-such-group = 'act' }\n");
    reload(&host);
    assert!(says("status web").starts_with("error: "));
    assert_eq!(says("connect"), "permission denied");
    assert!(host.said().contains("access: group no-such-group"));
    host.settings("access = { \"4001\" = 'act:web' }\n");
    reload(&host);
    assert_eq!(says("restart web"), "ok");
    assert_eq!(says("connect"), "");
    drop(ask);
    peer.join().expect("its end");
}

/// A death after the reload: the next daemon's limits are the same, by the file and by the copy.
#[test]
fn the_limit_of_restarts_is_that_of_the_reload_also_after_a_death() {
    let mut host = Host::new("settings-limit");
    let file = host.path("well");
    fs::write(&file, "").expect("write");
    host.settings("health_restart_limit = { count = 1, per_ms = 3600000 }\nstorm = { services = 0, percent = 0 }\n");
    let text = format!(
        "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 600000\njitter = 0\nmax_delay_ms = 600000\n\
         [[probe]]\ntype = 'exec'\ntarget = ['test', '-f', '{file}']\ninterval_ms = 200\n\
         timeout_ms = 200\nfailure_threshold = 1\n"
    );
    for name in ["a", "b", "c"] {
        host.define(name, &text);
    }
    host.start();
    for name in ["a", "b", "c"] {
        host.up(name);
    }
    fs::remove_file(&file).expect("remove");
    let in_backoff = |host: &Host| {
        let all = ["a", "b", "c"];
        all.iter()
            .filter(|name| host.status(name).state == "backoff")
            .count()
    };
    let deferred = |host: &Host| {
        let all = ["a", "b", "c"].iter().map(|name| host.status(name));
        let gates = all.filter_map(|status| status.gate);
        gates.filter(|gate| gate.reason.contains("storm")).count()
    };
    until("one goes, two wait", || {
        (in_backoff(&host), deferred(&host)) == (1, 2)
    });
    host.settings("health_restart_limit = { count = 0 }\nstorm = { services = 0, percent = 0 }\n");
    reload(&host);
    until("the others go", || in_backoff(&host) == 3);
    // The next finds a file that it cannot use, and no limit all the same.
    host.settings("health_restart_limit = { count = -1 }\n");
    fs::write(&file, "").expect("write");
    host.kill();
    host.start();
    let names = ["a", "b", "c"];
    for name in names {
        host.call("service.restart", &json!({"name": name}));
        host.up(name);
    }
    fs::remove_file(&file).expect("remove");
    until("all go", || in_backoff(&host) == 3);
}
