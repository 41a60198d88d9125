//! Rows of the table: definitions read anew, and what comes of that.

use super::{Kind, Level, Shape, Verb, calls, option, position};

pub(super) const RELOAD: Verb = Verb {
    words: "reload",
    method: "system.reload",
    args: &[
        position(
            "name",
            Kind::Service,
            false,
            "the service that is to read its own configuration anew; the daemon when left out",
        ),
        option(
            "dry_run",
            Kind::Flag,
            "dry-run",
            Some('n'),
            "say what would be done to which service, and touch nothing",
        ),
        option(
            "strict",
            Kind::Flag,
            "strict",
            None,
            "all or nothing: touch nothing if any file is broken",
        ),
        option(
            "confirm_ms",
            Kind::Duration,
            "confirm",
            None,
            "as 60s: what was in force before comes back then, unless `confirm` is said; strict",
        ),
    ],
    access: Level::Act,
    summary: "read the definitions again and apply what changed, or make a service do so",
    help: "A service is restarted only when what its process is has changed; what is gone is \
               stopped, dependents first. A file with an error changes nothing: the definition \
               before it stays in force. A new dependency cycle changes nothing at all. The daemon's \
               own settings, vitald.toml, are read again by the same rules; keys that only a start of \
               the daemon reads, as by `upgrade`, are named. This needs the right `admin`. With --confirm what was in force before comes back by itself when \
               the time is over, or as soon as a service that was well before, or is new, ends by \
               itself, is not ready within its start timeout, or is to be restarted for its health; \
               also after the daemon's death. If the machine is started anew within that time, the \
               definitions before are in force then. Files are left as they are; the next `reload` \
               takes them. Another --confirm in the meantime joins the first, and the time begins \
               anew; without it a reload is refused then. With a name that service is sent its \
               `reload_signal`, or its `reload_exec` is run and the answer tells how that ended.",
    shape: Shape::Done,
    run: calls::reload,
};

pub(super) const CONFIRM: Verb = Verb {
    words: "confirm",
    method: "system.confirm",
    args: &[],
    access: Level::Admin,
    summary: "keep what the last `reload --confirm` has put in force",
    help: "Answered when it is on disk.",
    shape: Shape::Done,
    run: calls::confirm,
};

pub(super) const REVERT: Verb = Verb {
    words: "revert",
    method: "system.revert",
    args: &[],
    access: Level::Admin,
    summary: "put back what was in force before a `reload --confirm`, at once",
    help: "The files are left as they are; the next `reload` takes them.",
    shape: Shape::Done,
    run: calls::revert,
};
