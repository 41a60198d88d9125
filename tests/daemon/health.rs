//! Health: servers that are alive and do not work are found by the right probe, told apart,
//! restarted within the budget, and seen healthy again.

use super::host::{Host, alive, is_up, send};
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::Duration;
use vitald::engine::status::Status;

const QUICK: &str = "[retry_policy]\ndelay_ms = 10\njitter = 0\n";

/// A server that is told by `mode` to misbehave in its first run: what the decision says, and how
/// the second run is.
fn healed(host: &Host, name: &str, reason: &str) -> Status {
    let status = host.up_again(name, 2);
    assert_eq!((status.run, status.attempts), (2, 1), "{name}");
    let end = status.last_end.as_ref().expect("an end");
    assert_eq!(end.cause, "unhealthy", "{name}");
    let decisions = host.decisions(name);
    let allowed = decisions.iter().find(|d| d.to == "allowed");
    let allowed = allowed.unwrap_or_else(|| panic!("{name}: {decisions:#?}"));
    assert_eq!((allowed.cause.as_str(), allowed.run), ("unhealthy", 1));
    assert!(
        allowed.detail.contains(reason),
        "{name}: {}",
        allowed.detail
    );
    host.until(name, "known to be cured", |_| {
        host.decisions(name).iter().any(|d| d.cured == Some(true))
    });
    status
}

/// Issue: the main job, and the end-to-end list's servers that accept and never answer, that close
/// without a byte, and whose socket file is gone while they listen. Conformance 1, 2, 6.
#[test]
fn each_way_of_not_working_is_found_named_and_healed() {
    let mut host = Host::new("ways");
    let servers = ["mute", "empty", "ill", "gone"].map(|name| (name, host.server(name)));
    for (name, server) in &servers {
        host.define(
            name,
            &format!("{}{QUICK}{}", server.exec(), server.probe("")),
        );
    }
    let tcp = host.tcp_server("tcp");
    host.define("tcp", &format!("{}{QUICK}{}", tcp.exec(), tcp.probe("")));
    host.start();
    let first: Vec<Status> = servers.iter().map(|(name, _)| host.up(name)).collect();
    let tcp_first = host.up("tcp");
    let [mute, empty, ill, _] = &servers;
    mute.1.tell(1, "mute");
    empty.1.tell(1, "empty");
    ill.1.tell(1, "status 503 Service Unavailable");
    tcp.tell(1, "mute");
    std::fs::remove_file(host.path("gone.sock")).expect("unlink");
    healed(&host, "mute", "timeout");
    healed(&host, "empty", "empty reply");
    healed(&host, "ill", "status 503");
    healed(&host, "gone", "socket path missing");
    healed(&host, "tcp", "timeout");
    for before in first.iter().chain([&tcp_first]) {
        let now = host.status(&before.name);
        assert_ne!(now.pid, before.pid, "{}", before.name);
        assert!(!alive(before.pid.expect("a pid")), "{}", before.name);
    }
    let (code, out, _) = host.cli(&["why", "mute"]);
    assert_eq!(code, 0);
    assert!(out.contains("timeout") && out.contains("cured"), "{out}");
}

/// End-to-end list: one that is SIGSTOPped: found by its silence, ended by SIGTERM because it is
/// continued. Conformance 26.
#[test]
fn a_stopped_server_is_found_and_ended_because_it_is_continued() {
    let host = Host::new("sigstop");
    let server = host.server("web");
    host.define(
        "web",
        &format!("{}{QUICK}{}", server.exec(), server.probe("")),
    );
    let mut host = host;
    host.start();
    let pid = host.up("web").pid.expect("a pid");
    send(pid, Signal::SIGSTOP);
    let status = healed(&host, "web", "timeout");
    let end = status.last_end.expect("an end");
    assert_eq!(end.signal.as_deref(), Some("SIGTERM"));
}

/// Conformance 6, refused: the process lives, its port does not.
#[test]
fn a_server_whose_port_is_closed_is_refused() {
    let host = Host::new("refused");
    let server = host.tcp_server("web");
    // It never listens at all in its first run.
    let exec = "exec = ['sleep', '1000']\n";
    host.define(
        "web",
        &format!("{exec}{QUICK}{}", server.probe("on_unhealthy = 'observe'")),
    );
    let mut host = host;
    host.start();
    let status = host.until("web", "observed down", |s| s.probes[0].up == Some(false));
    assert_eq!(
        status.probes[0].reason.as_deref(),
        Some("connection refused")
    );
    assert_eq!((status.run, status.state.as_str()), (1, "running"));
}

/// Conformance 23b: an observing probe is down, then a restarting one: restarted; by the observing
/// one alone, never. Several probes of one service are told apart.
#[test]
fn an_observing_probe_is_shown_and_moves_nothing() {
    let mut host = Host::new("observe");
    let server = host.server("web");
    let missing = host.path("missing.sock");
    let text = format!(
        "{}{QUICK}{}[[probe]]\ntype = 'unix'\nname = 'side'\ntarget = '{missing}'\n\
         interval_ms = 100\ntimeout_ms = 100\nfailure_threshold = 1\non_unhealthy = 'observe'\n",
        server.exec(),
        server.probe("name = 'main'")
    );
    host.define("web", &text);
    host.start();
    let shadow = |s: &Status| {
        s.probes
            .iter()
            .any(|p| p.name == "side" && p.shadow_attempts > 0)
    };
    let status = host.until("web", "observing", |s| is_up(s) && shadow(s));
    assert_eq!((status.run, status.attempts), (1, 0));
    let side = status
        .probes
        .iter()
        .find(|p| p.name == "side")
        .expect("side");
    assert_eq!(side.reason.as_deref(), Some("socket path missing"));
    assert_eq!(
        (side.up, side.on_unhealthy.as_str()),
        (Some(false), "observe")
    );
    server.tell(1, "mute");
    healed(&host, "web", "main: timeout");
}

/// Conformance 4: what the probe sends; Host as configured, our name, and no proxy although the
/// daemon's environment names one.
#[test]
fn a_probe_sends_what_it_should_and_goes_through_no_proxy() {
    let mut host = Host::new("headers");
    let server = host.tcp_server("web");
    let more = "headers = { Host = 'shop.example', X-Ask = 'how' }\nexpect_body = 'X-Ask: how'\n";
    host.define(
        "web",
        &format!("{}{QUICK}{}", server.exec(), server.probe(more)),
    );
    server.tell(1, "echo");
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        // Nobody listens there.
        host.set_env(name, "http://127.0.0.1:9");
    }
    host.start();
    let status = host.up("web");
    let request = status.probes[0].output.as_deref().expect("the request");
    assert!(request.contains("GET /healthz HTTP/1.1\n"), "{request}");
    assert!(request.contains("Host: shop.example\n"), "{request}");
    assert!(
        request.to_lowercase().contains("user-agent: vitald"),
        "{request}"
    );
}

/// Issue: names are resolved outside the loop. One that is known is asked; one that is not is our
/// trouble and no reason to restart.
#[test]
fn a_name_is_resolved_and_an_unknown_one_restarts_nothing() {
    let mut host = Host::new("names");
    let server = host.tcp_server("web");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let text = format!(
        "{}{QUICK}[[probe]]\ntype = 'tcp'\nname = 'known'\ntarget = 'localhost:{port}'\n\
         interval_ms = 2000\ntimeout_ms = 2000\nstart_interval_ms = 50\n\
         [[probe]]\ntype = 'http'\nname = 'unknown'\ntarget = 'http://no-such-host.invalid/'\n\
         interval_ms = 30000\ntimeout_ms = 30000\nfailure_threshold = 1\nstart_interval_ms = 50\n",
        server.exec(),
    );
    host.define("web", &text);
    host.start();
    let tried = |s: &Status| s.probes.iter().all(|p| p.outcome.is_some());
    let status = host.until("web", "asked", tried);
    let [known, unknown] = status.probes.as_slice() else {
        panic!("{status:#?}");
    };
    assert_eq!(known.outcome.as_deref(), Some("pass"));
    assert_eq!(unknown.outcome.as_deref(), Some("inconclusive"));
    let reason = unknown.reason.as_deref().unwrap_or_default();
    assert!(
        reason.contains("cannot resolve no-such-host.invalid"),
        "{reason}"
    );
    assert_eq!((status.run, status.attempts), (1, 0));
}

/// Conformance 13: a probe run by hand on a stopped service gives an answer and moves nothing.
#[test]
fn a_probe_by_hand_answers_and_moves_nothing() {
    let mut host = Host::new("by-hand");
    let server = host.server("web");
    host.define(
        "web",
        &format!("{}{QUICK}{}", server.exec(), server.probe("")),
    );
    host.start();
    host.up("web");
    let answer = host.call("probe.run", &json!({"name": "web"}));
    assert_eq!(answer["probes"][0]["outcome"], "pass", "{answer}");
    host.wait("stop", "web");
    let before = host.why("web").story.len();
    let answer = host.call("probe.run", &json!({"name": "web", "probe": "http"}));
    assert_eq!(answer["probes"][0]["outcome"], "fail", "{answer}");
    let status = host.status("web");
    assert_eq!(
        (status.state.as_str(), status.health.as_deref()),
        ("inactive", Some("unknown"))
    );
    assert_eq!(host.why("web").story.len(), before);
    let (code, out, _) = host.cli(&["probe", "run", "web"]);
    assert_eq!(code, 1, "{out}");
}

/// End-to-end list: the daemon stopped for some seconds, then continued: not one service is
/// restarted for it. The services answer all the time; the outcomes that the daemon slept over are
/// no failures.
#[test]
fn after_the_daemon_itself_was_stopped_nothing_is_restarted() {
    let mut host = Host::new("starved");
    let names = ["a", "b", "c", "d"];
    for name in names {
        let server = host.server(name);
        host.define(
            name,
            &format!("{}{QUICK}{}", server.exec(), server.probe("")),
        );
    }
    host.start();
    for name in names {
        host.up(name);
    }
    // The time that passes is what this test is about: far longer than any probe may take.
    send(host.pid(), Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(3));
    send(host.pid(), Signal::SIGCONT);
    for name in names {
        let after = host.status(name);
        let passed = |s: &Status| is_up(s) && s.probes[0].streak >= 3;
        let status = host.until(name, "asked thrice since", passed);
        assert_eq!((status.run, status.attempts), (1, 0), "{after:#?}");
    }
    assert!(host.daemon().late_turns > 0);
}
