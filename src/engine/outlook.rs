//! What comes next: of one service, by itself, and when. Reads only.
//!
//! The short form stands in tables, the sentences in `why`. A sentence names what would change it
//! and, where an operator may want to do something, what to write.

use super::table::Evidence;
use super::*;
use crate::config::OnUnhealthy;
use crate::service::gate::{Reason, Ruling};
use crate::service::health::Health;
use crate::service::hook::Purpose;
use crate::service::state::{State, Wanted};
use crate::time::{millis, spoken};

impl Engine {
    /// What happens next by itself, and in how long.
    pub(super) fn next_of(&self, id: ServiceId, now: Time) -> (Option<String>, Option<u64>) {
        let service = self.service(id);
        let due = self.timers.deadline(Key::lifecycle(service.unit));
        let gate = self.timers.deadline(Key::gate(service.unit));
        let word = match service.state {
            State::Backoff | State::Starting if self.is_held(id) => {
                return (Some("start, when released".into()), None);
            }
            State::Backoff => Some("start"),
            State::Running if self.phase(id).is_some() => Some("reload timeout"),
            State::Stopping if self.phase(id) == Some(Purpose::StopExec) => Some("stop signal"),
            State::Stopping if self.phase(id) == Some(Purpose::Undo) => Some("undo timeout"),
            State::Stopping if self.repairs(id) => Some("repair timeout"),
            State::Stopping if !self.waited_with(id).is_empty() => Some("stop signal"),
            State::Stopping if self.evidence(id).is_some() => Some("stop signal"),
            State::Stopping => Some("SIGKILL"),
            State::Starting if self.phase(id).is_some() => Some("pre_start timeout"),
            State::Starting if service.run.is_none() => Some("next try to spawn"),
            State::Starting => Some("start timeout"),
            State::Inactive | State::Blocked | State::Running | State::Exited | State::Failed => {
                None
            }
        };
        if let (None, Some(at)) = (word, self.next_due(id)) {
            return (Some("run".into()), Some(millis(at.since(now))));
        }
        match (word, due, gate) {
            (Some(word), Some(due), None) => (Some(word.to_owned()), Some(millis(due.since(now)))),
            (_, _, Some(gate)) => (Some("gate".to_owned()), Some(millis(gate.since(now)))),
            (_, None, None) | (None, Some(_), None) => (None, None),
        }
    }

    /// What comes next and when, in sentences.
    pub(super) fn outlook(&self, id: ServiceId, now: Time) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(hold) = &self.hold {
            let end = match hold.until {
                Some(until) => format!("for {} more", spoken(until.since(now))),
                None => "until `release`".to_owned(),
            };
            let owner = &hold.owner;
            lines.push(format!("no automatic restarts {end}: hold by {owner}"));
        }
        match &self.service(id).standing {
            Some(standing) => lines.extend(self.standing_words(id, &standing.ruling, now)),
            None => lines.push(self.state_words(id, now)),
        }
        lines
    }

    /// A repair of it is under way, and was not asked to end.
    fn repairs(&self, id: ServiceId) -> bool {
        let run = self.service(id).run.as_ref();
        let live = run.and_then(|run| run.hooks.live.as_ref());
        live.is_some_and(|live| live.hook.purpose == Purpose::Repair && !live.asked)
    }

    /// The gate did not say yes.
    fn standing_words(&self, id: ServiceId, ruling: &Ruling, now: Time) -> Option<String> {
        let name = &self.service(id).name;
        match ruling {
            Ruling::Deferred { reason, until } => {
                let when = match until {
                    Some(until) => format!("in {}", spoken(until.since(now))),
                    None => "when that changes".to_owned(),
                };
                let reason = self.storm_reason(id, reason);
                Some(format!(
                    "its restart is deferred, {reason}: asked again {when}; recovery before that cancels it"
                ))
            }
            Ruling::Denied {
                reason: reason @ Reason::Budget(_),
            } => Some(format!(
                "its restart is denied, {reason}: left as it is; `start {name}` or `reset {name}` gives a fresh budget"
            )),
            Ruling::Denied { reason } => Some(format!(
                "its restart is denied, {reason}: left as it is until `restart {name}`"
            )),
            Ruling::Shadow => Some(
                "it would be restarted, and is only observed: `observe = false` in its definition \
                 lets that be done"
                    .to_owned(),
            ),
            Ruling::Allowed { .. } | Ruling::Absorbed { .. } => None,
        }
    }

    fn state_words(&self, id: ServiceId, now: Time) -> String {
        let service = self.service(id);
        let name = &service.name;
        let due = self.timers.deadline(Key::lifecycle(service.unit));
        let left = spoken(due.unwrap_or(now).since(now));
        let rests = matches!(
            service.state,
            State::Inactive | State::Exited | State::Failed
        );
        if let Some(at) = self.next_due(id).filter(|_| rests) {
            let left = spoken(at.since(now));
            return format!("a run in {left}, when it is due; `start {name}` runs it now");
        }
        match service.state {
            State::Blocked if self.is_free(id) => "start, when the hold is released".to_owned(),
            State::Blocked => format!("start, as soon as it may: {}", self.waits_for(id, None)),
            State::Backoff if self.is_held(id) && due.is_some() => {
                format!("start, when the hold is released, in {left} at the earliest")
            }
            State::Backoff if self.is_held(id) => "start, when the hold is released".to_owned(),
            State::Backoff => format!("start in {left}"),
            State::Stopping if self.phase(id) == Some(Purpose::StopExec) => {
                let signal = service.run.as_ref().map(|run| run.definition.stop_signal);
                let signal = signal.map_or(String::new(), |signal| signal.to_string());
                format!(
                    "{signal} when stop_exec has ended, in {left} at the latest, if it lives on"
                )
            }
            State::Stopping if self.phase(id) == Some(Purpose::PostStop) => {
                format!("its end when post_stop has ended, which is killed in {left}")
            }
            State::Stopping if self.repairs(id) => {
                format!("its start, when the repair is done, which is ended in {left}")
            }
            State::Stopping if self.phase(id) == Some(Purpose::Undo) => {
                format!("its end when undo has ended, which is killed in {left}")
            }
            State::Stopping if !self.waited_with(id).is_empty() => {
                let names = self.waited_with(id);
                format!("its stop signal when {names} are gone, in {left} at the latest")
            }
            State::Stopping if let Some(evidence) = self.evidence(id) => {
                let what = match evidence {
                    Evidence::Collect => "evidence has been collected",
                    Evidence::Diagnose => "diagnose is done",
                };
                format!("its stop signal when {what}, in {left} at the latest")
            }
            State::Stopping if due.is_some() => format!("SIGKILL in {left}, if it lives on"),
            State::Stopping => "its end".to_owned(),
            State::Starting if self.phase(id).is_some() => {
                format!(
                    "the program, when pre_start is done; if it is not in {left}, the start has failed"
                )
            }
            State::Starting if self.is_held(id) => "start, when the hold is released".to_owned(),
            State::Starting if service.run.is_none() => format!("another try to spawn in {left}"),
            State::Starting if service.run.as_ref().is_some_and(|run| run.is_doubtful()) => {
                format!(
                    "in {left} it is taken to be ready: it may have said so while no daemon was there"
                )
            }
            State::Starting if due.is_some() => {
                format!("if it is not ready in {left}, the gate is asked for a restart")
            }
            State::Starting if service.is_oneshot() => "its end, whenever that comes".to_owned(),
            State::Starting => "it gets ready, whenever that comes".to_owned(),
            State::Running => self.running_words(id, now),
            State::Inactive | State::Exited | State::Failed
                if service.at_boot == Some(Wanted::Start) && !service.once =>
            {
                format!("start at the next boot; `start {name}` starts it now")
            }
            State::Failed if service.definition.is_none() => {
                format!("nothing by itself: mend {}, then `reload`", service.source)
            }
            State::Failed if self.held_back.contains_key(&id) => {
                "nothing by itself: mend its dependencies, then `reload`".to_owned()
            }
            State::Failed if service.once => {
                format!(
                    "nothing by itself: it was wanted once; `once {name}` or `start {name}` tries again"
                )
            }
            State::Failed => format!("nothing by itself; `start {name}` tries again"),
            State::Inactive if self.is_listening(id) => {
                let definition = service.definition.as_ref();
                let places = definition.map_or(String::new(), |d| sockets::places(d));
                format!("a start, when somebody connects to {places}; `start {name}` starts it now")
            }
            State::Exited | State::Inactive if service.wanted == Wanted::Stop => {
                format!("nothing by itself: it is wanted stopped until `start {name}`")
            }
            State::Exited if self.is_undoable(id) => {
                format!("nothing: its work is done; `stop {name}` undoes it")
            }
            State::Exited if service.is_oneshot() => {
                format!("nothing: its work is done; `start {name}` does it again")
            }
            State::Exited => format!("nothing by itself; `start {name}` starts it again"),
            State::Inactive => format!("nothing by itself; `start {name}` starts it"),
        }
    }

    fn running_words(&self, id: ServiceId, now: Time) -> String {
        let service = self.service(id);
        let Some(run) = service.run.as_ref() else {
            return "nothing is due: all that it requires is there".to_owned();
        };
        if service.once {
            return "nothing is due: it is wanted once, and not started again when it has ended"
                .into();
        }
        let restarting = || {
            run.watched()
                .filter(|(_, probe, _)| probe.on_unhealthy == OnUnhealthy::Restart)
        };
        // The one that is nearest to a verdict.
        let failing = restarting()
            .filter(|(_, _, watch)| watch.streak.failures > 0)
            .min_by_key(|(_, probe, watch)| {
                probe
                    .failure_threshold
                    .saturating_sub(watch.streak.failures)
            });
        if let Some((_, probe, watch)) = failing {
            let (name, failures) = (&probe.name, watch.streak.failures);
            let threshold = probe.failure_threshold;
            return match failures < threshold {
                true if run.definition.probes_required.is_some() => {
                    format!("{name} failed {failures} in a row: at {threshold} it is down")
                }
                true => {
                    format!("{name} failed {failures} in a row: at {threshold} it is unhealthy")
                }
                false => format!("{name} is down: a pass makes it healthy again"),
            };
        }
        if run.is_watchdog_down() {
            return "its watchdog is missed: WATCHDOG=1 makes it healthy again".to_owned();
        }
        let due = self.watchdog_deadline(id);
        let every = restarting().map(|(_, probe, _)| probe.interval).min();
        match every {
            Some(every) if run.verdict() == Some(Health::Healthy) => {
                format!(
                    "nothing is due: it is healthy, and asked every {}",
                    spoken(every)
                )
            }
            Some(every) => format!("its health is asked every {}", spoken(every)),
            None if due.is_some() => {
                let left = spoken(due.unwrap_or(now).since(now));
                format!(
                    "its watchdog is due in {left}: if it has not said WATCHDOG=1 by then it is unhealthy"
                )
            }
            None => "nothing is due: it runs; no probe would restart it, only its end".to_owned(),
        }
    }
}
