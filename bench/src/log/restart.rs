//! From the start of a broker that has much on its disk to the answer of its last partition.
//!
//! Owns: what lies on the disk, and when a start is over. Must not know: how logs are recovered.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::producer::Turns;
use super::requests::end_offsets;
use super::{Bench, Findings, of};
use crate::load::{create_topic_with, record_batch};
use crate::process::Recipe;
use crate::report::{Goal, Limit};
use crate::wire::Connection;

pub(crate) const KILL_GOALS: [Goal; 1] =
    [Goal { cell: "restart", metric: SERVED, limit: Limit::Most(2.0) }];
pub(crate) const STOP_GOALS: [Goal; 1] =
    [Goal { cell: "start", metric: SERVED, limit: Limit::Most(1.0) }];

const SERVED: &str = "every partition answers, s";
const TOPICS: usize = 10;
/// No partition answers later than this.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at a partition that does not answer yet.
const PROBE_INTERVAL: Duration = Duration::from_millis(1);
/// Partitions whose batches share a request.
const TOGETHER: usize = 10;

/// What lies on the disk: ten topics, their partitions filled with copies of one batch.
struct Content<'a> {
    partitions: usize,
    batch_records: usize,
    batches: usize,
    configs: &'a [(&'a str, &'a str)],
}

/// Killed with all data behind one thousand partitions' recovery points, as far as the broker lets
/// them lie there.
pub(crate) fn after_kill(bench: &Bench<'_>) -> io::Result<Findings> {
    const PARTITIONS: usize = 100;
    const RECORD_BYTES: usize = 1024;
    const BATCH_RECORDS: usize = 100;
    let total_bytes = bench.extent(bench.options.gigabytes * 1_000_000_000);
    let batches = total_bytes / (TOPICS * PARTITIONS * BATCH_RECORDS * RECORD_BYTES);
    let content = Content {
        partitions: PARTITIONS,
        batch_records: BATCH_RECORDS,
        batches: batches.max(1),
        configs: &[],
    };
    let mut recipes = vec![bench.ottla("Ottla", &[])?];
    recipes.extend(bench.kafkas(&[])?);
    let mut findings = Findings::new(recipes.iter().map(|recipe| &*recipe.name));
    for (broker, recipe) in recipes.iter().enumerate() {
        let gigabytes = total_bytes as f64 / 1e9;
        let cell = format!("restart after kill -9, {gigabytes} GB in 1,000 partitions");
        let outcome = killed(recipe, &content, RECORD_BYTES);
        let (ready, served) = of(recipe, outcome)?;
        findings.add(broker, 0, &cell, "to first answer, s", ready.as_secs_f64());
        findings.add(broker, 0, &cell, SERVED, served.as_secs_f64());
        std::fs::remove_dir_all(&recipe.data)?;
    }
    Ok(findings)
}

/// Stopped cleanly with ten thousand segments.
pub(crate) fn after_stop(bench: &Bench<'_>) -> io::Result<Findings> {
    const PARTITIONS: usize = 10;
    const RECORD_BYTES: usize = 1024;
    const BATCH_RECORDS: usize = 15;
    let segments = bench.extent(100);
    let content = Content {
        partitions: PARTITIONS,
        batch_records: BATCH_RECORDS,
        batches: segments,
        // The next batch does not fit any more.
        configs: &[("segment.bytes", "16384")],
    };
    let mut recipes = vec![bench.ottla("Ottla", &[])?];
    // Later versions have no segments as small as these.
    recipes.extend(bench.kafkas(&[])?.into_iter().filter(|kafka| kafka.name.contains(" 3.")));
    let mut findings = Findings::new(recipes.iter().map(|recipe| &*recipe.name));
    for (broker, recipe) in recipes.iter().enumerate() {
        let all = segments * PARTITIONS * TOPICS;
        let cell = format!("start with {all} segments after a clean stop");
        let outcome = stopped(recipe, &content, RECORD_BYTES);
        let (stopping, ready, served) = of(recipe, outcome)?;
        findings.add(broker, 0, &cell, "clean stop, s", stopping.as_secs_f64());
        findings.add(broker, 0, &cell, "to first answer, s", ready.as_secs_f64());
        findings.add(broker, 0, &cell, SERVED, served.as_secs_f64());
        std::fs::remove_dir_all(&recipe.data)?;
    }
    Ok(findings)
}

/// To the first answer, and to the last partition's.
fn killed(
    recipe: &Recipe,
    content: &Content<'_>,
    record_bytes: usize,
) -> io::Result<(Duration, Duration)> {
    let process = recipe.start()?;
    fill(process.address, content, record_bytes)?;
    drop(process);
    let process = recipe.resume()?;
    wait_until_served(process.address, content)?;
    Ok((process.start_up, process.spawned_at.elapsed()))
}

/// How long the stop took, then as above.
fn stopped(
    recipe: &Recipe,
    content: &Content<'_>,
    record_bytes: usize,
) -> io::Result<(Duration, Duration, Duration)> {
    let process = recipe.start()?;
    fill(process.address, content, record_bytes)?;
    let stopping = process.stop()?;
    let process = recipe.resume()?;
    wait_until_served(process.address, content)?;
    Ok((stopping, process.start_up, process.spawned_at.elapsed()))
}

fn topic(n: usize) -> String {
    format!("restart-{n}")
}

/// A producer for each topic.
fn fill(address: SocketAddr, content: &Content<'_>, record_bytes: usize) -> io::Result<()> {
    let batch = record_batch(content.batch_records, record_bytes);
    thread::scope(|scope| {
        let producer = |n| {
            let batch = &batch;
            scope.spawn(move || -> io::Result<()> {
                let topic = topic(n);
                create_topic_with(address, &topic, content.partitions, content.configs)?;
                Turns::new(&topic, content.partitions, TOGETHER, batch, content.batch_records)
                    .saturate(address, content.batches)
                    .map(drop)
            })
        };
        let producers: Vec<_> = (0..TOPICS).map(producer).collect();
        producers
            .into_iter()
            .try_for_each(|producer| producer.join().expect("a producer returns its errors"))
    })
}

/// Until each partition of each topic has said where it ends: behind all that was acknowledged.
fn wait_until_served(address: SocketAddr, content: &Content<'_>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let end = (content.batches * content.batch_records) as i64;
    let mut connection = Connection::open(address)?;
    for n in 0..TOPICS {
        let topic = topic(n);
        loop {
            match end_offsets(&mut connection, &topic, content.partitions) {
                Ok(ends) if ends.len() == content.partitions && ends.iter().all(|&e| e == end) => {
                    break;
                }
                Ok(ends) => {
                    return Err(io::Error::other(format!("{topic} ends at {ends:?}, not {end}")));
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(PROBE_INTERVAL),
            }
        }
    }
    Ok(())
}
