//! Exit codes, and what they mean: help and the man page are loops over this table.
//!
//! `status` follows the Linux Standard Base (init scripts, "status"): 3 is "not running", and a
//! daemon that is not there runs nothing, so the two share a code; 4 is "unknown service".

use std::process::ExitCode;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Ok,
    Failed,
    Usage,
    NotRunning,
    Unknown,
    Degraded,
}

/// Every code with its meaning.
pub const EXITS: &[(Exit, &str)] = &[
    (
        Exit::Ok,
        "done; `status NAME`: running, or a oneshot that has done its work",
    ),
    (
        Exit::Failed,
        "refused or failed; `probe run`: a probe did not pass; `check`: a definition has errors",
    ),
    (Exit::Usage, "the command line is wrong"),
    (
        Exit::NotRunning,
        "no daemon is running; `status NAME`: the service is not running",
    ),
    (Exit::Unknown, "no service of that name"),
    (Exit::Degraded, "`status NAME`: running but unhealthy"),
];

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotRunning => 3,
            Exit::Unknown => 4,
            Exit::Degraded => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
