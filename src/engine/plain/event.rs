//! Events and effects.

use super::*;
use crate::config::StormLimits;
use crate::config::alerts::Rule;
use crate::engine::alerts::{Alert, AlertRecord};
use crate::engine::plan::Plan;
use crate::engine::snapshot::{
    Before, HoldRecord, ReloadRecord, ServiceSnapshot, WantedRecord, Watched, WentBack,
};
use crate::engine::storm::StormRecord;
use crate::engine::story::{Decision, Transition};
use crate::engine::{
    Accepted, Boot, BootGuard, Command, Counted, Defined, Due, Effect, Event, Found, Gathered,
    Given, HookEnd, HostRules, Left, Loaded, NewInstance, NewSettings, Record, Refusal, Request,
    SettingsBefore, Sought, SpawnError, Terms, Watchdogs,
};
use crate::exit::{Exit, Signal};
use crate::id::{CheckId, Pid, RunId, ServiceId, Ticket};
use crate::probe::{Outcome, Report};
use crate::service::doubt::Strain;
use crate::service::hook::Hook;
use crate::service::notify::Notice;
use crate::time::Time;

serde! {
    Hook Outcome ServiceSnapshot WantedRecord HoldRecord Transition Decision WentBack Watched Plan
    Alert AlertRecord StormRecord
}

fields! { StormLimits { count per services percent within } }

newtype! { Time ServiceId Pid Ticket Signal }
fields! { RunId { service number } }
fields! { CheckId { run probe serial } }
variants! { Exit { Unknown; Code Signal; } }

variants! { Event {
    Turn Timers;
    Boot Resumed Request ClockSet;
    Spawned { run pid started }
    Executed { run }
    SpawnFailed { run error }
    Exited { run exit tree_gone }
    OutOfMemory { run kills }
    TreeEnded { run left }
    MainSought { run sought }
    Looked { run strain }
    Notified { run says }
    Stored { service held }
    Listening { service waits error }
    Connected { service socket }
    HookSpawned { run hook pid started }
    HookEnded { run hook end }
    EvidenceDone { run dossier }
    ExhaustedTold { service }
    AlertSent { number error }
    Due { service due }
    RebootCounted { service counted }
    ProbeFinished { check report }
    Durable { seq error }
    Reloaded { ticket files terms settings }
} }

variants! { Sought {
    ;
    NotYet Wrong Gone;
    Main { pid started }
} }

fields! { Gathered { id summary } }
fields! { Strain { cpu memory io own_cpu_us } }
variants! { Counted { Yes TooMany Unwritten;; } }

fields! { Due { now_ms last_ms next_ms } }

fields! { HookEnd { exit error tree_gone output } }

fields! { Boot {
    definitions wanted services transitions decisions hold wall_ms deaf main shutdown_timeout
} may {
    left watchdogs guard alerts alerted limits storm max_checks reboots
} }

fields! { Rule { name on services timeout repeat_after } }

fields! { HostRules { limits alerts max_checks shutdown_timeout } }
fields! { NewSettings { problem live at_start rules before } }
fields! { SettingsBefore { text rules } }

fields! { BootGuard { failed attempts ok_after } }

fields! { Watchdogs { device parent } }

fields! { Left { record same_boot same_files } }

fields! { Terms { dry_run strict confirm by wall_ms digest } }

fields! { ReloadRecord { by at_wall_ms until length_ms digest went_back before watched } may {
    verdict settings yielded
} }

fields! { Before { name source definition problem } }

variants! { Found {
    Gone;
    Ended;
    Alive { pid started }
} }

fields! { Loaded { name source definition } }

variants! { Notice {
    Ready Reloading Stopping Watchdog Trigger;
    Status Errno Period Extend;
    Main { pid started }
} }

fields! { SpawnError { step errno ours } }

fields! { Request { ticket actor wall_ms wait command } }

variants! { Command {
    Release Confirm Revert;
    Set Instance;
    Start { service with_requires }
    StartPinned { service with_requires }
    Stop { service }
    StopForNow { service }
    Once { service }
    Restart { service }
    Reset { service }
    Pin { service }
    Unpin { service }
    Reload { service }
    Signal { service signal }
    ProbeRun { service probe }
    Delete { service }
    Hold { length }
    AlertTest { name }
    Shutdown { keep }
} }

fields! { Defined { name source definition } }

fields! { NewInstance { name files once with_requires } may { pin } }

fields! { Given { name source definition text } }

fields! { Report { outcome latency output } }

// Definitions in effects are those of events: a fingerprint is enough, and whoever writes adds it.
variants! { put Effect {
    FeedWatchdog TellAlive BootWell Reboot RevertSettings;
    Record;
    Remember { seq wanted }
    Keep { seq reload }
    Spawn { run, skips definition }
    FindMain { run, skips definition }
    Look { run }
    RemoveDirectories { service runtime, skips definition }
    Signal { run pid signal group }
    Hook { run hook main end, skips definition }
    HookSignal { run hook signal }
    EndTree { run pid signal grace }
    KillTree { run pid }
    CollectEvidence { run pid cause reason timeout, skips definition }
    EvidenceOver { run more }
    Check { check, skips definition }
    CheckExpired { check }
    CheckCancelled { check }
    Answer { ticket answer }
    TellExhausted { service reason, skips definition }
    SendAlert { rule alert tries last }
    AlertExpired { number }
    CountReboot { service }
    AskDue { service since_ms, skips definition }
    Listen { service watch, skips definition }
    Unlisten { service }
    Unstore { service }
    Forget { service }
    Exit { code }
} }

variants! { put Record {; Service Transition Decision Hold Reload Alert Storm; } }

fields! { Accepted { note durable reports } may { plan } }

fields! { put Refusal { code message } may { plan } }
