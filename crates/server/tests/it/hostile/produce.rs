//! Records that a broker must not store as they are.

use ottla_protocol::messages::ProduceRequest;
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::{ErrorCode, Records};
use ottla_record::{
    BatchBuilder, BatchOptions, Codec, HEADER_BYTES, ProducerEpoch, ProducerId, Sequence,
    Timestamp, Uuid, crc32c,
};
use ottla_runtime::World;

use super::case::{Case, Gets, Sent};
use super::stage::{
    COMPACTED, NARROW, NARROW_BYTES, PUNCTUAL, SEGMENT_BYTES, SEGMENTED, Stage, TARGET,
};
use crate::client::{batch, batch_with, produce_request};

/// Places in the header of a batch.
mod at {
    pub(super) const BASE_OFFSET: usize = 0;
    pub(super) const LENGTH: usize = 8;
    pub(super) const MAGIC: usize = 16;
    pub(super) const CRC: usize = 17;
    pub(super) const ATTRIBUTES: usize = 21;
    pub(super) const LAST_OFFSET_DELTA: usize = 23;
    pub(super) const COUNT: usize = 57;
}

const UNEXPECTED: &str = "the code of an unexpected exception, which tells a producer nothing";

const CODEC: u8 = 0b0111;
const LOG_APPEND_TIME: u8 = 0b1000;

pub(super) fn cases(stage: &Stage) -> Vec<Case> {
    let mut cases = wrong_places(stage);
    cases.extend(wrong_framing());
    cases.extend(wrong_headers());
    cases.extend(wrong_records());
    cases.extend(compressed());
    cases.extend(producers());
    cases
}

fn refused(name: &'static str, records: Vec<u8>, code: ErrorCode) -> Case {
    refused_by(TARGET, name, records, code)
}

fn refused_by(topic: &str, name: &'static str, records: Vec<u8>, code: ErrorCode) -> Case {
    Case::new(name, Sent::request(9, &produce_request(topic, 0, 1, records)), code)
}

fn wrong_places(stage: &Stage) -> Vec<Case> {
    let to = |topic, partition| {
        Sent::request(9, &produce_request(topic, partition, 1, batch(&["lost"])))
    };
    let by_id = |id| Sent::request(13, &request_by_id(id));
    let with_acks = |acks| Sent::request(9, &produce_request(TARGET, 0, acks, batch(&["lost"])));
    vec![
        Case::new(
            "a topic that is not there",
            to("nowhere", 0),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ),
        Case::new("a topic with no name", to("", 0), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        Case::new("partition −1", to(TARGET, -1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        Case::new("partition 1 of 1", to(TARGET, 1), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        Case::new("partition 2³¹−1", to(TARGET, i32::MAX), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        Case::new(
            "a topic id that no topic has",
            by_id(Uuid([7; 16])),
            ErrorCode::UNKNOWN_TOPIC_ID,
        ),
        Case::new("no topic id", by_id(Uuid::ZERO), ErrorCode::UNKNOWN_TOPIC_ID),
        Case::new("the topic's id", by_id(stage.target_id), ErrorCode::NONE),
        Case::new("acks=2", with_acks(2), ErrorCode::INVALID_REQUIRED_ACKS),
        Case::new("acks=−2", with_acks(-2), ErrorCode::INVALID_REQUIRED_ACKS),
    ]
}

fn request_by_id(topic_id: Uuid) -> ProduceRequest<'static> {
    let records = Some(Records::from(batch(&["by id"])));
    let partition_data = vec![PartitionProduceData { index: 0, records }];
    let topic = TopicProduceData { topic_id, partition_data, ..Default::default() };
    ProduceRequest { acks: 1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() }
}

fn wrong_framing() -> Vec<Case> {
    let good = batch(&["lost"]);
    let two = [&good[..], &good].concat();
    let null = PartitionProduceData { index: 0, records: None };
    let topic =
        TopicProduceData { name: TARGET.into(), partition_data: vec![null], ..Default::default() };
    let null = ProduceRequest { acks: 1, topic_data: vec![topic], ..Default::default() };
    let short = with(&good, at::LENGTH, &40_i32.to_be_bytes());
    let trailing = [&good[..], &[0; 5]].concat();
    let with_magic = |magic: u8| with(&good, at::MAGIC, &[magic]);
    vec![
        Case::new("null for the records", Sent::request(9, &null), ErrorCode::INVALID_RECORD)
            .but_kafka(Gets::Silence, "the handler fails before it answers"),
        refused("no batch", Vec::new(), ErrorCode::INVALID_RECORD),
        refused("5 bytes of a batch", good[..5].to_vec(), ErrorCode::INVALID_RECORD),
        refused("half a batch", good[..good.len() / 2].to_vec(), ErrorCode::INVALID_RECORD),
        refused("two batches", two, ErrorCode::INVALID_RECORD),
        refused("a batch and 5 bytes", trailing, ErrorCode::INVALID_RECORD)
            .but_kafka(ErrorCode::NONE, "the bytes are cut off there"),
        refused("a batch whose length is less than its header", short, ErrorCode::CORRUPT_MESSAGE),
        refused(
            "a batch of length −1",
            with(&good, at::LENGTH, &(-1_i32).to_be_bytes()),
            ErrorCode::CORRUPT_MESSAGE,
        ),
        refused(
            "a batch of length 2³¹−1",
            with(&good, at::LENGTH, &i32::MAX.to_be_bytes()),
            ErrorCode::INVALID_RECORD,
        )
        .but_kafka(ErrorCode::UNKNOWN_SERVER_ERROR, UNEXPECTED),
        refused("magic 0", with_magic(0), ErrorCode::INVALID_RECORD),
        refused("magic 1", with_magic(1), ErrorCode::INVALID_RECORD),
        refused("magic 3", with_magic(3), ErrorCode::CORRUPT_MESSAGE),
        refused("magic −1", with_magic(0xff), ErrorCode::CORRUPT_MESSAGE),
    ]
}

fn wrong_headers() -> Vec<Case> {
    let good = batch(&["lost"]);
    let sealed = |place, bytes: &[u8]| seal(with(&good, place, bytes));
    let flagged = |flags: u8| {
        let attributes = [good[at::ATTRIBUTES], good[at::ATTRIBUTES + 1] | flags];
        sealed(at::ATTRIBUTES, &attributes)
    };
    let control = BatchOptions { is_control: true, ..BatchOptions::default() };
    let counted = |count: i32| sealed(at::COUNT, &count.to_be_bytes());
    let last_delta = |delta: i32| sealed(at::LAST_OFFSET_DELTA, &delta.to_be_bytes());
    let mut cases = vec![
        refused(
            "a wrong checksum",
            with(&good, at::CRC, &[0xde, 0xad, 0xbe, 0xef]),
            ErrorCode::CORRUPT_MESSAGE,
        ),
        refused(
            "base offset 5",
            with(&good, at::BASE_OFFSET, &5_i64.to_be_bytes()),
            ErrorCode::INVALID_RECORD,
        ),
        refused(
            "base offset −1",
            with(&good, at::BASE_OFFSET, &(-1_i64).to_be_bytes()),
            ErrorCode::INVALID_RECORD,
        ),
        refused("2 records counted, 1 there", counted(2), ErrorCode::INVALID_RECORD),
        refused("0 records counted", counted(0), ErrorCode::INVALID_RECORD),
        refused("−1 records counted", counted(-1), ErrorCode::INVALID_RECORD),
        refused("2³¹−1 records counted", counted(i32::MAX), ErrorCode::INVALID_RECORD),
        refused("last offset delta −1", last_delta(-1), ErrorCode::INVALID_RECORD),
        refused("last offset delta 2³¹−1", last_delta(i32::MAX), ErrorCode::INVALID_RECORD),
        refused("a header and no record", header_only(), ErrorCode::INVALID_RECORD),
        refused("a control batch", batch_with(control, &["lost"]), ErrorCode::INVALID_RECORD),
        refused("append time", flagged(LOG_APPEND_TIME), ErrorCode::INVALID_TIMESTAMP)
            .but_kafka(ErrorCode::NONE, "in a batch that is not compressed it is overlooked there"),
        refused_by(
            NARROW,
            "a batch over `max.message.bytes`",
            batch(&[vec![0; NARROW_BYTES]]),
            ErrorCode::MESSAGE_TOO_LARGE,
        ),
        refused_by(
            SEGMENTED,
            "a batch over `segment.bytes`",
            batch(&[vec![0; SEGMENT_BYTES]]),
            ErrorCode::RECORD_LIST_TOO_LARGE,
        ),
    ];
    for (name, codec) in [("codec 5", 5), ("codec 6", 6), ("codec 7", 7)] {
        let case = refused(name, flagged(codec & CODEC), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
        cases.push(case.but_kafka(ErrorCode::UNKNOWN_SERVER_ERROR, UNEXPECTED));
    }
    cases
}

fn wrong_records() -> Vec<Case> {
    let now = World::system().clock.wall_ms();
    let hour = 3_600_000;
    let at = |ms: i64| {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(Timestamp(ms), Some(b"key"), Some(b"lost"), &[]);
        builder.build()
    };
    let keyless = |codec| {
        let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
        builder.append(Timestamp(now), None, Some(b"lost"), &[]);
        builder.build()
    };
    let two = batch(&["a", "b"]);
    let cut = seal(with(&two[..two.len() - 3], at::LENGTH, &(two.len() as i32 - 15).to_be_bytes()));
    let mut inflated = two.clone();
    inflated[HEADER_BYTES] = 0x7e;
    let mut endless = two.clone();
    endless[HEADER_BYTES..HEADER_BYTES + 12].fill(0xff);
    vec![
        refused("a record that ends before its length", cut, ErrorCode::INVALID_RECORD),
        refused("a record longer than its batch", seal(inflated), ErrorCode::INVALID_RECORD),
        refused("a record's length that is no varint", seal(endless), ErrorCode::INVALID_RECORD)
            .but_kafka(ErrorCode::UNKNOWN_SERVER_ERROR, UNEXPECTED),
        refused(
            "a timestamp of two hours from now",
            at(now + 2 * hour),
            ErrorCode::INVALID_TIMESTAMP,
        ),
        refused("the last timestamp there is", at(i64::MAX), ErrorCode::INVALID_TIMESTAMP),
        refused_by(
            PUNCTUAL,
            "a timestamp before `message.timestamp.before.max.ms`",
            at(now - hour),
            ErrorCode::INVALID_TIMESTAMP,
        ),
        refused_by(
            PUNCTUAL,
            "a timestamp after `message.timestamp.after.max.ms`",
            at(now + hour),
            ErrorCode::INVALID_TIMESTAMP,
        ),
        refused_by(
            PUNCTUAL,
            "the first timestamp there is",
            at(i64::MIN),
            ErrorCode::INVALID_TIMESTAMP,
        ),
        refused_by(PUNCTUAL, "no timestamp", at(-1), ErrorCode::NONE),
        refused_by(
            COMPACTED,
            "no key, for a compacted topic",
            keyless(Codec::None),
            ErrorCode::INVALID_RECORD,
        ),
        refused_by(
            COMPACTED,
            "no key in a compressed batch, for a compacted topic",
            keyless(Codec::Zstd),
            ErrorCode::INVALID_RECORD,
        ),
    ]
}

fn compressed() -> Vec<Case> {
    let zstd = BatchOptions { codec: Codec::Zstd, ..BatchOptions::default() };
    let early = Sent::request(6, &produce_request(TARGET, 0, 1, batch_with(zstd, &["lost"])));
    let why = "here a compressed batch is unpacked only where a rule of the topic asks for it";
    vec![
        Case::new("zstd before version 7", early, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        refused("a payload that cannot be unpacked", garbage_payload(), ErrorCode::NONE)
            .but_kafka(ErrorCode::UNKNOWN_SERVER_ERROR, why),
        refused_by(
            COMPACTED,
            "a payload that cannot be unpacked, for a compacted topic",
            garbage_payload(),
            ErrorCode::INVALID_RECORD,
        )
        .but_kafka(ErrorCode::UNKNOWN_SERVER_ERROR, UNEXPECTED),
        refused_by(
            COMPACTED,
            "300 MiB of zeros in 10 KiB of zstd",
            zstd_bomb(&[]),
            ErrorCode::INVALID_RECORD,
        ),
        refused_by(
            COMPACTED,
            "one record of 200 MiB in 7 KiB of zstd",
            record_bomb(),
            ErrorCode::INVALID_RECORD,
        ),
    ]
}

fn producers() -> Vec<Case> {
    let from = |id: i64, epoch: i16, sequence: i32| BatchOptions {
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
        ..BatchOptions::default()
    };
    let request =
        |options| Sent::request(9, &produce_request(TARGET, 0, 1, batch_with(options, &["x"])));
    let transactional = BatchOptions { is_transactional: true, ..from(90, 0, 0) };
    vec![
        Case::new(
            "a producer id and no sequence",
            request(from(80, 0, -1)),
            ErrorCode::INVALID_RECORD,
        ),
        Case::new(
            "a producer id and no epoch",
            request(from(81, -1, 0)),
            ErrorCode::INVALID_RECORD,
        )
        .but_kafka(ErrorCode::NONE, "there −1 is an epoch like any other"),
        Case::new(
            "a producer that nobody knows, at sequence 7",
            request(from(82, 0, 7)),
            ErrorCode::NONE,
        ),
        Case::new(
            "sequence 5 after 0",
            request(from(83, 0, 5)),
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        )
        .after(request(from(83, 0, 0))),
        Case::new("epoch 0 after 1", request(from(84, 0, 1)), ErrorCode::INVALID_PRODUCER_EPOCH)
            .after(request(from(84, 1, 0))),
        Case::new(
            "a new epoch that does not begin at 0",
            request(from(85, 1, 1)),
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        )
        .after(request(from(85, 0, 0))),
        Case::new(
            "a transactional batch without `transactional.id`",
            request(transactional),
            ErrorCode::INVALID_TXN_STATE,
        )
        .but_kafka(
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "here no transaction is served, with or without it",
        ),
    ]
}

/// The batch with other bytes at `place`; the checksum stays.
fn with(batch: &[u8], place: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = batch.to_vec();
    batch[place..place + bytes.len()].copy_from_slice(bytes);
    batch
}

/// The batch with the checksum and the length of its bytes.
fn seal(mut batch: Vec<u8>) -> Vec<u8> {
    let length = i32::try_from(batch.len() - 12).expect("fits");
    batch[at::LENGTH..at::MAGIC - 4].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&batch[at::ATTRIBUTES..]);
    batch[at::CRC..at::ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn header_only() -> Vec<u8> {
    seal(batch(&["lost"])[..HEADER_BYTES].to_vec())
}

/// A batch that claims to hold one record, as `payload` packed by `codec`.
fn packed(codec: Codec, payload: &[u8]) -> Vec<u8> {
    let mut batch = batch_with(BatchOptions { codec, ..BatchOptions::default() }, &["x"]);
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(payload);
    seal(batch)
}

/// A batch with a right checksum over what no gzip made.
pub(super) fn garbage_payload() -> Vec<u8> {
    packed(Codec::Gzip, &[0xba; 100])
}

/// Zeros behind `start`: a frame of zstd whose blocks each say "128 KiB of the same byte".
fn zstd_bomb(start: &[u8]) -> Vec<u8> {
    const BLOCK: u32 = 128 * 1024;
    const BLOCKS: u32 = 2400;
    let block = |size: u32, kind: u32, last: u32| (size << 3 | kind << 1 | last).to_le_bytes();
    // Magic; a frame of unknown size; a window of 128 KiB.
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    zstd.extend_from_slice(&block(start.len() as u32, 0, 0)[..3]);
    zstd.extend_from_slice(start);
    for left in (0..BLOCKS).rev() {
        zstd.extend_from_slice(&block(BLOCK, 1, u32::from(left == 0))[..3]);
        zstd.push(0);
    }
    packed(Codec::Zstd, &zstd)
}

/// One record whose value is longer than what follows of it.
fn record_bomb() -> Vec<u8> {
    // Length, attributes, two deltas, a key of one byte, a value of 200 MiB.
    let mut record = Vec::new();
    put_varint(&mut record, 200 * 1024 * 1024 + 20);
    record.extend_from_slice(&[0, 0, 0, 2, b'k']);
    put_varint(&mut record, 200 * 1024 * 1024);
    zstd_bomb(&record)
}

fn put_varint(out: &mut Vec<u8>, value: u32) {
    let mut zigzag = value << 1;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}
