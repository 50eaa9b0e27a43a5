//! The last offset of each key, in bounded memory.
//!
//! A key is known by a 128-bit hash alone, as in Kafka, so an entry takes 24 bytes however long the
//! key is. Two keys with one hash would count as one and the older record would be lost. By chance
//! that does not happen: among 10⁹ keys the odds are below 10⁻²⁰. On purpose it cannot be brought
//! about, because the hash (SipHash-2-4) has a random key that nobody outside knows, a new one for
//! each map.

use std::hash::Hasher;

use ottla_record::Offset;
use siphasher::sip128::{Hasher128, SipHasher24};

/// Both halves of the hash, and the offset + 1. All zeros are a free slot.
type Slot = [u64; 3];

/// Bytes that an entry takes.
pub(crate) const SLOT_BYTES: usize = size_of::<Slot>();

/// A map from keys to offsets that takes so many entries and no more.
pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    len: usize,
    len_max: usize,
    hasher: SipHasher24,
    latest: Offset,
}

impl OffsetMap {
    /// A map of `slots` (one or more) that is full when `load_factor` of them are taken. `seed`
    /// makes its hash one that nobody foresees.
    pub(crate) fn new(slots: usize, load_factor: f64, seed: [u8; 16]) -> Self {
        let slots = slots.max(1);
        // At least one entry must fit, or nothing would ever be compacted.
        let len_max = ((slots as f64 * load_factor) as usize).clamp(1, slots);
        let hasher = SipHasher24::new_with_key(&seed);
        Self { slots: vec![[0; 3]; slots], len: 0, len_max, hasher, latest: Offset::NONE }
    }

    /// Notes that `key` was last seen at `offset`, which lies behind all noted so far. `false` if
    /// there is no room for another key.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let [high, low] = self.hash(key);
        let at = self.find(high, low);
        let is_new = at.is_none_or(|at| self.slots[at][2] == 0);
        if is_new && self.len == self.len_max {
            return false;
        }
        let Some(at) = at else { return false };
        self.len += usize::from(is_new);
        self.slots[at] = [high, low, offset.0 as u64 + 1];
        self.advance(offset);
        true
    }

    /// The last offset of `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        let [high, low] = self.hash(key);
        let [.., offset] = self.slots[self.find(high, low)?];
        offset.checked_sub(1).map(|offset| Offset(offset as i64))
    }

    /// Notes that all up to `offset` was seen.
    pub(crate) fn advance(&mut self, offset: Offset) {
        self.latest = self.latest.max(offset);
    }

    /// The offset up to which all keys are known.
    pub(crate) fn latest(&self) -> Offset {
        self.latest
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let mut hasher = self.hasher;
        hasher.write(key);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }

    /// The slot of the key, or the free one that would take it; `None` if all others are taken.
    fn find(&self, high: u64, low: u64) -> Option<usize> {
        let count = self.slots.len();
        // The upper bits of a product: as even as a remainder, and faster.
        let start = ((u128::from(high) * count as u128) >> 64) as usize;
        (start..count).chain(0..start).find(|&at| {
            let [h, l, offset] = self.slots[at];
            offset == 0 || (h == high && l == low)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> Vec<u8> {
        format!("key {n}").into_bytes()
    }

    #[test]
    fn the_last_offset_of_each_key_is_found() {
        let mut map = OffsetMap::new(1000, 0.9, [7; 16]);
        assert_eq!((map.get(&key(1)), map.latest()), (None, Offset::NONE));
        for n in 0..2700 {
            assert!(map.put(&key(n % 900), Offset(n as i64)), "{n}");
        }
        for n in 0..900 {
            assert_eq!(map.get(&key(n)), Some(Offset(1800 + n as i64)));
        }
        assert_eq!((map.get(&key(900)), map.len()), (None, 900));
        assert_eq!(map.latest(), Offset(2699));
    }

    #[test]
    fn a_full_map_takes_known_keys_only() {
        for (slots, load_factor, fits) in [(10, 0.9, 9), (10, 1.0, 10), (1, 0.1, 1), (0, 0.9, 1)] {
            let mut map = OffsetMap::new(slots, load_factor, [1; 16]);
            let taken = (0..20).take_while(|&n| map.put(&key(n), Offset(n as i64))).count();
            assert_eq!(taken, fits, "{slots} slots, load factor {load_factor}");
            assert!(map.put(&key(0), Offset(50)));
            assert!(!map.put(&key(99), Offset(51)));
            assert_eq!((map.get(&key(0)), map.get(&key(99))), (Some(Offset(50)), None));
            assert_eq!(map.latest(), Offset(50));
        }
    }

    #[test]
    fn the_empty_key_and_offset_zero_are_like_others() {
        let mut map = OffsetMap::new(4, 0.5, [0; 16]);
        assert!(map.put(b"", Offset(0)));
        assert_eq!(map.get(b""), Some(Offset(0)));
        assert_eq!(map.len(), 1);
    }

    #[test]
    fn each_seed_has_a_hash_of_its_own() {
        let map = |seed| OffsetMap::new(1, 1.0, [seed; 16]);
        assert_ne!(map(1).hash(b"key"), map(2).hash(b"key"));
    }
}
