//! A spent budget: somebody is told, once, whatever becomes of the daemon.

use super::host::{Host, until};
use serde_json::json;
use std::fs;

#[test]
fn on_exhausted_exec_runs_once_and_says_why() {
    let mut host = Host::new("exhausted");
    let file = host.path("paged");
    let page = format!("echo $VITALD_SERVICE: $VITALD_REASON >> {file}");
    let text = format!(
        "exec = ['sh', '-c', 'exit 3']\n[retry_policy]\nmax_attempts = 1\ndelay_ms = 10\n\
         on_exhausted_exec = ['sh', '-c', '{page}']\n"
    );
    host.define("web", &text);
    host.start();
    host.until("web", "failed", |s| s.state == "failed");
    let paged = || fs::read_to_string(&file).unwrap_or_default();
    until("somebody is told", || !paged().is_empty());
    host.kill();
    host.start();
    host.until("web", "failed still", |s| s.state == "failed");
    assert_eq!(paged(), "web: exit code 3\n");
    // A fresh budget is another exhaustion.
    host.call("service.start", &json!({"name": "web"}));
    until("somebody is told again", || paged().lines().count() == 2);
}
