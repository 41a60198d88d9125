//! The boot-loop guard, in a container that counts its boots as a host does.

use super::host::{Host, until};
use super::init::{Container, possible};
use serde_json::json;
use std::fs;
use vitald::engine::status::DaemonStatus;

fn host(test: &str, settings: &str) -> Host {
    let host = Host::new(test);
    fs::write(
        host.path("config/vitald.toml"),
        format!("boot_guard = 'always'\n{settings}"),
    )
    .expect("write");
    host.define("web", "exec = ['sleep', '1000']\n");
    host.define("net", "exec = ['true']\nkind = 'oneshot'\n");
    host.define(
        "ssh",
        "exec = ['sleep', '1000']\nrequires = ['net']\nsafe = true\n",
    );
    host
}

fn safe_mode(container: &Container) -> Option<String> {
    let status = container.call("system.status").expect("a status");
    let status: DaemonStatus = serde_json::from_value(status).expect("a status");
    status.safe_mode
}

fn counted(container: &Container) -> String {
    fs::read_to_string(container.host.path("state/boots")).unwrap_or_default()
}

#[test]
fn after_boots_that_failed_only_the_safe_set_starts_until_an_end_in_order() {
    if !possible() {
        return;
    }
    let host = host(
        "boot-loop",
        "boot_attempts = 2\nboot_ok_after_ms = 600000\n",
    );
    let mut container = Container::start(host, &[]);
    for boot in ["1\n", "2\n"] {
        container.host.up("web");
        assert_eq!(counted(&container), boot);
        assert_eq!(safe_mode(&container), None);
        container.reset();
    }
    container.host.up("ssh");
    assert_eq!(container.host.status("net").state, "exited");
    let web = container.host.status("web");
    assert_eq!(
        (&*web.state, &*web.wanted, web.run),
        ("inactive", "start", 0)
    );
    let words = safe_mode(&container).expect("safe mode");
    assert!(words.starts_with("the last 2 boots failed"), "{words}");
    for shown in [
        container.host.cli(&["status"]).1,
        container.host.cli(&["info"]).1,
        container.host.said(),
    ] {
        assert!(shown.contains("the last 2 boots failed"), "{shown}");
    }
    // What an operator starts is started; and it is the boot's, not the daemon's.
    container
        .host
        .call("service.start", &json!({"name": "web"}));
    container.host.up("web");
    container.host.call("system.upgrade", &json!({}));
    assert!(safe_mode(&container).is_some());
    container.host.call("system.shutdown", &json!({}));
    assert!(container.ended().success());
    assert_eq!(counted(&container), "0\n");
    container.again();
    container.host.up("web");
    assert_eq!(safe_mode(&container), None);
}

#[test]
fn a_boot_that_was_well_does_not_count() {
    if !possible() {
        return;
    }
    let host = host("boot-well", "boot_attempts = 1\nboot_ok_after_ms = 10\n");
    let mut container = Container::start(host, &[]);
    for _ in 0..2 {
        container.host.up("web");
        assert_eq!(safe_mode(&container), None);
        until("the boot is well", || counted(&container) == "0\n");
        container.reset();
    }
    container.host.up("web");
}

/// Without a state directory that can be written nothing is counted, and all runs.
#[test]
fn a_count_that_cannot_be_written_keeps_nobody_from_his_services() {
    if !possible() {
        return;
    }
    let host = host(
        "boot-count",
        "boot_attempts = 1\nboot_ok_after_ms = 600000\n",
    );
    fs::create_dir_all(host.path("state/boots")).expect("mkdir");
    let mut container = Container::start(host, &[]);
    container.host.up("web");
    assert!(
        container.host.said().contains("the boot-loop guard is off"),
        "{}",
        container.host.said()
    );
    container.reset();
    container.host.up("web");
}
