//! What is wanted until the next boot only: `once`, and `stop --until-boot`.
//!
//! It stands in the runtime journal, which a daemon that returns reads, and not in the state
//! directory: there is what is wanted from the next boot on.
//!
//! Invariant: of a service that is wanted once no run follows another by itself.

use super::operator::{Actor, refuse};
use super::*;
use crate::service::state::{State, Wanted};

impl Engine {
    /// Wanted so until the next boot.
    pub(super) fn want_for_now(&mut self, id: ServiceId, to: Wanted, once: bool, actor: &Actor) {
        let service = self.service_mut(id);
        let from = service.wanted_word();
        let lasting = service.at_boot.unwrap_or(service.wanted);
        service.wanted = to;
        service.wanted_by = actor.name.clone();
        service.wanted_at_ms = actor.wall_ms;
        service.once = once;
        service.at_boot = Some(lasting);
        let to = service.wanted_word();
        self.mind_sockets(id);
        self.mind_schedule(id);
        let detail = format!("by {}, until the next boot", actor.name).into();
        match from == to {
            true => self.mark(id),
            false => self.tell(id, TransitionKind::Wanted, from, to, "operator", detail),
        }
    }

    /// To the state directory: what is wanted from the next boot on.
    pub(super) fn remember_will(&mut self, id: ServiceId) {
        let service = self.service(id);
        let lasting = service.at_boot.unwrap_or(service.wanted);
        self.remember(id, lasting.word());
    }

    pub(super) fn verb_once(&mut self, id: ServiceId, actor: &Actor) -> Result<String, Refusal> {
        self.startable(id)?;
        if self.is_planned(id) {
            // Each of its runs is one that none follows but by the schedule, which stays in force.
            return self.verb_start(id, false, actor);
        }
        let service = self.service(id);
        let name = service.name.clone();
        if service.is_target() {
            let words = format!("{name} is a target, it runs nothing: `start {name}`");
            return Err(refuse(code::CONFIG, &words));
        }
        self.may_displace(id)?;
        let mut notes = Vec::new();
        self.displace(id, false, actor, &mut notes);
        notes.extend(self.start_others(id, false, false, actor));
        self.want_for_now(id, Wanted::Start, true, actor);
        let live = matches!(self.service(id).state, State::Starting | State::Running);
        let note = self.bring_up(id, actor);
        notes.insert(
            0,
            match live {
                true => format!("{note}; when it has ended it is not started again"),
                false => format!("{note}; once: when it has ended it is not started again"),
            },
        );
        Ok(notes.join("\n"))
    }

    /// What comes of an until-boot stop when that is over.
    pub(super) fn at_boot_words(&self, id: ServiceId) -> &'static str {
        match self.service(id).at_boot {
            Some(Wanted::Start) => " until the next boot",
            Some(Wanted::Stop) => "; it was wanted stopped anyway, and is so at the next boot",
            None => "",
        }
    }
}

impl table::Service {
    /// What is wanted, as it is shown.
    pub fn wanted_word(&self) -> &'static str {
        match (self.wanted, self.once) {
            (Wanted::Start, true) => "once",
            (wanted, _) => wanted.word(),
        }
    }
}
