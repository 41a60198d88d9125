//! Definitions: what people write about a service, read and checked.
//!
//! Pure: text in, definitions or problems out; reading files is the caller's job. The way of a
//! file: `load::read` parses it to a spanned tree (`from_toml`, `from_json`), `service` and
//! `probe` read the tree key by key (`reader`) against the one table of all keys (`keys`), and
//! `set::join` checks all files against each other. Typed readers are used instead of serde, so
//! that all errors of a file come at once, each with its line.

pub mod alerts;
pub mod ask;
pub mod capabilities;
pub mod definition;
pub mod diff;
mod from_json;
mod from_toml;
pub mod hints;
pub mod keys;
mod kinds;
mod lint;
mod lint_policy;
pub mod lint_set;
pub mod load;
mod log;
pub mod names;
pub mod overlay;
mod probe;
pub mod problem;
mod reader;
mod resources;
mod rungs;
mod schedule;
mod service;
pub mod set;
pub mod settings;
pub mod settings_diff;
pub mod show;
pub mod socket;
mod storm;
mod target;
pub mod templates;
pub mod ties;
mod tree;
mod values;
mod words;

pub use ask::{Dns, JsonRpc, Look, Measure, Server, Speaks};
pub use definition::*;
pub use log::{
    FACILITIES, Log, LogPrefix, LogStderr, LogTime, LogTo, LongLines, RateLimit, SEVERITIES,
    Severity,
};
pub use resources::sized;
pub use rungs::{Escalation, Rung};
pub use schedule::{Schedule, When, written};
pub use storm::StormLimits;
pub use ties::{OnDependency, Relation, Ties};

#[cfg(test)]
mod tests;
