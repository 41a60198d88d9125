//! The gate: the rule that allows, defers or denies an automatic restart, and names its reason.
//!
//! [`judge`] asks the conditions in a fixed order; the first that does not hold is the reason.
//! It is a pure function of [`Inputs`]; who asks, and what is done about the ruling, is the
//! engine's. [`judge_end`] is the same table for a run that ended by itself.
//!
//! Invariants: an operator's stop always wins; nothing is spent unless the ruling is `Allowed`;
//! a deferral names the time or the event that ends it.

use crate::config::{Kind, Restart, RetryPolicy};
use crate::exit::Exit;
use crate::service::retry_policy::{budget_words, has_budget};
use crate::service::state::{State, Wanted};
use crate::time::Time;
use std::fmt;

/// All the gate looks at.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    pub now: Time,
    pub wanted: Wanted,
    pub once: bool,
    pub restart: Restart,
    /// It may only be told what would be done.
    pub observed: bool,
    pub state: State,
    pub held: bool,
    pub requirement: Requirement<'a>,
    pub policy: &'a RetryPolicy,
    pub attempts: u32,
    /// The present run: when it was spawned, whether by a restart, whether it was ever ready.
    pub spawned_at: Time,
    pub restarted: bool,
    pub ever_ready: bool,
    /// It is down by its window or until it has passed often enough, and passed when last asked.
    pub recovering: bool,
    pub storm: Storm,
}

/// Condition 4: how what the service requires is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Requirement<'a> {
    Satisfied,
    /// It was well when last asked, which was before this trouble began; it is being asked now.
    Asking {
        name: &'a str,
        until: Time,
    },
    Unwell {
        name: &'a str,
    },
}

/// Condition 7: what the host-wide limit says, which is asked when all else holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Storm {
    Token,
    /// Not yet its turn: for whom or what it waits, and until when at the latest.
    Wait {
        words: Box<str>,
        until: Option<Time>,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ruling {
    /// Attempt number `attempt` may be made.
    Allowed {
        attempt: u32,
    },
    /// Asked again at `until`, or when what the reason names changes.
    Deferred {
        reason: Reason,
        until: Option<Time>,
    },
    Denied {
        reason: Reason,
    },
    /// Already on its way; no second attempt is spent.
    Absorbed {
        reason: Reason,
    },
    /// It would be allowed, and is observed only: it is told, nothing is spent.
    Shadow,
}

/// Why the gate did not simply say yes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    WantedStop,
    RestartNever,
    /// An operator wanted one run of it.
    Once,
    Already(State),
    Hold,
    Asking(Box<str>),
    Dependency(Box<str>),
    /// Used of allowed.
    Budget(Box<str>),
    Stability,
    /// It passed when it was last asked.
    Recovering,
    /// For whom or what it waits.
    Storm(Box<str>),
    /// It would be a reboot of the host, which is being counted.
    Reboot,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::WantedStop => f.write_str("wanted stop"),
            Reason::RestartNever => f.write_str("restart never"),
            Reason::Once => f.write_str("wanted once"),
            Reason::Already(state) => write!(f, "already {state}"),
            Reason::Hold => f.write_str("hold"),
            Reason::Asking(name) => write!(f, "asking {name}"),
            Reason::Dependency(name) => write!(f, "dependency {name}"),
            Reason::Budget(used) => write!(f, "budget {used}"),
            Reason::Stability => f.write_str("stability window"),
            Reason::Recovering => f.write_str("its last answer passed"),
            Reason::Storm(words) => write!(f, "storm, {words}"),
            Reason::Reboot => f.write_str("a reboot is being counted"),
        }
    }
}

/// May this live run, which does not work, be restarted?
pub fn judge(inputs: &Inputs<'_>) -> Ruling {
    // 1. the operator's will, and the definition's
    if inputs.wanted == Wanted::Stop {
        return Ruling::Denied {
            reason: Reason::WantedStop,
        };
    }
    if inputs.once {
        return Ruling::Denied {
            reason: Reason::Once,
        };
    }
    if inputs.restart == Restart::Never {
        return Ruling::Denied {
            reason: Reason::RestartNever,
        };
    }
    // 2. nothing under way
    match inputs.state {
        State::Starting | State::Running => {}
        state @ (State::Stopping
        | State::Backoff
        | State::Blocked
        | State::Inactive
        | State::Exited
        | State::Failed) => {
            return Ruling::Absorbed {
                reason: Reason::Already(state),
            };
        }
    }
    // 3. the brake
    if inputs.held {
        return Ruling::Deferred {
            reason: Reason::Hold,
            until: None,
        };
    }
    // 4. what it requires
    match inputs.requirement {
        Requirement::Satisfied => {}
        Requirement::Asking { name, until } => {
            return Ruling::Deferred {
                reason: Reason::Asking(name.into()),
                until: Some(until),
            };
        }
        Requirement::Unwell { name } => {
            return Ruling::Deferred {
                reason: Reason::Dependency(name.into()),
                until: None,
            };
        }
    }
    // 5. the budget; in observation none is spent
    if !inputs.observed && !has_budget(inputs.policy, inputs.attempts) {
        return Ruling::Denied {
            reason: budget(inputs),
        };
    }
    // 6. the stability window
    let end = inputs.spawned_at + inputs.policy.stability_period;
    if inputs.restarted && inputs.ever_ready && inputs.now < end {
        return Ruling::Deferred {
            reason: Reason::Stability,
            until: Some(end),
        };
    }
    // and what is worth a restart: a failure, and not the pass after it
    if inputs.recovering {
        return Ruling::Deferred {
            reason: Reason::Recovering,
            until: None,
        };
    }
    // Observed: whoever is waited for, it takes no turn.
    if inputs.observed {
        return Ruling::Shadow;
    }
    // 7. the storm limit
    if let Storm::Wait { words, until } = &inputs.storm {
        return Ruling::Deferred {
            reason: Reason::Storm(words.clone()),
            until: *until,
        };
    }
    Ruling::Allowed {
        attempt: inputs.attempts.saturating_add(1),
    }
}

/// How a run that ended by itself is judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndRuling {
    /// Ended as it should; no restart is due.
    Clean,
    /// Ended badly and stays down, by the definition.
    Final,
    /// Conditions 1, 3 and 5: restart (possibly deferred by a hold), or not.
    Restart(Ruling),
}

pub fn judge_end(inputs: &Inputs<'_>, kind: Kind, exit: Exit) -> EndRuling {
    if inputs.wanted == Wanted::Stop {
        return EndRuling::Restart(Ruling::Denied {
            reason: Reason::WantedStop,
        });
    }
    match (inputs.restart, kind) {
        // A oneshot that did its work is done, whatever its policy says about failures.
        (Restart::Always | Restart::OnFailure | Restart::Never, Kind::Oneshot)
            if exit == Exit::Code(0) =>
        {
            return EndRuling::Clean;
        }
        // One run was wanted, and that is over.
        (_, _) if inputs.once && exit.is_clean() => return EndRuling::Clean,
        (_, _) if inputs.once => return EndRuling::Final,
        (Restart::Never, _) if exit == Exit::Code(0) => return EndRuling::Clean,
        (Restart::Never, _) => return EndRuling::Final,
        (Restart::OnFailure, _) if exit.is_clean() => return EndRuling::Clean,
        (Restart::OnFailure | Restart::Always, _) => {}
    }
    if !has_budget(inputs.policy, inputs.attempts) {
        return EndRuling::Restart(Ruling::Denied {
            reason: budget(inputs),
        });
    }
    if inputs.held {
        return EndRuling::Restart(Ruling::Deferred {
            reason: Reason::Hold,
            until: None,
        });
    }
    EndRuling::Restart(Ruling::Allowed {
        attempt: inputs.attempts.saturating_add(1),
    })
}

fn budget(inputs: &Inputs<'_>) -> Reason {
    Reason::Budget(budget_words(inputs.policy, inputs.attempts).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backoff, OnExhausted};
    use std::time::Duration;

    const POLICY: RetryPolicy = RetryPolicy {
        max_attempts: Some(2),
        delay: Duration::from_secs(1),
        backoff: Backoff::Fixed,
        max_delay: Duration::from_secs(1),
        jitter: 0.0,
        stability_period: Duration::from_secs(30),
        on_exhausted: OnExhausted::Keep,
        on_exhausted_exec: None,
        escalate: None,
    };

    fn open() -> Inputs<'static> {
        Inputs {
            now: Time::from_millis(10_000),
            wanted: Wanted::Start,
            once: false,
            restart: Restart::Always,
            observed: false,
            state: State::Running,
            held: false,
            requirement: Requirement::Satisfied,
            policy: &POLICY,
            attempts: 0,
            spawned_at: Time::ZERO,
            restarted: false,
            ever_ready: true,
            recovering: false,
            storm: Storm::Token,
        }
    }

    /// Each condition spoiled one after another, last first: the earliest one names the reason.
    #[test]
    fn the_first_condition_that_does_not_hold_is_the_reason() {
        let mut inputs = open();
        assert_eq!(judge(&inputs), Ruling::Allowed { attempt: 1 });
        inputs.storm = Storm::Wait {
            words: "behind web".into(),
            until: Some(Time::from_millis(20_000)),
        };
        let reason = |inputs: &Inputs<'_>| match judge(inputs) {
            Ruling::Allowed { .. } => "allowed".to_owned(),
            Ruling::Deferred { reason, .. }
            | Ruling::Denied { reason }
            | Ruling::Absorbed { reason } => reason.to_string(),
            Ruling::Shadow => "shadow".to_owned(),
        };
        assert_eq!(reason(&inputs), "storm, behind web");
        inputs.recovering = true;
        assert_eq!(reason(&inputs), "its last answer passed");
        inputs.restarted = true;
        assert_eq!(reason(&inputs), "stability window");
        inputs.attempts = 2;
        assert_eq!(reason(&inputs), "budget 2/2");
        inputs.requirement = Requirement::Unwell { name: "db" };
        assert_eq!(reason(&inputs), "dependency db");
        inputs.held = true;
        assert_eq!(reason(&inputs), "hold");
        inputs.state = State::Stopping;
        assert_eq!(reason(&inputs), "already stopping");
        inputs.restart = Restart::Never;
        assert_eq!(reason(&inputs), "restart never");
        inputs.wanted = Wanted::Stop;
        assert_eq!(reason(&inputs), "wanted stop");
    }

    #[test]
    fn who_is_observed_is_never_restarted_and_spends_nothing() {
        let mut inputs = open();
        inputs.observed = true;
        assert_eq!(judge(&inputs), Ruling::Shadow);
        inputs.attempts = 2;
        assert_eq!(judge(&inputs), Ruling::Shadow, "without a budget, too");
        inputs.restarted = true;
        assert!(matches!(judge(&inputs), Ruling::Deferred { .. }));
        inputs.wanted = Wanted::Stop;
        assert!(matches!(judge(&inputs), Ruling::Denied { .. }));
    }

    #[test]
    fn the_window_is_for_restarted_runs_that_were_ready_and_ends_exactly() {
        let mut inputs = open();
        inputs.restarted = true;
        inputs.ever_ready = false;
        assert_eq!(judge(&inputs), Ruling::Allowed { attempt: 1 });
        inputs.ever_ready = true;
        inputs.now = Time::from_millis(30_000) - Duration::from_micros(1);
        assert!(
            matches!(judge(&inputs), Ruling::Deferred { until: Some(t), .. }
            if t == Time::from_millis(30_000))
        );
        inputs.now = Time::from_millis(30_000);
        assert_eq!(judge(&inputs), Ruling::Allowed { attempt: 1 });
    }

    #[test]
    fn ends_are_judged_by_policy_kind_and_exit() {
        use crate::exit::Signal;
        let clean = [
            Exit::Code(0),
            Exit::Signal(Signal::TERM),
            Exit::Signal(Signal::PIPE),
        ];
        let bad = [Exit::Code(1), Exit::Signal(Signal::KILL), Exit::Unknown];
        let allowed = EndRuling::Restart(Ruling::Allowed { attempt: 1 });
        for exit in clean.into_iter().chain(bad) {
            let mut inputs = open();
            assert_eq!(
                judge_end(&inputs, Kind::Process, exit),
                allowed,
                "always {exit}"
            );
            inputs.restart = Restart::OnFailure;
            let want = if clean.contains(&exit) {
                EndRuling::Clean
            } else {
                allowed.clone()
            };
            assert_eq!(
                judge_end(&inputs, Kind::Process, exit),
                want,
                "on-failure {exit}"
            );
            inputs.restart = Restart::Never;
            let want = if exit == Exit::Code(0) {
                EndRuling::Clean
            } else {
                EndRuling::Final
            };
            assert_eq!(
                judge_end(&inputs, Kind::Process, exit),
                want,
                "never {exit}"
            );
        }
        let mut spent = open();
        spent.attempts = 2;
        let denied = Ruling::Denied {
            reason: Reason::Budget("2/2".into()),
        };
        assert_eq!(
            judge_end(&spent, Kind::Process, Exit::Code(1)),
            EndRuling::Restart(denied)
        );
    }
}
