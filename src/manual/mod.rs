//! Documents made from the tables in the code: nothing is documented twice.
//!
//! The key table (`config::keys`) gives the JSON Schema, the reference and the man page.
//! `tests/manual.rs` holds the committed files to what is generated here.

mod man;
mod reference;
mod schema;
mod states;

use crate::config::keys::{self, Key, Preset, Takes};

pub use man::vitald_toml as man_vitald_toml;
pub use reference::definitions as reference;
pub use schema::{service as service_schema, settings as settings_schema};
pub use states::states;

/// A table of keys as a chapter of the documents.
struct Chapter {
    title: &'static str,
    /// How the table is written in TOML; empty for the top of the file.
    header: &'static str,
    intro: &'static str,
    keys: &'static [&'static Key],
}

const CHAPTERS: &[Chapter] = &[
    Chapter {
        title: "Service",
        header: "",
        intro: "Keys at the top of a service's file. Only `exec` is required.",
        keys: keys::service::ALL,
    },
    Chapter {
        title: "Retry policy",
        header: "[retry_policy]",
        intro: "Keys of the table `retry_policy`. Crashes, restarts for health and start timeouts \
                share one budget.",
        keys: keys::retry_policy::ALL,
    },
    Chapter {
        title: "Rung",
        header: "escalate",
        intro: "Keys of each table in the array `escalate` of `retry_policy`.",
        keys: keys::rung::ALL,
    },
    Chapter {
        title: "Probe",
        header: "[[probe]]",
        intro: "Keys of each table in the array `probe`.",
        keys: keys::probe::ALL,
    },
    Chapter {
        title: "Socket",
        header: "[[socket]]",
        intro: "Keys of each table in the array `socket`.",
        keys: keys::socket::ALL,
    },
    Chapter {
        title: "Settings",
        header: "",
        intro: "Keys of `vitald.toml`, the daemon's own settings. The file may be missing. A reload \
                takes changes over at once, except those of the keys marked *start*, which are read \
                when the daemon starts, as by `upgrade`: it names them. While the file has an error \
                the settings before it stay in force, also over the daemon's death, but not over \
                a boot: then what can be read of it counts.",
        keys: keys::daemon::ALL,
    },
    Chapter {
        title: "Alert",
        header: "[[alert]]",
        intro: "Keys of each table in the array `alert` of `vitald.toml`.",
        keys: keys::alert::ALL,
    },
];

const INTRO: &[&str] = &[
    "One file for each service stands in `/etc/vitald/services/`, or as a normal user in \
     `$XDG_CONFIG_HOME/vitald/services/`: `web.toml` or `web.json`, with the same keys. The stem of \
     the file's name is the service's name: at most 64 letters, digits and `.`, `_`, `@`, `-`. \
     Files that editors and package managers leave behind are skipped.",
    "A file whose stem ends in `@`, as `worker@.toml`, is a template: no service, but what each of \
     `worker@1`, `worker@2` … is. In its strings `%i` is the instance (`1`), `%n` its whole name, and \
     `%%` a percent sign. An instance is there when `instances` lists it, when a definition requires \
     or wants it, and from `start worker@1` on, over every boot, until it is stopped: then the next \
     reload forgets it. A file `worker@1.toml` of its own beats the template. A reload takes a changed \
     template to each of its instances; while a definition is broken it takes no instance away.",
    "Durations are whole milliseconds; their keys end in `_ms`. Unknown keys are errors. \
     `vitald check` shows all that is wrong, each with its file, line and remedy. A broken file \
     stops neither the daemon nor any other service; on a reload the previous definition stays in \
     force.",
    "A reload takes changes over without touching the process, except changes of the keys marked \
     *restart*: they say what the process is, and restart it.",
];

const EXAMPLE: &str = r#"exec = ["/usr/bin/web", "--port", "8080"]
requires = ["db"]
user = "www-data"

[[probe]]
type = "http"
target = "http://127.0.0.1:8080/healthz"
interval_ms = 5000
timeout_ms = 2000
"#;

/// What the key called `name` means: its type, default and doc, one entry for each table that
/// has it; None when none has.
pub fn explain(name: &str) -> Option<String> {
    let entries: Vec<String> = CHAPTERS
        .iter()
        .filter_map(|chapter| {
            let key = chapter.keys.iter().find(|key| key.is_called(name))?;
            let place = if chapter.header.is_empty() {
                chapter.title
            } else {
                chapter.header
            };
            Some(format!(
                "{} ({place}): {}; default: {}\n    {}\n",
                key.name,
                takes(key),
                default(key),
                key.doc()
            ))
        })
        .collect();
    (!entries.is_empty()).then(|| entries.concat())
}

/// What a key takes, in words.
fn takes(key: &Key) -> String {
    match key.takes {
        Takes::Text => "a string".to_owned(),
        Takes::Command => "an array of strings, or a string".to_owned(),
        Takes::Commands => "a command, or an array of commands".to_owned(),
        Takes::Services => "an array of service names".to_owned(),
        Takes::Instances => "an array of words".to_owned(),
        Takes::Bool => "true or false".to_owned(),
        Takes::Millis { min } => format!("milliseconds, at least {min}"),
        Takes::Integer { min, max } => format!("an integer, {min} to {max}"),
        Takes::Length => "a duration in quotes".to_owned(),
        Takes::Fraction => "a number, 0 to 1".to_owned(),
        Takes::Size { min } => {
            format!("bytes, at least {min}, or a string of a number and K, M, G or T")
        }
        Takes::Percent => "a whole number and a percent sign, in quotes".to_owned(),
        Takes::Choice(words) => {
            let quoted: Vec<String> = words.iter().map(|w| format!("\"{w}\"")).collect();
            quoted.join(" | ")
        }
        Takes::Words(words) => {
            let quoted: Vec<String> = words.iter().map(|w| format!("\"{w}\"")).collect();
            format!("an array of {}", quoted.join(", "))
        }
        Takes::Patterns => "an array of names, in which `*` stands for any characters".to_owned(),
        Takes::Signal => "a signal's name or number".to_owned(),
        Takes::Umask => "octal digits in quotes".to_owned(),
        Takes::Account => "a name or a number".to_owned(),
        Takes::Directories => "an array of names".to_owned(),
        Takes::Accounts => "an array of names or numbers".to_owned(),
        Takes::Capabilities => "an array of capabilities".to_owned(),
        Takes::Paths => "an array of absolute paths".to_owned(),
        Takes::Strings => "a table of strings".to_owned(),
        Takes::Limits => "a table of limits".to_owned(),
        Takes::Attempts => "an integer of at least 0, or \"unlimited\"".to_owned(),
        Takes::Quorum => "\"all\", \"any\", or an integer of at least 1".to_owned(),
        Takes::Statuses => "a status, or a string of statuses and ranges".to_owned(),
        Takes::Redirects => "true, false, or an integer, 0 to 20".to_owned(),
        Takes::Access => "a table of rights".to_owned(),
        Takes::Table(_) => "a table".to_owned(),
        Takes::Tables(_) => "an array of tables".to_owned(),
    }
}

/// A key's default, in words.
fn default(key: &Key) -> String {
    match key.default {
        Preset::Required => "none, it is required".to_owned(),
        Preset::Words(words) => words.to_owned(),
        Preset::Integer(n) => n.to_string(),
        Preset::Fraction(n) => n.to_string(),
        Preset::Bool(b) => b.to_string(),
        Preset::Text(text) => format!("\"{text}\""),
    }
}

/// What belongs to a key besides its meaning: other names, the probes that have it.
fn notes(key: &Key) -> Vec<String> {
    let mut notes = Vec::new();
    if !key.only.is_empty() {
        notes.push(format!("Only for type {}.", key.whose()));
    }
    if !key.aliases.is_empty() {
        notes.push(format!("Also accepted as `{}`.", key.aliases.join("`, `")));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_explained_wherever_they_are() {
        let said = explain("retries").expect("an alias");
        assert!(
            said.starts_with("failure_threshold ([[probe]]): an integer, 1 to 1000; default: 3\n")
        );
        assert_eq!(explain("no_such_key"), None);
    }

    #[test]
    fn the_example_is_valid() {
        let outcome = crate::config::load::read("web", "web.toml", EXAMPLE.as_bytes());
        assert_eq!(outcome.problems, []);
    }
}
