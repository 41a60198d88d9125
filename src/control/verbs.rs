//! The table of verbs: what can be asked of a daemon. One row is one verb, for both tongues and
//! for the command line.
//!
//! What a verb does is in [`calls`]; what it answers is drawn in [`render`](super::render).
//! Invariants: words and methods are unique; within a row, positional arguments come before
//! options, a list is the last positional one, and nothing required follows what is optional.

mod alert;
mod dossier;
mod reload;
mod row;

pub use row::{Arg, Form, Kind, Shape, Verb};

use super::access::Level;
use super::calls;
use row::{option, position};

const NAME: Arg = position("name", Kind::Service, true, "the service");
const WAIT: Arg = option(
    "wait",
    Kind::Flag,
    "wait",
    Some('w'),
    "answer when the work has ended, not when it is accepted",
);

/// What an event can be about (`StoryLine::kind`).
pub const EVENT_KINDS: &[&str] = &[
    "state",
    "health",
    "wanted",
    "probe",
    "definition",
    "host",
    "dossier",
    "storm",
    "decision",
    "hold",
    "reload",
];

/// All verbs, in the order in which help shows them.
pub static VERBS: &[Verb] = &[
    Verb {
        words: "list",
        method: "service.list",
        args: &[],
        access: Level::View,
        summary: "all services, one a line",
        help: "With --json an array of what `status NAME` gives for one.",
        shape: Shape::List,
        run: calls::list,
    },
    Verb {
        words: "status",
        method: "service.status",
        args: &[
            position(
                "name",
                Kind::Service,
                false,
                "the service; all when left out",
            ),
            option(
                "tree",
                Kind::Flag,
                "tree",
                Some('t'),
                "who needs whom, each under those who need it, and what it waits for",
            ),
        ],
        access: Level::View,
        summary: "how the services are: a table, or one of them in detail",
        help: "With a name the exit code tells the state: 0 running, 3 not running, \
               4 no such service, 5 running but unhealthy. Without a name JSON holds \
               `daemon` and `services`; with --tree it holds `tree`.",
        shape: Shape::Status,
        run: calls::status,
    },
    Verb {
        words: "why",
        method: "service.why",
        args: &[NAME],
        access: Level::View,
        summary: "why a service is as it is: what happened, what was decided, what comes next",
        help: "Shows the last changes and every decision on a restart, also each no, with its \
               reason; the last answer of every probe that is down; and what happens next.",
        shape: Shape::Why,
        run: calls::why,
    },
    Verb {
        words: "history",
        method: "service.history",
        args: &[
            position(
                "name",
                Kind::Service,
                false,
                "the service; all when left out",
            ),
            option(
                "limit",
                Kind::Count,
                "limit",
                Some('n'),
                "how many of the newest (default 50)",
            ),
        ],
        access: Level::View,
        summary: "the last changes and decisions of one service or of all",
        help: "Oldest first.",
        shape: Shape::Story,
        run: calls::history,
    },
    Verb {
        words: "graph",
        method: "service.graph",
        args: &[],
        access: Level::View,
        summary: "who needs whom, as a graph in the dot language",
        help: "For `dot -Tsvg` of graphviz: arrows lead to what is needed and look as the key does \
               that says so, boxes are coloured by state. `check --graph` does the same with files \
               alone. In JSON the services with their ties, and when they started.",
        shape: Shape::Graph,
        run: calls::graph,
    },
    Verb {
        words: "blame",
        method: "service.blame",
        args: &[position(
            "name",
            Kind::Service,
            false,
            "the end of the critical path; what a boot made ready last, when left out",
        )],
        access: Level::View,
        summary: "who started when, how long that took, and who made the last one late",
        help: "In the order of their starts, counted from when the first was to start: how long each \
               waited for others, when it started, when it was ready (a oneshot: done). The critical \
               path leads from the last one over whom each waited for longest; it is marked with *.",
        shape: Shape::Blame,
        run: calls::blame,
    },
    Verb {
        words: "start",
        method: "service.start",
        args: &[
            NAME,
            option(
                "with_requires",
                Kind::Flag,
                "with-requires",
                None,
                "start also what it requires and an operator had stopped",
            ),
            option(
                "pin",
                Kind::Flag,
                "pin",
                None,
                "and pin it started, as `pin` does",
            ),
            WAIT,
        ],
        access: Level::Act,
        summary: "start a service, and want it started from now on",
        help: "Gives a fresh budget of restarts. With --wait until it is ready, or until it is \
               plain that it will not be.",
        shape: Shape::Done,
        run: calls::start,
    },
    Verb {
        words: "stop",
        method: "service.stop",
        args: &[
            NAME,
            option(
                "until_boot",
                Kind::Flag,
                "until-boot",
                None,
                "only until the next boot, which starts it again if it was wanted",
            ),
            WAIT,
        ],
        access: Level::Act,
        summary: "stop a service, and want it stopped from now on",
        help: "Remembered over a restart of the daemon and of the machine; nothing starts the \
               service again but an operator. A target is stopped with all it requires and wants, \
               but for what others need. With --wait until its last process is gone.",
        shape: Shape::Done,
        run: calls::stop,
    },
    Verb {
        words: "once",
        method: "service.once",
        args: &[NAME, WAIT],
        access: Level::Act,
        summary: "run a service now, one time: when it has ended it is not started again",
        help: "Nothing restarts it, whatever its policy says; a run that is there already becomes \
               its last. Until the next boot, which does what was wanted before. With --wait until \
               it is ready, or, of a oneshot, done.",
        shape: Shape::Done,
        run: calls::once,
    },
    Verb {
        words: "restart",
        method: "service.restart",
        args: &[NAME, WAIT],
        access: Level::Act,
        summary: "stop a service and start it again",
        help: "Spends no attempt and gives a fresh budget. With --wait until the new run is ready.",
        shape: Shape::Done,
        run: calls::restart,
    },
    Verb {
        words: "signal",
        method: "service.signal",
        args: &[
            NAME,
            position("signal", Kind::Signal, true, "HUP, SIGHUP or 1"),
        ],
        access: Level::Act,
        summary: "send a signal to a service's main process",
        help: "What the process does then is judged as if it had done it by itself.",
        shape: Shape::Done,
        run: calls::signal,
    },
    Verb {
        words: "reset",
        method: "service.reset",
        args: &[NAME],
        access: Level::Act,
        summary: "give back a service's restart budget and delay",
        help: "On a degraded service that had used up its budget the restart is decided anew, now.",
        shape: Shape::Done,
        run: calls::reset,
    },
    Verb {
        words: "pin",
        method: "service.pin",
        args: &[NAME],
        access: Level::Act,
        summary: "keep a service as it is wanted now, whatever others need",
        help: "Pinned started or pinned stopped, it is moved only by a word about itself: not with \
               what it requires (`on_dependency`), not by a start of those who require it or conflict \
               with it, not by `autostart`. Remembered like `stop`. Its health and its end are judged \
               as ever.",
        shape: Shape::Done,
        run: calls::pin,
    },
    Verb {
        words: "unpin",
        method: "service.unpin",
        args: &[NAME],
        access: Level::Act,
        summary: "end a pin",
        help: "What is to go down with what it requires does so now, if that is down.",
        shape: Shape::Done,
        run: calls::unpin,
    },
    Verb {
        words: "set",
        method: "service.set",
        args: &[
            position("name", Kind::NewService, true, "the service, new or known"),
            position(
                "definition",
                Kind::Definition,
                true,
                "what a file would hold, TOML or JSON; on the command line also @FILE, or - for \
                 standard input",
            ),
            WAIT,
        ],
        access: Level::Admin,
        summary: "define a service without a file, or define it anew",
        help: "Kept in the state directory, over restarts of the daemon and of the machine. Takes \
               effect at once: a new service is started, one that is known is restarted only when \
               what its process is has changed. A file of the same name beats it. In JSON-RPC the \
               definition may be an object.",
        shape: Shape::Done,
        run: calls::set,
    },
    Verb {
        words: "delete",
        method: "service.delete",
        args: &[NAME, WAIT],
        access: Level::Admin,
        summary: "stop a service that was defined by `set`, and forget it",
        help: "What files define is deleted with its file, and `reload`. With --wait until its \
               last process is gone.",
        shape: Shape::Done,
        run: calls::delete,
    },
    Verb {
        words: "probe run",
        method: "probe.run",
        args: &[
            NAME,
            position(
                "probe",
                Kind::Probe,
                false,
                "the probe's name; all when left out",
            ),
        ],
        access: Level::Act,
        summary: "ask a service's probes now and show what they answer",
        help: "Moves nothing: no streak, no health, no restart. Works on a stopped service too.",
        shape: Shape::Done,
        run: calls::probe_run,
    },
    Verb {
        words: "logs",
        method: "logs.tail",
        args: &[
            position("name", Kind::Services, false, "the services, or --all"),
            option(
                "lines",
                Kind::Count,
                "lines",
                Some('n'),
                "how many of the last lines (default 50)",
            ),
            option(
                "follow",
                Kind::Flag,
                "follow",
                Some('f'),
                "go on with what is written from now on",
            ),
            option(
                "all",
                Kind::Flag,
                "all",
                Some('a'),
                "of all services, also those that are defined later",
            ),
            option(
                "priority",
                Kind::Text,
                "priority",
                Some('p'),
                "only what matters so much or more: emerg, alert, crit, err, warning, notice, \
                 info, debug, or 0 to 7",
            ),
            option(
                "since_ms",
                Kind::Duration,
                "since",
                None,
                "only what was read in this time, as 10m; all of that, unless --lines is given",
            ),
            option(
                "grep",
                Kind::Text,
                "grep",
                None,
                "only lines that have this text",
            ),
        ],
        access: Level::Read,
        summary: "what services wrote",
        help: "Of several services their lines are merged by time, each with the service's name. \
               A line that begins with <0> to <7>, as in sd-daemon(3), says how much it matters; \
               others are as `log_priority` says. In JSON `entries` have each line in parts, and \
               what follows comes as notifications `logs.lines`.",
        shape: Shape::Logs,
        run: calls::logs,
    },
    dossier::LIST,
    dossier::SHOW,
    Verb {
        words: "events",
        method: "events.subscribe",
        args: &[
            position("services", Kind::Services, false, "only of these services"),
            option(
                "kinds",
                Kind::OneOf(EVENT_KINDS),
                "kind",
                Some('k'),
                "only of this kind: state, health, wanted, probe, definition, host, dossier, storm, \
                 decision, hold or reload; may be given again",
            ),
        ],
        access: Level::View,
        summary: "show what happens from now on",
        help: "One event a line. In JSON they come as notifications `events.event`. One \
               subscription a connection; a new one takes the place of the old. Who reads too \
               slowly is disconnected.",
        shape: Shape::Events,
        run: calls::events,
    },
    Verb {
        words: "hold",
        method: "system.hold",
        args: &[option(
            "for_ms",
            Kind::Duration,
            "for",
            None,
            "how long, as 10m or 1h 30m; until `release` when left out",
        )],
        access: Level::Act,
        summary: "the brake: no automatic restarts for now",
        help: "First starts at a boot and what operators ask for go on. Survives the daemon.",
        shape: Shape::Done,
        run: calls::hold,
    },
    Verb {
        words: "release",
        method: "system.release",
        args: &[],
        access: Level::Act,
        summary: "end a hold",
        help: "What was held waits what is left of its delay.",
        shape: Shape::Done,
        run: calls::release,
    },
    reload::RELOAD,
    reload::CONFIRM,
    reload::REVERT,
    alert::TEST,
    Verb {
        words: "policy simulate",
        method: "policy.simulate",
        args: &[
            NAME,
            position(
                "scenario",
                Kind::Text,
                false,
                "what shall happen, as `at 30s hang; at 90s answer; for 2h`",
            ),
            option(
                "set",
                Kind::Texts,
                "set",
                None,
                "as in retry_policy.max_attempts=3; may be given again",
            ),
            option(
                "against",
                Kind::Text,
                "against",
                None,
                "`history`: what really happened is the scenario",
            ),
            option(
                "seed",
                Kind::Count,
                "seed",
                None,
                "of the jitter (default 1)",
            ),
        ],
        access: Level::View,
        summary: "what the definition in force, or a changed one, would do in a scenario",
        help: "Nothing is touched: the same rules decide in virtual time, and tell what they \
               decide when, restarts, downtime and when they give up. Restarts for health are \
               limited as this daemon's are (`health_restart_limit`, `storm`). `vitald simulate` does the \
               same with files, and its help tells how a scenario is written.",
        shape: Shape::Forecast,
        run: calls::simulate,
    },
    Verb {
        words: "info",
        method: "system.status",
        args: &[],
        access: Level::View,
        summary: "how the daemon itself is",
        help: "Version, uptime, counts, a hold in force, and how late its loop has been.",
        shape: Shape::Daemon,
        run: calls::info,
    },
    Verb {
        words: "ping",
        method: "system.ping",
        args: &[],
        access: Level::None,
        summary: "is a daemon there?",
        help: "Answers with its version and process id.",
        shape: Shape::Pong,
        run: calls::ping,
    },
    Verb {
        words: "upgrade",
        method: "system.upgrade",
        args: &[
            position(
                "program",
                Kind::Path,
                false,
                "the new program; the file that runs now, perhaps replaced, when left out",
            ),
            option(
                "force",
                Kind::Flag,
                "force",
                None,
                "also if it cannot read definitions that are in force: what runs by them is left \
                 running, without probes",
            ),
        ],
        access: Level::Admin,
        summary: "execute a new vitald in the daemon's place, without touching a service",
        help: "The process keeps its number, services keep theirs, connections stay open and no \
               log line is lost. The new program is tried first: it must be a vitald, understand \
               what this one leaves, and read every definition that is in force. One that fails \
               before it has taken over executes the old one again. The answer comes from the one \
               that runs in the end.",
        shape: Shape::Done,
        run: calls::upgrade,
    },
    Verb {
        words: "shutdown",
        method: "system.shutdown",
        args: &[
            option(
                "keep",
                Kind::Flag,
                "keep",
                None,
                "leave the services running",
            ),
            WAIT,
        ],
        access: Level::Admin,
        summary: "stop all services in order, then end the daemon",
        help: "What is wanted of each service is kept for the next start. With --wait until the \
               daemon is gone.",
        shape: Shape::Done,
        run: calls::shutdown,
    },
    Verb {
        words: "poweroff",
        method: "system.poweroff",
        args: &[],
        access: Level::Admin,
        summary: "stop all services in order, then power the machine off",
        help: "Only where the daemon is PID 1 of the host. What is left gets SIGTERM, then SIGKILL; file systems are \
               unmounted or made read-only. The same as SIGUSR2 or SIGPWR to PID 1.",
        shape: Shape::Done,
        run: calls::poweroff,
    },
    Verb {
        words: "reboot",
        method: "system.reboot",
        args: &[],
        access: Level::Admin,
        summary: "stop all services in order, then reboot the machine",
        help: "As poweroff. The same as ctrl-alt-del, SIGINT or SIGTERM to PID 1.",
        shape: Shape::Done,
        run: calls::reboot,
    },
    Verb {
        words: "halt",
        method: "system.halt",
        args: &[],
        access: Level::Admin,
        summary: "stop all services in order, then halt the machine, its power on",
        help: "As poweroff. The same as SIGUSR1 to PID 1.",
        shape: Shape::Done,
        run: calls::halt,
    },
    Verb {
        words: "discover",
        method: "rpc.discover",
        args: &[],
        access: Level::None,
        summary: "the JSON-RPC interface as an OpenRPC document",
        help: "Made from the same table as this help.",
        shape: Shape::Discover,
        run: calls::discover,
    },
];

/// The verb that JSON-RPC calls so.
pub fn by_method(method: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.method == method)
}

#[cfg(test)]
mod tests;
