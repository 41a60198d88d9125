//! Control: what people and programs ask of a running daemon, and how it answers them.
//!
//! One verb is one row of one table ([`verbs`]); the words tongue, JSON-RPC, the command line's
//! help, completions, the man page, OpenRPC and the permission check are loops over it. A
//! [`session::Session`] turns a client's bytes into answers and [`session::Errand`]s; it holds
//! no socket and reads no clock.
//!
//! Nothing here decides about a service: queries are answered from a [`House`], commands become
//! the engine's [`Request`](crate::engine::event::Request)s.
//!
//! Invariants: every complete line gets exactly one answer (a notification none); what a client
//! may make us hold is bounded by `limits`; a client's rights are checked before a verb's
//! arguments say anything about a service that it may not see.

pub mod access;
pub mod calls;
pub mod dossier;
pub mod forecast;
mod instances;
pub mod log_lines;
pub mod openrpc;
pub mod power;
pub mod render;
pub mod reply;
pub mod rpc;
pub mod session;
pub mod stream;
pub mod ties;
pub mod values;
pub mod verbs;
pub mod words;

#[cfg(test)]
pub mod fake;

use crate::config::templates::Templates;
use crate::engine::status::{DaemonStatus, Status, StoryLine, Tied, Why};
use crate::id::ServiceId;
use crate::time::Wall;

/// What can be asked of the services without changing anything.
pub trait House {
    /// A service by its exact name.
    fn find(&self, name: &str) -> Option<ServiceId>;
    /// All services, in the order of their names.
    fn services(&self) -> Vec<ServiceId>;
    /// The name of a service that `find` or `services` gave out in this same turn.
    fn name(&self, service: ServiceId) -> &str;
    /// The probe's place in the service's definition.
    fn find_probe(&self, service: ServiceId, probe: &str) -> Option<u16>;
    fn status(&self, service: ServiceId, wall: &Wall) -> Status;
    /// The same for one service alone, with what costs more to find out.
    fn page(&self, service: ServiceId, wall: &Wall) -> Status {
        self.status(service, wall)
    }
    fn why(&self, service: ServiceId, wall: &Wall) -> Why;
    /// The newest `limit` transitions and decisions of one service, or of all; oldest first.
    fn history(&self, of: Option<ServiceId>, wall: &Wall, limit: usize) -> Vec<StoryLine>;
    /// These services and what ties them to each other.
    fn tied(&self, services: &[ServiceId], wall: &Wall) -> Vec<Tied>;
    fn daemon(&self, wall: &Wall) -> DaemonStatus;
    /// Of which instances can be made.
    fn templates(&self) -> &Templates {
        static NONE: Templates = Templates::NONE;
        &NONE
    }
}
