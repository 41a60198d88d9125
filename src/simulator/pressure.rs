//! The fake kernel's account of what the host is short of.

use super::kernel::{Answers, Kernel, told};
use crate::engine::Event;
use crate::id::RunId;
use crate::service::doubt::Strain;
use crate::time::{Time, micros};
use std::time::Duration;

impl Kernel {
    /// How the host is, and how much of that is this run's doing.
    pub fn look(&mut self, now: Time, service: &str, run: RunId) -> Answers {
        let pressed = now < self.pressed_until;
        let process = self.process(service, run.number);
        let age = process.map_or(0, |process| micros(now.since(process.born)));
        let strain = Strain {
            cpu: if pressed { self.pressure } else { 0 },
            own_cpu_us: Some(match self.script(service).burns {
                true => age,
                false => age / 100,
            }),
            ..Strain::default()
        };
        told(Duration::ZERO, Event::Looked { run, strain })
    }
}
