//! The clocks, read once a turn.
//!
//! CLOCK_MONOTONIC is the engine's time; it stands still while the machine is suspended.
//! CLOCK_BOOTTIME goes on, so a growing difference between the two is a suspend
//! (clock_gettime(2)). CLOCK_REALTIME is for people only.

use crate::time::{Time, Wall};
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Shorter than any real suspend, longer than what lies between two readings.
const SUSPEND_BOUND: Duration = Duration::from_millis(500);

pub struct Clock {
    /// How far boot time was ahead at the last reading.
    ahead: Duration,
}

fn read(clock: ClockId) -> Duration {
    // It fails only for a clock that does not exist, and these do.
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

impl Clock {
    pub fn new() -> Clock {
        Clock {
            ahead: read(ClockId::CLOCK_BOOTTIME).saturating_sub(read(ClockId::CLOCK_MONOTONIC)),
        }
    }

    /// Now, and for how long the machine slept since the last reading.
    pub fn read(&mut self) -> (Time, Option<Duration>) {
        let now = read(ClockId::CLOCK_MONOTONIC);
        let ahead = read(ClockId::CLOCK_BOOTTIME).saturating_sub(now);
        let slept = ahead.saturating_sub(self.ahead);
        self.ahead = ahead;
        let now = Time(u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
        (now, (slept > SUSPEND_BOUND).then_some(slept))
    }

    /// Milliseconds since 1970.
    pub fn wall_ms(&self) -> u64 {
        u64::try_from(read(ClockId::CLOCK_REALTIME).as_millis()).unwrap_or(u64::MAX)
    }

    /// The same at a reading of before, not later than it was.
    pub fn wall_ms_at(&self, now: Time) -> u64 {
        let fresh = u64::try_from(read(ClockId::CLOCK_MONOTONIC).as_micros()).unwrap_or(u64::MAX);
        let passed = fresh.saturating_sub(now.as_micros());
        self.wall_ms().saturating_sub(passed.div_ceil(1000))
    }

    pub fn wall(&self, now: Time) -> Wall {
        Wall {
            now,
            wall_ms: self.wall_ms(),
        }
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}
