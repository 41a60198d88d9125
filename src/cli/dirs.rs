//! Where things are: the daemon's directories and its socket, for root and for everybody else
//! (XDG Base Directory Specification).

use crate::daemon::Options;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The socket's name in the runtime directory.
const SOCKET: &str = "control.sock";
const SYSTEM_RUNTIME: &str = "/run/vitald";

/// The directories that were named on the command line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Given {
    pub config_dir: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
    pub runtime_dir: Option<PathBuf>,
    pub record: Option<PathBuf>,
    pub main: Option<String>,
}

pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What the daemon runs with.
pub fn options(given: Given, root: bool, env: Env<'_>) -> Result<Options, String> {
    let runtime_dir = match given.runtime_dir {
        Some(dir) => dir,
        None if root => SYSTEM_RUNTIME.into(),
        None => xdg(env, "XDG_RUNTIME_DIR", None).ok_or_else(|| {
            "XDG_RUNTIME_DIR is not set; name a directory with --runtime-dir DIR, and for those \
             who ask VITALD_SOCKET=DIR/control.sock"
                .to_owned()
        })?,
    };
    let state_dir = match given.state_dir {
        Some(dir) => dir,
        None if root => "/var/lib/vitald".into(),
        None => xdg(env, "XDG_STATE_HOME", Some(".local/state")).ok_or_else(|| {
            "neither XDG_STATE_HOME nor HOME is set; name a directory with --state-dir".to_owned()
        })?,
    };
    Ok(Options {
        config_dir: config_dir(given.config_dir, root, env)?,
        state_dir,
        runtime_dir,
        record_dir: given.record,
        main: given.main.map(Into::into),
    })
}

/// Where the definitions are.
pub fn config_dir(given: Option<PathBuf>, root: bool, env: Env<'_>) -> Result<PathBuf, String> {
    match given {
        Some(dir) => Ok(dir),
        None if root => Ok("/etc/vitald".into()),
        None => xdg(env, "XDG_CONFIG_HOME", Some(".config")).ok_or_else(|| {
            "neither XDG_CONFIG_HOME nor HOME is set; name a directory with --config-dir".to_owned()
        }),
    }
}

/// `$NAME/vitald`, else `$HOME/<fallback>/vitald`. Relative paths do not count, says XDG.
fn xdg(env: Env<'_>, name: &str, fallback: Option<&str>) -> Option<PathBuf> {
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    let base = env(name)
        .and_then(absolute)
        .or_else(|| Some(env("HOME").and_then(absolute)?.join(fallback?)))?;
    Some(base.join("vitald"))
}

/// The socket that a client asks. Root's daemon is the host's; others have their own when it
/// is there, else they ask the host's.
pub fn socket(
    given: Option<&Path>,
    root: bool,
    env: Env<'_>,
    exists: impl Fn(&Path) -> bool,
) -> PathBuf {
    if let Some(path) = given {
        return path.to_owned();
    }
    if let Some(path) = env("VITALD_SOCKET").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let system = Path::new(SYSTEM_RUNTIME).join(SOCKET);
    let own = || Some(xdg(env, "XDG_RUNTIME_DIR", None)?.join(SOCKET));
    match own() {
        Some(own) if !root && (exists(&own) || !exists(&system)) => own,
        _ => system,
    }
}
