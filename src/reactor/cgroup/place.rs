//! Where on this host cgroups of ours may be: the mounted hierarchies of version 2 and our own
//! place in them. Reads only.

use crate::config::settings::Cgroup;
use crate::exit::errno_words;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The daemon's own cgroup, where it must leave the one that is the services' parent.
pub const DAEMON: &str = "vitald-daemon";
/// `CGROUP2_SUPER_MAGIC` (statfs(2)).
const CGROUP2_MAGIC: u32 = 0x6367_7270;

/// A mounted hierarchy.
struct Mount {
    /// Which of its cgroups is seen at `at`.
    root: String,
    at: PathBuf,
}

/// Where services' cgroups are made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The directory that holds them.
    pub dir: PathBuf,
    /// The same as /proc/PID/cgroup tells it, from the root of our cgroup namespace.
    pub path: String,
    /// We are in its parent.
    pub within: bool,
    /// And are to be put there again: systemd cannot start a unit in a cgroup that hands controllers
    /// on and has others below it (EBUSY).
    pub pinned: bool,
}

/// Where it is to be, or why it cannot be anywhere and what would help.
pub fn find(choice: &Cgroup, name: &str) -> Result<Place, String> {
    let mounts = mounts();
    match choice {
        Cgroup::Off => Err("cgroup = \"off\" in vitald.toml".to_owned()),
        Cgroup::At(path) => given(Path::new(&**path), &mounts),
        Cgroup::Auto => own(&mounts, name),
    }
}

/// The one that was named.
fn given(dir: &Path, mounts: &[Mount]) -> Result<Place, String> {
    let shown = dir.display();
    let mount = mounts.iter().rev().find(|mount| dir.starts_with(&mount.at));
    let Some(mount) = mount.filter(|mount| dir != mount.at) else {
        let known: Vec<String> = mounts.iter().map(|m| m.at.display().to_string()).collect();
        return Err(match known.as_slice() {
            [] => format!("{shown} is no cgroup: no hierarchy of version 2 is mounted"),
            known => format!(
                "{shown} is no cgroup: write one below {}",
                known.join(" or ")
            ),
        });
    };
    let below = dir.strip_prefix(&mount.at).unwrap_or(dir);
    let path = joined(&mount.root, below);
    let own = own_path().unwrap_or_default();
    if own == path {
        return Err(format!(
            "{shown} is the daemon's own cgroup: write one below it"
        ));
    }
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let within = own.trim_end_matches('/') == parent;
    let dir = dir.to_owned();
    let pinned = within && is_systemd();
    Ok(Place {
        dir,
        path,
        within,
        pinned,
    })
}

/// Below the one that we are in.
fn own(mounts: &[Mount], name: &str) -> Result<Place, String> {
    let Some(own) = own_path() else {
        return Err("the kernel has no cgroups of version 2".to_owned());
    };
    // The execution before us, or a daemon whose place this is again, has moved us already.
    let moved = own.strip_suffix(DAEMON).and_then(|p| p.strip_suffix('/'));
    let base = moved.unwrap_or(&own);
    let found = mounts
        .iter()
        .rev()
        .find_map(|mount| Some((mount, below(&mount.root, base)?)));
    let Some((mount, inside)) = found else {
        return Err(match mounts {
            [] => "no cgroup hierarchy of version 2 is mounted: mount one at /sys/fs/cgroup"
                .to_owned(),
            _ => format!("our own cgroup {own} is not in what is mounted"),
        });
    };
    let mut dir = mount.at.join(inside);
    let mut path = joined(&mount.root, Path::new(inside));
    let root = path == "/";
    if !root && moved.is_none() && is_systemd() {
        // What it gives away it marks; we may be below that (DelegateSubgroup=).
        let above = dir.ancestors().take_while(|dir| dir.starts_with(&mount.at));
        let given = above.into_iter().find(|dir| is_delegated(dir));
        if given.is_none() && nix::unistd::geteuid().is_root() {
            return Err(format!(
                "{} is systemd's: write Delegate=yes into the daemon's unit, or another cgroup \
                 into vitald.toml",
                dir.display()
            ));
        }
        if let Some(given) = given.map(Path::to_owned) {
            let inside = given.strip_prefix(&mount.at).unwrap_or(&given);
            path = joined(&mount.root, inside);
            dir = given;
        }
    }
    let within = moved.is_none() && own == path;
    let pinned = within && !root && is_systemd();
    dir.push(name);
    let path = joined(&path, Path::new(name));
    Ok(Place {
        dir,
        path,
        within,
        pinned,
    })
}

/// `/a` and `b` are `/a/b`.
fn joined(root: &str, below: &Path) -> String {
    let below = below.to_string_lossy();
    let root = root.trim_end_matches('/');
    match below.is_empty() {
        true if root.is_empty() => "/".to_owned(),
        true => root.to_owned(),
        false => format!("{root}/{below}"),
    }
}

/// What of `path` is below `root`.
fn below<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None => rest.is_empty().then_some(""),
    }
}

/// Our own, from the root of our cgroup namespace (cgroups(7)).
fn own_path() -> Option<String> {
    path_of("self")
}

/// A process's, as /proc tells it.
pub fn path_of(process: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    // What was removed under a process that has ended.
    Some(path.strip_suffix(" (deleted)").unwrap_or(path).to_owned())
}

/// Those of version 2, in the order in which they were mounted; what others hide is left out.
fn mounts() -> Vec<Mount> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(mount)
        .filter(|mount| is_cgroup2(&mount.at))
        .collect()
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
fn mount(line: &str) -> Option<Mount> {
    let (first, last) = line.split_once(" - ")?;
    if last.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = first.split(' ').skip(3);
    let root = unescaped(fields.next()?);
    let at = unescaped(fields.next()?).into();
    Some(Mount { root, at })
}

/// Blanks, tabs, newlines and backslashes stand as octal numbers.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(3).unwrap_or((part, ""));
        match u8::from_str_radix(digits, 8) {
            Ok(byte) => text.push(byte.into()),
            Err(_) => text.push_str(digits),
        }
        text.push_str(rest);
    }
    text
}

fn is_cgroup2(at: &Path) -> bool {
    let Ok(path) = CString::new(at.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: all zero is a statfs that says nothing.
    let mut told: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a string that lives, and a struct that the kernel fills.
    let asked = unsafe { libc::statfs(path.as_ptr(), &raw mut told) };
    asked == 0 && told.f_type as u32 == CGROUP2_MAGIC
}

/// systemd manages this host's cgroups (sd_booted(3)).
fn is_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// systemd marks what it gives away (systemd.resource-control(5), Delegate).
fn is_delegated(dir: &Path) -> bool {
    [c"user.delegate", c"trusted.delegate"]
        .into_iter()
        .any(|name| {
            let Ok(path) = CString::new(dir.as_os_str().as_bytes()) else {
                return false;
            };
            let mut value = [0u8; 8];
            let room = value.as_mut_ptr().cast();
            // SAFETY: strings that live, and as much room as is said.
            let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), room, value.len()) };
            length == 1 && value[0] == b'1'
        })
}

/// `Permission denied (13)`.
pub fn cause(error: &io::Error) -> String {
    let errno = error.raw_os_error();
    errno.map_or_else(|| error.to_string(), errno_words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read() {
        let line =
            "24 30 0:21 /a\\040b /sys/fs/cgroup/un\\040ified rw,nosuid shared:9 - cgroup2 c rw";
        let found = mount(line).unwrap();
        assert_eq!(found.root, "/a b");
        assert_eq!(found.at, Path::new("/sys/fs/cgroup/un ified"));
        assert!(mount("24 30 0:21 / /sys rw - sysfs sysfs rw").is_none());
        assert!(mount("nonsense").is_none());
    }

    #[test]
    fn a_path_is_found_below_its_mount() {
        assert_eq!(below("/", "/"), Some(""));
        assert_eq!(below("/", "/a/b"), Some("a/b"));
        assert_eq!(below("/a", "/a/b"), Some("b"));
        assert_eq!(below("/a", "/a"), Some(""));
        assert_eq!(below("/a", "/ab"), None);
        // Outside of our namespace.
        assert_eq!(below("/", "/../a"), None);
        assert_eq!(joined("/", Path::new("")), "/");
        assert_eq!(joined("/", Path::new("a")), "/a");
        assert_eq!(joined("/a", Path::new("b")), "/a/b");
    }

    fn hybrid() -> Vec<Mount> {
        let at = "/sys/fs/cgroup/unified".into();
        vec![Mount {
            root: "/".to_owned(),
            at,
        }]
    }

    #[test]
    fn a_named_one_must_be_in_what_is_mounted() {
        let place = given(Path::new("/sys/fs/cgroup/unified/a/b"), &hybrid()).unwrap();
        assert_eq!(place.path, "/a/b");
        for bad in ["/sys/fs/cgroup/unified", "/srv"] {
            let words = given(Path::new(bad), &hybrid()).unwrap_err();
            assert!(words.contains("below /sys/fs/cgroup/unified"), "{words}");
        }
        let words = given(Path::new("/srv"), &[]).unwrap_err();
        assert!(words.contains("no hierarchy"), "{words}");
    }
}
