//! The newest of what a service said, in memory: whole lines with the time they came.
//!
//! No I/O, no clock. Made for many silent services and a few loud ones: empty it owns no memory,
//! it grows by doubling up to [`limits::LOG_RING_BYTES`], heads of lines included, and of a flood
//! it only touches what will stay.
//!
//! Invariants: what is dropped is always the oldest, in whole lines, and counted. Line numbers
//! count up for the ring's life; a reader's [`Cursor`] finds out by them what it missed. A line
//! that has no end yet is the last; it is not handed to followers before it ends.

use super::scribe::style::Stream;
use crate::limits;

/// Time (8 bytes), and stream and length (4) before each line's bytes.
const HEAD: usize = 12;
/// Above the length.
const STREAM: u32 = 24;
const SMALLEST: usize = 512;
const BOUND: usize = limits::LOG_RING_BYTES;

const _: () = assert!(limits::LOG_LINE_BYTES < 1 << STREAM);
const _: () = assert!(BOUND.is_power_of_two() && BOUND >= 2 * (limits::LOG_LINE_BYTES + HEAD));

/// One line, in two parts because it may lie around the ring's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line<'a> {
    pub seq: u64,
    /// When its first byte was read, milliseconds since 1970.
    pub wall_ms: u64,
    pub stream: Stream,
    /// Without the line feed.
    pub parts: [&'a [u8]; 2],
}

impl Line<'_> {
    /// Its bytes as text for people.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.parts.concat()).into_owned()
    }
}

/// Where a reader is: the line it gets next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cursor {
    seq: u64,
    at: u64,
}

/// Offsets count up for ever; modulo the length they are places in `bytes`.
#[derive(Debug, Default)]
pub struct Ring {
    bytes: Box<[u8]>,
    start: u64,
    end: u64,
    /// Number of the oldest line, and of the next to begin.
    first: u64,
    next: u64,
    /// Where the line without an end begins.
    open: Option<u64>,
    dropped_bytes: u64,
    /// Of what is pushed.
    stream: Stream,
}

impl Ring {
    pub fn new() -> Ring {
        Ring::default()
    }

    /// What is pushed from now on is of this stream. Lines of several are pushed whole.
    pub fn set_stream(&mut self, stream: Stream) {
        if self.stream != stream {
            self.open = None;
            self.stream = stream;
        }
    }

    /// Takes bytes as they came.
    pub fn push(&mut self, wall_ms: u64, data: &[u8]) {
        let mut rest = &data[self.skip(data)..];
        while !rest.is_empty() {
            let open = self.open_bytes();
            let room = limits::LOG_LINE_BYTES - open.unwrap_or(0);
            let seen = &rest[..rest.len().min(room + 1)];
            let ends = find_line_feed(seen);
            let part = ends.unwrap_or(rest.len().min(room));
            self.extend(wall_ms, &rest[..part]);
            rest = &rest[part..];
            if ends.is_some() {
                rest = &rest[1..];
                self.open = None;
            } else if !rest.is_empty() {
                // Too long: the rest is another line.
                self.open = None;
            }
        }
    }

    /// Ends a line that has no end: the run is over, what comes next is another's.
    pub fn end_line(&mut self) {
        self.open = None;
    }

    /// How much of `data` would be dropped again before all of it is in; that is done here at
    /// once, for all lines, so that a flood of short lines costs little more than its counting.
    fn skip(&mut self, data: &[u8]) -> usize {
        if data.len() < BOUND / 16 {
            return 0;
        }
        let (mut from, mut cost) = (data.len(), 0);
        while from > 0 {
            let end = from - usize::from(data[from - 1] == b'\n');
            let start = data[..end].iter().rposition(|byte| *byte == b'\n');
            let start = start.map_or(0, |at| at + 1);
            cost += end - start + HEAD;
            if cost > BOUND {
                break;
            }
            from = start;
        }
        // All fits; or its last line alone does not, and is split as any other.
        if from == 0 || from == data.len() {
            return 0;
        }
        let lines = data[..from].iter().filter(|byte| **byte == b'\n').count() as u64;
        self.dropped_bytes +=
            from as u64 - lines + (self.end - self.start) - HEAD as u64 * (self.next - self.first);
        self.start = self.end;
        self.next += lines - u64::from(self.open.take().is_some());
        self.first = self.next;
        from
    }

    /// Bytes of the line without an end; None when there is none.
    fn open_bytes(&self) -> Option<usize> {
        self.open.map(|at| (self.end - at) as usize - HEAD)
    }

    /// Adds bytes to the open line, or begins one with them.
    fn extend(&mut self, wall_ms: u64, part: &[u8]) {
        let head = match self.open {
            Some(_) => 0,
            None => HEAD,
        };
        self.make_room(head + part.len());
        let at = match self.open {
            Some(at) => at,
            None => {
                let at = self.end;
                self.put(at, &wall_ms.to_ne_bytes());
                self.end += HEAD as u64;
                self.next += 1;
                self.open = Some(at);
                at
            }
        };
        self.put(self.end, part);
        self.end += part.len() as u64;
        let length = (self.end - at) as u32 - HEAD as u32;
        let both = length | u32::from(self.stream.number()) << STREAM;
        self.put(at + 8, &both.to_ne_bytes());
    }

    fn make_room(&mut self, more: usize) {
        let needed = (self.end - self.start) as usize + more;
        if needed > self.bytes.len() && self.bytes.len() < BOUND {
            self.grow(needed.next_power_of_two().clamp(SMALLEST, BOUND));
        }
        // The open line is never reached: with its longest extension it takes half the ring.
        while (self.end - self.start) as usize + more > self.bytes.len() {
            let (_, _, length) = self.head(self.start);
            self.dropped_bytes += u64::from(length);
            self.start += HEAD as u64 + u64::from(length);
            self.first += 1;
        }
    }

    fn grow(&mut self, length: usize) {
        let old = std::mem::replace(&mut self.bytes, vec![0; length].into());
        // Offsets stay, places change.
        let [first, second] = split(&old, self.start, (self.end - self.start) as usize);
        self.put(self.start, first);
        self.put(self.start + first.len() as u64, second);
    }

    /// Writes bytes at an offset.
    fn put(&mut self, at: u64, data: &[u8]) {
        let place = at as usize & (self.bytes.len() - 1);
        let first = data.len().min(self.bytes.len() - place);
        self.bytes[place..place + first].copy_from_slice(&data[..first]);
        self.bytes[..data.len() - first].copy_from_slice(&data[first..]);
    }

    /// Time, stream and length of the line at an offset.
    fn head(&self, at: u64) -> (u64, Stream, u32) {
        let mut head = [0; HEAD];
        let [first, second] = split(&self.bytes, at, HEAD);
        head[..first.len()].copy_from_slice(first);
        head[first.len()..].copy_from_slice(second);
        let [time @ .., a, b, c, d] = head;
        let both = u32::from_ne_bytes([a, b, c, d]);
        let stream = Stream::of((both >> STREAM) as u8);
        (u64::from_ne_bytes(time), stream, both & ((1 << STREAM) - 1))
    }

    fn line(&self, seq: u64, at: u64) -> Line<'_> {
        let (wall_ms, stream, length) = self.head(at);
        Line {
            seq,
            wall_ms,
            stream,
            parts: split(&self.bytes, at + HEAD as u64, length as usize),
        }
    }

    /// The line that has no end yet.
    pub fn open_line(&self) -> Option<Line<'_>> {
        self.open.map(|at| self.line(self.next - 1, at))
    }

    /// The number that the next line to begin will have.
    pub fn next_line(&self) -> u64 {
        self.next
    }

    /// Lines that ended and are still here.
    pub fn lines(&self) -> u64 {
        self.next - self.first - u64::from(self.open.is_some())
    }

    /// Lines and bytes that are gone.
    pub fn dropped(&self) -> (u64, u64) {
        (self.first, self.dropped_bytes)
    }

    /// Memory in use.
    pub fn memory(&self) -> usize {
        self.bytes.len()
    }

    /// From where the newest `n` ended lines are read.
    pub fn tail(&self, n: u64) -> Cursor {
        let mut cursor = Cursor {
            seq: self.first,
            at: self.start,
        };
        for _ in n..self.lines() {
            let (_, _, length) = self.head(cursor.at);
            cursor.at += HEAD as u64 + u64::from(length);
            cursor.seq += 1;
        }
        cursor
    }

    /// Hands the ended lines from the cursor on to `each`, until it returns false: that line was
    /// not taken and comes again. Returns how many lines were dropped before the first.
    pub fn read(&self, cursor: &mut Cursor, each: &mut dyn FnMut(Line<'_>) -> bool) -> u64 {
        let mut missed = 0;
        if cursor.seq < self.first {
            missed = self.first - cursor.seq;
            *cursor = Cursor {
                seq: self.first,
                at: self.start,
            };
        }
        while cursor.at < self.end && self.open != Some(cursor.at) {
            let line = self.line(cursor.seq, cursor.at);
            let length = line.parts[0].len() + line.parts[1].len();
            if !each(line) {
                break;
            }
            cursor.seq += 1;
            cursor.at += (HEAD + length) as u64;
        }
        missed
    }
}

/// The parts of `length` bytes from an offset on: up to the ring's end, and from its beginning.
fn split(bytes: &[u8], at: u64, length: usize) -> [&[u8]; 2] {
    if length == 0 {
        return [&[], &[]];
    }
    let place = at as usize & (bytes.len() - 1);
    let first = length.min(bytes.len() - place);
    [&bytes[place..place + first], &bytes[..length - first]]
}

/// memchr(3): several times faster than a loop over bytes at the release profile's settings.
fn find_line_feed(bytes: &[u8]) -> Option<usize> {
    // SAFETY: reads within the slice; the result is null or points into it.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), b'\n'.into(), bytes.len()) };
    (!found.is_null()).then(|| found as usize - bytes.as_ptr() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ring: &Ring) -> Vec<String> {
        let mut lines = Vec::new();
        ring.read(&mut ring.tail(u64::MAX), &mut |line| {
            lines.push(line.text());
            true
        });
        lines
    }

    #[test]
    fn silence_costs_nothing() {
        assert_eq!(Ring::new().memory(), 0);
        let mut ring = Ring::new();
        ring.push(1, b"one line\n");
        assert_eq!(ring.memory(), SMALLEST);
    }

    #[test]
    fn lines_are_made_of_whatever_pieces_came() {
        let mut ring = Ring::new();
        for piece in ["a", "b\n\ncd", "", "e\nf"] {
            ring.push(7, piece.as_bytes());
        }
        assert_eq!(all(&ring), ["ab", "", "cde"]);
        assert_eq!(ring.open_line().unwrap().text(), "f");
        ring.end_line();
        ring.push(8, b"g\n");
        assert_eq!(all(&ring), ["ab", "", "cde", "f", "g"]);
        assert_eq!(ring.open_line(), None);
    }

    #[test]
    fn a_line_has_the_time_of_its_first_byte() {
        let mut ring = Ring::new();
        ring.push(5, b"begin ");
        ring.push(9, b"end\nnext\n");
        let mut times = Vec::new();
        ring.read(&mut ring.tail(9), &mut |line| {
            times.push(line.wall_ms);
            true
        });
        assert_eq!(times, [5, 9]);
    }

    #[test]
    fn too_long_a_line_is_split_and_no_byte_lost() {
        let mut ring = Ring::new();
        let long = vec![b'x'; limits::LOG_LINE_BYTES * 2 + 5];
        for piece in long.chunks(1000) {
            ring.push(1, piece);
        }
        ring.push(1, b"\nexact\n");
        let lengths: Vec<usize> = all(&ring).iter().map(String::len).collect();
        assert_eq!(
            lengths,
            [limits::LOG_LINE_BYTES, limits::LOG_LINE_BYTES, 5, 5]
        );
        let mut ring = Ring::new();
        ring.push(1, &long[..limits::LOG_LINE_BYTES]);
        ring.push(1, b"\nafter\n");
        assert_eq!(all(&ring).len(), 2, "a line of just the bound is one line");
    }

    #[test]
    fn the_newest_stay_and_the_dropped_are_counted() {
        // By pieces of many sizes, so that both ways of dropping are taken.
        for piece in [1, 100, 5_000, 60_000, 300_000] {
            let mut ring = Ring::new();
            let mut text = String::new();
            for n in 0..40_000 {
                text.push_str(&format!("line {n}\n"));
            }
            for part in text.as_bytes().chunks(piece) {
                ring.push(1, part);
            }
            let lines = all(&ring);
            assert_eq!(lines.last().unwrap(), "line 39999", "pieces of {piece}");
            let (dropped, bytes) = ring.dropped();
            assert_eq!(dropped as usize + lines.len(), 40_000);
            let kept: usize = lines.iter().map(String::len).sum();
            assert_eq!(bytes as usize + kept, text.len() - 40_000);
            assert_eq!(lines[0], format!("line {dropped}"));
            assert!(kept + lines.len() * HEAD + 100 > BOUND, "it is well filled");
            assert_eq!(ring.memory(), BOUND);
        }
    }

    #[test]
    fn a_flood_over_an_open_line_ends_it_and_counts_it() {
        let mut ring = Ring::new();
        ring.push(1, b"first\nopen");
        ring.push(2, &b"y\n".repeat(BOUND));
        let (dropped, _) = ring.dropped();
        // first, openy, and one less y than were said
        assert_eq!(dropped + ring.lines(), 1 + BOUND as u64);
        assert!(all(&ring).iter().all(|line| line == "y"));
    }

    #[test]
    fn a_follower_gets_each_line_once_and_is_told_what_it_missed() {
        let mut ring = Ring::new();
        let mut cursor = ring.tail(0);
        let mut seen = Vec::new();
        for n in 0..10u32 {
            ring.push(1, format!("{n}\npart").as_bytes());
            ring.end_line();
            let missed = ring.read(&mut cursor, &mut |line| {
                seen.push(line.seq);
                true
            });
            assert_eq!(missed, 0);
        }
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
        ring.push(1, &b"0123456789\n".repeat(20_000));
        let mut next = None;
        let missed = ring.read(&mut cursor, &mut |line| {
            next = Some(line.seq);
            false
        });
        assert_eq!(next, Some(20 + missed));
        assert_eq!(20 + missed, ring.dropped().0);
        let mut again = 0;
        ring.read(&mut cursor, &mut |line| {
            again = line.seq;
            false
        });
        assert_eq!(Some(again), next, "a line not taken comes again");
    }

    #[test]
    fn tail_gives_the_last_ended_lines() {
        let mut ring = Ring::new();
        ring.push(1, b"a\nb\nc\nopen");
        let mut lines = Vec::new();
        ring.read(&mut ring.tail(2), &mut |line| {
            lines.push(line.text());
            true
        });
        assert_eq!(lines, ["b", "c"]);
        assert_eq!(ring.tail(0), ring.tail(0));
        assert_eq!(ring.read(&mut ring.tail(0), &mut |_| true), 0);
    }
}
