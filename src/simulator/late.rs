//! What a script lets come late on purpose: an event of a run that is over, or nearly so.

use super::World;
use super::kernel::finished;
use crate::engine::Event;
use crate::exit::Exit;
use crate::id::{CheckId, Pid, RunId};
use crate::probe::{Outcome, Reason};
use std::time::Duration;

impl World {
    pub(super) fn late(&mut self, what: &str, service: &str, number: u32) -> Result<(), String> {
        let service = self.id(service)?;
        let run = RunId { service, number };
        let event = match what {
            "late-answer" => {
                let (probe, serial) = (0, 1);
                let check = CheckId { run, probe, serial };
                let outcome = Outcome::Fail(Reason::Timeout);
                finished(check, outcome, Duration::from_secs(1))
            }
            "late-exit" => Event::Exited {
                run,
                exit: Exit::Code(9),
                tree_gone: true,
            },
            _ => Event::Spawned {
                run,
                pid: Pid(4242),
                started: 1,
            },
        };
        self.post(Duration::ZERO, event);
        Ok(())
    }
}
