//! Instances of templates: those that operators named, and those that stay.
//!
//! What a template is the engine does not know: it is told what the instance is. Invariant: an
//! instance that an operator wants is there again after a reload, a death and a boot.

use super::operator::{Actor, refuse};
use super::*;
use crate::config::names;
use crate::config::templates::Instance;
use crate::service::state::Wanted;
use snapshot::{ServiceSnapshot, WantedRecord};
use std::collections::BTreeMap;

/// The instances that a daemon before this one knew: by what operators want, and by what ran.
pub fn known_before<'a>(
    wanted: &'a [WantedRecord],
    services: &'a [ServiceSnapshot],
    main: Option<&'a str>,
) -> Vec<Instance> {
    let starts = |record: &WantedRecord| {
        let wants = &*record.wanted == Wanted::Start.word();
        wants && !record.by.is_empty()
    };
    let wanted = wanted.iter().map(|record| (&*record.name, starts(record)));
    let ran = services.iter().map(|service| {
        let now = service.wanted.as_ref().is_some_and(starts);
        (
            &*service.name,
            now || service.at_boot == Some(Wanted::Start),
        )
    });
    let main = main.into_iter().map(|name| (name, true));
    let all = wanted.chain(ran).chain(main);
    all.filter(|(name, _)| names::instance_of(name).is_some())
        .map(|(name, wanted)| Instance {
            name: name.into(),
            wanted,
        })
        .collect()
}

impl Engine {
    /// How many reloads were done, not refused and not only asked for.
    pub fn reloads(&self) -> u64 {
        self.reloads
    }

    /// The services that are, or may be, instances, for those who read all definitions anew.
    pub fn instances(&self) -> Vec<Instance> {
        let here = self.ids().filter(|id| self.is_present(*id));
        let named = here.filter(|id| names::instance_of(&self.service(*id).name).is_some());
        named
            .map(|id| {
                let service = self.service(id);
                let lasting = service.at_boot == Some(Wanted::Start);
                let said = !service.wanted_by.is_empty();
                Instance {
                    name: (&*service.name).into(),
                    wanted: said && (service.wanted == Wanted::Start || lasting)
                        || self.main == Some(id),
                }
            })
            .collect()
    }

    /// Also the number of its last run.
    pub(super) fn verb_instance(
        &mut self,
        new: NewInstance,
        actor: &Actor,
    ) -> Result<(String, ServiceId, u32), Refusal> {
        if self.shutdown.is_some() {
            return Err(refuse(code::SHUTTING_DOWN, "the daemon is shutting down"));
        }
        let unknown = new
            .files
            .iter()
            .filter(|file| self.find(&file.name).is_none());
        if self.services.len() + unknown.count() > limits::MAX_SERVICES {
            let most = limits::MAX_SERVICES;
            let words = format!(
                "{most} names are known already; what is no longer used is forgotten when the daemon starts"
            );
            return Err(refuse(code::TOO_MANY, &words));
        }
        let mut changed = BTreeMap::new();
        for loaded in new.files {
            let id = self.add(&loaded.name);
            if !self.is_present(id) {
                self.define_anew(id, loaded.into());
                changed.insert(id, false);
            }
        }
        let id = self.add(&new.name);
        // It is there for the operator's sake, not by itself.
        if self.service(id).wanted_by.is_empty() {
            self.service_mut(id).wanted = Wanted::Stop;
        }
        self.defined(&changed);
        let run = self.service(id).number;
        let note = match new.once {
            true => self.verb_once(id, actor)?,
            false => self.verb_start(id, new.with_requires, actor)?,
        };
        let note = match new.pin {
            true => format!("{note}\n{}", self.verb_pin(id, actor)),
            false => note,
        };
        Ok((note, id, run))
    }
}
