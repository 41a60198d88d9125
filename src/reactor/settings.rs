//! `vitald.toml` while the daemon runs: what is in force, what a reload has read, and what the engine is
//! told of it.
//!
//! What is decided by goes through the engine's door with the reload. Here is the rest of it: the
//! control socket's rights, defaults of logs, where alerts go. Both parts change with the same event:
//! when the engine has done the reload, or takes it back.
//!
//! Invariants: what is read and refused, or only asked about, changes nothing; a file with an error
//! changes nothing but what is said of it. The text in force is in the runtime directory, so that the
//! next daemon of this boot has it when it finds the file broken.

use super::*;
use crate::config::problem::Problem;
use crate::config::settings::{self, Access as Right, Settings};
use crate::config::settings_diff::differ;
use crate::control::access::{Grant, Level, Rights, Who};
use crate::control::power::Role;
use crate::engine::{HostRules, NewSettings};
use crate::journal::file::{self, Replace};
use crate::reactor::identity::Accounts;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Its file's name.
pub const FILE: &str = "vitald.toml";
/// In the runtime directory: what is in force.
const COPY: &str = "settings";
/// How long all services together may take to stop when the machine is to end.
const HOST_SHUTDOWN: Duration = Duration::from_secs(300);

/// The file, as it was found; None: there is none.
pub type Raw = Option<Result<Vec<u8>, String>>;

/// Settings, with what they were read from.
#[derive(Clone, Default)]
pub struct Read {
    pub settings: Settings,
    pub text: Box<str>,
    /// Why they are not those of the file.
    pub problem: Option<Box<str>>,
}

/// See the module's text.
pub struct Kept {
    runtime_dir: PathBuf,
    identity: Identity,
    /// Those with which the daemon began: what only a start reads.
    begun: Settings,
    now: Settings,
    text: Box<str>,
    problem: Option<Box<str>>,
    /// Keys that wait for a start of the daemon.
    at_start: Vec<Box<str>>,
    /// Read, and not yet through the engine.
    read: VecDeque<(Ticket, Read, Vec<Box<str>>)>,
}

/// The copy in the runtime directory.
#[derive(Serialize, Deserialize)]
struct Copy {
    boot: Identity,
    text: Box<str>,
}

/// Reads the file of this directory; what of it cannot be read is as it is without it.
pub fn read(config_dir: &Path) -> Read {
    understood(read_raw(config_dir)).0
}

/// For a helper: the file, however slow its disk.
pub fn read_raw(config_dir: &Path) -> Raw {
    match definitions::read_bounded(&config_dir.join(FILE)) {
        Ok(bytes) => Some(Ok(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(definitions::words(&error))),
    }
}

/// With all that is to be said of it.
fn understood(raw: Raw) -> (Read, Vec<Problem>) {
    let bytes = match raw {
        None => return (Read::default(), Vec::new()),
        Some(Ok(bytes)) => bytes,
        Some(Err(cause)) => {
            let problem = Problem::of_file(FILE, format!("cannot read it: {cause}"));
            return (unread(std::slice::from_ref(&problem)), vec![problem]);
        }
    };
    let (settings, problems) = settings::read(FILE, &bytes);
    let read = Read {
        settings,
        text: String::from_utf8(bytes).unwrap_or_default().into(),
        problem: unread(&problems).problem,
    };
    (read, problems)
}

fn unread(problems: &[Problem]) -> Read {
    let errors = problems.iter().filter(|problem| problem.is_error());
    let errors: Vec<String> = errors.map(ToString::to_string).collect();
    Read {
        problem: (!errors.is_empty()).then(|| errors.join("\n").into()),
        ..Read::default()
    }
}

/// What a daemon begins with. Where the file is broken: what was in force before in this boot.
pub fn begin(config_dir: &Path, runtime_dir: &Path, identity: &Identity) -> Read {
    let (read, problems) = understood(read_raw(config_dir));
    definitions::log(&problems);
    let Some(problem) = &read.problem else {
        return read;
    };
    let known = file::read(&runtime_dir.join(COPY)).ok().flatten();
    let known = known.and_then(|json| serde_json::from_slice::<Copy>(&json).ok());
    match known.filter(|copy| copy.boot == *identity) {
        Some(copy) => {
            log::warn!("{FILE} cannot be used: the settings before it stay in force");
            let (settings, _) = settings::read(FILE, copy.text.as_bytes());
            Read {
                settings,
                text: copy.text,
                problem: Some(meanwhile(problem, BEFORE)),
            }
        }
        None => Read {
            problem: Some(meanwhile(problem, "what can be read of it is")),
            ..read
        },
    }
}

/// What is in force while a file is broken.
const BEFORE: &str = "the settings before it stay";

fn meanwhile(problem: &str, what: &str) -> Box<str> {
    format!("{problem}; {what} in force").into()
}

/// What is decided by.
pub fn rules(settings: &Settings) -> HostRules {
    let host = (init::role() == Role::Host).then_some(HOST_SHUTDOWN);
    HostRules {
        limits: settings.storm,
        alerts: settings.alerts.iter().map(|a| a.rule.clone()).collect(),
        max_checks: settings.max_concurrent_probes,
        shutdown_timeout: settings.shutdown_timeout.or(host),
    }
}

/// Who may do what on the control socket.
pub fn rights(settings: &Settings) -> Rights {
    let mut rights = Rights {
        owner: nix::unistd::geteuid().as_raw(),
        grants: Vec::new(),
    };
    let accounts = Accounts::default();
    for (group, right) in &settings.access {
        match accounts.resolve(None, Some(group), None) {
            Ok(found) => rights.grants.push(Grant {
                who: Who::Group(found.gid),
                level: match right.access {
                    Right::View => Level::View,
                    Right::Read => Level::Read,
                    Right::Act => Level::Act,
                    Right::Admin => Level::Admin,
                },
                service: right.service.clone(),
            }),
            Err(error) => {
                log::warn!("{FILE}: access: {}: nobody is let in by it", error.step);
            }
        }
    }
    rights
}

/// Of the control socket: who may connect at all.
pub fn socket_mode(rights: &Rights) -> u32 {
    match rights.grants.is_empty() {
        true => 0o600,
        false => 0o666,
    }
}

impl Kept {
    /// What the daemon began with.
    pub fn new(read: Read, runtime_dir: &Path, identity: &Identity) -> Kept {
        Kept {
            runtime_dir: runtime_dir.to_owned(),
            identity: identity.clone(),
            begun: read.settings.clone(),
            now: read.settings,
            text: read.text,
            problem: read.problem,
            at_start: Vec::new(),
            read: VecDeque::new(),
        }
    }

    /// What is wrong with the file, and the keys that wait for a start.
    pub(super) fn shown(&self) -> (Option<String>, Vec<String>) {
        let waiting = self.at_start.iter().map(ToString::to_string).collect();
        (self.problem.as_deref().map(str::to_owned), waiting)
    }

    /// The keys that differ.
    fn read(&mut self, ticket: Ticket, read: Read) -> Option<Box<NewSettings>> {
        let found = differ(&self.begun, &self.now, &read.settings);
        let new = NewSettings {
            problem: read.problem.clone(),
            live: found.live,
            at_start: found.at_start.clone(),
            rules: rules(&read.settings),
            before: self.text.clone(),
        };
        self.read.push_back((ticket, read, found.at_start));
        let says = |keys: &[Box<str>]| !keys.is_empty();
        let news = new.problem.is_some() || says(&new.live) || says(&new.at_start);
        news.then(|| Box::new(new))
    }

    /// The engine decided about what was read for `ticket`: what is to be in force now.
    fn decided(&mut self, ticket: Ticket, done: bool) -> Option<Read> {
        let at = self.read.iter().position(|(of, ..)| *of == ticket)?;
        let (_, read, at_start) = self.read.remove(at).filter(|_| done)?;
        let problem = read.problem.as_deref();
        self.problem = problem.map(|problem| meanwhile(problem, BEFORE));
        if read.problem.is_some() {
            return None;
        }
        self.at_start = at_start;
        Some(read)
    }

    fn copy(&self) -> Result<(), String> {
        let copy = Copy {
            boot: self.identity.clone(),
            text: self.text.clone(),
        };
        let mut json = serde_json::to_vec(&copy).map_err(|error| error.to_string())?;
        // What does not end in a line feed was not written to its end.
        json.push(b'\n');
        let written = Replace::begin(&self.runtime_dir.join(COPY)).and_then(|mut new| {
            new.write(&json)?;
            new.commit(false)
        });
        written.map(drop).map_err(|fault| fault.to_string())
    }
}

impl Reactor {
    /// A helper has read the file for a reload.
    pub(super) fn settings_read(&mut self, ticket: Ticket, raw: Raw) -> Option<Box<NewSettings>> {
        let (read, problems) = understood(raw);
        definitions::log(&problems);
        self.settings.read(ticket, read)
    }

    pub(super) fn settings_decided(&mut self, ticket: Ticket, done: bool) {
        if let Some(read) = self.settings.decided(ticket, done) {
            self.put_in_force(read.settings, read.text);
        }
    }

    /// What a reload that went back has left in force, in place of the file.
    pub fn settings_went_back(&mut self) {
        let Some(text) = self.engine.settings_before().map(Box::<str>::from) else {
            return;
        };
        let (settings, _) = settings::read(FILE, text.as_bytes());
        self.settings.at_start = differ(&self.settings.begun, &settings, &settings).at_start;
        self.put_in_force(settings, text);
    }

    /// What of it is ours; the copy is written.
    pub(super) fn put_in_force(&mut self, settings: Settings, text: Box<str>) {
        let rights = rights(&settings);
        if let Err(why) = self.front.set_rights(&rights) {
            log::error!("{why}");
        }
        self.log_defaults = settings.log.clone();
        self.mind_log_rules();
        self.alerts = settings.alerts.clone();
        self.settings.now = settings;
        self.settings.text = text;
        self.copy_settings();
    }

    pub(super) fn copy_settings(&self) {
        if let Err(why) = self.settings.copy() {
            log::warn!(
                "cannot keep the settings in force: {why}; a daemon that finds {FILE} broken \
                 begins with what can be read of it"
            );
        }
    }
}
