//! Who is meant beside whom a verb names: what that needs, and the members of a target.
//!
//! Whether a member is stopped depends on who else needs it: that is read from what is recorded;
//! what follows from it is worked out here.

use super::book::{By, RunBook};
use super::{Promise, Watcher};
use crate::config::Kind;
use crate::engine::{Command, Loaded, NewInstance};
use crate::exit::Exit;
use crate::id::Ticket;
use crate::time::Time;
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

    /// An instance that was not there is defined, and started.
    pub(super) fn instance_asked(&mut self, now: Time, new: &NewInstance, ticket: Ticket) {
        let files: Vec<Loaded> = new.files.iter().cloned().map(Loaded::from).collect();
        self.reloaded(now, &files, false);
        let Some(book) = self.books.get_mut(&*new.name) else {
            return;
        };
        book.wanted = Some(true);
        (book.once, book.passing) = (new.once, new.once);
        book.said = true;
        book.refund();
        book.bidden();
        if !new.once {
            book.durable = None;
            let promise = Promise::Will(new.name.to_string(), true);
            self.promises.insert(ticket, promise);
        }
        self.bid_needed(&new.name, new.with_requires);
    }

    /// `start X` starts what X requires and wants as well, unless an operator stopped it.
    pub(super) fn bid_needed(&mut self, name: &str, with_requires: bool) {
        let mut seen = vec![name.to_owned()];
        let mut at = 0;
        while let Some(of) = seen.get(at) {
            at += 1;
            let definition = self.books.get(of).and_then(|book| book.definition.clone());
            let Some(definition) = definition else {
                continue;
            };
            let pulled = definition.requires.iter().chain(&definition.wants);
            for other in pulled.chain(definition.milestone()) {
                if !seen.iter().any(|known| **known == **other) {
                    seen.push(other.to_string());
                }
            }
        }
        let members = self.members(name);
        let mut others = seen.split_off(1);
        // Whom it needs comes first.
        others.sort_by_key(|other| !self.needs(name, other));
        for other in &others {
            let startable = self.has_all_it_requires(other);
            let is_member = members.contains(other);
            let among = |rival: &String| others.contains(rival);
            if is_member && self.rivals(other).iter().any(among) {
                // One of the two comes.
                self.is_arbitrated();
            }
            let stays = self.stays_for(other, name, is_member);
            let Some(book) = self.books.get_mut(other) else {
                continue;
            };
            let with_it = with_requires || is_member;
            let unwilling = book.said && book.wanted == Some(false) && !with_it;
            let held = book.pinned && book.wanted == Some(false);
            if unwilling || !book.present || stays || held {
                continue;
            }
            let comes = book.wanted != Some(true) && startable;
            if book.wanted != Some(true) {
                book.wanted = None;
                (book.said, book.passing) = (true, true);
                book.durable = None;
            }
            let begins = book.seen.as_ref().is_some_and(|s| s.state == "starting");
            let idle = book.run.is_none() && book.retry.is_none() && !begins;
            if startable && idle && !book.satisfied {
                book.refund();
            }
            // What lives goes on; what was being stopped comes again.
            let by = book
                .run
                .as_ref()
                .map(|run| run.stop.as_ref().map(|stop| stop.by));
            if by.is_none_or(|by| matches!(by, Some(By::Operator | By::Config | By::Dependency))) {
                book.charged = false;
                book.excused = true;
            }
            // Its stop was to be followed by a start before an operator said no.
            book.excused |= by == Some(Some(By::Health)) && !book.charged;
            if comes {
                self.displaces(&other.clone(), true);
            }
        }
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
                    // As with any restart, who conflicts with it goes.
                    self.displaces(&member, false);
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

/// The service that a verb is about.
pub(super) fn service_of(command: &Command) -> Option<crate::id::ServiceId> {
    match command {
        Command::Start { service, .. }
        | Command::StartPinned { service, .. }
        | Command::Stop { service }
        | Command::StopForNow { service }
        | Command::Once { service }
        | Command::Restart { service }
        | Command::Reset { service }
        | Command::Reload { service }
        | Command::Pin { service }
        | Command::Unpin { service }
        | Command::Signal { service, .. }
        | Command::Delete { service }
        | Command::ProbeRun { service, .. } => Some(*service),
        Command::Hold { .. }
        | Command::AlertTest { .. }
        | Command::Release
        | Command::Confirm
        | Command::Revert
        | Command::Shutdown { .. }
        | Command::Set(_)
        | Command::Instance(_) => None,
    }
}
