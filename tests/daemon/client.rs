//! A control client of the tests' own: lines in both tongues over the real socket.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use vitald::engine::status::StoryLine;

/// Only a failure takes so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a call was refused with: code and message.
pub type Refusal = (i64, String);

pub struct Client {
    stream: BufReader<UnixStream>,
    serial: u64,
}

impl Client {
    pub fn connect(socket: &Path) -> std::io::Result<Client> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client {
            stream: BufReader::new(stream),
            serial: 0,
        })
    }

    pub fn stream(&mut self) -> &mut UnixStream {
        self.stream.get_mut()
    }

    pub fn put(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.stream().write_all(line.as_bytes()).expect("send");
    }

    /// The next line, without its end; None when the daemon closed.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end_matches('\n').to_owned()),
            // The daemon was killed with bytes of ours unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no line from the daemon: {error}"),
        }
    }

    pub fn json(&mut self) -> Value {
        let line = self.line().expect("the daemon closed the connection");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Sends a request and gives its id.
    pub fn ask(&mut self, method: &str, params: &Value) -> u64 {
        self.serial += 1;
        let id = self.serial;
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.put(&request.to_string());
        id
    }

    /// The next answer, of whichever request; None when the daemon closed.
    pub fn answer(&mut self) -> Option<(u64, Result<Value, Refusal>)> {
        loop {
            let line = self.line()?;
            let mut answer: Value =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            // A notification of a subscription.
            let Some(id) = answer["id"].as_u64() else {
                continue;
            };
            let error = &answer["error"];
            let result = match error["code"].as_i64() {
                Some(code) => {
                    let message = error["message"].as_str().unwrap_or_default();
                    Err((code, message.to_owned()))
                }
                None => Ok(answer["result"].take()),
            };
            return Some((id, result));
        }
    }

    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, Refusal> {
        let asked = self.ask(method, params);
        let (id, result) = self.answer().expect("the daemon closed the connection");
        assert_eq!(id, asked, "{method} {params}");
        result
    }

    /// A line of words; all lines of its answer, the closing `ok` or `error: …` among them.
    pub fn words(&mut self, line: &str) -> Vec<String> {
        self.put(line);
        let mut lines = Vec::new();
        loop {
            let line = self.line().expect("the daemon closed the connection");
            let last = line == "ok" || line.starts_with("error: ");
            lines.push(line);
            if last {
                return lines;
            }
        }
    }

    /// Subscribes to all events of these services (none: of all).
    pub fn subscribe(&mut self, services: &[&str]) {
        self.call("events.subscribe", &json!({"services": services}))
            .expect("subscribe");
    }

    /// The next event for which this is true; those before it are passed over.
    pub fn event(&mut self, what: &str, wanted: impl Fn(&StoryLine) -> bool) -> StoryLine {
        let mut seen = Vec::new();
        loop {
            let message = self.json();
            if message["method"] != "events.event" {
                continue;
            }
            let event: StoryLine =
                serde_json::from_value(message["params"].clone()).expect("an event");
            if wanted(&event) {
                return event;
            }
            seen.push(format!("{} {} -> {}", event.kind, event.from, event.to));
            assert!(seen.len() < 10_000, "{what}: {seen:?}");
        }
    }
}

/// Asks without a pause until the daemon closes; ends when it has.
pub fn flood(socket: &Path) -> impl FnOnce() + use<> {
    let mut asks = UnixStream::connect(socket).expect("connect");
    let mut hears = asks.try_clone().expect("dup");
    let both = asks.try_clone().expect("dup");
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": "system.ping"}).to_string() + "\n";
    let many = line.repeat(1000);
    let threads = [
        std::thread::spawn(move || while asks.write_all(many.as_bytes()).is_ok() {}),
        std::thread::spawn(move || {
            let mut answers = [0; 65536];
            while hears.read(&mut answers).is_ok_and(|length| length > 0) {}
        }),
    ];
    move || {
        let _ = both.shutdown(std::net::Shutdown::Both);
        threads
            .map(|thread| thread.join().expect("a thread"))
            .into_iter()
            .collect()
    }
}
