//! The wall clock and the local time, for schedules: what a calendar says is due, and word of it
//! when the clock is set (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET) or the host has slept.
//!
//! Local time is that of the C library: TZ, else /etc/localtime, as they were when the daemon's
//! program was executed.
//!
//! Invariant: without a calendar there is no timer of the kernel's, and nothing wakes.

use super::*;
use crate::config::Definition;
use crate::engine::Due;
use std::os::fd::FromRawFd;

/// How far local time is east of UTC at that instant, in seconds.
pub fn offset(at: i64) -> i32 {
    // SAFETY: all zero is a time; both pointers are to values of ours; one thread.
    let east = unsafe {
        let mut broken: libc::tm = std::mem::zeroed();
        // Its type is not named: libc deprecates that name on musl.
        let seconds = at as _;
        libc::localtime_r(&raw const seconds, &raw mut broken);
        broken.tm_gmtoff
    };
    i32::try_from(east).unwrap_or(0)
}

impl Reactor {
    pub(super) fn look_up_due(
        &mut self,
        service: ServiceId,
        definition: &Definition,
        since_ms: u64,
    ) {
        self.watch_wall();
        // As of this turn, from which the engine reckons: nothing is to begin too early.
        let now_ms = self.clock.wall_ms_at(self.now);
        let due = Due::look(definition, since_ms, now_ms, &offset);
        self.caused.push_back(Event::Due { service, due });
    }

    fn watch_wall(&mut self) {
        if self.wall_timer.is_some() {
            return;
        }
        let token = self.sources.insert(Source::WallClock);
        let made = make_timer().and_then(|timer| {
            let fd = timer.as_raw_fd();
            let registry = self.poll.registry();
            registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
            Ok(timer)
        });
        match made {
            Ok(timer) => self.wall_timer = Some(timer),
            Err(error) => {
                self.sources.remove(token);
                log::warn!(
                    "cannot watch the wall clock: {error}; when it is set, schedules go by it from \
                     their next run on"
                );
            }
        }
    }

    /// The clock was set, or the host has slept.
    pub(super) fn wall_clock_set(&mut self) {
        let Some(timer) = &self.wall_timer else {
            return;
        };
        let mut times = [0u8; 8];
        // ECANCELED says so; nothing else comes in this life.
        // SAFETY: eight bytes of ours, as timerfd_create(2) has it.
        unsafe { libc::read(timer.as_raw_fd(), times.as_mut_ptr().cast(), times.len()) };
        if let Err(error) = set_timer(timer) {
            log::warn!("cannot watch the wall clock any more: {error}");
        }
        let wall_ms = self.clock.wall_ms_at(self.now);
        self.handle(Event::ClockSet(wall_ms));
    }
}

fn make_timer() -> io::Result<OwnedFd> {
    // SAFETY: numbers only; the descriptor is ours alone.
    let timer = unsafe {
        let fd = libc::timerfd_create(libc::CLOCK_REALTIME, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    set_timer(&timer)?;
    Ok(timer)
}

/// For a time that does not come; what counts is that it is cancelled.
fn set_timer(timer: &OwnedFd) -> io::Result<()> {
    // SAFETY: all zero is a timer; it is read only.
    let result = unsafe {
        let mut never: libc::itimerspec = std::mem::zeroed();
        // The largest that the kernel takes; where that does not fit, the largest that does.
        never.it_value.tv_sec = 9_223_372_036_u64.try_into().unwrap_or(0x7fff_ffff);
        let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
        libc::timerfd_settime(
            timer.as_raw_fd(),
            flags,
            &raw const never,
            std::ptr::null_mut(),
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_cancelled_by_the_clock_can_be_had() {
        let timer = make_timer().expect("a timer");
        let mut times = [0u8; 8];
        // SAFETY: eight bytes of ours.
        let read = unsafe { libc::read(timer.as_raw_fd(), times.as_mut_ptr().cast(), 8) };
        assert_eq!(read, -1);
        let error = io::Error::last_os_error().raw_os_error();
        assert_eq!(error, Some(libc::EAGAIN));
    }

    #[test]
    fn local_time_is_some_hours_from_utc() {
        let east = offset(1_795_910_400);
        assert!((-14 * 3600..=14 * 3600).contains(&east), "{east}");
    }
}
