//! What a process may not do, put in force between clone and exec: capabilities, new privileges,
//! a view of the file system of its own.
//!
//! The order is that of what each step needs: mounts and the bounding set want the daemon's
//! rights, what stays of capabilities is given back after the change of identity, new privileges
//! are forbidden last. As in all of `child_setup` only system calls are made here.

use super::{Failure, errno};
use std::ffi::{CStr, CString};
use std::ptr;

/// Ready made; nothing is allocated when it is used.
#[derive(Default)]
pub(in crate::reactor) struct Confinement {
    /// PR_SET_NO_NEW_PRIVS (prctl(2)).
    pub no_new_privs: bool,
    /// All it may ever have, bit n for capability n.
    pub capabilities: Option<u64>,
    /// It is executed as another user than root: those are given to it.
    pub ambient: bool,
    pub read_only: bool,
    pub writable: Vec<Writable>,
    /// What stands at /tmp and /var/tmp.
    pub private_tmp: Option<CString>,
}

pub(in crate::reactor) struct Writable {
    pub path: CString,
    /// It may be missing.
    pub optional: bool,
}

/// What stays as it is below a root that is read-only: the kernel's own.
const KERNELS: [&CStr; 3] = [c"/dev", c"/proc", c"/sys"];
const TMP: &CStr = c"/tmp";
const VAR_TMP: &CStr = c"/var/tmp";

/// With the daemon's rights: mounts, and what nobody may have any more.
pub(super) unsafe fn before_identity(with: &Confinement) -> Result<(), Failure<'_>> {
    // SAFETY: in a fresh child of one thread, as the caller promises; strings of `with`.
    unsafe {
        if with.read_only || with.private_tmp.is_some() {
            own_mounts()?;
        }
        if let Some(dir) = &with.private_tmp {
            put_tmp(dir)?;
        }
        if with.read_only {
            make_read_only(with)?;
        }
        if let Some(capabilities) = with.capabilities {
            bound(capabilities)?;
            if with.ambient && libc::prctl(libc::PR_SET_KEEPCAPS, 1 as libc::c_ulong) < 0 {
                return Err(Failure::now("capabilities", b""));
            }
        }
    }
    Ok(())
}

/// With the service's own: what it was promised, and nothing by set-user-ID.
pub(super) unsafe fn after_identity(with: &Confinement) -> Result<(), Failure<'_>> {
    // SAFETY: as above.
    unsafe {
        if let Some(capabilities) = with.capabilities.filter(|_| with.ambient) {
            give(capabilities)?;
        }
        if with.no_new_privs && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1u64, 0u64, 0u64, 0u64) < 0 {
            return Err(Failure::now("no_new_privs", b""));
        }
    }
    Ok(())
}

// --- mounts

unsafe fn mount(from: &CStr, to: &CStr, flags: libc::c_ulong) -> bool {
    let (kind, data) = (ptr::null(), ptr::null());
    // SAFETY: strings that live through the call; a bind has neither type nor data.
    unsafe { libc::mount(from.as_ptr(), to.as_ptr(), kind, flags, data) == 0 }
}

/// A mount namespace; what the host mounts later is seen, what is mounted here is not seen there.
unsafe fn own_mounts<'a>() -> Result<(), Failure<'a>> {
    // SAFETY: numbers and constant strings.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) < 0 {
            return Err(Failure::now(
                "read_only or private_tmp, a mount namespace",
                b"",
            ));
        }
        if !mount(c"none", c"/", libc::MS_REC | libc::MS_SLAVE) {
            return Err(Failure::now(
                "read_only or private_tmp, the host's mounts",
                b"",
            ));
        }
    }
    Ok(())
}

unsafe fn put_tmp(dir: &CString) -> Result<(), Failure<'_>> {
    // SAFETY: strings that live through the call.
    unsafe {
        if !mount(dir, TMP, libc::MS_BIND) {
            return Err(Failure::now("private_tmp", TMP.to_bytes()));
        }
        // From where it is now: `dir` may stand below /tmp itself.
        if !mount(TMP, VAR_TMP, libc::MS_BIND) && errno() != libc::ENOENT {
            return Err(Failure::now("private_tmp", VAR_TMP.to_bytes()));
        }
    }
    Ok(())
}

unsafe fn make_read_only(with: &Confinement) -> Result<(), Failure<'_>> {
    // SAFETY: strings of `with`, or constant.
    unsafe {
        // What is to stay writable becomes a mount of its own, whose flag is its own.
        for Writable { path, optional } in &with.writable {
            if !mount(path, path, libc::MS_BIND | libc::MS_REC) {
                if *optional && matches!(errno(), libc::ENOENT | libc::ENOTDIR) {
                    continue;
                }
                return Err(Failure::now("writable", path.as_bytes()));
            }
        }
        // Taken up before and put back after, not made writable again: what of it is read-only
        // already, as a container's /proc/sys, stays so.
        let mut kernels = [-1; KERNELS.len()];
        for (place, copy) in KERNELS.iter().zip(&mut kernels) {
            *copy = take_up(place);
            if *copy < 0 && errno() != libc::ENOENT {
                return Err(Failure::now(
                    "read_only: cannot leave out",
                    place.to_bytes(),
                ));
            }
        }
        if !set_read_only(c"/", true) {
            return Err(Failure::now("read_only", b""));
        }
        for (place, copy) in KERNELS.iter().zip(kernels) {
            if copy >= 0 && !put_back(copy, place) {
                return Err(Failure::now(
                    "read_only: cannot leave out",
                    place.to_bytes(),
                ));
            }
        }
        let tmp = [TMP, VAR_TMP].into_iter();
        for place in tmp.filter(|_| with.private_tmp.is_some()) {
            if !set_read_only(place, false) && errno() != libc::ENOENT {
                return Err(Failure::now("private_tmp", place.to_bytes()));
            }
        }
        for Writable { path, .. } in &with.writable {
            // It was bound above; what is missing was passed over there.
            if !set_read_only(path, false) && !matches!(errno(), libc::ENOENT | libc::ENOTDIR) {
                return Err(Failure::now("writable", path.as_bytes()));
            }
        }
    }
    Ok(())
}

/// A mount and all below it, as they are (open_tree(2), Linux 5.2); -1: it cannot be had.
unsafe fn take_up(path: &CStr) -> libc::c_int {
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: a string and numbers.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    fd as libc::c_int
}

unsafe fn put_back(fd: libc::c_int, path: &CStr) -> bool {
    let (from, flags) = (c"".as_ptr(), libc::MOVE_MOUNT_F_EMPTY_PATH);
    // SAFETY: strings, numbers, a descriptor that is ours.
    unsafe {
        let moved = libc::syscall(
            libc::SYS_move_mount,
            fd,
            from,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
        );
        libc::close(fd);
        moved == 0
    }
}

/// `struct mount_attr` of mount_setattr(2), Linux 5.12.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A mount and all below it.
unsafe fn set_read_only(path: &CStr, on: bool) -> bool {
    let flag = libc::MOUNT_ATTR_RDONLY;
    let attributes = MountAttributes {
        set: if on { flag } else { 0 },
        clear: if on { 0 } else { flag },
        propagation: 0,
        user_namespace: 0,
    };
    let flags = libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: a string, and a struct with its own size.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    answer == 0
}

// --- capabilities

/// Takes all others out of what this process and its children may ever have.
unsafe fn bound<'a>(capabilities: u64) -> Result<(), Failure<'a>> {
    for number in 0..64 as libc::c_ulong {
        // SAFETY: numbers only.
        unsafe {
            match libc::prctl(libc::PR_CAPBSET_READ, number) {
                // The kernel knows no more.
                ..0 => break,
                0 => {}
                _ if capabilities >> number & 1 == 1 => {}
                _ => {
                    if libc::prctl(libc::PR_CAPBSET_DROP, number) < 0 {
                        return Err(Failure::now("capabilities", b""));
                    }
                }
            }
        }
    }
    Ok(())
}

/// `struct __user_cap_header_struct` and `..._data_struct` of capset(2), version 3.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}
#[repr(C)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Has, and hands on to what it executes (the ambient set, capabilities(7)).
unsafe fn give<'a>(capabilities: u64) -> Result<(), Failure<'a>> {
    let header = CapabilityHeader {
        version: 0x2008_0522,
        pid: 0,
    };
    let half = |bits: u32| CapabilityData {
        effective: bits,
        permitted: bits,
        inheritable: bits,
    };
    let data = [half(capabilities as u32), half((capabilities >> 32) as u32)];
    // SAFETY: structs as the kernel has them; numbers.
    unsafe {
        if libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) < 0 {
            return Err(Failure::now("capabilities", b""));
        }
        for number in (0..64 as libc::c_ulong).filter(|number| capabilities >> number & 1 == 1) {
            let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
            let (none, nothing) = (0 as libc::c_ulong, 0 as libc::c_ulong);
            if libc::prctl(libc::PR_CAP_AMBIENT, raise, number, none, nothing) < 0 {
                return Err(Failure::now("capabilities", b""));
            }
        }
    }
    Ok(())
}
