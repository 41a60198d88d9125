//! The daemon executes itself anew in its own process: by `upgrade`, and after a panic.

use super::host::{Host, alive, binary, executable, is_up, process, send, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use vitald::engine::status::Status;

/// What no re-execution may change.
fn kept(s: &Status) -> (Option<i32>, u32, u32, String, String) {
    (s.pid, s.run, s.attempts, s.state.clone(), s.wanted.clone())
}

/// Upgrades to the same binary; the answer comes from that one.
pub fn upgrade(host: &Host) {
    let program = binary();
    let answer = host.call("system.upgrade", &json!({"program": program.to_str()}));
    let note = answer["note"].as_str().unwrap_or_default();
    assert!(note.starts_with("upgraded from "), "{answer}");
    assert!(
        host.daemon()
            .began
            .is_some_and(|began| began.starts_with("upgraded from "))
    );
}

#[test]
fn an_upgrade_touches_no_service_and_no_number() {
    let host = {
        let mut host = Host::new("upgrade-same");
        let web = host.server("web");
        host.define("web", &format!("{}{}", web.exec(), web.probe("")));
        host.define("db", "exec = ['sleep', '1000']\n");
        host.define("gone", "exec = ['sleep', '1000']\n");
        host.define(
            "crash",
            "exec = ['false']\n[retry_policy]\ndelay_ms = 600000\njitter = 0\n",
        );
        host.start();
        host
    };
    host.up("web");
    host.up("db");
    host.up("gone");
    host.wait("stop", "gone");
    host.until("crash", "in backoff", |s| s.state == "backoff");
    host.call("system.hold", &json!({}));
    let names = ["web", "db", "gone", "crash"];
    let before: Vec<Status> = names.iter().map(|name| host.status(name)).collect();
    let daemon = host.daemon().pid;
    upgrade(&host);
    assert_eq!(host.daemon().pid, daemon);
    for (name, before) in names.iter().zip(&before) {
        let after = host.status(name);
        assert_eq!(kept(&after), kept(before), "{name}");
        if let (Some(after), Some(before)) = (after.next_in_ms, before.next_in_ms) {
            assert!(after <= before, "{name} waits longer than before");
        }
    }
    assert!(host.daemon().hold.is_some());
    // Their parent is the same process, and only once.
    assert_eq!(
        process(before[0].pid.expect("a pid")).map(|p| p.1),
        Some(daemon)
    );
    host.up("web");
    assert_eq!(host.status("web").run, before[0].run);
    // And it is still a supervisor: what hangs is found.
    host.call("system.release", &json!({}));
    host.server("web").tell(before[0].run, "mute");
    host.up_again("web", before[0].run + 1);
}

/// It dies while no daemon looks; the kernel keeps how, because its parent is the same process.
#[test]
fn how_a_child_ends_meanwhile_is_known() {
    let text = "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 0\n";
    let host = Host::with("upgrade-end", &[("web", text)]);
    for round in 0..10 {
        let before = host.up("web");
        let mut client = host.client();
        client.ask("system.upgrade", &json!({}));
        // Somewhere between the answer and the new daemon's first look.
        client.answer();
        send(before.pid.expect("a pid"), Signal::SIGQUIT);
        let after = host.until("web", "up again", |s| s.run > before.run && is_up(s));
        let end = after.last_end.expect("an end");
        assert_eq!(end.signal.as_deref(), Some("SIGQUIT"), "round {round}");
        assert_eq!(end.cause, "exit");
        host.call("service.reset", &json!({"name": "web"}));
    }
}

/// Nobody is refused at the door, no line is lost, nobody else gets the lock.
#[test]
fn the_socket_the_logs_and_the_locks_go_along() {
    let script =
        "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; echo end; exec sleep 1000";
    let text = format!("exec = ['sh', '-c', '{script}']\n");
    let quick = "exec = ['sh', '-c', 'echo last words']\nrestart = 'never'\nautostart = false\n";
    let host = Host::with("upgrade-along", &[("talk", &text), ("quick", quick)]);
    host.up("talk");
    host.call("service.start", &json!({"name": "quick"}));
    for _ in 0..5 {
        // Each of these finds a listening socket and is answered, by whichever daemon.
        let mut upgrades = host.client();
        upgrades.ask("system.upgrade", &json!({}));
        for _ in 0..50 {
            host.call("system.ping", &json!({}));
        }
        let (_, answer) = upgrades.answer().expect("an answer");
        answer.expect("upgraded");
        let second = host.command().output().expect("run");
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(
            !second.status.success() && said.contains("is locked by process"),
            "{said}"
        );
    }
    host.line("talk", "the end", |line| line.ends_with("end"));
    let lines: BTreeSet<String> = host.lines("talk").into_iter().collect();
    let numbers: Vec<u32> = host
        .lines("talk")
        .iter()
        .filter_map(|line| line.rsplit_once("line ")?.1.parse().ok())
        .collect();
    assert_eq!(numbers, (1..=3000).collect::<Vec<u32>>());
    assert!(lines.len() > 3000);
    host.line("quick", "last words", |line| line.ends_with("last words"));
}

pub fn script(host: &Host, name: &str, text: &str) -> String {
    let path = host.path(name);
    executable(&path, text);
    path
}

/// Stops the daemon and asks for upgrades, so that all that their programs say comes in one turn,
/// together with what `meanwhile` does; the answers.
fn in_one_turn(host: &Host, upgrades: usize, meanwhile: impl FnOnce()) -> Vec<Option<Value>> {
    // It says who it is as soon as it may, and then is the one that is tested.
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = version ] && while [ ! -e {} ]; do sleep 0.01; done\n\
         exec {} \"$@\"\n",
        host.path("go"),
        binary().display()
    );
    let program = script(host, "slow", &text);
    let mut clients: Vec<_> = (0..upgrades).map(|_| host.client()).collect();
    for client in &mut clients {
        client.ask("system.upgrade", &json!({"program": program}));
    }
    let helpers = || {
        let mut states = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok());
            let (Some(pid), Ok(comm)) = (pid, std::fs::read(entry.path().join("comm"))) else {
                continue;
            };
            if let Some((state, parent)) = process(pid)
                && (parent, comm.as_slice()) == (host.pid(), b"vitald-trial\n")
            {
                states.push(state);
            }
        }
        states
    };
    until("all are asked", || helpers().len() == upgrades);
    send(host.pid(), Signal::SIGSTOP);
    std::fs::write(host.path("go"), "").expect("write");
    until("all have said it", || helpers() == vec!['Z'; upgrades]);
    meanwhile();
    send(host.pid(), Signal::SIGCONT);
    let answers = clients.iter_mut().map(|client| {
        let (_, answer) = client.answer()?;
        Some(answer.unwrap_or_else(|(_, message)| Value::from(message)))
    });
    answers.collect()
}

#[test]
fn of_two_upgrades_at_once_the_second_is_refused() {
    let host = Host::with("upgrade-twice", &[("web", "exec = ['sleep', '1000']\n")]);
    let before = host.up("web");
    let answers = in_one_turn(&host, 2, || {});
    let refused = Some(Value::from("another upgrade is under way"));
    let refusals = answers.iter().filter(|answer| **answer == refused);
    assert_eq!(refusals.count(), 1, "{answers:?}");
    assert_eq!(kept(&host.up("web")), kept(&before));
}

/// Both are heard of in the same turn: the end is not forgotten over the upgrade.
#[test]
fn who_is_told_to_end_while_it_upgrades_ends() {
    let mut host = Host::with("upgrade-end-now", &[("web", "exec = ['sleep', '1000']\n")]);
    host.up("web");
    let pid = host.pid();
    in_one_turn(&host, 1, || send(pid, Signal::SIGTERM));
    assert_eq!(host.ended().code(), Some(0));
    assert!(host.processes().is_empty());
}

/// A client that never stops asking does not put it off for ever.
#[test]
fn a_busy_client_does_not_keep_an_upgrade_waiting() {
    let host = Host::with("upgrade-busy", &[]);
    let ended = super::client::flood(&host.socket());
    host.call("system.upgrade", &json!({}));
    assert!(host.daemon().began.is_some());
    ended();
}

/// Told once that a budget is spent: the word gets through although the daemon is replaced.
#[test]
fn who_is_told_that_a_budget_is_spent_is_told_over_an_upgrade() {
    let mut host = Host::new("upgrade-told");
    let (begun, told) = (host.path("begun"), host.path("told"));
    let script =
        format!("echo > {begun}; while [ ! -e {begun}.go ]; do sleep 0.02; done; echo > {told}");
    host.define(
        "web",
        &format!(
            "exec = ['false']\n[retry_policy]\nmax_attempts = 0\n\
             on_exhausted_exec = ['sh', '-c', '{script}']\n"
        ),
    );
    host.start();
    until("it is being told", || std::path::Path::new(&begun).exists());
    upgrade(&host);
    std::fs::write(format!("{begun}.go"), "").expect("write");
    until("it is told", || std::path::Path::new(&told).exists());
}

#[test]
fn what_is_no_vitald_does_not_take_its_place() {
    let host = Host::with("upgrade-refused", &[("web", "exec = ['sleep', '1000']\n")]);
    let before = host.up("web");
    let script = |name: &str, text: &str| script(&host, name, text);
    let says = [
        ("/bin/true".to_owned(), "it is no vitald"),
        (
            "/bin/false".to_owned(),
            "`version` ended with exit status: 1",
        ),
        (host.path("missing"), "No such file or directory (2)"),
        (host.path("config"), "Permission denied (13)"),
        (script("garbage", "\u{7f}ELF"), "nothing was changed"),
        (
            script("liar", "#!/bin/sh\necho vitald is not here\n"),
            "it is no vitald",
        ),
        ("vitald".to_owned(), "must be an absolute path"),
    ];
    for (program, words) in says {
        let (code, message) = host.refused("system.upgrade", &json!({"program": program}));
        assert_eq!(code, -32602, "{message}");
        assert!(message.contains(words), "{program}: {message}");
    }
    assert_eq!(host.daemon().began, None);
    assert_eq!(kept(&host.status("web")), kept(&before));
    // A path of one's own, by the command line.
    let path = binary();
    let (code, out, err) = host.cli(&["upgrade", path.to_str().expect("UTF-8")]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.starts_with("upgraded from ") && out.contains("no service was touched"),
        "{out}"
    );
    assert_eq!(kept(&host.up("web")), kept(&before));
    // What is typed is meant from where one stands.
    let (code, _, err) = host.cli(&["upgrade", "Cargo.toml"]);
    let here = std::path::absolute("Cargo.toml").expect("a path");
    let says = format!(
        "vitald: {}: cannot execute it: Permission denied (13)",
        here.display()
    );
    assert!(code == 1 && err.starts_with(&says), "{err}");
}

/// Only a build with debug assertions can be asked to panic.
pub fn can_panic() -> bool {
    let can = std::env::var_os("VITALD_BIN").is_none() && cfg!(debug_assertions);
    if !can {
        eprintln!("skipped: a release cannot be asked to panic");
    }
    can
}

/// Makes the daemon panic and waits for the next.
pub fn panic(host: &Host, times: u64) {
    send(host.pid(), Signal::SIGUSR2);
    until("it answers after the panic", || {
        let Ok(mut client) = super::client::Client::connect(&host.socket()) else {
            return false;
        };
        client.ask("system.status", &json!({}));
        let status: Option<Value> = client.answer().and_then(|(_, answer)| answer.ok());
        let words = format!("({times} within a minute)");
        status.is_some_and(|s| {
            s["began"]
                .as_str()
                .is_some_and(|began| began.contains(&words))
        })
    });
}

#[test]
fn a_panic_executes_the_daemon_anew_and_too_many_reduce_it() {
    if !can_panic() {
        return;
    }
    let mut host = Host::new("panic");
    host.set_env("VITALD_TEST_PANIC", "1");
    let web = host.server("web");
    host.define("web", &format!("{}{}", web.exec(), web.probe("")));
    // A command at work when it happens has nobody who waits for it.
    host.define(
        "slow",
        "exec = ['sleep', '1000']\n[[probe]]\ntype = 'exec'\ntarget = 'sleep 999'\n\
         interval_ms = 60000\ntimeout_ms = 60000\n",
    );
    host.start();
    let before = host.up("web");
    let sleeper = || {
        host.processes().into_iter().find(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line == b"sleep\x00999\x00")
        })
    };
    let mut command = None;
    until("the probe's command runs", || {
        command = sleeper();
        command.is_some()
    });
    let daemon = host.pid();
    let name = || std::fs::read_to_string(format!("/proc/{daemon}/comm")).expect("its name");
    let named = name();
    panic(&host, 1);
    assert_eq!(name(), named);
    until("nobody's command is ended", || {
        !alive(command.expect("a pid"))
    });
    assert_eq!(host.daemon().pid, i64::from(daemon) as i32);
    assert_eq!(kept(&host.up("web")), kept(&before));
    assert!(host.said().contains("asked to panic"), "{}", host.said());
    panic(&host, 2);
    panic(&host, 3);
    assert_eq!(host.daemon().reduced, None);
    panic(&host, 4);
    assert!(host.daemon().reduced.is_some());
    let status = host.status("web");
    assert_eq!((kept(&status), status.probes.len()), (kept(&before), 0));
    let (_, out, _) = host.cli(&["status"]);
    assert!(out.contains("reduced: it panicked 4 times"), "{out}");
    // A crash is still answered, a reload still taken.
    send(before.pid.expect("a pid"), Signal::SIGKILL);
    host.up_again("web", before.run + 1);
    host.call("system.reload", &json!({}));
    assert!(host.status("web").probes.is_empty());
    // An upgrade begins anew.
    upgrade(&host);
    assert_eq!(host.daemon().reduced, None);
    assert_eq!(host.up("web").probes.len(), 1);
}

/// Who panics while it stops everything goes on with that.
#[test]
fn a_panic_does_not_call_a_shutdown_off() {
    if !can_panic() {
        return;
    }
    let mut host = Host::new("panic-shutdown");
    host.set_env("VITALD_TEST_PANIC", "1");
    let deaf = "exec = ['sh', '-c', 'trap \"\" TERM; echo deaf; while :; do sleep 1; done']\n\
                stop_timeout_ms = 1500\n";
    host.define("deaf", deaf);
    host.start();
    host.line("deaf", "it is deaf", |line| line.ends_with("deaf"));
    send(host.pid(), Signal::SIGTERM);
    host.until("deaf", "stopping", |s| s.state == "stopping");
    panic(&host, 1);
    assert_eq!(host.ended().code(), Some(0));
    assert!(host.processes().is_empty());
}

/// Its last words have no reader: they are not waited for.
#[test]
fn a_panic_with_a_full_stderr_executes_it_anew_all_the_same() {
    if !can_panic() {
        return;
    }
    let mut host = Host::new("panic-full");
    host.set_env("VITALD_TEST_PANIC", "1");
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = host.command();
    command.stderr(writer.try_clone().expect("dup"));
    let mut daemon = command.spawn().expect("start");
    drop(command);
    until("it answers", || {
        super::client::Client::connect(&host.socket()).is_ok()
    });
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    let set = |flags| nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(flags));
    set(flags).expect("fcntl");
    while (&writer).write(&[b'x'; 4096]).is_ok() {}
    while (&writer).write(b"x").is_ok() {}
    set(nix::fcntl::OFlag::empty()).expect("fcntl");
    let pid = daemon.id() as i32;
    send(pid, Signal::SIGUSR2);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut began = false;
    while !began && std::time::Instant::now() < end {
        let answers = std::os::unix::net::UnixStream::connect(host.socket());
        began = answers.is_ok_and(|mut stream| {
            let _ = stream.set_read_timeout(Some(std::time::Duration::from_millis(200)));
            let _ = stream.write_all(b"info\n");
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            text.contains("after a panic")
        });
    }
    send(pid, Signal::SIGKILL);
    daemon.wait().expect("wait");
    drop(writer);
    assert!(began, "it hangs");
}
