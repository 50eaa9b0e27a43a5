//! DescribeTopicPartitions: topics in pages (KIP-966).

use std::borrow::Cow;
use std::collections::BTreeSet;

use ottla_metadata::admin::topic_name;
use ottla_metadata::{Partition, Topic};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use ottla_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use ottla_record::{BrokerId, PartitionId};
use ottla_replication::HostedTopic;

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: DescribeTopicPartitionsRequest<'_> = call.decode()?;
    let picture = services.cluster.metadata();
    let cursor = request.cursor.as_ref();
    let first_topic = cursor.map_or("", |cursor| &*cursor.topic_name);
    let names: BTreeSet<&str> = match request.topics.is_empty() {
        true => picture.topics().map(|topic| &*topic.name).collect(),
        false => request.topics.iter().map(|topic| &*topic.name).collect(),
    };
    let limit = services.config.network.max_request_partition_size_limit;
    let mut room = request.response_partition_limit.clamp(1, limit) as usize;
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.range(first_topic..) {
        let (principal, resource) = (&call.client.principal, Resource::Topic(name));
        let allowed = services.authorizer.authorize(principal, Operation::Describe, resource);
        let topic = match picture.topic(name) {
            Some(topic) if allowed => topic,
            // What was not asked for by name is not betrayed.
            _ if request.topics.is_empty() => continue,
            _ => {
                response.topics.push(unknown(name, allowed));
                continue;
            }
        };
        let from = match cursor {
            Some(cursor) if cursor.topic_name == *name => cursor.partition_index.max(0) as usize,
            _ => 0,
        };
        let all = topic.partitions.len();
        if room == 0 {
            response.next_cursor = Some(next(name, from));
            break;
        }
        let to = all.min(from.saturating_add(room));
        let hosted = services.partitions.topic(name);
        let mut described = describe(topic, hosted.as_deref(), from, to);
        described.topic_authorized_operations = services.authorizer.operations(principal, resource);
        response.topics.push(described);
        room -= to.saturating_sub(from);
        if to < all {
            response.next_cursor = Some(next(name, to));
            break;
        }
    }
    call.respond(&response)
}

fn next(topic: &str, partition: usize) -> Cursor<'static> {
    Cursor { topic_name: Cow::Owned(topic.to_owned()), partition_index: partition as i32 }
}

fn unknown(name: &str, allowed: bool) -> DescribeTopicPartitionsResponseTopic<'static> {
    let code = match (allowed, topic_name::validate(name)) {
        (false, _) => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        (true, Err(_)) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        (true, Ok(())) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: code.0,
        name: Some(Cow::Owned(name.to_owned())),
        ..Default::default()
    }
}

fn describe(
    topic: &Topic,
    hosted: Option<&HostedTopic>,
    from: usize,
    to: usize,
) -> DescribeTopicPartitionsResponseTopic<'static> {
    let numbered = (0..).zip(&topic.partitions).take(to).skip(from);
    let is_offline = |id| hosted.is_some_and(|hosted| hosted.failure(PartitionId(id)).is_some());
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::NONE.0,
        name: Some(Cow::Owned(topic.name.to_string())),
        topic_id: topic.id,
        is_internal: topic_name::is_internal(&topic.name),
        partitions: numbered
            .map(|(id, partition)| describe_partition(id, partition, is_offline(id)))
            .collect(),
        ..Default::default()
    }
}

/// A partition whose log this broker cannot serve has no leader, and its replica is offline.
fn describe_partition(
    index: i32,
    partition: &Partition,
    is_offline: bool,
) -> DescribeTopicPartitionsResponsePartition {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    let leader = if is_offline { BrokerId::NONE } else { partition.leader() };
    DescribeTopicPartitionsResponsePartition {
        error_code: match leader {
            BrokerId::NONE => ErrorCode::LEADER_NOT_AVAILABLE.0,
            _ => ErrorCode::NONE.0,
        },
        partition_index: index,
        leader_id: leader.0,
        leader_epoch: partition.leader_epoch().0,
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(partition.isr()),
        offline_replicas: if is_offline { vec![partition.leader().0] } else { Vec::new() },
        // Eligible leader replicas are not kept in znodes. Kafka's own tools cannot read the null
        // that would say so.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
    }
}
