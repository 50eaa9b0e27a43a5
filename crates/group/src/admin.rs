//! What operators ask of groups: describe, list, delete, delete offsets.

use std::collections::BTreeSet;

use ottla_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use ottla_protocol::messages::list_groups_response::ListedGroup;
use ottla_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use ottla_protocol::messages::{
    ConsumerProtocolSubscription, OffsetDeleteRequest, OffsetDeleteResponse,
};
use ottla_protocol::{Decode, DecodeError, Decoder, ErrorCode, Message};

use crate::group::{Group, State};
use crate::machine::{Cx, Groups};
use crate::records;

/// The first version that is told that the group does not exist, instead of that it is dead.
const GROUP_ID_NOT_FOUND_SINCE: i16 = 6;
/// The protocol type whose metadata is a subscription.
const CONSUMER: &str = "consumer";

pub(crate) fn describe(groups: &Groups, api_version: i16, id: &str) -> DescribedGroup<'static> {
    let Some(group) = groups.get(id) else {
        let known = api_version < GROUP_ID_NOT_FOUND_SINCE;
        return DescribedGroup {
            group_id: id.to_owned().into(),
            group_state: "Dead".into(),
            error_code: if known { ErrorCode::NONE } else { ErrorCode::GROUP_ID_NOT_FOUND }.0,
            error_message: (!known).then(|| format!("Group {id} not found.").into()),
            ..Default::default()
        };
    };
    // Only a stable group has a protocol and assignments to show.
    let protocol = group.protocol.as_deref().filter(|_| group.state == State::Stable);
    let members = group.members.iter().map(|member| DescribedGroupMember {
        member_id: member.id.to_string().into(),
        group_instance_id: member.instance_id.clone().map(Into::into),
        client_id: member.client_id.clone().into(),
        client_host: member.client_host.clone().into(),
        member_metadata: protocol.map_or(Vec::new(), |p| member.metadata(p).to_vec()).into(),
        member_assignment: protocol.map_or(Vec::new(), |_| member.assignment.clone()).into(),
    });
    DescribedGroup {
        group_id: id.to_owned().into(),
        group_state: group.state.name().into(),
        protocol_type: group.protocol_type.clone().unwrap_or_default().into(),
        protocol_data: protocol.unwrap_or("").to_owned().into(),
        members: members.collect(),
        ..Default::default()
    }
}

pub(crate) fn list(groups: &Groups) -> Vec<ListedGroup<'static>> {
    let listed = |group: &Group| ListedGroup {
        group_id: group.id.to_string().into(),
        protocol_type: group.protocol_type.clone().unwrap_or_default().into(),
        group_state: group.state.name().into(),
        group_type: "classic".into(),
    };
    groups.values().map(listed).collect()
}

/// Deletes an empty group with its offsets. Its tombstones, once replayed, make it so.
pub(crate) fn handle_delete(groups: &Groups, cx: &mut Cx<'_>, id: &str) -> ErrorCode {
    let Some(group) = groups.get(id) else { return ErrorCode::GROUP_ID_NOT_FOUND };
    if group.state != State::Empty {
        return ErrorCode::NON_EMPTY_GROUP;
    }
    let mut tombstones = Vec::new();
    for (topic, partitions) in group.offsets.iter() {
        let of = |&partition: &i32| records::offset_tombstone(id, topic, partition);
        tombstones.extend(partitions.keys().map(of));
    }
    tombstones.push(records::group_tombstone(id));
    if !records::fit_in(&tombstones, cx.now.batch_bytes_max) {
        return ErrorCode::UNKNOWN_SERVER_ERROR;
    }
    cx.out.records = tombstones;
    ErrorCode::NONE
}

pub(crate) fn handle_offset_delete(
    groups: &Groups,
    cx: &mut Cx<'_>,
    body: &OffsetDeleteRequest<'_>,
) -> OffsetDeleteResponse<'static> {
    let refuse =
        |error: ErrorCode| OffsetDeleteResponse { error_code: error.0, ..Default::default() };
    let Some(group) = groups.get(&*body.group_id) else {
        return refuse(ErrorCode::GROUP_ID_NOT_FOUND);
    };
    let subscribed = match group.subscribed_topics() {
        Ok(subscribed) => subscribed,
        Err(error) => return refuse(error),
    };
    let mut tombstones = Vec::new();
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in &body.topics {
        let is_subscribed = subscribed.contains(&*topic.name);
        let error =
            if is_subscribed { ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC } else { ErrorCode::NONE };
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            if !is_subscribed && group.offsets.get(&topic.name, index).is_some() {
                tombstones.push(records::offset_tombstone(&group.id, &topic.name, index));
            }
            partitions.push(OffsetDeleteResponsePartition {
                partition_index: index,
                error_code: error.0,
            });
        }
        let name = topic.name.to_string().into();
        topics.push(OffsetDeleteResponseTopic { name, partitions });
    }
    if !records::fit_in(&tombstones, cx.now.batch_bytes_max) {
        return refuse(ErrorCode::UNKNOWN_SERVER_ERROR);
    }
    cx.out.records = tombstones;
    OffsetDeleteResponse { topics, ..Default::default() }
}

/// Deletes what was committed for topics that do not exist any more, as much as fits in a batch.
/// Returns how many offsets that was.
pub(crate) fn handle_topics_deleted(groups: &Groups, cx: &mut Cx<'_>, topics: &[&str]) -> usize {
    let tombstones = groups.values().flat_map(|group| {
        topics.iter().flat_map(move |topic| {
            let partitions = group.offsets.partitions(topic);
            partitions.map(move |index| records::offset_tombstone(&group.id, topic, index))
        })
    });
    cx.out.records = records::take_fitting(tombstones, cx.now.batch_bytes_max);
    cx.out.records.len()
}

impl Group {
    /// The topics whose offsets must stay because members may be reading them.
    fn subscribed_topics(&self) -> Result<BTreeSet<String>, ErrorCode> {
        if self.state == State::Empty {
            return Ok(BTreeSet::new());
        }
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return Err(ErrorCode::NON_EMPTY_GROUP);
        }
        let mut subscribed = BTreeSet::new();
        for protocol in self.members.iter().flat_map(|member| member.protocols()) {
            // Whoever cannot be understood may be reading anything.
            let topics =
                subscription(&protocol.metadata).map_err(|_| ErrorCode::NON_EMPTY_GROUP)?;
            subscribed.extend(topics);
        }
        Ok(subscribed)
    }
}

/// The topics of a consumer's subscription. A version newer than any known begins like those.
fn subscription(metadata: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut d = Decoder::new(metadata);
    let version = d.i16("version")?.min(ConsumerProtocolSubscription::VERSIONS.max);
    let subscription = ConsumerProtocolSubscription::decode(&mut d, version)?;
    Ok(subscription.topics.into_iter().map(|topic| topic.into_owned()).collect())
}
