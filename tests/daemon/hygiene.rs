//! What a definition forbids its processes, and secrets by file, with real processes: what they
//! see, that their commands see the same, that nothing is left.

use super::host::{Host, root, until};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use vitald::limits::MAX_SECRET;

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
    let place = copy.parent().map(|dir| dir.metadata().expect("there"));
    assert_eq!(place.map(|dir| dir.mode() & 0o777), Some(0o700));
    // What is handed over is what it was at the start, to whoever comes later as well.
    fs::write(&original, "later").expect("write");
    let answer = host.call("probe.run", &json!({"name": "web"}));
    assert_eq!(answer["probes"][0]["outcome"], "pass", "{answer}");
    assert_eq!(fs::read_to_string(&copy).expect("a copy"), "hush");
    host.wait("stop", "web");
    assert!(!copy.exists(), "nothing is left");
    let left = || {
        fs::read_dir(host.dir.join("run/secrets"))
            .expect("read")
            .count()
    };
    until("nothing is left", || left() == 0);

    // One that is too large, and one that is not there, are told by their name.
    let large = fs::File::options().write(true).open(&original);
    large
        .and_then(|f| f.set_len(1 + MAX_SECRET as u64))
        .expect("set_len");
    for cause in ["File too large", "No such file"] {
        host.call("service.start", &json!({"name": "web"}));
        let status = host.until("web", "failed", |s| s.state == "failed");
        let detail = status.detail.unwrap_or_default();
        let told = detail.contains(&format!("secrets {original}")) && detail.contains(cause);
        assert!(told, "{detail}");
        let _ = fs::remove_file(&original);
    }
}

/// What a child that was killed, or the service's own user, left at the place of an unfinished
/// copy is not written through.
#[test]
fn a_secret_is_copied_to_a_file_of_its_own() {
    if !root() {
        return;
    }
    let (mut host, dir) = host("unfinished-secret");
    let (original, others) = (dir.path("key"), dir.path("others"));
    fs::write(&original, "hush").expect("write");
    fs::write(&others, "not yours").expect("write");
    let place = host.dir.join("run/secrets/web");
    fs::create_dir_all(&place).expect("mkdir");
    symlink(&others, place.join(".key")).expect("a link");
    host.define(
        "web",
        &format!("exec = ['sleep', '1000']\nsecrets = {{ key = '{original}' }}\n"),
    );
    host.start();
    host.up("web");
    let read = |path: &Path| fs::read_to_string(path).expect("read");
    assert_eq!(read(&place.join("key")), "hush");
    assert!(!place.join("key").is_symlink() && !place.join(".key").exists());
    assert_eq!(read(Path::new(&others)), "not yours");
    host.wait("stop", "web");
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
             pre_start = ['sh', '-c', 'ls -A /tmp > /tmp/listed; echo x > /tmp/{mark}; echo x > /var/tmp/{mark}.var']\n\
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
        own.join(format!("{mark}.var")).exists(),
        "it is /var/tmp, too"
    );
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
