//! Reboots that the engine asks for: counted by a helper, because a disk may take its time; then the
//! end of the host is what comes of the shutdown.

use super::*;
use crate::engine::Counted;
use crate::journal::reboots;
use crate::reactor::jobs::Work;

const TOO_MANY: u8 = 1;
const UNWRITTEN: u8 = 2;

/// Whether it is for this process to reboot anything.
pub fn may() -> bool {
    init::role() == crate::control::power::Role::Host
}

impl Reactor {
    pub(super) fn count_reboot(&mut self, service: ServiceId) {
        let (state_dir, now_ms) = (self.state_dir.clone(), self.clock.wall_ms());
        let origin = self.spawner.origin();
        let helper = helper::start(
            c"vitald-reboots",
            origin,
            &[],
            0,
            move |_| match reboots::count(&state_dir, now_ms) {
                Ok(true) => 0,
                Ok(false) => TOO_MANY,
                Err(_) => UNWRITTEN,
            },
        );
        let work = Work::Reboots(service);
        if let Err(error) = helper.and_then(|helper| self.watch_helper(helper, work)) {
            log::warn!("cannot count a reboot: {error}");
            let counted = Counted::Unwritten;
            self.caused
                .push_back(Event::RebootCounted { service, counted });
        }
    }

    pub(super) fn reboot_counted(&mut self, service: ServiceId, exit: Exit) {
        let counted = match exit {
            Exit::Code(0) => Counted::Yes,
            Exit::Code(TOO_MANY) => Counted::TooMany,
            _ => Counted::Unwritten,
        };
        self.handle(Event::RebootCounted { service, counted });
    }
}
