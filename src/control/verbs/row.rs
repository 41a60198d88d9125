//! What a row of the table of verbs is made of.

use crate::control::access::Level;
use crate::control::calls::Run;

/// What an argument holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A service's name.
    Service,
    /// Any number of them.
    Services,
    /// A name for a service that need not be there yet.
    NewService,
    /// A definition: TOML or JSON, in JSON-RPC also as an object.
    Definition,
    /// Any text.
    Text,
    /// Any number of texts.
    Texts,
    /// A probe's name.
    Probe,
    /// An absolute path on the daemon's host.
    Path,
    /// `HUP`, `SIGHUP` or `1`.
    Signal,
    /// A whole number.
    Count,
    /// People write `10m`, programs milliseconds.
    Duration,
    /// Given or not.
    Flag,
    /// Any number of these words.
    OneOf(&'static [&'static str]),
}

impl Kind {
    /// How help calls it.
    pub const fn placeholder(self) -> &'static str {
        match self {
            Kind::Service | Kind::NewService => "NAME",
            Kind::Definition => "DEFINITION",
            Kind::Services => "NAME...",
            Kind::Text => "TEXT",
            Kind::Texts => "KEY=VALUE",
            Kind::Probe => "PROBE",
            Kind::Path => "PATH",
            Kind::Signal => "SIGNAL",
            Kind::Count => "N",
            Kind::Duration => "DURATION",
            Kind::Flag => "",
            Kind::OneOf(_) => "WORD",
        }
    }
    /// Does it hold any number of words?
    pub const fn is_list(self) -> bool {
        matches!(self, Kind::Services | Kind::Texts | Kind::OneOf(_))
    }
}

/// Where an argument stands in words; JSON takes all of them by name or in the row's order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Position,
    Option {
        long: &'static str,
        short: Option<char>,
    },
}

impl Arg {
    /// As people write it: `name`, `--for`.
    pub fn shown(&self) -> String {
        match self.form {
            Form::Position => self.name.to_owned(),
            Form::Option { long, .. } => format!("--{long}"),
        }
    }
}

#[derive(Debug)]
pub struct Arg {
    /// Its name in JSON.
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub form: Form,
    pub doc: &'static str,
}

/// What a verb answers with: how its `result` is read and drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    List,
    /// One service when a name was given, else the daemon and all services; or a tree of them.
    Status,
    Daemon,
    Why,
    Story,
    /// What was done, and what comes of it.
    Done,
    Logs,
    Events,
    Pong,
    Forecast,
    Dossiers,
    Dossier,
    Graph,
    Blame,
    Discover,
}

pub struct Verb {
    /// As people write it.
    pub words: &'static str,
    /// As JSON-RPC calls it.
    pub method: &'static str,
    pub args: &'static [Arg],
    pub access: Level,
    /// One line, without a full stop.
    pub summary: &'static str,
    /// More, in sentences.
    pub help: &'static str,
    pub shape: Shape,
    pub run: Run,
}

pub(super) const fn position(
    name: &'static str,
    kind: Kind,
    required: bool,
    doc: &'static str,
) -> Arg {
    let form = Form::Position;
    Arg {
        name,
        kind,
        required,
        form,
        doc,
    }
}

pub(super) const fn option(
    name: &'static str,
    kind: Kind,
    long: &'static str,
    short: Option<char>,
    doc: &'static str,
) -> Arg {
    Arg {
        name,
        kind,
        required: false,
        form: Form::Option { long, short },
        doc,
    }
}
