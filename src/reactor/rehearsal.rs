//! What a program says to `run … --rehearse`: whether it could take a running daemon's place, with
//! the same arguments, directories and handover. Nothing is changed, locked or listened to.
//!
//! The daemon runs the new program so, in a helper, before it executes it in its own place
//! (`upgrade`). One line of JSON is the answer; fields are added, never renamed.

use super::definitions;
use super::reexec::Handover;
use crate::engine::instances::known_before;
use crate::journal::runtime::{self, Identity};
use crate::journal::state;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// Of each kind, so that the answer has an end.
const MOST: usize = 32;
const WORDS: usize = 400;

/// What the program found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rehearsal {
    /// Its version. Without it, it is no answer.
    pub vitald: String,
    /// Why it could not take over: state would be lost, or services started twice.
    pub obstacles: Vec<String>,
    /// Services whose definition it cannot read, and why.
    pub unread: Vec<(String, String)>,
}

impl Rehearsal {
    /// Looks at all that a daemon reads at its start.
    pub fn perform(config_dir: &Path, state_dir: &Path, runtime_dir: &Path) -> Rehearsal {
        let mut rehearsal = Rehearsal {
            vitald: env!("CARGO_PKG_VERSION").to_owned(),
            ..Rehearsal::default()
        };
        if let Err(obstacle) = rehearsal.journal(runtime_dir) {
            rehearsal.obstacles.push(obstacle);
        }
        let wanted = state::load(state_dir);
        if wanted.newer {
            rehearsal.obstacles.extend(wanted.notes);
        }
        if let Err(error) = rehearsal.definitions(config_dir, &wanted.wanted) {
            let shown = config_dir.display();
            let words = format!("cannot read {shown}/services: {error}");
            rehearsal.obstacles.push(words);
        }
        rehearsal.bound();
        rehearsal
    }

    fn journal(&self, runtime_dir: &Path) -> Result<(), String> {
        let handed_over = match Handover::read() {
            Some(Ok(handover)) => handover.identity,
            Some(Err(error)) => {
                return Err(format!("cannot understand what is handed over: {error}"));
            }
            None => None,
        };
        let identity = match handed_over {
            Some(identity) => identity,
            None => Identity::read().map_err(|error| {
                format!("cannot tell this boot from another ({error}); mount /proc first")
            })?,
        };
        runtime::examine(runtime_dir, &identity)
    }

    fn definitions(
        &mut self,
        config_dir: &Path,
        wanted: &[crate::engine::snapshot::WantedRecord],
    ) -> io::Result<()> {
        let files = definitions::read_files(config_dir)?;
        let given = wanted
            .iter()
            .filter_map(|record| Some((&*record.name, record.definition.as_deref()?)));
        let instances = known_before(wanted, &[], None);
        for service in definitions::join(files, given, &instances).services {
            if let Err(problem) = service.definition {
                self.unread.push((service.name.into(), problem.into()));
            }
        }
        Ok(())
    }

    fn bound(&mut self) {
        let more = self.unread.len().saturating_sub(MOST);
        if more > 0 {
            self.unread.truncate(MOST);
            let words = format!("{more} more definitions cannot be read");
            self.obstacles.push(words);
        }
        self.obstacles.truncate(MOST);
        let words = self.unread.iter_mut().map(|(_, why)| why);
        for text in words.chain(&mut self.obstacles) {
            *text = text.chars().take(WORDS).collect();
        }
    }

    /// The answer; at most [`BYTES`].
    pub fn line(&self) -> String {
        // Strings in lists: it cannot fail to be put as JSON.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// Reads an answer; None: it is none.
    pub fn read(text: &str) -> Option<Rehearsal> {
        let read: Rehearsal = serde_json::from_slice(text.lines().next()?.as_bytes()).ok()?;
        (!read.vitald.is_empty()).then_some(read)
    }
}

/// What an answer may have: twice the characters of all it holds, in UTF-8, and names.
pub const BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_an_end_and_is_read_as_it_was_meant() {
        let long = "\u{1F980}".repeat(10_000);
        let mut rehearsal = Rehearsal {
            vitald: "1.2.3".to_owned(),
            unread: vec![("n".repeat(255), long.clone()); 10_000],
            obstacles: vec![long; 10_000],
        };
        rehearsal.bound();
        let line = rehearsal.line();
        assert!(line.len() <= BYTES, "{}", line.len());
        assert_eq!(Rehearsal::read(&line), Some(rehearsal));
        for text in ["", "vitald 1.2.3\n", "{}", "{\"vitald\":\"\"}"] {
            assert_eq!(Rehearsal::read(text), None, "{text}");
        }
    }
}
