//! Transactions as a log knows them: what is stable, and what was aborted.

use std::path::Path;
use std::sync::Arc;

use ottla_fake::Crash;
use ottla_log::{AbortedTransaction, Log, Opening};
use ottla_record::{
    BatchOptions, EndTransactionMarker, LeaderEpoch, Offset, PatchedHeader, ProducerEpoch,
    ProducerId, RecordBatch, Sequence, Timestamp,
};
use ottla_runtime::Disk;
use ottla_runtime::disk::{OpenMode, read_file};

use crate::{DIR, Machine, NOW, batch_with};

const OVERRIDES: [(&str, &str); 2] = [("segment.bytes", "500"), ("index.interval.bytes", "100")];

/// What producer 1, 2… does next: write a record, or end its transaction.
#[derive(Clone, Copy)]
enum Step {
    Write(i64),
    Abort(i64),
    Commit(i64),
}
use Step::{Abort, Commit, Write};

const STEPS: [Step; 14] = [
    Write(1),
    Write(2),
    Write(1),
    Abort(1),
    Write(3),
    Commit(2),
    Write(1),
    Abort(3),
    Write(2),
    Commit(1),
    Abort(2),
    Write(4),
    Write(4),
    Write(5),
];

fn take(log: &Arc<Log>, step: Step) {
    let end = log.end().offset;
    let bytes = match step {
        Write(id) => {
            let options = BatchOptions {
                producer_id: ProducerId(id),
                producer_epoch: ProducerEpoch(0),
                base_sequence: Sequence(end.0 as i32),
                is_transactional: true,
                ..BatchOptions::default()
            };
            batch_with(options, &[NOW], 20)
        }
        Abort(id) | Commit(id) => {
            let committed = matches!(step, Commit(_));
            EndTransactionMarker { committed, coordinator_epoch: 7 }.batch(
                ProducerId(id),
                ProducerEpoch(0),
                Timestamp(NOW),
            )
        }
    };
    let (batch, _) = RecordBatch::parse(&bytes).unwrap();
    let header = PatchedHeader::new(&batch, end, LeaderEpoch(0));
    log.append_as_follower(&[header.as_bytes(), batch.payload()].concat()).unwrap();
}

fn filled(machine: &Machine, steps: usize) -> Arc<Log> {
    let log = machine.open_clean();
    STEPS[..steps].iter().for_each(|&step| take(&log, step));
    log
}

fn aborted(id: i64, first: i64, last: i64, stable: i64) -> AbortedTransaction {
    AbortedTransaction {
        producer_id: ProducerId(id),
        first_offset: Offset(first),
        last_offset: Offset(last),
        last_stable_offset: Offset(stable),
    }
}

fn all_aborted() -> Vec<AbortedTransaction> {
    vec![aborted(1, 0, 3, 1), aborted(3, 4, 7, 6), aborted(2, 8, 10, 11)]
}

fn stable(log: &Log) -> i64 {
    log.last_stable_offset(log.end()).unwrap().offset.0
}

/// Every file of the directory with this suffix.
fn files(machine: &Machine, suffix: &str) -> Vec<(String, Vec<u8>)> {
    let entries = machine.disk.read_dir(Path::new(DIR)).unwrap();
    let names = entries.into_iter().map(|e| e.name).filter(|name| name.ends_with(suffix));
    names
        .map(|name| {
            let bytes = read_file(&*machine.disk, &Path::new(DIR).join(&name)).unwrap();
            (name, bytes)
        })
        .collect()
}

#[track_caller]
fn check(log: &Log) {
    let end = log.end().offset;
    assert_eq!(stable(log), 11);
    assert_eq!(log.aborted_transactions(Offset(0), end).unwrap(), all_aborted());
}

#[test]
fn what_is_stable_ends_where_the_first_undecided_transaction_begins() {
    let machine = Machine::new(&OVERRIDES);
    let log = machine.open_clean();
    let expected = [0, 0, 0, 1, 1, 4, 4, 6, 6, 8, 11, 11, 11, 11];
    for (&step, expected) in STEPS.iter().zip(expected) {
        take(&log, step);
        assert_eq!(stable(&log), expected, "at {}", log.end().offset);
    }
    assert!(log.segment_count() > 2);
    let limit = log.last_stable_offset(log.end()).unwrap();
    let slice = log.read(Offset(10), 1 << 20, limit, true).unwrap();
    assert_eq!(slice.len, 78, "the last marker, and nothing behind it");
    assert_eq!(log.read(Offset(11), 1 << 20, limit, true).unwrap().len, 0);
}

#[test]
fn a_transaction_is_not_decided_before_its_marker_is_below_the_high_watermark() {
    let machine = Machine::new(&OVERRIDES);
    let log = machine.open_clean();
    take(&log, Write(1));
    let written = log.end();
    take(&log, Commit(1));
    assert_eq!(log.last_stable_offset(written).unwrap().offset, Offset(0));
    assert_eq!(log.last_stable_offset(log.end()).unwrap(), log.end());
    assert_eq!(log.first_unstable_offset(Offset(0)), None, "it is stable once and for all");
}

#[test]
fn aborted_transactions_are_those_that_reach_into_what_was_read() {
    let machine = Machine::new(&OVERRIDES);
    let log = filled(&machine, STEPS.len());
    for from in 0..14 {
        for upper in from + 1..=14 {
            let found = log.aborted_transactions(Offset(from), Offset(upper)).unwrap();
            let expected: Vec<_> = all_aborted()
                .into_iter()
                .filter(|a| a.last_offset.0 >= from && a.first_offset.0 < upper)
                .collect();
            assert_eq!(found, expected, "{from}..{upper}");
        }
    }
    for from in 0..14 {
        let slice = log.read(Offset(from), 150, log.end(), true).unwrap();
        let mut bytes = vec![0; slice.len];
        slice.file.read_at(&mut bytes, slice.position).unwrap();
        let next = ottla_record::batches(&bytes).map_while(Result::ok).last().unwrap();
        let upper = log.upper_bound(&slice).unwrap();
        assert!((next.next_offset()..=Offset(14)).contains(&upper), "{from}: {upper}");
    }
}

#[test]
fn transactions_survive_every_kind_of_stop() {
    let machine = Machine::new(&OVERRIDES);
    let log = filled(&machine, STEPS.len());
    check(&log);
    let txn_indexes = files(&machine, ".txnindex");
    assert!(txn_indexes.len() > 1 && txn_indexes.iter().all(|(_, bytes)| bytes.len() % 34 == 0));
    for recovery_point in 0..=14 {
        let killed = Machine::on(machine.disk.after(Crash::Process), &OVERRIDES);
        // As a power cut may leave them.
        for (n, (name, _)) in txn_indexes.iter().enumerate() {
            let path = Path::new(DIR).join(name);
            let base: i64 = name[..20].parse().unwrap();
            if base >= recovery_point {
                match n % 2 {
                    0 => killed.disk.remove_file(&path).unwrap(),
                    _ => killed.disk.open(&path, OpenMode::ReadWrite).unwrap().set_len(17).unwrap(),
                }
            }
        }
        let recovery_point = Offset(recovery_point);
        let log = killed.open(Opening { recovery_point, ..crate::UNKNOWN }).unwrap();
        check(&log);
        assert_eq!(files(&killed, ".txnindex"), txn_indexes, "recovered from {recovery_point}");
    }
    log.close().unwrap();
    let log = machine.open_clean();
    check(&log);
    take(&log, Abort(5));
    take(&log, Abort(4));
    let found = log.aborted_transactions(Offset(11), Offset(16)).unwrap();
    assert_eq!(found, [aborted(5, 13, 14, 11), aborted(4, 11, 15, 16)]);
    assert_eq!(stable(&log), 16);
}

#[test]
fn an_index_that_cannot_be_right_is_made_anew() {
    let machine = Machine::new(&OVERRIDES);
    filled(&machine, STEPS.len()).close().unwrap();
    let whole = files(&machine, ".txnindex");
    for (name, bytes) in &whole {
        for at in [0, 1, 10, 18, 26] {
            let damaged = Machine::on(machine.disk.after(Crash::Process), &OVERRIDES);
            let path = Path::new(DIR).join(name);
            let file = damaged.disk.open(&path, OpenMode::ReadWrite).unwrap();
            file.write_at(&[std::io::IoSlice::new(&[0x7f])], at).unwrap();
            check(&damaged.open_clean());
            assert_eq!(read_file(&*damaged.disk, &path).unwrap(), *bytes, "{name} at {at}");
        }
    }
}
