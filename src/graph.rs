//! Dependencies between services: who needs whom, cycles and whom they hold back.
//!
//! It knows numbers and edges, not services: whether a dependency is *satisfied*, and so who may
//! start or is to be stopped next, is the engine's question. Names were resolved by the caller, who also dropped (and reported) edges to names
//! that do not exist.
//!
//! Invariants:
//! - every answer takes time and memory linear in nodes and edges, and no recursion: a chain of
//!   [`crate::limits::MAX_SERVICES`] is a chain like any other;
//! - answers are a function of the edges alone, in whatever order they were given.

use crate::id::ServiceId;

/// What one service is to another (the definition's keys of the same names).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Edge {
    /// Starts only when the other is satisfied.
    Requires,
    /// Starts the other too; carries on without it.
    Wants,
    /// Order only.
    After,
    /// The same, said by the other: that one stands `before` this.
    Before,
    /// Starts for the first time only when the other is satisfied.
    Milestone,
    /// Order only: starts when the other has ended.
    AfterExit,
}

impl Edge {
    /// The key that says it.
    pub const fn word(self) -> &'static str {
        match self {
            Edge::Requires => "requires",
            Edge::Wants => "wants",
            Edge::After => "after",
            Edge::Before => "before",
            Edge::Milestone => "milestone",
            Edge::AfterExit => "after_exit",
        }
    }

    /// Without the other it cannot start.
    pub const fn is_need(self) -> bool {
        matches!(self, Edge::Requires | Edge::Milestone)
    }

    /// The other is started with it.
    pub const fn pulls(self) -> bool {
        matches!(self, Edge::Requires | Edge::Milestone | Edge::Wants)
    }
}

/// Half an edge: where it leads, or whence it comes.
pub type Link = (ServiceId, Edge);

/// Adjacency in one block: the links of node `n` are `links[starts[n]..starts[n + 1]]`.
#[derive(Debug)]
struct Links {
    starts: Vec<u32>,
    links: Vec<Link>,
}

impl Links {
    /// From pairs sorted by node.
    fn new(nodes: usize, sorted: impl Iterator<Item = (ServiceId, Link)>) -> Links {
        let mut starts = vec![0; nodes + 1];
        let mut links = Vec::with_capacity(sorted.size_hint().0);
        for (node, link) in sorted {
            starts[node.index() + 1] += 1;
            links.push(link);
        }
        for n in 0..nodes {
            starts[n + 1] += starts[n];
        }
        Links { starts, links }
    }

    fn of(&self, node: ServiceId) -> &[Link] {
        let from = self.starts[node.index()] as usize;
        let to = self.starts[node.index() + 1] as usize;
        &self.links[from..to]
    }
}

/// Services that wait for each other, and so for ever.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cycle {
    /// All who are caught in it, in order.
    pub members: Vec<ServiceId>,
    /// A shortest way round from the first member to itself: `a, b, a`. Taking any of its edges
    /// away breaks this one; members may form others.
    pub path: Vec<ServiceId>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Graph {
    needs: Links,
    needed_by: Links,
    /// Strongly connected sets.
    sets: Vec<Vec<ServiceId>>,
}

impl Graph {
    /// `nodes` services numbered from 0; an edge is `(who, needs whom, how)`. Edges that leave
    /// the numbered range are dropped; the same edge twice is one.
    pub fn new(
        nodes: usize,
        edges: impl IntoIterator<Item = (ServiceId, ServiceId, Edge)>,
    ) -> Graph {
        let mut edges: Vec<_> = edges
            .into_iter()
            .filter(|(from, to, _)| from.index() < nodes && to.index() < nodes)
            .collect();
        edges.sort_unstable();
        edges.dedup();
        let needs = Links::new(nodes, edges.iter().map(|&(from, to, e)| (from, (to, e))));
        edges.sort_unstable_by_key(|&(from, to, e)| (to, from, e));
        let needed_by = Links::new(nodes, edges.iter().map(|&(from, to, e)| (to, (from, e))));
        let sets = strong_sets(nodes, &needs);
        Graph {
            needs,
            needed_by,
            sets,
        }
    }

    /// What `node` needs, by number.
    pub fn needs(&self, node: ServiceId) -> &[Link] {
        self.needs.of(node)
    }

    /// Who needs `node`, by number.
    pub fn needed_by(&self, node: ServiceId) -> &[Link] {
        self.needed_by.of(node)
    }

    /// `node` and all that is started with it (what it requires and wants, and what those do),
    /// by number.
    pub fn started_with(&self, node: ServiceId) -> Vec<ServiceId> {
        reach(&self.needs, &[node], Edge::pulls)
    }

    /// All who cannot start without `node`, directly or through others, without itself, by number.
    pub fn requirers(&self, node: ServiceId) -> Vec<ServiceId> {
        let mut all = reach(&self.needed_by, &[node], Edge::is_need);
        all.retain(|n| *n != node);
        all
    }

    /// How `from` needs `to` first of all, if it does.
    pub fn edge(&self, from: ServiceId, to: ServiceId) -> Option<Edge> {
        let mut links = self.needs(from).iter();
        links.find(|(other, _)| *other == to).map(|(_, edge)| *edge)
    }

    /// Every cycle, of whatever edges, by first member. Sets of services that reach each other
    /// are one cycle here: the ways round within such a set can be more than anybody could read.
    pub fn cycles(&self) -> Vec<Cycle> {
        let mut set_of = vec![0; self.nodes()];
        for (number, set) in self.sets.iter().enumerate() {
            for node in set {
                set_of[node.index()] = number;
            }
        }
        let mut cycles: Vec<Cycle> = self
            .sets
            .iter()
            .filter(|set| self.is_cycle(set))
            .map(|set| Cycle {
                members: set.clone(),
                path: self.way_round(set[0], &set_of),
            })
            .collect();
        cycles.sort_unstable_by_key(|c| c.members[0]);
        cycles
    }

    /// Whom cycles hold back: their members, and all who cannot start without one, directly or
    /// through others; by number. Everybody else starts as if the cycles were not there.
    pub fn held_back(&self) -> Vec<ServiceId> {
        let members: Vec<ServiceId> = self
            .sets
            .iter()
            .filter(|set| self.is_cycle(set))
            .flatten()
            .copied()
            .collect();
        reach(&self.needed_by, &members, Edge::is_need)
    }

    fn nodes(&self) -> usize {
        self.needs.starts.len() - 1
    }

    fn is_cycle(&self, set: &[ServiceId]) -> bool {
        set.len() > 1 || self.needs(set[0]).iter().any(|(to, _)| *to == set[0])
    }

    /// Breadth first from `start` through its own set until an edge leads back to it.
    fn way_round(&self, start: ServiceId, set_of: &[usize]) -> Vec<ServiceId> {
        let mut came_from: Vec<Option<ServiceId>> = vec![None; self.nodes()];
        let mut queue = vec![start];
        let mut next = 0;
        while let Some(&node) = queue.get(next) {
            next += 1;
            for &(to, _) in self.needs(node) {
                if to == start {
                    return path_back(start, node, &came_from);
                }
                let same_set = set_of[to.index()] == set_of[start.index()];
                if same_set && came_from[to.index()].is_none() {
                    came_from[to.index()] = Some(node);
                    queue.push(to);
                }
            }
        }
        // Not reached: in a strongly connected set there is a way back.
        vec![start]
    }
}

/// The path `start … last, start`, read backwards from `last`.
fn path_back(start: ServiceId, last: ServiceId, came_from: &[Option<ServiceId>]) -> Vec<ServiceId> {
    let mut path = vec![start];
    let mut node = last;
    while node != start {
        path.push(node);
        match came_from[node.index()] {
            Some(before) => node = before,
            None => break,
        }
    }
    path.push(start);
    path.reverse();
    path
}

/// All that can be reached from `roots` (with them) over the edges that `follow` accepts, by
/// number.
fn reach(links: &Links, roots: &[ServiceId], follow: impl Fn(Edge) -> bool) -> Vec<ServiceId> {
    let mut seen = vec![false; links.starts.len() - 1];
    let mut open = roots.to_vec();
    let mut found = Vec::new();
    while let Some(node) = open.pop() {
        // A number that is no node's (a service added since) reaches nothing.
        match seen.get_mut(node.index()) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        found.push(node);
        open.extend(
            links
                .of(node)
                .iter()
                .filter(|(_, e)| follow(*e))
                .map(|(to, _)| *to),
        );
    }
    found.sort_unstable();
    found
}

/// Tarjan's strongly connected components with a stack of our own (Depth-first search and linear
/// graph algorithms, 1972). A set comes out after all sets it leads to; members sorted.
fn strong_sets(nodes: usize, links: &Links) -> Vec<Vec<ServiceId>> {
    const UNSEEN: u32 = u32::MAX;
    let mut order = vec![UNSEEN; nodes];
    let mut low = vec![0; nodes];
    let mut on_stack = vec![false; nodes];
    let mut stack = Vec::new();
    // Nodes under examination, each with the number of the link to look at next.
    let mut calls: Vec<(usize, usize)> = Vec::new();
    let mut seen = 0;
    let mut sets = Vec::new();
    for root in 0..nodes {
        if order[root] != UNSEEN {
            continue;
        }
        calls.push((root, 0));
        while let Some(call) = calls.last_mut() {
            let (node, link) = *call;
            call.1 += 1;
            if link == 0 {
                order[node] = seen;
                low[node] = seen;
                seen += 1;
                stack.push(node);
                on_stack[node] = true;
            }
            if let Some((to, _)) = links.of(ServiceId(node as u32)).get(link) {
                let to = to.index();
                if order[to] == UNSEEN {
                    calls.push((to, 0));
                } else if on_stack[to] {
                    low[node] = low[node].min(order[to]);
                }
                continue;
            }
            calls.pop();
            if let Some((caller, _)) = calls.last() {
                low[*caller] = low[*caller].min(low[node]);
            }
            if low[node] == order[node] {
                let from = stack.iter().rposition(|n| *n == node).unwrap_or(0);
                let mut set: Vec<ServiceId> = stack
                    .drain(from..)
                    .inspect(|n| on_stack[*n] = false)
                    .map(|n| ServiceId(n as u32))
                    .collect();
                set.sort_unstable();
                sets.push(set);
            }
        }
    }
    sets
}

#[cfg(test)]
mod tests;
