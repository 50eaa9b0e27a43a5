//! Opening whatever lies in a log directory: it is opened or refused, and what was opened can be
//! read from end to end and goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use ottla_config::Layers;
use ottla_fake::{FakeClock, FakeDisk, FakeRandom};
use ottla_log::{
    BrokerLogDefaults, Log, LogConfig, LogDirectory, LogManager, OpenOptions, Opening, Volume,
};
use ottla_record::{
    BatchBuilder, BatchOptions, BrokerId, LeaderEpoch, Offset, RecordBatch, Timestamp, ValidBatch,
    batches,
};
use ottla_runtime::World;
use ottla_runtime::disk::{Disk, OpenMode};
use ottla_runtime::net::SystemNetwork;

const DIR: &str = "/data/flights-0";

/// A log never holds more than this of an input that is smaller.
const READ_MAX: usize = 1 << 20;

fn config() -> Arc<LogConfig> {
    let defaults = BrokerLogDefaults::new(Layers::default()).expect("the defaults are valid");
    let config = LogConfig::from_overrides(&defaults, &BTreeMap::new());
    Arc::new(config.expect("no overrides are valid"))
}

fn world(disk: &Arc<FakeDisk>) -> World {
    World {
        clock: Arc::new(FakeClock::at(1_700_000_000_000)),
        disk: disk.clone(),
        network: Arc::new(SystemNetwork),
        random: Arc::new(FakeRandom::new(7)),
    }
}

fn put(disk: &FakeDisk, path: &str, content: &[u8]) {
    let file = disk.open(Path::new(path), OpenMode::Create).expect("its directory is there");
    file.write_at(&[IoSlice::new(content)], 0).expect("the disk is large");
}

/// Reads a log from end to end, and lets it go on if it can be read.
fn use_log(log: &Arc<Log>) {
    let limit = log.end();
    let mut next = log.log_start_offset();
    while next < limit.offset {
        let Ok(slice) = log.read(next, READ_MAX, limit, true) else { return };
        assert!(slice.len <= READ_MAX, "more than there is");
        let mut bytes = vec![0; slice.len];
        if !slice.file.read_at(&mut bytes, slice.position).is_ok_and(|read| read == slice.len) {
            return;
        }
        let before = next;
        for batch in batches(&bytes).map_while(Result::ok) {
            next = batch.next_offset().max(next);
        }
        if next == before {
            return;
        }
    }
    let _ = log.offset_for_timestamp(Timestamp(5));
    let _ = log.offset_of_max_timestamp();
    let mut batch = BatchBuilder::new(BatchOptions::default());
    batch.append(Timestamp(1), None, Some(b"value"), &[]);
    let batch = batch.build();
    let (batch, _) = RecordBatch::parse(&batch).expect("it was just built");
    let end = log.end().offset;
    if let Ok(appended) = log.append(&ValidBatch::own(batch), LeaderEpoch(1)) {
        assert_eq!(appended.base_offset, end);
    }
    let _ = log.flush();
    let _ = log.delete_old_segments(log.end().offset);
}

fn open(disk: &Arc<FakeDisk>, opening: Opening) {
    let volume = Volume::open(&world(disk), Path::new("/data")).expect("the directory is there");
    if let Ok(log) = Log::open(&volume, Path::new(DIR), config(), opening) {
        use_log(&log);
        let _ = log.close();
        // What waits to be flushed holds the log.
        volume.flush(0);
    }
}

/// The input is whether the stop was clean (1 byte), a recovery point and a log start offset (4
/// bytes each), then the only segment.
pub fn segment(input: &[u8]) {
    let Some((head, segment)) = input.split_first_chunk::<9>() else { return };
    let offset = |at: usize| {
        let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
        Offset(i64::from(u32::from_be_bytes(bytes)))
    };
    let disk = FakeDisk::with_dir(DIR);
    put(&disk, "/data/flights-0/00000000000000000000.log", segment);
    let clean = head[0] % 2 == 1;
    let (recovery_point, log_start_offset) = (offset(1), offset(5));
    let high_watermark = recovery_point;
    open(&disk, Opening { clean, recovery_point, log_start_offset, high_watermark });
}

/// The input is the file (0 offset index, 1 time index, 2 transaction index, else producer
/// snapshot), then its content, beside a segment of ten batches.
pub fn index(input: &[u8]) {
    let Some((&kind, content)) = input.split_first() else { return };
    let disk = FakeDisk::with_dir(DIR);
    let mut segment = Vec::new();
    for n in 0..10 {
        let base_offset = Offset(n * 2);
        let options =
            BatchOptions { base_offset, leader_epoch: LeaderEpoch(0), ..Default::default() };
        let mut batch = BatchBuilder::new(options);
        batch.append(Timestamp(n), None, Some(b"first"), &[]);
        batch.append(Timestamp(n + 3), None, Some(b"second"), &[]);
        segment.extend_from_slice(&batch.build());
    }
    put(&disk, "/data/flights-0/00000000000000000000.log", &segment);
    let names = ["0.index", "0.timeindex", "0.txnindex"];
    for name in names {
        put(&disk, &format!("/data/flights-0/0000000000000000000{name}"), b"");
    }
    let name = names
        .get(usize::from(kind))
        .map_or("00000000000000000020.snapshot".to_owned(), |n| format!("0000000000000000000{n}"));
    put(&disk, &format!("/data/flights-0/{name}"), content);
    let (recovery_point, log_start_offset) = (Offset(20), Offset::ZERO);
    let high_watermark = recovery_point;
    open(&disk, Opening { clean: true, recovery_point, log_start_offset, high_watermark });
}

/// The input is the file by its place in a list, then its content, in a directory with one log.
pub fn checkpoint(input: &[u8]) {
    let Some((&kind, content)) = input.split_first() else { return };
    let names = [
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        "replication-offset-checkpoint",
        "cleaner-offset-checkpoint",
        "meta.properties",
        ".kafka_cleanshutdown",
        "flights-0/leader-epoch-checkpoint",
        "flights-0/partition.metadata",
    ];
    let disk = FakeDisk::with_dir(DIR);
    put(&disk, &format!("/data/{}", names[usize::from(kind) % names.len()]), content);
    let world = world(&disk);
    let Ok(mut directory) = LogDirectory::open(&world, Path::new("/data"), BrokerId(1)) else {
        return;
    };
    let _ = directory.join("a cluster");
    let options = OpenOptions { threads: 1, expected: &BTreeSet::new() };
    let Ok(manager) = LogManager::open(&world, vec![directory], options, |_| config()) else {
        return;
    };
    for (name, _) in manager.partitions() {
        use_log(&manager.get(&name).expect("it was listed"));
    }
    let _ = manager.close();
    for volume in manager.volumes() {
        volume.flush(0);
    }
}
