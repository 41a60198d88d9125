//! What the model knows of listening sockets, and what must hold of them.

use super::Watcher;
use super::book::Book;
use crate::config::Restart;
use crate::engine::Effect;
use crate::engine::status::Status;
use crate::engine::{Engine, SpawnError};
use crate::id::ServiceId;
use crate::simulator::kernel::Kernel;
use crate::time::Time;

/// Of one service.
#[derive(Clone, Debug, Default)]
pub struct SocketBook {
    /// Asked for, and to be watched or not.
    asked: Option<bool>,
    watched: bool,
    /// Its last run ended well, and nothing has happened since.
    pub ended_well: bool,
}

impl Watcher {
    pub(super) fn listened(&mut self, effect: &Effect, engine: &Engine) {
        let (service, watch) = match effect {
            Effect::Listen { service, watch, .. } => (service, Some(*watch)),
            Effect::Unlisten { service } => (service, None),
            _ => return,
        };
        if let Some(book) = self.books.get_mut(engine.name(*service)) {
            book.sockets.asked = watch;
            book.sockets.watched = watch == Some(true);
        }
    }

    pub(super) fn listening(
        &mut self,
        now: Time,
        id: ServiceId,
        waits: bool,
        error: Option<&SpawnError>,
    ) {
        let shutting = self.shutting;
        let name = self.ids.get(&id);
        let Some(book) = name.and_then(|name| self.books.get_mut(name)) else {
            return;
        };
        let well = std::mem::take(&mut book.sockets.ended_well);
        let may = book.wanted != Some(false) && !shutting && book.definition.is_some();
        let Some(watch) = book.sockets.asked.take() else {
            return;
        };
        // What could not be spawned for our own want of something is still that attempt.
        let again = book.retry.map(|(automatic, _)| automatic);
        match (error, watch) {
            (Some(error), _) if error.ours => {
                book.sockets.watched = false;
                book.sockets.ended_well = false;
            }
            (Some(_), false) if (book.charged && !book.excused) || again == Some(true) => {
                let never = |d: &crate::config::Definition| d.restart == Restart::Never;
                let due = !book.definition.as_deref().is_some_and(never);
                charge(book, now, may && due);
            }
            (Some(_), _) => {
                book.sockets.watched = false;
                book.excused = false;
                book.charged = false;
                book.retry = None;
            }
            (None, true) if well && waits => {
                charge(book, now, may);
                book.restarting = true;
            }
            (None, true) if well && may => book.refund(),
            (None, _) => {}
        }
    }

    pub(super) fn connected(&mut self, now: Time, id: ServiceId) {
        let shutting = self.shutting;
        let name = self.ids.get(&id);
        let Some(book) = name.and_then(|name| self.books.get_mut(name)) else {
            return;
        };
        let watched = std::mem::take(&mut book.sockets.watched);
        if watched && !shutting && book.run.is_none() && !book.charged {
            book.excused = true;
            book.not_before = now;
        }
    }

    /// What is wrong with the sockets of one service, by what is shown.
    pub(super) fn sockets_of(
        &self,
        name: &str,
        status: &Status,
        kernel: &Kernel,
    ) -> Option<String> {
        let book = self.books.get(name)?;
        let open = kernel.sockets(name).open && book.definition.is_some();
        let rests = matches!(status.state.as_str(), "inactive" | "exited" | "failed");
        if kernel.sockets(name).watched && (!rests || status.wanted == "stop") {
            return Some(format!(
                "watched, though {} and wanted {}",
                status.state, status.wanted
            ));
        }
        (open && rests && !status.listening)
            .then(|| format!("{}, and its sockets are open", status.state))
    }
}

fn charge(book: &mut Book, now: Time, may: bool) {
    book.retry = None;
    book.excused = false;
    book.charged = may && book.has_budget();
    book.spent += u32::from(book.charged);
    book.delay_from(now);
}
