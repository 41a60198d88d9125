//! Exact text. The times are counted from one moment: 2026-11-23T22:50:01.123Z.

use super::super::reply::{Done, ProbeAnswer};
use super::*;
use crate::engine::status::{
    ChainLink, DaemonStatus, DossierStatus, GateStatus, HoldStatus, LastEnd, ProbeStatus, Status,
    StoryLine, WatchdogStatus, Why,
};
use crate::engine::story::Verdict;

const NOW: Style = Style {
    terminal: false,
    colour: false,
    ascii: false,
    width: None,
    now_ms: 1_795_474_201_123,
};

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn web() -> Status {
    Status {
        name: "web".into(),
        kind: "process".into(),
        wanted: "start".into(),
        state: "running".into(),
        cause: "unhealthy".into(),
        health: text("unhealthy"),
        pid: Some(4711),
        run: 3,
        attempts: 2,
        max_attempts: Some(10),
        uptime_ms: Some(13_000),
        last_end: Some(LastEnd {
            cause: "unhealthy".into(),
            code: None,
            signal: text("SIGKILL"),
            at: "2026-11-23T22:49:48.123Z".into(),
        }),
        probes: vec![
            ProbeStatus {
                name: "http".into(),
                kind: "http".into(),
                up: Some(false),
                on_unhealthy: "restart".into(),
                streak: -3,
                outcome: text("fail"),
                reason: text("timeout"),
                latency_us: Some(5_000_412),
                output: text("HTTP/1.1 2\x1b[31m"),
                ..ProbeStatus::default()
            },
            ProbeStatus {
                name: "disk".into(),
                kind: "exec".into(),
                up: Some(true),
                on_unhealthy: "observe".into(),
                streak: 7,
                outcome: text("pass"),
                latency_us: Some(21_900),
                ..ProbeStatus::default()
            },
        ],
        gate: Some(GateStatus {
            verdict: "deferred".into(),
            reason: "stability period".into(),
            next_in_ms: Some(17_000),
        }),
        next: text("gate"),
        next_in_ms: Some(17_000),
        tree: "best effort".into(),
        source: "services/web.toml".into(),
        ..Status::default()
    }
}

fn simple(name: &str, state: &str) -> Status {
    Status {
        name: name.into(),
        kind: "process".into(),
        wanted: "start".into(),
        state: state.into(),
        max_attempts: Some(10),
        ..Status::default()
    }
}

fn every_state() -> Vec<Status> {
    vec![
        Status {
            health: text("healthy"),
            pid: Some(99),
            run: 1,
            uptime_ms: Some(93_784_000),
            probes: vec![ProbeStatus {
                name: "tcp".into(),
                up: Some(true),
                outcome: text("pass"),
                latency_us: Some(412),
                ..ProbeStatus::default()
            }],
            ..simple("database", "running")
        },
        web(),
        Status {
            attempts: 4,
            next: text("start"),
            next_in_ms: Some(7_400),
            ..simple("crashy", "backoff")
        },
        Status {
            detail: text("requires crashy"),
            ..simple("needy", "blocked")
        },
        Status {
            max_attempts: None,
            ..simple("off", "inactive")
        },
        Status {
            problem: text("services/odd.toml:7:1: unknown key\nservices/odd.toml:9:1: no exec"),
            detail: text("definition"),
            ..simple("odd", "failed")
        },
    ]
}

fn drawn(draw: impl FnOnce(&mut String)) -> String {
    let mut out = String::new();
    draw(&mut out);
    out
}

#[test]
fn the_table_is_taken_in_at_a_glance() {
    let out = drawn(|out| table(&every_state(), &NOW, out));
    assert_eq!(
        out,
        "\
\x20  NAME      STATE                 PID    UPTIME  HEALTH                        RESTARTS  NOTE
●  database  running                99  1 d 02 h  healthy, 0.4 ms                   0/10
◐  web       running (unhealthy)  4711      13 s  unhealthy, http: timeout 5 s      2/10  restart deferred: stability period, again in 17 s
◌  crashy    backoff                 -         -  -                                 4/10  start in 7.4 s
◌  needy     blocked                 -         -  -                                 0/10  requires crashy
○  off       inactive                -         -  -                                  0/∞
✗  odd       failed                  -         -  -                                    -  services/odd.toml:7:1: unknown key (and 1 more)
"
    );
}

#[test]
fn ascii_and_a_narrow_terminal_are_respected() {
    let style = Style {
        ascii: true,
        width: Some(60),
        ..NOW
    };
    let out = drawn(|out| table(&every_state(), &style, out));
    assert!(out.is_ascii(), "{out}");
    assert!(out.lines().all(|line| line.len() <= 60), "{out}");
    let signs: String = out
        .lines()
        .skip(1)
        .filter_map(|line| line.chars().next())
        .collect();
    assert_eq!(signs, "*!..-x");
}

#[test]
fn without_colour_no_escape_is_written_and_with_colour_nothing_else_changes() {
    let colour = Style {
        colour: true,
        ..NOW
    };
    let why = story_of_web();
    let plain = drawn(|out| super::why(&why, &NOW, out));
    let painted = drawn(|out| super::why(&why, &colour, out));
    assert!(!plain.contains('\x1b') && painted.contains("\x1b[33m◐\x1b[0m"));
    let mut bare = String::new();
    let mut rest = painted.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        bare.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    bare.push_str(rest);
    assert_eq!(bare, plain);
}

#[test]
fn the_overview_begins_with_the_daemon() {
    let daemon = DaemonStatus {
        version: "0.1.0".into(),
        uptime_ms: 3_720_000,
        services: 6,
        running: 2,
        degraded: 1,
        failed: 1,
        hold: Some(HoldStatus {
            owner: "root".into(),
            since: "2026-11-23T22:47:01.123Z".into(),
            ends_in_ms: Some(420_000),
            why: None,
        }),
        ..DaemonStatus::default()
    };
    let out = drawn(|out| overview(&daemon, &[], &NOW, out));
    assert_eq!(
        out,
        "\
vitald 0.1.0, up 1 h 02 m: 6 services, 2 running, 1 degraded, 1 failed
HOLD by root 3 m 00 s ago, ends in 7 m 00 s: no automatic restarts
no services; put a definition into services/NAME.toml and `reload`
"
    );
}

fn story_of_web() -> Why {
    let line =
        |time: &str, kind: &str, from: &str, to: &str, cause: &str, detail: &str| StoryLine {
            time: format!("2026-11-23T22:{time}Z"),
            service: "web".into(),
            run: 3,
            kind: kind.into(),
            from: from.into(),
            to: to.into(),
            cause: cause.into(),
            detail: detail.into(),
            ..StoryLine::default()
        };
    let timeout = "http: timeout, 3 in a row";
    let mut allowed = line(
        "49:38.123",
        "decision",
        "attempts 1/10",
        "allowed",
        "unhealthy",
        timeout,
    );
    allowed.cured = Some(false);
    let mut deferred = line(
        "50:00.500",
        "decision",
        "attempts 2/10",
        "deferred",
        "unhealthy",
        "stability period",
    );
    deferred.next = text("2026-11-23T22:50:18.123Z");
    let mut story = vec![
        line("49:38.123", "probe", "", "down", "", timeout),
        line("49:38.123", "health", "healthy", "unhealthy", "", timeout),
        allowed,
        line(
            "49:38.123",
            "state",
            "running",
            "stopping",
            "unhealthy",
            timeout,
        ),
        line(
            "49:48.123",
            "state",
            "stopping",
            "backoff",
            "exit",
            "exit code 3",
        ),
    ];
    for line in &mut story {
        line.run = 2;
    }
    story.push(line(
        "49:48.223",
        "state",
        "starting",
        "running",
        "unhealthy",
        "",
    ));
    story.push(deferred);
    Why {
        chain: Vec::new(),
        status: web(),
        story,
        next: vec!["in 17 s the gate is asked again".into()],
    }
}

#[test]
fn why_tells_the_story_on_one_screen() {
    let out = drawn(|out| super::why(&story_of_web(), &NOW, out));
    assert_eq!(
        out,
        "\
◐ web: running (unhealthy), pid 4711, run 3, up 13 s
  trouble   http: timeout, 3 in a row
  wanted    started
  because   started again after it was unhealthy
  attempts  2 of 10 used
  last end  13 s ago: signal SIGKILL, stopped, it was unhealthy
what happened (UTC)
  22:49:38    23 s  #2  health    healthy → unhealthy  http: timeout, 3 in a row
  22:49:38    23 s  #2  decision  restart allowed      http: timeout, 3 in a row; attempt 2/10; not cured
  22:49:38    23 s  #2  state     running → stopping   unhealthy
  22:49:48    13 s  #2  state     stopping → backoff   exit code 3
  22:49:48    12 s  #3  state     starting → running   unhealthy
  22:50:00  623 ms  #3  decision  restart deferred     stability period; asked again after 17 s
evidence
    http  http  down  5 s  fail: timeout, 3 in a row
    http │ HTTP/1.1 2\\u{1b}[31m
what comes next
  in 17 s the gate is asked again
"
    );
    // While it is not up again: what it was stopped for.
    let mut stopped = story_of_web();
    stopped.status.state = "backoff".into();
    (stopped.status.health, stopped.status.probes) = (None, Vec::new());
    let out = drawn(|out| super::why(&stopped, &NOW, out));
    assert_eq!(
        out.lines().nth(1),
        Some("  trouble   http: timeout, 3 in a row"),
        "{out}"
    );
    let mut missed = story_of_web();
    missed.status.probes.clear();
    missed.status.watchdog = Some(WatchdogStatus {
        reason: text("no WATCHDOG=1 for 2 s"),
        ..WatchdogStatus::default()
    });
    let out = drawn(|out| super::why(&missed, &NOW, out));
    assert!(
        out.contains("\n  trouble   watchdog: no WATCHDOG=1 for 2 s\n"),
        "{out}"
    );
    // What a probe that only observes would have had done is told once.
    let mut observed = story_of_web();
    let (down, would) = (observed.story[0].clone(), observed.story[2].clone());
    observed.story = vec![down, would];
    observed.story[1].to = Verdict::WouldRestart.word().into();
    let out = drawn(|out| super::why(&observed, &NOW, out));
    assert!(
        out.contains("would restart") && !out.contains(" probe "),
        "{out}"
    );
    let mut long = story_of_web();
    let two = [long.story[3].clone(), long.story[4].clone()];
    long.story = two.iter().cycle().take(60).cloned().collect();
    let out = drawn(|out| super::why(&long, &NOW, out));
    assert!(out.contains("  earlier: `history web`\n"), "{out}");
    assert!(out.lines().count() <= 40);
}

/// One word of the gate said again and again is one line; whose trouble it is, and what it was stuck
/// on, stand beside the story.
#[test]
fn why_tells_whose_trouble_it_is_and_what_it_was_stuck_on() {
    let mut why = story_of_web();
    let last = why.story.pop().unwrap();
    why.story = vec![last; 3];
    why.chain = vec![ChainLink {
        service: "db".into(),
        how: "its restart waits for it".into(),
        state: "running".into(),
        health: Some("unhealthy".into()),
        trouble: "tcp: timeout, 3 in a row".into(),
        stuck_on: Some("all 2 threads in D state".into()),
        dossier: Some("db-1".into()),
        next: "its restart is denied".into(),
    }];
    why.status.dossier = Some(DossierStatus {
        id: "web-1".into(),
        run: 2,
        at: String::new(),
        summary: "main thread waits in\nfutex".into(),
    });
    let mut told = why.story[0].clone();
    (told.kind, told.from, told.to) = ("dossier".into(), String::new(), "collected".into());
    told.detail = "web-1: main thread waits in futex".into();
    why.story.push(told);
    let out = drawn(|out| super::why(&why, &NOW, out));
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    let has = |line: &str| assert!(lines.contains(&line), "{line}\n{out}");
    has("db: its restart waits for it; it is running (unhealthy): tcp: timeout, 3 in a row");
    has("stuck on: all 2 threads in D state (db-1)");
    has("next: its restart is denied");
    has("run #2 was stuck on: main thread waits in futex");
    has("`dossier show web-1`");
    let decided = lines.iter().filter(|line| line.contains("decision"));
    assert_eq!(decided.count(), 1, "{out}");
    assert!(
        out.contains("stability period (3 times); asked again after 17 s"),
        "{out}"
    );
    let dossier = lines
        .iter()
        .find(|line| line.contains("dossier   collected"));
    assert!(dossier.is_some_and(|line| line.ends_with("web-1")), "{out}");
    let page = drawn(|out| super::page(&why.status, &NOW, out));
    assert!(
        page.contains("run #2: main thread waits in futex"),
        "{page}"
    );
}

#[test]
fn history_names_the_service_and_the_day_when_it_is_another() {
    let mut lines = story_of_web().story.split_off(4);
    lines[0].time = "2026-11-21T09:00:00.000Z".into();
    let out = drawn(|out| story(&lines[..2], &NOW, out));
    assert_eq!(
        out,
        "\
TIME (UTC)           AGO  RUN  SERVICE  ABOUT  WHAT                REASON
11-21 09:00:00  2 d 13 h   #2  web      state  stopping → backoff  exit code 3
22:49:48            12 s   #3  web      state  starting → running  unhealthy
"
    );
}

#[test]
fn what_a_verb_did_shows_what_probes_answered() {
    let done = Done {
        note: "asked 2 probes".into(),
        probes: Some(vec![
            ProbeAnswer {
                name: "http".into(),
                outcome: "pass".into(),
                latency_us: 1_234,
                ..ProbeAnswer::default()
            },
            ProbeAnswer {
                name: "queue".into(),
                outcome: "fail".into(),
                reason: text("exit code 2"),
                latency_us: 31_000,
                output: "too long\r\n2\n3\n4\n\n5\n6\n".into(),
            },
        ]),
        ..Done::default()
    };
    assert_eq!(
        drawn(|out| super::done(&done, &NOW, out)),
        "\
asked 2 probes
http   pass  1.2 ms
queue  fail   31 ms  exit code 2
    queue │ too long
    queue │ 2
    queue │ 3
    queue │ 4
    queue │ 5
    queue │ ...
"
    );
}

#[test]
fn nothing_from_outside_moves_the_cursor() {
    assert_eq!(
        log_line("\x1b[1;31mred\x1b[m\t\x1b]0;x\x07 \x1b[2J\0\x1b["),
        "\x1b[1;31mred\x1b[m\t\\u{1b}]0;x\\u{7} \\u{1b}[2J\\u{0}\\u{1b}["
    );
    assert_eq!(clean("a\nb\tc\r"), "a b c ");
    assert_eq!(clean("\x1b]0;x\x07\u{9b}"), "\\u{1b}]0;x\\u{7}\\u{9b}");
    assert_eq!(clean("a\u{202e}b\u{2066}"), "a\\u{202e}b\\u{2066}");
}

#[test]
fn a_page_says_all_of_one_service() {
    let status = Status {
        description: text("the shop's front"),
        wanted_by: text("root"),
        wanted_at: text("2026-11-23T20:50:01.123Z"),
        detail: text("held"),
        ..web()
    };
    assert_eq!(
        drawn(|out| page(&status, &NOW, out)),
        "\
◐ web: running (unhealthy), pid 4711, run 3, up 13 s
  about     the shop's front
  wanted    started, by root 2 h 00 m ago
  because   started again after it was unhealthy
  detail    held
  attempts  2 of 10 used
  health    unhealthy
  restart   deferred: stability period; asked again in 17 s
  last end  13 s ago: signal SIGKILL, stopped, it was unhealthy
  kind      process
  tree      best effort
  source    services/web.toml
  probes
    http  http  down    5 s  fail: timeout, 3 in a row
    disk  exec  up    21 ms  pass, 7 in a row; observing only
    http │ HTTP/1.1 2\\u{1b}[31m
"
    );
    assert_eq!(
        drawn(|out| super::daemon(
            &DaemonStatus {
                pid: 7,
                ..DaemonStatus::default()
            },
            &NOW,
            out
        )),
        "\
vitald    , pid 7, up 0 ms
services  0: 0 running, 0 degraded, 0 failed
loop      never late
dropped   0 events of runs that were over
"
    );
}
