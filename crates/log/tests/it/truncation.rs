//! A log that was cut is the log that it was before.

use std::cell::Cell;
use std::sync::Arc;

use ottla_fake::Crash;
use ottla_log::{Log, Opening};
use ottla_record::{LeaderEpoch, Offset};

use crate::{Machine, Stored, append, batch, contents, idempotent, stored, try_append};

const OVERRIDES: [(&str, &str); 2] = [("segment.bytes", "400"), ("index.interval.bytes", "100")];

/// Twelve batches with the offsets 0 to 23, in epochs 0 to 3, in several segments.
fn filled(machine: &Machine) -> (Arc<Log>, Vec<Stored>) {
    let log = machine.open_clean();
    let mut held = Vec::new();
    for n in 0..6 {
        for batch in [batch(3, 20), idempotent(1, n, 1)] {
            let appended = try_append(&log, &batch, n / 2).unwrap();
            held.push(stored(&batch, appended.base_offset, n / 2));
        }
        if n == 2 {
            log.flush().unwrap();
        }
    }
    assert!(log.segment_count() > 2);
    (log, held)
}

fn below(held: &[Stored], offset: i64) -> Vec<Stored> {
    held.iter().filter(|batch| batch.next <= offset).cloned().collect()
}

#[track_caller]
fn check(log: &Log, kept: &[Stored], context: &str) {
    assert_eq!(contents(log), kept, "{context}");
    let end = kept.last().map_or(0, |last| last.next);
    assert_eq!(log.end().offset, Offset(end), "{context}");
    assert!(
        log.recovery_point() <= Offset(end) && log.flushed().offset <= Offset(end),
        "{context}"
    );
    check_epochs(log, kept, context);
    let latest = kept.last().and_then(|last| log.epoch_of(Offset(last.base)));
    assert_eq!(log.latest_epoch(), latest, "{context}");
}

#[track_caller]
fn check_epochs(log: &Log, kept: &[Stored], context: &str) {
    for batch in kept {
        let epoch = i32::from_be_bytes([12, 13, 14, 15].map(|at| batch.bytes[at]));
        assert_eq!(log.epoch_of(Offset(batch.base)), Some(LeaderEpoch(epoch)), "{context}");
    }
}

#[test]
fn a_log_is_cut_at_any_offset_and_goes_on() {
    for offset in 0..=25 {
        let machine = Machine::new(&OVERRIDES);
        let (log, held) = filled(&machine);
        let kept = below(&held, offset);
        let called = Cell::new(false);
        let checkpoint = || {
            called.set(true);
            let end = kept.last().map_or(0, |last| last.next);
            assert!(log.recovery_point().0 <= end && log.flushed().offset.0 <= end);
            Ok(())
        };
        log.truncate_to(Offset(offset), checkpoint).unwrap();
        let context = format!("cut at {offset}");
        assert_eq!(called.get(), offset < 24, "{context}");
        check(&log, &kept, &context);
        // The producer's batches that are left are known, and the others are not.
        let known = kept.iter().filter(|batch| batch.next == batch.base + 1).count() as i32;
        if known > 0 {
            assert!(append(&log, &idempotent(1, known - 1, 1)).duplicate, "{context}");
        }
        let mut expected = kept.clone();
        for batch in [idempotent(1, known, 1), batch(3, 100)] {
            let appended = try_append(&log, &batch, 9).unwrap();
            assert!(!appended.duplicate, "{context}");
            expected.push(stored(&batch, appended.base_offset, 9));
        }
        let recovery_point = log.recovery_point();
        let killed = Machine::on(machine.disk.after(Crash::Process), &OVERRIDES);
        let recovered = killed.open(Opening { recovery_point, ..crate::UNKNOWN }).unwrap();
        check(&recovered, &expected, &context);
        log.close().unwrap();
        check(&machine.open_clean(), &expected, &context);
    }
}

#[test]
fn records_that_were_deleted_do_not_come_back_with_the_batch_that_is_cut() {
    let machine = Machine::new(&OVERRIDES);
    let log = machine.open_clean();
    append(&log, &batch(3, 20));
    append(&log, &batch(3, 20));
    assert_eq!(log.advance_log_start_offset(Offset(4)), Offset(4));
    log.truncate_to(Offset(5), || Ok(())).unwrap();
    assert_eq!((log.log_start_offset(), log.end().offset), (Offset(4), Offset(4)));
    assert_eq!(append(&log, &batch(1, 1)).base_offset, Offset(4));
}

#[test]
fn a_crash_while_a_log_is_cut_leaves_a_log_that_once_was() {
    for offset in [0, 3, 5, 12, 20, 23] {
        for changes in 0.. {
            let machine = Machine::new(&OVERRIDES);
            let (log, held) = filled(&machine);
            log.flush().unwrap();
            let recovery_point = Cell::new(log.recovery_point());
            machine.disk.fail_after(changes);
            let checkpoint = || {
                recovery_point.set(log.recovery_point());
                Ok(())
            };
            let cut = log.truncate_to(Offset(offset), checkpoint);
            let kept = below(&held, offset);
            for crash in [Crash::Process, Crash::Power { seed: changes }] {
                let context = format!("cut at {offset}, {changes} changes, {crash:?}");
                let found = Machine::on(machine.disk.after(crash), &OVERRIDES);
                let opening = Opening { recovery_point: recovery_point.get(), ..crate::UNKNOWN };
                let log = found.open(opening).unwrap_or_else(|e| panic!("{context}: {e}"));
                let left = contents(&log);
                assert_eq!(left[..], held[..left.len()], "{context}");
                check_epochs(&log, &left, &context);
                match cut.is_ok() {
                    true => assert_eq!(left, kept, "{context}"),
                    false => assert!(left.len() >= kept.len(), "{context}"),
                }
            }
            if cut.is_ok() {
                assert!(changes > 2, "{changes} changes");
                break;
            }
            assert!(try_append(&log, &batch(1, 1), 9).is_err());
        }
    }
}

#[test]
fn a_log_starts_anew_where_its_leaders_begins() {
    for offset in [0, 4, 12, 100] {
        let machine = Machine::new(&OVERRIDES);
        let (log, _) = filled(&machine);
        log.truncate_fully_and_start_at(Offset(offset), || {
            assert_eq!(log.recovery_point(), Offset(0));
            Ok(())
        })
        .unwrap();
        assert_eq!((log.log_start_offset(), log.end().offset), (Offset(offset), Offset(offset)));
        // At offset 0 it is as one that was never written to.
        assert_eq!((log.segment_count(), log.producer_count()), (usize::from(offset > 0), 0));
        assert_eq!(log.latest_epoch(), None);
        let lost = Machine::on(machine.disk.after(Crash::Power { seed: 1 }), &OVERRIDES);
        let recovery_point = log.recovery_point();
        let found = lost.open(Opening { recovery_point, ..crate::UNKNOWN }).unwrap();
        assert_eq!(found.end().offset, Offset(offset));
        assert_eq!(append(&log, &idempotent(1, 0, 1)).base_offset, Offset(offset));
        log.close().unwrap();
        assert_eq!(machine.open_clean().end().offset, Offset(offset + 1));
    }
}
