//! nginx, as Debian packages it, and what may happen to it.

use super::yard::{PACE, POLICY, Yard, yard};
use crate::host::{process, send, until};
use nix::sys::signal::Signal;
use std::fs;
use std::io::Write;

const PROGRAM: &str = "/usr/sbin/nginx";

/// A front that keeps what it fetches from behind it.
fn define(yard: &Yard) {
    let dir = yard.host.path("");
    let config = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {dir}nginx.pid;\nerror_log stderr;\n\
         events {{ worker_connections 12; }}\n\
         http {{\n  access_log {dir}data/access.log;\n  client_header_timeout 600s;\n\
         client_body_temp_path {dir}data/body;\n  proxy_temp_path {dir}data/proxy;\n\
         fastcgi_temp_path {dir}data/fastcgi;\n  uwsgi_temp_path {dir}data/uwsgi;\n\
         scgi_temp_path {dir}data/scgi;\n\
         server {{ listen unix:{dir}behind.sock; location / {{ return 200 'well'; }} }}\n\
         server {{ listen unix:{dir}nginx.sock;\n    location = /plain {{ return 200 'well'; }}\n\
         location / {{ proxy_pass http://unix:{dir}behind.sock; proxy_store {dir}data/kept; }}\n  }}\n}}\n"
    );
    fs::write(yard.host.path("nginx.conf"), config).expect("write");
    yard.host.define(
        "nginx",
        &format!(
            "exec = ['{PROGRAM}', '-e', 'stderr', '-c', '{dir}nginx.conf']\nstop_signal = 'SIGQUIT'\n\
             health_stop_timeout_ms = 1000\nstart_timeout_ms = 3000\n{POLICY}\
             [[probe]]\ntype = 'http'\ntarget = 'unix:{dir}nginx.sock:/'\n{PACE}"
        ),
    );
}

/// The one process that answers.
fn worker(master: i32) -> i32 {
    let mut found = None;
    until("nginx has a worker", || {
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        found = children
            .unwrap_or_default()
            .split_whitespace()
            .next()
            .map(str::to_owned);
        found.is_some()
    });
    found.and_then(|pid| pid.parse().ok()).expect("a pid")
}

#[test]
fn nginx_stopped_and_full_of_connections() {
    let Some(mut yard) = yard("nginx-faults", PROGRAM, 16, "") else {
        return;
    };
    define(&yard);
    yard.host.start();
    // The master lives on, and has a child that does nothing.
    let mut stopped = 0;
    let dossier = yard.healed(
        "nginx",
        "timeout",
        "stopped by a signal (SIGSTOP)",
        |status| {
            stopped = worker(status.pid.expect("a process"));
            send(stopped, Signal::SIGSTOP);
        },
    );
    let named = format!("its process {stopped} nginx is stopped by a signal (SIGSTOP)");
    assert!(dossier.summary.starts_with(&named), "{}", dossier.summary);
    assert!(
        process(stopped).is_none_or(|(state, _)| state == 'Z'),
        "it is gone"
    );

    // Half a request each: they cannot be dropped for others.
    let half = || {
        let mut stream = yard.connect("nginx.sock")?;
        let sent = stream.write_all(b"GET / HTTP/1.1\r\n");
        sent.is_ok().then_some(stream)
    };
    let mut held = Vec::new();
    let dossier = yard.healed("nginx", "http: ", "connections open", |_| {
        held = yard.crowd("nginx", half);
    });
    drop(held);
    let cut = ["connection reset", "empty reply"];
    assert!(
        cut.iter().any(|words| dossier.reason.contains(words)),
        "{}",
        dossier.reason
    );
    let said = "worker_connections are not enough";
    yard.why_says("nginx", &["before it was stopped it wrote", said]);
    assert!(
        dossier.log.iter().any(|line| line.contains(said)),
        "{:#?}",
        dossier.log
    );
}

/// It serves on when its log cannot be written; what it is to keep on the disk it cannot serve.
#[test]
fn nginx_with_a_full_disk() {
    let Some(mut yard) = yard("nginx-disk", PROGRAM, 16, "") else {
        return;
    };
    define(&yard);
    yard.host.start();
    let before = yard.host.up("nginx");
    yard.fill();
    yard.host.until("nginx", "restarted", |s| {
        s.run > before.run && s.dossier.is_some()
    });
    let full = format!("file system {} is full (16 MiB)", yard.host.path("data"));
    let dossier = yard.told("nginx", before.run, "http: ", &full);
    assert!(dossier.summary.starts_with(&full), "{}", dossier.summary);
    assert!(
        dossier
            .log
            .iter()
            .any(|l| l.contains("No space left on device"))
    );
    // A restart is no cure, and that is told.
    yard.why_says("nginx", &["not cured", &full, "not ready within 3 s"]);
    yard.free();
    yard.host.up("nginx");
}
