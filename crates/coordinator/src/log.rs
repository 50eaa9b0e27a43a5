//! The seam to the log of an internal topic's partition.

use std::error::Error;
use std::fmt;

use ottla_record::Offset;

/// The log of a partition that this broker leads, as a runner needs it.
///
/// Only the runner appends to it.
pub trait StateLog: Send + Sync + 'static {
    /// Appends one record batch whose base offset and leader epoch are still to be set. Returns
    /// the log end offset (LEO) behind it.
    ///
    /// # Errors
    /// Whatever the error, it is not known whether the batch is in the log.
    fn append(&self, batch: Vec<u8>) -> Result<Offset, AppendError>;

    /// The largest batch that can be appended, in bytes (`max.message.bytes` of the topic).
    fn batch_bytes_max(&self) -> usize;

    /// Everything below is committed: no change of leader loses it. With one replica that is the
    /// LEO.
    fn committed(&self) -> Offset;

    /// Asks that [`Runner::advance`](crate::Runner::advance) be called once everything below `end`
    /// is committed, also if it is by now.
    fn watch_committed(&self, end: Offset);

    /// The log start offset.
    fn start_offset(&self) -> Offset;

    /// The log end offset, committed or not.
    fn end_offset(&self) -> Offset;

    /// Whole batches from the one that holds `from` on: at least one, and then no more than
    /// `bytes_max` bytes. Empty if there is none at or behind `from`.
    ///
    /// # Errors
    /// The log cannot be read. It may be tried again.
    fn read(&self, from: Offset, bytes_max: usize) -> Result<Vec<u8>, ReadError>;
}

/// Why a batch may not be in the log.
#[derive(Debug)]
pub enum AppendError {
    /// This broker does not lead the partition any more.
    NotLeader,
    /// The log refused: its disk, its size limits, too few replicas.
    Refused(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader => f.write_str("not the leader of the partition"),
            Self::Refused(reason) => write!(f, "the log refused the batch: {reason}"),
        }
    }
}

impl Error for AppendError {}

/// Why a log could not be read.
#[derive(Debug)]
pub struct ReadError(pub Box<dyn Error + Send + Sync>);

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log cannot be read: {}", self.0)
    }
}

impl Error for ReadError {}
