//! When calendars are due next, as `check` tells: so that a person sees what the five fields mean.

use crate::config::{Definition, When};
use crate::reactor::wall;
use crate::time::rfc3339_ms;
use std::time::{SystemTime, UNIX_EPOCH};

const TIMES: usize = 3;

/// `services/backup.toml: due 2026-11-30 03:30, 2026-12-01 03:30, …`; None: it has no calendar.
pub fn line(file: &str, definition: &Definition) -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    line_at(file, definition, i64::try_from(now.as_secs()).ok()?)
}

fn line_at(file: &str, definition: &Definition, now: i64) -> Option<String> {
    let When::At(cron) = &definition.schedule.as_ref()?.when else {
        return None;
    };
    let mut times = Vec::new();
    let mut at = now;
    while let Some(next) = cron.next(at, &wall::offset).filter(|_| times.len() < TIMES) {
        times.push(shown(next));
        at = next;
    }
    Some(format!("{file}: due {}, …", times.join(", ")))
}

/// By the local clock: `2026-11-30 03:30`.
fn shown(at: i64) -> String {
    let local = u64::try_from(at + i64::from(wall::offset(at))).unwrap_or(0);
    let mut text = rfc3339_ms(local.saturating_mul(1000)).replace('T', " ");
    text.truncate("2026-11-30 03:30".len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    #[test]
    fn the_next_three_are_told() {
        let read = |text: &str| {
            let outcome = load::read("job", "job.toml", text.as_bytes());
            outcome.definition.expect("a definition")
        };
        let job = read("exec = 'a'\nkind = 'oneshot'\nschedule = '*/30 * * * *'");
        let line = line_at("job.toml", &job, 1_795_910_400).expect("a line");
        assert_eq!(
            line.matches(":00").count() + line.matches(":30").count(),
            3,
            "{line}"
        );
        assert!(line.starts_with("job.toml: due 2026-11-"), "{line}");
        let every = read("exec = 'a'\nkind = 'oneshot'\nevery = '15m'");
        assert_eq!(line_at("job.toml", &every, 0), None);
    }
}
