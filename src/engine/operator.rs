//! Requests of operators: verbs in, answers out.
//!
//! Invariants: a verb takes effect at once; one that changes `wanted` is answered when the
//! scribe has it durable, or after a bound with `durable: false`; the operator is never refused
//! for a spent budget.

use super::answers::{Goal, Pending};

use super::*;
use crate::exit::Signal;
use crate::service::gate::Ruling;
use crate::service::state::{Cause, Cue, State, Wanted};
use snapshot::WantedRecord;

/// Who asks, when.
pub(super) struct Actor {
    pub(super) name: Box<str>,
    pub(super) wall_ms: u64,
}

impl Engine {
    pub(super) fn request(&mut self, request: Request) {
        let Request {
            ticket,
            actor,
            wall_ms,
            wait,
            command,
        } = request;
        let actor = Actor {
            name: actor,
            wall_ms,
        };
        let before = self.remember_seq;
        let ends = matches!(command, Command::Shutdown { .. });
        let pins = matches!(command, Command::StartPinned { .. });
        let outcome = match command {
            Command::Start {
                service,
                with_requires,
            }
            | Command::StartPinned {
                service,
                with_requires,
            } => {
                let run = self.service(service).number;
                let there = self.service(service).state.is_live() || self.is_undoable(service);
                let live = there;
                let goal = Goal::Up {
                    after_run: if live { run.saturating_sub(1) } else { run },
                };
                self.verb_start(service, with_requires, &actor)
                    .map(|n| match pins {
                        true => format!("{n}\n{}", self.verb_pin(service, &actor)),
                        false => n,
                    })
                    .map(|n| (n, Some((service, goal))))
            }
            Command::Stop { service } => {
                let note = self.verb_stop(service, true, &actor);
                Ok((note, Some((service, Goal::Down))))
            }
            Command::StopForNow { service } => {
                let note = self.verb_stop(service, false, &actor);
                Ok((note, Some((service, Goal::Down))))
            }
            Command::Once { service } => {
                let run = self.service(service).number;
                let there = self.service(service).state.is_live() || self.is_undoable(service);
                let goal = Goal::Up {
                    after_run: if there { run.saturating_sub(1) } else { run },
                };
                self.verb_once(service, &actor)
                    .map(|n| (n, Some((service, goal))))
            }
            Command::Restart { service } => {
                let goal = Goal::Up {
                    after_run: self.service(service).number,
                };
                self.verb_restart(service, &actor)
                    .map(|n| (n, Some((service, goal))))
            }
            Command::Reset { service } => Ok((self.verb_reset(service, &actor), None)),
            Command::Pin { service } => Ok((self.verb_pin(service, &actor), None)),
            Command::Unpin { service } => Ok((self.verb_unpin(service, &actor), None)),
            Command::Reload { service } => match self.verb_reload(ticket, service) {
                Ok(Some(note)) => Ok((note, None)),
                Ok(None) => return,
                Err(refusal) => Err(refusal),
            },
            Command::Signal { service, signal } => {
                self.verb_signal(service, signal).map(|n| (n, None))
            }
            Command::ProbeRun { service, probe } => match self.verb_probe(ticket, service, probe) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            Command::AlertTest { name } => match self.verb_alert_test(ticket, name.as_deref()) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            Command::Set(given) => self.verb_set(*given).map(|(note, id)| {
                let after_run = self.service(id).number.saturating_sub(1);
                (note, Some((id, Goal::Up { after_run })))
            }),
            Command::Instance(new) => self.verb_instance(*new, &actor).map(|(note, id, run)| {
                let goal = Goal::Up { after_run: run };
                (note, Some((id, goal)))
            }),
            Command::Delete { service } => self
                .verb_delete(service)
                .map(|note| (note, Some((service, Goal::Down)))),
            Command::Hold { length } => Ok((self.verb_hold(length, &actor), None)),
            Command::Release => Ok((self.verb_release(&actor), None)),
            Command::Confirm => self.verb_confirm().map(|note| (note, None)),
            Command::Revert => self.verb_revert(&actor).map(|note| (note, None)),
            Command::Shutdown { keep } => Ok((self.verb_shutdown(keep), None)),
        };
        let (note, goal) = match outcome {
            Ok(done) => done,
            Err(refusal) => return self.answer(ticket, Err(refusal)),
        };
        let accepted = Accepted {
            note: note.into(),
            ..Accepted::default()
        };
        let accepted = match ends && wait {
            true => match self.answer_at_the_end(ticket, accepted) {
                Some(accepted) => accepted,
                None => return,
            },
            false => accepted,
        };
        let durable = (self.remember_seq > before)
            .then(|| (self.remember_seq, self.now + limits::DURABLE_WAIT));
        let goal = goal.filter(|_| wait);
        if goal.is_some() {
            self.bound_waiters();
        }
        self.pending.push(Pending {
            ticket,
            accepted,
            durable,
            goal,
        });
        self.answer_ready();
    }

    // --- verbs

    pub(super) fn verb_start(
        &mut self,
        id: ServiceId,
        with_requires: bool,
        actor: &Actor,
    ) -> Result<String, Refusal> {
        self.startable(id)?;
        self.may_displace(id)?;
        let mut notes = Vec::new();
        self.displace(id, true, actor, &mut notes);
        notes.extend(self.start_others(id, with_requires, true, actor));
        self.set_wanted(id, Wanted::Start, actor);
        notes.insert(0, self.bring_up(id, actor));
        Ok(notes.join("\n"))
    }

    /// What it requires and wants, for as long as it is wanted itself; the members of a target
    /// also where an operator had stopped them.
    pub(super) fn start_others(
        &mut self,
        id: ServiceId,
        with_requires: bool,
        for_good: bool,
        actor: &Actor,
    ) -> Vec<String> {
        let mut notes = Vec::new();
        let members = self.members(id);
        let mut others = self.graph.started_with(id);
        others.retain(|other| *other != id);
        // What it cannot do without comes first: what conflicts with that stays away.
        others.sort_by_key(|other| !self.graph.requirers(*other).contains(&id));
        let mut brought = vec![id];
        for other in others {
            let service = self.service(other);
            let by = service.wanted_by.clone();
            let stopped = service.wanted == Wanted::Stop && !by.is_empty();
            let name = service.name.clone();
            if service.pinned && service.wanted == Wanted::Stop {
                let words = "is pinned stopped: not started; `unpin` it first";
                notes.push(format!("{name} {words}"));
                continue;
            }
            let is_member = members.contains(&other);
            if let Some(rival) = self.stays_for(other, id, is_member, &brought) {
                let rival = &self.service(rival).name;
                notes.push(format!("{name} is not started: it conflicts with {rival}"));
                continue;
            }
            let with_it = with_requires || is_member;
            if stopped && !with_it {
                let required = self.graph.requirers(other).contains(&id);
                if required {
                    let me = &self.service(id).name;
                    notes.push(format!(
                        "{name} was stopped by {by}: `start {me} --with-requires` starts it too"
                    ));
                }
                continue;
            }
            if self.obstacle_of_definition(other).is_none() {
                brought.push(other);
                if service.wanted == Wanted::Stop {
                    self.displace(other, for_good, actor, &mut notes);
                    match for_good {
                        true => self.set_wanted(other, Wanted::Start, actor),
                        false => self.want_for_now(other, Wanted::Start, false, actor),
                    }
                    notes.push(format!("starts {name} too"));
                }
                // What is there already is left alone: a oneshot that is done, a process.
                let service = self.service(other);
                if !service.state.is_live() && !service.is_satisfied() {
                    self.refund(other);
                    self.start(other, Cause::Operator);
                }
            }
        }
        notes
    }

    /// Wanted, with a whole budget; what that means for it as it is.
    pub(super) fn bring_up(&mut self, id: ServiceId, actor: &Actor) -> String {
        let degraded = self.service(id).standing.is_some();
        self.refund(id);
        match self.service(id).state {
            State::Running | State::Starting if degraded => {
                self.reconsider(id);
                match self.service(id).decisions.back() {
                    Some(d) => format!("budget refunded; gate asked: {}: {}", d.verdict, d.reason),
                    None => "budget refunded".to_owned(),
                }
            }
            State::Running => "is running".to_owned(),
            State::Starting => {
                if self.waits_to_spawn(id) {
                    // Perhaps for the end of a hold.
                    self.spawn_again(id, Cause::Operator);
                }
                match self.service(id).state {
                    State::Blocked => {
                        format!("blocked: {}", self.waits_for(id, Some(actor.wall_ms)))
                    }
                    State::Starting
                    | State::Inactive
                    | State::Running
                    | State::Stopping
                    | State::Backoff
                    | State::Exited
                    | State::Failed => "is starting".to_owned(),
                }
            }
            State::Stopping => {
                if let Some(stop) = self.stop_mut(id) {
                    stop.then_start = true;
                }
                self.cut_evidence(id);
                self.mark(id);
                "is stopping, starts as soon as it is gone".to_owned()
            }
            State::Exited if self.is_undoable(id) => {
                let name = &self.service(id).name;
                format!("is done; `restart {name}` undoes it and does it again")
            }
            State::Inactive | State::Blocked | State::Backoff | State::Exited | State::Failed => {
                self.start(id, Cause::Operator);
                self.settle();
                match self.service(id).state {
                    State::Blocked => {
                        format!("blocked: {}", self.waits_for(id, Some(actor.wall_ms)))
                    }
                    state => state.word().to_owned(),
                }
            }
        }
    }

    pub(super) fn startable(&self, id: ServiceId) -> Result<(), Refusal> {
        if self.shutdown.is_some() {
            return Err(refuse(code::SHUTTING_DOWN, "the daemon is shutting down"));
        }
        match self.obstacle_of_definition(id) {
            Some(words) => {
                let name = &self.service(id).name;
                Err(refuse(
                    code::CONFIG,
                    &format!("{name} cannot be started: {words}"),
                ))
            }
            None => Ok(()),
        }
    }

    fn verb_stop(&mut self, id: ServiceId, for_good: bool, actor: &Actor) -> String {
        let group = self.service(id).is_target();
        let members = match group {
            true => self.stop_members(id, for_good, actor),
            false => String::new(),
        };
        let mut note = self.stop_one(id, for_good, actor);
        if !for_good {
            note.push_str(self.at_boot_words(id));
        }
        note.push_str(&members);
        note.push_str(&self.running_on(id));
        note
    }

    pub(super) fn stop_one(&mut self, id: ServiceId, for_good: bool, actor: &Actor) -> String {
        match for_good {
            true => self.set_wanted(id, Wanted::Stop, actor),
            false => self.want_for_now(id, Wanted::Stop, false, actor),
        }
        let undoes = self.is_undoable(id);
        let state = self.service(id).state;
        let by = format!("by {}", actor.name).into();
        self.cue(id, Cue::Stop, Cause::Operator, by);
        if let Some(stop) = self.stop_mut(id) {
            stop.wanted = true;
        }
        let mut note = match state {
            _ if undoes => "undoing what it did".to_owned(),
            State::Running if self.service(id).state == State::Inactive => "stopped".to_owned(),
            State::Starting | State::Running => "stopping".to_owned(),
            State::Stopping => "is stopping, will not be started again".to_owned(),
            State::Inactive | State::Blocked | State::Backoff | State::Exited | State::Failed => {
                "stopped".to_owned()
            }
        };
        if self.service(id).pinned {
            note.push_str("; its pin holds it so now");
        }
        note.push_str(&self.stopping_first(id));
        note
    }

    /// A line that names who requires it and runs; empty when nobody does.
    pub(super) fn running_on(&self, id: ServiceId) -> String {
        let dependents: Vec<&str> = self
            .graph
            .needed_by(id)
            .iter()
            .filter(|(who, edge)| {
                let runs = self.service(*who).state.is_live() && !self.service(*who).is_target();
                let goes_down = self.followers(id).contains(who);
                *edge == crate::graph::Edge::Requires && runs && !goes_down
            })
            .map(|(who, _)| &*self.service(*who).name)
            .collect();
        match dependents.is_empty() {
            true => String::new(),
            false => format!("\nrunning on without it: {}", dependents.join(", ")),
        }
    }

    fn verb_restart(&mut self, id: ServiceId, actor: &Actor) -> Result<String, Refusal> {
        self.startable(id)?;
        let group = self.service(id).is_target();
        if !group {
            return self.restart_one(id, actor);
        }
        self.may_displace(id)?;
        let mut notes = Vec::new();
        self.displace(id, true, actor, &mut notes);
        if self.service(id).wanted != Wanted::Start || self.service(id).at_boot.is_some() {
            self.set_wanted(id, Wanted::Start, actor);
        }
        let members = self.restart_members(id, actor);
        let note = match self.service(id).state {
            State::Running => "restarting its members".to_owned(),
            State::Inactive
            | State::Blocked
            | State::Starting
            | State::Stopping
            | State::Backoff
            | State::Exited
            | State::Failed => self.bring_up(id, actor),
        };
        notes.insert(0, note + &members);
        Ok(notes.join("\n"))
    }

    pub(super) fn restart_one(&mut self, id: ServiceId, actor: &Actor) -> Result<String, Refusal> {
        self.startable(id)?;
        self.may_displace(id)?;
        let mut notes = Vec::new();
        self.displace(id, true, actor, &mut notes);
        let service = self.service(id);
        if service.wanted != Wanted::Start || service.at_boot.is_some() {
            self.set_wanted(id, Wanted::Start, actor);
        }
        let note = match self.service(id).state {
            State::Starting | State::Running => {
                self.refund(id);
                let by = format!("by {}", actor.name).into();
                self.cue(id, Cue::Cycle, Cause::Operator, by);
                format!("restarting{}", self.stopping_first(id))
            }
            State::Exited if self.is_undoable(id) => {
                self.refund(id);
                let by = format!("by {}", actor.name).into();
                self.cue(id, Cue::Undo, Cause::Operator, by);
                "undoing what it did, then it is run again".to_owned()
            }
            State::Inactive
            | State::Blocked
            | State::Stopping
            | State::Backoff
            | State::Exited
            | State::Failed => self.bring_up(id, actor),
        };
        notes.insert(0, note);
        Ok(notes.join("\n"))
    }

    fn verb_reset(&mut self, id: ServiceId, actor: &Actor) -> String {
        let used = self.service(id).attempts;
        let wanted = self.will(id) == Wanted::Start;
        let note = match self.service(id).state {
            State::Failed if wanted && !self.service(id).once => self.bring_up(id, actor),
            State::Starting | State::Running if self.service(id).standing.is_some() => {
                self.bring_up(id, actor)
            }
            State::Inactive
            | State::Blocked
            | State::Starting
            | State::Running
            | State::Stopping
            | State::Backoff
            | State::Exited
            | State::Failed => {
                self.refund(id);
                "budget refunded".to_owned()
            }
        };
        format!("{note}\nattempts {used} -> {}", self.service(id).attempts)
    }

    fn verb_signal(&mut self, id: ServiceId, signal: Signal) -> Result<String, Refusal> {
        let service = self.service(id);
        let here = |run: &&table::Run| run.exit.is_none() && run.seek.is_none();
        let live = service.run.as_deref().filter(here);
        let Some((run, pid)) = live.and_then(|run| Some((run.id, run.main()?))) else {
            let words = format!("{} has no process: it is {}", service.name, service.state);
            return Err(refuse(code::IS_DOWN, &words));
        };
        self.effects.push(Effect::Signal {
            run,
            pid,
            signal,
            group: false,
        });
        Ok(format!("{signal} sent to pid {pid}"))
    }

    fn verb_hold(&mut self, length: Option<Duration>, actor: &Actor) -> String {
        let until = length.map(|length| self.now + length);
        let hold = HoldRecord {
            owner: actor.name.clone(),
            since: self.now,
            until,
        };
        match until {
            Some(until) => self.timers.set(Key::HOLD_END, until),
            None => self.timers.cancel(Key::HOLD_END),
        }
        self.records.push(Record::Hold(Some(hold.clone())));
        self.hold = Some(hold);
        match length {
            Some(length) => format!(
                "no automatic restarts for {}; `release` ends that sooner",
                crate::time::spoken(length)
            ),
            None => "no automatic restarts until `release`".to_owned(),
        }
    }

    fn verb_release(&mut self, actor: &Actor) -> String {
        let storm = self.release_storm(&actor.name);
        let hold = self.hold.is_some();
        self.release();
        match (hold, storm) {
            (true, _) => "automatic restarts go on".to_owned(),
            (false, true) => "restarts for health go on, one by one".to_owned(),
            (false, false) => "there was no hold".to_owned(),
        }
    }

    pub(super) fn release(&mut self) {
        if self.hold.take().is_none() {
            return;
        }
        self.timers.cancel(Key::HOLD_END);
        self.records.push(Record::Hold(None));
        for id in self.ids() {
            self.unheld(id);
            let held = self.service(id).standing.as_ref().is_some_and(|s| {
                matches!(
                    s.ruling,
                    Ruling::Deferred {
                        reason: crate::service::gate::Reason::Hold,
                        ..
                    }
                )
            });
            if held {
                self.reconsider(id);
            }
        }
    }

    // --- wanted, durably

    pub(super) fn set_wanted_by(&mut self, id: ServiceId, to: Wanted, by: &str, wall_ms: u64) {
        let service = self.service_mut(id);
        let from = service.wanted_word();
        (service.once, service.at_boot) = (false, None);
        service.wanted = to;
        service.wanted_by = by.into();
        service.wanted_at_ms = wall_ms;
        self.mind_schedule(id);
        self.remember(id, to.word());
        self.mind_sockets(id);
        if from == to.word() {
            self.mark(id);
        } else {
            let by = format!("by {by}").into();
            self.tell(id, TransitionKind::Wanted, from, to.word(), "operator", by);
        }
    }

    /// To the state directory: what is wanted (`start`, `stop`, empty: forgotten), and the
    /// definition that was given.
    pub(super) fn remember(&mut self, id: ServiceId, wanted: &str) {
        self.remember_seq += 1;
        let service = self.service(id);
        let schedule = service
            .definition
            .as_ref()
            .and_then(|d| d.schedule.as_ref());
        let catch_up = schedule.is_some_and(|schedule| schedule.catch_up);
        let wanted = WantedRecord {
            name: (&*service.name).into(),
            wanted: wanted.into(),
            by: service.wanted_by.clone(),
            at_wall_ms: service.wanted_at_ms,
            pinned: service.pinned,
            definition: service.given.clone(),
            since_ms: service.timed.since_ms.filter(|_| catch_up),
        };
        self.effects.push(Effect::Remember {
            seq: self.remember_seq,
            wanted,
        });
    }

    pub(super) fn set_wanted(&mut self, id: ServiceId, to: Wanted, actor: &Actor) {
        self.set_wanted_by(id, to, &actor.name, actor.wall_ms);
    }
}

pub(super) fn refuse(code: i32, message: &str) -> Refusal {
    Refusal::new(code, message)
}
