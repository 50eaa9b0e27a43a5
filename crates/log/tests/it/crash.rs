//! What a crash leaves: at every change of the disk, of the process and of the power.

use std::path::Path;
use std::sync::Arc;

use ottla_fake::Crash;
use ottla_log::{AppendError, Log, Opening, TimestampedOffset};
use ottla_record::{BatchOptions, LeaderEpoch, Offset, RecordBatch, Timestamp};
use ottla_runtime::Disk;
use ottla_runtime::disk::OpenMode;

use crate::{
    DIR, Machine, NOW, Stored, append, batch, batch_with, contents, idempotent, stored, try_append,
};

const OVERRIDES: [(&str, &str); 4] = [
    ("segment.bytes", "400"),
    ("index.interval.bytes", "100"),
    ("retention.bytes", "1200"),
    ("retention.ms", "-1"),
];

/// What a run was told by its log until it failed.
struct Told {
    appended: Vec<Stored>,
    recovery_point: Offset,
    /// The last batch of the one idempotent producer.
    last_sequence: i32,
    epoch: i32,
    /// The log start offset. What lies below may come back, if the disk failed to remove it.
    start: Offset,
}

impl Told {
    fn nothing() -> Self {
        Self {
            appended: Vec::new(),
            recovery_point: Offset::ZERO,
            last_sequence: -1,
            epoch: 0,
            start: Offset::ZERO,
        }
    }
}

enum Step {
    Plain(usize, usize),
    Idempotent,
    Flush,
    Retain,
    /// To stop and to start again.
    Restart,
    Epoch(i32),
}

fn script() -> Vec<Step> {
    let mut steps = Vec::new();
    for n in 0..30 {
        steps.push(Step::Plain(1 + n % 3, n * 29 % 90));
        steps.push(Step::Idempotent);
        match n % 10 {
            0 | 2 | 5 | 7 => steps.push(Step::Flush),
            4 => steps.push(Step::Retain),
            6 => steps.push(Step::Epoch(n as i32)),
            9 => steps.push(Step::Restart),
            _ => {}
        }
    }
    steps
}

/// Does one step. What it appends, it notes in `told`.
fn take(
    step: &Step,
    machine: &Machine,
    log: &mut Arc<Log>,
    told: &mut Told,
) -> Result<(), AppendError> {
    match *step {
        Step::Plain(count, size) => {
            let timed = timed(told.appended.len() as i64, count, size);
            keep(log, &timed, told.epoch, told)?;
        }
        Step::Idempotent => {
            keep(log, &idempotent(1, told.last_sequence + 1, 1), told.epoch, told)?;
            told.last_sequence += 1;
        }
        Step::Flush => log.flush()?,
        Step::Retain => drop(log.delete_old_segments(log.end().offset)?),
        Step::Restart => {
            log.close()?;
            told.recovery_point = log.recovery_point();
            *log = machine.open(Opening { clean: true, ..opening(told) })?;
        }
        Step::Epoch(epoch) => {
            told.epoch = epoch;
            log.begin_epoch(LeaderEpoch(epoch))?;
        }
    }
    told.recovery_point = log.recovery_point();
    told.start = told.start.max(log.log_start_offset());
    Ok(())
}

/// Runs the script until the disk fails.
fn run(machine: &Machine, told: &mut Told) -> Result<(), AppendError> {
    let mut log = machine.open(opening(told))?;
    script().iter().try_for_each(|step| take(step, machine, &mut log, told))
}

/// A batch of the time `n`.
fn timed(n: i64, count: usize, size: usize) -> Vec<u8> {
    batch_with(BatchOptions::default(), &vec![NOW + n; count], size)
}

fn keep(log: &Arc<Log>, batch: &[u8], epoch: i32, told: &mut Told) -> Result<(), AppendError> {
    let appended = try_append(log, batch, epoch)?;
    assert!(!appended.duplicate, "a batch was stored whose append had failed");
    told.appended.push(stored(batch, appended.base_offset, epoch));
    Ok(())
}

/// What the checkpoints say after a crash, if they were written at the last moment.
fn opening(told: &Told) -> Opening {
    Opening { recovery_point: told.recovery_point, ..crate::UNKNOWN }
}

/// Opens the log after a crash and compares it with what was told. Returns it.
#[track_caller]
fn check(machine: &Machine, told: &Told, is_whole: bool, context: &str) -> Arc<Log> {
    let log = machine.open(opening(told)).unwrap_or_else(|e| panic!("{context}: {e}"));
    let found = contents(&log);
    let first = told.appended.iter().position(|b| b.base == log.log_start_offset().0);
    // Where nothing is left, or nothing was before, there is nothing to find.
    let expected = first.map_or(&[][..], |first| &told.appended[first..]);
    let kept =
        expected.get(..found.len()).unwrap_or_else(|| panic!("{context}: more than was told"));
    assert_eq!(found, kept, "{context}");
    assert!(!is_whole || kept.len() == expected.len(), "{context}: lost without a power cut");
    let end = log.end().offset;
    assert!(end >= told.recovery_point, "{context}: {end} < {}", told.recovery_point);
    for held in found.iter().filter(|held| held.base >= told.start.0) {
        let epoch = i32::from_be_bytes([12, 13, 14, 15].map(|at| held.bytes[at]));
        assert_eq!(log.epoch_of(Offset(held.base)), Some(LeaderEpoch(epoch)), "{context}");
    }
    check_times(&log, &found, context);
    if is_whole && told.last_sequence >= 0 && first.is_some() {
        let again = append(&log, &idempotent(1, told.last_sequence, 1));
        assert!(again.duplicate, "{context}: a retry was stored twice");
    }
    log
}

/// The indexes of time know all batches.
#[track_caller]
fn check_times(log: &Arc<Log>, found: &[Stored], context: &str) {
    let time = |held: &Stored| {
        let max = RecordBatch::parse(&held.bytes).unwrap().0.max_timestamp();
        TimestampedOffset { timestamp: max, offset: Offset(held.base) }
    };
    let first_at =
        |timestamp: Timestamp| found.iter().map(time).find(|held| held.timestamp >= timestamp);
    let max = found.iter().map(|held| time(held).timestamp).max();
    assert_eq!(log.offset_of_max_timestamp().unwrap(), max.and_then(first_at), "{context}");
    for held in found.iter().map(time) {
        let expected = first_at(held.timestamp);
        assert_eq!(log.offset_for_timestamp(held.timestamp).unwrap(), expected, "{context}");
    }
}

/// The log goes on, is closed, and is found as it was left.
#[track_caller]
fn check_goes_on(machine: &Machine, log: Arc<Log>, context: &str) {
    let mut expected = contents(&log);
    for n in 0..6 {
        let batch = batch(1 + n % 3, 50);
        let appended = try_append(&log, &batch, 50).unwrap();
        expected.push(stored(&batch, appended.base_offset, 50));
    }
    let start = log.log_start_offset();
    log.close().unwrap();
    let (recovery_point, log_start_offset) = (log.recovery_point(), start);
    let log = machine
        .open(Opening { clean: true, recovery_point, log_start_offset, ..crate::UNKNOWN })
        .unwrap();
    assert_eq!(contents(&log), expected, "{context}");
}

/// The log goes on and the power fails again: what the first cut took does not come back.
#[track_caller]
fn check_second_cut(machine: &Machine, log: &Arc<Log>, seed: u64, context: &str) {
    let mut told = Told { appended: contents(log), ..Told::nothing() };
    told.recovery_point = log.recovery_point();
    for n in 0..5 {
        keep(log, &timed(1000 + n, 1, 60), 40, &mut told).unwrap();
    }
    for seed in [seed, seed + 1] {
        let cut = after(machine, Crash::Power { seed });
        check(&cut, &told, false, &format!("{context}, and again with {seed}"));
    }
}

fn after(machine: &Machine, crash: Crash) -> Machine {
    Machine::on(machine.disk.after(crash), &OVERRIDES)
}

/// A machine whose disk failed after so many changes; `None` if the script ended before that.
fn failed_after(changes: u64) -> Option<(Machine, Told)> {
    let machine = Machine::new(&OVERRIDES);
    machine.disk.fail_after(changes);
    let mut told = Told::nothing();
    run(&machine, &mut told).is_err().then_some((machine, told))
}

#[test]
fn a_crash_at_any_change_of_the_disk_loses_nothing_that_is_not_lost_with_the_power() {
    let mut changes = 0;
    while let Some((machine, told)) = failed_after(changes) {
        let context = format!("after {changes} changes");
        let alive = after(&machine, Crash::Process);
        let log = check(&alive, &told, true, &context);
        check_goes_on(&alive, log, &context);
        for n in 0..3 {
            let seed = changes * 1000 + n;
            let context = format!("after {changes} changes, seed {seed}");
            let cut = after(&machine, Crash::Power { seed });
            let log = check(&cut, &told, false, &context);
            check_second_cut(&cut, &log, seed, &context);
            check_goes_on(&cut, log, &context);
        }
        changes += 1;
    }
    assert!(changes > 200, "the script changes the disk {changes} times only");
}

#[test]
fn a_change_that_the_disk_refuses_once_neither_loses_nor_doubles_anything() {
    for changes in 0.. {
        let machine = Machine::new(&OVERRIDES);
        let mut told = Told::nothing();
        let mut log = machine.open_clean();
        machine.disk.fail_after(changes);
        let mut refused = 0;
        for step in script() {
            while take(&step, &machine, &mut log, &mut told).is_err() {
                machine.disk.heal();
                refused += 1;
                if refused > 1 {
                    // What could not be synced, or was closed half way, must be opened again.
                    log = machine.open(opening(&told)).unwrap();
                }
            }
        }
        machine.disk.heal();
        let context = format!("change {changes} refused");
        drop(check(&after(&machine, Crash::Process), &told, true, &context));
        let first = log.log_start_offset().0;
        told.appended.retain(|held| held.base >= first);
        assert_eq!(contents(&log), told.appended, "{context}");
        check_goes_on(&machine, log, &context);
        if refused == 0 {
            break;
        }
    }
}

#[test]
fn a_crash_during_recovery_makes_nothing_worse() {
    for changes in (0..).step_by(17) {
        let Some((machine, told)) = failed_after(changes) else { break };
        for (n, first) in [Crash::Process, Crash::Power { seed: changes }].into_iter().enumerate() {
            for more in 0.. {
                let context = format!("after {changes} changes, crash {first:?}, {more} more");
                let recovering = after(&machine, first);
                recovering.disk.fail_after(more);
                let recovered = recovering.open(opening(&told)).is_ok();
                let alive = after(&recovering, Crash::Process);
                check(&alive, &told, n == 0, &context);
                let cut = after(&recovering, Crash::Power { seed: more });
                let log = check(&cut, &told, false, &context);
                check_goes_on(&cut, log, &context);
                if recovered {
                    break;
                }
            }
        }
    }
}

/// A log whose segment ends in a batch, and the batches before that.
fn with_tail() -> (Machine, Vec<Stored>, Vec<u8>, u64) {
    let machine = Machine::new(&OVERRIDES);
    let log = machine.open_clean();
    let mut told = Told::nothing();
    for n in 0..4 {
        keep(&log, &batch(1 + n, 5), 0, &mut told).unwrap();
    }
    let end = log.end();
    let last = stored(&batch(2, 20), end.offset, 0).bytes;
    (machine, told.appended, last, end.position)
}

fn active_path(log: &Arc<Log>) -> std::path::PathBuf {
    Path::new(DIR).join(format!("{:020}.log", log.end().segment.0))
}

#[test]
fn a_torn_tail_is_cut_at_any_byte_and_the_log_goes_on() {
    let (machine, whole, last, position) = with_tail();
    let path = active_path(&machine.open_unclean());
    for torn in 0..=last.len() {
        for garbage in [&b""[..], &[0; 100], &[0xff; 100]] {
            let machine = after(&machine, Crash::Process);
            let file = machine.disk.open(&path, OpenMode::ReadWrite).unwrap();
            let parts = [&last[..torn], garbage].map(std::io::IoSlice::new);
            file.write_at(&parts, position).unwrap();
            let log = machine.open_unclean();
            // The last bytes of a batch may be zeros themselves.
            let is_whole = [&last[..torn], garbage].concat().starts_with(&last);
            let kept = whole.len() + usize::from(is_whole);
            let found = contents(&log);
            assert_eq!((&found[..whole.len()], found.len()), (&whole[..], kept), "{torn} bytes");
            check_goes_on(&machine, log, &format!("{torn} bytes"));
        }
    }
}

#[test]
fn a_flipped_bit_of_the_last_batch_cuts_it() {
    let (machine, whole, last, position) = with_tail();
    let path = active_path(&machine.open_unclean());
    for at in 0..last.len() {
        // The epoch of the leader stands outside of the checksum.
        if (12..16).contains(&at) {
            continue;
        }
        let machine = after(&machine, Crash::Process);
        let file = machine.disk.open(&path, OpenMode::ReadWrite).unwrap();
        file.write_at(&[std::io::IoSlice::new(&last)], position).unwrap();
        machine.disk.flip_bit(&path, position as usize + at);
        match machine.open(crate::UNKNOWN) {
            Ok(log) => assert_eq!(contents(&log), whole, "byte {at}"),
            // The batch is whole and its offset is not that which follows: no crash does that.
            Err(error) => assert!(at < 8, "byte {at}: {error}"),
        }
    }
}

#[test]
fn damage_of_what_was_known_to_be_durable_is_told_and_left_alone() {
    let machine = Machine::new(&OVERRIDES);
    let log = machine.open_clean();
    for _ in 0..2 {
        append(&log, &batch(1, 30));
    }
    log.flush().unwrap();
    let recovery_point = log.recovery_point();
    append(&log, &batch(1, 30));
    let (path, size) = (active_path(&log), log.end().position);
    let second = batch(1, 30).len();
    machine.disk.flip_bit(&path, second + 16);
    let clean = Opening { recovery_point, ..crate::UNKNOWN };
    let refused = machine.open(clean).err().unwrap();
    let named = format!(
        "{} is damaged at byte {second} (offset 1): record batch has magic 3, not 2, where all was \
         known to be on the disk; run `ottla log verify {DIR}`, and then `ottla log repair {DIR}` \
         or move the directory away",
        path.display(),
    );
    assert_eq!(refused.to_string(), named);
    assert_eq!(machine.disk.open(&path, OpenMode::Read).unwrap().len().unwrap(), size);
}

#[test]
fn segments_behind_a_lost_tail_go_too() {
    let machine = Machine::new(&OVERRIDES);
    let log = machine.open_clean();
    let mut told = Told::nothing();
    (0..12).for_each(|n| keep(&log, &idempotent(1, n, 1), 0, &mut told).unwrap());
    assert_eq!(log.segment_count(), 3);
    // The first segment lost its last batch, whole: nothing is torn.
    let path = Path::new(DIR).join(format!("{:020}.log", 0));
    let file = machine.disk.open(&path, OpenMode::ReadWrite).unwrap();
    file.set_len(file.len().unwrap() - told.appended[0].bytes.len() as u64).unwrap();
    let log = machine.open_unclean();
    let found = contents(&log);
    assert_eq!(found, told.appended[..found.len()]);
    assert_eq!((found.len(), log.segment_count()), (3, 1));
    // The producers are those of what is left.
    assert!(append(&log, &idempotent(1, 2, 1)).duplicate);
    assert!(!append(&log, &idempotent(1, 3, 1)).duplicate);
}

#[test]
fn what_was_cut_does_not_come_back_with_the_next_power_cut() {
    let before = Machine::new(&[]);
    let log = before.open_clean();
    let mut told = Told::nothing();
    (0..3).for_each(|n| keep(&log, &timed(n, 1, 1500), 0, &mut told).unwrap());
    let size = told.appended[0].bytes.len();
    for seed in 0..50 {
        let machine = Machine::on(before.disk.after(Crash::Process), &[]);
        // The disk lost the first sectors of the second batch.
        let file = machine.disk.open(&active_path(&log), OpenMode::ReadWrite).unwrap();
        file.write_at(&[std::io::IoSlice::new(&vec![0; 2048 - size])], size as u64).unwrap();
        let log = machine.open_unclean();
        // As long as the batch that was damaged: the one behind that would follow on it.
        let mut told = Told { appended: contents(&log), ..Told::nothing() };
        keep(&log, &timed(7, 1, 1500), 0, &mut told).unwrap();
        assert_eq!(told.appended.len(), 2);
        let cut = Machine::on(machine.disk.after(Crash::Power { seed }), &[]);
        check(&cut, &told, false, &format!("seed {seed}"));
    }
}

#[test]
fn the_producers_of_a_log_end_that_was_cut_do_not_come_back() {
    let before = Machine::new(&OVERRIDES);
    let log = before.open_clean();
    for n in 0..3 {
        append(&log, &idempotent(1, n, 1));
    }
    log.close().unwrap();
    let path = active_path(&log);
    let mut grown = 0;
    for seed in 0..50 {
        let machine = after(&before, Crash::Process);
        let file = machine.disk.open(&path, OpenMode::ReadWrite).unwrap();
        file.set_len(file.len().unwrap() - 1).unwrap();
        file.sync_data().unwrap();
        let log = machine.open_unclean();
        assert_eq!(append(&log, &idempotent(2, 0, 1)).base_offset, Offset(2));
        let log = after(&machine, Crash::Power { seed }).open_unclean();
        if log.end().offset == Offset(3) {
            grown += 1;
            assert!(append(&log, &idempotent(2, 0, 1)).duplicate, "seed {seed}");
            assert!(!append(&log, &idempotent(1, 2, 1)).duplicate, "seed {seed}");
        }
    }
    assert!((1..50).contains(&grown), "grew in {grown} of 50");
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let machine = Machine::new(&OVERRIDES);
    let log = machine.open_clean();
    let mut told = Told::nothing();
    let mut refused = 0;
    for n in 0..60u64 {
        let space = machine.disk.space(Path::new(DIR)).unwrap();
        let used = space.total_bytes - space.usable_bytes;
        // A little more each time, so that the disk is full at every place of an append.
        machine.disk.set_capacity(used + n * 7);
        let batch = batch(1 + n as usize % 3, n as usize % 50);
        match try_append(&log, &batch, n as i32) {
            Ok(appended) => told.appended.push(stored(&batch, appended.base_offset, n as i32)),
            Err(AppendError::Io(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(contents(&log), told.appended);
        told.recovery_point = log.recovery_point();
        check(&after(&machine, Crash::Process), &told, true, &format!("append {n}"));
    }
    assert!(refused > 10 && told.appended.len() > 10, "{refused} of 60 refused");
    machine.disk.set_capacity(1 << 20);
    check_goes_on(&machine, log, "with room again");
}

#[test]
fn what_a_failed_write_left_is_never_taken_for_a_batch() {
    let machine = Machine::new(&OVERRIDES);
    let log = machine.open_clean();
    append(&log, &batch(1, 10));
    // A client that means harm sends, as a value, a batch that would be the next but one.
    let hidden = stored(&batch(1, 10), Offset(2), 0).bytes;
    let short = batch(1, 10);
    let harm = {
        let mut builder = ottla_record::BatchBuilder::new(Default::default());
        let head = 61 + 7;
        let mut value = vec![0; short.len() - head];
        value.extend_from_slice(&hidden);
        value.resize(value.len() + 100, 0);
        builder.append(ottla_record::Timestamp(NOW), None, Some(&value), &[]);
        builder.build()
    };
    let at = harm.windows(hidden.len()).position(|window| window == hidden).unwrap();
    let padding = short.len() as i64 - at as i64;
    let short = batch(1, (10 - padding) as usize);
    assert_eq!(short.len(), at, "the next batch ends where the hidden one begins");
    let space = machine.disk.space(Path::new(DIR)).unwrap();
    let used = space.total_bytes - space.usable_bytes;
    machine.disk.set_capacity(used + harm.len() as u64 - 1);
    assert!(try_append(&log, &harm, 0).is_err());
    assert_eq!(append(&log, &short).base_offset, Offset(1));
    for clean in [false, true] {
        if clean {
            machine.disk.set_capacity(1 << 20);
            log.close().unwrap();
        }
        let found = after(&machine, Crash::Process);
        let opening = Opening { clean, ..crate::UNKNOWN };
        assert_eq!(found.open(opening).unwrap().end().offset, Offset(2), "clean: {clean}");
    }
}

#[test]
fn a_failed_sync_is_not_forgotten() {
    let machine = Machine::new(&OVERRIDES);
    let log = machine.open_clean();
    append(&log, &batch(1, 10));
    log.flush().unwrap();
    append(&log, &batch(1, 10));
    machine.disk.fail_after(0);
    assert!(log.flush().is_err());
    machine.disk.heal();
    assert!(log.failure().is_some());
    assert!(log.flush().is_err());
    assert!(try_append(&log, &batch(1, 10), 0).is_err());
    assert_eq!(log.recovery_point(), Offset(1));
    assert_eq!(machine.open_unclean().end().offset, Offset(2));
}

#[test]
fn a_power_cut_makes_no_hole_in_a_compacted_log() {
    let overrides = [("segment.bytes", "400"), ("cleanup.policy", "compact")];
    for seed in 0..200 {
        let machine = Machine::new(&overrides);
        let log = machine.open_clean();
        let mut written = Vec::new();
        for _ in 0..10 {
            let batch = batch(2, 40);
            let appended = append(&log, &batch);
            written.push(stored(&batch, appended.base_offset, 0));
        }
        assert!(log.segment_count() > 3);
        let found = Machine::on(machine.disk.after(Crash::Power { seed }), &overrides);
        let found = contents(&found.open_unclean());
        assert_eq!(found[..], written[..found.len()], "seed {seed}");
    }
}
