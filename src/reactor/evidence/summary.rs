//! One line of it all: what a reader should look at first. Pure.
//!
//! It says what is seen, not what to do; where nothing stands out it says where the main thread is.

use super::Probed;
use crate::control::dossier::{Evidence, PressureSeen, ProcessSeen, SocketSeen, ThreadSeen};
use crate::limits;

/// From so much on a processor is spent.
const BUSY: u32 = 80;

pub fn of(evidence: &Evidence, probed: &[Probed]) -> String {
    let mut parts: Vec<String> = Vec::new();
    if let Some(main) = evidence.processes.first() {
        parts.extend(descriptors(evidence));
        parts.push(doing(main, &evidence.processes));
    } else {
        parts.push("its main process was gone".to_owned());
    }
    // Of tables that were not looked at yet it cannot be said that nobody is in them.
    if !evidence.sockets_unseen {
        parts.extend(probed.iter().filter_map(|at| queue(at, &evidence.sockets)));
    }
    parts.extend(evidence.pressure.iter().filter_map(pressure));
    // Names of threads and files are the service's to choose, and this line goes to logs and alerts.
    let mut line = crate::control::render::clean(&parts.join("; "));
    if let Some((end, _)) = line.char_indices().nth(limits::DOSSIER_SUMMARY) {
        line.truncate(end);
        line.push('…');
    }
    line
}

fn descriptors(evidence: &Evidence) -> Option<String> {
    let spent = |process: &&ProcessSeen| {
        let seen = process.descriptors.as_ref();
        // The last few may be there and yet not be enough.
        seen.is_some_and(|seen| seen.limit.is_some_and(|limit| seen.open + 2 >= limit))
    };
    let process = evidence.processes.iter().find(spent)?;
    let seen = process.descriptors.as_ref()?;
    let limit = seen.limit.unwrap_or(seen.open);
    let kinds = [
        (seen.sockets, "sockets"),
        (seen.files, "files"),
        (seen.pipes, "pipes"),
        (seen.devices, "devices"),
        (seen.others, "others"),
    ];
    let most = kinds.iter().max_by_key(|(count, _)| *count)?;
    Some(format!(
        "out of descriptors, {} of {limit}, {} of them {}",
        seen.open, most.0, most.1
    ))
}

fn doing(main: &ProcessSeen, all: &[ProcessSeen]) -> String {
    let threads = all.iter().flat_map(|process| &process.threads);
    let state = |letter: &'static str| move |t: &ThreadSeen| t.state == letter;
    let count = threads.clone().count();
    let Some(first) = main.threads.first() else {
        return "its threads could not be seen".to_owned();
    };
    if count > 1 && threads.clone().all(state("D")) {
        return format!("all {count} threads in D state{}", wait(first));
    }
    let busiest = all.iter().max_by_key(|p| p.cpu_percent.unwrap_or(0));
    let used = busiest.and_then(|process| process.cpu_percent).unwrap_or(0);
    // Where others take the processors it can only wish for one.
    let wish = |t: &ThreadSeen| {
        let ran = t.cpu_percent?;
        Some((ran, (ran + t.starved_percent?).min(100)))
    };
    let hungry = threads
        .clone()
        .filter_map(wish)
        .max_by_key(|(_, wanted)| *wanted);
    let hungry = hungry.filter(|(_, wanted)| *wanted >= BUSY);
    match &*first.state {
        "D" => format!("main thread in D state{}", wait(first)),
        "T" => "stopped by a signal (SIGSTOP)".to_owned(),
        "t" => "stopped by a debugger".to_owned(),
        "Z" | "X" => "its main process is a zombie".to_owned(),
        _ if used >= BUSY => {
            let what = match used {
                0..150 => "uses a whole CPU".to_owned(),
                _ => format!("uses {} CPUs", (used + 50) / 100),
            };
            let thread = busiest.and_then(|p| p.threads.iter().max_by_key(|t| t.cpu_percent));
            let whose = match (busiest, thread) {
                (Some(process), _) if process.pid != main.pid => {
                    format!(", process {} {}", process.pid, process.name)
                }
                (_, Some(thread)) if thread.tid != main.pid => {
                    format!(", thread {} {}", thread.tid, thread.name)
                }
                _ => String::new(),
            };
            format!("{what} ({used}%{whose})")
        }
        _ if hungry.is_some() => {
            let (ran, wanted) = hungry.unwrap_or_default();
            format!("wants a whole CPU ({wanted}%) and gets {ran}%")
        }
        "R" => "main thread runs".to_owned(),
        _ => {
            let stuck = threads.filter(|t| t.state == "D").count();
            let others = match stuck {
                0 => String::new(),
                n => format!("; {n} of {count} threads in D state"),
            };
            format!("main thread waits{}{others}", wait(first))
        }
    }
}

/// ` in futex`
fn wait(thread: &ThreadSeen) -> String {
    let call = thread.syscall.as_deref().filter(|call| *call != "running");
    match (call, &thread.wchan) {
        (Some(call), Some(wchan)) if thread.state == "D" => format!(" in {call} ({wchan})"),
        (Some(call), _) => format!(" in {call}"),
        (None, Some(wchan)) => format!(" in {wchan}"),
        (None, None) => String::new(),
    }
}

/// How those stand who knock where a probe does.
fn queue(at: &Probed, sockets: &[SocketSeen]) -> Option<String> {
    let shown = at.shown();
    let here = |socket: &&SocketSeen| {
        socket.probed
            && match at {
                Probed::Port { port, .. } => socket.local.ends_with(&format!(":{port}")),
                Probed::Path(path) => socket.local == *path,
            }
    };
    let mut listeners = sockets.iter().filter(here);
    // Its own, where others listen on that port as well.
    let own = listeners.clone().find(|socket| socket.own);
    let Some(socket) = own.or_else(|| listeners.next()) else {
        let remote = matches!(at, Probed::Port { shown, .. } if !is_local(shown));
        return (!remote).then(|| format!("nothing listens on {shown}"));
    };
    let (Some(waiting), backlog) = (socket.receive_queue, socket.send_queue) else {
        return None;
    };
    let whose = match socket.own {
        true => "",
        false => ", which is another process's",
    };
    let of = backlog.map_or(String::new(), |backlog| format!(" of {backlog}"));
    let verdict = match (socket.receive_queue_then, waiting) {
        (_, 0) => return Some(format!("accept queue of {shown}{whose} empty: it accepts")),
        (Some(then), _) if then < waiting => "slow",
        (Some(_), _) => "stuck",
        (None, _) if backlog.is_some_and(|backlog| waiting >= backlog) => "stuck",
        (None, _) => "waiting",
    };
    Some(format!(
        "accept queue of {shown}{whose} {waiting}{of}: {verdict}"
    ))
}

fn is_local(shown: &str) -> bool {
    let host = shown.rsplit_once(':').map_or(shown, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|at| at.is_loopback() || at.is_unspecified())
}

fn pressure(seen: &PressureSeen) -> Option<String> {
    let (much, words) = match &*seen.what {
        "memory" => (seen.full >= 10.0, "short of memory"),
        "io" => (seen.full >= 50.0, "waits for its disks"),
        _ => (seen.some >= 90.0, "short of CPU"),
    };
    let share = match &*seen.what {
        "cpu" => seen.some,
        _ => seen.full,
    };
    much.then(|| format!("{} {words} ({share:.0}% of the last 10 s)", seen.of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::dossier::DescriptorsSeen;

    fn at() -> Vec<Probed> {
        vec![Probed::Port {
            shown: "127.0.0.1:8080".to_owned(),
            port: 8080,
        }]
    }

    fn thread(state: &str, syscall: &str) -> ThreadSeen {
        ThreadSeen {
            tid: 7,
            state: state.to_owned(),
            syscall: (!syscall.is_empty()).then(|| syscall.to_owned()),
            wchan: (state == "D").then(|| "nfs_wait".to_owned()),
            ..ThreadSeen::default()
        }
    }

    fn process(threads: Vec<ThreadSeen>) -> ProcessSeen {
        ProcessSeen {
            pid: 7,
            threads,
            ..ProcessSeen::default()
        }
    }

    fn listener(waiting: u64, then: u64) -> SocketSeen {
        SocketSeen {
            state: "listen".to_owned(),
            local: "127.0.0.1:8080".to_owned(),
            receive_queue: Some(waiting),
            receive_queue_then: Some(then),
            send_queue: Some(128),
            probed: true,
            own: true,
            ..SocketSeen::default()
        }
    }

    fn line(process: ProcessSeen, socket: Option<SocketSeen>) -> String {
        let evidence = Evidence {
            processes: vec![process],
            sockets: socket.into_iter().collect(),
            ..Evidence::default()
        };
        of(&evidence, &at())
    }

    /// A process with ten thousand descriptors can use up the time.
    #[test]
    fn that_nothing_listens_is_said_of_tables_that_were_looked_at() {
        let evidence = Evidence {
            processes: vec![process(vec![thread("S", "futex")])],
            sockets_unseen: true,
            ..Evidence::default()
        };
        assert_eq!(of(&evidence, &at()), "main thread waits in futex");
    }

    #[test]
    fn a_name_that_a_service_chose_does_not_make_a_second_line() {
        let evil = thread(
            "S",
            "read of 4 (/tmp/a\x1b[31m\nvitald: web: healthy\u{202e})",
        );
        assert_eq!(
            of(
                &Evidence {
                    processes: vec![process(vec![evil])],
                    ..Evidence::default()
                },
                &[]
            ),
            "main thread waits in read of 4 (/tmp/a\\u{1b}[31m vitald: web: healthy\\u{202e})"
        );
    }

    #[test]
    fn a_stuck_server_is_told_from_a_slow_one() {
        let waits = || process(vec![thread("S", "futex")]);
        assert_eq!(
            line(waits(), Some(listener(129, 129))),
            "main thread waits in futex; accept queue of 127.0.0.1:8080 129 of 128: stuck"
        );
        let slow = line(waits(), Some(listener(90, 70)));
        assert!(slow.ends_with("90 of 128: slow"), "{slow}");
        let empty = line(waits(), Some(listener(0, 0)));
        assert!(
            empty.ends_with("127.0.0.1:8080 empty: it accepts"),
            "{empty}"
        );
        let nobody = line(waits(), None);
        assert!(
            nobody.ends_with("nothing listens on 127.0.0.1:8080"),
            "{nobody}"
        );
    }

    #[test]
    fn what_stands_out_comes_first() {
        let busy = ProcessSeen {
            cpu_percent: Some(99),
            ..process(vec![thread("R", "running")])
        };
        let told = line(busy, Some(listener(0, 0)));
        assert!(told.starts_with("uses a whole CPU (99%);"), "{told}");
        let hungry = process(vec![ThreadSeen {
            cpu_percent: Some(29),
            starved_percent: Some(68),
            ..thread("R", "running")
        }]);
        let told = line(hungry, Some(listener(0, 0)));
        assert!(
            told.starts_with("wants a whole CPU (97%) and gets 29%;"),
            "{told}"
        );
        let spent = ProcessSeen {
            descriptors: Some(DescriptorsSeen {
                open: 1024,
                limit: Some(1024),
                sockets: 1000,
                ..DescriptorsSeen::default()
            }),
            ..process(vec![thread("S", "epoll")])
        };
        let told = line(spent, None);
        assert!(
            told.starts_with("out of descriptors, 1024 of 1024, 1000 of them sockets; main"),
            "{told}"
        );
        let disk = line(
            process(vec![thread("D", "read of 3"), thread("D", "")]),
            None,
        );
        assert!(
            disk.starts_with("all 2 threads in D state in read of 3 (nfs_wait);"),
            "{disk}"
        );
        let stopped = line(process(vec![thread("T", "")]), None);
        assert!(
            stopped.starts_with("stopped by a signal (SIGSTOP)"),
            "{stopped}"
        );
        assert!(of(&Evidence::default(), &[]).starts_with("its main process was gone"));
    }

    #[test]
    fn a_summary_is_a_line_of_bounded_length() {
        let long = thread("S", &"x".repeat(2000));
        let told = line(process(vec![long]), None);
        assert_eq!(told.chars().count(), limits::DOSSIER_SUMMARY + 1);
    }
}
