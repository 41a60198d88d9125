//! A world by seed: its services and how they behave, what goes wrong, what operators do.
//!
//! A plan is plain data: the same plan gives the same story, and parts of it can be left out. It
//! knows services as text, as a person would write them, so that a story can be read and played
//! again as a scenario.

use super::World;
use super::doom::Moment;
use super::kernel::Script;
use crate::config::StormLimits;
use crate::exit::Exit;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

/// What can be left out of a run as a whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// Our own want of something at a spawn.
    Fork,
    /// The service's program cannot be executed.
    Exec,
    /// Events come late.
    Late,
    /// Events of what is over come twice.
    Double,
    /// Events of the past come again, also at the instant of the next spawn.
    Ghost,
    /// The helper that ends a tree dies.
    LostTree,
    /// The loop is not served for a while.
    SlowTurn,
    /// No descriptor, no memory: probes say nothing.
    Trouble,
    /// The machine sleeps.
    Suspend,
    /// The wall clock jumps.
    Wall,
    /// Services hang, recover and die at any time.
    World,
    /// Operators' verbs.
    Verbs,
    /// New definitions.
    Reload,
    /// The daemon is killed between two effects.
    Death,
    /// The power goes.
    PowerCut,
    /// The state directory's disk is full, fails or stalls.
    Disk,
    /// Definitions are given over the socket, and deleted.
    Given,
    /// A process is in an uninterruptible sleep: it does nothing, nor does it die.
    Stuck,
    /// People connect to listening sockets, which cannot be opened, or are not served.
    Connect,
    /// Who gets alerts does not take them.
    Receiver,
    /// The host is short of processors, by somebody's doing or by a service's own.
    Pressure,
}

impl Fault {
    pub const ALL: [Fault; 21] = [
        Fault::Fork,
        Fault::Exec,
        Fault::Late,
        Fault::Double,
        Fault::Ghost,
        Fault::LostTree,
        Fault::SlowTurn,
        Fault::Trouble,
        Fault::Suspend,
        Fault::Wall,
        Fault::World,
        Fault::Verbs,
        Fault::Reload,
        Fault::Death,
        Fault::PowerCut,
        Fault::Disk,
        Fault::Given,
        Fault::Stuck,
        Fault::Connect,
        Fault::Receiver,
        Fault::Pressure,
    ];
}

/// How often a fault strikes, of a thousand times it might; 0: not in this run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Weights(pub BTreeMap<Fault, u32>);

impl Weights {
    pub fn of(&self, fault: Fault) -> u32 {
        self.0.get(&fault).copied().unwrap_or(0)
    }
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// All that takes time takes so many times longer than in a world that is probed every few
    /// hundred milliseconds.
    pub pace: u32,
    /// Of the time in which things go wrong.
    pub length: Duration,
    /// Of the time after that, in which nothing is wrong with any service.
    pub calm: Duration,
    /// Of restarts for health.
    pub limits: StormLimits,
    pub roles: Vec<Role>,
    pub weights: Weights,
    /// `vitald.toml`.
    pub alerts: String,
    /// By time.
    pub deeds: Vec<Deed>,
}

/// A service and its ways.
#[derive(Clone, Debug)]
pub struct Role {
    pub name: String,
    pub shape: Shape,
    pub script: Script,
    /// An operator gives its definition; there is no file.
    pub given: bool,
}

/// A definition, without what it has to do with others.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Shape {
    /// Top-level keys, a line each.
    pub keys: String,
    /// `[retry_policy]` and `[[probe]]`.
    pub tables: String,
    /// `requires`, `wants`, `after` and so on, by name.
    pub relations: Vec<(&'static str, String)>,
    /// It does not parse.
    pub broken: bool,
    /// A group: of its keys only those about others.
    pub target: bool,
    /// After so many uncured it is restarted with what it requires, after so many stopped; 0: never.
    pub ladder: (u32, u32),
    /// After so many it is repaired, after so many the host is to be rebooted, which it is not.
    pub repairs: (u32, u32),
}

/// Something done to the world at a time.
#[derive(Clone, Debug)]
pub struct Deed {
    pub at: Duration,
    pub fault: Fault,
    pub when: When,
    pub what: What,
    /// Whom it concerns.
    pub service: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    Now,
    /// In the turn of the next thing that happens, before or after it.
    BeforeNext,
    WithNext,
    /// In the turn of the next such effect.
    On(Moment),
}

#[derive(Clone, Debug)]
pub enum What {
    /// A command of the scenarios' language.
    Command(String),
    /// These files anew (None: it is gone), and this reload when it is time.
    Reload(Vec<(String, Option<Shape>)>, String),
    /// An operator gives this definition.
    Set(String, Shape),
}

impl Shape {
    /// As it stands in a file; relations to those who do not exist are left out.
    pub fn text(&self, name: &str, present: &BTreeSet<String>) -> String {
        let mut text = match self.target {
            true => "kind = \"target\"\n".to_owned(),
            false => format!("exec = [\"{name}\"]\n{}", self.keys),
        };
        if self.target && self.keys.contains("autostart = false") {
            text.push_str("autostart = false\n");
        }
        if self.broken {
            text.push_str("no_such_key = 1\n");
        }
        let tables = self.tables.replacen(
            "[retry_policy]\n",
            &format!("[retry_policy]\n{}", self.escalate(present)),
            1,
        );
        for key in [
            "requires",
            "wants",
            "after",
            "before",
            "milestone",
            "after_exit",
            "conflicts",
        ] {
            let of = self.relations.iter().filter(|(k, _)| *k == key);
            let names: Vec<String> = of
                .filter(|(_, other)| present.contains(other))
                .map(|(_, other)| format!("\"{other}\""))
                .collect();
            if !names.is_empty() {
                let _ = writeln!(text, "{key} = [{}]", names.join(", "));
            }
        }
        match self.target {
            true => text,
            false => text + &tables,
        }
    }

    fn escalate(&self, present: &BTreeSet<String>) -> String {
        let required =
            |(key, other): &&(&str, String)| *key == "requires" && present.contains(other);
        let other = self.relations.iter().find(required).map(|(_, other)| other);
        let mut rungs: BTreeMap<u32, String> = BTreeMap::new();
        if let (after @ 1.., Some(other)) = (self.ladder.0, other) {
            let words = format!("\"restart-with\", service = \"{other}\"");
            rungs.insert(after, words);
        }
        let (repair, reboot) = self.repairs;
        if repair > 0 {
            let words = "\"exec\", exec = [\"repair\"], timeout_ms = 3000";
            rungs.entry(repair).or_insert(words.to_owned());
        }
        if reboot > 0 {
            rungs.entry(reboot).or_insert("\"reboot\"".to_owned());
        }
        if let after @ 1.. = self.ladder.1 {
            rungs.retain(|other, _| *other < after);
            rungs.insert(after, "\"stop\"".to_owned());
        }
        let rungs = rungs.into_iter();
        let rungs: Vec<String> = rungs
            .map(|(after, action)| format!("{{ after_uncured = {after}, action = {action} }}"))
            .collect();
        match rungs.is_empty() {
            true => String::new(),
            false => format!("escalate = [{}]\n", rungs.join(", ")),
        }
    }
}

impl Plan {
    pub fn names(&self) -> BTreeSet<String> {
        self.roles.iter().map(|role| role.name.clone()).collect()
    }

    /// Without this service, and without what is done to it.
    pub fn without(&self, name: &str) -> Plan {
        let mut plan = self.clone();
        plan.roles.retain(|role| role.name != name);
        plan.deeds
            .retain(|deed| deed.service.as_deref() != Some(name));
        for deed in &mut plan.deeds {
            if let What::Reload(files, _) = &mut deed.what {
                files.retain(|(file, _)| file != name);
            }
        }
        for role in &mut plan.roles {
            role.script.leans_on.retain(|other| other != name);
        }
        plan
    }

    pub fn without_fault(&self, fault: Fault) -> Plan {
        let mut plan = self.clone();
        plan.weights.0.remove(&fault);
        plan.deeds.retain(|deed| deed.fault != fault);
        plan
    }

    /// The plan as a person reads it: what is played, and how the services behave.
    pub fn describe(&self) -> String {
        let Plan {
            seed,
            pace,
            length,
            calm,
            ..
        } = self;
        let mut text =
            format!("# seed {seed}, pace {pace}, faults for {length:?}, calm for {calm:?}\n");
        for (fault, weight) in self.weights.0.iter().filter(|(_, weight)| **weight > 0) {
            let _ = writeln!(text, "# {fault:?}: {weight} of 1000");
        }
        if !self.alerts.is_empty() {
            let _ = write!(text, "settings\n{}end\n", self.alerts);
        }
        let limits = self.limits;
        let _ = writeln!(text, "restart-limit {} {:?}", limits.count, limits.per);
        let (services, percent) = (limits.services, limits.percent);
        let _ = writeln!(text, "storm {services} {percent} {:?}", limits.within);
        let present = self.names();
        for role in &self.roles {
            let name = &role.name;
            let body = role.shape.text(name, &present);
            let verb = if role.given { "set" } else { "define" };
            let _ = write!(text, "{verb} {name}\n{body}end\n");
            for line in role.script.lines() {
                let _ = writeln!(text, "{}", line.replace("{}", name));
            }
        }
        text
    }
}

impl Script {
    /// How it differs from a service that is well, as commands for `{}`.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let usual = Script::default();
        if self.ready_after != usual.ready_after {
            lines.push(format!("slow-start {{}} {:?}", self.ready_after));
        }
        if let Some(after) = self.hangs_after {
            lines.push(format!("hangs-after {{}} {after:?}"));
        }
        if let Some((up, down)) = self.flaps {
            lines.push(format!("flaps {{}} {up:?} {down:?}"));
        }
        if let Some((after, exit)) = self.exits {
            match exit {
                Exit::Code(code) => lines.push(format!("exits-after {{}} {after:?} {code}")),
                other => lines.push(format!("# {{}} ends after {after:?}: {other}")),
            }
        }
        if self.hungry {
            lines.push("hungry {}".to_owned());
        }
        if self.bad_runs != u32::MAX {
            lines.push(format!("bad-runs {{}} {}", self.bad_runs));
        }
        match self.stops_in {
            None => lines.push("ignores-term {}".to_owned()),
            Some(after) if Some(after) != usual.stops_in => {
                lines.push(format!("stops-in {{}} {after:?}"));
            }
            Some(_) => {}
        }
        if self.dies_in != usual.dies_in {
            lines.push(format!("dies-in {{}} {:?}", self.dies_in));
        }
        if let Some(left) = self.leaves {
            lines.push(format!("leaves {{}} {left}"));
        }
        if self.forks_after != usual.forks_after {
            lines.push(format!("forks-after {{}} {:?}", self.forks_after));
        }
        if self.pid_file != usual.pid_file {
            let word = format!("{:?}", self.pid_file).to_lowercase();
            lines.push(format!("pid-file {{}} {word}"));
        }
        if self.deaf {
            lines.push("deaf {}".to_owned());
        }
        for other in &self.leans_on {
            lines.push(format!("leans-on {{}} {other}"));
        }
        lines
    }
}

impl World {
    fn command_when(&mut self, when: When, command: &str) {
        let line = match when {
            When::Now => command.to_owned(),
            When::BeforeNext => format!("before-next {command}"),
            When::WithNext => format!("with-next {command}"),
            When::On(moment) => format!("on {} {command}", moment.word()),
        };
        self.say(&format!("! {line}"));
        // A command that makes no sense now is one that nobody would give.
        let _ = self.command(&line);
    }

    /// What a deed does.
    pub(super) fn deed(&mut self, deed: &Deed, present: &BTreeSet<String>) {
        match &deed.what {
            What::Command(command) => {
                self.command_when(deed.when, command);
            }
            What::Reload(files, command) => {
                for (name, shape) in files {
                    match shape {
                        Some(shape) => {
                            let text = shape.text(name, present);
                            self.say(&format!("! define {name}"));
                            text.lines().for_each(|line| self.say(&format!("  {line}")));
                            self.define(super::script::loaded_file(name, &text));
                        }
                        None => {
                            self.say(&format!("! undefine {name}"));
                            self.undefine(name);
                        }
                    }
                }
                self.command_when(deed.when, command);
            }
            What::Set(name, shape) => {
                let text = shape.text(name, present);
                self.say(&format!("! set {name}"));
                text.lines().for_each(|line| self.say(&format!("  {line}")));
                self.give(name, &text);
            }
        }
    }
}
