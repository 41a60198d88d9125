//! A service's pipes and what came out of them: to its [`Ring`] and to the [`Scribe`].
//!
//! Bytes are not looked at unless the definition asks for it ([`LogFilter`]). With two pipes the
//! ring gets whole lines, so that no stream writes into the other's line; the scribe gets bytes as
//! they came and does the same, so that the daemon's death costs nothing of a line.
//!
//! Invariants: one turn reads at most [`limits::LOG_READ_PER_TURN`] of one pipe; readiness is
//! edge-triggered, so whoever gets [`Drained::More`] must call again without waiting for an event;
//! a pipe that a logger reads is not read here.

use super::logs::{LogPipe, Which};
use super::ring::Ring;
use super::scribe::style::{Stream, Style};
use super::scribe::{Scribe, Whose};
use crate::config::Log;
use crate::limits;
use crate::service::log_filter::LogFilter;
use crate::time::Time;
use mio::Token;
use nix::errno::Errno;
use nix::unistd::read;
use std::os::fd::{AsRawFd, RawFd};

/// Whether a pipe holds more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drained {
    /// Nothing is left; new bytes make an event.
    Empty,
    /// The turn's share was read and there may be more: no event will say so.
    More,
}

#[derive(Debug)]
pub struct ServiceLog {
    pub pipe: LogPipe,
    pub stderr: Option<LogPipe>,
    pub ring: Ring,
    /// Stands on the loop's list of pipes to be drained: an edge and a cap put it there once.
    pub queued: bool,
    /// A logger reads the main pipe, or is to.
    pub logger_reads: bool,
    /// Its pipes' tokens; the first is its timer's as well.
    pub tokens: Vec<Token>,
    /// What the definition says, and the defaults.
    rules: Box<Log>,
    filter: Option<Box<LogFilter>>,
    /// The run ended; its last bytes may still be in the pipe.
    ended: bool,
    /// Where the present run's lines begin, and which those of the last one were that ended.
    began: u64,
    last_run: (u64, u64),
    /// That is known before the run's end.
    judged: bool,
    /// With two pipes: lines that have no end yet, and when they began.
    open: [(u64, Vec<u8>); 2],
}

impl ServiceLog {
    pub fn new(pipe: LogPipe, rules: Log) -> ServiceLog {
        ServiceLog {
            pipe,
            stderr: None,
            ring: Ring::new(),
            queued: false,
            logger_reads: false,
            tokens: Vec::new(),
            filter: LogFilter::of(&rules).map(Box::new),
            rules: Box::new(rules),
            ended: false,
            began: 0,
            last_run: (0, 0),
            judged: false,
            open: Default::default(),
        }
    }

    pub fn rules(&self) -> &Log {
        &self.rules
    }

    /// A definition that says something else; for what is read from now on.
    pub fn set_rules(&mut self, rules: Log) {
        if *self.rules == rules {
            return;
        }
        self.filter = match self.filter.take() {
            Some(filter) => filter.follow(&rules).map(Box::new),
            None => LogFilter::of(&rules).map(Box::new),
        };
        *self.rules = rules;
    }

    /// The descriptors that are read.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let pipes = std::iter::once(&self.pipe).chain(&self.stderr);
        pipes.map(AsRawFd::as_raw_fd)
    }

    /// Nobody of ours has the main pipe open any more.
    pub fn close_main(&mut self) {
        if let Ok(nothing) = LogPipe::nothing() {
            self.pipe = nothing;
        }
    }

    /// Lines that the rate limit dropped.
    pub fn dropped_by_rate(&self) -> u64 {
        self.filter.as_ref().map_or(0, |filter| filter.total())
    }

    /// When it is to be looked at though nothing comes.
    pub fn due(&self) -> Option<Time> {
        self.filter.as_ref()?.due()
    }

    fn streams(&self) -> &'static [Stream] {
        match &self.stderr {
            Some(_) => &[Stream::Stdout, Stream::Stderr],
            None => &[Stream::Joined],
        }
    }

    /// The service's process is gone: when the pipe is empty, an unfinished line ends. Call
    /// [`ServiceLog::drain`] after it.
    pub fn run_ended(&mut self) {
        self.ended = true;
    }

    /// A new run begins: what it says is not the old one's.
    pub fn run_began(&mut self, name: &str, wall_ms: u64, scribe: &mut Scribe) {
        if std::mem::take(&mut self.ended) {
            self.end_line(name, wall_ms, scribe);
        }
        self.began = self.ring.next_line();
        self.judged = false;
    }

    /// What came until now is what the run that ended has said; unless it was told to end before.
    pub fn run_said_all(&mut self) {
        if !std::mem::take(&mut self.judged) {
            self.last_run = (self.began, self.ring.next_line());
        }
    }

    /// It is about to be stopped for its health: what it says from now on is about that, and what it said
    /// before this time has nothing to do with it.
    pub fn run_judged(&mut self, since_ms: u64) {
        let (next, here) = (self.ring.next_line(), self.ring.lines());
        let mut from = next - here;
        self.ring.read(&mut self.ring.tail(here), &mut |line| {
            from = line.seq;
            line.wall_ms < since_ms
        });
        self.last_run = (self.began.max(from), next);
        self.judged = true;
    }

    /// The last lines of the last run that ended, as far as they are here.
    pub fn last_words(&self, most: u64) -> Vec<String> {
        let (began, ended) = self.last_run;
        let from = began.max(ended.saturating_sub(most));
        let since = self.ring.next_line().saturating_sub(from);
        let mut lines = Vec::new();
        self.ring.read(&mut self.ring.tail(since), &mut |line| {
            if (from..ended).contains(&line.seq) {
                lines.push(line.text());
            }
            line.seq < ended
        });
        lines
    }

    fn end_line(&mut self, name: &str, wall_ms: u64, scribe: &mut Scribe) {
        if let Some(filter) = &mut self.filter {
            filter.end_line();
        }
        for (nth, stream) in self.streams().iter().enumerate() {
            let (since, open) = std::mem::take(&mut self.open[nth]);
            self.ring.set_stream(*stream);
            if !open.is_empty() {
                self.ring.push(since, &open);
            }
            if self.ring.open_line().is_some() {
                self.ring.end_line();
                scribe.end_line(&whose(name, *stream, &self.rules), wall_ms);
            }
        }
    }

    /// Reads one turn's share of each pipe. `scratch` is a buffer for all services, of
    /// [`limits::LOG_READ_PER_TURN`]; a shorter one makes the share smaller.
    pub fn drain(
        &mut self,
        name: &str,
        (now, wall_ms): (Time, u64),
        scratch: &mut [u8],
        scribe: &mut Scribe,
    ) -> Result<Drained, Errno> {
        let mut more = false;
        for which in [Which::Main, Which::Stderr] {
            let share = scratch.len().min(limits::LOG_READ_PER_TURN);
            let pipe = match which {
                Which::Main if self.logger_reads => continue,
                Which::Main => &self.pipe,
                Which::Stderr => match &self.stderr {
                    Some(pipe) => pipe,
                    None => continue,
                },
            };
            let length = loop {
                match read(pipe, &mut scratch[..share]) {
                    Ok(length) => break length,
                    Err(Errno::EAGAIN) => break 0,
                    Err(Errno::EINTR) => {}
                    Err(errno) => return Err(errno),
                }
            };
            if length > 0 {
                self.came(name, which, (now, wall_ms), &scratch[..length], scribe);
            }
            // A short read emptied the pipe, and the next write to it is an edge (epoll(7), Q9).
            more |= length == share;
        }
        if more {
            return Ok(Drained::More);
        }
        if std::mem::take(&mut self.ended) {
            self.end_line(name, wall_ms, scribe);
        }
        Ok(Drained::Empty)
    }

    /// Something came out of a pipe.
    fn came(
        &mut self,
        name: &str,
        which: Which,
        (now, wall_ms): (Time, u64),
        data: &[u8],
        scribe: &mut Scribe,
    ) {
        let nth = match which {
            Which::Main => 0,
            Which::Stderr => 1,
        };
        let mut passed = Vec::new();
        let data = match &mut self.filter {
            None => data,
            Some(filter) => {
                filter.take(now, nth, data, &mut passed);
                &passed
            }
        };
        self.keep(name, nth, wall_ms, data, scribe);
    }

    /// The time has come of [`ServiceLog::due`].
    pub fn on_time(&mut self, name: &str, (now, wall_ms): (Time, u64), scribe: &mut Scribe) {
        let mut said = Vec::new();
        if let Some(filter) = &mut self.filter {
            filter.on_time(now, &mut said);
        }
        self.keep(name, 0, wall_ms, &said, scribe);
    }

    fn keep(&mut self, name: &str, nth: usize, wall_ms: u64, data: &[u8], scribe: &mut Scribe) {
        if data.is_empty() {
            return;
        }
        let streams = self.streams();
        let stream = streams.get(nth).copied().unwrap_or_default();
        scribe.log(&whose(name, stream, &self.rules), wall_ms, data);
        if streams.len() == 1 {
            self.ring.set_stream(stream);
            return self.ring.push(wall_ms, data);
        }
        let whole = data.iter().rposition(|byte| *byte == b'\n');
        let (lines, part) = data.split_at(whole.map_or(0, |at| at + 1));
        let Some((since, open)) = self.open.get_mut(nth) else {
            return;
        };
        if !lines.is_empty() {
            self.ring.set_stream(stream);
            self.ring.push(*since, open);
            self.ring.push(wall_ms, lines);
            open.clear();
        }
        if !part.is_empty() {
            if open.is_empty() {
                *since = wall_ms;
            }
            open.extend_from_slice(part);
        }
        if open.len() >= limits::LOG_LINE_BYTES {
            self.ring.set_stream(stream);
            self.ring.push(*since, open);
            self.ring.end_line();
            *open = Vec::new();
        }
    }
}

fn whose<'a>(service: &'a str, stream: Stream, rules: &'a Log) -> Whose<'a> {
    Whose {
        service,
        stream,
        style: Style::of(rules),
    }
}
