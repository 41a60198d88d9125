//! Lines of services' logs on their way to a client: which of them, and in what form.
//!
//! Pure. A line that begins with `<N>` (sd-daemon(3)) says how much it matters: that is no part of
//! its text. In words a line is the time, with several services whose it is, and the text; JSON has
//! the same, and beside it each part by its name.

use super::reply::{LogEntry, LogLines};
use crate::config::Severity;
use crate::time::rfc3339_ms;

/// A line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLine<'a> {
    pub service: &'a str,
    /// When it was read, milliseconds since 1970; None: that is not known any more.
    pub wall_ms: Option<u64>,
    /// `stdout`, `stderr`; None: they were not told apart.
    pub stream: Option<&'static str>,
    pub severity: Severity,
    /// Without its end, and without what it says of its severity.
    pub text: &'a [u8],
}

impl<'a> LogLine<'a> {
    /// From what was written: `usual` is the severity of a line that does not say.
    pub fn of(
        service: &'a str,
        wall_ms: Option<u64>,
        stream: Option<&'static str>,
        written: &'a [u8],
        usual: Severity,
    ) -> LogLine<'a> {
        let (said, text) = Severity::split(written);
        LogLine {
            service,
            wall_ms,
            stream,
            severity: said.unwrap_or(usual),
            text,
        }
    }

    /// As people read it, without its end.
    pub fn shown(&self, named: bool) -> String {
        let mut out = self
            .wall_ms
            .map_or(String::new(), |ms| rfc3339_ms(ms) + " ");
        if named {
            out.push_str(self.service);
            out.push_str(": ");
        }
        out.push_str(&String::from_utf8_lossy(self.text));
        out
    }

    fn entry(&self) -> LogEntry {
        LogEntry {
            time: self.wall_ms.map(rfc3339_ms),
            service: self.service.to_owned(),
            stream: self.stream.map(str::to_owned),
            priority: self.severity.word().to_owned(),
            text: String::from_utf8_lossy(self.text).into_owned(),
        }
    }
}

/// Which lines somebody wants.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    /// Those that matter at least so much.
    pub priority: Option<Severity>,
    /// Those that were read at this time or later, milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Those that have this in their text.
    pub grep: Option<Box<str>>,
}

impl Choice {
    pub fn is_all(&self) -> bool {
        *self == Choice::default()
    }

    pub fn wants(&self, line: &LogLine<'_>) -> bool {
        let Choice {
            priority,
            since_ms,
            grep,
        } = self;
        priority.is_none_or(|least| line.severity <= least)
            && since_ms.is_none_or(|since| line.wall_ms.is_none_or(|ms| ms >= since))
            && grep.as_ref().is_none_or(|part| {
                let (text, part) = (line.text, part.as_bytes());
                part.is_empty() || text.windows(part.len()).any(|window| window == part)
            })
    }
}

/// For JSON. `service` is whose they all are, where that is one.
pub fn log_lines(service: Option<&str>, lines: &[&LogLine<'_>]) -> LogLines {
    let named = service.is_none();
    LogLines {
        service: service.unwrap_or_default().to_owned(),
        lines: lines.iter().map(|line| line.shown(named)).collect(),
        entries: lines.iter().map(|line| line.entry()).collect(),
    }
}

/// For words.
pub fn put_words(named: bool, lines: &[&LogLine<'_>], out: &mut Vec<u8>) {
    for line in lines {
        out.extend_from_slice(line.shown(named).as_bytes());
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_chosen_by_what_it_is() {
        let line = |written: &'static str| {
            LogLine::of("web", Some(1000), None, written.as_bytes(), Severity::INFO)
        };
        let choose = |priority, since_ms, grep: Option<&str>| Choice {
            priority,
            since_ms,
            grep: grep.map(Into::into),
        };
        let warning = choose(Severity::parse("warning"), None, None);
        assert!(warning.wants(&line("<4>hot")) && warning.wants(&line("<0>dead")));
        assert!(!warning.wants(&line("<5>hm")) && !warning.wants(&line("plain")));
        assert!(choose(None, Some(1000), None).wants(&line("x")));
        assert!(!choose(None, Some(1001), None).wants(&line("x")));
        assert!(choose(None, None, Some("<4>")).wants(&line("a<4>b")));
        assert!(!choose(None, None, Some("4")).wants(&line("<4>hot")));
        assert!(Choice::default().is_all() && !warning.is_all());
    }

    #[test]
    fn a_severity_is_no_part_of_the_text_and_kept_beside_it() {
        let line = LogLine::of("web", Some(0), Some("stderr"), b"<3>broken", Severity::INFO);
        let mut words = Vec::new();
        put_words(true, &[&line], &mut words);
        assert_eq!(words, b"1970-01-01T00:00:00.000Z web: broken\n");
        let json = log_lines(Some("web"), &[&line]);
        assert_eq!(json.lines, ["1970-01-01T00:00:00.000Z broken"]);
        let entry = &json.entries[0];
        assert_eq!((&*entry.priority, &*entry.text), ("err", "broken"));
        assert_eq!(entry.stream.as_deref(), Some("stderr"));
    }
}
