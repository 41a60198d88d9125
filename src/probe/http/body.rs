//! Where an HTTP/1.1 body ends (RFC 9112 §6), and its bytes without the framing.
//!
//! Incremental: any cut of the input gives the same bytes and the same end.

/// A chunk-size line longer than this is no honest one (RFC 9112 §7.1.1 wants a bound).
const MAX_CHUNK_LINE: u16 = 256;

#[derive(Clone, Debug)]
pub(super) enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunks),
    /// Whatever comes until the connection is closed.
    UntilClose,
}

impl Framing {
    /// Takes bytes, hands the body's part to `sink`. Returns how many were taken; fewer than given
    /// only when the body ended before them.
    pub fn take(
        &mut self,
        bytes: &[u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, &'static str> {
        match self {
            Framing::Length(left) => {
                let n = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                sink(&bytes[..n]);
                *left -= n as u64;
                Ok(n)
            }
            Framing::Chunked(chunks) => chunks.take(bytes, sink),
            Framing::UntilClose => {
                sink(bytes);
                Ok(bytes.len())
            }
        }
    }

    pub fn is_complete(&self) -> bool {
        match self {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunks) => chunks.at == At::End,
            Framing::UntilClose => false,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    at: At,
    left: u64,
    /// Bytes of the present line of framing.
    line: u16,
    digits: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum At {
    #[default]
    Size,
    /// Behind the size: a chunk extension, ignored.
    Extension,
    Data,
    /// The line end behind a chunk's data.
    DataEnd,
    /// Trailer lines, ignored, up to an empty one.
    Trailer,
    End,
}

impl Chunks {
    fn take(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<usize, &'static str> {
        let mut i = 0;
        while i < bytes.len() && self.at != At::End {
            if self.at == At::Data {
                let rest = bytes.len() - i;
                let n = rest.min(usize::try_from(self.left).unwrap_or(usize::MAX));
                sink(&bytes[i..i + n]);
                self.left -= n as u64;
                i += n;
                if self.left == 0 {
                    self.next_line(At::DataEnd);
                }
                continue;
            }
            self.framing_byte(bytes[i])?;
            i += 1;
        }
        Ok(i)
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), &'static str> {
        self.line += 1;
        if self.line > MAX_CHUNK_LINE && self.at != At::Trailer {
            return Err("chunk size line too long");
        }
        match (self.at, byte) {
            (At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                if self.left > u64::MAX >> 4 {
                    return Err("chunk size too large");
                }
                self.left = self.left << 4 | u64::from(digit);
                self.digits = self.digits.saturating_add(1);
            }
            (At::Size, _) if self.digits == 0 => return Err("no chunk size"),
            (At::Size | At::Extension, b'\n') => {
                let next = if self.left == 0 {
                    At::Trailer
                } else {
                    At::Data
                };
                self.next_line(next);
            }
            (At::Size, b'\r') => {}
            (At::Size, b';' | b' ' | b'\t') => self.at = At::Extension,
            (At::Size, _) => return Err("bad chunk size"),
            (At::Extension, _) => {}
            (At::DataEnd, b'\r') if self.line == 1 => {}
            (At::DataEnd, b'\n') => {
                self.next_line(At::Size);
                self.left = 0;
                self.digits = 0;
            }
            (At::DataEnd, _) => return Err("chunk longer than its size"),
            // `line` counts the visible bytes of the trailer line here: none means the end.
            (At::Trailer, b'\r') => self.line -= 1,
            (At::Trailer, b'\n') => {
                let next = if self.line == 1 { At::End } else { At::Trailer };
                self.next_line(next);
            }
            (At::Trailer, _) => self.line = 2,
            (At::Data | At::End, _) => {}
        }
        Ok(())
    }

    fn next_line(&mut self, at: At) {
        self.at = at;
        self.line = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8], size: usize) -> Result<(Vec<u8>, usize, bool), &'static str> {
        let mut framing = Framing::Chunked(Chunks::default());
        let mut out = Vec::new();
        let mut used = 0;
        for piece in input.chunks(size) {
            let taken = framing.take(piece, &mut |b| out.extend_from_slice(b))?;
            used += taken;
            if taken < piece.len() {
                break;
            }
        }
        Ok((out, used, framing.is_complete()))
    }

    #[test]
    fn chunks_are_joined_whatever_the_cuts() {
        let body = b"4\r\nWiki\r\n6;x=\"y\"\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nX: y\r\nZ: \r\n\r\n";
        let with_more = [&body[..], b"HTTP"].concat();
        for size in 1..=with_more.len() {
            let (out, used, complete) = decode(&with_more, size).unwrap();
            assert_eq!(out, b"Wikipedia in \r\n\r\nchunks.", "pieces of {size}");
            assert!(complete);
            assert_eq!(used, body.len(), "pieces of {size}");
        }
    }

    #[test]
    fn bare_newlines_and_capitals_are_understood() {
        let (out, _, complete) = decode(b"A\n0123456789\n0\n\n", 3).unwrap();
        assert_eq!((out.as_slice(), complete), (&b"0123456789"[..], true));
    }

    #[test]
    fn bad_framing_is_an_error() {
        for bad in [
            &b"\r\n"[..],
            b"x\r\n",
            b"4 \r\nWikix",
            b"4z\r\n",
            b"11111111111111111\r\n",
            &[b'0'; 400],
            &[&b"1;"[..], &[b'e'; 400]].concat(),
        ] {
            assert!(decode(bad, bad.len()).is_err(), "{:?}", bad.escape_ascii());
            assert!(decode(bad, 1).is_err(), "{:?}", bad.escape_ascii());
        }
    }
}
