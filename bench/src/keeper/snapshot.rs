//! What clients notice of a snapshot of a million nodes.
//!
//! Owns: the light load, and how a service is brought to take a snapshot meanwhile. Must not know:
//! how it takes one.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

use super::load::{self, CHILDREN, VALUE_BYTES, path};
use super::wire::{Request, Session};
use super::{Bench, Findings, findings, of};

/// Each with 1,000 nodes.
const PARENTS: usize = 1_000;
/// Of reads, and of writes: 200 per second each.
const INTERVAL: Duration = Duration::from_millis(5);
/// Before a snapshot.
const QUIET: Duration = Duration::from_secs(5);
/// Time enough for either service to take a snapshot.
const MEANWHILE: Duration = Duration::from_secs(40);
/// ZooKeeper takes a snapshot after half to all of so many transactions, which 1,000 creations and 5
/// seconds of writes are too few for, and 40 seconds more are not.
const SNAP_COUNT: &str = "8000";
/// The keeper takes one when its log is as long as this, and as the snapshot before it.
const LOG_BYTES: u64 = 16 << 20;
/// What is left of that for the light load: some seconds of writes.
const REST_BYTES: u64 = 512 << 10;
const BULK_BYTES: usize = 64 << 10;

pub(crate) fn measure(bench: &Bench<'_>) -> io::Result<Findings> {
    let ensembles = bench.ensembles(1, &[("snapCount", SNAP_COUNT)])?;
    let mut found = findings(&ensembles);
    let parents = bench.extent(PARENTS);
    for (n, ensemble) in ensembles.iter().enumerate() {
        let running = of(ensemble, ensemble.start())?;
        let (address, data) = (running.process().address, &ensemble.nodes[0].data);
        of(ensemble, load::fill(address, parents))?;
        let nodes = format!("{} nodes", parents * CHILDREN);
        bench.settle()?;
        let quiet = of(ensemble, light_load(address, QUIET))?;
        add_tails(&mut found, n, &format!("{nodes}, no snapshot"), &quiet);
        if !ensemble.is_java {
            of(ensemble, write_until_due(address, data))?;
        }
        bench.settle()?;
        let before = snapshots(data)?;
        let meanwhile = of(ensemble, light_load(address, MEANWHILE))?;
        let taken = snapshots(data)?.difference(&before).count();
        let cell = format!("{nodes}, a snapshot is taken");
        add_tails(&mut found, n, &cell, &meanwhile);
        found.add(n, 0, &cell, "snapshots", taken as f64);
    }
    Ok(found)
}

fn add_tails(found: &mut Findings, n: usize, cell: &str, latencies: &[Histogram<u64>; 2]) {
    for (what, latencies) in ["reads", "writes"].iter().zip(latencies) {
        let cell = format!("{cell}, 200 {what} per s as due");
        found.add_latencies(n, 0, &cell, latencies);
        let ms = |microseconds: u64| microseconds as f64 / 1e3;
        found.add(n, 0, &cell, "p99.9, ms", ms(latencies.value_at_quantile(0.999)));
        found.add(n, 0, &cell, "worst, ms", ms(latencies.max()));
    }
}

/// Reads and writes at their pace, each on a connection of its own.
fn light_load(address: SocketAddr, time: Duration) -> io::Result<[Histogram<u64>; 2]> {
    let reads: Vec<_> = (0..CHILDREN).map(|n| Request::get_data(&path(0, n), false)).collect();
    let value = [b'w'; VALUE_BYTES];
    let writes: Vec<_> = (0..CHILDREN).map(|n| Request::set_data(&path(0, n), &value)).collect();
    let pace = |requests: &[Request]| load::keep_pace(&[address], 1, requests, INTERVAL, time);
    thread::scope(|scope| {
        let reads = scope.spawn(|| pace(&reads));
        let writes = pace(&writes)?;
        Ok([reads.join().expect("a load returns its errors")?, writes])
    })
}

/// Writes until little is left before the keeper's next snapshot.
fn write_until_due(address: SocketAddr, data: &Path) -> io::Result<()> {
    let bytes = |file: &str| fs::metadata(data.join(file)).map_or(0, |metadata| metadata.len());
    let mut session = Session::open(address)?;
    let bulk = Request::set_data(&path(0, 0), &[b'b'; BULK_BYTES]);
    while bytes("log") + REST_BYTES < bytes("snapshot").max(LOG_BYTES) {
        session.call(&bulk)?;
    }
    session.close()
}

/// All files of snapshots, each with when it was written.
fn snapshots(data: &Path) -> io::Result<BTreeSet<(PathBuf, SystemTime)>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(snapshots(&entry.path())?);
        } else if entry.file_name().to_string_lossy().starts_with("snapshot") {
            found.insert((entry.path(), entry.metadata()?.modified()?));
        }
    }
    Ok(found)
}
