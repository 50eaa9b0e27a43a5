//! What a consumer promises: every record once, in order, from where it was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_client::{
    Codec, ConsumeError, Consumer, ConsumerConfig, ErrorCode, GroupConfig, IsolationLevel, Offset,
    PartitionId, Position, RequestError, Timestamp, TopicPartition,
};
use ottla_protocol::messages::fetch_response::AbortedTransaction;
use ottla_protocol::messages::join_group_response::JoinGroupResponseMember;
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, FindCoordinatorResponse, HeartbeatResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use ottla_protocol::{ApiKey, decode_versioned};
use ottla_record::{
    BatchBuilder, BatchOptions, EndTransactionMarker, Header, ProducerEpoch, ProducerId,
};
use ottla_runtime::time;
use parking_lot::Mutex;

use crate::fake_cluster::{FakeCluster, Fault, TOPIC};
use crate::loopback::{Answer, Asked};

const WAIT: Duration = Duration::from_secs(1);

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, PartitionId(index))
}

fn batch_of(options: BatchOptions, values: &[&str]) -> Vec<u8> {
    let mut batch = BatchBuilder::new(options);
    for value in values {
        let headers = [Header::new("h", None)];
        batch.append(Timestamp(7), Some(b"k"), Some(value.as_bytes()), &headers);
    }
    batch.build()
}

fn batch(values: &[&str]) -> Vec<u8> {
    batch_of(BatchOptions::default(), values)
}

fn consumer(cluster: &FakeCluster, config: ConsumerConfig, from: Position) -> Consumer {
    let mut consumer = cluster.client().consumer(config);
    consumer.assign([(partition(0), from)]);
    consumer
}

async fn poll(consumer: &mut Consumer) -> Vec<String> {
    let records = consumer.poll(WAIT).await.unwrap();
    records.into_iter().map(|record| String::from_utf8(record.value.unwrap()).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn records_are_read_from_where_the_consumer_begins() {
    let cluster = FakeCluster::new(1);
    for values in [&["a", "b"], &["c", "d"]] {
        let options = BatchOptions { codec: Codec::Lz4, ..BatchOptions::default() };
        cluster.append(0, &batch_of(options, values));
    }
    for (from, expected) in [
        (Position::Beginning, &["a", "b", "c", "d"][..]),
        (Position::Offset(Offset(1)), &["b", "c", "d"]),
        (Position::BeforeEnd(1), &["d"]),
        (Position::BeforeEnd(9), &["a", "b", "c", "d"]),
        (Position::End, &[]),
        (Position::Timestamp(Timestamp(99)), &[]),
    ] {
        let mut consumer = consumer(&cluster, ConsumerConfig::default(), from);
        assert_eq!(poll(&mut consumer).await, expected, "{from:?}");
        assert_eq!(consumer.position(&partition(0)), Some(Offset(4)), "{from:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_comes_as_it_was_written() {
    let cluster = FakeCluster::new(1);
    cluster.append(0, &batch(&["a"]));
    let mut consumer = consumer(&cluster, ConsumerConfig::default(), Position::Beginning);
    let record = consumer.poll(WAIT).await.unwrap().pop().unwrap();
    assert_eq!(record.topic_partition(), partition(0));
    assert_eq!((record.offset, record.timestamp), (Offset(0), Timestamp(7)));
    assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(record.headers, [("h".to_owned(), None)]);
}

#[tokio::test(start_paused = true)]
async fn a_seek_makes_what_was_fetched_before_stale() {
    let cluster = FakeCluster::new(1);
    cluster.append(0, &batch(&["a", "b"]));
    let mut consumer = consumer(&cluster, ConsumerConfig::default(), Position::Beginning);
    assert_eq!(poll(&mut consumer).await, ["a", "b"]);
    consumer.seek(&partition(0), Position::Offset(Offset(1)));
    assert_eq!(poll(&mut consumer).await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_without_records_ends_on_time() {
    let cluster = FakeCluster::new(1);
    cluster.plan(ApiKey::Fetch, &[Fault::Ignore]);
    let mut consumer = consumer(&cluster, ConsumerConfig::default(), Position::Offset(Offset(0)));
    let started = time::now();
    assert_eq!(poll(&mut consumer).await.len(), 0);
    assert_eq!(started.elapsed(), WAIT);
    // The fetch goes on, fails by itself, and is made again.
    cluster.append(0, &batch(&["a"]));
    let mut read = Vec::new();
    while read.is_empty() && started.elapsed() < WAIT * 5 {
        read = poll(&mut consumer).await;
    }
    assert_eq!(read, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_moved_leader_is_found() {
    let cluster = FakeCluster::with_leaders(2, vec![1]);
    cluster.append(0, &batch(&["a"]));
    cluster.plan(ApiKey::Fetch, &[Fault::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER)]);
    let mut consumer = consumer(&cluster, ConsumerConfig::default(), Position::Offset(Offset(0)));
    cluster.state.lock().leaders[0] = 2;
    assert_eq!(poll(&mut consumer).await, ["a"]);
    let asked = cluster.state.lock().asked.clone();
    assert_eq!(asked.last(), Some(&(ApiKey::Fetch, 2)));
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_a_leader_does_not_hold_up_the_others() {
    let cluster = FakeCluster::with_leaders(1, vec![-1, 1]);
    cluster.append(0, &batch(&["a"]));
    cluster.append(1, &batch(&["b"]));
    let mut consumer = cluster.client().consumer(ConsumerConfig::default());
    consumer.assign([0, 1].map(|index| (partition(index), Position::Offset(Offset(0)))));
    assert_eq!(poll(&mut consumer).await, ["b"]);
    assert_eq!(poll(&mut consumer).await.len(), 0);
    cluster.state.lock().leaders[0] = 1;
    assert_eq!(poll(&mut consumer).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_position_outside_of_the_log_is_an_error_or_a_new_start() {
    let cluster = FakeCluster::new(1);
    cluster.append(0, &batch(&["a", "b", "c"]));
    cluster.state.lock().log_start = 2;
    let config = |start| ConsumerConfig { start, ..ConsumerConfig::default() };
    let out = Position::Offset(Offset(1));
    let error = consumer(&cluster, config(out), out).poll(WAIT).await.unwrap_err();
    assert_eq!(error.to_string(), "offset 1 of orders-0 is not in the log");
    let mut again = consumer(&cluster, config(Position::Beginning), out);
    assert_eq!(poll(&mut again).await, ["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_batch_is_an_error_after_the_whole_ones_before_it() {
    let cluster = FakeCluster::new(1);
    cluster.append(0, &batch(&["a"]));
    let mut corrupt = batch(&["b"]);
    *corrupt.last_mut().unwrap() ^= 1;
    cluster.append(0, &corrupt);
    let mut consumer = consumer(&cluster, ConsumerConfig::default(), Position::Beginning);
    assert_eq!(poll(&mut consumer).await, ["a"]);
    let error = consumer.poll(WAIT).await.unwrap_err();
    assert!(
        matches!(&error, ConsumeError::Corrupt { offset: Offset(1), reason, .. } if reason.contains("CRC")),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_other_partitions_have_comes_before_the_error_of_one() {
    let cluster = FakeCluster::new(2);
    cluster.append(0, &batch(&["a"]));
    let mut corrupt = batch(&["b"]);
    *corrupt.last_mut().unwrap() ^= 1;
    cluster.append(1, &corrupt);
    let mut consumer = cluster.client().consumer(ConsumerConfig::default());
    consumer.assign([0, 1].map(|index| (partition(index), Position::Offset(Offset(0)))));
    assert_eq!(poll(&mut consumer).await, ["a"]);
    cluster.append(0, &batch(&["c"]));
    assert!(matches!(consumer.poll(WAIT).await, Err(ConsumeError::Corrupt { .. })));
    assert_eq!(poll(&mut consumer).await, ["c"]);
}

#[tokio::test(start_paused = true)]
async fn aborted_transactions_and_markers_are_hidden() {
    let cluster = FakeCluster::new(1);
    let of = |producer| BatchOptions {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(0),
        is_transactional: true,
        ..BatchOptions::default()
    };
    let marker = |producer, committed| {
        let marker = EndTransactionMarker { committed, coordinator_epoch: 0 };
        marker.batch(ProducerId(producer), ProducerEpoch(0), Timestamp(7))
    };
    cluster.append(0, &batch_of(of(1), &["aborted"]));
    cluster.append(0, &batch_of(of(2), &["committed"]));
    cluster.append(0, &marker(1, false));
    cluster.append(0, &batch_of(of(1), &["later"]));
    cluster.append(0, &marker(2, true));
    cluster.append(0, &marker(1, true));
    cluster.state.lock().aborted = vec![AbortedTransaction { producer_id: 1, first_offset: 0 }];
    let config = |isolation| ConsumerConfig { isolation, ..ConsumerConfig::default() };
    let mut all = consumer(&cluster, config(IsolationLevel::ReadUncommitted), Position::Beginning);
    assert_eq!(poll(&mut all).await, ["aborted", "committed", "later"]);
    let mut committed =
        consumer(&cluster, config(IsolationLevel::ReadCommitted), Position::Beginning);
    assert_eq!(poll(&mut committed).await, ["committed", "later"]);
    assert_eq!(committed.position(&partition(0)), Some(Offset(6)), "markers count");
}

/// A coordinator of one group, in which another member with the id `a` is, too.
#[derive(Default)]
struct Coordinator {
    generation: i32,
    /// As the leader of the group assigned them: member → partitions.
    assigned: BTreeMap<String, Vec<i32>>,
    committed: BTreeMap<i32, i64>,
    heartbeat: ErrorCode,
    left: Vec<String>,
}

const MEMBER: &str = "member-1";

impl Coordinator {
    fn serve(&mut self, asked: &Asked) -> Answer {
        match asked.api() {
            ApiKey::FindCoordinator => asked.answer(&FindCoordinatorResponse {
                node_id: 1,
                host: "broker-1".into(),
                port: 9092,
                ..Default::default()
            }),
            ApiKey::JoinGroup => self.join(asked),
            ApiKey::SyncGroup => self.sync(asked),
            ApiKey::Heartbeat => {
                let error_code = std::mem::take(&mut self.heartbeat).0;
                asked.answer(&HeartbeatResponse { error_code, ..Default::default() })
            }
            ApiKey::OffsetCommit => self.commit(asked),
            ApiKey::OffsetFetch => self.committed(asked),
            ApiKey::LeaveGroup => {
                let request: LeaveGroupRequest<'_> = asked.request();
                self.left.push(request.member_id.into_owned());
                asked.answer(&LeaveGroupResponse::default())
            }
            api => panic!("{api:?} is not served"),
        }
    }

    fn join(&mut self, asked: &Asked) -> Answer {
        let request: JoinGroupRequest<'_> = asked.request();
        if request.member_id.is_empty() {
            return asked.answer(&JoinGroupResponse {
                error_code: ErrorCode::MEMBER_ID_REQUIRED.0,
                protocol_name: Some("".into()),
                member_id: MEMBER.into(),
                ..Default::default()
            });
        }
        assert_eq!(request.member_id, MEMBER);
        assert_eq!((&*request.protocol_type, &*request.protocols[0].name), ("consumer", "range"));
        self.generation += 1;
        let member = |id: &'static str| JoinGroupResponseMember {
            member_id: id.into(),
            metadata: request.protocols[0].metadata.clone(),
            ..Default::default()
        };
        asked.answer(&JoinGroupResponse {
            generation_id: self.generation,
            protocol_name: Some("range".into()),
            leader: MEMBER.into(),
            member_id: MEMBER.into(),
            members: vec![member(MEMBER), member("a")],
            ..Default::default()
        })
    }

    fn sync(&mut self, asked: &Asked) -> Answer {
        let request: SyncGroupRequest<'_> = asked.request();
        assert_eq!(request.generation_id, self.generation);
        let mut own = Vec::new();
        for entry in &request.assignments {
            let (_, assignment): (_, ConsumerProtocolAssignment<'_>) =
                decode_versioned(&entry.assignment).unwrap();
            let partitions = assignment.assigned_partitions.iter().flat_map(|t| &t.partitions);
            self.assigned.insert(entry.member_id.to_string(), partitions.copied().collect());
            if entry.member_id == MEMBER {
                own = entry.assignment.to_vec();
            }
        }
        asked.answer(&SyncGroupResponse { assignment: own.into(), ..Default::default() })
    }

    fn commit(&mut self, asked: &Asked) -> Answer {
        let request: OffsetCommitRequest<'_> = asked.request();
        let current = request.generation_id_or_member_epoch == self.generation;
        assert!(request.member_id == MEMBER);
        let code = if current { ErrorCode::NONE } else { ErrorCode::ILLEGAL_GENERATION };
        let topic = &request.topics[0];
        let partitions = topic.partitions.iter().map(|p| {
            if current {
                self.committed.insert(p.partition_index, p.committed_offset);
            }
            OffsetCommitResponsePartition { partition_index: p.partition_index, error_code: code.0 }
        });
        asked.answer(&OffsetCommitResponse {
            topics: vec![OffsetCommitResponseTopic {
                name: topic.name.clone(),
                partitions: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        })
    }

    fn committed(&mut self, asked: &Asked) -> Answer {
        let request: OffsetFetchRequest<'_> = asked.request();
        assert!(request.require_stable);
        let topics = request.topics.unwrap();
        let partitions = topics[0].partition_indexes.iter().map(|&partition_index| {
            let committed_offset = self.committed.get(&partition_index).copied().unwrap_or(-1);
            OffsetFetchResponsePartition { partition_index, committed_offset, ..Default::default() }
        });
        asked.answer(&OffsetFetchResponse {
            topics: vec![OffsetFetchResponseTopic {
                name: topics[0].name.clone(),
                partitions: partitions.collect(),
            }],
            ..Default::default()
        })
    }
}

fn group(partitions: usize) -> (FakeCluster, Arc<Mutex<Coordinator>>, Consumer) {
    let cluster = FakeCluster::new(partitions);
    let coordinator = Arc::new(Mutex::new(Coordinator::default()));
    let serving = Arc::clone(&coordinator);
    cluster.state.lock().other = Some(Box::new(move |asked| serving.lock().serve(asked)));
    let config = ConsumerConfig {
        group: Some(GroupConfig::new("readers")),
        start: Position::Beginning,
        ..ConsumerConfig::default()
    };
    let mut consumer = cluster.client().consumer(config);
    consumer.subscribe(vec![TOPIC.to_owned()]);
    (cluster, coordinator, consumer)
}

#[tokio::test(start_paused = true)]
async fn a_member_reads_its_share_and_commits_it() {
    let (cluster, coordinator, mut consumer) = group(3);
    for index in 0..3 {
        cluster.append(index, &batch(&["x", "y"]));
    }
    coordinator.lock().committed.insert(2, 1);
    // Member "a" comes before "member-1" and gets two of three.
    assert_eq!(poll(&mut consumer).await, ["y"]);
    let expected = BTreeMap::from([("a".to_owned(), vec![0, 1]), (MEMBER.to_owned(), vec![2])]);
    assert_eq!(coordinator.lock().assigned, expected);
    assert_eq!(consumer.assignment().collect::<Vec<_>>(), [&partition(2)]);
    consumer.commit().await.unwrap();
    assert_eq!(coordinator.lock().committed[&2], 2);
    cluster.append(2, &batch(&["z"]));
    assert_eq!(poll(&mut consumer).await, ["z"]);
    consumer.close().await.unwrap();
    let coordinator = coordinator.lock();
    assert_eq!(coordinator.committed[&2], 3, "closing commits");
    assert_eq!(coordinator.left, [MEMBER]);
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_is_noticed_by_a_heartbeat() {
    let (cluster, coordinator, mut consumer) = group(2);
    cluster.append(1, &batch(&["x"]));
    assert_eq!(poll(&mut consumer).await, ["x"]);
    assert_eq!(coordinator.lock().generation, 1);
    coordinator.lock().heartbeat = ErrorCode::REBALANCE_IN_PROGRESS;
    let started = time::now();
    while coordinator.lock().generation == 1 && started.elapsed() < Duration::from_secs(10) {
        assert_eq!(poll(&mut consumer).await.len(), 0, "what was read before was committed");
    }
    assert_eq!(coordinator.lock().generation, 2);
    assert!(started.elapsed() <= Duration::from_secs(4), "heartbeat.interval.ms is 3 s");
    assert_eq!(coordinator.lock().committed[&1], 1);
}

#[tokio::test(start_paused = true)]
async fn offsets_of_another_generation_are_not_committed() {
    let (cluster, coordinator, mut consumer) = group(2);
    cluster.append(1, &batch(&["x"]));
    assert_eq!(poll(&mut consumer).await, ["x"]);
    coordinator.lock().generation = 9;
    assert_eq!(consumer.commit().await, Err(ConsumeError::CommitOutdated));
    assert_eq!(coordinator.lock().committed.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_poll_may_be_given_up_at_any_moment() {
    let (cluster, coordinator, mut consumer) = group(2);
    cluster.append(1, &batch(&["x"]));
    for api in [ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::OffsetFetch, ApiKey::Fetch] {
        cluster.plan(api, &[Fault::Ignore]);
        let poll = time::timeout(Duration::from_millis(100), consumer.poll(WAIT));
        assert!(poll.await.is_err(), "{api:?} is not answered");
    }
    let mut read = Vec::new();
    let started = time::now();
    while read.is_empty() && started.elapsed() < Duration::from_secs(700) {
        read = poll(&mut consumer).await;
    }
    assert_eq!(read, ["x"]);
    consumer.commit().await.unwrap();
    assert_eq!(coordinator.lock().committed, BTreeMap::from([(1, 1)]));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_poll_leaves_the_group() {
    let (_cluster, coordinator, mut consumer) = group(2);
    assert_eq!(poll(&mut consumer).await.len(), 0);
    time::sleep(Duration::from_secs(299)).await;
    assert_eq!(coordinator.lock().left.len(), 0);
    time::sleep(Duration::from_secs(5)).await;
    assert_eq!(coordinator.lock().left, [MEMBER], "max.poll.interval.ms is 300 s");
    // And comes back.
    assert_eq!(poll(&mut consumer).await.len(), 0);
    assert_eq!(coordinator.lock().generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_does_not_exist_is_no_quiet_topic() {
    let (_cluster, _coordinator, mut consumer) = group(1);
    consumer.subscribe(vec!["misspelt".to_owned()]);
    let unknown = RequestError::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into());
    let started = time::now();
    assert_eq!(consumer.poll(WAIT).await, Err(ConsumeError::Request(unknown)));
    assert!(started.elapsed() <= Duration::from_secs(10), "default.api.timeout.ms");
}
