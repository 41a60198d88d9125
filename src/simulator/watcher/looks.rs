//! What the model makes of looks at the host; and events in a word.

use super::Watcher;
use super::book::LookBook;
use crate::engine::{Engine, Event};
use crate::id::RunId;
use crate::service::doubt::Strain;
use crate::time::{Time, micros};

impl Watcher {
    pub(super) fn looked(&mut self, now: Time, run: RunId, strain: &Strain) {
        let late = self.late;
        let Some(run) = self.run(run) else { return };
        let long = run.looked.map_or(run.spawned_at, |look| look.at);
        let before = run.looked.map_or(0, |look| look.own_us);
        let own_us = strain.own_cpu_us.unwrap_or(0);
        let mut busy = own_us.saturating_sub(before) >= micros(now.since(long)) / 2;
        if now == long {
            busy = run.looked.is_some_and(|look| look.busy);
        }
        let pressed = strain.cpu >= 6000 && !busy;
        run.looked = Some(LookBook {
            at: now,
            pressed,
            own_us,
            busy,
        });
        if pressed && run.is_unfed(now, late) && run.unfed_doubts < 3 {
            run.unfed_doubts += 1;
            run.fed = Some((now, late));
        }
    }
}

/// For a breach: what was going on.
pub(super) fn words(event: &Event, engine: &Engine) -> String {
    let run = super::super::mischief::run_of(event);
    let name = run.map(|run| format!(" {} {}", engine.name(run.service), run.number));
    let kind = match event {
        Event::Boot(_) => "boot",
        Event::Turn => "turn",
        Event::Timers => "timers",
        Event::Resumed(_) => "resumed",
        Event::Spawned { .. } => "spawned",
        Event::Executed { .. } => "executed",
        Event::SpawnFailed { .. } => "spawn failed",
        Event::Exited { .. } => "exited",
        Event::OutOfMemory { .. } => "out of memory",
        Event::TreeEnded { .. } => "tree ended",
        Event::MainSought { .. } => "main process sought",
        Event::Looked { .. } => "looked at the host",
        Event::HookSpawned { .. } => "command spawned",
        Event::HookEnded { .. } => "command ended",
        Event::ProbeFinished { .. } => "probe finished",
        Event::Request(_) => "request",
        Event::Durable { .. } => "durable",
        Event::ExhaustedTold { .. } => "exhaustion told",
        Event::Notified { .. } => "notified",
        Event::Stored { .. } => "stored",
        Event::Listening { .. } => "listening",
        Event::Connected { .. } => "connected",
        Event::Reloaded { .. } => "reloaded",
    };
    format!("{kind}{}", name.unwrap_or_default())
}
