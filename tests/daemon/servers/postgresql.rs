//! PostgreSQL 15, as Debian packages it, and what may happen to it.

use super::yard::{PACE, POLICY, Yard, yard};
use crate::host::send;
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::process::Command;

const BIN: &str = "/usr/lib/postgresql/15/bin";

fn pg_yard(test: &str, megabytes: u32) -> Option<Yard> {
    let init = format!(
        "mkdir $data/main && chown postgres: $data/main\n\
         runuser -u postgres -- {BIN}/initdb -D $data/main -A trust --no-sync --locale=C \
         --wal-segsize=1 >&2"
    );
    let mut yard = yard(test, &format!("{BIN}/postgres"), megabytes, &init)?;
    let (dir, data) = (yard.host.path("sockets"), yard.host.path("data/main"));
    fs::create_dir(&dir).expect("mkdir");
    let done = Command::new("chown").args(["postgres:", &dir]).status();
    assert!(done.expect("chown").success());
    yard.host.define(
        "postgres",
        &format!(
            "exec = ['{BIN}/postgres', '-D', '{data}', '-k', '{dir}', '-c', 'listen_addresses=', \
             '-c', 'max_connections=6', '-c', 'superuser_reserved_connections=0', \
             '-c', 'max_wal_senders=0', '-c', 'fsync=off', '-c', 'shared_buffers=4MB', \
             '-c', 'max_wal_size=1GB', '-c', 'autovacuum=off']\n\
             user = 'postgres'\nkill_mode = 'mixed'\nstop_signal = 'SIGINT'\n{POLICY}\
             [[probe]]\ntype = 'postgres'\ntarget = '{dir}/.s.PGSQL.5432'\n{PACE}"
        ),
    );
    yard.host.start();
    Some(yard)
}

/// A session, logged in; it lasts as long as the stream. False: it was turned away.
fn session(yard: &Yard) -> Option<std::os::unix::net::UnixStream> {
    let mut stream = yard.connect("sockets/.s.PGSQL.5432")?;
    let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let length = (body.len() as u32 + 4).to_be_bytes();
    stream.write_all(&[&length[..], body].concat()).ok()?;
    let mut first = [0; 1];
    stream.read_exact(&mut first).ok()?;
    (first == *b"R").then_some(stream)
}

#[test]
fn postgres_stopped_full_of_sessions_and_without_its_socket() {
    let Some(yard) = pg_yard("postgres-faults", 96) else {
        return;
    };
    // Sessions that were there go on; nobody new is let in.
    let stopped = "stopped by a signal (SIGSTOP)";
    let dossier = yard.healed("postgres", "timeout", stopped, |status| {
        send(status.pid.expect("a process"), Signal::SIGSTOP);
    });
    assert!(dossier.summary.starts_with(stopped), "{}", dossier.summary);
    assert!(dossier.summary.contains(": stuck"), "{}", dossier.summary);

    let mut held = Vec::new();
    let reason = "postgres: 53300 sorry, too many clients already";
    let dossier = yard.healed("postgres", reason, "connections open", |_| {
        held = yard.crowd("postgres", || session(&yard));
    });
    assert!(
        dossier.summary.contains("it accepts"),
        "{}",
        dossier.summary
    );
    // Who is just being turned away is connected, too.
    let open = dossier.evidence.sockets[0].connections;
    assert!(open.is_some_and(|open| open >= 6), "{open:?}");
    drop(held);

    let gone = ".s.PGSQL.5432 is gone: it listens, but nothing leads to it";
    let dossier = yard.healed("postgres", "postgres: socket path missing", gone, |_| {
        fs::remove_file(yard.host.path("sockets/.s.PGSQL.5432")).expect("unlink");
    });
    let socket = dossier.evidence.sockets.first().expect("its socket");
    assert_eq!(socket.path.as_deref(), Some("gone"));
    assert!(session(&yard).is_some());
}

/// It ends itself when it cannot write what it has promised, and cannot recover either: that is a
/// crash, told with its own last words, until there is room again.
#[test]
fn postgres_with_a_full_disk() {
    let Some(yard) = pg_yard("postgres-disk", 96) else {
        return;
    };
    let before = yard.host.up("postgres");
    yard.fill();
    // Nothing but what is to be written ahead.
    let message = "select pg_logical_emit_message(false, 'x', repeat('x', 400000)) \
                   from generate_series(1, 100)";
    let done = Command::new("psql")
        .args([
            "-h",
            &yard.host.path("sockets"),
            "-U",
            "postgres",
            "-c",
            message,
        ])
        .output()
        .expect("psql");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success(), "{said}");
    let status = yard.host.until("postgres", "it has ended", |s| {
        s.run > before.run && s.last_end.as_ref().is_some_and(|end| end.cause == "exit")
    });
    assert_eq!(status.last_end.expect("an end").code, Some(1));
    yard.why_says("postgres", &["exit code 1", "No space left on device"]);
    yard.free();
    yard.host.up("postgres");
    assert!(session(&yard).is_some());
}
