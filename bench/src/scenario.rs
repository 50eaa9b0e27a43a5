//! Scenarios: questions that can be asked one by one, each with a directory and a table of its own.
//!
//! Owns: what is asked of them, what a scenario works with and finds, where the figures go. Must not
//! know: what they measure.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::comparison::Sample;
use crate::process::run_tool;
use crate::report::{self, Goal, Machine, Report};
use crate::{Options, workspace, write_json};

/// One question, which can be asked alone.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) goals: &'static [Goal],
    pub(crate) measure: fn(&Bench<'_>) -> io::Result<Findings>,
}

/// What a scenario works with.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    /// Its own, and emptied behind it.
    pub(crate) data: PathBuf,
}

/// What a scenario found.
pub(crate) struct Findings {
    /// The first is compared with each of the others.
    pub(crate) contenders: Vec<String>,
    pub(crate) samples: Vec<Sample>,
}

/// Measures those that were asked for, prints the tables and writes the JSON. `what` is the name of all
/// of them together.
pub(crate) fn run(
    options: &Options,
    data: &Path,
    what: &str,
    scenarios: &[Scenario],
) -> io::Result<()> {
    let chosen: Vec<&Scenario> = scenarios
        .iter()
        .filter(|scenario| {
            options.only.is_empty() || options.only.iter().any(|o| o == scenario.name)
        })
        .collect();
    if let Some(unknown) = options.only.iter().find(|o| scenarios.iter().all(|s| s.name != **o)) {
        return Err(io::Error::other(format!("there is no scenario {unknown}")));
    }
    let (machine, date) = (Machine::here()?, report::date()?);
    println!("{date}: {}", machine.caption());
    let mut measured = Map::new();
    for Scenario { name, goals, measure } in chosen {
        let bench = Bench { options, data: data.join(name) };
        fs::create_dir_all(&bench.data)?;
        let started_at = Instant::now();
        let found = measure(&bench);
        let seconds = started_at.elapsed().as_secs();
        // The next one needs the space, and what went wrong is in the files beside the data.
        remove_directories(&bench.data)?;
        let Findings { contenders, samples } =
            found.map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))?;
        let brokers = contenders.iter().map(String::as_str).collect();
        let report = Report { brokers, samples: &samples, goals };
        println!("\n## {name}, {seconds} s\n\n{}", report.markdown());
        measured.insert((*name).to_owned(), report.json());
    }
    let out = options.out.clone().unwrap_or_else(|| {
        // Only a whole run at its full extent is worth keeping.
        let kept = options.only.is_empty() && !options.quick;
        let directory = if kept { "bench/results" } else { "target/bench" };
        workspace().join(directory).join(format!("{date}-{what}.json"))
    });
    write_json(&out, &machine, &date, json!({ "scenarios": Value::Object(measured) }))
}

/// Removes the directories in `path`, not its files.
fn remove_directories(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Bench<'_> {
    /// `whole`, or a part of it where a run shall only show that it works.
    pub(crate) fn extent(&self, whole: usize) -> usize {
        if self.options.quick { (whole / 8).max(1) } else { whole }
    }

    pub(crate) fn rounds(&self, whole: usize) -> usize {
        if self.options.quick { 1 } else { self.options.repeat.unwrap_or(whole) }
    }

    pub(crate) fn seconds(&self, whole: u64) -> Duration {
        Duration::from_secs(if self.options.quick { 1 } else { whole })
    }

    /// What was written before shall not be written back while something is timed.
    pub(crate) fn settle(&self) -> io::Result<()> {
        run_tool(Command::new("sync").arg("--file-system").arg(&self.data)).map(drop)
    }
}

impl Findings {
    pub(crate) fn new(contenders: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let contenders = contenders.into_iter().map(Into::into).collect();
        Self { contenders, samples: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        broker: usize,
        round: usize,
        cell: &str,
        metric: &'static str,
        value: f64,
    ) {
        eprintln!("{:<16} {round} {cell}: {value:.3} {metric}", self.contenders[broker]);
        self.samples.push(Sample { broker, round, cell: cell.to_owned(), metric, value });
    }

    /// Median and tail of microseconds, in milliseconds.
    pub(crate) fn add_latencies(
        &mut self,
        broker: usize,
        round: usize,
        cell: &str,
        of: &Histogram<u64>,
    ) {
        for (metric, quantile) in [("p50, ms", 0.5), ("p99, ms", 0.99)] {
            self.add(broker, round, cell, metric, of.value_at_quantile(quantile) as f64 / 1e3);
        }
    }
}

/// A B C, then C B A, and so on: what drifts over time falls on all of them alike.
pub(crate) fn turns(contenders: usize, round: usize) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..contenders).collect();
    if round % 2 == 1 {
        turns.reverse();
    }
    turns
}
