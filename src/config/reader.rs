//! Reads typed values out of a table of the tree, key by key, against the tables in `keys`.
//!
//! Every reader has the same manners: a key that is not there gives its default; a value that
//! cannot be used is a problem and gives the default, too, so that the rest is still looked at.
//! What comes back after a problem is never used, for a definition with errors is none.

use crate::config::hints;
use crate::config::keys::{self, Key, Preset, Takes};
use crate::config::problem::Problems;
use crate::config::tree::{Entry, Span, Value};
use std::time::Duration;

/// A table of the tree and the keys it may have.
pub struct Table<'t> {
    /// Where to point for what is missing.
    pub at: Span,
    /// What is given, each with its key, in the order of the file.
    given: Vec<(&'static Key, &'t Entry<'t>)>,
}

impl<'t> Table<'t> {
    /// Opens a table: unknown keys, and keys given under two names, are problems at once.
    pub fn open(
        at: Span,
        entries: &'t [Entry<'t>],
        keys: &'static [&'static Key],
        p: &mut Problems,
    ) -> Table<'t> {
        let mut given: Vec<(&'static Key, &'t Entry<'t>)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let Some(key) = keys.iter().find(|key| key.is_called(&entry.key)) else {
                let words = match p.is_full() {
                    true => String::new(),
                    false => hints::unknown(&entry.key, keys),
                };
                p.error(entry.key_at, words);
                continue;
            };
            match given.iter().find(|(known, _)| std::ptr::eq(*known, *key)) {
                None => given.push((key, entry)),
                // Of two names of one key the later in the file is the one that is too much.
                Some((_, twin)) => {
                    let words = format!(
                        "`{}` means the same as `{}`, which is given too: remove one of the two",
                        entry.key, twin.key
                    );
                    p.error(entry.key_at, words);
                }
            }
        }
        Table { at, given }
    }

    /// Keys are statics: where one stands is who it is.
    pub fn entry(&self, key: &'static Key) -> Option<&'t Entry<'t>> {
        let found = self
            .given
            .iter()
            .find(|(known, _)| std::ptr::eq(*known, key));
        found.map(|(_, entry)| *entry)
    }

    /// Where a key's value stands, or the table when it is not given.
    pub fn place(&self, key: &'static Key) -> Span {
        self.entry(key).map_or(self.at, |e| e.value.at)
    }

    pub fn has(&self, key: &'static Key) -> bool {
        self.entry(key).is_some()
    }

    pub fn text(&self, key: &'static Key, p: &mut Problems) -> Option<&'t str> {
        let entry = self.entry(key)?;
        match &entry.value.value {
            Value::String(text) if text.is_empty() => {
                let words = format!("`{}` is empty: remove it, or write a text", entry.key);
                p.error(entry.value.at, words);
                None
            }
            Value::String(text) => no_nul(&entry.key, text, entry.value.at, p),
            other => wrong(entry, "a string", other, p),
        }
    }

    pub fn boolean(&self, key: &'static Key, p: &mut Problems) -> bool {
        let default = matches!(key.default, Preset::Bool(true));
        let Some(entry) = self.entry(key) else {
            return default;
        };
        match &entry.value.value {
            Value::Boolean(yes) => *yes,
            other => wrong(entry, "true or false, without quotes", other, p).unwrap_or(default),
        }
    }

    /// The number that is given, when it is usable.
    pub fn number_given(&self, key: &'static Key, p: &mut Problems) -> Option<i64> {
        let entry = self.entry(key)?;
        let (min, max, unit) = match key.takes {
            Takes::Millis { min } => (min, keys::MAX_MS, " milliseconds"),
            Takes::Integer { min, max } => (min, max, ""),
            Takes::Attempts => (0, i64::from(u32::MAX), ""),
            _ => (i64::MIN, i64::MAX, ""),
        };
        let number = match &entry.value.value {
            Value::Integer(number) => *number,
            Value::String(text) if !unit.is_empty() => return self.no_unit(entry, text, p),
            other => return wrong(entry, &format!("a whole number{}", of(unit)), other, p),
        };
        if (min..=max).contains(&number) {
            return Some(number);
        }
        let advice = match key.default {
            Preset::Integer(default) => {
                format!(": write {}", p.assign(key.name, &default.to_string()))
            }
            _ => String::new(),
        };
        // What no integer holds was saturated by who parsed it.
        let shown = match number {
            i64::MAX => "too large a number".to_owned(),
            i64::MIN => "too small a number".to_owned(),
            number => number.to_string(),
        };
        p.error(
            entry.value.at,
            format!(
                "`{}` is {shown}; it must be {min} to {max}{unit}{advice}",
                entry.key
            ),
        );
        None
    }

    /// People write "10s" where milliseconds are asked for.
    fn no_unit<T>(&self, entry: &Entry<'_>, text: &str, p: &mut Problems) -> Option<T> {
        let advice = match humantime::parse_duration(text)
            .or_else(|_| text.parse::<u64>().map(Duration::from_millis))
        {
            Ok(length) => {
                let ms = crate::time::millis(length).to_string();
                format!(": write {}", p.assign(&entry.key, &ms))
            }
            Err(_) => String::new(),
        };
        let words = format!(
            "`{}` must be a whole number of milliseconds, not a string{advice}",
            entry.key
        );
        p.error(entry.value.at, words);
        None
    }

    /// A duration in words, of at least `least`.
    pub fn length(&self, key: &'static Key, least: Duration, p: &mut Problems) -> Option<Duration> {
        let entry = self.entry(key)?;
        let example = p.assign(key.name, "\"15m\"");
        let text = match &entry.value.value {
            Value::String(text) => text,
            other => {
                return wrong(
                    entry,
                    &format!("a duration in quotes, as in {example}"),
                    other,
                    p,
                );
            }
        };
        let most = from_millis(keys::MAX_MS);
        let problem = match humantime::parse_duration(text) {
            Ok(length) if (least..=most).contains(&length) => return Some(length),
            Ok(_) => format!(
                "must be {} to {}",
                crate::time::spoken(least),
                crate::time::spoken(most)
            ),
            Err(_) => format!("is no duration: write {example}"),
        };
        let shown = hints::shorten(text);
        p.error(
            entry.value.at,
            format!("`{}` is `{shown}`, which {problem}", entry.key),
        );
        None
    }

    pub fn number(&self, key: &'static Key, p: &mut Problems) -> i64 {
        self.number_given(key, p)
            .unwrap_or_else(|| default_number(key))
    }

    pub fn millis_given(&self, key: &'static Key, p: &mut Problems) -> Option<Duration> {
        self.number_given(key, p).map(from_millis)
    }

    pub fn millis(&self, key: &'static Key, p: &mut Problems) -> Duration {
        from_millis(self.number(key, p))
    }

    pub fn fraction(&self, key: &'static Key, p: &mut Problems) -> f64 {
        let default = match key.default {
            Preset::Fraction(default) => default,
            _ => 0.0,
        };
        let Some(entry) = self.entry(key) else {
            return default;
        };
        let number = match &entry.value.value {
            Value::Float(number) => *number,
            Value::Integer(number) => *number as f64,
            other => return wrong(entry, "a number from 0 to 1", other, p).unwrap_or(default),
        };
        if (0.0..=1.0).contains(&number) {
            // Not −0, so that equal definitions are shown equal.
            return number + 0.0;
        }
        let advice = p.assign(key.name, &default.to_string());
        p.error(
            entry.value.at,
            format!(
                "`{}` is {number}; it must be 0 to 1: write {advice}",
                entry.key
            ),
        );
        default
    }

    /// The choice that is given; `values` stand in the order of the key's words.
    pub fn choice_given<T: Copy>(
        &self,
        key: &'static Key,
        values: &[T],
        p: &mut Problems,
    ) -> Option<T> {
        let Takes::Choice(known) = key.takes else {
            return None;
        };
        let entry = self.entry(key)?;
        let quoted = || join_or(known);
        let Value::String(text) = &entry.value.value else {
            return wrong(entry, &quoted(), &entry.value.value, p);
        };
        // zinit writes on_failure where we write on-failure.
        let index = known
            .iter()
            .position(|word| *word == text.replace('_', "-"));
        if let Some(value) = index.and_then(|n| values.get(n)) {
            return Some(*value);
        }
        let meant = hints::nearest(text, known.iter().copied());
        let advice = match meant {
            Some(word) => format!(": write {}", p.assign(key.name, &format!("\"{word}\""))),
            None => String::new(),
        };
        let shown = hints::shorten(text);
        p.error(
            entry.value.at,
            format!(
                "`{}` is \"{shown}\"; it must be {}{advice}",
                entry.key,
                quoted()
            ),
        );
        None
    }

    pub fn choice<T: Copy>(
        &self,
        key: &'static Key,
        values: &[T],
        default: T,
        p: &mut Problems,
    ) -> T {
        self.choice_given(key, values, p).unwrap_or(default)
    }
}

/// The value is of a wrong type. Always None, for the caller to return.
pub fn wrong<T>(entry: &Entry<'_>, expected: &str, got: &Value<'_>, p: &mut Problems) -> Option<T> {
    let advice = match got {
        Value::Other("null") => ": leave the key out for its default",
        _ => "",
    };
    let words = format!(
        "`{}` must be {expected}, not {}{advice}",
        entry.key,
        got.what()
    );
    p.error(entry.value.at, words);
    None
}

/// Neither arguments nor environment nor paths can hold a NUL byte (execve(2)).
pub fn no_nul<'t>(key: &str, text: &'t str, at: Span, p: &mut Problems) -> Option<&'t str> {
    if text.contains('\0') {
        p.error(
            at,
            format!("`{}` holds a NUL character: remove it", hints::shorten(key)),
        );
        return None;
    }
    Some(text)
}

fn default_number(key: &Key) -> i64 {
    match key.default {
        Preset::Integer(default) => default,
        _ => 0,
    }
}

/// The default of a key that takes milliseconds.
pub fn default_millis(key: &Key) -> Duration {
    from_millis(default_number(key))
}

fn from_millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn of(unit: &str) -> String {
    if unit.is_empty() {
        String::new()
    } else {
        format!(" of{unit}")
    }
}

/// `"a", "b" or "c"`.
fn join_or(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("\"{w}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
