//! `http`: one HTTP/1.1 exchange (RFC 9110, RFC 9112), judged by status and, if asked, body.
//!
//! Not here: proxies (none is ever used), TLS, compression (none is offered), caching, cookies.
//! The outcome does not wait for the connection's end: it is known when the head is there and the
//! body as its framing tells, or what `expect_body` needs. A head or a body beyond
//! [`PROBE_READ_BYTES`] is cut there and judged as it is, so an endless answer ends too.

mod body;
mod head;
pub mod redirect;
#[cfg(test)]
mod tests;

use crate::config::{Address, Http};
use crate::limits::{PROBE_OUTPUT_BYTES, PROBE_READ_BYTES};
use crate::probe::dialogue::{Step, contains_from};
use crate::probe::{Outcome, Reason};
use body::Framing;
pub use head::expected;
use head::{Asked, Head, Parsed};
use std::fmt::Write;

/// How the prober names itself.
pub const USER_AGENT: &str = concat!("vitald/", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// The head so far; once it is whole only what is worth showing: its first line.
    head: Vec<u8>,
    /// Bytes of interim answers (1xx) that went before; they count towards the head's bound.
    interim: usize,
    body: Vec<u8>,
    body_read: usize,
    answer: Option<Head>,
    /// Set by a redirect: where we are now.
    path: Option<Box<str>>,
    as_get: bool,
    hops: u8,
    /// The body ended exactly where the bytes ended.
    clean_end: bool,
    /// The body is kept up to what is read of it.
    whole_body: bool,
}

impl Exchange {
    /// One whose body somebody else judges.
    pub fn of_whole_body() -> Exchange {
        Exchange {
            whole_body: true,
            ..Exchange::default()
        }
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Appends the request.
    pub fn request(&self, http: &Http, out: &mut Vec<u8>) {
        self.request_with(http, b"", out);
    }

    /// The same, with a body.
    pub fn request_with(&self, http: &Http, body: &[u8], out: &mut Vec<u8>) {
        let given = |name: &str| {
            http.headers
                .iter()
                .any(|(n, _)| n.eq_ignore_ascii_case(name))
        };
        let method = self.method(http);
        let path = redirect::escaped(self.path(http).as_bytes());
        let mut text = String::with_capacity(160);
        text.push_str(method);
        text.push(' ');
        text.push_str(&path);
        text.push_str(" HTTP/1.1\r\n");
        if !given("host") {
            text.push_str("Host: ");
            push_authority(&mut text, &http.address, 80);
            text.push_str("\r\n");
        }
        if !given("user-agent") {
            text.push_str("User-Agent: ");
            text.push_str(USER_AGENT);
            text.push_str("\r\n");
        }
        if !given("accept") {
            text.push_str("Accept: */*\r\n");
        }
        if !http.keep_alive && !given("connection") {
            text.push_str("Connection: close\r\n");
        }
        // RFC 9110 §8.6: a method that means to send something says that it sends nothing.
        if matches!(method, "POST" | "PUT" | "PATCH") && !given("content-length") {
            let _ = write!(text, "Content-Length: {}\r\n", body.len());
        }
        for (name, value) in &http.headers {
            push_line_safe(&mut text, name);
            text.push_str(": ");
            push_line_safe(&mut text, value);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(body);
    }

    pub fn on_bytes(&mut self, http: &Http, bytes: &[u8]) -> Step {
        if self.answer.is_some() {
            return self.on_body(http, bytes);
        }
        // Usually the whole head comes at once and is read where it lies.
        if self.head.is_empty() {
            return self.on_head(http, bytes, bytes);
        }
        let mut head = std::mem::take(&mut self.head);
        head.extend_from_slice(bytes);
        self.on_head(http, &head, bytes)
    }

    /// `data`: all there is since the last interim answer; `new`: its part that just came.
    fn on_head(&mut self, http: &Http, mut data: &[u8], new: &[u8]) -> Step {
        // Without a new line end there is nothing new to parse.
        let mut worth_parsing = new.contains(&b'\n');
        loop {
            if let Some(wrong) = not_http(data) {
                return self.bad(data, wrong.into());
            }
            let bound = PROBE_READ_BYTES.saturating_sub(self.interim);
            let full = data.len() >= bound;
            if !worth_parsing && !full {
                self.head.extend_from_slice(data);
                return Step::More;
            }
            let asked = Asked {
                http,
                method: self.method(http),
                path: self.path(http),
            };
            // Whole lines only: what a line means is known at its end, however it was cut.
            let lines = match full {
                true => data.len().min(bound),
                false => data
                    .iter()
                    .rposition(|b| *b == b'\n')
                    .map_or(0, |at| at + 1),
            };
            match head::parse(&asked, &data[..lines], full) {
                Parsed::Partial => {
                    self.head.extend_from_slice(data);
                    return Step::More;
                }
                Parsed::Interim(n) => {
                    self.interim += n;
                    data = &data[n..];
                    worth_parsing = true;
                }
                Parsed::Whole(n, head) => {
                    self.keep_line(data);
                    self.answer = Some(head);
                    return self.on_body(http, &data[n..]);
                }
                Parsed::Redirect(path, status) => return self.redirected(http, data, path, status),
                Parsed::TooLong(status) => {
                    self.keep_line(data);
                    return Step::Done(if !expected(http, status) {
                        Outcome::Fail(Reason::Status(status))
                    } else if http.expect_body.is_some() {
                        Outcome::Fail(Reason::Mismatch)
                    } else {
                        Outcome::Pass
                    });
                }
                Parsed::Bad(why) => return self.bad(data, why),
            }
        }
    }

    fn on_body(&mut self, http: &Http, bytes: &[u8]) -> Step {
        let Some(answer) = &mut self.answer else {
            return Step::More;
        };
        let room = PROBE_READ_BYTES - self.body_read;
        let within = &bytes[..bytes.len().min(room)];
        let keep = match http.expect_body {
            Some(_) => PROBE_READ_BYTES,
            None if self.whole_body => PROBE_READ_BYTES,
            None => PROBE_OUTPUT_BYTES,
        };
        let before = self.body.len();
        let body = &mut self.body;
        let taken = answer.framing.take(within, &mut |part| {
            let fits = part.len().min(keep - body.len());
            body.extend_from_slice(&part[..fits]);
        });
        let found = http.expect_body.as_deref().is_some_and(|expected| {
            let from = before.saturating_sub(expected.len());
            contains_from(&self.body, from, expected.as_bytes())
        });
        let taken = match taken {
            Ok(taken) => taken,
            // What was asked for came before what is wrong: had it come alone, it had been a pass.
            Err(_) if found && !answer.wrong_status => return Step::Done(Outcome::Pass),
            Err(why) => {
                let syntax = || Outcome::Fail(Reason::Syntax(why.into()));
                return Step::Done(self.verdict().unwrap_or_else(syntax));
            }
        };
        self.body_read += taken;
        let complete = answer.framing.is_complete();
        let cut = self.body_read >= PROBE_READ_BYTES;
        self.clean_end = complete && taken == bytes.len();
        if answer.wrong_status {
            let failed = Outcome::Fail(Reason::Status(answer.status));
            return match answer.framing {
                _ if complete || cut || self.body.len() >= PROBE_OUTPUT_BYTES => Step::Done(failed),
                Framing::UntilClose => Step::Enough(failed),
                _ => Step::More,
            };
        }
        if http.expect_body.is_some() {
            return if found {
                Step::Done(Outcome::Pass)
            } else if complete || cut {
                Step::Done(Outcome::Fail(Reason::Mismatch))
            } else {
                Step::More
            };
        }
        match answer.framing {
            _ if complete || cut => Step::Done(Outcome::Pass),
            Framing::UntilClose => {
                answer.passed = true;
                Step::Enough(Outcome::Pass)
            }
            _ => Step::More,
        }
    }

    pub fn on_eof(&mut self) -> Outcome {
        if let Some(verdict) = self.verdict() {
            return verdict;
        }
        Outcome::Fail(match &self.answer {
            None if self.is_untouched() => Reason::EmptyReply,
            None => Reason::Syntax("closed within the answer's head".into()),
            // The end that was waited for; what was expected would have been found before.
            Some(answer) if matches!(answer.framing, Framing::UntilClose) => Reason::Mismatch,
            Some(_) => Reason::Syntax("closed within the answer's body".into()),
        })
    }

    /// The outcome that holds whatever still happens: the status alone was a failure, or all that
    /// was needed is there.
    pub fn verdict(&self) -> Option<Outcome> {
        let answer = self.answer.as_ref()?;
        if answer.wrong_status {
            Some(Outcome::Fail(Reason::Status(answer.status)))
        } else {
            answer.passed.then_some(Outcome::Pass)
        }
    }

    /// What came back: of the body if there is any, else of the head.
    pub fn kept(&self) -> &[u8] {
        if self.body.is_empty() {
            &self.head
        } else {
            &self.body
        }
    }

    pub fn is_untouched(&self) -> bool {
        self.answer.is_none() && self.head.is_empty() && self.interim == 0 && self.hops == 0
    }

    pub fn may_be_reused(&self) -> bool {
        self.clean_end && self.answer.as_ref().is_some_and(|a| a.stays_open)
    }

    fn path<'a>(&'a self, http: &'a Http) -> &'a str {
        self.path.as_deref().unwrap_or(&http.path)
    }

    fn method<'a>(&self, http: &'a Http) -> &'a str {
        if self.as_get { "GET" } else { &http.method }
    }

    fn redirected(&mut self, http: &Http, data: &[u8], path: String, status: u16) -> Step {
        let turns_get = match status {
            303 => self.method(http) != "HEAD",
            301 | 302 => self.method(http) == "POST",
            _ => false,
        };
        let here = self.path(http);
        let nothing_new = path == here && (!turns_get || self.method(http) == "GET");
        if nothing_new || self.hops >= http.follow_redirects {
            self.keep_line(data);
            return Step::Done(Outcome::Fail(Reason::RedirectLoop));
        }
        *self = Exchange {
            path: Some(path.into()),
            as_get: self.as_get || turns_get,
            hops: self.hops + 1,
            ..Exchange::default()
        };
        Step::Again
    }

    fn bad(&mut self, data: &[u8], why: Box<str>) -> Step {
        self.head.clear();
        self.head
            .extend_from_slice(&data[..data.len().min(PROBE_OUTPUT_BYTES)]);
        Step::Done(Outcome::Fail(Reason::Syntax(why)))
    }

    fn keep_line(&mut self, data: &[u8]) {
        let end = data.iter().position(|b| matches!(b, b'\r' | b'\n'));
        let line = &data[..end.unwrap_or(data.len()).min(PROBE_OUTPUT_BYTES)];
        self.head.clear();
        self.head.extend_from_slice(line);
    }
}

/// `host`, `host:port`, `[v6]:port`; for a Unix socket `localhost`, as curl does.
pub fn push_authority(out: &mut String, address: &Address, default_port: u16) {
    match address {
        Address::Unix { .. } => out.push_str("localhost"),
        Address::Tcp { host, port } => {
            if host.contains(':') {
                // A zone names our interface and is not the server's business (RFC 6874 §1).
                let _ = write!(out, "[{}]", host.split('%').next().unwrap_or(host));
            } else {
                out.push_str(host);
            }
            if *port != default_port {
                let _ = write!(out, ":{port}");
            }
        }
    }
}

/// A definition's text cannot end the line it stands in.
fn push_line_safe(out: &mut String, text: &str) {
    out.extend(text.chars().map(|c| {
        if matches!(c, '\r' | '\n' | '\0') {
            ' '
        } else {
            c
        }
    }));
}

/// Why these first bytes cannot be an HTTP/1 answer; None while they may.
fn not_http(data: &[u8]) -> Option<&'static str> {
    let n = data.len().min(7);
    if data[..n] == b"HTTP/1."[..n] {
        None
    } else if data.starts_with(&[0x15, 0x03]) {
        Some("the answer is TLS; use type https")
    } else if data[0] == 0x15 && n == 1 {
        None
    } else {
        Some("the answer does not begin with HTTP/1")
    }
}
