//! The house rules that a compiler does not know: floors, sizes, headers, banned words.
//!
//! A rule is a function from a file's text to complaints, so that each is shown to catch what it
//! is for (the tests at the end). Words are looked for in code only, not in comments or strings;
//! what is meant to be finished is looked for everywhere.

#[path = "tidy/lexer.rs"]
mod lexer;

use lexer::{Token, reads, tokens};
use std::fs;
use std::path::{Path, PathBuf};

/// Top modules by floor; index 0 is floor 0. The map in `src/lib.rs` is checked against this.
const FLOORS: [&[&str]; 5] = [
    &["time", "id", "exit", "prng", "limits"],
    &["service", "probe", "wheel", "graph", "calendar", "config"],
    &["engine", "control"],
    &["reactor", "simulator", "journal"],
    &["main", "cli", "daemon", "manual"],
];

/// Neighbours on one floor who may be imported: who, whom, why.
const PEERS: [(&str, &str, &str); 10] = [
    ("service", "config", "policies are what a definition says"),
    ("service", "probe", "health is made of outcomes"),
    ("config", "calendar", "a schedule is read there"),
    ("probe", "config", "a dialogue asks what a definition says"),
    ("control", "engine", "queries and commands are the engine's"),
    (
        "reactor",
        "journal",
        "effects are recorded where they are performed",
    ),
    (
        "simulator",
        "journal",
        "a restart of the daemon reads what was recorded",
    ),
    ("main", "cli", "argv goes there"),
    ("cli", "daemon", "the verb that runs the daemon"),
    ("cli", "manual", "the verb that prints it"),
];

/// Not on floors 0 to 2: the world, clocks, threads, and what iterates in another order each time.
const WORLDLY: [&[&str]; 27] = [
    &["HashMap"],
    &["HashSet"],
    &["RandomState"],
    &["Rc", "<", "RefCell"],
    &["static", "mut"],
    &["SystemTime"],
    &["Instant"],
    &["nix", "::"],
    &["libc", "::"],
    &["mio", "::"],
    &["std", "::", "thread"],
    &["std", "::", "fs"],
    &["TcpStream"],
    &["TcpListener"],
    &["UdpSocket"],
    &["ToSocketAddrs"],
    &["std", "::", "os"],
    &["std", "::", "env"],
    &["std", "::", "process"],
    &["std", "::", "sync"],
    &["thread_local", "!"],
    &["print", "!"],
    &["println", "!"],
    &["eprint", "!"],
    &["eprintln", "!"],
    &["unsafe", "{"],
    &["unsafe", "fn"],
];

const LONGEST_FILE: usize = 700;

/// In no file of ours, comments and strings included: work that was put off, tests that are not
/// run, and where somebody's checkout happened to be. In two halves, not to be found here.
const UNFINISHED: [(&str, &str); 10] = [
    ("TO", "DO"),
    ("FIX", "ME"),
    ("XX", "X:"),
    ("todo", "!("),
    ("unimplemented", "!("),
    ("#[ign", "ore"),
    ("allow(dead", "_code"),
    ("/wo", "rk/"),
    ("/tmp", "/wt"),
    ("/root", "/."),
];

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The top module of `src/engine/event.rs` is `engine`, of `src/wheel.rs` `wheel`; and how many
/// modules deep the file is.
fn module_of(path: &str) -> Option<(&str, usize)> {
    let inside = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    let top = inside.split('/').next()?;
    (top != "lib").then(|| (top, inside.split('/').count()))
}

fn is_test_file(path: &str) -> bool {
    !path.starts_with("src/") || path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The top modules that a file's code names, each with its line: `crate::x`, `crate::{x, y::z}`,
/// `vitald::x` (how `main.rs` sees the library), and `super::x` where that leads to the top.
fn imports(tokens: &[Token], file_depth: usize) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if tokens[at].test || (at > 0 && tokens[at - 1].text == "::") {
            continue;
        }
        let mut after = at;
        let mut up = 0;
        while reads(tokens, after, &["super", "::"]) {
            (up, after) = (up + 1, after + 2);
        }
        if up > 0 && up < file_depth + tokens[at].depth {
            continue;
        }
        if up == 0 {
            if !reads(tokens, at, &["crate", "::"]) && !reads(tokens, at, &["vitald", "::"]) {
                continue;
            }
            after = at + 2;
        }
        for name in first_words(tokens, after) {
            found.push((name.text.clone(), name.line));
        }
    }
    found
}

/// What stands first in a path: one word, or the first words of each branch of a group.
fn first_words(tokens: &[Token], at: usize) -> Vec<&Token> {
    if !reads(tokens, at, &["{"]) {
        return tokens.get(at).into_iter().collect();
    }
    let mut words = Vec::new();
    let mut open = 0;
    for (n, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "{" => open += 1,
            "}" => open -= 1,
            _ if open == 1 && matches!(tokens[n - 1].text.as_str(), "{" | ",") => words.push(token),
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    words
}

fn check_floors(path: &str, source: &str) -> Vec<String> {
    let Some((module, depth)) = module_of(path) else {
        return Vec::new();
    };
    let Some(floor) = floor_of(module) else {
        return vec![format!(
            "{path}: module {module} has no floor; give it one in tests/tidy.rs"
        )];
    };
    if is_test_file(path) {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (other, line) in imports(&tokens(source), depth) {
        // The crate's own main function is no module.
        if other == module {
            continue;
        }
        let allowed = match floor_of(&other) {
            None => Err(format!(
                "imports {other} from the crate's root; name its module"
            )),
            Some(below) if below < floor => Ok(()),
            Some(same) if same == floor => PEERS
                .iter()
                .any(|(who, whom, _)| (*who, *whom) == (module, &other))
                .then_some(())
                .ok_or(format!("imports its neighbour {other} (floor {floor})")),
            Some(above) => Err(format!(
                "on floor {floor} imports {other} from floor {above}"
            )),
        };
        if let Err(why) = allowed {
            complaints.push(format!("{path}:{line}: {module} {why}"));
        }
    }
    complaints
}

fn check_worldly(path: &str, source: &str) -> Vec<String> {
    let floor = module_of(path).and_then(|(module, _)| floor_of(module));
    if is_test_file(path) || floor.is_none_or(|floor| floor > 2) {
        return Vec::new();
    }
    let tokens = tokens(source);
    let mut complaints = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(_, t)| !t.test) {
        for banned in WORLDLY.iter().filter(|banned| reads(&tokens, at, banned)) {
            let (line, word) = (token.line, banned.concat());
            complaints.push(format!(
                "{path}:{line}: {word} has no place on floors 0 to 2"
            ));
        }
    }
    complaints.extend(grouped_std(path, &tokens));
    complaints
}

/// `use std::{fs, thread}` says the same as `use std::fs`.
fn grouped_std(path: &str, tokens: &[Token]) -> Vec<String> {
    let mut complaints = Vec::new();
    for at in (0..tokens.len()).filter(|at| reads(tokens, *at, &["std", "::", "{"])) {
        for word in first_words(tokens, at + 2) {
            let banned = |b: &&[&str]| b.len() == 3 && b[0] == "std" && b[2] == word.text;
            if !word.test && WORLDLY.iter().any(banned) {
                let (line, name) = (word.line, &word.text);
                complaints.push(format!(
                    "{path}:{line}: std::{name} has no place on floors 0 to 2"
                ));
            }
        }
    }
    complaints
}

fn check_shape(path: &str, source: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = source.lines().count();
    if lines > LONGEST_FILE {
        complaints.push(format!(
            "{path}: {lines} lines; split it (at most {LONGEST_FILE})"
        ));
    }
    if !source.starts_with("//!") {
        complaints.push(format!(
            "{path}:1: begins without a //! that says what it is"
        ));
    }
    complaints
}

fn check_unfinished(path: &str, source: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in source.lines().enumerate() {
        for (head, tail) in UNFINISHED {
            let word = format!("{head}{tail}");
            if line.contains(&word) {
                complaints.push(format!("{path}:{}: {word} does not go in", number + 1));
            }
        }
    }
    complaints
}

/// All files below `dir`, in order, as paths from the package's root.
fn files(root: &Path, dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.join(dir)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("read a directory of the package");
            open.extend(entries.map(|entry| entry.expect("read a directory entry").path()));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut complaints = Vec::new();
    let mut rust = 0;
    for dir in ["src", "tests", "contrib", ".ci", "README.md", "Cargo.toml"] {
        for file in files(root, dir) {
            let path = file.strip_prefix(root).expect("a path below the root");
            let path = path.to_str().expect("a path in UTF-8");
            // A corpus or an image is no text of ours.
            let Ok(source) = fs::read_to_string(&file) else {
                continue;
            };
            complaints.extend(check_unfinished(path, &source));
            if path.ends_with(".rs") {
                rust += 1;
                complaints.extend(check_shape(path, &source));
                complaints.extend(check_floors(path, &source));
                complaints.extend(check_worldly(path, &source));
            }
        }
    }
    assert!(rust > 20, "only {rust} Rust files were found");
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The black-box cases that each have a test or a scenario which names them.
const CONFORMANCE: [&str; 39] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17",
    "18", "19", "20", "21", "22", "23", "23a", "23b", "23c", "24", "25", "26", "27", "28", "29",
    "30", "31", "32", "33", "34", "35", "36",
];

/// The cases that a text names: `conformance 2, 6 and 23a`, `conformance_7_a_timeout`.
fn cases_named(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    let mut found = Vec::new();
    for (_, after) in text
        .match_indices("conformance")
        .map(|(at, word)| text.split_at(at + word.len()))
    {
        let list = after.split(|c: char| !c.is_ascii_alphanumeric() && !", _\n/!#".contains(c));
        let words = list.take(1).flat_map(|list| {
            list.split(|c: char| !c.is_ascii_alphanumeric())
                .filter(|word| !word.is_empty())
        });
        let is_case = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let cases = words.take_while(|word| is_case(word) || *word == "and");
        found.extend(cases.filter(is_case).map(str::to_owned));
    }
    found
}

#[test]
fn every_conformance_case_is_named_by_a_test_or_a_scenario() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named: Vec<String> = files(root, "tests")
        .iter()
        .filter(|file| !file.ends_with("tests/tidy.rs"))
        .filter_map(|file| fs::read_to_string(file).ok())
        .flat_map(|text| cases_named(&text))
        .collect();
    let missing: Vec<&str> = CONFORMANCE
        .into_iter()
        .filter(|case| !named.iter().any(|named| named == case))
        .collect();
    assert_eq!(missing, [""; 0], "named by nothing under tests/");
    let unknown = named
        .iter()
        .find(|named| !CONFORMANCE.contains(&named.as_str()));
    assert_eq!(unknown, None, "there is no such case");
}

#[test]
fn a_case_is_named_by_its_number_only() {
    for (text, cases) in [
        ("/// Conformance 1, 2, 6.\n/// 7", "1 2 6"),
        ("//! Conformance 34\n//! and 35.", "34 35"),
        ("fn conformance_2_and_6_a_mute_server() {}", "2 6"),
        ("# conformance 23b: 3 in a row", "23b"),
        ("conformance; 9 others", ""),
        (
            "Issue, conformance 30: 1,000 services (conformance 28)",
            "30 28",
        ),
    ] {
        assert_eq!(cases_named(text).join(" "), cases, "{text}");
    }
}

#[test]
fn the_map_in_lib_rs_shows_these_floors() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .expect("read src/lib.rs");
    for (floor, modules) in FLOORS.iter().enumerate() {
        let row = lib
            .lines()
            .find_map(|line| line.strip_prefix(&format!("//!  {floor}  ")))
            .unwrap_or_else(|| panic!("src/lib.rs shows no floor {floor}"));
        let shown: Vec<&str> = row.split_whitespace().skip(1).take(modules.len()).collect();
        assert_eq!(&shown, modules);
    }
}

#[test]
fn an_import_from_a_floor_above_is_caught_however_it_is_written() {
    for source in [
        "use crate::engine::Engine;",
        "use crate::{time::Time, engine::{Engine, event::Event}};",
        "pub(crate) use crate::{\n    time::{self, Time},\n    engine,\n};",
        "fn f() { let x: crate::engine::Engine; }",
        "use super::engine::Engine;",
        "mod inner { use super::super::engine::Engine; }",
        "/* a /* nested */ comment */ use crate::engine::Engine; // why",
        "const C: char = '\"'; use crate::engine::E; const D: char = '\"';",
        "#[cfg(test)] mod tests; use crate::engine::Engine;",
        "#[cfg(test)] mod tests { fn f() {} } use crate::engine::Engine;",
        "impl<'a> X<'a> { fn f() { crate::engine::f() } }",
    ] {
        assert_eq!(check_floors("src/wheel.rs", source).len(), 1, "{source}");
    }
}

#[test]
fn a_complaint_names_file_line_and_both_floors() {
    assert_eq!(
        check_floors("src/wheel.rs", "//! A.\n\nuse crate::engine::Engine;\n"),
        ["src/wheel.rs:3: wheel on floor 1 imports engine from floor 2"]
    );
}

#[test]
fn what_is_no_import_from_above_is_left_alone() {
    for source in [
        "use crate::{id::ServiceId, time::{Time, Wall}};",
        "// use crate::engine::Engine;",
        "/// See [`crate::engine::Engine`].",
        "const S: &str = \"use crate::engine::Engine;\";",
        "const S: &str = r#\"\"use crate::engine::Engine;\"#;",
        "#[cfg(test)] mod tests { use crate::engine::Engine; }",
        "#[cfg(test)] #[path = \"t.rs\"] mod tests { use crate::engine::Engine; }",
        "mod inner { use super::engine; }",
        "use std::collections::BTreeMap; use other::crate_engine;",
    ] {
        assert_eq!(check_floors("src/wheel.rs", source), [""; 0], "{source}");
    }
    assert_eq!(
        check_floors("src/graph/tests.rs", "use crate::engine::Engine;"),
        [""; 0]
    );
    assert_eq!(
        check_floors("src/engine/event.rs", "use super::effect::Effect;"),
        [""; 0]
    );
    assert_eq!(
        check_floors("src/main.rs", "fn main() { vitald::cli::main() }"),
        [""; 0]
    );
}

#[test]
fn neighbours_keep_apart_unless_the_list_says_why() {
    assert_eq!(
        check_floors("src/service/gate.rs", "use crate::config::Probe;"),
        [""; 0]
    );
    assert_eq!(
        check_floors("src/config/load.rs", "use crate::service::X;").len(),
        1
    );
    assert_eq!(
        check_floors("src/reactor/dial.rs", "use crate::simulator::X;").len(),
        1
    );
    assert_eq!(
        check_floors("src/engine/mod.rs", "use super::control::X;").len(),
        1
    );
    assert_eq!(
        check_floors("src/engine/event.rs", "use super::super::control::X;").len(),
        1
    );
    assert_eq!(check_floors("src/attic.rs", "").len(), 1);
}

#[test]
fn the_world_is_kept_from_floors_0_to_2() {
    for source in [
        "use std::collections::HashMap;",
        "type T = Rc<RefCell<u8>>;",
        "fn f() { std::thread::spawn(g); }",
        "static mut X: u8 = 0;",
        "fn f() { std::time::Instant::now(); }",
        "fn f(p: nix::unistd::Pid) {}",
        "use std::{fmt, fs};",
        "use std::net::{IpAddr, TcpStream};",
        "fn f() { println!(\"x\"); }",
        "fn f() { unsafe { g() } }",
    ] {
        assert_eq!(
            check_worldly("src/engine/mod.rs", source).len(),
            1,
            "{source}"
        );
        assert_eq!(
            check_worldly("src/reactor/mod.rs", source),
            [""; 0],
            "{source}"
        );
        let test = format!("#[cfg(test)]\nmod tests {{ {source} }}");
        assert_eq!(
            check_worldly("src/engine/mod.rs", &test),
            [""; 0],
            "{source}"
        );
    }
    let harmless = "use std::rc::Rc; // HashMap\nuse std::{fmt, net::IpAddr};";
    assert_eq!(check_worldly("src/engine/mod.rs", harmless), [""; 0]);
}

#[test]
fn long_files_and_bare_ones_are_caught() {
    let long = format!("//! A.\n{}", "\n".repeat(LONGEST_FILE));
    assert_eq!(check_shape("src/x.rs", &long).len(), 1);
    assert_eq!(check_shape("src/x.rs", "use std::fmt;\n").len(), 1);
    assert_eq!(check_shape("src/x.rs", "//! A.\n"), [""; 0]);
}

#[test]
fn what_was_put_off_is_caught_in_comments_too() {
    for (head, tail) in UNFINISHED {
        let line = format!("x(); // {head}{tail} later");
        assert_eq!(check_unfinished("contrib/x.sh", &line).len(), 1, "{line}");
    }
}
