//! What the engine was told and what it answered, written down: a recording.
//!
//! A recording is lines as [`line`](super::line) makes them. A *part* begins with `recording` (who
//! writes, when, what is missing before it) and `checkpoint` (all that the engine is), so that it
//! can be replayed by itself; then `in` (the time and an event) and, where it led to anything,
//! `out` (the effects, each Spawn and Check followed by a fingerprint of its definition).
//!
//! Bytes into a buffer, no I/O here. Invariant: no value of `env`, of a probe's headers, nor what
//! a probe sends, nor the text of a definition that was `set`, gets into the buffer: each is `hash:` and a number that is the same for the same
//! value within one recording. Command lines, URLs and what probes were answered are written.

use super::line;
use crate::config::{Ask, Definition, Speaks};
use crate::engine::plain::{Put, Veil, put_checkpoint, veiled};
use crate::engine::snapshot::WantedRecord;
use crate::engine::{Boot, Command, Effect, Engine, Event, Given, Loaded, Record, Request};
use crate::prng::fnv1a;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

/// Changes only when an older reader would misunderstand.
pub const FORMAT: u32 = 1;

/// The first line of a part.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    pub format: u32,
    pub version: Box<str>,
    /// One daemon's life. What follows under the same id follows on.
    pub id: u64,
    /// Events of this id before this part, also those that are not in the recording.
    pub before: u64,
    /// Why some right before it may be missing.
    pub why: Box<str>,
    /// The same instant by both clocks.
    pub now: Time,
    pub wall_ms: u64,
}

/// How a secret is written.
enum Secrets {
    /// SipHash under random keys that are never written.
    Keyed(RandomState),
    /// The same in every recording: for a simulated world, which has no secrets.
    Fixed,
    /// As it is: it was read from a recording.
    Lifted,
}

/// See the module's text.
pub struct Recorder {
    secrets: Secrets,
    id: u64,
    events: u64,
    /// Fingerprints of definitions, by address; each is held, so that its address stays its own.
    known: BTreeMap<usize, (Rc<Definition>, u64)>,
    prune_at: usize,
    out: Vec<u8>,
}

impl Recorder {
    /// For what is real.
    pub fn keyed() -> Recorder {
        let keys = RandomState::new();
        let id = keys.hash_one("id");
        Recorder::new(Secrets::Keyed(keys), id)
    }

    /// For what is simulated: the same events give the same bytes.
    pub fn fixed() -> Recorder {
        Recorder::new(Secrets::Fixed, 0)
    }

    /// For what is replayed.
    pub fn lifted() -> Recorder {
        Recorder::new(Secrets::Lifted, 0)
    }

    fn new(secrets: Secrets, id: u64) -> Recorder {
        Recorder {
            secrets,
            id,
            events: 0,
            known: BTreeMap::new(),
            prune_at: 64,
            out: Vec::new(),
        }
    }

    /// Events told of, recorded or lost.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// A new part begins.
    pub fn begin(&mut self, engine: &Engine, now: Time, wall_ms: u64, why: &str) {
        let head = Head {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            id: self.id,
            before: self.events,
            why: why.into(),
            now,
            wall_ms,
        };
        // Plain values: it can be put as JSON.
        let _ = line::write(&mut self.out, "recording", &head);
        let start = line::begin(&mut self.out, "checkpoint");
        put_checkpoint(engine, &self.secrets, &mut self.out);
        line::end(&mut self.out, start);
    }

    /// The value of a `checkpoint` line.
    pub fn put_state(&self, engine: &Engine, out: &mut Vec<u8>) {
        put_checkpoint(engine, &self.secrets, out);
    }

    /// The simulated daemon's next life.
    pub fn next_life(&mut self) {
        self.id += 1;
        self.events = 0;
    }

    /// What the engine will be told next.
    pub fn event(&mut self, now: Time, event: &Event) {
        self.events += 1;
        let start = line::begin(&mut self.out, "in");
        match event {
            Event::Boot(boot) => {
                let mut boot: Boot = (**boot).clone();
                boot.definitions = self.secrets.files(&boot.definitions);
                let mut records: Vec<&mut WantedRecord> = boot.wanted.iter_mut().collect();
                let snapshots = boot.services.iter_mut();
                records.extend(snapshots.filter_map(|(snapshot, _)| snapshot.wanted.as_mut()));
                for record in records {
                    self.secrets.wanted(record);
                }
                let left = boot.left.as_mut().and_then(|left| left.record.as_mut());
                if let Some(reload) = left {
                    *reload = veiled(reload, &self.secrets);
                }
                (now, Event::Boot(Box::new(boot))).put(&mut self.out);
            }
            Event::Reloaded {
                ticket,
                files,
                terms,
                settings,
            } => {
                let mut settings = settings.clone();
                if let Some(new) = &mut settings {
                    new.before = self.secrets.text(&new.before);
                }
                let event = Event::Reloaded {
                    ticket: *ticket,
                    files: self.secrets.files(files),
                    terms: terms.clone(),
                    settings,
                };
                (now, event).put(&mut self.out);
            }
            Event::Request(request) if matches!(request.command, Command::Set(_)) => {
                let mut request: Request = request.clone();
                if let Command::Set(given) = &mut request.command {
                    let Given {
                        definition, text, ..
                    } = &mut **given;
                    *definition = self.secrets.definition(definition);
                    *text = self.secrets.text(text);
                }
                (now, Event::Request(request)).put(&mut self.out);
            }
            Event::Request(request) if matches!(request.command, Command::Instance(_)) => {
                let mut request: Request = request.clone();
                if let Command::Instance(new) = &mut request.command {
                    for file in &mut new.files {
                        file.definition = self.secrets.definition(&file.definition);
                    }
                }
                (now, Event::Request(request)).put(&mut self.out);
            }
            other => (now, other).put(&mut self.out),
        }
        line::end(&mut self.out, start);
    }

    /// An event that is not recorded.
    pub fn lose(&mut self) {
        self.events += 1;
    }

    /// What it led to.
    pub fn effects(&mut self, effects: &[Effect]) {
        if !effects.is_empty() {
            let start = line::begin(&mut self.out, "out");
            self.put_effects(effects);
            line::end(&mut self.out, start);
        }
    }

    /// The value of an `out` line.
    pub fn effects_json(&mut self, effects: &[Effect]) -> Vec<u8> {
        let start = self.out.len();
        self.put_effects(effects);
        self.out.split_off(start)
    }

    fn put_effects(&mut self, effects: &[Effect]) {
        let mut before = b'[';
        for effect in effects {
            self.out.push(before);
            before = b',';
            match effect {
                Effect::Remember { wanted, .. } if wanted.definition.is_some() => {
                    let mut effect = effect.clone();
                    if let Effect::Remember { wanted, .. } = &mut effect {
                        self.secrets.wanted(wanted);
                    }
                    effect.put(&mut self.out);
                }
                Effect::Record(Record::Service(snapshot))
                    if snapshot
                        .wanted
                        .as_ref()
                        .is_some_and(|wanted| wanted.definition.is_some()) =>
                {
                    let mut snapshot = snapshot.clone();
                    if let Some(wanted) = &mut snapshot.wanted {
                        self.secrets.wanted(wanted);
                    }
                    Effect::Record(Record::Service(snapshot)).put(&mut self.out);
                }
                Effect::Record(Record::Reload(Some(reload))) => {
                    let reload = Rc::new(veiled(reload, &self.secrets));
                    Effect::Record(Record::Reload(Some(reload))).put(&mut self.out);
                }
                Effect::Keep {
                    seq,
                    reload: Some(reload),
                } => {
                    let (seq, reload) = (*seq, Some(Rc::new(veiled(reload, &self.secrets))));
                    Effect::Keep { seq, reload }.put(&mut self.out);
                }
                _ => effect.put(&mut self.out),
            }
            if let Effect::Spawn { definition, .. }
            | Effect::Listen { definition, .. }
            | Effect::Hook { definition, .. }
            | Effect::Check { definition, .. }
            | Effect::TellExhausted { definition, .. } = effect
            {
                let mark = self.mark(definition);
                self.out.push(b',');
                mark.put(&mut self.out);
            }
        }
        self.out.push(b']');
    }

    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn mark(&mut self, definition: &Rc<Definition>) -> u64 {
        let address = Rc::as_ptr(definition) as usize;
        if let Some((_, mark)) = self.known.get(&address) {
            return *mark;
        }
        if self.known.len() >= self.prune_at {
            self.known.retain(|_, (held, _)| Rc::strong_count(held) > 1);
            self.prune_at = 64 + 2 * self.known.len();
        }
        let mut json = Vec::new();
        self.secrets.definition(definition).put(&mut json);
        let mark = fnv1a(&json) >> 32;
        self.known.insert(address, (definition.clone(), mark));
        mark
    }
}

impl Secrets {
    fn of(&self, secret: &str) -> Box<str> {
        let hash = match self {
            Secrets::Keyed(keys) => keys.hash_one(secret),
            Secrets::Fixed => fnv1a(secret.as_bytes()),
            Secrets::Lifted => return secret.into(),
        };
        format!("hash:{hash:016x}").into()
    }

    fn wanted(&self, record: &mut WantedRecord) {
        record.definition = record.definition.as_deref().map(|text| self.text(text));
    }

    fn files(&self, files: &[Loaded]) -> Vec<Loaded> {
        let over = |loaded: &Loaded| Loaded {
            definition: match &loaded.definition {
                Ok(definition) => Ok(Rc::new(self.definition(definition))),
                Err(problem) => Err(problem.clone()),
            },
            ..loaded.clone()
        };
        files.iter().map(over).collect()
    }
}

impl Veil for Secrets {
    fn definition(&self, definition: &Definition) -> Definition {
        let mut definition = definition.clone();
        for value in definition.process.env.values_mut() {
            *value = self.of(value);
        }
        for probe in &mut definition.probes {
            match &mut probe.ask {
                Ask::Http(http) | Ask::Https(http) => {
                    for (_, value) in &mut http.headers {
                        *value = self.of(value);
                    }
                }
                Ask::Tcp { send, .. } | Ask::Unix { send, .. } => {
                    *send = send.as_deref().map(|send| self.of(send));
                }
                Ask::Server(server) => {
                    if let Speaks::JsonRpc(rpc) = &mut server.speaks {
                        rpc.params = rpc.params.as_deref().map(|params| self.of(params));
                    }
                }
                Ask::Exec { .. } | Ask::Look(_) => {}
            }
        }
        definition
    }

    fn text(&self, text: &str) -> Box<str> {
        self.of(text)
    }
}
