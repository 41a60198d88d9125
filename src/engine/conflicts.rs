//! Services that never run beside each other.
//!
//! Who starts one stops the others, by the same word: of two that conflict never both are wanted,
//! so that nothing has to be fought out later, not at a boot either. The start waits until they
//! are gone (`settle`). Where definitions alone want both, or a new definition makes two conflict
//! that are wanted, [`Engine::arbitrate`] decides for one.

use super::operator::{Actor, refuse};
use super::*;
use crate::service::state::{Cause, Cue, Wanted};

impl Engine {
    /// Whom it must not run beside.
    pub(super) fn rivals(&self, id: ServiceId) -> &[ServiceId] {
        self.conflicts.get(&id).map_or(&[], |rivals| rivals)
    }

    /// One of them is wanted.
    pub(super) fn wanted_rival(&self, id: ServiceId) -> Option<ServiceId> {
        let mut rivals = self.rivals(id).iter().copied();
        rivals.find(|rival| self.will(*rival) == Wanted::Start)
    }

    /// One that may not be stopped for its sake.
    pub(super) fn pinned_rival(&self, id: ServiceId) -> Option<ServiceId> {
        let mut rivals = self.rivals(id).iter().copied();
        rivals.find(|rival| self.service(*rival).pinned && self.will(*rival) == Wanted::Start)
    }

    /// An operator may start it: nobody is pinned who would have to go.
    pub(super) fn may_displace(&self, id: ServiceId) -> Result<(), Refusal> {
        let Some(rival) = self.pinned_rival(id) else {
            return Ok(());
        };
        let (name, rival) = (&self.service(id).name, &self.service(rival).name);
        let words = format!(
            "{name} cannot be started: it conflicts with {rival}, which is pinned: `stop {rival}` or `unpin {rival}` first"
        );
        Err(refuse(code::PINNED, &words))
    }

    /// `other` is to be started for the sake of `id`: whom it may not displace for that. What is
    /// merely wanted displaces nobody; a member of a target does, but none of those `brought` with it.
    pub(super) fn stays_for(
        &self,
        other: ServiceId,
        id: ServiceId,
        is_member: bool,
        brought: &[ServiceId],
    ) -> Option<ServiceId> {
        let needs = |it: ServiceId| self.graph.requirers(it).contains(&id);
        let needed = needs(other);
        let mut rivals = self.rivals(other).iter().copied();
        let stays = rivals.find(|rival| {
            let wanted = self.will(*rival) == Wanted::Start;
            let keeps = !needed && wanted && (!is_member || brought.contains(rival));
            *rival == id || needs(*rival) || keeps
        });
        stays.or_else(|| self.pinned_rival(other))
    }

    /// An operator starts it: whoever conflicts with it is wanted stopped from now on; where it
    /// is started for now only, so are they.
    pub(super) fn displace(
        &mut self,
        id: ServiceId,
        for_good: bool,
        actor: &Actor,
        notes: &mut Vec<String>,
    ) {
        for at in 0..self.rivals(id).len() {
            let rival = self.rivals(id)[at];
            if self.service(rival).wanted != Wanted::Start {
                continue;
            }
            match for_good {
                true => self.set_wanted(rival, Wanted::Stop, actor),
                false => self.want_for_now(rival, Wanted::Stop, false, actor),
            }
            let words = format!(
                "conflicts with {}, by {}",
                self.service(id).name,
                actor.name
            );
            self.cue(rival, Cue::Stop, Cause::Operator, words.into());
            if let Some(stop) = self.stop_mut(rival) {
                stop.wanted = true;
            }
            let name = self.service(rival).name.clone();
            let note = self.running_on(rival);
            notes.push(format!("stops {name}, which conflicts with it{note}"));
        }
    }

    /// Of two that conflict one is not wanted after this, whatever definitions say.
    pub(super) fn arbitrate(&mut self) {
        let pairs: Vec<(ServiceId, ServiceId)> = self
            .conflicts
            .iter()
            .flat_map(|(one, others)| others.iter().map(move |other| (*one, *other)))
            .filter(|(one, other)| one < other)
            .collect();
        for (one, other) in pairs {
            let both = [one, other].map(|id| self.will(id) == Wanted::Start);
            if both != [true, true] {
                continue;
            }
            let (loser, winner) = match self.claim(one) >= self.claim(other) {
                true => (other, one),
                false => (one, other),
            };
            self.yields(loser, winner);
        }
    }

    /// The greater one goes on: what is pinned, what lives, what an operator said last, else the
    /// first by name.
    fn claim(&self, id: ServiceId) -> (bool, bool, bool, u64, std::cmp::Reverse<Rc<str>>) {
        let service = self.service(id);
        let said = !service.wanted_by.is_empty();
        (
            service.pinned,
            service.state.is_live(),
            said,
            service.wanted_at_ms,
            std::cmp::Reverse(service.name.clone()),
        )
    }

    /// Why it does not run, where nobody but its rival's will keeps it from that.
    pub(super) fn yields_to(&self, id: ServiceId) -> Option<String> {
        let service = self.service(id);
        let autostart = service.definition.as_ref().is_some_and(|d| d.autostart);
        let unsaid = service.wanted == Wanted::Stop && service.wanted_by.is_empty();
        let rival = self.wanted_rival(id).filter(|_| autostart && unsaid)?;
        Some(format!("conflicts with {}", self.service(rival).name))
    }

    fn yields(&mut self, loser: ServiceId, winner: ServiceId) {
        let winner = self.service(winner).name.clone();
        let words: Box<str> = format!("conflicts with {winner}").into();
        self.remember_yielded(loser);
        let service = self.service_mut(loser);
        service.wanted = Wanted::Stop;
        (service.once, service.at_boot) = (false, None);
        let said = !service.wanted_by.is_empty();
        if said {
            service.wanted_by = format!("conflict with {winner}").into();
            self.remember(loser, Wanted::Stop.word());
        }
        if said || self.service(loser).state.is_live() {
            let (from, to) = (Wanted::Start.word(), Wanted::Stop.word());
            let kind = TransitionKind::Wanted;
            self.tell(loser, kind, from, to, Cause::Config.word(), words.clone());
        }
        self.mark(loser);
        self.cue(loser, Cue::Stop, Cause::Config, words);
        // One that rests and listens is not moved by that.
        self.mind_sockets(loser);
    }

    /// A reload that may go back is what it yields to: then it is wanted as it was.
    fn remember_yielded(&mut self, id: ServiceId) {
        let service = self.service(id);
        if self.pledge.is_none() || service.once {
            return;
        }
        let lasting = service.at_boot.unwrap_or(service.wanted);
        let yielded = snapshot::WantedRecord {
            name: (&*service.name).into(),
            wanted: lasting.word().into(),
            by: service.wanted_by.clone(),
            at_wall_ms: service.wanted_at_ms,
            ..snapshot::WantedRecord::default()
        };
        if let Some(reload) = &mut self.reload {
            let known = reload.yielded.iter().any(|old| old.name == yielded.name);
            if reload.is_open() && !known {
                Rc::make_mut(reload).yielded.push(yielded);
            }
        }
    }

    /// The reload to which these have yielded goes back: they are wanted again, unless somebody has
    /// said something of them since.
    pub(super) fn give_back(&mut self, yielded: &[snapshot::WantedRecord], because: &str) {
        for old in yielded {
            let Some(id) = self.find(&old.name) else {
                continue;
            };
            if !self.is_present(id) {
                // It came with the reload, and went with it.
                continue;
            }
            let service = self.service_mut(id);
            let by = &service.wanted_by;
            let untouched = by.is_empty() == old.by.is_empty()
                && (by.is_empty() || by.starts_with("conflict with "));
            if service.wanted == Wanted::Start || !untouched {
                continue;
            }
            service.wanted = Wanted::Start;
            service.wanted_by = old.by.clone();
            service.wanted_at_ms = old.at_wall_ms;
            let passing = *old.wanted != *Wanted::Start.word();
            service.at_boot = passing.then_some(Wanted::Stop);
            if !old.by.is_empty() {
                self.remember(id, &old.wanted);
            }
            let (from, to) = (Wanted::Stop.word(), Wanted::Start.word());
            let kind = TransitionKind::Wanted;
            self.tell(id, kind, from, to, Cause::Config.word(), because.into());
            self.mark(id);
        }
    }
}
