//! Sockets that are held for services: nobody is refused while a service restarts, whatever else
//! happens; the first who comes starts it; what is in the way is told.

use super::acceptor::{exec, served, visit};
use super::host::{Host, alive, send, until};
use super::upgrade::{can_panic, upgrade};
use nix::sys::signal::Signal;
use serde_json::json;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use vitald::engine::status::Status;

/// A port that nobody has; not sure, but hardly taken by another test.
fn port(ip: &str) -> u16 {
    let listener = TcpListener::bind((ip, 0)).expect("a port");
    listener.local_addr().expect("its address").port()
}

fn sockets(listens: &[&str]) -> String {
    let one = |listen: &&str| format!("[[socket]]\nlisten = '{listen}'\n");
    listens.iter().map(one).collect()
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// One address of each kind.
fn all_kinds(host: &Host) -> Vec<String> {
    let mut all = vec![
        format!("tcp:127.0.0.1:{}", port("127.0.0.1")),
        format!("udp:127.0.0.1:{}", port("127.0.0.1")),
        format!("unix:{}", host.path("stream.sock")),
        format!("unix-datagram:{}", host.path("datagram.sock")),
    ];
    if has_ipv6() {
        all.push(format!("tcp:[::1]:{}", port("::1")));
        all.push(format!("udp:[::1]:{}", port("::1")));
    }
    all
}

fn is_open(status: &Status) -> bool {
    !status.sockets.is_empty() && status.sockets.iter().all(|socket| socket.open)
}

/// Its sockets by inode, of a process.
fn inodes(pid: i32) -> Vec<String> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
    let links = fds
        .flatten()
        .filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let links = links.map(|link| link.to_string_lossy().into_owned());
    links.filter(|link| link.starts_with("socket:")).collect()
}

/// Both have the same socket open.
fn shares_a_socket(a: i32, b: i32) -> bool {
    let others = inodes(b);
    inodes(a).iter().any(|inode| others.contains(inode))
}

/// While `work` is done somebody comes to each address all the time; nobody may be refused.
fn under_visitors(listens: &[String], work: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let visits = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for listen in listens {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    served(listen);
                    visits.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(visits.load(Ordering::Relaxed) > 0);
}

/// The streams among them: a datagram that a run had taken when it was ended is lost, as ever.
fn streams(all: &[String]) -> Vec<String> {
    let stream = |listen: &&String| listen.starts_with("tcp:") || listen.starts_with("unix:");
    all.iter().filter(stream).cloned().collect()
}

fn define(host: &Host, name: &str, keys: &str, how: &str, listens: &[String]) {
    let listens: Vec<&str> = listens.iter().map(String::as_str).collect();
    host.define(
        name,
        &format!("{keys}{}{}", exec(host, how), sockets(&listens)),
    );
}

/// A moment in which nobody listens, if nobody holds the sockets.
const SLOW: &str = "pre_start = ['sleep', '0.1']\n";

#[test]
fn nobody_is_refused_while_it_restarts() {
    let mut host = Host::new("sockets-restart");
    let all = all_kinds(&host);
    define(&host, "web", SLOW, "serve", &all);
    host.start();
    assert!(is_open(&host.up("web")));
    for listen in &all {
        assert_eq!(served(listen), "web web/1", "{listen}");
    }
    under_visitors(&streams(&all), || {
        host.wait("restart", "web");
        let pid = host.up("web").pid.expect("a pid");
        send(pid, Signal::SIGKILL);
        host.until("web", "a third run", |s| s.run == 3 && s.state == "running");
    });
    // Who comes while it is down waits, datagrams as well.
    for (listen, run) in all.iter().zip(4..) {
        host.call("service.restart", &json!({"name": "web"}));
        host.until("web", "on its way", |s| s.run == run && s.pid.is_none());
        assert_eq!(served(listen), format!("web web/{run}"), "{listen}");
        host.up("web");
    }
    let (_, page, _) = host.cli(&["status", "web"]);
    assert!(page.contains(&format!("{}, open", all[0])), "{page}");
    // Stopped by an operator it is no longer there.
    host.wait("stop", "web");
    for listen in &all {
        assert!(visit(listen).is_err(), "{listen}");
    }
    assert!(!Path::new(&host.path("stream.sock")).exists());
    assert!(!Path::new(&host.path("datagram.sock")).exists());
    assert!(!is_open(&host.status("web")));
    host.wait("start", "web");
    assert!(served(&all[0]).starts_with("web web/"));
}

/// A process that is no child any more may be asked for its descriptors (ptrace(2), Yama).
fn may_have_back() -> bool {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    scope.map_or(true, |scope| scope.trim() == "0") || super::host::root()
}

#[test]
fn over_the_daemons_death_they_are_had_back_from_the_living() {
    if !may_have_back() {
        return;
    }
    let mut host = Host::new("sockets-death");
    let all = all_kinds(&host);
    define(&host, "web", SLOW, "serve", &all);
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    host.kill();
    assert!(alive(pid) && served(&all[0]) == "web web/1");
    host.start();
    let status = host.up("web");
    assert_eq!((status.pid, status.run), (Some(pid), 1));
    assert!(is_open(&status), "{:?}", status.sockets);
    assert!(shares_a_socket(host.pid(), pid));
    under_visitors(&streams(&all), || {
        host.wait("restart", "web");
    });
    for listen in &all {
        assert_eq!(served(listen), "web web/2", "{listen}");
    }
    // Both dead: opened anew, also where the dead have left their files.
    let pid = host.up("web").pid.expect("a pid");
    host.kill();
    send(pid, Signal::SIGKILL);
    until("it is dead", || !alive(pid));
    assert!(Path::new(&host.path("stream.sock")).exists());
    assert!(visit(&all[2]).is_err());
    host.start();
    host.until("web", "a third run", |s| s.run == 3 && s.state == "running");
    for listen in &all {
        assert_eq!(served(listen), "web web/3", "{listen}");
    }
}

#[test]
fn an_upgrade_and_a_panic_refuse_nobody() {
    let mut host = Host::new("sockets-upgrade");
    host.set_env("VITALD_TEST_PANIC", "1");
    let all = all_kinds(&host);
    let later = vec![format!("unix:{}", host.path("later.sock"))];
    define(&host, "web", "", "serve", &all);
    define(&host, "later", "start_on = 'connection'\n", "serve", &later);
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    host.until("later", "listening", |s| s.listening && is_open(s));
    let file = |host: &Host| {
        let found = std::fs::metadata(host.path("later.sock")).expect("its file");
        std::os::unix::fs::MetadataExt::ino(&found)
    };
    let before = file(&host);
    under_visitors(&streams(&all), || {
        upgrade(&host);
        assert!(is_open(&host.up("web")));
        host.wait("restart", "web");
        if can_panic() {
            send(host.pid(), Signal::SIGUSR2);
            until("it executed itself anew", || {
                host.said().contains("executed itself anew after a panic")
            });
        }
        host.wait("restart", "web");
    });
    assert_ne!(host.up("web").pid, Some(pid));
    // Who listens has not been closed in between.
    let status = host.until("later", "listening", |s| s.listening && is_open(s));
    assert_eq!((status.run, file(&host)), (0, before));
    assert_eq!(served(&later[0]), "later later/1");
}

#[test]
fn the_first_who_comes_starts_it() {
    let mut host = Host::new("sockets-first");
    let all = all_kinds(&host);
    for (number, listen) in all.iter().enumerate() {
        let name = format!("s{number}");
        define(
            &host,
            &name,
            "start_on = 'connection'\n",
            "once",
            std::slice::from_ref(listen),
        );
    }
    host.define("needs", "exec = ['sleep', '1000']\nrequires = ['s0']\n");
    host.start();
    // Whoever needs it can connect to it: that is enough.
    host.up("needs");
    for (number, listen) in all.iter().enumerate() {
        let name = format!("s{number}");
        let status = host.until(&name, "listening", |s| s.listening && is_open(s));
        assert_eq!((status.state.as_str(), status.run), ("inactive", 0));
        assert_eq!(served(listen), format!("{name} {name}/1"));
        // It has served, ended, and is started by the next.
        let status = host.until(&name, "listening again", |s| s.listening && s.run == 1);
        assert_eq!(status.attempts, 0);
        assert_eq!(served(listen), format!("{name} {name}/2"));
    }
    let (_, page, _) = host.cli(&["status"]);
    assert!(page.contains("inactive (listening)"), "{page}");
    let why = host.why("s0");
    assert!(
        why.story.iter().any(|line| line.cause == "connection"),
        "{why:#?}"
    );
    // Not against the operator's will.
    host.until("s0", "listening", |s| s.listening);
    host.wait("stop", "s0");
    assert!(visit(&all[0]).is_err());
    let status = host.status("s0");
    assert_eq!(
        (status.state.as_str(), status.run, status.listening),
        ("inactive", 2, false)
    );
}

#[test]
fn one_that_accepts_nobody_spends_its_budget_and_no_more() {
    let mut host = Host::new("sockets-deaf");
    let listen = [format!("unix:{}", host.path("web.sock"))];
    let keys = "start_on = 'connection'\n";
    let policy = "[retry_policy]\nmax_attempts = 2\ndelay_ms = 5\nbackoff = 'fixed'\n";
    let text = format!(
        "{keys}{}{}{policy}",
        exec(&host, "deaf"),
        sockets(&[&listen[0]])
    );
    host.define("web", &text);
    host.start();
    host.until("web", "listening", |s| s.listening && is_open(s));
    let _waits = std::os::unix::net::UnixStream::connect(host.path("web.sock")).expect("a visitor");
    let status = host.until("web", "failed", |s| s.state == "failed");
    assert_eq!((status.run, status.attempts), (3, 2));
    let detail = status.detail.unwrap_or_default();
    assert!(
        detail.contains("budget 2/2") && detail.contains("has not accepted"),
        "{detail}"
    );
    assert!(visit(&listen[0]).is_err());
    assert!(!Path::new(&host.path("web.sock")).exists());
}

fn bound_only(path: &str) -> std::os::fd::OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
    let flags = SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("a socket");
    let address = UnixAddr::new(path).expect("an address");
    bind(std::os::fd::AsRawFd::as_raw_fd(&made), &address).expect("bind");
    made
}

#[test]
fn what_is_in_the_way_is_told_and_others_run() {
    let mut host = Host::new("sockets-errors");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let taken_at = format!("tcp:{}", taken.local_addr().expect("its address"));
    // Bound, and nobody listens yet: it refuses, as what is left of the dead does.
    let bound = bound_only(&host.path("bound.sock"));
    let living = UnixListener::bind(host.path("living.sock")).expect("bind");
    std::fs::write(host.path("file"), "not a socket").expect("write");
    let cases = [
        ("taken", taken_at.clone(), "in use (98)", "ss -ltnp"),
        (
            "foreign",
            "tcp:192.0.2.1:80".to_owned(),
            "(99)",
            "no interface has it",
        ),
        (
            "nowhere",
            format!("unix:{}", host.path("none/a")),
            "(2)",
            "make its directory",
        ),
        (
            "living",
            format!("unix:{}", host.path("living.sock")),
            "in use (98)",
            "ss -lxp",
        ),
        (
            "bound",
            format!("unix:{}", host.path("bound.sock")),
            "in use (98)",
            "ss -lxp",
        ),
        (
            "file",
            format!("unix:{}", host.path("file")),
            "File exists (17)",
            "move it away",
        ),
    ];
    for (name, listen, ..) in &cases {
        define(&host, name, "", "serve", std::slice::from_ref(listen));
    }
    define(
        &host,
        "later",
        "start_on = 'connection'\n",
        "serve",
        std::slice::from_ref(&taken_at),
    );
    host.define("db", "exec = ['sleep', '1000']\n");
    host.start();
    host.up("db");
    for (name, listen, cause, advice) in &cases {
        let status = host.until(name, "failed", |s| s.state == "failed");
        let detail = status.detail.unwrap_or_default();
        for part in [listen, *cause, advice] {
            assert!(detail.contains(part), "{name}: {detail}");
        }
        assert_eq!((status.attempts, status.pid), (0, None), "{name}");
    }
    host.until("later", "failed", |s| s.state == "failed");
    // What is another's is left to it.
    assert!(std::os::unix::net::UnixStream::connect(host.path("living.sock")).is_ok());
    assert!(Path::new(&host.path("bound.sock")).exists());
    assert_eq!(
        std::fs::read_to_string(host.path("file")).expect("there"),
        "not a socket"
    );
    // The way is clear: a reload is enough, and so is a start.
    drop((taken, living, bound));
    std::fs::remove_file(host.path("file")).expect("out of the way");
    host.call("service.start", &json!({"name": "file", "wait": true}));
    host.undefine("taken");
    host.call("system.reload", &json!({}));
    for name in ["living", "bound"] {
        host.up(name);
    }
    host.until("later", "listening", |s| s.listening && is_open(s));
    assert_eq!(served(&taken_at), "later later/1");
}

#[test]
fn a_reload_keeps_the_sockets_that_have_not_changed() {
    let mut host = Host::new("sockets-reload");
    let kept = format!("unix:{}", host.path("kept.sock"));
    let old = format!("unix:{}", host.path("old.sock"));
    let new = format!("unix:{}", host.path("new.sock"));
    define(&host, "web", SLOW, "serve", &[kept.clone(), old.clone()]);
    host.start();
    host.up("web");
    under_visitors(std::slice::from_ref(&kept), || {
        define(&host, "web", SLOW, "serve", &[kept.clone(), new.clone()]);
        host.call("system.reload", &json!({}));
        host.until("web", "a second run", |s| {
            s.run == 2 && s.state == "running"
        });
    });
    assert_eq!(served(&new), "web web/2");
    assert!(!Path::new(&host.path("old.sock")).exists());
    // As text or as numbers: mode and name are the file's.
    let text = format!(
        "{}[[socket]]\nlisten = '{kept}'\nname = 'door'\nmode = '0600'\n",
        exec(&host, "serve")
    );
    host.define("web", &text);
    host.call("system.reload", &json!({}));
    host.until("web", "a third run", |s| s.run == 3 && s.state == "running");
    assert_eq!(served(&kept), "door web/3");
    let mode = std::fs::metadata(host.path("kept.sock")).expect("its file");
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Gone with its definition.
    host.undefine("web");
    host.call("system.reload", &json!({}));
    until("the socket is gone", || {
        !Path::new(&host.path("kept.sock")).exists()
    });
}

#[test]
fn all_addresses_are_ipv4s_too_unless_another_socket_has_those() {
    if !has_ipv6() {
        return;
    }
    let mut host = Host::new("sockets-both");
    let (one, both) = (port("127.0.0.1"), port("127.0.0.1"));
    define(&host, "one", "", "serve", &[format!("tcp:{one}")]);
    let each = [format!("tcp:{both}"), format!("tcp:0.0.0.0:{both}")];
    define(&host, "both", "", "serve", &each);
    host.start();
    host.up("one");
    host.up("both");
    for at in [
        format!("127.0.0.1:{one}"),
        format!("[::1]:{both}"),
        format!("127.0.0.1:{both}"),
    ] {
        assert!(TcpStream::connect(&at).is_ok(), "{at}");
        served(&format!("tcp:{at}"));
    }
}
