//! What we rely on Linux for. Each test is one fact that the code builds on; if one fails on a
//! kernel, that code is wrong there.
//!
//! A test forks children of its own and waits only for those by number or pidfd; what concerns all
//! children of a process runs in a child (`alone`).

#[path = "kernel/cgroup.rs"]
mod cgroup;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr, sockopt};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use vitald::exit::{Exit, Signal};
use vitald::id::Pid;
use vitald::reactor::child;
use vitald::reactor::helper::{self, Helper};
use vitald::reactor::procfs;
use vitald::reactor::signals::Signals;
use vitald::reactor::sys::{self, Origin};

const SOON: Duration = Duration::from_secs(20);

/// A child that does this and ends with this code.
fn fork(keep: &[BorrowedFd], work: impl FnOnce() -> u8) -> Helper {
    helper::start(c"test", &Origin::default(), keep, 0, |_| work()).unwrap()
}

/// A child that lives until it is killed.
fn sleeper() -> Helper {
    fork(&[], || {
        loop {
            std::thread::park();
        }
    })
}

fn kill(child: &Helper, signal: i32) {
    sys::pidfd_send_signal(child.pidfd.as_fd(), Signal(signal as u8)).unwrap();
}

fn wait(child: &Helper) {
    assert!(
        child::wait_ended(&child.pidfd, SOON),
        "the child does not end"
    );
}

fn reap(child: &Helper) -> Exit {
    wait(child);
    sys::reap_pidfd(child.pidfd.as_fd()).unwrap().unwrap()
}

fn alone(work: impl FnOnce()) {
    let child = fork(&[], || {
        std::panic::set_hook(Box::new(|panic| {
            let text = format!("{panic}\n");
            unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        }));
        work();
        0
    });
    assert_eq!(reap(&child), Exit::Code(0));
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn state(child: &Helper) -> u8 {
    procfs::proc_stat(child.pid).unwrap().state
}

struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("vitald-kernel-{}-{test}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An epoll that watches one descriptor, edge-triggered as mio does.
fn watch(fd: impl AsFd) -> Epoll {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
    epoll.add(fd, EpollEvent::new(flags, 1)).unwrap();
    epoll
}

/// What it reports next within this time; empty: nothing.
fn report(epoll: &Epoll, millis: u16) -> EpollFlags {
    let mut events = [EpollEvent::empty(); 4];
    let count = epoll.wait(&mut events, EpollTimeout::from(millis)).unwrap();
    events[..count].iter().map(|event| event.events()).collect()
}

// Watching.

/// After the reap the still open descriptor fires again: deregister and close it right then.
#[test]
fn a_pidfd_fires_once_at_the_exit_and_once_more_at_the_reap() {
    let child = sleeper();
    let epoll = watch(&child.pidfd);
    assert_eq!(report(&epoll, 0), EpollFlags::empty());
    kill(&child, libc::SIGKILL);
    assert_eq!(report(&epoll, 20_000), EpollFlags::EPOLLIN);
    assert_eq!(report(&epoll, 50), EpollFlags::empty(), "edge-triggered");
    assert_eq!(reap(&child), Exit::Signal(Signal::KILL));
    if older_than(6, 9) {
        return skipped("EPOLLHUP after the reap is Linux 6.9");
    }
    assert_eq!(
        report(&epoll, 20_000),
        EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP
    );
}

/// So nothing is missed between the clone and the registration.
#[test]
fn a_pidfd_registered_after_the_death_still_fires() {
    let child = fork(&[], || 3);
    wait(&child);
    assert_eq!(report(&watch(&child.pidfd), 20_000), EpollFlags::EPOLLIN);
    assert_eq!(reap(&child), Exit::Code(3));
}

/// A registered descriptor must be deregistered before it is closed.
#[test]
fn a_closed_descriptor_lives_on_in_epoll_as_long_as_a_copy_of_it() {
    let (reader, writer) = sys::pipe(true).unwrap();
    let epoll = watch(&reader);
    let copy = reader.try_clone().unwrap();
    let number = reader.as_raw_fd();
    drop(reader);
    nix::unistd::write(&writer, b"x").unwrap();
    assert_eq!(report(&epoll, 20_000), EpollFlags::EPOLLIN, "a ghost");
    let gone = unsafe {
        let none = std::ptr::null_mut();
        libc::epoll_ctl(epoll.0.as_raw_fd(), libc::EPOLL_CTL_DEL, number, none)
    };
    assert_eq!(gone, -1, "and it cannot be removed any more");
    drop(copy);
}

/// Many deaths, one SIGCHLD: the signal tells only that there is something to look for.
#[test]
fn sigchld_coalesces() {
    alone(|| {
        let signals = Signals::listen().unwrap();
        let children: Vec<Helper> = (0..20).map(|code| fork(&[], move || code)).collect();
        children.iter().for_each(wait);
        let mut heard = 0;
        while let Some(caught) = signals.read().unwrap() {
            assert_eq!(caught.signal.0 as i32, libc::SIGCHLD);
            heard += 1;
        }
        assert_eq!(heard, 1);
        for (code, child) in children.iter().enumerate() {
            assert_eq!(reap(child), Exit::Code(code as u8));
        }
    });
}

/// Why `waitid(P_ALL)` is only used to look.
#[test]
fn waiting_for_anybody_steals_the_status_of_a_child_with_a_pidfd() {
    alone(|| {
        let child = fork(&[], || 4);
        wait(&child);
        // To look does not take.
        assert_eq!(sys::first_zombie().unwrap(), Some(child.pid));
        assert_eq!(sys::first_zombie().unwrap(), Some(child.pid));
        let status = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        assert_eq!(status, child.pid.0);
        let late = sys::reap_pidfd(child.pidfd.as_fd()).unwrap_err();
        assert_eq!(late.raw_os_error(), Some(libc::ECHILD));
        assert_eq!(sys::first_zombie().unwrap(), None);
    });
}

/// Why SIGCHLD is set to default at the start.
#[test]
fn with_sigchld_ignored_the_kernel_reaps_and_nobody_learns_how_it_ended() {
    alone(|| {
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let child = fork(&[], || 4);
        wait(&child);
        assert!(sys::reap_pidfd(child.pidfd.as_fd()).is_err());
        let _signals = Signals::listen().unwrap();
        let child = fork(&[], || 5);
        assert_eq!(reap(&child), Exit::Code(5));
    });
}

/// How an adopted process ended can be told, but only after its own parent reaped it.
#[test]
fn the_kernel_tells_the_exit_of_a_process_that_is_not_our_child() {
    let (mut here, there) = UnixStream::pair().unwrap();
    let parent = fork(&[there.as_fd()], || {
        let child = fork(&[], || 42);
        wait(&child);
        (&there).write_all(&child.pid.0.to_ne_bytes()).unwrap();
        (&there).read_exact(&mut [0]).unwrap();
        reap(&child);
        0
    });
    let mut pid = [0; 4];
    here.read_exact(&mut pid).unwrap();
    let pid = Pid(i32::from_ne_bytes(pid));
    let pidfd = sys::pidfd_open(pid).unwrap();
    assert_eq!(child::reap(pidfd.as_fd()), child::Ended::Unreaped);
    assert_eq!(sys::exit_info(pidfd.as_fd()), None);
    here.write_all(b"x").unwrap();
    assert_eq!(reap(&parent), Exit::Code(0));
    if older_than(6, 15) {
        assert_eq!(child::reap(pidfd.as_fd()), child::Ended::Yes(Exit::Unknown));
        return skipped("PIDFD_GET_INFO tells exits since Linux 6.15");
    }
    assert_eq!(
        child::reap(pidfd.as_fd()),
        child::Ended::Yes(Exit::Code(42))
    );
}

/// The list of our children is whole, zombies included, in the order of birth, also when it is
/// longer than the kernel's buffer.
#[test]
fn the_list_of_children_is_whole() {
    alone(|| {
        let children: Vec<Helper> = (0..700)
            .map(|number| fork(&[], move || if number % 2 == 0 { 0 } else { park() }))
            .collect();
        let mut wanted: Vec<Pid> = children.iter().map(|child| child.pid).collect();
        assert_eq!(procfs::Children::default().all().unwrap(), wanted);
        for child in children.iter().step_by(2) {
            reap(child);
        }
        let mut keep = [false, true].into_iter().cycle();
        wanted.retain(|_| keep.next().unwrap());
        assert_eq!(procfs::Children::default().all().unwrap(), wanted);
    });
}

fn park() -> u8 {
    loop {
        std::thread::park();
    }
}

// Signals.

/// Why SIGCONT follows every stop signal.
#[test]
fn sigterm_to_a_stopped_process_waits_for_sigcont() {
    let child = sleeper();
    kill(&child, libc::SIGSTOP);
    until("stopped", || state(&child) == b'T');
    kill(&child, libc::SIGTERM);
    assert!(!child::wait_ended(&child.pidfd, Duration::from_millis(50)));
    kill(&child, libc::SIGCONT);
    assert_eq!(reap(&child), Exit::Signal(Signal::TERM));
}

/// A zombie can still be signalled without effect; after the reap nobody is hit.
#[test]
fn a_pidfd_never_names_anybody_else() {
    let child = fork(&[], || 0);
    wait(&child);
    sys::pidfd_send_signal(child.pidfd.as_fd(), Signal::TERM).unwrap();
    assert_eq!(reap(&child), Exit::Code(0));
    let gone = sys::pidfd_send_signal(child.pidfd.as_fd(), Signal::TERM).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
}

/// A signal that is blocked waits in the signalfd even if it is ignored.
#[test]
fn a_signalfd_hears_what_is_blocked_with_its_sender() {
    alone(|| {
        let signals = Signals::listen().unwrap();
        assert_eq!(signals.read().unwrap(), None);
        unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
        let caught = signals.read().unwrap().unwrap();
        assert_eq!(caught.signal, Signal::TERM);
        assert_eq!(caught.from.0 as u32, std::process::id());
        assert_eq!(caught.uid, nix::unistd::getuid().as_raw());
        assert_eq!(signals.read().unwrap(), None);
        // SIGPIPE does not end us.
        let (reader, writer) = sys::pipe(true).unwrap();
        drop(reader);
        assert_eq!(nix::unistd::write(&writer, b"x"), Err(nix::Error::EPIPE));
    });
}

// Descriptors.

/// Inherited descriptors can be kept from children in one call.
#[test]
fn close_range_marks_close_on_exec() {
    if older_than(5, 11) {
        return skipped("CLOSE_RANGE_CLOEXEC is Linux 5.11");
    }
    alone(|| {
        let null = File::open("/dev/null").unwrap();
        let open = unsafe { libc::dup(null.as_raw_fd()) };
        let flags = || unsafe { libc::fcntl(open, libc::F_GETFD) };
        assert_eq!(flags(), 0);
        let range = (3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        let done = unsafe { libc::syscall(libc::SYS_close_range, range.0, range.1, range.2) };
        assert_eq!((done, flags()), (0, libc::FD_CLOEXEC));
    });
}

/// Why sources that stand on their own place move up first.
#[test]
fn dup2_onto_itself_leaves_close_on_exec_set() {
    let null = File::open("/dev/null").unwrap();
    let fd = null.as_raw_fd();
    unsafe {
        assert_eq!(libc::dup2(fd, fd), fd);
        assert_eq!(libc::fcntl(fd, libc::F_GETFD), libc::FD_CLOEXEC);
    }
}

/// Why log pipes are FIFOs opened for reading and writing: the service survives its reader.
#[test]
fn a_fifo_held_for_both_outlives_its_reader_and_loses_no_byte() {
    let scratch = Scratch::new("fifo");
    let path = scratch.path("log");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = || {
        let mut open = OpenOptions::new();
        open.read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
            .unwrap()
    };
    let mut first = reader();
    let log = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let (mut here, there) = UnixStream::pair().unwrap();
    let service = fork(&[log.as_fd(), there.as_fd()], || {
        (&log).write_all(b"one ").unwrap();
        (&there).write_all(b"x").unwrap();
        (&there).read_exact(&mut [0]).unwrap();
        // Nobody else reads now: SIGPIPE, had we not a read end ourselves.
        (&log).write_all(b"two").unwrap();
        (&there).write_all(b"x").unwrap();
        park()
    });
    drop(log);
    here.read_exact(&mut [0]).unwrap();
    let mut text = [0; 2];
    first.read_exact(&mut text).unwrap();
    drop(first);
    here.write_all(b"x").unwrap();
    here.read_exact(&mut [0]).unwrap();
    // The next daemon opens it by its path.
    let mut rest = [0; 16];
    let length = reader().read(&mut rest).unwrap();
    assert_eq!([&text[..], &rest[..length]].concat(), b"one two");
    kill(&service, libc::SIGKILL);
    assert_eq!(reap(&service), Exit::Signal(Signal::KILL));
}

/// The counterpart: with a plain pipe the service dies of its reader's death.
#[test]
fn a_writer_on_a_plain_pipe_dies_with_its_reader() {
    let (reader, writer) = sys::pipe(true).unwrap();
    let (mut here, there) = UnixStream::pair().unwrap();
    let service = fork(&[writer.as_fd(), there.as_fd()], || {
        (&there).read_exact(&mut [0]).unwrap();
        let _ = nix::unistd::write(&writer, b"x");
        0
    });
    drop(reader);
    here.write_all(b"x").unwrap();
    assert_eq!(reap(&service), Exit::Signal(Signal::PIPE));
}

// Locks.

fn locks(file: &File) -> (bool, bool) {
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    let posix = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) } == 0;
    let flock = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
    (posix, flock)
}

/// Why the directories are locked by record locks: a helper or a service that outlives the daemon
/// must not hold its lock.
#[test]
fn record_locks_are_not_inherited_but_flocks_are() {
    let scratch = Scratch::new("lock");
    let open = || {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(false)
            .open(scratch.path("lock"))
            .unwrap()
    };
    let (mut here, there) = UnixStream::pair().unwrap();
    let daemon = fork(&[there.as_fd()], || {
        let file = open();
        assert_eq!(locks(&file), (true, true));
        let survivor = unsafe { libc::fork() };
        if survivor == 0 {
            park();
        }
        (&there).write_all(&survivor.to_ne_bytes()).unwrap();
        park()
    });
    let mut survivor = [0; 4];
    here.read_exact(&mut survivor).unwrap();
    let survivor = i32::from_ne_bytes(survivor);
    assert_eq!(locks(&open()), (false, false));
    kill(&daemon, libc::SIGKILL);
    reap(&daemon);
    assert_eq!(
        locks(&open()),
        (true, false),
        "the survivor holds the flock"
    );
    let pidfd = sys::pidfd_open(Pid(survivor)).unwrap();
    sys::pidfd_send_signal(pidfd.as_fd(), Signal::KILL).unwrap();
    assert!(child::wait_ended(&pidfd, SOON));
    assert_eq!(locks(&open()), (true, true));
}

// Sockets.

fn unix_socket(path: &std::path::Path, backlog: i32) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    socket::bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    socket::listen(&listener, Backlog::new(backlog).unwrap()).unwrap();
    listener
}

fn connect(path: &std::path::Path) -> Result<OwnedFd, nix::Error> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let client = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(client.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(client)
}

/// Not EINPROGRESS, and no readiness to wait for: it must be tried again by a timer.
#[test]
fn connecting_to_a_full_unix_accept_queue_is_eagain_at_once() {
    let scratch = Scratch::new("queue");
    let path = scratch.path("socket");
    let listener = unix_socket(&path, 0);
    let _waiting = connect(&path).unwrap();
    assert_eq!(connect(&path).unwrap_err(), nix::Error::EAGAIN);
    drop(listener);
    // The path is there, nobody listens; then not even the path.
    assert_eq!(connect(&path).unwrap_err(), nix::Error::ECONNREFUSED);
    fs::remove_file(&path).unwrap();
    assert_eq!(connect(&path).unwrap_err(), nix::Error::ENOENT);
}

/// Why a Unix service is probed through its path: the listener does not notice its loss.
#[test]
fn a_listener_lives_on_when_its_path_is_gone() {
    let scratch = Scratch::new("path");
    let path = scratch.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(
        UnixStream::connect(&path).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
    listener.set_nonblocking(true).unwrap();
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

/// A TCP connect proves nothing: the kernel answers for a process that is stopped. Only an answer
/// proves life.
#[test]
fn a_tcp_connect_to_a_stopped_server_succeeds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = fork(&[listener.as_fd()], || {
        let (mut client, _) = listener.accept().unwrap();
        client.write_all(b"alive").unwrap();
        0
    });
    drop(listener);
    kill(&server, libc::SIGSTOP);
    until("stopped", || state(&server) == b'T');
    let mut client = TcpStream::connect_timeout(&address, SOON).unwrap();
    client
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut answer = [0; 5];
    assert_eq!(
        client.read(&mut answer).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    kill(&server, libc::SIGCONT);
    client.set_read_timeout(Some(SOON)).unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"alive");
    assert_eq!(reap(&server), Exit::Code(0));
}

/// A full TCP accept queue drops the newcomer: a timeout, not a refusal.
#[test]
fn connecting_to_a_full_tcp_accept_queue_neither_succeeds_nor_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let _waiting = TcpStream::connect_timeout(&address, SOON).unwrap();
    let late = TcpStream::connect_timeout(&address, Duration::from_millis(100)).unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::TimedOut);
}

/// Who speaks on the control socket is told by the kernel, as of the connect.
#[test]
fn so_peercred_names_the_peer() {
    let scratch = Scratch::new("peer");
    let path = scratch.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let (mut here, there) = UnixStream::pair().unwrap();
    let client = fork(&[there.as_fd()], || {
        let _connected = UnixStream::connect(&path).unwrap();
        (&there).write_all(b"x").unwrap();
        park()
    });
    here.read_exact(&mut [0]).unwrap();
    let (peer, _) = listener.accept().unwrap();
    let credentials = socket::getsockopt(&peer, sockopt::PeerCredentials).unwrap();
    assert_eq!(credentials.pid(), client.pid.0);
    assert_eq!(credentials.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(credentials.gid(), nix::unistd::getegid().as_raw());
    kill(&client, libc::SIGKILL);
    reap(&client);
}

// Time and names.

/// A pid and a start time name a process for ever; the clock of it is that of the boot.
#[test]
fn start_times_grow_and_are_counted_from_boot() {
    let before = procfs::boot_ticks();
    let child = sleeper();
    let started = procfs::start_time(child.pid).unwrap();
    assert!((before..=procfs::boot_ticks()).contains(&started));
    kill(&child, libc::SIGKILL);
    wait(&child);
    assert_eq!(
        procfs::start_time(child.pid),
        Some(started),
        "a zombie keeps it"
    );
    reap(&child);
    assert_ne!(procfs::start_time(child.pid), Some(started));
}

/// A session's number is not given to anybody else while a member of it lives, though its leader
/// is reaped: why `tree` may trust session and group.
#[test]
fn a_session_outlives_its_leader_under_the_same_number() {
    let (mut here, there) = UnixStream::pair().unwrap();
    let leader = fork(&[there.as_fd()], || {
        let member = unsafe { libc::fork() };
        if member == 0 {
            park();
        }
        (&there).write_all(&member.to_ne_bytes()).unwrap();
        0
    });
    let mut member = [0; 4];
    here.read_exact(&mut member).unwrap();
    let member = Pid(i32::from_ne_bytes(member));
    assert_eq!(reap(&leader), Exit::Code(0));
    let stat = procfs::proc_stat(member).unwrap();
    assert_eq!((stat.session, stat.group), (leader.pid, leader.pid));
    assert!(!child::group_is_empty(leader.pid));
    let pidfd = sys::pidfd_open(member).unwrap();
    unsafe { libc::kill(-leader.pid.0, libc::SIGKILL) };
    assert!(child::wait_ended(&pidfd, SOON));
    until("the group is empty", || child::group_is_empty(leader.pid));
}

/// The environment in /proc is the one that exec was given: how a run's processes are known.
#[test]
fn a_processs_initial_environment_can_be_read_and_survives_setenv() {
    let child = std::process::Command::new("sh")
        .args(["-c", "unset MARK; echo; read x"])
        .env_clear()
        .env("MARK", "web/3")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let environ = fs::read(format!("/proc/{}/environ", child.id())).unwrap();
    assert_eq!(environ, b"MARK=web/3\0");
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn older_than(major: u32, minor: u32) -> bool {
    let release = nix::sys::utsname::uname().unwrap();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse());
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next()) < (major, minor)
}

fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
