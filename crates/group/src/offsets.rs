//! Committed offsets: who may commit, and what is told to who asks.

use std::collections::BTreeMap;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use ottla_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, OffsetCommitValue};

use crate::group::{Group, State};
use crate::machine::{Cx, FetchTopic, Groups};
use crate::records;

/// The first version that is told that the group does not exist, instead of its generation.
const GROUP_ID_NOT_FOUND_SINCE: i16 = 9;

/// What was committed for a partition.
#[derive(Clone, Debug)]
pub(crate) struct CommittedOffset {
    pub(crate) offset: i64,
    /// Of the last record before the offset; −1 if the consumer did not say.
    pub(crate) leader_epoch: i32,
    /// The consumer's own note.
    pub(crate) metadata: String,
}

/// The committed offsets of one group, by topic and partition.
#[derive(Debug, Default)]
pub(crate) struct Offsets(BTreeMap<String, BTreeMap<i32, CommittedOffset>>);

impl Offsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.0.get(topic)?.get(&partition)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &BTreeMap<i32, CommittedOffset>)> {
        self.0.iter().map(|(topic, partitions)| (topic.as_str(), partitions))
    }

    /// The partitions of the topic that something was committed for.
    pub(crate) fn partitions(&self, topic: &str) -> impl Iterator<Item = i32> {
        self.0.get(topic).into_iter().flat_map(|partitions| partitions.keys().copied())
    }

    /// Applies a record of a commit.
    pub(crate) fn insert(&mut self, topic: &str, partition: i32, value: OffsetCommitValue<'_>) {
        let committed = CommittedOffset {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.into_owned(),
        };
        match self.0.get_mut(topic) {
            Some(partitions) => {
                partitions.insert(partition, committed);
            }
            None => {
                self.0.insert(topic.to_owned(), BTreeMap::from([(partition, committed)]));
            }
        }
    }

    /// Applies a tombstone of a commit.
    pub(crate) fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.0.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.0.remove(topic);
            }
        }
    }
}

pub(crate) fn handle_commit(
    groups: &Groups,
    cx: &mut Cx<'_>,
    api_version: i16,
    body: &OffsetCommitRequest<'_>,
) -> OffsetCommitResponse<'static> {
    let allowed = match groups.get(&*body.group_id) {
        Some(group) => group.check_commit(cx, body),
        None => check_new_group(groups, cx, api_version, body),
    };
    let mut records = Vec::new();
    let mut error_of = |topic: &str, partition: &OffsetCommitRequestPartition<'_>| {
        allowed?;
        let metadata = partition.committed_metadata.as_deref().unwrap_or("");
        if metadata.len() > cx.config.offset_metadata_max_bytes {
            return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
        }
        let value = commit_value(cx.now.wall_ms, body.retention_time_ms, partition, metadata);
        let index = partition.partition_index;
        records.push(records::offset_commit(&body.group_id, topic, index, &value));
        Ok(())
    };
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in &body.topics {
        let partitions = topic.partitions.iter().map(|p| OffsetCommitResponsePartition {
            partition_index: p.partition_index,
            error_code: error_of(&topic.name, p).err().unwrap_or(ErrorCode::NONE).0,
        });
        topics.push(OffsetCommitResponseTopic {
            name: topic.name.to_string().into(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        });
    }
    if records::fit_in(&records, cx.now.batch_bytes_max) {
        cx.out.records = records;
    } else {
        for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.error_code == 0 {
                partition.error_code = ErrorCode::INVALID_COMMIT_OFFSET_SIZE.0;
            }
        }
    }
    OffsetCommitResponse { topics, ..Default::default() }
}

/// A group that does not exist comes to be by a commit of a consumer that is in no group.
fn check_new_group(
    groups: &Groups,
    cx: &Cx<'_>,
    api_version: i16,
    body: &OffsetCommitRequest<'_>,
) -> Result<(), ErrorCode> {
    if body.generation_id_or_member_epoch < 0 {
        if groups.len() < cx.config.max_groups {
            Ok(())
        } else {
            Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        }
    } else if api_version >= GROUP_ID_NOT_FOUND_SINCE {
        Err(ErrorCode::GROUP_ID_NOT_FOUND)
    } else {
        Err(ErrorCode::ILLEGAL_GENERATION)
    }
}

fn commit_value<'a>(
    now_ms: i64,
    retention_ms: i64,
    partition: &OffsetCommitRequestPartition<'_>,
    metadata: &'a str,
) -> OffsetCommitValue<'a> {
    OffsetCommitValue {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: metadata.into(),
        // Only version 1 of the request carries one.
        commit_timestamp: if partition.commit_timestamp < 0 {
            now_ms
        } else {
            partition.commit_timestamp
        },
        expire_timestamp: if retention_ms < 0 { -1 } else { now_ms.saturating_add(retention_ms) },
        ..Default::default()
    }
}

impl Group {
    /// Whether the sender may commit. A commit of a member shows that it is alive.
    fn check_commit(
        &self,
        cx: &mut Cx<'_>,
        body: &OffsetCommitRequest<'_>,
    ) -> Result<(), ErrorCode> {
        let generation = body.generation_id_or_member_epoch;
        let instance_id = body.group_instance_id.as_deref();
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && body.member_id.is_empty() && instance_id.is_none() {
            // It is in no group, or an operator, but this group has members.
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.check_generation(&body.member_id, instance_id, generation)?;
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.arm_session(cx, &body.member_id);
        Ok(())
    }
}

/// The committed offsets of a group; `None` asks for all. Of what it never committed, and of a
/// group that does not exist, offset −1.
pub(crate) fn fetch(
    groups: &Groups,
    group_id: &str,
    topics: Option<&[FetchTopic<'_>]>,
) -> OffsetFetchResponseGroup<'static> {
    let group = groups.get(group_id);
    if let Some(topics) = topics {
        return fetched(group_id, topics, |topic, index| group?.offsets.get(topic, index));
    }
    let offsets = group.into_iter().flat_map(|group| group.offsets.iter());
    let topics = offsets.map(|(topic, partitions)| {
        let of = |(&index, committed)| fetched_partition(index, Some(committed));
        OffsetFetchResponseTopics {
            name: topic.to_owned().into(),
            partitions: partitions.iter().map(of).collect(),
            ..Default::default()
        }
    });
    let topics = topics.collect();
    OffsetFetchResponseGroup { group_id: group_id.to_owned().into(), topics, ..Default::default() }
}

/// The answer about a group that committed nothing.
#[must_use]
pub fn nothing_committed(
    group_id: &str,
    topics: &[FetchTopic<'_>],
) -> OffsetFetchResponseGroup<'static> {
    fetched(group_id, topics, |_, _| None)
}

fn fetched<'a>(
    group_id: &str,
    topics: &[FetchTopic<'_>],
    committed: impl Fn(&str, i32) -> Option<&'a CommittedOffset>,
) -> OffsetFetchResponseGroup<'static> {
    let topics = topics.iter().map(|topic| OffsetFetchResponseTopics {
        name: topic.name.to_owned().into(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|&index| fetched_partition(index, committed(topic.name, index)))
            .collect(),
    });
    let topics = topics.collect();
    OffsetFetchResponseGroup { group_id: group_id.to_owned().into(), topics, ..Default::default() }
}

fn fetched_partition(
    index: i32,
    committed: Option<&CommittedOffset>,
) -> OffsetFetchResponsePartitions<'static> {
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: committed.map_or(-1, |c| c.offset),
        committed_leader_epoch: committed.map_or(-1, |c| c.leader_epoch),
        metadata: Some(committed.map_or("", |c| &c.metadata).to_owned().into()),
        ..Default::default()
    }
}
