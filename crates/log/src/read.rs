//! Reading a log by offset and by time. No lock of the appender is taken.
//!
//! A reader races with two writers. The appender publishes a segment before an end that lies in it,
//! so a reader takes the end first and the list of segments after it. Retention raises the log start
//! offset before segments leave the list, so a reader takes the start offset last: the list that it
//! holds has everything from there on.

use std::cmp::Ordering;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use ottla_record::{Offset, Timestamp};
use ottla_runtime::disk::{File, pin};

use crate::log::{Log, LogPosition, ReadError, Slice, TimestampedOffset};
use crate::segment::Segment;

impl Log {
    /// The batches from `offset` on and below `limit` (a high watermark or the LEO), at most
    /// `bytes_max` of them; with `whole_first`, the first batch comes whole however large it is.
    pub fn read(
        &self,
        offset: Offset,
        bytes_max: usize,
        limit: LogPosition,
        whole_first: bool,
    ) -> Result<Slice, ReadError> {
        match self.try_read(offset, bytes_max, limit, whole_first) {
            // A file went that was not open: the list of segments has changed since.
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.try_read(offset, bytes_max, limit, whole_first)
            }
            read => read,
        }
    }

    fn try_read(
        &self,
        offset: Offset,
        bytes_max: usize,
        limit: LogPosition,
        whole_first: bool,
    ) -> Result<Slice, ReadError> {
        let end = self.end().offset;
        let segments = self.segments.load();
        let start = self.log_start_offset();
        if offset < start || offset > end {
            return Err(ReadError::OutOfRange { start, end });
        }
        let mut at = segments.partition_point(|s| s.base_offset() <= offset).saturating_sub(1);
        // Between the last batch of a segment and the base of the next one may lie a gap.
        while let Some(segment) = segments.get(at) {
            let readable = readable_bytes(segment, limit);
            if offset < limit.offset
                && let Some(position) = segment.position_of(offset, readable)?
            {
                return read_segment(segment, position, readable, bytes_max, whole_first);
            }
            if segment.base_offset() >= limit.segment {
                return Ok(slice(segment, readable, 0)?);
            }
            at += 1;
        }
        if segments.is_empty() && end == Offset::ZERO {
            let (file, segment) = (Arc::new(NoBatches), Offset::ZERO);
            return Ok(Slice { file, segment, position: 0, len: 0 });
        }
        Err(ReadError::OutOfRange { start, end })
    }

    /// The first record at or after `timestamp`, if there is one.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
    ) -> io::Result<Option<TimestampedOffset>> {
        let segments = self.segments.load();
        let start = self.log_start_offset();
        for segment in segments.iter().filter(|s| s.max_timestamp() >= timestamp) {
            let found = segment.record_at_or_after(timestamp, start)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first of the records with the greatest timestamp (KIP-734), if any record has one.
    pub fn offset_of_max_timestamp(&self) -> io::Result<Option<TimestampedOffset>> {
        let segments = self.segments.load();
        let start = self.log_start_offset();
        let mut max = Timestamp::NONE;
        for segment in segments.iter() {
            max = max.max(segment.max_timestamp_from(start)?);
        }
        if max == Timestamp::NONE { Ok(None) } else { self.offset_for_timestamp(max) }
    }
}

/// Bytes of `segment` below the limit. A segment may have been compacted since the limit was taken:
/// it is smaller then, and all that it holds became readable before that.
fn readable_bytes(segment: &Segment, limit: LogPosition) -> u64 {
    match segment.base_offset().cmp(&limit.segment) {
        Ordering::Less => segment.size(),
        Ordering::Equal => limit.position.min(segment.size()),
        Ordering::Greater => 0,
    }
}

fn read_segment(
    segment: &Segment,
    position: u64,
    readable: u64,
    bytes_max: usize,
    whole_first: bool,
) -> Result<Slice, ReadError> {
    let available = readable - position;
    let mut len = available.min(bytes_max as u64);
    if len < available {
        // What is cut off would be sent twice.
        if let Some(batch_start) = segment.batch_start_between(position, position + len)? {
            len = batch_start - position;
        }
        if whole_first && let Some(first) = segment.batch_size_at(position)? {
            len = len.max(first as u64).min(available);
        }
    }
    Ok(slice(segment, position, len as usize)?)
}

fn slice(segment: &Segment, position: u64, len: usize) -> io::Result<Slice> {
    Ok(Slice { file: pin(segment.file())?, segment: segment.base_offset(), position, len })
}

/// What is read of a log that was never written to and has no file: nothing.
struct NoBatches;

impl File for NoBatches {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn modified_ms(&self) -> io::Result<i64> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn set_modified_ms(&self, _: i64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn start_writeback(&self, _: Range<u64>) {}

    fn reread(&self) -> io::Result<()> {
        Ok(())
    }

    fn identity(&self) -> io::Result<u128> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn is_resident(&self, _: u64) -> bool {
        true
    }
}
