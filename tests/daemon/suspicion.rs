//! What has been seen of a service that is not down yet outlives the daemon: failures in a row, the
//! window, the pace at which it is asked meanwhile.

use super::host::{Host, executable};
use super::upgrade::upgrade;
use std::fs;

/// Of each four answers the first passes. After the third nobody can ask any more, which counts as
/// nothing, until the test lets it.
const PROBE: &str = "#!/bin/sh
n=$(wc -l < DIR/asked)
echo >> DIR/asked
case $((n % 4)) in
0) exit 0 ;;
2) mv DIR/probe DIR/off ;;
esac
exit 1
";

/// Three failures among three answers take it down: two were seen by the one daemon, the third is by
/// the next; and once more by an upgrade.
#[test]
fn two_daemons_see_one_window() {
    let mut host = Host::new("suspicion");
    let probe = host.path("probe");
    let dir = probe.strip_suffix("/probe").expect("its directory");
    executable(&probe, &PROBE.replace("DIR", dir));
    fs::write(host.path("asked"), "").expect("write");
    host.define(
        "web",
        &format!(
            "exec = ['sleep', '1000']\n[retry_policy]\ndelay_ms = 0\nstability_period_ms = 1\n\
             [[probe]]\ntype = 'exec'\ntarget = ['{probe}']\ninterval_ms = 8000\ntimeout_ms = 8000\n\
             confirm_interval_ms = 50\nfailure_threshold = 50\n\
             failure_window = {{ failures = 3, of = 3 }}\n"
        ),
    );
    host.start();
    for run in 1..=2 {
        let before = host.until("web", "no longer asked", |s| {
            let outcome = s.probes[0].outcome.as_deref();
            s.run == run && outcome == Some("inconclusive")
        });
        assert_eq!(before.probes[0].streak, -2, "{before:#?}");
        match run {
            1 => {
                host.kill();
                host.start();
            }
            _ => upgrade(&host),
        }
        let after = host.status("web");
        assert_eq!((after.pid, after.probes[0].streak), (before.pid, -2));
        fs::rename(host.path("off"), &probe).expect("rename");
        let next = host.up_again("web", run + 1);
        assert_eq!((next.run, next.attempts), (run + 1, run));
        let why = host.decisions("web");
        let last = why.iter().rfind(|line| line.to == "allowed");
        let words = &last.expect("a decision").detail;
        assert!(words.contains("3 of its last 3 answers failed"), "{words}");
    }
}
