//! Lines to syslog: a datagram each to where it listens, in the form of RFC 3164 as syslog(3) sends
//! it: `<30>Nov 29 06:58:12 web: text`, local time, no host's name.
//!
//! Runs in the scribe, and never waits: what syslog does not take at once is dropped and counted,
//! and said when it takes messages again. Invariant: of a service that was not heard the number of
//! its lines is told before its next one.

use super::frame::LogHead;
use crate::config::Severity;
use crate::limits;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket,
};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

pub struct Syslog {
    path: PathBuf,
    socket: Option<OwnedFd>,
    /// Not tried again before then.
    retry_at: Option<Instant>,
    /// Lines that were not taken, by service; and how to say so.
    lost: BTreeMap<Box<str>, Lost>,
    /// What was told last: whether it takes messages, and if not why.
    told: Option<Errno>,
    tell: bool,
}

struct Lost {
    lines: u64,
    why: Errno,
    /// Facility, and tag.
    facility: u8,
    tag: Box<str>,
    /// When the last of them was read.
    wall_ms: u64,
}

impl Syslog {
    pub fn new(path: PathBuf) -> Syslog {
        Syslog {
            path,
            socket: None,
            retry_at: None,
            lost: BTreeMap::new(),
            told: None,
            tell: false,
        }
    }

    /// Sends whole lines.
    pub fn write(&mut self, head: &LogHead<'_>, lines: &[u8]) {
        if head.dropped > 0 {
            let text = format!("… {} bytes dropped: they came too fast …", head.dropped);
            self.line(head, Severity(4), text.as_bytes());
        }
        let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
        if lines.is_empty() {
            return;
        }
        for line in lines.split(|byte| *byte == b'\n') {
            let (said, text) = Severity::split(line);
            let severity = said.unwrap_or(head.style.priority);
            self.line(head, severity, text);
        }
    }

    fn line(&mut self, head: &LogHead<'_>, severity: Severity, text: &[u8]) {
        let tag = match head.style.tag {
            "" => head.service,
            tag => tag,
        };
        let facility = head.style.facility;
        let done = self.say_lost(head.service, head.wall_ms).and_then(|()| {
            let message = message(facility, severity, head.wall_ms, tag, text);
            self.send(&message)
        });
        if let Err(why) = done {
            let lost = self
                .lost
                .entry(head.service.into())
                .or_insert_with(|| Lost {
                    lines: 0,
                    why,
                    facility,
                    tag: tag.into(),
                    wall_ms: head.wall_ms,
                });
            lost.lines += 1;
            lost.wall_ms = head.wall_ms;
        }
    }

    fn say_lost(&mut self, service: &str, wall_ms: u64) -> Result<(), Errno> {
        let Some(lost) = self.lost.get(service) else {
            return Ok(());
        };
        let why = std::io::Error::from_raw_os_error(lost.why as i32);
        let text = format!(
            "… {} lines dropped: {} did not take them: {why} …",
            lost.lines,
            self.path.display(),
        );
        let message = message(
            lost.facility,
            Severity(4),
            wall_ms,
            &lost.tag,
            text.as_bytes(),
        );
        self.send(&message)?;
        self.lost.remove(service);
        Ok(())
    }

    /// When what was lost is to be said, though its service says nothing more.
    pub fn due(&self) -> Option<Instant> {
        let at = self.retry_at?;
        (!self.lost.is_empty()).then_some(at)
    }

    /// Tries that, if it is time; and whether syslog takes messages now, if that changed.
    pub fn news(&mut self) -> Option<Result<(), String>> {
        if self.due().is_some_and(|at| Instant::now() >= at) {
            let lost = self.lost.iter();
            let services: Vec<_> = lost
                .map(|(name, lost)| (name.clone(), lost.wall_ms))
                .collect();
            for (service, wall_ms) in services {
                if self.say_lost(&service, wall_ms).is_err() {
                    break;
                }
            }
        }
        if !std::mem::take(&mut self.tell) {
            return None;
        }
        Some(match self.told {
            None => Ok(()),
            Some(why) => {
                let why = std::io::Error::from_raw_os_error(why as i32);
                Err(format!("{}: {why}", self.path.display()))
            }
        })
    }

    fn send(&mut self, message: &[u8]) -> Result<(), Errno> {
        // A full queue is tried with every line, one that is not there is not.
        if let (Some(at), Some(why), None) = (self.retry_at, self.told, &self.socket)
            && Instant::now() < at
        {
            return Err(why);
        }
        let mut sent = self.try_send(message);
        if sent == Err(Errno::EMSGSIZE) {
            // RFC 3164, 4.1: no receiver must take more than 1024 bytes.
            sent = self.try_send(&message[..message.len().min(1024)]);
        }
        match sent {
            Ok(()) => self.retry_at = None,
            Err(why) => {
                if !matches!(why, Errno::EAGAIN | Errno::ENOBUFS) {
                    self.socket = None;
                }
                self.retry_at = Some(Instant::now() + limits::WRITE_RETRY);
            }
        }
        if self.told != sent.err() {
            self.told = sent.err();
            self.tell = true;
        }
        sent
    }

    fn try_send(&mut self, message: &[u8]) -> Result<(), Errno> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if let Some(open) = &self.socket {
            match send(open.as_raw_fd(), message, flags) {
                // It was started anew: another socket has the name.
                Err(Errno::ECONNREFUSED | Errno::ENOTCONN | Errno::ECONNRESET) => {}
                sent => return sent.map(drop),
            }
        }
        self.socket = None;
        let how = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fresh = socket(AddressFamily::Unix, SockType::Datagram, how, None)?;
        connect(fresh.as_raw_fd(), &UnixAddr::new(&self.path)?)?;
        let fresh = self.socket.insert(fresh);
        send(fresh.as_raw_fd(), message, flags).map(drop)
    }
}

/// RFC 3164, 4.1, as syslog(3) fills it in.
fn message(facility: u8, severity: Severity, wall_ms: u64, tag: &str, text: &[u8]) -> Vec<u8> {
    let priority = u16::from(facility) * 8 + u16::from(severity.0);
    let mut out = format!("<{priority}>{} {tag}: ", local_time(wall_ms)).into_bytes();
    out.extend_from_slice(text);
    out
}

/// `Nov 29 06:58:12`
fn local_time(wall_ms: u64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    // SAFETY: all zero is a time; both pointers are to values of ours; one thread.
    let now = unsafe {
        let mut broken: libc::tm = std::mem::zeroed();
        // Its type is not named: libc deprecates that name on musl.
        let seconds = (wall_ms / 1000).try_into().unwrap_or(0);
        libc::localtime_r(&seconds, &mut broken);
        broken
    };
    let month = usize::try_from(now.tm_mon).unwrap_or(0);
    format!(
        "{} {:2} {:02}:{:02}:{:02}",
        MONTHS.get(month).unwrap_or(&"Jan"),
        now.tm_mday,
        now.tm_hour,
        now.tm_min,
        now.tm_sec
    )
}
