//! The few socket calls that a probe needs, and what their errors mean (ip(7), tcp(7), unix(7)).
//!
//! Sockets are made by hand, not by `mio::net`: a Unix connect that finds the accept queue full
//! must be told from one that is under way, and one kind of socket serves both families.

use crate::probe::{Fault, Trouble};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike,
    UnixAddr, sockopt,
};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// A peer, as the kernel wants it.
pub enum Peer {
    V4(SockaddrIn),
    V6(SockaddrIn6),
    Unix(UnixAddr),
}

pub enum Connected {
    Yes,
    /// Writable when it is decided.
    Pending,
    /// A Unix listener's accept queue is full; there is no readiness to wait for.
    QueueFull,
}

impl Peer {
    pub fn inet(address: SocketAddr) -> Peer {
        match address {
            SocketAddr::V4(v4) => Peer::V4(v4.into()),
            SocketAddr::V6(v6) => Peer::V6(v6.into()),
        }
    }

    /// A path, or `@name` in the abstract namespace.
    pub fn unix(path: &str) -> Result<Peer, Fault> {
        let made = match path.strip_prefix('@') {
            Some(name) => UnixAddr::new_abstract(name.as_bytes()),
            None => UnixAddr::new(path),
        };
        made.map(Peer::Unix).map_err(|errno| match errno {
            Errno::ENAMETOOLONG => ours(format!(
                "the socket's path has {} bytes, Linux allows 107; shorten it: {path}",
                path.len()
            )),
            errno => ours(format!(
                "cannot use the socket path {path}: {}",
                said(errno)
            )),
        })
    }

    pub fn socket(&self) -> Result<OwnedFd, Fault> {
        let family = match self {
            Peer::V4(_) => AddressFamily::Inet,
            Peer::V6(_) => AddressFamily::Inet6,
            Peer::Unix(_) => AddressFamily::Unix,
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        socket::socket(family, SockType::Stream, flags, None).map_err(|e| fault(e, "socket"))
    }

    /// Called again while it is pending, it tells what became of it (Linux answers 0 once, then
    /// EISCONN; EALREADY until then).
    pub fn connect(&self, socket: &OwnedFd) -> Result<Connected, Fault> {
        let address: &dyn SockaddrLike = match self {
            Peer::V4(address) => address,
            Peer::V6(address) => address,
            Peer::Unix(address) => address,
        };
        match socket::connect(socket.as_raw_fd(), address) {
            Ok(()) | Err(Errno::EISCONN) => Ok(Connected::Yes),
            Err(Errno::EINPROGRESS | Errno::EINTR | Errno::EALREADY) => Ok(Connected::Pending),
            Err(Errno::EAGAIN) if matches!(self, Peer::Unix(_)) => Ok(Connected::QueueFull),
            Err(errno) => Err(fault(errno, "connect")),
        }
    }
}

/// None: not now.
pub fn send(socket: &OwnedFd, bytes: &[u8]) -> Result<Option<usize>, Fault> {
    loop {
        match socket::send(socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(n) => return Ok(Some(n)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(fault(errno, "send")),
        }
    }
}

/// None: nothing now. `Some(0)`: the other side has closed.
pub fn receive(socket: &OwnedFd, into: &mut [u8]) -> Result<Option<usize>, Fault> {
    receive_with(socket, into, MsgFlags::empty())
}

/// Whether nothing at all waits to be read: no byte, no end, no error.
pub fn is_quiet(socket: &OwnedFd) -> bool {
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    matches!(receive_with(socket, &mut [0], peek), Ok(None))
}

fn receive_with(
    socket: &OwnedFd,
    into: &mut [u8],
    flags: MsgFlags,
) -> Result<Option<usize>, Fault> {
    loop {
        match socket::recv(socket.as_raw_fd(), into, flags) {
            Ok(n) => return Ok(Some(n)),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(errno) => return Err(fault(errno, "recv")),
        }
    }
}

/// Makes the close to come a reset: neither side is left in TIME_WAIT (socket(7), SO_LINGER).
pub fn abort_on_close(socket: &OwnedFd) {
    let now = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // Should it fail the close is an ordinary one; there is nothing to mend.
    let _ = socket::setsockopt(socket, sockopt::Linger, &now);
}

pub fn watch(
    registry: &Registry,
    socket: &OwnedFd,
    token: Token,
    interest: Interest,
    before: Option<Interest>,
) -> Result<(), Fault> {
    let fd = socket.as_raw_fd();
    let mut source = SourceFd(&fd);
    let done = match before {
        None => registry.register(&mut source, token, interest),
        Some(_) => registry.reregister(&mut source, token, interest),
    };
    done.map_err(|e| {
        let errno = Errno::from_raw(e.raw_os_error().unwrap_or(0));
        match errno {
            Errno::ENOSPC => ours("too many epoll watches; raise fs.epoll.max_user_watches".into()),
            errno => fault(errno, "epoll_ctl"),
        }
    })
}

/// What an errno of a socket call says, and of whom.
pub fn fault(errno: Errno, call: &str) -> Fault {
    match errno {
        Errno::ECONNREFUSED => Fault::Refused,
        Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED | Errno::ENOTCONN => Fault::Reset,
        Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EHOSTDOWN | Errno::ENETDOWN => {
            Fault::Unreachable
        }
        Errno::ETIMEDOUT => Fault::TimedOut,
        Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => Fault::Missing,
        Errno::EACCES | Errno::EPERM => Fault::Denied,
        Errno::EPROTOTYPE => Fault::Wrong("the socket at the path is not a stream socket".into()),
        Errno::EMFILE | Errno::ENFILE => Fault::Ours(Trouble::NoDescriptor),
        Errno::ENOBUFS | Errno::ENOMEM => Fault::Ours(Trouble::NoMemory),
        // Both come of a local port that cannot be had: none free, or the family has no address.
        Errno::EADDRNOTAVAIL | Errno::EAGAIN | Errno::EADDRINUSE => ours(format!(
            "{call}: no local address or port to connect from: {}",
            said(errno)
        )),
        errno => ours(format!("{call}: {}", said(errno))),
    }
}

fn said(errno: Errno) -> String {
    format!("{} ({})", errno.desc(), errno as i32)
}

fn ours(what: String) -> Fault {
    Fault::Ours(Trouble::Internal(what.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Outcome, Reason};

    #[test]
    fn each_errno_is_its_own_word_and_on_the_right_account() {
        let service = |errno, reason| {
            assert_eq!(
                fault(errno, "x").outcome(),
                Outcome::Fail(reason),
                "{errno}"
            );
        };
        service(Errno::ECONNREFUSED, Reason::Refused);
        service(Errno::ECONNRESET, Reason::Reset);
        service(Errno::EPIPE, Reason::Reset);
        service(Errno::EHOSTUNREACH, Reason::Unreachable);
        service(Errno::ENETUNREACH, Reason::Unreachable);
        service(Errno::ETIMEDOUT, Reason::Timeout);
        service(Errno::ENOENT, Reason::Missing);
        service(Errno::EACCES, Reason::Denied);
        service(Errno::EPERM, Reason::Denied);
        let ours = |errno, trouble| {
            let outcome = fault(errno, "x").outcome();
            assert_eq!(outcome, Outcome::Inconclusive(trouble), "{errno}");
        };
        ours(Errno::EMFILE, Trouble::NoDescriptor);
        ours(Errno::ENFILE, Trouble::NoDescriptor);
        ours(Errno::ENOMEM, Trouble::NoMemory);
        ours(Errno::ENOBUFS, Trouble::NoMemory);
        ours(
            Errno::EADDRNOTAVAIL,
            Trouble::Internal(
                "x: no local address or port to connect from: Cannot assign requested address (99)"
                    .into(),
            ),
        );
        ours(
            Errno::EINVAL,
            Trouble::Internal("x: Invalid argument (22)".into()),
        );
    }
}
