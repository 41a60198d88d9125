//! One thing in detail: a service, the daemon, what a verb did.

use super::super::reply::Done;
use super::{Colour, Grid, Style, clean, duration, glyph, latency, state_words};
use crate::engine::status::{DaemonStatus, LastEnd, ProbeStatus, SocketStatus, Status};
use crate::limits::PROBE_OUTPUT_LINES;

/// `◐ web: running (unhealthy), pid 4711, run 3, up 3 m 12 s`
pub(super) fn headline(status: &Status, style: &Style, out: &mut String) {
    let (sign, colour) = glyph(status, style);
    let mut line = style.paint(colour, sign);
    line.push(' ');
    line.push_str(&style.paint(Colour::Strong, &clean(&status.name)));
    line.push_str(": ");
    line.push_str(&style.paint(colour, &state_words(status)));
    if let Some(pid) = status.pid {
        line.push_str(&format!(", pid {pid}"));
    }
    if status.run > 0 {
        line.push_str(&format!(", run {}", status.run));
    }
    if let Some(ms) = status.uptime_ms {
        line.push_str(&format!(", up {}", duration(ms)));
    }
    out.push_str(&line);
    out.push('\n');
}

/// `status NAME`
pub fn page(status: &Status, style: &Style, out: &mut String) {
    headline(status, style, out);
    facts(status, Facts::All, style).draw("  ", style, out);
    if !status.probes.is_empty() {
        out.push_str(&format!("  {}\n", style.paint(Colour::Faint, "probes")));
        probes(&status.probes, style, out);
    }
}

/// Which facts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Facts {
    All,
    /// Those that a story begins with; what comes next ends it.
    Story,
}

/// What is known beside state and probes, one fact a line.
pub(super) fn facts(status: &Status, which: Facts, style: &Style) -> Grid {
    let mut grid = Grid::default();
    let mut put = |label: &str, text: String| {
        if !text.is_empty() {
            let label = (label.to_owned(), Colour::Faint);
            grid.rows.push(vec![label, (text, Colour::Plain)]);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(clean).unwrap_or_default();
    put("about", text(&status.description));
    for problem in status.problem.as_deref().unwrap_or_default().lines() {
        put("problem", clean(problem));
    }
    put("wanted", wanted(status, style));
    put("because", because(status));
    put("definition", text(&status.definition));
    // A broken definition has said it all.
    if status.problem.is_none() {
        put("detail", text(&status.detail));
        put("says", says(status));
        put("attempts", attempts_words(status));
    }
    if which == Facts::All {
        if status.pid.is_some() {
            put("health", text(&status.health));
        }
        put("observed", observed(status));
        put("watchdog", watchdog(status));
        for socket in &status.sockets {
            put("socket", self::socket(socket, status));
        }
        if status.stored_fds > 0 {
            put(
                "kept",
                format!("{} descriptors for its next run", status.stored_fds),
            );
        }
        put("output", output(status));
        if let Some(gate) = &status.gate {
            let next = gate.next_in_ms.map_or(String::new(), |ms| {
                format!("; asked again in {}", duration(ms))
            });
            put(
                "restart",
                format!("{}: {}{next}", clean(&gate.verdict), clean(&gate.reason)),
            );
        }
        // The gate's own line says when it is asked.
        if status.gate.is_none() {
            put("next", next(status));
        }
    }
    let never_ran = |end: &LastEnd| {
        let unknown = end.code.is_none() && end.signal.is_none();
        unknown && status.state == "failed" && status.detail.is_some()
    };
    if let Some(end) = status.last_end.as_ref().filter(|end| !never_ran(end)) {
        put("last end", last_end(end, style));
    }
    // A story has it in its evidence.
    if let Some(dossier) = status.dossier.as_ref().filter(|_| which == Facts::All) {
        let (ago, summary) = (style.ago(&dossier.at), clean(&dossier.summary));
        put(
            "stuck on",
            format!("{ago}, run #{}: {summary}", dossier.run),
        );
        put("dossier", clean(&dossier.id));
    }
    if which == Facts::All {
        put("kind", clean(&status.kind));
        put("uses", uses(status));
        if status.kind != "target" {
            put("tree", tree(status));
        }
        put("source", clean(&status.source));
    }
    grid
}

/// `12.0 MB of memory, 3 processes, 1.2 s of processor time`
fn uses(status: &Status) -> String {
    let Some(usage) = &status.usage else {
        return String::new();
    };
    let mut parts = Vec::new();
    if let Some(bytes) = usage.memory_bytes {
        parts.push(format!("{:.1} MB of memory", bytes as f64 / 1_048_576.0));
    }
    parts.push(match usage.processes {
        1 => "1 process".to_owned(),
        number => format!("{number} processes"),
    });
    if let Some(ms) = usage.cpu_ms {
        parts.push(format!("{} of processor time", duration(ms)));
    }
    parts.join(", ")
}

/// `cgroup /sys/fs/cgroup/vitald/web`
fn tree(status: &Status) -> String {
    match &status.usage {
        Some(usage) if status.tree == "cgroup" => format!("cgroup {}", clean(&usage.cgroup)),
        Some(_) | None => clean(&status.tree),
    }
}

/// `serving 3 clients (reloading)`
fn says(status: &Status) -> String {
    let text = status.status_text.as_deref().map(clean);
    let more = status.says.as_deref().map(clean);
    match (text, more) {
        (Some(text), Some(more)) => format!("{text} ({more})"),
        (text, more) => text.or(more).unwrap_or_default(),
    }
}

/// `tcp:127.0.0.1:8080, open`; `unix:/run/web.sock (api), closed`
fn socket(socket: &SocketStatus, status: &Status) -> String {
    let mut text = clean(&socket.listen);
    if socket.name != status.name {
        text.push_str(&format!(" ({})", clean(&socket.name)));
    }
    text.push_str(match (socket.open, status.pid.is_some()) {
        (true, _) => ", open",
        (false, true) => ", not held: a restart will refuse connections for a moment",
        (false, false) => ", closed",
    });
    text
}

/// `to its logger s6-log t /var/log/web, pid 4711; 12 lines dropped by log_rate_limit`
fn output(status: &Status) -> String {
    let Some(log) = &status.log else {
        return String::new();
    };
    let pid = log
        .logger_pid
        .map_or(String::new(), |pid| format!(", pid {pid}"));
    let logger = log.logger.as_deref().map(clean);
    let logger = logger.map(|words| format!("to its logger {words}{pid}"));
    let dropped = (log.dropped_lines > 0)
        .then(|| format!("{} lines dropped by log_rate_limit", log.dropped_lines));
    let parts: Vec<String> = logger.into_iter().chain(dropped).collect();
    parts.join("; ")
}

/// `every 5 s, due in 3 s`
fn watchdog(status: &Status) -> String {
    let Some(watchdog) = &status.watchdog else {
        return String::new();
    };
    let every = duration(watchdog.period_ms);
    match (&watchdog.reason, watchdog.due_in_ms) {
        (Some(reason), _) => format!("missed: {}", clean(reason)),
        (None, Some(due)) => format!("every {every}, due in {}", duration(due)),
        (None, None) => format!("every {every}, from ready on"),
    }
}

/// Why it is in the state that it is in: the cause, in words that fit the state.
fn because(status: &Status) -> String {
    if status.listening {
        return "somebody who connects starts it".to_owned();
    }
    if super::rests_until_due(status) {
        return "its schedule starts it".to_owned();
    }
    let begun = matches!(status.state.as_str(), "starting" | "running" | "blocked");
    let words = match (status.cause.as_str(), begun) {
        ("boot", true) => "started with the daemon",
        ("boot", false) => "not started by the daemon",
        ("operator", true) => "started by an operator",
        ("operator", false) => "stopped by an operator",
        ("exit", true) => "started again after it had ended by itself",
        ("exit", false) if status.run == 0 => "it was not started",
        ("exit", false) if status.last_end.is_none() => "it could not be started",
        ("exit", false) => "it ended by itself",
        ("unhealthy", true) => "started again after it was unhealthy",
        ("unhealthy", false) => "it was unhealthy",
        ("start_timeout", true) => "started again after it was not ready in time",
        ("start_timeout", false) => "it was not ready in time",
        ("watchdog", true) => "started again after it missed its watchdog",
        ("watchdog", false) => "it missed its watchdog",
        ("dependency", true) => "started for another service",
        ("dependency", false) => "another service that it needs",
        ("config", true) => "started after its definition changed",
        ("config", false) if cannot_listen(status) => "its socket cannot be opened",
        ("config", false) if status.problem.is_some() => "its definition cannot be used",
        ("config", false) => "its definition changed",
        ("connection", true) => "started by a connection",
        ("connection", false) => "a connection had started it",
        ("timer", true) => "started by its schedule",
        ("timer", false) => "its schedule had started it",
        ("memory", true) => "started again after it was out of memory",
        ("memory", false) => "it was out of memory",
        (other, _) => return clean(other),
    };
    words.to_owned()
}

fn cannot_listen(status: &Status) -> bool {
    let detail = status.detail.as_deref().unwrap_or_default();
    status.state == "failed" && detail.starts_with("listen on ")
}

/// `1 of 3 used`
fn attempts_words(status: &Status) -> String {
    match status.max_attempts {
        // Nothing of its own is ever restarted.
        _ if status.kind == "target" => String::new(),
        Some(0) => "no automatic restarts".to_owned(),
        Some(most) => format!("{} of {most} used", status.attempts),
        None => format!("{} used, of any number", status.attempts),
    }
}

fn wanted(status: &Status, style: &Style) -> String {
    let mut text = match status.wanted.as_str() {
        "start" => "started".to_owned(),
        "stop" => "stopped".to_owned(),
        "once" => "started once".to_owned(),
        other => clean(other),
    };
    if status.pinned {
        text.push_str(", pinned");
    }
    if let Some(by) = &status.wanted_by {
        text.push_str(&format!(", by {}", clean(by)));
    }
    if let Some(at) = &status.wanted_at {
        text.push_str(&format!(" {}", style.ago(at)));
    }
    if let Some(at_boot) = &status.at_boot {
        let word = match at_boot.as_str() {
            "start" => "started",
            _ => "stopped",
        };
        text.push_str(&format!("; from the next boot on {word}"));
    }
    text
}

fn next(status: &Status) -> String {
    match (&status.next, status.next_in_ms) {
        (Some(next), Some(ms)) => format!("{} in {}", clean(next), duration(ms)),
        (Some(next), None) => clean(next),
        (None, _) => String::new(),
    }
}

fn last_end(end: &LastEnd, style: &Style) -> String {
    let why = match end.cause.as_str() {
        "exit" => "by itself".to_owned(),
        "operator" => "stopped by an operator".to_owned(),
        "unhealthy" => "stopped, it was unhealthy".to_owned(),
        "start_timeout" => "stopped, it was not ready in time".to_owned(),
        "config" => "stopped, its definition changed".to_owned(),
        "memory" => "killed by the kernel, out of memory".to_owned(),
        other => format!("stopped, {}", clean(other)),
    };
    let (how, ago) = (end_words(end), style.ago(&end.at));
    format!("{ago}: {how}, {why}")
}

/// `exit code 3`, `signal SIGKILL`
pub(super) fn end_words(end: &LastEnd) -> String {
    match (&end.signal, end.code) {
        (Some(signal), _) => format!("signal {}", clean(signal)),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "end unknown".to_owned(),
    }
}

/// Every probe in a line, and what came back where it did not pass.
pub(super) fn probes(probes: &[ProbeStatus], style: &Style, out: &mut String) {
    let mut grid = Grid {
        rows: Vec::new(),
        right: &[3],
    };
    for probe in probes {
        let (word, colour) = match probe.up {
            None => ("no verdict", Colour::Faint),
            Some(true) => ("up", Colour::Good),
            Some(false) => ("down", Colour::Bad),
        };
        grid.rows.push(vec![
            (clean(&probe.name), Colour::Strong),
            (clean(&probe.kind), Colour::Plain),
            (word.to_owned(), colour),
            (
                probe.latency_us.map(latency).unwrap_or_default(),
                Colour::Plain,
            ),
            (outcome(probe), Colour::Plain),
        ]);
    }
    grid.draw("    ", style, out);
    for probe in probes
        .iter()
        .filter(|probe| probe.outcome.as_deref() != Some("pass"))
    {
        evidence(
            &probe.name,
            probe.output.as_deref().unwrap_or_default(),
            style,
            out,
        );
    }
}

/// What would have been done, were it not observed only.
fn observed(status: &Status) -> String {
    match (status.observe, status.shadow_attempts) {
        (false, _) => String::new(),
        (true, 0) => "no restart for its health is made; none was due so far".to_owned(),
        (true, 1) => "no restart for its health is made; one was due".to_owned(),
        (true, times) => format!("no restart for its health is made; {times} were due"),
    }
}

/// `fail: timeout, 3 in a row; observed: 2 restarts not made`
fn outcome(probe: &ProbeStatus) -> String {
    let mut text = match (&probe.outcome, &probe.reason) {
        (None, _) => "not asked yet".to_owned(),
        (Some(outcome), None) => clean(outcome),
        (Some(outcome), Some(reason)) => format!("{}: {}", clean(outcome), clean(reason)),
    };
    if probe.streak.unsigned_abs() > 1 {
        text.push_str(&format!(", {} in a row", probe.streak.unsigned_abs()));
    }
    if probe.on_unhealthy == "observe" {
        text.push_str("; observing only");
        match probe.shadow_attempts {
            0 => {}
            1 => text.push_str(", would have restarted once"),
            times => text.push_str(&format!(", would have restarted {times} times")),
        }
    }
    text
}

/// What came back from a probe: its first lines.
pub(super) fn evidence(name: &str, output: &str, style: &Style, out: &mut String) {
    let bar = if style.ascii { "|" } else { "│" };
    let mut lines = output.lines().filter(|line| !line.trim().is_empty());
    for line in lines.by_ref().take(PROBE_OUTPUT_LINES) {
        let line = format!("    {} {bar} {}", clean(name), clean(line));
        out.push_str(&super::cut(&line, style.width.unwrap_or(usize::MAX)));
        out.push('\n');
    }
    if lines.next().is_some() {
        out.push_str(&format!("    {} {bar} ...\n", clean(name)));
    }
}

/// A reload that waits to be confirmed, or went back, in a line.
pub(super) fn reload(daemon: &DaemonStatus, style: &Style) -> Option<String> {
    let reload = daemon.reload.as_ref()?;
    let (by, at) = (clean(&reload.by), style.ago(&reload.at));
    Some(match (reload.goes_back_in_ms, &reload.went_back_at) {
        (Some(left), _) => format!(
            "provisional: reloaded by {by} {at}; `confirm` within {}, or what was in force before \
             comes back",
            duration(left)
        ),
        (None, back) => format!(
            "definitions in force differ from files: the reload by {by} went back {}: {}; the next \
             `reload` takes the files",
            back.as_deref().map(|at| style.ago(at)).unwrap_or_default(),
            clean(reload.why.as_deref().unwrap_or_default())
        ),
    })
}

/// What is wrong with the daemon's own settings, in a line.
pub(super) fn settings(daemon: &DaemonStatus) -> Option<String> {
    let problem = daemon.settings_problem.as_deref()?;
    Some(clean(&problem.replace('\n', "; ")))
}

/// The hold in force, in a line.
pub(super) fn hold(daemon: &DaemonStatus, style: &Style) -> Option<String> {
    let hold = daemon.hold.as_ref()?;
    let end = match hold.ends_in_ms {
        Some(ms) => format!("ends in {}", duration(ms)),
        None => "until `release`".to_owned(),
    };
    let (owner, since) = (clean(&hold.owner), style.ago(&hold.since));
    let what = match &hold.why {
        Some(why) => format!("no restarts for health: {}", clean(why)),
        None => "no automatic restarts".to_owned(),
    };
    Some(format!("HOLD by {owner} {since}, {end}: {what}"))
}

/// Who waits for a restart for his health, in a line.
pub(super) fn storm(daemon: &DaemonStatus, style: &Style) -> Option<String> {
    let storm = daemon.storm.as_ref()?;
    let waiting = match (storm.waiting, &storm.next) {
        (0, _) | (_, None) => "nobody waits for a restart".to_owned(),
        (_, Some(next)) if storm.held.is_some() => {
            format!("{} wait, {} first", storm.waiting, clean(next))
        }
        (waiting, Some(next)) => format!("{waiting} wait, {} goes next", clean(next)),
    };
    let (Some(canary), Some(since)) = (&storm.canary, &storm.since) else {
        return Some(format!("restarts for health are limited: {waiting}"));
    };
    Some(format!(
        "STORM of {} services {}, canary {}: {waiting}",
        storm.services,
        style.ago(since),
        clean(canary)
    ))
}

/// What is wrong with the host's watchdog, or why the host is reset; None: nothing.
pub(super) fn watchdog_trouble(daemon: &DaemonStatus) -> Option<String> {
    let watchdog = daemon.watchdog.as_ref()?;
    if let Some(trouble) = &watchdog.trouble {
        return Some(clean(trouble));
    }
    let left = watchdog.reset_in_ms?;
    let why = clean(watchdog.why.as_deref().unwrap_or_default());
    Some(format!(
        "the host is reset in about {} because {why}",
        duration(left)
    ))
}

/// `info`
pub fn daemon(daemon: &DaemonStatus, style: &Style, out: &mut String) {
    let mut put = |label: &str, text: String| {
        out.push_str(&style.paint(Colour::Faint, &format!("{label:<10}")));
        out.push_str(&text);
        out.push('\n');
    };
    put(
        "vitald",
        format!(
            "{}, pid {}, up {}",
            clean(&daemon.version),
            daemon.pid,
            duration(daemon.uptime_ms)
        ),
    );
    put(
        "services",
        format!(
            "{}: {} running, {} degraded, {} failed",
            daemon.services, daemon.running, daemon.degraded, daemon.failed
        ),
    );
    if let Some(hold) = hold(daemon, style) {
        put("hold", hold);
    }
    if let Some(storm) = storm(daemon, style) {
        let storm = storm.trim_start_matches("STORM ").to_owned();
        put("storm", storm);
    }
    if let Some(reload) = reload(daemon, style) {
        put("reload", reload);
    }
    if let Some(problem) = settings(daemon) {
        put("settings", style.paint(Colour::Bad, &problem));
    }
    if !daemon.settings_waiting.is_empty() {
        let keys = clean(&daemon.settings_waiting.join(", "));
        let words = format!("changed, and read when the daemon starts, as by `upgrade`: {keys}");
        put("settings", style.paint(Colour::Warn, &words));
    }
    if daemon.shutting_down {
        put("state", "shutting down".to_owned());
    }
    if let Some(init) = &daemon.init {
        put("init", clean(init));
    }
    if let Some(cgroups) = &daemon.cgroups {
        put("cgroups", clean(cgroups));
    }
    if let Some(words) = &daemon.safe_mode {
        put("safe mode", style.paint(Colour::Bad, &clean(words)));
    }
    if let Some(watchdog) = &daemon.watchdog {
        let words = match watchdog_trouble(daemon) {
            Some(trouble) => style.paint(Colour::Bad, &trouble),
            None => format!(
                "{} fed, resets the host after {}",
                clean(&watchdog.device),
                duration(watchdog.timeout_ms)
            ),
        };
        put("watchdog", words);
    }
    for alert in &daemon.alerts {
        put("alert", super::alerts::line(alert, style));
    }
    if let Some(began) = &daemon.began {
        put("began", clean(began));
    }
    if let Some(reduced) = &daemon.reduced {
        put("reduced", style.paint(Colour::Bad, &clean(reduced)));
    }
    for trouble in &daemon.not_durable {
        put(
            "durable",
            style.paint(Colour::Bad, &format!("no: {}", clean(trouble))),
        );
    }
    put(
        "loop",
        match daemon.late_turns {
            0 => "never late".to_owned(),
            turns => format!(
                "late in {turns} turn{}, at most by {}",
                if turns == 1 { "" } else { "s" },
                latency(daemon.max_lateness_us)
            ),
        },
    );
    if let Some(doubt) = &daemon.doubt {
        let counts: Vec<String> = doubt
            .counts
            .iter()
            .map(|count| format!("{} {}", count.count, clean(&count.cause)))
            .collect();
        put("doubt", format!("not counted: {}", counts.join(", ")));
        let (ago, last) = (style.ago(&doubt.last_at), clean(&doubt.last));
        put("", format!("last {ago}: {last}"));
    }
    put(
        "dropped",
        format!("{} events of runs that were over", daemon.stale_events),
    );
}

/// `ping`
pub fn pong(version: &str, pid: i32, out: &mut String) {
    out.push_str(&format!("vitald {} here, pid {pid}\n", clean(version)));
}

/// What a verb did.
pub fn done(done: &Done, style: &Style, out: &mut String) {
    for line in done.note.lines() {
        out.push_str(&clean(line));
        out.push('\n');
    }
    if done.durable == Some(false) {
        let cause = done
            .durable_error
            .as_deref()
            .unwrap_or("the disk did not answer in time");
        let line = format!(
            "not yet on disk: {}; it holds until this boot ends",
            clean(cause)
        );
        out.push_str(&style.paint(Colour::Warn, &line));
        out.push('\n');
    }
    let probes = done.probes.as_deref().unwrap_or_default();
    let mut grid = Grid {
        rows: Vec::new(),
        right: &[2],
    };
    for probe in probes {
        let colour = match probe.outcome.as_str() {
            "pass" => Colour::Good,
            "fail" => Colour::Bad,
            _ => Colour::Warn,
        };
        grid.rows.push(vec![
            (clean(&probe.name), Colour::Strong),
            (clean(&probe.outcome), colour),
            (latency(probe.latency_us), Colour::Plain),
            (
                probe.reason.as_deref().map(clean).unwrap_or_default(),
                Colour::Plain,
            ),
        ]);
    }
    grid.draw("", style, out);
    for probe in probes {
        evidence(&probe.name, &probe.output, style, out);
    }
}
