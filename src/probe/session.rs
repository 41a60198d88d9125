//! The protocols of servers: one request, then what comes back is kept and judged.
//!
//! A protocol is two functions: what to send, and what the bytes so far say. Invariant, which the
//! tests try at every byte: once a judge has said something, more bytes do not change it. What comes
//! back is bounded by [`PROBE_READ_BYTES`].

use crate::config::{Server, Speaks};
use crate::limits::PROBE_READ_BYTES;
use crate::probe::dialogue::Step;
use crate::probe::http::Exchange;
use crate::probe::{Outcome, Reason, grpc, jsonrpc, postgres, redis, visible};

#[derive(Clone, Debug, Default)]
pub struct Session {
    seen: Vec<u8>,
    /// A password, which is no part of the definition.
    secret: Option<Box<str>>,
    /// What goes by HTTP.
    exchange: Option<Box<Exchange>>,
}

/// What the bytes so far say; None: not yet known.
pub type Said = Option<Outcome>;

impl Session {
    pub fn new(server: &Server) -> Session {
        let over_http = matches!(&server.speaks, Speaks::JsonRpc(rpc) if rpc.http.is_some());
        Session {
            exchange: over_http.then(|| Box::new(Exchange::of_whole_body())),
            ..Session::default()
        }
    }

    pub fn set_secret(&mut self, secret: &str) {
        self.secret = Some(secret.into());
    }

    pub fn request(&self, server: &Server, out: &mut Vec<u8>) {
        match &server.speaks {
            Speaks::Redis { user, .. } => {
                redis::request(user.as_deref(), self.secret.as_deref(), out);
            }
            Speaks::Postgres { user, database } => {
                postgres::request(user.as_deref(), database.as_deref(), out);
            }
            Speaks::JsonRpc(rpc) => {
                let body = jsonrpc::request(rpc);
                match (&self.exchange, &rpc.http) {
                    (Some(exchange), Some(http)) => exchange.request_with(http, &body, out),
                    _ => out.extend_from_slice(&body),
                }
            }
            Speaks::Grpc { service } => grpc::request(&server.address, service, out),
        }
    }

    pub fn on_bytes(&mut self, server: &Server, bytes: &[u8]) -> Step {
        if let (Some(exchange), Speaks::JsonRpc(rpc)) = (&mut self.exchange, &server.speaks)
            && let Some(http) = &rpc.http
        {
            return match exchange.on_bytes(http, bytes) {
                // Its end is told by the connection's: what is there may be all.
                Step::Enough(Outcome::Pass) => {
                    jsonrpc::judge(rpc, exchange.body()).map_or(Step::More, Step::Done)
                }
                Step::Done(Outcome::Pass) => {
                    Step::Done(whole(jsonrpc::judge(rpc, exchange.body())))
                }
                step => step,
            };
        }
        let room = PROBE_READ_BYTES - self.seen.len();
        self.seen.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.seen.is_empty() {
            return Step::More;
        }
        match judge(server, self.secret.is_some(), &self.seen) {
            Some(outcome) => Step::Done(outcome),
            None if self.seen.len() >= PROBE_READ_BYTES => {
                Step::Done(syntax("the answer is too long"))
            }
            None => Step::More,
        }
    }

    /// The other side will send no more.
    pub fn on_eof(&mut self, server: &Server) -> Outcome {
        if let (Some(exchange), Speaks::JsonRpc(rpc)) = (&mut self.exchange, &server.speaks) {
            return match exchange.on_eof() {
                Outcome::Pass => whole(jsonrpc::judge(rpc, exchange.body())),
                outcome => outcome,
            };
        }
        match self.seen.is_empty() {
            true => Outcome::Fail(Reason::EmptyReply),
            false => syntax("closed within the answer"),
        }
    }

    pub fn kept(&self) -> &[u8] {
        match &self.exchange {
            Some(exchange) => exchange.kept(),
            None => &self.seen,
        }
    }

    pub fn is_untouched(&self) -> bool {
        match &self.exchange {
            Some(exchange) => exchange.is_untouched(),
            None => self.seen.is_empty(),
        }
    }
}

/// What bytes from the beginning of the connection say.
pub(super) fn judge(server: &Server, with_password: bool, seen: &[u8]) -> Said {
    match &server.speaks {
        Speaks::Redis { .. } => redis::judge(with_password, seen),
        Speaks::Postgres { user, database } => {
            postgres::judge(user.is_some() || database.is_some(), seen)
        }
        Speaks::JsonRpc(rpc) => jsonrpc::judge(rpc, seen),
        Speaks::Grpc { .. } => grpc::judge(seen),
    }
}

fn whole(said: Said) -> Outcome {
    said.unwrap_or_else(|| syntax("no whole JSON-RPC answer in the body"))
}

pub(super) fn syntax(what: &str) -> Outcome {
    Outcome::Fail(Reason::Syntax(what.into()))
}

/// The server's own words, fit to be shown in a line.
pub(super) fn said(words: &[u8]) -> Outcome {
    /// Longer ones say no more.
    const LONGEST: usize = 160;
    let text = visible::first_bytes(&words[..words.len().min(LONGEST)]);
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        line.push_str("an error without a word");
    }
    Outcome::Fail(Reason::Said(line.into()))
}

#[cfg(test)]
mod tests;
