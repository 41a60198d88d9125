//! The dossiers' files: `dossiers/ID.json` in the state directory, one each.
//!
//! Runs in the scribe: it may block. A dossier comes in parts, with how long all of it is; one of
//! which parts were lost is dropped and told. Invariants: a file is whole or not there; only its
//! owner may read it; there are as many, and as large together, as was set, and those that go are
//! the oldest.

use super::frame::LogHead;
use crate::control::dossier::Dossier;
use crate::journal::Fault;
use crate::journal::file::Replace;
use crate::limits;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;

/// Dossiers of which some parts came.
const OPEN: usize = 64;

pub struct Dossiers {
    dir: PathBuf,
    keep: usize,
    max_bytes: u64,
    open: BTreeMap<String, Vec<u8>>,
}

impl Dossiers {
    pub fn new(dir: PathBuf, keep: u32, max_bytes: u64) -> Dossiers {
        Dossiers {
            dir,
            keep: keep as usize,
            max_bytes,
            open: BTreeMap::new(),
        }
    }

    /// A part; the last of it has `end`. Its service is `/` and the dossier's name, its time how
    /// long all of it is.
    pub fn take(&mut self, head: &LogHead, data: &[u8]) -> Result<(), String> {
        let id = head.service.trim_start_matches('/');
        if Dossier::service_of(id).is_none() || id.contains('/') {
            return Err(format!("dossier {id}: no such name"));
        }
        if self.open.len() >= OPEN {
            self.open.clear();
        }
        let bytes = self.open.entry(id.to_owned()).or_default();
        let fits = head.dropped == 0 && bytes.len() + data.len() <= limits::DOSSIER_BYTES;
        if fits {
            bytes.extend_from_slice(data);
        }
        let whole = bytes.len() as u64 == head.wall_ms;
        if fits && !head.end {
            return Ok(());
        }
        let bytes = self.open.remove(id).unwrap_or_default();
        if !whole {
            return Err(format!(
                "dossier {id}: the disk is too slow, parts of it are lost"
            ));
        }
        self.write(id, &bytes)
            .map_err(|fault| format!("dossier {id}: {fault}"))?;
        self.tidy();
        Ok(())
    }

    fn write(&self, id: &str, bytes: &[u8]) -> Result<(), Fault> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Fault::io("create", &self.dir, &error));
            }
            _ => {}
        }
        let path = self.dir.join(format!("{id}.json"));
        let mut file = Replace::begin(&path)?;
        file.write(bytes)?;
        file.commit(true)?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, mode).map_err(|error| Fault::io("chmod", &path, &error))
    }

    /// What is over the bounds goes, the oldest first. What cannot be removed stays.
    fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        let mut all: Vec<(String, u64, PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            let service = id.and_then(|id| Some((id, Dossier::service_of(id)?)));
            if let (Some((id, service)), Ok(metadata)) = (service, entry.metadata()) {
                all.push((id[service.len()..].to_owned(), metadata.len(), entry.path()));
            }
        }
        all.sort();
        let mut bytes: u64 = all.iter().map(|(_, length, _)| length).sum();
        let mut left = all.len();
        for (_, length, path) in all {
            if left <= 1 || (left <= self.keep && bytes <= self.max_bytes) {
                return;
            }
            let _ = fs::remove_file(path);
            (left, bytes) = (left - 1, bytes.saturating_sub(length));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::scribe::style::{Stream, Style};

    fn part<'a>(service: &'a str, length: usize, dropped: u64, end: bool) -> LogHead<'a> {
        LogHead {
            service,
            wall_ms: length as u64,
            dropped,
            end,
            stream: Stream::Joined,
            style: Style::default(),
        }
    }

    #[test]
    fn whole_ones_are_kept_as_many_as_are_to_be() {
        let dir = std::env::temp_dir().join(format!("vitald-dossiers-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let mut dossiers = Dossiers::new(dir.clone(), 3, 1000);
        let mut put = |id: &str, text: &str| {
            let (service, length) = (format!("/{id}"), text.len());
            let (first, last) = text.as_bytes().split_at(length / 2);
            dossiers.take(&part(&service, length, 0, false), first)?;
            dossiers.take(&part(&service, length, 0, true), last)
        };
        for second in 10..16 {
            put(&format!("web-20261129T1013{second}-r3"), "{\"id\":1}\n").unwrap();
        }
        // By its time, not by its name.
        put("a-20261129T101300-r3", "{}\n").unwrap();
        let names = || {
            let mut names: Vec<String> = fs::read_dir(&dir)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let kept = ["13", "14", "15"].map(|s| format!("web-20261129T1013{s}-r3.json"));
        assert_eq!(names(), kept);
        let path = dir.join(&kept[0]);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_to_string(path).unwrap(), "{\"id\":1}\n");
        // By size.
        put("web-20261129T101359-r3", &("x".repeat(990) + "\n")).unwrap();
        let kept = ["15", "59"].map(|s| format!("web-20261129T1013{s}-r3.json"));
        assert_eq!(names(), kept);
        // One that alone is over the bound is kept until the next comes.
        put("web-20261129T101401-r4", &("x".repeat(1500) + "\n")).unwrap();
        let kept = ["web-20261129T101401-r4.json"];
        assert_eq!(names(), kept);

        // What is not whole, or not a name, is nothing.
        let lost = "/web-20261129T101400-r3";
        dossiers.take(&part(lost, 9, 0, false), b"half").unwrap();
        assert!(dossiers.take(&part(lost, 9, 5, false), b"").is_err());
        assert!(dossiers.take(&part(lost, 9, 0, true), b"rest").is_err());
        for id in ["/../x-20261129T101400-r3", "/", "/web"] {
            assert!(dossiers.take(&part(id, 1, 0, true), b"x").is_err(), "{id}");
        }
        assert_eq!(names(), kept);
        fs::remove_dir_all(&dir).unwrap();
    }
}
