//! How fast a log is compacted, and what a producer beside it notices.
//!
//! Owns: a topic whose keys repeat, and when it is clean. Must not know: how a log is compacted.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ottla_record::{BatchBuilder, BatchOptions, Timestamp};

use super::producer::{Stop, Turns};
use super::requests::{log_bytes, set_topic_config};
use super::{Bench, Findings, of};
use crate::load::{create_topic, create_topic_with, record_batch};
use crate::process::Process;
use crate::wire::Connection;

const PARTITIONS: usize = 4;
const RECORD_BYTES: usize = 1024;
const BATCH_RECORDS: usize = 100;
/// Batches with keys of their own; then all of them again.
const BATCHES: usize = 125;
/// As often are all keys written.
const TIMES: usize = 20;
/// Fewer would leave little outside of the active segments.
const FEWEST_TIMES: usize = 4;
/// The active segment stays as it is.
const SEGMENT_BYTES: u64 = 16 << 20;
/// More than a record needs beside its value.
const OVERHEAD_BYTES: usize = 64;
/// Nothing changes for so long when all is clean.
const CALM: Duration = Duration::from_secs(1);
const PROBE_INTERVAL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(120);

/// Any topic is clean at most this long after it could be, beside the time that cleaning takes.
const SETTINGS: [(&str, &str); 1] = [("log.cleaner.backoff.ms", "100")];

pub(crate) fn measure(bench: &Bench<'_>) -> io::Result<Findings> {
    let mut recipes = vec![bench.ottla("Ottla", &SETTINGS)?];
    recipes.extend(bench.kafkas(&SETTINGS)?);
    let mut findings = Findings::new(recipes.iter().map(|recipe| &*recipe.name));
    for (broker, recipe) in recipes.iter().enumerate() {
        let process = of(recipe, recipe.start())?;
        of(recipe, turn(bench, &mut findings, broker, &process))?;
        drop(process);
        std::fs::remove_dir_all(&recipe.data)?;
    }
    Ok(findings)
}

/// A topic that is warmed up with, then the one that counts.
fn turn(
    bench: &Bench<'_>,
    findings: &mut Findings,
    broker: usize,
    process: &Process,
) -> io::Result<()> {
    let address = process.address;
    create_topic(address, "beside", 1)?;
    for (topic, times, counts) in
        [("warm-up", bench.extent(TIMES / 2), false), ("dirty", bench.extent(TIMES), true)]
    {
        let times = times.max(FEWEST_TIMES);
        let bytes = fill(address, topic, times)?;
        bench.settle()?;
        let at_rest = beside(address, &Stop::after(bench.seconds(3)))?;
        let stop = Stop::when_told();
        let before = process.cpu_seconds()?;
        let (cleaned, meanwhile) = thread::scope(|scope| {
            let beside = scope.spawn(|| beside(address, &stop));
            // Its first second does not count.
            thread::sleep(super::producer::WARM_UP);
            let cleaned = clean(address, topic, bytes);
            stop.tell();
            (cleaned, beside.join().expect("a producer returns its errors"))
        });
        let (took, meanwhile) = (cleaned?, meanwhile?);
        let cpu_seconds = process.cpu_seconds()? - before;
        if counts {
            let gigabytes = bytes as f64 / 1e9;
            let cell = format!("compaction of {gigabytes:.2} GB, each key {times} times");
            findings.add(broker, 0, &cell, "MB/s", gigabytes * 1e3 / took.as_secs_f64());
            findings.add(broker, 0, &cell, "CPU s/GB, with the producer", cpu_seconds / gigabytes);
            let cell = "acknowledged, 2,000 records/s, nothing to compact";
            findings.add_latencies(broker, 0, cell, &at_rest);
            let cell = "acknowledged, 2,000 records/s, beside the compaction";
            findings.add_latencies(broker, 0, cell, &meanwhile);
        }
    }
    Ok(())
}

/// A producer on another topic.
fn beside(address: SocketAddr, stop: &Stop) -> io::Result<hdrhistogram::Histogram<u64>> {
    let batch = record_batch(10, RECORD_BYTES);
    Turns::new("beside", 1, 1, &batch, 10).keep_pace(address, 1, Duration::from_millis(5), stop)
}

/// Writes all keys so many times to a topic that is not compacted yet; bytes of its segments.
fn fill(address: SocketAddr, topic: &str, times: usize) -> io::Result<u64> {
    let segment_bytes = SEGMENT_BYTES.to_string();
    let configs = [
        ("cleanup.policy", "delete"),
        ("segment.bytes", &*segment_bytes),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    create_topic_with(address, topic, PARTITIONS, &configs)?;
    let batches: Vec<Vec<u8>> = (0..BATCHES).map(keyed_batch).collect();
    Turns::of_batches(topic, PARTITIONS, &batches, BATCH_RECORDS).saturate(address, times)?;
    log_bytes(&mut Connection::open(address)?, topic, PARTITIONS)
}

/// The `n`-th batch: keys that no other has, and noise as values.
fn keyed_batch(n: usize) -> Vec<u8> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
    let noise = record_batch(1, RECORD_BYTES);
    let value = &noise[noise.len() - RECORD_BYTES..];
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for record in 0..BATCH_RECORDS {
        let key = format!("key-{:08}", n * BATCH_RECORDS + record);
        builder.append(Timestamp(now_ms as i64), Some(key.as_bytes()), Some(value), &[]);
    }
    builder.build()
}

/// Has the topic compacted; the time from there to the last change of its size.
fn clean(address: SocketAddr, topic: &str, dirty_bytes: u64) -> io::Result<Duration> {
    let keys = BATCHES * BATCH_RECORDS;
    let partition_bytes = (keys * (RECORD_BYTES + OVERHEAD_BYTES)) as u64 + SEGMENT_BYTES;
    let clean_bytes = PARTITIONS as u64 * partition_bytes;
    if dirty_bytes <= clean_bytes {
        return Err(io::Error::other("too little to compact"));
    }
    let mut connection = Connection::open(address)?;
    let begun_at = Instant::now();
    set_topic_config(address, topic, "cleanup.policy", "compact")?;
    let (mut bytes, mut changed_at) = (dirty_bytes, begun_at);
    while bytes > clean_bytes || changed_at.elapsed() < CALM {
        let now = log_bytes(&mut connection, topic, PARTITIONS)?;
        if now != bytes {
            (bytes, changed_at) = (now, Instant::now());
        }
        if begun_at.elapsed() > PATIENCE {
            let of = format!("{bytes} of {dirty_bytes} bytes are left");
            return Err(io::Error::other(format!("{topic}: {of} after {PATIENCE:?}")));
        }
        thread::sleep(PROBE_INTERVAL);
    }
    Ok(changed_at - begun_at)
}
