//! One connection to the daemon: a call out, its answer and notifications in.

use crate::id::Pid;
use crate::reactor::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `No such file or directory (2)`
pub fn cause(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{} ({number})", Errno::from_raw(number).desc()),
        None => error.to_string(),
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble {
    /// Nobody answers on the socket.
    NoDaemon(String),
    /// The daemon's own error: JSON-RPC code and message.
    Refused { code: i32, message: String },
    /// It went away before it answered.
    Closed,
    /// Anything else, in words.
    Other(String),
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<ErrorObject>,
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i32,
    message: String,
}

pub struct Connection {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
    deadline: Option<Instant>,
}

impl Connection {
    /// Connects; answers are waited for no longer than `timeout` in all.
    pub fn open(socket: &Path, timeout: Option<Duration>) -> Result<Connection, Trouble> {
        let shown = socket.display();
        let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Trouble::NoDaemon(format!(
                "no daemon: there is no socket {shown}; start one with `vitald run`, or name its \
                 socket with --socket or VITALD_SOCKET"
            )),
            ErrorKind::ConnectionRefused => Trouble::NoDaemon(format!(
                "no daemon answers on {shown}: {}; it ended without removing its socket; start it \
                 again with `vitald run`",
                cause(&error)
            )),
            ErrorKind::PermissionDenied => Trouble::Other(format!(
                "cannot connect to {shown}: {}; ask as root, or as a member of a group that \
                 vitald.toml gives access",
                cause(&error)
            )),
            _ => Trouble::Other(format!("cannot connect to {shown}: {}", cause(&error))),
        })?;
        Ok(Connection {
            socket: socket.to_owned(),
            stream: BufReader::new(stream),
            deadline: timeout.map(|timeout| Instant::now() + timeout),
        })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a call and waits for its answer's `result`.
    pub fn call(&mut self, method: &str, params: &str) -> Result<String, Trouble> {
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{params},\"id\":1}}\n"
        );
        // A daemon that has no room says so and closes: read that even when writing fails.
        let sent = self.stream.get_mut().write_all(line.as_bytes());
        loop {
            let line = match (self.line(), &sent) {
                (Ok(line), _) => line,
                (Err(Trouble::Closed), Err(error)) => {
                    let shown = self.socket.display();
                    let cause = cause(error);
                    return Err(Trouble::Other(format!("cannot write to {shown}: {cause}")));
                }
                (Err(trouble), _) => return Err(trouble),
            };
            let read: Line<'_> = match serde_json::from_slice(line.as_bytes()) {
                Ok(read) => read,
                Err(_) => {
                    let words = line.trim_end();
                    let words = words.strip_prefix("error: ").unwrap_or(words);
                    return Err(Trouble::Other(words.to_owned()));
                }
            };
            if let Some(ErrorObject { code, message }) = read.error {
                return Err(Trouble::Refused { code, message });
            }
            if let Some(result) = read.result {
                return Ok(result.get().to_owned());
            }
        }
    }

    /// Waits until the daemon at the other end has ended. One that cannot be seen from here, in
    /// another pid namespace, has ended when it closes the connection.
    pub fn ended(mut self, daemon: Option<OwnedFd>) -> Result<(), Trouble> {
        loop {
            match self.notification() {
                Ok(_) => {}
                Err(Trouble::Closed) => break,
                Err(trouble) => return Err(trouble),
            }
        }
        if let Some(daemon) = daemon {
            let mut ends = [PollFd::new(daemon.as_fd(), PollFlags::POLLIN)];
            while poll(&mut ends, PollTimeout::NONE) == Err(Errno::EINTR) {}
        }
        Ok(())
    }

    /// The daemon's process, to be waited for. It must still live, so ask before it is told to end.
    pub fn daemon(&self) -> Option<OwnedFd> {
        let peer = getsockopt(self.stream.get_ref(), PeerCredentials).ok()?;
        let pid = (peer.pid() > 0).then_some(Pid(peer.pid()))?;
        sys::pidfd_open(pid).ok()
    }

    /// Waits for the next notification; its method and params.
    pub fn notification(&mut self) -> Result<(String, String), Trouble> {
        loop {
            let line = self.line()?;
            let read: Line<'_> = serde_json::from_slice(line.as_bytes())
                .map_err(|error| Trouble::Other(format!("the daemon sent no JSON: {error}")))?;
            if let (Some(method), Some(params)) = (read.method, read.params) {
                return Ok((method.to_owned(), params.get().to_owned()));
            }
        }
    }

    fn line(&mut self) -> Result<String, Trouble> {
        let mut line = Vec::new();
        loop {
            if let Some(deadline) = self.deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                // Zero would mean "for ever".
                let left = left.max(Duration::from_millis(1));
                if let Err(error) = self.stream.get_ref().set_read_timeout(Some(left)) {
                    return Err(self.failed(&error));
                }
            }
            match self.stream.read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => {
                    return String::from_utf8(line)
                        .map_err(|_| Trouble::Other("the daemon sent no UTF-8".to_owned()));
                }
                Ok(_) => return Err(Trouble::Closed),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(Trouble::Closed);
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    fn failed(&self, error: &io::Error) -> Trouble {
        let shown = self.socket.display();
        Trouble::Other(match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!(
                "no answer on {shown} in time; what was asked may still be done; wait longer with \
                 --timeout, or see `vitald info`"
            ),
            _ => format!("cannot read from {shown}: {}", cause(error)),
        })
    }
}
