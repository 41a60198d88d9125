//! Processes: what a child finds itself in, why one could not be started, crashes and their
//! budget, dependencies.

use super::host::{Host, executable, process, root, send, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Conformance 24: each its own message, with step and errno; dependents are told, others run.
#[test]
fn each_reason_not_to_start_has_its_own_message() {
    let mut host = Host::new("cannot");
    let plain = host.path("plain");
    fs::write(&plain, "#!/bin/sh\n").expect("write");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).expect("chmod");
    let alien = host.path("alien");
    executable(&alien, "no program");
    host.define("missing", "exec = ['/no/such/program']\n");
    host.define("bare", "exec = ['no-such-program']\n");
    host.define("denied", &format!("exec = ['{plain}']\n"));
    host.define("alien", &format!("exec = ['{alien}']\n"));
    host.define("nowhere", "exec = ['true']\nworking_dir = '/no/such/dir'\n");
    host.define("nobody", "exec = ['true']\nuser = 'no-such-user'\n");
    host.define("env", "exec = ['true']\nenv_file = '/no/such/env'\n");
    host.define(
        "needs",
        "exec = ['sleep', '1000']\nrequires = ['missing']\n",
    );
    host.define("wants", "exec = ['sleep', '1000']\nwants = ['missing']\n");
    host.start();
    for (name, words) in [
        ("missing", "/no/such/program: No such file or directory (2)"),
        ("bare", "no-such-program"),
        ("denied", "Permission denied (13)"),
        ("alien", "Exec format error (8)"),
        (
            "nowhere",
            "working_dir /no/such/dir: No such file or directory (2)",
        ),
        ("nobody", "no-such-user"),
        ("env", "/no/such/env: No such file or directory (2)"),
    ] {
        let status = host.until(name, "failed", |s| s.state == "failed");
        assert_eq!((status.attempts, status.pid), (0, None), "{name}");
        let detail = status.detail.as_deref().unwrap_or_default();
        assert!(detail.contains(words), "{name}: {detail}");
        let story = host.why(name).story;
        assert!(
            story.iter().any(|line| line.detail.contains(words)),
            "{story:#?}"
        );
    }
    // Conformance 32: `requires` waits, and says for whom; `wants` carries on.
    let status = host.until("needs", "blocked", |s| s.state == "blocked");
    assert!(
        status
            .detail
            .as_deref()
            .unwrap_or_default()
            .contains("missing")
    );
    host.up("wants");
    // An operator is told at once.
    let (code, message) = host.refused("service.start", &json!({"name": "missing", "wait": true}));
    assert_eq!(code, -32003);
    assert!(message.contains("No such file or directory"), "{message}");
}

/// Conformance 24: on an automatic restart a missing executable is a crash within the budget: a
/// package may be half upgraded.
#[test]
fn an_executable_that_is_away_for_a_while_is_tried_again() {
    let host = Host::new("upgrade");
    let program = host.path("program");
    let install = || {
        executable(&host.path("new"), "#!/bin/sh\nexec sleep 1000\n");
        fs::rename(host.path("new"), &program).expect("rename");
    };
    install();
    let retry = "[retry_policy]\ndelay_ms = 50\nbackoff = 'fixed'\nmax_attempts = 'unlimited'\n";
    host.define("web", &format!("exec = ['{program}']\n{retry}"));
    let mut host = host;
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    fs::remove_file(host.path("program")).expect("remove");
    send(pid, Signal::SIGKILL);
    host.until("web", "tried in vain", |s| {
        s.attempts >= 2 && s.state == "backoff"
    });
    let program = host.path("program");
    executable(&host.path("new"), "#!/bin/sh\nexec sleep 1000\n");
    fs::rename(host.path("new"), program).expect("rename");
    host.up("web");
}

/// Exit 127 of a shell is an exit, not a failed exec.
#[test]
fn exit_127_is_an_exit() {
    let text = "exec = ['sh', '-c', 'exit 127']\nrestart = 'never'\n";
    let host = Host::with("exit-127", &[("web", text)]);
    let status = host.until("web", "failed", |s| s.state == "failed");
    let end = status.last_end.expect("an end");
    assert_eq!((end.code, end.cause.as_str()), (Some(127), "exit"));
}

fn field<'a>(lines: &'a [String], key: &str) -> &'a str {
    let value = lines.iter().find_map(|line| line.strip_prefix(key));
    value
        .unwrap_or_else(|| panic!("no {key} in {lines:#?}"))
        .trim()
}

/// Conformance 25: signals, descriptors, session, umask, cwd, limits as defined.
#[test]
fn a_child_finds_itself_as_its_definition_says() {
    let mut host = Host::new("child");
    // No pipe behind `ls`: the shell may still hold an end of it while `ls` looks.
    let script = "cat /proc/self/status; echo FDS; ls /proc/$$/fd; echo END_FDS; \
                  echo PID=$$ CWD=$(pwd) UMASK=$(umask) NOFILE=$(ulimit -n) END=1; \
                  echo STAT=$(cat /proc/$$/stat); env; exec sleep 1000";
    let text = format!(
        "exec = ['sh', '-c', '{script}']\nworking_dir = '/proc'\numask = '027'\n\
         limits = {{ nofile = 123 }}\nenv = {{ COLOUR = 'blue' }}\n"
    );
    host.define("web", &text);
    host.set_env("SECRET", "of the daemon");
    host.set_env("NOTIFY_SOCKET", "/run/systemd/notify");
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    host.line("web", "all is said", |line| line.starts_with("VITALD_RUN="));
    host.line("web", "all is said", |line| line.starts_with("COLOUR="));
    let lines = host.lines("web");
    for mask in ["SigBlk:", "SigIgn:", "SigCgt:"] {
        let bits = u64::from_str_radix(field(&lines, mask), 16).expect("hexadecimal");
        assert_eq!(bits, 0, "{mask}");
    }
    let fds = lines
        .iter()
        .skip_while(|line| *line != "FDS")
        .skip(1)
        .take_while(|line| *line != "END_FDS");
    let mut fds: Vec<&str> = fds.map(String::as_str).collect();
    fds.sort_unstable();
    assert_eq!(fds, ["0", "1", "2"]);
    let told = format!("PID={pid} CWD=/proc UMASK=0027 NOFILE=123 END=1");
    assert!(lines.contains(&told), "{lines:#?}");
    let stat = field(&lines, "STAT=");
    let fields: Vec<&str> = stat
        .rsplit_once(") ")
        .expect("a stat")
        .1
        .split(' ')
        .collect();
    let (group, session, own) = (fields[2], fields[3], pid.to_string());
    assert_eq!((group, session), (own.as_str(), own.as_str()));
    assert_eq!(field(&lines, "COLOUR="), "blue");
    assert_eq!(field(&lines, "VITALD_RUN="), "web/1");
    let foreign = |line: &&String| line.contains("SECRET") || line.contains("NOTIFY_SOCKET");
    assert_eq!(lines.iter().find(foreign), None);
}

/// Conformance 25: user and groups.
#[test]
fn a_child_runs_as_its_user() {
    if !root() {
        return;
    }
    let script = "cat /proc/self/status; echo END; exec sleep 1000";
    let text = format!(
        "exec = ['sh', '-c', '{script}']\nuser = '65534'\ngroup = '65533'\ngroups = ['65532']\n"
    );
    let host = Host::with("user", &[("web", &text)]);
    host.line("web", "all is said", |line| line == "END");
    let lines = host.lines("web");
    assert_eq!(field(&lines, "Uid:"), "65534\t65534\t65534\t65534");
    assert_eq!(field(&lines, "Gid:"), "65533\t65533\t65533\t65533");
    let mut groups: Vec<&str> = field(&lines, "Groups:").split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["65532", "65533"]);
}

/// Conformance 18, by crashes: exactly `max_attempts` automatic restarts; then `start` by the
/// operator works at once with a fresh budget.
#[test]
fn the_budget_is_kept_to_and_the_operator_is_never_refused() {
    let mut host = Host::new("budget");
    let file = host.path("starts");
    let text = format!(
        "exec = ['sh', '-c', 'echo $VITALD_RUN >> {file}; exit 1']\n[retry_policy]\n\
         max_attempts = 3\ndelay_ms = 5\nbackoff = 'fixed'\n"
    );
    host.define("web", &text);
    host.start();
    let status = host.until("web", "failed", |s| s.state == "failed");
    assert_eq!(
        (status.run, status.attempts, status.max_attempts),
        (4, 3, Some(3))
    );
    let denied = host.decisions("web").pop().expect("a decision");
    assert_eq!(denied.to, "denied");
    assert!(denied.detail.contains("budget 3/3"), "{}", denied.detail);
    let answer = host.call("service.start", &json!({"name": "web"}));
    assert_eq!(answer["durable"], true);
    let status = host.until("web", "failed again", |s| s.state == "failed" && s.run > 4);
    assert_eq!(status.run, 8);
    let starts = fs::read_to_string(host.path("starts")).expect("starts");
    let wanted: String = (1..=8).map(|n| format!("web/{n}\n")).collect();
    assert_eq!(starts, wanted);
}

/// Pitfalls, watching: orphans that reach us are reaped.
#[test]
fn an_orphan_is_reaped_when_it_ends() {
    let mut host = Host::new("orphan");
    let file = host.path("pid");
    // Forked twice, so that its parent is gone at once.
    let script = format!("(sh -c \"echo \\$\\$ > {file}; exec sleep 1000\" &); exec sleep 1000");
    host.define("web", &format!("exec = ['sh', '-c', '''{script}''']\n"));
    host.start();
    let mut orphan = 0;
    until("the orphan wrote its pid", || {
        orphan = fs::read_to_string(&file)
            .ok()
            .and_then(|t| t.trim().parse().ok())
            .unwrap_or(0);
        orphan > 0
    });
    until("it is the daemon's", || {
        process(orphan).is_some_and(|(_, p)| p == host.pid())
    });
    send(orphan, Signal::SIGKILL);
    until("it is reaped", || process(orphan).is_none());
    let status = host.up("web");
    assert_eq!((status.run, status.attempts), (1, 0));
}

/// Conformance 31: a cycle and a missing dependency are errors with the path; only the services
/// concerned are held back.
#[test]
fn a_cycle_holds_back_whom_it_concerns() {
    let host = Host::with(
        "cycle",
        &[
            ("a", "exec = ['sleep', '1000']\nrequires = ['b']\n"),
            ("b", "exec = ['sleep', '1000']\nrequires = ['c']\n"),
            ("c", "exec = ['sleep', '1000']\nafter = ['a']\n"),
            ("lost", "exec = ['sleep', '1000']\nrequires = ['nothing']\n"),
            ("well", "exec = ['sleep', '1000']\n"),
        ],
    );
    host.up("well");
    for name in ["a", "b", "c"] {
        let status = host.status(name);
        assert_eq!(status.pid, None);
        let problem = status.problem.unwrap_or_default();
        let path = ["a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c"];
        assert!(
            path.iter().any(|path| problem.contains(path)),
            "{name}: {problem}"
        );
    }
    let problem = host.status("lost").problem.unwrap_or_default();
    assert!(problem.contains("nothing"), "{problem}");
}

/// Issue: ordered start. A oneshot is done before what requires it starts; a probed service is
/// healthy before that.
#[test]
fn what_is_required_is_satisfied_first() {
    let mut host = Host::new("order");
    let file = host.path("order");
    let flag = host.path("flag");
    let once = format!("kind = 'oneshot'\nexec = ['sh', '-c', 'sleep 0.1; echo once >> {file}']\n");
    let db = format!(
        "requires = ['once']\nexec = ['sh', '-c', 'sleep 0.1; echo db >> {file}; touch {flag}; \
         exec sleep 1000']\n[[probe]]\ntype = 'exec'\ntarget = ['test', '-e', '{flag}']\n\
         interval_ms = 1000\ntimeout_ms = 1000\nstart_interval_ms = 20\n"
    );
    let web =
        format!("requires = ['db']\nexec = ['sh', '-c', 'echo web >> {file}; exec sleep 1000']\n");
    host.define("web", &web);
    host.define("once", &once);
    host.define("db", &db);
    host.start();
    host.up("web");
    until("web wrote", || {
        fs::read_to_string(&file).is_ok_and(|t| t == "once\ndb\nweb\n")
    });
    assert_eq!(host.status("once").state, "exited");
}
