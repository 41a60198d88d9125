//! The control socket over a real Unix socket, and the command line before it. Conformance 34
//! and 35.

#[path = "control_wire/cli.rs"]
mod cli;
#[path = "control_wire/dangers.rs"]
mod dangers;
#[path = "control_wire/harness.rs"]
mod harness;

use harness::{Server, call, fresh_path};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vitald::control::access::{Grant, Level, Rights, Who};
use vitald::limits;
use vitald::reactor::listener::Listener;

#[test]
fn conformance_34_a_client_that_never_reads_is_cut_and_slows_nobody() {
    let server = Server::all();
    let mut greedy = server.connect();
    // More answers than any socket buffer holds.
    let asked = 50;
    greedy
        .write_all(call("service.list", 1).repeat(asked).as_bytes())
        .unwrap();
    for _ in 0..20 {
        server.still_serves();
    }
    assert!(server.closed.try_iter().all(|(serial, _)| serial != 1));
    // Ten seconds in which nothing is taken, and it is closed.
    let wait = limits::CLIENT_STUCK.as_micros() as u64;
    server.tell(|shared| shared.ahead.store(wait, Ordering::SeqCst));
    while server.closed.recv_timeout(Duration::from_secs(20)).unwrap() != (1, false) {}
    let mut rest = Vec::new();
    let _ = greedy.read_to_end(&mut rest);
    let whole = rest.iter().filter(|byte| **byte == b'\n').count();
    assert!(whole < asked, "not everything was kept for it");
    server.still_serves();
}

#[test]
fn conformance_34_a_subscriber_that_never_reads_is_cut_at_its_bound() {
    let server = Server::all();
    let mut deaf = server.connect();
    deaf.write_all(call("events.subscribe", 1).as_bytes())
        .unwrap();
    let mut answer = String::new();
    BufReader::new(deaf.try_clone().unwrap())
        .read_line(&mut answer)
        .unwrap();
    assert!(answer.contains("subscribed"));
    for _ in 0..100 {
        server.tell(|shared| shared.events.store(2_000, Ordering::SeqCst));
        server.still_serves();
        if server.closed.try_iter().any(|closed| closed == (1, true)) {
            return;
        }
    }
    panic!("never cut");
}

#[test]
fn conformance_35_ten_megabytes_without_a_line_end_are_an_error_and_the_end() {
    let server = Server::all();
    for begin in ["{", "x"] {
        let mut stream = server.connect();
        stream.write_all(begin.as_bytes()).unwrap();
        // The daemon may close before all is written.
        let _ = stream.write_all(&vec![b'a'; 10 * 1024 * 1024]);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("a line may have 65536 bytes"), "{answer:?}");
        assert_eq!(answer.starts_with('{'), begin == "{");
        server.still_serves();
    }
}

#[test]
fn conformance_35_half_a_line_holds_nobody_up_and_can_be_finished_later() {
    let server = Server::all();
    let mut slow = server.connect();
    slow.write_all(b"pi").unwrap();
    server.still_serves();
    server.tell(|shared| shared.ahead.store(60_000_000, Ordering::SeqCst));
    server.still_serves();
    slow.write_all(b"ng\n").unwrap();
    let mut lines = BufReader::new(slow).lines();
    assert_eq!(lines.nth(1).unwrap().unwrap(), "ok");
}

#[test]
fn conformance_35_a_thousand_connections_and_the_newest_is_always_served() {
    raise_descriptors();
    let server = Server::all();
    let mut listens = server.connect();
    listens.write_all(b"events\n").unwrap();
    let mut all = Vec::new();
    for n in 0..1_000u32 {
        let mut stream = server.connect();
        stream.write_all(call("system.ping", n).as_bytes()).unwrap();
        let mut answer = String::new();
        let mut reader = BufReader::new(stream);
        reader.read_line(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["id"], n);
        all.push(reader);
    }
    // The oldest were closed, the newest were not, and the one who listens was spared.
    let mut end = String::new();
    assert_eq!(all[0].read_line(&mut end).unwrap(), 0, "{end}");
    let newest = all.last_mut().unwrap();
    newest.get_mut().write_all(b"ping\n").unwrap();
    assert!(newest.read_line(&mut end).unwrap() > 0);
    server.tell(|shared| shared.events.store(1, Ordering::SeqCst));
    let mut heard = String::new();
    BufReader::new(listens).read_line(&mut heard).unwrap();
    assert!(heard.contains("service-0001"), "{heard}");
}

#[test]
fn after_the_peer_s_half_close_its_answers_are_finished() {
    let server = Server::all();
    server.tell(|shared| shared.answer.store(false, Ordering::SeqCst));
    let mut stream = server.connect();
    stream
        .write_all(b"stop service-0001 --wait\nstatus service-0002\n")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    server.still_serves();
    server.tell(|shared| shared.answer.store(true, Ordering::SeqCst));
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(all.starts_with("done\nok\n"), "{all}");
    assert!(all.contains("service-0002: running"), "{all}");
    assert!(all.ends_with("\nok\n"), "{all}");
}

#[test]
fn a_large_answer_arrives_whole_while_the_client_reads() {
    let server = Server::all();
    let mut stream = server.connect();
    stream
        .write_all(call("service.list", 9).repeat(5).as_bytes())
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all.lines().count(), 5);
    for line in all.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!(answer["result"].as_array().map(Vec::len), Some(1000));
    }
}

#[test]
fn a_dead_socket_is_replaced_a_live_one_and_a_file_are_not() {
    let bind = |path: &Path| Listener::bind(path, 0o660, None, Rights::default());
    let path = fresh_path();
    let live = bind(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let refused = bind(&path).err().unwrap();
    assert!(refused.contains("another daemon answers"), "{refused}");
    drop(live);
    assert!(path.exists(), "dropped without a word, as by kill -9");
    let second = bind(&path).unwrap();
    second.unlink();
    assert!(!path.exists());
    // What is another's by now is left alone.
    std::fs::write(&path, "").unwrap();
    second.unlink();
    assert!(path.exists());
    let refused = bind(&path).err().unwrap();
    assert!(refused.contains("is no socket"), "{refused}");
    assert!(path.exists());
    let nowhere = bind(Path::new("/nonexistent/control.sock")).err().unwrap();
    assert!(nowhere.contains("/nonexistent/control.sock"), "{nowhere}");
    assert!(
        nowhere.ends_with("No such file or directory (2)"),
        "{nowhere}"
    );
    let long = format!("/{}/control.sock", "x".repeat(100));
    let refused = bind(Path::new(&long)).err().unwrap();
    let advice = "the path has 114 bytes, a socket's may have 107 (unix(7)): choose a shorter";
    assert!(refused.contains(advice), "{refused}");
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

/// In a process of its own, because descriptors are counted by process.
#[test]
fn without_descriptors_a_newcomer_is_told_so_and_the_listener_lives() {
    const CHILD: &str = "VITALD_TEST_WITHOUT_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = "without_descriptors_a_newcomer_is_told_so_and_the_listener_lives";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("1 passed"), "{said}");
        return;
    }
    let path = fresh_path();
    let mut listener = Listener::bind(&path, 0o660, None, Rights::default()).unwrap();
    let mut told = UnixStream::connect(&path).unwrap();
    lower_descriptors();
    let mut hog = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hog.push(file);
    }
    let accepted = listener.accept();
    assert_eq!((accepted.clients.len(), accepted.refused), (0, 1));
    assert!(!accepted.more && !accepted.retry);
    let mut answer = String::new();
    told.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("error: vitald has no file descriptor left (24)"),
        "{answer}"
    );
    hog.clear();
    let _client = UnixStream::connect(&path).unwrap();
    assert_eq!(listener.accept().clients.len(), 1);
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

/// Rights follow the credentials of who connects. Only root can be somebody else for a moment.
#[test]
fn peers_are_known_by_their_credentials() {
    let grant = |who, level| Grant {
        who,
        level,
        service: None,
    };
    let server = Server::start(Rights {
        owner: 0,
        grants: vec![
            grant(Who::Group(4_001), Level::Read),
            grant(Who::Group(4_002), Level::Act),
        ],
    });
    let root = nix::unistd::geteuid().is_root();
    let ask = |uid: Option<u32>, groups: &'static [libc::gid_t]| {
        let path = server.path.clone();
        let peer = std::thread::spawn(move || {
            if let Some(uid) = uid {
                become_user(uid, groups);
            }
            let mut stream = UnixStream::connect(path).unwrap();
            stream
                .write_all(b"ping\nstatus service-0001\nstop service-0001\nreload\n")
                .unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
                .lines()
                .filter(|line| *line == "ok" || line.starts_with("error: "))
                .map(|line| if line == "ok" { 'y' } else { 'n' })
                .collect::<String>()
        });
        peer.join().unwrap()
    };
    if !root {
        assert_eq!(ask(None, &[]), "ynnn");
        return;
    }
    assert_eq!(ask(None, &[]), "yyyy");
    assert_eq!(ask(Some(4_000), &[]), "ynnn");
    assert_eq!(ask(Some(4_000), &[9, 4_001]), "yynn");
    assert_eq!(ask(Some(4_000), &[4_002, 4_001]), "yyyn");
}

/// This thread alone becomes another user: the raw system calls do not touch the others
/// (setresuid(2), C library/kernel differences).
fn become_user(uid: u32, groups: &[libc::gid_t]) {
    // SAFETY: plain system calls; `groups` lives through its call.
    let done = unsafe {
        libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) == 0
            && libc::syscall(libc::SYS_setresgid, uid, uid, uid) == 0
            && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0
    };
    assert!(done, "cannot become uid {uid}");
}

fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).unwrap();
}

fn lower_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 128, hard).unwrap();
}
