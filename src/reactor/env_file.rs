//! The env file: `KEY=VALUE` lines.
//!
//! Read by the child between clone and exec, so it is parsed in place and nothing is allocated:
//! each entry only shrinks. Blank lines and lines that begin with `#` or `;` are skipped, blanks
//! around are trimmed, a leading `export` is allowed. `'…'` is literal; in `"…"` a backslash
//! takes the meaning from `"`, `\`, `$` and a backquote, and `\n` is a line end; both may span
//! lines. Nothing is expanded and no shell is run. The last of two equal keys wins.

use std::ffi::CStr;

/// The largest env file.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// The most variables it may set.
pub(super) const MAX_ENTRIES: usize = 1024;

/// What is wrong with it, and in which line (from 1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// EINVAL: not `KEY=VALUE`. E2BIG: too many.
    pub errno: i32,
    pub line: u32,
}

/// Hands each entry, null-terminated, to `put`, which says false when it has no more room. The
/// last byte of `text` is not part of the file, it is room for a null.
pub(super) fn parse(text: &mut [u8], put: &mut dyn FnMut(&CStr) -> bool) -> Result<(), Bad> {
    let mut rest = text;
    let mut line = 1;
    while rest.len() > 1 {
        // Moves the slice out, so that the entry may outlive this turn of the loop.
        let whole = std::mem::take(&mut rest);
        let entry = entry(whole).ok_or(Bad {
            errno: libc::EINVAL,
            line,
        })?;
        if entry.end > entry.start {
            let text = whole.get(entry.start..=entry.end).unwrap_or_default();
            let valid = CStr::from_bytes_with_nul(text);
            let text = valid.map_err(|_| Bad {
                errno: libc::EINVAL,
                line,
            })?;
            if !put(text) {
                return Err(Bad {
                    errno: libc::E2BIG,
                    line,
                });
            }
        }
        line += entry.lines;
        rest = whole.get_mut(entry.next..).unwrap_or_default();
    }
    Ok(())
}

/// Where the entry at the beginning of `text` stands: `start..end` and a null at `end`; empty for
/// a blank line. `next` begins the next line, `lines` further down.
struct Entry {
    start: usize,
    end: usize,
    next: usize,
    lines: u32,
}

fn entry(text: &mut [u8]) -> Option<Entry> {
    let stop = text.len() - 1;
    let at = |text: &[u8], index: usize| {
        if index < stop {
            text.get(index).copied().unwrap_or(b'\n')
        } else {
            b'\n'
        }
    };
    let skip = |text: &[u8], mut index: usize| {
        while matches!(at(text, index), b' ' | b'\t' | b'\r') {
            index += 1;
        }
        index
    };
    let mut start = skip(text, 0);
    if matches!(at(text, start), b'\n' | b'#' | b';') {
        while at(text, start) != b'\n' {
            start += 1;
        }
        return Some(Entry {
            start: 0,
            end: 0,
            next: start + 1,
            lines: 1,
        });
    }
    if text
        .get(start..)
        .is_some_and(|text| text.starts_with(b"export "))
    {
        start = skip(text, start + 7);
    }
    let mut read = start;
    while matches!(at(text, read), b'a'..=b'z' | b'A'..=b'Z' | b'_')
        || (read > start && at(text, read).is_ascii_digit())
    {
        read += 1;
    }
    if read == start || at(text, read) != b'=' {
        return None;
    }
    let mut write = read + 1;
    read = skip(text, write);
    let mut lines = 1;
    let quote = at(text, read);
    if quote == b'"' || quote == b'\'' {
        read += 1;
        loop {
            if read >= stop {
                return None;
            }
            let mut byte = at(text, read);
            read += 1;
            if byte == quote {
                break;
            }
            lines += u32::from(byte == b'\n');
            if quote == b'"' && byte == b'\\' && read < stop {
                match at(text, read) {
                    next @ (b'"' | b'\\' | b'$' | b'`') => {
                        byte = next;
                        read += 1;
                    }
                    b'n' => {
                        byte = b'\n';
                        read += 1;
                    }
                    _ => {}
                }
            }
            *text.get_mut(write)? = byte;
            write += 1;
        }
        read = skip(text, read);
        if at(text, read) == b'#' {
            while at(text, read) != b'\n' {
                read += 1;
            }
        }
        if at(text, read) != b'\n' {
            return None;
        }
    } else {
        let mut end = write;
        while at(text, read) != b'\n' {
            let byte = at(text, read);
            *text.get_mut(write)? = byte;
            write += 1;
            read += 1;
            if !matches!(byte, b' ' | b'\t' | b'\r') {
                end = write;
            }
        }
        write = end;
    }
    *text.get_mut(write)? = 0;
    Some(Entry {
        start,
        end: write,
        next: read + 1,
        lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, Bad> {
        let mut text = text.as_bytes().to_vec();
        text.push(b'x');
        let mut entries = Vec::new();
        parse(&mut text, &mut |entry| {
            entries.push(entry.to_str().unwrap().to_owned());
            entries.len() < 6
        })?;
        Ok(entries)
    }

    #[test]
    fn plain_lines_comments_and_blanks() {
        let text = "\n# no\n ; no\nA=1\n  B = 2 \n export C=three words \r\nD=\nE=a=b#c";
        assert_eq!(
            read(text),
            // `B = 2`: a blank before `=` is no KEY=VALUE.
            Err(Bad {
                errno: libc::EINVAL,
                line: 5
            })
        );
        let text = text.replace("B = 2", "B= 2");
        let wanted = ["A=1", "B=2", "C=three words", "D=", "E=a=b#c"];
        assert_eq!(read(&text).unwrap(), wanted);
    }

    #[test]
    fn quotes() {
        let text = "A='a \"$x\" \\n'\nB=\"a \\\"b\\\" \\\\ \\$x \\q\" # why\nC=\"two\nlines\\nthree\"\nD=''\n";
        let wanted = [
            "A=a \"$x\" \\n",
            "B=a \"b\" \\ $x \\q",
            "C=two\nlines\nthree",
            "D=",
        ];
        assert_eq!(read(text).unwrap(), wanted);
    }

    #[test]
    fn what_is_wrong_is_found_in_its_line() {
        for (text, line) in [
            ("A=1\nnonsense\n", 2),
            ("A=1\n=x", 2),
            ("1A=x", 1),
            ("A-B=x", 1),
            ("\n\nA='open\nand on", 3),
            ("A=\"x\" y\n", 1),
            ("A=\"a\nb\\n\"\nB", 3),
            ("A=1\nB=a\0b", 2),
            ("export", 1),
            ("A=\"\\", 1),
        ] {
            let wanted = Err(Bad {
                errno: libc::EINVAL,
                line,
            });
            assert_eq!(read(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_said() {
        let text = "A=\nB=\nC=\nD=\nE=\nF=\nG=\n";
        assert_eq!(
            read(text),
            Err(Bad {
                errno: libc::E2BIG,
                line: 6
            })
        );
        assert_eq!(read("").unwrap(), [""; 0]);
        assert_eq!(read("A=1").unwrap(), ["A=1"]);
    }
}
