//! What tests ask of a broker, and what they make of the answers.

use std::borrow::Cow;

use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla_protocol::messages::fetch_response::PartitionData;
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::produce_response::PartitionProduceResponse;
use ottla_protocol::messages::{CreateTopicsRequest, FetchRequest, ProduceRequest};
use ottla_protocol::{ErrorCode, Records};
use ottla_record::{BatchBuilder, BatchOptions, Timestamp, Uuid};
use ottla_runtime::World;

use crate::peer::Peer;

/// Creates a topic with `config`, and returns its id.
pub(crate) async fn create_topic(
    peer: &mut Peer,
    name: &str,
    partitions: i32,
    config: &[(&str, &str)],
) -> Uuid {
    let configs = config.iter().map(|&(name, value)| CreatableTopicConfig {
        name: name.into(),
        value: Some(value.into()),
    });
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let response = peer.ask(7, &request).await;
    let result = &response.topics[0];
    assert_eq!(ErrorCode(result.error_code), ErrorCode::NONE, "{:?}", result.error_message);
    result.topic_id
}

/// A batch as a plain producer makes it, one record for each value.
pub(crate) fn batch<V: AsRef<[u8]>>(values: &[V]) -> Vec<u8> {
    batch_with(BatchOptions::default(), values)
}

pub(crate) fn batch_with<V: AsRef<[u8]>>(options: BatchOptions, values: &[V]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    let now = Timestamp(World::system().clock.wall_ms());
    for value in values {
        builder.append(now, Some(b"key"), Some(value.as_ref()), &[]);
    }
    builder.build()
}

/// A request with one record set for one partition.
pub(crate) fn produce_request(
    topic: &str,
    partition: i32,
    acks: i16,
    records: Vec<u8>,
) -> ProduceRequest<'_> {
    let partition_data =
        vec![PartitionProduceData { index: partition, records: Some(Records::from(records)) }];
    let topic = TopicProduceData { name: topic.into(), partition_data, ..Default::default() };
    ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }
}

/// Produces one record set and returns the answer for its partition.
pub(crate) async fn produce(
    peer: &mut Peer,
    topic: &str,
    partition: i32,
    records: Vec<u8>,
) -> PartitionProduceResponse<'static> {
    let request = produce_request(topic, partition, 1, records);
    let mut response = peer.ask(12, &request).await;
    response.responses.remove(0).partition_responses.remove(0)
}

/// Produces what must be accepted; returns its first offset.
pub(crate) async fn append(peer: &mut Peer, topic: &str, partition: i32, records: Vec<u8>) -> i64 {
    let answer = produce(peer, topic, partition, records).await;
    assert_eq!(ErrorCode(answer.error_code), ErrorCode::NONE, "{:?}", answer.error_message);
    answer.base_offset
}

pub(crate) fn fetch_partition(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 64 * 1024 * 1024,
        ..Default::default()
    }
}

/// A request of version 12 or less that does not wait.
pub(crate) fn fetch_request<'a>(
    topic: impl Into<Cow<'a, str>>,
    partitions: Vec<FetchPartition>,
) -> FetchRequest<'a> {
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 64 * 1024 * 1024,
        topics: vec![FetchTopic { topic: topic.into(), partitions, ..Default::default() }],
        ..Default::default()
    }
}

/// What one fetch from `offset` on gets.
pub(crate) async fn fetch(
    peer: &mut Peer,
    topic: &str,
    partition: i32,
    offset: i64,
) -> PartitionData<'static> {
    let request = fetch_request(topic, vec![fetch_partition(partition, offset)]);
    let mut response = peer.ask(12, &request).await;
    assert_eq!(ErrorCode(response.error_code), ErrorCode::NONE);
    response.responses.remove(0).partitions.remove(0)
}

pub(crate) fn records_of(data: &PartitionData<'_>) -> Vec<u8> {
    data.records.as_ref().and_then(Records::as_bytes).unwrap_or_default().to_vec()
}

/// All bytes of a partition from `offset` to the high watermark, however many fetches it takes.
pub(crate) async fn read_all(
    peer: &mut Peer,
    topic: &str,
    partition: i32,
    mut offset: i64,
) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let data = fetch(peer, topic, partition, offset).await;
        assert_eq!(ErrorCode(data.error_code), ErrorCode::NONE);
        let records = records_of(&data);
        let last = ottla_record::batches(&records).last();
        let Some(last) = last else {
            assert_eq!(offset, data.high_watermark);
            return all;
        };
        offset = last.expect("whole batches").next_offset().0;
        all.extend_from_slice(&records);
    }
}

/// The values of the records in a record set, in order of their offsets.
pub(crate) fn values(records: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let mut values = Vec::new();
    for batch in ottla_record::batches(records) {
        let batch = batch.expect("whole batches");
        batch.verify_crc().expect("a right checksum");
        let mut unpacked = Vec::new();
        for record in batch.records(&mut unpacked, 64 << 20).expect("readable") {
            let record = record.expect("a record");
            values.push((record.offset.0, record.value.unwrap_or_default().to_vec()));
        }
    }
    values
}
