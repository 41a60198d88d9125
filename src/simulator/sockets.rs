//! The fake kernel's listening sockets: who holds them, who waits at them, whom that wakes.
//!
//! They are open while the daemon or a living run holds them; who waits is served by a run as soon
//! as that is there, unless it is deaf.

use super::World;
use super::kernel::{Answers, Happening, Kernel, told};
use crate::config::Definition;
use crate::engine::{Event, SpawnError};
use crate::id::ServiceId;
use crate::time::Time;
use std::time::Duration;

/// The sockets of one service.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    pub open: bool,
    pub watched: bool,
    /// Connections that nobody has accepted.
    pub waiting: u32,
}

impl Kernel {
    pub fn sockets(&self, service: &str) -> Sockets {
        self.sockets.get(service).cloned().unwrap_or_default()
    }

    pub(super) fn listen(
        &mut self,
        now: Time,
        (service, id): (&str, ServiceId),
        definition: &Definition,
        watch: bool,
    ) -> Answers {
        let trouble = (now < self.trouble_until).then(|| SpawnError {
            step: "listen".into(),
            errno: 24,
            ours: true,
        });
        let error = trouble.or_else(|| self.script(service).listen_error.clone());
        let sockets = self.sockets.entry(service.to_owned()).or_default();
        sockets.watched = false;
        if error.is_none() {
            sockets.open = !definition.sockets().is_empty();
            sockets.watched = watch;
        }
        let waits = error.is_none() && sockets.waiting > 0;
        let came = waits && std::mem::take(&mut sockets.watched);
        let mut answers = told(
            Duration::ZERO,
            Event::Listening {
                service: id,
                waits,
                error,
            },
        );
        if came {
            answers.extend(told(Duration::ZERO, connected(id)));
        }
        answers
    }

    pub(super) fn unlisten(&mut self, service: &str) {
        self.sockets.remove(service);
    }

    /// A run is there: it accepts whoever waits.
    pub(super) fn serve(&mut self, service: &str) {
        if !self.script(service).deaf
            && let Some(sockets) = self.sockets.get_mut(service)
        {
            sockets.waiting = 0;
        }
    }

    /// Somebody connects. Some: whether the daemon is to be told; None: refused.
    fn connect(&mut self, service: &str) -> Option<bool> {
        let alive = self.alive(service) > 0;
        let sockets = self.sockets.get_mut(service).filter(|s| s.open)?;
        sockets.waiting += 1;
        let watched = std::mem::take(&mut sockets.watched);
        if alive {
            self.serve(service);
        }
        Some(watched)
    }

    /// Only those are left that a run holds, or the next execution of the daemon.
    pub(super) fn daemon_let_go(&mut self, hands_over: bool) {
        let names: Vec<String> = self.sockets.keys().cloned().collect();
        for name in names {
            let held = hands_over || self.alive(&name) > 0;
            if let Some(sockets) = self.sockets.get_mut(&name) {
                sockets.watched = false;
                if !held {
                    *sockets = Sockets::default();
                }
            }
        }
    }
}

pub fn connected(service: ServiceId) -> Event {
    Event::Connected { service, socket: 0 }
}

impl World {
    /// What a daemon that returned has back of living runs.
    pub(super) fn find_sockets(&mut self) {
        let held: Vec<String> = self.kernel.sockets.keys().cloned().collect();
        for name in held {
            let alive = self.kernel.alive(&name) > 0 && self.kernel.sockets(&name).open;
            if let (true, Ok(service)) = (alive, self.id(&name)) {
                let (waits, error) = (false, None);
                let event = Event::Listening {
                    service,
                    waits,
                    error,
                };
                self.happens(Duration::ZERO, Happening::Told(event));
            }
        }
    }

    /// `connect web`
    pub(super) fn connect(&mut self, service: &str) -> Result<(), String> {
        match self.kernel.connect(service) {
            None => self.say(&format!("! {service} refuses the connection")),
            Some(false) => {}
            Some(true) => {
                let id = self.id(service)?;
                self.happens(Duration::ZERO, Happening::Told(connected(id)));
            }
        }
        Ok(())
    }
}
