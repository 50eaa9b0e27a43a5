//! Looking for a time, held against a list of all records.

use ottla_log::{Log, Opening, TimestampedOffset};
use ottla_record::{BatchOptions, Codec, Offset, Timestamp};
use proptest::prelude::*;
use std::sync::Arc;

use crate::{Machine, NOW, UNKNOWN, append, batch_with};

/// What a test appends: the records' timestamps after [`NOW`], or −1 for none.
#[derive(Clone, Debug)]
struct Batch {
    timestamps: Vec<i64>,
    log_append_time: Option<i64>,
    is_compressed: bool,
}

impl Batch {
    fn bytes(&self) -> Vec<u8> {
        let options = BatchOptions {
            log_append_time: self.log_append_time.map(Timestamp),
            codec: if self.is_compressed { Codec::Lz4 } else { Codec::None },
            ..BatchOptions::default()
        };
        batch_with(options, &self.timestamps, 20)
    }

    /// The timestamps that a reader sees.
    fn seen(&self) -> Vec<i64> {
        match self.log_append_time {
            Some(time) => vec![time; self.timestamps.len()],
            None => self.timestamps.clone(),
        }
    }
}

/// Few different times, so that many are equal and many go back.
fn time() -> impl Strategy<Value = i64> {
    prop_oneof![8 => (0..40i64).prop_map(|n| NOW + 10 * n), 1 => Just(-1)]
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let batch = (
        prop::collection::vec(time(), 1..6),
        prop::option::weighted(0.3, (0..40i64).prop_map(|n| NOW + 10 * n)),
        any::<bool>(),
    );
    let batch = batch.prop_map(|(timestamps, log_append_time, is_compressed)| Batch {
        timestamps,
        log_append_time,
        is_compressed,
    });
    prop::collection::vec(batch, 1..60)
}

fn check(log: &Arc<Log>, records: &[i64]) {
    let start = log.log_start_offset().0 as usize;
    let found = |offset: usize| TimestampedOffset {
        timestamp: Timestamp(records[offset]),
        offset: Offset(offset as i64),
    };
    for time in (-2..42).map(|n| NOW + 10 * n - 3).chain((0..40).map(|n| NOW + 10 * n)).chain([0]) {
        let expected = (start..records.len()).find(|&at| records[at] >= time).map(found);
        assert_eq!(log.offset_for_timestamp(Timestamp(time)).unwrap(), expected, "at {time}");
    }
    let max = records[start..].iter().max().copied().filter(|&max| max >= 0);
    let expected = max.and_then(|max| (start..records.len()).find(|&at| records[at] == max));
    assert_eq!(log.offset_of_max_timestamp().unwrap(), expected.map(found));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_first_record_at_or_after_a_time_is_found(
        batches in batches(),
        deleted in 0.0..1.0f64,
        interval in prop_oneof![Just("0"), Just("150"), Just("4096")],
    ) {
        let overrides = [("segment.bytes", "900"), ("index.interval.bytes", interval)];
        let machine = Machine::new(&overrides);
        let log = machine.open_clean();
        let mut records = Vec::new();
        for batch in &batches {
            append(&log, &batch.bytes());
            records.extend(batch.seen());
        }
        check(&log, &records);
        let deleted = Offset((deleted * records.len() as f64) as i64);
        assert_eq!(log.advance_log_start_offset(deleted), deleted);
        check(&log, &records);
        log.delete_old_segments(log.end().offset).unwrap();
        check(&log, &records);
        log.close().unwrap();
        for clean in [true, false] {
            let opening = Opening { clean, log_start_offset: deleted, ..UNKNOWN };
            check(&machine.open(opening).unwrap(), &records);
        }
    }
}

#[test]
fn an_empty_log_has_no_times() {
    let log = Machine::new(&[]).open_clean();
    assert_eq!(log.offset_for_timestamp(Timestamp(0)).unwrap(), None);
    assert_eq!(log.offset_of_max_timestamp().unwrap(), None);
}
