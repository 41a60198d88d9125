//! A dossier: what was found out about a service before it was stopped for its health. Plain data
//! with one JSON form, which is the file, the answer of `dossier.get`, and what is drawn as text.
//!
//! No environment and no command line is in it: they may hold secrets. Its parts are bounded.

use crate::engine::status::ProbeStatus;
use serde::{Deserialize, Serialize};

/// What `dossier.list` answers: the oldest first.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dossiers {
    pub dossiers: Vec<Head>,
}

/// The first fields of a [`Dossier`].
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    pub id: String,
    pub service: String,
    pub run: u32,
    /// RFC 3339.
    pub time: String,
    /// What it was stopped for: `unhealthy`, `start_timeout`, `watchdog`.
    pub cause: String,
    /// The same in words.
    pub reason: String,
    /// What it was stuck on, in a line.
    pub summary: String,
}

/// What stands behind the head in a file; no string can have it, for its quotes are escaped there.
pub const BEHIND_HEAD: &str = ",\"uptime_ms\":";

/// All of it. The fields of [`Head`] come first: a list is made of files' beginnings.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dossier {
    pub id: String,
    pub service: String,
    pub run: u32,
    pub time: String,
    pub cause: String,
    pub reason: String,
    pub summary: String,
    pub uptime_ms: Option<u64>,
    /// How long it was looked at; and why that ended before all was seen; null: all was.
    pub took_ms: u64,
    pub cut: Option<String>,
    pub probes: Vec<ProbeStatus>,
    pub evidence: Evidence,
    /// What was to make it tell more: a signal, or a command's name; null: nothing.
    pub diagnose: Option<String>,
    /// What was written to its log meanwhile.
    pub told: Vec<String>,
    /// The last lines of its log before.
    pub log: Vec<String>,
}

/// What `/proc` and the kernel's socket tables tell.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    pub summary: String,
    /// All was looked at.
    pub whole: bool,
    /// The main process first.
    pub processes: Vec<ProcessSeen>,
    /// Processes that are not told of.
    pub more_processes: u64,
    /// The socket tables were not looked at: its time was up before.
    pub sockets_unseen: bool,
    /// Listening ones first.
    pub sockets: Vec<SocketSeen>,
    pub more_sockets: u64,
    pub pressure: Vec<PressureSeen>,
    /// What could not be seen, and why.
    pub unseen: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSeen {
    pub pid: i32,
    pub name: String,
    /// `R` `S` `D` `T` `Z` …
    pub state: String,
    /// Processor time in percent of one processor, over `cpu_over_ms`; null: not known.
    pub cpu_percent: Option<u32>,
    pub cpu_over_ms: u64,
    pub rss_kb: Option<u64>,
    pub swap_kb: Option<u64>,
    pub threads: Vec<ThreadSeen>,
    pub more_threads: u64,
    pub descriptors: Option<DescriptorsSeen>,
    /// Limits that are set, as `open files 1024/4096`.
    pub limits: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadSeen {
    pub tid: i32,
    pub name: String,
    pub state: String,
    pub cpu_percent: Option<u32>,
    /// The same of the time in which it could have run and got no processor.
    pub starved_percent: Option<u32>,
    /// The kernel's function that it sleeps in.
    pub wchan: Option<String>,
    /// `futex`, `read of 5 (pipe)`, `running`.
    pub syscall: Option<String>,
    /// Innermost first; empty: not permitted.
    pub stack: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DescriptorsSeen {
    pub open: u64,
    /// Null: unlimited, or not known.
    pub limit: Option<u64>,
    pub sockets: u64,
    pub pipes: u64,
    pub files: u64,
    pub devices: u64,
    /// eventfd, epoll, timerfd …
    pub others: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SocketSeen {
    /// `tcp` `unix`
    pub kind: String,
    /// `listen` `established` `close-wait` …
    pub state: String,
    pub local: String,
    pub peer: String,
    /// Of a listening one: connections that wait to be accepted, and the backlog; else bytes that
    /// wait to be read, and to be sent.
    pub receive_queue: Option<u64>,
    pub send_queue: Option<u64>,
    /// The first of these a moment later.
    pub receive_queue_then: Option<u64>,
    /// A probe asks it.
    pub probed: bool,
    /// The service holds it.
    pub own: bool,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PressureSeen {
    /// `cpu` `memory` `io`
    pub what: String,
    /// `host`, or the service's `cgroup`.
    pub of: String,
    /// Over the last ten seconds, in percent: some of the tasks waited for it; all did.
    pub some: f32,
    pub full: f32,
}

impl Dossier {
    /// The service that a dossier's name names, which may have `-` in its own.
    pub fn service_of(id: &str) -> Option<&str> {
        let (rest, run) = id.rsplit_once("-r")?;
        let (service, time) = rest.rsplit_once('-')?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (day, clock) = time.split_once('T')?;
        let sound = day.len() == 8 && clock.len() == 6 && digits(day) && digits(clock);
        (sound && digits(run) && !service.is_empty()).then_some(service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_found_at_the_beginning_whatever_the_words_are() {
        let dossier = Dossier {
            id: "web-20261129T101359-r3".into(),
            summary: format!("tricky {BEHIND_HEAD} \" words"),
            ..Dossier::default()
        };
        let json = serde_json::to_string(&dossier).unwrap();
        let (head, _) = json.split_once(BEHIND_HEAD).unwrap();
        let head: Head = serde_json::from_str(&format!("{head}}}")).unwrap();
        assert_eq!((&head.id, &head.summary), (&dossier.id, &dossier.summary));
    }

    #[test]
    fn a_name_names_its_service() {
        let of = Dossier::service_of;
        assert_eq!(of("web-20261129T101359-r3"), Some("web"));
        assert_eq!(of("a-b@1.x-r2-20261129T101359-r31"), Some("a-b@1.x-r2"));
        for no in [
            "web",
            "web-r3",
            "-20261129T101359-r3",
            "web-2026T1-r3",
            "../x-20261129T101359-r",
        ] {
            assert_eq!(of(no), None, "{no}");
        }
    }
}
