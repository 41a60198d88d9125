//! `dossier list` and `dossier show`: read from the state directory's files by a helper, for a disk
//! may stall.
//!
//! Invariants: nothing outside that directory is read, whatever is asked for; of a file that is
//! broken the rest is shown.

use super::jobs::Work;
use super::*;
use crate::control::calls::DossiersAsked;
use crate::control::dossier::{BEHIND_HEAD, Dossier, Dossiers, Head};
use crate::control::verbs::Shape;
use crate::engine::Refusal;
use crate::engine::code;
use crate::reactor::helper;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Heads told of, and how long one is at most.
const MOST: usize = 10_000;
const HEAD_BYTES: u64 = 4096;
const LIMIT: usize = 8 * 1024 * 1024;

impl Reactor {
    pub(super) fn show_dossiers(&mut self, ticket: Ticket, asked: &DossiersAsked) {
        let dir = self.state_dir.join("dossiers");
        let origin = self.spawner.origin();
        let helper = helper::start(c"vitald-dossier", origin, &[], LIMIT, |out| {
            let found = match &asked.id {
                Some(id) => one(&dir, id),
                None => Ok(list(&dir, asked)),
            };
            let sent = match found {
                Ok(json) => out.write_all(b"+").and_then(|()| out.write_all(&json)),
                Err(words) => write!(out, "-{words}"),
            };
            u8::from(sent.is_err())
        });
        let shape = match asked.id {
            Some(_) => Shape::Dossier,
            None => Shape::Dossiers,
        };
        let work = Work::Dossiers { ticket, shape };
        if let Err(error) = helper.and_then(|helper| self.watch_helper(helper, work)) {
            let words = format!("cannot read dossiers: {}", error.step);
            self.answer(ticket, &Err(Refusal::new(code::INTERNAL, &words)));
        }
    }

    pub(super) fn dossiers_found(&mut self, ticket: Ticket, shape: Shape, exit: Exit, said: &[u8]) {
        let said = String::from_utf8_lossy(said);
        if let Some(json) = said.strip_prefix('+').filter(|_| exit == Exit::Code(0)) {
            return self.answer_told(ticket, shape, json.trim_end());
        }
        let (code, words) = match said.strip_prefix('-') {
            Some(words) => (code::NOT_FOUND, words.to_owned()),
            None => (
                code::INTERNAL,
                format!("dossiers could not be read: {exit}"),
            ),
        };
        self.answer(ticket, &Err(Refusal::new(code, &words)));
    }
}

/// Names of those that are there, and the service of each; the oldest first.
fn names(dir: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<(String, String)> = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
        if let Some((id, service)) = id.and_then(|id| Some((id, Dossier::service_of(id)?))) {
            names.push((id.to_owned(), service.to_owned()));
        }
    }
    names.sort_by(|(a, a_of), (b, b_of)| a[a_of.len()..].cmp(&b[b_of.len()..]));
    names
}

fn list(dir: &Path, asked: &DossiersAsked) -> Vec<u8> {
    let mut names = names(dir);
    names.retain(|(_, service)| asked.wants(service));
    let skip = names.len().saturating_sub(MOST);
    let heads = names.iter().skip(skip).map(|(id, service)| {
        head(&dir.join(format!("{id}.json"))).unwrap_or_else(|| Head {
            id: id.clone(),
            service: service.clone(),
            summary: "its file is broken".to_owned(),
            ..Head::default()
        })
    });
    let dossiers = Dossiers {
        dossiers: heads.collect(),
    };
    serde_json::to_vec(&dossiers).unwrap_or_default()
}

/// Not what would never answer: a FIFO that stands in its place.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}

fn head(path: &Path) -> Option<Head> {
    let mut text = Vec::new();
    open(path)
        .ok()?
        .take(HEAD_BYTES)
        .read_to_end(&mut text)
        .ok()?;
    let text = String::from_utf8_lossy(&text);
    let (head, _) = text.split_once(BEHIND_HEAD)?;
    serde_json::from_slice(format!("{head}}}").as_bytes()).ok()
}

/// By its name, or the last one of a service.
fn one(dir: &Path, asked: &str) -> Result<Vec<u8>, String> {
    let names = names(dir);
    let mut newest = names.iter().rev();
    let id = match names.iter().find(|(id, _)| id == asked) {
        Some((id, _)) => id,
        None => match newest.find(|(_, service)| service == asked) {
            Some((id, _)) => id,
            None if Dossier::service_of(asked).is_some() => {
                return Err(format!(
                    "no dossier `{asked}` (any more); `dossier list` shows what there is"
                ));
            }
            None => {
                return Err(format!(
                    "no dossier of `{asked}`: it was not stopped for its health, or they are gone; \
                     `dossier list` shows what there is"
                ));
            }
        },
    };
    let path = dir.join(format!("{id}.json"));
    let mut json = Vec::new();
    let read = open(&path).and_then(|f| f.take(LIMIT as u64 / 2).read_to_end(&mut json));
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    match serde_json::from_slice::<Dossier>(&json) {
        Ok(_) => Ok(json),
        Err(error) => Err(format!("{} is broken: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever stands in that directory, a reader gets an answer.
    #[test]
    fn a_fifo_in_a_files_place_holds_nobody_up() {
        let dir = std::env::temp_dir().join(format!("vitald-show-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let name = "web-20261129T101359-r3";
        let fifo = dir.join(format!("{name}.json"));
        let _ = fs::remove_file(&fifo);
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let listed = list(&dir, &DossiersAsked::default());
        let shown = one(&dir, name);
        fs::remove_dir_all(&dir).expect("to be removed");
        let listed = String::from_utf8_lossy(&listed).into_owned();
        assert!(listed.contains("its file is broken"), "{listed}");
        assert!(shown.is_err_and(|words| words.ends_with("it is no file")));
    }
}
