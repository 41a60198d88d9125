//! The definition files, read: at the start by the daemon itself, on a reload by a helper that
//! sends them through its pipe. `check` reads them by the same code.
//!
//! Only reading and joining; what a file means is `config`'s.

use crate::config::load::{self, Outcome};
use crate::config::names::{self, FileKind};
use crate::config::problem::Problem;
use crate::config::set::{self, File};
use crate::config::templates::{self, Instance, Templates};
use crate::engine::Loaded;
use crate::limits::MAX_DEFINITION_BYTES;
use crate::prng::fnv1a;
use crate::reactor::settings;
use std::io::{self, Read, Write};
use std::path::Path;
use std::rc::Rc;

/// A file of the folder `services`, or why it could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raw {
    pub file: String,
    pub bytes: Result<Vec<u8>, String>,
}

/// All files of `DIR/services`, by name. No folder: no files.
pub fn read_files(config_dir: &Path) -> io::Result<Vec<Raw>> {
    let dir = config_dir.join("services");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A name that is no UTF-8 is shown as far as it is, and refused as a name.
        let file = entry.file_name().to_string_lossy().into_owned();
        if matches!(names::of_file(&file), FileKind::Skipped) {
            continue;
        }
        let bytes = read_bounded(&entry.path()).map_err(|error| words(&error));
        files.push(Raw { file, bytes });
    }
    files.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(files)
}

/// One byte more than is allowed is enough to be refused. A FIFO or a device is no file.
pub fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let kind = std::fs::metadata(path)?;
    if !kind.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::with_capacity(kind.len().min(MAX_DEFINITION_BYTES as u64) as usize + 1);
    let file = std::fs::File::open(path)?;
    file.take(MAX_DEFINITION_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `Permission denied (13)`
pub fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => format!("{} ({errno})", nix::errno::Errno::from_raw(errno).desc()),
        None => error.to_string(),
    }
}

/// What the files come to.
pub struct Joined<Service> {
    pub services: Vec<Service>,
    /// All that is wrong with any of them.
    pub problems: Vec<Problem>,
    pub templates: Templates,
    /// Of templates without an instance: what one would be. No services.
    pub examples: Vec<Service>,
}

/// Files, and definitions that were given over the socket (name and text), to services. A file
/// beats what was given, and both beat a template, of which those `instances` are known already.
pub fn join<'a>(
    files: Vec<Raw>,
    given: impl Iterator<Item = (&'a str, &'a str)>,
    instances: &[Instance],
) -> Joined<Loaded> {
    let joined = join_entries(files, given, instances);
    let loaded = |entry: set::Entry| Loaded {
        name: entry.name,
        source: entry.file,
        definition: entry.definition.map(Rc::new),
    };
    Joined {
        services: joined.services.into_iter().map(loaded).collect(),
        problems: joined.problems,
        templates: joined.templates,
        examples: joined.examples.into_iter().map(loaded).collect(),
    }
}

/// The same, with where each names others.
pub fn join_entries<'a>(
    files: Vec<Raw>,
    given: impl Iterator<Item = (&'a str, &'a str)>,
    instances: &[Instance],
) -> Joined<set::Entry> {
    let mut read = Vec::new();
    let mut problems = Vec::new();
    let mut templates = Templates::default();
    for raw in files {
        let shown = format!("services/{}", raw.file);
        match names::of_file(&raw.file) {
            FileKind::Service(name) if names::is_template(name) => {
                templates.add(name, &shown, raw.bytes);
            }
            FileKind::Service(name) => {
                let outcome = match raw.bytes {
                    Ok(bytes) => load::read(name, &shown, &bytes),
                    Err(cause) => Outcome::unreadable(&shown, &cause),
                };
                read.push(File {
                    name: name.into(),
                    file: shown.into(),
                    outcome,
                });
            }
            FileKind::Skipped => {}
            FileKind::Other => {
                let words = "it is no definition: those end in .toml or .json; move it away";
                problems.push(Problem::of_file(&shown, words));
            }
        }
    }
    for (name, text) in given {
        let source = names::given_source(name, text);
        if let Some(file) = read.iter().find(|file| &*file.name == name) {
            let words = format!(
                "{} beats it; `delete {name}` forgets what was set",
                file.file
            );
            problems.push(Problem::warning_of_file(&source, words));
            continue;
        }
        read.push(File {
            name: name.into(),
            outcome: load::read(name, &source, text.as_bytes()),
            file: source.into(),
        });
    }
    templates.complete(&mut read, instances);
    let examples = templates.examples(&read);
    let only_shown: Vec<Box<str>> = examples.iter().map(|file| file.name.clone()).collect();
    read.extend(examples);
    let set = set::join(read);
    problems.extend(set.problems);
    templates::once_each(&mut problems);
    let example = |entry: &set::Entry| only_shown.contains(&entry.name);
    let (examples, services) = set.entries.into_iter().partition(example);
    Joined {
        services,
        problems,
        templates,
        examples,
    }
}

/// Tells these files from others, by name and content.
pub fn digest(files: &[Raw], settings: &settings::Raw) -> u64 {
    let mut all = Vec::new();
    let settings = settings.iter().map(|bytes| Raw {
        file: settings::FILE.to_owned(),
        bytes: bytes.clone(),
    });
    for raw in files.iter().cloned().chain(settings) {
        let (read, bytes) = match &raw.bytes {
            Ok(bytes) => (true, bytes.as_slice()),
            Err(cause) => (false, cause.as_bytes()),
        };
        for part in [raw.file.as_bytes(), &[u8::from(read)], bytes] {
            all.extend_from_slice(&part.len().to_le_bytes());
            all.extend_from_slice(part);
        }
    }
    fnv1a(&all)
}

/// Services as they are supervised when asking them has proven to be our own undoing.
pub fn without_probes(files: &mut [Loaded]) {
    for file in files {
        if let Ok(definition) = &mut file.definition {
            Rc::make_mut(definition).probes = Box::default();
        }
    }
}

/// Tells the daemon's log; the level stands for the severity.
pub fn log(problems: &[Problem]) {
    for problem in problems {
        match problem.is_error() {
            true => log::error!("{problem}"),
            false => log::warn!("{}", problem.place_and_message()),
        }
    }
}

// --- through a pipe

/// Kinds of what is sent, in bits: `vitald.toml`; why it cannot be read, in place of its bytes.
const SETTINGS: u8 = 2;
const UNREAD: u8 = 1;

/// A helper's work: reads the files and sends them, each as name, kind and bytes with lengths.
pub fn send(config_dir: &Path, out: &mut impl Write) -> io::Result<()> {
    let files = read_files(config_dir)?.into_iter().map(|raw| (0, raw));
    let settings = settings::read_raw(config_dir).map(|bytes| Raw {
        file: String::new(),
        bytes,
    });
    let settings = settings.map(|raw| (SETTINGS, raw));
    for (of, raw) in files.chain(settings) {
        let (kind, bytes) = match &raw.bytes {
            Ok(bytes) => (of, bytes.as_slice()),
            Err(cause) => (of | UNREAD, cause.as_bytes()),
        };
        let name = raw.file.as_bytes();
        let mut frame = Vec::with_capacity(9 + name.len() + bytes.len());
        frame.push(kind);
        frame.extend_from_slice(&(name.len() as u32).to_ne_bytes());
        frame.extend_from_slice(&(bytes.len() as u32).to_ne_bytes());
        frame.extend_from_slice(name);
        frame.extend_from_slice(bytes);
        out.write_all(&frame)?;
    }
    out.write_all(b"\xff")
}

/// What [`send`] sent; None when it is not whole.
pub fn receive(mut bytes: &[u8]) -> Option<(Vec<Raw>, settings::Raw)> {
    let (mut files, mut settings) = (Vec::new(), None);
    loop {
        let (kind, rest) = bytes.split_first()?;
        if *kind == 0xff {
            return rest.is_empty().then_some((files, settings));
        }
        let (name_length, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_ne_bytes(*name_length) as usize)?;
        let (content, rest) = rest.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
        let content = match kind & UNREAD {
            0 => Ok(content.to_vec()),
            _ => Err(String::from_utf8_lossy(content).into_owned()),
        };
        match kind & SETTINGS {
            0 => files.push(Raw {
                file: String::from_utf8_lossy(name).into_owned(),
                bytes: content,
            }),
            _ => settings = Some(content),
        }
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_through_the_pipe_whole_or_not_at_all() {
        let dir = std::env::temp_dir().join(format!("vitald-definitions-{}", std::process::id()));
        let services = dir.join("services");
        std::fs::create_dir_all(&services).expect("mkdir");
        std::fs::write(services.join("web.toml"), "exec = [\"web\"]\n").expect("write");
        std::fs::write(services.join("db.json"), "{\"exec\": [\"db\"]}").expect("write");
        std::fs::create_dir_all(services.join("folder.toml")).expect("mkdir");
        let mut sent = Vec::new();
        send(&dir, &mut sent).expect("send");
        let (files, none) = receive(&sent).expect("whole");
        assert_eq!(none, None);
        let without = digest(&files, &none);
        std::fs::write(dir.join("vitald.toml"), "record = true\n").expect("write");
        let mut sent = Vec::new();
        send(&dir, &mut sent).expect("send");
        let (files, settings) = receive(&sent).expect("whole");
        assert_eq!(files, read_files(&dir).expect("read"));
        assert_eq!(settings, Some(Ok(b"record = true\n".to_vec())));
        assert_ne!(digest(&files, &settings), without);
        for cut in 0..sent.len() {
            assert_eq!(receive(&sent[..cut]), None, "cut at {cut}");
        }
        let Joined {
            services: loaded,
            problems,
            ..
        } = join(files, std::iter::empty(), &[]);
        std::fs::remove_dir_all(&dir).expect("rmdir");
        let good = |name: &str| {
            let found = loaded.iter().find(|l| &*l.name == name);
            found.map(|l| l.definition.is_ok())
        };
        assert_eq!(
            (good("web"), good("db"), good("folder")),
            (Some(true), Some(true), Some(false))
        );
        assert_eq!(problems.len(), 1);
        assert_eq!(
            problems[0].to_string(),
            "services/folder.toml: cannot read it: not a regular file"
        );
    }
}
