//! What a client may not make us do: hold without end, answer twice, fall over. Conformance 34, 35.

use super::*;
use proptest::prelude::*;

#[test]
fn conformance_35_a_line_too_long_is_an_error_and_the_end() {
    for (begin, told) in [("{", code::PARSE.to_string()), ("x", "error: ".to_owned())] {
        let mut talk = Talk::new();
        talk.feed(begin);
        for _ in 0..160 {
            talk.feed(vec![b'x'; 64 * 1024]);
            assert!(
                talk.session.input.len() <= 2 * limits::MAX_LINE,
                "memory is bounded"
            );
        }
        assert!(!talk.session.is_finished(), "the error is still to be read");
        let answer = talk.out();
        assert!(
            answer.contains(&told) && answer.contains("65536"),
            "{answer}"
        );
        assert!(talk.session.is_finished());
    }
    // The same when the line comes in one piece with its end.
    let mut talk = Talk::new();
    talk.feed(format!("{}\nping\n", "x".repeat(limits::MAX_LINE + 1)));
    assert_eq!(talk.out().lines().count(), 1);
    assert!(talk.session.is_finished());
    let mut talk = Talk::new();
    let longest = format!("ping{}", " ".repeat(limits::MAX_LINE - 4));
    assert!(
        talk.say(&longest).ends_with("ok\n"),
        "the longest line is served"
    );
}

#[test]
fn conformance_35_half_a_line_waits_and_is_never_carried_out() {
    let mut talk = Talk::new();
    talk.feed("stop we");
    assert_eq!(talk.out(), "");
    talk.session.end_of_input();
    talk.work();
    assert_eq!(
        talk.out(),
        "error: the line has no line end; nothing was done\n"
    );
    assert!(talk.errands.is_empty() && talk.session.is_finished());
}

#[test]
fn conformance_34_who_does_not_read_is_cut() {
    let mut talk = Talk::new();
    let names: Vec<String> = (0..1000).map(|n| format!("service-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    talk.house = FakeHouse::of(&names);
    for n in 0..1000 {
        talk.feed(call("service.list", "[]", &n.to_string()) + "\n");
        if !talk.session.wants_input() {
            break;
        }
    }
    // One answer waits: no further line is served, and nothing more is read.
    assert!(!talk.session.wants_input() && talk.session.cut().is_none());
    assert!(talk.session.output().len() < 2 * 1024 * 1024);
    assert_eq!(talk.out().lines().count(), 1);

    // What comes without being asked for again ends in the bound.
    talk.say(&call("events.subscribe", "[]", "1"));
    talk.out();
    for _ in 0..100_000 {
        talk.session.publish(&event("service-1", "state"));
    }
    assert!(talk.session.cut().is_some() && talk.session.is_finished());
    assert!(talk.session.output().is_empty(), "its memory is given back");

    // So does a batch, while it is being made.
    let mut talk = Talk {
        session: Session::new(1, Access::all(), "root".into()),
        ..talk
    };
    let list = call("service.list", "[]", "1");
    talk.feed(format!("[{}]\n", vec![list; 500].join(",")));
    assert!(talk.session.cut().is_some() && talk.session.output().is_empty());
}

#[test]
fn requests_that_wait_are_bounded() {
    let mut talk = Talk::new();
    for n in 0..200 {
        talk.feed(call("service.stop", r#"["web"]"#, &n.to_string()) + "\n");
    }
    assert_eq!(talk.errands.len(), limits::MAX_PENDING_PER_CLIENT);
    assert!(!talk.session.wants_input());
    talk.accept(0, "");
    assert_eq!(
        talk.errands.len(),
        limits::MAX_PENDING_PER_CLIENT + 1,
        "the next one's turn"
    );

    let mut talk = Talk::new();
    let stop = call("service.stop", r#"["web"]"#, "1");
    talk.feed(format!("[{}]\n", vec![stop; 100].join(",")));
    for at in 0..limits::MAX_PENDING_PER_CLIENT {
        talk.accept(at, "");
    }
    let answers: Vec<Value> = serde_json::from_str(&talk.out()).unwrap();
    let refused = answers
        .iter()
        .filter(|a| a["error"]["code"] == code::TOO_MANY)
        .count();
    assert_eq!(
        (answers.len(), refused),
        (100, 100 - limits::MAX_PENDING_PER_CLIENT)
    );
}

#[test]
fn after_a_half_close_answers_are_finished() {
    let mut talk = Talk::new();
    talk.feed("restart web --wait\nping\n");
    talk.session.end_of_input();
    talk.work();
    assert!(!talk.session.is_finished());
    talk.accept(0, "web: running");
    assert!(!talk.session.is_finished(), "there is output");
    assert_eq!(
        talk.out(),
        "web: running\nok\nvitald 0.1.0 here, pid 77\nok\n"
    );
    assert!(talk.session.is_finished());
}

#[test]
fn who_has_gone_is_obeyed_but_not_answered() {
    let mut talk = Talk::new();
    talk.feed("stop web\nstop db\n");
    talk.session.end_of_input();
    talk.session.hang_up();
    talk.work();
    assert!(!talk.session.is_finished());
    talk.accept(0, "");
    assert_eq!(talk.errands.len(), 2);
    talk.accept(1, "");
    assert!(talk.session.output().is_empty() && talk.session.is_finished());

    let mut talk = Talk::new();
    talk.say("events");
    talk.session.end_of_input();
    talk.work();
    assert!(!talk.session.is_finished(), "it may still listen");
    talk.session.hang_up();
    assert!(talk.session.is_finished());
}

#[test]
fn a_turn_s_budget_ends_the_work_and_the_rest_is_done_later() {
    let mut talk = Talk::new();
    talk.session.feed(&b"ping\n".repeat(100));
    let desk = Desk {
        house: &talk.house,
        wall: Wall::default(),
    };
    let mut turns = 0;
    while talk.session.has_work() {
        let mut budget = 5 * 1024;
        talk.session.work(&desk, &mut talk.errands, &mut budget);
        turns += 1;
        assert!(turns < 100);
    }
    assert!((5..60).contains(&turns), "{turns} turns");
    assert_eq!(talk.out().matches("ok\n").count(), 100);
}

/// Counts the answers in what a client got: JSON lines, and closing lines of words.
fn answers(out: &str) -> usize {
    out.lines()
        .filter(|line| line.starts_with(['{', '[']) || *line == "ok" || line.starts_with("error: "))
        .count()
}

/// Lines that are likely to mean something, and some that are not.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(VERBS.iter().map(|v| v.method).collect::<Vec<_>>());
    let words = prop::sample::select(VERBS.iter().map(|v| v.words).collect::<Vec<_>>());
    let params = prop::sample::select(vec![
        "[]",
        "{}",
        "[\"web\"]",
        "{\"name\":\"db\"}",
        "[null]",
        "[1,2]",
        "{\"name\":{}}",
        "7",
    ]);
    let rest = prop::sample::select(vec![
        "", " web", " db -n 3", " web HUP", " --wait", " \"", " \\",
    ]);
    prop_oneof![
        (method, params).prop_map(|(m, p)| call(m, p, "1").into_bytes()),
        (words, rest).prop_map(|(w, r)| format!("{w}{r}").into_bytes()),
        prop::collection::vec(any::<u8>(), 0..80),
        "[\\[\\]{}\",:0-9a-z ]{0,60}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Conformance 35 and 36: whatever comes in, in whatever pieces, nothing panics, and every
    /// complete line has exactly one answer, a blank line or a notification none.
    #[test]
    fn every_complete_line_has_exactly_one_answer(
        lines in prop::collection::vec(any_line(), 1..12),
        cut_at in prop::collection::vec(1usize..50, 0..20),
    ) {
        let mut bytes = Vec::new();
        let mut expected = 0;
        for line in &lines {
            // No line ends inside, no streams: those have tests of their own.
            let line: Vec<u8> = line.iter().copied().filter(|b| *b != b'\n').collect();
            let text = String::from_utf8_lossy(&line).into_owned();
            if ["events", "discover", "-f"].iter().any(|word| text.contains(word)) {
                continue;
            }
            let json = serde_json::from_str::<Value>(&text).ok();
            let silent = line.trim_ascii().is_empty()
                || json.is_some_and(|v| {
                    v.is_object() && v.get("id").is_none() && v.get("method").is_some_and(Value::is_string)
                        && v["jsonrpc"] == "2.0"
                        && v.get("params").is_none_or(|p| p.is_array() || p.is_object())
                });
            expected += usize::from(!silent);
            bytes.extend_from_slice(&line);
            bytes.push(b'\n');
        }
        let mut talk = Talk::new();
        let mut out = String::new();
        let mut rest = &bytes[..];
        let mut cuts = cut_at.into_iter();
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(cuts.next().unwrap_or(usize::MAX).min(rest.len()));
            rest = more;
            talk.feed(piece);
            out.push_str(&talk.out());
            let mut served = 0;
            while served < talk.errands.len() {
                let ticket = talk.ticket(served);
                match talk.errands[served] {
                    Errand::Logs { .. } => talk.session.logs(ticket, &[]),
                    _ => talk.session.answer(ticket, &Ok(Accepted::default())),
                }
                talk.work();
                served += 1;
            }
            talk.errands.clear();
            out.push_str(&talk.out());
        }
        prop_assert_eq!(answers(&out), expected, "{:.2000}", out);
        talk.session.end_of_input();
        talk.work();
        prop_assert!(talk.session.is_finished());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let mut talk = Talk::new();
        talk.feed(&bytes);
        talk.session.end_of_input();
        talk.work();
        talk.session.hang_up();
        talk.work();
    }
}
