//! OffsetForLeaderEpoch: where an epoch ended, so that a client sees whether its log was cut
//! (KIP-101, KIP-320).

use std::borrow::Cow;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use ottla_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use ottla_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use ottla_record::{LeaderEpoch, Offset, PartitionId};

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Close};
use crate::dispatch::Services;
use crate::handler::epoch::check_leader_epoch;
use crate::handler::hosted;
use crate::network::Reply;

pub(crate) fn handle(mut call: Call<'_>, services: &Services) -> Result<Reply, Close> {
    let request: OffsetForLeaderEpochRequest<'_> = call.decode()?;
    let principal = &call.client.principal;
    let topics = request.topics.iter().map(|topic| {
        let resource = Resource::Topic(&topic.topic);
        let allowed = services.authorizer.authorize(principal, Operation::Describe, resource);
        let answer = |wanted: &OffsetForLeaderPartition| {
            let found = match allowed {
                true => find(services, &topic.topic, wanted),
                false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            };
            let (code, (epoch, end)) = match found {
                Ok(found) => (ErrorCode::NONE, found),
                Err(code) => (code, (LeaderEpoch::NONE, Offset::NONE)),
            };
            EpochEndOffset {
                error_code: code.0,
                partition: wanted.partition,
                leader_epoch: epoch.0,
                end_offset: end.0,
            }
        };
        OffsetForLeaderTopicResult {
            topic: Cow::Borrowed(&*topic.topic),
            partitions: topic.partitions.iter().map(answer).collect(),
        }
    });
    let topics = topics.collect();
    call.respond(&OffsetForLeaderEpochResponse { topics, ..Default::default() })
}

fn find(
    services: &Services,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<(LeaderEpoch, Offset), ErrorCode> {
    let partitions = &services.partitions;
    let partition = hosted::find(partitions, topic, PartitionId(wanted.partition))?;
    check_leader_epoch(&partition, LeaderEpoch(wanted.current_leader_epoch))?;
    let end = partition.log().end_of_epoch(LeaderEpoch(wanted.leader_epoch));
    Ok(end.unwrap_or((LeaderEpoch::NONE, Offset::NONE)))
}
