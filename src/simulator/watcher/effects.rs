//! What is done, checked at the moment at which it is done.

use super::book::{By, ProbeBook, RunBook, StopBook, Told};
use super::{Promise, Watcher};
use crate::engine::snapshot::ServiceSnapshot;
use crate::engine::story::{TransitionKind, Verdict};
use crate::engine::table::Evidence;
use crate::engine::{Command, Effect, Engine, Record};
use crate::exit::Signal;
use crate::id::{CheckId, RunId, Ticket};
use crate::service::doubt;
use crate::simulator::kernel::Kernel;
use crate::simulator::store::Store;
use crate::time::Time;
use std::time::Duration;

impl Watcher {
    pub fn effect(
        &mut self,
        now: Time,
        effect: &Effect,
        engine: &Engine,
        kernel: &Kernel,
        store: &Store,
    ) {
        self.learn_ids(engine);
        if self.calm
            && let Some(words) = touches(effect, engine)
        {
            self.breach(now, format!("{words}, though nothing is wrong"));
        }
        match effect {
            Effect::Record(Record::Storm(record)) => self.line.recorded(record),
            Effect::Record(Record::Service(snapshot)) => {
                self.placed(now, snapshot);
                self.goes_on(now, snapshot, kernel);
                self.looked_at(now, snapshot);
                self.recorded(now, snapshot, engine);
            }
            Effect::Record(Record::Alert(record)) => self.alert_recorded(now, record, engine),
            Effect::Record(Record::Reload(_)) => {}
            Effect::SendAlert {
                rule, alert, tries, ..
            } => self.alerted(now, *rule, alert, *tries),
            Effect::AlertExpired { number } => self.alert_expired(now, *number),
            Effect::Record(Record::Hold(_)) => {
                self.step.hold_performed = true;
                self.step.moved = true;
            }
            Effect::Record(Record::Decision(decision)) => {
                self.step.moved = true;
                self.ruled(now, decision, engine, store);
                self.step.decided.insert(decision.service.to_string());
                if decision.verdict == Verdict::Denied && decision.reason.starts_with("budget") {
                    self.step.denied.insert(decision.service.to_string());
                }
                self.rung_decided(now, decision);
                let late = self.late;
                let book = self.books.get_mut(&*decision.service);
                if let Some(run) = book.and_then(|book| book.run.as_mut())
                    && decision.cause.0 == "start_timeout"
                    && run.number == decision.run
                {
                    run.overdue |= now >= run.start_due(late);
                }
            }
            Effect::Record(Record::Transition(transition)) => {
                self.step.moved |= transition.kind != TransitionKind::Probe;
                self.started_by_schedule(now, transition);
            }
            Effect::Spawn { run, .. } => self.spawned(now, *run, engine, kernel, store),
            Effect::Signal { run, signal, .. } => self.signalled(now, *run, *signal, engine, store),
            Effect::EndTree { run, .. } | Effect::KillTree { run, .. } => {
                let name = engine.name(run.service);
                let repaired = self.sweeps_after_repair(name, run.number);
                // Of a oneshot that was done and is undone there is no run any more.
                if self.run(*run).is_none() {
                    self.undone = Some(*run);
                }
                let over = kernel.process(name, run.number);
                let over = over.is_none_or(|process| process.exit.is_some());
                let ended = repaired
                    || self.run(*run).map_or(over, |run| {
                        if run.is_forking() && run.forked {
                            run.exit.get_or_insert(crate::exit::Exit::Unknown);
                        }
                        run.exit.is_some()
                    });
                if !ended {
                    self.breach(now, format!("{name}: its tree is ended while it lives"));
                }
            }
            Effect::Check { check, .. } => {
                let by_hand = self.step.asked.as_ref();
                if by_hand.is_some_and(|(_, c, _)| matches!(c, Command::ProbeRun { .. })) {
                    self.manual.insert(*check);
                } else {
                    self.checked(now, check, engine);
                }
            }
            Effect::CheckExpired { check } => self.expired(now, check, engine),
            Effect::CheckCancelled { check } => {
                let late = self.step.timers;
                let inconclusive = late || self.step.resumed;
                if let Some(probe) = self.probe(check) {
                    probe.open = None;
                    if inconclusive {
                        probe.inconclusive += 1;
                        probe.doubted += u32::from(late);
                        probe.chain = None;
                        probe.last_pass = None;
                    }
                }
            }
            Effect::Answer { ticket, answer } => {
                let durable = answer.as_ref().ok().and_then(|a| a.durable.as_ref());
                self.replied(now, *ticket, durable.is_some_and(Result::is_ok));
            }
            Effect::Exit { .. } if !self.shutting => {
                self.breach(now, "the daemon ends and nobody asked".to_owned());
            }
            Effect::TellExhausted { service, .. } => {
                let name = engine.name(*service).to_owned();
                self.told(now, &name);
            }
            Effect::Listen { .. } | Effect::Unlisten { .. } => self.listened(effect, engine),
            Effect::Hook { run, hook, .. } => self.repair_begins(now, *run, *hook),
            Effect::HookSignal { .. }
            | Effect::FindMain { .. }
            | Effect::CollectEvidence { .. }
            | Effect::EvidenceOver { .. }
            | Effect::Look { .. }
            | Effect::RemoveDirectories { .. }
            | Effect::Remember { .. }
            | Effect::Keep { .. }
            | Effect::AskDue { .. }
            | Effect::CountReboot { .. }
            | Effect::Reboot
            | Effect::RevertSettings
            | Effect::Unstore { .. }
            | Effect::Forget { .. }
            | Effect::FeedWatchdog
            | Effect::TellAlive
            | Effect::BootWell
            | Effect::Exit { .. } => {}
        }
    }

    /// Somebody is told of a spent budget: once, or again where a daemon never knew that he was.
    fn told(&mut self, now: Time, name: &str) {
        let (life, boot) = (self.life, self.step.boot);
        let Some(book) = self.books.get_mut(name) else {
            return;
        };
        let before = book.told.replace(Told { life, known: false });
        if before.is_some_and(|told| told.known || told.life == life) {
            let words = format!("{name}: told twice that one budget is spent");
            return self.breach(now, words);
        }
        if book.has_budget() && !boot {
            let words = format!("{name}: told that its budget is spent, which it is not");
            self.breach(now, words);
        }
    }

    fn replied(&mut self, now: Time, ticket: Ticket, durable: bool) {
        let reload = self.step.reload;
        if self.tickets.remove(&ticket).is_none() && !reload {
            self.breach(now, format!("request {} was answered twice", ticket.0));
        }
        let Some(promise) = self.promises.remove(&ticket) else {
            return;
        };
        let name = promise.of();
        if !durable || self.promises.values().any(|other| other.of() == name) {
            return;
        }
        let Some(book) = self.books.get_mut(name) else {
            return;
        };
        match promise {
            Promise::Will(_, will) => {
                book.durable = (book.wanted == Some(will)).then_some(will);
            }
            Promise::Given(_) => book.durable_given = Some(book.given.clone()),
        }
    }

    /// A stop that waited for others begins.
    fn goes_on(&mut self, now: Time, snapshot: &ServiceSnapshot, kernel: &Kernel) {
        let waits = snapshot.run.as_ref().and_then(|run| run.stop.as_ref());
        if waits.is_none_or(|stop| stop.waits) {
            return;
        }
        let (stolen, late) = (self.stolen, self.late);
        let book = self.books.get_mut(&*snapshot.name);
        let Some(run) = book.and_then(|book| book.run.as_mut()) else {
            return;
        };
        let gone = run.exit.is_some();
        let Some(stop) = run.stop.as_mut().filter(|_| run.number == snapshot.number) else {
            return;
        };
        let Some(until) = stop.waits.take() else {
            return;
        };
        (stop.at, stop.stolen, stop.late) = (now, stolen, late);
        let wrong = self.first_those(now, &snapshot.name, until, kernel);
        if let Some(words) = wrong.filter(|_| !gone) {
            self.breach(now, words);
        }
    }

    /// A stop begins with its record.
    fn recorded(&mut self, now: Time, snapshot: &ServiceSnapshot, engine: &Engine) {
        let name = snapshot.name.to_string();
        self.step.performed.insert(name.clone());
        if let Some(book) = self.books.get_mut(&name) {
            book.rests(&snapshot.state);
        }
        let late = self.late;
        let book = self.books.get_mut(&name);
        if let (Some(run), Some(told)) = (book.and_then(|b| b.run.as_mut()), &snapshot.run)
            && run.number == snapshot.number
            && told.overdue
        {
            run.overdue |= now >= run.start_due(late);
        }
        self.learn_told(now, snapshot);
        let Some(stop) = snapshot.run.as_ref().and_then(|run| run.stop.as_ref()) else {
            return;
        };
        let book = self.books.get(&name);
        let Some(run) = book.and_then(|book| book.run.as_ref()) else {
            return;
        };
        if run.stop.is_some() || run.number != snapshot.number {
            return;
        }
        let until = snapshot.deadline.unwrap_or(now);
        let waits = stop.waits.then_some(until);
        let by = self.who(&name, &stop.cause, run.exit.is_some());
        if by == By::Dependency {
            self.goes_down(&name);
        }
        let (stolen, late, then_start) = (self.stolen, self.late, stop.then_start);
        self.repair_intended(now, snapshot, by == By::Health);
        if by == By::Health {
            self.automatic_stop(now, &name, stop.final_stop, engine);
        }
        let by = match stop.final_stop && by != By::Dependency {
            true => By::Exhausted,
            false => by,
        };
        if let Some(run) = self.books.get_mut(&name).and_then(|book| book.run.as_mut()) {
            run.stop = Some(StopBook {
                by,
                at: now,
                stolen,
                timeout: run.stop_timeout(by),
                late,
                owed: None,
                killed: false,
                then_start,
                waits,
                evidence: stop.evidence.map(|phase| (phase, until)),
                looked: false,
            });
        }
    }

    /// What only the engine knows: that a watchdog was missed, or that a run is taken to be ready.
    fn learn_told(&mut self, now: Time, snapshot: &ServiceSnapshot) {
        let late = self.late;
        let book = self.books.get_mut(&*snapshot.name);
        let (Some(run), Some(shown)) = (book.and_then(|b| b.run.as_mut()), &snapshot.run) else {
            return;
        };
        if run.number != snapshot.number {
            return;
        }
        let mut wrong = None;
        if run.doubt && run.ready.is_none() && shown.ready_at.is_some() {
            if run.restart_probes().next().is_some() || now < run.start_due(late) {
                wrong = Some("taken to be ready too early");
            }
            run.becomes_ready(now, late);
        }
        if let Some(told) = &shown.told {
            let missed = told.missed_since.is_some();
            if missed && !run.missed && !run.is_unfed(now, late) {
                wrong = Some("its watchdog is missed, though it was fed in time");
            }
            if run.missed && !missed {
                run.fed = Some((now, late));
            }
            run.missed = missed;
            run.missed_since = told.missed_since;
            run.fed_first = told.fed_since;
        }
        if let Some(words) = wrong {
            self.breach(now, format!("{}: {words}", snapshot.name));
        }
    }

    /// We stop a run that nobody asked us to stop: all that must hold for that.
    fn automatic_stop(&mut self, now: Time, name: &str, last: bool, engine: &Engine) {
        let held = self.is_held(now);
        let gives_up = self.may_give_up(name);
        let late = self.late;
        let Some(book) = self.books.get_mut(name) else {
            return;
        };
        let Some(run) = &book.run else { return };
        let mut wrong = Vec::new();
        if book.wanted == Some(false) {
            wrong.push("wanted stop".to_owned());
        }
        if book.once {
            wrong.push("wanted once".to_owned());
        }
        if run.definition.restart == crate::config::Restart::Never {
            wrong.push("restart never".to_owned());
        }
        if held {
            wrong.push("held".to_owned());
        }
        if run.definition.observe {
            wrong.push("only observed".to_owned());
        }
        let max = book.max_attempts();
        let spent = book.spent;
        let full = max.is_some_and(|max| spent >= max);
        if full != last && !(last && gives_up) {
            wrong.push(format!("{spent} of {max:?} spent, for good: {last}"));
        }
        let window = run.spawned_at + run.definition.retry_policy.stability_period;
        if run.restarted && run.ready.is_some() && now < window && !last {
            wrong.push("inside the stability window".to_owned());
        }
        let due = run.start_due(late);
        let overdue = run.ready.is_none() && (run.overdue || now >= due);
        if !run.is_down() && !run.missed && !overdue {
            wrong.push("no probe is down, and its start is not overdue".to_owned());
        }
        if run.is_recovering() && !overdue {
            wrong.push("it passed when it was last asked".to_owned());
        }
        let failing = run.down_since();
        let requires = run.definition.requires.clone();
        for other in &requires {
            let Some(needed) = self.books.get(&**other) else {
                continue;
            };
            let asked = needed.run.as_ref().is_none_or(|run| {
                run.is_enough(|b| {
                    failing.is_none_or(|since| b.last_pass.is_some_and(|p| p >= since))
                })
            });
            // A daemon that died amid the effects showed nobody that it had become well.
            let unseen = self.step.boot && needed.definition.is_some();
            let well = |run: &RunBook| run.ready.is_some() && !run.is_down();
            let satisfied = needed.satisfied || (unseen && needed.run.as_ref().is_some_and(well));
            if !satisfied || !asked {
                wrong.push(format!(
                    "{other}, which it requires, was not known to be well"
                ));
            }
        }
        if let Some(other) = self
            .unwell_below(now, name, engine)
            .filter(|_| !self.step.boot)
        {
            wrong.push(format!("{other}, which it needs, is not well"));
        }
        if let Some(book) = self.books.get_mut(name) {
            book.charged = !last;
            book.spent += u32::from(!last);
            book.excused = false;
        }
        self.step.stopped.insert(name.to_owned());
        if !wrong.is_empty() {
            self.breach(
                now,
                format!("{name} is restarted for its health: {}", wrong.join("; ")),
            );
        }
    }

    fn spawned(&mut self, now: Time, id: RunId, engine: &Engine, kernel: &Kernel, store: &Store) {
        let name = engine.name(id.service).to_owned();
        let (held, shutting, late) = (self.is_held(now), self.shutting, self.late);
        self.ids.insert(id.service, name.clone());
        let Some(book) = self.books.get(&name) else {
            return;
        };
        let Some(definition) = book.definition.clone() else {
            return self.breach(now, format!("{name} is started without a definition"));
        };
        let mut wrong = Vec::new();
        let left = book.tree && kernel.has_leftovers(&name, book.number);
        let others = kernel.alive(&name) + usize::from(left);
        if others > 0 {
            wrong.push(format!("{others} of it live"));
        }
        if id.number <= book.number {
            wrong.push(format!("run {} comes after {}", id.number, book.number));
        }
        if book.wanted == Some(false) || shutting {
            wrong.push("it is wanted stopped".to_owned());
        }
        let intent = store.snapshot(&name).is_some_and(|s| {
            s.number == id.number && s.run.as_ref().is_some_and(|run| run.pid.is_none())
        });
        if !intent {
            wrong.push("its intent is not in the journal".to_owned());
        }
        let (automatic, restarted) = match (book.retry, book.excused) {
            (Some(before), _) => before,
            (None, excused) => (!excused, book.restarting),
        };
        if book.retry.is_none() && automatic {
            if !book.charged {
                wrong.push("nothing that happened allows it".to_owned());
            }
            if now < book.not_before {
                let early = book.not_before.since(now);
                wrong.push(format!("its delay is not over for {early:?}"));
            }
        }
        if automatic && held {
            wrong.push("automatic restarts are held".to_owned());
        }
        wrong.extend(self.in_the_way(now, &name, restarted, engine, kernel));
        if !self.step.boot {
            let unmet = |other: &str| {
                let known = self.books.get(other).is_some_and(|book| !book.satisfied);
                known && !super::rules::is_satisfied(engine, other, now)
            };
            if let Some(other) = definition.requires.iter().find(|other| unmet(other)) {
                wrong.push(format!("{other}, which it requires, is not well"));
            }
        }
        if !wrong.is_empty() {
            self.breach(now, format!("{name} is started: {}", wrong.join("; ")));
        }
        let Some(book) = self.books.get_mut(&name) else {
            return;
        };
        book.number = id.number;
        book.retry = None;
        book.excused = false;
        book.charged = false;
        book.restarting = false;
        book.run = Some(RunBook {
            number: id.number,
            pid: None,
            spawned_at: now,
            automatic,
            restarted,
            executed: false,
            ready: None,
            refunded: false,
            exit: None,
            stop: None,
            probes: definition
                .probes
                .iter()
                .map(|_| ProbeBook::default())
                .collect(),
            definition,
            late,
            taken_up: None,
            overdue: false,
            unwanted: false,
            said: false,
            doubt: false,
            fed: None,
            fed_first: None,
            fed_last: None,
            missed: false,
            missed_since: None,
            starved: false,
            looked: None,
            unfed_doubts: 0,
            forked: false,
            wrong: false,
            main: false,
        });
        // It may have been stopped again in the same event.
        if let Some(snapshot) = store.snapshot(&name).cloned() {
            self.recorded(now, &snapshot, engine);
        }
    }

    fn signalled(&mut self, now: Time, id: RunId, signal: Signal, engine: &Engine, store: &Store) {
        let name = engine.name(id.service).to_owned();
        let by_hand = self.step.asked.as_ref();
        if by_hand.is_some_and(|(_, command, _)| matches!(command, Command::Signal { .. })) {
            return;
        }
        let intent = store.snapshot(&name).is_some_and(|s| {
            s.number == id.number && s.run.as_ref().is_some_and(|run| run.stop.is_some())
        });
        let late = self.late;
        let Some(run) = self.run(id) else {
            return self.breach(now, format!("{name}: {signal} to a run that is over"));
        };
        let Some(stop) = &mut run.stop else {
            return self.breach(now, format!("{name}: {signal} without a stop"));
        };
        let waits = stop.waits.is_some();
        let looks = match stop.evidence {
            Some((Evidence::Diagnose, _)) => run.definition.hooks.diagnose_signal != Some(signal),
            Some((Evidence::Collect, _)) => true,
            None => false,
        };
        if looks {
            let words = format!("{name}: {signal}, before what it is stuck on was looked at");
            return self.breach(now, words);
        }
        // Without an extension it must not carry any.
        let carried = late.saturating_sub(stop.late) * 2;
        let early =
            signal == Signal::KILL && now < stop.at + stop.timeout + stop.owed.unwrap_or(carried);
        stop.killed |= signal == Signal::KILL;
        if waits {
            self.breach(now, format!("{name}: {signal}, while it waits for others"));
        }
        if !intent {
            self.breach(
                now,
                format!("{name}: {signal} before its stop is in the journal"),
            );
        }
        if early {
            self.breach(
                now,
                format!("{name}: SIGKILL before its time to stop was over"),
            );
        }
    }

    fn checked(&mut self, now: Time, check: &CheckId, engine: &Engine) {
        let late = self.late;
        let name = engine.name(check.run.service);
        // What is asked and ended in one event is asked no more when the event is over.
        let judged = self.step.performed.contains(name)
            || self.run(check.run).is_some_and(|run| run.is_judged());
        if self.run(check.run).is_some_and(|run| !run.executed) {
            self.breach(now, format!("{name}: asked before its program runs"));
        }
        let overlaps = match self.probe(check) {
            Some(probe) => probe.open.replace((check.serial, now, late)).is_some(),
            None => false,
        };
        let runs = self.books.values().filter_map(|book| book.run.as_ref());
        let open = runs
            .flat_map(|run| &run.probes)
            .filter(|probe| probe.open.is_some())
            .count();
        if self.most_checks.is_some_and(|most| open > most as usize) {
            self.breach(
                now,
                format!("{open} checks are under way, more than there may be"),
            );
        }
        if !judged {
            self.breach(now, format!("{name}: a run that is being ended is asked"));
        }
        if overlaps {
            self.breach(now, format!("{name}: a probe overlaps itself"));
        }
    }

    /// A probe has run out of time, which is the service's fault only if we were on time.
    fn expired(&mut self, now: Time, check: &CheckId, engine: &Engine) {
        if self.manual.contains(check) {
            return;
        }
        let late = self.late;
        let name = engine.name(check.run.service);
        let Some(run) = self.run(check.run) else {
            return;
        };
        let asked = run.definition.probes.get(usize::from(check.probe));
        let asked = asked.map(|p| (p.timeout, doubt::most(p.failure_threshold)));
        let probe = self.probe(check);
        let probe = probe.and_then(|probe| Some((probe.open?, probe.doubted)));
        let (Some((timeout, most)), Some(((_, begun, then), doubted))) = (asked, probe) else {
            return self.breach(now, format!("{name}: a check that is not open expires"));
        };
        let carried = late.saturating_sub(then).min(timeout);
        let least = match doubted >= most {
            // Doubted so often that it is given time once, and what we are late in that counts.
            true => timeout + carried.min(Duration::from_micros(1)),
            false => timeout + carried,
        };
        if now.since(begun) < least {
            let words = format!("{name}: a check expires early, or for our lateness");
            self.breach(now, words);
        }
    }
}

/// What moves a service, in words.
fn touches(effect: &Effect, engine: &Engine) -> Option<String> {
    match effect {
        Effect::Spawn { run, .. } => Some(format!("{} is started", engine.name(run.service))),
        Effect::Signal { run, signal, .. } => {
            Some(format!("{} gets {signal}", engine.name(run.service)))
        }
        Effect::Hook { run, hook, .. } | Effect::HookSignal { run, hook, .. } => {
            Some(format!("{}: {hook}", engine.name(run.service)))
        }
        Effect::EndTree { run, .. } | Effect::KillTree { run, .. } => {
            Some(format!("{}: its tree is ended", engine.name(run.service)))
        }
        Effect::TellExhausted { service, .. } => {
            Some(format!("{}: its budget is spent", engine.name(*service)))
        }
        Effect::Record(Record::Transition(t)) if t.kind == TransitionKind::State => {
            Some(format!("{} goes from {} to {}", t.service, t.from, t.to))
        }
        Effect::Record(Record::Decision(d)) => Some(format!(
            "{}: the gate says {} {}",
            d.service, d.verdict, d.reason
        )),
        Effect::Record(
            Record::Transition(_)
            | Record::Service(_)
            | Record::Hold(_)
            | Record::Reload(_)
            | Record::Alert(_)
            | Record::Storm(_),
        )
        | Effect::SendAlert { .. }
        | Effect::AlertExpired { .. }
        | Effect::Remember { .. }
        | Effect::Keep { .. }
        | Effect::AskDue { .. }
        | Effect::CountReboot { .. }
        | Effect::Reboot
        | Effect::RevertSettings
        | Effect::Check { .. }
        | Effect::CheckExpired { .. }
        | Effect::CheckCancelled { .. }
        | Effect::Look { .. }
        | Effect::Answer { .. }
        | Effect::FindMain { .. }
        | Effect::CollectEvidence { .. }
        | Effect::EvidenceOver { .. }
        | Effect::RemoveDirectories { .. }
        | Effect::Listen { .. }
        | Effect::Unlisten { .. }
        | Effect::Unstore { .. }
        | Effect::Forget { .. }
        | Effect::FeedWatchdog
        | Effect::TellAlive
        | Effect::BootWell
        | Effect::Exit { .. } => None,
    }
}
