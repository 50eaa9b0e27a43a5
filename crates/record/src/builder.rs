//! Writing of batches with magic 2.
//!
//! Owns: the order and the width of what is written, which for an uncompressed batch is byte for
//! byte that of Kafka's own `MemoryRecordsBuilder`. Must not know: who sends a batch, and when.

use crate::batch::{HEADER_BYTES, LOG_OVERHEAD, MAGIC_V2, at};
use crate::varint::{put_varint, put_varlong, varlong_bytes};
use crate::{
    Attributes, Codec, Header, LeaderEpoch, MalformedRecords, Offset, ProducerEpoch, ProducerId,
    RecordBatch, Sequence, Timestamp, TimestampType, compress, crc32c, decompress,
};

/// What a batch is besides its records. The default is what a plain producer sends: base offset
/// 0, uncompressed, `CreateTime`, without producer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// The offset of the first record; a producer sends 0.
    pub base_offset: Offset,
    /// The epoch of the leader; a producer sends [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    /// How the payload is compressed.
    pub codec: Codec,
    /// The level of the codec, see [`compress`].
    pub level: Option<i32>,
    /// The append time of all records, whose own timestamps then no longer show; `None` is
    /// `CreateTime`.
    pub log_append_time: Option<Timestamp>,
    /// The idempotent producer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// Its epoch, or [`ProducerEpoch::NONE`].
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record, or [`Sequence::NONE`].
    pub base_sequence: Sequence,
    /// Whether the batch is part of a transaction.
    pub is_transactional: bool,
    /// Whether the records are control records.
    pub is_control: bool,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::NONE,
            codec: Codec::None,
            level: None,
            log_append_time: None,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            is_transactional: false,
            is_control: false,
        }
    }
}

impl BatchOptions {
    fn attributes(&self) -> Attributes {
        let flag = |set, bit| if set { bit } else { 0 };
        Attributes(
            flag(self.is_transactional, Attributes::TRANSACTIONAL)
                | flag(self.is_control, Attributes::CONTROL),
        )
        .with_codec(self.codec)
        .with_timestamp_type(match self.log_append_time {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        })
    }
}

/// Collects records and makes a batch of them.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the records as they are before compression.
    bytes: Vec<u8>,
    count: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// A batch without records.
    #[must_use]
    pub fn new(options: BatchOptions) -> Self {
        Self {
            options,
            bytes: vec![0; HEADER_BYTES],
            count: 0,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
        }
    }

    /// Appends a record, and returns its position in the batch: 0, 1, 2…
    ///
    /// # Panics
    /// The batch outgrows the 2³¹−1 bytes that its format can tell.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> i32 {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        let delta = timestamp.0.wrapping_sub(self.base_timestamp.0);
        let body = body_bytes(delta, self.count, key, value, headers.iter().copied());
        assert!(
            self.bytes.len() + body < i32::MAX as usize - 5,
            "record batch outgrows its format"
        );

        put_record(&mut self.bytes, delta, self.count, key, value, headers.iter().copied());
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
        self.count - 1
    }

    /// Bytes that the batch would have if the record were appended, before compression.
    #[must_use]
    pub fn size_with(
        &self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        let base = if self.count == 0 { timestamp } else { self.base_timestamp };
        let delta = timestamp.0.wrapping_sub(base.0);
        let body = body_bytes(delta, self.count, key, value, headers.iter().copied());
        self.bytes.len() + varlong_bytes(body as i64) + body
    }

    /// Bytes of the batch so far, header included, before compression.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many records there are.
    #[must_use]
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch. Without records it is a header alone, whose last offset lies before its base
    /// offset: no leader accepts that.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        let Self { options, bytes, count, base_timestamp, max_timestamp } = self;
        let mut batch = if options.codec == Codec::None {
            bytes
        } else {
            compressed(options.codec, options.level, &bytes[HEADER_BYTES..])
        };
        let max_timestamp = options.log_append_time.unwrap_or(max_timestamp);
        put(&mut batch, at::BASE_OFFSET, options.base_offset.0.to_be_bytes());
        put(&mut batch, at::LEADER_EPOCH, options.leader_epoch.0.to_be_bytes());
        put(&mut batch, at::MAGIC, MAGIC_V2.to_be_bytes());
        put(&mut batch, at::ATTRIBUTES, options.attributes().0.to_be_bytes());
        put(&mut batch, at::LAST_OFFSET_DELTA, (count - 1).to_be_bytes());
        put(&mut batch, at::BASE_TIMESTAMP, base_timestamp.0.to_be_bytes());
        put(&mut batch, at::MAX_TIMESTAMP, max_timestamp.0.to_be_bytes());
        put(&mut batch, at::PRODUCER_ID, options.producer_id.0.to_be_bytes());
        put(&mut batch, at::PRODUCER_EPOCH, options.producer_epoch.0.to_be_bytes());
        put(&mut batch, at::BASE_SEQUENCE, options.base_sequence.0.to_be_bytes());
        put(&mut batch, at::COUNT, count.to_be_bytes());
        seal(&mut batch);
        batch
    }
}

impl RecordBatch<'_> {
    /// The same batch with its payload compressed by `codec`, for a topic whose
    /// `compression.type` is not `producer`. The records themselves are not read: they are the
    /// same bytes under every codec.
    ///
    /// # Errors
    /// The payload cannot be unpacked, or is more than `limit` bytes then.
    pub fn recompress(
        &self,
        codec: Codec,
        level: Option<i32>,
        limit: usize,
    ) -> Result<Vec<u8>, MalformedRecords> {
        let id = self.attributes().codec_id();
        let source = Codec::from_id(id).ok_or(MalformedRecords::UnknownCodec { id })?;
        let mut records = Vec::new();
        decompress(source, self.payload(), limit, &mut records)?;
        let mut batch = compressed(codec, level, &records);
        batch[..HEADER_BYTES].copy_from_slice(self.header().as_bytes());
        put(&mut batch, at::ATTRIBUTES, self.attributes().with_codec(codec).0.to_be_bytes());
        seal(&mut batch);
        Ok(batch)
    }
}

/// Room for a header, then the compressed records.
pub(crate) fn compressed(codec: Codec, level: Option<i32>, records: &[u8]) -> Vec<u8> {
    let mut batch = Vec::with_capacity(HEADER_BYTES + records.len() / 2);
    batch.resize(HEADER_BYTES, 0);
    compress(codec, level, records, &mut batch);
    batch
}

/// Writes length and checksum into a batch that is otherwise complete.
pub(crate) fn seal(batch: &mut [u8]) {
    let length = i32::try_from(batch.len() - LOG_OVERHEAD).expect("a batch is less than 2 GiB");
    put(batch, at::LENGTH, length.to_be_bytes());
    let crc = crc32c(&batch[at::ATTRIBUTES..]);
    put(batch, at::CRC, crc.to_be_bytes());
}

pub(crate) fn put<const N: usize>(batch: &mut [u8], at: usize, field: [u8; N]) {
    batch[at..at + N].copy_from_slice(&field);
}

/// Appends a record.
pub(crate) fn put_record<'h>(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = Header<'h>> + Clone,
) {
    let body = body_bytes(timestamp_delta, offset_delta, key, value, headers.clone());
    put_varint(out, body as i32);
    out.push(0); // attributes: none are defined
    put_varlong(out, timestamp_delta);
    put_varint(out, offset_delta);
    put_nullable(out, key);
    put_nullable(out, value);
    put_varint(out, headers.len() as i32);
    for header in headers {
        put_nullable(out, Some(header.key));
        put_nullable(out, header.value);
    }
}

fn put_nullable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        Some(field) => {
            put_varint(out, field.len() as i32);
            out.extend_from_slice(field);
        }
        None => put_varint(out, -1),
    }
}

/// Bytes of a record behind its length.
fn body_bytes<'h>(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = Header<'h>>,
) -> usize {
    let nullable = |field: Option<&[u8]>| match field {
        Some(field) => varlong_bytes(field.len() as i64) + field.len(),
        None => 1,
    };
    let count_bytes = varlong_bytes(headers.len() as i64);
    let headers_bytes: usize =
        headers.map(|header| nullable(Some(header.key)) + nullable(header.value)).sum();
    1 + varlong_bytes(timestamp_delta)
        + varlong_bytes(i64::from(offset_delta))
        + nullable(key)
        + nullable(value)
        + count_bytes
        + headers_bytes
}
