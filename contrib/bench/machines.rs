//! What the pure machines cost by themselves: `cargo bench`. The daemon as a whole is measured by
//! `contrib/bench/run`.
//!
//! Each figure is the median of some rounds; one thread, no allocation in the measured part but
//! the machines' own.

use std::hint::black_box;
use std::rc::Rc;
use std::time::{Duration, Instant};
use vitald::config::load;
use vitald::engine::{Boot, Effect, Engine, Event, Loaded};
use vitald::id::Pid;
use vitald::prng::Prng;
use vitald::probe::{Outcome, Report};
use vitald::time::Time;
use vitald::wheel::Wheel;

const ROUNDS: usize = 15;
const TIMERS: u32 = 100_000;

/// Median nanoseconds for one of `operations`, over rounds that each begin with `prepare`.
fn median<S>(operations: u32, mut prepare: impl FnMut() -> S, mut run: impl FnMut(&mut S)) -> f64 {
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let mut subject = prepare();
            let begin = Instant::now();
            run(&mut subject);
            let took = begin.elapsed();
            black_box(subject);
            took
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2].as_nanos() as f64 / f64::from(operations)
}

fn show(what: &str, ns: f64, target: &str) {
    println!("{what:<58} {ns:>8.1} ns   {target}");
}

/// Deadlines within ten seconds, as those of services and probes are.
fn deadlines(random: &mut Prng) -> Vec<Time> {
    (0..TIMERS)
        .map(|_| Time(random.below(10_000_000)))
        .collect()
}

fn full(deadlines: &[Time]) -> Wheel {
    let mut wheel = Wheel::new(Time::ZERO);
    for (key, deadline) in (0..).zip(deadlines) {
        wheel.set(key, *deadline);
    }
    wheel
}

/// The engine with services that always run and always pass, and a driver that does the least.
struct Host {
    engine: Engine,
    now: Time,
    events: u64,
    effects: Vec<Effect>,
    answers: Vec<Event>,
}

impl Host {
    /// So many services, each with one probe of this interval, all started.
    fn new(services: u32, interval_ms: u32) -> Host {
        let text = format!(
            "exec = \"/bin/web\"\n[[probe]]\ntype = \"tcp\"\ntarget = \"127.0.0.1:80\"\n\
             interval_ms = {interval_ms}\ntimeout_ms = 50\n"
        );
        let definitions = (0..services).map(|n| {
            let name = format!("web{n}");
            let read = load::read(&name, &format!("{name}.toml"), text.as_bytes());
            Loaded {
                name: name.into(),
                source: "bench".into(),
                definition: read.definition.map(Rc::new).ok_or("no definition".into()),
            }
        });
        let boot = Boot {
            definitions: definitions.collect(),
            ..Boot::default()
        };
        let mut host = Host {
            engine: Engine::new(Time::ZERO, 1),
            now: Time::ZERO,
            events: 0,
            effects: Vec::new(),
            answers: Vec::new(),
        };
        host.turn(vec![Event::Boot(Box::new(boot))]);
        host
    }

    /// One turn of the loop, as the reactor makes it.
    fn turn(&mut self, ready: Vec<Event>) {
        self.answers = ready;
        self.handle(Event::Turn);
        loop {
            for event in std::mem::take(&mut self.answers) {
                self.handle(event);
            }
            self.handle(Event::Timers);
            if self.answers.is_empty() {
                break;
            }
        }
    }

    fn handle(&mut self, event: Event) {
        self.events += 1;
        self.engine.handle(self.now, event, &mut self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Spawn { run, .. } => {
                    let pid = Pid(run.service.0 as i32 + 2);
                    let started = 1;
                    self.answers.push(Event::Spawned { run, pid, started });
                    self.answers.push(Event::Executed { run });
                }
                Effect::Check { check, .. } => {
                    let report = Report {
                        outcome: Outcome::Pass,
                        latency: Duration::from_micros(200),
                        output: "".into(),
                    };
                    self.answers.push(Event::ProbeFinished { check, report });
                }
                other => {
                    black_box(other);
                }
            }
        }
    }

    /// Lets time pass from one due thing to the next.
    fn run_until(&mut self, end: Time) {
        while let Some(at) = self.engine.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.turn(Vec::new());
        }
        self.now = end;
    }
}

fn engine() {
    println!("\nengine, all probes pass at once");
    let begin = Instant::now();
    let mut host = Host::new(1_000, 100);
    let (before, begin_running) = (host.events, Instant::now());
    let started = begin_running - begin;
    host.run_until(Time::from_millis(60_000));
    let events = host.events - before;
    let rate = events as f64 / begin_running.elapsed().as_secs_f64() / 1e6;
    let what = "1,000 services read and started, ms";
    println!("{what:<58} {:>8.1}", started.as_secs_f64() * 1e3);
    let what = "1,000 services probed at 100 ms: million events/s";
    println!("{what:<58} {rate:>8.2}      at least 2");

    let mut host = Host::new(20, 10_000);
    let begin = Instant::now();
    host.run_until(Time::from_millis(24 * 3600 * 1000));
    let what = format!("a day of 20 services, {} events: ms", host.events);
    let took = begin.elapsed().as_secs_f64() * 1e3;
    println!("{what:<58} {took:>8.1}      at most 100");
}

fn main() {
    wheel();
    engine();
}

fn wheel() {
    let random = &mut Prng::new(1);
    let first = deadlines(random);
    let again = deadlines(random);
    // In no order, so that memory is not walked in sequence.
    let mut keys: Vec<u32> = (0..TIMERS).collect();
    for n in (1..keys.len()).rev() {
        keys.swap(n, random.below(n as u64 + 1) as usize);
    }

    println!("wheel, {TIMERS} timers within 10 s");
    let replace = |wheel: &mut Wheel| {
        for key in &keys {
            wheel.set(*key, again[*key as usize]);
        }
    };
    let ns = median(TIMERS, || full(&first), replace);
    show("set, replacing", ns, "at most 50");
    let cancel = |wheel: &mut Wheel| {
        for key in &keys {
            black_box(wheel.cancel(*key));
        }
    };
    let ns = median(TIMERS, || full(&first), cancel);
    show("cancel", ns, "at most 50");
    // A probe's life: its timeout is set, then cancelled by the answer; the next expiry is asked
    // for in each turn.
    let probe = |wheel: &mut Wheel| {
        for key in &keys {
            wheel.set(*key, again[*key as usize]);
            black_box(wheel.next());
        }
    };
    let ns = median(TIMERS, || full(&first), probe);
    show("set and next", ns, "");
    let passing = |wheel: &mut Wheel| {
        for _ in &keys {
            wheel.set(TIMERS, Time(1));
            black_box(wheel.next());
            wheel.cancel(TIMERS);
            black_box(wheel.next());
        }
    };
    let far: Vec<Time> = first
        .iter()
        .map(|at| *at + Duration::from_secs(3600))
        .collect();
    let ns = median(TIMERS, || full(&far), passing);
    show("set, next, cancel, next of one before all others", ns, "");
    let pop = |wheel: &mut Wheel| {
        let mut now = Time::ZERO;
        while let Some(at) = wheel.next() {
            now = now.max(at);
            while let Some(due) = wheel.pop(now) {
                black_box(due);
            }
        }
    };
    let ns = median(TIMERS, || full(&first), pop);
    show("next and pop, all in turn, cascades included", ns, "");
}
