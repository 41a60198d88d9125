//! What a daemon before this one left running: every process that its journal speaks of, and those
//! of which it does not know.

use super::*;

/// Looks for every process that the journal speaks of, and for those of which it does not know
/// (any more): their number was never written, or the record was lost. `forks`: whose first process
/// is not its main one.
pub fn find_processes(
    mut snapshots: Vec<ServiceSnapshot>,
    wanted: &[WantedRecord],
    now: Time,
    origin: &Origin,
    socket: &str,
    in_place: bool,
    forks: &dyn Fn(&str) -> bool,
) -> (Vec<(ServiceSnapshot, Found)>, Vec<Adopted>, Vec<LeftHook>) {
    // The next run's number is unknown for sure; this one's, if it has no process id yet.
    let from = snapshots
        .iter()
        .map(|snapshot| {
            let nameless = snapshot.run.as_ref().is_some_and(|run| {
                let command = run.hooks.live.as_ref();
                run.pid.is_none() || command.is_some_and(|live| live.pid.is_none())
            });
            let next = snapshot.number.saturating_add(1);
            let number = if nameless { snapshot.number } else { next };
            (snapshot.name.clone(), number)
        })
        .collect();
    let lost = find_runs_within(SEARCH_PATIENCE, origin, socket, &from);
    if lost.is_none() {
        log::warn!("cannot search /proc: a process that the journal does not know is not found");
    }
    for lost in lost.unwrap_or_default() {
        let forks = forks(&lost.name);
        take_in(&mut snapshots, lost, wanted, now, forks);
    }
    let mut adopted = Vec::new();
    let commands = snapshots.iter();
    let commands = commands.filter_map(|s| left_hook(s, in_place)).collect();
    let services = snapshots
        .into_iter()
        .map(|snapshot| {
            let run = snapshot.run.as_ref().filter(|run| run.exit.is_none());
            let place = run.and_then(|run| Some((run.pid?, run.started)));
            let named = run.and_then(|run| run.told.as_ref()?.main);
            // What is looked for is not the process that was spawned.
            let sought = run.is_some_and(|run| run.seeking) && named.is_none();
            let place = place.filter(|_| !sought);
            let alive = place.and_then(|(leader, started)| {
                let (pid, began) = named.unwrap_or((leader, started));
                let pidfd = child::adopt(pid, began, in_place)?;
                adopted.push(Adopted {
                    name: snapshot.name.clone(),
                    number: snapshot.number,
                    pid,
                    leader,
                    pidfd,
                });
                // The run is known by the process that was spawned for it.
                Some(Found::Alive {
                    pid: leader,
                    started,
                })
            });
            (snapshot, alive.unwrap_or(Found::Gone))
        })
        .collect();
    (services, adopted, commands)
}

/// The command that was under way, and whether it lives.
fn left_hook(snapshot: &ServiceSnapshot, in_place: bool) -> Option<LeftHook> {
    let live = snapshot.run.as_ref()?.hooks.live.as_ref()?;
    let process = live.pid.and_then(|pid| {
        let pidfd = child::adopt(pid, live.started, in_place)?;
        Some((pid, live.started, pidfd))
    });
    Some(LeftHook {
        name: snapshot.name.clone(),
        number: snapshot.number,
        hook: live.hook,
        known: live.pid.is_some(),
        process,
    })
}

/// Nobody knows what it was run for: the run it is of is not in the journal.
fn end_command(lost: &Lost, hook: Hook) {
    let Lost { name, pid, .. } = lost;
    log::warn!("{name}: {hook} (process {pid}) runs, and the journal does not know it: ended");
    if let Some(pidfd) = child::adopt(*pid, lost.started, false) {
        let _ = child::signal(pidfd.as_fd(), *pid, Signal::KILL, true);
    }
}

/// Puts a process that was found into its service's snapshot. Of a daemon that forks it may be any
/// of its processes: the main one is looked for among them.
fn take_in(
    snapshots: &mut Vec<ServiceSnapshot>,
    lost: Lost,
    wanted: &[WantedRecord],
    now: Time,
    forks: bool,
) {
    if !lost.leads_session && (!forks || lost.hook.is_some()) {
        // What a run or a command left behind.
        return;
    }
    let at = snapshots.iter().position(|known| known.name == lost.name);
    let at = at.unwrap_or_else(|| {
        snapshots.push(ServiceSnapshot {
            name: lost.name.clone(),
            ..ServiceSnapshot::default()
        });
        snapshots.len() - 1
    });
    let snapshot = &mut snapshots[at];
    let same = snapshot.number == lost.number;
    if let Some(hook) = lost.hook {
        let run = snapshot.run.as_mut().filter(|_| same);
        let live = run.and_then(|run| run.hooks.live.as_mut());
        match live.filter(|live| live.hook == hook) {
            Some(live) if live.pid.is_none() => {
                (live.pid, live.started) = (Some(lost.pid), lost.started);
            }
            Some(_) => {}
            None => end_command(&lost, hook),
        }
        return;
    }
    if same && let Some(run) = &mut snapshot.run {
        if run.pid.is_some() {
            return;
        }
        // The intent to spawn it was written, its process id not any more.
        (run.pid, run.started) = (Some(lost.pid), lost.started);
        run.seeking = forks;
        return;
    }
    log::warn!(
        "{}: run {} (process {}) lives, and the journal does not know it: taken up again",
        lost.name,
        lost.number,
        lost.pid
    );
    let said = wanted.iter().find(|record| record.name == lost.name);
    let said = snapshot.wanted.as_ref().or(said);
    let stop = said.is_some_and(|record| *record.wanted == *Wanted::Stop.word());
    let deadline = now + Duration::from_secs(10);
    snapshot.number = lost.number;
    snapshot.state = if stop {
        State::Stopping
    } else {
        State::Starting
    }
    .word()
    .into();
    snapshot.cause = Cause::Boot.word().into();
    snapshot.since = now;
    snapshot.deadline = stop.then_some(deadline);
    snapshot.run = Some(RunSnapshot {
        pid: Some(lost.pid),
        started: lost.started,
        spawned_at: now,
        executed: true,
        ready_at: None,
        begun_by: Cause::Boot.word().into(),
        restarted: false,
        stop: stop.then(|| StopSnapshot {
            cause: Cause::Operator.word().into(),
            final_stop: false,
            then_start: false,
            wanted: true,
            waits: false,
            evidence: None,
            killed: false,
            deadline,
        }),
        overdue: false,
        excused_since: None,
        exit: None,
        oom_kills: 0,
        seeking: forks,
        told: None,
        hooks: Progress::default(),
        start_doubts: 0,
        probes: Vec::new(),
    });
}
