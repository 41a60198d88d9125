//! When a calendar says that something is due: the five fields of cron, by local time.
//!
//! Pure: what the local time is at an instant is asked of the caller (`offset`: seconds east of
//! UTC). Instants are seconds since 1970.
//!
//! Where clocks are changed (summer time): a schedule with every hour in it goes by what the clock
//! shows, minute by minute, so it is due in both of two equal hours and in none that is left out.
//! Any other is due once for each local time that it names: of one that comes twice at the first,
//! of one that is left out at the moment of the change.
//!
//! Invariant: [`Cron::next`] is later than what it was asked for, and there is nothing between.

use std::fmt;

const DAY: i64 = 86_400;
/// The 29th of February on a given weekday comes at least once in so many days (1900 to 2100).
const FAR: i64 = 41 * 366;

/// A calendar, as it is written and as it is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cron {
    text: Box<str>,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// From Sunday, 0.
    weekdays: u64,
    /// The day of the month and the weekday must both fit; else one of them is enough.
    both: bool,
}

struct Field {
    name: &'static str,
    least: u8,
    most: u8,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field {
        name: "minute",
        least: 0,
        most: 59,
        words: &[],
    },
    Field {
        name: "hour",
        least: 0,
        most: 23,
        words: &[],
    },
    Field {
        name: "day of the month",
        least: 1,
        most: 31,
        words: &[],
    },
    Field {
        name: "month",
        least: 1,
        most: 12,
        words: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        name: "weekday",
        least: 0,
        // Sunday again.
        most: 7,
        words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

const SHORT: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

impl Cron {
    /// What is wrong with it is said with what to write instead.
    pub fn parse(text: &str) -> Result<Cron, String> {
        let written = text.trim();
        let short = SHORT.iter().find(|(name, _)| *name == written);
        let full = short.map_or(written, |(_, full)| full);
        if full == "@reboot" {
            return Err("`@reboot` is what `autostart` does without a schedule: remove it".into());
        }
        if full.starts_with('@') {
            let known: Vec<&str> = SHORT.iter().map(|(name, _)| *name).collect();
            return Err(format!("there are {}", known.join(", ")));
        }
        let parts: Vec<&str> = full.split_ascii_whitespace().collect();
        if parts.len() != FIELDS.len() {
            return Err(format!(
                "it has {} fields, not 5: minute, hour, day of the month, month, weekday, as in \
                 \"30 3 * * 1-5\" (for seconds write `every`)",
                parts.len()
            ));
        }
        let mut masks = [0; 5];
        for ((mask, part), field) in masks.iter_mut().zip(&parts).zip(&FIELDS) {
            *mask = field.read(part)?;
        }
        let [minutes, hours, days, months, weekdays] = masks;
        let cron = Cron {
            text: written.into(),
            minutes,
            hours,
            days,
            months,
            weekdays: weekdays | weekdays >> 7 & 1,
            both: parts[2].starts_with('*') || parts[4].starts_with('*'),
        };
        match cron.next(0, &|_| 0) {
            Some(_) => Ok(cron),
            None => Err("there is no such day in any year".into()),
        }
    }

    /// The first instant after `after` at which it is due.
    pub fn next(&self, after: i64, offset: &dyn Fn(i64) -> i32) -> Option<i64> {
        let today = (after + i64::from(offset(after))).div_euclid(DAY);
        // From the day before: a day may be left out, or come again in part.
        for day in today - 1..today + FAR {
            if !self.has_day(day) {
                continue;
            }
            let (found, uneven) = self.next_on(day, after, offset);
            if uneven && self.has_day(day + 1) {
                let beside = self.next_on(day + 1, after, offset).0;
                let first = found.into_iter().chain(beside).min();
                if first.is_some() {
                    return first;
                }
            } else if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The last instant after `since`, up to `until`, at which it was due.
    pub fn last(&self, since: i64, until: i64, offset: &dyn Fn(i64) -> i32) -> Option<i64> {
        self.next(since, offset).filter(|first| *first <= until)?;
        let mut width = 60;
        loop {
            let from = since.max(until.saturating_sub(width));
            let mut found = self.next(from, offset).filter(|due| *due <= until);
            while let Some(due) = found {
                match self.next(due, offset).filter(|later| *later <= until) {
                    Some(later) => found = Some(later),
                    None => return Some(due),
                }
            }
            if from == since {
                return None;
            }
            width *= 2;
        }
    }

    fn has_day(&self, day: i64) -> bool {
        let (month, of_month) = date(day);
        // 1970 began with a Thursday.
        let weekday = (day + 4).rem_euclid(7);
        let fits = (has(self.days, of_month), has(self.weekdays, weekday));
        has(self.months, month)
            && match self.both {
                true => fits.0 && fits.1,
                false => fits.0 || fits.1,
            }
    }

    /// The first after `after` on that local day, and whether the clocks change around it.
    fn next_on(&self, day: i64, after: i64, offset: &dyn Fn(i64) -> i32) -> (Option<i64>, bool) {
        let midnight = day * DAY;
        let (before, behind) = (
            i64::from(offset(midnight - DAY)),
            i64::from(offset(midnight + 2 * DAY)),
        );
        let times = (0..24)
            .filter(|hour| has(self.hours, *hour))
            .flat_map(|hour| {
                let minutes = (0..60).filter(|minute| has(self.minutes, *minute));
                minutes.map(move |minute| midnight + hour * 3600 + minute * 60)
            });
        let mut times = times;
        if before == behind {
            let found = times.map(|local| local - before).find(|at| *at > after);
            return (found, false);
        }
        let goes_by_the_clock = self.hours == (1 << 24) - 1;
        let mut first: Option<i64> = None;
        let mut take = |at: i64| {
            if at > after {
                first = Some(first.map_or(at, |first| first.min(at)));
            }
        };
        for local in times.by_ref() {
            let is = |east: i64| i64::from(offset(local - east)) == east;
            match (is(before), is(behind)) {
                (true, true) => {
                    take((local - before).min(local - behind));
                    if goes_by_the_clock {
                        take((local - before).max(local - behind));
                    }
                }
                (true, false) => take(local - before),
                (false, true) => take(local - behind),
                (false, false) if goes_by_the_clock => {}
                (false, false) => {
                    // The change itself: later than the one, not later than the other.
                    let (mut low, mut high) =
                        (local - before.max(behind), local - before.min(behind));
                    while high - low > 1 {
                        let middle = low + (high - low) / 2;
                        match i64::from(offset(middle)) == behind {
                            true => high = middle,
                            false => low = middle,
                        }
                    }
                    take(high);
                }
            }
        }
        (first, true)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn has(mask: u64, number: i64) -> bool {
    mask >> number & 1 == 1
}

impl Field {
    fn read(&self, text: &str) -> Result<u64, String> {
        let mut mask = 0;
        for part in text.split(',') {
            mask |= self.part(part)?;
        }
        Ok(mask)
    }

    /// `*`, `7`, `1-5`, each perhaps with `/2`.
    fn part(&self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (self.least, self.most - u8::from(self.most == 7)),
            (_, Some((first, last))) => (self.number(first, part)?, self.number(last, part)?),
            (one, None) => {
                let one = self.number(one, part)?;
                // As cron has it: from there to the end.
                (one, if step.is_some() { self.most } else { one })
            }
        };
        if first > last {
            return Err(self.wrong(part, "goes backwards: write two ranges with a comma"));
        }
        let step = match step.map(|step| (step, step.parse::<u8>())) {
            None => 1,
            Some((step, Ok(number))) if number > 0 && is_digits(step) => number,
            Some(_) => return Err(self.wrong(part, "has no step: write a number of at least 1")),
        };
        let numbers = (first..=last).step_by(usize::from(step));
        Ok(numbers.fold(0, |mask, number| mask | 1 << number))
    }

    fn number(&self, text: &str, part: &str) -> Result<u8, String> {
        let word = |word: &&str| word.eq_ignore_ascii_case(text);
        if let Some(at) = self.words.iter().position(word) {
            return Ok(self.least + at as u8);
        }
        let number = text.parse::<u8>().ok().filter(|_| is_digits(text));
        match number {
            Some(number) if (self.least..=self.most).contains(&number) => Ok(number),
            Some(_) => {
                let words = format!("must be {} to {}", self.least, self.most);
                Err(self.wrong(part, &words))
            }
            None => Err(self.wrong(part, "must be a number, a range as in 1-5, or *")),
        }
    }

    fn wrong(&self, part: &str, words: &str) -> String {
        let shown: String = part.chars().take(20).collect();
        format!("the {} `{shown}` {words}", self.name)
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// Month and day of the month, of a day since 1970 (the proleptic Gregorian calendar).
fn date(day: i64) -> (i64, i64) {
    // Years that begin in March have their odd day at the end.
    let shifted = day + 719_468;
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    (if month < 10 { month + 3 } else { month - 9 }, of_month)
}

#[cfg(test)]
mod tests;
