//! What a policy would do: a definition, a scenario or a history, and the production engine.
//!
//! [`scenario`] reads what shall happen, [`history`] makes that of what did; `trial` plays it and
//! knows at each instant what users see; `account` adds that up, `story` folds what is told. The
//! answer is a [`Forecast`], plain data. For people; the proofs are in the [world](super::World).
//!
//! Invariants: the same cast, scenario and seed give the same forecast; work and memory are
//! bounded by [`Bounds`].

mod account;
pub mod history;
pub mod scenario;
mod story;
mod trial;

pub use history::History;
pub use scenario::Scenario;

use crate::config::{Definition, Escalation, Kind, OnExhausted, Rung, load, overlay};
use crate::control::calls::Simulation;
use crate::control::forecast::{Actual, Forecast};
use crate::control::render::{self, Style};
use crate::engine::{Engine, Loaded};
use crate::limits;
use crate::time::{Wall, millis, rfc3339_ms, spoken};
use std::collections::BTreeMap;
use std::rc::Rc;
use trial::Trial;

/// Who plays: the service that is asked about, and all that it names.
pub struct Cast {
    name: Box<str>,
    source: Box<str>,
    set: Vec<String>,
    definitions: Vec<Loaded>,
    assumed: Vec<String>,
}

impl Cast {
    /// The service of this name among those that `find` knows, with what it requires, wants and
    /// waits for.
    pub fn new(name: &str, find: &dyn Fn(&str) -> Option<Loaded>) -> Result<Cast, String> {
        let main = find(name).ok_or_else(|| format!("no service `{name}`"))?;
        if let Err(problem) = &main.definition {
            return Err(problem.to_string());
        }
        let mut cast = Cast {
            name: name.into(),
            source: main.source.clone(),
            set: Vec::new(),
            definitions: Vec::new(),
            assumed: Vec::new(),
        };
        // Each with whether it is needed, not only waited for.
        let mut open = vec![(name.to_owned(), true)];
        let mut cast_as: BTreeMap<String, bool> = BTreeMap::new();
        while let Some((name, needed)) = open.pop() {
            if cast_as.get(&name).is_some_and(|known| *known || !needed) {
                continue;
            }
            cast_as.insert(name.clone(), needed);
            cast.definitions.retain(|known| *known.name != *name);
            let Some(loaded) = cast.engage(&name, find(&name), needed) else {
                continue;
            };
            if let Ok(definition) = &loaded.definition {
                let of = |names: &[Box<str>], needed| {
                    let names = names.iter().map(|name| (name.to_string(), needed));
                    names.collect::<Vec<_>>()
                };
                open.extend(of(&definition.after, false));
                open.extend(of(&definition.wants, needed));
                open.extend(of(&definition.requires, needed));
            }
            cast.definitions.push(loaded);
        }
        cast.definitions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(cast)
    }

    /// One of the cast, started by itself if it is needed; one that is not to be had is played.
    fn engage(&mut self, name: &str, found: Option<Loaded>, needed: bool) -> Option<Loaded> {
        let mut loaded = match found {
            Some(loaded) if loaded.definition.is_ok() => loaded,
            _ if needed => {
                self.assumed.push(format!(
                    "{name} has no usable definition here: it is played by a service that is well"
                ));
                let outcome = load::read(name, "", b"exec = ['/bin/true']");
                Loaded {
                    name: name.into(),
                    source: "".into(),
                    definition: outcome.definition.map(Rc::new).ok_or("".into()),
                }
            }
            _ => return None,
        };
        if let Ok(definition) = &mut loaded.definition
            && needed
            && !definition.autostart
        {
            Rc::make_mut(definition).autostart = true;
        }
        Some(loaded)
    }

    /// Lays settings over the definition of the service that is asked about.
    pub fn set(&mut self, settings: &[impl AsRef<str>]) -> Result<(), String> {
        let name = self.name.clone();
        for loaded in &mut self.definitions {
            if loaded.name == name
                && let Ok(definition) = &mut loaded.definition
            {
                overlay::apply(Rc::make_mut(definition), settings)?;
            }
        }
        let settings = settings.iter().map(|setting| setting.as_ref().to_owned());
        self.set.extend(settings);
        Ok(())
    }

    pub fn definition(&self) -> Option<&Definition> {
        let main = self
            .definitions
            .iter()
            .find(|loaded| loaded.name == self.name)?;
        main.definition.as_deref().ok()
    }

    /// Does the scenario speak of others only?
    fn knows(&self, scenario: &Scenario) -> Result<(), String> {
        for statement in &scenario.statements {
            let Some(service) = &statement.service else {
                continue;
            };
            if !self
                .definitions
                .iter()
                .any(|loaded| loaded.name == *service)
            {
                let names: Vec<&str> = self.definitions.iter().map(|l| &*l.name).collect();
                return Err(format!(
                    "`{}`: {service} has no part in this; there are {}",
                    statement.text(),
                    names.join(", ")
                ));
            }
        }
        Ok(())
    }
}

/// What a simulation may cost, and how much of it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    pub turns: u64,
    /// Of its story, kept; and told.
    pub lines: usize,
    pub told: usize,
    /// Kept of each lane.
    pub changes: usize,
}

impl Bounds {
    /// For a process of its own.
    pub const COMMAND: Bounds = Bounds {
        turns: limits::SIMULATED_TURNS,
        lines: limits::SIMULATED_LINES,
        told: limits::TOLD_LINES,
        changes: 100 * limits::TOLD_CHANGES,
    };
    /// For a helper of the daemon.
    pub const HELPER: Bounds = Bounds {
        turns: limits::SIMULATED_TURNS / 10,
        lines: limits::SIMULATED_LINES / 10,
        told: limits::TOLD_LINES,
        changes: limits::TOLD_CHANGES,
    };
}

/// What else it depends on.
pub struct Options {
    pub seed: u64,
    pub bounds: Bounds,
    /// Nothing is folded.
    pub all: bool,
}

/// Plays a scenario.
pub fn simulate(cast: &Cast, scenario: &Scenario, options: &Options) -> Result<Forecast, String> {
    play(cast, scenario, options, None)
}

/// Plays what really happened, under the cast's policy.
pub fn against(cast: &Cast, history: &History, options: &Options) -> Result<Forecast, String> {
    let mut forecast = play(cast, &history.scenario, options, history.origin_ms)?;
    forecast.actual = Some(Actual::clone(&history.actual));
    let mut assumed = history.assumed.clone();
    assumed.append(&mut forecast.assumed);
    forecast.assumed = assumed;
    Ok(forecast)
}

fn play(
    cast: &Cast,
    scenario: &Scenario,
    options: &Options,
    origin_ms: Option<u64>,
) -> Result<Forecast, String> {
    cast.knows(scenario)?;
    let bounds = options.bounds;
    let mut trial = Trial::new(cast, scenario, options.seed, &bounds);
    let cut = trial.play(&bounds);
    let wall = Wall {
        wall_ms: origin_ms.unwrap_or(0),
        ..Wall::default()
    };
    let timeline = trial.story.moments(wall, bounds.told, options.all);
    let length_ms = trial.now().as_millis();
    let (summary, lanes) = trial.finish();
    Ok(Forecast {
        service: cast.name.to_string(),
        source: cast.source.to_string(),
        set: cast.set.clone(),
        scenario: scenario
            .statements
            .iter()
            .map(scenario::Statement::text)
            .collect(),
        origin: origin_ms.map(rfc3339_ms),
        length_ms: length_ms.min(millis(scenario.length)),
        cut,
        assumed: assumed(cast, scenario, origin_ms.is_some()),
        summary,
        actual: None,
        timeline,
        lanes,
        report: Vec::new(),
    })
}

/// What is taken to be so without being said.
fn assumed(cast: &Cast, scenario: &Scenario, replayed: bool) -> Vec<String> {
    let mut assumed = cast.assumed.clone();
    let says = |test: fn(&scenario::Deed) -> bool| {
        scenario
            .statements
            .iter()
            .any(|statement| test(&statement.deed))
    };
    let oneshot = cast.definition().is_some_and(|d| d.kind == Kind::Oneshot);
    if cast.definition().is_some_and(reboots) {
        assumed.push(format!(
            "vitald is the first process of its host, and a reboot takes {}",
            spoken(trial::REBOOT)
        ));
    }
    if cast.definition().is_some_and(repairs) {
        assumed.push("a repair takes 5 ms, and does not cure".to_owned());
    }
    let slow = (
        says(|deed| matches!(deed, scenario::Deed::SlowStart(_))),
        says(|deed| matches!(deed, scenario::Deed::SlowStop(_))),
    );
    let (start, stop) = ("a start takes 50 ms", "a stop 10 ms");
    let mut words = match (oneshot, slow) {
        (true, _) => "a run does its work within a second".to_owned(),
        (false, (false, false)) => format!("{start} and {stop}"),
        (false, (false, true)) => start.to_owned(),
        (false, (true, false)) => stop.replace("stop", "stop takes"),
        (false, (true, true)) => return assumed,
    };
    if !oneshot && !replayed {
        words.push_str(": `slow-start 5s`, `slow-stop 5s` say otherwise");
    }
    assumed.push(words);
    assumed
}

fn reboots(definition: &Definition) -> bool {
    let policy = &definition.retry_policy;
    let rung = |rung: &Rung| rung.action == Escalation::Reboot;
    policy.on_exhausted == OnExhausted::Reboot || policy.rungs().iter().any(rung)
}

fn repairs(definition: &Definition) -> bool {
    let mut rungs = definition.retry_policy.rungs().iter();
    rungs.any(|rung| rung.action.repair().is_some())
}

/// What is asked of a daemon, by its own definitions and history; it only looks at its engine.
pub fn inside(engine: &Engine, asked: &Simulation, wall: Wall) -> Result<Forecast, String> {
    let find = |name: &str| {
        let id = engine.find(name).filter(|id| engine.is_listed(*id))?;
        let status = engine.status(id, wall);
        let problem = status
            .problem
            .unwrap_or_else(|| "it has no definition".to_owned());
        Some(Loaded {
            name: name.into(),
            source: status.source.into(),
            definition: engine.definition(id).cloned().ok_or(problem.into()),
        })
    };
    let name = engine.name(asked.service);
    let mut cast = Cast::new(name, &find)?;
    let present = cast.definition().cloned();
    cast.set(&asked.set)?;
    let options = Options {
        seed: asked.seed,
        bounds: Bounds::HELPER,
        all: false,
    };
    let mut told = match (&asked.scenario, present) {
        (Some(text), _) => simulate(&cast, &Scenario::read(text)?, &options)?,
        (None, None) => return Err("it has no definition".to_owned()),
        (None, Some(present)) => {
            let lines = engine.history(Some(asked.service), wall, usize::MAX);
            let now = Some(wall.wall_ms);
            let history = History::read(name, &lines, true, &present, now)?;
            against(&cast, &history, &options)?
        }
    };
    if !asked.others {
        // Who may see one service is told of that one.
        told.timeline.retain(|moment| {
            let event = moment.event.as_ref();
            event.is_none_or(|event| event.service.is_empty() || event.service == name)
        });
    }
    let mut text = String::new();
    render::forecast(&told, &Style::default(), &mut text);
    told.report = text.lines().map(str::to_owned).collect();
    Ok(told)
}
