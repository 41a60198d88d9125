//! Our own program: which file is executing, and how it is executed once more, also when its name
//! is gone or another's, and where there is no /proc.
//!
//! The file is opened once, at the start, and only by its place (O_PATH, open(2)): by
//! `/proc/self/exe`, else by the name that execve(2) was given, which the kernel tells in the
//! auxiliary vector (AT_EXECFN, getauxval(3)). An execution by descriptor has no name to tell, so
//! the descriptor and the path go along in the handover.
//!
//! Not here: what is handed over, and when (`reexec`).

use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::OnceLock;

#[derive(Debug)]
struct Own {
    file: OwnedFd,
    path: PathBuf,
}

static OWN: OnceLock<Own> = OnceLock::new();

/// Opens the file that is executing, once in an execution. `handed_over`: we were executed by this
/// descriptor, of a file of this name.
pub fn remember(handed_over: Option<(OwnedFd, PathBuf)>) {
    let found = match handed_over {
        Some((file, path)) => Some(Own { file, path }),
        None => by_proc().or_else(by_auxiliary_vector),
    };
    if let Some(own) = found {
        // A second daemon in one process is a test's.
        let _ = OWN.set(own);
    }
}

fn by_proc() -> Option<Own> {
    let path = std::env::current_exe().ok()?;
    // A file that was replaced in the meantime is what is meant by the name.
    let text = path.to_str()?;
    let path = text.strip_suffix(" (deleted)").unwrap_or(text).into();
    let file = place(c"/proc/self/exe")?;
    Some(Own { file, path })
}

fn by_auxiliary_vector() -> Option<Own> {
    // SAFETY: it only tells.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if name.is_null() {
        return None;
    }
    // SAFETY: the kernel put it there, and it stays as long as the process does.
    let name = unsafe { CStr::from_ptr(name) };
    let path = std::path::absolute(OsStr::from_bytes(name.to_bytes())).ok()?;
    let file = place(name)?;
    Some(Own { file, path })
}

fn place(path: &CStr) -> Option<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()
}

/// Where our own program is: what `upgrade` executes when no other is named.
pub fn path() -> Option<PathBuf> {
    OWN.get().map(|own| own.path.clone())
}

/// The very file that runs, whatever stands under its name by now.
pub fn descriptor() -> Option<RawFd> {
    OWN.get().map(|own| own.file.as_raw_fd())
}

/// What is to be executed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Program {
    Named(CString),
    /// An open file (execveat(2), AT_EMPTY_PATH).
    Open(RawFd),
}

impl Program {
    /// None: the path has a null byte in it.
    pub fn named(path: PathBuf) -> Option<Program> {
        let path = CString::new(path.into_os_string().into_vec());
        path.ok().map(Program::Named)
    }

    pub fn execute(
        &self,
        arguments: &[CString],
        environment: &[CString],
    ) -> io::Result<Infallible> {
        let done = match self {
            Program::Named(path) => nix::unistd::execve(path, arguments, environment),
            Program::Open(number) => {
                // SAFETY: it is only asked for, and a number that is closed is EBADF.
                let file = unsafe { BorrowedFd::borrow_raw(*number) };
                // The next execution finds it by its number.
                fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
                let failed = nix::unistd::execveat(
                    file,
                    c"",
                    arguments,
                    environment,
                    AtFlags::AT_EMPTY_PATH,
                );
                fcntl(file, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
                failed
            }
        };
        Ok(done?)
    }
}

/// Who is executed by a descriptor or a link is called by that in every list of processes.
pub fn bear_own_name() {
    let name = path().and_then(|path| CString::new(path.file_name()?.as_bytes()).ok());
    if let Some(name) = name {
        // SAFETY: it reads the name, and cuts it at 15 bytes.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}

/// Is anything told of processes here?
pub fn without_proc() -> bool {
    nix::sys::stat::fstatat(AT_FDCWD, c"/proc/self/stat", AtFlags::empty()).is_err()
}
