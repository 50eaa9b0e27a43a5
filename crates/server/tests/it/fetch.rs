//! Waiting fetches, incremental sessions, and reading across segments.

use std::time::Duration;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use ottla_protocol::messages::{ApiVersionsRequest, FetchRequest, FetchResponse};
use ottla_record::Uuid;
use ottla_runtime::task::block_on;
use ottla_runtime::time;

use crate::broker::{Scratch, address, start};
use crate::client::{
    append, batch, create_topic, fetch, fetch_partition, fetch_request, read_all, records_of,
    values,
};
use crate::peer::Peer;

/// One thread handles requests in the order in which they came in.
const ONE_THREAD: &[&str] = &["num.network.threads=1"];

/// Longer than any test runs.
const FOREVER: i32 = i32::MAX;

/// Returns when the broker has handled what other connections sent it before.
async fn settle(peer: &mut Peer) {
    peer.ask(0, &ApiVersionsRequest::default()).await;
}

#[test]
fn a_waiting_fetch_is_woken_by_an_append() {
    let done = block_on(async {
        let scratch = Scratch::new("woken");
        let node = start(scratch.path(), ONE_THREAD).await;
        let mut producer = Peer::dial(address(&node)).await;
        create_topic(&mut producer, "orders", 1, &[]).await;
        let mut consumer = Peer::dial(address(&node)).await;
        for offset in 0..3 {
            let request = FetchRequest {
                max_wait_ms: FOREVER,
                ..fetch_request("orders", vec![fetch_partition(0, offset)])
            };
            let asked = consumer.begin(12, &request).await;
            settle(&mut producer).await;
            let value = format!("value {offset}");
            append(&mut producer, "orders", 0, batch(&[&value])).await;
            let response = consumer.finish::<FetchRequest<'_>>(asked).await;
            let got = values(&records_of(&response.responses[0].partitions[0]));
            assert_eq!(got, [(offset, value.into_bytes())]);
        }
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn a_waiting_fetch_waits_for_min_bytes() {
    let done = block_on(async {
        let scratch = Scratch::new("min-bytes");
        let node = start(scratch.path(), ONE_THREAD).await;
        let mut producer = Peer::dial(address(&node)).await;
        create_topic(&mut producer, "orders", 1, &[]).await;
        let mut consumer = Peer::dial(address(&node)).await;
        let (first, second) = (batch(&["first"]), batch(&["second"]));
        let request = FetchRequest {
            max_wait_ms: FOREVER,
            min_bytes: (first.len() + second.len()) as i32,
            ..fetch_request("orders", vec![fetch_partition(0, 0)])
        };
        let asked = consumer.begin(12, &request).await;
        settle(&mut producer).await;
        append(&mut producer, "orders", 0, first).await;
        settle(&mut producer).await;
        append(&mut producer, "orders", 0, second).await;
        // An answer that came too early has the first alone.
        let response = consumer.finish::<FetchRequest<'_>>(asked).await;
        let got = values(&records_of(&response.responses[0].partitions[0]));
        assert_eq!(got, [(0, b"first".to_vec()), (1, b"second".to_vec())]);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn a_fetch_that_waited_in_vain_is_answered_when_its_time_is_up() {
    let done = block_on(async {
        let scratch = Scratch::new("in-vain");
        let node = start(scratch.path(), &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, "orders", 2, &[]).await;
        append(&mut peer, "orders", 0, batch(&["too little"])).await;
        let request = FetchRequest {
            max_wait_ms: 50,
            min_bytes: 10_000,
            ..fetch_request("orders", vec![fetch_partition(0, 0), fetch_partition(1, 0)])
        };
        let asked = time::now();
        let response = peer.ask(12, &request).await;
        assert!(asked.elapsed() >= Duration::from_millis(50));
        let partitions = &response.responses[0].partitions;
        assert_eq!(values(&records_of(&partitions[0])), [(0, b"too little".to_vec())]);
        assert!(records_of(&partitions[1]).is_empty());
        assert_eq!(partitions[1].error_code, ErrorCode::NONE.0);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

/// A consumer that fetches in a session (KIP-227).
struct Session {
    peer: Peer,
    id: i32,
    epoch: i32,
}

impl Session {
    /// Asks for what changed, after telling what else is wanted of `topic` and what no more.
    async fn next(
        &mut self,
        topic: &'static str,
        wanted: Vec<FetchPartition>,
        forgotten: Vec<i32>,
    ) -> FetchResponse<'static> {
        let mut request = FetchRequest {
            session_id: self.id,
            session_epoch: self.epoch,
            ..fetch_request(topic, wanted)
        };
        request.topics.retain(|topic| !topic.partitions.is_empty());
        if !forgotten.is_empty() {
            let (topic_id, partitions) = (Uuid::ZERO, forgotten);
            request.forgotten_topics_data =
                vec![ForgottenTopic { topic: topic.into(), topic_id, partitions }];
        }
        self.epoch += 1;
        self.peer.ask(12, &request).await
    }

    /// The same, and only the partitions of the answer with their records.
    async fn changes(
        &mut self,
        topic: &'static str,
        wanted: Vec<FetchPartition>,
        forgotten: Vec<i32>,
    ) -> Vec<(String, i32, Vec<Vec<u8>>)> {
        let response = self.next(topic, wanted, forgotten).await;
        assert_eq!(
            (ErrorCode(response.error_code), response.session_id),
            (ErrorCode::NONE, self.id)
        );
        let mut changes = Vec::new();
        for topic in &response.responses {
            for partition in &topic.partitions {
                assert_eq!(ErrorCode(partition.error_code), ErrorCode::NONE);
                let values = values(&records_of(partition)).into_iter().map(|(_, v)| v).collect();
                changes.push((topic.topic.to_string(), partition.partition_index, values));
            }
        }
        changes
    }
}

#[test]
fn a_session_is_told_what_changed() {
    let done = block_on(async {
        let scratch = Scratch::new("session");
        let node = start(scratch.path(), &[]).await;
        let mut producer = Peer::dial(address(&node)).await;
        create_topic(&mut producer, "orders", 3, &[]).await;
        create_topic(&mut producer, "bills", 1, &[]).await;

        let mut peer = Peer::dial(address(&node)).await;
        let all = |topic: &'static str, partitions: i32| FetchTopic {
            topic: topic.into(),
            partitions: (0..partitions).map(|p| fetch_partition(p, 0)).collect(),
            ..Default::default()
        };
        let open = FetchRequest {
            session_epoch: 0,
            topics: vec![all("orders", 3), all("bills", 1)],
            ..fetch_request("", Vec::new())
        };
        let opened = peer.ask(12, &open).await;
        assert_ne!(opened.session_id, 0);
        let told: usize = opened.responses.iter().map(|topic| topic.partitions.len()).sum();
        assert_eq!(told, 4, "the first answer has every partition");
        let mut session = Session { peer, id: opened.session_id, epoch: 1 };

        let nothing: Vec<(String, i32, Vec<Vec<u8>>)> = Vec::new();
        assert_eq!(session.changes("", vec![], vec![]).await, nothing);

        append(&mut producer, "orders", 1, batch(&["a"])).await;
        let change = |topic: &str, partition, value: &str| {
            (topic.to_owned(), partition, vec![value.as_bytes().to_vec()])
        };
        assert_eq!(session.changes("", vec![], vec![]).await, [change("orders", 1, "a")]);
        // The client did not say that it has the record: it gets it again.
        assert_eq!(session.changes("", vec![], vec![]).await, [change("orders", 1, "a")]);
        let on = vec![fetch_partition(1, 1)];
        assert_eq!(session.changes("orders", on, vec![]).await, nothing);

        append(&mut producer, "orders", 1, batch(&["b"])).await;
        append(&mut producer, "orders", 2, batch(&["c"])).await;
        append(&mut producer, "bills", 0, batch(&["d"])).await;
        let mut changes = session.changes("orders", vec![], vec![1]).await;
        changes.sort();
        assert_eq!(changes, [change("bills", 0, "d"), change("orders", 2, "c")]);

        // A partition that was forgotten can be wanted again.
        let mut again = vec![fetch_partition(1, 1), fetch_partition(2, 1)];
        again.extend([fetch_partition(0, 0)]);
        let mut changes = session.changes("orders", again, vec![]).await;
        changes.retain(|(_, _, values)| !values.is_empty());
        changes.sort();
        assert_eq!(changes, [change("bills", 0, "d"), change("orders", 1, "b")]);

        let epoch = std::mem::replace(&mut session.epoch, -1);
        assert_eq!(session.next("", vec![], vec![]).await.error_code, ErrorCode::NONE.0);
        session.epoch = epoch;
        let gone = session.next("", vec![], vec![]).await;
        assert_eq!(ErrorCode(gone.error_code), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn a_waiting_session_is_woken_by_any_of_its_partitions() {
    let done = block_on(async {
        let scratch = Scratch::new("session-woken");
        let node = start(scratch.path(), ONE_THREAD).await;
        let mut producer = Peer::dial(address(&node)).await;
        create_topic(&mut producer, "orders", 100, &[]).await;
        let mut consumer = Peer::dial(address(&node)).await;
        let partitions = (0..100).map(|p| fetch_partition(p, 0)).collect();
        let open = FetchRequest { session_epoch: 0, ..fetch_request("orders", partitions) };
        let session_id = consumer.ask(12, &open).await.session_id;
        let wait = FetchRequest {
            max_wait_ms: FOREVER,
            session_id,
            session_epoch: 1,
            topics: Vec::new(),
            ..fetch_request("", Vec::new())
        };
        let asked = consumer.begin(12, &wait).await;
        settle(&mut producer).await;
        append(&mut producer, "orders", 77, batch(&["woken"])).await;
        let response = consumer.finish::<FetchRequest<'_>>(asked).await;
        assert_eq!(response.responses.len(), 1);
        let [partition] = &response.responses[0].partitions[..] else {
            panic!("{:?}", response.responses)
        };
        assert_eq!(partition.partition_index, 77);
        assert_eq!(values(&records_of(partition)), [(0, b"woken".to_vec())]);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn a_log_is_read_across_its_segments() {
    let done = block_on(async {
        let scratch = Scratch::new("segments");
        let node = start(scratch.path(), &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, "orders", 1, &[("segment.bytes", "1000")]).await;
        let mut sent = Vec::new();
        for i in 0..100 {
            let value = format!("{i:0>100}");
            assert_eq!(append(&mut peer, "orders", 0, batch(&[&value])).await, i);
            sent.push((i, value.into_bytes()));
        }
        let files = std::fs::read_dir(scratch.join("orders-0")).expect("the partition's directory");
        let segments = files.flatten().filter(|f| f.path().extension().is_some_and(|e| e == "log"));
        assert!(segments.count() >= 10, "the log has segments");

        assert_eq!(values(&read_all(&mut peer, "orders", 0, 0).await), sent);
        for (offset, value) in sent {
            let first = values(&records_of(&fetch(&mut peer, "orders", 0, offset).await)).remove(0);
            assert_eq!(first, (offset, value));
        }
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}
