//! The recording's files: `current`, and `current.1` the one before, to `current.3`.
//!
//! Runs in the scribe: it may block. What the bytes mean is not known here, only where a new file
//! begins. Invariant: a file has no hole. After a failed write nothing is written until the next
//! file begins, and who records is told.

use crate::journal::Fault;
use crate::limits;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

pub struct RecordingFile {
    dir: PathBuf,
    file: Option<File>,
}

impl RecordingFile {
    pub fn new(dir: PathBuf) -> RecordingFile {
        RecordingFile { dir, file: None }
    }

    /// `begins`: of a new file. Bytes that have none are dropped: that was told already.
    pub fn write(&mut self, begins: bool, data: &[u8]) -> Result<(), Fault> {
        if begins {
            self.file = None;
            let begun = self.begin();
            self.file = Some(begun.map_err(|error| Fault::io("begin", &self.path(), &error))?);
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(data).map_err(|error| {
            self.file = None;
            Fault::io("write", &self.path(), &error)
        })
    }

    fn path(&self) -> PathBuf {
        self.dir.join("current")
    }

    fn begin(&self) -> io::Result<File> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = self.path();
        let older = |n: u32| match n {
            0 => path.clone(),
            n => path.with_extension(n.to_string()),
        };
        for n in (1..limits::RECORD_FILES).rev() {
            match fs::rename(older(n - 1), older(n)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    }
}
