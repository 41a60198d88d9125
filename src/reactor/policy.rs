//! `policy.simulate`: a helper asks what a policy would do, in virtual time.
//!
//! The helper is a copy of the daemon and so has all definitions and the history; its work, time
//! and answer are bounded. Invariant: nothing of the daemon is touched.

use super::*;
use crate::control::calls::Simulation;
use crate::control::forecast::Forecast;
use crate::control::rpc::code;
use crate::control::verbs::Shape;
use crate::engine::Refusal;
use crate::reactor::jobs::Work;
use crate::time::Wall;
use std::io::Write;

/// The longest answer, and the longest wait for it.
const LIMIT: usize = 4 * 1024 * 1024;
const SECONDS: u32 = 20;

/// Who knows how to simulate: another driver, which the daemon brings along.
pub type Simulate = fn(&Engine, &Simulation, Wall) -> Result<Forecast, String>;

impl Reactor {
    pub(super) fn begin_simulation(&mut self, ticket: Ticket, asked: &Simulation) {
        let busy = |job: &&jobs::Job| matches!(job.work, Work::Forecast { .. });
        if self.jobs.values().filter(busy).count() >= limits::MAX_SIMULATIONS {
            let words = "other simulations are running already; ask again later";
            return self.refuse_simulation(ticket, code::TOO_MANY, words.to_owned());
        }
        let wall = self.clock.wall(self.now);
        let (engine, simulate) = (&self.engine, self.simulate);
        let origin = self.spawner.origin();
        let helper = helper::start(c"vitald-simulate", origin, &[], LIMIT, |out| {
            // SAFETY: plain system calls. It is no more important than a service.
            unsafe {
                libc::alarm(SECONDS);
                libc::setpriority(libc::PRIO_PROCESS, 0, 19);
            }
            let told = simulate(engine, asked, wall).map(|told| serde_json::to_vec(&told));
            let sent = match told {
                Ok(Ok(json)) => out.write_all(b"+").and_then(|()| out.write_all(&json)),
                Ok(Err(error)) => write!(out, "-{error}"),
                Err(words) => write!(out, "-{words}"),
            };
            u8::from(sent.is_err())
        });
        let work = Work::Forecast { ticket };
        if let Err(error) = helper.and_then(|helper| self.watch_helper(helper, work)) {
            let words = format!("cannot simulate: {}", error.step);
            self.refuse_simulation(ticket, code::INTERNAL, words);
        }
    }

    /// The helper has ended, having said this.
    pub(super) fn simulation_ended(&mut self, ticket: Ticket, exit: Exit, said: &[u8]) {
        let said = String::from_utf8_lossy(said);
        if exit != Exit::Code(0) {
            let words = format!("the simulation did not come to its end: {exit}");
            return self.refuse_simulation(ticket, code::INTERNAL, words);
        }
        let Some(json) = said.strip_prefix('+') else {
            let words = said.trim_start_matches('-').to_owned();
            return self.refuse_simulation(ticket, code::BAD_PARAMS, words);
        };
        self.answer_told(ticket, Shape::Forecast, json);
    }

    fn refuse_simulation(&mut self, ticket: Ticket, code: i32, words: String) {
        self.answer(ticket, &Err(Refusal::new(code, &words)));
    }
}
