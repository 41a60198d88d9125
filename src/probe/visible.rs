//! What came back, made fit to be shown: bounded, UTF-8, nothing a terminal would obey.
//!
//! A probe's output is written by the service, so it may be anything. Invariants: the text is at
//! most [`PROBE_OUTPUT_BYTES`] long, and holds no control character but newline and tab.

use crate::limits::{PROBE_OUTPUT_BYTES, PROBE_OUTPUT_LINES};

/// The first bytes of a reply.
pub fn first_bytes(bytes: &[u8]) -> Box<str> {
    let kept = &bytes[..bytes.len().min(PROBE_OUTPUT_BYTES)];
    // A character that the bound cut in two is left out rather than shown as damage.
    let kept = match std::str::from_utf8(kept) {
        Err(e) if e.error_len().is_none() => &kept[..e.valid_up_to()],
        _ => kept,
    };
    let mut text = harmless(kept);
    while text.len() > PROBE_OUTPUT_BYTES {
        text.pop(); // replacement characters are longer than the bytes they stand for
    }
    text.into_boxed_str()
}

/// The last lines of a command's output.
pub fn last_lines(bytes: &[u8]) -> Box<str> {
    let mut start = bytes.len().saturating_sub(PROBE_OUTPUT_BYTES);
    while start > 0 && start < bytes.len() && bytes[start] & 0xc0 == 0x80 {
        start += 1; // not in the middle of a character
    }
    let mut text = harmless(&bytes[start..]);
    text.truncate(text.trim_end().len());
    let begin = text
        .rmatch_indices('\n')
        .nth(PROBE_OUTPUT_LINES - 1)
        .map_or(0, |(at, _)| at + 1);
    let mut begin = begin.max(text.len().saturating_sub(PROBE_OUTPUT_BYTES));
    while !text.is_char_boundary(begin) {
        begin += 1;
    }
    text[begin..].into()
}

/// A terminal would obey it, or, an explicit direction mark, reorder what a person reads around it.
pub fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn harmless(bytes: &[u8]) -> String {
    let plain = |b: &u8| matches!(b, b' '..=b'~' | b'\n' | b'\t');
    let lossy = String::from_utf8_lossy(bytes);
    if bytes.iter().all(plain) {
        return lossy.into_owned();
    }
    lossy
        .chars()
        .filter(|c| *c != '\r')
        .map(|c| match c {
            '\n' | '\t' => c,
            c if steers(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_does_not_reach_the_terminal() {
        assert_eq!(
            &*first_bytes(b"\x1b[2Jok\r\n\tx\x00\x7f"),
            "\u{fffd}[2Jok\n\tx\u{fffd}\u{fffd}"
        );
        assert_eq!(
            &*first_bytes("a\u{9b}b\u{202e}c".as_bytes()),
            "a\u{fffd}b\u{fffd}c"
        );
    }

    #[test]
    fn the_bound_cuts_no_character_in_two() {
        let text = "é".repeat(PROBE_OUTPUT_BYTES);
        let odd = format!("x{text}");
        assert_eq!(first_bytes(odd.as_bytes()).len(), PROBE_OUTPUT_BYTES - 1);
        let tail = last_lines(odd.as_bytes());
        assert!(tail.len() <= PROBE_OUTPUT_BYTES && tail.chars().all(|c| c == 'é'));
    }

    #[test]
    fn bytes_that_are_no_text_stay_within_the_bound() {
        let junk = [0xffu8; 2000];
        assert!(first_bytes(&junk).len() <= PROBE_OUTPUT_BYTES);
        assert!(!first_bytes(&junk).is_empty());
        assert!(last_lines(&junk).len() <= PROBE_OUTPUT_BYTES);
    }

    #[test]
    fn the_last_lines_are_the_last_five() {
        let text = (1..=9).map(|n| format!("line {n}\n")).collect::<String>();
        assert_eq!(
            &*last_lines(text.as_bytes()),
            "line 5\nline 6\nline 7\nline 8\nline 9"
        );
        assert_eq!(&*last_lines(b""), "");
        assert_eq!(&*last_lines(b"one"), "one");
    }
}
