//! A plan drawn by lot: equal seeds, equal plans.
//!
//! Swarm testing (Groce et al. 2012): each run leaves most kinds of faults out and has the others
//! often, because faults that all happen all the time hide each other's consequences.
//!
//! A share of the worlds is slow: probed every minute or so, with hours between two faults and
//! days without any, as most services live.

mod alerts;
mod deeds;
mod kinds;
mod settings;

use super::doom::Moment;
use super::hooks::HookScript;
use super::kernel::{PidFile, Script};
use super::plan::{Deed, Fault, Plan, Role, Shape, Weights, What, When};
use crate::config::StormLimits;
use crate::exit::{Exit, Signal};
use crate::prng::{Prng, fnv1a};
use crate::service::hook::Purpose;
use std::fmt::Write;
use std::time::Duration;

const NAMES: [&str; 12] = [
    "db", "web", "api", "cache", "mail", "queue", "auth", "proxy", "logs", "cron", "search", "chat",
];

/// Of so many worlds one is slow.
const SLOW: u64 = 8;

struct Lot {
    dice: Prng,
    pace: u64,
    /// By service, for good: what it is beside a process or a oneshot.
    special: Vec<Special>,
    themes: Themes,
}

/// What a world has beside processes and oneshots, and what comes with it.
#[derive(Clone, Copy, Default)]
struct Themes {
    /// Targets and daemons that fork; what is wanted for now.
    kinds: bool,
    /// Sockets that are held.
    sockets: bool,
    /// Ties of every sort, and pins.
    ties: bool,
    /// Many oneshots, started by a schedule or undone.
    works: bool,
}

/// Mostly one or none, so that what comes of it is told apart; of its own generator, as below.
fn themes(seed: u64) -> Themes {
    let mut themes = Themes::default();
    let mut add = |dice: &mut Prng| match dice.below(4) {
        0 => {}
        1 => themes.kinds = true,
        2 => themes.sockets = true,
        _ => themes.ties = true,
    };
    add(&mut Prng::new(seed ^ 0x7e3e_7e3e_7e3e_7e3e));
    let mut more = Prng::new(seed ^ 0x7e3e_0002_7e3e_0002);
    if more.below(3) == 0 {
        add(&mut more);
        add(&mut more);
    }
    themes.works = Prng::new(seed ^ 0x7e3e_0003_7e3e_0003).below(6) == 0;
    themes
}

/// Of its own generator: the defaults, nothing, or so little that many have to wait.
fn limits(seed: u64, pace: u64) -> StormLimits {
    let mut dice = Prng::new(seed ^ 0x5702_4d00_5702_4d00);
    let mut ms = |choices: [u64; 3]| {
        let chosen = choices[dice.below(3) as usize];
        Duration::from_millis(chosen * pace)
    };
    let (per, within) = (ms([2_000, 10_000, 60_000]), ms([5_000, 30_000, 120_000]));
    let mut below = |bound: u64| dice.below(bound) as u32;
    match below(8) {
        0 => StormLimits::default(),
        1 => StormLimits::STANDARD,
        part => StormLimits {
            count: below(4),
            per,
            services: if part < 5 { 1 + below(4) } else { 0 },
            percent: [0, 0, 30, 70][below(4) as usize],
            within,
        },
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    No,
    Target,
    Forking,
}

/// Of its own generator, so that all else is drawn as it was.
fn special(seed: u64) -> Vec<Special> {
    let mut dice = Prng::new(seed ^ 0x6b69_6e64_7321_0001);
    let kinds = themes(seed).kinds;
    let mut draw = |_| match dice.below(10) {
        _ if !kinds => Special::No,
        0..3 => Special::Target,
        3..6 => Special::Forking,
        _ => Special::No,
    };
    (0..NAMES.len()).map(&mut draw).collect()
}

impl Lot {
    fn below(&mut self, bound: u64) -> u64 {
        self.dice.below(bound)
    }

    fn chance(&mut self, of_thousand: u64) -> bool {
        self.below(1000) < of_thousand
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn ms(&mut self, choices: &[u64]) -> Duration {
        Duration::from_millis(self.of(choices) * self.pace)
    }

    /// In a slow world some things are as quick as ever.
    fn either(&mut self, time: u64) -> u64 {
        match self.pace > 1 && self.chance(500) {
            true => time,
            false => time * self.pace,
        }
    }

    fn time(&mut self, length: Duration) -> Duration {
        Duration::from_micros(self.below(length.as_micros() as u64))
    }
}

impl Plan {
    pub fn draw(seed: u64) -> Plan {
        // Of its own, so that a world is the same at any pace.
        let mut pace = Prng::new(seed ^ 0x5105_1051_0510_5105);
        let slow = pace.below(SLOW) == 0;
        // The longer the pace, the more hours of calm for as many events.
        let (pace, calm) = match pace.below(6) {
            0 if !slow => (1, 60),
            _ if !slow => (1, 0),
            0 => (10, 2 * 3600),
            1 => (60, 12 * 3600),
            _ => (300, 3 * 24 * 3600),
        };
        let mut lot = Lot {
            dice: Prng::new(seed),
            pace,
            special: special(seed),
            themes: themes(seed),
        };
        let length = lot.of(&[60, 120, 300, 900]);
        let length = Duration::from_secs(length * pace);
        let count = 1 + lot.below(6).min(lot.below(12)) as usize * (1 + lot.below(2) as usize);
        let names: Vec<&str> = NAMES[..count.min(NAMES.len())].to_vec();
        let mut roles = Vec::new();
        for at in 0..names.len() {
            let role = lot.role(&names, at, &roles);
            roles.push(role);
        }
        let weights = lot.weights();
        let mut plan = Plan {
            seed,
            pace: pace as u32,
            length,
            calm: Duration::from_secs(calm),
            limits: limits(seed, pace),
            roles,
            weights,
            alerts: String::new(),
            deeds: Vec::new(),
        };
        if plan.weights.of(Fault::Given) > 0 {
            for role in &mut plan.roles {
                role.given = lot.chance(400);
            }
        }
        lot.deeds(&mut plan, &names);
        lot.dice = Prng::new(seed ^ 0xc011_ec70_c011_ec70);
        lot.connections(&mut plan, &names);
        lot.dice = Prng::new(seed ^ 0xd055_1e4d_055e_1e4d);
        for role in &mut plan.roles {
            lot.looks(&mut role.script);
        }
        lot.dice = Prng::new(seed ^ 0xf0e4_f0e4_f0e4_f0e4);
        lot.forks(&mut plan);
        lot.undoes(&mut plan);
        lot.dice = Prng::new(seed ^ 0x4e9a_4e9a_4e9a_4e9a);
        for role in &mut plan.roles {
            lot.mends(&mut role.script);
        }
        lot.dice = Prng::new(seed ^ 0x7055_7055_7055_7055);
        lot.pressure(&mut plan, &names);
        if plan.weights.of(Fault::Verbs) > 0 && lot.themes.ties {
            lot.dice = Prng::new(seed ^ 0x9159_9159_9159_9159);
            lot.pins(&mut plan, &names);
        }
        lot.dice = Prng::new(seed ^ 0xa1e7_a1e7_a1e7_a1e7);
        lot.alerts(&mut plan, &names);
        lot.dice = Prng::new(seed ^ 0x5e77_1265_5e77_1265);
        lot.settings(&mut plan);
        plan.deeds.sort_by_key(|deed| deed.at);
        plan
    }
}

impl Lot {
    fn weights(&mut self) -> Weights {
        let mut weights = Weights::default();
        // The last have dice of their own: what was drawn before they came stays as it was.
        let own =
            |fault: &Fault| matches!(fault, Fault::Connect | Fault::Receiver | Fault::Pressure);
        for fault in Fault::ALL.into_iter().filter(|fault| !own(fault)) {
            let (present, weight) = match fault {
                Fault::Fork | Fault::Exec => (250, self.of(&[50, 200, 500])),
                Fault::Late => (350, self.of(&[50, 300])),
                Fault::Double => (400, self.of(&[20, 200])),
                Fault::Ghost => (500, self.of(&[20, 200])),
                Fault::LostTree => (150, self.of(&[100, 500])),
                Fault::SlowTurn => (300, self.of(&[2, 10, 50])),
                Fault::World | Fault::Verbs => (700, self.of(&[10, 30, 60])),
                Fault::Reload => (300, self.of(&[3, 8])),
                Fault::Death => (500, self.of(&[3, 10, 20])),
                Fault::PowerCut => (150, self.of(&[2, 4])),
                Fault::Given => (300, self.of(&[5, 20])),
                Fault::Trouble | Fault::Suspend | Fault::Wall | Fault::Disk | Fault::Stuck => {
                    (250, self.of(&[3, 10]))
                }
                Fault::Connect | Fault::Receiver | Fault::Pressure => (0, 0),
            };
            if self.chance(present) {
                weights.0.insert(fault, weight);
            }
        }
        weights
    }

    fn role(&mut self, names: &[&str], at: usize, before: &[Role]) -> Role {
        let name = names[at];
        let oneshot = self.chance(120) | self.works_by_lot(at);
        let mut script = self.script(oneshot);
        let shape = self.shape(names, at, oneshot, before);
        let requires = shape.relations.iter().filter(|(key, _)| *key == "requires");
        for (_, other) in requires {
            let mute = |role: &Role| {
                role.name == *other && (role.script.works.is_some() || role.shape.target)
            };
            if self.chance(400) && !before.iter().any(mute) {
                script.leans_on.push(other.clone());
            }
        }
        Role {
            name: name.to_owned(),
            shape,
            script,
            given: false,
        }
    }

    fn script(&mut self, oneshot: bool) -> Script {
        let mut script = Script {
            ready_after: self.ms(&[0, 50, 50, 300, 2_000, 12_000]),
            stops_in: match self.below(8) {
                0 => None,
                1 => Some(Duration::from_secs(4)),
                _ => Some(Duration::from_millis(self.of(&[1, 10, 200]))),
            },
            ..Script::default()
        };
        if self.chance(80) {
            script.dies_in = Duration::from_millis(self.of(&[500, 5_000, 40_000]));
        }
        if self.chance(200) {
            script.leaves = Some(self.of(&[0, 0, 0, 2]));
            script.stubborn = self.chance(300);
        }
        let code = self.of(&[0, 1, 1, 70]) as u8;
        let end = self.of(&[
            Exit::Code(code),
            Exit::Code(code),
            Exit::Signal(Signal(11)),
            Exit::Signal(Signal::KILL),
            Exit::Signal(Signal::TERM),
        ]);
        match self.below(9) {
            0 => script.hangs_after = Some(self.ms(&[100, 3_000, 20_000, 70_000])),
            1 => script.exits = Some((self.ms(&[0, 30, 2_000, 15_000, 90_000]), end)),
            2 => script.flaps = Some((self.ms(&[3_000, 20_000]), self.ms(&[1_500, 9_000, 40_000]))),
            // It leaks until the kernel ends it.
            3 => {
                script.hungry = true;
                script.exits = Some((self.ms(&[60_000, 240_000]), Exit::Signal(Signal::KILL)));
            }
            4 => {
                script.hangs_after = Some(self.ms(&[5_000, 40_000]));
                script.exits = Some((self.ms(&[20_000, 100_000]), end));
            }
            _ => {}
        }
        script.bad_runs = self.of(&[1, 2, 3, u32::MAX, u32::MAX]);
        if oneshot {
            script.works = Some(self.ms(&[10, 1_000, 8_000]));
            if self.chance(300) {
                script.exits = Some((self.ms(&[10, 1_000]), Exit::Code(1)));
            }
        }
        script
    }

    /// `roles`: those before it, at least.
    fn shape(&mut self, names: &[&str], at: usize, oneshot: bool, roles: &[Role]) -> Shape {
        let mut keys = String::new();
        let mut tables = String::new();
        if oneshot {
            keys.push_str("kind = \"oneshot\"\n");
        }
        let mut key = |line: String| {
            let _ = writeln!(keys, "{line}");
        };
        if self.chance(150) {
            key("autostart = false".to_owned());
        }
        if self.chance(200) {
            let word = self.of(&["always", "on-failure", "on-failure", "never"]);
            key(format!("restart = \"{word}\""));
        }
        if self.chance(250) {
            let word = self.of(&["mixed", "process"]);
            key(format!("kill_mode = \"{word}\""));
        }
        let timeout = self.of(&[50, 1_000, 3_000, 10_000]);
        key(format!("stop_timeout_ms = {}", self.either(timeout)));
        if self.chance(150) {
            let timeout = self.of(&[100, 2_000]);
            key(format!("health_stop_timeout_ms = {}", self.either(timeout)));
        }
        if !oneshot || self.chance(300) {
            let timeout = self.ms(&[1_500, 5_000, 30_000]);
            key(format!("start_timeout_ms = {}", timeout.as_millis()));
        }
        if self.chance(200) {
            key(format!("env = {{ TIMES = \"{}\" }}", self.below(3)));
        }
        self.policy(&mut tables);
        if !oneshot {
            for number in 0..self.of(&[0, 1, 1, 1, 2, 3]) {
                self.probe(&mut tables, number);
            }
        }
        // Of its own generator, so that all else is drawn as it was.
        let mut own = Lot {
            dice: Prng::new(fnv1a((keys.clone() + &tables).as_bytes())),
            pace: self.pace,
            special: Vec::new(),
            themes: self.themes,
        };
        let special = match oneshot {
            true => Special::No,
            false => self.special.get(at).copied().unwrap_or(Special::No),
        };
        match special {
            _ if oneshot => {}
            // Ready when it has forked.
            Special::Forking => {}
            _ if own.chance(350) => own.notify(&mut keys),
            _ => {}
        }
        let mut more = Lot {
            dice: Prng::new(fnv1a(("judged".to_owned() + &keys + &tables).as_bytes())),
            pace: self.pace,
            special: Vec::new(),
            themes: self.themes,
        };
        more.judgement(&mut keys, &mut tables);
        if special == Special::Forking {
            more.forking(&mut keys, names[at]);
        }
        if oneshot && self.themes.works {
            more.work(&mut keys);
        }
        // Descriptor 3 is one of them.
        let sockets = self.themes.sockets && own.chance(600);
        if sockets && !keys.contains("\"fd\"") {
            keys.push_str("socket = [{ listen = \"tcp:80\" }]\n");
            if own.chance(700) && !keys.contains("every") {
                keys.push_str("start_on = \"connection\"\n");
            }
        }
        own.sibling().evidence(&mut keys);
        let mut relations = Vec::new();
        for other in &names[..at] {
            let kind = self.below(8);
            let word = ["requires", "wants", "after"].get(kind as usize);
            if let Some(word) = word.filter(|_| relations.len() < 3) {
                relations.push((*word, (*other).to_owned()));
            }
        }
        let mut own = own.sibling();
        if self.themes.ties && own.chance(700) {
            own.ties(&mut keys, &mut relations, names, at, roles);
        }
        // Last, so that all before is drawn as it was.
        let ladder = match own.chance(250) && !oneshot {
            true => (own.of(&[0, 1, 2]), own.of(&[0, 0, 3, 4])),
            false => (0, 0),
        };
        if special == Special::Target {
            // It has no process that could wait for the end of another.
            relations.retain(|(key, _)| *key != "after_exit");
        }
        let mut own = own.sibling();
        if special == Special::No && own.chance(100) {
            keys.push_str("observe = true\n");
        }
        let mut own = own.sibling();
        let repairs = match own.chance(350) && !oneshot {
            true => (own.of(&[1, 1, 2, 3]), own.of(&[0, 0, 2, 4])),
            false => (0, 0),
        };
        Shape {
            keys,
            tables,
            relations,
            broken: false,
            target: special == Special::Target,
            ladder,
            repairs,
        }
    }

    /// What comes of looking at it.
    fn looks(&mut self, script: &mut Script) {
        script.looked_at = match self.below(6) {
            0 => None,
            1 => Some(Duration::from_secs(2)),
            _ => Some(Duration::from_millis(self.of(&[0, 0, 20, 200]))),
        };
        if self.chance(500) {
            script.stuck_on = Some("stuck".to_owned());
        }
        let mut hook = HookScript::default();
        (hook.hangs, hook.ends_it) = (self.chance(200), self.chance(100));
        hook.missing = self.chance(100);
        script.hooks.insert(Purpose::Diagnose, hook);
    }

    /// What becomes of its repair.
    fn mends(&mut self, script: &mut Script) {
        let mut hook = HookScript {
            takes: Duration::from_millis(self.of(&[5, 5, 400, 2_500, 20_000])),
            ..HookScript::default()
        };
        (hook.hangs, hook.missing) = (self.chance(150), self.chance(100));
        if self.chance(300) {
            hook.exit = Exit::Code(3);
        }
        script.hooks.insert(Purpose::Repair, hook);
    }

    /// How it is looked at before a stop for its health.
    fn evidence(mut self, keys: &mut String) {
        if self.chance(300) {
            let timeout = self.of(&[0, 50, 500, 3_000]);
            let _ = writeln!(keys, "dossier_timeout_ms = {timeout}");
        }
        if self.chance(250) {
            let word = self.of(&["SIGQUIT", "SIGABRT", "look", "look"]);
            let timeout = self.of(&[100, 2_000]);
            let _ = writeln!(
                keys,
                "diagnose = \"{word}\"\ndiagnose_timeout_ms = {timeout}"
            );
        }
    }

    /// Of its own generator once more.
    fn sibling(&mut self) -> Lot {
        Lot {
            dice: Prng::new(self.below(u64::MAX)),
            pace: self.pace,
            special: Vec::new(),
            themes: self.themes,
        }
    }

    /// All edges lead from later names to earlier ones, so that they make no cycle.
    fn ties(
        &mut self,
        keys: &mut String,
        relations: &mut Vec<(&'static str, String)>,
        names: &[&str],
        at: usize,
        roles: &[Role],
    ) {
        for later in &names[at + 1..] {
            if self.chance(150) {
                relations.push(("before", (*later).to_owned()));
            }
        }
        for other in &names[..at] {
            let oneshot = |role: &Role| role.name == **other && role.script.works.is_some();
            let ends = roles.iter().any(oneshot);
            let known = relations.iter().any(|(_, name)| **name == **other);
            let word = match self.below(12) {
                0 | 1 => "milestone",
                2..5 if ends && !known => "after_exit",
                2 if !known && self.chance(200) => "after_exit",
                5 if !known => "conflicts",
                _ => continue,
            };
            relations.push((word, (*other).to_owned()));
        }
        if relations.iter().any(|(key, _)| *key == "requires") {
            let word = self.of(&["run", "restart", "restart", "stop"]);
            let _ = writeln!(keys, "on_dependency = \"{word}\"");
        }
    }

    /// Pins, of a generator of their own.
    fn pins(&mut self, plan: &mut Plan, names: &[&str]) {
        for _ in 0..self.below(6) {
            let name = self.of(names);
            let verb = self.of(&["pin", "pin", "unpin"]);
            plan.deeds.push(Deed {
                at: self.time(plan.length),
                fault: Fault::Verbs,
                when: When::Now,
                what: What::Command(format!("{verb} {name}")),
                service: Some(name.to_owned()),
            });
        }
    }

    fn policy(&mut self, tables: &mut String) {
        let attempts = match self.below(8) {
            0 => "\"unlimited\"".to_owned(),
            1 => "0".to_owned(),
            n => n.to_string(),
        };
        let mut delay = self.ms(&[0, 100, 1_000, 5_000]).as_millis();
        if self.pace > 1 {
            // Not to be spent on a crash that follows the one before at once.
            delay = delay.max(100 * u128::from(self.pace));
        }
        let stability = self.of(&[2_000, 10_000, 30_000, 60_000]);
        let _ = write!(
            tables,
            "[retry_policy]\nmax_attempts = {attempts}\ndelay_ms = {delay}\nbackoff = \"{}\"\n\
             max_delay_ms = {}\njitter = {}\nstability_period_ms = {}\n",
            self.of(&["fixed", "linear", "exponential"]),
            delay.max(self.ms(&[5_000, 30_000]).as_millis()),
            self.of(&["0", "0.1", "0.5"]),
            self.either(stability),
        );
        if self.chance(200) {
            tables.push_str("on_exhausted = \"stop\"\n");
        }
        if self.chance(250) {
            tables.push_str("on_exhausted_exec = [\"page\"]\n");
        }
    }

    fn notify(&mut self, keys: &mut String) {
        let both = self.below(3);
        if both != 0 {
            let word = self.of(&["notify", "notify", "fd"]);
            let _ = writeln!(keys, "ready = \"{word}\"");
        }
        if both != 1 {
            let period = self.ms(&[800, 4_000, 20_000]).as_millis();
            let _ = writeln!(keys, "watchdog_ms = {period}");
        }
    }

    /// Windows and paces of the last probe, how many must be up.
    fn judgement(&mut self, keys: &mut String, tables: &mut String) {
        if !tables.contains("[[probe]]") {
            return;
        }
        if self.chance(150) {
            let window = self.of(&["2, of = 3", "3, of = 5", "4, of = 20"]);
            let _ = writeln!(tables, "failure_window = {{ failures = {window} }}");
        }
        if self.chance(150) {
            let pace = self.of(&[100, 300, 500]);
            let _ = writeln!(tables, "confirm_interval_ms = {pace}");
        }
        if self.chance(150) {
            let many = tables.matches("[[probe]]").count() - tables.matches("observe").count() > 1;
            let required = self.of(&["\"any\"", if many { "2" } else { "\"any\"" }, "\"all\""]);
            let _ = writeln!(keys, "probes_required = {required}");
        }
    }

    fn probe(&mut self, tables: &mut String, number: usize) {
        let interval = self.of(&[500, 1_000, 5_000, 10_000]) * self.pace;
        let timeout = self.of(&[200, 1_000, 5_000]);
        let timeout = interval.min(self.either(timeout));
        let target = match self.below(3) {
            0 => "type = \"exec\"\ntarget = [\"check\"]",
            1 => "type = \"tcp\"\ntarget = \"127.0.0.1:80\"",
            _ => "type = \"http\"\ntarget = \"http://127.0.0.1:80/\"",
        };
        let _ = write!(
            tables,
            "[[probe]]\nname = \"p{number}\"\n{target}\ninterval_ms = {interval}\n\
             timeout_ms = {timeout}\nfailure_threshold = {}\n",
            self.of(&[1, 2, 3, 5]),
        );
        if self.pace > 1 {
            let _ = writeln!(tables, "start_interval_ms = {}", 250 * self.pace);
        }
        if self.chance(200) {
            let _ = writeln!(tables, "success_threshold = {}", self.of(&[2, 3]));
        }
        if self.chance(150) {
            let period = self.ms(&[500, 1_500]).as_millis();
            let _ = writeln!(tables, "start_period_ms = {period}");
        }
        if self.chance(200) {
            tables.push_str("on_unhealthy = \"observe\"\n");
        }
    }
}
