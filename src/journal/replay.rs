//! A recording, fed to the engine again: the same events must lead to the same effects, byte for
//! byte.
//!
//! Several files are one recording, in the order given. Each part begins with a checkpoint and is
//! replayed from there; where a part follows on from the one before, what the engine has become
//! must also equal that checkpoint. Whatever cannot be replayed (events that were lost, damaged
//! lines) is said, and it goes on with the next part.
//!
//! Not here: files and what a person sees. Invariant: the first divergence ends it.

use super::line;
use super::record::{FORMAT, Head, Recorder};
use crate::control::values::quoted;
use crate::engine::plain::{Bad, Kept, Take};
use crate::engine::{Engine, Event};
use crate::time::{Time, Wall};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::time::Duration;

/// Events that are shown before a divergence.
const CONTEXT: usize = 8;
/// Longer texts are shown around their first difference only.
const SHOWN: usize = 600;
const DAY_MS: u64 = 24 * 3_600_000;

/// One file's name and bytes.
pub struct Source<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
}

/// How far to replay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Until {
    #[default]
    End,
    /// Up to and with this event, counted over all files from 1.
    Event(u64),
    /// What happened at or before: milliseconds since 1970.
    Wall(u64),
    /// The first such time of day in the recording, in UTC: milliseconds since midnight.
    Day(u64),
}

/// Why a file could not be replayed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Unreadable {
    pub file: String,
    pub line: usize,
    pub why: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Divergence {
    pub event: u64,
    /// RFC 3339, of that event.
    pub time: String,
    pub file: String,
    pub line: usize,
    /// `effect 2 of 5`, or `checkpoint`.
    pub what: String,
    /// The event, and what it led to then and now; services by name.
    pub after: String,
    pub recorded: String,
    pub replayed: String,
    /// The events before it, oldest first.
    pub before: Vec<String>,
}

/// What came of it.
#[derive(Default, Serialize)]
pub struct Outcome {
    /// Who recorded it.
    pub versions: Vec<Box<str>>,
    pub parts: u32,
    pub events: u64,
    pub effects: u64,
    /// Events that are known to be missing.
    pub lost: u64,
    /// Events that are there, and could not be replayed for what is damaged or missing before them.
    pub skipped: u64,
    /// RFC 3339, of the first and the last event.
    pub from: String,
    pub to: String,
    pub length_ms: u64,
    pub services: Vec<String>,
    pub notes: Vec<String>,
    pub divergence: Option<Divergence>,
    /// As it was at the end, or where it was told to stop.
    #[serde(skip)]
    pub engine: Option<Engine>,
    #[serde(skip)]
    pub wall: Wall,
}

/// Replays; `watch` is told before each event which one it is.
pub fn replay(
    files: &[Source<'_>],
    until: Until,
    watch: &mut dyn FnMut(u64),
) -> Result<Outcome, Unreadable> {
    let mut replay = Replay {
        until,
        watch,
        recorder: Recorder::lifted(),
        engine: None,
        head: Head::default(),
        number: 0,
        told: None,
        before: VecDeque::new(),
        outcome: Outcome::default(),
        skipped: 0,
        first: None,
        last: 0,
    };
    for source in files {
        if replay.file(source)? == Go::Stop {
            break;
        }
    }
    if replay.outcome.parts == 0 {
        let name = files.first().map_or("", |source| source.name);
        return Err(unreadable(name, 1, "it holds no recording".to_owned()));
    }
    Ok(replay.finish())
}

#[derive(PartialEq, Eq)]
enum Go {
    On,
    Stop,
}

/// An event that was handed in, and what came of it, until the recording says its own.
struct Told {
    at: Time,
    line: usize,
    event: String,
    effects: Vec<u8>,
}

struct Replay<'a> {
    until: Until,
    watch: &'a mut dyn FnMut(u64),
    recorder: Recorder,
    /// None until the next checkpoint: something is missing.
    engine: Option<Engine>,
    head: Head,
    /// Events of the present id.
    number: u64,
    told: Option<Told>,
    before: VecDeque<String>,
    outcome: Outcome,
    skipped: u64,
    /// Wall clock of the first event, and of the last.
    first: Option<u64>,
    last: u64,
}

impl Replay<'_> {
    fn file(&mut self, source: &Source<'_>) -> Result<Go, Unreadable> {
        let name = source.name;
        let mut torn = 0;
        for (at, bytes) in source.bytes.split_inclusive(|b| *b == b'\n').enumerate() {
            let number = at + 1;
            let Some((kind, value)) = line::parse(bytes) else {
                if at == 0 {
                    let why = "it is no recording: no `recording` line at its beginning";
                    return Err(unreadable(name, number, why.to_owned()));
                }
                torn += bytes.len();
                continue;
            };
            if std::mem::take(&mut torn) > 0 {
                self.damaged(name, number);
            }
            if self.line(name, number, kind, value)? == Go::Stop {
                return Ok(Go::Stop);
            }
        }
        if torn > 0 {
            let words = format!("{name}: the last line was cut; {torn} bytes dropped");
            self.outcome.notes.push(words);
        }
        Ok(Go::On)
    }

    fn damaged(&mut self, name: &str, line: usize) {
        self.engine = None;
        self.told = None;
        let words = format!(
            "{name}:{}: damaged; what follows is not replayed until the next part",
            line - 1
        );
        self.outcome.notes.push(words);
    }

    fn line(
        &mut self,
        file: &str,
        line: usize,
        kind: &str,
        value: &[u8],
    ) -> Result<Go, Unreadable> {
        let bad = |bad: Bad| {
            let version = &self.head.version;
            let why = format!("`{kind}` of vitald {version}: cannot understand `{bad}`");
            unreadable(file, line, why)
        };
        match kind {
            "recording" => {
                let head: Head = serde_json::from_slice(value).map_err(|_| bad("recording"))?;
                if head.format > FORMAT {
                    let why = format!(
                        "written by vitald {} in format {}, this one reads {FORMAT}",
                        head.version, head.format
                    );
                    return Err(unreadable(file, line, why));
                }
                return Ok(self.part(file, line, head));
            }
            "checkpoint" => {
                if let Some(engine) = &self.engine
                    && let Some(differs) = self.differs(engine, value)
                {
                    let (recorded, replayed) = differs;
                    self.diverge(file, line, "checkpoint".to_owned(), recorded, replayed);
                    return Ok(Go::Stop);
                }
                let kept = Kept::take(value).map_err(bad)?;
                self.engine = Some(kept.engine());
            }
            "in" => {
                if self.engine.is_none() {
                    self.skipped += 1;
                    self.number += 1;
                    return Ok(Go::On);
                }
                let (at, event): (Time, Event) = Take::take(value).map_err(bad)?;
                return Ok(self.event(file, line, at, event, value));
            }
            "out" => return Ok(self.effects(file, line, value)),
            // Of a later version; what it says of the same events is not ours to judge.
            _ => {}
        }
        Ok(Go::On)
    }

    /// A new part: does it follow on?
    fn part(&mut self, file: &str, line: usize, head: Head) -> Go {
        let known = self.outcome.parts > 0 && head.id == self.head.id;
        let missing = head.before.saturating_sub(self.number);
        if known && head.before == self.number {
            if self.unanswered(file, line) == Go::Stop {
                return Go::Stop;
            }
        } else {
            self.unfinished();
            self.engine = None;
        }
        let words = match (known, self.outcome.parts, missing) {
            (true, _, 1..) if head.why.is_empty() => {
                Some(format!("{missing} events before this are not here"))
            }
            (true, _, 1..) => Some(format!(
                "{missing} events before this are missing: {}",
                head.why
            )),
            (true, _, 0) if head.before < self.number => {
                Some("goes back: name the oldest file first".to_owned())
            }
            (false, 0, 1..) => Some(format!("begins after {missing} events that are not here")),
            _ => None,
        };
        if let Some(words) = words {
            self.outcome.notes.push(format!("{file}:{line}: {words}"));
        }
        if known {
            self.outcome.lost += missing;
        }
        self.number = head.before;
        self.outcome.parts += 1;
        if !self.outcome.versions.contains(&head.version) {
            self.outcome.versions.push(head.version.clone());
        }
        self.outcome.wall = Wall {
            now: head.now,
            wall_ms: head.wall_ms,
        };
        if let Until::Day(ms) = self.until {
            let today = head.wall_ms - head.wall_ms % DAY_MS + ms;
            let passed = today < head.wall_ms;
            self.until = Until::Wall(today + if passed { DAY_MS } else { 0 });
        }
        self.head = head;
        Go::On
    }

    fn event(&mut self, file: &str, line: usize, at: Time, event: Event, json: &[u8]) -> Go {
        if self.unanswered(file, line) == Go::Stop {
            return Go::Stop;
        }
        let wall_ms = self.outcome.wall.ms(at);
        let beyond = match self.until {
            Until::End | Until::Day(_) => false,
            Until::Event(last) => self.outcome.events >= last,
            Until::Wall(last) => wall_ms > last,
        };
        let Some(engine) = self.engine.as_mut().filter(|_| !beyond) else {
            return Go::Stop;
        };
        self.number += 1;
        self.outcome.events += 1;
        self.first.get_or_insert(wall_ms);
        self.last = wall_ms;
        (self.watch)(self.outcome.events);
        let mut effects = Vec::new();
        engine.handle(at, event, &mut effects);
        self.outcome.effects += effects.len() as u64;
        let led = match effects.is_empty() {
            true => Vec::new(),
            false => self.recorder.effects_json(&effects),
        };
        self.told = Some(Told {
            at,
            line,
            event: String::from_utf8_lossy(json).into_owned(),
            effects: led,
        });
        Go::On
    }

    /// The next event comes without a word on what the last one led to: to nothing, then.
    fn unanswered(&mut self, file: &str, line: usize) -> Go {
        match &self.told {
            Some(told) if !told.effects.is_empty() => self.effects(file, line, b"[]"),
            Some(_) => {
                self.remember();
                Go::On
            }
            None => Go::On,
        }
    }

    /// The recording ends behind an event; what that led to was not written any more.
    fn unfinished(&mut self) {
        if self.told.as_ref().is_some_and(|t| !t.effects.is_empty()) {
            let words = format!(
                "event {}: what it led to is not in the recording, so it is not compared",
                self.outcome.events
            );
            self.outcome.notes.push(words);
        }
        self.told = None;
    }

    fn effects(&mut self, file: &str, line: usize, recorded: &[u8]) -> Go {
        let Some(told) = &self.told else {
            return Go::On;
        };
        let replayed: &[u8] = match told.effects.as_slice() {
            [] => b"[]",
            effects => effects,
        };
        if recorded == replayed {
            self.remember();
            return Go::On;
        }
        let (then, now) = (parts(recorded), parts(replayed));
        let at = (0..).find(|at| then.get(*at) != now.get(*at)).unwrap_or(0);
        let of = then.len().max(now.len());
        let side = |all: &[String]| all.get(at).cloned().unwrap_or_else(|| "nothing".to_owned());
        let (recorded, replayed) = (side(&then), side(&now));
        let what = format!("effect {} of {of}", at + 1);
        self.diverge(file, line, what, recorded, replayed);
        Go::Stop
    }

    fn remember(&mut self) {
        let Some(told) = self.told.take() else { return };
        // A turn in which nothing was due says nothing.
        if told.effects.is_empty()
            && (told.event.ends_with("\"Turn\"]") || told.event.ends_with("\"Timers\"]"))
        {
            return;
        }
        if self.before.len() == CONTEXT {
            self.before.pop_front();
        }
        let count = parts(&told.effects).len();
        let (number, time) = (self.outcome.events, self.outcome.wall.rfc3339(told.at));
        let event = shown(&self.named(&told.event), 0);
        self.before
            .push_back(format!("{number} {time} {event} -> {count} effects"));
    }

    fn diverge(&mut self, file: &str, line: usize, what: String, then: String, now: String) {
        let told = self.told.take();
        let at = told.as_ref().map_or(self.head.now, |told| told.at);
        let differ = then.bytes().zip(now.bytes()).position(|(a, b)| a != b);
        let differ = differ.unwrap_or(then.len().min(now.len()));
        let side = |text: &str| shown(&self.named(text), differ);
        let divergence = Divergence {
            event: self.outcome.events,
            time: self.outcome.wall.rfc3339(at),
            file: file.to_owned(),
            line: told.as_ref().map_or(line, |told| told.line),
            what,
            after: told.map_or_else(String::new, |told| side(&told.event)),
            recorded: side(&then),
            replayed: side(&now),
            before: std::mem::take(&mut self.before).into(),
        };
        self.outcome.divergence = Some(divergence);
    }

    /// The engine's state and the recorded one, when they are not equal.
    fn differs(&self, engine: &Engine, recorded: &[u8]) -> Option<(String, String)> {
        let mut own = Vec::new();
        self.recorder.put_state(engine, &mut own);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (own != recorded).then(|| (text(recorded), text(&own)))
    }

    /// JSON with services by name instead of number.
    fn named(&self, json: &str) -> String {
        const KEY: &str = "\"service\":";
        let mut out = String::with_capacity(json.len());
        let mut rest = json;
        while let Some((before, after)) = rest.split_once(KEY) {
            out.push_str(before);
            out.push_str(KEY);
            let digits = after.bytes().take_while(u8::is_ascii_digit).count();
            let number = after[..digits].parse().ok();
            let engine = self.engine.as_ref();
            let id = engine.and_then(|e| e.ids().find(|id| Some(id.0) == number));
            match engine.zip(id).map(|(engine, id)| engine.name(id)) {
                Some(name) => out.push_str(&quoted(name)),
                None => out.push_str(&after[..digits]),
            }
            rest = &after[digits..];
        }
        out + rest
    }

    fn finish(mut self) -> Outcome {
        if self.outcome.divergence.is_none() {
            self.unfinished();
        }
        let mut outcome = self.outcome;
        outcome.skipped = self.skipped;
        if self.skipped > 0 {
            let words = format!("{} events were not replayed", self.skipped);
            outcome.notes.push(words);
        }
        let time = crate::time::rfc3339_ms;
        let first = self.first.unwrap_or(self.last);
        (outcome.from, outcome.to) = (time(first), time(self.last));
        outcome.length_ms = self.last.saturating_sub(first);
        if let Some(engine) = &self.engine {
            outcome.services = engine
                .listed()
                .map(|id| engine.name(id).to_owned())
                .collect();
        }
        // Stopped at a time: what is shown is shown as of that time.
        let asked = match self.until {
            Until::Wall(at) => at,
            Until::End | Until::Event(_) | Until::Day(_) => self.last,
        };
        let Wall { now, wall_ms } = outcome.wall;
        outcome.wall = Wall {
            now: now + Duration::from_millis(asked.saturating_sub(wall_ms)),
            wall_ms: asked,
        };
        outcome.engine = self.engine;
        outcome
    }
}

fn unreadable(file: &str, line: usize, why: String) -> Unreadable {
    let file = file.to_owned();
    Unreadable { file, line, why }
}

/// The elements of a JSON list; none of what is none.
fn parts(json: &[u8]) -> Vec<String> {
    let all: Vec<&RawValue> = serde_json::from_slice(json).unwrap_or_default();
    all.into_iter().map(|part| part.get().to_owned()).collect()
}

/// A long text around a place in it.
fn shown(text: &str, at: usize) -> String {
    if text.len() <= SHOWN {
        return text.to_owned();
    }
    let from = text.floor_char_boundary(at.saturating_sub(SHOWN / 2));
    let to = text.floor_char_boundary((from + SHOWN).min(text.len()));
    let (left, right) = (
        if from > 0 { "… " } else { "" },
        if to < text.len() { " …" } else { "" },
    );
    format!("{left}{}{right}", &text[from..to])
}
