//! Log files as the scribe writes them: lines with their times, rotated; what is lost is accounted for.

use super::scribe::{NOW, Rig, log};
use super::*;
use nix::sys::signal::{Signal, kill};
use std::time::{Duration, Instant};
use vitald::limits;

/// Logs `data` again and again until some is in the file; how many bytes. A failed log is tried again
/// a second later, with the next line.
pub fn log_until_written(rig: &mut Rig, dir: &Path, data: &[u8]) -> usize {
    let begun = Instant::now();
    let mut logged = 0;
    let length = || fs::metadata(dir.join("logs/web/current")).map_or(0, |file| file.len());
    let before = length();
    while length() == before {
        assert!(begun.elapsed() < Duration::from_secs(20));
        rig.log("web", NOW, data);
        logged += data.len();
        // The scribe's clock has no event for us.
        std::thread::sleep(Duration::from_millis(20));
    }
    logged
}

/// Bytes in a log file without their times, and bytes that it says were dropped.
pub fn accounted(text: &str) -> usize {
    let of = |line: &str| match line.contains(" bytes dropped: ") {
        true => line.split(' ').nth(2).unwrap().parse().unwrap(),
        false => line.len() + 1 - 25,
    };
    text.lines().map(of).sum()
}

#[test]
fn a_log_on_a_full_disk_says_what_is_missing_to_the_byte() {
    let Some(dir) = Dir::small(96) else { return };
    let mut rig = Rig::with(&dir, 1 << 20, 1);
    // Room for a part of the first message, which makes some 45 KiB with its times.
    fs::write(dir.join("filler"), [0; 72 * 1024]).unwrap();
    let piece = b"in one piece\n".repeat(1200);
    rig.log("web", NOW, &piece);
    rig.log("web", NOW, b"more\n");
    // Each answer proves that a log message was taken since the one before.
    for seq in 1..=4 {
        rig.remember(seq, "web", "start");
        rig.until(|rig| rig.acks.iter().any(|ack| ack.seq == seq));
    }
    let part = log(&dir, "web").len();
    assert!(part > 8 * 1024 && part < 24 * 1024, "{part}");
    let mut logged = piece.len() + 5;
    // Some room, in which what was lost is said, but not all of the next message.
    fs::write(dir.join("filler"), [0; 48 * 1024]).unwrap();
    logged += log_until_written(&mut rig, &dir, &piece);
    fs::remove_file(dir.join("filler")).unwrap();
    logged += log_until_written(&mut rig, &dir, b"kept\n");
    rig.finish();
    let text = log(&dir, "web");
    assert!(text.contains("No space left on device (28)"), "{text}");
    assert_eq!(accounted(&text), logged);
}

#[test]
fn log_lines_have_their_time_whatever_pieces_they_came_in() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir);
    rig.log("web", NOW, b"one\ntw");
    rig.log("db", NOW, b"other\n");
    rig.log("web", NOW + 1000, b"o\n\nprompt> ");
    rig.end_line("web", NOW + 2000);
    rig.log("web", NOW + 3000, b"new run\nunfinished");
    rig.finish();
    let expected = "2026-11-23T22:48:01.123Z one\n2026-11-23T22:48:01.123Z two\n\
                    2026-11-23T22:48:02.123Z \n2026-11-23T22:48:02.123Z prompt> \n\
                    2026-11-23T22:48:04.123Z new run\n2026-11-23T22:48:04.123Z unfinished";
    assert_eq!(log(&dir, "web"), expected);
    assert_eq!(log(&dir, "db"), "2026-11-23T22:48:01.123Z other\n");
    // The service outlived that daemon: its line goes on.
    let mut rig = Rig::new(&dir);
    rig.log("web", NOW + 9000, b" business\n");
    rig.finish();
    assert_eq!(log(&dir, "web"), format!("{expected} business\n"));
}

#[test]
fn too_long_a_log_line_is_split_and_no_byte_is_lost() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir);
    let long = vec![b'x'; 3 * limits::LOG_LINE_BYTES + 7];
    rig.log("web", NOW, &long);
    rig.log("web", NOW, b"\n");
    rig.log("web", NOW, &long[..limits::LOG_LINE_BYTES]);
    rig.log("web", NOW, b"\nend\n");
    rig.finish();
    let text = log(&dir, "web");
    let bound = limits::LOG_LINE_BYTES;
    let lengths: Vec<usize> = text.lines().map(|line| line.len() - 25).collect();
    assert_eq!(lengths, [bound, bound, bound, 7, bound, 3]);
}

#[test]
fn log_files_are_rotated_by_size_and_number() {
    let dir = Dir::new();
    let mut rig = Rig::with(&dir, 4096, 2);
    for n in 0..400 {
        rig.log("web", NOW, format!("line {n:04}\n").as_bytes());
    }
    rig.finish();
    let web = dir.join("logs/web");
    let mut names: Vec<_> = fs::read_dir(&web)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["current", "current.1", "current.2"]);
    let mut text = String::new();
    for name in ["current.2", "current.1", "current"] {
        let part = fs::read_to_string(web.join(name)).unwrap();
        assert!(part.len() < 4096 + 100 && part.ends_with('\n'), "{name}");
        text.push_str(&part);
    }
    let numbers: Vec<u32> = text
        .lines()
        .map(|line| line[line.len() - 4..].parse().unwrap())
        .collect();
    let first = numbers[0];
    assert!(numbers.len() > 200);
    assert_eq!(numbers, (first..400).collect::<Vec<_>>(), "none is missing");
}

#[test]
fn a_flood_costs_its_own_lines_and_the_log_says_how_many() {
    let dir = Dir::new();
    let mut rig = Rig::with(&dir, 1 << 30, 1);
    rig.freeze();
    let line = b"0123456789abcdef0123456789abcde\n";
    let block = line.repeat(2048);
    let blocks = 64;
    for _ in 0..blocks {
        rig.log("loud", NOW, &block);
    }
    rig.log("quiet", NOW, &b"still heard\n".repeat(3000));
    rig.remember(1, "web", "stop");
    kill(rig.pid(), Signal::SIGCONT).unwrap();
    rig.until_durable(1);
    rig.finish();
    assert_eq!(log(&dir, "quiet").lines().count(), 3000);
    assert!(log(&dir, "quiet").ends_with(" still heard\n"));
    let text = log(&dir, "loud");
    let lines = text.lines().filter(|line| line.ends_with("bcde")).count();
    assert!(lines > 1000 && text.contains(" bytes dropped: they came faster"));
    assert_eq!(accounted(&text), blocks * block.len());
}

#[test]
fn names_that_lead_elsewhere_are_not_written_to() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir);
    for name in ["../evil", "..", "", "a/b"] {
        rig.log(name, NOW, b"x\n");
    }
    rig.log("good", NOW, b"x\n");
    rig.finish();
    let logs: Vec<_> = fs::read_dir(dir.join("logs"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(logs, ["good"]);
    assert!(dir.named("evil").is_empty());
}

#[test]
fn more_services_than_open_files_are_served() {
    let dir = Dir::new();
    let mut rig = Rig::new(&dir);
    for round in 0..3 {
        for n in 0..3 * limits::SCRIBE_OPEN_FILES {
            rig.log(&format!("s{n}"), NOW, format!("{round},").as_bytes());
        }
    }
    rig.remember(1, "web", "stop");
    rig.until_durable(1);
    let held = fs::read_dir(format!("/proc/{}/fd", rig.pid())).unwrap();
    assert!(held.count() <= limits::SCRIBE_OPEN_FILES + 8);
    rig.finish();
    for n in 0..3 * limits::SCRIBE_OPEN_FILES {
        let expected = "2026-11-23T22:48:01.123Z 0,1,2,";
        assert_eq!(log(&dir, &format!("s{n}")), expected);
    }
}
