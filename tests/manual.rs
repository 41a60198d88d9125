//! The committed documents equal what the code generates; the committed examples are valid.
//! `UPDATE=1 cargo test --test manual` rewrites the documents; the diff is reviewed.

use std::path::{Path, PathBuf};
use vitald::config::{load, set, settings};
use vitald::manual;

fn contrib(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib")
        .join(path)
}

fn same(path: &str, generated: &str) {
    let file = contrib(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        std::fs::write(&file, generated).expect("written");
        return;
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == generated,
        "contrib/{path} is not what the code says: UPDATE=1 cargo test --test manual"
    );
}

#[test]
fn documents_equal_their_source() {
    same("schema/service.schema.json", &manual::service_schema());
    same("schema/vitald.schema.json", &manual::settings_schema());
    same("reference.md", &manual::reference());
    same("states.md", &manual::states());
    same("man/vitald.toml.5", &manual::man_vitald_toml());
}

/// As far as mandoc is there to say so.
#[test]
fn man_pages_are_well_formed() {
    for page in ["man/vitald.1", "man/vitald.toml.5"] {
        let path = contrib(page);
        let lint = std::process::Command::new("mandoc")
            .args(["-Tlint", "-Wwarning"])
            .arg(&path)
            .output();
        match lint {
            Ok(lint) => {
                let said = String::from_utf8_lossy(&lint.stdout).into_owned();
                assert!(lint.status.success() && said.is_empty(), "{said}");
            }
            Err(_) if std::env::var_os("VITALD_TEST_REQUIRE").is_none() => {
                eprintln!("passed over: no mandoc");
            }
            Err(error) => panic!("no mandoc: {error}"),
        }
        let text = std::fs::read_to_string(&path).expect("the page");
        let long = text
            .lines()
            .filter(|line| !line.starts_with('.'))
            .find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{page}");
    }
}

#[test]
fn every_key_is_in_every_document() {
    use vitald::config::keys;
    let (reference, man) = (manual::reference(), manual::man_vitald_toml());
    let schema = manual::service_schema() + &manual::settings_schema();
    for table in [
        keys::service::ALL,
        keys::retry_policy::ALL,
        keys::probe::ALL,
        keys::daemon::ALL,
    ] {
        for key in table {
            assert!(
                reference.contains(&format!("\n| `{}` | ", key.name)),
                "{}",
                key.name
            );
            assert!(
                man.contains(&format!("\n.BR {} ", key.name)),
                "{}",
                key.name
            );
            assert!(
                schema.contains(&format!("\"{}\": {{", key.name)),
                "{}",
                key.name
            );
        }
    }
}

#[test]
fn the_examples_are_valid_together() {
    assert!(valid_together("examples") >= 5);
    assert_eq!(valid_together("container/services"), 1);
}

/// How many there are.
fn valid_together(dir: &str) -> usize {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(contrib(dir)).expect("examples") {
        let path = entry.expect("an entry").path();
        let file = path
            .file_name()
            .and_then(|n| n.to_str())
            .expect("a name")
            .to_owned();
        let bytes = std::fs::read(&path).expect("readable");
        if file == "vitald.toml" {
            assert_eq!(settings::read(&file, &bytes).1, [], "{file}");
            continue;
        }
        let name = path.file_stem().and_then(|n| n.to_str()).expect("a stem");
        let mut outcome = load::read(name, &file, &bytes);
        if !cfg!(feature = "tls") {
            // An https probe is an error there, and nothing else is.
            outcome
                .problems
                .retain(|p| !p.message.contains("without TLS"));
        }
        assert_eq!(outcome.problems, [], "{file}");
        files.push(set::File {
            name: name.into(),
            file: file.into(),
            outcome,
        });
    }
    let count = files.len();
    assert_eq!(set::join(files).problems, []);
    count
}
