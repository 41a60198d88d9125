//! What the execution before handed over, until this one has taken over; and the way back to that
//! one, as long as there is one.

use super::panic::tell;
use super::*;
use crate::reactor::known;
use std::sync::Mutex;

/// Descriptors of the execution before.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) unclaimed: BTreeMap<RawFd, OwnedFd>,
    /// Claimed, and open under their numbers until nothing can fail any more.
    pub(super) held: Vec<OwnedFd>,
    /// What the program before us gets if we fail.
    pub(super) before: Option<Box<Handover>>,
}

pub(super) static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);

/// Of the descriptor of this number; None: it was not handed over, or is closed.
fn claimed<T>(number: RawFd, of: impl FnOnce(&mut Taken, OwnedFd) -> Option<T>) -> Option<T> {
    let mut taken = TAKEN.lock().ok()?;
    let taken = taken.as_mut()?;
    let fd = taken.unclaimed.remove(&number)?;
    of(taken, fd)
}

/// A descriptor that was handed over, itself. Whoever closes it before all is taken over takes it
/// away from the program before us.
pub fn claim(number: RawFd) -> Option<OwnedFd> {
    claimed(number, |_, fd| Some(fd))
}

/// A copy of a descriptor that was handed over.
pub fn claim_copy(number: RawFd) -> Option<OwnedFd> {
    claimed(number, |taken, fd| {
        let copy = fd.try_clone().ok();
        taken.held.push(fd);
        copy
    })
}

/// A descriptor that was handed over stays open until all is taken over.
pub fn claim_open(number: RawFd) {
    claimed(number, |taken, fd| {
        taken.held.push(fd);
        Some(())
    });
}

/// From now on there is no way back, and none is needed: what nobody claimed is closed.
pub fn taken_over() {
    let taken = TAKEN.lock().ok().and_then(|mut taken| taken.take());
    let unclaimed = taken.map(|taken| taken.unclaimed).unwrap_or_default();
    if !unclaimed.is_empty() {
        let numbers: Vec<String> = unclaimed.keys().map(ToString::to_string).collect();
        log::warn!(
            "descriptors that were handed over and that nothing here knows are closed: {}",
            numbers.join(", ")
        );
    }
}

/// We cannot take over: the program before us is executed again, with what it left. Returns if
/// there is none, or that is not possible either.
pub fn fall_back(message: &str) {
    let before = match TAKEN.try_lock() {
        Ok(mut taken) => taken.as_mut().and_then(|taken| taken.before.take()),
        Err(_) => None,
    };
    let Some(mut handover) = before else { return };
    let Some(program) = handover.before.take() else {
        return;
    };
    let run = Run {
        arguments: parted(&program.arguments),
        environment: parted(&program.environment),
    };
    handover.cause = Cause::FellBack {
        to: program::path().map_or_else(
            || env!("CARGO_PKG_VERSION").to_owned(),
            |path| format!("{} ({})", path.display(), env!("CARGO_PKG_VERSION")),
        ),
        message: message.to_owned(),
    };
    handover.jobs = known::jobs();
    tell(&format!(
        "vitald: error: {message}; executing {}, which ran before, again\n",
        program.path
    ));
    let open = Program::Open(program.fd);
    handover.program = Some(program);
    let Err(error) = try_execute(&open, run, *handover);
    tell(&format!("vitald: error: cannot execute it: {error}\n"));
}
