//! Warnings about definitions that are valid and will hardly do what their author wants.
//!
//! Few, and each of use: a warning that is usually wrong teaches people not to read them.

use crate::config::definition::*;
use crate::config::lint_policy;
use crate::config::problem::Problems;
use crate::config::service::Places;
use crate::config::socket::reaches;
use std::time::Duration;

/// Below this a busy host misses the timeout by itself.
const HASTY: Duration = Duration::from_millis(10);
/// A probe that starts a process should not do so more often than this.
const COSTLY: Duration = Duration::from_secs(1);

/// Looks at a definition that has no errors.
pub fn check(d: &Definition, places: &Places, p: &mut Problems) {
    if let [program] = &*d.exec
        && program.contains(' ')
    {
        p.warn(
            places.exec,
            format!(
                "`exec` is one word with blanks in it, `{program}`: for arguments write a word each"
            ),
        );
    }
    policy(d, places, p);
    lint_policy::check(d, places, p);
    for (name, value) in &d.process.env {
        if is_secret(name) && !value.is_empty() {
            p.warn(
                places.env,
                format!(
                    "`{name}` looks like a secret: whoever can read this file has it; hand it over \
                     by `secrets`, or by an `env_file` that only root can read"
                ),
            );
        }
    }
    if d.process.oom_score_adj == Some(-1000) {
        p.warn(
            places.oom_score_adj,
            "`oom_score_adj` -1000 keeps it whatever it takes: when it leaks, everything else is \
             killed; -900 comes last, too",
        );
    }
    for (socket, at) in d.sockets().iter().zip(&places.sockets) {
        if let Some(words) = closed_to_all(socket) {
            p.warn(*at, words);
        }
    }
    for (probe, at) in d.probes.iter().zip(&places.probes) {
        if let Some(words) = answered_by_us(d, &probe.ask) {
            p.warn(*at, format!("the probe `{}` {words}", probe.name));
        } else if let Some(words) = pointless(&probe.ask) {
            p.warn(*at, format!("the probe `{}` {words}", probe.name));
        }
        if probe.timeout < HASTY {
            p.warn(
                *at,
                format!(
                    "the probe `{}` has {} ms to be answered: a busy host alone takes longer",
                    probe.name,
                    probe.timeout.as_millis()
                ),
            );
        }
        if matches!(probe.ask, Ask::Exec { .. } | Ask::Https(_) | Ask::Look(_))
            && probe.interval < COSTLY
        {
            p.warn(
                *at,
                format!(
                    "the probe `{}` starts a process every {} ms: a second or more is kinder to the host",
                    probe.name,
                    probe.interval.as_millis()
                ),
            );
        }
    }
}

/// By what such variables are called.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let parts = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "APIKEY", "API_KEY"];
    // A name of a file is none.
    parts.iter().any(|part| name.contains(part)) && !name.ends_with("_FILE")
}

/// The retry policy and the probes, together.
fn policy(d: &Definition, places: &Places, p: &mut Problems) {
    let restarting = d
        .probes
        .iter()
        .filter(|probe| probe.on_unhealthy == OnUnhealthy::Restart);
    let Some(slowest) = restarting.max_by_key(|probe| probe.interval) else {
        return;
    };
    if d.restart == Restart::Never {
        p.warn(
            places.restart,
            "restart = \"never\" forbids restarts for its health, too: its probes only show; \
             write on_unhealthy = \"observe\" to say so",
        );
    } else if d.retry_policy.max_attempts == Some(0) {
        p.warn(
            places.max_attempts,
            "max_attempts = 0 forbids restarts for its health, too: its probes only show; \
             write on_unhealthy = \"observe\" to say so",
        );
    }
    // Attempts are refunded by a pass that was begun this long after the first (design §2.3).
    if d.retry_policy.stability_period < slowest.interval {
        p.warn(
            places.stability_period,
            format!(
                "`stability_period_ms` ({}) is shorter than the interval of the probe `{}` ({} ms): \
                 its second pass already gives all attempts back; write a few intervals",
                d.retry_policy.stability_period.as_millis(),
                slowest.name,
                slowest.interval.as_millis()
            ),
        );
    }
}

/// A probe that only connects, to a socket that is held for the service.
fn answered_by_us(d: &Definition, ask: &Ask) -> Option<&'static str> {
    let silent = matches!(
        ask,
        Ask::Tcp { expect: None, .. } | Ask::Unix { expect: None, .. }
    );
    let held = silent && d.sockets().iter().any(|socket| reaches(ask, socket));
    held.then_some(
        "only connects to a socket that vitald holds: it passes also while the service is dead; add \
         `send` and `expect`, or ask by http or exec",
    )
}

/// A file to which nobody may write is a door without a handle.
fn closed_to_all(socket: &Socket) -> Option<String> {
    // Without the right to write nobody can connect (unix(7)).
    let path = socket.address()?.path()?.to_owned();
    (socket.mode & 0o222 == 0).then(|| {
        format!("nobody but root may connect to {path}: its `mode` lets no one write, as 0660 does")
    })
}

/// Why a probe's answer says nothing, if so.
fn pointless(ask: &Ask) -> Option<String> {
    match ask {
        Ask::Exec { argv } => {
            let program = argv.first().and_then(|path| path.rsplit('/').next())?;
            match program {
                "sh" | "bash" | "dash" | "ash" => {
                    let script = argv.get(2).filter(|_| argv[1].ends_with('c'))?;
                    pointless_script(script)
                }
                _ => pointless_command(program, argv),
            }
        }
        Ask::Tcp { expect: None, .. } | Ask::Unix { expect: None, .. } => Some(
            "only connects: the kernel accepts for a process that hangs; add `send` and `expect`, \
             or ask by http or exec"
                .to_owned(),
        ),
        Ask::Tcp { .. }
        | Ask::Unix { .. }
        | Ask::Http(_)
        | Ask::Https(_)
        | Ask::Server(_)
        | Ask::Look(_) => None,
    }
}

fn pointless_command(program: &str, argv: &[Box<str>]) -> Option<String> {
    let argument = argv.get(1).map(|word| &**word);
    match (program, argument) {
        ("true" | ":" | "echo" | "printf", _) => Some(format!(
            "runs `{program}`, which always passes: ask the service itself"
        )),
        ("pgrep" | "pidof", _) | ("kill", Some("-0")) => Some(format!(
            "runs `{program}`, which only asks whether a process is there: vitald knows that, and one \
             that hangs is there; ask the service itself"
        )),
        (_, _) => None,
    }
}

/// Of a shell script only what is certain: one plain command, or an end that hides all before it.
fn pointless_script(script: &str) -> Option<String> {
    let script = script.trim().trim_end_matches(';').trim_end();
    let always = ["true", ":", "exit 0"];
    if let Some(end) = always.iter().find(|end| {
        let rest = script.strip_suffix(**end).map(str::trim_end);
        rest.is_some_and(|rest| rest.ends_with("||") || rest.ends_with(';'))
    }) {
        return Some(format!(
            "ends with `{end}`, so it always passes, whatever was found before: let the last command \
             fail when the service is not well"
        ));
    }
    if script.contains(['|', '&', '$', '`', ';', '\n', '<', '>']) {
        return None;
    }
    if always.contains(&script) {
        return Some(format!(
            "runs `{script}`, which always passes: ask the service itself"
        ));
    }
    let words: Vec<Box<str>> = script.split_whitespace().map(Into::into).collect();
    let program = words.first()?.rsplit('/').next()?.to_owned();
    pointless_command(&program, &words)
}

#[cfg(test)]
mod tests {
    use crate::config::tests::warned::{never, once};

    #[test]
    fn what_is_warned_of() {
        let http = "exec = 'a'\nprobe = [{ type = 'http', target = 'http://a/'";
        once(
            "exec = ['a b']",
            "web.toml:1:8: warning: ",
            "one word with blanks",
        );
        for dummy in [
            "true",
            "/bin/true",
            "echo ok",
            "sh -c 'echo ok'",
            "sh -c 'true'",
            "sh -c 'exit 0'",
            "sh -c 'exit 0;'",
        ] {
            let text = format!("exec = 'a'\n[[probe]]\ntype = 'exec'\ntarget = \"{dummy}\"");
            once(
                &text,
                "web.toml:2:1: warning: the probe `exec` runs",
                "always passes",
            );
        }
        for (hidden, words) in [
            ("sh -c 'curl -f http://a/ || true'", "ends with `true`"),
            ("sh -c 'curl -f http://a/; exit 0'", "ends with `exit 0`"),
            ("pgrep web", "only asks whether a process is there"),
            ("/bin/kill -0 7", "only asks whether a process is there"),
        ] {
            let text = format!("exec = 'a'\n[[probe]]\ntype = 'exec'\ntarget = \"{hidden}\"");
            once(&text, "web.toml:2:1: warning: the probe `exec` ", words);
        }
        for socket in [
            "type = 'tcp', target = 'a:1'",
            "type = 'unix', target = '/a'",
        ] {
            let text = format!("exec = 'a'\nprobe = [{{ {socket} }}]");
            once(&text, "web.toml:2:10: warning: ", "only connects");
        }
        for (listen, socket) in [
            ("tcp:127.0.0.1:1", "type = 'tcp', target = 'localhost:1'"),
            ("tcp:1", "type = 'tcp', target = '[::1]:1'"),
            ("unix:/a", "type = 'unix', target = '/a'"),
        ] {
            let text = format!(
                "socket = [{{ listen = '{listen}' }}]\nexec = 'a'\nprobe = [{{ {socket} }}]"
            );
            once(&text, "web.toml:3:10: warning: ", "that vitald holds");
        }
        once(
            "exec = 'a'\n[[socket]]\nlisten = 'unix:/a'\nmode = '0444'",
            "web.toml:2:1: warning: ",
            "lets no one write",
        );
        once(
            &format!("{http}, timeout_ms = 5 }}]"),
            "web.toml:2:10:",
            "has 5 ms to be answered",
        );
        let fast = "exec = 'a'\nprobe = [{ type = 'exec', target = 'b', interval_ms = 100 }]";
        once(fast, "web.toml:2:10:", "starts a process every 100 ms");
        for kind in [
            "type = 'exec', target = 'b'",
            "type = 'memory', max_memory = '1M'",
        ] {
            let fast = format!("exec = 'a'\nprobe = [{{ {kind}, interval_ms = 99 }}]");
            once(&fast, "web.toml:2:10:", "starts a process every 99 ms");
        }
        once(
            &format!("restart = 'never'\n{http} }}]"),
            "web.toml:1:11:",
            "only show",
        );
        let none = format!("retry_policy = {{ max_attempts = 0 }}\n{http} }}]");
        once(&none, "web.toml:1:33:", "only show");
        once(
            "exec = 'a'\nenv = { DB_PASSWORD = 'x' }",
            "web.toml:2:7: warning: ",
            "looks like a secret",
        );
        once(
            "exec = 'a'\noom_score_adj = -1000",
            "web.toml:2:17: warning: ",
            "when it leaks",
        );
        let short = format!(
            "retry_policy = {{ stability_period_ms = 99 }}\n{http}, interval_ms = 100, timeout_ms = 100 }}]"
        );
        once(
            &short,
            "web.toml:1:40:",
            "shorter than the interval of the probe `http` (100 ms)",
        );
    }

    #[test]
    fn what_is_not() {
        for text in [
            "exec = 'a b'",
            "exec = 'a'\nenv = { DB_PASSWORD_FILE = '/x', SECRET = '' }\noom_score_adj = -900",
            "exec = 'a'\nrestart = 'never'",
            "exec = 'a'\n[[probe]]\ntype = 'exec'\ntarget = \"sh -c 'echo PING | nc -U /run/a'\"",
            "exec = 'a'\n[[probe]]\ntype = 'exec'\ntarget = \"sh -c 'a || exit 1'\"",
            "exec = 'a'\n[[probe]]\ntype = 'exec'\ntarget = \"sh -c 'test -e /nottrue'\"",
            "exec = 'a'\n[[probe]]\ntype = 'tcp'\ntarget = 'a:1'\nsend = 'PING'\nexpect = 'PONG'",
            "exec = 'a'\n[[probe]]\ntype = 'http'\ntarget = 'http://a/'",
        ] {
            never(text);
        }
    }
}
