//! The fake kernel's commands around a run: how long they take, how they end, what is left of
//! them when the daemon returns.
//!
//! Invariant: a second command of a service beside one that lives is told, never made.

use super::kernel::{Answers, Happening, Kernel, dies, told};
use crate::engine::snapshot::ServiceSnapshot;
use crate::engine::{Event, HookEnd, SpawnError};
use crate::exit::{Exit, Signal};
use crate::id::{Pid, RunId, ServiceId};
use crate::service::hook::{Hook, Live, Purpose};
use crate::time::Time;
use std::time::Duration;

/// What a service's commands of one purpose do.
#[derive(Clone, PartialEq, Debug)]
pub struct HookScript {
    pub takes: Duration,
    pub exit: Exit,
    /// Runs until SIGKILL.
    pub hangs: bool,
    /// The program ends when it ends.
    pub ends_it: bool,
    /// It cannot be executed.
    pub missing: bool,
}

impl Default for HookScript {
    fn default() -> HookScript {
        HookScript {
            takes: Duration::from_millis(5),
            exit: Exit::Code(0),
            hangs: false,
            ends_it: false,
            missing: false,
        }
    }
}

/// The last command of a service.
#[derive(Clone, Debug)]
pub struct HookProcess {
    pub number: u32,
    pub hook: Hook,
    pub pid: Pid,
    pub exit: Option<Exit>,
}

impl Kernel {
    pub fn hook_script(&mut self, service: &str, purpose: Purpose) -> &mut HookScript {
        self.script(service).hooks.entry(purpose).or_default()
    }

    /// A command of this service lives.
    pub fn live_hook(&self, service: &str) -> Option<&HookProcess> {
        let process = self.hooks.get(service)?;
        process.exit.is_none().then_some(process)
    }

    pub fn spawn_hook(&mut self, now: Time, service: &str, run: RunId, hook: Hook) -> Answers {
        let script = self.hook_script(service, hook.purpose).clone();
        let error = |step: &str, errno, ours| SpawnError {
            step: step.into(),
            errno,
            ours,
        };
        let failed = match (now < self.trouble_until, script.missing) {
            (true, _) => Some(error("fork", 24, true)),
            (false, true) => Some(error(
                &format!("exec /bin/{}", hook.purpose.word()),
                2,
                false,
            )),
            (false, false) => None,
        };
        if let Some(error) = failed {
            return told(Duration::ZERO, ended(run, hook, Exit::Unknown, Some(error)));
        }
        let around = matches!(
            hook.purpose,
            Purpose::PreStart | Purpose::PostStop | Purpose::Undo | Purpose::Repair
        );
        if around && self.alive(service) > 0 {
            self.doubled = Some(format!("{service}: {hook} beside the program"));
        }
        if self.live_hook(service).is_some() {
            self.doubled = Some(format!("{service}: {hook} beside another command"));
        }
        let pid = self.next_pid();
        let process = HookProcess {
            number: run.number,
            hook,
            pid,
            exit: None,
        };
        self.hooks.insert(service.to_owned(), process);
        let spawned = Event::HookSpawned {
            run,
            hook,
            pid,
            started: 1,
        };
        let mut answers = told(Duration::ZERO, spawned);
        if !script.hangs {
            let what = hook_dies(service, run.number, hook, script.exit);
            answers.push((script.takes, what));
        }
        if script.ends_it {
            answers.push((script.takes, dies(service, run.number, Exit::Code(0))));
        }
        answers
    }

    pub fn signal_hook(
        &mut self,
        service: &str,
        run: RunId,
        hook: Hook,
        signal: Signal,
    ) -> Answers {
        let hangs = self.hook_script(service, hook.purpose).hangs;
        let after = match signal {
            Signal::KILL => Duration::from_millis(1),
            Signal::CONT => return Vec::new(),
            Signal(_) if hangs => return Vec::new(),
            Signal(_) => Duration::from_millis(2),
        };
        let what = hook_dies(service, run.number, hook, Exit::Signal(signal));
        vec![(after, what)]
    }

    /// It ends, whoever watches; true: it lived until now.
    pub fn end_hook(&mut self, service: &str, number: u32, hook: Hook, exit: Exit) -> bool {
        let known = self.hooks.get_mut(service);
        let living =
            |p: &&mut HookProcess| p.number == number && p.hook == hook && p.exit.is_none();
        known.filter(living).is_some_and(|process| {
            process.exit = Some(exit);
            true
        })
    }

    /// What a daemon that returns learns of the command that was under way.
    pub fn found_hook(&self, id: ServiceId, snapshot: &ServiceSnapshot) -> Option<Event> {
        let Live { hook, pid, .. } = snapshot.run.as_ref()?.hooks.live.as_ref()?;
        let run = RunId {
            service: id,
            number: snapshot.number,
        };
        let living = self.live_hook(&snapshot.name);
        match living.filter(|p| p.number == run.number && p.hook == *hook) {
            Some(_) if pid.is_some() => None,
            Some(process) => Some(Event::HookSpawned {
                run,
                hook: *hook,
                pid: process.pid,
                started: 1,
            }),
            // It was never made, or how it ended is not known.
            None => {
                let lost = SpawnError {
                    step: "the daemon ended".into(),
                    errno: 0,
                    ours: true,
                };
                let error = pid.is_none().then_some(lost);
                Some(ended(run, *hook, Exit::Unknown, error))
            }
        }
    }
}

pub fn ended(run: RunId, hook: Hook, exit: Exit, error: Option<SpawnError>) -> Event {
    let failed = error.is_none() && exit != Exit::Code(0) && exit != Exit::Unknown;
    let output = if failed { "no luck" } else { "" };
    let end = HookEnd {
        exit,
        error,
        tree_gone: true,
        output: output.into(),
    };
    Event::HookEnded { run, hook, end }
}

fn hook_dies(service: &str, number: u32, hook: Hook, exit: Exit) -> Happening {
    Happening::HookDies {
        service: service.to_owned(),
        number,
        hook,
        exit,
    }
}

#[cfg(test)]
mod tests {
    use crate::prng::Prng;
    use crate::simulator::World;

    const DEFINITION: &str = "define web\nexec = [\"web\"]\npre_start = [[\"a\"], [\"b\"]]\n\
        stop_exec = \"c\"\npost_stop = [[\"d\"], [\"e\"]]\nreload_exec = \"f\"\n\
        pre_start_timeout_ms = 3000\npost_stop_timeout_ms = 2000\nstop_timeout_ms = 4000\n\
        reload_timeout_ms = 1500\n[retry_policy]\nmax_attempts = \"unlimited\"\n\
        delay_ms = 100\nbackoff = \"fixed\"\nend\nboot\n";

    fn one(lot: &mut Prng, words: &[&str]) -> String {
        words[lot.below(words.len() as u64) as usize].to_owned()
    }

    fn deed(lot: &mut Prng) -> String {
        let purposes = ["pre_start", "stop_exec", "post_stop", "reload_exec"];
        let ways = [
            "well",
            "well",
            "fails 1",
            "takes 700ms",
            "hangs",
            "missing",
            "ends-it",
        ];
        match lot.below(12) {
            0..=2 => format!("hook web {} {}", one(lot, &purposes), one(lot, &ways)),
            3 => one(lot, &["stop web", "stop web --wait"]),
            4 | 5 => "start web".to_owned(),
            6 => "restart web".to_owned(),
            7 => "reload-service web".to_owned(),
            8 => one(lot, &["exit web 1", "dies web SIGKILL", "leaves web 0"]),
            9 => one(
                lot,
                &[
                    "trouble 2s",
                    "starve 3s",
                    "ignores-term web",
                    "stops-in web 20ms",
                ],
            ),
            _ => format!(
                "{} {} {}ms",
                one(lot, &["die", "die", "on spawn die", "on signal die"]),
                lot.below(9),
                lot.below(4_000)
            ),
        }
    }

    /// Never two at once, whatever happens when; and when all is well again it runs, and stops.
    #[test]
    fn commands_by_lot_keep_their_promises() {
        for seed in 0..200 {
            let mut world = World::new(seed);
            let mut lot = Prng::new(seed);
            let mut script = DEFINITION.to_owned();
            for _ in 0..40 {
                let line = deed(&mut lot);
                let pause = lot.below(1_500);
                script.push_str(&format!("{line}\n{pause}ms\n"));
            }
            let (definition, rest) = script.split_once("end\n").expect("two parts");
            let definition = format!("{definition}end\n");
            crate::simulator::play_in(&mut world, &definition).expect("defined");
            for line in rest.lines() {
                // What makes no sense now is what nobody would ask.
                let _ = world.command(line);
            }
            (world.doom, world.armed) = (None, Vec::new());
            world.kernel.heal();
            for line in ["20s", "stops-in web 20ms", "start web", "60s"] {
                let _ = world.command(line);
            }
            let told = world.transcript().join("\n");
            assert_eq!(world.kernel.doubled, None, "seed {seed}\n{told}");
            assert_eq!(world.kernel.alive("web"), 1, "seed {seed}\n{told}");
            assert!(
                world.kernel.live_hook("web").is_none(),
                "seed {seed}\n{told}"
            );
            for line in ["stop web", "20s"] {
                let _ = world.command(line);
            }
            let told = world.transcript().join("\n");
            assert_eq!(world.kernel.alive("web"), 0, "seed {seed}\n{told}");
            let engine = world.engine().expect("the daemon lives");
            let id = engine.find("web").expect("web");
            let status = engine.status(
                id,
                crate::time::Wall {
                    now: world.now,
                    wall_ms: 0,
                },
            );
            assert_eq!(status.state, "inactive", "seed {seed}\n{told}");
        }
    }
}
