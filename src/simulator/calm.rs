//! The calm after the storm: nothing is wrong with any service, so nobody may be touched.
//!
//! First nothing happens at all, for a day or a week: no run is started, signalled or judged, and
//! the loop wakes for the probes, for what is still to be told, and for nothing else. Then the
//! supervisor has troubles of its own, and the machine sleeps: that is no fault of the services,
//! who are as they were.
//!
//! Invariant: what lives when the calm begins has no end, no hang and no signal before it, so
//! that whatever happens to it has no reason.

use super::World;
use super::course::LOOK;
use super::kernel::Happening;
use super::plan::Plan;
use crate::prng::Prng;
use crate::time::Time;
use std::time::Duration;

/// How often all may be found not to be quiet yet.
const TRIES: u32 = 200;
/// Troubles of our own.
const TROUBLES: u32 = 5;

impl World {
    /// Some: what moved without a reason; None also where a promise was broken.
    pub(super) fn be_calm(&mut self, plan: &Plan) -> Option<String> {
        // Who cannot be well for another's sake is not calm either, nor who is started by a schedule.
        if plan.calm.is_zero() || self.has_schedules() || !self.excused(plan).is_empty() {
            return None;
        }
        let mut tries = 0;
        while !self.is_quiet(plan)? {
            tries += 1;
            if tries > TRIES {
                let complaints = self.complaints(plan);
                return Some(format!("it does not get quiet: {complaints}"));
            }
        }
        self.say("! nothing happens");
        if let Some(watcher) = &mut self.watcher {
            watcher.be_calm();
        }
        let before = self.living(plan);
        let (turns, tried) = (self.turns(), self.alerts_tried());
        self.pass(plan.calm)?;
        let tried = self.alerts_tried() - tried;
        let allowed = self.turns_of_probes(plan) + self.turns_of_alerts(plan, tried);
        let turns = self.turns() - turns;
        if turns > allowed {
            let words = format!("woke {turns} times where there are {allowed} reasons to");
            self.breach(words);
            return None;
        }
        if !self.are_sockets_leant_on(plan) {
            self.have_troubles(plan)?;
        }
        // Who could not be asked for a while is asked again.
        self.pass(LOOK * plan.pace)?;
        match (self.unwell(plan).is_empty(), self.living(plan) == before) {
            (true, true) => None,
            (false, _) => Some(format!("unwell in calm: {}", self.complaints(plan))),
            (true, false) => Some("not the same processes live after the calm".to_owned()),
        }
    }

    /// All that lives is well and stays so, and what was on its way has come.
    fn is_quiet(&mut self, plan: &Plan) -> Option<bool> {
        for role in &plan.roles {
            self.kernel.absolve(&role.name);
            self.kernel.stick(&role.name, Time::ZERO);
        }
        if self.tend(plan) {
            self.queue
                .retain(|_, what| !matches!(what, Happening::Dies { .. }));
            self.pass(LOOK * 4 * plan.pace)?;
            return Some(self.unwell(plan).is_empty());
        }
        self.pass(LOOK * plan.pace)?;
        Some(false)
    }

    /// Troubles of ours reach further then: while we cannot listen, who connects there fails.
    fn are_sockets_leant_on(&self, plan: &Plan) -> bool {
        let mut leant_on = plan.roles.iter().flat_map(|role| &role.script.leans_on);
        leant_on.any(|other| self.kernel.sockets(other).watched)
    }

    fn living(&self, plan: &Plan) -> Vec<(String, Option<u32>, usize)> {
        let of = |name: &String| {
            let number = self.kernel.youngest_number(name);
            (name.clone(), number, self.kernel.alive(name))
        };
        plan.roles.iter().map(|role| of(&role.name)).collect()
    }

    fn turns(&self) -> u64 {
        self.watcher.as_ref().map_or(0, |watcher| watcher.turns())
    }

    fn alerts_tried(&self) -> u64 {
        let watcher = self.watcher.as_ref();
        watcher.map_or(0, |watcher| watcher.alerts_tried())
    }

    /// What was not taken yet is told until it is, or given up: a turn to send, one in which its time
    /// is up or it is answered, one more for a pause. And a trouble that was told has an end.
    fn turns_of_alerts(&self, plan: &Plan, tried: u64) -> u64 {
        3 * tried + (self.alerts.len() * plan.roles.len()) as u64
    }

    /// A turn to ask and one for the answer, or to hear that all is well and to see that it was
    /// heard in time; and what a day may have besides.
    fn turns_of_probes(&self, plan: &Plan) -> u64 {
        let files = self.files();
        let definitions = files
            .iter()
            .filter_map(|file| file.definition.as_ref().ok());
        let probes = definitions.flat_map(|definition| definition.probes.iter());
        let probes = probes.map(|probe| probe.interval);
        let names = plan.roles.iter().map(|role| &role.name);
        let words = names.filter_map(|name| self.kernel.talks_every(name));
        let turns = probes.chain(words);
        let turns = turns.map(|pace| 2 * (plan.calm.as_micros() / pace.as_micros()));
        turns.map(|turns| turns as u64 + 4).sum::<u64>() + 20
    }

    /// What is our own fault, or the machine's.
    fn have_troubles(&mut self, plan: &Plan) -> Option<()> {
        let longest = (30 * u64::from(plan.pace)).min(4_000);
        let mut dice = Prng::new(plan.seed ^ 0xca1f_ca1f_ca1f_ca1f);
        for _ in 0..TROUBLES {
            let seconds = [1, 5, 20, longest][dice.below(4) as usize];
            let command = match dice.below(6) {
                0 => format!("suspend {seconds}s"),
                1 => format!("wall-jumps {seconds}s"),
                2 => format!("starve {seconds}s"),
                3 => format!("trouble {}s", seconds.min(60)),
                _ => format!("die {} {seconds}s", dice.below(12)),
            };
            self.say(&format!("! {command}"));
            let _ = self.command(&command);
            let pause = (LOOK * 2 * plan.pace).as_micros() as u64;
            self.pass(Duration::from_micros(dice.below(pause)))?;
        }
        // The last one may have killed the daemon, and is not to do it later.
        self.doom = None;
        self.pass(Duration::from_secs(longest + 10))
    }
}
