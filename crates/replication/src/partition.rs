//! One hosted partition.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use ottla_log::{
    AppendError, Appended, FlushListener, Log, LogPosition, ReadError, Slice, TopicPartition,
};
use ottla_record::{LeaderEpoch, Offset, Uuid, ValidBatch};
use parking_lot::Mutex;

use crate::watch::Watch;

/// What a reader may see (`isolation.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All that is committed to the log: up to the high watermark.
    ReadUncommitted,
    /// Also, only what its transaction has decided on: up to the last stable offset (KIP-98).
    ReadCommitted,
}

/// A partition that this broker leads.
pub struct Partition {
    name: TopicPartition,
    topic_id: Uuid,
    leader_epoch: LeaderEpoch,
    /// Replaced under the lock of the high watermark, whose position is one in this log.
    log: ArcSwap<Log>,
    /// It never goes back, also not when the topic is told to wait for the disk from now on.
    high_watermark: Mutex<LogPosition>,
    /// Set when the topic was deleted; whoever holds the partition still must let go.
    gone: AtomicBool,
    watches: Mutex<Watches>,
}

/// Who waits, and the numbers they chose.
#[derive(Default)]
struct Watches {
    waiting: Vec<(Weak<Watch>, u32)>,
    /// From this length on, those who gave up are thrown out before another comes in.
    purge_at: usize,
}

impl Watches {
    /// Kept without a look for those who gave up.
    const PURGE_MIN: usize = 16;

    fn push(&mut self, watch: &Arc<Watch>, index: u32) {
        if self.waiting.len() >= self.purge_at.max(Self::PURGE_MIN) {
            self.waiting.retain(|(watch, _)| watch.strong_count() > 0);
            self.purge_at = 2 * self.waiting.len();
        }
        self.waiting.push((Arc::downgrade(watch), index));
    }
}

impl Partition {
    /// Hosts `log` as the leader of `leader_epoch`.
    #[must_use]
    pub fn new(
        name: TopicPartition,
        topic_id: Uuid,
        leader_epoch: LeaderEpoch,
        log: Arc<Log>,
    ) -> Arc<Self> {
        let (gone, watches) = (AtomicBool::new(false), Mutex::default());
        let high_watermark = Mutex::new(match log.config().flush_before_ack {
            true => log.flushed(),
            false => log.end(),
        });
        let partition = Arc::new(Self {
            name,
            topic_id,
            leader_epoch,
            log: ArcSwap::new(log.clone()),
            high_watermark,
            gone,
            watches,
        });
        let listener: Weak<Self> = Arc::downgrade(&partition);
        log.set_listener(listener);
        // What was flushed before the log could tell.
        partition.flushed();
        partition
    }

    /// Topic and index.
    #[must_use]
    pub fn name(&self) -> &TopicPartition {
        &self.name
    }

    /// The id of the topic.
    #[must_use]
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// The epoch that this broker leads in.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The log. One that was moved to another directory is left for its successor.
    #[must_use]
    pub fn log(&self) -> Arc<Log> {
        loop {
            let log = self.log.load_full();
            let Some(successor) = log.successor() else { return log };
            let mut high_watermark = self.high_watermark.lock();
            if Arc::ptr_eq(&self.log.load(), &log) {
                self.log.store(successor.clone());
                // A move ends with all on the disk, and nothing was appended since.
                *high_watermark = successor.flushed();
            }
        }
    }

    /// Why nothing of the log's directory can be relied on any more, if that is so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.log().failure().map(str::to_owned)
    }

    /// Whether the topic was deleted.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// The end of what consumers may read: no crash takes what lies below, unless the topic does
    /// not wait for the disk (`flush.before.ack`).
    #[must_use]
    pub fn high_watermark(&self) -> LogPosition {
        *self.high_watermark.lock()
    }

    fn advance_high_watermark(&self, to: LogPosition) {
        let mut high_watermark = self.high_watermark.lock();
        if high_watermark.offset < to.offset {
            *high_watermark = to;
        }
    }

    /// The end of what `read_committed` consumers may read: the high watermark, or where the first
    /// transaction begins that is not decided below it.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        let end = self.high_watermark().offset;
        self.log().first_unstable_offset(end).map_or(end, |first| first.min(end))
    }

    /// Appends a validated batch. Unless it has to reach the disk first, it is committed at once and
    /// who waits for it is woken.
    pub fn append(&self, batch: &ValidBatch<'_>) -> Result<Appended, AppendError> {
        let (log, appended) = loop {
            let log = self.log();
            match log.append(batch, self.leader_epoch) {
                Ok(appended) => break (log, appended),
                // It was moved while this waited for it.
                Err(_) if log.successor().is_some() => {}
                Err(error) => return Err(error),
            }
        };
        if !appended.duplicate && !log.config().flush_before_ack {
            self.advance_high_watermark(appended.end);
            self.notify();
        }
        Ok(appended)
    }

    /// Batches from `offset` up to the high watermark or the last stable offset. See [`Log::read`].
    pub fn read(
        &self,
        offset: Offset,
        bytes_max: usize,
        isolation: Isolation,
        whole_first: bool,
    ) -> Result<Slice, ReadError> {
        let (log, high_watermark) = loop {
            let log = self.log();
            let high_watermark = self.high_watermark.lock();
            if Arc::ptr_eq(&self.log.load(), &log) {
                break (log, *high_watermark);
            }
        };
        let limit = match isolation {
            Isolation::ReadUncommitted => high_watermark,
            Isolation::ReadCommitted => log.last_stable_offset(high_watermark)?,
        };
        log.read(offset, bytes_max, limit, whole_first)
    }

    /// Deletes, for readers, all records below `offset`.
    pub fn delete_records(&self, offset: Offset) -> Offset {
        let start = self.log().advance_log_start_offset(offset);
        self.notify();
        start
    }

    /// Leaves `watch` here until the partition moves: it is then told `index`. If the high watermark
    /// is beyond `offset` already, it is told at once.
    pub fn watch(&self, offset: Offset, watch: &Arc<Watch>, index: u32) {
        self.watches.lock().push(watch, index);
        // An append between the caller's read and the push found an empty queue: look again.
        if self.high_watermark().offset > offset || self.is_gone() {
            self.notify();
        }
    }

    /// Leaves `watch` here until the partition moves, to find out whether the log is on the disk up to
    /// `end`. If it is, or will never be, `watch` is told at once.
    pub fn watch_flushed(&self, end: Offset, watch: &Arc<Watch>, index: u32) {
        self.watches.lock().push(watch, index);
        let log = self.log();
        if log.flushed().offset >= end || log.failure().is_some() || self.is_gone() {
            self.notify();
        }
    }

    /// Marks the partition as deleted and wakes who waits for it.
    pub fn mark_gone(&self) {
        self.gone.store(true, Ordering::Release);
        self.notify();
    }

    fn notify(&self) {
        let watches = {
            let mut watches = self.watches.lock();
            if watches.waiting.is_empty() {
                return;
            }
            std::mem::take(&mut watches.waiting)
        };
        for (watch, index) in watches {
            if let Some(watch) = watch.upgrade() {
                watch.notify(index);
            }
        }
    }
}

impl FlushListener for Partition {
    fn flushed(&self) {
        self.advance_high_watermark(self.log().flushed());
        self.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_gave_up_are_thrown_out() {
        let mut watches = Watches::default();
        let patient: Vec<_> = (0..20).map(|_| Watch::new()).collect();
        patient.iter().zip(0..).for_each(|(watch, index)| watches.push(watch, index));
        for _ in 0..10_000 {
            watches.push(&Watch::new(), 0);
        }
        assert!(watches.waiting.len() <= 2 * patient.len() + 1, "{}", watches.waiting.len());
        let alive = watches.waiting.iter().filter(|(watch, _)| watch.strong_count() > 0);
        assert_eq!(alive.count(), patient.len());
    }
}
