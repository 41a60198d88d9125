//! `grpc`: grpc.health.v1.Health/Check over HTTP/2 without TLS, by prior knowledge (RFC 9113).
//!
//! All that is asked goes at once; of the answer only what tells the outcome is understood: the
//! message in DATA, `grpc-status` in the headers or trailers, the ends of stream and connection.
//! Header fields are told by name alone, plain or Huffman-coded, and never by the dynamic table
//! (RFC 7541), which we set to nothing and which a first mention does not need.

use crate::config::Address;
use crate::probe::Outcome;
use crate::probe::http::{USER_AGENT, push_authority};
use crate::probe::session::{Said, said, syntax};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Nobody may send longer frames before we allow it.
const LONGEST_FRAME: usize = 16_384;

/// `grpc-status`, Huffman-coded (RFC 7541 appendix B).
const STATUS_CODED: &[u8] = &[0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];

/// By number (grpc/status.h).
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub fn request(address: &Address, service: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(PREFACE);
    // No dynamic table for what they send, no pushed streams.
    frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0], out);
    let mut authority = String::new();
    push_authority(&mut authority, address, 80);
    // Of the static table: `:method: POST`, `:scheme: http`; then names of it with values.
    let mut block = vec![0x83, 0x86];
    let indexed = [(4u8, "/grpc.health.v1.Health/Check"), (1, &*authority)];
    for (index, value) in indexed {
        block.push(index);
        string(value, &mut block);
    }
    let named = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", USER_AGENT),
    ];
    for (name, value) in named {
        block.push(0);
        string(name, &mut block);
        string(value, &mut block);
    }
    frame(HEADERS, END_HEADERS, 1, &block, out);
    // HealthCheckRequest { service = 1 }, behind "not compressed" and its length.
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        length(service.len(), 7, &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(&message);
    frame(DATA, END_STREAM, 1, &body, out);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A string literal, not Huffman-coded.
fn string(text: &str, out: &mut Vec<u8>) {
    integer(text.len(), 7, out);
    out.extend_from_slice(text.as_bytes());
}

/// RFC 7541 §5.1, with nothing above the prefix.
fn integer(n: usize, prefix: u32, out: &mut Vec<u8>) {
    let most = (1 << prefix) - 1;
    if n < most {
        return out.push(n as u8);
    }
    out.push(most as u8);
    length(n - most, 7, out);
}

/// Seven bits a byte, the lowest first: protobuf's varint, and the rest of an HPACK integer.
fn length(mut n: usize, bits: u32, out: &mut Vec<u8>) {
    while n >= 1 << bits {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub fn judge(seen: &[u8]) -> Said {
    if seen.starts_with(b"HTTP/1") {
        return Some(syntax("it speaks HTTP/1, not HTTP/2"));
    }
    let (mut rest, mut first) = (seen, true);
    let (mut message, mut block): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    let mut ends = false;
    loop {
        // The kind is known before the length is of use.
        if first && rest.len() >= 4 && rest[3] != SETTINGS && !rest.starts_with(b"HTTP") {
            return Some(syntax("no HTTP/2"));
        }
        let (head, after) = rest.split_first_chunk::<9>()?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        if size > LONGEST_FRAME {
            return Some(syntax("no HTTP/2"));
        }
        first = false;
        let payload = after.get(..size)?;
        rest = &after[size..];
        match kind {
            GOAWAY => {
                return Some(said(
                    ended("connection ended", payload.get(4..8)).as_bytes(),
                ));
            }
            RST_STREAM if stream == 1 => {
                return Some(said(ended("stream reset", payload.get(..4)).as_bytes()));
            }
            DATA if stream == 1 => {
                message.extend_from_slice(unpadded(flags, payload)?);
                if let Some(outcome) = serving(&message) {
                    return Some(outcome);
                }
                ends = flags & END_STREAM != 0;
            }
            HEADERS | CONTINUATION if stream == 1 => {
                let part = match kind {
                    HEADERS => unpadded(flags, payload)?,
                    _ => payload,
                };
                let part = match kind == HEADERS && flags & PRIORITY != 0 {
                    true => part.get(5..).unwrap_or_default(),
                    false => part,
                };
                block.extend_from_slice(part);
                ends |= kind == HEADERS && flags & END_STREAM != 0;
                if flags & END_HEADERS != 0 {
                    if let Some(code) = status(&block).filter(|code| *code != 0) {
                        let name = CODES.get(code as usize).unwrap_or(&"?");
                        return Some(said(format!("grpc-status {code} {name}").as_bytes()));
                    }
                    block.clear();
                    if ends {
                        return Some(syntax("no message and no grpc-status"));
                    }
                }
            }
            _ => {}
        }
        if ends && block.is_empty() {
            return Some(syntax("no message and no grpc-status"));
        }
    }
}

fn ended(what: &str, code: Option<&[u8]>) -> String {
    let code = code.and_then(|bytes| bytes.first_chunk());
    format!(
        "{what}, code {}",
        code.map_or(0, |code| u32::from_be_bytes(*code))
    )
}

/// Empty where the padding is longer than the frame.
fn unpadded(flags: u8, payload: &[u8]) -> Option<&[u8]> {
    if flags & PADDED == 0 {
        return Some(payload);
    }
    let Some((pad, rest)) = payload.split_first() else {
        return Some(&[]);
    };
    let length = rest.len().saturating_sub(usize::from(*pad));
    Some(&rest[..length])
}

/// HealthCheckResponse { status = 1 }, once it is whole.
fn serving(message: &[u8]) -> Said {
    let (head, body) = message.split_first_chunk::<5>()?;
    let size = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if head[0] != 0 {
        return Some(syntax("the answer is compressed"));
    }
    let status = match body.get(..size)? {
        // Zero is not written.
        [] => 0,
        [0x08, status, ..] => *status,
        _ => return Some(syntax("no HealthCheckResponse")),
    };
    Some(match status {
        1 => Outcome::Pass,
        2 => said(b"NOT_SERVING"),
        3 => said(b"SERVICE_UNKNOWN"),
        _ => said(b"UNKNOWN"),
    })
}

/// `grpc-status` in a block of header fields, if it is there and understood.
fn status(mut block: &[u8]) -> Option<u32> {
    while let Some(&first) = block.first() {
        if first & 0x80 != 0 {
            number(7, &mut block)?; // a whole field of the static table
            continue;
        }
        if first & 0xe0 == 0x20 {
            number(5, &mut block)?; // the dynamic table's size
            continue;
        }
        let prefix = if first & 0x40 != 0 { 6 } else { 4 };
        let named = match number(prefix, &mut block)? {
            0 => match text(&mut block)? {
                (true, name) => name == STATUS_CODED,
                (false, name) => name == b"grpc-status",
            },
            _ => false,
        };
        let (coded, value) = text(&mut block)?;
        if named {
            return decimal(coded, value);
        }
    }
    None
}

fn number(prefix: u32, block: &mut &[u8]) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let most = (1usize << prefix) - 1;
    let mut n = usize::from(*first) & most;
    if n == most {
        for shift in [0, 7, 14] {
            let (byte, after) = rest.split_first()?;
            rest = after;
            n += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Some(n);
            }
        }
        return None;
    }
    *block = rest;
    Some(n)
}

/// Whether it is Huffman-coded, and its bytes.
fn text<'a>(block: &mut &'a [u8]) -> Option<(bool, &'a [u8])> {
    let coded = block.first()? & 0x80 != 0;
    let size = number(7, block)?;
    let bytes = block.get(..size)?;
    *block = &block[size..];
    Some((coded, bytes))
}

/// A number of digits; Huffman's code of `0` to `2` has five bits, that of `3` to `9` six.
fn decimal(coded: bool, value: &[u8]) -> Option<u32> {
    if !coded {
        return std::str::from_utf8(value).ok()?.parse().ok();
    }
    if value.len() > 4 {
        return None;
    }
    let bits: Vec<u32> = value
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |n| u32::from(byte >> n & 1)))
        .collect();
    let (mut n, mut at) = (0u32, 0);
    let code = |at: usize, length: usize| {
        let bits = bits.get(at..at + length)?;
        Some(bits.iter().fold(0, |code, bit| code << 1 | bit))
    };
    while bits.get(at..).is_some_and(|left| left.contains(&0)) {
        let short = code(at, 5)?;
        let digit = if short <= 2 {
            at += 5;
            short
        } else {
            let long = code(at, 6)?;
            at += 6;
            (0x19..=0x1f).contains(&long).then(|| long - 0x19 + 3)?
        };
        n = n * 10 + digit;
    }
    Some(n)
}
