//! Arguments, places, exit codes; and the generated files, which must be as they are generated.

use super::arguments::{CheckWhat, Command, Globals, read};
use super::dirs::{self, Given};
use super::exits::{EXITS, Exit};
use super::local::{GLOBAL, LOCALS};
use super::{completions, help, man, remote, terminal};
use crate::control::openrpc;
use crate::control::verbs::{Shape, VERBS};
use crate::journal::replay::Until;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

fn arguments(line: &str) -> Result<(Globals, Command), String> {
    let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    read(&words)
}

fn asked(line: &str) -> String {
    match arguments(line) {
        Ok((_, Command::Ask(values))) => format!("{} {}", values.verb().method, values.to_json()),
        Ok(_) => "local".to_owned(),
        Err(complaint) => complaint,
    }
}

#[test]
fn options_of_all_verbs_stand_before_or_after_the_verb() {
    for line in [
        "--socket /s --json --timeout 5s logs web -n 3",
        "logs --json web --socket=/s -n 3 --timeout 5s",
    ] {
        let Ok((globals, Command::Ask(values))) = arguments(line) else {
            panic!("{line}");
        };
        let meant = Globals {
            socket: Some("/s".into()),
            json: true,
            timeout: Some(Duration::from_secs(5)),
        };
        assert_eq!(globals, meant, "{line}");
        assert_eq!(values.to_json(), r#"{"name":["web"],"lines":3}"#);
    }
    assert_eq!(asked("probe run web"), r#"probe.run {"name":"web"}"#);
    assert_eq!(asked("status"), "service.status {}");
}

#[test]
fn wrong_arguments_are_told_the_right_ones() {
    assert_eq!(
        asked("statsu"),
        "unknown verb `statsu`; did you mean `status`?"
    );
    assert_eq!(asked("chek"), "unknown verb `chek`; did you mean `check`?");
    assert_eq!(
        asked("probe web"),
        "unknown verb `probe`; did you mean `probe run`?"
    );
    assert_eq!(
        asked("probe"),
        "unknown verb `probe`; did you mean `probe run`?"
    );
    assert_eq!(
        asked("stop"),
        "stop needs `name`: the service; usage: stop NAME [--until-boot] [--wait]"
    );
    assert!(asked("--frob status").contains("--frob"));
    assert!(asked("run --frob").contains("usage: run [--config-dir DIR]"));
    assert!(asked("run --frob").contains("unknown option `--frob`"));
    assert!(asked("run web").contains("run: unexpected `web`; usage: run"));
    assert!(asked("status --timeout soon").contains("duration"));
    assert!(asked("completions").contains("bash|zsh|fish"));
}

#[test]
fn local_verbs_take_their_own_options() {
    let Ok((_, Command::Run(given))) =
        arguments("run --config-dir /c --state-dir=/s --runtime-dir /r --record /d --main web")
    else {
        panic!("not run");
    };
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(
        given,
        Given {
            config_dir: path("/c"),
            state_dir: path("/s"),
            runtime_dir: path("/r"),
            record: path("/d"),
            main: Some("web".into()),
        }
    );
    let Ok((globals, Command::Check(what))) = arguments("check --json a.toml --config-dir /c b")
    else {
        panic!("not check");
    };
    assert!(globals.json);
    let files = vec!["a.toml".into(), "b".into()];
    let config_dir = path("/c");
    assert_eq!(
        what,
        CheckWhat {
            files,
            config_dir,
            graph: false
        }
    );
    let Ok((_, Command::Replay(what))) = arguments("replay a.1 --why web b --at 14:02:10") else {
        panic!("not replay");
    };
    assert_eq!(what.files, [PathBuf::from("a.1"), "b".into()]);
    let at = 1000 * (14 * 3600 + 2 * 60 + 10);
    assert_eq!(
        (what.why.as_deref(), what.until),
        (Some("web"), Until::Day(at))
    );
    for (line, until) in [
        ("replay a --until 7", Until::Event(7)),
        (
            "replay a --at 1970-01-02T00:00:00.5Z",
            Until::Wall(86_400_500),
        ),
        ("replay a --at 00:02", Until::Day(120_000)),
        ("replay a --at 00:01:00.25", Until::Day(60_250)),
    ] {
        match arguments(line) {
            Ok((_, Command::Replay(what))) => assert_eq!(what.until, until, "{line}"),
            _ => panic!("{line}"),
        }
    }
    assert!(asked("replay").contains("usage: replay FILE..."));
    assert!(asked("replay a --at noon").contains("like 14:02:10"));
    assert!(asked("replay a --until x").contains("number of an event"));
    for (line, about) in [("help logs", "logs"), ("logs --help", "logs"), ("-h", "")] {
        let Ok((_, Command::Help(words))) = arguments(line) else {
            panic!("{line}");
        };
        assert_eq!(words.join(" "), about);
    }
    assert!(matches!(arguments("--version"), Ok((_, Command::Version))));
    assert!(matches!(arguments(""), Ok((_, Command::Nothing))));
}

#[test]
fn directories_are_root_s_or_those_of_xdg() {
    let nothing = |_: &str| None;
    let root = dirs::options(Given::default(), true, &nothing).unwrap();
    let all = [&root.config_dir, &root.state_dir, &root.runtime_dir];
    let system = ["/etc/vitald", "/var/lib/vitald", "/run/vitald"];
    assert_eq!(all.map(|path| path.to_str().unwrap()), system);
    let home = |name: &str| match name {
        "HOME" => Some("/home/u".into()),
        "XDG_RUNTIME_DIR" => Some("/run/user/7".into()),
        "XDG_CONFIG_HOME" => Some("relative".into()),
        _ => None,
    };
    let user = dirs::options(Given::default(), false, &home).unwrap();
    let all = [&user.config_dir, &user.state_dir, &user.runtime_dir];
    let own = [
        "/home/u/.config/vitald",
        "/home/u/.local/state/vitald",
        "/run/user/7/vitald",
    ];
    assert_eq!(all.map(|path| path.to_str().unwrap()), own);
    let complaint = dirs::options(Given::default(), false, &nothing).unwrap_err();
    assert!(complaint.contains("--runtime-dir"), "{complaint}");
}

#[test]
fn the_socket_is_the_named_one_else_one_s_own_else_the_host_s() {
    let env = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| "/run/user/7".into());
    let own = Path::new("/run/user/7/vitald/control.sock");
    let host = Path::new("/run/vitald/control.sock");
    let socket =
        |root, there: &[&Path]| dirs::socket(None, root, &env, |path| there.contains(&path));
    assert_eq!(socket(true, &[own]), host);
    assert_eq!(socket(false, &[own, host]), own);
    assert_eq!(socket(false, &[host]), host);
    assert_eq!(socket(false, &[]), own);
    let named = |name: &str| (name == "VITALD_SOCKET").then(|| "/s".into());
    assert_eq!(dirs::socket(None, true, &named, |_| true), Path::new("/s"));
    let given = dirs::socket(Some(Path::new("/g")), true, &named, |_| true);
    assert_eq!(given, Path::new("/g"));
}

#[test]
fn colours_and_letters_follow_the_terminal_and_the_environment() {
    let utf8 = |name: &str| (name == "LANG").then(|| "en_GB.UTF-8".into());
    let style = |terminal, env| terminal::style_of(terminal, env);
    assert!(style(true, &utf8).colour && !style(true, &utf8).ascii);
    assert!(!style(false, &utf8).colour, "not into a pipe");
    let posix = |name: &str| match name {
        "LANG" => Some("en_GB.UTF-8".into()),
        "LC_ALL" => Some("C".into()),
        "NO_COLOR" => Some("1".into()),
        _ => None,
    };
    assert!(!style(true, &posix).colour && style(true, &posix).ascii);
    let dumb = |name: &str| (name == "TERM").then(|| "dumb".into());
    assert!(!style(true, &dumb).colour && style(true, &dumb).ascii);
}

#[test]
fn exit_codes_tell_the_state() {
    let Ok((_, Command::Ask(one))) = arguments("status web") else {
        panic!("not asked");
    };
    for (answer, exit) in [
        (r#"{"state":"running"}"#, Exit::Ok),
        (r#"{"state":"running","health":"healthy"}"#, Exit::Ok),
        (
            r#"{"state":"running","health":"unhealthy"}"#,
            Exit::Degraded,
        ),
        (r#"{"state":"backoff"}"#, Exit::NotRunning),
        (r#"{"state":"failed"}"#, Exit::NotRunning),
        (r#"{"state":"exited","kind":"oneshot"}"#, Exit::Ok),
        (r#"{"state":"exited","kind":"process"}"#, Exit::NotRunning),
    ] {
        assert_eq!(remote::verdict(&one, answer), exit, "{answer}");
    }
    let Ok((_, Command::Ask(probe))) = arguments("probe run web") else {
        panic!("not asked");
    };
    let answer = |outcome: &str| format!(r#"{{"probes":[{{"outcome":"{outcome}"}}]}}"#);
    assert_eq!(remote::verdict(&probe, &answer("pass")), Exit::Ok);
    assert_eq!(remote::verdict(&probe, &answer("fail")), Exit::Failed);
    assert_eq!(
        remote::verdict(&probe, &answer("inconclusive")),
        Exit::Failed
    );
    let codes: Vec<u8> = EXITS.iter().map(|(exit, _)| exit.code()).collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn help_and_manual_hold_every_verb_option_and_exit_code() {
    let all = help::about(&[]).unwrap();
    let page = man::page().replace("\\-", "-").replace('\n', " ");
    let shells = ["bash", "zsh", "fish"].map(|shell| completions::of(shell).unwrap());
    let words = LOCALS.iter().map(|local| local.words);
    for verb in words.chain(VERBS.iter().map(|verb| verb.words)) {
        assert!(all.contains(verb) && page.contains(verb), "{verb}");
        let first = verb.split(' ').next().unwrap();
        assert!(shells.iter().all(|shell| shell.contains(first)), "{verb}");
        let one: Vec<String> = verb.split(' ').map(str::to_owned).collect();
        assert!(help::about(&one).unwrap().contains(verb));
    }
    for opt in GLOBAL {
        assert!(all.contains(opt.long) && page.contains(opt.long));
        assert!(shells.iter().all(|shell| shell.contains(opt.long)));
    }
    for (_, meaning) in EXITS {
        assert!(page.contains(&meaning.replace('`', "\\(ga")), "{meaning}");
    }
    assert!(all.lines().all(|line| line.chars().count() <= 80), "{all}");
}

/// The files in `contrib` are what this program writes; `UPDATE=1 cargo test` rewrites them.
#[test]
fn the_committed_files_are_the_generated_ones() {
    let mut document = Vec::new();
    let results = openrpc::results();
    openrpc::put_with_results(&results, &mut document);
    document.push(b'\n');
    for (path, text) in [
        ("contrib/man/vitald.1", man::page().into_bytes()),
        ("src/control/openrpc/results.json", results.into_bytes()),
        ("contrib/openrpc.json", document),
        (
            "contrib/completions/vitald.bash",
            completions::of("bash").unwrap().into_bytes(),
        ),
        (
            "contrib/completions/_vitald",
            completions::of("zsh").unwrap().into_bytes(),
        ),
        (
            "contrib/completions/vitald.fish",
            completions::of("fish").unwrap().into_bytes(),
        ),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let shown = path.display();
        let committed = std::fs::read(&path).unwrap_or_default();
        assert!(
            committed == text,
            "{shown} is stale; run the tests with UPDATE=1"
        );
    }
}

/// What bash offers for a line whose last word is being typed. None where there is no bash.
fn offered(line: &[&str]) -> Option<String> {
    let script = format!(
        "{}\nvitald() {{ printf ' NAME\\n* web running\\n'; }}\n\
         COMP_WORDS=({})\nCOMP_CWORD={}\n_vitald\necho \"${{COMPREPLY[@]}}\"",
        completions::of("bash").unwrap(),
        line.iter()
            .map(|word| format!("'{word}' "))
            .collect::<String>(),
        line.len() - 1
    );
    let mut bash = Process::new("bash")
        .args(["--norc", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    bash.stdin.take()?.write_all(script.as_bytes()).ok()?;
    let output = bash.wait_with_output().ok()?;
    assert!(output.status.success());
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn bash_completes_verbs_options_and_names() {
    let Some(verbs) = offered(&["vitald", "st"]) else {
        return;
    };
    assert_eq!(verbs, "status start stop");
    assert_eq!(
        offered(&["vitald", "--socket", "/s", "restart", "w"]).unwrap(),
        "web"
    );
    assert_eq!(offered(&["vitald", "stop", "--w"]).unwrap(), "--wait");
    assert_eq!(offered(&["vitald", "completions", "f"]).unwrap(), "fish");
    assert_eq!(offered(&["vitald", "probe", "r"]).unwrap(), "run");
    let signals = "HUP INT QUIT USR1 USR2 TERM KILL STOP CONT";
    let kinds = "state health wanted probe definition host dossier storm decision hold reload";
    for (line, meant) in [
        (&["vitald", "probe", "run", ""] as &[&str], "web"),
        (&["vitald", "probe", "run", "web", ""], ""),
        (&["vitald", "stop", "web", ""], ""),
        (&["vitald", "stop", "--wait", ""], "web"),
        (&["vitald", "signal", "web", ""], signals),
        (&["vitald", "events", "web", "w"], "web"),
        (&["vitald", "events", "-k", ""], kinds),
        (&["vitald", "logs", "-n", ""], ""),
        (&["vitald", "help", "rest"], "restart"),
        (&["vitald", "check", "/et"], "/etc"),
        (&["vitald", "run", "--config-dir", "/et"], "/etc"),
        (
            &["vitald", "run", "--config-dir", "/c", "--st"],
            "--state-dir",
        ),
        (&["vitald", "ping", ""], ""),
    ] {
        assert_eq!(offered(line).unwrap(), meant, "{line:?}");
    }
}

#[test]
fn what_streams_or_waits_is_waited_for_without_end() {
    assert!(VERBS.iter().any(|verb| verb.shape == Shape::Events));
    for (line, endless) in [
        ("events", true),
        ("logs web -f", true),
        ("logs web", false),
        ("stop web --wait", true),
        ("stop web", false),
        ("probe run web", true),
    ] {
        let Ok((_, Command::Ask(values))) = arguments(line) else {
            panic!("{line}");
        };
        assert_eq!(remote::patience(&values).is_none(), endless, "{line}");
    }
}

#[test]
fn who_is_called_as_an_init_is_one_and_as_its_tools_speaks_to_it() {
    let meant = |line: &str, first: bool| {
        let words = line.split(' ').map(OsString::from).collect();
        let meant = super::by_name(words, first);
        let meant: Vec<String> = meant.into_iter().flat_map(OsString::into_string).collect();
        meant.join(" ")
    };
    assert_eq!(meant("/sbin/init splash single", true), "run");
    assert_eq!(meant("/vitald", true), "run");
    assert_eq!(meant("/vitald status web", true), "status web");
    assert_eq!(meant("/sbin/init", false), "");
    assert_eq!(meant("vitald", false), "");
    assert_eq!(meant("vitald run --main web", true), "run --main web");
    assert_eq!(meant("/sbin/reboot --json", false), "reboot --json");
}
