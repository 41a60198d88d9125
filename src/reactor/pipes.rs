//! The loop's side of services' output: pipes opened, drained, followed, given up.
//!
//! Invariants: a pipe is opened once and kept over runs; what its rules are is what the definition
//! in force says, laid over vitald.toml; one that a logger reads is not drained here.

use super::*;
use crate::config::Log;
use crate::engine::SpawnError;
use crate::engine::status::LogStatus;
use crate::journal::Fault;
use crate::reactor::logs::{LogPipe, Which};
use crate::reactor::service_log::Drained;
use std::os::fd::BorrowedFd;

/// The ends that a new process gets.
pub(super) struct Ends {
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
}

impl Ends {
    pub fn stdout(&self) -> BorrowedFd<'_> {
        self.stdout.as_fd()
    }

    pub fn stderr(&self) -> BorrowedFd<'_> {
        self.stderr.as_ref().unwrap_or(&self.stdout).as_fd()
    }
}

impl Reactor {
    /// The ends of the service's log pipes that a new run gets.
    pub(super) fn log_end(
        &mut self,
        id: ServiceId,
        name: &str,
        definition: &Definition,
    ) -> Result<Ends, SpawnError> {
        let wall_ms = self.clock.wall_ms();
        if let Some(Some(log)) = self.logs.get_mut(id.index()) {
            log.run_began(name, wall_ms, &mut self.scribe);
        }
        self.log_end_within(id, name, definition)
    }

    /// The same amid a run.
    pub(super) fn log_end_within(
        &mut self,
        id: ServiceId,
        name: &str,
        definition: &Definition,
    ) -> Result<Ends, SpawnError> {
        self.open_log(id, name, definition, None)?;
        let Some(log) = Self::slot(&mut self.logs, id).as_mut() else {
            let nothing = sys::empty_input().map_err(|error| sys::failed("/dev/null", &error));
            return nothing.map(|stdout| Ends {
                stdout,
                stderr: None,
            });
        };
        let end = |which: Which, pipe: &LogPipe| {
            let end = self.log_dir.child_end(name, which, pipe);
            end.map_err(|fault| no_log_pipe(&fault))
        };
        let stderr = log.stderr.as_ref().filter(|_| log.rules().is_apart());
        Ok(Ends {
            stdout: end(Which::Main, &log.pipe)?,
            stderr: stderr.map(|pipe| end(Which::Stderr, pipe)).transpose()?,
        })
    }

    /// What becomes of a service's output.
    pub(super) fn log_rules(&self, definition: &Definition) -> Log {
        match &definition.log {
            Some(log) => log.over(&self.log_defaults),
            None => self.log_defaults.clone(),
        }
    }

    /// Pipes are opened once and kept across runs.
    pub fn open_log(
        &mut self,
        id: ServiceId,
        name: &str,
        definition: &Definition,
        living: Option<Pid>,
    ) -> Result<(), SpawnError> {
        let rules = self.log_rules(definition);
        if Self::slot(&mut self.logs, id).is_none() {
            let pipe = self.open_pipe(Which::Main, name, definition, living)?;
            let token = self.watch_pipe(id, &pipe)?;
            let mut log = ServiceLog::new(pipe, rules.clone());
            log.tokens.push(token);
            if self.front.is_followed(id, name) {
                self.follows.insert(id, log.ring.tail(0));
            }
            *Self::slot(&mut self.logs, id) = Some(Box::new(log));
        }
        let second = rules.is_apart() || rules.logger.is_some() || self.log_dir.has_stderr(name);
        let has = self.logs.get(id.index()).and_then(Option::as_ref);
        if second && has.is_some_and(|log| log.stderr.is_none()) {
            let pipe = self.open_pipe(Which::Stderr, name, definition, living)?;
            let token = self.watch_pipe(id, &pipe)?;
            if let Some(log) = Self::slot(&mut self.logs, id) {
                log.stderr = Some(pipe);
                log.tokens.push(token);
            }
        }
        if let Some(log) = Self::slot(&mut self.logs, id) {
            log.set_rules(rules);
        }
        self.mind_logger(id);
        // What was written while nobody read.
        self.drain_log(id);
        Ok(())
    }

    fn open_pipe(
        &self,
        which: Which,
        name: &str,
        definition: &Definition,
        living: Option<Pid>,
    ) -> Result<LogPipe, SpawnError> {
        let removed = living.and_then(|pid| self.log_dir.reopen_removed(name, which, pid.0));
        if let Some(pipe) = removed {
            return Ok(pipe);
        }
        let process = &definition.process;
        let who = self.spawner.accounts().resolve(
            process.user.as_deref(),
            process.group.as_deref(),
            process.groups.as_deref(),
        )?;
        let opened = self.log_dir.open(name, which, who.uid, who.gid);
        opened.map_err(|fault| no_log_pipe(&fault))
    }

    fn watch_pipe(&mut self, id: ServiceId, pipe: &LogPipe) -> Result<Token, SpawnError> {
        let token = self.sources.insert(Source::Log(id));
        let fd = pipe.as_raw_fd();
        let registry = self.poll.registry();
        match registry.register(&mut SourceFd(&fd), token, Interest::READABLE) {
            Ok(()) => Ok(token),
            Err(error) => {
                self.sources.remove(token);
                Err(sys::failed("epoll", &error))
            }
        }
    }

    /// The pipes that an execution of this process before us had open are opened by their names
    /// before its ends close: what is in a FIFO that nobody has open is lost.
    pub(super) fn take_in_log_pipes(&mut self) {
        for name in std::mem::take(&mut self.before.logs) {
            let known = self.engine.find(&name);
            let definition = known.and_then(|id| self.engine.definition(id).cloned());
            if let (Some(id), Some(definition)) = (known, definition)
                && let Err(error) = self.open_log(id, &name, &definition, None)
            {
                log::warn!("{name}: cannot read its output: {}", error.step);
            }
        }
    }

    /// Definitions may say something else now.
    pub(super) fn mind_log_rules(&mut self) {
        for index in 0..self.logs.len() {
            let id = ServiceId(index as u32);
            if self.logs.get(index).is_none_or(Option::is_none) {
                continue;
            }
            let name = self.name(id).to_owned();
            if let Some(definition) = self.engine.definition(id).cloned()
                && let Err(error) = self.open_log(id, &name, &definition, None)
            {
                log::warn!("{name}: cannot read its output: {}", error.step);
            }
        }
    }

    /// Its pipe has something, or was left with something: it is drained when its turn comes.
    pub(super) fn log_waits(&mut self, id: ServiceId) {
        if let Some(Some(log)) = self.logs.get_mut(id.index())
            && !std::mem::replace(&mut log.queued, true)
        {
            self.talkative.push_back(id);
        }
    }

    /// One turn's share of a service's output, to its ring, the scribe and those who follow.
    pub(super) fn drain_log(&mut self, id: ServiceId) {
        let Some(log) = self.logs.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        if self.log_scratch.is_empty() {
            self.log_scratch = vec![0; LOG_SHARE].into_boxed_slice();
        }
        let times = (self.now, self.clock.wall_ms());
        let name = self.engine.name(id);
        let drained = log.drain(name, times, &mut self.log_scratch, &mut self.scribe);
        if let (Some(due), Some(token)) = (log.due(), log.tokens.first()) {
            self.wheel.set(timer_key(*token), due);
        }
        match drained {
            Ok(Drained::Empty) => {}
            Ok(Drained::More) => self.log_waits(id),
            Err(errno) => log::error!("{}: cannot read its log pipe: {errno}", self.name(id)),
        }
        self.feed_followers(id);
    }

    /// What was dropped is to be said.
    pub(super) fn log_due(&mut self, id: ServiceId) {
        let Some(log) = self.logs.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        let times = (self.now, self.clock.wall_ms());
        log.on_time(self.engine.name(id), times, &mut self.scribe);
        if let (Some(due), Some(token)) = (log.due(), log.tokens.first()) {
            self.wheel.set(timer_key(*token), due);
        }
        self.feed_followers(id);
    }

    /// The service is gone for good.
    pub(super) fn forget_log(&mut self, id: ServiceId) {
        let Some(log) = self.logs.get_mut(id.index()).and_then(Option::take) else {
            return;
        };
        for fd in log.descriptors() {
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
        for token in &log.tokens {
            self.wheel.cancel(timer_key(*token));
            self.sources.remove(*token);
        }
        self.follows.remove(&id);
        self.log_dir.remove(self.engine.name(id));
        // It reads what is left, then the end of its input.
        drop(log);
        self.end_logger(id);
    }
}

/// What `status` tells of output beside what the engine knows.
pub(super) struct LogsSeen<'a>(
    pub &'a [Option<Box<ServiceLog>>],
    pub &'a BTreeMap<ServiceId, loggers::Logger>,
);

impl LogsSeen<'_> {
    /// None: nothing of note.
    pub fn status(&self, id: ServiceId) -> Option<LogStatus> {
        let log = self.0.get(id.index())?.as_ref()?;
        let logger = self.1.get(&id);
        let status = LogStatus {
            dropped_lines: log.dropped_by_rate(),
            logger: logger.map(loggers::Logger::words),
            logger_pid: logger.and_then(loggers::Logger::pid),
        };
        (status != LogStatus::default()).then_some(status)
    }

    /// What the last run that ended said at its end.
    pub fn last_words(&self, id: ServiceId) -> Vec<String> {
        let log = self.0.get(id.index()).and_then(Option::as_ref);
        log.map_or(Vec::new(), |log| log.last_words(limits::LAST_WORDS))
    }
}

/// The runtime directory is full, read-only or gone: whatever the cause, not the service's doing.
fn no_log_pipe(fault: &Fault) -> SpawnError {
    SpawnError {
        step: fault.doing.clone(),
        errno: fault.errno,
        ours: true,
    }
}
