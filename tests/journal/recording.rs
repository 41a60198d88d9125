//! A recording's files, as the scribe writes them: whole, in turns, and never at the loop's cost.

use super::Dir;
use super::scribe::Rig;
use nix::sys::signal::{Signal, kill};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use vitald::limits;
use vitald::reactor::scribe::frame::RECORDING;

fn file(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join("recording").join(name)).unwrap_or_default()
}

/// Bytes that differ from all others.
fn piece(n: u32, length: usize) -> Vec<u8> {
    let line = format!("{n} ");
    line.bytes().cycle().take(length).collect()
}

#[test]
fn files_take_turns_and_only_their_owner_may_look() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir.path);
    for n in 0..7 {
        assert!(rig.scribe.record(&piece(n, 40_000), true));
        assert!(rig.scribe.record(&piece(n, 10), false));
        rig.until(|rig| !rig.scribe.is_recording());
    }
    rig.finish();
    for (name, n) in [
        ("current", 6),
        ("current.1", 5),
        ("current.2", 4),
        ("current.3", 3),
    ] {
        let bytes = [piece(n, 40_000), piece(n, 10)].concat();
        assert!(file(&dir.path, name) == bytes, "{name}");
        let place = dir.path.join("recording").join(name);
        assert_eq!(
            fs::metadata(place).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let place = dir.path.join("recording");
    assert_eq!(
        fs::metadata(&place).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(fs::read_dir(place).unwrap().count(), 4);
    assert!(rig.acks.is_empty(), "{:?}", rig.acks);
}

#[test]
fn what_waits_is_bounded_and_what_was_taken_is_written() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir.path);
    rig.freeze();
    // A beginning may be as large as it is.
    let mut whole = piece(0, 3 * limits::RECORD_BACKLOG);
    assert!(rig.scribe.record(&whole, true));
    assert!(!rig.scribe.record(b"no room", false));
    assert!(!rig.scribe.record(b"none for a beginning either", true));
    // Services' logs have a bound of their own.
    rig.log("web", 0, b"line\n");
    kill(rig.pid(), Signal::SIGCONT).unwrap();
    rig.until(|rig| !rig.scribe.is_recording());
    rig.freeze();
    let mut n = 1;
    while rig.scribe.record(&piece(n, 30_000), false) {
        whole.extend(piece(n, 30_000));
        n += 1;
        assert!(n < 100, "it is not bounded");
    }
    assert!(n > 30, "{n}");
    kill(rig.pid(), Signal::SIGCONT).unwrap();
    rig.until(|rig| !rig.scribe.is_recording());
    rig.finish();
    assert!(file(&dir.path, "current") == whole);
    let log = fs::read_to_string(dir.path.join("logs/web/current")).unwrap();
    assert!(log.ends_with("line\n"), "{log}");
}

#[test]
fn a_full_disk_ends_the_file_and_is_told() {
    let Some(dir) = Dir::small(256) else { return };
    let ballast = dir.path.join("ballast");
    fs::write(&ballast, piece(0, 100 * 1024)).unwrap();
    let mut rig = Rig::new(&dir.path);
    let begun = piece(1, 512 * 1024);
    assert!(rig.scribe.record(&begun, true));
    rig.until(|rig| rig.acks.iter().any(|ack| ack.seq == RECORDING));
    let why = rig.acks[0].result.clone().unwrap_err();
    assert!(why.contains("recording/current: No space left"), "{why}");
    rig.until(|rig| !rig.scribe.is_recording());
    // There is room again, but not in this file: it would have a hole.
    fs::remove_file(ballast).unwrap();
    assert!(rig.scribe.record(b"more", false));
    assert!(rig.scribe.record(b"anew\n", true));
    rig.finish();
    assert_eq!(file(&dir.path, "current"), b"anew\n");
    let old = file(&dir.path, "current.1");
    assert!(!old.is_empty() && begun.starts_with(&old), "{}", old.len());
    // Words of operators are none of its business.
    assert!(rig.acks.iter().all(|ack| ack.seq == RECORDING));
}

#[test]
fn a_scribe_that_is_born_later_does_not_go_on_in_the_middle() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir.path);
    assert!(rig.scribe.record(b"begun\n", true));
    rig.until(|_| file(&dir.path, "current") == b"begun\n");
    kill(rig.pid(), Signal::SIGKILL).unwrap();
    let deaths = rig.deaths;
    rig.until(|rig| rig.deaths > deaths);
    assert!(rig.scribe.record(b"lost\n", false));
    rig.scribe.restart().unwrap();
    rig.until(|rig| !rig.scribe.is_recording());
    assert!(rig.scribe.record(b"anew\n", true));
    rig.finish();
    assert_eq!(file(&dir.path, "current.1"), b"begun\n");
    assert_eq!(file(&dir.path, "current"), b"anew\n");
}
