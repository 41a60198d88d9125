//! Dossiers: what a service is stuck on is looked at before it is stopped for its health, told in a
//! line, kept; and whatever becomes of who looks, or of the daemon, the stop goes on.

use super::host::{Host, Server, process, root, send, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use vitald::control::dossier::{Dossier, Dossiers};
use vitald::engine::status::{DossierStatus, Status};

const POLICY: &str = "[retry_policy]\nmax_attempts = 'unlimited'\ndelay_ms = 10\n\
                      backoff = 'fixed'\njitter = 0\nstability_period_ms = 1\n";

fn define(host: &Host, name: &str, server: &Server, more: &str) {
    let text = format!("{}{more}\n{POLICY}{}", server.exec(), server.probe(""));
    host.define(name, &text);
}

fn dossier_of(status: &Status) -> &DossierStatus {
    status.dossier.as_ref().expect("a dossier")
}

fn get(host: &Host, id: &str) -> Dossier {
    let mut found = None;
    // The scribe may be at it still.
    until(&format!("the file of {id}"), || {
        found = fs::read(host.path(&format!("state/dossiers/{id}.json"))).ok();
        found.is_some()
    });
    let answer = host.call("dossier.get", &json!({ "id": id }));
    serde_json::from_value(answer).expect("a dossier")
}

/// Stuck, busy and out of descriptors are told apart, in a line; nobody's secrets
/// are told.
#[test]
fn what_a_server_is_stuck_on_is_told_before_it_is_stopped() {
    let mut host = Host::new("dossier");
    let servers = [
        ("stuck", host.tcp_server("stuck")),
        ("burn", host.server("burn")),
        ("full", host.server("full")),
    ];
    for (name, server) in &servers {
        define(&host, name, server, "limits = { nofile = 64 }");
    }
    host.start();
    for (name, server) in &servers {
        host.up(name);
        server.tell(1, name);
    }
    let summaries = servers.each_ref().map(|(name, _)| {
        let status = host.until(name, "looked at", |s| s.dossier.is_some() && s.run > 1);
        dossier_of(&status).clone()
    });
    let [stuck, burn, full] = summaries.each_ref().map(|dossier| &*dossier.summary);
    assert!(
        stuck.contains("accept queue of 127.") && stuck.contains(": stuck"),
        "{stuck}"
    );
    assert!(burn.contains("whole CPU"), "{burn}");
    assert!(burn.contains("accept queue of /"), "{burn}");
    assert!(full.contains("out of descriptors, 6"), "{full}");
    if root() {
        assert!(stuck.contains("waits in futex"), "{stuck}");
    }
    for (of, (name, _)) in summaries.iter().zip(&servers) {
        let dossier = get(&host, &of.id);
        assert_eq!((&*dossier.service, dossier.run), (*name, 1));
        assert_eq!((&dossier.summary, &dossier.cut), (&of.summary, &None));
        assert_eq!(dossier.cause, "unhealthy");
        assert!(dossier.reason.contains("timeout"), "{}", dossier.reason);
        let probe = dossier.probes.first().expect("a probe");
        assert_eq!(probe.outcome.as_deref(), Some("fail"));
        let process = dossier.evidence.processes.first().expect("a process");
        assert!(!process.threads.is_empty() && process.rss_kb.is_some());
        let path = host.path(&format!("state/dossiers/{}.json", of.id));
        assert_eq!(
            fs::metadata(&path).expect("stat").permissions().mode() & 0o777,
            0o600
        );
        let text = fs::read_to_string(&path).expect("read");
        // What is in its environment, and in its command line.
        assert!(
            !text.contains(&host.path("modes")) && !text.contains("--nocapture"),
            "{text}"
        );
    }
    let list: Dossiers =
        serde_json::from_value(host.call("dossier.list", &json!({}))).expect("a list");
    assert!(list.dossiers.len() >= 3, "{list:?}");
    let first = list.dossiers.iter().find(|head| head.id == summaries[0].id);
    assert_eq!(first.expect("the first").summary, summaries[0].summary);
    // In words; by the service's name the last one.
    let (code, out, _) = host.cli(&["dossier", "show", "stuck"]);
    assert!(
        code == 0 && out.contains("stuck on") && out.contains("threads") | out.contains("waits"),
        "{out}"
    );
    let (_, out, _) = host.cli(&["dossier", "list", "burn"]);
    assert!(out.contains("burn-") && !out.contains("full-"), "{out}");
    let (_, out, _) = host.cli(&["why", "full"]);
    assert!(
        out.contains("out of descriptors") && out.contains("dossier show full-"),
        "{out}"
    );
    for nonsense in ["nobody", "web-20261129T101359-r3", "../../etc/passwd", ""] {
        let refusal = host.refused("dossier.get", &json!({ "id": nonsense }));
        assert!(refusal.1.contains("no dossier"), "{}", refusal.1);
    }
}

/// The daemon's child that looks at a service, stopped in the midst of it. It may be done before it
/// is found: then the next one.
fn catch_looker(host: &Host) -> i32 {
    let daemon = host.pid();
    let mut caught = None;
    until("who looks", || {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if let Some(pid) = pid.filter(|_| comm == "vitald-look\n")
                && process(pid).is_some_and(|(state, parent)| parent == daemon && state != 'Z')
            {
                send(pid, Signal::SIGSTOP);
                if process(pid).is_some_and(|(state, _)| state != 'Z') {
                    caught = Some(pid);
                }
            }
        }
        caught.is_some()
    });
    caught.unwrap_or_default()
}

fn mute(host: &Host, timeout_ms: u64) {
    let server = host.tcp_server("web");
    define(
        host,
        "web",
        &server,
        &format!("start_timeout_ms = 500\ndossier_timeout_ms = {timeout_ms}"),
    );
    for run in 1..100 {
        server.tell(run, "mute");
    }
}

/// A helper that hangs only makes the dossier shorter.
#[test]
fn who_looks_may_hang() {
    let mut host = Host::new("dossier-hangs");
    mute(&host, 1500);
    host.start();
    catch_looker(&host);
    let run = host.status("web").run;
    let status = host.until("web", "restarted", |s| s.run > run);
    let looked = host.until("web", "told", |s| {
        s.dossier.as_ref().is_some_and(|d| d.run == run)
    });
    let dossier = get(&host, &dossier_of(&looked).id);
    assert_eq!(dossier.cut.as_deref(), Some("its time was up"));
    assert!(!dossier.probes.is_empty() && status.run > run);
}

/// Nor does an operator wait for it.
#[test]
fn an_operator_does_not_wait_for_it() {
    let mut host = Host::new("dossier-stop");
    mute(&host, 3_600_000);
    host.start();
    catch_looker(&host);
    host.until("web", "looked at", |s| {
        s.phase.as_deref() == Some("evidence")
    });
    host.wait("stop", "web");
    assert_eq!(host.status("web").state, "inactive");
}

/// The daemon dies with who looks; the next one looks again, and goes on.
#[test]
fn it_is_looked_at_again_after_the_daemons_death() {
    let mut host = Host::new("dossier-death");
    mute(&host, 3_600_000);
    host.start();
    catch_looker(&host);
    let before = host.until("web", "looked at", |s| {
        s.phase.as_deref() == Some("evidence")
    });
    host.kill();
    host.start();
    host.until("web", "restarted", |s| s.run > before.run);
    let looked = host.until("web", "told", |s| s.dossier.is_some());
    assert!(dossier_of(&looked).run >= before.run);
}

/// What it tells when it is asked to stands in the dossier; over the daemon's death it is waited
/// for as long as it may take, and the stop follows.
#[test]
fn it_is_told_to_tell_more() {
    let mut host = Host::new("diagnose");
    let gate = host.path("gate");
    let server = host.tcp_server("web");
    let script = format!("echo diagnosis of $MAINPID; until [ -e {gate} ]; do sleep 0.02; done");
    define(
        &host,
        "web",
        &server,
        &format!("diagnose = ['sh', '-c', '{script}']\ndiagnose_timeout_ms = 3600000"),
    );
    host.start();
    host.up("web");
    server.tell(1, "mute");
    let first = host.until("web", "diagnosed", |s| {
        s.phase.as_deref() == Some("diagnose")
    });
    let pid = first.pid.expect("a pid");
    host.line("web", "the diagnosis", |line| {
        line == format!("diagnosis of {pid}")
    });
    fs::write(&gate, "").expect("write");
    host.until("web", "restarted", |s| s.run > 1);
    let id = dossier_of(&first).id.clone();
    until("the diagnosis in the dossier", || {
        !get(&host, &id).told.is_empty()
    });
    let dossier = get(&host, &id);
    assert_eq!(dossier.diagnose.as_deref(), Some("sh"));
    assert!(
        dossier.told.contains(&format!("diagnosis of {pid}")),
        "{:?}",
        dossier.told
    );

    fs::remove_file(&gate).expect("unlink");
    host.up_again("web", 2);
    server.tell(2, "mute");
    host.until("web", "diagnosed again", |s| {
        s.run == 2
            && s.phase.as_deref() == Some("diagnose")
            && s.dossier.as_ref().is_some_and(|d| d.run == 2)
    });
    host.kill();
    host.start();
    host.until("web", "diagnosed still", |s| {
        s.phase.as_deref() == Some("diagnose")
    });
    fs::write(&gate, "").expect("write");
    assert_eq!(host.up_again("web", 3).run, 3);
}

/// A signal makes some programs tell what they are at.
#[test]
fn a_signal_makes_it_tell_more() {
    let program = "trap 'echo a dump' QUIT; trap 'exit 0' TERM; while :; do sleep 0.02; done";
    let text = format!(
        "exec = ['sh', '-c', \"{program}\"]\ndiagnose = 'SIGQUIT'\ndiagnose_timeout_ms = 3000\n{POLICY}\
         [[probe]]\ntype = 'exec'\ntarget = ['sh', '-c', '[ ! -e down ]']\ninterval_ms = 50\n"
    );
    let mut host = Host::new("diagnose-signal");
    let dir = host.path("");
    host.define("web", &format!("working_dir = '{dir}'\n{text}"));
    host.start();
    host.up("web");
    fs::write(host.path("down"), "").expect("write");
    let status = host.until("web", "looked at", |s| s.dossier.is_some());
    host.line("web", "its dump", |line| line == "a dump");
    fs::remove_file(host.path("down")).expect("unlink");
    host.until("web", "restarted", |s| s.run > 1);
    let id = dossier_of(&status).id.clone();
    until("the dump in the dossier", || {
        get(&host, &id).told.contains(&"a dump".to_owned())
    });
    assert_eq!(get(&host, &id).diagnose.as_deref(), Some("SIGQUIT"));
}

/// Off is off: not a moment is waited, nothing is written.
#[test]
fn none_is_collected_where_none_is_wanted() {
    let mut host = Host::new("dossier-off");
    mute(&host, 0);
    let off = host.tcp_server("other");
    define(&host, "other", &off, "");
    host.settings("dossier_keep = 0\n");
    host.start();
    host.up("other");
    off.tell(1, "mute");
    host.until("web", "restarted", |s| s.run > 1);
    let status = host.up_again("other", 2);
    assert_eq!(status.dossier, None);
    assert!(!std::path::Path::new(&host.path("state/dossiers")).exists());
    let (code, out, _) = host.cli(&["dossier", "list"]);
    assert!(code == 0 && out.contains("no dossiers"), "{out}");
}

/// Issue 5, item 2: whose trouble it is, and what that one was stuck on.
#[test]
fn why_follows_the_trouble_to_where_it_began() {
    let mut host = Host::new("dossier-chain");
    let db = host.tcp_server("db");
    define(&host, "db", &db, "");
    host.define(
        "web",
        "exec = ['sleep', '1000']\nrequires = ['db']\non_dependency = 'restart'\n",
    );
    host.define(
        "front",
        "exec = ['sleep', '1000']\nrequires = ['web']\non_dependency = 'restart'\n",
    );
    host.start();
    host.up("front");
    db.tell(1, "mute");
    host.up_again("front", 2);
    let why = host.why("front");
    let names: Vec<&str> = why.chain.iter().map(|link| &*link.service).collect();
    assert_eq!(names, ["web", "db"], "{:?}", why.chain);
    assert!(why.chain[0].how.contains("was restarted because of it"));
    let db = &why.chain[1];
    assert!(db.trouble.contains("unhealthy"), "{}", db.trouble);
    assert!(
        db.stuck_on
            .as_ref()
            .is_some_and(|words| words.contains("accept")),
        "{db:?}"
    );
    let (_, out, _) = host.cli(&["why", "front"]);
    assert!(
        out.contains("because of\n  web: was restarted because of it"),
        "{out}"
    );
    assert!(
        out.contains("stuck on: ") && out.lines().count() < 40,
        "{out}"
    );
    assert!(host.why("db").chain.is_empty());
}

/// Names of files and threads are a service's to choose: they move no cursor, and write no line of
/// the daemon's log. And a command that could not be executed has told nothing, which is said.
#[test]
fn what_a_service_chose_its_names_to_be_is_told_in_one_line() {
    let mut host = Host::new("dossier-names");
    let fifo = host.path("a\x1b[31m\nvitald: all is well");
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(fifo.as_str(), mode).expect("a FIFO");
    let text = format!(
        "exec = ['sh', '-c', 'exec 3<> \"$FIFO\"; while :; do read x <&3; done']\n\
         env = {{ FIFO = {} }}\ndiagnose = '/no/such/tool'\n{POLICY}\
         [[probe]]\ntype = 'exec'\ntarget = ['sh', '-c', '[ ! -e {} ]']\ninterval_ms = 50\n",
        json!(fifo),
        host.path("down")
    );
    host.define("web", &text);
    host.start();
    host.up("web");
    fs::write(host.path("down"), "").expect("write");
    let status = host.until("web", "looked at", |s| s.dossier.is_some());
    fs::remove_file(host.path("down")).expect("unlink");
    let found = dossier_of(&status);
    if root() {
        assert!(
            found.summary.contains("a\\u{1b}[31m vitald: all is well"),
            "{}",
            found.summary
        );
    }
    until("why nothing was told", || {
        let told = get(&host, &found.id).told;
        told.iter()
            .any(|line| line.contains("exec /no/such/tool: No such file"))
    });
    let said = host.said();
    assert!(!said.contains('\x1b'), "{said}");
    assert!(
        !said
            .lines()
            .any(|line| line.starts_with("vitald: all is well")),
        "{said}"
    );
}
