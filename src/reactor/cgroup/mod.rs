//! A cgroup (version 2) for each service, below one of ours: by it all processes of a service are
//! known, ended at once, and limited together. Not here: who is put into it (`spawn`), who is ended
//! (`tree`), what the loop does with it (`leaves`).
//!
//! ```text
//! PARENT                  where we are, or were; it hands controllers on
//!   vitald-daemon         the daemon and its helpers, where PARENT is not the root of all
//!   vitald                ours, held by a lock
//!     web  db …           one a service: its leaves
//! ```
//!
//! Invariants: the daemon is in no cgroup that hands controllers on, but the root (the rule of no
//! internal processes, cgroups(7)); a leaf is given up only when nobody is in it; a limit that
//! cannot be put in force is an error that names its key.

mod leaf;
mod place;

use crate::config::settings::Cgroup;
use crate::config::{KillMode, Resources};
use crate::engine::event::SpawnError;
use crate::reactor::sys;
pub use leaf::Leaf;
use place::{DAEMON, Place, cause};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a helper of a daemon before us, which holds the lock, may take to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// The period in which `cpu_max` is counted, in microseconds: the kernel's default.
const CPU_PERIOD: u64 = 100_000;
/// Whose files would stand beside those of a leaf of the same name.
const CONTROLLERS: [&str; 12] = [
    "cgroup", "cpu", "cpuset", "debug", "devices", "dmem", "hugetlb", "io", "irq", "memory",
    "misc", "pids",
];

/// Whether services get cgroups, and where.
pub struct Cgroups {
    place: Result<Held, Box<str>>,
}

struct Held {
    place: Place,
    /// Held as long as we live: nobody else uses it.
    _lock: File,
}

/// Where a process is to be put.
pub struct Room {
    pub leaf: Leaf,
    /// For clone3.
    dir: OwnedFd,
    /// As many of its processes had been killed for want of memory before.
    pub oom_kills: u64,
}

impl Room {
    pub fn dir(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.dir)
    }

    /// For a child that puts itself there.
    pub fn door(&self) -> io::Result<OwnedFd> {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).open(self.leaf.0.join("cgroup.procs"))?;
        Ok(file.into())
    }
}

/// What the directory is called that holds the leaves of this daemon's services: each daemon of a
/// host has its own.
pub fn name_for(runtime_dir: &Path) -> String {
    if runtime_dir == Path::new("/run/vitald") {
        return "vitald".to_owned();
    }
    // FNV-1a: it only has to be the same the next time.
    let bytes = runtime_dir.as_os_str().as_encoded_bytes().iter();
    let hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    format!("vitald-{hash:08x}")
}

/// Where `cgroup = "auto"` has it for a daemon in our place; it is not made.
pub fn dir_for(runtime_dir: &Path) -> Result<PathBuf, String> {
    let place = place::find(&Cgroup::Auto, &name_for(runtime_dir))?;
    Ok(place.dir)
}

impl Cgroups {
    /// Finds the place, makes it, and moves us out of the way. Says what it came to.
    pub fn prepare(choice: &Cgroup, runtime_dir: &Path) -> Cgroups {
        let name = name_for(runtime_dir);
        let held = place::find(choice, &name).and_then(Held::take);
        match (&held, choice) {
            (Ok(held), _) => {
                held.enable_early();
                log::debug!("services have cgroups in {}", held.place.dir.display());
            }
            (Err(why), Cgroup::At(_)) => log::error!(
                "cgroup: {why}; services are run without cgroups, their processes found by best \
                 effort"
            ),
            (Err(why), Cgroup::Auto) => log::info!(
                "no cgroups for services ({why}): their processes are found by best effort"
            ),
            (Err(_), Cgroup::Off) => {}
        }
        Cgroups {
            place: held.map_err(Box::from),
        }
    }

    pub fn is_on(&self) -> bool {
        self.place.is_ok()
    }

    /// The directory, or why there is none; for `info`.
    pub fn words(&self) -> String {
        match &self.place {
            Ok(held) => held.place.dir.display().to_string(),
            Err(why) => format!("none: {why}"),
        }
    }

    /// A service's leaf, made or not; None: there are no cgroups.
    pub fn leaf(&self, service: &str) -> Option<Leaf> {
        let held = self.place.as_ref().ok()?;
        Some(Leaf(held.place.dir.join(escaped(service))))
    }

    /// The service in whose leaf, or below it, this process is.
    pub fn holds(&self, service: &str, process: &str) -> bool {
        let (Ok(held), Some(path)) = (&self.place, place::path_of(process)) else {
            return false;
        };
        let rest = path.strip_prefix(&*held.place.path);
        let rest = rest.and_then(|rest| rest.strip_prefix('/'));
        let first = rest.and_then(|rest| rest.split('/').next());
        first == Some(&*escaped(service))
    }

    /// Who has leaves, whatever became of them.
    pub fn services(&self) -> Vec<String> {
        let Ok(held) = &self.place else {
            return Vec::new();
        };
        let entries = fs::read_dir(&held.place.dir).into_iter().flatten();
        let dirs = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let names = dirs.filter_map(|entry| entry.file_name().into_string().ok());
        names.map(|name| unescaped(&name).to_owned()).collect()
    }

    /// A leaf for what is to be started, with its limits in force. None: there are no cgroups, and
    /// none is needed.
    pub fn room(
        &self,
        service: &str,
        resources: &Resources,
        kill_mode: KillMode,
    ) -> Result<Option<Room>, SpawnError> {
        let made = match &self.place {
            Ok(held) => held.room(service, resources, kill_mode),
            Err(why) => Err(Trouble::None(why.clone())),
        };
        match (made, first_key(resources)) {
            (Ok(room), _) => Ok(Some(room)),
            (Err(Trouble::None(_)), None) => Ok(None),
            (Err(Trouble::Leaf(words, error)), None) => {
                log::warn!(
                    "{service}: {words}: {}: it is run without a cgroup, its processes found by \
                     best effort",
                    cause(&error)
                );
                Ok(None)
            }
            (Err(trouble), key) => Err(trouble.of(key.unwrap_or("cgroup"))),
        }
    }

    /// Nobody is in them any more: they go, and what held them.
    pub fn give_up(&self) {
        for service in self.services() {
            self.remove(&service);
        }
        if let Ok(held) = &self.place {
            let _ = fs::remove_dir(&held.place.dir);
        }
    }

    pub fn remove(&self, service: &str) {
        if let Some(leaf) = self.leaf(service)
            && let Err(error) = leaf.remove()
        {
            log::debug!("cannot remove {}: {}", leaf.0.display(), cause(&error));
        }
    }
}

/// Why there is no room.
enum Trouble {
    /// There are no cgroups; why.
    None(Box<str>),
    /// The leaf cannot be made or opened.
    Leaf(String, io::Error),
    /// A key cannot be put in force; its own words.
    Key(&'static str, String),
}

impl Trouble {
    /// As the service is told, which asks for this key.
    fn of(self, key: &'static str) -> SpawnError {
        let (step, errno) = match self {
            Trouble::None(why) => {
                let words = format!("{key}: services have no cgroups: {why}; or remove the key");
                (words, 0)
            }
            Trouble::Leaf(words, error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                (format!("{key}: {words}"), errno)
            }
            Trouble::Key(key, words) => (format!("{key}: {words}"), 0),
        };
        SpawnError {
            step: step.into(),
            errno,
            ours: sys::is_ours(errno),
        }
    }
}

/// The first key that asks for a limit.
fn first_key(resources: &Resources) -> Option<&'static str> {
    settings(resources, true)
        .into_iter()
        .find(|setting| setting.asked)
        .map(|setting| setting.key)
}

/// One file of a leaf.
struct Setting {
    key: &'static str,
    controller: &'static str,
    file: &'static str,
    value: String,
    /// By the definition; else it is what the kernel has for who asks for nothing.
    asked: bool,
}

impl Setting {
    /// A new cgroup has it already.
    fn is_kernels(&self) -> bool {
        let as_made = self.file != "memory.oom.group" || self.value == "0";
        !self.asked && as_made
    }
}

/// What is written into a leaf. `whole`: all of it goes when memory runs out.
fn settings(resources: &Resources, whole: bool) -> Vec<Setting> {
    let Resources {
        memory_max,
        memory_high,
        cpu_max,
        cpu_weight,
        pids_max,
    } = *resources;
    let setting = |key, file: &'static str, value: Option<String>, default: &str| Setting {
        key,
        controller: file.split('.').next().unwrap_or(file),
        file,
        asked: value.is_some(),
        value: value.unwrap_or_else(|| default.to_owned()),
    };
    let bytes = |bytes: u64| bytes.to_string();
    let quota = cpu_max.map(|percent| {
        let quota = u64::from(percent) * CPU_PERIOD / 100;
        format!("{quota} {CPU_PERIOD}")
    });
    let weight = cpu_weight.map(|weight| weight.to_string());
    let pids = pids_max.map(|pids| pids.to_string());
    let group = if whole { "1" } else { "0" };
    vec![
        setting("memory_max", "memory.max", memory_max.map(bytes), "max"),
        setting("memory_high", "memory.high", memory_high.map(bytes), "max"),
        setting("memory_max", "memory.oom.group", None, group),
        setting("cpu_max", "cpu.max", quota, "max"),
        setting("cpu_weight", "cpu.weight", weight, "100"),
        setting("pids_max", "pids.max", pids, "max"),
    ]
}

impl Held {
    fn take(place: Place) -> Result<Held, String> {
        let dir = place.dir.as_path();
        let cannot = |what: &str, error: &io::Error| {
            format!("cannot {what} {}: {}", dir.display(), advised(error))
        };
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(cannot("make", &error));
            }
            Ok(()) | Err(_) => {}
        }
        let lock = lock(dir).map_err(|error| match error.raw_os_error() {
            Some(libc::EWOULDBLOCK) => format!(
                "{} is another daemon's: name another in vitald.toml",
                dir.display()
            ),
            _ => cannot("lock", &error),
        })?;
        if place.within && !place.pinned {
            leave(dir.parent().unwrap_or(dir))?;
        }
        Ok(Held { place, _lock: lock })
    }

    fn parent(&self) -> Leaf {
        let dir = self.place.dir.as_path();
        dir.parent().unwrap_or(dir).into()
    }

    /// What is counted for everybody, where it can be. `cpu`, which changes who gets how much, only
    /// when it is asked for.
    fn enable_early(&self) {
        for controller in ["memory", "pids"] {
            if let Err(words) = self.enable(controller) {
                log::debug!("no {controller} is counted by service: {words}");
            }
        }
    }

    /// Hands the controller on to the leaves.
    fn enable(&self, controller: &str) -> Result<(), String> {
        let own = Leaf::from(&*self.place.dir);
        let file = "cgroup.subtree_control";
        let has = |leaf: &Leaf, file: &str| leaf.names(file).iter().any(|name| name == controller);
        if has(&own, file) {
            return Ok(());
        }
        let parent = self.parent();
        if self.place.pinned {
            return Err(format!(
                "the daemon is in {} itself: write DelegateSubgroup={DAEMON} into its unit (systemd \
                 254), or remove the key",
                parent.0.display()
            ));
        }
        let word = format!("+{controller}");
        let hand_on = |leaf: &Leaf| {
            leaf.set(file, &word).map_err(|error| {
                let busy = error.raw_os_error() == Some(libc::EBUSY);
                let hint = match busy {
                    true => ": processes are in it that belong elsewhere (cgroup.procs)",
                    false => "",
                };
                format!("{}/{file}: {}{hint}", leaf.0.display(), cause(&error))
            })
        };
        if !has(&own, "cgroup.controllers") {
            if !has(&parent, "cgroup.controllers") {
                let known = parent.names("cgroup.controllers").join(" ");
                let known = if known.is_empty() { "none" } else { &known };
                return Err(format!(
                    "{} has no controller {controller} (it has: {known}): boot with cgroups of \
                     version 2 alone, let it be handed down, or remove the key",
                    parent.0.display()
                ));
            }
            hand_on(&parent)?;
        }
        hand_on(&own)
    }

    fn room(
        &self,
        service: &str,
        resources: &Resources,
        kill_mode: KillMode,
    ) -> Result<Room, Trouble> {
        let leaf = Leaf(self.place.dir.join(escaped(service)));
        let shown = leaf.0.display();
        // A new one counts from nothing. One in which somebody is goes on.
        let _ = leaf.remove();
        let fresh = match fs::create_dir(&leaf.0) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody has removed what nobody was in.
                let again = fs::create_dir(&self.place.dir);
                self.enable_early();
                let made = again.and_then(|()| fs::create_dir(&leaf.0));
                made.map_err(|e| Trouble::Leaf(format!("cannot make {shown}"), e))?;
                true
            }
            Err(error) => return Err(Trouble::Leaf(format!("cannot make {shown}"), error)),
        };
        let whole = kill_mode != KillMode::Process;
        for setting in settings(resources, whole) {
            let Setting { key, file, .. } = setting;
            if fresh && setting.is_kernels() {
                continue;
            }
            if setting.asked {
                let enabled = self.enable(setting.controller);
                enabled.map_err(|words| Trouble::Key(key, words))?;
            }
            match leaf.set(file, &setting.value) {
                Err(error) if setting.asked => {
                    let words = format!("cannot write {} to {shown}/{file}", setting.value);
                    let words = format!("{words}: {}", cause(&error));
                    return Err(Trouble::Key(key, words));
                }
                // There is no such file where nothing is counted.
                Ok(()) | Err(_) => {}
            }
        }
        let oom_kills = if fresh {
            0
        } else {
            leaf.oom_kills().unwrap_or(0)
        };
        let mut options = fs::OpenOptions::new();
        let options = options.read(true).custom_flags(libc::O_DIRECTORY);
        match options.open(&leaf.0) {
            Ok(dir) => Ok(Room {
                dir: dir.into(),
                leaf,
                oom_kills,
            }),
            Err(error) => Err(Trouble::Leaf(format!("cannot open {shown}"), error)),
        }
    }
}

/// An error, and what helps.
fn advised(error: &io::Error) -> String {
    let advice = match error.raw_os_error() {
        Some(libc::EROFS) => "; it is mounted read-only, as in most containers",
        Some(libc::EACCES | libc::EPERM) => {
            "; run as root, or let it be given to us (systemd: Delegate=yes)"
        }
        Some(libc::ENOENT) => "; the one above it must be there",
        Some(libc::EAGAIN) => "; cgroup.max.descendants or cgroup.max.depth above it is reached",
        _ => "",
    };
    format!("{}{advice}", cause(error))
}

/// An exclusive lock on a directory; a copy of the descriptor in a helper that ends soon is waited
/// for.
fn lock(dir: &Path) -> io::Result<File> {
    let file = File::open(dir)?;
    let pause = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        // SAFETY: numbers only.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(file);
        }
        let error = io::Error::last_os_error();
        if waited >= LOCK_PATIENCE || error.raw_os_error() != Some(libc::EWOULDBLOCK) {
            return Err(error);
        }
        std::thread::sleep(pause);
        waited += pause;
    }
}

/// Out of a cgroup that is to hand controllers on; the root may have processes. As PID 1 all that
/// is in it comes along, and is ours.
fn leave(parent: &Path) -> Result<(), String> {
    let from = Leaf::from(parent);
    // The root has no such file (cgroups(7)).
    if !parent.join("cgroup.type").exists() || from.names("cgroup.controllers").is_empty() {
        return Ok(());
    }
    let to: PathBuf = parent.join(DAEMON);
    let cannot = |error: io::Error| format!("cannot move to {}: {}", to.display(), advised(&error));
    match fs::create_dir(&to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(cannot(error)),
        Ok(()) | Err(_) => {}
    }
    let to_leaf = Leaf::from(to.as_path());
    to_leaf.set("cgroup.procs", "0").map_err(cannot)?;
    if std::process::id() == 1 {
        for pid in from.names("cgroup.procs") {
            // One that has ended meanwhile is no loss.
            let _ = to_leaf.set("cgroup.procs", &pid);
        }
    }
    Ok(())
}

/// The directory's name: the service's, but for those that a file of the kernel's might have, now
/// or later.
fn escaped(service: &str) -> String {
    let first = service.split('.').next().unwrap_or_default();
    let taken = service.contains('.') && CONTROLLERS.contains(&first);
    match taken || service.starts_with('_') {
        true => format!("_{service}"),
        false => service.to_owned(),
    }
}

fn unescaped(dir: &str) -> &str {
    dir.strip_prefix('_').unwrap_or(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_service_is_called_as_a_file_of_the_kernels() {
        for (service, dir) in [
            ("web", "web"),
            ("web.api", "web.api"),
            ("memory", "memory"),
            ("cgroup.procs", "_cgroup.procs"),
            ("memory.max", "_memory.max"),
            ("_web", "__web"),
            ("_memory.max", "__memory.max"),
        ] {
            assert_eq!(escaped(service), dir);
            assert_eq!(unescaped(dir), service);
        }
    }

    #[test]
    fn each_daemon_has_its_own() {
        assert_eq!(name_for(Path::new("/run/vitald")), "vitald");
        let one = name_for(Path::new("/run/user/1000/vitald"));
        assert_ne!(one, name_for(Path::new("/run/user/1001/vitald")));
        assert_eq!(one.len(), "vitald-01234567".len());
    }

    #[test]
    fn what_is_asked_is_written_and_the_rest_is_undone() {
        let resources = Resources {
            memory_max: Some(1 << 20),
            cpu_max: Some(150),
            ..Resources::default()
        };
        let written: Vec<_> = settings(&resources, true)
            .into_iter()
            .map(|s| format!("{} {} {} {}", s.key, s.file, s.value, s.asked))
            .collect();
        assert_eq!(
            written,
            [
                "memory_max memory.max 1048576 true",
                "memory_high memory.high max false",
                "memory_max memory.oom.group 1 false",
                "cpu_max cpu.max 150000 100000 true",
                "cpu_weight cpu.weight 100 false",
                "pids_max pids.max max false",
            ]
        );
        assert_eq!(first_key(&resources), Some("memory_max"));
        assert_eq!(first_key(&Resources::default()), None);
    }
}
