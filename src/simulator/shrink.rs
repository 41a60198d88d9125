//! A failing plan made small: what can be left out so that it still fails is left out.
//!
//! Coarse first: kinds of faults, services, the time after the failure; then single deeds, in
//! halves, quarters and so on (Zeller and Hildebrandt, 2002). Only the same failure counts: the
//! same words but for names, numbers and the event.

use super::course;
use super::plan::{Fault, Plan};
use std::time::Duration;

/// Runs that may be spent.
const RUNS: usize = 600;

struct Shrinker {
    left: usize,
    twins: bool,
    names: Vec<String>,
    failure: String,
}

impl Shrinker {
    /// Takes the smaller plan if it still fails.
    fn try_on(&mut self, plan: &mut Plan, smaller: Plan) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        let failure = course::run(&smaller, false, self.twins).failure;
        let fails = failure.is_some_and(|words| gist(&words, &self.names) == self.failure);
        if fails {
            *plan = smaller;
        }
        fails
    }
}

/// The smallest plan found that fails as well.
pub fn shrink(plan: &Plan, twins: bool) -> Plan {
    let mut small = plan.clone();
    let names: Vec<String> = plan.names().into_iter().collect();
    let Some(failure) = course::run(plan, false, twins).failure else {
        return small;
    };
    let mut shrinker = Shrinker {
        left: RUNS,
        twins,
        failure: gist(&failure, &names),
        names,
    };
    loop {
        let left = shrinker.left;
        let mut shrunk = false;
        for fault in Fault::ALL {
            let present =
                small.weights.of(fault) > 0 || small.deeds.iter().any(|d| d.fault == fault);
            if present {
                let smaller = small.without_fault(fault);
                shrunk |= shrinker.try_on(&mut small, smaller);
            }
        }
        for role in plan.roles.iter().rev() {
            if small.roles.len() > 1 && small.names().contains(&role.name) {
                let smaller = small.without(&role.name);
                shrunk |= shrinker.try_on(&mut small, smaller);
            }
        }
        let mut smaller = small.clone();
        smaller.calm = Duration::ZERO;
        shrunk |= !small.calm.is_zero() && shrinker.try_on(&mut small, smaller);
        shrunk |= shorten(&mut small, &mut shrinker);
        shrunk |= drop_deeds(&mut small, &mut shrinker);
        shrunk |= make_well(&mut small, &mut shrinker);
        if !shrunk || shrinker.left == left {
            return small;
        }
    }
}

fn shorten(plan: &mut Plan, shrinker: &mut Shrinker) -> bool {
    let mut shrunk = false;
    while plan.length > Duration::from_secs(1) {
        let mut smaller = plan.clone();
        smaller.length = plan.length * 2 / 3;
        smaller.deeds.retain(|deed| deed.at < smaller.length);
        if !shrinker.try_on(plan, smaller) {
            break;
        }
        shrunk = true;
    }
    shrunk
}

fn drop_deeds(plan: &mut Plan, shrinker: &mut Shrinker) -> bool {
    let mut shrunk = false;
    let mut size = plan.deeds.len();
    while size > 0 {
        let mut at = 0;
        while at < plan.deeds.len() {
            let mut smaller = plan.clone();
            smaller.deeds.drain(at..(at + size).min(plan.deeds.len()));
            match shrinker.try_on(plan, smaller) {
                true => shrunk = true,
                false => at += size,
            }
        }
        size /= 2;
    }
    shrunk
}

/// Services that need not misbehave do not.
fn make_well(plan: &mut Plan, shrinker: &mut Shrinker) -> bool {
    let mut shrunk = false;
    for at in 0..plan.roles.len() {
        let script = &plan.roles[at].script;
        let well = super::kernel::Script {
            works: script.works,
            ..Default::default()
        };
        if *script != well {
            let mut smaller = plan.clone();
            smaller.roles[at].script = well;
            shrunk |= shrinker.try_on(plan, smaller);
        }
    }
    shrunk
}

/// A failure without what differs from run to run.
fn gist(failure: &str, names: &[String]) -> String {
    let words = failure.split(" (event").next().unwrap_or_default();
    let words = words.split(|c: char| !c.is_ascii_alphabetic());
    let telling = words.filter(|word| !word.is_empty() && !names.iter().any(|name| name == word));
    telling.take(8).collect::<Vec<_>>().join(" ")
}
