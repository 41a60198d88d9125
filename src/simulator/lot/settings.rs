//! `vitald.toml`, changed while the world runs, and the reloads that take it over.

use super::*;

impl Lot {
    /// In a third of the worlds.
    pub(super) fn settings(&mut self, plan: &mut Plan) {
        if !self.chance(333) {
            return;
        }
        let minutes = (plan.length / plan.pace).as_secs().div_ceil(60);
        for _ in 0..1 + self.below(4 * minutes) {
            let seconds = self.of(&[2, 10, 60]) * self.pace;
            let command = match self.below(6) {
                0 | 1 => format!("restart-limit {} {seconds}s", self.below(4)),
                2 => "storm 0 0".to_owned(),
                3 => format!(
                    "storm {} {} {seconds}s",
                    self.below(4),
                    self.of(&[0, 30, 70])
                ),
                4 => format!("max-probes {}", self.of(&["1", "2", "any"])),
                _ => format!("alert-rules {}", self.below(5)),
            };
            let confirm = format!("reload --confirm {}s", 10 * self.pace);
            let reload = self.of(&["reload", "reload", "reload --strict", &confirm]);
            let at = self.time(plan.length);
            for (command, when) in [(command.as_str(), When::Now), (reload, self.when())] {
                plan.deeds.push(Deed {
                    at,
                    fault: Fault::Reload,
                    when,
                    what: What::Command(command.to_owned()),
                    service: None,
                });
            }
        }
    }
}
