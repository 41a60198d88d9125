//! The daemon's own settings, as far as decisions are made by them; what a reload makes of a changed
//! `vitald.toml`.
//!
//! Not here: reading the file, and all that only the reactor needs of it (the control socket's
//! rights, logs, where alerts go). It takes its part when a reload is done, and at `RevertSettings`.
//!
//! Invariants: a file that cannot be used changes nothing; what a reload that was not confirmed has
//! changed is again as it was before.

use super::plan::SettingsPlan;
use super::*;
use crate::config::StormLimits;
use crate::config::alerts::Rule;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is decided by.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HostRules {
    /// Of restarts for health.
    pub limits: StormLimits,
    /// Who is told of trouble.
    pub alerts: Vec<Rule>,
    /// How many checks may be under way at once; None: any number.
    pub max_checks: Option<u32>,
    /// How long all services together may take to stop at the daemon's end.
    pub shutdown_timeout: Option<Duration>,
}

/// `vitald.toml` as it was read for a reload, beside what is in force.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NewSettings {
    /// Why it cannot be used.
    pub problem: Option<Box<str>>,
    /// The keys that differ and can be taken over; an alert as `alert.NAME`.
    pub live: Vec<Box<str>>,
    /// Those that differ from what the daemon began with, and are read only then.
    pub at_start: Vec<Box<str>>,
    pub rules: HostRules,
    /// The text in force, which is to come back. It may hold secrets.
    pub before: Box<str>,
}

/// What was in force before a reload that is to be confirmed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingsBefore {
    /// Of the whole file; what of it is the reactor's.
    pub text: Box<str>,
    pub rules: HostRules,
}

/// In the form of recordings: later versions understand it.
impl Serialize for HostRules {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        plain::rules_text(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HostRules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HostRules, D::Error> {
        let text: Box<str> = Deserialize::deserialize(deserializer)?;
        plain::read_rules(&text).map_err(serde::de::Error::custom)
    }
}

impl NewSettings {
    pub(super) fn plan(&self) -> SettingsPlan {
        let names = |keys: &[Box<str>]| keys.iter().map(ToString::to_string).collect();
        match &self.problem {
            Some(problem) => SettingsPlan {
                problem: Some(problem.to_string()),
                ..SettingsPlan::default()
            },
            None => SettingsPlan {
                live: names(&self.live),
                at_start: names(&self.at_start),
                problem: None,
            },
        }
    }

    /// Something of it is taken over at once.
    fn changes(&self) -> bool {
        self.problem.is_none() && !self.live.is_empty()
    }
}

impl Engine {
    /// What is in force.
    pub fn host_rules(&self) -> HostRules {
        HostRules {
            limits: self.storm.limits,
            alerts: self.alerts.rules.clone(),
            max_checks: self.slots.most,
            shutdown_timeout: self.shutdown_timeout,
        }
    }

    /// The name of the alert of this number.
    pub fn alert_name(&self, rule: u16) -> Option<&str> {
        let rule = self.alerts.rules.get(usize::from(rule))?;
        Some(&rule.name)
    }

    /// What a reload that can go back, or did, would put in force again.
    pub fn settings_before(&self) -> Option<&str> {
        let reload = self.reload.as_ref()?;
        reload.settings.as_ref().map(|before| &*before.text)
    }

    /// What comes back when this reload is not confirmed.
    pub(super) fn settings_to_keep(
        &self,
        new: Option<&NewSettings>,
    ) -> Option<Box<SettingsBefore>> {
        let new = new.filter(|new| new.changes())?;
        Some(Box::new(SettingsBefore {
            text: new.before.clone(),
            rules: self.host_rules(),
        }))
    }

    pub(super) fn take_settings(&mut self, new: &NewSettings) {
        if new.changes() {
            self.take_rules(&new.rules, &new.live);
        }
    }

    /// As they were before a reload.
    pub(super) fn put_settings_back(&mut self, before: &SettingsBefore) {
        self.take_rules(&before.rules, &[]);
        self.effects.push(Effect::RevertSettings);
    }

    fn take_rules(&mut self, new: &HostRules, changed: &[Box<str>]) {
        self.shutdown_timeout = new.shutdown_timeout;
        self.change_slots(new.max_checks);
        self.change_alerts(&new.alerts, changed);
        self.change_limits(new.limits);
    }
}
