//! What ties services to each other, checked: who may start beside whom and after whom, who goes
//! down with whom, and that pins hold.

use super::Watcher;
use super::book::By;
use super::rules::{is_up, status_of};
use crate::config::{Definition, OnDependency};
use crate::engine::Engine;
use crate::engine::status::Status;
use crate::simulator::kernel::Kernel;
use crate::time::Time;
use std::rc::Rc;

impl Watcher {
    fn definition(&self, name: &str) -> Option<Rc<Definition>> {
        self.books.get(name)?.definition.clone()
    }

    fn is_present(&self, name: &str) -> bool {
        self.books.get(name).is_some_and(|book| book.present)
    }

    /// Whom it must not run beside, whoever says so.
    pub(super) fn rivals(&self, name: &str) -> Vec<String> {
        let says = |who: &str, whom: &str| {
            let definition = self.definition(who);
            definition.is_some_and(|d| d.conflicts().iter().any(|other| **other == *whom))
        };
        let others = self.books.keys().filter(|other| *other != name);
        let present = others.filter(|other| self.is_present(other) && self.is_present(name));
        let rivals = present.filter(|other| says(name, other) || says(other, name));
        rivals.cloned().collect()
    }

    /// A rival is wanted: that is why it is stopped.
    pub(super) fn gives_way(&self, name: &str) -> bool {
        let wanted = |other: &String| {
            self.books
                .get(other)
                .is_some_and(|book| book.wanted != Some(false))
        };
        self.rivals(name).iter().any(wanted)
    }

    /// An operator starts it: whoever conflicts with it is wanted stopped.
    pub(super) fn displaces(&mut self, name: &str, passing: bool) {
        for rival in self.rivals(name) {
            if let Some(book) = self.books.get_mut(&rival)
                && book.wanted != Some(false)
            {
                book.stopped();
                book.passing = passing;
                book.durable = None;
            }
        }
    }

    /// Definitions came: which of two that conflict is wanted is to be seen.
    pub(super) fn is_arbitrated(&mut self) {
        let names: Vec<String> = self.books.keys().cloned().collect();
        for name in names {
            if self.rivals(&name).is_empty() {
                continue;
            }
            if let Some(book) = self.books.get_mut(&name) {
                book.wanted = None;
                book.durable = None;
            }
        }
    }

    /// What it needs, directly or through others, contains this one.
    pub(super) fn needs(&self, name: &str, other: &str) -> bool {
        let mut seen = vec![name.to_owned()];
        let mut at = 0;
        while let Some(who) = seen.get(at).cloned() {
            at += 1;
            let Some(definition) = self.definition(&who) else {
                continue;
            };
            for need in definition.requires.iter().chain(definition.milestone()) {
                if **need == *other {
                    return true;
                }
                if !seen.iter().any(|known| **known == **need) {
                    seen.push(need.to_string());
                }
            }
        }
        false
    }

    /// To be started for the sake of `name`, it would take the place of whom that needs, or of one
    /// that is pinned; or it is merely wanted by it.
    pub(super) fn stays_for(&self, other: &str, name: &str, is_member: bool) -> bool {
        let needed = self.needs(name, other);
        let rivals = self.rivals(other);
        rivals.iter().any(|rival| {
            let Some(book) = self.books.get(rival) else {
                return false;
            };
            let pinned = book.pinned && book.wanted == Some(true);
            let keeps = !needed && !is_member && book.wanted != Some(false);
            *rival == name || self.needs(name, rival) || pinned || keeps
        })
    }

    /// Nothing in its definition keeps it from being started.
    pub(super) fn has_all_it_requires(&self, name: &str) -> bool {
        let present = |other: &str| self.books.get(other).is_some_and(|book| book.present);
        let definition = self.books.get(name).and_then(|b| b.definition.as_ref());
        definition.is_some_and(|d| {
            let mut needs = d.requires.iter().chain(d.milestone());
            needs.all(|other| present(other))
        })
    }

    /// Who says that it comes before this one.
    fn before(&self, name: &str) -> Vec<String> {
        let says = |other: &&String| {
            let definition = self.definition(other);
            definition.is_some_and(|d| d.before().iter().any(|whom| **whom == *name))
        };
        match self.is_present(name) {
            true => self.books.keys().filter(says).cloned().collect(),
            false => Vec::new(),
        }
    }

    /// All that is in the way of a start, by what was seen before this event and what is so now.
    pub(super) fn in_the_way(
        &self,
        now: Time,
        name: &str,
        restarted: bool,
        engine: &Engine,
        kernel: &Kernel,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for rival in self.rivals(name) {
            if kernel.alive(&rival) > 0 {
                wrong.push(format!("{rival} lives, with which it conflicts"));
            }
        }
        let Some(definition) = self.definition(name) else {
            return wrong;
        };
        if self.step.boot {
            return wrong;
        }
        let met = |other: &str, test: &dyn Fn(&Status) -> bool, well: bool| {
            let Some(book) = self.books.get(other).filter(|book| book.present) else {
                return true;
            };
            let undefined = book.definition.is_none();
            let was = book.seen.as_ref().is_some_and(test) || (well && book.satisfied);
            let is = status_of(engine, other, now).is_none_or(|status| test(&status));
            let well = well && super::rules::is_satisfied(engine, other, now);
            was || is || well || undefined
        };
        let over = |status: &Status| matches!(&*status.state, "failed" | "exited");
        let rests = |status: &Status| {
            let planned = status.schedule.as_ref().is_some_and(|s| !s.suspended);
            planned && status.state == "inactive"
        };
        let unwanted = |status: &Status| over(status) || status.wanted == "stop" || rests(status);
        let ended = |status: &Status| {
            let live = matches!(&*status.state, "starting" | "running" | "stopping");
            over(status)
                || (!live && (status.wanted == "stop" || status.listening || rests(status)))
        };
        let never = |_: &Status| false;
        let orders = definition.after.iter().chain(&definition.wants);
        let orders: Vec<String> = orders.map(|other| other.to_string()).collect();
        for other in orders.iter().chain(&self.before(name)) {
            if !met(other, &unwanted, true) {
                wrong.push(format!(
                    "{other}, which comes before it, is about to be well"
                ));
            }
        }
        for other in definition.after_exit() {
            if !met(other, &ended, false) {
                wrong.push(format!("{other}, whose end it waits for, has not ended"));
            }
        }
        for other in definition.milestone().iter().filter(|_| !restarted) {
            if !met(other, &never, true) && self.definition(other).is_some() {
                wrong.push(format!("{other}, its milestone, is not well"));
            }
        }
        wrong
    }

    /// Nothing of the ties is in its way, for certain.
    pub(super) fn is_untied(&self, name: &str, definition: &Definition) -> bool {
        let well = |other: &str| self.books.get(other).is_some_and(|book| book.satisfied);
        let over = |other: &str| {
            let seen = self.books.get(other).and_then(|book| book.seen.as_ref());
            seen.is_some_and(|status| matches!(&*status.state, "failed" | "exited"))
        };
        let still = |other: &String| {
            let book = self.books.get(other);
            let seen = book.and_then(|book| book.seen.as_ref());
            let live = |s: &Status| matches!(&*s.state, "starting" | "running" | "stopping");
            book.is_some_and(|book| book.run.is_none()) && !seen.is_some_and(live)
        };
        self.before(name).iter().all(|other| well(other))
            && definition.milestone().iter().all(|other| well(other))
            && definition.after_exit().iter().all(|other| over(other))
            && self.rivals(name).iter().all(still)
    }

    /// It is to go down with what it requires.
    fn follows(&self, name: &str) -> Option<Rc<Definition>> {
        let book = self.books.get(name).filter(|book| !book.pinned)?;
        let definition = book.definition.clone()?;
        (definition.on_dependency() != OnDependency::Run).then_some(definition)
    }

    /// It is stopped by cause `dependency`: what follows from that.
    pub(super) fn goes_down(&mut self, name: &str) {
        self.step.followed.insert(name.to_owned());
        let back = self
            .definition(name)
            .is_some_and(|d| d.on_dependency() == OnDependency::Restart);
        if let Some(book) = self.books.get_mut(name) {
            book.excused = back;
            book.charged = false;
        }
    }

    /// When the event is over: who went down had a reason, and who has one goes.
    pub(super) fn check_followers(&self, now: Time, engine: &Engine) -> Vec<String> {
        let mut wrong = Vec::new();
        for name in self.books.keys() {
            let followed = self.step.followed.contains(name);
            let book = &self.books[name];
            let lives = book.run.as_ref().is_some_and(|run| run.is_judged());
            let Some(definition) = self.follows(name) else {
                if followed && !self.step.reload && !self.step.with.contains(name) {
                    wrong.push(format!("{name} goes down, though it is not to"));
                }
                continue;
            };
            if !followed && (!lives || self.shutting) {
                continue;
            }
            let present = definition.requires.iter().filter(|r| self.is_present(r));
            let down = present.filter(|other| !is_up(engine, other, now)).count() > 0;
            if followed && !down && !self.step.reload && !self.step.with.contains(name) {
                wrong.push(format!("{name} goes down, and what it requires is up"));
            }
            let known = engine.find(name).is_some();
            if !followed && down && known && !self.shutting {
                wrong.push(format!("{name} runs on, though what it requires is down"));
            }
        }
        wrong
    }

    /// Its own stop begins now: those who go down with it are gone, or their time is up.
    pub(super) fn first_those(
        &self,
        now: Time,
        name: &str,
        until: Time,
        kernel: &Kernel,
    ) -> Option<String> {
        if self.step.reload || self.shutting || now >= until {
            return None;
        }
        let requires = |other: &String| {
            let definition = self.follows(other);
            definition.is_some_and(|d| d.requires.iter().any(|whom| **whom == *name))
        };
        let mut alive = self.books.keys().filter(|other| requires(other));
        let first = alive.find(|other| kernel.alive(other) > 0)?;
        Some(format!(
            "{name} is signalled before {first}, which goes down with it, is gone"
        ))
    }

    /// Whether a stop that begins was somebody's word about another service, or its ties'.
    pub(super) fn tied_stop(&self, name: &str, cause: &str) -> Option<By> {
        match cause {
            "dependency" => Some(By::Dependency),
            "operator" if self.step.asked.is_some() && self.gives_way(name) => Some(By::Operator),
            "config" if (self.step.reload || self.step.boot) && self.gives_way(name) => {
                Some(By::Config)
            }
            _ => None,
        }
    }
}
