//! OffsetFetch: how far groups have read.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics;
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use ottla_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use ottla_record::Uuid;

use crate::authorize::Operation;
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::groups::{authorize, respond};
use crate::network::Reply;

/// From this version on one request asks for several groups (KIP-709).
const GROUPS_FROM: i16 = 8;
/// From this version on topics are named by their id (KIP-848).
const TOPIC_IDS_FROM: i16 = 10;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let mut request: OffsetFetchRequest<'_> = call.decode()?;
    if call.version() < GROUPS_FROM {
        if let Err(code) = authorize(&call, services, Operation::Describe, &request.group_id) {
            let error_code = code.0;
            return call.respond(&OffsetFetchResponse { error_code, ..Default::default() });
        }
        let answer = services.groups.groups().fetch_offsets(call.version(), &request);
        return respond(call, answer);
    }
    let mut refused = Vec::new();
    request.groups.retain(|group| {
        let allowed = authorize(&call, services, Operation::Describe, &group.group_id);
        refused.extend(allowed.err().map(|code| OffsetFetchResponseGroup {
            group_id: Cow::Owned(group.group_id.to_string()),
            error_code: code.0,
            ..Default::default()
        }));
        allowed.is_ok()
    });
    let by_id = call.version() >= TOPIC_IDS_FROM;
    let names = if by_id { name_topics(services, &mut request) } else { Names::default() };
    let fetched = services.groups.groups().fetch_offsets(call.version(), &request);
    let picture = services.cluster.metadata();
    let complete = move |mut response: OffsetFetchResponse<'static>| {
        for group in &mut response.groups {
            if by_id {
                for topic in &mut group.topics {
                    let id = picture.topic(&topic.name).map_or(Uuid::ZERO, |topic| topic.id);
                    (topic.topic_id, topic.name) = (id, Cow::Borrowed(""));
                }
                // What all topics of a group are includes those that were deleted since.
                group.topics.retain(|topic| !topic.topic_id.is_zero());
                group.topics.extend(names.unknown(&group.group_id));
            }
        }
        response.groups.extend(refused);
        response
    };
    respond(call, fetched.map(complete))
}

/// The topics that no id leads to, by group.
#[derive(Default)]
struct Names {
    unknown: BTreeMap<String, Vec<(Uuid, Vec<i32>)>>,
}

impl Names {
    fn unknown(&self, group: &str) -> Vec<OffsetFetchResponseTopics<'static>> {
        let topics = self.unknown.get(group).into_iter().flatten();
        let answer = |&partition_index: &i32| OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: -1,
            committed_leader_epoch: -1,
            metadata: Some(Cow::Borrowed("")),
            error_code: ErrorCode::UNKNOWN_TOPIC_ID.0,
        };
        topics
            .map(|(id, partitions)| OffsetFetchResponseTopics {
                topic_id: *id,
                partitions: partitions.iter().map(answer).collect(),
                ..Default::default()
            })
            .collect()
    }
}

/// Puts names in the place of ids, and takes out the topics that have none.
fn name_topics(services: &Services, request: &mut OffsetFetchRequest<'_>) -> Names {
    let picture = services.cluster.metadata();
    let mut names = Names::default();
    for group in &mut request.groups {
        let Some(topics) = &mut group.topics else { continue };
        topics.retain_mut(|topic: &mut OffsetFetchRequestTopics<'_>| {
            let Some(known) = picture.topic_by_id(topic.topic_id) else {
                let unknown = names.unknown.entry(group.group_id.to_string()).or_default();
                unknown.push((topic.topic_id, topic.partition_indexes.clone()));
                return false;
            };
            topic.name = Cow::Owned(known.name.to_string());
            true
        });
    }
    names
}
