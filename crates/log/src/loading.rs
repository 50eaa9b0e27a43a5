//! Opening a log: what lies in its directory becomes segments, producers and epochs.
//!
//! What is trusted and what is not:
//!
//! - after a clean stop, everything;
//! - after a crash, segments that end below the recovery point. A segment that ends *at* it may have
//!   been synced as the active one, without its indexes;
//! - of all others the headers are read, and past the recovery point the batches: see
//!   [`crate::recovery`].
//!
//! The log ends where a batch was torn or a write was lost, if no record that was known to be durable
//! or committed is lost by that; what lies behind is cut. Anything else that does not fit is
//! [`Damage`]: nothing is cut then, and the log is not served.
//!
//! Whatever a crash leaves, a second crash in the middle of this must not make worse: what is removed
//! is removed for good before what it depends on is changed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ottla_record::{BatchHeader, EndTransactionMarker, LeaderEpoch, Offset, Timestamp};
use ottla_runtime::disk::read_file;
use tracing::warn;

use crate::LogConfig;
use crate::damage::{Damage, OpenError};
use crate::directory::make_dir;
use crate::leader_epochs::LeaderEpochs;
use crate::leftovers;
use crate::log::{LogPosition, Opening};
use crate::producer_state::ProducerState;
use crate::recovery::{Density, Walked};
use crate::segment::{Segment, SegmentOptions, remove_segment_files};
use crate::txn_index::AbortedTransaction;

/// In so many bytes before a snapshot, batches are looked for that their producers may send again.
const WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// What a log begins with.
pub(crate) struct Loaded {
    /// Ascending by base offset.
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) end: LogPosition,
    pub(crate) log_start_offset: Offset,
    pub(crate) recovery_point: Offset,
    pub(crate) producers: ProducerState,
    pub(crate) epochs: LeaderEpochs,
    /// The offset of the newest producer snapshot, or the log start offset.
    pub(crate) snapshot_offset: Offset,
    /// The greatest timestamp of the active segment's first batch.
    pub(crate) first_timestamp: Option<Timestamp>,
}

/// Loads the log whose directory `options` names, or makes an empty one there.
pub(crate) fn load(
    options: &SegmentOptions,
    config: &LogConfig,
    opening: Opening,
) -> Result<Loaded, OpenError> {
    let mut loading = Loading::open(options, config, opening)?;
    loading.recover()?;
    let end = loading.end()?;
    loading.replay_producers(end.offset)?;
    loading.finish_epochs(end.offset)?;
    let Loading { segments, epochs, producers, .. } = loading;
    let log_start_offset = opening.log_start_offset.max(first_base(&segments));
    Ok(Loaded {
        end,
        log_start_offset,
        recovery_point: match opening.clean {
            true => end.offset,
            false => opening.recovery_point.min(end.offset),
        },
        snapshot_offset: producers.snapshot.unwrap_or(log_start_offset),
        producers: producers.state,
        epochs,
        first_timestamp: segments.last().map_or(Ok(None), |active| active.first_timestamp())?,
        segments,
    })
}

fn first_base(segments: &[Arc<Segment>]) -> Offset {
    segments.first().map_or(Offset::ZERO, |segment| segment.base_offset())
}

struct Loading<'a> {
    options: &'a SegmentOptions,
    config: &'a LogConfig,
    opening: Opening,
    segments: Vec<Arc<Segment>>,
    /// For each segment, whether it has indexes that are believed.
    indexed: Vec<bool>,
    epochs: LeaderEpochs,
    epochs_are_known: bool,
    producers: Producers,
}

/// The producers of the batches up to an offset.
#[derive(Default)]
struct Producers {
    state: ProducerState,
    replayed: Offset,
    /// The snapshot that they began with.
    snapshot: Option<Offset>,
}

/// Where a segment ends, and how the log goes on.
enum Ending {
    /// In the next segment, or not at all.
    Whole,
    /// Here: what is behind is lost.
    Cut,
}

impl<'a> Loading<'a> {
    fn open(
        options: &'a SegmentOptions,
        config: &'a LogConfig,
        opening: Opening,
    ) -> Result<Self, OpenError> {
        let is_there = options.disk.exists(&options.dir);
        let bases = if is_there { leftovers::list_segments(options)? } else { Vec::new() };
        let needed = needed(opening);
        if bases.is_empty() && needed > Offset::ZERO {
            let what = format!("the log is missing, which had records up to offset {needed}");
            return Err(damage(options, &options.dir, 0, opening.log_start_offset, what).into());
        }
        make_dir(&*options.disk, &options.dir)?;
        let (mut segments, mut indexed) = (Vec::new(), Vec::new());
        for (at, &base) in bases.iter().enumerate() {
            let is_below = bases.get(at + 1).is_some_and(|&next| next < opening.recovery_point);
            let trusted = opening.clean || is_below;
            let (segment, has_indexes) = Segment::open(options, base, trusted)?;
            segments.push(Arc::new(segment));
            indexed.push(has_indexes);
        }
        let (epochs, epochs_are_known) =
            LeaderEpochs::open(options.disk.clone(), options.dir.clone())?;
        let producers = Producers::default();
        Ok(Self {
            options,
            config,
            opening,
            segments,
            indexed,
            epochs,
            epochs_are_known,
            producers,
        })
    }

    /// Walks over the segments that have no indexes, and looks at the seams between all of them.
    fn recover(&mut self) -> Result<(), OpenError> {
        let mut first = self.indexed.iter().position(|&indexed| !indexed);
        let mut at = 0;
        while at < self.segments.len() {
            let segment = self.segments[at].clone();
            let walked = if self.indexed[at] {
                None
            } else {
                if first.take().is_some() {
                    self.load_snapshot(segment.base_offset())?;
                }
                self.replay_up_to(segment.base_offset())?;
                Some(self.walk(&segment)?)
            };
            let ending = match &walked {
                Some(walked) => self.judge_walk(at, walked)?,
                None => Ending::Whole,
            };
            let (next_offset, size) = match &walked {
                Some(walked) => (walked.next_offset, walked.size),
                None => (self.next_offset(&segment)?, segment.size()),
            };
            let ending = match ending {
                Ending::Whole => self.judge_seam(at, next_offset)?,
                Ending::Cut => Ending::Cut,
            };
            if let Ending::Cut = ending {
                self.cut(at, next_offset, size)?;
            }
            if let Some(walked) = walked {
                self.finish_walk(&segment, &walked, at + 1 == self.segments.len())?;
            }
            at += 1;
        }
        Ok(())
    }

    fn walk(&mut self, segment: &Segment) -> io::Result<Walked> {
        let known = match self.opening.clean {
            true => Offset(i64::MAX),
            false => self.opening.recovery_point,
        };
        let (epochs, producers) = (&mut self.epochs, &mut self.producers);
        segment.walk(self.options.index_interval_bytes, known, |batch, marker| {
            note_epoch(epochs, batch);
            producers.replay(batch, marker)
        })
    }

    /// Whether a segment ends where the walk over it did, and how.
    fn judge_walk(&self, at: usize, walked: &Walked) -> Result<Ending, OpenError> {
        let segment = &self.segments[at];
        if let Some((position, offset)) = walked.density.first_gap
            && !self.was_compacted(at, Some(walked.density))?
        {
            let what = "a record batch begins behind this offset".to_owned();
            return Err(self.damage(&segment.path().get(), position, offset, what).into());
        }
        let Some(bad) = &walked.bad else { return Ok(Ending::Whole) };
        let (position, offset) = (walked.size, walked.next_offset);
        let damaged = |why: &str| {
            let what = format!("{}{why}", bad.what);
            Err(self.damage(&segment.path().get(), position, offset, what).into())
        };
        if self.opening.clean || offset < self.opening.recovery_point {
            return damaged(", where all was known to be on the disk");
        }
        if offset < needed(self.opening) {
            return damaged(&format!(", below the high watermark {}", self.opening.high_watermark));
        }
        let is_lost = segment.has_lost_write(walked)?;
        if !is_lost && segment.has_batch_behind(walked)? {
            return damaged(", and record batches follow");
        }
        // The end of the file may be missing, and the next one have been written.
        let goes_on = self.segments[at + 1..].iter().any(|segment| segment.size() > 0);
        if !is_lost && !bad.is_cut_off && goes_on {
            return damaged(", and segments follow");
        }
        Ok(Ending::Cut)
    }

    /// Whether the log goes on behind a segment that holds the batches up to `end`.
    fn judge_seam(&self, at: usize, end: Offset) -> Result<Ending, OpenError> {
        let Some(next) = self.segments.get(at + 1) else { return Ok(Ending::Whole) };
        let base = next.base_offset();
        if base == end || (base > end && self.was_compacted(at, None)?) {
            return Ok(Ending::Whole);
        }
        let is_known = self.opening.clean || end < self.opening.recovery_point;
        if is_known || base < end || end < needed(self.opening) {
            let what = format!("the segment begins here, and the one before ends at offset {end}");
            return Err(self.damage(&next.path().get(), 0, end, what).into());
        }
        // The end of a segment was lost, and the next one had been begun.
        Ok(Ending::Cut)
    }

    /// Whether compaction can have made a gap: it is what the topic is for, or made others too.
    /// `found` is what is known of the segment `at` already.
    fn was_compacted(&self, at: usize, found: Option<Density>) -> io::Result<bool> {
        if self.config.cleanup_policy.compact {
            return Ok(true);
        }
        let mut gaps = u32::from(found.is_none());
        for (n, segment) in self.segments.iter().enumerate() {
            let density = match found.filter(|_| n == at) {
                Some(density) => density,
                None => match segment.density() {
                    // Damage elsewhere is told elsewhere.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => Density::default(),
                    density => density?,
                },
            };
            gaps += density.gaps;
            if density.is_sparse || gaps > 1 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends the log in a segment, after so many bytes.
    fn cut(&mut self, at: usize, offset: Offset, size: u64) -> io::Result<()> {
        let path = self.segments[at].path().to_string();
        for segment in self.segments.drain(at + 1..).rev() {
            let base = segment.base_offset();
            warn!(log = %path, segment = %base, "removed a segment behind lost records");
            remove_segment_files(self.options, base)?;
        }
        self.indexed.truncate(at + 1);
        let segment = &self.segments[at];
        if size < segment.size() {
            let bytes = segment.size() - size;
            warn!(log = %path, %offset, bytes, "cut a torn tail");
            segment.truncate(size)?;
        }
        Ok(())
    }

    fn finish_walk(&self, segment: &Segment, walked: &Walked, is_active: bool) -> io::Result<()> {
        segment.replace_aborted(&walked.aborted)?;
        let is_below = segment.base_offset() < self.opening.recovery_point
            && walked.next_offset < self.opening.recovery_point;
        match is_active {
            true => segment.remove_unwritten_indexes(),
            // No flush will come back to it.
            false if self.opening.clean || is_below => segment.seal(),
            false => segment.finish(),
        }
    }

    /// The end of the log. Unless that is 0, it is in a segment, which is made if there is none: it
    /// says where the log goes on.
    fn end(&mut self) -> Result<LogPosition, OpenError> {
        let start = self.opening.log_start_offset;
        let mut end = self.present_end()?;
        if let Some(end) = end.filter(|end| end.offset < needed(self.opening)) {
            let file = self.options.path(end.segment, "log");
            let what = format!("the log ends, which had records up to {}", needed(self.opening));
            return Err(self.damage(&file, end.position, end.offset, what).into());
        }
        if end.is_none() && start == Offset::ZERO {
            return Ok(LogPosition { offset: start, segment: start, position: 0 });
        }
        if end.is_none_or(|end| end.offset < start) {
            // What is left was deleted, and the offsets behind it were given away already.
            for segment in std::mem::take(&mut self.segments).iter().rev() {
                segment.remove(self.options)?;
            }
            let (segment, _) = Segment::open(self.options, start, false)?;
            self.segments = vec![Arc::new(segment)];
            self.indexed = vec![true];
            self.producers = Producers::default();
            end = self.present_end()?;
        }
        end.ok_or_else(|| io::Error::other("a log has a segment").into())
    }

    fn present_end(&self) -> Result<Option<LogPosition>, OpenError> {
        let Some(active) = self.segments.last() else { return Ok(None) };
        let (offset, segment) = (self.next_offset(active)?, active.base_offset());
        Ok(Some(LogPosition { offset, segment, position: active.size() }))
    }

    /// The offset behind a segment that is believed.
    fn next_offset(&self, segment: &Segment) -> Result<Offset, OpenError> {
        let (next, cut_off) = segment.next_offset()?;
        let Some(position) = cut_off else { return Ok(next) };
        let what = "the file ends within a record batch, where all was known to be on the disk";
        Err(self.damage(&segment.path().get(), position, next, what.to_owned()).into())
    }

    /// Takes the newest whole snapshot that is not beyond `limit`.
    fn load_snapshot(&mut self, limit: Offset) -> io::Result<()> {
        let start = first_base(&self.segments);
        self.producers.replayed = start;
        for &offset in leftovers::list_snapshots(self.options)?.iter().rev() {
            if !(start..=limit).contains(&offset) {
                continue;
            }
            let path = self.options.path(offset, "snapshot");
            if let Some(state) =
                ProducerState::from_snapshot(&read_file(&*self.options.disk, &path)?)
            {
                self.producers = Producers { state, replayed: offset, snapshot: Some(offset) };
                self.fill_windows(offset)?;
                break;
            }
            warn!(path = %path.display(), "passed over a damaged producer snapshot");
        }
        Ok(())
    }

    /// Completes the windows of the producers with the batches before the snapshot. What a producer
    /// had in flight when this broker died, it sends again.
    fn fill_windows(&mut self, snapshot: Offset) -> io::Result<()> {
        if self.producers.state.len() == 0 {
            return Ok(());
        }
        let before = self.segments.partition_point(|segment| segment.base_offset() < snapshot);
        let (mut first, mut bytes) = (before, 0);
        while first > 0 && bytes < WINDOW_BYTES {
            first -= 1;
            bytes += self.segments[first].size();
        }
        let mut seen = ProducerState::default();
        for segment in &self.segments[first..before] {
            let skipped = bytes.saturating_sub(WINDOW_BYTES);
            bytes -= segment.size();
            let start = segment.batch_start_between(0, skipped)?.unwrap_or(0);
            let scanned = segment.scan(start, segment.size()).each(|batch| {
                if batch.base_offset() < snapshot {
                    seen.replay(batch, None);
                }
            });
            match scanned {
                // Damage is told where it matters.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(()),
                scanned => scanned?,
            }
        }
        self.producers.state.adopt_windows(seen);
        Ok(())
    }

    /// Replays what was not walked over.
    fn replay_up_to(&mut self, limit: Offset) -> io::Result<()> {
        let start = self.producers.replayed;
        if start >= limit {
            return Ok(());
        }
        let first = self.segments.partition_point(|s| s.base_offset() <= start).saturating_sub(1);
        for segment in self.segments[first..].iter().take_while(|s| s.base_offset() < limit) {
            segment.replay(start, |batch, marker| {
                self.producers.replay(batch, marker);
            })?;
        }
        self.producers.replayed = limit;
        Ok(())
    }

    /// Brings the producers to the end of the log. Snapshots that are neither the one they began
    /// with nor at the base of a segment are removed, as in Kafka: the clean stops before left them.
    fn replay_producers(&mut self, end: Offset) -> io::Result<()> {
        if self.indexed.iter().all(|&indexed| indexed) {
            self.load_snapshot(end)?;
        }
        self.replay_up_to(end)?;
        let start = first_base(&self.segments);
        let mut came_back = false;
        for offset in leftovers::list_snapshots(self.options)? {
            let is_base = self.segments.binary_search_by_key(&offset, |s| s.base_offset()).is_ok();
            let is_kept = self.producers.snapshot == Some(offset) || is_base;
            if !is_kept || !(start..=end).contains(&offset) {
                self.options.disk.remove_file(&self.options.path(offset, "snapshot"))?;
                came_back |= offset > end;
            }
        }
        match came_back {
            // It would be taken for the state of another log end.
            true => self.options.disk.sync_dir(&self.options.dir),
            false => Ok(()),
        }
    }

    /// Makes the epochs anew if they are not known, and forgets those outside of the log.
    fn finish_epochs(&mut self, end: Offset) -> io::Result<()> {
        let start = self.opening.log_start_offset.max(first_base(&self.segments));
        if !self.epochs_are_known || !self.knows_epoch_at(start)? {
            self.epochs.clear();
            for segment in &self.segments {
                segment
                    .scan(0, segment.size())
                    .each(|batch| note_epoch(&mut self.epochs, batch))?;
            }
        }
        self.epochs.clamp(start, end);
        Ok(())
    }

    /// Whether the history reaches back to the first batch, if that has an epoch.
    fn knows_epoch_at(&self, start: Offset) -> io::Result<bool> {
        let at = self.segments.partition_point(|s| s.base_offset() <= start).saturating_sub(1);
        let epoch = match self.segments.get(at) {
            Some(segment) => segment.epoch_at(start)?,
            None => None,
        };
        Ok(epoch.is_none_or(|epoch| epoch == LeaderEpoch::NONE || self.epochs.at(start).is_some()))
    }

    fn damage(&self, file: &Path, position: u64, offset: Offset, what: String) -> Damage {
        damage(self.options, file, position, offset, what)
    }
}

impl Producers {
    /// Replays a batch, unless that was done.
    fn replay(
        &mut self,
        batch: &BatchHeader<'_>,
        marker: Option<EndTransactionMarker>,
    ) -> Option<AbortedTransaction> {
        if batch.base_offset() < self.replayed {
            return None;
        }
        self.replayed = batch.next_offset();
        self.state.replay(batch, marker)
    }
}

fn note_epoch(epochs: &mut LeaderEpochs, batch: &BatchHeader<'_>) {
    let epoch = batch.leader_epoch();
    let is_newer = epochs.latest().is_none_or(|(latest, _)| latest < epoch);
    if epoch > LeaderEpoch::NONE && is_newer {
        epochs.assign(epoch, batch.base_offset());
    }
}

/// The offset below which no record may be missing: of what was deleted, none is missed.
fn needed(opening: Opening) -> Offset {
    let needed = opening.recovery_point.max(opening.high_watermark);
    if needed > opening.log_start_offset { needed } else { Offset::ZERO }
}

fn damage(
    options: &SegmentOptions,
    file: &Path,
    position: u64,
    offset: Offset,
    what: String,
) -> Damage {
    let (dir, file) = (options.dir.to_path_buf(), file.to_owned());
    Damage { dir, file, position, offset, what }
}
