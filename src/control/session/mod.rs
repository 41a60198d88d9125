//! One client's conversation: bytes in, bytes out, errands for the loop.
//!
//! It holds no socket and reads no clock. Queries are answered at once; commands become
//! [`Errand`]s whose answers come back by [`Ticket`]. Lines are taken in order. A line of words
//! waits for its answer before the next line is looked at, because words have no ids; JSON
//! requests wait side by side.
//!
//! Invariants: every complete line gets exactly one answer, a notification none; a batch is
//! answered as one array when its last answer is there; input, output, waiting requests and
//! followed logs are bounded, and a client that exceeds the output's bound is cut.

mod answers;
mod carry;
mod serve;
#[cfg(test)]
mod tests;

pub use carry::{Carried, Text};

use super::House;
use super::access::Access;
use super::calls::{DossiersAsked, LogsAsked, Simulation};
use super::power::Ending;
use super::rpc::NULL_ID;
use super::stream::{Follow, Subscription, Tongue};
use crate::engine::event::{Request, Terms};
use crate::id::Ticket;
use crate::limits;
use crate::time::Wall;

/// What a turn of the loop offers to those who are served in it.
pub struct Desk<'a> {
    pub house: &'a dyn House,
    pub wall: Wall,
}

/// What a client's line asks of the loop. Each is answered through its ticket.
#[derive(Clone, PartialEq, Debug)]
pub enum Errand {
    /// For the engine; [`Session::answer`].
    Request(Request),
    /// Read the definitions and hand them to the engine; [`Session::answer`].
    Reload { ticket: Ticket, terms: Terms },
    /// Execute another program in our place; [`Session::answer`].
    Upgrade {
        ticket: Ticket,
        program: Option<Box<str>>,
        by: Box<str>,
        force: bool,
    },
    /// Stop all services, then end the machine; [`Session::answer`].
    End {
        ticket: Ticket,
        ending: Ending,
        by: Box<str>,
    },
    /// Have a policy simulated; [`Session::told`].
    Simulate {
        ticket: Ticket,
        asked: Box<Simulation>,
    },
    /// Look for dossiers; [`Session::told`].
    Dossiers {
        ticket: Ticket,
        asked: Box<DossiersAsked>,
    },
    /// The last log lines; [`Session::logs`]. With `follow` all that comes after them goes to
    /// [`Session::log_lines`] as long as [`Session::follows`] says so.
    Logs {
        ticket: Ticket,
        asked: Box<LogsAsked>,
    },
}

/// What a line costs of a turn's budget, beside the bytes that it is answered with.
const LINE_COST: usize = 512;

/// Where an answer goes.
#[derive(Clone)]
enum To {
    /// It was a notification.
    Nobody,
    Words,
    Rpc {
        id: Box<str>,
    },
    Batch {
        batch: u32,
        id: Box<str>,
    },
}

struct Pending {
    ticket: Ticket,
    to: To,
    logs: Option<Box<LogsAsked>>,
}

/// A batch of which some answers are still to come.
struct Batch {
    serial: u32,
    /// The answers so far, with commas between.
    parts: Vec<u8>,
    waiting: usize,
}

pub struct Session {
    client: u32,
    /// For tickets and batches.
    serial: u32,
    access: Access,
    actor: Box<str>,
    input: Vec<u8>,
    /// Bytes of `input` that are known to hold no line end.
    scanned: usize,
    output: Vec<u8>,
    /// Bytes of `output` that are already sent.
    sent: usize,
    pending: Vec<Pending>,
    batches: Vec<Batch>,
    /// A line of words waits for its answer.
    words_wait: bool,
    /// A line of words that streams; the next line ends it.
    words_stream: bool,
    subscription: Option<Subscription>,
    follows: Vec<Follow>,
    /// It asked the execution before for the upgrade to this one.
    upgrade: Option<Ticket>,
    /// The peer sends no more.
    ended: bool,
    /// The peer takes no more.
    gone: bool,
    /// We take no more: close when all is sent.
    closing: bool,
    cut: Option<&'static str>,
}

impl Session {
    /// It may do something else from now on.
    pub fn set_access(&mut self, access: Access) {
        self.access = access;
    }

    /// `client` comes back as the upper half of its tickets ([`client_of`]); `actor` is who is
    /// recorded: `root`, `uid 1000`.
    pub fn new(client: u32, access: Access, actor: Box<str>) -> Session {
        Session {
            client,
            serial: 0,
            access,
            actor,
            input: Vec::new(),
            scanned: 0,
            output: Vec::new(),
            sent: 0,
            pending: Vec::new(),
            batches: Vec::new(),
            words_wait: false,
            words_stream: false,
            subscription: None,
            follows: Vec::new(),
            upgrade: None,
            ended: false,
            gone: false,
            closing: false,
            cut: None,
        }
    }

    /// Bytes from the peer. [`work`](Session::work) does something with them.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.closing && self.cut.is_none() {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The peer's half-close: what was asked is still answered.
    pub fn end_of_input(&mut self) {
        self.ended = true;
    }

    /// Nobody reads any more: what was asked is still done, answers are dropped.
    pub fn hang_up(&mut self) {
        self.gone = true;
        self.drop_output();
    }

    /// Serves the lines that are complete, as long as the budget of this turn lasts. Call it
    /// after `feed`, `end_of_input`, `answer`, `logs` and `consume`.
    pub fn work(&mut self, desk: &Desk<'_>, errands: &mut Vec<Errand>, budget: &mut usize) {
        let input = std::mem::take(&mut self.input);
        let mut from = 0;
        let mut scanned = self.scanned;
        while *budget > 0 && self.willing() {
            let Some(length) = input[scanned..].iter().position(|byte| *byte == b'\n') else {
                scanned = input.len();
                break;
            };
            let end = scanned + length;
            let before = self.backlog();
            self.line(&input[from..end], desk, errands);
            let cost = self.backlog().saturating_sub(before) + LINE_COST;
            *budget = budget.saturating_sub(cost);
            (from, scanned) = (end + 1, end + 1);
        }
        self.keep(input, from, scanned);
        if self.willing() && self.scanned == self.input.len() {
            self.judge_rest();
        }
    }

    /// Puts back what was not used up.
    fn keep(&mut self, mut input: Vec<u8>, from: usize, scanned: usize) {
        input.drain(..from);
        self.scanned = scanned - from;
        if input.is_empty() && input.capacity() > 4 * 1024 {
            input = Vec::new();
        }
        if self.closing || self.cut.is_some() {
            (input, self.scanned) = (Vec::new(), 0);
        }
        self.input = input;
    }

    /// The beginning of a line whose end is not here: is it too long, or will it never end?
    fn judge_rest(&mut self) {
        if self.input.len() > limits::MAX_LINE {
            self.too_long();
        } else if self.ended && !self.input.is_empty() {
            let rest = std::mem::take(&mut self.input);
            self.scanned = 0;
            if !rest.trim_ascii().is_empty() {
                self.refuse_line(&rest, "the line has no line end; nothing was done");
            }
        }
    }

    fn too_long(&mut self) {
        let input = std::mem::take(&mut self.input);
        self.scanned = 0;
        self.refuse_line(
            &input,
            &format!("a line may have {} bytes", limits::MAX_LINE),
        );
        self.closing = true;
    }

    fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    fn next_ticket(&mut self) -> Ticket {
        let serial = self.next_serial();
        Ticket(u64::from(self.client) << 32 | u64::from(serial))
    }

    /// Bytes that wait to be sent.
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// That many of them were sent.
    pub fn consume(&mut self, bytes: usize) {
        self.sent = self.output.len().min(self.sent + bytes);
        if self.sent == self.output.len() {
            self.sent = 0;
            self.output.clear();
            self.output.shrink_to(4 * 1024);
        }
    }

    /// All that is held for this client, unfinished batches included.
    fn backlog(&self) -> usize {
        let parts: usize = self.batches.iter().map(|batch| batch.parts.len()).sum();
        self.output.len() - self.sent + parts
    }

    /// May the next line be served?
    fn willing(&self) -> bool {
        !self.closing
            && self.cut.is_none()
            && !self.words_wait
            && self.pending.len() < limits::MAX_PENDING_PER_CLIENT
            && self.backlog() < limits::CLIENT_BACKLOG
    }

    /// Shall more be read from the peer?
    pub fn wants_input(&self) -> bool {
        // What comes after an error that closes is read and thrown away, so that the peer is
        // not stuck writing when it should read why.
        !self.ended && (self.closing || (self.willing() && self.input.len() <= limits::MAX_LINE))
    }

    /// Could [`work`](Session::work) go on at once?
    pub fn has_work(&self) -> bool {
        self.willing() && !self.input.is_empty() && (self.scanned < self.input.len() || self.ended)
    }

    /// Does it wait for something of ours, or listen? Then it is not idle.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || self.subscription.is_some() || !self.follows.is_empty()
    }

    /// Is all said? Then close.
    pub fn is_finished(&self) -> bool {
        if self.cut.is_some() {
            return true;
        }
        let all_taken = self.ended && self.input.is_empty();
        if self.gone {
            return (all_taken && !self.words_wait) || self.closing;
        }
        self.output().is_empty() && (self.closing || (all_taken && !self.is_waiting()))
    }

    /// Why it is cut off, if it is.
    pub fn cut(&self) -> Option<&'static str> {
        self.cut
    }
}

/// Which client a ticket belongs to.
pub fn client_of(ticket: Ticket) -> u32 {
    (ticket.0 >> 32) as u32
}

fn rpc_null() -> To {
    To::Rpc { id: NULL_ID.into() }
}

fn tongue_of(line: &[u8]) -> Tongue {
    match line.trim_ascii_start().first() {
        Some(b'{' | b'[') => Tongue::Json,
        _ => Tongue::Words,
    }
}
