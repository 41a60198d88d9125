//! The runtime journal.

use super::*;
use vitald::engine::effect::Record;
use vitald::engine::snapshot::{HoldRecord, ServiceSnapshot};
use vitald::engine::story::{Decision, Transition, TransitionKind, Verdict, Word};
use vitald::journal::runtime::{Identity, Loaded, Runtime};
use vitald::limits;
use vitald::time::Time;

fn here() -> Identity {
    Identity {
        boot: "0e8f".into(),
        pid_namespace: 4026531836,
        init_started: 3,
    }
}

fn service(name: &str, number: u32) -> Record {
    Record::Service(Box::new(ServiceSnapshot {
        name: name.into(),
        state: "running".into(),
        number,
        ..ServiceSnapshot::default()
    }))
}

fn decision(seq: u64, cured: Option<bool>) -> Record {
    Record::Decision(Decision {
        seq,
        at: Time(seq),
        service: "web".into(),
        run: 1,
        cause: Word("unhealthy"),
        verdict: Verdict::Allowed,
        reason: "probe http: timeout".into(),
        attempts: 1,
        max_attempts: Some(10),
        next: None,
        cured,
    })
}

fn transition(seq: u64, service: &str) -> Record {
    Record::Transition(Transition {
        seq,
        at: Time(seq),
        service: service.into(),
        run: 1,
        kind: TransitionKind::State,
        from: Word("starting"),
        to: Word("running"),
        cause: Word("boot"),
        detail: "".into(),
    })
}

fn open(dir: &Path) -> (Runtime, Loaded) {
    Runtime::open(dir, Some(&here()))
}

fn numbers(loaded: &Loaded) -> Vec<(String, u32)> {
    let pair = |s: &ServiceSnapshot| (s.name.to_string(), s.number);
    loaded.services.iter().map(pair).collect()
}

#[test]
fn what_was_appended_is_there_for_the_next_daemon() {
    let dir = Dir::new();
    let (mut journal, loaded) = open(&dir);
    assert!(loaded.first_of_boot && loaded.notes.is_empty());
    let hold = Record::Hold(Some(HoldRecord {
        owner: "root".into(),
        since: Time(5),
        until: None,
    }));
    let records = [
        service("web", 1),
        service("db", 1),
        hold,
        service("web", 2),
        transition(1, "web"),
        decision(2, None),
        decision(2, Some(true)),
        service("old", 1),
        Record::Service(Box::new(ServiceSnapshot {
            name: "old".into(),
            ..ServiceSnapshot::default()
        })),
    ];
    journal.append(Time(1), &records).unwrap();
    drop(journal);
    let (_, loaded) = open(&dir);
    assert!(!loaded.first_of_boot);
    assert_eq!(loaded.notes, [] as [String; 0]);
    // The last line wins; one without a state forgets the name.
    assert_eq!(numbers(&loaded), [("db".into(), 1), ("web".into(), 2)]);
    assert_eq!(loaded.transitions.len(), 1);
    assert_eq!(loaded.decisions.len(), 1);
    assert_eq!(loaded.decisions[0].cured, Some(true));
    assert_eq!(loaded.hold.unwrap().owner.as_ref(), "root");
}

#[test]
fn the_story_is_bounded_and_keeps_the_newest() {
    let dir = Dir::new();
    let (mut journal, _) = open(&dir);
    for seq in 0..200 {
        journal.push(Time(1), &transition(seq, "web"));
        journal.push(Time(1), &decision(seq, None));
    }
    journal.push(Time(1), &transition(3, "db"));
    journal.flush(Time(1)).unwrap();
    let (_, loaded) = open(&dir);
    assert_eq!(loaded.transitions.len(), limits::HISTORY_PER_SERVICE + 1);
    assert_eq!(loaded.decisions.len(), limits::DECISIONS_PER_SERVICE);
    assert_eq!(loaded.transitions.last().unwrap().seq, 199);
    assert_eq!(loaded.transitions[0].service.as_ref(), "db", "by number");
}

#[test]
fn a_last_record_cut_at_any_byte_leaves_the_state_before_it() {
    let dir = Dir::new();
    let (mut journal, _) = open(&dir);
    journal
        .append(Time(1), &[service("web", 1), service("web", 2)])
        .unwrap();
    drop(journal);
    let path = dir.join("journal");
    let whole = fs::read(&path).unwrap();
    for cut in last_line(&whole)..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (mut journal, loaded) = open(&dir);
        assert!(!loaded.first_of_boot, "cut at {cut}");
        assert_eq!(numbers(&loaded), [("web".into(), 1)]);
        let said = loaded.notes.join("\n");
        assert_eq!(said.contains("was cut"), cut > last_line(&whole), "{said}");
        // And what is written next is read again.
        journal.append(Time(1), &[service("web", 7)]).unwrap();
        let (_, loaded) = open(&dir);
        assert_eq!(numbers(&loaded), [("web".into(), 7)], "cut at {cut}");
        assert_eq!(loaded.notes, [] as [String; 0]);
    }
}

#[test]
fn a_damaged_last_line_is_not_carried_into_the_middle() {
    let dir = Dir::new();
    let (mut journal, _) = open(&dir);
    journal
        .append(Time(1), &[service("web", 1), service("web", 2)])
        .unwrap();
    let path = dir.join("journal");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (mut journal, loaded) = open(&dir);
    assert_eq!(numbers(&loaded), [("web".into(), 1)]);
    journal.append(Time(1), &[service("web", 3)]).unwrap();
    let (_, loaded) = open(&dir);
    assert_eq!(numbers(&loaded), [("web".into(), 3)]);
    assert_eq!(loaded.notes, [] as [String; 0]);
}

#[test]
fn a_changed_byte_in_the_middle_loses_one_line_and_is_said_and_kept() {
    let dir = Dir::new();
    let (mut journal, _) = open(&dir);
    journal
        .append(
            Time(1),
            &[service("a", 1), service("b", 1), service("c", 1)],
        )
        .unwrap();
    let path = dir.join("journal");
    let whole = fs::read(&path).unwrap();
    let b_line = whole.windows(3).position(|w| w == b"\"b\"").unwrap();
    for round in 1..=5 {
        let mut bytes = whole.clone();
        bytes[b_line + 1] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let (_, loaded) = open(&dir);
        assert!(!loaded.first_of_boot, "its services live");
        assert_eq!(numbers(&loaded), [("a".into(), 1), ("c".into(), 1)]);
        let said = loaded.notes.join("\n");
        assert!(said.contains("1 damaged lines from line 3 on"), "{said}");
        let aside = dir.named("journal.corrupt-");
        assert_eq!(aside.len(), round.min(limits::SET_ASIDE_KEPT));
        assert_eq!(fs::read(aside.last().unwrap()).unwrap(), bytes);
        // What is left is sound, and is appended to.
        let (_, again) = open(&dir);
        assert_eq!(numbers(&again), numbers(&loaded));
        assert_eq!(again.notes, [] as [String; 0]);
    }
}

#[test]
fn a_journal_of_another_boot_is_set_aside() {
    let others = [
        Identity {
            boot: "beef".into(),
            ..here()
        },
        Identity {
            pid_namespace: 1,
            ..here()
        },
        Identity {
            init_started: 4,
            ..here()
        },
    ];
    for other in others.iter().map(Some).chain([None]) {
        let dir = Dir::new();
        let (mut journal, _) = Runtime::open(&dir, other);
        journal.append(Time(1), &[service("web", 1)]).unwrap();
        let (mut journal, loaded) = open(&dir);
        assert!(loaded.first_of_boot && loaded.services.is_empty());
        assert!(loaded.notes[0].contains("this is a boot"), "{other:?}");
        assert_eq!(dir.named("journal.old-").len(), 1);
        journal.append(Time(1), &[service("web", 9)]).unwrap();
        let (_, loaded) = open(&dir);
        assert_eq!(numbers(&loaded), [("web".into(), 9)]);
    }
}

#[test]
fn without_an_identity_nothing_is_believed() {
    let dir = Dir::new();
    let (mut journal, _) = Runtime::open(&dir, None);
    journal.append(Time(1), &[service("web", 1)]).unwrap();
    let (_, loaded) = Runtime::open(&dir, None);
    assert!(loaded.first_of_boot && loaded.services.is_empty());
}

#[test]
fn this_machine_has_an_identity() {
    let identity = Identity::read().unwrap();
    assert_eq!(identity.boot.len(), 36);
    assert_eq!(identity, Identity::read().unwrap());
    assert!(identity.pid_namespace > 0);
}

/// A journal with lines as given, after a header of `format`.
fn handmade(dir: &Path, format: u32, lines: &[(&str, serde_json::Value)]) {
    let mut out = Vec::new();
    let identity = serde_json::to_value(here()).unwrap();
    let header = serde_json::json!({"format": format, "identity": identity, "colour": "new"});
    vitald::journal::line::write(&mut out, "journal", &header).unwrap();
    for (kind, value) in lines {
        vitald::journal::line::write(&mut out, kind, value).unwrap();
    }
    fs::write(dir.join("journal"), out).unwrap();
}

#[test]
fn an_older_or_newer_format_is_set_aside_and_newer_kinds_are_skipped() {
    for format in [0, 2] {
        let dir = Dir::new();
        handmade(&dir, format, &[]);
        let (_, loaded) = open(&dir);
        assert!(loaded.first_of_boot);
        let said = loaded.notes.join("\n");
        assert!(said.contains(&format!("has format {format}")), "{said}");
        assert_eq!(dir.named("journal.old-").len(), 1);
    }
    let dir = Dir::new();
    let web = serde_json::json!({"name": "web", "state": "running", "number": 4, "mood": 1});
    let strange = serde_json::json!({"name": "db", "state": ["running"]});
    handmade(
        &dir,
        1,
        &[
            ("dream", serde_json::json!({})),
            ("service", web),
            ("service", strange),
        ],
    );
    let (_, loaded) = open(&dir);
    assert!(!loaded.first_of_boot);
    assert_eq!(numbers(&loaded), [("web".into(), 4)]);
    let said = loaded.notes.join("\n");
    assert!(said.contains("1 records of kind dream"), "{said}");
    assert!(said.contains("1 records of kind service"), "{said}");
}

#[test]
fn compaction_keeps_what_is_so_and_is_due_by_size() {
    let dir = Dir::new();
    let (mut journal, _) = open(&dir);
    let mut number = 0;
    while !journal.compaction_due(Time(1)) {
        number += 1;
        journal.append(Time(1), &[service("web", number)]).unwrap();
        assert!(journal.size() < 2 * limits::JOURNAL_COMPACT_BYTES);
    }
    assert!(journal.size() > limits::JOURNAL_COMPACT_BYTES);
    journal
        .compact(Time(1), &mut [service("web", number)].into_iter())
        .unwrap();
    assert!(journal.size() < 4096 && !journal.compaction_due(Time(1)));
    journal.append(Time(1), &[service("db", 1)]).unwrap();
    let (_, loaded) = open(&dir);
    let expected = [("db".into(), 1), ("web".into(), number)];
    assert_eq!(numbers(&loaded), expected);
    // A state larger than the bound is not written again and again.
    let many: Vec<Record> = (0..5000).map(|n| service(&format!("s{n}"), 1)).collect();
    journal.compact(Time(1), &mut many.into_iter()).unwrap();
    assert!(journal.size() > limits::JOURNAL_COMPACT_BYTES);
    assert!(!journal.compaction_due(Time(1)));
}

#[test]
fn a_full_disk_is_told_once_and_mended_by_compaction() {
    let Some(dir) = Dir::small(256) else { return };
    let (mut journal, _) = open(&dir);
    fs::write(dir.join("filler"), vec![0; 200 * 1024]).unwrap();
    let mut number = 0;
    let failure = loop {
        number += 1;
        if let Err(failure) = journal.append(Time(1), &[service("web", number)]) {
            break failure;
        }
    };
    assert!(failure.first);
    let text = failure.fault.to_string();
    assert!(text.ends_with("No space left on device (28)"), "{text}");
    assert!(text.contains("/journal"), "{text}");
    // What was written whole is still whole, for a daemon that dies now.
    let (_, loaded) = Runtime::open(&dir, Some(&here()));
    assert_eq!(numbers(&loaded), [("web".into(), number - 1)]);
    assert_eq!(loaded.notes, [] as [String; 0]);
    // It stays an error, told no more, until all is written anew.
    let again = journal.append(Time(2), &[service("web", number)]);
    assert!(!again.unwrap_err().first);
    let retry = journal.deadline().unwrap();
    assert!(!journal.compaction_due(Time(3)) && journal.compaction_due(retry));
    let state = || [service("web", number), service("db", 2)].into_iter();
    let many: Vec<Record> = (0..800).map(|n| service(&format!("s{n}"), 1)).collect();
    let failed = journal.compact(retry, &mut many.into_iter()).unwrap_err();
    assert!(!failed.first);
    let later = journal.deadline().unwrap();
    assert!(later.since(retry) > retry.since(Time(1)), "waits longer");
    fs::remove_file(dir.join("filler")).unwrap();
    journal.compact(later, &mut state()).unwrap();
    assert_eq!((journal.deadline(), journal.trouble()), (None, None));
    journal.append(later, &[service("db", 3)]).unwrap();
    let (_, loaded) = open(&dir);
    let expected = [("db".into(), 3), ("web".into(), number)];
    assert_eq!(numbers(&loaded), expected);
    assert!(dir.named(".new").is_empty(), "nothing is left lying about");
}

#[test]
fn a_journal_that_fills_its_disk_makes_room_for_itself() {
    let Some(dir) = Dir::small(256) else { return };
    let (mut journal, _) = open(&dir);
    let mut number = 0;
    while journal
        .append(Time(1), &[service("web", number + 1)])
        .is_ok()
    {
        number += 1;
    }
    let state = || [service("web", number + 1), service("db", 2)].into_iter();
    let at = journal.deadline().unwrap();
    // A whole page is not free for a second file.
    let failed = journal.compact(at, &mut state()).unwrap_err();
    assert_eq!(failed.fault.errno, libc::ENOSPC);
    // What is no shorter is not written in its place, and costs nothing that is there.
    let many: Vec<Record> = (0..4000).map(|n| service(&format!("s{n}"), 1)).collect();
    assert!(journal.compact_in_place(at, &mut many.into_iter()).is_err());
    let (_, loaded) = Runtime::open(&dir, Some(&here()));
    assert_eq!(numbers(&loaded), [("web".into(), number)]);
    journal.compact_in_place(at, &mut state()).unwrap();
    assert_eq!((journal.deadline(), journal.trouble()), (None, None));
    journal.append(at, &[service("db", 3)]).unwrap();
    let (_, loaded) = open(&dir);
    let expected = [("db".into(), 3), ("web".into(), number + 1)];
    assert_eq!(numbers(&loaded), expected);
    assert_eq!(loaded.notes, [] as [String; 0]);
}

#[test]
fn a_file_size_limit_is_an_error_like_another() {
    let dir = Dir::new();
    let mut child = Forked::run(|| {
        use nix::sys::resource::{Resource, setrlimit};
        // SAFETY: a constant of the kernel, not a handler.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        setrlimit(Resource::RLIMIT_FSIZE, 1000, 1000).unwrap();
        let (mut journal, _) = open(&dir);
        let mut number = 0;
        loop {
            number += 1;
            if let Err(failure) = journal.append(Time(1), &[service("web", number)]) {
                assert!(failure.first && failure.fault.errno == libc::EFBIG);
                assert!(number > 2);
                let (_, loaded) = open(&dir);
                assert_eq!(numbers(&loaded), [("web".into(), number - 1)]);
                assert_eq!(loaded.notes, [] as [String; 0]);
                return 0;
            }
        }
    });
    let code = nix::sys::wait::WaitStatus::Exited(child.pid, 0);
    assert_eq!(child.wait(), code);
}

#[test]
fn what_cannot_be_read_or_written_is_no_reason_not_to_start() {
    // A directory where the journal should be.
    let dir = Dir::new();
    fs::create_dir(dir.join("journal")).unwrap();
    let (mut journal, loaded) = open(&dir);
    assert!(loaded.first_of_boot && !loaded.notes.is_empty());
    assert!(journal.trouble().is_some());
    let failure = journal.append(Time(1), &[service("web", 1)]).unwrap_err();
    assert!(!failure.first, "it is among the notes");
    fs::remove_dir(dir.join("journal")).unwrap();
    let retry = journal.deadline().unwrap();
    let mut state = [service("web", 1)].into_iter();
    journal.compact(retry, &mut state).unwrap();
    let (_, loaded) = open(&dir);
    assert_eq!(numbers(&loaded), [("web".into(), 1)]);
    // A FIFO, which a careless open would wait at.
    let dir = Dir::new();
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&dir.join("journal"), mode).unwrap();
    let (mut journal, _) = open(&dir);
    journal.append(Time(1), &[service("web", 1)]).unwrap();
    // No directory at all.
    let (journal, loaded) = open(&dir.join("missing"));
    assert!(loaded.first_of_boot && journal.trouble().is_some());
}
