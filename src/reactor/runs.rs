//! The processes of runs: made, watched, signalled, reaped, taken up again.
//!
//! Invariants: a process is watched by its pidfd from the clone on and reaped by it only; the
//! pidfd is deregistered and closed right after; what of a run is left is asked once for all ends
//! of a turn, and only where something is left does a helper look closer.

use super::*;
use crate::config::{NotifyAccess, Ready};
use crate::engine::SpawnError;
use crate::reactor::child::Ended;
use crate::reactor::spawn::{ExecReport, SpawnPlan, exec_report};
use crate::reactor::tree::{RunMark, TreeJob};

/// Ends that are dealt with in one turn; the others are next. With each may come a start, of half a
/// millisecond, and clients wait for as many.
const ENDS_PER_TURN: usize = 8;

/// A process that lives on from a daemon before this one.
pub struct Adopted {
    pub name: Box<str>,
    pub number: u32,
    /// Its main process.
    pub pid: Pid,
    /// The process that was spawned: the number of the run's session.
    pub leader: Pid,
    pub pidfd: OwnedFd,
}

/// What a run is told of how to speak to us.
struct Told {
    socket: Option<String>,
    watchdog: Option<Duration>,
    fd: Option<u16>,
    fd_store_max: u16,
}

impl Told {
    fn of(definition: &Definition, socket: &std::path::Path) -> Told {
        let heard = definition.notify_access() != NotifyAccess::None;
        Told {
            socket: heard.then(|| socket.display().to_string()),
            watchdog: definition.watchdog(),
            fd: match definition.ready() {
                Ready::Fd(fd) => Some(fd),
                Ready::Probe | Ready::Notify => None,
            },
            fd_store_max: definition.fd_store_max(),
        }
    }

    /// Variables, and those whose value is the run's own process id (sd_notify(3),
    /// sd_watchdog_enabled(3), sd_listen_fds(3)).
    fn environment(&self, passed: &[&str]) -> (Vec<(&'static str, String)>, Vec<&'static str>) {
        let (mut env, mut pids) = (Vec::new(), Vec::new());
        env.extend(self.socket.clone().map(|path| ("NOTIFY_SOCKET", path)));
        if let Some(period) = self.watchdog {
            env.push(("WATCHDOG_USEC", period.as_micros().to_string()));
            pids.push("WATCHDOG_PID");
        }
        if self.fd_store_max > 0 {
            env.push(("FDSTORE", self.fd_store_max.to_string()));
        }
        if !passed.is_empty() {
            env.push(("LISTEN_FDS", passed.len().to_string()));
            env.push(("LISTEN_FDNAMES", passed.join(":")));
            pids.push("LISTEN_PID");
        }
        (env, pids)
    }
}

/// The main process of a run.
pub(super) struct Process {
    pub run: RunId,
    pub pid: Pid,
    /// The process that was spawned, where another is the main one now.
    pub leader: Pid,
    pidfd: OwnedFd,
    token: Token,
    exec: Option<(OwnedFd, Token)>,
    /// Ours by birth: its orphans come to us, and it is reaped by us.
    pub own: bool,
    /// Taken up again: the engine takes it for executed until it hears otherwise.
    pub adopted: bool,
    /// It ended without its exec pipe having been read: whichever comes first.
    spawn_error: Option<SpawnError>,
}

impl Process {
    /// The main process of a daemon that forked.
    pub(super) fn forked(
        run: RunId,
        pid: Pid,
        leader: Pid,
        pidfd: OwnedFd,
        token: Token,
    ) -> Process {
        Process {
            run,
            pid,
            leader,
            pidfd,
            token,
            exec: None,
            own: false,
            adopted: false,
            spawn_error: None,
        }
    }

    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Reactor {
    pub(super) fn spawn(&mut self, run: RunId, definition: &Definition) {
        let result = self.try_spawn(run, definition);
        if let Err(error) = result {
            let words = &error.step;
            log::debug!(
                "{}: cannot spawn: {words} ({})",
                self.name(run.service),
                error.errno
            );
            self.caused.push_back(Event::SpawnFailed { run, error });
        }
    }

    fn try_spawn(&mut self, run: RunId, definition: &Definition) -> Result<(), SpawnError> {
        let id = run.service;
        let name = self.name(id).to_owned();
        self.make_directories(run.service, &definition.process)?;
        let output = self.log_end(id, &name, definition)?;
        let fifo = self.open_voice(id, &name, definition)?;
        let room = self.room(run, &name, definition)?;
        let told = Told::of(definition, &self.voice_dir.socket(&name));
        let voice = self.voices.get(id.index()).and_then(Option::as_deref);
        let stored = voice.map_or(&[][..], |voice| &voice.stored);
        let sockets = self.sockets.get(id.index()).and_then(Option::as_deref);
        let sockets = sockets.map_or(Vec::new(), |sockets| sockets.of(definition));
        let stored = stored.iter().map(|kept| (&*kept.name, kept.fd.as_fd()));
        let (names, kept): (Vec<&str>, Vec<BorrowedFd>) = sockets.into_iter().chain(stored).unzip();
        let (env, pid_env) = told.environment(&names);
        let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let fd_at = fifo
            .as_ref()
            .zip(told.fd)
            .map(|(fifo, fd)| (fd.into(), fifo.as_fd()));
        let stale = definition.pid_file.as_deref();
        let plan = SpawnPlan {
            service: &name,
            run: Some(run.number),
            outlives: true,
            exec: &definition.exec,
            process: &definition.process,
            stdin: None,
            stdout: output.stdout(),
            stderr: output.stderr(),
            fds: &kept,
            fd_at,
            env: &env,
            pid_env: &pid_env,
            room: room.as_ref(),
        };
        let spawned = self.spawner.spawn_without(&plan, stale)?;
        let token = self.sources.insert(Source::Process(id));
        let exec_token = self.sources.insert(Source::Exec(id));
        let watched = self
            .register(&spawned.pidfd, token)
            .and_then(|()| self.register(&spawned.exec_pipe, exec_token));
        if let Err(error) = watched {
            // Never a process that nobody watches.
            let _ = sys::pidfd_send_signal(spawned.pidfd.as_fd(), Signal::KILL);
            self.sources.remove(token);
            self.sources.remove(exec_token);
            return Err(sys::failed("epoll", &error));
        }
        let (pid, started) = (spawned.pid, spawned.started);
        self.children.insert(pid, Child::Service);
        known::exec_began(pid.0, spawned.exec_pipe.as_raw_fd());
        let process = Process {
            run,
            pid,
            leader: pid,
            pidfd: spawned.pidfd,
            token,
            exec: Some((spawned.exec_pipe, exec_token)),
            own: true,
            adopted: false,
            spawn_error: None,
        };
        *Self::slot(&mut self.processes, id) = Some(Box::new(process));
        self.caused.push_back(Event::Spawned { run, pid, started });
        Ok(())
    }

    /// Watches a process that a daemon before us started.
    pub(super) fn adopt(&mut self, adopted: Adopted) {
        let Adopted {
            name,
            number,
            pid,
            leader,
            pidfd,
        } = adopted;
        let Some(id) = self.engine.find(&name) else {
            log::error!("{name}: its process {pid} lives, but the service is not known");
            return;
        };
        let run = RunId {
            service: id,
            number,
        };
        let token = self.sources.insert(Source::Process(id));
        if let Err(error) = self.register(&pidfd, token) {
            log::error!("{name}: cannot watch its process {pid} again: {error}");
        }
        // After a re-execution in place it is our own child still.
        let own = sys::is_child(pidfd.as_fd());
        let process = Process {
            run,
            pid,
            leader,
            pidfd,
            token,
            exec: self.exec_pipe_of(id, leader),
            own: own && pid == leader,
            adopted: true,
            spawn_error: None,
        };
        *Self::slot(&mut self.processes, id) = Some(Box::new(process));
        self.find_place(run, &name, pid);
        if own {
            self.children.insert(pid, Child::Service);
        }
        let definition = self.engine.definition(id).cloned();
        if let Some(definition) = definition
            && let Err(error) = self.open_log(id, &name, &definition, Some(pid))
        {
            log::warn!("{name}: cannot read its output: {}", error.step);
        }
        self.hear_living(id);
        self.have_sockets_back(id);
        // It may have ended before it was watched.
        self.exec_ready(id);
        self.process_ready(id);
    }

    /// Of a child that an execution before us made and that had not told of its set-up.
    fn exec_pipe_of(&mut self, id: ServiceId, pid: Pid) -> Option<(OwnedFd, Token)> {
        let number = self.before.execs.remove(&pid.0)?;
        let pipe = reexec::claim(number)?;
        let token = self.sources.insert(Source::Exec(id));
        if let Err(error) = self.register(&pipe, token) {
            log::warn!("{}: not heard of its set-up: {error}", self.name(id));
            self.sources.remove(token);
            return None;
        }
        known::exec_began(pid.0, number);
        Some((pipe, token))
    }

    /// Another process of the run is its main one from now on.
    pub(super) fn replace_main(&mut self, id: ServiceId, pid: Pid, pidfd: OwnedFd, token: Token) {
        let Some(process) = self.processes.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        let old = (process.pid, process.token);
        let old_fd = std::mem::replace(&mut process.pidfd, pidfd);
        (process.pid, process.token, process.own) = (pid, token, false);
        self.wheel.cancel(timer_key(old.1));
        self.deregister(&old_fd);
        self.sources.remove(old.1);
        // One of many from now on, reaped as an orphan is.
        self.children.remove(&old.0);
        self.orphans_due = true;
    }

    pub(super) fn process(&self, id: ServiceId) -> Option<&Process> {
        self.processes.get(id.index())?.as_deref()
    }

    pub(super) fn exec_ready(&mut self, id: ServiceId) {
        let Some(process) = self.processes.get_mut(id.index()).and_then(Option::as_mut) else {
            return;
        };
        let Some((pipe, token)) = &process.exec else {
            return;
        };
        let (run, token) = (process.run, *token);
        let report = exec_report(pipe.as_fd());
        match report {
            ExecReport::Pending => return,
            ExecReport::Executed if process.adopted => {}
            ExecReport::Executed => self.caused.push_back(Event::Executed { run }),
            // Told when the child is reaped: it ends by itself now.
            ExecReport::Failed(error) => process.spawn_error = Some(error),
        }
        known::exec_ended(process.pid.0);
        process.exec = None;
        self.sources.remove(token);
    }

    /// The share of one turn; at the end of the day nobody waits for the others.
    pub(super) fn serve_gone(&mut self) {
        let all = self.engine.is_shutting_down();
        let share = if all { self.gone.len() } else { ENDS_PER_TURN };
        for _ in 0..share {
            let Some(id) = self.gone.pop_front() else {
                break;
            };
            self.process_ready(id);
        }
    }

    pub(super) fn process_ready(&mut self, id: ServiceId) {
        let Some(process) = self.process(id) else {
            return;
        };
        let pid = process.pid;
        if sys::has_ended(process.pidfd.as_fd()) {
            // Its last words: that another process is the main one, perhaps.
            self.hear(id);
        }
        let Some(process) = self.process(id).filter(|process| process.pid == pid) else {
            return;
        };
        match child::reap(process.pidfd.as_fd()) {
            Ended::No => {}
            Ended::Yes(exit) => self.process_ended(id, exit),
            Ended::Unreaped => {
                let due = self.now + UNREAPED_PAUSE;
                self.wheel.set(timer_key(process.token), due);
            }
        }
    }

    /// Its parent does not reap it: it is dead all the same, how is not known.
    pub(super) fn unreaped_due(&mut self, id: ServiceId) {
        if self.process(id).is_some_and(|process| !process.own) {
            self.process_ended(id, Exit::Unknown);
        }
    }

    fn process_ended(&mut self, id: ServiceId, exit: Exit) {
        // The child's last word before its end.
        self.exec_ready(id);
        self.tell_dropped(id);
        let Some(process) = self.processes.get_mut(id.index()).and_then(Option::take) else {
            return;
        };
        self.wheel.cancel(timer_key(process.token));
        self.deregister(&process.pidfd);
        self.sources.remove(process.token);
        if let Some((_, token)) = process.exec {
            known::exec_ended(process.pid.0);
            self.sources.remove(token);
        }
        self.children.remove(&process.pid);
        if let Some(log) = self.logs.get_mut(id.index()).and_then(Option::as_mut) {
            log.run_ended();
            self.drain_log(id);
        }
        let run = process.run;
        match process.spawn_error {
            Some(error) => self.caused.push_back(Event::SpawnFailed { run, error }),
            None => self.ended.push((run, process.pid, exit, process.own)),
        }
    }

    /// Tells the engine who ended in this turn, and whether anything was left behind.
    pub(super) fn tell_ends(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let ended = std::mem::take(&mut self.ended);
        // One look at our children for all of them; orphans that are zombies do not count.
        self.reap_orphans();
        let unplaced = |(run, _, _, _): &(RunId, Pid, Exit, bool)| self.leaves.of(*run).is_none();
        let newest = match ended.iter().any(unplaced) {
            true => self.newest_stranger(),
            false => None,
        };
        for (run, pid, exit, own) in ended {
            let tree_gone = match self.leaves.of(run) {
                Some(placed) => {
                    let command = self.hooks.get(&run.service).map(|hook| hook.pid);
                    placed.leaf.is_empty_but(command.as_slice())
                }
                None => {
                    // Who was there before the run began is no offspring of its.
                    let begun = self.engine.started(run).unwrap_or(0);
                    let childless = newest.is_none_or(|newest| newest < begun);
                    own && childless && child::group_is_empty(pid)
                }
            };
            self.tell_oom(run);
            self.handle(Event::Exited {
                run,
                exit,
                tree_gone,
            });
        }
    }

    /// When the youngest of those began that came to us as orphans of services.
    pub(super) fn newest_stranger(&mut self) -> Option<u64> {
        let scribe = self.scribe.pid();
        let strangers = child::strangers(&mut self.kin, &mut |pid| {
            self.children.contains_key(&pid) || scribe == Some(pid.0)
        });
        child::newest(&strangers)
    }

    pub(super) fn reap_orphans(&mut self) {
        let scribe = self.scribe.pid();
        let orphans = child::reap_orphans(&mut |pid| {
            self.children.contains_key(&pid) || scribe == Some(pid.0)
        });
        for (pid, exit) in &orphans.reaped {
            log::debug!("reaped orphan {pid}: {exit}");
        }
        // What hides behind a known one is looked for in the turn in which that one is reaped: its
        // pidfd fires, whoever it is of, so nothing is waited for meanwhile.
        self.orphans_due = orphans.again;
    }

    pub(super) fn signal(&mut self, run: RunId, signal: Signal, group: bool) {
        let Some(process) = self.process(run.service).filter(|p| p.run == run) else {
            return;
        };
        if signal == Signal::CONT
            && let Some(placed) = self.leaves.of(run)
        {
            placed.leaf.thaw();
        }
        if let Err(error) = child::signal(process.pidfd.as_fd(), process.pid, signal, group) {
            let name = self.name(run.service);
            log::debug!("{name}: {signal} to {}: {error}", process.pid);
        }
    }

    /// A helper ends what the run left behind.
    pub(super) fn end_tree(&mut self, run: RunId, pid: Pid, signal: Signal, grace: Duration) {
        let job = self.tree_job(run, pid, signal, grace);
        self.start_tree_job(run, job);
    }

    /// By what the run's processes are known.
    pub(super) fn tree_job(
        &self,
        run: RunId,
        pid: Pid,
        signal: Signal,
        grace: Duration,
    ) -> TreeJob {
        TreeJob {
            main: pid,
            started: self.engine.started(run).unwrap_or(0),
            also: self.engine.named_main(run),
            mark: RunMark {
                run: format!("{}/{}", self.name(run.service), run.number),
                socket: self.socket.clone(),
            },
            signal,
            grace,
            leaf: self.leaves.made(self.name(run.service)),
        }
    }
}
