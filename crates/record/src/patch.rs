//! What a leader writes into a batch without touching its payload.
//!
//! Owns: the fields that an append assigns. The producer's bytes stay as they came: the log
//! writes the 61 bytes made here and then the payload, in one vectored write.

use crate::batch::{HEADER_BYTES, at};
use crate::{BatchHeader, Crc32c, LeaderEpoch, Offset, RecordBatch, Timestamp, TimestampType};

/// A header that an append has changed; its payload is still that of the batch it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchedHeader([u8; HEADER_BYTES]);

impl PatchedHeader {
    /// The header of `batch` with the base offset and leader epoch that its leader assigns. The
    /// checksum does not cover these and stays valid.
    #[must_use]
    pub fn new(batch: &BatchHeader<'_>, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        let mut header = Self(*batch.as_bytes());
        header.put(at::BASE_OFFSET, base_offset.0.to_be_bytes());
        header.put(at::LEADER_EPOCH, leader_epoch.0.to_be_bytes());
        header
    }

    /// Gives the batch a timestamp type and a greatest timestamp, and computes its checksum anew
    /// if that changes anything. `batch` is the one that the header was made from.
    #[must_use]
    pub fn with_timestamps(
        mut self,
        batch: &RecordBatch<'_>,
        timestamp_type: TimestampType,
        max_timestamp: Timestamp,
    ) -> Self {
        let attributes = batch.attributes().with_timestamp_type(timestamp_type);
        if attributes == batch.attributes() && max_timestamp == batch.max_timestamp() {
            return self;
        }
        self.put(at::ATTRIBUTES, attributes.0.to_be_bytes());
        self.put(at::MAX_TIMESTAMP, max_timestamp.0.to_be_bytes());
        let crc = Crc32c::new().update(&self.0[at::ATTRIBUTES..]).update(batch.payload());
        self.put(at::CRC, crc.finish().to_be_bytes());
        self
    }

    /// The header to read.
    #[must_use]
    pub fn view(&self) -> BatchHeader<'_> {
        BatchHeader::new(&self.0)
    }

    /// The 61 bytes to write in place of those that the batch came with.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; HEADER_BYTES] {
        &self.0
    }

    fn put<const N: usize>(&mut self, at: usize, field: [u8; N]) {
        self.0[at..at + N].copy_from_slice(&field);
    }
}
