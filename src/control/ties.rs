//! How services are tied: the tree of who needs whom, and the times of their starts with the path
//! that took longest. Made of what [`House::tied`](super::House::tied) gives; JSON and text are of
//! the same data.
//!
//! Invariant: each takes time and room linear in services and ties, whatever the ties look like.

use crate::engine::status::{Tie, Tied};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// `status --tree`: one line after the other, deeper ones under what needs them.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tree {
    pub tree: Vec<Branch>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Branch {
    pub depth: u32,
    /// How the line above it that is less deep is tied to it; null at the top.
    pub key: Option<String>,
    pub name: String,
    pub state: String,
    pub health: Option<String>,
    pub pinned: bool,
    pub waits_for: Option<String>,
    /// What it needs stands under its first line.
    pub above: bool,
}

/// `graph`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Drawing {
    pub services: Vec<Tied>,
}

/// `blame`: who started when, in that order.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Blame {
    /// When the first of them was to start (RFC 3339); null: none was.
    pub since: Option<String>,
    pub services: Vec<Took>,
    /// Who made the last one late: it first, then whom it waited for, and so on.
    pub path: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Took {
    pub name: String,
    pub run: u32,
    /// From then on it waited for others.
    pub asked_ms: u64,
    pub started_ms: u64,
    /// Null: it is not ready yet.
    pub ready_ms: Option<u64>,
    pub took_ms: Option<u64>,
}

/// The tree under one service, or under all whom nobody needs.
pub fn tree(services: &[Tied], root: Option<&str>) -> Tree {
    let by_name: BTreeMap<&str, &Tied> = services.iter().map(|s| (&*s.name, s)).collect();
    let needed: BTreeSet<&str> = services
        .iter()
        .flat_map(|service| service.ties.iter())
        .filter(|tie| tie.key != "conflicts")
        .map(|tie| &*tie.name)
        .collect();
    let mut tree = Tree::default();
    let mut shown = BTreeSet::new();
    let tops: Vec<&str> = match root {
        Some(root) => vec![root],
        None => services
            .iter()
            .map(|service| &*service.name)
            .filter(|name| !needed.contains(name))
            .collect(),
    };
    for top in tops {
        grow(&by_name, top, &mut shown, &mut tree);
    }
    if root.is_none() {
        // Rings have no top.
        for service in services {
            if !shown.contains(&*service.name) {
                grow(&by_name, &service.name, &mut shown, &mut tree);
            }
        }
    }
    tree
}

fn grow<'a>(
    by_name: &BTreeMap<&'a str, &'a Tied>,
    top: &'a str,
    shown: &mut BTreeSet<&'a str>,
    tree: &mut Tree,
) {
    // Without recursion: a chain may be as long as there are services.
    let mut open: Vec<(u32, Option<&str>, &str)> = vec![(0, None, top)];
    while let Some((depth, key, name)) = open.pop() {
        let Some(service) = by_name.get(name) else {
            continue;
        };
        let rival = key == Some("conflicts");
        let first = !rival && shown.insert(&*service.name);
        tree.tree.push(Branch {
            depth,
            key: key.map(str::to_owned),
            name: service.name.clone(),
            state: service.state.clone(),
            health: service.health.clone(),
            pinned: service.pinned,
            waits_for: service.waits_for.clone(),
            above: !first && !rival && !service.ties.is_empty(),
        });
        if first {
            let under = service.ties.iter().rev();
            open.extend(under.map(|tie: &Tie| (depth + 1, Some(&*tie.key), &*tie.name)));
        }
    }
}

/// Who started when; the path to `to`, else to the last that a boot made ready.
pub fn blame(services: &[Tied], to: Option<&str>) -> Blame {
    let mut all: Vec<(&Tied, Took)> = Vec::new();
    for service in services {
        if let Some(started) = &service.started {
            let ready = started.ready_ms;
            all.push((
                service,
                Took {
                    name: service.name.clone(),
                    run: started.run,
                    asked_ms: started.asked_ms,
                    started_ms: started.spawned_ms,
                    ready_ms: ready,
                    took_ms: ready.map(|ready| ready.saturating_sub(started.spawned_ms)),
                },
            ));
        }
    }
    all.sort_by_key(|(_, took)| took.started_ms);
    let begun = |service: &Tied| service.started.as_ref().map(|s| s.at.clone());
    let first = all.iter().min_by_key(|(_, took)| took.asked_ms);
    let since = first.and_then(|(service, _)| begun(service));
    let booted = |service: &Tied| service.started.as_ref().is_some_and(|s| s.cause == "boot");
    let last = |only_booted: bool| {
        all.iter()
            .filter(|(service, took)| took.ready_ms.is_some() && (!only_booted || booted(service)))
            .max_by_key(|(_, took)| took.ready_ms)
            .map(|(service, _)| &*service.name)
    };
    let end = to.or_else(|| last(true)).or_else(|| last(false));
    let by_name: BTreeMap<&str, &(&Tied, Took)> =
        all.iter().map(|one| (&*one.1.name, one)).collect();
    let path = end.map(|end| path(&by_name, end)).unwrap_or_default();
    Blame {
        since,
        path,
        services: all.iter().map(|(_, took)| took.clone()).collect(),
    }
}

/// From whom one waited for to whom that one did; the latest of several.
fn path(by_name: &BTreeMap<&str, &(&Tied, Took)>, end: &str) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    let mut next = by_name.get(end);
    while let Some((service, took)) = next {
        if path.contains(&took.name) {
            break;
        }
        path.push(took.name.clone());
        if took.started_ms == took.asked_ms {
            break;
        }
        let needs = service.ties.iter().filter(|tie| tie.key != "conflicts");
        next = needs
            .filter_map(|tie| by_name.get(&*tie.name))
            .filter(|(_, other)| other.ready_ms.is_some_and(|at| at <= took.started_ms))
            .max_by_key(|(_, other)| other.ready_ms);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::status::Started;

    fn service(name: &str, ties: &[(&str, &str)], times: Option<(u64, u64, u64)>) -> Tied {
        let tie = |(key, name): &(&str, &str)| Tie {
            key: (*key).to_owned(),
            name: (*name).to_owned(),
        };
        Tied {
            name: name.to_owned(),
            state: "running".to_owned(),
            ties: ties.iter().map(tie).collect(),
            started: times.map(|(asked_ms, spawned_ms, ready)| Started {
                run: 1,
                cause: "boot".to_owned(),
                asked_ms,
                spawned_ms,
                ready_ms: Some(ready),
                ..Started::default()
            }),
            ..Tied::default()
        }
    }

    fn house() -> Vec<Tied> {
        vec![
            service("a", &[("after", "b")], None),
            service("b", &[("after", "a")], None),
            service("db", &[("requires", "disk")], Some((0, 100, 900))),
            service("disk", &[("conflicts", "ram")], Some((0, 0, 100))),
            service("net", &[], Some((0, 0, 300))),
            service("ram", &[("conflicts", "disk")], None),
            service(
                "web",
                &[("requires", "db"), ("wants", "net"), ("after", "disk")],
                Some((0, 900, 1000)),
            ),
        ]
    }

    #[test]
    fn the_tree_shows_each_service_once_in_full_and_rings_too() {
        let lines: Vec<String> = tree(&house(), None)
            .tree
            .iter()
            .map(|b| {
                let above = if b.above { " (above)" } else { "" };
                format!("{}{:?} {}{above}", b.depth, b.key.as_deref(), b.name)
            })
            .collect();
        let expected = [
            "0None ram",
            "1Some(\"conflicts\") disk",
            "0None web",
            "1Some(\"requires\") db",
            "2Some(\"requires\") disk",
            "3Some(\"conflicts\") ram",
            "1Some(\"wants\") net",
            "1Some(\"after\") disk (above)",
            "0None a",
            "1Some(\"after\") b",
            "2Some(\"after\") a (above)",
        ];
        assert_eq!(lines, expected);
        let one = tree(&house(), Some("db")).tree;
        assert_eq!((one.len(), &*one[1].name), (3, "disk"));
    }

    #[test]
    fn the_path_goes_over_those_who_were_ready_last() {
        let all = blame(&house(), None);
        assert_eq!(all.path, ["web", "db", "disk"]);
        let order: Vec<&str> = all.services.iter().map(|s| &*s.name).collect();
        assert_eq!(order, ["disk", "net", "db", "web"]);
        assert_eq!(blame(&house(), Some("net")).path, ["net"]);
        assert_eq!(blame(&house(), Some("a")).path, Vec::<String>::new());
    }
}
