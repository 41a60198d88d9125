//! The graph against a slow and obvious one, and the cases that have names.

use super::*;
use proptest::prelude::*;

fn ids(numbers: &[u32]) -> Vec<ServiceId> {
    numbers.iter().copied().map(ServiceId).collect()
}

fn graph(nodes: usize, edges: &[(u32, u32, Edge)]) -> Graph {
    Graph::new(
        nodes,
        edges
            .iter()
            .map(|&(from, to, e)| (ServiceId(from), ServiceId(to), e)),
    )
}

#[test]
fn a_cycle_is_told_with_its_path_and_holds_back_only_those_who_require_it() {
    // 0 and 1 wait for each other; 2 requires 0, 3 requires 2; 4 only wants it, 5 comes after.
    let g = graph(
        7,
        &[
            (0, 1, Edge::Requires),
            (1, 0, Edge::After),
            (2, 0, Edge::Requires),
            (3, 2, Edge::Requires),
            (4, 0, Edge::Wants),
            (5, 1, Edge::After),
            (0, 6, Edge::Requires),
        ],
    );
    let cycle = Cycle {
        members: ids(&[0, 1]),
        path: ids(&[0, 1, 0]),
    };
    assert_eq!(g.cycles(), [cycle]);
    assert_eq!(g.held_back(), ids(&[0, 1, 2, 3]));
}

#[test]
fn a_service_that_needs_itself_is_a_cycle() {
    let g = graph(2, &[(1, 1, Edge::Requires)]);
    assert_eq!(g.cycles()[0].path, ids(&[1, 1]));
    assert_eq!(g.held_back(), ids(&[1]));
}

#[test]
fn the_shortest_way_round_is_shown() {
    let ring = (0..6).map(|n| (n, (n + 1) % 6, Edge::After));
    let edges: Vec<_> = ring.chain([(2, 0, Edge::Wants)]).collect();
    let cycles = graph(6, &edges).cycles();
    assert_eq!(cycles.len(), 1);
    assert_eq!(cycles[0].members, ids(&[0, 1, 2, 3, 4, 5]));
    assert_eq!(cycles[0].path, ids(&[0, 1, 2, 0]));
}

#[test]
fn what_is_started_with_a_service_and_who_requires_it_go_through_others() {
    let g = graph(
        6,
        &[
            (0, 1, Edge::Requires),
            (1, 2, Edge::Wants),
            (2, 3, Edge::After),
            (4, 1, Edge::Requires),
            (5, 4, Edge::Wants),
        ],
    );
    assert_eq!(g.started_with(ServiceId(0)), ids(&[0, 1, 2]));
    assert_eq!(g.requirers(ServiceId(1)), ids(&[0, 4]));
    assert_eq!(g.requirers(ServiceId(3)), ids(&[]));
    assert_eq!(g.started_with(ServiceId(99)), ids(&[]));
    assert_eq!(g.needs(ServiceId(1)), [(ServiceId(2), Edge::Wants)]);
    assert_eq!(g.needed_by(ServiceId(4)), [(ServiceId(5), Edge::Wants)]);
}

#[test]
fn edges_out_of_range_are_dropped_and_double_ones_are_one() {
    let g = graph(
        2,
        &[
            (0, 9, Edge::Requires),
            (9, 0, Edge::Requires),
            (0, 1, Edge::After),
            (0, 1, Edge::After),
        ],
    );
    assert_eq!(g.needs(ServiceId(0)), [(ServiceId(1), Edge::After)]);
    assert_eq!(g.cycles(), []);
}

#[test]
fn nothing_is_no_trouble() {
    let g = graph(0, &[]);
    assert_eq!(g.cycles(), []);
    assert_eq!(g.held_back(), []);
}

#[test]
fn a_chain_and_a_ring_of_the_largest_size_need_no_deep_stack() {
    let nodes = crate::limits::MAX_SERVICES as u32;
    let mut edges: Vec<_> = (1..nodes).map(|n| (n, n - 1, Edge::Requires)).collect();
    // Far less than a recursion of this depth would take.
    let thread = std::thread::Builder::new().stack_size(256 * 1024);
    let test = thread.spawn(move || {
        let g = graph(nodes as usize, &edges);
        assert_eq!(g.requirers(ServiceId(0)).len(), nodes as usize - 1);
        edges.push((0, nodes - 1, Edge::After));
        let ring = graph(nodes as usize, &edges);
        assert_eq!(ring.cycles()[0].path.len(), nodes as usize + 1);
        assert_eq!(ring.held_back().len(), nodes as usize);
    });
    assert!(test.is_ok_and(|t| t.join().is_ok()));
}

/// Reachability over all edges (one step or more), by repeated squaring of the obvious.
fn reachable(nodes: usize, edges: &[(u32, u32, Edge)]) -> Vec<Vec<bool>> {
    let mut to = vec![vec![false; nodes]; nodes];
    for &(a, b, _) in edges {
        to[a as usize][b as usize] = true;
    }
    for via in 0..nodes {
        for a in 0..nodes {
            for b in 0..nodes {
                to[a][b] |= to[a][via] && to[via][b];
            }
        }
    }
    to
}

fn any_edges() -> impl Strategy<Value = (usize, Vec<(u32, u32, Edge)>)> {
    (1usize..12).prop_flat_map(|nodes| {
        let kind = prop_oneof![
            Just(Edge::Requires),
            Just(Edge::Wants),
            Just(Edge::After),
            Just(Edge::Before),
            Just(Edge::Milestone),
            Just(Edge::AfterExit),
        ];
        let edge = (0..nodes as u32, 0..nodes as u32, kind);
        (Just(nodes), prop::collection::vec(edge, 0..24))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cycles_and_whom_they_hold_back_are_what_reachability_says((nodes, edges) in any_edges()) {
        let g = graph(nodes, &edges);
        let to = reachable(nodes, &edges);

        let mut members: Vec<u32> = Vec::new();
        for cycle in g.cycles() {
            prop_assert_eq!(cycle.path.first(), cycle.members.first());
            prop_assert_eq!(cycle.path.last(), cycle.members.first());
            for step in cycle.path.windows(2) {
                prop_assert!(g.needs(step[0]).iter().any(|(next, _)| *next == step[1]));
                prop_assert!(cycle.members.contains(&step[0]));
            }
            for a in &cycle.members {
                for b in &cycle.members {
                    prop_assert!(to[a.index()][b.index()]);
                }
            }
            members.extend(cycle.members.iter().map(|m| m.0));
        }
        members.sort_unstable();
        let expected: Vec<u32> = (0..nodes).filter(|n| to[*n][*n]).map(|n| n as u32).collect();
        prop_assert_eq!(&members, &expected);

        let requires: Vec<_> = edges.iter().filter(|e| e.2.is_need()).copied().collect();
        let by_requires = reachable(nodes, &requires);
        let held: Vec<ServiceId> = (0..nodes)
            .filter(|n| to[*n][*n] || expected.iter().any(|m| by_requires[*n][*m as usize]))
            .map(|n| ServiceId(n as u32))
            .collect();
        prop_assert_eq!(g.held_back(), held);
    }

    #[test]
    fn the_order_in_which_edges_are_given_does_not_matter(
        (nodes, edges) in any_edges(), turn in 0usize..24,
    ) {
        let g = graph(nodes, &edges);
        let mut turned = edges.clone();
        turned.rotate_left(turn % edges.len().max(1));
        let h = graph(nodes, &turned);
        prop_assert_eq!(g.cycles(), h.cycles());
        prop_assert_eq!(g.held_back(), h.held_back());
    }
}
