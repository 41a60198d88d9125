//! New definitions: only what changed is touched.
//!
//! Invariants: a broken file changes nothing but what is said of it; a change in what the
//! process is restarts it by cause `config`, any other is applied to the living run.

use super::operator::refuse;
use super::table::Watch;
use super::*;
use crate::config::Definition;
use crate::config::diff::{Change, diff};
use crate::id::Ticket;
use crate::service::state::{Cause, Cue, State, Wanted};
use std::collections::{BTreeMap, BTreeSet};

impl Engine {
    pub(super) fn reloaded(&mut self, ticket: Option<Ticket>, files: Vec<Loaded>) {
        let mut notes = Vec::new();
        let mut problems = Vec::new();
        let mut named = BTreeSet::new();
        let mut changed = BTreeMap::new();
        for loaded in files {
            let id = self.add(&loaded.name);
            named.insert(id);
            let name = loaded.name.clone();
            match (self.service(id).definition.clone(), loaded.definition) {
                (Some(old), Ok(new)) => {
                    let service = self.service_mut(id);
                    service.source = loaded.source;
                    service.problem = None;
                    if let Some((note, restart)) = self.redefine(id, &old, new) {
                        notes.push(format!("{name}: {note}"));
                        changed.insert(id, restart);
                    }
                }
                (Some(_), Err(problem)) => {
                    problems.push(format!(
                        "{problem}\n  {name}: the previous definition stays in force"
                    ));
                    self.service_mut(id).problem = Some(problem);
                }
                (None, definition) => {
                    if let Err(problem) = &definition {
                        problems.push(problem.to_string());
                    } else {
                        notes.push(format!("{name}: added"));
                    }
                    let (name, source) = (loaded.name, loaded.source);
                    self.define_anew(
                        id,
                        Loaded {
                            name,
                            source,
                            definition,
                        },
                    );
                    changed.insert(id, false);
                }
            }
        }
        for id in self.ids().filter(|id| !named.contains(id)) {
            if self.is_present(id) {
                notes.push(format!("{}: removed", self.service(id).name));
                self.remove(id);
            }
        }
        self.defined(&changed);
        let Some(ticket) = ticket else { return };
        if notes.is_empty() && problems.is_empty() {
            notes.push("nothing changed".to_owned());
        }
        let answer = match problems.is_empty() {
            true => Ok(Accepted {
                note: notes.join("\n").into(),
                ..Accepted::default()
            }),
            false => {
                let summary = match problems.len() {
                    1 => "a definition cannot be used; all others are in force".to_owned(),
                    many => format!("{many} definitions cannot be used; all others are in force"),
                };
                problems.insert(0, summary);
                problems.extend(notes);
                Err(refuse(code::CONFIG, &problems.join("\n")))
            }
        };
        self.effects.push(Effect::Answer { ticket, answer });
    }

    /// Definitions came, changed or went; `changed`: whose, and whether what the process is has.
    pub(super) fn defined(&mut self, changed: &BTreeMap<ServiceId, bool>) {
        self.relink();
        for (id, anew) in changed {
            self.rejudge(*id);
            if *anew && self.waits_to_spawn(*id) {
                self.spawn_again(*id, Cause::Config);
            }
        }
        for id in self.ids() {
            if self.will(id) == Wanted::Start {
                self.want_requirements(id);
            }
        }
        self.arbitrate();
        for id in changed.keys() {
            // What is to become of it without what it requires may be new.
            self.unsettled.push(*id);
        }
        for id in self.ids() {
            self.start_by_definition(id, changed.get(&id) == Some(&true));
        }
    }

    /// Starts what is wanted and waits for nothing but a definition by which it may. `anew`: what
    /// its process is has changed.
    fn start_by_definition(&mut self, id: ServiceId, anew: bool) {
        if !self.is_present(id) {
            return;
        }
        let service = self.service(id);
        let undefined = service.state == State::Failed && service.cause == Cause::Config;
        let waits = match service.state {
            State::Inactive | State::Blocked => true,
            // It failed by what it was; and what could not be started as it was defined.
            State::Backoff => anew,
            State::Failed => anew || undefined,
            State::Starting | State::Running | State::Stopping | State::Exited => false,
        };
        // What is blocked goes on waiting for the cause for which it was to start.
        let blocked = service.state == State::Blocked && self.obstacle_of_definition(id).is_none();
        if service.wanted == Wanted::Start && blocked {
            self.unblock(id);
        } else if service.wanted == Wanted::Start && waits {
            self.start(id, Cause::Config);
        } else if undefined && self.obstacle_of_definition(id).is_none() {
            self.cue(
                id,
                Cue::Stop,
                Cause::Config,
                "its definition is mended".into(),
            );
        }
    }

    /// A definition where there was none: a new service, or one that comes back.
    pub(super) fn define_anew(&mut self, id: ServiceId, loaded: Loaded) {
        self.define(id, loaded);
        self.refund(id);
        self.readopt(id);
    }

    /// A process that outlived both the daemon and its definition is watched again.
    fn readopt(&mut self, id: ServiceId) {
        let service = self.service(id);
        let live = matches!(service.state, State::Starting | State::Running);
        if let (true, Some(definition)) = (live, service.definition.clone()) {
            self.redefine_run(id, definition);
            // Those who require it can rely on it again.
            self.unsettled.push(id);
        }
    }

    /// What is done about a changed definition, in words; and whether its process is another.
    pub(super) fn redefine(
        &mut self,
        id: ServiceId,
        old: &Definition,
        new: Rc<Definition>,
    ) -> Option<(String, bool)> {
        let (note, restart) = match diff(old, &new) {
            Change::None => return None,
            Change::Live(keys) => (format!("applied live: {}", keys.join(", ")), false),
            Change::Restart(keys) => (keys.join(", "), true),
        };
        self.refund(id);
        let live = matches!(self.service(id).state, State::Starting | State::Running);
        // What runs is ended as it was defined, what is stopping goes on as it does; what is still
        // to be spawned is so later, as it is then.
        if restart && !self.waits_to_spawn(id) {
            self.cue(id, Cue::Cycle, Cause::Config, note.clone().into());
        }
        self.service_mut(id).definition = Some(new.clone());
        if live && !restart {
            self.redefine_run(id, new);
        } else {
            self.allot_probes(id);
        }
        let note = match (restart, live) {
            (true, true) => format!("restarting, changed: {note}"),
            (true, false) => format!("changed: {note}"),
            (false, _) => note,
        };
        Some((note, restart))
    }

    /// The living run goes on under the new definition; probes that changed start anew.
    fn redefine_run(&mut self, id: ServiceId, new: Rc<Definition>) {
        self.cancel_checks(id);
        self.allot_probes(id);
        let (now, late) = (self.now, self.lateness.total);
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        let old = std::mem::replace(&mut run.definition, new.clone());
        let mut before: Vec<(usize, Watch)> = std::mem::take(&mut run.probes)
            .into_vec()
            .into_iter()
            .enumerate()
            .collect();
        run.probes = new
            .probes
            .iter()
            .map(|probe| {
                let same = before
                    .iter()
                    .position(|(index, _)| old.probes[*index] == *probe);
                same.map_or_else(Watch::default, |at| before.swap_remove(at).1)
            })
            .collect();
        // What its new probes say first is news to those who wait for it.
        run.health = run.verdict();
        let ready_at = run.ready_at;
        let begun = !run.hooks.waits && !run.hooks.again;
        if old.notify.is_none() && new.notify.is_some() && ready_at.is_none() && begun {
            // It was without a definition, and nobody listened.
            run.told.get_or_insert_default().doubt = true;
            run.begin_start_limit(now, late);
            run.overdue = false;
        } else if ready_at.is_none() && begun && old.start_timeout != new.start_timeout {
            run.start_until = match (run.start_until, old.start_timeout, new.start_timeout) {
                // What was excused before this daemon came is in it.
                (Some(until), Some(was), Some(limit)) => Some(until + limit - was),
                (_, _, limit) => limit.map(|limit| run.spawned_at + limit),
            };
            let due = run.start_deadline(now, late);
            run.overdue &= due.is_some_and(|due| due <= now);
        }
        if ready_at.is_none() && begun && !run.overdue {
            self.set_start_limit(id);
        }
        self.time_refund(id);
        self.arm_watchdog(id);
        self.ready_if_it_is(id);
        self.begin_checks(id);
        self.mark(id);
    }

    /// A stability period refunds a service without probes; one with probes only what they say.
    fn time_refund(&mut self, id: ServiceId) {
        let key = self.service_key(id, Key::refund);
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        match run.ready_at.filter(|_| !run.has_judges()) {
            Some(ready) => {
                let sustained = ready + run.definition.retry_policy.stability_period;
                self.timers.set(key, sustained.max(self.now));
            }
            None => self.timers.cancel(key),
        }
    }

    /// The trouble may have lost its probe, or the policy its reason.
    fn rejudge(&mut self, id: ServiceId) {
        match self
            .service(id)
            .run
            .as_ref()
            .is_some_and(|r| r.down().next().is_some() || r.is_watchdog_down() || r.overdue)
        {
            true => self.reconsider(id),
            false => self.recovered(id),
        }
    }

    /// The file is gone: the service is stopped, what the operator wanted is remembered.
    pub(super) fn remove(&mut self, id: ServiceId) {
        let service = self.service_mut(id);
        service.definition = None;
        service.problem = None;
        if service.state == State::Inactive {
            self.effects.push(Effect::Forget { service: id });
        }
        // As long as it is known who they are.
        self.take_down(id);
        self.cue(
            id,
            Cue::Stop,
            Cause::Config,
            "its definition was removed".into(),
        );
        self.mark(id);
    }
}
