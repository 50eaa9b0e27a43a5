//! Topics that cannot be, or cannot be like that.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{CreateTopicsRequest, MetadataRequest};
use ottla_record::Uuid;

use super::case::{Case, Gets, Sent};
use super::stage::{Stage, TARGET, WITNESS};

pub(super) fn cases(_: &Stage) -> Vec<Case> {
    let mut cases = names();
    cases.extend(counts());
    cases.extend(configs());
    cases.extend(assignments());
    cases.extend(metadata());
    cases
}

fn topic(name: &str) -> CreatableTopic<'_> {
    CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    }
}

fn create(topics: Vec<CreatableTopic<'_>>) -> Sent {
    let request = CreateTopicsRequest { topics, timeout_ms: 30_000, ..Default::default() };
    Sent::request(7, &request)
}

/// Names that no topic may have, and how the page calls them.
fn bad_names() -> Vec<(&'static str, String)> {
    vec![
        ("no name", String::new()),
        ("the name `.`", ".".into()),
        ("the name `..`", "..".into()),
        ("a name of 250 letters", "a".repeat(250)),
        ("the name `a/b`", "a/b".into()),
        ("the name `../escape`", "../escape".into()),
        ("the name `a b`", "a b".into()),
        ("the name `a\\0b`", "a\0b".into()),
        ("the name `größe`", "größe".into()),
    ]
}

fn names() -> Vec<Case> {
    let invalid = ErrorCode::INVALID_TOPIC_EXCEPTION;
    let mut cases: Vec<Case> = bad_names()
        .into_iter()
        .map(|(what, name)| {
            Case::new(format!("CreateTopics: {what}"), create(vec![topic(&name)]), invalid)
        })
        .collect();
    let ready = |name| create(vec![topic(name)]);
    let numbers: Vec<String> = (0..50_000).map(|i| i.to_string()).collect();
    cases.extend([
        Case::new("CreateTopics: a name of 249 letters", ready(&"b".repeat(249)), ErrorCode::NONE),
        Case::new(
            "CreateTopics: a topic that is there",
            ready(WITNESS),
            ErrorCode::TOPIC_ALREADY_EXISTS,
        ),
        Case::new("CreateTopics: `a.b_c` beside `a_b.c`", ready("a.b_c"), invalid)
            .after(ready("a_b.c")),
        Case::new(
            "CreateTopics: `__cluster_metadata`",
            ready("__cluster_metadata"),
            ErrorCode::INVALID_REQUEST,
        ),
        Case::new(
            "CreateTopics: a name twice",
            create(vec![topic("twice"), topic("twice")]),
            ErrorCode::INVALID_REQUEST,
        ),
        Case::new(
            "CreateTopics: 50 000 topics",
            create(numbers.iter().map(|name| topic(name)).collect()),
            Gets::Codes(vec![ErrorCode::POLICY_VIOLATION; 50_000]),
        ),
        Case::new("CreateTopics: no topic", create(Vec::new()), Gets::Codes(Vec::new())),
    ]);
    cases
}

fn counts() -> Vec<Case> {
    let partitions =
        |num_partitions| create(vec![CreatableTopic { num_partitions, ..topic("never") }]);
    let factor =
        |replication_factor| create(vec![CreatableTopic { replication_factor, ..topic("never") }]);
    let partitions_code = ErrorCode::INVALID_PARTITIONS;
    let factor_code = ErrorCode::INVALID_REPLICATION_FACTOR;
    vec![
        Case::new("CreateTopics: 0 partitions", partitions(0), partitions_code),
        Case::new("CreateTopics: −5 partitions", partitions(-5), partitions_code),
        Case::new(
            "CreateTopics: 10 001 partitions",
            partitions(10_001),
            ErrorCode::POLICY_VIOLATION,
        ),
        Case::new(
            "CreateTopics: 2³¹−1 partitions",
            partitions(i32::MAX),
            ErrorCode::POLICY_VIOLATION,
        ),
        Case::new("CreateTopics: replication factor 0", factor(0), factor_code),
        Case::new("CreateTopics: replication factor −5", factor(-5), factor_code),
        Case::new("CreateTopics: replication factor 3, with 1 broker", factor(3), factor_code),
        Case::new("CreateTopics: replication factor 32767", factor(i16::MAX), factor_code),
    ]
}

fn configs() -> Vec<Case> {
    let with = |name: &'static str, value: Option<&'static str>| {
        let config = CreatableTopicConfig { name: name.into(), value: value.map(Into::into) };
        create(vec![CreatableTopic { configs: vec![config], ..topic("never") }])
    };
    let invalid = ErrorCode::INVALID_CONFIG;
    vec![
        Case::new("CreateTopics: null for a config", with("retention.ms", None), invalid),
        Case::new(
            "CreateTopics: a config that is not there",
            with("retention.parsecs", Some("1")),
            invalid,
        ),
        Case::new("CreateTopics: a config with no name", with("", Some("1")), invalid),
        Case::new("CreateTopics: `retention.ms=soon`", with("retention.ms", Some("soon")), invalid),
        Case::new("CreateTopics: `segment.bytes=-1`", with("segment.bytes", Some("-1")), invalid),
        Case::new(
            "CreateTopics: `cleanup.policy=burn`",
            with("cleanup.policy", Some("burn")),
            invalid,
        ),
        Case::new(
            "CreateTopics: `max.message.bytes=99999999999`",
            with("max.message.bytes", Some("99999999999")),
            invalid,
        ),
    ]
}

fn assignments() -> Vec<Case> {
    let assigned = |counts: (i32, i16), assignments: &[(i32, &[i32])]| {
        let assignments = assignments.iter().map(|&(partition_index, brokers)| {
            CreatableReplicaAssignment { partition_index, broker_ids: brokers.to_vec() }
        });
        let (num_partitions, replication_factor) = counts;
        let topic = CreatableTopic { num_partitions, replication_factor, ..topic("never") };
        create(vec![CreatableTopic { assignments: assignments.collect(), ..topic }])
    };
    let invalid = ErrorCode::INVALID_REPLICA_ASSIGNMENT;
    vec![
        Case::new(
            "CreateTopics: an assignment and a count",
            assigned((1, 1), &[(0, &[1])]),
            ErrorCode::INVALID_REQUEST,
        ),
        Case::new(
            "CreateTopics: a broker that is not there",
            assigned((-1, -1), &[(0, &[77])]),
            invalid,
        ),
        Case::new("CreateTopics: broker −1", assigned((-1, -1), &[(0, &[-1])]), invalid),
        Case::new("CreateTopics: a broker twice", assigned((-1, -1), &[(0, &[1, 1])]), invalid),
        Case::new("CreateTopics: no broker", assigned((-1, -1), &[(0, &[])]), invalid),
        Case::new(
            "CreateTopics: partitions 0 and 2",
            assigned((-1, -1), &[(0, &[1]), (2, &[1])]),
            invalid,
        ),
        Case::new("CreateTopics: partition −1", assigned((-1, -1), &[(-1, &[1])]), invalid),
        Case::new(
            "CreateTopics: a partition twice",
            assigned((-1, -1), &[(0, &[1]), (0, &[1])]),
            invalid,
        ),
    ]
}

fn metadata() -> Vec<Case> {
    let of = |version, topic, creates| {
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: creates,
            ..Default::default()
        };
        Sent::request(version, &request)
    };
    let named =
        |name: String| MetadataRequestTopic { name: Some(name.into()), topic_id: Uuid::ZERO };
    let by_id = |topic_id| MetadataRequestTopic { name: None, topic_id };
    let mut cases: Vec<Case> = bad_names()
        .into_iter()
        .map(|(what, name)| {
            let sent = of(12, named(name), true);
            Case::new(format!("Metadata: {what}"), sent, ErrorCode::INVALID_TOPIC_EXCEPTION)
        })
        .collect();
    cases.extend([
        Case::new(
            "Metadata: a topic that is not there, and must not be created",
            of(12, named("nowhere".into()), false),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ),
        Case::new(
            "Metadata: a topic id that no topic has",
            of(12, by_id(Uuid([7; 16])), false),
            ErrorCode::UNKNOWN_TOPIC_ID,
        ),
        Case::new(
            "Metadata: neither name nor id",
            of(12, by_id(Uuid::ZERO), false),
            ErrorCode::UNKNOWN_TOPIC_ID,
        )
        .but_kafka(ErrorCode::UNKNOWN_SERVER_ERROR, "the code of an unexpected exception"),
        Case::new(
            "Metadata: null for a name, before version 12",
            of(10, by_id(Uuid([7; 16])), false),
            ErrorCode::INVALID_REQUEST,
        ),
        Case::new("Metadata: a topic and its name 10 000 times", many_names(), ErrorCode::NONE),
    ]);
    cases
}

/// A short request with a long answer.
fn many_names() -> Sent {
    let topic = MetadataRequestTopic { name: Some(TARGET.into()), topic_id: Uuid::ZERO };
    let request = MetadataRequest { topics: Some(vec![topic; 10_000]), ..Default::default() };
    Sent::request(12, &request)
}
