//! The smallest loop that obeys `dial`'s contract, and the servers it is tried on.

use mio::{Events, Poll, Token};
use nix::poll::{PollFd, PollFlags, poll};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use vitald::config::{
    Address, Ask, Backoff, Definition, Http, KillMode, Kind, OnExhausted, OnUnhealthy, Probe,
    Process, Restart, RetryPolicy,
};
use vitald::exit::Signal;
use vitald::id::{CheckId, RunId, ServiceId};
use vitald::probe::Outcome;
use vitald::reactor::dial::{Dial, Finished, Kept, Scratch};
use vitald::reactor::resolve::{Names, Resolved};
use vitald::time::Time;

/// Longer than anything here takes on a busy machine; only a bug waits for it.
pub const LONG: Duration = Duration::from_secs(20);
/// What a check that must run out of time is given.
pub const SHORT: Duration = Duration::from_millis(150);

pub struct Rig {
    poll: Poll,
    events: Events,
    scratch: Scratch,
    pub kept: Option<Kept>,
    serial: u32,
    /// Times the last check was woken by its socket.
    pub wakes: u32,
}

impl Rig {
    pub fn new() -> Rig {
        Rig {
            poll: Poll::new().unwrap(),
            events: Events::with_capacity(16),
            scratch: Scratch::default(),
            kept: None,
            serial: 0,
            wakes: 0,
        }
    }

    pub fn check(&mut self, definition: &Rc<Definition>, timeout: Duration) -> Box<Finished> {
        let ask = &definition.probes[0].ask;
        let resolved = Names::default()
            .get(ask, Time::ZERO)
            .expect("a literal address");
        self.check_at(definition, resolved, timeout)
    }

    pub fn check_at(
        &mut self,
        definition: &Rc<Definition>,
        resolved: Resolved,
        timeout: Duration,
    ) -> Box<Finished> {
        self.serial += 1;
        self.wakes = 0;
        let check = CheckId {
            run: RunId {
                service: ServiceId(1),
                number: 1,
            },
            probe: 0,
            serial: self.serial,
        };
        let ends = Instant::now() + timeout;
        let begun = Dial::begin(
            check,
            definition,
            resolved,
            self.kept.take(),
            Token(7),
            self.poll.registry(),
            &mut self.scratch,
        );
        let mut finished = match begun {
            Err(finished) => finished,
            Ok(dial) => self.wait(dial, ends),
        };
        assert_eq!(finished.check, check);
        self.kept = finished.kept.take();
        finished
    }

    fn wait(&mut self, mut dial: Dial, ends: Instant) -> Box<Finished> {
        loop {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return dial.expired();
            }
            let retry = dial.wants_retry();
            // Rounded up, so that the last sleep does not end before its time.
            let sleep = retry.unwrap_or(left).min(left) + Duration::from_millis(1);
            self.poll.poll(&mut self.events, Some(sleep)).unwrap();
            let registry = self.poll.registry();
            let mut finished = None;
            if retry.is_some() {
                finished = dial.retry(registry, &mut self.scratch);
            }
            for _ in self.events.iter().filter(|e| e.token() == Token(7)) {
                if finished.is_none() {
                    self.wakes += 1;
                    finished = dial.ready(registry, &mut self.scratch);
                }
            }
            if let Some(finished) = finished {
                return finished;
            }
        }
    }

    pub fn outcome(&mut self, ask: Ask, timeout: Duration) -> Outcome {
        self.check(&definition(ask), timeout).report.outcome
    }
}

pub fn definition(ask: Ask) -> Rc<Definition> {
    Rc::new(Definition {
        hooks: Default::default(),
        description: None,
        exec: ["true".into()].into(),
        kind: Kind::Process,
        pid_file: None,
        after: Box::default(),
        requires: Box::default(),
        wants: Box::default(),
        ties: None,
        process: Process::default(),
        stop_signal: Signal::TERM,
        stop_timeout: LONG,
        health_stop_timeout: None,
        start_timeout: None,
        restart: Restart::Always,
        autostart: true,
        schedule: None,
        critical: false,
        observe: false,
        safe: false,
        kill_mode: KillMode::Tree,
        retry_policy: RetryPolicy {
            max_attempts: None,
            delay: LONG,
            backoff: Backoff::Fixed,
            max_delay: LONG,
            jitter: 0.0,
            stability_period: LONG,
            on_exhausted: OnExhausted::Keep,
            on_exhausted_exec: None,
            escalate: None,
        },
        notify: None,
        held: None,
        log: None,
        probes: [Probe {
            name: "p".into(),
            ask,
            interval: LONG,
            timeout: LONG,
            failure_threshold: 1,
            success_threshold: 1,
            start_period: Duration::ZERO,
            start_interval: LONG,
            on_unhealthy: OnUnhealthy::Restart,
            window: None,
            confirm_interval: None,
        }]
        .into(),
        probes_required: None,
    })
}

fn tcp_address(address: SocketAddr) -> Address {
    Address::Tcp {
        host: address.ip().to_string().into(),
        port: address.port(),
    }
}

pub fn http_of(address: Address) -> Http {
    Http {
        address,
        path: "/healthz".into(),
        method: "GET".into(),
        headers: Box::default(),
        expect_status: [200..=399].into(),
        expect_body: None,
        follow_redirects: 0,
        keep_alive: false,
        verify: true,
    }
}

pub fn http_at(listener: &TcpListener) -> Http {
    http_of(tcp_address(listener.local_addr().unwrap()))
}

pub fn http(listener: &TcpListener) -> Ask {
    Ask::Http(http_at(listener))
}

pub fn keeping(listener: &TcpListener) -> Http {
    Http {
        keep_alive: true,
        ..http_at(listener)
    }
}

pub fn tcp(listener: &TcpListener, send: Option<&str>, expect: Option<&str>) -> Ask {
    Ask::Tcp {
        address: tcp_address(listener.local_addr().unwrap()),
        send: send.map(Into::into),
        expect: expect.map(Into::into),
    }
}

pub fn unix(path: &str) -> Ask {
    Ask::Unix {
        path: path.into(),
        send: None,
        expect: None,
    }
}

pub fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Serves connections, one after another, each by a function of its own.
pub fn server<const N: usize>(listener: &TcpListener, serve: [fn(TcpStream); N]) -> JoinHandle<()> {
    let listener = listener.try_clone().unwrap();
    thread::spawn(move || {
        for serve in serve {
            let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut waiting, LONG.as_millis() as u16).unwrap();
            assert_eq!(ready, 1, "nobody connects");
            serve(listener.accept().unwrap().0);
        }
    })
}

/// Reads one request's head. None: the peer closed or reset.
pub fn head(stream: &mut impl Read) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        text.push(byte[0]);
    }
    Some(String::from_utf8(text).unwrap())
}

pub fn say(stream: &mut impl Write, body: &str) {
    let length = body.len();
    let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(reply.as_bytes()).unwrap();
}

/// A directory of the test's own, gone with it.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vitald-wire-{}-{n}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Dir(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_string()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
