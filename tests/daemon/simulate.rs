//! What a policy would do, asked of a running daemon, also of what it has lived through.

use super::host::Host;
use serde_json::{Value, json};

const BAD_PARAMS: i64 = -32602;
fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

fn sleeper(test: &str) -> Host {
    let host = Host::with(
        test,
        &[
            ("web", "exec = ['sleep', '1000']\nrequires = ['db']\n"),
            ("db", "exec = ['sleep', '1000']\n"),
        ],
    );
    host.up("web");
    host
}

#[test]
fn the_definition_in_force_is_simulated_in_both_tongues() {
    let host = sleeper("simulate-both");
    let told = host.call(
        "policy.simulate",
        &json!({
            "name": "web",
            "scenario": "exit 1 every 20m; db: at 1h30m die SIGSEGV; for 2h",
            "set": ["retry_policy.delay_ms=2000", "jitter=0"],
        }),
    );
    assert_eq!(told["summary"]["restarts"]["exit"], 5);
    assert_eq!(told["summary"]["down"]["backoff_ms"], 10_000);
    assert_eq!(told["summary"]["state"], "running");
    assert_eq!(told["source"], "services/web.toml");
    assert_eq!(told["length_ms"], 7_200_000);
    let of_db = |moment: &&Value| moment["event"]["service"] == "db";
    assert!(
        told["timeline"]
            .as_array()
            .expect("lines")
            .iter()
            .any(|m| of_db(&m))
    );
    // Nothing of it touched the real one, and a changed file is not in force before a reload.
    assert_eq!(host.status("web").run, 1);
    host.define("web", "exec = 7\n");
    let again = json!({"name": "web", "scenario": "at 1s exit 0; for 1m"});
    assert_eq!(
        host.call("policy.simulate", &again)["summary"]["restarts"]["all"],
        1
    );
    let mut client = host.client();
    let text = client.words("policy simulate web 'at 1s exit 0; for 1m' --set max_attempts=0");
    let text = text.join("\n");
    assert!(
        text.ends_with("\nok") && text.contains("gives up"),
        "{text}"
    );
    // The command line asks the daemon, too.
    let say = ["policy", "simulate", "web", "at 1s exit 0; for 1m"];
    let (code, out, _) = host.cli(&say);
    assert!(code == 0 && out.contains("1 crashed"), "{out}");
}

#[test]
fn bad_params_are_refused_with_what_to_write() {
    let host = sleeper("simulate-bad");
    for (params, code, words) in [
        (json!({}), BAD_PARAMS, "needs `name`"),
        (json!({"name": "web"}), BAD_PARAMS, "needs `scenario`"),
        (
            json!({"name": "web", "scenario": 5}),
            BAD_PARAMS,
            "must be a string",
        ),
        (
            json!({"name": "web", "scenario": "at 1s hung"}),
            BAD_PARAMS,
            "line 1: nothing can `hung`; did you mean `hang`?",
        ),
        (
            json!({"name": "web", "scenario": "for 1h", "against": "history"}),
            BAD_PARAMS,
            "not both",
        ),
        (
            json!({"name": "web", "against": "yesterday"}),
            BAD_PARAMS,
            "takes \"history\"",
        ),
        (
            json!({"name": "web", "scenario": "for 1h", "set": ["exec=x"]}),
            BAD_PARAMS,
            "nothing is decided by it",
        ),
        (
            json!({"name": "web", "scenario": "for 1h", "set": "max_attempts=1"}),
            BAD_PARAMS,
            "an array of strings",
        ),
        (
            json!({"name": "web", "scenario": "at 1s cache: hang"}),
            BAD_PARAMS,
            "cache has no part in this; there are db, web",
        ),
        (
            json!({"name": "wbe", "scenario": "for 1h"}),
            -32000,
            "did you mean `web`?",
        ),
    ] {
        let (refused, message) = host.refused("policy.simulate", &params);
        assert!(message.contains(words), "{params}: {message}");
        assert_eq!(refused, code, "{params}: {message}");
    }
}

#[test]
fn a_long_simulation_is_bounded_and_holds_up_nobody() {
    // More than a helper's share of work: a year, asked ten times a second.
    let probe = "[[probe]]\ntype = 'tcp'\ntarget = '127.0.0.1:1'\ninterval_ms = 100\n";
    let definition = format!("exec = ['web']\nautostart = false\n{probe}");
    let host = Host::with("simulate-heavy", &[("web", &definition)]);
    let params = json!({"name": "web", "scenario": "exit 1 every 10s; for 366d",
        "set": ["max_attempts=unlimited", "backoff=fixed"]});
    let mut client = host.client();
    let asked: Vec<u64> = (0..5)
        .map(|_| client.ask("policy.simulate", &params))
        .collect();
    let ping = client.ask("system.ping", &json!({}));
    // The one too many and the ping are answered before any of those that work.
    let mut first: Vec<(u64, bool)> = Vec::new();
    for _ in 0..2 {
        let (id, answer) = client.answer().expect("an answer");
        first.push((id, answer.is_ok()));
    }
    first.sort_unstable();
    assert_eq!(first, [(asked[4], false), (ping, true)]);
    for _ in 0..4 {
        let (id, answer) = client.answer().expect("an answer");
        let told = answer.unwrap_or_else(|(_, message)| panic!("{message}"));
        assert!(asked.contains(&id));
        assert!(told["cut"].is_string(), "{}", told["cut"]);
        assert_eq!(told["lanes"]["thinned"], true);
        assert!(told["timeline"].as_array().expect("lines").len() <= 400);
    }
    // And the place is free again.
    host.call(
        "policy.simulate",
        &json!({"name": "web", "scenario": "for 1h"}),
    );
}

/// A crash loop that gave up, under other budgets.
#[test]
fn crashes_that_happened_are_judged_by_another_policy() {
    let definition =
        "exec = ['false']\n[retry_policy]\nmax_attempts = 2\ndelay_ms = 5\njitter = 0\n";
    let host = Host::with("simulate-crashes", &[("bad", definition)]);
    host.until("bad", "given up", |status| status.state == "failed");
    let ask = |set: &[&str]| {
        let params = json!({"name": "bad", "against": "history", "set": set});
        host.call("policy.simulate", &params)
    };
    // The same policy does the same again.
    let same = ask(&[]);
    assert_eq!(same["actual"]["restarts"], 2);
    assert!(same["actual"]["gave_up_ms"].is_u64());
    assert_eq!(same["summary"]["restarts"]["exit"], 2);
    assert!(same["origin"].is_string() && same["summary"]["gave_up_ms"].is_u64());
    let longer = number(&same["length_ms"]);
    assert!(number(&same["summary"]["gave_up_ms"]) <= longer.max(1000));
    assert_eq!(ask(&["max_attempts=1"])["summary"]["restarts"]["exit"], 1);
    // As far as its time goes: on a slow host each run takes a while.
    assert_eq!(ask(&["max_attempts=3"])["summary"]["restarts"]["exit"], 3);
    // The command line reads the file and asks the daemon for the history.
    let config = host.path("config");
    let line = [
        "simulate",
        "bad",
        "--config-dir",
        &config,
        "--against",
        "history",
    ];
    let (code, out, error) = host.cli(&[&line[..], &["--set", "max_attempts=1"]].concat());
    assert_eq!(code, 0, "{error}");
    let short = out
        .lines()
        .find(|line| line.contains("in short"))
        .unwrap_or_default();
    assert!(
        short.contains("1 restart, would have given up at "),
        "{out}"
    );
    assert!(short.contains("(really: 2 restarts, gave up at "), "{out}");
    assert!(out.contains("would have behaved the same"), "{out}");
    // As from a file that `history --json` wrote; and the journal of the daemon itself.
    let (_, json, _) = host.cli(&["history", "bad", "--json"]);
    std::fs::write(host.path("history.json"), json).expect("write");
    for file in [host.path("history.json"), host.path("run/journal")] {
        let line = [
            "simulate",
            "bad",
            "--config-dir",
            &config,
            "--against",
            &file,
        ];
        let (code, out, error) = host.cli(&line);
        assert_eq!(code, 0, "{file}: {error}");
        assert!(
            out.contains("2 crashed") && out.contains("(really: 2 restarts"),
            "{file}: {out}"
        );
    }
}

/// A hang that was healed: less patience finds it sooner, `restart = never` never.
#[test]
fn a_hang_that_happened_is_judged_by_another_policy() {
    let mut host = Host::new("simulate-hang");
    let web = host.server("web");
    let policy = "[retry_policy]\ndelay_ms = 10\njitter = 0\n";
    host.define("web", &format!("{}{policy}{}", web.exec(), web.probe("")));
    host.start();
    host.up("web");
    web.tell(1, "mute");
    host.up_again("web", 2);
    let ask = |set: &[&str]| {
        let params = json!({"name": "web", "against": "history", "set": set});
        host.call("policy.simulate", &params)
    };
    let same = ask(&[]);
    assert_eq!(same["actual"], json!({"restarts": 1, "gave_up_ms": null}));
    assert_eq!(same["summary"]["restarts"]["unhealthy"], 1);
    assert_eq!(same["summary"]["outages"], 1);
    let down = |told: &Value| number(&told["summary"]["down"]["unnoticed_ms"]);
    let patient = ask(&["probe.failure_threshold=4"]);
    assert!(
        down(&patient) > down(&same),
        "{} {}",
        down(&patient),
        down(&same)
    );
    let never = ask(&["restart=never"]);
    assert_eq!(never["summary"]["restarts"]["all"], 0);
    assert_eq!(never["summary"]["given_up"], true);
}

/// Restarts for health are limited as the daemon's are, also when a reload has changed that; the command
/// line reads what stands beside the definitions.
#[test]
fn the_limit_of_restarts_is_that_of_the_daemon() {
    let mut host = Host::new("simulate-limit");
    let web = host.server("web");
    host.define("web", &format!("{}{}", web.exec(), web.probe("")));
    let limit = |count: u32| {
        format!(
            "health_restart_limit = {{ count = {count}, per_ms = 3600000 }}\n\
             storm = {{ services = 0, percent = 0 }}\n"
        )
    };
    host.settings(&limit(1));
    host.start();
    let ask = json!({"name": "web", "scenario": "hang 1m after each start; for 150m",
        "set": ["max_attempts=unlimited"]});
    let told = host.call("policy.simulate", &ask);
    assert_eq!(told["summary"]["restarts"]["unhealthy"], 3);
    let says = |told: &Value, words: &str| {
        let assumed = told["assumed"].as_array().expect("a list");
        let said = assumed.iter().filter_map(Value::as_str);
        assert!(said.clone().any(|line| line.contains(words)), "{assumed:?}");
    };
    says(&told, "limited as this daemon's are: 1 within 1 h 00 m");
    host.settings(&limit(2));
    host.call("system.reload", &json!({}));
    let told = host.call("policy.simulate", &ask);
    assert_eq!(told["summary"]["restarts"]["unhealthy"], 6);
    host.settings(&limit(1));
    let config = host.path("config");
    let say = "hang 1m after each start; for 150m";
    let line = [
        "simulate",
        "web",
        "--config-dir",
        &config,
        "--say",
        say,
        "--json",
    ];
    let cli = |host: &Host| {
        let (code, out, error) = host.cli(&line);
        assert_eq!(code, 0, "{error}");
        serde_json::from_str::<Value>(&out).expect("JSON")
    };
    let told = cli(&host);
    assert_eq!(told["summary"]["restarts"]["unhealthy"], 3);
    says(&told, "limited as vitald.toml says: 1 within 1 h 00 m");
    host.settings("health_restart_limit = 7\n");
    let (code, _, error) = host.cli(&line);
    assert!(
        code == 1 && error.contains("config/vitald.toml:1:24"),
        "{error}"
    );
    std::fs::remove_file(host.path("config/vitald.toml")).expect("remove");
    says(&cli(&host), "limited as they are by default: 5 within 30 s");
}
