//! `file`, `memory`, `cpu`, `fds`: what was found out from outside, judged.
//!
//! Not here: finding it out, which a helper does. Each gives the outcome and what was found, in
//! words, whether it passes or not.

use crate::limits::PROBE_READ_BYTES;
use crate::probe::{Outcome, Reason, visible};
use crate::time::spoken;
use std::time::Duration;

/// What is known of a file that is there; `text`: its beginning, where that was asked for.
pub struct FileFound<'a> {
    pub age: Duration,
    pub text: Option<&'a [u8]>,
}

pub fn file(
    max_age: Option<Duration>,
    expect: Option<&str>,
    found: &FileFound<'_>,
) -> (Outcome, Box<str>) {
    let age = spoken(found.age);
    if let Some(most) = max_age.filter(|most| found.age > *most) {
        let words = format!("stale: written {age} ago, at most {} allowed", spoken(most));
        return (fails(words), "".into());
    }
    let Some(expect) = expect else {
        return (Outcome::Pass, format!("written {age} ago").into());
    };
    let text = found.text.unwrap_or_default();
    let text = &text[..text.len().min(PROBE_READ_BYTES)];
    let holds = text
        .windows(expect.len())
        .any(|part| part == expect.as_bytes());
    let outcome = match holds {
        true => Outcome::Pass,
        false => Outcome::Fail(Reason::Mismatch),
    };
    (outcome, visible::first_bytes(text))
}

pub fn memory(used: u64, max: u64) -> (Outcome, Box<str>) {
    let words = format!("{} of {}", mega(used), mega(max));
    match used > max {
        true => (
            fails(format!("{} over {}", mega(used), mega(max))),
            words.into(),
        ),
        false => (Outcome::Pass, words.into()),
    }
}

/// `used` of processor time in `wall`.
pub fn cpu(used: Duration, wall: Duration, max_percent: u32) -> (Outcome, Box<str>) {
    let wall = wall.as_micros().max(1);
    let percent = used.as_micros().saturating_mul(100) / wall;
    let words = format!("{percent}% of {max_percent}%");
    match percent > u128::from(max_percent) {
        true => (
            fails(format!("{percent}% over {max_percent}%")),
            words.into(),
        ),
        false => (Outcome::Pass, words.into()),
    }
}

/// One process: descriptors it has open, its limit.
#[derive(Clone, Copy)]
pub struct Open {
    pub pid: i32,
    pub count: u32,
    pub limit: Option<u32>,
}

/// The process that is furthest decides.
pub fn fds(all: &[Open], max: Option<u32>, max_percent: Option<u32>) -> (Outcome, Box<str>) {
    let share = |open: &Open| {
        let limit = open.limit.filter(|limit| *limit > 0)?;
        Some(u64::from(open.count) * 100 / u64::from(limit))
    };
    let is_over = |open: &Open| {
        max.is_some_and(|max| open.count > max)
            || max_percent
                .zip(share(open))
                .is_some_and(|(max, share)| share > u64::from(max))
    };
    let words = |open: &Open| {
        let limit = open
            .limit
            .map(|limit| format!(" of {limit}"))
            .unwrap_or_default();
        format!("{}{limit} descriptors in process {}", open.count, open.pid)
    };
    // Who is over the bound by share need not be who has most.
    let worst = all.iter().find(|open| is_over(open));
    let worst = worst.or(all.iter().max_by_key(|open| open.count));
    let Some(open) = worst else {
        return (fails("no process".to_owned()), "".into());
    };
    match is_over(open) {
        true => (fails(words(open)), "".into()),
        false => (Outcome::Pass, words(open).into()),
    }
}

pub fn fails(words: String) -> Outcome {
    Outcome::Fail(Reason::Found(words.into()))
}

/// In megabytes, for people; less than ten of them with a tenth.
fn mega(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    match tenths < 100 {
        true => format!("{}.{}M", tenths / 10, tenths % 10),
        false => format!("{}M", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(words: &str) -> Outcome {
        Outcome::Fail(Reason::Found(words.into()))
    }

    #[test]
    fn a_file_is_fresh_until_its_age_and_holds_what_is_expected() {
        let secs = Duration::from_secs;
        let at = |age, text| FileFound {
            age: secs(age),
            text,
        };
        let fresh = |age| file(Some(secs(60)), None, &at(age, None));
        assert_eq!(fresh(60), (Outcome::Pass, "written 1 m 00 s ago".into()));
        assert_eq!(
            fresh(61).0,
            found("stale: written 1 m 01 s ago, at most 1 m 00 s allowed")
        );
        let text: &[u8] = b"state: ok\n";
        assert_eq!(file(None, Some("ok"), &at(1, Some(text))).0, Outcome::Pass);
        let (outcome, output) = file(None, Some("bad"), &at(1, Some(text)));
        assert_eq!(outcome, Outcome::Fail(Reason::Mismatch));
        assert_eq!(&*output, "state: ok\n");
        assert_eq!(
            file(None, Some("ok"), &at(1, Some(b""))).0,
            Outcome::Fail(Reason::Mismatch)
        );
    }

    #[test]
    fn what_is_used_is_over_only_above_its_bound() {
        assert_eq!(
            memory(1 << 20, 1 << 20),
            (Outcome::Pass, "1.0M of 1.0M".into())
        );
        assert_eq!(
            memory((300 << 20) + 1, 300 << 20).0,
            found("300M over 300M")
        );
        let (ms, window) = (Duration::from_millis, Duration::from_millis(500));
        assert_eq!(cpu(ms(475), window, 95).0, Outcome::Pass);
        assert_eq!(cpu(ms(480), window, 95).0, found("96% over 95%"));
        assert_eq!(cpu(ms(1), Duration::ZERO, 95).0, found("100000% over 95%"));
    }

    #[test]
    fn the_process_that_is_over_is_named() {
        let open = |pid, count, limit| Open { pid, count, limit };
        let all = [open(7, 300, Some(100_000)), open(8, 95, Some(100))];
        assert_eq!(
            fds(&all, Some(300), Some(96)),
            (
                Outcome::Pass,
                "300 of 100000 descriptors in process 7".into()
            )
        );
        assert_eq!(
            fds(&all, None, Some(90)).0,
            found("95 of 100 descriptors in process 8")
        );
        assert_eq!(
            fds(&all, Some(299), None).0,
            found("300 of 100000 descriptors in process 7")
        );
        let unlimited = [open(9, 10, None)];
        assert_eq!(fds(&unlimited, None, Some(1)).0, Outcome::Pass);
        assert_eq!(fds(&[], Some(1), None).0, found("no process"));
    }
}
