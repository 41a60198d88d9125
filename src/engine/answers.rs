//! Requests that wait for their answers: until their will is durable, until their work is done.

use super::operator::refuse;
use super::*;
use crate::id::Ticket;
use crate::service::health::Health;
use crate::service::state::State;
use crate::time::spoken;

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    pub(super) accepted: Accepted,
    /// Waits for this record to be durable, until then.
    pub(super) durable: Option<(u64, Time)>,
    pub(super) goal: Option<(ServiceId, Goal)>,
}

/// What `--wait` waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// Running and well, by a run after this one.
    Up {
        after_run: u32,
    },
    Down,
}

impl Engine {
    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.effects.push(Effect::Answer { ticket, answer });
    }

    pub(super) fn durable(&mut self, seq: u64, error: Option<Box<str>>) {
        for pending in &mut self.pending {
            if pending.durable.is_some_and(|(mine, _)| mine <= seq) {
                pending.durable = None;
                pending.accepted.durable = Some(error.clone().map_or(Ok(()), Err));
            }
        }
        self.answer_ready();
    }

    pub(super) fn durable_wait_over(&mut self) {
        for pending in &mut self.pending {
            if pending.durable.is_some_and(|(_, until)| until <= self.now) {
                pending.durable = None;
                let waited = limits::DURABLE_WAIT;
                let words = format!(
                    "not written within {}: the state directory's disk stalls",
                    spoken(waited)
                );
                pending.accepted.durable = Some(Err(words.into()));
            }
        }
        self.answer_ready();
    }

    pub(super) fn check_waiters(&mut self) {
        if self.pending.iter().any(|p| p.goal.is_some()) {
            self.answer_ready();
        }
    }

    /// One more will wait for its goal, perhaps for ever, its client perhaps gone: the one that
    /// waited longest makes room.
    pub(super) fn bound_waiters(&mut self) {
        let waits = |p: &Pending| p.goal.is_some();
        if self.pending.iter().filter(|p| waits(p)).count() < limits::MAX_WAITING {
            return;
        }
        if let Some(at) = self.pending.iter().position(waits) {
            let oldest = self.pending.remove(at);
            let words = "done, but too many requests wait for its end: ask `status`";
            self.answer(oldest.ticket, Err(refuse(code::TOO_MANY, words)));
        }
    }

    pub(super) fn answer_ready(&mut self) {
        let mut at = 0;
        while at < self.pending.len() {
            let pending = &self.pending[at];
            let reached = pending
                .goal
                .map_or(Some(Ok(())), |(id, goal)| self.reached(id, goal));
            match (reached, pending.durable) {
                (Some(end), None) => {
                    let Pending {
                        ticket,
                        mut accepted,
                        goal,
                        ..
                    } = self.pending.remove(at);
                    if let Some((id, _)) = goal {
                        accepted.note = format!("{}\n{}", accepted.note, self.line(id)).into();
                    }
                    self.answer(ticket, end.map(|()| accepted));
                }
                (_, Some(_)) | (None, _) => at += 1,
            }
        }
        match self
            .pending
            .iter()
            .filter_map(|p| p.durable)
            .map(|(_, until)| until)
            .min()
        {
            Some(until) => self.timers.set(Key::DURABLE_WAIT, until),
            None => self.timers.cancel(Key::DURABLE_WAIT),
        }
    }

    pub(super) fn line(&self, id: ServiceId) -> String {
        let service = self.service(id);
        match service.health() {
            Some(health) => format!("{} ({})", service.state, health.word()),
            None => service.state.to_string(),
        }
    }

    /// The goal is reached, or can no longer be; None: wait on.
    pub(super) fn reached(&self, id: ServiceId, goal: Goal) -> Option<Result<(), Refusal>> {
        let service = self.service(id);
        match goal {
            Goal::Down => (!service.state.is_live()).then_some(Ok(())),
            Goal::Up { after_run } => match service.state {
                State::Running | State::Exited if service.number > after_run => {
                    let well = service.health().is_none_or(|h| h == Health::Healthy);
                    well.then_some(Ok(()))
                }
                State::Inactive if service.sockets == table::Sockets::Watched => Some(Ok(())),
                State::Inactive if self.is_listening(id) => None,
                State::Failed | State::Inactive | State::Exited => {
                    let name = &service.name;
                    let words = format!("{name} is {}: {}", service.state, service.trouble);
                    Some(Err(refuse(
                        code::IS_DOWN,
                        words.trim_end_matches([' ', ':']),
                    )))
                }
                State::Running
                | State::Blocked
                | State::Starting
                | State::Stopping
                | State::Backoff => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    /// A service that never gets ready: its probe is never answered.
    fn engine() -> Engine {
        let text = b"exec = 'web'\n[[probe]]\ntype = 'tcp'\ntarget = '127.0.0.1:80'\n";
        let definition = load::read("web", "web.toml", text).definition;
        let loaded = Loaded {
            name: "web".into(),
            source: "web.toml".into(),
            definition: definition.map(Rc::new).ok_or_else(|| "broken".into()),
        };
        let boot = Boot {
            definitions: vec![loaded],
            ..Boot::default()
        };
        let mut engine = Engine::new(Time::ZERO, 1);
        engine.handle(Time::ZERO, Event::Boot(Box::new(boot)), &mut Vec::new());
        engine
    }

    /// Asks the same thing so often, never to be answered by the world; the refusals.
    fn refused(command: &Command, times: usize) -> Vec<(Ticket, i32)> {
        let mut engine = engine();
        let mut effects = Vec::new();
        for number in 0..times as u64 {
            let request = Request {
                ticket: Ticket(number),
                actor: "root".into(),
                wall_ms: 0,
                wait: true,
                command: command.clone(),
            };
            engine.handle(Time::ZERO, Event::Request(request), &mut effects);
        }
        let answers = effects.into_iter().filter_map(|effect| match effect {
            Effect::Answer { ticket, answer } => Some((ticket, answer.err()?.code)),
            _ => None,
        });
        answers.collect()
    }

    #[test]
    fn of_too_many_who_wait_the_oldest_makes_room() {
        let command = Command::Start {
            service: ServiceId(0),
            with_requires: false,
        };
        assert_eq!(refused(&command, limits::MAX_WAITING), []);
        let one = (Ticket(0), code::TOO_MANY);
        assert_eq!(refused(&command, limits::MAX_WAITING + 1), [one]);
    }

    #[test]
    fn too_many_probes_by_hand_are_refused() {
        let command = Command::ProbeRun {
            service: ServiceId(0),
            probe: None,
        };
        let last = Ticket(limits::MAX_PROBE_RUNS as u64);
        assert_eq!(refused(&command, limits::MAX_PROBE_RUNS), []);
        let one = (last, code::TOO_MANY);
        assert_eq!(refused(&command, limits::MAX_PROBE_RUNS + 1), [one]);
    }
}
