//! Text for people: tables, pages, stories. Drawn from the data that JSON holds, nothing else.
//!
//! Invariants: what services or probes wrote reaches a terminal only without its control
//! characters; without colour no escape sequence is written; the same data, style and time give
//! the same text.

mod alerts;
mod dossier;
mod forecast;
mod pages;
mod story;
mod table;
#[cfg(test)]
mod tests;
mod ties;

pub use dossier::{dossier, dossiers};
pub use forecast::{elapsed, forecast, forecast_in_short};
pub use pages::{daemon, done, page, pong};
pub use story::{event_line, event_words, story, why};
pub use table::{overview, table};
pub use ties::{blame, dot, tree};

use crate::engine::status::Status;
use crate::probe::visible::steers;
use crate::time::spoken;
use std::time::{Duration, UNIX_EPOCH};

/// How text is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Style {
    /// A terminal shows it, which obeys escape sequences.
    pub terminal: bool,
    /// Escape sequences for colours (ECMA-48).
    pub colour: bool,
    /// No letters beyond ASCII of our own.
    pub ascii: bool,
    /// Lines of a table are cut to this; None: as long as they are.
    pub width: Option<usize>,
    /// Now, in milliseconds since 1970: what "ago" is counted from.
    pub now_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Colour {
    Plain,
    Good,
    Warn,
    Bad,
    Faint,
    Strong,
}

impl Style {
    /// `text` in a colour, when there are colours.
    fn paint(&self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Good => "32",
            Colour::Warn => "33",
            Colour::Bad => "31",
            Colour::Faint => "2",
            Colour::Strong => "1",
            Colour::Plain => return text.to_owned(),
        };
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    const fn arrow(&self) -> &'static str {
        if self.ascii { "->" } else { "→" }
    }

    const fn unlimited(&self) -> &'static str {
        if self.ascii { "-" } else { "∞" }
    }

    /// How long ago an RFC 3339 time was; None when it is no such time.
    fn age_ms(&self, time: &str) -> Option<u64> {
        let at = humantime::parse_rfc3339(time).ok()?;
        let at = at.duration_since(UNIX_EPOCH).ok()?;
        Some(self.now_ms.saturating_sub(crate::time::millis(at)))
    }

    /// `3 m 12 s ago`
    fn ago(&self, time: &str) -> String {
        match self.age_ms(time) {
            Some(ms) if ms < 1000 => "just now".to_owned(),
            Some(ms) => format!("{} ago", duration(ms)),
            None => clean(time),
        }
    }
}

/// Text that stands out, where there are colours.
pub fn strong(text: &str, style: &Style) -> String {
    style.paint(Colour::Strong, text)
}

/// A duration as people say it.
pub fn duration(ms: u64) -> String {
    spoken(Duration::from_millis(ms))
}

/// How long an answer took.
fn latency(us: u64) -> String {
    spoken(Duration::from_micros(us))
}

/// Text that came from outside, as one line that moves no cursor.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => out.push(' '),
            _ if steers(letter) => out.extend(letter.escape_unicode()),
            _ => out.push(letter),
        }
    }
    out
}

/// What a service wrote: as it is, but on a terminal.
pub fn log_lines(lines: &[String], style: &Style, out: &mut String) {
    for line in lines {
        match style.terminal {
            true => out.push_str(&log_line(line)),
            false => out.push_str(line),
        }
        out.push('\n');
    }
}

/// A line of a service's log for a terminal: colours (SGR, ECMA-48) pass, whatever else could
/// steer it is shown as what it is.
pub fn log_line(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(|letter: char| steers(letter) && letter != '\t') {
        let (before, control) = rest.split_at(at);
        out.push_str(before);
        let sgr = control.strip_prefix("\x1b[").and_then(|parameters| {
            let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';' && c != ':')?;
            parameters[end..].starts_with('m').then_some(2 + end + 1)
        });
        let length = match sgr {
            Some(length) => {
                out.push_str(&control[..length]);
                length
            }
            None => {
                let letter = control.chars().next().unwrap_or_default();
                out.extend(letter.escape_unicode());
                letter.len_utf8()
            }
        };
        rest = &control[length..];
    }
    out.push_str(rest);
    out
}

/// [`clean`] line by line; every line ends.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(|line| clean(line) + "\n").collect()
}

/// What a service looks like from afar.
fn glyph(status: &Status, style: &Style) -> (&'static str, Colour) {
    let (round, plain, colour) = match status.state.as_str() {
        "running" if is_degraded(status) => ("◐", "!", Colour::Warn),
        "running" => ("●", "*", Colour::Good),
        "inactive" | "exited" => ("○", "-", Colour::Faint),
        "failed" => ("✗", "x", Colour::Bad),
        // starting, stopping, backoff, blocked: on its way to something.
        _ => ("◌", ".", Colour::Warn),
    };
    (if style.ascii { plain } else { round }, colour)
}

/// Alive, but not well.
pub fn is_degraded(status: &Status) -> bool {
    status.state == "running" && status.health.as_deref() == Some("unhealthy")
}

/// It waits for its time.
pub fn rests_until_due(status: &Status) -> bool {
    let planned = status.schedule.as_ref().is_some_and(|s| !s.suspended);
    planned && status.state == "inactive"
}

/// `running`, `running (unhealthy)`, `starting (pre_start)`.
fn state_words(status: &Status) -> String {
    match &status.phase {
        _ if is_degraded(status) => format!("{} (unhealthy)", status.state),
        Some(phase) => format!("{} ({})", clean(&status.state), clean(phase)),
        None if status.listening => format!("{} (listening)", clean(&status.state)),
        None if rests_until_due(status) => format!("{} (timer)", clean(&status.state)),
        None => clean(&status.state),
    }
}

/// `2/10`
fn attempts(status: &Status, style: &Style) -> String {
    match status.max_attempts {
        _ if status.kind == "target" => "-".to_owned(),
        Some(most) => format!("{}/{most}", status.attempts),
        None => format!("{}/{}", status.attempts, style.unlimited()),
    }
}

/// Rows of cells in columns.
#[derive(Default)]
struct Grid {
    rows: Vec<Vec<(String, Colour)>>,
    /// Columns whose text stands at the right.
    right: &'static [usize],
}

impl Grid {
    /// Appends all rows; the last column is not padded, and the whole is cut to the width.
    fn draw(&self, indent: &str, style: &Style, out: &mut String) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut widths = vec![0; columns];
        for row in &self.rows {
            for (column, (text, _)) in row.iter().enumerate() {
                widths[column] = widths[column].max(text.chars().count());
            }
        }
        for row in &self.rows {
            let mut left = style.width.unwrap_or(usize::MAX).max(20);
            out.push_str(indent);
            left = left.saturating_sub(indent.chars().count());
            let last = row.iter().rposition(|(text, _)| !text.is_empty());
            for (column, (text, colour)) in row.iter().enumerate() {
                if last.is_none_or(|last| column > last) {
                    break;
                }
                let text = cut(text, left);
                let used = text.chars().count();
                let pad = widths[column].saturating_sub(used);
                let blanks = |n: usize| " ".repeat(n);
                if self.right.contains(&column) {
                    out.push_str(&blanks(pad));
                    out.push_str(&style.paint(*colour, &text));
                } else {
                    out.push_str(&style.paint(*colour, &text));
                    if last != Some(column) {
                        out.push_str(&blanks(pad));
                    }
                }
                left = left.saturating_sub(widths[column] + 2);
                if last != Some(column) {
                    out.push_str("  ");
                }
            }
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
        }
    }
}

/// The first `most` letters.
fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
