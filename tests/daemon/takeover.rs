//! Taking over: what a new program must show before it is executed, what becomes of one that fails
//! all the same, and of those who waited meanwhile.

use super::client::Client;
use super::host::{Host, alive, binary, copy, is_up, root, send, until, untimed};
use super::upgrade::{can_panic, panic, script, upgrade};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Seek, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use vitald::engine::status::Status;

const SLEEPER: &str = "exec = ['sleep', '1000']\n";

fn kept(status: &Status) -> (Option<i32>, u32, String) {
    (status.pid, status.run, status.state.clone())
}

/// A vitald that is another one when it is not only tried: with `before` it, and `more` options.
fn stumbling_with(host: &Host, before: &str, more: &str) -> String {
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in version|*--rehearse*) exec {0} \"$@\";; esac\n\
         {before} exec {0} \"$@\" {more}\n",
        binary().display()
    );
    script(host, "stumbling", &text)
}

/// One that fails in `run` by these options.
pub fn stumbling(host: &Host, more: &str) -> String {
    stumbling_with(host, "", more)
}

/// It fails before it has taken over, and the one before is there again with all that it had.
fn falls_back(host: &Host, program: &str, words: &str) {
    let before = host.up("web");
    let daemon = host.pid();
    let mut idle = host.client();
    let mut listener = host.events(&["web"]);
    let (_, message) = host.refused("system.upgrade", &json!({"program": program}));
    assert!(
        message.contains("failed before it had taken over") && message.contains(words),
        "{message}"
    );
    assert!(message.contains("no service was touched"), "{message}");
    let info = host.daemon();
    assert_eq!(info.pid, daemon);
    assert!(
        info.began
            .is_some_and(|began| began.contains("the program before it again"))
    );
    assert_eq!(kept(&host.up("web")), kept(&before));
    // The same connections, the same lock.
    idle.call("system.ping", &json!({})).expect("a pong");
    let second = host.command().output().expect("run");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && said.contains("is locked by process"),
        "{said}"
    );
    // And a supervisor as before.
    send(before.pid.expect("a pid"), Signal::SIGKILL);
    host.up_again("web", before.run + 1);
    listener.event("the crash", |line| {
        line.kind == "state" && line.from == "running"
    });
    assert_eq!(
        fs::read_link(format!("/proc/{daemon}/exe")).expect("its program"),
        binary()
    );
}

#[test]
fn a_program_that_fails_before_it_has_taken_over_executes_the_one_before() {
    let text = format!("{SLEEPER}[retry_policy]\ndelay_ms = 0\n");
    let host = Host::with("fall-back", &[("web", &text)]);
    let program = stumbling(&host, "--runtime-dir /dev/null/none");
    falls_back(&host, &program, "Not a directory (20)");
    // Once more, by the old one that has come back.
    falls_back(&host, &program, "Not a directory (20)");
    upgrade(&host);
}

#[test]
fn a_program_that_panics_before_it_has_taken_over_executes_the_one_before() {
    if !can_panic() {
        return;
    }
    let text = format!("{SLEEPER}[retry_policy]\ndelay_ms = 0\n");
    let host = Host::with("fall-back-panic", &[("web", &text)]);
    let program = stumbling_with(&host, "VITALD_TEST_PANIC='at the start'", "");
    falls_back(&host, &program, "asked to panic at the start");
    upgrade(&host);
}

/// What could not go on from what this daemon leaves is found out before anything is executed.
#[test]
fn a_program_that_could_not_go_on_from_here_is_refused() {
    let host = Host::with("rehearsal", &[("web", SLEEPER)]);
    let before = host.up("web");
    let vitald = binary();
    let vitald = vitald.display();
    let only_version = "[ \"$1\" = version ] && echo vitald 9.9.9 && exit\n";
    let elsewhere = host.path("elsewhere");
    let says = [
        (
            format!("#!/bin/sh\n{only_version}echo 'vitald: run: unknown option' >&2; exit 2\n"),
            "`run --rehearse` ended with exit status: 2: run: unknown option; nothing was changed",
        ),
        (
            format!("#!/bin/sh\n{only_version}echo '{{}}'\n"),
            "says not what is wrong",
        ),
        (
            format!("#!/bin/sh\n{only_version}kill -9 $$\n"),
            "signal: 9",
        ),
        (
            format!(
                "#!/bin/sh\n[ \"$1\" = run ] && exec {vitald} \"$@\" --runtime-dir {elsewhere}\n\
                 exec {vitald} \"$@\"\n"
            ),
            "the runtime journal",
        ),
    ];
    for (text, words) in says {
        let program = script(&host, "program", &text);
        let (_, message) = host.refused("system.upgrade", &json!({"program": program}));
        assert!(message.contains(words), "{message}");
        assert!(message.contains("nothing was changed"), "{message}");
    }
    assert_eq!(host.daemon().began, None);
    assert_eq!(kept(&host.up("web")), kept(&before));
    // As a person asks; nothing is touched by it.
    let mut command = host.command();
    let output = command.arg("--rehearse").output().expect("run");
    let line: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&line["obstacles"], &line["unread"]),
        (&json!([]), &json!([])),
        "{line}"
    );
}

/// As when the small build takes the place of the one with TLS.
#[test]
fn a_program_that_cannot_read_a_definition_in_force_is_refused_or_leaves_it_running() {
    let mut host = Host::new("unread");
    let text = format!("{SLEEPER}[retry_policy]\ndelay_ms = 0\n");
    host.define("web", &text);
    host.define("well", SLEEPER);
    host.start();
    let (web, well) = (host.up("web"), host.up("well"));
    let other = host.path("other/services");
    fs::create_dir_all(&other).expect("mkdir");
    fs::write(format!("{other}/web.toml"), format!("strange = 1\n{text}")).expect("write");
    fs::write(format!("{other}/well.toml"), SLEEPER).expect("write");
    // The same program, with these definitions.
    let reading = |name: &str, dir: &str| {
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = run ] && exec {0} \"$@\" --config-dir {1}\nexec {0} \"$@\"\n",
            binary().display(),
            host.path(dir)
        );
        script(&host, name, &text)
    };
    let program = reading("program", "other");
    let asked = json!({"program": program});
    let (_, message) = host.refused("system.upgrade", &asked);
    assert!(message.contains("services/web.toml:1"), "{message}");
    assert!(
        message.contains("--force") && !message.contains("well.toml"),
        "{message}"
    );
    assert_eq!(host.daemon().began, None);
    let (code, out, err) = host.cli(&["upgrade", "--force", &program]);
    assert_eq!(code, 0, "{out}{err}");
    let after = host.status("web");
    assert_eq!((kept(&after), after.attempts), (kept(&web), web.attempts));
    assert!(
        after
            .problem
            .is_some_and(|problem| problem.contains("strange"))
    );
    assert_eq!(kept(&host.up("well")), kept(&well));
    // Back to one that can, and it is supervised again.
    let back = reading("back", "config");
    host.call("system.upgrade", &json!({"program": back}));
    assert_eq!(kept(&host.up("web")), kept(&web));
    send(web.pid.expect("a pid"), Signal::SIGKILL);
    host.up_again("web", web.run + 1);
}

/// Never ready until its file is there.
fn late(host: &Host) -> String {
    format!(
        "{SLEEPER}autostart = false\nstart_timeout_ms = 600000\n[[probe]]\ntype = 'exec'\n\
         target = ['test', '-e', '{}']\ninterval_ms = 1000\ntimeout_ms = 1000\nstart_interval_ms = 50\n",
        host.path("ready")
    )
}

/// Nobody is cut: who waits is told, who listens goes on listening.
#[test]
fn conversations_go_on_over_an_upgrade() {
    let mut host = Host::new("conversations");
    let text = late(&host);
    host.define("late", &text);
    let go = host.path("go");
    let script = format!(
        "i=0; while :; do while [ ! -e {go} ]; do sleep 0.01; done; i=$((i+1)); echo line $i; \
         [ $i -lt 300 ] || exec sleep 1000; done"
    );
    host.define("talk", &format!("exec = ['sh', '-c', '{script}']\n"));
    host.start();
    host.up("talk");
    let mut waits = host.client();
    waits.ask("service.start", &json!({"name": "late", "wait": true}));
    let mut words = host.client();
    words.put("start late --wait");
    let mut half = host.client();
    write!(half.stream(), "pi").expect("half a line");
    let mut listens = host.events(&["late"]);
    let mut follows = host.client();
    follows
        .call(
            "logs.tail",
            &json!({"name": "talk", "lines": 0, "follow": true}),
        )
        .expect("followed");
    let cli = |arguments: &[&str]| command_line(&host, arguments);
    let started = cli(&["start", "late", "--wait"]);
    let restarted = cli(&["restart", "late", "--wait"]);
    // The last of them has been taken in: its run is the second.
    host.until("late", "restarted", |s| s.run >= 2 && s.state == "starting");
    fs::write(&go, "").expect("write");
    for _ in 0..3 {
        upgrade(&host);
    }
    let (id, refused) = waits.answer().expect("an answer");
    let (code, message) = refused.expect_err("not done yet");
    assert_eq!((id, code), (1, -32012), "{message}");
    waits
        .call("system.ping", &json!({}))
        .expect("the same connection");
    let line = words.line().expect("a line");
    assert!(line.starts_with("error: the daemon was replaced"), "{line}");
    assert_eq!(words.words("ping").last().map(String::as_str), Some("ok"));
    writeln!(half.stream(), "ng").expect("the other half");
    assert!(half.line().expect("an answer").contains("vitald"));
    // What follows is heard by whom it was promised to.
    fs::write(host.path("ready"), "").expect("write");
    listens.event("it is ready", |line| {
        line.kind == "state" && line.to == "running"
    });
    for child in [started, restarted] {
        let output = child.wait_with_output().expect("wait");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}{errors}");
        assert!(said.contains("late is running (healthy)"), "{said}{errors}");
    }
    let mut numbers: Vec<u32> = Vec::new();
    while numbers.last() != Some(&300) {
        let message = follows.json();
        assert_eq!(message["method"], "logs.lines", "{message}");
        for line in message["params"]["lines"].as_array().expect("lines") {
            let line = untimed(line.as_str().expect("a line"));
            numbers.extend(
                line.rsplit_once(' ')
                    .and_then(|(_, n)| n.parse::<u32>().ok()),
            );
        }
    }
    assert_eq!(numbers, (1..=300).collect::<Vec<_>>());
}

/// After a panic connections are closed; the command line goes on with the next daemon.
#[test]
fn the_command_line_goes_on_after_a_panic() {
    if !can_panic() {
        return;
    }
    let mut host = Host::new("panic-clients");
    host.set_env("VITALD_TEST_PANIC", "1");
    let text = late(&host);
    host.define("late", &text);
    let fifo = host.path("go");
    nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let talk = format!(
        "exec = ['sh', '-c', 'while read line; do echo $line; done < {fifo}; exec sleep 1000']\n"
    );
    host.define("talk", &talk);
    host.start();
    host.up("talk");
    let mut to = fs::OpenOptions::new()
        .write(true)
        .open(&fifo)
        .expect("open");
    let cli = |arguments: &[&str]| command_line(&host, arguments);
    let waits = cli(&["start", "late", "--wait"]);
    host.until("late", "starting", |s| s.state == "starting");
    let mut follows = cli(&["logs", "talk", "-f"]);
    let mut lines = BufReader::new(follows.stdout.take().expect("stdout")).lines();
    let mut errors = BufReader::new(follows.stderr.take().expect("stderr")).lines();
    let mut next = |what: &str| {
        let line = lines.next().expect(what).expect("a line");
        assert!(line.ends_with(what), "{line}");
    };
    writeln!(to, "first").expect("write");
    next("first");
    panic(&host, 1);
    let line = errors.next().expect("a word of it").expect("a line");
    assert!(line.contains("connected again"), "{line}");
    writeln!(to, "second").expect("write");
    next("second");
    send(follows.id() as i32, Signal::SIGTERM);
    follows.wait().expect("wait");
    fs::write(host.path("ready"), "").expect("write");
    let output = waits.wait_with_output().expect("wait");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("late is running"),
        "{said}"
    );
}

/// A child that is still setting itself up tells the next daemon how that ended.
fn unexecuted(host: &Host, again: impl FnOnce()) {
    host.call("service.start", &json!({"name": "web"}));
    let pid = host
        .until("web", "made", |s| s.pid.is_some())
        .pid
        .expect("a pid");
    again();
    assert!(alive(pid));
    assert_eq!(host.status("web").pid, Some(pid));
    // It waits for a writer: a word of environment, and then its program is missing.
    fs::write(host.path("env"), "A=1\n").expect("write");
    let status = host.until("web", "failed", |s| s.state == "failed");
    let words = status.detail.unwrap_or_default();
    assert!(words.contains("No such file or directory (2)"), "{words}");
    assert_eq!(status.attempts, 0);
}

fn with_a_slow_child(test: &str) -> Host {
    let mut host = Host::new(test);
    host.set_env("VITALD_TEST_PANIC", "1");
    let env = host.path("env");
    nix::unistd::mkfifo(env.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
    let missing = host.path("missing");
    let text = format!("exec = ['{missing}']\nenv_file = '{env}'\nautostart = false\n");
    host.define("web", &text);
    host.start();
    host
}

#[test]
fn a_child_not_yet_executed_is_heard_of_by_the_next_daemon() {
    let host = with_a_slow_child("upgrade-exec");
    unexecuted(&host, || upgrade(&host));
}

#[test]
fn a_child_not_yet_executed_is_heard_of_after_a_panic() {
    if !can_panic() {
        return;
    }
    let host = with_a_slow_child("panic-exec");
    unexecuted(&host, || panic(&host, 1));
}

/// What an execution before left open and nobody here knows does not stay open.
#[test]
fn what_is_handed_over_and_not_known_is_closed_and_said() {
    let mut host = Host::new("unclaimed");
    let name = c"handover";
    let flags = nix::sys::memfd::MFdFlags::empty();
    let memory = nix::sys::memfd::memfd_create(name, flags).expect("memfd");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let (high, no_exec) = (
        nix::fcntl::FcntlArg::F_DUPFD(200),
        nix::fcntl::FcntlArg::F_DUPFD(201),
    );
    let left = nix::fcntl::fcntl(&reader, high).expect("dup");
    let socket = nix::fcntl::fcntl(&writer, no_exec).expect("dup");
    let text = json!({
        "cause": {"upgrade": {"by": "root", "from": "9.9.9"}},
        "open": [left, socket],
        "clients": [{"fd": socket}],
        "of_a_later_version": {"fd": left},
    });
    let mut file = fs::File::from(memory);
    file.write_all(text.to_string().as_bytes()).expect("write");
    file.rewind().expect("rewind");
    host.set_env("VITALD_HANDOVER", &file.as_raw_fd().to_string());
    host.start();
    for fd in [left, socket] {
        nix::unistd::close(fd).expect("close");
    }
    drop((reader, file));
    assert!(
        host.daemon()
            .began
            .is_some_and(|began| began.contains("9.9.9"))
    );
    let fds = fs::read_dir(format!("/proc/{}/fd", host.pid())).expect("/proc");
    let open: Vec<String> = fds
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|to| to.display().to_string())
        .filter(|to| to.contains("memfd:handover"))
        .collect();
    assert_eq!(open, Vec::<String>::new());
    let numbers = |number: i32| fs::symlink_metadata(format!("/proc/{}/fd/{number}", host.pid()));
    assert!(numbers(left).is_err() && numbers(socket).is_err());
    let words = format!("that nothing here knows are closed: {left}\n");
    assert!(host.said().contains(&words), "{}", host.said());
}

/// A daemon that does not outlive its test.
struct Daemon(std::process::Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A mount namespace without /proc, in which a daemon is started.
fn without_proc(host: &Host) -> Daemon {
    let inner = host.command();
    let mut command = Command::new("unshare");
    let script = "umount -l /proc && exec \"$@\"";
    command.args(["-m", "sh", "-c", script, "sh"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.env("VITALD_TEST_PANIC", "1");
    let log = fs::File::create(host.path("daemon.log")).expect("a log");
    let daemon = Daemon(command.stderr(log).spawn().expect("start"));
    until("it answers", || Client::connect(&host.socket()).is_ok());
    daemon
}

/// Nothing tells this boot from another there, nor one process from another; but this process is
/// itself, and its children are its own.
#[test]
fn without_proc_it_executes_itself_and_others_all_the_same() {
    if !root() {
        return;
    }
    let host = Host::new("no-proc");
    let text = format!("{SLEEPER}[retry_policy]\ndelay_ms = 0\n");
    host.define("web", &text);
    host.define("other", SLEEPER);
    let mut daemon = without_proc(&host);
    let pid = daemon.0.id() as i32;
    let (web, other) = (host.up("web"), host.up("other"));
    // By name, without one, and by a copy whose name is gone meanwhile.
    let copied = host.path("copy");
    copy(&binary(), &copied);
    for asked in [
        json!({"program": binary().to_str()}),
        json!({}),
        json!({"program": copied}),
    ] {
        host.call("system.upgrade", &asked);
        assert_eq!(host.daemon().pid, pid);
        assert_eq!(kept(&host.up("web")), kept(&web));
    }
    fs::remove_file(&copied).expect("remove");
    let mut web = web;
    if can_panic() {
        for times in 1..=2 {
            send(pid, Signal::SIGUSR2);
            until("it answers after the panic", || {
                let client = Client::connect(&host.socket());
                client.is_ok_and(|mut client| {
                    client.ask("system.status", &json!({}));
                    let status = client.answer().and_then(|(_, status)| status.ok());
                    let began = status.map(|status| status["began"].to_string());
                    began.is_some_and(|began| began.contains(&format!("({times} within")))
                })
            });
            assert_eq!(kept(&host.up("web")), kept(&web));
            // How a child ends is known, and it is started again once.
            send(web.pid.expect("a pid"), Signal::SIGKILL);
            web = host.up_again("web", web.run + 1);
            assert_eq!(
                web.last_end.as_ref().and_then(|end| end.signal.as_deref()),
                Some("SIGKILL")
            );
        }
    }
    assert_eq!(kept(&host.up("other")), kept(&other));
    assert!(is_up(&host.status("other")));
    let sleepers = host.processes();
    send(pid, Signal::SIGTERM);
    let ended = daemon.0.wait().expect("wait");
    assert_eq!(
        (sleepers.len(), ended.code()),
        (2, Some(0)),
        "{}",
        host.said()
    );
}

/// A client that goes on while the test does something else.
fn command_line(host: &Host, arguments: &[&str]) -> Child {
    let mut command = Command::new(binary());
    command.env_clear().env("VITALD_SOCKET", host.socket());
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command.stderr(Stdio::piped()).spawn().expect("run")
}
