//! What a service speaks to us by: its notify socket, its notification descriptor; and the
//! descriptors that it leaves with us.
//!
//! The socket is `R/notify/NAME.sock`, a datagram socket that anybody may send to: the kernel tells
//! who did (SCM_CREDENTIALS, unix(7)), so that a process that has given up its rights is heard
//! as well. The descriptor is the FIFO `R/notify/NAME.ready`, a new one for each run, opened for
//! reading and writing as log pipes are: who writes to it while no daemon is there does not die
//! of it, and its word waits in it.
//!
//! Not here: whose word counts, and what it means (`notify`).
//!
//! Invariants: a descriptor that comes in a message is owned from the moment it is here, also
//! where the message is dropped; nothing here waits.

use crate::id::Pid;
use crate::journal::Fault;
use crate::limits;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl, open};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat};
use nix::unistd::{mkfifo, unlink};
use std::fs::DirBuilder;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// `struct sockaddr_un` takes so much of a path, with its closing null (unix(7)).
const PATH_BYTES: usize = 108;
/// As many descriptors as the kernel passes in one message (SCM_MAX_FD).
const MESSAGE_FDS: usize = 253;

/// The directory of the sockets and FIFOs.
#[derive(Debug)]
pub struct VoiceDir {
    path: PathBuf,
}

impl VoiceDir {
    /// Anybody may pass through it, to a socket whose name he was told.
    pub fn prepare(runtime_dir: &Path) -> Result<VoiceDir, Fault> {
        let path = runtime_dir.join("notify");
        match DirBuilder::new().recursive(true).mode(0o711).create(&path) {
            Ok(()) => Ok(VoiceDir { path }),
            Err(error) => Err(Fault::io("make directory", &path, &error)),
        }
    }

    pub fn socket(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.sock"))
    }

    fn fifo(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.ready"))
    }

    /// The service's socket, in the place of one that a daemon before us left.
    pub fn bind(&self, name: &str) -> Result<OwnedFd, Fault> {
        let path = self.socket(name);
        let fault = |verb: &str, errno: Errno| Fault::new(verb, &path, errno);
        if path.as_os_str().len() >= PATH_BYTES {
            // Nobody could send to it either.
            return Err(fault(
                "bind (use a shorter --runtime-dir)",
                Errno::ENAMETOOLONG,
            ));
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = socket(AddressFamily::Unix, SockType::Datagram, flags, None);
        let fd = made.map_err(|errno| fault("make a socket for", errno))?;
        // Before it has a name: no message is without its sender.
        setsockopt(&fd, sockopt::PassCred, &true).map_err(|errno| fault("prepare", errno))?;
        match unlink(&path) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(fault("replace", errno)),
        }
        let address = UnixAddr::new(&path).map_err(|errno| fault("bind", errno))?;
        bind(fd.as_raw_fd(), &address).map_err(|errno| fault("bind", errno))?;
        let mode = Mode::from_bits_truncate(0o666);
        fchmodat(AT_FDCWD, &path, mode, FchmodatFlags::FollowSymlink)
            .map_err(|errno| fault("chmod", errno))?;
        Ok(fd)
    }

    /// A FIFO for a run that is to begin: our end, and the run's.
    pub fn new_fifo(&self, name: &str) -> Result<(OwnedFd, OwnedFd), Fault> {
        let path = self.fifo(name);
        let fault = |verb: &str, errno: Errno| Fault::new(verb, &path, errno);
        match unlink(&path) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(fault("replace", errno)),
        }
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        mkfifo(&path, private).map_err(|errno| fault("make", errno))?;
        let ours = open(&path, ENDS, Mode::empty()).map_err(|errno| fault("open", errno))?;
        let its = open(&path, ENDS, Mode::empty()).map_err(|errno| fault("open", errno))?;
        // Its own description: whether its writes wait is its own affair, and they do.
        fcntl(&its, FcntlArg::F_SETFL(OFlag::O_RDWR)).map_err(|errno| fault("open", errno))?;
        Ok((ours, its))
    }

    /// The FIFO of a run that a daemon before us started. None: it has said its word, because it is
    /// gone, or nobody holds it any more.
    pub fn open_fifo(&self, name: &str) -> Option<OwnedFd> {
        let path = self.fifo(name);
        // Each end can read: without any this is ENXIO (fifo(7)).
        let others = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let held = open(&path, others, Mode::empty()).ok()?;
        let found = fstat(&held).ok()?;
        let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
        match kind == SFlag::S_IFIFO {
            true => open(&path, ENDS, Mode::empty()).ok(),
            false => None,
        }
    }

    /// The run has said its word.
    pub fn remove_fifo(&self, name: &str) {
        let _ = unlink(&self.fifo(name));
    }

    /// The service is gone for good.
    pub fn remove(&self, name: &str) {
        let _ = unlink(&self.socket(name));
        self.remove_fifo(name);
    }
}

const ENDS: OFlag = OFlag::O_RDWR
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NOFOLLOW);

/// A datagram as it came.
pub struct Datagram {
    pub length: usize,
    /// It was longer than a notification may be, and its end is lost.
    pub truncated: bool,
    /// Who sent it, as the kernel says; None: nobody that we can name.
    pub sender: Option<Pid>,
    pub fds: Vec<OwnedFd>,
    /// More descriptors came than could be taken in.
    pub fds_lost: bool,
}

/// Reads a datagram into `buffer`. None: there is none.
pub fn receive(socket: BorrowedFd, buffer: &mut [u8]) -> io::Result<Option<Datagram>> {
    /// Room for credentials and descriptors, aligned as their headers are.
    const CONTROL: usize = 160;
    const {
        assert!(CONTROL * 8 >= 2 * 16 + size_of::<libc::ucred>() + 4 * MESSAGE_FDS + 32);
    }
    let mut control = [0u64; CONTROL];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: plain numbers and pointers, all of which may be zero.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<[u64; CONTROL]>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let length = loop {
        // SAFETY: the header's buffers live and are as long as they are said to be.
        match unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) } {
            length if length >= 0 => break length as usize,
            _ => match Errno::last() {
                Errno::EAGAIN => return Ok(None),
                Errno::EINTR => {}
                errno => return Err(errno.into()),
            },
        }
    };
    let mut datagram = Datagram {
        length,
        truncated: header.msg_flags & libc::MSG_TRUNC != 0,
        sender: None,
        fds: Vec::new(),
        fds_lost: header.msg_flags & libc::MSG_CTRUNC != 0,
    };
    // SAFETY: the kernel filled the header's control buffer, which the macros keep to.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(part) = message.as_ref() {
            let data = libc::CMSG_DATA(message);
            // Another type with each C library.
            let length: usize = part.cmsg_len as _;
            let length = length.saturating_sub(libc::CMSG_LEN(0) as usize);
            match (part.cmsg_level, part.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    for at in 0..length / size_of::<RawFd>() {
                        let fd = data.cast::<RawFd>().add(at).read_unaligned();
                        datagram.fds.push(OwnedFd::from_raw_fd(fd));
                    }
                }
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                    let who = data.cast::<libc::ucred>().read_unaligned();
                    // 0: of another pid namespace.
                    datagram.sender = (who.pid > 0).then_some(Pid(who.pid));
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok(Some(datagram))
}

/// A descriptor that is kept for a service.
#[derive(Debug)]
pub struct Stored {
    pub name: Box<str>,
    pub fd: OwnedFd,
    /// Dropped when its other side hangs up; then it is watched for that.
    pub poll: bool,
}

impl Stored {
    /// Both are the same open file (kcmp(2); by device and inode where the kernel has no kcmp).
    pub fn is(&self, other: &OwnedFd) -> bool {
        const KCMP_FILE: libc::c_int = 0;
        let own = std::process::id();
        let (a, b) = (self.fd.as_raw_fd(), other.as_raw_fd());
        // SAFETY: numbers only.
        match unsafe { libc::syscall(libc::SYS_kcmp, own, own, KCMP_FILE, a, b) } {
            0 => true,
            1..=3 => false,
            _ => match (fstat(&self.fd), fstat(other)) {
                (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
                _ => false,
            },
        }
    }

    /// Its other side is gone, or it is broken.
    pub fn has_hung_up(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: 0,
            revents: 0,
        };
        // SAFETY: one entry, as is said.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        ready > 0 && poll.revents & (libc::POLLHUP | libc::POLLERR) != 0
    }
}

/// All that a service speaks by.
#[derive(Debug, Default)]
pub struct Voice {
    pub socket: Option<(OwnedFd, mio::Token)>,
    /// Of the present run, until it has said its word.
    pub fifo: Option<(OwnedFd, mio::Token)>,
    pub stored: Vec<Stored>,
    pub stored_token: Option<mio::Token>,
    /// Stands on the loop's list of voices to be heard: an edge and a cap put it there once.
    pub queued: bool,
    /// Messages of this run that were dropped, and whether that was said.
    pub dropped: u64,
    pub warned: bool,
}

impl Voice {
    /// A buffer for one notification, and a byte more would be too long.
    pub fn buffer() -> Box<[u8]> {
        vec![0; limits::NOTIFY_BYTES].into_boxed_slice()
    }
}
