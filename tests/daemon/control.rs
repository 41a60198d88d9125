//! The control socket of a real daemon: both tongues, every verb, who may do what, and what a
//! subscriber sees.

use super::client::Client;
use super::host::{Host, alive, binary, is_up, root, send, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::time::Duration;
use vitald::control::verbs::VERBS;
use vitald::engine::status::HoldStatus;

const SLEEPER: &str = "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 0\n";

/// A host with a service of one probe, a plain one and a stopped one.
fn three(test: &str) -> Host {
    let mut host = Host::new(test);
    let server = host.server("web");
    host.define("web", &(server.exec() + &server.probe("")));
    host.define("db", SLEEPER);
    host.define("off", SLEEPER);
    host.start();
    host.up("web");
    host.up("db");
    host.wait("stop", "off");
    host
}

/// Conformance 36: what the specification's examples say, over the socket.
#[test]
fn json_rpc_is_answered_as_the_specification_says() {
    let host = three("rpc");
    let mut client = host.client();
    let mut answer = |line: &str| -> Value {
        client.put(line);
        client.json()
    };
    for (line, code, id) in [
        (
            r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar"#,
            -32700,
            json!(null),
        ),
        (
            r#"[{"jsonrpc": "2.0", "method": "system.ping", "id": 1},"#,
            -32700,
            json!(null),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#,
            -32600,
            json!(null),
        ),
        (
            r#"{"jsonrpc": "1.0", "method": "system.ping", "id": 5}"#,
            -32600,
            json!(5),
        ),
        ("[]", -32600, json!(null)),
        (
            r#"{"jsonrpc": "2.0", "method": "service.explode", "id": "x"}"#,
            -32601,
            json!("x"),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "service.why", "id": 6}"#,
            -32602,
            json!(6),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "service.why", "params": {"nam": "web"}, "id": 7}"#,
            -32602,
            json!(7),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "service.why", "params": [1], "id": 8}"#,
            -32602,
            json!(8),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "service.why", "params": ["nobody"], "id": 9}"#,
            -32000,
            json!(9),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "service.signal", "params": ["db", "SIGNO"], "id": 10}"#,
            -32004,
            json!(10),
        ),
        (
            r#"{"jsonrpc": "2.0", "method": "service.signal", "params": ["off", "HUP"], "id": 11}"#,
            -32003,
            json!(11),
        ),
    ] {
        let answer = answer(line);
        assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
        assert_eq!(
            (&answer["error"]["code"], &answer["id"]),
            (&json!(code), &id),
            "{line}"
        );
        assert!(answer["error"]["message"].is_string() && answer.get("result").is_none());
    }
    // Ids of every kind come back as they were; params by name and by position.
    for id in [
        json!(0),
        json!(-1.5),
        json!("a\"b"),
        json!(null),
        json!(9_007_199_254_740_993i64),
    ] {
        let by_name = json!({"jsonrpc": "2.0", "id": id, "method": "service.status", "params": {"name": "db"}});
        let by_place =
            json!({"jsonrpc": "2.0", "id": id, "method": "service.status", "params": ["db"]});
        for request in [by_name, by_place] {
            let answer = answer(&request.to_string());
            assert_eq!(
                (&answer["id"], &answer["result"]["name"]),
                (&id, &json!("db"))
            );
        }
    }
}

/// Conformance 36: a notification does what it says and is not answered, whatever is wrong with
/// it; a batch is answered by one array of as many as had ids, in one line.
#[test]
fn notifications_are_silent_and_batches_are_arrays() {
    let host = three("batch");
    let mut client = host.client();
    client.put(r#"{"jsonrpc": "2.0", "method": "service.stop", "params": ["db"]}"#);
    client.put(r#"{"jsonrpc": "2.0", "method": "no.such.method"}"#);
    client.put(r#"{"jsonrpc": "2.0", "method": "service.why", "params": [1, 2, 3]}"#);
    client.put(r#"[{"jsonrpc": "2.0", "method": "system.ping"}]"#);
    // Blank lines are ignored.
    client.put("\n  \n\r");
    client.put(
        r#"[{"jsonrpc": "2.0", "method": "service.start", "params": {"name": "off", "wait": true}, "id": "slow"},
            {"jsonrpc": "2.0", "method": "system.ping", "id": 1},
            {"jsonrpc": "2.0", "method": "service.reset", "params": ["web"]},
            {"foo": "boo"}, 7,
            {"jsonrpc": "2.0", "method": "foo.get", "id": "5"}]"#
            .replace('\n', " ")
            .as_str(),
    );
    let answer = client.json();
    let answers = answer
        .as_array()
        .unwrap_or_else(|| panic!("no array: {answer}"));
    assert_eq!(answers.len(), 5, "{answer}");
    let of = |id: Value| {
        answers
            .iter()
            .find(|answer| answer["id"] == id)
            .expect("an answer")
    };
    assert_eq!(of(json!("slow"))["result"]["durable"], true);
    assert_eq!(of(json!(1))["result"]["pid"], host.pid());
    assert_eq!(of(json!("5"))["error"]["code"], -32601);
    let invalid = answers.iter().filter(|a| a["error"]["code"] == -32600);
    assert_eq!(invalid.count(), 2);
    // `--wait` was waited for, and the notification was obeyed.
    assert!(is_up(&host.status("off")));
    host.until("db", "stopped", |s| {
        s.state == "inactive" && s.wanted == "stop"
    });
}

/// Issue: for `nc` and scripts. Both tongues on one connection, each line by itself; half a line
/// is waited for; what was asked before the client's half-close is answered.
#[test]
fn both_tongues_share_one_socket() {
    let host = three("tongues");
    let mut client = host.client();
    let lines = client.words("status web");
    assert!(lines[0].contains("web: running"), "{lines:?}");
    assert_eq!(lines.last().expect("lines"), "ok");
    let pong = client.call("system.ping", &json!({})).expect("pong");
    assert_eq!(pong["pid"], host.pid());
    let lines = client.words("restart nobody");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("error: no service `nobody`"),
        "{lines:?}"
    );
    let lines = client.words("satus");
    assert!(lines[0].contains("did you mean `status`?"), "{lines:?}");
    client.stream().write_all(b"pi").expect("send");
    let mut other = host.client();
    assert_eq!(other.words("ping").last().expect("lines"), "ok");
    client
        .stream()
        .write_all(b"ng\nrestart 'db' --wait\nhelp restart\n")
        .expect("send");
    client
        .stream()
        .shutdown(Shutdown::Write)
        .expect("half-close");
    let mut text = String::new();
    while let Some(line) = client.line() {
        text += &(line + "\n");
    }
    assert_eq!(
        text.lines().filter(|line| *line == "ok").count(),
        3,
        "{text}"
    );
    assert!(text.contains("--wait"), "{text}");
    assert_eq!(host.status("db").run, 2);
}

/// Every verb of the table by words, by the command line, and by the command line's JSON. What
/// this does not name is not in the table.
#[test]
fn every_verb_works_in_every_way() {
    let host = three("verbs");
    let definition = r#"{"exec":["sleep","1000"],"autostart":false}"#;
    for verb in VERBS {
        let arguments: &[&str] = match verb.words {
            "list" | "status" | "history" | "info" | "ping" | "discover" => &[],
            "release" | "reload" | "graph" | "blame" | "dossier list" => &[],
            "why" | "logs" | "probe run" => &["web"],
            "start" | "stop" | "once" | "restart" => &["db", "--wait"],
            "reset" | "pin" | "unpin" => &["db"],
            // Nothing hears it.
            "signal" => &["web", "CONT"],
            "set" => &["given", definition],
            "delete" => &["given"],
            "hold" => &["--for", "10m"],
            "policy simulate" => &["web", "at 30s hang; for 1h"],
            // Shown by tests of their own.
            "events" | "confirm" | "revert" | "shutdown" | "upgrade" | "poweroff" | "reboot"
            | "alert test" | "dossier show" | "halt" => continue,
            other => panic!("what shall `{other}` be tried with?"),
        };
        let words: Vec<&str> = verb.words.split(' ').chain(arguments.to_owned()).collect();
        let ready = || {
            if verb.words == "delete" {
                let given = json!({"name": "given", "definition": definition});
                host.call("service.set", &given);
            }
        };
        ready();
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let lines = host.client().words(&quoted.join(" "));
        assert_eq!(lines.last().expect("lines"), "ok", "{words:?}: {lines:?}");
        ready();
        let (code, out, err) = host.cli(&words);
        assert_eq!((code, err.as_str()), (0, ""), "{words:?}: {out}");
        assert!(!out.is_empty() || verb.words == "logs", "{words:?}");
        ready();
        let with_json: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let (code, out, err) = host.cli(&with_json);
        assert_eq!((code, err.as_str()), (0, ""), "{with_json:?}");
        let value: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{out}: {e}"));
        assert!(value.is_object() || value.is_array(), "{value}");
        if verb.words == "stop" {
            assert_eq!(host.status("db").pid, None);
            host.wait("start", "db");
        }
    }
    // The interface describes itself: each method is there, and can be called.
    let document = host.call("rpc.discover", &json!({}));
    let methods: Vec<&str> = document["methods"]
        .as_array()
        .expect("methods")
        .iter()
        .filter_map(|method| method["name"].as_str())
        .collect();
    for verb in VERBS {
        assert!(methods.contains(&verb.method), "{methods:?}");
    }
    assert!(
        host.call("service.history", &json!({"limit": 3}))
            .as_array()
            .expect("lines")
            .len()
            == 3
    );
}

/// The table of exit codes.
#[test]
fn exit_codes_tell_scripts_how_it_is() {
    let mut host = three("exits");
    let server = host.server("ill");
    let never = "[retry_policy]\nmax_attempts = 0\n";
    let text = format!("{}{never}{}", server.exec(), server.probe(""));
    host.define("ill", &text);
    host.define("done", "kind = 'oneshot'\nexec = ['true']\n");
    host.call("system.reload", &json!({}));
    host.until("done", "done", |s| s.state == "exited");
    for (arguments, expected) in [
        (&["status", "web"][..], 0),
        (&["status", "done"], 0),
        (&["status", "off"], 3),
        (&["status", "nobody"], 4),
        (&["stop", "nobody"], 4),
        (&["status"], 0),
        (&["probe", "run", "web"], 0),
        (&["signal", "off", "HUP"], 1),
        (&["no-such-verb"], 2),
        (&["status", "--no-such-option"], 2),
        (&["start"], 2),
    ] {
        let (code, out, err) = host.cli(arguments);
        assert_eq!(code, expected, "{arguments:?}: {out}{err}");
        assert_eq!(
            err.is_empty(),
            expected == 0 || !out.is_empty(),
            "{arguments:?}"
        );
    }
    host.up("ill");
    server.tell(1, "status 503 Service Unavailable");
    host.until("ill", "degraded", |s| {
        s.health.as_deref() == Some("unhealthy")
    });
    let (code, out, _) = host.cli(&["status", "ill"]);
    assert_eq!(code, 5, "{out}");
    host.kill();
    assert_eq!(host.cli(&["status", "web"]).0, 3);
    host.start();
}

/// `--wait` answers when it is so; without it the answer is at once.
#[test]
fn wait_answers_when_the_work_has_ended() {
    let mut host = Host::new("wait");
    let go = host.path("go");
    let text = "exec = ['sh', '-c', '''trap \"while ! test -e GO; do sleep 0.02; done; exit\" TERM; \
                echo ready; while :; do sleep 0.02; done''']\nstop_timeout_ms = 3600000\n";
    host.define("slow", &text.replace("GO", &go));
    host.start();
    let pid = host.up("slow").pid.expect("a pid");
    host.line("slow", "it has its trap", |line| line == "ready");
    let mut waiting = host.client();
    let asked = waiting.ask("service.stop", &json!({"name": "slow", "wait": true}));
    // Whoever does not wait is answered before it.
    let answer = host.call("service.stop", &json!({"name": "slow"}));
    assert_eq!(answer["durable"], true);
    assert_eq!(host.status("slow").state, "stopping");
    fs::write(&go, "").expect("write");
    let (id, result) = waiting.answer().expect("an answer");
    assert!(id == asked && result.is_ok());
    assert!(!alive(pid));
    // A start that fails is said to who waits.
    host.define("bad", "exec = ['/no/such/program']\nautostart = false\n");
    host.call("system.reload", &json!({}));
    let (code, _, err) = host.cli(&["start", "bad", "--wait"]);
    assert_eq!(code, 1);
    assert!(err.contains("No such file or directory (2)"), "{err}");
}

/// Design §2.2: a hold has an owner and may have an end; it stops automatic restarts only, and
/// survives `kill -9`.
#[test]
fn a_hold_shows_its_owner_and_outlives_the_daemon() {
    let mut host = three("hold");
    let (code, out, _) = host.cli(&["hold", "--for", "1h"]);
    assert_eq!(code, 0, "{out}");
    let before = host.daemon().hold.expect("a hold");
    assert_eq!(before.owner, "root");
    let left = before.ends_in_ms.expect("an end");
    assert!(left <= 3_600_000, "{left}");
    for verb in ["info", "status"] {
        let (_, out, _) = host.cli(&[verb]);
        assert!(out.to_lowercase().contains("hold by root"), "{out}");
    }
    host.kill();
    host.start();
    let after = host.daemon().hold.expect("still held");
    assert_eq!(after.owner, before.owner);
    // Kept on the monotonic clock: told as wall time by another process it may be a little off.
    let at = |hold: &HoldStatus| humantime::parse_rfc3339(&hold.since).expect("a time");
    let off = match at(&after).duration_since(at(&before)) {
        Ok(later) => later,
        Err(earlier) => earlier.duration(),
    };
    assert!(off < Duration::from_secs(1), "{before:?} {after:?}");
    assert!(after.ends_in_ms.expect("an end") <= left);
    send(host.up("db").pid.expect("a pid"), Signal::SIGKILL);
    host.until("db", "held", |s| {
        s.state == "backoff" && s.detail.as_deref() == Some("held")
    });
    // An operator's verb is no automatic restart.
    host.wait("restart", "web");
    let mut events = host.events(&[]);
    host.call("system.release", &json!({}));
    events.event("it is told", |e| e.kind == "hold" && e.to == "released");
    host.up_again("db", 2);
    assert_eq!(host.daemon().hold, None);
    // One with an end ends by itself.
    host.call("system.hold", &json!({"for_ms": 100}));
    until("its end", || host.daemon().hold.is_none());
}

/// The issue's heart, as a subscriber sees it: down, unhealthy, allowed, stopping, started, up,
/// healthy, in this order and with the reasons; then the same story by `why` and `history`.
#[test]
fn a_subscriber_sees_a_whole_heal() {
    let mut host = Host::new("heal");
    let server = host.server("web");
    let quick = "[retry_policy]\ndelay_ms = 10\n";
    host.define(
        "web",
        &format!("{}{quick}{}", server.exec(), server.probe("")),
    );
    host.define("db", SLEEPER);
    host.start();
    host.up("web");
    host.up("db");
    let mut events = host.events(&["web"]);
    let mut words = Command::new(binary());
    words
        .env_clear()
        .env("VITALD_SOCKET", host.socket())
        .args(["events", "-k", "state"]);
    let mut words = words.stdout(Stdio::piped()).spawn().expect("start");
    let mut shown = BufReader::new(words.stdout.take().expect("stdout"));
    // It subscribes at a time of its own: until then `db` is restarted.
    std::thread::scope(|scope| {
        let mut line = String::new();
        let shown = &mut shown;
        let reader = scope.spawn(move || shown.read_line(&mut line).map(|_| line));
        while !reader.is_finished() {
            host.wait("restart", "db");
        }
        let line = reader.join().expect("a line").expect("a line");
        assert!(line.contains("db"), "{line}");
    });
    server.tell(1, "mute");
    let mut last = 0;
    for (kind, from, to, cause) in [
        ("probe", "", "down", ""),
        ("health", "healthy", "unhealthy", ""),
        ("decision", "", "allowed", "unhealthy"),
        ("state", "running", "stopping", "unhealthy"),
        ("state", "stopping", "backoff", "unhealthy"),
        ("state", "backoff", "starting", "unhealthy"),
        ("probe", "", "up", ""),
        ("health", "unknown", "healthy", ""),
        ("state", "starting", "running", "unhealthy"),
    ] {
        let event = events.event(&format!("{kind} {from} -> {to}"), |event| {
            assert_eq!(event.service, "web", "only what was subscribed to");
            event.kind == kind && event.to == to && (from.is_empty() || event.from == from)
        });
        assert!(event.seq > last, "{event:?}");
        last = event.seq;
        assert!(cause.is_empty() || event.cause == cause, "{event:?}");
        assert!(
            event.time.ends_with('Z') && event.time.len() >= 20,
            "{event:?}"
        );
        let run = if event.cause == "unhealthy" && event.to == "starting" {
            2
        } else {
            event.run
        };
        assert!(matches!(run, 1 | 2), "{event:?}");
    }
    let mut line = String::new();
    while !(line.contains("web") && line.contains("running") && line.contains("starting")) {
        line.clear();
        assert!(
            shown.read_line(&mut line).expect("a line") > 0,
            "the events ended"
        );
    }
    words.kill().expect("kill");
    words.wait().expect("wait");
    let story = host.why("web").story;
    assert!(
        story.windows(2).all(|pair| pair[0].seq < pair[1].seq),
        "{story:#?}"
    );
    let history = host.call("service.history", &json!({"name": "web", "limit": 1000}));
    let seqs = |lines: &Value| -> Vec<u64> {
        lines
            .as_array()
            .expect("lines")
            .iter()
            .filter_map(|line| line["seq"].as_u64())
            .collect()
    };
    assert!(seqs(&history).contains(&last), "{history}");
}

/// Permissions are by SO_PEERCRED: who has no right may only learn that a daemon is here; a group
/// may look, another may act; neither may end the daemon.
#[test]
fn who_may_do_what_is_known_by_the_peer_s_credentials() {
    if !root() {
        return;
    }
    let mut host = Host::new("rights");
    let settings = "access = { \"4001\" = 'read', \"4002\" = 'act' }\n";
    fs::write(host.path("config/vitald.toml"), settings).expect("write");
    host.define("web", SLEEPER);
    host.start();
    host.up("web");
    let socket = host.socket();
    let asks = |uid: u32, gid: u32, line: &str| -> Vec<String> {
        std::thread::scope(|scope| {
            let peer = scope.spawn(|| {
                become_user(uid, gid);
                match Client::connect(&socket) {
                    Ok(mut client) => client.words(line),
                    Err(error) => vec![error.kind().to_string()],
                }
            });
            peer.join().expect("an answer")
        })
    };
    let nobody = 65_534;
    let may = |uid, gid, line: &str| {
        let lines = asks(uid, gid, line);
        let last = lines
            .last()
            .unwrap_or_else(|| panic!("no answer to {line}"));
        assert!(
            last == "ok" || last.starts_with("error: permission denied: "),
            "{line}: {lines:?}"
        );
        last == "ok"
    };
    let verbs = [
        "ping",
        "status web",
        "list",
        "logs web",
        "restart web",
        "hold",
        "release",
        "reload",
        "shutdown",
    ];
    let allowed = |uid, gid| verbs.map(|verb| may(uid, gid, verb) as u8);
    assert_eq!(allowed(nobody, nobody), [1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(allowed(nobody, 4001), [1, 1, 1, 1, 0, 0, 0, 0, 0]);
    assert_eq!(allowed(nobody, 4002), [1, 1, 1, 1, 1, 1, 1, 0, 0]);
    // A service that one may not see looks like one that is not there.
    assert_eq!(
        asks(nobody, nobody, "status web"),
        asks(nobody, nobody, "status nobody")
    );
    // Who did it is known.
    asks(nobody, 4002, "stop web");
    let status = host.until("web", "stopped", |s| s.wanted == "stop");
    assert_eq!(status.wanted_by.as_deref(), Some("uid 65534"));
    // Without grants nobody else even reaches the socket.
    host.call("system.shutdown", &json!({}));
    host.ended();
    fs::remove_file(host.path("config/vitald.toml")).expect("remove");
    host.start();
    assert_eq!(asks(nobody, 4002, "ping"), ["permission denied"]);
}

/// This thread alone becomes another user: the raw system calls do not touch the others
/// (setresuid(2), C library/kernel differences).
pub fn become_user(uid: u32, gid: u32) {
    // SAFETY: plain system calls; no group is read.
    let done = unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) == 0
            && libc::syscall(libc::SYS_setresgid, gid, gid, gid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
    };
    assert!(done, "cannot become uid {uid}");
}

/// Conformance 35, on the real daemon: what is no line of either tongue is an error or a close,
/// and others are served meanwhile.
#[test]
fn what_is_no_line_is_refused_and_others_are_served() {
    let host = three("noise");
    let mut endless = host.client();
    let flood = vec![b'x'; 1024 * 1024];
    // Cut at some point: the write fails, or the rest is never read.
    let _ = endless.stream().write_all(&flood);
    let mut said = Vec::new();
    let _ = endless.stream().read_to_end(&mut said);
    assert!(
        String::from_utf8_lossy(&said).contains("error: "),
        "{said:?}"
    );
    let mut client = host.client();
    client
        .stream()
        .write_all(b"\xff\xfe status\n")
        .expect("send");
    assert!(client.line().expect("an answer").starts_with("error: "));
    client.stream().write_all(b"status 'web\n").expect("send");
    assert!(client.line().expect("an answer").starts_with("error: "));
    assert_eq!(client.words("ping").last().expect("lines"), "ok");
    assert!(is_up(&host.status("web")));
}

/// Who came first and never stops asking leaves the others their turn.
#[test]
fn one_who_asks_without_a_pause_keeps_nobody_waiting() {
    let mut host = Host::with("control-flood", &[]);
    let ended = super::client::flood(&host.socket());
    for _ in 0..20 {
        host.call("system.ping", &json!({}));
    }
    host.kill();
    ended();
}
