//! Alerts, as `info` and the overview show them.

use super::{Colour, Style, clean, duration};
use crate::engine::status::{AlertStatus, DaemonStatus};

/// `pager (https://hooks.test:443): 3 sent, last uncured web at …`, and whether that is well.
pub(super) fn line(alert: &AlertStatus, style: &Style) -> String {
    let mut parts = vec![match &alert.last {
        Some(last) => format!(
            "{} sent, last {} at {}",
            alert.sent,
            clean(last),
            clean(alert.last_at.as_deref().unwrap_or_default())
        ),
        None => "none sent yet".to_owned(),
    }];
    for (count, word) in [
        (u64::from(alert.waiting), "waiting"),
        (alert.withheld, "withheld as repeats"),
        (alert.failed, "given up"),
        (alert.dropped, "dropped for want of room"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {word}"));
        }
    }
    let mut text = format!(
        "{} ({}): {}",
        clean(&alert.name),
        clean(&alert.to),
        parts.join(", ")
    );
    if let Some(trouble) = trouble(alert) {
        text.push_str("; ");
        text.push_str(&style.paint(Colour::Bad, &trouble));
    }
    text
}

/// `not taken since 12:00: HTTP 500; tried again in 4 s`
fn trouble(alert: &AlertStatus) -> Option<String> {
    let why = clean(alert.trouble.as_deref()?);
    let at = clean(alert.trouble_at.as_deref().unwrap_or_default());
    let next = alert.next_in_ms.map_or(String::new(), |ms| {
        format!("; tried again in {}", duration(ms))
    });
    Some(format!("not taken at {at}: {why}{next}"))
}

/// For the overview: only what is wrong.
pub(super) fn troubles(daemon: &DaemonStatus) -> Vec<String> {
    let alerts = daemon.alerts.iter();
    alerts
        .filter_map(|alert| Some(format!("alert {}: {}", clean(&alert.name), trouble(alert)?)))
        .collect()
}
