//! What a changed definition means for a service that runs (design §2.4, Reload).
//!
//! Which keys need a restart is said in the key table and nowhere else.

use crate::config::definition::{
    Confine, Definition, Directories, Hooks, Process, Ready, Resources, RetryPolicy,
};
use crate::config::keys::{Key, Reload, log, retry_policy, service};
use crate::config::log::Log;
use crate::config::schedule::{Schedule, When};
use std::time::Duration;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The definitions are equal, whatever their files look like.
    None,
    /// Taken over without touching the process. The keys that changed.
    Live(Box<[&'static str]>),
    /// What the process is has changed. All keys that changed, also those that alone would not
    /// have restarted it.
    Restart(Box<[&'static str]>),
}

/// Compares by what the definitions hold: a default that is written out is no change.
pub fn diff(old: &Definition, new: &Definition) -> Change {
    // Taken apart, so that a new field cannot be forgotten here.
    let Definition {
        description,
        exec,
        kind,
        pid_file,
        after,
        requires,
        wants,
        // By its parts, below.
        ties: _,
        process,
        stop_signal,
        stop_timeout,
        health_stop_timeout,
        start_timeout,
        restart,
        autostart,
        schedule: _,
        critical,
        observe,
        safe,
        kill_mode,
        hooks,
        retry_policy,
        // By its parts, below.
        notify: _,
        held: _,
        probes,
        probes_required,
        log,
    } = old;
    let mut changed = Changed::default();
    changed.note(&service::DESCRIPTION, *description != new.description);
    changed.note(&service::EXEC, *exec != new.exec);
    changed.note(&service::KIND, *kind != new.kind);
    changed.note(&service::PID_FILE, *pid_file != new.pid_file);
    changed.note(&service::AFTER, *after != new.after);
    changed.note(&service::REQUIRES, *requires != new.requires);
    changed.note(&service::WANTS, *wants != new.wants);
    changed.ties(old, new);
    changed.process(process, &new.process);
    changed.note(&service::STOP_SIGNAL, *stop_signal != new.stop_signal);
    changed.note(&service::STOP_TIMEOUT, *stop_timeout != new.stop_timeout);
    changed.note(
        &service::HEALTH_STOP_TIMEOUT,
        *health_stop_timeout != new.health_stop_timeout,
    );
    changed.note(&service::START_TIMEOUT, *start_timeout != new.start_timeout);
    changed.note(&service::RESTART, *restart != new.restart);
    changed.note(&service::AUTOSTART, *autostart != new.autostart);
    changed.schedule(old.schedule.as_deref(), new.schedule.as_deref());
    changed.note(&service::CRITICAL, *critical != new.critical);
    changed.note(&service::OBSERVE, *observe != new.observe);
    changed.note(&service::SAFE, *safe != new.safe);
    changed.note(&service::KILL_MODE, *kill_mode != new.kill_mode);
    changed.hooks(hooks, &new.hooks);
    changed.retry_policy(retry_policy, &new.retry_policy);
    changed.notify(old, new);
    changed.note(&service::SOCKET, old.sockets() != new.sockets());
    changed.note(&service::START_ON, old.start_on() != new.start_on());
    changed.note(&service::PROBE, *probes != new.probes);
    changed.note(
        &service::PROBES_REQUIRED,
        *probes_required != new.probes_required,
    );
    let none = Log::default();
    changed.log(
        log.as_deref().unwrap_or(&none),
        new.log.as_deref().unwrap_or(&none),
    );
    match (changed.keys.is_empty(), changed.restart) {
        (true, _) => Change::None,
        (false, false) => Change::Live(changed.keys.into()),
        (false, true) => Change::Restart(changed.keys.into()),
    }
}

/// The keys of two services' output, or of its defaults, that differ.
pub fn log_keys(old: &Log, new: &Log) -> Vec<&'static str> {
    let mut changed = Changed::default();
    changed.log(old, new);
    changed.keys
}

#[derive(Default)]
struct Changed {
    keys: Vec<&'static str>,
    restart: bool,
}

impl Changed {
    fn note(&mut self, key: &Key, differs: bool) {
        if differs {
            self.keys.push(key.name);
            self.restart |= key.reload == Reload::Restart;
        }
    }

    fn schedule(&mut self, old: Option<&Schedule>, new: Option<&Schedule>) {
        let at = |s: Option<&Schedule>| match s.map(|s| &s.when) {
            Some(When::At(cron)) => Some(cron.clone()),
            Some(When::Every(_)) | None => None,
        };
        let every = |s: Option<&Schedule>| match s.map(|s| &s.when) {
            Some(When::Every(length)) => Some(*length),
            Some(When::At(_)) | None => None,
        };
        let catch_up = |s: Option<&Schedule>| s.is_some_and(|s| s.catch_up);
        let delay = |s: Option<&Schedule>| s.map_or(Duration::ZERO, |s| s.random_delay);
        self.note(&service::SCHEDULE, at(old) != at(new));
        self.note(&service::EVERY, every(old) != every(new));
        self.note(&service::CATCH_UP, catch_up(old) != catch_up(new));
        self.note(&service::RANDOM_DELAY, delay(old) != delay(new));
    }

    fn ties(&mut self, old: &Definition, new: &Definition) {
        self.note(&service::BEFORE, old.before() != new.before());
        self.note(&service::MILESTONE, old.milestone() != new.milestone());
        self.note(&service::AFTER_EXIT, old.after_exit() != new.after_exit());
        self.note(&service::CONFLICTS, old.conflicts() != new.conflicts());
        let (was, is) = (old.on_dependency(), new.on_dependency());
        self.note(&service::ON_DEPENDENCY, was != is);
    }

    fn process(&mut self, old: &Process, new: &Process) {
        let Process {
            user,
            group,
            groups,
            umask,
            working_dir,
            env,
            env_file,
            inherit_env,
            limits,
            nice,
            oom_score_adj,
            confine,
            resources: _,
            directories,
        } = old;
        self.note(&service::USER, *user != new.user);
        self.note(&service::GROUP, *group != new.group);
        self.note(&service::GROUPS, *groups != new.groups);
        self.note(&service::UMASK, *umask != new.umask);
        self.note(&service::WORKING_DIR, *working_dir != new.working_dir);
        self.note(&service::ENV, *env != new.env);
        self.note(&service::ENV_FILE, *env_file != new.env_file);
        self.note(&service::INHERIT_ENV, *inherit_env != new.inherit_env);
        self.note(&service::LIMITS, *limits != new.limits);
        self.note(&service::NICE, *nice != new.nice);
        self.note(&service::OOM_SCORE_ADJ, *oom_score_adj != new.oom_score_adj);
        self.confine(confine, &new.confine);
        self.resources(&old.resources(), &new.resources());
        let Directories {
            runtime,
            mode,
            preserve,
        } = directories;
        let new = &new.directories;
        self.note(&service::RUNTIME_DIRECTORY, *runtime != new.runtime);
        self.note(&service::RUNTIME_DIRECTORY_MODE, *mode != new.mode);
        self.note(
            &service::RUNTIME_DIRECTORY_PRESERVE,
            *preserve != new.preserve,
        );
    }

    fn confine(&mut self, old: &Confine, new: &Confine) {
        let Confine {
            no_new_privs,
            capabilities,
            read_only,
            writable,
            private_tmp,
            secrets,
        } = old;
        self.note(&service::NO_NEW_PRIVS, *no_new_privs != new.no_new_privs);
        self.note(&service::CAPABILITIES, *capabilities != new.capabilities);
        self.note(&service::READ_ONLY, *read_only != new.read_only);
        self.note(&service::WRITABLE, *writable != new.writable);
        self.note(&service::PRIVATE_TMP, *private_tmp != new.private_tmp);
        self.note(&service::SECRETS, *secrets != new.secrets);
    }

    fn resources(&mut self, old: &Resources, new: &Resources) {
        let Resources {
            memory_max,
            memory_high,
            cpu_max,
            cpu_weight,
            pids_max,
        } = old;
        self.note(&service::MEMORY_MAX, *memory_max != new.memory_max);
        self.note(&service::MEMORY_HIGH, *memory_high != new.memory_high);
        self.note(&service::CPU_MAX, *cpu_max != new.cpu_max);
        self.note(&service::CPU_WEIGHT, *cpu_weight != new.cpu_weight);
        self.note(&service::PIDS_MAX, *pids_max != new.pids_max);
    }

    fn notify(&mut self, old: &Definition, new: &Definition) {
        let by = |ready: Ready| std::mem::discriminant(&ready);
        let fd = |ready: Ready| match ready {
            Ready::Fd(fd) => Some(fd),
            Ready::Probe | Ready::Notify => None,
        };
        let (was, is) = (old.ready(), new.ready());
        self.note(&service::READY, by(was) != by(is));
        self.note(&service::NOTIFY_FD, fd(was) != fd(is));
        self.note(
            &service::NOTIFY_ACCESS,
            old.notify_access() != new.notify_access(),
        );
        self.note(&service::WATCHDOG, old.watchdog() != new.watchdog());
        self.note(
            &service::FD_STORE_MAX,
            old.fd_store_max() != new.fd_store_max(),
        );
    }

    fn hooks(&mut self, old: &Hooks, new: &Hooks) {
        let Hooks {
            pre_start,
            pre_start_timeout,
            stop_exec,
            post_stop,
            post_stop_timeout,
            undo,
            undo_timeout,
            dossier_timeout,
            diagnose,
            diagnose_signal,
            diagnose_timeout,
            reload_signal,
            reload_exec,
            reload_timeout,
        } = old;
        self.note(&service::PRE_START, *pre_start != new.pre_start);
        let (was, is) = (*pre_start_timeout, new.pre_start_timeout);
        self.note(&service::PRE_START_TIMEOUT, was != is);
        self.note(&service::STOP_EXEC, *stop_exec != new.stop_exec);
        self.note(&service::POST_STOP, *post_stop != new.post_stop);
        let (was, is) = (*post_stop_timeout, new.post_stop_timeout);
        self.note(&service::POST_STOP_TIMEOUT, was != is);
        self.note(&service::UNDO, *undo != new.undo);
        self.note(&service::UNDO_TIMEOUT, *undo_timeout != new.undo_timeout);
        self.note(
            &service::DOSSIER_TIMEOUT,
            *dossier_timeout != new.dossier_timeout,
        );
        let diagnoses = *diagnose != new.diagnose || *diagnose_signal != new.diagnose_signal;
        self.note(&service::DIAGNOSE, diagnoses);
        self.note(
            &service::DIAGNOSE_TIMEOUT,
            *diagnose_timeout != new.diagnose_timeout,
        );
        self.note(&service::RELOAD_SIGNAL, *reload_signal != new.reload_signal);
        self.note(&service::RELOAD_EXEC, *reload_exec != new.reload_exec);
        let (was, is) = (*reload_timeout, new.reload_timeout);
        self.note(&service::RELOAD_TIMEOUT, was != is);
    }

    fn log(&mut self, old: &Log, new: &Log) {
        let Log {
            to,
            time,
            prefix,
            file_bytes,
            files,
            stderr,
            priority,
            facility,
            tag,
            line_bytes,
            long_lines,
            rate_limit,
            logger,
        } = old;
        self.note(&log::LOG_TO, *to != new.to);
        self.note(&log::LOG_TIME, *time != new.time);
        self.note(&log::LOG_PREFIX, *prefix != new.prefix);
        self.note(&log::LOG_FILE_BYTES, *file_bytes != new.file_bytes);
        self.note(&log::LOG_FILES, *files != new.files);
        // A default that is written out is no reason for a restart.
        let stderr = (stderr.unwrap_or_default(), new.stderr.unwrap_or_default());
        self.note(&log::LOG_STDERR, stderr.0 != stderr.1);
        self.note(&log::LOG_PRIORITY, *priority != new.priority);
        self.note(&log::LOG_FACILITY, *facility != new.facility);
        self.note(&log::LOG_TAG, *tag != new.tag);
        self.note(&log::LOG_LINE_BYTES, *line_bytes != new.line_bytes);
        self.note(&log::LOG_LONG_LINES, *long_lines != new.long_lines);
        self.note(&log::LOG_RATE_LIMIT, *rate_limit != new.rate_limit);
        self.note(&log::LOGGER, *logger != new.logger);
    }

    fn retry_policy(&mut self, old: &RetryPolicy, new: &RetryPolicy) {
        let RetryPolicy {
            max_attempts,
            delay,
            backoff,
            max_delay,
            jitter,
            stability_period,
            on_exhausted,
            on_exhausted_exec,
            escalate,
        } = old;
        self.note(
            &retry_policy::MAX_ATTEMPTS,
            *max_attempts != new.max_attempts,
        );
        self.note(&retry_policy::DELAY, *delay != new.delay);
        self.note(&retry_policy::BACKOFF, *backoff != new.backoff);
        self.note(&retry_policy::MAX_DELAY, *max_delay != new.max_delay);
        self.note(&retry_policy::JITTER, *jitter != new.jitter);
        self.note(
            &retry_policy::STABILITY_PERIOD,
            *stability_period != new.stability_period,
        );
        self.note(
            &retry_policy::ON_EXHAUSTED,
            *on_exhausted != new.on_exhausted,
        );
        self.note(
            &retry_policy::ON_EXHAUSTED_EXEC,
            *on_exhausted_exec != new.on_exhausted_exec,
        );
        self.note(&retry_policy::ESCALATE, *escalate != new.escalate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn change(old: &str, new: &str) -> Change {
        let one = |text: &str| match load::read("web", "web.toml", text.as_bytes()) {
            load::Outcome {
                definition: Some(definition),
                ..
            } => definition,
            broken => panic!("{:?}", broken.problems),
        };
        diff(&one(old), &one(new))
    }

    #[test]
    fn comments_order_and_written_defaults_are_no_change() {
        let old = "exec = 'a'\n";
        let new = "# new\nautostart = true\nexec = ['a']\n[retry_policy]\ndelay_ms = 1000\n";
        assert_eq!(change(old, new), Change::None);
    }

    fn other_word(name: &str) -> &'static str {
        match name {
            "log_time" => "'tai64n'",
            "log_prefix" => "'name'",
            "log_stderr" => "'apart'",
            _ => "'debug'",
        }
    }

    /// One value for each key that differs from its default; a table that lacks a key fails.
    #[test]
    fn each_key_does_what_the_table_says() {
        let other = |name: &str| match name {
            "description" | "user" | "group" => "'x'",
            "exec" => "'b'",
            "kind" => "'oneshot'",
            "pid_file" => "'/x'\nkind = 'forking'",
            "undo" => "'x'",
            "runtime_directory" => "['x']",
            "runtime_directory_mode" => "'700'\nruntime_directory = ['x']",
            "runtime_directory_preserve" => "'yes'",
            "after" | "requires" | "wants" | "groups" | "before" | "milestone" | "after_exit"
            | "conflicts" => "['x']",
            "on_dependency" => "'restart'",
            "umask" => "'077'",
            "working_dir" | "env_file" => "'/x'",
            "env" => "{ A = '1' }",
            "inherit_env" | "critical" | "observe" | "safe" | "no_new_privs" | "read_only"
            | "private_tmp" => "true",
            "capabilities" => "['kill']",
            "writable" => "['/x']\nread_only = true",
            "secrets" => "{ a = '/x' }",
            "autostart" => "false",
            "schedule" => "'@daily'",
            "every" => "'7m'",
            "catch_up" => "true",
            "random_delay" => "'7s'",
            "limits" => "{ nofile = 7 }",
            "probes_required" => {
                "1\nprobe = [{ type = 'unix', target = '/a', send = 'x' }, \
                 { type = 'unix', target = '/b', send = 'x' }]"
            }
            "nice" | "oom_score_adj" | "cpu_weight" | "pids_max" => "7",
            "memory_max" | "memory_high" => "'7M'",
            "cpu_max" => "'7%'",
            "stop_signal" | "reload_signal" => "'INT'",
            "pre_start" | "stop_exec" | "post_stop" | "reload_exec" | "diagnose" => "'x'",
            "restart" => "'never'",
            "kill_mode" => "'process'",
            "ready" => "'notify'",
            "notify_fd" => "7\nready = 'fd'",
            "notify_access" => "'main'",
            "fd_store_max" => "7",
            "socket" => "[{ listen = 'tcp:1' }]",
            "start_on" => "'connection'",
            "log_to" => "'syslog'",
            "log_files" => "7",
            "log_time" | "log_prefix" | "log_stderr" | "log_priority" => other_word(name),
            "log_facility" => "'local3'",
            "log_tag" | "logger" => "'x'",
            "log_long_lines" => "'truncate'",
            "log_rate_limit" => "{ count = 7 }",
            "retry_policy" => "{ jitter = 0.5 }",
            "probe" => "[{ type = 'tcp', target = 'a:1', send = 'x', expect = 'y' }]",
            _ => "7000",
        };
        // What a template lists is in no definition.
        let keys = service::ALL.iter().filter(|key| key.name != "instances");
        for key in keys {
            // What a connection starts has sockets; only a oneshot is undone, or scheduled.
            let old = match key.name {
                "undo" => "exec = 'a'\nkind = 'oneshot'",
                "start_on" => "exec = 'a'\nsocket = [{ listen = 'tcp:1' }]",
                "schedule" | "every" => "exec = 'a'\nkind = 'oneshot'",
                "catch_up" | "random_delay" => "exec = 'a'\nkind = 'oneshot'\nschedule = '@hourly'",
                _ => "exec = 'a'",
            };
            let new = match key.name {
                "exec" => "exec = 'b'".to_owned(),
                name => format!("{old}\n{name} = {}", other(name)),
            };
            let got = change(old, &new);
            let keys: &[&str] = match (&got, key.reload) {
                (Change::Live(keys), Reload::Live) => keys,
                (Change::Restart(keys), Reload::Restart) => keys,
                _ => panic!("{}: {got:?}", key.name),
            };
            let expected = if key.name == "retry_policy" {
                "jitter"
            } else {
                key.name
            };
            assert!(keys.contains(&expected), "{}: {got:?}", key.name);
        }
    }

    #[test]
    fn a_restart_names_all_that_changed() {
        let got = change("exec = 'a'", "exec = 'b'\nstop_timeout_ms = 1\n");
        assert_eq!(got, Change::Restart(Box::new(["exec", "stop_timeout_ms"])));
    }
}
