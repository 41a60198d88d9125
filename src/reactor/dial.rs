//! Runs a [`Dialogue`] over a non-blocking socket: what is between the loop and a probe's protocol.
//!
//! Not here: timers (the engine's), name look-ups (`resolve`), children (`https`, `exec`).
//!
//! Invariants. Nothing here blocks or waits. Each call reads until the kernel has no more or the
//! outcome is known, and a dialogue bounds what it reads, so edge-triggered readiness is never
//! left behind. A dial ends exactly once, by a [`Finished`]; dropping it asks nobody.
//!
//! What a check costs was weighed, because thousands run each second. The request is written right
//! behind the connect (on loopback the connection stands then, though connect(2) says EINPROGRESS),
//! and only then is the socket registered, for reading alone: one wake-up a check. Closing takes a socket out of
//! epoll; it is not deregistered before. (A child between fork and exec may hold it a moment
//! longer; the event that this can cause carries a token nobody knows any more.)
//!
//! An HTTP check over TCP ends by a reset (SO_LINGER 0), as HAProxy's do: the answer is complete and
//! `Connection: close` was asked for, so the server has nothing more to say or hear, and neither
//! side keeps a TIME_WAIT entry for a minute (at 10,000 checks/s that were 600,000). A check that
//! ran out of time ends so too: a service that wakes up finds the dead connection at once and does
//! no work for it. `tcp` probes that passed close by FIN: the servers of unknown protocols log
//! resets, and a connect alone is rare enough to pay for politeness.

mod socket;

use crate::config::{Address, Ask, Definition};
use crate::id::CheckId;
use crate::limits::PROBE_READ_BYTES;
use crate::probe::{Dialogue, Fault, Outcome, Reason, Report, Step, Trouble};
use crate::reactor::resolve::Resolved;
use mio::{Interest, Registry, Token};
use socket::{Connected, Peer};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often a connect is tried again while a Unix listener's accept queue is full.
pub const QUEUE_RETRY: Duration = Duration::from_millis(10);

/// Room for one read and one request, shared by all dials of a loop.
pub struct Scratch {
    input: Box<[u8]>,
    output: Vec<u8>,
    /// A password for the dial that begins next.
    pub secret: Option<Box<str>>,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            // One more than the bound, so that one read tells "longer".
            input: vec![0; PROBE_READ_BYTES + 1].into_boxed_slice(),
            output: Vec::with_capacity(256),
            secret: None,
        }
    }
}

/// A check that came to its end.
#[derive(Debug)]
pub struct Finished {
    pub check: CheckId,
    pub report: Report,
    /// The connection, for this probe's next check.
    pub kept: Option<Kept>,
    /// No address could be connected to: what was resolved may be out of date.
    pub forget_name: bool,
}

/// An idle connection of a probe with `keep_alive`. It stays registered under its token. When an
/// event comes for it and [`Kept::is_usable`] says no, drop it.
#[derive(Debug)]
pub struct Kept {
    socket: OwnedFd,
    token: Token,
    interest: Interest,
    /// Whose it is: another probe, or the same one changed, must not get it.
    definition: Rc<Definition>,
    probe: u16,
}

impl Kept {
    pub fn token(&self) -> Token {
        self.token
    }

    /// False once the server has closed it or said something unasked.
    pub fn is_usable(&self) -> bool {
        socket::is_quiet(&self.socket)
    }

    fn fits(&self, definition: &Rc<Definition>, probe: u16) -> bool {
        let same = Rc::ptr_eq(&self.definition, definition) && self.probe == probe;
        let ours = self.definition.probes.get(self.probe as usize);
        let theirs = definition.probes.get(probe as usize);
        same || ours.map(|p| &p.ask) == theirs.map(|p| &p.ask)
    }
}

/// One check under way.
#[derive(Debug)]
pub struct Dial {
    check: CheckId,
    definition: Rc<Definition>,
    resolved: Resolved,
    dialogue: Dialogue,
    token: Token,
    stage: Stage,
    socket: Option<OwnedFd>,
    /// What the socket is registered for.
    interest: Option<Interest>,
    /// The address being tried.
    address: usize,
    sent: usize,
    /// The connection is one that was kept.
    reused: bool,
    /// Why connecting failed, the most telling so far.
    unconnected: Option<Fault>,
    /// Writing failed; what the service said before is still read.
    broken: Option<Fault>,
    started: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// No socket yet, or none any more.
    Open,
    /// The accept queue is full.
    Queued,
    Connecting,
    Writing,
    Reading,
}

enum Turn {
    On,
    Wait,
    End(Outcome),
}

impl Dial {
    /// Connects and asks. `Err` is the good case too: what is known at once needs no waiting.
    ///
    /// `check.probe` is the index into `definition.probes`. `resolved` is from
    /// [`crate::reactor::resolve::Names::get`]. The socket is registered under `token`; a `kept` one
    /// that has the same token is not registered again.
    pub fn begin(
        check: CheckId,
        definition: &Rc<Definition>,
        resolved: Resolved,
        kept: Option<Kept>,
        token: Token,
        registry: &Registry,
        scratch: &mut Scratch,
    ) -> Result<Dial, Box<Finished>> {
        let probe = definition.probes.get(check.probe as usize);
        let secret = scratch.secret.take();
        let Some(mut dialogue) = probe.and_then(|p| Dialogue::new(&p.ask)) else {
            let what = "this probe is not asked over a socket".into();
            return Err(Box::new(Finished {
                check,
                report: Report {
                    outcome: Outcome::Inconclusive(Trouble::Internal(what)),
                    latency: Duration::ZERO,
                    output: "".into(),
                },
                kept: None,
                forget_name: false,
            }));
        };
        if let Some(secret) = secret {
            dialogue.set_secret(&secret);
        }
        let mut dial = Dial {
            check,
            definition: definition.clone(),
            resolved,
            dialogue,
            token,
            stage: Stage::Open,
            socket: None,
            interest: None,
            address: 0,
            sent: 0,
            reused: false,
            unconnected: None,
            broken: None,
            started: Instant::now(),
        };
        if let Some(kept) = kept.filter(|kept| kept.fits(definition, check.probe)) {
            dial.interest = Some(kept.interest);
            dial.socket = Some(kept.socket);
            dial.stage = Stage::Writing;
            dial.reused = true;
            if kept.token != token && dial.watch(registry, kept.interest, true).is_err() {
                dial.hang_up(false);
                dial.reused = false;
            }
        }
        match dial.drive(registry, scratch, false) {
            Some(finished) => Err(finished),
            None => Ok(dial),
        }
    }

    pub fn check(&self) -> CheckId {
        self.check
    }

    pub fn token(&self) -> Token {
        self.token
    }

    /// The socket is ready, for whatever; also harmless when it is not.
    pub fn ready(&mut self, registry: &Registry, scratch: &mut Scratch) -> Option<Box<Finished>> {
        self.drive(registry, scratch, true)
    }

    /// Some: no event will come; call [`Dial::retry`] after this time.
    pub fn wants_retry(&self) -> Option<Duration> {
        (self.stage == Stage::Queued).then_some(QUEUE_RETRY)
    }

    /// Tries again what [`Dial::wants_retry`] waits for.
    pub fn retry(&mut self, registry: &Registry, scratch: &mut Scratch) -> Option<Box<Finished>> {
        self.drive(registry, scratch, false)
    }

    /// The check's time is up.
    pub fn expired(mut self) -> Box<Finished> {
        let outcome = match self.stage {
            Stage::Queued => Outcome::Fail(Reason::QueueFull),
            stage if matches!(self.dialogue, Dialogue::Session(_)) => {
                Outcome::Fail(Reason::TimeoutAt(
                    match stage {
                        Stage::Open | Stage::Queued | Stage::Connecting => "no connection",
                        Stage::Writing => "connected, the question was not taken",
                        Stage::Reading if self.dialogue.is_untouched() => "connected, no answer",
                        Stage::Reading => "the answer is not whole",
                    }
                    .into(),
                ))
            }
            _ => self.dialogue.on_expired(),
        };
        self.hang_up(true);
        self.finished(outcome, None)
    }

    fn ask(definition: &Definition, probe: u16) -> &Ask {
        // Looked up once at the beginning; the definition never changes behind its Rc.
        &definition.probes[probe as usize].ask
    }

    fn drive(
        &mut self,
        registry: &Registry,
        scratch: &mut Scratch,
        woken: bool,
    ) -> Option<Box<Finished>> {
        loop {
            let turn = match self.stage {
                Stage::Open => self.open(),
                Stage::Queued => self.connect(),
                Stage::Connecting | Stage::Writing => self.write(registry, scratch, woken),
                Stage::Reading => self.read(registry, scratch, woken),
            };
            match turn {
                Turn::On => {}
                Turn::Wait => return None,
                Turn::End(outcome) if self.was_stale(&outcome) => {
                    self.hang_up(false);
                    self.reused = false;
                    if let Some(fresh) =
                        Dialogue::new(Dial::ask(&self.definition, self.check.probe))
                    {
                        self.dialogue = fresh;
                    }
                }
                Turn::End(outcome) => return Some(self.end(outcome, registry)),
            }
        }
    }

    /// The peer at `self.address`; None when all were tried.
    fn peer(&self) -> Option<Result<Peer, Fault>> {
        match Dial::ask(&self.definition, self.check.probe) {
            Ask::Http(http) => self.peer_at(&http.address),
            Ask::Tcp { address, .. } => self.peer_at(address),
            Ask::Unix { path, .. } => self.peer_of(path),
            Ask::Server(server) => self.peer_at(&server.address),
            Ask::Https(_) | Ask::Exec { .. } | Ask::Look(_) => None,
        }
    }

    fn peer_at(&self, address: &Address) -> Option<Result<Peer, Fault>> {
        match address {
            Address::Tcp { .. } => Some(Ok(Peer::inet(self.resolved.get(self.address)?))),
            Address::Unix { path } => self.peer_of(path),
        }
    }

    fn peer_of(&self, path: &str) -> Option<Result<Peer, Fault>> {
        (self.address == 0).then(|| Peer::unix(path))
    }

    fn open(&mut self) -> Turn {
        let Some(peer) = self.peer() else {
            let none = || Fault::Ours(Trouble::Internal("no address to connect to".into()));
            let fault = self.unconnected.clone().unwrap_or_else(none);
            return Turn::End(self.dialogue.on_fault(fault));
        };
        match peer.and_then(|peer| peer.socket()) {
            Ok(socket) => {
                self.socket = Some(socket);
                self.interest = None;
                self.sent = 0;
                self.broken = None;
                self.connect()
            }
            Err(fault) => Turn::End(self.dialogue.on_fault(fault)),
        }
    }

    fn connect(&mut self) -> Turn {
        let (Some(Ok(peer)), Some(socket)) = (self.peer(), &self.socket) else {
            return self.unreached(Fault::Reset);
        };
        self.stage = match peer.connect(socket) {
            Ok(Connected::Yes) => Stage::Writing,
            Ok(Connected::Pending) => Stage::Connecting,
            Ok(Connected::QueueFull) => {
                self.stage = Stage::Queued;
                return Turn::Wait;
            }
            Err(fault) => return self.unreached(fault),
        };
        Turn::On
    }

    /// This address did not answer: on to the next.
    fn unreached(&mut self, fault: Fault) -> Turn {
        // A refusal says more than "no route", which says more than "no such family here".
        let telling = |f: &Option<Fault>| match f {
            None => 0,
            Some(Fault::Ours(_)) => 1,
            Some(Fault::Unreachable) => 2,
            Some(_) => 3,
        };
        let fault = Some(fault);
        if telling(&fault) > telling(&self.unconnected) {
            self.unconnected = fault;
        }
        self.hang_up(false);
        self.address += 1;
        Turn::On
    }

    /// Writes; a connect under way is decided by it too: the kernel answers EAGAIN while it is,
    /// and what became of it when it failed. On loopback the peer's answer to the SYN is worked off
    /// as connect(2) returns, so that this first write finds the connection standing.
    fn write(&mut self, registry: &Registry, scratch: &mut Scratch, woken: bool) -> Turn {
        let ask = Dial::ask(&self.definition, self.check.probe);
        scratch.output.clear();
        self.dialogue.request(ask, &mut scratch.output);
        if scratch.output.is_empty() && self.stage == Stage::Connecting {
            let Some(socket) = &self.socket else {
                return self.unreached(Fault::Reset);
            };
            match self
                .peer()
                .map_or(Ok(Connected::Yes), |peer| peer?.connect(socket))
            {
                Ok(Connected::Yes) => {}
                Ok(_) => return self.wait(registry, Interest::READABLE | Interest::WRITABLE),
                Err(fault) => return self.unreached(fault),
            }
        }
        if Dialogue::connect_is_enough(ask) {
            return Turn::End(Outcome::Pass);
        }
        while self.sent < scratch.output.len() {
            let Some(socket) = &self.socket else {
                return self.unreached(Fault::Reset);
            };
            match socket::send(socket, &scratch.output[self.sent..]) {
                Ok(Some(n)) => {
                    self.sent += n;
                    self.stage = Stage::Writing;
                }
                Ok(None) => {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    return match self.wait(registry, both) {
                        // Some answer before they have read it all.
                        Turn::Wait if woken && self.stage == Stage::Writing => {
                            self.read(registry, scratch, woken)
                        }
                        turn => turn,
                    };
                }
                Err(fault @ Fault::Ours(_)) => return Turn::End(fault.outcome()),
                Err(fault) if self.stage == Stage::Connecting => return self.unreached(fault),
                Err(fault) => {
                    self.broken = Some(fault);
                    break;
                }
            }
        }
        self.stage = Stage::Reading;
        Turn::On
    }

    fn read(&mut self, registry: &Registry, scratch: &mut Scratch, woken: bool) -> Turn {
        if !woken && self.broken.is_none() {
            return self.wait(registry, Interest::READABLE);
        }
        let ask = Dial::ask(&self.definition, self.check.probe);
        let Some(socket) = &self.socket else {
            return Turn::End(self.dialogue.on_eof(ask));
        };
        let mut enough = None;
        loop {
            let got = match socket::receive(socket, &mut scratch.input) {
                Ok(Some(0)) => Err(self.broken.take()),
                Ok(Some(n)) => Ok(n),
                Ok(None) if enough.is_none() && self.broken.is_none() => {
                    return self.wait(registry, Interest::READABLE);
                }
                Ok(None) => Err(self.broken.take()),
                Err(fault) => Err(Some(fault)),
            };
            let n = match (got, enough) {
                (Ok(n), _) => n,
                (Err(_), Some(outcome)) => return Turn::End(outcome),
                (Err(Some(fault)), None) => return Turn::End(self.dialogue.on_fault(fault)),
                (Err(None), None) => return Turn::End(self.dialogue.on_eof(ask)),
            };
            match self.dialogue.on_bytes(ask, &scratch.input[..n]) {
                Step::More => enough = None,
                Step::Enough(outcome) => enough = Some(outcome),
                Step::Done(outcome) => return Turn::End(outcome),
                Step::Again => {
                    self.hang_up(true);
                    self.reused = false;
                    return Turn::On;
                }
            }
        }
    }

    /// A kept connection that the server gave up meanwhile says nothing of the service; nor does
    /// 408, which some servers send when they tire of an idle one (RFC 9110 §15.5.9).
    fn was_stale(&self, outcome: &Outcome) -> bool {
        self.reused
            && match outcome {
                Outcome::Fail(Reason::EmptyReply | Reason::Reset) => self.dialogue.is_untouched(),
                Outcome::Fail(Reason::Status(408)) => true,
                _ => false,
            }
    }

    fn end(&mut self, outcome: Outcome, registry: &Registry) -> Box<Finished> {
        let ask = Dial::ask(&self.definition, self.check.probe);
        let wanted = matches!(ask, Ask::Http(http) if http.keep_alive);
        // An answer that was there at once may have been read before the socket was registered.
        let keep = wanted
            && self.dialogue.may_be_reused()
            && self.watch(registry, Interest::READABLE, false).is_ok();
        let kept = match (keep, self.interest) {
            (true, Some(interest)) => self.socket.take().map(|socket| Kept {
                socket,
                token: self.token,
                interest,
                definition: self.definition.clone(),
                probe: self.check.probe,
            }),
            _ => None,
        };
        self.hang_up(matches!(self.dialogue, Dialogue::Http(_)));
        self.finished(outcome, kept)
    }

    fn finished(&mut self, outcome: Outcome, kept: Option<Kept>) -> Box<Finished> {
        Box::new(Finished {
            check: self.check,
            report: Report {
                outcome,
                latency: self.started.elapsed(),
                output: self.dialogue.output(),
            },
            kept,
            forget_name: self.unconnected.is_some() && self.peer().is_none(),
        })
    }

    /// Closes the connection, back to `Open`.
    fn hang_up(&mut self, abort: bool) {
        let tcp = !matches!(self.resolved, Resolved::Nothing);
        if let Some(socket) = self.socket.take().filter(|_| abort && tcp) {
            socket::abort_on_close(&socket);
        }
        self.interest = None;
        self.stage = Stage::Open;
    }

    fn wait(&mut self, registry: &Registry, interest: Interest) -> Turn {
        match self.watch(registry, interest, false) {
            Ok(()) => Turn::Wait,
            Err(fault) => Turn::End(fault.outcome()),
        }
    }

    /// Registers for at least this, once. `moved`: under another token than before.
    fn watch(&mut self, registry: &Registry, interest: Interest, moved: bool) -> Result<(), Fault> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let wanted = self.interest.map_or(interest, |before| before | interest);
        if self.interest != Some(wanted) || moved {
            socket::watch(registry, socket, self.token, wanted, self.interest)?;
            self.interest = Some(wanted);
        }
        Ok(())
    }
}

/// What an errno says of a service, for those who open their own sockets.
pub fn fault_of(errno: i32, call: &str) -> Fault {
    socket::fault(nix::errno::Errno::from_raw(errno), call)
}
