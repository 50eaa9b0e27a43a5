//! Many logs at once: what they cost is a batch of syncs, and a crash in between leaves nothing half
//! made.

use std::path::Path;

use ottla_fake::Crash;
use ottla_log::TopicPartition;
use ottla_record::Offset;
use ottla_runtime::Disk;

use crate::manager::{ID, directories, flights, machine, next, open, text};
use crate::{DIR, Machine, append, batch, contents};

const DIRS: [&str; 2] = ["/data/a", "/data/b"];

fn names(count: i32) -> Vec<TopicPartition> {
    (0..count).map(flights).collect()
}

/// The syncs that it takes to make, to write to, to close and to delete so many logs.
fn syncs(count: i32) -> [usize; 5] {
    let machine = machine();
    let manager = open(&machine, &DIRS).unwrap();
    let mut before = machine.disk.syncs();
    let mut since = || {
        let now = machine.disk.syncs();
        std::mem::replace(&mut before, now).abs_diff(now)
    };
    let made = manager.get_or_create_all(&names(count), ID, &machine.config);
    let logs: Vec<_> = made.into_iter().map(Result::unwrap).collect();
    let made = since();
    for log in &logs {
        append(log, &batch(1, 50));
    }
    for volume in manager.volumes() {
        volume.flush(0);
    }
    let written = since();
    manager.checkpoint_flushed().unwrap();
    let checkpointed = since();
    manager.delete(&names(count / 2)).unwrap();
    let deleted = since();
    manager.close().unwrap();
    [made, written, checkpointed, deleted, since()]
}

#[test]
fn more_logs_do_not_take_more_syncs() {
    assert_eq!(syncs(8), syncs(100));
}

#[test]
fn a_log_has_no_files_before_its_first_append() {
    let before = machine();
    let files = |machine: &Machine| -> Vec<String> {
        let entries = machine.disk.read_dir(Path::new(DIR)).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    };
    let manager = open(&before, &["/data"]).unwrap();
    let log = manager.get_or_create(&flights(0), ID, before.config.clone()).unwrap();
    log.begin_epoch(ottla_record::LeaderEpoch(3)).unwrap();
    let slice = log.read(Offset::ZERO, 100, log.end(), true).unwrap();
    assert_eq!((slice.len, log.size_in_bytes(), log.segment_count()), (0, 0, 0));
    assert!(log.read(Offset(1), 100, log.end(), true).is_err());
    assert_eq!(log.offset_of_max_timestamp().unwrap(), None);
    manager.close().unwrap();
    assert_eq!(files(&before), ["partition.metadata"]);
    for crash in [Crash::Process, Crash::Power { seed: 5 }] {
        let after = next(&before, crash);
        let manager = open(&after, &["/data"]).unwrap();
        let log = manager.get(&flights(0)).unwrap();
        assert_eq!((log.end().offset, log.segment_count()), (Offset::ZERO, 0));
        assert_eq!(append(&log, &batch(3, 50)).base_offset, Offset::ZERO);
        assert!(files(&after).contains(&"00000000000000000000.log".to_owned()));
        manager.close().unwrap();
        let after = next(&after, Crash::Power { seed: 6 });
        let log = open(&after, &["/data"]).unwrap().get(&flights(0)).unwrap();
        assert_eq!((log.end().offset, contents(&log).len()), (Offset(3), 1));
    }
}

#[test]
fn a_log_that_was_emptied_keeps_its_offsets() {
    let before = machine();
    let manager = open(&before, &["/data"]).unwrap();
    let log = manager.get_or_create(&flights(0), ID, before.config.clone()).unwrap();
    append(&log, &batch(5, 50));
    log.advance_log_start_offset(Offset(5));
    before.clock.advance(60_000);
    log.set_config(crate::config(&[("retention.ms", "1000")]));
    for volume in manager.volumes() {
        volume.flush(0);
    }
    log.delete_old_segments(Offset(5)).unwrap();
    assert_eq!(log.size_in_bytes(), 0);
    manager.close().unwrap();
    for crash in [Crash::Process, Crash::Power { seed: 5 }] {
        let after = next(&before, crash);
        let log = open(&after, &["/data"]).unwrap().get(&flights(0)).unwrap();
        assert_eq!((log.log_start_offset(), log.end().offset), (Offset(5), Offset(5)));
    }
}

#[test]
fn a_power_cut_does_not_take_the_first_segment_alone() {
    let before = machine();
    let manager = open(&before, &["/data"]).unwrap();
    let log = manager.get_or_create(&flights(0), ID, before.config.clone()).unwrap();
    for _ in 0..10 {
        append(&log, &batch(1, 150));
    }
    assert!(log.segment_count() > 3);
    for seed in 0..100 {
        let after = next(&before, Crash::Power { seed });
        let found = open(&after, &["/data"]).unwrap().get(&flights(0)).unwrap();
        assert_eq!(found.log_start_offset(), Offset::ZERO, "seed {seed}");
    }
}

#[test]
fn what_a_crash_leaves_of_new_logs_is_finished() {
    let before = machine();
    let manager = open(&before, &DIRS).unwrap();
    before.disk.record();
    let made = manager.get_or_create_all(&names(4), ID, &before.config);
    assert!(made.iter().all(Result::is_ok));
    let moments = before.disk.take_recording();
    assert!(moments.len() > 10, "{}", moments.len());
    for (at, disk) in moments.into_iter().enumerate() {
        for crash in [Crash::Process, Crash::Power { seed: at as u64 }] {
            let after = next(&Machine::on(disk.clone(), &[]), crash);
            let manager = open(&after, &DIRS).unwrap();
            assert_eq!(manager.offline(), []);
            let made = manager.get_or_create_all(&names(4), ID, &after.config);
            for (n, log) in made.into_iter().enumerate() {
                let log = log.unwrap();
                append(&log, &batch(1, 50));
                let path = log.dir().join("partition.metadata");
                let id = text(&after, path.to_str().unwrap());
                assert!(id.contains("topic_id:"), "{n} at {at} after {crash:?}: {id}");
            }
        }
    }
    // Once they were made, they are there to stay.
    let after = next(&before, Crash::Power { seed: 1 });
    let found: Vec<_> = names(4).into_iter().map(|name| (name, Some(ID))).collect();
    assert_eq!(open(&after, &DIRS).unwrap().partitions(), found);
}

#[test]
fn what_a_crash_leaves_of_a_clean_stop_is_whole() {
    let before = machine();
    let manager = open(&before, &DIRS).unwrap();
    for log in manager.get_or_create_all(&names(4), ID, &before.config) {
        let log = log.unwrap();
        for _ in 0..5 {
            append(&log, &batch(2, 100));
        }
    }
    for volume in manager.volumes() {
        volume.flush(0);
    }
    before.disk.record();
    manager.close().unwrap();
    for (at, disk) in before.disk.take_recording().into_iter().enumerate() {
        let after = next(&Machine::on(disk, &[]), Crash::Power { seed: at as u64 });
        let manager = open(&after, &DIRS).unwrap();
        for name in names(4) {
            let log = manager.get(&name).unwrap();
            assert_eq!((contents(&log).len(), log.end().offset), (5, Offset(10)), "at {at}");
            assert!(log.latest_epoch().is_some(), "at {at}");
        }
    }
    assert_eq!(directories(&before, DIRS[0]), ["flights-0", "flights-2"]);
}
