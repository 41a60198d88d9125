//! What becomes of a service's output: plain data, and how it is read.
//!
//! One set of keys for a definition and for vitald.toml (`keys::log`), where they are the defaults
//! of all services. So each is an `Option` until a [`Log`] is laid over another; what nobody says
//! is what the key table says.

use crate::config::keys::log as keys;
use crate::config::problem::Problems;
use crate::config::reader::{Table, wrong};
use crate::config::tree::Value;
use crate::limits;
use std::time::Duration;

/// What is given of these keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Log {
    pub to: Option<LogTo>,
    pub time: Option<LogTime>,
    pub prefix: Option<LogPrefix>,
    pub file_bytes: Option<u64>,
    pub files: Option<u32>,
    pub stderr: Option<LogStderr>,
    pub priority: Option<Severity>,
    pub facility: Option<u8>,
    pub tag: Option<Box<str>>,
    pub line_bytes: Option<u32>,
    pub long_lines: Option<LongLines>,
    pub rate_limit: Option<RateLimit>,
    /// Program and arguments, never empty: gets the output instead of us.
    pub logger: Option<Box<[Box<str>]>>,
}

/// Where lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogTo {
    #[default]
    File,
    Syslog,
    Both,
    /// Nowhere but the daemon's memory.
    Memory,
}

/// How a line in a file says when it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogTime {
    #[default]
    Iso,
    Tai64n,
    None,
}

/// What else stands before a line in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogPrefix {
    #[default]
    None,
    Name,
    Stream,
    Both,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogStderr {
    /// One pipe for both streams: what was written first comes first.
    #[default]
    Joined,
    /// A pipe of its own.
    Apart,
}

/// What becomes of a line that is too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LongLines {
    #[default]
    Split,
    Truncate,
}

/// At most so many lines in so long a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimit {
    pub count: u32,
    pub per: Duration,
}

/// How much a line matters, as syslog(3) and sd-daemon(3) have it: 0 is worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Severity(pub u8);

/// By number.
pub const SEVERITIES: &[&str] = &[
    "emerg", "alert", "crit", "err", "warning", "notice", "info", "debug",
];

/// Facilities of syslog(3) by number.
pub const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

impl Severity {
    pub const INFO: Severity = Severity(6);

    /// A word, a number, or what syslog.conf(5) calls it too.
    pub fn parse(word: &str) -> Option<Severity> {
        let known = match word {
            "panic" => "emerg",
            "error" => "err",
            "warn" => "warning",
            word => word,
        };
        let by_word = SEVERITIES.iter().position(|name| *name == known);
        let number = by_word.or_else(|| word.parse().ok().filter(|n| *n < SEVERITIES.len()))?;
        u8::try_from(number).ok().map(Severity)
    }

    pub fn word(self) -> &'static str {
        SEVERITIES.get(usize::from(self.0)).copied().unwrap_or("")
    }

    /// `<3>text`: what it says before the text (sd-daemon(3)), and the text.
    pub fn split(line: &[u8]) -> (Option<Severity>, &[u8]) {
        match line {
            [b'<', digit @ b'0'..=b'7', b'>', text @ ..] => (Some(Severity(digit - b'0')), text),
            text => (None, text),
        }
    }
}

impl Log {
    /// The same, and where nothing is said what `defaults` say.
    pub fn over(&self, defaults: &Log) -> Log {
        Log {
            to: self.to.or(defaults.to),
            time: self.time.or(defaults.time),
            prefix: self.prefix.or(defaults.prefix),
            file_bytes: self.file_bytes.or(defaults.file_bytes),
            files: self.files.or(defaults.files),
            stderr: self.stderr.or(defaults.stderr),
            priority: self.priority.or(defaults.priority),
            facility: self.facility.or(defaults.facility),
            tag: self.tag.clone().or_else(|| defaults.tag.clone()),
            line_bytes: self.line_bytes.or(defaults.line_bytes),
            long_lines: self.long_lines.or(defaults.long_lines),
            rate_limit: self.rate_limit.or(defaults.rate_limit),
            logger: self.logger.clone().or_else(|| defaults.logger.clone()),
        }
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes.unwrap_or(limits::LOG_FILE_BYTES)
    }

    pub fn files(&self) -> u32 {
        self.files.unwrap_or(limits::LOG_FILES)
    }

    pub fn is_apart(&self) -> bool {
        self.stderr == Some(LogStderr::Apart)
    }

    pub fn priority(&self) -> Severity {
        self.priority.unwrap_or(Severity::INFO)
    }

    /// `daemon`.
    pub fn facility(&self) -> u8 {
        self.facility.unwrap_or(3)
    }

    pub fn line_bytes(&self) -> usize {
        let given = self
            .line_bytes
            .and_then(|bytes| usize::try_from(bytes).ok());
        given.unwrap_or(limits::LOG_LINE_BYTES)
    }

    /// The limit; one of 0 lines is none.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.rate_limit.filter(|limit| limit.count > 0)
    }
}

/// Reads the keys of a definition or of vitald.toml.
pub fn read(t: &Table<'_>, p: &mut Problems) -> Log {
    use LogTo::{File, Memory, Syslog};
    let severities: Vec<Severity> = (0..8).map(Severity).collect();
    let facilities: Vec<u8> = (0..24).collect();
    Log {
        to: t.choice_given(&keys::LOG_TO, &[File, Syslog, LogTo::Both, Memory], p),
        time: t.choice_given(
            &keys::LOG_TIME,
            &[LogTime::Iso, LogTime::Tai64n, LogTime::None],
            p,
        ),
        prefix: t.choice_given(
            &keys::LOG_PREFIX,
            &[
                LogPrefix::None,
                LogPrefix::Name,
                LogPrefix::Stream,
                LogPrefix::Both,
            ],
            p,
        ),
        // The ranges in the key table are within those of the types.
        file_bytes: t
            .number_given(&keys::LOG_FILE_BYTES, p)
            .and_then(|n| u64::try_from(n).ok()),
        files: t
            .number_given(&keys::LOG_FILES, p)
            .and_then(|n| u32::try_from(n).ok()),
        stderr: t.choice_given(&keys::LOG_STDERR, &[LogStderr::Joined, LogStderr::Apart], p),
        priority: t.choice_given(&keys::LOG_PRIORITY, &severities, p),
        facility: t.choice_given(&keys::LOG_FACILITY, &facilities, p),
        tag: tag(t, p),
        line_bytes: t
            .number_given(&keys::LOG_LINE_BYTES, p)
            .and_then(|n| u32::try_from(n).ok()),
        long_lines: t.choice_given(
            &keys::LOG_LONG_LINES,
            &[LongLines::Split, LongLines::Truncate],
            p,
        ),
        rate_limit: rate_limit(t, p),
        logger: match t.has(&keys::LOGGER) {
            true => t.command(&keys::LOGGER, p),
            false => None,
        },
    }
}

/// What syslog daemons take a tag for ends at a blank, a colon or a bracket (RFC 3164, 4.1.3).
fn tag(t: &Table<'_>, p: &mut Problems) -> Option<Box<str>> {
    let tag = t.text(&keys::LOG_TAG, p)?;
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '[' | ']');
    if tag.len() > 32 || tag.contains(bad) {
        let words = "`log_tag` must have at most 32 bytes, without blanks, `:`, `[` and `]`";
        p.error(t.place(&keys::LOG_TAG), words);
        return None;
    }
    Some(tag.into())
}

/// `{ count = 1000, per_ms = 1000 }`; a count of 0 is no limit.
fn rate_limit(t: &Table<'_>, p: &mut Problems) -> Option<RateLimit> {
    let entry = t.entry(&keys::LOG_RATE_LIMIT)?;
    let Value::Table(members) = &entry.value.value else {
        let expected = "a table, as { count = 1000, per_ms = 1000 }";
        return wrong(entry, expected, &entry.value.value, p);
    };
    let t = Table::open(entry.value.at, members, keys::rate_limit::ALL, p);
    if !t.has(&keys::rate_limit::COUNT) {
        let advice = p.assign("count", "1000");
        p.error(
            entry.value.at,
            format!("`log_rate_limit` has no `count`: write {advice}, 0 for no limit"),
        );
    }
    Some(RateLimit {
        count: u32::try_from(t.number(&keys::rate_limit::COUNT, p)).unwrap_or(0),
        per: t.millis(&keys::rate_limit::PER, p),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_much_it_matters() {
        let split = |line: &'static str| {
            let (severity, text) = Severity::split(line.as_bytes());
            (severity.map(|s| s.0), std::str::from_utf8(text).unwrap())
        };
        assert_eq!(split("<3>broken"), (Some(3), "broken"));
        assert_eq!(split("<7>"), (Some(7), ""));
        for other in ["", "<", "<3", "<8>x", "<33>x", " <3>x", "<a>x"] {
            assert_eq!(split(other), (None, other));
        }
        assert_eq!(Severity::parse("warn"), Severity::parse("4"));
        assert_eq!(Severity::parse("8"), None);
        assert_eq!(Severity::parse("loud"), None);
        for (number, word) in SEVERITIES.iter().enumerate() {
            assert_eq!(Severity::parse(word).unwrap().0 as usize, number);
        }
    }

    #[test]
    fn what_a_service_does_not_say_the_defaults_say() {
        let defaults = Log {
            files: Some(7),
            time: Some(LogTime::None),
            ..Log::default()
        };
        let given = Log {
            files: Some(2),
            ..Log::default()
        };
        let both = given.over(&defaults);
        assert_eq!((both.files(), both.time), (2, Some(LogTime::None)));
        assert_eq!(both.file_bytes(), limits::LOG_FILE_BYTES);
    }
}
