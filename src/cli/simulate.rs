//! `simulate`: what a definition would do, asked of files, in virtual time.

use super::arguments::{Globals, SimulateWhat};
use super::client::{Connection, Trouble, cause};
use super::dirs::{self, Env};
use super::exits::Exit;
use super::{plot, said, terminal};
use crate::config::names::{self, FileKind};
use crate::config::{Definition, StormLimits, hints, load};
use crate::control::forecast::Forecast;
use crate::control::render;
use crate::control::values::quoted;
use crate::engine::Loaded;
use crate::engine::status::StoryLine;
use crate::limits;
use crate::reactor::definitions;
use crate::reactor::settings;
use crate::simulator::forecast::{self, Bounds, Cast, History, Options, Scenario, history};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Lines of a history that are asked of a daemon: all that it has.
const ALL_LINES: u32 = 1_000_000;

/// Why there is no forecast.
type Refusal = (Exit, String);

fn failed(words: impl Into<String>) -> Refusal {
    (Exit::Failed, words.into())
}

/// Simulates, prints, draws.
pub fn simulate(globals: &Globals, what: &SimulateWhat, env: Env<'_>) -> Exit {
    let told = forecast(globals, what, env).and_then(|told| draw(what, told));
    let told = match told {
        Ok(told) => told,
        Err((exit, words)) => {
            eprintln!("vitald: {words}");
            return exit;
        }
    };
    let mut text = String::new();
    if globals.json {
        // Its keys are strings: it can be put as JSON.
        text = serde_json::to_string(&told).unwrap_or_default() + "\n";
    } else {
        render::forecast(&told, &terminal::style(env), &mut text);
    }
    said(&text)
}

fn draw(what: &SimulateWhat, told: Forecast) -> Result<Forecast, Refusal> {
    if let Some(path) = &what.plot {
        std::fs::write(path, plot::svg(&told)).map_err(|error| {
            failed(format!(
                "cannot write {}: {}",
                path.display(),
                cause(&error)
            ))
        })?;
    }
    Ok(told)
}

fn forecast(globals: &Globals, what: &SimulateWhat, env: Env<'_>) -> Result<Forecast, Refusal> {
    let shelf = Shelf::find(what, env)?;
    let mut cast = Cast::new(&shelf.name, &|name| shelf.read(name)).map_err(failed)?;
    let present = cast.definition().cloned();
    cast.set(&what.set)
        .map_err(|words| failed(format!("--set {words}")))?;
    if let Some(limits) = shelf.limits()? {
        cast.limit(limits, "as vitald.toml says");
    }
    let mut options = Options {
        seed: what.seed.unwrap_or(1),
        bounds: Bounds::COMMAND,
        all: what.all,
    };
    if what.all {
        options.bounds.told = usize::MAX;
    }
    match (&what.against, present) {
        (Some(against), Some(present)) => {
            let history = past(globals, against, &shelf.name, &present, env)?;
            forecast::against(&cast, &history, &options).map_err(failed)
        }
        (_, _) => {
            let text = scenario(what)?;
            let scenario = Scenario::read(&text).map_err(failed)?;
            forecast::simulate(&cast, &scenario, &options).map_err(failed)
        }
    }
}

/// Where definitions are looked for.
struct Shelf {
    name: String,
    /// The file that was named.
    file: Option<PathBuf>,
    dir: PathBuf,
}

impl Shelf {
    fn find(what: &SimulateWhat, env: Env<'_>) -> Result<Shelf, Refusal> {
        let target = what.target.as_str();
        let by_name =
            !target.contains('/') && !target.ends_with(".toml") && !target.ends_with(".json");
        if by_name {
            let dir = dirs::config_dir(what.config_dir.clone(), dirs::is_root(), env);
            let dir = dir.map_err(failed)?.join("services");
            let name = target.to_owned();
            let shelf = Shelf {
                name,
                file: None,
                dir,
            };
            return match shelf.path(target) {
                Some(_) => Ok(shelf),
                None => Err((Exit::Unknown, shelf.unknown())),
            };
        }
        let file = PathBuf::from(target);
        let stem = file
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let FileKind::Service(name) = names::of_file(stem.as_deref().unwrap_or_default()) else {
            let words = format!("{target} is no definition: those end in .toml or .json");
            return Err(failed(words));
        };
        let dir = match (&what.config_dir, file.parent()) {
            (Some(dir), _) => dir.join("services"),
            (None, Some(parent)) => parent.to_owned(),
            (None, None) => PathBuf::new(),
        };
        let name = name.to_owned();
        let file = Some(file);
        Ok(Shelf { name, file, dir })
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        if let Some(file) = self.file.as_ref().filter(|_| name == self.name) {
            return Some(file.clone());
        }
        let named = |end: &str| self.dir.join(format!("{name}{end}"));
        let files = [named(".toml"), named(".json")];
        files
            .into_iter()
            .find(|path| names::check(name).is_ok() && path.exists())
    }

    fn unknown(&self) -> String {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let files: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let known = files.iter().filter_map(|file| match names::of_file(file) {
            FileKind::Service(name) => Some(name),
            FileKind::Skipped | FileKind::Other => None,
        });
        let dir = self.dir.display();
        match hints::nearest(&self.name, known) {
            Some(near) => format!("no `{}` in {dir}; did you mean `{near}`?", self.name),
            None => format!(
                "no `{}` in {dir}; name a file, or a directory with --config-dir",
                self.name
            ),
        }
    }

    /// What `vitald.toml` beside the folder of definitions says; None: there is none.
    fn limits(&self) -> Result<Option<StormLimits>, Refusal> {
        let config_dir = self.dir.parent().filter(|_| self.dir.ends_with("services"));
        let Some(dir) = config_dir.filter(|dir| dir.join(settings::FILE).exists()) else {
            return Ok(None);
        };
        let read = settings::read(dir);
        match read.problem {
            None => Ok(Some(read.settings.storm)),
            Some(problem) => Err(failed(format!("{}/{problem}", dir.display()))),
        }
    }

    fn read(&self, name: &str) -> Option<Loaded> {
        let path = self.path(name)?;
        let source = path.display().to_string();
        let definition = match definitions::read_bounded(&path) {
            Ok(bytes) => {
                let outcome = load::read(name, &source, &bytes);
                let problems = outcome.problems.iter().filter(|problem| problem.is_error());
                let problems: Vec<String> = problems.map(ToString::to_string).collect();
                outcome
                    .definition
                    .map(Rc::new)
                    .ok_or(problems.join("\n").into())
            }
            Err(error) => Err(format!("cannot read {source}: {}", cause(&error)).into()),
        };
        Some(Loaded {
            name: name.into(),
            source: source.into(),
            definition,
        })
    }
}

/// What shall happen: a file, stdin, and what was said.
fn scenario(what: &SimulateWhat) -> Result<String, Refusal> {
    let mut text = match &what.scenario {
        Some(path) => read(path)?,
        None => String::new(),
    };
    for say in &what.say {
        text.push('\n');
        text.push_str(say);
    }
    if what.scenario.is_none() && what.say.is_empty() {
        let words = "what shall happen? give a file, `-` for stdin, --say 'at 30s hang; at 90s \
                     answer; for 2h', or --against history; see `vitald help simulate`";
        return Err((Exit::Usage, words.to_owned()));
    }
    // A line of a file that was read is counted as it stands there.
    Ok(match what.scenario.is_none() {
        true => text.trim_start_matches('\n').to_owned(),
        false => text,
    })
}

fn read(path: &Path) -> Result<String, Refusal> {
    let failed =
        |error: io::Error| failed(format!("cannot read {}: {}", path.display(), cause(&error)));
    let mut bytes = Vec::new();
    let most = limits::MAX_DEFINITION_BYTES as u64;
    let done = match path == Path::new("-") {
        true => io::stdin().lock().take(most).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    done.map_err(failed)?;
    String::from_utf8(bytes).map_err(|_| failed(io::Error::other("it is not UTF-8")))
}

/// What really happened: as the daemon tells it, or as a file does.
fn past(
    globals: &Globals,
    against: &str,
    name: &str,
    definition: &Definition,
    env: Env<'_>,
) -> Result<History, Refusal> {
    let (lines, wall, end) = match against {
        "history" => (ask(globals, name, env)?, true, Some(terminal::now_ms())),
        path => {
            let bytes = std::fs::read(path)
                .map_err(|error| failed(format!("cannot read {path}: {}", cause(&error))))?;
            let (lines, wall) =
                history::lines(&bytes).map_err(|words| failed(format!("{path}: {words}")))?;
            (lines, wall, None)
        }
    };
    History::read(name, &lines, wall, definition, end)
        .map_err(|words| failed(format!("{against}: {words}")))
}

fn ask(globals: &Globals, name: &str, env: Env<'_>) -> Result<Vec<StoryLine>, Refusal> {
    let given = globals.socket.as_deref();
    let socket = dirs::socket(given, dirs::is_root(), env, Path::exists);
    let params = format!("{{\"name\":{},\"limit\":{ALL_LINES}}}", quoted(name));
    let told = Connection::open(&socket, globals.timeout)
        .and_then(|mut connection| connection.call("service.history", &params));
    match told {
        Ok(told) => serde_json::from_slice(told.as_bytes())
            .map_err(|error| failed(format!("cannot read the daemon's answer: {error}"))),
        Err(Trouble::NoDaemon(words)) => Err((Exit::NotRunning, words)),
        Err(Trouble::Refused { message, .. }) => Err((Exit::Unknown, message)),
        Err(Trouble::Closed) => Err(failed("the daemon closed the connection")),
        Err(Trouble::Other(words)) => Err(failed(words)),
    }
}
