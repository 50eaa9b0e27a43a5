//! All logs of a broker: what is found again, and what checkpoints say.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_fake::{Crash, FakeDisk};
use ottla_log::{DirectoryError, LogDirectory, LogManager, LogUsage, OpenOptions, TopicPartition};
use ottla_record::{BrokerId, Offset, Uuid};
use ottla_runtime::Disk;
use ottla_runtime::disk::{OpenMode, SystemDisk, read_file};

use crate::{Machine, append, batch, config, contents, try_append};

pub(crate) fn open(machine: &Machine, dirs: &[&str]) -> Result<LogManager, DirectoryError> {
    open_expecting(machine, dirs, &[])
}

/// Opens directories in which there should be logs of these partitions.
pub(crate) fn open_expecting(
    machine: &Machine,
    dirs: &[&str],
    expected: &[TopicPartition],
) -> Result<LogManager, DirectoryError> {
    let world = machine.world();
    let open = |dir: &&str| LogDirectory::open(&world, Path::new(dir), BrokerId(1));
    let directories = dirs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let expected = expected.iter().cloned().collect();
    let options = OpenOptions { threads: 2, expected: &expected };
    LogManager::open(&world, directories, options, |_| machine.config.clone())
}

/// The next process on the disk of the one before, which held its locks to its end.
pub(crate) fn next(machine: &Machine, crash: Crash) -> Machine {
    Machine::on(machine.disk.after(crash), &[("segment.bytes", "400"), ("retention.ms", "-1")])
}

pub(crate) fn machine() -> Machine {
    next(&Machine::on(FakeDisk::with_dir("/data"), &[]), Crash::Process)
}

pub(crate) fn flights(partition: i32) -> TopicPartition {
    TopicPartition::new("flights", partition)
}

pub(crate) const ID: Uuid = Uuid([7; 16]);

pub(crate) fn text(machine: &Machine, path: &str) -> String {
    String::from_utf8(read_file(&*machine.disk, Path::new(path)).unwrap()).unwrap()
}

/// The names of the directories in a directory.
pub(crate) fn directories(machine: &Machine, path: &str) -> Vec<String> {
    let entries = machine.disk.read_dir(Path::new(path)).unwrap();
    entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect()
}

#[test]
fn logs_are_spread_found_again_and_counted() {
    let before = machine();
    let dirs = ["/data/a", "/data/b"];
    let manager = open(&before, &dirs).unwrap();
    for n in 0..4 {
        let log = manager.get_or_create(&flights(n), ID, before.config.clone()).unwrap();
        for _ in 0..=n {
            append(&log, &batch(1, 50));
        }
    }
    let size = batch(1, 50).len() as u64;
    let check = |manager: &LogManager| {
        let usage = manager.usage();
        let paths: Vec<_> = usage.iter().map(|u| u.path.clone()).collect();
        assert_eq!(paths, dirs.map(PathBuf::from));
        let log = |n: i32| LogUsage {
            partition: flights(n),
            size: (n as u64 + 1) * size,
            lag: 0,
            is_future: false,
        };
        assert_eq!(usage[0].logs, [log(0), log(2)]);
        assert_eq!(usage[1].logs, [log(1), log(3)]);
        let space = usage[0].space.unwrap();
        assert!(space.usable_bytes > 0 && space.usable_bytes < space.total_bytes);
        let found: Vec<_> = (0..4).map(|n| (flights(n), Some(ID))).collect();
        assert_eq!(manager.partitions(), found);
    };
    check(&manager);
    check(&open(&next(&before, Crash::Process), &dirs).unwrap());
    manager.close().unwrap();
    let marker = Path::new("/data/a/.kafka_cleanshutdown");
    assert!(before.disk.exists(marker));
    let after = next(&before, Crash::Power { seed: 1 });
    check(&open(&after, &dirs).unwrap());
    assert!(!after.disk.exists(marker), "from here on a crash is a crash");
    // The same log in two directories is not for a broker to choose from.
    for name in ["", "/partition.metadata"] {
        let path = format!("/data/b/flights-0{name}");
        match name {
            "" => after.disk.create_dir_all(Path::new(&path)).unwrap(),
            _ => drop(after.disk.open(Path::new(&path), OpenMode::Create).unwrap()),
        }
    }
    after.disk.remove_file(Path::new("/data/b/flights-0/partition.metadata")).unwrap();
    let error = open(&next(&after, Crash::Process), &dirs).err().unwrap();
    assert_eq!(error.to_string(), "/data/b/flights-0: flights-0 lies in /data/a/flights-0 too");
}

#[test]
fn checkpoints_say_what_is_durable_and_what_was_deleted() {
    let before = machine();
    let manager = open(&before, &["/data"]).unwrap();
    for n in 0..2 {
        let log = manager.get_or_create(&flights(n), ID, before.config.clone()).unwrap();
        for _ in 0..10 {
            append(&log, &batch(1, 50));
        }
    }
    let log = manager.get(&flights(1)).unwrap();
    assert_eq!(log.advance_log_start_offset(Offset(4)), Offset(4));
    manager.write_checkpoints().unwrap();
    let checkpoint = |name: &str| text(&before, &format!("/data/{name}-offset-checkpoint"));
    assert_eq!(checkpoint("log-start"), "0\n1\nflights 1 4\n");
    assert_eq!(checkpoint("recovery-point"), "0\n2\nflights 0 0\nflights 1 0\n");
    assert_eq!(checkpoint("replication"), "0\n2\nflights 0 0\nflights 1 0\n");
    manager.checkpoint().unwrap();
    assert_eq!(checkpoint("replication"), "0\n2\nflights 0 10\nflights 1 10\n");
    assert_eq!(checkpoint("recovery-point"), "0\n2\nflights 0 10\nflights 1 10\n");
    let after = next(&before, Crash::Power { seed: 3 });
    let manager = open(&after, &["/data"]).unwrap();
    assert_eq!(contents(&manager.get(&flights(0)).unwrap()).len(), 10);
    let log = manager.get(&flights(1)).unwrap();
    assert_eq!((log.log_start_offset(), log.end().offset), (Offset(4), Offset(10)));
    // Once its segment is gone, the start offset is that of the next one and needs no note.
    log.advance_log_start_offset(Offset(6));
    manager.delete_old_segments();
    assert_eq!(log.first_base_offset(), Offset(6));
    manager.write_checkpoints().unwrap();
    assert_eq!(text(&after, "/data/log-start-offset-checkpoint"), "0\n0\n");
}

#[test]
fn a_failed_sync_takes_the_directory_offline() {
    let before = machine();
    let manager = open(&before, &["/data"]).unwrap();
    for n in 0..3 {
        let log = manager.get_or_create(&flights(n), ID, before.config.clone()).unwrap();
        append(&log, &batch(1, 50));
    }
    manager.checkpoint().unwrap();
    for n in 0..3 {
        append(&manager.get(&flights(n)).unwrap(), &batch(1, 50));
    }
    before.disk.fail_after(0);
    assert!(manager.get(&flights(1)).unwrap().flush().is_err());
    before.disk.heal();
    let other = manager.get(&flights(0)).unwrap();
    assert!(other.failure().is_some());
    assert!(try_append(&other, &batch(1, 50), 0).is_err());
    // It was said; there is nothing more to be done with it.
    manager.checkpoint().unwrap();
    let points = text(&before, "/data/recovery-point-offset-checkpoint");
    assert_eq!(points, "0\n3\nflights 0 1\nflights 1 1\nflights 2 1\n");
    manager.close().unwrap();
    assert!(!before.disk.exists(Path::new("/data/.kafka_cleanshutdown")));
}

#[test]
fn a_deleted_log_is_gone_and_its_name_begins_anew() {
    let machine = machine();
    let manager = open(&machine, &["/data"]).unwrap();
    let old = manager.get_or_create(&flights(0), ID, machine.config.clone()).unwrap();
    for _ in 0..10 {
        append(&old, &batch(1, 50));
    }
    old.advance_log_start_offset(Offset(5));
    manager.checkpoint().unwrap();
    manager.delete(&[flights(0)]).unwrap();
    assert!(manager.get(&flights(0)).is_none() && manager.partitions().is_empty());
    for name in ["log-start", "recovery-point", "replication"] {
        assert_eq!(text(&machine, &format!("/data/{name}-offset-checkpoint")), "0\n0\n");
    }
    assert_eq!(directories(&machine, "/data").len(), 1, "only the name has gone");
    assert!(!manager.has_due_deletions());
    machine.clock.advance(60_000);
    assert!(manager.has_due_deletions());
    manager.unlink_deleted();
    assert_eq!(directories(&machine, "/data"), [""; 0]);
    // Who holds it reads on and cannot write, least of all into its successor's directory.
    let slice = old.read(Offset(6), 1000, old.end(), true).unwrap();
    assert!(slice.len > 0);
    let new = manager.get_or_create(&flights(0), Uuid([8; 16]), machine.config.clone()).unwrap();
    assert!(try_append(&old, &batch(1, 50), 0).is_err());
    assert!(old.flush().is_err() && old.delete_old_segments(old.end().offset).is_err());
    assert_eq!(append(&new, &batch(1, 50)).base_offset, Offset(0));
    let after = next(&machine, Crash::Process);
    let manager = open(&after, &["/data"]).unwrap();
    let log = manager.get(&flights(0)).unwrap();
    assert_eq!((log.log_start_offset(), log.end().offset), (Offset(0), Offset(1)));
    assert_eq!(manager.partitions(), [(flights(0), Some(Uuid([8; 16])))]);
}

#[test]
fn a_deletion_is_whole_whenever_the_power_fails() {
    for changes in 0.. {
        let before = machine();
        let manager = open(&before, &["/data"]).unwrap();
        let log = manager.get_or_create(&flights(0), ID, before.config.clone()).unwrap();
        append(&log, &batch(1, 50));
        manager.checkpoint().unwrap();
        before.disk.fail_after(changes);
        let deleted = manager.delete(&[flights(0)]).is_ok();
        before.clock.advance(60_000);
        manager.unlink_deleted();
        let unlinked = directories(&before, "/data").is_empty();
        for seed in 0..10 {
            let after = next(&before, Crash::Power { seed: changes * 100 + seed });
            let manager = open(&after, &["/data"]).unwrap();
            let log = manager.get(&flights(0));
            assert!(!(deleted && log.is_some()), "after {changes} changes, seed {seed}");
            assert!(log.is_none_or(|log| contents(&log).len() == 1));
            // What the crash left of the files goes with the next process.
            manager.unlink_deleted();
            let left = directories(&after, "/data");
            assert!(left.iter().all(|name| name == "flights-0"), "{left:?}");
        }
        if unlinked {
            break;
        }
    }
}

#[test]
fn a_new_log_is_there_after_a_power_cut_once_it_was_flushed() {
    for seed in 0..50 {
        let before = machine();
        let manager = open(&before, &["/data"]).unwrap();
        let log = manager.get_or_create(&flights(0), ID, before.config.clone()).unwrap();
        append(&log, &batch(1, 50));
        manager.checkpoint().unwrap();
        let manager = open(&next(&before, Crash::Power { seed }), &["/data"]).unwrap();
        assert_eq!(manager.partitions(), [(flights(0), Some(ID))], "seed {seed}");
        assert_eq!(contents(&manager.get(&flights(0)).unwrap()).len(), 1, "seed {seed}");
    }
}

#[test]
fn what_is_set_aside_stays_for_the_operator() {
    let machine = machine();
    let manager = open(&machine, &["/data"]).unwrap();
    let long = TopicPartition::new("x".repeat(249), 12);
    for name in [flights(0), long.clone()] {
        manager.get_or_create(&name, ID, machine.config.clone()).unwrap();
        manager.set_aside(std::slice::from_ref(&name)).unwrap();
        manager.set_aside(&[name]).unwrap();
    }
    let after = next(&machine, Crash::Power { seed: 5 });
    assert!(open(&after, &["/data"]).unwrap().partitions().is_empty());
    let mut dirs = directories(&after, "/data");
    dirs.sort_by_key(String::len);
    assert!(dirs[0].starts_with("flights-0.") && dirs[0].ends_with("-stray"), "{dirs:?}");
    assert_eq!((dirs.len(), dirs[1].len()), (2, 255));
}

#[test]
fn a_directory_has_one_owner() {
    let machine = machine();
    let world = machine.world();
    let open = |id| LogDirectory::open(&world, Path::new("/data"), BrokerId(id));
    let mut directory = open(1).unwrap();
    directory.join("one").unwrap();
    directory.claim();
    let error = open(1).err().unwrap();
    assert_eq!(error.to_string(), "/data is in use by another process; stop it first");
    let id = directory.id();
    let after = next(&machine, Crash::Process);
    let world = after.world();
    let identity = |dir| ottla_log::directory_identity(&world, Path::new(dir)).unwrap();
    assert_eq!(identity("/data").and_then(|identity| identity.directory_id), id);
    assert_eq!(identity("/"), None);
    let error = LogDirectory::open(&world, Path::new("/data"), BrokerId(2)).err().unwrap();
    assert_eq!(
        error.to_string(),
        "/data/meta.properties belongs to broker.id 1, and this is 2: \
         point log.dirs to another directory, or set broker.id back"
    );
    let after = next(&after, Crash::Process);
    let world = after.world();
    let mut directory = LogDirectory::open(&world, Path::new("/data"), BrokerId(1)).unwrap();
    assert_eq!(directory.id(), id);
    directory.join("one").unwrap();
    let error = directory.join("two").unwrap_err();
    assert_eq!(
        error.to_string(),
        "/data/meta.properties belongs to cluster.id one, and this is two: \
         point log.dirs to another directory, or set cluster.id back"
    );
}

#[test]
fn a_name_that_is_no_log_is_not_passed_over() {
    let machine = machine();
    machine.disk.create_dir_all(Path::new("/data/photos")).unwrap();
    let error = open(&machine, &["/data"]).err().unwrap();
    assert_eq!(
        error.to_string(),
        "/data/photos is not named <topic>-<partition>: move it out of the log directory"
    );
}

#[test]
fn settings_reach_all_logs_of_a_topic() {
    let machine = machine();
    let manager = open(&machine, &["/data"]).unwrap();
    let names = [flights(0), flights(1), TopicPartition::new("other", 0)];
    let logs = names.map(|name| manager.get_or_create(&name, ID, machine.config.clone()).unwrap());
    let other: Arc<_> = config(&[("segment.bytes", "99")]);
    manager.set_config("flights", &other);
    assert_eq!(logs.map(|log| log.config().segment_bytes), [99, 99, 400]);
}

#[test]
fn the_system_tells_the_room_of_a_directory() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let space = SystemDisk.space(here).unwrap();
    assert!(space.total_bytes > 0 && space.usable_bytes <= space.total_bytes, "{space:?}");
    assert!(SystemDisk.space(&here.join("nowhere")).is_err());
}

#[test]
fn a_log_whose_making_failed_is_made_where_it_was_begun() {
    let dirs = ["/data/a", "/data/b"];
    for changes in 0..10 {
        let mut before = machine();
        let mut manager = open(&before, &dirs).unwrap();
        before.disk.fail_after(changes);
        let failed = manager.get_or_create(&flights(0), ID, before.config.clone()).is_err();
        before.disk.heal();
        if !manager.failures().is_empty() {
            // A sync failed. The log is not made elsewhere while it may be found there again.
            assert!(manager.get_or_create(&flights(0), ID, before.config.clone()).is_err());
            before = next(&before, Crash::Process);
            manager = open(&before, &dirs).unwrap();
        }
        let make = |n| manager.get_or_create(&flights(n), ID, before.config.clone());
        // The other log changes which directory has the fewest.
        make(1).unwrap();
        make(0).unwrap();
        let found = open(&next(&before, Crash::Process), &dirs).unwrap().partitions();
        assert_eq!(found, [(flights(0), Some(ID)), (flights(1), Some(ID))], "{changes} changes");
        assert!(failed || changes > 3);
    }
}

/// What the one process changed when it was killed, the next one serves: no power cut undoes it.
#[test]
fn what_a_killed_process_left_in_memory_stays_once_it_was_served() {
    let seen = |manager: &LogManager| {
        let log = manager.get(&flights(0)).unwrap();
        (log.log_start_offset(), log.end().offset, contents(&log).len())
    };
    for changes in 0.. {
        let before = machine();
        let manager = open(&before, &["/data/a"]).unwrap();
        let log = manager.get_or_create(&flights(0), ID, before.config.clone()).unwrap();
        for _ in 0..3 {
            append(&log, &batch(3, 80));
        }
        manager.volumes()[0].flush(0);
        before.disk.fail_after(changes);
        let checkpoint = || manager.write_checkpoints().map_err(std::io::Error::other);
        let anew = log.truncate_fully_and_start_at(Offset(20), checkpoint);

        let killed = next(&before, Crash::Process);
        let served = seen(&open(&killed, &["/data/a"]).unwrap());
        for seed in 0..8 {
            let cut = next(&killed, Crash::Power { seed });
            let found = seen(&open(&cut, &["/data/a"]).unwrap());
            assert_eq!(found, served, "after {changes} changes, seed {seed}");
        }
        if anew.is_ok() {
            assert!(changes > 5, "{changes} changes");
            break;
        }
    }
}

#[test]
fn what_a_failed_sync_lost_is_not_served_after_a_restart() {
    let mut lost = 0;
    for appended in 1..20 {
        let before = machine();
        let manager = open(&before, &["/data/a"]).unwrap();
        let log = manager.get_or_create(&flights(0), ID, before.config.clone()).unwrap();
        append(&log, &batch(3, 80));
        manager.volumes()[0].flush(0);
        for _ in 0..appended {
            append(&log, &batch(3, 80));
        }
        before.disk.lose_next_sync();
        manager.volumes()[0].flush(1);
        assert!(log.failure().is_some());

        let killed = next(&before, Crash::Process);
        let seen = |manager: &LogManager| contents(&manager.get(&flights(0)).unwrap()).len();
        let served = seen(&open(&killed, &["/data/a"]).unwrap());
        lost += usize::from(served < contents(&log).len());
        for seed in 0..8 {
            let cut = next(&killed, Crash::Power { seed });
            let found = seen(&open(&cut, &["/data/a"]).unwrap());
            assert_eq!(found, served, "{appended} batches, seed {seed}");
        }
    }
    assert!(lost > 0, "or nothing was shown");
}
