//! What is done to the logs of a broker between two crashes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use ottla_fake::{Dice, FakeDisk};
use ottla_log::{AppendError, Log, LogDirectory, LogManager, OpenOptions};
use ottla_record::{
    BatchOptions, BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Uuid,
};
use ottla_runtime::Disk;

use super::state::{Model, Partition, name};
use crate::{Machine, NOW, batch_with, stored, try_append};

const DIRS: [&str; 2] = ["/data/a", "/data/b"];

/// So small that logs roll and shrink all the time, and that batches lie in several sectors.
const OVERRIDES: [(&str, &str); 4] = [
    ("segment.bytes", "3000"),
    ("index.interval.bytes", "300"),
    ("retention.bytes", "8000"),
    ("retention.ms", "-1"),
];

/// One thing that is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    /// Appends a batch of `count` records of `size` bytes, by an idempotent producer if one is
    /// named. Makes the partition if there is none.
    Append { partition: usize, producer: Option<i64>, count: usize, size: usize, late_ms: i64 },
    /// Makes durable what waits for the disk, as the flushers do.
    Commit,
    /// Makes one log durable.
    Flush { partition: usize },
    /// Makes all logs durable and says so in the checkpoints.
    Checkpoint,
    /// Says in the checkpoints what is durable already.
    CheckpointFlushed,
    /// Writes the checkpoints as things stand.
    WriteCheckpoints,
    /// Deletes what is above `retention.bytes` or below the log start offset.
    Retain,
    /// Raises the log start offset by so many percent of what is there.
    DeleteRecords { partition: usize, percent: i64 },
    /// Leads in a new epoch.
    BeginEpoch { partition: usize },
    /// Deletes the partition.
    Delete { partition: usize },
    /// Stops in good order, and starts again.
    Restart,
    /// Lets the disk fail during the next operation.
    Fault(Fault),
}

/// How a disk fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// It refuses everything after so many changes.
    Refuse { changes: u64 },
    /// It is full after so many bytes.
    Full { bytes: u64 },
    /// The next sync loses what it was to write.
    LoseSync,
}

impl Operation {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let partition = dice.roll(2) as usize;
        match dice.roll(100) {
            0..48 => Self::Append {
                partition,
                producer: Some(dice.roll(4) as i64).filter(|id| *id > 0),
                count: 1 + dice.roll(3) as usize,
                size: size(dice),
                late_ms: dice.roll(50) as i64,
            },
            48..56 => Self::Commit,
            56..60 => Self::Flush { partition },
            60..63 => Self::Checkpoint,
            63..66 => Self::CheckpointFlushed,
            66..70 => Self::WriteCheckpoints,
            70..76 => Self::Retain,
            76..80 => Self::DeleteRecords { partition, percent: dice.roll(101) as i64 },
            80..85 => Self::BeginEpoch { partition },
            85..87 => Self::Delete { partition },
            87..91 => Self::Restart,
            91..95 => Self::Fault(Fault::Refuse { changes: dice.roll(12) }),
            95..98 => Self::Fault(Fault::Full { bytes: dice.roll(1500) }),
            _ => Self::Fault(Fault::LoseSync),
        }
    }
}

impl Operation {
    fn writes_checkpoints(self) -> bool {
        matches!(self, Self::Checkpoint | Self::CheckpointFlushed | Self::WriteCheckpoints)
    }
}

/// Bytes of a record: mostly few, now and then more than a sector has.
fn size(dice: &mut Dice) -> usize {
    let most = [40, 500, 900][dice.roll(3) as usize];
    dice.roll(most) as usize
}

/// The process cannot go on: it ends, as after a crash.
#[derive(Debug)]
pub(super) struct Ended;

/// A broker's logs, and the disk that survives them.
pub(super) struct Broker {
    machine: Machine,
    manager: LogManager,
}

impl Broker {
    /// Starts on the disk that a crash or a stop left.
    pub(super) fn start(disk: Arc<FakeDisk>) -> Result<Self, ottla_log::DirectoryError> {
        let machine = Machine::on(disk, &OVERRIDES);
        let world = machine.world();
        let open = |dir: &&str| LogDirectory::open(&world, Path::new(dir), BrokerId(1));
        let directories = DIRS.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let expected = BTreeSet::new();
        // One thread, for the same order of calls each time.
        let options = OpenOptions { threads: 1, expected: &expected };
        let manager = LogManager::open(&world, directories, options, |_| machine.config.clone())?;
        Ok(Self { machine, manager })
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
        let config = self.machine.config.clone();
        let made = self.manager.get_or_create(&name(n), partition.id, config);
        made.map_err(std::io::Error::other)
    }

    /// Does one thing, and notes in the model what it did.
    pub(super) fn run(self, operation: Operation, model: &mut Model) -> Result<Self, Ended> {
        match operation {
            Operation::Append { partition, producer, count, size, late_ms } => {
                let times = vec![NOW + model.appended - late_ms; count];
                self.append(model, partition, producer, &times, size);
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
        times: &[i64],
        size: usize,
    ) {
        let Ok(log) = self.log(model, n) else { return };
        let Some(partition) = model.partitions.get_mut(&name(n)) else { return };
        let options = match producer {
            None => BatchOptions::default(),
            Some(id) => BatchOptions {
                producer_id: ProducerId(id),
                producer_epoch: ProducerEpoch(0),
                base_sequence: Sequence(partition.next_sequence(id)),
                ..BatchOptions::default()
            },
        };
        let batch = batch_with(options, times, size);
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

    /// Lets the logs take a batch of every producer, and stops in good order.
    pub(super) fn go_on(self, model: &mut Model) {
        for n in 0..2 {
            for producer in [None, Some(1), Some(2), Some(3)] {
                let appended = model.appended;
                self.append(model, n, producer, &[NOW], 10);
                assert_eq!(model.appended, appended + 1, "an append was refused");
            }
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
