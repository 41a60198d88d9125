//! What is fuzzed: one function for each reader of bytes that come from outside. The fuzzers in
//! `fuzzers/` call them, and so does `tests/fuzz.rs` with the corpus, on any compiler.
//!
//! Each takes any bytes and panics when a promise of its subject is broken, not only when the
//! subject panics.

use serde_json::value::RawValue;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use vitald::config::{self, Ask, Definition, Dns, JsonRpc, Server, Speaks, settings};
use vitald::control::House;
use vitald::control::access::Access;
use vitald::control::session::{Desk, Errand, Session};
use vitald::engine::status::{DaemonStatus, Status, StoryLine, Tied, Why};
use vitald::engine::{Accepted, Boot, Effect, Engine, Event, Found, Loaded};
use vitald::id::{Pid, RunId, ServiceId};
use vitald::journal::runtime::{Identity, Runtime};
use vitald::journal::{line, state};
use vitald::limits;
use vitald::probe::dialogue::{Dialogue, Step};
use vitald::probe::dns;
use vitald::reactor::reexec::Handover;
use vitald::reactor::scribe::frame;
use vitald::reactor::{definitions, https, resolve};
use vitald::service::notify::{self, Notice};
use vitald::time::{Time, Wall};

pub type Body = fn(&[u8]);

/// All of them, by the name of their fuzzer and corpus.
pub const BODIES: [(&str, Body); 7] = [
    ("control", control),
    ("definition", definition),
    ("http", http),
    ("servers", servers),
    ("state", state_files),
    ("frames", frames),
    ("notify", notifications),
];

// --- the control socket

struct OneService;

impl House for OneService {
    fn find(&self, name: &str) -> Option<ServiceId> {
        (name == "web").then_some(ServiceId(0))
    }
    fn services(&self) -> Vec<ServiceId> {
        vec![ServiceId(0)]
    }
    fn name(&self, _: ServiceId) -> &str {
        "web"
    }
    fn find_probe(&self, _: ServiceId, probe: &str) -> Option<u16> {
        (probe == "http").then_some(0)
    }
    fn status(&self, _: ServiceId, _: &Wall) -> Status {
        Status {
            name: "web".to_owned(),
            state: "running".to_owned(),
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
        vec![StoryLine::default()]
    }
    fn tied(&self, _: &[ServiceId], _: &Wall) -> Vec<Tied> {
        vec![Tied::default()]
    }
    fn daemon(&self, _: &Wall) -> DaemonStatus {
        DaemonStatus::default()
    }
}

/// Everything that a client of these bytes is sent, when they come in pieces of this size.
fn conversation(bytes: &[u8], piece: usize) -> Vec<u8> {
    let mut session = Session::new(1, Access::all(), "root".into());
    let desk = Desk {
        house: &OneService,
        wall: Wall::default(),
    };
    let mut said = Vec::new();
    let mut pieces = bytes.chunks(piece.max(1));
    loop {
        match pieces.next() {
            Some(piece) => session.feed(piece),
            None => session.end_of_input(),
        }
        // Until nothing more follows; every errand is done at once.
        for turn in 0.. {
            assert!(turn < 100_000, "it never comes to rest");
            let mut errands = Vec::new();
            session.work(&desk, &mut errands, &mut usize::MAX.clone());
            for errand in &errands {
                let done = Ok(Accepted::default());
                match errand {
                    Errand::Request(request) => session.answer(request.ticket, &done),
                    Errand::Logs { ticket, .. } => session.logs(*ticket, &[]),
                    other => session.answer(ticket_of(other), &done),
                }
            }
            assert!(session.output().len() <= 2 * limits::MAX_CLIENT_OUTPUT);
            said.extend_from_slice(session.output());
            session.consume(session.output().len());
            if errands.is_empty() && !session.has_work() {
                break;
            }
        }
        if session.is_finished() || pieces.len() == 0 && !session.wants_input() {
            return said;
        }
    }
}

fn ticket_of(errand: &Errand) -> vitald::id::Ticket {
    match errand {
        Errand::Request(request) => request.ticket,
        Errand::Reload { ticket, .. } | Errand::Logs { ticket, .. } => *ticket,
        Errand::Upgrade { ticket, .. }
        | Errand::Simulate { ticket, .. }
        | Errand::Dossiers { ticket, .. } => *ticket,
        Errand::End { ticket, .. } => *ticket,
    }
}

/// The first byte says in which pieces the others come.
pub fn control(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else {
        return;
    };
    let said = conversation(bytes, usize::MAX);
    for line in said.split(|byte| *byte == b'\n') {
        assert!(std::str::from_utf8(line).is_ok(), "an answer is not UTF-8");
        if line.starts_with(b"{\"jsonrpc\"") {
            let answer: serde_json::Value =
                serde_json::from_slice(line).expect("an answer is JSON");
            assert_eq!(answer["jsonrpc"], "2.0");
            let object = answer.as_object().expect("an object");
            let notifies = object.contains_key("method");
            assert!(notifies || object.contains_key("result") != object.contains_key("error"));
        }
    }
    // How the bytes are cut changes nothing, as long as no bound is reached.
    let braces = bytes.iter().filter(|byte| **byte == b'{').count();
    if braces < limits::MAX_PENDING_PER_CLIENT && bytes.len() < limits::MAX_LINE {
        let sorted = |said: Vec<u8>| {
            let mut lines: Vec<Vec<u8>> = said.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            lines.sort();
            lines
        };
        let cut = conversation(bytes, usize::from(*size));
        assert_eq!(sorted(cut), sorted(said));
    }
}

// --- definitions

/// The first byte says in which syntax, and of what.
pub fn definition(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    if kind % 3 == 2 {
        let (_, problems) = settings::read("vitald.toml", bytes);
        for problem in problems {
            assert!(!problem.to_string().is_empty());
        }
        return;
    }
    let file = ["services/web.toml", "services/web.json"][usize::from(kind % 3)];
    let outcome = config::load::read("web", file, bytes);
    assert_eq!(outcome, config::load::read("web", file, bytes));
    assert!(outcome.problems.len() <= limits::MAX_PROBLEMS + 1);
    for problem in &outcome.problems {
        let words = problem.to_string();
        assert!(words.starts_with("services/web."), "{words}");
        assert!(!words.chars().any(char::is_control), "{words:?}");
    }
    let Some(definition) = outcome.definition else {
        assert!(!outcome.problems.is_empty(), "refused without a word");
        return;
    };
    assert!(!definition.exec.is_empty() && !definition.exec[0].is_empty());
    assert!(!definition.stop_timeout.is_zero());
    assert!(!definition.retry_policy.stability_period.is_zero());
    assert!(definition.probes.len() <= limits::MAX_PROBES);
    for probe in &definition.probes {
        assert!(!probe.timeout.is_zero() && probe.timeout <= probe.interval);
        assert!(probe.failure_threshold > 0 && probe.success_threshold > 0);
    }
    let limit = definition.start_timeout;
    assert!(limit.is_none_or(|limit| definition.probes.iter().all(|p| p.start_period <= limit)));
    alive_for_an_hour(boot_of(definition));
}

// --- answers to an http probe

/// The first byte says what the probe wants, the second how its answer is cut.
pub fn http(bytes: &[u8]) {
    let &[wants, cut, ref answer @ ..] = bytes else {
        return;
    };
    let http = vitald::config::Http {
        address: vitald::config::Address::Tcp {
            host: "127.0.0.1".into(),
            port: 8080,
        },
        path: "/healthz".into(),
        method: if wants & 1 == 0 { "GET" } else { "HEAD" }.into(),
        headers: Box::default(),
        expect_status: [200..=399].into(),
        expect_body: (wants & 2 != 0).then(|| "well".into()),
        follow_redirects: wants >> 2 & 3,
        keep_alive: wants & 16 != 0,
        verify: true,
    };
    let ask = Ask::Http(http);
    let whole = told(&ask, answer, usize::MAX);
    assert_eq!(told(&ask, answer, 1), whole);
    assert_eq!(told(&ask, answer, usize::from(cut).max(1)), whole);
}

/// What a probe makes of an answer: its outcome, what it shows, whether it would connect again.
fn told(ask: &Ask, answer: &[u8], piece: usize) -> String {
    let mut dialogue = Dialogue::new(ask).expect("a plain stream");
    let mut request = Vec::new();
    dialogue.request(ask, &mut request);
    assert!(request.ends_with(b"\r\n\r\n"));
    for piece in answer.chunks(piece) {
        match dialogue.on_bytes(ask, piece) {
            Step::More | Step::Enough(_) => {}
            Step::Done(outcome) => return format!("{outcome:?}"),
            Step::Again => {
                let mut again = Vec::new();
                dialogue.request(ask, &mut again);
                let head = String::from_utf8(again).expect("a request is text");
                assert!(head.ends_with("\r\n\r\n") && head.matches("\r\n\r\n").count() == 1);
                return format!("again: {head}");
            }
        }
        assert!(dialogue.output().len() <= 4 * limits::PROBE_OUTPUT_BYTES);
    }
    format!("{:?}", dialogue.on_eof(ask))
}

// --- answers of servers with protocols of their own

/// The first byte says which, the second how its answer is cut.
pub fn servers(bytes: &[u8]) {
    let &[which, cut, ref answer @ ..] = bytes else {
        return;
    };
    let speaks = match which % 5 {
        0 => Speaks::Redis {
            user: None,
            password_file: None,
        },
        1 => Speaks::Postgres {
            user: (which & 8 != 0).then(|| "web".into()),
            database: None,
        },
        2 => Speaks::JsonRpc(JsonRpc {
            call: "ping".into(),
            params: None,
            expect_result: (which & 8 != 0).then(|| "{\"a\":[1]}".into()),
            http: None,
        }),
        3 => Speaks::Grpc { service: "".into() },
        _ => return by_dns(answer),
    };
    let address = vitald::config::Address::Unix { path: "/s".into() };
    let ask = Ask::Server(Box::new(Server { address, speaks }));
    let judged = |piece: usize| {
        let mut dialogue = Dialogue::new(&ask).expect("a plain stream");
        if which & 16 != 0 {
            dialogue.set_secret("secret");
        }
        for piece in answer.chunks(piece) {
            if let Step::Done(outcome) = dialogue.on_bytes(&ask, piece) {
                return format!("{outcome:?}");
            }
            assert!(dialogue.output().len() <= 4 * limits::PROBE_OUTPUT_BYTES);
        }
        format!("{:?}", dialogue.on_eof(&ask))
    };
    let whole = judged(usize::MAX);
    assert_eq!(judged(1), whole);
    assert_eq!(judged(usize::from(cut).max(1)), whole);
}

fn by_dns(message: &[u8]) {
    let asked = Dns {
        server: vitald::config::Address::Unix { path: "/s".into() },
        query: "example.org".into(),
        record: 16,
        expect_rcode: 0,
        expect: None,
    };
    let id = message
        .first_chunk()
        .map_or(0, |id| u16::from_be_bytes(*id));
    if let dns::Answer::Outcome(_, text) = dns::judge(id, &asked, message) {
        assert!(text.len() <= 4 * limits::PROBE_OUTPUT_BYTES);
    }
}

// --- what a daemon before this one left

/// Lines of JSON become sound journal lines, so that what is behind the checksum is reached;
/// others stand as they are.
pub fn state_files(bytes: &[u8]) {
    let dir = scratch();
    let dir = dir.as_path();
    let identity = Identity::default();
    drop(Runtime::open(dir, Some(&identity)));
    let mut journal = std::fs::read(dir.join("journal")).unwrap_or_default();
    let mut wanted = Vec::new();
    for text in bytes.split(|byte| *byte == b'\n') {
        let (kind, rest) = match text.split_first() {
            Some((b'w', rest)) => ("wanted", rest),
            Some((b's', rest)) => ("service", rest),
            Some((b't', rest)) => ("transition", rest),
            Some((b'd', rest)) => ("decision", rest),
            Some((b'h', rest)) => ("hold", rest),
            _ => ("", text),
        };
        let into = if kind == "wanted" {
            &mut wanted
        } else {
            &mut journal
        };
        match serde_json::from_slice::<&RawValue>(rest) {
            Ok(value) if !kind.is_empty() => line::write(into, kind, value).expect("written"),
            _ => {
                into.extend_from_slice(text);
                into.push(b'\n');
            }
        }
    }
    std::fs::write(dir.join("journal"), &journal).expect("write");
    std::fs::write(dir.join("wanted"), &wanted).expect("write");
    let (_, journal) = Runtime::open(dir, Some(&identity));
    let wanted = state::load(dir);
    let mut boot = boot_of(web());
    boot.wanted = wanted.wanted;
    boot.transitions = journal.transitions;
    boot.decisions = journal.decisions;
    boot.hold = journal.hold;
    let services = journal.services.into_iter().enumerate();
    boot.services = services
        .map(|(index, snapshot)| {
            let run = snapshot.run.as_ref();
            let alive = run.is_some_and(|run| run.exit.is_none()) && index % 2 == 0;
            let pid = Pid(4711);
            let started = run.map_or(0, |run| run.started);
            let found = match alive {
                true => Found::Alive { pid, started },
                false => Found::Gone,
            };
            (snapshot, found)
        })
        .collect();
    alive_for_an_hour(boot);
}

fn scratch() -> std::path::PathBuf {
    let shm = Path::new("/dev/shm");
    let base = if shm.is_dir() {
        shm.to_owned()
    } else {
        std::env::temp_dir()
    };
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    let dir = base.join(format!("vitald-fuzz-{}-{thread}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("mkdir");
    dir
}

fn web() -> Definition {
    let text = b"exec = 'web'\n[[probe]]\ntype = 'tcp'\ntarget = '127.0.0.1:1'\n";
    let outcome = config::load::read("web", "web.toml", text);
    outcome.definition.expect("a definition")
}

fn boot_of(definition: Definition) -> Boot {
    Boot {
        definitions: vec![Loaded {
            name: "web".into(),
            source: "web.toml".into(),
            definition: Ok(Rc::new(definition)),
        }],
        ..Boot::default()
    }
}

/// An engine in a world where nothing is ever answered: it comes to rest after each event, and
/// its timers lead forward.
fn alive_for_an_hour(boot: Boot) {
    let mut now = Time::from_millis(1_000_000);
    let end = now + Duration::from_secs(3600);
    let mut engine = Engine::new(now, 1);
    let mut effects = Vec::new();
    engine.handle(now, Event::Boot(Box::new(boot)), &mut effects);
    for _ in 0..200 {
        assert!(
            effects.len() < 10_000,
            "one event leads to {} effects",
            effects.len()
        );
        let starts = effects.iter().filter(|e| matches!(e, Effect::Spawn { .. }));
        assert!(starts.count() <= 64);
        effects.clear();
        match engine.deadline() {
            Some(due) if due <= end => now = due.max(now),
            _ => break,
        }
        engine.handle(now, Event::Timers, &mut effects);
    }
}

// --- what our own children tell us

/// They share our code, but a dying one tells half of it.
pub fn frames(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 7 {
        0 => drop(frame::Order::decode(bytes)),
        1 => {
            if let Some((head, data)) = frame::LogHead::decode(bytes) {
                let again = head.encode().map(|head| [&head[..], data].concat());
                assert!(again.is_none_or(|again| frame::LogHead::decode(&again).is_some()));
            }
        }
        2 => drop(frame::Ack::decode(bytes)),
        3 => drop(resolve::decode(bytes)),
        4 => drop(https::decode(bytes)),
        5 => {
            if let Some((files, _)) = definitions::receive(bytes) {
                drop(definitions::join(files, std::iter::empty(), &[]));
            }
        }
        _ => {
            if let Ok(handover) = serde_json::from_slice::<Handover>(bytes) {
                let _ = (handover.words(), handover.reduced());
                handover.recent_panics(Time::MAX);
            }
        }
    }
}

// --- notify sockets

/// A service says these datagrams, one after another, divided by `\r`, to an engine by which it
/// runs; none of them is more than its words.
pub fn notifications(bytes: &[u8]) {
    let text = b"exec = 'web'\nready = 'notify'\nwatchdog_ms = 100\n";
    let outcome = config::load::read("web", "web.toml", text);
    let mut now = Time::from_millis(1_000_000);
    let mut engine = Engine::new(now, 1);
    let mut effects = Vec::new();
    let boot = boot_of(outcome.definition.expect("a definition"));
    let run = RunId {
        service: ServiceId(0),
        number: 1,
    };
    let (pid, started) = (Pid(1000), 1);
    for event in [
        Event::Boot(Box::new(boot)),
        Event::Spawned { run, pid, started },
        Event::Executed { run },
    ] {
        engine.handle(now, event, &mut effects);
    }
    for datagram in bytes.split(|byte| *byte == b'\r').take(32) {
        let message = notify::parse(datagram);
        assert!(message.notices.len() <= limits::NOTIFY_ASSIGNMENTS);
        let name = message.name.as_deref().unwrap_or(notify::STORED);
        assert!(!name.is_empty() && !name.contains([':', '\n', '\0']));
        let mut says = message.notices;
        for notice in &says {
            if let Notice::Status(text) = notice {
                assert!(text.len() <= limits::STATUS_BYTES);
                assert!(!text.chars().any(char::is_control));
            }
        }
        says.extend(message.main.map(|pid| Notice::Main { pid, started }));
        effects.clear();
        let says = says.into();
        engine.handle(now, Event::Notified { run, says }, &mut effects);
        assert!(effects.len() < 1000, "{} effects", effects.len());
        now = now + Duration::from_millis(30);
        engine.handle(now, Event::Timers, &mut effects);
        // All of it can be shown.
        let wall = Wall { now, wall_ms: 0 };
        drop(engine.why(ServiceId(0), wall));
    }
}
