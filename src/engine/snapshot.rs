//! What of a service outlives the daemon, as it is journalled.
//!
//! Each record is whole: the last one of a service is all there is to know, so replay is
//! "the last line wins". Times are monotonic and hold within one boot.

use crate::config::Definition;
use crate::engine::SettingsBefore;
use crate::engine::table::{Cure, Evidence, Exhausted, Shadow, Timed};
use crate::exit::Exit;
use crate::id::Pid;
use crate::probe::Outcome;
use crate::service::hook::Progress;
use crate::service::state::Wanted;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it so
fn is_false(flag: &bool) -> bool {
    !flag
}

/// One service in the runtime journal. Fields are added, never renamed; missing ones default.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSnapshot {
    pub name: Box<str>,
    pub wanted: Option<WantedRecord>,
    /// `inactive`, `blocked` … as shown.
    pub state: Box<str>,
    pub cause: Box<str>,
    /// Since when it is in that state.
    pub since: Time,
    /// Why it failed or cannot start, in words.
    pub trouble: Box<str>,
    /// The number of the present or last run.
    pub number: u32,
    pub attempts: u32,
    /// The lifecycle deadline in force: backoff's end, the stop's SIGKILL, the start's limit.
    pub deadline: Option<Time>,
    pub run: Option<RunSnapshot>,
    pub exhausted: Exhausted,
    /// Restarts for its health in a row that did not cure it.
    #[serde(skip_serializing_if = "is_none")]
    pub uncured: u32,
    pub last_end: Option<EndRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dossier: Option<Box<DossierRecord>>,
    /// The run that ended is to be followed by another.
    pub restarting: bool,
    /// The health restart whose cure is awaited.
    pub cure: Option<Cure>,
    /// What would have been done to it, were it not observed only.
    #[serde(skip_serializing_if = "Shadow::is_none")]
    pub shadow: Shadow,
    /// Its definition is gone; it is stopped when these are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leaves_after: Vec<Box<str>>,
    /// Wanted once.
    #[serde(skip_serializing_if = "is_false")]
    pub once: bool,
    /// What is wanted from the next boot on, where that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_boot: Option<Wanted>,
    /// In the line of those who wait for a restart for their health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm_place: Option<u64>,
    /// How it stands with its schedule.
    #[serde(skip_serializing_if = "is_off")]
    pub timed: Timed,
}

fn is_off(timed: &Timed) -> bool {
    *timed == Timed::default()
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RunSnapshot {
    /// None: the intent to spawn was recorded, the process's id not yet.
    pub pid: Option<Pid>,
    /// Start time in clock ticks since boot (proc(5), stat field 22).
    pub started: u64,
    pub spawned_at: Time,
    pub executed: bool,
    pub ready_at: Option<Time>,
    /// Cause that began it.
    pub begun_by: Box<str>,
    /// It began by a restart (the stability window applies).
    pub restarted: bool,
    pub stop: Option<StopSnapshot>,
    /// It passed its start limit and was not restarted.
    #[serde(default)]
    pub overdue: bool,
    /// Its start limit stands still since then: it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excused_since: Option<Time>,
    pub exit: Option<Exit>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub oom_kills: u64,
    /// The first process of a forking daemon has ended well, its main one is not known.
    #[serde(default, skip_serializing_if = "is_false")]
    pub seeking: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<ToldSnapshot>,
    /// The commands around it.
    #[serde(default, skip_serializing_if = "Progress::is_blank")]
    pub hooks: Progress,
    #[serde(default, skip_serializing_if = "is_none")]
    pub start_doubts: u32,
    #[serde(default)]
    pub probes: Vec<ProbeSnapshot>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it so
fn is_none(number: &u32) -> bool {
    *number == 0
}

/// What the run has said of itself.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ToldSnapshot {
    pub ready: bool,
    pub reloading: bool,
    pub stopping: bool,
    pub status: Box<str>,
    pub errno: Option<i32>,
    /// By `MAINPID=`: process id and start time.
    pub main: Option<(Pid, u64)>,
    /// By `WATCHDOG_USEC=`.
    pub period_us: Option<u64>,
    /// The watchdog: since when it is fed without a miss, or is missed.
    pub fed_since: Option<Time>,
    pub missed_since: Option<Time>,
    pub missed: Box<str>,
    #[serde(skip_serializing_if = "is_none")]
    pub doubted: u32,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StopSnapshot {
    pub cause: Box<str>,
    /// Not started again although wanted, and so it was defined.
    pub final_stop: bool,
    /// An operator said stop.
    #[serde(default)]
    pub wanted: bool,
    /// The operator asked for a start meanwhile.
    pub then_start: bool,
    pub killed: bool,
    /// It begins when those are gone who go down with it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub waits: bool,
    /// It begins when evidence was collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// When SIGKILL is due, or was sent; before that, when the stop itself begins.
    pub deadline: Time,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeSnapshot {
    pub name: Box<str>,
    pub failures: u32,
    pub passes: u32,
    pub up: Option<bool>,
    pub chain_since: Option<Time>,
    pub passed_once: bool,
    pub failing_since: Option<Time>,
    pub last_pass_begun: Option<Time>,
    pub inconclusive: u32,
    pub inconclusive_since: Option<Time>,
    /// Of its window.
    #[serde(skip_serializing_if = "is_zero")]
    pub recent: u64,
    pub shadow_attempts: u32,
    pub last: Option<Outcome>,
    #[serde(skip_serializing_if = "is_none")]
    pub doubted: u32,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EndRecord {
    pub cause: Box<str>,
    pub exit: Exit,
    pub at: Time,
}

/// The last dossier of a service: where it is found, and what it says in short.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DossierRecord {
    pub id: Box<str>,
    pub run: u32,
    pub at: Time,
    pub summary: Box<str>,
}

/// An operator's will, as the state directory keeps it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WantedRecord {
    pub name: Box<str>,
    /// `start` or `stop`; empty: forgotten.
    pub wanted: Box<str>,
    pub by: Box<str>,
    /// Milliseconds since 1970.
    pub at_wall_ms: u64,
    /// Only a word about itself changes it.
    #[serde(skip_serializing_if = "is_false")]
    pub pinned: bool,
    /// The text of the definition that an operator gave; None: there is none but in files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<Box<str>>,
    /// With `catch_up`: up to here, by the wall clock, what was due is dealt with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}

impl WantedRecord {
    /// It is only for the schedule's sake: nobody has said what is wanted.
    pub fn is_of_a_schedule(&self) -> bool {
        self.since_ms.is_some() && self.by.is_empty() && self.definition.is_none()
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HoldRecord {
    pub owner: Box<str>,
    pub since: Time,
    pub until: Option<Time>,
}

/// A reload that waits to be confirmed, or that went back: what was in force before it, which is
/// what comes back, or is in force in place of the files.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadRecord {
    /// Who reloaded, when by the wall clock (milliseconds since 1970).
    pub by: Box<str>,
    pub at_wall_ms: u64,
    /// It goes back then; of this boot.
    pub until: Time,
    /// Why it goes back before its time was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Box<str>>,
    /// What the operator allowed, in milliseconds.
    pub length_ms: u64,
    /// Tells the files that were read from others.
    pub digest: u64,
    /// None: it can still be confirmed.
    pub went_back: Option<WentBack>,
    /// Of each service that it touched.
    pub before: Vec<Before>,
    /// Who has to be well.
    pub watched: Vec<Watched>,
    /// The daemon's settings, where it changed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Box<SettingsBefore>>,
    /// Who was wanted, and is not since it conflicts with what was reloaded: as it was wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub yielded: Vec<WantedRecord>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WentBack {
    /// By the monotonic clock; of another boot: when the daemon came.
    pub at: Time,
    pub why: Box<str>,
}

/// A service as it was defined; without definition and problem: it was not.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Before {
    pub name: Box<str>,
    pub source: Box<str>,
    #[serde(with = "as_text")]
    pub definition: Option<Rc<Definition>>,
    pub problem: Option<Box<str>>,
}

/// A service that has to be well for a reload to stay.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Watched {
    pub name: Box<str>,
    /// Then at the latest; None: its own start limit judges it.
    pub until: Option<Time>,
}

impl ReloadRecord {
    pub fn is_open(&self) -> bool {
        self.went_back.is_none()
    }
}

/// A definition in the form of recordings: whole, and understood by later versions.
mod as_text {
    use super::{Definition, Rc};
    use crate::engine::plain;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    pub fn serialize<S: Serializer>(
        definition: &Option<Rc<Definition>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = definition.as_deref().map(plain::definition_text);
        text.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Rc<Definition>>, D::Error> {
        let text: Option<Box<str>> = Option::deserialize(deserializer)?;
        let read = |text: Box<str>| plain::read_definition(&text).map(Rc::new);
        text.map(read).transpose().map_err(D::Error::custom)
    }
}
