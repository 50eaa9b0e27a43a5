//! One partition's log: an ordered list of segments, and what is remembered beside them.
//!
//! Owns: append, the producer state and the leader epochs of one partition; rolling
//! ([`crate::rolling`]), flushing ([`crate::flush`]), reading ([`crate::read`]), retention
//! ([`crate::retention`]) and opening ([`crate::loading`]) are its other rooms. Synchronous. Must not know: requests, replicas, who leads.
//!
//! ```text
//! first segment's base ≤ log start offset ≤ LEO      what readers may ask for
//!              recovery point ≤ flushed ≤ LEO        what is on the disk
//!
//! Flushed are the batches that a crash does not take; below the recovery point, all that is derived
//! from them is on the disk too, and the next opening need not look there.
//! ```
//!
//! One short lock around sequence check, offset assignment and write. Readers never take it: they
//! load the list of segments and the published end.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};

use arc_swap::ArcSwap;
use ottla_record::{
    BatchHeader, LeaderEpoch, Offset, ProducerId, Timestamp, TimestampType, ValidBatch,
};
use ottla_runtime::disk::{Disk, File};
use parking_lot::{Mutex, MutexGuard};

use crate::LogConfig;
use crate::cleaner::Cleaning;
use crate::damage::OpenError;
use crate::flush::flushed_of;
use crate::flusher::FlushListener;
use crate::leader_epochs::LeaderEpochs;
use crate::loading;
use crate::producer_state::{Duplicate, ProducerState, SequenceError, marker_of};
use crate::rolling::draw_jitter;
use crate::segment::{BatchFacts, Segment, SegmentOptions};
use crate::upkeep::Upkeep;
use crate::volume::Volume;

/// One partition's log.
pub struct Log {
    pub(crate) volume: Arc<Volume>,
    dir: Arc<Path>,
    config: ArcSwap<LogConfig>,
    /// Ascending by base offset. The last one is the active segment. There is none until the first
    /// append: a log that was never written to has no files, and begins at offset 0.
    pub(crate) segments: ArcSwap<Vec<Arc<Segment>>>,
    /// Raised before the segments below it leave the list.
    pub(crate) log_start_offset: AtomicI64,
    pub(crate) recovery_point: AtomicI64,
    /// A transaction is open, or ended where the high watermark may not have passed it.
    pub(crate) has_transactions: AtomicBool,
    /// How much of the batches is on the disk.
    pub(crate) flushed: Mutex<LogPosition>,
    /// The log is in the queue of its volume.
    pub(crate) is_queued: AtomicBool,
    /// The log is in the queue of its volume for later (`flush.ms`).
    pub(crate) is_queued_for_later: AtomicBool,
    /// Files came to be whose names a power cut might take.
    pub(crate) has_new_names: AtomicBool,
    pub(crate) listener: OnceLock<Weak<dyn FlushListener>>,
    /// Published after the bytes it covers, and after the segment that holds them.
    pub(crate) end: Mutex<LogPosition>,
    /// How often the log was cut. Changes under the lock of `flushed`.
    pub(crate) truncations: AtomicU64,
    pub(crate) appender: Mutex<Appender>,
    /// The log that took this one's place when it was moved to another directory.
    pub(crate) successor: OnceLock<Arc<Log>>,
    pub(crate) upkeep: Upkeep,
    pub(crate) cleaning: Cleaning,
}

/// What only an append changes.
pub(crate) struct Appender {
    pub(crate) producers: ProducerState,
    pub(crate) epochs: LeaderEpochs,
    /// The offset of the newest producer snapshot.
    pub(crate) snapshot_offset: Offset,
    /// The greatest timestamp of the active segment's first batch, once there is one.
    pub(crate) first_timestamp: Option<Timestamp>,
    /// When the active segment was begun, for batches without timestamps.
    pub(crate) begun_ms: i64,
    /// Spreads rolls by time over partitions (`segment.jitter.ms`).
    pub(crate) jitter_ms: i64,
    /// Nothing may change any more.
    pub(crate) is_closed: bool,
}

/// An offset with its place in the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// The offset.
    pub offset: Offset,
    /// Base offset of the segment that holds it.
    pub segment: Offset,
    /// Bytes of that segment that lie below the offset.
    pub position: u64,
}

/// What a log begins with.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// The directory was closed cleanly: nothing needs to be scanned.
    pub clean: bool,
    /// Below it, all is known to be on the disk.
    pub recovery_point: Offset,
    /// Records below it were deleted.
    pub log_start_offset: Offset,
    /// Records below it were committed: a log that ends below has lost some.
    pub high_watermark: Offset,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The time that the leader stamped, or [`Timestamp::NONE`] if the producer's stand.
    pub log_append_time: Timestamp,
    /// The log end offset (LEO) behind it.
    pub end: LogPosition,
    /// The batch was in the log already; nothing was written.
    pub duplicate: bool,
    /// By the settings of the topic (`flush.before.ack`, `flush.messages`) the batch may not be
    /// acknowledged before [`Log::flushed`] has reached `end`.
    pub awaits_flush: bool,
}

/// Why nothing was appended.
#[derive(Debug)]
pub enum AppendError {
    /// The producer's epoch or sequence does not allow it.
    Sequence(SequenceError),
    /// The batch is larger than a segment may be (`segment.bytes`).
    LargerThanSegment {
        /// Bytes of the batch.
        size: usize,
        /// `segment.bytes`
        segment_bytes: usize,
    },
    /// The disk refused, or the log was closed.
    Io(io::Error),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sequence(error) => error.fmt(f),
            Self::LargerThanSegment { size, segment_bytes } => {
                write!(f, "batch of {size} bytes is larger than segment.bytes ({segment_bytes})")
            }
            Self::Io(error) => write!(f, "the broker's disk: {error}"),
        }
    }
}

impl std::error::Error for AppendError {}

impl From<io::Error> for AppendError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Why nothing was read.
#[derive(Debug)]
pub enum ReadError {
    /// The log does not have the offset.
    OutOfRange {
        /// The log start offset.
        start: Offset,
        /// The log end offset.
        end: Offset,
    },
    /// The disk refused.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { start, end } => {
                write!(f, "the offset is not within {start} and {end}")
            }
            Self::Io(error) => write!(f, "the broker's disk: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whole batches where they lie in a file; the last one may be cut by the size that was asked for.
#[derive(Clone)]
pub struct Slice {
    /// The segment's file, which stays readable while this is held.
    pub file: Arc<dyn File>,
    /// The base offset of that segment.
    pub segment: Offset,
    /// Where the first batch begins. It may begin below the offset that was asked for.
    pub position: u64,
    /// Bytes; 0 when there is nothing to read yet.
    pub len: usize,
}

/// A record found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// The record's offset.
    pub offset: Offset,
}

impl Log {
    /// Opens the log in `dir`, or makes an empty one there.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        volume: &Arc<Volume>,
        dir: &Path,
        config: Arc<LogConfig>,
        opening: Opening,
    ) -> Result<Arc<Self>, OpenError> {
        let world = &volume.world;
        let options = segment_options(&world.disk, &dir.into(), &config);
        let loaded = loading::load(&options, &config, opening)?;
        let flushed = flushed_of(&loaded)?;
        let is_flushed = flushed == loaded.end;
        let jitter_ms = draw_jitter(world, &config);
        let appender = Appender {
            producers: loaded.producers,
            epochs: loaded.epochs,
            snapshot_offset: loaded.snapshot_offset,
            first_timestamp: loaded.first_timestamp,
            begun_ms: world.clock.wall_ms(),
            jitter_ms,
            is_closed: false,
        };
        let log = Arc::new(Self {
            volume: volume.clone(),
            dir: options.dir.clone(),
            config: ArcSwap::new(config),
            segments: ArcSwap::from_pointee(loaded.segments),
            log_start_offset: AtomicI64::new(loaded.log_start_offset.0),
            recovery_point: AtomicI64::new(loaded.recovery_point.0),
            flushed: Mutex::new(flushed),
            is_queued: AtomicBool::new(false),
            is_queued_for_later: AtomicBool::new(false),
            has_new_names: AtomicBool::new(true),
            listener: OnceLock::new(),
            has_transactions: AtomicBool::new(appender.producers.has_transactions()),
            end: Mutex::new(loaded.end),
            truncations: AtomicU64::new(0),
            appender: Mutex::new(appender),
            successor: OnceLock::new(),
            upkeep: Upkeep::default(),
            cleaning: Cleaning::default(),
        });
        if !is_flushed {
            // What a crash left in the page cache is served only once it is on the disk.
            log.flush_soon();
        }
        Ok(log)
    }

    /// The directory of the partition.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    /// Puts other settings in force, from the next append on.
    pub fn set_config(&self, config: Arc<LogConfig>) {
        self.config.store(config);
    }

    /// The log end offset (LEO): the offset of the next record.
    #[must_use]
    pub fn end(&self) -> LogPosition {
        *self.end.lock()
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        Offset(self.log_start_offset.load(Ordering::Acquire))
    }

    /// Below it, all is known to be on the disk.
    #[must_use]
    pub fn recovery_point(&self) -> Offset {
        Offset(self.recovery_point.load(Ordering::Acquire))
    }

    /// The base offset of the first segment: where the log starts if no record of it was deleted.
    #[must_use]
    pub fn first_base_offset(&self) -> Offset {
        self.segments.load().first().map_or(Offset::ZERO, |segment| segment.base_offset())
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_in_bytes(&self) -> u64 {
        self.segments.load().iter().map(|s| s.size()).sum()
    }

    /// How many segments there are.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segments.load().len()
    }

    /// How many idempotent producers are remembered.
    #[must_use]
    pub fn producer_count(&self) -> usize {
        self.appender.lock().producers.len()
    }

    /// Notes that this broker leads in `epoch` from the present end on.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) -> io::Result<()> {
        let mut appender = self.change()?;
        let end = self.end().offset;
        appender.epochs.assign(epoch, end);
        Ok(())
    }

    /// The latest leader epoch that the log has.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.appender.lock().epochs.latest().map(|(epoch, _)| epoch)
    }

    /// The leader epoch that the record at `offset` was written in, if that is known.
    #[must_use]
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.appender.lock().epochs.at(offset)
    }

    /// Where the greatest epoch not above `epoch` ends, with that epoch; `None` if `epoch` is above
    /// all that the log has (KIP-101, KIP-279).
    #[must_use]
    pub fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let appender = self.appender.lock();
        appender.epochs.end_of(epoch, self.end().offset)
    }

    /// Appends a batch that was validated, as the leader of `epoch`. The payload goes to the file
    /// as it came.
    pub fn append(
        self: &Arc<Self>,
        valid: &ValidBatch<'_>,
        epoch: LeaderEpoch,
    ) -> Result<Appended, AppendError> {
        let config = self.config.load();
        let batch = valid.batch();
        let size = batch.size_in_bytes();
        let segment_bytes = config.segment_bytes as usize;
        if size > segment_bytes {
            return Err(AppendError::LargerThanSegment { size, segment_bytes });
        }
        let now = Timestamp(self.volume.world.clock.wall_ms());
        let mut appender = self.change()?;
        if batch.has_producer_id()
            && let Some(duplicate) =
                appender.producers.check(batch).map_err(AppendError::Sequence)?
        {
            return Ok(self.duplicate(duplicate, valid.timestamp_type(), &config));
        }
        let base_offset = self.end().offset;
        let header = valid.header(base_offset, epoch);
        let end = self.write(&mut appender, &config, &header.view(), valid.payload(), now)?;
        drop(appender);
        Ok(Appended {
            base_offset,
            log_append_time: append_time(valid.timestamp_type(), valid.max_timestamp()),
            end,
            duplicate: false,
            awaits_flush: self.schedule_flush(&config, end),
        })
    }

    /// Writes a batch as it stands behind all others, and publishes the new end of the log.
    pub(crate) fn write(
        &self,
        appender: &mut Appender,
        config: &LogConfig,
        batch: &BatchHeader<'_>,
        payload: &[u8],
        now: Timestamp,
    ) -> io::Result<LogPosition> {
        // Only a damaged checkpoint makes a log begin so far up.
        if batch.base_offset().0 > i64::MAX - i64::from(i32::MAX) - 1 {
            return Err(io::Error::other("the log has no offsets left"));
        }
        let facts = BatchFacts::of(batch);
        let active = self.roll_if_due(appender, config, batch, now)?;
        // All that can fail comes before the batch is in the segment.
        let epoch = batch.leader_epoch();
        if appender.epochs.latest().is_none_or(|(latest, _)| latest < epoch) {
            appender.epochs.assign(epoch, batch.base_offset());
        }
        let interval = config.index_interval_bytes as u64;
        active.append(batch.as_bytes(), payload, facts, interval)?;
        if let Some(aborted) = appender.producers.replay(batch, marker_of(batch, payload)) {
            active.note_aborted(aborted);
        }
        self.has_transactions.store(appender.producers.has_transactions(), Ordering::Release);
        appender.first_timestamp.get_or_insert(facts.max_timestamp);
        let end = LogPosition {
            offset: batch.next_offset(),
            segment: active.base_offset(),
            position: active.size(),
        };
        *self.end.lock() = end;
        Ok(end)
    }

    fn duplicate(
        &self,
        duplicate: Duplicate,
        timestamp_type: TimestampType,
        config: &LogConfig,
    ) -> Appended {
        let end = self.end();
        Appended {
            base_offset: duplicate.base_offset,
            log_append_time: append_time(timestamp_type, duplicate.timestamp),
            end,
            duplicate: true,
            // The batch was appended under the same settings, so the log is in the queue.
            awaits_flush: config.flush_before_ack && self.flushed().offset < end.offset,
        }
    }

    /// Those of these producer ids that are remembered.
    pub(crate) fn producer_ids_within(&self, ids: RangeInclusive<ProducerId>) -> Vec<ProducerId> {
        self.appender.lock().producers.ids_within(ids).collect()
    }

    /// Forgets idempotent producers that wrote nothing for so long (`producer.id.expiration.ms`).
    pub fn expire_producers(&self, expiration_ms: i64) {
        let now = Timestamp(self.volume.world.clock.wall_ms());
        self.appender.lock().producers.expire(now, expiration_ms);
    }

    /// Locks what an append changes, unless the log may not change any more.
    pub(crate) fn change(&self) -> io::Result<MutexGuard<'_, Appender>> {
        self.volume.check_online()?;
        let appender = self.appender.lock();
        if appender.is_closed { Err(io::Error::other("the log is closed")) } else { Ok(appender) }
    }

    /// Publishes that the log ends in a new, empty segment.
    pub(crate) fn publish_end_in(&self, active: &Segment) {
        let offset = active.base_offset();
        *self.end.lock() = LogPosition { offset, segment: offset, position: 0 };
    }

    pub(crate) fn options(&self) -> SegmentOptions {
        segment_options(&self.volume.world.disk, &self.dir, &self.config.load())
    }
}

/// What a producer is told of the time of its append: nothing, unless the leader stamped it.
fn append_time(timestamp_type: TimestampType, max_timestamp: Timestamp) -> Timestamp {
    match timestamp_type {
        TimestampType::LogAppendTime => max_timestamp,
        TimestampType::CreateTime => Timestamp::NONE,
    }
}

fn segment_options(disk: &Arc<dyn Disk>, dir: &Arc<Path>, config: &LogConfig) -> SegmentOptions {
    SegmentOptions {
        disk: disk.clone(),
        dir: dir.clone(),
        index_interval_bytes: config.index_interval_bytes as u64,
        index_bytes_max: config.segment_index_bytes as usize,
    }
}
