//! A plan, run: first everything goes wrong and no promise may be broken; then everything is made
//! well, and within a bound all services must be well too; then they are left alone (`calm`).
//!
//! The second half finds what the first cannot see: a restart that was lost, a wait that nobody
//! ends. What hangs goes on hanging until it is restarted; only new runs are well.

use super::World;
use super::kernel::{Disk, dies};
use super::mischief::Mischief;
use super::plan::{Plan, Weights};
use super::receiver::Receiver;
use super::watcher::Watcher;
use crate::config::{OnUnhealthy, Probe};
use crate::engine::Terms;
use crate::engine::status::Status;
use crate::exit::Exit;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long the well world may take, and how often an operator looks; at the pace of the world.
const PATIENCE: Duration = Duration::from_secs(3 * 3600);
pub(super) const LOOK: Duration = Duration::from_secs(20);

/// What came of a plan.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was broken; None: nothing.
    pub failure: Option<String>,
    pub events: u64,
    /// Of all services together.
    pub service_time: Duration,
    /// That of it in which nothing was wrong with any service.
    pub calm_time: Duration,
    /// Virtual, at the pace of the world.
    pub recovered_in: Duration,
    pub transcript: Vec<String>,
    /// Over the transcript or, where none is kept, over what is left at the end.
    pub fingerprint: u64,
}

/// Runs a plan. `told`: with its story. `twins`: every event to two engines, whose effects must
/// be the same.
pub fn run(plan: &Plan, told: bool, twins: bool) -> Report {
    let mut world = World::new(plan.seed);
    world.silent = !told;
    world.twins = twins;
    world.mischief = Some(Mischief::new(plan.seed, plan.pace, &plan.weights));
    let names = plan.roles.iter().map(|role| role.name.clone());
    world.max_checks = [None, None, None, Some(1), Some(2)][plan.seed as usize % 5];
    let watcher = Watcher::new(names, plan.pace);
    world.watcher = Some(Box::new(watcher));
    world.limits = plan.limits;
    let present = plan.names();
    for role in &plan.roles {
        if !role.given {
            let text = role.shape.text(&role.name, &present);
            world.define(super::script::loaded_file(&role.name, &text));
        }
        *world.kernel.script(&role.name) = role.script.clone();
    }
    world.configure(&plan.alerts);
    let rules = world.rules();
    if let Some(watcher) = &mut world.watcher {
        watcher.set_rules(rules);
    }
    let mut unwell = match world.suffer(plan) {
        Some(()) => world.heal(plan),
        None => None,
    };
    let healed = Duration::from_micros(world.now.0);
    if unwell.is_none() && world.broken().is_none() {
        unwell = world.be_calm(plan);
    }
    let failure = world.broken().or(unwell);
    let services = plan.roles.len() as u32;
    let service_time = Duration::from_micros(world.now.0) * services;
    Report {
        failure,
        events: world.events,
        service_time,
        calm_time: service_time - healed * services,
        recovered_in: healed.saturating_sub(plan.length) / plan.pace,
        fingerprint: world.fingerprint(),
        transcript: world.transcript,
    }
}

impl World {
    /// The first half. None: a promise was broken.
    fn suffer(&mut self, plan: &Plan) -> Option<()> {
        let present = plan.names();
        self.boot();
        for role in plan.roles.iter().filter(|role| role.given) {
            self.give(&role.name, &role.shape.text(&role.name, &present));
        }
        for deed in &plan.deeds {
            if deed.at >= plan.length {
                break;
            }
            self.live_until(deed.at)?;
            self.deed(deed, &present);
        }
        self.live_until(plan.length)
    }

    /// Until then, or the first breach: None.
    pub(super) fn live_until(&mut self, at: Duration) -> Option<()> {
        let end = crate::time::Time(at.as_micros() as u64);
        while self.broken().is_none()
            && let Some(next) = self.next_due().filter(|next| *next <= end)
        {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = self.now.max(end);
        self.broken().is_none().then_some(())
    }

    fn broken(&self) -> Option<String> {
        let watcher = self.watcher.as_ref()?;
        watcher.found().map(str::to_owned)
    }

    fn fingerprint(&self) -> u64 {
        let text = format!(
            "{} {} {:?}",
            self.events,
            self.now.0,
            self.store.read().services
        );
        crate::prng::fnv1a((text + &self.transcript.join("\n")).as_bytes())
    }

    /// The second half. Some: who is not well again, and why; None also where a promise was broken.
    fn heal(&mut self, plan: &Plan) -> Option<String> {
        self.say("! from here on nothing goes wrong");
        self.mischief = Some(Mischief::new(plan.seed, plan.pace, &Weights::default()));
        self.armed.clear();
        self.doom = None;
        self.kernel.disk = Disk::Good;
        self.kernel.receiver = Receiver::Takes;
        self.retry_writing();
        self.kernel.heal();
        let files = self.files();
        for role in &plan.roles {
            if let (Some(_), Some(number)) =
                (role.script.works, self.kernel.youngest_number(&role.name))
            {
                let done = dies(&role.name, number, Exit::Code(0));
                self.happens(Duration::from_millis(100), done);
            }
            let loaded = files.iter().find(|loaded| *loaded.name == *role.name);
            let definition = loaded.and_then(|loaded| loaded.definition.as_ref().ok());
            let restarts = |probe: &Probe| probe.on_unhealthy == OnUnhealthy::Restart;
            let judged =
                definition.is_some_and(|d| d.watchdog().is_some() || d.probes.iter().any(restarts));
            if !judged {
                self.kernel.absolve(&role.name);
            }
        }
        self.mend_files(plan);
        let patience = PATIENCE * plan.pace;
        let end = self.now + patience;
        let _ = self.command("confirm");
        self.reload(Terms::default());
        // What was already on its way, a shutdown among it, is over first.
        let begun = self.now + LOOK * 3 * plan.pace;
        while self.engine.is_none() || self.now < begun {
            self.pass(LOOK * plan.pace)?;
            if self.engine.is_none() && self.queue.is_empty() {
                self.boot();
            }
        }
        // A definition that was given and never written is lost with the daemon that ended.
        self.mend_files(plan);
        let _ = self.command("confirm");
        self.reload(Terms::default());
        let _ = self.command("release");
        for role in &plan.roles {
            let _ = self.command(&format!("unpin {}", role.name));
        }
        let scheduled = self.has_schedules();
        while self.now < end {
            self.absolve_observed(plan);
            if self.tend(plan) {
                return None;
            }
            // Not in step with what a schedule does.
            let drift = if scheduled { LOOK / 53 } else { Duration::ZERO };
            self.pass((LOOK + drift) * plan.pace)?;
        }
        Some(format!(
            "not well again after {patience:?}: {}",
            self.complaints(plan)
        ))
    }

    /// Some are started by a schedule.
    pub(super) fn has_schedules(&self) -> bool {
        let files = self.files();
        let mut definitions = files.iter().filter_map(|f| f.definition.as_ref().ok());
        definitions.any(|definition| definition.schedule.is_some())
    }

    /// Nobody restarts these: an operator would look at what they were told.
    fn absolve_observed(&mut self, plan: &Plan) {
        let Some(engine) = &self.engine else { return };
        for role in &plan.roles {
            let definition = engine.find(&role.name).and_then(|id| engine.definition(id));
            if definition.is_some_and(|definition| definition.observe) {
                self.kernel.absolve(&role.name);
            }
        }
    }

    /// A file for whoever has no definition that can be used.
    fn mend_files(&mut self, plan: &Plan) {
        let (files, present) = (self.files(), plan.names());
        let usable = |name: &str| {
            let loaded = files.iter().find(|loaded| *loaded.name == *name);
            loaded.is_some_and(|loaded| loaded.definition.is_ok())
        };
        for role in plan.roles.iter().filter(|role| !usable(&role.name)) {
            let text = role.shape.text(&role.name, &present);
            self.define(super::script::loaded_file(&role.name, &text));
        }
    }

    /// All are well; or an operator does for the others what only he can.
    pub(super) fn tend(&mut self, plan: &Plan) -> bool {
        let unwell = self.unwell(plan);
        let daemon = self.engine().map(|engine| engine.daemon(self.wall()));
        if daemon.is_some_and(|daemon| daemon.hold.is_some()) {
            let _ = self.command("release");
        }
        for (name, status) in &unwell {
            if let Some(verb) = status.as_ref().and_then(remedy) {
                self.say(&format!("! {verb} {name}"));
                let _ = self.command(&format!("{verb} {name}"));
            }
        }
        unwell.is_empty()
    }

    /// Who is not well, and why.
    pub(super) fn complaints(&self, plan: &Plan) -> String {
        let unwell = self.unwell(plan);
        let told = unwell.iter().map(|(name, _)| self.complaint(name));
        told.collect::<Vec<String>>().join("; ")
    }

    /// As `live_until`, by a length; None is a breach.
    pub(super) fn pass(&mut self, length: Duration) -> Option<()> {
        let at = self.now + length;
        self.live_until(Duration::from_micros(at.0))
    }

    /// Who is not as he should be.
    pub(super) fn unwell(&self, plan: &Plan) -> Vec<(String, Option<Status>)> {
        let mut unwell = Vec::new();
        let excused = self.excused(plan);
        for role in plan.roles.iter().filter(|r| !excused.contains(&r.name)) {
            let name = &role.name;
            let status = self
                .engine()
                .and_then(|e| Some(e.status(e.find(name)?, self.wall())));
            let well = status.as_ref().is_some_and(|status| {
                let health = status.health.as_deref();
                let alive = self.kernel.alive(name);
                match status.state.as_str() {
                    "running" => {
                        let group = status.kind == "target";
                        health.is_none_or(|h| h == "healthy") && alive == usize::from(!group)
                    }
                    "exited" => {
                        let code = status.last_end.as_ref().and_then(|end| end.code);
                        status.kind == "oneshot" && alive == 0 && code == Some(0)
                    }
                    "starting" | "stopping" if status.schedule.is_some() => alive <= 1,
                    // Until it is due.
                    "inactive" if status.schedule.as_ref().is_some_and(|s| !s.suspended) => {
                        alive == 0
                    }
                    "inactive" => {
                        status.listening && alive == 0 && self.kernel.sockets(name).watched
                    }
                    _ => false,
                }
            });
            if !well {
                unwell.push((name.clone(), status));
            }
        }
        unwell
    }

    /// Who cannot be well, and by whose ties: a rival is; what it waits for does not end, or is itself
    /// excused; it needs two that conflict.
    pub(super) fn excused(&self, plan: &Plan) -> BTreeSet<String> {
        let status = |name: &str| {
            let engine = self.engine()?;
            Some(engine.status(engine.find(name)?, self.wall()))
        };
        let running = |name: &str| status(name).is_some_and(|s| s.state == "running");
        let done = |name: &str| {
            let done = |s: Status| s.listening || (s.kind == "oneshot" && s.state == "exited");
            status(name).is_some_and(done)
        };
        let files = self.files();
        let definition = |name: &str| {
            let file = files.iter().find(|file| *file.name == *name)?;
            file.definition.as_ref().ok()
        };
        let names = |d: &[Box<str>], whom: &str| d.iter().any(|name| **name == *whom);
        let conflict = |one: &str, other: &str| {
            let says = |a: &str, b: &str| definition(a).is_some_and(|d| names(d.conflicts(), b));
            one != other && (says(one, other) || says(other, one))
        };
        let mut excused: BTreeSet<String> = BTreeSet::new();
        loop {
            let before = excused.len();
            for role in &plan.roles {
                let (name, Some(status)) = (&role.name, status(&role.name)) else {
                    continue;
                };
                let others = || plan.roles.iter().map(|other| &*other.name);
                let idle = matches!(&*status.state, "inactive" | "failed" | "exited");
                let beats = |other: &str| conflict(name, other) && (running(other) || done(other));
                let beaten = idle && others().any(beats);
                let lost = definition(name).is_some_and(|d| {
                    let mut needs = d.requires.iter().chain(d.milestone());
                    idle && needs.any(|other| excused.contains(&**other))
                });
                let leans = role
                    .script
                    .leans_on
                    .iter()
                    .any(|other| excused.contains(other));
                let detail = status.detail.unwrap_or_default();
                let torn = status.problem.is_some_and(|p| p.contains("which conflict"));
                let mut words = detail.split([' ', ',']);
                let (how, whom) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
                let waits = status.state == "blocked"
                    && (excused.contains(whom)
                        || excused.contains(how)
                        || (how == "after_exit" && running(whom)));
                let gate = status.gate.map(|gate| gate.reason).unwrap_or_default();
                let left = gate.strip_prefix("dependency ");
                let left = left.is_some_and(|other| excused.contains(other));
                if beaten || lost || torn || waits || left || leans {
                    excused.insert(name.clone());
                }
            }
            if excused.len() == before {
                return excused;
            }
        }
    }

    fn complaint(&self, name: &str) -> String {
        let Some((engine, id)) = self.engine().and_then(|e| Some((e, e.find(name)?))) else {
            return format!("{name} is not known");
        };
        let why = engine.why(id, self.wall());
        let Status {
            state,
            health,
            detail,
            ..
        } = why.status;
        let health = health.unwrap_or_default();
        let detail = detail.unwrap_or_default();
        format!(
            "{name} is {state} {health} {detail}: {}",
            why.next.join(", ")
        )
    }
}

/// What an operator would do who wants it to run; nothing where it must come right by itself.
fn remedy(status: &Status) -> Option<&'static str> {
    if status.wanted == "stop" {
        return Some("start");
    }
    // Denied, or only observed: nobody else restarts it.
    let left = |verdict: &str| matches!(verdict, "denied" | "would restart");
    let gate = status.gate.as_ref();
    let left = gate.is_some_and(|gate| left(&gate.verdict));
    match status.state.as_str() {
        "failed" | "inactive" => Some("start"),
        "exited" => Some("start"),
        "running" | "starting" if left => Some("restart"),
        _ => None,
    }
}
