//! The examples for redis, nginx and PostgreSQL, word for word, with the servers that Debian
//! packages: they get healthy, hang, are healed, reload and stop.
//!
//! Each has a network and a view of the file system of its own (unshare(1)): their ports are free,
//! and nothing of the host's data is touched.

#[path = "servers/nginx.rs"]
mod nginx_faults;
#[path = "servers/postgresql.rs"]
mod postgresql_faults;
#[path = "servers/redis.rs"]
mod redis_faults;
#[path = "servers/yard.rs"]
mod yard;

use super::host::{Host, alive, is_here, root, until};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use vitald::service::state::State;

/// Directories that are empty at first, and the processes' own.
const PRIVATE: &str = "set -e
mount --make-rprivate /
ip link set lo up
for dir in /run /var/log /var/lib; do mount -t tmpfs -o mode=755 tmpfs $dir; done
";

/// A host with this example alone; `prepare` makes what installing the package made. None: the
/// server is not here.
fn host_with(name: &str, program: &str, prepare: &str) -> Option<Host> {
    if !root() || !is_here(program) {
        return None;
    }
    let path = format!(
        "{}/contrib/examples/{name}.toml",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).expect("the example");
    let mut host = Host::new(name);
    host.define(name, &text);
    host.set_within(&format!("{PRIVATE}{prepare}"));
    host.start();
    Some(host)
}

/// Up; the whole group stopped, as if it hung; up again by another run.
fn heals(host: &Host, name: &str) {
    let status = host.up(name);
    let pid = status.pid.expect("a process");
    killpg(Pid::from_raw(pid), Signal::SIGSTOP).expect("stop the group");
    let healed = host.up_again(name, status.run + 1);
    assert_eq!(healed.attempts, 1);
    assert_ne!(healed.pid, Some(pid));
    assert!(!alive(pid), "the one that hung is gone");
    let end = healed.last_end.expect("an end");
    assert_eq!(end.cause, "unhealthy");
}

/// Stops within its time and leaves nothing.
fn stops(host: &Host, name: &str) {
    let pid = host.up(name).pid.expect("a process");
    host.wait("stop", name);
    let status = host.status(name);
    assert_eq!(status.state, State::Inactive.word());
    until("its group is gone", || {
        killpg(Pid::from_raw(pid), None).is_err()
    });
    let end = status.last_end.expect("an end");
    assert_eq!(end.code, Some(0), "by itself, not by SIGKILL: {end:?}");
}

#[test]
fn redis() {
    let prepare = "mkdir -p /var/lib/redis /var/log/redis
chown redis: /var/lib/redis /var/log/redis
";
    let Some(host) = host_with("redis", "/usr/bin/redis-server", prepare) else {
        return;
    };
    let status = host.up("redis");
    // It says so itself, by the other end of NOTIFY_SOCKET.
    let said = status.status_text.unwrap_or_default();
    assert!(said.contains("Ready to accept connections"), "{said}");
    heals(&host, "redis");
    stops(&host, "redis");
}

#[test]
fn nginx() {
    let prepare = "mkdir -p /var/lib/nginx /var/log/nginx\n";
    let Some(host) = host_with("nginx", "/usr/sbin/nginx", prepare) else {
        return;
    };
    heals(&host, "nginx");
    let answer = host.call("system.reload", &serde_json::json!({"name": "nginx"}));
    assert!(answer.to_string().contains("reload_exec done"), "{answer}");
    stops(&host, "nginx");
}

#[test]
fn postgresql() {
    let server = "/usr/lib/postgresql/15/bin/postgres";
    let prepare = "mkdir -p /var/lib/postgresql /var/log/postgresql
chown postgres: /var/lib/postgresql /var/log/postgresql
mount -t tmpfs tmpfs /etc/postgresql
pg_createcluster 15 main >&2
";
    let Some(host) = host_with("postgresql", server, prepare) else {
        return;
    };
    heals(&host, "postgresql");
    host.call("system.reload", &serde_json::json!({"name": "postgresql"}));
    until("it has read its configuration again", || {
        let logs = host.call("logs.tail", &serde_json::json!({"name": "postgresql"}));
        logs.to_string().contains("received SIGHUP")
    });
    stops(&host, "postgresql");
}
