//! JSON-RPC 2.0 (<https://www.jsonrpc.org/specification>): messages read, answers framed.
//!
//! It knows no verb. Invariants: an id is echoed byte for byte as it was given, of whatever kind
//! and size; what has no id is a notification and gets no answer, not even an error; what is no
//! request at all is answered with an id of null, unless a usable id can be seen in it.

use super::values::quoted;
use crate::limits::MAX_JSON_DEPTH;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

pub use crate::engine::code;

/// The id of an error whose request shows none.
pub const NULL_ID: &str = "null";

/// One line, read.
#[derive(Debug)]
pub enum Message<'a> {
    One(Item<'a>),
    /// Never empty.
    Batch(Vec<Item<'a>>),
}

/// One request of a line.
#[derive(Debug)]
pub enum Item<'a> {
    Call {
        method: Cow<'a, str>,
        /// An object or an array.
        params: Option<&'a RawValue>,
        /// None: a notification.
        id: Option<&'a str>,
    },
    /// No request: an error is its answer.
    Broken {
        id: &'a str,
        code: i32,
        message: String,
    },
}

/// Reads one line. Whatever it is, something comes of it.
pub fn read(line: &str) -> Message<'_> {
    if deeper_than(line, MAX_JSON_DEPTH) {
        let why = format!("nested deeper than {MAX_JSON_DEPTH}");
        return Message::One(broken(NULL_ID, code::PARSE, &why));
    }
    if !line.trim_start().starts_with('[') {
        return Message::One(match serde_json::from_slice::<&RawValue>(line.as_bytes()) {
            Ok(raw) => item(raw),
            Err(error) => broken(NULL_ID, code::PARSE, &error.to_string()),
        });
    }
    match serde_json::from_slice::<Vec<&RawValue>>(line.as_bytes()) {
        Ok(all) if all.is_empty() => {
            Message::One(broken(NULL_ID, code::INVALID_REQUEST, "empty batch"))
        }
        Ok(all) => Message::Batch(all.into_iter().map(item).collect()),
        Err(error) => Message::One(broken(NULL_ID, code::PARSE, &error.to_string())),
    }
}

fn broken<'a>(id: &'a str, code: i32, why: &str) -> Item<'a> {
    let name = if code == code::PARSE {
        "Parse error"
    } else {
        "Invalid Request"
    };
    let message = format!("{name}: {why}");
    Item::Broken { id, code, message }
}

fn item(raw: &RawValue) -> Item<'_> {
    let invalid = |id, why: &str| broken(id, code::INVALID_REQUEST, why);
    let text = raw.get();
    if !text.starts_with('{') {
        return invalid(NULL_ID, "a request is an object");
    }
    let members: Members<'_> = match serde_json::from_slice(text.as_bytes()) {
        Ok(members) => members,
        Err(error) => return invalid(NULL_ID, &error.to_string()),
    };
    let id = members.id.map(RawValue::get);
    let usable = |id: &str| id == NULL_ID || !id.starts_with(['{', '[', 't', 'f', 'n']);
    if id.is_some_and(|id| !usable(id)) {
        return invalid(NULL_ID, "id must be a string, a number or null");
    }
    let shown = id.unwrap_or(NULL_ID);
    if string(members.jsonrpc).is_none_or(|version| version != "2.0") {
        return invalid(shown, "jsonrpc must be \"2.0\"");
    }
    let Some(method) = string(members.method) else {
        return invalid(shown, "method must be a string");
    };
    let params = members.params;
    if params.is_some_and(|params| !params.get().starts_with(['{', '['])) {
        return invalid(shown, "params must be an object or an array");
    }
    Item::Call { method, params, id }
}

fn string(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    let text = raw?.get();
    // Nearly always without an escape: then nothing is copied.
    match text.strip_prefix('"')?.strip_suffix('"')? {
        plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_slice::<String>(text.as_bytes())
            .ok()
            .map(Cow::Owned),
    }
}

/// The members that JSON-RPC names. Others are left alone; of two with one name the last counts,
/// as in most JSON readers (RFC 8259 section 4 leaves it open).
#[derive(Default)]
struct Members<'a> {
    jsonrpc: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'a>, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a request object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Members::default();
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let raw = Some(map.next_value::<&'de RawValue>()?);
                    match &*key {
                        "jsonrpc" => members.jsonrpc = raw,
                        "method" => members.method = raw,
                        "params" => members.params = raw,
                        "id" => members.id = raw,
                        _ => {}
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Is this JSON nested deeper than `most`? Text that is no JSON may be judged either way.
fn deeper_than(line: &str, most: usize) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for byte in line.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// What stands before a result; the result and [`close`] follow.
pub const RESULT: &[u8] = b"{\"jsonrpc\":\"2.0\",\"result\":";

/// What stands after a result.
pub fn close(id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"id\":");
    out.extend_from_slice(id.as_bytes());
    out.push(b'}');
}

/// A whole error answer.
pub fn put_error(id: &str, code: i32, message: &str, out: &mut Vec<u8>) {
    put_error_with(id, code, message, b"", out);
}

/// With `,"data":…` behind the message, or nothing.
pub fn put_error_with(id: &str, code: i32, message: &str, data: &[u8], out: &mut Vec<u8>) {
    let error = format!(
        "{{\"jsonrpc\":\"2.0\",\"error\":{{\"code\":{code},\"message\":{}",
        quoted(message)
    );
    out.extend_from_slice(error.as_bytes());
    out.extend_from_slice(data);
    out.push(b'}');
    close(id, out);
}

/// A notification of ours, its params already JSON.
pub fn put_notification(method: &str, params: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"method\":\"");
    out.extend_from_slice(method.as_bytes());
    out.extend_from_slice(b"\",\"params\":");
    out.extend_from_slice(params);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Item<'_> {
        match read(line) {
            Message::One(item) => item,
            Message::Batch(_) => panic!("{line} is no batch"),
        }
    }

    fn refusal(line: &str) -> (i32, String) {
        match one(line) {
            Item::Broken { id, code, .. } => (code, id.to_owned()),
            Item::Call { .. } => panic!("{line} was taken"),
        }
    }

    #[test]
    fn ids_of_every_kind_are_kept_as_they_were_written() {
        for id in [
            "1",
            "-0",
            "1.50",
            "1e3",
            "123456789012345678901234567890",
            "\"a\\u0062\\\"\"",
            "null",
            "\"\"",
        ] {
            let line = format!(r#"{{"jsonrpc":"2.0","method":"x","id": {id} }}"#);
            assert!(matches!(one(&line), Item::Call { id: Some(seen), .. } if seen == id));
        }
        for id in ["true", "false", "{}", "[]", "[1]"] {
            let line = format!(r#"{{"jsonrpc":"2.0","method":"x","id":{id}}}"#);
            assert_eq!(refusal(&line), (code::INVALID_REQUEST, "null".to_owned()));
        }
    }

    #[test]
    fn a_missing_id_is_a_notification_and_null_is_an_id() {
        let no_id = one(r#"{"jsonrpc":"2.0","method":"x"}"#);
        assert!(matches!(no_id, Item::Call { id: None, .. }));
        let null = one(r#"{"jsonrpc":"2.0","method":"x","id":null}"#);
        assert!(matches!(
            null,
            Item::Call {
                id: Some("null"),
                ..
            }
        ));
    }

    #[test]
    fn a_broken_request_whose_id_can_be_seen_gets_it_back() {
        for line in [
            r#"{"jsonrpc":"2.0","id":7}"#,
            r#"{"jsonrpc":"1.0","method":"x","id":7}"#,
            r#"{"method":"x","id":7}"#,
            r#"{"jsonrpc":"2.0","method":"x","params":"bar","id":7}"#,
            r#"{"jsonrpc":"2.0","method":"x","params":null,"id":7}"#,
        ] {
            assert_eq!(
                refusal(line),
                (code::INVALID_REQUEST, "7".to_owned()),
                "{line}"
            );
        }
    }

    #[test]
    fn escapes_in_names_and_methods_are_read() {
        let item = one(r#"{"jsonrpc":"2.0","\u006dethod":"system\u002eping","id":1}"#);
        assert!(matches!(item, Item::Call { method, .. } if method == "system.ping"));
    }

    #[test]
    fn nesting_is_bounded_outside_of_strings_only() {
        let nest = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(!deeper_than(&nest(MAX_JSON_DEPTH), MAX_JSON_DEPTH));
        assert!(deeper_than(&nest(MAX_JSON_DEPTH + 1), MAX_JSON_DEPTH));
        assert!(!deeper_than(
            &format!("\"\\\"{}\"", nest(100)),
            MAX_JSON_DEPTH
        ));
        assert_eq!(refusal(&nest(60_000)), (code::PARSE, "null".to_owned()));
    }

    #[test]
    fn text_after_a_message_is_a_parse_error() {
        assert_eq!(refusal(r#"{"jsonrpc":"2.0"} x"#).0, code::PARSE);
        assert_eq!(refusal(r#"[1] []"#).0, code::PARSE);
    }
}
