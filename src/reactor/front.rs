//! The front desk: control clients between the listener, their sessions and the engine.
//!
//! Requests are handed to the engine before the timers of the turn; answers go out at its end.
//! Invariants: a client costs a turn no more than its share; whoever takes nothing is cut; at
//! the limit the one idle longest makes room.

use super::*;
use crate::config::templates::Templates;
use crate::control::House;
use crate::control::access::Rights;
use crate::control::rpc::code;
use crate::control::session::{Carried, Desk, Errand, client_of};
use crate::control::stream::Publication;
use crate::control::verbs::Shape;
use crate::engine::query::{decision_line, transition_line};
use crate::engine::snapshot::ReloadRecord;
use crate::engine::status::{DaemonStatus, Status, StoryLine, Tied, Why};
use crate::engine::{Accepted, Answer, Record, Refusal};
use crate::reactor::listener::{Client, Listener, Next, victim};
use crate::service::state::Cause;
use crate::time::Wall;
use mio::event::Event as Ready;
use std::collections::BTreeSet;

/// Before the door is looked at again for which there was no descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Front {
    listener: Listener,
    token: Token,
    pub(super) clients: BTreeMap<u32, (Client, Token)>,
    next_client: u32,
    /// To be served: something came, or something is to be sent.
    pub(super) due: BTreeSet<u32>,
    /// Who was last to have a share of a turn: the next turn begins behind it.
    served: u32,
    /// More wait at the door.
    more: bool,
    /// Who listens to events or follows a log.
    listeners: usize,
}

/// What clients see of the engine.
struct View<'a> {
    engine: &'a Engine,
    life: &'a Life,
    troubles: Vec<String>,
    watchdog: &'a watchdog::Watchdog,
    alerts: &'a [crate::config::alerts::Alert],
    settings: &'a settings::Kept,
    logs: pipes::LogsSeen<'a>,
    leaves: &'a Leaves,
    templates: &'a Templates,
}

impl House for View<'_> {
    fn find(&self, name: &str) -> Option<ServiceId> {
        self.engine
            .find(name)
            .filter(|id| self.engine.is_listed(*id))
    }
    fn services(&self) -> Vec<ServiceId> {
        self.engine.listed().collect()
    }
    fn name(&self, service: ServiceId) -> &str {
        self.engine.name(service)
    }
    fn find_probe(&self, service: ServiceId, probe: &str) -> Option<u16> {
        self.engine.find_probe(service, probe)
    }
    fn status(&self, service: ServiceId, wall: &Wall) -> Status {
        let mut status = Status {
            log: self.logs.status(service),
            ..self.engine.status(service, *wall)
        };
        let runs = self.engine.has_run(service);
        self.leaves.show(service, runs, &mut status);
        status
    }
    fn page(&self, service: ServiceId, wall: &Wall) -> Status {
        let usage = self.leaves.usage(service);
        Status {
            usage: usage.filter(|_| self.engine.has_run(service)),
            ..self.status(service, wall)
        }
    }
    fn why(&self, service: ServiceId, wall: &Wall) -> Why {
        let status = self.status(service, wall);
        // Of who was stopped for another reason nothing is to be found out.
        let causes = [
            Cause::Exit,
            Cause::Memory,
            Cause::Unhealthy,
            Cause::StartTimeout,
            Cause::Watchdog,
        ];
        let troubled = |cause: &str| causes.iter().any(|known| known.word() == cause);
        let ended = status
            .last_end
            .as_ref()
            .is_some_and(|end| troubled(&end.cause));
        Why {
            last_words: match ended {
                true => self.logs.last_words(service),
                false => Vec::new(),
            },
            status,
            ..self.engine.why(service, *wall)
        }
    }
    fn history(&self, of: Option<ServiceId>, wall: &Wall, limit: usize) -> Vec<StoryLine> {
        self.engine.history(of, *wall, limit)
    }
    fn tied(&self, services: &[ServiceId], wall: &Wall) -> Vec<Tied> {
        self.engine.tied(services, *wall)
    }
    fn templates(&self) -> &Templates {
        self.templates
    }
    fn daemon(&self, wall: &Wall) -> DaemonStatus {
        let known = self.engine.daemon(*wall);
        let (settings_problem, settings_waiting) = self.settings.shown();
        DaemonStatus {
            settings_problem,
            settings_waiting,
            watchdog: self.watchdog.status(known.watchdog.clone()),
            alerts: alerts::shown(known.alerts.clone(), self.alerts),
            pid: std::process::id() as i32,
            init: init::role().words().map(str::to_owned),
            cgroups: Some(self.leaves.words()),
            began: self.life.began.clone(),
            reduced: self.life.reduced.clone(),
            not_durable: self.troubles.clone(),
            ..known
        }
    }
}

impl Front {
    pub fn new(
        mut listener: Listener,
        rights: Rights,
        token: Token,
        registry: &mio::Registry,
    ) -> io::Result<Front> {
        listener.set_rights(rights);
        registry.register(listener.source(), token, Interest::READABLE)?;
        Ok(Front {
            listener,
            token,
            clients: BTreeMap::new(),
            next_client: 0,
            due: BTreeSet::new(),
            served: 0,
            more: false,
            listeners: 0,
        })
    }

    /// Other rights from now on, also for those who are here already.
    pub fn set_rights(&mut self, rights: &Rights) -> Result<(), String> {
        let done = self.listener.set_mode(settings::socket_mode(rights));
        self.listener.set_rights(rights.clone());
        for (client, _) in self.clients.values_mut() {
            let access = self.listener.access_of(&client.stream);
            client.session.set_access(access);
        }
        done
    }

    pub fn has_work(&self) -> bool {
        self.more || !self.due.is_empty()
    }

    /// Round and round, so that one who never stops asking keeps nobody waiting.
    fn next_due(&mut self) -> Option<u32> {
        let behind = self.due.range(self.served.saturating_add(1)..).next();
        let serial = *behind.or(self.due.first())?;
        self.due.remove(&serial);
        Some(serial)
    }

    fn next_serial(&mut self) -> u32 {
        self.next_client = self.next_client.wrapping_add(1);
        self.next_client
    }

    pub fn owns_timer(&self, key: u32) -> bool {
        key == timer_key(self.token)
    }

    /// The door, for the execution after us.
    pub fn hand_over(&self) -> reexec::Socket {
        self.listener.hand_over()
    }

    fn count_listeners(&mut self) {
        let clients = self.clients.values();
        self.listeners = clients
            .filter(|(client, _)| client.session.is_waiting())
            .count();
    }

    /// The last answers, as far as the peers take them; then the door is closed.
    pub fn say_goodbye(&mut self) {
        self.listener.unlink();
        self.clients.clear();
    }
}

impl Reactor {
    pub(super) fn accept_clients(&mut self) {
        let accepted = self.front.listener.accept();
        self.front.more = accepted.more;
        if accepted.retry {
            let key = timer_key(self.front.token);
            self.wheel.set(key, self.now + ACCEPT_PAUSE);
        }
        if accepted.refused > 0 {
            log::warn!("{} clients refused: no free descriptor", accepted.refused);
        }
        for new in accepted.clients {
            if self.front.clients.len() >= limits::MAX_CLIENTS {
                let clients = self.front.clients.iter();
                if let Some(serial) = victim(clients.map(|(serial, (client, _))| (*serial, client)))
                {
                    self.close_client(serial);
                }
            }
            let serial = self.front.next_serial();
            let client = Client::new(new, serial, self.now);
            self.watch_client(serial, client);
        }
    }

    pub(super) fn client_ready(&mut self, serial: u32, ready: &Ready) {
        if let Some((client, _)) = self.front.clients.get_mut(&serial) {
            let hung_up = ready.is_write_closed() && ready.is_read_closed();
            client.ready(ready.is_readable(), ready.is_writable(), hung_up);
            self.front.due.insert(serial);
        }
    }

    /// One share for everybody who has something to say or to hear.
    pub(super) fn serve_clients(&mut self) {
        if self.front.more {
            self.accept_clients();
        }
        let mut budget = limits::CLIENTS_PER_TURN;
        let mut errands = Vec::new();
        // Answers make new work; whoever used up the turn is served in the next one.
        let mut later = BTreeSet::new();
        while let Some(serial) = self.front.next_due() {
            let Some((client, token)) = self.front.clients.get_mut(&serial) else {
                continue;
            };
            let troubles = self.runtime.trouble().map(ToString::to_string);
            let state = self.state_trouble.as_deref().map(str::to_owned);
            let troubles = troubles.into_iter().chain(state).collect();
            let view = View {
                engine: &self.engine,
                life: &self.life,
                troubles,
                watchdog: &self.watchdog,
                alerts: &self.alerts,
                settings: &self.settings,
                logs: pipes::LogsSeen(&self.logs, &self.loggers),
                leaves: &self.leaves,
                templates: self.templates.in_force(),
            };
            let desk = Desk {
                house: &view,
                wall: self.clock.wall(self.now),
            };
            let left = budget;
            let next = client.serve(&desk, &mut errands, &mut budget);
            if budget < left {
                self.front.served = serial;
            }
            match client.deadline() {
                Some(due) => self.wheel.set(timer_key(*token), due),
                None => {
                    self.wheel.cancel(timer_key(*token));
                }
            }
            match next {
                Next::Wait => {}
                Next::Again => {
                    later.insert(serial);
                }
                Next::Close => self.close_client(serial),
            }
            for errand in errands.drain(..) {
                self.run_errand(errand);
            }
        }
        self.front.due = later;
        self.front.count_listeners();
    }

    /// Conversations that an execution before us began.
    pub(super) fn take_in_clients(&mut self) {
        for carried in std::mem::take(&mut self.before.clients) {
            let Some(new) = self.front.listener.take_in(carried.fd) else {
                continue;
            };
            let find = |name: &str| {
                self.engine
                    .find(name)
                    .filter(|id| self.engine.is_listed(*id))
            };
            let serial = self.front.next_serial();
            let session = carried.session(serial, new.access, new.actor, find);
            let client = Client::with(new.stream, session, self.now);
            self.watch_client(serial, client);
        }
        self.front.count_listeners();
    }

    fn watch_client(&mut self, serial: u32, mut client: Client) {
        let token = self.sources.insert(Source::Client(serial));
        let both = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        if let Err(error) = registry.register(&mut client.stream, token, both) {
            log::warn!("cannot watch a client: {error}");
            self.sources.remove(token);
            return;
        }
        self.front.clients.insert(serial, (client, token));
        self.front.due.insert(serial);
    }

    /// All conversations, for the execution after us; what waits is answered, but for the request
    /// for the upgrade itself.
    pub(super) fn carry_clients(&mut self, upgrade: Ticket) -> Vec<Carried> {
        let clients = self.front.clients.values_mut();
        clients
            .filter_map(|(client, _)| {
                let fd = client.stream.as_raw_fd();
                Carried::of(&mut client.session, fd, upgrade)
            })
            .collect()
    }

    /// Nothing that was handed over can be needed by the program before us any more.
    pub(super) fn taken_over(&mut self) {
        reexec::taken_over();
        let answer = match (&self.life.began, self.life.failed) {
            (Some(words), true) => Err(Refusal::new(
                code::INTERNAL,
                &format!("{words}; no service was touched"),
            )),
            (words, _) => Ok(Accepted {
                note: format!(
                    "{} to {}; no service was touched",
                    words.as_deref().unwrap_or("upgraded"),
                    env!("CARGO_PKG_VERSION")
                )
                .into(),
                ..Accepted::default()
            }),
        };
        for (serial, (client, _)) in &mut self.front.clients {
            client.session.upgraded(&answer);
            self.front.due.insert(*serial);
        }
    }

    fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Request(mut request) => {
                if let Command::Shutdown { keep } = request.command
                    && self.refuses_end(request.ticket, Ending::Exit, keep)
                {
                    return;
                }
                request.wall_ms = self.clock.wall_ms();
                if self.life.reduced.is_some() {
                    match &mut request.command {
                        Command::Set(given) => given.definition.probes = Box::default(),
                        Command::Instance(new) => {
                            for file in &mut new.files {
                                file.definition.probes = Box::default();
                            }
                        }
                        _ => {}
                    }
                }
                self.handle(Event::Request(request));
            }
            Errand::Reload { ticket, terms } => self.read_definitions(ticket, terms),
            Errand::Upgrade {
                ticket,
                program,
                by,
                force,
            } => self.begin_upgrade(ticket, program.as_deref(), by, force),
            Errand::End { ticket, ending, by } => self.end_machine(ticket, ending, by),
            Errand::Simulate { ticket, asked } => self.begin_simulation(ticket, &asked),
            Errand::Dossiers { ticket, asked } => self.show_dossiers(ticket, &asked),
            Errand::Logs { ticket, asked } => self.show_logs(ticket, asked),
        }
    }

    fn close_client(&mut self, serial: u32) {
        let Some((mut client, token)) = self.front.clients.remove(&serial) else {
            return;
        };
        if let Some(why) = client.session.cut() {
            log::debug!("client {serial} cut: {why}");
        }
        let _ = self.poll.registry().deregister(&mut client.stream);
        self.wheel.cancel(timer_key(token));
        self.sources.remove(token);
        self.front.due.remove(&serial);
    }

    /// It took nothing of what waits for it for too long.
    pub(super) fn client_due(&mut self, serial: u32) {
        let late = |client: &Client| client.deadline().is_some_and(|due| due <= self.now);
        if self
            .front
            .clients
            .get(&serial)
            .is_some_and(|(client, _)| late(client))
        {
            log::debug!("client {serial} cut: it takes nothing");
            self.close_client(serial);
        }
    }

    pub(super) fn answer(&mut self, ticket: Ticket, answer: &Answer) {
        if ticket == OWN_TICKET {
            return log_own(answer);
        }
        let serial = client_of(ticket);
        if let Some((client, _)) = self.front.clients.get_mut(&serial) {
            client.session.answer(ticket, answer);
            self.front.due.insert(serial);
        }
    }

    /// A document that a helper has made.
    pub(super) fn answer_told(&mut self, ticket: Ticket, shape: Shape, json: &str) {
        let serial = client_of(ticket);
        if let Some((client, _)) = self.front.clients.get_mut(&serial) {
            client.session.told(ticket, shape, json);
            self.front.due.insert(serial);
        }
    }

    /// To everybody who listens.
    pub(super) fn publish(&mut self, record: &Record) {
        if self.front.listeners == 0 {
            return;
        }
        let wall = self.clock.wall(self.now);
        let line = match record {
            Record::Transition(transition) => transition_line(transition, wall),
            Record::Decision(decision) => decision_line(decision, wall),
            Record::Hold(hold) => StoryLine {
                time: wall.rfc3339(self.now),
                kind: "hold".to_owned(),
                to: match hold {
                    Some(_) => "held".to_owned(),
                    None => "released".to_owned(),
                },
                detail: match hold {
                    Some(hold) => format!("by {}", hold.owner),
                    None => String::new(),
                },
                ..StoryLine::default()
            },
            Record::Reload(reload) => reload_line(reload.as_deref(), wall),
            Record::Service(_) | Record::Alert(_) | Record::Storm(_) => return,
        };
        let event = Publication::new(line);
        for (serial, (client, _)) in &mut self.front.clients {
            if client.session.listens() {
                client.session.publish(&event);
                self.front.due.insert(*serial);
            }
        }
    }
}

/// What a signal asked for, for whom nobody waits: to the daemon's own log.
fn log_own(answer: &Answer) {
    match answer {
        Ok(accepted) if accepted.plan.is_some() => {
            accepted.note.lines().for_each(|line| log::info!("{line}"));
        }
        Ok(_) => {}
        Err(refusal) => refusal
            .message
            .lines()
            .for_each(|line| log::error!("{line}")),
    }
}

/// As an event.
fn reload_line(reload: Option<&ReloadRecord>, wall: Wall) -> StoryLine {
    let (to, at, detail) = match reload.map(|reload| (reload, &reload.went_back)) {
        Some((_, Some(back))) => ("previous", back.at, format!("went back: {}", back.why)),
        Some((open, None)) if open.verdict.is_some() => {
            let why = open.verdict.as_deref().unwrap_or_default();
            ("provisional", wall.now, format!("is to go back: {why}"))
        }
        Some((open, None)) => {
            let names = open.before.iter().map(|before| &*before.name);
            let settings = open.settings.as_ref().map(|_| settings::FILE);
            let names: Vec<&str> = names.chain(settings).collect();
            let detail = format!("by {}, to be confirmed: {}", open.by, names.join(", "));
            ("provisional", wall.now, detail)
        }
        None => ("in force", wall.now, String::new()),
    };
    StoryLine {
        time: wall.rfc3339(at),
        kind: "reload".to_owned(),
        to: to.to_owned(),
        cause: "config".to_owned(),
        detail,
        ..StoryLine::default()
    }
}
