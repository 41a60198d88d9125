//! The sockets that are held for services: opened, kept over runs and executions, watched, handed
//! to runs.
//!
//! After the daemon's death they are had back from the living run that was given them; of one that
//! does not run they are opened anew.
//!
//! Not here: whether a service is to listen, and what it means that somebody came (the engine).
//!
//! Invariants: what is watched is taken off the event queue before it is closed or handed to a
//! run; what is open and asked for again is not opened anew; a socket's file is removed only while
//! it is that socket's.

use super::listen::{self, Held};
use super::*;
use crate::engine::SpawnError;

/// What is held for a service.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    held: Vec<Held>,
    /// Under which they are watched.
    token: Option<Token>,
}

impl Sockets {
    /// Names and descriptors, in the definition's order, of all that it defines.
    pub fn of<'a>(&'a self, definition: &'a Definition) -> Vec<(&'a str, BorrowedFd<'a>)> {
        let find = |socket: &crate::config::Socket| {
            let mut held = self.held.iter();
            held.find(|held| held.listen == socket.listen)
        };
        let sockets = definition.sockets().iter();
        sockets
            .filter_map(|socket| Some((&*socket.name, find(socket)?.fd.as_fd())))
            .collect()
    }
}

impl Reactor {
    pub(super) fn listen(&mut self, id: ServiceId, definition: &Definition, watch: bool) {
        self.unwatch(id);
        let done = self.open_all(id, definition);
        self.know_sockets(id);
        let (waits, error) = match done {
            Ok(()) => (self.is_waited_for(id), None),
            Err(error) => (false, Some(error)),
        };
        let error = match (error, watch) {
            (None, true) => self.watch(id).err(),
            (error, _) => error,
        };
        self.caused.push_back(Event::Listening {
            service: id,
            waits,
            error,
        });
    }

    fn open_all(&mut self, id: ServiceId, definition: &Definition) -> Result<(), SpawnError> {
        let slot = Self::slot(&mut self.sockets, id).get_or_insert_default();
        let mut before = std::mem::take(&mut slot.held);
        // What is not asked for any more goes first: it may be in the way.
        let asked = |held: &Held| {
            definition
                .sockets()
                .iter()
                .any(|socket| held.serves(socket))
        };
        let (mut kept, gone): (Vec<_>, Vec<_>) = before.drain(..).partition(asked);
        gone.into_iter().for_each(Held::close);
        let mut done = Ok(());
        for socket in definition.sockets() {
            let known = kept.iter().find(|held| held.serves(socket));
            let accounts = self.spawner.accounts();
            let opened = match known {
                Some(held) => held.adjust(socket, accounts),
                None => listen::open(socket, definition.sockets(), accounts).map(|new| {
                    kept.push(new);
                }),
            };
            if let Err(error) = opened {
                done = Err(error);
                break;
            }
        }
        Self::slot(&mut self.sockets, id)
            .get_or_insert_default()
            .held = kept;
        done
    }

    fn is_waited_for(&self, id: ServiceId) -> bool {
        self.find_sockets(id)
            .is_some_and(|sockets| sockets.held.iter().any(Held::is_waited_for))
    }

    fn find_sockets(&self, id: ServiceId) -> Option<&Sockets> {
        self.sockets.get(id.index())?.as_deref()
    }

    // --- watching

    fn watch(&mut self, id: ServiceId) -> Result<(), SpawnError> {
        let token = self.sources.insert(Source::Socket(id));
        let Some(sockets) = self.sockets.get_mut(id.index()).and_then(Option::as_mut) else {
            return Ok(());
        };
        sockets.token = Some(token);
        let mut done = Ok(());
        for held in &sockets.held {
            let fd = held.fd.as_raw_fd();
            // Whoever came before is an event, too.
            let registry = self.poll.registry();
            if let Err(error) = registry.register(&mut SourceFd(&fd), token, Interest::READABLE) {
                done = Err(sys::failed("epoll", &error));
            }
        }
        if done.is_err() {
            self.unwatch(id);
        }
        done
    }

    fn unwatch(&mut self, id: ServiceId) {
        let Some(sockets) = self.sockets.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        let Some(token) = sockets.token.take() else {
            return;
        };
        for held in &sockets.held {
            let fd = held.fd.as_raw_fd();
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
        self.sources.remove(token);
    }

    /// Somebody came, perhaps: it is told once.
    pub(super) fn socket_ready(&mut self, id: ServiceId) {
        let Some(sockets) = self.find_sockets(id) else {
            return;
        };
        let Some(held) = sockets.held.iter().find(|held| held.is_waited_for()) else {
            return;
        };
        let definition = self.engine.definition(id);
        let mut known = definition.iter().flat_map(|d| d.sockets().iter());
        let socket = known.position(|socket| socket.listen == held.listen);
        let socket = socket.unwrap_or_default() as u16;
        self.unwatch(id);
        self.caused.push_back(Event::Connected {
            service: id,
            socket,
        });
    }

    // --- closing

    pub(super) fn unlisten(&mut self, id: ServiceId) {
        self.unwatch(id);
        let slot = self.sockets.get_mut(id.index());
        if let Some(sockets) = slot.and_then(Option::take) {
            sockets.held.into_iter().for_each(Held::close);
            self.know_sockets(id);
        }
    }

    /// For whoever executes this process anew.
    fn know_sockets(&self, id: ServiceId) {
        let held = self.find_sockets(id).map_or(&[][..], |s| &s.held);
        let list = held
            .iter()
            .map(|held| known::Listening {
                listen: held.listen.to_string(),
                fd: held.fd.as_raw_fd(),
                file: held.file,
            })
            .collect();
        known::heard(self.engine.name(id), |heard| heard.sockets = list);
    }

    // --- had back

    /// What an execution of this process before us held, as far as it is still asked for.
    pub(super) fn take_in_sockets(&mut self, id: ServiceId, list: Vec<known::Listening>) {
        let Some(definition) = self.engine.definition(id).cloned() else {
            // Its file is broken now: what it runs with is held until that is mended.
            self.hold_blindly(id, list);
            return self.tell_held(id, Some(had_not_back("its definition is broken")));
        };
        let mut kept = Vec::new();
        for known::Listening { listen, fd, file } in list {
            let Some(fd) = reexec::claim_copy(fd) else {
                continue;
            };
            let mut sockets = definition.sockets().iter();
            let it = sockets.find(|s| *s.listen == *listen && listen::is_it(fd.as_fd(), s));
            let held = Held {
                listen: listen.into(),
                reuse_port: it.is_some_and(|socket| socket.reuse_port),
                fd,
                file,
            };
            match it.is_some() && self.engine.keeps_sockets(id) {
                true => kept.push(held),
                false => held.close(),
            }
        }
        let missing = (kept.len() < definition.sockets().len())
            .then(|| had_not_back("the daemon before this one did not hold all of them"));
        Self::slot(&mut self.sockets, id)
            .get_or_insert_default()
            .held = kept;
        self.know_sockets(id);
        // Who listens has asked for them, and is answered.
        if self.engine.keeps_sockets(id) && !self.engine.is_listening(id) {
            self.tell_held(id, missing);
        }
    }

    fn hold_blindly(&mut self, id: ServiceId, list: Vec<known::Listening>) {
        let held = list.into_iter().filter_map(|it| {
            Some(Held {
                listen: it.listen.into(),
                reuse_port: false,
                fd: reexec::claim_copy(it.fd)?,
                file: it.file,
            })
        });
        Self::slot(&mut self.sockets, id)
            .get_or_insert_default()
            .held = held.collect();
        self.know_sockets(id);
    }

    /// The sockets of a run that a daemon before us started, or whose definition was broken until
    /// now: it has them.
    pub(super) fn have_sockets_back(&mut self, id: ServiceId) {
        let Some(definition) = self.engine.definition(id).cloned() else {
            return;
        };
        // Once: what it has closed does not come back.
        let known = self.find_sockets(id).is_some();
        if definition.sockets().is_empty() || known {
            return;
        }
        let Some(process) = self.process(id).filter(|process| process.adopted) else {
            return;
        };
        let found = listen::had_back(process.pid, process.pidfd(), definition.sockets());
        let name = self.name(id).to_owned();
        let (found, why) = match found {
            Ok(found) => (found, "it has closed them".to_owned()),
            Err(why) => (Vec::new(), why),
        };
        let held: Vec<Held> = found.into_iter().flatten().collect();
        let missing: Vec<&str> = definition
            .sockets()
            .iter()
            .filter(|socket| !held.iter().any(|held| held.listen == socket.listen))
            .map(|socket| &*socket.listen)
            .collect();
        let words = format!("listen on {}: {why}", missing.join(" and "));
        let error = (!missing.is_empty()).then(|| had_not_back(&words));
        if let Some(error) = &error {
            log::warn!(
                "{name}: not had back from its process: {}; it has them itself, and its next start \
                 opens them anew",
                error.step
            );
        }
        Self::slot(&mut self.sockets, id)
            .get_or_insert_default()
            .held = held;
        self.know_sockets(id);
        self.tell_held(id, error);
    }

    fn tell_held(&mut self, id: ServiceId, error: Option<SpawnError>) {
        self.caused.push_back(Event::Listening {
            service: id,
            waits: false,
            error,
        });
    }
}

fn had_not_back(why: &str) -> SpawnError {
    SpawnError {
        step: why.into(),
        errno: 0,
        ours: false,
    }
}
