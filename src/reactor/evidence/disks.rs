//! File systems that a service writes to: a full one stops many a server, and none says so to who asks
//! it from outside.
//!
//! Found by files that are open to write, and by working directories, where others are made. Invariant:
//! nothing is opened; but stat(2) and statvfs(3) may hang where the file system does.

use crate::control::dossier::{Evidence, FileSystemSeen};
use crate::id::Pid;
use crate::limits;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, DirEntry};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// What of a table of mounts is read: a host of containers has thousands.
const MOUNTS: u64 = 1 << 20;

pub fn all(pids: &[Pid], evidence: &mut Evidence) {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    let mut look = |pid: Pid, at: &str, is_open: bool, path: &str| {
        // A pipe with a name takes none of the space.
        let meant = |file: &fs::Metadata| file.is_file() || (file.is_dir() && !is_open);
        let device = fs::metadata(at).ok().filter(meant).map(|file| file.dev());
        if found.len() < limits::DOSSIER_FILE_SYSTEMS
            && device.is_some_and(|device| known.insert(device))
        {
            found.extend(ask(pid, at, is_open, path));
        }
    };
    for pid in pids {
        let entries = fs::read_dir(format!("/proc/{pid}/fd"));
        let entries = entries.into_iter().flatten().flatten();
        let files = entries.take(limits::DOSSIER_FDS).filter_map(written);
        for (at, path) in files.take(limits::DOSSIER_FILES) {
            look(*pid, &at, true, &path);
        }
    }
    for pid in pids {
        let at = format!("/proc/{pid}/cwd");
        let to = fs::read_link(&at).unwrap_or_default();
        look(*pid, &at, false, &to.to_string_lossy());
    }
    let mut mounts = Mounts::default();
    for seen in &mut found {
        seen.at = mounts
            .of(seen.pid, &seen.path)
            .unwrap_or_else(|| seen.path.clone());
    }
    found.sort_by_key(|seen| (!seen.read_only, seen.free_kb * 1000 / seen.size_kb.max(1)));
    evidence.file_systems = found;
}

/// A file that is open to write: where `/proc` has it, and its path.
fn written(entry: DirEntry) -> Option<(String, String)> {
    // The link's own mode tells how it was opened (proc_pid_fd(5)).
    let mode = entry.metadata().ok()?.permissions().mode();
    let to = fs::read_link(entry.path()).ok()?.to_str()?.to_owned();
    let no_file = ["/dev/", "/proc/", "/sys/", "/memfd:"];
    let is_file = to.starts_with('/') && !no_file.iter().any(|begin| to.starts_with(begin));
    (mode & 0o200 != 0 && is_file).then(|| (entry.path().to_string_lossy().into_owned(), to))
}

fn ask(pid: Pid, at: &str, is_open: bool, path: &str) -> Option<FileSystemSeen> {
    let name = CString::new(at).ok()?;
    // SAFETY: all zero is one.
    let mut told: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: it reads the name and writes to `told`.
    if unsafe { libc::statvfs(name.as_ptr(), &raw mut told) } != 0 {
        return None;
    }
    seen(&told, is_open).map(|seen| FileSystemSeen {
        path: path.to_owned(),
        pid: pid.0,
        ..seen
    })
}

/// None: it is none that fills up. An image that is only read is always full, and nobody writes to it;
/// pipes, and memory without a bound, have no size.
#[allow(clippy::unnecessary_cast)] // its fields are 32 bits wide on some targets
fn seen(told: &libc::statvfs, is_open: bool) -> Option<FileSystemSeen> {
    let kb = |blocks: u64| (u128::from(blocks) * told.f_frsize as u128 / 1024) as u64;
    let read_only = told.f_flag & libc::ST_RDONLY != 0;
    if told.f_blocks == 0 || (read_only && !is_open) {
        return None;
    }
    Some(FileSystemSeen {
        read_only,
        size_kb: kb(told.f_blocks as u64),
        free_kb: kb(told.f_bavail as u64),
        free_inodes: (told.f_files > 0).then_some(told.f_favail as u64),
        ..FileSystemSeen::default()
    })
}

/// A process's table of mounts; that of the one before is kept.
#[derive(Default)]
struct Mounts {
    of: i32,
    table: String,
}

impl Mounts {
    fn of(&mut self, pid: i32, path: &str) -> Option<String> {
        if self.of != pid {
            (self.of, self.table) = (pid, String::new());
            let file = fs::File::open(format!("/proc/{pid}/mountinfo")).ok()?;
            let _ = file.take(MOUNTS).read_to_string(&mut self.table);
        }
        mounted_at(&self.table, path)
    }
}

/// The longest mount point that the path is below (proc_pid_mountinfo(5)): field 5, its blanks as \040.
fn mounted_at(table: &str, path: &str) -> Option<String> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let points = points.map(|point| point.replace("\\040", " "));
    let above = |point: &String| {
        let rest = path.strip_prefix(point.as_str());
        point == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    points.filter(above).max_by_key(String::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_a_path_below_it() {
        let table = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                     30 22 8:2 / /data rw - ext4 /dev/sda2 rw\n\
                     31 22 8:3 / /data\\040two rw - ext4 /dev/sda3 rw\n";
        let at = |path: &str| mounted_at(table, path);
        assert_eq!(at("/data").as_deref(), Some("/data"));
        assert_eq!(at("/data/db/wal").as_deref(), Some("/data"));
        assert_eq!(at("/data two/x").as_deref(), Some("/data two"));
        assert_eq!(at("/database").as_deref(), Some("/"));
        assert_eq!(mounted_at("", "/x"), None);
    }

    #[test]
    fn an_image_that_is_only_read_is_not_full() {
        // SAFETY: all zero is one.
        let mut told: libc::statvfs = unsafe { std::mem::zeroed() };
        assert_eq!(seen(&told, true), None, "without a size");
        (told.f_blocks, told.f_frsize, told.f_flag) = (100, 4096, libc::ST_RDONLY);
        assert_eq!(seen(&told, false), None);
        let open = seen(&told, true).unwrap();
        assert!(open.read_only && open.free_kb == 0, "{open:?}");
        (told.f_flag, told.f_bavail) = (0, 50);
        let works = seen(&told, false).unwrap();
        assert_eq!((works.size_kb, works.free_kb), (400, 200));
        assert_eq!((works.read_only, works.free_inodes), (false, None));
    }

    #[test]
    fn what_is_open_to_write_is_found_and_what_is_only_read_is_not() {
        let us = Pid(std::process::id() as i32);
        let path = std::env::temp_dir().join(format!("vitald-disks-{us}"));
        let open = fs::File::create(&path).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&open);
        let find = |fd: i32| {
            let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
            let mut entries = entries.filter(|entry| *entry.file_name() == *fd.to_string());
            written(entries.next().unwrap()).map(|(_, path)| path)
        };
        assert_eq!(find(fd).as_deref(), path.to_str());
        let read = fs::File::open(&path).unwrap();
        assert_eq!(find(std::os::fd::AsRawFd::as_raw_fd(&read)), None);
        let _ = fs::remove_file(&path);
        let mut evidence = Evidence::default();
        all(&[us], &mut evidence);
        let seen = evidence.file_systems.first().expect("at least one");
        assert!(seen.size_kb > 0 && !seen.at.is_empty(), "{seen:?}");
    }
}
