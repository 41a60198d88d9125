//! What an event is called where a breach is told.

use crate::engine::{Engine, Event};

pub(super) fn words(event: &Event, engine: &Engine) -> String {
    let run = crate::simulator::mischief::run_of(event);
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
        Event::AlertSent { .. } => "alert sent",
        Event::EvidenceDone { .. } => "evidence done",
        Event::Notified { .. } => "notified",
        Event::Stored { .. } => "stored",
        Event::Due { .. } => "due",
        Event::ClockSet(_) => "clock set",
        Event::RebootCounted { .. } => "reboot counted",
        Event::Listening { .. } => "listening",
        Event::Connected { .. } => "connected",
        Event::Reloaded { .. } => "reloaded",
    };
    format!("{kind}{}", name.unwrap_or_default())
}
