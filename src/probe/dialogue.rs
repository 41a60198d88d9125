//! One conversation with a service, without the connection it runs over.
//!
//! The driver connects and writes what [`Dialogue::request`] gives; it hands in bytes, end of
//! file, faults and the expiry as they come. Invariants: any sequence of bytes that is long enough
//! or ends leads to `Done`; how the bytes are cut never changes the outcome; nothing is fed in
//! after `Done`. A dialogue holds no part of its definition: each call is given the same [`Ask`].

use crate::config::Ask;
use crate::probe::http::Exchange;
use crate::probe::session::Session;
use crate::probe::talk::Talk;
use crate::probe::{Outcome, Reason, Trouble, visible};

#[derive(Clone, Debug)]
pub enum Dialogue {
    Http(Exchange),
    Talk(Talk),
    Session(Box<Session>),
}

/// What follows from what was fed in.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Go on reading.
    More,
    /// The outcome is known; what can be read at once is still welcome as evidence.
    Enough(Outcome),
    Done(Outcome),
    /// A redirect: connect anew and send [`Dialogue::request`] again.
    Again,
}

/// What a connection said instead of bytes. The driver makes it of an errno.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    Refused,
    /// Reset, aborted, or closed under our writing.
    Reset,
    Unreachable,
    /// The kernel gave up before the check's own timeout.
    TimedOut,
    Missing,
    QueueFull,
    Denied,
    /// It is no stream socket, or otherwise not what was asked for.
    Wrong(Box<str>),
    /// Ours, not the service's.
    Ours(Trouble),
}

impl Fault {
    pub fn outcome(self) -> Outcome {
        Outcome::Fail(match self {
            Fault::Refused => Reason::Refused,
            Fault::Reset => Reason::Reset,
            Fault::Unreachable => Reason::Unreachable,
            Fault::TimedOut => Reason::Timeout,
            Fault::Missing => Reason::Missing,
            Fault::QueueFull => Reason::QueueFull,
            Fault::Denied => Reason::Denied,
            Fault::Wrong(what) => Reason::Syntax(what),
            Fault::Ours(trouble) => return Outcome::Inconclusive(trouble),
        })
    }
}

impl Dialogue {
    /// None for what is not asked over a plain stream (`https`, `exec`).
    pub fn new(ask: &Ask) -> Option<Dialogue> {
        match ask {
            Ask::Http(_) => Some(Dialogue::Http(Exchange::default())),
            Ask::Tcp { .. } | Ask::Unix { .. } => Some(Dialogue::Talk(Talk::default())),
            Ask::Server(server) => Some(Dialogue::Session(Box::new(Session::new(server)))),
            Ask::Https(_) | Ask::Exec { .. } | Ask::Look(_) => None,
        }
    }

    /// Before anything is asked: a password that is no part of the definition.
    pub fn set_secret(&mut self, secret: &str) {
        if let Dialogue::Session(session) = self {
            session.set_secret(secret);
        }
    }

    /// Whether an accepted connection is all that is asked for.
    pub fn connect_is_enough(ask: &Ask) -> bool {
        matches!(talk_parts(ask), Some((None, None)))
    }

    /// Appends what is to be sent once connected. The same bytes each time, so that a driver may
    /// ask again instead of keeping what it could not send at once.
    pub fn request(&self, ask: &Ask, out: &mut Vec<u8>) {
        match (self, ask) {
            (Dialogue::Http(exchange), Ask::Http(http)) => exchange.request(http, out),
            (Dialogue::Session(session), Ask::Server(server)) => session.request(server, out),
            _ => {
                if let Some((Some(send), _)) = talk_parts(ask) {
                    out.extend_from_slice(send.as_bytes());
                }
            }
        }
    }

    pub fn on_bytes(&mut self, ask: &Ask, bytes: &[u8]) -> Step {
        match (self, ask) {
            (Dialogue::Http(exchange), Ask::Http(http)) => exchange.on_bytes(http, bytes),
            (Dialogue::Talk(talk), _) => {
                let expect = talk_parts(ask).and_then(|(_, expect)| expect);
                talk.on_bytes(expect, bytes)
            }
            (Dialogue::Session(session), Ask::Server(server)) => session.on_bytes(server, bytes),
            (Dialogue::Http(_) | Dialogue::Session(_), _) => Step::Done(not_this()),
        }
    }

    /// The other side closed its end.
    pub fn on_eof(&mut self, ask: &Ask) -> Outcome {
        match (self, ask) {
            (Dialogue::Http(exchange), _) => exchange.on_eof(),
            (Dialogue::Talk(talk), _) => talk.on_eof(),
            (Dialogue::Session(session), Ask::Server(server)) => session.on_eof(server),
            (Dialogue::Session(_), _) => not_this(),
        }
    }

    /// The connection failed, or could not be made.
    pub fn on_fault(&mut self, fault: Fault) -> Outcome {
        match self {
            Dialogue::Http(exchange) => exchange.verdict().unwrap_or_else(|| fault.outcome()),
            Dialogue::Talk(_) | Dialogue::Session(_) => fault.outcome(),
        }
    }

    /// The check's time is up.
    pub fn on_expired(&self) -> Outcome {
        let known = match self {
            Dialogue::Http(exchange) => exchange.verdict(),
            Dialogue::Talk(_) | Dialogue::Session(_) => None,
        };
        known.unwrap_or(Outcome::Fail(Reason::Timeout))
    }

    /// What came back so far, bounded and fit to be shown.
    pub fn output(&self) -> Box<str> {
        visible::first_bytes(match self {
            Dialogue::Http(exchange) => exchange.kept(),
            Dialogue::Talk(talk) => &talk.seen,
            Dialogue::Session(session) => session.kept(),
        })
    }

    /// Whether not one byte came back.
    pub fn is_untouched(&self) -> bool {
        match self {
            Dialogue::Http(exchange) => exchange.is_untouched(),
            Dialogue::Talk(talk) => talk.seen.is_empty(),
            Dialogue::Session(session) => session.is_untouched(),
        }
    }

    /// After `Done`: whether the next check may use the same connection.
    pub fn may_be_reused(&self) -> bool {
        match self {
            Dialogue::Http(exchange) => exchange.may_be_reused(),
            Dialogue::Talk(_) | Dialogue::Session(_) => false,
        }
    }
}

fn talk_parts(ask: &Ask) -> Option<(Option<&str>, Option<&str>)> {
    match ask {
        Ask::Tcp { send, expect, .. } | Ask::Unix { send, expect, .. } => {
            Some((send.as_deref(), expect.as_deref()))
        }
        Ask::Http(_) | Ask::Https(_) | Ask::Exec { .. } | Ask::Server(_) | Ask::Look(_) => None,
    }
}

/// A dialogue was given another probe's definition.
fn not_this() -> Outcome {
    Outcome::Inconclusive(Trouble::Internal(
        "the probe's type changed under it".into(),
    ))
}

/// Whether `needle` is in `hay`, given that it is not wholly before `from`.
pub(super) fn contains_from(hay: &[u8], from: usize, needle: &[u8]) -> bool {
    needle.is_empty() || hay[from..].windows(needle.len()).any(|w| w == needle)
}
