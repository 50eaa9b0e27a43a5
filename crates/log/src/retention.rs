//! Deleting old records: by age, by size, and below the log start offset.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_record::{Offset, Timestamp};
use tracing::info;

use crate::LogConfig;
use crate::log::{Appender, Log};
use crate::segment::Segment;

impl Log {
    /// Deletes, for readers, all records below `offset` (KIP-107). The files follow with retention.
    /// Returns the log start offset that is now in force.
    pub fn advance_log_start_offset(&self, offset: Offset) -> Offset {
        let mut appender = self.appender.lock();
        self.raise_log_start_offset(&mut appender, offset.min(self.end().offset))
    }

    pub(crate) fn raise_log_start_offset(&self, appender: &mut Appender, offset: Offset) -> Offset {
        self.log_start_offset.fetch_max(offset.0, Ordering::AcqRel);
        let start = self.log_start_offset();
        appender.epochs.truncate_from_start(start);
        start
    }

    /// Removes the segments that `retention.ms`, `retention.bytes` and the log start offset allow to
    /// go, but none that reaches beyond `limit`. Returns how many went: none while the log is being
    /// compacted.
    pub fn delete_old_segments(&self, limit: Offset) -> io::Result<usize> {
        // Who cleans the log removes what may go when that is done.
        let Some(_upkeep) = self.upkeep.try_begin() else { return Ok(0) };
        let gone = self.take_old_segments(limit)?;
        let options = self.options();
        // Each is gone for good before the next one goes: a crash leaves no hole.
        gone.iter().try_for_each(|segment| segment.remove(&options))?;
        if !gone.is_empty() {
            let (dir, start) = (self.dir().display(), self.log_start_offset());
            info!(%dir, segments = gone.len(), log_start_offset = %start, "deleted old segments");
        }
        Ok(gone.len())
    }

    /// Takes the segments that may go off the list.
    fn take_old_segments(&self, limit: Offset) -> io::Result<Vec<Arc<Segment>>> {
        let mut appender = self.change()?;
        let config = self.config();
        let now = Timestamp(self.volume.world.clock.wall_ms());
        let segments = self.segments.load_full();
        let count = self.deletable(&segments, &config, now, limit)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        if count == segments.len() {
            let active = self.roll(&mut appender, &config, self.end().offset, now)?;
            self.publish_end_in(&active);
        }
        let segments = self.segments.load_full();
        let (gone, kept) = segments.split_at(count);
        let start = kept.first().map_or(self.end().offset, |segment| segment.base_offset());
        // Readers stop asking before the segments leave the list.
        self.raise_log_start_offset(&mut appender, start);
        self.segments.store(Arc::new(kept.to_vec()));
        Ok(gone.to_vec())
    }

    /// How many of the oldest segments may go.
    fn deletable(
        &self,
        segments: &[Arc<Segment>],
        config: &LogConfig,
        now: Timestamp,
        limit: Offset,
    ) -> io::Result<usize> {
        let end = self.end().offset;
        let deletes = config.cleanup_policy.delete;
        let mut excess = match u64::try_from(config.retention_bytes) {
            Ok(bytes) if deletes => self.size_in_bytes().saturating_sub(bytes),
            _ => 0,
        };
        let start = self.log_start_offset();
        for (at, segment) in segments.iter().enumerate() {
            let upper = segments.get(at + 1).map_or(end, |next| next.base_offset());
            let is_active = at + 1 == segments.len();
            let size = segment.size();
            if upper > limit || (is_active && size == 0) {
                return Ok(at);
            }
            let too_old = deletes
                && config.retention_ms >= 0
                && now.0.saturating_sub(segment.newest_ms()?) > config.retention_ms;
            let too_much = excess > 0 && size <= excess;
            let below_start = !is_active && upper <= start;
            if !(too_old || too_much || below_start) {
                return Ok(at);
            }
            excess = excess.saturating_sub(size);
        }
        Ok(segments.len())
    }
}
