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

/// How much of a log is to be made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What is derived from the batches that are on the disk.
    Flushed,
    /// All batches, and what is derived from them.
    All,
    /// The same, and nothing may follow: also the active segment's indexes, and the producers.
    Closing,
}

/// What was written of a log, and is on the disk once its file system was synced.
pub(crate) struct Written {
    end: LogPosition,
    segments: Arc<Vec<Arc<Segment>>>,
    truncations: u64,
    epochs: Option<UnwrittenEpochs>,
    /// Not all of it is on the disk already.
    pub(crate) needs_sync: bool,
}

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
    /// the active segment, and moves the recovery point there. These are left to a recovery, which
    /// reads that segment anyway.
    pub fn flush(&self) -> io::Result<()> {
        self.write_out_and_sync(Extent::All)
    }

    /// Makes all durable, indexes and producer state included, so that the next opening need not
    /// scan. Nothing can be appended afterwards.
    pub fn close(&self) -> io::Result<()> {
        self.write_out_and_sync(Extent::Closing)
    }

    fn write_out_and_sync(&self, extent: Extent) -> io::Result<()> {
        let written = self.write_out(extent)?;
        self.volume.sync_all()?;
        if self.put_epochs(&written)? {
            self.volume.sync_all()?;
        }
        self.advance(written);
        Ok(())
    }

    /// Writes what is derived from the batches, to the files only, so that many logs can share a sync
    /// of their file system. Behind that follows [`Log::put_epochs`], which may need one more, and then
    /// [`Log::advance`].
    pub(crate) fn write_out(&self, extent: Extent) -> io::Result<Written> {
        let mut appender = self.change()?;
        let is_closing = extent == Extent::Closing;
        let end = match extent {
            Extent::Flushed => self.flushed(),
            Extent::All | Extent::Closing => self.end(),
        };
        appender.is_closed |= is_closing;
        if is_closing {
            self.take_snapshot(&mut appender, end.offset)?;
        }
        // Under the lock, so that the end and the list belong together.
        let (mut segments, truncations) = (self.segments.load_full(), self.truncations());
        // What was never written to has no history.
        let epochs = if segments.is_empty() { None } else { appender.epochs.unwritten() };
        drop(appender);
        let _upkeep = is_closing.then(|| self.upkeep.interrupt());
        if is_closing {
            // The cleaner may have replaced some before it gave way.
            segments = self.segments.load_full();
        }
        let mut written = Written { end, segments, truncations, epochs, needs_sync: true };
        let has_sealed =
            self.write_files(&written, is_closing).inspect_err(|_| self.take_back(&written))?;
        written.needs_sync = extent != Extent::Flushed || written.epochs.is_some() || has_sealed;
        Ok(written)
    }

    /// Writes what is derived from the batches. Returns whether it had to seal a segment.
    fn write_files(&self, written: &Written, is_closing: bool) -> io::Result<bool> {
        let Written { end, segments, epochs, .. } = written;
        epochs.as_ref().map_or(Ok(()), UnwrittenEpochs::prepare)?;
        let unsynced = segments.iter().filter(|s| s.base_offset() >= self.flushed().segment);
        unsynced.into_iter().try_for_each(|segment| segment.check_not_lost())?;
        let recovery_point = self.recovery_point();
        let complete = match is_closing {
            true => segments.len(),
            false if recovery_point < end.offset => {
                segments.partition_point(|s| s.base_offset() < end.segment)
            }
            false => 0,
        };
        // A segment that ended below the recovery point was sealed before that was taken.
        let later = segments.get(1..).unwrap_or_default();
        let sealed = later.partition_point(|next| next.base_offset() < recovery_point);
        let unsealed = &segments[sealed.min(complete)..complete];
        unsealed.iter().try_for_each(|segment| segment.write_seal().map(drop))?;
        Ok(!unsealed.is_empty())
    }

    /// Puts the epochs in place that were written and are on the disk. Returns whether there were
    /// any.
    pub(crate) fn put_epochs(&self, written: &Written) -> io::Result<bool> {
        let Some(epochs) = &written.epochs else { return Ok(false) };
        epochs.put().inspect_err(|_| self.take_back(written))?;
        Ok(true)
    }

    fn take_back(&self, written: &Written) {
        if written.epochs.is_some() {
            self.appender.lock().epochs.mark_unwritten();
        }
    }

    /// Notes that what was written is on the disk, and moves the recovery point there.
    pub(crate) fn advance(&self, written: Written) {
        let Written { end, segments, truncations, .. } = written;
        let before = self.flushed().offset;
        self.advance_flushed(end, &segments, truncations);
        self.advance_recovery_point(end.offset, truncations);
        if before < end.offset {
            self.notify_listener();
        }
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
}

/// What of a log that was just loaded is on the disk: all below the recovery point.
pub(crate) fn flushed_of(loaded: &Loaded) -> io::Result<LogPosition> {
    let offset = loaded.recovery_point;
    if offset >= loaded.end.offset {
        return Ok(loaded.end);
    }
    let at = loaded.segments.partition_point(|s| s.base_offset() <= offset).saturating_sub(1);
    let Some(segment) = loaded.segments.get(at) else { return Ok(loaded.end) };
    let position = segment.position_of(offset, segment.size())?.unwrap_or(segment.size());
    Ok(LogPosition { offset, segment: segment.base_offset(), position })
}
