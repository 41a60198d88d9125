//! The end of PID 1, when all services have stopped: what is left of processes and file systems,
//! and reboot(2).
//!
//! Invariants: everything here is bounded, also where a disk or a network file system does not
//! answer; nothing is killed but by PID 1, for whom "all processes" are those of its pid namespace.

use super::{Role, role, shell};
use crate::control::power::Ending;
use crate::exit::errno_words;
use crate::reactor::watchdog;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::ffi::CString;
use std::io;
use std::time::{Duration, Instant};

/// Between SIGTERM to all that is left and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// What does not end by SIGKILL is in the kernel's hands.
const KILLED: Duration = Duration::from_secs(2);
/// How long disks may take for the last of their writes.
const DISKS: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);
/// The host's watchdog is fed so often until then.
const FED: Duration = Duration::from_secs(1);

/// File systems that keep nothing.
const KEEP_NOTHING: &str = " autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl \
     hugetlbfs mqueue nsfs proc pstore ramfs rootfs securityfs selinuxfs sysfs tmpfs tracefs ";

/// SIGTERM, then SIGKILL to every process that is left. Only PID 1 may say "everybody".
pub fn end_leftovers(grace: Duration) {
    if std::process::id() != 1 {
        return;
    }
    if let Some(pid) = shell() {
        // An interactive shell ignores SIGTERM.
        // SAFETY: a signal is sent.
        unsafe { libc::kill(-pid, libc::SIGHUP) };
    }
    for (signals, patience) in [
        (&[libc::SIGTERM, libc::SIGCONT][..], grace),
        (&[libc::SIGKILL][..], KILLED),
    ] {
        for signal in signals {
            // SAFETY: signals are sent; kill(2): -1 spares init and whoever sends.
            unsafe { libc::kill(-1, *signal) };
        }
        if all_gone(Instant::now() + patience) {
            return;
        }
    }
}

/// Reaps until nobody is left. On a host all that can be ended descends from PID 1, and kernel
/// threads are always there; into a container processes come from outside as well (nsenter(1)).
fn all_gone(until: Instant) -> bool {
    let mut fed: Option<Instant> = None;
    loop {
        if fed.is_none_or(|at| at.elapsed() > FED) {
            // What it says was said before.
            let _ = watchdog::feed();
            fed = Some(Instant::now());
        }
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            // SAFETY: signal 0 is none: it asks whether there is anybody.
            Err(nix::Error::ECHILD) if role() == Role::Host || unsafe { libc::kill(-1, 0) } < 0 => {
                return true;
            }
            Ok(WaitStatus::StillAlive) | Err(_) => {}
            Ok(_) => continue,
        }
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

/// Ends the machine. The services have stopped, or nothing is supervised.
/// `last`: what is still to be written.
pub fn end_machine(ending: Ending, last: &dyn Fn()) -> ! {
    debug_assert_eq!(role(), Role::Host);
    watchdog::outlast();
    end_leftovers(GRACE);
    quiet_disks(last);
    // There is nobody to whom a host's first process could exit.
    let (command, words) = match ending {
        Ending::Reboot => (libc::LINUX_REBOOT_CMD_RESTART, ending.words()),
        Ending::Halt => (libc::LINUX_REBOOT_CMD_HALT, ending.words()),
        Ending::Poweroff => (libc::LINUX_REBOOT_CMD_POWER_OFF, ending.words()),
        Ending::Exit => (libc::LINUX_REBOOT_CMD_POWER_OFF, Ending::Poweroff.words()),
    };
    log::info!("{words}");
    // It would start again what is to be off; a reboot that hangs is ended by it.
    if ending != Ending::Reboot {
        watchdog::disarm();
    }
    let end = Instant::now() + Duration::from_millis(500);
    while unsent() > 0 && Instant::now() < end {
        std::thread::sleep(LOOK);
    }
    // SAFETY: numbers only; file systems are as quiet as they get.
    unsafe { libc::reboot(command) };
    let error = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    log::error!(
        "reboot(2) refuses: {}; the machine can be switched off",
        errno_words(error)
    );
    loop {
        all_gone(Instant::now() + DISKS);
        std::thread::sleep(DISKS);
    }
}

/// Bytes that the console has not taken yet (tty_ioctl(4)).
fn unsent() -> libc::c_int {
    let mut bytes = 0;
    // SAFETY: it writes to `bytes` only.
    match unsafe { libc::ioctl(2, libc::TIOCOUTQ, &raw mut bytes) } {
        0 => bytes,
        _ => 0,
    }
}

/// Writes all that waits to be written, and unmounts. In a child: a disk may never answer.
fn quiet_disks(last: &dyn Fn()) {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => {
            last();
            unmount_all();
            // SAFETY: nothing of ours is to be run at this child's end.
            unsafe { libc::_exit(0) }
        }
        pid if pid > 0 => {
            if !all_gone(Instant::now() + DISKS) {
                log::error!(
                    "disks still write after {} s: no longer waited for",
                    DISKS.as_secs()
                );
            }
        }
        _ => {
            log::warn!("cannot fork: file systems are written, and not unmounted");
            // SAFETY: it takes nothing.
            unsafe { libc::sync() };
        }
    }
}

fn unmount_all() {
    // SAFETY: it takes nothing.
    unsafe { libc::sync() };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for at in to_unmount(&mounts) {
        let nothing = std::ptr::null();
        let read_only = libc::MS_REMOUNT | libc::MS_RDONLY;
        // SAFETY: a string and nulls, as mount(2) wants them for a remount.
        let quiet = unsafe {
            (at.as_bytes() != b"/" && libc::umount2(at.as_ptr(), libc::UMOUNT_NOFOLLOW) == 0)
                || libc::mount(nothing, at.as_ptr(), nothing, read_only, nothing.cast()) == 0
        };
        if !quiet {
            let error = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            let (at, words) = (at.to_string_lossy(), errno_words(error));
            log::warn!("{at} cannot be unmounted or made read-only: {words}");
        }
    }
    // SAFETY: as above.
    unsafe { libc::sync() };
}

/// Mount points of file systems that keep something, those mounted last first, from proc(5)'s
/// table of them.
fn to_unmount(mounts: &str) -> Vec<CString> {
    let mut found = Vec::new();
    for line in mounts.lines().rev() {
        let mut words = line.split(' ').skip(1);
        let (Some(at), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        if !KEEP_NOTHING.contains(&format!(" {kind} ")) {
            found.extend(CString::new(plain(at)));
        }
    }
    found
}

/// Blanks and their like stand as `\040` there.
fn plain(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, code) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = &after[3..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_something_is_unmounted_the_last_first() {
        let mounts = "rootfs / rootfs rw 0 0\n/dev/vda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\n\
                      tmpfs /run tmpfs rw 0 0\n/dev/vda2 /srv ext4 rw 0 0\n\
                      host:/x /srv/a\\040b\\134c nfs rw 0 0\n\nhalf\n";
        let found: Vec<_> = to_unmount(mounts)
            .into_iter()
            .map(|at| at.into_string().expect("UTF-8"))
            .collect();
        assert_eq!(found, ["/srv/a b\\c", "/srv", "/"]);
    }

    /// A test is never PID 1 of a machine: it must not take others along.
    #[test]
    fn who_is_not_the_first_process_ends_nobody() {
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("a child");
        end_leftovers(Duration::ZERO);
        let left = child.try_wait().expect("wait");
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(left, None);
    }
}
