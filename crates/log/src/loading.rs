//! Opening a log: what lies in its directory becomes segments, producers and epochs.
//!
//! What is trusted and what is not:
//!
//! - after a clean stop, everything;
//! - after a crash, segments that end below the recovery point. A segment that ends *at* it may have
//!   been synced as the active one, without its indexes;
//! - all others are read batch by batch. The first that is damaged ends the log, if it lies beyond
//!   the recovery point: it was being written, or the disk lost it, when the power failed. Damage
//!   below is for the operator, who is told.
//!
//! Whatever a crash leaves, a second crash in the middle of this must not make worse: what is removed
//! is removed for good before what it depends on is changed.

use std::io;
use std::sync::Arc;

use ottla_record::{LeaderEpoch, Offset, Timestamp};
use ottla_runtime::disk::read_file;
use tracing::warn;

use crate::LogConfig;
use crate::directory::make_dir;
use crate::leader_epochs::LeaderEpochs;
use crate::leftovers;
use crate::log::{LogPosition, Opening};
use crate::producer_state::ProducerState;
use crate::segment::{Recovered, Segment, SegmentOptions, remove_segment_files};

/// What a log begins with.
pub(crate) struct Loaded {
    /// Ascending by base offset, never empty.
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
) -> io::Result<Loaded> {
    make_dir(&*options.disk, &options.dir)?;
    let bases = leftovers::list_segments(options)?;
    let mut epochs = LeaderEpochs::open(options.disk.clone(), &options.dir)?;
    let mut loading = Loading { options, config, opening, epochs: &mut epochs };
    let mut segments = loading.open_segments(&bases)?;
    let mut end = end_of(&segments)?;
    if end.is_none_or(|end| end.offset < opening.log_start_offset) {
        // What is left was deleted, and the offsets behind it were given away already.
        for segment in std::mem::take(&mut segments) {
            segment.remove(options)?;
        }
        let (segment, _) = Segment::open(options, opening.log_start_offset, false)?;
        segments.push(Arc::new(segment));
        end = end_of(&segments)?;
    }
    let (Some(end), Some(first)) = (end, segments.first()) else {
        return Err(io::Error::other("a log has a segment"));
    };
    let log_start_offset = opening.log_start_offset.max(first.base_offset());
    epochs.clamp(log_start_offset, end.offset);
    let (producers, snapshot) = load_producers(options, &segments, end.offset)?;
    Ok(Loaded {
        end,
        log_start_offset,
        recovery_point: match opening.clean {
            true => end.offset,
            false => opening.recovery_point.min(end.offset),
        },
        producers,
        epochs,
        snapshot_offset: snapshot.unwrap_or(log_start_offset),
        first_timestamp: segments.last().map_or(Ok(None), |active| active.first_timestamp())?,
        segments,
    })
}

fn end_of(segments: &[Arc<Segment>]) -> io::Result<Option<LogPosition>> {
    let Some(active) = segments.last() else { return Ok(None) };
    let (offset, segment) = (active.next_offset()?, active.base_offset());
    Ok(Some(LogPosition { offset, segment, position: active.size() }))
}

struct Loading<'a> {
    options: &'a SegmentOptions,
    config: &'a LogConfig,
    opening: Opening,
    epochs: &'a mut LeaderEpochs,
}

impl Loading<'_> {
    /// Opens the segments with these base offsets, and recovers those that are not trusted.
    fn open_segments(&mut self, bases: &[Offset]) -> io::Result<Vec<Arc<Segment>>> {
        let mut segments = Vec::with_capacity(bases.len());
        for (at, &base) in bases.iter().enumerate() {
            let behind = &bases[at + 1..];
            let is_below = behind.first().is_some_and(|&next| next < self.opening.recovery_point);
            let trusted = self.opening.clean || is_below;
            let (segment, has_indexes) = Segment::open(self.options, base, trusted)?;
            let goes_on = has_indexes || self.recover(&segment, behind)?;
            segments.push(Arc::new(segment));
            if !goes_on {
                break;
            }
        }
        Ok(segments)
    }

    /// Recovers a segment. Returns whether the log goes on behind it, in the segments with the base
    /// offsets `behind`; if not, these were removed.
    fn recover(&mut self, segment: &Segment, behind: &[Offset]) -> io::Result<bool> {
        let epochs = &mut *self.epochs;
        let found = segment.recover(self.options.index_interval_bytes, |batch| {
            let (epoch, base) = (batch.leader_epoch(), batch.base_offset());
            let is_newer = epochs.latest().is_none_or(|(latest, _)| latest < epoch);
            if epoch > LeaderEpoch::NONE && is_newer {
                epochs.assign(epoch, base);
            }
        })?;
        let is_torn = found.size < segment.size();
        let joins = behind.first().is_some_and(|&next| self.joins(found, is_torn, next));
        let is_known = self.opening.clean || found.next_offset < self.opening.recovery_point;
        let path = segment.path().display();
        if is_torn && is_known && !joins {
            let (at, offset) = (found.size, found.next_offset);
            let message = format!(
                "{path} is damaged at byte {at} (offset {offset}), where all was known to be on \
                 the disk: restore the file, or move the log's directory away"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let goes_on = joins || (is_known && !behind.is_empty());
        if !goes_on {
            for &base in behind.iter().rev() {
                warn!(log = %path, segment = %base, "removed a segment behind lost records");
                remove_segment_files(self.options, base)?;
            }
        }
        if is_torn {
            let bytes = segment.size() - found.size;
            warn!(log = %path, offset = %found.next_offset, bytes, "cut a torn tail");
            segment.truncate(found.size)?;
        }
        if goes_on {
            segment.seal()?;
        }
        Ok(goes_on)
    }

    /// Whether the segment that begins at `next` follows on what was found. Compaction leaves gaps
    /// between segments; else a gap is the tail of a segment that the disk lost.
    fn joins(&self, found: Recovered, is_torn: bool, next: Offset) -> bool {
        let may_have_gap = !is_torn && (self.config.cleanup_policy.compact || !found.is_dense);
        found.next_offset == next || (found.next_offset < next && may_have_gap)
    }
}

/// Takes the newest whole snapshot and replays what was appended since. Returns its offset too.
/// Snapshots that are neither the newest nor at the base of a segment are removed, as in Kafka: the
/// clean stops before left them.
fn load_producers(
    options: &SegmentOptions,
    segments: &[Arc<Segment>],
    end: Offset,
) -> io::Result<(ProducerState, Option<Offset>)> {
    let disk = &*options.disk;
    let mut start = segments.first().map_or(Offset::ZERO, |s| s.base_offset());
    let mut loaded = None;
    let mut removed = false;
    for &offset in leftovers::list_snapshots(options)?.iter().rev() {
        let path = options.path(offset, "snapshot");
        let is_base = segments.binary_search_by_key(&offset, |s| s.base_offset()).is_ok();
        let is_within = (start..=end).contains(&offset);
        if loaded.is_none() && is_within {
            loaded = ProducerState::from_snapshot(&read_file(disk, &path)?).map(|s| (s, offset));
            if loaded.is_some() {
                continue;
            }
            warn!(path = %path.display(), "removed a damaged producer snapshot");
        } else if is_within && is_base {
            continue;
        }
        disk.remove_file(&path)?;
        removed = true;
    }
    if removed {
        // One that came back would be taken for the state of another log end.
        disk.sync_dir(&options.dir)?;
    }
    let (mut producers, snapshot) = match loaded {
        Some((producers, offset)) => (producers, Some(offset)),
        None => (ProducerState::default(), None),
    };
    start = snapshot.unwrap_or(start);
    let first = segments.partition_point(|s| s.base_offset() <= start).saturating_sub(1);
    for segment in &segments[first..] {
        segment.replay(start, |batch| producers.replay(batch))?;
    }
    Ok((producers, snapshot))
}
