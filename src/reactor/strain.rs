//! A look at the host, when something of a run was late: what it is short of, by the kernel's account
//! of stalls (PSI), and how much processor time the run took itself.
//!
//! Three small files in `/proc`, and one of the run's; nothing is read while nothing is late. Where
//! the kernel has no account (before 4.20, or `psi=0`) nothing is said of the host.
//!
//! The kernel's averages over ten seconds rise slowly: a host that has just become short of everything
//! would be found well for several seconds, and its services restarted meanwhile. So what was stalled
//! since the look before counts as much, where that was not long ago.
//!
//! Not here: what follows from it (`service::doubt`).

use super::*;
use crate::service::doubt::Strain;
use procfs::{Stall, pressure};

/// Between two looks that are compared: shorter says little, longer says less than the average does.
const LEAST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(10);

/// How much was stalled, as counted at the look before, and the shares since the one before that.
#[derive(Clone, Copy, Default)]
pub(super) struct Before {
    at: Option<Time>,
    totals: [u64; 3],
    shares: [u32; 3],
}

impl Before {
    /// The shares of the time since the look before, in hundredths of a percent.
    fn since(&mut self, now: Time, totals: [u64; 3]) -> [u32; 3] {
        let over = self.at.map_or(MOST, |at| now.since(at));
        // Several look at the same moment.
        if over < LEAST {
            return self.shares;
        }
        let share = |now: u64, then: u64| {
            let us = u64::try_from(over.as_micros()).unwrap_or(u64::MAX);
            (now.saturating_sub(then).saturating_mul(10_000) / us).min(10_000) as u32
        };
        let shares = match over < MOST {
            true => std::array::from_fn(|n| share(totals[n], self.totals[n])),
            false => [0; 3],
        };
        *self = Before {
            at: Some(now),
            totals,
            shares,
        };
        shares
    }
}

/// Where the kernel tells, and where tests do.
const PRESSURE: &str = "/proc/pressure";
const TEST_PRESSURE: &str = "VITALD_TEST_PRESSURE";

impl Reactor {
    /// The answer to `Effect::Look`.
    pub(super) fn look(&mut self, run: RunId) {
        let strain = self.strain(run).unwrap_or_default();
        self.caused.push_back(Event::Looked { run, strain });
    }

    /// A check of it is late: before that is told, how the host is, if anybody knows.
    pub(super) fn look_for_check(&mut self, run: RunId) {
        if let Some(strain) = self.strain(run) {
            self.caused.push_back(Event::Looked { run, strain });
        }
    }

    fn strain(&mut self, run: RunId) -> Option<Strain> {
        let dir = std::env::var(TEST_PRESSURE);
        let dir = dir.as_deref().unwrap_or(PRESSURE);
        let of = |what: &str| pressure(&format!("{dir}/{what}"));
        let (cpu, memory, io) = (of("cpu"), of("memory"), of("io"));
        if cpu.is_err() && memory.is_err() && io.is_err() {
            return None;
        }
        let stalls: [Stall; 3] = [
            cpu.map(|cpu| cpu.some).unwrap_or_default(),
            memory.map(|memory| memory.some).unwrap_or_default(),
            io.map(|io| io.full).unwrap_or_default(),
        ];
        let totals = stalls.map(|stall| stall.total_us);
        let shares = self.stalls.since(self.now, totals);
        let [cpu, memory, io] = std::array::from_fn(|n| stalls[n].avg10.max(shares[n]));
        Some(Strain {
            cpu,
            memory,
            io,
            own_cpu_us: self.own_cpu(run),
        })
    }

    /// By its cgroup; else its main process and those that it has waited for.
    fn own_cpu(&self, run: RunId) -> Option<u64> {
        let placed = self.leaves.of(run).and_then(|placed| placed.leaf.cpu_us());
        let process = self.processes.get(run.service.index())?.as_deref();
        let process = process.filter(|process| process.run == run);
        placed.or_else(|| process.and_then(|process| procfs::cpu_us(process.pid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stalled_since_the_look_before_is_known_at_once() {
        let at = |ms: u64| Time::ZERO + Duration::from_millis(ms);
        let mut before = Before::default();
        assert_eq!(
            before.since(at(1000), [500, 0, 9]),
            [0; 3],
            "the first look"
        );
        let half = before.since(at(2000), [500_500, 1_000_000, 9]);
        assert_eq!(half, [5000, 10_000, 0]);
        assert_eq!(before.since(at(2100), [600_500, 0, 9]), half, "too soon");
        assert_eq!(before.since(at(3000), [500_500, 1_000_000, 9]), [0; 3]);
        assert_eq!(
            before.since(at(20_000), [9_000_000, 0, 0]),
            [0; 3],
            "too long ago"
        );
    }
}
