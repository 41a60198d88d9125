//! What a probe can answer. The protocols are one file each below this one: bytes in, bytes out.
//!
//! Not here: sockets, processes, clocks. A driver opens the connection, moves the bytes, holds the
//! timeout, and tells a [`Dialogue`] what happened; the dialogue says what to send and when the
//! outcome is known. So each protocol is tested without a socket, at every byte boundary.

pub mod dialogue;
pub mod dns;
pub mod exec;
pub mod grpc;
pub mod http;
pub mod jsonrpc;
pub mod postgres;
pub mod redis;
pub mod session;
pub mod talk;
pub mod usage;
pub mod visible;

pub use dialogue::{Dialogue, Fault, Step};

use crate::exit::{Signal, errno_words};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// The answer to one check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    pub outcome: Outcome,
    pub latency: Duration,
    /// The first bytes of the reply or the last lines of the command, within `limits`; lossy UTF-8.
    pub output: Box<str>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Pass,
    /// The service's fault.
    Fail(Reason),
    /// Our own trouble: moves no streak.
    Inconclusive(Trouble),
}

/// Why a check failed. Each cause is told apart, because each has its own remedy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Timeout,
    Refused,
    Reset,
    Unreachable,
    /// Closed without a byte.
    EmptyReply,
    Status(u16),
    /// Not the protocol; says what was wrong.
    Syntax(Box<str>),
    /// The status was right, the body (or the expected answer) was not.
    Mismatch,
    RedirectLoop,
    /// The socket's path does not exist.
    Missing,
    /// The Unix listener's accept queue stayed full until the timeout.
    QueueFull,
    /// The path or command may not be used by us.
    Denied,
    ExitCode(u8),
    Signal(Signal),
    /// TLS handshake or certificate.
    Tls(Box<str>),
    /// The timeout, and how far it came until then.
    TimeoutAt(Box<str>),
    /// The server's own words: an error that it answered with.
    Said(Box<str>),
    /// Found out from outside: too old, too much.
    Found(Box<str>),
}

/// Why a check says nothing about the service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    NoDescriptor,
    NoMemory,
    CannotFork,
    /// The probe's command cannot be executed (errno).
    CannotExecute(i32),
    Unresolved(Box<str>),
    /// The loop or the host was starved.
    Starved,
    /// The machine was suspended.
    Suspended,
    /// The host is short of what is said.
    Pressed(Box<str>),
    /// Anything else that is ours, said in words.
    Internal(Box<str>),
}

impl Trouble {
    /// The causes, by which they are counted.
    pub const CAUSES: [&'static str; 9] = [
        "no descriptor",
        "no memory",
        "cannot fork",
        "cannot execute",
        "unresolved",
        "starved",
        "suspended",
        "pressure",
        "other",
    ];

    /// Which of them it is.
    pub fn cause(&self) -> usize {
        match self {
            Trouble::NoDescriptor => 0,
            Trouble::NoMemory => 1,
            Trouble::CannotFork => 2,
            Trouble::CannotExecute(_) => 3,
            Trouble::Unresolved(_) => 4,
            Trouble::Starved => 5,
            Trouble::Suspended => 6,
            Trouble::Pressed(_) => 7,
            Trouble::Internal(_) => 8,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Timeout => f.write_str("timeout"),
            Reason::Refused => f.write_str("connection refused"),
            Reason::Reset => f.write_str("connection reset"),
            Reason::Unreachable => f.write_str("unreachable"),
            Reason::EmptyReply => f.write_str("empty reply"),
            Reason::Status(code) => write!(f, "status {code}"),
            Reason::Syntax(what) => write!(f, "bad syntax: {what}"),
            Reason::Mismatch => f.write_str("unexpected answer"),
            Reason::RedirectLoop => f.write_str("redirect loop"),
            Reason::Missing => f.write_str("socket path missing"),
            Reason::QueueFull => f.write_str("accept queue full"),
            Reason::Denied => f.write_str("permission denied"),
            Reason::ExitCode(code) => write!(f, "exit code {code}"),
            Reason::Signal(signal) => write!(f, "signal {signal}"),
            Reason::Tls(what) => write!(f, "tls: {what}"),
            Reason::TimeoutAt(what) => write!(f, "timeout: {what}"),
            Reason::Said(what) | Reason::Found(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NoDescriptor => f.write_str("no free descriptor"),
            Trouble::NoMemory => f.write_str("no memory"),
            Trouble::CannotFork => f.write_str("cannot fork"),
            Trouble::CannotExecute(errno) => write!(
                f,
                "cannot execute the probe's command: {}",
                errno_words(*errno)
            ),
            Trouble::Unresolved(name) => write!(f, "cannot resolve {name}"),
            Trouble::Starved => f.write_str("the supervisor was starved"),
            Trouble::Suspended => f.write_str("the machine was suspended"),
            Trouble::Pressed(what) => write!(f, "the host is under pressure: {what}"),
            Trouble::Internal(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Pass => f.write_str("pass"),
            Outcome::Fail(reason) => reason.fmt(f),
            Outcome::Inconclusive(trouble) => trouble.fmt(f),
        }
    }
}
