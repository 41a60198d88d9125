//! Jobs: children that do for us what would block, and commands of probes.
//!
//! A job ends when its process ends; its pipe is read until then and once more after it, never
//! until its end: a grandchild may hold the other side for ever. Output is bounded.

use super::alerts::Sending;
use super::show_logs::TailAsked;
use super::tail::Wanted;
use super::*;
use crate::config::{Address, Dns, Look};
use crate::engine::{SpawnError, Terms};
use crate::id::CheckId;
use crate::probe::exec::{self, Tail};
use crate::probe::{Outcome, Report, Trouble};
use crate::reactor::child::Ended;
use crate::reactor::helper::{self, Helper};
use crate::reactor::spawn::{ExecReport, exec_report};
use crate::reactor::tail;
use crate::reactor::tree::TreeJob;
use std::os::fd::OwnedFd;

/// Definitions all together may be this large.
const DEFINITIONS_LIMIT: usize = 64 * 1024 * 1024;

const NOBODY: RunId = RunId {
    service: ServiceId(u32::MAX),
    number: 0,
};

pub(super) struct Job {
    pid: Pid,
    pidfd: OwnedFd,
    end: Token,
    pipe: Option<(OwnedFd, Token)>,
    output: Vec<u8>,
    begun: Time,
    pub work: Work,
}

/// What a job is for.
pub(super) enum Work {
    Tree {
        run: RunId,
    },
    /// Looks for the main process of a daemon that forks.
    Main {
        run: RunId,
    },
    /// Empties runtime directories.
    Remove {
        service: ServiceId,
    },
    /// Writes that this boot is well.
    Boots,
    /// A reboot for the sake of a service is counted.
    Reboots(ServiceId),
    Resolve {
        host: Box<str>,
        check: CheckId,
        definition: Definition,
    },
    /// An `https` probe, or one that looks from outside.
    Https {
        host: Box<str>,
        check: CheckId,
    },
    /// `setup` tells whether the command was executed at all.
    Command {
        check: CheckId,
        tail: Box<Tail>,
        setup: Option<OwnedFd>,
    },
    /// A service's `on_exhausted_exec`.
    Exhausted {
        service: ServiceId,
        tail: Box<Tail>,
        setup: OwnedFd,
    },
    Alert(Box<Sending>),
    Definitions {
        ticket: Ticket,
        terms: Terms,
    },
    /// Tries a program that is to take our place.
    Trial(Box<Upgrade>),
    /// Asks what a policy would do.
    Forecast {
        ticket: Ticket,
    },
    /// Looks at what a service is stuck on.
    Evidence {
        run: RunId,
    },
    /// Looks for dossiers.
    Dossiers {
        ticket: Ticket,
        shape: crate::control::verbs::Shape,
    },
    /// Older log lines, to stand before those of the ring.
    Tail {
        ticket: Ticket,
        asked: Rc<TailAsked>,
    },
}

impl Work {
    fn check(&self) -> Option<CheckId> {
        match self {
            Work::Resolve { check, .. }
            | Work::Https { check, .. }
            | Work::Command { check, .. } => Some(*check),
            Work::Tree { .. }
            | Work::Main { .. }
            | Work::Remove { .. }
            | Work::Boots
            | Work::Reboots(_)
            | Work::Exhausted { .. }
            | Work::Alert(_)
            | Work::Definitions { .. }
            | Work::Trial(_)
            | Work::Forecast { .. }
            | Work::Evidence { .. }
            | Work::Dossiers { .. }
            | Work::Tail { .. } => None,
        }
    }
}

impl Reactor {
    pub(super) fn start_tree_job(&mut self, run: RunId, job: TreeJob) {
        let helper = helper::start(c"vitald-tree", self.spawner.origin(), &[], 16, move |out| {
            let left = tree::end_tree(&job);
            let _ = io::Write::write_all(out, left.to_string().as_bytes());
            0
        });
        let work = Work::Tree { run };
        if let Err(error) = helper.and_then(|helper| self.watch_helper(helper, work)) {
            log::warn!(
                "{}: cannot look for what it left behind: {}; tried again",
                self.name(run.service),
                error.step
            );
            self.caused.push_back(Event::TreeEnded { run, left: 1 });
        }
    }

    /// What a probe needs before it dials: its name looked up, its password read.
    pub(super) fn start_resolve(
        &mut self,
        check: CheckId,
        definition: &Definition,
        name: Option<(&str, u16)>,
        secret: Option<&str>,
    ) -> Result<(), SpawnError> {
        let origin = self.spawner.origin();
        let most = resolve::MAX_ENCODED + resolve::MAX_SECRET;
        let helper = helper::start(c"vitald-resolve", origin, &[], most, move |out| {
            let mut lines = Vec::new();
            if let Some((host, port)) = name {
                lines = resolve::encode(&resolve::resolve_blocking(host, port));
            }
            if let Some(file) = secret {
                lines.extend(resolve::encode_secret(file, &resolve::read_secret(file)));
            }
            u8::from(io::Write::write_all(out, &lines).is_err())
        })?;
        let definition = definition.clone();
        self.watch_helper(
            helper,
            Work::Resolve {
                host: name.map_or("", |(host, _)| host).into(),
                check,
                definition,
            },
        )
    }

    /// What a probe finds out from outside.
    pub(super) fn start_look(
        &mut self,
        check: CheckId,
        look: &Look,
        timeout: Duration,
    ) -> Result<(), SpawnError> {
        let run = check.run;
        let process = self.process(run.service).filter(|p| p.run == run);
        let pid = process.map(|process| process.pid);
        let tree = pid.map(|pid| self.tree_job(run, pid, Signal::KILL, Duration::ZERO));
        let origin = self.spawner.origin();
        let helper = helper::start(c"vitald-look", origin, &[], https::MAX_ENCODED, |out| {
            let mut found = || drop(io::Write::write_all(out, https::FOUND));
            let answer = look::look_blocking(look, tree.as_ref(), timeout, &mut found);
            u8::from(io::Write::write_all(out, &https::encode(&answer)).is_err())
        })?;
        let host = match look {
            Look::Dns(Dns {
                server: Address::Tcp { host, .. },
                ..
            }) => host.clone(),
            _ => "".into(),
        };
        self.watch_helper(helper, Work::Https { check, host })
    }

    pub(super) fn start_https(
        &mut self,
        check: CheckId,
        http: &crate::config::Http,
        timeout: Duration,
    ) -> Result<(), SpawnError> {
        let origin = self.spawner.origin();
        let helper = helper::start(c"vitald-https", origin, &[], https::MAX_ENCODED, |out| {
            let mut found = || drop(io::Write::write_all(out, https::FOUND));
            let answer = https::https_blocking(http, timeout, &mut found);
            u8::from(io::Write::write_all(out, &https::encode(&answer)).is_err())
        })?;
        let host = match &http.address {
            Address::Tcp { host, .. } => host.clone(),
            Address::Unix { .. } => "".into(),
        };
        self.watch_helper(helper, Work::Https { check, host })
    }

    /// Reads the definitions in a child, whatever disk they are on.
    pub(super) fn read_definitions(&mut self, ticket: Ticket, terms: Terms) {
        let dir = self.config_dir.clone();
        let origin = self.spawner.origin();
        let helper = helper::start(c"vitald-read", origin, &[], DEFINITIONS_LIMIT, move |out| {
            u8::from(definitions::send(&dir, out).is_err())
        });
        let work = Work::Definitions { ticket, terms };
        if let Err(error) = helper.and_then(|helper| self.watch_helper(helper, work)) {
            let words = format!("cannot read the definitions: {}", error.step);
            self.refuse_reload(ticket, &words);
        }
    }

    /// Older lines of services' logs, from the files that the scribe writes.
    pub(super) fn start_tail(&mut self, ticket: Ticket, asked: Rc<TailAsked>, wanted: Vec<Wanted>) {
        let origin = self.spawner.origin();
        let helper = helper::start(c"vitald-tail", origin, &[], tail::TOLD_LIMIT, move |out| {
            u8::from(tail::tell(&wanted, out).is_err())
        });
        let work = Work::Tail {
            ticket,
            asked: asked.clone(),
        };
        if let Err(error) = helper.and_then(|helper| self.watch_helper(helper, work)) {
            log::debug!("cannot read older log lines: {}", error.step);
            self.give_found_logs(ticket, &asked, b"");
        }
    }

    fn refuse_reload(&mut self, ticket: Ticket, words: &str) {
        log::error!("{words}");
        let code = crate::engine::code::INTERNAL;
        let refusal = crate::engine::Refusal::new(code, words);
        self.answer(ticket, &Err(refusal));
    }

    pub(super) fn watch_helper(&mut self, helper: Helper, work: Work) -> Result<(), SpawnError> {
        let Helper { pid, pidfd, pipe } = helper;
        self.watch_job(pid, pidfd, pipe, work)
    }

    pub(super) fn watch_job(
        &mut self,
        pid: Pid,
        pidfd: OwnedFd,
        pipe: OwnedFd,
        work: Work,
    ) -> Result<(), SpawnError> {
        self.next_job = self.next_job.wrapping_add(1);
        let number = self.next_job;
        let end = self.sources.insert(Source::JobEnd(number));
        let said = self.sources.insert(Source::JobPipe(number));
        let watched = self
            .register(&pidfd, end)
            .and_then(|()| self.register(&pipe, said));
        if let Err(error) = watched {
            let _ = sys::pidfd_send_signal(pidfd.as_fd(), Signal::KILL);
            self.sources.remove(end);
            self.sources.remove(said);
            return Err(sys::failed("epoll", &error));
        }
        self.children.insert(pid, Child::Job);
        // Whom it tells is told also when another execution takes our place meanwhile.
        if !matches!(work, Work::Exhausted { .. }) {
            known::job_began(pid.0);
        }
        let job = Job {
            pid,
            pidfd,
            end,
            pipe: Some((pipe, said)),
            output: Vec::new(),
            begun: self.now,
            work,
        };
        self.jobs.insert(number, job);
        Ok(())
    }

    pub(super) fn job_said(&mut self, number: u32) {
        let Some(job) = self.jobs.get_mut(&number) else {
            return;
        };
        let Some((pipe, token)) = &job.pipe else {
            return;
        };
        let mut buffer = [0; 4096];
        // A command that floods its pipe is read a share at a time; it ends at its timeout.
        for _ in 0..64 {
            match sys::read_ready(pipe, &mut buffer) {
                Ok(Some(0)) | Err(_) => {
                    let token = *token;
                    job.pipe = None;
                    self.sources.remove(token);
                    return;
                }
                Ok(Some(length)) => match &mut job.work {
                    Work::Alert(sending) if sending.tail.is_some() => {
                        if let Some(tail) = &mut sending.tail {
                            tail.push(&buffer[..length]);
                        }
                    }
                    Work::Command { tail, .. } | Work::Exhausted { tail, .. } => {
                        tail.push(&buffer[..length]);
                    }
                    Work::Tree { .. }
                    | Work::Main { .. }
                    | Work::Remove { .. }
                    | Work::Boots
                    | Work::Reboots(_)
                    | Work::Resolve { .. }
                    | Work::Https { .. }
                    | Work::Alert(_)
                    | Work::Definitions { .. }
                    | Work::Trial(_)
                    | Work::Forecast { .. }
                    | Work::Evidence { .. }
                    | Work::Dossiers { .. }
                    | Work::Tail { .. } => job.output.extend_from_slice(&buffer[..length]),
                },
                Ok(None) => return,
            }
        }
        // Edge-triggered: what was left must be asked for again.
        let token = *token;
        let fd = pipe.as_raw_fd();
        let mut source = SourceFd(&fd);
        let _ = self
            .poll
            .registry()
            .reregister(&mut source, token, Interest::READABLE);
    }

    pub(super) fn job_ended(&mut self, number: u32) {
        let Some(job) = self.jobs.get(&number) else {
            return;
        };
        // Until it is reaped the number of a command's group is its own.
        if matches!(job.work, Work::Command { .. }) && sys::has_ended(job.pidfd.as_fd()) {
            self.kill_group(job.pid);
        }
        let exit = match child::reap(job.pidfd.as_fd()) {
            Ended::No => return,
            Ended::Yes(exit) => exit,
            Ended::Unreaped => Exit::Unknown,
        };
        self.job_said(number);
        let Some(job) = self.close_job(number) else {
            return;
        };
        let latency = self.now.since(job.begun);
        match job.work {
            Work::Tree { run } => {
                let text = String::from_utf8_lossy(&job.output);
                // A helper that said nothing died: it is asked again.
                let left = text.trim().parse().unwrap_or(1);
                self.caused.push_back(Event::TreeEnded { run, left });
            }
            Work::Main { run } => {
                let line = String::from_utf8_lossy(&job.output).into_owned();
                self.main_found(run, &line);
            }
            Work::Remove { service } if exit != Exit::Code(0) => {
                let name = self.name(service);
                log::warn!("{name}: not all of its runtime directories could be removed");
            }
            Work::Remove { .. } => {}
            Work::Boots => self.boots_cleared(exit),
            Work::Reboots(service) => self.reboot_counted(service, exit),
            Work::Resolve {
                host,
                check,
                definition,
            } => {
                self.resolved(check, &definition, &host, &job.output);
            }
            Work::Https { check, .. } => {
                let answer = job.output.strip_prefix(https::FOUND);
                let (outcome, output) = https::decode(answer.unwrap_or(&job.output));
                let report = Report {
                    outcome,
                    latency,
                    output,
                };
                self.caused
                    .push_back(Event::ProbeFinished { check, report });
            }
            Work::Command { check, tail, setup } => {
                if let Some(error) = setup.as_ref().and_then(Self::setup_error) {
                    return self.command_not_executed(check, &error);
                }
                let report = Report {
                    outcome: exec::outcome(exit),
                    latency,
                    output: tail.output(),
                };
                self.caused
                    .push_back(Event::ProbeFinished { check, report });
            }
            Work::Forecast { ticket } => self.simulation_ended(ticket, exit, &job.output),
            Work::Evidence { run } => self.evidence_ended(run, &job.output),
            Work::Dossiers { ticket, shape } => {
                self.dossiers_found(ticket, shape, exit, &job.output);
            }
            Work::Trial(upgrade) => self.tried(*upgrade, &job.output),
            Work::Exhausted {
                service,
                tail,
                setup,
            } => self.exhausted_ended(service, exit, &tail, &setup),
            Work::Alert(sending) => self.sending_ended(&sending, exit, &job.output),
            Work::Tail { ticket, asked } => self.give_found_logs(ticket, &asked, &job.output),
            Work::Definitions { ticket, mut terms } => match definitions::receive(&job.output) {
                Some((files, settings)) if exit == Exit::Code(0) => {
                    terms.digest = definitions::digest(&files, &settings);
                    let known = self.engine.instances();
                    let joined = definitions::join(files, self.engine.given(), &known);
                    let mut files = joined.services;
                    if self.life.reduced.is_some() {
                        definitions::without_probes(&mut files);
                    }
                    definitions::log(&joined.problems);
                    self.templates.read(ticket, joined.templates);
                    let settings = self.settings_read(ticket, settings);
                    self.caused.push_back(Event::Reloaded {
                        ticket: Some(ticket),
                        files,
                        terms: Some(Box::new(terms)),
                        settings,
                    });
                }
                Some(_) | None => {
                    self.refuse_reload(ticket, "the definitions could not be read to their end");
                }
            },
        }
    }

    /// What a probe's command left in its group does not outlive it. Before it is reaped.
    fn kill_group(&self, pid: Pid) {
        if pid.0 > 1 {
            let group = nix::unistd::Pid::from_raw(pid.0);
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        }
    }

    fn close_job(&mut self, number: u32) -> Option<Job> {
        let job = self.jobs.remove(&number)?;
        self.deregister(&job.pidfd);
        self.sources.remove(job.end);
        if let Some((pipe, token)) = &job.pipe {
            self.deregister(pipe);
            self.sources.remove(*token);
        }
        self.children.remove(&job.pid);
        known::job_ended(job.pid.0);
        Some(job)
    }

    /// The job that answers this check, if one does.
    pub(super) fn job_of(&self, check: CheckId) -> Option<u32> {
        self.jobs
            .iter()
            .find(|(_, job)| job.work.check() == Some(check))
            .map(|(number, _)| *number)
    }

    /// Ends a check's job with its whole group; what it said so far.
    pub(super) fn end_job(&mut self, number: u32) -> Option<Report> {
        self.job_said(number);
        let job = self.jobs.get_mut(&number)?;
        let latency = self.now.since(job.begun);
        let output = match &job.work {
            Work::Command { tail, .. } | Work::Exhausted { tail, .. } => tail.output(),
            Work::Tree { .. }
            | Work::Main { .. }
            | Work::Remove { .. }
            | Work::Boots
            | Work::Reboots(_)
            | Work::Resolve { .. }
            | Work::Https { .. }
            | Work::Alert(_)
            | Work::Definitions { .. }
            | Work::Trial(_)
            | Work::Forecast { .. }
            | Work::Evidence { .. }
            | Work::Dossiers { .. }
            | Work::Tail { .. } => "".into(),
        };
        let outcome = match &job.work {
            // A resolver that does not answer is our trouble, not the service's.
            Work::Resolve { host, .. } if host.is_empty() => Outcome::Inconclusive(
                Trouble::Internal("its password file cannot be read in time".into()),
            ),
            Work::Resolve { host, .. } => Outcome::Inconclusive(Trouble::Unresolved(host.clone())),
            Work::Https { host, .. } if !job.output.starts_with(https::FOUND) => {
                Outcome::Inconclusive(Trouble::Unresolved(host.clone()))
            }
            // It never got as far as its program: a dead mount, say.
            Work::Command {
                setup: Some(setup), ..
            } if exec_report(setup.as_fd()) == ExecReport::Pending => {
                Outcome::Inconclusive(Trouble::CannotExecute(libc::ETIMEDOUT))
            }
            Work::Tree { .. }
            | Work::Main { .. }
            | Work::Remove { .. }
            | Work::Boots
            | Work::Reboots(_)
            | Work::Https { .. }
            | Work::Command { .. }
            | Work::Exhausted { .. }
            | Work::Alert(_)
            | Work::Definitions { .. }
            | Work::Trial(_)
            | Work::Forecast { .. }
            | Work::Evidence { .. }
            | Work::Dossiers { .. }
            | Work::Tail { .. } => Outcome::Fail(crate::probe::Reason::Timeout),
        };
        self.abandon_job(number);
        Some(Report {
            outcome,
            latency,
            output,
        })
    }

    /// An alert that is under way is ended; what it was, and what its helper said so far.
    pub(super) fn take_sending(&mut self, number: u32) -> Option<(Box<Sending>, Vec<u8>)> {
        let work = self.abandon_job(number)?;
        let output = self.jobs.get_mut(&number).map(|job| &mut job.output);
        let output = output.map(std::mem::take).unwrap_or_default();
        match work {
            Work::Alert(sending) => Some((sending, output)),
            _ => None,
        }
    }

    /// Ends a job with its whole group: nobody waits for it any more. What it was for.
    fn abandon_job(&mut self, number: u32) -> Option<Work> {
        let job = self.jobs.get(&number)?;
        let pid = job.pid;
        let _ = sys::pidfd_send_signal(job.pidfd.as_fd(), Signal::KILL);
        self.kill_group(pid);
        // Its end is still to be reaped, by nobody's check any more.
        self.disown_job(number, Work::Tree { run: NOBODY })
    }

    /// Ends a helper that looks at a service; what it told so far. Until it is gone, which may be
    /// never where it hangs in the kernel, it counts as one that looks.
    pub(super) fn abandon_look(&mut self, number: u32) -> Vec<u8> {
        self.job_said(number);
        let Some(job) = self.jobs.get_mut(&number) else {
            return Vec::new();
        };
        let output = std::mem::take(&mut job.output);
        let _ = sys::pidfd_send_signal(job.pidfd.as_fd(), Signal::KILL);
        self.disown_job(number, Work::Evidence { run: NOBODY });
        output
    }

    /// Its end is still to be reaped, by nobody's check any more; nor is what others of it write.
    fn disown_job(&mut self, number: u32, work: Work) -> Option<Work> {
        let job = self.jobs.get_mut(&number)?;
        let work = std::mem::replace(&mut job.work, work);
        if let Some((pipe, token)) = job.pipe.take() {
            self.deregister(&pipe);
            self.sources.remove(token);
        }
        Some(work)
    }
}
