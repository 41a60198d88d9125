//! Definitions that operators give over the control socket: `set` and `delete`.
//!
//! They live in the state directory beside what is wanted. Invariants: a file of the same name
//! beats them; a `set` that is refused changes nothing; what was deleted is forgotten whole, so
//! that a later `set` of the name begins anew.

use super::operator::refuse;
use super::*;
use crate::config::names;
use crate::service::state::Wanted;
use std::collections::BTreeMap;

impl Engine {
    /// Name and text of each, for those who read all definitions anew.
    pub fn given(&self) -> impl Iterator<Item = (&str, &str)> {
        self.services
            .iter()
            .filter_map(|service| Some((&*service.name, service.given.as_deref()?)))
    }

    pub(super) fn verb_set(&mut self, given: Given) -> Result<(String, ServiceId), Refusal> {
        let Given {
            name,
            source,
            definition,
            text,
        } = given;
        if self.shutdown.is_some() {
            return Err(refuse(code::SHUTTING_DOWN, "the daemon is shutting down"));
        }
        let known = self.find(&name);
        if let Some(id) = known.filter(|id| self.is_present(*id)) {
            let source = &self.service(id).source;
            if !names::is_given(source) {
                let words =
                    format!("{name} is defined by {source}: change that file, then `reload`");
                return Err(refuse(code::ALREADY_EXISTS, &words));
            }
        }
        if known.is_none() && self.services.len() >= limits::MAX_SERVICES {
            let most = limits::MAX_SERVICES;
            let words = format!(
                "{most} names are known already; what is no longer used is forgotten when the daemon starts"
            );
            return Err(refuse(code::TOO_MANY, &words));
        }
        let id = self.add(&name);
        let new = Rc::new(definition);
        let mut changed = BTreeMap::new();
        let note = match self.service(id).definition.clone() {
            Some(old) => {
                let service = self.service_mut(id);
                service.source = source;
                service.problem = None;
                match self.redefine(id, &old, new) {
                    Some((note, restart)) => {
                        changed.insert(id, restart);
                        note
                    }
                    None => "nothing changed".to_owned(),
                }
            }
            None => {
                let definition = Ok(new);
                let loaded = Loaded {
                    name,
                    source,
                    definition,
                };
                self.define_anew(id, loaded);
                changed.insert(id, false);
                "added".to_owned()
            }
        };
        self.service_mut(id).given = Some(text);
        self.remember_will(id);
        self.stays_given(id);
        self.defined(&changed);
        Ok((format!("{note}{}", self.unwanted(id)), id))
    }

    /// Why it is not started now.
    fn unwanted(&self, id: ServiceId) -> String {
        let service = self.service(id);
        let (name, by) = (&service.name, &service.wanted_by);
        match (self.will(id), by.is_empty()) {
            (Wanted::Start, _) => String::new(),
            (Wanted::Stop, true) => format!("; `start {name}` starts it"),
            (Wanted::Stop, false) => format!("; stopped by {by}: `start {name}` starts it"),
        }
    }

    pub(super) fn verb_delete(&mut self, id: ServiceId) -> Result<String, Refusal> {
        let service = self.service(id);
        let (name, source) = (service.name.clone(), service.source.clone());
        let from_file = self.is_present(id) && !names::is_given(&source);
        match (&service.given, from_file) {
            (None, _) => {
                let words =
                    format!("{name} is defined by {source}: remove that file, then `reload`");
                return Err(refuse(code::FILE, &words));
            }
            (Some(_), true) => {
                self.service_mut(id).given = None;
                self.remember_will(id);
                self.stays_given(id);
                return Ok(format!(
                    "the definition that was set is forgotten; {name} is defined by {source} and goes on"
                ));
            }
            (Some(_), false) => {}
        }
        let live = self.service(id).state.is_live();
        let mut note = match live {
            true => "deleted, stopping".to_owned(),
            false => "deleted".to_owned(),
        };
        note.push_str(&self.running_on(id));
        self.remove(id);
        let service = self.service_mut(id);
        service.given = None;
        service.wanted = Wanted::Stop;
        (service.once, service.at_boot) = (false, None);
        service.wanted_by = "".into();
        service.pinned = false;
        self.remember(id, "");
        self.stays_given(id);
        self.defined(&BTreeMap::new());
        Ok(note)
    }
}
