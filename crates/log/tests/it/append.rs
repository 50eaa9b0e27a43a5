//! Appending, rolling and reading by offset; what a restart keeps.

use std::path::Path;
use std::sync::Arc;

use ottla_log::{AppendError, Log, LogPosition, Opening, ReadError};
use ottla_record::{BatchOptions, HEADER_BYTES, LeaderEpoch, Offset, Timestamp};
use ottla_runtime::Disk;
use ottla_runtime::disk::{OpenMode, read_file};

use crate::{
    DIR, Machine, NOW, Stored, UNKNOWN, append, batch, batch_with, config, contents, idempotent,
    stored, try_append,
};

fn fill(log: &Arc<Log>, batches: &[Vec<u8>]) -> Vec<Stored> {
    batches.iter().map(|batch| stored(batch, append(log, batch).base_offset, 0)).collect()
}

fn bases(log: &Arc<Log>) -> Vec<i64> {
    let mut bases: Vec<i64> = Vec::new();
    for offset in log.log_start_offset().0..log.end().offset.0 {
        let slice = log.read(Offset(offset), 1, log.end(), false).unwrap();
        if slice.position == 0 && !bases.contains(&offset) {
            let mut base = [0; 8];
            slice.file.read_at(&mut base, 0).unwrap();
            let base = i64::from_be_bytes(base);
            if bases.last() != Some(&base) {
                bases.push(base);
            }
        }
    }
    bases
}

#[test]
fn every_offset_reads_its_batch_and_no_other_can_be_read() {
    let machine = Machine::new(&[("segment.bytes", "700"), ("index.interval.bytes", "100")]);
    let log = machine.open_clean();
    let batches: Vec<_> = (0..30).map(|n| batch(1 + n % 4, n * 7 % 60)).collect();
    let model = fill(&log, &batches);
    assert!(log.segment_count() > 3);
    let end = log.end();
    assert_eq!(end.offset.0, model.last().unwrap().next);
    for held in &model {
        for offset in held.base..held.next {
            let slice = log.read(Offset(offset), 1, end, true).unwrap();
            let mut bytes = vec![0; slice.len];
            slice.file.read_at(&mut bytes, slice.position).unwrap();
            assert_eq!(bytes, held.bytes, "offset {offset}");
        }
    }
    assert_eq!(log.read(end.offset, 1000, end, true).unwrap().len, 0);
    for offset in [Offset(-1), end.offset + 1] {
        let refused = log.read(offset, 1000, end, true);
        assert!(matches!(
            refused,
            Err(ReadError::OutOfRange { start: Offset(0), end: e }) if e == end.offset
        ));
    }
    assert_eq!(contents(&log), model);
}

#[test]
fn a_read_ends_at_its_limit() {
    let machine = Machine::new(&[("segment.bytes", "700")]);
    let log = machine.open_clean();
    let mut limits = vec![log.end()];
    let mut model = Vec::new();
    for n in 0..20 {
        let batch = batch(1 + n % 3, 40);
        let appended = append(&log, &batch);
        model.push(stored(&batch, appended.base_offset, 0));
        limits.push(appended.end);
    }
    for (count, &limit) in limits.iter().enumerate() {
        let mut next = Offset(0);
        let mut found = Vec::new();
        while next < limit.offset {
            let slice = log.read(next, 10_000, limit, false).unwrap();
            let mut bytes = vec![0; slice.len];
            slice.file.read_at(&mut bytes, slice.position).unwrap();
            for batch in ottla_record::batches(&bytes) {
                next = batch.unwrap().next_offset();
                found.push(next.0);
            }
        }
        let expected: Vec<i64> = model[..count].iter().map(|held| held.next).collect();
        assert_eq!(found, expected);
        assert_eq!(log.read(limit.offset, 10_000, limit, true).unwrap().len, 0);
    }
}

#[test]
fn a_read_of_limited_size_ends_at_an_indexed_batch_and_may_have_its_first_whole() {
    let machine = Machine::new(&[("index.interval.bytes", "0")]);
    let log = machine.open_clean();
    let sizes: Vec<usize> = [10, 2000, 10, 10, 10]
        .into_iter()
        .map(|size| {
            let batch = batch(1, size);
            append(&log, &batch);
            batch.len()
        })
        .collect();
    let len = |offset, bytes_max, whole_first| {
        log.read(Offset(offset), bytes_max, log.end(), whole_first).unwrap().len
    };
    let total: usize = sizes.iter().sum();
    assert_eq!(len(0, total, false), total);
    // The batch that does not fit is left out, all but whole as it is.
    assert_eq!(len(0, total - 1, false), total - sizes[4]);
    assert_eq!(len(0, sizes[0] + sizes[1] - 1, false), sizes[0]);
    // A first batch that does not fit is cut, or comes whole and alone.
    assert_eq!(len(1, 100, false), 100);
    assert_eq!(len(1, 100, true), sizes[1]);
    assert_eq!(len(1, 0, false), 0);
    assert_eq!(len(1, 0, true), sizes[1]);
}

#[test]
fn a_segment_is_closed_when_the_batch_does_not_fit() {
    let size = batch(1, 100).len();
    let machine = Machine::new(&[("segment.bytes", &(3 * size).to_string())]);
    let log = machine.open_clean();
    for n in 0..7 {
        append(&log, &batch(1, 100));
        assert_eq!(log.segment_count(), 1 + n / 3, "after {} batches", n + 1);
    }
    assert_eq!(bases(&log), [0, 3, 6]);
    let larger = batch(1, 500);
    let refused = try_append(&log, &larger, 0).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!("batch of {} bytes is larger than segment.bytes ({})", larger.len(), 3 * size)
    );
}

#[test]
fn a_segment_is_closed_by_the_time_between_its_batches() {
    let machine = Machine::new(&[("segment.ms", "1000")]);
    let log = machine.open_clean();
    let at = |ms: i64| batch_with(BatchOptions::default(), &[ms], 10);
    append(&log, &at(NOW));
    append(&log, &at(NOW + 1000));
    assert_eq!(log.segment_count(), 1);
    append(&log, &at(NOW + 1001));
    assert_eq!(log.segment_count(), 2);
    // From the first batch on, whatever the clock says.
    machine.clock.advance(10_000);
    append(&log, &at(NOW + 1002));
    append(&log, &at(NOW - 5000));
    append(&log, &at(-1));
    assert_eq!(log.segment_count(), 2);
    log.close().unwrap();
    let log = machine.open_clean();
    append(&log, &at(NOW + 2001));
    assert_eq!(log.segment_count(), 2);
    append(&log, &at(NOW + 2002));
    assert_eq!(log.segment_count(), 3);
}

#[test]
fn without_timestamps_the_clock_closes_a_segment() {
    let machine = Machine::new(&[("segment.ms", "1000")]);
    let log = machine.open_clean();
    let batch = batch_with(BatchOptions::default(), &[-1], 10);
    append(&log, &batch);
    machine.clock.advance(1000);
    append(&log, &batch);
    assert_eq!(log.segment_count(), 1);
    machine.clock.advance(1);
    append(&log, &batch);
    assert_eq!(log.segment_count(), 2);
}

#[test]
fn jitter_closes_a_segment_early_by_no_more_than_it_may() {
    let at = |ms: i64| batch_with(BatchOptions::default(), &[ms], 10);
    let machine = Machine::new(&[("segment.ms", "1000"), ("segment.jitter.ms", "5000")]);
    let log = machine.open_clean();
    let mut time = NOW;
    let mut lengths = Vec::new();
    append(&log, &at(time));
    for _ in 0..50 {
        let (first, count) = (time, log.segment_count());
        while log.segment_count() == count {
            time += 10;
            append(&log, &at(time));
        }
        lengths.push(time - first);
    }
    assert!(lengths.iter().all(|length| (10..=1010).contains(length)), "{lengths:?}");
    assert!(lengths.iter().any(|&length| length < 500), "{lengths:?}");
}

#[test]
fn a_full_index_closes_its_segment() {
    // Three entries of the time index, of which one is kept for the end; five of the offset index.
    let machine = Machine::new(&[("segment.index.bytes", "40"), ("index.interval.bytes", "0")]);
    let log = machine.open_clean();
    for n in 0..7 {
        append(&log, &batch_with(BatchOptions::default(), &[NOW + n], 10));
    }
    assert_eq!(bases(&log), [0, 3, 6]);
    // Without new timestamps the offset index fills alone.
    let machine = Machine::new(&[("segment.index.bytes", "40"), ("index.interval.bytes", "0")]);
    let log = machine.open_clean();
    for _ in 0..13 {
        append(&log, &batch(1, 10));
    }
    assert_eq!(bases(&log), [0, 6, 12]);
}

#[test]
fn an_index_entry_has_the_last_offset_of_a_batch_behind_more_than_the_interval() {
    let size = batch(2, 10).len() as u64;
    let machine = Machine::new(&[("index.interval.bytes", &(2 * size).to_string())]);
    let log = machine.open_clean();
    for n in 0..8 {
        append(&log, &batch_with(BatchOptions::default(), &[NOW + 10 * n, NOW - 1], 10));
    }
    log.close().unwrap();
    let entries = |suffix: &str, size: usize| -> Vec<Vec<u8>> {
        let path = Path::new(DIR).join(format!("{:020}.{suffix}", 0));
        read_file(&*machine.disk, &path).unwrap().chunks(size).map(<[u8]>::to_vec).collect()
    };
    let entry = |offset: u32, position: u64| {
        [offset.to_be_bytes(), (position as u32).to_be_bytes()].concat()
    };
    assert_eq!(entries("index", 8), [entry(7, 3 * size), entry(13, 6 * size)]);
    let entry = |timestamp: i64, offset: u32| {
        [&timestamp.to_be_bytes()[..], &offset.to_be_bytes()].concat()
    };
    let expected = [entry(NOW + 30, 7), entry(NOW + 60, 13), entry(NOW + 70, 15)];
    assert_eq!(entries("timeindex", 12), expected);
}

#[test]
fn a_clean_stop_keeps_everything_and_needs_no_scan() {
    let machine = Machine::new(&[("segment.bytes", "700"), ("index.interval.bytes", "100")]);
    let log = machine.open_clean();
    let mut model = fill(&log, &(0..20).map(|n| batch(1 + n % 4, 30)).collect::<Vec<_>>());
    let max = log.offset_of_max_timestamp().unwrap();
    log.close().unwrap();
    let refused = try_append(&log, &batch(1, 1), 0).unwrap_err();
    assert!(matches!(refused, AppendError::Io(_)), "{refused}");
    // A scan would end at the flipped bit.
    machine.disk.flip_bit(Path::new(DIR).join(format!("{:020}.log", 0)), 100);
    let log = machine.open_clean();
    machine.disk.flip_bit(Path::new(DIR).join(format!("{:020}.log", 0)), 100);
    assert_eq!(log.recovery_point(), log.end().offset);
    assert_eq!(log.offset_of_max_timestamp().unwrap(), max);
    assert_eq!(contents(&log), model);
    model.extend(fill(&log, &[batch(3, 50), batch(1, 50)]));
    assert_eq!(contents(&log), model);
}

#[test]
fn a_stopped_process_loses_nothing() {
    let machine = Machine::new(&[("segment.bytes", "700"), ("index.interval.bytes", "100")]);
    let log = machine.open_clean();
    let model = fill(&log, &(0..20).map(|n| batch(1 + n % 4, 30)).collect::<Vec<_>>());
    let max = log.offset_of_max_timestamp().unwrap();
    let log = machine.open_unclean();
    assert_eq!(contents(&log), model);
    assert_eq!(log.offset_of_max_timestamp().unwrap(), max);
    // And again, from indexes that were built anew.
    log.close().unwrap();
    let log = machine.open_clean();
    assert_eq!(contents(&log), model);
    assert_eq!(log.offset_of_max_timestamp().unwrap(), max);
}

#[test]
fn a_missing_or_impossible_index_is_built_anew() {
    let overrides = [("segment.bytes", "700"), ("index.interval.bytes", "100")];
    let machine = Machine::new(&overrides);
    let log = machine.open_clean();
    let model = fill(&log, &(0..20).map(|n| batch(1 + n % 4, 30)).collect::<Vec<_>>());
    log.close().unwrap();
    let path = |suffix: &str| Path::new(DIR).join(format!("{:020}.{suffix}", 0));
    let good =
        ["index", "timeindex"].map(|suffix| read_file(&*machine.disk, &path(suffix)).unwrap());
    let overwrite = |bytes: &[u8]| {
        let file = machine.disk.open(&path("index"), OpenMode::ReadWrite).unwrap();
        file.set_len(0).unwrap();
        file.write_at(&[std::io::IoSlice::new(bytes)], 0).unwrap();
    };
    let breakages: [&dyn Fn(); 4] = [
        &|| machine.disk.remove_file(&path("index")).unwrap(),
        &|| machine.disk.remove_file(&path("timeindex")).unwrap(),
        &|| overwrite(&good[0][..5]),
        &|| overwrite(&[0, 0, 0, 1, 0, 1, 0, 0]),
    ];
    for (n, breakage) in breakages.iter().enumerate() {
        breakage();
        let log = machine.open_clean();
        assert_eq!(contents(&log), model, "breakage {n}");
        log.close().unwrap();
        let built =
            ["index", "timeindex"].map(|suffix| read_file(&*machine.disk, &path(suffix)).unwrap());
        assert_eq!(built, good, "breakage {n}");
    }
}

#[test]
fn retries_are_known_again_after_a_restart() {
    for clean in [true, false] {
        let machine = Machine::new(&[("segment.bytes", "400")]);
        let log = machine.open_clean();
        for n in 0..10 {
            append(&log, &idempotent(1, n * 2, 2));
            append(&log, &idempotent(2, n, 1));
        }
        assert_eq!(log.producer_count(), 2);
        if clean {
            log.close().unwrap();
        }
        let log = machine.open(Opening { clean, ..UNKNOWN }).unwrap();
        let again = append(&log, &idempotent(1, 18, 2));
        assert_eq!((again.base_offset, again.duplicate), (Offset(27), true), "clean: {clean}");
        let again = append(&log, &idempotent(2, 9, 1));
        assert_eq!((again.base_offset, again.duplicate), (Offset(29), true), "clean: {clean}");
        let refused = try_append(&log, &idempotent(2, 11, 1), 0).unwrap_err();
        assert_eq!(refused.to_string(), "sequence 11 does not follow: 10 is expected");
        assert!(!append(&log, &idempotent(2, 10, 1)).duplicate);
        assert_eq!(log.end().offset, Offset(31));
    }
}

#[test]
fn snapshots_are_kept_at_segment_bases_and_at_the_last_stop() {
    let machine = Machine::new(&[("segment.bytes", "200")]);
    let snapshots = || -> Vec<String> {
        let entries = machine.disk.read_dir(Path::new(DIR)).unwrap();
        entries.into_iter().map(|e| e.name).filter(|n| n.ends_with("snapshot")).collect()
    };
    let name = |offset: i64| format!("{offset:020}.snapshot");
    let log = machine.open_clean();
    log.close().unwrap();
    assert_eq!(snapshots(), Vec::<String>::new(), "nothing was written yet");
    for n in 0..3 {
        let log = machine.open_clean();
        append(&log, &idempotent(1, n, 1));
        log.close().unwrap();
    }
    // Two batches make a segment; that of offset 1 went when the log was opened again.
    assert_eq!(snapshots(), [name(2), name(3)]);
    machine.disk.flip_bit(Path::new(DIR).join(name(3)), 20);
    let log = machine.open_clean();
    assert!(append(&log, &idempotent(1, 2, 1)).duplicate);
    assert_eq!(snapshots(), [name(2)], "a damaged one goes");
    append(&log, &idempotent(1, 3, 1));
    log.close().unwrap();
    assert_eq!(snapshots(), [name(2), name(4)]);
}

#[test]
fn epochs_tell_where_they_end_also_after_a_restart() {
    let machine = Machine::new(&[]);
    let mut log = machine.open_clean();
    log.begin_epoch(LeaderEpoch(0)).unwrap();
    append(&log, &batch(5, 10));
    try_append(&log, &batch(3, 10), 2).unwrap();
    log.begin_epoch(LeaderEpoch(4)).unwrap();
    let end = |log: &Arc<Log>, epoch| log.end_of_epoch(LeaderEpoch(epoch)).map(|(e, o)| (e.0, o.0));
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch(4)));
    assert_eq!(
        [0, 1, 2, 3, 4, 5].map(|epoch| end(&log, epoch)),
        [Some((0, 5)), Some((0, 5)), Some((2, 8)), Some((2, 8)), Some((4, 8)), None]
    );
    for _ in 0..2 {
        // An epoch without a record is forgotten, as in Kafka: its leader begins anew.
        log = machine.open_unclean();
        assert_eq!(log.latest_epoch(), Some(LeaderEpoch(2)));
        assert_eq!(
            [0, 4, 5, 7].map(|offset| log.epoch_of(Offset(offset)).unwrap().0),
            [0, 0, 2, 2]
        );
        // Of a lost file, the batches tell as much.
        log.flush().unwrap();
        machine.disk.remove_file(&Path::new(DIR).join("leader-epoch-checkpoint")).unwrap();
    }
    let appended = try_append(&log, &batch(1, 10), 4).unwrap();
    assert_eq!(log.epoch_of(appended.base_offset), Some(LeaderEpoch(4)));
    assert_eq!(end(&log, 2), Some((2, 8)));
}

#[test]
fn the_leaders_stamp_is_returned_and_kept_for_retries() {
    let machine = Machine::new(&[]);
    let log = machine.open_clean();
    let stamped =
        BatchOptions { log_append_time: Some(Timestamp(NOW + 5)), ..BatchOptions::default() };
    let appended = append(&log, &batch_with(stamped, &[NOW, NOW], 10));
    assert_eq!(appended.log_append_time, Timestamp(NOW + 5));
    assert_eq!(append(&log, &batch(1, 1)).log_append_time, Timestamp::NONE);
}

#[test]
fn other_settings_hold_from_the_next_append_on() {
    let machine = Machine::new(&[]);
    let log = machine.open_clean();
    append(&log, &batch(1, 100));
    append(&log, &batch(1, 100));
    log.set_config(config(&[("segment.bytes", "300")]));
    append(&log, &batch(1, 100));
    assert_eq!(log.segment_count(), 2);
    assert_eq!(
        log.end(),
        LogPosition { offset: Offset(3), segment: Offset(2), position: batch(1, 100).len() as u64 }
    );
}

#[test]
fn records_of_a_format_before_2_are_not_taken_for_damage() {
    let machine = Machine::new(&[]);
    let log = machine.open_clean();
    append(&log, &batch(1, 100));
    let position = log.end().position;
    log.close().unwrap();
    // Offset, size, crc, magic 0, attributes, no key, no value.
    let mut legacy = [0; 26];
    legacy[7] = 1;
    legacy[11] = 14;
    legacy[18..26].fill(0xff);
    let crc = crc32(&legacy[16..]);
    legacy[12..16].copy_from_slice(&crc.to_be_bytes());
    let path = Path::new(DIR).join(format!("{:020}.log", 0));
    let file = machine.disk.open(&path, OpenMode::ReadWrite).unwrap();
    file.write_at(&[std::io::IoSlice::new(&legacy)], position).unwrap();
    let refused = machine.open(UNKNOWN).err().unwrap();
    let named = format!("{} at byte {position}: record batch has magic 0, not 2", path.display());
    assert_eq!(refused.to_string(), named);
    assert_eq!(file.len().unwrap(), position + 26);
    // With a wrong checksum they are a torn tail like any other.
    machine.disk.flip_bit(&path, position as usize + 20);
    assert_eq!(machine.open_unclean().end().offset, Offset(1));
    assert_eq!(file.len().unwrap(), position);
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

#[test]
fn a_batch_is_its_header_and_payload_and_nothing_else() {
    let machine = Machine::new(&[]);
    let log = machine.open_clean();
    let (one, empty) = (batch(1, 1), batch_with(BatchOptions::default(), &[], 0));
    assert_eq!(empty.len(), HEADER_BYTES);
    append(&log, &one);
    let path = Path::new(DIR).join(format!("{:020}.log", 0));
    assert_eq!(read_file(&*machine.disk, &path).unwrap(), stored(&one, Offset(0), 0).bytes);
}

#[test]
fn batches_that_were_in_flight_are_known_after_a_crash_also_behind_a_roll() {
    for clean in [true, false] {
        let machine = Machine::new(&[("segment.bytes", "600")]);
        let log = machine.open_clean();
        let sent: Vec<_> = (0..7).map(|n| idempotent(1, n * 2, 2)).collect();
        let bases: Vec<_> = sent.iter().map(|batch| append(&log, batch).base_offset).collect();
        assert!(log.segment_count() > 1, "the last five lie in more than one segment");
        let log = if clean {
            log.close().unwrap();
            machine.open_clean()
        } else {
            machine.open_unclean()
        };
        for (batch, base) in sent.iter().zip(&bases).skip(2) {
            let again = append(&log, batch);
            assert_eq!((again.base_offset, again.duplicate), (*base, true), "clean: {clean}");
        }
        assert!(try_append(&log, &sent[1], 0).is_err());
        assert!(!append(&log, &idempotent(1, 14, 1)).duplicate);
    }
}
