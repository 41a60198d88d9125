//! What somebody may have meant by a key that does not exist.
//!
//! Tried in this order: a key of a later version, a forgotten unit, a key of other supervisors,
//! another table's key, a slip of the pen.

use crate::config::keys::{self, Key};

/// Keys that people bring along for a service, and what they are called here.
const SERVICE_ELSEWHERE: &[(&str, &str)] = &[
    ("args", "put the arguments into `exec`"),
    ("binds_to", "write `requires`, and on_dependency = \"stop\""),
    ("cmd", "the command is `exec`"),
    ("command", "the command is `exec`"),
    (
        "cpu_limit",
        "write `cpu_max`, in percent of one processor: \"150%\"",
    ),
    (
        "cpu_quota",
        "write `cpu_max`, in percent of one processor: \"150%\"",
    ),
    ("cwd", "the directory is `working_dir`"),
    (
        "dependencies",
        "write `requires`, `wants` and `after` beside `exec`",
    ),
    ("depends", "write `requires`, `wants` or `after`"),
    ("depends_ms", "write `milestone`"),
    ("depends_on", "write `requires`, `wants` or `after`"),
    ("environment", "the table is `env`"),
    ("health", "write a `probe`: an array of tables"),
    ("health_check", "write a `probe`: an array of tables"),
    ("healthcheck", "write a `probe`: an array of tables"),
    (
        "lifecycle",
        "write its keys beside `exec`, the delays and attempts into `retry_policy`",
    ),
    (
        "log",
        "output is always kept; see `logs NAME`, and `log_to` for where",
    ),
    (
        "log_level",
        "the severity of lines that say none is `log_priority`",
    ),
    (
        "max_restarts",
        "write `max_attempts` in `retry_policy`; for any number \"unlimited\", not 0",
    ),
    ("memory_limit", "write `memory_max`"),
    ("name", "a service is called by its file's name: remove it"),
    ("oneshot", "write kind = \"oneshot\""),
    (
        "part_of",
        "write `requires`, and on_dependency = \"restart\"",
    ),
    ("requisite", "write `requires`, or `milestone`"),
    (
        "restart_delay_max_ms",
        "write `max_delay_ms` in `retry_policy`",
    ),
    ("restart_delay_ms", "write `delay_ms` in `retry_policy`"),
    (
        "service",
        "there are no sections: write the service's keys at the top of the file",
    ),
    (
        "shutdown_timeout",
        "write `stop_timeout_ms`, in milliseconds",
    ),
    ("signal", "the signal is `stop_signal`"),
    ("tasks_max", "write `pids_max`"),
    ("test", "write a `probe` of type \"exec\""),
    ("waits_for", "write `wants`"),
    ("working_directory", "the directory is `working_dir`"),
];

/// The same for a probe.
const PROBE_ELSEWHERE: &[(&str, &str)] = &[
    ("address", "the address is `target`"),
    ("cmd", "the command is `target`"),
    ("command", "the command is `target`"),
    ("endpoint", "the address is `target`"),
    ("exec", "the command is `target`"),
    (
        "host",
        "host and port are in `target`; the header is headers = { Host = \"…\" }",
    ),
    ("path", "the path is part of `target`"),
    (
        "pattern",
        "the text is `expect_body` (http) or `expect` (tcp, unix)",
    ),
    ("port", "the port is part of `target`"),
    ("status", "the statuses are `expect_status`"),
    ("threshold", "write `failure_threshold`"),
    ("url", "the address is `target`"),
];

/// The same for a socket: systemd's words (systemd.socket(5)), and others.
const SOCKET_ELSEWHERE: &[(&str, &str)] = &[
    ("Accept", "the service accepts by itself: remove it"),
    ("Backlog", "write `backlog`"),
    (
        "BindIPv6Only",
        "[::] takes IPv4 as well, unless the service also listens on 0.0.0.0: remove it",
    ),
    ("FileDescriptorName", "write `name`"),
    (
        "ListenDatagram",
        "write `listen`, as in \"udp:127.0.0.1:53\" or \"unix-datagram:/run/web.sock\"",
    ),
    (
        "ListenStream",
        "write `listen`, as in \"tcp:127.0.0.1:8080\" or \"unix:/run/web.sock\"",
    ),
    ("ReusePort", "write `reuse_port`"),
    ("SocketGroup", "write `group`"),
    ("SocketMode", "write `mode`"),
    ("SocketUser", "write `user`"),
    ("address", "the address is `listen`"),
    ("path", "write listen = \"unix:/run/web.sock\""),
    ("port", "the port is part of `listen`"),
    ("target", "the address is `listen`"),
    (
        "type",
        "the kind is part of `listen`, as in \"tcp:127.0.0.1:8080\"",
    ),
];

/// Keys of the design that this version does not have.
const LATER: &[&str] = &["confirm_interval_ms", "health_restart_limit"];

/// Tables in which a misplaced key may belong.
const TABLES: &[(&str, &[&Key])] = &[
    ("beside `exec`", keys::service::ALL),
    ("in `retry_policy`", keys::retry_policy::ALL),
    ("in a `probe`", keys::probe::ALL),
    ("in a `socket`", keys::socket::ALL),
    ("in vitald.toml", keys::daemon::ALL),
];

/// What is wrong with the unknown key `name` and what to write instead.
pub fn unknown(name: &str, table: &[&'static Key]) -> String {
    let shown = shorten(name);
    if LATER.contains(&name) {
        return format!("`{shown}` is not in this version: remove it");
    }
    if let Some(key) = table
        .iter()
        .find(|k| k.name.strip_suffix("_ms") == Some(name))
    {
        return format!(
            "unknown key `{shown}`: write `{}`, in milliseconds",
            key.name
        );
    }
    let elsewhere = match table {
        _ if std::ptr::eq(table, keys::probe::ALL) => PROBE_ELSEWHERE,
        _ if std::ptr::eq(table, keys::socket::ALL) => SOCKET_ELSEWHERE,
        _ => SERVICE_ELSEWHERE,
    };
    if let Some((_, advice)) = elsewhere.iter().find(|(known, _)| *known == name) {
        return format!("unknown key `{shown}`: {advice}");
    }
    for (place, other) in TABLES {
        if other.iter().any(|key| key.is_called(name)) {
            return format!("`{shown}` does not belong here: write it {place}");
        }
    }
    if let Some(near) = nearest(name, names(table)) {
        return format!("unknown key `{shown}`: did you mean `{near}`?");
    }
    for (place, other) in TABLES {
        if let Some(near) = nearest(name, names(other)) {
            return format!("unknown key `{shown}`: did you mean `{near}`, {place}?");
        }
    }
    let known: Vec<&str> = table.iter().map(|key| key.name).collect();
    format!("unknown key `{shown}`; known here: {}", known.join(", "))
}

fn names<'k>(table: &'k [&'static Key]) -> impl Iterator<Item = &'static str> + 'k {
    table
        .iter()
        .flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied()))
}

/// The known word nearest to `word`, when it is near enough to be meant.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Two slips, fewer in short words: `dir` is not meant by `log`.
    let bound = match word.chars().count() {
        0..=2 => return None,
        3..=4 => 1,
        65.. => return None,
        _ => 2,
    };
    known
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= bound)
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(slips, _)| *slips <= bound)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that make one word of the other
/// (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().map(|c| c.to_ascii_lowercase()).collect();
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            let mut best = (last[j - 1] + usize::from(!same))
                .min(last[j] + 1)
                .min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

/// Somebody else's text, short enough for a message.
pub fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        assert_eq!(distance("exec", "exec"), 0);
        assert_eq!(distance("exce", "exec"), 1);
        assert_eq!(distance("ecec", "exec"), 1);
        assert_eq!(distance("", "exec"), 4);
        assert_eq!(distance("interval", "interval_ms"), 3);
    }

    #[test]
    fn every_key_of_elsewhere_is_unknown_here() {
        for (name, _) in SERVICE_ELSEWHERE {
            assert!(
                !keys::service::ALL.iter().any(|k| k.is_called(name)),
                "{name}"
            );
        }
        for (name, _) in PROBE_ELSEWHERE {
            assert!(
                !keys::probe::ALL.iter().any(|k| k.is_called(name)),
                "{name}"
            );
        }
        for (name, _) in SOCKET_ELSEWHERE {
            let known = keys::socket::ALL.iter().any(|k| k.is_called(name));
            assert!(!known, "{name}");
        }
        for name in LATER {
            for (_, table) in TABLES {
                assert!(!table.iter().any(|k| k.is_called(name)), "{name}");
            }
        }
    }
}
