//! From a frame to its handler.

use std::sync::Arc;

use ottla_log::LogManager;
use ottla_protocol::{ApiKey, DecodeError, DecodeErrorKind, Decoder, RequestHeader, VersionRange};
use ottla_replication::Partitions;
use ottla_runtime::World;

use crate::authorize::Authorizer;
use crate::call::{Call, Client, Close};
use crate::cluster::Cluster;
use crate::config::BrokerConfig;
use crate::fetch::SessionCache;
use crate::groups::GroupCoordinator;
use crate::handler;
use crate::network::Reply;
use crate::producer_ids::ProducerIds;

/// What handlers may be handed: each gets what it needs, by name.
pub(crate) struct Services {
    pub(crate) config: Arc<BrokerConfig>,
    pub(crate) world: World,
    pub(crate) authorizer: Authorizer,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) partitions: Arc<Partitions>,
    pub(crate) logs: Arc<LogManager>,
    pub(crate) groups: Arc<GroupCoordinator>,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) fetch_sessions: SessionCache,
}

/// The apis that are served, which is what ApiVersions tells. All versions that the protocol
/// generates are served.
pub(crate) const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::AlterReplicaLogDirs,
    ApiKey::DescribeLogDirs,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::OffsetDelete,
    ApiKey::DescribeCluster,
    ApiKey::DescribeTopicPartitions,
];

/// The versions of `api` that are served.
pub(crate) fn served_versions(api: ApiKey) -> Option<VersionRange> {
    SERVED.contains(&api).then(|| api.valid_versions())
}

impl Services {
    /// Handles one frame, without its length.
    pub(crate) fn dispatch(
        self: &Arc<Self>,
        client: &Client,
        frame: &[u8],
        scratch: &mut Vec<u8>,
    ) -> Result<Reply, Close> {
        let mut body = Decoder::new(frame);
        let header = RequestHeader::decode(&mut body).map_err(Close::Header)?;
        let version = header.api_version;
        let Some(api) = ApiKey::from_i16(header.api_key) else {
            let kind = DecodeErrorKind::UnknownApiKey(header.api_key);
            return Err(Close::Header(DecodeError { field: "RequestHeader.api_key", kind }));
        };
        let supported = served_versions(api).is_some_and(|range| range.contains(version));
        let call = Call::new(api, header, client, body, scratch);
        if !supported {
            return match api {
                ApiKey::ApiVersions => handler::api_versions::unsupported(call),
                _ => Err(Close::Unsupported { api, version }),
            };
        }
        use handler::*;
        match api {
            ApiKey::Produce => produce::handle(call, self),
            ApiKey::Fetch => fetch::handle(call, self),
            ApiKey::ListOffsets => list_offsets::handle(call, self),
            ApiKey::Metadata => metadata::handle(call, self),
            ApiKey::OffsetCommit => offset_commit::handle(call, self),
            ApiKey::OffsetFetch => offset_fetch::handle(call, self),
            ApiKey::FindCoordinator => find_coordinator::handle(call, self),
            ApiKey::JoinGroup => join_group::handle(call, self),
            ApiKey::Heartbeat => heartbeat::handle(call, self),
            ApiKey::LeaveGroup => leave_group::handle(call, self),
            ApiKey::SyncGroup => sync_group::handle(call, self),
            ApiKey::DescribeGroups => describe_groups::handle(call, self),
            ApiKey::ListGroups => list_groups::handle(call, self),
            ApiKey::ApiVersions => api_versions::handle(call),
            ApiKey::CreateTopics => create_topics::handle(call, self),
            ApiKey::DeleteTopics => delete_topics::handle(call, self),
            ApiKey::DeleteRecords => delete_records::handle(call, self),
            ApiKey::InitProducerId => init_producer_id::handle(call, self),
            ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::handle(call, self),
            ApiKey::DescribeConfigs => describe_configs::handle(call, self),
            ApiKey::AlterReplicaLogDirs => alter_replica_log_dirs::handle(call, self),
            ApiKey::DescribeLogDirs => describe_log_dirs::handle(call, self),
            ApiKey::CreatePartitions => create_partitions::handle(call, self),
            ApiKey::DeleteGroups => delete_groups::handle(call, self),
            ApiKey::IncrementalAlterConfigs => incremental_alter_configs::handle(call, self),
            ApiKey::OffsetDelete => offset_delete::handle(call, self),
            ApiKey::DescribeCluster => describe_cluster::handle(call, self),
            ApiKey::DescribeTopicPartitions => describe_topic_partitions::handle(call, self),
            _ => Err(Close::Unsupported { api, version }),
        }
    }
}
