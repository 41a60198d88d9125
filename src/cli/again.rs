//! The daemon was replaced while a client waited: what is gone on with, and how.
//!
//! An upgrade hands connections on, and answers what waited with an error of its own code; after a
//! panic, or a daemon that was killed, the connection is closed. Nothing is asked twice that would
//! do something twice: waiting is gone on with by looking.

use super::client::{Connection, Trouble};
use crate::control::rpc::code;
use crate::control::values::{Values, quoted};
use crate::engine::status::Status;
use std::path::Path;

/// What is waited for: this service up, or down.
pub struct Awaited<'a> {
    name: &'a str,
    up: bool,
    /// Whether `wanted` tells that the daemon took the verb in before it went.
    told_by_wanted: bool,
}

impl<'a> Awaited<'a> {
    /// None: the verb is not one whose end can be seen.
    pub fn by(values: &'a Values) -> Option<Awaited<'a>> {
        let (up, told_by_wanted) = match values.verb().method {
            "service.start" => (true, true),
            "service.stop" => (false, true),
            "service.once" => (true, false),
            "service.restart" => (true, false),
            _ => return None,
        };
        let name = values.text("name").filter(|_| values.flag("wait"))?;
        Some(Awaited {
            name,
            up,
            told_by_wanted,
        })
    }

    /// Waits on after this trouble, over as many daemons as it takes; what is so in the end, and
    /// whether that was wanted. Or the trouble, if it is another one.
    pub fn wait_on(
        &self,
        connection: &mut Connection,
        trouble: Trouble,
    ) -> Result<(String, bool), Trouble> {
        match trouble {
            Trouble::Refused { code, .. } if code == code::REPLACED => {}
            Trouble::Closed if self.told_by_wanted => {
                *connection = connection.again()?;
                let wanted = if self.up { "start" } else { "stop" };
                if self.status(connection)?.wanted != wanted {
                    return Err(Trouble::Closed);
                }
            }
            trouble => return Err(trouble),
        }
        loop {
            match self.look(connection) {
                Err(Trouble::Closed) => *connection = connection.again()?,
                seen => return seen,
            }
        }
    }

    fn look(&self, connection: &mut Connection) -> Result<(String, bool), Trouble> {
        let services = format!("{{\"services\":[{}]}}", quoted(self.name));
        connection.call("events.subscribe", &services)?;
        loop {
            let status = self.status(connection)?;
            if let Some(well) = self.reached(&status) {
                let health = status.health.map(|health| format!(" ({health})"));
                let health = health.unwrap_or_default();
                let words = format!("{} is {}{health}", self.name, status.state);
                return Ok((words, well));
            }
            connection.notification()?;
        }
    }

    fn status(&self, connection: &mut Connection) -> Result<Status, Trouble> {
        let name = format!("{{\"name\":{}}}", quoted(self.name));
        let status = connection.call("service.status", &name)?;
        serde_json::from_slice(status.as_bytes())
            .map_err(|error| Trouble::Other(format!("cannot read the daemon's answer: {error}")))
    }

    /// As the engine judges it (`Goal`), but for the run's number: of a restart that was accepted
    /// the old run is stopping already.
    fn reached(&self, status: &Status) -> Option<bool> {
        let well = status.health.as_deref().is_none_or(|it| it == "healthy");
        match (self.up, status.state.as_str()) {
            (true, "running") => well.then_some(true),
            (true, "exited") => Some(status.kind == "oneshot"),
            (true, "failed" | "inactive") => Some(false),
            (false, "inactive" | "exited" | "failed" | "backoff" | "blocked") => Some(true),
            _ => None,
        }
    }
}

/// What asks for the rest of a stream that was cut; None: it was no stream.
pub fn rest_of_stream(values: &Values) -> Option<String> {
    match values.verb().method {
        "logs.tail" => {
            // The same, without what was shown already.
            let mut rest = values.clone();
            rest.put_number("lines", 0);
            Some(rest.to_json())
        }
        "events.subscribe" => Some(values.to_json()),
        _ => None,
    }
}

impl Connection {
    /// Another connection to whoever answers on the socket now; nobody: it was closed.
    pub fn again(&self) -> Result<Connection, Trouble> {
        let socket: &Path = self.socket();
        match Connection::open(socket, None) {
            Err(Trouble::NoDaemon(_)) => Err(Trouble::Closed),
            opened => opened,
        }
    }
}
