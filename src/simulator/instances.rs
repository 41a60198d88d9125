//! Templates in a world: `define worker@`, then `start worker@7`.

use super::World;
use crate::config::Relation;
use crate::config::load::{Dependency, Outcome};
use crate::config::set::File;
use crate::config::templates::Instance;
use crate::engine::{Defined, Loaded, NewInstance};
use std::rc::Rc;

impl World {
    pub(super) fn define_template(&mut self, name: &str, text: &str) {
        let file = format!("services/{name}.toml");
        let mut all = self.templates.without(name);
        all.add(name, &file, Ok(text.as_bytes().to_vec()));
        self.templates = all;
    }

    /// The instances that belong to these services.
    pub(super) fn add_instances(&self, all: &mut Vec<Loaded>, known: &[Instance]) {
        let mut files: Vec<File> = all.iter().map(file).collect();
        let there = files.len();
        self.templates.complete(&mut files, known);
        all.extend(files.drain(there..).map(loaded));
        all.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// What an operator's `start` of a name without a service asks for.
    pub(super) fn new_instance(&self, name: &str, once: bool) -> Option<Box<NewInstance>> {
        self.templates.file_of(name)?;
        let asked = Instance {
            name: name.into(),
            wanted: true,
        };
        let mut files: Vec<File> = self.definitions.values().map(file).collect();
        let there = files.len();
        self.templates.complete_by(&mut files, asked);
        Some(Box::new(NewInstance {
            name: name.into(),
            files: files.drain(there..).filter_map(defined).collect(),
            once,
            with_requires: false,
            pin: false,
        }))
    }
}

/// As if it had just been read.
fn file(loaded: &Loaded) -> File {
    let definition = loaded.definition.as_ref().ok();
    let named = definition.into_iter().flat_map(|definition| {
        let required = definition.requires.iter().map(|n| (Relation::Requires, n));
        let ties = definition.ties.iter();
        let milestones = ties.flat_map(|ties| ties.milestone.iter());
        let wanted = definition.wants.iter().map(|n| (Relation::Wants, n));
        let milestones = milestones.map(|n| (Relation::Milestone, n));
        required.chain(wanted).chain(milestones)
    });
    let dependencies = named.map(|(relation, name)| Dependency {
        relation,
        name: name.clone(),
        line: 0,
        column: 0,
    });
    File {
        name: loaded.name.clone(),
        file: loaded.source.clone(),
        outcome: Outcome {
            definition: definition.map(|definition| (**definition).clone()),
            dependencies: dependencies.collect(),
            ..Outcome::default()
        },
    }
}

/// What cannot be used the control socket refuses.
fn defined(file: File) -> Option<Defined> {
    Some(Defined {
        name: file.name,
        source: file.file,
        definition: file.outcome.definition?,
    })
}

fn loaded(file: File) -> Loaded {
    let problems: Vec<String> = file
        .outcome
        .problems
        .iter()
        .map(ToString::to_string)
        .collect();
    let definition = file.outcome.definition.map(Rc::new);
    Loaded {
        name: file.name,
        source: file.file,
        definition: definition.ok_or_else(|| problems.join("\n").into()),
    }
}
