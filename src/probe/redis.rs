//! `redis`: PING, answered by PONG (RESP2); before it AUTH, if there is a password.
//!
//! Each error of the server is a failure in its own words, which begin with its code: `LOADING`,
//! `BUSY`, `NOAUTH`, `MISCONF`, `ERR max number of clients reached`. Both commands go at once.

use crate::probe::session::{Said, said, syntax};
use crate::probe::{Outcome, Reason};

/// A line is never longer: Redis cuts its errors far below.
const LONGEST_LINE: usize = 1024;

pub fn request(user: Option<&str>, password: Option<&str>, out: &mut Vec<u8>) {
    if let Some(password) = password {
        let words = [Some("AUTH"), user, Some(password)];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        command(&words, out);
    }
    command(&["PING"], out);
}

/// As an array of bulk strings, so that no word is taken for two.
fn command(words: &[&str], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

pub fn judge(with_password: bool, seen: &[u8]) -> Said {
    let mut rest = seen;
    if with_password {
        match line(&mut rest)? {
            Ok(b"+OK") => {}
            Ok(other) => return Some(refused(other)),
            Err(outcome) => return Some(outcome),
        }
    }
    Some(match line(&mut rest)? {
        Ok(b"+PONG") => Outcome::Pass,
        Ok(other) => refused(other),
        Err(outcome) => outcome,
    })
}

fn refused(line: &[u8]) -> Outcome {
    match line.strip_prefix(b"-") {
        Some(error) => said(error),
        None => Outcome::Fail(Reason::Mismatch),
    }
}

/// The next line without its end; None: it is not whole yet.
fn line<'a>(rest: &mut &'a [u8]) -> Option<Result<&'a [u8], Outcome>> {
    let first = rest.first()?;
    if !b"+-:$*".contains(first) {
        return Some(Err(syntax("no answer of Redis")));
    }
    let bounded = &rest[..rest.len().min(LONGEST_LINE)];
    let Some(end) = bounded.iter().position(|b| *b == b'\n') else {
        let full = bounded.len() == LONGEST_LINE;
        return full.then(|| Err(syntax("no answer of Redis: a line without an end")));
    };
    let line = &rest[..end];
    *rest = &rest[end + 1..];
    Some(Ok(line.strip_suffix(b"\r").unwrap_or(line)))
}
