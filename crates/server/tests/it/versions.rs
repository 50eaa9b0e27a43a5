//! Each version that is told in ApiVersions is answered, with something in the answer: a field
//! that a version cannot carry would close the connection.

use ottla_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic,
};
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::{
    AlterReplicaLogDirsRequest, ApiVersionsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeLogDirsRequest, DescribeTopicPartitionsRequest,
    FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, SyncGroupRequest,
};
use ottla_protocol::{Message, Request};
use ottla_runtime::task::block_on;

use crate::broker::{Scratch, address, start};
use crate::client::{append, batch, create_topic};
use crate::peer::Peer;

const TOPIC: &str = "orders";
const GROUP: &str = "shop";

/// Asks in every version of the api; `request` makes what a version can carry.
async fn every<R>(peer: &mut Peer, request: impl Fn(i16) -> R)
where
    R: Request<'static> + Message,
{
    for version in R::VERSIONS.min..=R::VERSIONS.max {
        let asked = peer.begin(version, &request(version)).await;
        let answer = peer.try_finish::<R>(asked).await;
        assert!(answer.is_some(), "{} version {version} was not answered", R::NAME);
    }
}

async fn reads(peer: &mut Peer) {
    every(peer, |version| ApiVersionsRequest {
        client_software_name: if version >= 3 { "test".into() } else { "".into() },
        client_software_version: if version >= 3 { "1".into() } else { "".into() },
    })
    .await;
    every(peer, |_| {
        let topic = MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
        MetadataRequest { topics: Some(vec![topic]), ..Default::default() }
    })
    .await;
    for timestamp in [-1, -2, 0] {
        every(peer, |_| {
            let partitions = vec![ListOffsetsPartition { timestamp, ..Default::default() }];
            let topics = vec![ListOffsetsTopic { name: TOPIC.into(), partitions }];
            ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }
        })
        .await;
    }
    every(peer, |_| OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: TOPIC.into(),
            partitions: vec![OffsetForLeaderPartition::default()],
        }],
        ..Default::default()
    })
    .await;
    for (resource_type, name) in [(2, TOPIC), (4, "1")] {
        every(peer, |version| DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name: name.into(),
                configuration_keys: None,
            }],
            include_synonyms: version >= 1,
            include_documentation: version >= 3,
        })
        .await;
    }
    every(peer, |_| DescribeClusterRequest::default()).await;
    every(peer, |_| DescribeLogDirsRequest { topics: None }).await;
    every(peer, |_| {
        let topics = vec![AlterReplicaLogDirTopic { name: TOPIC.into(), partitions: vec![0] }];
        let path = "/nowhere".into();
        AlterReplicaLogDirsRequest { dirs: vec![AlterReplicaLogDir { path, topics }] }
    })
    .await;
    every(peer, |_| DescribeTopicPartitionsRequest {
        response_partition_limit: 10,
        ..Default::default()
    })
    .await;
    every(peer, |_| InitProducerIdRequest::default()).await;
}

async fn groups(peer: &mut Peer) {
    every(peer, |version| match version {
        0..4 => FindCoordinatorRequest { key: GROUP.into(), ..Default::default() },
        _ => FindCoordinatorRequest { coordinator_keys: vec![GROUP.into()], ..Default::default() },
    })
    .await;
    every(peer, |version| OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: if version < 10 { TOPIC.into() } else { "".into() },
            partitions: vec![OffsetCommitRequestPartition::default()],
            ..Default::default()
        }],
        ..Default::default()
    })
    .await;
    every(peer, |version| match version {
        0..8 => OffsetFetchRequest {
            group_id: GROUP.into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: TOPIC.into(),
                partition_indexes: vec![0],
            }]),
            ..Default::default()
        },
        _ => OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: GROUP.into(),
                topics: None,
                ..Default::default()
            }],
            ..Default::default()
        },
    })
    .await;
    every(peer, |_| DescribeGroupsRequest { groups: vec![GROUP.into()], ..Default::default() })
        .await;
    every(peer, |_| ListGroupsRequest::default()).await;
    every(peer, |_| SyncGroupRequest { group_id: GROUP.into(), ..Default::default() }).await;
    every(peer, |_| HeartbeatRequest { group_id: GROUP.into(), ..Default::default() }).await;
    every(peer, |_| LeaveGroupRequest { group_id: GROUP.into(), ..Default::default() }).await;
}

#[test]
fn every_version_is_answered() {
    let scratch = Scratch::new("versions");
    block_on(async {
        let node = start(scratch.path(), &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, TOPIC, 1, &[]).await;
        append(&mut peer, TOPIC, 0, batch(&["one", "two"])).await;
        reads(&mut peer).await;
        groups(&mut peer).await;
        node.stop().await.expect("stops");
    })
    .expect("a runtime");
}
