//! An immutable sorted map whose next version shares all but what changed.

use std::sync::Arc;

/// A chunk that grows beyond this is split. The square root of 250,000: with that many values a
/// change copies about as many pointers to chunks as pointers within one.
const CHUNK_MAX: usize = 512;

/// A value that knows its own key.
pub(crate) trait Keyed: Clone {
    type Key: Ord + ?Sized;
    fn key(&self) -> &Self::Key;
}

/// Values in the order of their keys, in chunks that versions of the map share.
///
/// Looking up is O(log n); a change copies one chunk and the list of chunks, O(√n) pointers.
/// Invariant: no chunk is empty, and keys ascend strictly within and across chunks.
#[derive(Clone, Debug)]
pub(crate) struct SharedMap<V> {
    chunks: Arc<[Arc<[V]>]>,
    len: usize,
}

impl<V> Default for SharedMap<V> {
    fn default() -> Self {
        Self { chunks: Arc::default(), len: 0 }
    }
}

impl<V: Keyed> SharedMap<V> {
    /// Takes many values at once; of two with one key the later one stays.
    pub(crate) fn from_values(mut values: Vec<V>) -> Self {
        // The sort is stable and `dedup` keeps the first of equals, so turn the order around.
        values.reverse();
        values.sort_by(|a, b| a.key().cmp(b.key()));
        values.dedup_by(|b, a| a.key() == b.key());
        let chunks = values.chunks(CHUNK_MAX / 2).map(Arc::from).collect();
        Self { chunks, len: values.len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, key: &V::Key) -> Option<&V> {
        let chunk = &self.chunks[self.chunk_of(key)?];
        let at = chunk.binary_search_by(|value| value.key().cmp(key)).ok()?;
        Some(&chunk[at])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The values whose keys are not below `from`.
    pub(crate) fn iter_from(&self, from: &V::Key) -> impl Iterator<Item = &V> {
        let first = self.chunk_of(from).unwrap_or(0);
        let at = self.chunks.get(first).map_or(0, |c| c.partition_point(|v| v.key() < from));
        self.chunks[first..].iter().flat_map(|chunk| chunk.iter()).skip(at)
    }

    /// This map with `value` in the place of any other of its key.
    #[must_use]
    pub(crate) fn with(&self, value: V) -> Self {
        let Some(index) = self.chunk_of(value.key()).or((self.len > 0).then_some(0)) else {
            return Self::from_values(vec![value]);
        };
        let mut chunk = self.chunks[index].to_vec();
        let mut len = self.len;
        match chunk.binary_search_by(|other| other.key().cmp(value.key())) {
            Ok(at) => chunk[at] = value,
            Err(at) => {
                chunk.insert(at, value);
                len += 1;
            }
        }
        self.replaced(index, chunk, len)
    }

    /// This map without the value of `key`.
    #[must_use]
    pub(crate) fn without(&self, key: &V::Key) -> Self {
        let Some(index) = self.chunk_of(key) else { return self.clone() };
        let mut chunk = self.chunks[index].to_vec();
        let Ok(at) = chunk.binary_search_by(|value| value.key().cmp(key)) else {
            return self.clone();
        };
        chunk.remove(at);
        self.replaced(index, chunk, self.len - 1)
    }

    /// The chunk that a key belongs to: the last one that begins at or below it.
    fn chunk_of(&self, key: &V::Key) -> Option<usize> {
        self.chunks.partition_point(|chunk| chunk[0].key() <= key).checked_sub(1)
    }

    /// Puts a changed chunk in its place: split where it has grown too large, put together with the
    /// one before it where both are small.
    fn replaced(&self, index: usize, mut chunk: Vec<V>, len: usize) -> Self {
        let mut first = index;
        if let Some(before) = index.checked_sub(1).map(|before| &self.chunks[before])
            && chunk.len() + before.len() <= CHUNK_MAX / 2
        {
            chunk.splice(..0, before.iter().cloned());
            first = index - 1;
        }
        let pieces = if chunk.len() > CHUNK_MAX { 2 } else { 1 };
        let piece_len = chunk.len().div_ceil(pieces).max(1);
        let chunks = self.chunks[..first]
            .iter()
            .cloned()
            .chain(chunk.chunks(piece_len).map(Arc::from))
            .chain(self.chunks[index + 1..].iter().cloned())
            .collect();
        Self { chunks, len }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    impl Keyed for (u32, u32) {
        type Key = u32;
        fn key(&self) -> &u32 {
            &self.0
        }
    }

    fn check(map: &SharedMap<(u32, u32)>, model: &BTreeMap<u32, u32>) {
        assert!(map.chunks.iter().all(|chunk| (1..=CHUNK_MAX).contains(&chunk.len())));
        assert_eq!(map.len(), model.len());
        assert!(map.iter().copied().eq(model.iter().map(|(&k, &v)| (k, v))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_is_a_sorted_map(
            start in prop::collection::vec((0u32..3000, any::<u32>()), 0..2500),
            changes in prop::collection::vec((0u32..3000, prop::option::of(any::<u32>())), 0..100),
            probe in 0u32..3100,
        ) {
            let mut map = SharedMap::from_values(start.clone());
            let mut model: BTreeMap<u32, u32> = start.into_iter().collect();
            check(&map, &model);
            for (key, value) in changes {
                let before = map.clone();
                let model_before = model.clone();
                map = match value {
                    Some(value) => { model.insert(key, value); map.with((key, value)) }
                    None => { model.remove(&key); map.without(&key) }
                };
                check(&before, &model_before);
                prop_assert_eq!(map.get(&key).map(|v| v.1), value);
            }
            check(&map, &model);
            let from = map.iter_from(&probe).copied();
            prop_assert!(from.eq(model.range(probe..).map(|(&k, &v)| (k, v))));
        }
    }

    #[test]
    fn growing_and_shrinking_keeps_chunks_few_and_shares_the_rest() {
        let mut map = SharedMap::default();
        for key in 0..10_000 {
            map = map.with((key, key));
        }
        assert!(map.chunks.len() <= 10_000 / (CHUNK_MAX / 2) + 1, "{}", map.chunks.len());
        let next = map.with((5_000, 0));
        let shared = map.chunks.iter().zip(&*next.chunks).filter(|(a, b)| Arc::ptr_eq(a, b));
        assert_eq!(shared.count(), map.chunks.len() - 1);
        for key in 0..9_990 {
            map = map.without(&key);
        }
        assert_eq!((map.len(), map.chunks.len()), (10, 1));
    }
}
