//! Brokers side by side: all of them run, and take turns at the same load.
//!
//! Owns: the order of turns, the cells that are measured and their samples. Must not know: which
//! brokers these are, what is a good result.

use std::io;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::latency;
use crate::load::{self, Load, Moved, Shape};
use crate::process::{Process, Recipe, run_tool, set_real_time};

/// Batches as a producer with a linger fills them.
const LARGE: Shape = Shape {
    name: "1 KiB records, 100 KiB batches",
    record_bytes: 1024,
    batch_records: 100,
    total_bytes: 2_000_000_000,
    fetch_passes: 3,
};
/// Batches as the Java producer's default `batch.size` of 16,384 bytes fills them.
const SMALL: Shape = Shape {
    name: "1 KiB records, 16 KiB batches",
    record_bytes: 1024,
    batch_records: 15,
    total_bytes: 1_000_000_000,
    fetch_passes: 3,
};
const TINY: Shape = Shape {
    name: "100 B records, 100 KiB batches",
    record_bytes: 100,
    batch_records: 920,
    total_bytes: 500_000_000,
    fetch_passes: 3,
};

/// How long memory may settle after the start before it is called idle.
const SETTLE: Duration = Duration::from_secs(1);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Rounds that count. In each, every broker runs every cell once.
    pub(crate) rounds: usize,
    /// After this long no further round begins, once one has counted.
    pub(crate) longest: Duration,
    /// Rounds before them that do not count.
    pub(crate) warm_up_rounds: usize,
    /// Starts on an empty data directory, each timed.
    pub(crate) starts: usize,
    /// What the bytes of a cell are divided by.
    pub(crate) bytes_divisor: usize,
    pub(crate) latency_seconds: u64,
    /// Whether latencies are measured under SCHED_FIFO, where that is permitted.
    pub(crate) real_time: bool,
}

/// One number about one broker.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Index into the recipes.
    pub(crate) broker: usize,
    pub(crate) round: usize,
    /// What was done: a key of the table's rows, with the metric.
    pub(crate) cell: String,
    /// What was measured, with its unit.
    pub(crate) metric: &'static str,
    pub(crate) value: f64,
}

/// The brokers at work.
pub(crate) struct Comparison<'a> {
    recipes: &'a [Recipe],
    extent: Extent,
    samples: Vec<Sample>,
}

impl<'a> Comparison<'a> {
    /// Measures all brokers; the samples of the rounds that count.
    pub(crate) fn run(recipes: &'a [Recipe], extent: Extent) -> io::Result<Vec<Sample>> {
        let mut comparison = Self { recipes, extent, samples: Vec::new() };
        let brokers = comparison.start_all()?;
        let started_at = Instant::now();
        for round in 0..extent.warm_up_rounds + extent.rounds {
            if round > extent.warm_up_rounds && started_at.elapsed() > extent.longest {
                eprintln!("out of time: {} rounds count", round - extent.warm_up_rounds);
                break;
            }
            for broker in comparison.turns(round) {
                comparison
                    .turn(broker, &brokers[broker], round)
                    .map_err(|error| comparison.name_failure(broker, &error))?;
            }
        }
        for (broker, process) in brokers.iter().enumerate() {
            let peak = process.peak_rss_mib()?;
            comparison.add(broker, extent.warm_up_rounds, "memory", "peak RSS, MiB", peak);
        }
        comparison.samples.retain(|sample| sample.round >= extent.warm_up_rounds);
        Ok(comparison.samples)
    }

    /// A B C, then C B A, and so on: what drifts over time falls on all of them alike.
    fn turns(&self, round: usize) -> Vec<usize> {
        let mut turns: Vec<usize> = (0..self.recipes.len()).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        turns
    }

    /// Starts each broker as often as asked, alone; the last start of each stays.
    fn start_all(&mut self) -> io::Result<Vec<Process>> {
        for start in 1..self.extent.starts {
            for broker in self.turns(start) {
                self.start(broker, start)?;
            }
        }
        (0..self.recipes.len()).map(|broker| self.start(broker, 0)).collect()
    }

    fn start(&mut self, broker: usize, start: usize) -> io::Result<Process> {
        let process = self.recipes[broker].start()?;
        thread::sleep(SETTLE);
        // Starts have nothing to warm up: they all count.
        let round = self.extent.warm_up_rounds + start;
        let start_up_ms = process.start_up.as_secs_f64() * 1e3;
        self.add(broker, round, "start", "to first answer, ms", start_up_ms);
        self.add(broker, round, "memory", "idle RSS, MiB", process.rss_mib()?);
        Ok(process)
    }

    /// One broker's turn: every cell once, each on a topic of its own.
    fn turn(&mut self, broker: usize, process: &Process, round: usize) -> io::Result<()> {
        for shape in [LARGE, SMALL, TINY] {
            let total_bytes = shape.total_bytes / self.extent.bytes_divisor;
            let shape = Shape { total_bytes, ..shape };
            let topic = format!("bench-{}-{round}", shape.batch_records);
            let load = Load::create(process.address, &topic, shape)?;
            let phases: [(&str, &dyn Fn() -> io::Result<Moved>); 2] =
                [("produce", &|| load.produce()), ("fetch", &|| load.fetch())];
            for (verb, phase) in phases {
                let before = process.cpu_seconds()?;
                let moved = phase()?;
                let cpu_seconds = process.cpu_seconds()? - before;
                let cell = format!("{verb}, {}", shape.name);
                self.add_load(broker, round, &cell, moved, cpu_seconds);
            }
            load.delete()?;
        }
        self.latency(broker, process, round)
    }

    fn latency(&mut self, broker: usize, process: &Process, round: usize) -> io::Result<()> {
        // What the loads left in the page cache shall not be written back meanwhile.
        let data = &self.recipes[broker].data;
        run_tool(Command::new("sync").arg("--file-system").arg(data))?;
        let topic = format!("bench-latency-{round}");
        load::create_topic(process.address, &topic, 1)?;
        let pids = [process.id(), std::process::id()];
        let real_time = self.extent.real_time && pids.iter().all(|&pid| set_real_time(pid, true));
        let before = process.cpu_seconds()?;
        let latencies = latency::measure(process.address, &topic, self.extent.latency_seconds);
        let cpu_seconds = process.cpu_seconds()? - before;
        if self.extent.real_time {
            pids.iter().for_each(|&pid| _ = set_real_time(pid, false));
        }
        let latencies = latencies?;
        if self.extent.real_time && !real_time {
            eprintln!("SCHED_FIFO is not permitted: latencies include the machine's run queue");
        }
        let cell = "end to end, 1,000 records of 1 KiB per s";
        for (metric, quantile) in [("p50, ms", 0.5), ("p99, ms", 0.99), ("p99.9, ms", 0.999)] {
            let microseconds = latencies.value_at_quantile(quantile) as f64;
            self.add(broker, round, cell, metric, microseconds / 1e3);
        }
        let seconds = latency::seconds_in_all(self.extent.latency_seconds);
        self.add(broker, round, cell, "CPU, % of a core", 100.0 * cpu_seconds / seconds);
        load::delete_topic(process.address, &topic)
    }

    fn add_load(
        &mut self,
        broker: usize,
        round: usize,
        cell: &str,
        moved: Moved,
        cpu_seconds: f64,
    ) {
        let gigabytes = moved.bytes as f64 / 1e9;
        let millions = moved.records as f64 / 1e6;
        self.add(broker, round, cell, "CPU s/GB", cpu_seconds / gigabytes);
        self.add(broker, round, cell, "CPU s/million records", cpu_seconds / millions);
        self.add(broker, round, cell, "MB/s", gigabytes * 1e3 / moved.seconds);
        self.add(broker, round, cell, "records/s", moved.records as f64 / moved.seconds);
    }

    fn add(&mut self, broker: usize, round: usize, cell: &str, metric: &'static str, value: f64) {
        eprintln!("{:<14} {round} {cell}: {value:.3} {metric}", self.recipes[broker].name);
        self.samples.push(Sample { broker, round, cell: cell.to_owned(), metric, value });
    }

    fn name_failure(&self, broker: usize, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.recipes[broker].name))
    }
}
