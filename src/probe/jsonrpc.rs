//! `jsonrpc`: a call (JSON-RPC 2.0), its result compared with what is expected.
//!
//! Over a stream one line; over HTTP the body of a POST. Notifications that come before the answer
//! are passed over. An error is a failure in the server's words, with its code.

use crate::config::JsonRpc;
use crate::probe::session::{Said, said, syntax};
use crate::probe::{Outcome, Reason};
use serde_json::Value;

/// By what the answer is known.
const ID: &str = "vitald";

pub fn request(rpc: &JsonRpc) -> Vec<u8> {
    let mut line = format!(
        r#"{{"jsonrpc":"2.0","id":"{ID}","method":{}"#,
        Value::from(&*rpc.call)
    );
    if let Some(params) = &rpc.params {
        line.push_str(r#","params":"#);
        // A line's end within would end the message.
        line.extend(
            params
                .chars()
                .map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }),
        );
    }
    line.push_str("}\n");
    line.into_bytes()
}

pub fn judge(rpc: &JsonRpc, seen: &[u8]) -> Said {
    let mut values = serde_json::Deserializer::from_slice(seen).into_iter::<Value>();
    loop {
        // By its first byte: what begins as a number may go on as something else.
        let mut rest = seen[values.byte_offset()..].iter();
        if *rest.find(|b| !b.is_ascii_whitespace())? != b'{' {
            return Some(syntax("no JSON object"));
        }
        let value = match values.next()? {
            Ok(value) => value,
            Err(error) if error.is_eof() => return None,
            Err(error) => {
                // Without the place, which goes by how much was there when it was seen.
                let words = error.to_string();
                let words = words.split(" at line ").next().unwrap_or_default();
                return Some(syntax(&format!("no JSON: {words}")));
            }
        };
        let Value::Object(answer) = value else {
            return Some(syntax("no JSON object"));
        };
        let error = answer.get("error").filter(|error| !error.is_null());
        let id = answer.get("id").unwrap_or(&Value::Null);
        match (id, error, answer.get("result")) {
            (Value::Null, None, _) if answer.contains_key("method") => {}
            (Value::Null, Some(error), _) => return Some(refused(error)),
            (id, ..) if *id != ID => return Some(syntax("an answer to somebody else's call")),
            (_, Some(error), _) => return Some(refused(error)),
            (_, None, None) => return Some(syntax("neither a result nor an error")),
            (_, None, Some(result)) => return Some(compared(rpc, result)),
        }
    }
}

fn refused(error: &Value) -> Outcome {
    let message = error.get("message").and_then(Value::as_str);
    match (error.get("code"), message) {
        (Some(code), Some(message)) => said(format!("error {code}: {message}").as_bytes()),
        _ => said(format!("error {error}").as_bytes()),
    }
}

fn compared(rpc: &JsonRpc, result: &Value) -> Outcome {
    let expected = rpc.expect_result.as_deref();
    let expected = expected.and_then(|text| serde_json::from_str::<Value>(text).ok());
    match expected {
        Some(expected) if !holds(result, &expected) => Outcome::Fail(Reason::Mismatch),
        Some(_) | None => Outcome::Pass,
    }
}

/// Equal; an object may have more members than are expected.
fn holds(result: &Value, expected: &Value) -> bool {
    match (result, expected) {
        (Value::Object(result), Value::Object(expected)) => expected
            .iter()
            .all(|(key, value)| result.get(key).is_some_and(|found| holds(found, value))),
        _ => result == expected,
    }
}
