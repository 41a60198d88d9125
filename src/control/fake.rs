//! A house for tests: services that are as they are.

use super::House;
use crate::config::templates::Templates;
use crate::engine::status::{DaemonStatus, ProbeStatus, Status, StoryLine, Tied, Why};
use crate::id::ServiceId;
use crate::time::Wall;

pub struct FakeHouse {
    pub services: Vec<Status>,
    pub story: Vec<StoryLine>,
    pub templates: Templates,
}

impl FakeHouse {
    /// Services `web` and `db`, each with a probe `http`.
    pub fn small() -> FakeHouse {
        FakeHouse::of(&["db", "web"])
    }

    pub fn of(names: &[&str]) -> FakeHouse {
        let status = |name: &&str| Status {
            name: (*name).to_owned(),
            kind: "process".to_owned(),
            wanted: "start".to_owned(),
            state: "running".to_owned(),
            health: Some("healthy".to_owned()),
            pid: Some(4711),
            run: 1,
            max_attempts: Some(10),
            uptime_ms: Some(192_000),
            probes: vec![ProbeStatus {
                name: "http".to_owned(),
                kind: "http".to_owned(),
                up: Some(true),
                on_unhealthy: "restart".to_owned(),
                outcome: Some("pass".to_owned()),
                latency_us: Some(1200),
                ..ProbeStatus::default()
            }],
            ..Status::default()
        };
        let line = |name: &&str| StoryLine {
            time: "2026-11-23T22:48:01.123Z".to_owned(),
            service: (*name).to_owned(),
            run: 1,
            kind: "state".to_owned(),
            from: "starting".to_owned(),
            to: "running".to_owned(),
            cause: "boot".to_owned(),
            ..StoryLine::default()
        };
        FakeHouse {
            services: names.iter().map(status).collect(),
            story: names.iter().map(line).collect(),
            templates: Templates::default(),
        }
    }
}

impl House for FakeHouse {
    fn find(&self, name: &str) -> Option<ServiceId> {
        let at = self
            .services
            .iter()
            .position(|status| status.name == name)?;
        Some(ServiceId(at as u32))
    }
    fn services(&self) -> Vec<ServiceId> {
        (0..self.services.len() as u32).map(ServiceId).collect()
    }
    fn name(&self, service: ServiceId) -> &str {
        &self.services[service.index()].name
    }
    fn find_probe(&self, service: ServiceId, probe: &str) -> Option<u16> {
        let probes = &self.services[service.index()].probes;
        probes
            .iter()
            .position(|known| known.name == probe)
            .map(|at| at as u16)
    }
    fn status(&self, service: ServiceId, _: &Wall) -> Status {
        self.services[service.index()].clone()
    }
    fn why(&self, service: ServiceId, wall: &Wall) -> Why {
        Why {
            chain: Vec::new(),
            status: self.status(service, wall),
            story: self.history(Some(service), wall, usize::MAX),
            next: Vec::new(),
            last_words: vec!["its last words".to_owned()],
        }
    }
    fn history(&self, of: Option<ServiceId>, _: &Wall, limit: usize) -> Vec<StoryLine> {
        let name = of.map(|id| self.name(id));
        let wanted = |line: &&StoryLine| name.is_none_or(|name| line.service == name);
        let mut lines: Vec<StoryLine> = self.story.iter().filter(wanted).cloned().collect();
        let skip = lines.len().saturating_sub(limit);
        lines.drain(..skip);
        lines
    }
    fn tied(&self, services: &[ServiceId], _: &Wall) -> Vec<Tied> {
        let one = |id: &ServiceId| Tied {
            name: self.name(*id).to_owned(),
            ..Tied::default()
        };
        services.iter().map(one).collect()
    }
    fn templates(&self) -> &Templates {
        &self.templates
    }
    fn daemon(&self, _: &Wall) -> DaemonStatus {
        DaemonStatus {
            version: "0.1.0".to_owned(),
            pid: 77,
            uptime_ms: 3_600_000,
            services: self.services.len() as u32,
            running: self.services.len() as u32,
            ..DaemonStatus::default()
        }
    }
}
