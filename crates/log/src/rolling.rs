//! The active segment: when a new one takes its place, and what is written down then.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_record::{BatchHeader, Offset, Timestamp};
use ottla_runtime::World;
use ottla_runtime::disk::OpenMode;

use crate::LogConfig;
use crate::log::{Appender, Log};
use crate::segment::{Segment, remove_if_there};

impl Log {
    /// The segment that takes the batch: the active one, or a new one if that is due to roll.
    pub(crate) fn roll_if_due(
        &self,
        appender: &mut Appender,
        config: &LogConfig,
        batch: &BatchHeader<'_>,
        now: Timestamp,
    ) -> io::Result<Arc<Segment>> {
        let active = match self.active() {
            Some(active) => active,
            None => {
                appender.begun_ms = now.0;
                self.begin_segment(self.end().offset)?
            }
        };
        let size = active.size();
        let waited = match appender.first_timestamp {
            Some(first) if first > Timestamp::NONE => {
                batch.max_timestamp().0.saturating_sub(first.0)
            }
            _ => now.0.saturating_sub(appender.begun_ms),
        };
        let due = size + batch.size_in_bytes() as u64 > config.segment_bytes as u64
            || waited > segment_ms(config).saturating_sub(appender.jitter_ms)
            || active.is_full();
        let reaches = active.reaches(batch.last_offset());
        // An empty segment takes any batch whose offsets it can tell.
        if reaches && (size == 0 || !due) {
            return Ok(active);
        }
        self.roll(appender, config, batch.base_offset(), now)
    }

    /// Begins a new active segment at `base_offset`, where the log ends or, as a follower of a log that
    /// was compacted, goes on. A failure half way leaves the log as it was, and files that the next
    /// try replaces.
    pub(crate) fn roll(
        &self,
        appender: &mut Appender,
        config: &LogConfig,
        base_offset: Offset,
        now: Timestamp,
    ) -> io::Result<Arc<Segment>> {
        if config.cleanup_policy.compact && config.flush_before_ack {
            self.sync_active()?;
        }
        self.take_snapshot(appender, base_offset)?;
        let segment = self.begin_segment(base_offset)?;
        appender.first_timestamp = None;
        appender.begun_ms = now.0;
        appender.jitter_ms = draw_jitter(&self.volume.world, config);
        Ok(segment)
    }

    /// Makes the active segment durable before the next one takes a batch. Should a power cut take the
    /// end of a segment and not the next one, a start would see a gap, and in a compacted log it could
    /// not tell that from the work of compaction: the log would go on with a hole, and a producer's
    /// retry of what is lost would be taken for a duplicate.
    fn sync_active(&self) -> io::Result<()> {
        let Some(active) = self.active() else { return Ok(()) };
        let synced = active.sync().and_then(|()| self.volume.world.disk.sync_dir(self.dir()));
        synced.inspect_err(|error| self.volume.fail(error))
    }

    /// Puts a new segment behind the others.
    fn begin_segment(&self, base_offset: Offset) -> io::Result<Arc<Segment>> {
        let options = self.options();
        let segments = self.segments.load();
        if let [first] = &segments[..]
            && self.flushed().offset <= first.base_offset()
        {
            // Should a power cut take its name and not that of the new one, the log would begin there.
            options.disk.sync_dir(&options.dir)?;
        }
        remove_if_there(&*self.volume.world.disk, &options.path(base_offset, "log"))?;
        let (segment, _) = Segment::open(&options, base_offset, false)?;
        let segment = Arc::new(segment);
        // After the name is there, or a flush that runs beside this may find no name to sync; before
        // the segment is published, or a flush of its batches may not know of the name.
        self.has_new_names.store(true, Ordering::SeqCst);
        self.active().map_or(Ok(()), |active| active.finish())?;
        let mut list = segments.to_vec();
        list.push(segment.clone());
        self.segments.store(Arc::new(list));
        Ok(segment)
    }

    /// Writes the producer state down, unless that was done at this offset. It is not synced here: a
    /// snapshot has a checksum, and an older one serves in its place.
    pub(crate) fn take_snapshot(&self, appender: &mut Appender, end: Offset) -> io::Result<()> {
        if end <= appender.snapshot_offset {
            return Ok(());
        }
        let path = self.options().path(end, "snapshot");
        let file = self.volume.world.disk.open(&path, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_at(&[IoSlice::new(&appender.producers.to_snapshot())], 0)?;
        appender.snapshot_offset = end;
        Ok(())
    }

    fn active(&self) -> Option<Arc<Segment>> {
        self.segments.load().last().cloned()
    }
}

/// The age at which a segment is closed. What is to be compacted in time must not stay in the
/// active segment, which is never compacted.
fn segment_ms(config: &LogConfig) -> i64 {
    match config.cleanup_policy.compact {
        true => config.segment_ms.min(config.max_compaction_lag_ms),
        false => config.segment_ms,
    }
}

pub(crate) fn draw_jitter(world: &World, config: &LogConfig) -> i64 {
    match config.segment_jitter_ms.min(segment_ms(config)) {
        jitter if jitter > 0 => (world.random.next_u64() % jitter as u64) as i64,
        _ => 0,
    }
}
