//! What is produced is what is fetched, once and in order.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{ApiVersionsRequest, InitProducerIdRequest, ProduceRequest};
use ottla_record::{
    BatchOptions, Codec, HEADER_BYTES, ProducerEpoch, ProducerId, RecordBatch, Sequence,
};
use ottla_runtime::task::block_on;

use crate::broker::{Scratch, address, start};
use crate::client::{
    append, batch, batch_with, create_topic, fetch, produce, produce_request, read_all, records_of,
    values,
};
use crate::peer::Peer;

/// The batch of the idempotent producer 7 that starts at `sequence`.
pub(crate) fn idempotent<V: AsRef<[u8]>>(epoch: i16, sequence: i32, values: &[V]) -> Vec<u8> {
    let options = BatchOptions {
        producer_id: ProducerId(7),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
        ..BatchOptions::default()
    };
    batch_with(options, values)
}

#[test]
fn records_come_back_as_they_were_sent() {
    let done = block_on(async {
        let scratch = Scratch::new("round-trip");
        let node = start(scratch.path(), &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, "orders", 1, &[]).await;
        let long = vec![b'x'; 300_000];
        let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
        for (codec, base) in codecs.into_iter().zip((0..).step_by(3)) {
            let options = BatchOptions { codec, ..BatchOptions::default() };
            let sent = batch_with(options, &[&b"short"[..], &[], &long]);
            assert_eq!(append(&mut peer, "orders", 0, sent.clone()).await, base);
            let stored = records_of(&fetch(&mut peer, "orders", 0, base).await);
            let (stored, rest) = RecordBatch::parse(&stored).expect("a whole batch");
            assert!(rest.is_empty());
            // Offset and leader epoch are the leader's; the checksum and what it covers are not.
            assert_eq!((stored.base_offset().0, stored.leader_epoch().0), (base, 0));
            assert_eq!(stored.as_bytes()[16..], sent[16..], "{codec}");
            assert_eq!(stored.payload(), &sent[HEADER_BYTES..]);
        }
        let all = values(&read_all(&mut peer, "orders", 0, 0).await);
        assert_eq!(all.len(), 15);
        assert!(all.iter().map(|(offset, _)| *offset).eq(0..15));
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn a_batch_that_is_sent_again_is_stored_once() {
    let done = block_on(async {
        let scratch = Scratch::new("duplicates");
        let node = start(scratch.path(), &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, "orders", 1, &[]).await;
        let batches: Vec<Vec<u8>> =
            (0..5).map(|i| idempotent(0, i * 2, &[format!("{i}a"), format!("{i}b")])).collect();
        for (batch, base) in batches.iter().zip((0..).step_by(2)) {
            assert_eq!(append(&mut peer, "orders", 0, batch.clone()).await, base);
        }
        // The last five may come again, each gets the offset that it has.
        for (batch, base) in batches.iter().zip((0..).step_by(2)) {
            assert_eq!(append(&mut peer, "orders", 0, batch.clone()).await, base);
        }
        let gap = produce(&mut peer, "orders", 0, idempotent(0, 11, &["gap"])).await;
        assert_eq!(ErrorCode(gap.error_code), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        assert_eq!(append(&mut peer, "orders", 0, idempotent(0, 10, &["5a"])).await, 10);
        assert_eq!(values(&read_all(&mut peer, "orders", 0, 0).await).len(), 11);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn with_acks_0_nothing_is_answered() {
    let done = block_on(async {
        let scratch = Scratch::new("acks-0");
        let node = start(scratch.path(), &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, "orders", 1, &[]).await;
        for i in 0..10 {
            let request = produce_request("orders", 0, 0, batch(&[format!("{i}")]));
            let _never = peer.begin(9, &request).await;
        }
        // The next answer is that of the next request.
        peer.ask(0, &ApiVersionsRequest::default()).await;
        // What is acknowledged has all before it on the disk too, where consumers see it.
        assert_eq!(append(&mut peer, "orders", 0, batch(&["10"])).await, 10);
        let stored = values(&read_all(&mut peer, "orders", 0, 0).await);
        let expected: Vec<_> = (0..11).map(|i| (i, format!("{i}").into_bytes())).collect();
        assert_eq!(stored, expected);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn requests_that_follow_each_other_are_answered_in_order() {
    let done = block_on(async {
        let scratch = Scratch::new("pipelined");
        let node = start(scratch.path(), &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, "orders", 2, &[]).await;
        let mut asked = Vec::new();
        for i in 0..200 {
            let acks = if i % 3 == 0 { -1 } else { 1 };
            let records = batch(&[vec![b'x'; 100 * (i % 50)]]);
            let request = produce_request("orders", (i % 2) as i32, acks, records);
            asked.push(peer.begin(9, &request).await);
        }
        for (i, asked) in asked.into_iter().enumerate() {
            let response = peer.finish::<ProduceRequest<'_>>(asked).await;
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!(ErrorCode(partition.error_code), ErrorCode::NONE);
            assert_eq!((partition.index, partition.base_offset), ((i % 2) as i32, (i / 2) as i64));
        }
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

#[test]
fn an_id_that_a_log_remembers_is_given_to_nobody() {
    let done = block_on(async {
        let scratch = Scratch::new("remembered");
        let node = start(scratch.path(), &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        create_topic(&mut peer, "orders", 1, &[]).await;
        // As a partition has it that was brought from another cluster.
        append(&mut peer, "orders", 0, idempotent(0, 0, &["theirs"])).await;
        let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
        let mut given = Vec::new();
        for _ in 0..10 {
            given.push(peer.ask(4, &request).await.producer_id);
        }
        assert_eq!(given, [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}
