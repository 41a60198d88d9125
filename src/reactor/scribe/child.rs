//! The scribe itself: a loop in a process of its own, which may block on the disk.
//!
//! It takes orders from two sockets, records before log bytes; writes all records that came
//! together with one sync (group commit) and answers once for them. It decides nothing and tells
//! nothing but its answers: descriptors 0 to 2 lead nowhere.
//!
//! Invariants: it holds no descriptor of the daemon's but its two sockets. It ends when the
//! daemon's ends are closed, after it has written all that was sent: no signal but SIGKILL ends
//! it sooner, whichever way the daemon dies. A failed write is answered and tried again, by
//! itself and with every later record.

use super::Options;
use super::dossiers::Dossiers;
use super::files::LogFiles;
use super::frame::{Ack, DOSSIER, LogHead, MAX_LOG, MAX_RECORD, NOBODY, Order, RECORDING, SYSLOG};
use super::lines::Lines;
use super::recording::RecordingFile;
use super::syslog::Syslog;
use crate::journal::lock::Lock;
use crate::journal::state::{self, Writer};
use crate::limits;
use crate::reactor::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, setsid};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Record bytes that wait for a disk that takes none; then the rest waits in the daemon.
const PENDING: usize = 256 * 1024;

/// Runs the scribe in a forked child; never returns. `records` and `logs` are its ends.
pub fn main(options: &Options, records: OwnedFd, logs: OwnedFd) -> ! {
    // In tests a panic would unwind into the harness that was forked along.
    let ended = std::panic::catch_unwind(|| {
        let (records, logs) = settle(records, logs)?;
        let mut scribe = Scribe::new(options, records, logs);
        sys::let_go_of_code();
        scribe.run();
        Ok::<(), Errno>(())
    });
    let code = match ended {
        Ok(Ok(())) => 0,
        Ok(Err(errno)) => errno as i32,
        Err(_) => 255,
    };
    // SAFETY: always allowed; no destructors and no atexit handlers of the daemon's must run here.
    unsafe { libc::_exit(code) }
}

/// Makes the process its own: session, signals, descriptors.
fn settle(records: OwnedFd, logs: OwnedFd) -> Result<(OwnedFd, OwnedFd), Errno> {
    // Away from the terminal, whose ^C is meant for the daemon.
    let _ = setsid();
    let name = c"vitald-scribe";
    // SAFETY: the name is a string that ends in 0; the handlers are constants of the kernel.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
        for signal in Signal::iterator() {
            let how = match signal {
                Signal::SIGKILL | Signal::SIGSTOP => continue,
                // A shutting-down init sends these to everybody; the last word is not written yet.
                Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT => {
                    libc::SIG_IGN
                }
                // Errors come as errno.
                Signal::SIGPIPE | Signal::SIGXFSZ => libc::SIG_IGN,
                Signal::SIGUSR1 | Signal::SIGUSR2 | Signal::SIGALRM => libc::SIG_IGN,
                _ => libc::SIG_DFL,
            };
            libc::signal(signal as i32, how);
        }
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    // A pipe that nobody reads, so that no stray output ends up in a journal. Not /dev/null: a
    // container may have none.
    let (_, nowhere) = nix::unistd::pipe()?;
    // SAFETY: numbers only, and their owners are gone: each is first moved out of the way of
    // those that follow; what else was open belonged to the daemon, whose code never runs here.
    unsafe {
        let clear = |fd: OwnedFd| Errno::result(libc::fcntl(fd.into_raw_fd(), libc::F_DUPFD, 16));
        let (nowhere, records, logs) = (clear(nowhere)?, clear(records)?, clear(logs)?);
        for (from, to) in [
            (nowhere, 0),
            (nowhere, 1),
            (nowhere, 2),
            (records, 3),
            (logs, 4),
        ] {
            Errno::result(libc::dup2(from, to))?;
        }
        Errno::result(libc::syscall(
            libc::SYS_close_range,
            5,
            libc::c_uint::MAX,
            0,
        ))?;
        Ok((OwnedFd::from_raw_fd(3), OwnedFd::from_raw_fd(4)))
    }
}

enum Taken {
    Some,
    None,
    Closed,
}

struct Scribe {
    options: Options,
    records: OwnedFd,
    logs: OwnedFd,
    records_open: bool,
    logs_open: bool,
    writer: Writer,
    files: LogFiles,
    lines: Lines,
    syslog: Syslog,
    recording: RecordingFile,
    dossiers: Dossiers,
    /// Lines not yet durable, up to record `seq`.
    pending: Vec<u8>,
    seq: u64,
    /// Some of them came since the last try.
    fresh: bool,
    retry: Option<(Instant, Duration)>,
    rewrite: bool,
    buffer: Vec<u8>,
    /// Held to the end, so that the next daemon can wait for it.
    _lock: Option<Lock>,
}

impl Scribe {
    fn new(options: &Options, records: OwnedFd, logs: OwnedFd) -> Scribe {
        Scribe {
            records,
            logs,
            records_open: true,
            logs_open: true,
            writer: Writer::new(&options.state_dir),
            files: LogFiles::new(options.state_dir.join("logs")),
            lines: Lines::default(),
            syslog: Syslog::new(options.syslog.clone()),
            recording: RecordingFile::new(options.record_dir.clone()),
            dossiers: Dossiers::new(
                options.state_dir.join("dossiers"),
                options.dossier_keep,
                options.dossier_max_bytes,
            ),
            pending: Vec::new(),
            seq: 0,
            fresh: false,
            retry: None,
            rewrite: false,
            buffer: vec![0; MAX_LOG.max(MAX_RECORD)],
            // Not to be had on a read-only disk, where there is nothing to protect.
            _lock: Lock::wait_as_scribe(&options.state_dir).ok(),
            options: options.clone(),
        }
    }

    fn run(&mut self) {
        while self.records_open || self.logs_open {
            self.take_records();
            if self.rewrite || self.writer.rewrite_due() {
                self.rewrite();
            }
            if let Some(result) = self.syslog.news() {
                let seq = SYSLOG;
                self.answer(&Ack { seq, result });
            }
            if self.fresh || self.retry.is_some_and(|(at, _)| Instant::now() >= at) {
                self.commit();
            }
            match self.take_log() {
                Taken::Some => continue,
                Taken::Closed => self.logs_open = false,
                Taken::None => {}
            }
            self.wait();
        }
        let (files, syslog) = (&mut self.files, &mut self.syslog);
        self.lines.end_all(&mut |head, block| {
            Self::write(files, syslog, head, block);
        });
        if !self.pending.is_empty() {
            self.commit();
        }
    }

    fn write(files: &mut LogFiles, syslog: &mut Syslog, head: LogHead, data: &[u8]) {
        if head.style.to_file() {
            files.write(head, data);
        }
        if head.style.to_syslog() {
            syslog.write(&head, data);
        }
    }

    fn wait(&self) {
        let mut fds = Vec::with_capacity(2);
        if self.records_open && self.pending.len() < PENDING {
            fds.push(PollFd::new(self.records.as_fd(), PollFlags::POLLIN));
        }
        if self.logs_open {
            fds.push(PollFd::new(self.logs.as_fd(), PollFlags::POLLIN));
        }
        let due = self.retry.map(|(at, _)| at);
        let due = due.into_iter().chain(self.syslog.due()).min();
        let timeout = match due {
            _ if fds.is_empty() && !self.records_open => return,
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                let ms = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
                PollTimeout::from(ms)
            }
        };
        // EINTR and the like: the loop looks again.
        let _ = poll(&mut fds, timeout);
    }

    /// All records there are; then those that come during the sync share the next one.
    fn take_records(&mut self) {
        while self.records_open && self.pending.len() < PENDING {
            match receive(&self.records, &mut self.buffer[..MAX_RECORD]) {
                Ok(0) => self.records_open = false,
                Ok(length) => match Order::decode(&self.buffer[..length]) {
                    Some(Order::Record { seq, line }) => {
                        self.pending.extend_from_slice(line);
                        self.seq = seq;
                        self.fresh = true;
                    }
                    Some(Order::Rewrite) => self.rewrite = true,
                    None => {}
                },
                Err(Errno::EAGAIN) => return,
                Err(_) => self.records_open = false,
            }
        }
    }

    fn take_log(&mut self) -> Taken {
        if !self.logs_open {
            return Taken::None;
        }
        match receive(&self.logs, &mut self.buffer) {
            Ok(0) => Taken::Closed,
            Ok(length) => {
                match LogHead::decode(&self.buffer[..length]) {
                    Some((head, data)) if head.service == NOBODY => {
                        if let Err(fault) = self.recording.write(head.end, data) {
                            let seq = RECORDING;
                            let result = Err(fault.to_string());
                            self.answer(&Ack { seq, result });
                        }
                    }
                    Some((head, data)) if head.service.starts_with('/') => {
                        if let Err(words) = self.dossiers.take(&head, data) {
                            let seq = DOSSIER;
                            let result = Err(words);
                            self.answer(&Ack { seq, result });
                        }
                    }
                    Some((head, data)) => {
                        let (files, syslog) = (&mut self.files, &mut self.syslog);
                        self.lines.take(head, data, &mut |head, block| {
                            Self::write(files, syslog, head, block);
                        });
                    }
                    None => {}
                }
                Taken::Some
            }
            Err(Errno::EAGAIN) => Taken::None,
            Err(_) => Taken::Closed,
        }
    }

    fn commit(&mut self) {
        let written = self.writer.append(&self.pending);
        // A retry of what was answered already is answered only when it went well.
        let answer = self.fresh || written.is_ok();
        self.fresh = false;
        self.retry = match &written {
            Ok(()) => {
                self.pending.clear();
                self.pending.shrink_to(4096);
                None
            }
            Err(_) => {
                let wait = match self.retry {
                    None => limits::WRITE_RETRY,
                    Some((_, wait)) => (wait * 2).min(limits::WRITE_RETRY_MAX),
                };
                Some((Instant::now() + wait, wait))
            }
        };
        if answer {
            let ack = Ack {
                seq: self.seq,
                result: written.map_err(|fault| fault.to_string()),
            };
            self.answer(&ack);
        }
    }

    fn answer(&self, ack: &Ack) {
        // A daemon that is gone needs none.
        let _ = send(
            self.records.as_raw_fd(),
            &ack.encode(),
            MsgFlags::MSG_NOSIGNAL,
        );
    }

    /// In a child of its own, because it reads the whole file into memory that this process
    /// would keep for its life.
    fn rewrite(&mut self) {
        self.rewrite = false;
        // SAFETY: one thread, and the child calls nothing but this before it ends.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                let done = state::rewrite_soundly(&self.options.state_dir);
                // SAFETY: as in main.
                unsafe { libc::_exit(i32::from(!done)) }
            }
            Ok(ForkResult::Parent { child }) => {
                let ended = loop {
                    match waitpid(child, None) {
                        Err(Errno::EINTR) => {}
                        ended => break ended,
                    }
                };
                let well = ended == Ok(WaitStatus::Exited(child, 0));
                self.writer.rewritten(well);
            }
            // The old file goes on.
            Err(_) => self.writer.rewritten(true),
        }
    }
}

/// One message, if there is one; 0 when the daemon's end is closed and all was read.
fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            // The daemon died with answers unread: said once, before what it had sent.
            Err(Errno::ECONNRESET | Errno::EINTR) => {}
            other => return other,
        }
    }
}
