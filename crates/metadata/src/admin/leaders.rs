//! Who leads a partition: the first leader, and the one after a leader that does not live.

use std::collections::BTreeMap;

use ottla_record::{BrokerId, LeaderEpoch, PartitionId};

use super::AdminError;
use super::controller::Controller;
use super::load::load_topic;
use crate::cluster::{Partition, Topic};
use crate::tree::{Multi, Op};
use crate::znodes::{PartitionState, partition_path, partition_state_path, partitions_path};

impl Controller {
    /// Gives the partitions of a topic whose leader is not in `live` one that is, where there is one:
    /// those that have no state, which a crash in the middle of a creation left, and those whose
    /// leader was lost. Returns the topic if any got one.
    pub async fn elect_leaders(
        &self,
        topic: &Topic,
        live: &[BrokerId],
    ) -> Result<Option<Topic>, AdminError> {
        let numbered = || (0..).map(PartitionId).zip(&topic.partitions);
        let without_state = numbered().filter(|(_, partition)| partition.state.is_none());
        let first = without_state.filter_map(|(id, partition)| {
            Some((id, first_state(&partition.replicas, self.epoch(), live)?))
        });
        let first: BTreeMap<PartitionId, PartitionState> = first.collect();
        let mut ops = self.missing_parents(topic, first.keys()).await?;
        ops.extend(first.iter().map(|(id, state)| state_op(&topic.name, *id, state)));
        ops.extend(numbered().filter_map(|(id, partition)| {
            let state = next_state(partition, self.epoch(), live)?;
            let path = partition_state_path(&topic.name, id);
            Some(Op::set(path, state.encode(), partition.partition_epoch))
        }));
        if ops.is_empty() {
            return Ok(None);
        }
        self.in_chunks(ops).await?;
        load_topic(&*self.tree, &topic.name).await
    }

    /// The creation of what the states of `partitions` lie below and is not there.
    async fn missing_parents(
        &self,
        topic: &Topic,
        partitions: impl ExactSizeIterator<Item = &PartitionId>,
    ) -> Result<Multi, AdminError> {
        if partitions.len() == 0 {
            return Ok(Multi::new());
        }
        let parents = std::iter::once(partitions_path(&topic.name))
            .chain(partitions.map(|id| partition_path(&topic.name, *id)));
        let parents: Vec<String> = parents.collect();
        let nodes = self.tree.get_all(parents.clone()).await?;
        let missing = parents.into_iter().zip(nodes).filter(|(_, node)| node.is_none());
        Ok(missing.map(|(path, _)| Op::create(path, None)).collect())
    }
}

/// The state of a new partition that has a living replica: led by the first one, all living ones in
/// sync, for there is nothing yet to be behind with.
pub(super) fn first_state(
    replicas: &[BrokerId],
    controller_epoch: i32,
    live: &[BrokerId],
) -> Option<PartitionState> {
    let isr: Vec<BrokerId> = replicas.iter().copied().filter(|b| live.contains(b)).collect();
    let leader = *isr.first()?;
    let leader_epoch = LeaderEpoch(0);
    Some(PartitionState { leader, leader_epoch, controller_epoch, isr, recovering: false })
}

/// The state that follows where the leader does not live: the first replica that lives and is in sync
/// leads, in the next epoch. `None` if the leader lives, or nobody can follow it without losing
/// records.
fn next_state(
    partition: &Partition,
    controller_epoch: i32,
    live: &[BrokerId],
) -> Option<PartitionState> {
    let state = partition.state.as_ref().filter(|state| !live.contains(&state.leader))?;
    let in_sync = |broker: &BrokerId| live.contains(broker) && state.isr.contains(broker);
    let leader = *partition.replicas.iter().find(|broker| in_sync(broker))?;
    let isr = state.isr.iter().copied().filter(in_sync).collect();
    let leader_epoch = LeaderEpoch(state.leader_epoch.0.checked_add(1)?);
    Some(PartitionState { leader, leader_epoch, controller_epoch, isr, ..state.clone() })
}

pub(super) fn state_op(topic: &str, id: PartitionId, state: &PartitionState) -> Op {
    Op::create(partition_state_path(topic, id), Some(state.encode()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers<const N: usize>(ids: [i32; N]) -> Vec<BrokerId> {
        ids.map(BrokerId).to_vec()
    }

    fn next<const L: usize>(leader: i32, isr: &[i32], live: [i32; L]) -> Option<(i32, Vec<i32>)> {
        let state = PartitionState {
            leader: BrokerId(leader),
            leader_epoch: LeaderEpoch(4),
            controller_epoch: 1,
            isr: isr.iter().copied().map(BrokerId).collect(),
            recovering: true,
        };
        let partition = Partition {
            replicas: brokers([1, 2, 3]),
            adding_replicas: Vec::new(),
            removing_replicas: Vec::new(),
            state: Some(state),
            partition_epoch: 7,
        };
        let state = next_state(&partition, 9, &brokers(live))?;
        assert_eq!((state.leader_epoch, state.controller_epoch), (LeaderEpoch(5), 9));
        assert!(state.recovering, "who leads has not recovered by being elected");
        Some((state.leader.0, state.isr.iter().map(|broker| broker.0).collect()))
    }

    #[test]
    fn a_lost_leader_is_followed_by_a_living_replica_in_sync() {
        assert_eq!(next(1, &[3, 2, 1], [2, 3]), Some((2, vec![3, 2])));
        // As Kafka leaves it where the last leader was lost: the ISR tells who has everything.
        assert_eq!(next(-1, &[3], [1, 2, 3]), Some((3, vec![3])));
        assert_eq!(next(-1, &[3], [1, 2]), None);
        assert_eq!(next(2, &[1, 2], [2]), None, "the leader lives");
    }
}
