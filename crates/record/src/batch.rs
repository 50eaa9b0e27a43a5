//! A record batch with magic 2, viewed where it lies.
//!
//! Owns: the layout of the 61-byte header and the walk over a record set. Nothing here is copied,
//! and nothing of the payload is looked at except by the checksum. Must not know: records.
//!
//! ```text
//!  0 baseOffset i64            8 batchLength i32      12 partitionLeaderEpoch i32   16 magic i8
//! 17 crc u32                  21 attributes i16       23 lastOffsetDelta i32        27 baseTimestamp i64
//! 35 maxTimestamp i64         43 producerId i64       51 producerEpoch i16          53 baseSequence i32
//! 57 recordCount i32          61 records…
//! ```
//!
//! The checksum covers everything from the attributes on, so a leader may assign the base offset
//! and the leader epoch without computing it anew.

use std::fmt;
use std::ops::Deref;

use crate::{
    Codec, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, crc::crc32c,
};

/// Bytes of the header, which is also the size of a batch without records.
pub const HEADER_BYTES: usize = 61;

/// Base offset and batch length: the bytes that `batchLength` does not count.
pub(crate) const LOG_OVERHEAD: usize = 12;

/// The smallest message of all formats (magic 0) without its offset and length.
pub(crate) const MIN_MESSAGE_BYTES: usize = 14;

/// The magic of the only format that is written.
pub(crate) const MAGIC_V2: i8 = 2;

/// Where each field of the header begins.
pub(crate) mod at {
    pub(crate) const BASE_OFFSET: usize = 0;
    pub(crate) const LENGTH: usize = 8;
    pub(crate) const LEADER_EPOCH: usize = 12;
    pub(crate) const MAGIC: usize = 16;
    pub(crate) const CRC: usize = 17;
    pub(crate) const ATTRIBUTES: usize = 21;
    pub(crate) const LAST_OFFSET_DELTA: usize = 23;
    pub(crate) const BASE_TIMESTAMP: usize = 27;
    pub(crate) const MAX_TIMESTAMP: usize = 35;
    pub(crate) const PRODUCER_ID: usize = 43;
    pub(crate) const PRODUCER_EPOCH: usize = 51;
    pub(crate) const BASE_SEQUENCE: usize = 53;
    pub(crate) const COUNT: usize = 57;
}

/// The header of a batch, whose payload need not be at hand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader<'a>(&'a [u8; HEADER_BYTES]);

impl<'a> BatchHeader<'a> {
    /// The header of a batch that was parsed before.
    pub(crate) fn new(bytes: &'a [u8; HEADER_BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads the header at the front of `bytes`; the payload behind it may be missing. It checks
    /// the magic, and that the length is one that a batch can have. Of the offsets, counts and
    /// timestamps it believes nothing.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let truncated = |needed| BatchError::Truncated { needed, got: bytes.len() };
        let prefix = bytes.first_chunk::<17>().ok_or(truncated(17))?;
        let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        if length < MIN_MESSAGE_BYTES as i32 {
            return Err(BatchError::Length { got: length, min: MIN_MESSAGE_BYTES });
        }
        let magic = prefix[at::MAGIC] as i8;
        if magic != MAGIC_V2 {
            return Err(BatchError::Magic { got: magic });
        }
        let min = HEADER_BYTES - LOG_OVERHEAD;
        if length < min as i32 {
            return Err(BatchError::Length { got: length, min });
        }
        bytes.first_chunk().map(Self).ok_or(truncated(HEADER_BYTES))
    }

    /// Bytes of the whole batch, header included: 61 or more.
    #[must_use]
    pub fn size_in_bytes(&self) -> usize {
        LOG_OVERHEAD + u32::from_be_bytes(self.field(at::LENGTH)) as usize
    }

    /// The offset of the first record that the batch was written with (compaction may have
    /// removed it). A producer sends 0.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(i64::from_be_bytes(self.field(at::BASE_OFFSET)))
    }

    /// The offset of the last record that the batch was written with. Wraps on nonsense.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset().0.wrapping_add(i64::from(self.last_offset_delta())))
    }

    /// The offset that follows the batch. Wraps on nonsense.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.wrapping_add(1))
    }

    /// The epoch of the leader that appended the batch.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(i32::from_be_bytes(self.field(at::LEADER_EPOCH)))
    }

    /// The checksum that the batch claims.
    #[must_use]
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.field(at::CRC))
    }

    /// Codec, timestamp type and flags.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes(i16::from_be_bytes(self.field(at::ATTRIBUTES)))
    }

    /// Last offset − base offset; also last sequence − base sequence.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.field(at::LAST_OFFSET_DELTA))
    }

    /// What the records' timestamps are relative to: that of the first record, or the delete
    /// horizon if the attributes say so (KIP-534).
    #[must_use]
    pub fn base_timestamp(&self) -> Timestamp {
        Timestamp(i64::from_be_bytes(self.field(at::BASE_TIMESTAMP)))
    }

    /// The greatest timestamp of a record, or the append time of all of them.
    #[must_use]
    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(i64::from_be_bytes(self.field(at::MAX_TIMESTAMP)))
    }

    /// The idempotent producer that wrote the batch, or [`ProducerId::NONE`].
    #[must_use]
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(i64::from_be_bytes(self.field(at::PRODUCER_ID)))
    }

    /// Whether an idempotent producer wrote the batch.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id() > ProducerId::NONE
    }

    /// The epoch of the producer id.
    #[must_use]
    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(i16::from_be_bytes(self.field(at::PRODUCER_EPOCH)))
    }

    /// The sequence of the first record, or [`Sequence::NONE`].
    #[must_use]
    pub fn base_sequence(&self) -> Sequence {
        Sequence(i32::from_be_bytes(self.field(at::BASE_SEQUENCE)))
    }

    /// The sequence of the last record, wrapped from 2³¹−1 to 0; [`Sequence::NONE`] if the batch
    /// has none.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        match self.base_sequence() {
            Sequence::NONE => Sequence::NONE,
            first => first.advance(self.last_offset_delta()),
        }
    }

    /// How many records the batch holds. Compaction makes it less than the last offset delta
    /// + 1, even 0.
    #[must_use]
    pub fn count(&self) -> i32 {
        i32::from_be_bytes(self.field(at::COUNT))
    }

    /// The 61 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8; HEADER_BYTES] {
        self.0
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.0[at..at + N]);
        field
    }
}

impl fmt::Debug for BatchHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchHeader")
            .field("base_offset", &self.base_offset())
            .field("last_offset", &self.last_offset())
            .field("count", &self.count())
            .field("size_in_bytes", &self.size_in_bytes())
            .field("leader_epoch", &self.leader_epoch())
            .field("attributes", &self.attributes())
            .field("base_timestamp", &self.base_timestamp())
            .field("max_timestamp", &self.max_timestamp())
            .field("producer_id", &self.producer_id())
            .field("producer_epoch", &self.producer_epoch())
            .field("base_sequence", &self.base_sequence())
            .finish()
    }
}

/// A whole batch with magic 2. Its header's accessors are reached by deref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordBatch<'a> {
    header: BatchHeader<'a>,
    bytes: &'a [u8],
}

impl<'a> RecordBatch<'a> {
    /// Splits the batch off the front of `bytes`, and returns it with the bytes behind it. It
    /// checks the length and the magic alone: see [`verify_crc`](Self::verify_crc).
    ///
    /// # Errors
    /// See [`BatchError`].
    pub fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.size_in_bytes();
        let (bytes, rest) = bytes
            .split_at_checked(needed)
            .ok_or(BatchError::Truncated { needed, got: bytes.len() })?;
        Ok((Self { header, bytes }, rest))
    }

    /// The header, which lives as long as the bytes.
    #[must_use]
    pub fn header(&self) -> BatchHeader<'a> {
        self.header
    }

    /// The whole batch.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The records as they lie behind the header, compressed if the codec says so.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Compares the checksum with the bytes.
    ///
    /// # Errors
    /// They disagree: the batch was corrupted after its producer built it.
    pub fn verify_crc(&self) -> Result<(), CrcMismatch> {
        let (claimed, computed) = (self.crc(), crc32c(&self.bytes[at::ATTRIBUTES..]));
        if claimed == computed { Ok(()) } else { Err(CrcMismatch { claimed, computed }) }
    }
}

impl<'a> Deref for RecordBatch<'a> {
    type Target = BatchHeader<'a>;

    fn deref(&self) -> &Self::Target {
        &self.header
    }
}

/// Walks over the batches of a record set.
#[must_use]
pub fn batches(records: &[u8]) -> Batches<'_> {
    Batches { records, at: 0, failed: false }
}

/// The batches of a record set. An error is the last item; [`BatchError::Truncated`] is the
/// normal end of a fetch response or of a log that was being written when its broker died.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    records: &'a [u8],
    at: usize,
    failed: bool,
}

impl Batches<'_> {
    /// The position in the record set behind the last batch that was returned.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<RecordBatch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.records[self.at..];
        if self.failed || rest.is_empty() {
            return None;
        }
        let parsed = RecordBatch::parse(rest).map(|(batch, _)| batch);
        match &parsed {
            Ok(batch) => self.at += batch.size_in_bytes(),
            Err(_) => self.failed = true,
        }
        Some(parsed)
    }
}

/// The attributes of a batch: bits 0–2 codec, 3 timestamp type, 4 transactional, 5 control,
/// 6 delete horizon. The others are zero.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    pub(crate) const CODEC: i16 = 0b111;
    pub(crate) const LOG_APPEND_TIME: i16 = 1 << 3;
    pub(crate) const TRANSACTIONAL: i16 = 1 << 4;
    pub(crate) const CONTROL: i16 = 1 << 5;
    pub(crate) const DELETE_HORIZON: i16 = 1 << 6;

    /// The number of the codec: 0–7, of which Kafka knows 0–4.
    #[must_use]
    pub fn codec_id(self) -> u8 {
        (self.0 & Self::CODEC) as u8
    }

    /// The codec of the payload; `None` if Kafka knows none with this number.
    #[must_use]
    pub fn codec(self) -> Option<Codec> {
        Codec::from_id(self.codec_id())
    }

    /// Whose clock the timestamps are from.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch is part of a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the records are for brokers and consumers (transaction markers), not for
    /// applications.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time from which compaction may drop the batch's
    /// tombstones (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same attributes with another timestamp type.
    #[must_use]
    pub(crate) fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        match timestamp_type {
            TimestampType::CreateTime => Self(self.0 & !Self::LOG_APPEND_TIME),
            TimestampType::LogAppendTime => Self(self.0 | Self::LOG_APPEND_TIME),
        }
    }

    /// The same attributes with another codec.
    #[must_use]
    pub(crate) fn with_codec(self, codec: Codec) -> Self {
        Self((self.0 & !Self::CODEC) | i16::from(codec.id()))
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#09b}", self.0)
    }
}

/// `message.timestamp.type`: whose clock the timestamps of a topic are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's, record by record.
    #[default]
    CreateTime,
    /// The leader's, one for the batch.
    LogAppendTime,
}

/// Why there is no batch at the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end within the batch.
    Truncated {
        /// Bytes that must be at hand to say more.
        needed: usize,
        /// Bytes at hand.
        got: usize,
    },
    /// The length is one that no batch can have: the bytes are corrupt.
    Length {
        /// The length that is claimed: bytes behind the length field.
        got: i32,
        /// The least that is possible.
        min: usize,
    },
    /// The batch is of another format: 0 and 1 are for [`crate::legacy`], others are corrupt.
    Magic {
        /// The magic byte.
        got: i8,
    },
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, got } => {
                write!(f, "record batch is cut off: it needs {needed} bytes and has {got}")
            }
            Self::Length { got, min } => {
                write!(f, "record batch length {got} is less than the minimum {min}")
            }
            Self::Magic { got } => write!(f, "record batch has magic {got}, not {MAGIC_V2}"),
        }
    }
}

impl std::error::Error for BatchError {}

/// A batch whose bytes do not have the checksum that they claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrcMismatch {
    /// The checksum in the header.
    pub claimed: u32,
    /// The checksum of the bytes.
    pub computed: u32,
}

impl fmt::Display for CrcMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record batch claims CRC {:#010x} and has {:#010x}", self.claimed, self.computed)
    }
}

impl std::error::Error for CrcMismatch {}
