//! Templates: `worker@.toml` says what each of `worker@1`, `worker@2` … is.
//!
//! A template is no service. An instance of it is there when a definition names it (`instances` in
//! the template, `requires` or `wants` anywhere) or when an operator wants it. In the strings of a
//! template `%i` is the instance, `%n` its whole name, `%%` a percent sign: the tree is rewritten
//! before anything reads it, so that this holds for every key alike.
//!
//! Invariants: an own file, or a definition that was `set`, beats the template; while a definition
//! is broken no instance is taken away; no more instances are made than services may be.

use crate::config::Relation;
use crate::config::load::{self, Outcome};
use crate::config::names;
use crate::config::problem::{Problem, Problems};
use crate::config::set::File;
use crate::config::tree::{Entry, Node, Value};
use crate::limits::MAX_SERVICES;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// What `%i` is where a template is only looked at.
pub const EXAMPLE: &str = "1";

/// The key that names instances; what it holds is not rewritten.
const INSTANCES: &str = "instances";

/// An instance that is known from before the files were read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    pub name: Box<str>,
    /// An operator wants it, whoever else names it.
    pub wanted: bool,
}

/// One template file.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Template {
    /// With its `@`.
    name: Box<str>,
    /// As it is named in messages: `services/worker@.toml`.
    file: Box<str>,
    /// Or why it cannot be used, whatever is in it.
    bytes: Result<Vec<u8>, Box<str>>,
}

/// All templates there are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Templates(Vec<Template>);

impl Templates {
    pub const NONE: Templates = Templates(Vec::new());

    /// One more file. Of two with one name neither is used.
    pub fn add(&mut self, name: &str, file: &str, bytes: Result<Vec<u8>, String>) {
        let mut bytes: Result<Vec<u8>, Box<str>> =
            bytes.map_err(|cause| format!("cannot read it: {cause}").into());
        for twin in self.0.iter_mut().filter(|other| &*other.name == name) {
            let words = |other: &str| {
                format!("the template `{name}` is also defined in {other}: remove one of the two")
            };
            twin.bytes = Err(words(file).into());
            bytes = Err(words(&twin.file).into());
        }
        self.0.push(Template {
            name: name.into(),
            file: file.into(),
            bytes,
        });
    }

    /// All but this one.
    pub fn without(&self, name: &str) -> Templates {
        let others = self.0.iter().filter(|template| &*template.name != name);
        Templates(others.cloned().collect())
    }

    fn of(&self, service: &str) -> Option<&Template> {
        let (name, _) = names::instance_of(service)?;
        self.0.iter().find(|template| &*template.name == name)
    }

    /// The file of the template of which `service` would be an instance.
    pub fn file_of(&self, service: &str) -> Option<&str> {
        Some(&self.of(service)?.file)
    }

    /// Whether this is the name of a template.
    pub fn is_one(&self, name: &str) -> bool {
        self.0.iter().any(|template| &*template.name == name)
    }

    /// Adds what else is there with `files` and `known`: instances, and whom these name.
    pub fn complete(&self, files: &mut Vec<File>, known: &[Instance]) {
        let mut named: Vec<Box<str>> = Vec::new();
        let mut broken = false;
        for template in &self.0 {
            let listed = template.read(EXAMPLE).outcome.instances;
            broken |= listed.is_none();
            let listed = listed.iter().flatten();
            named.extend(listed.map(|one| format!("{}{one}", template.name).into()));
        }
        named.extend(files.iter().flat_map(needs));
        let wanted = known.iter().filter(|one| one.wanted);
        named.extend(wanted.map(|one| one.name.clone()));
        self.make(files, named);
        // Whom a broken definition names cannot be told: all stay that there are.
        if broken || files.iter().any(|file| file.outcome.definition.is_none()) {
            self.make(files, known.iter().map(|one| one.name.clone()).collect());
        }
    }

    /// As [`complete`](Templates::complete), where all is there but one that is asked for, and
    /// whom it needs.
    pub fn complete_by(&self, files: &mut Vec<File>, asked: Instance) {
        self.make(files, vec![asked.name]);
    }

    fn make(&self, files: &mut Vec<File>, mut named: Vec<Box<str>>) {
        let before = files.len();
        let mut there: BTreeSet<Box<str>> = files.iter().map(|file| file.name.clone()).collect();
        // The first named are the first made, should there be too many.
        named.reverse();
        while let Some(name) = named.pop() {
            let Some(template) = self.of(&name).filter(|_| !there.contains(&name)) else {
                continue;
            };
            if files.len() >= MAX_SERVICES {
                too_many(&mut files[before..]);
                break;
            }
            let (_, instance) = names::instance_of(&name).unwrap_or_default();
            let file = template.read(instance);
            named.extend(needs(&file));
            there.insert(name);
            files.push(file);
        }
        for file in files {
            self.excuse(&mut file.outcome, |name| there.contains(name));
        }
    }

    /// An instance of each template that has none, so that something is said of it.
    pub fn examples(&self, files: &[File]) -> Vec<File> {
        let unused = |template: &&Template| files.iter().all(|file| file.file != template.file);
        let mut there: BTreeSet<Box<str>> = files.iter().map(|file| file.name.clone()).collect();
        let mut examples = Vec::new();
        for template in self.0.iter().filter(unused) {
            let mut file = template.read(EXAMPLE);
            // An own file may have taken the name.
            while !there.insert(file.name.clone()) {
                file.name = format!("{}{EXAMPLE}", file.name).into();
            }
            let has_template = |name: &str| self.of(name).is_some();
            let outcome = &mut file.outcome;
            outcome.dependencies = outcome
                .dependencies
                .iter()
                .filter(|one| !has_template(&one.name))
                .cloned()
                .collect();
            examples.push(file);
        }
        examples
    }

    /// Who only waits for an instance that is not there now need not be warned: it may come.
    fn excuse(&self, outcome: &mut Outcome, is_there: impl Fn(&str) -> bool) {
        let unmade = |name: &str| !is_there(name) && self.of(name).is_some();
        let excused = |relation, name: &str| !makes(relation) && unmade(name);
        let all = outcome.dependencies.iter();
        if all.clone().any(|one| excused(one.relation, &one.name)) {
            let stay = all.filter(|one| !excused(one.relation, &one.name));
            outcome.dependencies = stay.cloned().collect();
        }
    }
}

impl Template {
    fn read(&self, instance: &str) -> File {
        let name = format!("{}{instance}", self.name);
        let outcome = match &self.bytes {
            Ok(bytes) => load::read_instance(&name, instance, &self.file, bytes),
            Err(words) => Outcome {
                problems: vec![Problem::of_file(&self.file, words.clone())],
                ..Outcome::default()
            },
        };
        File {
            name: name.into(),
            file: self.file.clone(),
            outcome,
        }
    }
}

/// It may be that each of them names more of them: who is the one too many cannot be told.
fn too_many(made: &mut [File]) {
    for file in made {
        let words = format!(
            "with its instances, and whom these need, there are more than {MAX_SERVICES} services: \
             list fewer, and let none need others of its kind by %i"
        );
        file.outcome = Outcome {
            problems: vec![Problem::of_file(&file.file, words)],
            ..Outcome::default()
        };
    }
}

/// Who is named so is to be there; who is named otherwise only matters when he is.
fn makes(relation: Relation) -> bool {
    relation.is_need() || relation == Relation::Wants
}

/// Whom a file wants to be there.
fn needs(file: &File) -> impl Iterator<Item = Box<str>> {
    let all = file.outcome.dependencies.iter();
    all.filter(|one| makes(one.relation))
        .map(|one| one.name.clone())
}

/// Says once what is wrong with a template, not once for each instance.
pub fn once_each(problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    problems.retain(|problem| {
        let (stem, _) = problem.file.rsplit_once('.').unwrap_or((&problem.file, ""));
        let key = (problem.file.clone(), problem.line, problem.column);
        // What concerns the file as a whole has no place to be told by.
        let words = match problem.line {
            0 => problem.message.clone(),
            _ => "".into(),
        };
        !names::is_template(stem) || seen.insert((key, words, problem.is_error()))
    });
}

/// What the key `instances` lists, as far as it can be used; None: that cannot be told.
pub fn listed(root: &[Entry<'_>]) -> Option<Box<[Box<str>]>> {
    let Some(entry) = root.iter().find(|entry| entry.key == INSTANCES) else {
        return Some(Box::default());
    };
    let Value::Array(items) = &entry.value.value else {
        return None;
    };
    let words = items.iter().map(|item| match &item.value {
        Value::String(word) if is_instance(word) => Some(word.as_ref().into()),
        _ => None,
    });
    words.collect()
}

fn is_instance(word: &str) -> bool {
    names::check(&format!("x{word}")).is_ok() && !word.is_empty()
}

/// Puts the instance in for `%i` and its like, in all strings of a template.
pub fn fill(root: &mut [Entry<'_>], name: &str, instance: &str, p: &mut Problems) {
    for entry in root.iter_mut().filter(|entry| entry.key != INSTANCES) {
        fill_node(&mut entry.value, name, instance, p);
    }
}

/// The tree's depth is bounded.
fn fill_node(node: &mut Node<'_>, name: &str, instance: &str, p: &mut Problems) {
    match &mut node.value {
        Value::Table(entries) => {
            for entry in entries {
                fill_node(&mut entry.value, name, instance, p);
            }
        }
        Value::Array(items) => {
            for item in items {
                fill_node(item, name, instance, p);
            }
        }
        Value::String(text) => match filled(text, name, instance) {
            Ok(None) => {}
            Ok(Some(new)) => *text = Cow::Owned(new),
            Err(odd) => p.error(
                node.at,
                format!(
                    "`{odd}` means nothing in a template: %i is the instance, %n the whole name, \
                     and %% a percent sign"
                ),
            ),
        },
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Other(_) => {}
    }
}

/// None: there is nothing to put in.
fn filled(text: &str, name: &str, instance: &str) -> Result<Option<String>, String> {
    let Some((before, mut rest)) = text.split_once('%') else {
        return Ok(None);
    };
    let mut new = before.to_owned();
    loop {
        let mut letters = rest.chars();
        match letters.next() {
            Some('i') => new.push_str(instance),
            Some('n') => new.push_str(name),
            Some('%') => new.push('%'),
            Some(odd) => return Err(format!("%{}", odd.escape_debug())),
            None => return Err("%".to_owned()),
        }
        let Some((before, after)) = letters.as_str().split_once('%') else {
            new.push_str(letters.as_str());
            return Ok(Some(new));
        };
        new.push_str(before);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::definition::Ask;
    use crate::config::set;

    /// Files by name, as they are joined; known instances, `!` before those that operators want.
    fn joined(files: &[(&str, &str)], known: &[&str]) -> (set::Set, Vec<String>) {
        let mut templates = Templates::default();
        let mut read = Vec::new();
        for (file, text) in files {
            let stem = file.rsplit_once('.').expect("an ending").0;
            if names::is_template(stem) {
                templates.add(stem, file, Ok(text.as_bytes().to_vec()));
                continue;
            }
            read.push(File {
                name: stem.into(),
                file: (*file).into(),
                outcome: load::read(stem, file, text.as_bytes()),
            });
        }
        let known: Vec<Instance> = known
            .iter()
            .map(|name| Instance {
                name: name.trim_start_matches('!').into(),
                wanted: name.starts_with('!'),
            })
            .collect();
        templates.complete(&mut read, &known);
        read.extend(templates.examples(&read));
        let mut set = set::join(read);
        once_each(&mut set.problems);
        let said = set.problems.iter().map(Problem::to_string).collect();
        (set, said)
    }

    fn there(set: &set::Set) -> Vec<&str> {
        set.entries.iter().map(|entry| &*entry.name).collect()
    }

    #[test]
    fn the_instance_stands_in_every_string_of_its_definition() {
        let text = r#"
description = "100 %% of %n"
exec = "worker --id %i '%i %%'"
instances = ["80"]
env = { ID = "%i" }
working_dir = "/srv/%n"
after = ["db@%i"]
[[probe]]
type = "tcp"
target = "127.0.0.1:80%i"
send = "%i"
expect = "%n"
"#;
        let (set, said) = joined(
            &[("worker@.toml", text), ("db@80.toml", "exec = 'db'")],
            &[],
        );
        assert_eq!(said, [""; 0]);
        assert_eq!(there(&set), ["db@80", "worker@80"]);
        let definition = set.entries[1].definition.as_ref().expect("usable");
        let words: Vec<&str> = definition.exec.iter().map(|word| &**word).collect();
        assert_eq!(words, ["worker", "--id", "80", "80 %"]);
        assert_eq!(
            definition.description.as_deref(),
            Some("100 % of worker@80")
        );
        assert_eq!(&*definition.process.env["ID"], "80");
        let dir = definition.process.working_dir.as_deref();
        assert_eq!(dir, Some("/srv/worker@80"));
        assert_eq!(&*definition.after[0], "db@80");
        let Ask::Tcp { address, .. } = &definition.probes[0].ask else {
            panic!("not tcp");
        };
        let asked = format!("{address:?}");
        assert!(asked.contains("8080"), "{asked}");
    }

    #[test]
    fn an_instance_is_there_when_somebody_names_it() {
        let files = [
            (
                "worker@.toml",
                "exec = 'w %i'\ninstances = ['1']\nrequires = ['db@%i']",
            ),
            ("db@.toml", "exec = 'db %i'"),
            ("db@2.toml", "exec = 'own'"),
            (
                "web.toml",
                "exec = 'web'\nwants = ['worker@2']\nafter = ['worker@9']",
            ),
        ];
        let (set, said) = joined(&files, &["!worker@3", "worker@4", "gone@1"]);
        assert_eq!(said, [""; 0]);
        assert_eq!(
            there(&set),
            [
                "db@1", "db@2", "db@3", "web", "worker@1", "worker@2", "worker@3"
            ]
        );
        let own = set.entries[1].definition.as_ref().expect("usable");
        assert_eq!(&*own.exec[0], "own");
        assert_eq!(&*set.entries[4].file, "worker@.toml");
    }

    #[test]
    fn a_broken_definition_takes_no_instance_away() {
        let broken = [
            ("worker@.toml", "exec = 'w %i'\nrequires = ['db@%i'"),
            ("db@.toml", "exec = 'db %i'"),
        ];
        let (set, said) = joined(&broken, &["worker@1", "db@1"]);
        assert_eq!(there(&set), ["db@1", "worker@1"]);
        assert!(set.entries[0].definition.is_ok() && set.entries[1].definition.is_err());
        assert_eq!(said.len(), 1, "{said:?}");
        let whole = [
            ("worker@.toml", "exec = 'w %i'"),
            ("db@.toml", "exec = 'db'"),
        ];
        let (set, _) = joined(&whole, &["worker@1", "db@1"]);
        // The examples, which are no services; of what was known none is named any more.
        assert_eq!(
            set.entries.iter().filter(|e| e.definition.is_ok()).count(),
            2
        );
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said_once_and_with_its_place() {
        let text = "exec = 'w %x'\ninstances = ['1', '2', 'a b', 5, '']\nworking_dir = '/50%'\n";
        let (set, said) = joined(&[("worker@.toml", text)], &[]);
        let means = "means nothing in a template: %i is the instance, %n the whole name, and %% a \
                     percent sign";
        assert_eq!(
            said,
            [
                format!("worker@.toml:1:8: `%x` {means}"),
                "worker@.toml:2:24: `instances`: the name `worker@a b` has ` `: write letters, \
                 digits, `.`, `_`, `@`, `-`"
                    .to_owned(),
                "worker@.toml:2:31: `instances` must hold words, not an integer: write \"1\""
                    .to_owned(),
                "worker@.toml:2:34: `instances` has an empty word: write \"1\"".to_owned(),
                format!("worker@.toml:3:15: `%` {means}"),
            ]
        );
        assert!(set.entries.iter().all(|entry| entry.definition.is_err()));
        // One that nobody is an instance of is looked at all the same.
        let (_, said) = joined(&[("lone@.toml", "exec = 'w'\nrequires = ['nobody']")], &[]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("lone@.toml:2:13: "), "{said:?}");
    }

    #[test]
    fn templates_are_not_services_and_services_are_not_templates() {
        let web = "exec = 'web'\nrequires = ['worker@', 'none@1']\ninstances = ['1']";
        let files = [("web.toml", web), ("worker@.toml", "exec = 'w'")];
        let (_, said) = joined(&files, &[]);
        assert_eq!(
            said,
            [
                "web.toml:2:13: `requires`: `worker@` is a template, no service: name an instance, \
                 as in `worker@1`",
                "web.toml:3:1: `instances` is for templates: remove it, or call the file `web@`, \
                 and write %i where its instances differ",
                "web.toml:2:24: `requires` names `none@1`, which is not defined: add none@1.toml, \
                 or remove the name",
            ]
        );
    }

    #[test]
    fn two_templates_of_one_name_define_nothing() {
        let files = [
            ("worker@.toml", "exec = 'a'\ninstances = ['1']"),
            ("worker@.json", r#"{"exec": "b"}"#),
        ];
        let (set, said) = joined(&files, &["!worker@3"]);
        assert!(set.entries.iter().all(|entry| entry.definition.is_err()));
        assert_eq!(
            said,
            [
                "worker@.json: the template `worker@` is also defined in worker@.toml: remove one \
                 of the two",
                "worker@.toml: the template `worker@` is also defined in worker@.json: remove one \
                 of the two",
            ]
        );
    }

    #[test]
    fn instances_that_name_more_of_them_come_to_an_end() {
        let text = "exec = 'w'\ninstances = ['1']\nrequires = ['w@%ix', 'w@%iy']";
        let (set, said) = joined(&[("w@.toml", text)], &[]);
        assert_eq!(set.entries.len(), MAX_SERVICES);
        assert!(set.entries.iter().all(|entry| entry.definition.is_err()));
        assert_eq!(said.len(), 1, "{said:?}");
    }
}
