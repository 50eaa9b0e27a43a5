//! One appender, readers, retention and flush at once, on real threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_log::{Log, ReadError};
use ottla_record::{Offset, Timestamp, batches};
use ottla_runtime::task::{Worker, block_on};

use crate::{Machine, NOW, append, batch, contents};

/// Reads until the appender is done and the end is reached. Returns how many records it saw.
fn read_on(log: &Arc<Log>, done: &AtomicBool) -> i64 {
    let mut next = log.log_start_offset();
    let mut seen = 0;
    loop {
        let was_done = done.load(Ordering::Acquire);
        let limit = log.end();
        let slice = match log.read(next, 500, limit, true) {
            Ok(slice) => slice,
            Err(ReadError::OutOfRange { start, end }) => {
                assert!(next < start, "{next} is refused, and {start} to {end} are there");
                next = start;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let mut bytes = vec![0; slice.len];
        assert_eq!(slice.file.read_at(&mut bytes, slice.position).unwrap(), slice.len);
        for batch in batches(&bytes).map_while(Result::ok) {
            batch.verify_crc().unwrap();
            assert_eq!(batch.base_offset(), next);
            assert!(batch.next_offset() <= limit.offset);
            seen += batch.next_offset() - next;
            next = batch.next_offset();
        }
        if was_done && next == log.end().offset {
            return seen;
        }
    }
}

#[test]
fn readers_see_whole_batches_in_order_while_the_log_grows_and_shrinks() {
    let overrides = [
        ("segment.bytes", "2000"),
        ("index.interval.bytes", "300"),
        ("retention.bytes", "20000"),
        ("retention.ms", "-1"),
    ];
    let machine = Machine::new(&overrides);
    let log = Arc::new(machine.open_clean());
    let done = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..4).map(|n| Worker::start(&format!("log-{n}")).unwrap()).collect();
    let readers: Vec<_> = workers[..2]
        .iter()
        .map(|worker| {
            let (log, done) = (log.clone(), done.clone());
            worker.spawner().spawn(async move { read_on(&log, &done) })
        })
        .collect();
    let upkeep = {
        let (log, done) = (log.clone(), done.clone());
        workers[2].spawner().spawn(async move {
            let mut gone = 0;
            while !done.load(Ordering::Acquire) {
                gone += log.delete_old_segments(log.end().offset).unwrap();
                log.flush().unwrap();
                log.offset_for_timestamp(Timestamp(NOW)).unwrap();
            }
            gone
        })
    };
    let appender = {
        let log = log.clone();
        workers[3].spawner().spawn(async move {
            for n in 0..3000 {
                append(&log, &batch(1 + n % 5, n % 100));
            }
        })
    };
    let (gone, seen) = block_on(async move {
        appender.await;
        done.store(true, Ordering::Release);
        let mut seen = Vec::new();
        for reader in readers {
            seen.push(reader.await);
        }
        (upkeep.await, seen)
    })
    .unwrap();
    assert_eq!(log.end().offset.0, 9000);
    assert!(gone > 0 && seen.iter().all(|&seen| seen > 0), "{gone} segments gone, {seen:?} read");
    log.close().unwrap();
    let end = log.end();
    assert_eq!(machine.open_clean().end(), end);
}

#[test]
fn a_slow_disk_holds_up_neither_appends_nor_reads() {
    let machine = Machine::new(&[]);
    let log = Arc::new(machine.open_clean());
    append(&log, &batch(1, 10));
    machine.disk.hold_syncs();
    let worker = Worker::start("log-flush").unwrap();
    let flush = {
        let log = log.clone();
        worker.spawner().spawn(async move { log.flush() })
    };
    machine.disk.wait_for_sync();
    append(&log, &batch(2, 10));
    assert_eq!(contents(&log).len(), 2);
    assert_eq!(log.recovery_point(), Offset(0));
    machine.disk.release_syncs();
    block_on(flush).unwrap().unwrap();
    // What was appended meanwhile is not covered.
    assert_eq!(log.recovery_point(), Offset(1));
}
