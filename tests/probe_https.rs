//! `https` probes against a real TLS server (Python's, with a certificate made by openssl(1)).
//!
//! Skipped, with a message, where python3 or openssl is missing; with `VITALD_TEST_REQUIRE` set
//! that is a failure. What needs no TLS server is always tested.
#![cfg(feature = "tls")]

#[path = "probe_wire/rig.rs"]
#[expect(dead_code, reason = "shared with probe_wire, which uses all of it")]
mod rig;

use rig::{Dir, LONG, SHORT, http_at, http_of, listen, server};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use vitald::config::{Address, Http};
use vitald::probe::http::USER_AGENT;
use vitald::probe::{Outcome, Reason, Trouble};
use vitald::reactor::https;

fn https_blocking(http: &Http, patience: Duration) -> (Outcome, Box<str>) {
    https::https_blocking(http, patience, &mut || ())
}

const SERVER: &str = r#"
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        def answer(status, body, *headers):
            self.send_response(status)
            for name, value in headers: self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        if self.path == "/well": answer(200, b"all is well")
        elif self.path == "/agent": answer(200, self.headers["User-Agent"].encode())
        elif self.path == "/bad": answer(503, b"no database")
        elif self.path == "/to-well": answer(302, b"", ("Location", "/well"))
        elif self.path == "/loop": answer(302, b"", ("Location", "/loop"))
        elif self.path == "/away": answer(302, b"", ("Location", "https://other.test/"))
        elif self.path == "/stuck":
            self.send_response(200)
            self.send_header("Content-Length", "10")
            self.end_headers()
            self.wfile.write(b"half")
            self.wfile.flush()
            self.rfile.read(1)
        else:
            self.send_response(200)
            self.end_headers()
            try:
                while True: self.wfile.write(b"x" * 4096)
            except OSError: pass
http.server.ThreadingHTTPServer.daemon_threads = True
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
s.socket = context.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
print(s.server_address[1], flush=True)
s.serve_forever()
"#;

struct Tls {
    child: Child,
    port: u16,
    _dir: Dir,
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tls {
    fn start() -> Option<Tls> {
        let dir = Dir::new();
        let (key, cert) = (dir.path("key.pem"), dir.path("cert.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .args(["-nodes", "-days", "2", "-subj", "/CN=vitald test"])
            .args([
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                &key,
                "-out",
                &cert,
            ])
            .stderr(Stdio::null())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            return missing("openssl");
        }
        let child = Command::new("python3")
            .args(["-c", SERVER, &cert, &key])
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            return missing("python3");
        };
        let mut line = String::new();
        let told = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
        let mut tls = Tls {
            child,
            port: 0,
            _dir: dir,
        };
        match (told, line.trim().parse()) {
            (Ok(_), Ok(port)) => tls.port = port,
            _ => return missing("python3 with the module ssl"),
        }
        Some(tls)
    }

    fn http(&self, path: &str) -> Http {
        let host = "127.0.0.1".into();
        Http {
            path: path.into(),
            verify: false,
            ..http_of(Address::Tcp {
                host,
                port: self.port,
            })
        }
    }

    fn ask(&self, path: &str) -> (Outcome, Box<str>) {
        https_blocking(&self.http(path), LONG)
    }
}

fn missing(what: &str) -> Option<Tls> {
    assert!(
        std::env::var_os("VITALD_TEST_REQUIRE").is_none(),
        "{what} is missing"
    );
    eprintln!("skipped: {what} is missing");
    None
}

fn fail(reason: Reason) -> Outcome {
    Outcome::Fail(reason)
}

#[test]
fn the_rules_of_http_hold_over_tls() {
    let Some(tls) = Tls::start() else { return };
    assert_eq!(tls.ask("/well"), (Outcome::Pass, "all is well".into()));
    assert_eq!(tls.ask("/agent"), (Outcome::Pass, USER_AGENT.into()));
    let bad = tls.ask("/bad");
    assert_eq!(bad, (fail(Reason::Status(503)), "no database".into()));
    let (moved, output) = tls.ask("/to-well");
    assert_eq!((moved, &*output), (Outcome::Pass, "HTTP/1.1 302 Found"));

    let asked = |path: &str, follow_redirects, body: Option<&str>| {
        let http = Http {
            follow_redirects,
            expect_body: body.map(Into::into),
            ..tls.http(path)
        };
        https_blocking(&http, LONG).0
    };
    assert_eq!(asked("/to-well", 1, Some("well")), Outcome::Pass);
    assert_eq!(asked("/loop", 5, None), fail(Reason::RedirectLoop));
    assert_eq!(asked("/away", 5, None), Outcome::Pass, "302 is in 200-399");
    assert_eq!(asked("/well", 0, Some("ill")), fail(Reason::Mismatch));
    assert_eq!(asked("/endless", 0, None), Outcome::Pass);
    assert_eq!(asked("/endless", 0, Some("xxx")), Outcome::Pass);
    assert_eq!(asked("/endless", 0, Some("y")), fail(Reason::Mismatch));
    let stuck = https_blocking(&tls.http("/stuck"), 4 * SHORT);
    assert_eq!(stuck, (fail(Reason::Timeout), "half".into()));

    let strict = Http {
        verify: true,
        ..tls.http("/well")
    };
    match https_blocking(&strict, LONG).0 {
        Outcome::Fail(Reason::Tls(why)) => assert!(why.contains("certificate"), "{why}"),
        other => panic!("a certificate that nobody vouches for: {other}"),
    }
}

#[test]
fn what_is_wrong_below_tls_is_told_apart() {
    let listener = listen();
    let ask = http_at(&listener);
    let mute = https_blocking(&ask, SHORT).0;
    assert_eq!(mute, fail(Reason::Timeout));
    // The mute one's connection is still in the queue, and is the first to be served.
    let serving = server(
        &listener,
        [
            drop,
            |mut s| {
                let _ = s.read(&mut [0; 4096]);
            },
            |mut s| {
                let _ = s.read(&mut [0; 4096]);
                let _ = s.write_all(b"HTTP/1.1 400 This is no TLS\r\n\r\n");
            },
        ],
    );
    assert_eq!(https_blocking(&ask, LONG).0, fail(Reason::EmptyReply));
    match https_blocking(&ask, LONG).0 {
        Outcome::Fail(Reason::Tls(_)) => {}
        other => panic!("plain text for TLS: {other}"),
    }
    serving.join().unwrap();
    drop(listener);
    assert_eq!(https_blocking(&ask, LONG).0, fail(Reason::Refused));
}

#[test]
fn a_name_that_cannot_be_is_our_trouble() {
    let host: Box<str> = format!("{}.invalid", "x".repeat(70)).into();
    let http = http_of(Address::Tcp {
        host: host.clone(),
        port: 443,
    });
    let mut found = false;
    let (outcome, _) = https::https_blocking(&http, LONG, &mut || found = true);
    let unresolved = Outcome::Inconclusive(Trouble::Unresolved(host));
    assert_eq!((outcome, found), (unresolved, false));
    let listener = listen();
    let mute = https::https_blocking(&http_at(&listener), SHORT, &mut || found = true);
    assert_eq!((mute.0, found), (fail(Reason::Timeout), true));
}
