//! Many logs at once: what they cost is a batch of syncs, and a crash in between leaves nothing half
//! made.

use ottla_fake::Crash;
use ottla_log::TopicPartition;
use ottla_record::Offset;

use crate::manager::{ID, directories, flights, machine, next, open, text};
use crate::{Machine, append, batch, contents};

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
    logs.iter().for_each(|log| drop(append(log, &batch(1, 50))));
    manager.volumes().iter().for_each(|volume| drop(volume.flush(0)));
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
        (0..5).for_each(|_| drop(append(&log, &batch(2, 100))));
    }
    manager.volumes().iter().for_each(|volume| drop(volume.flush(0)));
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
