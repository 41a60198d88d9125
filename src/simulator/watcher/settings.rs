//! The daemon's settings, by the model: those of the last reload that was done, or of the one that
//! went back, and of the file where a daemon begins.

use super::Watcher;
use crate::engine::{Boot, Effect, Engine, HostRules, NewSettings};
use crate::time::Time;

impl Watcher {
    /// A world's, before its first daemon.
    pub fn set_rules(&mut self, rules: HostRules) {
        self.line.limits = rules.limits;
        self.most_checks = rules.max_checks;
        self.rules = rules;
    }

    fn take_rules(&mut self, rules: HostRules) {
        self.alerts.redefine(&rules.alerts);
        self.set_rules(rules);
    }

    /// A reload was done; what comes back if it is not confirmed.
    pub(super) fn settings_taken(&mut self, new: Option<&NewSettings>) -> Option<HostRules> {
        let new = new.filter(|new| new.problem.is_none() && !new.live.is_empty())?;
        let before = self.rules.clone();
        self.take_rules(new.rules.clone());
        Some(before)
    }

    /// Before anything is said by them.
    pub(super) fn settings_back(&mut self, now: Time, effects: &[Effect]) {
        if !effects.contains(&Effect::RevertSettings) {
            return;
        }
        let kept = self.kept.as_ref().and_then(|kept| kept.rules.clone());
        match kept {
            Some(rules) => self.take_rules(rules),
            None => self.breach(now, "settings went back, and none could".to_owned()),
        }
    }

    pub(super) fn settings_at_boot(&mut self, boot: &Boot) {
        let left = boot.left.as_deref().and_then(|left| left.settings());
        let rules = match left {
            Some(before) => before.rules.clone(),
            None => HostRules {
                limits: boot.limits,
                alerts: boot.alerts.clone(),
                max_checks: boot.max_checks,
                shutdown_timeout: boot.shutdown_timeout,
            },
        };
        self.alerts.begin(&rules.alerts, self.same_boot);
        self.set_rules(rules);
    }

    /// What must hold of them when an event is over.
    pub(super) fn settings_stand(&self, engine: &Engine) -> Option<String> {
        let changed = self.step.reload || self.step.boot || self.step.timers;
        (changed && engine.host_rules() != self.rules)
            .then(|| "the settings in force are not those that were taken".to_owned())
    }
}
