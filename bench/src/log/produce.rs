//! One producer beside Apache Kafka: Ottla flushes before it acknowledges, Kafka does not.
//!
//! Owns: the shapes of the producer's load. Must not know: how batches are sent, or flushed.

use std::io;
use std::time::Duration;

use super::producer::{Stop, Turns};
use super::{Bench, Findings, of, turns};
use crate::load::{create_topic, delete_topic, record_batch};
use crate::process::{Process, Recipe};
use crate::report::{Goal, Limit};

const RECORD_BYTES: usize = 1024;
/// The Java producer's linger: how far apart its requests are when it has little to send.
const LINGER: Duration = Duration::from_millis(5);
/// A JVM compiles what is hot.
const WARM_UP_ROUNDS: usize = 1;

pub(crate) const GOALS: [Goal; 1] = [Goal {
    cell: "produce as fast as acknowledged",
    metric: "MB/s",
    limit: Limit::LeastTimes(1.0),
}];

/// A producer that has more to send than it can: full batches, and requests below its
/// `max.request.size` of 1 MiB.
struct Full {
    name: &'static str,
    partitions: usize,
    /// In one request.
    together: usize,
    batch_records: usize,
    total_bytes: usize,
}

const FULL: [Full; 3] = [
    Full {
        name: "1 partition, 16 KiB batches",
        partitions: 1,
        together: 1,
        batch_records: 15,
        total_bytes: 150_000_000,
    },
    Full {
        name: "1 partition, 100 KiB batches",
        partitions: 1,
        together: 1,
        batch_records: 100,
        total_bytes: 300_000_000,
    },
    Full {
        name: "100 partitions, 16 KiB batches",
        partitions: 100,
        together: 50,
        batch_records: 15,
        total_bytes: 400_000_000,
    },
];

/// A producer that sends what came up in a linger, ten records: to one partition, or with keys
/// that fall on ten.
struct Lingering {
    name: &'static str,
    partitions: usize,
    together: usize,
    batch_records: usize,
}

const LINGERING: [Lingering; 2] = [
    Lingering { name: "1 partition", partitions: 1, together: 1, batch_records: 10 },
    Lingering { name: "100 partitions", partitions: 100, together: 10, batch_records: 1 },
];

pub(crate) fn measure(bench: &Bench<'_>) -> io::Result<Findings> {
    let mut recipes = vec![bench.ottla("Ottla", &[])?];
    // What is deleted shall not fill the disk for a minute.
    recipes.extend(bench.kafkas(&[("log.segment.delete.delay.ms", "1000")])?);
    recipes.push(bench.ottla("Ottla, no flush", &[("log.flush.before.ack", "false")])?);
    let mut findings = Findings::new(recipes.iter().map(|recipe| &*recipe.name));
    let brokers = recipes.iter().map(Recipe::start).collect::<io::Result<Vec<_>>>()?;
    for round in 0..WARM_UP_ROUNDS + bench.rounds(3) {
        for broker in turns(brokers.len(), round) {
            let turn = turn(bench, &mut findings, broker, &brokers[broker], round);
            of(&recipes[broker], turn)?;
        }
    }
    findings.samples.retain(|sample| sample.round >= WARM_UP_ROUNDS);
    Ok(findings)
}

fn turn(
    bench: &Bench<'_>,
    findings: &mut Findings,
    broker: usize,
    process: &Process,
    round: usize,
) -> io::Result<()> {
    for (n, full) in FULL.iter().enumerate() {
        let topic = format!("full-{n}-{round}");
        create_topic(process.address, &topic, full.partitions)?;
        let batch = record_batch(full.batch_records, RECORD_BYTES);
        let load = Turns::new(&topic, full.partitions, full.together, &batch, full.batch_records);
        let round_bytes = full.partitions * full.batch_records * RECORD_BYTES;
        let rounds = bench.extent(full.total_bytes / round_bytes);
        let bytes = (rounds * round_bytes) as f64;
        let before = process.cpu_seconds()?;
        let took = load.saturate(process.address, rounds)?;
        let cpu_seconds = process.cpu_seconds()? - before;
        let cell = format!("produce as fast as acknowledged, {}", full.name);
        findings.add(broker, round, &cell, "MB/s", bytes / 1e6 / took.as_secs_f64());
        findings.add(broker, round, &cell, "CPU s/GB", cpu_seconds / (bytes / 1e9));
        delete_topic(process.address, &topic)?;
    }
    for (n, lingering) in LINGERING.iter().enumerate() {
        let &Lingering { name, partitions, together, batch_records } = lingering;
        let topic = format!("lingering-{n}-{round}");
        create_topic(process.address, &topic, partitions)?;
        bench.settle()?;
        let batch = record_batch(batch_records, RECORD_BYTES);
        let load = Turns::new(&topic, partitions, together, &batch, batch_records);
        let stop = Stop::after(bench.seconds(3));
        let latencies = load.keep_pace(process.address, 1, LINGER, &stop)?;
        let cell = format!("acknowledged, 2,000 records/s in requests every 5 ms, {name}");
        findings.add_latencies(broker, round, &cell, &latencies);
        delete_topic(process.address, &topic)?;
    }
    Ok(())
}
