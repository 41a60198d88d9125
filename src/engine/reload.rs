//! New definitions: only what changed is touched.
//!
//! Invariants: a broken file changes nothing but what is said of it; a change in what the
//! process is restarts it by cause `config`, any other is applied to the living run; definitions
//! that make a cycle which is not there yet change nothing at all.

use super::answers::Pending;
use super::operator::refuse;
use super::plan::{Action, Plan};
use super::table::Watch;
use super::*;
use crate::config::Definition;
use crate::config::diff::{Change, diff};
use crate::id::Ticket;
use crate::service::state::{Cause, Cue, State, Wanted};
use crate::time::spoken;
use std::collections::BTreeMap;

impl Engine {
    pub(super) fn reloaded(
        &mut self,
        ticket: Option<Ticket>,
        files: Vec<Loaded>,
        terms: Terms,
        settings: Option<&NewSettings>,
    ) {
        let mut plan = self.plan(&files);
        plan.dry_run = terms.dry_run;
        plan.settings = settings.map(NewSettings::plan);
        let refused = self.refuses(&plan, &files, &terms);
        if refused.is_some() || terms.dry_run {
            return self.answer_reloaded(ticket, plan, refused, &terms);
        }
        self.reloads += 1;
        // A reload that went back is over with the next one.
        let (before, settings_before) = match terms.confirm {
            Some(_) => (self.before(&plan), self.settings_to_keep(settings)),
            None => (Vec::new(), None),
        };
        let promised = self.remember_seq;
        self.pledge_reload(&terms, before, settings_before);
        let well = self.well_before(&plan);
        // What follows is decided by them.
        if let Some(settings) = settings {
            self.take_settings(settings);
        }
        let mut changed = BTreeMap::new();
        for loaded in files {
            self.apply(loaded, &mut changed);
        }
        let gone = plan.steps.iter().filter(|s| s.action == Action::Remove);
        let gone = gone.filter_map(|step| self.find(&step.service)).collect();
        self.remove_all(gone);
        self.defined(&changed);
        self.watch(&plan, &well);
        if self.remember_seq == promised {
            return self.answer_reloaded(ticket, plan, None, &terms);
        }
        // Answered when what comes back is on disk, should the machine die.
        if let Some(ticket) = ticket {
            let durable = Some((self.remember_seq, self.now + limits::DURABLE_WAIT));
            let accepted = self.accepted(plan, &terms);
            self.pending.push(Pending {
                ticket,
                accepted,
                durable,
                goal: None,
            });
            self.answer_ready();
        }
    }

    /// One file's content, as what is in force. `changed`: whose, and whether its process is
    /// another.
    fn apply(&mut self, loaded: Loaded, changed: &mut BTreeMap<ServiceId, bool>) {
        let id = self.add(&loaded.name);
        match (self.service(id).definition.clone(), loaded.definition) {
            (Some(old), Ok(new)) => {
                let service = self.service_mut(id);
                service.source = loaded.source;
                service.problem = None;
                if let Some((_, restart)) = self.redefine(id, &old, new) {
                    changed.insert(id, restart);
                }
            }
            (Some(_), Err(problem)) => self.service_mut(id).problem = Some(problem),
            (None, definition) => {
                let (name, source) = (loaded.name, loaded.source);
                let loaded = Loaded {
                    name,
                    source,
                    definition,
                };
                self.define_anew(id, loaded);
                changed.insert(id, false);
            }
        }
    }

    /// Why nothing of it is done.
    fn refuses(&self, plan: &Plan, files: &[Loaded], terms: &Terms) -> Option<Refusal> {
        if let Some(path) = self.new_cycle(files) {
            let words = format!(
                "refused as a whole, nothing was touched: the definitions make a dependency cycle: {path}"
            );
            return Some(refuse(code::CONFIG, &words));
        }
        let all_or_nothing = terms.strict || terms.confirm.is_some();
        if let Some((broken, _)) = unusable(plan).filter(|_| all_or_nothing) {
            let words = format!("refused as a whole, nothing was touched: {broken}");
            return Some(refuse(code::CONFIG, &words));
        }
        let open = self.reload.as_ref().filter(|reload| reload.is_open());
        if let (Some(open), None, false) = (open, terms.confirm, terms.dry_run) {
            let words = format!(
                "refused, nothing was touched: the reload by {} waits to be confirmed: `confirm` or \
                 `revert` it first, or reload with --confirm once more",
                open.by
            );
            return Some(refuse(code::UNCONFIRMED, &words));
        }
        None
    }

    fn answer_reloaded(
        &mut self,
        ticket: Option<Ticket>,
        plan: Plan,
        refused: Option<Refusal>,
        terms: &Terms,
    ) {
        let Some(ticket) = ticket else { return };
        let nothing = refused.is_some() || terms.dry_run;
        let mut refusal = match (refused, unusable(&plan), terms.dry_run) {
            (Some(refusal), ..) => refusal,
            (None, None, _) => {
                let accepted = self.accepted(plan, terms);
                return self.answer(ticket, Ok(accepted));
            }
            (None, Some((broken, others)), false) => {
                refuse(code::CONFIG, &format!("{broken}; {others}"))
            }
            (None, Some((broken, _)), true) => {
                refuse(code::CONFIG, &format!("{broken}; nothing was touched"))
            }
        };
        let mut words = vec![refusal.message.to_string()];
        if let Some(problem) = plan.settings_problem() {
            words.push(format!(
                "{problem}\n  vitald.toml: the settings before stay in force"
            ));
        }
        for step in plan.steps.iter() {
            let Some(problem) = &step.problem else {
                continue;
            };
            let defined = self.find(&step.service).map(|id| self.service(id));
            words.push(match defined.and_then(|s| s.definition.as_ref()) {
                Some(_) => format!(
                    "{problem}\n  {}: the previous definition stays in force",
                    step.service
                ),
                None => problem.clone(),
            });
        }
        if nothing && !plan.changes_nothing() {
            words.push("what would have been done:".to_owned());
        }
        if !nothing || !plan.changes_nothing() {
            words.extend(plan.lines());
        }
        refusal.message = words.join("\n").into();
        refusal.plan = Some(Box::new(plan));
        self.answer(ticket, Err(refusal));
    }

    fn accepted(&self, plan: Plan, terms: &Terms) -> Accepted {
        let mut lines = plan.lines();
        let open = self.reload.as_ref().filter(|reload| reload.is_open());
        if terms.dry_run {
            lines.push("nothing was touched: this is what `reload` would do".to_owned());
        } else if let (Some(length), Some(_)) = (terms.confirm, open) {
            lines.push(format!(
                "`confirm` within {}, or what was in force before comes back; `revert` does that now",
                spoken(length)
            ));
        } else if terms.confirm.is_some() {
            lines.push("there is nothing to confirm".to_owned());
        }
        Accepted {
            note: lines.join("\n").into(),
            plan: Some(Box::new(plan)),
            ..Accepted::default()
        }
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
            self.mind_target(id);
            self.mind_schedule(id);
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
            State::Failed => (anew && !service.once) || undefined,
            State::Exited => !service.once && self.starts_later(id, Cause::Config),
            State::Starting | State::Running | State::Stopping => false,
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
        self.leaving.retain(|(who, _)| *who != id);
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
        self.redefine_because(id, old, new, "")
    }

    pub(super) fn redefine_because(
        &mut self,
        id: ServiceId,
        old: &Definition,
        new: Rc<Definition>,
        why: &str,
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
        let group = self.service(id).is_target();
        if restart && !group && !self.waits_to_spawn(id) {
            let detail = match why {
                "" => note.clone(),
                why => format!("{note}; {why}"),
            };
            self.cue(id, Cue::Cycle, Cause::Config, detail.into());
        }
        self.relisten(id, old, &new);
        self.service_mut(id).definition = Some(new.clone());
        self.reschedule(id, old);
        if live && !restart {
            self.redefine_run(id, new);
        } else {
            self.allot_probes(id);
        }
        if restart && group {
            // Nothing ran by what it was: what it is now is begun.
            self.cue(id, Cue::Cycle, Cause::Config, note.clone().into());
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
        if old.probes != new.probes {
            run.health = run.verdict();
        }
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
        self.forget_unjudged_cure(id);
        // More or fewer of the same probes must be up.
        self.retell_health(id, |_| "by its new definition".into());
        self.ready_if_it_is(id);
        self.begin_checks(id);
        if ready_at.is_none() {
            // What could not be asked may be asked no more.
            self.excuse(id, now);
        }
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
            .is_some_and(|r| r.is_down() || r.is_watchdog_down() || r.overdue)
        {
            true => self.reconsider(id),
            false => self.recovered(id),
        }
    }
}

/// What of it cannot be used, and what of the rest is to be said; None: all can.
fn unusable(plan: &Plan) -> Option<(String, &'static str)> {
    let definitions = match plan.problems().count() {
        0 => None,
        1 => Some("a definition cannot be used".to_owned()),
        many => Some(format!("{many} definitions cannot be used")),
    };
    match (definitions, plan.settings_problem()) {
        (None, None) => None,
        (Some(words), None) => Some((words, "all others are in force")),
        (Some(words), Some(_)) => {
            let words = format!("{words}, nor can vitald.toml");
            Some((words, "all others are in force"))
        }
        (None, Some(_)) => Some((
            "vitald.toml cannot be used".to_owned(),
            "all definitions are in force",
        )),
    }
}
