//! What a service says of itself on its notify socket: one datagram in, its assignments out.
//!
//! The protocol is sd_notify(3)'s: lines of `NAME=value`. Not here: who may say it (the reactor asks
//! the kernel who sent it), and what follows (the engine).
//!
//! Invariants: nothing a sender writes is an error of ours; what is not known is passed over, what
//! is known and cannot be used is counted; text that is kept is short and without control
//! characters.

use crate::id::Pid;
use crate::limits;
use std::time::Duration;

/// One thing a run says, as the engine is told it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// `READY=1`, or a newline on its notification descriptor. Ends `Reloading` as well.
    Ready,
    /// `RELOADING=1`.
    Reloading,
    /// `STOPPING=1`.
    Stopping,
    /// `STATUS=`: a line for people.
    Status(Box<str>),
    /// `ERRNO=`: why it fails.
    Errno(i32),
    /// `WATCHDOG=1`: it is well.
    Watchdog,
    /// `WATCHDOG=trigger`: it is not, and says so.
    Trigger,
    /// `WATCHDOG_USEC=`: another period for the rest of this run; zero: none.
    Period(Duration),
    /// `EXTEND_TIMEOUT_USEC=`: its start or stop takes so much longer, from now.
    Extend(Duration),
    /// `MAINPID=`, checked: another process is its main one now. Start time as /proc has it.
    Main { pid: Pid, started: u64 },
}

/// One datagram, understood.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// In the order in which they stood.
    pub notices: Vec<Notice>,
    /// `MAINPID=`, as it was claimed.
    pub main: Option<Pid>,
    /// `FDSTORE=1`: keep the descriptors that came along.
    pub store: bool,
    /// `FDSTOREREMOVE=1`: drop those of this name.
    pub remove: bool,
    /// `FDNAME=`.
    pub name: Option<Box<str>>,
    /// Not `FDPOLL=0`: drop a descriptor when its other side has hung up.
    pub poll: bool,
    /// `BARRIER=1`: the descriptor that came along is closed when all before was handled.
    pub barrier: bool,
    /// Assignments that are known, with a value that cannot be used.
    pub bad: u32,
}

/// What a descriptor is called that came without a name (sd_pid_notify_with_fds(3)).
pub const STORED: &str = "stored";
/// The longest `FDNAME=`.
const NAME_BYTES: usize = 255;
/// A timeout that is meant to be none is no duration: a year, as long as any key takes.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads a datagram. A value that is no UTF-8 is bad; a line without `=` is passed over.
pub fn parse(bytes: &[u8]) -> Message {
    let mut message = Message {
        poll: true,
        ..Message::default()
    };
    // A last byte that closes a C string is not the message's.
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let lines = bytes.split(|byte| *byte == b'\n');
    for line in lines.take(limits::NOTIFY_ASSIGNMENTS) {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (name, value) = (&line[..at], &line[at + 1..]);
        let value = std::str::from_utf8(value).ok();
        if message.assign(name, value).is_none() {
            message.bad += 1;
        }
    }
    message
}

impl Message {
    /// None: a value that cannot be used.
    fn assign(&mut self, name: &[u8], value: Option<&str>) -> Option<()> {
        let notice = match name {
            b"READY" => is_one(value?)?.then_some(Notice::Ready),
            b"RELOADING" => is_one(value?)?.then_some(Notice::Reloading),
            b"STOPPING" => is_one(value?)?.then_some(Notice::Stopping),
            b"STATUS" => Some(Notice::Status(shown(value?))),
            b"ERRNO" => {
                let errno = value?
                    .parse()
                    .ok()
                    .filter(|errno| (0..4096).contains(errno));
                Some(Notice::Errno(errno?))
            }
            b"WATCHDOG" => match value? {
                "1" => Some(Notice::Watchdog),
                "trigger" => Some(Notice::Trigger),
                _ => return None,
            },
            b"WATCHDOG_USEC" => Some(Notice::Period(usec(value?)?)),
            b"EXTEND_TIMEOUT_USEC" => Some(Notice::Extend(usec(value?)?)),
            b"MAINPID" => {
                let pid = value?.parse().ok().filter(|pid| *pid > 1);
                self.main = Some(Pid(pid?));
                None
            }
            b"FDSTORE" => {
                self.store |= is_one(value?)?;
                None
            }
            b"FDSTOREREMOVE" => {
                self.remove |= is_one(value?)?;
                None
            }
            b"FDNAME" => {
                self.name = Some(fd_name(value?)?.into());
                None
            }
            b"FDPOLL" => {
                self.poll = is_one(value?)?;
                None
            }
            b"BARRIER" => {
                self.barrier |= is_one(value?)?;
                None
            }
            // BUSERROR, MONOTONIC_USEC (whoever says RELOADING=1 says it now), X_… and all to come.
            _ => None,
        };
        self.notices.extend(notice);
        Some(())
    }
}

fn is_one(value: &str) -> Option<bool> {
    match value {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

fn usec(value: &str) -> Option<Duration> {
    let usec = value.parse().ok()?;
    Some(Duration::from_micros(usec).min(LONGEST))
}

/// It stands in LISTEN_FDNAMES, between colons.
fn fd_name(value: &str) -> Option<&str> {
    let fits = !value.is_empty() && value.len() <= NAME_BYTES;
    let plain = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b':';
    (fits && value.bytes().all(plain)).then_some(value)
}

fn shown(value: &str) -> Box<str> {
    let mut end = value.len().min(limits::STATUS_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = value[..end].chars().map(plain).collect();
    text.trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_understood() {
        let message = parse(b"READY=1\nSTATUS=up \x1b[1m\nMAINPID=42\nX_OWN=1\nnonsense\nERRNO=2");
        let status = Notice::Status("up  [1m".into());
        assert_eq!(message.notices, [Notice::Ready, status, Notice::Errno(2)]);
        assert_eq!((message.main, message.bad), (Some(Pid(42)), 0));
        let message = parse(b"FDSTORE=1\nFDNAME=a b\nFDPOLL=0\nBARRIER=1");
        assert!(message.store && !message.poll && message.barrier && !message.remove);
        assert_eq!(message.name.as_deref(), Some("a b"));
        let message = parse(b"WATCHDOG=1\nWATCHDOG=trigger\nWATCHDOG_USEC=0\nRELOADING=1");
        assert_eq!(
            message.notices,
            [
                Notice::Watchdog,
                Notice::Trigger,
                Notice::Period(Duration::ZERO),
                Notice::Reloading,
            ]
        );
        let message = parse(b"EXTEND_TIMEOUT_USEC=18446744073709551615\nREADY=0\n");
        assert_eq!(message.notices, [Notice::Extend(LONGEST)]);
    }

    #[test]
    fn what_cannot_be_used_is_counted() {
        for bad in [
            &b"READY=yes"[..],
            b"READY=",
            b"STATUS=\xff",
            b"MAINPID=1",
            b"MAINPID=-5",
            b"MAINPID=99999999999",
            b"WATCHDOG=2",
            b"WATCHDOG_USEC=soon",
            b"FDNAME=a:b",
            b"FDNAME=",
            b"ERRNO=-1",
        ] {
            let message = parse(bad);
            assert!(message.notices.is_empty() && message.bad == 1, "{bad:?}");
        }
        assert_eq!(parse(&[b'\n'; 4096]).bad, 0);
        let many = "READY=1\n".repeat(1000);
        let notices = parse(many.as_bytes()).notices.len();
        assert_eq!(notices, limits::NOTIFY_ASSIGNMENTS);
        let long = format!("STATUS={}", "\u{e9}".repeat(1000));
        let [Notice::Status(text)] = &parse(long.as_bytes()).notices[..] else {
            panic!("no status");
        };
        assert_eq!(text.len(), limits::STATUS_BYTES);
    }
}
