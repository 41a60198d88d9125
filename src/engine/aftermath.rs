//! What follows the end of a run: judged by what ended it, the policy and the budget; the delay.
//!
//! Invariant: the end of a run that we stopped is judged by the stop's cause, never by its exit.

use super::table::{Exhausted, Stop};
use super::*;
use crate::config::alerts::What;
use crate::config::{Definition, Preserve};
use crate::exit::Exit;
use crate::service::gate::{self, EndRuling, Reason, Ruling};
use crate::service::retry_policy::{budget_words, delay_for_attempt};
use crate::service::state::{Cause, Cue, Next, State, Wanted};
use story::Verdict;

impl Engine {
    /// Nothing of the run is left: what comes next is judged by what ended it.
    pub(super) fn gone(&mut self, id: ServiceId) {
        let trouble = self.service(id).trouble.clone();
        let Some(run) = self.service(id).run.as_ref() else {
            return;
        };
        let exit = run.exit.unwrap_or(Exit::Unknown);
        let stop = run.stop.clone();
        let spawn_error = !run.executed && !trouble.is_empty();
        let (failed, hopeless) = (run.hooks.failed.clone(), run.hooks.hopeless);
        let (spawned_at, ready) = (run.spawned_at, run.ready_at.is_some());
        let own = run.own_cause();
        let own_end = run.own_end();
        let cause = run.end_cause();
        let undone = run.hooks.undo > 0;
        let made = run.definition.clone();
        let definition = self.definition_of(id);
        self.drop_run(id, cause);
        if cause.is_automatic() {
            self.settle_cure(id, false);
        }
        // Whatever ended it, it did not do what it was run for.
        let judged = match failed.is_some() {
            true => Exit::Unknown,
            false => exit,
        };
        let (failed, words) = (failed.is_some(), failed);
        let detail: Box<str> = match (words, spawn_error) {
            (Some(words), _) if own == Cause::Memory => format!("{words}: out of memory").into(),
            (Some(words), _) => words,
            (None, true) => trouble,
            (None, false) if undone => "undone".into(),
            (None, false) => own_end.into(),
        };
        let mut begin = cause;
        // That it was stopped with what it requires is no end of its own: nobody was left waiting.
        let taken_down = stop
            .as_ref()
            .is_some_and(|stop| stop.cause == Cause::Dependency);
        let undefined = self.service(id).definition.is_none();
        let next = match stop {
            // By what would it be judged, or started?
            _ if undefined => Next::Failed,
            Some(stop) if stop.then_start => {
                begin = Cause::Operator;
                Next::Start {
                    free: self.is_free(id),
                }
            }
            Some(stop) if stop.final_stop && stop.cause == Cause::Dependency => {
                self.service_mut(id).trouble = "stopped with what it requires".into();
                Next::Exited
            }
            Some(stop) if stop.final_stop => {
                let service = self.service(id);
                let used = budget_words(&definition.retry_policy, service.attempts);
                let words = match service.is_exhausted() {
                    true => format!("budget {used}"),
                    false => format!("{} restarts in a row did not cure it", service.uncured),
                };
                self.service_mut(id).trouble = words.into();
                Next::Failed
            }
            Some(Stop {
                cause: Cause::Exit, ..
            })
            | None
                if hopeless =>
            {
                self.service_mut(id).trouble = detail.clone();
                Next::Failed
            }
            Some(Stop {
                cause: Cause::Exit, ..
            })
            | None => {
                self.judge_own_end(id, &definition, (own, judged), (spawned_at, ready), &detail)
            }
            Some(stop) if stop.cause.is_automatic() => self.delay(id, &definition),
            Some(_) => Next::Start {
                free: self.is_free(id),
            },
        };
        let follows = matches!(next, Next::Start { .. } | Next::Wait);
        let preserve = made.process.directories.preserve;
        let runtime = made.process.directories.are_passing()
            && (undefined || follows && preserve == Preserve::No);
        if runtime || made.process.confine.has_directories() {
            self.effects.push(Effect::RemoveDirectories {
                service: id,
                runtime,
                definition: made,
            });
        }
        let failed_to_undo = (undone && failed).then(|| detail.clone());
        // What was wanted once is not started again, by a connection neither.
        let once = self.service(id).once;
        let listens = next == Next::Exited && definition.starts_on_connection() && !once;
        let next = match listens {
            true => Next::Listen,
            false => next,
        };
        if listens {
            // Through the rest that follows, they stay open.
            self.service_mut(id).sockets = table::Sockets::Again;
        }
        self.cue(id, Cue::Gone(next), begin, detail);
        if listens {
            self.listen_again(id, taken_down);
        }
        if let Some(words) = failed_to_undo.filter(|_| self.service(id).run.is_none()) {
            // Stopped all the same; and that it is not undone is shown.
            self.service_mut(id).trouble = words;
        }
        if undefined && self.is_present(id) && self.service(id).wanted == Wanted::Start {
            self.start(id, Cause::Config);
        }
    }

    /// The definition in force, or, of a removed service, an empty one that restarts nothing.
    pub(super) fn definition_of(&self, id: ServiceId) -> Rc<Definition> {
        let service = self.service(id);
        match (&service.definition, &service.run) {
            (Some(definition), _) => definition.clone(),
            (None, Some(run)) => run.definition.clone(),
            (None, None) => Rc::new(boot::fallback_definition()),
        }
    }

    pub(super) fn judge_own_end(
        &mut self,
        id: ServiceId,
        definition: &Definition,
        (cause, exit): (Cause, Exit),
        (spawned_at, ever_ready): (Time, bool),
        detail: &str,
    ) -> Next {
        let service = self.service(id);
        let inputs = gate::Inputs {
            now: self.now,
            wanted: self.will(id),
            once: service.once,
            observed: false,
            restart: definition.restart,
            state: service.state,
            held: self.hold.is_some(),
            requirement: gate::Requirement::Satisfied,
            policy: &definition.retry_policy,
            attempts: service.attempts,
            spawned_at,
            restarted: false,
            ever_ready,
            recovering: false,
            storm: gate::Storm::Token,
        };
        let attempts = service.attempts;
        match gate::judge_end(&inputs, definition.kind, exit) {
            EndRuling::Clean => Next::Exited,
            EndRuling::Final => {
                self.service_mut(id).trouble = detail.into();
                Next::Failed
            }
            EndRuling::Restart(Ruling::Allowed { attempt }) => {
                self.service_mut(id).attempts = attempt;
                let next = self.delay(id, definition);
                let due = self.service(id).backoff_until;
                self.decide(id, cause, Verdict::Allowed, detail.into(), attempts, due);
                next
            }
            EndRuling::Restart(Ruling::Deferred { reason, .. }) => {
                // The attempt is spent now; the hold only brakes its start.
                self.service_mut(id).attempts = attempts.saturating_add(1);
                let next = self.delay(id, definition);
                let reason = format!("{reason} ({detail})").into();
                self.decide(id, cause, Verdict::Deferred, reason, attempts, None);
                next
            }
            // Observation is about health.
            EndRuling::Restart(Ruling::Shadow) => Next::Exited,
            EndRuling::Restart(Ruling::Denied { reason } | Ruling::Absorbed { reason }) => {
                let words: Box<str> = format!("{reason} ({detail})").into();
                if matches!(reason, Reason::Budget(_)) {
                    self.service_mut(id).trouble = words.clone();
                    self.raise(id, What::Exhausted, cause.word(), detail);
                    self.tell_exhausted(id, detail);
                    self.reboot_if_defined(id);
                }
                self.decide(id, cause, Verdict::Denied, words, attempts, None);
                Next::Failed
            }
        }
    }

    /// The budget is spent: whoever the definition names is told, once until it is refunded.
    pub(super) fn tell_exhausted(&mut self, id: ServiceId, reason: &str) {
        let service = self.service_mut(id);
        let Some(definition) = service.definition.clone() else {
            return;
        };
        let nobody = definition.retry_policy.on_exhausted_exec.is_none();
        if nobody || service.exhausted == Exhausted::Told {
            return;
        }
        if std::mem::replace(&mut service.exhausted, Exhausted::Due) == Exhausted::No {
            self.effects.push(Effect::TellExhausted {
                service: id,
                definition,
                reason: reason.into(),
            });
        }
        self.mark(id);
    }

    /// The gate is asked about a run that was taken up again; and a daemon that died before it
    /// was known that somebody was told has told nobody.
    pub(super) fn reconsider_restored(&mut self, id: ServiceId, untold: bool) {
        self.reconsider(id);
        if untold {
            let used = self.service(id).attempts;
            let used = budget_words(&self.definition_of(id).retry_policy, used);
            let reason = match &*self.service(id).trouble {
                "" => format!("budget {used}"),
                trouble => trouble.to_owned(),
            };
            self.tell_exhausted(id, &reason);
        }
    }

    pub(super) fn exhausted_told(&mut self, id: ServiceId) {
        // A refund in between has made it another exhaustion's.
        if self.service(id).exhausted == Exhausted::Due {
            self.service_mut(id).exhausted = Exhausted::Told;
            self.mark(id);
        }
    }

    /// The delay of the attempt that was spent: a start at once when it is nothing.
    pub(super) fn delay(&mut self, id: ServiceId, definition: &Definition) -> Next {
        let attempt = self.service(id).attempts;
        let delay = delay_for_attempt(&definition.retry_policy, attempt, &mut self.prng);
        let due = self.now + delay;
        self.service_mut(id).backoff_until = Some(due);
        match delay.is_zero() && self.hold.is_none() {
            true => Next::Start {
                free: self.is_free(id),
            },
            false => Next::Wait,
        }
    }

    pub(super) fn wait(&mut self, id: ServiceId, cause: Cause, detail: Box<str>) {
        let due = self.service(id).backoff_until.unwrap_or(self.now);
        let key = self.service_key(id, Key::lifecycle);
        self.timers.set(key, due);
        self.enter(id, State::Backoff, cause, detail);
    }

    pub(super) fn backoff_over(&mut self, id: ServiceId) {
        if self.hold.is_some() {
            return;
        }
        let free = self.is_free(id);
        let detail = if free {
            "".into()
        } else {
            self.waits_for(id, None)
        };
        let cause = self.service(id).cause;
        self.cue(id, Cue::Elapsed { free }, cause, detail);
    }

    /// The hold was released: a delay that ran out under it is over, what is left of another is
    /// waited for.
    pub(super) fn unheld(&mut self, id: ServiceId) {
        let key = self.service_key(id, Key::lifecycle);
        match self.service(id).state {
            State::Backoff if self.timers.deadline(key).is_none() => self.backoff_over(id),
            State::Blocked => self.unblock(id),
            State::Starting if self.waits_to_spawn(id) && self.timers.deadline(key).is_none() => {
                self.lifecycle_due(id);
            }
            State::Backoff
            | State::Inactive
            | State::Starting
            | State::Running
            | State::Stopping
            | State::Exited
            | State::Failed => {}
        }
    }
}
