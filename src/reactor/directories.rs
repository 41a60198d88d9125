//! `runtime_directory`: made before a start, removed after the run.
//!
//! Made and removed through descriptors, never through a path of which a service could have
//! replaced a part: no link is followed. Below /run of the host, or a user's XDG_RUNTIME_DIR, which
//! are in memory: what is done here does not wait for a disk. What is in a directory can be much:
//! it is moved aside at once, so that the next start finds its place free, and emptied by a helper.
//!
//! Invariants: parents that are made are root's (or the user's), only what is named is the
//! service's; what is in the way and no directory is told, never removed.

use super::jobs::Work;
use super::*;
use crate::config::{Directories, Process};
use crate::engine::SpawnError;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, getegid, geteuid, unlinkat};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const DEFAULT_MODE: u32 = 0o755;

/// Where runtime directories are.
pub fn base() -> Result<PathBuf, SpawnError> {
    if nix::unistd::geteuid().is_root() {
        return Ok("/run".into());
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() => Ok(dir),
        Some(_) | None => Err(bad(
            "runtime_directory: XDG_RUNTIME_DIR is not set; set it for vitald, or run it as root",
        )),
    }
}

/// RUNTIME_DIRECTORY, as systemd.exec(5) has it.
pub fn variable(directories: &Directories) -> Option<String> {
    let base = base().ok().filter(|_| !directories.runtime.is_empty())?;
    let paths = directories.runtime.iter();
    let paths: Vec<String> = paths
        .map(|name| base.join(&**name).display().to_string())
        .collect();
    Some(paths.join(":"))
}

/// Makes all of them, for this owner.
pub fn make(base: &Path, directories: &Directories, uid: u32, gid: u32) -> Result<(), SpawnError> {
    let mode = Mode::from_bits_truncate(directories.mode.unwrap_or(DEFAULT_MODE));
    for name in &directories.runtime {
        let path = base.join(&**name);
        let step = |doing: &str| format!("runtime_directory {}: {doing}", path.display());
        let dir = descend(base, Path::new(&**name), true)
            .map_err(|errno| failed(&step("cannot make it"), errno))?;
        fchown(&dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(|errno| failed(&step("cannot give it to the service"), errno))?;
        fchmod(&dir, mode).map_err(|errno| failed(&step("cannot set its mode"), errno))?;
    }
    Ok(())
}

/// Opens a directory below `base` part by part, following no link; makes what is missing.
fn descend(base: &Path, name: &Path, make: bool) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let mut at = nix::fcntl::open(base, flags, Mode::empty())?;
    for part in name.components() {
        let part = part.as_os_str().as_bytes();
        if make {
            let usual = Mode::from_bits_truncate(DEFAULT_MODE);
            match mkdirat(&at, part, usual) {
                Ok(()) | Err(nix::Error::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        at = openat(&at, part, flags | OFlag::O_NOFOLLOW, Mode::empty())?;
    }
    Ok(at)
}

/// Moves a directory aside, into `base`; its new path. None: it is not there.
fn set_aside(base: &Path, name: &Path, number: u32) -> nix::Result<Option<PathBuf>> {
    let Some(last) = name.file_name() else {
        return Ok(None);
    };
    let above = name.parent().unwrap_or(Path::new(""));
    let there = |done: nix::Result<OwnedFd>| match done {
        Ok(fd) => Ok(Some(fd)),
        Err(nix::Error::ENOENT | nix::Error::ENOTDIR | nix::Error::ELOOP) => Ok(None),
        Err(errno) => Err(errno),
    };
    let Some(parent) = there(descend(base, above, false))? else {
        return Ok(None);
    };
    let top = descend(base, Path::new(""), false)?;
    let aside = format!(".vitald-removed-{}-{number}", std::process::id());
    // An empty one needs nobody else.
    match unlinkat(&parent, last, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => return Ok(None),
        // No directory: not ours.
        Err(nix::Error::ENOTDIR) => return Ok(None),
        Err(_) => {}
    }
    match renameat(&parent, last, &top, aside.as_str()) {
        Ok(()) => Ok(Some(base.join(aside))),
        Err(nix::Error::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn bad(step: &str) -> SpawnError {
    SpawnError {
        step: step.into(),
        errno: 0,
        ours: false,
    }
}

fn failed(step: &str, errno: nix::Error) -> SpawnError {
    let number = errno as i32;
    let step = match errno {
        nix::Error::ENOTDIR | nix::Error::ELOOP => {
            format!("{step}, something else is there; remove it or take another name")
        }
        _ => step.to_owned(),
    };
    SpawnError {
        step: step.into(),
        errno: number,
        ours: sys::is_ours(number),
    }
}

impl Reactor {
    /// Before a start, and before what prepares it.
    pub(super) fn make_directories(
        &self,
        id: ServiceId,
        process: &Process,
    ) -> Result<(), SpawnError> {
        let confine = &process.confine;
        if process.directories.runtime.is_empty() && !confine.has_directories() {
            return Ok(());
        }
        let who = self.spawner.accounts().resolve(
            process.user.as_deref(),
            process.group.as_deref(),
            process.groups.as_deref(),
        )?;
        let name = self.name(id);
        let own = |name: String, mode| Directories {
            runtime: Box::new([name.into()]),
            mode: Some(mode),
            ..Directories::default()
        };
        let (uid, gid) = (who.uid, who.gid);
        let daemons = |name: &str, mode| {
            let own = own(name.to_owned(), mode);
            make(
                self.own_base(),
                &own,
                geteuid().as_raw(),
                getegid().as_raw(),
            )
        };
        if confine.private_tmp {
            // Nobody else comes by the path.
            daemons("tmp", 0o700)?;
            make(
                self.own_base(),
                &own(format!("tmp/{name}"), 0o1777),
                uid,
                gid,
            )?;
        }
        if !confine.secrets.is_empty() {
            daemons("secrets", 0o711)?;
            make(
                self.own_base(),
                &own(format!("secrets/{name}"), 0o700),
                uid,
                gid,
            )?;
        }
        match process.directories.runtime.is_empty() {
            true => Ok(()),
            false => make(&base()?, &process.directories, uid, gid),
        }
    }

    /// The runtime directory, where our socket is.
    fn own_base(&self) -> &Path {
        let socket = Path::new(&*self.socket);
        socket.parent().unwrap_or(Path::new("/"))
    }

    /// `runtime`: those below /run, too.
    pub(super) fn remove_directories(
        &mut self,
        id: ServiceId,
        runtime: bool,
        definition: &Definition,
    ) {
        let mut aside = Vec::new();
        let confine = &definition.process.confine;
        let own = [
            (confine.private_tmp, "tmp"),
            (!confine.secrets.is_empty(), "secrets"),
        ];
        for (_, dir) in own.into_iter().filter(|(made, _)| *made) {
            // It stays behind that directory's door.
            let base = self.own_base().join(dir);
            let name = self.name(id).to_string();
            aside.extend(self.put_aside(id, &base, Path::new(&name)));
        }
        if runtime && let Ok(base) = base() {
            self.put_runtime_aside(id, &base, definition, &mut aside);
        }
        self.empty(id, aside);
    }

    fn put_aside(&mut self, id: ServiceId, base: &Path, name: &Path) -> Option<PathBuf> {
        self.next_job = self.next_job.wrapping_add(1);
        match set_aside(base, name, self.next_job) {
            Ok(moved) => moved,
            Err(errno) => {
                let (service, path) = (self.name(id), base.join(name));
                log::warn!("{service}: cannot remove {}: {errno}", path.display());
                None
            }
        }
    }

    fn put_runtime_aside(
        &mut self,
        id: ServiceId,
        base: &Path,
        definition: &Definition,
        aside: &mut Vec<PathBuf>,
    ) {
        // Those within others first.
        let mut names: Vec<&str> = definition
            .process
            .directories
            .runtime
            .iter()
            .map(|n| &**n)
            .collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        for name in names {
            aside.extend(self.put_aside(id, base, Path::new(name)));
        }
    }

    /// Removed by a helper: there may be much in them.
    fn empty(&mut self, id: ServiceId, aside: Vec<PathBuf>) {
        if aside.is_empty() {
            return;
        }
        let origin = self.spawner.origin();
        let helper = helper::start(c"vitald-remove", origin, &[], 0, move |_| {
            let mut code = 0;
            for path in &aside {
                // It follows no link (std's promise since CVE-2022-21658).
                code |= u8::from(std::fs::remove_dir_all(path).is_err());
            }
            code
        });
        let work = Work::Remove { service: id };
        if let Err(error) = helper.and_then(|helper| self.watch_helper(helper, work)) {
            let name = self.name(id);
            log::warn!("{name}: its directories are moved aside, not removed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::pid_file::tests::Dir;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn of(names: &[&str]) -> Directories {
        Directories {
            runtime: names.iter().map(|name| Box::from(*name)).collect(),
            mode: Some(0o750),
            ..Directories::default()
        }
    }

    fn own() -> (u32, u32) {
        (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        )
    }

    #[test]
    fn they_are_made_with_mode_and_parents() {
        let base = Dir::new("directories");
        let (uid, gid) = own();
        make(base.path(), &of(&["web", "a/b"]), uid, gid).expect("made");
        let mode = |name: &str| base.path().join(name).metadata().expect(name).mode() & 0o7777;
        assert_eq!((mode("web"), mode("a/b")), (0o750, 0o750));
        assert_eq!(mode("a") & 0o022, 0);
        // Again: nothing is in the way.
        make(base.path(), &of(&["web"]), uid, gid).expect("made");
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let base = Dir::new("directories");
        let (uid, gid) = own();
        let secret = base.path().join("secret");
        std::fs::create_dir(&secret).expect("made");
        std::fs::write(secret.join("key"), "x").expect("written");
        symlink(&secret, base.path().join("web")).expect("linked");
        let error = make(base.path(), &of(&["web"]), uid, gid).expect_err("a link");
        assert!(error.step.contains("something else is there"), "{error}");
        let within = make(base.path(), &of(&["web/b"]), uid, gid).expect_err("through a link");
        assert!(within.step.contains("web/b"), "{within}");
        assert!(!secret.join("b").exists());
        // Nor is what it leads to removed.
        assert_eq!(set_aside(base.path(), Path::new("web"), 1), Ok(None));
        assert_eq!(set_aside(base.path(), Path::new("web/key"), 1), Ok(None));
        assert!(secret.join("key").exists());
    }

    #[test]
    fn one_with_something_in_it_is_moved_aside_at_once() {
        let base = Dir::new("directories");
        let (uid, gid) = own();
        make(base.path(), &of(&["web"]), uid, gid).expect("made");
        std::fs::write(base.path().join("web/sock"), "x").expect("written");
        let aside = set_aside(base.path(), Path::new("web"), 7).expect("moved");
        assert!(aside.expect("a path").join("sock").exists());
        assert!(!base.path().join("web").exists());
        assert_eq!(set_aside(base.path(), Path::new("web"), 8), Ok(None));
    }
}
