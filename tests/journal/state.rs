//! The state directory's `wanted`.

use super::*;
use vitald::engine::snapshot::WantedRecord;
use vitald::journal::state::{Loaded, Writer, encode, load, rewrite};

fn lines(records: &[WantedRecord]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        encode(&mut out, record).unwrap();
    }
    out
}

fn words(loaded: &Loaded) -> Vec<(String, String)> {
    let pair = |r: &WantedRecord| (r.name.to_string(), r.wanted.to_string());
    loaded.wanted.iter().map(pair).collect()
}

fn pair(name: &str, what: &str) -> (String, String) {
    (name.into(), what.into())
}

fn three(dir: &Path) -> Vec<u8> {
    let mut writer = Writer::new(dir);
    let first = [wanted("web", "start", 1), wanted("db", "stop", 2)];
    writer.append(&lines(&first)).unwrap();
    writer.append(&lines(&[wanted("web", "stop", 3)])).unwrap();
    fs::read(dir.join("wanted")).unwrap()
}

#[test]
fn a_definition_that_was_given_is_kept_until_it_is_forgotten() {
    let dir = Dir::new();
    let text = "exec = \"web\"\n# é \u{1}";
    let given = WantedRecord {
        definition: Some(text.into()),
        ..wanted("web", "start", 1)
    };
    let mut writer = Writer::new(&dir);
    writer.append(&lines(std::slice::from_ref(&given))).unwrap();
    assert_eq!(load(&dir).wanted, std::slice::from_ref(&given));
    rewrite(&dir).unwrap();
    assert_eq!(load(&dir).wanted, [given]);
    Writer::new(&dir)
        .append(&lines(&[wanted("web", "", 2)]))
        .unwrap();
    assert!(load(&dir).wanted.is_empty());
}

#[test]
fn the_last_word_counts_and_an_empty_one_forgets() {
    let dir = Dir::new();
    assert!(load(&dir).wanted.is_empty());
    three(&dir);
    let loaded = load(&dir);
    assert_eq!(words(&loaded), [pair("db", "stop"), pair("web", "stop")]);
    assert!(loaded.notes.is_empty() && !loaded.rewrite);
    let mut writer = Writer::new(&dir);
    writer.append(&lines(&[wanted("db", "", 4)])).unwrap();
    assert_eq!(words(&load(&dir)), [pair("web", "stop")]);
}

#[test]
fn a_last_record_cut_at_any_byte_leaves_the_word_before_it() {
    let dir = Dir::new();
    let whole = three(&dir);
    let path = dir.join("wanted");
    for cut in last_line(&whole)..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let loaded = load(&dir);
        assert_eq!(words(&loaded), [pair("db", "stop"), pair("web", "start")]);
        let torn = cut > last_line(&whole);
        assert_eq!((loaded.rewrite, loaded.notes.len()), (torn, torn as usize));
        assert_eq!(fs::read(&path).unwrap().len(), cut, "load writes nothing");
        // With or without the rewriting that was asked for, the next word is read again.
        if cut % 2 == 0 {
            rewrite(&dir).unwrap();
        }
        let mut writer = Writer::new(&dir);
        // Shorter than what is cut off, so that no rest of it may stay behind.
        let short = WantedRecord {
            by: "".into(),
            ..wanted("web", "stop", 9)
        };
        writer.append(&lines(&[short])).unwrap();
        let loaded = load(&dir);
        assert_eq!(words(&loaded), [pair("db", "stop"), pair("web", "stop")]);
        assert!(loaded.notes.is_empty(), "{:?}", loaded.notes);
    }
}

#[test]
fn nothing_but_damage_is_said_and_the_file_kept() {
    let dir = Dir::new();
    let path = dir.join("wanted");
    for garbage in [vec![0xfe; 10_000], b"\0\n".repeat(50)] {
        fs::write(&path, &garbage).unwrap();
        let loaded = load(&dir);
        assert!(loaded.wanted.is_empty() && loaded.rewrite);
        let [note] = loaded.notes.as_slice() else {
            panic!("{:?}", loaded.notes);
        };
        assert!(note.contains("not one sound line"), "{note}");
        rewrite(&dir).unwrap();
        assert!(load(&dir).notes.is_empty());
    }
    for (n, length) in [(1, 10_000), (2, 100)] {
        let aside = fs::read(dir.join(format!("wanted.corrupt-{n}"))).unwrap();
        assert_eq!(aside.len(), length);
    }
}

#[test]
fn damage_in_the_middle_is_said_the_rest_used_and_the_file_kept() {
    let dir = Dir::new();
    let mut bytes = three(&dir);
    let at = bytes.windows(4).position(|w| w == b"\"db\"").unwrap();
    bytes[at + 1] ^= 1;
    fs::write(dir.join("wanted"), &bytes).unwrap();
    let loaded = load(&dir);
    assert_eq!(words(&loaded), [pair("web", "stop")]);
    let said = loaded.notes.join("\n");
    assert!(said.contains("1 damaged lines from line 3 on"), "{said}");
    assert!(loaded.rewrite);
    rewrite(&dir).unwrap();
    let aside = dir.named("wanted.corrupt-");
    assert_eq!(aside.len(), 1);
    assert_eq!(fs::read(&aside[0]).unwrap(), bytes);
    let again = load(&dir);
    assert_eq!(words(&again), words(&loaded));
    assert!(again.notes.is_empty() && !again.rewrite);
}

#[test]
fn an_older_or_newer_state_is_understood_as_far_as_it_goes() {
    let dir = Dir::new();
    let path = dir.join("wanted");
    // Older: a record without the fields that came later, no header.
    let mut out = Vec::new();
    let old = serde_json::json!({"name": "web", "wanted": "stop"});
    vitald::journal::line::write(&mut out, "wanted", &old).unwrap();
    fs::write(&path, &out).unwrap();
    assert_eq!(words(&load(&dir)), [pair("web", "stop")]);
    // Newer: another format, another kind, another field.
    let mut out = Vec::new();
    for (kind, value) in [
        ("state", serde_json::json!({"format": 2})),
        ("dream", serde_json::json!([1])),
        (
            "wanted",
            serde_json::json!({"name": "db", "wanted": "stop", "mood": 1}),
        ),
    ] {
        vitald::journal::line::write(&mut out, kind, &value).unwrap();
    }
    fs::write(&path, &out).unwrap();
    let loaded = load(&dir);
    assert_eq!(words(&loaded), [pair("db", "stop")]);
    let said = loaded.notes.join("\n");
    assert!(said.contains("newer vitald"), "{said}");
    assert!(said.contains("1 records not understood"), "{said}");
    assert!(!loaded.rewrite, "what is not understood is not thrown away");
}

#[test]
fn a_file_of_mostly_history_is_written_anew() {
    let dir = Dir::new();
    let mut writer = Writer::new(&dir);
    for n in 0..200 {
        writer.append(&lines(&[wanted("web", "start", n)])).unwrap();
    }
    assert!(load(&dir).rewrite);
    rewrite(&dir).unwrap();
    writer.rewritten(true);
    writer.append(&lines(&[wanted("db", "stop", 1)])).unwrap();
    let loaded = load(&dir);
    assert!(!loaded.rewrite && loaded.notes.is_empty());
    assert_eq!(words(&loaded), [pair("db", "stop"), pair("web", "start")]);
    assert!(dir.named("wanted.").is_empty(), "nothing was set aside");
}
