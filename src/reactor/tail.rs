//! The last lines of a service's log files, newest file last. Blocking: only in a helper.
//!
//! What is read is bounded, however long the lines are. Files say when a line was read as their
//! service's style had it; what that was is seen from each line. Without times what is in memory is
//! known by its text.

use crate::config::{LogPrefix, LogTime};
use crate::limits::LOG_FILES;
use crate::reactor::scribe::style::Stream;
use crate::time::tai64n_read;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// What is read and given at most of one service …
pub const LIMIT: usize = 256 * 1024;
/// … and of several together.
pub const LIMIT_ALL: usize = 1024 * 1024;

/// What a helper tells at most of that: lines have 16 bytes or more on the average, and are told with
/// fewer than 32 more.
pub const TOLD_LIMIT: usize = 4 * LIMIT_ALL;

/// Where what memory has begins.
#[derive(Clone, Debug)]
pub struct Edge {
    /// The time of its oldest line, in milliseconds since 1970.
    pub ms: u64,
    /// Its lines of that time; where files have no times, all of its lines.
    pub lines: Vec<Box<[u8]>>,
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of one service, by number: whoever asks knows which.
    pub number: usize,
    pub name: Box<str>,
    pub dir: PathBuf,
    /// At most so many of the newest lines, and bytes.
    pub lines: u64,
    pub room: usize,
    pub time: LogTime,
    pub prefix: LogPrefix,
    /// Lines older than this; None: all.
    pub edge: Option<Edge>,
}

/// A line of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// None: the file does not say.
    pub ms: Option<u64>,
    pub stream: Stream,
    pub text: Box<[u8]>,
}

/// The newest lines that are older than those that memory has, oldest first.
pub fn read(wanted: &Wanted) -> Vec<Found> {
    let mut bytes = Vec::new();
    // `current`, then `.1`, `.2` …: each older one is put before what is there.
    let older = (1..=LOG_FILES.max(16)).map(|number| format!("current.{number}"));
    for name in std::iter::once("current".to_owned()).chain(older) {
        let room = wanted.room - bytes.len();
        let Some(end) = end_of(&wanted.dir.join(name), room) else {
            break;
        };
        bytes.splice(..0, end);
        if bytes.len() >= wanted.room {
            break;
        }
    }
    let whole = bytes.split_inclusive(|byte| *byte == b'\n');
    let whole = whole.filter_map(|line| line.strip_suffix(b"\n"));
    let found = whole.map(|line| parse(line, wanted)).collect();
    let mut kept = not_in_memory(found, wanted.time, wanted.edge.as_ref());
    let skip = kept.len().saturating_sub(wanted.lines as usize);
    kept.drain(..skip);
    kept
}

/// Takes apart what the scribe put together.
fn parse(line: &[u8], wanted: &Wanted) -> Found {
    let (ms, rest) = match wanted.time {
        LogTime::None => (None, line),
        LogTime::Iso | LogTime::Tai64n => timed(line),
    };
    let mut found = Found {
        ms,
        stream: Stream::Joined,
        text: rest.into(),
    };
    let streams = [Stream::Stdout, Stream::Stderr, Stream::Joined];
    let (name, stream_too) = match wanted.prefix {
        LogPrefix::None => return found,
        LogPrefix::Name => (Some(&*wanted.name), false),
        LogPrefix::Stream => (None, true),
        LogPrefix::Both => (Some(&*wanted.name), true),
    };
    for stream in streams {
        let word = stream.word().filter(|_| stream_too);
        let words: Vec<&str> = name.into_iter().chain(word).collect();
        if words.is_empty() {
            break;
        }
        let prefix = words.join(" ") + ": ";
        if let Some(text) = rest.strip_prefix(prefix.as_bytes()) {
            found.text = text.into();
            found.stream = match word {
                Some(_) => stream,
                None => Stream::Joined,
            };
            break;
        }
    }
    found
}

/// The time at which a line begins, if it does, and the rest.
fn timed(line: &[u8]) -> (Option<u64>, &[u8]) {
    let at = |length: usize| {
        let (stamp, rest) = line.split_at_checked(length)?;
        Some((stamp, rest.strip_prefix(b" ")?))
    };
    if let Some((stamp, rest)) = at(25)
        && let Some(ms) = tai64n_read(stamp)
    {
        return (Some(ms), rest);
    }
    // 2026-11-23T22:48:01.123Z
    if let Some((stamp, rest)) = at(24)
        && let Ok(stamp) = std::str::from_utf8(stamp)
        && let Ok(time) = humantime::parse_rfc3339(stamp)
        && let Ok(since) = time.duration_since(UNIX_EPOCH)
    {
        return (u64::try_from(since.as_millis()).ok(), rest);
    }
    (None, line)
}

/// Of these lines of a file those that memory does not have.
pub fn not_in_memory(mut kept: Vec<Found>, time: LogTime, edge: Option<&Edge>) -> Vec<Found> {
    let Some(edge) = edge else {
        return kept;
    };
    if time == LogTime::None {
        cut_at(&mut kept, None, edge);
        return kept;
    }
    // A line without a time, from when the style was another, is as old as the one before it.
    let mut last = 0;
    kept.retain(|found| {
        last = found.ms.unwrap_or(last);
        last <= edge.ms
    });
    cut_at(&mut kept, Some(edge.ms), edge);
    kept
}

/// Of one time there may be thousands of lines, of which memory has the newest, and the files, if
/// the scribe is behind, the oldest: what is in both is left to memory.
fn cut_at(kept: &mut Vec<Found>, ms: Option<u64>, edge: &Edge) {
    let same = kept.iter().rev().take_while(|found| found.ms == ms);
    let first = kept.len() - same.count();
    let first = first.max(kept.len().saturating_sub(edge.lines.len()));
    let is_known = |at: usize| {
        let rest = kept.iter().skip(at).map(|found| &found.text);
        rest.eq(edge.lines.iter().take(kept.len() - at))
    };
    let both = (first..kept.len()).find(|at| is_known(*at));
    kept.truncate(both.unwrap_or(kept.len()));
}

/// The last `room` bytes of a file, from the beginning of a line on.
fn end_of(path: &Path, room: usize) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let from = size.saturating_sub(room as u64);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(room as u64).read_to_end(&mut bytes).ok()?;
    if from > 0 {
        let cut = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(bytes.len(), |at| at + 1);
        bytes.drain(..cut);
    }
    Some(bytes)
}

/// What a helper tells, a line each: whose, when, which stream, the text.
pub fn tell(wanted: &[Wanted], out: &mut dyn Write) -> std::io::Result<()> {
    for one in wanted {
        for Found { ms, stream, text } in read(one) {
            let ms = ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
            write!(out, "{} {ms} {} ", one.number, stream.number())?;
            out.write_all(&text)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// The same, read back.
pub fn told(bytes: &[u8]) -> Vec<(usize, Found)> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let read = |line: &[u8]| {
        let mut parts = line.strip_suffix(b"\n")?.splitn(4, |byte| *byte == b' ');
        let mut word = || std::str::from_utf8(parts.next()?).ok();
        let (number, ms, stream) = (word()?, word()?, word()?);
        let found = Found {
            ms: ms.parse().ok(),
            stream: Stream::of(stream.parse().ok()?),
            text: parts.next()?.into(),
        };
        Some((number.parse().ok()?, found))
    };
    lines.filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{rfc3339_ms, tai64n_ms};

    fn wanted(dir: &Path, lines: u64, edge: Option<Edge>) -> Wanted {
        Wanted {
            number: 0,
            name: "web".into(),
            dir: dir.into(),
            lines,
            room: LIMIT,
            time: LogTime::Iso,
            prefix: LogPrefix::None,
            edge,
        }
    }

    fn edge(ms: u64, lines: &[&str]) -> Edge {
        let lines = lines.iter().map(|line| line.as_bytes().into()).collect();
        Edge { ms, lines }
    }

    fn texts(found: &[Found]) -> Vec<String> {
        let text = |found: &Found| String::from_utf8_lossy(&found.text).into_owned();
        found.iter().map(text).collect()
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("vitald-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("mkdir");
        dir
    }

    #[test]
    fn the_newest_lines_before_a_time_over_several_files() {
        let dir = scratch("tail");
        let file = |name: &str, from: u64, to: u64, stamp: &dyn Fn(u64) -> String| {
            let line = |ms: u64| format!("{} line {ms}\n", stamp(ms));
            let text: String = (from..to).map(line).collect();
            std::fs::write(dir.join(name), text).expect("write");
        };
        // The style was another once.
        file("current.2", 0, 10, &tai64n_ms);
        file("current.1", 10, 20, &rfc3339_ms);
        file("current", 20, 30, &rfc3339_ms);
        let lines = |n, ms: Option<u64>| {
            let edge = ms.map(|ms| edge(ms, &[&format!("line {ms}")]));
            texts(&read(&wanted(&dir, n, edge)))
        };
        let expected = |from: u64, to: u64| -> Vec<String> {
            (from..to).map(|ms| format!("line {ms}")).collect()
        };
        assert_eq!(lines(3, None), expected(27, 30));
        assert_eq!(lines(15, None), expected(15, 30));
        assert_eq!(lines(100, None), expected(0, 30));
        assert_eq!(lines(4, Some(22)), expected(18, 22));
        assert_eq!(read(&wanted(&dir.join("nobody"), 5, None)), []);
        std::fs::remove_dir_all(&dir).expect("rmdir");
    }

    /// The ring was empty when the files were asked for, and has something by the time they tell.
    #[test]
    fn what_came_to_memory_meanwhile_is_not_shown_from_the_files_too() {
        let line = |ms: u64, text: &str| Found {
            ms: Some(ms),
            stream: Stream::Joined,
            text: text.as_bytes().into(),
        };
        let found = vec![line(1, "old"), line(5, "new"), line(6, "newer")];
        let edge = edge(5, &["new"]);
        let kept = |edge| texts(&not_in_memory(found.clone(), LogTime::Iso, edge));
        assert_eq!(kept(Some(&edge)), ["old"]);
        assert_eq!(kept(None).len(), 3);
    }

    #[test]
    fn of_the_lines_of_one_millisecond_none_is_lost_and_none_shown_twice() {
        let dir = scratch("tail-ms");
        let at = |ms: u64, text: &str| format!("{} {text}\n", rfc3339_ms(ms));
        // What was said at 5 ms, and from where on memory has it.
        let words = ["a", "b", "y", "y", "y", "z"];
        for from in 0..words.len() {
            let edge = edge(5, &words[from..]);
            // The scribe may be behind, but not so far that it has less than memory lacks.
            for to in from..=words.len() {
                let mut text = at(1, "early");
                text.extend(words[..to].iter().map(|word| at(5, word)));
                if to == words.len() {
                    text.push_str(&at(6, "late"));
                }
                std::fs::write(dir.join("current"), text).expect("write");
                let shown = texts(&read(&wanted(&dir, 100, Some(edge.clone()))));
                let all = [&["early"], &words[..from]].concat();
                // Equal lines of one time cannot be told apart: those shown may be fewer.
                let same = |lines: Vec<String>| -> Vec<String> {
                    lines.into_iter().filter(|line| line != "y").collect()
                };
                let all: Vec<String> = all.iter().map(|line| line.to_string()).collect();
                if to == words.len() {
                    assert_eq!(shown, all, "from {from}");
                }
                assert_eq!(same(shown), same(all), "from {from}, to {to}");
            }
        }
        std::fs::remove_dir_all(&dir).expect("rmdir");
    }

    #[test]
    fn files_without_times_are_cut_by_their_text() {
        let dir = scratch("tail-none");
        std::fs::write(dir.join("current"), "a\nb\nc\nd\ne\n").expect("write");
        let shown = |known: &[&str]| {
            let mut wanted = wanted(&dir, 100, Some(edge(7, known)));
            wanted.time = LogTime::None;
            texts(&read(&wanted))
        };
        assert_eq!(shown(&["c", "d", "e"]), ["a", "b"]);
        // The scribe is behind.
        assert_eq!(shown(&["d", "e", "f", "g"]), ["a", "b", "c"]);
        assert_eq!(shown(&["f"]).len(), 5);
        std::fs::remove_dir_all(&dir).expect("rmdir");
    }

    #[test]
    fn prefixes_are_taken_off_and_a_helper_is_read_back() {
        let dir = scratch("tail-prefix");
        let time = rfc3339_ms(3);
        let text = format!("{time} web stderr: <3>oops\n{time} web: joined\n{time} other\n");
        std::fs::write(dir.join("current"), text).expect("write");
        let mut one = wanted(&dir, 100, None);
        one.prefix = LogPrefix::Both;
        one.number = 7;
        let mut out = Vec::new();
        tell(&[one], &mut out).expect("told");
        let found = told(&out);
        assert!(
            found
                .iter()
                .all(|(number, line)| (*number, line.ms) == (7, Some(3)))
        );
        let lines: Vec<Found> = found.into_iter().map(|(_, line)| line).collect();
        assert_eq!(texts(&lines), ["<3>oops", "joined", "other"]);
        assert_eq!(lines[0].stream, Stream::Stderr);
        std::fs::remove_dir_all(&dir).expect("rmdir");
    }
}
