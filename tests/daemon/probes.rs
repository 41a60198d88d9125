//! Probes that speak a server's protocol, or look from outside: against servers of this test's own,
//! and real processes. Redis and PostgreSQL themselves are in [`super::servers`] and here.

use super::host::{Host, is_here, until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use vitald::engine::status::ProbeStatus;

/// A service that sleeps, and one probe that only observes.
fn sleeper(probe: &str) -> String {
    format!(
        "exec = ['sleep', '1000']\n[[probe]]\n{probe}\ninterval_ms = 20000\ntimeout_ms = 10000\n\
         failure_threshold = 1\non_unhealthy = 'observe'\n"
    )
}

/// The probe of a sleeper, once it was asked in a daemon of its own.
fn asked(host: &mut Host, probe: &str) -> ProbeStatus {
    host.define("web", &sleeper(probe));
    host.start();
    let mut status = host.until("web", "asked", |s| s.probes[0].outcome.is_some());
    status.probes.remove(0)
}

fn said(probe: &ProbeStatus) -> (&str, &str) {
    let outcome = probe.outcome.as_deref().unwrap_or_default();
    (outcome, probe.reason.as_deref().unwrap_or_default())
}

/// Asked by hand now.
fn by_hand(host: &Host) -> (String, String) {
    let answer = host.call("probe.run", &serde_json::json!({"name": "web"}));
    let report = &answer["probes"][0];
    let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("reason"))
}

/// Answers whoever connects: reads until `asked` is there, sends `answer`, closes.
fn server(asked: &'static [u8], answer: Vec<u8>) -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let question = read_until(&mut stream, asked);
            let _ = stream.write_all(&answer);
            let _ = tell.send(question);
        }
    });
    (port, told)
}

fn read_until(stream: &mut impl Read, asked: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while !all.windows(asked.len()).any(|part| part == asked) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
        }
    }
    all
}

#[test]
fn a_call_by_line_and_by_post_and_what_the_server_says() {
    let mut host = Host::new("probe-jsonrpc");
    let path = host.path("rpc.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let question = read_until(&mut stream, b"\n");
            assert!(
                question.starts_with(b"{\"jsonrpc\":\"2.0\""),
                "{question:?}"
            );
            let answer =
                "{\"jsonrpc\":\"2.0\",\"id\":\"vitald\",\"result\":{\"ok\":true,\"n\":7}}\n";
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let call = "type = 'jsonrpc'\ncall = 'ping'\nparams = '[1]'";
    let probe = asked(
        &mut host,
        &format!("{call}\ntarget = '{path}'\nexpect_result = '{{\"ok\": true}}'"),
    );
    assert_eq!(said(&probe), ("pass", ""), "{probe:?}");
    // Another answer than is expected; the first bytes are shown.
    host.define(
        "web",
        &sleeper(&format!(
            "{call}\ntarget = '{path}'\nexpect_result = '{{\"ok\": false}}'"
        )),
    );
    host.call("system.reload", &serde_json::json!({}));
    let status = host.until("web", "judged anew", |s| s.probes[0].up == Some(false));
    assert_eq!(said(&status.probes[0]), ("fail", "unexpected answer"));
    let output = status.probes[0].output.as_deref().unwrap_or_default();
    assert!(output.contains("\"n\":7"), "{output}");
    // Posted; the server has its own words.
    let body =
        r#"{"jsonrpc":"2.0","id":"vitald","error":{"code":-32601,"message":"no ping here"}}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (port, told) = server(b"}\n", answer.into_bytes());
    host.define(
        "web",
        &sleeper(&format!("{call}\ntarget = 'http://127.0.0.1:{port}/rpc'")),
    );
    host.call("system.reload", &serde_json::json!({}));
    host.until("web", "refused", |s| {
        s.probes[0].reason.as_deref() == Some("error -32601: no ping here")
    });
    let question = String::from_utf8(told.recv().expect("a question")).expect("text");
    assert!(question.starts_with("POST /rpc HTTP/1.1\r\n"), "{question}");
    let line = r#"{"jsonrpc":"2.0","id":"vitald","method":"ping","params":[1]}"#;
    assert!(
        question.ends_with(&format!("\r\n\r\n{line}\n")),
        "{question}"
    );
}

#[test]
fn a_server_that_is_mute_is_told_from_one_that_is_not_there() {
    let mut host = Host::new("probe-mute");
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = mute.local_addr().expect("an address");
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port");
    let free = gone.local_addr().expect("an address");
    drop(gone);
    let of = |kind: &str, target: String, more: &str| {
        format!(
            "exec = ['sleep', '1000']\n[[probe]]\ntype = '{kind}'\ntarget = '{target}'\n{more}\n\
             interval_ms = 20000\ntimeout_ms = 300\non_unhealthy = 'observe'\n"
        )
    };
    host.define("mute", &of("redis", address.to_string(), ""));
    host.define("gone", &of("postgres", free.to_string(), ""));
    let path = host.path("none.sock");
    host.define("pathless", &of("grpc", path, ""));
    host.start();
    for (name, reason) in [
        ("mute", "timeout: connected, no answer"),
        ("gone", "connection refused"),
        ("pathless", "socket path missing"),
    ] {
        let status = host.until(name, "asked", |s| s.probes[0].outcome.is_some());
        assert_eq!(said(&status.probes[0]), ("fail", reason), "{name}");
    }
}

#[test]
fn grpc_health_over_a_real_connection() {
    let mut host = Host::new("probe-grpc");
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let mut out = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        out.extend_from_slice(payload);
        out
    };
    let answer = [
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &[0x88]),
        frame(0, 0, 1, &[0, 0, 0, 0, 2, 8, 2]),
    ];
    let (port, told) = server(b"\x0a\x03web", answer.concat());
    let probe = asked(
        &mut host,
        &format!("type = 'grpc'\ntarget = '127.0.0.1:{port}'\nservice = 'web'"),
    );
    assert_eq!(said(&probe), ("fail", "NOT_SERVING"), "{probe:?}");
    let question = told.recv().expect("a question");
    assert!(
        question.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"),
        "{question:?}"
    );
}

/// A name server that answers by UDP, or says there that the answer is too long.
fn name_server(truncated: bool) -> u16 {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = udp.local_addr().expect("an address").port();
    let tcp = TcpListener::bind(("127.0.0.1", port)).expect("the same port");
    let answer = |question: &[u8], flags: u16, records: u8| {
        let mut out = question.to_vec();
        out[2..4].copy_from_slice(&flags.to_be_bytes());
        out[7] = records;
        for _ in 0..records {
            out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 1, 2, 3]);
        }
        out
    };
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            // Somebody else's answer comes first.
            let mut other = answer(&buffer[..length], 0x8180, 1);
            other[0] ^= 0xff;
            let _ = udp.send_to(&other, from);
            let flags = if truncated { 0x8380 } else { 0x8180 };
            let _ = udp.send_to(
                &answer(&buffer[..length], flags, u8::from(!truncated)),
                from,
            );
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = by_tcp(&mut stream, &answer);
        }
    });
    port
}

fn by_tcp(
    stream: &mut TcpStream,
    answer: &impl Fn(&[u8], u16, u8) -> Vec<u8>,
) -> std::io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut question)?;
    let answer = answer(&question, 0x8180, 1);
    stream.write_all(&(answer.len() as u16).to_be_bytes())?;
    stream.write_all(&answer)
}

#[test]
fn a_name_server_is_asked_by_udp_and_by_tcp_where_it_must() {
    for truncated in [false, true] {
        let mut host = Host::new("probe-dns");
        let port = name_server(truncated);
        let probe = format!(
            "type = 'dns'\ntarget = '127.0.0.1:{port}'\nquery = 'db.test'\nexpect = '10.1.2.3'"
        );
        let probe = asked(&mut host, &probe);
        assert_eq!(
            said(&probe),
            ("pass", ""),
            "truncated {truncated}: {probe:?}"
        );
        assert_eq!(probe.output.as_deref(), Some("10.1.2.3"));
    }
    let mut host = Host::new("probe-dns-none");
    let free = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let probe = asked(
        &mut host,
        &format!("type = 'dns'\ntarget = '127.0.0.1:{port}'\nquery = 'a.b'"),
    );
    assert_eq!(said(&probe), ("fail", "connection refused"), "{probe:?}");
}

#[test]
fn a_heartbeat_is_fresh_or_stale_or_not_there() {
    let mut host = Host::new("probe-file");
    let file = host.path("heartbeat");
    let probe = format!("type = 'file'\ntarget = '{file}'\nmax_age_ms = 60000\nexpect = 'ok'");
    let first = asked(&mut host, &probe);
    assert_eq!(said(&first), ("fail", "no such file"));
    std::fs::write(&file, "state: ok\n").expect("write");
    assert_eq!(by_hand(&host), ("pass".into(), String::new()));
    std::fs::write(&file, "state: bad\n").expect("write");
    assert_eq!(by_hand(&host), ("fail".into(), "unexpected answer".into()));
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(300);
    let opened = std::fs::File::options()
        .write(true)
        .open(&file)
        .expect("open");
    opened.set_modified(old).expect("set its time");
    let (outcome, reason) = by_hand(&host);
    assert_eq!(outcome, "fail");
    assert!(reason.starts_with("stale: written 5 m 0"), "{reason}");
    // A pipe without a writer would be waited for for ever: not by the loop.
    let pipe = host.path("pipe");
    nix::unistd::mkfifo(Path::new(&pipe), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let hangs = sleeper(&format!("type = 'file'\ntarget = '{pipe}'\nexpect = 'x'"));
    let hangs = hangs.replace("timeout_ms = 10000", "timeout_ms = 200");
    host.define("hangs", &hangs);
    host.call("system.reload", &serde_json::json!({}));
    let status = host.until("hangs", "judged", |s| s.probes[0].outcome.is_some());
    assert_eq!(said(&status.probes[0]), ("fail", "timeout"));
}

/// What the whole tree uses counts, not the first process alone.
#[test]
fn memory_processor_and_descriptors_are_those_of_the_tree() {
    let mut host = Host::new("probe-usage");
    let grow = "python3 -c 'import os,time\nx = bytearray(96 << 20)\nf = [open(\"/dev/null\") for n in range(80)]\n\
                print(\"grown\", flush=True)\nwhile True: pass' & wait";
    let probe = |text: &str, name: &str| {
        format!(
            "[[probe]]\nname = '{name}'\n{text}\ninterval_ms = 20000\ntimeout_ms = 10000\non_unhealthy = 'observe'\n"
        )
    };
    let text = format!(
        "exec = ['sh', '-c', '''{grow}''']\n{}{}{}{}{}{}",
        probe("type = 'memory'\nmax_memory = '64M'", "rss"),
        probe(
            "type = 'memory'\nmax_memory = '64M'\nmeasure = 'pss'",
            "pss"
        ),
        probe("type = 'memory'\nmax_memory = '4G'", "roomy"),
        probe("type = 'cpu'\nmax_cpu = '5%'\nwindow_ms = 500", "busy"),
        probe("type = 'fds'\nmax_fds = 50", "many"),
        probe("type = 'fds'\nmax_fds_percent = 99", "few"),
    );
    host.define("web", &text);
    host.start();
    host.line("web", "grown", |line| line.ends_with("grown"));
    let answer = host.call("probe.run", &serde_json::json!({"name": "web"}));
    let reports = answer["probes"].as_array().expect("reports").clone();
    let reason = |name: &str| {
        let report = reports.iter().find(|report| report["name"] == name);
        let report = report.expect("a report");
        (
            report["outcome"].as_str().unwrap_or_default().to_owned(),
            report["reason"].as_str().unwrap_or_default().to_owned(),
        )
    };
    for name in ["rss", "pss"] {
        let (outcome, words) = reason(name);
        let found = words.strip_suffix("M over 64M");
        // By `pss` what it shares with other Pythons of the host counts for less.
        assert!(
            outcome == "fail" && found.is_some_and(|found| found.parse::<u32>().unwrap() >= 96),
            "{words}"
        );
    }
    assert_eq!(reason("roomy").0, "pass");
    let (outcome, words) = reason("busy");
    assert!(outcome == "fail" && words.ends_with("% over 5%"), "{words}");
    let (outcome, words) = reason("many");
    assert!(
        outcome == "fail" && words.contains(" descriptors in process "),
        "{words}"
    );
    assert_eq!(reason("few").0, "pass");
    // Nothing is measured of what does not run.
    host.wait("stop", "web");
    let answer = host.call(
        "probe.run",
        &serde_json::json!({"name": "web", "probe": "rss"}),
    );
    assert_eq!(answer["probes"][0]["reason"], "it does not run", "{answer}");
}

/// Redis itself: asked with a password, without it, while it is busy, when it is full.
#[test]
fn redis_says_what_is_wrong_with_it() {
    if !is_here("/usr/bin/redis-server") {
        return;
    }
    let mut host = Host::new("probe-redis");
    let (path, secret) = (host.path("redis.sock"), host.path("secret"));
    std::fs::write(&secret, "open sesame\n").expect("a secret");
    let redis = format!(
        "exec = ['redis-server', '--port', '0', '--unixsocket', '{path}', '--save', '', \
         '--busy-reply-threshold', '1', '--requirepass', 'open sesame']\nworking_dir = '{}'\n",
        host.path("")
    );
    let probe = |more: &str| {
        format!("[[probe]]\ntype = 'redis'\ntarget = '{path}'\n{more}\ninterval_ms = 20000\n")
    };
    let knows = probe(&format!("password_file = '{secret}'"));
    let text = format!(
        "{redis}{knows}{}",
        probe("name = 'stranger'\non_unhealthy = 'observe'")
    );
    host.define("web", &text);
    host.start();
    let status = host.up("web");
    assert_eq!(said(&status.probes[0]), ("pass", ""));
    let by_hand = |host: &Host, which: &str| {
        let params = serde_json::json!({"name": "web", "probe": which});
        let answer = host.call("probe.run", &params);
        let text = |key: &str| {
            answer["probes"][0][key]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        (text("outcome"), text("reason"))
    };
    let refused = ("fail".into(), "NOAUTH Authentication required.".into());
    assert_eq!(by_hand(&host, "stranger"), refused);
    // Another password.
    std::fs::write(&secret, "open barley\n").expect("a secret");
    let (outcome, reason) = by_hand(&host, "redis");
    assert_eq!(outcome, "fail");
    assert!(reason.starts_with("WRONGPASS "), "{reason}");
    std::fs::remove_file(&secret).expect("remove");
    let (outcome, reason) = by_hand(&host, "redis");
    assert_eq!(outcome, "inconclusive");
    assert!(
        reason.starts_with("cannot read the password file"),
        "{reason}"
    );
    // A script that does not end.
    std::fs::write(&secret, "open sesame\n").expect("a secret");
    let mut client = std::os::unix::net::UnixStream::connect(&path).expect("connect");
    client
        .write_all(b"AUTH \"open sesame\"\r\nEVAL \"while true do end\" 0\r\n")
        .expect("a script");
    until("it is busy", || {
        by_hand(&host, "redis").1.starts_with("BUSY ")
    });
}

/// PostgreSQL itself, by its own words: nobody known, full.
#[test]
fn postgresql_is_asked_like_pg_isready_does() {
    let bin = "/usr/lib/postgresql/15/bin";
    if !super::host::root() || !is_here(&format!("{bin}/postgres")) {
        return;
    }
    let mut host = Host::new("probe-postgres");
    let data = host.path("data");
    let setup = format!(
        "mkdir {data} && chown postgres {data} && chmod 755 {} && \
         setpriv --reuid=postgres --regid=postgres --clear-groups {bin}/initdb -D {data} -A trust >&2",
        host.path("")
    );
    let done = std::process::Command::new("sh")
        .args(["-c", &setup])
        .output()
        .expect("sh");
    assert!(done.status.success(), "{done:?}");
    let probe = |name: &str, more: &str| {
        format!(
            "[[probe]]\nname = '{name}'\ntype = 'postgres'\ntarget = '{data}/.s.PGSQL.5432'\n{more}\n\
             interval_ms = 20000\ntimeout_ms = 15000\n"
        )
    };
    let text = format!(
        "exec = ['{bin}/postgres', '-D', '{data}', '-k', '{data}', '-h', '', '-c', 'max_connections=5', \
         '-c', 'superuser_reserved_connections=0', '-c', 'max_wal_senders=0']\nuser = 'postgres'\nstop_signal = 'SIGINT'\n{}{}{}",
        probe("any", ""),
        probe("nobody", "user = 'nobody_here'\non_unhealthy = 'observe'"),
        probe("elsewhere", "database = 'none'\non_unhealthy = 'observe'"),
    );
    host.define("web", &text);
    host.start();
    host.up("web");
    let answer = host.call("probe.run", &serde_json::json!({"name": "web"}));
    let reason = |at: usize| {
        answer["probes"]
            .as_array()
            .expect("reports")
            .iter()
            .find(|r| r["name"] == ["any", "nobody", "elsewhere"][at])
            .map(|r| r["reason"].to_string())
            .unwrap_or_default()
    };
    assert!(
        reason(1).contains("28000 role \\\"nobody_here\\\" does not exist"),
        "{answer}"
    );
    assert!(
        reason(2).contains("3D000 database \\\"none\\\" does not exist"),
        "{answer}"
    );
    // All connections are taken.
    let mut taken = Vec::new();
    until("it is full", || {
        let mut stream = std::os::unix::net::UnixStream::connect(format!("{data}/.s.PGSQL.5432"))
            .expect("connect");
        let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        let packet = [&(body.len() as u32 + 4).to_be_bytes()[..], body].concat();
        stream.write_all(&packet).expect("ask");
        let mut kind = [0];
        stream.read_exact(&mut kind).expect("an answer");
        if kind == *b"R" {
            taken.push(stream);
        }
        kind == *b"E"
    });
    until("the probe is told so", || {
        let answer = host.call(
            "probe.run",
            &serde_json::json!({"name": "web", "probe": "any"}),
        );
        let words = answer["probes"][0]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        words == "53300 sorry, too many clients already"
    });
}
