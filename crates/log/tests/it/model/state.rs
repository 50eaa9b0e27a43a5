//! What a broker's logs must hold, and what they may.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use ottla_fake::Crash;
use ottla_log::{Log, LogManager, TimestampedOffset, TopicPartition};
use ottla_record::{LeaderEpoch, Offset, RecordBatch, Timestamp, Uuid};

use crate::{Stored, contents};

/// The logs of a broker.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) partitions: BTreeMap<TopicPartition, Partition>,
    /// How many logs there ever were.
    pub(super) partitions_made: usize,
    /// How many batches were ever appended.
    pub(super) appended: i64,
    /// The disk has refused something since the start of the process: files may be left.
    pub(super) has_failed: bool,
    /// A sync has failed since the start of the process: what it lost may be missing after it.
    pub(super) has_lost: bool,
}

/// One partition's log.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    pub(super) id: Uuid,
    /// All that were appended and not cut, also those that retention took.
    pub(super) batches: Vec<Stored>,
    /// Where it ended when it was opened. A crash may leave an active segment that is empty and has
    /// a gap before it.
    opened_end: i64,
    /// The log start offset.
    pub(super) start: i64,
    /// Where it is after a crash at least.
    pub(super) durable_start: i64,
    /// Below it, all is on the disk.
    pub(super) durable: i64,
    /// The greatest log start offset there ever was: epochs before it may be forgotten, though the
    /// records come back with a crash.
    pub(super) epochs_from: i64,
    /// The epoch of the next batch.
    pub(super) epoch: i32,
    /// Below it, the operation under way takes away what has the key of a later record below it.
    pub(super) compacted_to: i64,
    /// The operation under way takes all away.
    starts_anew: bool,
}

/// The name of a partition.
pub(super) fn name(n: usize) -> TopicPartition {
    TopicPartition::new(["flights", "seats"][n], n as i32)
}

impl Partition {
    pub(super) fn new(id: Uuid) -> Self {
        Self {
            id,
            batches: Vec::new(),
            opened_end: 0,
            start: 0,
            durable_start: 0,
            durable: 0,
            epochs_from: 0,
            epoch: 0,
            compacted_to: 0,
            starts_anew: false,
        }
    }

    /// Another operation begins.
    pub(super) fn begin(&mut self) {
        (self.compacted_to, self.starts_anew) = (0, false);
    }

    /// Takes away all batches that reach behind `to`, from the first segment's base offset on.
    pub(super) fn truncate(&mut self, to: i64, first_base: i64) {
        let left = self.batches.iter().rev().map(|batch| batch.next).find(|next| *next <= to);
        if left.unwrap_or(first_base).max(first_base) < self.start || to < first_base {
            self.start_anew(to.min(self.start));
        } else {
            if to < self.end() {
                self.opened_end = 0;
            }
            self.batches.retain(|batch| batch.next <= to);
            self.durable = self.durable.min(self.end());
        }
    }

    /// Takes all away; the log goes on at `start`.
    pub(super) fn start_anew(&mut self, start: i64) {
        self.batches.clear();
        self.opened_end = 0;
        (self.start, self.epochs_from) = (start, start);
        (self.durable, self.durable_start) = (0, 0);
        self.starts_anew = true;
    }

    /// The log end offset.
    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.next).max(self.start).max(self.opened_end)
    }

    /// The sequence that the producer's next batch has.
    pub(super) fn next_sequence(&self, id: i64) -> i32 {
        let last = self.batches.iter().rev().map(header).find(|batch| batch.producer_id().0 == id);
        last.map_or(0, |batch| batch.last_sequence().0 + 1)
    }

    /// The last batch of each producer, of those that the log holds.
    pub(super) fn last_batches(&self) -> BTreeMap<i64, &Stored> {
        let held = self.held(self.start).iter();
        let produced = held.filter(|held| header(held).has_producer_id());
        produced.map(|held| (header(held).producer_id().0, held)).collect()
    }

    /// Whether it has, or had before it was opened, no record in `span` and one behind it.
    fn is_gap(&self, span: Range<i64>) -> bool {
        let mut pairs = self.batches.windows(2);
        self.opened_end == span.end
            || pairs.any(|pair| pair[0].next <= span.start && pair[1].base == span.end)
    }

    /// The batches that a log shows which starts at `start`.
    fn held(&self, start: i64) -> &[Stored] {
        &self.batches[self.batches.partition_point(|batch| batch.next <= start)..]
    }
}

fn header(held: &Stored) -> RecordBatch<'_> {
    RecordBatch::parse(&held.bytes).unwrap().0
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, partition) in &self.partitions {
            let Partition { start, durable_start, durable, epoch, .. } = partition;
            let (count, end) = (partition.held(*start).len(), partition.end());
            writeln!(
                f,
                "  {name}: {count} batches from {start} to {end}, epoch {epoch}; \
                 durable from {durable_start} to {durable}"
            )?;
        }
        Ok(())
    }
}

impl Model {
    /// Compares with the logs that are found where nothing was lost.
    pub(super) fn compare(&self, manager: &LogManager) -> Result<(), String> {
        let found = manager.partitions().into_iter().map(|(name, _)| name);
        if !found.eq(self.partitions.keys().cloned()) {
            return Err(format!("found {:?}", manager.partitions()));
        }
        for (name, partition) in &self.partitions {
            let log = manager.get(name).ok_or("no log")?;
            let (start, end) = (log.log_start_offset().0, log.end().offset.0);
            if (start, end) != (partition.start, partition.end()) {
                let (from, to) = (partition.start, partition.end());
                return Err(format!("{name} has {start} to {end} instead of {from} to {to}"));
            }
            let (found, held) = (contents(&log), partition.held(start));
            if found != held {
                let spans = |batches: &[Stored]| {
                    batches.iter().map(|batch| (batch.base, batch.next)).collect::<Vec<_>>()
                };
                let (found, held) = (spans(&found), spans(held));
                return Err(format!("{name} holds other batches: {found:?} instead of {held:?}"));
            }
        }
        Ok(())
    }

    /// Whether a crash between this and `after` may leave logs that reach as far as those that are
    /// found.
    pub(super) fn may_leave(&self, after: &Self, manager: &LogManager) -> bool {
        manager.partitions().iter().all(|(name, _)| {
            let (before, after) = (self.partitions.get(name), after.partitions.get(name));
            let ends = before.into_iter().chain(after).map(Partition::end);
            manager.get(name).is_some_and(|log| Some(log.end().offset.0) <= ends.max())
        })
    }

    /// Compares what is found after a crash with the logs as they were before the operation that
    /// was under way, and as they would have been `after` it. Returns them as they are now.
    pub(super) fn after_crash(&self, after: &Self, manager: &LogManager, crash: Crash) -> Self {
        let found = manager.partitions();
        for (name, before) in &self.partitions {
            let may_be_missing = before.durable == 0 || !after.partitions.contains_key(name);
            let is_there = found.iter().any(|(found, _)| found == name);
            assert!(is_there || may_be_missing, "{name} is missing");
        }
        let mut left = Self {
            partitions: BTreeMap::new(),
            has_failed: false,
            has_lost: false,
            ..after.clone()
        };
        let keeps_all = crash == Crash::Process && !self.has_lost && !after.has_lost;
        for (name, id) in found {
            let is_this = |partition: &&Partition| id.is_none_or(|id| id == partition.id);
            let before = self.partitions.get(&name).filter(is_this);
            let ends = after.partitions.get(&name).filter(is_this).or(before);
            let ends = ends.unwrap_or_else(|| panic!("{name} was deleted, and came back"));
            let log = manager.get(&name).unwrap();
            let mut partition = check(&name, &log, before, ends, keeps_all);
            if let Crash::Power { .. } = crash {
                // What was found then is on the disk.
                partition.durable = partition.end();
                partition.durable_start = partition.start;
            }
            left.partitions.insert(name, partition);
        }
        left
    }
}

/// Compares one log, and returns it as it is now.
fn check(
    name: &TopicPartition,
    log: &Log,
    before: Option<&Partition>,
    after: &Partition,
    keeps_all: bool,
) -> Partition {
    let (start, end) = (log.log_start_offset().0, log.end().offset.0);
    let nothing = Partition::new(after.id);
    let before = before.unwrap_or(&nothing);
    let (durable, durable_start) = match after.starts_anew {
        true => (0, 0),
        false => (before.durable.min(after.durable), before.durable_start.min(after.durable_start)),
    };
    let starts = durable_start..=before.start.max(after.start);
    assert!(starts.contains(&start), "{name} starts at {start}, not within {starts:?}");
    let least = match keeps_all && !after.starts_anew {
        true => before.end().min(after.end()),
        false => durable,
    };
    let ends = least..=before.end().max(after.end());
    assert!(ends.contains(&end), "{name} ends at {end}, not within {ends:?}");
    let written = match after.starts_anew {
        true if (start, end) == (after.start, after.end()) => after,
        true => before,
        false if before.end() > after.end() => before,
        false => after,
    };
    let mut found = contents(log);
    check_times(name, log, &found);
    let left = found.clone();
    // What was below the log start offset need not have been spared when it was compacted.
    let from = if is_compacted(&name.topic) { before.start.max(after.start) } else { start };
    found.retain(|batch| batch.next > from);
    let held = written.held(from);
    let held = &held[..held.partition_point(|batch| batch.next <= end)];
    match after.compacted_to > 0 {
        true => {
            let of_then = Partition { compacted_to: after.compacted_to, ..before.clone() };
            check_compacted(name, &found, &of_then, from..end);
        }
        false => assert_eq!(found, held, "{name} from {start} to {end}"),
    }
    let last = left.last().map_or(start, |batch| batch.next);
    let is_whole = last == end || written.is_gap(last..end);
    assert!(is_whole, "{name}: a gap from {last} to {end}");
    check_epochs(name, log, &left, after);
    let older = written.batches.iter().filter(|batch| batch.next <= start).cloned();
    let batches = older.chain(left).collect();
    Partition { batches, opened_end: end, start, durable_start, durable, ..after.clone() }
}

/// Whether the logs of a topic are compacted.
pub(super) fn is_compacted(topic: &str) -> bool {
    topic == "seats"
}

/// Of what a log held, all within `span` is found, but for what a later record replaces below
/// `compacted_to`.
pub(super) fn check_compacted(
    name: &TopicPartition,
    found: &[Stored],
    held: &Partition,
    span: Range<i64>,
) {
    let to = held.compacted_to;
    let records = records(&held.batches);
    let newest: BTreeMap<_, _> =
        records.range(..to).map(|(offset, record)| (&record.key, *offset)).collect();
    let is_kept = |offset: i64, record: &Written| offset >= to || newest[&record.key] == offset;
    let found = self::records(found);
    for (offset, record) in &found {
        assert_eq!(Some(record), records.get(offset), "{name}: the record at {offset}");
    }
    for (offset, record) in records.range(span) {
        let is_there = found.contains_key(offset) || !is_kept(*offset, record);
        assert!(is_there, "{name}: compaction took the record at {offset}");
    }
}

/// A record, without its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    key: Vec<u8>,
    value: Vec<u8>,
    timestamp: Timestamp,
}

fn records(batches: &[Stored]) -> BTreeMap<i64, Written> {
    let mut records = BTreeMap::new();
    for batch in batches {
        header(batch)
            .visit_records(1 << 20, |record| {
                let key = record.key.unwrap().to_vec();
                let value = record.value.unwrap().to_vec();
                records
                    .insert(record.offset.0, Written { key, value, timestamp: record.timestamp });
            })
            .unwrap();
    }
    records
}

fn check_epochs(name: &TopicPartition, log: &Log, held: &[Stored], after: &Partition) {
    for batch in held.iter().filter(|batch| batch.next > after.epochs_from) {
        let epoch = header(batch).leader_epoch();
        let at = batch.base.max(after.epochs_from);
        assert_eq!(log.epoch_of(Offset(at)), Some(epoch), "{name}: the epoch of {at}");
        let end = log.end_of_epoch(epoch);
        let is_behind = |(found, end)| found == epoch && end >= Offset(batch.next);
        assert!(end.is_some_and(is_behind), "{name}: epoch {epoch} of {at} ends {end:?}");
    }
    let current = LeaderEpoch(after.epoch);
    let latest = log.latest_epoch().unwrap_or(current);
    assert!(latest <= current, "{name}: epoch {latest} was never led in");
}

/// The indexes of time know all records.
fn check_times(name: &TopicPartition, log: &Log, held: &[Stored]) {
    let start = log.log_start_offset();
    let records = records(held);
    let times = || {
        let from_start = records.range(start.0..);
        from_start.map(|(offset, record)| TimestampedOffset {
            timestamp: record.timestamp,
            offset: Offset(*offset),
        })
    };
    let first_at = |timestamp: Timestamp| times().find(|found| found.timestamp >= timestamp);
    // One that compaction emptied keeps its timestamp, and then Kafka finds no record either.
    let whole = held.iter().filter(|batch| batch.base >= start.0);
    let of_batches = whole.map(|batch| header(batch).max_timestamp());
    let max = of_batches.chain(times().map(|found| found.timestamp)).max();
    let found = log.offset_of_max_timestamp().unwrap();
    assert_eq!(found, max.and_then(first_at), "{name}: the greatest timestamp");
    for TimestampedOffset { timestamp, .. } in times() {
        let found = log.offset_for_timestamp(timestamp).unwrap();
        assert_eq!(found, first_at(timestamp), "{name}: the first at {timestamp:?}");
    }
}
