//! contrib/container's image, made by its Dockerfile's lines and run as a container is: a root
//! that holds nothing else, a pid namespace, a network of its own.
//!
//! For a static binary only, which VITALD_BIN names.

use super::host::{copy, root, until};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Dropped, it is killed with all that is in it.
struct Container(Child);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Image {
    root: PathBuf,
    entrypoint: Vec<String>,
    healthcheck: Vec<String>,
}

/// As `docker build` would, of what the file says; anything else in it fails.
fn build(root: &Path, binary: &Path) -> Image {
    let context = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/container");
    let text = std::fs::read_to_string(context.join("Dockerfile")).expect("a Dockerfile");
    let (mut entrypoint, mut healthcheck) = (Vec::new(), Vec::new());
    let words = |json: &str| serde_json::from_str(json).expect("an array of strings");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.split_once(' ').expect("a word and more") {
            ("FROM", from) => assert_eq!(from, "scratch"),
            ("COPY", pair) => {
                let (from, to) = pair.split_once(' ').expect("from and to");
                let to = root.join(to.trim_start_matches('/'));
                std::fs::create_dir_all(to.parent().expect("a directory")).expect("mkdir");
                if from == "vitald" {
                    copy(binary, to.to_str().expect("UTF-8"));
                    continue;
                }
                let mut command = Command::new("cp");
                command.arg("-R").arg(context.join(from)).arg(to);
                assert!(command.status().expect("cp").success());
            }
            ("HEALTHCHECK", check) => {
                healthcheck = words(check.strip_prefix("CMD ").expect("CMD"));
            }
            ("ENTRYPOINT", json) => entrypoint = words(json),
            (other, _) => panic!("not understood here: {other}"),
        }
    }
    // What an engine mounts.
    for dir in ["proc", "dev"] {
        std::fs::create_dir_all(root.join(dir)).expect("mkdir");
    }
    let root = root.to_owned();
    Image {
        root,
        entrypoint,
        healthcheck,
    }
}

impl Image {
    fn run(&self) -> Container {
        let script = "mount --make-rprivate /; mount --rbind /dev \"$0/dev\"
mount -t proc proc \"$0/proc\"; ip link set lo up; exec chroot \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount", "--net"]);
        command.args(["sh", "-c", script]).arg(&self.root);
        command.args(&self.entrypoint).env_clear();
        command.env("PATH", std::env::var("PATH").expect("a PATH"));
        let log = std::fs::File::create(self.root.join("log")).expect("a log");
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("dup")).stderr(log);
        Container(command.spawn().expect("unshare"))
    }

    /// As `docker exec` would: in the container's namespaces and root.
    fn healthy(&self, init: &str) -> bool {
        let mut command = Command::new("nsenter");
        command.args(["-t", init, "-p", "-n", "-m", "-r", "--"]);
        command.args(&self.healthcheck).stdout(Stdio::null());
        command.stderr(Stdio::null());
        command.status().expect("nsenter").success()
    }
}

#[test]
fn the_example_image_holds_nothing_else_and_works() {
    let Some(binary) = std::env::var_os("VITALD_BIN") else {
        eprintln!("skipped: VITALD_BIN names no static vitald (contrib/package/build.sh)");
        return;
    };
    if !root() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("vitald-{}-image", std::process::id()));
    let image = build(&dir, Path::new(&binary));
    let mut container = image.run();
    let children = format!("/proc/{0}/task/{0}/children", container.0.id());
    let mut init = String::new();
    until("the container is healthy", || {
        assert_eq!(container.0.try_wait().expect("wait"), None, "it ended");
        init = std::fs::read_to_string(&children).unwrap_or_default();
        init = init.trim().to_owned();
        !init.is_empty() && image.healthy(&init)
    });
    // `docker stop`: SIGTERM to its first process; its code is that of the service.
    let pid = nix::unistd::Pid::from_raw(init.parse().expect("a number"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
    let status = container.0.wait().expect("wait");
    let said = std::fs::read_to_string(image.root.join("log")).unwrap_or_default();
    let _ = std::fs::remove_dir_all(&dir);
    assert_eq!(status.code(), Some(128 + 15), "{said}");
}
