//! What a daemon before this one left, taken up again; and how it is written down.
//!
//! Invariants: nothing that lives is started again; what was decided before goes on from where
//! it was; a run that was ready is not asked its start-up questions again.

use super::boot::fallback_definition;
use super::snapshot::{ProbeSnapshot, RunSnapshot, ServiceSnapshot, StopSnapshot, ToldSnapshot};
use super::table::{Exhausted, Last, Run, Stop, Told, Watch};
use super::*;
use crate::config::Ready;
use crate::exit::Exit;
use crate::service::health::Streak;
use crate::service::hook::Purpose;
use crate::service::state::{Cause, State, Wanted};
use crate::time::micros;

impl Engine {
    pub(super) fn restore_story(&mut self, transitions: Vec<Transition>, decisions: Vec<Decision>) {
        for transition in transitions {
            self.seq = self.seq.max(transition.seq);
            let Some(id) = self.find(&transition.service) else {
                continue;
            };
            let service = self.service_mut(id);
            let transition = Transition {
                service: service.name.clone(),
                ..transition
            };
            if service.transitions.len() == limits::HISTORY_PER_SERVICE {
                service.transitions.pop_front();
            }
            service.transitions.push_back(transition);
        }
        for decision in decisions {
            self.seq = self.seq.max(decision.seq);
            let Some(id) = self.find(&decision.service) else {
                continue;
            };
            let service = self.service_mut(id);
            let decision = Decision {
                service: service.name.clone(),
                ..decision
            };
            if let Some(known) = service.decisions.iter_mut().find(|d| d.seq == decision.seq) {
                *known = decision;
                continue;
            }
            if service.decisions.len() == limits::DECISIONS_PER_SERVICE {
                service.decisions.pop_front();
            }
            service.decisions.push_back(decision);
        }
    }

    /// `deaf`: what was said while no daemon was there is lost.
    pub(super) fn restore(
        &mut self,
        id: ServiceId,
        snapshot: ServiceSnapshot,
        process: Found,
        deaf: bool,
    ) {
        let state = State::parse(&snapshot.state).unwrap_or(State::Inactive);
        let cause = Cause::parse(&snapshot.cause).unwrap_or(Cause::Boot);
        let service = self.service_mut(id);
        service.number = snapshot.number;
        service.attempts = snapshot.attempts;
        service.uncured = snapshot.uncured;
        // What nobody knows to be told is told again, when all that has ended is judged.
        service.exhausted = match snapshot.exhausted {
            Exhausted::No | Exhausted::Due => Exhausted::No,
            Exhausted::Told => Exhausted::Told,
        };
        service.last_end = snapshot.last_end;
        service.dossier = snapshot.dossier;
        service.trouble = snapshot.trouble;
        service.restarting = snapshot.restarting;
        service.cure = snapshot.cure;
        service.shadow = snapshot.shadow;
        service.once = snapshot.once;
        service.at_boot = snapshot.at_boot;
        // Armed when all others are known.
        service.timed = match service.definition.is_some() || service.problem.is_some() {
            true => super::table::Timed {
                on: false,
                ..snapshot.timed
            },
            // Should the name return, it begins anew.
            false => super::table::Timed::default(),
        };
        if let Some(place) = snapshot.storm_place {
            self.take_up_place(id, place);
        }
        let service = self.service_mut(id);
        let target = service.is_target();
        let lifecycle = self.service_key(id, Key::lifecycle);
        match (state, snapshot.run) {
            (State::Starting | State::Running | State::Stopping, Some(run)) => {
                self.put(id, state, cause, snapshot.since);
                self.restore_run(id, &run, snapshot.deadline, process, deaf);
            }
            (State::Starting, None) => {
                // A spawn that waits to be tried again.
                self.put(id, state, cause, snapshot.since);
                self.timers
                    .set(lifecycle, snapshot.deadline.unwrap_or(self.now));
            }
            (State::Running, None) if target => {
                // Whether what it requires is there is seen when all others are known.
                self.put(id, state, cause, snapshot.since);
            }
            (State::Running | State::Stopping, None) => {
                self.put(id, State::Inactive, cause, snapshot.since);
            }
            (State::Backoff, _) => {
                let due = snapshot.deadline.unwrap_or(self.now);
                self.service_mut(id).backoff_until = Some(due);
                self.put(id, state, cause, snapshot.since);
                self.timers.set(lifecycle, due);
            }
            (State::Inactive | State::Blocked | State::Exited | State::Failed, _) => {
                self.put(id, state, cause, snapshot.since);
            }
        }
        self.mark(id);
    }

    pub(super) fn restore_run(
        &mut self,
        id: ServiceId,
        old: &RunSnapshot,
        deadline: Option<Time>,
        process: Found,
        deaf: bool,
    ) {
        let (now, late_mark) = (self.now, self.lateness.total);
        let service = self.service_mut(id);
        let definition = service
            .definition
            .clone()
            .unwrap_or_else(|| Rc::new(fallback_definition()));
        let begun_by = Cause::parse(&old.begun_by).unwrap_or(Cause::Boot);
        let run_id = RunId {
            service: id,
            number: service.number,
        };
        let remembered = |name: &str| old.probes.iter().find(|p| &*p.name == name);
        let probes = definition
            .probes
            .iter()
            .map(|probe| remembered(&probe.name).map_or_else(Watch::default, restored_watch))
            .collect();
        let (pid, started, alive) = match (process, old.pid) {
            (Found::Alive { pid, started }, _) => (Some(pid), started, true),
            (Found::Gone | Found::Ended(_), pid) => (pid, old.started, false),
        };
        let stop = old.stop.as_ref().map(restored_stop);
        // By the limit in force now. Of a starting run the deadline holds what was excused before; of
        // a ready one it is another's.
        let limit = definition.start_timeout.map(|limit| old.spawned_at + limit);
        let excused = deadline.filter(|_| old.ready_at.is_none());
        let start_until = limit.map(|limit| excused.map_or(limit, |due| due.max(limit)));
        let mut told = old.told.as_ref().map(|told| Box::new(restored_told(told)));
        let says = definition.ready() != Ready::Probe;
        if deaf && says && old.ready_at.is_none() {
            told.get_or_insert_default().doubt = true;
        }
        let mut run = Run {
            id: run_id,
            definition,
            pid,
            started,
            spawned_at: old.spawned_at,
            executed: old.executed || alive,
            ready_at: old.ready_at,
            begun_by,
            restarted: old.restarted,
            adopted: true,
            overdue: old.overdue,
            exit: old.exit,
            oom_kills: old.oom_kills,
            hooks: old.hooks.clone(),
            stop,
            late_mark,
            extended: false,
            start_until,
            excused: Duration::ZERO,
            excused_since: old.excused_since,
            excused_until: now,
            probes,
            told,
            health: None,
            seek: old.seeking.then(Box::default),
            look: None,
            looks: false,
            start_doubts: old.start_doubts,
        };
        run.health = run.verdict();
        run.end_excuse(now);
        // Nobody asked it while there was no daemon: it can answer once before it is judged.
        let answer = run.definition.probes.iter().map(|probe| probe.timeout);
        let answer = answer.max().unwrap_or_default();
        // One whose word may have been lost can take its whole limit again until it is believed.
        let again = run.definition.start_timeout.filter(|_| run.is_doubtful());
        let asked = now + answer.max(again.unwrap_or_default());
        if let (None, Some(due)) = (run.ready_at, run.start_deadline(now, late_mark)) {
            run.start_until = run.start_until.map(|until| until + asked.since(due));
        }
        let ended = run.exit;
        let hooks = &run.definition.hooks;
        let phase = run.hooks.live.as_ref().map(|live| live.hook.purpose);
        let limit = match phase {
            Some(Purpose::Undo) => hooks.undo_timeout(),
            Some(Purpose::Repair) => hooks::repair_timeout(&run),
            Some(_) | None => hooks.post_stop_timeout,
        };
        let unmade = run.hooks.live.as_mut().filter(|live| {
            // Never asked for: it has its whole time.
            let clears = matches!(
                live.hook.purpose,
                Purpose::PostStop | Purpose::Undo | Purpose::Repair
            );
            live.pid.is_none() && clears && !live.asked
        });
        let deadline = match unmade {
            Some(live) => {
                live.until = now + limit;
                let until = Some(live.until);
                run.hooks.post_until = until;
                until
            }
            None => deadline,
        };
        let unspawned = pid.is_none() && ended.is_none();
        let prepared = run.hooks.waits || run.hooks.again || run.hooks.last.is_some();
        let live = run.hooks.live.is_some();
        service.run = Some(Box::new(run));
        // What was held for it, by whatever definition, may have been had back.
        service.sockets = super::table::Sockets::Open;
        if let (true, Some(due)) = (live, deadline) {
            let key = self.service_key(id, Key::lifecycle);
            self.timers.set(key, due);
        }
        match (alive, ended) {
            (false, None) if unspawned && prepared => self.go_on_with_hooks(id, deadline),
            (true, _) => self.take_up(id, deadline),
            (false, None) if pid.is_none() => {
                // The intent to spawn was recorded, and nothing came of it.
                let service = self.service_mut(id);
                service.run = None;
                service.restarting = old.restarted;
                if self.will(id) == Wanted::Start {
                    // Tried again as soon as all others are known.
                    self.put(id, State::Starting, begun_by, self.now);
                    let key = self.service_key(id, Key::lifecycle);
                    self.timers.set(key, self.now);
                } else {
                    self.put(id, State::Inactive, Cause::Operator, self.now);
                }
            }
            (false, None) if self.seek_again(id, found_end(process)) => {}
            (false, _) => {
                // How it ended is known to the kernel at best; what it left behind is ended first.
                let exit = match process {
                    Found::Ended(exit) => exit,
                    Found::Gone | Found::Alive { .. } => ended.unwrap_or(Exit::Unknown),
                };
                if let Some(run) = self.service_mut(id).run.as_mut() {
                    run.exit = None;
                }
                self.exited(run_id, exit, false);
            }
        }
    }

    /// The process lives: it goes on from where it was, with what is left of its deadline.
    fn take_up(&mut self, id: ServiceId, deadline: Option<Time>) {
        let lifecycle = self.service_key(id, Key::lifecycle);
        let defined = self.service(id).definition.is_some();
        let Some(run) = self.service_mut(id).run.as_mut() else {
            return;
        };
        // As it is defined now it may be ready at once.
        run.overdue &= !run.is_ready();
        if run.stop.is_some() {
            let commanded = run.hooks.live.is_some();
            let stop = run.stop.as_ref();
            let waits = stop.is_some_and(|stop| stop.waits || stop.evidence.is_some());
            self.timers.set(lifecycle, deadline.unwrap_or(self.now));
            self.collect_again(id);
            if !commanded && !waits {
                // The daemon may have died before it was sent.
                self.signal_stop(id);
            }
            return;
        }
        let Some(ready_at) = run.ready_at else {
            if !run.overdue {
                self.set_start_limit(id);
            }
            return;
        };
        if defined && !run.has_judges() {
            let sustained = ready_at + run.definition.retry_policy.stability_period;
            let key = self.service_key(id, Key::refund);
            self.timers.set(key, sustained);
        }
        self.forget_unjudged_cure(id);
        self.rephase(id);
        self.arm_watchdog(id);
    }

    /// What was starting goes on to get ready: once all others are known, who may wait for it. Of
    /// a broken file nothing is known: what lives runs on as it is, until that is mended.
    pub(super) fn go_on_starting(&mut self, id: ServiceId) {
        let service = self.service(id);
        let starting = service.run.as_ref().filter(|run| {
            let taken_up = run.adopted && run.executed;
            taken_up && run.ready_at.is_none() && run.is_judged()
        });
        if let (Some(run), Some(_)) = (starting, &service.definition) {
            self.executed(run.id);
        }
    }

    /// The lifecycle deadline in force; of a start limit also while it stands still.
    fn lifecycle_deadline(&self, id: ServiceId) -> Option<Time> {
        let service = self.service(id);
        match (&service.run, service.state) {
            (Some(run), State::Starting) if run.hooks.live.is_some() || run.hooks.again => {
                self.timers.deadline(Key::lifecycle(service.unit))
            }
            (Some(run), State::Starting) if run.overdue => None,
            // Time that is excused and goes on is counted from `excused_since`.
            (Some(run), State::Starting) => {
                let until = run.excused_since.unwrap_or(self.now);
                run.start_deadline(until, self.lateness.total)
            }
            _ => self.timers.deadline(Key::lifecycle(service.unit)),
        }
    }

    pub(super) fn snapshot(&self, id: ServiceId) -> ServiceSnapshot {
        let service = self.service(id);
        let wanted = snapshot::WantedRecord {
            name: (&*service.name).into(),
            wanted: service.wanted.word().into(),
            by: service.wanted_by.clone(),
            at_wall_ms: service.wanted_at_ms,
            pinned: service.pinned,
            // The state directory keeps it.
            definition: None,
            since_ms: None,
        };
        ServiceSnapshot {
            name: (&*service.name).into(),
            wanted: Some(wanted),
            state: service.state.word().into(),
            cause: service.cause.word().into(),
            since: service.since,
            trouble: service.trouble.clone(),
            number: service.number,
            attempts: service.attempts,
            uncured: service.uncured,
            deadline: self.lifecycle_deadline(id),
            run: service.run.as_ref().map(|run| run_snapshot(run)),
            exhausted: service.exhausted,
            last_end: service.last_end.clone(),
            dossier: service.dossier.clone(),
            restarting: service.restarting,
            cure: service.cure,
            shadow: service.shadow,
            leaves_after: self.leaves_after(id),
            once: service.once,
            at_boot: service.at_boot,
            storm_place: service.place,
            timed: service.timed.clone(),
        }
    }
}

fn found_end(found: Found) -> Option<Exit> {
    match found {
        Found::Ended(exit) => Some(exit),
        Found::Gone | Found::Alive { .. } => None,
    }
}

fn run_snapshot(run: &Run) -> RunSnapshot {
    RunSnapshot {
        pid: run.pid,
        started: run.started,
        spawned_at: run.spawned_at,
        executed: run.executed,
        ready_at: run.ready_at,
        begun_by: run.begun_by.word().into(),
        restarted: run.restarted,
        overdue: run.overdue,
        excused_since: run.excused_since,
        stop: run.stop.as_ref().map(|stop| StopSnapshot {
            cause: stop.cause.word().into(),
            final_stop: stop.final_stop,
            wanted: stop.wanted,
            then_start: stop.then_start,
            killed: stop.killed,
            waits: stop.waits,
            evidence: stop.evidence,
            deadline: stop.deadline,
        }),
        exit: run.exit,
        oom_kills: run.oom_kills,
        seeking: run.seek.is_some(),
        told: run.told.as_ref().map(|told| told_snapshot(told)),
        hooks: run.hooks.clone(),
        start_doubts: run.start_doubts,
        probes: run
            .watched()
            .map(|(_, probe, watch)| ProbeSnapshot {
                name: probe.name.clone(),
                failures: watch.streak.failures,
                passes: watch.streak.passes,
                up: watch.streak.up,
                passed_once: watch.streak.passed,
                chain_since: watch.streak.chain_since,
                failing_since: watch.streak.failing_since,
                last_pass_begun: watch.streak.last_pass_begun,
                inconclusive: watch.streak.inconclusive,
                inconclusive_since: watch.streak.inconclusive_since,
                recent: watch.streak.recent,
                shadow_attempts: watch.shadow_attempts,
                last: watch.last.as_ref().map(|last| last.outcome.clone()),
                doubted: watch.doubted,
            })
            .collect(),
    }
}

fn told_snapshot(told: &Told) -> ToldSnapshot {
    ToldSnapshot {
        ready: told.ready,
        reloading: told.reloading,
        stopping: told.stopping,
        status: told.status.clone(),
        errno: told.errno,
        main: told.main,
        period_us: told.period.map(micros),
        fed_since: told.streak.chain_since,
        missed_since: told.streak.failing_since,
        missed: told.missed.clone(),
        doubted: told.doubted,
    }
}

fn restored_told(old: &ToldSnapshot) -> Told {
    let streak = Streak {
        chain_since: old.fed_since,
        failing_since: old.missed_since,
        up: match (old.missed_since, old.fed_since) {
            (Some(_), _) => Some(false),
            (None, fed) => fed.map(|_| true),
        },
        passed: old.fed_since.is_some(),
        ..Streak::default()
    };
    Told {
        ready: old.ready,
        reloading: old.reloading,
        stopping: old.stopping,
        status: old.status.clone(),
        errno: old.errno,
        main: old.main,
        period: old.period_us.map(Duration::from_micros),
        streak,
        missed: old.missed.clone(),
        doubted: old.doubted,
        ..Told::default()
    }
}

fn restored_watch(old: &ProbeSnapshot) -> Watch {
    let streak = Streak {
        failures: old.failures,
        passes: old.passes,
        up: old.up,
        passed: old.passed_once,
        failing_since: old.failing_since,
        chain_since: old.chain_since,
        last_pass_begun: old.last_pass_begun,
        inconclusive: old.inconclusive,
        inconclusive_since: old.inconclusive_since,
        recent: old.recent,
    };
    let last = old.last.clone().map(|outcome| Last {
        outcome,
        latency: Duration::ZERO,
        output: "".into(),
    });
    Watch {
        streak,
        last,
        shadow_attempts: old.shadow_attempts,
        doubted: old.doubted,
        ..Watch::default()
    }
}

fn restored_stop(old: &StopSnapshot) -> Stop {
    let cause = Cause::parse(&old.cause).unwrap_or(Cause::Operator);
    let mut stop = Stop::new(cause, old.deadline);
    stop.final_stop = old.final_stop;
    stop.wanted = old.wanted;
    stop.then_start = old.then_start;
    stop.killed = old.killed;
    stop.waits = old.waits;
    stop.evidence = old.evidence;
    stop
}
