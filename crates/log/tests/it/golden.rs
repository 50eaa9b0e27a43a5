//! Byte for byte with Apache Kafka 3.9: see `tests/golden/README.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_fake::Crash;
use ottla_log::{Log, LogConfig, LogDirectory, LogManager, OpenOptions, TopicPartition};
use ottla_record::{BrokerId, LeaderEpoch, Offset, RecordBatch, Timestamp, Uuid, batches};
use ottla_runtime::Disk;
use ottla_runtime::disk::{OpenMode, SystemDisk, read_file};

use crate::{Machine, config, contents, try_append};

pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

const DAY_MS: i64 = 86_400_000;

/// The files of a directory, by their paths in it.
pub(crate) fn files(disk: &dyn Disk, root: &Path) -> Files {
    let mut files = Files::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in disk.read_dir(&dir).unwrap() {
            let path = dir.join(&entry.name);
            if entry.is_dir {
                dirs.push(path);
            } else {
                let bytes = read_file(disk, &path).unwrap();
                files.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
            }
        }
    }
    files
}

/// The files of a machine's log directory.
pub(crate) fn files_of(machine: &Machine) -> Files {
    files(&*machine.disk, Path::new("/data"))
}

pub(crate) fn golden(name: &str) -> Files {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    files(&SystemDisk, &root)
}

fn settings(topic: &str) -> Arc<LogConfig> {
    match topic {
        "flights" => config(&[
            ("segment.bytes", "2000"),
            ("segment.ms", "3600000"),
            ("index.interval.bytes", "300"),
            ("segment.index.bytes", "480"),
            ("retention.ms", "-1"),
        ]),
        _ => config(&[
            ("message.timestamp.type", "LogAppendTime"),
            ("index.interval.bytes", "0"),
            ("segment.index.bytes", "60"),
            ("retention.ms", "-1"),
        ]),
    }
}

/// A machine whose clock shows the time at which Kafka wrote the files.
fn machine(files: &Files) -> Machine {
    let machine = Machine::new(&[]);
    for (path, bytes) in files {
        let path = Path::new("/data").join(path);
        machine.disk.create_dir_all(path.parent().unwrap()).unwrap();
        let file = machine.disk.open(&path, OpenMode::Create).unwrap();
        file.write_at(&[std::io::IoSlice::new(bytes)], 0).unwrap();
    }
    machine.clock.advance(written_at() - crate::NOW);
    machine
}

/// When the broker stamped its last batch.
fn written_at() -> i64 {
    let files = golden("clean");
    let stamps = logs_of(&files, "ticks-0")
        .into_iter()
        .map(|log| batches(&log).map(|batch| batch.unwrap().max_timestamp()).max().unwrap());
    stamps.max().unwrap().0
}

fn logs_of(files: &Files, partition: &str) -> Vec<Vec<u8>> {
    let is_log =
        |path: &Path| path.starts_with(partition) && path.extension() == Some("log".as_ref());
    files.iter().filter(|(path, _)| is_log(path)).map(|(_, bytes)| bytes.clone()).collect()
}

fn open(machine: &Machine) -> LogManager {
    let world = machine.world();
    let mut directory = LogDirectory::open(&world, Path::new("/data"), BrokerId(1)).unwrap();
    directory.join("4L6g3nShT-eMCtK--X86sw").unwrap();
    let expected = Default::default();
    let options = OpenOptions { threads: 1, expected: &expected };
    let manager = LogManager::open(&world, vec![directory], options, settings).unwrap();
    manager.expire_producers(DAY_MS);
    manager
}

/// The next process on the disk of the one before.
fn restarted(machine: &Machine) -> Machine {
    let next = Machine::on(machine.disk.after(Crash::Process), &[]);
    next.clock.advance(written_at() - crate::NOW);
    next
}

fn topic_id(files: &Files, partition: &str) -> Uuid {
    let text = String::from_utf8(files[&Path::new(partition).join("partition.metadata")].clone());
    Uuid::parse(text.unwrap().split_once("topic_id: ").unwrap().1).unwrap()
}

#[track_caller]
fn assert_same(found: &Files, expected: &Files) {
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (path, bytes) in expected {
        let found = &found[path];
        let at = (0..bytes.len().max(found.len())).find(|&at| found.get(at) != bytes.get(at));
        assert_eq!(at, None, "{} differs from this byte on", path.display());
    }
}

/// Leaves out what tells one broker from another, and not one log from another.
fn logs_and_checkpoints(mut files: Files) -> Files {
    for name in [".kafka_cleanshutdown", ".lock", "meta.properties"] {
        files.remove(Path::new(name));
    }
    files
}

#[test]
fn the_batches_of_kafka_make_the_files_of_kafka() {
    let golden = logs_and_checkpoints(golden("clean"));
    let mut machine = machine(&Files::new());
    // The broker was stopped and started between the two epochs that it led in.
    for epoch in [0, 2] {
        machine = restarted(&machine);
        let manager = open(&machine);
        for topic in ["flights", "ticks"] {
            let partition = TopicPartition::new(topic, 0);
            let id = topic_id(&golden, &partition.to_string());
            let log = manager.get_or_create(&partition, id, settings(topic)).unwrap();
            log.begin_epoch(LeaderEpoch(epoch)).unwrap();
            for bytes in logs_of(&golden, &partition.to_string()) {
                feed(&log, &bytes, epoch);
            }
        }
        manager.close().unwrap();
    }
    assert_same(&logs_and_checkpoints(files(&*machine.disk, Path::new("/data"))), &golden);
}

/// Appends the batches of that epoch as their producer sent them.
fn feed(log: &Arc<Log>, bytes: &[u8], epoch: i32) {
    for batch in batches(bytes).map(Result::unwrap) {
        if batch.leader_epoch() != LeaderEpoch(epoch) {
            continue;
        }
        let mut sent = batch.as_bytes().to_vec();
        sent[..8].fill(0);
        sent[12..16].copy_from_slice(&LeaderEpoch::NONE.0.to_be_bytes());
        let appended = try_append(log, &sent, epoch).unwrap();
        assert_eq!((appended.base_offset, appended.duplicate), (batch.base_offset(), false));
    }
}

#[test]
fn a_directory_that_kafka_closed_is_opened_and_left_as_it_was() {
    let golden = golden("clean");
    let machine = machine(&golden);
    let manager = open(&machine);
    check_readable(&manager, &golden, "flights-0");
    check_readable(&manager, &golden, "ticks-0");
    let log = manager.get(&TopicPartition::new("flights", 0)).unwrap();
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(2)));
    assert_eq!(log.end_of_epoch(LeaderEpoch(1)), Some((LeaderEpoch(0), Offset(144))));
    manager.close().unwrap();
    let mut expected = logs_and_checkpoints(golden);
    // Left by the first stop, and removed by Kafka's own next start as well.
    for snapshot in
        ["flights-0/00000000000000000144.snapshot", "ticks-0/00000000000000000014.snapshot"]
    {
        expected.remove(Path::new(snapshot)).unwrap();
    }
    assert_same(&logs_and_checkpoints(files(&*machine.disk, Path::new("/data"))), &expected);
}

#[test]
fn a_directory_that_kafka_left_in_a_crash_is_recovered() {
    let golden = golden("crashed");
    let machine = machine(&golden);
    let manager = open(&machine);
    check_readable(&manager, &golden, "flights-0");
    let log = manager.get(&TopicPartition::new("flights", 0)).unwrap();
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(4)));
    // Another crash leaves none of the zeros.
    for suffix in ["index", "timeindex"] {
        let path = format!("/data/flights-0/00000000000000000191.{suffix}");
        assert!(!machine.disk.exists(Path::new(&path)), "{path}");
    }
    manager.close().unwrap();
    let found = files(&*machine.disk, Path::new("/data"));
    for (path, bytes) in golden.iter().filter(|(path, _)| path.starts_with("flights-0")) {
        let name = path.file_name().unwrap().to_string_lossy();
        match (name.split_once('.').unwrap_or_default(), found.get(path)) {
            // Neither at the base of a segment nor the newest.
            (("00000000000000000180", "snapshot"), None) => {}
            // Built anew in one piece: Kafka's counter of bytes had begun anew with its restart.
            (("00000000000000000169", "index" | "timeindex"), Some(found)) => {
                assert!(found.len() >= bytes.len(), "{name}");
            }
            // The index of the active segment had its full size, filled with zeros.
            (("00000000000000000191", "index" | "timeindex"), Some(found)) => {
                assert!(!found.is_empty() && bytes.len() == 480, "{name}");
                assert_eq!(*found, bytes[..found.len()], "{name}");
                assert!(bytes[found.len()..].iter().all(|&byte| byte == 0), "{name}");
            }
            (_, Some(found)) => assert_eq!(found, bytes, "{name}"),
            (_, None) => panic!("{name} is gone"),
        }
    }
}

/// Every batch of the files is read, and every record is found by its time.
fn check_readable(manager: &LogManager, files: &Files, partition: &str) {
    let (topic, _) = partition.rsplit_once('-').unwrap();
    let log = manager.get(&TopicPartition::new(topic, 0)).unwrap();
    let expected = logs_of(files, partition).concat();
    let found: Vec<u8> = contents(&log).into_iter().flat_map(|stored| stored.bytes).collect();
    assert_eq!(found, expected);
    let mut records = Vec::new();
    for batch in batches(&expected) {
        let batch: RecordBatch<'_> = batch.unwrap();
        batch
            .visit_records(1 << 20, |record| records.push((record.timestamp, record.offset)))
            .unwrap();
    }
    for &(time, _) in &records {
        for time in [time, Timestamp(time.0 + 1)] {
            let first = records.iter().find(|(timestamp, _)| *timestamp >= time).copied();
            let found = log.offset_for_timestamp(time).unwrap();
            assert_eq!(found.map(|found| (found.timestamp, found.offset)), first);
        }
    }
}
