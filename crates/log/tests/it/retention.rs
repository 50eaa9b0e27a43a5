//! Deleting old segments by age, by size and below the log start offset.

use std::path::Path;
use std::sync::Arc;

use ottla_log::{Log, Opening, ReadError};
use ottla_record::{BatchOptions, LeaderEpoch, Offset};
use ottla_runtime::Disk;

use crate::{
    DIR, Machine, NOW, UNKNOWN, append, batch, batch_with, contents, idempotent, try_append,
};

fn at(ms: i64) -> Vec<u8> {
    batch_with(BatchOptions::default(), &[ms], 100)
}

/// Settings with `per_segment` of the batches above in a segment, and others.
fn machine(per_segment: usize, overrides: &[(&str, &str)]) -> Machine {
    let bytes = (per_segment * at(NOW).len()).to_string();
    let mut all = vec![("segment.bytes", bytes.as_str()), ("retention.ms", "-1")];
    all.retain(|(key, _)| overrides.iter().all(|(other, _)| other != key));
    all.extend(overrides);
    Machine::new(&all)
}

fn delete(log: &Arc<Log>) -> (usize, i64, usize) {
    let gone = log.delete_old_segments(log.end().offset).unwrap();
    (gone, log.log_start_offset().0, log.segment_count())
}

fn files(machine: &Machine) -> Vec<String> {
    let entries = machine.disk.read_dir(Path::new(DIR)).unwrap();
    let segment = |name: &String| name.as_bytes()[0].is_ascii_digit();
    entries.into_iter().map(|entry| entry.name).filter(segment).collect()
}

#[test]
fn segments_go_when_their_newest_record_is_too_old() {
    let machine = machine(2, &[("retention.ms", "1000")]);
    let log = machine.open_clean();
    for ms in [0, 500, 100, 200, 300, 900] {
        append(&log, &at(NOW + ms));
    }
    machine.clock.advance(1500);
    assert_eq!(delete(&log), (0, 0, 3));
    machine.clock.advance(1);
    // The second one is older still; it had to wait for the first.
    assert_eq!(delete(&log), (2, 4, 1));
    assert!(matches!(
        log.read(Offset(3), 100, log.end(), true),
        Err(ReadError::OutOfRange { start: Offset(4), .. })
    ));
    machine.clock.advance(1000);
    // The active segment goes too: an empty one takes its place, and the offsets go on.
    assert_eq!(delete(&log), (1, 6, 1));
    assert_eq!(delete(&log), (0, 6, 1));
    assert_eq!(log.size_in_bytes(), 0);
    assert_eq!(append(&log, &at(NOW + 9000)).base_offset, Offset(6));
    assert_eq!(contents(&log).len(), 1);
    assert_eq!(files(&machine), [format!("{:020}.log", 6), format!("{:020}.snapshot", 6)]);
}

#[test]
fn what_has_no_timestamps_is_as_old_as_its_file() {
    // The file of the fake disk is as old as can be.
    let machine = machine(2, &[("retention.ms", "1000")]);
    let log = machine.open_clean();
    append(&log, &batch_with(BatchOptions::default(), &[-1], 100));
    append(&log, &at(NOW));
    append(&log, &at(NOW));
    assert_eq!(delete(&log), (0, 0, 2));
    let log = machine.open_unclean();
    append(&log, &batch_with(BatchOptions::default(), &[-1], 100));
    append(&log, &batch_with(BatchOptions::default(), &[-1], 100));
    machine.clock.advance(1001);
    assert_eq!(delete(&log), (3, 5, 1));
}

#[test]
fn segments_go_as_long_as_enough_is_left() {
    let size = at(NOW).len();
    let machine = machine(2, &[("retention.bytes", &(3 * size).to_string())]);
    let log = machine.open_clean();
    for _ in 0..5 {
        append(&log, &at(NOW));
    }
    assert_eq!(delete(&log), (1, 2, 2));
    append(&log, &at(NOW));
    assert_eq!(delete(&log), (0, 2, 2));
    append(&log, &at(NOW));
    assert_eq!(delete(&log), (1, 4, 2));
}

#[test]
fn with_a_retention_of_nothing_the_active_segment_goes() {
    let machine = machine(2, &[("retention.bytes", "0")]);
    let log = machine.open_clean();
    for _ in 0..5 {
        append(&log, &at(NOW));
    }
    assert_eq!(delete(&log), (3, 5, 1));
    assert_eq!(log.end().offset, Offset(5));
}

#[test]
fn nothing_beyond_the_limit_goes() {
    let machine = machine(2, &[("retention.bytes", "0")]);
    let log = machine.open_clean();
    for _ in 0..6 {
        append(&log, &at(NOW));
    }
    assert_eq!(log.delete_old_segments(Offset(3)).unwrap(), 1);
    assert_eq!(log.log_start_offset(), Offset(2));
}

#[test]
fn a_compacted_log_loses_only_what_lies_below_its_start() {
    let overrides =
        [("cleanup.policy", "compact"), ("retention.bytes", "0"), ("retention.ms", "1")];
    let machine = machine(2, &overrides);
    let log = machine.open_clean();
    for _ in 0..6 {
        append(&log, &at(NOW));
    }
    machine.clock.advance(1_000_000);
    assert_eq!(delete(&log), (0, 0, 3));
    log.advance_log_start_offset(Offset(3));
    assert_eq!(delete(&log), (1, 3, 2));
}

#[test]
fn deleted_records_stay_deleted() {
    let machine = machine(2, &[]);
    let log = machine.open_clean();
    for n in 0..5 {
        try_append(&log, &at(NOW), n).unwrap();
    }
    assert_eq!(log.advance_log_start_offset(Offset(3)), Offset(3));
    assert_eq!(log.advance_log_start_offset(Offset(1)), Offset(3), "it never goes back");
    assert_eq!(log.advance_log_start_offset(Offset(99)), Offset(5), "nor beyond the end");
    assert!(matches!(
        log.read(Offset(4), 100, log.end(), true),
        Err(ReadError::OutOfRange { start: Offset(5), end: Offset(5) })
    ));
    assert_eq!(delete(&log), (2, 5, 1));
    assert_eq!(files(&machine)[0], format!("{:020}.log", 4));
    log.close().unwrap();
    for clean in [true, false] {
        let opening = Opening { clean, log_start_offset: Offset(5), ..UNKNOWN };
        let log = machine.open(opening).unwrap();
        assert_eq!(log.log_start_offset(), Offset(5));
        assert_eq!((log.first_base_offset(), log.end().offset), (Offset(4), Offset(5)));
        assert_eq!(contents(&log), []);
    }
}

#[test]
fn a_start_inside_of_a_segment_reads_from_there() {
    let machine = machine(100, &[]);
    let log = machine.open_clean();
    append(&log, &batch(10, 10));
    append(&log, &batch(10, 10));
    log.advance_log_start_offset(Offset(4));
    let slice = log.read(Offset(4), 10, log.end(), true).unwrap();
    assert_eq!((slice.position, slice.len), (0, batch(10, 10).len()), "the batch that holds it");
    assert_eq!(log.epoch_of(Offset(4)), Some(LeaderEpoch(0)));
    let log = machine.open(Opening { log_start_offset: Offset(4), ..UNKNOWN }).unwrap();
    assert_eq!((log.log_start_offset(), log.end().offset), (Offset(4), Offset(20)));
}

#[test]
fn a_log_whose_end_was_lost_goes_on_where_its_start_was_announced() {
    let machine = machine(2, &[]);
    let log = machine.open_clean();
    for n in 0..5 {
        append(&log, &idempotent(1, n, 1));
    }
    let opening = Opening { log_start_offset: Offset(8), ..UNKNOWN };
    let log = machine.open(opening).unwrap();
    assert_eq!((log.log_start_offset(), log.end().offset), (Offset(8), Offset(8)));
    assert_eq!((log.segment_count(), log.size_in_bytes()), (1, 0));
    assert_eq!(append(&log, &at(NOW)).base_offset, Offset(8));
    assert!(files(&machine).iter().all(|name| name.starts_with(&format!("{:020}.", 8))));
}

#[test]
fn who_reads_a_deleted_segment_reads_on() {
    let machine = machine(2, &[("retention.bytes", "0")]);
    let log = machine.open_clean();
    for _ in 0..6 {
        append(&log, &at(NOW));
    }
    let slice = log.read(Offset(0), 10_000, log.end(), true).unwrap();
    assert_eq!(delete(&log), (3, 6, 1));
    let mut bytes = vec![0; slice.len];
    assert_eq!(slice.file.read_at(&mut bytes, slice.position).unwrap(), 2 * at(NOW).len());
}
