//! Moving a log to another directory.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use ottla_fake::{Crash, FakeDisk};
use ottla_log::{Log, LogCleaner, LogManager, MoveError, MoveStep};
use ottla_record::{LeaderEpoch, Offset};
use ottla_runtime::Disk;
use ottla_runtime::disk::OpenMode;

use crate::compaction::settings;
use crate::manager::{ID, directories, flights, machine, next, open, text};
use crate::{Machine, Stored, append, batch, config, contents, idempotent, stored, try_append};

const DIRS: [&str; 2] = ["/data/a", "/data/b"];

fn to_b() -> &'static Path {
    Path::new("/data/b")
}

/// Copies a little at a time until the move ends; returns the number of steps.
fn finish(manager: &LogManager) -> usize {
    for steps in 1.. {
        match manager.advance_move(&flights(0), 200).unwrap() {
            MoveStep::Copied(_) => {}
            MoveStep::Done => return steps,
            MoveStep::Gone => panic!("the move was given up"),
        }
    }
    unreachable!()
}

/// A log in `/data/a` with several segments, epochs and producers, whose first records are gone.
fn filled(machine: &Machine, manager: &LogManager) -> Vec<Stored> {
    let log = manager.get_or_create(&flights(0), ID, machine.config.clone()).unwrap();
    let mut all = Vec::new();
    for n in 0..20 {
        let batch = if n % 2 == 0 { batch(3, 40) } else { idempotent(n % 3, n as i32 / 6, 1) };
        let appended = try_append(&log, &batch, n as i32 / 8);
        let appended = appended.unwrap_or_else(|error| panic!("{n}: {error}"));
        all.push(stored(&batch, appended.base_offset, n as i32 / 8));
    }
    assert!(log.segment_count() > 3);
    log.advance_log_start_offset(Offset(5));
    all.retain(|held| held.next > 5);
    all
}

#[test]
fn a_moved_log_is_the_same_log() {
    let machine = machine();
    let manager = open(&machine, &DIRS).unwrap();
    let expected = filled(&machine, &manager);
    let old = manager.get(&flights(0)).unwrap();
    old.begin_epoch(LeaderEpoch(5)).unwrap();
    manager.begin_move(&flights(0), to_b()).unwrap();
    assert!(manager.is_moving(&flights(0)));
    assert_eq!(manager.advance_move(&flights(0), 200).unwrap(), MoveStep::Copied(211));
    let usage = manager.usage();
    let (live, future) = (&usage[0].logs[0], &usage[1].logs[0]);
    assert!(!live.is_future && live.lag == 0 && future.is_future && future.size == 211);
    assert_eq!(future.lag, old.end().offset.0 - 7);
    assert!(directories(&machine, "/data/b")[0].ends_with("-future"));
    assert!(finish(&manager) > 3);
    let new = manager.get(&flights(0)).unwrap();
    assert_eq!(new.dir(), Path::new("/data/b/flights-0"));
    for log in [&old, &new] {
        assert_eq!(contents(log), expected, "who holds the old log reads on");
        assert_eq!(log.log_start_offset(), Offset(5));
    }
    assert_eq!((old.end().offset, old.latest_epoch()), (new.end().offset, Some(LeaderEpoch(5))));
    for offset in 5..new.end().offset.0 {
        assert_eq!(new.epoch_of(Offset(offset)), old.epoch_of(Offset(offset)), "{offset}");
    }
    assert!(old.successor().is_some_and(|next| Arc::ptr_eq(next, &new)));
    assert!(try_append(&old, &batch(1, 1), 5).is_err());
    // The producers go on, with all batches that may be sent again.
    assert_eq!(old.producer_count(), new.producer_count());
    for n in [7, 13, 19] {
        assert!(append(&new, &idempotent(n % 3, n as i32 / 6, 1)).duplicate, "{n}");
    }
    assert!(!manager.is_moving(&flights(0)));
    assert_eq!(manager.usage()[0].logs, []);
    assert_eq!(text(&machine, "/data/a/recovery-point-offset-checkpoint"), "0\n0\n");
    assert_eq!(text(&machine, "/data/b/log-start-offset-checkpoint"), "0\n1\nflights 0 5\n");
    assert!(!machine.disk.exists(Path::new("/data/b/flights-0/moved-from")));
    // The files of the old one go later, as with a deletion.
    assert!(directories(&machine, "/data/a")[0].ends_with("-delete"));
    machine.clock.advance(60_000);
    manager.unlink_deleted();
    assert_eq!(directories(&machine, "/data/a"), [""; 0]);
    // And back again.
    manager.begin_move(&flights(0), Path::new("/data/a")).unwrap();
    finish(&manager);
    manager.close().unwrap();
    let after = next(&machine, Crash::Power { seed: 1 });
    let log = open(&after, &DIRS).unwrap().get(&flights(0)).unwrap();
    assert_eq!((log.dir(), contents(&log)), (Path::new("/data/a/flights-0"), expected));
}

#[test]
fn what_was_copied_before_the_log_was_cut_is_not_kept() {
    for steps in [1, 2, 4] {
        let machine = machine();
        let manager = open(&machine, &DIRS).unwrap();
        filled(&machine, &manager);
        let log = manager.get(&flights(0)).unwrap();
        manager.begin_move(&flights(0), to_b()).unwrap();
        for _ in 0..steps {
            assert!(matches!(manager.advance_move(&flights(0), 300), Ok(MoveStep::Copied(1..))));
        }
        let checkpoint = || manager.write_checkpoints().map_err(std::io::Error::other);
        log.truncate_to(Offset(9), checkpoint).unwrap();
        for n in 0..20 {
            append(&log, &batch(2, 10 + n));
        }
        let expected = contents(&log);
        finish(&manager);
        assert_eq!(contents(&manager.get(&flights(0)).unwrap()), expected, "{steps} steps");
    }
}

#[test]
fn a_log_is_moved_while_it_is_written_to_and_read() {
    let machine = Machine::on(FakeDisk::with_dir("/data"), &[("segment.bytes", "10000")]);
    let manager = open(&machine, &DIRS).unwrap();
    let log = manager.get_or_create(&flights(0), ID, machine.config.clone()).unwrap();
    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut log, mut moves, mut written) = (log.clone(), 0, Vec::new());
            while moves < 6 {
                // As fast as can be, but not for ever.
                if written.len() >= 100 * (moves + 1) && log.successor().is_none() {
                    thread::yield_now();
                    continue;
                }
                let batch = batch(1 + written.len() % 3, 30);
                match try_append(&log, &batch, 0) {
                    Ok(appended) => written.push(stored(&batch, appended.base_offset, 0)),
                    Err(error) => {
                        log = log.successor().unwrap_or_else(|| panic!("{error}")).clone();
                        moves += 1;
                        assert_eq!(contents(&log), written);
                    }
                }
            }
            written
        });
        for n in 0..6 {
            let dir = Path::new(DIRS[(n + 1) % 2]);
            manager.begin_move(&flights(0), dir).unwrap();
            while manager.advance_move(&flights(0), 100_000).unwrap() != MoveStep::Done {}
            assert_eq!(manager.get(&flights(0)).unwrap().dir().parent(), Some(dir));
        }
        writer.join().unwrap()
    });
    assert_eq!(contents(&manager.get(&flights(0)).unwrap()), written);
    let after = next(&machine, Crash::Process);
    let log = open(&after, &DIRS).unwrap().get(&flights(0)).unwrap();
    assert_eq!(contents(&log), written);
}

/// Writes, moves and writes; returns what is durable for sure and what was written at all.
fn script(machine: &Machine, manager: &LogManager, log: &Arc<Log>) -> (Vec<Stored>, Vec<Stored>) {
    let mut written = contents(log);
    let mut durable = written.clone();
    let mut log = manager.get(&flights(0)).unwrap();
    let mut write = |manager: &LogManager, log: &mut Arc<Log>| {
        if let Some(next) = manager.get(&flights(0)) {
            *log = next;
        }
        let batch = batch(2, 30);
        let Ok(appended) = try_append(log, &batch, 2) else { return };
        written.push(stored(&batch, appended.base_offset, 2));
        if log.flush().is_ok() {
            durable.clone_from(&written);
        }
    };
    let _ = manager.begin_move(&flights(0), to_b());
    for round in 0.. {
        if round < 4 {
            write(manager, &mut log);
        }
        match manager.advance_move(&flights(0), 1000) {
            Ok(MoveStep::Copied(_)) => {}
            _ => break,
        }
    }
    write(manager, &mut log);
    machine.clock.advance(60_000);
    manager.unlink_deleted();
    (durable, written)
}

#[test]
fn one_log_with_all_that_was_acknowledged_is_left_whenever_the_move_stops() {
    let (mut moved, mut not_moved) = (0, 0);
    for changes in 0.. {
        let before = machine();
        let manager = open(&before, &DIRS).unwrap();
        filled(&before, &manager);
        manager.checkpoint().unwrap();
        let log = manager.get(&flights(0)).unwrap();
        before.disk.fail_after(changes);
        let (durable, written) = script(&before, &manager, &log);
        let is_over = !directories(&before, "/data/b").is_empty()
            && directories(&before, "/data/a").is_empty();
        let crashes = (0..2).map(|n| Crash::Power { seed: changes * 10 + n });
        for crash in crashes.chain([Crash::Process]) {
            let context = format!("after {changes} changes, {crash:?}");
            let after = next(&before, crash);
            let manager = open(&after, &DIRS).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert!(manager.offline().is_empty(), "{context}: {:?}", manager.offline());
            let log = manager.get(&flights(0)).unwrap();
            let found = contents(&log);
            assert!(found.len() >= durable.len(), "{context}: {} found", found.len());
            assert_eq!(found, written[..found.len()], "{context}");
            if crash == Crash::Process {
                assert_eq!(found, written, "{context}");
            }
            match log.dir().starts_with("/data/b") {
                true => moved += 1,
                false => not_moved += 1,
            }
            // It goes on, and what was left is cleared away.
            append(&log, &batch(1, 10));
            while manager.is_moving(&flights(0)) {
                manager.advance_move(&flights(0), 100_000).unwrap();
            }
            let expected = contents(&manager.get(&flights(0)).unwrap());
            assert_eq!(expected.len(), found.len() + 1, "{context}");
            after.clock.advance(60_000);
            manager.unlink_deleted();
            let left = DIRS.map(|dir| directories(&after, dir)).concat();
            assert_eq!(left, ["flights-0"], "{context}");
        }
        if is_over {
            break;
        }
    }
    assert!(moved > 50 && not_moved > 50, "{moved} moved, {not_moved} not");
}

#[test]
fn a_move_is_begun_anew_by_the_next_process_and_can_be_taken_back() {
    let before = machine();
    let manager = open(&before, &DIRS).unwrap();
    let expected = filled(&before, &manager);
    manager.begin_move(&flights(0), to_b()).unwrap();
    manager.advance_move(&flights(0), 500).unwrap();
    manager.close().unwrap();
    for takes_back in [false, true] {
        let after = next(&before, Crash::Power { seed: 4 });
        let manager = open(&after, &DIRS).unwrap();
        assert_eq!(manager.moves(), [flights(0)]);
        if takes_back {
            manager.advance_move(&flights(0), 500).unwrap();
            manager.begin_move(&flights(0), Path::new("/data/a")).unwrap();
            assert_eq!(manager.advance_move(&flights(0), 500).unwrap(), MoveStep::Gone);
        } else {
            finish(&manager);
        }
        manager.unlink_deleted();
        let log = manager.get(&flights(0)).unwrap();
        assert_eq!(contents(&log), expected);
        assert_eq!(log.dir().starts_with("/data/a"), takes_back);
        assert_eq!(directories(&after, "/data/b").is_empty(), takes_back);
        let manager = open(&next(&after, Crash::Process), &DIRS).unwrap();
        assert!(manager.moves().is_empty());
    }
}

#[test]
fn a_copy_that_retention_overtakes_begins_anew() {
    let machine = machine();
    let manager = open(&machine, &DIRS).unwrap();
    let expected = filled(&machine, &manager);
    manager.begin_move(&flights(0), to_b()).unwrap();
    manager.advance_move(&flights(0), 100).unwrap();
    let log = manager.get(&flights(0)).unwrap();
    log.advance_log_start_offset(Offset(25));
    assert!(log.delete_old_segments(log.end().offset).unwrap() > 0);
    finish(&manager);
    let log = manager.get(&flights(0)).unwrap();
    let left: Vec<_> = expected.into_iter().filter(|held| held.next > 25).collect();
    assert_eq!((log.log_start_offset(), contents(&log)), (Offset(25), left));
}

#[test]
fn a_move_into_a_directory_that_fails_is_given_up() {
    let machine = machine();
    let manager = open(&machine, &DIRS).unwrap();
    let expected = filled(&machine, &manager);
    manager.begin_move(&flights(0), to_b()).unwrap();
    manager.advance_move(&flights(0), 500).unwrap();
    machine.disk.break_dir("/data/b");
    assert!(manager.advance_move(&flights(0), 500).is_err());
    assert!(!manager.is_moving(&flights(0)));
    let log = manager.get(&flights(0)).unwrap();
    append(&log, &batch(1, 10));
    assert_eq!(contents(&log)[..expected.len()], expected);
}

#[test]
fn what_cannot_be_moved_is_said() {
    let machine = machine();
    let manager = open(&machine, &DIRS).unwrap();
    let begin = |name: &ottla_log::TopicPartition, dir| manager.begin_move(name, Path::new(dir));
    assert!(matches!(begin(&flights(0), "/data/c"), Err(MoveError::UnknownDirectory)));
    let long = ottla_log::TopicPartition::new("x".repeat(220), 0);
    assert!(matches!(begin(&long, "/data/b"), Err(MoveError::NameTooLong)));
    // A partition without a log is made in the directory that it was to be moved to.
    assert!(matches!(begin(&flights(0), "/data/b"), Err(MoveError::NoLog)));
    let log = manager.get_or_create(&flights(0), ID, machine.config.clone()).unwrap();
    assert!(log.dir().starts_with("/data/b"));
    manager.begin_move(&flights(0), to_b()).unwrap();
    assert!(manager.moves().is_empty(), "it lies there already");
    // A deleted log's copy goes with it.
    manager.begin_move(&flights(0), Path::new("/data/a")).unwrap();
    manager.advance_move(&flights(0), 500).unwrap();
    manager.delete(&[flights(0)]).unwrap();
    assert!(manager.moves().is_empty());
    machine.clock.advance(60_000);
    manager.unlink_deleted();
    assert_eq!(DIRS.map(|dir| directories(&machine, dir)).concat(), [""; 0]);
}

#[test]
fn two_logs_of_one_partition_are_not_for_a_broker_to_choose_from() {
    let before = machine();
    let manager = open(&before, &DIRS).unwrap();
    filled(&before, &manager);
    manager.close().unwrap();
    before.disk.create_dir_all(Path::new("/data/b/flights-0")).unwrap();
    let stale = Path::new("/data/b/flights-0/moved-from");
    let file = before.disk.open(stale, OpenMode::Create).unwrap();
    file.write_at(&[std::io::IoSlice::new(b"/data/c/flights-0")], 0).unwrap();
    let error = open(&next(&before, Crash::Process), &DIRS).err().unwrap();
    assert_eq!(error.to_string(), "/data/b/flights-0: flights-0 lies in /data/a/flights-0 too");
}

#[test]
fn a_log_is_not_compacted_while_it_is_moved() {
    let overrides = [("segment.bytes", "500"), ("cleanup.policy", "compact")];
    let machine = Machine { config: config(&overrides), ..machine() };
    let manager = Arc::new(open(&machine, &DIRS).unwrap());
    let log = manager.get_or_create(&flights(0), ID, machine.config.clone()).unwrap();
    for _ in 0..20 {
        append(&log, &batch(1, 100));
    }
    log.flush().unwrap();
    let cleaner = LogCleaner::new(manager.clone(), machine.clock.clone(), settings());
    manager.begin_move(&flights(0), to_b()).unwrap();
    assert!(!cleaner.clean_filthiest(&|_| {}));
    manager.cancel_move(&flights(0)).unwrap();
    assert!(cleaner.clean_filthiest(&|_| {}));
}
