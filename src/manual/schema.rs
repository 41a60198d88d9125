//! JSON Schema (draft 2020-12) of definitions and settings, for editors and for programs that
//! write definitions. What a schema cannot say (a timeout longer than its interval, a target's
//! syntax) `vitald check` says.

use crate::config::keys::{self, Key, Preset, Takes};
use crate::limits;
use serde_json::{Map, Value, json};

/// `contrib/schema/service.schema.json`.
pub fn service() -> String {
    let mut schema = document("a service of vitald", keys::service::ALL);
    if let Value::Object(members) = &mut schema {
        // Only a group runs nothing.
        let target =
            json!({ "properties": { "kind": { "const": "target" } }, "required": ["kind"] });
        members.insert("anyOf".into(), json!([{ "required": ["exec"] }, target]));
    }
    format!("{schema:#}\n")
}

/// `contrib/schema/vitald.schema.json`.
pub fn settings() -> String {
    let schema = document("vitald's own settings", keys::daemon::ALL);
    format!("{schema:#}\n")
}

fn document(title: &str, keys: &[&'static Key]) -> Value {
    let mut schema = table(keys);
    if let Value::Object(members) = &mut schema {
        members.insert(
            "$schema".into(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        members.insert("title".into(), json!(title));
    }
    schema
}

fn table(keys: &[&'static Key]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in keys {
        properties.insert(key.name.into(), property(key, key.doc()));
        for alias in key.aliases {
            let doc = format!("The same as `{}`.", key.name);
            properties.insert((*alias).into(), property(key, &doc));
        }
        if matches!(key.default, Preset::Required) {
            required.push(key.name);
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(key: &Key, doc: &str) -> Value {
    let mut schema = takes(key);
    if let Value::Object(members) = &mut schema {
        members.insert("description".into(), json!(doc));
        let default = match key.default {
            Preset::Integer(n) => Some(json!(n)),
            Preset::Fraction(n) => Some(json!(n)),
            Preset::Bool(b) => Some(json!(b)),
            Preset::Text(text) => Some(json!(text)),
            Preset::Required | Preset::Words(_) => None,
        };
        if let Some(default) = default {
            members.insert("default".into(), default);
        }
    }
    schema
}

fn takes(key: &Key) -> Value {
    let account = || json!({ "type": ["string", "integer"], "minimum": 0, "minLength": 1 });
    let words = || json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
    match key.takes {
        Takes::Text => json!({ "type": "string", "minLength": 1 }),
        Takes::Command => json!({ "anyOf": [words(), { "type": "string", "minLength": 1 }] }),
        Takes::Commands => {
            let command = json!({ "anyOf": [words(), { "type": "string", "minLength": 1 }] });
            let list = json!({
                "type": "array",
                "items": command,
                "minItems": 1,
                "maxItems": limits::MAX_COMMANDS,
            });
            json!({ "anyOf": [command, list] })
        }
        Takes::Services => json!({
            "type": "array",
            "items": {
                "type": "string",
                // As in a template: "db@%i".
                "pattern": "^[A-Za-z0-9_][A-Za-z0-9._@%-]*$",
                "maxLength": limits::MAX_NAME,
            },
            "maxItems": limits::MAX_DEPENDENCIES,
        }),
        Takes::Instances => json!({
            "type": "array",
            "items": {
                "type": "string",
                "pattern": "^[A-Za-z0-9._@-]+$",
                "maxLength": limits::MAX_NAME,
            },
        }),
        Takes::Bool => json!({ "type": "boolean" }),
        Takes::Millis { min } => {
            json!({ "type": "integer", "minimum": min, "maximum": keys::MAX_MS })
        }
        Takes::Integer { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        Takes::Length => json!({ "type": "string", "pattern": "^[0-9]+ ?[a-z]" }),
        Takes::Fraction => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Takes::Size { min } => json!({ "anyOf": [
            { "type": "integer", "minimum": min },
            { "type": "string", "pattern": "^[0-9]+[KMGT]?$" },
        ] }),
        Takes::Percent => json!({ "type": "string", "pattern": "^[0-9]+%$" }),
        Takes::Choice(words) => json!({ "enum": words }),
        Takes::Words(words) => {
            json!({ "type": "array", "items": { "enum": words }, "minItems": 1 })
        }
        Takes::Patterns => words(),
        Takes::Signal => json!({ "type": ["string", "integer"] }),
        Takes::Umask => json!({ "type": "string", "pattern": "^(0o)?0?[0-7]{1,3}$" }),
        Takes::Account => account(),
        Takes::Directories => json!({
            "anyOf": [
                { "type": "array", "items": { "type": "string", "minLength": 1 } },
                { "type": "string", "minLength": 1 },
            ],
        }),
        Takes::Accounts => json!({ "type": "array", "items": account() }),
        Takes::Capabilities => {
            json!({ "type": "array", "items": { "type": "string", "pattern": "^[A-Za-z_]+$" } })
        }
        Takes::Paths => {
            json!({ "type": "array", "items": { "type": "string", "pattern": "^-?/" } })
        }
        Takes::Strings => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        Takes::Limits => limits_table(),
        Takes::Attempts => json!({
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": u32::MAX },
                { "const": "unlimited" },
            ],
        }),
        Takes::Quorum => json!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": limits::MAX_PROBES },
                { "enum": ["all", "any"] },
            ],
        }),
        Takes::Statuses => json!({
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": "^[0-9, -]+$" },
            ],
        }),
        Takes::Redirects => json!({
            "anyOf": [{ "type": "boolean" }, { "type": "integer", "minimum": 0, "maximum": 20 }],
        }),
        Takes::Access => {
            let words = keys::ACCESS_WORDS.join("|");
            let right = json!({
                "type": "string",
                "pattern": format!("^({words})(:[A-Za-z0-9_][A-Za-z0-9._@-]*)?$"),
            });
            json!({
                "type": "object",
                "additionalProperties": {
                    "anyOf": [right, { "type": "array", "items": right }],
                },
            })
        }
        Takes::Table(keys) => table(keys),
        Takes::Tables(keys) => {
            json!({ "type": "array", "items": table(keys), "maxItems": limits::MAX_PROBES })
        }
    }
}

fn limits_table() -> Value {
    let bound = json!({
        "anyOf": [{ "type": "integer", "minimum": 0 }, { "const": "unlimited" }],
    });
    let pair = json!({
        "type": "object",
        "properties": { "soft": bound, "hard": bound },
        "required": ["soft", "hard"],
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "propertyNames": { "enum": keys::LIMIT_NAMES },
        "additionalProperties": {
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "const": "unlimited" }, pair],
        },
    })
}
