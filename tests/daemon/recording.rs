//! A recording of the real daemon, replayed: whatever happens to services, daemon, scribe and
//! disk, the same comes of it.

use super::host::{Host, is_up, process, send, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const SECRET: &str = "the-word-that-nobody-may-read";

/// The files of a recording, oldest first.
fn files(dir: &Path) -> Vec<PathBuf> {
    let names = ["current.3", "current.2", "current.1", "current"];
    let paths = names.map(|name| dir.join(name)).into_iter();
    paths.filter(|path| path.exists()).collect()
}

/// `vitald replay --json` of all of them; its exit code must be 0.
fn replayed(host: &Host, dir: &Path) -> Value {
    let files: Vec<String> = files(dir)
        .iter()
        .map(|path| path.to_str().expect("UTF-8").to_owned())
        .collect();
    let mut arguments = vec!["replay", "--json"];
    arguments.extend(files.iter().map(String::as_str));
    let (code, out, error) = host.cli(&arguments);
    assert!(
        !error.contains("small build"),
        "needs a build with the feature `replay`"
    );
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    let outcome: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(outcome["same"], true, "{out}");
    outcome
}

/// The child of this daemon that writes.
fn scribe(daemon: i32) -> i32 {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut scribes = pids.filter(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name == "vitald-scribe\n" && process(*pid).is_some_and(|(_, parent)| parent == daemon)
    });
    scribes.next().expect("a scribe")
}

/// Issue 3: healing, operators, a reload, a kill and a return are recorded as they were; a person
/// elsewhere can ask why; nobody finds a secret in it.
#[test]
fn what_a_daemon_lived_through_is_replayed() {
    let mut host = Host::new("recorded");
    fs::write(host.path("config/vitald.toml"), "record = true\n").expect("settings");
    let web = host.server("web");
    let text = |policy: &str| {
        let exec = web
            .exec()
            .replacen("env = {", &format!("env = {{ KEY = '{SECRET}',"), 1);
        let headers = format!("headers = {{ Authorization = 'Bearer {SECRET}' }}");
        format!(
            "{exec}[retry_policy]\ndelay_ms = 10\n{policy}\n{}",
            web.probe(&headers)
        )
    };
    host.define("web", &text(""));
    host.define("task", "kind = 'oneshot'\nexec = 'true'\n");
    host.define(
        "crash",
        "exec = 'false'\n[retry_policy]\nmax_attempts = 3\ndelay_ms = 20\n",
    );
    host.start();
    host.up("web");
    web.tell(1, "mute");
    host.up_again("web", 2);
    host.until("crash", "given up", |s| s.state == "failed");
    host.call("system.hold", &json!({}));
    host.wait("restart", "web");
    host.call("system.release", &json!({}));
    host.define("web", &text("max_attempts = 20"));
    host.undefine("task");
    host.call("system.reload", &json!({}));
    let given = format!("exec = 'sleep 1000'\nenv = {{ KEY = '{SECRET}' }}\n");
    host.call(
        "service.set",
        &json!({"name": "given", "definition": given}),
    );
    host.up("given");
    host.kill();
    host.start();
    host.up("web");
    host.up("given");
    host.wait("stop", "web");
    host.call("system.shutdown", &json!({}));
    assert!(host.ended().success());

    let dir = host.dir.join("state/recording");
    let outcome = replayed(&host, &dir);
    assert_eq!(
        (&outcome["parts"], &outcome["lost"]),
        (&json!(2), &json!(0))
    );
    // The kill may have come between an event and what it led to; nothing else is missing.
    let notes = outcome["notes"].as_array().expect("notes");
    assert!(notes.len() <= 1, "{notes:?}");
    assert!(outcome["events"].as_u64() > Some(100), "{outcome}");
    for path in files(&dir) {
        let text = fs::read_to_string(&path).expect("UTF-8");
        assert!(!text.contains(SECRET), "{}", path.display());
        assert!(text.contains("\"KEY\":\"hash:"), "{}", path.display());
    }
    // In the file of the first daemon, and when it had healed it.
    let first = host.path("state/recording/current.1");
    let (code, out, _) = host.cli(&["replay", &first, "--why", "web"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("web: running") && out.contains("timeout"),
        "{out}"
    );
    let (code, _, error) = host.cli(&["replay", &first, "--why", "wep"]);
    assert!(code == 4 && error.contains("web"), "{code} {error}");
    let (code, out, _) = host.cli(&["replay", &first, "--until", "2"]);
    assert!(code == 0 && out.contains("events     2,"), "{out}");
    let (code, _, error) = host.cli(&["replay", &host.path("daemon.log")]);
    assert!(
        code == 2 && error.contains("daemon.log:1: "),
        "{code} {error}"
    );
}

/// Files take turns, each can be replayed by itself, and each follows on from the one before.
#[test]
fn files_that_take_turns_follow_each_other() {
    let mut host = Host::new("rotated");
    let settings = "record = true\nrecord_bytes = 65536\n";
    fs::write(host.path("config/vitald.toml"), settings).expect("settings");
    let web = host.server("web");
    let probe = "type = 'http'\ninterval_ms = 10\ntimeout_ms = 10\non_unhealthy = 'observe'\n";
    let probe = format!("[[probe]]\n{probe}target = '{}'\n", web.target);
    host.define("web", &format!("{}{probe}", web.exec()));
    host.start();
    let dir = host.dir.join("state/recording");
    until("the fifth file", || {
        let oldest = fs::read_to_string(dir.join("current.3")).unwrap_or_default();
        oldest.contains("\"before\":") && !oldest.contains("\"before\":0,")
    });
    host.call("system.shutdown", &json!({}));
    assert!(host.ended().success());
    let outcome = replayed(&host, &dir);
    assert_eq!(
        (&outcome["parts"], &outcome["lost"]),
        (&json!(4), &json!(0))
    );
    for path in files(&dir) {
        let size = fs::metadata(&path).expect("metadata").len();
        assert!(size < 200_000, "{size}");
        let (code, out, _) = host.cli(&["replay", path.to_str().expect("UTF-8")]);
        assert!(
            code == 0 && out.contains("the same, byte for byte"),
            "{out}"
        );
    }
}

/// Neither a disk that takes nothing nor a scribe that dies costs more than events: how many is
/// said, and what comes after is recorded and replayed.
#[test]
fn what_could_not_be_written_is_missing_and_said() {
    let mut host = Host::new("gap");
    fs::write(host.path("config/vitald.toml"), "record = true\n").expect("settings");
    host.define("a", "exec = 'sleep 1000'\n");
    // Where the directory would be.
    fs::create_dir_all(host.path("state")).expect("mkdir");
    fs::write(host.path("state/recording"), "in the way").expect("a file");
    host.start();
    host.up("a");
    until("the daemon says so", || {
        host.said().contains("the recording stops")
    });
    assert!(
        host.said()
            .contains("state/recording/current: Not a directory (20)")
    );
    fs::remove_file(host.path("state/recording")).expect("remove");
    let dir = host.dir.join("state/recording");
    // It tries again when something happens and a second has passed.
    until("a file", || {
        host.call("service.reset", &json!({"name": "a"}));
        dir.join("current").exists()
    });
    host.wait("restart", "a");
    send(scribe(host.pid()), Signal::SIGKILL);
    until("another file", || {
        host.call("service.reset", &json!({"name": "a"}));
        dir.join("current.1").exists()
    });
    host.wait("restart", "a");
    assert!(is_up(&host.status("a")));
    host.call("system.shutdown", &json!({}));
    assert!(host.ended().success());
    let outcome = replayed(&host, &dir);
    assert_eq!(outcome["parts"], 2);
    let notes = outcome["notes"].to_string();
    assert!(notes.contains("begins after"), "{notes}");
    assert!(notes.contains("missing: the scribe died"), "{notes}");
    assert!(outcome["lost"].as_u64() > Some(0), "{outcome}");
}
