//! OffsetCommit: stores how far a group has read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ottla_metadata::ClusterMetadata;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use ottla_record::{PartitionId, Uuid};

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::groups::{authorize, respond};
use crate::network::Reply;

/// From this version on topics are named by their id (KIP-848).
const TOPIC_IDS_FROM: i16 = 10;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let mut request: OffsetCommitRequest<'_> = call.decode()?;
    if let Err(code) = authorize(&call, services, Operation::Read, &request.group_id) {
        let refused = |topic: OffsetCommitRequestTopic<'_>| refuse(&topic, |_| Some(code));
        let topics = request.topics.into_iter().filter_map(refused).collect();
        return call.respond(&OffsetCommitResponse { topics, ..Default::default() });
    }
    let by_id = call.version() >= TOPIC_IDS_FROM;
    let picture = services.cluster.metadata();
    let mut refused = Vec::new();
    let mut ids: BTreeMap<String, Uuid> = BTreeMap::new();
    for topic in &mut request.topics {
        if by_id && let Some(known) = picture.topic_by_id(topic.topic_id) {
            topic.name = Cow::Owned(known.name.to_string());
            ids.insert(known.name.to_string(), known.id);
        }
        let fault = |partition| fault(&call, services, &picture, topic, partition, by_id);
        let answer = refuse(topic, fault);
        let faulty: BTreeSet<i32> = answer
            .iter()
            .flat_map(|answer| &answer.partitions)
            .map(|partition| partition.partition_index)
            .collect();
        topic.partitions.retain(|partition| !faulty.contains(&partition.partition_index));
        refused.extend(answer);
    }
    request.topics.retain(|topic| !topic.partitions.is_empty());
    if request.topics.is_empty() {
        return call.respond(&OffsetCommitResponse { topics: refused, ..Default::default() });
    }
    let committed = services.groups.groups().commit_offsets(call.version(), &request);
    let complete = move |mut response: OffsetCommitResponse<'static>| {
        for topic in &mut response.topics {
            if let Some(id) = ids.get(&*topic.name) {
                (topic.topic_id, topic.name) = (*id, Cow::Borrowed(""));
            }
        }
        response.topics.extend(refused);
        response
    };
    respond(call, committed.map(complete))
}

/// Why nothing can be committed for a partition.
fn fault(
    call: &Call<'_>,
    services: &Services,
    picture: &ClusterMetadata,
    topic: &OffsetCommitRequestTopic<'_>,
    partition: i32,
    by_id: bool,
) -> Option<ErrorCode> {
    let principal = &call.client.principal;
    let known = picture.topic(&topic.name);
    if known.is_none() && by_id {
        return Some(ErrorCode::UNKNOWN_TOPIC_ID);
    }
    if !services.authorizer.authorize(principal, Operation::Read, Resource::Topic(&topic.name)) {
        return Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    match known.and_then(|topic| topic.partition(PartitionId(partition))) {
        Some(_) => None,
        None => Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
}

/// The answer for those partitions of a topic that have a fault.
fn refuse(
    topic: &OffsetCommitRequestTopic<'_>,
    fault: impl Fn(i32) -> Option<ErrorCode>,
) -> Option<OffsetCommitResponseTopic<'static>> {
    let partitions = topic.partitions.iter().filter_map(|partition| {
        let partition_index = partition.partition_index;
        let error_code = fault(partition_index)?.0;
        Some(OffsetCommitResponsePartition { partition_index, error_code })
    });
    let partitions: Vec<_> = partitions.collect();
    (!partitions.is_empty()).then(|| OffsetCommitResponseTopic {
        name: Cow::Owned(topic.name.to_string()),
        topic_id: topic.topic_id,
        partitions,
    })
}
