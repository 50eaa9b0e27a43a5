//! Cutting a log where it stops agreeing with its leader's.
//!
//! What the checkpoints say is lowered first: a crash half way must not find a log that ends below its
//! recovery point, nor lack the epochs of batches that no recovery reads. Then goes what is behind, from
//! the end on, so that at any time a log is left that once was. What remains is loaded as after a crash.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_record::Offset;

use crate::leftovers;
use crate::loading::{self, Loaded};
use crate::log::{Appender, Log, LogPosition, Opening};

impl Log {
    /// Removes all batches that reach to `offset` or beyond, with what is derived from them.
    /// `checkpoint` is called before anything is cut: it must write recovery point, high watermark
    /// and log start offset of this log down as they then stand, and may not change the log. What was
    /// cut does not come back once this returned.
    ///
    /// # Errors
    /// The disk refused. Nothing may be appended until the log is opened again.
    pub fn truncate_to(
        &self,
        offset: Offset,
        checkpoint: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let _upkeep = self.upkeep.interrupt();
        let mut appender = self.change()?;
        appender.epochs.truncate_from_end(offset);
        if offset >= self.end().offset {
            return Ok(());
        }
        let cut = match offset < self.first_base_offset() {
            true => self.restart(&mut appender, offset, checkpoint),
            false => self.cut(&mut appender, offset, checkpoint),
        };
        appender.is_closed |= cut.is_err();
        cut
    }

    /// Removes all and goes on at `offset`, where the leader's log begins. See
    /// [`Log::truncate_to`].
    ///
    /// # Errors
    /// The disk refused. Nothing may be appended until the log is opened again.
    pub fn truncate_fully_and_start_at(
        &self,
        offset: Offset,
        checkpoint: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let _upkeep = self.upkeep.interrupt();
        let mut appender = self.change()?;
        let cut = self.restart(&mut appender, offset, checkpoint);
        appender.is_closed |= cut.is_err();
        cut
    }

    fn cut(
        &self,
        appender: &mut Appender,
        offset: Offset,
        checkpoint: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let segments = self.segments.load_full();
        let (kept, gone) =
            segments.split_at(segments.partition_point(|s| s.base_offset() <= offset));
        let Some((last, whole)) = kept.split_last() else {
            return Err(io::Error::other("a log has a segment"));
        };
        let recovery_point = self.recovery_point();
        let behind = whole.partition_point(|s| s.base_offset() < recovery_point);
        whole[behind.saturating_sub(1)..].iter().try_for_each(|segment| segment.seal())?;
        let position = last.position_of(offset, last.size())?.unwrap_or(last.size());
        // The batch that holds the offset goes as a whole, and before it may lie a gap.
        let mut end = last.base_offset();
        last.scan(0, position).each(|batch| end = batch.next_offset())?;
        let start = self.log_start_offset();
        if end < start {
            // What clients deleted does not come back.
            return self.restart(appender, offset.min(start), checkpoint);
        }
        self.lower(LogPosition { offset: end, segment: last.base_offset(), position });
        checkpoint()?;
        appender.epochs.unwritten().map_or(Ok(()), |epochs| epochs.write())?;
        let options = self.options();
        gone.iter().rev().try_for_each(|segment| segment.remove(&options))?;
        last.truncate(position)?;
        // Of the last segment, and of the seam before it, nothing is taken for granted.
        let known = last.base_offset();
        self.reload(appender, known, self.log_start_offset(), recovery_point)
    }

    fn restart(
        &self,
        appender: &mut Appender,
        offset: Offset,
        checkpoint: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let segments = self.segments.load_full();
        let first = self.first_base_offset();
        appender.epochs.clear();
        // Of what was there, none is missed from here on.
        self.lower(LogPosition { offset: Offset::ZERO, segment: first, position: 0 });
        checkpoint()?;
        appender.epochs.unwritten().map_or(Ok(()), |epochs| epochs.write())?;
        let options = self.options();
        segments.iter().rev().try_for_each(|segment| segment.remove(&options))?;
        for snapshot in leftovers::list_snapshots(&options)? {
            options.disk.remove_file(&options.path(snapshot, "snapshot"))?;
        }
        self.reload(appender, Offset::ZERO, offset, offset)
    }

    /// Lowers what is told of the log to `end`.
    fn lower(&self, end: LogPosition) {
        *self.end.lock() = end;
        {
            // A flush that began before moves nothing any more.
            let mut flushed = self.flushed.lock();
            self.truncations.fetch_add(1, Ordering::AcqRel);
            if flushed.offset > end.offset {
                *flushed = end;
            }
            self.recovery_point.fetch_min(end.offset.0, Ordering::AcqRel);
        }
        self.log_start_offset.fetch_min(end.offset.0, Ordering::AcqRel);
        self.lower_cleaner_checkpoint(end.segment);
    }

    /// Takes over what the directory now holds, all of which is on the disk.
    fn reload(
        &self,
        appender: &mut Appender,
        known: Offset,
        log_start_offset: Offset,
        recovery_point: Offset,
    ) -> io::Result<()> {
        let opening = Opening {
            clean: false,
            recovery_point: known,
            log_start_offset,
            high_watermark: Offset::ZERO,
        };
        let options = self.options();
        let loaded = loading::load(&options, &self.config(), opening)?;
        options.disk.sync_dir(&options.dir)?;
        let Loaded { end, log_start_offset, segments, .. } = loaded;
        *self.end.lock() = end;
        {
            let mut flushed = self.flushed.lock();
            self.segments.store(Arc::new(segments));
            *flushed = end;
            let recovery_point = recovery_point.min(end.offset);
            self.recovery_point.store(recovery_point.0, Ordering::Release);
        }
        self.log_start_offset.store(log_start_offset.0, Ordering::Release);
        appender.producers = loaded.producers;
        appender.epochs = loaded.epochs;
        appender.snapshot_offset = loaded.snapshot_offset;
        appender.first_timestamp = loaded.first_timestamp;
        let has_transactions = appender.producers.has_transactions();
        self.has_transactions.store(has_transactions, Ordering::Release);
        Ok(())
    }

    /// How often the log was cut.
    pub(crate) fn truncations(&self) -> u64 {
        self.truncations.load(Ordering::Acquire)
    }
}
