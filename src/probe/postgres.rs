//! `postgres`: a start-up packet (protocol 3.0), answered by a request to authenticate.
//!
//! Like pg_isready it does not log in. An error is told by its SQLSTATE and words: 57P03 while it
//! starts up or shuts down, 53300 for too many connections. Where neither user nor database was
//! given, to be turned away (class 28, 3D000) shows a server that works, too.
//!
//! A server that lets us in unasked is read until it is ready for a query: what is left unread
//! would make the end of the connection a reset, and that a line in its log.

use crate::limits::PROBE_READ_BYTES;
use crate::probe::Outcome;
use crate::probe::session::{Said, said, syntax};

/// Whom we say we are, if nothing is given.
pub const USER: &str = "postgres";

pub fn request(user: Option<&str>, database: Option<&str>, out: &mut Vec<u8>) {
    let user = user.unwrap_or(USER);
    let mut body = Vec::with_capacity(64);
    body.extend_from_slice(&0x0003_0000u32.to_be_bytes());
    let pairs = [
        ("user", user),
        ("database", database.unwrap_or(user)),
        ("application_name", "vitald"),
    ];
    for (key, value) in pairs {
        for text in [key, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(&body);
}

pub fn judge(is_picky: bool, seen: &[u8]) -> Said {
    let mut rest = seen;
    let mut admitted = false;
    loop {
        let Some((&kind, after)) = rest.split_first() else {
            return (admitted && seen.len() >= PROBE_READ_BYTES).then_some(Outcome::Pass);
        };
        let first = rest.len() == seen.len();
        if (first && !matches!(kind, b'R' | b'E')) || !kind.is_ascii_alphabetic() {
            return Some(syntax("no answer of PostgreSQL"));
        }
        let length = after.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let length = match length {
            Some(length) => length as usize,
            None if admitted && seen.len() >= PROBE_READ_BYTES => return Some(Outcome::Pass),
            None => return None,
        };
        if length < 4 || (length >= PROBE_READ_BYTES && kind != b'E') {
            return Some(syntax("no answer of PostgreSQL"));
        }
        if length >= PROBE_READ_BYTES {
            // A text alone: the server could not even fork.
            let end = after.iter().position(|b| *b == 0);
            let text = &after[..end.unwrap_or(after.len())];
            return (end.is_some() || seen.len() >= PROBE_READ_BYTES).then(|| said(text));
        }
        let body = match after.get(4..length) {
            Some(body) => body,
            None if admitted && seen.len() >= PROBE_READ_BYTES => return Some(Outcome::Pass),
            None => return None,
        };
        match kind {
            b'E' => return Some(error(is_picky, body)),
            b'Z' => return Some(Outcome::Pass),
            b'R' => match body.first_chunk() {
                Some([0, 0, 0, 0]) => admitted = true,
                Some(_) => return Some(Outcome::Pass),
                None => return Some(syntax("a request to authenticate without its kind")),
            },
            _ => {}
        }
        rest = &after[length..];
    }
}

/// An ErrorResponse: fields, each a letter and a text closed by a zero.
fn error(is_picky: bool, body: &[u8]) -> Outcome {
    let (mut code, mut message): (&[u8], &[u8]) = (b"", b"");
    for field in body.split(|b| *b == 0) {
        match field.split_first() {
            Some((b'C', text)) => code = text,
            Some((b'M', text)) => message = text,
            Some(_) | None => {}
        }
    }
    if !is_picky && (code.starts_with(b"28") || code == b"3D000") {
        return Outcome::Pass;
    }
    said(&[code, b" ", message].concat())
}
