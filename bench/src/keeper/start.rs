//! From the start of a process that is alone to its first answer.
//!
//! Owns: what lies on the disk at the start. Must not know: how it is read.

use std::io;
use std::thread;
use std::time::Duration;

use super::load;
use super::{Bench, Findings, findings, of, turns};

const STARTS: usize = 5;
/// Parents, each with 1,000 nodes.
const PARENTS: usize = 100;
/// How long memory may settle after the start before it is called idle.
const SETTLE: Duration = Duration::from_secs(1);

/// Starts on an empty directory, and on what a kill left right after the last answer.
pub(crate) fn measure(bench: &Bench<'_>) -> io::Result<Findings> {
    let ensembles = bench.ensembles(1, &[])?;
    let mut found = findings(&ensembles);
    for round in 0..bench.rounds(STARTS) {
        for n in turns(ensembles.len(), round) {
            let running = of(&ensembles[n], ensembles[n].start())?;
            thread::sleep(SETTLE);
            let process = running.process();
            let start_up_ms = process.start_up.as_secs_f64() * 1e3;
            found.add(n, round, "start, empty", "to first answer, ms", start_up_ms);
            found.add(n, round, "start, empty", "idle RSS, MiB", process.rss_mib()?);
        }
    }
    let cell = "start, 100,000 nodes, killed before";
    for ensemble in &ensembles {
        let running = of(ensemble, ensemble.start())?;
        of(ensemble, load::fill(running.process().address, PARENTS))?;
    }
    bench.settle()?;
    for round in 0..bench.rounds(STARTS) {
        for n in turns(ensembles.len(), round) {
            let process = of(&ensembles[n], ensembles[n].nodes[0].resume())?;
            let start_up_ms = process.start_up.as_secs_f64() * 1e3;
            found.add(n, round, cell, "to first answer, ms", start_up_ms);
        }
    }
    Ok(found)
}
