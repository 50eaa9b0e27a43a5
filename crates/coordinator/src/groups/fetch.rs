//! OffsetFetch, of one group or of several.

use ottla_group::{FetchTopic, Request, Response};
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use ottla_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::{Groups, Reply};

/// The first version that asks for several groups.
const GROUPS_SINCE: i16 = 8;
/// The first version with an error for the whole group.
const GROUP_ERROR_SINCE: i16 = 2;

impl Groups {
    /// Answers OffsetFetch. Topics go by name: where the request has ids instead, the caller fills
    /// in the names. The caller also leaves out what the client may not see.
    pub fn fetch_offsets(
        &self,
        api_version: i16,
        body: &OffsetFetchRequest<'_>,
    ) -> Reply<OffsetFetchResponse<'static>> {
        if api_version >= GROUPS_SINCE {
            let replies = body.groups.iter().map(|group| self.fetch_group(group)).collect();
            let response = |groups| OffsetFetchResponse { groups, ..Default::default() };
            return Reply::all(replies).map(response);
        }
        let topics: Option<Vec<FetchTopic<'_>>> = body.topics.as_ref().map(|topics| {
            let topics = topics.iter().map(|topic| FetchTopic {
                name: &topic.name,
                topic_id: Default::default(),
                partitions: &topic.partition_indexes,
            });
            topics.collect()
        });
        let reply = self.fetch_offsets_of(&body.group_id, topics.as_deref());
        reply.map(move |group| single(api_version, group))
    }

    fn fetch_group(
        &self,
        group: &OffsetFetchRequestGroup<'_>,
    ) -> Reply<OffsetFetchResponseGroup<'static>> {
        let topics: Option<Vec<FetchTopic<'_>>> = group.topics.as_ref().map(|topics| {
            let topics = topics.iter().map(|topic| FetchTopic {
                name: &topic.name,
                topic_id: topic.topic_id,
                partitions: &topic.partition_indexes,
            });
            topics.collect()
        });
        self.fetch_offsets_of(&group.group_id, topics.as_deref())
    }

    fn fetch_offsets_of(
        &self,
        group_id: &str,
        topics: Option<&[FetchTopic<'_>]>,
    ) -> Reply<OffsetFetchResponseGroup<'static>> {
        let pick = |response| match response {
            Response::Fetch(response) => Some(response),
            _ => None,
        };
        let fail = |error| fetch_error(group_id, topics, error);
        self.call(group_id, Request::Fetch { group_id, topics }, pick, fail)
    }
}

/// The error of a group, which old versions can only tell by its partitions.
fn fetch_error(
    group_id: &str,
    topics: Option<&[FetchTopic<'_>]>,
    error: ErrorCode,
) -> OffsetFetchResponseGroup<'static> {
    let mut group = ottla_group::nothing_committed(group_id, topics.unwrap_or_default());
    for partition in group.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.error_code = error.0;
    }
    group.error_code = error.0;
    group
}

/// The response of the versions that ask for one group.
fn single(
    api_version: i16,
    group: OffsetFetchResponseGroup<'static>,
) -> OffsetFetchResponse<'static> {
    let error_code = group.error_code;
    if error_code != 0 && api_version >= GROUP_ERROR_SINCE {
        return OffsetFetchResponse { error_code, ..Default::default() };
    }
    let topics = group.topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| OffsetFetchResponsePartition {
                partition_index: partition.partition_index,
                committed_offset: partition.committed_offset,
                committed_leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata,
                error_code: partition.error_code,
            })
            .collect(),
    });
    OffsetFetchResponse { topics: topics.collect(), ..Default::default() }
}
