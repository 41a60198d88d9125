//! The host's watchdog by a stand-in: a FIFO, which takes what it is fed and knows no timeout.

use super::host::{Host, send, until};
use super::upgrade::{can_panic, panic, upgrade};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use serde_json::json;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use vitald::engine::status::HostWatchdog;

/// The device's side.
struct Device(File);

impl Device {
    fn new(host: &Host) -> Device {
        let path = host.path("watchdog");
        nix::unistd::mkfifo(path.as_str(), Mode::from_bits_truncate(0o600)).expect("mkfifo");
        let mut options = OpenOptions::new();
        // Both ends, so that nobody who closes his is noticed here.
        options.read(true).write(true).custom_flags(libc_nonblock());
        let settings = format!("[watchdog]\ndevice = '{path}'\ntimeout_ms = 1000\n");
        std::fs::write(host.path("config/vitald.toml"), settings).expect("write");
        Device(options.open(path).expect("open"))
    }

    /// All that it was given since.
    fn taken(&mut self) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = self.0.read(&mut buffer) {
            all.extend_from_slice(&buffer[..read]);
        }
        all
    }

    fn is_fed(&mut self, when: &str) {
        self.taken();
        until(when, || {
            let taken = self.taken();
            assert!(!taken.contains(&b'V'), "{when}: it was disarmed");
            !taken.is_empty()
        });
    }
}

fn libc_nonblock() -> i32 {
    nix::fcntl::OFlag::O_NONBLOCK.bits()
}

fn watchdog(host: &Host) -> HostWatchdog {
    host.daemon().watchdog.expect("a watchdog")
}

const WEB: &str = "exec = ['sleep', '1000']\ncritical = true\n[retry_policy]\nmax_attempts = 0\n";

#[test]
fn it_is_fed_over_upgrade_panic_and_death_and_disarmed_at_an_orderly_end() {
    let mut host = Host::new("watchdog-fed");
    let mut device = Device::new(&host);
    host.define("web", WEB);
    host.set_env("VITALD_TEST_PANIC", "1");
    host.start();
    host.up("web");
    device.is_fed("fed");
    // A FIFO knows no timeout, which is said; it is fed all the same.
    assert!(
        host.said().contains("does not take a timeout"),
        "{}",
        host.said()
    );
    let told = watchdog(&host);
    assert!(told.fed && told.trouble.is_none(), "{told:?}");
    assert!(
        told.device.ends_with("/watchdog") && told.timeout_ms == 1000,
        "{told:?}"
    );
    assert!(host.cli(&["info"]).1.contains("watchdog"));

    upgrade(&host);
    device.is_fed("fed after an upgrade");
    assert!(watchdog(&host).fed);
    if can_panic() {
        panic(&host, 1);
        device.is_fed("fed after a panic");
    }
    // The descriptor went along: nobody opened the device anew.
    let path = std::fs::canonicalize(host.path("watchdog")).expect("a path");
    let open = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", host.pid())).expect("fds");
        let links = fds
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.filter(|link| *link == path).count()
    };
    assert_eq!(open(), 1);

    host.kill();
    assert!(!device.taken().contains(&b'V'), "a death disarms nothing");
    host.start();
    device.is_fed("fed after the daemon's death");
    device.taken();
    host.call("system.shutdown", &json!({}));
    assert!(host.ended().success());
    assert_eq!(
        device.taken().last(),
        Some(&b'V'),
        "an orderly end disarms it"
    );
}

#[test]
fn it_starves_while_what_is_critical_is_exhausted() {
    let mut host = Host::new("watchdog-starves");
    let mut device = Device::new(&host);
    host.define("web", WEB);
    host.start();
    let pid = host.up("web").pid.expect("a process");
    let mut events = host.events(&["web"]);
    send(pid, Signal::SIGKILL);
    let event = events.event("unfed", |line| line.kind == "host");
    assert_eq!((&*event.from, &*event.to), ("fed", "unfed"));
    // Nothing more comes, up to the moment when a device resets the host.
    device.taken();
    until("its time is over", || {
        watchdog(&host).reset_in_ms == Some(0)
    });
    assert_eq!(device.taken(), b"");
    let told = watchdog(&host);
    let why = told.why.expect("why");
    assert!(
        !told.fed && why.contains("web is exhausted: budget 0/0"),
        "{why}"
    );
    for verb in ["info", "status"] {
        let shown = host.cli(&[verb]).1;
        assert!(shown.contains("the host is reset in about"), "{shown}");
    }
    assert!(
        host.said().contains("the host is reset in about"),
        "{}",
        host.said()
    );
    host.call("service.start", &json!({"name": "web"}));
    device.is_fed("fed again");
    assert!(watchdog(&host).fed);
}

#[test]
fn a_device_that_is_not_there_is_said_and_no_reason_not_to_run() {
    let mut host = Host::new("watchdog-none");
    let settings = "[watchdog]\ndevice = '/nonexistent/watchdog'\n";
    std::fs::write(host.path("config/vitald.toml"), settings).expect("write");
    host.define("web", WEB);
    host.start();
    host.up("web");
    let trouble = watchdog(&host).trouble.expect("a trouble");
    assert!(
        trouble.contains("cannot open /nonexistent/watchdog: No such file"),
        "{trouble}"
    );
    assert!(host.said().contains(&trouble), "{}", host.said());
    assert!(host.cli(&["status"]).1.contains("watchdog: cannot open"));
}

/// A daemon whose settings name no device any more leaves none armed behind.
#[test]
fn an_upgrade_without_a_device_disarms_it() {
    let mut host = Host::new("watchdog-gone");
    let mut device = Device::new(&host);
    host.define("web", WEB);
    host.start();
    host.up("web");
    device.is_fed("fed");
    std::fs::write(host.path("config/vitald.toml"), "").expect("write");
    upgrade(&host);
    assert_eq!(device.taken().last(), Some(&b'V'));
    assert_eq!(host.daemon().watchdog, None);
}
