//! The log as the rooms above it see it, over a disk in memory and a clock that stands still.

mod append;
mod compaction;
mod concurrency;
mod crash;
mod directories;
mod follower;
mod fuzzing;
mod golden;
mod group_commit;
mod inspect;
mod manager;
mod many;
mod model;
mod moving;
mod recovery;
mod retention;
mod timestamps;
mod transactions;
mod truncation;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ottla_config::Layers;
use ottla_fake::{FakeClock, FakeDisk, FakeRandom};
use ottla_log::{AppendError, Appended, BrokerLogDefaults, Log, LogConfig, Opening, Volume};
use ottla_record::{
    BatchBuilder, BatchOptions, LeaderEpoch, Offset, ProducerEpoch, ProducerId, RecordBatch,
    Sequence, Timestamp, ValidBatch, batches,
};
use ottla_runtime::World;
use ottla_runtime::net::SystemNetwork;

/// The time at which every test begins.
const NOW: i64 = 1_700_000_000_000;

const DIR: &str = "/data/flights-0";

/// A machine with one log directory, which lies on a disk that survives it.
struct Machine {
    disk: Arc<FakeDisk>,
    clock: Arc<FakeClock>,
    config: Arc<LogConfig>,
}

impl Machine {
    fn new(overrides: &[(&str, &str)]) -> Self {
        Self::on(FakeDisk::with_dir("/data"), overrides)
    }

    fn on(disk: Arc<FakeDisk>, overrides: &[(&str, &str)]) -> Self {
        Self { disk, clock: Arc::new(FakeClock::at(NOW)), config: config(overrides) }
    }

    fn world(&self) -> World {
        World {
            clock: self.clock.clone(),
            disk: self.disk.clone(),
            network: Arc::new(SystemNetwork),
            random: Arc::new(FakeRandom::new(7)),
        }
    }

    fn open(&self, opening: Opening) -> std::io::Result<Arc<Log>> {
        let volume = Volume::open(&self.world(), Path::new("/data"))?;
        Ok(Log::open(&volume, Path::new(DIR), self.config.clone(), opening)?)
    }

    /// The log as it is found after a clean stop, or a new one.
    fn open_clean(&self) -> Arc<Log> {
        self.open(Opening { clean: true, ..UNKNOWN }).unwrap()
    }

    /// The log as it is found if nothing is known of it.
    fn open_unclean(&self) -> Arc<Log> {
        self.open(UNKNOWN).unwrap()
    }
}

/// What is known of a log whose checkpoints are lost.
const UNKNOWN: Opening = Opening {
    clean: false,
    recovery_point: Offset::ZERO,
    log_start_offset: Offset::ZERO,
    high_watermark: Offset::ZERO,
};

fn config(overrides: &[(&str, &str)]) -> Arc<LogConfig> {
    let defaults = BrokerLogDefaults::new(Layers::default()).unwrap();
    let overrides: BTreeMap<_, _> =
        overrides.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    Arc::new(LogConfig::from_overrides(&defaults, &overrides).unwrap())
}

/// A batch with one record per timestamp, each with a value of `size` bytes.
fn batch_with(options: BatchOptions, timestamps: &[i64], size: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    for (n, &timestamp) in timestamps.iter().enumerate() {
        let value: Vec<u8> = (0..size).map(|at| (at * 31 + n) as u8).collect();
        builder.append(Timestamp(timestamp), Some(b"key"), Some(&value), &[]);
    }
    builder.build()
}

/// A batch of `count` records of now.
fn batch(count: usize, size: usize) -> Vec<u8> {
    batch_with(BatchOptions::default(), &vec![NOW; count], size)
}

/// A batch of an idempotent producer, of epoch 0.
fn idempotent(id: i64, first_sequence: i32, count: usize) -> Vec<u8> {
    let options = BatchOptions {
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(first_sequence),
        ..BatchOptions::default()
    };
    batch_with(options, &vec![NOW; count], 10)
}

fn try_append(log: &Arc<Log>, batch: &[u8], epoch: i32) -> Result<Appended, AppendError> {
    let (batch, _) = RecordBatch::parse(batch).unwrap();
    log.append(&ValidBatch::own(batch), LeaderEpoch(epoch))
}

fn append(log: &Arc<Log>, batch: &[u8]) -> Appended {
    try_append(log, batch, 0).unwrap()
}

/// A batch as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    base: i64,
    next: i64,
    bytes: Vec<u8>,
}

/// The bytes that the log is to hold once `batch` was appended at `base`.
fn stored(batch: &[u8], base: Offset, epoch: i32) -> Stored {
    let (batch, _) = RecordBatch::parse(batch).unwrap();
    let valid = ValidBatch::own(batch);
    let mut bytes = valid.header(base, LeaderEpoch(epoch)).as_bytes().to_vec();
    bytes.extend_from_slice(valid.payload());
    let next = base.0 + i64::from(batch.last_offset_delta()) + 1;
    Stored { base: base.0, next, bytes }
}

/// All batches from the log start offset on, as readers get them, a little at a time.
fn contents(log: &Log) -> Vec<Stored> {
    let limit = log.end();
    let mut next = log.log_start_offset();
    let mut found = Vec::new();
    while next < limit.offset {
        let slice = log.read(next, 300, limit, true).unwrap();
        if slice.len == 0 {
            // A follower's log ends where its empty segment begins, even if a gap is before that.
            assert_eq!((limit.segment, limit.position), (limit.offset, 0), "nothing at {next}");
            return found;
        }
        let mut bytes = vec![0; slice.len];
        assert_eq!(slice.file.read_at(&mut bytes, slice.position).unwrap(), slice.len);
        let before = next;
        for batch in batches(&bytes).map_while(Result::ok) {
            batch.verify_crc().unwrap();
            next = batch.next_offset();
            let bytes = batch.as_bytes().to_vec();
            found.push(Stored { base: batch.base_offset().0, next: next.0, bytes });
        }
        assert!(next > before, "no whole batch at {before} in {} bytes", slice.len);
    }
    assert_eq!(next, limit.offset);
    found
}
