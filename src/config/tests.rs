//! Definitions as people get them right and wrong, and as no person would write them.

use super::*;
use crate::exit::Signal;
use problem::Problem;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

mod defaults;
pub(in crate::config) mod warned;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn read(file: &str, text: &str) -> load::Outcome {
    load::read("web", file, text.as_bytes())
}

/// The definition of a text without a single problem.
fn clean(file: &str, text: &str) -> Definition {
    let outcome = read(file, text);
    assert_eq!(said(&outcome), Vec::<String>::new(), "{text}");
    outcome.definition.expect("a definition")
}

fn said(outcome: &load::Outcome) -> Vec<String> {
    outcome.problems.iter().map(Problem::to_string).collect()
}

const FULL_TOML: &str = r#"
description = "all keys"
exec = "/usr/bin/web --title 'two words'"
kind = "process"
after = ["net"]
requires = ["db", "cache"]
wants = ["metrics"]
user = "www-data"
group = 33
groups = ["adm", 4]
umask = "027"
working_dir = "/srv"
env_file = "-/etc/web.env"
inherit_env = true
nice = -5
oom_score_adj = 100
no_new_privs = true
capabilities = ["CAP_KILL", "net_bind_service"]
read_only = true
writable = ["/srv", "-/var/cache/web"]
private_tmp = true
secrets = { key = "/etc/web.key" }
memory_max = "1G"
memory_high = 943718400
cpu_max = "150%"
cpu_weight = 200
pids_max = 64
stop_signal = "SIGINT"
stop_timeout_ms = 1
health_stop_timeout_ms = 2
start_timeout_ms = 6000
restart = "on_failure"
autostart = false
kill_mode = "mixed"
[env]
B = "2"
A = "1"
[limits]
nofile = 4096
core = "unlimited"
nproc = { soft = 10, hard = "unlimited" }
[retry_policy]
max_attempts = "unlimited"
delay_ms = 100
backoff = "linear"
max_delay_ms = 105
jitter = 0
stability_period_ms = 60000
on_exhausted = "stop"
[[probe]]
type = "http"
name = "front"
target = "unix:/run/web.sock:/healthz"
interval_ms = 1000
timeout_ms = 900
retries = 2
success_threshold = 4
start_period_ms = 5
start_interval_ms = 6
on_unhealthy = "observe"
method = "HEAD"
expect_status = "200,204,301-308"
follow_redirects = true
keep_alive = true
headers = { Host = "web.example", Accept = "*/*" }
[[probe]]
type = "tcp"
target = "[::1]:6379"
send = "PING\r\n"
expect = "+PONG"
[[probe]]
type = "unix"
target = "/run/a.sock"
expect = "hello"
[[probe]]
type = "exec"
target = ["pg_isready", "-q"]
[[probe]]
type = "exec"
target = "pg_isready -t 1"
"#;

const FULL_JSON: &str = r#"{
  "description": "all keys", "exec": ["/usr/bin/web", "--title", "two w\u006frds"],
  "kind": "process", "after": ["net"], "requires": ["db", "cache"], "wants": ["metrics"],
  "user": "www-data", "group": "33", "groups": ["adm", "4"], "umask": "0o027",
  "working_dir": "/srv", "env": {"B": "2", "A": "1"}, "env_file": "-/etc/web.env",
  "inherit_env": true, "nice": -5, "oom_score_adj": 100, "memory_max": 1073741824,
  "memory_high": "900M", "cpu_max": "150%", "cpu_weight": 200, "pids_max": 64,
  "no_new_privs": true, "capabilities": ["Kill", "cap_net_bind_service"], "read_only": true,
  "writable": ["/srv", "-/var/cache/web"], "private_tmp": true, "secrets": {"key": "/etc/web.key"},
  "limits": {"nofile": 4096, "core": "unlimited", "nproc": {"hard": "unlimited", "soft": 10}},
  "stop_signal": 2, "stop_timeout_ms": 1, "health_stop_timeout_ms": 2, "start_timeout_ms": 6000,
  "restart": "on-failure", "autostart": false, "kill_mode": "mixed",
  "retry_policy": {"max_attempts": "unlimited", "delay_ms": 100, "backoff": "linear",
    "max_delay_ms": 105, "jitter": 0.0, "stability_period_ms": 60000, "on_exhausted": "stop"},
  "probe": [
    {"type": "http", "name": "front", "target": "unix:/run/web.sock:/healthz",
     "interval_ms": 1000, "timeout_ms": 900, "failure_threshold": 2, "success_threshold": 4,
     "start_period_ms": 5, "start_interval_ms": 6, "on_unhealthy": "observe", "method": "HEAD",
     "expect_status": "200, 204, 301-308", "follow_redirects": 5, "keep_alive": true,
     "headers": {"Host": "web.example", "Accept": "*/*"}},
    {"type": "tcp", "target": "[::1]:6379", "send": "PING\r\n", "expect": "+PONG"},
    {"type": "unix", "target": "/run/a.sock", "expect": "hello"},
    {"type": "exec", "target": ["pg_isready", "-q"]},
    {"type": "exec", "target": ["pg_isready", "-t", "1"]}
  ]
}"#;

#[test]
fn every_key_is_read() {
    let d = clean("web.toml", FULL_TOML);
    let word = |w: &str| -> Box<str> { w.into() };
    assert_eq!(
        *d.exec,
        [word("/usr/bin/web"), word("--title"), word("two words")]
    );
    assert_eq!(*d.requires, [word("db"), word("cache")]);
    let limit = |soft, hard| Limit { soft, hard };
    let expected = Process {
        directories: Directories::default(),
        user: Some(word("www-data")),
        group: Some(word("33")),
        groups: Some(Box::new([word("adm"), word("4")])),
        umask: Some(0o27),
        working_dir: Some(word("/srv")),
        env: BTreeMap::from([(word("A"), word("1")), (word("B"), word("2"))]),
        env_file: Some(word("-/etc/web.env")),
        inherit_env: true,
        limits: BTreeMap::from([
            (word("core"), limit(None, None)),
            (word("nofile"), limit(Some(4096), Some(4096))),
            (word("nproc"), limit(Some(10), None)),
        ]),
        nice: Some(-5),
        oom_score_adj: Some(100),
        confine: Confine {
            no_new_privs: true,
            capabilities: Some(1 << 5 | 1 << 10),
            read_only: true,
            writable: Box::new([word("/srv"), word("-/var/cache/web")]),
            private_tmp: true,
            secrets: BTreeMap::from([(word("key"), word("/etc/web.key"))]),
        },
        resources: Some(Box::new(Resources {
            memory_max: Some(1 << 30),
            memory_high: Some(900 << 20),
            cpu_max: Some(150),
            cpu_weight: Some(200),
            pids_max: Some(64),
        })),
    };
    assert_eq!(d.process, expected);
    assert_eq!(
        (d.stop_signal, d.restart),
        (Signal::INT, Restart::OnFailure)
    );
    assert_eq!(
        (d.retry_policy.max_attempts, d.retry_policy.jitter),
        (None, 0.0)
    );
    let names: Vec<&str> = d.probes.iter().map(|p| &*p.name).collect();
    assert_eq!(names, ["front", "tcp", "unix", "exec", "exec-2"]);
    let Ask::Http(http) = &d.probes[0].ask else {
        panic!("{:?}", d.probes[0])
    };
    assert_eq!(
        *http.headers,
        [
            (word("Host"), word("web.example")),
            (word("Accept"), word("*/*"))
        ]
    );
    assert_eq!(
        (http.follow_redirects, http.keep_alive, &*http.method),
        (5, true, "HEAD")
    );
    assert_eq!(d.probes[0].failure_threshold, 2);
    let argv = Box::new([word("pg_isready"), word("-t"), word("1")]);
    assert_eq!(d.probes[4].ask, Ask::Exec { argv });
}

/// Each case: the file's name, its text, `----`, what is said of it, an empty line. `UPDATE=1`
/// rewrites what is said; the diff is reviewed.
#[test]
fn bad_input_gets_exactly_these_words() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/bad_input.txt");
    let expected = std::fs::read_to_string(path).expect("the cases");
    let mut actual = String::new();
    for case in expected.trim_end().split("\n\n") {
        let (input, _) = case.split_once("----").expect("a line of dashes");
        let (file, text) = input.split_once('\n').expect("the file's name");
        let outcome = read(file, text);
        assert!(
            outcome.problems.iter().any(Problem::is_error),
            "no error: {text}"
        );
        assert_eq!(outcome.definition, None, "{text}");
        actual.push_str(&format!("{input}----\n{}\n\n", said(&outcome).join("\n")));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &actual).expect("written");
    } else {
        assert_eq!(actual, expected, "UPDATE=1 rewrites; review the diff");
    }
}

#[test]
fn text_that_is_none_is_named_with_its_line() {
    let outcome = load::read("web", "web.toml", b"exec = 'a'\n# \xFC");
    assert_eq!(
        said(&outcome),
        ["web.toml:2:3: not UTF-8: byte 0xFC; save the file as UTF-8"]
    );
    let long = vec![b'#'; crate::limits::MAX_DEFINITION_BYTES + 1];
    let outcome = load::read("web", "web.toml", &long);
    assert_eq!(
        said(&outcome),
        ["web.toml:1:1: has 262145 bytes; at most 262144 are read"]
    );
    let marked = b"\xEF\xBB\xBFexce = 'a'\nexec = 'a'";
    let outcome = load::read("web", "web.toml", marked);
    assert_eq!(
        said(&outcome),
        ["web.toml:1:1: unknown key `exce`: did you mean `exec`?"]
    );
}

#[test]
fn https_needs_the_feature() {
    let text = "exec = 'a'\n[[probe]]\ntype = 'https'\ntarget = 'https://h/'";
    let all = said(&read("web.toml", text));
    if cfg!(feature = "tls") {
        assert_eq!(all, Vec::<String>::new());
    } else {
        assert_eq!(
            all,
            [
                "web.toml:3:8: this vitald was built without TLS: use the build with it (cargo feature `tls`), or ask by \"http\" or \"exec\""
            ]
        );
    }
}

#[test]
fn bounds_are_said() {
    let http = "type = 'http', target = 'http://h/'";
    let headers: Vec<String> = (0..65).map(|n| format!("k{n} = 'x'")).collect();
    let names: Vec<String> = (0..257).map(|n| format!("'k{n}'")).collect();
    for (text, part) in [
        (
            format!(
                "probe = [{{ {http}, headers = {{ {} }} }}]",
                headers.join(", ")
            ),
            "65 headers; at most 64",
        ),
        (
            format!("probe = [{}]", format!("{{ {http} }},").repeat(33)),
            "33 probes; at most 32",
        ),
        (
            format!("after = [{}]", names.join(", ")),
            "257 names; at most 256",
        ),
    ] {
        let all = said(&read("web.toml", &format!("exec = 'a'\n{text}")));
        assert!(all.len() == 1 && all[0].contains(part), "{all:?}");
    }
}

#[test]
fn many_problems_are_counted() {
    let text: String = (0..300).map(|n| format!("k{n} = 1\n")).collect();
    let all = said(&read("web.toml", &text));
    assert_eq!(all.len(), crate::limits::MAX_PROBLEMS + 1);
    assert_eq!(
        all[100],
        "web.toml: 201 more problems are not shown: mend these first"
    );
}

/// The crates bound brackets and dotted keys each, not their product.
#[test]
fn nesting_is_bounded_whatever_it_is_made_of() {
    let key = vec!["a"; 79].join(".");
    let mixed = format!("{}1{}", format!("{{{key}=").repeat(78), "}".repeat(78));
    for (file, text) in [
        ("web.toml", format!("x = {mixed}")),
        ("web.toml", format!("[{key}]\nb = 1")),
        ("web.toml", format!("x = \"\"\"it\"s\"\"\"\ny = {mixed}")),
        ("web.toml", "[".repeat(100_000)),
        ("web.json", "[".repeat(100_000)),
        (
            "web.json",
            format!("{}1{}", "{\"a\":".repeat(9_000), "}".repeat(9_000)),
        ),
    ] {
        let outcome = read(file, &text);
        assert!(outcome.problems.iter().any(Problem::is_error), "{file}");
    }
    let brackets = "[".repeat(40);
    let in_strings = format!(
        "exec = ['a', \"\"\"it\"s {brackets}\"\"\", '{brackets}', \"\\\"{brackets}\"] # {brackets}"
    );
    clean("web.toml", &in_strings);
}

#[test]
fn json_and_toml_of_the_same_content_are_equal() {
    assert_eq!(clean("web.toml", FULL_TOML), clean("web.json", FULL_JSON));
}

#[test]
fn every_key_of_the_tables_is_looked_at() {
    // Nothing takes a date, so each key that is read complains about one.
    for (table, head) in [
        (keys::service::ALL, "exec = 'a'\nretry_policy = {}\n"),
        (keys::retry_policy::ALL, "exec = 'a'\n[retry_policy]\n"),
    ] {
        for key in table {
            let text = match key.name {
                "exec" | "retry_policy" => format!("{} = 2020-01-01\n", key.name),
                name => format!("{head}{name} = 2020-01-01\n"),
            };
            let outcome = match key.name {
                "instances" => load::read("web@", "web@.toml", text.as_bytes()),
                _ => read("web.toml", &text),
            };
            let all = said(&outcome).join("\n");
            assert!(
                all.contains(&format!("`{}` must be ", key.name)),
                "{text}\n{all}"
            );
        }
    }
    for key in keys::probe::ALL {
        let kind = key.only.first().copied().unwrap_or("http");
        let mut text = "exec = 'a'\n[[probe]]\n".to_owned();
        let target = if kind == "tcp" {
            "h:1".to_owned()
        } else {
            format!("{kind}://h/")
        };
        for (name, value) in [("type", kind), ("target", &target)] {
            if key.name != name {
                text.push_str(&format!("{name} = '{value}'\n"));
            }
        }
        text.push_str(&format!("{} = 2020-01-01\n", key.name));
        let all = said(&read("web.toml", &text)).join("\n");
        let no_tls = kind == "https" && !cfg!(feature = "tls");
        assert!(
            no_tls || all.contains(&format!("`{}` must be ", key.name)),
            "{text}\n{all}"
        );
    }
    for key in keys::socket::ALL {
        let listen = match key.name {
            "listen" => "",
            _ => "listen = 'unix:/a'\n",
        };
        let text = format!(
            "exec = 'a'\n[[socket]]\n{listen}{} = 2020-01-01\n",
            key.name
        );
        let all = said(&read("web.toml", &text)).join("\n");
        assert!(
            all.contains(&format!("`{}` must be ", key.name)),
            "{text}\n{all}"
        );
    }
    for key in keys::daemon::ALL {
        let (_, problems) = settings::read(
            "vitald.toml",
            format!("{} = 2020-01-01", key.name).as_bytes(),
        );
        assert_eq!(problems.len(), 1, "{}", key.name);
    }
}

#[test]
fn a_file_name_cannot_write_to_the_terminal() {
    let problem = Problem::of_file("services/a\n\u{1b}[2J.toml", "x");
    assert_eq!(problem.to_string(), "services/a\\n\\u{1b}[2J.toml: x");
}

#[test]
fn a_typical_definition_is_small() {
    assert!(
        size_of::<Definition>() <= 640,
        "{}",
        size_of::<Definition>()
    );
    assert!(size_of::<Probe>() <= 256, "{}", size_of::<Probe>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for file in ["web.toml", "web.json"] {
            let outcome = load::read("web", file, &bytes);
            prop_assert_eq!(outcome.definition.is_none(), outcome.problems.iter().any(Problem::is_error));
            settings::read(file, &bytes);
        }
    }

    /// Close to what is valid, where the readers are reached: a valid text with pieces replaced.
    #[test]
    fn damaged_definitions_never_panic(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..20, "[\\[\\]{}=\"',.\n\\\\a0-9-]{0,6}"), 1..6),
    ) {
        for (file, whole) in [("web.toml", FULL_TOML), ("web.json", FULL_JSON)] {
            let mut text = whole.to_owned();
            for (at, length, piece) in &cuts {
                let start = at.index(text.len());
                let end = (start + length).min(text.len());
                text.replace_range(start..end, piece);
            }
            let outcome = read(file, &text);
            prop_assert_eq!(outcome.definition.is_none(), outcome.problems.iter().any(Problem::is_error));
            for problem in &outcome.problems {
                let lines = text.matches('\n').count() + 1;
                prop_assert!(problem.line as usize <= lines, "{}", problem);
            }
        }
    }

    #[test]
    fn a_quoted_word_is_that_word(word in "[^\0]{0,20}") {
        let quoted = format!("x '{}'", word.replace('\'', r"'\''"));
        let words = words::split(&quoted).map_err(TestCaseError::fail)?;
        prop_assert_eq!(words, vec!["x".into(), word.into_boxed_str()]);
    }
}
