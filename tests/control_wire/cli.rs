//! The real binary's verbs before a daemon that is the test's: what is printed where, and the
//! exit codes.

use super::harness::{Server, fresh_path};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

fn vitald(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitald"));
    command.env_clear().env("VITALD_SOCKET", socket);
    command.env("LC_ALL", "C.UTF-8").args(arguments);
    command
}

/// Exit code, stdout, stderr.
pub fn run(socket: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = vitald(socket, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

#[test]
fn verbs_print_what_was_asked_for_and_exit_by_the_table() {
    let server = Server::all();
    let ask = |arguments: &[&str]| run(&server.path, arguments);
    let (code, out, err) = ask(&["status", "service-0007"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("● service-0007: running\n"), "{out}");
    assert!(!out.contains('\x1b'), "no colours into a pipe");

    let (code, out, _) = ask(&["status", "service-0007", "--json"]);
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &status["state"]), (0, &Value::from("running")));

    let (code, out, _) = ask(&["list"]);
    assert_eq!((code, out.lines().count()), (0, 1001));

    let (code, out, err) = ask(&["status", "service-oo07"]);
    assert_eq!((code, out.as_str()), (4, ""));
    assert!(
        err.starts_with("vitald: no service `service-oo07`"),
        "{err}"
    );
    let (code, out, err) = ask(&["--json", "stop", "nowhere"]);
    let error: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &error["error"]["code"], err.as_str()),
        (4, &Value::from(-32000), "")
    );

    assert_eq!(
        ask(&["stop", "service-0001"]),
        (0, "done\n".into(), String::new())
    );
    assert_eq!(
        ask(&["logs", "service-0001"]),
        (0, "a line\n".into(), String::new())
    );
    let (code, out, err) = ask(&["statsu"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(
        err,
        "vitald: unknown verb `statsu`; did you mean `status`?\n"
    );
    let (code, _, err) = ask(&[]);
    assert!(code == 2 && err.contains("usage: vitald VERB"), "{err}");
}

#[test]
fn without_a_daemon_the_socket_and_the_next_step_are_named() {
    let path = fresh_path();
    let (code, out, err) = run(&path, &["status"]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(
        err.contains(path.to_str().unwrap()) && err.contains("vitald run"),
        "{err}"
    );
    // A socket whose owner died.
    drop(UnixListener::bind(&path).unwrap());
    let (code, out, _) = run(&path, &["--json", "status"]);
    let error: Value = serde_json::from_str(&out).unwrap();
    let message = error["error"]["message"].as_str().unwrap();
    assert_eq!(code, 3);
    assert!(message.contains("Connection refused (111)"), "{message}");
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[test]
fn a_daemon_that_does_not_answer_is_not_waited_for_longer_than_asked() {
    let path = fresh_path();
    let _mute = UnixListener::bind(&path).unwrap();
    let (code, _, err) = run(&path, &["ping", "--timeout", "50ms"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("no answer") && err.contains("--timeout"),
        "{err}"
    );
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

#[test]
fn events_and_logs_are_shown_as_they_come() {
    let server = Server::all();
    for (arguments, shown) in [
        (vec!["events", "service-0001"], "service-0001 state"),
        (vec!["events", "--json"], "\"service\":\"service-0001\""),
    ] {
        let mut child = vitald(&server.path, &arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // The subscription is made at a time of its own: tell until it is heard.
        let teller = std::thread::scope(|scope| {
            let reader = scope.spawn(|| out.read_line(&mut line).unwrap());
            while !reader.is_finished() {
                server.tell(|shared| shared.events.store(1, Ordering::SeqCst));
                std::thread::yield_now();
            }
            reader.join().unwrap()
        });
        assert!(teller > 0 && line.contains(shown), "{line}");
        // Who reads no more ends it without a complaint.
        drop(out);
        while child.try_wait().unwrap().is_none() {
            server.tell(|shared| shared.events.store(1, Ordering::SeqCst));
            std::thread::yield_now();
        }
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let mut child = vitald(&server.path, &["logs", "service-0001", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "a line\n");
    // The daemon's end is told apart from the log's.
    drop(server);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn check_says_all_that_is_wrong_at_once() {
    let socket = fresh_path();
    let dir = socket.parent().unwrap();
    let services = dir.join("services");
    std::fs::create_dir_all(&services).unwrap();
    let write = |name: &str, text: &str| std::fs::write(services.join(name), text).unwrap();
    write("a.toml", "exec = \"/bin/true\"\nrequires = [\"b\"]\n");
    write("b.toml", "exec = \"/bin/true\"\n");
    let config_dir = ["--config-dir", dir.to_str().unwrap()];
    let check = |more: &[&str]| run(&socket, &[&["check"], more].concat());
    let (code, out, _) = check(&config_dir);
    assert_eq!(
        (code, out.as_str()),
        (0, "2 files checked: 0 errors, 0 warnings\n")
    );

    write("b.toml", "exec = \"/bin/true\"\nafter = [\"a\"]\n");
    write("c.toml", "exec = 7\ncolour = 1\n");
    std::fs::write(dir.join("vitald.toml"), "nonsense = 1\n").unwrap();
    let (code, out, _) = check(&config_dir);
    assert_eq!(code, 1);
    for part in [
        "services/c.toml:1:",
        "services/c.toml:2:",
        "vitald.toml:1:",
        "a -> b -> a",
        "4 files checked: 4 errors",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let file = services.join("c.toml");
    let (code, out, _) = check(&["--json", file.to_str().unwrap()]);
    let problems: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, problems.as_array().map(Vec::len)), (1, Some(2)));
    assert_eq!(problems[0]["line"], 1);
    std::fs::remove_dir_all(dir).unwrap();
}
