//! Checks over all definitions together: names that two files claim, names that nobody has.
//!
//! Cycles are `graph`'s business. A service that is broken by such a check is broken alone: who
//! names it finds it known, and waits for it.

use crate::config::definition::{Definition, Kind, Listen, Restart};
use crate::config::load::{Dependency, Outcome};
use crate::config::problem::{Problem, Severity};
use crate::config::socket::collide;
use crate::config::ties::Relation;
use crate::config::{hints, lint_set, names};
use crate::limits::MAX_SERVICES;
use std::collections::BTreeMap;

/// One definition file, read.
#[derive(Clone, PartialEq, Debug)]
pub struct File {
    /// Its stem.
    pub name: Box<str>,
    /// As it is named in messages: `services/web.toml`.
    pub file: Box<str>,
    pub outcome: Outcome,
}

/// One service of the set.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    pub name: Box<str>,
    pub file: Box<str>,
    /// Or its errors, one a line, each with its place.
    pub definition: Result<Definition, Box<str>>,
    /// Where it names others, for messages about cycles.
    pub dependencies: Box<[Dependency]>,
}

/// All services by name, and all problems by file.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Set {
    pub entries: Vec<Entry>,
    pub problems: Vec<Problem>,
}

/// Joins the files to a set. The order of `files` does not matter.
pub fn join(mut files: Vec<File>) -> Set {
    files.sort_by(|a, b| (&a.name, &a.file).cmp(&(&b.name, &b.file)));
    refuse_twins(&mut files);
    refuse_too_many(&mut files);
    refuse_unknown(&mut files);
    warn_of_shared_sockets(&mut files);
    warn_of_ties(&mut files);
    lint_set::check(&mut files);
    let mut set = Set::default();
    for file in files {
        let last = set.entries.last();
        // Of two files with one name the first stands for both, a bad name for nothing.
        let twin = last.is_some_and(|entry| entry.name == file.name);
        let Outcome {
            definition,
            problems,
            dependencies,
            instances: _,
            probes: _,
        } = file.outcome;
        if !twin && names::check(&file.name).is_ok() {
            let definition = match definition {
                Some(definition) => Ok(definition),
                None => Err(errors(&problems)),
            };
            set.entries.push(Entry {
                name: file.name,
                file: file.file,
                definition,
                dependencies,
            });
        }
        set.problems.extend(problems);
    }
    set
}

/// The errors, one a line.
fn errors(problems: &[Problem]) -> Box<str> {
    let lines: Vec<String> = problems
        .iter()
        .filter(|p| p.is_error())
        .map(Problem::to_string)
        .collect();
    lines.join("\n").into()
}

fn refuse(file: &mut File, problem: Problem) {
    file.outcome.definition = None;
    file.outcome.problems.push(problem);
}

fn refuse_twins(files: &mut [File]) {
    for i in 1..files.len() {
        if files[i - 1].name != files[i].name {
            continue;
        }
        let words = |other: &File| {
            format!(
                "the service `{}` is also defined in {}: remove one of the two",
                other.name, other.file
            )
        };
        let (first, second) = (words(&files[i]), words(&files[i - 1]));
        let problem = Problem::of_file(&files[i - 1].file, first);
        refuse(&mut files[i - 1], problem);
        let problem = Problem::of_file(&files[i].file, second);
        refuse(&mut files[i], problem);
    }
}

fn refuse_too_many(files: &mut [File]) {
    let count = files.len();
    for file in files.iter_mut().skip(MAX_SERVICES) {
        let words = format!("{count} definitions; at most {MAX_SERVICES} are taken: remove some");
        let problem = Problem::of_file(&file.file, words);
        refuse(file, problem);
    }
}

/// Of two services that listen at the same place only one can run at a time.
fn warn_of_shared_sockets(files: &mut [File]) {
    let mut places: Vec<(usize, Listen, bool, Box<str>)> = Vec::new();
    for (at, file) in files.iter().enumerate() {
        let sockets = file
            .outcome
            .definition
            .iter()
            .flat_map(|d| d.sockets().iter());
        for socket in sockets {
            if let Some(address) = socket.address() {
                places.push((at, address, socket.reuse_port, socket.listen.clone()));
            }
        }
    }
    for (n, (at, address, reuse, listen)) in places.iter().enumerate() {
        let twin = places[..n].iter().find(|(other, taken, shared, _)| {
            other != at && collide(taken, address) && !(*reuse && *shared)
        });
        if let Some((other, ..)) = twin {
            let words = format!(
                "its socket `{listen}` is also one of the service `{}`: whichever starts second fails",
                files[*other].name
            );
            let problem = Problem::warning_of_file(&files[*at].file, words);
            files[*at].outcome.problems.push(problem);
        }
    }
}

/// An unknown requirement is an error, for it could never be satisfied; one that is only waited
/// for or wanted is skipped, with a warning.
fn refuse_unknown(files: &mut [File]) {
    let known: Vec<Box<str>> = files.iter().map(|f| f.name.clone()).collect();
    // A thousand services may name the same one that is gone.
    let mut advice: BTreeMap<Box<str>, Option<&str>> = BTreeMap::new();
    for file in files.iter_mut() {
        let mut unknown = false;
        for dependency in &file.outcome.dependencies {
            let name = &dependency.name;
            if known.binary_search(name).is_ok() {
                continue;
            }
            let required = dependency.relation.is_need();
            unknown |= required;
            let near = match advice.get(name) {
                Some(near) => *near,
                None => {
                    let near = hints::nearest(name, known.iter().map(|k| &**k));
                    advice.insert(name.clone(), near);
                    near
                }
            };
            let advice = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None if required => format!("add {name}.toml, or remove the name"),
                None => format!("it is skipped; add {name}.toml, or remove the name"),
            };
            let word = dependency.relation.word();
            file.outcome.problems.push(Problem {
                file: file.file.clone(),
                line: dependency.line,
                column: dependency.column,
                severity: if required {
                    Severity::Error
                } else {
                    Severity::Warning
                },
                message: format!("`{word}` names `{name}`, which is not defined: {advice}").into(),
            });
        }
        if unknown {
            file.outcome.definition = None;
        }
    }
}

/// What only two definitions together say, and will hardly be meant.
fn warn_of_ties(files: &mut [File]) {
    // Who of those that are named starts by itself; who is started again whenever it ends.
    let mut traits: BTreeMap<Box<str>, (bool, bool)> = BTreeMap::new();
    for file in files.iter() {
        if let Some(d) = &file.outcome.definition {
            let again = d.kind == Kind::Process && d.restart == Restart::Always;
            traits.insert(file.name.clone(), (d.autostart, again));
        }
    }
    let mut told: Vec<(Box<str>, Box<str>)> = Vec::new();
    for file in files.iter_mut() {
        let (name, mine) = (&file.name, traits.get(&file.name).copied());
        for dependency in &file.outcome.dependencies {
            let other = &dependency.name;
            let (Some((mine, _)), Some((theirs, again))) = (mine, traits.get(other)) else {
                continue;
            };
            let words = match dependency.relation {
                Relation::Conflicts if mine && *theirs => {
                    let pair = (name.min(other).clone(), name.max(other).clone());
                    if told.contains(&pair) {
                        continue;
                    }
                    let first = pair.0.clone();
                    told.push(pair);
                    format!(
                        "`conflicts` names `{other}`, and both start by themselves: `{first}` is \
                         the one, as the first by name; set `autostart` to false in the other"
                    )
                }
                Relation::AfterExit if *again => format!(
                    "`after_exit` names `{other}`, which is started again whenever it ends: \
                     this one starts when an operator stops it; did you mean `after`?"
                ),
                _ => continue,
            };
            file.outcome.problems.push(Problem {
                file: file.file.clone(),
                line: dependency.line,
                column: dependency.column,
                severity: Severity::Warning,
                message: words.into(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn set(files: &[(&str, &str)]) -> Set {
        join(
            files
                .iter()
                .map(|(file, text)| {
                    let name = file.split('.').next().unwrap_or(file);
                    File {
                        name: name.into(),
                        file: (*file).into(),
                        outcome: load::read(name, file, text.as_bytes()),
                    }
                })
                .collect(),
        )
    }

    fn said(set: &Set) -> Vec<String> {
        set.problems.iter().map(Problem::to_string).collect()
    }

    fn usable(set: &Set) -> Vec<&str> {
        set.entries
            .iter()
            .filter(|e| e.definition.is_ok())
            .map(|e| &*e.name)
            .collect()
    }

    #[test]
    fn two_files_of_one_name_define_nothing_and_the_others_stay() {
        let set = set(&[
            ("web.toml", "exec = 'a'"),
            ("db.toml", "exec = 'b'"),
            ("web.json", r#"{"exec": "c"}"#),
        ]);
        assert_eq!(usable(&set), ["db"]);
        assert_eq!(set.entries.len(), 2);
        assert_eq!(
            said(&set),
            [
                "web.json: the service `web` is also defined in web.toml: remove one of the two",
                "web.toml: the service `web` is also defined in web.json: remove one of the two",
            ]
        );
    }

    #[test]
    fn an_unknown_requirement_is_an_error_of_that_service_alone() {
        let set = set(&[
            (
                "web.toml",
                "exec = 'a'\nrequires = ['dbx', 'nowhere']\nwants = ['gone']\nafter = ['db']",
            ),
            ("dbx2.toml", "exec = 'b'"),
            ("db.toml", "exec = 'b'"),
            ("late.toml", "exec = 'a'\nafter = ['gone']"),
        ]);
        assert_eq!(usable(&set), ["db", "dbx2", "late"]);
        assert_eq!(
            said(&set),
            [
                "late.toml:2:10: warning: `after` names `gone`, which is not defined: it is skipped; add gone.toml, or remove the name",
                "web.toml:2:13: `requires` names `dbx`, which is not defined: did you mean `db`?",
                "web.toml:2:20: `requires` names `nowhere`, which is not defined: add nowhere.toml, or remove the name",
                "web.toml:3:10: warning: `wants` names `gone`, which is not defined: it is skipped; add gone.toml, or remove the name",
            ]
        );
        let web = set.entries.iter().find(|e| &*e.name == "web").expect("web");
        let error = web.definition.as_ref().expect_err("broken");
        assert_eq!(error.lines().count(), 2);
        assert!(error.starts_with("web.toml:2:13: "), "{error}");
    }

    #[test]
    fn of_ties_those_are_told_that_cannot_be_meant() {
        let set = set(&[
            ("a.toml", "exec = 'a'\nconflicts = ['b', 'c', 'gone']"),
            ("b.toml", "exec = 'b'\nconflicts = ['a']"),
            ("c.toml", "exec = 'c'\nautostart = false"),
            (
                "d.toml",
                "exec = 'd'\nafter_exit = ['a', 'once']\nbefore = ['a']",
            ),
            ("once.toml", "exec = 'o'\nkind = 'oneshot'"),
            ("e.toml", "exec = 'e'\nmilestone = ['onec']"),
        ]);
        assert_eq!(usable(&set), ["a", "b", "c", "d", "once"]);
        assert_eq!(
            said(&set),
            [
                "a.toml:2:24: warning: `conflicts` names `gone`, which is not defined: it is skipped; add gone.toml, or remove the name",
                "a.toml:2:14: warning: `conflicts` names `b`, and both start by themselves: `a` is the one, as the first by name; set `autostart` to false in the other",
                "d.toml:2:15: warning: `after_exit` names `a`, which is started again whenever it ends: this one starts when an operator stops it; did you mean `after`?",
                "e.toml:2:14: `milestone` names `onec`, which is not defined: did you mean `once`?",
            ]
        );
    }

    #[test]
    fn a_broken_requirement_is_known() {
        let set = set(&[
            ("web.toml", "exec = 'a'\nrequires = ['db']"),
            ("db.toml", "exec = 5"),
        ]);
        assert_eq!(usable(&set), ["web"]);
        let web = set.entries.iter().find(|e| &*e.name == "web").expect("web");
        assert_eq!(
            (web.dependencies[0].line, web.dependencies[0].column),
            (2, 13)
        );
    }

    #[test]
    fn a_bad_name_is_a_problem_and_no_service() {
        let set = set(&[("a b.toml", "exec = 'a'")]);
        assert_eq!(set.entries.len(), 0);
        assert_eq!(
            said(&set),
            [
                "a b.toml:1:1: the name `a b` has ` `: write letters, digits, `.`, `_`, `@`, `-`; rename the file"
            ]
        );
    }
}
