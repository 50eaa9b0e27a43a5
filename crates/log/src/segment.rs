//! One segment of a log: a `.log` file of record batches with its two sparse indexes.
//!
//! One appender at a time (the log's lock); any number of readers beside it. A reader trusts
//! [`Segment::size`], which is published after the bytes are in the file.

use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use ottla_record::{BatchHeader, EndTransactionMarker, HEADER_BYTES, Offset, Timestamp};
use ottla_runtime::disk::{Disk, File, OpenMode, pin};
use parking_lot::Mutex;

use crate::index::{Entry, Index, OffsetEntry, TimeEntry};
use crate::producer_state::{MARKER_BYTES_MAX, marker_of};
use crate::scan::Scan;
use crate::txn_index::{AbortedTransaction, TransactionIndex};

/// Writeback is started each time that so much was written, so that the kernel never has so many
/// dirty pages that it makes a writer wait.
const WRITEBACK_BYTES: u64 = 16 * 1024 * 1024;

/// One slot of the time index is kept for the entry that a roll adds.
const TIME_INDEX_RESERVED: usize = 1;

/// A segment.
pub(crate) struct Segment {
    base_offset: Offset,
    path: FilePath,
    file: Arc<dyn File>,
    /// The same file, once its name goes to another segment.
    pinned: OnceLock<Arc<dyn File>>,
    size: AtomicU64,
    /// A write that failed may have left bytes behind `size`.
    has_garbage: AtomicBool,
    /// A sync failed. What the kernel dropped then, another sync would not tell.
    has_lost: AtomicBool,
    pub(crate) summary: Mutex<Summary>,
    aborted: Mutex<TransactionIndex>,
}

/// What is known of the records of a segment beside their bytes.
pub(crate) struct Summary {
    pub(crate) offsets: Index<OffsetEntry>,
    pub(crate) times: Index<TimeEntry>,
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
    /// Shared by all that have a file in it.
    pub(crate) dir: Arc<Path>,
    /// `index.interval.bytes`
    pub(crate) index_interval_bytes: u64,
    /// `segment.index.bytes`
    pub(crate) index_bytes_max: usize,
}

/// Where a file of a segment lies. There are many of them, so that the directory is shared.
#[derive(Clone)]
pub(crate) struct FilePath {
    dir: Arc<Path>,
    base_offset: Offset,
    suffix: &'static str,
}

impl FilePath {
    pub(crate) fn new(dir: &Arc<Path>, base_offset: Offset, suffix: &'static str) -> Self {
        Self { dir: dir.clone(), base_offset, suffix }
    }

    /// The path: in it, twenty digits and the suffix.
    pub(crate) fn get(&self) -> PathBuf {
        self.dir.join(format!("{:020}.{}", self.base_offset.0, self.suffix))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().display().fmt(f)
    }
}

impl SegmentOptions {
    fn file(&self, base_offset: Offset, suffix: &'static str) -> FilePath {
        FilePath::new(&self.dir, base_offset, suffix)
    }

    /// The path of a file that belongs to the offset: twenty digits and a suffix.
    pub(crate) fn path(&self, offset: Offset, suffix: &str) -> PathBuf {
        self.dir.join(format!("{:020}.{suffix}", offset.0))
    }
}

impl Segment {
    /// Opens or makes the segment that begins at `base_offset`. With `trusted`, its indexes are
    /// believed where they are and can be right. Otherwise they are empty, the second value is
    /// `false`, and [`Segment::walk`] must follow if the segment is not new.
    pub(crate) fn open(
        options: &SegmentOptions,
        base_offset: Offset,
        trusted: bool,
    ) -> io::Result<(Self, bool)> {
        let path = options.file(base_offset, "log");
        let file = options.disk.open(&path.get(), OpenMode::Create)?;
        if !trusted {
            // What a failed sync did not write is not to be found here.
            file.reread()?;
        }
        let size = file.len()?;
        let index_path = options.file(base_offset, "index");
        let time_path = options.file(base_offset, "timeindex");
        let (disk, bytes_max) = (&options.disk, options.index_bytes_max);
        let txn_path = options.file(base_offset, "txnindex");
        let found = if trusted {
            let offsets = Index::open(disk.clone(), index_path.clone(), bytes_max)?
                .filter(|i| i.last().is_none_or(|e: OffsetEntry| u64::from(e.position) < size));
            offsets.zip(Index::open(disk.clone(), time_path.clone(), bytes_max)?)
        } else {
            None
        };
        let aborted = match found {
            Some(_) => TransactionIndex::open(disk.clone(), txn_path.clone(), base_offset)?,
            None => None,
        };
        let found = found.filter(|_| aborted.is_some());
        let mut has_indexes = found.is_some();
        let indexes = found.unwrap_or_else(|| empty_indexes(options, base_offset, trusted));
        let aborted = aborted.unwrap_or_else(|| TransactionIndex::empty(disk.clone(), txn_path));
        let segment = Self::new(base_offset, path, file, indexes, aborted)?;
        if has_indexes && !segment.has_right_indexes()? {
            let (offsets, times) = empty_indexes(options, base_offset, true);
            *segment.summary.lock() = Summary::new(base_offset, offsets, times);
            has_indexes = false;
        }
        segment.summary.lock().give_up_files();
        Ok((segment, has_indexes))
    }

    /// Makes the segment that takes what the log cleaner keeps of others. Its files have names that
    /// a load removes.
    pub(crate) fn cleaned(options: &SegmentOptions, base_offset: Offset) -> io::Result<Self> {
        let file_path = |suffix| options.file(base_offset, suffix);
        let (disk, bytes_max) = (&options.disk, options.index_bytes_max);
        let path = file_path("log.cleaned");
        let file = disk.open(&path.get(), OpenMode::Create)?;
        // A pass that failed may have left them.
        file.set_len(0)?;
        remove_if_there(&**disk, &options.path(base_offset, "txnindex.cleaned"))?;
        let offsets = Index::empty(disk.clone(), file_path("index.cleaned"), bytes_max);
        let times = Index::empty(disk.clone(), file_path("timeindex.cleaned"), bytes_max);
        let aborted = TransactionIndex::empty(disk.clone(), file_path("txnindex.cleaned"));
        Self::new(base_offset, path, file, (offsets, times), aborted)
    }

    fn new(
        base_offset: Offset,
        path: FilePath,
        file: Arc<dyn File>,
        (offsets, times): (Index<OffsetEntry>, Index<TimeEntry>),
        aborted: TransactionIndex,
    ) -> io::Result<Self> {
        let size = file.len()?;
        Ok(Self {
            base_offset,
            path,
            file,
            pinned: OnceLock::new(),
            size: AtomicU64::new(size),
            has_garbage: AtomicBool::new(false),
            has_lost: AtomicBool::new(false),
            summary: Mutex::new(Summary::new(base_offset, offsets, times)),
            aborted: Mutex::new(aborted),
        })
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.base_offset
    }

    pub(crate) fn path(&self) -> &FilePath {
        &self.path
    }

    pub(crate) fn file(&self) -> &Arc<dyn File> {
        self.pinned.get().unwrap_or(&self.file)
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

    /// Notes a transaction that a batch of the segment aborted.
    pub(crate) fn note_aborted(&self, aborted: AbortedTransaction) {
        self.aborted.lock().push(aborted);
    }

    /// Makes these the aborted transactions of the segment, which was read anew.
    pub(crate) fn replace_aborted(&self, aborted: &[AbortedTransaction]) -> io::Result<()> {
        self.aborted.lock().replace(aborted)
    }

    /// Calls `each` with the transactions that were aborted in the segment until it answers `false`.
    pub(crate) fn visit_aborted(
        &self,
        each: impl FnMut(AbortedTransaction) -> bool,
    ) -> io::Result<()> {
        match self.aborted.lock().visit(each)? {
            true => Ok(()),
            false => {
                let path = self.path.get().with_extension("txnindex");
                let message = format!("{} is damaged", path.display());
                Err(io::Error::new(io::ErrorKind::InvalidData, message))
            }
        }
    }

    /// Writes whole batches behind the others, for a segment that nobody reads yet.
    pub(crate) fn append_copied(
        &self,
        bytes: &[u8],
        batches: &[BatchFacts],
        index_interval_bytes: u64,
    ) -> io::Result<()> {
        let mut position = self.size();
        self.file.write_at(&[IoSlice::new(bytes)], position)?;
        let mut summary = self.summary.lock();
        for &batch in batches {
            summary.note(self.base_offset, position, batch, index_interval_bytes);
            position += batch.size as u64;
        }
        self.size.store(position, Ordering::Release);
        Ok(())
    }

    /// Bytes of the offset index and of the time index.
    pub(crate) fn index_sizes(&self) -> [usize; 2] {
        let summary = self.summary.lock();
        [summary.offsets.len() * OffsetEntry::SIZE, summary.times.len() * TimeEntry::SIZE]
    }

    /// Opens what the segment may still read by name, because its names go to another segment.
    pub(crate) fn hold_files(&self) -> io::Result<()> {
        let file = pin(&self.file)?;
        self.pinned.get_or_init(|| file);
        let mut summary = self.summary.lock();
        summary.offsets.hold()?;
        summary.times.hold()?;
        self.aborted.lock().hold()
    }

    /// Its names belong to another segment now: nothing is written or removed by them any more.
    /// Readers that hold the segment go on reading.
    pub(crate) fn give_names_up(&self) {
        self.summary.lock().removed = true;
    }

    /// Removes the files of indexes that are made anew and not written yet: what a crash left in them
    /// is of no use, and a second crash would leave it to others.
    pub(crate) fn remove_unwritten_indexes(&self) -> io::Result<()> {
        let mut summary = self.summary.lock();
        summary.offsets.remove_unwritten()?;
        summary.times.remove_unwritten()
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

    /// Calls `each` with every batch header from `offset` on.
    pub(crate) fn replay(
        &self,
        offset: Offset,
        mut each: impl FnMut(&BatchHeader<'_>, Option<EndTransactionMarker>),
    ) -> io::Result<()> {
        let limit = self.size();
        let Some(start) = self.position_of(offset, limit)? else { return Ok(()) };
        let mut failure = Ok(());
        self.scan(start, limit).find(|position, batch| {
            match self.marker_at(position, batch) {
                Ok(marker) => each(batch, marker),
                Err(error) => failure = Err(error),
            }
            failure.is_err().then_some(())
        })?;
        failure
    }

    /// What the batch at `position` says if it ends a transaction.
    pub(crate) fn marker_at(
        &self,
        position: u64,
        batch: &BatchHeader<'_>,
    ) -> io::Result<Option<EndTransactionMarker>> {
        let size = batch.size_in_bytes();
        if !batch.attributes().is_control() || size > MARKER_BYTES_MAX {
            return Ok(None);
        }
        Ok(marker_of(batch, &self.bytes_at(position, size)?[HEADER_BYTES..]))
    }

    /// Cuts the segment, durably.
    pub(crate) fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)?;
        self.file.sync_data()?;
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    /// The offset behind the last batch, and the position of one behind that which the file ends
    /// within.
    pub(crate) fn next_offset(&self) -> io::Result<(Offset, Option<u64>)> {
        let last = self.summary.lock().offsets.last();
        let mut next = self.base_offset;
        let start = last.map_or(0, |e| u64::from(e.position));
        let cut_off = self.scan(start, self.size()).find(|position, batch| {
            if position + batch.size_in_bytes() as u64 > self.size() {
                return Some(position);
            }
            next = batch.next_offset();
            None
        })?;
        Ok((next, cut_off))
    }

    /// The greatest timestamp of the first batch, from which the age of the segment counts. `None`
    /// if there is no batch.
    pub(crate) fn first_timestamp(&self) -> io::Result<Option<Timestamp>> {
        self.scan(0, self.size()).find(|_, batch| Some(batch.max_timestamp()))
    }

    /// Ends the segment: the time index gets its last entry, and all is made durable.
    pub(crate) fn seal(&self) -> io::Result<()> {
        // Readers need the summary: it is not locked while the disk works.
        let indexes = self.write_seal()?;
        indexes.iter().try_for_each(|index| index.sync_data())?;
        if self.summary.lock().removed { Ok(()) } else { self.sync() }
    }

    /// As [`Segment::seal`], but for making it durable. Returns the files of the indexes.
    pub(crate) fn write_seal(&self) -> io::Result<Vec<Arc<dyn File>>> {
        self.check_not_lost()?;
        let mut indexes = {
            let mut summary = self.summary.lock();
            if summary.removed {
                return Ok(Vec::new());
            }
            summary.note_max_timestamp(self.base_offset);
            vec![summary.offsets.seal()?, summary.times.seal()?]
        };
        indexes.extend(self.aborted.lock().seal()?);
        self.cut_garbage()?;
        Ok(indexes)
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
        self.file().sync_data().inspect_err(|_| self.has_lost.store(true, Ordering::Relaxed))
    }

    /// A sync failed, so that nobody knows what of the segment is on the disk.
    pub(crate) fn has_lost(&self) -> bool {
        self.has_lost.load(Ordering::Relaxed)
    }

    pub(crate) fn check_not_lost(&self) -> io::Result<()> {
        if self.has_lost() {
            let message = format!("{}: an earlier sync failed", self.path);
            return Err(io::Error::other(message));
        }
        Ok(())
    }

    /// When the newest record was written: its timestamp or, without one, the file's.
    pub(crate) fn newest_ms(&self) -> io::Result<i64> {
        match self.max_timestamp() {
            Timestamp::NONE => self.file().modified_ms(),
            Timestamp(ms) => Ok(ms),
        }
    }

    /// Removes the files. Readers that hold the segment go on reading.
    pub(crate) fn remove(&self, options: &SegmentOptions) -> io::Result<()> {
        self.summary.lock().removed = true;
        remove_segment_files(options, self.base_offset)
    }

    pub(crate) fn bytes_at(&self, position: u64, size: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; size];
        if self.file().read_at(&mut bytes, position)? < size {
            let message = format!("{} ends within a batch at {position}", self.path);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        Ok(bytes)
    }

    pub(crate) fn scan(&self, position: u64, end: u64) -> Scan<'_> {
        Scan::new(&**self.file(), &self.path, position..end)
    }
}

/// The indexes of a segment that is to be walked. If other indexes of it were believed, these come to
/// be as a whole or not at all.
fn empty_indexes(
    options: &SegmentOptions,
    base_offset: Offset,
    trusted: bool,
) -> (Index<OffsetEntry>, Index<TimeEntry>) {
    let (disk, bytes_max) = (&options.disk, options.index_bytes_max);
    let index_path = options.file(base_offset, "index");
    let time_path = options.file(base_offset, "timeindex");
    match trusted {
        true => (
            Index::replacement(disk.clone(), index_path, bytes_max),
            Index::replacement(disk.clone(), time_path, bytes_max),
        ),
        false => (
            Index::empty(disk.clone(), index_path, bytes_max),
            Index::empty(disk.clone(), time_path, bytes_max),
        ),
    }
}

impl Summary {
    fn new(base_offset: Offset, offsets: Index<OffsetEntry>, times: Index<TimeEntry>) -> Self {
        let last = times.last();
        Self {
            offsets,
            unindexed_bytes: 0,
            max_timestamp: last.map_or(Timestamp::NONE, |e| e.timestamp),
            max_timestamp_offset: base_offset + last.map_or(0, |e| i64::from(e.relative_offset)),
            times,
            removed: false,
        }
    }

    /// Notes a batch at `position`. Kafka's rule: a batch gets an entry when more than the interval
    /// was written since the last one; the entry has the batch's *last* offset.
    pub(crate) fn note(
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

    /// Gives the files of the indexes up until they are used again, which most never are.
    fn give_up_files(&mut self) {
        self.offsets.give_up_file();
        self.times.give_up_file();
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
