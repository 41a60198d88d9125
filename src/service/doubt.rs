//! Self-doubt: whether an answer that did not come in time says anything about the service, when the
//! whole host is short of something.
//!
//! A host under pressure makes every service slow, and a restart makes it slower still. But a service
//! that hangs in a loop makes pressure itself, and must not be kept by it. So doubt
//!
//! - is for what was late only: who refuses, or answers wrongly, was asked and has answered;
//! - is not for a service that took so much processor time itself that it is busy, not starved;
//! - is bounded: after [`most`] answers in a row that were doubted, the next ones count.
//!
//! Not here: who looks at the host (the reactor), the loop's own lateness (the engine's `checks`).

use crate::limits;
use crate::probe::Reason;
use crate::time::micros;
use std::time::Duration;

/// How the host was, and the service's own part in it. Shares of the last ten seconds, in hundredths
/// of a percent (PSI); zero also where the kernel does not tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Strain {
    /// At least one task waited for a processor.
    pub cpu: u32,
    /// At least one task waited for memory to be freed or read back.
    pub memory: u32,
    /// All tasks that were not idle waited for a disk.
    pub io: u32,
    /// Processor time that the run's processes took so far; None: not known.
    pub own_cpu_us: Option<u64>,
}

/// A look at the host, for a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look<T> {
    pub at: T,
    pub strain: Strain,
    /// The run took half a processor or more by itself since the look before, or since its start.
    pub busy: bool,
}

/// What the host is short of, in words; None: of nothing that would excuse this service.
pub fn shortage(strain: &Strain, busy: bool) -> Option<String> {
    let percent = |share: u32| share / 100;
    let all = [
        ("memory", strain.memory, limits::PRESSED_MEMORY),
        ("io", strain.io, limits::PRESSED_IO),
        ("cpu", strain.cpu, limits::PRESSED_CPU),
    ];
    let short = all
        .into_iter()
        .find(|(what, share, bound)| percent(*share) >= *bound && !(busy && *what == "cpu"));
    short.map(|(what, share, _)| format!("{what} {} %", percent(share)))
}

/// It took at least half a processor between two looks.
pub fn is_busy(took_us: u64, between: Duration) -> bool {
    !between.is_zero() && took_us >= micros(between) / 2
}

/// A failure that is about time, and nothing else.
pub fn is_late(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Timeout | Reason::TimeoutAt(_) | Reason::QueueFull
    )
}

/// So many answers in a row may be doubted.
pub fn most(failure_threshold: u32) -> u32 {
    failure_threshold.saturating_mul(limits::DOUBTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_short_of_the_worst_that_it_lacks() {
        let mut strain = Strain::default();
        assert_eq!(shortage(&strain, false), None);
        strain.cpu = limits::PRESSED_CPU * 100 - 1;
        assert_eq!(shortage(&strain, false), None, "a hundredth below");
        strain.cpu += 1;
        assert_eq!(shortage(&strain, false).as_deref(), Some("cpu 60 %"));
        strain.io = 7199;
        assert_eq!(shortage(&strain, false).as_deref(), Some("io 71 %"));
        strain.memory = 3400;
        assert_eq!(shortage(&strain, false).as_deref(), Some("memory 34 %"));
    }

    #[test]
    fn late_is_who_did_not_answer_in_time_however_far_it_came() {
        let at = Reason::TimeoutAt("connected, no answer".into());
        assert!(is_late(&Reason::Timeout) && is_late(&at) && is_late(&Reason::QueueFull));
        assert!(!is_late(&Reason::Refused) && !is_late(&Reason::Status(503)));
        assert!(!is_late(&Reason::Said("LOADING".into())));
    }

    #[test]
    fn who_burns_the_processors_is_not_excused_by_it() {
        let strain = Strain {
            cpu: 9900,
            ..Strain::default()
        };
        assert_eq!(shortage(&strain, true), None);
        let thrashing = Strain {
            memory: 5000,
            ..strain
        };
        assert!(shortage(&thrashing, true).is_some());
        let second = Duration::from_secs(1);
        assert!(is_busy(500_000, second) && !is_busy(499_999, second));
        assert!(!is_busy(1, Duration::ZERO));
    }
}
