//! ListOffsets: where a partition begins and ends, and where a time is in it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use ottla_log::TimestampedOffset;
use ottla_protocol::ErrorCode;
use ottla_protocol::IntoOwned;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use ottla_record::{LeaderEpoch, Offset, PartitionId, Timestamp};
use ottla_replication::Partition;
use ottla_runtime::task;
use tracing::error;

use crate::authorize::{Operation, Resource};
use crate::call::{Call, Client, Close};
use crate::dispatch::Services;
use crate::handler::epoch::check_leader_epoch;
use crate::handler::hosted;
use crate::network::Reply;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// KIP-734
const MAX_TIMESTAMP: i64 = -3;
/// KIP-405: the earliest offset on the leader's own disk, which is all there is.
const EARLIEST_LOCAL: i64 = -4;
/// KIP-1005: the highest offset in remote storage, of which there is none.
const LATEST_TIERED: i64 = -5;
/// KIP-1023: the earliest offset that remote storage lacks: all of them.
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(crate) fn handle(mut call: Call<'_>, services: &Arc<Services>) -> Result<Reply, Close> {
    let request: ListOffsetsRequest<'_> = call.decode()?;
    let listing = Listing {
        services: services.clone(),
        client: call.client.clone(),
        version: call.version(),
        read_committed: request.isolation_level == 1,
    };
    let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    if partitions.into_iter().any(|partition| reads_the_disk(partition.timestamp)) {
        let topics = request.topics.into_owned();
        // Looking for a time reads segments that nobody may have read for long.
        return call.respond_later(async move {
            let listed = task::blocking("list-offsets", move || listing.response(&topics)).await;
            listed.unwrap_or_default()
        });
    }
    let response = listing.response(&request.topics);
    call.respond(&response)
}

/// From this version on the answer has the leader epoch (KIP-320).
const LEADER_EPOCH_FROM: i16 = 4;

/// Whether the answer is not known without a look into segments.
fn reads_the_disk(timestamp: i64) -> bool {
    timestamp >= 0 || timestamp == MAX_TIMESTAMP
}

/// The first version that has the special timestamp.
fn special_since(timestamp: i64) -> Option<i16> {
    match timestamp {
        LATEST | EARLIEST => Some(0),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        EARLIEST_PENDING_UPLOAD => Some(11),
        _ => None,
    }
}

struct Listing {
    services: Arc<Services>,
    client: Client,
    version: i16,
    read_committed: bool,
}

impl Listing {
    fn response(&self, topics: &[ListOffsetsTopic<'_>]) -> ListOffsetsResponse<'static> {
        let topics = topics.iter().map(|topic| {
            let (mut named, mut twice) = (BTreeSet::new(), BTreeSet::new());
            for ListOffsetsPartition { partition_index, .. } in &topic.partitions {
                if !named.insert(*partition_index) {
                    twice.insert(*partition_index);
                }
            }
            // Duplicates are answered once.
            let once = topic.partitions.iter().filter(|p| named.remove(&p.partition_index));
            let partitions = once.map(|partition| {
                let found = match twice.contains(&partition.partition_index) {
                    true => Err(ErrorCode::INVALID_REQUEST),
                    false => self.partition(&topic.name, partition),
                };
                self.answer(partition.partition_index, found)
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse { name: Cow::Owned(topic.name.to_string()), partitions }
        });
        ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
    }

    fn answer(
        &self,
        partition_index: i32,
        found: Result<Found, ErrorCode>,
    ) -> ListOffsetsPartitionResponse {
        let (code, found) = match found {
            Ok(found) => (ErrorCode::NONE, found),
            Err(code) => (code, Found::NOTHING),
        };
        if self.version == 0 {
            // Offsets came as a list before there was a look-up by time (KIP-79).
            let offset = (found.offset != Offset::NONE).then_some(found.offset.0);
            return ListOffsetsPartitionResponse {
                partition_index,
                error_code: code.0,
                old_style_offsets: offset.into_iter().collect(),
                ..Default::default()
            };
        }
        ListOffsetsPartitionResponse {
            partition_index,
            error_code: code.0,
            timestamp: found.timestamp.0,
            offset: found.offset.0,
            leader_epoch: match self.version >= LEADER_EPOCH_FROM {
                true => found.leader_epoch.0,
                false => LeaderEpoch::NONE.0,
            },
            ..Default::default()
        }
    }

    fn partition(&self, topic: &str, wanted: &ListOffsetsPartition) -> Result<Found, ErrorCode> {
        let (principal, resource) = (&self.client.principal, Resource::Topic(topic));
        if !self.services.authorizer.authorize(principal, Operation::Describe, resource) {
            return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        }
        let timestamp = wanted.timestamp;
        if timestamp < 0 && special_since(timestamp).is_none_or(|since| self.version < since) {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        let partitions = &self.services.partitions;
        let partition = hosted::find(partitions, topic, PartitionId(wanted.partition_index))?;
        check_leader_epoch(&partition, LeaderEpoch(wanted.current_leader_epoch))?;
        self.find(&partition, timestamp).map_err(|error| {
            error!(partition = %partition.name(), %error, "could not look up a timestamp");
            ErrorCode::KAFKA_STORAGE_ERROR
        })
    }

    fn find(&self, partition: &Partition, timestamp: i64) -> io::Result<Found> {
        let end = match self.read_committed {
            true => partition.last_stable_offset(),
            false => partition.high_watermark().offset,
        };
        let log = partition.log();
        let leader_epoch = partition.leader_epoch();
        let at = |offset| Found { offset, timestamp: Timestamp::NONE, leader_epoch };
        let epoch_of = |found: TimestampedOffset| Found {
            offset: found.offset,
            timestamp: found.timestamp,
            leader_epoch: log.epoch_of(found.offset).unwrap_or(leader_epoch),
        };
        Ok(match timestamp {
            LATEST => at(end),
            EARLIEST | EARLIEST_LOCAL | EARLIEST_PENDING_UPLOAD => {
                let start = log.log_start_offset();
                Found { leader_epoch: log.epoch_of(start).unwrap_or(leader_epoch), ..at(start) }
            }
            LATEST_TIERED => Found::NOTHING,
            MAX_TIMESTAMP => log
                .offset_of_max_timestamp()?
                .filter(|found| found.offset < end)
                .map_or(Found::NOTHING, epoch_of),
            time => log
                .offset_for_timestamp(Timestamp(time))?
                .filter(|found| found.offset < end)
                .map_or(Found::NOTHING, epoch_of),
        })
    }
}

/// What was found.
struct Found {
    offset: Offset,
    timestamp: Timestamp,
    leader_epoch: LeaderEpoch,
}

impl Found {
    const NOTHING: Self =
        Self { offset: Offset::NONE, timestamp: Timestamp::NONE, leader_epoch: LeaderEpoch::NONE };
}
