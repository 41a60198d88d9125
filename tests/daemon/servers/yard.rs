//! Where the servers of these tests live: a host with a small file system that can be filled, and a
//! fault, what is told of it, and the cure as one step.
//!
//! The daemon and its services see that file system alone (unshare(1)); the test reaches it by the
//! daemon's root in `/proc`. All talk goes over Unix sockets below the host's own directory.

use super::super::dossiers::get;
use super::super::host::{Host, is_here, root, until};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use vitald::control::dossier::Dossier;
use vitald::engine::status::Status;

/// Looks as long as it takes, restarts at once and as often as it takes.
pub const POLICY: &str = "dossier_timeout_ms = 10000\n[retry_policy]\nmax_attempts = 'unlimited'\ndelay_ms = 50\n\
                          backoff = 'fixed'\njitter = 0\nstability_period_ms = 1\n";

/// Twice in a row: a busy machine makes one answer late now and then.
pub const PACE: &str = "interval_ms = 1000\ntimeout_ms = 1000\nconfirm_interval_ms = 300\n\
                        failure_threshold = 2\nstart_interval_ms = 50\n";

pub struct Yard {
    pub host: Host,
}

/// None: the server is not here, or we are not root. `prepare`: shell commands when the file system is
/// mounted, at `$data`.
pub fn yard(test: &str, program: &str, megabytes: u32, prepare: &str) -> Option<Yard> {
    if !root() || !is_here(program) {
        return None;
    }
    let mut host = Host::new(test);
    let data = host.path("data");
    fs::create_dir(&data).expect("mkdir");
    // The network is the test's own, too: connections are the namespace's of who connects.
    let script = format!(
        "set -e\ndata={data}\nmount --make-rprivate /\n\
         mount -t tmpfs -o size={megabytes}m,mode=0777 tmpfs $data\n{prepare}\n"
    );
    host.set_within_of(&["--mount"], &script);
    host.settings("health_restart_limit = { count = 100, per_ms = 1000 }\n");
    Some(Yard { host })
}

impl Yard {
    /// A file of that file system, from outside.
    pub fn inside(&self, name: &str) -> PathBuf {
        let data = self.host.path("data");
        PathBuf::from(format!("/proc/{}/root{data}/{name}", self.host.pid()))
    }

    /// To its last byte.
    pub fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.inside("fill"))
            .expect("open");
        for size in [1 << 20, 1 << 12, 1] {
            let block = vec![b'x'; size];
            while file.write_all(&block).is_ok() {}
        }
    }

    pub fn free(&self) {
        fs::remove_file(self.inside("fill")).expect("unlink");
    }

    /// A connection to a server's socket; None: it takes none just now.
    pub fn connect(&self, socket: &str) -> Option<UnixStream> {
        let stream = UnixStream::connect(self.host.path(socket)).ok()?;
        let bound = Some(Duration::from_secs(10));
        stream.set_read_timeout(bound).expect("a timeout");
        stream.set_write_timeout(bound).expect("a timeout");
        Some(stream)
    }

    /// Joins until there is room for nobody, not for a probe either; gives those that were let in.
    pub fn crowd(
        &self,
        name: &str,
        mut join: impl FnMut() -> Option<UnixStream>,
    ) -> Vec<UnixStream> {
        let run = self.host.status(name).run;
        let mut held = Vec::new();
        // A probe that is under way leaves a place when it is done: so on until it is found out.
        until(&format!("{name} is full"), || {
            held.extend(join());
            held.retain(is_open);
            let status = self.host.status(name);
            status.run > run || status.health.as_deref() == Some("unhealthy")
        });
        held
    }

    /// What is told of a run when this has happened to it: it is found, told apart, looked at, and
    /// replaced by one that is well.
    pub fn healed(
        &self,
        name: &str,
        reason: &str,
        stuck_on: &str,
        fault: impl FnOnce(&Status),
    ) -> Dossier {
        let before = self.host.up(name);
        fault(&before);
        self.host.up_again(name, before.run + 1);
        let dossier = self.told(name, before.run, reason, stuck_on);
        assert_eq!(dossier.cut, None, "{dossier:#?}");
        dossier
    }

    /// What a reader finds about this run, in each of the three places where he looks.
    pub fn told(&self, name: &str, run: u32, reason: &str, stuck_on: &str) -> Dossier {
        let host = &self.host;
        let story = host.why(name).story;
        let decided = story.iter().find(|l| l.kind == "decision" && l.run == run);
        let decided = decided.unwrap_or_else(|| panic!("no decision: {story:#?}"));
        assert!(decided.detail.contains(reason), "{}", decided.detail);
        let line = story.iter().find(|l| l.kind == "dossier" && l.run == run);
        let line = line.unwrap_or_else(|| panic!("no dossier: {story:#?}"));
        let (id, summary) = line.detail.split_once(": ").expect("its name, and a line");
        assert!(summary.contains(stuck_on), "{summary}");
        // It may be on its way to its file still: that is waited for.
        let dossier = get(host, id);
        let (_, shown, _) = host.cli(&["dossier", "show", id]);
        let head: Vec<&str> = shown.lines().take(4).collect();
        let head = head.join("\n");
        assert!(head.contains(reason) && head.contains(stuck_on), "{head}");
        if std::env::var_os("VITALD_TEST_SHOW").is_some() {
            let (_, why, _) = host.cli(&["why", name]);
            eprintln!("---- why {name}\n{why}\n---- dossier show {id}\n{shown}");
        }
        dossier
    }

    /// The newest `why`, in words, holds all of these.
    pub fn why_says(&self, name: &str, all: &[&str]) -> String {
        let mut said = String::new();
        until(&format!("why {name} says {all:?}"), || {
            said = self.host.cli(&["why", name]).1;
            all.iter().all(|words| said.contains(words))
        });
        if std::env::var_os("VITALD_TEST_SHOW").is_some() {
            eprintln!("---- why {name}\n{said}");
        }
        said
    }
}

/// The server has not closed it; whatever it says is read.
fn is_open(stream: &UnixStream) -> bool {
    stream.set_nonblocking(true).expect("non-blocking");
    let mut stream = stream;
    match stream.read(&mut [0; 4096]) {
        Ok(length) => length > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}
