//! Restarts that do not cure: with what it requires, and at last stopped; counted over the daemon's
//! death.

use super::host::{Host, alive};

#[test]
fn what_restarts_do_not_cure_is_restarted_with_what_it_requires_and_then_stopped() {
    let mut host = Host::new("ladder");
    host.define("db", "exec = ['sleep', '1000']\n");
    host.define(
        "web",
        "exec = ['sleep', '1000']\nrequires = ['db']\nstart_timeout_ms = 400\n\
         [retry_policy]\nmax_attempts = 20\ndelay_ms = 200\nbackoff = 'fixed'\njitter = 0\n\
         escalate = [\n\
         { after_uncured = 2, action = 'restart-with', service = 'db' },\n\
         { after_uncured = 3, action = 'stop' },\n]\n\
         [[probe]]\ntype = 'exec'\ntarget = 'false'\ninterval_ms = 100\n",
    );
    host.start();
    let db = host.up("db");
    host.until("web", "its second run", |s| s.run >= 2);
    host.kill();
    host.start();
    let again = host.up_again("db", db.run + 1);
    assert_eq!((again.run, again.attempts), (2, 0));
    assert!(!alive(db.pid.expect("a pid")));
    let failed = host.until("web", "failed", |s| s.state == "failed");
    assert_eq!((failed.run, failed.attempts), (4, 3));
    let detail = failed.detail.unwrap_or_default();
    assert!(
        detail.contains("3 restarts in a row did not cure it"),
        "{detail}"
    );
    let decisions = host.decisions("web");
    let last = decisions.last().expect("a decision");
    assert!(
        last.detail
            .starts_with("3 uncured in a row: stop (not ready"),
        "{last:?}"
    );
    let with = host.decisions("db");
    assert_eq!(with.len(), 1, "{with:?}");
    assert_eq!(with[0].detail, "with web, 2 uncured in a row");
    assert_eq!(host.status("db").run, 2);
}
