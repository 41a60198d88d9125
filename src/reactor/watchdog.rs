//! The host's watchdog, /dev/watchdog: opened, set, fed, disarmed (the kernel's
//! watchdog-api.rst). And the same for who started us, by sd_notify(3).
//!
//! Whether it is fed is the engine's. Opening it starts it: from then on the host is reset when it
//! is not fed in time, also when the daemon died; only the letter V before the close, at an orderly
//! end, stops it, if the kernel lets it (`nowayout`).
//!
//! Invariants: it is never closed while the daemon lives, so it goes along over `upgrade` and a
//! panic; nothing here waits, a device that takes nothing is said and tried again.

use super::*;
use crate::config::settings;
use crate::engine::Watchdogs;
use crate::engine::status::HostWatchdog;
use crate::exit::errno_words;
use crate::reactor::reexec;
use std::fs::{File, OpenOptions};
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicI32, Ordering};

/// How long the end of a host may take from our last word to it: what is left of processes, of
/// disks, and the firmware.
const REBOOT: Duration = Duration::from_secs(120);

/// WDIOC_SETTIMEOUT and WDIOC_GETTIMEOUT (linux/watchdog.h).
const SET_TIMEOUT: u32 = libc::_IOWR::<libc::c_int>(b'W' as u32, 6) as u32;
const GET_TIMEOUT: u32 = libc::_IOR::<libc::c_int>(b'W' as u32, 7) as u32;

/// The open device, also for a panic and for the last moments of a host; -1: none.
static DEVICE: AtomicI32 = AtomicI32::new(-1);

/// What is known of the device.
#[derive(Default)]
pub(super) struct Watchdog {
    path: Box<str>,
    timeout: Duration,
    /// It takes no food, as it seems now; or it could not be opened.
    trouble: Option<Box<str>>,
}

/// For the execution after us.
pub fn descriptor() -> Option<RawFd> {
    Some(DEVICE.load(Ordering::Relaxed)).filter(|fd| *fd >= 0)
}

/// Feeds it; where none is open that is done.
pub fn feed() -> io::Result<()> {
    write(b".")
}

/// It no longer counts. Closed with the process.
pub fn disarm() {
    match write(b"V") {
        Ok(()) if descriptor().is_some() => log::info!("the host's watchdog is disarmed"),
        Ok(()) => {}
        Err(error) => log::warn!("cannot disarm the host's watchdog: {error}"),
    }
    DEVICE.store(-1, Ordering::Relaxed);
}

/// The host is about to be rebooted: the watchdog sees to it that it is.
pub fn outlast() {
    if let Some(fd) = descriptor() {
        // One that does not take the time is fed while we are there.
        let _ = set_timeout(fd, REBOOT);
        let _ = feed();
    }
}

fn write(word: &[u8]) -> io::Result<()> {
    let Some(fd) = descriptor() else {
        return Ok(());
    };
    // SAFETY: the descriptor stays open as long as it stands there.
    match unsafe { libc::write(fd, word.as_ptr().cast(), word.len()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// What it was set to.
fn set_timeout(fd: RawFd, timeout: Duration) -> io::Result<Duration> {
    let whole = timeout.as_millis().div_ceil(1000);
    let mut seconds = libc::c_int::try_from(whole).unwrap_or(libc::c_int::MAX);
    // SAFETY: it reads and writes one number.
    if unsafe { libc::ioctl(fd, SET_TIMEOUT as _, &raw mut seconds) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// What it is set to, where it cannot be set.
fn timeout_of(fd: RawFd) -> Option<Duration> {
    let mut seconds: libc::c_int = 0;
    // SAFETY: it writes one number.
    let known = unsafe { libc::ioctl(fd, GET_TIMEOUT as _, &raw mut seconds) } == 0;
    let seconds = u64::try_from(seconds).ok().filter(|s| known && *s > 0);
    seconds.map(Duration::from_secs)
}

fn open(path: &str) -> io::Result<File> {
    // Neither waits for who reads a stand-in, nor makes a file where there is no device.
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new()
        .append(true)
        .custom_flags(flags)
        .open(path)
}

impl Watchdog {
    /// The device that the settings name, or the one that the execution before had open. Also the
    /// timeout in force; None: there is no device.
    fn take(
        wanted: Option<&settings::Watchdog>,
        before: Option<RawFd>,
    ) -> (Watchdog, Option<Duration>) {
        let before = before.and_then(reexec::claim_copy);
        let Some(wanted) = wanted else {
            if let Some(fd) = before {
                DEVICE.store(fd.into_raw_fd(), Ordering::Relaxed);
                log::info!("vitald.toml names no watchdog any more");
                disarm();
            }
            return (Watchdog::default(), None);
        };
        let (path, mut trouble) = (&*wanted.device, None);
        let opened = match before {
            Some(fd) => Ok(fd.into_raw_fd()),
            None => open(path).map(IntoRawFd::into_raw_fd),
        };
        let mut timeout = None;
        match opened {
            Ok(fd) => {
                DEVICE.store(fd, Ordering::Relaxed);
                timeout = Some(prepare(fd, path, wanted.timeout));
            }
            Err(error) => {
                let cause = errno_words(error.raw_os_error().unwrap_or(0));
                let advice = match error.raw_os_error() {
                    Some(libc::EBUSY) => {
                        ": another process feeds it; end that, or remove `watchdog` from vitald.toml"
                    }
                    Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
                        ": load its kernel module (softdog, where there is no hardware)"
                    }
                    _ => "",
                };
                let words = format!("cannot open {path}: {cause}{advice}");
                log::error!("the host has no watchdog: {words}");
                trouble = Some(words.into());
            }
        }
        let watchdog = Watchdog {
            path: path.into(),
            timeout: timeout.unwrap_or(wanted.timeout),
            trouble,
        };
        (watchdog, timeout)
    }

    /// As `info` tells; `known`: what the engine knows of it.
    pub(super) fn status(&self, known: Option<HostWatchdog>) -> Option<HostWatchdog> {
        let there = known.is_some() || self.trouble.is_some();
        there.then(|| HostWatchdog {
            device: self.path.to_string(),
            timeout_ms: crate::time::millis(self.timeout),
            trouble: self.trouble.as_deref().map(str::to_owned),
            ..known.unwrap_or_default()
        })
    }
}

/// Sets the timeout; the one in force.
fn prepare(fd: RawFd, path: &str, wanted: Duration) -> Duration {
    let timeout = match set_timeout(fd, wanted) {
        Ok(set) if set.is_zero() => wanted,
        Ok(set) => set,
        Err(error) => {
            let known = timeout_of(fd);
            let used = known.unwrap_or(wanted);
            let (cause, used_words) = (
                errno_words(error.raw_os_error().unwrap_or(0)),
                crate::time::spoken(used),
            );
            log::warn!(
                "{path} does not take a timeout: {cause}; it is fed as if it had one of {used_words}"
            );
            used
        }
    };
    log::info!(
        "the host's watchdog {path} resets it when it is not fed for {}",
        crate::time::spoken(timeout)
    );
    timeout
}

impl Reactor {
    /// Before the engine's first event: who is to hear of us.
    pub fn open_watchdogs(
        &mut self,
        wanted: Option<&settings::Watchdog>,
        before: Option<RawFd>,
    ) -> Watchdogs {
        let (watchdog, device) = Watchdog::take(wanted, before);
        self.watchdog = watchdog;
        Watchdogs {
            device,
            parent: parent::patience(),
        }
    }

    pub(super) fn feed_watchdog(&mut self) {
        let path = &self.watchdog.path;
        match feed() {
            Ok(()) => {
                if self.watchdog.trouble.take().is_some() {
                    log::info!("{path} is fed again");
                }
            }
            Err(error) => {
                let cause = errno_words(error.raw_os_error().unwrap_or(0));
                let left = crate::time::spoken(self.watchdog.timeout);
                let words =
                    format!("cannot feed {path}: {cause}; the host may be reset within {left}");
                if self.watchdog.trouble.as_deref() != Some(&*words) {
                    log::error!("{words}");
                }
                self.watchdog.trouble = Some(words.into());
            }
        }
    }
}
