//! What a host does when a service is beyond healing: its watchdog, a reboot in order, and the guards
//! against doing so for ever. The state directory is on a disk that outlives the resets.

use super::machine::Machine;
use super::{define, orders, prepared, shell};

/// Loads the watchdog, mounts the disk, and becomes vitald.
const INIT: &str = "#!/bin/sh
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module; done
at=/var/lib/vitald
mount -t ext4 /dev/nvme0n1 $at 2> /dev/null ||
  { mke2fs /dev/nvme0n1 > /dev/null 2>&1; mount -t ext4 /dev/nvme0n1 $at; }
exec /sbin/init
";

#[test]
fn a_host_is_rebooted_and_reset_for_a_service_and_not_for_ever() {
    let Some((parts, mut archive)) = prepared() else {
        return;
    };
    assert!(
        !parts.modules.is_empty(),
        "no modules; contrib/vm/fetch brings them"
    );
    for module in &parts.modules {
        let name = module.file_name().expect("a name").to_string_lossy();
        let bytes = std::fs::read(module).expect("a module");
        archive.file(&format!("modules/{name}"), 0o644, &bytes);
    }
    for applet in ["insmod", "mke2fs", "date", "grep"] {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.dir("var/lib/vitald");
    archive.link("sbin/init", "../bin/vitald");
    archive.file("init", 0o755, INIT.as_bytes());
    let settings = b"boot_attempts = 1\nboot_ok_after_ms = 600000\n[watchdog]\ntimeout_ms = 6000\n";
    archive.file("etc/vitald/vitald.toml", 0o644, settings);
    define(
        &mut archive,
        "orders",
        &format!("safe = true\n{}", orders()),
    );
    let policy = "[retry_policy]\nmax_attempts = 1\ndelay_ms = 100\n";
    let vital = shell("echo vital: started; until [ -e /run/bad ]; do sleep 0.2; done; exit 1");
    define(
        &mut archive,
        "vital",
        &format!("critical = true\n{vital}{policy}"),
    );
    let fragile = format!(
        "exec = ['sh', '-c', 'exit 1']\nautostart = false\n{policy}on_exhausted = 'reboot'\n"
    );
    define(&mut archive, "fragile", &fragile);
    let mut machine = Machine::with(&parts, "guards", &archive.finish(), Some(16));

    // Fed, for longer than the watchdog waits.
    machine.lines(&["3 definitions", "orders: here"]);
    machine.order("vitald info; sleep 8; echo still: here");
    machine.lines(&["watchdog", "still: here"]);

    // A reboot for a service, in order; two were counted before.
    machine.order("for n in 1 2; do echo $(date +%s)000 >> /var/lib/vitald/reboots; done");
    machine.order("vitald start fragile");
    machine.lines(&[
        "the host is rebooted: fragile has used up its budget",
        "the machine is rebooted",
        "3 definitions",
        "orders: here",
    ]);

    // That did not help: no more of it.
    machine.order("vitald start fragile");
    machine.line("fragile is left as it is: the host was rebooted 3 times within 1 d");

    // What is critical is lost: the watchdog is not fed, and resets the host.
    machine.order("echo > /run/bad");
    machine.line("the host is reset in about");

    // A boot that did not end in order: only what is safe is started.
    machine.lines(&["SAFE MODE", "3 definitions", "orders: here"]);
    machine.order("vitald status vital | grep -q inactive && echo vital: left out");
    machine.line("vital: left out");
    machine.order("vitald poweroff");
    machine.line("the machine is powered off");
    let said = machine.is_off();
    assert_eq!(said.matches("vital: started").count(), 3, "{said}");
}
