//! What a definition makes dangerous on this host, as far as `check` can see it: programs and files
//! that others than root may change and root then runs or believes.
//!
//! Warnings only, and only of what a stranger could use today.

use crate::config::Definition;
use crate::config::problem::Problem;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Of a definition that root's daemon would run; `file` is where it stands.
pub fn of(file: &str, definition: &Definition) -> Vec<Problem> {
    let process = &definition.process;
    let mut words = Vec::new();
    // Whoever runs as a user of its own may be changed by that user.
    let as_root = matches!(process.user.as_deref(), None | Some("root" | "0"));
    if as_root
        && let Some(program) = definition.exec.first()
        && program.starts_with('/')
        && let Some(why) = changeable(Path::new(&**program))
    {
        words.push(format!(
            "`exec` runs as root, and {why}: take that right away, or name a `user`"
        ));
    }
    let env_file = process.env_file.as_deref();
    let env_file = env_file.map(|path| path.strip_prefix('-').unwrap_or(path));
    if let Some(why) = env_file.and_then(|path| changeable(Path::new(path))) {
        words.push(format!("`env_file`: {why}: take that right away"));
    }
    for (name, path) in &process.confine.secrets {
        let everybody = std::fs::metadata(&**path).is_ok_and(|file| file.mode() & 0o004 != 0);
        if everybody {
            words.push(format!(
                "the secret `{name}`: everybody can read {path}: chmod o-r, the daemon needs no more"
            ));
        }
    }
    let problems = words.into_iter();
    problems
        .map(|words| Problem::warning_of_file(file, words))
        .collect()
}

/// Of the file itself.
pub fn of_file(shown: &str, path: &Path) -> Option<Problem> {
    let why = changeable(path)?;
    let words = format!("{why}: who can write it can make vitald run anything");
    Some(Problem::warning_of_file(shown, words))
}

/// Who else than its owner and root can put something else in this file's place; None: nobody.
fn changeable(path: &Path) -> Option<String> {
    // What a link leads to is what is run.
    let path = std::fs::canonicalize(path).ok()?;
    let shown = path.display();
    let file = std::fs::metadata(&path).ok()?;
    if file.mode() & 0o002 != 0 {
        return Some(format!("everybody can write {shown}"));
    }
    if file.uid() != 0 && nix::unistd::geteuid().is_root() {
        return Some(format!("{shown} is user {}'s", file.uid()));
    }
    let mut above = path.ancestors().skip(1);
    let open = above.find(|dir| std::fs::metadata(dir).is_ok_and(|dir| open_to_all(&dir)))?;
    Some(format!(
        "everybody can write the directory {}",
        open.display()
    ))
}

/// With the sticky bit files are their owners' to move (chmod(2)).
fn open_to_all(dir: &Metadata) -> bool {
    dir.mode() & 0o002 != 0 && dir.mode() & 0o1000 == 0
}
