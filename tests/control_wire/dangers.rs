//! What `check` says of files that others than root may change, with real files.

use super::cli::run;
use super::harness::fresh_path;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

/// Files that nobody but their owner may write, and one definition.
struct Files {
    dir: PathBuf,
    socket: PathBuf,
}

impl Files {
    fn new() -> Files {
        let socket = fresh_path();
        let dir = socket.parent().unwrap().to_owned();
        let files = Files { dir, socket };
        for (name, mode) in [("program", 0o755), ("web.env", 0o640), ("key", 0o600)] {
            fs::write(files.dir.join(name), "").unwrap();
            files.chmod(name, mode);
        }
        files
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.dir.join(name), Permissions::from_mode(mode)).unwrap();
    }

    /// The warnings for a definition of this text, each without its file's name. Never an error.
    fn warnings(&self, text: &str) -> Vec<String> {
        let file = self.path("web.toml");
        if !self.dir.join("web.toml").exists() {
            fs::write(&file, "").unwrap();
            self.chmod("web.toml", 0o644);
        }
        fs::write(&file, text).unwrap();
        let (code, out, err) = run(&self.socket, &["check", &file]);
        assert_eq!((code, &*err), (0, ""), "{out}");
        let lines = out.lines().filter(|line| !line.contains("checked:"));
        let start = format!("{file}: warning: ");
        lines
            .map(|line| line.strip_prefix(&start).unwrap_or(line).to_owned())
            .collect()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn what_everybody_may_change_and_root_runs_or_believes() {
    let files = Files::new();
    let program = files.path("program");
    let exec = format!("exec = ['{program}']\n");
    let none: [&str; 0] = [];
    // Also that /tmp is everybody's: with the sticky bit files are their owners'.
    assert_eq!(files.warnings(&exec), none);

    files.chmod("program", 0o757);
    let word = format!(
        "`exec` runs as root, and everybody can write {program}: take that right away, or name a `user`"
    );
    for as_root in ["", "user = 'root'\n", "user = '0'\n"] {
        assert_eq!(files.warnings(&format!("{exec}{as_root}")), [&*word]);
    }
    // Through a link, too.
    symlink(&program, files.path("link")).unwrap();
    let link = format!("exec = ['{}']\n", files.path("link"));
    assert_eq!(files.warnings(&link), [&*word]);
    // Who is another anyway gains nothing by it.
    assert_eq!(files.warnings(&format!("{exec}user = 'nobody'\n")), none);
    files.chmod("program", 0o755);

    // Who may write the directory puts another file in its place.
    files.chmod("", 0o777);
    let found = files.warnings(&exec);
    let dir = files.dir.display();
    let part = format!("everybody can write the directory {dir}");
    assert!(
        found.len() == 2 && found.iter().all(|line| line.contains(&part)),
        "{found:?}"
    );
    files.chmod("", 0o1777);
    assert_eq!(files.warnings(&exec), none);
    files.chmod("", 0o755);

    // What it is told, and the definition itself.
    files.chmod("web.env", 0o646);
    let env = files.path("web.env");
    for env_file in [env.clone(), format!("-{env}")] {
        let text = format!("exec = ['{program}']\nenv_file = '{env_file}'\nuser = 'nobody'\n");
        let word = format!("`env_file`: everybody can write {env}: take that right away");
        assert_eq!(files.warnings(&text), [word]);
    }
    files.chmod("web.toml", 0o646);
    let file = files.path("web.toml");
    let word = format!("everybody can write {file}: who can write it can make vitald run anything");
    assert_eq!(files.warnings(&exec), [word]);
}

#[test]
fn a_secret_that_everybody_can_read() {
    let files = Files::new();
    let key = files.path("key");
    let text = format!(
        "exec = ['{}']\nsecrets = {{ key = '{key}' }}\n",
        files.path("program")
    );
    files.chmod("key", 0o640);
    assert_eq!(files.warnings(&text), Vec::<String>::new());
    files.chmod("key", 0o644);
    let word =
        format!("the secret `key`: everybody can read {key}: chmod o-r, the daemon needs no more");
    assert_eq!(files.warnings(&text), [word]);
}

#[test]
fn a_program_that_is_somebody_elses() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let files = Files::new();
    let program = files.path("program");
    chown(&program, Some(65534), None).unwrap();
    let exec = format!("exec = ['{program}']\n");
    let word = format!(
        "`exec` runs as root, and {program} is user 65534's: take that right away, or name a `user`"
    );
    assert_eq!(files.warnings(&exec), [word]);
}
