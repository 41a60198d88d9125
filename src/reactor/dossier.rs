//! Dossiers, from the effect to the file: a helper looks, what it told is put together with what we
//! know ourselves, the scribe writes it.
//!
//! Not here: when, and for how long (the engine); what is looked at (`evidence`).
//!
//! Invariants: whatever becomes of the helper, `EvidenceDone` answers, at the latest at once after
//! `EvidenceOver`; helpers that hang in the kernel are bounded in number.

use super::jobs::Work;
use super::*;
use crate::control::dossier::{Dossier, Evidence};
use crate::engine::Gathered;
use crate::engine::status::StoryLine;
use crate::reactor::evidence::{self, Probed, Subject, summary};
use crate::reactor::helper;
use crate::service::state::Cause;
use crate::time::{Wall, millis};

/// One that is not finished.
pub(super) struct Looking {
    run: RunId,
    dossier: Box<Dossier>,
    begun: Time,
    /// The helper that looks, while it does.
    job: Option<u32>,
    probed: Vec<Probed>,
    /// Lines its service had written before.
    said_before: u64,
}

impl Reactor {
    pub(super) fn collect_evidence(
        &mut self,
        run: RunId,
        pid: Pid,
        definition: &Definition,
        (cause, reason): (Cause, Box<str>),
        timeout: Duration,
    ) {
        if !self.scribe.keeps_dossiers() {
            let dossier = None;
            self.caused.push_back(Event::EvidenceDone { run, dossier });
            return;
        }
        if let Some(before) = self.looking.remove(&run.service) {
            self.abandon(&before);
        }
        let wall = self.clock.wall(self.now);
        let status = self.engine.status(run.service, wall);
        let probed = Probed::all(definition);
        let mut looking = Looking {
            run,
            begun: self.now,
            dossier: Box::new(Dossier {
                id: name_of(&status.name, wall, run.number),
                service: status.name,
                run: run.number,
                time: wall.rfc3339(self.now),
                cause: cause.word().to_owned(),
                reason: reason.into(),
                uptime_ms: status.uptime_ms,
                probes: status.probes,
                diagnose: diagnosis(definition),
                log: self.last_lines(run.service, limits::DOSSIER_LOG_LINES as u64),
                ..Dossier::default()
            }),
            job: None,
            probed: probed.clone(),
            said_before: self.lines_said(run.service),
        };
        let subject = Subject {
            main: pid,
            leaf: self.leaves.of(run).map(|placed| placed.leaf.clone()),
            probed,
            timeout,
        };
        let begun = self.begin_looking(run, &subject);
        match begun {
            Ok(number) => {
                looking.job = Some(number);
                self.looking.insert(run.service, looking);
            }
            Err(why) => {
                looking.dossier.cut = Some(why);
                self.looking.insert(run.service, looking);
                self.looked(run, b"", false, true);
            }
        }
    }

    fn begin_looking(&mut self, run: RunId, subject: &Subject) -> Result<u32, String> {
        let busy = |job: &&Job| matches!(job.work, Work::Evidence { .. });
        if self.jobs.values().filter(busy).count() >= limits::MAX_EVIDENCE {
            return Err("too many services are looked at already".to_owned());
        }
        let origin = self.spawner.origin();
        let helper = helper::start(c"vitald-look", origin, &[], evidence::LIMIT, |out| {
            u8::from(evidence::tell(subject, out).is_err())
        });
        let helper = helper.and_then(|helper| self.watch_helper(helper, Work::Evidence { run }));
        helper.map_err(|error| error.to_string())?;
        Ok(self.next_job)
    }

    /// The helper has ended.
    pub(super) fn evidence_ended(&mut self, run: RunId, output: &[u8]) {
        let present = self.looking.get(&run.service);
        if present.is_some_and(|looking| looking.run == run && looking.job.is_some()) {
            self.looked(run, output, false, true);
        }
    }

    pub(super) fn evidence_over(&mut self, run: RunId, more: bool) {
        let Some(looking) = self.looking.get(&run.service).filter(|l| l.run == run) else {
            return;
        };
        if let Some(number) = looking.job {
            let output = self.abandon_look(number);
            self.looked(run, &output, true, more);
        }
        if !more {
            self.told_more(run);
        }
    }

    /// What was seen is all there is to see. `more`: unless nothing is to make it tell more, that
    /// follows.
    fn looked(&mut self, run: RunId, output: &[u8], cut: bool, more: bool) {
        let took = self
            .looking
            .get(&run.service)
            .map(|l| self.now.since(l.begun));
        let Some(looking) = self.looking.get_mut(&run.service) else {
            return;
        };
        looking.job = None;
        let dossier = &mut looking.dossier;
        dossier.took_ms = took.map_or(0, millis);
        dossier.evidence = evidence::told(output).unwrap_or_default();
        if !dossier.evidence.whole && dossier.cut.is_none() {
            let why = match cut {
                true => "its time was up",
                false => "the helper that looked died",
            };
            dossier.cut = Some(why.to_owned());
        }
        dossier.summary = match (&dossier.cut, dossier.evidence.processes.is_empty()) {
            (Some(why), true) => format!("not looked at: {why}"),
            (_, _) => summary::of(&dossier.evidence, &looking.probed),
        };
        dossier.diagnose = dossier.diagnose.take().filter(|_| more);
        let gathered = Gathered {
            id: (&*dossier.id).into(),
            summary: (&*dossier.summary).into(),
        };
        let name = &dossier.service;
        log::info!("{name}: {} ({})", dossier.summary, dossier.id);
        let finished = dossier.diagnose.is_none();
        let json = written(dossier);
        self.scribe.dossier(&gathered.id, &json);
        if finished {
            self.looking.remove(&run.service);
        }
        let dossier = Some(Box::new(gathered));
        self.caused.push_back(Event::EvidenceDone { run, dossier });
    }

    /// What it was to tell beside has been told: its dossier is written once more.
    fn told_more(&mut self, run: RunId) {
        let Some(mut looking) = self.looking.remove(&run.service) else {
            return;
        };
        self.drain_log(run.service);
        let lines = self
            .lines_said(run.service)
            .saturating_sub(looking.said_before);
        looking.dossier.told = self.last_lines(run.service, lines);
        looking.dossier.told.extend(self.why_not_told(run));
        let json = written(&mut looking.dossier);
        self.scribe.dossier(&looking.dossier.id, &json);
    }

    /// Why its command told nothing: that it could not be executed, or how it failed.
    fn why_not_told(&self, run: RunId) -> Option<String> {
        let wall = self.clock.wall(self.now);
        let story = self.engine.history(Some(run.service), wall, 8);
        let phase = |line: &&StoryLine| line.from == "stopping" && line.to == "stopping";
        let mut of_run = story.iter().rev().filter(|line| line.run == run.number);
        of_run.find(phase).map(|line| line.detail.clone())
    }

    fn abandon(&mut self, looking: &Looking) {
        if let Some(number) = looking.job {
            self.abandon_look(number);
        }
    }

    pub(super) fn forget_dossier(&mut self, id: ServiceId) {
        if let Some(looking) = self.looking.remove(&id) {
            self.abandon(&looking);
        }
    }

    /// The last lines of a service's log, as many as fit.
    fn last_lines(&self, id: ServiceId, most: u64) -> Vec<String> {
        let Some(Some(log)) = self.logs.get(id.index()) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        log.ring.read(&mut log.ring.tail(most), &mut |line| {
            lines.push(String::from_utf8_lossy(&line.parts.concat()).into_owned());
            true
        });
        shortened(lines, limits::DOSSIER_LOG_BYTES)
    }
}

/// The newest of them.
fn shortened(mut lines: Vec<String>, most: usize) -> Vec<String> {
    let mut left = most;
    let fits = |line: &&String| {
        let fits = line.len() < left;
        left = left.saturating_sub(line.len() + 1);
        fits
    };
    let count = lines.iter().rev().take_while(fits).count();
    lines.drain(..lines.len() - count);
    lines
}

/// Its JSON, in its bound.
fn written(dossier: &mut Dossier) -> Vec<u8> {
    let mut json = serde_json::to_vec(dossier).unwrap_or_default();
    let parts: [fn(&mut Dossier); 3] = [
        |dossier| dossier.log = shortened(std::mem::take(&mut dossier.log), 2048),
        |dossier| dossier.told = shortened(std::mem::take(&mut dossier.told), 2048),
        |dossier| dossier.evidence = Evidence::default(),
    ];
    for part in parts {
        if json.len() >= limits::DOSSIER_BYTES {
            part(dossier);
            json = serde_json::to_vec(dossier).unwrap_or_default();
        }
    }
    json.push(b'\n');
    json
}

/// `web-20261129T101359-r3`
fn name_of(service: &str, wall: Wall, run: u32) -> String {
    let time = wall.rfc3339(wall.now);
    let digits: String = time
        .chars()
        .take(19)
        .filter(|c| !"-:".contains(*c))
        .collect();
    format!("{service}-{digits}-r{run}")
}

fn diagnosis(definition: &Definition) -> Option<String> {
    let hooks = &definition.hooks;
    let signal = hooks.diagnose_signal.map(|signal| signal.to_string());
    // Its arguments may hold anything.
    let program = hooks.diagnose.first().and_then(|argv| argv.first());
    signal.or(program.map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_service_time_and_run() {
        let wall = Wall {
            now: Time::ZERO,
            wall_ms: 1_796_000_000_123,
        };
        let id = name_of("a-b@1", wall, 7);
        assert!(id.starts_with("a-b@1-2026") && id.ends_with("-r7"), "{id}");
        assert_eq!(Dossier::service_of(&id), Some("a-b@1"));
    }

    #[test]
    fn what_is_too_long_is_shortened_from_its_old_end() {
        let lines: Vec<String> = (0..10).map(|n| format!("line {n}")).collect();
        assert_eq!(shortened(lines, 15), ["line 8", "line 9"]);
        let mut dossier = Dossier {
            log: vec!["x".repeat(1000); 200],
            told: vec!["y".repeat(1000); 200],
            ..Dossier::default()
        };
        assert!(written(&mut dossier).len() <= limits::DOSSIER_BYTES + 1);
        assert_eq!(dossier.log.len(), 2);
    }
}
