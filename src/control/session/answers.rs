//! Answers, events and log lines on their way out: framed for the tongue, counted, bounded.

use super::super::calls::Fault;
use super::super::log_lines::{LogLine, log_lines, put_words};
use super::super::render::{self, Style, clean, clean_lines};
use super::super::reply::{self, Done, Reply, put_json};
use super::super::rpc::{self, NULL_ID, code};
use super::super::stream::{Follow, Publication, Tongue};
use super::super::verbs::Shape;
use super::{Desk, Pending, Session, To, rpc_null, tongue_of};
use crate::engine::effect::Answer;
use crate::engine::plan::Plan;
use crate::id::{ServiceId, Ticket};
use crate::limits;

impl Session {
    pub(super) fn end_words_stream(&mut self) {
        self.words_stream = false;
        self.follows.retain(|follow| follow.tongue == Tongue::Json);
        if self
            .subscription
            .as_ref()
            .is_some_and(|s| s.tongue == Tongue::Words)
        {
            self.subscription = None;
        }
        self.put_words("", Ok(()));
    }

    /// The answer to an [`Errand::Request`] or [`Errand::Reload`]; also, when it is an `Err`, to
    /// an [`Errand::Logs`].
    pub fn answer(&mut self, ticket: Ticket, answer: &Answer) {
        let Some(pending) = self.take(ticket) else {
            return;
        };
        match answer {
            Ok(accepted) => {
                let done = Done::of(accepted);
                if let To::Words = pending.to {
                    let mut text = String::new();
                    render::done(&done, &Style::default(), &mut text);
                    self.put_words(&text, Ok(()));
                } else {
                    self.result(&pending.to, |out| put_json(out, &done));
                }
            }
            Err(refusal) => {
                let fault = Fault {
                    code: refusal.code,
                    message: refusal.message.to_string(),
                };
                self.fail_with(&pending.to, &fault, refusal.plan.as_deref());
            }
        }
        self.settle(&pending.to);
    }

    /// The answer to an [`Errand::Logs`]: the last lines, oldest first.
    pub fn logs(&mut self, ticket: Ticket, lines: &[LogLine<'_>]) {
        let Some(pending) = self.take(ticket) else {
            return;
        };
        let Some(asked) = pending.logs else {
            return;
        };
        let tongue = match pending.to {
            To::Words => Tongue::Words,
            To::Nobody | To::Rpc { .. } | To::Batch { .. } => Tongue::Json,
        };
        let follow = Follow {
            tongue,
            services: (!asked.all).then_some(asked.services),
            choice: asked.choice,
        };
        let lines: Vec<&LogLine<'_>> = lines.iter().collect();
        let only = follow.only();
        if let To::Words = pending.to {
            let mut text = Vec::new();
            put_words(only.is_none(), &lines, &mut text);
            self.put(&[&text]);
            match asked.follow {
                true => self.words_stream = true,
                false => self.put_words("", Ok(())),
            }
        } else {
            self.result(&pending.to, |out| put_json(out, &log_lines(only, &lines)));
        }
        if asked.follow {
            self.follows.push(follow);
        }
        self.settle(&pending.to);
    }

    /// The answer to an [`Errand::Simulate`]: a JSON document of this shape.
    pub fn told(&mut self, ticket: Ticket, shape: Shape, json: &str) {
        let Some(pending) = self.take(ticket) else {
            return;
        };
        if let To::Words = pending.to {
            let drawn = reply::draw(shape, json, &Style::default()).unwrap_or_default();
            self.put_words(&drawn, Ok(()));
        } else {
            let json = json.as_bytes();
            self.result(&pending.to, |out| out.extend_from_slice(json));
        }
        self.settle(&pending.to);
    }

    fn take(&mut self, ticket: Ticket) -> Option<Pending> {
        let at = self
            .pending
            .iter()
            .position(|pending| pending.ticket == ticket)?;
        Some(self.pending.remove(at))
    }

    /// After an answer that was waited for.
    pub(super) fn settle(&mut self, to: &To) {
        match to {
            To::Nobody | To::Rpc { .. } => {}
            To::Words => self.words_wait = false,
            To::Batch { batch, .. } => self.settle_batch(*batch),
        }
    }

    /// Does this client follow that service's log?
    pub fn follows(&self, service: ServiceId, name: &str) -> bool {
        let mut follows = self.follows.iter();
        follows.any(|follow| follow.has(service, name, &self.access))
    }

    /// What a followed service wrote.
    pub fn log_lines(&mut self, service: ServiceId, name: &str, lines: &[LogLine<'_>]) {
        if self.gone || self.cut.is_some() {
            return;
        }
        for follow in &self.follows {
            if follow.has(service, name, &self.access) {
                follow.put(lines, &mut self.output);
            }
        }
        self.bound();
    }

    /// Does this client listen to any events?
    pub fn listens(&self) -> bool {
        self.subscription.is_some()
    }

    /// Something happened.
    pub fn publish(&mut self, event: &Publication) {
        let tongue = match &self.subscription {
            Some(wanted) if wanted.wants(event, &self.access) => wanted.tongue,
            _ => return,
        };
        self.put(&[event.bytes(tongue)]);
    }

    /// One answer of a batch less to wait for; the last one sends it.
    pub(super) fn settle_batch(&mut self, serial: u32) {
        let Some(at) = self.batches.iter().position(|batch| batch.serial == serial) else {
            return;
        };
        self.batches[at].waiting -= 1;
        if self.batches[at].waiting > 0 {
            return;
        }
        let parts = self.batches.swap_remove(at).parts;
        // All notifications: no answer at all.
        if !parts.is_empty() {
            self.put(&[b"[", &parts, b"]\n"]);
        }
    }

    /// The error for a line that cannot be read at all.
    pub(super) fn refuse_line(&mut self, line: &[u8], why: &str) {
        match tongue_of(line) {
            Tongue::Words => self.put_words("", Err(why)),
            Tongue::Json => self.emit(&rpc_null(), |out| {
                rpc::put_error(NULL_ID, code::PARSE, &format!("Parse error: {why}"), out);
            }),
        }
    }

    pub(super) fn reply(&mut self, to: &To, reply: &Reply, desk: &Desk<'_>) {
        if let To::Words = to {
            let style = Style {
                now_ms: desk.wall.wall_ms,
                ..Style::default()
            };
            let mut text = String::new();
            reply.put_text(desk.house, &desk.wall, &style, &mut text);
            self.put_words(&text, Ok(()));
        } else {
            self.result(to, |out| reply.put_json(desk.house, &desk.wall, out));
        }
    }

    pub(super) fn fail(&mut self, to: &To, fault: &Fault) {
        self.fail_with(to, fault, None);
    }

    /// The plan is the error's `data`.
    fn fail_with(&mut self, to: &To, fault: &Fault, plan: Option<&Plan>) {
        match to {
            To::Nobody => {}
            To::Words => self.put_words("", Err(&fault.message)),
            To::Rpc { id } | To::Batch { id, .. } => {
                let mut data = Vec::new();
                if let Some(plan) = plan {
                    data.extend_from_slice(b",\"data\":{\"plan\":");
                    put_json(&mut data, plan);
                    data.push(b'}');
                }
                self.emit(to, |out| {
                    rpc::put_error_with(id, fault.code, &fault.message, &data, out);
                });
            }
        }
    }

    pub(super) fn result(&mut self, to: &To, write: impl FnOnce(&mut Vec<u8>)) {
        if let To::Rpc { id } | To::Batch { id, .. } = to {
            self.emit(to, |out| {
                out.extend_from_slice(rpc::RESULT);
                write(out);
                rpc::close(id, out);
            });
        }
    }

    /// One JSON answer, as a line or as a batch's member.
    pub(super) fn emit(&mut self, to: &To, write: impl FnOnce(&mut Vec<u8>)) {
        if self.gone || self.cut.is_some() {
            return;
        }
        match to {
            To::Nobody | To::Words => {}
            To::Rpc { .. } => {
                write(&mut self.output);
                self.output.push(b'\n');
            }
            To::Batch { batch, .. } => {
                if let Some(batch) = self.batches.iter_mut().find(|b| b.serial == *batch) {
                    if !batch.parts.is_empty() {
                        batch.parts.push(b',');
                    }
                    write(&mut batch.parts);
                }
            }
        }
        self.bound();
    }

    /// An answer in words: text, then how it went.
    pub(super) fn put_words(&mut self, text: &str, outcome: Result<(), &str>) {
        match outcome {
            Ok(()) => self.put(&[text.as_bytes(), b"ok\n"]),
            Err(why) => {
                let (first, details) = why.split_once('\n').unwrap_or((why, ""));
                let last = format!("{}error: {}\n", clean_lines(details), clean(first));
                self.put(&[text.as_bytes(), last.as_bytes()]);
            }
        }
    }

    pub(super) fn put(&mut self, parts: &[&[u8]]) {
        if self.gone || self.cut.is_some() {
            return;
        }
        for part in parts {
            self.output.extend_from_slice(part);
        }
        self.bound();
    }

    fn bound(&mut self) {
        if self.backlog() > limits::MAX_CLIENT_OUTPUT {
            self.cut = Some("it does not read what it asks for");
            self.drop_output();
        }
    }

    pub(super) fn drop_output(&mut self) {
        self.output = Vec::new();
        self.sent = 0;
        self.follows.clear();
        self.subscription = None;
        self.words_stream = false;
        for batch in &mut self.batches {
            batch.parts = Vec::new();
        }
    }
}
