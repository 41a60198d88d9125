//! The keys of a probe.

use super::*;

/// All there are.
pub const TYPES: &[&str] = &[
    "http", "https", "tcp", "unix", "exec", "redis", "postgres", "jsonrpc", "grpc", "dns", "file",
    "memory", "cpu", "fds",
];
const HTTP: &[&str] = &["http", "https"];
const SOCKET: &[&str] = &["tcp", "unix"];
const TEXT: &[&str] = &["tcp", "unix", "file", "dns"];
const ASKED: &[&str] = &[
    "http", "https", "tcp", "unix", "exec", "redis", "postgres", "jsonrpc", "grpc", "dns", "file",
];

keys! { ALL {
    /// What kind of question it asks. `redis`, `postgres`, `jsonrpc`, `grpc` and `dns` speak
    /// that protocol; `file` looks at a file; `memory`, `cpu` and `fds` at what all its
    /// processes use.
    TYPE "type": Takes::Choice(TYPES), Required, Live;
    /// What it is called in `status` and in `probe run`.
    NAME "name": Takes::Text, Words("its type; the second of a type is called type-2"), Live;
    /// Whom it asks. http: "http://127.0.0.1:8080/healthz", or "unix:/run/web.sock:/healthz"
    /// over a Unix socket; https: a URL; tcp: "host:port"; unix: a socket's path; exec: a
    /// command, as an array or as one string like the service's `exec`; redis, postgres and
    /// grpc: "host:port" or a socket's path; jsonrpc: the same, for a line, or as for http, to
    /// post it; dns: a server's "host" or "host:port"; file: a path.
    TARGET "target": Takes::Command, Words("required"), Live, only ASKED;
    /// From the start of one check to the start of the next.
    INTERVAL "interval_ms": Takes::Millis { min: 1 }, Integer(10_000), Live;
    /// How long an answer may take; never longer than `interval_ms`.
    TIMEOUT "timeout_ms": Takes::Millis { min: 1 }, Integer(5_000), Live;
    /// Failures in a row until the probe is down.
    FAILURE_THRESHOLD "failure_threshold" | "retries": Takes::Integer { min: 1, max: 1000 }, Integer(3), Live;
    /// Passes in a row until a probe that was down is up. A service is not restarted right after a
    /// pass: what is down still, and passed when last asked, is left until it fails or recovers.
    SUCCESS_THRESHOLD "success_threshold": Takes::Integer { min: 1, max: 1000 }, Integer(1), Live;
    /// Failures within this time from the start of the process do not count; the first pass
    /// ends it early.
    START_PERIOD "start_period_ms": Takes::Millis { min: 0 }, Integer(0), Live;
    /// The interval while the service is starting; never longer than `interval_ms`.
    START_INTERVAL "start_interval_ms": Takes::Millis { min: 1 }, Integer(250), Live;
    /// Failures that need not be in a row: { failures = 3, of = 5 } takes the probe down, too,
    /// when 3 of its last 5 answers were failures; it is not up before that is over.
    FAILURE_WINDOW "failure_window": Takes::Table(failure_window::ALL), Words("none"), Live;
    /// The interval after a first failure, until it is known whether the probe is down; never
    /// longer than `interval_ms`.
    CONFIRM_INTERVAL "confirm_interval_ms": Takes::Millis { min: 1 }, Words("interval_ms"), Live;
    /// Whether a probe that is down restarts the service, or is only shown.
    ON_UNHEALTHY "on_unhealthy": Takes::Choice(&["restart", "observe"]), Text("restart"), Live;
    /// The request's method.
    METHOD "method": Takes::Choice(&["GET", "HEAD", "OPTIONS", "POST"]), Text("GET"), Live, only HTTP;
    /// Request headers. Host, User-Agent and Accept are sent by themselves unless given here.
    HEADERS "headers": Takes::Strings, Words("none"), Live, only HTTP;
    /// The statuses that pass: a number, or "200-399", or "200,204,301-308".
    EXPECT_STATUS "expect_status": Takes::Statuses, Text("200-399"), Live, only HTTP;
    /// The body must contain this text, within its first 10 KiB.
    EXPECT_BODY "expect_body": Takes::Text, Words("any body"), Live, only HTTP;
    /// Follow redirects to the same host: no, yes (at most 5), or at most so many. Otherwise the
    /// redirect's own status is judged.
    FOLLOW_REDIRECTS "follow_redirects": Takes::Redirects, Bool(false), Live, only HTTP;
    /// Use one connection for many checks. Cheaper, but it does not notice that new connections
    /// are no longer accepted.
    KEEP_ALIVE "keep_alive": Takes::Bool, Bool(false), Live, only &["http"];
    /// Check the server's certificate.
    VERIFY "verify": Takes::Bool, Bool(true), Live, only &["https"];
    /// Sent after the connection was made.
    SEND "send": Takes::Text, Words("nothing"), Live, only SOCKET;
    /// The answer must contain this text; tcp and unix: without it, a connection alone passes.
    /// file: the file must contain it, within its first 10 KiB. dns: a record of the answer must
    /// be this: an address, a name, a text.
    EXPECT "expect": Takes::Text, Words("anything"), Live, only TEXT;
    /// Who it is to the server. postgres: without `user` and `database` a server that turns
    /// `postgres` away is well, too, as for pg_isready. redis: an ACL user, with `password_file`.
    USER "user": Takes::Text, Words("postgres: postgres; redis: the default user"), Live,
        only &["redis", "postgres"];
    /// The file whose first line is the password. Read anew for each check.
    PASSWORD_FILE "password_file": Takes::Text, Words("none"), Live, only &["redis"];
    /// The database it connects to.
    DATABASE "database": Takes::Text, Words("the user's"), Live, only &["postgres"];
    /// The method it calls.
    CALL "call": Takes::Text, Words("required"), Live, only &["jsonrpc"];
    /// Its parameters, as JSON: "[1, 2]", '{"name": "web"}'.
    PARAMS "params": Takes::Text, Words("none"), Live, only &["jsonrpc"];
    /// What the result must be, as JSON. Of an object only the members that stand here are
    /// looked at. Without it, any result passes; an error never does.
    EXPECT_RESULT "expect_result": Takes::Text, Words("any result"), Live, only &["jsonrpc"];
    /// The service whose health it asks (grpc.health.v1).
    SERVICE "service": Takes::Text, Words("the server as a whole"), Live, only &["grpc"];
    /// The name that is looked up.
    QUERY "query": Takes::Text, Words("required"), Live, only &["dns"];
    /// The type of record that is looked up. With the response code NOERROR there must be one.
    RECORD "record": Takes::Choice(&["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"]),
        Text("A"), Live, only &["dns"];
    /// The response code.
    EXPECT_RCODE "expect_rcode": Takes::Choice(
        &["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"]), Text("NOERROR"),
        Live, only &["dns"];
    /// The file must have been written within this time: a heartbeat.
    MAX_AGE "max_age_ms": Takes::Millis { min: 1 }, Words("any age"), Live, only &["file"];
    /// More memory than this fails: a number of bytes, or "512M".
    MAX_MEMORY "max_memory": Takes::Size { min: 4096 }, Words("required"), Live, only &["memory"];
    /// What is measured. `rss`: what its processes have in memory, pages they share once for
    /// each; `pss`: shared pages in shares, which takes longer to find out; `cgroup`: what its
    /// cgroup counts, without the file pages that can be dropped at once.
    MEASURE "measure": Takes::Choice(&["rss", "pss", "cgroup"]), Text("rss"), Live, only &["memory"];
    /// More processor time than this fails: "100%" is one processor.
    MAX_CPU "max_cpu": Takes::Percent, Words("required"), Live, only &["cpu"];
    /// How long each check measures; shorter than `timeout_ms`.
    WINDOW "window_ms": Takes::Millis { min: 10 }, Words("1000, or half the timeout"), Live,
        only &["cpu"];
    /// More open descriptors than this, in one process, fail.
    MAX_FDS "max_fds": Takes::Integer { min: 1, max: 1 << 30 }, Words("none"), Live, only &["fds"];
    /// More than this share of the process's own limit fails.
    MAX_FDS_PERCENT "max_fds_percent": Takes::Integer { min: 1, max: 99 }, Words("none"), Live,
        only &["fds"];
} }

/// The keys of a probe's `failure_window`.
pub mod failure_window {
    use crate::config::keys::*;

    keys! { ALL {
        /// So many failures …
        FAILURES "failures": Takes::Integer { min: 1, max: 64 }, Required, Live;
        /// … among so many answers.
        OF "of": Takes::Integer { min: 2, max: 64 }, Required, Live;
    } }
}
