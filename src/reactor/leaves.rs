//! Runs and their cgroups: who is where, what becomes of the cgroups, what is shown of them.
//!
//! Invariants: a run whose first process was put into its service's leaf has all its processes
//! there, and is gone when nobody is in it; one that was taken up from elsewhere is ended by best
//! effort, and shown so.

use super::*;
use crate::engine::SpawnError;
use crate::engine::status::{Status, Usage};
use crate::reactor::cgroup::{Cgroups, Leaf, Room};
use std::time::Instant;

/// How long what is left of runs before this daemon may take to go after SIGKILL.
const KILL_WAIT: Duration = Duration::from_secs(1);

/// The leaf of a present run.
pub(super) struct Placed {
    run: RunId,
    pub leaf: Leaf,
    /// As many had been killed in it for want of memory before the run, or were told.
    oom_kills: u64,
}

pub(super) struct Leaves {
    cgroups: Cgroups,
    placed: BTreeMap<ServiceId, Placed>,
}

impl Leaves {
    pub fn new(cgroups: Cgroups) -> Leaves {
        let placed = BTreeMap::new();
        Leaves { cgroups, placed }
    }

    /// Where the run's processes are; None: in no leaf.
    pub fn of(&self, run: RunId) -> Option<&Placed> {
        let placed = self.placed.get(&run.service);
        placed.filter(|placed| placed.run == run)
    }

    /// The service's leaf, if there is one, whoever is in it.
    pub fn made(&self, name: &str) -> Option<Leaf> {
        self.cgroups.leaf(name).filter(Leaf::exists)
    }

    /// The process is in the service's leaf.
    pub fn holds(&self, name: &str, pid: Pid) -> bool {
        self.cgroups.holds(name, &pid.to_string())
    }

    pub fn forget(&mut self, id: ServiceId, name: &str) {
        self.placed.remove(&id);
        self.cgroups.remove(name);
    }

    /// The daemon ends: what nobody is in goes.
    pub fn give_up(&self) {
        self.cgroups.give_up();
    }

    /// For `info`.
    pub fn words(&self) -> String {
        self.cgroups.words()
    }

    /// How the service's tree is ended, as far as the engine does not know.
    pub fn show(&self, id: ServiceId, runs: bool, status: &mut Status) {
        let by_leaf = match runs {
            true => self.placed.contains_key(&id),
            false => self.cgroups.is_on(),
        };
        if by_leaf && status.tree == Status::BEST_EFFORT {
            status.tree = "cgroup".to_owned();
        }
    }

    /// What the run uses, and where that is counted.
    pub fn usage(&self, id: ServiceId) -> Option<Usage> {
        let placed = self.placed.get(&id)?;
        let (memory_bytes, processes, cpu_us) = placed.leaf.usage();
        Some(Usage {
            cgroup: placed.leaf.0.display().to_string(),
            memory_bytes,
            processes,
            cpu_ms: cpu_us.map(|us| us / 1000),
        })
    }
}

impl Reactor {
    /// Where the run's program, or what is run before it, is to be put; None: nowhere.
    pub(super) fn room(
        &mut self,
        run: RunId,
        name: &str,
        definition: &Definition,
    ) -> Result<Option<Room>, SpawnError> {
        self.leaves.placed.remove(&run.service);
        let resources = &definition.process.resources();
        let kill_mode = definition.kill_mode;
        let room = self.leaves.cgroups.room(name, resources, kill_mode)?;
        if let Some(room) = &room {
            let placed = Placed {
                run,
                leaf: room.leaf.clone(),
                oom_kills: room.oom_kills,
            };
            self.leaves.placed.insert(run.service, placed);
        }
        Ok(room)
    }

    /// For a command of a run that is somewhere: there.
    pub(super) fn room_beside(
        &mut self,
        run: RunId,
        name: &str,
        definition: &Definition,
    ) -> Result<Option<Room>, SpawnError> {
        match self.leaves.of(run) {
            Some(_) => self.room(run, name, definition),
            None => Ok(None),
        }
    }

    /// A process of a run that is taken up: is it where it would be put today?
    pub(super) fn find_place(&mut self, run: RunId, name: &str, pid: Pid) {
        if self.leaves.of(run).is_some() || !self.leaves.holds(name, pid) {
            return;
        }
        if let Some(leaf) = self.leaves.cgroups.leaf(name) {
            // What was counted before the run nobody knows any more: most often nothing.
            let oom_kills = 0;
            let placed = Placed {
                run,
                leaf,
                oom_kills,
            };
            self.leaves.placed.insert(run.service, placed);
        }
    }

    /// The kernel has killed some of the run for want of memory: told before their end is.
    pub(super) fn tell_oom(&mut self, run: RunId) {
        let placed = self.leaves.placed.get_mut(&run.service);
        let Some(placed) = placed.filter(|placed| placed.run == run) else {
            return;
        };
        let Some(all) = placed.leaf.oom_kills() else {
            return;
        };
        let kills = all.saturating_sub(placed.oom_kills);
        placed.oom_kills = all;
        if kills > 0 {
            self.handle(Event::OutOfMemory { run, kills });
        }
    }

    /// At the start: what is in leaves although the run has ended is killed, and leaves of services
    /// that are no more go. Waits a bounded while, before the loop runs.
    pub(super) fn clear_leaves(&mut self) {
        let (mut killed, mut empty) = (Vec::new(), Vec::new());
        for name in self.leaves.cgroups.services() {
            let id = self.engine.find(&name);
            // Of a run whose program is gone the engine knows, and has it ended in its time. One that
            // lives elsewhere has nobody here.
            let runs = |id: ServiceId| {
                let run = self.engine.runs().any(|(run, _, _)| run.service == id);
                let ended = run && self.process(id).is_none();
                ended || self.leaves.placed.contains_key(&id)
            };
            // With `kill_mode = "process"` they were left on purpose.
            let spared = |id: ServiceId| {
                let definition = self.engine.definition(id);
                definition.is_some_and(|d| d.kill_mode == crate::config::KillMode::Process)
            };
            if id.is_some_and(|id| runs(id) || spared(id)) {
                continue;
            }
            let Some(leaf) = self.leaves.made(&name) else {
                continue;
            };
            let left = leaf.processes().len();
            if left > 0 || !leaf.is_empty_but(&[]) {
                let (who, are) = match left {
                    1 => ("1 process".to_owned(), "is"),
                    _ => (format!("{left} processes"), "are"),
                };
                log::warn!("{name}: {who} of a run that has ended {are} left: killed");
                leaf.kill();
                killed.push((name, leaf));
            } else {
                empty.push(name);
            }
        }
        let until = Instant::now() + KILL_WAIT;
        for (name, leaf) in killed {
            while !leaf.wait_empty(Instant::now() + LOOK_AGAIN) && Instant::now() < until {
                // Where the kernel has no cgroup.kill, somebody may have forked meanwhile.
                leaf.kill();
            }
            empty.push(name);
        }
        for name in empty {
            self.leaves.cgroups.remove(&name);
        }
    }
}

/// Before those who are left are killed again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
