//! A line, read and served: which verb, may it, and what comes of it.

use super::super::calls::{self, Act, Call, Fault};
use super::super::rpc::{self, Item, Message, code};
use super::super::stream::{Subscription, Tongue};
use super::super::values::Values;
use super::super::{verbs, words};
use super::{Batch, Desk, Errand, Pending, Session, To, tongue_of};
use crate::config::hints;
use crate::engine::event::{Request, Terms};
use crate::limits;

impl Session {
    pub(super) fn line(&mut self, line: &[u8], desk: &Desk<'_>, errands: &mut Vec<Errand>) {
        if line.len() > limits::MAX_LINE {
            self.refuse_line(line, &format!("a line may have {} bytes", limits::MAX_LINE));
            self.closing = true;
            return;
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        if self.words_stream {
            self.end_words_stream();
        }
        let Ok(text) = std::str::from_utf8(line) else {
            self.refuse_line(line, "the line is not UTF-8");
            return;
        };
        match tongue_of(line) {
            Tongue::Words => self.words(text, desk, errands),
            Tongue::Json => match rpc::read(text) {
                Message::One(item) => self.item(item, None, desk, errands),
                Message::Batch(items) => self.batch(items, desk, errands),
            },
        }
    }

    fn words(&mut self, text: &str, desk: &Desk<'_>, errands: &mut Vec<Errand>) {
        let words = match words::split(text) {
            Ok(words) => words,
            Err(complaint) => return self.put_words("", Err(&complaint)),
        };
        if words.first().is_some_and(|word| word == "help") {
            return match words::help(&words[1..]) {
                Ok(help) => self.put_words(&help, Ok(())),
                Err(complaint) => self.put_words("", Err(&complaint)),
            };
        }
        let values = match words::find(&words) {
            Some((verb, used)) => words::parse(verb, &words[used..]),
            None => {
                let first = words.first().map_or("", String::as_str);
                Err(words::unknown_verb(first, &["help"]))
            }
        };
        match values {
            Ok(values) => self.serve(&values, To::Words, desk, errands),
            Err(complaint) => self.put_words("", Err(&complaint)),
        }
    }

    fn batch(&mut self, items: Vec<Item<'_>>, desk: &Desk<'_>, errands: &mut Vec<Errand>) {
        let serial = self.next_serial();
        self.batches.push(Batch {
            serial,
            parts: Vec::new(),
            // One for this function: nothing is sent before all members were looked at.
            waiting: 1,
        });
        for item in items {
            if self.cut.is_some() {
                return;
            }
            self.item(item, Some(serial), desk, errands);
        }
        self.settle_batch(serial);
    }

    fn item(
        &mut self,
        item: Item<'_>,
        batch: Option<u32>,
        desk: &Desk<'_>,
        errands: &mut Vec<Errand>,
    ) {
        let to = |id: Option<&str>| match (id, batch) {
            (None, _) => To::Nobody,
            (Some(id), None) => To::Rpc { id: id.into() },
            (Some(id), Some(batch)) => To::Batch {
                batch,
                id: id.into(),
            },
        };
        let (method, params, id) = match item {
            Item::Call { method, params, id } => (method, params, id),
            Item::Broken { id, code, message } => {
                return self.emit(&to(Some(id)), |out| rpc::put_error(id, code, &message, out));
            }
        };
        let to = to(id);
        let Some(verb) = verbs::by_method(&method) else {
            let known = verbs::VERBS.iter().map(|verb| verb.method);
            let hint = hints::nearest(&method, known)
                .map_or(String::new(), |near| format!("; did you mean {near}?"));
            let shown: String = method.chars().take(64).collect();
            return self.fail(
                &to,
                &Fault {
                    code: code::UNKNOWN_METHOD,
                    message: format!("Method not found: {shown}{hint}"),
                },
            );
        };
        match Values::from_json(verb, params) {
            Ok(values) => self.serve(&values, to, desk, errands),
            Err(complaint) => self.fail(
                &to,
                &Fault {
                    code: code::BAD_PARAMS,
                    message: format!("Invalid params: {complaint}"),
                },
            ),
        }
    }

    /// Does what a call asks, and answers or remembers to whom the answer goes.
    fn serve(&mut self, values: &Values, to: To, desk: &Desk<'_>, errands: &mut Vec<Errand>) {
        let act = calls::call(&Call {
            values,
            access: &self.access,
            house: desk.house,
            wall: &desk.wall,
        });
        let act = match act {
            Ok(Act::Reply(reply)) => return self.reply(&to, &reply, desk),
            Ok(act) => act,
            Err(fault) => return self.fail(&to, &fault),
        };
        if let Act::Subscribe { services, kinds } = act {
            return self.subscribe(&to, services, kinds);
        }
        if self.pending.len() >= limits::MAX_PENDING_PER_CLIENT && !matches!(to, To::Nobody) {
            let most = limits::MAX_PENDING_PER_CLIENT;
            return self.fail(
                &to,
                &Fault {
                    code: code::TOO_MANY,
                    message: format!("{most} requests of yours wait already; ask again later"),
                },
            );
        }
        let ticket = self.next_ticket();
        let logs = match act {
            Act::Logs(mut asked) => {
                let waiting = self.pending.iter().filter(|p| p.logs.is_some()).count();
                if asked.follow && self.follows.len() + waiting >= limits::MAX_FOLLOWS {
                    let most = limits::MAX_FOLLOWS;
                    return self.fail(
                        &to,
                        &Fault {
                            code: code::TOO_MANY,
                            message: format!("one connection may follow {most} logs"),
                        },
                    );
                }
                asked.follow &= !matches!(to, To::Nobody);
                errands.push(Errand::Logs {
                    ticket,
                    asked: asked.clone(),
                });
                Some(asked)
            }
            Act::Command { command, wait } => {
                errands.push(Errand::Request(Request {
                    ticket,
                    actor: self.actor.clone(),
                    wall_ms: desk.wall.wall_ms,
                    wait,
                    command,
                }));
                None
            }
            Act::Reload(terms) => {
                errands.push(Errand::Reload {
                    ticket,
                    terms: Terms {
                        by: self.actor.clone(),
                        wall_ms: desk.wall.wall_ms,
                        ..terms
                    },
                });
                None
            }
            Act::Upgrade { program, force } => {
                errands.push(Errand::Upgrade {
                    ticket,
                    program,
                    force,
                    by: self.actor.clone(),
                });
                None
            }
            Act::End(ending) => {
                errands.push(Errand::End {
                    ticket,
                    ending,
                    by: self.actor.clone(),
                });
                None
            }
            Act::Simulate(asked) => {
                errands.push(Errand::Simulate { ticket, asked });
                None
            }
            Act::Dossiers(asked) => {
                errands.push(Errand::Dossiers { ticket, asked });
                None
            }
            Act::Reply(_) | Act::Subscribe { .. } => return,
        };
        match &to {
            To::Nobody => return,
            To::Words => self.words_wait = true,
            To::Rpc { .. } => {}
            To::Batch { batch, .. } => {
                if let Some(batch) = self.batches.iter_mut().find(|b| b.serial == *batch) {
                    batch.waiting += 1;
                }
            }
        }
        self.pending.push(Pending { ticket, to, logs });
    }

    fn subscribe(&mut self, to: &To, services: Vec<Box<str>>, kinds: Vec<Box<str>>) {
        let tongue = match to {
            To::Words => Tongue::Words,
            To::Nobody | To::Rpc { .. } | To::Batch { .. } => Tongue::Json,
        };
        self.subscription = Some(Subscription {
            tongue,
            services,
            kinds,
        });
        match tongue {
            Tongue::Words => self.words_stream = true,
            Tongue::Json => self.result(to, |out| out.extend_from_slice(b"{\"subscribed\":true}")),
        }
    }
}
