//! Oneshots that are undone, targets, `once`, `stop --until-boot`, `kill_mode = "mixed"` and runtime
//! directories, as a user meets them.

use super::host::{Host, alive, root, send, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The next boot: all is stopped in order, and what outlives the daemon only is gone.
fn reboot(host: &mut Host) {
    host.call("system.shutdown", &json!({}));
    host.ended();
    fs::remove_dir_all(host.path("run")).expect("remove");
    host.start();
}

fn said(host: &Host) -> Vec<String> {
    let text = fs::read_to_string(host.path("story")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// `net` is done and can be undone; `web` needs it.
fn network(host: &Host) {
    let story = host.path("story");
    host.define(
        "net",
        &format!(
            "exec = ['sh', '-c', 'echo up >> {story}']\nkind = 'oneshot'\n\
             undo = [['sh', '-c', 'echo $VITALD_HOOK >> {story}; cat {story}.bad'], \
             ['sh', '-c', 'echo down >> {story}']]\n"
        ),
    );
    host.define(
        "web",
        &format!(
            "exec = ['sleep', '1000']\nrequires = ['net']\npost_stop = [['sh', '-c', 'echo web \
             >> {story}']]\n"
        ),
    );
    fs::write(format!("{story}.bad"), "").expect("write");
}

#[test]
fn a_oneshot_is_undone_once_for_each_time_it_was_done() {
    let mut host = Host::new("undo");
    network(&host);
    host.start();
    host.up("web");
    host.wait("restart", "net");
    assert_eq!(said(&host), ["up", "undo/0", "down", "up"]);
    host.wait("stop", "net");
    assert_eq!(said(&host)[4..], ["undo/0", "down"]);
    // Once.
    host.wait("stop", "net");
    assert_eq!(said(&host).len(), 6);
    host.wait("start", "net");
    // Done: a second start does not do it twice.
    let answer = host.call("service.start", &json!({"name": "net", "wait": true}));
    assert!(
        answer["note"]
            .as_str()
            .unwrap_or_default()
            .contains("is done"),
        "{answer}"
    );
    assert_eq!(said(&host)[6..], ["up"]);
    // Over the daemon's death it stays done, and can be undone.
    host.kill();
    host.start();
    assert_eq!(host.status("net").state, "exited");
    assert_eq!(said(&host).len(), 7);
    // At the end all who need it go first.
    host.call("system.shutdown", &json!({}));
    host.ended();
    assert_eq!(said(&host)[7..], ["web", "undo/0", "down"]);
    // What was wanted is so still.
    host.start();
    host.up("web");
    assert_eq!(said(&host)[10..], ["up"]);
}

#[test]
fn an_undo_that_fails_is_shown_and_stops_nothing() {
    let mut host = Host::new("undo-fails");
    network(&host);
    host.start();
    host.up("web");
    fs::remove_file(host.path("story.bad")).expect("remove");
    host.wait("stop", "net");
    let status = host.status("net");
    assert_eq!(status.state, "inactive");
    let detail = status.detail.expect("why");
    assert!(
        detail.starts_with("undo: exit code 1: ") && detail.contains("story.bad"),
        "{detail}"
    );
    assert_eq!(said(&host), ["up", "undo/0"]);
    let (_, out, _) = host.cli(&["status", "net"]);
    assert!(out.contains("undo: exit code 1"), "{out}");
    host.wait("start", "net");
    assert_eq!(host.status("net").detail, None);
}

#[test]
fn a_target_is_its_members() {
    let mut host = Host::new("target");
    let idle = "exec = ['sleep', '1000']\nautostart = false\n";
    host.define("db", idle);
    host.define("cache", idle);
    host.define(
        "mail",
        "exec = ['sleep', '1000']\nautostart = false\nrequires = ['db']\n",
    );
    host.define(
        "shop",
        "kind = 'target'\nautostart = false\nrequires = ['db']\nwants = ['cache']\n",
    );
    host.define(
        "front",
        "exec = ['sleep', '1000']\nrequires = ['shop']\nautostart = false\n",
    );
    host.start();
    host.wait("start", "shop");
    let status = host.status("shop");
    assert_eq!(
        (&*status.state, &*status.kind, status.pid),
        ("running", "target", None)
    );
    assert_eq!(host.status("db").state, "running");
    host.wait("start", "front");
    // A requirement that goes takes it along, and brings it back.
    host.call("service.stop", &json!({"name": "db"}));
    host.until("shop", "blocked", |s| s.state == "blocked");
    host.wait("start", "db");
    host.until("shop", "running", |s| s.state == "running");
    host.kill();
    host.start();
    assert_eq!(host.status("shop").state, "running");
    host.wait("start", "mail");
    let (code, out, err) = host.cli(&["stop", "shop"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("db runs on: others need it") && out.contains("front"),
        "{out}"
    );
    host.until("cache", "stopped", |s| s.state == "inactive");
    assert_eq!(host.status("db").state, "running");
    assert_eq!(host.status("shop").state, "inactive");
    let refused = host.refused("service.once", &json!({"name": "shop"}));
    assert!(refused.1.contains("it runs nothing"), "{}", refused.1);
    // Bad input.
    host.define("shop", "kind = 'target'\nexec = 'x'\n");
    let refused = host.refused("system.reload", &json!({}));
    assert!(
        refused.1.contains("shop.toml:2:1: a target has no process"),
        "{}",
        refused.1
    );
}

#[test]
fn once_is_one_run_until_the_next_boot() {
    let mut host = Host::new("once");
    host.define(
        "job",
        "exec = ['sleep', '1000']\nautostart = false\n[retry_policy]\ndelay_ms = 0\n",
    );
    host.define(
        "web",
        "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 0\n",
    );
    host.start();
    host.up("web");
    host.wait("once", "job");
    let status = host.status("job");
    assert_eq!(
        (&*status.wanted, status.at_boot.as_deref()),
        ("once", Some("stop"))
    );
    host.kill();
    host.start();
    let status = host.status("job");
    assert_eq!(
        (&*status.wanted, &*status.state, status.run),
        ("once", "running", 1)
    );
    send(status.pid.expect("a pid"), Signal::SIGKILL);
    let status = host.until("job", "failed", |s| s.state == "failed");
    assert_eq!((status.run, status.attempts), (1, 0));
    let (_, out, _) = host.cli(&["why", "job"]);
    assert!(
        out.contains("started once") && out.contains("wanted once"),
        "{out}"
    );
    // Of one that runs, the run that is there.
    host.call("service.once", &json!({"name": "web"}));
    host.kill();
    let pid = host.processes()[0];
    send(pid, Signal::SIGKILL);
    host.start();
    let status = host.until("web", "over", |s| {
        s.state != "running" && s.state != "stopping"
    });
    assert_eq!((&*status.state, status.run), ("failed", 1));
    reboot(&mut host);
    host.up("web");
    let status = host.status("job");
    assert_eq!((&*status.wanted, &*status.state), ("stop", "inactive"));
}

#[test]
fn stopped_until_boot_is_started_by_the_next() {
    let mut host = Host::new("until-boot");
    host.define("web", "exec = ['sleep', '1000']\n");
    host.start();
    host.up("web");
    let (code, out, err) = host.cli(&["stop", "web", "--until-boot", "--wait"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("until the next boot"), "{out}");
    host.kill();
    host.start();
    let status = host.status("web");
    assert_eq!((&*status.state, &*status.wanted), ("inactive", "stop"));
    let (_, out, _) = host.cli(&["status", "web"]);
    assert!(out.contains("from the next boot on started"), "{out}");
    let (_, out, _) = host.cli(&["why", "web"]);
    assert!(out.contains("start at the next boot"), "{out}");
    reboot(&mut host);
    host.up("web");
    // For good is for good.
    host.wait("stop", "web");
    reboot(&mut host);
    assert_eq!(host.status("web").state, "inactive");
}

/// Only the main process is asked; what it leaves is killed.
#[test]
fn with_kill_mode_mixed_the_children_are_killed_without_being_asked() {
    let mut host = Host::new("mixed");
    let story = host.path("story");
    let child = format!(
        "trap \"echo asked >> {story}\" TERM; echo $$ > {story}.child; while :; do sleep 0.05; done"
    );
    fs::write(host.path("child.sh"), child).expect("write");
    let main = format!(
        "sh {} & trap \"echo main >> {story}; exit 0\" TERM; while :; do sleep 0.05; done",
        host.path("child.sh")
    );
    fs::write(host.path("main.sh"), main).expect("write");
    let text = format!(
        "exec = ['sh', '{}']\nkill_mode = 'mixed'\n",
        host.path("main.sh")
    );
    host.define("web", &text);
    host.start();
    host.up("web");
    let mut child = None;
    until("its child is there", || {
        let text = fs::read_to_string(format!("{story}.child")).unwrap_or_default();
        child = text.trim().parse().ok();
        child.is_some()
    });
    host.wait("stop", "web");
    assert!(!alive(child.expect("a pid")));
    assert_eq!(said(&host), ["main"]);
}

/// Made before the start, for the service's user, and gone after it, whatever is in them; links are
/// not followed.
#[test]
fn runtime_directories_come_and_go_with_the_run() {
    let mut host = Host::new("directories");
    let base = match nix::unistd::geteuid().is_root() {
        true => "/run".to_owned(),
        false => host.path(""),
    };
    host.set_env("XDG_RUNTIME_DIR", base.trim_end_matches('/'));
    let name = format!("vitald-test-{}", std::process::id());
    let dir = Path::new(&base).join(&name);
    let keys = |more: &str| {
        format!(
            "exec = ['sh', '-c', 'mkdir -p $RUNTIME_DIRECTORY/deep/er; echo > \
             $RUNTIME_DIRECTORY/deep/file; echo $RUNTIME_DIRECTORY; exec sleep 1000']\n\
             pre_start = [['sh', '-c', 'test -d $RUNTIME_DIRECTORY']]\n\
             runtime_directory = ['{name}']\nruntime_directory_mode = '0700'\n{more}\
             [retry_policy]\ndelay_ms = 0\n"
        )
    };
    host.define("web", &keys(""));
    host.start();
    let file = dir.join("deep/file");
    until("it is used", || file.exists());
    host.line("web", "its path", |line| {
        line == dir.to_str().expect("UTF-8")
    });
    assert_eq!(fs::metadata(&dir).expect("there").mode() & 0o7777, 0o700);
    // A restart begins with an empty one.
    let inode = fs::metadata(&dir).expect("there").ino();
    host.wait("restart", "web");
    until("it is another", || {
        fs::metadata(&dir).is_ok_and(|m| m.ino() != inode) && file.exists()
    });
    host.wait("stop", "web");
    until("it is gone", || !dir.exists());
    let asides = || {
        let names = fs::read_dir(&base).expect("read").flatten();
        let ours = format!(".vitald-removed-{}-", host.pid());
        names
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours))
            .count()
    };
    until("and all that was in it", || asides() == 0);
    // Over restarts, not over a stop.
    host.define("web", &keys("runtime_directory_preserve = 'restart'\n"));
    host.call("system.reload", &json!({}));
    host.wait("start", "web");
    until("it is used", || file.exists());
    let inode = fs::metadata(&dir).expect("there").ino();
    host.wait("restart", "web");
    assert_eq!(fs::metadata(&dir).expect("there").ino(), inode);
    host.wait("stop", "web");
    until("it is gone", || !dir.exists());
    // What is in the way is told, and left.
    let target = host.path("target");
    fs::create_dir(&target).expect("mkdir");
    fs::write(format!("{target}/key"), "").expect("write");
    std::os::unix::fs::symlink(&target, &dir).expect("link");
    host.call("service.start", &json!({"name": "web"}));
    let status = host.until("web", "failed", |s| s.state == "failed");
    let detail = status.detail.expect("why");
    assert!(detail.contains("something else is there"), "{detail}");
    host.wait("stop", "web");
    assert!(fs::exists(format!("{target}/key")).expect("look"));
    fs::remove_file(&dir).expect("remove");
}

#[test]
fn a_runtime_directory_is_its_users() {
    if !root() {
        return;
    }
    let mut host = Host::new("directories-user");
    let name = format!("vitald-test-user-{}", std::process::id());
    let dir = Path::new("/run").join(&name);
    let text = format!(
        "exec = ['sh', '-c', 'touch $RUNTIME_DIRECTORY/x && exec sleep 1000']\nuser = 4242\n\
         group = 4243\nruntime_directory = '{name}'\nruntime_directory_preserve = 'yes'\n"
    );
    host.define("web", &text);
    host.start();
    until("it writes there", || dir.join("x").exists());
    let meta = fs::metadata(&dir).expect("there");
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (4242, 4243, 0o755)
    );
    host.wait("stop", "web");
    assert!(dir.join("x").exists());
    fs::remove_dir_all(&dir).expect("remove");
}
