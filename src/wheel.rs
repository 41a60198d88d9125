//! A hierarchical timer wheel: which timer is next, and which are due.
//!
//! It knows keys and deadlines, not what they mean, and never reads a clock. A key is a small
//! dense number that the caller gives out; each key has at most one timer, and setting it again
//! replaces it, so nobody holds a handle that could go stale.
//!
//! How it works: time is counted in ticks of a millisecond. The wheel has a *position*, the tick
//! up to which everything has fired. A timer lies at the level of the highest 6-bit digit in
//! which its tick differs from the position, in the slot named by that digit. So all of a lower
//! level is due before any of a higher one, and within a level slots are in order of time. When
//! the position moves, exactly one slot can have come to lie too high: it is dealt out again
//! (cascaded), in order.
//!
//! Invariants:
//! - a linked timer lies where its tick and the position say; its place is computed, not stored;
//! - no timer fires early: deadlines are rounded up to whole ticks;
//! - timers of equal ticks share a list, in the order in which they were set;
//! - ticks handed out by [`Wheel::pop`] never go backwards: a deadline that has passed is moved
//!   up to the position;
//! - `set` and `cancel` take constant time, an idle wheel takes none; `next` looks through one list
//!   at most, and only when that list's earliest was taken away.

use crate::time::Time;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bits in a digit, and slots in a level as a power of two.
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
/// Ten digits of six bits hold every u64 of microseconds as milliseconds (55 bits).
const LEVELS: usize = 10;
/// The tick of deadlines that round up past the end of time; it reads back as [`Time::MAX`].
const LAST: u64 = u64::MAX / 1000 + 1;
/// No tick: the key has no timer.
const UNSET: u64 = u64::MAX;
/// No node: the end of a list.
const END: u32 = u32::MAX;

/// A key's timer; its index in `nodes` is the key. 16 bytes.
#[derive(Clone, Copy)]
struct Node {
    tick: u64,
    before: u32,
    after: u32,
}

const UNLINKED: Node = Node {
    tick: UNSET,
    before: END,
    after: END,
};

/// First and last of a slot's list, both [`END`] when it is empty; and its earliest tick, so that
/// a timer that comes and goes before all others does not make a long list be searched each time.
#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
    /// [`UNSET`]: empty, or not known since the earliest was taken away.
    earliest: u64,
}

const EMPTY: List = List {
    first: END,
    last: END,
    earliest: UNSET,
};

/// See the module's text.
#[derive(Clone)]
pub struct Wheel {
    position: u64,
    nodes: Vec<Node>,
    /// `LEVELS * SLOTS` lists.
    lists: Vec<List>,
    /// One bit a slot that is not empty, a word a level.
    occupied: [u64; LEVELS],
    len: usize,
}

/// The first tick that is not before `time`.
fn tick_up(time: Time) -> u64 {
    time.0.div_ceil(1000)
}

/// The last tick that has been reached at `time`.
fn tick_down(time: Time) -> u64 {
    if time == Time::MAX {
        LAST
    } else {
        time.0 / 1000
    }
}

impl Wheel {
    /// An empty wheel whose past ends at `now`.
    pub fn new(now: Time) -> Wheel {
        Wheel {
            position: tick_down(now),
            nodes: Vec::new(),
            lists: vec![EMPTY; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            len: 0,
        }
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets the timer of `key`, in place of the one it may have had. A deadline that has passed
    /// fires with the next [`Wheel::pop`], after those that were due before it.
    ///
    /// Memory grows with the largest key ever set: 16 bytes a key.
    pub fn set(&mut self, key: u32, deadline: Time) {
        let index = key as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, UNLINKED);
        }
        self.cancel(key);
        let tick = tick_up(deadline).max(self.position);
        self.nodes[index].tick = tick;
        self.link(key);
        self.len += 1;
    }

    /// Takes the timer of `key` away; false when it had none.
    pub fn cancel(&mut self, key: u32) -> bool {
        let Some(node) = self.nodes.get(key as usize) else {
            return false;
        };
        if node.tick == UNSET {
            return false;
        }
        self.unlink(key);
        self.nodes[key as usize].tick = UNSET;
        self.len -= 1;
        true
    }

    /// When the timer of `key` fires: its deadline rounded up to whole milliseconds, moved up
    /// when it had passed already.
    pub fn deadline(&self, key: u32) -> Option<Time> {
        let tick = self.nodes.get(key as usize)?.tick;
        (tick != UNSET).then(|| Time::from_millis(tick))
    }

    /// When the earliest timer fires; exact, so that nobody wakes up for nothing.
    #[expect(
        clippy::should_implement_trait,
        reason = "taking nothing out, it is no iterator's next"
    )]
    pub fn next(&mut self) -> Option<Time> {
        let tick = self.earliest();
        (tick != UNSET).then(|| Time::from_millis(tick))
    }

    /// Takes out the earliest timer that is due at `now`, with the time at which it was due.
    /// Those due at the same millisecond come in the order in which they were set.
    pub fn pop(&mut self, now: Time) -> Option<(u32, Time)> {
        let reached = tick_down(now);
        let tick = self.earliest();
        if tick > reached {
            self.advance(reached);
            return None;
        }
        self.advance(tick);
        // At the position itself the place is level 0, and all of the list are of this tick.
        let key = self.lists[place(tick, tick)].first;
        self.cancel(key);
        Some((key, Time::from_millis(tick)))
    }

    /// All timers and their ticks, in the order in which they will fire.
    fn in_order(&self) -> Vec<(u32, u64)> {
        let mut rest = self.clone();
        let mut all = Vec::with_capacity(self.len);
        while let Some((key, _)) = rest.pop(Time::MAX) {
            all.push((key, self.nodes[key as usize].tick));
        }
        all
    }

    /// The earliest tick, [`UNSET`] when there is none: it lies in the first slot of the lowest
    /// level that has any.
    fn earliest(&mut self) -> u64 {
        let Some(level) = self.occupied.iter().position(|slots| *slots != 0) else {
            return UNSET;
        };
        let slot = self.occupied[level].trailing_zeros() as usize;
        let list = &mut self.lists[level * SLOTS + slot];
        if list.earliest == UNSET {
            let mut key = list.first;
            while key != END {
                let node = &self.nodes[key as usize];
                list.earliest = list.earliest.min(node.tick);
                key = node.after;
            }
        }
        list.earliest
    }

    /// Moves the position to `tick`, before which no timer may lie. Only timers that agree with
    /// `tick` in the digit that changes and above lie too high then: those of one list.
    fn advance(&mut self, tick: u64) {
        if tick <= self.position {
            return;
        }
        let from = place(tick, self.position);
        self.position = tick;
        if from < SLOTS {
            return;
        }
        let mut key = std::mem::replace(&mut self.lists[from], EMPTY).first;
        self.occupied[from / SLOTS] &= !(1 << (from % SLOTS));
        while key != END {
            let after = self.nodes[key as usize].after;
            self.link(key);
            key = after;
        }
    }

    /// Appends a node to the list where its tick belongs.
    fn link(&mut self, key: u32) {
        let tick = self.nodes[key as usize].tick;
        let at = place(tick, self.position);
        let list = &mut self.lists[at];
        let last = std::mem::replace(&mut list.last, key);
        if last == END {
            list.first = key;
            list.earliest = tick;
            self.occupied[at / SLOTS] |= 1 << (at % SLOTS);
        } else {
            self.nodes[last as usize].after = key;
            // While it is not known, one more does not make it so.
            if list.earliest != UNSET {
                list.earliest = list.earliest.min(tick);
            }
        }
        let node = &mut self.nodes[key as usize];
        node.before = last;
        node.after = END;
    }

    /// Takes a node out of its list.
    fn unlink(&mut self, key: u32) {
        let Node {
            tick,
            before,
            after,
        } = self.nodes[key as usize];
        let at = place(tick, self.position);
        let list = &mut self.lists[at];
        if before == END {
            list.first = after;
        } else {
            self.nodes[before as usize].after = after;
        }
        if after == END {
            list.last = before;
        } else {
            self.nodes[after as usize].before = before;
        }
        // On level 0 all of a list are of one tick, and it stays known.
        if list.first == END || (tick == list.earliest && at >= SLOTS) {
            list.earliest = UNSET;
        }
        if list.first == END {
            self.occupied[at / SLOTS] &= !(1 << (at % SLOTS));
        }
    }
}

/// As its position and its timers in order: all that what it does next depends on.
impl Serialize for Wheel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.position, self.in_order()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Wheel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Wheel, D::Error> {
        let (position, timers) = <(u64, Vec<(u32, u64)>)>::deserialize(deserializer)?;
        let mut wheel = Wheel::new(Time::from_millis(position));
        for (key, tick) in timers {
            wheel.set(key, Time::from_millis(tick));
        }
        Ok(wheel)
    }
}

/// The list of a tick, seen from `position`: level times [`SLOTS`] plus slot.
fn place(tick: u64, position: u64) -> usize {
    let level = ((tick ^ position) | 1).ilog2() / BITS;
    let slot = (tick >> (level * BITS)) as usize % SLOTS;
    level as usize * SLOTS + slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What the wheel is to do, written the obvious way.
    #[derive(Default)]
    struct Model {
        timers: BTreeMap<(Time, u64), u32>,
        of: BTreeMap<u32, (Time, u64)>,
        position: Time,
        sets: u64,
    }

    /// Up to whole milliseconds; the last ones end at the end of time.
    fn rounded(t: Time) -> Time {
        Time(u64::try_from((u128::from(t.0)).div_ceil(1000) * 1000).unwrap_or(u64::MAX))
    }

    impl Model {
        fn set(&mut self, key: u32, deadline: Time) {
            self.cancel(key);
            let at = (rounded(deadline).max(self.position), self.sets);
            self.sets += 1;
            self.timers.insert(at, key);
            self.of.insert(key, at);
        }

        fn cancel(&mut self, key: u32) -> bool {
            let at = self.of.remove(&key);
            at.is_some_and(|at| self.timers.remove(&at).is_some())
        }

        fn next(&self) -> Option<Time> {
            self.timers.keys().next().map(|at| at.0)
        }

        fn pop(&mut self, now: Time) -> Option<(u32, Time)> {
            let found = self.timers.first_key_value().map(|(at, key)| (*key, at.0));
            match found {
                Some((key, at)) if at <= now => {
                    self.cancel(key);
                    self.position = self.position.max(at);
                    Some((key, at))
                }
                _ => {
                    let reached = if now == Time::MAX {
                        now
                    } else {
                        Time(now.0 / 1000 * 1000)
                    };
                    self.position = self.position.max(reached);
                    None
                }
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Set(u32, u64),
        SetAgain(u32),
        Cancel(u32),
        Pop,
        Advance(u64),
        Next,
        WriteAndRead,
    }

    /// Distances of every magnitude, many of them small, so that ticks coincide and cascade.
    fn distance() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => 0u64..8_000,
            4 => 0u64..300_000,
            4 => (0u64..64).prop_map(|n| n * 64_000),
            2 => (0u32..64, any::<u64>()).prop_map(|(bits, n)| n >> bits),
            1 => Just(u64::MAX),
        ]
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (0u32..40, distance()).prop_map(|(key, d)| Op::Set(key, d)),
            2 => (0u32..40).prop_map(Op::SetAgain),
            2 => (0u32..50).prop_map(Op::Cancel),
            3 => Just(Op::Pop),
            3 => distance().prop_map(Op::Advance),
            1 => Just(Op::Next),
            1 => Just(Op::WriteAndRead),
        ]
    }

    fn agree(start: u64, ops: Vec<Op>) -> Result<(), TestCaseError> {
        let mut now = Time(start);
        let mut wheel = Wheel::new(now);
        let mut model = Model {
            position: Time(now.0 / 1000 * 1000),
            ..Model::default()
        };
        if now == Time::MAX {
            model.position = now;
        }
        let mut fired = Time::ZERO;
        // At the end everything left fires.
        let end = [Op::Advance(u64::MAX)];
        for op in ops.into_iter().chain(end) {
            match op {
                Op::Set(key, d) => {
                    // Also deadlines that have passed: a distance is half the time negative.
                    let at = if d % 4 == 3 {
                        Time(now.0.saturating_sub(d))
                    } else {
                        Time(now.0.saturating_add(d))
                    };
                    wheel.set(key, at);
                    model.set(key, at);
                }
                Op::SetAgain(key) => {
                    if let Some(at) = wheel.deadline(key) {
                        wheel.set(key, at);
                        model.set(key, at);
                    }
                }
                Op::Cancel(key) => prop_assert_eq!(wheel.cancel(key), model.cancel(key)),
                Op::Pop => prop_assert_eq!(wheel.pop(now), model.pop(now)),
                Op::Advance(d) => {
                    now = Time(now.0.saturating_add(d));
                    loop {
                        let due = model.pop(now);
                        prop_assert_eq!(wheel.pop(now), due);
                        let Some((_, at)) = due else { break };
                        prop_assert!(at >= fired && at <= now);
                        fired = at;
                    }
                }
                Op::Next => prop_assert_eq!(wheel.next(), model.next()),
                Op::WriteAndRead => {
                    let written = serde_json::to_vec(&wheel).unwrap();
                    wheel = serde_json::from_slice(&written).unwrap();
                }
            }
            prop_assert_eq!(wheel.len(), model.of.len());
            for key in 0..50 {
                prop_assert_eq!(wheel.deadline(key), model.of.get(&key).map(|at| at.0));
            }
        }
        prop_assert_eq!(wheel.next(), None);
        prop_assert!(wheel.is_empty());
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn behaves_as_a_sorted_map(start in 0u64..10_000_000, ops in prop::collection::vec(op(), 0..160)) {
            agree(start, ops)?;
        }

        #[test]
        fn behaves_as_a_sorted_map_anywhere_in_time(bits in 0u32..64, start in any::<u64>(), ops in prop::collection::vec(op(), 0..60)) {
            agree(start >> bits, ops)?;
        }
    }

    fn drain(wheel: &mut Wheel, now: Time) -> Vec<u32> {
        std::iter::from_fn(|| wheel.pop(now).map(|(key, _)| key)).collect()
    }

    #[test]
    fn equal_deadlines_fire_in_the_order_they_were_set_whatever_level_they_came_by() {
        let mut wheel = Wheel::new(Time::ZERO);
        let at = Time::from_millis(70 * 64 * 64);
        wheel.set(5, at);
        wheel.set(9, Time::from_millis(70 * 64 * 64 - 1));
        wheel.set(3, at);
        // From here on `at` is two levels lower, then lowest.
        wheel.set(0, Time::from_millis(69 * 64 * 64));
        assert_eq!(drain(&mut wheel, Time::from_millis(69 * 64 * 64)), [0]);
        wheel.set(8, at);
        assert_eq!(drain(&mut wheel, Time::from_millis(70 * 64 * 64 - 1)), [9]);
        wheel.set(1, at);
        // Setting again goes to the end, also for the same time.
        wheel.set(5, at);
        assert_eq!(drain(&mut wheel, at), [3, 8, 1, 5]);
    }

    #[test]
    fn no_timer_fires_early_and_a_millisecond_is_one_wake_up() {
        let mut wheel = Wheel::new(Time(500));
        wheel.set(0, Time(1_001));
        wheel.set(1, Time(1_999));
        wheel.set(2, Time(2_000));
        assert_eq!(wheel.next(), Some(Time(2_000)));
        assert_eq!(wheel.pop(Time(1_999)), None);
        assert_eq!(drain(&mut wheel, Time(2_000)), [0, 1, 2]);
    }

    #[test]
    fn a_deadline_in_the_past_fires_next_and_never_before_what_has_fired() {
        let mut wheel = Wheel::new(Time::from_millis(100));
        wheel.set(0, Time::from_millis(110));
        assert_eq!(
            wheel.pop(Time::from_millis(110)),
            Some((0, Time::from_millis(110)))
        );
        wheel.set(1, Time::ZERO);
        assert_eq!(wheel.deadline(1), Some(Time::from_millis(110)));
        assert_eq!(
            wheel.pop(Time::from_millis(110)),
            Some((1, Time::from_millis(110)))
        );
    }

    #[test]
    fn the_end_of_time_is_a_deadline_like_any_other() {
        let mut wheel = Wheel::new(Time::ZERO);
        wheel.set(7, Time::MAX);
        wheel.set(8, Time(u64::MAX - 1));
        assert_eq!(wheel.next(), Some(Time::MAX));
        assert_eq!(wheel.pop(Time(u64::MAX - 1)), None);
        assert_eq!(drain(&mut wheel, Time::MAX), [7, 8]);
        wheel.set(7, Time::MAX);
        assert_eq!(drain(&mut wheel, Time::MAX), [7]);
    }

    #[test]
    fn the_earliest_is_exact_when_the_one_before_it_is_taken_away_or_put_off() {
        let mut wheel = Wheel::new(Time::ZERO);
        for (key, ms) in [(0, 5_000), (1, 4_999), (2, 5_001), (3, 90_000)] {
            wheel.set(key, Time::from_millis(ms));
        }
        assert_eq!(wheel.next(), Some(Time::from_millis(4_999)));
        assert!(wheel.cancel(1));
        assert_eq!(wheel.next(), Some(Time::from_millis(5_000)));
        wheel.set(0, Time::from_millis(6_000));
        assert_eq!(wheel.next(), Some(Time::from_millis(5_001)));
        assert!(!wheel.cancel(1));
        assert!(!wheel.cancel(1_000_000));
    }

    #[test]
    fn a_timer_is_small() {
        assert_eq!(std::mem::size_of::<Node>(), 16);
    }
}
