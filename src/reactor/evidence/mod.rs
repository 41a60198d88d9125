//! What a service is stuck on: what `/proc` and the kernel's socket tables tell of its processes.
//!
//! Runs in a helper: any of it may block in the kernel (a hung process's mmap lock). What it has so
//! far it tells line by line, each a whole [`Evidence`]; of a helper that is killed the last one
//! counts. Bounded by limits. Never read: environments and command lines.
//!
//! `look` reads `/proc`, `sockets` the tables, `summary` makes a line of it all.

mod look;
mod sockets;
pub mod summary;

use crate::config::{Address, Ask, Definition};
use crate::control::dossier::{Evidence, PressureSeen};
use crate::id::Pid;
use crate::limits;
use crate::reactor::cgroup::Leaf;
use crate::reactor::procfs;
use look::Sample;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Between the two looks at what moves: never longer than this.
const BETWEEN: Duration = Duration::from_millis(100);

/// What is to be looked at.
pub struct Subject {
    pub main: Pid,
    pub leaf: Option<Leaf>,
    /// Whom probes ask.
    pub probed: Vec<Probed>,
    pub timeout: Duration,
}

/// Where a probe connects to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probed {
    Port { shown: String, port: u16 },
    Path(String),
}

impl Probed {
    pub fn all(definition: &Definition) -> Vec<Probed> {
        let mut all = Vec::new();
        for probe in &definition.probes {
            let probed = match &probe.ask {
                Ask::Http(http) | Ask::Https(http) => Probed::at(&http.address),
                Ask::Tcp { address, .. } => Probed::at(address),
                Ask::Server(server) => Probed::at(&server.address),
                Ask::Unix { path, .. } => Probed::Path(path.to_string()),
                // It asks nobody at a socket that could be looked at.
                Ask::Exec { .. } | Ask::Look(_) => continue,
            };
            if !all.contains(&probed) {
                all.push(probed);
            }
        }
        all
    }

    fn at(address: &Address) -> Probed {
        match address {
            Address::Tcp { host, port } => Probed::port(host, *port),
            Address::Unix { path, .. } => Probed::Path(path.to_string()),
        }
    }

    fn port(host: &str, port: u16) -> Probed {
        let shown = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        Probed::Port { shown, port }
    }

    pub fn shown(&self) -> &str {
        match self {
            Probed::Port { shown, .. } => shown,
            Probed::Path(path) => path,
        }
    }
}

/// Looks, and tells.
pub fn tell(subject: &Subject, out: &mut dyn Write) -> io::Result<()> {
    let begun = Instant::now();
    let mut evidence = Evidence {
        sockets_unseen: true,
        ..Evidence::default()
    };
    let mut say = |evidence: &mut Evidence| -> io::Result<()> {
        evidence.summary = summary::of(evidence, &subject.probed);
        let mut line = serde_json::to_vec(evidence)?;
        line.push(b'\n');
        out.write_all(&line)
    };
    let pids = look::tree(subject, &mut evidence);
    let first = look::sample(&pids);
    // The main process alone is most of what there is to know.
    let looked: Vec<Pid> = pids.iter().take(1).copied().collect();
    look::processes(&looked, &mut evidence);
    say(&mut evidence)?;
    look::descriptors(&pids[..looked.len()], &mut evidence);
    say(&mut evidence)?;
    let (own, whole) = look::sockets_of(&pids);
    let found = sockets::all(subject, own);
    found.put(&mut evidence);
    evidence.sockets_unseen = false;
    if !whole {
        not_anothers(&mut evidence);
    }
    look::name_descriptors(&mut evidence, &found);
    say(&mut evidence)?;
    look::processes(&pids[looked.len()..], &mut evidence);
    look::descriptors(&pids[looked.len()..], &mut evidence);
    look::name_descriptors(&mut evidence, &found);
    pressure(subject, &mut evidence);
    say(&mut evidence)?;
    let pause = BETWEEN.min(subject.timeout / 2);
    std::thread::sleep(pause.saturating_sub(begun.elapsed()));
    second(&first, &pids, &mut evidence);
    sockets::again(subject, &mut evidence);
    evidence.whole = true;
    say(&mut evidence)
}

/// Of more descriptors than are looked at: whose a socket is that is not known is not said to be
/// another's.
fn not_anothers(evidence: &mut Evidence) {
    for socket in &mut evidence.sockets {
        socket.own = true;
    }
}

/// What its processor time has grown by.
fn second(first: &Sample, pids: &[Pid], evidence: &mut Evidence) {
    let then = look::sample(pids);
    let over = then.at.saturating_duration_since(first.at);
    for process in &mut evidence.processes {
        process.cpu_over_ms = over.as_millis() as u64;
        process.cpu_percent = then.percent(first, process.pid);
        for thread in &mut process.threads {
            if let Some((ran, waited)) = then.of_thread(first, thread.tid) {
                (thread.cpu_percent, thread.starved_percent) = (Some(ran), Some(waited));
            }
        }
    }
}

fn pressure(subject: &Subject, evidence: &mut Evidence) {
    let mut put = |what: &str, of: &str, path: &str| {
        if let Ok(read) = procfs::pressure(path) {
            evidence.pressure.push(PressureSeen {
                what: what.to_owned(),
                of: of.to_owned(),
                some: read.some.avg10 as f32 / 100.0,
                full: read.full.avg10 as f32 / 100.0,
            });
        }
    };
    for what in ["cpu", "memory", "io"] {
        put(what, "host", &format!("/proc/pressure/{what}"));
    }
    if let Some(leaf) = &subject.leaf {
        for what in ["cpu", "memory", "io"] {
            let path = leaf.0.join(format!("{what}.pressure"));
            put(what, "cgroup", &path.to_string_lossy());
        }
    }
}

/// The last whole line that a helper told.
pub fn told(output: &[u8]) -> Option<Evidence> {
    let end = output.iter().rposition(|byte| *byte == b'\n')?;
    let mut lines = output.get(..end)?.rsplit(|byte| *byte == b'\n');
    serde_json::from_slice(lines.next()?).ok()
}

/// The most that it tells.
pub const LIMIT: usize = 4 * limits::EVIDENCE_BYTES;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::dossier::{ProcessSeen, SocketSeen, ThreadSeen};

    #[test]
    fn of_too_many_descriptors_it_is_not_said_whose_they_are() {
        let listener = SocketSeen {
            state: "listen".to_owned(),
            local: "127.0.0.1:8080".to_owned(),
            receive_queue: Some(0),
            probed: true,
            ..SocketSeen::default()
        };
        let mut evidence = Evidence {
            processes: vec![ProcessSeen {
                threads: vec![ThreadSeen::default()],
                ..ProcessSeen::default()
            }],
            sockets: vec![listener],
            ..Evidence::default()
        };
        let probed = [Probed::port("127.0.0.1", 8080)];
        assert!(summary::of(&evidence, &probed).contains("another process's"));
        not_anothers(&mut evidence);
        assert!(!summary::of(&evidence, &probed).contains("another process's"));
    }
}
