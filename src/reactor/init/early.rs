//! The early set-up of a host: what programs take for granted and nobody else has made.
//!
//! File systems of the kernel's own where they are missing, the console as standard input and
//! output, the links in /dev that devtmpfs lacks, the loopback interface, the host's name. No
//! disks: what is to be mounted and checked is a oneshot's work.
//!
//! Invariant: what is there is left alone, so it may be done again.

use crate::exit::errno_words;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;

struct Mount {
    kind: &'static CStr,
    at: &'static CStr,
    options: &'static CStr,
    /// Beside nosuid.
    flags: libc::c_ulong,
}

const NODEV: libc::c_ulong = libc::MS_NODEV;
const KERNEL: libc::c_ulong = libc::MS_NODEV | libc::MS_NOEXEC;

/// In this order: the console first, so that what goes wrong is seen.
const MOUNTS: [Mount; 7] = [
    mount(c"devtmpfs", c"/dev", c"mode=0755", 0),
    mount(c"proc", c"/proc", c"", KERNEL),
    mount(c"sysfs", c"/sys", c"", KERNEL),
    mount(
        c"devpts",
        c"/dev/pts",
        c"gid=5,mode=620,ptmxmode=666",
        libc::MS_NOEXEC,
    ),
    mount(c"tmpfs", c"/dev/shm", c"mode=1777", NODEV),
    mount(c"tmpfs", c"/run", c"mode=0755", NODEV),
    mount(c"cgroup2", c"/sys/fs/cgroup", c"", KERNEL),
];

/// From → to, which udev or mdev make elsewhere.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("fd/0", "/dev/stdin"),
    ("fd/1", "/dev/stdout"),
    ("fd/2", "/dev/stderr"),
];

const fn mount(
    kind: &'static CStr,
    at: &'static CStr,
    options: &'static CStr,
    flags: libc::c_ulong,
) -> Mount {
    let flags = flags | libc::MS_NOSUID;
    Mount {
        kind,
        at,
        options,
        flags,
    }
}

/// Does all of it, and says what could not be done.
pub fn set_up() {
    for mount in &MOUNTS {
        if let Err(error) = mount.make() {
            log::warn!(
                "early set-up: cannot mount {}: {}",
                mount.path(),
                cause(&error)
            );
        }
        if mount.path() == "/dev" {
            let _ = take_console();
        }
    }
    for (from, to) in LINKS {
        // It is there, or /dev cannot be written to: nothing that we need.
        let _ = symlink(from, to);
    }
    if let Err(error) = loopback_up() {
        log::warn!("early set-up: cannot bring up lo: {}", cause(&error));
    }
    name_host();
}

fn cause(error: &io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), errno_words)
}

impl Mount {
    fn path(&self) -> &'static str {
        self.at.to_str().unwrap_or_default()
    }

    fn make(&self) -> io::Result<()> {
        let path = Path::new(self.path());
        if !path.exists() {
            // /sys/fs/cgroup is the kernel's to make: without it there are no cgroups.
            if path.starts_with("/sys/fs") {
                return Ok(());
            }
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)?;
        }
        if is_mounted(path) {
            return Ok(());
        }
        // SAFETY: strings that live as long as the program.
        let made = unsafe {
            let options = self.options.as_ptr().cast();
            libc::mount(
                self.kind.as_ptr(),
                self.at.as_ptr(),
                self.kind.as_ptr(),
                self.flags,
                options,
            )
        };
        match io::Error::last_os_error() {
            _ if made == 0 => Ok(()),
            // Another of its kind is there after all.
            error if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
            error => Err(error),
        }
    }
}

/// As mountpoint(1) tells it: on another device than the directory it is in.
fn is_mounted(path: &Path) -> bool {
    let parent = path.parent().unwrap_or(path);
    match (fs::metadata(path), fs::metadata(parent)) {
        (Ok(own), Ok(above)) => own.dev() != above.dev(),
        _ => false,
    }
}

/// What we say is said on the console, also where the kernel found none before /dev was there.
fn take_console() -> io::Result<()> {
    let console = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/console")?;
    for number in 0..=2 {
        // SAFETY: both numbers are open descriptors; 0 to 2 belong to nobody.
        unsafe { libc::dup2(console.as_raw_fd(), number) };
    }
    Ok(())
}

/// netdevice(7); the kernel adds its addresses by itself.
fn loopback_up() -> io::Result<()> {
    // SAFETY: all zero is a request; the name fits and ends in zeros; the kernel reads and writes
    // no more than the struct.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut done = libc::ioctl(socket, libc::SIOCGIFFLAGS as _, &raw mut request);
        if done == 0 {
            request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
            done = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw mut request);
        }
        let error = io::Error::last_os_error();
        libc::close(socket);
        if done == 0 { Ok(()) } else { Err(error) }
    }
}

/// hostname(5), unless somebody has named it already.
fn name_host() {
    let unnamed =
        nix::sys::utsname::uname().is_ok_and(|host| host.nodename().as_bytes() == b"(none)");
    let text = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    if let (true, Some(name)) = (
        unnamed,
        lines.find(|line| !line.is_empty() && !line.starts_with('#')),
    ) {
        // SAFETY: it reads as many bytes as it is told.
        unsafe { libc::sethostname(name.as_ptr().cast(), name.len() as _) };
    }
}
