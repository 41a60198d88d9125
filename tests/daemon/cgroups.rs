//! Services in cgroups of their own: what hides from session, group and environment is ended all
//! the same; what is shown; where there can be none.
//!
//! Limits are tested where their controllers are: in the virtual machine (`tests/boot.rs`).

use super::host::{Host, alive, send, until};
use super::speaker;
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use vitald::engine::status::Status;
use vitald::reactor::cgroup::Leaf;

/// Forks twice, into a session of its own, with an empty environment, and is nobody's child; its
/// number goes to `hidden`.
fn hider(host: &Host, more: &str) -> String {
    let script = "(setsid env -i PATH=\"$PATH\" sh -c 'echo $$ > hidden.new; mv hidden.new hidden; \
                  exec sleep 1000' &) ; exec sleep 1000";
    fs::write(host.path("hider.sh"), script).expect("write a script");
    let dir = host.path("");
    format!(
        "exec = ['sh', 'hider.sh']\nworking_dir = '{dir}'\n{more}\n[retry_policy]\ndelay_ms = 0\n"
    )
}

/// Its number, when it is there.
fn hidden(host: &Host) -> i32 {
    let path = host.path("hidden");
    until("it has hidden", || Path::new(&path).exists());
    let pid = fs::read_to_string(&path).expect("read");
    fs::remove_file(&path).expect("remove");
    pid.trim().parse().expect("a number")
}

fn members(leaf: &Path) -> Vec<i32> {
    let mut pids: Vec<i32> = Leaf::from(leaf)
        .processes()
        .iter()
        .map(|pid| pid.0)
        .collect();
    pids.sort_unstable();
    pids
}

/// Who hides while the daemon is dead is nobody's child that any daemon knows of.
#[test]
fn who_hides_is_ended_with_its_service() {
    let mut host = Host::new("hides");
    let Some(_) = host.cgroups() else { return };
    host.define("web", &hider(&host, ""));
    host.start();
    let hidden = hidden(&host);
    assert_eq!(host.up("web").tree, "cgroup");
    host.kill();
    host.start();
    assert_eq!(host.up("web").tree, "cgroup");
    assert!(alive(hidden));
    host.wait("stop", "web");
    assert!(!alive(hidden), "{hidden} lives on");
    assert!(
        !host.said().contains("of a run that has ended"),
        "{}",
        host.said()
    );
}

/// The same when it crashes: nothing of the old run is there when the new one begins.
#[test]
fn who_hides_is_ended_before_the_next_run() {
    let mut host = Host::new("hides-crash");
    let Some(_) = host.cgroups() else { return };
    host.define("web", &hider(&host, ""));
    host.start();
    let first = hidden(&host);
    host.kill();
    host.start();
    let main = host.up("web").pid.expect("a pid");
    send(main, Signal::SIGKILL);
    host.up_again("web", 2);
    assert!(!alive(first), "{first} lives on");
    assert!(alive(hidden(&host)));
}

/// What a run left that ended while there was no daemon, and of which no journal tells; and the
/// leaf of a service that is no more.
#[test]
fn what_is_left_in_a_leaf_is_killed_by_the_next_daemon() {
    let mut host = Host::new("left-in-leaf");
    let Some(dir) = host.cgroups() else { return };
    host.define("web", &hider(&host, ""));
    host.start();
    let first = hidden(&host);
    let main = host.up("web").pid.expect("a pid");
    host.kill();
    send(main, Signal::SIGKILL);
    for entry in fs::read_dir(host.path("run"))
        .expect("a directory")
        .flatten()
    {
        if entry.file_type().expect("a kind").is_file() {
            fs::remove_file(entry.path()).expect("remove");
        }
    }
    let gone = dir.join("gone");
    fs::create_dir(&gone).expect("mkdir");
    host.start();
    host.up("web");
    assert!(!alive(first), "{first} lives on");
    assert!(!gone.exists());
    assert!(
        host.said()
            .contains("web: 1 process of a run that has ended is left: killed")
    );
}

#[test]
fn status_tells_what_is_in_force_and_nothing_is_left_at_the_end() {
    let mut host = Host::new("cgroup-status");
    let Some(dir) = host.cgroups() else { return };
    host.define("web", &hider(&host, ""));
    host.define("bare", "exec = ['sleep', '1000']\nkill_mode = 'process'\n");
    host.start();
    let hidden = hidden(&host);
    // The shells between have ended by then.
    let counted = |s: &Status| s.usage.as_ref().is_some_and(|usage| usage.processes == 2);
    let status = host.until("web", "two processes", counted);
    let usage = status.usage.expect("counted");
    assert_eq!(Path::new(&usage.cgroup), dir.join("web"));
    let mut pids = vec![status.pid.expect("a pid"), hidden];
    pids.sort_unstable();
    assert_eq!(members(&dir.join("web")), pids);
    assert_eq!(host.up("bare").tree, "process only");
    // Only services are there.
    assert!(!members(&dir).contains(&host.pid()));
    assert_eq!(host.daemon().cgroups.as_deref(), dir.to_str());
    let page = host.cli(&["status", "web"]).1;
    assert!(
        page.contains(&format!("cgroup {}/web", dir.display())),
        "{page}"
    );
    assert!(page.contains("2 processes"), "{page}");
    host.wait("stop", "web");
    let status = host.status("web");
    assert_eq!((status.tree.as_str(), status.usage), ("cgroup", None));
    host.call("system.shutdown", &json!({}));
    assert!(host.ended().success());
    assert!(!dir.exists());
}

/// SIGTERM, and SIGCONT, are nothing to who is frozen.
#[test]
fn who_is_frozen_is_thawed_to_stop() {
    let mut host = Host::new("frozen-leaf");
    let Some(dir) = host.cgroups() else { return };
    let text = "exec = ['sh', '-c', 'trap \"exit 7\" TERM; echo up; while :; do sleep 0.05; done']\n\
                stop_timeout_ms = 60000\n";
    host.define("web", text);
    host.start();
    host.line("web", "it has its trap", |line| line == "up");
    let leaf = dir.join("web");
    fs::write(leaf.join("cgroup.freeze"), "1").expect("freeze");
    until("it is frozen", || {
        let events = fs::read_to_string(leaf.join("cgroup.events")).expect("read");
        events.contains("frozen 1")
    });
    host.wait("stop", "web");
    assert_eq!(host.status("web").last_end.expect("an end").code, Some(7));
}

/// Another leaves nothing behind that hides from a stop; the leaf goes along with an upgrade.
#[test]
fn an_upgrade_keeps_everybody_where_he_is() {
    let mut host = Host::new("cgroup-upgrade");
    let Some(dir) = host.cgroups() else { return };
    host.define("web", &hider(&host, ""));
    host.start();
    let hidden = hidden(&host);
    until("two are there", || members(&dir.join("web")).len() == 2);
    let before = members(&dir.join("web"));
    host.call("system.upgrade", &json!({}));
    let status = host.up("web");
    assert_eq!((status.run, status.tree.as_str()), (1, "cgroup"));
    assert_eq!(members(&dir.join("web")), before);
    host.wait("stop", "web");
    assert!(!alive(hidden));
}

/// `notify_access = "tree"`: whoever is in the cgroup, whatever its session and parent.
#[test]
fn who_hides_may_speak_for_the_tree() {
    let mut host = Host::new("cgroup-speaks");
    let Some(dir) = host.cgroups() else { return };
    let keys = "ready = 'notify'\nnotify_access = 'tree'\nstart_timeout_ms = 60000\n";
    host.define("web", &format!("{keys}{}", speaker::exec(&host)));
    host.start();
    let main = host.until("web", "a process", |s| s.pid.is_some()).pid;
    // A process of ours, in no session and below no process of its own.
    let socket = host.path("run/notify/web.sock");
    let speaks = |words: &'static str, inside: bool| {
        let (socket, door) = (PathBuf::from(&socket), dir.join("web/cgroup.procs"));
        let mut command = std::process::Command::new("true");
        // SAFETY: in a child of one thread, before its exec.
        unsafe {
            command.pre_exec(move || {
                if inside {
                    fs::write(&door, "0")?;
                }
                speaker::notify(&socket, words.as_bytes(), &[])?;
                // Who it is, is asked while it lives.
                std::thread::sleep(std::time::Duration::from_secs(1));
                Ok(())
            });
        }
        assert!(command.status().expect("run").success());
    };
    speaks("STATUS=a stranger", false);
    speaks("READY=1\nSTATUS=of the tree", true);
    let status = host.until("web", "heard", |s| s.status_text.is_some());
    assert_eq!(status.status_text.as_deref(), Some("of the tree"));
    assert_eq!(status.pid, main);
}

/// A limit that cannot be put in force is an error of the service that asks for it.
#[test]
fn a_limit_without_cgroups_is_an_error_and_others_run() {
    let mut host = Host::new("no-limits");
    host.settings("cgroup = 'off'\n");
    host.define("web", "exec = ['sleep', '1000']\npids_max = 10\n");
    host.define("db", "exec = ['sleep', '1000']\n");
    host.start();
    let status = host.until("web", "told", |s| s.state == "failed");
    let detail = status.detail.expect("words");
    assert_eq!(
        detail,
        "pids_max: services have no cgroups: cgroup = \"off\" in vitald.toml; or remove the key"
    );
    let status = host.up("db");
    assert_eq!((status.tree.as_str(), status.usage), ("best effort", None));
    let told = host.daemon().cgroups.expect("told");
    assert!(told.starts_with("none: "), "{told}");
}

/// The same where there are cgroups and their controllers are elsewhere, as on a hybrid host.
#[test]
fn a_limit_without_its_controller_is_an_error() {
    let mut host = Host::new("no-controller");
    let Some(dir) = host.cgroups() else { return };
    let parent = dir.parent().expect("a parent");
    let known = fs::read_to_string(parent.join("cgroup.controllers")).expect("read");
    if known.split_whitespace().any(|name| name == "memory") {
        eprintln!("skipped: this host has the controller");
        return;
    }
    host.define("web", "exec = ['sleep', '1000']\nmemory_max = '64M'\n");
    host.start();
    let status = host.until("web", "told", |s| s.state == "failed");
    let detail = status.detail.expect("words");
    let start = format!("memory_max: {} has no controller memory", parent.display());
    assert!(detail.starts_with(&start), "{detail}");
}

/// One that cannot be used, in one of many ways: named with its cause, and everybody runs.
#[test]
fn a_place_that_cannot_be_used_is_told() {
    let mut host = Host::new("bad-place");
    let Some(dir) = host.cgroups() else { return };
    let missing = dir.join("missing/one");
    for (place, cause) in [
        (Path::new("/etc/cgroups"), "is no cgroup: write one below "),
        (
            &*missing,
            "No such file or directory (2); the one above it must be there",
        ),
        (dir.parent().expect("a parent"), "is "),
    ] {
        host.settings(&format!("cgroup = '{}'\n", place.display()));
        host.define("web", "exec = ['sleep', '1000']\n");
        host.start();
        assert_eq!(host.up("web").tree, "best effort");
        let told = host.daemon().cgroups.expect("told");
        assert!(told.contains(cause), "{told}");
        assert!(told.contains(place.to_str().expect("UTF-8")), "{told}");
        assert!(host.said().contains(told.trim_start_matches("none: ")));
        host.call("system.shutdown", &json!({}));
        host.ended();
    }
}

/// A daemon does not touch what another one holds.
#[test]
fn two_daemons_never_share_a_place() {
    let mut one = Host::new("place-one");
    let mut two = Host::new("place-two");
    let Some(dir) = one.cgroups() else { return };
    for host in [&one, &two] {
        host.settings(&format!("cgroup = '{}'\n", dir.display()));
        host.define("web", "exec = ['sleep', '1000']\n");
    }
    one.start();
    two.start();
    assert_eq!(one.up("web").tree, "cgroup");
    assert_eq!(two.up("web").tree, "best effort");
    let told = two.daemon().cgroups.expect("told");
    assert!(told.contains("is another daemon's"), "{told}");
    // As soon as it is free it is anybody's.
    let (of_one, of_two) = (one.up("web").pid, two.up("web").pid);
    one.kill();
    two.kill();
    two.start();
    assert_eq!(two.up("web").pid, of_two);
    assert_eq!(two.status("web").tree, "best effort");
    // Nobody of its own is there: who was has ended, for all it knows.
    assert!(!alive(of_one.expect("a pid")));
    let run = two.status("web").run;
    two.wait("restart", "web");
    assert_eq!(two.up_again("web", run + 1).tree, "cgroup");
}
