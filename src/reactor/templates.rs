//! Templates as the last reload that was done has read them: `start worker@7` must not wait for a
//! disk. What a reload read that was refused, or only asked what it would do, is not kept.

use crate::config::templates::Templates;
use crate::id::Ticket;
use std::collections::VecDeque;

#[derive(Default)]
pub struct Kept {
    in_force: Templates,
    /// Read, and not yet through the engine.
    read: VecDeque<(Ticket, Templates)>,
}

impl Kept {
    /// What the daemon found when it started.
    pub fn keep(&mut self, templates: Templates) {
        self.in_force = templates;
    }

    pub(super) fn read(&mut self, ticket: Ticket, templates: Templates) {
        self.read.push_back((ticket, templates));
    }

    /// The engine decided about what was read for `ticket`.
    pub(super) fn decided(&mut self, ticket: Ticket, done: bool) {
        let at = self.read.iter().position(|(of, _)| *of == ticket);
        if let Some((_, templates)) = at.and_then(|at| self.read.remove(at))
            && done
        {
            self.in_force = templates;
        }
    }

    pub(super) fn in_force(&self) -> &Templates {
        &self.in_force
    }
}
