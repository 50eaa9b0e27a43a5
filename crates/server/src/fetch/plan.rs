//! The partitions that are fetched, and a read over those of them that may have something.
//!
//! A plan keeps a queue of partitions worth looking at. One that was read to its end leaves a watch
//! at the partition and comes back when that moves: so a look costs what changed, not what is
//! subscribed.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use ottla_log::{AbortedTransaction, ReadError, Slice};
use ottla_protocol::ErrorCode;
use ottla_record::{LeaderEpoch, Offset, PartitionId, Uuid};
use ottla_replication::{Isolation, Partition, Watch};
use tracing::error;

/// A partition as a fetch names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: PartitionId,
}

/// What is wanted of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) fetch_offset: Offset,
    pub(crate) bytes_max: usize,
    /// The leader epoch that the client knows, or none (KIP-320).
    pub(crate) current_leader_epoch: LeaderEpoch,
    /// The epoch of the last record that the client has, or none (KIP-595).
    pub(crate) last_fetched_epoch: LeaderEpoch,
}

/// What there is of a partition.
pub(crate) struct Outcome {
    /// The number of its entry in the plan.
    index: u32,
    pub(crate) topic: Arc<str>,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: PartitionId,
    pub(crate) error: ErrorCode,
    pub(crate) high_watermark: Offset,
    pub(crate) last_stable_offset: Offset,
    pub(crate) log_start_offset: Offset,
    /// Where the client's log stops agreeing with ours, if it does: epoch and its end.
    pub(crate) diverging: Option<(LeaderEpoch, Offset)>,
    pub(crate) slice: Option<Slice>,
    /// Whose records in the slice do not count, if the client wants committed ones alone.
    pub(crate) aborted: Vec<AbortedTransaction>,
}

struct Entry {
    key: Key,
    wanted: Wanted,
    /// The partition, or why it cannot be read.
    source: Result<Arc<Partition>, ErrorCode>,
    queued: bool,
    /// Whether our watch is at the partition already.
    watching: bool,
    /// What an incremental response told of it last.
    told: Option<(Offset, Offset)>,
}

/// The partitions of a request or a session.
pub(crate) struct Plan {
    entries: Vec<Option<Entry>>,
    by_key: BTreeMap<Key, u32>,
    /// Numbers of entries worth looking at; those that were served last are at the back.
    queue: VecDeque<u32>,
    watch: Arc<Watch>,
}

impl Plan {
    pub(crate) fn new() -> Self {
        let (entries, by_key, queue) = (Vec::new(), BTreeMap::new(), VecDeque::new());
        Self { entries, by_key, queue, watch: Watch::new() }
    }

    /// What wakes who waits for this plan.
    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    /// Adds a partition, or replaces what is wanted of it.
    pub(crate) fn want(
        &mut self,
        key: Key,
        wanted: Wanted,
        source: Result<Arc<Partition>, ErrorCode>,
    ) {
        let index = match self.by_key.get(&key) {
            Some(&index) => index,
            None => {
                self.entries.push(None);
                (self.entries.len() - 1) as u32
            }
        };
        let previous = self.entries[index as usize].take();
        let (queued, told) = previous.map_or((false, None), |entry| (entry.queued, entry.told));
        self.by_key.insert(key.clone(), index);
        let entry = Entry { key, wanted, source, queued, watching: false, told };
        self.entries[index as usize] = Some(entry);
        self.enqueue(index);
    }

    /// Drops a partition. Its number is not used again before the plan ends.
    pub(crate) fn forget(&mut self, key: &Key) {
        if let Some(index) = self.by_key.remove(key) {
            self.entries[index as usize] = None;
        }
    }

    /// How many partitions there are.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Queues what has moved since the last call.
    pub(crate) fn absorb_moved(&mut self) {
        for index in self.watch.take_moved() {
            if let Some(Some(entry)) = self.entries.get_mut(index as usize) {
                entry.watching = false;
            }
            self.enqueue(index);
        }
    }

    fn enqueue(&mut self, index: u32) {
        if let Some(Some(entry)) = self.entries.get_mut(index as usize)
            && !entry.queued
        {
            entry.queued = true;
            self.queue.push_back(index);
        }
    }

    /// Looks at the queue, at most `bytes_max` in all; the first batch of the response comes whole
    /// however large it is. Partitions with nothing new are among the outcomes only if
    /// `all` is wanted, or if their watermarks are not what was told before.
    pub(crate) fn read(
        &mut self,
        bytes_max: usize,
        isolation: Isolation,
        all: bool,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let mut bytes = 0;
        for _ in 0..self.queue.len() {
            let Some(index) = self.queue.pop_front() else { break };
            let watch = &self.watch;
            let Some(Some(entry)) = self.entries.get_mut(index as usize) else { continue };
            let room = bytes_max.saturating_sub(bytes);
            let outcome = entry.read(index, room, isolation, bytes == 0);
            let len = outcome.slice.as_ref().map_or(0, |slice| slice.len);
            bytes += len;
            let at_end = len == 0 && outcome.error == ErrorCode::NONE && room > 0;
            entry.queued = !at_end;
            if at_end {
                if let Ok(partition) = &entry.source
                    && !entry.watching
                {
                    entry.watching = true;
                    partition.watch(outcome.high_watermark, watch, index);
                }
            } else {
                self.queue.push_back(index);
            }
            let now = (outcome.high_watermark, outcome.log_start_offset);
            let news = len > 0
                || outcome.error != ErrorCode::NONE
                || outcome.diverging.is_some()
                || entry.told != Some(now);
            if all || news {
                outcomes.push(outcome);
            }
        }
        outcomes
    }

    /// Watches the partitions that have something, but not enough for an answer.
    pub(crate) fn await_more(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            if let Some(Some(entry)) = self.entries.get_mut(outcome.index as usize)
                && let Ok(partition) = &entry.source
                && !entry.watching
            {
                entry.watching = true;
                partition.watch(outcome.high_watermark, &self.watch, outcome.index);
            }
        }
    }

    /// Notes that the client is told of these outcomes.
    pub(crate) fn tell(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            let key = Key {
                topic: outcome.topic.clone(),
                topic_id: outcome.topic_id,
                partition: outcome.partition,
            };
            if let Some(&index) = self.by_key.get(&key)
                && let Some(Some(entry)) = self.entries.get_mut(index as usize)
            {
                entry.told = Some((outcome.high_watermark, outcome.log_start_offset));
            }
        }
    }

    /// Queues every partition, for a response that is to have all of them.
    pub(crate) fn enqueue_all(&mut self) {
        for index in 0..self.entries.len() as u32 {
            self.enqueue(index);
        }
    }
}

impl Entry {
    fn read(
        &mut self,
        index: u32,
        bytes_max: usize,
        isolation: Isolation,
        whole_first: bool,
    ) -> Outcome {
        if self.source.as_ref().is_ok_and(|partition| partition.is_gone()) {
            self.source = Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        let mut outcome = Outcome {
            index,
            topic: self.key.topic.clone(),
            topic_id: self.key.topic_id,
            partition: self.key.partition,
            error: ErrorCode::NONE,
            high_watermark: Offset::NONE,
            last_stable_offset: Offset::NONE,
            log_start_offset: Offset::NONE,
            diverging: None,
            slice: None,
            aborted: Vec::new(),
        };
        match &self.source {
            Err(code) => outcome.error = *code,
            // What lies on a disk that fails is not known to be what was written there.
            Ok(partition) if partition.failure().is_some() => {
                outcome.error = ErrorCode::KAFKA_STORAGE_ERROR;
            }
            Ok(partition) => {
                self.read_partition(partition, bytes_max, isolation, whole_first, &mut outcome);
            }
        }
        outcome
    }

    fn read_partition(
        &self,
        partition: &Partition,
        bytes_max: usize,
        isolation: Isolation,
        whole_first: bool,
        outcome: &mut Outcome,
    ) {
        let Wanted { fetch_offset, current_leader_epoch, last_fetched_epoch, .. } = self.wanted;
        outcome.high_watermark = partition.high_watermark().offset;
        outcome.last_stable_offset = partition.last_stable_offset();
        outcome.log_start_offset = partition.log().log_start_offset();
        if current_leader_epoch != LeaderEpoch::NONE
            && current_leader_epoch != partition.leader_epoch()
        {
            outcome.error = match current_leader_epoch < partition.leader_epoch() {
                true => ErrorCode::FENCED_LEADER_EPOCH,
                false => ErrorCode::UNKNOWN_LEADER_EPOCH,
            };
            return;
        }
        if last_fetched_epoch != LeaderEpoch::NONE {
            match partition.log().end_of_epoch(last_fetched_epoch) {
                Some((epoch, end)) if epoch < last_fetched_epoch || end < fetch_offset => {
                    outcome.diverging = Some((epoch, end));
                    return;
                }
                Some(_) => {}
                None => {
                    outcome.error = ErrorCode::OFFSET_OUT_OF_RANGE;
                    return;
                }
            }
        }
        let bytes_max = self.wanted.bytes_max.min(bytes_max);
        let read = partition.read(fetch_offset, bytes_max, isolation, whole_first);
        let found = read.and_then(|slice| {
            let is_committed = isolation == Isolation::ReadCommitted && slice.len > 0;
            let aborted = match is_committed {
                true => aborted_in(partition, fetch_offset, &slice)?,
                false => Vec::new(),
            };
            Ok((slice, aborted))
        });
        match found {
            Ok((slice, aborted)) => {
                outcome.slice = Some(slice).filter(|slice| slice.len > 0);
                outcome.aborted = aborted;
            }
            Err(ReadError::OutOfRange { .. }) => outcome.error = ErrorCode::OFFSET_OUT_OF_RANGE,
            Err(ReadError::Io(error)) => {
                error!(partition = %partition.name(), %error, "could not read");
                outcome.error = ErrorCode::KAFKA_STORAGE_ERROR;
            }
        }
    }
}

fn aborted_in(
    partition: &Partition,
    from: Offset,
    slice: &Slice,
) -> io::Result<Vec<AbortedTransaction>> {
    let upper = partition.log().upper_bound(slice)?;
    partition.log().aborted_transactions(from, upper)
}
