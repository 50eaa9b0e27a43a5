//! Batches that compaction took records from.
//!
//! Owns: what of a batch stays as it was when records leave it. Offsets and sequences that were
//! given away stay given away: base offset, last offset delta, producer and leader epoch are those
//! of the original (KIP-98, KIP-101). Must not know: which records may leave.

use crate::batch::{HEADER_BYTES, LOG_OVERHEAD, at};
use crate::builder::{compressed, put, put_record, seal};
use crate::{Attributes, Codec, Record, RecordBatch, Timestamp, TimestampType};

impl RecordBatch<'_> {
    /// The batch with `records` alone, which are some of its own in their order, under the codec
    /// that it has. With `delete_horizon` it is the batch from which tombstones may be dropped from
    /// then on (KIP-534); without, it has the horizon that it had, if any.
    ///
    /// `None` if it outgrows the 2³¹−1 bytes of its format, which deltas to a far horizon may bring
    /// about.
    #[must_use]
    pub fn with_records<'r>(
        &self,
        records: impl IntoIterator<Item = Record<'r>>,
        delete_horizon: Option<Timestamp>,
    ) -> Option<Vec<u8>> {
        let attributes = self.attributes();
        let kept_horizon = attributes.has_delete_horizon().then(|| self.base_timestamp());
        let horizon = delete_horizon.or(kept_horizon);
        let mut base_timestamp = horizon;
        let (mut bytes, mut count, mut max_timestamp) = (vec![0; HEADER_BYTES], 0, Timestamp::NONE);
        for record in records {
            let base = *base_timestamp.get_or_insert(record.timestamp);
            let delta = record.timestamp.0.wrapping_sub(base.0);
            let (key, value, headers) = (record.key, record.value, record.headers);
            put_record(&mut bytes, delta, record.offset_delta, key, value, headers);
            max_timestamp = max_timestamp.max(record.timestamp);
            count += 1;
            if bytes.len() > i32::MAX as usize {
                return None;
            }
        }
        let codec = attributes.codec().unwrap_or_default();
        if codec != Codec::None {
            bytes = compressed(codec, None, &bytes[HEADER_BYTES..]);
        }
        if bytes.len() > i32::MAX as usize {
            return None;
        }
        bytes[..HEADER_BYTES].copy_from_slice(self.header().as_bytes());
        let flag = if horizon.is_some() { Attributes::DELETE_HORIZON } else { 0 };
        put(&mut bytes, at::ATTRIBUTES, (attributes.0 | flag).to_be_bytes());
        let base_timestamp = base_timestamp.unwrap_or(Timestamp::NONE);
        put(&mut bytes, at::BASE_TIMESTAMP, base_timestamp.0.to_be_bytes());
        if attributes.timestamp_type() == TimestampType::CreateTime {
            put(&mut bytes, at::MAX_TIMESTAMP, max_timestamp.0.to_be_bytes());
        }
        put(&mut bytes, at::COUNT, i32::to_be_bytes(count));
        seal(&mut bytes);
        Some(bytes)
    }

    /// The batch without any record: a header that keeps its offsets and its producer's sequences.
    #[must_use]
    pub fn without_records(&self) -> [u8; HEADER_BYTES] {
        let kept = Attributes::LOG_APPEND_TIME | Attributes::TRANSACTIONAL | Attributes::CONTROL;
        let mut bytes = *self.header().as_bytes();
        put(&mut bytes, at::LENGTH, ((HEADER_BYTES - LOG_OVERHEAD) as i32).to_be_bytes());
        put(&mut bytes, at::ATTRIBUTES, (self.attributes().0 & kept).to_be_bytes());
        put(&mut bytes, at::BASE_TIMESTAMP, Timestamp::NONE.0.to_be_bytes());
        put(&mut bytes, at::COUNT, 0i32.to_be_bytes());
        seal(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        BatchBuilder, BatchOptions, Header, LeaderEpoch, Offset, ProducerEpoch, ProducerId,
        Sequence,
    };

    const LIMIT: usize = 1 << 20;

    fn options(codec: Codec) -> BatchOptions {
        BatchOptions {
            base_offset: Offset(1000),
            leader_epoch: LeaderEpoch(7),
            codec,
            producer_id: ProducerId(42),
            producer_epoch: ProducerEpoch(3),
            base_sequence: Sequence(i32::MAX - 1),
            is_transactional: true,
            ..BatchOptions::default()
        }
    }

    /// Five records with the timestamps 100, 90, 120, 110, 105; the fourth is a tombstone.
    fn five(options: BatchOptions) -> Vec<u8> {
        let mut builder = BatchBuilder::new(options);
        let header = [Header::new("h", Some(b"x")), Header::new("h", None)];
        for (n, ms) in [100, 90, 120, 110, 105].into_iter().enumerate() {
            let (key, value) = (format!("key {n}"), format!("value {n}"));
            let value = (n != 3).then_some(value.as_bytes());
            builder.append(Timestamp(ms), Some(key.as_bytes()), value, &header[..n % 3]);
        }
        builder.build()
    }

    /// Everything of a record but where it lies.
    type Seen = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

    fn records(batch: &RecordBatch<'_>) -> Vec<Seen> {
        let mut seen = Vec::new();
        batch
            .visit_records(LIMIT, |r| {
                let (key, value) = (r.key.map(Vec::from), r.value.map(Vec::from));
                seen.push((r.offset.0, r.timestamp.0, key, value, r.headers.count()));
            })
            .expect("whole records");
        seen
    }

    /// The batch with those records whose numbers are given.
    fn keep(batch: &RecordBatch<'_>, kept: &[i32], horizon: Option<Timestamp>) -> Vec<u8> {
        let mut unpacked = Vec::new();
        let records = batch.records(&mut unpacked, LIMIT).expect("records").map(Result::unwrap);
        batch
            .with_records(records.filter(|r| kept.contains(&r.offset_delta)), horizon)
            .expect("a small batch")
    }

    #[test]
    fn what_stays_is_as_it_was_under_every_codec() {
        for codec in Codec::ALL {
            let bytes = five(options(codec));
            let (whole, _) = RecordBatch::parse(&bytes).unwrap();
            let all = records(&whole);
            for kept in [&[0, 1, 2, 3, 4][..], &[1, 3], &[4], &[2]] {
                for horizon in [None, Some(Timestamp(9_000_000_000))] {
                    let bytes = keep(&whole, kept, horizon);
                    let (batch, rest) = RecordBatch::parse(&bytes).unwrap();
                    assert!(rest.is_empty() && batch.verify_crc().is_ok());
                    let expected: Vec<_> = kept.iter().map(|&n| all[n as usize].clone()).collect();
                    assert_eq!(records(&batch), expected, "{codec} {kept:?} {horizon:?}");
                    assert_eq!(batch.count() as usize, kept.len());
                    let times = expected.iter().map(|record| record.1);
                    assert_eq!(Some(batch.max_timestamp().0), times.clone().max());
                    let base = horizon.map_or(expected[0].1, |horizon| horizon.0);
                    assert_eq!(batch.base_timestamp().0, base);
                    assert_eq!(batch.attributes().has_delete_horizon(), horizon.is_some());
                    assert_eq!(batch.attributes().codec(), Some(codec));
                    check_identity(&batch, &whole);
                }
            }
        }
    }

    #[track_caller]
    fn check_identity(batch: &RecordBatch<'_>, whole: &RecordBatch<'_>) {
        let identity = |b: &RecordBatch<'_>| {
            let producer = (b.producer_id(), b.producer_epoch(), b.base_sequence());
            let place = (b.base_offset(), b.last_offset(), b.last_sequence(), b.leader_epoch());
            (place, producer, b.attributes().is_transactional(), b.attributes().timestamp_type())
        };
        assert_eq!(identity(batch), identity(whole));
    }

    #[test]
    fn a_horizon_once_set_stays() {
        let bytes = five(options(Codec::Zstd));
        let (whole, _) = RecordBatch::parse(&bytes).unwrap();
        let first = keep(&whole, &[1, 2, 3], Some(Timestamp(5_000)));
        let (first, _) = RecordBatch::parse(&first).unwrap();
        let second = keep(&first, &[1, 3], None);
        let (second, _) = RecordBatch::parse(&second).unwrap();
        assert!(second.attributes().has_delete_horizon());
        assert_eq!(second.base_timestamp(), Timestamp(5_000));
        assert_eq!(records(&second).iter().map(|r| r.1).collect::<Vec<_>>(), [90, 110]);
    }

    #[test]
    fn an_append_time_is_that_of_the_whole_batch() {
        let log_append_time = Some(Timestamp(777));
        let bytes = five(BatchOptions { log_append_time, ..options(Codec::None) });
        let (whole, _) = RecordBatch::parse(&bytes).unwrap();
        for horizon in [None, Some(Timestamp(900))] {
            let bytes = keep(&whole, &[3], horizon);
            let (batch, _) = RecordBatch::parse(&bytes).unwrap();
            assert_eq!(batch.max_timestamp(), Timestamp(777));
            assert_eq!(records(&batch)[0].1, 777);
            check_identity(&batch, &whole);
        }
    }

    #[test]
    fn a_batch_without_records_is_a_header_that_keeps_its_place() {
        for codec in Codec::ALL {
            let bytes = five(options(codec));
            let (whole, _) = RecordBatch::parse(&bytes).unwrap();
            let tombstones = keep(&whole, &[3], Some(Timestamp(5_000)));
            for source in [whole, RecordBatch::parse(&tombstones).unwrap().0] {
                let bytes = source.without_records();
                let (batch, _) = RecordBatch::parse(&bytes).unwrap();
                batch.verify_crc().unwrap();
                assert_eq!(records(&batch), []);
                assert_eq!(batch.attributes().codec(), Some(Codec::None));
                assert_eq!(batch.base_timestamp(), Timestamp::NONE);
                assert!(!batch.attributes().has_delete_horizon());
                assert_eq!(batch.max_timestamp(), source.max_timestamp());
                check_identity(&batch, &whole);
            }
        }
    }
}
