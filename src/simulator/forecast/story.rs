//! The story of a trial, folded: what comes again and again is told once and counted.

use crate::control::forecast::Moment;
use crate::engine::query::{decision_line, transition_line};
use crate::engine::status::StoryLine;
use crate::engine::story::{Decision, Transition, TransitionKind};
use crate::prng::fnv1a;
use crate::time::{Time, Wall};
use std::rc::Rc;

/// Lines that may come again together.
const LONGEST_ROUND: usize = 24;
/// From so many rounds on they are folded: two and the last are shown.
const ROUNDS: usize = 5;
/// What a daemon knows of the one before it.
const REMEMBERED: usize = 64;

pub(super) enum Entry {
    Transition(Transition),
    Decision(Decision),
    Note(Note),
}

/// What is no record of the engine's.
pub(super) struct Note {
    pub at: Time,
    pub kind: &'static str,
    pub service: Rc<str>,
    pub run: u32,
    pub words: Box<str>,
}

/// All that happened, in order.
#[derive(Default)]
pub(super) struct Story(Vec<Entry>);

/// What is shown of it.
enum Shown {
    Line(usize),
    /// So many rounds more, up to this line.
    More(usize, u64),
    LeftOut(usize, u64),
}

impl Story {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn push(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    /// A decision; or, of one that was told before, how it ended.
    pub fn decision(&mut self, decision: Decision) {
        if decision.cured.is_some() {
            let told = self.0.iter_mut().rev().find_map(|entry| match entry {
                Entry::Decision(known) if known.seq == decision.seq => Some(known),
                Entry::Decision(_) | Entry::Transition(_) | Entry::Note(_) => None,
            });
            if let Some(told) = told {
                told.cured = decision.cured;
                return;
            }
        }
        self.0.push(Entry::Decision(decision));
    }

    /// The newest, by which a new daemon goes on.
    pub fn last(&self) -> (Vec<Transition>, Vec<Decision>) {
        let (mut transitions, mut decisions) = (Vec::new(), Vec::new());
        for entry in &self.0[self.0.len().saturating_sub(REMEMBERED)..] {
            match entry {
                Entry::Transition(transition) => transitions.push(transition.clone()),
                Entry::Decision(decision) => decisions.push(decision.clone()),
                Entry::Note(_) => {}
            }
        }
        (transitions, decisions)
    }

    /// As moments, at most `most`; with `all` nothing is folded.
    pub fn moments(&self, wall: Wall, most: usize, all: bool) -> Vec<Moment> {
        let lines: Vec<usize> = (0..self.0.len()).filter(|at| !self.is_twin(*at)).collect();
        let shown = match all {
            true => lines.iter().copied().map(Shown::Line).collect(),
            false => self.folded(&lines),
        };
        let kept = cut(shown, most);
        kept.into_iter()
            .map(|shown| self.moment(&shown, wall))
            .collect()
    }

    /// A probe's word that its service's health repeats.
    fn is_twin(&self, at: usize) -> bool {
        let (Some(Entry::Transition(one)), Some(Entry::Transition(two))) =
            (self.0.get(at), self.0.get(at + 1))
        else {
            return false;
        };
        one.kind == TransitionKind::Probe
            && two.kind == TransitionKind::Health
            && one.detail == two.detail
    }

    fn folded(&self, lines: &[usize]) -> Vec<Shown> {
        let shapes: Vec<u64> = lines.iter().map(|at| self.0[*at].shape()).collect();
        let mut shown = Vec::new();
        let mut at = 0;
        while at < lines.len() {
            let Some((length, rounds)) = rounds(&shapes[at..]) else {
                shown.push(Shown::Line(lines[at]));
                at += 1;
                continue;
            };
            let end = at + length * rounds;
            let line = |at: usize| Shown::Line(lines[at]);
            shown.extend((at..at + 2 * length).map(line));
            let last = lines[end - length - 1];
            shown.push(Shown::More(last, rounds as u64 - 3));
            shown.extend((end - length..end).map(line));
            at = end;
        }
        shown
    }

    fn moment(&self, shown: &Shown, wall: Wall) -> Moment {
        let (at, event, repeated, left_out) = match shown {
            Shown::Line(at) => (*at, Some(self.line(*at, wall)), 0, 0),
            Shown::More(at, rounds) => (*at, None, *rounds, 0),
            Shown::LeftOut(at, lines) => (*at, None, 0, *lines),
        };
        Moment {
            at_ms: self.0[at].at().as_millis(),
            event,
            repeated,
            left_out,
        }
    }

    fn line(&self, at: usize, wall: Wall) -> StoryLine {
        match &self.0[at] {
            Entry::Transition(transition) => {
                let mut line = transition_line(transition, wall);
                // What was just decided is not said twice.
                if let Some(Entry::Decision(decided)) = at.checked_sub(1).map(|at| &self.0[at])
                    && decided.reason.contains(&*transition.detail)
                {
                    line.detail.clear();
                }
                line
            }
            Entry::Decision(decision) => decision_line(decision, wall),
            Entry::Note(note) => StoryLine {
                time: wall.rfc3339(note.at),
                service: note.service.to_string(),
                run: note.run,
                kind: note.kind.to_owned(),
                to: note.words.to_string(),
                ..StoryLine::default()
            },
        }
    }
}

impl Entry {
    fn at(&self) -> Time {
        match self {
            Entry::Transition(transition) => transition.at,
            Entry::Decision(decision) => decision.at,
            Entry::Note(note) => note.at,
        }
    }

    /// What is the same in lines that say the same of another time.
    fn shape(&self) -> u64 {
        let (kind, service, from, to, words) = match self {
            Entry::Transition(t) => (t.kind.word(), &t.service, t.from.0, t.to.0, &t.detail),
            Entry::Decision(d) => (
                "decision",
                &d.service,
                d.cause.0,
                d.verdict.word(),
                &d.reason,
            ),
            Entry::Note(n) => (n.kind, &n.service, "", "", &n.words),
        };
        let mut shape = 0u64;
        let mut add = |word: &str| shape = shape.rotate_left(7) ^ fnv1a(word.as_bytes());
        for word in [kind, service, from, to] {
            add(word);
        }
        let words = words.split(|c: char| !c.is_ascii_alphanumeric());
        let says = |word: &&str| {
            let unit = matches!(*word, "" | "ms" | "s" | "m" | "h" | "d");
            !unit && !word.starts_with(|c: char| c.is_ascii_digit())
        };
        words.filter(says).for_each(add);
        shape
    }
}

/// How long the round is that begins here, and how often it comes, if that is often.
fn rounds(shapes: &[u64]) -> Option<(usize, usize)> {
    for length in 1..=LONGEST_ROUND.min(shapes.len() / ROUNDS) {
        let round = &shapes[..length];
        let times = shapes
            .chunks_exact(length)
            .take_while(|next| *next == round)
            .count();
        if times >= ROUNDS {
            return Some((length, times));
        }
    }
    None
}

/// The first three quarters and the last of what may be shown.
fn cut(mut shown: Vec<Shown>, most: usize) -> Vec<Shown> {
    if shown.len() <= most {
        return shown;
    }
    let head = most * 3 / 4;
    let tail = shown.len() - (most - head);
    let count = |shown: &Shown| match shown {
        Shown::Line(_) => 1,
        Shown::More(_, rounds) => *rounds,
        Shown::LeftOut(_, lines) => *lines,
    };
    let last = match &shown[tail - 1] {
        Shown::Line(at) | Shown::More(at, _) | Shown::LeftOut(at, _) => *at,
    };
    let lines = shown[head..tail].iter().map(count).sum();
    shown.splice(head..tail, [Shown::LeftOut(last, lines)]);
    shown
}
