//! What a definition forbids its processes, and secrets by file, with real processes: what they
//! see, that their commands see the same, that nothing is left.

use super::host::{Host, root, until};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A host whose directories do not stand below /tmp, which is to be the services' own.
fn host(test: &str) -> (Host, Dir) {
    let dir = PathBuf::from(format!("/var/tmp/vitald-{}-{test}", std::process::id()));
    fs::create_dir_all(&dir).expect("mkdir");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
    (Host::new(test), Dir(dir))
}

struct Dir(PathBuf);

impl Dir {
    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies that only the service's user reads, the same for its commands, gone with the run.
#[test]
fn secrets_are_the_services_alone_and_go_with_its_run() {
    if !root() {
        return;
    }
    let (mut host, dir) = host("secrets");
    let (original, seen) = (dir.path("key"), dir.path("seen"));
    fs::write(&original, "hush").expect("write");
    fs::set_permissions(&original, fs::Permissions::from_mode(0o600)).expect("chmod");
    // nobody may come by the host's directory.
    fs::set_permissions(&host.dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    host.define(
        "web",
        &format!(
            "user = 'nobody'\nsecrets = {{ key = '{original}' }}\n\
             pre_start = ['sh', '-c', 'cat $CREDENTIALS_DIRECTORY/key > {seen}.pre']\n\
             exec = ['sh', '-c', 'cat $CREDENTIALS_DIRECTORY/key > {seen}; exec sleep 1000']\n\
             [[probe]]\ntype = 'exec'\n\
             target = ['sh', '-c', 'test \"$(cat $CREDENTIALS_DIRECTORY/key)\" = hush']\n\
             interval_ms = 100\ntimeout_ms = 100\n"
        ),
    );
    host.start();
    host.up("web");
    assert_eq!(fs::read_to_string(&seen).expect("seen"), "hush");
    assert_eq!(
        fs::read_to_string(format!("{seen}.pre")).expect("seen"),
        "hush"
    );
    let copy = host.dir.join("run/secrets/web/key");
    let of = copy.metadata().expect("a copy");
    assert_eq!((of.mode() & 0o777, of.uid()), (0o400, 65534));
    // What is handed over is what it was at the start.
    fs::write(&original, "later").expect("write");
    host.wait("stop", "web");
    assert!(!copy.exists(), "nothing is left");
    let left = fs::read_dir(host.dir.join("run/secrets")).expect("read");
    assert_eq!(left.count(), 0);

    // One that is not there is told by its name.
    fs::remove_file(&original).expect("remove");
    host.call("service.start", &serde_json::json!({"name": "web"}));
    let status = host.until("web", "failed", |s| s.state == "failed");
    let detail = status.detail.unwrap_or_default();
    assert!(detail.contains(&format!("secrets {original}")), "{detail}");
}

/// Empty at each start, the same for its commands and probes, not the host's.
#[test]
fn private_tmp_is_its_own_and_new_for_each_run() {
    if !root() {
        return;
    }
    let (mut host, _dir) = host("private-tmp");
    let mark = format!("vitald-mark-{}", std::process::id());
    host.define(
        "web",
        &format!(
            "private_tmp = true\nwritable = ['/var']\nread_only = true\n\
             pre_start = ['sh', '-c', 'ls -A /tmp > /tmp/listed; echo x > /tmp/{mark}']\n\
             exec = ['sh', '-c', 'exec sleep 1000']\n\
             [[probe]]\ntype = 'exec'\ntarget = ['sh', '-c', 'cp /tmp/{mark} /tmp/{mark}.2']\n\
             interval_ms = 100\ntimeout_ms = 100\n"
        ),
    );
    host.start();
    let status = host.up("web");
    let own = host.dir.join("run/tmp/web");
    assert_eq!(
        fs::read_to_string(own.join("listed")).expect("listed"),
        "listed\n"
    );
    assert!(own.join(format!("{mark}.2")).exists(), "the probe saw it");
    assert!(
        !Path::new("/tmp").join(&mark).exists(),
        "the host's is another"
    );
    let mode = |path: &Path| path.metadata().expect("there").mode() & 0o7777;
    assert_eq!(mode(&own), 0o1777);
    assert_eq!(mode(own.parent().expect("a parent")), 0o700);
    host.wait("restart", "web");
    host.up_again("web", status.run + 1);
    let own = host.dir.join("run/tmp/web");
    assert_eq!(
        fs::read_to_string(own.join("listed")).expect("listed"),
        "listed\n"
    );
    host.wait("stop", "web");
    until("nothing is left", || !own.exists());
}
