//! Who is behind a token.
//!
//! A token is a slot and the slot's generation: an event for a source that is gone meanwhile
//! names an old generation and finds nobody. Slots are used again, newest first, so that the
//! table stays as small as the busiest moment needed.

use mio::Token;

/// Slots take the lower bits; a million sources are more than descriptors allow.
const SLOT_BITS: u32 = 20;
const SLOT_MASK: usize = (1 << SLOT_BITS) - 1;

struct Slot<T> {
    generation: usize,
    source: Option<T>,
}

pub struct Sources<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

impl<T> Default for Sources<T> {
    fn default() -> Sources<T> {
        Sources {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Sources<T> {
    /// The token that the next [`insert`](Sources::insert) gives out.
    pub fn next_token(&self) -> Token {
        let slot = self.free.last().copied().unwrap_or(self.slots.len());
        let generation = self.slots.get(slot).map_or(0, |s| s.generation);
        Token(generation << SLOT_BITS | slot)
    }

    pub fn insert(&mut self, source: T) -> Token {
        let token = self.next_token();
        match self.free.pop() {
            Some(slot) => self.slots[slot].source = Some(source),
            None => self.slots.push(Slot {
                generation: 0,
                source: Some(source),
            }),
        }
        token
    }

    fn slot(&self, token: Token) -> Option<&Slot<T>> {
        let slot = self.slots.get(token.0 & SLOT_MASK)?;
        (slot.generation == token.0 >> SLOT_BITS).then_some(slot)
    }

    pub fn get(&self, token: Token) -> Option<&T> {
        self.slot(token)?.source.as_ref()
    }

    pub fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        self.slot(token)?;
        self.slots[token.0 & SLOT_MASK].source.as_mut()
    }

    pub fn remove(&mut self, token: Token) -> Option<T> {
        self.slot(token)?;
        let slot = &mut self.slots[token.0 & SLOT_MASK];
        let source = slot.source.take()?;
        // Wraps where a usize is small; an event that is a thousand generations old is no event.
        slot.generation = (slot.generation + 1) & (usize::MAX >> SLOT_BITS >> 1);
        self.free.push(token.0 & SLOT_MASK);
        Some(source)
    }

    /// The present tenant of a timer's slot.
    pub fn token_of(&self, key: u32) -> Option<Token> {
        let slot = self.slots.get(key as usize)?;
        slot.source.as_ref()?;
        Some(Token(slot.generation << SLOT_BITS | key as usize))
    }
}

/// The timer key of a source, on the loop's own small wheel.
pub fn timer_key(token: Token) -> u32 {
    (token.0 & SLOT_MASK) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_token_finds_nobody() {
        let mut sources = Sources::default();
        let first = sources.insert("first");
        assert_eq!(sources.remove(first), Some("first"));
        let second = sources.insert("second");
        assert_ne!(first, second);
        assert_eq!(
            (sources.get(first), sources.get(second)),
            (None, Some(&"second"))
        );
        assert_eq!(sources.remove(first), None);
        assert_eq!(sources.get(second), Some(&"second"));
    }

    #[test]
    fn a_timer_finds_the_present_tenant() {
        let mut sources = Sources::default();
        let first = sources.insert("first");
        assert_eq!(sources.token_of(timer_key(first)), Some(first));
        sources.remove(first);
        assert_eq!(sources.token_of(timer_key(first)), None);
        let second = sources.insert("second");
        assert_eq!(sources.token_of(timer_key(first)), Some(second));
        assert_eq!(sources.token_of(7), None);
    }
}
