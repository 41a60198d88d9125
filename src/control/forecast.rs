//! What a simulation tells: the answer of `policy.simulate` and of `vitald simulate --json`.
//!
//! Plain data with one JSON form; made by the simulator, drawn by [`render`](super::render). It is
//! drawn where it is made, so that nobody has to read it back: see [`Forecast::report`].
//! Times end in `_ms` and count from the simulation's beginning.

use crate::engine::status::StoryLine;
use serde::Serialize;

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Forecast {
    pub service: String,
    /// Where its definition stands, and what was laid over it.
    pub source: String,
    pub set: Vec<String>,
    /// What was to happen, a statement each.
    pub scenario: Vec<String>,
    /// When 0 was (RFC 3339), of a history; null: it is only imagined.
    pub origin: Option<String>,
    pub length_ms: u64,
    /// Why it ended before that.
    pub cut: Option<String>,
    /// What was taken to be so without being said.
    pub assumed: Vec<String>,
    pub summary: Summary,
    /// What really came of it, of a history.
    pub actual: Option<Actual>,
    pub timeline: Vec<Moment>,
    pub lanes: Lanes,
    /// The same as text, a line each; only over the socket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub report: Vec<String>,
}

/// A line of the timeline.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Moment {
    pub at_ms: u64,
    /// Null: lines are left out here.
    pub event: Option<StoryLine>,
    /// So often what stands before it came again, up to here.
    pub repeated: u64,
    /// So many lines are left out, for they would be too many.
    pub left_out: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Summary {
    pub restarts: Restarts,
    /// Used at the end.
    pub attempts: u32,
    /// Null: any number.
    pub max_attempts: Option<u32>,
    /// When the budget was used up first.
    pub spent_ms: Option<u64>,
    pub refunds: u32,
    pub last_refund_ms: Option<u64>,
    /// How often no restart was made because none was allowed any more, when first, and why.
    pub gave_up: u32,
    pub gave_up_ms: Option<u64>,
    pub gave_up_reason: Option<String>,
    /// When it answered first.
    pub first_answer_ms: Option<u64>,
    /// Times in which users got no answer; the first start, if it succeeds, is none.
    pub outages: u32,
    pub down_ms: u64,
    pub down: Down,
    pub longest_ms: u64,
    pub longest_from_ms: u64,
    /// Of a million parts of the time, so many with an answer; null: nobody asks a oneshot.
    pub up_ppm: Option<u32>,
    /// How it ends; given up: no restart is allowed that it needs.
    pub state: String,
    pub health: Option<String>,
    pub given_up: bool,
}

/// Restarts by cause.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Restarts {
    pub all: u32,
    pub unhealthy: u32,
    pub exit: u32,
    pub start_timeout: u32,
    /// By operators; these spend no attempt.
    pub operator: u32,
    pub other: u32,
}

/// The time without an answer, by what it was spent with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Down {
    /// Nobody knew yet.
    pub unnoticed_ms: u64,
    /// The gate waited for the stability window.
    pub stability_ms: u64,
    pub hold_ms: u64,
    pub dependency_ms: u64,
    pub stopping_ms: u64,
    pub backoff_ms: u64,
    pub starting_ms: u64,
    /// No restart was allowed any more.
    pub given_up_ms: u64,
    /// An operator wanted it so.
    pub stopped_ms: u64,
    /// No daemon looked after it.
    pub no_daemon_ms: u64,
}

impl Down {
    /// Each part with its words, in the order in which they come.
    pub fn parts(&self) -> [(u64, &'static str); 10] {
        [
            (self.unnoticed_ms, "until noticed"),
            (self.stability_ms, "waiting for the stability window"),
            (self.hold_ms, "waiting for a hold"),
            (self.dependency_ms, "waiting for a dependency"),
            (self.stopping_ms, "stopping"),
            (self.backoff_ms, "backoff"),
            (self.starting_ms, "starting"),
            (self.given_up_ms, "given up"),
            (self.stopped_ms, "stopped by an operator"),
            (self.no_daemon_ms, "without a daemon"),
        ]
    }
}

/// What a history says of itself.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Actual {
    pub restarts: u32,
    pub gave_up_ms: Option<u64>,
}

/// What is drawn over the time.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Lanes {
    /// From when to when users got no answer.
    pub down: Vec<Stretch>,
    pub states: Vec<StateAt>,
    /// Attempts used from then on.
    pub attempts: Vec<AttemptsAt>,
    pub decisions: Vec<DecisionAt>,
    /// There were more changes than are told here.
    pub thinned: bool,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Stretch {
    pub from_ms: u64,
    pub to_ms: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct StateAt {
    pub at_ms: u64,
    pub state: String,
    pub unhealthy: bool,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct AttemptsAt {
    pub at_ms: u64,
    pub used: u32,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct DecisionAt {
    pub at_ms: u64,
    pub verdict: String,
    pub reason: String,
}
