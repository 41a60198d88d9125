//! What happened, as lines a person reads. One line a fact, time first.

use super::World;
use crate::engine::snapshot::ReloadRecord;
use crate::engine::{Effect, Record};
use crate::time::Time;

impl World {
    pub(super) fn say(&mut self, words: &str) {
        if self.silent {
            return;
        }
        let line = format!("{:>10} {words}", stamp(self.now));
        self.transcript.push(line.trim_end().to_owned());
    }

    /// What a reader wants to see of an effect; the rest goes without saying.
    pub(super) fn tell(&mut self, effect: &Effect) {
        if self.silent {
            return;
        }
        let Some(engine) = self.engine.as_ref() else {
            return;
        };
        let words = match effect {
            Effect::Record(Record::Transition(t)) => {
                let arrow = match (t.from.0, t.to.0) {
                    ("", to) => to.to_owned(),
                    (from, to) => format!("{from} -> {to}"),
                };
                let cause = if t.cause.0.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", t.cause)
                };
                let detail = if t.detail.is_empty() {
                    String::new()
                } else {
                    format!(": {}", t.detail)
                };
                format!("{} {} {arrow}{cause}{detail}", t.service, t.kind.word())
            }
            Effect::Record(Record::Decision(d)) => {
                let next = d
                    .next
                    .map_or(String::new(), |at| format!(", next at {}", stamp(at)));
                let cured = match d.cured {
                    Some(true) => ", cured",
                    Some(false) => ", not cured",
                    None => "",
                };
                let max = d
                    .max_attempts
                    .map_or("unlimited".to_owned(), |max| max.to_string());
                format!(
                    "{} gate {} for {}: {} [attempts {}/{max}{next}{cured}]",
                    d.service, d.verdict, d.cause, d.reason, d.attempts
                )
            }
            Effect::Record(Record::Hold(hold)) => match hold {
                Some(hold) => format!("hold by {}", hold.owner),
                None => "hold released".to_owned(),
            },
            Effect::Record(Record::Reload(reload)) => match reload.as_deref() {
                Some(ReloadRecord {
                    went_back: Some(back),
                    ..
                }) => format!("reload went back: {}", back.why),
                Some(ReloadRecord {
                    verdict: Some(why), ..
                }) => format!("reload is to go back: {why}"),
                Some(open) => {
                    let names = open.before.iter().map(|b| &*b.name);
                    let settings = open.settings.as_ref().map(|_| "vitald.toml");
                    let names: Vec<&str> = names.chain(settings).collect();
                    let until = stamp(open.until);
                    format!("reload provisional until {until}: {}", names.join(", "))
                }
                None => "reload in force".to_owned(),
            },
            Effect::Spawn { run, .. } => {
                format!("{} spawn run {}", engine.name(run.service), run.number)
            }
            Effect::Signal {
                run, signal, group, ..
            } => {
                let whom = if *group { " to its group" } else { "" };
                format!("{} {signal}{whom}", engine.name(run.service))
            }
            Effect::FindMain { run, .. } => {
                format!("{} find its main process", engine.name(run.service))
            }
            Effect::RemoveDirectories { service, .. } => {
                format!("{} remove its directories", engine.name(*service))
            }
            Effect::Hook { run, hook, end, .. } => {
                let end = match end {
                    Some((cause, exit)) => format!(" after {cause}, {exit}"),
                    None => String::new(),
                };
                format!("{} run {hook}{end}", engine.name(run.service))
            }
            Effect::HookSignal { run, hook, signal } => {
                format!("{} {signal} to {hook}", engine.name(run.service))
            }
            Effect::EndTree { run, grace, .. } => {
                format!(
                    "{} end its tree within {grace:.0?}",
                    engine.name(run.service)
                )
            }
            Effect::EvidenceOver { run, more: true } => {
                format!("{} is told to tell more", engine.name(run.service))
            }
            Effect::KillTree { run, .. } => format!("{} kill its tree", engine.name(run.service)),
            Effect::Answer { ticket, answer } => {
                let asked = self.tickets.get(ticket).cloned().unwrap_or_default();
                match answer {
                    Ok(accepted) => {
                        let mut parts: Vec<String> =
                            accepted.note.lines().map(str::to_owned).collect();
                        parts.extend(
                            accepted
                                .reports
                                .iter()
                                .map(|(name, report)| format!("{name}: {}", report.outcome)),
                        );
                        match &accepted.durable {
                            Some(Ok(())) => parts.push("durable".to_owned()),
                            Some(Err(why)) => parts.push(format!("not durable: {why}")),
                            None => {}
                        }
                        format!("> {asked}: {}", parts.join("; "))
                    }
                    Err(refusal) => {
                        let words = refusal.message.replace('\n', "; ");
                        format!("> {asked}: error {}: {words}", refusal.code)
                    }
                }
            }
            Effect::TellExhausted {
                service, reason, ..
            } => format!("{} on_exhausted_exec: {reason}", engine.name(*service)),
            Effect::SendAlert {
                rule, alert, tries, ..
            } => {
                let to = engine.alert_name(*rule).unwrap_or_default();
                let again = match tries {
                    1 => String::new(),
                    tries => format!(", try {tries}"),
                };
                let withheld = match alert.withheld {
                    0 => String::new(),
                    number => format!(" ({number} withheld)"),
                };
                let reason = alert.reason.replace('\n', " | ");
                let (kind, service) = (&alert.kind, &alert.service);
                format!("alert {to}{again}: {kind} {service}: {reason}{withheld}")
            }
            Effect::AlertExpired { .. } => "an alert is not taken in time".to_owned(),
            Effect::Listen { service, watch, .. } => {
                let how = if *watch {
                    "listen, and tell who comes"
                } else {
                    "listen"
                };
                format!("{} {how}", engine.name(*service))
            }
            Effect::Unlisten { service } => {
                format!("{} its sockets are closed", engine.name(*service))
            }
            Effect::Unstore { service } => {
                format!("{} what is kept for it is closed", engine.name(*service))
            }
            Effect::FeedWatchdog => "the host's watchdog is fed".to_owned(),
            Effect::RevertSettings => "the settings before are back".to_owned(),
            Effect::TellAlive => "who started the daemon is told that it lives".to_owned(),
            Effect::BootWell => "the boot is well".to_owned(),
            Effect::CountReboot { service } => {
                format!("{} a reboot is counted", engine.name(*service))
            }
            Effect::Reboot => "the host is to be rebooted".to_owned(),
            Effect::Exit { code } => format!("the daemon ends with {code}"),
            Effect::Record(Record::Service(_) | Record::Alert(_) | Record::Storm(_))
            | Effect::Remember { .. }
            | Effect::Keep { .. }
            | Effect::AskDue { .. }
            | Effect::Check { .. }
            | Effect::CheckExpired { .. }
            | Effect::CheckCancelled { .. }
            | Effect::CollectEvidence { .. }
            | Effect::EvidenceOver { more: false, .. }
            | Effect::Look { .. }
            | Effect::Forget { .. } => return,
        };
        self.say(&words);
    }
}

fn stamp(at: Time) -> String {
    format!("{}.{:03}", at.as_millis() / 1000, at.as_millis() % 1000)
}
