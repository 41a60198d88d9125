//! TOML text to the spanned tree, by the `toml` crate's parser without its serde part.
//!
//! Invariant: whatever the bytes are, the stack stays bounded. The crate bounds brackets (80) and
//! the parts of a dotted key (80), but not their product, and drops its tables recursively: twelve
//! kilobytes of text can nest 6,000 tables and take more than 4 MB of stack. Therefore
//! [`too_deep`] looks at the text first.

use crate::config::problem::Problems;
use crate::config::tree::{Entry, MAX_DEPTH, Node, Span, Value};
use toml::de::{DeTable, DeValue};

/// The document's table; None after a syntax error, all of which are then in `problems`.
pub fn parse<'a>(text: &'a str, problems: &mut Problems) -> Option<Node<'a>> {
    if let Some(at) = too_deep(text) {
        problems.error(
            Span::new(at, at),
            format!("nested deeper than {MAX_DEPTH} levels: no key needs that"),
        );
        return None;
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        problems.error(Span::new(span.start, span.end), syntax(error.message()));
    }
    errors.is_empty().then(|| Node {
        at: Span::default(),
        value: table(root.into_inner()),
    })
}

fn syntax(message: &str) -> String {
    let hint = match message {
        "duplicate key" => "a key may be given once: remove one of the two",
        _ => "see https://toml.io for the syntax; strings stand in quotes",
    };
    format!("TOML syntax: {message}; {hint}")
}

/// The offset at which brackets, or the dots of one key, go over [`MAX_DEPTH`]. Strings and
/// comments are skipped the way TOML's lexer ends them.
fn too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut brackets, mut dots) = (0usize, 0usize);
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'"' | b'\'' => {
                i = string_end(bytes, i);
                continue;
            }
            b'#' => {
                i = line_end(bytes, i);
                continue;
            }
            b'[' | b'{' => {
                brackets += 1;
                dots = 0;
            }
            b']' | b'}' => brackets = brackets.saturating_sub(1),
            b'.' => dots += 1,
            b'=' | b',' | b'\n' => dots = 0,
            _ => {}
        }
        if brackets.max(dots) > MAX_DEPTH {
            return Some(i);
        }
        i += 1;
    }
    None
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes[from..].iter().position(|b| *b == b'\n');
    rest.map_or(bytes.len(), |n| from + n)
}

/// The offset behind the string whose opening quote stands at `from`.
fn string_end(bytes: &[u8], from: usize) -> usize {
    let quote = bytes[from];
    let triple = bytes[from..].starts_with(&[quote; 3]);
    let mut i = from + if triple { 3 } else { 1 };
    while i < bytes.len() {
        match bytes[i] {
            b'\\' if quote == b'"' => i += 1,
            // Without its closing quote a one-line string ends with its line.
            b'\n' if !triple => return i,
            b if b == quote && !triple => return i + 1,
            b if b == quote && bytes[i..].starts_with(&[quote; 3]) => return i + 3,
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

fn table<'a>(from: DeTable<'a>) -> Value<'a> {
    let mut entries: Vec<Entry<'a>> = from
        .into_iter()
        .map(|(key, value)| {
            let (key_at, at) = (key.span(), value.span());
            Entry {
                key: key.into_inner(),
                key_at: Span::new(key_at.start, key_at.end),
                value: Node {
                    at: Span::new(at.start, at.end),
                    value: node(value.into_inner()),
                },
            }
        })
        .collect();
    // The crate keeps tables sorted by key; people expect the order of their file.
    entries.sort_by_key(|e| e.key_at.start);
    Value::Table(entries)
}

fn node(from: DeValue<'_>) -> Value<'_> {
    match from {
        DeValue::String(text) => Value::String(text),
        DeValue::Integer(digits) => Value::Integer(
            i64::from_str_radix(digits.as_str(), digits.radix())
                .unwrap_or_else(|_| saturated(digits.as_str())),
        ),
        DeValue::Float(digits) => match digits.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::Other("a number that cannot be read"),
        },
        DeValue::Boolean(yes) => Value::Boolean(yes),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| {
                    let at = item.span();
                    Node {
                        at: Span::new(at.start, at.end),
                        value: node(item.into_inner()),
                    }
                })
                .collect(),
        ),
        DeValue::Table(entries) => table(entries),
    }
}

fn saturated(digits: &str) -> i64 {
    if digits.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    }
}
