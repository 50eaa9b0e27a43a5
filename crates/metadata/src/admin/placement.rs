//! On which brokers the replicas of new partitions go.

use std::collections::BTreeMap;

use ottla_record::{BrokerId, PartitionId};

/// Where Kafka's round robin begins: both random for a new topic, so that not every topic's first
/// partition lies on the first broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The index of the broker of partition 0's first replica.
    pub index: usize,
    /// How far the second replica is from the first, less one.
    pub shift: usize,
}

impl Start {
    /// Where the partitions added to a topic begin: as if they had been made with the first, so
    /// from the broker of partition 0's first replica on.
    #[must_use]
    pub fn after(brokers: &[BrokerId], partition_0: &[BrokerId]) -> Self {
        let first = partition_0.first().copied().unwrap_or(BrokerId::NONE);
        let index = brokers.iter().position(|broker| *broker >= first).unwrap_or(0);
        Self { index, shift: index }
    }
}

/// The replicas cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFewBrokers {
    /// How many replicas each partition shall have.
    pub replication_factor: usize,
    /// How many brokers there are.
    pub brokers: usize,
}

/// Places the partitions `first..first + count` on `brokers` (in the order of their ids), without
/// regard to racks: first replicas go round the brokers, further replicas follow at a distance that
/// grows by one with each round.
pub fn place(
    brokers: &[BrokerId],
    first: PartitionId,
    count: usize,
    replication_factor: usize,
    start: Start,
) -> Result<BTreeMap<PartitionId, Vec<BrokerId>>, TooFewBrokers> {
    let n = brokers.len();
    if replication_factor == 0 || replication_factor > n {
        return Err(TooFewBrokers { replication_factor, brokers: n });
    }
    let mut placed = BTreeMap::new();
    let mut shift = start.shift;
    let first = usize::try_from(first.0).unwrap_or(0);
    for partition in first..first.saturating_add(count) {
        let Ok(id) = i32::try_from(partition) else { break };
        if partition > 0 && partition % n == 0 {
            shift += 1;
        }
        let leader = (partition + start.index) % n;
        let followers = (0..replication_factor - 1)
            .map(|replica| (leader + 1 + (shift + replica) % (n - 1)) % n);
        let replicas = std::iter::once(leader).chain(followers);
        placed.insert(PartitionId(id), replicas.map(|index| brokers[index]).collect());
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(n: i32) -> Vec<BrokerId> {
        (0..n).map(BrokerId).collect()
    }

    fn check(start: Start, first: i32, count: usize, factor: usize, expected: &[&[i32]]) {
        let placed = place(&brokers(5), PartitionId(first), count, factor, start).unwrap();
        let placed: Vec<(i32, Vec<i32>)> =
            placed.into_iter().map(|(p, r)| (p.0, r.iter().map(|b| b.0).collect())).collect();
        let expected: Vec<_> = (first..).zip(expected.iter().map(|r| r.to_vec())).collect();
        assert_eq!(placed, expected);
    }

    #[test]
    fn round_robin_is_kafkas() {
        // The table of the comment on Kafka's AdminUtils.
        check(
            Start { index: 0, shift: 0 },
            0,
            10,
            3,
            &[
                &[0, 1, 2],
                &[1, 2, 3],
                &[2, 3, 4],
                &[3, 4, 0],
                &[4, 0, 1],
                &[0, 2, 3],
                &[1, 3, 4],
                &[2, 4, 0],
                &[3, 0, 1],
                &[4, 1, 2],
            ],
        );
        check(Start { index: 3, shift: 2 }, 0, 3, 2, &[&[3, 1], &[4, 2], &[0, 3]]);
        check(Start { index: 4, shift: 0 }, 0, 2, 1, &[&[4], &[0]]);
    }

    #[test]
    fn added_partitions_go_on_from_partition_0() {
        let start = Start::after(&brokers(5), &[BrokerId(2), BrokerId(3)]);
        assert_eq!(start, Start { index: 2, shift: 2 });
        check(start, 3, 3, 2, &[&[0, 3], &[1, 4], &[2, 1]]);
        // The broker of partition 0 is gone: the next one takes its place, or the first of all.
        assert_eq!(Start::after(&[BrokerId(1), BrokerId(4)], &[BrokerId(2)]).index, 1);
        assert_eq!(Start::after(&[BrokerId(1)], &[BrokerId(9)]).index, 0);
    }

    #[test]
    fn there_must_be_a_broker_for_each_replica() {
        for factor in [0, 6] {
            let start = Start { index: 0, shift: 0 };
            let refused = place(&brokers(5), PartitionId(0), 1, factor, start);
            assert_eq!(refused, Err(TooFewBrokers { replication_factor: factor, brokers: 5 }));
        }
    }
}
