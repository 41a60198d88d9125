//! What the model learns from an event, before the engine does.

use super::book::{By, ProbeBook, RunBook};
use super::groups::service_of;
use super::words::words;
use super::{Promise, Step, Watcher, provisional};
use crate::config::diff::{Change, diff};
use crate::config::names;
use crate::config::{OnDependency, Ready};
use crate::engine::{Boot, Command, Effect, Engine, Event, Found, Loaded, Sought};
use crate::exit::{Exit, Signal};
use crate::id::{CheckId, RunId, Ticket};
use crate::limits;
use crate::probe::{Outcome, Reason, Report, Trouble};
use crate::service::state::Cause;
use crate::simulator::store::Store;
use crate::time::{Time, Wall};
use std::rc::Rc;
use std::time::Duration;

impl Watcher {
    pub fn event(&mut self, now: Time, event: &Event, engine: &mut Engine, _store: &Store) {
        self.step = Step {
            words: words(event, engine),
            stale: self.is_stale(event),
            ..Step::default()
        };
        self.let_go();
        self.line.event();
        if self.step.stale {
            return;
        }
        match event {
            Event::Turn => {
                let due = engine.deadline().unwrap_or(now);
                let late = now.since(due);
                self.stolen += late;
                if late > limits::LATENESS_BOUND {
                    self.late += late;
                }
            }
            Event::Timers => {
                self.step.timers = true;
                if !self.is_held(now) {
                    let over = self.hold.take().and_then(|hold| hold.until);
                    self.hold_over = over.or(self.hold_over);
                }
                self.books.values_mut().for_each(|book| {
                    let earned = book.run.as_ref().is_some_and(|run| {
                        let period = run.definition.retry_policy.stability_period;
                        run.is_judged()
                            && !run.is_watched()
                            && run.ready.is_some_and(|ready| now >= ready + period)
                            && !run.refunded
                    });
                    if earned {
                        book.refund();
                        book.run.iter_mut().for_each(|run| run.refunded = true);
                    }
                });
            }
            Event::Boot(boot) => self.booted(now, boot),
            Event::Reloaded { ticket, .. } => {
                self.step.moved = true;
                self.step.reload = true;
                let due = Some((now + provisional::ANSWERED, self.stolen));
                self.tickets.extend(ticket.map(|ticket| (ticket, due)));
                self.step.read = provisional::Read::of(event);
            }
            Event::Resumed(_) => {
                self.step.resumed = true;
                let late = self.late;
                for run in self.books.values_mut().filter_map(|book| book.run.as_mut()) {
                    run.fed = run.ready.map(|_| (now, late));
                }
            }
            Event::Notified { run, says } => self.said(now, *run, says),
            Event::Listening {
                service,
                waits,
                error,
            } => self.listening(now, *service, *waits, error.as_ref()),
            Event::Connected { service, .. } => self.connected(now, *service),
            Event::EvidenceDone { .. } | Event::HookEnded { .. } => self.looked(now, event),
            Event::AlertSent { number, .. } => self.alert_answered(*number),
            Event::Due { .. } => self.step.due = true,
            Event::Stored { .. }
            | Event::ClockSet(_)
            | Event::RebootCounted { .. }
            | Event::Durable { .. }
            | Event::HookSpawned { .. } => {}
            Event::ExhaustedTold { service } => {
                let name = self.ids.get(service);
                let told = name.and_then(|name| self.books.get_mut(name)?.told.as_mut());
                told.into_iter().for_each(|told| told.known = true);
            }
            Event::Request(request) => {
                let about = service_of(&request.command);
                let state = about.map(|id| engine.status(id, Wall { now, wall_ms: 0 }).state);
                let due = match (&request.command, request.wait) {
                    (Command::ProbeRun { .. } | Command::AlertTest { .. }, _) => {
                        Some(Duration::from_secs(20) * self.pace)
                    }
                    (Command::Shutdown { .. }, _) | (_, true) => None,
                    (_, false) => Some(limits::DURABLE_WAIT),
                };
                let due = due.map(|wait| (now + wait + Duration::from_secs(1), self.stolen));
                self.tickets.insert(request.ticket, due);
                let state = state.unwrap_or_default();
                self.step.asked = Some((request.ticket, request.command.clone(), state));
                self.step.moved = true;
            }
            Event::Spawned { run, pid, .. } => {
                if let Some(run) = self.run(*run) {
                    run.pid = Some(*pid);
                }
            }
            Event::Executed { run } => {
                let late = self.late;
                if let Some(run) = self.run(*run) {
                    run.executed = true;
                    if run.is_judged() && run.is_ready() {
                        run.becomes_ready(now, late);
                    }
                }
            }
            Event::SpawnFailed { run, error } => {
                let may = self.may(run);
                let Some(book) = self.book(*run) else { return };
                let Some(run) = &mut book.run else { return };
                if error.ours && run.stop.is_none() {
                    book.retry = Some((run.automatic, run.restarted));
                    book.run = None;
                } else if !run.automatic && run.stop.is_none() {
                    book.run = None;
                    book.restarting = false;
                } else {
                    run.exit = Some(crate::exit::Exit::Unknown);
                    book.gone(now, may);
                }
            }
            Event::OutOfMemory { run, .. } => {
                if let Some(run) = self.run(*run) {
                    run.starved |= run.stop.is_none();
                }
            }
            Event::Exited {
                run,
                exit,
                tree_gone,
            } => {
                let may = self.may(run);
                let name = self.ids.get(&run.service).cloned();
                let Some(book) = self.book(*run) else { return };
                let Some(known) = &mut book.run else { return };
                if known.forks(*exit) {
                    return;
                }
                known.exit = Some(*exit);
                let killed = *exit == Exit::Signal(Signal::KILL);
                let cause = match known.starved && killed {
                    true => Cause::Memory,
                    false => Cause::Exit,
                };
                let itself = known.stop.is_none();
                if *tree_gone || !known.kills_tree() {
                    book.gone(now, may);
                }
                self.step.ended = name.filter(|_| itself).zip(Some(cause));
            }
            Event::Looked { run, strain } => self.host_looked(now, *run, strain),
            Event::MainSought { run, sought } => {
                let late = self.late;
                let Some(run) = self.run(*run) else { return };
                match sought {
                    Sought::Main { .. } => {
                        run.main = true;
                        if run.is_judged() && run.is_ready() {
                            run.becomes_ready(now, late);
                        }
                    }
                    // All there is of it is ended.
                    Sought::Gone(_) => run.exit = Some(crate::exit::Exit::Unknown),
                    Sought::NotYet(_) => {}
                    Sought::Wrong(_) => run.wrong = true,
                }
            }
            Event::TreeEnded { run, left } => {
                let may = self.may(run);
                if let (0, Some(book)) = (left, self.book(*run)) {
                    book.sweeps = None;
                    book.gone(now, may);
                }
            }
            Event::ProbeFinished { check, report } => self.answered(now, check, report),
        }
    }

    /// All effects of the event, before any is performed.
    pub fn effects(&mut self, now: Time, effects: &[Effect]) {
        if self.step.stale && !effects.is_empty() {
            self.breach(now, "what is over moved something".to_owned());
        }
        let bound = 60 * self.books.len() + 40;
        if effects.len() > bound {
            let words = format!("{} effects of one event", effects.len());
            self.breach(now, words);
        }
        if let Some(read) = self.step.read.take() {
            self.read_and_done(now, &read, effects);
        }
        self.settings_back(now, effects);
        for reload in effects.iter().filter_map(provisional::of_reload) {
            self.told_of_reload(now, reload);
        }
        for effect in effects {
            match effect {
                Effect::Record(crate::engine::Record::Service(snapshot)) => {
                    self.step.recorded.insert(snapshot.name.to_string());
                    let wanted = snapshot.wanted.as_ref();
                    let wanted = wanted.is_some_and(|record| &*record.wanted == "start");
                    self.step.wills.insert(snapshot.name.to_string(), wanted);
                }
                Effect::Record(crate::engine::Record::Hold(hold)) => {
                    self.step.hold_recorded = true;
                    // Snapshots stand first; they are made with this already so.
                    self.hold = hold.clone();
                }
                _ => {}
            }
        }
        let Some((ticket, command, state)) = self.step.asked.clone() else {
            return;
        };
        let refused = effects.iter().any(
            |effect| matches!(effect, Effect::Answer { ticket: t, answer: Err(_) } if *t == ticket),
        );
        if !refused {
            self.asked(now, &command, &state, ticket);
        }
    }

    fn booted(&mut self, now: Time, boot: &Boot) {
        self.step.boot = true;
        self.step.moved = true;
        self.stolen += now.since(self.died_at);
        let definitions = self.in_force_at_boot(now, boot);
        self.settings_at_boot(boot);
        self.same_boot = true;
        for (snapshot, found) in &boot.services {
            if let Found::Alive { pid, .. } = found {
                self.step.adopted.insert(snapshot.name.to_string(), *pid);
            }
        }
        for (name, book) in &mut self.books {
            let file = definitions.iter().find(|d| *d.name == **name);
            book.present = file.is_some();
            book.sockets.ended_well = false;
            book.by_file = file.is_some_and(|file| !names::is_given(&file.source));
            let record = boot.wanted.iter().find(|record| *record.name == **name);
            book.given = record.and_then(|record| record.definition.clone());
            let orphan = book.definition.is_none();
            book.due_anew |= orphan;
            book.definition = file.and_then(|d| d.definition.clone().ok());
            let known = boot.services.iter().find(|(s, _)| *s.name == **name);
            let journalled = known.and_then(|(s, _)| s.wanted.as_ref());
            let journalled = journalled.is_some_and(|record| &*record.wanted == "start");
            let wanted = book.wanted.unwrap_or(journalled);
            if !book.said {
                book.wanted = None;
            }
            let Some((snapshot, found)) = known else {
                book.excused = true;
                continue;
            };
            book.recall_cure(self.amid, snapshot.uncured);
            if matches!(&*snapshot.state, "inactive" | "blocked" | "failed") {
                let idle = &*snapshot.state != "failed" || &*snapshot.cause == "config";
                book.excused |= idle && !book.charged;
            }
            let intended = snapshot.number > book.number
                && snapshot.run.as_ref().is_some_and(|run| run.pid.is_none());
            if intended {
                // Its spawn was written down, and never came to be.
                book.retry.get_or_insert((!book.excused, book.restarting));
            }
            // What a oneshot did is being undone.
            let idle = book.run.is_none() && !snapshot.is_repaired();
            book.excused |= idle && &*snapshot.state == "stopping";
            let Some(run) = &mut book.run else { continue };
            if run.number != snapshot.number {
                continue;
            }
            match &book.definition {
                Some(definition) => {
                    run.recall(definition);
                    run.refunded &= !orphan;
                }
                None => run.orphaned(),
            }
            // Not each pass of a chain is journalled, nor each time it could not be asked.
            let journal = snapshot.run.iter().flat_map(|run| &run.probes);
            for (probe, was) in run.probes.iter_mut().zip(&run.definition.probes) {
                let old = journal.clone().find(|old| old.name == was.name);
                probe.inconclusive = old.map_or(0, |old| old.inconclusive);
                let last = old.and_then(|old| old.last_pass_begun);
                probe.chain = probe.chain.map(|(first, _)| (first, last.unwrap_or(first)));
                if self.amid && old.is_some_and(|old| old.chain_since.is_none()) {
                    // Broken by what the daemon died of.
                    probe.chain = None;
                }
            }
            if let Some(stop) = &mut run.stop {
                (stop.late, stop.owed) = (self.late, None);
            }
            // It was stopped by a word that did not say that it should stay so.
            let by = run.stop.as_ref().map(|stop| stop.by);
            let may_be_wanted = wanted || !book.said;
            let goes = matches!(by, Some(By::Operator | By::Config));
            let comes_back = || {
                let ties = book.definition.as_ref().map(|d| d.on_dependency());
                by == Some(By::Dependency) && ties == Some(OnDependency::Restart)
            };
            book.excused |= may_be_wanted && (goes || comes_back());
            let Some(old) = &snapshot.run else {
                book.run = None;
                continue;
            };
            let may = book.definition.is_some() && wanted;
            match found {
                Found::Alive { pid, .. } => {
                    run.main = old.told.as_ref().is_some_and(|told| told.main.is_some());
                    run.pid = Some(*pid);
                    run.executed = true;
                    (run.late, run.taken_up) = (self.late, Some(now));
                    run.said = old.told.as_ref().is_some_and(|told| told.ready);
                    run.doubt = boot.deaf == Some(true)
                        && run.definition.ready() != Ready::Probe
                        && run.ready.is_none();
                    run.fed_last = None;
                    let known = book.definition.is_some();
                    if known && run.is_judged() && run.is_ready() {
                        run.becomes_ready(now, self.late);
                    }
                    run.fed = run.ready.map(|_| (now, self.late));
                }
                Found::Gone | Found::Ended(_) if old.pid.is_none() => {
                    book.retry = Some((run.automatic, run.restarted));
                    book.run = None;
                }
                Found::Gone | Found::Ended(_) => {
                    let end = match found {
                        Found::Ended(exit) => Some(*exit),
                        _ => old.exit,
                    };
                    let end = end.unwrap_or(crate::exit::Exit::Unknown);
                    if old.seeking && run.is_forking() {
                        (run.forked, run.pid) = (true, old.pid);
                    }
                    let sought = run.forked && run.is_forking() && run.is_judged();
                    let unseen = end == crate::exit::Exit::Unknown && run.is_judged();
                    run.forked |= unseen && run.is_forking();
                    if sought || unseen && run.is_forking() || run.forks(end) {
                        run.executed = true;
                        (run.late, run.taken_up) = (self.late, Some(now));
                        continue;
                    }
                    run.exit = Some(end);
                    if !run.kills_tree() {
                        book.gone(now, may);
                    }
                }
            }
        }
        self.is_arbitrated();
    }

    /// `all`: there are no others.
    pub(super) fn reloaded(&mut self, now: Time, files: &[Loaded], all: bool) {
        let late = self.late;
        self.step.reload = true;
        self.step.moved = true;
        for (name, book) in &mut self.books {
            if !book.said {
                book.wanted = None;
            }
            book.excused |= book.idle && !book.charged;
            let file = files.iter().find(|d| *d.name == **name);
            let Some(file) = file else {
                if all {
                    book.present = false;
                    book.definition = None;
                }
                continue;
            };
            book.present = true;
            if book.definition.is_none() {
                book.refund();
            }
            if file.definition.is_ok() || book.definition.is_none() {
                book.by_file = !names::is_given(&file.source);
            }
            let Ok(new) = &file.definition else { continue };
            let old = book.definition.replace(new.clone());
            let Some(old) = old else {
                (book.due_last, book.due_anew) = (None, true);
                // It may have lived on while its file was broken.
                match &mut book.run {
                    Some(run) if run.is_judged() => {
                        run.redefine(now, new);
                        run.mended(now, late);
                        run.fed = run.ready.map(|_| (now, late));
                    }
                    Some(_) | None => book.excused = true,
                }
                continue;
            };
            let change = diff(&old, new);
            if matches!(change, Change::None) {
                continue;
            }
            book.refund();
            (book.due_last, book.due_anew) = (None, true);
            let Some(run) = book
                .run
                .as_mut()
                .filter(|run| run.stop.is_none() && run.exit.is_none())
            else {
                let anew = matches!(change, Change::Restart(_));
                if anew && book.run.is_none() && book.repair.is_none() && !book.idle {
                    // What failed or waits may do better as it is now; who is being repaired is not
                    // over yet.
                    book.bidden();
                }
                continue;
            };
            match change {
                Change::None => {}
                Change::Live(_) => {
                    run.redefine(now, new);
                    run.mended(now, late);
                    run.fed = run.ready.map(|_| (now, late));
                }
                Change::Restart(_) => book.excused = true,
            }
        }
        self.is_arbitrated();
    }

    fn answered(&mut self, now: Time, check: &CheckId, report: &Report) {
        let late = self.late;
        if self.manual.remove(check) {
            return;
        }
        let Some(book) = self.book(check.run) else {
            return;
        };
        let Some(run) = &mut book.run else { return };
        let definition = run.definition.clone();
        let at = usize::from(check.probe);
        let (Some(probe), Some(asked)) = (definition.probes.get(at), run.probes.get_mut(at)) else {
            return;
        };
        let Some((_, begun, _)) = asked.open.take() else {
            return;
        };
        let grace = begun < run.spawned_at + probe.start_period && !asked.passed;
        let counts = run.ready.is_some() && !grace;
        // Late on a host that is short of processors: so often in a row it is not its fault.
        let pressed = run
            .looked
            .is_some_and(|look| look.pressed && look.at >= begun);
        let slow = report.outcome == Outcome::Fail(Reason::Timeout);
        let outcome = match slow && pressed && asked.doubted < 3 * probe.failure_threshold {
            true => Outcome::Inconclusive(Trouble::Starved),
            false => report.outcome.clone(),
        };
        asked.answered(probe, &outcome, begun, now, counts);
        if run.is_ready() {
            run.becomes_ready(now, late);
        }
        if run.earned_refund() {
            book.refund();
        }
    }

    /// A verb that was not refused.
    fn asked(&mut self, now: Time, command: &Command, state: &str, ticket: Ticket) {
        if let Command::Set(given) = command {
            let file = Loaded {
                name: given.name.clone(),
                source: given.source.clone(),
                definition: Ok(Rc::new(given.definition.clone())),
            };
            self.reloaded(now, &[file], false);
            self.given_meanwhile(&given.name, Some(&given.definition));
            if let Some(book) = self.books.get_mut(&*given.name) {
                book.given = Some(given.text.clone());
                book.durable_given = None;
            }
            let promise = Promise::Given(given.name.to_string());
            self.promises.insert(ticket, promise);
            return;
        }
        if let Command::Instance(new) = command {
            return self.instance_asked(now, new, ticket);
        }
        let live = matches!(state, "starting" | "running");
        let name = service_of(command).and_then(|id| self.ids.get(&id).cloned());
        let book = name.as_ref().and_then(|name| self.books.get_mut(name));
        match (command, book, name) {
            (Command::Stop { .. }, Some(book), Some(name)) => {
                book.stopped();
                book.durable = None;
                self.promises.insert(ticket, Promise::Will(name, false));
            }
            (Command::StopForNow { .. }, Some(book), Some(_)) => {
                book.stopped();
                book.passing = true;
            }
            (Command::Once { .. }, Some(book), Some(name)) if !book.is_planned() => {
                book.wanted = Some(true);
                book.due_last = None;
                (book.once, book.passing) = (true, true);
                book.said = true;
                book.refund();
                if !live || book.run.is_none() {
                    book.bidden();
                }
                self.displaces(&name, true);
                self.bid_needed(&name, false);
            }
            (
                Command::Start { .. } | Command::StartPinned { .. } | Command::Once { .. },
                Some(book),
                Some(name),
            ) => {
                let with_requires = matches!(
                    command,
                    Command::Start {
                        with_requires: true,
                        ..
                    } | Command::StartPinned {
                        with_requires: true,
                        ..
                    }
                );
                book.pinned |= matches!(command, Command::StartPinned { .. });
                (book.once, book.passing) = (false, false);
                book.wanted = Some(true);
                book.said = true;
                book.durable = None;
                book.refund();
                if !live || book.run.is_none() {
                    book.bidden();
                }
                let promise = Promise::Will(name.clone(), true);
                self.promises.insert(ticket, promise);
                self.displaces(&name, false);
                self.bid_needed(&name, with_requires);
            }
            (Command::Pin { .. }, Some(book), Some(_)) if !book.pinned => {
                book.pinned = true;
                (book.once, book.passing) = (false, false);
                book.said = true;
                book.durable = None;
            }
            (Command::Unpin { .. }, Some(book), _) => book.pinned = false,
            (Command::Restart { .. }, Some(book), Some(name)) => {
                // What is wanted anyway goes on being wanted by whom it was.
                let news = book.wanted != Some(true) || book.passing;
                if news {
                    book.said = true;
                    book.durable = None;
                }
                (book.once, book.passing) = (false, false);
                book.wanted = Some(true);
                book.refund();
                book.bidden();
                if news {
                    let promise = Promise::Will(name.clone(), true);
                    self.promises.insert(ticket, promise);
                }
                self.displaces(&name, false);
            }
            (Command::Reset { .. }, Some(book), _) => {
                book.refund();
                if state == "failed" && book.wanted == Some(true) && !book.once {
                    book.bidden();
                }
            }
            (Command::Delete { .. }, Some(book), Some(name)) => {
                book.deleted();
                self.given_meanwhile(&name, None);
                self.promises.insert(ticket, Promise::Given(name));
                self.reloaded(now, &[], false);
            }
            (Command::Confirm, ..) => self.kept = None,
            (Command::Shutdown { .. }, ..) => self.shutting = true,
            _ => {}
        }
        self.group_asked(command);
    }

    // --- looking up

    /// Which number is whose, after services came.
    pub(super) fn learn_ids(&mut self, engine: &Engine) {
        if !self.step.boot && !self.step.reload {
            return;
        }
        self.ids = self
            .books
            .keys()
            .filter_map(|name| Some((engine.find(name)?, name.clone())))
            .collect();
    }

    pub(super) fn book(&mut self, run: RunId) -> Option<&mut super::Book> {
        self.books.get_mut(self.ids.get(&run.service)?)
    }

    pub(super) fn run(&mut self, run: RunId) -> Option<&mut RunBook> {
        let known = self.book(run)?.run.as_mut()?;
        (known.number == run.number).then_some(known)
    }

    pub(super) fn probe(&mut self, check: &CheckId) -> Option<&mut ProbeBook> {
        self.run(check.run)?
            .probes
            .get_mut(usize::from(check.probe))
    }

    /// Whether an automatic start may follow the end of this run.
    fn may(&mut self, run: &RunId) -> bool {
        let shutting = self.shutting;
        self.book(*run)
            .is_some_and(|book| !shutting && book.definition.is_some() && book.wanted == Some(true))
    }

    /// Who is behind a stop that began with this event.
    pub(super) fn who(&self, name: &str, cause: &str, exited: bool) -> By {
        if exited || cause == "exit" {
            return By::Itself;
        }
        if let Some(by) = self.tied_stop(name, cause) {
            return by;
        }
        let undefined = self
            .books
            .get(name)
            .is_some_and(|book| book.definition.is_none());
        if self.shutting {
            return By::Operator;
        }
        if undefined {
            return By::Config;
        }
        let reloaded = self.step.reload && self.books.get(name).is_some_and(|book| book.excused);
        if reloaded {
            return By::Config;
        }
        let asked = self.step.asked.as_ref().filter(|(_, command, _)| {
            let stops = matches!(
                command,
                Command::Stop { .. } | Command::StopForNow { .. } | Command::Restart { .. }
            );
            stops
                && service_of(command)
                    .and_then(|id| self.ids.get(&id))
                    .is_some_and(|n| n == name || self.members(n).contains(name))
        });
        match asked {
            Some(_) => By::Operator,
            None => By::Health,
        }
    }
}
