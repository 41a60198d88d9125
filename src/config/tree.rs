//! The spanned tree: what TOML and JSON have in common, with the place of everything.
//!
//! Made by `from_toml` and `from_json`, read by `reader`. It knows nothing of definitions.
//! Invariants: the entries of a table stand in the order of the file, no key twice; nesting is
//! bounded by [`MAX_DEPTH`], so that walking and dropping a tree need a bounded stack.

use std::borrow::Cow;

/// Brackets that may stand open, and dots one key may have; the schema needs four.
pub const MAX_DEPTH: usize = 16;

/// A range of bytes in the file's text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// Offsets fit: a definition file is bounded by `limits::MAX_DEFINITION_BYTES`.
    pub fn new(start: usize, end: usize) -> Span {
        Span {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            end: u32::try_from(end).unwrap_or(u32::MAX),
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Node<'a> {
    pub at: Span,
    pub value: Value<'a>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Value<'a> {
    Table(Vec<Entry<'a>>),
    Array(Vec<Node<'a>>),
    String(Cow<'a, str>),
    /// Saturated: what does not fit is out of every key's range anyway.
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// What no key takes: JSON's `null`, TOML's dates and times.
    Other(&'static str),
}

#[derive(Clone, PartialEq, Debug)]
pub struct Entry<'a> {
    pub key: Cow<'a, str>,
    pub key_at: Span,
    pub value: Node<'a>,
}

impl Value<'_> {
    /// The type in words: `a string`.
    pub fn what(&self) -> &'static str {
        match self {
            Value::Table(_) => "a table",
            Value::Array(_) => "an array",
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a fraction",
            Value::Boolean(_) => "a boolean",
            Value::Other(what) => what,
        }
    }
}

/// A place in a text as people count: both from 1, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// Finds lines and columns of byte offsets. Made only when there is something to say.
pub struct Lines<'a> {
    text: &'a [u8],
    /// The offset at which each line begins.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Any bytes: a file that is not UTF-8 has lines, too.
    pub fn new(text: &'a [u8]) -> Lines<'a> {
        let breaks = text.iter().enumerate().filter(|(_, b)| **b == b'\n');
        let starts = std::iter::once(0)
            .chain(breaks.map(|(n, _)| n + 1))
            .collect();
        Lines { text, starts }
    }

    /// The place of the byte at `offset`; offsets past the end are the end.
    pub fn place(&self, offset: u32) -> Place {
        let offset = self.text.len().min(offset as usize);
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self
            .starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or(0);
        // Characters are counted by the bytes that begin one (RFC 3629: 10xxxxxx continues).
        let begins = |b: &&u8| (**b & 0xC0) != 0x80;
        let column = self.text[start..offset].iter().filter(begins).count() + 1;
        Place {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a = 1\nüber = 2\n".as_bytes();
        let lines = Lines::new(text);
        let place = |offset| {
            let p = lines.place(offset);
            (p.line, p.column)
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(4), (1, 5));
        assert_eq!(place(6), (2, 1));
        // "ü" is two bytes and one character.
        assert_eq!(place(8), (2, 2));
        assert_eq!(place(9999), (3, 1));
    }
}
