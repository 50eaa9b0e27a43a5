//! What of a log is on the disk, and how it gets there: at a group commit ([`crate::flusher`]) the
//! batches, at a checkpoint also what is derived from them, at the end everything.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use ottla_record::Offset;

use crate::LogConfig;
use crate::flusher::FlushListener;
use crate::leader_epochs::UnwrittenEpochs;
use crate::loading::Loaded;
use crate::log::{Log, LogPosition};
use crate::segment::Segment;

impl Log {
    /// The end of the batches that are known to be on the disk.
    #[must_use]
    pub fn flushed(&self) -> LogPosition {
        *self.flushed.lock()
    }

    /// Why nothing of the log's directory can be relied on any more, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.volume.failure()
    }

    /// There is too little room in the log's directory for clients to write.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.volume.is_full()
    }

    /// Who is to be told when [`Log::flushed`] moves. Only the first one is.
    pub fn set_listener(&self, listener: Weak<dyn FlushListener>) {
        let _ = self.listener.set(listener);
    }

    pub(crate) fn notify_listener(&self) {
        if let Some(listener) = self.listener.get().and_then(Weak::upgrade) {
            listener.flushed();
        }
    }

    /// Sees to it that what was appended reaches the disk when the settings want it there. Returns
    /// whether an acknowledgement waits for it.
    pub(crate) fn schedule_flush(self: &Arc<Self>, config: &LogConfig, end: LogPosition) -> bool {
        let flushed = self.flushed();
        if config.flush_before_ack || end.offset - flushed.offset >= config.flush_messages {
            self.flush_soon();
            return true;
        }
        if flushed.segment < end.segment {
            // A segment that is complete is not left to the kernel's leisure.
            self.flush_soon();
        } else if config.flush_ms < i64::MAX
            && !self.is_queued_for_later.swap(true, Ordering::SeqCst)
        {
            let due_ms = self.volume.world.clock.elapsed_ms() + config.flush_ms.unsigned_abs();
            self.volume.queue.push_for_later(self, due_ms);
        }
        false
    }

    pub(crate) fn flush_soon(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::SeqCst) {
            self.volume.queue.push(self);
        }
    }

    /// Notes that the batches below `end`, which lie in `segments`, are on the disk, unless the log was
    /// cut since there were so many `truncations`. Returns how many bytes of them were not before.
    pub(crate) fn advance_flushed(
        &self,
        end: LogPosition,
        segments: &[Arc<Segment>],
        truncations: u64,
    ) -> u64 {
        let mut flushed = self.flushed.lock();
        if end.offset <= flushed.offset || self.truncations() != truncations {
            return 0;
        }
        let up_to_end = segments.iter().filter(|s| s.base_offset() < end.segment);
        let bytes = up_to_end.map(|s| s.size()).sum::<u64>() + end.position;
        let before = std::mem::replace(&mut *flushed, end);
        bytes.saturating_sub(before.position)
    }

    fn advance_recovery_point(&self, to: Offset, truncations: u64) {
        let _flushed = self.flushed.lock();
        if self.truncations() == truncations {
            self.recovery_point.fetch_max(to.0, Ordering::AcqRel);
        }
    }

    /// Makes all that is in the log now durable, with what is derived from it but for the indexes of
    /// the active segment, and moves the recovery point there.
    pub fn flush(&self) -> io::Result<()> {
        let (end, segments, truncations) = {
            // Under the lock, so that the end and the list belong together.
            let _appender = self.change()?;
            (self.end(), self.segments.load_full(), self.truncations())
        };
        self.sync_batches(end, &segments, truncations)?;
        self.checkpoint()
    }

    /// Makes durable what is derived from the batches that are, and moves the recovery point to
    /// their end. The active segment's indexes are left to a recovery, which reads it anyway.
    pub fn checkpoint(&self) -> io::Result<()> {
        let (flushed, segments, truncations, epochs) = {
            let mut appender = self.change()?;
            let epochs = appender.epochs.unwritten();
            (self.flushed(), self.segments.load_full(), self.truncations(), epochs)
        };
        self.write_epochs(epochs)?;
        if self.recovery_point() < flushed.offset {
            let complete = segments.partition_point(|s| s.base_offset() < flushed.segment);
            self.seal(&segments[..complete])?;
            self.advance_recovery_point(flushed.offset, truncations);
        }
        Ok(())
    }

    /// Makes all durable, indexes and producer state included, so that the next opening need not
    /// scan. Nothing can be appended afterwards.
    pub fn close(&self) -> io::Result<()> {
        let (snapshot, epochs) = {
            let mut appender = self.change()?;
            appender.is_closed = true;
            let snapshot = self.take_snapshot(&mut appender, self.end().offset)?;
            (snapshot, appender.epochs.unwritten())
        };
        let _upkeep = self.upkeep.interrupt();
        if let Some(snapshot) = snapshot {
            snapshot.sync_data()?;
        }
        self.write_epochs(epochs)?;
        let (end, segments) = (self.end(), self.segments.load_full());
        self.seal(&segments)?;
        self.sync_batches(end, &segments, self.truncations())?;
        self.recovery_point.fetch_max(end.offset.0, Ordering::AcqRel);
        Ok(())
    }

    fn write_epochs(&self, unwritten: Option<UnwrittenEpochs>) -> io::Result<()> {
        let Some(unwritten) = unwritten else { return Ok(()) };
        unwritten.write().inspect_err(|_| self.appender.lock().epochs.mark_unwritten())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.appender.lock().is_closed
    }

    /// Takes the log out of service, as its directory is about to go: appends are refused from here
    /// on, so that none makes a file in a directory that may belong to another log of that name.
    pub(crate) fn retire(&self) {
        self.appender.lock().is_closed = true;
        // Whoever changes segments by name ends first.
        drop(self.upkeep.interrupt());
    }

    /// Makes the batches below `end` durable.
    fn sync_batches(
        &self,
        end: LogPosition,
        segments: &[Arc<Segment>],
        truncations: u64,
    ) -> io::Result<()> {
        let flushed = self.flushed();
        if flushed.offset < end.offset {
            let mut unsynced = segments.iter().filter(|s| s.base_offset() >= flushed.segment);
            let synced = unsynced.try_for_each(|segment| segment.sync());
            synced
                .and_then(|()| self.volume.world.disk.sync_dir(self.dir()))
                .inspect_err(|error| self.volume.fail(error))?;
            self.advance_flushed(end, segments, truncations);
            self.notify_listener();
        }
        Ok(())
    }

    /// Completes those of `segments` that end beyond the recovery point.
    fn seal(&self, segments: &[Arc<Segment>]) -> io::Result<()> {
        let recovery_point = self.recovery_point();
        let first = segments.partition_point(|s| s.base_offset() < recovery_point);
        let unsealed = &segments[first.saturating_sub(1)..];
        if unsealed.is_empty() {
            return Ok(());
        }
        for segment in unsealed {
            segment.seal().inspect_err(|error| {
                if segment.has_lost() {
                    self.volume.fail(error);
                }
            })?;
        }
        self.volume.world.disk.sync_dir(self.dir())
    }
}

/// What of a log that was just loaded is on the disk: all below the recovery point.
pub(crate) fn flushed_of(loaded: &Loaded) -> io::Result<LogPosition> {
    let offset = loaded.recovery_point;
    if offset >= loaded.end.offset {
        return Ok(loaded.end);
    }
    let at = loaded.segments.partition_point(|s| s.base_offset() <= offset).saturating_sub(1);
    let segment = &loaded.segments[at];
    let position = segment.position_of(offset, segment.size())?.unwrap_or(segment.size());
    Ok(LogPosition { offset, segment: segment.base_offset(), position })
}
