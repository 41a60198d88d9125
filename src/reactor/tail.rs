//! The last lines of a service's log files, newest file last. Blocking: only in a helper.
//!
//! What is read is bounded: at most [`LIMIT`] bytes, however long the lines are.

use crate::limits::LOG_FILES;
use crate::time::rfc3339_ms;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// What is read and given at most.
pub const LIMIT: usize = 256 * 1024;

/// Where what memory has begins.
#[derive(Debug)]
pub struct Edge {
    /// The time of its oldest line, in milliseconds since 1970.
    pub ms: u64,
    /// Its lines of that time, as a log file has them.
    pub lines: Vec<u8>,
}

/// The newest `lines` lines that are older than those that memory has (None: all).
pub fn read(dir: &Path, lines: u64, edge: Option<&Edge>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // `current`, then `.1`, `.2` …: each older one is put before what is there.
    let older = (1..=LOG_FILES.max(16)).map(|number| format!("current.{number}"));
    for name in std::iter::once("current".to_owned()).chain(older) {
        let room = LIMIT - bytes.len();
        let Some(end) = end_of(&dir.join(name), room) else {
            break;
        };
        bytes.splice(..0, end);
        if bytes.len() >= LIMIT {
            break;
        }
    }
    let kept = not_in_memory(&bytes, edge);
    let skip = kept.len().saturating_sub(lines as usize);
    kept[skip..].concat()
}

/// Of these lines of a file those that memory does not have.
pub fn not_in_memory<'a>(bytes: &'a [u8], edge: Option<&Edge>) -> Vec<&'a [u8]> {
    let mut kept: Vec<&[u8]> = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"))
        .collect();
    if let Some(edge) = edge {
        let time = rfc3339_ms(edge.ms).into_bytes();
        // RFC 3339 in UTC with equal digits: the order of the texts is the order of the times.
        kept.retain(|line| line.get(..time.len()).is_some_and(|at| at <= &time[..]));
        cut_at(&mut kept, &time, &edge.lines);
    }
    kept
}

/// Of one time there may be thousands of lines, of which memory has the newest, and the files, if
/// the scribe is behind, the oldest: what is in both is left to memory.
fn cut_at(kept: &mut Vec<&[u8]>, time: &[u8], head: &[u8]) {
    let same = kept.iter().rev().take_while(|line| line.starts_with(time));
    let first = kept.len() - same.count();
    let known: Vec<&[u8]> = head.split_inclusive(|byte| *byte == b'\n').collect();
    let first = first.max(kept.len().saturating_sub(known.len()));
    let both = (first..kept.len()).find(|at| known.starts_with(&kept[*at..]));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_before_a_time_over_several_files() {
        let dir = std::env::temp_dir().join(format!("vitald-tail-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("mkdir");
        let line = |ms: u64| format!("{} line {ms}\n", rfc3339_ms(ms));
        let file = |name: &str, from: u64, to: u64| {
            let text: String = (from..to).map(line).collect();
            std::fs::write(dir.join(name), text).expect("write");
        };
        file("current.2", 0, 10);
        file("current.1", 10, 20);
        file("current", 20, 30);
        let lines = |n, ms: Option<u64>| {
            let edge = ms.map(|ms| Edge {
                ms,
                lines: line(ms).into_bytes(),
            });
            String::from_utf8(read(&dir, n, edge.as_ref())).expect("text")
        };
        let expected = |from: u64, to: u64| (from..to).map(line).collect::<String>();
        assert_eq!(lines(3, None), expected(27, 30));
        assert_eq!(lines(15, None), expected(15, 30));
        assert_eq!(lines(100, None), expected(0, 30));
        assert_eq!(lines(4, Some(22)), expected(18, 22));
        assert_eq!(read(&dir.join("nobody"), 5, None), b"");
        std::fs::remove_dir_all(&dir).expect("rmdir");
    }

    /// The ring was empty when the files were asked for, and has something by the time they tell.
    #[test]
    fn what_came_to_memory_meanwhile_is_not_shown_from_the_files_too() {
        let line = |ms: u64, text: &str| format!("{} {text}\n", rfc3339_ms(ms));
        let found = line(1, "old") + &line(5, "new") + &line(6, "newer");
        let edge = Edge {
            ms: 5,
            lines: line(5, "new").into_bytes(),
        };
        let kept = |edge| not_in_memory(found.as_bytes(), edge).concat();
        assert_eq!(kept(Some(&edge)), line(1, "old").into_bytes());
        assert_eq!(kept(None), found.as_bytes());
    }

    #[test]
    fn of_the_lines_of_one_millisecond_none_is_lost_and_none_shown_twice() {
        let dir = std::env::temp_dir().join(format!("vitald-tail-ms-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("mkdir");
        let at = |ms: u64, text: &str| format!("{} {text}\n", rfc3339_ms(ms));
        let early = at(1, "early");
        // What was said at 5 ms, and from where on memory has it.
        let words = ["a", "b", "y", "y", "y", "z"];
        for from in 0..words.len() {
            let said = |from: usize, to: usize| -> String {
                words[from..to].iter().map(|word| at(5, word)).collect()
            };
            let edge = Edge {
                ms: 5,
                lines: said(from, words.len()).into_bytes(),
            };
            // The scribe may be behind, but not so far that it has less than memory lacks.
            for to in from..=words.len() {
                let late = if to == words.len() {
                    at(6, "late")
                } else {
                    String::new()
                };
                let text = early.clone() + &said(0, to) + &late;
                std::fs::write(dir.join("current"), text).expect("write");
                let shown = String::from_utf8(read(&dir, 100, Some(&edge))).expect("text");
                // Equal lines of one time cannot be told apart: those shown may be fewer.
                let all = early.clone() + &said(0, from);
                let same = |text: &str| text.replace(&at(5, "y"), "");
                assert_eq!(same(&shown), same(&all), "from {from}, to {to}");
                if to == words.len() {
                    assert_eq!(shown, all, "from {from}");
                }
            }
        }
        std::fs::remove_dir_all(&dir).expect("rmdir");
    }
}
