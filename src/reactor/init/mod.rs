//! What only PID 1 does: the early set-up of a host, its rescue shell, its end.
//!
//! Which of it applies is decided by [`Role`]; the order of a day is `daemon`'s.
//!
//! Invariants: as the first process of a host we never exit, whatever happens: what cannot go on
//! ends in [`go_on_or`], and that in a shell and a new execution of ourselves; nothing here is
//! done in a container or by a process that is not PID 1.

mod early;
mod ending;
mod loops;
mod rescue;

pub use early::set_up;
pub(in crate::reactor) use loops::Shell;

pub use ending::{end_leftovers, end_machine};

use crate::control::power::Role;
use std::ffi::CString;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// Asked once: the question changes what ctrl-alt-del does.
static ROLE: OnceLock<Role> = OnceLock::new();
/// What is run on the console when nothing else can be.
static RESCUE: OnceLock<Vec<CString>> = OnceLock::new();
/// The rescue shell that runs; 0: none.
static SHELL: AtomicI32 = AtomicI32::new(0);

/// Of what we are the first process.
///
/// Whether a pid namespace is the kernel's first is asked of reboot(2), which needs no /proc: in
/// any other it refuses CAD_OFF with EINVAL, and without CAP_SYS_BOOT with EPERM. Where it is
/// granted, ctrl-alt-del is a SIGINT to us from now on.
pub fn role() -> Role {
    *ROLE.get_or_init(|| {
        let first = std::process::id() == 1;
        // SAFETY: numbers only; nothing is rebooted by it.
        let initial = first && unsafe { libc::reboot(libc::LINUX_REBOOT_CMD_CAD_OFF) } == 0;
        Role::of(first, initial, std::env::var_os("container").is_some())
    })
}

/// The rescue shell from now on; empty: sulogin(8), which asks for root's password, where it is.
pub fn arm(command: &[Box<str>]) {
    let given = command.iter().map(|word| CString::new(word.as_bytes()));
    let given: Vec<CString> = given.flatten().collect();
    let _ = RESCUE.set(given);
}

fn rescue_command() -> Vec<CString> {
    match RESCUE.get().filter(|given| !given.is_empty()) {
        Some(given) => given.clone(),
        None if Path::new("/sbin/sulogin").exists() => vec![c"/sbin/sulogin".into()],
        None => vec![c"/bin/sh".into()],
    }
}

/// The rescue shell, for the execution after us.
pub fn shell() -> Option<i32> {
    Some(SHELL.load(Ordering::Relaxed)).filter(|pid| *pid > 0)
}

/// We cannot go on. As the first process of a host: a shell on the console, and when that has
/// ended another try; else `otherwise`.
pub fn go_on_or(otherwise: impl FnOnce()) {
    match role() {
        Role::Host => rescue::go_on(),
        Role::Container | Role::Ordinary => otherwise(),
    }
}
