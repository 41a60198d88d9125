//! Redis, as Debian packages it, and what may happen to it.

use super::yard::{PACE, POLICY, Yard, yard};
use crate::host::{send, until};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const PROGRAM: &str = "/usr/bin/redis-server";

/// `save`: when it writes a snapshot; `log`: whether each change is appended to a file.
fn define(yard: &Yard, name: &str, keys: &str, save: &str, log: &str) {
    let socket = yard.host.path(&format!("{name}.sock"));
    let data = yard.host.path("data");
    yard.host.define(
        name,
        &format!(
            "exec = ['{PROGRAM}', '--port', '0', '--unixsocket', '{socket}', '--maxclients', '12', \
             '--dir', '{data}', '--dbfilename', '{name}.rdb', '--appenddirname', '{name}', \
             '--save', '{save}', '--appendonly', '{log}', '--daemonize', 'no']\n{keys}{POLICY}\
             [[probe]]\ntype = 'redis'\ntarget = '{socket}'\n{PACE}"
        ),
    );
}

/// One command; what comes back at once.
fn ask(stream: &mut UnixStream, words: &[&str]) -> String {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(command.as_bytes()).expect("ask redis");
    let mut answer = [0; 1024];
    let length = stream.read(&mut answer).expect("an answer of redis");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

/// A connection that it serves.
fn client(yard: &Yard, name: &str) -> UnixStream {
    let mut client = None;
    until("redis takes a client", || {
        let stream = yard.connect(&format!("{name}.sock"));
        client = stream.filter(|stream| {
            let mut stream = stream.try_clone().expect("dup");
            stream.write_all(b"PING\r\n").is_ok()
                && stream.read(&mut [0; 64]).is_ok_and(|length| length > 0)
        });
        client.is_some()
    });
    client.expect("a client")
}

#[test]
fn redis_stopped_full_of_clients_and_without_its_socket() {
    let Some(mut yard) = yard("redis-faults", PROGRAM, 32, "") else {
        return;
    };
    define(&yard, "redis", "", "", "no");
    yard.host.start();
    let stopped = "stopped by a signal (SIGSTOP)";
    let dossier = yard.healed("redis", "timeout", stopped, |status| {
        send(status.pid.expect("a process"), Signal::SIGSTOP);
    });
    assert!(dossier.summary.starts_with(stopped), "{}", dossier.summary);
    assert_eq!(dossier.evidence.processes[0].state, "T");

    let mut held = Vec::new();
    let reason = "redis: ERR max number of clients reached";
    let dossier = yard.healed("redis", reason, "connections open", |_| {
        held = yard.crowd("redis", || yard.connect("redis.sock"));
    });
    assert!(
        dossier.summary.contains("it accepts"),
        "{}",
        dossier.summary
    );
    // Who is just being turned away is connected, too.
    let open = dossier.evidence.sockets[0].connections;
    assert!(open.is_some_and(|open| open >= 12), "{open:?}");
    drop(held);

    let gone = "redis.sock is gone: it listens, but nothing leads to it";
    let dossier = yard.healed("redis", "redis: socket path missing", gone, |_| {
        fs::remove_file(yard.host.path("redis.sock")).expect("unlink");
    });
    let socket = dossier.evidence.sockets.first().expect("its socket");
    assert_eq!(socket.path.as_deref(), Some("gone"));
    assert!(socket.own && socket.probed, "{socket:?}");
    assert!(client(&yard, "redis").set_nonblocking(false).is_ok());
}

/// A full disk, by what is open on it and by where it works. Redis says MISCONF to PING as well; it is
/// well again when it was started anew, until it is to write.
#[test]
fn redis_with_a_full_disk() {
    let Some(mut yard) = yard("redis-disk", PROGRAM, 16, "") else {
        return;
    };
    let stop = "health_stop_timeout_ms = 2000\n";
    define(&yard, "log", stop, "", "yes");
    define(&yard, "snapshot", stop, "1 1", "no");
    yard.host.start();
    let full = format!("file system {} is full (16 MiB)", yard.host.path("data"));
    let value = "x".repeat(100_000);
    let mut writer = client(&yard, "log");
    yard.host.up("log");
    let dossier = yard.healed(
        "log",
        "redis: MISCONF Errors writing to the AOF",
        &full,
        |_| {
            yard.fill();
            ask(&mut writer, &["SET", "key", &value]);
        },
    );
    assert!(dossier.summary.starts_with(&full), "{}", dossier.summary);
    let seen = dossier.evidence.file_systems.first().expect("the full one");
    assert!(seen.path.contains("/log/appendonly.aof"), "{seen:?}");
    assert_eq!(seen.free_kb, 0);
    let said = "Error writing to the AOF file: No space left on device";
    let why = yard.why_says("log", &["before it was stopped it wrote", said]);
    let to_the_signal = "Received SIGTERM";
    assert!(!why.contains(to_the_signal), "{why}");
    yard.host
        .line("log", "it was told", |line| line.contains(to_the_signal));
    let mut writer = client(&yard, "snapshot");
    let reason = "redis: MISCONF Redis is configured to save RDB snapshots";
    let dossier = yard.healed("snapshot", reason, &full, |_| {
        ask(&mut writer, &["SET", "key", &value]);
    });
    assert!(
        dossier
            .log
            .iter()
            .any(|l| l.contains("No space left on device"))
    );

    // With room again all is as ever.
    yard.free();
    for name in ["log", "snapshot"] {
        yard.host.up(name);
        assert_eq!(
            ask(&mut client(&yard, name), &["SET", "key", &value]),
            "+OK\r\n"
        );
    }
}
