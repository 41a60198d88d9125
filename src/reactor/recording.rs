//! The recording of a running daemon: what the engine is told goes to the scribe before the
//! engine is told, what it led to right after.
//!
//! Never waits: what finds no room, or no disk, is counted, and when there is room again a new
//! file begins, which says how many events were before it. It never wakes an idle daemon: it
//! looks at its own deadlines when something happens anyway.

use super::scribe::Scribe;
use super::*;
use crate::journal::record::Recorder;

pub(super) struct Recording {
    recorder: Recorder,
    /// Of one file.
    limit: u64,
    /// Of the present file; and what of it is its beginning.
    size: u64,
    begun: u64,
    begun_at: Time,
    broken: Option<Broken>,
    /// Before it is tried again, should it break; grows while troubles follow each other.
    wait: Duration,
}

/// Nothing is recorded for now.
struct Broken {
    why: Box<str>,
    retry_at: Time,
}

impl Recording {
    /// `bytes`: of all files together.
    pub(super) fn new(bytes: u64) -> Recording {
        Recording {
            recorder: Recorder::keyed(),
            limit: bytes / u64::from(limits::RECORD_FILES),
            size: 0,
            begun: 0,
            begun_at: Time::ZERO,
            // The first file begins with the first event.
            broken: Some(Broken {
                why: "".into(),
                retry_at: Time::ZERO,
            }),
            wait: Duration::ZERO,
        }
    }

    /// It cannot be written, as it seems now.
    pub(super) fn failed(&mut self, now: Time, why: &str) {
        self.recorder.buffer().clear();
        if now.since(self.begun_at) > limits::WRITE_RETRY_MAX {
            self.wait = Duration::ZERO;
        }
        if self.wait.is_zero() {
            log::warn!("the recording stops: {why}; a new file is begun as soon as possible");
        }
        self.wait = (self.wait * 2).clamp(limits::WRITE_RETRY, limits::WRITE_RETRY_MAX);
        self.broken = Some(Broken {
            why: why.into(),
            retry_at: now + self.wait,
        });
    }

    fn begin(&mut self, now: Time, wall_ms: u64, engine: &Engine, scribe: &mut Scribe) {
        let why = self.broken.take().map_or("".into(), |broken| broken.why);
        self.recorder.begin(engine, now, wall_ms, &why);
        self.begun = self.recorder.buffer().len() as u64;
        self.size = 0;
        self.begun_at = now;
        self.send(now, scribe, true);
    }

    fn event(&mut self, now: Time, event: &Event, scribe: &mut Scribe) {
        if self.broken.is_some() {
            return self.recorder.lose();
        }
        self.recorder.event(now, event);
        // What follows may be the end of us, and its cause must be seen.
        if *event != Event::Turn {
            self.send(now, scribe, false);
        }
    }

    fn effects(&mut self, effects: &[Effect]) {
        if self.broken.is_none() {
            self.recorder.effects(effects);
        }
    }

    fn send(&mut self, now: Time, scribe: &mut Scribe, begins: bool) {
        let buffer = self.recorder.buffer();
        if buffer.is_empty() {
            return;
        }
        if scribe.record(buffer, begins) {
            self.size += buffer.len() as u64;
            buffer.clear();
            buffer.shrink_to(limits::SCRIBE_FRAME_BYTES);
        } else {
            self.failed(now, "it grows faster than it can be written");
        }
    }
}

impl Reactor {
    /// The engine will be told of this.
    pub(super) fn record_event(&mut self, event: &Event) {
        let Some(recording) = &mut self.recording else {
            return;
        };
        let due = match &recording.broken {
            Some(broken) => self.now >= broken.retry_at,
            // A large checkpoint does not come again before the file is worth it.
            None => recording.size > recording.limit.max(4 * recording.begun),
        };
        if due {
            recording.send(self.now, &mut self.scribe, false);
        }
        // Not behind bytes that wait: it may be large, and must not have to be given up.
        if due && !self.scribe.is_recording() {
            let wall_ms = self.clock.wall_ms();
            recording.begin(self.now, wall_ms, &self.engine, &mut self.scribe);
        }
        recording.event(self.now, event, &mut self.scribe);
    }

    /// It led to this.
    pub(super) fn record_effects(&mut self, effects: &[Effect]) {
        if let Some(recording) = &mut self.recording {
            recording.effects(effects);
        }
    }

    /// The turn ends.
    pub(super) fn flush_recording(&mut self) {
        if let Some(recording) = &mut self.recording {
            recording.send(self.now, &mut self.scribe, false);
        }
    }

    pub(super) fn recording_failed(&mut self, why: &str) {
        if let Some(recording) = &mut self.recording {
            recording.failed(self.now, why);
        }
    }
}
