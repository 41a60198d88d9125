//! The engine's time: a point on the monotonic clock, in microseconds.
//!
//! It is never read here; the reactor reads `CLOCK_MONOTONIC` (clock_gettime(2)) once a turn and
//! passes it in, the simulator counts. Monotonic time stands still while the machine is
//! suspended, which is right for deadlines. Within one boot it survives the daemon, so deadlines
//! can be journalled as they are. Wall-clock time is for people and is converted at the edge.
//!
//! Arithmetic saturates: no configuration can make a deadline wrap.

use serde::{Deserialize, Serialize};
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time: microseconds since the monotonic clock's zero.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Time(pub u64);

impl Time {
    pub const ZERO: Time = Time(0);
    /// Later than everything: "never".
    pub const MAX: Time = Time(u64::MAX);

    pub const fn from_millis(ms: u64) -> Time {
        Time(ms.saturating_mul(1000))
    }
    pub const fn as_micros(self) -> u64 {
        self.0
    }
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }
    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(micros(d)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    fn sub(self, d: Duration) -> Time {
        Time(self.0.saturating_sub(micros(d)))
    }
}

/// A duration in whole microseconds, saturating.
pub fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

/// A duration in whole milliseconds, saturating.
pub fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// A duration as people say it: `0.4 ms`, `152 ms`, `4.2 s`, then its two largest units: `3 m 12 s`.
pub fn spoken(d: Duration) -> String {
    let (us, ms, s) = (micros(d), millis(d), d.as_secs());
    match s {
        0 if ms < 10 && us % 1000 >= 100 => format!("{ms}.{} ms", us % 1000 / 100),
        0 => format!("{ms} ms"),
        1..=9 if ms % 1000 >= 100 => format!("{s}.{} s", ms % 1000 / 100),
        1..=59 => format!("{s} s"),
        60..=3_599 => format!("{} m {:02} s", s / 60, s % 60),
        3_600..=86_399 => format!("{} h {:02} m", s / 3_600, s / 60 % 60),
        _ => format!("{} d {:02} h", s / 86_400, s / 3_600 % 24),
    }
}

/// Milliseconds since 1970 as a TAI64N label in its external form, as `tai64nlocal`, svlogd and
/// multilog have it: 2^62 + 10 + the seconds, which is TAI but for the leap seconds since 1972.
pub fn tai64n_ms(ms: u64) -> String {
    let seconds = TAI64 + ms / 1000;
    format!("@{seconds:016x}{:08x}", ms % 1000 * 1_000_000)
}

/// The other way; None: it is no such label.
pub fn tai64n_read(label: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(label.strip_prefix(b"@")?).ok()?;
    let (seconds, nanos) = text.split_at_checked(16).filter(|_| text.len() == 24)?;
    let seconds = u64::from_str_radix(seconds, 16).ok()?.checked_sub(TAI64)?;
    let nanos = u64::from_str_radix(nanos, 16).ok()?;
    seconds.checked_mul(1000)?.checked_add(nanos / 1_000_000)
}

const TAI64: u64 = (1 << 62) + 10;

/// One reading of both clocks, by which a monotonic time is shown as wall-clock time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wall {
    pub now: Time,
    /// The same instant in milliseconds since 1970.
    pub wall_ms: u64,
}

impl Wall {
    /// Milliseconds since 1970.
    pub fn ms(&self, at: Time) -> u64 {
        match at <= self.now {
            true => self.wall_ms.saturating_sub(millis(self.now.since(at))),
            false => self.wall_ms.saturating_add(millis(at.since(self.now))),
        }
    }

    /// RFC 3339 in UTC, milliseconds: `2026-11-23T22:48:01.123Z`.
    pub fn rfc3339(&self, at: Time) -> String {
        rfc3339_ms(self.ms(at))
    }
}

/// Milliseconds since 1970 as RFC 3339 in UTC.
pub fn rfc3339_ms(ms: u64) -> String {
    // The year 9999 is where RFC 3339 ends, and humantime with it.
    let ms = ms.min(253_402_300_799_999);
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_two_units() {
        for (us, words) in [
            (0, "0 ms"),
            (99, "0 ms"),
            (412, "0.4 ms"),
            (7_000, "7 ms"),
            (31_900, "31 ms"),
            (999_999, "999 ms"),
            (4_250_000, "4.2 s"),
            (4_000_000, "4 s"),
            (59_999_000, "59 s"),
            (192_000_000, "3 m 12 s"),
            (3_600_000_000, "1 h 00 m"),
            (90_000_000_000, "1 d 01 h"),
        ] {
            assert_eq!(spoken(Duration::from_micros(us)), words);
        }
        assert_eq!(spoken(Duration::MAX), "213503982334601 d 07 h");
    }
}
