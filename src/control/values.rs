//! The arguments of one call, whatever tongue they came in: JSON by name or by position, or words.
//!
//! Pure. Invariant: a [`Values`] has one place for each argument of its verb, each empty or of
//! the argument's kind, and none that is required is empty. Whether a service of that name exists
//! is not asked here.

use super::verbs::{Arg, Kind, Verb};
use crate::exit::Signal;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Text(Box<str>),
    /// Counts, and durations in milliseconds.
    Number(u64),
    Flag(bool),
    List(Vec<Box<str>>),
}

/// What is wrong with a call's arguments, in words; the caller adds the tongue's frame.
pub type Complaint = String;

#[derive(Clone)]
pub struct Values {
    verb: &'static Verb,
    given: Vec<Option<Value>>,
}

impl Values {
    pub fn none(verb: &'static Verb) -> Values {
        let given = verb.args.iter().map(|_| None).collect();
        Values { verb, given }
    }

    /// From JSON-RPC's `params`: an object, an array, or left out.
    pub fn from_json(verb: &'static Verb, params: Option<&RawValue>) -> Result<Values, Complaint> {
        let mut values = Values::none(verb);
        let text = params.map_or("", RawValue::get);
        if text.starts_with('[') {
            let given: Vec<&RawValue> =
                serde_json::from_slice(text.as_bytes()).map_err(|e| e.to_string())?;
            if given.len() > verb.args.len() {
                let (most, is) = (verb.args.len(), given.len());
                return Err(format!(
                    "{} takes at most {most} params, not {is}",
                    verb.method
                ));
            }
            for (at, raw) in given.into_iter().enumerate() {
                values.given[at] = from_json(&verb.args[at], raw)?;
            }
        } else if text.starts_with('{') {
            let given: BTreeMap<Cow<'_, str>, &RawValue> =
                serde_json::from_slice(text.as_bytes()).map_err(|e| e.to_string())?;
            for (name, raw) in given {
                let at = verb.args.iter().position(|arg| arg.name == name);
                let Some(at) = at else {
                    return Err(unknown_param(verb, &name));
                };
                values.given[at] = from_json(&verb.args[at], raw)?;
            }
        }
        values.complete()
    }

    /// Puts a word where an argument stands; a list takes it in addition.
    pub fn put_word(&mut self, at: usize, word: &str) -> Result<(), Complaint> {
        let value = from_word(&self.verb.args[at], &self.verb.args[at].shown(), word)?;
        match (&mut self.given[at], value) {
            (Some(Value::List(list)), Value::List(more)) => list.extend(more),
            (place, value) => *place = Some(value),
        }
        Ok(())
    }

    /// Puts a text in the place of an argument of this name.
    pub fn put_text(&mut self, name: &str, text: &str) -> Result<(), Complaint> {
        match self.verb.args.iter().position(|arg| arg.name == name) {
            Some(at) => self.put_word(at, text),
            None => Err(unknown_param(self.verb, name)),
        }
    }

    /// Puts a number in the place of an argument of this name, if there is one.
    pub fn put_number(&mut self, name: &str, number: u64) {
        if let Some(at) = self.verb.args.iter().position(|arg| arg.name == name) {
            self.given[at] = Some(Value::Number(number));
        }
    }

    pub fn put_flag(&mut self, at: usize) {
        self.given[at] = Some(Value::Flag(true));
    }

    pub fn is_given(&self, at: usize) -> bool {
        self.given[at].is_some()
    }

    /// All there is; nothing required may be missing.
    pub fn complete(self) -> Result<Values, Complaint> {
        for (arg, value) in self.verb.args.iter().zip(&self.given) {
            if arg.required && value.is_none() {
                let (words, name) = (self.verb.words, arg.shown());
                return Err(format!("{words} needs `{name}`: {}", arg.doc));
            }
        }
        Ok(self)
    }

    pub fn verb(&self) -> &'static Verb {
        self.verb
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let at = self.verb.args.iter().position(|arg| arg.name == name)?;
        self.given[at].as_ref()
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub fn flag(&self, name: &str) -> bool {
        self.get(name) == Some(&Value::Flag(true))
    }

    pub fn list(&self, name: &str) -> &[Box<str>] {
        match self.get(name) {
            Some(Value::List(list)) => list,
            _ => &[],
        }
    }

    /// As JSON-RPC `params` by name, for who sends a call instead of serving it.
    pub fn to_json(&self) -> String {
        let mut out = String::from("{");
        for (arg, value) in self.verb.args.iter().zip(&self.given) {
            let text = match value {
                None => continue,
                Some(Value::Text(text)) => quoted(text),
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::Flag(flag)) => flag.to_string(),
                Some(Value::List(list)) => {
                    let items: Vec<String> = list.iter().map(|item| quoted(item)).collect();
                    format!("[{}]", items.join(","))
                }
            };
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(&format!("{}:{text}", quoted(arg.name)));
        }
        out.push('}');
        out
    }
}

/// A string as JSON.
pub fn quoted(text: &str) -> String {
    // A string cannot fail to serialise.
    serde_json::to_string(text).unwrap_or_default()
}

fn unknown_param(verb: &Verb, name: &str) -> Complaint {
    let known: Vec<&str> = verb.args.iter().map(|arg| arg.name).collect();
    let shown: String = name.chars().take(64).collect();
    match known.as_slice() {
        [] => format!("{} takes no params, not `{shown}`", verb.method),
        known => format!(
            "{} has no param `{shown}`; it takes {}",
            verb.method,
            known.join(", ")
        ),
    }
}

/// What JSON calls a value that begins so.
fn json_kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The same; a number as it is written.
fn json_shown(raw: &RawValue) -> String {
    match json_kind(raw) {
        "a number" => raw.get().chars().take(64).collect(),
        kind => kind.to_owned(),
    }
}

/// null is "not given".
fn from_json(arg: &Arg, raw: &RawValue) -> Result<Option<Value>, Complaint> {
    let text = raw.get();
    if text == "null" {
        return Ok(None);
    }
    let meant = |what: &str| format!("`{}` must be {what}, not {}", arg.name, json_kind(raw));
    let word = || serde_json::from_slice::<String>(text.as_bytes()).ok();
    let number = || serde_json::from_slice::<u64>(text.as_bytes()).ok();
    let value = match arg.kind {
        Kind::Flag => match text {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            _ => return Err(meant("true or false")),
        },
        Kind::Count => Value::Number(number().ok_or_else(|| {
            let (name, shown) = (arg.name, json_shown(raw));
            format!("`{name}` must be a whole number, not {shown}")
        })?),
        Kind::Duration => match (number(), word()) {
            (Some(0), _) => return Err(format!("`{}` must be more than 0", arg.name)),
            (Some(ms), _) => Value::Number(ms),
            (_, Some(word)) => from_word(arg, arg.name, &word)?,
            _ => return Err(meant("milliseconds or a string like \"10m\"")),
        },
        Kind::Signal => match (number(), word()) {
            (Some(number), _) => from_word(arg, arg.name, &number.to_string())?,
            (_, Some(word)) => from_word(arg, arg.name, &word)?,
            _ => return Err(meant("a signal's name or number")),
        },
        Kind::Services if text.starts_with('"') => {
            from_word(arg, arg.name, &word().ok_or_else(|| meant("a name"))?)?
        }
        Kind::Services | Kind::Texts | Kind::OneOf(_) => {
            let words: Vec<String> = serde_json::from_slice(text.as_bytes())
                .map_err(|_| meant("an array of strings"))?;
            let mut list = Vec::with_capacity(words.len());
            for word in words {
                if let Value::List(one) = from_word(arg, arg.name, &word)? {
                    list.extend(one);
                }
            }
            Value::List(list)
        }
        Kind::Service | Kind::NewService | Kind::Probe | Kind::Path | Kind::Text => {
            from_word(arg, arg.name, &word().ok_or_else(|| meant("a string"))?)?
        }
        // An object is kept as it was written.
        Kind::Definition if text.starts_with('{') => from_word(arg, arg.name, text)?,
        Kind::Definition => {
            let word = word().ok_or_else(|| meant("an object, or a string of TOML or JSON"))?;
            from_word(arg, arg.name, &word)?
        }
    };
    Ok(Some(value))
}

/// `name` is what the argument is called where the word came from.
fn from_word(arg: &Arg, name: &str, word: &str) -> Result<Value, Complaint> {
    let shown: String = word.chars().take(64).collect();
    match arg.kind {
        Kind::Service | Kind::NewService | Kind::Services | Kind::Probe | Kind::Definition
            if word.is_empty() =>
        {
            Err(format!("`{}` is empty", name))
        }
        Kind::Service | Kind::NewService | Kind::Probe | Kind::Text | Kind::Definition => {
            Ok(Value::Text(word.into()))
        }
        Kind::Path if !word.starts_with('/') => Err(format!(
            "`{}` must be an absolute path, not `{shown}`",
            name
        )),
        Kind::Path => Ok(Value::Text(word.into())),
        Kind::Services | Kind::Texts => Ok(Value::List(vec![word.into()])),
        // Which signal it is, is asked by the call: it has its own error code.
        Kind::Signal => Ok(Value::Text(
            Signal::parse(word).map_or(shown.into(), |signal| signal.to_string().into()),
        )),
        Kind::Count => match word.parse() {
            Ok(number) => Ok(Value::Number(number)),
            Err(_) => Err(format!("`{}` must be a whole number, not `{shown}`", name)),
        },
        Kind::Duration => match humantime::parse_duration(word) {
            Ok(length) if length >= Duration::from_millis(1) => {
                Ok(Value::Number(crate::time::millis(length)))
            }
            _ => Err(format!(
                "`{}` must be a duration like 90s, 10m or 1h30m, not `{shown}`",
                name
            )),
        },
        Kind::OneOf(known) if !known.contains(&word) => Err(format!(
            "`{}` must be one of {}, not `{shown}`",
            name,
            known.join(", ")
        )),
        Kind::OneOf(_) => Ok(Value::List(vec![word.into()])),
        Kind::Flag => Err(format!("`{}` takes no value", name)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::verbs::by_method;
    use super::*;

    fn read(method: &str, params: &str) -> Result<String, String> {
        let raw: Box<RawValue> = serde_json::from_str(params).unwrap();
        Values::from_json(by_method(method).unwrap(), Some(&raw)).map(|v| v.to_json())
    }

    #[test]
    fn names_and_positions_say_the_same() {
        let by_name = read(
            "logs.tail",
            r#"{"follow": true, "name": "web", "lines": 5}"#,
        );
        let by_place = read("logs.tail", r#"["web", 5, true]"#);
        assert_eq!(by_name, by_place);
        assert_eq!(
            by_name.unwrap(),
            r#"{"name":["web"],"lines":5,"follow":true}"#
        );
    }

    #[test]
    fn null_and_a_missing_param_are_the_same() {
        assert_eq!(
            read("logs.tail", r#"["web", null]"#).unwrap(),
            r#"{"name":["web"]}"#
        );
        assert!(
            read("service.stop", "[null]")
                .unwrap_err()
                .contains("needs `name`")
        );
        assert!(
            read("service.stop", "{}")
                .unwrap_err()
                .contains("needs `name`")
        );
    }

    #[test]
    fn a_complaint_names_the_param_and_what_it_takes() {
        let say = |method, params| read(method, params).unwrap_err();
        assert_eq!(
            say("logs.tail", r#"{"name": "web", "lines": "x"}"#),
            "`lines` must be a whole number, not a string"
        );
        assert_eq!(
            say("logs.tail", r#"{"name": "web", "lines": -1}"#),
            "`lines` must be a whole number, not -1"
        );
        assert_eq!(
            say("service.stop", r#"{"name": 7}"#),
            "`name` must be a string, not a number"
        );
        assert_eq!(
            say("service.stop", r#"{"nam": "web"}"#),
            "service.stop has no param `nam`; it takes name, until_boot, wait"
        );
        assert_eq!(
            say("system.ping", "[1]"),
            "system.ping takes at most 0 params, not 1"
        );
        assert_eq!(
            say("events.subscribe", r#"{"kinds": ["weather"]}"#),
            "`kinds` must be one of state, health, wanted, probe, definition, host, dossier, storm, decision, hold, reload, not `weather`"
        );
        assert_eq!(say("service.stop", r#"[""]"#), "`name` is empty");
    }

    #[test]
    fn durations_are_milliseconds_or_words() {
        assert_eq!(
            read("system.hold", r#"["10m"]"#).unwrap(),
            r#"{"for_ms":600000}"#
        );
        assert_eq!(read("system.hold", "[1500]").unwrap(), r#"{"for_ms":1500}"#);
        assert!(read("system.hold", r#"["10"]"#).is_err());
        assert!(read("system.hold", "[-1]").is_err());
        assert!(read("system.hold", "[0]").is_err());
    }

    #[test]
    fn signals_are_names_or_numbers() {
        let as_name = read("service.signal", r#"["web", "hup"]"#).unwrap();
        assert_eq!(as_name, r#"{"name":"web","signal":"SIGHUP"}"#);
        assert_eq!(read("service.signal", r#"["web", 1]"#).unwrap(), as_name);
    }
}
