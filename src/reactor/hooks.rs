//! The processes of commands around a run (`pre_start`, `stop_exec`, `post_stop`, `reload_exec`, a
//! rung's repair).
//!
//! Which, when and how long is the engine's. A command is made like the program: its identity,
//! environment, limits and log, VITALD_RUN, a session of its own; and VITALD_HOOK, by which a
//! daemon that returns tells it from the program. It outlives the daemon.
//!
//! Invariant: of a service there is one command at a time, watched by its pidfd.

use super::*;
use crate::engine::{HookEnd, SpawnError};
use crate::reactor::child::Ended;
use crate::reactor::procfs;
use crate::reactor::spawn::SpawnPlan;
use crate::service::hook::{Hook, Purpose};
use crate::service::state::Cause;

/// A command that a daemon before this one had under way.
pub struct LeftHook {
    pub name: Box<str>,
    pub number: u32,
    pub hook: Hook,
    /// Its number was in the journal.
    pub known: bool,
    /// It lives, or waits to be reaped.
    pub process: Option<(Pid, u64, OwnedFd)>,
}

/// The command that runs.
pub(super) struct HookProcess {
    run: RunId,
    hook: Hook,
    pub pid: Pid,
    started: u64,
    pidfd: OwnedFd,
    token: Token,
    setup: Option<OwnedFd>,
    /// Ours by birth: its orphans come to us.
    own: bool,
    /// Lines its service had written before it.
    said_before: u64,
}

impl Reactor {
    pub(super) fn run_hook(
        &mut self,
        run: RunId,
        hook: Hook,
        definition: &Definition,
        main: Option<Pid>,
        end: Option<(Cause, Exit)>,
    ) {
        if let Err(error) = self.try_hook(run, hook, definition, main, end) {
            self.hook_not_run(run, hook, Some(error));
        }
    }

    fn hook_not_run(&mut self, run: RunId, hook: Hook, error: Option<SpawnError>) {
        let end = HookEnd {
            exit: Exit::Unknown,
            error,
            tree_gone: true,
            output: "".into(),
        };
        self.caused.push_back(Event::HookEnded { run, hook, end });
    }

    fn try_hook(
        &mut self,
        run: RunId,
        hook: Hook,
        definition: &Definition,
        main: Option<Pid>,
        end: Option<(Cause, Exit)>,
    ) -> Result<(), SpawnError> {
        let id = run.service;
        let name = self.name(id).to_owned();
        let Some(exec) = hook.argv(definition) else {
            // A reload took it away meanwhile: it is done.
            let end = HookEnd {
                exit: Exit::Code(0),
                error: None,
                tree_gone: true,
                output: "".into(),
            };
            self.caused.push_back(Event::HookEnded { run, hook, end });
            return Ok(());
        };
        let output = match hook.purpose {
            Purpose::PreStart => {
                self.make_directories(run.service, &definition.process)?;
                self.log_end(id, &name, definition)?
            }
            _ => self.log_end_within(id, &name, definition)?,
        };
        let words = words(hook, main, end);
        let env: Vec<(&str, &str)> = words.iter().map(|(key, word)| (*key, &**word)).collect();
        let room = match hook.purpose {
            Purpose::PreStart => self.room(run, &name, definition)?,
            _ => self.room_beside(run, &name, definition)?,
        };
        let spawned = self.spawner.spawn(&SpawnPlan {
            service: &name,
            run: Some(run.number),
            outlives: true,
            exec,
            process: &definition.process,
            stdin: None,
            stdout: output.stdout(),
            stderr: output.stderr(),
            fds: &[],
            fd_at: None,
            env: &env,
            pid_env: &[],
            room: room.as_ref(),
        })?;
        let token = self.sources.insert(Source::Hook(id));
        if let Err(error) = self.register(&spawned.pidfd, token) {
            // Never a process that nobody watches.
            let _ = sys::pidfd_send_signal(spawned.pidfd.as_fd(), Signal::KILL);
            self.sources.remove(token);
            return Err(sys::failed("epoll", &error));
        }
        let (pid, started) = (spawned.pid, spawned.started);
        self.children.insert(pid, Child::Service);
        let process = HookProcess {
            run,
            hook,
            pid,
            started,
            pidfd: spawned.pidfd,
            token,
            setup: Some(spawned.exec_pipe),
            own: true,
            said_before: self.lines_said(id),
        };
        self.hooks.insert(id, process);
        self.caused.push_back(Event::HookSpawned {
            run,
            hook,
            pid,
            started,
        });
        Ok(())
    }

    /// What became of a command that a daemon before us had under way.
    pub(super) fn take_up_hook(&mut self, left: LeftHook) {
        let LeftHook {
            name,
            number,
            hook,
            known,
            process,
        } = left;
        let Some(id) = self.engine.find(&name) else {
            return;
        };
        let run = RunId {
            service: id,
            number,
        };
        let Some((pid, started, pidfd)) = process else {
            // Never made: it is our doing. Else how it ended is not known.
            let lost = SpawnError {
                step: "the daemon ended".into(),
                errno: 0,
                ours: true,
            };
            return self.hook_not_run(run, hook, (!known).then_some(lost));
        };
        let token = self.sources.insert(Source::Hook(id));
        if let Err(error) = self.register(&pidfd, token) {
            log::error!("{name}: cannot watch {hook} (process {pid}) again: {error}");
        }
        let own =
            procfs::proc_stat(pid).is_ok_and(|stat| stat.parent.0 as u32 == std::process::id());
        if own {
            self.children.insert(pid, Child::Service);
        }
        log::info!("{name}: {hook} (process {pid}) is under way still");
        let definition = self.engine.definition(id).cloned();
        if let Some(definition) = definition
            && let Err(error) = self.open_log(id, &name, &definition, Some(pid))
        {
            log::warn!("{name}: cannot read its output: {}", error.step);
        }
        let process = HookProcess {
            run,
            hook,
            pid,
            started,
            pidfd,
            token,
            setup: None,
            own,
            said_before: 0,
        };
        self.hooks.insert(id, process);
        self.find_place(run, &name, pid);
        if !known {
            self.caused.push_back(Event::HookSpawned {
                run,
                hook,
                pid,
                started,
            });
        }
        // It may have ended before it was watched.
        self.hook_ready(id);
    }

    pub(super) fn hook_ready(&mut self, id: ServiceId) {
        let Some(process) = self.hooks.get(&id) else {
            return;
        };
        match child::reap(process.pidfd.as_fd()) {
            Ended::No => {}
            Ended::Yes(exit) => self.hook_process_ended(id, exit),
            Ended::Unreaped => {
                let due = self.now + UNREAPED_PAUSE;
                self.wheel.set(timer_key(process.token), due);
            }
        }
    }

    /// Its parent does not reap it: it is dead all the same, how is not known.
    pub(super) fn unreaped_hook_due(&mut self, id: ServiceId) {
        if self.hooks.get(&id).is_some_and(|process| !process.own) {
            self.hook_process_ended(id, Exit::Unknown);
        }
    }

    fn hook_process_ended(&mut self, id: ServiceId, exit: Exit) {
        let Some(process) = self.hooks.remove(&id) else {
            return;
        };
        self.wheel.cancel(timer_key(process.token));
        self.deregister(&process.pidfd);
        self.sources.remove(process.token);
        self.children.remove(&process.pid);
        let alone = self.processes.get(id.index()).is_none_or(Option::is_none);
        self.drain_for_hook(id, alone);
        let error = process.setup.as_ref().and_then(Self::setup_error);
        let output = match (&error, exit) {
            (Some(_), _) | (None, Exit::Code(0)) => "".into(),
            (None, _) => self.last_said(id, process.said_before),
        };
        self.reap_orphans();
        let tree_gone = match self.leaves.of(process.run) {
            // Whose the others are is asked when the program has ended.
            Some(placed) => !alone || placed.leaf.is_empty_but(&[]),
            None => {
                let newest = self.newest_stranger();
                let childless = newest.is_none_or(|newest| newest < process.started);
                process.own && childless && child::group_is_empty(process.pid)
            }
        };
        self.tell_oom(process.run);
        let end = HookEnd {
            exit,
            error,
            tree_gone,
            output,
        };
        let (run, hook) = (process.run, process.hook);
        self.caused.push_back(Event::HookEnded { run, hook, end });
    }

    pub(super) fn signal_hook(&mut self, run: RunId, hook: Hook, signal: Signal) {
        let process = self.hooks.get(&run.service);
        let Some(process) = process.filter(|p| p.run == run && p.hook == hook) else {
            return;
        };
        if let Err(error) = child::signal(process.pidfd.as_fd(), process.pid, signal, true) {
            let name = self.name(run.service);
            log::debug!("{name}: {signal} to {hook}: {error}");
        }
    }

    // --- what it says

    pub(super) fn lines_said(&self, id: ServiceId) -> u64 {
        let log = self.logs.get(id.index()).and_then(Option::as_ref);
        log.map_or(0, |log| log.ring.dropped().0 + log.ring.lines())
    }

    /// All it wrote, as far as a pipe holds it.
    fn drain_for_hook(&mut self, id: ServiceId, alone: bool) {
        for _ in 0..4 {
            let Some(Some(log)) = self.logs.get_mut(id.index()) else {
                return;
            };
            if alone {
                log.run_ended();
            }
            self.drain_log(id);
            let log = self.logs.get(id.index()).and_then(Option::as_ref);
            if log.is_none_or(|log| !log.queued) {
                return;
            }
        }
    }

    fn last_said(&self, id: ServiceId, before: u64) -> Box<str> {
        let Some(Some(log)) = self.logs.get(id.index()) else {
            return "".into();
        };
        let lines = self.lines_said(id).saturating_sub(before);
        let mut cursor = log.ring.tail(lines.min(limits::PROBE_OUTPUT_LINES as u64));
        let mut tail = crate::probe::exec::Tail::default();
        log.ring.read(&mut cursor, &mut |line| {
            line.parts.iter().for_each(|part| tail.push(part));
            tail.push(b"\n");
            true
        });
        tail.output()
    }
}

/// What the command is told beside what the program is told.
fn words(
    hook: Hook,
    main: Option<Pid>,
    end: Option<(Cause, Exit)>,
) -> Vec<(&'static str, Box<str>)> {
    let mut words: Vec<(&str, Box<str>)> = vec![("VITALD_HOOK", hook.to_string().into())];
    if let Some(pid) = main {
        words.push(("MAINPID", pid.to_string().into()));
    }
    if let Some((cause, exit)) = end {
        words.push(("VITALD_CAUSE", cause.word().into()));
        match exit {
            Exit::Code(code) => words.push(("VITALD_EXIT_CODE", code.to_string().into())),
            Exit::Signal(signal) => words.push(("VITALD_EXIT_SIGNAL", signal.to_string().into())),
            Exit::Unknown => {}
        }
    }
    words
}
