//! Definitions.

use super::*;
use crate::calendar::Cron;
use crate::config::{
    Address, Ask, Backoff, Confine, Definition, Directories, Dns, Held, Hooks, Http, JsonRpc,
    KillMode, Kind, Limit, Log, LogPrefix, LogStderr, LogTime, LogTo, LongLines, Look, Measure,
    Notify, NotifyAccess, OnDependency, OnExhausted, OnUnhealthy, Preserve, Probe, Process,
    RateLimit, Ready, Resources, Restart, RetryPolicy, Schedule, Server, Severity, Socket, Speaks,
    StartOn, Ties, When, Window,
};
use crate::config::{Escalation, Rung};
use std::ops::RangeInclusive;

fields! { Definition {
    description exec kind after requires wants process stop_signal stop_timeout health_stop_timeout
    start_timeout restart autostart kill_mode retry_policy notify probes
} may {
    hooks pid_file held ties log critical safe observe probes_required schedule
} }

fields! { Schedule { when catch_up random_delay } }
variants! { When {; At Every; } }

impl Put for Cron {
    fn put(&self, out: &mut Vec<u8>) {
        let text: Box<str> = self.to_string().into();
        text.put(out);
    }
}

impl Take for Cron {
    fn take(json: &[u8]) -> Taken<Cron> {
        let text: Box<str> = Take::take(json)?;
        Cron::parse(&text).map_err(|_| "Cron")
    }
}

fields! { Held { sockets start_on } }
fields! { Socket { name listen backlog mode user group reuse_port } }
variants! { StartOn { Boot Connection;; } }
fields! { Ties {} may { before milestone after_exit conflicts on_dependency } }
variants! { OnDependency { Run Restart Stop;; } }

fields! { Hooks {
    pre_start pre_start_timeout stop_exec post_stop post_stop_timeout reload_signal reload_exec
    reload_timeout
} may {
    undo undo_timeout dossier_timeout diagnose diagnose_signal diagnose_timeout
} }

fields! { Process {
    user group groups umask working_dir env env_file inherit_env limits nice oom_score_adj
} may {
    directories confine resources
} }

fields! { Directories { runtime mode preserve } }
variants! { Preserve { No Restart Yes;; } }
fields! { Confine { no_new_privs capabilities read_only writable private_tmp secrets } }

fields! { Resources { memory_max memory_high cpu_max cpu_weight pids_max } }

fields! { Limit { soft hard } }

fields! { RetryPolicy {
    max_attempts delay backoff max_delay jitter stability_period on_exhausted
    on_exhausted_exec
} may {
    escalate
} }

fields! { Rung { after action } }
variants! { Escalation { Stop Reboot; RestartWith; Exec { argv timeout } } }

fields! { Log {
    to time prefix file_bytes files stderr priority facility tag line_bytes long_lines rate_limit
    logger
} }
fields! { RateLimit { count per } }
newtype! { Severity }
variants! { LogTo { File Syslog Both Memory;; } }
variants! { LogTime { Iso Tai64n None;; } }
variants! { LogPrefix { None Name Stream Both;; } }
variants! { LogStderr { Joined Apart;; } }
variants! { LongLines { Split Truncate;; } }

fields! { Notify { ready access watchdog fd_store_max } }
variants! { Ready { Probe Notify; Fd; } }
variants! { NotifyAccess { None Main Tree;; } }

fields! { Probe {
    name ask interval timeout failure_threshold success_threshold start_period start_interval
    on_unhealthy
} may {
    window confirm_interval
} }

fields! { Http {
    address path method headers expect_status expect_body follow_redirects keep_alive verify
} }

variants! { Kind { Process Oneshot Forking Target;; } }
variants! { Restart { Always OnFailure Never;; } }
variants! { KillMode { Tree Mixed Process;; } }
variants! { Backoff { Fixed Linear Exponential;; } }
variants! { OnExhausted { Keep Stop Reboot;; } }
variants! { OnUnhealthy { Restart Observe;; } }

variants! { Ask {;
    Http Https Server Look;
    Tcp { address send expect }
    Unix { path send expect }
    Exec { argv }
} }

variants! { Look {
    ;
    Dns;
    File { path max_age expect }
    Memory { max measure }
    Cpu { max_percent window }
    Fds { max max_percent }
} }
fields! { Server { address speaks } }
variants! { Speaks {
    ;
    JsonRpc;
    Redis { user password_file }
    Postgres { user database }
    Grpc { service }
} }
fields! { JsonRpc { call params expect_result http } }
variants! { Measure { Rss Pss Cgroup;; } }
fields! { Dns { server query record expect_rcode expect } }
fields! { Window { failures of } }

variants! { Address {;;
    Tcp { host port }
    Unix { path }
} }

impl Put for RangeInclusive<u16> {
    fn put(&self, out: &mut Vec<u8>) {
        (*self.start(), *self.end()).put(out);
    }
}

impl Take for RangeInclusive<u16> {
    fn take(json: &[u8]) -> Taken<RangeInclusive<u16>> {
        let (first, last) = Take::take(json)?;
        Ok(first..=last)
    }
}
