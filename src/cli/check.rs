//! `check`: definitions read as the daemon reads them, all that is wrong said at once.

use super::arguments::{CheckWhat, Globals};
use super::client::cause;
use super::dangers;
use super::dirs::{self, Env};
use super::due;
use super::exits::Exit;
use super::host;
use super::measured::{self, Measured};
use super::said;
use crate::config::names::{self, FileKind};
use crate::config::problem::Problem;
use crate::config::set::Entry;
use crate::config::{load, settings};
use crate::control::render;
use crate::control::values::quoted;
use crate::engine::links::{conflicts, cycle_words, directed, named, torn};
use crate::engine::status::{Tie, Tied};
use crate::graph::{Edge, Graph};
use crate::id::ServiceId;
use crate::reactor::definitions;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::Path;

const SETTINGS: &str = "vitald.toml";

/// Checks and says what was found: 0 when no problem is an error.
pub fn check(globals: &Globals, what: &CheckWhat, env: Env<'_>) -> Exit {
    if what.graph {
        return graph(what, env);
    }
    let found = if what.files.is_empty() {
        let dir = dirs::config_dir(what.config_dir.clone(), dirs::is_root(), env);
        let measured = measured::ask(globals, what.config_dir.is_none(), env);
        dir.and_then(|dir| whole(&dir, &measured))
    } else {
        Ok(files(what, &measured::ask(globals, false, env)))
    };
    let (checked, problems, due) = match found {
        Ok(found) => found,
        Err(complaint) => {
            eprintln!("vitald: {complaint}");
            return Exit::Failed;
        }
    };
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let text = match globals.json {
        true => json(&problems),
        false => words(checked, errors, &problems, &due),
    };
    match (said(&text), errors) {
        (Exit::Ok, 0) => Exit::Ok,
        (Exit::Ok, _) => Exit::Failed,
        (failed, _) => failed,
    }
}

/// Who needs whom by the files alone, in the dot language.
fn graph(what: &CheckWhat, env: Env<'_>) -> Exit {
    if !what.files.is_empty() {
        eprintln!("vitald: check --graph shows a whole directory: name it with --config-dir");
        return Exit::Usage;
    }
    let dir = dirs::config_dir(what.config_dir.clone(), dirs::is_root(), env);
    let read = dir.and_then(|dir| {
        definitions::read_files(&dir).map_err(|error| {
            let services = dir.join("services");
            format!("cannot read {}: {}", services.display(), cause(&error))
        })
    });
    let files = match read {
        Ok(files) => files,
        Err(complaint) => {
            eprintln!("vitald: {complaint}");
            return Exit::Failed;
        }
    };
    let entries = definitions::join_entries(files, std::iter::empty(), &[]).services;
    let (graph, conflicts) = linked(&entries);
    let name = |id: ServiceId| entries[id.index()].name.to_string();
    let tied = |(at, entry): (usize, &Entry)| {
        let id = ServiceId(at as u32);
        let tie = |key: &str, other: ServiceId| Tie {
            key: key.to_owned(),
            name: name(other),
        };
        let needs = graph
            .needs(id)
            .iter()
            .map(|(to, edge)| tie(edge.word(), *to));
        let rivals = conflicts.get(&id).into_iter().flatten();
        let rivals = rivals.map(|other| tie("conflicts", *other));
        let broken = entry.definition.is_err();
        Tied {
            name: entry.name.to_string(),
            state: if broken { "failed" } else { "" }.to_owned(),
            ties: needs.chain(rivals).collect(),
            ..Tied::default()
        }
    };
    let services: Vec<Tied> = entries.iter().enumerate().map(tied).collect();
    let mut text = String::new();
    render::dot(&services, &mut text);
    said(&text)
}

/// How many files were read, what is wrong with them, and when what they schedule is due.
type Found = (usize, Vec<Problem>, Vec<String>);

/// A configuration directory: its settings, its definitions, and how they fit together.
fn whole(dir: &Path, measured: &Measured) -> Result<Found, String> {
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
    let joined = definitions::join_entries(files, std::iter::empty(), &[]);
    problems.extend(joined.problems);
    problems.extend(ties(&joined.services));
    let mut dues = Vec::new();
    for service in joined.services.iter().chain(&joined.examples) {
        if let Ok(definition) = &service.definition {
            let line = due::line(&service.file, definition);
            dues.extend(line.filter(|line| !dues.contains(line)));
            let mut found = host::missing(&service.file, definition);
            found.extend(dangers::of(&service.file, definition));
            let path = dir.join(&*service.file);
            found.extend(dangers::of_file(&service.file, &path));
            found.extend(measured.problems(&service.name, definition, &service.file, &path));
            for problem in found {
                // Instances of one template have the same.
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
    }
    Ok((checked, problems, dues))
}

/// Single files. Whom they name cannot be known, so that is not asked.
fn files(what: &CheckWhat, measured: &Measured) -> Found {
    let mut problems = Vec::new();
    let mut dues = Vec::new();
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
                dues.extend(definition.iter().filter_map(|d| due::line(&shown, d)));
                problems.extend(definition.iter().flat_map(|d| host::missing(&shown, d)));
                problems.extend(definition.iter().flat_map(|d| dangers::of(&shown, d)));
                problems.extend(dangers::of_file(&shown, path));
                let times = |d| measured.problems(name, d, &shown, path);
                problems.extend(definition.iter().flat_map(times));
            }
            (FileKind::Service(_), Err(error)) => problems.push(unreadable(&shown, &error)),
            _ => {
                let words = "it is no definition: those end in .toml or .json";
                problems.push(Problem::of_file(&shown, words));
            }
        }
    }
    (what.files.len(), problems, dues)
}

fn unreadable(shown: &str, error: &io::Error) -> Problem {
    Problem::of_file(shown, format!("cannot read it: {}", cause(error)))
}

/// Services that wait for each other for ever, and that need two which conflict.
fn ties(entries: &[Entry]) -> Vec<Problem> {
    let (graph, conflicts) = linked(entries);
    let name = |id: ServiceId| &*entries[id.index()].name;
    let file = |id: ServiceId| &*entries[id.index()].file;
    let place = |id: ServiceId, edge: Edge, whom: &str| {
        let named = entries[id.index()].dependencies.iter();
        let mut named = named.filter(|d| d.relation.word() == edge.word());
        match named.find(|d| *d.name == *whom) {
            Some(at) => format!("{}:{}", file(id), at.line),
            None => file(id).to_owned(),
        }
    };
    let mut problems = Vec::new();
    for cycle in graph.cycles() {
        let way = cycle_words(&graph, &cycle, name, place);
        let words = format!("its dependencies lead back to it: {way}; take one of them away");
        let first = cycle.path.first().map_or("", |id| file(*id));
        problems.push(Problem::of_file(first, words));
    }
    for (id, one, other) in torn(&graph, &conflicts) {
        let (one, other) = (name(one), name(other));
        let words = format!("it needs both {one} and {other}, which conflict: it can never start");
        problems.push(Problem::of_file(file(id), words));
    }
    problems
}

/// Who needs whom, and who conflicts with whom; numbered as they stand.
pub(super) fn linked(entries: &[Entry]) -> (Graph, BTreeMap<ServiceId, Vec<ServiceId>>) {
    let find = |name: &str| {
        let at = entries.iter().position(|other| &*other.name == name)?;
        Some(ServiceId(at as u32))
    };
    let mut edges = Vec::new();
    let mut pairs = Vec::new();
    for (at, service) in entries.iter().enumerate() {
        let Ok(definition) = &service.definition else {
            continue;
        };
        let me = ServiceId(at as u32);
        let others = named(definition).filter_map(|(name, edge)| Some((find(name)?, edge)));
        edges.extend(others.map(|(other, edge)| directed(me, other, edge)));
        let rivals = definition.conflicts().iter();
        pairs.extend(rivals.filter_map(|name| Some((me, find(name)?))));
    }
    let conflicts = conflicts(pairs.into_iter());
    (Graph::new(entries.len(), edges), conflicts)
}

fn words(checked: usize, errors: usize, problems: &[Problem], due: &[String]) -> String {
    let mut out = String::new();
    for problem in problems {
        out.push_str(&format!("{problem}\n"));
    }
    for line in due {
        out.push_str(&format!("{line}\n"));
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
