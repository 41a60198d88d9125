//! What shall happen to services, in a few readable lines.
//!
//! ```text
//! at 30s hang              # this run answers no more
//! at 90s answer
//! exit 1 every 5h until 20h; hang for good 10m after each start
//! at 2h db: die SIGKILL    # another service
//! for 24h
//! ```
//!
//! Only reading. Invariant: a statement that was read can be carried out.

use super::super::kernel::Mood;
use crate::config::hints::{nearest, shorten};
use crate::exit::{Exit, Signal};
use crate::limits::{SIMULATED_STATEMENTS, SIMULATED_TIME};
use crate::probe::{Reason, Trouble};
use crate::time::{Time, spoken};
use std::time::Duration;

/// Simulated when nothing is said.
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    pub statements: Vec<Statement>,
    pub length: Duration,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Statement {
    /// None: the one that is asked about.
    pub service: Option<Box<str>>,
    pub when: When,
    pub deed: Deed,
    /// The deed as it was written.
    pub words: Box<str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// From the beginning, before anything is started.
    Always,
    At(Time),
    Every {
        every: Duration,
        from: Time,
        until: Time,
    },
    /// So long after the birth of each run that is born from then until then, if it lives so long.
    AfterStart {
        after: Duration,
        from: Time,
        until: Time,
    },
}

#[derive(Clone, PartialEq, Debug)]
pub enum Deed {
    /// How probes, and users, are answered: by this run, or by all from now on.
    Mood {
        mood: Mood,
        for_good: bool,
    },
    /// All is well again.
    Answer,
    Dies(Exit),
    SlowStart(Duration),
    /// None: it ignores the signal.
    SlowStop(Option<Duration>),
    /// What is looked at before a stop for its health takes so long, if it may.
    SlowDossier(Duration),
    Operator(Verb),
    Hold(Option<Duration>),
    Release,
    DaemonDies,
    DaemonStarts,
    /// The machine sleeps.
    Suspend(Duration),
    /// The daemon's loop is not served.
    Starve(Duration),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Start,
    Stop,
    Restart,
    Reset,
}

/// Every first word of a deed, for advice.
const DEEDS: [&str; 21] = [
    "hang",
    "answer",
    "refuse",
    "empty",
    "status",
    "exit",
    "die",
    "slow-start",
    "slow-stop",
    "slow-dossier",
    "ignore-term",
    "cannot-ask",
    "start",
    "stop",
    "restart",
    "reset",
    "hold",
    "release",
    "daemon",
    "suspend",
    "starve",
];

impl Scenario {
    /// Reads the whole; the first line that cannot be read, with what to write.
    pub fn read(text: &str) -> Result<Scenario, String> {
        let mut scenario = Scenario {
            statements: Vec::new(),
            length: Duration::ZERO,
        };
        for (number, line) in text.lines().enumerate() {
            let said = line.split('#').next().unwrap_or_default();
            for statement in said.split(';') {
                let mut words = Words(statement.split_whitespace().collect());
                if !words.0.is_empty() {
                    scenario
                        .take(&mut words)
                        .map_err(|why| format!("line {}: {why}", number + 1))?;
                }
            }
        }
        if let Some(late) = scenario.too_late() {
            let length = brief(scenario.length);
            let most = if scenario.length.is_zero() {
                spoken(SIMULATED_TIME)
            } else {
                length
            };
            return Err(format!("`{late}` comes after the end, which is at {most}"));
        }
        scenario.settle_length();
        Ok(scenario)
    }

    fn take(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        if words.next_is("for") {
            let length = words.duration("for", "for 24h")?;
            if length.is_zero() || length > SIMULATED_TIME {
                let most = spoken(SIMULATED_TIME);
                return Err(format!("`for` takes 1ms to {most}, not {}", spoken(length)));
            }
            self.length = length;
            return words.end();
        }
        if self.statements.len() == SIMULATED_STATEMENTS {
            return Err(format!(
                "at most {SIMULATED_STATEMENTS} statements are read"
            ));
        }
        self.statements.push(words.statement()?);
        Ok(())
    }

    /// What would never be reached.
    fn too_late(&self) -> Option<String> {
        let end = Some(self.length).filter(|length| !length.is_zero());
        let end = Time::ZERO + end.unwrap_or(SIMULATED_TIME);
        let late = |statement: &&Statement| match statement.when {
            When::At(at) => at >= end,
            When::Every { from, .. } | When::AfterStart { from, .. } => from >= end,
            When::Always => false,
        };
        self.statements.iter().find(late).map(Statement::text)
    }

    /// A day, or longer if something is to happen later.
    pub(super) fn settle_length(&mut self) {
        if !self.length.is_zero() {
            return;
        }
        let times = self.statements.iter().map(|s| match s.when {
            When::At(at) => at,
            When::Every { from, .. } => from,
            When::AfterStart { from, .. } => from,
            When::Always => Time::ZERO,
        });
        let last = times.max().unwrap_or_default().since(Time::ZERO);
        let hour = Duration::from_secs(3600);
        self.length = DAY.max(last + hour).min(SIMULATED_TIME);
    }
}

impl Statement {
    /// As it could have been written.
    pub fn text(&self) -> String {
        let whose = self
            .service
            .as_ref()
            .map_or(String::new(), |service| format!("{service}: "));
        let words = &self.words;
        let short = |time: Time| brief(time.since(Time::ZERO));
        match self.when {
            When::Always => format!("{whose}{words}"),
            When::At(at) => format!("at {} {whose}{words}", short(at)),
            When::Every { every, from, until } => {
                let mut text = format!("{whose}{words} every {}", brief(every));
                if from != Time::ZERO + every {
                    text.push_str(&format!(" from {}", short(from)));
                }
                if until != Time::MAX {
                    text.push_str(&format!(" until {}", short(until)));
                }
                text
            }
            When::AfterStart { after, from, until } => {
                let mut text = format!("{whose}{words} {} after each start", brief(after));
                if from != Time::ZERO {
                    text.push_str(&format!(" from {}", short(from)));
                }
                if until != Time::MAX {
                    text.push_str(&format!(" until {}", short(until)));
                }
                text
            }
        }
    }
}

/// `1h30m`: as scenarios are written.
pub fn brief(length: Duration) -> String {
    humantime::format_duration(length)
        .to_string()
        .replace(' ', "")
}

/// What of a statement is not read yet.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<&'a str> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    fn next_is(&mut self, word: &str) -> bool {
        let is = self.peek() == Some(word);
        if is {
            self.next();
        }
        is
    }

    fn these(&mut self, words: &[&str]) -> bool {
        let are = self.0.starts_with(words);
        if are {
            self.0.drain(..words.len());
        }
        are
    }

    fn end(&self) -> Result<(), String> {
        match self.0.as_slice() {
            [] => Ok(()),
            rest => Err(format!(
                "`{}` is too much; a statement each line, or `;` between two",
                shorten(&rest.join(" "))
            )),
        }
    }

    /// `90s`, `1h 30m`, `0`.
    fn length(&mut self) -> Option<Duration> {
        let mut sum = None;
        while let Some(word) = self.peek() {
            let length = match word {
                "0" => Duration::ZERO,
                word => match humantime::parse_duration(word) {
                    Ok(length) => length,
                    Err(_) => break,
                },
            };
            sum = Some(sum.unwrap_or(Duration::ZERO).saturating_add(length));
            self.next();
        }
        sum
    }

    fn duration(&mut self, after: &str, example: &str) -> Result<Duration, String> {
        let found = self.peek();
        self.length().ok_or_else(|| {
            let not = found.map_or(String::new(), |word| format!(", not `{}`", shorten(word)));
            format!("`{after}` takes a time{not}: write it as in `{example}`")
        })
    }

    fn number<T: std::str::FromStr>(&mut self, after: &str, what: &str) -> Result<T, String> {
        let word = self.next().unwrap_or_default();
        let read = word.parse();
        read.map_err(|_| format!("`{after}` takes {what}, not `{}`", shorten(word)))
    }

    /// `db:`
    fn whose(&mut self) -> Option<Box<str>> {
        let name = self.peek()?.strip_suffix(':')?;
        self.next();
        Some(name.into())
    }

    fn statement(&mut self) -> Result<Statement, String> {
        let mut service = self.whose();
        let at = match self.next_is("at") {
            true => Some(Time::ZERO + self.duration("at", "at 30s hang")?),
            false => None,
        };
        service = self.whose().or(service);
        let before = self.0.clone();
        let deed = self.deed()?;
        let words = before[..before.len() - self.0.len()].join(" ");
        let when = match at {
            Some(at) => When::At(at),
            None => self.when(&deed, &words)?,
        };
        self.end()?;
        Ok(Statement {
            service,
            when,
            deed,
            words: words.into(),
        })
    }

    fn when(&mut self, deed: &Deed, words: &str) -> Result<When, String> {
        if self.next_is("every") {
            let every = self.duration("every", "exit 1 every 5s")?;
            if every < Duration::from_millis(1) {
                return Err("`every` takes 1ms or more".to_owned());
            }
            let (from, until) = self.window(every)?;
            return Ok(When::Every { every, from, until });
        }
        if let Some(after) = self.length() {
            let example = format!("{words} {} after each start", brief(after));
            if !self.these(&["after", "each", "start"]) {
                return Err(format!(
                    "what is {} for? write `{example}` or `at {} {words}`",
                    brief(after),
                    brief(after)
                ));
            }
            let (from, until) = self.window(Duration::ZERO)?;
            return match deed {
                Deed::Mood { .. } | Deed::Answer | Deed::Dies(_) => {
                    Ok(When::AfterStart { after, from, until })
                }
                _ => Err(format!(
                    "a run does not `{words}` by itself: write `at 30s {words}`"
                )),
            };
        }
        match deed {
            Deed::SlowStart(_) | Deed::SlowStop(_) | Deed::SlowDossier(_) => Ok(When::Always),
            Deed::Mood { mood, for_good } if *for_good || matches!(mood, Mood::Trouble(_)) => {
                Ok(When::Always)
            }
            _ => Err(format!(
                "when? write `at 30s {words}`, `{words} every 1h` or, for what a run does, \
                 `{words} 30s after each start`"
            )),
        }
    }

    /// `from 1h until 2h`
    fn window(&mut self, first: Duration) -> Result<(Time, Time), String> {
        let from = match self.next_is("from") {
            true => self.duration("from", "exit 1 every 5s from 1h")?,
            false => first,
        };
        let until = match self.next_is("until") {
            true => Time::ZERO + self.duration("until", "exit 1 every 5s until 2h")?,
            false => Time::MAX,
        };
        Ok((Time::ZERO + from, until))
    }

    fn deed(&mut self) -> Result<Deed, String> {
        let word = self
            .next()
            .ok_or("what shall happen? write as in `at 30s hang`")?;
        Ok(match word {
            "hang" => self.mood(Mood::Mute),
            "refuse" => self.mood(Mood::Fail(Reason::Refused)),
            "empty" => self.mood(Mood::Fail(Reason::EmptyReply)),
            "status" => {
                let code = self.number("status", "a number, as in `status 503`")?;
                self.mood(Mood::Fail(Reason::Status(code)))
            }
            "cannot-ask" => Deed::Mood {
                mood: Mood::Trouble(Trouble::CannotFork),
                for_good: true,
            },
            "answer" => Deed::Answer,
            "exit" => {
                let what = "an exit code from 0 to 255, as in `exit 1`";
                Deed::Dies(Exit::Code(self.number("exit", what)?))
            }
            "die" => {
                let word = self.next().unwrap_or_default();
                let signal = Signal::parse(word).ok_or_else(|| {
                    let shown = shorten(word);
                    format!("`die` takes a signal, as in `die SIGSEGV`, not `{shown}`")
                })?;
                Deed::Dies(Exit::Signal(signal))
            }
            "slow-start" => Deed::SlowStart(self.duration(word, "slow-start 20s")?),
            "slow-stop" => Deed::SlowStop(Some(self.duration(word, "slow-stop 5s")?)),
            "slow-dossier" => Deed::SlowDossier(self.duration(word, "slow-dossier 500ms")?),
            "ignore-term" => Deed::SlowStop(None),
            "start" => Deed::Operator(Verb::Start),
            "stop" => Deed::Operator(Verb::Stop),
            "restart" => Deed::Operator(Verb::Restart),
            "reset" => Deed::Operator(Verb::Reset),
            "hold" => Deed::Hold(self.length()),
            "release" => Deed::Release,
            "daemon" if self.next_is("dies") => Deed::DaemonDies,
            "daemon" if self.next_is("starts") => Deed::DaemonStarts,
            "daemon" => return Err("a `daemon` `dies` or `starts`".to_owned()),
            "suspend" => Deed::Suspend(self.duration(word, "at 1h suspend 8h")?),
            "starve" => Deed::Starve(self.duration(word, "at 1h starve 20s")?),
            _ => {
                let shown = shorten(word);
                return Err(match nearest(word, DEEDS.into_iter()) {
                    Some(near) => format!("nothing can `{shown}`; did you mean `{near}`?"),
                    None => format!("nothing can `{shown}`; there are {}", DEEDS.join(", ")),
                });
            }
        })
    }

    fn mood(&mut self, mood: Mood) -> Deed {
        let for_good = self.these(&["for", "good"]);
        Deed::Mood { mood, for_good }
    }
}
