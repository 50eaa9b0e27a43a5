//! The wait for a group commit beside the wait for this disk alone.
//!
//! Owns: the rate and the partitions. Must not know: how Ottla flushes.

use std::fs;
use std::io;
use std::time::Duration;

use super::disk;
use super::producer::{Stop, Turns};
use super::{Bench, Findings, of};
use crate::load::{create_topic, record_batch};
use crate::report::{Goal, Limit};

const RECORD_BYTES: usize = 1024;
/// Clients at work: their requests meet in group commits.
const CONNECTIONS: usize = 8;
/// Over all of them.
const INTERVAL: Duration = Duration::from_millis(1);
/// Between requests that dirty a hundred partitions at once.
const BURST_INTERVAL: Duration = Duration::from_millis(50);
const BURST_PARTITIONS: usize = 100;

pub(crate) const GOALS: [Goal; 1] = [Goal {
    cell: "acknowledged, 1,000 requests/s",
    metric: "p99, ms",
    limit: Limit::MostTimes(3.0),
}];

const OTTLA: usize = 0;
const FDATASYNC: usize = 1;
const FDATASYNC_AS_DUE: usize = 2;

/// Each cell has Ottla's wait from when a request was due to its acknowledgement, and what one
/// `fdatasync` takes after an append of the same size, made at the same rate just before: the call
/// alone, which the goal is for, and from when it was due. On a disk that stalls now and then only
/// the latter is the same measure: a stall is one call, and the wait of all requests that meet it.
pub(crate) fn measure(bench: &Bench<'_>) -> io::Result<Findings> {
    let recipe = bench.ottla("Ottla", &[])?;
    let mut findings = Findings::new(["Ottla", "fdatasync alone", "fdatasync, as due"]);
    let process = recipe.start()?;
    let beside = bench.data.join("beside");
    fs::create_dir_all(&beside)?;
    let batch = record_batch(1, RECORD_BYTES);
    let topic = |partitions| format!("flush-{partitions}");
    for partitions in [1, 100, 2_000] {
        of(&recipe, create_topic(process.address, &topic(partitions), partitions))?;
    }
    for round in 0..bench.rounds(3) {
        for (partitions, together, interval, name) in [
            (1, 1, INTERVAL, "1,000 requests/s of 1 KiB"),
            (100, 1, INTERVAL, "1,000 requests/s of 1 KiB"),
            (2_000, 1, INTERVAL, "1,000 requests/s of 1 KiB"),
            (2_000, BURST_PARTITIONS, BURST_INTERVAL, "20 requests/s of 100 × 1 KiB"),
        ] {
            let cell = format!("acknowledged, {name}, {partitions} partitions");
            bench.settle()?;
            let [calls, waits] =
                disk::fdatasync_alone(&beside, together * batch.len(), interval, bench.seconds(3))?;
            findings.add_latencies(FDATASYNC, round, &cell, &calls);
            findings.add_latencies(FDATASYNC_AS_DUE, round, &cell, &waits);
            let load = Turns::new(&topic(partitions), partitions, together, &batch, 1);
            let stop = Stop::after(bench.seconds(4));
            let latencies =
                of(&recipe, load.keep_pace(process.address, CONNECTIONS, interval, &stop))?;
            findings.add_latencies(OTTLA, round, &cell, &latencies);
        }
    }
    Ok(findings)
}
