//! What goes on after its answer: subscriptions to events, logs that are followed.
//!
//! Only what is needed to choose and to format; bounds are kept by the session. Invariant: an
//! event reaches only those who may read its service.

use super::access::{Access, Level};
use super::render::{self, Style};
use super::reply::{LogLines, put_json};
use super::rpc;
use crate::engine::status::StoryLine;
use crate::id::ServiceId;

/// A line that is not ended is kept this long (in bytes), then shown as it is.
const LONGEST_LOG_LINE: usize = 8 * 1024;

/// In which form a stream is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tongue {
    Words,
    Json,
}

/// An event in both forms, made once for all who hear it.
pub struct Publication {
    line: StoryLine,
    json: Vec<u8>,
    text: String,
}

impl Publication {
    pub fn new(line: StoryLine) -> Publication {
        let mut params = Vec::new();
        put_json(&mut params, &line);
        let mut json = Vec::with_capacity(params.len() + 64);
        rpc::put_notification("events.event", &params, &mut json);
        json.push(b'\n');
        let mut text = render::event_line(&line, &Style::default());
        text.push('\n');
        Publication { line, json, text }
    }

    pub fn bytes(&self, tongue: Tongue) -> &[u8] {
        match tongue {
            Tongue::Words => self.text.as_bytes(),
            Tongue::Json => &self.json,
        }
    }
}

/// One client's choice of events.
pub struct Subscription {
    pub tongue: Tongue,
    /// Empty: all.
    pub services: Vec<Box<str>>,
    /// Empty: all.
    pub kinds: Vec<Box<str>>,
}

impl Subscription {
    pub fn wants(&self, event: &Publication, access: &Access) -> bool {
        let line = &event.line;
        let named = |list: &[Box<str>], word: &str| {
            list.is_empty() || list.iter().any(|known| **known == *word)
        };
        named(&self.services, &line.service)
            && named(&self.kinds, &line.kind)
            && access.on(&line.service, Level::View)
    }
}

/// One log that a client follows.
pub struct Follow {
    pub tongue: Tongue,
    pub service: ServiceId,
    name: Box<str>,
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
}

impl Follow {
    pub fn new(tongue: Tongue, service: ServiceId, name: Box<str>, rest: Vec<u8>) -> Follow {
        Follow {
            tongue,
            service,
            name,
            rest,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that wait for the end of their line.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Appends what the service wrote. JSON gets whole lines.
    pub fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.tongue == Tongue::Words {
            out.extend_from_slice(bytes);
            return;
        }
        self.rest.extend_from_slice(bytes);
        let whole = match self.rest.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if self.rest.len() > LONGEST_LOG_LINE => self.rest.len(),
            None => return,
        };
        let mut params = Vec::new();
        put_json(&mut params, &log_lines(&self.name, &self.rest[..whole]));
        self.rest.drain(..whole);
        rpc::put_notification("logs.lines", &params, out);
        out.push(b'\n');
    }
}

/// Bytes that a service wrote, as lines.
pub fn log_lines(service: &str, bytes: &[u8]) -> LogLines {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = if bytes.is_empty() {
        Vec::new()
    } else {
        bytes
            .split(|byte| *byte == b'\n')
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect()
    };
    LogLines {
        service: service.to_owned(),
        lines,
    }
}

/// The part of `bytes` after its last line end.
pub fn unfinished(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rev()
        .take_while(|byte| **byte != b'\n')
        .count()
}
