//! Lint of several definitions together: probes that ask another service than their own.
//!
//! Only what is certain: an address where vitald listens for another service, and one thing that two
//! services ask, so that its trouble restarts both. What merely looks alike (a proxy in front of many)
//! is not spoken of.

use crate::config::ask::{JsonRpc, Speaks};
use crate::config::definition::{Address, Ask, Definition, Http, OnUnhealthy, Probe};
use crate::config::problem::{Problem, Severity};
use crate::config::set::File;
use crate::config::socket::reaches;
use std::collections::BTreeMap;

pub fn check(files: &mut [File]) {
    let mut found: Vec<(usize, usize, String)> = Vec::new();
    let sockets: Vec<(usize, &Definition)> = defined(files)
        .filter(|(_, definition)| !definition.sockets().is_empty())
        .collect();
    // By what is asked: who asks it first, by name.
    let mut asked: BTreeMap<String, (usize, &Definition, &Probe)> = BTreeMap::new();
    for (at, definition) in defined(files) {
        for (n, probe) in definition.probes.iter().enumerate() {
            let own = definition.sockets().iter().any(|s| reaches(&probe.ask, s));
            if probe.on_unhealthy == OnUnhealthy::Observe || own {
                continue;
            }
            let held = sockets.iter().find(|(other, theirs)| {
                let reached = |socket| reaches(&probe.ask, socket);
                *other != at && theirs.sockets().iter().any(reached)
            });
            if let Some((other, _)) = held {
                let owner = &files[*other].name;
                found.push((at, n, format!(
                    "the probe `{}` asks a socket of the service `{owner}`: it is restarted for what \
                     that one does; ask its own, or name `{owner}` in `requires` and write \
                     on_unhealthy = \"observe\"",
                    probe.name
                )));
                continue;
            }
            let Some(what) = address(&probe.ask) else {
                continue;
            };
            match asked.get(&what) {
                Some((other, theirs, first)) if *other != at => {
                    let names = |d: &Definition, other: usize| {
                        d.conflicts().iter().any(|name| *name == files[other].name)
                    };
                    // They never run together.
                    if names(definition, *other) || names(theirs, at) {
                        continue;
                    }
                    let owner = &files[*other].name;
                    found.push((at, n, format!(
                        "the probe `{}` asks {what}, as the probe `{}` of the service `{owner}` does: \
                         when that hangs both are restarted; ask each by what is its own, or write \
                         on_unhealthy = \"observe\" in the one that only uses it",
                        probe.name, first.name
                    )));
                }
                Some(_) => {}
                None => {
                    asked.insert(what, (at, definition, probe));
                }
            }
        }
    }
    for (at, probe, words) in found {
        let file = &mut files[at];
        let place = file.outcome.probes.get(probe).copied();
        let (line, column) = place.unwrap_or_default();
        file.outcome.problems.push(Problem {
            file: file.file.clone(),
            line,
            column,
            severity: Severity::Warning,
            message: words.into(),
        });
    }
}

fn defined(files: &[File]) -> impl Iterator<Item = (usize, &Definition)> {
    let files = files.iter().enumerate();
    files.filter_map(|(at, file)| Some((at, file.outcome.definition.as_ref()?)))
}

/// What is asked, in words that are equal when it is the same thing; None: nobody can tell.
fn address(ask: &Ask) -> Option<String> {
    let (address, path) = match ask {
        Ask::Http(http) | Ask::Https(http) => (&http.address, within(http)),
        Ask::Tcp { address, .. } => (address, String::new()),
        Ask::Unix { path, .. } => return Some(path.to_string()),
        // A client's protocol has nothing beside the address that makes many of one.
        Ask::Server(server) => match &server.speaks {
            Speaks::JsonRpc(JsonRpc { http: Some(_), .. }) => return None,
            _ => (&server.address, String::new()),
        },
        _ => return None,
    };
    Some(match address {
        Address::Tcp { host, port } => {
            let here = host
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
            let host = if here { "localhost" } else { host };
            format!("{host}:{port}{path}")
        }
        Address::Unix { path: socket } => format!("{socket}{path}"),
    })
}

/// One server can be many, by path and by name.
fn within(http: &Http) -> String {
    let mut headers = http.headers.iter();
    let host = headers.find(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = host.map(|(_, value)| format!(" (host {value})"));
    format!("{}{}", http.path, host.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use crate::config::load;
    use crate::config::set::{File, join};

    fn said(files: &[(&str, &str)]) -> Vec<String> {
        let files = files.iter().map(|(name, text)| File {
            name: (*name).into(),
            file: format!("{name}.toml").into(),
            outcome: load::read(name, &format!("{name}.toml"), text.as_bytes()),
        });
        let set = join(files.collect());
        set.problems.iter().map(ToString::to_string).collect()
    }

    const OWN: &str = "exec = 'a'\n[[probe]]\ntype = 'http'\ntarget = 'http://127.0.0.1:80/'";

    #[test]
    fn who_asks_another_service_is_told() {
        let all = said(&[("a", OWN), ("b", &OWN.replace("127.0.0.1", "localhost"))]);
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(
            all[0].starts_with("b.toml:2:1: warning: the probe `http` asks localhost:80/, as the probe `http` of the service `a`"),
            "{all:?}"
        );
        // By whatever protocol: one server is asked.
        let redis = "exec = 'a'\n[[probe]]\ntype = 'redis'\ntarget = '127.0.0.1:6379'";
        let bare = redis.replace("'redis'", "'tcp'\nsend = 'PING'\nexpect = 'PONG'");
        for other in [redis, &bare] {
            let all = said(&[("a", redis), ("b", other)]);
            assert!(
                all.len() == 1 && all[0].contains("asks localhost:6379, as the probe `redis`"),
                "{all:?}"
            );
        }
        let held = "exec = 'a'\nsocket = [{ listen = 'tcp:80' }]";
        let all = said(&[("a", OWN), ("b", held)]);
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(
            all[0].starts_with(
                "a.toml:2:1: warning: the probe `http` asks a socket of the service `b`"
            ),
            "{all:?}"
        );
    }

    #[test]
    fn who_asks_its_own_is_not() {
        let held = format!("socket = [{{ listen = 'tcp:80' }}]\n{OWN}");
        assert_eq!(said(&[("a", &held)]), Vec::<String>::new());
        let other = |text: String| said(&[("a", OWN), ("b", &text)]);
        for text in [
            OWN.replace(":80/", ":81/"),
            OWN.replace(":80/", ":80/b"),
            format!("{OWN}\nheaders = {{ Host = 'b' }}"),
            format!("{OWN}\non_unhealthy = 'observe'"),
            format!("conflicts = ['a']\nautostart = false\n{OWN}"),
        ] {
            assert_eq!(other(text.clone()), Vec::<String>::new(), "{text}");
        }
    }
}
