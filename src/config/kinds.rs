//! What a kind of service has to do with the other keys: what it needs, what is nothing to it.
//!
//! Also the keys that came with kinds: `pid_file` and the directories. Not here: what a kind does
//! (the engine).

use crate::config::definition::{Directories, Kind, Preserve};
use crate::config::hints;
use crate::config::keys::service;
use crate::config::problem::Problems;
use crate::config::reader::{self, Table};
use crate::config::tree::Value;
use crate::limits;

/// What a target may say; whatever else there is concerns a process.
const OF_A_TARGET: &[&str] = &[
    "description",
    "kind",
    "autostart",
    "critical",
    "safe",
    "after",
    "before",
    "requires",
    "wants",
    "conflicts",
    "milestone",
    "on_dependency",
];

/// Names in a runtime directory's parent that are others': removing one would take the host down.
const OTHERS: &[&str] = &[
    "vitald", "systemd", "udev", "dbus", "user", "lock", "log", "mount", "shm", "initctl", "utmp",
];

pub fn kind(t: &Table<'_>, p: &mut Problems) -> Kind {
    let kinds = [Kind::Process, Kind::Oneshot, Kind::Forking, Kind::Target];
    let kind = t.choice(&service::KIND, &kinds, Kind::Process, p);
    if kind != Kind::Oneshot
        && let Some(entry) = t.entry(&service::UNDO)
    {
        let advice = match kind {
            Kind::Process | Kind::Forking => ": write `stop_exec` or `post_stop`",
            Kind::Oneshot | Kind::Target => "",
        };
        let words = format!("`undo` is for what a oneshot has done{advice}");
        p.error(entry.key_at, words);
    }
    if kind == Kind::Target {
        for key in service::ALL
            .iter()
            .filter(|k| !OF_A_TARGET.contains(&k.name))
        {
            if let Some(entry) = t.entry(key) {
                let words = format!(
                    "a target has no process of its own, `{}` is for one: remove it, or make a \
                     service that the target requires",
                    entry.key
                );
                p.error(entry.key_at, words);
            }
        }
    }
    kind
}

/// A kind that is ready, or well, by something else than what these keys say.
pub fn not_by_itself(t: &Table<'_>, kind: Kind, p: &mut Problems) {
    let why = match kind {
        Kind::Process | Kind::Target => return,
        Kind::Oneshot => "a oneshot is done when it exits",
        Kind::Forking => "a forking daemon is ready when its first process has exited with 0",
    };
    for key in [&service::READY, &service::NOTIFY_FD, &service::WATCHDOG] {
        if let Some(entry) = t.entry(key) {
            let words = format!(
                "{why}, `{}` is for a process: remove it, or write kind = \"process\"",
                entry.key
            );
            p.error(entry.key_at, words);
        }
    }
}

pub fn pid_file(t: &Table<'_>, kind: Kind, p: &mut Problems) -> Option<Box<str>> {
    let entry = t.entry(&service::PID_FILE)?;
    let path = t.text(&service::PID_FILE, p)?;
    if kind != Kind::Forking && kind != Kind::Target {
        let advice = p.assign("kind", "\"forking\"");
        let words = format!(
            "`pid_file` is for a daemon that forks, its process is known without: remove it, or \
             write {advice}"
        );
        p.error(entry.key_at, words);
    }
    let ends_well = path
        .rsplit('/')
        .next()
        .is_some_and(|name| !matches!(name, "" | "." | ".."));
    if !path.starts_with('/') || !ends_well {
        let words = format!(
            "`pid_file` is `{}`; it must be the absolute path of a file, as in {}",
            hints::shorten(path),
            p.assign("pid_file", "\"/run/web.pid\"")
        );
        p.error(entry.value.at, words);
    }
    Some(path.into())
}

pub fn directories(t: &Table<'_>, p: &mut Problems) -> Directories {
    let preserves = [Preserve::No, Preserve::Restart, Preserve::Yes];
    let preserve = t.choice_given(&service::RUNTIME_DIRECTORY_PRESERVE, &preserves, p);
    let mode = t.umask(&service::RUNTIME_DIRECTORY_MODE, p);
    let directories = Directories {
        runtime: names(t, p),
        mode: mode.filter(|mode| *mode != 0o755),
        preserve: preserve.unwrap_or(Preserve::No),
    };
    if let (Some(entry), true) = (
        t.entry(&service::RUNTIME_DIRECTORY_MODE),
        !t.has(&service::RUNTIME_DIRECTORY),
    ) {
        let advice = p.assign("runtime_directory", "[\"web\"]");
        let words = format!(
            "`{}` is nothing without a directory: write {advice}",
            entry.key
        );
        p.error(entry.key_at, words);
    }
    directories
}

fn names(t: &Table<'_>, p: &mut Problems) -> Box<[Box<str>]> {
    let Some(entry) = t.entry(&service::RUNTIME_DIRECTORY) else {
        return Box::default();
    };
    let one = std::slice::from_ref(&entry.value);
    let items = match &entry.value.value {
        Value::Array(items) => &items[..],
        Value::String(_) => one,
        other => {
            reader::wrong::<()>(entry, "an array of names, as in [\"web\"]", other, p);
            return Box::default();
        }
    };
    let mut found: Vec<Box<str>> = Vec::new();
    for item in items {
        let Value::String(name) = &item.value else {
            let what = item.value.what();
            p.error(
                item.at,
                format!("`{}` must hold names, not {what}", entry.key),
            );
            continue;
        };
        match check(name) {
            Err(why) => {
                let shown = hints::shorten(name);
                p.error(item.at, format!("`{}`: `{shown}` {why}", entry.key));
            }
            Ok(()) if found.iter().any(|known| **known == **name) => {}
            Ok(()) => found.push((&**name).into()),
        }
    }
    if found.len() > limits::MAX_DIRECTORIES {
        let words = format!(
            "`{}` has {} names; at most {} are taken",
            entry.key,
            found.len(),
            limits::MAX_DIRECTORIES
        );
        p.error(entry.value.at, words);
    }
    found.into()
}

/// A name below the runtime directory's parent that can be made and removed.
fn check(name: &str) -> Result<(), &'static str> {
    if name.starts_with('/') {
        return Err("is a path: write a name, it is made in /run (of a user, in XDG_RUNTIME_DIR)");
    }
    let fits = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    if name.len() > limits::MAX_DIRECTORY_NAME || !name.split('/').all(fits) {
        return Err("cannot name a directory: write names without `.` and `..`, as in web/cache");
    }
    if name.contains([':', '\0']) || name.chars().any(char::is_control) {
        return Err("has a character that RUNTIME_DIRECTORY cannot hold: write letters and digits");
    }
    if OTHERS.contains(&name) {
        return Err("is not the service's own: what is in it would be removed when it stops");
    }
    Ok(())
}
