//! What `vitald.toml` of a world says, as far as it matters there; changed while the daemon runs, and
//! taken over by its reloads and its next lives.

use super::*;
use crate::engine::{HostRules, NewSettings};

impl World {
    /// As a daemon that starts now would read it.
    pub(super) fn rules(&self) -> HostRules {
        HostRules {
            limits: self.limits,
            alerts: self.alerts.clone(),
            max_checks: self.max_checks,
            shutdown_timeout: self.shutdown_timeout,
        }
    }

    /// Beside what is in force; None: it is the same.
    pub(super) fn new_settings(&self) -> Option<Box<NewSettings>> {
        let (old, rules) = (self.engine.as_ref()?.host_rules(), self.rules());
        let limits = (old.limits.count, old.limits.per) != (rules.limits.count, rules.limits.per);
        let incidents = |l: StormLimits| (l.services, l.percent, l.within);
        let mut live: Vec<Box<str>> = Vec::new();
        for (key, differs) in [
            ("health_restart_limit", limits),
            ("storm", incidents(old.limits) != incidents(rules.limits)),
            ("max_concurrent_probes", old.max_checks != rules.max_checks),
            (
                "shutdown_timeout_ms",
                old.shutdown_timeout != rules.shutdown_timeout,
            ),
        ] {
            if differs {
                live.push(key.into());
            }
        }
        if old.alerts != rules.alerts {
            let one = |before: &[Rule], after: &[Rule]| {
                let differs = before.iter().filter(|rule| !after.contains(rule));
                let names = differs.map(|rule| format!("alert.{}", rule.name).into());
                names.collect::<Vec<Box<str>>>()
            };
            live.extend(one(&old.alerts, &rules.alerts));
            live.extend(one(&rules.alerts, &old.alerts));
            live.sort();
            live.dedup();
            if live.is_empty() {
                // Nothing but their order.
                live.push("alert".into());
            }
        }
        let problem = self.settings_problem.clone();
        (problem.is_some() || !live.is_empty()).then(|| {
            Box::new(NewSettings {
                problem,
                live,
                rules,
                ..NewSettings::default()
            })
        })
    }

    /// `alert-rules 1`: of those that there were first, so many less, or in another order.
    pub(super) fn choose_alerts(&mut self, which: u32) {
        let first = self.all_alerts.get_or_insert_with(|| self.alerts.clone());
        self.alerts = match which {
            0 => first.clone(),
            1 => first.iter().take(1).cloned().collect(),
            2 => first.iter().rev().cloned().collect(),
            3 => first.iter().skip(1).cloned().collect(),
            _ => Vec::new(),
        };
    }
}
