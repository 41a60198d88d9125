//! Probes that are run by hand: asked now, answered to who asked. They move nothing.

use super::operator::refuse;
use super::*;
use crate::config::socket::reaches;
use crate::id::{CheckId, Ticket};
use crate::probe::Report;

/// Probes that are run by hand.
#[derive(Debug)]
pub(super) struct Manual {
    pub(super) ticket: Ticket,
    pub(super) open: Vec<(CheckId, Box<str>, Time)>,
    pub(super) reports: Vec<(Box<str>, Report)>,
}

impl Engine {
    pub(super) fn verb_probe(
        &mut self,
        ticket: Ticket,
        id: ServiceId,
        probe: Option<u16>,
    ) -> Result<(), Refusal> {
        let name = self.service(id).name.clone();
        if self.manual.len() >= limits::MAX_PROBE_RUNS {
            let words = "too many probes are run by hand: wait for their answers";
            return Err(refuse(code::TOO_MANY, words));
        }
        let Some(definition) = self.service(id).definition.clone() else {
            return Err(refuse(
                code::CONFIG,
                &format!("{name} has no good definition"),
            ));
        };
        let chosen = |index: usize| probe.is_none_or(|only| usize::from(only) == index);
        let own = |(_, probe): (usize, &crate::config::Probe)| {
            let mut sockets = definition.sockets().iter();
            sockets.any(|socket| reaches(&probe.ask, socket))
        };
        let mut probes = definition.probes.iter().enumerate();
        if self.is_listening(id) && probes.any(|(n, p)| chosen(n) && own((n, p))) {
            let words = format!(
                "{name} does not run, and listens: a probe would be a connection that starts it; \
                 `start {name}` does so, too"
            );
            return Err(refuse(code::IS_DOWN, &words));
        }
        let run = RunId {
            service: id,
            number: self.service(id).number,
        };
        let mut open = Vec::new();
        for (index, asked) in definition.probes.iter().enumerate() {
            let index = index as u16;
            if probe.is_some_and(|only| only != index) {
                continue;
            }
            self.serial = self.serial.wrapping_add(1);
            let check = CheckId {
                run,
                probe: index,
                serial: self.serial,
            };
            open.push((check, asked.name.clone(), self.now + asked.timeout));
            self.effects.push(Effect::Check {
                check,
                definition: definition.clone(),
            });
        }
        if open.is_empty() {
            let words = format!(
                "{name} has no probes: add a [[probe]] to {}",
                self.service(id).source
            );
            return Err(refuse(code::CONFIG, &words));
        }
        self.manual.push(Manual {
            ticket,
            open,
            reports: Vec::new(),
        });
        self.set_manual_timer();
        Ok(())
    }

    pub(super) fn set_manual_timer(&mut self) {
        let deadlines = self
            .manual
            .iter()
            .flat_map(|m| m.open.iter().map(|(.., until)| *until));
        match deadlines.min() {
            Some(until) => self.timers.set(Key::MANUAL, until),
            None => self.timers.cancel(Key::MANUAL),
        }
    }

    pub(super) fn manual_due(&mut self) {
        let now = self.now;
        for manual in &mut self.manual {
            for (check, _, until) in &mut manual.open {
                if *until <= now {
                    self.effects.push(Effect::CheckExpired { check: *check });
                    // Its answer comes at once; never ask for it twice.
                    *until = Time::MAX;
                }
            }
        }
        self.set_manual_timer();
    }

    /// The answer of a probe that was run by hand: it moves nothing.
    pub(super) fn manual_finished(&mut self, check: CheckId, report: &Report) -> bool {
        let owner = self
            .manual
            .iter()
            .position(|m| m.open.iter().any(|(open, ..)| *open == check));
        let Some(at) = owner else { return false };
        let manual = &mut self.manual[at];
        if let Some(which) = manual.open.iter().position(|(open, ..)| *open == check) {
            let (_, name, _) = manual.open.remove(which);
            manual.reports.push((name, report.clone()));
        }
        if manual.open.is_empty() {
            let Manual {
                ticket, reports, ..
            } = self.manual.remove(at);
            self.answer(
                ticket,
                Ok(Accepted {
                    reports,
                    ..Accepted::default()
                }),
            );
        }
        self.set_manual_timer();
        true
    }
}
