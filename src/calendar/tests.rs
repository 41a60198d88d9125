//! The calendar against a model that goes minute by minute, where clocks change too.

use super::*;
use proptest::prelude::*;

/// 2026-03-29 01:00 UTC to 2026-10-25 01:00 UTC: Berlin.
fn berlin(at: i64) -> i32 {
    match (1_774_746_000..1_792_890_000).contains(&at) {
        true => 7200,
        false => 3600,
    }
}

/// Half an hour, as on Lord Howe Island; the second change leads over midnight.
fn lord_howe(at: i64) -> i32 {
    match (1_775_314_800..1_790_000_100).contains(&at) {
        true => 37_800,
        false => 39_600,
    }
}

/// The whole 30th of December 2011 is left out, as on Samoa.
fn samoa(at: i64) -> i32 {
    match at < 1_325_239_200 {
        true => -36_000,
        false => 50_400,
    }
}

fn cron(text: &str) -> Cron {
    Cron::parse(text).unwrap_or_else(|words| panic!("{text}: {words}"))
}

fn fits(cron: &Cron, local: i64) -> bool {
    let of_day = local.rem_euclid(DAY);
    cron.has_day(local.div_euclid(DAY))
        && has(cron.hours, of_day / 3600)
        && has(cron.minutes, of_day / 60 % 60)
}

/// All that is due in the minutes from `from` on, found the obvious way.
fn model(cron: &Cron, from: i64, minutes: i64, offset: &dyn Fn(i64) -> i32) -> Vec<i64> {
    let by_the_clock = cron.hours == (1 << 24) - 1;
    let local = |at: i64| at + i64::from(offset(at));
    let mut seen = std::collections::BTreeSet::new();
    let mut due = Vec::new();
    // What was shown before it began is known, too.
    for at in (from - 2 * DAY..from + minutes * 60).step_by(60) {
        let mut shown = vec![local(at)];
        if !by_the_clock {
            shown.extend((local(at - 60) + 60..local(at)).step_by(60));
        }
        let fresh = shown.iter().filter(|l| seen.insert(**l) || by_the_clock);
        if fresh.filter(|l| fits(cron, **l)).count() > 0 && at >= from {
            due.push(at);
        }
    }
    due
}

fn found(cron: &Cron, from: i64, minutes: i64, offset: &dyn Fn(i64) -> i32) -> Vec<i64> {
    let mut all = Vec::new();
    let mut at = from - 1;
    while let Some(next) = cron.next(at, offset).filter(|n| *n < from + minutes * 60) {
        assert!(next > at, "{cron}: {next} after {at}");
        all.push(next);
        at = next;
    }
    all
}

fn part(least: u8, most: u8) -> impl Strategy<Value = String> {
    let one = (least..=most).prop_map(|n| n.to_string());
    let range =
        (least..=most, least..=most).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
    let step = (1..9u8).prop_map(|n| format!("*/{n}"));
    let list = (least..=most, least..=most).prop_map(|(a, b)| format!("{a},{b}"));
    prop_oneof![3 => Just("*".to_owned()), 2 => one, 1 => range, 1 => step, 1 => list]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_is_due_when_the_model_says(
        fields in (part(0, 59), part(0, 23), part(1, 28), part(1, 12), part(0, 7)),
        zone in 0..4usize,
        moved in -3 * 1440..3 * 1440i64,
    ) {
        let (minute, hour, day, month, weekday) = fields;
        let cron = cron(&format!("{minute} {hour} {day} {month} {weekday}"));
        let zones: [(&dyn Fn(i64) -> i32, i64); 4] = [
            (&berlin, 1_774_746_000),
            (&berlin, 1_792_890_000),
            (&lord_howe, 1_775_314_800),
            (&samoa, 1_325_239_200),
        ];
        let (offset, change) = zones[zone];
        let from = change + moved * 60;
        let is = found(&cron, from, 4 * 1440, offset);
        prop_assert_eq!(&is, &model(&cron, from, 4 * 1440, offset), "{}", cron);
        let last = cron.last(from - 1, from + 4 * DAY - 60, offset);
        prop_assert_eq!(last, is.last().copied());
    }
}

/// `2026-03-29 03:00` by the local clock, of all instants found.
fn shown(text: &str, from: i64, minutes: i64) -> Vec<String> {
    let found = found(&cron(text), from, minutes, &berlin);
    let show = |at: &i64| {
        let local = at + i64::from(berlin(*at));
        let of_day = local.rem_euclid(DAY);
        let (month, day) = date(local.div_euclid(DAY));
        format!("{month}-{day} {:02}:{:02}", of_day / 3600, of_day / 60 % 60)
    };
    found.iter().map(show).collect()
}

#[test]
fn a_time_that_is_left_out_is_due_at_the_change_and_one_that_comes_twice_once() {
    // From 00:00 local.
    let spring = 1_774_738_800;
    assert_eq!(
        shown("30 2 * * *", spring, 2880),
        ["3-29 03:00", "3-30 02:30"]
    );
    assert_eq!(
        shown("0,30 2,3 * * *", spring, 1440),
        ["3-29 03:00", "3-29 03:30"]
    );
    assert_eq!(
        shown("0 * * * *", spring, 240),
        ["3-29 00:00", "3-29 01:00", "3-29 03:00", "3-29 04:00"]
    );
    let autumn = 1_792_879_200;
    assert_eq!(
        shown("30 2 * * *", autumn, 2880),
        ["10-25 02:30", "10-26 02:30"]
    );
    assert_eq!(
        shown("30 * * * *", autumn, 300),
        [
            "10-25 00:30",
            "10-25 01:30",
            "10-25 02:30",
            "10-25 02:30",
            "10-25 03:30"
        ]
    );
}

#[test]
fn days_are_as_cron_has_them() {
    let utc = |text: &str, after| cron(text).next(after, &|_| 0);
    // 2026-11-29 is a Sunday.
    let sunday = 1_795_910_400;
    assert_eq!(utc("0 0 * * 7", sunday - 1), Some(sunday));
    assert_eq!(utc("0 0 * * Sun", sunday - 1), Some(sunday));
    // Either, where both are named: the 1st is a Tuesday, Monday is the 30th.
    assert_eq!(utc("0 0 1 * 1", sunday), Some(sunday + DAY));
    // Both, where one begins with a star: the first odd day that is a Monday.
    assert_eq!(utc("0 0 */2 * 1", sunday), Some(sunday + 8 * DAY));
    // 2028-02-29; and, over 2100, which has none.
    assert_eq!(utc("0 0 29 2 *", sunday), Some(1_835_395_200));
    assert_eq!(utc("0 0 29 feb *", 3_981_571_200), Some(4_233_686_400));
    assert_eq!(utc("59 23 31 dec *", sunday), Some(1_798_761_540));
}

#[test]
fn what_is_wrong_is_said() {
    let said = |text: &str| Cron::parse(text).expect_err(text);
    for (text, words) in [
        ("", "it has 0 fields, not 5"),
        ("* * * *", "it has 4 fields, not 5"),
        ("0 */5 * * * *", "it has 6 fields, not 5"),
        ("60 * * * *", "the minute `60` must be 0 to 59"),
        ("* 24 * * *", "the hour `24` must be 0 to 23"),
        ("* * 0 * *", "the day of the month `0` must be 1 to 31"),
        ("* * * 13 *", "the month `13` must be 1 to 12"),
        ("* * * * mo", "the weekday `mo` must be a number"),
        ("* * * * 8", "the weekday `8` must be 0 to 7"),
        ("5-1 * * * *", "the minute `5-1` goes backwards"),
        ("*/0 * * * *", "the minute `*/0` has no step"),
        ("1,,2 * * * *", "the minute `` must be a number"),
        ("+5 * * * *", "the minute `+5` must be a number"),
        ("0 0 30 2 *", "there is no such day"),
        ("@reboot", "`autostart`"),
        ("@often", "there are @hourly, @daily"),
    ] {
        assert!(said(text).contains(words), "{text}: {}", said(text));
    }
}
