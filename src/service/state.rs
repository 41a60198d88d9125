//! Wanted × state × cue → next: the one table by which a service moves.
//!
//! Not here: who sends the cue, what a stop or start does in the world, when timers fire.
//!
//! Invariants: [`next`] is exhaustive and has no wildcard, so a new state or cue does not compile
//! until every pair has an answer; a service that is wanted stopped never moves towards a start;
//! a run that exists is always left through `Stopping` or its own end, never dropped.
//!
#![doc = include_str!("../../contrib/states.md")]

use serde::{Deserialize, Serialize};
use std::fmt;

/// The operator's will.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    Start,
    Stop,
}

/// What is so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not running, and nobody wants it to; or it is wanted when somebody connects to it, or when
    /// it is due.
    Inactive,
    /// Wanted, and waits for what it requires or comes after.
    Blocked,
    /// Its process was asked for and is not ready.
    Starting,
    Running,
    /// A run is being ended, or what it left behind is.
    Stopping,
    /// Waits for its delay before an automatic start.
    Backoff,
    /// Ended cleanly and stays so.
    Exited,
    /// Ended badly, cannot be started, or its budget is spent.
    Failed,
}

/// Why a run ended or began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Operator,
    Exit,
    Unhealthy,
    StartTimeout,
    Watchdog,
    Dependency,
    Config,
    Memory,
    Boot,
    Connection,
    Timer,
}

/// What a service is told. `free`: everything it waits for is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cue {
    /// Run, now: operator, boot, a new definition, or what it waited for came.
    Start { free: bool },
    /// Be stopped.
    Stop,
    /// Be stopped and started again, by will or by an allowed health restart.
    Cycle,
    /// The lifecycle timer of `Backoff` ran out.
    Elapsed { free: bool },
    /// Ready by its own definition of ready.
    Ready,
    /// The main process ended by itself and left others behind.
    Remains,
    /// Nothing of the run is left. What the judgement of its end says comes next.
    Gone(Next),
    /// It cannot be started at all: broken definition, failed first exec.
    Broken,
    /// A target lacks something that it requires. (It has no run.)
    Unmet,
    /// What a oneshot has done is to be taken back.
    Undo,
    /// Rest until somebody connects to it, or until it is due.
    Listen,
    /// It came to rest so, and has left somebody waiting. What the judgement of that says.
    Unserved(Next),
}

/// What follows the end of a run, as judged by its cause, the restart policy and the budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Start {
        free: bool,
    },
    /// Wait for the delay first.
    Wait,
    /// Rest until somebody connects to it.
    Listen,
    Exited,
    Failed,
}

/// What the engine has to do with the move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Nothing moves.
    Stay,
    /// The new state; nothing else to do.
    Rest(State),
    /// `Starting`: begin a run.
    Launch,
    /// `Stopping`: end the run with the stop signal.
    End,
    /// `Stopping`: the main process is gone, end the others.
    Sweep,
    /// `Backoff`: wait for the delay.
    Wait,
    /// `Stopping`: take back what was done.
    Undo,
}

/// The table.
pub fn next(wanted: Wanted, state: State, cue: Cue) -> Act {
    use Act::{End, Launch, Rest, Stay, Sweep, Undo, Wait};
    use State::{Backoff, Blocked, Exited, Failed, Inactive, Running, Starting, Stopping};
    match (state, cue) {
        // A start begins only where nothing lives and only if it is wanted.
        (Inactive | Blocked | Backoff | Exited | Failed, Cue::Start { free }) => match wanted {
            Wanted::Stop => Stay,
            Wanted::Start if free => Launch,
            Wanted::Start => Rest(Blocked),
        },
        // A live run goes on; one that is stopping is followed by a start, when it is gone.
        (Starting | Running | Stopping, Cue::Start { .. }) => Stay,

        (Inactive, Cue::Stop) => Stay,
        (Blocked | Backoff | Exited | Failed, Cue::Stop) => Rest(Inactive),
        (Starting | Running, Cue::Stop) => End,
        (Stopping, Cue::Stop) => Stay,

        (Starting | Running, Cue::Cycle) => End,
        (Stopping, Cue::Cycle) => Stay,
        (Inactive | Blocked | Backoff | Exited | Failed, Cue::Cycle) => Stay,

        (Backoff, Cue::Elapsed { free }) => match wanted {
            Wanted::Stop => Rest(Inactive),
            Wanted::Start if free => Launch,
            Wanted::Start => Rest(Blocked),
        },
        (
            Inactive | Blocked | Starting | Running | Stopping | Exited | Failed,
            Cue::Elapsed { .. },
        ) => Stay,

        (Starting, Cue::Ready) => Rest(Running),
        (Inactive | Blocked | Running | Stopping | Backoff | Exited | Failed, Cue::Ready) => Stay,

        (Starting | Running, Cue::Remains) => Sweep,
        (Stopping, Cue::Remains) => Sweep,
        (Inactive | Blocked | Backoff | Exited | Failed, Cue::Remains) => Stay,

        (Starting | Running | Stopping, Cue::Gone(after)) => match wanted {
            Wanted::Stop => Rest(Inactive),
            Wanted::Start => match after {
                Next::Start { free: true } => Launch,
                Next::Start { free: false } => Rest(Blocked),
                Next::Wait => Wait,
                Next::Listen => Rest(Inactive),
                Next::Exited => Rest(Exited),
                Next::Failed => Rest(Failed),
            },
        },
        (Inactive | Blocked | Backoff | Exited | Failed, Cue::Gone(_)) => Stay,

        (Inactive | Blocked | Backoff | Exited | Failed, Cue::Listen) => match wanted {
            Wanted::Stop => Stay,
            Wanted::Start => Rest(Inactive),
        },
        (Starting | Running | Stopping, Cue::Listen) => Stay,

        (Inactive, Cue::Unserved(after)) => match (wanted, after) {
            (Wanted::Stop, _) | (Wanted::Start, Next::Listen | Next::Exited) => Stay,
            (Wanted::Start, Next::Start { free: true }) => Launch,
            (Wanted::Start, Next::Start { free: false }) => Rest(Blocked),
            (Wanted::Start, Next::Wait) => Wait,
            (Wanted::Start, Next::Failed) => Rest(Failed),
        },
        (Blocked | Starting | Running | Stopping | Backoff | Exited | Failed, Cue::Unserved(_)) => {
            Stay
        }

        (Inactive | Blocked | Backoff | Exited | Failed, Cue::Broken) => Rest(Failed),
        (Starting | Running | Stopping, Cue::Broken) => Stay,

        (Running, Cue::Unmet) => match wanted {
            Wanted::Stop => Stay,
            Wanted::Start => Rest(Blocked),
        },
        (Inactive | Blocked | Starting | Stopping | Backoff | Exited | Failed, Cue::Unmet) => Stay,

        (Exited, Cue::Undo) => Undo,
        (Inactive | Blocked | Starting | Running | Stopping | Backoff | Failed, Cue::Undo) => Stay,
    }
}

impl State {
    pub const ALL: [State; 8] = [
        State::Inactive,
        State::Blocked,
        State::Starting,
        State::Running,
        State::Stopping,
        State::Backoff,
        State::Exited,
        State::Failed,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            State::Inactive => "inactive",
            State::Blocked => "blocked",
            State::Starting => "starting",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Backoff => "backoff",
            State::Exited => "exited",
            State::Failed => "failed",
        }
    }

    /// A run exists, or what is left of one.
    pub const fn is_live(self) -> bool {
        matches!(self, State::Starting | State::Running | State::Stopping)
    }

    pub fn parse(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.word() == word)
    }
}

impl Cause {
    pub const ALL: [Cause; 11] = [
        Cause::Operator,
        Cause::Exit,
        Cause::Unhealthy,
        Cause::StartTimeout,
        Cause::Watchdog,
        Cause::Dependency,
        Cause::Config,
        Cause::Memory,
        Cause::Boot,
        Cause::Connection,
        Cause::Timer,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Cause::Operator => "operator",
            Cause::Exit => "exit",
            Cause::Unhealthy => "unhealthy",
            Cause::StartTimeout => "start_timeout",
            Cause::Watchdog => "watchdog",
            Cause::Dependency => "dependency",
            Cause::Config => "config",
            Cause::Memory => "memory",
            Cause::Boot => "boot",
            Cause::Connection => "connection",
            Cause::Timer => "timer",
        }
    }

    pub fn parse(word: &str) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.word() == word)
    }

    /// A stop for this cause spent an attempt and is followed by the delay.
    pub const fn is_automatic(self) -> bool {
        match self {
            Cause::Exit
            | Cause::Unhealthy
            | Cause::StartTimeout
            | Cause::Watchdog
            | Cause::Memory => true,
            Cause::Operator
            | Cause::Dependency
            | Cause::Config
            | Cause::Boot
            | Cause::Connection
            | Cause::Timer => false,
        }
    }
}

impl Wanted {
    pub const fn word(self) -> &'static str {
        match self {
            Wanted::Start => "start",
            Wanted::Stop => "stop",
        }
    }
    pub fn parse(word: &str) -> Option<Wanted> {
        match word {
            "start" => Some(Wanted::Start),
            "stop" => Some(Wanted::Stop),
            _ => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUES: [Cue; 23] = [
        Cue::Start { free: true },
        Cue::Start { free: false },
        Cue::Stop,
        Cue::Cycle,
        Cue::Elapsed { free: true },
        Cue::Elapsed { free: false },
        Cue::Ready,
        Cue::Remains,
        Cue::Gone(Next::Start { free: true }),
        Cue::Gone(Next::Start { free: false }),
        Cue::Gone(Next::Wait),
        Cue::Gone(Next::Listen),
        Cue::Gone(Next::Exited),
        Cue::Gone(Next::Failed),
        Cue::Broken,
        Cue::Unmet,
        Cue::Undo,
        Cue::Listen,
        Cue::Unserved(Next::Start { free: true }),
        Cue::Unserved(Next::Start { free: false }),
        Cue::Unserved(Next::Wait),
        Cue::Unserved(Next::Exited),
        Cue::Unserved(Next::Failed),
    ];

    #[test]
    fn nothing_starts_while_wanted_is_stop() {
        for state in State::ALL {
            for cue in CUES {
                let act = next(Wanted::Stop, state, cue);
                assert!(
                    !matches!(act, Act::Launch | Act::Wait),
                    "{state} {cue:?} {act:?}"
                );
                assert_ne!(act, Act::Rest(State::Blocked), "{state} {cue:?}");
            }
        }
    }

    #[test]
    fn a_live_run_is_never_dropped_and_never_doubled() {
        for wanted in [Wanted::Start, Wanted::Stop] {
            for state in State::ALL.into_iter().filter(|s| s.is_live()) {
                for cue in CUES {
                    let act = next(wanted, state, cue);
                    // What is unmet has no run.
                    if matches!(cue, Cue::Gone(_) | Cue::Unmet) {
                        continue;
                    }
                    assert_ne!(act, Act::Launch, "{state} {cue:?}");
                    if let Act::Rest(to) = act {
                        assert!(to.is_live(), "{state} {cue:?} {to}");
                    }
                }
            }
        }
    }

    #[test]
    fn words_read_back() {
        for state in State::ALL {
            assert_eq!(State::parse(state.word()), Some(state));
        }
        for cause in Cause::ALL {
            assert_eq!(Cause::parse(cause.word()), Some(cause));
        }
    }
}
