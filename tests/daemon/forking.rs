//! Daemons that fork themselves away: found by their pid file, watched to their end, taken up again;
//! and what is told of a pid file that is not right.

use super::host::{Host, alive, root, send, until};
use super::upgrade::{can_panic, panic, upgrade};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use vitald::engine::status::Status;
use vitald::journal::line::crc32c;

/// A daemon that forks twice, in a session of its own, with a child; with its number in `x.pid`.
/// `prefix` runs it, as by `env -i`.
fn daemon(host: &Host, prefix: &str) -> String {
    let (file, run) = (host.path("x.pid"), host.path("daemon.sh"));
    let script = format!(
        "[ -e {file} ] && echo stale\nsleep 1000 &\necho $$ > {file}.new; mv {file}.new {file}\n\
         while :; do wait; done\n"
    );
    fs::write(&run, script).expect("write");
    format!(
        "exec = ['sh', '-c', '(setsid {prefix} sh {run} &); until [ -s {file} ]; do sleep 0.02; \
         done']\nkind = 'forking'\npid_file = '{file}'\n[retry_policy]\ndelay_ms = 0\n"
    )
}

fn named(host: &Host) -> Option<i32> {
    let text = fs::read_to_string(host.path("x.pid")).ok()?;
    text.trim().parse().ok()
}

/// It runs, by the process that the file names.
fn known(host: &Host, run: u32) -> i32 {
    let status = host.up_again("old", run);
    assert_eq!(status.pid, named(host), "{status:?}");
    assert_eq!(status.kind, "forking");
    status.pid.expect("a pid")
}

#[test]
fn its_main_process_is_watched_stopped_and_started_anew() {
    let mut host = Host::new("forking");
    host.define("old", &daemon(&host, ""));
    // Left by somebody else: removed before the start.
    fs::write(host.path("x.pid"), format!("{}\n", std::process::id())).expect("write");
    host.start();
    let main = known(&host, 1);
    // How it ended is known: it came to us as an orphan.
    send(main, Signal::SIGSEGV);
    let next = known(&host, 2);
    let end = host.status("old").last_end.expect("an end");
    assert_eq!(end.signal.as_deref(), Some("SIGSEGV"));
    assert_ne!(main, next);
    host.wait("stop", "old");
    assert!(!alive(next));
    until("nothing of it is left", || host.processes().is_empty());
    host.wait("start", "old");
    known(&host, 3);
    assert!(
        !host.lines("old").contains(&"stale".to_owned()),
        "{:?}",
        host.lines("old")
    );
}

/// It clears its environment: no mark of ours is on it.
#[test]
fn one_without_our_mark_is_found_and_ended_with_its_children() {
    let host = Host::new("forking-unmarked");
    host.define("old", &daemon(&host, "env -i PATH=$PATH"));
    let mut host = host;
    host.start();
    let main = known(&host, 1);
    let children = |of: i32| {
        let path = format!("/proc/{of}/task/{of}/children");
        let text = fs::read_to_string(path).unwrap_or_default();
        let pids = text.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.collect::<Vec<i32>>()
    };
    until("its child is there", || children(main).len() == 1);
    let child = children(main)[0];
    // It cannot tidy up itself.
    send(main, Signal::SIGKILL);
    let next = known(&host, 2);
    assert!(!alive(child), "{child} of {main} lives beside {next}");
    host.wait("stop", "old");
    assert!(!alive(next));
}

/// The daemon's death, a panic and an upgrade touch it as little as any other.
#[test]
fn it_is_taken_up_again() {
    let mut host = Host::new("forking-death");
    host.set_env("VITALD_TEST_PANIC", "1");
    host.define("old", &daemon(&host, ""));
    host.start();
    let main = known(&host, 1);
    host.kill();
    host.start();
    assert_eq!(known(&host, 1), main);
    upgrade(&host);
    assert_eq!(known(&host, 1), main);
    if can_panic() {
        panic(&host, 1);
        assert_eq!(known(&host, 1), main);
    }
    send(main, Signal::SIGKILL);
    let next = known(&host, 2);
    // It ends while nobody is there.
    host.kill();
    send(next, Signal::SIGKILL);
    host.start();
    known(&host, 3);
    host.wait("stop", "old");
    until("nothing of it is left", || host.processes().is_empty());
}

/// The daemon dies while the first process works, and returns when that has ended: the search
/// begins then, and no second one is started.
#[test]
fn it_is_found_when_it_forked_while_nobody_was_there() {
    let mut host = Host::new("forking-birth");
    let (file, gate, log) = (host.path("x.pid"), host.path("gate"), host.path("births"));
    host.define(
        "old",
        &format!(
            "exec = ['sh', '-c', 'echo $$ >> {log}; until [ -e {gate} ]; do sleep 0.02; done; \
             (setsid sleep 1000 & echo $! > {file})']\nkind = 'forking'\npid_file = '{file}'\n\
             start_timeout_ms = 600000\n"
        ),
    );
    host.start();
    until("it is born", || {
        fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 1)
    });
    let first: i32 = fs::read_to_string(&log)
        .expect("read")
        .trim()
        .parse()
        .expect("a pid");
    host.kill();
    fs::write(&gate, "").expect("write");
    until("its first process has ended", || {
        !alive(first) && named(&host).is_some()
    });
    host.start();
    let main = known(&host, 1);
    assert!(alive(main));
    assert_eq!(fs::read_to_string(&log).expect("read").lines().count(), 1);
    host.wait("stop", "old");
    assert!(!alive(main));
}

/// The daemon dies before it wrote down whom it had made, and returns when that has forked itself
/// away: what is left of it is found by its mark, and no second one is started.
#[test]
fn it_is_found_though_nobody_wrote_down_its_first_process() {
    let host = Host::new("forking-lost");
    host.define("old", &daemon(&host, ""));
    unwritten(host);
    // Who led the session of its main process has ended, too.
    let host = Host::new("forking-lost-deep");
    let outer = host.path("outer.sh");
    fs::write(&outer, "\"$@\" &\n").expect("write");
    host.define("old", &daemon(&host, &format!("sh {outer}")));
    unwritten(host);
}

fn unwritten(mut host: Host) {
    host.start();
    let main = known(&host, 1);
    host.kill();
    let journal = host.dir.join("run/journal");
    let text = fs::read_to_string(&journal).expect("read");
    // Of its records the first, as it was before there was a process.
    let of_it = |line: &&str| line.contains("{\"service\":{\"name\":\"old\"");
    let record = text.lines().find(of_it).expect("a record");
    let (_, json) = record.split_once(' ').expect("a checksum");
    let (head, rest) = json.split_once("\"pid\":").expect("a pid");
    let (_, rest) = rest.split_once(',').expect("more");
    let json = format!("{head}\"pid\":null,{rest}");
    let intent = format!("{:08x} {json}", crc32c(json.as_bytes()));
    let others = text.lines().filter(|line| !of_it(line));
    let others = others.filter(|line| !line.contains("\"to\":\"running\""));
    let lines: Vec<&str> = others.chain([&*intent]).collect();
    fs::write(&journal, lines.join("\n") + "\n").expect("write");
    host.start();
    assert_eq!(known(&host, 1), main, "{}", host.said());
    assert_eq!(host.status("old").run, 1, "{}", host.said());
    host.wait("stop", "old");
    until("nothing of it is left", || host.processes().is_empty());
}

#[test]
fn without_a_pid_file_the_only_one_that_is_left_is_it() {
    let one = "exec = ['sh', '-c', '(setsid sleep 1000 &)']\nkind = 'forking'\n";
    let two = "exec = ['sh', '-c', '(setsid sleep 1000 &) ; (setsid sleep 1001 &)']\n\
               kind = 'forking'\n[retry_policy]\nmax_attempts = 0\n";
    let none = "exec = ['true']\nkind = 'forking'\n[retry_policy]\nmax_attempts = 0\n";
    let host = Host::with(
        "forking-left",
        &[("one", one), ("two", two), ("none", none)],
    );
    let pid = host.up("one").pid.expect("a pid");
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).expect("comm");
    assert_eq!(comm.trim(), "sleep");
    let failed = |name: &str| {
        let status = host.until(name, "failed", |s| s.state == "failed");
        status.detail.expect("why")
    };
    let detail = failed("two");
    assert!(detail.contains("write `pid_file`"), "{detail}");
    let detail = failed("none");
    assert!(detail.contains("no process of it is left"), "{detail}");
    until("only one's process lives", || host.processes() == [pid]);
}

/// File, content, cause and what to do, of each kind of wrong.
#[test]
fn a_bad_pid_file_is_told() {
    let host = Host::new("forking-bad");
    let open = host.path("open");
    fs::create_dir(&open).expect("mkdir");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&open, mode).expect("chmod");
    let own = std::process::id();
    // Longer than a test lives: what is told comes before that time.
    let cases = [
        (
            "words",
            "x.pid",
            "echo abc > {}".to_owned(),
            "holds `abc`, which is no process id",
        ),
        (
            "zero",
            "x.pid",
            "echo 0 > {}".to_owned(),
            "holds 0, which is no process",
        ),
        (
            "init",
            "x.pid",
            "echo 1 > {}".to_owned(),
            "holds 1, which is init",
        ),
        (
            "ours",
            "x.pid",
            "echo $PPID > {}".to_owned(),
            "which is vitald itself",
        ),
        (
            "stale",
            "x.pid",
            format!("echo {own} > {{}}"),
            "which is older than this start",
        ),
        (
            "link",
            "x.pid",
            "echo 1 > {}.1; ln -s {}.1 {}".to_owned(),
            "is a symbolic link",
        ),
        (
            "open",
            "open/x.pid",
            "echo 4 > {}".to_owned(),
            "anybody may write to",
        ),
        ("late", "x.pid", "true".to_owned(), "is not there"),
        ("empty", "x.pid", "true > {}".to_owned(), "is empty"),
        (
            "gone",
            "x.pid",
            "echo 2000000000 > {}".to_owned(),
            "holds 2000000000, and there is no such",
        ),
    ];
    let mut host = host;
    for (name, file, script, _) in &cases {
        let file = host.path(file).replace("x.pid", &format!("{name}.pid"));
        let script = script.replace("{}", &file);
        let text = format!(
            "exec = ['sh', '-c', '(setsid sleep 1000 &); {script}']\nkind = 'forking'\n\
             pid_file = '{file}'\nautostart = false\nstart_timeout_ms = 600000\n"
        );
        host.define(name, &text);
    }
    host.start();
    for (name, file, _, part) in &cases {
        host.call("service.start", &json!({"name": name}));
        let file = host.path(file).replace("x.pid", &format!("{name}.pid"));
        // What may still come right is waited for.
        let waits = ["late", "empty", "gone"].contains(name);
        let told = |s: &Status| {
            s.detail
                .as_ref()
                .is_some_and(|detail| detail.contains(part))
        };
        let status = host.until(name, part, |s| told(s) && (waits || s.state == "failed"));
        let detail = status.detail.expect("why");
        assert!(detail.starts_with(&format!("pid_file {file}")), "{detail}");
        assert_eq!(
            status.state,
            if waits { "starting" } else { "failed" },
            "{detail}"
        );
        assert_eq!(status.attempts, 0);
        host.wait("stop", name);
    }
    until("nothing of them is left", || host.processes().is_empty());
}

/// A service's user may name its own, nobody else may.
#[test]
fn whose_file_it_is_counts() {
    if !root() {
        return;
    }
    let mut host = Host::new("forking-owner");
    let dir = host.path("foreign");
    fs::create_dir(&dir).expect("mkdir");
    std::os::unix::fs::chown(&dir, Some(4242), None).expect("chown");
    let text = |user: &str| {
        format!(
            "exec = ['sh', '-c', '(setsid sleep 1000 & echo $! > {dir}/x.pid)']\nkind = 'forking'\n\
             pid_file = '{dir}/x.pid'\n{user}[retry_policy]\nmax_attempts = 0\n"
        )
    };
    host.define("own", &text("user = 4242\ngroup = 4242\n"));
    host.start();
    host.up("own");
    host.wait("stop", "own");
    host.undefine("own");
    host.define("other", &text(""));
    host.call("system.reload", &json!({}));
    let status = host.until("other", "failed", |s| s.state == "failed");
    let detail = status.detail.expect("why");
    assert!(detail.contains("belongs to uid 4242"), "{detail}");
}
