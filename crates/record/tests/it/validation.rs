//! What a leader accepts of a client, and how it says no.

use ottla_record::{
    BatchError, BatchOptions, Codec, Depth, EndTransactionMarker, InvalidBatch, LeaderEpoch,
    MAX_REJECTIONS, MalformedRecords, Offset, ProducerEpoch, ProducerId, Record, RecordFault,
    Rejection, RejectionReason, Sequence, Timestamp, TimestampPolicy, TimestampType, ValidBatch,
    ValidationOptions, validate,
};

use crate::{LIMIT, OwnedRecord, build, forge, golden, parse, records, small_batch};

const NOW: i64 = 1_700_000_100_000;

const DEFAULTS: ValidationOptions = ValidationOptions {
    max_message_bytes: 1_048_588,
    timestamps: TimestampPolicy {
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
    },
    now: Timestamp(NOW),
    key_required: false,
    depth: Depth::Records,
    max_decompressed_bytes: LIMIT,
};

const HEADER_ONLY: ValidationOptions = ValidationOptions { depth: Depth::Header, ..DEFAULTS };

/// The batch as the log would then hold it.
fn appended(valid: &ValidBatch<'_>) -> Vec<u8> {
    [valid.header(Offset(7000), LeaderEpoch(9)).as_bytes(), valid.payload()].concat()
}

#[test]
fn a_batch_is_appended_with_its_offset_and_epoch() {
    for (name, bytes) in golden::files("-v2-") {
        if name.contains("marker") || name.contains("logappend") {
            continue;
        }
        for options in [DEFAULTS, HEADER_ONLY] {
            let valid = validate(&bytes, &options).expect(&name);
            let stored = appended(&valid);
            assert_eq!(stored[16..], bytes[16..], "{name}: checksum and all it covers stay");
            let batch = parse(&stored);
            assert_eq!((batch.base_offset(), batch.leader_epoch()), (Offset(7000), LeaderEpoch(9)));
            assert_eq!(batch.max_timestamp(), valid.max_timestamp());
            batch.verify_crc().expect(&name);
        }
    }
}

#[test]
fn log_append_time_is_now_for_all_records() {
    let bytes = golden::read("java-v2-lz4.bin");
    let mut options = DEFAULTS;
    // The limits are for the producers' timestamps and do not apply.
    options.timestamps = TimestampPolicy {
        timestamp_type: TimestampType::LogAppendTime,
        before_max_ms: 0,
        after_max_ms: 0,
    };
    let valid = validate(&bytes, &options).expect("valid");
    assert_eq!(valid.max_timestamp(), Timestamp(NOW));
    assert_eq!(valid.timestamp_type(), TimestampType::LogAppendTime);
    let stored = appended(&valid);
    let batch = parse(&stored);
    batch.verify_crc().expect("checksum");
    let read = records(&batch).expect("records");
    assert_eq!(read.len(), 100);
    assert!(read.iter().all(|record| record.timestamp == NOW));
}

#[test]
fn a_wrong_maximum_is_put_right_where_records_are_read() {
    for codec in Codec::ALL {
        let forged = forge(&small_batch(codec), 35, &9_999_999i64.to_be_bytes());
        let valid = validate(&forged, &DEFAULTS).expect("valid");
        assert_eq!(valid.max_timestamp(), Timestamp(1002));
        let stored = appended(&valid);
        parse(&stored).verify_crc().expect("checksum");
        assert_eq!(parse(&stored).max_timestamp(), Timestamp(1002));
        let believed = validate(&forged, &HEADER_ONLY).expect("valid");
        assert_eq!(believed.max_timestamp(), Timestamp(9_999_999));
    }
}

#[test]
fn own_batches_are_taken_as_they_are() {
    let marker = EndTransactionMarker { committed: true, coordinator_epoch: 1 };
    let bytes = marker.batch(ProducerId(1), ProducerEpoch(2), Timestamp(NOW));
    let stored = appended(&ValidBatch::own(parse(&bytes)));
    assert_eq!(stored[16..], bytes[16..]);
    assert_eq!(parse(&stored).base_offset(), Offset(7000));
}

/// Asserts that both depths refuse the bytes for the same reason.
#[track_caller]
fn refused(bytes: &[u8], expected: InvalidBatch) {
    for options in [DEFAULTS, HEADER_ONLY] {
        assert_eq!(validate(bytes, &options), Err(expected.clone()), "{:?}", options.depth);
    }
}

#[test]
fn framing_is_one_whole_batch_of_magic_2() {
    let batch = small_batch(Codec::None);
    refused(&[], InvalidBatch::Empty);
    refused(&[0; 16], InvalidBatch::Framing(BatchError::Truncated { needed: 17, got: 16 }));
    refused(
        &[&batch[..], &batch].concat(),
        InvalidBatch::MoreThanOne { surplus_bytes: batch.len() },
    );
    refused(&[&batch[..], &[0]].concat(), InvalidBatch::MoreThanOne { surplus_bytes: 1 });
    let old = golden::read("java-v1-none.bin");
    refused(&old, InvalidBatch::Framing(BatchError::Magic { got: 1 }));
    let mut short = batch.clone();
    short[8..12].copy_from_slice(&48i32.to_be_bytes());
    refused(&short, InvalidBatch::Framing(BatchError::Length { got: 48, min: 49 }));
    short[8..12].copy_from_slice(&(-1i32).to_be_bytes());
    refused(&short, InvalidBatch::Framing(BatchError::Length { got: -1, min: 14 }));
}

#[test]
fn a_header_that_lies_is_refused() {
    let batch = small_batch(Codec::None);
    refused(&forge(&batch, 0, &1i64.to_be_bytes()), InvalidBatch::BaseOffset { got: Offset(1) });
    let mut flipped = batch.clone();
    flipped[70] ^= 1;
    assert!(matches!(validate(&flipped, &DEFAULTS), Err(InvalidBatch::Crc(_))));
    for id in 5..8 {
        refused(&forge(&batch, 22, &[id]), InvalidBatch::Codec { id });
    }
    refused(&forge(&batch, 22, &[0x20]), InvalidBatch::Control);
    refused(&forge(&batch, 22, &[0x08]), InvalidBatch::LogAppendTime);
    for (last_offset_delta, count) in
        [(2, 4), (2, 2), (3, 3), (-1, 0), (-4, -3), (i32::MAX, i32::MIN)]
    {
        let forged = forge(&batch, 23, &last_offset_delta.to_be_bytes());
        let forged = forge(&forged, 57, &count.to_be_bytes());
        refused(&forged, InvalidBatch::Count { last_offset_delta, count });
    }
}

#[test]
fn the_limit_counts_the_header() {
    let batch = small_batch(Codec::None);
    let mut options = DEFAULTS;
    options.max_message_bytes = batch.len();
    assert!(validate(&batch, &options).is_ok());
    options.max_message_bytes -= 1;
    let too_large = InvalidBatch::TooLarge { got: batch.len(), max: batch.len() - 1 };
    assert_eq!(validate(&batch, &options), Err(too_large));
}

#[test]
fn a_producer_id_comes_with_epoch_and_sequence() {
    for (id, epoch, sequence, valid) in
        [(-1, -1, -1, true), (0, 0, 0, true), (9, 0, -1, false), (9, -1, 0, false), (9, 3, 5, true)]
    {
        let (producer_id, producer_epoch, base_sequence) =
            (ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
        let options =
            BatchOptions { producer_id, producer_epoch, base_sequence, ..BatchOptions::default() };
        let record =
            OwnedRecord { offset: 0, timestamp: 1, key: None, value: None, headers: vec![] };
        let bytes = build(options, &[record]);
        if valid {
            assert!(validate(&bytes, &DEFAULTS).is_ok(), "{options:?}");
        } else {
            refused(&bytes, InvalidBatch::Producer { producer_id, producer_epoch, base_sequence });
        }
    }
}

/// Puts `payload` in the place of the records of a batch that counts three.
fn with_payload(codec: Codec, payload: &[u8]) -> Vec<u8> {
    let mut bytes = small_batch(codec)[..61].to_vec();
    ottla_record::compress(codec, None, payload, &mut bytes);
    forge(&bytes, 0, &[])
}

#[test]
fn records_that_are_not_what_the_header_says_are_refused() {
    let batch = small_batch(Codec::None);
    let payload = &batch[61..];
    let second = 1 + payload[0] as usize / 2;
    let fault = |index, fault| MalformedRecords::Record { index, fault };
    let mut swapped = payload.to_vec();
    swapped[second + 3] = 4;
    let mut long = payload.to_vec();
    long[0] = 0x7e;
    let cases: [(&[u8], MalformedRecords); 5] = [
        (&payload[..second], fault(1, RecordFault::Truncated)),
        (&payload[..payload.len() - 1], fault(2, RecordFault::Truncated)),
        (&[payload, &[0]].concat(), MalformedRecords::Surplus { count: 3 }),
        (&[1; 30], fault(0, RecordFault::Length { got: -1 })),
        (&[0xff; 30], fault(0, RecordFault::Varint)),
    ];
    for codec in Codec::ALL {
        for (payload, expected) in &cases {
            let forged = with_payload(codec, payload);
            let result = validate(&forged, &DEFAULTS);
            assert_eq!(result, Err(InvalidBatch::Records(*expected)), "{codec}");
        }
        assert!(validate(&with_payload(codec, &long), &DEFAULTS).is_err());
        let misplaced = InvalidBatch::OffsetDelta { index: 1, got: 2 };
        assert_eq!(validate(&with_payload(codec, &swapped), &DEFAULTS), Err(misplaced));
    }
}

#[test]
fn a_count_that_cannot_be_is_found_in_the_header_alone() {
    let batch = small_batch(Codec::None);
    let forged = forge(&batch, 23, &999_999i32.to_be_bytes());
    let forged = forge(&forged, 57, &1_000_000i32.to_be_bytes());
    let fault = MalformedRecords::Record { index: 3, fault: RecordFault::Truncated };
    refused(&forged, InvalidBatch::Records(fault));
}

/// A record with a key if it should have one.
fn record(offset: i64, timestamp: i64, keyed: bool) -> OwnedRecord {
    let key = keyed.then(|| vec![1]);
    OwnedRecord { offset, timestamp, key, value: Some(vec![2]), headers: vec![] }
}

#[test]
fn a_compacted_topic_needs_keys() {
    for codec in Codec::ALL {
        let options = BatchOptions { codec, ..BatchOptions::default() };
        let keyed: Vec<_> = (0..4).map(|i| record(i, NOW, true)).collect();
        let mixed: Vec<_> = (0..4).map(|i| record(i, NOW, i % 2 == 0)).collect();
        for depth in [Depth::Header, Depth::Records] {
            let compacted = ValidationOptions { key_required: true, depth, ..DEFAULTS };
            assert!(validate(&build(options, &keyed), &compacted).is_ok());
            let no_key = |index| Rejection { index, reason: RejectionReason::NoKey };
            let rejected = InvalidBatch::Rejected(vec![no_key(1), no_key(3)]);
            assert_eq!(validate(&build(options, &mixed), &compacted), Err(rejected));
        }
    }
}

#[test]
fn timestamps_keep_to_their_limits() {
    for (before_max_ms, after_max_ms, earliest, latest) in [
        (1000, 500, NOW - 1000, NOW + 500),
        (i64::MAX, 500, NOW - i64::MAX, NOW + 500),
        (1000, i64::MAX, NOW - 1000, i64::MAX),
    ] {
        let mut options = HEADER_ONLY;
        options.timestamps = TimestampPolicy {
            timestamp_type: TimestampType::CreateTime,
            before_max_ms,
            after_max_ms,
        };
        let times = [NOW - 1001, NOW - 1000, -1, NOW + 500, NOW + 501];
        let written: Vec<_> = (0..).zip(times).map(|(i, time)| record(i, time, true)).collect();
        let bytes = build(BatchOptions::default(), &written);
        let rejections: Vec<_> = (0..)
            .zip(times)
            .filter(|&(_, time)| time != -1 && (time < earliest || time > latest))
            .map(|(index, got)| Rejection {
                index,
                reason: RejectionReason::Timestamp {
                    got: Timestamp(got),
                    earliest: Timestamp(earliest),
                    latest: Timestamp(latest),
                },
            })
            .collect();
        assert!(!rejections.is_empty());
        for depth in [Depth::Header, Depth::Records] {
            let options = ValidationOptions { depth, ..options };
            assert_eq!(validate(&bytes, &options), Err(InvalidBatch::Rejected(rejections.clone())));
        }
    }
}

#[test]
fn not_more_rejections_are_named_than_promised() {
    let written: Vec<_> = (0..2000).map(|i| record(i, NOW, false)).collect();
    let options = ValidationOptions { key_required: true, ..DEFAULTS };
    match validate(&build(BatchOptions::default(), &written), &options) {
        Err(InvalidBatch::Rejected(rejections)) => assert_eq!(rejections.len(), MAX_REJECTIONS),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_may_fill_the_limit_and_no_more() {
    let value = vec![7; 100_000];
    let written =
        OwnedRecord { offset: 0, timestamp: 0, key: None, value: Some(value), headers: vec![] };
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let plain = build(BatchOptions::default(), std::slice::from_ref(&written));
        let bytes = build(
            BatchOptions { codec, ..BatchOptions::default() },
            std::slice::from_ref(&written),
        );
        let mut options = DEFAULTS;
        options.max_decompressed_bytes = plain.len() - 61;
        assert!(validate(&bytes, &options).is_ok(), "{codec}");
        options.max_decompressed_bytes -= 1;
        assert!(matches!(
            validate(&bytes, &options),
            Err(InvalidBatch::Records(MalformedRecords::Decompress(_)))
        ));
    }
    let mut largest = 0;
    let bytes = build(BatchOptions::default(), &[written]);
    let visit = |record: &Record<'_>| largest = record.value.map_or(0, <[u8]>::len);
    parse(&bytes).visit_records(LIMIT, visit).expect("records");
    assert_eq!(largest, 100_000);
}
