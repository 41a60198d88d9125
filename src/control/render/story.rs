//! What happened, and why: `why`, `history`, and events as they come.

use super::{Colour, Grid, Style, clean, duration, pages};
use crate::engine::status::{ChainLink, ProbeStatus, StoryLine, Why};
use crate::engine::story::Verdict;

/// Story lines that `why` shows; the rest is in `history`. With the facts it makes one screen.
const WHY_LINES: usize = 14;
/// From this age on a day stands before the time.
const DAY_MS: u64 = 20 * 3_600_000;

/// `why NAME`
pub fn why(why: &Why, style: &Style, out: &mut String) {
    let status = &why.status;
    pages::headline(status, style, out);
    let mut facts = pages::facts(status, pages::Facts::Story, style);
    if let Some(words) = trouble(why) {
        let label = ("trouble".to_owned(), Colour::Faint);
        facts.rows.insert(0, vec![label, (words, Colour::Bad)]);
    }
    facts.draw("  ", style, out);
    if !why.chain.is_empty() {
        heading("because of", style, out);
    }
    for link in &why.chain {
        chain_link(link, out);
    }
    heading("what happened (UTC)", style, out);
    let story = folded(why);
    let skipped = story.len().saturating_sub(WHY_LINES);
    if story.is_empty() {
        out.push_str("  nothing yet\n");
    } else if skipped > 0 {
        let name = clean(&status.name);
        out.push_str(&format!("  earlier: `history {name}`\n"));
    }
    let mut grid = Grid {
        rows: Vec::new(),
        right: &[1, 2],
    };
    grid.rows
        .extend(story[skipped..].iter().map(|l| story_row(l, style, false)));
    grid.draw("  ", style, out);
    let failing = |probe: &&ProbeStatus| {
        probe.up == Some(false) || probe.outcome.as_deref().is_some_and(|o| o != "pass")
    };
    let failing: Vec<_> = status.probes.iter().filter(failing).cloned().collect();
    if !failing.is_empty() || status.dossier.is_some() {
        heading("evidence", style, out);
    }
    if !failing.is_empty() {
        pages::probes(&failing, style, out);
    }
    if let Some(dossier) = &status.dossier {
        let (run, id) = (dossier.run, clean(&dossier.id));
        out.push_str(&format!(
            "  run #{run} was stuck on: {}\n",
            clean(&dossier.summary)
        ));
        out.push_str(&format!("  `dossier show {id}`\n"));
    }
    heading("what comes next", style, out);
    if why.next.is_empty() {
        out.push_str("  nothing by itself\n");
    }
    for sentence in &why.next {
        out.push_str(&format!("  {}\n", clean(sentence)));
    }
}

/// What is the matter with it, before all that follows from it: what is down, or, while it is not
/// up again, what it was stopped for.
fn trouble(why: &Why) -> Option<String> {
    let status = &why.status;
    let down = status.probes.iter().filter(|probe| {
        let counts =
            probe.on_unhealthy == "restart" && status.health.as_deref() == Some("unhealthy");
        counts && probe.up == Some(false)
    });
    let down: Vec<String> = down
        .map(|probe| {
            let reason = probe.reason.as_deref().unwrap_or("down");
            let times = probe.streak.unsigned_abs();
            clean(&format!("{}: {reason}, {times} in a row", probe.name))
        })
        .collect();
    if !down.is_empty() {
        return Some(down.join("; "));
    }
    let missed = status
        .watchdog
        .as_ref()
        .and_then(|watchdog| watchdog.reason.as_ref());
    if let Some(reason) = missed {
        return Some(clean(&format!("watchdog: {reason}")));
    }
    let stopped = matches!(
        status.cause.as_str(),
        "unhealthy" | "start_timeout" | "watchdog"
    );
    if status.state == "running" || !stopped {
        return None;
    }
    let mut told = why.story.iter().rev();
    let judged = |line: &&StoryLine| matches!(line.to.as_str(), "allowed" | "denied");
    let decided = told.find(|line| line.kind == "decision" && judged(line))?;
    Some(clean(&decided.detail)).filter(|words| !words.is_empty())
}

/// The story without what its neighbours say: one trouble is a probe's, a health's, a decision's
/// and a state's at once, in the same words.
fn folded(why: &Why) -> Vec<StoryLine> {
    let mut story: Vec<StoryLine> = Vec::new();
    for (at, line) in why.story.iter().enumerate() {
        let next = why.story.get(at + 1);
        let twin = |next: &StoryLine| next.kind == "health" && next.detail == line.detail;
        if line.kind == "probe" && next.is_some_and(twin) {
            continue;
        }
        // A probe that only observes, and what would be done.
        let would = |next: &StoryLine| next.to == Verdict::WouldRestart.word();
        if line.kind == "probe" && line.to == "down" && next.is_some_and(would) {
            continue;
        }
        let mut line = line.clone();
        if why.status.problem.is_some() && line.cause == "config" {
            line.detail.clear();
        }
        // It is ready because it is healthy: that line says so.
        let ready = |next: &StoryLine| next.to == "running" && next.run == line.run;
        if line.kind == "health" && line.from == "unknown" && next.is_some_and(ready) {
            continue;
        }
        if line.kind == "dossier" {
            // What it says stands below.
            let id = line.detail.split(": ").next().unwrap_or_default();
            (line.detail, line.cause) = (id.to_owned(), String::new());
        }
        if let Some(last) = story.last_mut().filter(|last| is_again(last, &line)) {
            let count = times(&last.detail) + 1;
            let detail = format!("{} ({count} times)", line.detail);
            *last = StoryLine { detail, ..line };
            continue;
        }
        let decided = story.last().filter(|last| last.kind == "decision");
        if line.kind == "state" && decided.is_some_and(|last| last.detail.contains(&line.detail)) {
            line.detail.clear();
        }
        story.push(line);
    }
    story
}

/// The same word of the gate once more.
fn is_again(last: &StoryLine, line: &StoryLine) -> bool {
    let plain = last
        .detail
        .rsplit_once(" (")
        .filter(|_| times(&last.detail) > 1);
    let detail = plain.map_or(&*last.detail, |(plain, _)| plain);
    let same = (&last.kind, &last.to, last.run, detail);
    line.kind == "decision" && same == (&line.kind, &line.to, line.run, &*line.detail)
}

/// `… (3 times)`
fn times(detail: &str) -> u32 {
    let count = detail
        .strip_suffix(" times)")
        .and_then(|text| text.rsplit_once(" ("));
    count.and_then(|(_, n)| n.parse().ok()).unwrap_or(1)
}

fn chain_link(link: &ChainLink, out: &mut String) {
    let health = link.health.as_ref().filter(|health| *health != "healthy");
    let health = health.map_or(String::new(), |health| format!(" ({})", clean(health)));
    let trouble = match link.trouble.is_empty() {
        true => String::new(),
        false => format!(": {}", clean(&link.trouble)),
    };
    let (name, how, state) = (clean(&link.service), clean(&link.how), clean(&link.state));
    out.push_str(&format!(
        "  {name}: {how}; it is {state}{health}{trouble}\n"
    ));
    if let (Some(words), Some(id)) = (&link.stuck_on, &link.dossier) {
        out.push_str(&format!("    stuck on: {} ({})\n", clean(words), clean(id)));
    }
    out.push_str(&format!("    next: {}\n", clean(&link.next)));
}

pub(super) fn heading(text: &str, style: &Style, out: &mut String) {
    out.push_str(&style.paint(Colour::Strong, text));
    out.push('\n');
}

/// `history [NAME]`
pub fn story(lines: &[StoryLine], style: &Style, out: &mut String) {
    if lines.is_empty() {
        out.push_str("nothing has happened yet\n");
        return;
    }
    let head = [
        "TIME (UTC)",
        "AGO",
        "RUN",
        "SERVICE",
        "ABOUT",
        "WHAT",
        "REASON",
    ];
    let mut grid = Grid {
        rows: vec![
            head.iter()
                .map(|h| ((*h).to_owned(), Colour::Faint))
                .collect(),
        ],
        right: &[1, 2],
    };
    grid.rows
        .extend(lines.iter().map(|line| story_row(line, style, true)));
    grid.draw("", style, out);
}

fn story_row(line: &StoryLine, style: &Style, with_service: bool) -> Vec<(String, Colour)> {
    let age = style.age_ms(&line.time);
    let mut row = vec![
        (clock(&line.time, age), Colour::Faint),
        (age.map(duration).unwrap_or_default(), Colour::Faint),
        (run(line), Colour::Faint),
    ];
    if with_service {
        row.push((clean(&line.service), Colour::Strong));
    }
    row.push((clean(&line.kind), Colour::Plain));
    row.push((change(line, style), colour(line)));
    row.push((reason(line), Colour::Plain));
    row
}

pub(super) fn run(line: &StoryLine) -> String {
    match line.run {
        0 => String::new(),
        run => format!("#{run}"),
    }
}

/// `22:48:01`, with the day before it when that is another one: `11-23 22:48:01`.
fn clock(time: &str, age: Option<u64>) -> String {
    // RFC 3339 is ASCII: 2026-11-23T22:48:01.123Z
    match (time.get(5..10), time.get(11..19)) {
        (Some(day), Some(clock)) if age.is_some_and(|age| age >= DAY_MS) => {
            format!("{day} {clock}")
        }
        (_, Some(clock)) => clock.to_owned(),
        _ => clean(time),
    }
}

/// `restart denied`; `would restart` says it already.
pub(super) fn verdict(word: &str) -> String {
    match word == Verdict::WouldRestart.word() {
        true => clean(word),
        false => format!("restart {}", clean(word)),
    }
}

/// `starting → running`, `restart denied`.
pub(super) fn change(line: &StoryLine, style: &Style) -> String {
    match line.kind.as_str() {
        "decision" => verdict(&line.to),
        _ if line.from.is_empty() => clean(&line.to),
        _ => format!(
            "{} {} {}",
            clean(&line.from),
            style.arrow(),
            clean(&line.to)
        ),
    }
}

pub(super) fn colour(line: &StoryLine) -> Colour {
    match line.to.as_str() {
        "running" | "healthy" | "up" | "allowed" => Colour::Good,
        "failed" | "unhealthy" | "down" | "denied" => Colour::Bad,
        "deferred" | "backoff" | "blocked" => Colour::Warn,
        _ => Colour::Plain,
    }
}

/// `http: timeout, 3 in a row; attempt 1/3, start in 500 ms; cured`
pub(super) fn reason(line: &StoryLine) -> String {
    let (cause, detail) = (clean(&line.cause), clean(&line.detail));
    // That it became ready needs no cause: the start before it has told it.
    let told = line.kind == "decision" || line.to == "running" || detail.starts_with(&cause);
    let mut text = match (detail.is_empty(), told) {
        (true, _) => cause,
        (false, true) => detail,
        (false, false) => format!("{cause}: {detail}"),
    };
    if line.kind != "decision" {
        return text;
    }
    if line.to == "allowed"
        && let Some(attempt) = attempt(&line.from)
    {
        text.push_str(&format!("; attempt {attempt}"));
    }
    if let Some(ms) = line
        .next
        .as_deref()
        .and_then(|next| until(&line.time, next))
    {
        let what = match line.to.as_str() {
            "allowed" => "start",
            _ => "asked again",
        };
        text.push_str(&format!("; {what} after {}", duration(ms)));
    }
    match line.cured {
        Some(true) => text.push_str("; cured"),
        Some(false) => text.push_str("; not cured"),
        None => {}
    }
    text
}

/// `attempts 0/3` were used before it: `1/3`.
fn attempt(from: &str) -> Option<String> {
    let used = from.strip_prefix("attempts ")?;
    let (used, most) = match used.split_once('/') {
        Some((used, most)) => (used, format!("/{}", clean(most))),
        None => (used, String::new()),
    };
    let used: u32 = used.parse().ok()?;
    Some(format!("{}{most}", used.saturating_add(1)))
}

/// Milliseconds between two RFC 3339 times.
fn until(from: &str, to: &str) -> Option<u64> {
    let from = humantime::parse_rfc3339(from).ok()?;
    let to = humantime::parse_rfc3339(to).ok()?;
    to.duration_since(from).ok().map(crate::time::millis)
}

/// One event as a line of its own, without its line end.
pub fn event_line(line: &StoryLine, style: &Style) -> String {
    format!("{} {}", clean(&line.time), event_words(line, style))
}

/// One event without its time.
pub fn event_words(line: &StoryLine, style: &Style) -> String {
    let mut text = String::new();
    let mut name = clean(&line.service);
    name.push_str(&run(line));
    if !name.is_empty() {
        text.push_str(&style.paint(Colour::Strong, &name));
        text.push(' ');
    }
    text.push_str(&format!("{} ", clean(&line.kind)));
    text.push_str(&style.paint(colour(line), &change(line, style)));
    let reason = reason(line);
    if !reason.is_empty() {
        text.push_str(&format!(" ({reason})"));
    }
    text
}
