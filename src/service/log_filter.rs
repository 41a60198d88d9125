//! What of a service's output is let through: how many lines in how long, and how long a line may
//! be.
//!
//! Pure: bytes and the time in, bytes out; a line may come in any pieces. What is let through is in
//! the order in which it came. Invariants: of a line all or nothing is dropped by the rate; what was
//! dropped is counted, and said in a line of its own, which the rate does not count, before the
//! next line that is let through or at [`LogFilter::due`].

use crate::config::{Log, LongLines, RateLimit};
use crate::limits;
use crate::time::{Time, spoken};

#[derive(Debug)]
pub struct LogFilter {
    limit: Option<RateLimit>,
    longest: usize,
    truncates: bool,
    /// Since when, and how many lines were let through since then.
    since: Option<Time>,
    passed: u32,
    /// Dropped and not said.
    dropped: u64,
    /// Dropped ever.
    total: u64,
    /// By stream, of which there are one or two.
    streams: [At; 2],
}

/// Where in a line a stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum At {
    #[default]
    Start,
    /// So many bytes of it were let through.
    Passing(usize),
    /// The rest of it is dropped.
    Skipping,
}

impl LogFilter {
    /// None: everything is let through.
    pub fn of(log: &Log) -> Option<LogFilter> {
        let filter = LogFilter {
            limit: log.rate_limit(),
            longest: log.line_bytes(),
            truncates: log.long_lines == Some(LongLines::Truncate),
            since: None,
            passed: 0,
            dropped: 0,
            total: 0,
            streams: [At::Start; 2],
        };
        // Lines of the greatest length are split where they are kept.
        let idle =
            filter.limit.is_none() && !filter.truncates && filter.longest >= limits::LOG_LINE_BYTES;
        (!idle).then_some(filter)
    }

    /// The same under new rules; where in their lines the streams are is as before.
    pub fn follow(self, log: &Log) -> Option<LogFilter> {
        LogFilter::of(log).map(|new| LogFilter {
            dropped: self.dropped,
            total: self.total,
            since: self.since,
            streams: self.streams,
            ..new
        })
    }

    /// Lines that were dropped.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Takes what came of a stream, and appends what is let through.
    pub fn take(&mut self, now: Time, stream: usize, data: &[u8], out: &mut Vec<u8>) {
        let mut rest = data;
        let mut at = self.streams.get(stream).copied().unwrap_or_default();
        while !rest.is_empty() {
            at = match at {
                At::Start => self.begin(now, out),
                At::Passing(column) => {
                    let room = self.longest.saturating_sub(column);
                    let seen = &rest[..rest.len().min(room + 1)];
                    match seen.iter().position(|byte| *byte == b'\n') {
                        Some(end) => {
                            out.extend_from_slice(&rest[..=end]);
                            rest = &rest[end + 1..];
                            At::Start
                        }
                        None if seen.len() <= room => {
                            out.extend_from_slice(seen);
                            rest = &rest[seen.len()..];
                            At::Passing(column + seen.len())
                        }
                        None => {
                            out.extend_from_slice(&rest[..room]);
                            rest = &rest[room..];
                            self.cut(out)
                        }
                    }
                }
                At::Skipping => match rest.iter().position(|byte| *byte == b'\n') {
                    Some(end) => {
                        rest = &rest[end + 1..];
                        At::Start
                    }
                    None => {
                        rest = &[];
                        At::Skipping
                    }
                },
            };
        }
        if let Some(place) = self.streams.get_mut(stream) {
            *place = at;
        }
    }

    /// The line is too long.
    fn cut(&self, out: &mut Vec<u8>) -> At {
        if !self.truncates {
            out.push(b'\n');
            return At::Start;
        }
        let words = format!(" … cut: longer than {} bytes …\n", self.longest);
        out.extend_from_slice(words.as_bytes());
        At::Skipping
    }

    /// A line begins: is it let through?
    fn begin(&mut self, now: Time, out: &mut Vec<u8>) -> At {
        let Some(limit) = self.limit else {
            self.say(now, out);
            return At::Passing(0);
        };
        if self.since.is_none_or(|since| now >= since + limit.per) {
            self.say(now, out);
            (self.since, self.passed) = (Some(now), 0);
        }
        if self.passed < limit.count {
            self.passed += 1;
            return At::Passing(0);
        }
        self.dropped += 1;
        self.total += 1;
        At::Skipping
    }

    fn say(&mut self, now: Time, out: &mut Vec<u8>) {
        if self.dropped == 0 {
            return;
        }
        let length = spoken(now.since(self.since.unwrap_or(now)));
        let words = match self.limit {
            Some(limit) => format!(
                "… {} lines dropped in {length}: log_rate_limit is {} in {} …\n",
                self.dropped,
                limit.count,
                spoken(limit.per)
            ),
            None => format!("… {} lines dropped in {length} …\n", self.dropped),
        };
        out.extend_from_slice(words.as_bytes());
        self.dropped = 0;
    }

    /// When what was dropped is to be said, though nothing more comes.
    pub fn due(&self) -> Option<Time> {
        let per = self
            .limit
            .map_or(std::time::Duration::ZERO, |limit| limit.per);
        (self.dropped > 0).then(|| self.since.unwrap_or_default() + per)
    }

    /// Says it, if it is time, in the first stream.
    pub fn on_time(&mut self, now: Time, out: &mut Vec<u8>) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        if let [at @ At::Passing(1..), _] = &mut self.streams {
            // Its line has no end yet: the rest of it is another.
            out.push(b'\n');
            *at = At::Start;
        }
        self.say(now, out);
        self.since = None;
    }

    /// The run ended: what comes next is another's line.
    pub fn end_line(&mut self) {
        self.streams = [At::Start; 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn filter(count: u32, longest: u32, long: LongLines) -> LogFilter {
        LogFilter::of(&Log {
            rate_limit: (count > 0).then_some(RateLimit {
                count,
                per: Duration::from_secs(1),
            }),
            line_bytes: Some(longest),
            long_lines: Some(long),
            ..Log::default()
        })
        .expect("it does something")
    }

    /// What comes out of these pieces, whatever pieces they are cut into again.
    fn through(make: &dyn Fn() -> LogFilter, pieces: &[(u64, &str)]) -> String {
        let run = |most: usize| {
            let (mut filter, mut out) = (make(), Vec::new());
            for (ms, text) in pieces {
                for part in text.as_bytes().chunks(most) {
                    filter.take(Time::from_millis(*ms), 0, part, &mut out);
                }
            }
            String::from_utf8(out).expect("text")
        };
        let whole = run(usize::MAX);
        for most in 1..9 {
            assert_eq!(run(most), whole, "in pieces of {most}");
        }
        whole
    }

    #[test]
    fn nothing_to_do_is_no_filter() {
        assert!(LogFilter::of(&Log::default()).is_none());
        let none = RateLimit {
            count: 0,
            per: Duration::from_secs(1),
        };
        let log = Log {
            rate_limit: Some(none),
            ..Log::default()
        };
        assert!(LogFilter::of(&log).is_none());
    }

    #[test]
    fn lines_beyond_the_rate_are_dropped_whole_and_counted() {
        let make = || filter(2, 100, LongLines::Split);
        let got = through(
            &make,
            &[
                (5, "a\nb\nc\nlong"),
                (10, "er\nd\n"),
                (1005, "e\n"),
                (1006, "f\ng\n"),
            ],
        );
        let said = "… 3 lines dropped in 1 s: log_rate_limit is 2 in 1 s …\n";
        assert_eq!(got, format!("a\nb\n{said}e\nf\n"));
    }

    #[test]
    fn what_was_dropped_is_said_though_nothing_more_comes() {
        let mut filter = filter(1, 100, LongLines::Split);
        let mut out = Vec::new();
        filter.take(Time::from_millis(0), 0, b"a\nb\nc\n", &mut out);
        assert_eq!(filter.due(), Some(Time::from_millis(1000)));
        filter.on_time(Time::from_millis(999), &mut out);
        assert_eq!(out, b"a\n");
        filter.on_time(Time::from_millis(1000), &mut out);
        assert!(String::from_utf8_lossy(&out).contains("… 2 lines dropped in 1 s"));
        assert_eq!((filter.due(), filter.total()), (None, 2));
    }

    #[test]
    fn a_line_without_an_end_is_not_written_into() {
        let mut filter = filter(2, 100, LongLines::Split);
        let mut out = Vec::new();
        filter.take(Time::from_millis(0), 0, b"a\n", &mut out);
        filter.take(Time::from_millis(0), 0, b"prompt> ", &mut out);
        filter.take(Time::from_millis(0), 1, b"x\ny\n", &mut out);
        filter.on_time(Time::from_millis(2000), &mut out);
        let text = String::from_utf8_lossy(&out).into_owned();
        assert!(text.starts_with("a\nprompt> \n… 2 lines dropped"), "{text}");
    }

    #[test]
    fn long_lines_are_split_or_cut_and_exact_ones_are_whole() {
        let split = || filter(0, 4, LongLines::Split);
        assert_eq!(
            through(&split, &[(0, "abcd\nabcdefghi\nx\n")]),
            "abcd\nabcd\nefgh\ni\nx\n"
        );
        let cut = || filter(0, 4, LongLines::Truncate);
        assert_eq!(
            through(&cut, &[(0, "abcd\nabcdefghi\nx\n")]),
            "abcd\nabcd … cut: longer than 4 bytes …\nx\n"
        );
    }

    #[test]
    fn a_split_line_is_as_many_lines_to_the_rate() {
        let make = || filter(2, 4, LongLines::Split);
        assert_eq!(through(&make, &[(0, "abcdefghijkl\n")]), "abcd\nefgh\n");
    }
}
