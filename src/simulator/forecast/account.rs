//! What a trial costs its users: when nobody answered, how long, and what that time went with.

use crate::config::{Definition, Kind};
use crate::control::forecast::{
    AttemptsAt, DecisionAt, Down, Lanes, Restarts, StateAt, Stretch, Summary,
};
use crate::engine::snapshot::ServiceSnapshot;
use crate::engine::story::{Decision, Transition, TransitionKind, Verdict};
use crate::time::{Time, micros};
use std::time::Duration;

/// What is so at one moment.
pub(super) struct Sight {
    pub up: bool,
    /// The youngest run.
    pub run: u32,
    /// The daemon lives.
    pub alive: bool,
}

/// What the time without an answer is spent with; in the order of [`Down::parts`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unnoticed,
    Stability,
    Hold,
    Dependency,
    Stopping,
    Backoff,
    Starting,
    GivenUp,
    Stopped,
    NoDaemon,
}

const PHASES: usize = 10;

struct Outage {
    from: Time,
    parts: [Duration; PHASES],
}

pub(super) struct Account {
    name: Box<str>,
    oneshot: bool,
    probed: bool,
    /// Changes kept of each lane.
    most: usize,
    now: Time,
    phase: Phase,
    /// None while it answers.
    outage: Option<Outage>,
    parts: [Duration; PHASES],
    longest: (Duration, Time),
    first_answer: Option<Time>,
    /// What the gate's standing word makes of the time.
    standing: Option<Phase>,
    health: &'static str,
    summary: Summary,
    lanes: Lanes,
}

impl Account {
    pub fn new(name: &str, most: usize) -> Account {
        Account {
            name: name.into(),
            oneshot: false,
            probed: false,
            most,
            now: Time::ZERO,
            phase: Phase::Starting,
            outage: Some(Outage {
                from: Time::ZERO,
                parts: [Duration::ZERO; PHASES],
            }),
            parts: [Duration::ZERO; PHASES],
            longest: (Duration::ZERO, Time::ZERO),
            first_answer: None,
            standing: None,
            health: "unknown",
            summary: Summary::default(),
            lanes: Lanes::default(),
        }
    }

    /// Until now it was as seen before; from now on it is so.
    pub fn look(&mut self, now: Time, sight: &Sight, snapshot: Option<&ServiceSnapshot>) {
        self.pass(now);
        self.phase = match snapshot {
            _ if !sight.alive => Phase::NoDaemon,
            Some(snapshot) => self.phase_of(snapshot),
            None => Phase::Starting,
        };
        match (sight.up, self.outage.take()) {
            (true, Some(outage)) => self.answered(outage, sight.run),
            (false, None) => {
                self.outage = Some(Outage {
                    from: now,
                    parts: [Duration::ZERO; PHASES],
                });
            }
            (_, outage) => self.outage = outage,
        }
        if let Some(snapshot) = snapshot {
            self.attempts(snapshot);
            self.state(&snapshot.state);
        }
    }

    fn pass(&mut self, now: Time) {
        let passed = now.since(self.now);
        if let Some(outage) = &mut self.outage {
            outage.parts[self.phase as usize] += passed;
        }
        self.now = now;
    }

    fn phase_of(&self, snapshot: &ServiceSnapshot) -> Phase {
        let stopped = snapshot
            .wanted
            .as_ref()
            .is_some_and(|w| &*w.wanted == "stop");
        match &*snapshot.state {
            "running" => self.standing.unwrap_or(Phase::Unnoticed),
            "starting" => self.standing.unwrap_or(Phase::Starting),
            "stopping" if stopped => Phase::Stopped,
            "stopping" => Phase::Stopping,
            "backoff" if self.standing == Some(Phase::Hold) => Phase::Hold,
            "backoff" => Phase::Backoff,
            "blocked" => Phase::Dependency,
            _ if stopped => Phase::Stopped,
            "inactive" => Phase::Starting,
            _ => Phase::GivenUp,
        }
    }

    /// The first start is no outage, if it needs only one run.
    fn answered(&mut self, outage: Outage, run: u32) {
        if self.first_answer.is_none() {
            self.first_answer = Some(self.now);
            if run == 1 {
                return;
            }
        }
        self.count(outage);
    }

    fn count(&mut self, outage: Outage) {
        let length = self.now.since(outage.from);
        if length.is_zero() {
            return;
        }
        self.summary.outages = self.summary.outages.saturating_add(1);
        for (sum, part) in self.parts.iter_mut().zip(outage.parts) {
            *sum += part;
        }
        if length > self.longest.0 {
            self.longest = (length, outage.from);
        }
        let stretch = Stretch {
            from_ms: outage.from.as_millis(),
            to_ms: self.now.as_millis(),
        };
        keep(
            &mut self.lanes.down,
            stretch,
            self.most,
            &mut self.lanes.thinned,
        );
    }

    fn attempts(&mut self, snapshot: &ServiceSnapshot) {
        let used = snapshot.attempts;
        let before = self.lanes.attempts.last().map_or(0, |last| last.used);
        if used == self.summary.attempts && !self.lanes.attempts.is_empty() {
            return;
        }
        let at_ms = self.now.as_millis();
        if used < before.max(self.summary.attempts) {
            self.summary.refunds = self.summary.refunds.saturating_add(1);
            self.summary.last_refund_ms = Some(at_ms);
        }
        self.summary.attempts = used;
        let spent = self
            .summary
            .max_attempts
            .is_some_and(|most| most > 0 && used >= most);
        if spent && self.summary.spent_ms.is_none() {
            self.summary.spent_ms = Some(at_ms);
        }
        let change = AttemptsAt { at_ms, used };
        keep(
            &mut self.lanes.attempts,
            change,
            self.most,
            &mut self.lanes.thinned,
        );
    }

    fn state(&mut self, state: &str) {
        let unhealthy = self.health == "unhealthy" && matches!(state, "running" | "starting");
        let last = self.lanes.states.last();
        if last.is_some_and(|last| last.state == state && last.unhealthy == unhealthy) {
            return;
        }
        let change = StateAt {
            at_ms: self.now.as_millis(),
            state: state.to_owned(),
            unhealthy,
        };
        keep(
            &mut self.lanes.states,
            change,
            self.most,
            &mut self.lanes.thinned,
        );
    }

    pub fn transition(&mut self, transition: &Transition) {
        if *transition.service != *self.name {
            return;
        }
        match (transition.kind, transition.to.0) {
            (TransitionKind::Health, to) => self.health = to,
            (TransitionKind::State, "starting") => {
                (self.standing, self.health) = (None, "unknown");
                restarted(
                    &mut self.summary.restarts,
                    transition.from.0,
                    transition.cause.0,
                );
            }
            (
                TransitionKind::State
                | TransitionKind::Wanted
                | TransitionKind::Probe
                | TransitionKind::Definition
                | TransitionKind::Dossier
                | TransitionKind::Host,
                _,
            ) => {}
        }
    }

    pub fn decision(&mut self, decision: &Decision) {
        if *decision.service != *self.name || decision.cured.is_some() {
            return;
        }
        self.summary.max_attempts = decision.max_attempts;
        self.standing = match decision.verdict {
            Verdict::Allowed | Verdict::Cancelled => None,
            Verdict::Deferred => Some(match decision.reason.split(' ').next() {
                Some("hold") => Phase::Hold,
                Some("asking" | "dependency") => Phase::Dependency,
                _ => Phase::Stability,
            }),
            Verdict::Denied => {
                if self.standing != Some(Phase::GivenUp) {
                    self.gave_up(decision);
                }
                Some(Phase::GivenUp)
            }
            Verdict::Absorbed => self.standing,
        };
        let change = DecisionAt {
            at_ms: decision.at.as_millis(),
            verdict: decision.verdict.word().to_owned(),
            reason: decision.reason.to_string(),
        };
        keep(
            &mut self.lanes.decisions,
            change,
            self.most,
            &mut self.lanes.thinned,
        );
    }

    fn gave_up(&mut self, decision: &Decision) {
        if decision.reason.starts_with("wanted stop") {
            return;
        }
        self.summary.gave_up = self.summary.gave_up.saturating_add(1);
        if self.summary.gave_up_ms.is_none() {
            self.summary.gave_up_ms = Some(decision.at.as_millis());
            self.summary.gave_up_reason = Some(decision.reason.to_string());
        }
    }

    /// The end of the time.
    pub fn close(&mut self, now: Time) {
        self.pass(now);
        if let Some(outage) = self.outage.take() {
            self.count(outage);
        }
    }

    /// All that was counted, of this budget, ending so.
    pub fn tell(mut self, last: Option<&ServiceSnapshot>) -> (Summary, Lanes) {
        let ms = |part: Phase| self.parts[part as usize].as_millis() as u64;
        let down: Duration = self.parts.iter().sum();
        let mut summary = Summary {
            first_answer_ms: self.first_answer.map(Time::as_millis),
            state: last.map_or(String::new(), |last| last.state.to_string()),
            given_up: self.phase == Phase::GivenUp,
            health: self.probed.then(|| self.health.to_owned()),
            ..self.summary
        };
        if self.oneshot {
            (summary.outages, summary.first_answer_ms) = (0, None);
            self.lanes.down.clear();
            return (summary, self.lanes);
        }
        summary.down_ms = down.as_millis() as u64;
        summary.down = Down {
            unnoticed_ms: ms(Phase::Unnoticed),
            stability_ms: ms(Phase::Stability),
            hold_ms: ms(Phase::Hold),
            dependency_ms: ms(Phase::Dependency),
            stopping_ms: ms(Phase::Stopping),
            backoff_ms: ms(Phase::Backoff),
            starting_ms: ms(Phase::Starting),
            given_up_ms: ms(Phase::GivenUp),
            stopped_ms: ms(Phase::Stopped),
            no_daemon_ms: ms(Phase::NoDaemon),
        };
        summary.longest_ms = self.longest.0.as_millis() as u64;
        summary.longest_from_ms = self.longest.1.as_millis();
        let all = self.now.as_micros().max(1);
        let up = all.saturating_sub(micros(down));
        let ppm = u128::from(up) * 1_000_000 / u128::from(all);
        summary.up_ppm = Some(ppm as u32);
        (summary, self.lanes)
    }

    /// What is known before anything happens.
    pub fn expect(&mut self, definition: &Definition) {
        self.oneshot = definition.kind == Kind::Oneshot;
        self.probed = !definition.probes.is_empty();
        self.summary.max_attempts = definition.retry_policy.max_attempts;
    }
}

fn restarted(restarts: &mut Restarts, from: &str, cause: &str) {
    let of = match cause {
        "unhealthy" => &mut restarts.unhealthy,
        "exit" => &mut restarts.exit,
        "start_timeout" => &mut restarts.start_timeout,
        "operator" if from == "stopping" => &mut restarts.operator,
        "config" | "dependency" | "watchdog" | "memory" if from != "inactive" => {
            &mut restarts.other
        }
        _ => return,
    };
    *of = of.saturating_add(1);
    restarts.all = restarts.all.saturating_add(1);
}

/// Keeps the first `most`.
fn keep<T>(lane: &mut Vec<T>, change: T, most: usize, thinned: &mut bool) {
    match lane.len() < most {
        true => lane.push(change),
        false => *thinned = true,
    }
}
