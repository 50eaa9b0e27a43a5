//! What becomes of transactions in a compacted log.

use ottla_record::EndTransactionMarker;

use super::*;
use crate::stored;

/// Appends a batch of one record, of a transaction if there is a producer.
fn put(broker: &Broker, key: u64, value: u8, producer: Option<(i64, i32)>) -> i64 {
    let mut options = BatchOptions::default();
    if let Some((id, sequence)) = producer {
        options.producer_id = ProducerId(id);
        options.producer_epoch = ProducerEpoch(0);
        options.base_sequence = Sequence(sequence);
        options.is_transactional = true;
    }
    let mut builder = BatchBuilder::new(options);
    builder.append(Timestamp(NOW), Some(&key.to_be_bytes()), Some(&[value; 100]), &[]);
    try_append(&broker.log, &builder.build(), 0).unwrap().base_offset.0
}

fn end_transaction(broker: &Broker, producer: i64, committed: bool) {
    let marker = EndTransactionMarker { committed, coordinator_epoch: 0 };
    let batch = marker.batch(ProducerId(producer), ProducerEpoch(0), Timestamp(NOW));
    let marker = stored(&batch, broker.log.end().offset, 0);
    broker.log.append_as_follower(&marker.bytes).unwrap();
}

/// Fills segments up and compacts.
fn fill_and_clean(broker: &Broker) {
    for n in 0..20 {
        put(broker, 1000, n, None);
    }
    broker.log.flush().unwrap();
    assert!(broker.cleaner.clean_filthiest(&no_pause));
}

/// How many markers and how many aborted transactions the log has.
fn markers(broker: &Broker) -> (usize, usize) {
    let stored = contents(&broker.log);
    let is_marker = |bytes: &[u8]| {
        let (batch, _) = RecordBatch::parse(bytes).unwrap();
        batch.attributes().is_control() && batch.count() > 0
    };
    let end = broker.log.end().offset;
    let aborted = broker.log.aborted_transactions(Offset::ZERO, end).unwrap();
    (stored.iter().filter(|stored| is_marker(&stored.bytes)).count(), aborted.len())
}

#[test]
fn aborted_records_go_and_markers_follow_when_nothing_is_left_to_mark() {
    let broker = Broker::new(&[]);
    let kept = put(&broker, 1, 1, None);
    put(&broker, 1, 2, Some((7, 0)));
    end_transaction(&broker, 7, false);
    let committed = put(&broker, 2, 3, Some((8, 0)));
    end_transaction(&broker, 8, true);
    // These keep no trace of the transactions before.
    put(&broker, 3, 4, Some((7, 1)));
    end_transaction(&broker, 7, true);
    put(&broker, 3, 5, Some((8, 1)));
    end_transaction(&broker, 8, true);
    fill_and_clean(&broker);
    let found = served(&broker.log);
    let offset_of = |key| found.iter().find(|(_, r)| r.key == key).map(|(&offset, _)| offset);
    // What was aborted takes nobody's place.
    assert_eq!((offset_of(1), offset_of(2)), (Some(kept), Some(committed)));
    assert_eq!(markers(&broker), (4, 1));
    // Nothing of the aborted one is left: its marker begins to wait.
    fill_and_clean(&broker);
    assert_eq!(markers(&broker), (4, 0));
    broker.machine.clock.advance(DELETE_RETENTION_MS);
    fill_and_clean(&broker);
    assert_eq!(markers(&broker), (3, 0));
    assert_eq!(served(&broker.log).get(&committed).map(|record| record.key), Some(2));
}

#[test]
fn nothing_is_cleaned_that_an_open_transaction_may_yet_abort() {
    let broker = Broker::new(&[]);
    for n in 0..20 {
        put(&broker, 1, n, None);
    }
    let first = put(&broker, 1, 50, Some((7, 0)));
    for n in 0..40 {
        put(&broker, 1, n, None);
    }
    broker.log.flush().unwrap();
    assert!(broker.cleaner.clean_filthiest(&no_pause));
    assert!(broker.checkpoint() > 0 && broker.checkpoint() <= first);
    assert!(!broker.cleaner.clean_filthiest(&no_pause));
    end_transaction(&broker, 7, false);
    broker.log.flush().unwrap();
    assert!(broker.cleaner.clean_filthiest(&no_pause));
    assert!(broker.checkpoint() > first);
}
