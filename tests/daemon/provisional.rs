//! A reload that is planned, and one that has to be confirmed: real services, a daemon that dies,
//! an upgrade in between.

use super::host::{Host, alive, send, until};
use super::upgrade::upgrade;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Asked so rarely that nothing but a reload moves its streak.
fn sleeper(seconds: u32) -> String {
    format!(
        "exec = ['sleep', '{seconds}']\nstart_timeout_ms = 60000\n[[probe]]\ntype = 'exec'\n\
         target = ['test', '-d', '/']\ninterval_ms = 60000\ntimeout_ms = 1000\n\
         start_interval_ms = 20\n[retry_policy]\ndelay_ms = 0\nstability_period_ms = 600000\n"
    )
}

fn three(test: &str) -> Host {
    let mut host = Host::new(test);
    for name in ["web", "db", "old"] {
        host.define(name, &sleeper(1000));
    }
    host.start();
    for name in ["web", "db", "old"] {
        host.up(name);
    }
    host
}

/// `web` has another program, `old` is gone, `new` is there.
fn edit(host: &Host) {
    host.define(
        "web",
        &format!("env = {{ WORD = 'hush' }}\n{}", sleeper(2000)),
    );
    host.undefine("old");
    host.define("new", &sleeper(1000));
}

fn confirmed_within(host: &Host, ms: u64) -> Value {
    host.call("system.reload", &json!({ "confirm_ms": ms }))
}

fn actions(plan: &Value) -> Vec<(&str, &str)> {
    let steps = plan["steps"].as_array().expect("steps");
    steps
        .iter()
        .map(|s| {
            (
                s["service"].as_str().expect("a service"),
                s["action"].as_str().expect("an action"),
            )
        })
        .collect()
}

fn is_gone(host: &Host, name: &str) -> bool {
    let status = host
        .client()
        .call("service.status", &json!({ "name": name }));
    status.is_err()
}

/// As it was before [`edit`], but for what was restarted.
fn went_back(host: &Host, why: &str) {
    until("the one that was removed is back", || !is_gone(host, "old"));
    host.up("old");
    until("the one that was added is gone", || is_gone(host, "new"));
    until("web runs by its old definition", || {
        let pid = host.status("web").pid.unwrap_or(0);
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == b"sleep\x001000\0")
    });
    let web = host.up("web");
    let definition = web.definition.unwrap_or_default();
    assert!(definition.contains(why), "{definition}");
    let reload = host.daemon().reload.expect("it is told");
    assert!(reload.why.expect("why").contains(why));
    let (_, shown, _) = host.cli(&["status"]);
    assert!(
        shown.contains("definitions in force differ from files"),
        "{shown}"
    );
    let (_, shown, _) = host.cli(&["why", "web"]);
    assert!(shown.contains(why), "{shown}");
}

#[test]
fn a_dry_run_tells_the_plan_without_secrets_and_touches_nothing() {
    let host = three("dry-run");
    edit(&host);
    let pids = ["web", "db", "old"].map(|name| host.status(name).pid);
    let answer = host.call("system.reload", &json!({"dry_run": true}));
    let plan = &answer["plan"];
    assert_eq!(plan["dry_run"], true);
    assert_eq!(
        actions(plan),
        [
            ("db", "none"),
            ("new", "add"),
            ("old", "remove"),
            ("web", "restart")
        ]
    );
    assert_eq!(plan["steps"][3]["changes"][0]["key"], "exec");
    assert_eq!(
        plan["steps"][3]["changes"][0]["to"],
        "[\"sleep\", \"2000\"]"
    );
    let (code, said, _) = host.cli(&["reload", "--dry-run"]);
    assert_eq!(code, 0, "{said}");
    for line in [
        "add      new",
        "remove   old",
        "restart  web  exec: [\"sleep\", \"1000\"] -> [\"sleep\", \"2000\"]; env.WORD: added",
        "1 other service is not touched",
    ] {
        assert!(said.lines().any(|l| l == line), "{line}\n{said}");
    }
    assert!(!said.contains("hush") && !answer.to_string().contains("hush"));
    assert_eq!(pids, ["web", "db", "old"].map(|name| host.status(name).pid));
    // A broken file: its problem, and the plan as the error's data.
    host.define("db", "exec = 5\n");
    let mut client = host.client();
    client.put(r#"{"jsonrpc":"2.0","id":1,"method":"system.reload","params":{"dry_run":true}}"#);
    let answer = client.json();
    assert_eq!(answer["error"]["code"], -32005, "{answer}");
    let plan = &answer["error"]["data"]["plan"];
    assert_eq!(plan["steps"][0]["action"], "broken", "{answer}");
    let (code, _, said) = host.cli(&["reload", "--strict"]);
    assert_eq!(code, 1);
    assert!(said.contains("services/db.toml:1:8"), "{said}");
    assert_eq!(pids, ["web", "db", "old"].map(|name| host.status(name).pid));
    for bad in [
        json!({"confirm_ms": 0}),
        json!({"confirm_ms": 60000, "dry_run": true}),
        json!({"name": "web", "strict": true}),
    ] {
        assert_eq!(host.refused("system.reload", &bad).0, -32602, "{bad}");
    }
    assert_eq!(host.refused("system.confirm", &json!({})).0, -32020);
}

/// Whoever is not touched keeps pid, streak and budget, also a dependent of who is.
#[test]
fn what_is_not_touched_keeps_all_it_has() {
    let mut host = Host::new("untouched");
    host.define("db", &sleeper(1000));
    host.define("app", &format!("requires = ['db']\n{}", sleeper(1000)));
    host.start();
    host.up("db");
    let first = host.up("app").pid.expect("a pid");
    send(first, Signal::SIGKILL);
    host.up_again("app", 2);
    let before = host.status("app");
    assert_eq!(before.attempts, 1);
    host.define("db", &sleeper(2000));
    confirmed_within(&host, 600_000);
    host.up_again("db", 2);
    host.call("system.confirm", &json!({}));
    let after = host.status("app");
    assert_eq!(
        (after.pid, after.run, after.attempts, after.probes[0].streak),
        (
            before.pid,
            before.run,
            before.attempts,
            before.probes[0].streak
        )
    );
}

#[test]
fn confirmed_it_stays_also_over_deaths_and_boots() {
    let mut host = three("confirmed");
    edit(&host);
    let answer = confirmed_within(&host, 600_000);
    assert_eq!(answer["durable"], true, "{answer}");
    host.up_again("web", 2);
    host.up("new");
    let (code, _) = host.refused("system.reload", &json!({}));
    assert_eq!(code, -32020);
    let (code, said, _) = host.cli(&["confirm"]);
    assert_eq!(
        (code, said.starts_with("confirmed with ")),
        (0, true),
        "{said}"
    );
    let new = host.status("new").pid;
    host.kill();
    host.start();
    assert_eq!(host.status("new").pid, new);
    assert!(host.daemon().reload.is_none() && is_gone(&host, "old"));
    boot_anew(&mut host);
    host.up("new");
    assert!(host.daemon().reload.is_none() && is_gone(&host, "old"));
}

/// All processes are gone, and the runtime directory with them.
fn boot_anew(host: &mut Host) {
    host.kill();
    let journal = host.dir.join("run/journal");
    for pid in host.processes() {
        send(pid, Signal::SIGKILL);
        until("it is gone", || !alive(pid));
    }
    std::fs::remove_file(&journal).unwrap_or_else(|e| panic!("{}: {e}", journal.display()));
    host.start();
}

/// The daemon dies in the midst of it and comes back when the time is over.
#[test]
fn not_confirmed_it_goes_back_although_the_daemon_died() {
    let mut host = three("unconfirmed");
    edit(&host);
    let db = host.status("db").pid;
    confirmed_within(&host, 2_000);
    host.up_again("web", 2);
    host.kill();
    host.start();
    assert!(host.daemon().reload.is_some());
    let mut events = host.events(&[]);
    if host
        .daemon()
        .reload
        .is_some_and(|reload| reload.why.is_none())
    {
        events.event("it goes back", |e| e.kind == "reload" && e.to == "previous");
    }
    went_back(&host, "not confirmed within 2 s");
    // What is in force now is so for the next daemon, too, and after a boot.
    let web = host.status("web").pid;
    host.kill();
    host.start();
    assert_eq!(host.status("web").pid, web);
    went_back(&host, "not confirmed within 2 s");
    assert_eq!(host.status("db").pid, db);
    boot_anew(&mut host);
    went_back(&host, "not confirmed within 2 s");
    // The next reload takes the files.
    host.call("system.reload", &json!({}));
    host.up("new");
    assert!(host.daemon().reload.is_none());
    until("old is gone", || is_gone(&host, "old"));
}

/// A boot within the time: what was in force before is in force, for nobody has confirmed.
#[test]
fn a_boot_in_the_midst_of_it_goes_back() {
    let mut host = three("boot-amid");
    edit(&host);
    confirmed_within(&host, 600_000);
    host.up_again("web", 2);
    boot_anew(&mut host);
    went_back(&host, "the machine was started anew");
}

/// Over an upgrade the time goes on; by word it goes back at once.
#[test]
fn reverted_by_word_after_an_upgrade() {
    let host = three("reverted");
    edit(&host);
    confirmed_within(&host, 600_000);
    host.up_again("web", 2);
    upgrade(&host);
    let reload = host.daemon().reload.expect("it waits");
    assert!(reload.goes_back_in_ms.is_some_and(|left| left < 600_000));
    let shown = host.status("web").definition.unwrap_or_default();
    assert!(shown.contains("provisional (exec, env.WORD)"), "{shown}");
    let (code, said, _) = host.cli(&["revert"]);
    assert_eq!(code, 0, "{said}");
    went_back(&host, "reverted by");
}

/// A program that ends at once: nobody has to wait for the time.
#[test]
fn a_service_that_does_not_work_brings_all_back() {
    let host = three("not-well");
    edit(&host);
    host.define("web", &sleeper(1000).replace("'sleep', '1000'", "'false'"));
    confirmed_within(&host, 600_000);
    went_back(&host, "web does not work: exit code 1");
    // SIGHUP is a plain reload: it takes the files, and nothing goes back.
    host.define("web", &sleeper(3000));
    let mut events = host.events(&[]);
    send(host.pid(), Signal::SIGHUP);
    events.event("the files are in force", |e| {
        e.service == "new" && e.to == "running"
    });
    assert!(host.daemon().reload.is_none());
}

/// Removed services are stopped in the reverse order of need.
#[test]
fn dependents_leave_first() {
    let mut host = Host::new("leave");
    let slow =
        "exec = ['sh', '-c', 'trap \"sleep 0.3; exit\" TERM; while :; do sleep 0.05; done']\n";
    host.define("a-db", slow);
    host.define("b-app", &format!("requires = ['a-db']\n{slow}"));
    host.define("c-web", &format!("after = ['b-app']\n{slow}"));
    host.start();
    host.up("c-web");
    let mut events = host.events(&[]);
    for name in ["a-db", "b-app", "c-web"] {
        host.undefine(name);
    }
    host.call("system.reload", &json!({}));
    let mut order = Vec::new();
    while order.len() < 6 {
        let event = events.event("they leave", |e| e.kind == "state");
        order.push(format!("{} {}", event.service, event.to));
    }
    let expected = [
        "c-web stopping",
        "c-web inactive",
        "b-app stopping",
        "b-app inactive",
        "a-db stopping",
        "a-db inactive",
    ];
    assert_eq!(order, expected);
}
