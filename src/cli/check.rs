//! `check`: definitions read as the daemon reads them, all that is wrong said at once.

use super::arguments::{CheckWhat, Globals};
use super::client::cause;
use super::dangers;
use super::dirs::{self, Env};
use super::exits::Exit;
use super::host;
use super::said;
use crate::config::names::{self, FileKind};
use crate::config::problem::Problem;
use crate::config::{load, settings};
use crate::control::values::quoted;
use crate::engine::Loaded;
use crate::graph::{Edge, Graph};
use crate::id::ServiceId;
use crate::reactor::definitions;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::Path;

const SETTINGS: &str = "vitald.toml";

/// Checks and says what was found: 0 when no problem is an error.
pub fn check(globals: &Globals, what: &CheckWhat, env: Env<'_>) -> Exit {
    let found = if what.files.is_empty() {
        let dir = dirs::config_dir(what.config_dir.clone(), dirs::is_root(), env);
        dir.and_then(|dir| whole(&dir))
    } else {
        Ok(files(what))
    };
    let (checked, problems) = match found {
        Ok(found) => found,
        Err(complaint) => {
            eprintln!("vitald: {complaint}");
            return Exit::Failed;
        }
    };
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let text = match globals.json {
        true => json(&problems),
        false => words(checked, errors, &problems),
    };
    match (said(&text), errors) {
        (Exit::Ok, 0) => Exit::Ok,
        (Exit::Ok, _) => Exit::Failed,
        (failed, _) => failed,
    }
}

/// How many files were read, and what is wrong with them.
type Found = (usize, Vec<Problem>);

/// A configuration directory: its settings, its definitions, and how they fit together.
fn whole(dir: &Path) -> Result<Found, String> {
    if let Err(error) = std::fs::read_dir(dir) {
        return Err(format!(
            "cannot read {}: {}; name another with --config-dir",
            dir.display(),
            cause(&error)
        ));
    }
    let mut problems = Vec::new();
    let mut checked = 0;
    match std::fs::read(dir.join(SETTINGS)) {
        Ok(bytes) => {
            checked += 1;
            problems.extend(settings::read(SETTINGS, &bytes).1);
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            let words = format!("cannot read it: {}", cause(&error));
            problems.push(Problem::of_file(SETTINGS, words));
        }
    }
    let files = definitions::read_files(dir).map_err(|error| {
        format!(
            "cannot read {}: {}",
            dir.join("services").display(),
            cause(&error)
        )
    })?;
    checked += files.len();
    let (loaded, wrong) = definitions::join(files, std::iter::empty());
    problems.extend(wrong);
    problems.extend(cycles(&loaded));
    for service in &loaded {
        if let Ok(definition) = &service.definition {
            problems.extend(host::missing(&service.source, definition));
            problems.extend(dangers::of(&service.source, definition));
            problems.extend(dangers::of_file(
                &service.source,
                &dir.join(&*service.source),
            ));
        }
    }
    Ok((checked, problems))
}

/// Single files. Whom they name cannot be known, so that is not asked.
fn files(what: &CheckWhat) -> Found {
    let mut problems = Vec::new();
    for path in &what.files {
        let shown = path.display().to_string();
        let name = path
            .file_name()
            .map(OsStr::to_string_lossy)
            .unwrap_or_default();
        if name == SETTINGS {
            match std::fs::read(path) {
                Ok(bytes) => problems.extend(settings::read(&shown, &bytes).1),
                Err(error) => problems.push(unreadable(&shown, &error)),
            }
            continue;
        }
        if path.is_dir() {
            let words = format!("it is a directory: write --config-dir {shown}");
            problems.push(Problem::of_file(&shown, words));
            continue;
        }
        match (names::of_file(&name), definitions::read_bounded(path)) {
            (FileKind::Service(name), Ok(bytes)) => {
                let outcome = load::read(name, &shown, &bytes);
                problems.extend(outcome.problems);
                let definition = outcome.definition;
                problems.extend(definition.iter().flat_map(|d| host::missing(&shown, d)));
                problems.extend(definition.iter().flat_map(|d| dangers::of(&shown, d)));
                problems.extend(dangers::of_file(&shown, path));
            }
            (FileKind::Service(_), Err(error)) => problems.push(unreadable(&shown, &error)),
            _ => {
                let words = "it is no definition: those end in .toml or .json";
                problems.push(Problem::of_file(&shown, words));
            }
        }
    }
    (what.files.len(), problems)
}

fn unreadable(shown: &str, error: &io::Error) -> Problem {
    Problem::of_file(shown, format!("cannot read it: {}", cause(error)))
}

/// Services that wait for each other for ever.
fn cycles(loaded: &[Loaded]) -> Vec<Problem> {
    let find = |name: &str| {
        let at = loaded.iter().position(|other| &*other.name == name)?;
        Some(ServiceId(at as u32))
    };
    let mut edges = Vec::new();
    for (at, service) in loaded.iter().enumerate() {
        let Ok(definition) = &service.definition else {
            continue;
        };
        for (names, edge) in [
            (&definition.requires, Edge::Requires),
            (&definition.wants, Edge::Wants),
            (&definition.after, Edge::After),
        ] {
            let others = names.iter().filter_map(|name| find(name));
            edges.extend(others.map(|other| (ServiceId(at as u32), other, edge)));
        }
    }
    let graph = Graph::new(loaded.len(), edges);
    let mut problems = Vec::new();
    for cycle in graph.cycles() {
        let name = |id: &ServiceId| &*loaded[id.index()].name;
        let way: Vec<&str> = cycle.path.iter().map(name).collect();
        let words = format!(
            "its dependencies lead back to it: {}; take one of them away",
            way.join(" -> ")
        );
        let first = cycle
            .path
            .first()
            .map_or("", |id| &*loaded[id.index()].source);
        problems.push(Problem::of_file(first, words));
    }
    problems
}

fn words(checked: usize, errors: usize, problems: &[Problem]) -> String {
    let mut out = String::new();
    for problem in problems {
        out.push_str(&format!("{problem}\n"));
    }
    let warnings = problems.len() - errors;
    let plural = |n: usize, word: &str| match n {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    };
    out.push_str(&format!(
        "{} checked: {}, {}\n",
        plural(checked, "file"),
        plural(errors, "error"),
        plural(warnings, "warning")
    ));
    out
}

fn json(problems: &[Problem]) -> String {
    let items: Vec<String> = problems
        .iter()
        .map(|problem| {
            format!(
                "{{\"file\":{},\"line\":{},\"column\":{},\"severity\":\"{}\",\"message\":{}}}",
                quoted(&problem.file),
                problem.line,
                problem.column,
                if problem.is_error() {
                    "error"
                } else {
                    "warning"
                },
                quoted(&problem.message)
            )
        })
        .collect();
    format!("[{}]\n", items.join(","))
}
