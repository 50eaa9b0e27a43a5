//! How far consumers may read that want committed records alone.

use std::io;
use std::sync::atomic::Ordering;

use ottla_record::Offset;

use crate::log::{Log, LogPosition, Slice};

impl Log {
    /// Where what is decided ends (the last stable offset, KIP-98), below `high_watermark`: no record
    /// before it is of a transaction that is open, or that ended where not all may read it yet.
    pub fn last_stable_offset(&self, high_watermark: LogPosition) -> io::Result<LogPosition> {
        match self.first_unstable_offset(high_watermark.offset) {
            Some(offset) if offset < high_watermark.offset => self.position_of(offset),
            _ => Ok(high_watermark),
        }
    }

    /// The offset of the first record whose transaction is open, or ended at or behind
    /// `high_watermark`.
    #[must_use]
    pub fn first_unstable_offset(&self, high_watermark: Offset) -> Option<Offset> {
        // Set before the end of the log is published that a high watermark can reach.
        if !self.has_transactions.load(Ordering::Acquire) {
            return None;
        }
        let mut appender = self.appender.lock();
        let first = appender.producers.first_unstable_offset(high_watermark);
        self.has_transactions.store(appender.producers.has_transactions(), Ordering::Release);
        first.map(|first| first.max(self.log_start_offset()))
    }

    /// The place of the batch that has the offset, or of the one behind it.
    fn position_of(&self, offset: Offset) -> io::Result<LogPosition> {
        let segments = self.segments.load();
        let at = segments.partition_point(|s| s.base_offset() <= offset).saturating_sub(1);
        let segment = segments.get(at).ok_or_else(|| io::Error::other("a log has a segment"))?;
        let limit = segment.size();
        let position = segment.position_of(offset, limit)?.unwrap_or(limit);
        Ok(LogPosition { offset, segment: segment.base_offset(), position })
    }

    /// An offset that all records of what was read lie below, and not many others: for
    /// [`Log::aborted_transactions`].
    pub fn upper_bound(&self, slice: &Slice) -> io::Result<Offset> {
        let end = self.end().offset;
        let segments = self.segments.load();
        let Ok(at) = segments.binary_search_by_key(&slice.segment, |s| s.base_offset()) else {
            return Ok(end);
        };
        let next = segments.get(at + 1).map_or(end, |next| next.base_offset());
        let indexed = segments[at].indexed_offset_behind(slice.position + slice.len as u64)?;
        Ok(indexed.unwrap_or(next))
    }
}
