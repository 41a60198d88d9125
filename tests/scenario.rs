//! Scenario transcripts: commands, `----`, what happened. `UPDATE=1` rewrites what happened; the
//! diff is for a person to read.

use std::path::Path;

#[test]
fn scenarios_happen_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenario");
    let update = std::env::var_os("UPDATE").is_some();
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("tests/scenario")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenarios");
    let mut failed = Vec::new();
    for path in files {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path).expect("scenario");
        let (script, expected) = text.split_once("----\n").unwrap_or((&text, ""));
        let happened = vitald::simulator::play(script).unwrap_or_else(|why| format!("{why}\n"));
        if happened == expected {
            continue;
        }
        if update {
            let script = script.trim_end();
            std::fs::write(&path, format!("{script}\n----\n{happened}")).expect("write");
            continue;
        }
        failed.push(format!("{name}:\n{}", differences(expected, &happened)));
    }
    assert!(
        failed.is_empty(),
        "UPDATE=1 rewrites; read the diff\n{}",
        failed.join("\n")
    );
}

/// The first lines that differ, each side.
fn differences(expected: &str, happened: &str) -> String {
    let mut lines = Vec::new();
    let (mut a, mut b) = (expected.lines(), happened.lines());
    loop {
        match (a.next(), b.next()) {
            (None, None) => break,
            (x, y) if x == y => {}
            (x, y) => {
                lines.push(format!("  expected {}", x.unwrap_or("(nothing)")));
                lines.push(format!("  happened {}", y.unwrap_or("(nothing)")));
            }
        }
        if lines.len() >= 12 {
            break;
        }
    }
    lines.join("\n")
}
