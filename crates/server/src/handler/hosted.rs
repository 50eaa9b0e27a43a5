//! Finding a partition that a client asks for.

use std::sync::Arc;

use ottla_protocol::ErrorCode;
use ottla_record::PartitionId;
use ottla_replication::{HostedTopic, Partition, Partitions};

/// The partition of a topic by its name.
pub(crate) fn find(
    partitions: &Partitions,
    topic: &str,
    id: PartitionId,
) -> Result<Arc<Partition>, ErrorCode> {
    let topic = partitions.topic(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    find_in(&topic, id)
}

/// The partition of a topic, if its log can be served.
pub(crate) fn find_in(topic: &HostedTopic, id: PartitionId) -> Result<Arc<Partition>, ErrorCode> {
    if topic.failure(id).is_some() {
        return Err(ErrorCode::KAFKA_STORAGE_ERROR);
    }
    topic.partition(id).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}
