//! System calls of a daemon that fail when a test says so, as on a dying disk: seccomp user
//! notification (seccomp_unotify(2), Linux 5.5) asks this process about every write and sync of the
//! daemon and its children. It works on any binary, static ones too, and on the real file system.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// What fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// fsync(2), fdatasync(2)
    Sync,
    /// The same of the directory itself, which makes names durable.
    SyncName,
    /// write(2), writev(2), pwrite64(2)
    Write,
}

#[derive(Default)]
struct Rules {
    failing: Vec<(Call, PathBuf)>,
    /// Calls that were made to fail.
    hits: usize,
}

/// The rules of one host's daemons.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Rules>>);

const SYNCS: [libc::c_long; 2] = [libc::SYS_fsync, libc::SYS_fdatasync];
const WRITES: [libc::c_long; 3] = [libc::SYS_write, libc::SYS_writev, libc::SYS_pwrite64];

/// `struct seccomp_notif` and its answer (linux/seccomp.h).
#[repr(C)]
#[derive(Default)]
struct Asked {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction: u64,
    arguments: [u64; 6],
}

#[repr(C)]
struct Answered {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const RECEIVE: u64 = 0xC050_2100;
const SEND: u64 = 0xC018_2101;
/// SECCOMP_USER_NOTIF_FLAG_CONTINUE
const GO_ON: u32 = 1;

impl Faults {
    /// From now on these calls on files below `dir` fail with EIO.
    pub fn fail(&self, call: Call, dir: impl Into<PathBuf>) {
        self.0
            .lock()
            .expect("rules")
            .failing
            .push((call, dir.into()));
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        self.0.lock().expect("rules").failing.clear();
    }

    pub fn hits(&self) -> usize {
        self.0.lock().expect("rules").hits
    }

    /// Whether the kernel lets a test do this.
    pub fn can() -> bool {
        let can = Faults::default().spawn(&mut Command::new("true"));
        let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
        match can {
            Ok(mut child) => child.wait().is_ok(),
            Err(error) => {
                assert!(
                    !required,
                    "seccomp_unotify: {error}, and VITALD_TEST_REQUIRE=1"
                );
                eprintln!("skipped: seccomp_unotify: {error}");
                false
            }
        }
    }

    /// Starts the command under these rules.
    pub fn spawn(&self, command: &mut Command) -> io::Result<std::process::Child> {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair()?;
        let socket = theirs.as_raw_fd();
        // SAFETY: system calls on numbers and on memory of its own.
        unsafe { command.pre_exec(move || send_fd(socket, install()?)) };
        let child = command.spawn()?;
        drop(theirs);
        let listener = receive_fd(ours.as_raw_fd())?;
        let faults = self.clone();
        std::thread::spawn(move || faults.serve(&listener));
        Ok(child)
    }

    /// Until nobody is left who could ask.
    fn serve(&self, listener: &OwnedFd) {
        loop {
            let mut poll = libc::pollfd {
                fd: listener.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one entry, as is said.
            unsafe { libc::poll(&raw mut poll, 1, -1) };
            if poll.revents & libc::POLLIN == 0 && poll.revents != 0 {
                return;
            }
            let mut asked = Asked::default();
            // SAFETY: the request's number says how much is written.
            let got = unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut asked) };
            // ENOENT: it was killed while it asked.
            if got < 0 {
                continue;
            }
            let fails = self.fails(&asked);
            let answered = Answered {
                id: asked.id,
                value: 0,
                error: if fails { -libc::EIO } else { 0 },
                flags: if fails { 0 } else { GO_ON },
            };
            // SAFETY: it is only read.
            unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw const answered) };
        }
    }

    fn fails(&self, asked: &Asked) -> bool {
        let mut rules = self.0.lock().expect("rules");
        if rules.failing.is_empty() {
            return false;
        }
        let syncs = SYNCS.contains(&asked.number.into());
        let link = format!("/proc/{}/fd/{}", asked.pid, asked.arguments[0] as i32);
        let file = std::fs::read_link(link).unwrap_or_default();
        let hit = |(call, dir): &(Call, PathBuf)| match call {
            Call::Sync => syncs && file.starts_with(dir),
            Call::SyncName => syncs && file == *dir,
            Call::Write => !syncs && file.starts_with(dir),
        };
        let fails = rules.failing.iter().any(hit);
        rules.hits += usize::from(fails);
        fails
    }
}

/// The filter, and the descriptor by which it asks.
fn install() -> io::Result<RawFd> {
    let step = |code: u32, yes: u8, no: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: yes,
        jf: no,
        k,
    };
    let load = step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0);
    let give = |k: u32| step(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    let mut steps = [load; 8];
    for (at, number) in SYNCS.iter().chain(&WRITES).enumerate() {
        let to_the_end = 5 - at as u8;
        let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        steps[at + 1] = step(equal, to_the_end, 0, *number as u32);
    }
    steps[6] = give(libc::SECCOMP_RET_ALLOW);
    steps[7] = give(libc::SECCOMP_RET_USER_NOTIF);
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: the program lives through the call.
    let fd = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    match fd {
        ..0 => Err(io::Error::last_os_error()),
        fd => Ok(fd as RawFd),
    }
}

fn send_fd(socket: RawFd, fd: RawFd) -> io::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let rights = [fd];
    let rights = [ControlMessage::ScmRights(&rights)];
    let byte = [io::IoSlice::new(b"x")];
    sendmsg::<()>(socket, &byte, &rights, MsgFlags::empty(), None)?;
    Ok(())
}

fn receive_fd(socket: RawFd) -> io::Result<OwnedFd> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut byte = [0];
    let mut bytes = [io::IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message = recvmsg::<()>(
        socket,
        &mut bytes,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            // SAFETY: it was just made for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
