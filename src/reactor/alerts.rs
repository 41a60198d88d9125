//! Alerts, sent: a command is run with the alert on its standard input, or a helper calls a webhook.
//!
//! When, how often and until when is the engine's. Here is where they go, which nobody else knows:
//! neither a URL's path nor a header is ever logged or shown.
//!
//! Invariants: the loop waits for nothing; each `SendAlert` is answered by one `AlertSent`, at the
//! latest when it has expired; what a command writes is bounded.

mod webhook;

use super::*;
use crate::config::alerts::{Alert as Defined, Target, Webhook};
use crate::engine::SpawnError;
use crate::engine::alerts::Alert;
use crate::engine::status::AlertStatus;
use crate::probe::exec::Tail;
use crate::reactor::helper;
use crate::reactor::jobs::Work;
use crate::reactor::spawn::SpawnPlan;
use crate::time::spoken;
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;

/// What a helper tells on its way begins with this, what is wrong does not.
const STAGE: char = '~';
/// What it may tell in all.
const TOLD: usize = 4096;

/// An alert under way.
pub(super) struct Sending {
    pub number: u64,
    /// Its rule's name.
    to: Box<str>,
    last: bool,
    timeout: Duration,
    /// `uncured web`
    what: Box<str>,
    /// Of a command; None: a webhook, whose words are the job's output.
    pub tail: Option<Box<Tail>>,
    setup: Option<OwnedFd>,
}

impl Reactor {
    pub(super) fn send_alert(&mut self, rule: u16, alert: &Alert, last: bool) {
        // By its name: that of a reload that went back may be another file's.
        let name = self.engine.alert_name(rule);
        let defined = self.alerts.iter().find(|a| name == Some(&*a.rule.name));
        let Some(defined) = defined else {
            return self.alert_answered(alert.number, Some("it is no longer defined".into()));
        };
        if alert.dropped > 0 {
            let (name, number) = (&defined.rule.name, alert.dropped);
            log::warn!("alert {name}: {number} found no room in its queue and are lost");
        }
        let sending = Sending {
            number: alert.number,
            to: defined.rule.name.clone(),
            last,
            timeout: defined.rule.timeout,
            what: format!("{} {}", alert.kind, alert.service)
                .trim_end()
                .into(),
            tail: None,
            setup: None,
        };
        let message = self.message(&defined.rule.name, alert);
        let target = defined.target.clone();
        let begun = match &target {
            Target::Exec(argv) => self.run_alert(argv, alert, &message, sending),
            Target::Webhook(hook) => self.call_webhook(hook, &message, sending),
        };
        if let Err((sending, error)) = begun {
            self.alert_ended(&sending, Some(error.to_string()));
        }
    }

    fn run_alert(
        &mut self,
        argv: &[Box<str>],
        alert: &Alert,
        message: &Message,
        mut sending: Sending,
    ) -> Result<(), (Sending, SpawnError)> {
        let made = input(&message.json).and_then(|input| Ok((input, sys::pipe(true)?)));
        let (input, (reader, writer)) = match made {
            Ok(made) => made,
            Err(error) => return Err((sending, sys::failed("pipe", &error))),
        };
        let name = &sending.to;
        let spawned = self.spawner.spawn(&SpawnPlan {
            service: &alert.service,
            run: None,
            outlives: false,
            exec: argv,
            process: &crate::config::Process::default(),
            stdin: Some(input.as_fd()),
            stdout: writer.as_fd(),
            stderr: writer.as_fd(),
            fds: &[],
            fd_at: None,
            pid_env: &[],
            room: None,
            env: &[
                ("VITALD_ALERT", &alert.kind),
                ("VITALD_ALERT_NAME", name),
                ("VITALD_CAUSE", &alert.cause),
                ("VITALD_REASON", &alert.reason.replace('\0', "?")),
                ("VITALD_STATE", &alert.state),
                ("VITALD_HOST", &message.host),
                ("VITALD_TIME", &message.time),
                ("VITALD_TEXT", &message.text.replace('\0', "?")),
            ],
        });
        let spawned = match spawned {
            Ok(spawned) => spawned,
            Err(error) => return Err((sending, error)),
        };
        sending.tail = Some(Box::default());
        sending.setup = Some(spawned.exec_pipe);
        self.watch_sending(spawned.pid, spawned.pidfd, reader, sending)
    }

    fn call_webhook(
        &mut self,
        hook: &Webhook,
        message: &Message,
        sending: Sending,
    ) -> Result<(), (Sending, SpawnError)> {
        let (body, kind) = match hook.text {
            true => (message.text.as_bytes(), "text/plain; charset=utf-8"),
            false => (message.json.as_bytes(), "application/json"),
        };
        let timeout = sending.timeout;
        let origin = self.spawner.origin();
        let helper = helper::start(c"vitald-alert", origin, &[], TOLD, |out| {
            let mut tell = |words: &str| drop(writeln!(out, "{words}"));
            let mut stage = |words: &str| tell(&format!("{STAGE}{words}"));
            match webhook::call(hook, body, kind, timeout, &mut stage) {
                Ok(()) => 0,
                Err(error) => {
                    tell(&error);
                    1
                }
            }
        });
        match helper {
            Ok(helper) => self.watch_sending(helper.pid, helper.pidfd, helper.pipe, sending),
            Err(error) => Err((sending, error)),
        }
    }

    fn watch_sending(
        &mut self,
        pid: Pid,
        pidfd: OwnedFd,
        pipe: OwnedFd,
        sending: Sending,
    ) -> Result<(), (Sending, SpawnError)> {
        let again = Sending {
            to: sending.to.clone(),
            what: sending.what.clone(),
            tail: None,
            setup: None,
            ..sending
        };
        let work = Work::Alert(Box::new(sending));
        let watched = self.watch_job(pid, pidfd, pipe, work);
        watched.map_err(|error| (again, error))
    }

    /// Its job has ended.
    pub(super) fn sending_ended(&mut self, sending: &Sending, exit: Exit, output: &[u8]) {
        let setup = sending.setup.as_ref().and_then(Self::setup_error);
        let error = match (setup, &sending.tail) {
            (Some(error), _) => Some(error.to_string()),
            (None, _) if exit == Exit::Code(0) => None,
            (None, Some(tail)) => Some(match &*tail.output() {
                "" => exit.to_string(),
                said => format!("{exit}: {}", said.replace('\n', " | ")),
            }),
            (None, None) => Some(match told(output).1 {
                "" => format!("its helper ended: {exit}"),
                said => said.to_owned(),
            }),
        };
        self.alert_ended(sending, error);
    }

    /// The engine says that its time is up.
    pub(super) fn expire_alert(&mut self, number: u64) {
        let is_it = |work: &Work| matches!(work, Work::Alert(s) if s.number == number);
        let mut jobs = self.jobs.iter();
        let Some(job) = jobs.find(|(_, job)| is_it(&job.work)).map(|(job, _)| *job) else {
            // It has ended, and its answer is on its way.
            return;
        };
        self.job_said(job);
        let Some((sending, output)) = self.take_sending(job) else {
            return;
        };
        if !self.alerts.iter().any(|a| a.rule.name == sending.to) {
            let words = "its [[alert]] is gone: ended";
            log::warn!("alert {}: {}: {words}", sending.to, sending.what);
            return self.alert_answered(number, Some(words.to_owned()));
        }
        let limit = spoken(sending.timeout);
        let error = match (&sending.tail, told(&output).0) {
            (Some(tail), _) => match &*tail.output() {
                "" => format!("it did not end within {limit} and was killed"),
                said => {
                    let said = said.replace('\n', " | ");
                    format!("it did not end within {limit} and was killed: {said}")
                }
            },
            (None, "") => format!("not within {limit}"),
            (None, stage) => format!("not within {limit}: still {stage}"),
        };
        self.alert_ended(&sending, Some(error));
    }

    fn alert_ended(&mut self, sending: &Sending, error: Option<String>) {
        let (name, what) = (&sending.to, &sending.what);
        match &error {
            None => log::info!("alert {name}: {what}: taken"),
            Some(error) if sending.last => log::error!("alert {name}: {what}: {error}: given up"),
            Some(error) => log::warn!("alert {name}: {what}: {error}; tried again"),
        }
        self.alert_answered(sending.number, error);
    }

    fn alert_answered(&mut self, number: u64, error: Option<String>) {
        let error = error.map(Into::into);
        self.caused.push_back(Event::AlertSent { number, error });
    }

    fn message(&self, to: &str, alert: &Alert) -> Message {
        let wall = self.clock.wall(self.now);
        let host = host_name();
        let time = wall.rfc3339(alert.at);
        let text = text(alert, &host);
        let boot = self.identity.boot.split('-').next().unwrap_or_default();
        let mut json = json(alert);
        json["id"] = json!(format!("{boot}-{}", alert.number));
        json["alert"] = json!(to);
        json["host"] = json!(host);
        json["time"] = json!(time);
        json["text"] = json!(text);
        Message {
            json: format!("{json}\n"),
            text,
            host,
            time,
        }
    }
}

/// Where they go is filled in.
pub(super) fn shown(known: Vec<AlertStatus>, defined: &[Defined]) -> Vec<AlertStatus> {
    let to = |name: &str| {
        let found = defined.iter().find(|of| *of.rule.name == *name);
        found.map_or_else(String::new, |of| of.target.shown())
    };
    let all = known.into_iter().map(|status| AlertStatus {
        to: to(&status.name),
        ..status
    });
    all.collect()
}

struct Message {
    json: String,
    text: String,
    host: String,
    time: String,
}

fn json(alert: &Alert) -> Value {
    json!({
        "kind": alert.kind,
        "service": alert.service,
        "run": alert.run,
        "state": alert.state,
        "health": alert.health,
        "cause": alert.cause,
        "reason": alert.reason,
        "attempts": alert.attempts,
        "max_attempts": alert.max_attempts,
        "decision": alert.decision,
        "dossier": alert.dossier,
        "withheld": alert.withheld,
        "dropped": alert.dropped,
    })
}

/// `uncured: web on router: http: timeout, 3 in a row`
fn text(alert: &Alert, host: &str) -> String {
    let mut text = match &*alert.service {
        "" => format!("{}: {host}", alert.kind),
        name => format!("{}: {name} on {host}", alert.kind),
    };
    if !alert.reason.is_empty() {
        text.push_str(": ");
        text.push_str(&alert.reason.replace('\n', " | "));
    }
    if let (Some(max), true) = (alert.max_attempts, alert.attempts > 0) {
        text.push_str(&format!(" (attempt {} of {max})", alert.attempts));
    }
    if alert.withheld > 0 {
        text.push_str(&format!(" ({} more since the last)", alert.withheld));
    }
    text
}

/// The last stage, and what is wrong; empty: nothing was told.
fn told(output: &[u8]) -> (&str, &str) {
    let text = std::str::from_utf8(output).unwrap_or_default();
    let mut stage = text.lines().filter_map(|line| line.strip_prefix(STAGE));
    let wrong = text.lines().find(|line| !line.starts_with(STAGE));
    (
        stage.next_back().unwrap_or_default(),
        wrong.unwrap_or_default(),
    )
}

/// A file without a name: reading it never waits, and nobody need be there to write it.
fn input(text: &str) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"vitald-alert", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

fn host_name() -> String {
    let name = nix::sys::utsname::uname();
    name.map_or(String::new(), |name| {
        name.nodename().to_string_lossy().into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_where_and_why() {
        let alert = Alert {
            kind: "uncured".into(),
            service: "web".into(),
            reason: "http: timeout\nthree in a row".into(),
            attempts: 3,
            max_attempts: Some(10),
            withheld: 2,
            ..Alert::default()
        };
        assert_eq!(
            text(&alert, "router"),
            "uncured: web on router: http: timeout | three in a row (attempt 3 of 10) (2 more since \
             the last)"
        );
        let test = Alert {
            kind: "test".into(),
            ..Alert::default()
        };
        assert_eq!(text(&test, "router"), "test: router");
    }

    #[test]
    fn a_helper_tells_its_stages_and_what_is_wrong() {
        assert_eq!(told(b""), ("", ""));
        assert_eq!(told(b"~connecting\n~waiting\n"), ("waiting", ""));
        assert_eq!(told(b"~connecting\nHTTP 500\n"), ("connecting", "HTTP 500"));
    }
}
