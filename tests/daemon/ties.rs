//! What services are to each other: who starts beside, after or instead of whom, who goes down with
//! whom, and what is shown of it.

use super::host::{Host, alive, until};
use serde_json::json;
use std::fs;

fn lines(host: &Host, file: &str) -> Vec<String> {
    let text = fs::read_to_string(host.path(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A program that tells a common file when it is asked to stop, and ends when it may.
fn speaks(host: &Host, name: &str, gate: &str) -> String {
    let file = host.path("ends");
    let until = match gate {
        "" => String::new(),
        gate => format!("until [ -e {} ]; do sleep 0.02; done; ", host.path(gate)),
    };
    format!(
        "exec = ['sh', '-c', 'trap \"echo {name} asked >> {file}; {until}echo {name} gone >> {file}; exit 0\" TERM; echo up; while :; do sleep 0.02; done']\n"
    )
}

/// Two that a third needs each wait for the other to be there: one after the other they would
/// never be ready.
#[test]
fn what_needs_nothing_starts_at_once_and_side_by_side() {
    let mut host = Host::new("ties-parallel");
    for (me, other) in [("a", "b"), ("b", "a")] {
        let (me_file, other) = (host.path(me), host.path(other));
        let meet = format!("touch {me_file}; until [ -e {other} ]; do sleep 0.02; done");
        let text = format!("exec = ['sleep', '1000']\npre_start = [['sh', '-c', '{meet}']]\n");
        host.define(me, &text);
    }
    let last = "exec = ['sleep', '1000']\nrequires = ['a']\nmilestone = ['b']\n";
    host.define("last", last);
    host.start();
    host.up("last");
    let blame = host.call("service.blame", &json!({}));
    let path: Vec<&str> = blame["path"]
        .as_array()
        .expect("a path")
        .iter()
        .filter_map(|name| name.as_str())
        .collect();
    assert_eq!((path.len(), path[0]), (2, "last"), "{blame}");
    assert!(blame["services"][2]["ready_ms"].is_u64(), "{blame}");
    let (code, out, _) = host.cli(&["blame"]);
    assert!(code == 0 && out.contains("critical path to last"), "{out}");
}

/// The daemon dies while `db` waits for who goes down with it: it goes on waiting, and both come
/// back.
#[test]
fn who_goes_down_with_it_is_stopped_first_whatever_becomes_of_the_daemon() {
    let mut host = Host::new("ties-first");
    let db = speaks(&host, "db", "");
    host.define("db", &db);
    let api = speaks(&host, "api", "gate");
    let api =
        format!("{api}requires = ['db']\non_dependency = 'restart'\nstop_timeout_ms = 60000\n");
    host.define("api", &api);
    host.start();
    let (db, api) = (host.up("db"), host.up("api"));
    host.line("db", "up", |line| line == "up");
    host.line("api", "up", |line| line == "up");
    let note = host.call("service.restart", &json!({"name": "db"}))["note"].to_string();
    assert!(
        note.contains("after those that go down with it: api"),
        "{note}"
    );
    until("api asked", || lines(&host, "ends") == ["api asked"]);
    host.kill();
    host.start();
    let status = host.until("db", "waits", |s| s.state == "stopping");
    assert_eq!(
        (status.pid, status.next.as_deref()),
        (db.pid, Some("stop signal"))
    );
    assert!(alive(db.pid.expect("a pid")));
    fs::write(host.path("gate"), "").expect("write");
    host.up_again("db", db.run + 1);
    host.up_again("api", api.run + 1);
    let ends = lines(&host, "ends");
    let at = |line: &str| ends.iter().rposition(|l| l == line).expect("a line");
    assert!(at("api gone") < at("db asked"), "{ends:?}");
    assert_eq!(host.status("api").attempts, 0);
    assert!(
        host.why("api")
            .story
            .iter()
            .any(|l| l.cause == "dependency")
    );
}

/// Never both: the start waits for the other's end. A pin is stronger, and survives.
#[test]
fn of_two_that_conflict_one_runs_and_a_pin_holds_over_the_daemons_death() {
    let mut host = Host::new("ties-conflict");
    let a = speaks(&host, "a", "gate");
    host.define("a", &format!("{a}stop_timeout_ms = 60000\n"));
    host.define(
        "b",
        "exec = ['sleep', '1000']\nconflicts = ['a']\nautostart = false\n",
    );
    host.start();
    host.up("a");
    host.line("a", "up", |line| line == "up");
    host.call("service.pin", &json!({"name": "a"}));
    host.kill();
    host.start();
    let refusal = host.refused("service.start", &json!({"name": "b"}));
    assert!(refusal.1.contains("pinned"), "{}", refusal.1);
    let (_, page, _) = host.cli(&["status", "a"]);
    assert!(page.contains("started, pinned, by "), "{page}");
    host.call("service.unpin", &json!({"name": "a"}));
    host.call("service.start", &json!({"name": "b"}));
    let blocked = host.until("b", "blocked", |s| s.state == "blocked");
    assert_eq!(
        blocked.detail.as_deref(),
        Some("conflicts with a, stopping")
    );
    host.kill();
    host.start();
    assert_eq!(host.status("b").state, "blocked");
    fs::write(host.path("gate"), "").expect("write");
    host.up("b");
    assert_eq!(
        (&*host.status("a").state, &*host.status("a").wanted),
        ("inactive", "stop")
    );
}

#[test]
fn tree_and_graph_show_who_needs_whom() {
    let host = Host::with(
        "ties-shown",
        &[
            ("db", "exec = ['sleep', '1000']\nbefore = ['job']\n"),
            (
                "web",
                "exec = ['sleep', '1000']\nrequires = ['db']\nwants = ['off']\n",
            ),
            ("job", "exec = ['sleep', '1000']\nafter_exit = ['web']\n"),
            (
                "off",
                "exec = ['sleep', '1000']\nconflicts = ['db']\nautostart = false\n",
            ),
        ],
    );
    host.up("web");
    let (code, tree, _) = host.cli(&["status", "--tree"]);
    assert_eq!(code, 0);
    for part in [
        "job  blocked: after_exit web, running",
        "requires db  running",
        "(see above)",
    ] {
        assert!(tree.contains(part), "{tree}");
    }
    let json = host.call("service.status", &json!({"name": "web", "tree": true}));
    assert_eq!(json["tree"][0]["name"], "web");
    let (_, dot, _) = host.cli(&["graph"]);
    assert!(
        dot.starts_with("digraph") && dot.contains("\"web\" -> \"db\" [style=bold];"),
        "{dot}"
    );
    let config = host.path("config");
    let (code, files, _) = host.cli(&["check", "--graph", "--config-dir", &config]);
    assert!(
        code == 0 && files.contains("\"job\" -> \"db\" [style=dotted, label=\"before\"];"),
        "{files}"
    );
}
