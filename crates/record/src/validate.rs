//! What a leader demands of a record set that a client produces.
//!
//! Owns: the checks and their order, which are Kafka's (`ProduceRequest`, `UnifiedLog`,
//! `LogValidator`), and the timestamps that the batch gets. Says what is wrong and leaves it to
//! the caller which error code that is. Must not know: topics, configs, the log.

use std::fmt;

use crate::{
    BatchError, Codec, CrcMismatch, LeaderEpoch, MalformedRecords, Offset, PatchedHeader,
    ProducerEpoch, ProducerId, Record, RecordBatch, Sequence, Timestamp, TimestampType,
};

/// The most rejected records that are reported one by one.
pub const MAX_REJECTIONS: usize = 1000;

/// How far a leader looks into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Depth {
    /// Believe a header whose checksum is right, and read the records only if a demand cannot be
    /// decided without them. A client that means harm can then store a batch that no consumer
    /// can read, or whose greatest timestamp is not that of its records.
    Header,
    /// Read every record as Kafka does: each is whole, their number is the header's, their
    /// offsets are 0, 1, 2…, and the greatest timestamp is the true one. An uncompressed payload
    /// is read where it lies; another is unpacked piece by piece and not kept.
    #[default]
    Records,
}

/// The timestamps that a topic accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampPolicy {
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far before now a producer's timestamp may lie.
    /// `i64::MAX` is no limit.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far after now a producer's timestamp may lie.
    /// `i64::MAX` is no limit.
    pub after_max_ms: i64,
}

/// What [`validate`] holds a record set against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidationOptions {
    /// `max.message.bytes`: the most that a batch may take, header included.
    pub max_message_bytes: usize,
    /// The timestamps that the topic accepts.
    pub timestamps: TimestampPolicy,
    /// The time of the append.
    pub now: Timestamp,
    /// Whether each record must have a key, because `cleanup.policy` contains `compact`.
    pub key_required: bool,
    /// How far to look into the batch.
    pub depth: Depth,
    /// The most that the records of a batch may take when they are unpacked. Kafka has no such
    /// limit; here it bounds the work, and the memory that one record can cost.
    pub max_decompressed_bytes: usize,
}

/// A batch that is fit to be appended, and the timestamps that it is appended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidBatch<'a> {
    batch: RecordBatch<'a>,
    timestamp_type: TimestampType,
    max_timestamp: Timestamp,
}

impl<'a> ValidBatch<'a> {
    /// A batch that this broker built itself (a coordinator's records, a transaction's marker),
    /// and that no demand of a topic applies to.
    #[must_use]
    pub fn own(batch: RecordBatch<'a>) -> Self {
        Self {
            batch,
            timestamp_type: batch.attributes().timestamp_type(),
            max_timestamp: batch.max_timestamp(),
        }
    }

    /// The batch as it came, whose base offset is 0 and whose timestamps are the producer's.
    #[must_use]
    pub fn batch(&self) -> &RecordBatch<'a> {
        &self.batch
    }

    /// Whose clock the timestamps are from once the batch is appended.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.timestamp_type
    }

    /// The greatest timestamp of the batch once it is appended, −1 if no record has any. It
    /// counts for the batch's last offset in the time index, as in Kafka from 3.8 on.
    #[must_use]
    pub fn max_timestamp(&self) -> Timestamp {
        self.max_timestamp
    }

    /// The header to append in place of the producer's, with [`payload`](Self::payload) behind
    /// it.
    #[must_use]
    pub fn header(&self, base_offset: Offset, leader_epoch: LeaderEpoch) -> PatchedHeader {
        PatchedHeader::new(&self.batch, base_offset, leader_epoch).with_timestamps(
            &self.batch,
            self.timestamp_type,
            self.max_timestamp,
        )
    }

    /// The bytes behind the header, which are appended as they came.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.batch.payload()
    }
}

/// Checks a record set that a client produces to one partition. The checks are those of a
/// Produce request from version 3 on, in Kafka's order; the first that fails is reported.
///
/// Two of them are stricter than Kafka, which would rather rebuild such a batch or store it: inner
/// offsets that are not 0, 1, 2… are refused (KIP-98 demands them of every producer of magic 2), and
/// so is each batch that claims `LogAppendTime`.
///
/// # Errors
/// See [`InvalidBatch`].
pub fn validate<'a>(
    records: &'a [u8],
    options: &ValidationOptions,
) -> Result<ValidBatch<'a>, InvalidBatch> {
    let batch = only_batch(records)?;
    if batch.base_offset() != Offset::ZERO {
        return Err(InvalidBatch::BaseOffset { got: batch.base_offset() });
    }
    if batch.size_in_bytes() > options.max_message_bytes {
        return Err(InvalidBatch::TooLarge {
            got: batch.size_in_bytes(),
            max: options.max_message_bytes,
        });
    }
    batch.verify_crc().map_err(InvalidBatch::Crc)?;
    let codec_id = batch.attributes().codec_id();
    let codec = batch.attributes().codec().ok_or(InvalidBatch::Codec { id: codec_id })?;
    check_header(&batch)?;

    let timestamps = &options.timestamps;
    let mut max_timestamp = batch.max_timestamp();
    if must_read_records(&batch, codec, options) {
        max_timestamp = check_records(&batch, options)?;
    }
    if timestamps.timestamp_type == TimestampType::LogAppendTime {
        max_timestamp = options.now;
    }
    Ok(ValidBatch { batch, timestamp_type: timestamps.timestamp_type, max_timestamp })
}

/// The batch that the record set consists of.
fn only_batch(records: &[u8]) -> Result<RecordBatch<'_>, InvalidBatch> {
    if records.is_empty() {
        return Err(InvalidBatch::Empty);
    }
    let (batch, rest) = RecordBatch::parse(records).map_err(InvalidBatch::Framing)?;
    if !rest.is_empty() {
        return Err(InvalidBatch::MoreThanOne { surplus_bytes: rest.len() });
    }
    Ok(batch)
}

/// What can be said of the batch without its records.
fn check_header(batch: &RecordBatch<'_>) -> Result<(), InvalidBatch> {
    let (delta, count) = (batch.last_offset_delta(), batch.count());
    if count <= 0 || i64::from(delta) + 1 != i64::from(count) {
        return Err(InvalidBatch::Count { last_offset_delta: delta, count });
    }
    let attributes = batch.attributes();
    if attributes.is_control() {
        return Err(InvalidBatch::Control);
    }
    if batch.has_producer_id()
        && (batch.base_sequence() < Sequence(0) || batch.producer_epoch() < ProducerEpoch(0))
    {
        return Err(InvalidBatch::Producer {
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            base_sequence: batch.base_sequence(),
        });
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(InvalidBatch::LogAppendTime);
    }
    Ok(())
}

/// Whether the header leaves something open.
fn must_read_records(batch: &RecordBatch<'_>, codec: Codec, options: &ValidationOptions) -> bool {
    // A record takes 7 bytes or more, so a count that the payload cannot hold is told at once.
    let holds_count = codec != Codec::None || batch.payload().len() / 7 >= batch.count() as usize;
    if options.depth == Depth::Records || options.key_required || !holds_count {
        return true;
    }
    let TimestampPolicy { timestamp_type, before_max_ms, after_max_ms } = options.timestamps;
    let latest = options.now.0.saturating_add(after_max_ms);
    timestamp_type == TimestampType::CreateTime
        && (before_max_ms != i64::MAX || batch.max_timestamp().0 > latest)
}

/// Reads all records and returns their greatest timestamp.
fn check_records(
    batch: &RecordBatch<'_>,
    options: &ValidationOptions,
) -> Result<Timestamp, InvalidBatch> {
    let mut max_timestamp = Timestamp::NONE;
    let mut next_delta = 0;
    let mut misplaced = None;
    let mut rejections = Vec::new();
    batch
        .visit_records(options.max_decompressed_bytes, |record| {
            if record.offset_delta != next_delta && misplaced.is_none() {
                misplaced = Some((next_delta, record.offset_delta));
            }
            max_timestamp = max_timestamp.max(record.timestamp);
            if let Some(reason) = reject(record, options)
                && rejections.len() < MAX_REJECTIONS
            {
                rejections.push(Rejection { index: next_delta, reason });
            }
            next_delta += 1;
        })
        .map_err(InvalidBatch::Records)?;
    if let Some((index, got)) = misplaced {
        return Err(InvalidBatch::OffsetDelta { index, got });
    }
    if !rejections.is_empty() {
        return Err(InvalidBatch::Rejected(rejections));
    }
    Ok(max_timestamp)
}

/// Why the topic does not accept the record, if so.
fn reject(record: &Record<'_>, options: &ValidationOptions) -> Option<RejectionReason> {
    if options.key_required && record.key.is_none() {
        return Some(RejectionReason::NoKey);
    }
    let TimestampPolicy { timestamp_type, before_max_ms, after_max_ms } = options.timestamps;
    if timestamp_type == TimestampType::LogAppendTime || record.timestamp == Timestamp::NONE {
        return None;
    }
    let age_ms = options.now.0.saturating_sub(record.timestamp.0);
    (age_ms > before_max_ms || age_ms.saturating_neg() > after_max_ms).then(|| {
        RejectionReason::Timestamp {
            got: record.timestamp,
            earliest: Timestamp(options.now.0.saturating_sub(before_max_ms)),
            latest: Timestamp(options.now.0.saturating_add(after_max_ms)),
        }
    })
}

/// Why a leader does not append a record set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidBatch {
    /// There is no batch.
    Empty,
    /// There is no whole batch with magic 2 at the front.
    Framing(BatchError),
    /// Bytes follow the batch, of which a partition gets one per request.
    MoreThanOne {
        /// How many bytes follow.
        surplus_bytes: usize,
    },
    /// The base offset is not 0.
    BaseOffset {
        /// The base offset.
        got: Offset,
    },
    /// The batch is larger than the topic allows.
    TooLarge {
        /// Bytes of the batch.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The checksum is wrong.
    Crc(CrcMismatch),
    /// Kafka has no codec with this number.
    Codec {
        /// 5–7.
        id: u8,
    },
    /// The number of records is not positive, or not that of the offsets.
    Count {
        /// Last offset − base offset.
        last_offset_delta: i32,
        /// Number of records.
        count: i32,
    },
    /// Clients do not write control batches.
    Control,
    /// A producer id comes without an epoch or a sequence.
    Producer {
        /// The producer id.
        producer_id: ProducerId,
        /// Its epoch, perhaps negative.
        producer_epoch: ProducerEpoch,
        /// The sequence of the first record, perhaps negative.
        base_sequence: Sequence,
    },
    /// Clients do not give append times.
    LogAppendTime,
    /// The payload is not what the header says.
    Records(MalformedRecords),
    /// The offsets of the records are not 0, 1, 2…
    OffsetDelta {
        /// The position of the first record that is out of place, from 0.
        index: i32,
        /// Its offset delta.
        got: i32,
    },
    /// The topic does not accept some of the records, of which the first [`MAX_REJECTIONS`] are
    /// named.
    Rejected(Vec<Rejection>),
}

/// A record that a topic does not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its position in the batch, from 0.
    pub index: i32,
    /// Why.
    pub reason: RejectionReason,
}

/// Why a topic does not accept a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionReason {
    /// It has no key and the topic is compacted.
    NoKey,
    /// Its timestamp is too far from now.
    Timestamp {
        /// The timestamp.
        got: Timestamp,
        /// The earliest that is accepted.
        earliest: Timestamp,
        /// The latest that is accepted.
        latest: Timestamp,
    },
}

impl fmt::Display for InvalidBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "there is no record batch"),
            Self::Framing(error) => error.fmt(f),
            Self::MoreThanOne { surplus_bytes } => {
                write!(f, "{surplus_bytes} bytes follow the one record batch")
            }
            Self::BaseOffset { got } => {
                write!(f, "base offset of a produced batch is {got}, not 0")
            }
            Self::TooLarge { got, max } => {
                write!(f, "record batch of {got} bytes is larger than the maximum {max}")
            }
            Self::Crc(error) => error.fmt(f),
            Self::Codec { id } => write!(f, "unknown compression codec {id}"),
            Self::Count { last_offset_delta, count } => {
                write!(f, "record batch counts {count} records up to offset {last_offset_delta}")
            }
            Self::Control => write!(f, "clients are not allowed to write control batches"),
            Self::Producer { producer_id, producer_epoch, base_sequence } => write!(
                f,
                "producer id {producer_id} comes with epoch {producer_epoch} and sequence {base_sequence}"
            ),
            Self::LogAppendTime => write!(f, "producer set the timestamp type to LogAppendTime"),
            Self::Records(error) => error.fmt(f),
            Self::OffsetDelta { index, got } => {
                write!(f, "record {index} of the batch has offset {got}")
            }
            Self::Rejected(rejections) => match rejections.first() {
                Some(first) => write!(f, "record {} of the batch {}", first.index, first.reason),
                None => write!(f, "records are not accepted"),
            },
        }
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => write!(f, "has no key, which a compacted topic requires"),
            Self::Timestamp { got, earliest, latest } => {
                write!(f, "has timestamp {got}, which is not within [{earliest}, {latest}]")
            }
        }
    }
}

impl std::error::Error for InvalidBatch {}
