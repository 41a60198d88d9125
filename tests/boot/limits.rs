//! Cgroups where their controllers are: limits in force, an end for want of memory, who hides.

use super::machine::Machine;
use super::{define, orders, prepared, shell};

const LEAVES: &str = "/sys/fs/cgroup/vitald";

#[test]
fn limits_are_in_force_and_nobody_hides() {
    let Some((parts, mut archive)) = prepared() else {
        return;
    };
    for applet in ["dd", "env", "grep", "setsid", "touch", "wc"] {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    // The first run takes more than it may have; the others do not.
    let hungry = "if [ -e /run/ate ]; then echo hungry: again; exec sleep 1000; fi; touch /run/ate
                  exec dd if=/dev/zero of=/dev/null bs=96M count=1";
    let keys = "memory_max = '48M'\n[retry_policy]\ndelay_ms = 100\n";
    define(&mut archive, "hungry", &format!("{}{keys}", shell(hungry)));
    // Its shell, another, a sleeper: the fourth is refused, in the service.
    let many = "(sleep 1000 & sleep 1000 & sleep 1000 & echo many: all) || echo many: refused
                exec sleep 1000";
    let text = format!("{}pids_max = 3\n", shell(many));
    define(&mut archive, "many", &text);
    let keys = "cpu_max = '20%'\ncpu_weight = 200\n";
    let text = format!("{}{keys}", shell("while :; do :; done"));
    define(&mut archive, "busy", &text);
    let hider = "(setsid env -i /bin/sh -c 'echo $$ > /run/hidden; exec /bin/sleep 1000' &)
                 exec sleep 1000";
    define(&mut archive, "hider", &shell(hider));
    // A daemon below a daemon: it leaves the cgroup that is to hand controllers on.
    let second = "exec vitald run --config-dir /etc/second --state-dir /run/second-state
                  --runtime-dir /run/second";
    let text = shell(&second.replace('\n', " "));
    define(&mut archive, "second", &text);
    let inner = b"exec = 'sleep 1000'\nmemory_max = '32M'\npids_max = 7\n";
    archive.file("etc/second/services/inner.toml", 0o644, inner);
    define(&mut archive, "orders", &orders());
    let mut machine = Machine::boot(&parts, "limits", &archive.finish());
    machine.line("orders: here");

    // Killed as a whole, told as what it is, started again within its budget.
    machine.order("while ! [ -e /run/ate ]; do sleep 0.1; done");
    machine.order("while ! vitald status hungry | grep -q 'run 2'; do sleep 0.2; done");
    machine.order("vitald status hungry; vitald why hungry; vitald status --json hungry");
    machine.line("signal SIGKILL, killed by the kernel, out of memory");
    machine.line("out of memory (memory_max = 48M)");
    machine.line("\"cause\":\"memory\"");
    machine.order(&format!(
        "cat {LEAVES}/hungry/memory.max {LEAVES}/hungry/memory.oom.group"
    ));
    machine.lines(&["50331648", "1"]);
    machine.order("vitald status hungry");
    machine.line("MB of memory, 1 process, ");
    machine.line(&format!("cgroup {LEAVES}/hungry"));

    machine.order(&format!(
        "echo pids $(cat {LEAVES}/many/pids.max); grep max {LEAVES}/many/pids.events"
    ));
    machine.line("pids 3");
    let refused = machine.line("max ");
    assert_ne!(refused, "max 0");

    machine.order(&format!(
        "while grep -q '^nr_throttled 0' {LEAVES}/busy/cpu.stat; do sleep 0.1; done
         echo cpu $(cat {LEAVES}/busy/cpu.max {LEAVES}/busy/cpu.weight)"
    ));
    machine.line("cpu 20000 100000 200");

    machine.order("while ! [ -s /run/hidden ]; do sleep 0.1; done; vitald stop hider --wait");
    machine.order("[ -e /proc/$(cat /run/hidden) ] && echo hidden: lives || echo hidden: gone");
    machine.line("hidden: gone");

    let second = format!("{LEAVES}/second");
    machine.order(&format!(
        "while ! grep -q . {second}/vitald-*/inner/cgroup.procs; do sleep 0.2; done"
    ));
    machine.order(&format!(
        "cd {second}; echo inner $(cat vitald-*/inner/memory.max vitald-*/inner/pids.max)
         echo daemons $(wc -l < vitald-daemon/cgroup.procs), here $(wc -l < cgroup.procs); cd /"
    ));
    // The daemon and its scribe.
    machine.lines(&["inner 33554432 7", "daemons 2, here 0"]);
    machine.order("vitald stop second --wait");
    machine.order(&format!("grep populated {second}/cgroup.events"));
    machine.line("populated 0");

    machine.order("vitald info");
    machine.line(&format!("cgroups   {LEAVES}"));
    machine.order("/sbin/poweroff");
    machine.line("the machine is powered off");
    machine.is_off();
}
