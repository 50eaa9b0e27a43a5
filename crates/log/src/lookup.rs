//! Finding batches and records of a segment by offset and by time.
//!
//! The indexes have no checksums: what an entry says is held against the batch that it points to, and
//! where they disagree, the segment is read from its start.

use std::io;

use ottla_record::{
    BatchHeader, LeaderEpoch, MalformedRecords, Offset, Record, RecordBatch, Timestamp,
};

use crate::index::{OffsetEntry, TimeEntry};
use crate::log::TimestampedOffset;
use crate::scan::no_batch;
use crate::segment::Segment;

/// The most that a look for a timestamp unpacks of one batch.
const UNPACKED_BYTES_MAX: usize = 1 << 30;

impl Segment {
    /// The position of the first batch that ends at or behind `offset`, if it begins below `limit`.
    pub(crate) fn position_of(&self, offset: Offset, limit: u64) -> io::Result<Option<u64>> {
        self.batch_at(offset, limit, |_| ()).map(|found| found.map(|(position, ())| position))
    }

    /// The offset of the first index entry that points to `position` or behind it.
    pub(crate) fn indexed_offset_behind(&self, position: u64) -> io::Result<Option<Offset>> {
        let ceiling = self.summary.lock().offsets.ceiling(|e| u64::from(e.position) < position)?;
        Ok(ceiling.map(|e| self.base_offset() + i64::from(e.relative_offset)))
    }

    /// The leader epoch of the first batch that ends at or behind `offset`, if there is one.
    pub(crate) fn epoch_at(&self, offset: Offset) -> io::Result<Option<LeaderEpoch>> {
        let found = self.batch_at(offset, self.size(), |batch| batch.leader_epoch())?;
        Ok(found.map(|(_, epoch)| epoch))
    }

    /// What `read` tells of the first batch that ends at or behind `offset`, with its position.
    fn batch_at<T>(
        &self,
        offset: Offset,
        limit: u64,
        read: impl Fn(&BatchHeader<'_>) -> T,
    ) -> io::Result<Option<(u64, T)>> {
        let relative = offset - self.base_offset();
        let before = |e: OffsetEntry| i64::from(e.relative_offset) <= relative;
        let found = |position, batch: &BatchHeader<'_>| {
            (batch.last_offset() >= offset).then(|| (position, read(batch)))
        };
        let floor = self.summary.lock().offsets.floor(before)?;
        let Some(entry) = floor else { return self.scan(0, limit).find(found) };
        // At an entry's position begins a batch, and not behind the entry's offset. An entry that was
        // damaged must not hide records.
        let mut is_right = None;
        let from_entry = self.scan(entry.position.into(), limit).find(|position, batch| {
            match *is_right.get_or_insert_with(|| self.is_entry_of(entry, batch)) {
                true => found(position, batch).map(Some),
                false => Some(None),
            }
        });
        match (is_right, from_entry) {
            (Some(true), from_entry) => from_entry.map(Option::flatten),
            (None, Err(error)) if error.kind() != io::ErrorKind::InvalidData => Err(error),
            _ => self.scan(0, limit).find(found),
        }
    }

    /// Whether an entry of the offset index can point to a batch.
    fn is_entry_of(&self, entry: OffsetEntry, batch: &BatchHeader<'_>) -> bool {
        let offset = self.base_offset() + i64::from(entry.relative_offset);
        (self.base_offset()..=offset).contains(&batch.base_offset())
    }

    /// Whether a batch has the timestamp and the offset of an entry: it says that none before has a
    /// greater one. One that was damaged must not hide records.
    fn points_to_time(&self, entry: TimeEntry) -> io::Result<bool> {
        let offset = self.base_offset() + i64::from(entry.relative_offset);
        let found = self.batch_at(offset, self.size(), |batch| {
            batch.base_offset() <= offset && batch.max_timestamp() == entry.timestamp
        })?;
        Ok(found.is_some_and(|(_, is_right)| is_right))
    }

    /// Whether the indexes end as those of the segment can.
    pub(crate) fn has_right_indexes(&self) -> io::Result<bool> {
        let (offset, time) = {
            let summary = self.summary.lock();
            (summary.offsets.last(), summary.times.last())
        };
        let offset_is_right = match offset {
            Some(entry) => self
                .scan(entry.position.into(), self.size())
                .find(|_, batch| Some(self.is_entry_of(entry, batch)))
                .map(|found| found == Some(true)),
            None => Ok(true),
        };
        let time_is_right = match time {
            Some(entry) => self.points_to_time(entry),
            // Only segments without timestamps have none.
            None => Ok(self.first_timestamp()?.is_none_or(|first| first == Timestamp::NONE)),
        };
        let last_is_right = self.next_offset().map(|_| true);
        for is_right in [offset_is_right, time_is_right, last_is_right] {
            match is_right {
                Ok(true) => {}
                // Whether the indexes or the batches are at fault, a walk will tell.
                Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The greatest indexed batch start that is behind `from` and not behind `to`: where a read of
    /// limited size ends without cutting a batch.
    pub(crate) fn batch_start_between(&self, from: u64, to: u64) -> io::Result<Option<u64>> {
        let floor = self.summary.lock().offsets.floor(|e| u64::from(e.position) <= to)?;
        Ok(floor.map(|e| u64::from(e.position)).filter(|&position| position > from))
    }

    /// The size of the batch at `position`; `None` at the end.
    pub(crate) fn batch_size_at(&self, position: u64) -> io::Result<Option<usize>> {
        self.scan(position, self.size()).find(|_, batch| Some(batch.size_in_bytes()))
    }

    /// The first record at or after `timestamp` that does not lie before `from`.
    pub(crate) fn record_at_or_after(
        &self,
        timestamp: Timestamp,
        from: Offset,
    ) -> io::Result<Option<TimestampedOffset>> {
        let floor = self.summary.lock().times.floor(|e| e.timestamp < timestamp)?;
        let offset = match floor {
            Some(entry) if self.points_to_time(entry)? => i64::from(entry.relative_offset),
            _ => 0,
        };
        let offset = self.base_offset() + offset;
        let limit = self.size();
        let mut next = self.position_of(offset.max(from), limit)?;
        while let Some(start) = next {
            let candidate = self.scan(start, limit).find(|position, batch| {
                (batch.max_timestamp() >= timestamp).then_some((position, batch.size_in_bytes()))
            })?;
            let Some((position, size)) = candidate else { break };
            let mut found = None;
            self.visit_records(position, size, |record| {
                if found.is_none() && record.timestamp >= timestamp && record.offset >= from {
                    let (timestamp, offset) = (record.timestamp, record.offset);
                    found = Some(TimestampedOffset { timestamp, offset });
                }
            })?;
            if found.is_some() {
                return Ok(found);
            }
            next = Some(position + size as u64);
        }
        Ok(None)
    }

    /// The greatest timestamp of the records that do not lie before `from`.
    pub(crate) fn max_timestamp_from(&self, from: Offset) -> io::Result<Timestamp> {
        if from <= self.base_offset() {
            return Ok(self.max_timestamp());
        }
        let limit = self.size();
        let Some(start) = self.position_of(from, limit)? else { return Ok(Timestamp::NONE) };
        let (mut max, mut straddling) = (Timestamp::NONE, None);
        self.scan(start, limit).each(|batch| {
            if batch.base_offset() < from {
                straddling = Some(batch.size_in_bytes());
            } else {
                max = max.max(batch.max_timestamp());
            }
        })?;
        if let Some(size) = straddling {
            self.visit_records(start, size, |record| {
                if record.offset >= from {
                    max = max.max(record.timestamp);
                }
            })?;
        }
        Ok(max)
    }

    fn visit_records(
        &self,
        position: u64,
        size: usize,
        visit: impl FnMut(&Record<'_>),
    ) -> io::Result<()> {
        let bytes = self.bytes_at(position, size)?;
        let (batch, _) =
            RecordBatch::parse(&bytes).map_err(|error| no_batch(self.path(), position, &error))?;
        batch
            .visit_records(UNPACKED_BYTES_MAX, visit)
            .map_err(|error: MalformedRecords| no_batch(self.path(), position, &error))
    }
}
