//! What a million nodes take in memory, and how fast they are created.
//!
//! Owns: how many nodes, and which memory is read. Must not know: how it is laid out.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::load::{self, CHILDREN};
use super::{Bench, Findings, findings, of, zookeeper};

/// Each with 1,000 nodes.
const PARENTS: usize = 1_000;
const SETTLE: Duration = Duration::from_secs(2);

/// One after the other, for both together may be more than the machine has. A JVM's resident memory
/// is as it is left by itself, and after a full collection, which also tells what is live.
pub(crate) fn measure(bench: &Bench<'_>) -> io::Result<Findings> {
    let ensembles = bench.ensembles(1, &[])?;
    let mut found = findings(&ensembles);
    let parents = bench.extent(PARENTS);
    let cell = format!("{} nodes of 100 B", parents * CHILDREN);
    for (n, ensemble) in ensembles.iter().enumerate() {
        bench.settle()?;
        let running = of(ensemble, ensemble.start())?;
        let process = running.process();
        let started_at = Instant::now();
        of(ensemble, load::fill(process.address, parents))?;
        let per_second = (parents * CHILDREN) as f64 / started_at.elapsed().as_secs_f64();
        found.add(n, 0, &cell, "created/s, 1,000 in a multi", per_second);
        found.add(n, 0, &cell, "CPU s of creation", running.cpu_seconds()?);
        thread::sleep(SETTLE);
        found.add(n, 0, &cell, "RSS, MiB", process.rss_mib()?);
        found.add(n, 0, &cell, "peak RSS, MiB", process.peak_rss_mib()?);
        let live = ensemble.is_java.then(|| zookeeper::collect_garbage(process)).transpose()?;
        let rss = process.rss_mib()?;
        found.add(n, 0, &cell, "RSS after a full collection, MiB", rss);
        // What has no collector holds what is resident.
        found.add(n, 0, &cell, "live heap, MiB", live.unwrap_or(rss));
    }
    Ok(found)
}
