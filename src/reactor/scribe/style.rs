//! Whose bytes these are and what is to become of them: it stands before each message of log
//! bytes, so the scribe need not be told of services, and a new one knows at once.
//!
//! No I/O here.

use crate::config::{Log, LogPrefix, LogTime, LogTo, Severity};

/// Which stream of a service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Stream {
    /// One pipe for both.
    #[default]
    Joined,
    Stdout,
    Stderr,
}

impl Stream {
    pub const fn number(self) -> u8 {
        match self {
            Stream::Joined => 0,
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }

    pub const fn of(number: u8) -> Stream {
        match number {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => Stream::Joined,
        }
    }

    /// Its name, where it is told from the other.
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Stream::Joined => None,
            Stream::Stdout => Some("stdout"),
            Stream::Stderr => Some("stderr"),
        }
    }
}

/// What is to become of a service's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style<'a> {
    pub to: LogTo,
    pub time: LogTime,
    pub prefix: LogPrefix,
    /// Of lines that say nothing.
    pub priority: Severity,
    pub facility: u8,
    pub file_bytes: u64,
    pub files: u32,
    /// For syslog; empty: the service's name.
    pub tag: &'a str,
}

/// Bytes of a style without its tag.
pub const STYLE: usize = 18;

impl<'a> Style<'a> {
    pub fn of(log: &'a Log) -> Style<'a> {
        Style {
            to: log.to.unwrap_or_default(),
            time: log.time.unwrap_or_default(),
            prefix: log.prefix.unwrap_or_default(),
            priority: log.priority(),
            facility: log.facility(),
            file_bytes: log.file_bytes(),
            files: log.files(),
            tag: log.tag.as_deref().unwrap_or_default(),
        }
    }

    pub fn to_file(&self) -> bool {
        matches!(self.to, LogTo::File | LogTo::Both)
    }

    pub fn to_syslog(&self) -> bool {
        matches!(self.to, LogTo::Syslog | LogTo::Both)
    }

    /// The tag is cut where a byte cannot count it; the readers of keys allow far less.
    pub fn put(&self, out: &mut Vec<u8>) {
        let to = match self.to {
            LogTo::File => 0,
            LogTo::Syslog => 1,
            LogTo::Both => 2,
            LogTo::Memory => 3,
        };
        let time = match self.time {
            LogTime::Iso => 0,
            LogTime::Tai64n => 1,
            LogTime::None => 2,
        };
        let prefix = match self.prefix {
            LogPrefix::None => 0,
            LogPrefix::Name => 1,
            LogPrefix::Stream => 2,
            LogPrefix::Both => 3,
        };
        out.extend_from_slice(&[to, time, prefix, self.priority.0, self.facility]);
        out.extend_from_slice(&self.file_bytes.to_ne_bytes());
        out.extend_from_slice(&self.files.to_ne_bytes());
        let length = u8::try_from(self.tag.len()).unwrap_or(0);
        out.push(length);
        out.extend_from_slice(&self.tag.as_bytes()[..usize::from(length)]);
    }

    pub fn take(bytes: &'a [u8]) -> Option<(Style<'a>, &'a [u8])> {
        let ([to, time, prefix, priority, facility], rest) = bytes.split_first_chunk()?;
        let (file_bytes, rest) = rest.split_first_chunk()?;
        let (files, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first()?;
        let (tag, rest) = rest.split_at_checked(usize::from(*length))?;
        let style = Style {
            to: match to {
                0 => LogTo::File,
                1 => LogTo::Syslog,
                2 => LogTo::Both,
                _ => LogTo::Memory,
            },
            time: match time {
                0 => LogTime::Iso,
                1 => LogTime::Tai64n,
                _ => LogTime::None,
            },
            prefix: match prefix {
                0 => LogPrefix::None,
                1 => LogPrefix::Name,
                2 => LogPrefix::Stream,
                _ => LogPrefix::Both,
            },
            priority: Severity(*priority),
            facility: *facility,
            file_bytes: u64::from_ne_bytes(*file_bytes),
            files: u32::from_ne_bytes(*files),
            tag: std::str::from_utf8(tag).ok()?,
        };
        Some((style, rest))
    }
}

impl Default for Style<'_> {
    fn default() -> Self {
        let nothing = Log::default();
        Style {
            tag: "",
            ..Style::of(&nothing)
        }
    }
}
