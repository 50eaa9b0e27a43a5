//! Control records: what brokers write into a partition for each other and for consumers.
//!
//! Owns: the marker that ends a transaction. The other types belong to KRaft and are told apart
//! only. Must not know: when a transaction ends.

use std::fmt;

use crate::{BatchBuilder, BatchOptions, ProducerEpoch, ProducerId, Record, Timestamp};

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// A transaction of the batch's producer ends here.
    EndTransaction(EndTransactionMarker),
    /// Something else, which consumers pass over: 2–6 are KRaft's.
    Other {
        /// The type in the key.
        control_type: i16,
    },
}

/// How a transaction ended (KIP-98). It takes one offset of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Commit, else abort.
    pub committed: bool,
    /// The epoch of the transaction coordinator, which fences its predecessors.
    pub coordinator_epoch: i32,
}

impl ControlRecord {
    /// Reads a record of a control batch.
    ///
    /// # Errors
    /// Key or value are too short for what they claim to be.
    pub fn parse(record: &Record<'_>) -> Result<Self, MalformedControl> {
        let key: &[u8; 4] = record.key.and_then(|key| key.first_chunk()).ok_or(MalformedControl)?;
        let control_type = i16::from_be_bytes([key[2], key[3]]);
        if control_type != ABORT && control_type != COMMIT {
            return Ok(Self::Other { control_type });
        }
        let value: &[u8; 6] =
            record.value.and_then(|value| value.first_chunk()).ok_or(MalformedControl)?;
        let [_, _, epoch @ ..] = *value;
        Ok(Self::EndTransaction(EndTransactionMarker {
            committed: control_type == COMMIT,
            coordinator_epoch: i32::from_be_bytes(epoch),
        }))
    }
}

impl EndTransactionMarker {
    /// The batch that ends the transaction of a producer: 78 bytes, whose base offset and
    /// leader epoch the leader assigns.
    #[must_use]
    pub fn batch(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        timestamp: Timestamp,
    ) -> Vec<u8> {
        let [hi, lo] = if self.committed { COMMIT } else { ABORT }.to_be_bytes();
        let [a, b, c, d] = self.coordinator_epoch.to_be_bytes();
        let mut builder = BatchBuilder::new(BatchOptions {
            producer_id,
            producer_epoch,
            is_transactional: true,
            is_control: true,
            ..BatchOptions::default()
        });
        // Both begin with a version, 0.
        builder.append(timestamp, Some(&[0, 0, hi, lo]), Some(&[0, 0, a, b, c, d]), &[]);
        builder.build()
    }
}

/// A control record that is too short for its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedControl;

impl fmt::Display for MalformedControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("control record is too short for its type")
    }
}

impl std::error::Error for MalformedControl {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RecordBatch;

    /// What the control record with this key and value says.
    fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<ControlRecord, MalformedControl> {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(Timestamp(0), key, value, &[]);
        let bytes = builder.build();
        let (batch, _) = RecordBatch::parse(&bytes).expect("a batch");
        let mut unpacked = Vec::new();
        let mut records = batch.records(&mut unpacked, 0).expect("records");
        ControlRecord::parse(&records.next().expect("one").expect("whole"))
    }

    #[test]
    fn a_marker_takes_78_bytes() {
        let marker = EndTransactionMarker { committed: true, coordinator_epoch: i32::MAX };
        let batch =
            marker.batch(ProducerId(i64::MAX), ProducerEpoch(i16::MAX), Timestamp(i64::MAX));
        assert_eq!(batch.len(), 78);
    }

    #[test]
    fn later_versions_may_be_longer_and_nothing_may_be_shorter() {
        let commit = ControlRecord::EndTransaction(EndTransactionMarker {
            committed: true,
            coordinator_epoch: -2,
        });
        let value = [0, 1, 0xff, 0xff, 0xff, 0xfe, 9];
        assert_eq!(parse(Some(&[0, 1, 0, 1, 7]), Some(&value)), Ok(commit));
        assert_eq!(parse(Some(&[0, 0, 0, 1]), Some(&value[..5])), Err(MalformedControl));
        assert_eq!(parse(Some(&[0, 0, 0, 1]), None), Err(MalformedControl));
        assert_eq!(parse(Some(&[0, 0, 0]), Some(&value)), Err(MalformedControl));
        assert_eq!(parse(None, Some(&value)), Err(MalformedControl));
        let leader_change = ControlRecord::Other { control_type: 2 };
        assert_eq!(parse(Some(&[0, 0, 0, 2]), None), Ok(leader_change));
    }
}
