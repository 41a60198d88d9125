//! What each verb does: arguments and rights in; a reply, a command for the engine, or an errand
//! for the loop out.
//!
//! It changes nothing by itself. Invariant: rights are checked before anything is said about a
//! service, so that a name which one may not see and a name which does not exist look the same.

use super::House;
use super::access::{Access, Level};
use super::dossier::Dossier;
use super::log_lines::Choice;
use super::power::Ending;
use super::reply::Reply;
use super::rpc::code;
use super::ties::{self, Drawing};
use super::values::Values;
use super::verbs::{Kind, Shape, Verb};
use crate::config::load::{self, Outcome};
use crate::config::set::{self, File};
use crate::config::{Definition, SEVERITIES, Severity, hints, names};
use crate::engine::status::Tied;
use crate::engine::{Command, Given, Terms};
use crate::exit::Signal;
use crate::id::ServiceId;
use crate::limits;
use crate::time::Wall;
use std::time::Duration;

/// History and log lines when the caller does not say how many.
const DEFAULT_LINES: u64 = 50;

/// One call, ready to be served.
pub struct Call<'a> {
    pub values: &'a Values,
    pub access: &'a Access,
    pub house: &'a dyn House,
    pub wall: &'a Wall,
}

/// What becomes of a call.
pub enum Act {
    /// Answered at once.
    Reply(Reply),
    /// For the engine, which answers by ticket.
    Command { command: Command, wait: bool },
    /// Read the definitions anew; the engine answers by ticket.
    Reload(Terms),
    /// Execute this program (None: the present one's file) in the daemon's place; the loop answers
    /// by ticket.
    Upgrade {
        program: Option<Box<str>>,
        force: bool,
    },
    /// Stop all services, then end the machine; the loop answers by ticket.
    End(Ending),
    /// Ask what a policy would do; the loop has it asked by a helper and answers by ticket.
    Simulate(Box<Simulation>),
    /// What the state directory has of dossiers; the loop has it read by a helper and answers by
    /// ticket.
    Dossiers(Box<DossiersAsked>),
    /// Log lines, which the loop has; it answers by ticket.
    Logs(Box<LogsAsked>),
    /// From now on these services (empty: all) and kinds (empty: all).
    Subscribe {
        services: Vec<Box<str>>,
        kinds: Vec<Box<str>>,
    },
}

/// Which lines of which logs are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogsAsked {
    /// At least one, unless all are meant.
    pub services: Vec<(ServiceId, Box<str>)>,
    /// All, also those that come to be later: the caller's rights decide.
    pub all: bool,
    /// At most so many of the newest, of all services together.
    pub lines: usize,
    pub follow: bool,
    pub choice: Choice,
}

/// Which dossiers are asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DossiersAsked {
    /// This one, or the last one of this service. None: a list.
    pub id: Option<Box<str>>,
    /// Of these services; None: of all, also those that are no more.
    pub services: Option<Vec<Box<str>>>,
}

impl DossiersAsked {
    pub fn wants(&self, service: &str) -> bool {
        let only = self.services.as_ref();
        only.is_none_or(|only| only.iter().any(|name| **name == *service))
    }
}

/// What shall be simulated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Simulation {
    pub service: ServiceId,
    /// None: what really happened.
    pub scenario: Option<Box<str>>,
    pub set: Vec<Box<str>>,
    pub seed: u64,
    /// Who asks may see all services.
    pub others: bool,
}

/// Why a call is refused: a JSON-RPC error code and a sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub code: i32,
    pub message: String,
}

pub type Run = fn(&Call<'_>) -> Result<Act, Fault>;

/// Serves a call, when the caller may make it.
pub fn call(call: &Call<'_>) -> Result<Act, Fault> {
    let verb = call.values.verb();
    if !allowed(verb, call.values, call.access) {
        return Err(denied(verb, verb.access));
    }
    (verb.run)(call)
}

fn denied(verb: &Verb, needed: Level) -> Fault {
    Fault {
        code: code::DENIED,
        message: format!(
            "permission denied: {} needs the right `{}`; root has it, and groups to which \
             [access] in vitald.toml gives it",
            verb.words,
            needed.word()
        ),
    }
}

/// The permission check, by the verb's row and the services that the call names.
fn allowed(verb: &Verb, values: &Values, access: &Access) -> bool {
    let mut named = false;
    for arg in verb.args {
        let names: Vec<&str> = match arg.kind {
            Kind::Service | Kind::NewService => values.text(arg.name).into_iter().collect(),
            Kind::Services => values.list(arg.name).iter().map(|name| &**name).collect(),
            _ => continue,
        };
        named |= !names.is_empty();
        if !names.iter().all(|name| access.on(name, verb.access)) {
            return false;
        }
    }
    // What shows many services shows each reader those that it may see.
    let cut_down = matches!(
        verb.shape,
        Shape::List
            | Shape::Status
            | Shape::Story
            | Shape::Events
            | Shape::Graph
            | Shape::Blame
            | Shape::Dossiers
            | Shape::Dossier
    );
    named || access.overall(verb.access) || (cut_down && access.somewhere(verb.access))
}

impl Call<'_> {
    fn service(&self) -> Result<ServiceId, Fault> {
        self.find(self.values.text("name").unwrap_or_default())
    }

    pub(super) fn find(&self, name: &str) -> Result<ServiceId, Fault> {
        self.house.find(name).ok_or_else(|| {
            if let Some(message) = self.of_template(name) {
                let code = code::NOT_FOUND;
                return Fault { code, message };
            }
            let services = self.house.services();
            let seen = services
                .iter()
                .map(|id| self.house.name(*id))
                .filter(|name| self.access.on(name, Level::View));
            let shown: String = name.chars().take(crate::limits::MAX_NAME).collect();
            Fault {
                code: code::NOT_FOUND,
                message: match hints::nearest(name, seen) {
                    Some(near) => format!("no service `{shown}`; did you mean `{near}`?"),
                    None => format!("no service `{shown}`; `list` shows what there is"),
                },
            }
        })
    }

    /// What to say of a name that a template has, or could have.
    fn of_template(&self, name: &str) -> Option<String> {
        let templates = self.house.templates();
        if templates.is_one(name) {
            return Some(format!(
                "`{name}` is a template, no service: name an instance, as in `{name}1`"
            ));
        }
        let file = templates.file_of(name)?;
        let shown = hints::shorten(name);
        Some(format!(
            "there is no `{shown}` yet: `start {shown}` makes it of {file}"
        ))
    }

    /// All services that this caller may see.
    fn seen(&self) -> Vec<ServiceId> {
        let mut services = self.house.services();
        if !self.access.overall(Level::View) {
            services.retain(|id| self.access.on(self.house.name(*id), Level::View));
        }
        services
    }

    /// Those, and what ties them to each other.
    fn tied(&self) -> Vec<Tied> {
        self.house.tied(&self.seen(), self.wall)
    }

    /// The name that was given, if it is a service's.
    fn root(&self) -> Result<Option<&str>, Fault> {
        match self.values.text("name") {
            Some(name) => self.find(name).map(|_| Some(name)),
            None => Ok(None),
        }
    }

    pub(super) fn command(&self, command: Command) -> Result<Act, Fault> {
        let wait = self.values.flag("wait");
        Ok(Act::Command { command, wait })
    }

    fn count(&self, name: &str) -> usize {
        let number = self.values.number(name).unwrap_or(DEFAULT_LINES);
        usize::try_from(number).unwrap_or(usize::MAX)
    }
}

pub fn list(call: &Call<'_>) -> Result<Act, Fault> {
    Ok(Act::Reply(Reply::List(call.seen())))
}

pub fn status(call: &Call<'_>) -> Result<Act, Fault> {
    if call.values.flag("tree") {
        let root = call.root()?;
        let tree = ties::tree(&call.tied(), root);
        return Ok(Act::Reply(Reply::Tree(tree)));
    }
    if call.values.text("name").is_none() {
        return Ok(Act::Reply(Reply::Overview(call.seen())));
    }
    let status = call.house.page(call.service()?, call.wall);
    Ok(Act::Reply(Reply::Status(Box::new(status))))
}

pub fn graph(call: &Call<'_>) -> Result<Act, Fault> {
    let services = call.tied();
    Ok(Act::Reply(Reply::Graph(Drawing { services })))
}

pub fn blame(call: &Call<'_>) -> Result<Act, Fault> {
    let to = call.root()?;
    Ok(Act::Reply(Reply::Blame(ties::blame(&call.tied(), to))))
}

pub fn why(call: &Call<'_>) -> Result<Act, Fault> {
    let mut why = call.house.why(call.service()?, call.wall);
    if !call.access.on(&why.status.name, Level::Read) {
        why.last_words.clear();
    }
    Ok(Act::Reply(Reply::Why(Box::new(why))))
}

pub fn history(call: &Call<'_>) -> Result<Act, Fault> {
    let of = match call.values.text("name") {
        Some(name) => Some(call.find(name)?),
        None => None,
    };
    let mut lines = call.house.history(of, call.wall, call.count("limit"));
    lines.retain(|line| call.access.on(&line.service, Level::View));
    Ok(Act::Reply(Reply::Story(lines)))
}

pub fn stop(call: &Call<'_>) -> Result<Act, Fault> {
    let service = call.service()?;
    call.command(match call.values.flag("until_boot") {
        true => Command::StopForNow { service },
        false => Command::Stop { service },
    })
}

pub use super::instances::{once, restart, start};

pub fn pin(call: &Call<'_>) -> Result<Act, Fault> {
    let service = call.service()?;
    call.command(Command::Pin { service })
}

pub fn unpin(call: &Call<'_>) -> Result<Act, Fault> {
    let service = call.service()?;
    call.command(Command::Unpin { service })
}

pub fn reset(call: &Call<'_>) -> Result<Act, Fault> {
    let service = call.service()?;
    call.command(Command::Reset { service })
}

pub fn signal(call: &Call<'_>) -> Result<Act, Fault> {
    let service = call.service()?;
    let word = call.values.text("signal").unwrap_or_default();
    match Signal::parse(word) {
        Some(signal) => call.command(Command::Signal { service, signal }),
        None => Err(Fault {
            code: code::BAD_SIGNAL,
            message: format!("no signal `{word}`; write HUP, SIGHUP or a number from 1 to 64"),
        }),
    }
}

pub fn set(call: &Call<'_>) -> Result<Act, Fault> {
    let name = call.values.text("name").unwrap_or_default();
    let text = call.values.text("definition").unwrap_or_default();
    let fault = |code, message| Fault { code, message };
    names::check(name).map_err(|words| fault(code::BAD_PARAMS, words))?;
    if names::is_template(name) {
        let words = format!(
            "`{name}` would be a template: those are files, write services/{name}.toml; `set \
             {name}1` defines one service"
        );
        return Err(fault(code::BAD_PARAMS, words));
    }
    if text.len() > limits::MAX_GIVEN_BYTES {
        let (most, is) = (limits::MAX_GIVEN_BYTES, text.len());
        let words = format!("the definition has {is} bytes; `set` takes {most}: write a file");
        return Err(fault(code::BAD_PARAMS, words));
    }
    let source = names::given_source(name, text);
    let definition = read_among(call, name, &source, text).map_err(|words| {
        fault(
            code::CONFIG,
            format!("the definition cannot be used; nothing was changed\n{words}"),
        )
    })?;
    call.command(Command::Set(Box::new(Given {
        name: name.into(),
        source: source.into(),
        definition,
        text: text.into(),
    })))
}

/// The definition, checked also against the names there are; or its errors, one a line.
fn read_among(
    call: &Call<'_>,
    name: &str,
    source: &str,
    text: &str,
) -> Result<Definition, Box<str>> {
    let others = call.house.services().into_iter();
    let mut files: Vec<File> = others
        .map(|id| call.house.name(id))
        .filter(|other| *other != name)
        .map(|other| File {
            name: other.into(),
            file: "".into(),
            outcome: Outcome::default(),
        })
        .collect();
    files.push(File {
        name: name.into(),
        file: source.into(),
        outcome: load::read(name, source, text.as_bytes()),
    });
    let entries = set::join(files).entries;
    let mine = entries.into_iter().find(|entry| &*entry.name == name);
    mine.map_or(Err("it is no service's name".into()), |entry| {
        entry.definition
    })
}

pub fn delete(call: &Call<'_>) -> Result<Act, Fault> {
    let service = call.service()?;
    call.command(Command::Delete { service })
}

pub fn probe_run(call: &Call<'_>) -> Result<Act, Fault> {
    let service = call.service()?;
    let name = call.house.name(service);
    let probe = match call.values.text("probe") {
        None => None,
        Some(word) => Some(call.house.find_probe(service, word).ok_or_else(|| Fault {
            code: code::BAD_PARAMS,
            message: format!("{name} has no probe `{word}`; `status {name}` shows its probes"),
        })?),
    };
    call.command(Command::ProbeRun { service, probe })
}

pub fn logs(call: &Call<'_>) -> Result<Act, Fault> {
    let bad = |message: String| Fault {
        code: code::BAD_PARAMS,
        message,
    };
    let (names, all) = (call.values.list("name"), call.values.flag("all"));
    let ids = match (names, all) {
        ([], true) => {
            let mut all = call.house.services();
            all.retain(|id| call.access.on(call.house.name(*id), Level::Read));
            all
        }
        ([], false) => {
            return Err(bad(
                "logs needs `name`: the services, or --all for all".into()
            ));
        }
        (_, true) => return Err(bad("give services or --all, not both".into())),
        (names, false) => {
            let mut ids = Vec::new();
            for name in names {
                let id = call.find(name)?;
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            ids
        }
    };
    let priority = match call.values.text("priority") {
        None => None,
        Some(word) => Some(Severity::parse(word).ok_or_else(|| {
            let (known, shown) = (SEVERITIES.join(", "), hints::shorten(word));
            bad(format!(
                "`priority` must be one of {known}, or 0 to 7, not `{shown}`"
            ))
        })?),
    };
    let since = call.values.number("since_ms");
    let lines = match (call.values.number("lines"), since) {
        (None, Some(_)) => usize::MAX,
        _ => call.count("lines"),
    };
    let named = |id: ServiceId| (id, call.house.name(id).into());
    Ok(Act::Logs(Box::new(LogsAsked {
        services: ids.into_iter().map(named).collect(),
        all,
        lines,
        follow: call.values.flag("follow"),
        choice: Choice {
            priority,
            since_ms: since.map(|ms| call.wall.wall_ms.saturating_sub(ms)),
            grep: call.values.text("grep").map(Into::into),
        },
    })))
}

pub fn dossiers(call: &Call<'_>) -> Result<Act, Fault> {
    let level = call.values.verb().access;
    let services = match call.values.text("name") {
        // It may be gone, and its dossiers be there.
        Some(name) => Some(vec![name.into()]),
        None if call.access.overall(level) => None,
        None => {
            let names = call.house.services().into_iter();
            let names = names.map(|id| call.house.name(id));
            let names = names.filter(|name| call.access.on(name, level));
            Some(names.map(Into::into).collect())
        }
    };
    Ok(Act::Dossiers(Box::new(DossiersAsked {
        id: None,
        services,
    })))
}

pub fn dossier(call: &Call<'_>) -> Result<Act, Fault> {
    let verb = call.values.verb();
    let id = call.values.text("id").unwrap_or_default();
    let service = Dossier::service_of(id).unwrap_or(id);
    if !call.access.on(service, verb.access) {
        return Err(denied(verb, verb.access));
    }
    Ok(Act::Dossiers(Box::new(DossiersAsked {
        id: Some(id.into()),
        services: None,
    })))
}

pub fn events(call: &Call<'_>) -> Result<Act, Fault> {
    let services = call.values.list("services").to_vec();
    for name in &services {
        call.find(name)?;
    }
    let kinds = call.values.list("kinds").to_vec();
    Ok(Act::Subscribe { services, kinds })
}

pub fn hold(call: &Call<'_>) -> Result<Act, Fault> {
    let length = call.values.number("for_ms").map(Duration::from_millis);
    call.command(Command::Hold { length })
}

pub fn release(call: &Call<'_>) -> Result<Act, Fault> {
    call.command(Command::Release)
}

pub fn reload(call: &Call<'_>) -> Result<Act, Fault> {
    let terms = Terms {
        dry_run: call.values.flag("dry_run"),
        strict: call.values.flag("strict"),
        confirm: call.values.number("confirm_ms").map(Duration::from_millis),
        ..Terms::default()
    };
    let refuse = |message: &str| {
        let message = message.to_owned();
        Err(Fault {
            code: code::BAD_PARAMS,
            message,
        })
    };
    if call.values.text("name").is_some() {
        if terms != Terms::default() {
            return refuse(
                "--dry-run, --strict and --confirm are for all definitions: leave the name out",
            );
        }
        let service = call.service()?;
        return call.command(Command::Reload { service });
    }
    if !call.access.overall(Level::Admin) {
        return Err(denied(call.values.verb(), Level::Admin));
    }
    match terms.confirm {
        Some(length) if length < limits::CONFIRM_LEAST || length > limits::CONFIRM_MOST => refuse(
            "--confirm takes a time from 1 s to a day: too short, nobody can confirm; too long, \
             nobody remembers",
        ),
        Some(_) if terms.dry_run => refuse("give --dry-run or --confirm, not both"),
        Some(_) | None => Ok(Act::Reload(terms)),
    }
}

pub fn confirm(call: &Call<'_>) -> Result<Act, Fault> {
    call.command(Command::Confirm)
}

pub fn revert(call: &Call<'_>) -> Result<Act, Fault> {
    call.command(Command::Revert)
}

pub fn upgrade(call: &Call<'_>) -> Result<Act, Fault> {
    let program = call.values.text("program").map(Into::into);
    let force = call.values.flag("force");
    Ok(Act::Upgrade { program, force })
}

pub fn simulate(call: &Call<'_>) -> Result<Act, Fault> {
    let service = call.service()?;
    let scenario = call.values.text("scenario");
    let refuse = |message: &str| {
        let message = message.to_owned();
        Err(Fault {
            code: code::BAD_PARAMS,
            message,
        })
    };
    match (call.values.text("against"), scenario) {
        (None, None) => {
            return refuse("policy simulate needs `scenario`, as \"at 30s hang\", or `against`");
        }
        (Some("history"), None) | (None, Some(_)) => {}
        (Some("history"), Some(_)) => {
            return refuse("give `scenario` or `against`, not both");
        }
        (Some(_), _) => return refuse("`against` takes \"history\""),
    }
    Ok(Act::Simulate(Box::new(Simulation {
        service,
        scenario: scenario.map(Into::into),
        set: call.values.list("set").to_vec(),
        seed: call.values.number("seed").unwrap_or(1),
        others: call.access.overall(Level::View),
    })))
}

pub fn info(call: &Call<'_>) -> Result<Act, Fault> {
    let daemon = call.house.daemon(call.wall);
    Ok(Act::Reply(Reply::Daemon(Box::new(daemon))))
}

pub fn ping(call: &Call<'_>) -> Result<Act, Fault> {
    let daemon = call.house.daemon(call.wall);
    Ok(Act::Reply(Reply::Pong {
        version: daemon.version,
        pid: daemon.pid,
    }))
}

pub fn shutdown(call: &Call<'_>) -> Result<Act, Fault> {
    let keep = call.values.flag("keep");
    call.command(Command::Shutdown { keep })
}

pub fn poweroff(_: &Call<'_>) -> Result<Act, Fault> {
    Ok(Act::End(Ending::Poweroff))
}

pub fn reboot(_: &Call<'_>) -> Result<Act, Fault> {
    Ok(Act::End(Ending::Reboot))
}

pub fn halt(_: &Call<'_>) -> Result<Act, Fault> {
    Ok(Act::End(Ending::Halt))
}

pub fn discover(_: &Call<'_>) -> Result<Act, Fault> {
    Ok(Act::Reply(Reply::Discover))
}
