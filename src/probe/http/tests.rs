//! Conformance cases 1 to 6 as far as bytes decide them, each answer also cut at every byte.

use super::*;
use crate::config::Ask;
use crate::probe::dialogue::{Dialogue, Fault};
use proptest::prelude::*;

fn http() -> Http {
    Http {
        address: Address::Tcp {
            host: "127.0.0.1".into(),
            port: 8080,
        },
        path: "/healthz".into(),
        method: "GET".into(),
        headers: Box::default(),
        expect_status: [200..=399].into(),
        expect_body: None,
        follow_redirects: 0,
        keep_alive: false,
        verify: true,
    }
}

fn wanting(body: &str) -> Http {
    Http {
        expect_body: Some(body.into()),
        ..http()
    }
}

fn following(redirects: u8) -> Http {
    Http {
        follow_redirects: redirects,
        ..http()
    }
}

fn request(http: &Http) -> String {
    let mut out = Vec::new();
    Exchange::default().request(http, &mut out);
    String::from_utf8(out).unwrap()
}

/// Feeds the pieces, then the end. `Again` ends it too.
fn feed<'a>(http: &Http, pieces: impl Iterator<Item = &'a [u8]>) -> (Step, Dialogue) {
    let ask = Ask::Http(http.clone());
    let mut dialogue = Dialogue::new(&ask).unwrap();
    for piece in pieces {
        match dialogue.on_bytes(&ask, piece) {
            Step::More | Step::Enough(_) => {}
            last => return (last, dialogue),
        }
    }
    (Step::Done(dialogue.on_eof(&ask)), dialogue)
}

/// The same whole, byte by byte, and cut once at every place.
fn answer(http: &Http, bytes: &[u8]) -> (Step, String) {
    let (whole, dialogue) = feed(http, std::iter::once(bytes));
    let (single, _) = feed(http, bytes.chunks(1));
    assert_eq!(single, whole, "byte by byte: {}", bytes.escape_ascii());
    if bytes.len() < 1000 {
        for cut in 0..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            let (step, _) = feed(http, [a, b].into_iter());
            assert_eq!(step, whole, "cut at {cut}: {}", bytes.escape_ascii());
        }
    }
    (whole, dialogue.output().into())
}

fn pass() -> Step {
    Step::Done(Outcome::Pass)
}

fn fail(reason: Reason) -> Step {
    Step::Done(Outcome::Fail(reason))
}

fn is_syntax(step: &Step) -> bool {
    matches!(step, Step::Done(Outcome::Fail(Reason::Syntax(_))))
}

#[test]
fn conformance_1_a_200_with_a_body_passes_and_keeps_it() {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length:5, 5\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
        "HTTP/1.1 200\nTransfer-Encoding: gzip, Chunked\n\n5;a\nhello\n0\n\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let (step, output) = answer(&http(), reply.as_bytes());
        assert_eq!((step, output.as_str()), (pass(), "hello"), "{reply}");
    }
}

#[test]
fn conformance_1_a_500_and_a_malformed_line_fail_each_with_its_reason() {
    let reply = b"HTTP/1.1 500 No\r\nContent-Length: 11\r\n\r\nno database";
    let (step, output) = answer(&http(), reply);
    assert_eq!(step, fail(Reason::Status(500)));
    assert_eq!(output, "no database");
    for bad in [
        "HTTP/1.1 banana\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/3.0 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "\u{15}\u{3}\u{1}\0\u{2}\u{2}F",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello",
    ] {
        let (step, _) = answer(&http(), bad.as_bytes());
        assert!(is_syntax(&step), "{bad:?}: {step:?}");
    }
    let (step, output) = answer(&http(), b"SSH-2.0-OpenSSH_9.2\r\n");
    assert_eq!(
        step.clone(),
        fail(Reason::Syntax(
            "the answer does not begin with HTTP/1".into()
        ))
    );
    assert_eq!(output, "SSH-2.0-OpenSSH_9.2\n");
}

#[test]
fn conformance_2_time_that_is_up_is_a_timeout_unless_the_status_was_bad_already() {
    let ask = Ask::Http(http());
    let mut dialogue = Dialogue::new(&ask).unwrap();
    assert_eq!(dialogue.on_expired(), Outcome::Fail(Reason::Timeout));
    let step = dialogue.on_bytes(&ask, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    assert_eq!(step, Step::More);
    assert_eq!(dialogue.on_expired(), Outcome::Fail(Reason::Timeout));
    assert_eq!(&*dialogue.output(), "half");
    assert_eq!(
        dialogue.on_fault(Fault::Reset),
        Outcome::Fail(Reason::Reset)
    );

    let mut dialogue = Dialogue::new(&ask).unwrap();
    dialogue.on_bytes(&ask, b"HTTP/1.1 503 X\r\nContent-Length: 9\r\n\r\nhalf");
    assert_eq!(dialogue.on_expired(), Outcome::Fail(Reason::Status(503)));
    assert_eq!(
        dialogue.on_fault(Fault::Reset),
        Outcome::Fail(Reason::Status(503))
    );
}

#[test]
fn conformance_3_a_redirect_that_is_not_followed_is_judged_by_its_status() {
    let strict = Http {
        expect_status: [200..=299].into(),
        ..http()
    };
    for status in [301, 302, 303, 307, 308] {
        let reply = format!("HTTP/1.1 {status} X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(answer(&http(), reply.as_bytes()).0, pass());
        assert_eq!(
            answer(&strict, reply.as_bytes()).0,
            fail(Reason::Status(status))
        );
        let away = reply.replace("/x", "http://other.test/x");
        assert_eq!(answer(&following(3), away.as_bytes()).0, pass());
    }
}

#[test]
fn conformance_3_a_followed_redirect_asks_anew_and_a_loop_fails() {
    let ask = Ask::Http(following(2));
    let mut dialogue = Dialogue::new(&ask).unwrap();
    let to = |path: &str| format!("HTTP/1.1 302 X\r\nLocation: {path}\r\n\r\n").into_bytes();
    assert_eq!(dialogue.on_bytes(&ask, &to("/a")), Step::Again);
    let mut out = Vec::new();
    dialogue.request(&ask, &mut out);
    assert!(out.starts_with(b"GET /a HTTP/1.1\r\n"));
    assert_eq!(
        dialogue.on_bytes(&ask, &to("http://127.0.0.1:8080/b")),
        Step::Again
    );
    assert_eq!(
        dialogue.on_bytes(&ask, &to("/c")),
        fail(Reason::RedirectLoop)
    );

    let (itself, _) = answer(&following(9), &to("/healthz"));
    assert_eq!(itself, fail(Reason::RedirectLoop));

    let post = Http {
        method: "POST".into(),
        ..following(1)
    };
    let ask = Ask::Http(post);
    for (status, method) in [
        (301, "GET"),
        (302, "GET"),
        (303, "GET"),
        (307, "POST"),
        (308, "POST"),
    ] {
        let mut dialogue = Dialogue::new(&ask).unwrap();
        let reply = format!("HTTP/1.1 {status} X\r\nLocation: /n\r\n\r\n");
        assert_eq!(dialogue.on_bytes(&ask, reply.as_bytes()), Step::Again);
        let mut out = Vec::new();
        dialogue.request(&ask, &mut out);
        assert!(
            out.starts_with(format!("{method} /n ").as_bytes()),
            "{status}"
        );
    }
}

#[test]
fn conformance_4_own_headers_are_sent_and_defaults_give_way() {
    let plain = request(&http());
    assert_eq!(
        plain,
        format!(
            "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: {USER_AGENT}\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n"
        )
    );
    assert!(USER_AGENT.starts_with("vitald/"));
    let own = request(&Http {
        headers: [
            ("host".into(), "web.test".into()),
            ("USER-AGENT".into(), "me".into()),
            ("Accept".into(), "text/x\r\nEvil: 1".into()),
        ]
        .into(),
        keep_alive: true,
        ..http()
    });
    assert_eq!(
        own,
        "GET /healthz HTTP/1.1\r\nhost: web.test\r\nUSER-AGENT: me\r\nAccept: text/x  Evil: 1\r\n\r\n"
    );
}

#[test]
fn the_host_is_written_as_its_kind_wants() {
    let host = |address: Address| {
        let text = request(&Http { address, ..http() });
        text.lines().nth(1).unwrap().to_string()
    };
    let tcp = |host: &str, port| Address::Tcp {
        host: host.into(),
        port,
    };
    assert_eq!(host(tcp("::1", 8080)), "Host: [::1]:8080");
    assert_eq!(host(tcp("fe80::1%eth0", 80)), "Host: [fe80::1]");
    assert_eq!(host(tcp("web.test", 80)), "Host: web.test");
    let path = "/run/web.sock".into();
    assert_eq!(host(Address::Unix { path }), "Host: localhost");
}

#[test]
fn conformance_5_a_long_or_endless_body_passes_and_is_cut() {
    let heads = [
        "HTTP/1.1 200 OK\r\n\r\n".to_string(),
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            PROBE_READ_BYTES + 1
        ),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", u64::MAX),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_string(),
    ];
    for head in heads {
        let mut reply = head.clone().into_bytes();
        reply.resize(reply.len() + PROBE_READ_BYTES + 1, b'x');
        for http in [http(), wanting("x")] {
            let (step, output) = answer(&http, &reply);
            assert_eq!(step, pass(), "{head}");
            assert!(!output.is_empty() && output.len() <= PROBE_OUTPUT_BYTES);
        }
        assert_eq!(
            answer(&wanting("y"), &reply).0,
            fail(Reason::Mismatch),
            "{head}"
        );
    }
}

#[test]
fn conformance_6_closed_without_a_byte_or_too_early() {
    assert_eq!(answer(&http(), b"").0, fail(Reason::EmptyReply));
    for part in [
        "HTTP/1.1 2",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
    ] {
        let (step, _) = answer(&http(), part.as_bytes());
        assert!(is_syntax(&step), "{part:?}: {step:?}");
    }
}

#[test]
fn an_expected_body_is_found_across_chunks_or_missed() {
    let reply =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nal\r\n4\r\nive!\r\n0\r\n\r\n";
    assert_eq!(answer(&wanting("alive"), reply).0, pass());
    assert_eq!(answer(&wanting("dead"), reply).0, fail(Reason::Mismatch));
    assert_eq!(
        answer(&wanting("x"), b"HTTP/1.0 200 OK\r\n\r\ny").0,
        fail(Reason::Mismatch)
    );
    let wrong = b"HTTP/1.1 500 OK\r\nContent-Length: 5\r\n\r\nalive";
    assert_eq!(
        answer(&wanting("alive"), wrong).0,
        fail(Reason::Status(500))
    );
}

#[test]
fn what_expect_body_needs_is_not_waited_beyond() {
    let ask = Ask::Http(wanting("alive"));
    let mut dialogue = Dialogue::new(&ask).unwrap();
    let step = dialogue.on_bytes(&ask, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nalive");
    assert_eq!(step, pass());
    assert!(!dialogue.may_be_reused());
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let head = Http {
        method: "HEAD".into(),
        ..http()
    };
    let ask = Ask::Http(head);
    let mut dialogue = Dialogue::new(&ask).unwrap();
    let step = dialogue.on_bytes(&ask, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n");
    assert_eq!(step, pass());
    assert_eq!(&*dialogue.output(), "HTTP/1.1 200 OK");
    let ask = Ask::Http(http());
    for status in [204, 304] {
        let mut dialogue = Dialogue::new(&ask).unwrap();
        let reply = format!("HTTP/1.1 {status} X\r\n\r\n");
        assert_eq!(dialogue.on_bytes(&ask, reply.as_bytes()), pass());
        assert!(dialogue.may_be_reused());
    }
}

#[test]
fn a_connection_is_reused_only_after_a_clean_end() {
    for (reply, reused) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            true,
        ),
        ("HTTP/1.1 500 OK\r\nContent-Length: 2\r\n\r\nno", true),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\nok",
            true,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, close\r\n\r\nok",
            false,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP", false),
        ("HTTP/1.1 200 OK\r\n\r\nok", false),
    ] {
        let (_, dialogue) = feed(&http(), std::iter::once(reply.as_bytes()));
        assert_eq!(dialogue.may_be_reused(), reused, "{reply}");
    }
}

#[test]
fn long_heads_are_judged_by_their_status() {
    let mut reply = b"HTTP/1.1 200 OK\r\n".to_vec();
    for n in 0..300 {
        reply.extend_from_slice(format!("X-{n}: {n}\r\n").as_bytes());
    }
    let mut many = reply.clone();
    many.extend_from_slice(b"Content-Length: 2\r\n\r\nok");
    assert_eq!(
        answer(&wanting("ok"), &many).0,
        pass(),
        "more headers than usual"
    );
    reply.extend_from_slice(b"X-Long: ");
    reply.resize(PROBE_READ_BYTES + 100, b'x');
    assert_eq!(answer(&http(), &reply).0, pass());
    assert_eq!(answer(&wanting("ok"), &reply).0, fail(Reason::Mismatch));
    let bad = [b"HTTP/1.1 500", &reply[12..]].concat();
    assert_eq!(answer(&http(), &bad).0, fail(Reason::Status(500)));
    let line = [&b"HTTP/1.1 200 "[..], &[b'x'; PROBE_READ_BYTES]].concat();
    assert_eq!(answer(&http(), &line).0, pass());
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    assert!(
        is_syntax(&answer(&http(), &interim).0),
        "endless interim answers end"
    );
}

/// Pieces of real answers, so that random ones get past the first line.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<Vec<u8>> = [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 500 \n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /n\r\n\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "\r\n",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "alive",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    prop_oneof![
        4 => prop::sample::select(known),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..3000usize).prop_map(|(byte, n)| vec![byte; n]),
    ]
}

proptest! {
    #[test]
    fn any_answer_ends_and_its_cuts_do_not_matter(
        pieces in prop::collection::vec(piece(), 0..12),
        size in 1..50usize,
        redirects in 0..3u8,
        body in prop::option::of("alive|c0|"),
    ) {
        let http = Http {
            expect_body: body.map(String::into_boxed_str),
            follow_redirects: redirects,
            ..http()
        };
        let bytes = pieces.concat();
        let (whole, dialogue) = feed(&http, std::iter::once(bytes.as_slice()));
        let (cut, _) = feed(&http, bytes.chunks(size));
        prop_assert_eq!(&whole, &cut);
        prop_assert!(matches!(whole, Step::Done(_) | Step::Again));
        prop_assert!(dialogue.output().len() <= PROBE_OUTPUT_BYTES);
    }

    #[test]
    fn an_endless_answer_is_cut_soon_after_the_bound(
        start in prop::collection::vec(piece(), 0..6),
        filler in piece().prop_filter("not empty", |p| !p.is_empty()),
    ) {
        let ask = Ask::Http(http());
        let mut dialogue = Dialogue::new(&ask).unwrap();
        let mut fed = 0;
        let all = start.iter().chain(std::iter::repeat(&filler));
        for piece in all {
            if matches!(dialogue.on_bytes(&ask, piece), Step::Done(_)) {
                break;
            }
            fed += piece.len();
            prop_assert!(fed <= 2 * PROBE_READ_BYTES + 3000, "read {fed} bytes and no end");
        }
    }
}
