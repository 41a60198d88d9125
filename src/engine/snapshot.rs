//! What of a service outlives the daemon, as it is journalled.
//!
//! Each record is whole: the last one of a service is all there is to know, so replay is
//! "the last line wins". Times are monotonic and hold within one boot.

use crate::engine::table::{Cure, Exhausted};
use crate::exit::Exit;
use crate::id::Pid;
use crate::probe::Outcome;
use crate::service::hook::Progress;
use crate::time::Time;
use serde::{Deserialize, Serialize};

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
    pub last_end: Option<EndRecord>,
    /// The run that ended is to be followed by another.
    pub restarting: bool,
    /// The health restart whose cure is awaited.
    pub cure: Option<Cure>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<ToldSnapshot>,
    /// The commands around it.
    #[serde(default, skip_serializing_if = "Progress::is_blank")]
    pub hooks: Progress,
    #[serde(default)]
    pub probes: Vec<ProbeSnapshot>,
}

fn is_zero(number: &u64) -> bool {
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
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StopSnapshot {
    pub cause: Box<str>,
    /// Not started again although wanted: the budget is spent, and so it was defined.
    pub final_stop: bool,
    /// An operator said stop.
    #[serde(default)]
    pub wanted: bool,
    /// The operator asked for a start meanwhile.
    pub then_start: bool,
    pub killed: bool,
    /// When SIGKILL is due, or was sent.
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
    pub shadow_attempts: u32,
    pub last: Option<Outcome>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EndRecord {
    pub cause: Box<str>,
    pub exit: Exit,
    pub at: Time,
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
    /// The text of the definition that an operator gave; None: there is none but in files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<Box<str>>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HoldRecord {
    pub owner: Box<str>,
    pub since: Time,
    pub until: Option<Time>,
}
