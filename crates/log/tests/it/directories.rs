//! What fails alone: a log that is damaged or missing, a directory that the disk refuses.

use std::path::Path;

use ottla_fake::Crash;
use ottla_log::{LogManager, Unavailable};
use ottla_record::Offset;
use ottla_runtime::Disk;
use ottla_runtime::disk::{OpenMode, read_file};

use crate::manager::{ID, directories, flights, machine, next, open, open_expecting, text};
use crate::{Machine, append, batch, contents};

const DIRS: [&str; 2] = ["/data/a", "/data/b"];

/// Four logs in two directories, two in each, with ten batches.
fn filled() -> Machine {
    let machine = machine();
    let manager = open(&machine, &DIRS).unwrap();
    for n in 0..4 {
        let log = manager.get_or_create(&flights(n), ID, machine.config.clone()).unwrap();
        for _ in 0..10 {
            append(&log, &batch(1, 50));
        }
    }
    let log = manager.get(&flights(1)).unwrap();
    log.advance_log_start_offset(Offset(3));
    manager.close().unwrap();
    machine
}

fn all() -> Vec<ottla_log::TopicPartition> {
    (0..4).map(flights).collect()
}

/// Which of the four are served, each with all its records.
#[track_caller]
fn served(manager: &LogManager) -> Vec<i32> {
    let served = (0..4).filter(|&n| manager.get(&flights(n)).is_some()).collect();
    for &n in &served {
        let start = if n == 1 { 3 } else { 0 };
        assert_eq!(contents(&manager.get(&flights(n)).unwrap()).len(), 10 - start, "{n}");
    }
    served
}

#[track_caller]
fn reason(manager: &LogManager, machine: &Machine, partition: i32) -> String {
    let unavailable = manager.get_or_create(&flights(partition), ID, machine.config.clone());
    match unavailable.err() {
        Some(Unavailable::Offline(reason)) => reason.to_string(),
        other => panic!("not offline: {other:?}"),
    }
}

fn is_clean(machine: &Machine, dir: &str) -> bool {
    machine.disk.exists(&Path::new(dir).join(".kafka_cleanshutdown"))
}

#[test]
fn a_damaged_log_is_offline_alone_and_keeps_what_is_known_of_it() {
    let before = filled();
    let segments = before.disk.read_dir(Path::new("/data/b/flights-1")).unwrap();
    let active = segments.iter().rfind(|entry| entry.name.ends_with(".log")).unwrap();
    let path = &Path::new("/data/b/flights-1").join(&active.name);
    let whole = read_file(&*before.disk, path).unwrap();
    let cut = |machine: &Machine| {
        let file = machine.disk.open(path, OpenMode::ReadWrite).unwrap();
        file.set_len((whole.len() - batch(1, 50).len()) as u64).unwrap();
    };
    cut(&before);
    let mut machine = next(&before, Crash::Process);
    for _ in 0..2 {
        let manager = open_expecting(&machine, &DIRS, &all()).unwrap();
        assert_eq!(served(&manager), [0, 2, 3]);
        let told = reason(&manager, &machine, 1);
        assert!(told.starts_with(&format!("{} is damaged", path.display())), "{told}");
        // The start of a process writes all checkpoints anew.
        let offsets = text(&machine, "/data/b/recovery-point-offset-checkpoint");
        assert_eq!(offsets, "0\n2\nflights 1 10\nflights 3 10\n");
        let starts = text(&machine, "/data/b/log-start-offset-checkpoint");
        assert_eq!(starts, "0\n1\nflights 1 3\n");
        manager.close().unwrap();
        // What is damaged must not be believed the next time because the others were closed.
        assert!(is_clean(&machine, "/data/a") && !is_clean(&machine, "/data/b"));
        machine = next(&machine, Crash::Process);
    }
    let file = machine.disk.open(path, OpenMode::ReadWrite).unwrap();
    file.write_at(&[std::io::IoSlice::new(&whole)], 0).unwrap();
    let manager = open_expecting(&machine, &DIRS, &all()).unwrap();
    assert_eq!(served(&manager), [0, 1, 2, 3]);
    // A topic can be deleted though its log is damaged.
    manager.close().unwrap();
    cut(&machine);
    let machine = next(&machine, Crash::Process);
    let manager = open_expecting(&machine, &DIRS, &all()).unwrap();
    manager.delete(&[flights(1)]).unwrap();
    assert!(manager.offline().is_empty());
    manager.get_or_create(&flights(1), ID, machine.config.clone()).unwrap();
}

#[test]
fn a_log_that_should_be_there_is_not_made_anew() {
    let before = filled();
    before.disk.remove_dir_all(Path::new("/data/b/flights-3")).unwrap();
    let mut machine = next(&before, Crash::Process);
    for _ in 0..2 {
        let manager = open_expecting(&machine, &DIRS, &all()).unwrap();
        assert_eq!(served(&manager), [0, 1, 2]);
        let told = "/data/b/flights-3 is missing, and it had records up to offset 10: bring the \
                    directory back, or delete the topic";
        assert_eq!(reason(&manager, &machine, 3), told);
        manager.close().unwrap();
        machine = next(&machine, Crash::Power { seed: 3 });
    }
    // Nobody asks for a partition that no topic has; then its name may be used again.
    let manager = open_expecting(&machine, &DIRS, &all()[..3]).unwrap();
    assert!(manager.offline().is_empty());
    manager.get_or_create(&flights(3), ID, machine.config.clone()).unwrap();
}

#[test]
fn a_log_that_was_never_made_is_made() {
    let machine = machine();
    // The crash came between the topic and its log.
    let manager = open_expecting(&machine, &DIRS, &[flights(0)]).unwrap();
    assert!(manager.offline().is_empty());
    manager.get_or_create(&flights(0), ID, machine.config.clone()).unwrap();
    manager.checkpoint().unwrap();
    // So does a log that had no record, and that the power cut took.
    machine.disk.remove_dir_all(Path::new("/data/a/flights-0")).unwrap();
    let machine = next(&machine, Crash::Process);
    let manager = open_expecting(&machine, &DIRS, &[flights(0)]).unwrap();
    manager.get_or_create(&flights(0), ID, machine.config.clone()).unwrap();
}

#[test]
fn a_new_directory_is_not_used_while_logs_are_missed_that_might_belong_there() {
    let before = filled();
    // Another disk is not mounted: the directory below its mount point is empty.
    before.disk.remove_dir_all(Path::new("/data/b")).unwrap();
    let mut machine = next(&before, Crash::Process);
    for _ in 0..2 {
        let manager = open_expecting(&machine, &DIRS, &all()).unwrap();
        assert_eq!(served(&manager), [0, 2]);
        let told = "its log may lie in /data/b, which is offline";
        assert_eq!(reason(&manager, &machine, 1), told);
        let (dir, why) = manager.failures().remove(0);
        assert_eq!(dir, Path::new("/data/b"));
        assert!(why.starts_with("it is new, and 2 log(s) of this broker (flights-1…)"), "{why}");
        manager.close().unwrap();
        assert!(is_clean(&machine, "/data/a") && !is_clean(&machine, "/data/b"));
        machine = next(&machine, Crash::Process);
    }
    // As the message says.
    machine.disk.open(Path::new("/data/b/meta.properties"), OpenMode::Create).unwrap();
    let manager = open_expecting(&machine, &DIRS, &all()).unwrap();
    assert!(manager.failures().is_empty() && manager.offline().is_empty());
    let log = manager.get_or_create(&flights(1), ID, machine.config.clone()).unwrap();
    assert!(log.dir().starts_with("/data/b"));
}

#[test]
fn a_directory_that_does_not_answer_is_offline_with_its_logs() {
    let before = filled();
    for broken in ["/data/b", "/data/b/meta.properties", "/data/b/flights-1"] {
        let machine = next(&before, Crash::Process);
        machine.disk.break_dir(broken);
        let manager = open_expecting(&machine, &DIRS, &all()).unwrap();
        assert_eq!(served(&manager), [0, 2], "{broken}");
        for n in [1, 3] {
            let told = reason(&manager, &machine, n);
            assert!(told.contains("input/output error") || told.contains("is offline"), "{told}");
        }
        let usage = manager.usage();
        assert!(usage[0].failure.is_none() && usage[0].logs.len() == 2);
        assert!(usage[1].failure.is_some() && usage[1].logs.is_empty());
        // New logs keep away from it, though the other directory has more.
        for n in 4..7 {
            let log = manager.get_or_create(&flights(n), ID, machine.config.clone()).unwrap();
            assert!(log.dir().starts_with("/data/a"));
        }
        let recovery_points = || text(&machine, "/data/a/recovery-point-offset-checkpoint");
        append(&manager.get(&flights(0)).unwrap(), &batch(1, 50));
        manager.checkpoint().unwrap();
        assert!(recovery_points().contains("flights 0 11\n"), "{}", recovery_points());
        manager.close().unwrap();
        assert!(is_clean(&machine, "/data/a"));
        // With the disk back, all is there.
        let machine = next(&machine, Crash::Process);
        let manager = open_expecting(&machine, &DIRS, &all()).unwrap();
        assert!(manager.failures().is_empty());
        for n in 1..4 {
            assert_eq!(manager.get(&flights(n)).unwrap().end().offset, Offset(10));
        }
    }
}

#[test]
fn a_directory_that_fails_at_run_time_takes_its_own_logs_with_it() {
    let machine = next(&filled(), Crash::Process);
    let manager = open_expecting(&machine, &DIRS, &all()).unwrap();
    let ids = manager.directory_ids();
    machine.disk.break_dir("/data/b");
    assert!(manager.checkpoint().is_err());
    assert_eq!(manager.failures().len(), 1);
    assert!(ids.len() == 2 && manager.directory_ids() == ids[..1]);
    for n in 0..4 {
        let log = manager.get(&flights(n)).unwrap();
        let appended = crate::try_append(&log, &batch(1, 50), 0);
        assert_eq!(appended.is_ok(), n % 2 == 0, "{appended:?}");
        assert_eq!(log.failure().is_none(), n % 2 == 0);
    }
    manager.checkpoint().unwrap();
    // The topic goes, though half of it cannot be reached.
    manager.delete(&[flights(1)]).unwrap();
    assert!(manager.get(&flights(1)).is_none());
    manager.close().unwrap();
    assert!(is_clean(&machine, "/data/a") && !is_clean(&machine, "/data/b"));
    let after = next(&machine, Crash::Process);
    let found = directories(&after, "/data/b");
    assert_eq!(found, ["flights-1", "flights-3"], "a stray, for who opens it next");
}

#[test]
fn a_full_disk_keeps_its_checkpoints_and_stays_online() {
    let machine = next(&filled(), Crash::Process);
    let manager = open_expecting(&machine, &DIRS, &all()).unwrap();
    let points =
        || read_file(&*machine.disk, Path::new("/data/a/recovery-point-offset-checkpoint"));
    let before = points().unwrap();
    // More digits than what was there before has room for.
    for _ in 0..20 {
        append(&manager.get(&flights(0)).unwrap(), &batch(10, 10));
    }
    let space = machine.disk.space(Path::new("/data")).unwrap();
    machine.disk.set_capacity(space.total_bytes - space.usable_bytes);
    assert!(manager.checkpoint().is_err());
    assert!(manager.failures().is_empty());
    assert_eq!(points().unwrap(), before);
}
