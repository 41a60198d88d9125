//! Daemons that fork themselves away: the first process ends with 0, the main one is found by its
//! pid file, or because it is the only one left.
//!
//! Not here: reading the file and judging what it names (`reactor::forking`).
//!
//! Invariants: the run is over only when its main process is, or when none is found; it is looked
//! for at a bounded pace, and not beyond the start limit; a run whose main process is not known is
//! ended with its whole tree.

use super::table::{Run, Seek};
use super::*;
use crate::config::Kind;
use crate::exit::Exit;
use crate::id::Pid;
use crate::service::state::{Cause, State};

/// What was found of a forking daemon's main process.
#[derive(Clone, PartialEq, Debug)]
pub enum Sought {
    /// It lives, and is watched from now on.
    Main { pid: Pid, started: u64 },
    /// Not known yet, and why.
    NotYet(Box<str>),
    /// What is there is wrong.
    Wrong(Box<str>),
    /// Nothing of the run lives.
    Gone(Box<str>),
}

/// So often the same wrong thing is read before it is believed: it may be half written.
const BELIEVED: u32 = 3;

impl Engine {
    /// The first process of a forking daemon has done its part: true. Else this is a run's end.
    pub(super) fn first_ended(&mut self, id: ServiceId, exit: Exit) -> bool {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return false;
        };
        // An adopted one may have ended in a way that nobody saw: what it left will tell.
        let well = exit == Exit::Code(0) || (exit == Exit::Unknown && run.adopted);
        if !run.is_forking() || !run.is_judged() || !well {
            return false;
        }
        run.executed = true;
        run.seek = Some(Box::default());
        self.look_for_main(id);
        true
    }

    pub(super) fn look_for_main(&mut self, id: ServiceId) {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let Some(seek) = run.seek.as_mut() else {
            return;
        };
        seek.looks = seek.looks.saturating_add(1);
        let (run, definition) = (run.id, run.definition.clone());
        self.mark(id);
        self.effects.push(Effect::FindMain { run, definition });
    }

    /// It looks for its main process.
    pub(super) fn is_seeking(&self, id: ServiceId) -> bool {
        let run = self.service(id).run.as_ref();
        run.is_some_and(|run| run.seek.is_some())
    }

    /// The same, of this very run, for the reactor.
    pub fn seeks_main(&self, run: RunId) -> bool {
        let service = self.services.get(run.service.index());
        let present = service.and_then(|service| service.run.as_ref());
        present.is_some_and(|present| present.id == run && present.seek.is_some())
    }

    /// The main process that a run has named, or that was found, and its start time.
    pub fn named_main(&self, run: RunId) -> Option<(Pid, u64)> {
        let present = self.services.get(run.service.index())?.run.as_ref()?;
        present.named().filter(|_| present.id == run)
    }

    pub(super) fn main_sought(&mut self, run: RunId, sought: Sought) {
        let Some(id) = self.current(run) else { return };
        let now = self.now;
        let key = self.service_key(id, Key::refund);
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let overdue = run.overdue;
        let Some(seek) = run.seek.as_mut() else {
            self.stale += 1;
            return;
        };
        let most = match overdue {
            true => limits::SEEK_PACE_OVERDUE,
            false => limits::SEEK_PACE_MAX,
        };
        let again = |seek: &Seek| {
            let pace = limits::SEEK_PACE * 2u32.saturating_pow(seek.looks.min(10));
            now + pace.min(most)
        };
        match sought {
            Sought::Main { pid, started } => {
                run.seek = None;
                run.told.get_or_insert_default().main = Some((pid, started));
                self.mark(id);
                self.ready_if_it_is(id);
            }
            Sought::NotYet(words) => {
                (seek.wrong, seek.words) = (0, words);
                let due = again(seek);
                self.timers.set(key, due);
                self.mark(id);
            }
            Sought::Wrong(words) => {
                let same = seek.words == words;
                seek.wrong = if same {
                    seek.wrong.saturating_add(1)
                } else {
                    1
                };
                if seek.wrong >= BELIEVED {
                    return self.not_forked(id, words, true);
                }
                seek.words = words;
                let due = again(seek);
                self.timers.set(key, due);
                self.mark(id);
            }
            Sought::Gone(words) => self.not_forked(id, words, false),
        }
    }

    /// The start has failed: no main process will be known. `wrong`: by what it was told; that will
    /// not be right a moment later, and an operator is there to see it.
    fn not_forked(&mut self, id: ServiceId, words: Box<str>, wrong: bool) {
        let key = self.service_key(id, Key::refund);
        self.timers.cancel(key);
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        run.seek = None;
        run.exit = Some(Exit::Unknown);
        run.hooks.failed = Some(words);
        run.hooks.hopeless = wrong && run.begun_by == Cause::Operator;
        run.hooks.leftovers = true;
        self.cancel_checks(id);
        self.forget_standing(id);
        self.run_over(id);
    }

    /// A stop begins while nobody knows the main process: true, all there is of it is ended.
    pub(super) fn stop_unknown_main(&mut self, id: ServiceId) -> bool {
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return false;
        };
        if run.seek.take().is_none() {
            return false;
        }
        run.exit = Some(Exit::Unknown);
        run.hooks.leftovers = true;
        self.run_over(id);
        true
    }

    /// Of a daemon before this one: its first process has ended, and the search goes on.
    pub(super) fn seek_again(&mut self, id: ServiceId, ended: Option<Exit>) -> bool {
        let Some(run) = self.service(id).run.as_ref() else {
            return false;
        };
        let sought = run.seek.is_some();
        let exit = match (sought, ended) {
            (true, _) => Exit::Code(0),
            (false, ended) => ended.unwrap_or(Exit::Unknown),
        };
        if self.service(id).state != State::Starting || !self.first_ended(id, exit) {
            return false;
        }
        // Nobody looked for it while there was no daemon: it has its whole time again, and that of one
        // answer, as whoever is taken up.
        let (now, late) = (self.now, self.lateness.total);
        if let Some(run) = self.service_mut(id).run.as_mut() {
            let asked = run.start_deadline(now, late);
            run.begin_start_limit(now, late);
            run.start_until = run.start_until.max(asked);
            run.overdue = false;
        }
        self.set_start_limit(id);
        true
    }

    /// Why a forking daemon is not ready.
    pub(super) fn forking_words(&self, run: &Run) -> Option<Box<str>> {
        if run.definition.kind != Kind::Forking || run.named().is_some() {
            return None;
        }
        Some(match &run.seek {
            Some(seek) if seek.words.is_empty() => "its main process is looked for".into(),
            Some(seek) => seek.words.clone(),
            None => {
                "its first process has not ended, it does not fork: write kind = \"process\", or \
                     start it with the option that makes it a daemon"
                    .into()
            }
        })
    }
}
