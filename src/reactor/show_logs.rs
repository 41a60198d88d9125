//! `logs`: what services wrote, from their rings and, older, from the files that the scribe writes;
//! merged by time; and to those who follow.
//!
//! Invariant: between the answer and what follows it no line is lost and none shown twice: the
//! rings are read when the answer is made, and a follower is one from then on.

use super::front::Front;
use super::tail::{self, Edge, Found, Wanted};
use super::*;
use crate::config::LogTime;
use crate::control::calls::LogsAsked;
use crate::control::log_lines::LogLine;
use crate::control::session::client_of;
use crate::reactor::ring::Ring;
use crate::reactor::scribe::style::Stream;

/// An answer that waits for what a helper finds.
pub(super) struct TailAsked {
    asked: Box<LogsAsked>,
    /// By the place in `asked`: when the files were to be read the ring was empty, so that they may
    /// have had what is in the ring by now.
    whole: Vec<bool>,
}

impl Front {
    /// Does anybody follow this service's log?
    pub fn is_followed(&self, id: ServiceId, name: &str) -> bool {
        let mut clients = self.clients.values();
        clients.any(|(client, _)| client.session.follows(id, name))
    }
}

impl Reactor {
    /// The last lines that services wrote. What a ring no longer has, or never had because a daemon
    /// before this one read it, is looked for in the files.
    pub(super) fn show_logs(&mut self, ticket: Ticket, asked: Box<LogsAsked>) {
        if asked.follow {
            for (id, _) in &asked.services {
                if let Some(log) = self.logs.get(id.index()).and_then(Option::as_ref) {
                    self.follows.entry(*id).or_insert_with(|| log.ring.tail(0));
                }
            }
        }
        // What is chosen from may be much more than what is chosen.
        let lines = match asked.choice.is_all() {
            true => asked.lines as u64,
            false if asked.lines == 0 => 0,
            false => u64::MAX,
        };
        let room = (tail::LIMIT_ALL / asked.services.len().max(1)).clamp(512, tail::LIMIT);
        let (mut wanted, mut whole) = (Vec::new(), Vec::new());
        for (number, (id, name)) in asked.services.iter().enumerate() {
            let log = self.logs.get(id.index()).and_then(Option::as_ref);
            let rules = match (log, self.engine.definition(*id)) {
                (Some(log), _) => log.rules().clone(),
                (None, Some(definition)) => self.log_rules(definition),
                (None, None) => self.log_defaults.clone(),
            };
            let time = rules.time.unwrap_or_default();
            let edge = log.and_then(|log| edge(&log.ring, time));
            whole.push(edge.is_none());
            let have = log.map_or(0, |log| log.ring.lines());
            if have < lines {
                wanted.push(Wanted {
                    number,
                    name: name.clone(),
                    dir: self.state_dir.join("logs").join(&**name),
                    lines: (lines - have).min(room as u64 / 16),
                    room,
                    time,
                    prefix: rules.prefix.unwrap_or_default(),
                    edge,
                });
            }
        }
        let tail = Rc::new(TailAsked { asked, whole });
        match wanted.is_empty() {
            true => self.give_found_logs(ticket, &tail, b""),
            false => self.start_tail(ticket, tail, wanted),
        }
    }

    /// What was found in the files, and what is in the rings.
    pub(super) fn give_found_logs(&mut self, ticket: Ticket, tail: &TailAsked, found: &[u8]) {
        let TailAsked { asked, whole } = tail;
        let mut of_files: Vec<Vec<Found>> = asked.services.iter().map(|_| Vec::new()).collect();
        for (number, line) in tail::told(found) {
            if let Some(lines) = of_files.get_mut(number) {
                lines.push(line);
            }
        }
        let mut written: Vec<Written> = Vec::new();
        for (number, (id, _)) in asked.services.iter().enumerate() {
            let log = self.logs.get(id.index()).and_then(Option::as_ref);
            let time = log.and_then(|log| log.rules().time).unwrap_or_default();
            let mut older = std::mem::take(&mut of_files[number]);
            if whole.get(number) == Some(&true)
                && let Some(edge) = log.and_then(|log| edge(&log.ring, time))
            {
                older = tail::not_in_memory(older, time, Some(&edge));
            }
            // A line without a time stands where it stood: behind the one before it.
            let mut last = 0;
            written.extend(older.into_iter().map(|Found { ms, stream, text }| {
                last = ms.unwrap_or(last);
                let bytes = text.into();
                Written {
                    number,
                    at: last,
                    ms,
                    stream,
                    bytes,
                }
            }));
            if let Some(log) = log {
                let most = match asked.choice.is_all() {
                    true => asked.lines as u64,
                    false => u64::MAX,
                };
                log.ring.read(&mut log.ring.tail(most), &mut |line| {
                    written.push(Written {
                        number,
                        at: line.wall_ms,
                        ms: Some(line.wall_ms),
                        stream: line.stream,
                        bytes: line.parts.concat(),
                    });
                    true
                });
            }
        }
        // Stable: of one service and one time in the order in which they were written.
        if asked.services.len() > 1 {
            written.sort_by_key(|line| line.at);
        }
        let usual: Vec<_> = asked
            .services
            .iter()
            .map(|(id, _)| self.usual(*id))
            .collect();
        let mut lines: Vec<LogLine<'_>> = written
            .iter()
            .map(|it| {
                let name = &*asked.services[it.number].1;
                LogLine::of(name, it.ms, it.stream.word(), &it.bytes, usual[it.number])
            })
            .filter(|line| asked.choice.wants(line))
            .collect();
        lines.drain(..lines.len().saturating_sub(asked.lines));
        let serial = client_of(ticket);
        if let Some((client, _)) = self.front.clients.get_mut(&serial) {
            client.session.logs(ticket, &lines);
            self.front.due.insert(serial);
        }
    }

    /// How much a line of this service matters that does not say so.
    fn usual(&self, id: ServiceId) -> crate::config::Severity {
        let log = self.logs.get(id.index()).and_then(Option::as_ref);
        let rules = log.map_or(&self.log_defaults, |log| log.rules());
        rules.priority()
    }

    /// What a service has just written, to those who follow it.
    pub(super) fn feed_followers(&mut self, id: ServiceId) {
        let Some(cursor) = self.follows.get_mut(&id) else {
            return;
        };
        let name = self.engine.name(id);
        let mut clients = self.front.clients.values();
        let followed = clients
            .any(|(client, _)| client.session.follows(id, name) || client.session.is_waiting());
        if !followed {
            self.follows.remove(&id);
            return;
        }
        let Some(log) = self.logs.get(id.index()).and_then(Option::as_ref) else {
            return;
        };
        let mut written: Vec<(u64, Stream, Vec<u8>)> = Vec::new();
        let missed = log.ring.read(cursor, &mut |line| {
            written.push((line.wall_ms, line.stream, line.parts.concat()));
            true
        });
        if missed > 0 {
            let words = format!("… {missed} lines were not shown: too many at once …");
            let at = written.first().map_or(0, |(ms, _, _)| *ms);
            written.insert(0, (at, Stream::Joined, words.into_bytes()));
        }
        if written.is_empty() {
            return;
        }
        let usual = log.rules().priority();
        let lines: Vec<LogLine<'_>> = written
            .iter()
            .map(|(ms, stream, bytes)| LogLine::of(name, Some(*ms), stream.word(), bytes, usual))
            .collect();
        for (serial, (client, _)) in &mut self.front.clients {
            if client.session.follows(id, name) {
                client.session.log_lines(id, name, &lines);
                self.front.due.insert(*serial);
            }
        }
    }
}

/// A line on its way into an answer.
struct Written {
    /// Whose, by the place among those asked for.
    number: usize,
    /// By what it is merged.
    at: u64,
    ms: Option<u64>,
    stream: Stream,
    bytes: Vec<u8>,
}

/// The ring's oldest line and all of the same time; without times, all of its lines.
fn edge(ring: &Ring, time: LogTime) -> Option<Edge> {
    let mut edge: Option<Edge> = None;
    ring.read(&mut ring.tail(u64::MAX), &mut |line| {
        let edge = edge.get_or_insert_with(|| Edge {
            ms: line.wall_ms,
            lines: Vec::new(),
        });
        if line.wall_ms != edge.ms && time != LogTime::None {
            return false;
        }
        edge.lines.push(line.parts.concat().into());
        true
    });
    edge
}
