//! A simulation: what happens when, and what comes of it.

use super::super::forecast::{Down, Forecast, Moment, Summary};
use super::super::words::folded;
use super::story::{change, colour, heading, reason, run};
use super::{Colour, Grid, Style, clean, duration};
use crate::engine::status::StoryLine;

/// Statements shown of a scenario; one made of a history has many.
const STATEMENTS: usize = 12;

/// `simulate`
pub fn forecast(forecast: &Forecast, style: &Style, out: &mut String) {
    let title = format!(
        "{}: {} under {}",
        clean(&forecast.service),
        duration(forecast.length_ms),
        under(forecast)
    );
    heading(&title, style, out);
    // Beside the labels, and never narrower than a sentence can be read.
    let width = style.width.unwrap_or(110).saturating_sub(14).max(40);
    let mut facts = Facts(Grid::default(), width);
    let more = forecast.scenario.len().saturating_sub(STATEMENTS);
    for statement in forecast.scenario.iter().take(STATEMENTS) {
        facts.put("scenario", clean(statement), Colour::Plain);
    }
    if more > 0 {
        facts.put(
            "scenario",
            format!("and {more} statements more"),
            Colour::Plain,
        );
    }
    for assumed in &forecast.assumed {
        facts.put("assumed", clean(assumed), Colour::Plain);
    }
    facts.0.draw("  ", style, out);
    heading("what happens", style, out);
    timeline(forecast, style, out);
    heading("what comes of it", style, out);
    let mut facts = Facts(Grid::default(), width);
    summary(forecast, &mut facts);
    facts.0.draw("  ", style, out);
}

/// Labels, each once, and what is said under them; how wide that may be.
struct Facts(Grid, usize);

impl Facts {
    fn put(&mut self, label: &str, text: String, colour: Colour) {
        let known = self.0.rows.iter().any(|row| row[0].0 == label);
        let mut label = if known { "" } else { label };
        for line in folded(&text, self.1) {
            let cell = (label.to_owned(), Colour::Faint);
            self.0.rows.push(vec![cell, (line, colour)]);
            label = "";
        }
    }
}

/// `services/web.toml, with max_attempts=3`
fn under(forecast: &Forecast) -> String {
    let source = match forecast.source.as_str() {
        "" => "its definition".to_owned(),
        source => clean(source),
    };
    match forecast.set.as_slice() {
        [] => source,
        set => format!("{source}, with {}", clean(&set.join(", "))),
    }
}

/// `00:01:30.000`, `2 d 03:04:05.678`: time since the beginning.
pub fn elapsed(ms: u64) -> String {
    let (s, ms) = (ms / 1000, ms % 1000);
    let clock = format!(
        "{:02}:{:02}:{:02}.{ms:03}",
        s / 3600 % 24,
        s / 60 % 60,
        s % 60
    );
    match s / 86_400 {
        0 => clock,
        days => format!("{days} d {clock}"),
    }
}

/// Since the beginning, or by the clock, where there is one.
fn when(forecast: &Forecast, ms: u64) -> String {
    let origin = forecast.origin.as_deref();
    let origin = origin.and_then(|origin| humantime::parse_rfc3339(origin).ok());
    let Some(origin) = origin.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()) else {
        return elapsed(ms);
    };
    let time = crate::time::rfc3339_ms(crate::time::millis(origin).saturating_add(ms));
    let from = if forecast.length_ms > 20 * 3_600_000 {
        5
    } else {
        11
    };
    let shown = time.get(from..19).unwrap_or_default();
    shown.replace('T', " ")
}

fn timeline(forecast: &Forecast, style: &Style, out: &mut String) {
    let events = || {
        forecast
            .timeline
            .iter()
            .filter_map(|moment| moment.event.as_ref())
    };
    let named = |line: &&StoryLine| !line.service.is_empty() && line.service != forecast.service;
    let others = events().find(named).is_some();
    let mut grid = Grid {
        rows: Vec::new(),
        right: &[0, 1],
    };
    for moment in &forecast.timeline {
        let mut row = vec![(when(forecast, moment.at_ms), Colour::Faint)];
        match &moment.event {
            Some(line) => {
                row.push((run(line), Colour::Faint));
                if others {
                    row.push((clean(&line.service), Colour::Strong));
                }
                row.push((clean(&line.kind), Colour::Plain));
                row.push((change(line, style), colour(line)));
                row.push((reason(line), Colour::Plain));
            }
            None => {
                row.push((String::new(), Colour::Plain));
                if others {
                    row.push((String::new(), Colour::Plain));
                }
                let dots = if style.ascii { "..." } else { "…" };
                row.push((dots.to_owned(), Colour::Faint));
                row.push((gap(moment), Colour::Faint));
            }
        }
        grid.rows.push(row);
    }
    grid.draw("  ", style, out);
}

fn gap(moment: &Moment) -> String {
    match moment.left_out {
        0 => format!("{} more like this", moment.repeated),
        lines => format!("{lines} lines left out"),
    }
}

fn summary(forecast: &Forecast, facts: &mut Facts) {
    let summary = &forecast.summary;
    if let Some(cut) = &forecast.cut {
        let at = when(forecast, forecast.length_ms);
        facts.put("cut short", format!("at {at}: {}", clean(cut)), Colour::Bad);
    }
    if forecast.actual.is_some() {
        facts.put("in short", forecast_in_short(forecast), Colour::Strong);
    }
    facts.put("restarts", restarts(summary), Colour::Plain);
    facts.put("budget", budget(forecast), Colour::Plain);
    if let Some(at) = summary.gave_up_ms {
        let why = summary.gave_up_reason.as_deref().unwrap_or_default();
        let again = match summary.gave_up {
            1 => String::new(),
            times => format!("; {times} times in all"),
        };
        let words = format!("{}: {}{again}", when(forecast, at), clean(why));
        facts.put("gives up", words, Colour::Bad);
    }
    if summary.up_ppm.is_some() {
        down(forecast, facts);
    }
    let health = match summary.health.as_deref() {
        Some(health) if summary.state == "running" => format!(" ({})", clean(health)),
        _ => String::new(),
    };
    let given_up = if summary.given_up { ", given up" } else { "" };
    facts.put(
        "ends",
        format!("{}{health}{given_up}", clean(&summary.state)),
        Colour::Plain,
    );
}

/// `3 restarts, would have given up at 14:02:10 (really: 5 restarts, did not give up)`
pub fn forecast_in_short(forecast: &Forecast) -> String {
    let times = |n: u32| match n {
        1 => "1 restart".to_owned(),
        n => format!("{n} restarts"),
    };
    let own = forecast.summary.restarts.all - forecast.summary.restarts.operator;
    let mut text = times(own);
    match (forecast.summary.gave_up_ms, forecast.actual.is_some()) {
        (Some(at), true) => {
            text.push_str(&format!(", would have given up at {}", when(forecast, at)))
        }
        (Some(at), false) => text.push_str(&format!(", gives up at {}", when(forecast, at))),
        (None, true) => text.push_str(", would not have given up"),
        (None, false) => text.push_str(", never gives up"),
    }
    if let Some(actual) = &forecast.actual {
        let end = match actual.gave_up_ms {
            Some(at) => format!("gave up at {}", when(forecast, at)),
            None => "did not give up".to_owned(),
        };
        text.push_str(&format!(" (really: {}, {end})", times(actual.restarts)));
    }
    text
}

fn restarts(summary: &Summary) -> String {
    let of = &summary.restarts;
    let causes = [
        (of.unhealthy, "unhealthy"),
        (of.exit, "crashed"),
        (of.start_timeout, "not ready in time"),
        (of.operator, "by an operator"),
        (of.other, "for other causes"),
    ];
    let said = causes.iter().filter(|(times, _)| *times > 0);
    let said: Vec<String> = said
        .map(|(times, cause)| format!("{times} {cause}"))
        .collect();
    match said.len() {
        0 => "none".to_owned(),
        1 => said.concat(),
        _ => format!("{}: {}", of.all, said.join(", ")),
    }
}

fn budget(forecast: &Forecast) -> String {
    let summary = &forecast.summary;
    let mut text = match summary.max_attempts {
        Some(0) => return "no automatic restarts".to_owned(),
        Some(most) => format!("{}/{most} used at the end", summary.attempts),
        None => format!("{} used at the end, of any number", summary.attempts),
    };
    match summary.spent_ms {
        Some(at) => text.push_str(&format!("; used up at {}", when(forecast, at))),
        None if summary.max_attempts.is_some() => text.push_str("; never used up"),
        None => {}
    }
    if let Some(at) = summary.last_refund_ms {
        let times = match summary.refunds {
            1 => "once, at".to_owned(),
            times => format!("{times} times, last at"),
        };
        text.push_str(&format!("; refunded {times} {}", when(forecast, at)));
    }
    text
}

fn down(forecast: &Forecast, facts: &mut Facts) {
    let summary = &forecast.summary;
    if summary.outages == 0 {
        facts.put("down", "never: 100 % up".to_owned(), Colour::Good);
        return;
    }
    let ppm = summary.up_ppm.unwrap_or_default();
    let up = format!("{}.{:04} % up", ppm / 10_000, ppm % 10_000);
    let all = duration(summary.down_ms);
    let from = when(forecast, summary.longest_from_ms);
    let words = match summary.outages {
        1 => format!("once, {all}, from {from}: {up}"),
        times => format!(
            "{times} times, {all} in all: {up}; the longest {}, from {from}",
            duration(summary.longest_ms)
        ),
    };
    facts.put("down", words, Colour::Plain);
    facts.put(
        "down",
        format!("of that {}", parts(&summary.down)),
        Colour::Plain,
    );
}

/// `45 s until noticed, 10 ms stopping`
fn parts(down: &Down) -> String {
    let parts = down.parts();
    // What is less than half a percent is in the JSON.
    let all: u64 = parts.iter().map(|(ms, _)| ms).sum();
    let said = parts.iter().filter(|(ms, _)| ms * 200 >= all.max(1));
    let said: Vec<String> = said
        .map(|(ms, words)| format!("{} {words}", duration(*ms)))
        .collect();
    said.join(", ")
}
