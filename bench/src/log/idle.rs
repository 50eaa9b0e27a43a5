//! What a partition costs in memory while nobody uses it.
//!
//! Owns: how many there are and when memory is read. Must not know: what memory is used for.

use std::io;
use std::thread;
use std::time::Duration;

use super::producer::Turns;
use super::{Bench, Findings, of};
use crate::load::{create_topic, record_batch};
use crate::process::{Process, Recipe};
use crate::report::{Goal, Limit};

const TOPICS: usize = 10;
/// Partitions of the first topic, which is there before memory is read for the first time.
const FEW: usize = 10;
/// Partitions whose batches share a request.
const TOGETHER: usize = 10;
/// How long memory may settle before it is read.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) const GOALS: [Goal; 1] =
    [Goal { cell: "idle partition after a start", metric: METRIC, limit: Limit::Most(4.0) }];

const METRIC: &str = "resident KiB each";

/// Ottla alone: a JVM's resident memory says more about its heap's limits than about partitions.
pub(crate) fn measure(bench: &Bench<'_>) -> io::Result<Findings> {
    let recipe = bench.ottla("Ottla", &[])?;
    let mut findings = Findings::new(["Ottla"]);
    of(&recipe, partitions(bench, &recipe, &mut findings))?;
    Ok(findings)
}

fn partitions(bench: &Bench<'_>, recipe: &Recipe, findings: &mut Findings) -> io::Result<()> {
    let partitions = bench.extent(1_000).next_multiple_of(TOGETHER);
    let process = recipe.start()?;
    create_topic(process.address, "few", FEW)?;
    let (process, few) = restarted(recipe, process)?;
    for n in 0..TOPICS {
        create_topic(process.address, &format!("many-{n}"), partitions)?;
    }
    let all = TOPICS * partitions;
    let each = |mib: f64| (mib - few) * 1024.0 / all as f64;
    thread::sleep(SETTLE);
    let cell = |what: &str| format!("{what}, {all} of them");
    findings.add(0, 0, &cell("new partition"), METRIC, each(process.rss_mib()?));
    let (process, many) = restarted(recipe, process)?;
    findings.add(0, 0, &cell("idle partition after a start, empty"), METRIC, each(many));
    let batch = record_batch(1, 1024);
    for n in 0..TOPICS {
        let topic = format!("many-{n}");
        Turns::new(&topic, partitions, TOGETHER, &batch, 1).saturate(process.address, 1)?;
    }
    thread::sleep(SETTLE);
    findings.add(0, 0, &cell("partition with a first record"), METRIC, each(process.rss_mib()?));
    let (_process, written) = restarted(recipe, process)?;
    findings.add(0, 0, &cell("idle partition after a start, with a record"), METRIC, each(written));
    Ok(())
}

/// Stopped cleanly and started again; its resident memory in MiB.
fn restarted(recipe: &Recipe, process: Process) -> io::Result<(Process, f64)> {
    process.stop()?;
    let process = recipe.resume()?;
    thread::sleep(SETTLE);
    let rss = process.rss_mib()?;
    Ok((process, rss))
}
