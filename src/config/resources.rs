//! Reads what all processes of a service together may use: sizes, percents, and how they fit.

use crate::config::definition::Resources;
use crate::config::hints;
use crate::config::keys::{Key, Takes, service};
use crate::config::problem::Problems;
use crate::config::reader::{Table, wrong};
use crate::config::tree::Value;

/// More than any machine has: a slip of the pen.
const MOST_BYTES: u64 = 1 << 60;
/// Of a thousand processors and more.
const MOST_PERCENT: u32 = 1_000_000;

pub fn read(t: &Table<'_>, p: &mut Problems) -> Resources {
    let memory_max = t.size(&service::MEMORY_MAX, p);
    let memory_high = t.size(&service::MEMORY_HIGH, p);
    if let (Some(high), Some(max)) = (memory_high, memory_max)
        && high >= max
    {
        p.error(
            t.place(&service::MEMORY_HIGH),
            "`memory_high` is not less than `memory_max`, which kills before it is reached: write \
             less, or remove it",
        );
    }
    // The ranges in the key table are those of the types.
    let mut number = |key| t.number_given(key, p);
    let (weight, pids) = (number(&service::CPU_WEIGHT), number(&service::PIDS_MAX));
    Resources {
        memory_max,
        memory_high,
        cpu_max: t.percent(&service::CPU_MAX, p),
        cpu_weight: weight.and_then(|n| u16::try_from(n).ok()),
        pids_max: pids.and_then(|n| u32::try_from(n).ok()),
    }
}

/// `512M` in bytes.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match text.get(digits.len()..)? {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| plain)?;
    number.checked_mul(1 << shift)
}

/// `512M`, as definitions have it.
pub fn sized(bytes: u64) -> String {
    let units = [
        (1u64 << 40, 'T'),
        (1 << 30, 'G'),
        (1 << 20, 'M'),
        (1 << 10, 'K'),
    ];
    let whole = units
        .into_iter()
        .find(|(unit, _)| bytes.is_multiple_of(*unit));
    match whole.filter(|_| bytes > 0) {
        Some((unit, letter)) => format!("{}{letter}", bytes / unit),
        None => bytes.to_string(),
    }
}

/// What somebody means by `512 MiB`, `512mb`, `0.5G`: in our form, if it is a whole number.
fn meant(text: &str) -> Option<String> {
    let upper = text.trim().to_ascii_uppercase();
    let bare = upper
        .strip_suffix("IB")
        .or(upper.strip_suffix('B'))
        .unwrap_or(&upper);
    let tight: String = bare.split_whitespace().collect();
    bytes(&tight).map(|_| format!("\"{tight}\""))
}

impl Table<'_> {
    /// Bytes.
    pub fn size(&self, key: &'static Key, p: &mut Problems) -> Option<u64> {
        let entry = self.entry(key)?;
        let least = match key.takes {
            Takes::Size { min } => u64::try_from(min).unwrap_or(0),
            _ => 0,
        };
        let size = match &entry.value.value {
            Value::Integer(number) => u64::try_from(*number).unwrap_or(0),
            Value::String(text) => match bytes(text) {
                Some(size) => size,
                None => {
                    let advice = meant(text).unwrap_or("\"512M\"".to_owned());
                    let words = format!(
                        "`{}` is \"{}\", which is no size: write a number, with K, M, G or T \
                         behind it if need be, as in {}",
                        entry.key,
                        hints::shorten(text),
                        p.assign(key.name, &advice)
                    );
                    p.error(entry.value.at, words);
                    return None;
                }
            },
            other => return wrong(entry, "a size, as in \"512M\"", other, p),
        };
        if (least..=MOST_BYTES).contains(&size) {
            return Some(size);
        }
        let advice = match &entry.value.value {
            // Who writes 512 thinks of megabytes.
            Value::Integer(number) if (1..100_000).contains(number) => {
                format!(": write {}", p.assign(key.name, &format!("\"{number}M\"")))
            }
            _ => String::new(),
        };
        let words = format!(
            "`{}` is {size} bytes; it must be {least} to {MOST_BYTES}{advice}",
            entry.key
        );
        p.error(entry.value.at, words);
        None
    }

    /// Percent of one.
    pub fn percent(&self, key: &'static Key, p: &mut Problems) -> Option<u32> {
        let entry = self.entry(key)?;
        let number = match &entry.value.value {
            Value::String(text) => text.strip_suffix('%').and_then(|text| {
                let plain = text.bytes().all(|b| b.is_ascii_digit());
                text.parse::<u32>().ok().filter(|_| plain)
            }),
            Value::Integer(_) | Value::Float(_) => None,
            other => return wrong(entry, "a percentage, as in \"150%\"", other, p),
        };
        if let Some(number) = number.filter(|n| (1..=MOST_PERCENT).contains(n)) {
            return Some(number);
        }
        let words = format!(
            "`{}` must be a whole number from 1 to {MOST_PERCENT} and a percent sign, of one \
             processor: write {} for one and a half",
            entry.key,
            p.assign(key.name, "\"150%\"")
        );
        p.error(entry.value.at, words);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, size) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("64K", Some(65_536)),
            ("512M", Some(536_870_912)),
            ("2G", Some(2 << 30)),
            ("1T", Some(1 << 40)),
            ("", None),
            ("M", None),
            ("+1M", None),
            ("1MM", None),
            ("1m", None),
            ("1 M", None),
            ("99999999999T", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
        for (text, ours) in [
            ("512MB", "\"512M\""),
            ("512 MiB", "\"512M\""),
            ("1g", "\"1G\""),
        ] {
            assert_eq!(meant(text).as_deref(), Some(ours), "{text}");
        }
        assert_eq!(meant("much"), None);
    }
}
