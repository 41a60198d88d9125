//! The keys of a service's output, in its definition; in vitald.toml, the defaults of all services.

use super::*;
use crate::config::log::{FACILITIES, SEVERITIES};

keys! { ALL {
    /// Where its output is written, besides the newest lines in memory that `logs` shows: to a
    /// `file` in the state directory, to `syslog` (see `log_facility`, `log_tag`), to `both`, or
    /// nowhere but `memory`, which spares a flash card and ends with the daemon.
    LOG_TO "log_to": Takes::Choice(&["file", "syslog", "both", "memory"]), Text("file"), Live;
    /// How lines in the log file begin: with the time they were read in RFC 3339 (UTC,
    /// milliseconds), as a TAI64N label, which `tai64nlocal` and s6's tools read, or without one.
    LOG_TIME "log_time": Takes::Choice(&["iso", "tai64n", "none"]), Text("iso"), Live;
    /// What stands between time and line in the log file: the service's `name`, the `stream`
    /// (stdout or stderr, where `log_stderr` tells them apart), or `both`.
    LOG_PREFIX "log_prefix": Takes::Choice(&["none", "name", "stream", "both"]), Text("none"), Live;
    /// Its log file is rotated when it would grow beyond this.
    LOG_FILE_BYTES "log_file_bytes": Takes::Integer { min: 4096, max: 1 << 40 },
        Integer(limits::LOG_FILE_BYTES as i64), Live;
    /// Rotated log files that are kept, besides the one being written.
    LOG_FILES "log_files": Takes::Integer { min: 0, max: 1000 },
        Integer(limits::LOG_FILES as i64), Live;
    /// Whether stderr has a pipe of its own, by which `logs` and `log_prefix` tell the streams
    /// apart. `joined`: one pipe for both, where all is in the order in which it was written;
    /// between two pipes there is no such order.
    LOG_STDERR "log_stderr": Takes::Choice(&["joined", "apart"]), Text("joined"), Restart;
    /// How much a line matters that does not say so. One that begins with `<0>` to `<7>`, as in
    /// sd-daemon(3), does; `logs` does not show that, `logs --priority` chooses by it.
    LOG_PRIORITY "log_priority": Takes::Choice(SEVERITIES), Text("info"), Live;
    /// The facility that syslog is told.
    LOG_FACILITY "log_facility": Takes::Choice(FACILITIES), Text("daemon"), Live;
    /// The tag that syslog is told.
    LOG_TAG "log_tag": Takes::Text, Words("the service's name"), Live;
    /// The longest line, without its end, in bytes.
    LOG_LINE_BYTES "log_line_bytes": Takes::Integer { min: 64, max: limits::LOG_LINE_BYTES as i64 },
        Integer(limits::LOG_LINE_BYTES as i64), Live;
    /// What becomes of one that is longer: the rest is another line, or is dropped and its length
    /// said.
    LOG_LONG_LINES "log_long_lines": Takes::Choice(&["split", "truncate"]), Text("split"), Live;
    /// At most `count` lines in each `per_ms`; what is beyond is dropped, and how much it was is
    /// said in the log and in `status`. A `count` of 0: no limit.
    LOG_RATE_LIMIT "log_rate_limit": Takes::Table(rate_limit::ALL), Words("none"), Live;
    /// A program that gets the output instead of us, as s6-log and svlogd do: its stdin is the
    /// service's log pipe. It runs as the service's user and in its environment, is started
    /// before the service, again when it ends, and ended after the service when vitald ends: by
    /// the end of its input, then SIGTERM, then SIGKILL. With `log_stderr = "apart"` stderr
    /// stays with us. Written like `exec`.
    LOGGER "logger": Takes::Command, Words("none"), Live;
} }

/// The keys of `log_rate_limit`.
pub mod rate_limit {
    use super::*;

    keys! { ALL {
        /// How many lines.
        COUNT "count": Takes::Integer { min: 0, max: 1_000_000_000 }, Required, Live;
        /// In how long.
        PER "per_ms": Takes::Millis { min: 1 }, Integer(1_000), Live;
    } }
}
