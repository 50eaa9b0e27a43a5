//! Appending what a leader's log holds: batches as they are, with the offsets and epochs that their
//! leader gave them.
//!
//! A log that was compacted has gaps, and so has its follower. What is appended is checked as a
//! whole before the first byte is written. Must not know: where the bytes are from.

use std::fmt;
use std::io;
use std::sync::Arc;

use ottla_record::{Offset, RecordBatch, Timestamp};

use crate::log::{Log, LogPosition};

/// Why a follower did not append, or not all.
#[derive(Debug)]
pub enum FollowerAppendError {
    /// The bytes are not whole batches of magic 2 with right checksums and ascending offsets.
    /// Nothing was appended.
    Malformed {
        /// The byte at which the first bad batch begins.
        position: usize,
        /// What is wrong with it.
        what: String,
    },
    /// The first batch begins below the log end offset: this log and its leader's do not agree.
    /// Nothing was appended.
    BelowEnd {
        /// The offset at which the first batch begins.
        first: Offset,
        /// The log end offset.
        end: Offset,
    },
    /// The disk refused, or the log was closed. Batches before the log end offset were appended.
    Io(io::Error),
}

impl fmt::Display for FollowerAppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { position, what } => {
                write!(f, "no batch for the log at byte {position}: {what}")
            }
            Self::BelowEnd { first, end } => {
                write!(f, "a batch begins at offset {first}, below the log end offset {end}")
            }
            Self::Io(error) => write!(f, "the broker's disk: {error}"),
        }
    }
}

impl std::error::Error for FollowerAppendError {}

impl From<io::Error> for FollowerAppendError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Log {
    /// Appends whole batches as they stand in another replica's log, control batches among them, and
    /// returns the new end. Offsets must ascend from the log end offset on; gaps are kept.
    pub fn append_as_follower(
        self: &Arc<Self>,
        bytes: &[u8],
    ) -> Result<LogPosition, FollowerAppendError> {
        let batches = check(bytes)?;
        let config = self.config();
        let now = Timestamp(self.volume.world.clock.wall_ms());
        let mut appender = self.change()?;
        let mut end = self.end();
        if let Some(first) = batches.first().map(|batch| batch.base_offset())
            && first < end.offset
        {
            return Err(FollowerAppendError::BelowEnd { first, end: end.offset });
        }
        for batch in &batches {
            end = self.write(&mut appender, &config, &batch.header(), batch.payload(), now)?;
        }
        drop(appender);
        self.schedule_flush(&config, end);
        Ok(end)
    }
}

/// The batches that `bytes` consist of.
fn check(bytes: &[u8]) -> Result<Vec<RecordBatch<'_>>, FollowerAppendError> {
    let mut found: Vec<RecordBatch<'_>> = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let position = bytes.len() - rest.len();
        let malformed = |what| FollowerAppendError::Malformed { position, what };
        let (batch, behind) =
            RecordBatch::parse(rest).map_err(|error| malformed(error.to_string()))?;
        batch.verify_crc().map_err(|error| malformed(error.to_string()))?;
        let (base, last) = (batch.base_offset(), batch.last_offset());
        // The offset behind the batch must be one too.
        if base < Offset::ZERO
            || batch.last_offset_delta() < 0
            || last.0 < base.0
            || last.0 == i64::MAX
        {
            return Err(malformed(format!("it has the offsets {base} to {last}")));
        }
        if let Some(before) = found.last().filter(|before| base <= before.last_offset()) {
            let last = before.last_offset();
            return Err(malformed(format!("it begins at offset {base}, behind one up to {last}")));
        }
        found.push(batch);
        rest = behind;
    }
    Ok(found)
}
