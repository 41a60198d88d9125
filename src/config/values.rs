//! Readers of values with a form of their own: commands, names, accounts, limits, signals.
//!
//! The second half of `reader`, with the same manners.

use crate::config::capabilities;
use crate::config::definition::{Commands, Limit};
use crate::config::hints;
use crate::config::keys::{self, Key};
use crate::config::names;
use crate::config::problem::Problems;
use crate::config::reader::{Table, no_nul, wrong};
use crate::config::tree::{Entry, Node, Span, Value};
use crate::config::words;
use crate::exit::Signal;
use crate::limits;
use std::collections::BTreeMap;

impl<'t> Table<'t> {
    pub fn signal(&self, key: &'static Key, p: &mut Problems) -> Signal {
        let Some(entry) = self.entry(key) else {
            return Signal::TERM;
        };
        let signal = match &entry.value.value {
            Value::String(text) => Signal::parse(text),
            Value::Integer(number) => Signal::parse(&number.to_string()),
            other => return wrong(entry, "a signal's name", other, p).unwrap_or(Signal::TERM),
        };
        signal.unwrap_or_else(|| {
            let words = format!(
                "`{}` is no signal: write a name such as \"SIGTERM\", \"SIGINT\", \"SIGRTMIN+3\" (signal(7))",
                entry.key
            );
            p.error(entry.value.at, words);
            Signal::TERM
        })
    }

    pub fn umask(&self, key: &'static Key, p: &mut Problems) -> Option<u32> {
        let entry = self.entry(key)?;
        let example = p.assign(key.name, "\"022\"");
        let Value::String(text) = &entry.value.value else {
            let words = format!("octal digits in quotes, as in {example}");
            return wrong(entry, &words, &entry.value.value, p);
        };
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let octal = !digits.is_empty() && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mask = octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten();
        match mask.filter(|mask| *mask <= 0o777) {
            Some(mask) => Some(mask),
            None => {
                let words = format!(
                    "`{}` must be octal digits, at most 777, as in {example}",
                    entry.key
                );
                p.error(entry.value.at, words);
                None
            }
        }
    }

    /// A user's or group's name or number, as text.
    pub fn account(&self, key: &'static Key, p: &mut Problems) -> Option<Box<str>> {
        let entry = self.entry(key)?;
        account(&entry.key, &entry.value, p)
    }

    pub fn accounts(&self, key: &'static Key, p: &mut Problems) -> Option<Box<[Box<str>]>> {
        let entry = self.entry(key)?;
        match &entry.value.value {
            Value::Array(items) => Some(
                items
                    .iter()
                    .filter_map(|item| account(&entry.key, item, p))
                    .collect(),
            ),
            other => wrong(entry, "an array of group names, as in [\"adm\"]", other, p),
        }
    }

    /// Capabilities as bits.
    pub fn capabilities(&self, key: &'static Key, p: &mut Problems) -> Option<u64> {
        let entry = self.entry(key)?;
        let Value::Array(items) = &entry.value.value else {
            let words = "an array of capabilities, as in [\"net_bind_service\"]";
            return wrong(entry, words, &entry.value.value, p);
        };
        let mut bits = 0;
        for item in items {
            let Value::String(name) = &item.value else {
                let words = format!("`{}` must hold names of capabilities in quotes", entry.key);
                p.error(item.at, words);
                continue;
            };
            match capabilities::number(name) {
                Some(number) => bits |= 1 << number,
                None => {
                    let bare = name.to_ascii_lowercase();
                    let bare = bare.strip_prefix("cap_").unwrap_or(&bare);
                    let near = hints::nearest(bare, capabilities::NAMES.iter().copied());
                    let advice = near.map_or("see capabilities(7)".to_owned(), |near| {
                        format!("did you mean `{near}`?")
                    });
                    let shown = hints::shorten(name);
                    p.error(item.at, format!("unknown capability `{shown}`: {advice}"));
                }
            }
        }
        Some(bits)
    }

    /// Absolute paths, with or without a leading `-`.
    pub fn paths(&self, key: &'static Key, p: &mut Problems) -> Box<[Box<str>]> {
        let Some(entry) = self.entry(key) else {
            return Box::default();
        };
        let Value::Array(items) = &entry.value.value else {
            let words = "an array of paths, as in [\"/var/lib/web\"]";
            wrong::<()>(entry, words, &entry.value.value, p);
            return Box::default();
        };
        let mut found = Vec::new();
        for item in items {
            match &item.value {
                Value::String(path) if path.strip_prefix('-').unwrap_or(path).starts_with('/') => {
                    found.extend(no_nul(&entry.key, path, item.at, p).map(Into::into));
                }
                Value::String(path) => {
                    let shown = hints::shorten(path);
                    p.error(
                        item.at,
                        format!("`{}`: `{shown}` must be absolute", entry.key),
                    );
                }
                _ => {
                    let words = format!("`{}` must hold paths in quotes", entry.key);
                    p.error(item.at, words);
                }
            }
        }
        found.into()
    }

    /// Names of services with their places; each once.
    pub fn services(&self, key: &'static Key, p: &mut Problems) -> Vec<(Box<str>, Span)> {
        let mut found: Vec<(Box<str>, Span)> = Vec::new();
        let Some(entry) = self.entry(key) else {
            return found;
        };
        let items = match &entry.value.value {
            Value::Array(items) => items,
            Value::String(text) => {
                let list = p.assign(key.name, &format!("[\"{}\"]", hints::shorten(text)));
                let words = format!("`{}` must be an array: write {list}", entry.key);
                p.error(entry.value.at, words);
                return found;
            }
            other => {
                wrong::<()>(entry, "an array of service names", other, p);
                return found;
            }
        };
        if items.len() > limits::MAX_DEPENDENCIES {
            let words = format!(
                "`{}` has {} names; at most {} are taken: group them behind a oneshot",
                entry.key,
                items.len(),
                limits::MAX_DEPENDENCIES
            );
            p.error(entry.value.at, words);
            return found;
        }
        for item in items {
            let Value::String(name) = &item.value else {
                let what = item.value.what();
                p.error(
                    item.at,
                    format!("`{}` must hold service names, not {what}", entry.key),
                );
                continue;
            };
            match names::check(name) {
                Err(problem) => p.error(item.at, format!("`{}`: {problem}", entry.key)),
                Ok(()) if found.iter().any(|(known, _)| **known == **name) => {
                    p.warn(item.at, format!("`{}` names `{name}` twice", entry.key));
                }
                Ok(()) => found.push((name.as_ref().into(), item.at)),
            }
        }
        found
    }

    /// A command: an array of words, or a string split as a shell splits words. Never empty.
    pub fn command(&self, key: &'static Key, p: &mut Problems) -> Option<Box<[Box<str>]>> {
        let entry = self.entry(key)?;
        self.argv(key, entry, &entry.value, p)
    }

    /// One command, or an array of them: an array that begins with an array.
    pub fn commands(&self, key: &'static Key, p: &mut Problems) -> Commands {
        let Some(entry) = self.entry(key) else {
            return Commands::default();
        };
        let items = match &entry.value.value {
            Value::Array(items)
                if matches!(items.first().map(|i| &i.value), Some(Value::Array(_))) =>
            {
                items
            }
            _ => return self.argv(key, entry, &entry.value, p).into_iter().collect(),
        };
        if items.len() > limits::MAX_COMMANDS {
            let words = format!(
                "`{}` has {} commands; at most {} are taken: put them into a script",
                entry.key,
                items.len(),
                limits::MAX_COMMANDS
            );
            p.error(entry.value.at, words);
        }
        let read = items.iter().map(|item| self.argv(key, entry, item, p));
        read.collect::<Vec<_>>().into_iter().flatten().collect()
    }

    fn argv(
        &self,
        key: &'static Key,
        entry: &Entry<'_>,
        node: &Node<'_>,
        p: &mut Problems,
    ) -> Option<Box<[Box<str>]>> {
        let at = node.at;
        let before = p.error_count();
        let argv: Vec<Box<str>> = match &node.value {
            Value::String(line) => match words::split(line) {
                Ok(argv) => argv,
                Err(problem) => {
                    p.error(at, format!("`{}` {problem}", entry.key));
                    return None;
                }
            },
            Value::Array(items) => items
                .iter()
                .filter_map(|item| match &item.value {
                    Value::String(word) => Some(word.as_ref().into()),
                    other => {
                        let words = format!(
                            "`{}` must hold strings, not {}: put it in quotes",
                            entry.key,
                            other.what()
                        );
                        p.error(item.at, words);
                        None
                    }
                })
                .collect(),
            other => return wrong(entry, "an array of strings, or a string", other, p),
        };
        if argv
            .iter()
            .any(|word| no_nul(&entry.key, word, at, p).is_none())
        {
            return None;
        }
        if argv.first().is_none_or(|program| program.is_empty()) && p.error_count() == before {
            let example = p.assign(key.name, "[\"/usr/bin/web\", \"--port\", \"8080\"]");
            p.error(
                at,
                format!("`{}` names no program: write {example}", entry.key),
            );
        }
        (p.error_count() == before).then(|| argv.into_boxed_slice())
    }

    /// The members of a table of strings, with their places, in their order.
    pub fn strings(&self, key: &'static Key, p: &mut Problems) -> Vec<(&'t Entry<'t>, &'t str)> {
        let Some(entry) = self.entry(key) else {
            return Vec::new();
        };
        let Value::Table(members) = &entry.value.value else {
            wrong::<()>(entry, "a table of strings", &entry.value.value, p);
            return Vec::new();
        };
        members
            .iter()
            .filter_map(|member| match &member.value.value {
                Value::String(text) => {
                    no_nul(&member.key, text, member.value.at, p).map(|text| (member, text))
                }
                other => {
                    let advice = match other {
                        Value::Integer(n) => {
                            format!(": write {}", p.assign(&member.key, &format!("\"{n}\"")))
                        }
                        Value::Boolean(b) => {
                            format!(": write {}", p.assign(&member.key, &format!("\"{b}\"")))
                        }
                        _ => String::new(),
                    };
                    let words = format!(
                        "`{}` in `{}` must be a string, not {}{advice}",
                        hints::shorten(&member.key),
                        entry.key,
                        other.what()
                    );
                    p.error(member.value.at, words);
                    None
                }
            })
            .collect()
    }

    pub fn limits(&self, key: &'static Key, p: &mut Problems) -> BTreeMap<Box<str>, Limit> {
        let mut found = BTreeMap::new();
        let Some(entry) = self.entry(key) else {
            return found;
        };
        let Value::Table(members) = &entry.value.value else {
            wrong::<()>(
                entry,
                "a table such as { nofile = 4096 }",
                &entry.value.value,
                p,
            );
            return found;
        };
        for member in members {
            if !keys::LIMIT_NAMES.contains(&member.key.as_ref()) {
                let known = keys::LIMIT_NAMES;
                let advice = match hints::nearest(&member.key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}", known.join(", ")),
                };
                let shown = hints::shorten(&member.key);
                p.error(member.key_at, format!("unknown limit `{shown}`: {advice}"));
            } else if let Some(limit) = limit(member, p) {
                found.insert(member.key.as_ref().into(), limit);
            }
        }
        found
    }
}

fn limit(member: &Entry<'_>, p: &mut Problems) -> Option<Limit> {
    let mut bound = |name: &str, node: &Node<'_>| match &node.value {
        Value::Integer(number) if *number >= 0 && *number < i64::MAX => Some(Some(*number as u64)),
        Value::String(word) if word == "unlimited" => Some(None),
        _ => {
            let words = format!(
                "`{name}` must be a number of at least 0, \"unlimited\", or {{ soft = …, hard = … }}"
            );
            p.error(node.at, words);
            None
        }
    };
    let Value::Table(pair) = &member.value.value else {
        let both = bound(&member.key, &member.value)?;
        return Some(Limit {
            soft: both,
            hard: both,
        });
    };
    let find = |name: &str| pair.iter().find(|e| e.key == name);
    let (Some(soft), Some(hard), 2) = (find("soft"), find("hard"), pair.len()) else {
        let words = format!(
            "`{}` must have `soft` and `hard`, and nothing else",
            member.key
        );
        p.error(member.value.at, words);
        return None;
    };
    let (soft_limit, hard_limit) = (bound("soft", &soft.value)?, bound("hard", &hard.value)?);
    if soft_limit.unwrap_or(u64::MAX) > hard_limit.unwrap_or(u64::MAX) {
        let words = format!(
            "`{}` has a soft limit above its hard limit: swap them",
            member.key
        );
        p.error(soft.value.at, words);
        return None;
    }
    Some(Limit {
        soft: soft_limit,
        hard: hard_limit,
    })
}

fn account(key: &str, node: &Node<'_>, p: &mut Problems) -> Option<Box<str>> {
    match &node.value {
        // 2³²−1 means "no change" to setuid(2).
        Value::Integer(id) if (0..i64::from(u32::MAX)).contains(id) => Some(id.to_string().into()),
        Value::String(name)
            if !name.is_empty()
                && !name.starts_with('-')
                && !name.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control()) =>
        {
            Some(name.as_ref().into())
        }
        other => {
            let what = match other {
                Value::String(name) => format!("\"{}\"", hints::shorten(name)),
                Value::Integer(id) => id.to_string(),
                Value::Other("null") => "null: leave the key out for its default".to_owned(),
                other => other.what().to_owned(),
            };
            p.error(
                node.at,
                format!("`{key}` must be a name or a number, not {what}"),
            );
            None
        }
    }
}
