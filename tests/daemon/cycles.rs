//! The daemon is killed, upgraded and made to panic at random instants, with real processes and an
//! operator who goes on asking: nothing runs twice, nothing acknowledged is forgotten, no budget
//! is refilled. Conformance 29.
//!
//! VITALD_CYCLES says how often (default 30), VITALD_SEED where to begin.

use super::client::Client;
use super::host::{Host, alive, is_up, until};
use super::takeover::stumbling;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use vitald::engine::status::Status;
use vitald::prng::Prng;

/// What the test knows of a service, from answers that it had.
#[derive(Default)]
struct Known {
    /// What was acknowledged as durable; None while an answer is outstanding.
    wanted: Option<&'static str>,
    run: u32,
    attempts: u32,
}

struct Cycles {
    host: Host,
    prng: Prng,
    known: BTreeMap<&'static str, Known>,
}

/// Steady, crashing, hanging, deaf, and one who is only there to be stopped and started.
const NAMES: [&str; 6] = ["steady", "crash", "hang", "deaf", "often", "needs"];

fn define(host: &Host) {
    // So long that nothing is refunded by time.
    let policy = "[retry_policy]\nmax_attempts = 'unlimited'\ndelay_ms = 20\nbackoff = 'fixed'\n\
                  stability_period_ms = 3600000\n";
    host.define("steady", "exec = ['sleep', '1000']\n");
    host.define("crash", &format!("exec = ['sleep', '0.03']\n{policy}"));
    let hang = host.server("hang");
    let probe = hang
        .probe("")
        .replace("interval_ms = 150", "interval_ms = 40");
    let probe = probe.replace("timeout_ms = 150", "timeout_ms = 40");
    let exec = hang.exec();
    host.define(
        "hang",
        &format!("{exec}start_timeout_ms = 400\n{policy}{probe}"),
    );
    for run in (0..4000).step_by(2) {
        hang.tell(run, "mute");
    }
    host.define(
        "deaf",
        "exec = ['sh', '-c', 'trap \"\" TERM; while :; do sleep 1; done']\n\
         stop_timeout_ms = 60\n",
    );
    host.define("often", "exec = ['sleep', '1000']\n");
    host.define("needs", "exec = ['sleep', '1000']\nrequires = ['steady']\n");
}

impl Cycles {
    /// The main processes that say they are this service's: `VITALD_RUN=name/N`, and its direct
    /// child of the shell is not counted.
    fn mains(&self, name: &str) -> Vec<(i32, String)> {
        let mark = format!("VITALD_RUN={name}/");
        let mut mains = Vec::new();
        for pid in self.host.processes() {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let run = environ
                .split(|byte| *byte == 0)
                .filter_map(|entry| std::str::from_utf8(entry).ok())
                .find(|entry| entry.starts_with(&mark));
            // A session leader is who was spawned; the others are its children.
            let leads = nix::unistd::getsid(Some(Pid::from_raw(pid)))
                .is_ok_and(|session| session.as_raw() == pid);
            if let Some(run) = run.filter(|_| leads && alive(pid)) {
                mains.push((pid, run.to_owned()));
            }
        }
        mains
    }

    fn check(&mut self, moment: &str) {
        for name in NAMES {
            let mains = self.mains(name);
            assert!(mains.len() <= 1, "{moment}: {name} runs twice: {mains:?}");
            let status = self.host.status(name);
            let known = self.known.entry(name).or_default();
            assert!(
                status.run >= known.run && status.attempts >= known.attempts,
                "{moment}: {name} forgot: run {} of {}, attempts {} of {}",
                status.run,
                known.run,
                status.attempts,
                known.attempts
            );
            (known.run, known.attempts) = (status.run, status.attempts);
            if let Some(wanted) = known.wanted {
                assert_eq!(status.wanted, wanted, "{moment}: {name}: {status:#?}");
            }
        }
    }

    /// A verb, its answer perhaps not waited for.
    fn ask(&mut self) {
        let name = NAMES[self.prng.below(NAMES.len() as u64) as usize];
        let verb = ["stop", "start", "restart"][self.prng.below(3) as usize];
        // An operator's start and restart refund: then attempts begin at none.
        let known = self.known.entry(name).or_default();
        let goes = if verb == "stop" { "stop" } else { "start" };
        if verb != "stop" {
            known.attempts = 0;
        }
        known.wanted = None;
        let mut client = self.host.client();
        client.ask(&format!("service.{verb}"), &json!({"name": name}));
        let waits = self.prng.below(3) > 0;
        if waits && let Some((_, Ok(answer))) = client.answer() {
            // The scribe has it, or it was the journal of what is so that remembers it.
            let durable = answer["durable"].as_bool() != Some(false);
            if durable {
                self.known.entry(name).or_default().wanted = Some(goes);
            }
        }
    }

    fn disturb(&mut self) -> &'static str {
        let panics = std::env::var_os("VITALD_BIN").is_none() && cfg!(debug_assertions);
        match self.prng.below(8) {
            0 => {
                let mut client = self.host.client();
                client.ask("system.upgrade", &json!({}));
                client.answer();
                "upgrade"
            }
            2 => {
                // It can take over as far as it can tell, and then fails: the one before is back.
                let mut client = self.host.client();
                let program = stumbling(&self.host, "--runtime-dir /dev/null/none");
                client.ask("system.upgrade", &json!({"program": program}));
                client.answer();
                "an upgrade that failed"
            }
            1 if panics => {
                kill(Pid::from_raw(self.host.pid()), Signal::SIGUSR2).expect("kill");
                "panic"
            }
            _ => {
                self.host.kill();
                self.host.start();
                "kill -9"
            }
        }
    }

    fn answers(&self) {
        until("the daemon answers", || {
            Client::connect(&self.host.socket()).is_ok_and(|mut client| {
                client.ask("system.ping", &json!({}));
                client.answer().is_some()
            })
        });
    }
}

#[test]
fn a_daemon_that_dies_all_the_time_loses_and_doubles_nothing() {
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
        given.unwrap_or(default)
    };
    let (cycles, seed) = (number("VITALD_CYCLES", 30), number("VITALD_SEED", 1));
    let mut host = Host::new("cycles");
    host.set_env("VITALD_TEST_PANIC", "1");
    host.set_env("VITALD_LOG", "warn");
    define(&host);
    host.start();
    let mut world = Cycles {
        host,
        prng: Prng::new(seed),
        known: BTreeMap::new(),
    };
    for cycle in 0..cycles {
        for _ in 0..world.prng.below(3) {
            world.ask();
        }
        // The random instant: there is no event to wait for.
        std::thread::sleep(Duration::from_micros(world.prng.below(60_000)));
        let how = world.disturb();
        world.answers();
        world.check(&format!("seed {seed}, cycle {cycle}, after {how}"));
    }
    for name in NAMES {
        world.host.call("service.start", &json!({"name": name}));
        let known = world.known.entry(name).or_default();
        (known.wanted, known.attempts) = (Some("start"), 0);
    }
    let up = |s: &Status| is_up(s) || (s.name == "crash" && s.state == "backoff");
    for name in NAMES {
        world.host.until(name, "up in the end", up);
    }
    world.check("in the end");
}
