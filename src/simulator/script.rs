//! Scenarios in words: one command a line, played against a world.
//!
//! ```text
//! define web            # a definition in TOML follows, up to `end`
//! boot
//! 30s                   # let time pass
//! set web               # an operator's, given over the socket: as `define`
//! hang web              # this run stays mute from now on (`for-good`: every run)
//! stop web; exit web 1  # at the same instant, in this order
//! ```

use super::World;
use super::doom::{Armed, Doom, Moment};
use super::hooks::HookScript;
use super::kernel::{Disk, Mood, PidFile, dies};
use super::receiver::Receiver;
use crate::config::{self, names};
use crate::engine::{BootGuard, Command, Event, Given, Loaded, SpawnError, Terms};
use crate::exit::{Exit, Signal};
use crate::id::RunId;
use crate::probe::{Reason, Trouble};
use crate::service::hook::Purpose;
use crate::service::notify::{self, Notice};
use std::rc::Rc;
use std::time::Duration;

/// Plays a script; the transcript, or the line that could not be understood.
pub fn play(script: &str) -> Result<String, String> {
    let mut world = World::new(1);
    play_in(&mut world, script)?;
    if let Some(words) = &world.kernel.doubled {
        return Err(format!("two at once: {words}"));
    }
    Ok(world.transcript.join("\n") + "\n")
}

/// Plays a script in a world that the caller has made.
pub fn play_in(world: &mut World, script: &str) -> Result<(), String> {
    let mut lines = script.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line
            .split_once('#')
            .map_or(line, |(before, _)| before)
            .trim();
        if line == "settings" {
            let text = lines.by_ref().map(|(_, line)| line);
            let text: Vec<&str> = text.take_while(|l| l.trim() != "end").collect();
            world.configure(&text.join("\n"));
            continue;
        }
        if let Some((verb @ ("define" | "set"), name)) = line.split_once(' ') {
            let text: Vec<&str> = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|l| l.trim() != "end")
                .collect();
            let (name, text) = (name.trim(), text.join("\n"));
            match verb {
                "define" if names::is_template(name) => world.define_template(name, &text),
                "define" => world.define(loaded_file(name, &text)),
                _ => world.set(given(name, &text)?),
            }
            continue;
        }
        for command in line
            .split(';')
            .map(str::trim)
            .filter(|command| !command.is_empty())
        {
            world
                .command(command)
                .map_err(|why| format!("line {}: {why}", number + 1))?;
        }
    }
    Ok(())
}

pub(super) fn loaded_file(name: &str, text: &str) -> Loaded {
    loaded(name, &format!("services/{name}.toml"), text)
}

pub(super) fn loaded(name: &str, source: &str, text: &str) -> Loaded {
    let outcome = config::load::read(name, source, text.as_bytes());
    let problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
    let definition = outcome
        .definition
        .map(Rc::new)
        .ok_or_else(|| problems.join("\n").into());
    Loaded {
        name: name.into(),
        source: source.into(),
        definition,
    }
}

fn given(name: &str, text: &str) -> Result<Given, String> {
    let source = names::given_source(name, text);
    let outcome = config::load::read(name, &source, text.as_bytes());
    let definition = outcome.definition;
    Ok(Given {
        name: name.into(),
        source: source.into(),
        definition: definition.ok_or_else(|| format!("{name}: no usable definition"))?,
        text: text.into(),
    })
}

impl World {
    /// What `vitald.toml` says of alerts.
    pub(super) fn configure(&mut self, text: &str) {
        let (settings, problems) = config::settings::read("vitald.toml", text.as_bytes());
        self.settings_problem = problems
            .iter()
            .find(|problem| problem.is_error())
            .map(|problem| problem.to_string().into());
        for problem in problems {
            self.say(&problem.to_string());
        }
        self.alerts = settings.alerts.iter().map(|a| a.rule.clone()).collect();
    }

    /// As `info` does.
    fn show_alerts(&mut self) {
        let wall = self.wall();
        let alerts = self
            .engine
            .as_ref()
            .map(|engine| engine.daemon(wall).alerts);
        for alert in alerts.into_iter().flatten() {
            let trouble = alert
                .trouble
                .map_or(String::new(), |why| format!(", {why}"));
            self.say(&format!(
                "= alert {}: {} sent, {} given up, {} dropped, {} withheld, {} waiting{trouble}",
                alert.name, alert.sent, alert.failed, alert.dropped, alert.withheld, alert.waiting
            ));
        }
    }

    /// An operator's `set`, if it can be used.
    pub(super) fn give(&mut self, name: &str, text: &str) {
        if let Ok(given) = given(name, text) {
            self.set(given);
        }
    }

    /// One command; those between two passages of time happen in the same turn.
    pub fn command(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let rest = words.get(1..).unwrap_or_default();
        let service = rest.first().copied().unwrap_or_default();
        if let (1, Ok(length)) = (words.len(), humantime::parse_duration(words[0])) {
            self.run_for(length);
            return Ok(());
        }
        match words[0] {
            // The request comes in the same turn as the next thing that happens, after or before it.
            "with-next" => {
                self.approach_next();
                self.command(&rest.join(" "))?;
                self.run_for(Duration::ZERO);
            }
            "before-next" => {
                self.approach_next();
                let first = self.caused;
                self.caused = 0;
                let done = self.command(&rest.join(" "));
                self.caused = first;
                done?;
                self.run_for(Duration::ZERO);
            }
            "main" => self.main = Some(service.into()),
            "host-watchdog" => self.watchdogs.device = Some(duration(service)?),
            // So many failed, so many may; how long all must be well.
            "reboots" => self.reboots = Some(number(&[service])?),
            "boot-guard" => {
                self.guard = Some(BootGuard {
                    failed: number(&rest[..1])?,
                    attempts: number(&rest[1..2])?,
                    ok_after: duration(rest[2])?,
                });
            }
            "parent-watchdog" => self.watchdogs.parent = Some(duration(service)?),
            "max-probes" => self.max_checks = service.parse().ok(),
            "shutdown-timeout" => self.shutdown_timeout = Some(duration(service)?),
            // So many within so long; 0: as many as there are.
            "restart-limit" => {
                self.limits.count = number(&rest[..1])?;
                self.limits.per = duration(rest.get(1).copied().unwrap_or("30s"))?;
            }
            // So many, so many percent, within so long; nothing: no incidents.
            "storm" => {
                let part = |at: usize| rest.get(at).map_or(Ok(0), |_| number(&rest[at..=at]));
                (self.limits.services, self.limits.percent) = (part(0)?, part(1)?);
                self.limits.within = duration(rest.get(2).copied().unwrap_or("60s"))?;
            }
            "alert-rules" => self.choose_alerts(number(rest)?),
            "boot" => self.boot(),
            "daemon-dies" => self.daemon_dies(),
            // As by `upgrade`: notify sockets, and what is in them, go on.
            "hands-over" => {
                let sockets = self.kernel.sockets.clone();
                self.daemon_dies();
                self.hands_over = true;
                self.kernel.sockets = sockets;
                self.kernel.daemon_let_go(true);
            }
            "undefine" => self.undefine(service),
            "reload" => {
                let at = rest.iter().position(|word| *word == "--confirm");
                let confirm = at.map(|at| duration(rest.get(at + 1).copied().unwrap_or_default()));
                self.reload(Terms {
                    dry_run: rest.contains(&"--dry-run"),
                    strict: rest.contains(&"--strict"),
                    confirm: confirm.transpose()?,
                    ..Terms::default()
                });
            }
            "starve" => self.starve(duration(service)?),
            "on" => self.arm(service, rest)?,
            "die" | "power-cut" => self.doom(&words)?,
            "wall-jumps" => {
                let by = duration(service)?.as_millis() as u64;
                let ahead = &mut self.kernel.wall_ahead_ms;
                *ahead = match rest.first() {
                    Some(&"back") => ahead.saturating_sub(by),
                    _ => *ahead + by,
                };
                let wall_ms = self.wall().wall_ms;
                self.post(Duration::ZERO, Event::ClockSet(wall_ms));
            }
            "receiver" => {
                self.kernel.receiver = match service {
                    "takes" => Receiver::Takes,
                    "refuses" => Receiver::Refuses,
                    "hangs" => Receiver::Hangs,
                    _ => return Err("a receiver takes, refuses or hangs".to_owned()),
                }
            }
            "alert-test" => {
                let name = Some(service).filter(|name| !name.is_empty());
                let name = name.map(Into::into);
                self.request(line, Command::AlertTest { name }, false);
            }
            "alerts" => self.show_alerts(),
            "trouble" => self.kernel.trouble_until = self.now + duration(service)?,
            // The host is short of processors for so long; `pressure 60s 45`: by so much, in percent.
            "pressure" => {
                let share = rest.get(1).map_or(Ok(93), |_| number(&rest[1..]))?;
                self.kernel.pressed_until = self.now + duration(service)?;
                self.kernel.pressure = 100 * share;
            }
            "suspend" => {
                let slept = duration(service)?;
                self.kernel.wall_ahead_ms += slept.as_millis() as u64;
                self.post(Duration::ZERO, Event::Resumed(slept));
            }
            "copies" => self.copies(service, number(rest.get(1..).unwrap_or_default())?)?,
            "status" if service.is_empty() => self.show_storm()?,
            "status" => self.show(service)?,
            "why" => self.show_next(service)?,
            "disk" => {
                self.kernel.disk = match service {
                    "good" => Disk::Good,
                    "full" => Disk::Full,
                    "stalled" => Disk::Stalled,
                    "eio" => Disk::Unwritable,
                    "sync-fails" => Disk::Unsynced,
                    other => {
                        let words = "a disk is good, full, stalled, eio or sync-fails";
                        return Err(format!("{words}, not {other}"));
                    }
                };
                self.retry_writing();
            }
            "start" | "stop" | "once" | "restart" | "reset" | "pin" | "unpin"
            | "reload-service" | "signal" | "delete" | "probe" | "hold" | "release" | "confirm"
            | "revert" | "shutdown" => {
                self.verb(&words)?;
            }
            _ => self.behave(&words)?,
        }
        Ok(())
    }

    /// `on spawn stop web`: in the turn of the next such effect.
    fn arm(&mut self, moment: &str, words: &[&str]) -> Result<(), String> {
        let moment = Moment::parse(moment).ok_or_else(|| format!("on {moment}: on what?"))?;
        let command = words.get(1..).unwrap_or_default().join(" ");
        self.armed.push(Armed { moment, command });
        Ok(())
    }

    /// `die 2 10s`: the daemon is killed after two of the next effects, and comes back 10 s later.
    fn doom(&mut self, words: &[&str]) -> Result<(), String> {
        self.doom = Some(Doom {
            after: number(&words[1..])?,
            down: duration(words.get(2).copied().unwrap_or("0s"))?,
            reboot: words[0] == "power-cut",
        });
        Ok(())
    }

    fn verb(&mut self, words: &[&str]) -> Result<(), String> {
        let line = words.join(" ");
        let flags: Vec<&str> = words
            .iter()
            .copied()
            .filter(|w| w.starts_with("--"))
            .collect();
        let wait = flags.contains(&"--wait");
        let argument = words.get(1).copied().filter(|w| !w.starts_with("--"));
        let service = |world: &World| world.id(argument.unwrap_or_default());
        let known = |name: &str| {
            let engine = self.engine.as_ref();
            engine.is_some_and(|e| e.find(name).is_some_and(|id| e.is_listed(id)))
        };
        let name = argument.filter(|name| !known(name)).unwrap_or_default();
        let new = match words[0] {
            "start" | "once" => self.new_instance(name, words[0] == "once"),
            _ => None,
        };
        if let Some(new) = new {
            self.request(&line, Command::Instance(new), wait);
            return Ok(());
        }
        let command = match words[0] {
            "start" if flags.contains(&"--pin") => Command::StartPinned {
                service: service(self)?,
                with_requires: flags.contains(&"--with-requires"),
            },
            "start" => Command::Start {
                service: service(self)?,
                with_requires: flags.contains(&"--with-requires"),
            },
            "stop" if flags.contains(&"--until-boot") => Command::StopForNow {
                service: service(self)?,
            },
            "stop" => Command::Stop {
                service: service(self)?,
            },
            "once" => Command::Once {
                service: service(self)?,
            },
            "restart" => Command::Restart {
                service: service(self)?,
            },
            "reload-service" => Command::Reload {
                service: service(self)?,
            },
            "reset" => Command::Reset {
                service: service(self)?,
            },
            "pin" => Command::Pin {
                service: service(self)?,
            },
            "unpin" => Command::Unpin {
                service: service(self)?,
            },
            "delete" => Command::Delete {
                service: service(self)?,
            },
            "probe" => Command::ProbeRun {
                service: service(self)?,
                probe: None,
            },
            "signal" => {
                let signal = words.get(2).and_then(|word| Signal::parse(word));
                Command::Signal {
                    service: service(self)?,
                    signal: signal.ok_or("which signal?")?,
                }
            }
            "hold" => Command::Hold {
                length: argument.map(duration).transpose()?,
            },
            "release" => Command::Release,
            "confirm" => Command::Confirm,
            "revert" => Command::Revert,
            _ => Command::Shutdown {
                keep: flags.contains(&"--keep"),
            },
        };
        self.request(&line, command, wait);
        Ok(())
    }

    /// What the world does to a service.
    fn behave(&mut self, words: &[&str]) -> Result<(), String> {
        let &[what, service, ref rest @ ..] = words else {
            return Err(format!("what is {}?", words.join(" ")));
        };
        let for_good = rest.last() == Some(&"for-good");
        let rest = if for_good {
            &rest[..rest.len() - 1]
        } else {
            rest
        };
        match what {
            "answer" => self.mood(service, rest, Mood::Answer, for_good),
            "hang" => self.mood(service, rest, Mood::Mute, for_good),
            "refuse" => self.mood(service, rest, Mood::Fail(Reason::Refused), for_good),
            "empty" => self.mood(service, rest, Mood::Fail(Reason::EmptyReply), for_good),
            "cannot-ask" => self.mood(service, rest, Mood::Trouble(Trouble::CannotFork), true),
            "slow-start" => self.kernel.script(service).ready_after = duration(rest[0])?,
            "hangs-after" => self.kernel.script(service).hangs_after = Some(duration(rest[0])?),
            "stuck" => {
                let until = self.now + duration(rest[0])?;
                self.kernel.stick(service, until);
            }
            "hungry" => self.kernel.script(service).hungry = true,
            "forks-after" => self.kernel.script(service).forks_after = duration(rest[0])?,
            "pid-file" => {
                self.kernel.script(service).pid_file = match rest {
                    ["good"] => PidFile::Good,
                    ["missing"] => PidFile::Missing,
                    ["wrong"] => PidFile::Wrong,
                    _ => return Err("a pid-file is good, missing or wrong".to_owned()),
                };
            }
            "connect" => self.connect(service)?,
            "burns" => self.kernel.script(service).burns = rest.first() != Some(&"no-more"),
            "deaf" => self.kernel.script(service).deaf = rest.first() != Some(&"no-more"),
            "listen-error" => {
                let error = |errno, ours| SpawnError {
                    step: "listen on tcp:80".into(),
                    errno,
                    ours,
                };
                self.kernel.script(service).listen_error = match rest {
                    ["in-use"] => Some(error(98, false)),
                    ["files"] => Some(error(24, true)),
                    ["none"] => None,
                    _ => return Err("listen-error: in-use, files or none".to_owned()),
                };
            }
            "silent" => self.kernel.script(service).silent = true,
            "says" => self.speaks(service, rest)?,
            "stored" => {
                let (service, held) = (self.id(service)?, number(rest)?);
                self.post(Duration::ZERO, Event::Stored { service, held });
            }
            "unkillable" => self.kernel.script(service).unkillable = true,
            "ignores-term" => self.kernel.script(service).stops_in = None,
            "dies-in" => self.kernel.script(service).dies_in = duration(rest[0])?,
            "flaps" => {
                let down = rest.get(1).copied().unwrap_or_default();
                self.kernel.script(service).flaps = Some((duration(rest[0])?, duration(down)?));
            }
            "bad-runs" => self.kernel.script(service).bad_runs = number(rest)?,
            "leans-on" => {
                let others = rest.iter().map(|other| (*other).to_owned());
                self.kernel.script(service).leans_on.extend(others);
            }
            "stops-in" => self.kernel.script(service).stops_in = Some(duration(rest[0])?),
            "leaves" => self.kernel.script(service).leaves = Some(number(rest)?),
            "exit" => self.dies(service, Exit::Code(number(rest)?))?,
            "dies" => {
                let signal = rest.first().and_then(|word| Signal::parse(word));
                self.dies(service, Exit::Signal(signal.ok_or("of which signal?")?))?;
            }
            "exits-after" => {
                let after = duration(rest[0])?;
                let code = rest.get(1).map_or(Ok(1), |_| number(&rest[1..]))?;
                self.kernel.script(service).exits = Some((after, Exit::Code(code)));
            }
            "spawn-error" => {
                let (step, errno, ours) = match rest {
                    ["exec"] => (format!("exec /bin/{service}"), 2, false),
                    ["fork"] => ("fork".to_owned(), 11, true),
                    ["none"] => {
                        self.kernel.script(service).spawn_error = None;
                        return Ok(());
                    }
                    _ => return Err("spawn-error: exec, fork or none".to_owned()),
                };
                let error = SpawnError {
                    step: step.into(),
                    errno,
                    ours,
                };
                self.kernel.script(service).spawn_error = Some(error);
            }
            "looked-at" => {
                let script = self.kernel.script(service);
                match rest {
                    ["never"] => script.looked_at = None,
                    ["in", time] => script.looked_at = Some(duration(time)?),
                    ["and", found @ ..] => script.stuck_on = Some(found.join(" ")),
                    _ => return Err("looked-at NAME never, in TIME or and WORDS".to_owned()),
                }
            }
            "hook" => self.hook(service, rest)?,
            "spawn-fails" => self.spawn_fails(service)?,
            "late-answer" | "late-exit" | "late-spawn" => {
                self.late(what, service, number(rest)?)?;
            }
            other => return Err(format!("what is {other}?")),
        }
        Ok(())
    }

    /// `says web READY=1 STATUS=up`: the youngest run's process sends it.
    fn speaks(&mut self, service: &str, words: &[&str]) -> Result<(), String> {
        let number = self.kernel.youngest_number(service);
        let message = notify::parse(words.join("\n").as_bytes());
        let mut says = message.notices;
        says.extend(message.main.map(|pid| Notice::Main { pid, started: 1 }));
        let run = RunId {
            service: self.id(service)?,
            number: number.ok_or("no such process")?,
        };
        let says = says.into();
        self.post(Duration::ZERO, Event::Notified { run, says });
        Ok(())
    }

    /// `hook web pre_start fails 3`
    fn hook(&mut self, service: &str, words: &[&str]) -> Result<(), String> {
        let &[purpose, what, ref rest @ ..] = words else {
            return Err("hook SERVICE pre_start fails 3".to_owned());
        };
        let purpose = Purpose::parse(purpose).ok_or_else(|| format!("what is {purpose}?"))?;
        let script = self.kernel.hook_script(service, purpose);
        match what {
            "fails" => script.exit = Exit::Code(number(rest)?),
            "takes" => script.takes = duration(rest.first().copied().unwrap_or("5ms"))?,
            "hangs" => script.hangs = true,
            "ends-it" => script.ends_it = true,
            "missing" => script.missing = true,
            "well" => *script = HookScript::default(),
            other => return Err(format!("what is {other}?")),
        }
        Ok(())
    }

    fn mood(&mut self, service: &str, probe: &[&str], mood: Mood, for_good: bool) {
        match (probe.first(), for_good) {
            (None, false) => {
                if let Some(process) = self.kernel.youngest(service) {
                    process.mood = Some(mood);
                }
            }
            (probe, _) => {
                let probe = probe.copied().unwrap_or_default().to_owned();
                if let Some(process) = self.kernel.youngest(service) {
                    process.mood = None;
                }
                self.kernel.script(service).moods.insert(probe, mood);
            }
        }
    }

    fn dies(&mut self, service: &str, exit: Exit) -> Result<(), String> {
        let number = self.kernel.youngest_number(service);
        let number = number.ok_or("no such process")?;
        self.happens(Duration::ZERO, dies(service, number, exit));
        Ok(())
    }

    /// The process was made, and only now we lack what its program needs: it is no more.
    fn spawn_fails(&mut self, service: &str) -> Result<(), String> {
        let number = self.kernel.youngest_number(service);
        let number = number.ok_or("no such process")?;
        self.kernel.end(service, number, Exit::Code(127));
        let run = RunId {
            service: self.id(service)?,
            number,
        };
        let error = SpawnError {
            step: "fork".into(),
            errno: 11,
            ours: true,
        };
        self.post(Duration::ZERO, Event::SpawnFailed { run, error });
        Ok(())
    }

    fn show(&mut self, service: &str) -> Result<(), String> {
        self.run_for(Duration::ZERO);
        let id = self.id(service)?;
        let alive = self.kernel.alive(service);
        let wall = self.wall();
        let Some(engine) = self.engine() else {
            return Err("the daemon is dead".to_owned());
        };
        let status = engine.status(id, wall);
        let max = status
            .max_attempts
            .map_or("unlimited".to_owned(), |max| max.to_string());
        let mut line = format!("= {service} {}", status.state);
        if let Some(phase) = &status.phase {
            line.push_str(&format!(" ({phase})"));
        }
        if status.listening {
            line.push_str(" (listening)");
        }
        if let Some(health) = &status.health {
            line.push_str(&format!(" ({health})"));
        }
        line.push_str(&format!(
            ", wanted {}, run {}, attempts {}/{max}",
            status.wanted, status.run, status.attempts
        ));
        if let Some(at_boot) = &status.at_boot {
            line.push_str(&format!(", at boot {at_boot}"));
        }
        if let Some(detail) = &status.detail {
            line.push_str(&format!(", {detail}"));
        }
        if let Some(gate) = &status.gate {
            line.push_str(&format!(", gate {}: {}", gate.verdict, gate.reason));
        }
        if let (Some(next), Some(ms)) = (&status.next, status.next_in_ms) {
            line.push_str(&format!(", next {next} in {ms} ms"));
        }
        if status.shadow_attempts > 0 {
            let times = status.shadow_attempts;
            line.push_str(&format!(", would have been restarted {times} times"));
        }
        for probe in status.probes.iter().filter(|p| p.shadow_attempts > 0) {
            let (name, times) = (&probe.name, probe.shadow_attempts);
            line.push_str(&format!(", {name} would have restarted it {times} times"));
        }
        if let Some(text) = &status.status_text {
            line.push_str(&format!(", \"{text}\""));
        }
        if let Some(says) = status.says.as_ref().filter(|_| status.state != "starting") {
            line.push_str(&format!(", says {says}"));
        }
        if let Some(watchdog) = &status.watchdog {
            line.push_str(&format!(", watchdog {}", watchdog.state));
            if let Some(ms) = watchdog.due_in_ms {
                line.push_str(&format!(" for {ms} ms"));
            }
        }
        if status.stored_fds > 0 {
            line.push_str(&format!(", {} fds kept", status.stored_fds));
        }
        if let Some(socket) = status.sockets.first() {
            let open = if socket.open { "open" } else { "closed" };
            line.push_str(&format!(", {} {open}", socket.listen));
        }
        let stale = engine.daemon(wall).stale_events;
        line.push_str(&format!(", {alive} alive, {stale} stale"));
        self.say(&line);
        Ok(())
    }

    fn show_next(&mut self, service: &str) -> Result<(), String> {
        self.run_for(Duration::ZERO);
        let id = self.id(service)?;
        let wall = self.wall();
        let lines = self
            .engine()
            .map(|engine| engine.why(id, wall).next)
            .unwrap_or_default();
        for line in lines {
            self.say(&format!("= {line}"));
        }
        Ok(())
    }
}

fn duration(word: &str) -> Result<Duration, String> {
    humantime::parse_duration(word).map_err(|why| format!("{word}: {why}"))
}

fn number<T: std::str::FromStr>(words: &[&str]) -> Result<T, String> {
    let word = words.first().copied().unwrap_or_default();
    word.parse()
        .map_err(|_| format!("{word} is no number that fits here"))
}
