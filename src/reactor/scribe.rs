//! The scribe, from the daemon's side: a forked child that does all writing and syncing in the
//! state directory, so that a disk that stalls does not stall the loop.
//!
//! [`Scribe::remember`] is for what must be durable, [`Scribe::log`] for log bytes. Nothing here
//! blocks or retries by clock: what the sockets do not take waits in bounded queues. When the
//! child dies [`Scribe::on_ready`] says so; the caller calls [`Scribe::restart`] after a while of
//! its choosing, and all that was not answered as durable is sent again.
//!
//! Two sockets, so that a record never waits behind a megabyte of log. Packets (SOCK_SEQPACKET),
//! so that there are no half messages. Log bytes that find no room are dropped and counted by
//! service; the scribe writes the number into the log. One service may fill at most a quarter of
//! the queue: a flood costs its own lines, not those of others.
//!
//! A recording's bytes go the way of log bytes, as those of a service without a name.
//!
//! Fork it before the daemon has read anything: the child keeps the pages it was born with, so
//! what the daemon's memory was at that moment is what the scribe costs at worst.

mod child;
mod dossiers;
mod files;
pub mod frame;
mod lines;
mod recording;
pub mod style;
mod syslog;

use crate::config::LogTo;
use crate::engine::snapshot::{ReloadRecord, WantedRecord};
use crate::journal::state;
use crate::limits;
use frame::{Ack, LogHead, MAX_ACK, MAX_RECORD, Order};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, sendmsg, shutdown,
    socketpair,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use style::{Stream, Style};

/// Beside a waiting message's bytes: what holding it costs.
const OVERHEAD: usize = 32;

#[derive(Clone, Debug)]
pub struct Options {
    pub state_dir: PathBuf,
    /// Where a recording is kept.
    pub record_dir: PathBuf,
    /// Where syslog listens.
    pub syslog: PathBuf,
    /// How many dossiers are kept, and how large together.
    pub dossier_keep: u32,
    pub dossier_max_bytes: u64,
}

/// Whose log bytes, of which stream, and what is to become of them.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    pub service: &'a str,
    pub stream: Stream,
    pub style: Style<'a>,
}

/// What [`Scribe::on_ready`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    Up,
    /// It died, just now; how, as far as is known. Call [`Scribe::restart`] in a while.
    Died(String),
    /// It is dead, which was said before.
    Down,
}

pub struct Scribe {
    options: Options,
    registry: Registry,
    token: Token,
    link: Option<Link>,
    /// Died and not yet reaped.
    corpse: Option<Pid>,
    /// Not yet durable, oldest first; the first `sent` of them were sent.
    records: VecDeque<Waiting>,
    sent: usize,
    rewrite: bool,
    logs: Queue,
    /// Lines of reloads so far.
    kept: u64,
}

struct Waiting {
    seq: u64,
    name: Box<str>,
    message: Box<[u8]>,
}

struct Link {
    pid: Pid,
    records: OwnedFd,
    logs: OwnedFd,
    /// Whether each is registered for writing too. Always, would mean a wake-up for every
    /// message the scribe takes.
    records_full: bool,
    logs_full: bool,
}

impl Scribe {
    /// Forks the scribe. Both sockets are registered under `token`, edge-triggered; any event of
    /// theirs is for [`Scribe::on_ready`].
    pub fn start(options: Options, registry: Registry, token: Token) -> io::Result<Scribe> {
        let mut scribe = Scribe {
            options,
            registry,
            token,
            link: None,
            corpse: None,
            records: VecDeque::new(),
            sent: 0,
            rewrite: false,
            logs: Queue::default(),
            kept: 0,
        };
        scribe.restart()?;
        Ok(scribe)
    }

    /// Forks a new scribe in a dead one's place, and sends it what is not yet durable.
    pub fn restart(&mut self) -> io::Result<()> {
        if self.link.is_some() {
            return Ok(());
        }
        let pair = || {
            let flags = SockFlag::SOCK_CLOEXEC;
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
        };
        let (records, its_records) = pair()?;
        let (logs, its_logs) = pair()?;
        // No signal may find the child before it has decided which ones it ignores.
        let mut before = SigSet::empty();
        sigprocmask(
            SigmaskHow::SIG_SETMASK,
            Some(&SigSet::all()),
            Some(&mut before),
        )?;
        // SAFETY: the daemon has one thread, so nothing is locked in the child.
        let forked = match unsafe { fork() } {
            Ok(ForkResult::Child) => child::main(&self.options, its_records, its_logs),
            Ok(ForkResult::Parent { child }) => Ok(child),
            Err(errno) => Err(errno),
        };
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
        let pid = forked?;
        let link = Link {
            pid,
            records,
            logs,
            records_full: false,
            logs_full: false,
        };
        for fd in [&link.records, &link.logs] {
            // On an error the sockets close, and with them the child ends.
            self.registry.register(
                &mut SourceFd(&fd.as_raw_fd()),
                self.token,
                Interest::READABLE,
            )?;
        }
        self.link = Some(link);
        self.flush();
        Ok(())
    }

    /// Makes a word of the operator durable. `on_ready` answers with `seq`, which counts up. The
    /// error says why it will not even be tried.
    pub fn remember(&mut self, seq: u64, record: &WantedRecord) -> Result<(), String> {
        let mut line = Vec::new();
        state::encode(&mut line, record).map_err(|error| error.to_string())?;
        self.put(seq, record.name.clone(), &line)
    }

    /// A reload that can go back, or that there is none any more. Several lines; the last counts.
    pub fn keep(&mut self, seq: u64, reload: Option<&ReloadRecord>) -> Result<(), String> {
        let lines = state::encode_reload(reload).map_err(|error| error.to_string())?;
        if lines.iter().any(|line| line.len() + 9 > MAX_RECORD) {
            return Err(format!("a definition is longer than {MAX_RECORD} bytes"));
        }
        // The engine has left a number for each; with the last all are durable.
        let first = (seq + 1).saturating_sub(lines.len() as u64);
        for (seq, line) in (first..).zip(&lines) {
            // No service has that name; each line counts.
            self.put(seq, format!("/{}", self.kept).into(), line)?;
            self.kept += 1;
        }
        Ok(())
    }

    fn put(&mut self, seq: u64, name: Box<str>, line: &[u8]) -> Result<(), String> {
        let message = Order::Record { seq, line }.encode();
        if message.len() > MAX_RECORD {
            return Err(format!("the record is longer than {MAX_RECORD} bytes"));
        }
        if self.records.len() >= limits::SCRIBE_RECORD_BACKLOG {
            self.supersede();
        }
        if self.records.len() >= limits::SCRIBE_RECORD_BACKLOG {
            let waiting = self.records.len();
            return Err(format!("{waiting} records wait for the disk already"));
        }
        self.records.push_back(Waiting { seq, name, message });
        self.flush();
        Ok(())
    }

    /// Drops records that a later one of the same name makes needless; the last word counts.
    fn supersede(&mut self) {
        let mut last: HashMap<Box<str>, u64> = HashMap::new();
        for waiting in &self.records {
            last.insert(waiting.name.clone(), waiting.seq);
        }
        let stays = |waiting: &Waiting| last.get(&waiting.name) == Some(&waiting.seq);
        let sent = self.records.iter().take(self.sent);
        self.sent = sent.filter(|waiting| stays(waiting)).count();
        self.records.retain(stays);
    }

    /// Has `wanted` written anew: it was damaged, or is mostly history ([`state::Loaded::rewrite`]).
    pub fn rewrite(&mut self) {
        self.rewrite = true;
        self.flush();
    }

    /// Has log bytes written. `wall_ms`: when they were read, since 1970.
    pub fn log(&mut self, whose: &Whose<'_>, wall_ms: u64, data: &[u8]) {
        for part in data.chunks(limits::SCRIBE_FRAME_BYTES) {
            self.log_frame(whose, wall_ms, part, false);
        }
    }

    /// The service's run ended: what it says next begins a new line.
    pub fn end_line(&mut self, whose: &Whose<'_>, wall_ms: u64) {
        self.log_frame(whose, wall_ms, &[], true);
    }

    /// Has bytes of the recording written; `begins`: of a new file. False: there is no room, and
    /// none of them is taken. A failure is told by [`Scribe::on_ready`], as of record
    /// [`frame::RECORDING`].
    pub fn record(&mut self, data: &[u8], begins: bool) -> bool {
        let waits = self.logs.recording;
        if waits > 0 && (begins || waits + data.len() > limits::RECORD_BACKLOG) {
            return false;
        }
        for (n, part) in data.chunks(limits::SCRIBE_FRAME_BYTES).enumerate() {
            let head = LogHead {
                service: frame::NOBODY,
                wall_ms: 0,
                dropped: 0,
                end: begins && n == 0,
                stream: Stream::Joined,
                style: Style::default(),
            };
            // A name of no length is not too long.
            let Some(mut frame) = head.encode() else {
                return false;
            };
            let sent = self.logs.frames.is_empty()
                && self
                    .link
                    .as_ref()
                    .is_some_and(|link| send_log(&link.logs, &frame, part).is_ok());
            if !sent {
                frame.extend_from_slice(part);
                self.logs.recording += frame.len();
                self.logs.frames.push_back(frame.into());
            }
        }
        self.arm();
        true
    }

    /// Whether dossiers are written at all.
    pub fn keeps_dossiers(&self) -> bool {
        self.options.dossier_keep > 0
    }

    /// Has a dossier written, in the place of one of the same name. A failure is told by
    /// [`Scribe::on_ready`], as of record [`frame::DOSSIER`].
    pub fn dossier(&mut self, id: &str, json: &[u8]) {
        // No service has that name.
        let service = format!("/{id}");
        let mut parts = json.chunks(limits::SCRIBE_FRAME_BYTES).peekable();
        while let Some(part) = parts.next() {
            let head = LogHead {
                service: &service,
                wall_ms: json.len() as u64,
                dropped: self.logs.dropped(&service),
                end: parts.peek().is_none(),
                stream: Stream::Joined,
                style: Style::default(),
            };
            let Some(bytes) = head.encode() else {
                return;
            };
            let sent = self.logs.frames.is_empty()
                && self
                    .link
                    .as_ref()
                    .is_some_and(|link| send_log(&link.logs, &bytes, part).is_ok());
            if !sent {
                self.logs.put(&service, bytes, part);
            }
        }
        self.arm();
    }

    /// Some of the recording waits.
    pub fn is_recording(&self) -> bool {
        self.logs.recording > 0
    }

    fn log_frame(&mut self, whose: &Whose<'_>, wall_ms: u64, data: &[u8], end: bool) {
        let Whose {
            service,
            stream,
            style,
        } = *whose;
        if style.to == LogTo::Memory {
            return;
        }
        let head = LogHead {
            service,
            wall_ms,
            dropped: self.logs.dropped(service),
            end,
            stream,
            style,
        };
        let Some(bytes) = head.encode() else {
            return;
        };
        if self.logs.frames.is_empty()
            && let Some(link) = &self.link
            && send_log(&link.logs, &bytes, data).is_ok()
        {
            self.logs.said(service);
            return;
        }
        self.logs.put(service, bytes, data);
        self.arm();
    }

    /// The child's pid, for whoever reaps children.
    pub fn pid(&self) -> Option<i32> {
        self.link.as_ref().map(|link| link.pid.as_raw())
    }

    /// Records not yet durable.
    pub fn waiting(&self) -> usize {
        self.records.len()
    }

    /// After any event of the token: appends the answers that came to `acks`. An answer holds for
    /// all records up to its number; an error may be followed by an Ok, when the disk recovered.
    pub fn on_ready(&mut self, acks: &mut Vec<Ack>) -> State {
        self.bury();
        let Some(link) = &self.link else {
            return State::Down;
        };
        let mut buffer = [0; MAX_ACK];
        let closed = loop {
            match recv(
                link.records.as_raw_fd(),
                &mut buffer,
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(0) => break true,
                Ok(length) => {
                    let Some(ack) = Ack::decode(&buffer[..length]) else {
                        continue;
                    };
                    if ack.result.is_ok() && ack.seq < frame::DOSSIER {
                        while self.records.front().is_some_and(|w| w.seq <= ack.seq) {
                            self.records.pop_front();
                            self.sent = self.sent.saturating_sub(1);
                        }
                    }
                    acks.push(ack);
                }
                Err(Errno::EAGAIN) => break false,
                // It died with messages unread: said once, before its last answers.
                Err(Errno::ECONNRESET | Errno::EINTR) => {}
                Err(_) => break true,
            }
        };
        if !closed {
            self.flush();
            return State::Up;
        }
        let how = self.unlink();
        State::Died(how)
    }

    /// Lets go of a dead child's sockets; how it ended, if that is known already.
    fn unlink(&mut self) -> String {
        if let Some(link) = self.link.take() {
            for fd in [&link.records, &link.logs] {
                let _ = self.registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
            }
            self.corpse = Some(link.pid);
        }
        self.sent = 0;
        self.bury()
    }

    /// Reaps the dead child. Its sockets close a moment before it can be reaped; then the next
    /// call, or whoever reaps orphans, does it.
    fn bury(&mut self) -> String {
        let Some(pid) = self.corpse else {
            return String::new();
        };
        let ended = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        if ended == Ok(WaitStatus::StillAlive) {
            return "it closed its sockets".into();
        }
        self.corpse = None;
        match ended {
            Ok(WaitStatus::Exited(_, code)) => format!("exit code {code}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => signal.to_string(),
            _ => "end unknown".into(),
        }
    }

    /// Sends what waits, as far as the sockets take it.
    fn flush(&mut self) {
        let Some(link) = &self.link else {
            return;
        };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let records = link.records.as_raw_fd();
        if self.rewrite && send(records, &Order::Rewrite.encode(), flags).is_ok() {
            self.rewrite = false;
        }
        while let Some(waiting) = self.records.get(self.sent) {
            if send(records, &waiting.message, flags).is_err() {
                break;
            }
            self.sent += 1;
        }
        self.logs.send(&link.logs);
        self.arm();
    }

    /// Asks to be woken for writing exactly while something waits.
    fn arm(&mut self) {
        let Some(link) = &mut self.link else {
            return;
        };
        let records = self.rewrite || self.sent < self.records.len();
        let logs = !self.logs.is_empty();
        for (fd, was, full) in [
            (&link.records, &mut link.records_full, records),
            (&link.logs, &mut link.logs_full, logs),
        ] {
            if *was == full {
                continue;
            }
            let interest = match full {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            // It fails only for want of kernel memory; asked again with the next message.
            let asked =
                self.registry
                    .reregister(&mut SourceFd(&fd.as_raw_fd()), self.token, interest);
            if asked.is_ok() {
                *was = full;
            }
        }
    }

    /// For the daemon's end: sends what waits and lets the scribe write it, at most for
    /// `patience`. Blocks. True: all is written.
    pub fn finish(&mut self, patience: Duration) -> bool {
        self.finish_told(patience, &mut Vec::new())
    }

    /// The same, with the answers that came meanwhile.
    pub fn finish_told(&mut self, patience: Duration, acks: &mut Vec<Ack>) -> bool {
        let begun = Instant::now();
        let mut said = false;
        loop {
            let all_sent = self.sent == self.records.len() && self.logs.is_empty();
            let Some(link) = &self.link else {
                return self.records.is_empty() && all_sent;
            };
            if all_sent && !said {
                // The scribe sees the end of both, and ends when it has written all before it.
                let _ = shutdown(link.records.as_raw_fd(), Shutdown::Write);
                let _ = shutdown(link.logs.as_raw_fd(), Shutdown::Write);
                said = true;
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return false;
            }
            let mut wanted = [PollFlags::POLLIN; 2];
            if self.sent < self.records.len() {
                wanted[0] |= PollFlags::POLLOUT;
            }
            if !self.logs.is_empty() {
                wanted[1] |= PollFlags::POLLOUT;
            }
            let mut fds = [
                PollFd::new(link.records.as_fd(), wanted[0]),
                PollFd::new(link.logs.as_fd(), wanted[1]),
            ];
            let ms = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
            // After it has closed one socket the other follows at once: no busy loop to speak of.
            let _ = poll(&mut fds, PollTimeout::from(ms));
            self.on_ready(acks);
        }
    }
}

fn send_log(fd: &OwnedFd, head: &[u8], data: &[u8]) -> Result<(), Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let parts = [IoSlice::new(head), IoSlice::new(data)];
    sendmsg::<()>(fd.as_raw_fd(), &parts, &[], flags, None).map(drop)
}

/// Log messages that the socket has not taken.
#[derive(Default)]
struct Queue {
    frames: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Bytes of the recording, which are not among them.
    recording: usize,
    /// Of which, by service.
    held: HashMap<Box<str>, usize>,
    /// Dropped and not yet said, by service; and the head of the last of it.
    dropped: HashMap<Box<str>, (u64, Box<[u8]>)>,
}

impl Queue {
    /// Nothing is left to send, nor to say.
    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.dropped.is_empty()
    }

    fn dropped(&self, service: &str) -> u64 {
        self.dropped.get(service).map_or(0, |(bytes, _)| *bytes)
    }

    fn said(&mut self, service: &str) {
        if !self.dropped.is_empty() {
            self.dropped.remove(service);
        }
    }

    fn put(&mut self, service: &str, mut frame: Vec<u8>, data: &[u8]) {
        let cost = frame.len() + data.len() + OVERHEAD;
        let held = self.held.get(service).copied().unwrap_or(0);
        if self.bytes + cost > limits::SCRIBE_LOG_BACKLOG
            || held + cost > limits::SCRIBE_LOG_BACKLOG / 4
        {
            let entry = self.dropped.entry(service.into()).or_default();
            *entry = (entry.0 + data.len() as u64, frame.into());
            return;
        }
        self.said(service);
        frame.extend_from_slice(data);
        self.frames.push_back(frame.into());
        self.bytes += cost;
        match self.held.get_mut(service) {
            Some(held) => *held += cost,
            None => drop(self.held.insert(service.into(), cost)),
        }
    }

    fn send(&mut self, socket: &OwnedFd) {
        while let Some(frame) = self.frames.front() {
            if send_log(socket, frame, &[]).is_err() {
                return;
            }
            let cost = frame.len() + OVERHEAD;
            let head = LogHead::decode(frame).map(|(head, _)| head);
            match &head {
                Some(head) if head.service == frame::NOBODY => self.recording -= frame.len(),
                _ => self.bytes -= cost,
            }
            if let Some(head) = head
                && let Some(held) = self.held.get_mut(head.service)
            {
                *held -= cost;
                if *held == 0 {
                    self.held.remove(head.service);
                }
            }
            self.frames.pop_front();
        }
        // All is sent; what was dropped must be said even if its service says nothing more.
        while let Some((service, (dropped, head))) = self.dropped.iter_mut().next() {
            LogHead::only_dropped(head, *dropped);
            if send_log(socket, head, &[]).is_err() {
                return;
            }
            let service = service.clone();
            self.dropped.remove(&service);
        }
    }
}
