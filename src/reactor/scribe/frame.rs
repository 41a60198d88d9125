//! What daemon and scribe say to each other: one message a packet (SOCK_SEQPACKET, unix(7)), so
//! nothing is ever half read. Both ends are the same program, forked: no versions, native order.
//!
//! No I/O here. Three kinds: records to the scribe, log bytes to the scribe, answers back.

use super::style::{STYLE, Stream, Style};
use crate::limits;

/// The longest record line taken: a definition that was given ([`limits::MAX_GIVEN_BYTES`]) with
/// its quotes and line ends escaped; a name and who said it are far shorter.
pub const MAX_RECORD: usize = 2 * limits::MAX_GIVEN_BYTES + 8 * 1024;
/// The longest log message: its head, a name, and the bytes.
pub const MAX_LOG: usize = LOG_HEAD + 2 * 255 + limits::SCRIBE_FRAME_BYTES;
/// The longest answer.
pub const MAX_ACK: usize = 1024;

/// The service of a recording's bytes, `end` when they begin a new file; no service has this name.
pub const NOBODY: &str = "";
/// The number of an answer that speaks of the recording: its bytes could not be written.
pub const RECORDING: u64 = u64::MAX;
/// The number of one that speaks of syslog: whether it takes messages.
pub const SYSLOG: u64 = u64::MAX - 1;

/// The number of one that speaks of a dossier: it could not be written.
pub const DOSSIER: u64 = u64::MAX - 2;

const RECORD: u8 = b'r';
const REWRITE: u8 = b'w';
const LOG_HEAD: usize = 19 + STYLE;

/// A message on the records' socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Order<'a> {
    /// Append this line to `wanted`, sync, and answer with the number.
    Record { seq: u64, line: &'a [u8] },
    /// Write `wanted` anew. No answer.
    Rewrite,
}

impl<'a> Order<'a> {
    pub fn encode(&self) -> Box<[u8]> {
        match self {
            Order::Record { seq, line } => {
                let mut out = Vec::with_capacity(9 + line.len());
                out.push(RECORD);
                out.extend_from_slice(&seq.to_ne_bytes());
                out.extend_from_slice(line);
                out.into()
            }
            Order::Rewrite => Box::new([REWRITE]),
        }
    }

    pub fn decode(bytes: &'a [u8]) -> Option<Order<'a>> {
        match bytes.split_first()? {
            (&RECORD, rest) => {
                let (seq, line) = rest.split_first_chunk()?;
                let seq = u64::from_ne_bytes(*seq);
                Some(Order::Record { seq, line })
            }
            (&REWRITE, _) => Some(Order::Rewrite),
            _ => None,
        }
    }
}

/// What stands before log bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead<'a> {
    pub service: &'a str,
    /// When the bytes were read, milliseconds since 1970.
    pub wall_ms: u64,
    /// Bytes of this service that were dropped before these.
    pub dropped: u64,
    /// The run ended: an unfinished line ends here.
    pub end: bool,
    pub stream: Stream,
    pub style: Style<'a>,
}

impl<'a> LogHead<'a> {
    /// None: the name is too long to be one.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let length = LOG_HEAD + self.service.len() + self.style.tag.len();
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&self.wall_ms.to_ne_bytes());
        out.extend_from_slice(&self.dropped.to_ne_bytes());
        out.push(u8::from(self.end));
        out.push(self.stream.number());
        self.style.put(&mut out);
        out.push(u8::try_from(self.service.len()).ok()?);
        out.extend_from_slice(self.service.as_bytes());
        Some(out)
    }

    pub fn decode(bytes: &'a [u8]) -> Option<(LogHead<'a>, &'a [u8])> {
        let (wall_ms, rest) = bytes.split_first_chunk()?;
        let (dropped, rest) = rest.split_first_chunk()?;
        let ([end, stream], rest) = rest.split_first_chunk()?;
        let (style, rest) = Style::take(rest)?;
        let (length, rest) = rest.split_first()?;
        let (service, data) = rest.split_at_checked(usize::from(*length))?;
        let head = LogHead {
            service: std::str::from_utf8(service).ok()?,
            wall_ms: u64::from_ne_bytes(*wall_ms),
            dropped: u64::from_ne_bytes(*dropped),
            end: *end != 0,
            stream: Stream::of(*stream),
            style,
        };
        Some((head, data))
    }

    /// Makes of an encoded head one that only says how much was dropped.
    pub fn only_dropped(encoded: &mut [u8], dropped: u64) {
        if let Some(place) = encoded.get_mut(8..17) {
            place[..8].copy_from_slice(&dropped.to_ne_bytes());
            place[8] = 0;
        }
    }
}

/// The answer to all records up to `seq`: durable, or why not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub seq: u64,
    pub result: Result<(), String>,
}

impl Ack {
    pub fn encode(&self) -> Vec<u8> {
        let text = self.result.as_ref().err().map_or("", String::as_str);
        let mut out = self.seq.to_ne_bytes().to_vec();
        out.push(u8::from(self.result.is_ok()));
        out.extend_from_slice(&text.as_bytes()[..text.len().min(MAX_ACK - 9)]);
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Ack> {
        let (seq, rest) = bytes.split_first_chunk()?;
        let (ok, text) = rest.split_first()?;
        let result = match ok {
            1 => Ok(()),
            _ => Err(String::from_utf8_lossy(text).into_owned()),
        };
        let seq = u64::from_ne_bytes(*seq);
        Some(Ack { seq, result })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back() {
        for order in [
            Order::Record {
                seq: u64::MAX - 1,
                line: b"line\n",
            },
            Order::Rewrite,
        ] {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
        let head = LogHead {
            service: "web",
            wall_ms: 1 << 40,
            dropped: 7,
            end: true,
            stream: Stream::Stderr,
            style: Style {
                tag: "w",
                files: 7,
                ..Style::default()
            },
        };
        let mut bytes = head.encode().unwrap();
        bytes.extend_from_slice(b"data");
        assert_eq!(LogHead::decode(&bytes), Some((head, &b"data"[..])));
        let mut dropped = head.encode().unwrap();
        LogHead::only_dropped(&mut dropped, 8);
        let (head, _) = LogHead::decode(&dropped).unwrap();
        assert_eq!((head.dropped, head.end, head.service), (8, false, "web"));
        for result in [Ok(()), Err("disk full".to_string())] {
            let ack = Ack { seq: 3, result };
            assert_eq!(Ack::decode(&ack.encode()), Some(ack));
        }
    }

    #[test]
    fn cut_messages_are_none() {
        let head = LogHead {
            service: "web",
            wall_ms: 1,
            dropped: 0,
            end: false,
            stream: Stream::Joined,
            style: Style::default(),
        };
        let bytes = head.encode().unwrap();
        for cut in 0..bytes.len() {
            assert_eq!(LogHead::decode(&bytes[..cut]), None);
        }
        assert_eq!(Order::decode(b""), None);
        assert_eq!(Order::decode(b"r1234567"), None);
        assert_eq!(Ack::decode(b"12345678"), None);
    }
}
