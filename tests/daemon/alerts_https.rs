//! Alerts over https, with a real TLS server (Python's) and an authority of our own (openssl(1)): taken,
//! tried again, a certificate that is not to be trusted, a server that says nothing.
//!
//! Passed over, with a message, where python3 or openssl is missing; with `VITALD_TEST_REQUIRE=1` that is
//! a failure.

use super::alerts::DOOMED;
use super::host::{Host, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// Appends each request's head and body to a file; refuses while another file is there.
const SERVER: &str = r#"
import http.server, json, os, ssl, sys
cert, key, got, refuse = sys.argv[1:]
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if os.path.exists(refuse): status, said = 503, b"closed for the night"
        else:
            status, said = 200, b""
            with open(got, "a") as f:
                f.write(json.dumps([self.path, dict(self.headers), body]) + "\n")
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
http.server.ThreadingHTTPServer.daemon_threads = True
s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
s.socket = context.wrap_socket(s.socket, server_side=True, do_handshake_on_connect=False)
print(s.server_address[1], flush=True)
s.serve_forever()
"#;

struct Server {
    child: Child,
    port: u16,
    got: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn missing<T>(what: &str) -> Option<T> {
    let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
    assert!(!required, "{what} is missing, and VITALD_TEST_REQUIRE=1");
    eprintln!("skipped: {what} is missing");
    None
}

fn openssl(host: &Host, line: &str) -> Option<()> {
    let done = Command::new("openssl")
        .args(line.split(' '))
        .current_dir(&host.dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match done.is_ok_and(|status| status.success()) {
        true => Some(()),
        false => missing("openssl"),
    }
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// `NAME.pem` and `NAME.key`: who vouches.
fn authority(host: &Host, name: &str) -> Option<()> {
    let line =
        format!("req -x509 {NEW_KEY} -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem");
    openssl(host, &line)
}

impl Server {
    /// One for which this authority vouches, by its address alone.
    fn start(host: &Host, by: &str) -> Option<Server> {
        fs::write(host.path("names"), "subjectAltName=IP:127.0.0.1\n").expect("write");
        openssl(
            host,
            &format!("req {NEW_KEY} -subj /CN=hook -keyout hook.key -out hook.csr"),
        )?;
        openssl(
            host,
            &format!(
                "x509 -req -in hook.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -days 2 \
                 -extfile names -out hook.pem"
            ),
        )?;
        let got = host.path("got");
        let child = Command::new("python3")
            .args(["-c", SERVER])
            .args([host.path("hook.pem"), host.path("hook.key")])
            .args([&got, &host.path("refuse")])
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            return missing("python3");
        };
        let mut line = String::new();
        let out = child.stdout.take().expect("its stdout");
        let told = BufReader::new(out).read_line(&mut line);
        let server = Server {
            child,
            port: line.trim().parse().unwrap_or(0),
            got,
        };
        match (told, server.port) {
            (Ok(_), 1..) => Some(server),
            _ => missing("python3 with the module ssl"),
        }
    }

    /// Path, headers, body.
    fn got(&self) -> Vec<(String, BTreeMap<String, String>, Value)> {
        let text = fs::read_to_string(&self.got).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
        let read = |line: &str| {
            // Whatever the case of their names.
            let (path, headers, body): (String, BTreeMap<String, String>, String) =
                serde_json::from_str(line).expect("a request");
            let names = headers.into_iter().map(|(n, v)| (n.to_lowercase(), v));
            let headers: BTreeMap<String, String> = names.collect();
            (path, headers, serde_json::from_str(&body).expect("JSON"))
        };
        whole.map(read).collect()
    }
}

fn alert(host: &Host) -> vitald::engine::status::AlertStatus {
    host.daemon().alerts.swap_remove(0)
}

fn settings(to: &str) -> String {
    format!(
        "[[alert]]\nname = 'chat'\nwebhook = 'https://{to}/hook/PATHSECRET'\n\
         headers = {{ X-Key = 'KEYSECRET' }}\n"
    )
}

#[test]
fn a_webhook_over_https_is_taken_and_tried_again_until_it_is() {
    let mut host = Host::new("alert-https");
    let Some(()) = authority(&host, "ours") else {
        return;
    };
    let Some(server) = Server::start(&host, "ours") else {
        return;
    };
    host.set_env("SSL_CERT_FILE", &host.path("ours.pem"));
    fs::write(host.path("refuse"), "").expect("write");
    host.settings(&settings(&format!("127.0.0.1:{}", server.port)));
    host.define("web", DOOMED);
    host.start();
    until("it is refused", || alert(&host).trouble.is_some());
    let trouble = alert(&host).trouble.unwrap_or_default();
    assert_eq!(trouble, "HTTP 503: closed for the night");
    fs::remove_file(host.path("refuse")).expect("remove");
    until("it is taken", || alert(&host).sent == 1);
    assert_eq!(alert(&host).trouble, None);
    let got = server.got();
    let (path, headers, body) = &got[0];
    assert_eq!((got.len(), &**path), (1, "/hook/PATHSECRET"));
    assert_eq!(headers["x-key"], "KEYSECRET");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(
        (&body["kind"], &body["service"]),
        (&json!("exhausted"), &json!("web"))
    );
    assert_eq!(
        alert(&host).to,
        format!("https://127.0.0.1:{}", server.port)
    );
    assert!(!host.said().contains("SECRET"), "{}", host.said());
}

/// Nobody vouches for it; it is another's; it is no TLS: told apart, and no secret is said.
#[test]
fn a_certificate_that_is_not_to_be_trusted_is_told_and_nothing_is_sent() {
    let mut host = Host::new("alert-https-bad");
    let made = authority(&host, "ours").and_then(|()| authority(&host, "theirs"));
    let Some(()) = made else { return };
    let Some(server) = Server::start(&host, "ours") else {
        return;
    };
    let port = server.port;
    let plain = TcpListener::bind("127.0.0.1:0").expect("bind");
    let other = plain.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in plain.incoming().flatten() {
            use std::io::Write;
            let _ = (&stream).write_all(b"HTTP/1.1 400 This is no TLS\r\n\r\n");
        }
    });
    host.set_env("SSL_CERT_FILE", &host.path("theirs.pem"));
    host.settings(&settings(&format!("127.0.0.1:{port}")));
    host.start();
    let tried = |host: &Host| {
        let (_, message) = host.refused("alert.test", &json!({}));
        assert!(!message.contains("SECRET"), "{message}");
        message.to_lowercase()
    };
    let unknown = tried(&host);
    assert!(
        unknown.contains("certificate") && unknown.contains("issuer"),
        "{unknown}"
    );
    host.settings(&settings(&format!("127.0.0.1:{other}")));
    host.call("system.reload", &json!({}));
    let no_tls = tried(&host);
    assert!(
        !no_tls.contains("certificate") && no_tls.contains("message"),
        "{no_tls}"
    );
    // Whoever we trust, it speaks for an address, and for no name.
    host.kill();
    host.set_env("SSL_CERT_FILE", &host.path("ours.pem"));
    host.settings(&settings(&format!("localhost:{port}")));
    host.start();
    let wrong = tried(&host);
    assert!(
        wrong.contains("certificate") && wrong.contains("localhost"),
        "{wrong}"
    );
    assert_eq!(server.got(), []);
    host.settings(&settings(&format!("127.0.0.1:{port}")));
    host.call("system.reload", &json!({}));
    host.call("alert.test", &json!({}));
    assert_eq!(server.got().len(), 1);
    assert!(!host.said().contains("SECRET"), "{}", host.said());
}

/// It takes the connection, and says nothing: it has its time, and the loop does not notice.
#[test]
fn a_server_that_does_not_shake_hands_has_its_time() {
    let mut host = Host::new("alert-https-hangs");
    let mute = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = mute.local_addr().expect("an address").port();
    let text = settings(&format!("127.0.0.1:{port}")) + "timeout_ms = 300\n";
    host.settings(&text);
    host.define("web", DOOMED);
    host.start();
    until("it has had its time", || alert(&host).trouble.is_some());
    let trouble = alert(&host).trouble.unwrap_or_default();
    let still = format!("not within 300 ms: still talking TLS to 127.0.0.1, port {port}");
    assert!(
        trouble == still || trouble == "no answer in time",
        "{trouble}"
    );
    let (_, shown, _) = host.cli(&["ping"]);
    assert!(shown.contains("here"), "{shown}");
}
