//! What an acknowledgement waits for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use ottla_fake::Crash;
use ottla_log::{FlushListener, Log, Volume};
use ottla_record::Offset;

use crate::{Machine, UNKNOWN, append, batch, contents};

fn open(machine: &Machine, volume: &Arc<Volume>, name: &str) -> Arc<Log> {
    let dir = Path::new("/data").join(name);
    Log::open(volume, &dir, machine.config.clone(), UNKNOWN).unwrap()
}

fn volume(machine: &Machine) -> Arc<Volume> {
    Volume::open(&machine.world(), Path::new("/data")).unwrap()
}

fn is_queued(volume: &Volume) -> bool {
    volume.poll_queued(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[derive(Default)]
struct Told(AtomicUsize);

impl FlushListener for Told {
    fn flushed(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn one_round_makes_all_waiting_logs_durable() {
    // Segments that roll make a round of several files, and of names.
    for (logs, segment_bytes) in [(1, "1024"), (1, "100000"), (2, "1024"), (40, "100000")] {
        let machine = Machine::new(&[("segment.bytes", segment_bytes)]);
        let volume = volume(&machine);
        let logs: Vec<_> =
            (0..logs).map(|n| open(&machine, &volume, &format!("flights-{n}"))).collect();
        let told = Arc::new(Told::default());
        logs[0].set_listener(Arc::downgrade(&told) as _);
        assert!(!is_queued(&volume));
        for log in &logs {
            for _ in 0..30 {
                let appended = append(log, &batch(1, 100));
                assert!(appended.awaits_flush);
                assert_eq!(log.flushed().offset, Offset(0));
            }
        }
        assert!(is_queued(&volume) && !is_queued(&volume));
        let round = volume.flush(0);
        assert_eq!(round.logs, logs.len());
        let bytes: u64 = logs.iter().map(|log| log.size_in_bytes()).sum();
        assert_eq!(round.bytes, bytes);
        assert_eq!(told.0.load(Ordering::Relaxed), 1);
        for seed in 0..5 {
            let disk = machine.disk.after(Crash::Power { seed });
            let after =
                Machine { disk, clock: machine.clock.clone(), config: machine.config.clone() };
            let volume = self::volume(&after);
            for n in 0..logs.len() {
                let found = contents(&open(&after, &volume, &format!("flights-{n}")));
                assert_eq!(found.len(), 30, "log {n} of {}, seed {seed}", logs.len());
            }
        }
    }
}

#[test]
fn what_is_appended_during_a_round_waits_for_the_next_one() {
    let machine = Machine::new(&[]);
    let volume = volume(&machine);
    let log = open(&machine, &volume, "flights-0");
    append(&log, &batch(1, 10));
    volume.flush(0);
    assert_eq!(log.flushed(), log.end());
    append(&log, &batch(1, 10));
    assert_eq!(log.flushed().offset, Offset(1));
    assert_eq!(volume.flush(0).logs, 1);
    assert_eq!(log.flushed(), log.end());
    assert_eq!(volume.flush(0).logs, 0);
}

#[test]
fn without_a_flush_before_the_ack_nothing_waits_but_what_kafka_flushes() {
    let machine = Machine::new(&[
        ("flush.before.ack", "false"),
        ("flush.messages", "10"),
        ("flush.ms", "500"),
        ("segment.bytes", "2048"),
    ]);
    let volume = volume(&machine);
    let log = open(&machine, &volume, "flights-0");
    assert!(!append(&log, &batch(9, 10)).awaits_flush);
    assert!(is_queued(&volume) && !is_queued(&volume));
    assert_eq!(volume.next_flush_ms(), Some(500), "flush.ms");
    assert_eq!(volume.flush(499).logs, 0);
    assert_eq!(volume.flush(500).logs, 1);
    assert_eq!(log.flushed(), log.end());
    assert_eq!(volume.next_flush_ms(), None);

    append(&log, &batch(5, 10));
    assert!(append(&log, &batch(5, 10)).awaits_flush, "flush.messages");
    assert!(is_queued(&volume));
    volume.flush(0);

    append(&log, &batch(1, 1500));
    assert_eq!(log.segment_count(), 2);
    assert!(is_queued(&volume), "a complete segment");
    volume.flush(0);
    assert_eq!(log.flushed(), log.end());
}

#[test]
fn a_round_that_fails_takes_the_directory_offline_and_tells_those_who_wait() {
    for logs in [1, 5] {
        let machine = Machine::new(&[]);
        let volume = volume(&machine);
        let logs: Vec<_> =
            (0..logs).map(|n| open(&machine, &volume, &format!("flights-{n}"))).collect();
        let told = Arc::new(Told::default());
        logs.iter().for_each(|log| log.set_listener(Arc::downgrade(&told) as _));
        for log in &logs {
            append(log, &batch(1, 10));
        }
        machine.disk.fail_after(0);
        assert_eq!(volume.flush(0).logs, 0);
        machine.disk.heal();
        assert!(volume.failure().is_some());
        assert_eq!(told.0.load(Ordering::Relaxed), logs.len());
        for log in &logs {
            assert_eq!(log.flushed().offset, Offset(0));
            crate::try_append(log, &batch(1, 10), 0).unwrap_err();
        }
    }
}

#[test]
fn what_a_crash_left_in_memory_is_flushed_before_it_counts() {
    let machine = Machine::new(&[]);
    let log = machine.open_clean();
    append(&log, &batch(3, 10));
    let disk = machine.disk.after(Crash::Process);
    let after = Machine { disk, clock: machine.clock.clone(), config: machine.config.clone() };
    let volume = volume(&after);
    let log = open(&after, &volume, "flights-0");
    assert_eq!((log.flushed().offset, log.end().offset), (Offset(0), Offset(3)));
    assert!(is_queued(&volume));
    volume.flush(0);
    assert_eq!(log.flushed(), log.end());
}
