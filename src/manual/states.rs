//! The state machine as a diagram and a table, drawn from the table in the code.

use crate::service::state::{Act, Cue, Next, State, Wanted, next};
use std::fmt::Write;

/// Every cue, with the words of the documents.
const CUES: [(Cue, &str); 17] = [
    (Cue::Start { free: true }, "start, free"),
    (Cue::Start { free: false }, "start, must wait"),
    (Cue::Stop, "stop"),
    (Cue::Cycle, "restart"),
    (Cue::Elapsed { free: true }, "delay over, free"),
    (Cue::Elapsed { free: false }, "delay over, must wait"),
    (Cue::Ready, "ready"),
    (Cue::Remains, "main process ended, others left"),
    (Cue::Gone(Next::Start { free: true }), "gone, start again"),
    (Cue::Gone(Next::Wait), "gone, retry"),
    (Cue::Gone(Next::Listen), "gone, clean, listens"),
    (Cue::Gone(Next::Exited), "gone, clean"),
    (Cue::Gone(Next::Failed), "gone, for good"),
    (Cue::Unmet, "a target lacks what it requires"),
    (Cue::Undo, "undo"),
    (Cue::Listen, "listen"),
    (Cue::Unserved(Next::Wait), "listens, left somebody waiting"),
];

fn target(from: State, act: Act) -> Option<State> {
    match act {
        Act::Stay => None,
        Act::Rest(to) => Some(to).filter(|to| *to != from),
        // A new run, also from `starting`.
        Act::Launch => Some(State::Starting),
        Act::End | Act::Sweep | Act::Undo => Some(State::Stopping).filter(|to| *to != from),
        Act::Wait => Some(State::Backoff),
    }
}

/// `contrib/states.md`: a diagram (Mermaid) and the whole table. Wanted is `start`; what a `stop`
/// changes stands behind a slash.
pub fn states() -> String {
    let mut out = String::from(
        "# States of a service\n\nDrawn from the table in `src/service/state.rs`; \
         `tests/manual.rs` holds it to that.\n\n```mermaid\nstateDiagram-v2\n    \
         [*] --> inactive\n",
    );
    for from in State::ALL {
        for (cue, words) in CUES {
            if let Some(to) = target(from, next(Wanted::Start, from, cue)) {
                // Writing to a string cannot fail.
                let _ = writeln!(out, "    {from} --> {to}: {words}");
            }
        }
        let broken = target(from, next(Wanted::Start, from, Cue::Broken));
        if let Some(to) = broken {
            let _ = writeln!(out, "    {from} --> {to}: cannot be started as defined");
        }
    }
    out.push_str("```\n\n| cue |");
    for state in State::ALL {
        let _ = write!(out, " {state} |");
    }
    out.push_str("\n|---|");
    out.push_str(&"---|".repeat(State::ALL.len()));
    out.push('\n');
    for (cue, words) in CUES
        .into_iter()
        .chain([(Cue::Broken, "cannot be started as defined")])
    {
        let _ = write!(out, "| {words} |");
        for from in State::ALL {
            let word = |wanted| target(from, next(wanted, from, cue)).map_or("·", State::word);
            let (start, stop) = (word(Wanted::Start), word(Wanted::Stop));
            match start == stop {
                true => {
                    let _ = write!(out, " {start} |");
                }
                false => {
                    let _ = write!(out, " {start} / {stop} |");
                }
            }
        }
        out.push('\n');
    }
    out.push_str(
        "\n`·`: nothing moves. `a / b`: `a` while wanted is `start`, `b` while it is `stop`.\n",
    );
    out
}
