//! ListOffsets: positions and timestamps become offsets. Used by `Admin` and by consumers.

use std::collections::BTreeMap;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::ListOffsetsRequest;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_record::{BrokerId, LeaderEpoch, Offset, PartitionId, Timestamp};

use crate::cluster::Cluster;
use crate::{IsolationLevel, Refusal, RequestError, TopicPartition};

/// Which offset of a partition is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// That of the oldest record.
    Earliest,
    /// The one that follows the newest record that a reader can see.
    Latest,
    /// That of the first record with this or a later timestamp; if there is none, the latest.
    Timestamp(Timestamp),
}

impl OffsetSpec {
    fn timestamp(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::Timestamp(timestamp) => timestamp.0,
        }
    }
}

/// An offset that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    /// [`Offset::NONE`] if no record is that new.
    pub offset: Offset,
    /// Of the record that was found by its timestamp, else [`Timestamp::NONE`].
    pub timestamp: Timestamp,
    /// Of the record; [`LeaderEpoch::NONE`] if the broker does not tell.
    pub leader_epoch: LeaderEpoch,
}

type Found = BTreeMap<TopicPartition, Result<ListedOffset, RequestError>>;

/// Asks each partition's leader. What is retriable is retried within `default.api.timeout.ms`.
pub(crate) async fn list(
    cluster: &Cluster,
    wanted: &[(TopicPartition, OffsetSpec)],
    isolation: IsolationLevel,
) -> Result<Found, RequestError> {
    let mut found = Found::new();
    let mut retry = cluster.retry();
    let mut left: BTreeMap<TopicPartition, OffsetSpec> = wanted.iter().cloned().collect();
    loop {
        let mut failure = None;
        for (partition, result) in attempt(cluster, &left, isolation).await {
            match result {
                Err(error) if error.is_retriable() => {
                    cluster.forget_topic(&partition.topic);
                    failure = Some(error);
                }
                result => {
                    left.remove(&partition);
                    found.insert(partition, result);
                }
            }
        }
        match failure {
            None => return Ok(found),
            Some(error) => retry.after(error).await?,
        }
    }
}

async fn attempt(
    cluster: &Cluster,
    wanted: &BTreeMap<TopicPartition, OffsetSpec>,
    isolation: IsolationLevel,
) -> Vec<(TopicPartition, Result<ListedOffset, RequestError>)> {
    let mut results = Vec::new();
    let mut by_leader: BTreeMap<BrokerId, Vec<(&TopicPartition, ListOffsetsPartition)>> =
        BTreeMap::new();
    for (partition, spec) in wanted {
        match cluster.leader(&partition.topic, partition.partition).await {
            Ok(leader) => by_leader.entry(leader.broker).or_default().push((
                partition,
                ListOffsetsPartition {
                    partition_index: partition.partition.0,
                    current_leader_epoch: leader.epoch.0,
                    timestamp: spec.timestamp(),
                    ..Default::default()
                },
            )),
            Err(error) => results.push((partition.clone(), Err(error))),
        }
    }
    for (leader, asked) in by_leader {
        let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for (partition, question) in &asked {
            topics.entry(&partition.topic).or_default().push(question.clone());
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| ListOffsetsTopic { name: name.into(), partitions });
        let request = ListOffsetsRequest {
            replica_id: BrokerId::NONE.0,
            isolation_level: isolation.id(),
            topics: topics.collect(),
            ..Default::default()
        };
        match ask(cluster, leader, &request).await {
            Ok(mut answers) => results.extend(asked.into_iter().map(|(partition, _)| {
                let missing = || Err(ErrorCode::UNKNOWN_SERVER_ERROR.into());
                (partition.clone(), answers.remove(partition).unwrap_or_else(missing))
            })),
            Err(error) => results.extend(
                asked.into_iter().map(|(partition, _)| (partition.clone(), Err(error.clone()))),
            ),
        }
    }
    results
}

async fn ask(
    cluster: &Cluster,
    leader: BrokerId,
    request: &ListOffsetsRequest<'_>,
) -> Result<Found, RequestError> {
    // v0 answers with lists of segments' offsets: brokers of the last ten years have v1.
    let connection = cluster.connection(leader).await?;
    let reply = connection.call(request, cluster.config.request_timeout).await?;
    let response = reply.decode()?;
    let mut found = Found::new();
    for topic in &response.topics {
        for p in &topic.partitions {
            let partition = TopicPartition::new(&*topic.name, PartitionId(p.partition_index));
            let listed = Refusal::check(p.error_code, None).map(|()| ListedOffset {
                offset: Offset(p.offset),
                timestamp: Timestamp(p.timestamp),
                leader_epoch: LeaderEpoch(p.leader_epoch),
            });
            found.insert(partition, listed.map_err(RequestError::from));
        }
    }
    Ok(found)
}
