//! Batches that other clients wrote (see `golden/README.md`).

use std::path::{Path, PathBuf};

use ottla_record::legacy::LegacyEntry;
use ottla_record::{
    BatchError, BatchOptions, Codec, ControlRecord, EndTransactionMarker, LeaderEpoch, Offset,
    PatchedHeader, ProducerEpoch, ProducerId, RecordBatch, Sequence, Timestamp,
};

use crate::{LIMIT, OwnedRecord, build, parse, records};

const TIME: i64 = 1_700_000_000_000;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    std::fs::read(directory().join(name)).expect(name)
}

/// Name and bytes of the files whose name contains `part`.
pub(crate) fn files(part: &str) -> Vec<(String, Vec<u8>)> {
    let names = std::fs::read_dir(directory()).expect("golden directory");
    let mut files: Vec<_> = names
        .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
        .filter(|name| name.ends_with(".bin") && name.contains(part))
        .map(|name| (name.clone(), read(&name)))
        .collect();
    files.sort();
    files
}

/// What the README says the files hold.
fn expected(count: i64) -> Vec<OwnedRecord> {
    (0..count)
        .map(|i| OwnedRecord {
            offset: i,
            timestamp: TIME + 37 * i - 1000 * (i % 5),
            key: (i % 7 != 0).then(|| format!("key-{i}").into_bytes()),
            value: (i % 11 != 0)
                .then(|| format!("value-{i} ").repeat(13 * i as usize % 40).into_bytes()),
            headers: match i % 3 {
                0 => vec![("trace".into(), Some(vec![i as u8, 0, 255])), (String::new(), None)],
                _ => vec![],
            },
        })
        .collect()
}

/// Asserts that two batches are the same, without a page of numbers if not.
#[track_caller]
fn assert_same(ours: &[u8], theirs: &[u8]) {
    let differs = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
    assert_eq!(differs, None, "first byte that differs");
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn batches_of_other_clients_are_read() {
    let files = files("-v2-");
    for (name, bytes) in files.iter().filter(|(name, _)| !name.contains("marker")) {
        let batch = parse(bytes);
        batch.verify_crc().expect(name);
        let codec = batch.attributes().codec().expect(name);
        assert!(name.contains(codec.name()), "{name}");
        let mut expected = expected(if name.contains("large") { 1000 } else { 100 });
        if name.contains("logappend") {
            expected.iter_mut().for_each(|record| record.timestamp = TIME);
        } else {
            let max = expected.iter().map(|record| record.timestamp).max();
            assert_eq!(Some(batch.max_timestamp().0), max, "{name}");
        }
        assert_eq!(batch.count() as usize, expected.len(), "{name}");
        assert_eq!(records(&batch).expect(name), expected, "{name}");
    }
    assert_eq!(files.len(), 18);
}

#[test]
fn uncompressed_batches_are_built_as_kafka_builds_them() {
    let kafka = BatchOptions { leader_epoch: LeaderEpoch(5), ..BatchOptions::default() };
    let records = expected(100);
    assert_same(&build(kafka, &records), &read("java-v2-none.bin"));

    let transactional = BatchOptions {
        producer_id: ProducerId(4242),
        producer_epoch: ProducerEpoch(3),
        base_sequence: Sequence(i32::MAX - 7),
        is_transactional: true,
        ..kafka
    };
    let bytes = read("java-v2-none-transactional.bin");
    assert_same(&build(transactional, &records), &bytes);
    assert_eq!(parse(&bytes).last_sequence(), Sequence(91));

    let stamped = BatchOptions { log_append_time: Some(Timestamp(TIME)), ..kafka };
    assert_same(&build(stamped, &records), &read("java-v2-none-logappend.bin"));
}

#[test]
fn markers_are_those_of_kafka() {
    for (committed, name) in
        [(false, "java-v2-marker-abort.bin"), (true, "java-v2-marker-commit.bin")]
    {
        let golden = read(name);
        let marker = EndTransactionMarker { committed, coordinator_epoch: 17 };
        let bytes = marker.batch(ProducerId(4242), ProducerEpoch(3), Timestamp(TIME));
        let batch = parse(&bytes);
        let header = PatchedHeader::new(&batch, Offset::ZERO, LeaderEpoch(5));
        assert_eq!([header.as_bytes(), batch.payload()].concat(), golden, "{name}");

        let batch = parse(&golden);
        assert!(batch.attributes().is_control() && batch.attributes().is_transactional());
        let mut unpacked = Vec::new();
        let mut records = batch.records(&mut unpacked, LIMIT).expect(name);
        let record = records.next().expect(name).expect(name);
        assert_eq!(ControlRecord::parse(&record), Ok(ControlRecord::EndTransaction(marker)));
    }
}

#[test]
fn message_sets_with_magic_0_and_1_are_read() {
    for magic in [0, 1] {
        let files = files(&format!("-v{magic}-"));
        for (name, bytes) in &files {
            let mut read = Vec::new();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                assert_eq!(RecordBatch::parse(rest), Err(BatchError::Magic { got: magic }));
                let (entry, behind) = LegacyEntry::parse(rest).expect(name);
                entry.verify_crc().expect(name);
                entry
                    .visit_records(LIMIT, |record| {
                        read.push(OwnedRecord {
                            offset: record.offset.0,
                            timestamp: record.timestamp.0,
                            key: record.key.map(<[u8]>::to_vec),
                            value: record.value.map(<[u8]>::to_vec),
                            headers: vec![],
                        });
                    })
                    .expect(name);
                rest = behind;
            }
            let mut expected = expected(100);
            for record in &mut expected {
                record.offset += 1000;
                record.headers.clear();
                match magic {
                    0 => record.timestamp = -1,
                    _ if name.contains("logappend") => record.timestamp = TIME,
                    _ => {}
                }
            }
            assert_eq!(read, expected, "{name}");
        }
        assert_eq!(files.len(), 4 + magic as usize);
    }
}

#[test]
fn recompression_keeps_all_but_the_codec() {
    let golden = read("java-v2-none-transactional.bin");
    for codec in Codec::ALL {
        let packed = parse(&golden).recompress(codec, None, LIMIT).expect("recompress");
        let batch = parse(&packed);
        batch.verify_crc().expect("checksum");
        assert_eq!(batch.attributes().codec(), Some(codec));
        assert_eq!(records(&batch), records(&parse(&golden)));
        let back = batch.recompress(Codec::None, None, LIMIT).expect("recompress");
        assert_same(&back, &golden);
    }
}
