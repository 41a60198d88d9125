//! Groups: what an operator's word on a target means for its members.
//!
//! Whether a member is stopped depends on who else needs it: that is read from what is recorded;
//! what follows from it is worked out here.

use super::Watcher;
use super::book::RunBook;
use super::events::service_of;
use crate::config::Kind;
use crate::engine::Command;
use crate::exit::Exit;
use std::collections::BTreeSet;

impl Watcher {
    /// All that a target requires or wants, through targets within it.
    pub(super) fn members(&self, name: &str) -> BTreeSet<String> {
        let mut all = vec![name.to_owned()];
        let mut at = 0;
        while let Some(of) = all.get(at) {
            at += 1;
            let definition = self.books.get(of).and_then(|book| book.definition.as_ref());
            let Some(target) = definition.filter(|d| d.kind == Kind::Target) else {
                continue;
            };
            let named = target.requires.iter().chain(&target.wants);
            let new: Vec<String> = named
                .filter(|other| all.iter().all(|known| **known != ***other))
                .map(|other| other.to_string())
                .collect();
            all.extend(new);
        }
        all.into_iter().skip(1).collect()
    }

    /// A verb on a target that was not refused.
    pub(super) fn group_asked(&mut self, command: &Command) {
        let name = service_of(command).and_then(|id| self.ids.get(&id).cloned());
        let Some(name) = name else { return };
        for member in self.members(&name) {
            let Some(wanted) = self.step.wills.get(&member).copied() else {
                continue;
            };
            let Some(book) = self.books.get_mut(&member) else {
                continue;
            };
            match command {
                Command::Stop { .. } | Command::StopForNow { .. } if !wanted => {
                    book.stopped();
                    book.durable = None;
                    book.passing = true;
                }
                Command::Restart { .. } if wanted => {
                    book.said |= book.wanted != Some(true) || book.passing;
                    (book.wanted, book.once) = (Some(true), false);
                    book.durable = None;
                    book.refund();
                    book.bidden();
                }
                _ => {}
            }
        }
    }
}

impl RunBook {
    /// Its end is that of the first process of a forking daemon.
    pub fn forks(&mut self, exit: Exit) -> bool {
        let well = exit == Exit::Code(0) || exit == Exit::Unknown && self.taken_up.is_some();
        let forks = self.is_forking() && self.is_judged() && well;
        self.forked |= forks;
        self.executed |= forks;
        forks
    }
}
