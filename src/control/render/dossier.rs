//! `dossier list`, and `dossier show`: what a service was stuck on, the most telling first.

use super::{Colour, Grid, Style, clean, duration, pages, story::heading};
use crate::control::dossier::{Dossier, Dossiers, ProcessSeen, SocketSeen, ThreadSeen};

/// `dossier list`
pub fn dossiers(all: &Dossiers, style: &Style, out: &mut String) {
    if all.dossiers.is_empty() {
        out.push_str("no dossiers: nothing was stopped for its health\n");
        return;
    }
    let head = |text: &str| (text.to_owned(), Colour::Faint);
    let mut grid = Grid {
        rows: vec![vec![head("DOSSIER"), head("AGO"), head("STUCK ON")]],
        right: &[1],
    };
    grid.rows.extend(all.dossiers.iter().map(|head| {
        vec![
            (clean(&head.id), Colour::Strong),
            (
                style.age_ms(&head.time).map(duration).unwrap_or_default(),
                Colour::Faint,
            ),
            (clean(&head.summary), Colour::Plain),
        ]
    }));
    grid.draw("", style, out);
}

/// `dossier show ID`
pub fn dossier(dossier: &Dossier, style: &Style, out: &mut String) {
    let title = format!("{}, run #{}", clean(&dossier.service), dossier.run);
    out.push_str(&style.paint(Colour::Strong, &title));
    out.push_str(&format!(
        " {} {}\n",
        clean(&dossier.time),
        style.paint(Colour::Faint, &style.ago(&dossier.time))
    ));
    let mut fact = |name: &str, text: &str| out.push_str(&format!("  {name:<10}{}\n", clean(text)));
    fact("stopped", &format!("{}: {}", dossier.cause, dossier.reason));
    fact("stuck on", &dossier.summary);
    if let Some(ms) = dossier.uptime_ms {
        fact("had run", &duration(ms));
    }
    match &dossier.cut {
        Some(why) => fact(
            "looked",
            &format!(
                "{}, then {why}: what follows is not all",
                duration(dossier.took_ms)
            ),
        ),
        None => fact("looked", &duration(dossier.took_ms)),
    }
    for words in &dossier.evidence.unseen {
        fact("not seen", words);
    }
    if !dossier.probes.is_empty() {
        heading("probes", style, out);
        pages::probes(&dossier.probes, style, out);
    }
    let evidence = &dossier.evidence;
    for process in &evidence.processes {
        one(process, style, out);
    }
    more(evidence.more_processes, "process", out);
    if !evidence.sockets.is_empty() {
        heading("sockets", style, out);
        let mut grid = Grid {
            rows: evidence.sockets.iter().map(socket).collect(),
            right: &[],
        };
        grid.rows.retain(|row| !row.is_empty());
        grid.draw("  ", style, out);
        more(evidence.more_sockets, "socket", out);
    }
    if !evidence.pressure.is_empty() {
        heading("pressure (some, full of the last 10 s)", style, out);
        let parts: Vec<String> = evidence
            .pressure
            .iter()
            .map(|p| {
                format!(
                    "{} {} {:.1}% {:.1}%",
                    clean(&p.of),
                    clean(&p.what),
                    p.some,
                    p.full
                )
            })
            .collect();
        out.push_str(&format!("  {}\n", parts.join(", ")));
    }
    if let Some(what) = &dossier.diagnose {
        heading(&format!("told after {}", clean(what)), style, out);
        lines(&dossier.told, "nothing", out);
    }
    heading("log", style, out);
    lines(&dossier.log, "nothing", out);
}

fn lines(lines: &[String], none: &str, out: &mut String) {
    if lines.is_empty() {
        out.push_str(&format!("  {none}\n"));
    }
    for line in lines {
        out.push_str(&format!("  {}\n", clean(line)));
    }
}

fn more(count: u64, what: &str, out: &mut String) {
    match count {
        0 => {}
        1 => out.push_str(&format!("  and 1 more {what}\n")),
        n => out.push_str(&format!("  and {n} more {what}s\n").replace("processs", "processes")),
    }
}

/// State letters of proc_pid_stat(5).
fn state(letter: &str) -> &'static str {
    match letter {
        "R" => "runs",
        "S" => "waits",
        "D" => "in D state",
        "T" => "stopped",
        "t" => "traced",
        "Z" => "zombie",
        "I" => "idle",
        _ => "gone",
    }
}

fn one(process: &ProcessSeen, style: &Style, out: &mut String) {
    heading(
        &format!("process {} {}", process.pid, clean(&process.name)),
        style,
        out,
    );
    let mut facts = vec![state(&process.state).to_owned()];
    if let Some(percent) = process.cpu_percent {
        facts.push(format!(
            "CPU {percent}% over {}",
            duration(process.cpu_over_ms)
        ));
    }
    if let Some(kb) = process.rss_kb {
        let swap = process.swap_kb.filter(|kb| *kb > 0);
        let swap = swap.map_or(String::new(), |kb| format!(", {} swapped", size(kb)));
        facts.push(format!("memory {}{swap}", size(kb)));
    }
    out.push_str(&format!("  {}\n", facts.join("; ")));
    if let Some(seen) = &process.descriptors {
        let limit = seen
            .limit
            .map_or(String::new(), |limit| format!(" of {limit}"));
        let kinds = [
            (seen.sockets, "sockets"),
            (seen.pipes, "pipes"),
            (seen.files, "files"),
            (seen.devices, "devices"),
            (seen.others, "others"),
        ];
        let counted: u64 = kinds.iter().map(|(count, _)| count).sum();
        let looked_at = match counted < seen.open {
            true => format!("; of {counted} of them that were looked at"),
            false => String::new(),
        };
        let kinds = kinds.iter().filter(|(count, _)| *count > 0);
        let kinds: Vec<String> = kinds
            .map(|(count, kind)| match count {
                1 => format!("1 {}", kind.trim_end_matches('s')),
                _ => format!("{count} {kind}"),
            })
            .collect();
        out.push_str(&format!(
            "  {} descriptors{limit}{looked_at}: {}\n",
            seen.open,
            kinds.join(", ")
        ));
    }
    if !process.limits.is_empty() {
        out.push_str(&format!(
            "  limits: {}\n",
            clean(&process.limits.join(", "))
        ));
    }
    let mut grid = Grid {
        rows: process.threads.iter().map(thread).collect(),
        right: &[0],
    };
    grid.rows.retain(|row| !row.is_empty());
    grid.draw("  ", style, out);
    more(process.more_threads, "thread", out);
}

fn thread(thread: &ThreadSeen) -> Vec<(String, Colour)> {
    let mut place = thread.syscall.as_deref().map_or(String::new(), clean);
    if let Some(wchan) = &thread.wchan {
        place.push_str(&format!(" ({})", clean(wchan)));
    }
    let stack = thread.stack.join(" < ");
    let busy = thread.cpu_percent.filter(|percent| *percent > 0);
    let letter = &*thread.state;
    vec![
        (thread.tid.to_string(), Colour::Faint),
        (clean(&thread.name), Colour::Plain),
        (
            state(letter).to_owned(),
            if matches!(letter, "D" | "T" | "Z") {
                Colour::Bad
            } else {
                Colour::Plain
            },
        ),
        (
            busy.map_or(String::new(), |percent| format!("{percent}%")),
            Colour::Plain,
        ),
        (place.trim().to_owned(), Colour::Plain),
        (clean(&stack), Colour::Faint),
    ]
}

fn socket(socket: &SocketSeen) -> Vec<(String, Colour)> {
    let listens = socket.state == "listen";
    let queues = match (listens, socket.receive_queue, socket.send_queue) {
        (true, Some(waiting), backlog) => {
            let of = backlog.map_or(String::new(), |backlog| format!(" of {backlog}"));
            let then = socket.receive_queue_then.filter(|then| *then != waiting);
            let then = then.map_or(String::new(), |then| format!(", then {then}"));
            format!("accept queue {waiting}{of}{then}")
        }
        (false, Some(receive), Some(send)) if receive + send > 0 => {
            format!("{receive} bytes to read, {send} to send")
        }
        (_, _, _) => String::new(),
    };
    let whose = match (socket.probed, socket.own) {
        (true, true) => "probed",
        (true, false) => "probed; another process's",
        (false, _) => "",
    };
    let peer = match socket.peer.is_empty() {
        true => clean(&socket.local),
        false => format!("{} - {}", clean(&socket.local), clean(&socket.peer)),
    };
    vec![
        (clean(&socket.kind), Colour::Faint),
        (clean(&socket.state), Colour::Plain),
        (peer, Colour::Plain),
        (queues, Colour::Plain),
        (whose.to_owned(), Colour::Warn),
    ]
}

fn size(kb: u64) -> String {
    match kb {
        0..10_240 => format!("{kb} KiB"),
        10_240..10_485_760 => format!("{} MiB", kb / 1024),
        _ => format!("{} GiB", kb / 1024 / 1024),
    }
}
