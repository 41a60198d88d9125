//! The control socket and its clients: bytes between a Unix stream socket and a
//! [`Session`](crate::control::session::Session).
//!
//! It registers nothing with the poll and gives out no tokens: the loop does. Nothing here
//! blocks, but for [`Listener::bind`] at the daemon's start.
//!
//! Invariants: sources are edge-triggered, so each is drained to WouldBlock or asks to be served
//! again ([`Next::Again`], [`Accepted::more`], [`Accepted::retry`]); a client costs a turn no
//! more than the turn's budget and one answer; a live daemon's socket is never taken away.

use crate::control::access::{Access, Rights};
use crate::control::session::{Desk, Errand, Session};
use crate::id::Pid;
use crate::limits;
use crate::reactor::procfs;
use crate::reactor::reexec::{self, Socket as Handed};
use crate::time::Time;
use mio::net::{UnixListener, UnixStream};
use nix::errno::Errno;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chown};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes read from one client in one turn before the others get theirs.
const READ_PER_TURN: usize = 64 * 1024;
/// Said to a newcomer for whom there is no descriptor; in words, because nothing is known of it.
const NO_DESCRIPTOR: &[u8] =
    b"error: vitald has no file descriptor left (24); close other connections and try again\n";

/// The socket that clients connect to.
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Which file is ours: device and inode.
    file: (u64, u64),
    rights: Rights,
    /// Kept open to have one descriptor when there is no other.
    spare: Option<File>,
}

/// Somebody connected.
pub struct NewClient {
    pub stream: UnixStream,
    pub access: Access,
    /// `root`, `uid 1000`.
    pub actor: Box<str>,
}

/// What one look at the listener brought.
#[derive(Default)]
pub struct Accepted {
    pub clients: Vec<NewClient>,
    /// More may be waiting: call again, this turn or the next, without another edge.
    pub more: bool,
    /// No descriptor for the next one, which could not even be told: call again in 50 ms.
    pub retry: bool,
    /// Newcomers that were told that there is no descriptor, and closed.
    pub refused: u32,
}

/// What became of the newcomer for whom there is no descriptor.
enum Refused {
    Told,
    /// There is none.
    Nobody,
    NotEven,
}

/// What `sun_path` holds, without its end (unix(7)).
const SOCKET_PATH: usize = 107;

impl Listener {
    /// Binds `path` with this mode, and with this group when one is given. A socket that nobody
    /// answers on is replaced; hold the runtime directory's lock, so that nobody does the same
    /// at the same time.
    pub fn bind(
        path: &Path,
        mode: u32,
        group: Option<u32>,
        rights: Rights,
    ) -> Result<Listener, String> {
        let said = |what: &str, error: &io::Error| {
            format!("cannot {what} {}: {}", path.display(), cause(error))
        };
        let length = path.as_os_str().len();
        if length > SOCKET_PATH {
            return Err(format!(
                "cannot bind {}: the path has {length} bytes, a socket's may have {SOCKET_PATH} \
                 (unix(7)): choose a shorter --runtime-dir",
                path.display()
            ));
        }
        clear_the_way(path)?;
        // Nobody may connect before mode and group are right. One thread: nobody else creates
        // files meanwhile.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = std::os::unix::net::UnixListener::bind(path);
        umask(before);
        let socket = bound.map_err(|error| said("bind", &error))?;
        if let Some(group) = group {
            chown(path, None::<Uid>, Some(Gid::from_raw(group)))
                .map_err(|errno| said("give to its group", &errno.into()))?;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o777))
            .map_err(|error| said("set the mode of", &error))?;
        let file = std::fs::symlink_metadata(path).map_err(|error| said("look at", &error))?;
        socket
            .set_nonblocking(true)
            .map_err(|error| said("make non-blocking", &error))?;
        Ok(Listener {
            socket: UnixListener::from_std(socket),
            path: path.to_owned(),
            file: (file.dev(), file.ino()),
            rights,
            spare: spare(),
        })
    }

    /// The socket of an execution of this process before us, which has listened all the time: who
    /// came meanwhile waits at the door. None: its name is gone or another's; bind it anew.
    pub fn inherit(
        path: &Path,
        mode: u32,
        handed_over: &Handed,
        rights: Rights,
    ) -> Option<Listener> {
        let fd = reexec::claim_copy(handed_over.fd)?;
        let file = std::fs::symlink_metadata(path).ok()?;
        let file = (file.dev(), file.ino());
        let listens = getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false);
        if !listens || file != (handed_over.device, handed_over.inode) {
            return None;
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o777)).ok()?;
        Some(Listener {
            socket: UnixListener::from_std(fd.into()),
            path: path.to_owned(),
            file,
            rights,
            spare: spare(),
        })
    }

    /// For the execution after us.
    pub fn hand_over(&self) -> Handed {
        Handed {
            fd: self.socket.as_raw_fd(),
            device: self.file.0,
            inode: self.file.1,
        }
    }

    /// What the loop registers, for reading.
    pub fn source(&mut self) -> &mut UnixListener {
        &mut self.socket
    }

    /// Other rights from now on, for those who connect from now on.
    pub fn set_rights(&mut self, rights: Rights) {
        self.rights = rights;
    }

    /// What may be done from there, by the rights in force.
    pub fn access_of(&self, stream: &UnixStream) -> Access {
        let (uid, gids) = credentials(stream);
        self.rights.of(uid, &gids)
    }

    /// Who may connect at all.
    pub fn set_mode(&self, mode: u32) -> Result<(), String> {
        if !self.is_ours() {
            // Whoever has taken the name sees to that.
            return Ok(());
        }
        let mode = std::fs::Permissions::from_mode(mode & 0o777);
        std::fs::set_permissions(&self.path, mode).map_err(|error| {
            let (path, why) = (self.path.display(), cause(&error));
            format!(
                "cannot set the mode of {path}: {why}: those that `access` lets in cannot connect"
            )
        })
    }

    /// Takes in those who wait at the door.
    pub fn accept(&mut self) -> Accepted {
        let mut accepted = Accepted::default();
        let most = limits::ACCEPTS_PER_TURN;
        while accepted.clients.len() + (accepted.refused as usize) < most {
            match self.socket.accept() {
                Ok((stream, _)) => accepted.clients.push(self.introduce(stream)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return accepted,
                // Said also when nobody waits: the descriptor comes first (accept(2)).
                Err(error) if is_want_of_descriptors(&error) => match self.refuse_one() {
                    Refused::Told => accepted.refused += 1,
                    Refused::Nobody => return accepted,
                    Refused::NotEven => {
                        accepted.retry = true;
                        return accepted;
                    }
                },
                // A newcomer that left again (ECONNABORTED), a signal (EINTR): the next one.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                    ) => {}
                // ENOMEM and the like pass; the newcomer still waits.
                Err(_) => {
                    accepted.retry = true;
                    return accepted;
                }
            }
        }
        accepted.more = true;
        accepted
    }

    /// Who is at the other end, and what may be done from there.
    fn introduce(&self, stream: UnixStream) -> NewClient {
        let (uid, gids) = credentials(&stream);
        NewClient {
            access: self.rights.of(uid, &gids),
            actor: match uid {
                0 => "root".into(),
                uid => format!("uid {uid}").into(),
            },
            stream,
        }
    }

    /// A connection that an execution before us took in; None: it is none, or is closed.
    pub fn take_in(&self, handed_over: i32) -> Option<NewClient> {
        let fd = reexec::claim(handed_over)?;
        let kind = getsockopt(&fd, sockopt::SockType).ok()?;
        (kind == SockType::Stream).then(|| self.introduce(UnixStream::from_std(fd.into())))
    }

    /// With the spare descriptor a newcomer is taken in, told, and let go.
    fn refuse_one(&mut self) -> Refused {
        if self.spare.take().is_none() {
            self.spare = spare();
            return Refused::NotEven;
        }
        let refused = match self.socket.accept() {
            Ok((mut stream, _)) => {
                // A new socket's buffer is empty: this fits, or the peer is gone already.
                let _ = stream.write(NO_DESCRIPTOR);
                Refused::Told
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Refused::Nobody,
            Err(_) => Refused::NotEven,
        };
        self.spare = spare();
        refused
    }

    /// Removes the socket from the file system, if it is still ours.
    pub fn unlink(&self) {
        if self.is_ours() {
            // Gone already is as good.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn is_ours(&self) -> bool {
        let file = std::fs::symlink_metadata(&self.path);
        file.is_ok_and(|file| (file.dev(), file.ino()) == self.file)
    }
}

/// `No such file or directory (2)`
fn cause(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{} ({number})", Errno::from_raw(number).desc()),
        None => error.to_string(),
    }
}

/// Sees that `path` can be bound: a dead socket is removed, everything else is an error.
fn clear_the_way(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let file = match std::fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("cannot look at {shown}: {}", cause(&error))),
    };
    if !file.file_type().is_socket() {
        return Err(format!(
            "{shown} exists and is no socket; move it away, or choose another runtime directory"
        ));
    }
    // Non-blocking: the listener's queue may be full.
    match UnixStream::connect(path) {
        // Who listened is dead; a child that it had just forked holds the descriptor still.
        Ok(peer) if listener_died(&peer) => remove_dead(path),
        Ok(_) => Err(format!(
            "another daemon answers on {shown}; stop it (`vitald shutdown`), or choose another \
             runtime directory"
        )),
        // A full queue (EAGAIN) has a listener too.
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(format!(
            "another daemon holds {shown} and does not answer; stop it, or choose another \
             runtime directory"
        )),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => remove_dead(path),
        Err(error) => Err(format!(
            "cannot find out whether {shown} is in use: {}",
            cause(&error)
        )),
    }
}

fn remove_dead(path: &Path) -> Result<(), String> {
    let shown = path.display();
    std::fs::remove_file(path)
        .map_err(|error| format!("cannot remove the dead socket {shown}: {}", cause(&error)))
}

/// Is the process that called listen(2) gone, or a zombie? SO_PEERCRED tells which one it was.
fn listener_died(peer: &UnixStream) -> bool {
    let Ok(listened) = getsockopt(peer, sockopt::PeerCredentials) else {
        return false;
    };
    // 0: it is not of our pid namespace.
    let pid = listened.pid();
    pid > 0
        && match procfs::proc_stat(Pid(pid)) {
            Ok(stat) => matches!(stat.state, b'Z' | b'X'),
            Err(_) => {
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) == Err(Errno::ESRCH)
            }
        }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_want_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// The peer's user and all its groups, as they were when it connected (unix(7)). Who cannot be
/// identified is nobody.
fn credentials(stream: &UnixStream) -> (u32, Vec<u32>) {
    let Ok(peer) = getsockopt(stream, sockopt::PeerCredentials) else {
        return (u32::MAX, Vec::new());
    };
    let mut gids = groups(stream.as_raw_fd());
    gids.push(peer.gid());
    (peer.uid(), gids)
}

/// Supplementary groups by SO_PEERGROUPS (Linux 4.13); none where the kernel does not tell.
fn groups(fd: i32) -> Vec<u32> {
    let mut gids = vec![0u32; 64];
    // The second time with the length that the kernel asked for (ERANGE).
    for _ in 0..2 {
        let mut bytes = (gids.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: the buffer is `bytes` long and lives through the call.
        let result = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                gids.as_mut_ptr().cast(),
                &mut bytes,
            )
        };
        gids.resize(bytes as usize / size_of::<u32>(), 0);
        match result {
            0 => return gids,
            _ if Errno::last() != Errno::ERANGE => break,
            _ => {}
        }
    }
    Vec::new()
}

/// What is to be done with a client after it was served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Wait for its next edge, or for an answer.
    Wait,
    /// Serve it again next turn, without an edge.
    Again,
    /// Deregister and drop it.
    Close,
}

/// One connection.
pub struct Client {
    pub stream: UnixStream,
    pub session: Session,
    may_read: bool,
    may_write: bool,
    gone: bool,
    /// When bytes last moved in either direction.
    moved: Time,
    /// Since when something waits to be sent and nothing is taken.
    stuck_since: Option<Time>,
}

impl Client {
    /// `serial` must be unique among the connections of this daemon's life: it comes back as
    /// the upper half of the client's tickets.
    pub fn new(new: NewClient, serial: u32, now: Time) -> Client {
        let session = Session::new(serial, new.access, new.actor);
        Client::with(new.stream, session, now)
    }

    /// One whose conversation goes on.
    pub fn with(stream: UnixStream, session: Session, now: Time) -> Client {
        Client {
            session,
            stream,
            may_read: true,
            may_write: true,
            gone: false,
            moved: now,
            stuck_since: None,
        }
    }

    /// Notes an edge: readable, writable, both ends closed. [`serve`](Client::serve) acts on it.
    pub fn ready(&mut self, readable: bool, writable: bool, hung_up: bool) {
        self.may_read |= readable || hung_up;
        self.may_write |= writable;
        if hung_up && !self.gone {
            self.gone = true;
            self.session.hang_up();
        }
    }

    /// Reads, serves, writes, as far as it goes. Call it after `ready`, and after anything was
    /// handed to the session. `budget` is what is left of
    /// [`limits::CLIENTS_PER_TURN`](crate::limits::CLIENTS_PER_TURN) in this turn.
    pub fn serve(
        &mut self,
        desk: &Desk<'_>,
        errands: &mut Vec<Errand>,
        budget: &mut usize,
    ) -> Next {
        let now = desk.wall.now;
        let mut left = READ_PER_TURN;
        loop {
            self.write(now);
            self.session.work(desk, errands, budget);
            self.write(now);
            if self.session.is_finished() {
                return Next::Close;
            }
            if self.session.has_work() {
                if *budget == 0 {
                    return Next::Again;
                }
                continue;
            }
            if !self.may_read || !self.session.wants_input() {
                return Next::Wait;
            }
            if left == 0 || *budget == 0 {
                return Next::Again;
            }
            left = left.saturating_sub(self.read(now));
        }
    }

    fn read(&mut self, now: Time) -> usize {
        let mut buffer = [0u8; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.may_read = false;
                    self.session.end_of_input();
                    return 0;
                }
                Ok(bytes) => {
                    self.moved = now;
                    self.session.feed(&buffer[..bytes]);
                    return bytes;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.may_read = false;
                    return 0;
                }
                // ECONNRESET: the peer closed without reading all of ours.
                Err(_) => {
                    self.may_read = false;
                    self.session.end_of_input();
                    self.session.hang_up();
                    return 0;
                }
            }
        }
    }

    fn write(&mut self, now: Time) {
        while self.may_write && !self.session.output().is_empty() {
            match self.stream.write(self.session.output()) {
                Ok(bytes) => {
                    self.moved = now;
                    self.stuck_since = None;
                    self.session.consume(bytes);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.may_write = false,
                // EPIPE: nobody reads; what was asked is still done.
                Err(_) => {
                    self.may_write = false;
                    self.gone = true;
                    self.session.hang_up();
                }
            }
        }
        if self.session.output().is_empty() {
            self.stuck_since = None;
        } else if self.stuck_since.is_none() {
            self.stuck_since = Some(now);
        }
    }

    /// When this client is to be cut because it takes nothing of what waits for it; None while
    /// it takes. The loop wakes at the earliest of them.
    pub fn deadline(&self) -> Option<Time> {
        self.stuck_since.map(|since| since + limits::CLIENT_STUCK)
    }

    /// Who goes when there is no room: those who neither wait nor listen before the others, and
    /// of them the one on which nothing moved for longest. The smallest goes.
    fn standing(&self) -> (bool, Time) {
        let waits = self.session.is_waiting() && self.stuck_since.is_none();
        (waits, self.moved)
    }
}

/// At [`limits::MAX_CLIENTS`](crate::limits::MAX_CLIENTS): which one to close, so that a newcomer
/// finds room.
pub fn victim<'a, K>(clients: impl Iterator<Item = (K, &'a Client)>) -> Option<K> {
    clients
        .min_by_key(|(_, client)| client.standing())
        .map(|(key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{child, helper, sys};
    use std::os::fd::AsFd;

    #[test]
    fn a_socket_that_only_a_dead_daemons_child_holds_is_replaced() {
        let path = std::env::temp_dir().join(format!("vitald-orphaned-{}", std::process::id()));
        let bind = || Listener::bind(&path, 0o600, None, Rights::default());
        let (holder, mut told) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let origin = sys::Origin::default();
        let daemon = helper::start(c"test", &origin, &[holder.as_fd()], 0, |_| {
            let _listener = bind().expect("bind");
            // SAFETY: the child only waits for its end, which is told by ours.
            if unsafe { libc::fork() } == 0 {
                let _ = nix::unistd::read(&holder, &mut [0]);
                // SAFETY: always allowed.
                unsafe { libc::_exit(0) }
            }
            0
        });
        let daemon = daemon.expect("a helper");
        drop(holder);
        assert!(child::wait_ended(
            &daemon.pidfd,
            std::time::Duration::from_secs(20)
        ));
        // A zombie is as dead as one that was reaped.
        UnixStream::connect(&path).expect("somebody holds it still");
        drop(bind().expect("nobody answers on it"));
        child::reap(daemon.pidfd.as_fd());
        told.write_all(b"x").expect("the child lives");
        std::fs::remove_file(&path).expect("remove");
    }
}
