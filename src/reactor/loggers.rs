//! Services' loggers (`logger`): programs that read a service's log pipe instead of us.
//!
//! Like the scribe a part of the data plane, so not the engine's: no service's state depends on
//! one. It gets the FIFO as stdin and outlives the daemon; the next one finds it by the note
//! `R/log/NAME.logger`, or, died the daemon between the clone and the note, by its stdin. While
//! there is none what the service writes waits in the FIFO, which we keep open. What a logger
//! itself says goes where the service's stderr is read apart.
//!
//! It is started again when it ends, after a while that doubles with every end in a row. It is
//! ended by the end of its input where nobody writes any more, else by SIGTERM; then by SIGKILL.
//!
//! Invariants: of a service there is one at a time, the next is not started before the end of the
//! one before; nothing here waits for one but [`Reactor::end_loggers`], after the loop's end and
//! for a bounded time.

use super::*;
use crate::engine::SpawnError;
use crate::reactor::child::Ended;
use crate::reactor::logs::Which;
use crate::reactor::procfs;
use crate::reactor::spawn::{ExecReport, SpawnPlan, exec_report};
use std::fs;
use std::time::Instant;

/// Program and arguments.
type Argv = Box<[Box<str>]>;

pub(super) struct Logger {
    argv: Argv,
    /// Of its pidfd, and of its timer.
    token: Token,
    process: Option<LoggerProcess>,
    ending: Option<Ending>,
    /// Ends in a row, and the last one's words.
    ends: u32,
    error: Box<str>,
}

struct LoggerProcess {
    pid: Pid,
    pidfd: OwnedFd,
    /// How its set-up went is told here.
    setup: Option<OwnedFd>,
    since: Time,
    own: bool,
    /// It ended, and its own parent does not reap it.
    unreaped: bool,
}

/// How far its end is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Its input ends.
    Input,
    Term,
    Kill,
}

impl Reactor {
    /// Makes it so that the service has the logger that its rules name, or none.
    pub(super) fn mind_logger(&mut self, id: ServiceId) {
        let log = self.logs.get(id.index()).and_then(Option::as_ref);
        let wanted = log.and_then(|log| log.rules().logger.clone());
        match (self.loggers.get(&id), wanted) {
            (None, None) => self.read_again(id),
            (None, Some(argv)) => {
                let token = self.sources.insert(Source::Logger(id));
                if let Some(Some(log)) = self.logs.get_mut(id.index()) {
                    log.logger_reads = true;
                    let fd = log.pipe.as_raw_fd();
                    let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
                }
                let logger = Logger {
                    argv,
                    token,
                    process: None,
                    ending: None,
                    ends: 0,
                    error: "".into(),
                };
                self.loggers.insert(id, logger);
                self.begin_logger(id);
            }
            (Some(logger), Some(argv)) if logger.argv == argv && logger.ending.is_none() => {}
            (Some(logger), _) if logger.process.is_some() => {
                if matches!(logger.ending, None | Some(Ending::Input)) {
                    self.logger_stage(id, Ending::Term);
                }
            }
            (Some(_), _) => {
                self.drop_logger(id);
                self.mind_logger(id);
            }
        }
    }

    /// Nobody else reads the pipe any more.
    fn read_again(&mut self, id: ServiceId) {
        if let Some(Some(log)) = self.logs.get_mut(id.index())
            && std::mem::take(&mut log.logger_reads)
        {
            let fd = log.pipe.as_raw_fd();
            let token = log.tokens.first().copied();
            let registry = self.poll.registry();
            let watched =
                token.map(|token| registry.register(&mut SourceFd(&fd), token, Interest::READABLE));
            if let Some(Err(error)) = watched {
                log::error!("{}: cannot watch its log pipe: {error}", self.name(id));
            }
            self.log_waits(id);
        }
    }

    /// One that lives, else a new one.
    fn begin_logger(&mut self, id: ServiceId) {
        let name = self.name(id).to_owned();
        if let Some((pid, argv, pidfd)) = self.find_logger(&name) {
            log::info!("{name}: its logger (process {pid}) is there still");
            let own = sys::is_child(pidfd.as_fd());
            if let Some(logger) = self.loggers.get_mut(&id) {
                logger.argv = argv;
            }
            self.watch_logger(id, pid, pidfd, None, own);
            // It may be another than the one that is wanted now.
            self.mind_logger(id);
            return;
        }
        if let Err(error) = self.try_logger(id, &name) {
            let words = format!("{} ({})", error.step, error.errno);
            self.logger_failed(id, words.into());
        }
    }

    /// The process in the note, if it is that still, and the command it was made by.
    fn find_logger(&self, name: &str) -> Option<(Pid, Argv, OwnedFd)> {
        let note = fs::read_to_string(self.log_dir.logger_note(name)).ok()?;
        let (numbers, argv) = note.split_once('\n')?;
        let (pid, started) = numbers.split_once(' ')?;
        let (pid, started) = (Pid(pid.parse().ok()?), started.parse().ok()?);
        let argv: Vec<Box<str>> = argv.split('\0').map(Into::into).collect();
        let in_place = self.life.began.is_some();
        if pid.0 > 0 {
            return Some((pid, argv.into(), child::adopt(pid, started, in_place)?));
        }
        // It was about to be made.
        let stdin = self.log_dir.fifo(name, Which::Main);
        let mut all = procfs::processes().ok()?.into_iter();
        let pid = all.find(|pid| {
            let stdin_of = fs::read_link(format!("/proc/{pid}/fd/0"));
            stdin_of.is_ok_and(|path| path == stdin)
                && procfs::proc_stat(*pid).is_ok_and(|stat| stat.session == *pid)
        })?;
        let started = procfs::start_time(pid)?;
        Some((pid, argv.into(), child::adopt(pid, started, in_place)?))
    }

    fn try_logger(&mut self, id: ServiceId, name: &str) -> Result<(), SpawnError> {
        let gone = || SpawnError {
            step: "the service is gone".into(),
            errno: libc::ENOENT,
            ours: true,
        };
        let definition = self.engine.definition(id).cloned().ok_or_else(gone)?;
        let log = self.logs.get(id.index()).and_then(Option::as_ref);
        let (log, logger) = log.zip(self.loggers.get(&id)).ok_or_else(gone)?;
        let fault = |fault: crate::journal::Fault| SpawnError {
            step: fault.doing.clone(),
            errno: fault.errno,
            ours: true,
        };
        let input = self.log_dir.logger_end(name, &log.pipe).map_err(fault)?;
        let (which, pipe) = match &log.stderr {
            Some(pipe) => (Which::Stderr, pipe),
            None => return Err(gone()),
        };
        let output = self.log_dir.child_end(name, which, pipe).map_err(fault)?;
        let argv = logger.argv.clone();
        self.note_logger(name, Pid(0), 0, &argv);
        let spawned = self.spawner.spawn(&SpawnPlan {
            service: name,
            run: None,
            outlives: true,
            exec: &argv,
            process: &definition.process,
            stdin: Some(input.as_fd()),
            stdout: output.as_fd(),
            stderr: output.as_fd(),
            fds: &[],
            fd_at: None,
            env: &[("VITALD_LOGGER", name)],
            pid_env: &[],
            room: None,
        })?;
        self.note_logger(name, spawned.pid, spawned.started, &argv);
        let setup = Some(spawned.exec_pipe);
        self.watch_logger(id, spawned.pid, spawned.pidfd, setup, true);
        Ok(())
    }

    /// Where it cannot be written, a daemon after us starts a second one; so nothing more is done.
    fn note_logger(&self, name: &str, pid: Pid, started: u64, argv: &[Box<str>]) {
        let path = self.log_dir.logger_note(name);
        let text = format!("{pid} {started}\n{}", argv.join("\0"));
        if let Err(error) = fs::write(&path, text) {
            log::warn!("cannot write {}: {error}", path.display());
        }
    }

    fn watch_logger(
        &mut self,
        id: ServiceId,
        pid: Pid,
        pidfd: OwnedFd,
        setup: Option<OwnedFd>,
        own: bool,
    ) {
        let Some(logger) = self.loggers.get(&id) else {
            return;
        };
        let token = logger.token;
        if let Err(error) = self.register(&pidfd, token) {
            log::error!("{}: cannot watch its logger: {error}", self.name(id));
        }
        if own {
            self.children.insert(pid, Child::Job);
        }
        let process = LoggerProcess {
            pid,
            pidfd,
            setup,
            since: self.now,
            own,
            unreaped: false,
        };
        if let Some(logger) = self.loggers.get_mut(&id) {
            logger.process = Some(process);
        }
        // It may have ended before it was watched.
        self.logger_ready(id);
    }

    pub(super) fn logger_ready(&mut self, id: ServiceId) {
        let Some(logger) = self.loggers.get_mut(&id) else {
            return;
        };
        let token = logger.token;
        let Some(process) = &mut logger.process else {
            return;
        };
        match child::reap(process.pidfd.as_fd()) {
            Ended::No => {}
            Ended::Yes(exit) => self.logger_ended(id, exit),
            Ended::Unreaped => {
                process.unreaped = true;
                self.wheel.set(timer_key(token), self.now + UNREAPED_PAUSE);
            }
        }
    }

    fn logger_ended(&mut self, id: ServiceId, exit: Exit) {
        let Some(logger) = self.loggers.get_mut(&id) else {
            return;
        };
        let (token, ending) = (logger.token, logger.ending);
        let Some(process) = logger.process.take() else {
            return;
        };
        self.wheel.cancel(timer_key(token));
        self.deregister(&process.pidfd);
        self.children.remove(&process.pid);
        self.orphans_due = true;
        // Its last words.
        self.drain_log(id);
        let _ = fs::remove_file(self.log_dir.logger_note(self.name(id)));
        if ending.is_some() {
            self.drop_logger(id);
            return self.mind_logger(id);
        }
        let lived = self.now.since(process.since);
        let report = process.setup.as_ref().map(|pipe| exec_report(pipe.as_fd()));
        let words = match report {
            Some(ExecReport::Failed(error)) => {
                let why = io::Error::from_raw_os_error(error.errno);
                format!("{}: {why}", error.step)
            }
            _ => exit.to_string(),
        };
        if lived >= limits::LOGGER_STABLE
            && let Some(logger) = self.loggers.get_mut(&id)
        {
            logger.ends = 0;
        }
        self.logger_failed(id, words.into());
    }

    fn logger_failed(&mut self, id: ServiceId, words: Box<str>) {
        let Some(logger) = self.loggers.get_mut(&id) else {
            return;
        };
        let doubled = limits::LOGGER_PAUSE * (1 << logger.ends.min(16));
        let pause = doubled.min(limits::LOGGER_PAUSE_MAX);
        logger.ends = logger.ends.saturating_add(1);
        logger.error = words;
        let (token, error) = (logger.token, logger.error.clone());
        self.wheel.set(timer_key(token), self.now + pause);
        log::warn!(
            "{}: its logger ended ({error}); started again in {}, until then its output waits",
            self.name(id),
            crate::time::spoken(pause)
        );
    }

    fn drop_logger(&mut self, id: ServiceId) {
        if let Some(logger) = self.loggers.remove(&id) {
            self.wheel.cancel(timer_key(logger.token));
            self.sources.remove(logger.token);
        }
    }

    /// The service is gone, and with it the pipe: the logger reads what is left, and ends.
    pub(super) fn end_logger(&mut self, id: ServiceId) {
        match self.loggers.get(&id).map(|logger| logger.process.is_some()) {
            Some(true) => self.logger_stage(id, Ending::Input),
            Some(false) => self.drop_logger(id),
            None => {}
        }
    }

    fn logger_stage(&mut self, id: ServiceId, stage: Ending) {
        let Some(logger) = self.loggers.get_mut(&id) else {
            return;
        };
        logger.ending = Some(stage);
        let token = logger.token;
        let Some(process) = &logger.process else {
            return;
        };
        process.end(stage);
        let due = self.now + limits::LOGGER_PATIENCE;
        match stage {
            Ending::Input | Ending::Term => self.wheel.set(timer_key(token), due),
            Ending::Kill => {
                self.wheel.cancel(timer_key(token));
            }
        }
    }

    pub(super) fn logger_due(&mut self, id: ServiceId) {
        let Some(logger) = self.loggers.get(&id) else {
            return;
        };
        match (&logger.process, logger.ending) {
            (Some(process), _) if process.unreaped && !process.own => {
                self.logger_ended(id, Exit::Unknown);
            }
            (None, None) => self.begin_logger(id),
            (_, Some(Ending::Input)) => self.logger_stage(id, Ending::Term),
            (_, Some(Ending::Term)) => self.logger_stage(id, Ending::Kill),
            (_, Some(Ending::Kill)) | (Some(_), None) => {}
        }
    }

    /// After the loop's end: those whose service runs on (`shutdown --keep`) stay, all others read
    /// what is left and end. Waits, for a bounded time.
    pub(super) fn end_loggers(&mut self) {
        let ids: Vec<ServiceId> = self.loggers.keys().copied().collect();
        let ending: Vec<ServiceId> = ids
            .into_iter()
            .filter(|id| self.processes.get(id.index()).is_none_or(Option::is_none))
            .collect();
        for id in &ending {
            if let Some(Some(log)) = self.logs.get_mut(id.index()) {
                log.close_main();
            }
        }
        for stage in [Ending::Input, Ending::Term, Ending::Kill] {
            let end = Instant::now() + limits::LOGGER_PATIENCE;
            for id in &ending {
                let living = self.loggers.get(id).and_then(|it| it.process.as_ref());
                if let Some(process) = living {
                    process.end(stage);
                }
            }
            for id in &ending {
                let Some(logger) = self.loggers.get_mut(id) else {
                    continue;
                };
                let left = end.saturating_duration_since(Instant::now());
                let ended = logger
                    .process
                    .as_ref()
                    .is_none_or(|process| child::wait_ended(&process.pidfd, left));
                if ended && let Some(process) = logger.process.take() {
                    let _ = child::reap(process.pidfd.as_fd());
                    let _ = fs::remove_file(self.log_dir.logger_note(self.engine.name(*id)));
                }
            }
        }
        for id in ending {
            self.drain_log(id);
            if self.loggers.get(&id).is_some_and(|it| it.process.is_some()) {
                log::warn!("{}: its logger does not end", self.name(id));
            }
        }
    }
}

impl Logger {
    pub fn pid(&self) -> Option<i32> {
        Some(self.process.as_ref()?.pid.0)
    }

    /// `s6-log t /var/log/web`, or why it does not run.
    pub fn words(&self) -> String {
        let command = self.argv.join(" ");
        match (&self.process, self.ends) {
            (Some(_), 0) => command,
            (Some(_), ends) => format!("{command} (ended {ends} times in a row)"),
            (None, ends) => format!(
                "{command}: it ended ({}), {ends} times in a row; started again soon, until then \
                 what the service writes waits in its pipe",
                self.error
            ),
        }
    }
}

impl LoggerProcess {
    fn end(&self, stage: Ending) {
        let signal = match stage {
            Ending::Input => return,
            Ending::Term => Signal::TERM,
            Ending::Kill => Signal::KILL,
        };
        for signal in [signal, Signal::CONT] {
            let _ = child::signal(self.pidfd.as_fd(), self.pid, signal, true);
        }
    }
}
