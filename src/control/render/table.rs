//! All services at a glance.

use super::pages::end_words;
use super::{Colour, Grid, Style, attempts, clean, duration, glyph, latency, state_words};
use crate::engine::status::{DaemonStatus, ProbeStatus, Status};

const HEAD: [&str; 8] = [
    "", "NAME", "STATE", "PID", "UPTIME", "HEALTH", "RESTARTS", "NOTE",
];

/// One service a line.
pub fn table(services: &[Status], style: &Style, out: &mut String) {
    if services.is_empty() {
        out.push_str("no services; put a definition into services/NAME.toml and `reload`\n");
        return;
    }
    let mut grid = Grid {
        rows: vec![
            HEAD.iter()
                .map(|head| ((*head).to_owned(), Colour::Faint))
                .collect(),
        ],
        right: &[3, 4, 6],
    };
    grid.rows
        .extend(services.iter().map(|status| row(status, style)));
    grid.draw("", style, out);
}

/// The daemon in a line, then its services.
pub fn overview(daemon: &DaemonStatus, services: &[Status], style: &Style, out: &mut String) {
    let mut head = format!(
        "vitald {}, up {}: {} service{}, {} running",
        clean(&daemon.version),
        duration(daemon.uptime_ms),
        daemon.services,
        if daemon.services == 1 { "" } else { "s" },
        daemon.running
    );
    for (count, word) in [(daemon.degraded, "degraded"), (daemon.failed, "failed")] {
        if count > 0 {
            head.push_str(&format!(", {count} {word}"));
        }
    }
    let colour = match (daemon.failed, daemon.degraded) {
        (0, 0) => Colour::Strong,
        (0, _) => Colour::Warn,
        _ => Colour::Bad,
    };
    out.push_str(&style.paint(colour, &head));
    out.push('\n');
    if let Some(hold) = super::pages::hold(daemon, style) {
        out.push_str(&style.paint(Colour::Warn, &hold));
        out.push('\n');
    }
    if let Some(storm) = super::pages::storm(daemon, style) {
        out.push_str(&style.paint(Colour::Warn, &storm));
        out.push('\n');
    }
    if let Some(reload) = super::pages::reload(daemon, style) {
        out.push_str(&style.paint(Colour::Warn, &reload));
        out.push('\n');
    }
    if let Some(problem) = super::pages::settings(daemon) {
        out.push_str(&style.paint(Colour::Bad, &problem));
        out.push('\n');
    }
    if let Some(words) = &daemon.safe_mode {
        out.push_str(&style.paint(Colour::Bad, &format!("SAFE MODE: {}", clean(words))));
        out.push('\n');
    }
    if let Some(watchdog) = super::pages::watchdog_trouble(daemon) {
        out.push_str(&style.paint(Colour::Bad, &format!("watchdog: {watchdog}")));
        out.push('\n');
    }
    for trouble in super::alerts::troubles(daemon) {
        out.push_str(&style.paint(Colour::Bad, &trouble));
        out.push('\n');
    }
    if let Some(reduced) = &daemon.reduced {
        out.push_str(&style.paint(Colour::Bad, &format!("reduced: {}", clean(reduced))));
        out.push('\n');
    }
    for trouble in &daemon.not_durable {
        out.push_str(&style.paint(Colour::Bad, &format!("not durable: {}", clean(trouble))));
        out.push('\n');
    }
    if let Some(init) = &daemon.init {
        out.push_str(&style.paint(Colour::Faint, &clean(init)));
        out.push('\n');
    }
    if daemon.shutting_down {
        out.push_str(&style.paint(Colour::Warn, "shutting down"));
        out.push('\n');
    }
    table(services, style, out);
}

fn row(status: &Status, style: &Style) -> Vec<(String, Colour)> {
    let (sign, colour) = glyph(status, style);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let health_colour = match status.health.as_deref() {
        Some("unhealthy") => Colour::Warn,
        _ => Colour::Plain,
    };
    vec![
        (sign.to_owned(), colour),
        (clean(&status.name), Colour::Strong),
        (state_words(status), colour),
        (
            or_dash(status.pid.map(|pid| pid.to_string())),
            Colour::Plain,
        ),
        (or_dash(status.uptime_ms.map(duration)), Colour::Plain),
        (health(status), health_colour),
        (
            match status.problem {
                Some(_) => "-".to_owned(),
                None => attempts(status, style),
            },
            Colour::Plain,
        ),
        (note(status), Colour::Plain),
    ]
}

/// `healthy, 1.2 ms`; `unhealthy, tcp: timeout 5.0 s`.
fn health(status: &Status) -> String {
    // Who is not there is neither well nor ill.
    let Some(health) = status.health.as_ref().filter(|_| status.pid.is_some()) else {
        return "-".to_owned();
    };
    let told = telling(&status.probes).and_then(|probe| {
        let outcome = probe.outcome.as_deref()?;
        let took = probe.latency_us.map(latency);
        let mut words = Vec::new();
        if outcome != "pass" {
            let reason = probe.reason.as_deref().unwrap_or(outcome);
            words.push(format!("{}: {}", clean(&probe.name), clean(reason)));
        }
        words.extend(took);
        Some(words.join(" "))
    });
    match told {
        Some(told) if !told.is_empty() => format!("{health}, {told}"),
        _ => health.clone(),
    }
}

/// Of several probes the one that says most: down, then not passing, then the slowest.
fn telling(probes: &[ProbeStatus]) -> Option<&ProbeStatus> {
    probes.iter().max_by_key(|probe| {
        let asked = probe.outcome.as_deref();
        (
            probe.on_unhealthy != "observe",
            probe.up == Some(false),
            asked.is_some_and(|outcome| outcome != "pass"),
            probe.latency_us,
        )
    })
}

/// What it waits for, and until when.
fn note(status: &Status) -> String {
    let mut parts: Vec<String> = Vec::new();
    if status.pinned {
        parts.push("pinned".to_owned());
    }
    // What is wrong with its definition says all that `detail` could; the rest is on its page.
    match (&status.problem, &status.detail) {
        (Some(problem), _) => parts.push(first_of(problem)),
        (None, Some(detail)) => parts.push(clean(detail)),
        (None, None) => parts.extend(ended(status)),
    }
    if let Some(gate) = &status.gate {
        let next = gate
            .next_in_ms
            .map_or(String::new(), |ms| format!(", again in {}", duration(ms)));
        parts.push(format!(
            "{}: {}{next}",
            super::story::verdict(&gate.verdict),
            clean(&gate.reason)
        ));
    }
    let gate_tells = status
        .gate
        .as_ref()
        .is_some_and(|gate| gate.next_in_ms.is_some());
    match (&status.next, status.next_in_ms) {
        (Some(next), _) if next == "gate" && gate_tells => {}
        (Some(next), Some(ms)) => parts.push(format!("{} in {}", clean(next), duration(ms))),
        (Some(next), None) => parts.push(clean(next)),
        (None, _) => {}
    }
    for probe in &status.probes {
        if probe.on_unhealthy == "observe" && probe.up == Some(false) {
            parts.push(format!("{} observing: would restart", clean(&probe.name)));
        }
    }
    parts.join("; ")
}

/// How it came to be where it is, when its process ended by itself.
fn ended(status: &Status) -> Option<String> {
    let end = status.last_end.as_ref()?;
    let by_itself =
        end.cause == "exit" && matches!(status.state.as_str(), "backoff" | "exited" | "failed");
    match (by_itself, end.code) {
        (true, Some(0)) if status.kind == "oneshot" => Some("done".to_owned()),
        (true, _) => Some(end_words(end)),
        (false, _) => None,
    }
}

/// The first complaint without its advice, and how many more there are.
fn first_of(problem: &str) -> String {
    let mut lines = problem.lines();
    let first = clean(lines.next().unwrap_or_default());
    let first = first.split("; ").next().unwrap_or_default().to_owned();
    match lines.count() {
        0 => first,
        more => format!("{first} (and {more} more)"),
    }
}
