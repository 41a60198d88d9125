//! Who needs whom, by the definitions in force: the graph, who conflicts with whom, and who can
//! never be started as it is defined.
//!
//! Made anew when definitions change; nothing here decides about a run.

use super::*;
use crate::config::Definition;
use crate::graph::{Cycle, Edge};

/// Whom a definition names and how, in the order of its keys. Conflicts are no edges.
pub fn named(definition: &Definition) -> impl Iterator<Item = (&str, Edge)> {
    let kinds = [
        (&*definition.requires, Edge::Requires),
        (definition.milestone(), Edge::Milestone),
        (&definition.wants, Edge::Wants),
        (&definition.after, Edge::After),
        (definition.before(), Edge::Before),
        (definition.after_exit(), Edge::AfterExit),
    ];
    kinds
        .into_iter()
        .flat_map(|(names, edge)| names.iter().map(move |name| (&**name, edge)))
}

/// `me` names `other`: who needs whom.
pub fn directed(me: ServiceId, other: ServiceId, edge: Edge) -> (ServiceId, ServiceId, Edge) {
    match edge {
        Edge::Before => (other, me, edge),
        Edge::Requires | Edge::Milestone | Edge::Wants | Edge::After | Edge::AfterExit => {
            (me, other, edge)
        }
    }
}

/// `a -> b -> a: services/a.toml requires b, services/a.toml before b`; `place` is where the
/// first names the second.
pub fn cycle_words<'a>(
    graph: &Graph,
    cycle: &Cycle,
    name: impl Fn(ServiceId) -> &'a str,
    place: impl Fn(ServiceId, Edge, &str) -> String,
) -> String {
    let path: Vec<&str> = cycle.path.iter().map(|member| name(*member)).collect();
    let steps = cycle.path.windows(2).filter_map(|step| {
        let edge = graph.edge(step[0], step[1])?;
        let (who, whom) = match edge {
            Edge::Before => (step[1], step[0]),
            _ => (step[0], step[1]),
        };
        let whom = name(whom);
        Some(format!("{} {} {whom}", place(who, edge, whom), edge.word()))
    });
    let steps: Vec<String> = steps.collect();
    format!("{}: {}", path.join(" -> "), steps.join(", "))
}

/// Who needs two that never run together: who, and which two.
pub fn torn(
    graph: &Graph,
    conflicts: &BTreeMap<ServiceId, Vec<ServiceId>>,
) -> Vec<(ServiceId, ServiceId, ServiceId)> {
    let mut torn = Vec::new();
    for (one, others) in conflicts {
        let mut needing = graph.requirers(*one);
        needing.push(*one);
        for other in others.iter().filter(|other| *one < **other) {
            let mut both = graph.requirers(*other);
            both.push(*other);
            let both = both.into_iter().filter(|id| needing.contains(id));
            torn.extend(both.map(|id| (id, *one, *other)));
        }
    }
    torn
}

/// Who conflicts with whom, both ways.
pub fn conflicts(
    pairs: impl Iterator<Item = (ServiceId, ServiceId)>,
) -> BTreeMap<ServiceId, Vec<ServiceId>> {
    let mut conflicts: BTreeMap<ServiceId, Vec<ServiceId>> = BTreeMap::new();
    for (one, other) in pairs {
        conflicts.entry(one).or_default().push(other);
        conflicts.entry(other).or_default().push(one);
    }
    for others in conflicts.values_mut() {
        others.sort_unstable();
        others.dedup();
    }
    conflicts
}

impl Engine {
    /// The graph anew, after definitions changed. Who can never be started (a cycle, a
    /// requirement that does not exist, two that conflict) is held back and told why.
    pub(super) fn relink(&mut self) {
        let mut edges = Vec::new();
        let mut held_back = BTreeMap::new();
        let mut pairs = Vec::new();
        for id in self.ids() {
            let Some(definition) = &self.service(id).definition else {
                continue;
            };
            for (name, edge) in named(definition) {
                match self.find(name).filter(|other| self.is_present(*other)) {
                    Some(other) => edges.push(directed(id, other, edge)),
                    None if edge.is_need() => {
                        let word = edge.word();
                        let words = format!(
                            "{word} {name}, which does not exist: define it, or use `wants`"
                        );
                        held_back.insert(id, words.into());
                    }
                    None => {}
                }
            }
            for name in definition.conflicts() {
                if let Some(other) = self.find(name).filter(|other| self.is_present(*other)) {
                    pairs.push((id, other));
                }
            }
        }
        self.graph = Graph::new(self.services.len(), edges);
        self.conflicts = conflicts(pairs.into_iter());
        self.hold_back_cycles(&mut held_back);
        for (id, one, other) in torn(&self.graph, &self.conflicts) {
            let (one, other) = (&self.service(one).name, &self.service(other).name);
            let words = format!("it needs both {one} and {other}, which conflict");
            held_back.entry(id).or_insert_with(|| words.into());
        }
        self.held_back = held_back;
    }

    fn hold_back_cycles(&self, held_back: &mut BTreeMap<ServiceId, Box<str>>) {
        let cycles = self.graph.cycles();
        for id in self.graph.held_back() {
            let own = cycles.iter().find(|c| c.members.contains(&id));
            let Some(cycle) = own.or(cycles.first()) else {
                continue;
            };
            let name = |id: ServiceId| &*self.service(id).name;
            let place = |id: ServiceId, _: Edge, _: &str| self.service(id).source.to_string();
            let words = cycle_words(&self.graph, cycle, name, place);
            let words = match own.is_some() {
                true => format!("dependency cycle: {words}"),
                false => format!("requires a member of a dependency cycle: {words}"),
            };
            held_back.insert(id, words.into());
        }
    }
}
