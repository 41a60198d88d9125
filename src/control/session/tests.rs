//! The conversation as a client sees it. Conformance 36 is the specification's examples below.

mod bounds;
mod dossiers;

use super::super::access::{Access, Grant, Level, Rights, Who};
use super::super::fake::FakeHouse;
use super::super::log_lines::LogLine;
use super::super::rpc::code;
use super::super::stream::Publication;
use super::super::verbs::{Kind, VERBS, Verb};
use super::*;
use crate::config::Severity;
use crate::engine::effect::{Accepted, Refusal};
use crate::engine::event::Command;
use crate::engine::status::StoryLine;
use crate::id::ServiceId;
use crate::time::Time;
use serde_json::{Value, json};

struct Talk {
    session: Session,
    house: FakeHouse,
    errands: Vec<Errand>,
}

impl Talk {
    fn new() -> Talk {
        Talk::with(Access::all())
    }
    fn with(access: Access) -> Talk {
        Talk {
            session: Session::new(3, access, "root".into()),
            house: FakeHouse::small(),
            errands: Vec::new(),
        }
    }
    fn work(&mut self) {
        let desk = Desk {
            house: &self.house,
            wall: Wall {
                now: Time::ZERO,
                wall_ms: 1_795_474_081_123,
            },
        };
        let mut budget = usize::MAX;
        self.session.work(&desk, &mut self.errands, &mut budget);
    }
    fn feed(&mut self, bytes: impl AsRef<[u8]>) {
        self.session.feed(bytes.as_ref());
        self.work();
    }
    /// All that waits to be sent.
    fn out(&mut self) -> String {
        let text = String::from_utf8_lossy(self.session.output()).into_owned();
        self.session.consume(usize::MAX / 2);
        text
    }
    fn say(&mut self, line: &str) -> String {
        self.feed(format!("{line}\n"));
        self.out()
    }
    fn ask(&mut self, line: &str) -> Value {
        let answer = self.say(line);
        assert_eq!(answer.matches('\n').count(), 1, "{answer:?}");
        serde_json::from_str(&answer).unwrap()
    }
    fn ticket(&self, at: usize) -> Ticket {
        match &self.errands[at] {
            Errand::Request(request) => request.ticket,
            Errand::Reload { ticket, .. }
            | Errand::Logs { ticket, .. }
            | Errand::Upgrade { ticket, .. }
            | Errand::End { ticket, .. }
            | Errand::Dossiers { ticket, .. }
            | Errand::Simulate { ticket, .. } => *ticket,
        }
    }
    fn accept(&mut self, at: usize, note: &str) {
        let accepted = Accepted {
            note: note.into(),
            ..Accepted::default()
        };
        self.session.answer(self.ticket(at), &Ok(accepted));
        self.work();
    }
}

fn error(code: i32, id: Value) -> impl Fn(&Value) -> bool {
    move |answer| {
        answer["error"]["code"] == code
            && answer["id"] == id
            && answer["jsonrpc"] == "2.0"
            && answer.get("result").is_none()
    }
}

fn call(method: &str, params: &str, id: &str) -> String {
    format!(r#"{{"jsonrpc": "2.0", "method": "{method}", "params": {params}, "id": {id}}}"#)
}

// The specification's section 7, example by example, with our methods in place of its own.

#[test]
fn conformance_36_params_by_position_and_by_name_in_any_order() {
    let mut talk = Talk::new();
    for (params, id) in [
        (r#"["web", 5]"#, "1"),
        (r#"["web", 5]"#, "2"),
        (r#"{"name": "web", "limit": 5}"#, "3"),
        (r#"{"limit": 5, "name": "web"}"#, "4"),
    ] {
        let answer = talk.ask(&call("service.history", params, id));
        assert_eq!(answer["id"].to_string(), id);
        assert_eq!(answer["result"][0]["service"], "web");
    }
}

#[test]
fn conformance_36_notifications_are_not_answered_whatever_is_wrong_with_them() {
    let mut talk = Talk::new();
    for line in [
        r#"{"jsonrpc": "2.0", "method": "service.history", "params": [1,2,3,4,5]}"#,
        r#"{"jsonrpc": "2.0", "method": "foobar"}"#,
        r#"{"jsonrpc": "2.0", "method": "service.status", "params": ["nope"]}"#,
        r#"{"jsonrpc": "2.0", "method": "service.stop", "params": ["web"]}"#,
    ] {
        assert_eq!(talk.say(line), "", "{line}");
    }
    assert_eq!(
        talk.errands.len(),
        1,
        "the stop is carried out all the same"
    );
    talk.accept(0, "");
    assert_eq!(talk.out(), "");
}

#[test]
fn conformance_36_errors_of_single_calls() {
    let mut talk = Talk::new();
    let unknown = talk.ask(r#"{"jsonrpc": "2.0", "method": "foobar", "id": "1"}"#);
    assert!(error(code::UNKNOWN_METHOD, json!("1"))(&unknown));
    for (line, code) in [
        (
            r#"{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]"#,
            code::PARSE,
        ),
        (
            r#"{"jsonrpc": "2.0", "method": 1, "params": "bar"}"#,
            code::INVALID_REQUEST,
        ),
        (
            r#"[{"jsonrpc": "2.0", "method": "system.ping", "id": "1"}, {"jsonrpc": "2.0", "method" ]"#,
            code::PARSE,
        ),
        ("[]", code::INVALID_REQUEST),
    ] {
        let answer = talk.ask(line);
        assert!(error(code, Value::Null)(&answer), "{line}: {answer}");
    }
    let params = talk.ask(&call("service.status", r#"{"nam": "web"}"#, "5"));
    assert!(error(code::BAD_PARAMS, json!(5))(&params));
}

#[test]
fn conformance_36_batches() {
    let mut talk = Talk::new();
    let invalid = error(code::INVALID_REQUEST, Value::Null);
    let answers = talk.ask("[1]");
    assert!(
        answers
            .as_array()
            .is_some_and(|all| all.len() == 1 && all.iter().all(&invalid))
    );
    let answers = talk.ask("[1,2,3]");
    assert!(
        answers
            .as_array()
            .is_some_and(|all| all.len() == 3 && all.iter().all(&invalid))
    );

    let answers = talk.ask(
        r#"[
        {"jsonrpc": "2.0", "method": "system.ping", "params": [], "id": "1"},
        {"jsonrpc": "2.0", "method": "system.ping", "params": []},
        {"jsonrpc": "2.0", "method": "service.status", "params": ["web"], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "service.list", "id": "9"}
        ]"#
        .replace('\n', " ")
        .as_str(),
    );
    let all = answers.as_array().unwrap();
    assert_eq!(all.len(), 5);
    assert_eq!(all[0]["result"]["pid"], 77);
    assert_eq!(all[1]["result"]["name"], "web");
    assert!(invalid(&all[2]));
    assert!(error(code::UNKNOWN_METHOD, json!("5"))(&all[3]));
    assert_eq!(all[4]["result"].as_array().map(Vec::len), Some(2));

    let silent =
        r#"[{"jsonrpc": "2.0", "method": "system.ping"}, {"jsonrpc": "2.0", "method": "x"}]"#;
    assert_eq!(talk.say(silent), "");
}

#[test]
fn a_batch_is_answered_as_one_array_when_its_last_answer_is_there() {
    let mut talk = Talk::new();
    let stop = |name: &str, id: &str| call("service.stop", &format!("[\"{name}\"]"), id);
    let line = format!(
        "[{},{},{}]",
        stop("web", "1"),
        call("system.ping", "[]", "2"),
        stop("db", "3")
    );
    assert_eq!(talk.say(&line), "");
    talk.accept(1, "db stops");
    assert_eq!(talk.out(), "");
    assert_eq!(
        talk.ask(&call("system.ping", "[]", "4"))["id"],
        4,
        "others go on meanwhile"
    );
    talk.accept(0, "web stops");
    let answers: Value = serde_json::from_str(&talk.out()).unwrap();
    let ids: Vec<i64> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids, [2, 3, 1]);
    assert_eq!(answers[1]["result"]["note"], "db stops");
}

#[test]
fn commands_carry_actor_time_and_wait_and_are_answered_by_ticket() {
    let mut talk = Talk::new();
    let line = call(
        "service.restart",
        r#"{"name": "web", "wait": true}"#,
        "\"a\"",
    );
    assert_eq!(talk.say(&line), "");
    let Errand::Request(request) = &talk.errands[0] else {
        panic!("no request");
    };
    assert_eq!(client_of(request.ticket), 3);
    assert_eq!((&*request.actor, request.wait), ("root", true));
    assert_eq!(request.wall_ms, 1_795_474_081_123);
    assert_eq!(
        request.command,
        Command::Restart {
            service: ServiceId(1)
        }
    );
    let refusal = Refusal::new(code::SHUTTING_DOWN, "shutting down");
    let ticket = request.ticket;
    talk.session
        .answer(Ticket(ticket.0 + 1), &Ok(Accepted::default()));
    assert_eq!(talk.out(), "", "a ticket that is not ours is no answer");
    talk.session.answer(ticket, &Err(refusal));
    let answer: Value = serde_json::from_str(&talk.out()).unwrap();
    assert!(error(code::SHUTTING_DOWN, json!("a"))(&answer));
    talk.session.answer(ticket, &Ok(Accepted::default()));
    assert_eq!(talk.out(), "", "one request, one answer");
}

#[test]
fn durability_is_told_in_both_tongues() {
    let mut talk = Talk::new();
    talk.say("stop web");
    let accepted = Accepted {
        note: "web: stopping".into(),
        durable: Some(Err("No space left on device (28)".into())),
        ..Accepted::default()
    };
    talk.session.answer(talk.ticket(0), &Ok(accepted.clone()));
    assert_eq!(
        talk.out(),
        "web: stopping\nnot yet on disk: No space left on device (28); it holds until this boot \
         ends\nok\n"
    );
    talk.say(&call("service.stop", r#"["web"]"#, "1"));
    talk.session.answer(talk.ticket(1), &Ok(accepted));
    let answer: Value = serde_json::from_str(&talk.out()).unwrap();
    assert_eq!(answer["result"]["durable"], false);
    assert_eq!(
        answer["result"]["durable_error"],
        "No space left on device (28)"
    );
}

#[test]
fn words_are_answered_in_order_each_closed_by_a_verdict() {
    let mut talk = Talk::new();
    talk.feed("stop web\nping\r\n\n   \nnonsense\n");
    assert_eq!(talk.out(), "", "nothing overtakes the stop");
    talk.accept(0, "web: stopping");
    assert_eq!(
        talk.out(),
        "web: stopping\nok\nvitald 0.1.0 here, pid 77\nok\nerror: unknown verb `nonsense`; `help` \
         lists them\n"
    );
    assert!(
        talk.say("status wbe")
            .starts_with("error: no service `wbe`; did you mean `web`?")
    );
    assert!(talk.say("help").ends_with("\nok\n"));
    assert!(talk.say("stop").contains("usage: stop NAME"));
}

#[test]
fn both_tongues_may_be_mixed_line_by_line() {
    let mut talk = Talk::new();
    let both = format!("ping\n{}\nping\n", call("system.ping", "[]", "1"));
    talk.feed(both);
    let out = talk.out();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines[1], lines[4]), ("ok", "ok"));
    assert!(lines[2].starts_with('{'), "{out}");
}

#[test]
fn the_permission_check_holds_for_every_verb() {
    let levels = [
        Level::None,
        Level::View,
        Level::Read,
        Level::Act,
        Level::Admin,
    ];
    for verb in VERBS {
        for level in levels {
            let mut talk = Talk::with(Access::only(level));
            let denied = is_denied(&talk.say(&sample_call(verb)));
            assert_eq!(denied, level < verb.access, "{} as {level:?}", verb.words);
            let asked = talk.errands.len();
            assert!(!denied || asked == 0, "{}: refused, yet done", verb.words);
        }
        // A right to one service opens no other, and nothing that is of the daemon.
        let grant = Grant {
            who: Who::Anyone,
            level: Level::Admin,
            service: Some("web".into()),
        };
        let rights = Rights {
            owner: 1,
            grants: vec![grant],
        };
        let mut talk = Talk::with(rights.of(9, &[]));
        let denied = |answer: String| is_denied(&answer);
        let names_service = verb
            .args
            .iter()
            .any(|arg| matches!(arg.kind, Kind::Service | Kind::NewService));
        if names_service {
            let line = sample_call(verb).replace("\"web\"", "\"db\"");
            assert!(denied(talk.say(&line)), "{}", verb.words);
            // Who defines what root runs is root: no right to one service is enough for that.
            let too_much = verb.access == Level::Admin;
            let answer = talk.say(&sample_call(verb));
            assert_eq!(denied(answer), too_much, "{}", verb.words);
        } else if verb.access >= Level::Act {
            assert!(denied(talk.say(&sample_call(verb))), "{}", verb.words);
        }
    }
}

/// What a service wrote is in its story for those alone who may read logs.
#[test]
fn who_may_not_read_logs_does_not_find_them_in_the_story() {
    for (level, reads) in [(Level::View, false), (Level::Read, true)] {
        let mut talk = Talk::with(Access::only(level));
        let words = talk.say("why web");
        assert!(words.ends_with("\nok\n"), "{words}");
        assert_eq!(words.contains("its last words"), reads, "{level:?}");
        let json = talk.say(&call("service.why", r#"["web"]"#, "1"));
        assert_eq!(json.contains("its last words"), reads, "{level:?}");
    }
}

#[test]
fn a_definition_is_set_in_every_form_and_refused_with_all_that_is_wrong() {
    for (line, text) in [
        (
            call(
                "service.set",
                r#"["new", {"exec": "a",  "requires": ["db"]}]"#,
                "1",
            ),
            r#"{"exec": "a",  "requires": ["db"]}"#,
        ),
        (
            call(
                "service.set",
                r#"{"name": "new", "definition": "exec = 'a'"}"#,
                "1",
            ),
            "exec = 'a'",
        ),
        (r#"set new "exec = 'a'""#.to_owned(), "exec = 'a'"),
    ] {
        let mut talk = Talk::new();
        assert_eq!(talk.say(&line), "");
        let [Errand::Request(request)] = talk.errands.as_slice() else {
            panic!("{line}");
        };
        let Command::Set(given) = &request.command else {
            panic!("{line}");
        };
        assert_eq!((&*given.name, &*given.text), ("new", text));
        assert_eq!(*given.definition.exec, ["a".into()]);
    }
    let mut talk = Talk::new();
    let said = talk.say("set new exce=1");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[0],
        "set/new.toml:1:1: unknown key `exce`: did you mean `exec`?"
    );
    assert_eq!(
        lines[2],
        "error: the definition cannot be used; nothing was changed"
    );
    let text = r#"["new", {"exec": "a", "requires": ["dbx"]}]"#;
    let answer = talk.ask(&call("service.set", text, "1"));
    assert!(error(code::CONFIG, json!(1))(&answer), "{answer}");
    assert_eq!(
        answer["error"]["message"],
        "the definition cannot be used; nothing was changed\n\
         set/new.json:1:28: `requires` names `dbx`, which is not defined: did you mean `db`?"
    );
    for (params, words) in [
        (r#"["a b", {}]"#, "the name `a b` has ` `"),
        (
            r#"["new", 5]"#,
            "`definition` must be an object, or a string",
        ),
        (r#"["new"]"#, "set needs `definition`"),
    ] {
        let answer = talk.ask(&call("service.set", params, "1"));
        assert!(error(code::BAD_PARAMS, json!(1))(&answer), "{answer}");
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.contains(words), "{said}");
    }
    let long = format!("[\"new\", \"#{}\"]", "x".repeat(limits::MAX_GIVEN_BYTES));
    let answer = talk.ask(&call("service.set", &long, "1"));
    assert!(error(code::BAD_PARAMS, json!(1))(&answer), "{answer}");
    assert!(talk.errands.is_empty());
}

fn is_denied(answer: &str) -> bool {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    answer["error"]["code"] == code::DENIED
}

/// A call of this verb that is right in every way.
fn sample_call(verb: &Verb) -> String {
    let params: Vec<String> = verb
        .args
        .iter()
        .filter(|arg| arg.required || arg.kind == Kind::Service)
        .map(|arg| match arg.kind {
            Kind::Signal => "\"signal\":\"HUP\"".to_owned(),
            Kind::Definition => "\"definition\":{\"exec\":\"x\"}".to_owned(),
            _ => format!("\"{}\":\"web\"", arg.name),
        })
        .collect();
    call(verb.method, &format!("{{{}}}", params.join(",")), "1")
}

#[test]
fn a_reader_of_one_service_sees_only_that_one() {
    let rights = Rights {
        owner: 1,
        grants: vec![Grant {
            who: Who::User(9),
            level: Level::Read,
            service: Some("web".into()),
        }],
    };
    let mut talk = Talk::with(rights.of(9, &[]));
    let names = |answer: Value| {
        answer
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(talk.ask(&call("service.list", "[]", "1"))["result"].clone()),
        ["web"]
    );
    let overview = talk.ask(&call("service.status", "[]", "1"));
    assert_eq!(names(overview["result"]["services"].clone()), ["web"]);
    let history = talk.ask(&call("service.history", "[]", "1"));
    assert_eq!(history["result"].as_array().map(Vec::len), Some(1));
    // What may not be seen and what does not exist look the same.
    let hidden = talk.say("status db");
    assert_eq!(hidden, talk.say("status nowhere"));
    talk.say(&call("events.subscribe", "{}", "1"));
    for service in ["db", "web"] {
        talk.session.publish(&event(service, "state"));
    }
    let heard = talk.out();
    assert!(heard.contains("web") && !heard.contains("db"), "{heard}");
}

fn event(service: &str, kind: &str) -> Publication {
    Publication::new(StoryLine {
        seq: 5,
        time: "2026-11-23T22:48:01.123Z".to_owned(),
        service: service.to_owned(),
        run: 2,
        kind: kind.to_owned(),
        from: "starting".to_owned(),
        to: "running".to_owned(),
        cause: "unhealthy".to_owned(),
        ..StoryLine::default()
    })
}

#[test]
fn events_come_to_who_asked_for_them_until_another_line_ends_it() {
    let mut talk = Talk::new();
    talk.session.publish(&event("web", "state"));
    assert_eq!(talk.out(), "", "nobody asked");
    assert_eq!(talk.say("events web -k state"), "");
    assert!(talk.session.listens());
    talk.session.publish(&event("web", "state"));
    talk.session.publish(&event("db", "state"));
    talk.session.publish(&event("web", "health"));
    assert_eq!(
        talk.out(),
        "2026-11-23T22:48:01.123Z web#2 state starting → running (unhealthy)\n"
    );
    assert_eq!(talk.say("ping"), "ok\nvitald 0.1.0 here, pid 77\nok\n");
    assert!(!talk.session.listens());

    let answer = talk.ask(&call("events.subscribe", r#"{"services": ["web"]}"#, "1"));
    assert_eq!(answer["result"]["subscribed"], true);
    talk.session.publish(&event("web", "health"));
    let heard: Value = serde_json::from_str(&talk.out()).unwrap();
    assert_eq!(heard["method"], "events.event");
    assert_eq!(
        (&heard["params"]["seq"], &heard["params"]["to"]),
        (&json!(5), &json!("running"))
    );
    assert!(heard.get("id").is_none());
}

fn log_line(service: &'static str, written: &'static [u8]) -> LogLine<'static> {
    LogLine::of(service, Some(0), None, written, Severity::INFO)
}

const AT: &str = "1970-01-01T00:00:00.000Z";

#[test]
fn logs_are_served_by_the_loop_and_followed() {
    let (web, db) = (ServiceId(1), ServiceId(0));
    let mut talk = Talk::new();
    assert_eq!(talk.say("logs web -n 2"), "");
    let Errand::Logs { asked, .. } = talk.errands[0].clone() else {
        panic!("{:?}", talk.errands[0]);
    };
    assert_eq!(*asked.services, [(web, "web".into())]);
    assert_eq!((asked.lines, asked.follow, asked.all), (2, false, false));
    let lines = [log_line("web", b"one"), log_line("web", b"<3>two")];
    talk.session.logs(talk.ticket(0), &lines);
    assert_eq!(talk.out(), format!("{AT} one\n{AT} two\nok\n"));

    talk.say("logs web -f");
    talk.session.logs(talk.ticket(1), &lines[..1]);
    assert!(talk.session.follows(web, "web") && !talk.session.follows(db, "db"));
    talk.session.log_lines(web, "web", &lines[1..]);
    talk.session
        .log_lines(db, "db", &[log_line("db", b"other")]);
    assert_eq!(talk.out(), format!("{AT} one\n{AT} two\n"));
    assert!(talk.say("ping").starts_with("ok\n"), "another line ends it");
    assert!(!talk.session.follows(web, "web"));

    let params = r#"{"name": "web", "follow": true, "priority": "warning"}"#;
    talk.say(&call("logs.tail", params, "1"));
    talk.session
        .logs(talk.ticket(2), &[log_line("web", b"tw\xff")]);
    let tail: Value = serde_json::from_str(&talk.out()).unwrap();
    assert_eq!(tail["result"]["service"], "web");
    assert_eq!(tail["result"]["lines"], json!([format!("{AT} tw\u{fffd}")]));
    talk.session
        .log_lines(web, "web", &[log_line("web", b"only info")]);
    assert_eq!(talk.out(), "", "it asked for warnings");
    talk.session.log_lines(web, "web", &lines);
    let more: Value = serde_json::from_str(&talk.out()).unwrap();
    assert_eq!(more["method"], "logs.lines");
    assert_eq!(more["params"]["lines"], json!([format!("{AT} two")]));
    assert_eq!(more["params"]["entries"][0]["priority"], "err");
}

#[test]
fn logs_of_several_services_say_whose_each_line_is() {
    let (web, db) = (ServiceId(1), ServiceId(0));
    let mut talk = Talk::new();
    talk.say("logs web db web -f");
    let Errand::Logs { asked, .. } = talk.errands[0].clone() else {
        panic!("{:?}", talk.errands[0]);
    };
    assert_eq!(asked.services.len(), 2, "one is named twice");
    let lines = [log_line("db", b"a"), log_line("web", b"b")];
    talk.session.logs(talk.ticket(0), &lines);
    talk.session.log_lines(db, "db", &lines[..1]);
    let shown = format!("{AT} db: a\n{AT} web: b\n{AT} db: a\n");
    assert_eq!(talk.out(), shown);
    // All: also what is defined later.
    talk.say("logs --all -f");
    talk.session.logs(talk.ticket(1), &[]);
    talk.out();
    assert!(talk.session.follows(ServiceId(77), "new") && talk.session.follows(web, "web"));
    talk.session
        .log_lines(ServiceId(77), "new", &[log_line("new", b"x")]);
    assert_eq!(talk.out(), format!("{AT} new: x\n"));
    for (line, words) in [
        ("logs", "logs needs `name`: the services, or --all for all"),
        ("logs web --all", "give services or --all, not both"),
        ("logs web -p loud", "`priority` must be one of emerg, "),
        ("logs web nobody", "no service `nobody`"),
    ] {
        let answer = talk.say(line);
        assert!(answer.contains(words), "{line}: {answer}");
    }
}

#[test]
fn a_line_that_is_no_utf8_is_told_so() {
    let mut talk = Talk::new();
    talk.feed(b"status \xff\n{\"a\": \"\xff\"}\nping\n");
    let out = talk.out();
    assert!(out.starts_with("error: the line is not UTF-8\n{"), "{out}");
    assert!(out.contains("-32700") && out.ends_with("ok\n"));
}
