//! What is built is read back, whatever it is.

use ottla_record::{
    BatchBuilder, BatchError, BatchOptions, Codec, LeaderEpoch, Offset, ProducerEpoch, ProducerId,
    RecordBatch, Sequence, Timestamp, TimestampType, batches, compress, decompress,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::{LIMIT, OwnedRecord, build, parse, records, small_batch};

fn record() -> impl Strategy<Value = OwnedRecord> {
    let field = || option::of(vec(any::<u8>(), 0..200));
    let headers = vec(("\\PC{0,12}", field()), 0..4);
    (any::<i64>(), field(), field(), headers).prop_map(|(timestamp, key, value, headers)| {
        OwnedRecord { offset: 0, timestamp, key, value, headers }
    })
}

fn options() -> impl Strategy<Value = BatchOptions> {
    let codec = prop::sample::select(Codec::ALL.to_vec());
    (
        codec,
        0..i64::MAX / 2,
        -1..i32::MAX,
        option::of(any::<i64>()),
        any::<(bool, bool)>(),
        any::<(i64, i16, i32)>(),
    )
        .prop_map(
            |(codec, offset, epoch, log_append_time, (is_transactional, is_control), producer)| {
                BatchOptions {
                    base_offset: Offset(offset),
                    leader_epoch: LeaderEpoch(epoch),
                    codec,
                    level: None,
                    log_append_time: log_append_time.map(Timestamp),
                    producer_id: ProducerId(producer.0),
                    producer_epoch: ProducerEpoch(producer.1),
                    base_sequence: Sequence(producer.2),
                    is_transactional,
                    is_control,
                }
            },
        )
}

proptest! {
    #[test]
    fn a_built_batch_is_read_back(
        options in options(),
        mut written in vec(record(), 0..40),
    ) {
        let bytes = build(options, &written);
        let batch = parse(&bytes);
        prop_assert_eq!(batch.verify_crc(), Ok(()));
        let attributes = batch.attributes();
        prop_assert_eq!(
            BatchOptions {
                base_offset: batch.base_offset(),
                leader_epoch: batch.leader_epoch(),
                codec: attributes.codec().expect("known"),
                level: None,
                log_append_time: (attributes.timestamp_type() == TimestampType::LogAppendTime)
                    .then_some(batch.max_timestamp()),
                producer_id: batch.producer_id(),
                producer_epoch: batch.producer_epoch(),
                base_sequence: batch.base_sequence(),
                is_transactional: attributes.is_transactional(),
                is_control: attributes.is_control(),
            },
            options
        );
        prop_assert_eq!(batch.count() as usize, written.len());
        prop_assert_eq!(batch.next_offset() - batch.base_offset(), written.len() as i64);
        prop_assert_eq!(batch.size_in_bytes(), bytes.len());
        let max = written.iter().map(|record| record.timestamp).max().unwrap_or(-1).max(-1);
        prop_assert_eq!(batch.max_timestamp(), options.log_append_time.unwrap_or(Timestamp(max)));
        for (record, offset) in written.iter_mut().zip(options.base_offset.0..) {
            record.offset = offset;
            record.timestamp = options.log_append_time.map_or(record.timestamp, |time| time.0);
        }
        prop_assert_eq!(records(&batch), Ok(written));
    }

    #[test]
    fn compression_is_undone_up_to_the_limit(
        codec in prop::sample::select(Codec::ALL.to_vec()),
        pattern in vec(any::<u8>(), 1..300),
        times in 0usize..1500,
    ) {
        let input = pattern.repeat(times);
        let mut packed = b"before".to_vec();
        compress(codec, None, &input, &mut packed);
        let packed = packed.strip_prefix(b"before").expect("what was there stays");
        let mut out = b"kept".to_vec();
        prop_assert_eq!(decompress(codec, packed, input.len(), &mut out), Ok(()));
        prop_assert_eq!(out.strip_prefix(b"kept"), Some(&input[..]));
        if let Some(limit) = input.len().checked_sub(1) {
            prop_assert!(decompress(codec, packed, limit, &mut Vec::new()).is_err());
        }
    }
}

#[test]
fn every_level_is_read_back() {
    let input = b"level ".repeat(2000);
    for (codec, levels) in
        [(Codec::Gzip, -1..0), (Codec::Gzip, 1..10), (Codec::Zstd, -7..23), (Codec::Lz4, 1..18)]
    {
        for level in levels {
            let (mut packed, mut out) = (Vec::new(), Vec::new());
            compress(codec, Some(level), &input, &mut packed);
            assert!(packed.len() < input.len() / 4, "{codec} {level}");
            assert_eq!(decompress(codec, &packed, LIMIT, &mut out), Ok(()));
            assert_eq!(out, input);
        }
    }
}

#[test]
fn snappy_without_framing_is_read() {
    let input = b"from an old client ".repeat(100);
    let packed = snap::raw::Encoder::new().compress_vec(&input).expect("snappy");
    let mut out = Vec::new();
    assert_eq!(decompress(Codec::Snappy, &packed, LIMIT, &mut out), Ok(()));
    assert_eq!(out, input);
}

#[test]
fn a_record_set_is_walked_to_its_torn_end() {
    let batch = small_batch(Codec::None);
    let set = [&batch[..], &batch, &batch[..70]].concat();
    let mut walk = batches(&set);
    assert_eq!(walk.next().map(|found| found.map(|found| found.as_bytes())), Some(Ok(&batch[..])));
    assert!(matches!(walk.next(), Some(Ok(_))));
    let torn = BatchError::Truncated { needed: batch.len(), got: 70 };
    assert_eq!(walk.next(), Some(Err(torn)));
    assert_eq!(walk.position(), 2 * batch.len());
    assert_eq!(walk.next(), None);
}

#[test]
fn a_batch_without_records_is_a_header() {
    let bytes = BatchBuilder::new(BatchOptions::default()).build();
    let (batch, _) = RecordBatch::parse(&bytes).expect("a batch");
    assert_eq!((batch.count(), batch.payload()), (0, &[][..]));
    assert_eq!(records(&batch), Ok(vec![]));
}
