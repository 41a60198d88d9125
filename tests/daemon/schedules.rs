//! Oneshots that are run by a schedule: intervals in real time, calendars as far as a test can wait.

use super::host::{Host, until};
use super::upgrade::{can_panic, panic, upgrade};
use serde_json::json;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};
use vitald::engine::snapshot::WantedRecord;
use vitald::journal::state;

fn runs(host: &Host, name: &str) -> usize {
    let story = fs::read_to_string(host.path(name)).unwrap_or_default();
    story.lines().count()
}

fn job(host: &Host, name: &str, schedule: &str) {
    let story = host.path(name);
    host.define(
        name,
        &format!("exec = ['sh', '-c', 'echo run >> {story}']\nkind = 'oneshot'\n{schedule}\n"),
    );
}

fn wall_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("1970");
    u64::try_from(now.as_millis()).expect("in time")
}

#[test]
fn an_interval_goes_on_over_the_daemons_death_and_a_stop_suspends_it() {
    let mut host = Host::new("every");
    job(&host, "tick", "every = '1s'");
    host.start();
    let status = host.status("tick");
    assert_eq!((&*status.state, status.run), ("inactive", 0));
    let (_, page, _) = host.cli(&["status"]);
    assert!(
        page.contains("inactive (timer)") && page.contains("run in"),
        "{page}"
    );
    until("two runs", || runs(&host, "tick") >= 2);
    host.kill();
    host.start();
    let before = runs(&host, "tick");
    until("it goes on", || runs(&host, "tick") > before);
    assert_eq!(host.status("tick").kind, "oneshot");
    let began = host.why("tick").story;
    assert!(began.iter().any(|line| line.cause == "timer"), "{began:?}");
    host.wait("stop", "tick");
    let schedule = host.status("tick").schedule.expect("a schedule");
    assert!(schedule.suspended && schedule.due.is_none(), "{schedule:?}");
    let before = runs(&host, "tick");
    // Now, whatever the schedule says.
    host.wait("once", "tick");
    assert_eq!(runs(&host, "tick"), before + 1);
    assert!(host.status("tick").schedule.expect("one").suspended);
    host.wait("start", "tick");
    until("resumed", || runs(&host, "tick") > before + 2);
}

#[test]
fn a_calendar_goes_by_local_time_and_is_told_by_check() {
    let mut host = Host::new("calendar");
    // 5 h 30 m east of Greenwich.
    host.set_env("TZ", "XST-5:30");
    job(&host, "noon", "schedule = '0 12 * * *'");
    job(&host, "never", "schedule = '0 12 32 * *'");
    host.start();
    let due = host
        .status("noon")
        .schedule
        .and_then(|s| s.due)
        .expect("due");
    assert!(due.ends_with("T06:30:00.000Z"), "{due}");
    let (code, out, _) = host.cli(&["check", "--config-dir", &host.path("config")]);
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains("never.toml:3:12: `schedule` is `0 12 32 * *`: the day"),
        "{out}"
    );
    assert!(
        out.contains("noon.toml: due 20") && out.matches(" 12:00").count() == 3,
        "{out}"
    );
    // A new one is in force at once.
    job(&host, "noon", "schedule = '0 0 * * *'");
    host.undefine("never");
    host.call("system.reload", &json!({}));
    let due = host
        .status("noon")
        .schedule
        .and_then(|s| s.due)
        .expect("due");
    assert!(due.ends_with("T18:30:00.000Z"), "{due}");
}

/// The next boot: what outlives the daemon only is gone.
fn off(host: &mut Host) {
    host.call("system.shutdown", &json!({}));
    host.ended();
    fs::remove_dir_all(host.path("run")).expect("remove");
}

#[test]
fn what_was_missed_while_the_host_was_off_is_made_up_for_once() {
    let mut host = Host::new("catch-up");
    // Due an hour from now at the latest, and never within this test: the hour before this one, twice a day.
    let hour = (wall_ms() / 3_600_000 + 22) % 24;
    host.set_env("TZ", "UTC0");
    let calendar = format!("schedule = '0 {hour} * * *'");
    job(&host, "made-up", &format!("{calendar}\ncatch_up = true"));
    job(&host, "left-out", &calendar);
    host.start();
    // What is new has missed nothing; from when on it counts is on disk.
    until("it is on disk", || {
        let loaded = state::load(host.path("state").as_ref());
        loaded
            .wanted
            .iter()
            .any(|w| &*w.name == "made-up" && w.since_ms.is_some())
    });
    off(&mut host);
    host.start();
    assert_eq!(
        (host.status("made-up").run, host.status("left-out").run),
        (0, 0)
    );
    off(&mut host);
    // As if the host had been off for a day.
    for name in ["made-up", "left-out"] {
        let record = WantedRecord {
            name: name.into(),
            wanted: "start".into(),
            since_ms: Some(wall_ms() - 24 * 3_600_000),
            ..WantedRecord::default()
        };
        let mut line = Vec::new();
        state::encode(&mut line, &record).expect("a line");
        let dir = host.path("state");
        state::Writer::new(dir.as_ref())
            .append(&line)
            .expect("append");
    }
    host.start();
    until("made up", || runs(&host, "made-up") == 1);
    let story = host.why("made-up").story;
    let told = story
        .iter()
        .find(|line| line.kind == "timer")
        .expect("told");
    assert_eq!(told.to, "made up");
    assert!(told.detail.starts_with("missed "), "{}", told.detail);
    host.until("made-up", "done", |s| s.state == "exited");
    off(&mut host);
    host.start();
    host.until("made-up", "rests", |s| s.state == "inactive");
    host.kill();
    host.start();
    assert_eq!((runs(&host, "made-up"), runs(&host, "left-out")), (1, 0));
}

/// When something is due is so for the next execution, too: no interval begins anew, none is skipped.
#[test]
fn an_upgrade_and_a_panic_move_no_timer() {
    let mut host = Host::new("schedule-upgrade");
    host.set_env("TZ", "UTC0");
    host.set_env("VITALD_TEST_PANIC", "1");
    job(&host, "tick", "every = '1s'");
    job(&host, "hourly", "every = '1h'");
    let hour = (wall_ms() / 3_600_000 + 12) % 24;
    job(&host, "daily", &format!("schedule = '0 {hour} * * *'"));
    host.start();
    let due = |host: &Host| {
        ["hourly", "daily"].map(|name| {
            let due = host.status(name).schedule.and_then(|s| s.due);
            let due = humantime::parse_rfc3339(&due.expect("due")).expect("a time");
            due.duration_since(UNIX_EPOCH)
                .expect("after 1970")
                .as_secs_f64()
        })
    };
    let before = due(&host);
    let stands = |host: &Host| {
        for (now, before) in due(host).iter().zip(before) {
            assert!((now - before).abs() < 1.0, "{now} {before}");
        }
        let ran = runs(host, "tick");
        until("the short one goes on", || runs(host, "tick") > ran);
    };
    until("one run", || runs(&host, "tick") >= 1);
    upgrade(&host);
    stands(&host);
    if can_panic() {
        panic(&host, 1);
        stands(&host);
    }
    assert_eq!((runs(&host, "hourly"), runs(&host, "daily")), (0, 0));
}
