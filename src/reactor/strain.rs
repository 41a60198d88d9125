//! A look at the host, when something of a run was late: what it is short of, by the kernel's account
//! of stalls (PSI), and how much processor time the run took itself.
//!
//! Three small files in `/proc`, and one of the run's; nothing is read while nothing is late. Where
//! the kernel has no account (before 4.20, or `psi=0`) nothing is said of the host.
//!
//! Not here: what follows from it (`service::doubt`).

use super::*;
use crate::service::doubt::Strain;
use procfs::pressure;

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

    fn strain(&self, run: RunId) -> Option<Strain> {
        let dir = std::env::var(TEST_PRESSURE);
        let dir = dir.as_deref().unwrap_or(PRESSURE);
        let of = |what: &str| pressure(&format!("{dir}/{what}"));
        let (cpu, memory, io) = (of("cpu"), of("memory"), of("io"));
        if cpu.is_err() && memory.is_err() && io.is_err() {
            return None;
        }
        Some(Strain {
            cpu: cpu.map_or(0, |cpu| cpu.some.avg10),
            memory: memory.map_or(0, |memory| memory.some.avg10),
            io: io.map_or(0, |io| io.full.avg10),
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
