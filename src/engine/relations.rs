//! What a reader is shown of how services are tied to each other, and of how they got started.
//! Reads only.
//!
//! Nothing is kept for this: who got started when is in the story, which outlives the daemon.

use super::status::{Started, Tie, Tied};
use super::*;
use crate::graph::Edge;
use crate::service::state::State;
use crate::time::{Time, Wall, millis};

/// How a service got started: when it was to, when nothing was in its way, when it was ready.
struct Beginning {
    run: u32,
    asked: Time,
    spawned: Time,
    ready: Option<Time>,
    cause: Word,
}

impl Engine {
    /// These services and what ties them to each other; who is not among them is not named.
    pub fn tied(&self, services: &[ServiceId], wall: Wall) -> Vec<Tied> {
        let mut seen = services.to_vec();
        seen.sort_unstable();
        let beginnings: Vec<Option<Beginning>> =
            services.iter().map(|id| self.beginning(*id)).collect();
        let first = beginnings.iter().flatten().map(|b| b.asked).min();
        let zero = first.unwrap_or(self.booted_at);
        let one = |(id, beginning): (&ServiceId, Option<Beginning>)| {
            let service = self.service(*id);
            let status = self.status(*id, wall);
            Tied {
                name: status.name,
                state: status.state,
                health: status.health,
                pinned: status.pinned,
                waits_for: (service.state == State::Blocked)
                    .then_some(status.detail)
                    .flatten(),
                ties: self.ties(*id, &seen),
                started: beginning.map(|b| Started {
                    run: b.run,
                    cause: b.cause.0.to_owned(),
                    at: wall.rfc3339(b.spawned),
                    asked_ms: millis(b.asked.since(zero)),
                    spawned_ms: millis(b.spawned.since(zero)),
                    ready_ms: b.ready.map(|ready| millis(ready.since(zero))),
                }),
            }
        };
        services.iter().zip(beginnings).map(one).collect()
    }

    /// Whom it needs, in the order of what is most needed, then by name; then with whom it conflicts.
    fn ties(&self, id: ServiceId, seen: &[ServiceId]) -> Vec<Tie> {
        let rank = |edge: Edge| match edge {
            Edge::Requires => 0,
            Edge::Milestone => 1,
            Edge::Wants => 2,
            Edge::After => 3,
            Edge::Before => 4,
            Edge::AfterExit => 5,
        };
        let name = |id: ServiceId| self.service(id).name.to_string();
        let needs = self.graph.needs(id).iter();
        let mut ties: Vec<(u8, &'static str, String)> = needs
            .filter(|(other, _)| seen.binary_search(other).is_ok())
            .map(|(other, edge)| (rank(*edge), edge.word(), name(*other)))
            .collect();
        let rivals = self.rivals(id).iter();
        let rivals = rivals.filter(|other| seen.binary_search(other).is_ok());
        ties.extend(rivals.map(|other| (u8::MAX, "conflicts", name(*other))));
        ties.sort();
        let tie = |(_, key, name): (u8, &str, String)| Tie {
            key: key.to_owned(),
            name,
        };
        ties.into_iter().map(tie).collect()
    }

    /// The first start that it got ready by, of those that are remembered; else the last one.
    fn beginning(&self, id: ServiceId) -> Option<Beginning> {
        let service = self.service(id);
        let mut asked = None;
        let mut last: Option<Beginning> = None;
        let told = service.transitions.iter();
        for t in told.filter(|t| t.kind == TransitionKind::State && t.from != t.to) {
            match t.to.0 {
                "blocked" => asked = Some(t.at),
                "starting" => {
                    last = Some(Beginning {
                        run: t.run,
                        asked: asked.take().unwrap_or(t.at),
                        spawned: t.at,
                        ready: None,
                        cause: t.cause,
                    });
                }
                "running" | "exited" => {
                    if let Some(mut begun) = last.take().filter(|_| t.from.0 == "starting") {
                        begun.ready = Some(t.at);
                        return Some(begun);
                    }
                }
                _ => {}
            }
        }
        // Longer ago than the story goes.
        let run = service.run.as_ref();
        let present = run.map(|run| Beginning {
            run: run.id.number,
            asked: run.spawned_at,
            spawned: run.spawned_at,
            ready: run.ready_at,
            cause: Word(run.begun_by.word()),
        });
        last.or(present)
    }
}
