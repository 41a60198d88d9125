//! Finding the main process of a daemon that forked itself away: by its pid file, or because it is
//! the only one left. Reads files and /proc and may block: in a helper.
//!
//! What a pid file says is not believed: the process it names must be one of this run's, and only
//! root and the service's user may be able to put a file there (systemd.service(5), PIDFile=).
//! Membership is the tree's (`tree`), or that the process came to us as an orphan since the run began and is known to nobody: daemons that write their title over their
//! environment lose our mark.
//!
//! Invariants: a link is never followed; never ourselves, PID 1, what is older than the run, or
//! another service's process.

use crate::engine::Sought;
use crate::exit::errno_words;
use crate::id::Pid;
use crate::reactor::procfs;
use crate::reactor::tree::{self, TreeJob};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A process id, and whatever else stands there.
const MAX_CONTENT: u64 = 64;

/// What to find.
pub struct MainJob {
    /// None: whoever is left.
    pub pid_file: Option<String>,
    /// As whom the service runs.
    pub uid: u32,
    /// The run: its first process, and how its others are known.
    pub tree: TreeJob,
    /// Children of ours that are something else.
    pub known: Vec<Pid>,
}

/// A process that may be the one.
#[derive(Clone, Copy)]
struct Candidate {
    pid: Pid,
    parent: Pid,
    started: u64,
    /// Known to be of the run; else it only may be.
    marked: bool,
}

pub fn find(job: &MainJob) -> Sought {
    let all = candidates(job);
    let Some(path) = &job.pid_file else {
        // Whose the others are nobody knows, as long as there are some that say so.
        let marked: Vec<Candidate> = all.iter().copied().filter(|one| one.marked).collect();
        return only_one(if marked.is_empty() { &all } else { &marked });
    };
    let found = read(path, job.uid).and_then(|pid| judge(path, pid, job, &all));
    match found {
        Err(Sought::NotYet(words)) if all.is_empty() => {
            Sought::Gone(format!("{words}; and no process of it is left").into())
        }
        Ok(found) | Err(found) => found,
    }
}

/// What lives of the run.
fn candidates(job: &MainJob) -> Vec<Candidate> {
    let daemon = Pid(std::os::unix::process::parent_id() as i32);
    let strangers = tree::unmarked_children(&job.tree, daemon);
    let strangers = strangers
        .into_iter()
        .filter(|s| !job.known.contains(&s.pid));
    let mut all: Vec<Candidate> = Vec::new();
    let members = tree::members(&job.tree)
        .into_iter()
        .map(|stat| (stat, true));
    for (stat, marked) in members.chain(strangers.map(|stat| (stat, false))) {
        let dead = matches!(stat.state, b'Z' | b'X');
        if !dead && all.iter().all(|known| known.pid != stat.pid) {
            all.push(Candidate {
                pid: stat.pid,
                parent: stat.parent,
                started: stat.started,
                marked,
            });
        }
    }
    all
}

/// Without a pid file: the one of whom all others are descendants.
fn only_one(all: &[Candidate]) -> Sought {
    let heads: Vec<&Candidate> = all
        .iter()
        .filter(|one| all.iter().all(|other| other.pid != one.parent))
        .collect();
    match heads.as_slice() {
        [] => Sought::Gone(
            "its first process has exited with 0, and no process of it is left: if it does not \
             fork write kind = \"process\", if its work is done kind = \"oneshot\""
                .into(),
        ),
        [one] => Sought::Main {
            pid: one.pid,
            started: one.started,
        },
        many => {
            let mut pids: Vec<i32> = many.iter().map(|one| one.pid.0).collect();
            pids.sort_unstable();
            let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
            let pids = pids.join(", ");
            let words = format!(
                "its first process has exited, and which of {pids} is the main one is not known: \
                 write `pid_file`"
            );
            Sought::Wrong(words.into())
        }
    }
}

fn not_yet<T>(words: String) -> Result<T, Sought> {
    Err(Sought::NotYet(words.into()))
}

fn wrong<T>(words: String) -> Result<T, Sought> {
    Err(Sought::Wrong(words.into()))
}

/// The number in the file, if the file can be trusted.
fn read(path: &str, uid: u32) -> Result<Pid, Sought> {
    let about = |error: &io::Error| errno_words(error.raw_os_error().unwrap_or(0));
    let dir = Path::new(path).parent().unwrap_or(Path::new("/"));
    let there = std::fs::metadata(dir);
    let Ok(there) = there.as_ref().map_err(io::Error::raw_os_error) else {
        let dir = dir.display();
        return not_yet(format!("pid_file {path}: there is no directory {dir}"));
    };
    trusted_directory(path, dir, there, uid)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            return not_yet(format!(
                "pid_file {path} is not there: is that where the daemon writes it?"
            ));
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return wrong(format!(
                "pid_file {path} is a symbolic link, which is not followed: name the file itself"
            ));
        }
        Err(error) => {
            return wrong(format!(
                "pid_file {path}: cannot read it: {}",
                about(&error)
            ));
        }
    };
    let meta = match file.metadata() {
        Ok(meta) => meta,
        Err(error) => {
            return wrong(format!(
                "pid_file {path}: cannot read it: {}",
                about(&error)
            ));
        }
    };
    trusted_file(path, &meta, uid)?;
    content(path, file)
}

fn trusted_directory(path: &str, dir: &Path, meta: &Metadata, uid: u32) -> Result<(), Sought> {
    let dir = dir.display();
    let advice = "let the daemon write it into a directory of its own (`runtime_directory`)";
    if meta.mode() & 0o002 != 0 {
        return wrong(format!(
            "pid_file {path}: anybody may write to {dir} (mode {:04o}): {advice}",
            meta.mode() & 0o7777
        ));
    }
    if !is_trusted(meta.uid(), uid) {
        let owner = meta.uid();
        return wrong(format!(
            "pid_file {path}: {dir} belongs to uid {owner}, neither root nor the service's user: \
             {advice}"
        ));
    }
    Ok(())
}

fn trusted_file(path: &str, meta: &Metadata, uid: u32) -> Result<(), Sought> {
    if !meta.is_file() {
        return wrong(format!("pid_file {path} is no file: correct `pid_file`"));
    }
    if !is_trusted(meta.uid(), uid) {
        let owner = meta.uid();
        return wrong(format!(
            "pid_file {path} belongs to uid {owner}, neither root nor the service's user: it is \
             not believed; remove it"
        ));
    }
    Ok(())
}

fn is_trusted(owner: u32, uid: u32) -> bool {
    owner == 0 || owner == uid || owner == nix::unistd::geteuid().as_raw()
}

fn content(path: &str, file: File) -> Result<Pid, Sought> {
    let mut bytes = Vec::new();
    if let Err(error) = file.take(MAX_CONTENT).read_to_end(&mut bytes) {
        let why = errno_words(error.raw_os_error().unwrap_or(0));
        return wrong(format!("pid_file {path}: cannot read it: {why}"));
    }
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    if text.is_empty() {
        return not_yet(format!(
            "pid_file {path} is empty: the daemon has not written its number"
        ));
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<i32>() {
        Ok(pid) if digits => Ok(Pid(pid)),
        Ok(_) | Err(_) => {
            let shown: String = text.escape_debug().take(40).collect();
            wrong(format!(
                "pid_file {path} holds `{shown}`, which is no process id: correct `pid_file`, or \
                 what the daemon writes there"
            ))
        }
    }
}

/// Is that process the run's?
fn judge(path: &str, pid: Pid, job: &MainJob, all: &[Candidate]) -> Result<Sought, Sought> {
    let daemon = std::os::unix::process::parent_id() as i32;
    let nobody = match pid.0 {
        0 => Some("which is no process"),
        1 => Some("which is init"),
        own if own == daemon => Some("which is vitald itself"),
        _ => None,
    };
    if let Some(what) = nobody {
        return wrong(format!(
            "pid_file {path} holds {pid}, {what}: the daemon must write the number of its main \
             process there"
        ));
    }
    let found = all.iter().find(|candidate| candidate.pid == pid);
    if let Some(main) = found {
        return Ok(Sought::Main {
            pid,
            started: main.started,
        });
    }
    let Ok(stat) = procfs::proc_stat(pid).map(|stat| (stat.state, stat.started)) else {
        return not_yet(format!(
            "pid_file {path} holds {pid}, and there is no such process"
        ));
    };
    if matches!(stat.0, b'Z' | b'X') {
        return not_yet(format!("pid_file {path} holds {pid}, which has ended"));
    }
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    if stat.1 < job.tree.started {
        return wrong(format!(
            "pid_file {path} holds {pid} ({name}), which is older than this start: a file that was \
             left, or another's; remove it"
        ));
    }
    wrong(format!(
        "pid_file {path} holds {pid} ({name}), which is no process of this service: correct \
         `pid_file`"
    ))
}

/// For the pipe between helper and loop: a word, numbers or words.
pub fn encode(sought: &Sought) -> String {
    match sought {
        Sought::Main { pid, started } => format!("main {pid} {started}"),
        Sought::NotYet(words) => format!("not-yet {words}"),
        Sought::Wrong(words) => format!("wrong {words}"),
        Sought::Gone(words) => format!("gone {words}"),
    }
}

/// None: the helper did not come to its end.
pub fn decode(line: &str) -> Option<Sought> {
    let (word, rest) = line.split_once(' ')?;
    Some(match word {
        "main" => {
            let (pid, started) = rest.split_once(' ')?;
            Sought::Main {
                pid: Pid(pid.parse().ok()?),
                started: started.parse().ok()?,
            }
        }
        "not-yet" => Sought::NotYet(rest.into()),
        "wrong" => Sought::Wrong(rest.into()),
        "gone" => Sought::Gone(rest.into()),
        _ => return None,
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::exit::Signal;
    use crate::reactor::tree::RunMark;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    /// A directory that goes with its test.
    pub struct Dir(PathBuf);

    impl Dir {
        pub fn new(test: &str) -> Dir {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("vitald-{}-{test}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).expect("a directory");
            Dir(path)
        }
        pub fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn job(path: &str) -> MainJob {
        MainJob {
            pid_file: Some(path.to_owned()),
            uid: 12345,
            tree: TreeJob {
                main: Pid(i32::MAX - 1),
                started: u64::MAX - 1,
                also: None,
                mark: RunMark {
                    run: "web/1".into(),
                    socket: "/nowhere".into(),
                },
                signal: Signal::TERM,
                grace: Duration::ZERO,
                leaf: None,
            },
            known: Vec::new(),
        }
    }

    /// What is said of a file with this content.
    fn said(content: &str) -> String {
        let dir = Dir::new("pid-file");
        let path = dir.path().join("x.pid");
        std::fs::write(&path, content).expect("written");
        encode(&find(&job(path.to_str().expect("a name"))))
    }

    #[test]
    fn bad_content_is_named_with_its_cause() {
        let parent = std::os::unix::process::parent_id();
        for (content, part) in [
            ("abc\n", "wrong "),
            ("abc\n", "holds `abc`, which is no process id"),
            ("-1", "holds `-1`, which is no process id"),
            ("12 34", "holds `12 34`"),
            ("99999999999", "which is no process id"),
            ("0\n", "holds 0, which is no process"),
            ("1\n", "holds 1, which is init"),
            (&parent.to_string(), "which is vitald itself"),
            // Nothing of the run lives, so that is its end.
            ("", "gone "),
            ("", "is empty"),
            ("2000000000", "there is no such process"),
        ] {
            let said = said(content);
            assert!(said.contains(part), "{content:?}: {said}");
        }
        let own = said(&std::process::id().to_string());
        assert!(own.contains("older than this start"), "{own}");
    }

    #[test]
    fn files_that_others_can_write_are_not_believed() {
        let dir = Dir::new("pid-file");
        let path = dir.path().join("x.pid");
        let path = path.to_str().expect("a name");
        let missing = encode(&find(&job(path)));
        assert!(missing.contains("is not there"), "{missing}");
        std::os::unix::fs::symlink("/etc/hostname", path).expect("linked");
        let link = encode(&find(&job(path)));
        assert!(
            link.starts_with("wrong ") && link.contains("symbolic link"),
            "{link}"
        );
        std::fs::remove_file(path).expect("removed");
        std::fs::create_dir(path).expect("made");
        let other = encode(&find(&job(path)));
        assert!(other.contains("is no file"), "{other}");
        std::fs::remove_dir(path).expect("removed");
        std::fs::write(path, "4711\n").expect("written");
        let open = std::fs::Permissions::from_mode(0o1777);
        std::fs::set_permissions(dir.path(), open).expect("changed");
        let open = encode(&find(&job(path)));
        assert!(
            open.contains("anybody may write") && open.contains("1777"),
            "{open}"
        );
        if nix::unistd::geteuid().is_root() {
            let closed = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(dir.path(), closed).expect("changed");
            std::os::unix::fs::chown(path, Some(4242), None).expect("given away");
            let foreign = encode(&find(&job(path)));
            assert!(foreign.contains("belongs to uid 4242"), "{foreign}");
            std::os::unix::fs::chown(path, Some(12345), None).expect("given back");
            std::os::unix::fs::chown(dir.path(), Some(4242), None).expect("given away");
            let foreign = encode(&find(&job(path)));
            assert!(foreign.contains("belongs to uid 4242"), "{foreign}");
        }
    }

    #[test]
    fn what_was_found_reads_back() {
        for sought in [
            Sought::Main {
                pid: Pid(47),
                started: 11,
            },
            Sought::NotYet("a b".into()),
            Sought::Wrong("c d e".into()),
            Sought::Gone("f".into()),
        ] {
            assert_eq!(decode(&encode(&sought)), Some(sought));
        }
        assert_eq!(decode(""), None);
        assert_eq!(decode("main x"), None);
    }
}
