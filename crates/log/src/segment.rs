//! One segment of a log: a `.log` file of record batches with its two sparse indexes.
//!
//! One appender at a time (the log's lock); any number of readers beside it. A reader trusts
//! [`Segment::size`], which is published after the bytes are in the file.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ottla_record::legacy::LegacyEntry;
use ottla_record::{
    BatchError, BatchHeader, HEADER_BYTES, MalformedRecords, Offset, Record, RecordBatch, Timestamp,
};
use ottla_runtime::disk::{Disk, File, OpenMode};
use parking_lot::Mutex;

use crate::index::{Index, OffsetEntry, TimeEntry};
use crate::log::TimestampedOffset;
use crate::scan::{Scan, no_batch};

/// Writeback is started each time that so much was written, so that the kernel never has so many
/// dirty pages that it makes a writer wait.
const WRITEBACK_BYTES: u64 = 16 * 1024 * 1024;

/// One slot of the time index is kept for the entry that a roll adds.
const TIME_INDEX_RESERVED: usize = 1;

/// The most that a look for a timestamp unpacks of one batch.
const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// The bytes before those that a batch of any format counts in its length field: offset and length.
const LOG_OVERHEAD: usize = 12;

/// A segment.
pub(crate) struct Segment {
    base_offset: Offset,
    path: PathBuf,
    file: Arc<dyn File>,
    size: AtomicU64,
    /// A write that failed may have left bytes behind `size`.
    has_garbage: AtomicBool,
    /// A sync failed. What the kernel dropped then, another sync would not tell.
    has_lost: AtomicBool,
    summary: Mutex<Summary>,
}

/// What is known of the records of a segment beside their bytes.
struct Summary {
    offsets: Index<OffsetEntry>,
    times: Index<TimeEntry>,
    /// Bytes since the last index entry.
    unindexed_bytes: u64,
    max_timestamp: Timestamp,
    /// The last offset of the first batch that has `max_timestamp`.
    max_timestamp_offset: Offset,
    /// The files are gone, or about to go: none may be made again.
    removed: bool,
}

/// The facts of a batch that an index entry is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchFacts {
    pub(crate) last_offset: Offset,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) size: usize,
}

impl BatchFacts {
    pub(crate) fn of(header: &BatchHeader<'_>) -> Self {
        Self {
            last_offset: header.last_offset(),
            max_timestamp: header.max_timestamp(),
            size: header.size_in_bytes(),
        }
    }
}

/// Where the segments of one partition live and how their indexes are built.
#[derive(Clone)]
pub(crate) struct SegmentOptions {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// `index.interval.bytes`
    pub(crate) index_interval_bytes: u64,
    /// `segment.index.bytes`
    pub(crate) index_bytes_max: usize,
}

impl SegmentOptions {
    /// The path of a file that belongs to the offset: twenty digits and a suffix.
    pub(crate) fn path(&self, offset: Offset, suffix: &str) -> PathBuf {
        self.dir.join(format!("{:020}.{suffix}", offset.0))
    }
}

/// What a file of unknown end was found to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Bytes of whole batches; what lies behind them is to be cut.
    pub(crate) size: u64,
    /// The offset behind the last batch.
    pub(crate) next_offset: Offset,
    /// No offset is missing: the segment was never compacted.
    pub(crate) is_dense: bool,
}

impl Segment {
    /// Opens or makes the segment that begins at `base_offset`. With `trusted`, its indexes are
    /// believed where they are and can be right. Otherwise they are empty, the second value is
    /// `false`, and [`Segment::recover`] must follow if the segment is not new.
    pub(crate) fn open(
        options: &SegmentOptions,
        base_offset: Offset,
        trusted: bool,
    ) -> io::Result<(Self, bool)> {
        let path = options.path(base_offset, "log");
        let file = options.disk.open(&path, OpenMode::Create)?;
        let size = file.len()?;
        let index_path = options.path(base_offset, "index");
        let time_path = options.path(base_offset, "timeindex");
        let (disk, bytes_max) = (&options.disk, options.index_bytes_max);
        let found = if trusted {
            let offsets = Index::open(disk.clone(), index_path.clone(), bytes_max)?
                .filter(|i| i.last().is_none_or(|e: OffsetEntry| u64::from(e.position) < size));
            offsets.zip(Index::open(disk.clone(), time_path.clone(), bytes_max)?)
        } else {
            None
        };
        let has_indexes = found.is_some();
        let (offsets, times) = match found {
            Some(found) => found,
            None if trusted => (
                Index::replacement(disk.clone(), index_path, bytes_max),
                Index::replacement(disk.clone(), time_path, bytes_max),
            ),
            None => (
                Index::empty(disk.clone(), index_path, bytes_max),
                Index::empty(disk.clone(), time_path, bytes_max),
            ),
        };
        let last: Option<TimeEntry> = times.last();
        let summary = Summary {
            offsets,
            unindexed_bytes: 0,
            max_timestamp: last.map_or(Timestamp::NONE, |e| e.timestamp),
            max_timestamp_offset: base_offset + last.map_or(0, |e| i64::from(e.relative_offset)),
            times,
            removed: false,
        };
        let segment = Self {
            base_offset,
            path,
            file,
            size: AtomicU64::new(size),
            has_garbage: AtomicBool::new(false),
            has_lost: AtomicBool::new(false),
            summary: Mutex::new(summary),
        };
        Ok((segment, has_indexes))
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.base_offset
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Bytes that a reader may read.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The greatest timestamp of the segment's records.
    pub(crate) fn max_timestamp(&self) -> Timestamp {
        self.summary.lock().max_timestamp
    }

    /// Whether another index entry would not fit.
    pub(crate) fn is_full(&self) -> bool {
        let summary = self.summary.lock();
        summary.offsets.is_full(0) || summary.times.is_full(TIME_INDEX_RESERVED)
    }

    /// Whether an index entry can tell the offset.
    pub(crate) fn reaches(&self, offset: Offset) -> bool {
        offset - self.base_offset <= i64::from(i32::MAX)
    }

    /// Writes a batch behind the others. After an error the segment is as it was.
    pub(crate) fn append(
        &self,
        header: &[u8; HEADER_BYTES],
        payload: &[u8],
        batch: BatchFacts,
        index_interval_bytes: u64,
    ) -> io::Result<()> {
        self.check_not_lost()?;
        self.cut_garbage()?;
        let position = self.size();
        if let Err(error) =
            self.file.write_at(&[IoSlice::new(header), IoSlice::new(payload)], position)
        {
            self.has_garbage.store(true, Ordering::Relaxed);
            return Err(error);
        }
        self.summary.lock().note(self.base_offset, position, batch, index_interval_bytes);
        let end = position + batch.size as u64;
        self.size.store(end, Ordering::Release);
        if position / WRITEBACK_BYTES != end / WRITEBACK_BYTES {
            let start = (position / WRITEBACK_BYTES) * WRITEBACK_BYTES;
            self.file.start_writeback(start..end);
        }
        Ok(())
    }

    /// Cuts what a failed write left: bytes of a client, which must never stand behind the last
    /// batch where a later load would take them for one.
    fn cut_garbage(&self) -> io::Result<()> {
        if self.has_garbage.load(Ordering::Relaxed) {
            self.file.set_len(self.size())?;
            self.has_garbage.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The position of the first batch that ends at or behind `offset`, if it begins below `limit`.
    pub(crate) fn position_of(&self, offset: Offset, limit: u64) -> io::Result<Option<u64>> {
        let relative = offset - self.base_offset;
        let before = |e: OffsetEntry| i64::from(e.relative_offset) <= relative;
        let floor = self.summary.lock().offsets.floor(before)?;
        let start = floor.map_or(0, |e| u64::from(e.position));
        let found =
            |position, batch: &BatchHeader<'_>| (batch.last_offset() >= offset).then_some(position);
        self.scan(start, limit).find(found)
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
        let offset = self.base_offset + floor.map_or(0, |e| i64::from(e.relative_offset));
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
        if from <= self.base_offset {
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

    /// Calls `each` with every batch header from `offset` on.
    pub(crate) fn replay(
        &self,
        offset: Offset,
        each: impl FnMut(&BatchHeader<'_>),
    ) -> io::Result<()> {
        let limit = self.size();
        match self.position_of(offset, limit)? {
            Some(start) => self.scan(start, limit).each(each),
            None => Ok(()),
        }
    }

    /// Reads the segment batch by batch, up to the first that is not whole or has a wrong checksum
    /// or offset, and rebuilds the indexes. What lies behind is left for [`Segment::truncate`].
    pub(crate) fn recover(
        &self,
        index_interval_bytes: u64,
        mut each: impl FnMut(&BatchHeader<'_>),
    ) -> io::Result<Recovered> {
        let mut found = Recovered { size: 0, next_offset: self.base_offset, is_dense: true };
        let mut summary = self.summary.lock();
        while let Some(bytes) = self.entry_at(found.size)? {
            let batch = match RecordBatch::parse(&bytes) {
                Ok((batch, _)) => batch,
                Err(error) => {
                    self.refuse_legacy(&bytes, found.size, &error)?;
                    break;
                }
            };
            let span = batch.last_offset().0.wrapping_sub(self.base_offset.0);
            if batch.verify_crc().is_err()
                || batch.base_offset() < found.next_offset
                || batch.last_offset() < batch.base_offset()
                || span > i64::from(i32::MAX)
            {
                break;
            }
            let facts = BatchFacts::of(&batch);
            summary.note(self.base_offset, found.size, facts, index_interval_bytes);
            each(&batch);
            found.is_dense &= batch.base_offset() == found.next_offset
                && i64::from(batch.count()) == batch.next_offset() - batch.base_offset();
            found.next_offset = batch.next_offset();
            found.size += facts.size as u64;
        }
        Ok(found)
    }

    /// The bytes of the batch at `position` in whatever format; `None` if there cannot be a whole
    /// one.
    fn entry_at(&self, position: u64) -> io::Result<Option<Vec<u8>>> {
        let available = self.size() - position;
        if available < LOG_OVERHEAD as u64 {
            return Ok(None);
        }
        let prefix = self.bytes_at(position, LOG_OVERHEAD)?;
        let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        match usize::try_from(length).map(|length| LOG_OVERHEAD + length) {
            Ok(size) if size as u64 <= available => self.bytes_at(position, size).map(Some),
            _ => Ok(None),
        }
    }

    /// Fails if the bytes are a batch of a format before 2, which must not be cut for damage.
    fn refuse_legacy(&self, bytes: &[u8], position: u64, error: &BatchError) -> io::Result<()> {
        let legacy = LegacyEntry::parse(bytes).ok().filter(|(e, _)| e.verify_crc().is_ok());
        match legacy {
            Some(_) => Err(no_batch(&self.path, position, error)),
            None => Ok(()),
        }
    }

    /// Cuts the segment, durably.
    pub(crate) fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)?;
        self.file.sync_data()?;
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    /// The offset behind the last batch.
    pub(crate) fn next_offset(&self) -> io::Result<Offset> {
        let last = self.summary.lock().offsets.last();
        let mut next = self.base_offset;
        let start = last.map_or(0, |e| u64::from(e.position));
        self.scan(start, self.size()).each(|batch| next = batch.next_offset())?;
        Ok(next)
    }

    /// The greatest timestamp of the first batch, from which the age of the segment counts. `None`
    /// if there is no batch.
    pub(crate) fn first_timestamp(&self) -> io::Result<Option<Timestamp>> {
        self.scan(0, self.size()).find(|_, batch| Some(batch.max_timestamp()))
    }

    /// Ends the segment: the time index gets its last entry, and all is made durable.
    pub(crate) fn seal(&self) -> io::Result<()> {
        let indexes = {
            let mut summary = self.summary.lock();
            if summary.removed {
                return Ok(());
            }
            summary.note_max_timestamp(self.base_offset);
            [summary.offsets.seal()?, summary.times.seal()?]
        };
        // Readers need the summary: it is not locked while the disk works.
        self.cut_garbage()?;
        indexes.iter().try_for_each(|index| index.sync_data())?;
        self.sync()
    }

    /// Ends the segment without waiting for the disk; [`Segment::seal`] follows with the next flush.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.cut_garbage()?;
        self.summary.lock().note_max_timestamp(self.base_offset);
        Ok(())
    }

    /// Makes the batches durable. Once that failed, this and [`Segment::append`] fail until the
    /// segment is loaded again.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.check_not_lost()?;
        self.file.sync_data().inspect_err(|_| self.has_lost.store(true, Ordering::Relaxed))
    }

    /// A sync failed, so that nobody knows what of the segment is on the disk.
    pub(crate) fn has_lost(&self) -> bool {
        self.has_lost.load(Ordering::Relaxed)
    }

    fn check_not_lost(&self) -> io::Result<()> {
        if self.has_lost() {
            let message = format!("{}: an earlier sync failed", self.path.display());
            return Err(io::Error::other(message));
        }
        Ok(())
    }

    /// When the newest record was written: its timestamp or, without one, the file's.
    pub(crate) fn newest_ms(&self) -> io::Result<i64> {
        match self.max_timestamp() {
            Timestamp::NONE => self.file.modified_ms(),
            Timestamp(ms) => Ok(ms),
        }
    }

    /// Removes the files. Readers that hold the segment go on reading.
    pub(crate) fn remove(&self, options: &SegmentOptions) -> io::Result<()> {
        self.summary.lock().removed = true;
        remove_segment_files(options, self.base_offset)
    }

    fn visit_records(
        &self,
        position: u64,
        size: usize,
        visit: impl FnMut(&Record<'_>),
    ) -> io::Result<()> {
        let bytes = self.bytes_at(position, size)?;
        let (batch, _) =
            RecordBatch::parse(&bytes).map_err(|error| no_batch(&self.path, position, &error))?;
        batch
            .visit_records(UNPACKED_BYTES_MAX, visit)
            .map_err(|error: MalformedRecords| no_batch(&self.path, position, &error))
    }

    fn bytes_at(&self, position: u64, size: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        if self.file.read_at(&mut bytes, position)? < size {
            let message = format!("{} ends within a batch at {position}", self.path.display());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        Ok(bytes)
    }

    fn scan(&self, position: u64, end: u64) -> Scan<'_> {
        Scan::new(&*self.file, &self.path, position..end)
    }
}

impl Summary {
    /// Notes a batch at `position`. Kafka's rule: a batch gets an entry when more than the interval
    /// was written since the last one; the entry has the batch's *last* offset.
    fn note(
        &mut self,
        base_offset: Offset,
        position: u64,
        batch: BatchFacts,
        index_interval_bytes: u64,
    ) {
        if batch.max_timestamp > self.max_timestamp {
            self.max_timestamp = batch.max_timestamp;
            self.max_timestamp_offset = batch.last_offset;
        }
        if self.unindexed_bytes > index_interval_bytes {
            self.offsets.push(OffsetEntry {
                relative_offset: (batch.last_offset - base_offset) as u32,
                position: position as u32,
            });
            self.note_max_timestamp(base_offset);
            self.unindexed_bytes = 0;
        }
        self.unindexed_bytes += batch.size as u64;
    }

    fn note_max_timestamp(&mut self, base_offset: Offset) {
        let last = self.times.last().map_or(Timestamp::NONE, |e| e.timestamp);
        if self.max_timestamp > last {
            let relative_offset = (self.max_timestamp_offset - base_offset) as u32;
            self.times.push(TimeEntry { timestamp: self.max_timestamp, relative_offset });
        }
    }
}

/// Removes the segment that begins at `base_offset`, durably, with the snapshot taken there.
pub(crate) fn remove_segment_files(
    options: &SegmentOptions,
    base_offset: Offset,
) -> io::Result<()> {
    // The log first: without it the others are leftovers that the next load removes.
    for suffix in ["log", "index", "timeindex", "txnindex", "snapshot"] {
        remove_if_there(&*options.disk, &options.path(base_offset, suffix))?;
    }
    options.disk.sync_dir(&options.dir)
}

pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
