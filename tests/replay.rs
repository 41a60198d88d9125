//! Recordings, replayed: every one in `tests/recording`, for ever; those of all scenarios and of
//! random stories, with the engine written down and taken up again at events all over; and what is
//! said of recordings that are torn, damaged, or do not tell the truth.
//!
//! `UPDATE=1 cargo test --test replay` records `tests/recording/NAME` anew from
//! `tests/scenario/NAME.txt`. A recording without a scenario of its name came from a daemon and is
//! kept as it is.

use std::fs;
use std::path::{Path, PathBuf};
use vitald::journal::line;
use vitald::journal::replay::{Outcome, Source, Unreadable, Until, replay};
use vitald::prng::Prng;
use vitald::simulator::{World, play_in};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder(name))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "nothing in tests/{name}");
    files
}

fn scenario(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a scenario");
    text.split("----\n").next().unwrap_or_default().to_owned()
}

fn record(script: &str, events_per_part: u64) -> Vec<u8> {
    let mut world = World::new(1);
    world.start_recording(events_per_part);
    play_in(&mut world, script).expect("the script plays");
    world.recording()
}

fn replayed(bytes: &[u8]) -> Result<Outcome, Unreadable> {
    let name = "it";
    replay(&[Source { name, bytes }], Until::End, &mut |_| {})
}

/// Replays to the end, and the same came of it.
fn clean(what: &str, bytes: &[u8]) -> Outcome {
    let outcome = replayed(bytes).unwrap_or_else(|u| panic!("{what}: {u:?}"));
    assert_eq!(outcome.divergence, None, "{what}");
    assert_eq!(outcome.notes, [""; 0], "{what}");
    outcome
}

#[test]
fn every_scenario_replays_from_a_checkpoint_at_any_event() {
    let (mut events, mut bytes) = (0, 0);
    for path in files("scenario") {
        let what = path.display().to_string();
        let script = scenario(&path);
        let whole = record(&script, 0);
        let outcome = clean(&what, &whole);
        events += outcome.events;
        bytes += whole.len();
        // Before every event; in long stories before every few.
        let step = 1 + outcome.events / 250;
        let parts = clean(&what, &record(&script, step));
        assert_eq!(parts.events, outcome.events, "{what}");
        assert!(u64::from(parts.parts) >= parts.events / step, "{what}");
    }
    println!("{events} events, {} bytes an event", bytes as u64 / events);
}

/// A story of four services that depend on each other, made of anything that can happen.
fn random_story(seed: u64) -> Vec<String> {
    let mut prng = Prng::new(seed);
    let names = ["a", "b", "c", "d"];
    let mut story = Vec::new();
    let define = |prng: &mut Prng, at: usize| {
        let mut pick = |from: &[&str]| from[prng.below(from.len() as u64) as usize].to_owned();
        let edge = match at {
            0 => String::new(),
            _ => format!(
                "{} = ['{}']\n",
                pick(&["requires", "after", "wants"]),
                names[at - 1]
            ),
        };
        let kind = pick(&["", "", "", "kind = 'oneshot'\n"]);
        let probe = match kind.as_str() {
            "" => pick(&[
                "",
                "[[probe]]\ntype = 'tcp'\ntarget = '127.0.0.1:1'\ninterval_ms = 500\n\
                 timeout_ms = 200\nfailure_threshold = 2\n",
                "[[probe]]\ntype = 'exec'\ntarget = ['x']\ninterval_ms = 700\ntimeout_ms = 300\n\
                 [[probe]]\ntype = 'tcp'\ntarget = '127.0.0.1:1'\nsend = 'word'\n\
                 on_unhealthy = 'observe'\ninterval_ms = 300\ntimeout_ms = 100\n",
            ]),
            _ => String::new(),
        };
        let more = pick(&[
            "",
            "stop_timeout_ms = 300\n",
            "restart = 'never'\n",
            "env = { A = '1' }\n",
        ]);
        let attempts = pick(&["2", "5", "'unlimited'"]);
        format!(
            "define {}\nexec = ['x']\n{edge}{kind}{more}[retry_policy]\nmax_attempts = {attempts}\n\
             delay_ms = 200\nstability_period_ms = 3000\n{probe}end\n",
            names[at]
        )
    };
    story.extend((0..4).map(|at| define(&mut prng, at)));
    story.push("boot".to_owned());
    for _ in 0..60 {
        let at = prng.below(4) as usize;
        let name = names[at];
        let line = match prng.below(26) {
            0 => format!("hang {name}"),
            1 => format!("answer {name}"),
            2 => format!("refuse {name} for-good"),
            3 => format!("answer {name} for-good"),
            4 => format!("cannot-ask {name}"),
            5 => format!("exit {name} 1"),
            6 => format!("ignores-term {name}"),
            7 => format!("stops-in {name} 100ms"),
            8 => format!("spawn-error {name} fork"),
            9 => format!("spawn-error {name} none"),
            10 => format!("start {name} --wait"),
            11 => format!("stop {name}"),
            12 => format!("restart {name}"),
            13 => format!("reset {name}; probe {name}"),
            14 => "hold 2s".to_owned(),
            15 => "release".to_owned(),
            16 => "starve 400ms".to_owned(),
            17 => "suspend 1h".to_owned(),
            18 => "daemon-dies\nboot".to_owned(),
            19 => "disk stalled".to_owned(),
            20 => "disk good".to_owned(),
            21 => {
                story.push(define(&mut prng, at));
                "reload".to_owned()
            }
            22 => format!("undefine {name}\nreload"),
            23 => define(&mut prng, at).replacen("define", "set", 1),
            24 => format!("delete {name}"),
            _ => String::new(),
        };
        let length = [1, 70, 400, 3000][prng.below(4) as usize];
        story.push(line);
        story.push(format!("{length}ms"));
    }
    story
}

#[test]
fn random_stories_replay_from_a_checkpoint_at_any_event() {
    let mut events = 0;
    for seed in 0..12 {
        let mut world = World::new(seed);
        world.start_recording(5 + seed);
        for part in random_story(seed) {
            match play_in(&mut world, &part) {
                Ok(()) => {}
                // It was never started.
                Err(why) if why.ends_with("no such process") => {}
                Err(why) => panic!("seed {seed}: {why}\n{part}"),
            }
        }
        events += clean(&format!("seed {seed}"), &world.recording()).events;
    }
    assert!(events > 5_000, "{events}");
    println!("{events} events");
}

/// The stories that are kept as recordings.
const KEPT: [&str; 5] = [
    "backoff",
    "daemon_death",
    "gate_3_hold",
    "loop_closes",
    "reload",
];

/// What the engine once got wrong.
const BUGS: [&str; 21] = [
    "asked_again_after_the_return",
    "broken_file_over_a_death",
    "chain_while_starting",
    "exhausted_while_dead",
    "hold_on_the_way",
    "orphan_requirement",
    "overdue_judged_afresh",
    "ready_by_what_it_is_now",
    "recovered_over_a_death",
    "reload_back_and_delete",
    "reload_before_the_spawn",
    "reload_requires_before_the_spawn",
    "reload_while_stopping",
    "requirement_gone",
    "spawn_fails_late",
    "spawned_again_when_it_may",
    "starting_over_a_death",
    "stopped_before_it_executes",
    "unasked_and_undone",
    "wanted_by_nobody",
    "watchdog_miss_over_a_death",
];

#[test]
fn what_was_recorded_once_is_replayed_for_ever() {
    if std::env::var_os("UPDATE").is_some() {
        for name in KEPT.iter().chain(&BUGS) {
            let script = scenario(&folder("scenario").join(format!("{name}.txt")));
            fs::write(folder("recording").join(name), record(&script, 0)).expect("written");
        }
    }
    let mut names = Vec::new();
    for path in files("recording") {
        let bytes = fs::read(&path).expect("a recording");
        assert!(clean(&path.display().to_string(), &bytes).events > 0);
        names.push(
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        );
    }
    for name in KEPT.iter().chain(&BUGS) {
        assert!(
            names.iter().any(|n| n == name),
            "{name}: UPDATE=1 records it"
        );
    }
}

// --- what is said of recordings that are not what they should be

const STORY: &str = "define web\nexec = ['x']\nenv = { A = 'the-secret', B = 'the-secret' }\n\
    [[probe]]\ntype = 'http'\ntarget = 'http://127.0.0.1:80/'\n\
    headers = { Authorization = 'the-secret' }\ninterval_ms = 1000\ntimeout_ms = 500\n\
    failure_threshold = 2\n\
    [[probe]]\ntype = 'tcp'\ntarget = '127.0.0.1:81'\nsend = 'AUTH the-secret'\n\
    interval_ms = 1000\ntimeout_ms = 500\nend\n\
    boot\n5s\nhang web\n60s\nstop web\n1s\n";

/// Kind and value of each line.
fn lines(bytes: &[u8]) -> Vec<(String, String)> {
    bytes
        .split_inclusive(|b| *b == b'\n')
        .map(|bytes| {
            let (kind, value) = line::parse(bytes).expect("a sound line");
            (
                kind.to_owned(),
                String::from_utf8(value.to_vec()).expect("UTF-8"),
            )
        })
        .collect()
}

fn file(lines: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, value) in lines {
        let value: Box<serde_json::value::RawValue> =
            serde_json::from_slice(value.as_bytes()).expect("JSON");
        line::write(&mut out, kind, &value).expect("written");
    }
    out
}

#[test]
fn an_effect_that_was_another_is_the_first_difference() {
    let mut told = lines(&record(STORY, 0));
    // As if a version before this one had sent another signal.
    let at = told
        .iter()
        .position(|(kind, value)| kind == "out" && value.contains("\"signal\":15"));
    let at = at.expect("a stop");
    told[at].1 = told[at].1.replacen("\"signal\":15", "\"signal\":14", 1);
    let outcome = replayed(&file(&told)).expect("readable");
    let found = outcome.divergence.expect("a difference");
    assert_eq!((found.file.as_str(), found.line), ("it", at));
    assert_eq!(
        found.event,
        told[..at].iter().filter(|(k, _)| k == "in").count() as u64
    );
    assert_eq!(outcome.events, found.event, "it ends there");
    assert!(
        found.recorded.contains("\"signal\":14,"),
        "{}",
        found.recorded
    );
    assert!(
        found.replayed.contains("\"signal\":15,"),
        "{}",
        found.replayed
    );
    assert!(
        found.recorded.contains("\"service\":\"web\""),
        "{}",
        found.recorded
    );
    assert!(found.after.contains("EvidenceDone"), "{}", found.after);
    assert!(found.what.starts_with("effect "), "{}", found.what);
    assert!(
        found.time.starts_with("1970-01-01T00:00:0"),
        "{}",
        found.time
    );
    assert_eq!(found.before.len(), 8);
}

#[test]
fn effects_that_are_missing_or_too_many_are_differences() {
    let told = lines(&record(STORY, 0));
    let outs = || (0..told.len()).filter(|at| told[*at].0 == "out");
    let mut missing = told.clone();
    missing.remove(outs().nth(3).expect("effects"));
    let found = replayed(&file(&missing)).expect("readable").divergence;
    assert_eq!(found.expect("a difference").recorded, "nothing");
    let mut more = told.clone();
    let idle = (1..told.len() - 1).find(|at| told[*at].0 == "in" && told[at + 1].0 == "in");
    more.insert(
        idle.expect("an idle event") + 1,
        ("out".into(), "[{\"Exit\":{\"code\":0}}]".into()),
    );
    let found = replayed(&file(&more)).expect("readable").divergence;
    assert_eq!(found.expect("a difference").replayed, "nothing");
}

#[test]
fn a_state_that_was_another_is_a_difference_even_before_it_is_seen() {
    let mut told = lines(&record(STORY, 40));
    let second = (0..told.len())
        .filter(|at| told[*at].0 == "checkpoint")
        .nth(1);
    let at = second.expect("a second part");
    let (from, to) = ("\"attempts\":0", "\"attempts\":1");
    assert!(told[at].1.contains(from));
    told[at].1 = told[at].1.replacen(from, to, 1);
    let found = replayed(&file(&told)).expect("readable").divergence;
    let found = found.expect("a difference");
    assert_eq!((found.what.as_str(), found.line), ("checkpoint", at + 1));
    assert!(found.recorded.contains(to) && found.replayed.contains(from));
}

#[test]
fn a_torn_end_is_dropped_and_said() {
    let whole = record(STORY, 0);
    let all = replayed(&whole).expect("readable").events;
    let last = whole[..whole.len() - 1]
        .iter()
        .rposition(|b| *b == b'\n')
        .expect("lines")
        + 1;
    for cut in [last + 1, last + 12, whole.len() - 1] {
        let outcome = replayed(&whole[..cut]).expect("readable");
        assert_eq!(outcome.divergence, None);
        let words = format!("the last line was cut; {} bytes dropped", cut - last);
        assert!(
            outcome.notes.iter().any(|n| n.contains(&words)),
            "{:?}",
            outcome.notes
        );
        assert!(all - outcome.events <= 1);
    }
    // Cut between an event and what it led to: that is not compared, and said.
    let told = lines(&whole);
    let at = told
        .iter()
        .rposition(|(kind, _)| kind == "out")
        .expect("effects");
    let outcome = replayed(&file(&told[..at])).expect("readable");
    assert_eq!(outcome.divergence, None);
    assert!(
        outcome.notes[0].contains("is not in the recording"),
        "{:?}",
        outcome.notes
    );
}

#[test]
fn damage_ends_a_part_and_the_next_is_replayed() {
    let mut bytes = record(STORY, 40);
    let parts = lines(&bytes)
        .iter()
        .filter(|(k, _)| k == "recording")
        .count() as u64;
    assert!(parts > 3, "{parts}");
    let whole = replayed(&bytes).expect("readable").events;
    // In the second part, an event that matters: without it another would come of the rest.
    let all = lines(&bytes);
    let second = all.iter().position(|(_, v)| v.contains("\"before\":40,"));
    let line = (second.expect("a second part")..all.len())
        .find(|line| all[*line].1.contains("ProbeFinished"))
        .expect("an answer");
    let at = bytes
        .split_inclusive(|b| *b == b'\n')
        .take(line)
        .map(<[u8]>::len)
        .sum::<usize>()
        + 30;
    bytes[at] ^= 0x20;
    let outcome = replayed(&bytes).expect("readable");
    assert_eq!(outcome.divergence, None);
    assert!(
        outcome.events < whole && outcome.events >= whole - 40,
        "{}",
        outcome.events
    );
    assert!(
        outcome.notes.iter().any(|n| n.contains("damaged")),
        "{:?}",
        outcome.notes
    );
    assert_eq!(u64::from(outcome.parts), parts);
    assert!(outcome.skipped > 0 && outcome.skipped < 40);
}

#[test]
fn a_gap_is_said_and_the_next_part_replayed() {
    let told = lines(&record(STORY, 40));
    let starts: Vec<usize> = (0..told.len())
        .filter(|at| told[*at].0 == "recording")
        .collect();
    let mut gap = told[..starts[1]].to_vec();
    gap.extend_from_slice(&told[starts[2]..]);
    gap[starts[1]].1 = gap[starts[1]]
        .1
        .replace("\"why\":\"\"", "\"why\":\"the disk was full\"");
    let outcome = replayed(&file(&gap)).expect("readable");
    assert_eq!((outcome.divergence, outcome.lost), (None, 40));
    let words = "40 events before this are missing: the disk was full";
    assert!(outcome.notes[0].contains(words), "{:?}", outcome.notes);
    // A later file alone.
    let outcome = replayed(&file(&told[starts[2]..])).expect("readable");
    assert_eq!((outcome.divergence, outcome.lost), (None, 0));
    assert!(
        outcome.notes[0].contains("begins after 80 events"),
        "{:?}",
        outcome.notes
    );
}

#[test]
fn what_cannot_be_read_is_said_with_file_and_line() {
    let bytes = record(STORY, 0);
    let refused = |bytes: &[u8]| match replayed(bytes) {
        Err(unreadable) => (unreadable.line, unreadable.why),
        Ok(_) => panic!("it was read"),
    };
    assert_eq!(refused(b"").0, 1);
    assert!(refused(b"no recording\n").1.contains("no recording"));
    let mut told = lines(&bytes);
    told[0].1 = told[0].1.replace("\"format\":1", "\"format\":2");
    let (line, why) = refused(&file(&told));
    assert!(
        line == 1 && why.contains("format 2, this one reads 1"),
        "{why}"
    );
    let mut told = lines(&bytes);
    told[0].1 = told[0].1.replace(env!("CARGO_PKG_VERSION"), "9.9.9");
    let at = (4..told.len())
        .find(|at| told[*at].0 == "in")
        .expect("an event");
    told[at].1 = "[1,\"Somersault\"]".to_owned();
    let (line, why) = refused(&file(&told));
    assert!(
        line == at + 1 && why.contains("9.9.9") && why.contains("`Event`"),
        "{line} {why}"
    );
}

#[test]
fn another_version_is_replayed_and_named() {
    let mut told = lines(&record(STORY, 0));
    told[0].1 = told[0].1.replace(env!("CARGO_PKG_VERSION"), "9.9.9");
    told.insert(3, ("later".to_owned(), "{\"what\":1}".to_owned()));
    let outcome = replayed(&file(&told)).expect("readable");
    assert_eq!(
        (outcome.divergence, outcome.versions),
        (None, vec!["9.9.9".into()])
    );
}

#[test]
fn no_secret_is_written_and_equal_ones_stay_equal() {
    let bytes = record(STORY, 30);
    let text = String::from_utf8(bytes.clone()).expect("UTF-8");
    assert!(!text.contains("the-secret"));
    let hashes: Vec<&str> = text
        .split("hash:")
        .skip(1)
        .map(|rest| &rest[..16])
        .collect();
    assert!(hashes.len() >= 8, "{}", hashes.len());
    // A, B and the header are the same word, what is sent is another.
    assert_eq!(hashes[0], hashes[1]);
    assert_eq!(hashes[0], hashes[2]);
    assert_ne!(hashes[0], hashes[3]);
    clean("secrets", &bytes);
}

/// A definition that an operator gives is kept as its whole text: in requests, in what is to be
/// remembered, in the engine, and in what the next daemon finds.
#[test]
fn the_text_of_a_definition_that_was_set_is_a_secret_too() {
    let text = "exec = ['x']\nenv = { A = 'the-secret' }\nend\n";
    let script = format!(
        "define other\nexec = ['x']\nend\nboot\n1s\nset web\n{text}1s\nstop web\n1s\n\
         daemon-dies\nboot\n1s\nset web\n# another\n{text}1s\n"
    );
    let bytes = record(&script, 1);
    let recorded = String::from_utf8(bytes.clone()).expect("UTF-8");
    assert!(recorded.contains("\"text\":\"hash:") && recorded.contains("\"definition\":\"hash:"));
    assert!(!recorded.contains("the-secret"));
    clean("set", &bytes);
}

#[test]
fn a_changed_secret_is_a_change_after_all() {
    let reload = "define web\nexec = ['x']\nenv = { A = 'one' }\nend\nboot\n1s\n\
        define web\nexec = ['x']\nenv = { A = 'one' }\nend\nreload\n1s\n\
        define web\nexec = ['x']\nenv = { A = 'two' }\nend\nreload\n1s\n";
    let outcome = clean("reload", &record(reload, 0));
    let engine = outcome.engine.expect("an engine");
    let id = engine.find("web").expect("web");
    assert_eq!(engine.status(id, outcome.wall).run, 2);
}

#[test]
fn it_stops_where_it_is_told_and_knows_how_things_stood() {
    let bytes = record(STORY, 25);
    let stand = |until| {
        let name = "it";
        let sources = [Source {
            name,
            bytes: &bytes,
        }];
        let outcome = replay(&sources, until, &mut |_| {}).expect("readable");
        let engine = outcome.engine.as_ref().expect("an engine");
        let id = engine.find("web").expect("web");
        (
            outcome.events,
            outcome.wall.wall_ms,
            engine.status(id, outcome.wall).state,
        )
    };
    // The world begins in 1970.
    let (by_time, at, state) = stand(Until::Wall(4_000));
    assert_eq!((at, state.as_str()), (4_000, "running"));
    assert_eq!(stand(Until::Day(4_000)), (by_time, at, state));
    let (events, at, state) = stand(Until::Event(3));
    assert_eq!((events, at, state.as_str()), (3, 0, "starting"));
    assert_eq!(stand(Until::End).2, "inactive");
}
