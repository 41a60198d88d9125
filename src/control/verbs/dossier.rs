//! Rows of the table: what was found out about services before they were stopped for their health.

use super::{Kind, Level, Shape, Verb, calls, position};

pub(super) const LIST: Verb = Verb {
    words: "dossier list",
    method: "dossier.list",
    args: &[position(
        "name",
        Kind::Service,
        false,
        "the service; all when left out, also those that are no more",
    )],
    access: Level::Read,
    summary: "what services were stuck on when they were stopped for their health, one a line",
    help: "Oldest first. `dossier_keep` and `dossier_max_bytes` in vitald.toml say how many are \
           kept, `dossier_timeout_ms` in a service's definition how long evidence is collected.",
    shape: Shape::Dossiers,
    run: calls::dossiers,
};

pub(super) const SHOW: Verb = Verb {
    words: "dossier show",
    method: "dossier.get",
    args: &[position(
        "id",
        Kind::Text,
        true,
        "the dossier, as `dossier list` and `why` name it; or a service, for its last one",
    )],
    access: Level::Read,
    summary: "what a service was stuck on: its probes, threads, sockets, descriptors and log",
    help: "Collected before the first signal of a stop for its health, its start limit or its \
           watchdog. What could not be seen is said.",
    shape: Shape::Dossier,
    run: calls::dossier,
};
