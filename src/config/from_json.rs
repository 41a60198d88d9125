//! JSON text to the spanned tree, by `serde_json`.
//!
//! Every value is first taken as borrowed raw text: where that text lies in the source is its
//! span. Invariants: a key given twice is an error (RFC 8259 leaves it open); nesting is bounded
//! by [`MAX_DEPTH`].

use crate::config::problem::Problems;
use crate::config::tree::{Entry, MAX_DEPTH, Node, Span, Value};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The document's value; None after an error that leaves nothing to read.
pub fn parse<'a>(text: &'a str, problems: &mut Problems) -> Option<Node<'a>> {
    match serde_json::from_slice::<&RawValue>(text.as_bytes()) {
        Ok(raw) => {
            let mut reader = Reader { text, problems };
            reader.node(raw.get(), 0)
        }
        Err(error) => {
            let at = offset(text, error.line(), error.column());
            problems.error(Span::new(at, at), message(&error));
            None
        }
    }
}

/// serde_json's words without the position at their end, which is ours to give.
fn message(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or(&words);
    let words = words
        .replace("EOF", "the text ends")
        .replace("expected ident", "expected true, false or null");
    format!("JSON syntax: {words}; see https://www.json.org for the syntax")
}

/// serde_json counts lines from 1 and, within a line, the bytes it has read.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let start = match line {
        0 | 1 => 0,
        _ => text
            .match_indices('\n')
            .nth(line - 2)
            .map_or(text.len(), |(n, _)| n + 1),
    };
    (start + column.saturating_sub(1)).min(text.len())
}

struct Reader<'a, 'p> {
    text: &'a str,
    problems: &'p mut Problems,
}

impl<'a> Reader<'a, '_> {
    /// Where a piece of the source lies in it.
    fn span(&self, piece: &str) -> Span {
        let start = (piece.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        Span::new(start, start + piece.len())
    }

    fn node(&mut self, raw: &'a str, depth: usize) -> Option<Node<'a>> {
        let at = self.span(raw);
        if depth > MAX_DEPTH {
            let words = format!("nested deeper than {MAX_DEPTH} levels: no key needs that");
            self.problems.error(at, words);
            return None;
        }
        let value = match raw.as_bytes().first() {
            Some(b'{') => self.table(raw, depth)?,
            Some(b'[') => self.array(raw, depth)?,
            Some(b'"') => Value::String(self.string(raw)?),
            Some(b't') => Value::Boolean(true),
            Some(b'f') => Value::Boolean(false),
            Some(b'n') => Value::Other("null"),
            _ => number(raw),
        };
        Some(Node { at, value })
    }

    fn table(&mut self, raw: &'a str, depth: usize) -> Option<Value<'a>> {
        let pairs = self.took(raw, serde_json::from_slice::<Pairs<'a>>(raw.as_bytes()))?;
        let mut entries: Vec<Entry<'a>> = Vec::with_capacity(pairs.0.len());
        let mut whole = true;
        for (raw_key, raw_value) in pairs.0 {
            let key_at = self.span(raw_key);
            let (Some(key), Some(value)) = (self.string(raw_key), self.node(raw_value, depth + 1))
            else {
                whole = false;
                continue;
            };
            entries.push(Entry { key, key_at, value });
        }
        self.refuse_duplicates(&mut entries);
        whole.then_some(Value::Table(entries))
    }

    /// Of equal keys the first stays, the others are errors.
    fn refuse_duplicates(&mut self, entries: &mut Vec<Entry<'a>>) {
        // The sort is stable, so that equal keys stay in the order of the file.
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries.dedup_by(|later, kept| {
            let same = later.key == kept.key;
            if same {
                let words = format!("`{}` is given twice: remove one of the two", later.key);
                self.problems.error(later.key_at, words);
            }
            same
        });
        entries.sort_by_key(|e| e.key_at.start);
    }

    fn array(&mut self, raw: &'a str, depth: usize) -> Option<Value<'a>> {
        let items = self.took(
            raw,
            serde_json::from_slice::<Vec<&'a RawValue>>(raw.as_bytes()),
        )?;
        let nodes: Vec<Option<Node<'a>>> = items
            .into_iter()
            .map(|item| self.node(item.get(), depth + 1))
            .collect();
        nodes
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .map(Value::Array)
    }

    fn string(&mut self, raw: &'a str) -> Option<Cow<'a, str>> {
        if !raw.contains('\\') {
            // Already checked when it was taken as raw text: no control characters, both quotes.
            return Some(Cow::Borrowed(
                raw.get(1..raw.len().saturating_sub(1)).unwrap_or(""),
            ));
        }
        self.took(raw, serde_json::from_slice::<String>(raw.as_bytes()))
            .map(Cow::Owned)
    }

    fn took<T>(&mut self, raw: &str, result: serde_json::Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                let at = self.span(raw);
                self.problems.error(at, message(&error));
            })
            .ok()
    }
}

fn number(raw: &str) -> Value<'_> {
    if raw.contains(['.', 'e', 'E']) {
        return match raw.parse::<f64>() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::Other("a number that cannot be read"),
        };
    }
    Value::Integer(raw.parse().unwrap_or(if raw.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    }))
}

/// An object's members as raw text, in their order, duplicates kept.
struct Pairs<'a>(Vec<(&'a str, &'a str)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    pairs.push((key.get(), value.get()));
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Members)
    }
}
