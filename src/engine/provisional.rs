//! A reload that is to be confirmed: until then what was in force before it is kept, and comes
//! back by itself when the time is over, when a service that it touched does not work, or when the
//! operator says so. Then that is in force in place of the files, until the next reload.
//!
//! Watched is who was well before and was touched, and who is new; the first word against one of
//! them is enough: its run ended by itself, passed its start limit, is to be restarted for its
//! health, or cannot be any more. Who waits for another service is not judged, nor who cannot be
//! asked; for these there is the end of the time.
//!
//! Invariants: what comes back is written down before anything is touched, and that it came back
//! after all that was done for it, so that a daemon that dies in between goes back once more; who is
//! touched by `set`, `delete` or `stop` in between is the operator's.

use super::operator::{Actor, refuse};
use super::plan::{Action, Plan};
use super::status::ReloadStatus;
use super::*;
use crate::config::{Definition, names, show};
use crate::probe::Outcome;
use crate::service::gate::{Reason, Ruling};
use crate::service::state::{Cause, Cue, State, Wanted};
use crate::time::{Wall, millis, rfc3339_ms, spoken};
use snapshot::{Before, Watched, WentBack};
use std::collections::BTreeSet;

impl Engine {
    /// What is in force now, of each service that the plan touches.
    pub(super) fn before(&self, plan: &Plan) -> Vec<Before> {
        let touched = plan.steps.iter().filter(|step| step.action != Action::None);
        let before = touched.map(|step| {
            let known = self.find(&step.service).map(|id| self.service(id));
            Before {
                name: step.service.as_str().into(),
                source: known.map_or_else(Box::default, |s| s.source.clone()),
                definition: known.and_then(|s| s.definition.clone()),
                problem: known.and_then(|s| s.problem.clone()),
            }
        });
        before.collect()
    }

    /// Written down before anything is touched; or, with nothing to come back, forgotten.
    pub(super) fn pledge_reload(
        &mut self,
        terms: &Terms,
        before: Vec<Before>,
        settings: Option<Box<SettingsBefore>>,
    ) {
        let known = self.reload.is_some();
        let open = self.reload.take().filter(|old| old.is_open());
        let mut record = ReloadRecord::default();
        if let Some(open) = open {
            // What comes back is what was confirmed, however often it was reloaded since.
            record.before = open.before.clone();
            record.watched = open.watched.clone();
            record.settings = open.settings.clone();
            record.yielded = open.yielded.clone();
        }
        record.settings = record.settings.or(settings);
        let names: BTreeSet<Box<str>> = record.before.iter().map(|b| b.name.clone()).collect();
        let new = before.into_iter().filter(|b| !names.contains(&b.name));
        record.before.extend(new);
        let touched = !record.before.is_empty() || record.settings.is_some();
        let Some(length) = terms.confirm.filter(|_| touched) else {
            if known {
                self.forget_reload();
            }
            return;
        };
        record.by = terms.by.clone();
        record.at_wall_ms = terms.wall_ms;
        record.until = self.now + length;
        record.length_ms = millis(length);
        record.digest = terms.digest;
        let record = Rc::new(record);
        self.pledge = Some(Record::Reload(Some(record.clone())));
        self.keep_reload(Some(record));
    }

    /// Whose definitions were well before they are touched.
    pub(super) fn well_before(&self, plan: &Plan) -> Vec<bool> {
        let well = |name: &str| {
            self.find(name)
                .is_some_and(|id| self.service(id).is_satisfied())
        };
        plan.steps.iter().map(|step| well(&step.service)).collect()
    }

    /// From now on these have to be well, or all goes back.
    pub(super) fn watch(&mut self, plan: &Plan, well: &[bool]) {
        let Some(open) = self.open_reload() else {
            return;
        };
        let (by, within) = (
            open.by.clone(),
            spoken(Duration::from_millis(open.length_ms)),
        );
        let mut watched = open.watched.clone();
        for (step, well) in plan.steps.iter().zip(well) {
            let Some(id) = self.find(&step.service) else {
                continue;
            };
            let until = match step.action {
                Action::Live => {
                    let limit = self.service(id).definition.as_ref();
                    limit
                        .and_then(|d| d.start_timeout)
                        .map(|limit| self.now + limit)
                }
                Action::Add | Action::Restart => None,
                Action::Remove => {
                    watched.retain(|w| *w.name != *step.service);
                    None
                }
                Action::None | Action::Broken => continue,
            };
            let detail = match step.action {
                Action::Add => "it is new".to_owned(),
                Action::Remove => "it is gone".to_owned(),
                _ => step.differs(),
            };
            let detail = format!("{detail}; by {by}, to be confirmed within {within}").into();
            let kind = TransitionKind::Definition;
            self.tell(id, kind, "in force", "provisional", "config", detail);
            let judged = match step.action {
                Action::Add => self.service(id).definition.is_some(),
                Action::Restart | Action::Live => *well,
                Action::Remove | Action::None | Action::Broken => false,
            };
            let name: Box<str> = step.service.as_str().into();
            let known = watched.iter_mut().find(|w| w.name == name);
            match known {
                Some(known) => known.until = until,
                None if judged => watched.push(Watched { name, until }),
                None => {}
            }
        }
        self.change_reload(|record| record.watched = watched);
        // With this the first record is whole; what was touched is told behind it.
        if let Some(reload) = self.reload.clone() {
            self.pledge = Some(Record::Reload(Some(reload.clone())));
            if !reload.yielded.is_empty() {
                self.keep_reload(Some(reload));
            }
        }
        self.time_reload();
    }

    // --- the operator's word

    pub(super) fn verb_confirm(&mut self) -> Result<String, Refusal> {
        let Some(open) = self.open_reload() else {
            return Err(self.nothing_open("confirm"));
        };
        let left = open.until.since(self.now);
        self.tell_touched(&open, "in force", "confirmed");
        self.forget_reload();
        Ok(format!(
            "confirmed with {} left: what was reloaded stays",
            spoken(left)
        ))
    }

    pub(super) fn verb_revert(&mut self, actor: &Actor) -> Result<String, Refusal> {
        if self.open_reload().is_none() {
            return Err(self.nothing_open("revert"));
        }
        if self.shutdown.is_some() {
            return Err(refuse(code::SHUTTING_DOWN, "the daemon is shutting down"));
        }
        let open = self.open_reload();
        let settings = open.is_some_and(|open| open.settings.is_some());
        let count = self.go_back(&format!("reverted by {}", actor.name));
        let whose = match (count, settings) {
            (0, _) => "vitald.toml".to_owned(),
            (1, false) => "1 service".to_owned(),
            (1, true) => "1 service and vitald.toml".to_owned(),
            (many, false) => format!("{many} services"),
            (many, true) => format!("{many} services and vitald.toml"),
        };
        Ok(format!(
            "what was in force before is back, for {whose}; the files are as they were written, \
             the next `reload` takes them"
        ))
    }

    fn nothing_open(&self, verb: &str) -> Refusal {
        let words = match self.reload.as_ref().and_then(|r| r.went_back.as_ref()) {
            Some(back) => format!(
                "nothing to {verb}: the reload went back already: {}",
                back.why
            ),
            None => format!("nothing to {verb}: no reload waits to be confirmed"),
        };
        refuse(code::UNCONFIRMED, &words)
    }

    // --- the verdict

    /// Whether the next thing to do is to go back: then that is all this event does.
    pub(super) fn is_reload_due(&self) -> bool {
        let open = self.reload.as_ref().filter(|reload| reload.is_open());
        self.shutdown.is_none() && open.is_some_and(|open| open.until <= self.now)
    }

    pub(super) fn reload_due(&mut self) {
        let Some(open) = self.open_reload() else {
            return;
        };
        let length = spoken(Duration::from_millis(open.length_ms));
        let late = || format!("not confirmed within {length}").into();
        let why = open.verdict.clone().unwrap_or_else(late);
        self.go_back(&why);
    }

    /// Whether it must go back; when all of an event is known. It does so in one of its own, the
    /// next to come: what was decided in this one was by the definitions that are in force.
    pub(super) fn mind_reload(&mut self) {
        let Some(open) = self.open_reload().filter(|open| open.verdict.is_none()) else {
            return;
        };
        if self.shutdown.is_some() {
            return;
        }
        let wrong = open.watched.iter().find_map(|watched| {
            let words = self.gone_wrong(self.find(&watched.name)?, watched.until)?;
            Some(format!("{} {words}", watched.name))
        });
        let now = self.now;
        if let Some(words) = wrong {
            self.change_reload(|record| {
                record.until = now;
                record.verdict = Some(words.into());
            });
            // The next daemon may find it well again.
            self.records.push(Record::Reload(self.reload.clone()));
            return self.time_reload();
        }
        let over = |w: &Watched| w.until.is_some_and(|until| until <= now);
        if open.watched.iter().any(over) {
            // Not written down: the next daemon would find them well, too.
            self.change_reload(|record| {
                for watched in &mut record.watched {
                    watched.until = watched.until.filter(|until| *until > now);
                }
            });
            self.time_reload();
        }
    }

    /// Why a service that is watched is not what it was.
    fn gone_wrong(&self, id: ServiceId, until: Option<Time>) -> Option<String> {
        if self.will(id) != Wanted::Start {
            return None;
        }
        let service = self.service(id);
        let by_itself = service.cause.is_automatic();
        let wrong = match service.state {
            State::Failed => return Some(format!("failed: {}", service.trouble)),
            State::Exited => !service.is_oneshot(),
            State::Stopping | State::Backoff | State::Blocked => by_itself,
            State::Starting => by_itself || self.is_condemned(id),
            State::Running => self.is_condemned(id),
            State::Inactive => false,
        };
        if wrong {
            let decided = service.decisions.back().filter(|d| d.run == service.number);
            let words = match (decided, &service.last_end) {
                (Some(decision), _) => decision.reason.to_string(),
                (None, Some(end)) => end.exit.to_string(),
                (None, None) => service.state.word().to_owned(),
            };
            return Some(format!("does not work: {words}"));
        }
        let late = until.is_some_and(|until| until <= self.now);
        if late
            && service.state == State::Running
            && !service.is_satisfied()
            && !self.is_unasked(id)
        {
            return Some("is not healthy within its start timeout after the change".to_owned());
        }
        None
    }

    /// The gate has ruled on this run, and not because of another service.
    fn is_condemned(&self, id: ServiceId) -> bool {
        match self.service(id).standing.as_ref().map(|s| &s.ruling) {
            Some(Ruling::Deferred { reason, .. } | Ruling::Denied { reason }) => {
                !matches!(reason, Reason::Asking(_) | Reason::Dependency(_))
            }
            Some(Ruling::Shadow) => true,
            Some(Ruling::Allowed { .. } | Ruling::Absorbed { .. }) | None => false,
        }
    }

    /// We could not ask it.
    fn is_unasked(&self, id: ServiceId) -> bool {
        self.service(id).run.as_ref().is_some_and(|run| {
            run.watched().any(|(_, _, watch)| {
                let last = watch.last.as_ref();
                last.is_some_and(|last| matches!(last.outcome, Outcome::Inconclusive(_)))
            })
        })
    }

    // --- going back

    /// What was in force before is again; of how many services.
    fn go_back(&mut self, why: &str) -> usize {
        let Some(open) = self.open_reload() else {
            return 0;
        };
        let because = format!("the reload went back: {why}");
        if let Some(before) = &open.settings {
            self.put_settings_back(before);
        }
        let mut changed = BTreeMap::new();
        let mut gone = Vec::new();
        for before in &open.before {
            let id = self.add(&before.name);
            if let Some(changes) = self.put_back(id, before, &because) {
                changed.insert(id, changes);
            } else if before.definition.is_none() && before.problem.is_none() {
                gone.push(id);
            }
        }
        gone.retain(|id| self.is_present(*id));
        self.remove_all(gone);
        self.give_back(&open.yielded, &because);
        for watched in &open.watched {
            // It was well, so it is to be so again at once.
            if let Some(anew) = self.find(&watched.name).and_then(|id| changed.get_mut(&id)) {
                *anew = true;
            }
        }
        self.defined(&changed);
        for watched in &open.watched {
            let id = self.find(&watched.name);
            if let Some(id) = id.filter(|id| self.service(*id).state == State::Exited)
                && self.will(id) == Wanted::Start
                && !self.service(id).is_oneshot()
            {
                self.start(id, Cause::Config);
            }
        }
        self.tell_touched(&open, "previous", &because);
        let back = WentBack {
            at: self.now,
            why: why.into(),
        };
        self.change_reload(|record| {
            record.went_back = Some(back);
            record.verdict = None;
            record.watched = Vec::new();
            record.yielded = Vec::new();
        });
        self.release_reload_timers();
        // Behind the snapshots of all that was done for it.
        self.records.push(Record::Reload(self.reload.clone()));
        let reload = self.reload.clone();
        self.keep_reload(reload);
        open.before.len()
    }

    /// One service as it was; None: it was not, or is so already.
    fn put_back(&mut self, id: ServiceId, before: &Before, because: &str) -> Option<bool> {
        let now: Option<Rc<Definition>> = self.service(id).definition.clone();
        match (now, &before.definition) {
            (Some(now), Some(was)) => {
                let service = self.service_mut(id);
                service.source = before.source.clone();
                service.problem = before.problem.clone();
                let changes = self.redefine_because(id, &now, was.clone(), because);
                changes.map(|(_, restart)| restart)
            }
            (None, Some(was)) => {
                let loaded = Loaded {
                    name: before.name.clone(),
                    source: before.source.clone(),
                    definition: Ok(was.clone()),
                };
                self.define_anew(id, loaded);
                self.service_mut(id).problem = before.problem.clone();
                Some(false)
            }
            (now, None) if before.problem.is_some() => {
                if now.is_none() {
                    // As for any name that comes back.
                    self.refund(id);
                }
                let service = self.service_mut(id);
                service.definition = None;
                service.source = before.source.clone();
                service.problem = before.problem.clone();
                self.cue(id, Cue::Stop, Cause::Config, because.into());
                self.mark(id);
                Some(false)
            }
            (_, None) => None,
        }
    }

    fn tell_touched(&mut self, open: &ReloadRecord, to: &'static str, words: &str) {
        for before in &open.before {
            if let Some(id) = self.find(&before.name) {
                let kind = TransitionKind::Definition;
                self.tell(id, kind, "provisional", to, "config", words.into());
            }
        }
    }

    // --- the record

    pub(super) fn open_reload(&self) -> Option<Rc<ReloadRecord>> {
        self.reload.clone().filter(|reload| reload.is_open())
    }

    fn change_reload(&mut self, change: impl FnOnce(&mut ReloadRecord)) {
        if let Some(reload) = &mut self.reload {
            change(Rc::make_mut(reload));
        }
    }

    /// To the state directory too, which outlives the boot.
    fn keep_reload(&mut self, reload: Option<Rc<ReloadRecord>>) {
        // One line each, and the one that makes them count.
        let lines = reload.as_ref().map_or(0, |reload| reload.before.len());
        self.remember_seq += 1 + lines as u64;
        let seq = self.remember_seq;
        self.reload = reload.clone();
        self.effects.push(Effect::Keep { seq, reload });
    }

    /// The files are in force, for good.
    fn forget_reload(&mut self) {
        self.release_reload_timers();
        self.records.push(Record::Reload(None));
        self.keep_reload(None);
    }

    fn time_reload(&mut self) {
        let Some(open) = self.open_reload() else {
            return;
        };
        let unit = match self.reload_unit {
            Some(unit) => unit,
            None => self.timers.reload_unit(),
        };
        self.reload_unit = Some(unit);
        self.timers.set(Key::confirm(unit), open.until);
        match open
            .watched
            .iter()
            .filter_map(|watched| watched.until)
            .min()
        {
            Some(until) => self.timers.set(Key::limit(unit), until),
            None => self.timers.cancel(Key::limit(unit)),
        }
    }

    fn release_reload_timers(&mut self) {
        if let Some(unit) = self.reload_unit.take() {
            self.timers.release(unit);
        }
    }

    /// An operator has defined or deleted this service meanwhile: that is what comes back.
    pub(super) fn stays_given(&mut self, id: ServiceId) {
        let service = self.service(id);
        let mut now = Before {
            name: (&*service.name).into(),
            source: service.source.clone(),
            definition: service.definition.clone(),
            problem: service.problem.clone(),
        };
        let by_file = self.is_present(id) && service.given.is_none();
        if by_file {
            // What was given is deleted, and a file defines it now.
            (now.definition, now.problem) = (None, None);
        }
        let touched = |reload: &Rc<ReloadRecord>| {
            let before = reload.before.iter().find(|b| b.name == now.name);
            before.is_some_and(|before| !by_file || names::is_given(&before.source))
        };
        if !self.reload.as_ref().is_some_and(touched) {
            return;
        }
        self.change_reload(|record| {
            record.watched.retain(|watched| watched.name != now.name);
            if let Some(before) = record.before.iter_mut().find(|b| b.name == now.name) {
                *before = now;
            }
        });
        self.records.push(Record::Reload(self.reload.clone()));
        let reload = self.reload.clone();
        self.keep_reload(reload);
    }

    // --- over a death

    /// What a daemon before this one left: the definitions that are in force then. Of one that goes
    /// back with this boot: who had yielded to it.
    pub(super) fn take_up_reload(
        &mut self,
        left: Left,
        definitions: &mut Vec<Loaded>,
    ) -> Vec<snapshot::WantedRecord> {
        let Some(mut record) = left.record else {
            self.keep_reload(None);
            return Vec::new();
        };
        match (left.same_boot, left.same_files) {
            (true, _) if record.is_open() => {
                self.reload = Some(Rc::new(record));
                self.time_reload();
                return Vec::new();
            }
            (true, _) => {}
            (false, true) => {
                // Nobody confirmed it while it ran.
                let back = record.went_back.get_or_insert_with(|| WentBack {
                    why: "the machine was started anew before it was confirmed".into(),
                    ..WentBack::default()
                });
                back.at = self.now;
                record.watched = Vec::new();
            }
            (false, false) => {
                // Somebody has changed the files since, and started the machine with them.
                self.records.push(Record::Reload(None));
                self.keep_reload(None);
                return Vec::new();
            }
        }
        let yielded = std::mem::take(&mut record.yielded);
        for before in &record.before {
            definitions.retain(|loaded| loaded.name != before.name);
            let definition = match (&before.definition, &before.problem) {
                (Some(definition), _) => Ok(definition.clone()),
                (None, Some(problem)) => Err(problem.clone()),
                (None, None) => continue,
            };
            definitions.push(Loaded {
                name: before.name.clone(),
                source: before.source.clone(),
                definition,
            });
        }
        definitions.sort_by(|a, b| a.name.cmp(&b.name));
        let record = Rc::new(record);
        if left.same_boot {
            self.reload = Some(record);
            return Vec::new();
        }
        self.records.push(Record::Reload(Some(record.clone())));
        self.keep_reload(Some(record));
        yielded
    }

    /// How the definition of a service stands, where it is not simply its file's.
    pub(super) fn standing_definition(&self, id: ServiceId) -> Option<String> {
        let reload = self.reload.as_ref()?;
        let name = &*self.service(id).name;
        let before = reload.before.iter().find(|before| *before.name == *name)?;
        let by = &reload.by;
        match &reload.went_back {
            Some(back) => Some(format!(
                "the one before the reload by {by}, which went back: {}; `reload` takes the file",
                back.why
            )),
            None => {
                let left = spoken(reload.until.since(self.now));
                let now = self.service(id).definition.as_deref();
                let what = match (before.definition.as_deref(), now) {
                    (Some(was), Some(now)) => {
                        let keys = show::changes(was, now);
                        let keys: Vec<&str> = keys.iter().map(|change| &*change.key).collect();
                        keys.join(", ")
                    }
                    (None, Some(_)) => "new".to_owned(),
                    (_, None) => "removed".to_owned(),
                };
                Some(format!(
                    "provisional ({what}), by {by}: `confirm` within {left}, or the one before \
                     comes back"
                ))
            }
        }
    }

    pub(super) fn reload_status(&self, reload: &ReloadRecord, wall: Wall) -> ReloadStatus {
        let back = reload.went_back.as_ref();
        let until = reload.until;
        ReloadStatus {
            by: reload.by.to_string(),
            at: rfc3339_ms(reload.at_wall_ms),
            services: reload.before.len() as u32,
            goes_back_in_ms: back.is_none().then(|| millis(until.since(wall.now))),
            went_back_at: back.map(|back| wall.rfc3339(back.at)),
            why: back.map(|back| back.why.to_string()),
        }
    }
}
