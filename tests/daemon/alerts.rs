//! Alerts, with real commands and real servers: taken, refused, hanging, away; again after the
//! daemon's death; by hand; and nothing secret is shown.

use super::host::{Host, alive, until};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How a server answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Take,
    Fail,
    /// It reads, and says nothing.
    Hang,
}

/// A webhook's server: what it was sent, each with its headers.
pub struct Hook {
    pub url: String,
    mode: Arc<Mutex<Mode>>,
    got: Arc<Mutex<Vec<(String, Value)>>>,
    /// Requests in all, however they were answered.
    asked: Arc<AtomicUsize>,
}

impl Hook {
    pub fn new(mode: Mode) -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        Hook::at(listener, mode)
    }

    fn at(listener: TcpListener, mode: Mode) -> Hook {
        let port = listener.local_addr().expect("an address").port();
        let mode = Arc::new(Mutex::new(mode));
        let got = Arc::<Mutex<Vec<(String, Value)>>>::default();
        let asked = Arc::<AtomicUsize>::default();
        let hook = Hook {
            url: format!("http://127.0.0.1:{port}/hook/PATHSECRET?key=PATHSECRET"),
            mode: mode.clone(),
            got: got.clone(),
            asked: asked.clone(),
        };
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                let request = serve(&stream);
                let now = *mode.lock().expect("a lock");
                asked.fetch_add(usize::from(request.is_some()), Ordering::SeqCst);
                match request {
                    Some(request) if now == Mode::Take => {
                        got.lock().expect("a lock").push(request);
                        answer(&stream, "204 No Content", "");
                    }
                    Some(_) if now == Mode::Fail => {
                        answer(&stream, "500 Oh No", "no channel of that name");
                    }
                    Some(_) | None => held.push(stream),
                }
            }
        });
        hook
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn be(&self, mode: Mode) {
        *self.mode.lock().expect("a lock") = mode;
    }

    fn got(&self) -> Vec<(String, Value)> {
        self.got.lock().expect("a lock").clone()
    }

    /// The kinds that came, with their services.
    pub fn kinds(&self) -> Vec<String> {
        let got = self.got();
        let of = |v: &Value| format!("{} {}", text(&v["kind"]), text(&v["service"]));
        got.iter().map(|(_, value)| of(value)).collect()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The head and the body.
fn serve(stream: &TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        head.push_str(&line);
        line.clear();
    }
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("Content-Length: "));
    let mut body = vec![0; length?.trim().parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let value = serde_json::from_str(&body).unwrap_or(Value::String(body));
    Some((head, value))
}

fn answer(mut stream: &TcpStream, status: &str, body: &str) {
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

/// A service that cannot go on: its budget is spent at once.
pub const DOOMED: &str = "exec = ['sh', '-c', 'exit 3']\n[retry_policy]\nmax_attempts = 0\n";

fn alert(host: &Host) -> vitald::engine::status::AlertStatus {
    host.daemon().alerts.swap_remove(0)
}

#[test]
fn a_command_reads_what_happened_and_may_write_what_it_likes() {
    let mut host = Host::new("alert-exec");
    let (file, env) = (host.path("told"), host.path("env"));
    // It writes a lot, on both, and does not read all of its input at once.
    let script = format!(
        "yes a long line | head -c 300000; yes | head -c 1000 >&2; cat > {file}.new; \
         env > {env}; mv {file}.new {file}"
    );
    host.settings(&format!(
        "[[alert]]\nname = 'pager'\nexec = ['sh', '-c', '{script}']\n"
    ));
    host.define("web", DOOMED);
    host.start();
    until("it is told", || fs::exists(&file).unwrap_or(false));
    let told: Value =
        serde_json::from_str(&fs::read_to_string(&file).expect("read")).expect("JSON");
    assert_eq!(
        (&told["kind"], &told["service"], &told["alert"]),
        (&json!("exhausted"), &json!("web"), &json!("pager"))
    );
    assert_eq!((&told["cause"], &told["run"]), (&json!("exit"), &json!(1)));
    assert_eq!(told["reason"], json!("exit code 3"));
    assert!(text(&told["time"]).ends_with('Z') && text(&told["id"]).contains('-'));
    let line = format!("exhausted: web on {}: exit code 3", text(&told["host"]));
    assert_eq!(told["text"], json!(line));
    let env = fs::read_to_string(&env).expect("read");
    for expected in [
        "VITALD_ALERT=exhausted",
        "VITALD_SERVICE=web",
        "VITALD_REASON=exit code 3",
        &format!("VITALD_TEXT={line}"),
    ] {
        assert!(
            env.lines().any(|line| line == expected),
            "{expected}: {env}"
        );
    }
    until("it is counted", || alert(&host).sent == 1);
    assert_eq!(alert(&host).last.as_deref(), Some("exhausted web"));
    assert_eq!(alert(&host).to, "exec sh");
}

#[test]
fn a_webhook_is_called_again_until_it_takes_it_and_the_all_clear_follows() {
    let mut host = Host::new("alert-webhook");
    let hook = Hook::new(Mode::Fail);
    let headers = host.path("headers");
    fs::write(&headers, "# ours\nAuthorization: Bearer FILESECRET\n").expect("write");
    host.settings(&format!(
        "[[alert]]\nname = 'chat'\nwebhook = '{}'\nheaders = {{ X-Key = 'KEYSECRET' }}\n\
         headers_file = '{headers}'\nservices = ['w*']\non = ['exhausted', 'recovered']\n",
        hook.url
    ));
    let flag = host.path("flag");
    let well = format!("[ -e {flag} ] && exec sleep 1000; exit 3");
    host.define(
        "web",
        &format!(
            "exec = ['sh', '-c', '{well}']\n\
             [retry_policy]\nmax_attempts = 0\nstability_period_ms = 200\n"
        ),
    );
    host.define("db", DOOMED);
    host.start();
    until("it is refused", || alert(&host).trouble.is_some());
    let trouble = alert(&host).trouble.unwrap_or_default();
    assert_eq!(trouble, "HTTP 500: no channel of that name");
    let (_, shown, _) = host.cli(&["status"]);
    assert!(shown.contains("alert chat: not taken at "), "{shown}");
    hook.be(Mode::Take);
    until("it is taken", || hook.got().len() == 1);
    let (head, value) = hook.got().swap_remove(0);
    assert!(
        head.starts_with("POST /hook/PATHSECRET?key=PATHSECRET HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("X-Key: KEYSECRET\r\n"), "{head}");
    assert!(
        head.contains("Authorization: Bearer FILESECRET\r\n"),
        "{head}"
    );
    assert!(
        head.contains("Content-Type: application/json\r\n"),
        "{head}"
    );
    assert_eq!(value["kind"], json!("exhausted"));
    fs::write(&flag, "").expect("write");
    host.call("service.start", &json!({"name": "web"}));
    until("the all-clear", || hook.got().len() == 2);
    assert_eq!(hook.kinds(), ["exhausted web", "recovered web"]);
    // What is a secret is nowhere but there.
    let (_, info, _) = host.cli(&["info"]);
    let status = host.call("system.status", &json!({})).to_string();
    let journal = fs::read_to_string(host.path("run/journal")).expect("read");
    for (what, text) in [("info", info), ("status", status), ("journal", journal)] {
        assert!(!text.contains("SECRET"), "{what}: {text}");
    }
    assert!(!host.said().contains("SECRET"), "{}", host.said());
}

/// What hangs has its time, and the loop does not notice; a command is ended with all its children.
#[test]
fn what_hangs_is_ended_and_others_are_told_meanwhile() {
    let mut host = Host::new("alert-hangs");
    let (hook, pids) = (Hook::new(Mode::Hang), host.path("pids"));
    let hang = format!("sleep 1000 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait");
    host.settings(&format!(
        "[[alert]]\nname = 'chat'\nwebhook = '{}'\ntimeout_ms = 300\n\
         [[alert]]\nname = 'pager'\nexec = ['sh', '-c', '{hang}']\ntimeout_ms = 60000\n\
         [[alert]]\nname = 'log'\nexec = ['touch', '{}']\n",
        hook.url,
        host.path("logged")
    ));
    host.define("web", DOOMED);
    host.start();
    until("the third is told", || {
        fs::exists(host.path("logged")).unwrap_or(false)
    });
    until("the first has had its time", || {
        alert(&host).trouble.is_some()
    });
    assert_eq!(
        alert(&host).trouble.as_deref(),
        Some("not within 300 ms: still waiting for the answer")
    );
    until("the second runs", || fs::exists(&pids).unwrap_or(false));
    let text = fs::read_to_string(&pids).expect("read");
    let pids: Vec<i32> = text.split_whitespace().flat_map(str::parse).collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| alive(*pid)));
    // It dies with the daemon; what it did not take is sent once more by the next.
    host.kill();
    until("it is gone", || !alive(pids[1]));
    fs::remove_file(host.path("pids")).expect("remove");
    host.start();
    until("it is told again", || {
        fs::exists(host.path("pids")).unwrap_or(false)
    });
    assert_eq!(host.daemon().alerts[1].waiting, 1);
    let (_, shown, _) = host.cli(&["ping"]);
    assert!(shown.contains("here"), "{shown}");
    hook.be(Mode::Take);
    until("the first is taken", || hook.kinds() == ["exhausted web"]);
}

/// Killed while nobody took it: it is sent by the next, once it is there; and what was taken is not
/// sent again.
#[test]
fn what_was_not_taken_outlives_the_daemon() {
    let mut host = Host::new("alert-death");
    let place = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = place.local_addr().expect("an address");
    drop(place);
    host.settings(&format!(
        "[[alert]]\nwebhook = 'http://{address}/'\nbody = 'text'\n"
    ));
    host.define("web", DOOMED);
    host.start();
    until("nobody is there", || alert(&host).trouble.is_some());
    let trouble = alert(&host).trouble.unwrap_or_default();
    assert!(
        trouble.contains("cannot connect to 127.0.0.1, port"),
        "{trouble}"
    );
    host.kill();
    let hook = Hook::at(TcpListener::bind(address).expect("bind"), Mode::Take);
    host.start();
    until("it is taken", || hook.got().len() == 1);
    let line = hook.got()[0].1.clone();
    assert!(text(&line).starts_with("exhausted: web on "), "{line}");
    until("that is known", || alert(&host).waiting == 0);
    host.kill();
    host.start();
    host.until("web", "failed still", |s| s.state == "failed");
    // It would come before this one.
    host.call("alert.test", &json!({}));
    let got = hook.got();
    assert_eq!(got.len(), 2, "{got:?}");
    assert!(text(&got[1].1).starts_with("test: "), "{got:?}");
}

#[test]
fn alerts_are_tried_by_hand() {
    let mut host = Host::new("alert-test");
    host.define("web", "exec = ['sleep', '1000']\n");
    host.start();
    let refusal = host.refused("alert.test", &json!({}));
    assert!(
        refusal
            .1
            .contains("write an [[alert]] into vitald.toml, then `vitald reload`")
    );
    host.kill();
    let hook = Hook::new(Mode::Take);
    host.settings(&format!(
        "[[alert]]\nname = 'chat'\nwebhook = '{}'\n\
         [[alert]]\nname = 'bad'\nexec = ['sh', '-c', 'echo no such pager >&2; exit 7']\n\
         [[alert]]\nname = 'none'\nexec = ['/does/not/exist']\n",
        hook.url
    ));
    host.start();
    let (code, said, _) = host.cli(&["alert", "test", "chat"]);
    assert_eq!((code, &*said), (0, "chat: taken\n"));
    assert_eq!(hook.kinds(), ["test "]);
    let refusal = host.refused("alert.test", &json!({}));
    let lines: Vec<&str> = refusal.1.lines().collect();
    assert_eq!(
        (lines.len(), lines[0]),
        (4, "not all were taken"),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"bad: exit code 7: no such pager"),
        "{lines:?}"
    );
    let none = lines.iter().find(|line| line.starts_with("none: "));
    assert!(none.is_some_and(|line| line.contains("(2)")), "{lines:?}");
    let refusal = host.refused("alert.test", &json!({"name": "chatt"}));
    assert_eq!(
        refusal.1,
        "no alert chatt in vitald.toml; there are chat, bad, none"
    );
    // Nothing of that is counted.
    let sum: u64 = host.daemon().alerts.iter().map(|a| a.sent + a.failed).sum();
    assert_eq!(sum, 0);
}
