//! Many services in trouble at once: by a database that they all require, by something that no
//! restart heals. Real processes; what is wrong is a file that is there or not.

use super::host::{Host, until};
use super::upgrade::{can_panic, panic, upgrade};
use serde_json::json;
use std::fs;
use vitald::engine::status::Status;

/// Healthy while the file is there, which it makes itself when it starts, or does not.
fn service(file: &str, makes: bool, more: &str) -> String {
    let make = if makes {
        format!("touch {file}; ")
    } else {
        String::new()
    };
    format!(
        "exec = ['sh', '-c', '{make}exec sleep 1000']\n{more}\n[retry_policy]\ndelay_ms = 0\n\
         [[probe]]\ntype = 'exec'\ntarget = ['test', '-f', '{file}']\ninterval_ms = 1000\n\
         timeout_ms = 1000\n"
    )
}

fn all(host: &Host) -> Vec<Status> {
    let list = host.call("service.list", &json!({}));
    serde_json::from_value(list).expect("statuses")
}

#[test]
fn a_database_down_under_thirty_services_is_one_restart() {
    let mut host = Host::new("database-down");
    let file = host.path("database");
    host.define("db", &service(&file, true, "").replace("1000']", "1001']"));
    let web = service(&file, false, "requires = ['db']") + "failure_threshold = 1\n";
    for number in 0..30 {
        host.define(&format!("web-{number:02}"), &web);
    }
    host.start();
    until("all are well", || {
        let all = all(&host);
        all.iter().all(|s| s.health.as_deref() == Some("healthy"))
    });
    fs::remove_file(&file).expect("the database goes down");
    host.up_again("db", 2);
    until("all are well again", || {
        let all = all(&host);
        all.iter().all(|s| s.health.as_deref() == Some("healthy"))
    });
    let mut waited = 0;
    for status in all(&host) {
        let restarts = u32::from(status.name == "db");
        assert_eq!(status.run, 1 + restarts, "{status:?}");
        if status.name != "db" {
            assert_eq!(status.attempts, 0, "{status:?}");
        }
        let decisions = host.decisions(&status.name);
        let for_db = |words: &str| words.contains("dependency db") || words.contains("asking db");
        waited += usize::from(decisions.iter().any(|d| for_db(&d.detail)));
    }
    assert!(waited > 0, "nobody noticed that the database was down");
    assert_eq!(host.daemon().storm, None, "one service is no storm");
}

#[test]
fn a_canary_that_is_not_cured_holds_the_others_until_release_also_over_death_and_upgrade() {
    let mut host = Host::new("storm-held");
    host.set_env("VITALD_TEST_PANIC", "1");
    let file = host.path("network");
    fs::write(&file, "").expect("the network is up");
    host.settings("storm = { services = 2, percent = 0 }\n");
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        host.define(name, &service(&file, false, "start_timeout_ms = 3000"));
    }
    host.start();
    for name in names {
        host.up(name);
    }
    fs::remove_file(&file).expect("the network goes");
    until("it is held", || host.daemon().hold.is_some());
    until("all wait", || {
        host.daemon().storm.is_some_and(|s| s.waiting == 5)
    });
    let once = |host: &Host| {
        let runs: u32 = all(host).iter().map(|status| status.run).sum();
        assert_eq!(runs, 6, "one of five was restarted, once");
        let daemon = host.daemon();
        let (hold, storm) = (daemon.hold.expect("held"), daemon.storm.expect("a storm"));
        let canary = storm.canary.expect("a canary");
        assert_eq!(hold.owner, "storm");
        let why = hold.why.expect("why");
        assert!(why.contains(&canary) && why.contains("not cured"), "{why}");
        assert_eq!(host.status(&canary).run, 2);
        canary
    };
    let canary = once(&host);
    host.kill();
    host.start();
    assert_eq!(once(&host), canary);
    upgrade(&host);
    assert_eq!(once(&host), canary);
    if can_panic() {
        panic(&host, 1);
        assert_eq!(once(&host), canary);
    }

    let (_, shown, _) = host.cli(&["status"]);
    let line = shown.lines().find(|line| line.contains("HOLD by storm"));
    assert!(line.is_some_and(|line| line.contains(&canary)), "{shown}");
    let (_, shown, _) = host.cli(&["info"]);
    assert!(shown.contains("5 wait"), "{shown}");
    let other = names.iter().find(|name| **name != canary).expect("another");
    let (_, shown, _) = host.cli(&["why", other]);
    assert!(shown.contains("storm, held: the canary"), "{shown}");
    let (_, shown, _) = host.cli(&["history", &canary]);
    assert!(shown.contains("no restarts for health until"), "{shown}");

    let mut events = host.events(&[]);
    let (code, shown, _) = host.cli(&["release"]);
    assert!(code == 0 && shown.contains("go on, one by one"), "{shown}");
    let told = events.event("its end is told", |event| event.kind == "storm");
    assert_eq!((&*told.from, &*told.to), ("held", "calm"));
    assert_eq!(told.service, canary);
    fs::write(&file, "").expect("the network is back");
    until("all are well", || {
        let all = all(&host);
        all.iter().all(|s| s.health.as_deref() == Some("healthy"))
    });
    let daemon = host.daemon();
    assert_eq!((daemon.hold, daemon.storm), (None, None));
}

/// The daemon goes while the canary is on its way, and while the next is: who waits still waits for
/// what comes of it, and they go one by one.
#[test]
fn who_waits_for_the_canary_does_so_over_an_upgrade_a_panic_and_a_death() {
    let mut host = Host::new("storm-canary");
    host.set_env("VITALD_TEST_PANIC", "1");
    host.settings("storm = { services = 2, percent = 0, within_ms = 2000 }\n");
    let names = ["a", "b", "c"];
    let file = |host: &Host, name: &str| host.path(&format!("well-{name}"));
    for name in names {
        let file = file(&host, name);
        fs::write(&file, "").expect("write");
        // One that is restarted is starting until its file is there.
        host.define(name, &service(&file, false, "start_timeout_ms = 600000"));
    }
    host.start();
    for name in names {
        host.up(name);
    }
    for name in names {
        fs::remove_file(file(&host, name)).expect("remove");
    }
    let runs = |host: &Host| names.map(|name| host.status(name).run);
    let waits = |host: &Host, number: u32, sum: u32| {
        let storm = host.daemon().storm.expect("a storm");
        assert!(storm.incident && storm.held.is_none(), "{storm:?}");
        assert_eq!(storm.waiting, number, "{storm:?}");
        let runs = runs(host);
        assert_eq!(runs.iter().sum::<u32>(), sum, "{runs:?}");
        storm.canary.expect("a canary")
    };
    let starting = |host: &Host, waiting: u32| {
        until("one is on its way", || {
            let storm = host.daemon().storm.unwrap_or_default();
            let canary = storm.canary.unwrap_or_default();
            let status = all(host).into_iter().find(|s| s.name == canary);
            // One whose program does not run yet goes down with its daemon.
            let runs = |pid| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let on_its_way = status.is_some_and(|s| {
                let program = runs(s.pid.unwrap_or_default());
                s.run == 2 && s.state == "starting" && program.starts_with(b"sleep\0")
            });
            on_its_way && storm.waiting == waiting
        });
    };
    starting(&host, 2);
    let canary = waits(&host, 2, 4);
    upgrade(&host);
    assert_eq!(waits(&host, 2, 4), canary);
    if can_panic() {
        panic(&host, 1);
        assert_eq!(waits(&host, 2, 4), canary);
    }
    host.kill();
    host.start();
    assert_eq!(waits(&host, 2, 4), canary);
    // It is cured: the next goes, and the last waits.
    fs::write(file(&host, &canary), "").expect("write");
    host.up(&canary);
    starting(&host, 1);
    let next = waits(&host, 1, 5);
    assert_ne!(next, canary);
    host.kill();
    host.start();
    assert_eq!(waits(&host, 1, 5), next);
    upgrade(&host);
    assert_eq!(waits(&host, 1, 5), next);
    for name in names {
        fs::write(file(&host, name), "").expect("write");
    }
    for name in names {
        host.up(name);
    }
    until("it is over", || host.daemon().storm.is_none());
    for name in names {
        let story = || host.why(name).story;
        assert!(host.status(name).run <= 2, "{name}: {:#?}", story());
    }
}
