//! argv to a command. Options of all verbs may stand before or after the verb.

use super::dirs::Given;
use super::local::{self, LOCALS, Local};
use crate::control::values::Values;
use crate::control::words::{self, Parse, Taken};
use crate::journal::replay::Until;
use lexopt::Parser;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What every verb understands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Globals {
    pub socket: Option<PathBuf>,
    pub json: bool,
    pub timeout: Option<Duration>,
}

pub enum Command {
    /// No verb at all.
    Nothing,
    Run(Given),
    /// Only looks whether that could take a running daemon's place.
    Rehearse(Given),
    /// A verb of the daemon's.
    Ask(Values),
    Check(CheckWhat),
    Replay(ReplayWhat),
    /// With a port: only its server.
    Demo(Option<u16>),
    Simulate(Box<SimulateWhat>),
    Help(Vec<String>),
    Version,
    Completions(String),
    Man,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckWhat {
    /// None: the whole directory.
    pub files: Vec<PathBuf>,
    pub config_dir: Option<PathBuf>,
    /// Who needs whom, not what is wrong.
    pub graph: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReplayWhat {
    /// Oldest first.
    pub files: Vec<PathBuf>,
    pub until: Until,
    /// How this service stands there.
    pub why: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SimulateWhat {
    /// A service's name, or the path of a definition.
    pub target: String,
    /// `-`: stdin.
    pub scenario: Option<PathBuf>,
    pub say: Vec<String>,
    pub set: Vec<String>,
    /// `history`, or a file.
    pub against: Option<String>,
    pub plot: Option<PathBuf>,
    pub config_dir: Option<PathBuf>,
    pub seed: Option<u64>,
    pub all: bool,
}

/// Which verb the arguments name, and what is left for it.
enum Verb {
    Remote(Parse),
    Local(&'static Local),
}

/// Reads all arguments, without the program's name.
pub fn read(arguments: &[OsString]) -> Result<(Globals, Command), String> {
    let mut reading = Reading::default();
    let mut parser = Parser::from_args(arguments);
    while let Some(given) = reading.next(&mut parser)? {
        reading.take(given, &mut parser)?;
    }
    let command = reading.command()?;
    Ok((reading.globals, command))
}

#[derive(Default)]
struct Reading {
    globals: Globals,
    /// Words of a verb that is not complete yet: `probe`.
    words: Vec<String>,
    verb: Option<Verb>,
    help: bool,
    version: bool,
    given: Given,
    rehearse: bool,
    check: CheckWhat,
    replay: ReplayWhat,
    serve: Option<u16>,
    simulate: SimulateWhat,
    rest: Vec<String>,
}

impl Reading {
    /// The next argument. Paths may be anything but text; only these verbs take them as words.
    fn next(&mut self, parser: &mut Parser) -> Result<Option<Taken>, String> {
        let files = match &self.verb {
            Some(Verb::Local(local)) if local.words == "check" => Some(&mut self.check.files),
            Some(Verb::Local(local)) if local.words == "replay" => Some(&mut self.replay.files),
            Some(_) | None => None,
        };
        if let Some(files) = files {
            return match parser.next().map_err(|error| error.to_string())? {
                Some(lexopt::Arg::Value(path)) => {
                    files.push(path.into());
                    self.next(parser)
                }
                Some(lexopt::Arg::Short(letter)) => Ok(Some(Taken::Option(letter.to_string()))),
                Some(lexopt::Arg::Long(name)) => Ok(Some(Taken::Option(name.to_owned()))),
                None => Ok(None),
            };
        }
        Taken::next(parser)
    }

    fn take(&mut self, given: Taken, parser: &mut Parser) -> Result<(), String> {
        if let Taken::Option(name) = &given
            && self.global(name, parser)?
        {
            return Ok(());
        }
        match (&mut self.verb, given) {
            // The daemon stands in another directory than who types.
            (Some(Verb::Remote(parse)), Taken::Word(word)) if parse.wants_path() => {
                let path = std::path::absolute(&word).unwrap_or_else(|_| word.into());
                let path = path.to_string_lossy().into_owned();
                parse.take(Taken::Word(path), parser)
            }
            (Some(Verb::Remote(parse)), given) => parse.take(given, parser),
            (Some(Verb::Local(_)), Taken::Word(word)) => {
                self.rest.push(word);
                Ok(())
            }
            (Some(Verb::Local(local)), Taken::Option(name)) => {
                let local: &'static Local = local;
                self.local_option(local, &name, parser)
            }
            (None, Taken::Option(name)) => {
                let dashes = dashes(&name);
                Err(format!(
                    "unknown option `{dashes}{name}` before a verb; see `vitald help`"
                ))
            }
            (None, Taken::Word(word)) => {
                self.words.push(word);
                self.find_verb()
            }
        }
    }

    fn find_verb(&mut self) -> Result<(), String> {
        if let Some((verb, _)) = words::find(&self.words) {
            self.verb = Some(Verb::Remote(Parse::new(verb)));
            return Ok(());
        }
        if let [word] = self.words.as_slice() {
            if let Some(local) = local::find(word) {
                self.verb = Some(Verb::Local(local));
                return Ok(());
            }
            // The first half of a verb of two words: the next argument decides.
            if words::is_half(word) {
                return Ok(());
            }
        }
        Err(self.unknown())
    }

    fn unknown(&self) -> String {
        let locals: Vec<&str> = LOCALS.iter().map(|local| local.words).collect();
        let first = self.words.first().map_or("", String::as_str);
        words::unknown_verb(first, &locals)
    }

    /// Takes an option that every verb has; false when it is none.
    fn global(&mut self, name: &str, parser: &mut Parser) -> Result<bool, String> {
        match name {
            "socket" => self.globals.socket = Some(value(parser)?.into()),
            "json" => self.globals.json = true,
            "timeout" => {
                let text = text(parser)?;
                let length = humantime::parse_duration(&text)
                    .map_err(|_| format!("--timeout takes a duration like 10s, not `{text}`"))?;
                self.globals.timeout = Some(length);
            }
            "help" | "h" => self.help = true,
            "version" | "V" => self.version = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn local_option(
        &mut self,
        local: &'static Local,
        name: &str,
        parser: &mut Parser,
    ) -> Result<(), String> {
        if !local.options.iter().any(|opt| opt.long == name) {
            let usage = local::usage(local);
            let dashes = dashes(name);
            return Err(format!(
                "{}: unknown option `{dashes}{name}`; usage: {usage}",
                local.words
            ));
        }
        if local.words == "simulate" {
            return self.simulate_option(name, parser);
        }
        if name == "rehearse" {
            self.rehearse = true;
            return Ok(());
        }
        if name == "graph" {
            self.check.graph = true;
            return Ok(());
        }
        if name == "main" {
            self.given.main = Some(text(parser)?);
            return Ok(());
        }
        if name == "serve" {
            let text = text(parser)?;
            let port = text.parse();
            let port = port.map_err(|_| format!("--serve takes a port, not `{text}`"))?;
            self.serve = Some(port);
            return Ok(());
        }
        match name {
            "why" => {
                self.replay.why = Some(text(parser)?);
                return Ok(());
            }
            "until" | "at" => {
                let given = text(parser)?;
                self.replay.until = moment(name, &given)?;
                return Ok(());
            }
            _ => {}
        }
        let path = Some(PathBuf::from(value(parser)?));
        match name {
            "record" => self.given.record = path,
            "config-dir" => (self.given.config_dir, self.check.config_dir) = (path.clone(), path),
            "state-dir" => self.given.state_dir = path,
            _ => self.given.runtime_dir = path,
        }
        Ok(())
    }

    fn simulate_option(&mut self, name: &str, parser: &mut Parser) -> Result<(), String> {
        let what = &mut self.simulate;
        match name {
            "say" => what.say.push(text(parser)?),
            "set" => what.set.push(text(parser)?),
            "against" => what.against = Some(text(parser)?),
            "plot" => what.plot = Some(value(parser)?.into()),
            "config-dir" => what.config_dir = Some(value(parser)?.into()),
            "all" => what.all = true,
            _ => {
                let text = text(parser)?;
                let seed = text.parse();
                let seed = seed.map_err(|_| format!("--seed takes a number, not `{text}`"))?;
                what.seed = Some(seed);
            }
        }
        Ok(())
    }

    /// A name or file, and perhaps a scenario.
    fn simulation(&mut self, local: &Local, rest: Vec<String>) -> Result<Command, String> {
        let mut what = std::mem::take(&mut self.simulate);
        let mut rest = rest.into_iter();
        what.target = rest.next().unwrap_or_default();
        what.scenario = rest.next().map(PathBuf::from);
        if what.target.is_empty() || rest.next().is_some() {
            return Err(format!("usage: {}", local::usage(local)));
        }
        if what.against.is_some() && (what.scenario.is_some() || !what.say.is_empty()) {
            return Err("simulate: --against takes the place of a scenario; give one".to_owned());
        }
        Ok(Command::Simulate(Box::new(what)))
    }

    fn command(&mut self) -> Result<Command, String> {
        if self.version && self.verb.is_none() {
            return Ok(Command::Version);
        }
        if self.help {
            return Ok(Command::Help(std::mem::take(&mut self.words)));
        }
        let local = match self.verb.take() {
            Some(Verb::Remote(parse)) => return Ok(Command::Ask(parse.finish()?)),
            Some(Verb::Local(local)) => local,
            None if self.words.is_empty() => return Ok(Command::Nothing),
            None => return Err(self.unknown()),
        };
        let rest = std::mem::take(&mut self.rest);
        if local.words == "help" {
            return Ok(Command::Help(rest));
        }
        if local.words == "simulate" {
            return self.simulation(local, rest);
        }
        let takes = usize::from(local.words == "completions");
        if rest.len() != takes {
            let usage = local::usage(local);
            return Err(match rest.get(takes) {
                Some(word) => format!("{}: unexpected `{word}`; usage: {usage}", local.words),
                None => format!("usage: {usage}"),
            });
        }
        Ok(match local.words {
            "run" if self.rehearse => Command::Rehearse(std::mem::take(&mut self.given)),
            "run" => Command::Run(std::mem::take(&mut self.given)),
            "check" => Command::Check(std::mem::take(&mut self.check)),
            "replay" if self.replay.files.is_empty() => {
                return Err(format!("usage: {}", local::usage(local)));
            }
            "replay" => Command::Replay(std::mem::take(&mut self.replay)),
            "demo" => Command::Demo(self.serve),
            "version" => Command::Version,
            "completions" => Command::Completions(rest.concat()),
            _ => Command::Man,
        })
    }
}

fn dashes(name: &str) -> &'static str {
    match name.chars().count() {
        1 => "-",
        _ => "--",
    }
}

/// `--until 812`, `--at 14:02:10`, `--at 2026-11-24T14:02:10Z`
fn moment(option: &str, given: &str) -> Result<Until, String> {
    if option == "until" {
        let number = given.parse().map(Until::Event);
        return number.map_err(|_| format!("--until takes the number of an event, not `{given}`"));
    }
    // A time of day is one of any day.
    let seconds = if given.len() == 5 { ":00" } else { "" };
    let of_day = format!("1970-01-01T{given}{seconds}Z");
    let since = |text: &str| {
        let time = humantime::parse_rfc3339_weak(text).ok()?;
        let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(crate::time::millis(since))
    };
    match (since(&of_day), since(given)) {
        (Some(ms), _) => Ok(Until::Day(ms)),
        (None, Some(ms)) => Ok(Until::Wall(ms)),
        (None, None) => Err(format!(
            "--at takes a time of day in UTC like 14:02:10, or one like 2026-11-24T14:02:10Z, not `{given}`"
        )),
    }
}

fn value(parser: &mut Parser) -> Result<OsString, String> {
    parser.value().map_err(|error| error.to_string())
}

fn text(parser: &mut Parser) -> Result<String, String> {
    value(parser)?
        .into_string()
        .map_err(|_| "an argument is not UTF-8".to_owned())
}
