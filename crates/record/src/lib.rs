//! Record batches and the small numbers of Kafka.
//!
//! Owns: the newtypes that every room speaks in, and record batch v2: viewing, validating,
//! patching, building and compressing it, taking records out of it; reading the formats before it
//! ([`legacy`]). Must not know: files, requests.
//!
//! The way of a batch from a producer through the log to a consumer:
//!
//! ```
//! use ottla_record::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A producer builds it,
//! let mut builder = BatchBuilder::new(BatchOptions { codec: Codec::Lz4, ..Default::default() });
//! builder.append(Timestamp(1_000), Some(b"key"), Some(b"value"), &[]);
//! let produced = builder.build();
//!
//! // a leader validates it and appends it with 61 bytes of its own, the payload untouched,
//! let options = ValidationOptions {
//!     max_message_bytes: 1_048_588,
//!     timestamps: TimestampPolicy {
//!         timestamp_type: TimestampType::CreateTime,
//!         before_max_ms: i64::MAX,
//!         after_max_ms: 3_600_000,
//!     },
//!     now: Timestamp(1_005),
//!     key_required: false,
//!     depth: Depth::Records,
//!     max_decompressed_bytes: 64 << 20,
//! };
//! let valid = validate(&produced, &options)?;
//! let header = valid.header(Offset(42), LeaderEpoch(3));
//! let log = [header.as_bytes(), valid.payload()].concat();
//!
//! // a consumer walks over what it fetched.
//! for batch in batches(&log) {
//!     let batch = batch?;
//!     batch.verify_crc()?;
//!     let mut unpacked = Vec::new();
//!     for record in batch.records(&mut unpacked, 64 << 20)? {
//!         let record = record?;
//!         assert_eq!((record.offset, record.key), (Offset(42), Some(&b"key"[..])));
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod batch;
mod builder;
mod compress;
mod control;
mod crc;
mod ids;
pub mod legacy;
mod patch;
mod record;
mod retain;
mod validate;
mod varint;

pub use batch::{
    Attributes, BatchError, BatchHeader, Batches, CrcMismatch, HEADER_BYTES, RecordBatch,
    TimestampType, batches,
};
pub use builder::{BatchBuilder, BatchOptions};
pub use compress::{Codec, DecompressError, compress, decompress};
pub use control::{ControlRecord, EndTransactionMarker, MalformedControl};
pub use crc::{Crc32c, crc32, crc32c};
pub use ids::{
    BrokerId, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, Timestamp,
    Uuid,
};
pub use patch::PatchedHeader;
pub use record::{Header, Headers, MalformedRecords, Record, RecordFault, Records};
pub use validate::{
    Depth, InvalidBatch, MAX_REJECTIONS, Rejection, RejectionReason, TimestampPolicy, ValidBatch,
    ValidationOptions, validate,
};
