//! One file: its bytes to a definition, or to all that is wrong with it.

use crate::config::definition::Definition;
use crate::config::problem::{Problem, Problems, Syntax};
use crate::config::service;
use crate::config::ties::Relation;
use crate::config::tree::{Lines, Node, Place, Span, Value};
use crate::config::{from_json, from_toml, lint, names, templates};
use crate::limits::MAX_DEFINITION_BYTES;

/// What came of one file.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outcome {
    /// Present when no problem is an error.
    pub definition: Option<Definition>,
    /// In the order of the file.
    pub problems: Vec<Problem>,
    /// The services it names, for checks over all files. May be dropped after those.
    pub dependencies: Box<[Dependency]>,
    /// Of a template: which instances it wants to be there; None: that cannot be told.
    pub instances: Option<Box<[Box<str>]>>,
    /// Where its probes stand: line and column.
    pub probes: Box<[(u32, u32)]>,
}

/// A service that a definition names, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dependency {
    pub relation: Relation,
    pub name: Box<str>,
    pub line: u32,
    pub column: u32,
}

impl Outcome {
    /// The file could not be read at all; `cause` says why: `Permission denied (13)`.
    pub fn unreadable(file: &str, cause: &str) -> Outcome {
        Outcome {
            problems: vec![Problem::of_file(file, format!("cannot read it: {cause}"))],
            ..Outcome::default()
        }
    }
}

/// Reads the definition of `name` from the bytes of `file`: JSON when its name ends in `.json`,
/// else TOML. A template is read as an example of it.
pub fn read(name: &str, file: &str, bytes: &[u8]) -> Outcome {
    match names::is_template(name) {
        true => {
            let example = templates::EXAMPLE;
            read_instance(&format!("{name}{example}"), example, file, bytes)
        }
        false => read_as(name, None, file, bytes),
    }
}

/// Reads the definition of `name`, an instance of the template that is in `file`.
pub fn read_instance(name: &str, instance: &str, file: &str, bytes: &[u8]) -> Outcome {
    read_as(name, Some(instance), file, bytes)
}

fn read_as(name: &str, instance: Option<&str>, file: &str, bytes: &[u8]) -> Outcome {
    let mut listed = None;
    let mut p = Problems::new(syntax_of(file));
    if let Err(problem) = names::check(name) {
        p.error(Span::default(), format!("{problem}; rename the file"));
    }
    let built = text_of(bytes, &mut p).and_then(|text| {
        let mut root = parse(text, &mut p)?;
        let Value::Table(entries) = &mut root.value else {
            let what = root.value.what();
            p.error(
                root.at,
                format!("a definition is an object {{ \"exec\": … }}, not {what}"),
            );
            return None;
        };
        if let Some(instance) = instance {
            listed = templates::listed(entries);
            templates::fill(entries, name, instance, &mut p);
        }
        let built = service::build(name, instance.is_some(), entries, &mut p)?;
        if !p.has_errors() {
            lint::check(&built.definition, &built.places, &mut p);
        }
        Some(built)
    });
    Outcome {
        instances: listed,
        ..finish(built, file, bytes, p)
    }
}

fn finish(built: Option<service::Built>, file: &str, bytes: &[u8], p: Problems) -> Outcome {
    let nothing_to_place = p.is_empty()
        && built
            .as_ref()
            .is_some_and(|b| b.dependencies.is_empty() && b.places.probes.is_empty());
    if nothing_to_place {
        return Outcome {
            definition: built.map(|b| b.definition),
            ..Outcome::default()
        };
    }
    let lines = Lines::new(without_mark(bytes));
    let broken = p.has_errors();
    let (definition, named, probes) = match built {
        Some(built) => (
            Some(built.definition),
            built.dependencies,
            built.places.probes,
        ),
        None => (None, Vec::new(), Vec::new()),
    };
    let probes = probes.into_iter().map(|at| {
        let Place { line, column } = lines.place(at.start);
        (line, column)
    });
    let dependencies = named
        .into_iter()
        .map(|(relation, name, at)| {
            let Place { line, column } = lines.place(at.start);
            Dependency {
                relation,
                name,
                line,
                column,
            }
        })
        .collect();
    Outcome {
        definition: definition.filter(|_| !broken),
        problems: p.finish(file, &lines),
        dependencies,
        instances: None,
        probes: probes.collect(),
    }
}

/// By the end of the file's name.
pub fn syntax_of(file: &str) -> Syntax {
    match file.ends_with(".json") {
        true => Syntax::Json,
        false => Syntax::Toml,
    }
}

/// The tree, by the file's syntax.
pub fn parse<'a>(text: &'a str, p: &mut Problems) -> Option<Node<'a>> {
    match p.syntax {
        Syntax::Toml => from_toml::parse(text, p),
        Syntax::Json => from_json::parse(text, p),
    }
}

/// The text of a file: not too long, and UTF-8.
pub fn text_of<'a>(bytes: &'a [u8], p: &mut Problems) -> Option<&'a str> {
    if bytes.len() > MAX_DEFINITION_BYTES {
        p.error(
            Span::default(),
            format!(
                "has {} bytes; at most {MAX_DEFINITION_BYTES} are read",
                bytes.len()
            ),
        );
        return None;
    }
    let bytes = without_mark(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let at = error.valid_up_to();
            let byte = bytes.get(at).copied().unwrap_or(0);
            p.error(
                Span::new(at, at),
                format!("not UTF-8: byte 0x{byte:02X}; save the file as UTF-8"),
            );
            None
        }
    }
}

/// Without the byte order mark that some editors write.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}
