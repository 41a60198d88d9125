//! When a oneshot is run by itself: `schedule` (a calendar) or `every` (an interval), and what
//! stands beside them.
//!
//! Not here: when that is next (`calendar`, the engine).

use crate::calendar::Cron;
use crate::config::definition::{Definition, Kind, Restart, StartOn};
use crate::config::hints;
use crate::config::keys::service;
use crate::config::problem::Problems;
use crate::config::reader::{self, Table};
use crate::config::tree::Value;
use std::fmt;
use std::time::Duration;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    pub when: When,
    /// A time that was missed, however many were, is made up for once.
    pub catch_up: bool,
    /// Each run begins up to so long after it is due.
    pub random_delay: Duration,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum When {
    /// By the wall clock.
    At(Cron),
    /// By the monotonic clock, from one time that is due to the next.
    Every(Duration),
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::At(cron) => cron.fmt(f),
            When::Every(length) => write!(f, "every {}", written(*length)),
        }
    }
}

/// As it is written: `1h 30m`.
pub fn written(length: Duration) -> String {
    humantime::format_duration(length).to_string()
}

pub fn read(t: &Table<'_>, kind: Kind, p: &mut Problems) -> Option<Box<Schedule>> {
    let cron = calendar(t, p);
    let every = t.length(&service::EVERY, Duration::from_secs(1), p);
    let catch_up = t.boolean(&service::CATCH_UP, p);
    let delay = t.length(&service::RANDOM_DELAY, Duration::from_millis(1), p);
    let (scheduled, repeated) = (t.has(&service::SCHEDULE), t.has(&service::EVERY));
    if !scheduled && !repeated {
        let delayed = t.has(&service::RANDOM_DELAY);
        for (key, given) in [
            (&service::CATCH_UP, catch_up),
            (&service::RANDOM_DELAY, delayed),
        ] {
            if given {
                let words = format!(
                    "`{}` is nothing without a schedule: write `schedule` or `every`",
                    key.name
                );
                p.error(t.place(key), words);
            }
        }
        return None;
    }
    if scheduled && repeated {
        p.error(
            t.place(&service::EVERY),
            "`schedule` and `every` are two ways of one thing: remove one of them",
        );
    }
    // A target has been told that it has no process.
    if matches!(kind, Kind::Process | Kind::Forking) {
        let key = if scheduled {
            &service::SCHEDULE
        } else {
            &service::EVERY
        };
        let advice = p.assign("kind", "\"oneshot\"");
        let words = format!(
            "`{}` is for what runs to its end, again and again: write {advice}",
            key.name
        );
        p.error(t.place(key), words);
    }
    let when = cron.map(When::At).or(every.map(When::Every))?;
    let random_delay = delay.unwrap_or_default();
    if let When::Every(length) = when
        && random_delay >= length
    {
        let words = format!(
            "`random_delay` is not shorter than `every`: write less than {}",
            written(length)
        );
        p.error(t.place(&service::RANDOM_DELAY), words);
    }
    Some(Box::new(Schedule {
        when,
        catch_up,
        random_delay,
    }))
}

fn calendar(t: &Table<'_>, p: &mut Problems) -> Option<Cron> {
    let entry = t.entry(&service::SCHEDULE)?;
    let text = match &entry.value.value {
        Value::String(text) => text,
        other => {
            let what = "five fields in a string, as in \"30 3 * * *\"";
            return reader::wrong(entry, what, other, p);
        }
    };
    match Cron::parse(text) {
        Ok(cron) => Some(cron),
        Err(problem) => {
            let shown = hints::shorten(text);
            let words = format!("`{}` is `{shown}`: {problem}", entry.key);
            p.error(entry.value.at, words);
            None
        }
    }
}

/// What does not go together with one.
pub fn fits(d: &Definition, t: &Table<'_>, p: &mut Problems) {
    if d.schedule.is_none() || d.kind != Kind::Oneshot {
        return;
    }
    let mut odd = |key: &'static crate::config::keys::Key, words: &str| {
        p.error(t.place(key), words);
    };
    if d.restart == Restart::Always {
        odd(
            &service::RESTART,
            "its schedule starts it again: remove `restart`, or write \"on-failure\" or \"never\"",
        );
    }
    if !d.hooks.undo.is_empty() {
        odd(
            &service::UNDO,
            "`undo` takes back what was done once, its schedule does it again and again: remove one \
             of them",
        );
    }
    if d.start_on() == StartOn::Connection {
        odd(
            &service::START_ON,
            "a connection starts it, or its schedule: remove one of them",
        );
    }
}
