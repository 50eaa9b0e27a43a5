//! Administration and groups, of what is not there or cannot be.

use ottla_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use ottla_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::{
    CreatePartitionsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest,
    OffsetForLeaderEpochRequest,
};
use ottla_protocol::{ApiKey, ErrorCode};
use ottla_record::Uuid;

use super::case::{Case, Sent};
use super::stage::{COMPACTED, GROUP, Stage, TARGET};

pub(super) fn cases(stage: &Stage) -> Vec<Case> {
    let mut cases = topics(stage);
    cases.extend(records());
    cases.extend(configs());
    cases.extend(groups());
    cases.extend(commits());
    cases
}

fn topics(stage: &Stage) -> Vec<Case> {
    let delete = |name: Option<&'static str>, topic_id| {
        let topics = vec![DeleteTopicState { name: name.map(Into::into), topic_id }];
        Sent::request(6, &DeleteTopicsRequest { topics, timeout_ms: 30_000, ..Default::default() })
    };
    let grow = |name: &'static str, count| {
        let topics = vec![CreatePartitionsTopic { name: name.into(), count, assignments: None }];
        let request = CreatePartitionsRequest { topics, timeout_ms: 30_000, validate_only: false };
        Sent::request(3, &request)
    };
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    vec![
        Case::new(
            "DeleteTopics: a topic that is not there",
            delete(Some("nowhere"), Uuid::ZERO),
            unknown,
        ),
        Case::new(
            "DeleteTopics: a topic id that no topic has",
            delete(None, Uuid([7; 16])),
            ErrorCode::UNKNOWN_TOPIC_ID,
        ),
        Case::new(
            "DeleteTopics: a name and an id",
            delete(Some(TARGET), stage.target_id),
            ErrorCode::INVALID_REQUEST,
        ),
        Case::new("CreatePartitions: a topic that is not there", grow("nowhere", 2), unknown),
        Case::new(
            "CreatePartitions: as many as there are",
            grow(TARGET, 1),
            ErrorCode::INVALID_PARTITIONS,
        ),
        Case::new("CreatePartitions: −1", grow(TARGET, -1), ErrorCode::INVALID_PARTITIONS),
        Case::new("CreatePartitions: 2³¹−1", grow(TARGET, i32::MAX), ErrorCode::INVALID_PARTITIONS)
            .but_kafka(ErrorCode::UNKNOWN_SERVER_ERROR, "the code of an unexpected exception"),
    ]
}

fn records() -> Vec<Case> {
    let delete = |name: &'static str, partition_index, offset| {
        let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
        let topics = vec![DeleteRecordsTopic { name: name.into(), partitions }];
        Sent::request(2, &DeleteRecordsRequest { topics, timeout_ms: 30_000 })
    };
    let epoch = |topic: &'static str, partition, current_leader_epoch| {
        let partitions =
            vec![OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch: 0 }];
        let topics = vec![OffsetForLeaderTopic { topic: topic.into(), partitions }];
        Sent::request(4, &OffsetForLeaderEpochRequest { replica_id: -1, topics })
    };
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let out_of_range = ErrorCode::OFFSET_OUT_OF_RANGE;
    vec![
        Case::new("DeleteRecords: a topic that is not there", delete("nowhere", 0, 0), unknown),
        Case::new("DeleteRecords: partition −1", delete(TARGET, -1, 0), unknown),
        Case::new("DeleteRecords: up to beyond the end", delete(TARGET, 0, i64::MAX), out_of_range),
        Case::new("DeleteRecords: up to offset −2", delete(TARGET, 0, -2), out_of_range),
        Case::new(
            "DeleteRecords: of a compacted topic",
            delete(COMPACTED, 0, 0),
            ErrorCode::POLICY_VIOLATION,
        ),
        Case::new(
            "OffsetForLeaderEpoch: a topic that is not there",
            epoch("nowhere", 0, -1),
            unknown,
        ),
        Case::new("OffsetForLeaderEpoch: partition −1", epoch(TARGET, -1, -1), unknown),
        Case::new(
            "OffsetForLeaderEpoch: in an epoch that is yet to come",
            epoch(TARGET, 0, 9),
            ErrorCode::UNKNOWN_LEADER_EPOCH,
        ),
    ]
}

fn configs() -> Vec<Case> {
    let describe = |resource_type, name: &'static str| {
        let resource = DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        Sent::request(4, &request)
    };
    let (topic, broker) = (2, 4);
    vec![
        Case::new(
            "DescribeConfigs: a topic that is not there",
            describe(topic, "nowhere"),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ),
        Case::new(
            "DescribeConfigs: a topic that cannot be",
            describe(topic, "a/b"),
            ErrorCode::INVALID_TOPIC_EXCEPTION,
        ),
        Case::new(
            "DescribeConfigs: another broker",
            describe(broker, "77"),
            ErrorCode::INVALID_REQUEST,
        ),
        Case::new(
            "DescribeConfigs: broker `one`",
            describe(broker, "one"),
            ErrorCode::INVALID_REQUEST,
        ),
        Case::new(
            "DescribeConfigs: a resource of type 99",
            describe(99, "x"),
            ErrorCode::INVALID_REQUEST,
        ),
    ]
}

fn groups() -> Vec<Case> {
    let join = |group: &'static str, session_timeout_ms, member: &'static str| {
        let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: vec![].into() };
        let request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms,
            rebalance_timeout_ms: 10_000,
            member_id: member.into(),
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        Sent::request(9, &request)
    };
    let heartbeat = |group: &'static str| {
        let request = HeartbeatRequest {
            group_id: group.into(),
            generation_id: 1,
            member_id: "nobody".into(),
            group_instance_id: None,
        };
        Sent::request(4, &request)
    };
    let find = |key: &'static str, key_type| {
        let request = FindCoordinatorRequest {
            key_type,
            coordinator_keys: vec![key.into()],
            ..Default::default()
        };
        Sent::request(4, &request)
    };
    vec![
        Case::new("FindCoordinator: of type 9", find("x", 9), ErrorCode::INVALID_REQUEST),
        Case::new("JoinGroup: no group id", join("", 10_000, ""), ErrorCode::INVALID_GROUP_ID),
        Case::new(
            "JoinGroup: a session of 1 ms",
            join(GROUP, 1, ""),
            ErrorCode::INVALID_SESSION_TIMEOUT,
        ),
        Case::new(
            "JoinGroup: a session of 24 days",
            join(GROUP, i32::MAX, ""),
            ErrorCode::INVALID_SESSION_TIMEOUT,
        ),
        Case::new(
            "JoinGroup: a member that nobody knows",
            join(GROUP, 10_000, "nobody"),
            ErrorCode::UNKNOWN_MEMBER_ID,
        ),
        Case::new("Heartbeat: no group id", heartbeat(""), ErrorCode::INVALID_GROUP_ID),
        Case::new(
            "Heartbeat: a group that is not there",
            heartbeat(GROUP),
            ErrorCode::UNKNOWN_MEMBER_ID,
        ),
        Case::closed(
            "JoinGroup v5: 2³¹−1 protocols",
            Sent::body(ApiKey::JoinGroup, 5, |e| {
                e.string(false, GROUP, "group_id").expect("short");
                e.i32(10_000);
                e.i32(10_000);
                e.string(false, "", "member_id").expect("short");
                e.i16(-1);
                e.string(false, "consumer", "protocol_type").expect("short");
                e.i32(i32::MAX);
            }),
        ),
    ]
}

fn commits() -> Vec<Case> {
    let commit = |topic: &'static str, partition_index, metadata: usize| {
        let partition = OffsetCommitRequestPartition {
            partition_index,
            committed_metadata: Some("m".repeat(metadata).into()),
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        Sent::request(8, &request)
    };
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    vec![
        Case::new("OffsetCommit: a topic that is not there", commit("nowhere", 0, 0), unknown),
        Case::new("OffsetCommit: partition −1", commit(TARGET, -1, 0), unknown),
        Case::new(
            "OffsetCommit: metadata over `offset.metadata.max.bytes`",
            commit(TARGET, 0, 5000),
            ErrorCode::OFFSET_METADATA_TOO_LARGE,
        ),
    ]
}
