//! `replay`: a recording fed to the engine again. Shows whether the same came of it, or how things
//! stood at a moment of it.

use super::arguments::{Globals, ReplayWhat};
use super::client::cause;
use super::dirs::Env;
use super::exits::Exit;
use super::{said, terminal};
use crate::control::render::{self, Style, clean, duration};
use crate::journal::replay::{Divergence, Outcome, Source, Unreadable, replay};
use serde::Serialize;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// The event that the engine is being told, for the panic hook.
static EVENT: AtomicU64 = AtomicU64::new(0);

/// Replays: 0 the same, 1 something else, 2 not to be read.
pub fn run(globals: &Globals, what: &ReplayWhat, env: Env<'_>) -> Exit {
    if !cfg!(feature = "replay") {
        eprintln!("vitald: this small build records and does not replay: use a whole one");
        return Exit::Usage;
    }
    let mut contents = Vec::new();
    for path in &what.files {
        let name = path.display().to_string();
        match std::fs::read(path) {
            Ok(bytes) => contents.push((name, bytes)),
            Err(error) => {
                eprintln!("vitald: cannot read {name}: {}", cause(&error));
                return Exit::Usage;
            }
        }
    }
    let sources: Vec<Source<'_>> = contents
        .iter()
        .map(|(name, bytes)| Source { name, bytes })
        .collect();
    say_where_it_panics();
    let told = &mut |event: u64| EVENT.store(event, Ordering::Relaxed);
    let outcome = match replay(&sources, what.until, told) {
        Ok(outcome) => outcome,
        Err(Unreadable { file, line, why }) => {
            eprintln!("vitald: {file}:{line}: {why}");
            return Exit::Usage;
        }
    };
    let why = match what.why.as_deref().map(|name| why(&outcome, name)) {
        Some(Err(complaint)) => {
            eprintln!("vitald: {complaint}");
            return Exit::Unknown;
        }
        Some(Ok(why)) => Some(why),
        None => None,
    };
    let text = match (globals.json, &why) {
        (true, _) => json(&outcome, why.as_ref()),
        (false, None) => summary(&outcome),
        (false, Some(why)) => {
            let mut out = format!("as of {}\n", outcome.wall.rfc3339(outcome.wall.now));
            let style = Style {
                now_ms: outcome.wall.wall_ms,
                ..terminal::style(env)
            };
            render::why(why, &style, &mut out);
            if let Some(divergence) = &outcome.divergence {
                diverged(divergence, &mut out);
            }
            out
        }
    };
    match (said(&text), &outcome.divergence) {
        (Exit::Ok, Some(_)) => Exit::Failed,
        (said, _) => said,
    }
}

/// A recording may be of a panic, and so may its replay be.
fn say_where_it_panics() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        let event = EVENT.load(Ordering::Relaxed);
        eprintln!(
            "vitald: the engine panics at event {event}; `--until {}` shows what was before",
            event.saturating_sub(1)
        );
        std::process::exit(Exit::Failed.code().into());
    }));
}

fn why(outcome: &Outcome, name: &str) -> Result<crate::engine::status::Why, String> {
    let engine = outcome.engine.as_ref();
    let engine = engine.ok_or("how things stand is not known there: events are missing")?;
    let id = engine.find(name).ok_or_else(|| {
        let known = outcome.services.join(", ");
        format!("no service `{name}` in the recording at that time; there are: {known}")
    })?;
    Ok(engine.why(id, outcome.wall))
}

fn json(outcome: &Outcome, why: Option<&crate::engine::status::Why>) -> String {
    #[derive(Serialize)]
    struct All<'a> {
        same: bool,
        #[serde(flatten)]
        outcome: &'a Outcome,
        replayed_by: &'static str,
        why: Option<&'a crate::engine::status::Why>,
    }
    let all = All {
        same: outcome.divergence.is_none(),
        outcome,
        replayed_by: env!("CARGO_PKG_VERSION"),
        why,
    };
    // Plain data with string keys: it can be put as JSON.
    serde_json::to_string(&all).unwrap_or_default() + "\n"
}

/// One screen.
fn summary(outcome: &Outcome) -> String {
    let mut out = String::new();
    let mut row = |key: &str, text: &str| {
        let _ = writeln!(out, "{key:<10} {}", clean(text));
    };
    row(
        "recorded",
        &format!("by vitald {}", outcome.versions.join(", ")),
    );
    row("replayed", concat!("by vitald ", env!("CARGO_PKG_VERSION")));
    let length = duration(outcome.length_ms);
    row(
        "time",
        &format!("{} to {}, {length}", outcome.from, outcome.to),
    );
    let (events, effects) = (outcome.events, outcome.effects);
    row(
        "events",
        &format!(
            "{events}, which led to {effects} effects, in {} parts",
            outcome.parts
        ),
    );
    row("services", &services(&outcome.services));
    for note in &outcome.notes {
        row("note", note);
    }
    match &outcome.divergence {
        None if outcome.events == 0 => row("verdict", "nothing was replayed"),
        None if outcome.lost + outcome.skipped > 0 => {
            row("verdict", "the same, as far as it could be replayed");
        }
        None => row("verdict", "the same, byte for byte"),
        Some(divergence) => {
            row("verdict", "something else came of it");
            diverged(divergence, &mut out);
        }
    }
    out
}

fn services(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let first = names.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    match names.len() {
        0 => "none".to_owned(),
        n if n > SHOWN => format!("{n}: {} …", first.join(", ")),
        n => format!("{n}: {}", first.join(", ")),
    }
}

fn diverged(divergence: &Divergence, out: &mut String) {
    let Divergence {
        event,
        time,
        file,
        line,
        what,
        after,
        recorded,
        replayed,
        before,
    } = divergence;
    let _ = writeln!(
        out,
        "\nthe first difference: event {event}, {time}, {file}:{line}, {what}"
    );
    for line in before {
        let _ = writeln!(out, "  {line}");
    }
    if !after.is_empty() {
        let _ = writeln!(out, "> {event} {time} {after}");
    }
    let _ = writeln!(out, "recorded: {recorded}\nreplayed: {replayed}");
}
