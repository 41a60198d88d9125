//! Whose trouble a service's is: from it to the one that it waits for, or was stopped for, and on to
//! the one where that began. Reads only.

use super::status::ChainLink;
use super::*;
use crate::service::gate::{Reason, Ruling};
use crate::service::health::Health;
use crate::service::state::{Cause, State};
use crate::time::{Wall, spoken};

impl Engine {
    /// From the nearest on; empty: it is by itself as it is.
    pub(super) fn chain(&self, id: ServiceId, wall: Wall) -> Vec<ChainLink> {
        let (mut seen, mut links) = (vec![id], Vec::new());
        while let Some((other, how)) = self.comes_from(seen[seen.len() - 1]) {
            if seen.contains(&other) || links.len() == limits::CHAIN {
                break;
            }
            seen.push(other);
            links.push(self.link_words(other, how, wall));
        }
        links
    }

    /// The service because of which it is as it is, and how.
    fn comes_from(&self, id: ServiceId) -> Option<(ServiceId, String)> {
        let service = self.service(id);
        if service.state == State::Blocked {
            let (other, edge) = self.first_need(id)?;
            return Some((other, format!("waits for it ({})", edge.word())));
        }
        let standing = service.standing.as_ref().map(|standing| &standing.ruling);
        if let Some(Ruling::Deferred { reason, .. }) = standing
            && let Reason::Asking(name) | Reason::Dependency(name) = reason
        {
            return Some((self.find(name)?, "its restart waits for it".to_owned()));
        }
        // What it required went down, and it with that.
        let fits = |t: &&Transition| {
            t.cause.0 == Cause::Dependency.word() && t.to.0 == State::Stopping.word()
        };
        let mut told = service.transitions.iter().rev();
        let told = told
            .find(fits)
            .filter(|_| service.cause == Cause::Dependency)?;
        let name = told.detail.strip_prefix("requires ")?.split(", ").next()?;
        let word = match service.state {
            State::Running | State::Starting | State::Backoff | State::Blocked => "was restarted",
            State::Inactive | State::Stopping | State::Exited | State::Failed => "was stopped",
        };
        Some((self.find(name)?, format!("{word} because of it")))
    }

    fn link_words(&self, id: ServiceId, how: String, wall: Wall) -> ChainLink {
        let service = self.service(id);
        let run = service.run.as_ref();
        let ill = run.is_some_and(|run| run.verdict() == Some(Health::Unhealthy));
        let trouble = match (ill, &service.last_end, service.trouble.is_empty()) {
            (true, ..) => self.trouble_words(id, Cause::Unhealthy).into(),
            (false, _, false) => service.trouble.to_string(),
            (false, Some(end), true) => {
                let ago = spoken(wall.now.since(end.at));
                let cause = Cause::parse(&end.cause).unwrap_or(Cause::Exit);
                match cause {
                    Cause::Exit => format!("ended by itself {ago} ago: {}", end.exit),
                    cause => format!("ended {ago} ago ({cause}): {}", end.exit),
                }
            }
            (false, None, true) => String::new(),
        };
        let present = run.map_or(service.number, |run| run.id.number);
        let dossier = service.dossier.as_ref();
        // Of a run long gone it explains nothing.
        let dossier = dossier.filter(|dossier| dossier.run + 1 >= present);
        ChainLink {
            service: service.name.to_string(),
            how,
            state: service.state.word().to_owned(),
            health: run
                .and_then(|run| run.verdict())
                .map(|h| h.word().to_owned()),
            trouble,
            stuck_on: dossier.map(|dossier| dossier.summary.to_string()),
            dossier: dossier.map(|dossier| dossier.id.to_string()),
            next: self.outlook(id, wall.now).pop().unwrap_or_default(),
        }
    }
}
