//! `vitald.toml`: the daemon's own settings.
//!
//! All have defaults, so the file may be missing. A key that cannot be used keeps its default and
//! the daemon runs on; for `access` that is "nobody else", so a mistake never opens a door.

use crate::config::hints;
use crate::config::keys::{ACCESS_WORDS, daemon, watchdog};
use crate::config::load;
use crate::config::log::{self, Log};
use crate::config::names;
use crate::config::problem::{Problem, Problems};
use crate::config::reader::{Table, wrong};
use crate::config::tree::{Lines, Span, Value};
use crate::limits;
use std::time::Duration;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Groups, by name or number, and what each may do on the control socket; a group stands once
    /// for each of its rights. root and our own user may do all.
    pub access: Box<[(Box<str>, Right)]>,
    /// What becomes of output, where a service's definition does not say.
    pub log: Log,
    /// Where syslog listens.
    pub syslog_socket: Box<str>,
    /// Dossiers, as many, and as large together, as are kept.
    pub dossier_keep: u32,
    pub dossier_max_bytes: u64,
    /// What the engine is told is written to `recording` in the state directory.
    pub record: bool,
    pub record_bytes: u64,
    /// With whose end for good the daemon ends.
    pub main: Option<Box<str>>,
    /// None: it depends on whether we are a host's first process.
    pub shutdown_timeout: Option<Duration>,
    pub early_setup: EarlySetup,
    pub cgroup: Cgroup,
    /// A program and its arguments; empty: what the host has.
    pub rescue_shell: Box<[Box<str>]>,
    /// Whether PID 1 counts boots that fail: the same words.
    pub boot_guard: EarlySetup,
    pub boot_attempts: u32,
    pub boot_ok_after: Duration,
    /// The host's.
    pub watchdog: Option<Watchdog>,
}

/// A device that resets the host when it is not fed for so long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watchdog {
    pub device: Box<str>,
    pub timeout: Duration,
}

/// Whether PID 1 does what is its own on a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EarlySetup {
    /// On a host, not in a container.
    #[default]
    Auto,
    Always,
    Never,
}

/// Where services get a cgroup each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Cgroup {
    /// Below the daemon's own, where that is its to use.
    #[default]
    Auto,
    Off,
    /// An absolute path.
    At(Box<str>),
}

/// One right on the control socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Right {
    pub access: Access,
    /// None: all services and the daemon.
    pub service: Option<Box<str>>,
}

/// How much; each holds those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Access {
    View,
    Read,
    Act,
    Admin,
}

impl Right {
    /// `act`, `restart:web`; or why it is no right.
    fn parse(word: &str) -> Result<Right, String> {
        let (what, service) = match word.split_once(':') {
            Some((what, service)) => (what, Some(service)),
            None => (word, None),
        };
        let access = match what {
            "view" => Access::View,
            "read" | "logs" => Access::Read,
            "act" | "restart" => Access::Act,
            "admin" => Access::Admin,
            _ => {
                return Err(format!(
                    "a right is one of {}, for one service as in \"restart:web\"",
                    ACCESS_WORDS.join(", ")
                ));
            }
        };
        if let Some(name) = service {
            names::check(name)?;
        }
        Ok(Right {
            access,
            service: service.map(Box::from),
        })
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            access: Box::default(),
            log: Log::default(),
            syslog_socket: SYSLOG_SOCKET.into(),
            dossier_keep: limits::DOSSIER_KEEP,
            dossier_max_bytes: limits::DOSSIER_MAX_BYTES,
            record: false,
            record_bytes: limits::RECORD_BYTES,
            main: None,
            shutdown_timeout: None,
            early_setup: EarlySetup::Auto,
            cgroup: Cgroup::Auto,
            rescue_shell: Box::default(),
            boot_guard: EarlySetup::Auto,
            boot_attempts: 3,
            boot_ok_after: Duration::from_secs(60),
            watchdog: None,
        }
    }
}

/// Reads the settings and all that is wrong with them.
pub fn read(file: &str, bytes: &[u8]) -> (Settings, Vec<Problem>) {
    let mut p = Problems::new(load::syntax_of(file));
    let settings = load::text_of(bytes, &mut p)
        .and_then(|text| load::parse(text, &mut p))
        .map(|root| match &root.value {
            Value::Table(entries) => {
                build(&Table::open(root.at, entries, daemon::ALL, &mut p), &mut p)
            }
            other => {
                p.error(
                    Span::default(),
                    format!("settings are an object, not {}", other.what()),
                );
                Settings::default()
            }
        })
        .unwrap_or_default();
    let lines = Lines::new(load::without_mark(bytes));
    (settings, p.finish(file, &lines))
}

fn build(t: &Table<'_>, p: &mut Problems) -> Settings {
    Settings {
        access: access(t, p),
        log: log::read(t, p),
        syslog_socket: syslog_socket(t, p),
        dossier_keep: u32::try_from(t.number(&daemon::DOSSIER_KEEP, p)).unwrap_or(0),
        dossier_max_bytes: u64::try_from(t.number(&daemon::DOSSIER_MAX_BYTES, p)).unwrap_or(0),
        record: t.boolean(&daemon::RECORD, p),
        // The range in the key table is within that of the type.
        record_bytes: u64::try_from(t.number(&daemon::RECORD_BYTES, p)).unwrap_or(0),
        main: main(t, p),
        shutdown_timeout: t.millis_given(&daemon::SHUTDOWN_TIMEOUT, p),
        early_setup: t.choice(
            &daemon::EARLY_SETUP,
            &[EarlySetup::Auto, EarlySetup::Always, EarlySetup::Never],
            EarlySetup::Auto,
            p,
        ),
        cgroup: cgroup(t, p),
        rescue_shell: t.command(&daemon::RESCUE_SHELL, p).unwrap_or_default(),
        boot_guard: t.choice(
            &daemon::BOOT_GUARD,
            &[EarlySetup::Auto, EarlySetup::Always, EarlySetup::Never],
            EarlySetup::Auto,
            p,
        ),
        boot_attempts: u32::try_from(t.number(&daemon::BOOT_ATTEMPTS, p)).unwrap_or(u32::MAX),
        boot_ok_after: t.millis(&daemon::BOOT_OK_AFTER, p),
        watchdog: watchdog(t, p),
    }
}

fn cgroup(t: &Table<'_>, p: &mut Problems) -> Cgroup {
    let at = t.place(&daemon::CGROUP);
    match t.text(&daemon::CGROUP, p) {
        None | Some("auto") => Cgroup::Auto,
        Some("off") => Cgroup::Off,
        Some(path) if is_place(path) => Cgroup::At(path.trim_end_matches('/').into()),
        Some(other) => {
            let words = format!(
                "`cgroup` is \"{}\"; it must be \"auto\", \"off\" or the absolute path of a cgroup, as \
                 in \"/sys/fs/cgroup/services\"",
                hints::shorten(other)
            );
            p.error(at, words);
            Cgroup::Auto
        }
    }
}

fn is_place(path: &str) -> bool {
    let named = path.split('/').any(|part| !part.is_empty());
    path.starts_with('/') && named && !path.split('/').any(|part| part == "..")
}

/// Where everybody looks for syslog (syslog(3)).
const SYSLOG_SOCKET: &str = "/dev/log";

fn syslog_socket(t: &Table<'_>, p: &mut Problems) -> Box<str> {
    match t.text(&daemon::SYSLOG_SOCKET, p) {
        None => SYSLOG_SOCKET.into(),
        Some(path) if path.starts_with('/') => path.into(),
        Some(path) => {
            let shown = hints::shorten(path);
            let words = format!("`syslog_socket` is `{shown}`; it must be absolute");
            p.error(t.place(&daemon::SYSLOG_SOCKET), words);
            SYSLOG_SOCKET.into()
        }
    }
}

fn watchdog(t: &Table<'_>, p: &mut Problems) -> Option<Watchdog> {
    let entry = t.entry(&daemon::WATCHDOG)?;
    let Value::Table(members) = &entry.value.value else {
        return wrong(entry, "a table: [watchdog]", &entry.value.value, p);
    };
    let t = Table::open(entry.value.at, members, watchdog::ALL, p);
    let device = t.text(&watchdog::DEVICE, p).unwrap_or("/dev/watchdog");
    if !device.starts_with('/') {
        let shown = hints::shorten(device);
        let words = format!("`device` is `{shown}`; it must be absolute, as /dev/watchdog");
        p.error(t.place(&watchdog::DEVICE), words);
        return None;
    }
    let millis = u64::try_from(t.number(&watchdog::TIMEOUT, p)).unwrap_or(0);
    Some(Watchdog {
        device: device.into(),
        timeout: Duration::from_millis(millis),
    })
}

fn main(t: &Table<'_>, p: &mut Problems) -> Option<Box<str>> {
    let name = t.text(&daemon::MAIN, p)?;
    match names::check(name) {
        Ok(()) => Some(name.into()),
        Err(why) => {
            p.error(t.place(&daemon::MAIN), format!("`main`: {why}"));
            None
        }
    }
}

fn access(t: &Table<'_>, p: &mut Problems) -> Box<[(Box<str>, Right)]> {
    let Some(entry) = t.entry(&daemon::ACCESS) else {
        return Box::default();
    };
    let Value::Table(members) = &entry.value.value else {
        wrong::<()>(entry, "a table of groups", &entry.value.value, p);
        return Box::default();
    };
    let mut found: Vec<(Box<str>, Right)> = Vec::new();
    for member in members {
        let group = member.key.as_ref();
        if group.is_empty() || group.contains(|c: char| c == ':' || c.is_whitespace()) {
            let words = format!("`{}` is no group's name or number", hints::shorten(group));
            p.error(member.key_at, words);
            continue;
        }
        let rights = match &member.value.value {
            Value::Array(rights) => rights.as_slice(),
            _ => std::slice::from_ref(&member.value),
        };
        for right in rights {
            let Value::String(word) = &right.value else {
                let what = right.value.what();
                let words = format!(
                    "`{}` has {what}: write a right in quotes, as \"read\", or an array of them",
                    hints::shorten(group)
                );
                p.error(right.at, words);
                continue;
            };
            match Right::parse(word) {
                Ok(right) => found.push((group.into(), right)),
                Err(why) => {
                    let (group, word) = (hints::shorten(group), hints::shorten(word));
                    p.error(right.at, format!("`{group}` is given \"{word}\": {why}"));
                }
            }
        }
    }
    found.into_boxed_slice()
}
