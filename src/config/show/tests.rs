//! Values as they are shown.

use super::*;
use crate::config::keys::service;
use crate::config::load;

fn one(text: &str) -> Definition {
    match load::read("web", "web.toml", text.as_bytes()) {
        load::Outcome {
            definition: Some(definition),
            ..
        } => definition,
        broken => panic!("{:?}", broken.problems),
    }
}

fn told(old: &str, new: &str) -> Vec<String> {
    let all = changes(&one(old), &one(new));
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn values_read_as_they_are_written_and_secrets_do_not() {
    let old = "exec = 'web -v'\nenv = { A = 'hush', B = 'hush', C = 'same' }\n\
               [[probe]]\ntype = 'http'\ntarget = 'http://[::1]:80/x'\n\
               headers = { Authorization = 'hush' }\n\
               [[probe]]\ntype = 'tcp'\ntarget = 'a:1'\nsend = 'hush'\nexpect = 'y'\n";
    let new = "exec = ['web', '-w']\nstart_timeout_ms = 5000\n\
               env = { A = 'hush2', C = 'same', D = 'hush' }\n\
               [[probe]]\ntype = 'http'\ntarget = 'http://[::1]:80/y'\ninterval_ms = 1000\n\
               headers = { Authorization = 'hush2' }\n\
               [[probe]]\ntype = 'tcp'\ntarget = 'a:1'\nsend = 'hush2'\nexpect = 'y'\n\
               [[probe]]\ntype = 'exec'\ntarget = 'true'\n";
    let told = told(old, new);
    assert_eq!(
        told,
        [
            "exec: [\"web\", \"-v\"] -> [\"web\", \"-w\"]",
            "env.A: changed",
            "env.B: removed",
            "env.D: added",
            "start_timeout_ms: 30000 -> 5000",
            "probe.http.target: \"http://[::1]:80/x\" -> \"http://[::1]:80/y\"",
            "probe.http.interval_ms: 10000 -> 1000",
            "probe.http.timeout_ms: 5000 -> 1000",
            "probe.http.headers: changed",
            "probe.tcp.send: changed",
            "probe.exec: none -> exec [\"true\"]",
        ]
    );
    assert!(!told.iter().any(|line| line.contains("hush")));
}

#[test]
fn a_long_value_is_cut() {
    let told = told("exec = 'a'", &format!("exec = '{}'", "x".repeat(300)));
    assert!(
        told[0].chars().count() < 110 && told[0].ends_with('…'),
        "{told:?}"
    );
}

/// A key that is new in the table wants its value shown here as well.
#[test]
fn every_key_shows_a_value() {
    // What a template lists is in no definition.
    let keyless = ["env", "probe", "retry_policy", "instances"];
    let other = |name: &str| {
        match name {
        "exec" => "exec = 'b'".to_owned(),
        "description" | "user" | "group" | "working_dir" | "env_file" => {
            format!("exec = 'a'\n{name} = '/x'")
        }
        "reload_signal" => "exec = 'a'\nreload_signal = 'HUP'".to_owned(),
        "pid_file" => "exec = 'a'\nkind = 'forking'\npid_file = '/run/x'".to_owned(),
        "undo" => "exec = 'a'\nkind = 'oneshot'\nundo = 'x'".to_owned(),
        "schedule" | "every" => {
            let value = if name == "every" { "7m" } else { "@daily" };
            format!("exec = 'a'\nkind = 'oneshot'\n{name} = '{value}'")
        }
        "catch_up" | "random_delay" => "exec = 'a'\nkind = 'oneshot'\nschedule = '@daily'\ncatch_up = true\nrandom_delay = '7s'".to_owned(),
        "notify_fd" => "exec = 'a'\nnotify_fd = 7\nready = 'fd'".to_owned(),
        _ => "exec = 'a'".to_owned(),
    }
    };
    let written = one(
        "exec = 'a'\nafter = ['x']\nrequires = ['x']\nwants = ['x']\ngroups = ['x']\n\
         before = ['y']\nmilestone = ['x']\nafter_exit = ['x']\nconflicts = ['y']\n\
         umask = '077'\nlimits = { nofile = 7 }\nnice = 7\noom_score_adj = 7\n\
         health_stop_timeout_ms = 7\nwatchdog_ms = 7000\npre_start = 'x'\nstop_exec = 'x'\n\
         post_stop = 'x'\nreload_exec = 'x'\ndiagnose = 'x'\n\
         socket = [{ listen = 'tcp:1' }]\ncapabilities = ['kill']\nread_only = true\n\
         writable = ['/x']\nsecrets = { a = '/x' }\n\
         runtime_directory = ['x']\nruntime_directory_mode = '0700'\n\
         log_to = 'file'\nlog_time = 'iso'\nlog_prefix = 'name'\nlog_file_bytes = 9999999\n\
         log_files = 2\nlog_stderr = 'apart'\nlog_priority = 'info'\nlog_facility = 'daemon'\n\
         log_tag = 'x'\nlog_line_bytes = 1000\nlog_long_lines = 'split'\n\
         log_rate_limit = { count = 1, per_ms = 1 }\nlogger = 'x'\n\
         memory_max = '2M'\nmemory_high = '1M'\ncpu_max = '7%'\ncpu_weight = 7\npids_max = 7\n",
    );
    for key in service::ALL
        .iter()
        .filter(|key| !keyless.contains(&key.name))
    {
        let shown = value(&written, key.name).or_else(|| value(&one(&other(key.name)), key.name));
        assert!(shown.is_some(), "{} shows nothing", key.name);
    }
    for key in crate::config::keys::retry_policy::ALL {
        let set = "exec = 'a'\n[retry_policy]\non_exhausted_exec = 'x'\n\
                   escalate = [{ after_uncured = 2, action = 'stop' }]\n";
        assert!(value(&one(set), key.name).is_some(), "{}", key.name);
    }
}
