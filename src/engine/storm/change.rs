//! Other limits while there are restarts by those before: what a reload of `vitald.toml` changes.
//!
//! Who waits is asked anew when the event is over. Invariant: nobody waits for what can no longer
//! come: an incident ends when there are to be none.

use super::*;

impl Engine {
    pub(in crate::engine) fn change_limits(&mut self, limits: StormLimits) {
        if self.storm.limits == limits {
            return;
        }
        self.storm.limits = limits;
        self.storm.changed = true;
        // Whose turn it is, and when, may be something else now.
        self.storm.renew = true;
        let incident = self.storm.record.incident.as_ref();
        if let Some(incident) = incident.filter(|_| !limits.has_incidents()) {
            let from = if incident.held.is_some() {
                "held"
            } else {
                "storm"
            };
            self.tell_storm(from, "calm", "config", "many at once are no incident now");
            self.storm.record.incident = None;
        }
        if !limits.has_incidents() {
            self.storm.record.sick = Vec::new();
        }
        if limits.is_off() {
            self.storm.record.patient = None;
        }
    }
}
