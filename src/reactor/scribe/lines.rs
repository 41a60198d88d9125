//! Whole lines of pieces, where only whole lines will do: for syslog, and for a service whose
//! streams are told apart, so that no line is written into another.
//!
//! No I/O. What needs no whole lines goes through as it came. Invariants: bytes of a stream leave in
//! the order in which they came; what is kept of one stream is less than
//! [`limits::LOG_LINE_BYTES`], and it has the time of its first byte.

use super::frame::LogHead;
use super::style::Stream;
use crate::limits;
use std::collections::HashMap;

#[derive(Default)]
pub struct Lines {
    /// Encoded head and bytes of lines that have no end yet.
    open: HashMap<(Box<str>, Stream), Open>,
}

struct Open {
    head: Box<[u8]>,
    bytes: Vec<u8>,
}

/// Where they go: the bytes end with a line feed, or came as they are.
pub type Sink<'a> = &'a mut dyn FnMut(LogHead<'_>, &[u8]);

impl Lines {
    pub fn take(&mut self, head: LogHead<'_>, data: &[u8], sink: Sink<'_>) {
        let key = (Box::from(head.service), head.stream);
        let mut open = self.open.remove(&key);
        if head.stream == Stream::Joined && !head.style.to_syslog() {
            // Kept from before the style changed.
            if let Some(open) = open {
                open.out(sink);
            }
            return sink(head, data);
        }
        let plain = LogHead {
            dropped: 0,
            end: false,
            ..head
        };
        // What was dropped came before these bytes, and after those that are kept.
        if head.dropped > 0 {
            if let Some(open) = open.take() {
                open.out(sink);
            }
            let dropped = head.dropped;
            sink(LogHead { dropped, ..plain }, b"");
        }
        let mut rest = data;
        if let Some(open) = &mut open {
            let line = rest.iter().position(|byte| *byte == b'\n');
            let (part, more) = rest.split_at(line.map_or(rest.len(), |at| at + 1));
            open.bytes.extend_from_slice(part);
            rest = more;
        }
        if let Some(open) = open.take_if(|open| open.is_whole()) {
            open.out(sink);
        }
        let whole = rest.iter().rposition(|byte| *byte == b'\n');
        let (lines, part) = rest.split_at(whole.map_or(0, |at| at + 1));
        if !lines.is_empty() {
            sink(plain, lines);
        }
        if !part.is_empty() {
            let head = plain.encode().unwrap_or_default().into();
            let bytes = part.to_vec();
            open = Some(Open { head, bytes });
        }
        match open {
            Some(open) if head.end || open.is_whole() => open.out(sink),
            Some(open) => drop(self.open.insert(key, open)),
            None => {}
        }
    }

    /// There will be no more.
    pub fn end_all(&mut self, sink: Sink<'_>) {
        for (_, open) in self.open.drain() {
            open.out(sink);
        }
    }
}

impl Open {
    /// A line, or as much of one as a line may have.
    fn is_whole(&self) -> bool {
        self.bytes.ends_with(b"\n") || self.bytes.len() >= limits::LOG_LINE_BYTES
    }

    fn out(mut self, sink: Sink<'_>) {
        if !self.bytes.ends_with(b"\n") {
            self.bytes.push(b'\n');
        }
        if let Some((head, _)) = LogHead::decode(&self.head) {
            sink(head, &self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogTo;
    use crate::reactor::scribe::style::Style;

    /// What comes out, each block with its time and stream.
    fn run(frames: &[(Stream, u64, &str, bool)], to: LogTo) -> Vec<String> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for (stream, wall_ms, data, end) in frames {
            let head = LogHead {
                service: "web",
                wall_ms: *wall_ms,
                dropped: 0,
                end: *end,
                stream: *stream,
                style: Style {
                    to,
                    ..Style::default()
                },
            };
            lines.take(head, data.as_bytes(), &mut |head, block| {
                let text = String::from_utf8_lossy(block);
                out.push(format!(
                    "{} {} {text:?}",
                    head.wall_ms,
                    head.stream.number()
                ));
            });
        }
        lines.end_all(&mut |head, block| {
            let text = String::from_utf8_lossy(block);
            out.push(format!(
                "{} {} {text:?}",
                head.wall_ms,
                head.stream.number()
            ));
        });
        out
    }

    #[test]
    fn streams_that_are_told_apart_do_not_write_into_each_others_lines() {
        use Stream::{Stderr, Stdout};
        let got = run(
            &[
                (Stdout, 1, "a\nhal", false),
                (Stderr, 2, "oo", false),
                (Stdout, 3, "f\nb\n", false),
                (Stderr, 4, "ps\nx", true),
                (Stdout, 5, "last", false),
            ],
            LogTo::File,
        );
        let expected = [
            r#"1 1 "a\n""#,
            r#"1 1 "half\n""#,
            r#"3 1 "b\n""#,
            r#"2 2 "oops\n""#,
            r#"4 2 "x\n""#,
            r#"5 1 "last\n""#,
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn one_stream_goes_through_as_it_came_and_in_lines_to_syslog() {
        let frames = [
            (Stream::Joined, 1, "pro", false),
            (Stream::Joined, 2, "mpt\n", false),
        ];
        let as_it_came = [r#"1 0 "pro""#, r#"2 0 "mpt\n""#];
        assert_eq!(run(&frames, LogTo::File), as_it_came);
        assert_eq!(run(&frames, LogTo::Both), [r#"1 0 "prompt\n""#]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let long = "x".repeat(limits::LOG_LINE_BYTES - 1);
        let got = run(
            &[
                (Stream::Stdout, 1, &long, false),
                (Stream::Stdout, 2, "yy", false),
                (Stream::Stdout, 3, "z\n", false),
            ],
            LogTo::File,
        );
        assert_eq!(got.len(), 2);
        assert!(got[0].ends_with("xyy\\n\""));
        assert_eq!(got[1], r#"3 1 "z\n""#);
    }
}
