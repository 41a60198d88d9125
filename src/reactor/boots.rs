//! The boot-loop guard's count, as a boot begins, is known to be well, and ends in order.
//!
//! Not here: when it is well, and who starts when too many were not (the engine).
//!
//! Invariants: it is counted before anything is started; the loop does not wait for the disk.

use super::*;
use crate::config::settings::{EarlySetup, Settings};
use crate::control::power::Role;
use crate::engine::BootGuard;
use crate::journal::boots;
use crate::reactor::jobs::Work;
use std::path::Path;

/// Whether this process counts boots.
pub fn counts(settings: &Settings) -> bool {
    match settings.boot_guard {
        EarlySetup::Auto => init::role() == Role::Host,
        EarlySetup::Always => init::role() != Role::Ordinary,
        EarlySetup::Never => false,
    }
}

/// `new`: this is a boot; else an execution of this process before us, or one that died, has
/// counted it. None: nobody counts, or it is known to be well.
pub fn begin(state_dir: &Path, settings: &Settings, new: bool) -> Option<BootGuard> {
    if !counts(settings) {
        return None;
    }
    let counted = match new {
        true => boots::raise(state_dir),
        false => boots::read(state_dir),
    };
    let counted = counted.unwrap_or_else(|fault| {
        log::warn!("{fault}: this boot is not counted, the boot-loop guard is off");
        0
    });
    let guard = BootGuard {
        failed: counted.checked_sub(1)?,
        attempts: settings.boot_attempts,
        ok_after: settings.boot_ok_after,
    };
    if guard.is_safe_mode() {
        log::error!("SAFE MODE: {}", guard.words());
    }
    Some(guard)
}

/// The daemon ends in order.
pub fn end(state_dir: &Path) {
    if let Err(fault) = boots::clear(state_dir) {
        log::warn!("{fault}: this boot counts as failed");
    }
}

impl Reactor {
    pub(super) fn clear_boots(&mut self) {
        let state_dir = self.state_dir.clone();
        let origin = self.spawner.origin();
        let helper = helper::start(c"vitald-boots", origin, &[], 0, move |_| {
            u8::from(boots::clear(&state_dir).is_err())
        });
        if let Err(error) = helper.and_then(|helper| self.watch_helper(helper, Work::Boots)) {
            log::warn!("cannot write that this boot is well: {error}");
        }
    }

    pub(super) fn boots_cleared(&self, exit: Exit) {
        match exit {
            Exit::Code(0) => log::info!("this boot is well"),
            _ => log::warn!("cannot write to the state directory that this boot is well"),
        }
    }
}
