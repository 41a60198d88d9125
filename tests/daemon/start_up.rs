//! The start: what may be in the way of it, what may be broken, and who may start a daemon.

use super::client::Client;
use super::host::{Host, alive, binary, copy, root, send, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SLEEPER: &str = "exec = ['sleep', '1000']\n";

/// Runs a command that should end by itself.
fn ends(mut command: Command) -> Output {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    let pid = child.id() as i32;
    until("it ends", || !alive(pid));
    child.wait_with_output().expect("its output")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Issue, end-to-end list: a stale socket is replaced; a live one is not, and its daemon goes on.
#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let mut host = Host::new("sockets");
    host.define("web", SLEEPER);
    fs::create_dir_all(host.path("run")).expect("mkdir");
    drop(UnixListener::bind(host.socket()).expect("bind"));
    host.start();
    let pid = host.up("web").pid;
    // The same directories: locked.
    let second = ends(host.command());
    assert_eq!(second.status.code(), Some(1));
    let words = stderr(&second);
    let owner = format!("is locked by process {}", host.pid());
    assert!(
        words.contains(&owner) && words.contains("vitald shutdown"),
        "{words}"
    );
    // Each of the two directories alone is locked too.
    for (state, run) in [("state", "run-2"), ("state-2", "run")] {
        let mut command = Command::new(binary());
        command.arg("run").env_clear();
        command.arg("--config-dir").arg(host.path("config"));
        command.arg("--state-dir").arg(host.path(state));
        command.arg("--runtime-dir").arg(host.path(run));
        let third = ends(command);
        assert_eq!(third.status.code(), Some(1));
        assert!(stderr(&third).contains(&owner), "{}", stderr(&third));
    }
    assert_eq!(host.status("web").pid, pid);
    assert_eq!(host.daemon().pid, host.pid());
}

/// A live listener of somebody else's on the socket's path, and a file that is none: both are left
/// alone, and said.
#[test]
fn what_is_no_stale_socket_is_left_alone() {
    let host = Host::new("foreign");
    fs::create_dir_all(host.path("run")).expect("mkdir");
    let other = UnixListener::bind(host.socket()).expect("bind");
    let refused = ends(host.command());
    assert_eq!(refused.status.code(), Some(1));
    let path = host.path("run/control.sock");
    assert!(stderr(&refused).contains(&path), "{}", stderr(&refused));
    assert!(Path::new(&path).exists());
    drop(other);
    fs::remove_file(&path).expect("remove");
    fs::write(&path, "a file").expect("write");
    let refused = ends(host.command());
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains(&path), "{}", stderr(&refused));
    assert_eq!(fs::read(&path).expect("still there"), b"a file");
}

/// Issue, bad input: no configuration at all, and an empty one: it runs, says so, and reads what
/// comes later.
#[test]
fn without_definitions_it_runs_and_takes_those_that_come() {
    let mut host = Host::new("nothing");
    fs::remove_dir_all(host.path("config")).expect("remove");
    host.start();
    assert_eq!(host.call("service.list", &json!({})), json!([]));
    assert!(host.said().contains("no definitions"), "{}", host.said());
    let (code, out, _) = host.cli(&["list"]);
    assert_eq!(code, 0, "{out}");
    fs::create_dir_all(host.path("config/services")).expect("mkdir");
    host.call("system.reload", &json!({}));
    host.define("web", SLEEPER);
    host.call("system.reload", &json!({}));
    host.up("web");
}

/// Issue, bad input: each broken file is listed as failed, with file and line and what to write
/// instead; nobody else is held back. By the socket, by the command line and in the log alike.
#[test]
fn each_broken_definition_is_listed_with_its_line_while_the_others_run() {
    let mut host = Host::new("broken-start");
    host.define("well", SLEEPER);
    let broken: [(&str, &[u8], &str); 9] = [
        (
            "key.toml",
            b"# one\nexec = ['true']\nresart = 'always'\n",
            "key.toml:3:1: ",
        ),
        (
            "type.toml",
            b"exec = ['true']\nstop_timeout_ms = 'soon'\n",
            "type.toml:2:19: ",
        ),
        (
            "zero.toml",
            b"exec = ['true']\n[retry_policy]\nstability_period_ms = 0\n",
            "zero.toml:3:23: ",
        ),
        (
            "syntax.toml",
            b"exec = ['true']\nrestart = \n",
            "syntax.toml:2",
        ),
        (
            "bytes.toml",
            b"exec = ['true']\n# \xff\n",
            "bytes.toml:2:3: ",
        ),
        ("none.toml", b"restart = 'always'\n", "none.toml"),
        (
            "json.json",
            b"{\n  \"exec\": [\"true\"],\n  \"after\": 7\n}\n",
            "json.json:3",
        ),
        ("cut.json", b"{\"exec\": [\"true\"]", "cut.json:1"),
        ("web.json", b"{\"exec\": [\"true\"]}", "web.json"),
    ];
    for (file, bytes, _) in broken {
        fs::write(host.path(&format!("config/services/{file}")), bytes).expect("write");
    }
    host.define("web", SLEEPER);
    host.start();
    host.up("well");
    for (file, _, place) in broken {
        let name = file.split('.').next().expect("a stem");
        let status = host.status(name);
        assert_eq!(
            (status.state.as_str(), status.pid),
            ("failed", None),
            "{file}"
        );
        let problem = status.problem.unwrap_or_default();
        assert!(problem.contains(place), "{file}: {problem}");
        let (code, out, _) = host.cli(&["status", name]);
        assert_eq!(code, 3, "{out}");
        assert!(out.contains(place), "{out}");
        assert!(host.said().contains(place), "{}", host.said());
        let (code, message) = host.refused("service.start", &json!({"name": name}));
        assert_eq!(code, -32005, "{message}");
    }
    // Both files of one name are named.
    let problem = host.status("web").problem.unwrap_or_default();
    assert!(problem.contains("web.toml"), "{problem}");
    let (code, out, _) = host.cli(&["list"]);
    assert_eq!((code, out.lines().count()), (0, 1 + 1 + broken.len()));
    // Mended, they run without more ado.
    host.define("key", SLEEPER);
    let _ = host.client().call("system.reload", &json!({}));
    host.up("key");
}

/// A file that cannot be read, a directory and a FIFO in its place: none is waited for.
#[test]
fn what_cannot_be_read_is_said_and_not_waited_for() {
    let mut host = Host::new("unreadable");
    let file = |name: &str| host.path(&format!("config/services/{name}.toml"));
    fs::create_dir(file("folder")).expect("mkdir");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(file("pipe").as_str(), mode).expect("mkfifo");
    std::os::unix::fs::symlink("/no/such/file", file("dangling")).expect("symlink");
    fs::write(file("large"), vec![b'#'; 300 * 1024]).expect("write");
    host.define("well", SLEEPER);
    host.start();
    host.up("well");
    for (name, words) in [
        ("folder", "not a regular file"),
        ("pipe", "not a regular file"),
        ("dangling", "No such file or directory (2)"),
        ("large", "bytes"),
    ] {
        let status = host.status(name);
        assert_eq!(status.state, "failed", "{name}");
        let problem = status.problem.unwrap_or_default();
        assert!(
            problem.contains(&format!("services/{name}.toml")) && problem.contains(words),
            "{name}: {problem}"
        );
    }
}

/// A broken `vitald.toml` opens no door and keeps nobody from running.
#[test]
fn broken_settings_are_said_and_defaults_used() {
    let mut host = Host::new("settings");
    let text = "log_file_bytes = 'many'\naccess = { everyone = 'all' }\n";
    fs::write(host.path("config/vitald.toml"), text).expect("write");
    host.define("web", SLEEPER);
    host.start();
    host.up("web");
    let said = host.said();
    assert!(said.contains("vitald.toml:1:18: "), "{said}");
    assert!(said.contains("vitald.toml:2"), "{said}");
    let mode = fs::metadata(host.socket()).expect("a socket").mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Design §2.6: a corrupt file is set aside and said, never a reason not to start; a torn last
/// line is dropped and said. What is sound is used.
#[test]
fn corrupt_journals_are_set_aside_and_said() {
    let mut host = Host::with("corrupt", &[("web", SLEEPER), ("off", SLEEPER)]);
    let pid = host.up("web").pid.expect("a pid");
    host.wait("stop", "off");
    let answer = host.call("service.stop", &json!({"name": "off"}));
    assert_eq!(answer["durable"], true);
    host.kill();
    // Both journals: a line in the middle that is damaged, and a last one that is torn.
    for path in ["run/journal", "state/wanted"] {
        let path = host.path(path);
        let text = fs::read_to_string(&path).expect("a journal");
        let (head, rest) = text.split_once('\n').expect("lines");
        fs::write(
            &path,
            format!("{head}\nno line of ours\n{rest}{{\"torn\": "),
        )
        .expect("write");
    }
    host.start();
    let said = host.said();
    for path in ["run/journal", "state/wanted"] {
        let path = host.path(path);
        assert!(
            said.contains(&format!("{path}: 1 damaged lines from line ")),
            "{said}"
        );
        assert!(said.contains("was cut"), "{said}");
        until("it is set aside", || {
            Path::new(&format!("{path}.corrupt-1")).exists()
        });
    }
    let status = host.up("web");
    assert_eq!((status.pid, status.run), (Some(pid), 1));
    assert_eq!(host.status("off").wanted, "stop");
    // The scribe has mended its journal when it has written the next word to it.
    let answer = host.call("service.stop", &json!({"name": "off"}));
    assert_eq!(answer["durable"], true);
    host.kill();
    // Nothing but garbage: no service is known again by the runtime journal, what operators want
    // is what the definitions say, and everything runs.
    send(pid, Signal::SIGKILL);
    until("it is gone", || !alive(pid));
    for path in ["run/journal", "state/wanted"] {
        fs::write(host.path(path), vec![0xfe; 10_000]).expect("write");
    }
    host.start();
    host.up("web");
    host.up("off");
    assert!(
        host.said().contains("not one sound line"),
        "{}",
        host.said()
    );
    let aside = |dir: &str, word: &str| {
        fs::read_dir(host.path(dir))
            .expect("read")
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(word))
    };
    assert!(aside("run", "journal.old-") || aside("run", "journal.corrupt-"));
    until("the other too", || aside("state", "wanted.corrupt-2"));
}

/// What it does when its state directory cannot be written: it starts, supervises, and says of
/// each verb that it is not durable. `words`: why.
fn undurable(host: &mut Host, words: &str) {
    host.define("web", &format!("{SLEEPER}[retry_policy]\ndelay_ms = 0\n"));
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    send(pid, Signal::SIGKILL);
    host.up_again("web", 2);
    let answer = host.call("service.stop", &json!({"name": "web", "wait": true}));
    assert_eq!(answer["durable"], false, "{answer}");
    let cause = answer["durable_error"].as_str().unwrap_or_default();
    assert!(cause.contains(words), "{answer}");
    let status = host.status("web");
    assert_eq!(
        (status.state.as_str(), status.wanted.as_str()),
        ("inactive", "stop")
    );
    let (code, out, _) = host.cli(&["start", "web"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("not yet on disk") && out.contains(words),
        "{out}"
    );
    host.up_again("web", 3);
    // Still known to the next daemon of this boot: the runtime directory is another one.
    host.wait("stop", "web");
    host.kill();
    host.start();
    assert_eq!(host.status("web").wanted, "stop");
    host.call("system.shutdown", &json!({}));
    assert_eq!(host.ended().code(), Some(0));
}

/// Issue, no space left: a file system of one page, which is taken.
#[test]
fn with_a_full_state_directory_it_supervises_and_says_not_durable() {
    let mut host = Host::new("full");
    let Some(_mount) = Mount::on(
        &host,
        "state",
        &["-t", "tmpfs", "-o", "size=4k,mode=700", "vitald-test"],
    ) else {
        return;
    };
    // The one page that there is.
    fs::write(host.path("state/filler"), [b'x'; 4096]).expect("fill");
    undurable(&mut host, "No space left on device (28)");
}

/// Issue: a read-only root.
#[test]
fn with_a_read_only_state_directory_it_supervises_and_says_not_durable() {
    let mut host = Host::new("read-only");
    let options = ["-t", "tmpfs", "-o", "ro,size=4k", "vitald-test"];
    let Some(_mount) = Mount::on(&host, "state", &options) else {
        return;
    };
    undurable(&mut host, "Read-only file system (30)");
}

/// A state directory that cannot even be made: a file stands in its place.
#[test]
fn without_a_state_directory_it_supervises_and_says_not_durable() {
    let mut host = Host::new("no-state");
    let file = host.dir.join("file");
    fs::write(&file, "").expect("write");
    host.set_state_dir(file.join("state"));
    undurable(&mut host, "Not a directory (20)");
}

/// Something mounted on a host's state directory, until it is dropped.
struct Mount(String);

impl Mount {
    /// None: that takes root, and a kernel that lets it.
    fn on(host: &Host, what: &str, arguments: &[&str]) -> Option<Mount> {
        if !root() {
            return None;
        }
        let dir = host.path(what);
        fs::create_dir_all(&dir).expect("mkdir");
        let mount = Command::new("mount").args(arguments).arg(&dir).status();
        if mount.expect("run mount").success() {
            return Some(Mount(dir));
        }
        let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
        assert!(!required, "cannot mount, and VITALD_TEST_REQUIRE=1");
        eprintln!("skipped: cannot mount here");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the daemon may still have files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Design §3, §4: as a normal user everything is in the XDG directories, and the command line
/// finds the socket there. Others may not read what is there.
#[test]
fn a_normal_user_runs_one_in_the_xdg_directories() {
    if !root() {
        return;
    }
    let host = Host::new("user");
    let uid = 65_534;
    let home = host.path("home");
    fs::create_dir_all(host.path("home/config/vitald/services")).expect("mkdir");
    for dir in ["home/run", "home/state"] {
        fs::create_dir_all(host.path(dir)).expect("mkdir");
        fs::set_permissions(host.path(dir), fs::Permissions::from_mode(0o700)).expect("chmod");
        std::os::unix::fs::chown(host.path(dir), Some(uid), Some(uid)).expect("chown");
    }
    fs::write(host.path("home/config/vitald/services/web.toml"), SLEEPER).expect("write");
    let other = "exec = ['sleep', '1000']\nuser = 'root'\n";
    fs::write(host.path("home/config/vitald/services/other.toml"), other).expect("write");
    // Where everybody can execute it.
    let program = host.path("home/vitald");
    copy(&binary(), &program);
    let as_user = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &home)
            .env("XDG_CONFIG_HOME", format!("{home}/config"))
            .env("XDG_STATE_HOME", format!("{home}/state"))
            .env("XDG_RUNTIME_DIR", format!("{home}/run"))
            .uid(uid)
            .gid(uid)
            .stdin(Stdio::null());
        command
    };
    let mut daemon = as_user(&["run"]);
    let log = fs::File::create(host.path("daemon.log")).expect("a log");
    let mut daemon = daemon.stderr(log).spawn().expect("start");
    let socket = host.dir.join("home/run/vitald/control.sock");
    until("it answers", || {
        assert!(
            daemon.try_wait().expect("wait").is_none(),
            "{}",
            host.said()
        );
        Client::connect(&socket).is_ok()
    });
    let verb = |arguments: &[&str]| {
        let output = as_user(arguments).output().expect("run a verb");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        (output.status.code(), text)
    };
    until("it runs", || verb(&["status", "web"]).0 == Some(0));
    // Who is not root can start nothing as somebody else.
    until("the other has failed", || {
        let (code, text) = verb(&["status", "other"]);
        code == Some(3) && text.contains("Operation not permitted (1)")
    });
    let (code, text) = verb(&["stop", "web", "--wait"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("not yet on disk"), "{text}");
    assert!(host.dir.join("home/state/vitald/wanted").exists());
    assert_eq!(fs::metadata(&socket).expect("a socket").uid(), uid);
    let (code, text) = verb(&["shutdown", "--wait"]);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(daemon.wait().expect("wait").code(), Some(0));
    // Without the directory that only a login gives it, it says what to do.
    let mut homeless = as_user(&["run"]);
    homeless.env_remove("XDG_RUNTIME_DIR").env_remove("HOME");
    let refused = ends(homeless);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("--runtime-dir"),
        "{}",
        stderr(&refused)
    );
}

/// No directory is written to that was not named: a relative one is where it was named from.
#[test]
fn relative_directories_are_where_they_were_named_from() {
    let mut host = Host::with("relative", &[("web", SLEEPER)]);
    host.call("system.shutdown", &json!({}));
    assert_eq!(host.ended().code(), Some(0));
    let mut command = Command::new(binary());
    command.current_dir(&host.dir).env_clear();
    command.env("PATH", "/usr/bin:/bin").arg("run");
    for (option, dir) in [
        ("--config-dir", "config"),
        ("--state-dir", "state"),
        ("--runtime-dir", "run"),
    ] {
        command.args([option, dir]);
    }
    let log = fs::File::create(host.path("daemon.log")).expect("a log");
    let mut daemon = command.stderr(log).spawn().expect("start");
    until("it answers", || Client::connect(&host.socket()).is_ok());
    host.up_again("web", 2);
    host.call("system.shutdown", &json!({}));
    assert_eq!(daemon.wait().expect("wait").code(), Some(0));
}

/// What is answered is in the runtime journal, or the answer says that it is not: the very first
/// one too.
#[test]
fn with_a_full_runtime_directory_the_first_answer_says_not_durable() {
    let mut host = Host::new("full-run");
    let options = ["-t", "tmpfs", "-o", "size=256k,mode=755", "vitald-test"];
    let Some(_mount) = Mount::on(&host, "run", &options) else {
        return;
    };
    host.define("web", "exec = ['sleep', '1000']\n");
    host.start();
    host.up("web");
    let mut filler = fs::File::create(host.path("run/filler")).expect("create");
    while std::io::Write::write_all(&mut filler, &[b'x'; 512]).is_ok() {}
    // The journal's last page takes some records still.
    let mut told = None;
    for verb in ["hold", "release"].iter().cycle().take(400) {
        let answer = host.call(&format!("system.{verb}"), &json!({}));
        if answer["durable"] == false {
            told = Some(answer.to_string());
            break;
        }
        let journal = fs::read_to_string(host.path("run/journal")).expect("a journal");
        let last = journal.lines().rev().find(|line| line.contains("\"hold\""));
        let is_held = last.is_some_and(|line| line.contains("\"owner\""));
        assert_eq!(is_held, *verb == "hold", "{verb} was answered: {last:?}");
    }
    let told = told.expect("said at last");
    assert!(told.contains("No space left on device (28)"), "{told}");
    host.up("web");
}
