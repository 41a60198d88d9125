//! Observation: a service, or a probe, that would restart a run, and may only tell so.
//!
//! A service with `observe = true` goes through the gate as any other. Where the gate would have
//! allowed a restart for its health, that is a decision ("would restart"), counted, and the run is
//! left as it is. A process that ends by itself is started again as ever: observation never makes
//! things worse.
//!
//! Invariant: one trouble of one run is counted once, however often the gate is asked, and over the
//! daemon's death.

use super::table::{Shadow, Standing};
use super::*;
use crate::service::state::Cause;
use story::Verdict;

impl Engine {
    /// The gate would have allowed it.
    pub(super) fn shadow(&mut self, id: ServiceId, standing: Standing, trouble: Box<str>) {
        let key = self.service_key(id, Key::gate);
        self.timers.cancel(key);
        self.leave_storm(id);
        let service = self.service_mut(id);
        let (run, since, cause) = (service.number, standing.trouble_since, standing.cause);
        let used = service.attempts;
        service.standing = Some(standing);
        let before = service.shadow;
        if before.run == run && before.since == since {
            return self.mark(id);
        }
        service.shadow = Shadow {
            attempts: before.attempts.saturating_add(1),
            run,
            since,
        };
        self.decide(id, cause, Verdict::WouldRestart, trouble, used, None);
    }

    /// An observing probe went down.
    pub(super) fn shadow_of_probe(&mut self, id: ServiceId, index: u16) {
        let service = self.service_mut(id);
        let Some(run) = service.run.as_mut() else {
            return;
        };
        let watch = &mut run.probes[usize::from(index)];
        watch.shadow_attempts = watch.shadow_attempts.saturating_add(1);
        let used = service.attempts;
        let words = format!("observing probe: {}", self.probe_words(id, index)).into();
        let (cause, verdict) = (Cause::Unhealthy, Verdict::WouldRestart);
        self.decide(id, cause, verdict, words, used, None);
    }
}
