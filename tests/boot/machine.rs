//! A machine in qemu's software emulation: its console on a pipe, a second serial port for orders,
//! the monitor for keys. Dropped it is switched off.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Only a failure takes so long: a boot takes 3 s on an idle machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What machines are made of, as `contrib/vm/fetch` brings it or as it is installed.
pub struct Parts {
    qemu: PathBuf,
    libraries: OsString,
    firmware: Vec<PathBuf>,
    kernel: PathBuf,
    pub busybox: PathBuf,
    /// The kernel's watchdog by software, in the order in which they are loaded.
    pub modules: Vec<PathBuf>,
}

impl Parts {
    /// All of them, or what is missing.
    pub fn find() -> Result<Parts, String> {
        let fetched = match std::env::var_os("VITALD_TEST_VM") {
            Some(dir) => PathBuf::from(dir),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/vm"),
        };
        let first = |paths: &[PathBuf]| paths.iter().find(|path| path.exists()).cloned();
        let in_both = |path: &str| [fetched.join(path), Path::new("/").join(path)];
        let find = |path: &str| {
            first(&in_both(path)).ok_or(format!("no /{path}; contrib/vm/fetch brings it"))
        };
        let kernels = [fetched.join("boot"), PathBuf::from("/boot")];
        let kernels = kernels
            .iter()
            .flat_map(std::fs::read_dir)
            .flatten()
            .flatten();
        let mut kernels = kernels.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("vmlinuz-")
        });
        let kernel = kernels
            .next()
            .ok_or("no kernel; contrib/vm/fetch brings one")?;
        let busybox = find("bin/busybox").or_else(|_| find("usr/bin/busybox"))?;
        Ok(Parts {
            qemu: find("usr/bin/qemu-system-x86_64")?,
            libraries: {
                let dirs = ["lib", "usr/lib"].map(|lib| fetched.join(lib).join("x86_64-linux-gnu"));
                std::env::join_paths(dirs).expect("paths without a colon")
            },
            firmware: ["usr/share/qemu", "usr/share/seabios"]
                .into_iter()
                .flat_map(in_both)
                .filter(|dir| dir.is_dir())
                .collect(),
            kernel,
            busybox,
            modules: {
                let found = std::fs::read_dir(fetched.join("modules"));
                let mut found: Vec<_> = found.into_iter().flatten().flatten().collect();
                found.sort_by_key(std::fs::DirEntry::file_name);
                found.iter().map(std::fs::DirEntry::path).collect()
            },
        })
    }
}

/// What the console said so far, and that it says no more.
#[derive(Default)]
struct Said {
    text: String,
    over: bool,
}

pub struct Machine {
    qemu: Child,
    console: ChildStdin,
    said: Arc<(Mutex<Said>, Condvar)>,
    /// Up to where it was read.
    read: usize,
    orders: UnixStream,
    monitor: UnixStream,
    dir: PathBuf,
}

impl Machine {
    pub fn boot(parts: &Parts, name: &str, initramfs: &[u8]) -> Machine {
        Machine::with(parts, name, initramfs, None)
    }

    /// With an empty disk of so many MiB, /dev/nvme0n1, which outlives a reset.
    pub fn with(parts: &Parts, name: &str, initramfs: &[u8], disk: Option<u64>) -> Machine {
        let dir = std::env::temp_dir().join(format!("vitald-boot-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("mkdir");
        let image = dir.join("initramfs");
        std::fs::write(&image, initramfs).expect("write the initramfs");
        let mut command = Command::new(&parts.qemu);
        command.env("LD_LIBRARY_PATH", &parts.libraries);
        for firmware in &parts.firmware {
            command.arg("-L").arg(firmware);
        }
        command.args("-M pc -accel tcg -cpu max -m 256 -smp 1 -nodefaults".split(' '));
        command.args("-no-user-config -display none -serial stdio".split(' '));
        let socket = |name: &str| {
            let path = dir.join(name);
            let mut option = OsString::from("unix:");
            option.push(&path);
            option.push(",server=on,wait=off");
            (path, option)
        };
        let (orders_path, orders) = socket("orders");
        let (monitor_path, monitor) = socket("monitor");
        command
            .arg("-serial")
            .arg(orders)
            .arg("-monitor")
            .arg(monitor);
        command
            .arg("-kernel")
            .arg(&parts.kernel)
            .arg("-initrd")
            .arg(&image);
        if let Some(mib) = disk {
            let path = dir.join("disk");
            let file = std::fs::File::create(&path).expect("create a disk");
            file.set_len(mib << 20).expect("the disk's size");
            let drive = format!("file={},if=none,id=disk,format=raw", path.display());
            command.args(["-drive", &drive, "-device", "nvme,drive=disk,serial=1"]);
        }
        // A word that the kernel does not know is passed on to its init.
        command.args(["-append", "console=ttyS0 panic=0 loglevel=4 splash"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut qemu = command.spawn().expect("start qemu");
        let console = qemu.stdin.take().expect("a console");
        let said = Arc::default();
        listen(qemu.stdout.take().expect("a console"), Arc::clone(&said));
        let mut connect = |path: &Path| {
            let end = Instant::now() + PATIENCE;
            loop {
                match UnixStream::connect(path) {
                    Ok(stream) => return stream,
                    Err(error) => assert!(Instant::now() < end, "{}: {error}", path.display()),
                }
                assert_eq!(qemu.try_wait().expect("wait"), None, "qemu ended");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let (orders, monitor) = (connect(&orders_path), connect(&monitor_path));
        for echo in [&orders, &monitor] {
            // What comes back is of no interest, but must not fill the socket.
            let mut echo = echo.try_clone().expect("dup");
            std::thread::spawn(move || std::io::copy(&mut echo, &mut std::io::sink()));
        }
        Machine {
            qemu,
            console,
            said,
            read: 0,
            orders,
            monitor,
            dir,
        }
    }

    /// Reads on to a line that holds these words; it.
    pub fn line(&mut self, words: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let (said, more) = &*self.said;
        let mut said = said.lock().expect("a lock");
        loop {
            let new = said.text.get(self.read..).unwrap_or_default();
            let mut at = self.read;
            for line in new
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
            {
                at += line.len();
                assert!(!line.contains("Kernel panic"), "{}", said.text);
                if line.contains(words) {
                    let line = line.trim_end().to_owned();
                    self.read = at;
                    return line;
                }
            }
            let left = end.checked_duration_since(Instant::now());
            let gone = said.over;
            let Some(left) = left.filter(|_| !gone) else {
                let why = if gone {
                    "the machine is off"
                } else {
                    "too late"
                };
                panic!("never on the console ({why}): {words}\n{}", said.text);
            };
            said = more.wait_timeout(said, left).expect("a lock").0;
        }
    }

    /// These, in this order.
    pub fn lines(&mut self, all: &[&str]) {
        for words in all {
            self.line(words);
        }
    }

    /// For the shell that waits on the second serial port.
    pub fn order(&mut self, line: &str) {
        writeln!(self.orders, "{line}").expect("an order");
    }

    /// On the console, as somebody types it.
    pub fn types(&mut self, line: &str) {
        writeln!(self.console, "{line}").expect("the console");
    }

    pub fn press(&mut self, keys: &str) {
        writeln!(self.monitor, "sendkey {keys}").expect("the monitor");
    }

    /// Waits until it has switched itself off; all that it said.
    pub fn is_off(&mut self) -> String {
        let (said, more) = &*self.said;
        let said = said.lock().expect("a lock");
        let (said, late) = more
            .wait_timeout_while(said, PATIENCE, |said| !said.over)
            .expect("a lock");
        assert!(!late.timed_out(), "it is never off:\n{}", said.text);
        let text = said.text.clone();
        drop(said);
        let status = self.qemu.wait().expect("wait");
        assert!(status.success(), "{status}\n{text}");
        text
    }
}

fn listen(mut console: impl Read + Send + 'static, said: Arc<(Mutex<Said>, Condvar)>) {
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        loop {
            let length = console.read(&mut piece).unwrap_or(0);
            let (said, more) = &*said;
            let Ok(mut said) = said.lock() else { return };
            said.over = length == 0;
            said.text
                .push_str(&String::from_utf8_lossy(&piece[..length]));
            more.notify_all();
            if length == 0 {
                return;
            }
        }
    });
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
