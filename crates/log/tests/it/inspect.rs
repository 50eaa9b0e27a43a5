//! Looking at files, and putting them right: Kafka's own (`tests/golden`), and these with damages.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_fake::{Crash, FakeDisk};
use ottla_log::inspect::{
    Damaged, Finding, Meaning, Repair, RepairOptions, Repaired, VerifyOptions, verify,
};
use ottla_log::{DirectoryError, LogDirectory, LogManager, OpenOptions, TopicPartition};
use ottla_record::{BrokerId, Uuid};
use ottla_runtime::Disk;
use ottla_runtime::disk::{OpenMode, read_file};

use crate::golden::{Files, files, golden};
use crate::{Machine, config, idempotent, try_append};

/// No log is missed: those that are there are opened, one after the other.
const AS_FOUND: OpenOptions<'static> = OpenOptions { threads: 1, expected: &BTreeSet::new() };

const FLIGHTS: &str = "/data/flights-0";
const PAYMENTS: &str = "/data/payments-0";

fn disk_with(files: &Files) -> Arc<FakeDisk> {
    let disk = FakeDisk::with_dir("/data");
    for (path, bytes) in files {
        let path = Path::new("/data").join(path);
        disk.create_dir_all(path.parent().unwrap()).unwrap();
        write(&disk, &path, bytes);
    }
    disk
}

fn write(disk: &FakeDisk, path: impl AsRef<Path>, bytes: &[u8]) {
    let file = disk.open(path.as_ref(), OpenMode::Create).unwrap();
    file.set_len(0).unwrap();
    file.write_at(&[IoSlice::new(bytes)], 0).unwrap();
    file.sync_data().unwrap();
    path.as_ref().ancestors().skip(1).filter(|dir| disk.exists(dir)).for_each(|dir| {
        disk.sync_dir(dir).unwrap();
    });
}

/// The golden directory as a broker left it that stopped cleanly.
fn stopped(name: &str) -> Arc<FakeDisk> {
    let mut files = golden(name);
    files.insert(".kafka_cleanshutdown".into(), Vec::new());
    disk_with(&files)
}

fn look(disk: &FakeDisk, dir: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let dirs = [PathBuf::from(dir)];
    let found = &mut |finding| findings.push(finding);
    verify(disk, &dirs, VerifyOptions::default(), found, &mut |_| {}).unwrap();
    findings
}

fn texts(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

fn flip(disk: &FakeDisk, path: &str, at: usize) {
    disk.flip_bit(path, at);
}

fn cut(disk: &FakeDisk, path: &str, len: u64) {
    disk.open(Path::new(path), OpenMode::ReadWrite).unwrap().set_len(len).unwrap();
}

#[test]
fn nothing_is_found_in_what_kafka_wrote() {
    for (name, batches, records) in
        [("clean", 77, 197), ("crashed", 71, 211), ("transactions", 151, 272)]
    {
        let mut files = golden(name);
        if name == "crashed" {
            // One of its logs was left out, and is one that is missing.
            let checkpoint = b"0\n1\nflights 0 180\n";
            files.insert("recovery-point-offset-checkpoint".into(), checkpoint.to_vec());
            files.insert("replication-offset-checkpoint".into(), checkpoint.to_vec());
        }
        for is_clean in [false, true] {
            files.remove(Path::new(".kafka_cleanshutdown"));
            if is_clean {
                files.insert(".kafka_cleanshutdown".into(), Vec::new());
            }
            let mut findings = Vec::new();
            let found = &mut |finding| findings.push(finding);
            let (disk, dirs) = (disk_with(&files), ["/data".into()]);
            let options = VerifyOptions::default();
            let summary = verify(&*disk, &dirs, options, found, &mut |_| {}).unwrap();
            assert_eq!(texts(&findings), [""; 0], "{name}");
            assert_eq!((summary.batches, summary.records), (batches, records), "{name}");
        }
    }
}

#[test]
fn nothing_is_found_in_what_ottla_wrote_and_after_a_crash_no_harm() {
    let machine = Machine::new(&[]);
    let world = machine.world();
    let settings = config(&[("segment.bytes", "2000"), ("index.interval.bytes", "100")]);
    let mut directory = LogDirectory::open(&world, Path::new("/data"), BrokerId(1)).unwrap();
    directory.join("cluster").unwrap();
    let logs = LogManager::open(&world, vec![directory], AS_FOUND, |_| settings.clone()).unwrap();
    let flights = TopicPartition::new("flights", 0);
    let log = logs.get_or_create(&flights, Uuid([7; 16]), settings.clone()).unwrap();
    for n in 0..60 {
        try_append(&log, &idempotent(5, n * 3, 3), n / 20).unwrap();
        if n == 30 {
            logs.checkpoint().unwrap();
        }
    }
    for seed in 0..100 {
        let told = look(&machine.disk.after(Crash::Power { seed }), "/data");
        let is_harmless = told.iter().all(|finding| finding.meaning == Meaning::Harmless);
        assert!(is_harmless, "seed {seed}: {:#?}", texts(&told));
    }
    logs.close().unwrap();
    assert_eq!(texts(&look(&machine.disk, "/data")), [""; 0]);
}

/// What is done to a directory, and what is then told of it.
type Case = (&'static str, fn(&FakeDisk), &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "a payload",
        |disk| flip(disk, "/data/flights-0/00000000000000000024.log", 100),
        &[
            "/data/flights-0/00000000000000000024.log at byte 0 (offset 24): the checksum of the batch is wrong; 209 bytes up to byte 209 cannot be read, behind them offset 26 follows [lost]",
        ],
    ),
    (
        "a length",
        |disk| flip(disk, "/data/flights-0/00000000000000000024.log", 9),
        &[
            "/data/flights-0/00000000000000000024.log at byte 0 (offset 24): the file ends within a batch; 209 bytes up to byte 209 cannot be read, behind them offset 26 follows [lost]",
        ],
    ),
    (
        "the tail of a segment in the middle",
        |disk| cut(disk, "/data/flights-0/00000000000000000046.log", 1000),
        &[
            "/data/flights-0/00000000000000000046.log at byte 716 (offset 56): the file ends within a batch; 284 bytes up to the end are no batches: more segments follow [lost]",
        ],
    ),
    (
        "a tail that was known to be on the disk",
        |disk| cut(disk, "/data/flights-0/00000000000000000169.log", 870),
        &[
            "they were known to be on the disk [lost]",
            "its recovery point is 180",
            "its high watermark is 180",
            "180.snapshot (offset 180): it lies beyond the end of the log, 176: the next start removes it [harmless]",
        ],
    ),
    (
        "an entry of an index",
        |disk| flip(disk, "/data/flights-0/00000000000000000024.index", 7),
        &[
            "/data/flights-0/00000000000000000024.index at byte 0 (offset 30): no batch begins at byte",
        ],
    ),
    (
        "an index that ends within an entry",
        |disk| cut(disk, "/data/flights-0/00000000000000000024.index", 13),
        &["24.index at byte 13: it ends within an entry [derived]"],
    ),
    (
        "an offset of an index",
        |disk| flip(disk, "/data/flights-0/00000000000000000024.index", 3),
        &["24.index at byte 0 (offset 31): no batch ends at offset 31 [derived]"],
    ),
    (
        "an entry of a time index",
        |disk| flip(disk, "/data/flights-0/00000000000000000024.timeindex", 7),
        &[
            "24.timeindex at byte 0 (offset 30): it tells 1700000600001, the greatest timestamp there is 1700000600000 [derived]",
        ],
    ),
    (
        "the last entry of a time index",
        |disk| cut(disk, "/data/flights-0/00000000000000000024.timeindex", 12),
        &[
            "24.timeindex at byte 12: it ends with 1700000600000, the segment's greatest timestamp is",
        ],
    ),
    (
        "an index that is gone",
        |disk| disk.remove_file(Path::new("/data/flights-0/00000000000000000024.index")).unwrap(),
        &["24.index at byte 0: it is missing [derived]"],
    ),
    (
        "a snapshot",
        |disk| flip(disk, "/data/flights-0/00000000000000000024.snapshot", 20),
        &["24.snapshot (offset 24): snapshot checksum is "],
    ),
    (
        "an epoch",
        |disk| write(disk, "/data/flights-0/leader-epoch-checkpoint", b"0\n1\n0 0\n"),
        &[
            "leader-epoch-checkpoint (offset 144): it has epoch 0 for offset 144, whose batch (/data/flights-0/00000000000000000124.log at byte 1573) has 2 [derived]",
        ],
    ),
    (
        "a checkpoint",
        |disk| write(disk, "/data/recovery-point-offset-checkpoint", b"0\n7\n"),
        &[
            "/data/recovery-point-offset-checkpoint: /data/recovery-point-offset-checkpoint: 7 entries announced, 0 found [derived]",
        ],
    ),
    (
        "a log start offset that cannot be read",
        |disk| write(disk, "/data/log-start-offset-checkpoint", b"x\n0\n"),
        &["without it deleted records come back [operator]"],
    ),
    (
        "a segment that is gone",
        |disk| {
            for suffix in ["log", "index", "timeindex"] {
                let path = format!("/data/flights-0/00000000000000000046.{suffix}");
                disk.remove_file(Path::new(&path)).unwrap();
            }
        },
        &[
            "60.log at byte 0 (offset 46): the offsets 46 to 59 are missing, and the log is not compacted [lost]",
        ],
    ),
    (
        "a log that is gone",
        |disk| disk.remove_dir_all(Path::new("/data/ticks-0")).unwrap(),
        &["/data/ticks-0: the log is missing, and the checkpoints know it up to offset 17 [lost]"],
    ),
    (
        "a name",
        |disk| disk.create_dir_all(Path::new("/data/photos")).unwrap(),
        &["/data/photos: it is not named <topic>-<partition>"],
    ),
    (
        "an index without a log",
        |disk| write(disk, "/data/flights-0/00000000000000000007.index", b""),
        &["07.index (offset 7): an index without a log, which the next start removes [harmless]"],
    ),
    (
        "the topic's id",
        |disk| write(disk, "/data/flights-0/partition.metadata", b"version: 0\n"),
        &[
            "partition.metadata: it has no topic id: move it away, and the broker writes it anew [operator]",
        ],
    ),
];

#[test]
fn each_damage_is_named_with_its_place() {
    let mut wrong = Vec::new();
    for (name, damage, expected) in CASES {
        let disk = stopped("clean");
        damage(&disk);
        let found = texts(&look(&disk, "/data"));
        let agrees = found.len() == expected.len()
            && found.iter().zip(*expected).all(|(found, expected)| found.contains(expected));
        if !agrees {
            wrong.push((name, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_transaction_index_is_held_against_the_markers() {
    let index = "/data/payments-0/00000000000000000014.txnindex";
    for at in 0..170 {
        let disk = stopped("transactions");
        flip(&disk, index, at);
        let found = look(&disk, PAYMENTS);
        assert_eq!(found.len(), 1, "byte {at}: {:?}", texts(&found));
        let entry = (at / 34 * 34) as u64;
        assert_eq!((found[0].path.as_path(), found[0].position), (Path::new(index), Some(entry)));
        assert_eq!(found[0].meaning, Meaning::Derived);
    }
    let disk = stopped("transactions");
    disk.remove_file(Path::new(index)).unwrap();
    let found = texts(&look(&disk, PAYMENTS));
    assert!(
        found[0].contains("the aborted transaction of producer 2, offsets 7 to 15"),
        "{found:?}"
    );
}

#[test]
fn flipped_bits_of_a_log_are_found_where_they_are() {
    let log = "/data/flights-0/00000000000000000046.log";
    let healthy = stopped("clean");
    let len = read_file(&*healthy, Path::new(log)).unwrap().len();
    for at in (0..len).step_by(3) {
        let disk = stopped("clean");
        disk.flip_bit(log, at);
        let found = look(&disk, FLIGHTS);
        // The leader epoch is not under the checksum: there the history of epochs contradicts.
        assert!(!found.is_empty(), "byte {at}");
        let is_near = found.iter().any(|finding| {
            finding.position.is_some_and(|position| position <= at as u64)
                || finding.path.ends_with("leader-epoch-checkpoint")
        });
        assert!(is_near, "byte {at}: {:?}", texts(&found));
    }
}

#[test]
fn a_torn_tail_is_harmless_where_it_could_not_be_known() {
    let mut files = golden("clean");
    files.remove(Path::new(".kafka_cleanshutdown"));
    for name in ["recovery-point-offset-checkpoint", "replication-offset-checkpoint"] {
        files.insert(name.into(), b"0\n2\nflights 0 169\nticks 0 17\n".to_vec());
    }
    let disk = disk_with(&files);
    cut(&disk, "/data/flights-0/00000000000000000169.log", 870);
    let found = look(&disk, "/data");
    assert!(found.iter().all(|f| f.meaning == Meaning::Harmless), "{:?}", texts(&found));
    assert!(found[0].what.contains("a torn tail, which the next start cuts"), "{}", found[0]);
}

#[test]
fn one_log_in_two_directories_is_told() {
    let disk = stopped("clean");
    for (path, bytes) in files(&*disk, Path::new(FLIGHTS)) {
        disk.create_dir_all(Path::new("/other/flights-0")).unwrap();
        write(&disk, Path::new("/other/flights-0").join(path), &bytes);
    }
    let mut findings = Vec::new();
    let found = &mut |finding| findings.push(finding);
    let dirs = ["/data".into(), "/other".into()];
    verify(&*disk, &dirs, VerifyOptions::default(), found, &mut |_| {}).unwrap();
    let expected = ["/other/flights-0: flights-0 lies in /data/flights-0 too [operator]"];
    assert_eq!(texts(&findings), expected);
}

fn repair(disk: &Arc<FakeDisk>, damaged: Damaged) -> Repaired {
    let options =
        RepairOptions { damaged, index_interval_bytes: 300, index_bytes_max: 480, now_ms: 77 };
    let repair = Repair::open(disk.clone(), Path::new("/data"), options).unwrap();
    let plan = repair.plan(&mut |_| {}).unwrap();
    repair.apply(plan, &mut |_| {}).unwrap()
}

#[test]
fn what_is_derived_becomes_what_a_healthy_broker_wrote() {
    for (name, file) in [
        ("clean", "flights-0/00000000000000000024.index"),
        ("clean", "flights-0/00000000000000000060.index"),
        ("clean", "flights-0/00000000000000000024.timeindex"),
        ("clean", "flights-0/00000000000000000084.snapshot"),
        ("clean", "flights-0/leader-epoch-checkpoint"),
        ("transactions", "payments-0/00000000000000000099.snapshot"),
        ("transactions", "payments-0/00000000000000000014.txnindex"),
        ("transactions", "payments-0/00000000000000000110.txnindex"),
    ] {
        let disk = stopped(name);
        let path = Path::new("/data").join(file);
        let healthy = read_file(&*disk, &path).unwrap();
        disk.flip_bit(&path, 7);
        let damaged = read_file(&*disk, &path).unwrap();
        let repaired = repair(&disk, Damaged::Leave);
        assert_eq!(texts(&repaired.left), [""; 0], "{file}");
        assert_eq!(repaired.done.len(), 1, "{file}: {:?}", repaired.done);
        assert_eq!(read_file(&*disk, &path).unwrap(), healthy, "{file}");
        let kept = path.with_file_name(".damaged-77").join(path.file_name().unwrap());
        assert_eq!(read_file(&*disk, &kept).unwrap(), damaged, "{file}");
        assert!(!disk.exists(Path::new("/data/.kafka_cleanshutdown")), "{file}");
    }
}

/// Starts a broker's logs after the power failed, and returns where the log of flights ends, with
/// the disk as the broker leaves it.
fn log_end(disk: &Arc<FakeDisk>, seed: u64) -> (i64, Arc<FakeDisk>) {
    let disk = disk.after(Crash::Power { seed });
    let machine = Machine::on(disk.clone(), &[]);
    let mut directory =
        LogDirectory::open(&machine.world(), Path::new("/data"), BrokerId(1)).unwrap();
    directory.join("4L6g3nShT-eMCtK--X86sw").unwrap();
    let settings = config(&[("index.interval.bytes", "300"), ("retention.ms", "-1")]);
    let logs = LogManager::open(&machine.world(), vec![directory], AS_FOUND, |_| settings.clone())
        .unwrap();
    let end = logs.get(&TopicPartition::new("flights", 0)).unwrap().end().offset;
    logs.close().unwrap();
    (end.0, disk)
}

#[test]
fn damaged_bytes_stay_unless_told_otherwise() {
    let disk = stopped("clean");
    flip(&disk, "/data/flights-0/00000000000000000084.log", 600);
    let before = files(&*disk, Path::new("/data"));
    let repaired = repair(&disk, Damaged::Leave);
    assert_eq!(repaired.left.len(), 1, "{:?}", texts(&repaired.left));
    let mut after = files(&*disk, Path::new("/data"));
    after.remove(Path::new(".lock"));
    assert_eq!(after, before);
}

#[test]
fn nothing_is_derived_from_a_damaged_log() {
    let disk = stopped("clean");
    cut(&disk, "/data/flights-0/00000000000000000169.log", 870);
    flip(&disk, "/data/flights-0/00000000000000000024.index", 7);
    let before = files(&*disk, Path::new("/data"));
    let repaired = repair(&disk, Damaged::Leave);
    assert_eq!(repaired.done, [""; 0]);
    assert_eq!(repaired.left.len(), 4, "{:?}", texts(&repaired.left));
    let mut after = files(&*disk, Path::new("/data"));
    after.remove(Path::new(".lock"));
    assert_eq!(after, before);
    let disk = disk.after(Crash::Process);
    let repaired = repair(&disk, Damaged::Truncate);
    assert_eq!(texts(&repaired.left), [""; 0]);
    assert_eq!(log_end(&disk, 0).0, 176);
}

#[test]
fn a_log_is_cut_at_its_first_damage_and_what_is_cut_is_kept() {
    let disk = stopped("clean");
    let log = "/data/flights-0/00000000000000000084.log";
    flip(&disk, log, 600);
    let damaged = read_file(&*disk, Path::new(log)).unwrap();
    let behind = read_file(&*disk, Path::new("/data/flights-0/00000000000000000099.log")).unwrap();
    let repaired = repair(&disk, Damaged::Truncate);
    assert_eq!(texts(&repaired.left), [""; 0]);
    assert!(
        repaired.done[0].starts_with("end /data/flights-0 at offset 91: "),
        "{:?}",
        repaired.done
    );
    let kept = Path::new("/data/flights-0/.damaged-77");
    let tail = kept.join(format!("00000000000000000084.log.bytes-562-to-{}", damaged.len()));
    assert_eq!(read_file(&*disk, &tail).unwrap(), damaged[562..]);
    let segment = kept.join("00000000000000000099.log");
    assert_eq!(read_file(&*disk, &segment).unwrap(), behind);
    for seed in 0..20 {
        let (end, disk) = log_end(&disk, seed);
        assert_eq!(end, 91, "seed {seed}");
        assert_eq!(texts(&look(&disk, "/data")), [""; 0], "seed {seed}");
    }
}

#[test]
fn what_stands_behind_the_damage_can_be_kept() {
    let disk = stopped("clean");
    let log = "/data/flights-0/00000000000000000084.log";
    flip(&disk, log, 600);
    let damaged = read_file(&*disk, Path::new(log)).unwrap();
    let repaired = repair(&disk, Damaged::Skip);
    assert_eq!(texts(&repaired.left), [""; 0]);
    let whole = read_file(&*disk, Path::new(log)).unwrap();
    let kept = files(&*disk, Path::new("/data/flights-0/.damaged-77"));
    let (name, cut) =
        kept.iter().find(|(name, _)| name.to_string_lossy().contains("bytes")).unwrap();
    assert_eq!(
        name.to_string_lossy(),
        format!("00000000000000000084.log.bytes-562-to-{}", 562 + cut.len())
    );
    assert_eq!([&whole[..562], cut, &whole[562..]].concat(), damaged);
    for seed in 0..20 {
        let (end, disk) = log_end(&disk, seed);
        assert_eq!(end, 180, "seed {seed}");
        let told = look(&disk, "/data");
        let is_harmless = told.iter().all(|finding| finding.meaning == Meaning::Harmless);
        assert!(is_harmless, "seed {seed}: {:?}", texts(&told));
    }
}

#[test]
fn a_directory_in_use_is_not_repaired() {
    let disk = stopped("clean");
    let _held = disk.lock(Path::new("/data/.lock")).unwrap();
    let options = RepairOptions {
        damaged: Damaged::Leave,
        index_interval_bytes: 4096,
        index_bytes_max: 1 << 20,
        now_ms: 77,
    };
    for dir in ["/data", FLIGHTS] {
        let refused = Repair::open(disk.clone(), Path::new(dir), options).err();
        assert!(matches!(refused, Some(DirectoryError::InUse { .. })), "{dir}: {refused:?}");
    }
}
