//! What a reload does, or would do: service by service, with the keys that changed.
//!
//! Made before anything is touched, from what is in force and what was read; a dry run ends here.
//! Invariant: nothing is changed.

use super::links::{cycle_words, directed, named};
use super::*;
use crate::config::diff::{Change, diff};
use crate::config::show::{self, KeyChange};
use crate::graph::Edge;
use crate::service::state::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What is done to all services, by name.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Nothing was touched: this is what would be done.
    pub dry_run: bool,
    /// Those that are not touched are left out where there are more than
    /// [`limits::PLAN_UNTOUCHED`].
    pub steps: Vec<Step>,
    /// How many are not touched.
    pub untouched: u32,
    /// What comes of `vitald.toml`; absent: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsPlan>,
}

/// The daemon's own settings. Keys; an alert is `alert.NAME`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingsPlan {
    /// Taken over at once.
    pub live: Vec<String>,
    /// Read when the daemon starts, as by `upgrade`, and not before.
    pub at_start: Vec<String>,
    /// What is wrong with the file: the settings before it stay in force.
    pub problem: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Step {
    pub service: String,
    /// `add` `remove` `restart` `live` `none` `broken`.
    pub action: Action,
    /// What differs between the definition in force and the new one.
    pub changes: Vec<KeyChange>,
    /// What is wrong with its file, for `broken`: the definition before it stays in force.
    pub problem: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Add,
    Remove,
    Restart,
    /// Taken over without touching a process.
    Live,
    #[default]
    None,
    Broken,
}

impl Action {
    const fn word(self) -> &'static str {
        match self {
            Action::Add => "add",
            Action::Remove => "remove",
            Action::Restart => "restart",
            Action::Live => "live",
            Action::None => "none",
            Action::Broken => "broken",
        }
    }
}

impl Step {
    /// `exec: ["a"] -> ["b"]; nice: none -> 5`
    pub fn differs(&self) -> String {
        let all: Vec<String> = self.changes.iter().map(ToString::to_string).collect();
        all.join("; ")
    }
}

impl Plan {
    /// The problems of files that cannot be used.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| step.problem.as_deref())
    }

    pub fn changes_nothing(&self) -> bool {
        let untouched = |step: &Step| matches!(step.action, Action::None | Action::Broken);
        self.steps.iter().all(untouched) && self.settings_lines().is_empty()
    }

    /// What is wrong with `vitald.toml`.
    pub fn settings_problem(&self) -> Option<&str> {
        self.settings.as_ref()?.problem.as_deref()
    }

    fn settings_lines(&self) -> Vec<String> {
        let Some(settings) = &self.settings else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        if !settings.live.is_empty() {
            let keys = settings.live.join(", ");
            lines.push(format!("live     vitald.toml  {keys}"));
        }
        if !settings.at_start.is_empty() {
            let keys = settings.at_start.join(", ");
            lines.push(format!(
                "waits    vitald.toml  {keys}: read when the daemon starts, as by `upgrade`"
            ));
        }
        lines
    }

    /// As people read it, a line a service; without those that are broken.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.settings_lines();
        let settings = lines.len();
        for step in &self.steps {
            match step.action {
                Action::None | Action::Broken => {}
                Action::Add | Action::Remove | Action::Restart | Action::Live => {
                    let (word, name) = (step.action.word(), &step.service);
                    let line = format!("{word:<8} {name}  {}", step.differs());
                    lines.push(line.trim_end().to_owned());
                }
            }
        }
        match (lines.is_empty(), self.untouched) {
            (true, _) => lines.push("nothing changed".to_owned()),
            _ if lines.len() == settings => lines.push("no service is touched".to_owned()),
            (false, 0) => {}
            (false, 1) => lines.push("1 other service is not touched".to_owned()),
            (false, many) => lines.push(format!("{many} other services are not touched")),
        }
        lines
    }
}

impl Engine {
    pub(super) fn plan(&self, files: &[Loaded]) -> Plan {
        let mut steps = Vec::with_capacity(files.len());
        let mut named = BTreeSet::new();
        for loaded in files {
            named.insert(&*loaded.name);
            let id = self.find(&loaded.name);
            let old = id.and_then(|id| self.service(id).definition.as_deref());
            let mut step = Step {
                service: loaded.name.to_string(),
                ..Step::default()
            };
            match (id.zip(old), &loaded.definition) {
                (_, Err(problem)) => {
                    step.action = Action::Broken;
                    step.problem = Some(problem.to_string());
                }
                (None, Ok(_)) => step.action = Action::Add,
                (Some((id, old)), Ok(new)) => {
                    step.changes = show::changes(old, new);
                    step.action = match diff(old, new) {
                        Change::None => Action::None,
                        Change::Live(_) => Action::Live,
                        Change::Restart(_) if self.is_up(id) => Action::Restart,
                        Change::Restart(_) => Action::Live,
                    };
                }
            }
            steps.push(step);
        }
        for id in self.ids().filter(|id| self.is_present(*id)) {
            let name = &*self.service(id).name;
            if !named.contains(name) {
                steps.push(Step {
                    service: name.to_owned(),
                    action: Action::Remove,
                    ..Step::default()
                });
            }
        }
        steps.sort_by(|a, b| a.service.cmp(&b.service));
        let same = |step: &Step| step.action == Action::None;
        let untouched = steps.iter().filter(|step| same(step)).count();
        if untouched > limits::PLAN_UNTOUCHED {
            steps.retain(|step| !same(step));
        }
        Plan {
            dry_run: false,
            steps,
            untouched: untouched as u32,
            settings: None,
        }
    }

    /// It has a process, or is about to.
    fn is_up(&self, id: ServiceId) -> bool {
        matches!(self.service(id).state, State::Starting | State::Running)
    }

    /// The way round of a cycle that these definitions would make and that is not there yet.
    pub(super) fn new_cycle(&self, files: &[Loaded]) -> Option<String> {
        let in_force = |loaded: &Loaded| {
            let id = self.find(&loaded.name)?;
            self.service(id).definition.clone()
        };
        let all: Vec<(&str, Rc<crate::config::Definition>)> = files
            .iter()
            .filter_map(|loaded| {
                let definition = match &loaded.definition {
                    Ok(definition) => Some(definition.clone()),
                    Err(_) => in_force(loaded),
                };
                Some((&*loaded.name, definition?))
            })
            .collect();
        let numbers: BTreeMap<&str, ServiceId> = (0..)
            .map(ServiceId)
            .zip(&all)
            .map(|(id, (name, _))| (*name, id))
            .collect();
        let mut edges = Vec::new();
        for (id, (_, definition)) in (0..).map(ServiceId).zip(&all) {
            let others =
                named(definition).filter_map(|(name, edge)| Some((numbers.get(name)?, edge)));
            edges.extend(others.map(|(other, edge)| directed(id, *other, edge)));
        }
        let name = |id: ServiceId| all[id.index()].0;
        let known: Vec<BTreeSet<&str>> = self
            .graph
            .cycles()
            .iter()
            .map(|cycle| {
                let members = cycle.members.iter();
                members.map(|id| &*self.service(*id).name).collect()
            })
            .collect();
        let graph = Graph::new(all.len(), edges);
        let cycles = graph.cycles();
        let new = cycles.iter().find(|cycle| {
            let members: BTreeSet<&str> = cycle.members.iter().map(|id| name(*id)).collect();
            !known.iter().any(|known| members.is_subset(known))
        })?;
        let place = |id: ServiceId, _: Edge, _: &str| {
            let file = files.iter().find(|file| &*file.name == name(id));
            file.map_or_else(String::new, |file| file.source.to_string())
        };
        Some(cycle_words(&graph, new, name, place))
    }
}
