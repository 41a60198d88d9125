//! `on_exhausted_exec`: the command that tells somebody that a service's budget is spent.
//!
//! Whether and how often is the engine's. Here it is run as the service's user, its last lines are
//! kept for the log, and there is one of a service at a time: it may take as long as it likes.

use super::*;
use crate::engine::SpawnError;
use crate::probe::exec::Tail;
use crate::reactor::jobs::Work;
use crate::reactor::spawn::SpawnPlan;
use std::os::fd::OwnedFd;

impl Reactor {
    pub(super) fn tell_exhausted(&mut self, id: ServiceId, definition: &Definition, reason: &str) {
        let name = self.name(id).to_owned();
        let running =
            |work: &Work| matches!(work, Work::Exhausted { service, .. } if *service == id);
        if self.jobs.values().any(|job| running(&job.work)) {
            log::warn!("{name}: on_exhausted_exec runs still, it is not run once more");
        } else if let Err(error) = self.start_exhausted(id, &name, definition, reason) {
            log::warn!("{name}: on_exhausted_exec: {error}");
        }
        let told = Event::ExhaustedTold { service: id };
        self.caused.push_back(told);
    }

    fn start_exhausted(
        &mut self,
        service: ServiceId,
        name: &str,
        definition: &Definition,
        reason: &str,
    ) -> Result<(), SpawnError> {
        let Some(exec) = &definition.retry_policy.on_exhausted_exec else {
            return Ok(());
        };
        let (reader, writer) = sys::pipe(true).map_err(|error| sys::failed("pipe", &error))?;
        let spawned = self.spawner.spawn(&SpawnPlan {
            service: name,
            run: None,
            outlives: false,
            exec,
            process: &definition.process,
            stdin: None,
            stdout: writer.as_fd(),
            stderr: writer.as_fd(),
            fds: &[],
            fd_at: None,
            pid_env: &[],
            room: None,
            env: &[("VITALD_REASON", reason)],
        })?;
        drop(writer);
        let work = Work::Exhausted {
            service,
            tail: Box::default(),
            setup: spawned.exec_pipe,
        };
        self.watch_job(spawned.pid, spawned.pidfd, reader, work)
    }

    pub(super) fn exhausted_ended(
        &mut self,
        id: ServiceId,
        exit: Exit,
        tail: &Tail,
        setup: &OwnedFd,
    ) {
        let name = self.name(id);
        match Self::setup_error(setup) {
            Some(error) => log::warn!("{name}: on_exhausted_exec: {error}"),
            None if exit == Exit::Code(0) => log::info!("{name}: on_exhausted_exec: done"),
            None => log::warn!("{name}: on_exhausted_exec: {exit}: {}", tail.output()),
        }
    }
}
