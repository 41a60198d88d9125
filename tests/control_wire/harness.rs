//! A loop of the test's own around listener, clients and sessions, before a house that is not
//! there.

use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vitald::config::Severity;
use vitald::control::House;
use vitald::control::access::Rights;
use vitald::control::log_lines::LogLine;
use vitald::control::session::{Desk, Errand, client_of};
use vitald::control::stream::Publication;
use vitald::engine::effect::Accepted;
use vitald::engine::status::{DaemonStatus, Status, StoryLine, Tied, Why};
use vitald::id::ServiceId;
use vitald::limits;
use vitald::reactor::listener::{Client, Listener, Next, victim};
use vitald::time::{Time, Wall};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(usize::MAX);

struct ManyServices {
    names: Vec<String>,
}

impl House for ManyServices {
    fn find(&self, name: &str) -> Option<ServiceId> {
        let at = self.names.iter().position(|known| known == name)?;
        Some(ServiceId(at as u32))
    }
    fn services(&self) -> Vec<ServiceId> {
        (0..self.names.len() as u32).map(ServiceId).collect()
    }
    fn name(&self, service: ServiceId) -> &str {
        &self.names[service.index()]
    }
    fn find_probe(&self, _: ServiceId, _: &str) -> Option<u16> {
        None
    }
    fn status(&self, service: ServiceId, _: &Wall) -> Status {
        Status {
            name: self.name(service).to_owned(),
            state: "running".to_owned(),
            detail: Some("x".repeat(300)),
            ..Status::default()
        }
    }
    fn why(&self, service: ServiceId, wall: &Wall) -> Why {
        Why {
            status: self.status(service, wall),
            ..Why::default()
        }
    }
    fn history(&self, _: Option<ServiceId>, _: &Wall, _: usize) -> Vec<StoryLine> {
        Vec::new()
    }
    fn tied(&self, _: &[ServiceId], _: &Wall) -> Vec<Tied> {
        Vec::new()
    }
    fn daemon(&self, _: &Wall) -> DaemonStatus {
        DaemonStatus {
            version: "0.1.0".to_owned(),
            ..DaemonStatus::default()
        }
    }
}

/// What the loop and the test share.
#[derive(Default)]
pub struct Shared {
    /// Added to the clock, in microseconds.
    pub ahead: AtomicU64,
    /// Events to publish in the next turn.
    pub events: AtomicU64,
    /// May what waits be answered? Else tickets are kept.
    pub answer: AtomicBool,
    quit: AtomicBool,
}

/// A running loop; ends with its owner.
pub struct Server {
    pub path: PathBuf,
    pub shared: Arc<Shared>,
    waker: Waker,
    /// Every client that was closed: the how-manieth it was, and whether for its output's bound.
    pub closed: mpsc::Receiver<(u32, bool)>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(rights: Rights) -> Server {
        let path = fresh_path();
        let listener = Listener::bind(&path, 0o666, None, rights).unwrap();
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), WAKER).unwrap();
        let shared = Arc::new(Shared::default());
        shared.answer.store(true, Ordering::SeqCst);
        let (tell, closed) = mpsc::channel();
        let turns = Turns {
            poll,
            listener,
            shared: Arc::clone(&shared),
            tell,
            clients: BTreeMap::new(),
            kept: Vec::new(),
            serial: 1,
            begun: Instant::now(),
            house: ManyServices {
                names: (0..1000).map(|n| format!("service-{n:04}")).collect(),
            },
        };
        let thread = Some(std::thread::spawn(move || turns.run()));
        Server {
            path,
            shared,
            waker,
            closed,
            thread,
        }
    }

    pub fn all() -> Server {
        Server::start(Rights {
            owner: nix::unistd::geteuid().as_raw(),
            grants: Vec::new(),
        })
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        stream.set_write_timeout(patience).unwrap();
        stream
    }

    pub fn tell(&self, change: impl FnOnce(&Shared)) {
        change(&self.shared);
        self.waker.wake().unwrap();
    }

    /// Somebody new is served at once.
    pub fn still_serves(&self) {
        let mut stream = self.connect();
        stream.write_all(b"ping\n").unwrap();
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(lines.nth(1).unwrap().unwrap(), "ok");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tell(|shared| shared.quit.store(true, Ordering::SeqCst));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the loop panicked"
            );
        }
        let _ = std::fs::remove_dir_all(self.path.parent().unwrap());
    }
}

/// The loop of the real daemon in small: same calls, same order.
struct Turns {
    poll: Poll,
    listener: Listener,
    pub shared: Arc<Shared>,
    tell: mpsc::Sender<(u32, bool)>,
    clients: BTreeMap<u32, Client>,
    kept: Vec<Errand>,
    serial: u32,
    begun: Instant,
    house: ManyServices,
}

impl Turns {
    fn wall(&self) -> Wall {
        let ahead = Duration::from_micros(self.shared.ahead.load(Ordering::SeqCst));
        Wall {
            now: Time::ZERO + self.begun.elapsed() + ahead,
            wall_ms: 0,
        }
    }

    fn run(mut self) {
        let source = self.listener.source();
        self.poll
            .registry()
            .register(source, LISTENER, Interest::READABLE)
            .unwrap();
        let mut events = Events::with_capacity(256);
        let mut again: Vec<u32> = Vec::new();
        let (mut accepting, mut retry) = (false, false);
        while !self.shared.quit.load(Ordering::SeqCst) {
            let timeout = match (again.is_empty() && !accepting, retry) {
                (false, _) => Duration::ZERO,
                (true, true) => Duration::from_millis(50),
                // The test moves the clock, so deadlines are looked at often.
                (true, false) => Duration::from_millis(20),
            };
            if self.poll.poll(&mut events, Some(timeout)).is_err() {
                continue;
            }
            let wall = self.wall();
            let mut due = std::mem::take(&mut again);
            let mut knock = accepting || retry;
            for event in &events {
                match event.token() {
                    LISTENER => knock = true,
                    WAKER => {}
                    Token(serial) => {
                        let serial = serial as u32;
                        if let Some(client) = self.clients.get_mut(&serial) {
                            let hung_up = event.is_write_closed();
                            client.ready(event.is_readable(), event.is_writable(), hung_up);
                            due.push(serial);
                        }
                    }
                }
            }
            if knock {
                let accepted = self.listener.accept();
                (accepting, retry) = (accepted.more, accepted.retry);
                for new in accepted.clients {
                    if self.clients.len() >= limits::MAX_CLIENTS {
                        let one = victim(self.clients.iter().map(|(k, c)| (*k, c))).unwrap();
                        self.close(one);
                    }
                    let mut client = Client::new(new, self.serial, wall.now);
                    let token = Token(self.serial as usize);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    self.poll
                        .registry()
                        .register(&mut client.stream, token, interest)
                        .unwrap();
                    self.clients.insert(self.serial, client);
                    due.push(self.serial);
                    self.serial += 1;
                }
            }
            self.publish(&mut due);
            self.answer_kept(&mut due);
            let mut budget = limits::CLIENTS_PER_TURN;
            while let Some(serial) = due.pop() {
                self.serve(serial, wall, &mut budget, &mut due, &mut again);
            }
            for (serial, client) in &self.clients {
                if client
                    .deadline()
                    .is_some_and(|deadline| deadline <= wall.now)
                {
                    due.push(*serial);
                }
            }
            due.iter().for_each(|serial| self.close(*serial));
        }
        self.listener.unlink();
    }

    fn serve(
        &mut self,
        serial: u32,
        wall: Wall,
        budget: &mut usize,
        due: &mut Vec<u32>,
        again: &mut Vec<u32>,
    ) {
        let desk = Desk {
            house: &self.house,
            wall,
        };
        let Some(client) = self.clients.get_mut(&serial) else {
            return;
        };
        let mut errands = Vec::new();
        let next = client.serve(&desk, &mut errands, budget);
        self.kept.append(&mut errands);
        match next {
            Next::Close => self.close(serial),
            Next::Again => again.push(serial),
            Next::Wait => {}
        }
        self.answer_kept(due);
    }

    fn answer_kept(&mut self, due: &mut Vec<u32>) {
        if !self.shared.answer.load(Ordering::SeqCst) {
            return;
        }
        for errand in self.kept.drain(..) {
            let (ticket, log) = match errand {
                Errand::Request(request) => (request.ticket, false),
                Errand::Reload { ticket, .. }
                | Errand::Upgrade { ticket, .. }
                | Errand::End { ticket, .. }
                | Errand::Simulate { ticket, .. }
                | Errand::Dossiers { ticket, .. } => (ticket, false),
                Errand::Logs { ticket, .. } => (ticket, true),
            };
            let Some(client) = self.clients.get_mut(&client_of(ticket)) else {
                continue;
            };
            if log {
                let line = LogLine::of("web", None, None, b"a line", Severity::INFO);
                client.session.logs(ticket, &[line]);
            } else {
                let accepted = Accepted {
                    note: "done".into(),
                    ..Accepted::default()
                };
                client.session.answer(ticket, &Ok(accepted));
            }
            due.push(client_of(ticket));
        }
    }

    fn publish(&mut self, due: &mut Vec<u32>) {
        for _ in 0..self.shared.events.swap(0, Ordering::SeqCst) {
            let event = Publication::new(StoryLine {
                service: "service-0001".to_owned(),
                kind: "state".to_owned(),
                ..StoryLine::default()
            });
            for (serial, client) in &mut self.clients {
                client.session.publish(&event);
                if !due.contains(serial) {
                    due.push(*serial);
                }
            }
        }
    }

    fn close(&mut self, serial: u32) {
        if let Some(mut client) = self.clients.remove(&serial) {
            self.poll.registry().deregister(&mut client.stream).unwrap();
            let _ = self.tell.send((serial, client.session.cut().is_some()));
        }
    }
}

/// A path in a directory of its own.
pub fn fresh_path() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::SeqCst);
    let dir = std::env::temp_dir().join(format!("vitald-wire-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    dir.join("control.sock")
}

pub fn call(method: &str, id: u32) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"id\":{id}}}\n")
}
