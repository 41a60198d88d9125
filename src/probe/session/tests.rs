//! Every protocol at every byte boundary: how an answer is cut never changes the outcome.

use super::*;
use crate::config::{Address, Http, JsonRpc};
use crate::prng::Prng;

fn server(speaks: Speaks) -> Server {
    let address = Address::Tcp {
        host: "127.0.0.1".into(),
        port: 1,
    };
    Server { address, speaks }
}

fn redis() -> Server {
    server(Speaks::Redis {
        user: None,
        password_file: None,
    })
}

fn postgres(user: Option<&str>) -> Server {
    server(Speaks::Postgres {
        user: user.map(Into::into),
        database: None,
    })
}

fn rpc(expect: Option<&str>, over_http: bool) -> Server {
    let http = Http {
        address: Address::Unix { path: "/s".into() },
        path: "/rpc".into(),
        method: "POST".into(),
        headers: Box::new([("Content-Type".into(), "application/json".into())]),
        expect_status: Box::new([200..=299]),
        expect_body: None,
        follow_redirects: 0,
        keep_alive: false,
        verify: false,
    };
    server(Speaks::JsonRpc(JsonRpc {
        call: "say \"hi\"".into(),
        params: Some("{\n\"n\": 1}".into()),
        expect_result: expect.map(Into::into),
        http: over_http.then(|| Box::new(http)),
    }))
}

fn grpc() -> Server {
    server(Speaks::Grpc { service: "".into() })
}

fn said(words: &str) -> Outcome {
    Outcome::Fail(Reason::Said(words.into()))
}

/// In pieces of these sizes in turn; the end where they end.
fn fed(server: &Server, secret: bool, answer: &[u8], sizes: &[usize]) -> Outcome {
    let mut session = Session::new(server);
    if secret {
        session.set_secret("secret");
    }
    let (mut rest, mut turn) = (answer, 0);
    while !rest.is_empty() {
        let size = sizes[turn % sizes.len()].min(rest.len());
        let (piece, after) = rest.split_at(size);
        (rest, turn) = (after, turn + 1);
        if let Step::Done(outcome) = session.on_bytes(server, piece) {
            return outcome;
        }
    }
    session.on_eof(server)
}

/// The same, however it is cut.
fn is(server: &Server, secret: bool, answer: &[u8], outcome: &Outcome) {
    let shown = answer.escape_ascii().to_string();
    for cut in 1..=answer.len().max(1) {
        let cuts = [cut, answer.len().max(1)];
        assert_eq!(
            &fed(server, secret, answer, &cuts),
            outcome,
            "{shown} at {cut}"
        );
    }
    assert_eq!(
        &fed(server, secret, answer, &[1]),
        outcome,
        "{shown} by bytes"
    );
}

#[test]
fn redis_is_asked_and_its_errors_are_told_apart() {
    let s = redis();
    is(&s, false, b"+PONG\r\n", &Outcome::Pass);
    for words in [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "NOAUTH Authentication required.",
        "ERR max number of clients reached",
    ] {
        is(&s, false, format!("-{words}\r\n").as_bytes(), &said(words));
    }
    is(&s, false, b"+OK\r\n", &Outcome::Fail(Reason::Mismatch));
    is(&s, false, b"", &Outcome::Fail(Reason::EmptyReply));
    is(&s, false, b"+PON", &syntax("closed within the answer"));
    is(
        &s,
        false,
        b"HTTP/1.1 400 Bad Request\r\n",
        &syntax("no answer of Redis"),
    );
    let long = [b"+".as_slice(), &[b'x'; 2000]].concat();
    is(
        &s,
        false,
        &long,
        &syntax("no answer of Redis: a line without an end"),
    );
    // With a password, its answer comes first.
    is(&s, true, b"+OK\r\n+PONG\r\n", &Outcome::Pass);
    let wrong = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n-NOAUTH x\r\n";
    let words = "WRONGPASS invalid username-password pair or user is disabled.";
    is(&s, true, wrong, &said(words));

    let mut out = Vec::new();
    let mut session = Session::new(&s);
    session.request(&s, &mut out);
    assert_eq!(out, b"*1\r\n$4\r\nPING\r\n");
    session.set_secret("a b");
    out.clear();
    let acl = server(Speaks::Redis {
        user: Some("vitald".into()),
        password_file: Some("/x".into()),
    });
    session.request(&acl, &mut out);
    assert_eq!(
        out,
        b"*3\r\n$4\r\nAUTH\r\n$6\r\nvitald\r\n$3\r\na b\r\n*1\r\n$4\r\nPING\r\n"
    );
}

fn pg(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn pg_error(code: &str, message: &str) -> Vec<u8> {
    pg(
        b'E',
        format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0").as_bytes(),
    )
}

#[test]
fn postgres_answers_by_asking_who_it_is_or_says_what_is_wrong() {
    let (any, picky) = (postgres(None), postgres(Some("web")));
    for s in [&any, &picky] {
        is(s, false, &pg(b'R', &[0, 0, 0, 10, b'S']), &Outcome::Pass);
        let starting = pg_error("57P03", "the database system is starting up");
        is(
            s,
            false,
            &starting,
            &said("57P03 the database system is starting up"),
        );
        is(
            s,
            false,
            &pg(b'E', b"SFATAL"),
            &said("an error without a word"),
        );
        let many = pg_error("53300", "sorry, too many clients already");
        is(
            s,
            false,
            &many,
            &said("53300 sorry, too many clients already"),
        );
        let fork = b"Ecould not fork new process for connection: Cannot allocate memory\n\0";
        let words = "could not fork new process for connection: Cannot allocate memory";
        is(s, false, fork, &said(words));
        is(
            s,
            false,
            b"HTTP/1.1 400 Bad",
            &syntax("no answer of PostgreSQL"),
        );
        is(
            s,
            false,
            b"R\0\0\0\0aaaaa",
            &syntax("no answer of PostgreSQL"),
        );
        is(s, false, b"", &Outcome::Fail(Reason::EmptyReply));
        is(s, false, b"R\0\0\0", &syntax("closed within the answer"));
        // Let in unasked: read on until it is ready for a query.
        let admitted = pg(b'R', &[0; 4]);
        let parameter = pg(b'S', b"server_version\x0015\0");
        let welcome = [&*admitted, &parameter, &pg(b'Z', b"I")].concat();
        is(s, false, &welcome, &Outcome::Pass);
        let reserved = pg_error("53300", "remaining connection slots are reserved");
        let turned = [&*admitted, &parameter, &reserved].concat();
        is(
            s,
            false,
            &turned,
            &said("53300 remaining connection slots are reserved"),
        );
    }
    for (code, words) in [("28000", "no such role"), ("3D000", "no such database")] {
        let error = pg_error(code, words);
        is(&any, false, &error, &Outcome::Pass);
        is(&picky, false, &error, &said(&format!("{code} {words}")));
    }
    let mut out = Vec::new();
    Session::new(&picky).request(&picky, &mut out);
    let text = b"user\0web\0database\0web\0application_name\0vitald\0\0";
    let mut expected = (8 + text.len() as u32).to_be_bytes().to_vec();
    expected.extend_from_slice(&[0, 3, 0, 0]);
    expected.extend_from_slice(text);
    assert_eq!(out, expected);
}

#[test]
fn a_call_is_judged_by_its_result() {
    let any = rpc(None, false);
    let answer = |rest: &str| format!("{{\"jsonrpc\":\"2.0\",\"id\":\"vitald\",{rest}}}\n");
    let ok = answer("\"result\":{\"state\":\"ok\",\"load\":3}");
    is(&any, false, ok.as_bytes(), &Outcome::Pass);
    // Without a line's end as well, and behind what somebody else is told.
    is(&any, false, ok.trim_end().as_bytes(), &Outcome::Pass);
    let told = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"log\",\"params\":[]}}\n{ok}");
    is(&any, false, told.as_bytes(), &Outcome::Pass);
    is(
        &any,
        false,
        answer("\"result\":null").as_bytes(),
        &Outcome::Pass,
    );
    let error = answer("\"error\":{\"code\":-32601,\"message\":\"no such method\"}");
    is(
        &any,
        false,
        error.as_bytes(),
        &said("error -32601: no such method"),
    );
    let parse = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}"#;
    is(&any, false, parse, &said("error -32700: what?"));
    let expecting = |text| rpc(Some(text), false);
    for (expected, outcome) in [
        (r#"{"state":"ok"}"#, Outcome::Pass),
        (r#"{"state":"bad"}"#, Outcome::Fail(Reason::Mismatch)),
        (r#"{"more":1}"#, Outcome::Fail(Reason::Mismatch)),
        ("\"ok\"", Outcome::Fail(Reason::Mismatch)),
    ] {
        is(&expecting(expected), false, ok.as_bytes(), &outcome);
    }
    let list = answer("\"result\":[1,{\"a\":[2]}]");
    is(
        &expecting(r#"[1,{"a":[2]}]"#),
        false,
        list.as_bytes(),
        &Outcome::Pass,
    );
    is(&any, false, b"<html>", &syntax("no JSON object"));
    is(&any, false, b"{\"id\"", &syntax("closed within the answer"));
    let id = "an answer to somebody else's call";
    is(&any, false, b"{\"id\":7,\"result\":1}", &syntax(id));
    let neither = "neither a result nor an error";
    is(&any, false, answer("\"x\":1").as_bytes(), &syntax(neither));

    let mut out = Vec::new();
    Session::new(&any).request(&any, &mut out);
    let line = r#"{"jsonrpc":"2.0","id":"vitald","method":"say \"hi\"","params":{ "n": 1}}"#;
    assert_eq!(String::from_utf8_lossy(&out), format!("{line}\n"));
}

#[test]
fn a_call_over_http_is_judged_by_its_body() {
    let s = rpc(Some("1"), true);
    let body = r#"{"jsonrpc":"2.0","id":"vitald","result":1}"#;
    let n = body.len();
    let framed = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n{body}"),
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}"),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{n:x}\r\n{body}\r\n0\r\n\r\n"
        ),
    ];
    for answer in framed {
        is(&s, false, answer.as_bytes(), &Outcome::Pass);
        let other = answer.replace("\"result\":1", "\"result\":2");
        is(
            &s,
            false,
            other.as_bytes(),
            &Outcome::Fail(Reason::Mismatch),
        );
    }
    let failed = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
    is(&s, false, failed, &Outcome::Fail(Reason::Status(503)));
    let empty = b"HTTP/1.1 204 No Content\r\n\r\n";
    is(
        &s,
        false,
        empty,
        &syntax("no whole JSON-RPC answer in the body"),
    );
    let mut out = Vec::new();
    Session::new(&s).request(&s, &mut out);
    let text = String::from_utf8(out).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("POST /rpc HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
        "{head}"
    );
    assert!(
        head.contains("\r\nContent-Type: application/json"),
        "{head}"
    );
}

/// A frame of HTTP/2.
fn h2(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    out.extend_from_slice(payload);
    out
}

#[test]
fn grpc_health_is_read_from_the_message_or_the_trailers() {
    let s = grpc();
    let settings = h2(4, 0, 0, &[]);
    let ack = h2(4, 1, 0, &[]);
    let headers = h2(1, 4, 1, &[0x88]);
    let serving = |status: &[u8]| {
        let data = [&[0, 0, 0, 0, status.len() as u8][..], status].concat();
        [&*settings, &ack, &headers, &h2(0, 0, 1, &data)].concat()
    };
    is(&s, false, &serving(&[8, 1]), &Outcome::Pass);
    is(&s, false, &serving(&[8, 2]), &said("NOT_SERVING"));
    is(&s, false, &serving(&[8, 3]), &said("SERVICE_UNKNOWN"));
    is(&s, false, &serving(&[]), &said("UNKNOWN"));
    // Padded, and in two frames.
    let parts = [h2(0, 8, 1, &[2, 0, 0, 0, 9, 9]), h2(0, 0, 1, &[0, 2, 8, 1])];
    let split = [&*settings, &headers, &parts[0], &parts[1]].concat();
    is(&s, false, &split, &Outcome::Pass);
    // An error has no message, only a status: as text, and as grpc-go codes it.
    let plain = [&[0x88, 0x00, 11][..], b"grpc-status", &[1], b"5"].concat();
    let coded = [
        &[0x88, 0x40, 0x88][..],
        &[0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f],
        &[0x82, 0x08, 0xbf],
    ]
    .concat();
    for (block, words) in [
        (&plain, "grpc-status 5 NOT_FOUND"),
        (&coded, "grpc-status 12 UNIMPLEMENTED"),
    ] {
        let answer = [&*settings, &h2(1, 5, 1, block)].concat();
        is(&s, false, &answer, &said(words));
        // The block in two frames.
        let (a, b) = block.split_at(3);
        let answer = [&*settings, &h2(1, 1, 1, a), &h2(9, 4, 1, b)].concat();
        is(&s, false, &answer, &said(words));
    }
    let none = [&*settings, &h2(1, 5, 1, &[0x88])].concat();
    is(&s, false, &none, &syntax("no message and no grpc-status"));
    let reset = [&*settings, &h2(3, 0, 1, &[0, 0, 0, 7])].concat();
    is(&s, false, &reset, &said("stream reset, code 7"));
    let away = [&*settings, &h2(7, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11])].concat();
    is(&s, false, &away, &said("connection ended, code 11"));
    let old = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    is(&s, false, old, &syntax("it speaks HTTP/1, not HTTP/2"));
    is(&s, false, b"+PONG\r\n12", &syntax("no HTTP/2"));
}

#[test]
fn nonsense_ends_too_and_never_panics() {
    let good: Vec<(Server, Vec<u8>)> = vec![
        (redis(), b"-LOADING Redis is loading\r\n".to_vec()),
        (
            postgres(None),
            [pg(b'R', &[0; 4]), pg_error("57P03", "no")].concat(),
        ),
        (
            rpc(Some("1"), false),
            b"{\"id\":\"vitald\",\"result\":[1,{}]}".to_vec(),
        ),
        (
            grpc(),
            [
                h2(4, 0, 0, &[]),
                h2(1, 4, 1, &[0x88]),
                h2(0, 9, 1, &[0, 0, 0, 0, 0, 2, 8, 1]),
            ]
            .concat(),
        ),
    ];
    let mut prng = Prng::new(7);
    for round in 0..4000 {
        let (server, answer) = &good[round % good.len()];
        let mut odd = answer.clone();
        for _ in 0..=prng.below(3) {
            let at = prng.below(odd.len() as u64) as usize;
            match prng.below(3) {
                0 => odd[at] ^= 1 << prng.below(8),
                1 => odd.truncate(at.max(1)),
                _ => odd.insert(at, prng.below(256) as u8),
            }
        }
        let at_once = fed(server, false, &odd, &[odd.len()]);
        let sizes = [1 + prng.below(5) as usize, 1 + prng.below(9) as usize];
        assert_eq!(
            fed(server, false, &odd, &sizes),
            at_once,
            "{}",
            odd.escape_ascii()
        );
    }
    // An answer without an end is cut.
    for server in [redis(), postgres(None), rpc(None, false), grpc()] {
        let mut session = Session::new(&server);
        let mut endless = |byte: u8| {
            (0..=PROBE_READ_BYTES).any(|_| session.on_bytes(&server, &[byte]) != Step::More)
        };
        assert!(endless(b'{') || endless(b' '), "{server:?}");
    }
}
