//! Reading a segment in pieces of whole batches.

use std::io;

use ottla_record::{BatchError, BatchHeader, HEADER_BYTES};

use crate::scan::no_batch;
use crate::segment::Segment;

/// A buffer of bounded size that whole batches are read into. A batch that is larger gets room for
/// as long as it is worked on.
pub(crate) struct BatchReader {
    buffer: Vec<u8>,
    bytes_max: usize,
}

impl BatchReader {
    /// A reader that reads so many bytes at a time.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { buffer: Vec::new(), bytes_max: bytes_max.max(HEADER_BYTES) }
    }

    /// The batches at `position` of the segment: the first is whole, the last may be cut.
    ///
    /// # Errors
    /// The disk refused, or there is no whole batch at `position`.
    pub(crate) fn read(&mut self, segment: &Segment, position: u64) -> io::Result<&[u8]> {
        let left = segment.size().saturating_sub(position);
        let wanted = left.min(self.bytes_max as u64) as usize;
        self.buffer.truncate(self.bytes_max);
        self.buffer.shrink_to(self.bytes_max);
        self.fill(segment, position, wanted)?;
        let no_batch = |error: BatchError| no_batch(segment.path(), position, &error);
        let needed = BatchHeader::parse(&self.buffer).map_err(no_batch)?.size_in_bytes();
        if needed as u64 > left {
            return Err(no_batch(BatchError::Truncated { needed, got: left as usize }));
        }
        if needed > wanted {
            self.fill(segment, position, needed)?;
        }
        Ok(&self.buffer)
    }

    fn fill(&mut self, segment: &Segment, position: u64, len: usize) -> io::Result<()> {
        self.buffer.resize(len, 0);
        let read = segment.file().read_at(&mut self.buffer, position)?;
        self.buffer.truncate(read);
        Ok(())
    }
}
