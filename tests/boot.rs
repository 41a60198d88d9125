//! vitald as the first process of a host: a Debian kernel in qemu (software emulation), an
//! initramfs of the static binary, busybox and definitions, and what the serial console says.
//!
//! It boots the binary that VITALD_BIN names, which must be static (contrib/package/build.sh).
//! `contrib/vm/fetch` brings what else it needs. Nothing is waited for by a fixed time.

#[path = "boot/archive.rs"]
mod archive;
#[path = "boot/guards.rs"]
mod guards;
#[path = "boot/limits.rs"]
mod limits;
#[path = "boot/machine.rs"]
mod machine;

use archive::Archive;
use machine::{Machine, Parts};

/// The machine's parts and an archive with the programs; None: passed over.
fn prepared() -> Option<(Parts, Archive)> {
    // The tests without it are repeated with it.
    let Some(binary) = std::env::var_os("VITALD_BIN") else {
        eprintln!("skipped: VITALD_BIN names no static vitald (contrib/package/build.sh)");
        return None;
    };
    let parts = match Parts::find() {
        Ok(parts) => parts,
        Err(missing) => {
            let required = std::env::var("VITALD_TEST_REQUIRE").is_ok_and(|v| v == "1");
            assert!(!required, "{missing}, and VITALD_TEST_REQUIRE=1");
            eprintln!("skipped: {missing}");
            return None;
        }
    };
    let mut archive = Archive::default();
    archive.file(
        "bin/vitald",
        0o755,
        &std::fs::read(binary).expect("the binary"),
    );
    let busybox = std::fs::read(&parts.busybox).expect("busybox");
    archive.file("bin/busybox", 0o755, &busybox);
    for applet in ["sh", "nc", "rm", "cat", "mount", "hostname", "sleep"] {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.link("init", "bin/vitald");
    archive.link("sbin/poweroff", "../bin/vitald");
    Some((parts, archive))
}

fn define(archive: &mut Archive, name: &str, text: &str) {
    let path = format!("etc/vitald/services/{name}.toml");
    archive.file(&path, 0o644, text.as_bytes());
}

/// A shell line as `exec`; what it says goes to the console.
fn shell(line: &str) -> String {
    format!("exec = ['sh', '-c', '''exec > /dev/console; {line}''']\n")
}

/// A shell on the second serial port, for what the test wants to know or to happen.
fn orders() -> String {
    shell(
        "exec < /dev/ttyS1; export NO_COLOR=1; echo orders: here; while read -r line; do eval \"$line\"; done",
    )
}

#[test]
fn a_host_boots_heals_reboots_rescues_and_powers_off() {
    let Some((parts, mut archive)) = prepared() else {
        return;
    };
    // Well when it has said so, not when its shell was merely executed.
    let db = "trap \"echo db: stopped; exit 0\" TERM; echo db: started; echo > /run/db
              while :; do sleep 1 & wait $!; done";
    let probe = "[[probe]]\ntype = 'exec'\ntarget = ['sh', '-c', 'test -e /run/db']\n";
    define(&mut archive, "db", &format!("{}{probe}", shell(db)));
    // A real server that can be made to hang, with its port bound.
    let web = "vitald demo --serve 8080 & server=$!; echo web: started
               trap \"kill $server; echo web: stopped; exit 0\" TERM; wait $server";
    let probe = "[[probe]]\ntype = 'http'\ntarget = 'http://127.0.0.1:8080/'\ninterval_ms = 1000\n\
                 timeout_ms = 1000\nfailure_threshold = 2\n[retry_policy]\ndelay_ms = 100\n\
                 stability_period_ms = 2000\n";
    define(
        &mut archive,
        "web",
        &format!("requires = ['db']\n{}{probe}", shell(web)),
    );
    define(
        &mut archive,
        "orders",
        &format!("{}requires = ['web']\n", orders()),
    );
    archive.file("etc/hostname", 0o644, b"# the test's\nfirstborn\n");
    let mut machine = Machine::boot(&parts, "host", &archive.finish());

    // Up, in order, and each only when what it needs is well.
    machine.lines(&[
        "3 definitions",
        "db: started",
        "web: started",
        "orders: here",
    ]);
    machine.order("vitald status");
    machine.lines(&["3 services, 3 running", "PID 1 of this host"]);
    machine.order("hostname; cat /proc/mounts; echo mounts: all");
    machine.lines(&["firstborn"]);
    for at in [
        "/dev",
        "/proc",
        "/sys",
        "/dev/pts",
        "/dev/shm",
        "/run",
        "/sys/fs/cgroup",
    ] {
        machine.line(&format!(" {at} "));
    }

    // It hangs, and is healed by its probe.
    machine.order("printf 'GET /hang HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 8080");
    machine.lines(&["web: stopped", "web: started"]);
    machine.order("while ! vitald status web; do sleep 0.2; done; vitald why web");
    machine.line("restart allowed       http: timeout");

    // PID 1 adopts orphans and reaps them.
    machine.order("(sh -c 'echo $$ > /run/orphan; sleep 0.1; echo orphan: ends' &)");
    machine.line("orphan: ends");
    // A zombie would still be there.
    machine.order("while [ -e /proc/$(cat /run/orphan) ]; do sleep 0.1; done; echo orphan: reaped");
    machine.line("orphan: reaped");

    // Ctrl-alt-del: what needs is stopped before what is needed, and the machine begins anew.
    machine.press("ctrl-alt-delete");
    machine.lines(&[
        "SIGINT: stopping all services, then the machine is rebooted",
        "web: stopped",
        "db: stopped",
        "the machine is rebooted",
        "3 definitions",
        "web: started",
        "orders: here",
    ]);

    // Where nothing runs there is a shell on the console, with the daemon behind it.
    machine.order("vitald stop web; vitald stop db; vitald stop orders");
    machine.lines(&["web: stopped", "db: stopped", "a rescue shell follows"]);
    machine.types("echo answer: $((6 * 7))");
    machine.line("answer: 42");
    // When it ends for nothing there is another.
    machine.types("exit");
    machine.lines(&["the rescue shell ended", "a rescue shell follows"]);
    machine.types("vitald shutdown; vitald start db");
    machine.lines(&["is PID 1 of this host and never ends", "db: started"]);
    machine.types("/sbin/poweroff");
    machine.lines(&[
        "then the machine is powered off",
        "db: stopped",
        "the machine is powered off",
    ]);
    let said = machine.is_off();
    assert!(!said.contains("cannot be unmounted"), "{said}");
    assert!(!said.contains("early set-up: cannot"), "{said}");
}

/// What cannot start does not panic the kernel: a shell, and another try after it.
#[test]
fn a_host_whose_daemon_cannot_start_has_a_shell() {
    let Some((parts, mut archive)) = prepared() else {
        return;
    };
    define(&mut archive, "orders", &orders());
    // Where its directory should be there is a file, and nothing is mounted over it.
    archive.file("run/vitald", 0o644, b"");
    let settings =
        b"early_setup = 'never'\nrescue_shell = ['/bin/sh', '-c', 'echo of our own; exec sh']\n";
    archive.file("etc/vitald/vitald.toml", 0o644, settings);
    archive.dir("proc");
    let mut machine = Machine::boot(&parts, "rescue", &archive.finish());
    machine.lines(&["error: ", "a rescue shell follows", "of our own"]);
    // Nothing was repaired: the same again.
    machine.types("exit");
    machine.lines(&["a rescue shell follows", "of our own"]);
    machine.types("mount -t devtmpfs dev /dev; mount -t proc proc /proc; rm /run/vitald; exit");
    machine.lines(&["1 definition", "orders: here"]);
    // SIGUSR2 as busybox's poweroff sends it.
    machine.order("kill -USR2 1");
    machine.lines(&[
        "SIGUSR2: stopping all services",
        "the machine is powered off",
    ]);
    machine.is_off();
}

/// contrib/initramfs as its head says: the image is made, its services run, its console is a shell.
#[test]
fn the_example_initramfs_boots() {
    let Some((parts, _)) = prepared() else {
        return;
    };
    let contrib = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/initramfs");
    let dir = std::env::temp_dir().join(format!("vitald-boot-{}-make", std::process::id()));
    std::fs::create_dir_all(&dir).expect("mkdir");
    for tool in ["cpio", "gzip"] {
        std::os::unix::fs::symlink(&parts.busybox, dir.join(tool)).expect("a link");
    }
    let path = std::env::var("PATH").expect("a PATH");
    let image = dir.join("initrd.img");
    let made = std::process::Command::new(format!("{contrib}/make"))
        .env("PATH", format!("{}:{path}", dir.display()))
        .arg("-o")
        .arg(&image)
        .args(["-b", &std::env::var("VITALD_BIN").expect("as prepared")])
        .args(["-c", &format!("{contrib}/config")])
        .arg(format!("{}=/bin/busybox", parts.busybox.display()))
        .status();
    assert!(made.expect("contrib/initramfs/make").success());
    let initramfs = std::fs::read(&image).expect("the image");
    let _ = std::fs::remove_dir_all(&dir);

    let mut machine = Machine::boot(&parts, "example", &initramfs);
    machine.lines(&["3 definitions", "built-in shell"]);
    machine.types("until vitald status web; do sleep 1; done; echo web: $((6 * 7))");
    machine.lines(&["web: 42"]);
    machine.types("exit");
    machine.lines(&["built-in shell"]);
    machine.types("poweroff");
    machine.line("the machine is powered off");
    machine.is_off();
}
