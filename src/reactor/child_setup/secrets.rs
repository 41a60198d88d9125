//! Copies the files of `secrets` to where only the service's user can read them, between clone
//! and exec: with the daemon's rights, and where a dead mount stalls this child alone.
//!
//! The directory is the daemon's to make and to remove (`private`). Invariants: a copy is there
//! whole or not at all, under its name; one that is there is left as it is, so all of a run's
//! commands see the same.

use super::{Failure, errno};
use std::ffi::CString;

pub(in crate::reactor) struct SecretFiles {
    pub files: Vec<Secret>,
    /// Whose they are to be.
    pub uid: u32,
    pub gid: u32,
    /// Room for what is copied.
    pub buffer: Vec<u8>,
}

pub(in crate::reactor) struct Secret {
    pub from: CString,
    /// Until it is whole.
    pub unfinished: CString,
    pub to: CString,
}

pub(super) unsafe fn hand_out(files: &mut SecretFiles) -> Result<(), Failure<'_>> {
    let SecretFiles {
        files,
        uid,
        gid,
        buffer,
    } = files;
    for secret in files.iter() {
        // SAFETY: in a fresh child, as the caller promises; strings of `secret`.
        unsafe {
            if libc::access(secret.to.as_ptr(), libc::F_OK) == 0 {
                continue;
            }
            copy(secret, *uid, *gid, buffer)?;
        }
    }
    Ok(())
}

unsafe fn copy<'a>(
    secret: &'a Secret,
    uid: u32,
    gid: u32,
    buffer: &mut [u8],
) -> Result<(), Failure<'a>> {
    let failed = |name: &'a CString| Failure::now("secrets", name.as_bytes());
    let read = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY;
    let write = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    // SAFETY: strings of `secret`, a buffer with its own length, descriptors that are ours and
    // close at the exec.
    unsafe {
        let from = libc::open(secret.from.as_ptr(), read);
        if from < 0 {
            return Err(failed(&secret.from));
        }
        // One that a child before this one left unfinished.
        libc::unlink(secret.unfinished.as_ptr());
        let to = libc::open(secret.unfinished.as_ptr(), write, 0o400 as libc::c_uint);
        if to < 0 {
            return Err(failed(&secret.to));
        }
        let mut length = 0;
        loop {
            match libc::read(from, buffer.as_mut_ptr().cast(), buffer.len()) {
                0 => break,
                count if count > 0 => {
                    length += count as usize;
                    if length > crate::limits::MAX_SECRET {
                        return Err(Failure::of(libc::EFBIG, "secrets", secret.from.as_bytes()));
                    }
                    let mut written = 0;
                    while written < count as usize {
                        let rest = buffer.get(written..count as usize).unwrap_or_default();
                        match libc::write(to, rest.as_ptr().cast(), rest.len()) {
                            part if part > 0 => written += part as usize,
                            _ if errno() == libc::EINTR => {}
                            _ => return Err(failed(&secret.to)),
                        }
                    }
                }
                _ if errno() == libc::EINTR => {}
                _ => return Err(failed(&secret.from)),
            }
        }
        libc::close(from);
        if libc::fchown(to, uid, gid) < 0
            || libc::rename(secret.unfinished.as_ptr(), secret.to.as_ptr()) < 0
        {
            return Err(failed(&secret.to));
        }
        libc::close(to);
    }
    Ok(())
}
