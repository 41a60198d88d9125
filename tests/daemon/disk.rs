//! A disk that dies: input/output errors under the real daemon. It supervises on, says what is not
//! durable and why, and makes good for it when the disk is back.

use super::faults::{Call, Faults};
use super::host::{Host, send, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;

const SLEEPER: &str = "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 0\n";
const EIO: &str = "I/O error (5)";

/// A host whose disk a test can break; None: the kernel does not let it.
fn host(test: &str) -> Option<(Host, Faults)> {
    if !Faults::can() {
        return None;
    }
    let mut host = Host::new(test);
    let faults = Faults::default();
    host.set_faults(faults.clone());
    for name in ["web", "other"] {
        host.define(name, SLEEPER);
    }
    host.start();
    host.up("web");
    host.up("other");
    Some((host, faults))
}

/// It crashes and is started again.
fn is_supervised(host: &Host, name: &str) {
    let status = host.up(name);
    send(status.pid.expect("a pid"), Signal::SIGKILL);
    host.up_again(name, status.run + 1);
}

fn not_durable(answer: &Value) -> &str {
    assert_eq!(answer["durable"], false, "{answer}");
    answer["durable_error"].as_str().expect("a cause")
}

/// What `call` on the state directory leads to, while it fails and afterwards.
fn state_directory(test: &str, call: Call, words: &str) {
    let Some((mut host, faults)) = host(test) else {
        return;
    };
    let answer = host.wait("stop", "other");
    assert_eq!(answer["durable"], true, "{answer}");
    let wanted = host.dir.join("state/wanted");
    let inode = || fs::metadata(&wanted).expect("a file").ino();
    let before = inode();
    assert!(host.daemon().not_durable.is_empty());

    faults.fail(call, host.dir.join("state"));
    let answer = host.wait("stop", "web");
    let cause = not_durable(&answer);
    assert!(cause.contains(EIO) && cause.contains(words), "{cause}");
    let status = host.status("web");
    assert_eq!((&*status.state, &*status.wanted), ("inactive", "stop"));
    host.wait("start", "other");
    is_supervised(&host, "other");
    let (_, out, _) = host.cli(&["status"]);
    assert!(out.contains("not durable: ") && out.contains(EIO), "{out}");
    assert!(host.said().contains("not on disk yet"), "{}", host.said());

    faults.heal();
    until("it is written after all", || {
        host.daemon().not_durable.is_empty()
    });
    if call == Call::Sync {
        // After a failed sync nothing in the old file is trusted.
        assert_ne!(inode(), before);
    }
    let answer = host.wait("stop", "other");
    assert_eq!(answer["durable"], true, "{answer}");
    host.kill();
    // Only what is on disk counts now.
    fs::remove_file(host.dir.join("run/journal")).expect("remove the journal");
    host.start();
    for name in ["web", "other"] {
        assert_eq!(host.status(name).wanted, "stop", "{name}");
    }
}

#[test]
fn a_state_directory_that_cannot_be_synced_costs_durability_and_no_service() {
    state_directory("eio-sync", Call::Sync, "sync");
}

#[test]
fn a_state_directory_that_cannot_be_written_costs_durability_and_no_service() {
    state_directory("eio-write", Call::Write, "write");
}

/// The very first word makes the file, and its name must be on disk as well.
#[test]
fn a_first_word_whose_name_cannot_be_synced_is_not_durable() {
    let Some((host, faults)) = host("eio-name") else {
        return;
    };
    let state = host.dir.join("state");
    faults.fail(Call::SyncName, state.clone());
    let answer = host.wait("stop", "web");
    let cause = not_durable(&answer);
    let words = format!("sync {}: {EIO}", state.display());
    assert!(cause.contains(&words), "{cause}");
    let inode = || fs::metadata(state.join("wanted")).expect("a file").ino();
    let before = inode();
    faults.heal();
    until("it is written after all", || {
        host.daemon().not_durable.is_empty()
    });
    assert_ne!(inode(), before, "the kernel tells of a failure once");
}

/// Issue: an upgrade while the journal cannot be written would lose what is so.
#[test]
fn a_runtime_journal_that_cannot_be_written_is_said_and_puts_upgrades_off() {
    let Some((host, faults)) = host("eio-journal") else {
        return;
    };
    faults.fail(Call::Write, host.dir.join("run"));
    let answer = host.call("system.hold", &json!({}));
    assert!(not_durable(&answer).contains(EIO), "{answer}");
    host.call("system.release", &json!({}));
    is_supervised(&host, "web");
    let troubles = host.daemon().not_durable;
    assert!(
        troubles.iter().any(|words| words.contains(EIO)),
        "{troubles:?}"
    );
    let (_, message) = host.refused("system.upgrade", &json!({}));
    assert!(
        message.contains("cannot be written down") && message.contains(EIO),
        "{message}"
    );
    assert_eq!(host.daemon().began, None);
    assert!(faults.hits() > 0);

    faults.heal();
    until("it is written again", || {
        host.daemon().not_durable.is_empty()
    });
    let before = host.up("web");
    host.call("system.upgrade", &json!({}));
    assert!(host.daemon().began.is_some());
    let after = host.up("web");
    assert_eq!((after.pid, after.run), (before.pid, before.run));
}
