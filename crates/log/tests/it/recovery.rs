//! What is cut, what is damage, and what is made anew.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_fake::Crash;
use ottla_log::{Damage, Log, OpenError, Opening, Volume};
use ottla_record::Offset;
use ottla_runtime::Disk;
use ottla_runtime::disk::{OpenMode, read_file};

use crate::{DIR, Machine, NOW, Stored, append, batch, batch_with, contents, idempotent, stored};

/// Nine batches of 1,500 bytes and one record each, in three segments.
const OVERRIDES: [(&str, &str); 2] = [("segment.bytes", "5000"), ("index.interval.bytes", "100")];

fn filled() -> (Machine, Vec<Stored>) {
    let machine = Machine::new(&OVERRIDES);
    let log = machine.open_clean();
    let mut held = Vec::new();
    for n in 0..9 {
        let bytes = batch_with(Default::default(), &[NOW + n], 1500);
        let base = append(&log, &bytes).base_offset;
        held.push(stored(&bytes, base, 0));
    }
    assert_eq!(log.segment_count(), 3);
    (machine, held)
}

fn try_open(machine: &Machine, opening: Opening) -> Result<Arc<Log>, OpenError> {
    let volume = Volume::open(&machine.world(), Path::new("/data"))?;
    Log::open(&volume, Path::new(DIR), machine.config.clone(), opening)
}

fn log_file(base: i64) -> PathBuf {
    Path::new(DIR).join(format!("{base:020}.log"))
}

#[derive(Debug)]
enum Harm {
    /// A bit of the payload of a batch.
    FlipPayload(i64),
    /// The magic of a batch.
    FlipMagic(i64),
    /// The length of a batch: it seems to reach beyond the end.
    Lengthen(i64),
    /// Bytes of a batch, from its first on.
    Zero {
        batch: i64,
        from: u64,
        bytes: usize,
    },
    /// The file ends so many bytes behind the start of a batch.
    CutFile(i64, u64),
    Remove(i64),
    RemoveAll,
}
use Harm::{CutFile, FlipMagic, FlipPayload, Lengthen, Remove, RemoveAll, Zero};

fn inflict(machine: &Machine, held: &[Stored], harm: &Harm) {
    let place = |n: i64| {
        let size = held[0].bytes.len() as u64;
        (log_file(n / 3 * 3), (n % 3) as u64 * size)
    };
    let open = |path: &Path| machine.disk.open(path, OpenMode::ReadWrite).unwrap();
    match *harm {
        FlipPayload(n) => machine.disk.flip_bit(&place(n).0, place(n).1 as usize + 700),
        FlipMagic(n) => machine.disk.flip_bit(&place(n).0, place(n).1 as usize + 16),
        Lengthen(n) => {
            let (path, at) = place(n);
            open(&path).write_at(&[IoSlice::new(&[0x10])], at + 8).unwrap();
        }
        Zero { batch, from, bytes } => {
            let (path, at) = place(batch);
            open(&path).write_at(&[IoSlice::new(&vec![0; bytes])], at + from).unwrap();
        }
        CutFile(n, bytes) => open(&place(n).0).set_len(place(n).1 + bytes).unwrap(),
        Remove(n) => machine.disk.remove_file(&log_file(n)).unwrap(),
        RemoveAll => machine.disk.remove_dir_all(Path::new(DIR)).unwrap(),
    }
}

/// What is to become of it: so many batches are left, or the damage lies in this file at this byte,
/// where this offset is expected.
enum Verdict {
    Cut(usize),
    Damaged(i64, u64, i64),
    Missing,
}
use Verdict::{Cut, Damaged, Missing};

fn logs_of(machine: &Machine) -> crate::golden::Files {
    let mut files = crate::golden::files_of(machine);
    files.retain(|path, _| path.extension() == Some("log".as_ref()));
    files
}

/// Each harm, what was known of the log, and what becomes of it. `size` is that of a batch.
fn verdicts(size: u64) -> Vec<(Harm, Opening, Verdict)> {
    let nothing = Opening { ..crate::UNKNOWN };
    let durable = |offset| Opening { recovery_point: Offset(offset), ..crate::UNKNOWN };
    let committed = |offset| Opening { high_watermark: Offset(offset), ..crate::UNKNOWN };
    let clean = Opening { clean: true, recovery_point: Offset(9), ..crate::UNKNOWN };
    let hole = |batch| Zero { batch, from: 600, bytes: 1024 - 88 };
    vec![
        // The last batch: nothing is behind.
        (FlipPayload(8), nothing, Cut(8)),
        (FlipMagic(8), nothing, Cut(8)),
        (Lengthen(8), nothing, Cut(8)),
        (CutFile(8, 0), nothing, Cut(8)),
        (CutFile(8, 40), nothing, Cut(8)),
        (CutFile(8, 900), nothing, Cut(8)),
        (CutFile(8, 900), durable(8), Cut(8)),
        (CutFile(8, 900), committed(8), Cut(8)),
        (CutFile(8, 900), durable(9), Damaged(6, 2 * size, 8)),
        (CutFile(8, 900), committed(9), Damaged(6, 2 * size, 8)),
        (CutFile(8, 0), durable(9), Damaged(6, 2 * size, 8)),
        (CutFile(8, 0), committed(9), Damaged(6, 2 * size, 8)),
        (FlipPayload(8), committed(9), Damaged(6, 2 * size, 8)),
        // In the middle: batches follow.
        (FlipPayload(7), nothing, Damaged(6, size, 7)),
        (FlipMagic(7), nothing, Damaged(6, size, 7)),
        (Lengthen(7), nothing, Damaged(6, size, 7)),
        (FlipPayload(5), nothing, Damaged(3, 2 * size, 5)),
        (FlipMagic(1), durable(5), Damaged(0, size, 1)),
        // The disk wrote what is behind, and not this.
        (hole(7), nothing, Cut(7)),
        (hole(7), durable(7), Cut(7)),
        (Zero { batch: 7, from: 0, bytes: 512 }, durable(8), Damaged(6, size, 7)),
        (hole(7), committed(8), Damaged(6, size, 7)),
        (hole(4), nothing, Cut(4)),
        (Zero { batch: 7, from: 0, bytes: 512 }, nothing, Cut(7)),
        // The end of a segment was lost, and the next one was not.
        (CutFile(5, 0), nothing, Cut(5)),
        (CutFile(5, 700), nothing, Cut(5)),
        (CutFile(5, 0), durable(6), Damaged(6, 0, 5)),
        (CutFile(5, 0), committed(6), Damaged(6, 0, 5)),
        // Segments, and all of them.
        (Remove(3), durable(9), Damaged(6, 0, 3)),
        (Remove(3), clean, Damaged(6, 0, 3)),
        (Remove(6), durable(9), Damaged(3, 3 * size, 6)),
        (Remove(6), clean, Damaged(3, 3 * size, 6)),
        (CutFile(8, 900), clean, Damaged(6, 2 * size, 8)),
        (RemoveAll, durable(1), Missing),
        (RemoveAll, committed(1), Missing),
        (RemoveAll, nothing, Cut(0)),
    ]
}

#[test]
fn a_torn_tail_and_a_lost_write_are_cut_and_all_else_is_told_and_left_alone() {
    let (machine, held) = filled();
    let size = held[0].bytes.len() as u64;
    for (harm, opening, verdict) in verdicts(size) {
        let harmed = Machine::on(machine.disk.after(Crash::Process), &OVERRIDES);
        inflict(&harmed, &held, &harm);
        let before = logs_of(&harmed);
        let context = format!("{harm:?} and {opening:?}");
        match (try_open(&harmed, opening), verdict) {
            (Ok(log), Cut(kept)) => {
                assert!(contents(&log) == held[..kept], "{context}");
                log.flush().unwrap();
                let again = Machine::on(harmed.disk.after(Crash::Power { seed: 3 }), &OVERRIDES);
                assert!(contents(&again.open_unclean()) == held[..kept], "{context}, again");
            }
            (Err(OpenError::Damaged(damage)), Damaged(base, position, offset)) => {
                let found = (damage.file.clone(), damage.position, damage.offset);
                assert_eq!(
                    found,
                    (log_file(base), position, Offset(offset)),
                    "{context}: {damage}"
                );
                assert!(logs_of(&harmed) == before, "{context}");
            }
            (Err(OpenError::Damaged(Damage { file, .. })), Missing) => {
                assert_eq!(file, Path::new(DIR), "{context}");
                assert!(!harmed.disk.exists(Path::new(DIR)), "{context}");
            }
            (Ok(log), _) => panic!("{context}: opened with {} batches", contents(&log).len()),
            (Err(error), _) => panic!("{context}: {error}"),
        }
    }
}

#[test]
fn of_what_was_deleted_nothing_is_missed() {
    let (machine, _) = filled();
    machine.disk.remove_file(&log_file(6)).unwrap();
    let opening = Opening {
        recovery_point: Offset(9),
        high_watermark: Offset(9),
        log_start_offset: Offset(9),
        ..crate::UNKNOWN
    };
    let log = try_open(&machine, opening).unwrap();
    assert_eq!((log.log_start_offset(), log.end().offset), (Offset(9), Offset(9)));
}

/// A small log with every kind of file, closed.
fn small() -> (Machine, Vec<Stored>) {
    let machine = Machine::new(&[("segment.bytes", "400"), ("index.interval.bytes", "100")]);
    let log = machine.open_clean();
    let mut held = Vec::new();
    for n in 0..8 {
        let batch = if n % 2 == 0 { idempotent(1, n / 2, 1) } else { batch(2, 80) };
        let base = append(&log, &batch).base_offset;
        held.push(stored(&batch, base, 0));
    }
    assert!(log.segment_count() > 2);
    log.close().unwrap();
    (machine, held)
}

/// Reads as a consumer does: up to the first batch that is not what it claims to be.
fn readable(log: &Log) -> Vec<Stored> {
    let (mut found, mut next) = (Vec::new(), log.log_start_offset());
    while next < log.end().offset {
        let Ok(slice) = log.read(next, 300, log.end(), true) else { return found };
        let mut bytes = vec![0; slice.len];
        slice.file.read_at(&mut bytes, slice.position).unwrap();
        let before = next;
        for batch in ottla_record::batches(&bytes).map_while(Result::ok) {
            if batch.verify_crc().is_err() || batch.next_offset() <= next {
                return found;
            }
            next = batch.next_offset();
            let bytes = batch.as_bytes().to_vec();
            found.push(Stored { base: batch.base_offset().0, next: next.0, bytes });
        }
        if next == before {
            return found;
        }
    }
    found
}

#[test]
fn a_flipped_bit_anywhere_is_detected_located_or_does_no_harm() {
    let (machine, held) = small();
    let (mut flips, mut refused) = (0, 0);
    for (path, bytes) in crate::golden::files_of(&machine) {
        let path = Path::new("/data").join(path);
        let is_log = path.extension() == Some("log".as_ref());
        let mut offsets = Vec::new();
        if is_log {
            let mut position = 0;
            for batch in ottla_record::batches(&bytes).map(Result::unwrap) {
                offsets.extend(position..position + 8);
                position += batch.size_in_bytes();
            }
        }
        for at in 0..bytes.len() {
            for opening in [
                Opening { clean: true, recovery_point: Offset(12), ..crate::UNKNOWN },
                Opening { recovery_point: Offset(6), ..crate::UNKNOWN },
                crate::UNKNOWN,
            ] {
                let damaged = Machine::on(machine.disk.after(Crash::Process), &[]);
                damaged.disk.flip_bit(&path, at);
                flips += 1;
                let context = format!("{} at {at}, {opening:?}", path.display());
                let log = match try_open(&damaged, opening) {
                    Ok(log) => log,
                    Err(error) => {
                        assert!(is_log, "{context}: {error}");
                        refused += 1;
                        continue;
                    }
                };
                if offsets.contains(&at) && opening.recovery_point > Offset(0) {
                    // What is known to be durable is not read, and this has no checksum.
                    continue;
                }
                let found = readable(&log);
                // The leader epoch stands outside of the checksum.
                let records = |batch: &Stored| {
                    let mut bytes = batch.bytes.clone();
                    bytes[12..16].fill(0);
                    Stored { bytes, ..batch.clone() }
                };
                let found: Vec<_> = found.iter().map(records).collect();
                let true_records: Vec<_> = held.iter().map(records).collect();
                assert!(true_records.starts_with(&found), "{context}");
                assert!(is_log || found.len() == held.len(), "{context}");
            }
        }
    }
    assert!(flips > 3000 && refused > 100, "{flips} flips, {refused} refused");
}

#[test]
fn derived_files_that_are_missing_or_garbage_are_made_anew() {
    let (machine, held) = small();
    let whole = crate::golden::files_of(&machine);
    for path in whole.keys() {
        let path = Path::new("/data").join(path);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".log") || name.ends_with(".metadata") {
            continue;
        }
        for garbage in [None, Some(vec![]), Some(vec![0xff; 7]), Some(vec![0x55; 120])] {
            for clean in [true, false] {
                let damaged = Machine::on(machine.disk.after(Crash::Process), &[]);
                match &garbage {
                    None => damaged.disk.remove_file(&path).unwrap(),
                    Some(bytes) => {
                        let file = damaged.disk.open(&path, OpenMode::ReadWrite).unwrap();
                        file.set_len(0).unwrap();
                        file.write_at(&[IoSlice::new(bytes)], 0).unwrap();
                    }
                }
                let context = format!("{name}, {garbage:?}, clean: {clean}");
                let opening = Opening { clean, recovery_point: Offset(12), ..crate::UNKNOWN };
                let log = try_open(&damaged, opening).unwrap_or_else(|e| panic!("{context}: {e}"));
                assert_eq!(contents(&log), held, "{context}");
                assert_eq!(log.epoch_of(Offset(0)).map(|e| e.0), Some(0), "{context}");
                assert!(append(&log, &idempotent(1, 3, 1)).duplicate, "{context}");
                for batch in &held {
                    let at = log.offset_for_timestamp(ottla_record::Timestamp(NOW)).unwrap();
                    assert!(at.is_some_and(|at| at.offset <= Offset(batch.base)), "{context}");
                }
                log.close().unwrap();
                if name.ends_with("index") {
                    let found = read_file(&*damaged.disk, &path).unwrap();
                    assert_eq!(
                        Some(&found),
                        whole.get(path.strip_prefix("/data").unwrap()),
                        "{context}"
                    );
                }
            }
        }
    }
}
