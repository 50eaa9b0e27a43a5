//! What this disk takes to make appended bytes durable: parallel `fdatasync` beside one `syncfs`.
//!
//! Owns: the dirty files, the threads that flush them and the times. Must not know: brokers.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};

use super::{Bench, Findings};
use crate::latency::histogram;

/// How dirty files are made durable: by one `syncfs`, or by so many threads with `fdatasync`.
const MECHANISMS: [Mechanism; 6] = [
    Mechanism { name: "syncfs", threads: None },
    Mechanism { name: "fdatasync × 1", threads: Some(1) },
    Mechanism { name: "fdatasync × 4", threads: Some(4) },
    Mechanism { name: "fdatasync × 8", threads: Some(8) },
    Mechanism { name: "fdatasync × 16", threads: Some(16) },
    Mechanism { name: "fdatasync × 32", threads: Some(32) },
];
const DIRTY_FILES: [usize; 7] = [1, 4, 8, 16, 32, 100, 2_000];
const APPEND_BYTES: [usize; 3] = [1 << 10, 4 << 10, 16 << 10];
/// Between two appends of the neighbour, each of 1 MiB: 100 MiB/s that nobody asks to be synced.
const NEIGHBOUR_INTERVAL: Duration = Duration::from_millis(10);
const NEIGHBOUR_BYTES: usize = 1 << 20;
/// The neighbour starts over at this size.
const NEIGHBOUR_FILE_BYTES: u64 = 256 << 20;

/// Rounds over the same files: enough for a 99th percentile of what is quick.
const MOST_ROUNDS: usize = 500;
const FEWEST_ROUNDS: usize = 3;
/// No further round begins after this long.
const LONGEST: Duration = Duration::from_millis(2_500);

#[derive(Clone, Copy)]
struct Mechanism {
    name: &'static str,
    threads: Option<usize>,
}

/// Measures all mechanisms in a directory of their own.
pub(crate) fn measure(bench: &Bench<'_>) -> io::Result<Findings> {
    let mut findings = Findings::new(MECHANISMS.map(|mechanism| mechanism.name));
    let most_rounds = bench.extent(MOST_ROUNDS);
    let alone = APPEND_BYTES.map(|bytes| (bytes, false));
    for (append_bytes, neighbour) in alone.into_iter().chain([(APPEND_BYTES[1], true)]) {
        for files in DIRTY_FILES {
            let load = DirtyFiles { count: files, append_bytes, neighbour };
            compare(&bench.data, load, most_rounds, &mut findings)?;
        }
    }
    Ok(findings)
}

/// What an append of `append_bytes` and `fdatasync` alone take: one every `interval`, for as long as
/// `counted`. The first are the times of the calls; the second count from when each was due, so that
/// a call that takes long counts for all that it keeps waiting.
pub(crate) fn fdatasync_alone(
    data: &Path,
    append_bytes: usize,
    interval: Duration,
    counted: Duration,
) -> io::Result<[Histogram<u64>; 2]> {
    let files = Files::create(data, 1)?;
    let (mut calls, mut waits) = (histogram()?, histogram()?);
    let mut due = Instant::now();
    let end = due + counted;
    while due < end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        files.append(append_bytes)?;
        let begun_at = Instant::now();
        files.files[0].sync_data()?;
        calls.saturating_record(begun_at.elapsed().as_micros() as u64);
        waits.saturating_record(due.elapsed().as_micros() as u64);
        due += interval;
    }
    Ok([calls, waits])
}

/// What is to be flushed.
#[derive(Clone, Copy)]
struct DirtyFiles {
    count: usize,
    append_bytes: usize,
    /// Whether another program writes to the same file system meanwhile, and never syncs.
    neighbour: bool,
}

/// All mechanisms take turns at the same files, round by round.
fn compare(
    data: &Path,
    load: DirtyFiles,
    most_rounds: usize,
    findings: &mut Findings,
) -> io::Result<()> {
    let DirtyFiles { count, append_bytes, neighbour } = load;
    let files = Files::create(data, count)?;
    let pools: Vec<Pool<'_>> =
        MECHANISMS.iter().map(|mechanism| Pool::new(mechanism.threads, &files.files)).collect();
    let mut latencies = (0..pools.len()).map(|_| histogram()).collect::<io::Result<Vec<_>>>()?;
    let mut cpu = vec![Duration::ZERO; pools.len()];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for pool in &pools {
            (1..pool.threads()).for_each(|_| _ = scope.spawn(|| pool.help()));
        }
        let writer = neighbour.then(|| scope.spawn(|| be_neighbour(data, &stop)));
        let mut rounds = || -> io::Result<()> {
            let started_at = Instant::now();
            for round in 0..most_rounds {
                for turn in 0..pools.len() {
                    let mechanism = (round + turn) % pools.len();
                    files.append(append_bytes)?;
                    let (cpu_before, begun_at) = (cpu_time(), Instant::now());
                    pools[mechanism].flush(&files.directory)?;
                    let took = begun_at.elapsed();
                    cpu[mechanism] += cpu_time() - cpu_before;
                    latencies[mechanism].saturating_record(took.as_micros() as u64);
                }
                if round + 1 >= FEWEST_ROUNDS && started_at.elapsed() > LONGEST {
                    break;
                }
            }
            Ok(())
        };
        let measured = rounds();
        stop.store(true, Ordering::Relaxed);
        pools.iter().for_each(Pool::stop);
        let wrote = writer.map_or(Ok(()), |writer| writer.join().expect("it returns its errors"));
        measured.and(wrote)
    })?;
    let beside = if neighbour { ", beside 100 MiB/s of others" } else { "" };
    let what = format!("{count} files, {} KiB each{beside}", append_bytes >> 10);
    for (mechanism, (latencies, cpu)) in latencies.iter().zip(cpu).enumerate() {
        for (metric, quantile) in [("p50, µs", 0.5), ("p99, µs", 0.99)] {
            let value = latencies.value_at_quantile(quantile) as f64;
            findings.add(mechanism, 0, &what, metric, value);
        }
        let cpu_us = cpu.as_secs_f64() * 1e6 / latencies.len() as f64;
        findings.add(mechanism, 0, &what, "CPU per flush, µs", cpu_us);
    }
    Ok(())
}

/// CPU time of this process so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Writes to the same file system, as another program would that never syncs.
fn be_neighbour(data: &Path, stop: &AtomicBool) -> io::Result<()> {
    let path = data.join("neighbour");
    let mut file = File::create(&path)?;
    let bytes = vec![0x5a; NEIGHBOUR_BYTES];
    let mut size = 0;
    while !stop.load(Ordering::Relaxed) {
        file.write_all(&bytes)?;
        size += NEIGHBOUR_BYTES as u64;
        if size >= NEIGHBOUR_FILE_BYTES {
            file = File::create(&path)?;
            size = 0;
        }
        thread::sleep(NEIGHBOUR_INTERVAL);
    }
    fs::remove_file(path)
}

/// Open files in a directory that goes with them.
struct Files<'a> {
    data: &'a Path,
    directory: File,
    files: Vec<File>,
}

impl<'a> Files<'a> {
    fn create(data: &'a Path, count: usize) -> io::Result<Self> {
        let path = data.join("dirty");
        fs::create_dir_all(&path)?;
        let open =
            |n| OpenOptions::new().create(true).append(true).open(path.join(format!("{n:05}.log")));
        let files = (0..count).map(open).collect::<io::Result<_>>()?;
        let directory = File::open(&path)?;
        rustix::fs::syncfs(&directory)?;
        Ok(Self { data, directory, files })
    }

    /// Dirties every file.
    fn append(&self, bytes: usize) -> io::Result<()> {
        let bytes = vec![0x5a; bytes];
        self.files.iter().try_for_each(|mut file| file.write_all(&bytes))
    }
}

impl Drop for Files<'_> {
    fn drop(&mut self) {
        // What is left over is under target/ and does no harm.
        let _ = fs::remove_dir_all(self.data.join("dirty"));
    }
}

/// Threads that wait for a flush and share its files. One that flushes is among them.
struct Pool<'a> {
    /// None for `syncfs`.
    fdatasync: Option<usize>,
    files: &'a [File],
    next: AtomicUsize,
    begin: Barrier,
    end: Barrier,
    stopped: AtomicBool,
    failed: Mutex<Option<io::Error>>,
}

impl<'a> Pool<'a> {
    fn new(fdatasync: Option<usize>, files: &'a [File]) -> Self {
        // More threads than files would only be woken and find nothing.
        let fdatasync = fdatasync.map(|threads| threads.min(files.len()));
        let threads = fdatasync.unwrap_or(1);
        Self {
            fdatasync,
            files,
            next: AtomicUsize::new(0),
            begin: Barrier::new(threads),
            end: Barrier::new(threads),
            stopped: AtomicBool::new(false),
            failed: Mutex::new(None),
        }
    }

    fn threads(&self) -> usize {
        self.fdatasync.unwrap_or(1)
    }

    /// All files are durable when this returns.
    fn flush(&self, directory: &File) -> io::Result<()> {
        if self.fdatasync.is_none() {
            return Ok(rustix::fs::syncfs(directory)?);
        }
        self.next.store(0, Ordering::Relaxed);
        self.begin.wait();
        self.work();
        self.end.wait();
        self.failed.lock().expect("nobody panics with it").take().map_or(Ok(()), Err)
    }

    fn help(&self) {
        loop {
            self.begin.wait();
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            self.work();
            self.end.wait();
        }
    }

    fn work(&self) {
        while let Some(file) = self.files.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = file.sync_data() {
                *self.failed.lock().expect("nobody panics with it") = Some(error);
            }
        }
    }

    /// Ends the helpers.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.begin.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_flushed_once_by_any_number_of_threads() {
        let data = std::env::temp_dir().join(format!("ottla-bench-disk-{}", std::process::id()));
        let mut findings = Findings::new(MECHANISMS.map(|mechanism| mechanism.name));
        let load = DirtyFiles { count: 3, append_bytes: 1024, neighbour: true };
        compare(&data, load, 2, &mut findings).expect("a directory to write in");
        assert!(!data.join("dirty").exists() && !data.join("neighbour").exists());
        fs::remove_dir_all(&data).expect("its directory");
        assert_eq!(findings.samples.len(), 3 * MECHANISMS.len());
        assert!(findings.samples.iter().all(|sample| sample.value > 0.0));
    }
}
