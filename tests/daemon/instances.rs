//! Templates and their instances, as a user meets them.

use super::host::{Host, alive, until};
use super::upgrade::upgrade;
use serde_json::json;

/// Says what it is, and stays.
const WORKER: &str = "exec = ['sh', '-c', 'echo I am $0 of $1; exec sleep 1000', '%i', '%n']\n";

fn refusal(host: &Host, verb: &str, name: &str) -> String {
    host.refused(verb, &json!({ "name": name })).1
}

#[test]
fn an_instance_that_an_operator_started_is_there_until_it_is_stopped() {
    let mut host = Host::new("instances");
    host.define("worker@", WORKER);
    host.start();
    assert_eq!(
        refusal(&host, "service.start", "worker@"),
        "`worker@` is a template, no service: name an instance, as in `worker@1`"
    );
    assert_eq!(
        refusal(&host, "service.status", "worker@7"),
        "there is no `worker@7` yet: `start worker@7` makes it of services/worker@.toml"
    );
    let long = format!("worker@{}", "7".repeat(80));
    let words = refusal(&host, "service.start", &long);
    assert!(words.contains("at most 64"), "{words}");
    let words = refusal(&host, "service.start", "worker@a/b");
    assert!(words.contains("has `/`"), "{words}");
    host.wait("start", "worker@7");
    host.line("worker@7", "its name", |line| {
        line.ends_with("I am 7 of worker@7")
    });
    let first = host.status("worker@7").pid.expect("a pid");
    // Over the daemon's death, and over an upgrade: the same process.
    host.kill();
    host.start();
    assert_eq!(host.status("worker@7").pid, Some(first));
    upgrade(&host);
    assert_eq!(host.status("worker@7").pid, Some(first));
    host.wait("start", "worker@8");
    // The next boot.
    host.call("system.shutdown", &json!({}));
    host.ended();
    std::fs::remove_dir_all(host.path("run")).expect("remove");
    host.start();
    let second = host.up("worker@7").pid.expect("a pid");
    assert!(second != first && alive(second));
    // A reload keeps what is wanted, and forgets what nobody wants.
    host.wait("stop", "worker@7");
    let plan = host.call("system.reload", &json!({}))["plan"].clone();
    assert_eq!(plan["steps"][0]["service"], "worker@7", "{plan}");
    assert_eq!(plan["steps"][0]["action"], "remove", "{plan}");
    refusal(&host, "service.status", "worker@7");
    host.up("worker@8");
    host.wait("start", "worker@7");
}

#[test]
fn a_template_concerns_each_of_its_instances() {
    let mut host = Host::new("template");
    host.define("worker@", &format!("instances = ['1', '2']\n{WORKER}"));
    host.define("web", "exec = ['sleep', '1000']\nrequires = ['worker@3']\n");
    host.start();
    let pids: Vec<i32> = ["worker@1", "worker@2", "worker@3", "web"]
        .iter()
        .map(|name| host.up(name).pid.expect("a pid"))
        .collect();
    // One has its own file now, the others another program, and one is gone.
    host.define("worker@1", "exec = ['sleep', '1000']\n");
    host.define("worker@", &format!("env = {{ NEW = 'of %i' }}\n{WORKER}"));
    let asked = json!({ "dry_run": true });
    let plan = host.call("system.reload", &asked)["plan"].clone();
    let steps: Vec<String> = plan["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| format!("{} {}", step["action"], step["service"]).replace('"', ""))
        .collect();
    assert_eq!(
        steps,
        [
            "none web",
            "restart worker@1",
            "remove worker@2",
            "restart worker@3"
        ],
        "{plan}"
    );
    host.call("system.reload", &json!({}));
    until("all are what they are to be", || {
        let pid = |name: &str| host.status(name).pid;
        !alive(pids[1])
            && pid("worker@3").is_some_and(|pid| pid != pids[2])
            && pid("worker@1").is_some_and(|pid| pid != pids[0])
    });
    assert_eq!(host.status("web").pid, Some(pids[3]));
    // What a refused reload has read is not used.
    host.define("worker@", "exec = ['sleep', '%']\n");
    host.refused("system.reload", &json!({ "strict": true }));
    host.wait("start", "worker@9");
    host.line("worker@9", "its name", |line| {
        line.ends_with("I am 9 of worker@9")
    });
    // What one that is not refused has read is: it cannot be used.
    host.refused("system.reload", &json!({}));
    let words = refusal(&host, "service.start", "worker@10");
    assert!(
        words.starts_with("worker@10 cannot be made of services/worker@.toml: it cannot be used\n")
            && words.contains("services/worker@.toml:1:18: `%` means nothing in a template"),
        "{words}"
    );
    let status = host.status("worker@9");
    assert!(
        status.pid.is_some_and(alive),
        "the previous definition stays"
    );
    let (code, said, _) = host.cli(&["check", "--config-dir", &host.path("config")]);
    assert_eq!(code, 1, "{said}");
    assert_eq!(said.matches("means nothing").count(), 1, "{said}");
}
