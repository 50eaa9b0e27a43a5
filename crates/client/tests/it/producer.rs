//! What a producer promises: order, no duplicates, an end to every wait.

use std::time::Duration;

use ottla_client::{
    Acks, Codec, Delivery, ErrorCode, PartitionId, Producer, ProducerConfig, ProducerRecord,
    RecordMetadata, RequestError, SendError, partition_for_key,
};
use ottla_protocol::ApiKey;
use ottla_runtime::time;

use crate::fake_cluster::{FakeCluster, Fault, TOPIC};

fn record(value: &str) -> ProducerRecord {
    ProducerRecord {
        topic: TOPIC.to_owned(),
        value: Some(value.into()),
        timestamp_ms: Some(1),
        ..ProducerRecord::default()
    }
}

async fn send(producer: &Producer, values: &[&str]) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for value in values {
        deliveries.push(producer.send(record(value)).await.unwrap());
    }
    deliveries
}

async fn offsets(deliveries: Vec<Delivery>) -> Vec<i64> {
    let mut offsets = Vec::new();
    for delivery in deliveries {
        offsets.push(delivery.await.unwrap().offset.unwrap().0);
    }
    offsets
}

fn small_batches() -> ProducerConfig {
    // A header and one record of a few bytes.
    ProducerConfig { batch_size: 110, ..ProducerConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn records_that_come_together_go_together() {
    let cluster = FakeCluster::new(1);
    let producer = cluster.client().producer(ProducerConfig::default());
    let deliveries = send(&producer, &["a", "b", "c"]).await;
    let started = time::now();
    assert_eq!(offsets(deliveries).await, [0, 1, 2]);
    assert_eq!(started.elapsed(), Duration::from_millis(5), "linger.ms");
    assert_eq!(cluster.values(0), [["a", "b", "c"]]);
    assert_eq!(cluster.sequences(0), [(1, 0, 3)]);

    // A flush does not linger.
    let started = time::now();
    let deliveries = send(&producer, &["d"]).await;
    producer.flush().await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(offsets(deliveries).await, [3]);
    assert_eq!(cluster.sequences(0), [(1, 0, 3), (1, 3, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_keeps_the_order_and_writes_nothing_twice() {
    let cluster = FakeCluster::new(1);
    cluster.plan(
        ApiKey::Produce,
        &[
            Fault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
            // Written, but the producer cannot know.
            Fault::ServeAndHangUp,
            Fault::Ignore,
        ],
    );
    let producer = cluster.client().producer(small_batches());
    let deliveries = send(&producer, &["a", "b", "c"]).await;
    assert_eq!(offsets(deliveries).await, [0, 1, 2]);
    assert_eq!(cluster.values(0), [["a"], ["b"], ["c"]]);
    assert_eq!(cluster.sequences(0), [(1, 0, 1), (1, 1, 1), (1, 2, 1)]);
    assert_eq!(cluster.count(ApiKey::Produce), 6);
    assert_eq!(cluster.count(ApiKey::InitProducerId), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_is_found() {
    let cluster = FakeCluster::with_leaders(2, vec![1]);
    let producer = cluster.client().producer(ProducerConfig::default());
    assert_eq!(offsets(send(&producer, &["a"]).await).await, [0]);
    cluster.state.lock().leaders[0] = 2;
    assert_eq!(offsets(send(&producer, &["b"]).await).await, [1]);
    let state = cluster.state.lock();
    let produced: Vec<_> =
        state.asked.iter().filter(|(api, _)| *api == ApiKey::Produce).map(|(_, b)| *b).collect();
    assert_eq!(produced, [1, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_batch_failed_goes_on_under_another_producer_id() {
    let cluster = FakeCluster::new(1);
    let config = ProducerConfig { delivery_timeout: Duration::from_secs(5), ..small_batches() };
    let producer = cluster.client().producer(config);
    assert_eq!(offsets(send(&producer, &["a"]).await).await, [0]);
    cluster.plan(ApiKey::Produce, &[Fault::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS); 100]);
    let started = time::now();
    let lost = send(&producer, &["b"]).await.pop().unwrap().await.unwrap_err();
    let last = RequestError::Refused(ErrorCode::NOT_ENOUGH_REPLICAS.into());
    assert_eq!(lost, SendError::DeliveryTimeout { after: Duration::from_secs(5), last });
    assert!(started.elapsed() <= Duration::from_secs(5));
    cluster.state.lock().faults.clear();
    assert_eq!(offsets(send(&producer, &["c"]).await).await, [1]);
    assert_eq!(cluster.values(0), [["a"], ["c"]]);
    assert_eq!(cluster.sequences(0), [(1, 0, 1), (2, 0, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_refused_for_good_is_not_retried() {
    let cluster = FakeCluster::new(1);
    cluster.plan(ApiKey::Produce, &[Fault::Refuse(ErrorCode::TOPIC_AUTHORIZATION_FAILED)]);
    let producer = cluster.client().producer(ProducerConfig::default());
    for delivery in send(&producer, &["a", "b"]).await {
        let refused = RequestError::Refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED.into());
        assert_eq!(delivery.await, Err(SendError::Request(refused)));
    }
    assert_eq!(cluster.count(ApiKey::Produce), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_goes_in_parts() {
    let cluster = FakeCluster::new(1);
    cluster.state.lock().max_message_bytes = 61 + 2 * 20;
    let producer = cluster.client().producer(ProducerConfig::default());
    let long = "a value that alone is larger than the topic allows";
    let mut deliveries = send(&producer, &["0123456789", "1", "2", "3", long]).await;
    let refused = deliveries.pop().unwrap().await.unwrap_err();
    let too_large = RequestError::Refused(ErrorCode::MESSAGE_TOO_LARGE.into());
    assert_eq!(refused, SendError::Request(too_large));
    assert_eq!(offsets(deliveries).await, [0, 1, 2, 3]);
    assert_eq!(cluster.values(0).concat(), ["0123456789", "1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn without_acks_nothing_is_waited_for() {
    let cluster = FakeCluster::new(1);
    let config = ProducerConfig { acks: Acks::None, ..ProducerConfig::default() };
    let producer = cluster.client().producer(config);
    let delivery = send(&producer, &["a"]).await.pop().unwrap();
    let told = RecordMetadata { partition: PartitionId(0), offset: None };
    assert_eq!(delivery.await, Ok(told));
    assert_eq!(cluster.count(ApiKey::InitProducerId), 0, "such a producer is not idempotent");
}

#[tokio::test(start_paused = true)]
async fn keys_decide_the_partition_and_headers_travel() {
    let cluster = FakeCluster::new(5);
    let config = ProducerConfig { compression: Codec::Zstd, ..ProducerConfig::default() };
    let producer = cluster.client().producer(config);
    let with_key = |key: &str| ProducerRecord {
        key: Some(key.into()),
        headers: vec![("h".to_owned(), Some(b"x".to_vec()))],
        ..record(key)
    };
    for key in ["user-42", "kafka", "a"] {
        let written = producer.send(with_key(key)).await.unwrap().await.unwrap();
        assert_eq!(written.partition, partition_for_key(key.as_bytes(), 5));
        assert_eq!(cluster.values(written.partition.0 as usize).concat().last().unwrap(), key);
    }
    let chosen = ProducerRecord { partition: Some(PartitionId(4)), ..with_key("a") };
    let written = producer.send(chosen).await.unwrap().await.unwrap();
    assert_eq!(written.partition, PartitionId(4));
    let missing = ProducerRecord { partition: Some(PartitionId(5)), ..record("a") };
    let error = producer.send(missing).await.unwrap_err();
    assert_eq!(error, SendError::NoSuchPartition { partition: 5, count: 5 });
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_missing_is_an_error_in_the_end() {
    let cluster = FakeCluster::new(1);
    let config = ProducerConfig { max_block: Duration::from_secs(3), ..Default::default() };
    let producer = cluster.client().producer(config);
    let started = time::now();
    let other = ProducerRecord { topic: "other".to_owned(), ..record("a") };
    let error = producer.send(other).await.unwrap_err();
    let unknown = RequestError::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into());
    assert_eq!(error, SendError::Request(unknown));
    assert!(started.elapsed() <= Duration::from_secs(3));
    assert!(cluster.count(ApiKey::Metadata) > 2, "it may be created meanwhile");
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded() {
    let cluster = FakeCluster::new(1);
    cluster.plan(ApiKey::Produce, &[Fault::Ignore]);
    let config = ProducerConfig {
        buffer_memory: 150,
        max_block: Duration::from_secs(1),
        linger: Duration::ZERO,
        ..ProducerConfig::default()
    };
    let producer = cluster.client().producer(config);
    let deliveries = send(&producer, &["0123456789", "1", "2"]).await;
    let full = SendError::BufferFull { after: Duration::from_secs(1) };
    assert_eq!(producer.send(record("4")).await.unwrap_err(), full);
    // After the request's timeout the batch is delivered, and there is room again.
    assert_eq!(offsets(deliveries).await, [0, 1, 2]);
    assert_eq!(offsets(send(&producer, &["4"]).await).await, [3]);
    let large = "x".repeat(1024 * 1024);
    assert!(matches!(
        producer.send(record(&large)).await.unwrap_err(),
        SendError::RecordTooLarge { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_producer_says_so() {
    let cluster = FakeCluster::new(1);
    let producer = cluster.client().producer(ProducerConfig::default());
    let delivery = send(&producer, &["a"]).await.pop().unwrap();
    drop(producer);
    assert_eq!(delivery.await, Err(SendError::Closed));
    assert_eq!(cluster.values(0).len(), 0);
}
