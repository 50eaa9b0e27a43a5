//! Group commit: what was appended becomes durable, many batches and many logs at a time.
//!
//! An append queues its log here and does not wait. One flusher per log directory takes the queue,
//! makes all that the logs then hold durable, says so to each, and begins again: while one round
//! runs, the next gathers. An append's ticket is the end of its batch: it is durable once
//! [`Log::flushed`] has passed it.
//!
//! Owns: the queue and one round. Must not know: threads, who waits for what.
//! How a round syncs, and what was measured for it: `docs/decisions/group-commit.md`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::log::{Log, LogPosition};
use crate::segment::Segment;
use crate::volume::Volume;

/// Up to so many files and directories are synced one by one; more of them, with all else that is
/// dirty on the file system, by one `syncfs`.
const SYNCED_ONE_BY_ONE: usize = 2;

/// Is told when more of a log became durable, or never will.
pub trait FlushListener: Send + Sync {
    /// [`Log::flushed`] moved, or the log's directory went offline ([`Volume::failure`]).
    fn flushed(&self);
}

/// The logs of one directory that wait for the disk.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Logs that are to be flushed at once.
    now: Vec<Arc<Log>>,
    /// Logs that may wait until a time (`flush.ms`), with that time.
    later: Vec<(u64, Arc<Log>)>,
    /// Something was put in since the last look.
    has_news: bool,
    waker: Option<Waker>,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// How many logs it made durable.
    pub logs: usize,
    /// How many bytes of batches became durable.
    pub bytes: u64,
}

/// What one log wants to have durable.
struct Unflushed {
    log: Arc<Log>,
    end: LogPosition,
    segments: Vec<Arc<Segment>>,
    has_new_names: bool,
    truncations: u64,
}

impl Queue {
    pub(crate) fn push(&self, log: &Arc<Log>) {
        self.change(|state| state.now.push(log.clone()));
    }

    pub(crate) fn push_for_later(&self, log: &Arc<Log>, due_ms: u64) {
        self.change(|state| state.later.push((due_ms, log.clone())));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.state.lock();
            change(&mut state);
            state.has_news = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Volume {
    /// Ready once a log came to wait for the disk since the last time that this was ready.
    pub fn poll_queued(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.queue.state.lock();
        if std::mem::take(&mut state.has_news) {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// When the next log is due that may wait for a while (`flush.ms`), in milliseconds of elapsed
    /// time.
    #[must_use]
    pub fn next_flush_ms(&self) -> Option<u64> {
        self.queue.state.lock().later.iter().map(|&(due_ms, _)| due_ms).min()
    }

    /// Makes durable what the waiting logs hold at present. It blocks on the disk. If that refuses,
    /// the directory goes offline: which of the bytes are lost, nobody can tell any more.
    pub fn flush(&self, now_ms: u64) -> Round {
        let queued = {
            let mut state = self.queue.state.lock();
            let due = state.later.extract_if(.., |&mut (due_ms, _)| due_ms <= now_ms);
            let due: Vec<_> = due.map(|(_, log)| log).collect();
            due.iter().for_each(|log| log.is_queued_for_later.store(false, Ordering::SeqCst));
            let mut queued = std::mem::take(&mut state.now);
            queued.extend(due);
            queued
        };
        let unflushed: Vec<_> = queued.into_iter().map(Unflushed::of).collect();
        let failed = match self.failure() {
            Some(_) => true,
            None => self.sync(&unflushed).inspect_err(|error| self.fail(error)).is_err(),
        };
        let mut round = Round::default();
        for Unflushed { log, end, segments, truncations, .. } in unflushed {
            if !failed {
                round.logs += 1;
                round.bytes += log.advance_flushed(end, &segments, truncations);
            }
            log.notify_listener();
        }
        round
    }

    fn sync(&self, unflushed: &[Unflushed]) -> io::Result<()> {
        let calls: usize = unflushed.iter().map(Unflushed::sync_calls).sum();
        if calls > SYNCED_ONE_BY_ONE {
            return self.sync_all();
        }
        for Unflushed { log, segments, has_new_names, .. } in unflushed {
            segments.iter().try_for_each(|segment| segment.sync())?;
            if *has_new_names && let Err(error) = self.world.disk.sync_dir(log.dir()) {
                // A log that was deleted meanwhile has no directory of that name any more.
                if !log.is_closed() {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Unflushed {
    fn of(log: Arc<Log>) -> Self {
        // First: what is appended from here on queues the log again.
        log.is_queued.store(false, Ordering::SeqCst);
        let truncations = log.truncations();
        let flushed = log.flushed();
        let end = log.end();
        let has_new_names = log.has_new_names.swap(false, Ordering::SeqCst);
        // The end was taken before the list, so the list has the segment that it lies in.
        let list = log.segments.load();
        let segments = match flushed.offset < end.offset {
            true => list.iter().filter(|s| s.base_offset() >= flushed.segment).cloned().collect(),
            false => Vec::new(),
        };
        Self { log, end, segments, has_new_names, truncations }
    }

    fn sync_calls(&self) -> usize {
        self.segments.len() + usize::from(self.has_new_names)
    }
}
