//! Listening sockets, opened and found again: what is asked of the kernel, one socket at a time.
//!
//! They block, as programs expect of what they are handed; here nobody accepts or reads, so that
//! does no harm. Descriptors of one socket share that flag: it is put back before each run.
//!
//! A Unix socket's file outlives who bound it. One that is left of the dead is replaced; dead is
//! one that refuses, and whose name nobody has bound ([`is_bound`]): who has bound it and not
//! listened yet refuses as well.
//!
//! Not here: when, and for whom (`sockets`).

use crate::config::{Listen, Socket};
use crate::engine::SpawnError;
use crate::exit::errno_words;
use crate::id::Pid;
use crate::reactor::identity::Accounts;
use crate::reactor::sys;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, UnixAddr, bind, connect, getpeername,
    getsockname, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, lstat, umask};
use nix::unistd::{Gid, Uid, chown, unlink};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Descriptors of a process that are looked at for a socket that was ours.
const LOOKED_AT: usize = 512;

/// A socket that is held.
#[derive(Debug)]
pub struct Held {
    /// As it is defined.
    pub listen: Box<str>,
    pub reuse_port: bool,
    pub fd: OwnedFd,
    /// The file that is its name: device and inode.
    pub file: Option<(u64, u64)>,
}

impl Held {
    /// It is what the definition asks for, and can be reached by its name.
    pub fn serves(&self, socket: &Socket) -> bool {
        let same = self.listen == socket.listen && self.reuse_port == socket.reuse_port;
        let path = socket.address();
        let path = path.as_ref().and_then(Listen::path);
        same && path.is_none_or(|path| self.file.is_some() && file_of(path) == self.file)
    }

    /// Closes it; its file goes along, if it is still its own.
    pub fn close(self) {
        let address = crate::config::socket::address(&self.listen).ok();
        if let Some(path) = address.as_ref().and_then(Listen::path)
            && self.file.is_some()
            && file_of(path) == self.file
        {
            let _ = unlink(path);
        }
    }

    /// Somebody waits to be accepted, or a datagram to be read.
    pub fn is_waited_for(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry, as is said.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        ready > 0 && poll.revents & libc::POLLIN != 0
    }

    /// What may be another than when it was opened, or was changed by a run.
    pub fn adjust(&self, socket: &Socket, accounts: &Accounts) -> Result<(), SpawnError> {
        let step = |advice| failing(&socket.listen, advice);
        let address = socket.address();
        let Some(address) = address else {
            return Err(step("")(Errno::EINVAL));
        };
        let flags = fcntl(&self.fd, FcntlArg::F_GETFL).map_err(step(""))?;
        let blocks = OFlag::from_bits_truncate(flags) & !OFlag::O_NONBLOCK;
        fcntl(&self.fd, FcntlArg::F_SETFL(blocks)).map_err(step(""))?;
        if let Some(path) = address.path() {
            dress(path, socket, accounts)?;
        }
        if address.is_stream() {
            listen(&self.fd, socket.backlog).map_err(step(""))?;
        }
        Ok(())
    }
}

fn failing(listen: &str, advice: &str) -> impl Fn(Errno) -> SpawnError {
    let step: Box<str> = match advice {
        "" => format!("listen on {listen}").into(),
        advice => format!("listen on {listen} ({advice})").into(),
    };
    move |errno| SpawnError {
        step: step.clone(),
        errno: errno as i32,
        ours: sys::is_ours(errno as i32),
    }
}

/// What the reader can do about it.
fn advice(address: &Listen, errno: Errno) -> &'static str {
    match (errno, address) {
        (Errno::EADDRINUSE, Listen::Tcp(_)) => "end what has it: `ss -ltnp` shows who",
        (Errno::EADDRINUSE, Listen::Udp(_)) => "end what has it: `ss -lunp` shows who",
        (Errno::EADDRINUSE, _) => "end what has it: `ss -lxp` shows who",
        (Errno::EADDRNOTAVAIL, _) => {
            "no interface has it, or not yet: `ip addr` shows which there are"
        }
        (Errno::EACCES, Listen::Tcp(at) | Listen::Udp(at)) if at.port() < 1024 => {
            "a port below 1024 is root's: take a higher one, or lower \
             net.ipv4.ip_unprivileged_port_start"
        }
        (Errno::EACCES | Errno::EPERM | Errno::EROFS, Listen::Unix(_) | Listen::Datagram(_)) => {
            "its directory must be one that vitald may write to"
        }
        (Errno::ENOENT, _) => "make its directory",
        (Errno::EEXIST, _) => "there is something that is no socket: move it away",
        (Errno::EAFNOSUPPORT, _) => "the kernel has no IPv6: give an IPv4 address",
        _ => "",
    }
}

/// Opens a socket. `others`: those of the same service.
pub fn open(socket: &Socket, others: &[Socket], accounts: &Accounts) -> Result<Held, SpawnError> {
    let Some(address) = socket.address() else {
        return Err(failing(&socket.listen, "")(Errno::EINVAL));
    };
    let fault = |errno| failing(&socket.listen, advice(&address, errno))(errno);
    let fd = match &address {
        Listen::Tcp(at) => internet(SockType::Stream, *at, socket, others).map_err(fault)?,
        Listen::Udp(at) => internet(SockType::Datagram, *at, socket, others).map_err(fault)?,
        Listen::Unix(path) => unix(SockType::Stream, path).map_err(fault)?,
        Listen::Datagram(path) => unix(SockType::Datagram, path).map_err(fault)?,
    };
    let held = Held {
        listen: socket.listen.clone(),
        reuse_port: socket.reuse_port,
        fd,
        file: address.path().and_then(file_of),
    };
    match held.adjust(socket, accounts) {
        Ok(()) => Ok(held),
        Err(error) => {
            held.close();
            Err(error)
        }
    }
}

fn internet(
    kind: SockType,
    at: SocketAddr,
    wanted: &Socket,
    others: &[Socket],
) -> Result<OwnedFd, Errno> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = match socket(family, kind, SockFlag::SOCK_CLOEXEC, None) {
        // A kernel without IPv6: all addresses are those of IPv4.
        Err(Errno::EAFNOSUPPORT) if at.is_ipv6() && at.ip().is_unspecified() => {
            let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, at.port()));
            return internet(kind, at, wanted, others);
        }
        made => made?,
    };
    if kind == SockType::Stream {
        // Connections of before that linger are no reason not to listen. Of datagrams it would let
        // others take what is ours.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    if wanted.reuse_port {
        setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    if at.is_ipv6() {
        let only = !at.ip().is_unspecified() || has_ipv4(kind, at.port(), others);
        setsockopt(&fd, sockopt::Ipv6V6Only, &only)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    Ok(fd)
}

/// IPv4 is another socket's of the same service.
fn has_ipv4(kind: SockType, port: u16, others: &[Socket]) -> bool {
    let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    others
        .iter()
        .filter_map(Socket::address)
        .any(|it| match it {
            Listen::Tcp(at) => kind == SockType::Stream && at == all,
            Listen::Udp(at) => kind == SockType::Datagram && at == all,
            Listen::Unix(_) | Listen::Datagram(_) => false,
        })
}

fn unix(kind: SockType, path: &str) -> Result<OwnedFd, Errno> {
    clear_the_way(kind, path)?;
    let fd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    // Nobody may send to it before its mode and owner are right. One thread: nobody else creates
    // files meanwhile.
    let before = umask(Mode::from_bits_truncate(0o777));
    let bound = UnixAddr::new(path).and_then(|address| bind(fd.as_raw_fd(), &address));
    umask(before);
    bound?;
    Ok(fd)
}

/// Removes what is left of a dead socket.
fn clear_the_way(kind: SockType, path: &str) -> Result<(), Errno> {
    let found = match lstat(path) {
        Ok(found) => found,
        // What else is wrong with it the bind tells.
        Err(_) => return Ok(()),
    };
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(Errno::EEXIST);
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let asks = socket(AddressFamily::Unix, kind, flags, None)?;
    match connect(asks.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) if !is_bound(path) => unlink(path),
        // It answers, is of another kind, its queue is full, or nobody knows.
        Ok(()) | Err(_) => Err(Errno::EADDRINUSE),
    }
}

/// Somebody lives who has bound this name: by /proc/net/unix, where each bound socket stands with it.
fn is_bound(path: &str) -> bool {
    let Ok(all) = std::fs::read("/proc/net/unix") else {
        return false;
    };
    let mut lines = all.split(|byte| *byte == b'\n');
    lines.any(|line| {
        line.strip_suffix(path.as_bytes())
            .is_some_and(|before| before.ends_with(b" "))
    })
}

fn file_of(path: &str) -> Option<(u64, u64)> {
    let found = lstat(path).ok()?;
    // Narrower on some architectures.
    #[allow(clippy::useless_conversion)]
    Some((u64::try_from(found.st_dev).ok()?, u64::from(found.st_ino)))
}

/// The mode and owner of a socket's file.
fn dress(path: &str, socket: &Socket, accounts: &Accounts) -> Result<(), SpawnError> {
    let step = |what: &'static str| {
        let listen = &socket.listen;
        let step: Box<str> = format!("listen on {listen}: {what}").into();
        move |errno: Errno| SpawnError {
            step,
            errno: errno as i32,
            ours: sys::is_ours(errno as i32),
        }
    };
    let (user, group) = (socket.user.as_deref(), socket.group.as_deref());
    if user.is_some() || group.is_some() {
        let who = accounts.resolve(user, group, None).map_err(|error| {
            let step = format!("listen on {}: {}", socket.listen, error.step);
            SpawnError {
                step: step.into(),
                ..error
            }
        })?;
        let (uid, gid) = (Uid::from_raw(who.uid), Gid::from_raw(who.gid));
        chown(path, Some(uid), Some(gid)).map_err(step("chown"))?;
    }
    let mode = Mode::from_bits_truncate(socket.mode as libc::mode_t);
    let follow = FchmodatFlags::FollowSymlink;
    fchmodat(nix::fcntl::AT_FDCWD, path, mode, follow).map_err(step("chmod"))
}

fn listen(fd: &OwnedFd, backlog: u32) -> Result<(), Errno> {
    // SAFETY: numbers only.
    let answer = unsafe { libc::listen(fd.as_raw_fd(), backlog as libc::c_int) };
    Errno::result(answer).map(drop)
}

// --- found again

/// It is the socket that the definition asks for.
pub fn is_it(fd: BorrowedFd, socket: &Socket) -> bool {
    let Some(address) = socket.address() else {
        return false;
    };
    let kind = match address.is_stream() {
        true => SockType::Stream,
        false => SockType::Datagram,
    };
    if getsockopt(&fd, sockopt::SockType) != Ok(kind) {
        return false;
    }
    let listens = match kind {
        SockType::Stream => getsockopt(&fd, sockopt::AcceptConn) == Ok(true),
        _ => getpeername::<SockaddrStorage>(fd.as_raw_fd()).is_err(),
    };
    let Ok(own) = getsockname::<SockaddrStorage>(fd.as_raw_fd()) else {
        return false;
    };
    let same = match &address {
        Listen::Tcp(at) | Listen::Udp(at) => {
            let v4 = own
                .as_sockaddr_in()
                .map(|own| SocketAddr::V4((*own).into()));
            let v6 = own
                .as_sockaddr_in6()
                .map(|own| SocketAddr::V6((*own).into()));
            let all = |own: SocketAddr| {
                own.port() == at.port() && own.ip().is_unspecified() && at.ip().is_unspecified()
            };
            // On a kernel without IPv6 [::] is 0.0.0.0.
            v4.or(v6)
                .is_some_and(|own| own == *at || (at.is_ipv6() && own.is_ipv4() && all(own)))
        }
        Listen::Unix(path) | Listen::Datagram(path) => own
            .as_unix_addr()
            .and_then(UnixAddr::path)
            .is_some_and(|own| own.as_os_str().as_encoded_bytes() == path.as_bytes()),
    };
    listens && same
}

/// A socket that somebody handed to us.
pub fn held(socket: &Socket, fd: OwnedFd) -> Held {
    let address = socket.address();
    Held {
        listen: socket.listen.clone(),
        reuse_port: socket.reuse_port,
        fd,
        file: address.as_ref().and_then(Listen::path).and_then(file_of),
    }
}

/// Sockets of a living process, by their place among `wanted`: copies of its own descriptors
/// (pidfd_getfd(2)). What it has closed is not found. An error: why none could be had.
pub fn had_back(
    pid: Pid,
    pidfd: BorrowedFd,
    wanted: &[Socket],
) -> Result<Vec<Option<Held>>, String> {
    let mut found: Vec<Option<Held>> = wanted.iter().map(|_| None).collect();
    let mut trouble = None;
    for number in sockets_of(pid)? {
        if found.iter().all(Option::is_some) {
            break;
        }
        let fd = match take(pidfd, number) {
            Ok(fd) => fd,
            Err(errno) => {
                trouble.get_or_insert(errno);
                continue;
            }
        };
        let missing = |(socket, held): &(&Socket, &mut Option<Held>)| {
            held.is_none() && is_it(fd.as_fd(), socket)
        };
        let place = wanted.iter().zip(found.iter_mut()).find(missing);
        if let Some((socket, place)) = place {
            *place = Some(held(socket, fd));
        }
    }
    match trouble {
        Some(errno) if found.iter().any(Option::is_none) => {
            Err(format!("pidfd_getfd: {}", errno_words(errno as i32)))
        }
        _ => Ok(found),
    }
}

/// The numbers of a process's sockets, lowest first: those that it was given are.
fn sockets_of(pid: Pid) -> Result<Vec<RawFd>, String> {
    let place = format!("/proc/{pid}/fd");
    let listed = std::fs::read_dir(&place).map_err(|error| format!("{place}: {error}"))?;
    let mut numbers: Vec<RawFd> = listed
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    numbers.sort_unstable();
    numbers.truncate(LOOKED_AT);
    numbers.retain(|number| {
        let link = std::fs::read_link(format!("{place}/{number}"));
        link.is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"socket:"))
    });
    Ok(numbers)
}

fn take(pidfd: BorrowedFd, number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    let fd = Errno::result(fd)?;
    // SAFETY: a new descriptor that nobody else has; it closes at exec (pidfd_getfd(2)).
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
