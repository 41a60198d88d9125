//! An answer's content in its two forms: JSON for programs, text for people.
//!
//! The text of a reply is always drawn from the same data as its JSON, so that the command line,
//! which reads JSON, and `nc`, which reads words, show the same.

use super::House;
use super::render::{self, Style};
use super::ties::{Blame, Drawing, Tree};
use super::verbs::Shape;
use crate::engine::effect::Accepted;
use crate::engine::plan::Plan;
use crate::engine::status::{DaemonStatus, Status, StoryLine, Why};
use crate::id::ServiceId;
use crate::probe::Outcome;
use crate::time::{Wall, micros};
use serde::{Deserialize, Serialize};

/// What can be answered at once.
pub enum Reply {
    List(Vec<ServiceId>),
    Overview(Vec<ServiceId>),
    Status(Box<Status>),
    Daemon(Box<DaemonStatus>),
    Why(Box<Why>),
    Story(Vec<StoryLine>),
    Pong { version: String, pid: i32 },
    Tree(Tree),
    Graph(Drawing),
    Blame(Blame),
    Discover,
}

/// The `result` of a verb that does something.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// What was done, what it touches, what comes next; may be of several lines.
    pub note: String,
    /// Is it on disk? Only for verbs that promise it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable_error: Option<String>,
    /// What the probes answered (`probe.run`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<Vec<ProbeAnswer>>,
    /// What a reload did, or would do, service by service (`system.reload`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// One probe's answer.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProbeAnswer {
    pub name: String,
    /// `pass`, `fail`, `inconclusive`.
    pub outcome: String,
    pub reason: Option<String>,
    pub latency_us: u64,
    /// The first of what came back.
    pub output: String,
}

impl Done {
    pub fn of(accepted: &Accepted) -> Done {
        let (durable, durable_error) = match &accepted.durable {
            None => (None, None),
            Some(Ok(())) => (Some(true), None),
            Some(Err(cause)) => (Some(false), Some(cause.to_string())),
        };
        let answers: Vec<ProbeAnswer> = accepted
            .reports
            .iter()
            .map(|(name, report)| {
                let (outcome, reason) = match &report.outcome {
                    Outcome::Pass => ("pass", None),
                    Outcome::Fail(reason) => ("fail", Some(reason.to_string())),
                    Outcome::Inconclusive(cause) => ("inconclusive", Some(cause.to_string())),
                };
                ProbeAnswer {
                    name: name.to_string(),
                    outcome: outcome.to_owned(),
                    reason,
                    latency_us: micros(report.latency),
                    output: report.output.to_string(),
                }
            })
            .collect();
        Done {
            note: accepted.note.to_string(),
            durable,
            durable_error,
            probes: (!answers.is_empty()).then_some(answers),
            plan: accepted.plan.as_deref().cloned(),
        }
    }
}

/// `ping`'s result.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pong {
    pub version: String,
    pub pid: i32,
}

/// `status`'s result without a name.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Overview {
    pub daemon: DaemonStatus,
    pub services: Vec<Status>,
}

/// The result of `logs.tail`, and the params of `logs.lines`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLines {
    /// Whose they all are; empty: see `entries`.
    pub service: String,
    /// As people read them: time, of several services the name, text. What is no UTF-8 is replaced
    /// by U+FFFD.
    pub lines: Vec<String>,
    /// The same in parts.
    pub entries: Vec<LogEntry>,
}

/// A line of a log.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogEntry {
    /// When it was read (RFC 3339); null: that is not known any more.
    pub time: Option<String>,
    pub service: String,
    /// `stdout` or `stderr`; null: they are not told apart.
    pub stream: Option<String>,
    /// `emerg` `alert` `crit` `err` `warning` `notice` `info` `debug`.
    pub priority: String,
    pub text: String,
}

/// What is drawn of a forecast.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Report {
    report: Vec<String>,
}

/// Appends a value as JSON. The types here cannot fail to serialise: their keys are strings.
pub fn put_json(out: &mut Vec<u8>, value: &impl Serialize) {
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.extend_from_slice(b"null");
    }
}

impl Reply {
    /// Appends the JSON-RPC `result`.
    pub fn put_json(&self, house: &dyn House, wall: &Wall, out: &mut Vec<u8>) {
        match self {
            Reply::List(ids) => put_statuses(ids, house, wall, out),
            Reply::Overview(ids) => {
                out.extend_from_slice(b"{\"daemon\":");
                put_json(out, &house.daemon(wall));
                out.extend_from_slice(b",\"services\":");
                put_statuses(ids, house, wall, out);
                out.push(b'}');
            }
            Reply::Status(status) => put_json(out, status),
            Reply::Daemon(daemon) => put_json(out, daemon),
            Reply::Why(why) => put_json(out, why),
            Reply::Story(lines) => put_json(out, lines),
            Reply::Pong { version, pid } => {
                let version = version.clone();
                put_json(out, &Pong { version, pid: *pid });
            }
            Reply::Tree(tree) => put_json(out, tree),
            Reply::Graph(graph) => put_json(out, graph),
            Reply::Blame(blame) => put_json(out, blame),
            Reply::Discover => super::openrpc::put_document(out),
        }
    }

    /// Appends what a person reads.
    pub fn put_text(&self, house: &dyn House, wall: &Wall, style: &Style, out: &mut String) {
        let statuses = |ids: &[ServiceId]| -> Vec<Status> {
            ids.iter().map(|id| house.status(*id, wall)).collect()
        };
        match self {
            Reply::List(ids) => render::table(&statuses(ids), style, out),
            Reply::Overview(ids) => {
                render::overview(&house.daemon(wall), &statuses(ids), style, out)
            }
            Reply::Status(status) => render::page(status, style, out),
            Reply::Daemon(daemon) => render::daemon(daemon, style, out),
            Reply::Why(why) => render::why(why, style, out),
            Reply::Story(lines) => render::story(lines, style, out),
            Reply::Pong { version, pid } => render::pong(version, *pid, out),
            Reply::Tree(tree) => render::tree(tree, style, out),
            Reply::Graph(graph) => render::dot(&graph.services, out),
            Reply::Blame(blame) => render::blame(blame, style, out),
            Reply::Discover => {
                let mut json = Vec::new();
                self.put_json(house, wall, &mut json);
                out.push_str(&String::from_utf8_lossy(&json));
                out.push('\n');
            }
        }
    }
}

/// One status at a time: a thousand of them are never in memory at once.
fn put_statuses(ids: &[ServiceId], house: &dyn House, wall: &Wall, out: &mut Vec<u8>) {
    out.push(b'[');
    for (n, id) in ids.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        put_json(out, &house.status(*id, wall));
    }
    out.push(b']');
}

/// Draws a JSON-RPC `result` as text: what the command line does with an answer.
pub fn draw(shape: Shape, result: &str, style: &Style) -> Result<String, serde_json::Error> {
    let mut out = String::new();
    match shape {
        Shape::List => render::table(
            &serde_json::from_slice::<Vec<Status>>(result.as_bytes())?,
            style,
            &mut out,
        ),
        Shape::Status if is_overview(result) => {
            let all: Overview = serde_json::from_slice(result.as_bytes())?;
            render::overview(&all.daemon, &all.services, style, &mut out);
        }
        Shape::Status if result.starts_with("{\"tree\":") => {
            render::tree(&serde_json::from_slice(result.as_bytes())?, style, &mut out);
        }
        Shape::Status => render::page(&serde_json::from_slice(result.as_bytes())?, style, &mut out),
        Shape::Daemon => {
            render::daemon(&serde_json::from_slice(result.as_bytes())?, style, &mut out)
        }
        Shape::Why => render::why(&serde_json::from_slice(result.as_bytes())?, style, &mut out),
        Shape::Story => {
            render::story(
                &serde_json::from_slice::<Vec<StoryLine>>(result.as_bytes())?,
                style,
                &mut out,
            );
        }
        Shape::Done => render::done(&serde_json::from_slice(result.as_bytes())?, style, &mut out),
        Shape::Logs => {
            let logs: LogLines = serde_json::from_slice(result.as_bytes())?;
            render::log_lines(&logs.lines, style, &mut out);
        }
        Shape::Events => {}
        Shape::Pong => {
            let pong: Pong = serde_json::from_slice(result.as_bytes())?;
            render::pong(&pong.version, pong.pid, &mut out);
        }
        Shape::Forecast => {
            let told: Report = serde_json::from_slice(result.as_bytes())?;
            for line in told.report {
                out.push_str(&line);
                out.push('\n');
            }
        }
        Shape::Dossiers => {
            render::dossiers(&serde_json::from_slice(result.as_bytes())?, style, &mut out);
        }
        Shape::Dossier => {
            render::dossier(&serde_json::from_slice(result.as_bytes())?, style, &mut out);
        }
        Shape::Graph => {
            let graph: Drawing = serde_json::from_slice(result.as_bytes())?;
            render::dot(&graph.services, &mut out);
        }
        Shape::Blame => {
            render::blame(&serde_json::from_slice(result.as_bytes())?, style, &mut out);
        }
        Shape::Discover => {
            out.push_str(result);
            out.push('\n');
        }
    }
    Ok(out)
}

/// `status` without a name answers with the daemon too.
fn is_overview(result: &str) -> bool {
    result.starts_with("{\"daemon\":")
}
