//! How much of a log there is to clean.

use std::io;
use std::sync::Arc;

use ottla_record::{Offset, Timestamp};
use tracing::warn;

use crate::LogConfig;
use crate::log::Log;
use crate::segment::Segment;

/// What there is to clean of a log.
///
/// ```text
/// log start ≤ first dirty ≤ first uncleanable ≤ base of the active segment
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Below it each key was looked at already.
    pub(crate) first_dirty: Offset,
    /// The base offset of the first segment that cannot be cleaned yet.
    pub(crate) first_uncleanable: Offset,
    /// Bytes before the first dirty offset.
    pub(crate) clean_bytes: u64,
    /// Bytes of the segments between both.
    pub(crate) dirty_bytes: u64,
    /// A dirty record is older than `max.compaction.lag.ms`.
    pub(crate) is_overdue: bool,
}

impl Candidate {
    /// Looks at `log`. `checkpoint` is the first dirty offset as it was noted after the last pass.
    pub(crate) fn of(log: &Log, checkpoint: Option<Offset>, now: Timestamp) -> io::Result<Self> {
        let (config, segments) = (log.config(), log.segments.load_full());
        let (start, end) = (log.log_start_offset(), log.end().offset);
        let first_dirty = match checkpoint {
            Some(offset) if (start..=end).contains(&offset) => offset,
            Some(offset) if offset > end => {
                let dir = log.dir().display();
                warn!(%dir, %offset, log_end_offset = %end, "cleaning the whole log: it was \
                    cleaned up to an offset that it does not have");
                start
            }
            // Records below the start were deleted.
            _ => start,
        };
        Self::among(&segments, &config, first_dirty, log.cleanable_end(), now)
    }

    fn among(
        segments: &[Arc<Segment>],
        config: &LogConfig,
        first_dirty: Offset,
        cleanable_end: Offset,
        now: Timestamp,
    ) -> io::Result<Self> {
        let dirty = floor(segments, first_dirty);
        // The active segment is never cleaned.
        let mut limit = floor(segments, cleanable_end).min(segments.len().saturating_sub(1));
        if config.min_compaction_lag_ms > 0 {
            for (at, segment) in segments.iter().enumerate().take(limit).skip(dirty) {
                if segment.newest_ms()? > now.0.saturating_sub(config.min_compaction_lag_ms) {
                    limit = at;
                    break;
                }
            }
        }
        let bytes = |segments: &[Arc<Segment>]| segments.iter().map(|s| s.size()).sum::<u64>();
        let behind = segments.partition_point(|s| s.base_offset() < first_dirty);
        let between = segments.get(dirty..limit).unwrap_or_default();
        let dirty_bytes = bytes(between);
        Ok(Self {
            first_dirty,
            first_uncleanable: segments.get(limit).map_or(first_dirty, |s| s.base_offset()),
            clean_bytes: bytes(&segments[..behind]),
            dirty_bytes,
            is_overdue: dirty_bytes > 0 && is_overdue(between, config, now)?,
        })
    }

    /// The share of the log that is dirty, of what can be cleaned at all.
    pub(crate) fn ratio(&self) -> f64 {
        match self.clean_bytes + self.dirty_bytes {
            0 => 0.0,
            total => self.dirty_bytes as f64 / total as f64,
        }
    }

    /// Whether there is enough to clean.
    pub(crate) fn is_due(&self, config: &LogConfig) -> bool {
        self.is_overdue || self.ratio() > config.min_cleanable_dirty_ratio
    }
}

/// The index of the segment that `offset` lies in.
fn floor(segments: &[Arc<Segment>], offset: Offset) -> usize {
    segments.partition_point(|s| s.base_offset() <= offset).saturating_sub(1)
}

/// Whether the first record of a segment is older than records may stay uncompacted.
fn is_overdue(dirty: &[Arc<Segment>], config: &LogConfig, now: Timestamp) -> io::Result<bool> {
    let limit = now.0.saturating_sub(config.max_compaction_lag_ms);
    if config.max_compaction_lag_ms == i64::MAX {
        return Ok(false);
    }
    for segment in dirty {
        if segment.first_timestamp()?.is_some_and(|first| first.0 > 0 && first.0 < limit) {
            return Ok(true);
        }
    }
    Ok(false)
}
