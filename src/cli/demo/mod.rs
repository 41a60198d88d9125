//! `vitald demo`: the main job, shown. A server hangs with its port still bound; its probe
//! notices, the gate allows a restart, it is stopped and started again, it is healthy, and `why`
//! tells the story.
//!
//! The play is real: a daemon of its own (`stage`), a real server (`server`), real probes.
//! Invariant: it succeeds only when every step was seen to happen and nothing is left.

mod server;
mod stage;

use super::client::cause;
use super::dirs::Env;
use super::exits::Exit;
use super::terminal;
use crate::control::render::{self, Style};
use crate::control::reply;
use crate::control::verbs::Shape;
use crate::engine::status::{Status, StoryLine};
use stage::{Events, Stage};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// A machine on which it takes longer has other worries.
const LIMIT: Duration = Duration::from_secs(60);
/// What a request by hand is given.
const PATIENCE: Duration = Duration::from_millis(500);

/// Plays, or with a port is only the server that plays the service.
pub fn demo(serve: Option<u16>, env: Env<'_>) -> Exit {
    let played = match serve {
        Some(port) => server::serve(port)
            .map_err(|error| format!("cannot serve on 127.0.0.1:{port}: {}", cause(&error))),
        None => play(&mut Teller {
            style: terminal::style(env),
        }),
    };
    match played {
        Ok(()) => Exit::Ok,
        Err(words) => {
            eprintln!("vitald: demo: {words}");
            Exit::Failed
        }
    }
}

/// Says what is seen. Words that nobody reads any more end the play.
struct Teller {
    style: Style,
}

impl Teller {
    fn say(&self, text: &str) -> Result<(), String> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush())
            .map_err(|error| format!("cannot write to stdout: {}", cause(&error)))
    }

    fn step(&self, number: u32, text: &str) -> Result<(), String> {
        self.say(&render::strong(&format!("\n{number}. {text}"), &self.style))
    }

    /// Text below a step.
    fn below(&self, text: &str) -> Result<(), String> {
        let lines: Vec<String> = text.lines().map(|line| format!("   {line}")).collect();
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        self.say(&lines.join("\n"))
    }
}

fn play(teller: &mut Teller) -> Result<(), String> {
    let mut stage = Stage::set()?;
    let played = acts(&mut stage, teller);
    let last_words = match &played {
        Err(_) if !stage.interrupted => stage.last_words(),
        _ => String::new(),
    };
    let struck = stage.strike();
    let (seen, healed) = match played {
        Ok(times) => times,
        Err(words) if last_words.is_empty() => return Err(words),
        Err(words) => return Err(format!("{words}\nthe daemon's last words:\n{last_words}")),
    };
    struck?;
    if stage.get("/", PATIENCE).is_ok() {
        return Err(format!("something still listens on port {}", stage.port));
    }
    teller.say("\nCleaned up: the daemon and its service are gone, and so are their files.")?;
    teller.say(&render::strong(
        &format!(
            "The loop closed: seen to hang after {}, healthy again after {}.",
            seconds(seen),
            seconds(healed)
        ),
        &teller.style,
    ))
}

/// All that is shown; when the hang was noticed and when it was over, from its begin.
fn acts(stage: &mut Stage, teller: &mut Teller) -> Result<(Duration, Duration), String> {
    let limit = Instant::now() + LIMIT;
    teller.say(&format!(
        "vitald {}: a server hangs, and is healed. All happens in {}.",
        env!("CARGO_PKG_VERSION"),
        stage.dir.display()
    ))?;

    teller.step(1, "A service is a file; this one is services/web.toml:")?;
    teller.below(&stage.definition())?;

    teller.step(2, "The daemon starts it, and its probe finds it healthy:")?;
    stage.start_daemon(limit)?;
    let first = healthy(stage, limit, 0)?;
    teller.below("$ vitald status")?;
    teller.below(&drawn(
        stage,
        teller,
        Shape::Status,
        "service.status",
        "{}",
    )?)?;

    teller.step(3, "Now it hangs: its process lives, its port stays bound.")?;
    let mut events = stage.events()?;
    stage.get("/hang", PATIENCE)?;
    let hung = Instant::now();
    match stage.get("/", PATIENCE)? {
        None => teller.below(&format!(
            "GET http://127.0.0.1:{}/: connected, and no answer in {}",
            stage.port,
            render::duration(PATIENCE.as_millis() as u64)
        ))?,
        Some(answer) => return Err(format!("it should hang, and answers {answer}")),
    }

    teller.step(4, "The probe notices, the gate decides, the loop closes:")?;
    teller.below("$ vitald events")?;
    let noticed = watch(stage, teller, &mut events, hung, first.run, limit)?;

    teller.step(5, "It is another process, and it answers:")?;
    let second = healthy(stage, limit, first.run)?;
    let healed = hung.elapsed();
    if second.pid == first.pid {
        return Err(format!("the process is the same: pid {:?}", first.pid));
    }
    let answer = stage.get("/", PATIENCE)?.unwrap_or_default();
    if answer != "HTTP/1.1 200 OK" {
        return Err(format!("it should answer again, and says `{answer}`"));
    }
    teller.below(&format!("GET http://127.0.0.1:{}/: {answer}", stage.port))?;
    teller.below("$ vitald status")?;
    teller.below(&drawn(
        stage,
        teller,
        Shape::Status,
        "service.status",
        "{}",
    )?)?;

    teller.step(6, "And why was it restarted?")?;
    teller.below("$ vitald why web")?;
    let name = "{\"name\":\"web\"}";
    teller.below(&drawn(stage, teller, Shape::Why, "service.why", name)?)?;

    teller.step(7, "The same by hand, with any service of yours:")?;
    let (program, port) = (Path::new(&stage.program), stage.port);
    let folder = program.parent().unwrap_or(Path::new("."));
    teller.below(&format!("export PATH={}:$PATH", folder.display()))?;
    teller.below(&BY_HAND.replace("PORT", &port.to_string()))?;
    Ok((noticed, healed))
}

const BY_HAND: &str = "\
mkdir -p /tmp/v/services     # and a definition into it, like the one above
vitald check --config-dir /tmp/v
vitald run --config-dir /tmp/v --state-dir /tmp/v/state --runtime-dir /tmp/v/run &
export VITALD_SOCKET=/tmp/v/run/control.sock
vitald status
vitald signal web STOP       # a stopped process hangs, its port bound; or GET /hang on port PORT
vitald events
vitald why web
vitald shutdown";

/// Shows what happens until the run after `first` is running, and holds every step to have
/// happened; when the service was first seen to be unhealthy.
fn watch(
    stage: &mut Stage,
    teller: &Teller,
    events: &mut Events,
    hung: Instant,
    first: u32,
    limit: Instant,
) -> Result<Duration, String> {
    // In this order, whatever comes between.
    let mut due = [
        ("health", "unhealthy"),
        ("decision", "allowed"),
        ("state", "stopping"),
        ("state", "backoff"),
        ("state", "starting"),
        ("health", "healthy"),
        ("state", "running"),
    ]
    .into_iter()
    .peekable();
    let mut noticed = None;
    while let Some((kind, to)) = due.peek().copied() {
        let event = events
            .next(stage, limit)
            .map_err(|words| format!("waited for {kind} {to} of web: {words}"))?;
        let at = hung.elapsed();
        let StoryLine { run, .. } = event;
        teller.below(&format!(
            "+{:<6}  {}",
            seconds(at),
            render::event_words(&event, &teller.style)
        ))?;
        if event.kind == kind && event.to == to && run >= first {
            noticed.get_or_insert(at);
            due.next();
        }
    }
    noticed.ok_or_else(|| "nothing was noticed".to_owned())
}

/// Waits until the service runs, healthy, in a run after `run`.
fn healthy(stage: &mut Stage, limit: Instant, run: u32) -> Result<Status, String> {
    loop {
        let text = stage.ask("service.status", "{\"name\":\"web\"}")?;
        let status: Status = serde_json::from_slice(text.as_bytes())
            .map_err(|error| format!("cannot read the daemon's answer: {error}"))?;
        if status.run > run
            && status.state == "running"
            && status.health.as_deref() == Some("healthy")
        {
            return Ok(status);
        }
        stage
            .wait(Duration::from_millis(20), limit)
            .map_err(|words| format!("waited for web to be healthy, it is {text}: {words}"))?;
    }
}

fn drawn(
    stage: &Stage,
    teller: &Teller,
    shape: Shape,
    method: &str,
    params: &str,
) -> Result<String, String> {
    let result = stage.ask(method, params)?;
    let style = Style {
        // Less what it is indented by.
        width: teller.style.width.map(|width| width.saturating_sub(3)),
        now_ms: terminal::now_ms(),
        ..teller.style
    };
    reply::draw(shape, &result, &style)
        .map_err(|error| format!("cannot read the daemon's answer: {error}"))
}

fn seconds(length: Duration) -> String {
    format!("{:.1} s", length.as_secs_f32())
}
