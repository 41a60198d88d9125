//! What is shown: plain data made from the engine's tables. Reads only.

use super::status::{
    DaemonStatus, DossierStatus, GateStatus, HoldStatus, LastEnd, ProbeStatus, SocketStatus,
    Status, StoryLine, WatchdogStatus, Why,
};
use super::table::{Run, Sockets};
use super::*;
use crate::config::{KillMode, Kind, OnUnhealthy};
use crate::exit::Exit;
use crate::probe::Outcome;
use crate::service::gate::Ruling;
use crate::service::health::Health;
use crate::service::state::{Cause, State};
use crate::time::{Wall, micros, millis, rfc3339_ms};

impl Engine {
    /// Every service with a definition or a process, by name.
    pub fn listed(&self) -> impl Iterator<Item = ServiceId> + '_ {
        self.names
            .values()
            .copied()
            .filter(|id| self.is_listed(*id))
    }

    pub fn is_listed(&self, id: ServiceId) -> bool {
        self.is_present(id) || self.service(id).state != State::Inactive
    }

    /// The start time of a run's process, as the kernel tells it.
    pub fn started(&self, run: RunId) -> Option<u64> {
        let present = self.services.get(run.service.index())?.run.as_ref()?;
        let began = match present.hooks.began {
            0 => present.started,
            began => began,
        };
        (present.id == run).then_some(began)
    }

    /// All that a journal must hold to know what is so.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let services = self
            .ids()
            .map(|id| Record::Service(Box::new(self.snapshot(id))));
        let transitions = self.services.iter().flat_map(|s| s.transitions.iter());
        let decisions = self.services.iter().flat_map(|s| s.decisions.iter());
        services
            .chain(transitions.cloned().map(Record::Transition))
            .chain(decisions.cloned().map(Record::Decision))
            .chain(std::iter::once(Record::Hold(self.hold.clone())))
            .chain(
                self.reload
                    .iter()
                    .map(|reload| Record::Reload(Some(reload.clone()))),
            )
            .chain(self.alert_records())
            .chain(std::iter::once(Record::Storm(Box::new(
                self.storm.record.clone(),
            ))))
    }

    /// It has a run that is not ready yet, and is not being ended.
    pub fn is_starting(&self, id: ServiceId) -> bool {
        let service = self.service(id);
        service.state == State::Starting && service.run.is_some()
    }

    pub fn has_run(&self, id: ServiceId) -> bool {
        self.service(id).run.is_some()
    }

    /// Present runs, with the process that was spawned for each, for a driver that takes them up again.
    pub fn runs(&self) -> impl Iterator<Item = (RunId, crate::id::Pid, u64)> + '_ {
        let runs = self.services.iter().filter_map(|s| s.run.as_deref());
        runs.filter_map(|run| Some((run.id, run.pid?, run.started)))
    }

    pub fn name(&self, id: ServiceId) -> &str {
        &self.service(id).name
    }

    /// The definition in force; the run's own while one lives.
    pub fn definition(&self, id: ServiceId) -> Option<&Rc<crate::config::Definition>> {
        self.service(id).definition.as_ref()
    }

    pub fn find_probe(&self, id: ServiceId, name: &str) -> Option<u16> {
        let probes = &self.service(id).definition.as_ref()?.probes;
        probes
            .iter()
            .position(|probe| &*probe.name == name)
            .map(|at| at as u16)
    }

    pub fn status(&self, id: ServiceId, wall: Wall) -> Status {
        let service = self.service(id);
        let run = service.run.as_deref();
        let definition = service.definition.as_ref();
        let (next, next_in_ms) = self.next_of(id, wall.now);
        let said = !service.wanted_by.is_empty();
        let live = run.filter(|r| r.exit.is_none());
        let alive = live.filter(|run| run.seek.is_none());
        Status {
            // The loop knows.
            log: None,
            name: service.name.to_string(),
            description: definition
                .and_then(|d| d.description.as_deref())
                .map(str::to_owned),
            kind: match definition.map(|d| d.kind) {
                Some(Kind::Oneshot) => "oneshot".to_owned(),
                Some(Kind::Forking) => "forking".to_owned(),
                Some(Kind::Target) => "target".to_owned(),
                Some(Kind::Process) | None => "process".to_owned(),
            },
            wanted: service.wanted_word().to_owned(),
            at_boot: service.at_boot.map(|wanted| wanted.word().to_owned()),
            wanted_by: said.then(|| service.wanted_by.to_string()),
            wanted_at: said.then(|| rfc3339_ms(service.wanted_at_ms)),
            pinned: service.pinned,
            state: service.state.word().to_owned(),
            phase: self.phase_word(id).map(str::to_owned),
            cause: service.cause.word().to_owned(),
            health: self.shown_health(id),
            detail: self.detail(id, wall),
            pid: alive.and_then(Run::main).map(|pid| pid.0),
            run: service.number,
            attempts: service.attempts,
            observe: definition.is_some_and(|d| d.observe),
            shadow_attempts: service.shadow.attempts,
            max_attempts: definition.and_then(|d| d.retry_policy.max_attempts),
            uptime_ms: live.map(|r| millis(wall.now.since(r.spawned_at))),
            ready_after_ms: live
                .and_then(|r| r.ready_at.map(|ready| millis(ready.since(r.spawned_at)))),
            last_end: service.last_end.as_ref().map(|end| LastEnd {
                cause: end.cause.to_string(),
                code: match end.exit {
                    Exit::Code(code) => Some(code),
                    Exit::Signal(_) | Exit::Unknown => None,
                },
                signal: match end.exit {
                    Exit::Signal(signal) => Some(signal.to_string()),
                    Exit::Code(_) | Exit::Unknown => None,
                },
                at: wall.rfc3339(end.at),
            }),
            dossier: service.dossier.as_ref().map(|dossier| DossierStatus {
                id: dossier.id.to_string(),
                run: dossier.run,
                at: wall.rfc3339(dossier.at),
                summary: dossier.summary.to_string(),
            }),
            probes: self.probe_statuses(id),
            status_text: live
                .and_then(|r| r.told.as_ref())
                .filter(|told| !told.status.is_empty())
                .map(|told| told.status.to_string()),
            says: live.and_then(Run::says),
            watchdog: live.and_then(|r| self.watchdog_status(id, r, wall.now)),
            listening: self.is_listening(id),
            schedule: self.schedule_status(id, wall),
            sockets: self.socket_statuses(id),
            stored_fds: service.stored.unwrap_or(0),
            gate: self.gate_status(id, wall.now),
            next,
            next_in_ms,
            tree: match definition.map(|d| d.kill_mode) {
                Some(KillMode::Process) => "process only".to_owned(),
                Some(KillMode::Tree | KillMode::Mixed) | None => Status::BEST_EFFORT.to_owned(),
            },
            usage: None,
            source: service.source.to_string(),
            definition: self.standing_definition(id),
            problem: service
                .problem
                .as_deref()
                .or(self.held_back.get(&id).map(|words| &**words))
                .map(str::to_owned),
        }
    }

    fn socket_statuses(&self, id: ServiceId) -> Vec<SocketStatus> {
        let service = self.service(id);
        let open = matches!(service.sockets, Sockets::Open | Sockets::Watched);
        let sockets = service.definition.iter().flat_map(|d| d.sockets().iter());
        sockets
            .map(|socket| SocketStatus {
                name: socket.name.to_string(),
                listen: socket.listen.to_string(),
                open,
            })
            .collect()
    }

    fn shown_health(&self, id: ServiceId) -> Option<String> {
        let service = self.service(id);
        match &service.run {
            Some(run) => run.verdict().map(|health| health.word().to_owned()),
            None => service
                .definition
                .as_ref()
                .is_some_and(|d| {
                    d.watchdog().is_some()
                        || d.probes
                            .iter()
                            .any(|p| p.on_unhealthy == OnUnhealthy::Restart)
                })
                .then(|| Health::Unknown.word().to_owned()),
        }
    }

    fn detail(&self, id: ServiceId, wall: Wall) -> Option<String> {
        let service = self.service(id);
        let words = match service.state {
            State::Blocked if !self.is_free(id) => {
                self.waits_for(id, Some(wall.wall_ms)).to_string()
            }
            State::Backoff | State::Blocked if self.is_held(id) => "held".to_owned(),
            State::Failed | State::Stopping => service.trouble.to_string(),
            State::Starting if service.run.is_none() => service.trouble.to_string(),
            State::Starting | State::Running => {
                let run = service.run.as_deref();
                let seeks = run.filter(|run| run.seek.is_some());
                let seeks = seeks.and_then(|run| self.forking_words(run));
                seeks
                    .map(String::from)
                    .or_else(|| run.and_then(|run| no_verdict(run, wall)))
                    .unwrap_or_default()
            }
            State::Exited if service.cause == Cause::Dependency => service.trouble.to_string(),
            // Stopped, and what it did is not undone.
            State::Inactive if service.trouble.starts_with("undo: ") => service.trouble.to_string(),
            State::Inactive if self.is_listening(id) => service.trouble.to_string(),
            State::Inactive => self.yields_to(id).unwrap_or_default(),
            State::Blocked | State::Backoff | State::Exited => String::new(),
        };
        (!words.is_empty()).then_some(words)
    }

    fn probe_statuses(&self, id: ServiceId) -> Vec<ProbeStatus> {
        let service = self.service(id);
        let on = |probe: &crate::config::Probe| match probe.on_unhealthy {
            OnUnhealthy::Restart => "restart".to_owned(),
            OnUnhealthy::Observe => "observe".to_owned(),
        };
        let Some(run) = &service.run else {
            let probes = service.definition.iter().flat_map(|d| d.probes.iter());
            return probes
                .map(|probe| ProbeStatus {
                    name: probe.name.to_string(),
                    kind: probe.ask.type_name().to_owned(),
                    on_unhealthy: on(probe),
                    ..ProbeStatus::default()
                })
                .collect();
        };
        run.watched()
            .map(|(_, probe, watch)| {
                let streak = &watch.streak;
                let last = watch.last.as_ref();
                ProbeStatus {
                    name: probe.name.to_string(),
                    kind: probe.ask.type_name().to_owned(),
                    up: match streak.no_verdict_since(probe.failure_threshold) {
                        Some(_) => None,
                        None => streak.up,
                    },
                    on_unhealthy: on(probe),
                    streak: match streak.failures {
                        0 => i64::from(streak.passes),
                        failures => -i64::from(failures),
                    },
                    outcome: last.map(|last| {
                        match last.outcome {
                            Outcome::Pass => "pass",
                            Outcome::Fail(_) => "fail",
                            Outcome::Inconclusive(_) => "inconclusive",
                        }
                        .to_owned()
                    }),
                    reason: last
                        .filter(|last| last.outcome != Outcome::Pass)
                        .map(|last| last.outcome.to_string()),
                    // Not known of an answer that a daemon before this one had.
                    latency_us: last.map(|last| micros(last.latency)).filter(|us| *us > 0),
                    output: last
                        .filter(|l| !l.output.is_empty())
                        .map(|l| l.output.to_string()),
                    shadow_attempts: watch.shadow_attempts,
                    doubted: watch.doubted,
                }
            })
            .collect()
    }

    fn watchdog_status(&self, id: ServiceId, run: &Run, now: Time) -> Option<WatchdogStatus> {
        let period = run.watchdog_period()?;
        let missed = run.told.as_ref().filter(|_| run.is_watchdog_down());
        let due = self.watchdog_deadline(id);
        Some(WatchdogStatus {
            period_ms: millis(period),
            state: match (missed, due) {
                (Some(_), _) => "missed",
                (None, Some(_)) => "armed",
                (None, None) => "waiting",
            }
            .to_owned(),
            due_in_ms: due.map(|due| millis(due.since(now))),
            reason: missed.map(|told| told.missed.to_string()),
        })
    }

    fn gate_status(&self, id: ServiceId, now: Time) -> Option<GateStatus> {
        let standing = self.service(id).standing.as_ref()?;
        let (verdict, reason, until) = match &standing.ruling {
            Ruling::Deferred { reason, until } => ("deferred", reason, *until),
            Ruling::Denied { reason } => ("denied", reason, None),
            Ruling::Absorbed { reason } => ("absorbed", reason, None),
            Ruling::Shadow => {
                return Some(GateStatus {
                    verdict: "would restart".to_owned(),
                    reason: "observed only".to_owned(),
                    next_in_ms: None,
                });
            }
            Ruling::Allowed { .. } => return None,
        };
        Some(GateStatus {
            verdict: verdict.to_owned(),
            reason: self.storm_reason(id, reason),
            next_in_ms: until.map(|until| millis(until.since(now))),
        })
    }

    pub fn why(&self, id: ServiceId, wall: Wall) -> Why {
        Why {
            status: self.status(id, wall),
            chain: self.chain(id, wall),
            story: self.history(Some(id), wall, usize::MAX),
            next: self.outlook(id, wall.now),
            last_words: Vec::new(),
        }
    }

    /// Transitions and decisions of one service or of all, oldest first, at most `limit`.
    pub fn history(&self, id: Option<ServiceId>, wall: Wall, limit: usize) -> Vec<StoryLine> {
        let chosen: Vec<ServiceId> = match id {
            Some(id) => vec![id],
            None => self.ids().collect(),
        };
        let mut lines: Vec<StoryLine> = Vec::new();
        for id in chosen {
            let service = self.service(id);
            lines.extend(service.transitions.iter().map(|t| transition_line(t, wall)));
            lines.extend(service.decisions.iter().map(|d| decision_line(d, wall)));
        }
        lines.sort_by_key(|line| line.seq);
        let skip = lines.len().saturating_sub(limit);
        lines.drain(..skip);
        lines
    }

    /// Automatic restarts are held.
    pub fn holds(&self) -> bool {
        self.hold.is_some()
    }

    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// An operator's hold; else that of a storm.
    fn hold_status(&self, wall: Wall) -> Option<HoldStatus> {
        let hold = self.hold.as_ref().map(|hold| HoldStatus {
            owner: hold.owner.to_string(),
            since: wall.rfc3339(hold.since),
            ends_in_ms: hold.until.map(|until| millis(until.since(wall.now))),
            why: None,
        });
        let storm = || {
            self.storm.record.held().map(|held| HoldStatus {
                owner: storm::OWNER.to_owned(),
                since: wall.rfc3339(held.since),
                ends_in_ms: None,
                why: Some(held.why.to_string()),
            })
        };
        hold.or_else(storm)
    }

    /// The daemon itself; its pid, its place, and how it began, are the caller's to fill in.
    pub fn daemon(&self, wall: Wall) -> DaemonStatus {
        let listed: Vec<&Service> = self.listed().map(|id| self.service(id)).collect();
        let count = |test: &dyn Fn(&Service) -> bool| {
            listed.iter().filter(|service| test(service)).count() as u32
        };
        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: 0,
            uptime_ms: millis(wall.now.since(self.booted_at)),
            began: None,
            init: None,
            cgroups: None,
            reduced: None,
            not_durable: Vec::new(),
            services: listed.len() as u32,
            running: count(&|s| s.state == State::Running),
            degraded: count(&|s| {
                s.state == State::Running && s.health() == Some(Health::Unhealthy)
            }),
            failed: count(&|s| s.state == State::Failed),
            hold: self.hold_status(wall),
            storm: self.storm_status(wall),
            reload: self
                .reload
                .as_deref()
                .map(|reload| self.reload_status(reload, wall)),
            settings_problem: None,
            settings_waiting: Vec::new(),
            watchdog: self.host_watchdog(),
            safe_mode: self.safe_mode_words(),
            alerts: self.alert_statuses(wall),
            stale_events: self.stale,
            late_turns: self.lateness.turns,
            max_lateness_us: micros(self.lateness.longest),
            doubt: self.doubt_status(wall),
            shutting_down: self.shutdown.is_some(),
        }
    }
}

pub fn transition_line(transition: &Transition, wall: Wall) -> StoryLine {
    StoryLine {
        seq: transition.seq,
        time: wall.rfc3339(transition.at),
        service: transition.service.to_string(),
        run: transition.run,
        kind: transition.kind.word().to_owned(),
        from: transition.from.0.to_owned(),
        to: transition.to.0.to_owned(),
        cause: transition.cause.0.to_owned(),
        detail: transition.detail.to_string(),
        next: None,
        cured: None,
    }
}

pub fn decision_line(decision: &Decision, wall: Wall) -> StoryLine {
    let used = match decision.max_attempts {
        Some(max) => format!("{}/{max}", decision.attempts),
        None => decision.attempts.to_string(),
    };
    StoryLine {
        seq: decision.seq,
        time: wall.rfc3339(decision.at),
        service: decision.service.to_string(),
        run: decision.run,
        kind: "decision".to_owned(),
        from: format!("attempts {used}"),
        to: decision.verdict.word().to_owned(),
        cause: decision.cause.0.to_owned(),
        detail: decision.reason.to_string(),
        next: decision.next.map(|at| wall.rfc3339(at)),
        cured: decision.cured,
    }
}

/// `no verdict since 12:00:01Z: cannot fork`
fn no_verdict(run: &Run, wall: Wall) -> Option<String> {
    run.watched().find_map(|(_, probe, watch)| {
        let since = watch.streak.no_verdict_since(probe.failure_threshold)?;
        let why = watch
            .last
            .as_ref()
            .map(|last| last.outcome.to_string())
            .unwrap_or_default();
        Some(format!("no verdict since {}: {why}", wall.rfc3339(since)))
    })
}
