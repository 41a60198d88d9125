//! What simulations tell: transcripts (definitions and a scenario, `----`, the answer) that
//! `UPDATE=1` rewrites, refusals, the JSON document, and the picture; by the real binary.

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static DIRS: AtomicU32 = AtomicU32::new(0);

/// A configuration directory, gone with its owner.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        let number = DIRS.fetch_add(1, Ordering::Relaxed);
        let name = format!("vitald-simulate-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(dir.join("services")).expect("mkdir");
        Dir(dir)
    }

    fn define(&self, name: &str, text: &str) {
        let path = self.0.join(format!("services/{name}.toml"));
        fs::write(path, text).expect("write a definition");
    }

    fn run(&self, arguments: &[&str], stdin: &str) -> Output {
        let binary =
            std::env::var_os("VITALD_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_vitald").into());
        let mut child = Command::new(binary)
            .arg("simulate")
            .args(arguments)
            .current_dir(&self.0)
            .env("LC_ALL", "C.UTF-8")
            .env("VITALD_SOCKET", self.0.join("no.sock"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start vitald");
        let mut input = child.stdin.take().expect("its stdin");
        // It may refuse before it reads.
        let _ = input.write_all(stdin.as_bytes());
        drop(input);
        child.wait_with_output().expect("its end")
    }

    /// What a simulation of web says, that must succeed.
    fn web(&self, arguments: &[&str]) -> String {
        let mut all = vec!["web", "--config-dir", "."];
        all.extend(arguments);
        let output = self.run(&all, "");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The exit code and the words of a refusal.
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments, "");
        let code = output.status.code().expect("an exit code");
        assert!(output.stdout.is_empty() && code != 0, "{arguments:?}");
        (code, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const WEB: &str = "exec = ['web']\n[retry_policy]\njitter = 0\n[[probe]]\ntype = 'http'\n\
                   target = 'http://127.0.0.1:8080/'\n";

fn web() -> Dir {
    let dir = Dir::new();
    dir.define("web", WEB);
    dir
}

#[test]
fn simulations_tell_what_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulate");
    let update = std::env::var_os("UPDATE").is_some();
    let entries = fs::read_dir(&folder).expect("tests/simulate");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    assert!(files.len() >= 8, "only {} transcripts", files.len());
    let mut failed = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("transcript");
        let (script, expected) = text.split_once("----\n").unwrap_or((&text, ""));
        let told = told(script);
        if told == expected {
            continue;
        }
        if update {
            let script = script.trim_end();
            fs::write(&path, format!("{script}\n----\n{told}")).expect("write");
        } else {
            failed.push(format!("{}:\n{told}", path.display()));
        }
    }
    assert!(
        failed.is_empty(),
        "UPDATE=1 rewrites\n{}",
        failed.join("\n")
    );
}

/// `define NAME` … `end`, `$ arguments`, then the scenario.
fn told(script: &str) -> String {
    let dir = Dir::new();
    let mut lines = script.lines();
    let mut arguments = vec!["web", "-", "--config-dir", "."];
    let mut scenario = String::new();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("define ") {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "end").collect();
            dir.define(name, &text.join("\n"));
        } else if let Some(more) = line.strip_prefix("$ ") {
            arguments.extend(more.split_whitespace());
        } else {
            scenario.push_str(line);
            scenario.push('\n');
        }
    }
    if arguments.contains(&"--against") {
        arguments.remove(1);
        fs::write(dir.0.join("history.json"), &scenario).expect("write");
    }
    let output = dir.run(&arguments, &scenario);
    let bytes = [output.stdout, output.stderr].concat();
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn a_bad_scenario_is_told_its_line_and_what_to_write() {
    let dir = web();
    for (said, words) in [
        (
            "at 30s hung",
            "line 1: nothing can `hung`; did you mean `hang`?",
        ),
        (
            "for 1h\n\nat 3x hang",
            "line 3: `at` takes a time, not `3x`: write it as in `at 30s hang`",
        ),
        ("hang", "line 1: when? write `at 30s hang`"),
        (
            "hang 5s",
            "write `hang 5s after each start` or `at 5s hang`",
        ),
        ("at 1s exit 256", "`exit` takes an exit code from 0 to 255"),
        (
            "at 1s die SIGNOPE",
            "`die` takes a signal, as in `die SIGSEGV`, not `SIGNOPE`",
        ),
        ("at 1s hang soon", "`soon` is too much"),
        ("at 1s", "what shall happen?"),
        ("exit 1 every 0", "`every` takes 1ms or more"),
        (
            "stop 5s after each start",
            "a run does not `stop` by itself",
        ),
        ("for 400d", "`for` takes 1ms to 366 d 00 h"),
        ("at 2h hang; for 1h", "`at 2h hang` comes after the end"),
        ("at 1s daemon", "a `daemon` `dies` or `starts`"),
        ("at 1s bd: hang", "bd has no part in this; there are web"),
    ] {
        let (code, error) = dir.refused(&["web", "--config-dir", ".", "--say", said]);
        assert_eq!(code, 1, "{said}");
        assert!(error.contains(words), "{said}: {error}");
    }
}

#[test]
fn bad_arguments_are_refused_with_the_next_step() {
    let dir = web();
    dir.define("broken", "exec = 7\n");
    let say = ["--say", "at 1s hang"];
    for (arguments, code, words) in [
        (vec!["web", "--config-dir", "."], 2, "what shall happen?"),
        (vec!["--config-dir", "."], 2, "usage: simulate"),
        (
            vec!["wbe", "--config-dir", ".", say[0], say[1]],
            4,
            "did you mean `web`?",
        ),
        (
            vec!["broken", "--config-dir", ".", say[0], say[1]],
            1,
            "broken.toml:1:",
        ),
        (
            vec!["./web.txt", say[0], say[1]],
            1,
            "those end in .toml or .json",
        ),
        (
            vec!["services/no.toml", say[0], say[1]],
            1,
            "No such file or directory (2)",
        ),
        (
            vec![
                "web",
                "--config-dir",
                ".",
                say[0],
                say[1],
                "--set",
                "max_attempt=1",
            ],
            1,
            "did you mean `max_attempts`",
        ),
        (
            vec![
                "web",
                "--config-dir",
                ".",
                say[0],
                say[1],
                "--against",
                "history",
            ],
            2,
            "takes the place of a scenario",
        ),
        (
            vec!["web", "--config-dir", ".", "--against", "history"],
            3,
            "no daemon",
        ),
        (
            vec!["web", "--config-dir", ".", "--against", "services/web.toml"],
            1,
            "no history",
        ),
        (
            vec!["web", "--config-dir", ".", say[0], say[1], "--seed", "x"],
            2,
            "--seed takes a number",
        ),
        (
            vec!["web", "--config-dir", ".", "no.txt"],
            1,
            "cannot read no.txt",
        ),
        (
            vec![
                "web",
                "--config-dir",
                ".",
                say[0],
                say[1],
                "--plot",
                "no/where.svg",
            ],
            1,
            "cannot write no/where.svg",
        ),
    ] {
        let (exit, error) = dir.refused(&arguments);
        assert!(error.contains(words), "{arguments:?}: {error}");
        assert_eq!(exit, code, "{arguments:?}: {error}");
    }
}

#[test]
fn the_json_document_holds_the_same_and_adds_up() {
    let dir = web();
    let say = "hang 20m after each start; at 6h stop; at 7h start; at 20h hang for good";
    let arguments = ["--say", say, "--set", "max_attempts=4", "--json"];
    let text = dir.web(&arguments);
    assert_eq!(text.lines().count(), 1);
    let told: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(told["service"], "web");
    assert_eq!(told["length_ms"], 86_400_000);
    assert_eq!(told["set"][0], "max_attempts=4");
    assert_eq!(told["scenario"].as_array().map(Vec::len), Some(4));
    let summary = &told["summary"];
    let number = |value: &Value| value.as_u64().expect("a number");
    let down = number(&summary["down_ms"]);
    let parts = summary["down"].as_object().expect("parts");
    let sum: u64 = parts.values().map(number).sum();
    // Each part is cut to whole milliseconds.
    assert!(sum <= down && down - sum < 20, "{sum} {down}");
    let lanes: u64 = told["lanes"]["down"]
        .as_array()
        .expect("outages")
        .iter()
        .map(|stretch| number(&stretch["to_ms"]) - number(&stretch["from_ms"]))
        .sum();
    assert!(lanes.abs_diff(down) < 200, "{lanes} {down}");
    let up = number(&summary["up_ppm"]);
    assert!(up.abs_diff(1_000_000 - down * 1_000_000 / 86_400_000) <= 1);
    assert_eq!(parts["stopped_ms"].as_u64().map(|ms| ms / 60_000), Some(59));
    let restarts = &summary["restarts"];
    let causes = ["unhealthy", "exit", "start_timeout", "operator", "other"];
    let all: u64 = causes.iter().map(|cause| number(&restarts[*cause])).sum();
    assert_eq!(restarts["all"], all);
    assert_eq!(summary["gave_up"], 1);
    let gave_up = number(&summary["gave_up_ms"]);
    let denied = told["lanes"]["decisions"]
        .as_array()
        .expect("decisions")
        .iter()
        .find(|decision| decision["verdict"] == "denied");
    assert_eq!(
        denied.map(|decision| number(&decision["at_ms"])),
        Some(gave_up)
    );
    // Times never go back, and what is folded says how much.
    let moments = told["timeline"].as_array().expect("a timeline");
    let times: Vec<u64> = moments
        .iter()
        .map(|moment| number(&moment["at_ms"]))
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    let folded = moments.iter().filter(|moment| moment["event"].is_null());
    assert!(folded.clone().count() > 0);
    assert!(folded.clone().all(|moment| number(&moment["repeated"]) > 0));
    assert_eq!(dir.web(&arguments), text, "the same twice");
}

#[test]
fn all_folds_nothing_and_a_year_is_bounded() {
    let dir = web();
    let say = ["--say", "exit 1 every 1h"];
    let short = dir.web(&say);
    let long = dir.web(&[say[0], say[1], "--all"]);
    assert!(short.contains(" more like this") && !long.contains(" more like this"));
    assert!(long.lines().count() > short.lines().count() + 50);
    let set = [
        "--set",
        "probe.interval_ms=1000",
        "--set",
        "max_attempts=unlimited",
    ];
    let mut arguments = vec![
        "--say",
        "exit 1 every 1s; for 366d",
        "--set",
        "delay_ms=100",
    ];
    arguments.extend(set);
    arguments.extend(["--set", "backoff=fixed"]);
    let bounded = dir.web(&arguments);
    assert!(bounded.contains("cut short"), "{bounded}");
    assert!(bounded.lines().count() < 500);
}

#[test]
fn the_picture_is_well_formed_and_holds_every_lane() {
    let dir = web();
    let path = dir.0.join("web.svg");
    let plot = ["--plot", path.to_str().expect("UTF-8")];
    for say in [
        "at 30s hang; for 1h",
        "exit 1 every 5s; for 24h",
        "hang for good 5m after each start",
        "at 1ms hang; for 2ms",
        "at 20d hang; for 30d",
    ] {
        let arguments = [plot[0], plot[1], "--say", say, "--set", "max_attempts=3"];
        dir.web(&arguments);
        let svg = fs::read_to_string(&path).expect("a picture");
        well_formed(&svg);
        for word in ["NaN", "inf", "-0.", "=\"\""] {
            assert!(!svg.contains(word), "{say}: {word}");
        }
        for lane in ["users", "state", "restarts", "attempts", "of 3"] {
            assert!(svg.contains(&format!(">{lane}</text>")), "{say}: {lane}");
        }
        assert!(svg.len() < 300_000, "{say}: {}", svg.len());
    }
    // What a definition may hold does not break out.
    let hostile = [
        "--set",
        "probe.interval_ms=2000",
        "--say",
        "at 1s hang # <&\">",
    ];
    dir.web(&[
        plot[0], plot[1], hostile[0], hostile[1], hostile[2], hostile[3],
    ]);
    well_formed(&fs::read_to_string(&path).expect("a picture"));
}

/// Every tag is closed by its own, every attribute quoted, every `&` an entity.
fn well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg;
    while let Some((text, tagged)) = rest.split_once('<') {
        for entity in text.split('&').skip(1) {
            let known = ["amp;", "lt;", "gt;", "quot;"];
            assert!(
                known.iter().any(|known| entity.starts_with(known)),
                "{text}"
            );
        }
        let (tag, after) = tagged.split_once('>').expect("a tag's end");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty() && svg.starts_with("<svg ") && rest == "\n");
}
