//! A conversation that another execution of the daemon goes on with: what of it must not be lost,
//! as data. The connection itself is handed over by whoever holds it.
//!
//! What waits for an answer is answered, with an error that says why; streams, and bytes that have
//! come or wait to be sent, go along. The one request whose answer the next daemon alone can give
//! is the upgrade's own.

use super::super::access::Access;
use super::super::log_lines::Choice;
use super::super::rpc::code;
use super::super::stream::{Follow, Subscription, Tongue};
use super::{Pending, Session, To};
use crate::config::Severity;
use crate::control::calls::Fault;
use crate::engine::effect::Answer;
use crate::id::{ServiceId, Ticket};
use serde::{Deserialize, Serialize};

/// What a request is answered with that has not got its answer when the daemon is replaced.
pub const REPLACED: &str = "the daemon was replaced by an upgrade before this was answered: what \
                            was accepted goes on, see `status`; ask anything else again";

/// Bytes as JSON can have them: each as the character of its number.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    pub fn of(bytes: &[u8]) -> Text {
        Text(bytes.iter().map(|byte| char::from(*byte)).collect())
    }

    /// What is no byte is no part of it.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = self.0.chars().filter_map(|c| u8::try_from(c).ok());
        bytes.collect()
    }
}

/// A connection and its conversation. Flat, because each type that is read costs its reader.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Carried {
    pub fd: i32,
    /// Read, and not served.
    input: Text,
    /// To be sent.
    output: Text,
    ended: bool,
    closing: bool,
    words_stream: bool,
    /// Whether events are told in words; and of which services and kinds.
    listens: Option<bool>,
    services: Vec<String>,
    kinds: Vec<String>,
    /// Whether in words; whose, with blanks between, or `*`; and which lines: a severity, a blank,
    /// and what they have in their text.
    follows: Vec<(bool, String, Text)>,
    /// It asked for the upgrade, by a request of this id, and waits for what comes of it. Empty: in
    /// words.
    upgrade: Option<String>,
}

impl Carried {
    /// Answers what waits, and gives what is to go on; None: nobody is there any more. The session
    /// is as before but for that. `upgrade`: the ticket of the request for it.
    pub fn of(session: &mut Session, fd: i32, upgrade: Ticket) -> Option<Carried> {
        let mut asked = None;
        for Pending { ticket, to, .. } in std::mem::take(&mut session.pending) {
            if ticket == upgrade
                && let To::Words | To::Rpc { .. } = &to
            {
                asked = match &to {
                    To::Rpc { id } => Some(id.to_string()),
                    _ => Some(String::new()),
                };
                let logs = None;
                session.pending.push(Pending { ticket, to, logs });
                continue;
            }
            let fault = Fault {
                code: code::REPLACED,
                message: REPLACED.to_owned(),
            };
            session.fail(&to, &fault);
            session.settle(&to);
        }
        if session.gone || session.cut.is_some() {
            return None;
        }
        let words = |tongue: Tongue| tongue == Tongue::Words;
        let strings = |list: &[Box<str>]| list.iter().map(|it| it.to_string()).collect();
        let listens = session.subscription.as_ref();
        let follows = session.follows.iter().map(|follow| {
            let names = match &follow.services {
                None => "*".to_owned(),
                Some(services) => {
                    let names: Vec<&str> = services.iter().map(|(_, name)| &**name).collect();
                    names.join(" ")
                }
            };
            let Choice { priority, grep, .. } = &follow.choice;
            let priority = priority.map_or("", Severity::word);
            let choice = format!("{priority} {}", grep.as_deref().unwrap_or_default());
            (words(follow.tongue), names, Text::of(choice.as_bytes()))
        });
        Some(Carried {
            fd,
            input: Text::of(&session.input),
            output: Text::of(session.output()),
            ended: session.ended,
            closing: session.closing,
            words_stream: session.words_stream,
            listens: listens.map(|it| words(it.tongue)),
            services: listens.map_or_else(Vec::new, |it| strings(&it.services)),
            kinds: listens.map_or_else(Vec::new, |it| strings(&it.kinds)),
            follows: follows.collect(),
            upgrade: asked,
        })
    }

    /// The conversation, to be gone on with. A log of a service that is not known any more is not
    /// followed any more.
    pub fn session(
        self,
        client: u32,
        access: Access,
        actor: Box<str>,
        find: impl Fn(&str) -> Option<ServiceId>,
    ) -> Session {
        let tongue = |words: bool| match words {
            true => Tongue::Words,
            false => Tongue::Json,
        };
        let mut session = Session::new(client, access, actor);
        session.input = self.input.bytes();
        session.output = self.output.bytes();
        session.ended = self.ended;
        session.closing = self.closing;
        session.words_stream = self.words_stream;
        let boxes = |list: Vec<String>| list.into_iter().map(Into::into).collect();
        session.subscription = self.listens.map(|words| Subscription {
            tongue: tongue(words),
            services: boxes(self.services),
            kinds: boxes(self.kinds),
        });
        let follows = self
            .follows
            .into_iter()
            .filter_map(|(words, names, choice)| {
                let services = (names != "*").then(|| {
                    let known = |name: &str| Some((find(name)?, Box::from(name)));
                    names.split(' ').filter_map(known).collect::<Vec<_>>()
                });
                if services.as_ref().is_some_and(Vec::is_empty) {
                    return None;
                }
                let choice = String::from_utf8(choice.bytes()).unwrap_or_default();
                let (priority, grep) = choice.split_once(' ').unwrap_or_default();
                Some(Follow {
                    tongue: tongue(words),
                    services,
                    choice: Choice {
                        priority: Severity::parse(priority),
                        since_ms: None,
                        grep: (!grep.is_empty()).then(|| grep.into()),
                    },
                })
            });
        session.follows = follows.collect();
        if let Some(id) = self.upgrade {
            let to = match id.is_empty() {
                true => To::Words,
                false => To::Rpc { id: id.into() },
            };
            session.words_wait = matches!(to, To::Words);
            let ticket = session.next_ticket();
            session.upgrade = Some(ticket);
            let logs = None;
            session.pending.push(Pending { ticket, to, logs });
        }
        session
    }
}

impl Session {
    /// Tells it, if it asked for the upgrade, what came of it.
    pub fn upgraded(&mut self, answer: &Answer) {
        if let Some(ticket) = self.upgrade.take() {
            self.answer(ticket, answer);
        }
    }
}
