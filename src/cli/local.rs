//! The table of verbs that need no daemon. Help, completions and the man page are loops over it
//! and over the daemon's verbs.

pub struct Local {
    pub words: &'static str,
    /// What follows the words.
    pub usage: &'static str,
    pub summary: &'static str,
    pub help: &'static str,
    pub options: &'static [Opt],
}

/// An option that takes a value, or none when `value` is empty.
pub struct Opt {
    pub long: &'static str,
    pub short: Option<char>,
    pub value: &'static str,
    pub doc: &'static str,
}

const fn opt(long: &'static str, value: &'static str, doc: &'static str) -> Opt {
    Opt {
        long,
        short: None,
        value,
        doc,
    }
}

const CONFIG_DIR: Opt = opt(
    "config-dir",
    "DIR",
    "vitald.toml and services/ (default /etc/vitald; as a normal user $XDG_CONFIG_HOME/vitald)",
);

/// Options that every verb takes.
pub const GLOBAL: &[Opt] = &[
    opt(
        "socket",
        "PATH",
        "the daemon's socket (default $VITALD_SOCKET, else /run/vitald/control.sock, else \
         $XDG_RUNTIME_DIR/vitald/control.sock)",
    ),
    opt(
        "json",
        "",
        "answer in JSON, one document or one event a line",
    ),
    opt(
        "timeout",
        "DURATION",
        "give up waiting for an answer after this (default 30s; with --wait, for `probe run` and \
         for what streams: never)",
    ),
    Opt {
        long: "help",
        short: Some('h'),
        value: "",
        doc: "this, or with a verb more about it",
    },
    Opt {
        long: "version",
        short: Some('V'),
        value: "",
        doc: "the version",
    },
];

pub const LOCALS: &[Local] = &[
    Local {
        words: "run",
        usage: "[--config-dir DIR] [--state-dir DIR] [--runtime-dir DIR] [--main NAME]",
        summary: "be the daemon, in the foreground",
        help: "SIGTERM stops all services in order and ends it, SIGHUP reloads. Killed and \
               started again it takes over the services that still run. As PID 1 it is the init of a \
               host or a container; see vitald(1), AS INIT.",
        options: &[
            CONFIG_DIR,
            opt(
                "state-dir",
                "DIR",
                "what outlives the boot: what is wanted, logs (default /var/lib/vitald; as a \
                 normal user $XDG_STATE_HOME/vitald)",
            ),
            opt(
                "runtime-dir",
                "DIR",
                "the socket, and what outlives the daemon (default /run/vitald; as a normal user \
                 $XDG_RUNTIME_DIR/vitald)",
            ),
            opt(
                "main",
                "NAME",
                "end with this service, and exit with its exit code; as `main` in vitald.toml",
            ),
            opt(
                "record",
                "DIR",
                "record all that is decided and why in DIR/current, for `replay`; the same as \
                 `record = true` in vitald.toml, but in DIR",
            ),
            opt(
                "rehearse",
                "",
                "run nothing: say in one line of JSON whether this program could take the place \
                 of the daemon that runs with these directories (`obstacles`), and which \
                 definitions it cannot read (`unread`); what `upgrade` asks of a new program first",
            ),
        ],
    },
    Local {
        words: "check",
        usage: "[FILE...] [--config-dir DIR] [--graph]",
        summary: "check definitions: all that is wrong, with file and line",
        help: "Without files all of the configuration directory, and that they fit together. \
               What this host lacks (programs, users, directories) is a warning; warnings are \
               shown but do not fail.",
        options: &[
            CONFIG_DIR,
            opt(
                "graph",
                "",
                "instead of what is wrong show who needs whom, as a graph in the dot language",
            ),
        ],
    },
    Local {
        words: "replay",
        usage: "FILE... [--until N | --at TIME] [--why NAME]",
        summary: "replay a recording: does the same come of the same events?",
        help: "Files that were rotated are named oldest first: current.1 current. The same: 0; \
               something else: 1, with the first difference and what was before it; not to be \
               read: 2, with file and line. A recording is the report of a bug: in it are the \
               definitions with their command lines and URLs and the first 512 bytes of what \
               probes were answered, but no value of env, of probes' headers or of send.",
        options: &[
            opt("until", "N", "only up to event N"),
            opt(
                "at",
                "TIME",
                "only up to this time: 14:02:10 in UTC, or 2026-11-24T14:02:10Z",
            ),
            opt(
                "why",
                "NAME",
                "show how this service stood then, as `why` does",
            ),
        ],
    },
    Local {
        words: "demo",
        usage: "[--serve PORT]",
        summary: "show the main job: a server hangs and is healed; some seconds",
        help: "Starts a daemon of its own in a temporary directory, with a server that is made to \
               hang while its port stays bound, and shows what happens; then everything is \
               removed. Exit code 0 only when the service was healed.",
        options: &[opt(
            "serve",
            "PORT",
            "be only that server, on 127.0.0.1: it answers 200 until it is asked for /hang, and \
             then nothing any more",
        )],
    },
    Local {
        words: "simulate",
        usage: "NAME|FILE [SCENARIO] [--say TEXT] [--set KEY=VALUE] [--against FROM]",
        summary: "what a definition would do: decisions, downtime, when it gives up; no daemon",
        help: "A scenario, a file or `-`, is a statement a line, or several with `;` between: `at 30s hang`, `at 90s \
               answer`, `exit 1 every 5h`, `hang 20m after each start from 1h until 3h`, `for 24h` \
               (the default). A service can hang, refuse, empty (answer nothing), status 503, each \
               also `for good` (all later runs too), answer, exit N, die SIGSEGV, slow-start 5s, \
               slow-stop 5s, slow-dossier 500ms, ignore-term; cannot-ask is the supervisor's own trouble. Operators \
               stop, start, restart, reset, hold [10m], release; `daemon dies`, `daemon starts`, \
               suspend 8h and starve 20s befall the supervisor. `db:` before what happens names \
               another service. What the service names comes along and is well. Restarts for health \
               are limited as vitald.toml beside the folder of definitions says, else as by default; \
               what is looked at before a stop for its health takes no time unless slow-dossier says so. --against replays \
               what really happened under the definition as it is now and with --set: what changes, \
               and what would not have.",
        options: &[
            opt(
                "say",
                "TEXT",
                "statements of the scenario; may be given again",
            ),
            opt(
                "set",
                "KEY=VALUE",
                "as if the definition said so, as in retry_policy.max_attempts=3 or \
                 probe.interval_ms=2000; may be given again",
            ),
            opt(
                "against",
                "FROM",
                "what really happened: `history`, as the daemon tells it, or a file: what `history NAME --json` or \
                 `events --json` wrote, or a recording",
            ),
            opt("plot", "FILE", "write a picture of it, as SVG"),
            opt("all", "", "fold nothing in the timeline"),
            opt("seed", "N", "of the jitter (default 1)"),
            CONFIG_DIR,
        ],
    },
    Local {
        words: "help",
        usage: "[VERB]",
        summary: "this, or more about one verb",
        help: "The same as --help.",
        options: &[],
    },
    Local {
        words: "version",
        usage: "",
        summary: "the version of this program",
        help: "That of the running daemon is shown by `ping`.",
        options: &[],
    },
    Local {
        words: "completions",
        usage: "bash|zsh|fish",
        summary: "completions for a shell",
        help: "As in: vitald completions bash > /etc/bash_completion.d/vitald.",
        options: &[],
    },
    Local {
        words: "man",
        usage: "",
        summary: "the manual page vitald(1)",
        help: "As in: vitald man | man -l -.",
        options: &[],
    },
];

/// The local verb of this name.
pub fn find(word: &str) -> Option<&'static Local> {
    LOCALS.iter().find(|local| local.words == word)
}

/// `check [FILE...] [--config-dir DIR]`
pub fn usage(local: &Local) -> String {
    format!("{} {}", local.words, local.usage)
        .trim_end()
        .to_owned()
}

/// `-h, --help`, `--socket PATH`
pub fn option(opt: &Opt) -> String {
    let short = opt
        .short
        .map_or(String::new(), |short| format!("-{short}, "));
    format!("{short}--{} {}", opt.long, opt.value)
        .trim_end()
        .to_owned()
}
