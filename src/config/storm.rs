//! `health_restart_limit` and `storm` in `vitald.toml`: how many restarts for their health all
//! services together may have, and when many that want one are a single incident.
//!
//! Nothing is off by being absent: without the keys the defaults of the key table are in force. A
//! zero switches a rule off.

use crate::config::keys::{daemon, restart_limit, storm};
use crate::config::problem::Problems;
use crate::config::reader::{Table, wrong};
use crate::config::tree::Value;
use std::time::Duration;

/// A zero: that rule is off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StormLimits {
    /// So many health restarts within `per`.
    pub count: u32,
    pub per: Duration,
    /// So many services that want one within `within` are an incident …
    pub services: u32,
    /// … or so many percent of all that are watched.
    pub percent: u32,
    pub within: Duration,
}

impl StormLimits {
    /// The defaults of the key table.
    pub const STANDARD: StormLimits = StormLimits {
        count: 5,
        per: Duration::from_secs(30),
        services: 5,
        percent: 50,
        within: Duration::from_secs(60),
    };

    pub fn is_off(&self) -> bool {
        self.count == 0 && !self.has_incidents()
    }

    pub fn has_incidents(&self) -> bool {
        self.services > 0 || self.percent > 0
    }
}

pub(super) fn read(t: &Table<'_>, p: &mut Problems) -> StormLimits {
    let empty = Table::open(t.at, &[], &[], p);
    let limit = table(t, &daemon::HEALTH_RESTART_LIMIT, restart_limit::ALL, p);
    let limit = limit.as_ref().unwrap_or(&empty);
    // The ranges in the key table are within those of the type.
    let number = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    let (count, per) = (
        number(limit.number(&restart_limit::COUNT, p)),
        limit.millis(&restart_limit::PER, p),
    );
    let incident = table(t, &daemon::STORM, storm::ALL, p);
    let incident = incident.as_ref().unwrap_or(&empty);
    StormLimits {
        count,
        per,
        services: number(incident.number(&storm::SERVICES, p)),
        percent: number(incident.number(&storm::PERCENT, p)),
        within: incident.millis(&storm::WITHIN, p),
    }
}

fn table<'t>(
    t: &Table<'t>,
    key: &'static crate::config::keys::Key,
    keys: &'static [&'static crate::config::keys::Key],
    p: &mut Problems,
) -> Option<Table<'t>> {
    let entry = t.entry(key)?;
    match &entry.value.value {
        Value::Table(members) => Some(Table::open(entry.value.at, members, keys, p)),
        other => {
            let want = format!("a table: {} = {{ … }}", key.name);
            wrong(entry, &want, other, p)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings;

    fn of(text: &str) -> (StormLimits, Vec<String>) {
        let (settings, problems) = settings::read("vitald.toml", text.as_bytes());
        let problems = problems.iter().map(ToString::to_string).collect();
        (settings.storm, problems)
    }

    #[test]
    fn without_a_word_the_defaults_are_in_force_and_a_zero_is_off() {
        let standard = StormLimits::STANDARD;
        assert_eq!(of(""), (standard, Vec::new()));
        assert_eq!(settings::Settings::default().storm, standard);
        let (limits, problems) = of(
            "health_restart_limit = { count = 2, per_ms = 5000 }\nstorm = { services = 3, percent = 0 }\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            limits,
            StormLimits {
                count: 2,
                per: Duration::from_secs(5),
                services: 3,
                percent: 0,
                ..standard
            }
        );
        let (limits, _) =
            of("health_restart_limit.count = 0\n[storm]\nservices = 0\npercent = 0\n");
        assert!(limits.is_off());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_what_to_write() {
        let (limits, problems) = of(
            "health_restart_limit = 5\n\n[storm]\nservices = -1\nwithin = 10\npercent = \"50%\"\n",
        );
        assert_eq!(limits, settings::Settings::default().storm);
        let all = problems.join("\n");
        for (line, words) in [
            ("vitald.toml:1", "health_restart_limit"),
            ("vitald.toml:4", "services"),
            ("vitald.toml:5", "within_ms"),
            ("vitald.toml:6", "percent"),
        ] {
            let told = |p: &String| p.starts_with(line) && p.contains(words);
            assert!(problems.iter().any(told), "{line} {words}: {all}");
        }
    }
}
