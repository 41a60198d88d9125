//! Every bound in one place. A queue that is not listed here does not exist.

use std::time::Duration;

/// Services (definitions and remembered names) one daemon holds.
pub const MAX_SERVICES: usize = 16_384;
/// Probes one service may have.
pub const MAX_PROBES: usize = 32;
/// Sockets that may be held for one service.
pub const MAX_SOCKETS: usize = 32;
/// Headers of its own an http probe may send.
pub const MAX_HEADERS: usize = 64;
/// A service's name, in bytes; it appears in paths and in `VITALD_RUN`.
pub const MAX_NAME: usize = 64;
/// A definition file.
pub const MAX_DEFINITION_BYTES: usize = 256 * 1024;
/// One that is given over the control socket.
pub const MAX_GIVEN_BYTES: usize = 16 * 1024;
/// Problems shown of one definition file; the rest are counted.
pub const MAX_PROBLEMS: usize = 100;
/// Names in one of `after`, `requires`, `wants`.
pub const MAX_DEPENDENCIES: usize = 256;
/// Files in `secrets`, and how large each may be.
pub const MAX_SECRETS: usize = 64;
pub const MAX_SECRET: usize = 1 << 20;
/// Commands in one of `pre_start`, `stop_exec`, `post_stop`, `reload_exec`.
pub const MAX_COMMANDS: usize = 16;
/// How soon a forking daemon's main process is looked for again, doubling up to the second.
pub const SEEK_PACE: Duration = Duration::from_millis(10);
pub const SEEK_PACE_MAX: Duration = Duration::from_millis(500);
/// And when its time to start is over and it is left as it is.
pub const SEEK_PACE_OVERDUE: Duration = Duration::from_secs(10);
/// Names in `runtime_directory`, and the length of one.
pub const MAX_DIRECTORIES: usize = 16;
pub const MAX_DIRECTORY_NAME: usize = 255;
/// What of a probe's answer is kept: the first bytes of a reply …
pub const PROBE_OUTPUT_BYTES: usize = 512;
/// … or the last lines of a command.
pub const PROBE_OUTPUT_LINES: usize = 5;
/// What of a probe's answer is read at all before it is closed as long enough.
pub const PROBE_READ_BYTES: usize = 10 * 1024;
/// Transitions kept in memory for each service.
pub const HISTORY_PER_SERVICE: usize = 32;
/// Decisions kept in memory for each service.
pub const DECISIONS_PER_SERVICE: usize = 16;

/// A control client's line.
pub const MAX_LINE: usize = 64 * 1024;
/// What may wait to be sent to a control client before it is cut.
pub const MAX_CLIENT_OUTPUT: usize = 8 * 1024 * 1024;
/// Control connections; beyond it the one idle longest is closed.
pub const MAX_CLIENTS: usize = 512;
/// Requests of one client that wait for their answers.
pub const MAX_PENDING_PER_CLIENT: usize = 64;
/// With this much waiting to be sent no further line of that client is served.
pub const CLIENT_BACKLOG: usize = 256 * 1024;
/// Logs that one client may follow.
pub const MAX_FOLLOWS: usize = 16;
/// A client that takes nothing of what waits for it is cut after this.
pub const CLIENT_STUCK: Duration = Duration::from_secs(10);
/// What serving control clients may cost in one turn, counted in bytes answered.
pub const CLIENTS_PER_TURN: usize = 256 * 1024;
/// Connections accepted in one turn.
pub const ACCEPTS_PER_TURN: usize = 64;
/// JSON nesting accepted from a client.
pub const MAX_JSON_DEPTH: usize = 64;

/// Log bytes kept in memory for each service.
pub const LOG_RING_BYTES: usize = 64 * 1024;
/// Log bytes read from one service in one turn before the others get theirs.
pub const LOG_READ_PER_TURN: usize = 64 * 1024;
/// One log file, before it is rotated; and how many rotated ones are kept.
pub const LOG_FILE_BYTES: u64 = 1024 * 1024;
pub const LOG_FILES: u32 = 4;
/// The first pause before a service's logger is started again; doubles with every end in a row …
pub const LOGGER_PAUSE: Duration = Duration::from_millis(100);
/// … up to this; one that lived so long is no end in a row.
pub const LOGGER_PAUSE_MAX: Duration = Duration::from_secs(10);
pub const LOGGER_STABLE: Duration = Duration::from_secs(10);
/// A logger that does not end at the end of its input is sent SIGTERM after this, and SIGKILL
/// after as long again.
pub const LOGGER_PATIENCE: Duration = Duration::from_secs(3);
/// Log bytes waiting for the scribe, over all services, before the newest are dropped and counted.
pub const SCRIBE_LOG_BACKLOG: usize = 1024 * 1024;
/// Durable records waiting for the scribe.
pub const SCRIBE_RECORD_BACKLOG: usize = 4096;

/// A recording, all its files together, unless set otherwise; and how many files there are.
pub const RECORD_BYTES: u64 = 16 * 1024 * 1024;
pub const RECORD_FILES: u32 = 4;
/// What of a recording may wait for the scribe; then events are lost, and counted. The beginning
/// of a file may be larger, and waits alone.
pub const RECORD_BACKLOG: usize = 1024 * 1024;

/// Services that `why` follows from one whose trouble is another's.
pub const CHAIN: usize = 8;
/// Lines that `why` shows of what a run wrote before it ended.
pub const LAST_WORDS: u64 = 8;
/// Dossiers kept, and how large together, unless set otherwise.
pub const DOSSIER_KEEP: u32 = 64;
pub const DOSSIER_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// One dossier; what a helper may tell for it.
pub const DOSSIER_BYTES: usize = 128 * 1024;
pub const EVIDENCE_BYTES: usize = 64 * 1024;
/// Helpers that collect evidence at once; what is stopped beside them is stopped without.
pub const MAX_EVIDENCE: usize = 16;
/// Of one dossier: processes, threads of the main one and of each other, and sockets told of …
pub const DOSSIER_PROCESSES: usize = 16;
pub const DOSSIER_THREADS: usize = 32;
pub const DOSSIER_THREADS_OTHERS: usize = 4;
pub const DOSSIER_SOCKETS: usize = 32;
/// … file systems that it writes to, and open files of one process by which they are found …
pub const DOSSIER_FILE_SYSTEMS: usize = 8;
pub const DOSSIER_FILES: usize = 64;
/// … frames of a kernel stack, descriptors looked at in one process …
pub const DOSSIER_FRAMES: usize = 12;
pub const DOSSIER_FDS: usize = 4096;
/// … and the last lines of the log, and how long.
pub const DOSSIER_LOG_LINES: usize = 40;
pub const DOSSIER_LOG_BYTES: usize = 16 * 1024;
/// What a summary may be long.
pub const DOSSIER_SUMMARY: usize = 300;

/// The runtime journal is compacted when it is larger than this and twice its compacted size.
pub const JOURNAL_COMPACT_BYTES: u64 = 256 * 1024;

/// After so long SIGKILL is sent again, and a shutdown waits for the process no longer.
pub const UNKILLABLE: Duration = Duration::from_secs(10);
/// Requests that wait for their service to get somewhere (`--wait`), of all clients, those that
/// went away as well; beyond it the oldest is answered with an error.
pub const MAX_WAITING: usize = 1024;
/// Requests for probes run by hand, of all clients.
pub const MAX_PROBE_RUNS: usize = 256;

/// The largest `health_restart_limit`: so many times are remembered.
pub const MAX_TOKENS: i64 = 100;
/// Services that are counted until they are an incident, whatever `storm` says.
pub const MAX_SICK: i64 = 1000;
/// A share of all services is an incident from so many on.
pub const LEAST_SICK: usize = 3;
/// Who waits for a health restart waits so long for the one before, which keeps no other place …
pub const STORM_PATIENCE: Duration = Duration::from_secs(60);
/// … and, in an incident, for its canary: as long as that may take to stop and start, up to this.
pub const CANARY_PATIENCE: Duration = Duration::from_secs(600);
/// Names in the words of an incident; the rest are counted.
pub const STORM_NAMES: usize = 8;

/// A verb that must be durable is answered after this at the latest, with `durable: false`.
pub const DURABLE_WAIT: Duration = Duration::from_secs(2);
/// First delay before a spawn is tried again that failed for our own want of something.
pub const RESPAWN_OURS: Duration = Duration::from_millis(100);
/// Its longest.
pub const RESPAWN_OURS_MAX: Duration = Duration::from_secs(10);
/// First delay before an inconclusive probe is asked again; doubles up to the interval.
pub const INCONCLUSIVE_RETRY: Duration = Duration::from_millis(100);
/// A turn that is later than this is late, and its lateness is not the services' fault.
pub const LATENESS_BOUND: Duration = Duration::from_millis(50);
/// From such shares of the last ten seconds on, in percent, a host is short of something, and what is
/// late is doubted: a task waited for a processor, or for memory …
pub const PRESSED_CPU: u32 = 60;
pub const PRESSED_MEMORY: u32 = 20;
/// … or all that were not idle for a disk.
pub const PRESSED_IO: u32 = 50;
/// A probe's answers are doubted in a row, for pressure or for our own lateness, at most so many times
/// its failure threshold: a service that starves the host by itself is not kept for ever.
pub const DOUBTS: u32 = 3;
/// A start limit is doubted so often; each time half of it is added.
pub const START_DOUBTS: u32 = 2;

/// A journal larger than this is not ours, or broken: it is set aside unread.
pub const JOURNAL_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Files of one kind set aside (old boots, corrupt ones) before the oldest is removed.
pub const SET_ASIDE_KEPT: usize = 3;
/// First wait before a write that failed is tried again, by the journal and by the scribe; doubles.
pub const WRITE_RETRY: Duration = Duration::from_secs(1);
/// Its longest.
pub const WRITE_RETRY_MAX: Duration = Duration::from_secs(30);
/// A log line longer than this is split.
pub const LOG_LINE_BYTES: usize = 16 * 1024;
/// Log bytes in one message to the scribe.
pub const SCRIBE_FRAME_BYTES: usize = 16 * 1024;
/// Log files the scribe holds open.
pub const SCRIBE_OPEN_FILES: usize = 32;

/// Descriptors that are kept for one service.
pub const MAX_FD_STORE: usize = 512;
/// A notification; what is longer is dropped whole.
pub const NOTIFY_BYTES: usize = 4096;
/// Assignments looked at in one.
pub const NOTIFY_ASSIGNMENTS: usize = 64;
/// What of `STATUS=` is kept.
pub const STATUS_BYTES: usize = 512;
/// How often a status that changes is written to the runtime journal.
pub const STATUS_PACE: Duration = Duration::from_secs(1);
/// Notifications of one service read in one turn. More than the kernel queues
/// (net.unix.max_dgram_qlen, 512 at most where anybody set it), so that whatever was sent before a
/// turn is read before the turn's timers.
pub const NOTIFY_PER_TURN: usize = 1024;
/// Senders other than the main process looked up in /proc, of one service in one turn.
pub const NOTIFY_LOOKUPS: usize = 16;
/// Barriers of services that wait for the end of a turn; more wait for the next.
pub const BARRIERS_PER_TURN: usize = 256;
/// What a service may ask for in all, by `EXTEND_TIMEOUT_USEC=`, on top of a start or stop timeout.
pub const EXTEND_MAX: Duration = Duration::from_secs(3600);

/// Rungs of one `escalate`.
pub const MAX_RUNGS: usize = 16;
/// Alerts in `vitald.toml`, and patterns of services in one.
pub const MAX_ALERTS: usize = 16;
pub const MAX_ALERT_SERVICES: usize = 64;
/// What waits to be sent for one of them, before more is dropped and counted.
pub const ALERTS_WAITING: usize = 64;
/// Tries before one is given up: with pauses from the first to the longest, doubling, for about
/// twenty minutes.
pub const ALERT_TRIES: u32 = 12;
pub const ALERT_RETRY: Duration = Duration::from_secs(1);
pub const ALERT_RETRY_MAX: Duration = Duration::from_secs(300);
/// Alerts that are sent by hand to be tried, at once.
pub const MAX_ALERT_TESTS: usize = 16;
/// Words in an alert that come from elsewhere, each.
pub const ALERT_WORDS: usize = 2048;
/// A file with a URL or headers; and how many headers there may be.
pub const ALERT_FILE: u64 = 16 * 1024;

/// What one simulation may take: virtual time …
pub const SIMULATED_TIME: Duration = Duration::from_secs(366 * 24 * 3600);
/// … statements of its scenario, those made of a history included …
pub const SIMULATED_STATEMENTS: usize = 4096;
/// … turns of the loop, which are work …
pub const SIMULATED_TURNS: u64 = 8_000_000;
/// … and lines of its story, which are memory. A simulation in a daemon's helper has a tenth of
/// both.
pub const SIMULATED_LINES: usize = 300_000;
/// What is told of one over the socket: lines, and changes in each lane.
pub const TOLD_LINES: usize = 400;
pub const TOLD_CHANGES: usize = 1000;
/// Simulations that run at once in helpers.
pub const MAX_SIMULATIONS: usize = 4;

/// So often within so long a host is rebooted because a service is beyond healing (`on_exhausted`).
pub const REBOOTS: usize = 3;
pub const REBOOTS_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// How long a reload may wait to be confirmed: at least, at most.
pub const CONFIRM_LEAST: Duration = Duration::from_secs(1);
pub const CONFIRM_MOST: Duration = Duration::from_secs(24 * 3600);
/// Services that a reload does not touch and whose names its plan holds all the same.
pub const PLAN_UNTOUCHED: usize = 1000;
