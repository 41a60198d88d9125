//! An initramfs: a cpio archive in the form that the kernel unpacks ("newc",
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;

#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    dirs: BTreeSet<String>,
}

impl Archive {
    /// A file, and the directories above it.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.above(path);
        self.entry(path, 0o100_000 | mode, content);
    }

    pub fn link(&mut self, path: &str, to: &str) {
        self.above(path);
        self.entry(path, 0o120_777, to.as_bytes());
    }

    pub fn dir(&mut self, path: &str) {
        if self.dirs.insert(path.to_owned()) {
            self.above(path);
            self.entry(path, 0o040_755, b"");
        }
    }

    fn above(&mut self, path: &str) {
        if let Some((dir, _)) = path.rsplit_once('/') {
            self.dir(dir);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let name = path.len() as u32 + 1;
        let size = content.len() as u32;
        // inode, mode, uid, gid, links, time, size, device and node numbers, name, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }
}
