//! What a definition forbids its processes, made ready for the child, and the directories that
//! some of it needs: `R/tmp/NAME`, behind a door that only root passes, and `R/secrets/NAME`, the
//! service's own; R is the runtime directory, in memory.
//!
//! Not here: how it is put in force (`child_setup`).

use crate::config::{Confine, Process};
use crate::engine::event::SpawnError;
use crate::reactor::child_setup::{Confinement, Secret, SecretFiles, Writable};
use crate::reactor::identity::Identity;
use crate::reactor::spawn::text;
use std::path::{Path, PathBuf};

/// A secret is copied by this many bytes.
const BUFFER: usize = 4096;

/// The directories of one service.
pub(super) struct Place {
    pub tmp: PathBuf,
    pub secrets: PathBuf,
}

impl Place {
    /// `socket`: the control socket's path, which stands in the runtime directory.
    pub fn of(socket: &str, service: &str) -> Place {
        let base = Path::new(socket).parent().unwrap_or(Path::new("/"));
        Place {
            tmp: base.join("tmp").join(service),
            secrets: base.join("secrets").join(service),
        }
    }
}

pub(super) fn confinement(
    process: &Process,
    identity: &Identity,
    place: &Place,
) -> Result<Confinement, SpawnError> {
    let Confine {
        no_new_privs,
        capabilities,
        read_only,
        writable,
        private_tmp,
        secrets: _,
    } = &process.confine;
    let writable = writable.iter().map(|path| {
        let (path, optional) = match path.strip_prefix('-') {
            Some(path) => (path, true),
            None => (&**path, false),
        };
        let path = text("writable", path)?;
        Ok(Writable { path, optional })
    });
    let tmp = private_tmp.then(|| text("private_tmp", &place.tmp.display().to_string()));
    Ok(Confinement {
        no_new_privs: *no_new_privs,
        capabilities: *capabilities,
        ambient: identity.uid != 0,
        read_only: *read_only,
        writable: writable.collect::<Result<_, _>>()?,
        private_tmp: tmp.transpose()?,
    })
}

pub(super) fn secrets(
    process: &Process,
    identity: &Identity,
    place: &Place,
) -> Result<Option<SecretFiles>, SpawnError> {
    let secrets = &process.confine.secrets;
    if secrets.is_empty() {
        return Ok(None);
    }
    let dir = place.secrets.display();
    let file = |(name, from): (&str, &str)| {
        Ok(Secret {
            from: text("secrets", from)?,
            unfinished: text("secrets", &format!("{dir}/.{name}"))?,
            to: text("secrets", &format!("{dir}/{name}"))?,
        })
    };
    Ok(Some(SecretFiles {
        files: secrets
            .iter()
            .map(|(name, from)| file((name, from)))
            .collect::<Result<_, _>>()?,
        uid: identity.uid,
        gid: identity.gid,
        buffer: vec![0; BUFFER],
    }))
}

/// CREDENTIALS_DIRECTORY, as systemd.exec(5) has it.
pub(super) fn variable(process: &Process, place: &Place) -> Option<String> {
    let any = !process.confine.secrets.is_empty();
    any.then(|| place.secrets.display().to_string())
}
