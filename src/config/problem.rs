//! What is wrong with a definition: where, what, and what to write instead.
//!
//! Problems are collected, never thrown: a reader that meets one goes on with the key's default,
//! so that one look at the output is enough to mend a file. Invariant: at most
//! [`limits::MAX_PROBLEMS`] are kept for one file; how many more there were is said.

use crate::config::tree::{Lines, Span};
use crate::limits;
use std::fmt::{self, Write};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// The definition cannot be used.
    Error,
    /// It can, but it will hardly do what its author wants.
    Warning,
}

/// One thing that is wrong in one place of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub file: Box<str>,
    /// From 1; 0 when it concerns the file as a whole.
    pub line: u32,
    /// In characters, from 1; 0 when it concerns the file as a whole.
    pub column: u32,
    pub severity: Severity,
    pub message: Box<str>,
}

impl Problem {
    /// A problem of the file as a whole: unreadable, a bad name, twice there.
    pub fn of_file(file: &str, message: impl Into<Box<str>>) -> Problem {
        Problem {
            file: file.into(),
            line: 0,
            column: 0,
            severity: Severity::Error,
            message: message.into(),
        }
    }

    /// As [`of_file`](Problem::of_file), but it can be lived with.
    pub fn warning_of_file(file: &str, message: impl Into<Box<str>>) -> Problem {
        Problem {
            severity: Severity::Warning,
            ..Problem::of_file(file, message)
        }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Problem {
    /// Without its severity, for where that is said otherwise.
    pub fn place_and_message(&self) -> String {
        let as_error = Problem {
            severity: Severity::Error,
            ..self.clone()
        };
        as_error.to_string()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        visible(f, &self.file)?;
        match self.line {
            0 => f.write_str(": ")?,
            line => write!(f, ":{line}:{}: ", self.column)?,
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        visible(f, &self.message)
    }
}

/// A file's name may hold anything but a slash, a message quotes what stands in the file; this is
/// a line of its own and goes to terminals.
fn visible(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.chars()
        .try_for_each(|letter| match letter.is_control() {
            true => write!(f, "{}", letter.escape_debug()),
            false => f.write_char(letter),
        })
}

/// How values are written in the file at hand, so that advice can be copied as it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Syntax {
    Toml,
    Json,
}

/// The problems found so far in one file, by byte offset.
pub struct Problems {
    pub syntax: Syntax,
    found: Vec<(Span, Severity, Box<str>)>,
    dropped: usize,
    errors: usize,
}

impl Problems {
    pub fn new(syntax: Syntax) -> Problems {
        Problems {
            syntax,
            found: Vec::new(),
            dropped: 0,
            errors: 0,
        }
    }

    pub fn error(&mut self, at: Span, message: impl Into<Box<str>>) {
        self.errors += 1;
        self.push(at, Severity::Error, message.into());
    }

    pub fn warn(&mut self, at: Span, message: impl Into<Box<str>>) {
        self.push(at, Severity::Warning, message.into());
    }

    fn push(&mut self, at: Span, severity: Severity, message: Box<str>) {
        if self.found.len() < limits::MAX_PROBLEMS {
            self.found.push((at, severity, message));
        } else {
            self.dropped += 1;
        }
    }

    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// Nothing more is kept: what costs work to word can be left empty.
    pub fn is_full(&self) -> bool {
        self.found.len() >= limits::MAX_PROBLEMS
    }

    /// `key = value` as this file would write it; `value` is the same in TOML and JSON.
    pub fn assign(&self, key: &str, value: &str) -> String {
        match self.syntax {
            Syntax::Toml => format!("`{key} = {value}`"),
            Syntax::Json => format!("`\"{key}\": {value}`"),
        }
    }

    /// All problems in the order of the file, with their lines.
    pub fn finish(mut self, file: &str, lines: &Lines<'_>) -> Vec<Problem> {
        self.found
            .sort_by_key(|(at, severity, _)| (at.start, *severity));
        let mut problems: Vec<Problem> = self
            .found
            .into_iter()
            .map(|(at, severity, message)| {
                let place = lines.place(at.start);
                Problem {
                    file: file.into(),
                    line: place.line,
                    column: place.column,
                    severity,
                    message,
                }
            })
            .collect();
        if self.dropped > 0 {
            problems.push(Problem::of_file(
                file,
                format!(
                    "{} more problems are not shown: mend these first",
                    self.dropped
                ),
            ));
        }
        problems
    }
}
