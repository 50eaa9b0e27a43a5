//! Fetch and ListOffsets, of what is not there or of what nobody may ask.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::{FetchRequest, ListOffsetsRequest};
use ottla_record::Uuid;

use super::case::{Case, Gets, Sent};
use super::stage::{Stage, TARGET};
use crate::client::{fetch_partition, fetch_request};

const NO_FOLLOWERS: &str = "here nobody replicates from this broker";

pub(super) fn cases(stage: &Stage) -> Vec<Case> {
    let mut cases = places(stage);
    cases.extend(sessions(stage));
    cases.extend(sizes());
    cases.extend(followers());
    cases.extend(list_offsets());
    cases
}

fn of_partition(partition: FetchPartition) -> Sent {
    Sent::request(12, &fetch_request(TARGET, vec![partition]))
}

fn places(stage: &Stage) -> Vec<Case> {
    let of = |topic: &'static str, partition| {
        Sent::request(12, &fetch_request(topic, vec![fetch_partition(partition, 0)]))
    };
    let by_id = |topic_id| {
        let topic =
            FetchTopic { topic_id, partitions: vec![fetch_partition(0, 0)], ..Default::default() };
        Sent::request(13, &FetchRequest { topics: vec![topic], ..fetch_request("", Vec::new()) })
    };
    let from = |offset| of_partition(fetch_partition(0, offset));
    let in_epoch = |current_leader_epoch| {
        of_partition(FetchPartition { current_leader_epoch, ..fetch_partition(0, 0) })
    };
    let after_epoch = |last_fetched_epoch| {
        of_partition(FetchPartition { last_fetched_epoch, ..fetch_partition(0, 0) })
    };
    let twice = fetch_request(TARGET, vec![fetch_partition(0, 0), fetch_partition(0, 0)]);
    vec![
        Case::new(
            "a topic that is not there",
            of("nowhere", 0),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ),
        Case::new("partition −1", of(TARGET, -1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        Case::new("partition 2³¹−1", of(TARGET, i32::MAX), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        Case::new(
            "a topic id that no topic has",
            by_id(Uuid([7; 16])),
            ErrorCode::UNKNOWN_TOPIC_ID,
        ),
        Case::new("no topic id", by_id(Uuid::ZERO), ErrorCode::UNKNOWN_TOPIC_ID),
        Case::new("the topic's id", by_id(stage.target_id), ErrorCode::NONE),
        Case::new("a partition named twice", Sent::request(12, &twice), ErrorCode::NONE),
        Case::new("offset −1", from(-1), ErrorCode::OFFSET_OUT_OF_RANGE),
        Case::new("offset −2⁶³", from(i64::MIN), ErrorCode::OFFSET_OUT_OF_RANGE),
        Case::new("an offset beyond the end", from(1_000_000), ErrorCode::OFFSET_OUT_OF_RANGE),
        Case::new("offset 2⁶³−1", from(i64::MAX), ErrorCode::OFFSET_OUT_OF_RANGE),
        Case::new(
            "a leader epoch that is yet to come",
            in_epoch(9),
            ErrorCode::UNKNOWN_LEADER_EPOCH,
        ),
        Case::new("leader epoch −5", in_epoch(-5), ErrorCode::FENCED_LEADER_EPOCH)
            .but_kafka(ErrorCode::NONE, "there any negative epoch is none"),
        Case::new(
            "records of an epoch that is yet to come",
            after_epoch(9),
            ErrorCode::OFFSET_OUT_OF_RANGE,
        ),
    ]
}

fn sessions(stage: &Stage) -> Vec<Case> {
    let request = |session_id, session_epoch| {
        let nothing = FetchRequest { topics: Vec::new(), ..fetch_request("", Vec::new()) };
        Sent::request(12, &FetchRequest { session_id, session_epoch, ..nothing })
    };
    let unknown = stage.session_id.wrapping_add(1).max(1);
    vec![
        Case::new(
            "a session that is not there",
            request(unknown, 1),
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        ),
        Case::new("session 0 at epoch 1", request(0, 1), ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        Case::new("session −1 at epoch 1", request(-1, 1), ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        Case::new(
            "epoch 9 of a session at epoch 1",
            request(stage.session_id, 9),
            ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        ),
        Case::new(
            "epoch −2 of a session",
            request(stage.session_id, -2),
            ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        ),
        Case::new("a session of no partition", request(0, 0), Gets::Codes(Vec::new())),
    ]
}

fn sizes() -> Vec<Case> {
    let request = || fetch_request(TARGET, vec![fetch_partition(0, 0)]);
    let whole = |max_bytes| Sent::request(12, &FetchRequest { max_bytes, ..request() });
    let partition = |partition_max_bytes| {
        of_partition(FetchPartition { partition_max_bytes, ..fetch_partition(0, 0) })
    };
    let why = "here a negative size is 0, and the first batch comes whole";
    let waiting = FetchRequest {
        max_wait_ms: i32::MAX,
        min_bytes: i32::MAX,
        ..fetch_request(TARGET, vec![fetch_partition(0, 0)])
    };
    vec![
        Case::new("`max_bytes` 0", whole(0), ErrorCode::NONE),
        Case::new("`max_bytes` −1", whole(-1), ErrorCode::NONE)
            .but_kafka(ErrorCode::UNKNOWN_SERVER_ERROR, why),
        Case::new("`partition_max_bytes` 0", partition(0), ErrorCode::NONE),
        Case::new("`partition_max_bytes` −1", partition(-1), ErrorCode::NONE)
            .but_kafka(ErrorCode::UNKNOWN_SERVER_ERROR, why),
        Case::new(
            "`max_wait_ms` −1",
            Sent::request(12, &FetchRequest { max_wait_ms: -1, min_bytes: i32::MAX, ..request() }),
            ErrorCode::NONE,
        ),
        Case::new("a fetch that waits 24 days", Sent::request(12, &waiting), Gets::Nothing),
    ]
}

fn followers() -> Vec<Case> {
    let request = || fetch_request(TARGET, vec![fetch_partition(0, 0)]);
    let in_epoch = FetchPartition { current_leader_epoch: 0, ..fetch_partition(0, 0) };
    let replica = |replica_id| FetchRequest { replica_id, ..request() };
    let state = ReplicaState { replica_id: 9, replica_epoch: 1 };
    vec![
        Case::new(
            "replica 9, which there is none of",
            Sent::request(12, &replica(9)),
            ErrorCode::INVALID_REQUEST,
        )
        .but_kafka(ErrorCode::NOT_LEADER_OR_FOLLOWER, NO_FOLLOWERS),
        Case::new(
            "replica 9, in the leader's epoch",
            Sent::request(
                12,
                &FetchRequest { replica_id: 9, ..fetch_request(TARGET, vec![in_epoch]) },
            ),
            ErrorCode::INVALID_REQUEST,
        )
        .but_kafka(ErrorCode::UNKNOWN_LEADER_EPOCH, NO_FOLLOWERS),
        Case::new(
            "replica 9, by its state",
            Sent::request(
                15,
                &FetchRequest { replica_state: state, topics: Vec::new(), ..request() },
            ),
            ErrorCode::INVALID_REQUEST,
        )
        .but_kafka(Gets::Codes(Vec::new()), NO_FOLLOWERS),
    ]
}

fn list_offsets() -> Vec<Case> {
    let of = |version, topic: &'static str, partitions| {
        let topic = ListOffsetsTopic { name: topic.into(), partitions };
        let request =
            ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        Sent::request(version, &request)
    };
    let at = |timestamp| ListOffsetsPartition { timestamp, ..Default::default() };
    let place = |topic, partition_index| {
        of(7, topic, vec![ListOffsetsPartition { partition_index, ..at(-1) }])
    };
    let epoch = |current_leader_epoch| {
        of(7, TARGET, vec![ListOffsetsPartition { current_leader_epoch, ..at(-1) }])
    };
    let many = vec![ErrorCode::UNKNOWN_TOPIC_OR_PARTITION; 49_999];
    let unsupported = ErrorCode::UNSUPPORTED_VERSION;
    vec![
        Case::new(
            "offsets of a topic that is not there",
            place("nowhere", 0),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ),
        Case::new(
            "offsets of partition −1",
            place(TARGET, -1),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ),
        Case::new("the offset of timestamp −99", of(7, TARGET, vec![at(-99)]), unsupported),
        Case::new("the offset of timestamp −2⁶³", of(7, TARGET, vec![at(i64::MIN)]), unsupported),
        Case::new(
            "the greatest timestamp, before version 7",
            of(6, TARGET, vec![at(-3)]),
            unsupported,
        ),
        Case::new(
            "the offset of timestamp 2⁶³−1",
            of(7, TARGET, vec![at(i64::MAX)]),
            ErrorCode::NONE,
        ),
        Case::new(
            "offsets of a partition named twice",
            of(7, TARGET, vec![at(-1), at(-1)]),
            ErrorCode::INVALID_REQUEST,
        ),
        Case::new(
            "offsets of partitions 1 to 49 999, of 1",
            of(
                7,
                TARGET,
                (1..50_000)
                    .map(|i| ListOffsetsPartition { partition_index: i, ..at(-1) })
                    .collect(),
            ),
            Gets::Codes(many),
        ),
        Case::new(
            "offsets in a leader epoch that is yet to come",
            epoch(9),
            ErrorCode::UNKNOWN_LEADER_EPOCH,
        ),
        Case::new("offsets in leader epoch −5", epoch(-5), ErrorCode::FENCED_LEADER_EPOCH),
    ]
}
