//! A broker's logs to which things are done, and what the model is told of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ottla_fake::{FakeDisk, FakeRandom};
use ottla_log::{
    AppendError, FollowerAppendError, Log, LogCleaner, LogConfig, LogDirectory, LogManager,
    MoveStep, OpenOptions,
};
use ottla_record::{
    BatchBuilder, BatchOptions, BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence,
    Timestamp, Uuid,
};
use ottla_runtime::{Disk, World};

use super::operation::{Fault, KEYS, Operation};
use super::state::{Model, Partition, check_compacted, is_compacted, name};
use crate::{Machine, NOW, compaction, config, contents, stored, try_append};

const DIRS: [&str; 2] = ["/data/a", "/data/b"];

/// So small that logs roll and shrink all the time, and that batches lie in several sectors.
const OVERRIDES: [(&str, &str); 5] = [
    ("segment.bytes", "3000"),
    ("index.interval.bytes", "300"),
    ("retention.bytes", "8000"),
    ("retention.ms", "-1"),
    ("min.cleanable.dirty.ratio", "0"),
];

/// The settings of a topic.
fn settings(topic: &str) -> Arc<LogConfig> {
    let policy = if is_compacted(topic) { "compact,delete" } else { "delete" };
    let mut overrides = OVERRIDES.to_vec();
    overrides.push(("cleanup.policy", policy));
    config(&overrides)
}

/// The process cannot go on: it ends, as after a crash.
#[derive(Debug)]
pub(super) struct Ended;

/// A broker's logs, and the disk that survives them.
pub(super) struct Broker {
    machine: Machine,
    manager: Arc<LogManager>,
}

impl Broker {
    /// Starts on the disk that a crash or a stop left.
    pub(super) fn start(disk: Arc<FakeDisk>) -> Result<Self, ottla_log::DirectoryError> {
        let machine = Machine::on(disk, &OVERRIDES);
        // Names that are drawn are not those that an earlier process drew.
        let random = Arc::new(FakeRandom::new(names_on(&machine.disk)));
        let world = World { random, ..machine.world() };
        let open = |dir: &&str| LogDirectory::open(&world, Path::new(dir), BrokerId(1));
        let directories = DIRS.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let expected = BTreeSet::new();
        // One thread, for the same order of calls each time.
        let options = OpenOptions { threads: 1, expected: &expected };
        let manager = LogManager::open(&world, directories, options, settings)?;
        Ok(Self { machine, manager: Arc::new(manager) })
    }

    pub(super) fn manager(&self) -> &LogManager {
        &self.manager
    }

    /// The log of the partition, made if there is none.
    fn log(&self, model: &mut Model, n: usize) -> std::io::Result<Arc<Log>> {
        // Distinct for each log of that name.
        let made = model.partitions_made;
        let partition = model.partitions.entry(name(n)).or_insert_with(|| {
            model.partitions_made += 1;
            Partition::new(Uuid([made as u8 + 1; 16]))
        });
        let name = name(n);
        let made = self.manager.get_or_create(&name, partition.id, settings(&name.topic));
        made.map_err(std::io::Error::other)
    }

    /// Does one thing, and notes in the model what it did.
    pub(super) fn run(self, operation: Operation, model: &mut Model) -> Result<Self, Ended> {
        for partition in model.partitions.values_mut() {
            partition.begin();
        }
        match operation {
            Operation::Append { partition, producer, key, count, size, late_ms } => {
                let time = NOW + model.appended - late_ms;
                self.append(model, partition, producer, |options| {
                    keyed_batch(options, key, count, time, size)
                });
            }
            Operation::AppendAsFollower { partition, batches, gap, size } => {
                self.append_as_follower(model, partition, batches, gap, size);
            }
            Operation::Commit => self.commit()?,
            Operation::Flush { partition } => {
                let log = self.manager.get(&name(partition));
                log.map_or(Ok(()), |log| log.flush()).map_err(|_| Ended)?;
            }
            Operation::Checkpoint => self.manager.checkpoint().map_err(|_| Ended)?,
            Operation::CheckpointFlushed => {
                self.manager.checkpoint_flushed().map_err(|_| Ended)?;
            }
            Operation::WriteCheckpoints => self.manager.write_checkpoints().map_err(|_| Ended)?,
            Operation::Retain => self.manager.delete_old_segments(),
            Operation::DeleteRecords { partition, percent } => {
                if let Some(log) = self.manager.get(&name(partition)) {
                    let start = log.log_start_offset();
                    let count = log.end().offset - start;
                    log.advance_log_start_offset(start + count * percent / 100);
                }
            }
            Operation::Truncate { partition, percent } => {
                self.truncate(model, partition, percent)?;
            }
            Operation::StartAnew { partition, ahead } => {
                self.start_anew(model, partition, ahead)?;
            }
            Operation::Compact => self.compact(model),
            Operation::Move { partition, steps } => self.advance_move(partition, steps),
            Operation::BeginEpoch { partition } => self.begin_epoch(model, partition),
            Operation::Delete { partition } => {
                // If it fails, it may have happened all the same.
                model.partitions.remove(&name(partition));
                self.manager.delete(&[name(partition)]).map_err(|_| Ended)?;
            }
            Operation::Restart => return self.restart(model),
            Operation::Fault(_) => unreachable!("a fault is set for another operation"),
        }
        if !self.manager.failures().is_empty() {
            return Err(Ended);
        }
        self.note(model, operation);
        Ok(self)
    }

    fn commit(&self) -> Result<(), Ended> {
        for volume in self.manager.volumes() {
            volume.flush(0);
            if volume.failure().is_some() {
                return Err(Ended);
            }
        }
        Ok(())
    }

    /// Appends as a producer would that goes on until it is told that all is well.
    fn append(
        &self,
        model: &mut Model,
        n: usize,
        producer: Option<i64>,
        batch: impl FnOnce(BatchOptions) -> Vec<u8>,
    ) {
        let Ok(log) = self.log(model, n) else { return };
        let Some(partition) = model.partitions.get_mut(&name(n)) else { return };
        let batch = batch(match producer {
            None => BatchOptions::default(),
            Some(id) => BatchOptions {
                producer_id: ProducerId(id),
                producer_epoch: ProducerEpoch(0),
                base_sequence: Sequence(partition.next_sequence(id)),
                ..BatchOptions::default()
            },
        });
        let before = log.end();
        match try_append(&log, &batch, partition.epoch) {
            Ok(appended) => {
                assert!(!appended.duplicate, "a batch was there whose append was never told");
                assert_eq!(appended.base_offset, before.offset);
                partition.batches.push(stored(&batch, appended.base_offset, partition.epoch));
                model.appended += 1;
            }
            Err(AppendError::Io(_)) => assert_eq!(log.end().offset, before.offset),
            Err(error) => panic!("{error}"),
        }
    }

    fn append_as_follower(
        &self,
        model: &mut Model,
        n: usize,
        batches: usize,
        gap: i64,
        size: usize,
    ) {
        let Ok(log) = self.log(model, n) else { return };
        let Some(partition) = model.partitions.get_mut(&name(n)) else { return };
        // Elsewhere a gap is damage.
        let gap = if is_compacted(&name(n).topic) { gap } else { 0 };
        let mut sent = Vec::new();
        let mut base = log.end().offset + gap;
        for n in 0..batches {
            let key = (base.0 % i64::from(KEYS)) as u8;
            let time = NOW + model.appended + n as i64;
            let batch = keyed_batch(BatchOptions::default(), key, 1, time, size);
            sent.push(stored(&batch, base, partition.epoch));
            base = base + gap + 1;
        }
        let bytes: Vec<u8> = sent.iter().flat_map(|batch| batch.bytes.clone()).collect();
        let appended = log.append_as_follower(&bytes);
        sent.retain(|batch| batch.next <= log.end().offset.0);
        match appended {
            Ok(end) => assert_eq!((end, sent.len()), (log.end(), batches)),
            Err(FollowerAppendError::Io(_)) => assert!(sent.len() < batches),
            Err(error) => panic!("{error}"),
        }
        model.appended += sent.len() as i64;
        partition.batches.extend(sent);
    }

    fn truncate(&self, model: &mut Model, n: usize, percent: i64) -> Result<(), Ended> {
        let Some(log) = self.manager.get(&name(n)) else { return Ok(()) };
        let Some(partition) = model.partitions.get_mut(&name(n)) else { return Ok(()) };
        let start = log.log_start_offset();
        let to = (start + (log.end().offset - start) * percent / 100).max(Offset::ZERO);
        partition.truncate(to.0, log.first_base_offset().0);
        // If it fails, it may have happened all the same.
        log.truncate_to(to, || self.write_checkpoints()).map_err(|_| Ended)
    }

    fn start_anew(&self, model: &mut Model, n: usize, ahead: i64) -> Result<(), Ended> {
        let Some(log) = self.manager.get(&name(n)) else { return Ok(()) };
        let Some(partition) = model.partitions.get_mut(&name(n)) else { return Ok(()) };
        let at = log.end().offset + ahead;
        partition.start_anew(at.0);
        log.truncate_fully_and_start_at(at, || self.write_checkpoints()).map_err(|_| Ended)
    }

    fn write_checkpoints(&self) -> std::io::Result<()> {
        self.manager.write_checkpoints().map_err(std::io::Error::other)
    }

    fn compact(&self, model: &mut Model) {
        let mut cleaned = Vec::new();
        for (name, partition) in &mut model.partitions {
            if is_compacted(&name.topic)
                && let Some(log) = self.manager.get(name)
            {
                // No segment that is appended to is compacted, nor what a crash may take.
                partition.compacted_to = log.flushed().offset.min(log.end().segment).0;
                cleaned.push((log, name, partition));
            }
        }
        let clock = self.machine.clock.clone();
        LogCleaner::new(self.manager.clone(), clock, compaction::settings())
            .clean_filthiest(&|_| {});
        for (log, name, partition) in cleaned {
            let found = contents(&log);
            let span = log.log_start_offset().0..log.end().offset.0;
            check_compacted(name, &found, partition, span);
            partition.batches.retain(|batch| batch.next <= partition.start);
            partition.batches.extend(found);
        }
    }

    fn advance_move(&self, n: usize, steps: usize) {
        let Some(log) = self.manager.get(&name(n)) else { return };
        let is_in_first = log.dir().starts_with(DIRS[0]);
        let other = if is_in_first { DIRS[1] } else { DIRS[0] };
        if self.manager.begin_move(&name(n), Path::new(other)).is_err() {
            return;
        }
        for _ in 0..steps {
            // If it fails, the log is where it was.
            match self.manager.advance_move(&name(n), 1000) {
                Ok(MoveStep::Copied(_)) => {}
                Ok(MoveStep::Done | MoveStep::Gone) | Err(_) => break,
            }
        }
    }

    fn begin_epoch(&self, model: &mut Model, n: usize) {
        let Some(log) = self.manager.get(&name(n)) else { return };
        let Some(partition) = model.partitions.get_mut(&name(n)) else { return };
        if log.begin_epoch(LeaderEpoch(partition.epoch + 1)).is_ok() {
            partition.epoch += 1;
        }
    }

    fn restart(self, model: &mut Model) -> Result<Self, Ended> {
        self.manager.close().map_err(|_| Ended)?;
        self.note(model, Operation::Checkpoint);
        let disk = self.machine.disk.clone();
        drop(self.manager);
        let broker = Self::start(disk).map_err(|_| Ended)?;
        let found = model.compare(broker.manager());
        assert_eq!(found, Ok(()), "after a stop in good order");
        Ok(broker)
    }

    /// Notes what the logs say of themselves, as far as the operation promises that it lasts.
    fn note(&self, model: &mut Model, operation: Operation) {
        let has_failed = model.has_failed;
        for (name, partition) in &mut model.partitions {
            let Some(log) = self.manager.get(name) else { continue };
            partition.start = log.log_start_offset().0;
            partition.epochs_from = partition.epochs_from.max(partition.start);
            partition.durable = partition.durable.max(log.flushed().offset.0);
            if operation.writes_checkpoints() {
                partition.durable_start = partition.start;
            }
            // Segments are gone for good before the next one goes.
            if !has_failed {
                partition.durable_start = partition.durable_start.max(log.first_base_offset().0);
            }
        }
    }

    /// Lets the disk fail.
    pub(super) fn fail(&self, fault: Fault, model: &mut Model) {
        let disk = &self.machine.disk;
        model.has_failed = true;
        model.has_lost |= matches!(fault, Fault::LoseSync);
        match fault {
            Fault::Refuse { changes } => disk.fail_after(changes),
            Fault::Full { bytes } => {
                let space = disk.space(Path::new(DIRS[0]));
                let used = space.map_or(0, |space| space.total_bytes - space.usable_bytes);
                disk.set_capacity(used + bytes);
            }
            Fault::LoseSync => disk.lose_next_sync(),
        }
    }

    /// Lets the logs take a batch of every producer, ends all moves, and stops in good order.
    pub(super) fn go_on(self, model: &mut Model) {
        for n in 0..2 {
            for producer in [None, Some(1), Some(2), Some(3)] {
                let appended = model.appended;
                self.append(model, n, producer, |options| keyed_batch(options, 0, 1, NOW, 10));
                assert_eq!(model.appended, appended + 1, "an append was refused");
            }
        }
        for partition in self.manager.moves() {
            while let Ok(MoveStep::Copied(_)) = self.manager.advance_move(&partition, 1000) {}
            assert!(!self.manager.is_moving(&partition), "{partition} is not moved");
        }
        self.restart(model).expect("a disk that is whole refuses nothing");
    }

    /// A retry of each producer's last batch is known.
    pub(super) fn retry(&self, model: &Model) {
        for (name, partition) in &model.partitions {
            let Some(log) = self.manager.get(name) else { continue };
            for (id, last) in partition.last_batches() {
                // As it came from the producer.
                let mut batch = last.bytes.clone();
                batch[..8].fill(0);
                let appended = try_append(&log, &batch, partition.epoch).unwrap_or_else(|error| {
                    panic!("{name}: a retry of producer {id} is refused: {error}")
                });
                assert!(appended.duplicate, "{name}: a retry of producer {id} is stored twice");
                assert_eq!(appended.base_offset, Offset(last.base), "{name}: producer {id}");
            }
        }
    }
}

/// Takes a fault back.
pub(super) fn heal(disk: &FakeDisk) {
    disk.heal();
    disk.set_capacity(1 << 40);
}

/// A number that is another one with other names in the log directories.
fn names_on(disk: &FakeDisk) -> u64 {
    let names = DIRS.iter().flat_map(|dir| disk.read_dir(Path::new(dir)).unwrap_or_default());
    names
        .flat_map(|entry| entry.name.into_bytes())
        .fold(7, |sum, byte| u64::wrapping_add(u64::wrapping_mul(sum, 31), byte.into()))
}

/// A batch with records of these keys, the first of which is `key`.
fn keyed_batch(options: BatchOptions, key: u8, count: usize, time: i64, size: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for n in 0..count {
        let key = [(key + n as u8) % KEYS];
        let value: Vec<u8> = (0..size).map(|at| (at * 31 + n) as u8).collect();
        builder.append(Timestamp(time), Some(&key), Some(&value), &[]);
    }
    builder.build()
}
