//! Which partition a record goes to: Kafka's murmur2 for records with a key, the sticky choice
//! of KIP-480 for records without.
//!
//! Owns: the two rules. Must not know: connections, batches, where randomness comes from.

use ottla_record::PartitionId;

/// The 32-bit MurmurHash2 that Kafka's clients hash keys with (seed `0x9747b28c`).
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // The length goes in modulo 2³², as in Java, where it is an int.
    let mut hash = SEED ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a record with this key: the same for every Kafka client, as long as the topic
/// keeps its number of partitions. `partitions` counts all of them, leaderless ones too, and must
/// not be 0.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: u32) -> PartitionId {
    PartitionId(((murmur2(key) & 0x7fff_ffff) % partitions) as i32)
}

/// Where records without a key go: one partition for about a batch's worth of bytes, then
/// another, so that batches fill (KIP-480, KIP-794).
#[derive(Debug, Default)]
pub(crate) struct Sticky {
    current: Option<PartitionId>,
    bytes: usize,
}

impl Sticky {
    /// Chooses among `available`, the partitions that have a leader, for a record of `bytes`.
    /// `random` is drawn only when the partition changes. `None` if there is nothing to choose from.
    pub(crate) fn choose(
        &mut self,
        available: &[PartitionId],
        bytes: usize,
        batch_size: usize,
        random: impl FnOnce() -> u64,
    ) -> Option<PartitionId> {
        let stays =
            self.current.filter(|current| self.bytes < batch_size && available.contains(current));
        let chosen = match stays {
            Some(current) => current,
            None => {
                self.bytes = 0;
                let index = random() % u64::try_from(available.len()).ok().filter(|&n| n > 0)?;
                available[index as usize]
            }
        };
        self.current = Some(chosen);
        self.bytes = self.bytes.saturating_add(bytes);
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_kafkas() {
        for (key, hash) in [
            ("", 275_646_681_i32),
            ("a", -1_563_381_124),
            ("ab", 316_155_434),
            ("key", -1_079_937_367),
            ("test", 716_234_879),
            ("kafka", -798_503_068),
            ("0123456789", -631_703_640),
            ("user-42", 1_459_644_460),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key:?}");
        }
    }

    #[test]
    fn a_negative_hash_still_names_a_partition() {
        assert_eq!(partition_for_key(b"a", 7), PartitionId((-1_563_381_124_i32 & i32::MAX) % 7));
        assert_eq!(partition_for_key(b"anything", 1), PartitionId(0));
    }

    #[test]
    fn sticky_stays_for_a_batch_and_leaves_a_lost_partition() {
        let all = [0, 1, 2].map(PartitionId);
        let mut sticky = Sticky::default();
        let mut choose = |available: &[PartitionId], random| {
            sticky.choose(available, 60, 100, || random).map(PartitionId::into)
        };
        assert_eq!(choose(&all, 4), Some(1), "4 mod 3");
        assert_eq!(choose(&all, 0), Some(1), "60 of 100 bytes are used: stays");
        assert_eq!(choose(&all, 2), Some(2), "120 bytes: moves on");
        assert_eq!(choose(&all[..2], 0), Some(0), "partition 2 lost its leader");
        assert_eq!(choose(&[], 0), None::<i32>);
    }
}
