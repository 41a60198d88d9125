//! The keys of an `alert` in `vitald.toml`.

use super::*;

/// What can be told, in the order in which it is counted.
pub const KINDS: &[&str] = &[
    "unhealthy",
    "restarted",
    "uncured",
    "exhausted",
    "failed",
    "storm",
    "held",
    "host",
    "recovered",
];

keys! { ALL {
    /// What it is called in `info` and in `alert test`.
    NAME "name": Takes::Text, Words("exec or webhook; the second of a kind is called exec-2"), Live;
    /// What it tells. `unhealthy`: a probe or a watchdog that restarts is down, or a service is not
    /// ready in time; `restarted`: an automatic restart was decided; `uncured`: after a restart for
    /// its health a service is not well again; `exhausted`: no attempts are left; `failed`: for
    /// another reason it will not be started again by itself; `storm`: many services are unwell at
    /// once; `held`: the first of them that was restarted was not cured, and no other is; `host`: the host's watchdog is no longer fed; `recovered`: the all-clear, when a service
    /// of which trouble was told has been well for its `stability_period_ms`, or was stopped.
    ON "on": Takes::Words(KINDS),
        Words("all but unhealthy and restarted"), Live;
    /// The services that it is for; `*` stands for any characters, as in "db-*".
    SERVICES "services": Takes::Patterns, Words("all"), Live;
    /// The command that is run, as the daemon's user: it reads the alert as JSON on its standard
    /// input, and finds VITALD_ALERT (the kind), VITALD_SERVICE, VITALD_CAUSE, VITALD_REASON,
    /// VITALD_STATE, VITALD_HOST, VITALD_TIME and VITALD_TEXT (all in one line) in its environment.
    /// Any other end than exit code 0 is a failure. Written like a service's `exec`.
    EXEC "exec": Takes::Command, Words("none; either it or `webhook`"), Live;
    /// The URL to which the alert is sent by POST, as JSON; any other status than 2xx is a failure,
    /// redirects are not followed. https needs a build with TLS.
    WEBHOOK "webhook": Takes::Text, Words("none"), Live;
    /// A file that holds the URL, where that is itself a secret; read each time.
    WEBHOOK_FILE "webhook_file": Takes::Text, Words("none"), Live;
    /// Headers of the request.
    HEADERS "headers": Takes::Strings, Words("none"), Live;
    /// A file with more headers, a line each, as in `Authorization: Bearer …`; read each time.
    HEADERS_FILE "headers_file": Takes::Text, Words("none"), Live;
    /// What is posted: all of it as JSON, or one line of text.
    BODY "body": Takes::Choice(&["json", "text"]), Text("json"), Live;
    /// How long it may take to send one.
    TIMEOUT "timeout_ms": Takes::Millis { min: 1 }, Integer(10_000), Live;
    /// The same kind of the same service is not sent again within this time, nor is a second
    /// all-clear: how often it happened meanwhile is said by the next one.
    REPEAT_AFTER "repeat_after_ms": Takes::Millis { min: 0 }, Integer(300_000), Live;
} }
