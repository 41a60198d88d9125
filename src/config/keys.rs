//! Every key of a definition and of `vitald.toml`: name, type, range, default, meaning.
//!
//! The one source: readers look keys up here and take their defaults and ranges from here; the
//! JSON Schema, the reference and the man page are loops over these tables; what a reload does
//! with a changed key is said here. The order of a table is the order of the documents.

use crate::limits;

/// The longest duration a key takes: a year.
pub const MAX_MS: i64 = 365 * 24 * 3600 * 1000;

pub struct Key {
    pub name: &'static str,
    /// Other names it is known by, of the zinit line; accepted in silence.
    pub aliases: &'static [&'static str],
    pub takes: Takes,
    pub default: Preset,
    pub reload: Reload,
    /// Probe types, or kinds of sockets, that have it; empty: all.
    pub only: &'static [&'static str],
    doc: &'static str,
}

impl Key {
    /// The meaning, in sentences.
    pub fn doc(&self) -> &'static str {
        self.doc.trim_start()
    }

    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }

    /// `tcp, unix and dns`.
    pub fn whose(&self) -> String {
        match self.only {
            [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
            only => only.concat(),
        }
    }

    /// Whether probes, or sockets, of this type have it.
    pub fn is_for(&self, probe_type: &str) -> bool {
        self.only.is_empty() || self.only.contains(&probe_type)
    }
}

/// What values a key takes.
#[derive(Clone, Copy)]
pub enum Takes {
    Text,
    /// An array of words, or one string that is split as a POSIX shell splits words.
    Command,
    /// A command, or an array of commands that begins with an array.
    Commands,
    /// An array of service names.
    Services,
    /// An array of what stands behind the `@` in services' names.
    Instances,
    Bool,
    /// Whole milliseconds, from `min` to a year.
    Millis {
        min: i64,
    },
    Integer {
        min: i64,
        max: i64,
    },
    /// A number from 0 to 1.
    Fraction,
    /// A duration in words, in quotes: "15m".
    Length,
    /// Bytes: a number, or one with K, M, G or T in quotes.
    Size {
        min: i64,
    },
    /// A whole number and a percent sign, in quotes; at least 1.
    Percent,
    Choice(&'static [&'static str]),
    /// An array of some of these.
    Words(&'static [&'static str]),
    /// An array of services' names, in which `*` stands for any characters.
    Patterns,
    Signal,
    /// File mode bits in octal, as a string.
    Umask,
    /// A user or group: its name, or its number.
    Account,
    /// An array of those.
    Accounts,
    /// An array of capabilities' names.
    Capabilities,
    /// An array of absolute paths; with a leading `-` one may be missing.
    Paths,
    /// An array of names of directories, or one of them.
    Directories,
    /// A table of strings.
    Strings,
    /// A table of resource limits.
    Limits,
    /// A number of attempts, or "unlimited".
    Attempts,
    /// "all", "any", or a number of probes.
    Quorum,
    /// An HTTP status, or a list of statuses and ranges.
    Statuses,
    /// Whether, or how many.
    Redirects,
    /// A table of group → "read" | "act".
    Access,
    Table(&'static [&'static Key]),
    Tables(&'static [&'static Key]),
}

#[derive(Clone, Copy)]
pub enum Preset {
    Required,
    /// There is none, or it depends; in words.
    Words(&'static str),
    Integer(i64),
    Fraction(f64),
    Bool(bool),
    Text(&'static str),
}

/// What a changed key means for a running service (design §2.4, Reload).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reload {
    /// It is restarted by cause `config`.
    Restart,
    /// Taken over without touching the process.
    Live,
    /// Of the daemon: read when it starts, as by `upgrade`.
    AtStart,
}

impl Reload {
    /// As documents mark it.
    pub const fn mark(self) -> &'static str {
        match self {
            Reload::Restart => "restart",
            Reload::Live => "",
            Reload::AtStart => "start",
        }
    }
}

use Preset::{Bool, Fraction, Integer, Required, Text, Words};
use Reload::{AtStart, Live, Restart};

macro_rules! keys {
    ($table:ident { $(
        $(#[doc = $doc:literal])+
        $id:ident $name:literal $(| $alias:literal)* : $takes:expr, $default:expr, $reload:expr
        $(, only $only:expr)?;
    )+ $(and $($more:path),+;)? }) => {
        $(
            $(#[doc = $doc])+
            pub static $id: Key = Key {
                name: $name,
                aliases: &[$($alias),*],
                takes: $takes,
                default: $default,
                reload: $reload,
                only: { let _only: &[&str] = &[]; $(let _only: &[&str] = $only;)? _only },
                doc: concat!($($doc),+),
            };
        )+
        pub static $table: &[&Key] = &[$(&$id,)+ $($(&$more,)+)?];
    };
}

pub mod alert;
pub mod log;
pub mod probe;
pub mod rung;

/// The keys of a service.
pub mod service {
    use super::*;

    keys! { ALL {
        /// A line about the service, shown in `status`.
        DESCRIPTION "description": Takes::Text, Words("none"), Live;
        /// The program and its arguments: an array, or one string that is split as a POSIX shell
        /// splits words. No shell is run. A bare name is looked up in the service's PATH.
        EXEC "exec": Takes::Command, Words("none; only a target may be without"), Restart;
        /// `process` runs until it is stopped. `oneshot` runs to its end and is then done. `forking`
        /// is for old daemons: the program forks the daemon and exits with 0, which makes it ready;
        /// the daemon is found by `pid_file`. `target` is a group and runs nothing: it is `running`
        /// while all that it requires is satisfied, and `start`, `stop` and `restart` of it are
        /// those of all that it requires and wants.
        KIND "kind": Takes::Choice(&["process", "oneshot", "forking", "target"]), Text("process"),
            Restart;
        /// Where a forking daemon writes the number of its main process. The file is removed before
        /// each start; then it must name a living process of this service, within
        /// `start_timeout_ms`, and only root or the service's user may be able to write it. Without
        /// it the main process is the only one that is left when the first has exited.
        PID_FILE "pid_file": Takes::Text, Words("none"), Restart;
        /// Services to wait for, without needing them: they are satisfied, failed, exited or not
        /// wanted before this one starts.
        AFTER "after": Takes::Services, Words("none"), Live;
        /// Services it needs: started too, and satisfied before this one starts.
        REQUIRES "requires": Takes::Services, Words("none"), Live;
        /// Services to start too; it carries on without them.
        WANTS "wants": Takes::Services, Words("none"), Live;
        /// Services that come after it: as if each had it in its `after`.
        BEFORE "before": Takes::Services, Words("none"), Live;
        /// Services it needs to get started, not to go on: started too, and satisfied before it is
        /// started. A restart does not wait for them, and what becomes of them meanwhile does not
        /// concern it.
        MILESTONE "milestone": Takes::Services, Words("none"), Live;
        /// Services to wait for until they have ended: none of them runs, or is about to, when this
        /// one starts. One that only listens for its first connection is not waited for.
        AFTER_EXIT "after_exit": Takes::Services, Words("none"), Live;
        /// Services that must not run beside it, which need not name it too. Who starts one of two
        /// stops the other, which is wanted stopped from then on; the start waits until it is gone.
        /// Of two that both start by themselves the one that runs goes on, else the first by name.
        /// What a start brings along because it `wants` it displaces nobody: it is left out.
        CONFLICTS "conflicts": Takes::Services, Words("none"), Live;
        /// What becomes of it when a service that it `requires` stops, restarts or crashes. `run`: it
        /// runs on. `restart`: it is stopped, and started again when that one is satisfied again,
        /// which spends no attempt. `stop`: it is stopped until an operator starts it. When an
        /// operator stops or restarts that one, this one is stopped first.
        ON_DEPENDENCY "on_dependency": Takes::Choice(&["run", "restart", "stop"]), Text("run"), Live;
        /// Of a template, a file like `worker@.toml`: which of its instances are there by
        /// themselves, as in ["1", "2"]. Others are when a definition requires or wants them, or
        /// when they are started. In all other strings of a template `%i` is the instance, `%n`
        /// its whole name (`worker@1`), and `%%` a percent sign.
        INSTANCES "instances": Takes::Instances, Words("none"), Live;
        /// The user it runs as, by name or number.
        USER "user": Takes::Account, Words("the daemon's own"), Restart;
        /// Its primary group, by name or number.
        GROUP "group": Takes::Account, Words("the user's"), Restart;
        /// Its supplementary groups.
        GROUPS "groups": Takes::Accounts, Words("the user's in /etc/group"), Restart;
        /// File mode creation mask, in octal: "022".
        UMASK "umask": Takes::Umask, Words("the daemon's own"), Restart;
        /// The directory it starts in.
        WORKING_DIR "working_dir" | "dir": Takes::Text, Words("/"), Restart;
        /// Environment variables. Besides these it gets PATH, HOME, USER, SHELL and what begins with VITALD_.
        ENV "env": Takes::Strings, Words("none"), Restart;
        /// A file of `KEY=VALUE` lines, read at each start; with a leading `-` it may be missing.
        /// What `env` says takes precedence.
        ENV_FILE "env_file": Takes::Text, Words("none"), Restart;
        /// Pass on the daemon's own environment as well.
        INHERIT_ENV "inherit_env": Takes::Bool, Bool(false), Restart;
        /// Directories that are made before the start below /run, or, of a user's daemon, below
        /// XDG_RUNTIME_DIR, for the service's user; RUNTIME_DIRECTORY holds their paths, with `:`
        /// between them. Names, as in ["web", "web/cache"].
        RUNTIME_DIRECTORY "runtime_directory": Takes::Directories, Words("none"), Restart;
        /// Their mode, in octal: "0750".
        RUNTIME_DIRECTORY_MODE "runtime_directory_mode": Takes::Umask, Words("0755"), Restart;
        /// How long they stay, with all that is in them: `no`, to the run's end; `restart`, until the
        /// service is stopped or done for good; `yes`, for ever.
        RUNTIME_DIRECTORY_PRESERVE "runtime_directory_preserve":
            Takes::Choice(&["no", "restart", "yes"]), Text("no"), Live;
        /// Resource limits by their name in setrlimit(2), lower case: a number, "unlimited", or
        /// { soft = …, hard = … }.
        LIMITS "limits": Takes::Limits, Words("the daemon's own"), Restart;
        /// The most memory that all its processes together may use, page cache included: bytes, or
        /// "512M" (K, M, G, T, each 1024 times the one before). What would need more is killed by
        /// the kernel, the whole service at once, which is told as cause `memory` and judged like an
        /// end by itself. This key and the four after it need a cgroup with its controller: where
        /// there is none the service does not start, and says so.
        MEMORY_MAX "memory_max": Takes::Size { min: 1 << 20 }, Words("no limit"), Restart;
        /// From here on its memory is taken back and it is slowed down, before `memory_max` kills it.
        MEMORY_HIGH "memory_high": Takes::Size { min: 1 << 20 }, Words("no limit"), Restart;
        /// The most processor time that all its processes together may use, in percent of one
        /// processor: "150%" is one and a half.
        CPU_MAX "cpu_max": Takes::Percent, Words("no limit"), Restart;
        /// Its share of the processors where services compete for them: one with 200 gets twice as
        /// much as one with 100, which is what all have.
        CPU_WEIGHT "cpu_weight": Takes::Integer { min: 1, max: 10_000 }, Words("100"), Restart;
        /// The most processes and threads that it may have at a time. What would be one more fails
        /// with EAGAIN, in the service.
        PIDS_MAX "pids_max": Takes::Integer { min: 1, max: 4_194_304 }, Words("no limit"), Restart;
        /// Scheduling priority, -20 (most favoured) to 19.
        NICE "nice": Takes::Integer { min: -20, max: 19 }, Words("the daemon's own"), Restart;
        /// How ready the kernel is to kill it when memory runs out, -1000 (never) to 1000.
        OOM_SCORE_ADJ "oom_score_adj": Takes::Integer { min: -1000, max: 1000 },
            Words("the daemon's original"), Restart;
        /// Neither it nor what it executes gains rights by set-user-ID, set-group-ID or file
        /// capabilities (prctl(2), PR_SET_NO_NEW_PRIVS).
        NO_NEW_PRIVS "no_new_privs": Takes::Bool, Bool(false), Restart;
        /// All capabilities (capabilities(7)) that it and what it executes may ever have, as in
        /// ["net_bind_service"]; an empty array for none. Who runs as another user than root has
        /// them from the start, so that a port below 1024 needs no root.
        CAPABILITIES "capabilities": Takes::Capabilities, Words("the daemon's own"), Restart;
        /// The whole file system is read-only for it, but /dev, /proc, /sys, and what `writable`
        /// names. Needs root and Linux 5.12.
        READ_ONLY "read_only": Takes::Bool, Bool(false), Restart;
        /// What it may write to with `read_only`: absolute paths; with a leading `-` one may be
        /// missing.
        WRITABLE "writable": Takes::Paths, Words("none"), Restart;
        /// It has a /tmp and a /var/tmp of its own, empty at each start; its commands and exec
        /// probes see the same. Needs root.
        PRIVATE_TMP "private_tmp": Takes::Bool, Bool(false), Restart;
        /// Files that are handed to it as they are when it starts, by a name for each: copies that
        /// only its user can read, in the directory that CREDENTIALS_DIRECTORY names. The
        /// originals may be readable by root alone.
        SECRETS "secrets": Takes::Strings, Words("none"), Restart;
        /// The signal that asks it to stop; SIGCONT goes along, so that a stopped process hears it.
        STOP_SIGNAL "stop_signal": Takes::Signal, Text("SIGTERM"), Live;
        /// How long it may take to stop before SIGKILL.
        STOP_TIMEOUT "stop_timeout_ms": Takes::Millis { min: 1 }, Integer(10_000), Live;
        /// The same for a stop because of its health.
        HEALTH_STOP_TIMEOUT "health_stop_timeout_ms": Takes::Millis { min: 1 },
            Words("as stop_timeout_ms"), Live;
        /// How long it may take to become ready; then it is restarted within its budget. Never
        /// less than the largest `start_period_ms`. `EXTEND_TIMEOUT_USEC=` makes it longer.
        START_TIMEOUT "start_timeout_ms": Takes::Millis { min: 1 },
            Words("30000; a oneshot has no limit"), Live;
        /// By what it is known to be ready. `probe`: the first pass of every restarting probe, or,
        /// without any, that its program runs. `notify`: `READY=1` on the socket that NOTIFY_SOCKET
        /// names, as sd_notify(3) sends it. `fd`: a newline on the descriptor `notify_fd`, as s6 has
        /// it. With the last two probes are asked only from then on, and judge at once, unless
        /// their `start_period_ms`, from the start of the process, is not over.
        READY "ready": Takes::Choice(&["probe", "notify", "fd"]), Text("probe"), Restart;
        /// The descriptor of `ready = "fd"`.
        NOTIFY_FD "notify_fd": Takes::Integer { min: 3, max: 1023 }, Words("3, with ready = \"fd\""), Restart;
        /// Who may send to NOTIFY_SOCKET: the `main` process, or any process of the service's `tree`.
        /// What others send is dropped. `none`: there is no such socket.
        NOTIFY_ACCESS "notify_access": Takes::Choice(&["none", "main", "tree"]),
            Words("main, where another key needs the socket; else none"), Restart;
        /// From ready on it must send `WATCHDOG=1` at least this often; WATCHDOG_USEC tells it so.
        /// If it does not it is unhealthy, like by a probe that is down.
        WATCHDOG "watchdog_ms": Takes::Millis { min: 1 }, Words("none"), Restart;
        /// Descriptors that it may leave with us by `FDSTORE=1`; the next run gets them back by
        /// LISTEN_FDS. They are kept over its restarts and over `upgrade`, not over its stop or the
        /// daemon's death by SIGKILL.
        FD_STORE_MAX "fd_store_max": Takes::Integer { min: 0, max: limits::MAX_FD_STORE as i64 },
            Integer(0), Restart;
        /// When to start it again after it ended by itself. `on-failure`: unless it exited with 0 or
        /// died of SIGTERM, SIGINT, SIGHUP or SIGPIPE. `never` also forbids restarts for its health.
        RESTART "restart": Takes::Choice(&["always", "on-failure", "never"]),
            Words("always; on-failure for a oneshot and with start_on = \"connection\""), Live;
        /// Start it when its definition is first seen.
        AUTOSTART "autostart": Takes::Bool, Bool(true), Live;
        /// When a oneshot is run: the five fields of cron (minute, hour, day of the month, month,
        /// weekday) by local time, as in "30 3 * * 1-5", or @hourly, @daily, @weekly, @monthly,
        /// @yearly. From its first `wanted` on it rests as `inactive (timer)` and is started, with a
        /// whole budget, at each time that is due; one that is due while it runs or is retried is
        /// skipped. `start` runs it now, `stop` suspends the schedule, `start` resumes it. Where
        /// clocks are changed, a time that is left out is due at the change, and one that comes twice
        /// the first time; only what is due every hour goes by the clock.
        SCHEDULE "schedule": Takes::Text, Words("none"), Live;
        /// The same at an interval, as in "15m" or "1h 30m": from one time that is due to the next,
        /// the first so long after the boot. Time in which the host sleeps does not count.
        EVERY "every": Takes::Length, Words("none"), Live;
        /// A time that was missed because the host or the daemon was off, or slept, is made up for,
        /// once, as soon as it is back; and an interval goes on over a boot. Without it what is more
        /// than a minute late, and `random_delay`, is left out.
        CATCH_UP "catch_up": Takes::Bool, Bool(false), Live;
        /// Each run begins after a delay, drawn anew from nothing to this, so that many hosts do not
        /// do the same at once.
        RANDOM_DELAY "random_delay": Takes::Length, Words("none"), Live;
        /// The host is of no use without it: its watchdog (`watchdog` in vitald.toml) is fed only
        /// while this service is well, starts, or is being restarted within its budget. Not while
        /// it is stopped by an operator, nor under `hold`.
        CRITICAL "critical": Takes::Bool, Bool(false), Live;
        /// Only tell what would be done for its health: no restart for a probe that is down, a watchdog
        /// that is missed, or a start that takes too long. `why` and `history` show each as `would
        /// restart`. It is started again as ever when it ends by itself.
        OBSERVE "observe": Takes::Bool, Bool(false), Live;
        /// After `boot_attempts` boots that failed (see vitald.toml) only services with this, and
        /// what they require, are started: what an operator needs to get in and mend the rest.
        SAFE "safe": Takes::Bool, Bool(false), Live;
        /// Whom a stop reaches: `tree`, all processes of the service; `mixed`, the main process by
        /// the stop signal and all by SIGKILL; `process`, the main process only.
        KILL_MODE "kill_mode": Takes::Choice(&["tree", "mixed", "process"]), Text("tree"), Live;
        /// Before a stop for its health, its start limit or its watchdog: how long evidence of what it is
        /// stuck on may be collected, for `dossier show`, until the stop signal is sent. 0: none is.
        DOSSIER_TIMEOUT "dossier_timeout_ms": Takes::Millis { min: 0 }, Integer(500), Live;
        /// What makes it tell more before such a stop, when the evidence has been collected: a
        /// command, written like `exec`, run as its user with MAINPID as its process; or a signal to
        /// its main process: "SIGQUIT" for the threads of a Java program, "SIGABRT" for a core.
        /// What the service and the command write meanwhile stands in the dossier.
        DIAGNOSE "diagnose": Takes::Command, Words("none"), Live;
        /// How long `diagnose` may take, or, of a signal, how long the service is left to act on it,
        /// until the stop signal is sent.
        DIAGNOSE_TIMEOUT "diagnose_timeout_ms": Takes::Millis { min: 1 }, Integer(3_000), Live;
        /// Run to their end, one after the other, before the program is started, as its user, in its
        /// environment, with its output. A command as in `exec`, or an array of commands of which the
        /// first is an array: [["mkdir", "-p", "/run/web"], ["web", "--migrate"]]. If one fails or
        /// takes too long the start has failed, which is judged like an end of the program by
        /// itself; after an operator's `start` it is `failed` at once.
        PRE_START "pre_start": Takes::Commands, Words("none"), Live;
        /// How long all of `pre_start` may take; `start_timeout_ms` begins after it.
        PRE_START_TIMEOUT "pre_start_timeout_ms": Takes::Millis { min: 1 }, Integer(30_000), Live;
        /// Run to stop it, instead of `stop_signal` at first: MAINPID is its process. They may take
        /// half of `stop_timeout_ms`. If it lives when they have ended or their time is up,
        /// `stop_signal` follows at once. Written like `pre_start`.
        STOP_EXEC "stop_exec": Takes::Commands, Words("none"), Live;
        /// Run when nothing of the service is left, before it is started again, whatever ended it:
        /// VITALD_CAUSE says what, VITALD_EXIT_CODE or VITALD_EXIT_SIGNAL how. Whether they
        /// succeed changes nothing. Written like `pre_start`.
        POST_STOP "post_stop": Takes::Commands, Words("none"), Live;
        /// How long all of `post_stop` may take; what runs on is killed.
        POST_STOP_TIMEOUT "post_stop_timeout_ms": Takes::Millis { min: 1 }, Integer(10_000), Live;
        /// Takes back what a oneshot has done: run when one that is done is stopped, when the daemon
        /// shuts down (after all who need it), and before it is run again. If it fails the service
        /// is stopped all the same, and `status` says so. Written like `pre_start`.
        UNDO "undo": Takes::Commands, Words("none"), Live;
        /// How long all of `undo` may take; what runs on is killed.
        UNDO_TIMEOUT "undo_timeout_ms": Takes::Millis { min: 1 }, Integer(30_000), Live;
        /// The signal by which `reload NAME` makes it read its configuration anew.
        RELOAD_SIGNAL "reload_signal": Takes::Signal, Words("none"), Live;
        /// Run by `reload NAME`, which tells how that ended: MAINPID is its process. Not together
        /// with `reload_signal`. Written like `pre_start`.
        RELOAD_EXEC "reload_exec": Takes::Commands, Words("none"), Live;
        /// How long all of `reload_exec` may take; what runs on is killed.
        RELOAD_TIMEOUT "reload_timeout_ms": Takes::Millis { min: 1 }, Integer(30_000), Live;
        /// Sockets that are opened before its first run and held over its restarts and `upgrade`, each a
        /// table: who connects while it restarts waits. It gets them as descriptors 3, 4 … in this
        /// order, told by LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID (sd_listen_fds(3)). They are closed
        /// when it is stopped, has failed, or is done.
        SOCKET "socket" | "sockets": Takes::Tables(super::socket::ALL), Words("none"), Restart;
        /// What starts it, where it is wanted: `boot`, the daemon's start; `connection`, the first
        /// connection to one of its sockets, or datagram. Until then it is `inactive (listening)`, and
        /// so it is again when it has ended cleanly. `start NAME` starts it at once.
        START_ON "start_on": Takes::Choice(&["boot", "connection"]), Text("boot"), Live;
        /// How often, and after what delays, it is restarted automatically.
        RETRY_POLICY "retry_policy": Takes::Table(super::retry_policy::ALL), Words("see there"), Live;
        /// How its health is asked, each probe a table.
        PROBE "probe" | "probes": Takes::Tables(super::probe::ALL), Words("none"), Live;
        /// How many of the probes that restart it must be up: "all", "any", or so many. It is
        /// unhealthy when so many are down that the others are too few.
        PROBES_REQUIRED "probes_required": Takes::Quorum, Text("all"), Live;
        and log::LOG_TO, log::LOG_TIME, log::LOG_PREFIX, log::LOG_FILE_BYTES, log::LOG_FILES,
            log::LOG_STDERR, log::LOG_PRIORITY, log::LOG_FACILITY, log::LOG_TAG,
            log::LOG_LINE_BYTES, log::LOG_LONG_LINES, log::LOG_RATE_LIMIT, log::LOGGER;
    } }
}

/// The keys of `retry_policy`.
pub mod retry_policy {
    use super::*;

    keys! { ALL {
        /// Automatic restarts between two refunds: crashes, health, start timeouts together. 0: none;
        /// "unlimited": any number. An operator is never refused.
        MAX_ATTEMPTS "max_attempts": Takes::Attempts, Integer(10), Live;
        /// The delay before the first automatic restart.
        DELAY "delay_ms": Takes::Millis { min: 0 }, Integer(1_000), Live;
        /// How the delay grows with each attempt: not at all, by `delay_ms`, or to its double.
        BACKOFF "backoff": Takes::Choice(&["fixed", "linear", "exponential"]), Text("exponential"), Live;
        /// The longest delay, before jitter; never less than `delay_ms`.
        MAX_DELAY "max_delay_ms": Takes::Millis { min: 0 }, Integer(300_000), Live;
        /// Each delay is longer or shorter by up to this fraction, at random.
        JITTER "jitter": Takes::Fraction, Fraction(0.1), Live;
        /// How long it must stay healthy until its attempts are refunded, and how long a restarted
        /// run is left alone before its health may restart it again.
        STABILITY_PERIOD "stability_period_ms": Takes::Millis { min: 1 }, Integer(30_000), Live;
        /// What happens when no attempts are left. `keep`: an unhealthy process runs on as it is.
        /// `stop`: it is stopped. `reboot`: the host is rebooted, in order, where vitald is its first
        /// process; elsewhere, in safe mode, and after three such reboots within a day it is as with
        /// `keep`.
        ON_EXHAUSTED "on_exhausted": Takes::Choice(&["keep", "stop", "reboot"]), Text("keep"), Live;
        /// A command that is run when a restart is denied because no attempts are left, once until
        /// they are refunded: to page somebody, say. It runs as the service's user and in its
        /// environment; VITALD_REASON says what happened. Written like `exec`.
        ON_EXHAUSTED_EXEC "on_exhausted_exec": Takes::Command, Words("nothing"), Live;
        /// What is done, in place of a plain restart, when restarts for its health do not cure it: a
        /// ladder of tables, each for more uncured restarts in a row than the one before. A cure
        /// begins it anew.
        ESCALATE "escalate": Takes::Tables(super::rung::ALL), Words("it is restarted, as ever"), Live;
    } }
}

/// The keys of a socket.
pub mod socket {
    use super::*;

    keys! { ALL {
        /// Where it listens: "tcp:127.0.0.1:8080", "tcp:[::1]:8080", "udp:…"; a port alone, "tcp:8080",
        /// is on all addresses, as [::] is: of IPv6, and of IPv4 unless the same service also listens
        /// on 0.0.0.0. "unix:/run/web.sock" is a stream socket, "unix-datagram:/run/web.sock" one for
        /// datagrams. A file that is left of a dead socket is replaced, one that a process has bound
        /// never; it is removed when the socket is closed.
        LISTEN "listen": Takes::Text, Required, Restart;
        /// What it is called in LISTEN_FDNAMES.
        NAME "name": Takes::Text, Words("the service's name"), Restart;
        /// Connections that may wait to be accepted; the kernel's net.core.somaxconn is the most.
        BACKLOG "backlog": Takes::Integer { min: 1, max: 65_535 }, Integer(4096), Restart, only STREAM;
        /// The mode of a Unix socket's file, in octal: who may write to it may connect.
        MODE "mode": Takes::Umask, Text("0666"), Restart, only UNIX;
        /// Its owner, by name or number.
        USER "user": Takes::Account, Words("the daemon's own"), Restart, only UNIX;
        /// Its group, by name or number.
        GROUP "group": Takes::Account, Words("the user's"), Restart, only UNIX;
        /// Others may listen on the same port as well (SO_REUSEPORT), and the kernel spreads what comes.
        REUSE_PORT "reuse_port": Takes::Bool, Bool(false), Restart, only INTERNET;
    } }

    const INTERNET: &[&str] = &["tcp", "udp"];
    const STREAM: &[&str] = &["tcp", "unix"];
    const UNIX: &[&str] = &["unix", "unix-datagram"];
}

/// The keys of `vitald.toml`, the daemon's own settings.
pub mod daemon {
    use super::*;

    keys! { ALL {
        /// Groups whose members may use the control socket, each with a right or an array of them:
        /// "view" (states, reasons, events), "read" or "logs" (also what services wrote), "act" or
        /// "restart" (also start, stop, restart, signal, reset, probe, hold), "admin" (all: as good
        /// as root). With a name it is for that service alone: "restart:web". root and the daemon's
        /// own user may do all. A reload counts for those who are connected, too.
        ACCESS "access": Takes::Access, Words("nobody else"), Live;
        /// Where syslog listens: a datagram socket. Read when the daemon starts.
        SYSLOG_SOCKET "syslog_socket": Takes::Text, Text("/dev/log"), AtStart;
        /// How many dossiers are kept, those of all services together; the oldest go first. 0: none is
        /// written. Read when the daemon starts.
        DOSSIER_KEEP "dossier_keep": Takes::Integer { min: 0, max: 10_000 },
            Integer(limits::DOSSIER_KEEP as i64), AtStart;
        /// And how large they may be together.
        DOSSIER_MAX_BYTES "dossier_max_bytes": Takes::Integer { min: 65_536, max: 1 << 30 },
            Integer(limits::DOSSIER_MAX_BYTES as i64), AtStart;
        /// Record all that is decided and why, in `recording` in the state directory: `vitald
        /// replay` shows and checks it. Values of `env`, of probes' headers and of `send` are not in
        /// it; command lines, URLs and the first 512 bytes of what probes were answered are. Read
        /// when the daemon starts.
        RECORD "record": Takes::Bool, Bool(false), AtStart;
        /// The size of a recording: four files that take turns, `current` is the newest.
        RECORD_BYTES "record_bytes": Takes::Integer { min: 65_536, max: 1 << 30 },
            Integer(limits::RECORD_BYTES as i64), AtStart;
        /// The service that the daemon is there for, as in a container: when it has ended and nothing
        /// restarts it, all others are stopped and the daemon exits with its exit code, or 128 and
        /// the signal's number. `run --main NAME` says the same.
        MAIN "main": Takes::Text, Words("none"), AtStart;
        /// Where services get a cgroup (version 2) each, by which all processes of a service are known,
        /// ended and limited. `auto`: below the daemon's own, where that is its to use (as root, as
        /// PID 1, in a container, by systemd's `Delegate=yes`); `off`: nowhere; or the absolute path
        /// of a cgroup that is made if it is missing, and is used by nobody else. Without cgroups a
        /// service's processes are found by session, group and environment. Read when the daemon
        /// starts.
        CGROUP "cgroup": Takes::Text, Text("auto"), AtStart;
        /// How long all services together may take to stop at the daemon's end; what is left then is
        /// killed, dependents first.
        SHUTDOWN_TIMEOUT "shutdown_timeout_ms": Takes::Millis { min: 1 },
            Words("300000 as PID 1 of a host, else none"), Live;
        /// How many probes may be asking at once; others wait for their turn, which is not counted
        /// against their timeouts. Probes that are run by hand do not wait.
        MAX_CONCURRENT_PROBES "max_concurrent_probes": Takes::Integer { min: 1, max: 1_000_000 },
            Words("any number"), Live;
        /// Whether PID 1 mounts what is missing of /proc, /sys, /dev, /run and their like, and sets
        /// the host's name: `auto`, on a host; not in a container.
        EARLY_SETUP "early_setup": Takes::Choice(&["auto", "always", "never"]), Text("auto"), AtStart;
        /// What PID 1 of a host runs on the console when it cannot start, or when nothing runs and
        /// nothing will.
        RESCUE_SHELL "rescue_shell": Takes::Command, Words("/sbin/sulogin, else /bin/sh"), AtStart;
        /// Whether PID 1 counts boots that fail: those that were never well for `boot_ok_after_ms` and
        /// did not end in order, by `reboot` or `poweroff`. `auto`, on a host; not in a container.
        /// The count is in the state directory, which must be writable when PID 1 starts.
        BOOT_GUARD "boot_guard": Takes::Choice(&["auto", "always", "never"]), Text("auto"), AtStart;
        /// After so many failed boots in a row only services with `safe = true` start, until a
        /// `reboot`.
        BOOT_ATTEMPTS "boot_attempts": Takes::Integer { min: 1, max: 1000 }, Integer(3), AtStart;
        /// A boot is well when all that is wanted was, for so long.
        BOOT_OK_AFTER "boot_ok_after_ms": Takes::Millis { min: 1 }, Integer(60_000), AtStart;
        /// How many restarts for their health (not after crashes, not by operators) all services
        /// together may have. Who comes too many waits in line, and goes when the one before is
        /// well again, or is waited for no longer.
        HEALTH_RESTART_LIMIT "health_restart_limit": Takes::Table(super::restart_limit::ALL),
            Words("{ count = 5, per_ms = 30000 }"), Live;
        /// When many services want a restart for their health at once it is one incident: one of
        /// them is restarted, the next only when that has helped. When it has not, all health
        /// restarts wait until `vitald release`, or until they have recovered by themselves. What a
        /// service requires explains its trouble and is no second one.
        STORM "storm": Takes::Table(super::storm::ALL),
            Words("{ services = 5, percent = 50, within_ms = 60000 }"), Live;
        /// The host's watchdog: it resets the host when the daemon hangs, or when a service that is
        /// `critical` is lost. It is fed at a third of its timeout, also by the execution after an
        /// `upgrade`; an orderly end of the daemon disarms it, its death does not. Read when the
        /// daemon starts.
        WATCHDOG "watchdog": Takes::Table(super::watchdog::ALL), Words("none"), AtStart;
        /// Who is told of trouble and of its end, each a table: a command is run, or a webhook is
        /// called. What is not taken is tried again for about twenty minutes, in order; after the
        /// daemon's death, or an `upgrade`, what was under way is sent once more. What waits does
        /// not outlive the boot. A reload knows an alert by its name: what waits goes where it says
        /// now, at once if that has changed; of one that is gone nobody is told any more; one that is
        /// new tells what happens from then on.
        ALERT "alert" | "alerts": Takes::Tables(super::alert::ALL), Words("nobody"), Live;
        and log::LOG_TO, log::LOG_TIME, log::LOG_PREFIX, log::LOG_FILE_BYTES, log::LOG_FILES,
            log::LOG_STDERR, log::LOG_PRIORITY, log::LOG_FACILITY, log::LOG_TAG,
            log::LOG_LINE_BYTES, log::LOG_LONG_LINES, log::LOG_RATE_LIMIT, log::LOGGER;
    } }
}

/// The keys of `health_restart_limit` in `vitald.toml`.
pub mod restart_limit {
    use super::*;

    keys! { ALL {
        /// So many within `per_ms`; 0: as many as there are.
        COUNT "count": Takes::Integer { min: 0, max: limits::MAX_TOKENS }, Integer(5), Live;
        /// A restart counts for so long.
        PER "per_ms": Takes::Millis { min: 1 }, Integer(30_000), Live;
    } }
}

/// The keys of `storm` in `vitald.toml`.
pub mod storm {
    use super::*;

    keys! { ALL {
        /// So many services that want a restart within `within_ms` are an incident; 0: their number
        /// alone is none.
        SERVICES "services": Takes::Integer { min: 0, max: limits::MAX_SICK }, Integer(5), Live;
        /// And so are so many percent of all services that run and are watched, by a probe that
        /// restarts them or a watchdog: three of them at least; 0: their share alone is none.
        PERCENT "percent": Takes::Integer { min: 0, max: 100 }, Integer(50), Live;
        /// How close together that must be.
        WITHIN "within_ms": Takes::Millis { min: 1 }, Integer(60_000), Live;
    } }
}

/// The keys of `watchdog` in `vitald.toml`.
pub mod watchdog {
    use super::*;

    keys! { ALL {
        /// Its device.
        DEVICE "device": Takes::Text, Text("/dev/watchdog"), Live;
        /// The host is reset when it was not fed for so long; devices know whole seconds.
        TIMEOUT "timeout_ms": Takes::Integer { min: 1000, max: 86_400_000 }, Integer(60_000), Live;
    } }
}

/// Resource limits by their name in setrlimit(2), lower case.
pub const LIMIT_NAMES: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// What a group may do on the control socket.
pub const ACCESS_WORDS: &[&str] = &["view", "read", "logs", "act", "restart", "admin"];
