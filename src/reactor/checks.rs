//! Checks under way: sockets dialled in the loop, everything else in a job.
//!
//! Invariant: a check is answered exactly once, unless it was cancelled.

use super::*;
use crate::config::Ask;
use crate::engine::SpawnError;
use crate::id::CheckId;
use crate::probe::{Outcome, Report, Trouble};
use crate::reactor::dial::{Dial, Finished};
use crate::reactor::jobs::Work;
use crate::reactor::resolve::Resolved;
use crate::reactor::spawn::{ExecReport, SpawnPlan, exec_report};

fn key(check: CheckId) -> (ServiceId, u16, u32) {
    (check.run.service, check.probe, check.serial)
}

impl Reactor {
    pub(super) fn begin_check(&mut self, check: CheckId, definition: &Definition) {
        let Some(probe) = definition.probes.get(usize::from(check.probe)) else {
            return;
        };
        let secret = match &probe.ask {
            Ask::Server(server) => server.password_file(),
            _ => None,
        };
        match &probe.ask {
            Ask::Http(_) | Ask::Tcp { .. } | Ask::Unix { .. } | Ask::Server(_) => {
                let resolved = self.names.get(&probe.ask, self.now);
                match (resolved, secret) {
                    (Some(resolved), None) => self.dial(check, definition, resolved),
                    (resolved, secret) => {
                        let name = resolve::name_of(&probe.ask).filter(|_| resolved.is_none());
                        if let Err(error) = self.start_resolve(check, definition, name, secret) {
                            self.cannot_ask(check, &error);
                        }
                    }
                }
            }
            Ask::Look(look) => {
                if let Err(error) = self.start_look(check, look, probe.timeout) {
                    self.cannot_ask(check, &error);
                }
            }
            Ask::Https(http) => {
                if let Err(error) = self.start_https(check, http, probe.timeout) {
                    self.cannot_ask(check, &error);
                }
            }
            Ask::Exec { argv } => {
                if let Err(error) = self.start_command(check, definition, argv) {
                    self.cannot_ask(check, &error);
                }
            }
        }
    }

    /// Our own trouble: no verdict.
    fn cannot_ask(&mut self, check: CheckId, error: &SpawnError) {
        let trouble = match error.errno {
            libc::EMFILE | libc::ENFILE => Trouble::NoDescriptor,
            libc::ENOMEM => Trouble::NoMemory,
            _ if error.ours => Trouble::CannotFork,
            errno if error.step.starts_with("exec") => Trouble::CannotExecute(errno),
            _ => Trouble::Internal(error.to_string().into()),
        };
        let report = Report {
            outcome: Outcome::Inconclusive(trouble),
            latency: Duration::ZERO,
            output: "".into(),
        };
        self.caused
            .push_back(Event::ProbeFinished { check, report });
    }

    // --- sockets

    fn dial(&mut self, check: CheckId, definition: &Definition, resolved: Resolved) {
        let place = (check.run.service, check.probe);
        let kept = self.kept.remove(&place);
        // A kept connection goes on under the token it is registered with.
        let token = match &kept {
            Some(kept) => kept.token(),
            None => self.sources.insert(Source::Kept(place.0, place.1)),
        };
        let registry = self.poll.registry();
        let scratch = &mut self.scratch;
        match Dial::begin(check, definition, resolved, kept, token, registry, scratch) {
            Ok(dial) => {
                if let Some(pause) = dial.wants_retry() {
                    self.wheel.set(timer_key(token), self.now + pause);
                }
                if let Some(source) = self.sources.get_mut(token) {
                    *source = Source::Dial(Box::new(dial));
                }
                self.dials.insert(key(check), token);
            }
            Err(finished) => self.dial_finished(token, *finished),
        }
    }

    pub(super) fn dial_ready(&mut self, token: Token) {
        self.drive(token, Dial::ready);
    }

    /// The accept queue was full: once more.
    pub(super) fn dial_due(&mut self, token: Token) {
        self.drive(token, Dial::retry);
    }

    fn drive(
        &mut self,
        token: Token,
        step: fn(&mut Dial, &mio::Registry, &mut Scratch) -> Option<Box<Finished>>,
    ) {
        let Some(Source::Dial(dial)) = self.sources.get_mut(token) else {
            return;
        };
        let finished = step(dial, self.poll.registry(), &mut self.scratch);
        let again = dial.wants_retry();
        match finished {
            Some(finished) => self.dial_finished(token, *finished),
            None => {
                if let Some(pause) = again {
                    self.wheel.set(timer_key(token), self.now + pause);
                }
            }
        }
    }

    fn dial_finished(&mut self, token: Token, finished: Finished) {
        let Finished {
            check,
            report,
            kept,
            forget_name,
        } = finished;
        self.dials.remove(&key(check));
        self.wheel.cancel(timer_key(token));
        let place = (check.run.service, check.probe);
        match kept {
            Some(kept) => {
                if let Some(source) = self.sources.get_mut(token) {
                    *source = Source::Kept(place.0, place.1);
                }
                if let Some(old) = self.kept.insert(place, kept) {
                    self.sources.remove(old.token());
                }
            }
            None => {
                self.sources.remove(token);
            }
        }
        if forget_name {
            let definition = self.engine.definition(place.0);
            let probe = definition.and_then(|d| d.probes.get(usize::from(place.1)));
            if let Some((host, _)) = probe.and_then(|p| resolve::name_of(&p.ask)) {
                self.names.forget(host);
            }
        }
        self.caused
            .push_back(Event::ProbeFinished { check, report });
    }

    /// The server closed an idle connection, or said something unasked.
    pub(super) fn kept_ready(&mut self, id: ServiceId, probe: u16) {
        if self
            .kept
            .get(&(id, probe))
            .is_some_and(|kept| !kept.is_usable())
            && let Some(kept) = self.kept.remove(&(id, probe))
        {
            self.sources.remove(kept.token());
        }
    }

    pub(super) fn resolved(
        &mut self,
        check: CheckId,
        definition: &Definition,
        host: &str,
        output: &[u8],
    ) {
        let ask = match definition.probes.get(usize::from(check.probe)) {
            Some(probe) => &probe.ask,
            None => return,
        };
        let output = match host.is_empty() {
            true => output,
            false => {
                let end = output.iter().position(|b| *b == b'\n');
                let (line, rest) = output.split_at(end.map_or(output.len(), |end| end + 1));
                match resolve::decode(line) {
                    Ok(addresses) => self.names.put(host, &addresses, self.now),
                    Err(why) => {
                        log::debug!("cannot resolve {host}: {why}");
                        return self.no_verdict(check, Trouble::Unresolved(host.into()), &why);
                    }
                }
                rest
            }
        };
        if matches!(ask, Ask::Server(server) if server.password_file().is_some()) {
            match resolve::decode_secret(output) {
                Ok(secret) => self.scratch.secret = Some(secret.into()),
                Err(why) => return self.no_verdict(check, Trouble::Internal(why.into()), ""),
            }
        }
        if let Some(resolved) = self.names.get(ask, self.now) {
            self.dial(check, definition, resolved);
        }
    }

    fn no_verdict(&mut self, check: CheckId, trouble: Trouble, output: &str) {
        let report = Report {
            outcome: Outcome::Inconclusive(trouble),
            latency: Duration::ZERO,
            output: output.into(),
        };
        self.caused
            .push_back(Event::ProbeFinished { check, report });
    }

    // --- commands

    fn start_command(
        &mut self,
        check: CheckId,
        definition: &Definition,
        argv: &[Box<str>],
    ) -> Result<(), SpawnError> {
        let name = self.name(check.run.service).to_owned();
        let (reader, writer) = sys::pipe(true).map_err(|error| sys::failed("pipe", &error))?;
        let spawned = self.spawner.spawn(&SpawnPlan {
            service: &name,
            run: None,
            outlives: false,
            exec: argv,
            process: &definition.process,
            stdin: None,
            stdout: writer.as_fd(),
            stderr: writer.as_fd(),
            fds: &[],
            fd_at: None,
            pid_env: &[],
            room: None,
            env: &[],
        })?;
        drop(writer);
        let work = Work::Command {
            check,
            tail: Box::default(),
            setup: Some(spawned.exec_pipe),
        };
        self.watch_job(spawned.pid, spawned.pidfd, reader, work)
    }

    /// What the end of a probe's command says, if it is not the command's own.
    pub(super) fn setup_error(pipe: &impl AsFd) -> Option<SpawnError> {
        match exec_report(pipe.as_fd()) {
            ExecReport::Failed(error) => Some(error),
            ExecReport::Pending | ExecReport::Executed => None,
        }
    }

    pub(super) fn command_not_executed(&mut self, check: CheckId, error: &SpawnError) {
        self.cannot_ask(check, error);
    }

    // --- the end of patience

    pub(super) fn expire_check(&mut self, check: CheckId) {
        if let Some(token) = self.dials.remove(&key(check))
            && let Some(Source::Dial(dial)) = self.sources.remove(token)
        {
            self.wheel.cancel(timer_key(token));
            let finished = dial.expired();
            let report = finished.report;
            self.caused
                .push_back(Event::ProbeFinished { check, report });
            return;
        }
        let report = self
            .job_of(check)
            .and_then(|number| self.end_job(number))
            .unwrap_or(Report {
                outcome: Outcome::Inconclusive(Trouble::Internal("the check was lost".into())),
                latency: Duration::ZERO,
                output: "".into(),
            });
        // It may have just ended, its answer on the way: the first one counts.
        let answered = self.caused.iter().any(
            |event| matches!(event, Event::ProbeFinished { check: other, .. } if *other == check),
        );
        if !answered {
            self.caused
                .push_back(Event::ProbeFinished { check, report });
        }
    }

    pub(super) fn cancel_check(&mut self, check: CheckId) {
        if let Some(token) = self.dials.remove(&key(check)) {
            self.wheel.cancel(timer_key(token));
            if let Some(Source::Dial(dial)) = self.sources.remove(token) {
                // Closed as one that ran out of time: the service finds the end at once.
                drop(dial.expired());
            }
        } else if let Some(number) = self.job_of(check) {
            self.end_job(number);
        }
    }
}
