//! The head of an HTTP/1.1 answer: found, parsed (by httparse), and what follows from it.
//!
//! Pure functions of the bytes and of what was asked; the exchange keeps the state.

use super::body::{Chunks, Framing};
use super::{push_authority, redirect};
use crate::config::Http;
use crate::limits::PROBE_READ_BYTES;

/// Headers that fit on the stack; more are read too, from the heap.
const USUAL_HEADERS: usize = 64;

/// What was asked, after the redirects so far.
pub(super) struct Asked<'a> {
    pub http: &'a Http,
    pub method: &'a str,
    pub path: &'a str,
}

/// What a head says, as far as it matters here.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub status: u16,
    pub framing: Framing,
    /// Set when the status alone is a failure; the body is then only evidence.
    pub wrong_status: bool,
    /// Set when nothing more is needed of a body that only the connection's end would end.
    pub passed: bool,
    pub stays_open: bool,
}

pub(super) enum Parsed {
    Partial,
    /// A 1xx answer of this length; the next follows.
    Interim(usize),
    /// Its length, and what it says.
    Whole(usize, Head),
    /// To be followed, to this path; the status.
    Redirect(String, u16),
    /// The bound was reached before the head's end, but behind this status.
    TooLong(u16),
    /// No answer of HTTP, because …
    Bad(Box<str>),
}

/// Reads a head from the beginning of `data`. `full`: there will be no more of it.
pub(super) fn parse(asked: &Asked, data: &[u8], full: bool) -> Parsed {
    let mut room = [httparse::EMPTY_HEADER; USUAL_HEADERS];
    match parse_with(asked, data, full, &mut room) {
        Some(parsed) => parsed,
        None => {
            // The shortest header line is `a:` and its end: more than this cannot be there.
            let mut room = vec![httparse::EMPTY_HEADER; PROBE_READ_BYTES / 3];
            let too_many = || Parsed::Bad("too many headers".into());
            parse_with(asked, data, full, &mut room).unwrap_or_else(too_many)
        }
    }
}

/// None: more headers than `room`.
fn parse_with<'b>(
    asked: &Asked,
    data: &'b [u8],
    full: bool,
    room: &mut [httparse::Header<'b>],
) -> Option<Parsed> {
    // As lenient as browsers and curl are: a probe judges health, not style.
    let mut parser = httparse::ParserConfig::default();
    parser
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    let mut response = httparse::Response::new(room);
    let length = match parser.parse_response(&mut response, data) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            return Some(match response.code {
                _ if !full => Parsed::Partial,
                Some(status) if status >= 200 => Parsed::TooLong(status),
                _ => Parsed::Bad("no end of the answer's head within its bound".into()),
            });
        }
        Err(httparse::Error::TooManyHeaders) => return None,
        Err(e) => return Some(Parsed::Bad(format!("http: {e}").into())),
    };
    let status = response.code.unwrap_or(0);
    // 101 ends HTTP on this connection (RFC 9110 §15.2.2): no other answer follows it.
    if (100..200).contains(&status) && status != 101 {
        return Some(Parsed::Interim(length));
    }
    let headers = &*response.headers;
    if let Some(path) = leads_to(asked, status, headers) {
        return Some(Parsed::Redirect(path, status));
    }
    let no_body = asked.method == "HEAD" || matches!(status, 101 | 204 | 304);
    Some(match framing(headers, no_body) {
        Err(why) => Parsed::Bad(why.into()),
        Ok(framing) => Parsed::Whole(
            length,
            Head {
                status,
                framing,
                wrong_status: !expected(asked.http, status),
                passed: false,
                stays_open: stays_open(response.version, headers),
            },
        ),
    })
}

/// The path a redirect leads to, when it is to be followed.
fn leads_to(asked: &Asked, status: u16, headers: &[httparse::Header]) -> Option<String> {
    let http = asked.http;
    if http.follow_redirects == 0 || !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = find(headers, "location").next()?;
    let mut own = String::new();
    push_authority(&mut own, &http.address, 80);
    let host = http
        .headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case("host"));
    let names = [own.as_str(), host.map_or(own.as_str(), |(_, v)| v.trim())];
    redirect::same_host_path(location, "http", &names, asked.path)
}

/// Whether the definition takes this status for a good one.
pub fn expected(http: &Http, status: u16) -> bool {
    http.expect_status
        .iter()
        .any(|range| range.contains(&status))
}

fn find<'b>(headers: &[httparse::Header<'b>], name: &str) -> impl Iterator<Item = &'b [u8]> {
    headers
        .iter()
        .filter(move |h| h.name.eq_ignore_ascii_case(name))
        .map(|h| h.value)
}

fn has_token(headers: &[httparse::Header], name: &str, token: &str) -> bool {
    find(headers, name)
        .flat_map(|value| value.split(|b| *b == b','))
        .any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// RFC 9112 §9.3.
fn stays_open(version: Option<u8>, headers: &[httparse::Header]) -> bool {
    if has_token(headers, "connection", "close") {
        return false;
    }
    version == Some(1) || has_token(headers, "connection", "keep-alive")
}

/// RFC 9112 §6.3.
fn framing(headers: &[httparse::Header], no_body: bool) -> Result<Framing, &'static str> {
    if no_body {
        return Ok(Framing::Length(0));
    }
    if let Some(coding) = find(headers, "transfer-encoding").last() {
        let last = coding
            .rsplit(|b| *b == b',')
            .next()
            .unwrap_or(coding)
            .trim_ascii();
        return Ok(if last.eq_ignore_ascii_case(b"chunked") {
            Framing::Chunked(Chunks::default())
        } else {
            Framing::UntilClose
        });
    }
    let mut length = None;
    let values = find(headers, "content-length").flat_map(|v| v.split(|b| *b == b','));
    for value in values {
        let digits = value.trim_ascii();
        let parsed = std::str::from_utf8(digits)
            .ok()
            .filter(|t| !t.starts_with('+'));
        let parsed = parsed.and_then(|t| t.parse::<u64>().ok());
        match (parsed, length) {
            (None, _) => return Err("bad content-length"),
            (Some(n), Some(m)) if n != m => return Err("two different content-lengths"),
            (Some(n), _) => length = Some(n),
        }
    }
    Ok(length.map_or(Framing::UntilClose, Framing::Length))
}
