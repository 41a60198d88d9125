//! `upgrade`: another binary takes this one's place in this process, without touching a service.
//!
//! First a child runs the new program, because a supervisor that has executed something else is no
//! supervisor any more: `PROGRAM version`, and then our own command line with `--rehearse`, by
//! which a vitald reads all that it would go on from and changes nothing ([`rehearsal`]). Then the
//! scribe writes what it has, and the process executes the program with what it must not lose
//! ([`reexec`]): locks, sockets, pipes, conversations, and the program that runs now, should the
//! new one fail after all. The client is answered by whoever runs in the end.
//!
//! Invariant: as long as execve(2) has not succeeded the loop goes on as before.

use super::*;
use crate::control::rpc::code;
use crate::engine::Refusal;
use crate::reactor::jobs::Work;
use crate::reactor::program::Program as Executed;
use crate::reactor::reexec::{Cause, Executable, Handover};
use crate::reactor::rehearsal::{self, Rehearsal};
use std::io::{Read, Write};
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command as Program, ExitStatus, Stdio};

/// What a program may say to `version`.
const VERSION_BYTES: usize = 256;
/// How long each of its answers may take.
const TRIAL_SECONDS: u32 = 10;
/// How long the scribe may take to write what it was given.
const SCRIBE_PATIENCE: Duration = Duration::from_secs(2);

/// A program that is to take our place.
pub(super) struct Upgrade {
    ticket: Ticket,
    program: PathBuf,
    by: Box<str>,
    /// Also if it cannot read definitions that are in force.
    force: bool,
}

impl Reactor {
    /// Looks whether the program is one that could take our place.
    pub(super) fn begin_upgrade(
        &mut self,
        ticket: Ticket,
        program: Option<&str>,
        by: Box<str>,
        force: bool,
    ) {
        let Some(program) = program.map(PathBuf::from).or_else(program::path) else {
            let words = "it is not known which program runs (no /proc); name one: upgrade PATH";
            return self.refuse_upgrade(ticket, code::BAD_PARAMS, words.to_owned());
        };
        // Whole, and proven to be writable: what the program reads is what it would go on from.
        self.compact_journal();
        if let Some((code, words)) = self.obstacle_to_upgrade() {
            return self.refuse_upgrade(ticket, code, words);
        }
        let handover = Handover {
            identity: Some(self.identity.clone()),
            ..Handover::default()
        };
        let handover = match reexec::memory_file(&handover) {
            Ok(handover) => handover,
            Err(error) => {
                let words = format!("cannot try the new program: {error}");
                return self.refuse_upgrade(ticket, code::INTERNAL, words);
            }
        };
        let (origin, asked) = (self.spawner.origin(), program.clone());
        let (keep, number) = ([handover.as_fd()], handover.as_raw_fd());
        let most = rehearsal::BYTES;
        let helper = helper::start(c"vitald-trial", origin, &keep, most, move |out| {
            let said = version_of(&asked).and_then(|()| rehearsal_of(&asked, number));
            let said = said.unwrap_or_else(|why| why);
            u8::from(out.write_all(said.as_bytes()).is_err())
        });
        let upgrade = Upgrade {
            ticket,
            program,
            by,
            force,
        };
        let work = Work::Trial(Box::new(upgrade));
        if let Err(error) = helper.and_then(|helper| self.watch_helper(helper, work)) {
            let words = format!("cannot try the new program: {}", error.step);
            self.refuse_upgrade(ticket, code::INTERNAL, words);
        }
    }

    /// What came of the trial: the upgrade is refused or accepted.
    pub(super) fn tried(&mut self, upgrade: Upgrade, said: &[u8]) {
        let (ticket, program) = (upgrade.ticket, upgrade.program.display());
        let said = String::from_utf8_lossy(said);
        if let Some((code, words)) = self.obstacle_to_upgrade() {
            return self.refuse_upgrade(ticket, code, words);
        }
        let Some(rehearsal) = Rehearsal::read(&said) else {
            let words = match said.trim() {
                "" => "says nothing within 10 s",
                words => words,
            };
            let words = format!("{program}: {words}; nothing was changed");
            return self.refuse_upgrade(ticket, code::BAD_PARAMS, words);
        };
        if let Some(obstacle) = rehearsal.obstacles.first() {
            let words = format!(
                "{program} ({}) cannot take over: {obstacle}; nothing was changed",
                rehearsal.vitald
            );
            return self.refuse_upgrade(ticket, code::BAD_PARAMS, words);
        }
        let unread = self.unread_in_force(&rehearsal);
        if !unread.is_empty() && !upgrade.force {
            let words = format!(
                "{program} ({}) cannot read definitions that are in force: {}; nothing was \
                 changed; mend them, or upgrade with --force: what runs is left running, unwatched \
                 by probes, and is not started again",
                rehearsal.vitald,
                unread.join("; ")
            );
            return self.refuse_upgrade(ticket, code::CONFIG, words);
        }
        log::info!(
            "executing {program} ({}) in place of {}; no service is touched, asked by {}",
            rehearsal.vitald,
            env!("CARGO_PKG_VERSION"),
            upgrade.by
        );
        self.upgrade = Some(upgrade);
    }

    /// Definitions that the new program cannot read and that we go by, and why.
    fn unread_in_force<'a>(&self, rehearsal: &'a Rehearsal) -> Vec<&'a str> {
        let in_force = |name: &str| {
            let known = self.engine.find(name);
            known.is_some_and(|id| self.engine.definition(id).is_some())
        };
        let unread = rehearsal.unread.iter();
        unread
            .filter_map(|(name, why)| in_force(name).then_some(&**why))
            .collect()
    }

    /// Why no other program can take our place now.
    fn obstacle_to_upgrade(&self) -> Option<(i32, String)> {
        if self.engine.is_shutting_down() {
            let words = "the daemon is shutting down".to_owned();
            return Some((code::SHUTTING_DOWN, words));
        }
        if self.upgrade.is_some() {
            let words = "another upgrade is under way".to_owned();
            return Some((code::INTERNAL, words));
        }
        let fault = self.runtime.trouble()?;
        let words = format!(
            "what is so cannot be written down for the next program, which would start services \
             twice: {fault}; make room, or the runtime directory writable, and try again"
        );
        Some((code::INTERNAL, words))
    }

    fn refuse_upgrade(&mut self, ticket: Ticket, code: i32, words: String) {
        self.answer(ticket, &Err(Refusal::new(code, &words)));
    }

    /// Executes the new program. Returns if that was not possible.
    pub(super) fn execute_upgrade(&mut self) {
        let Some(upgrade) = self.upgrade.take() else {
            return;
        };
        let ticket = upgrade.ticket;
        self.flush_records();
        // An end that was asked for in the same turn wins.
        if let Some((code, words)) = self.obstacle_to_upgrade() {
            log::warn!("no upgrade: {words}");
            return self.refuse_upgrade(ticket, code, words);
        }
        for id in 0..self.logs.len() as u32 {
            self.drain_log(ServiceId(id));
        }
        let mut acks = Vec::new();
        if !self.scribe.finish_told(SCRIBE_PATIENCE, &mut acks) {
            log::warn!("the scribe did not write everything within 2 s");
        }
        // Who waits for the disk has its answer still from us.
        for ack in acks {
            if !matches!(ack.seq, scribe::frame::RECORDING | scribe::frame::SYSLOG) {
                self.durable(ack);
            }
        }
        self.settle();
        let handover = self.handover(&upgrade);
        let program = upgrade.program.clone();
        let error = match Executed::named(program) {
            Some(program) => reexec::execute(&program, handover),
            None => io::ErrorKind::InvalidInput.into(),
        };
        let words = format!("cannot execute the new program: {error}; the old one goes on");
        log::error!("{words}");
        self.refuse_upgrade(ticket, code::INTERNAL, words);
        self.restart_scribe();
        // Its files were left open to no scribe.
        self.recording_failed("the scribe ended for an upgrade that failed");
    }

    fn handover(&mut self, upgrade: &Upgrade) -> Handover {
        let clients = self.carry_clients(upgrade.ticket);
        let logs = self.logs.iter().enumerate().flat_map(|(index, log)| {
            let name = self.name(ServiceId(index as u32)).to_owned();
            let fds = log.as_ref().map(|log| log.descriptors());
            fds.into_iter()
                .flatten()
                .map(move |fd| (name.clone(), fd))
                .collect::<Vec<_>>()
        });
        Handover {
            cause: Cause::Upgrade {
                by: upgrade.by.to_string(),
                from: env!("CARGO_PKG_VERSION").to_owned(),
            },
            origin: *self.spawner.origin(),
            jobs: known::jobs(),
            runtime_lock: Some(self.locks.runtime.as_raw_fd()),
            state_lock: self.locks.state.as_ref().map(AsRawFd::as_raw_fd),
            socket: Some(self.front.hand_over()),
            logs: logs.collect(),
            ending: self.ending,
            shell: init::shell(),
            watchdog: watchdog::descriptor(),
            execs: known::execs(),
            clients,
            heard: known::all_heard(),
            identity: Some(self.identity.clone()),
            before: Executable::running(),
            ..Handover::default()
        }
    }
}

// --- in a helper

/// Is it a vitald at all? Strangers are asked nothing else.
fn version_of(program: &Path) -> Result<(), String> {
    let mut command = Program::new(program);
    command.arg("version").env_clear();
    let (status, said, _) = output(&mut command, VERSION_BYTES)?;
    if !status.success() {
        return Err(format!("`version` ended with {status}"));
    }
    let version = said
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("vitald "));
    match version {
        Some(version) if !version.contains(char::is_whitespace) => Ok(()),
        Some(_) | None => Err("it is no vitald".to_owned()),
    }
}

/// Could it take over what we leave? `handover`: the number of the memory file.
fn rehearsal_of(program: &Path, handover: RawFd) -> Result<String, String> {
    let mut command = Program::new(program);
    command
        .args(std::env::args_os().skip(1))
        .arg("--rehearse")
        .env(reexec::VARIABLE, handover.to_string());
    let (status, said, complaint) = output(&mut command, rehearsal::BYTES)?;
    match Rehearsal::read(&said) {
        Some(_) if status.success() => Ok(said),
        _ => {
            let complaint = complaint.lines().next().unwrap_or_default();
            let complaint = complaint.strip_prefix("vitald: ").unwrap_or(complaint);
            Err(match complaint {
                "" => format!("`run --rehearse` ended with {status}, and says not what is wrong"),
                words => format!("`run --rehearse` ended with {status}: {words}"),
            })
        }
    }
}

/// How it ended, and the first bytes that it said on stdout and stderr. It does not outlive this
/// helper, nor its time.
fn output(command: &mut Program, most: usize) -> Result<(ExitStatus, String, String), String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: system calls only.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
            libc::alarm(TRIAL_SECONDS);
            Ok(())
        });
    }
    let cannot = |error: io::Error| match error.raw_os_error() {
        Some(errno) => format!("cannot execute it: {}", crate::exit::errno_words(errno)),
        None => format!("cannot execute it: {error}"),
    };
    let mut child = command.spawn().map_err(cannot)?;
    let read = |pipe: Option<&mut dyn Read>| {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What cannot be read was not said.
            let _ = pipe.take(most as u64).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    // Whoever says more than that finds the pipe closed.
    let said = read(
        child
            .stdout
            .take()
            .as_mut()
            .map(|pipe| pipe as &mut dyn Read),
    );
    let complaint = read(
        child
            .stderr
            .take()
            .as_mut()
            .map(|pipe| pipe as &mut dyn Read),
    );
    let status = child.wait().map_err(cannot)?;
    Ok((status, said, complaint))
}
