//! The engine's timers by who and what, over the wheel's dense keys.
//!
//! Setting replaces; nobody holds a handle. A service, its watchdog and each of its probes own a
//! unit of three keys; units of the gone are used again.

use crate::id::ServiceId;
use crate::time::Time;
use crate::wheel::Wheel;

/// What a timer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// Start timeout, stop escalation, backoff or the next spawn: one at a time.
    Lifecycle(ServiceId),
    /// The gate looks again.
    Gate(ServiceId),
    /// A service without probes earned its refund.
    Refund(ServiceId),
    /// It has not said in time that it is well.
    Watchdog(ServiceId),
    /// Its schedule says so.
    Due(ServiceId),
    CheckDue(ServiceId, u16),
    CheckTimeout(ServiceId, u16),
    HoldEnd,
    /// The oldest request that waits to be durable has waited long enough.
    DurableWait,
    /// A probe that is run by hand has used up its time.
    Manual,
    /// A reload was not confirmed in time, or somebody is to be well by now.
    Reload,
    /// The host's watchdog, and who started us, are to hear of us.
    Feed,
    /// All that is wanted was well for long enough.
    BootWell,
    /// An alert is tried again or has used up its time, or an all-clear is due.
    Alerts,
    /// Of those who wait for a restart for their health, somebody's turn may have come.
    Storm,
}

/// Three keys of the wheel with one owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unit(pub(super) u32);

#[derive(Clone, Copy, Debug)]
pub(super) enum Owner {
    Engine,
    Service(ServiceId),
    Probe(ServiceId, u16),
    Watchdog(ServiceId),
    Schedule(ServiceId),
    Reload,
    Host,
    Alerts,
    Storm,
    Nobody,
}

pub struct Timers {
    pub(super) wheel: Wheel,
    pub(super) owners: Vec<Owner>,
    pub(super) free: Vec<u32>,
}

const PER_UNIT: u32 = 3;

impl Timers {
    pub fn new(now: Time) -> Timers {
        Timers {
            wheel: Wheel::new(now),
            owners: vec![Owner::Engine],
            free: Vec::new(),
        }
    }

    pub fn service_unit(&mut self, id: ServiceId) -> Unit {
        self.allocate(Owner::Service(id))
    }

    pub fn probe_unit(&mut self, id: ServiceId, probe: u16) -> Unit {
        self.allocate(Owner::Probe(id, probe))
    }

    pub fn watchdog_unit(&mut self, id: ServiceId) -> Unit {
        self.allocate(Owner::Watchdog(id))
    }

    pub fn schedule_unit(&mut self, id: ServiceId) -> Unit {
        self.allocate(Owner::Schedule(id))
    }

    pub fn reload_unit(&mut self) -> Unit {
        self.allocate(Owner::Reload)
    }

    pub fn host_unit(&mut self) -> Unit {
        self.allocate(Owner::Host)
    }

    pub fn alerts_unit(&mut self) -> Unit {
        self.allocate(Owner::Alerts)
    }

    pub fn storm_unit(&mut self) -> Unit {
        self.allocate(Owner::Storm)
    }

    fn allocate(&mut self, owner: Owner) -> Unit {
        let unit = self.free.pop().unwrap_or_else(|| {
            self.owners.push(Owner::Nobody);
            (self.owners.len() - 1) as u32
        });
        self.owners[unit as usize] = owner;
        Unit(unit)
    }

    /// Cancels what the unit still has and gives it back.
    pub fn release(&mut self, unit: Unit) {
        for key in 0..PER_UNIT {
            self.wheel.cancel(unit.0 * PER_UNIT + key);
        }
        self.owners[unit.0 as usize] = Owner::Nobody;
        self.free.push(unit.0);
    }

    pub fn set(&mut self, key: Key, deadline: Time) {
        self.wheel.set(key.0, deadline);
    }

    pub fn cancel(&mut self, key: Key) {
        self.wheel.cancel(key.0);
    }

    pub fn deadline(&self, key: Key) -> Option<Time> {
        self.wheel.deadline(key.0)
    }

    /// When the earliest timer is due.
    pub fn deadline_of_first(&mut self) -> Option<Time> {
        self.wheel.next()
    }

    /// The earliest timer that is due.
    pub fn pop(&mut self, now: Time) -> Option<Timer> {
        loop {
            let (key, _) = self.wheel.pop(now)?;
            let what = key % PER_UNIT;
            let timer = match (self.owners[(key / PER_UNIT) as usize], what) {
                (Owner::Engine, 0) => Timer::HoldEnd,
                (Owner::Engine, 1) => Timer::DurableWait,
                (Owner::Engine, _) => Timer::Manual,
                (Owner::Service(id), 0) => Timer::Lifecycle(id),
                (Owner::Service(id), 1) => Timer::Gate(id),
                (Owner::Service(id), _) => Timer::Refund(id),
                (Owner::Probe(id, probe), 0) => Timer::CheckDue(id, probe),
                (Owner::Probe(id, probe), _) => Timer::CheckTimeout(id, probe),
                (Owner::Watchdog(id), _) => Timer::Watchdog(id),
                (Owner::Schedule(id), _) => Timer::Due(id),
                (Owner::Reload, _) => Timer::Reload,
                (Owner::Host, 0) => Timer::Feed,
                (Owner::Host, _) => Timer::BootWell,
                (Owner::Alerts, _) => Timer::Alerts,
                (Owner::Storm, _) => Timer::Storm,
                (Owner::Nobody, _) => continue,
            };
            return Some(timer);
        }
    }
}

/// One key of the wheel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key(u32);

impl Key {
    pub const HOLD_END: Key = Key(0);
    pub const DURABLE_WAIT: Key = Key(1);
    pub const MANUAL: Key = Key(2);

    pub const fn lifecycle(service: Unit) -> Key {
        Key(service.0 * PER_UNIT)
    }
    pub const fn gate(service: Unit) -> Key {
        Key(service.0 * PER_UNIT + 1)
    }
    pub const fn refund(service: Unit) -> Key {
        Key(service.0 * PER_UNIT + 2)
    }
    pub const fn confirm(reload: Unit) -> Key {
        Key(reload.0 * PER_UNIT)
    }
    pub const fn limit(reload: Unit) -> Key {
        Key(reload.0 * PER_UNIT + 1)
    }
    pub const fn storm(storm: Unit) -> Key {
        Key(storm.0 * PER_UNIT)
    }
    pub const fn feed(host: Unit) -> Key {
        Key(host.0 * PER_UNIT)
    }
    pub const fn boot_well(host: Unit) -> Key {
        Key(host.0 * PER_UNIT + 1)
    }
    pub const fn alerts(alerts: Unit) -> Key {
        Key(alerts.0 * PER_UNIT)
    }
    pub const fn watchdog(watchdog: Unit) -> Key {
        Key(watchdog.0 * PER_UNIT)
    }
    pub const fn due(schedule: Unit) -> Key {
        Key(schedule.0 * PER_UNIT)
    }
    pub const fn check_due(probe: Unit) -> Key {
        Key(probe.0 * PER_UNIT)
    }
    pub const fn check_timeout(probe: Unit) -> Key {
        Key(probe.0 * PER_UNIT + 1)
    }
}
