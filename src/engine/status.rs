//! What is shown of a service: plain data with one JSON form, made by the engine's queries, drawn
//! as text by `control`, read back by the command line.

use serde::{Deserialize, Serialize};

/// A service in `service.status` and `service.list`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub name: String,
    pub description: Option<String>,
    pub kind: String,
    /// `start`, `stop`, or `once`: one run, which none follows.
    pub wanted: String,
    /// What is wanted from the next boot on, where `wanted` is so for now only: `start`, `stop`.
    pub at_boot: Option<String>,
    /// Who said so last, when (RFC 3339); null when nobody did (autostart).
    pub wanted_by: Option<String>,
    pub wanted_at: Option<String>,
    /// Nothing but a word about it changes that.
    pub pinned: bool,
    /// `inactive` `blocked` `starting` `running` `stopping` `backoff` `exited` `failed`.
    pub state: String,
    /// The command of it that is under way: `pre_start` `stop_exec` `post_stop` `reload_exec`
    /// `undo` `diagnose` `repair`; or `evidence`, before a stop for its health; null: none.
    pub phase: Option<String>,
    /// Why it is in that state: `operator`, `exit`, `unhealthy` …
    pub cause: String,
    /// `unknown` `healthy` `unhealthy`, or null without probes.
    pub health: Option<String>,
    /// More on state or health: `requires db`, `no verdict since …: cannot fork`, `held` …
    pub detail: Option<String>,
    pub pid: Option<i32>,
    pub run: u32,
    pub attempts: u32,
    /// Null: unlimited.
    pub max_attempts: Option<u32>,
    /// Nothing is done for its health but told; how many restarts would have been made so far.
    pub observe: bool,
    pub shadow_attempts: u32,
    pub uptime_ms: Option<u64>,
    /// How long after its start the present run was ready; null: it is not, or nothing runs.
    pub ready_after_ms: Option<u64>,
    pub last_end: Option<LastEnd>,
    /// What it was stuck on when it was last stopped for its health; null: it was not, or no
    /// evidence is collected.
    pub dossier: Option<DossierStatus>,
    pub probes: Vec<ProbeStatus>,
    /// What it says of itself by `STATUS=`; null: nothing.
    pub status_text: Option<String>,
    /// `READY=1` is waited for, it says that it is reloading or stopping, an `ERRNO=`.
    pub says: Option<String>,
    /// Null: it has none.
    pub watchdog: Option<WatchdogStatus>,
    /// It is inactive, and a connection to one of its sockets starts it.
    pub listening: bool,
    /// When it is run by itself; null: it has no schedule.
    pub schedule: Option<ScheduleStatus>,
    /// What is held for it.
    pub sockets: Vec<SocketStatus>,
    /// Descriptors that are kept for its next run.
    pub stored_fds: u16,
    pub gate: Option<GateStatus>,
    /// The next thing that happens by itself: `start`, `SIGKILL`, `gate` …, and in how long.
    pub next: Option<String>,
    pub next_in_ms: Option<u64>,
    /// Null: nothing of note becomes of its output.
    pub log: Option<LogStatus>,
    /// How a whole tree is ended: `cgroup`, `best effort` (session, group, VITALD_RUN) or `process
    /// only`.
    pub tree: String,
    /// Only in the status of one service; null: nothing runs, or nobody counts.
    pub usage: Option<Usage>,
    /// How the definition in force stands, where it is not simply the file's: provisional until it
    /// is confirmed, or the one before a reload that went back.
    pub definition: Option<String>,
    /// The definition's file, and what is wrong with it.
    pub source: String,
    pub problem: Option<String>,
}

impl Status {
    pub const BEST_EFFORT: &'static str = "best effort";
}

/// What all processes of a run use together, by its cgroup.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Its directory.
    pub cgroup: String,
    /// Page cache included; null: not counted on this host.
    pub memory_bytes: Option<u64>,
    pub processes: u64,
    /// Processor time.
    pub cpu_ms: Option<u64>,
}

/// What becomes of a service's output, beside the usual.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogStatus {
    /// Lines that `log_rate_limit` dropped since the daemon began.
    pub dropped_lines: u64,
    /// The command that gets the output, and why it does not run; null: it has no logger.
    pub logger: Option<String>,
    pub logger_pid: Option<i32>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LastEnd {
    pub cause: String,
    pub code: Option<u8>,
    pub signal: Option<String>,
    /// RFC 3339.
    pub at: String,
}

/// `dossier show ID` shows the whole of it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DossierStatus {
    pub id: String,
    pub run: u32,
    /// RFC 3339.
    pub at: String,
    pub summary: String,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeStatus {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// Null: no verdict yet.
    pub up: Option<bool>,
    /// `restart` or `observe`.
    pub on_unhealthy: String,
    /// Consecutive passes (positive) or failures (negative).
    pub streak: i64,
    /// `pass`, `fail`, `inconclusive`; null before the first.
    pub outcome: Option<String>,
    pub reason: Option<String>,
    pub latency_us: Option<u64>,
    pub output: Option<String>,
    /// An observing probe: restarts it would have caused.
    pub shadow_attempts: u32,
    /// Answers since the last pass that were late and are not counted, because the host was under
    /// pressure or we were late; three times the failure threshold at most.
    pub doubted: u32,
}

/// What a service must say of itself again and again (`watchdog_ms`).
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchdogStatus {
    pub period_ms: u64,
    /// `waiting` until it is ready, `armed`, or `missed`.
    pub state: String,
    /// Until it is due; null: it is not armed.
    pub due_in_ms: Option<u64>,
    /// How it was missed.
    pub reason: Option<String>,
}

/// When a oneshot is run by itself.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScheduleStatus {
    /// `30 3 * * *`, `every 15m`.
    pub when: String,
    /// It is stopped, or wanted once: nothing is due.
    pub suspended: bool,
    /// When it is started next (RFC 3339), and in how long; null: never.
    pub due: Option<String>,
    pub due_in_ms: Option<u64>,
    /// How many times it was due and not started, because it was still at it.
    pub skipped: u32,
}

/// A socket that is held for a service.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SocketStatus {
    pub name: String,
    /// `tcp:127.0.0.1:8080`
    pub listen: String,
    pub open: bool,
}

/// The gate's last word on this run, while it stands.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GateStatus {
    pub verdict: String,
    pub reason: String,
    pub next_in_ms: Option<u64>,
}

/// The story of a service: `service.why`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Why {
    pub status: Status,
    /// Because of whom it is as it is, the nearest first; empty: of nobody but itself.
    pub chain: Vec<ChainLink>,
    /// Transitions and decisions, oldest first.
    pub story: Vec<StoryLine>,
    /// What comes next and when, in sentences.
    pub next: Vec<String>,
}

/// A service because of which another is as it is.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChainLink {
    pub service: String,
    /// `was restarted because of it`, `its restart waits for it`, `waits for it (requires)`: the one
    /// before.
    pub how: String,
    pub state: String,
    pub health: Option<String>,
    /// What is wrong with it, or how it ended last; empty: nothing, not yet.
    pub trouble: String,
    /// Of its last run, or this one.
    pub stuck_on: Option<String>,
    pub dossier: Option<String>,
    /// What happens with it next.
    pub next: String,
}

/// A transition or a decision; also an event of `events.subscribe`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoryLine {
    pub seq: u64,
    /// RFC 3339.
    pub time: String,
    pub service: String,
    pub run: u32,
    /// `state` `health` `wanted` `probe` `definition` `host` `timer` `dossier` `storm` `decision`
    /// `hold` `reload`.
    pub kind: String,
    pub from: String,
    /// For a decision: the verdict.
    pub to: String,
    pub cause: String,
    pub detail: String,
    /// For a decision: when it is carried out or looked at again (RFC 3339); null: when what it
    /// waits for changes.
    pub next: Option<String>,
    /// For a decision that allowed a restart, once known.
    pub cured: Option<bool>,
}

/// The daemon itself: `system.status`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DaemonStatus {
    pub version: String,
    pub pid: i32,
    pub uptime_ms: u64,
    /// How it took the place of another execution of its process (upgrade, panic); null: it did
    /// not.
    pub began: Option<String>,
    /// It is PID 1, and of what; null: it is not.
    pub init: Option<String>,
    /// The directory of services' cgroups; `none: `, and why.
    pub cgroups: Option<String>,
    /// Why it supervises without probing: it panicked too often; null: it does not.
    pub reduced: Option<String>,
    /// Why what is so, or what operators want, is not written: should the daemon or the host die it
    /// is forgotten. Empty: all is written.
    pub not_durable: Vec<String>,
    pub services: u32,
    pub running: u32,
    pub degraded: u32,
    pub failed: u32,
    pub hold: Option<HoldStatus>,
    /// Null: nobody waits, and there is no incident.
    pub storm: Option<StormStatus>,
    /// A reload that waits to be confirmed, or went back; null: the files are in force.
    pub reload: Option<ReloadStatus>,
    /// The host's watchdog; null: there is none, or it is not ours to feed.
    pub watchdog: Option<HostWatchdog>,
    /// Only the safe set was started, because boots failed; in words; null: all that is wanted was.
    pub safe_mode: Option<String>,
    /// Who is told of trouble.
    pub alerts: Vec<AlertStatus>,
    /// Answers and exits of old runs that were dropped.
    pub stale_events: u64,
    /// Turns that were late, and the longest lateness.
    pub late_turns: u64,
    pub max_lateness_us: u64,
    /// Answers that say nothing about services, because of the host or of us; null: none so far.
    pub doubt: Option<DoubtStatus>,
    pub shutting_down: bool,
}

/// Answers and starts that failed by no fault of the services, since the daemon began.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DoubtStatus {
    pub counts: Vec<DoubtCount>,
    /// The last one in words, when (RFC 3339).
    pub last: String,
    pub last_at: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DoubtCount {
    /// `no descriptor` `no memory` `cannot fork` `cannot execute` `unresolved` `starved` (the loop was
    /// late) `suspended` `pressure` (the host's, by PSI) `other`.
    pub cause: String,
    pub count: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HoldStatus {
    pub owner: String,
    /// RFC 3339.
    pub since: String,
    pub ends_in_ms: Option<u64>,
    /// Of a storm (its owner is `storm`), which holds restarts for health only; null: an operator's.
    pub why: Option<String>,
}

/// Restarts for health that wait for their turn, and the incident that they are.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StormStatus {
    /// Else only the limit was reached.
    pub incident: bool,
    /// RFC 3339.
    pub since: Option<String>,
    /// How many services wanted a restart when it began.
    pub services: u32,
    /// Who is restarted, or was last, to see whether that helps.
    pub canary: Option<String>,
    /// How many services wait, and who is the first of them.
    pub waiting: u32,
    pub next: Option<String>,
    /// Why nobody goes; null: they go one by one.
    pub held: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadStatus {
    /// Who reloaded, when (RFC 3339).
    pub by: String,
    pub at: String,
    /// How many services it touched.
    pub services: u32,
    /// What was in force before comes back then, unless it is confirmed; null: it did already.
    pub goes_back_in_ms: Option<u64>,
    /// When (RFC 3339) and why it went back.
    pub went_back_at: Option<String>,
    pub why: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostWatchdog {
    pub device: String,
    pub timeout_ms: u64,
    /// Else the host is reset: why, and in how long.
    pub fed: bool,
    pub why: Option<String>,
    pub reset_in_ms: Option<u64>,
    /// What is wrong with the device itself; null: nothing.
    pub trouble: Option<String>,
}

/// One `[[alert]]`, and how it went since the daemon began.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertStatus {
    pub name: String,
    /// The program, or scheme, host and port of the webhook.
    pub to: String,
    pub sent: u64,
    /// Given up after the last try.
    pub failed: u64,
    /// For want of room.
    pub dropped: u64,
    /// Not sent because the same had been, shortly before.
    pub withheld: u64,
    pub waiting: u32,
    /// The last that was taken (RFC 3339): its kind and service; null: none was.
    pub last_at: Option<String>,
    pub last: Option<String>,
    /// Why the last try failed, when; null: it did not.
    pub trouble: Option<String>,
    pub trouble_at: Option<String>,
    /// Until the next try.
    pub next_in_ms: Option<u64>,
}

/// A service and what ties it to others: `service.graph`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tied {
    pub name: String,
    pub state: String,
    pub health: Option<String>,
    pub pinned: bool,
    /// What it waits for before it starts; null: nothing.
    pub waits_for: Option<String>,
    pub ties: Vec<Tie>,
    /// Null: it did not start yet.
    pub started: Option<Started>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tie {
    /// `requires`, `milestone`, `wants`, `after`, `before` (the other is before it), `after_exit`,
    /// `conflicts`.
    pub key: String,
    pub name: String,
}

/// How it got started; times count from the first service that was to start.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Started {
    pub run: u32,
    pub cause: String,
    /// RFC 3339.
    pub at: String,
    /// When it was to start.
    pub asked_ms: u64,
    /// When nothing was in its way any more.
    pub spawned_ms: u64,
    /// When it was ready, a oneshot done; null: not yet.
    pub ready_ms: Option<u64>,
}
