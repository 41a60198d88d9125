//! What goes on after its answer: subscriptions to events, logs that are followed.
//!
//! Only what is needed to choose and to format; bounds are kept by the session. Invariant: an
//! event reaches only those who may read its service.

use super::access::{Access, Level};
use super::log_lines::{Choice, LogLine, log_lines, put_words};
use super::render::{self, Style};
use super::reply::put_json;
use super::rpc;
use crate::engine::status::StoryLine;
use crate::id::ServiceId;

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

/// Logs that a client follows.
pub struct Follow {
    pub tongue: Tongue,
    /// None: all that it may see.
    pub services: Option<Vec<(ServiceId, Box<str>)>>,
    pub choice: Choice,
}

impl Follow {
    pub fn has(&self, service: ServiceId, name: &str, access: &Access) -> bool {
        match &self.services {
            Some(services) => services.iter().any(|(id, _)| *id == service),
            None => access.on(name, Level::Read),
        }
    }

    /// Whose all lines are, where that is one service.
    pub fn only(&self) -> Option<&str> {
        match self.services.as_deref() {
            Some([(_, name)]) => Some(name),
            _ => None,
        }
    }

    /// Appends what a service wrote.
    pub fn put(&self, lines: &[LogLine<'_>], out: &mut Vec<u8>) {
        let wanted: Vec<&LogLine<'_>> = lines
            .iter()
            .filter(|line| self.choice.wants(line))
            .collect();
        if wanted.is_empty() {
            return;
        }
        let only = self.only();
        if self.tongue == Tongue::Words {
            return put_words(only.is_none(), &wanted, out);
        }
        let mut params = Vec::new();
        put_json(&mut params, &log_lines(only, &wanted));
        rpc::put_notification("logs.lines", &params, out);
        out.push(b'\n');
    }
}
