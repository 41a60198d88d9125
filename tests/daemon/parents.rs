//! vitald as somebody else's service: what it says to who started it, and the scripts for other
//! inits in contrib/.

use super::host::{Host, alive, binary, executable, root, until};
use serde_json::json;
use std::process::{Command, Output};
use vitald::service::state::State;

/// The one that is tried, as a service of another one, and what it runs.
fn nested(host: &Host) -> String {
    let (binary, dir) = (binary(), host.path("inner"));
    for sub in ["config/services", "state"] {
        std::fs::create_dir_all(format!("{dir}/{sub}")).expect("mkdir");
    }
    // It stops when it is let go, from when it says so.
    let text = format!(
        "exec = ['sh', '-c', '''trap : TERM; : > {dir}/trapped; while ! test -e {dir}/go; do sleep \
         0.02; done''']\n"
    );
    std::fs::write(format!("{dir}/config/services/inner.toml"), text).expect("write");
    format!(
        "exec = ['{}', 'run', '--config-dir', '{dir}/config', '--state-dir', '{dir}/state', \
         '--runtime-dir', '{dir}/run']\nready = 'notify'\nstart_timeout_ms = 20000\n",
        binary.display(),
    )
}

/// READY=1 when it answers, with what it found; STOPPING=1 when it ends.
#[test]
fn it_tells_who_started_it_how_it_goes() {
    let mut host = Host::new("nested");
    let text = nested(&host);
    host.define("nested", &text);
    host.start();
    let status = host.up("nested");
    assert_eq!(status.status_text.as_deref(), Some("1 definition"));
    // It answers, because it said so.
    let socket = host.path("inner/run/control.sock");
    let mut client = super::client::Client::connect(socket.as_ref()).expect("it answers");
    let listed = client.words("status inner");
    assert!(listed[0].contains("inner"), "{listed:?}");
    let trapped = host.path("inner/trapped");
    until("it takes SIGTERM", || {
        std::path::Path::new(&trapped).exists()
    });
    host.call("service.stop", &json!({"name": "nested"}));
    let words = Some("stopping all services".to_owned());
    host.until("nested", "stopping", |s| s.status_text == words);
    std::fs::write(host.path("inner/go"), "").expect("write");
    host.until("nested", "stopped", |s| s.state == State::Inactive.word());
    assert_eq!(
        host.status("nested").last_end.expect("an end").code,
        Some(0)
    );
}

/// WATCHDOG=1 as often as WATCHDOG_USEC wants it: the deadline moves on, in the same run.
#[test]
fn it_tells_who_started_it_that_it_lives() {
    let mut host = Host::new("nested-lives");
    let text = nested(&host) + "watchdog_ms = 3000\n";
    std::fs::write(host.path("inner/go"), "").expect("write");
    host.define("nested", &text);
    host.start();
    host.up("nested");
    let due = |s: &vitald::engine::status::Status| s.watchdog.as_ref().and_then(|w| w.due_in_ms);
    let mut before = None;
    let mut moved = 0;
    until("it was told thrice", || {
        let status = host.status("nested");
        moved += u32::from(due(&status) > before && before.is_some());
        before = due(&status);
        moved >= 3
    });
    assert_eq!(host.status("nested").run, 1);
}

/// A socket that is not there is no reason not to run.
#[test]
fn a_parent_that_does_not_listen_is_no_trouble() {
    let mut host = Host::new("deaf-parent");
    host.set_env("NOTIFY_SOCKET", "/nonexistent/notify");
    host.define("web", "exec = ['sleep', '1000']\n");
    host.start();
    host.up("web");
    assert!(host.said().contains("NOTIFY_SOCKET=/nonexistent/notify"));
}

/// contrib/sysvinit, called as sysvinit calls it.
#[test]
fn the_script_for_sysvinit_starts_reloads_and_stops() {
    if !root() {
        return;
    }
    if Command::new("start-stop-daemon")
        .arg("--version")
        .output()
        .is_err()
    {
        let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
        assert!(!required, "no start-stop-daemon, and VITALD_TEST_REQUIRE=1");
        eprintln!("skipped: no start-stop-daemon");
        return;
    }
    let host = Host::new("sysvinit");
    host.define("web", "exec = ['sleep', '1000']\n");
    let defaults = host.path("defaults");
    let arguments: Vec<String> = ["config", "state", "run"]
        .iter()
        .zip(["config", "state", "runtime"])
        .map(|(dir, option)| format!("--{option}-dir {}", host.path(dir)))
        .collect();
    executable(
        &defaults,
        &format!(
            "VITALD={}\nVITALD_ARGS='{}'\nPIDFILE={}\nLOG={}\nexport VITALD_SOCKET={}\n",
            binary().display(),
            arguments.join(" "),
            host.path("pid"),
            host.path("daemon.log"),
            host.socket().display(),
        ),
    );
    let script = |verb: &str| -> Output {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/sysvinit/vitald");
        let mut command = Command::new(path);
        command.arg(verb).env("DEFAULTS", &defaults);
        command.output().expect("the script")
    };
    let done = |verb: &str| {
        let output = script(verb);
        assert!(output.status.success(), "{verb}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };

    assert_eq!(script("status").status.code(), Some(3), "it does not run");
    done("start");
    let pid = host.up("web").pid.expect("a process");
    assert!(done("start").contains("runs already"));
    assert!(done("status").contains("web"));
    host.define("db", "exec = ['sleep', '1000']\n");
    done("reload");
    host.up("db");
    done("restart");
    let again = host.up("web").pid.expect("a process");
    assert!(again != pid && !alive(pid));
    done("stop");
    assert!(!alive(again));
    assert_eq!(script("status").status.code(), Some(3));
    done("stop");

    // It cannot start: the directory is a file.
    std::fs::remove_dir_all(host.path("run")).expect("remove");
    std::fs::write(host.path("run"), "").expect("write");
    let output = script("start");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("daemon.log"), "{words}");
}
