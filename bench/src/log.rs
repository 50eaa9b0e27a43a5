//! `ottla-bench log`: what durability, recovery and compaction cost, scenario by scenario.
//!
//! Owns: the list of scenarios and where their figures go. Must not know: how they are measured.

mod compaction;
mod disk;
mod flush;
mod idle;
mod produce;
mod producer;
mod requests;
mod restart;
mod sendfile;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::comparison::Sample;
use crate::process::{Recipe, run_tool};
use crate::report::{self, Goal, Machine, Report};
use crate::{Options, kafka, ottla, tools, workspace, write_json};

/// One question about the log, which can be asked alone.
struct Scenario {
    name: &'static str,
    goals: &'static [Goal],
    measure: fn(&Bench<'_>) -> io::Result<Findings>,
}

const SCENARIOS: [Scenario; 8] = [
    Scenario { name: "disk", goals: &[], measure: disk::measure },
    Scenario { name: "produce", goals: &produce::GOALS, measure: produce::measure },
    Scenario { name: "flush", goals: &flush::GOALS, measure: flush::measure },
    Scenario { name: "restart", goals: &restart::KILL_GOALS, measure: restart::after_kill },
    Scenario { name: "segments", goals: &restart::STOP_GOALS, measure: restart::after_stop },
    Scenario { name: "idle", goals: &idle::GOALS, measure: idle::measure },
    Scenario { name: "compaction", goals: &[], measure: compaction::measure },
    Scenario { name: "sendfile", goals: &sendfile::GOALS, measure: sendfile::measure },
];

/// What a scenario works with.
pub(crate) struct Bench<'a> {
    options: &'a Options,
    /// Its own, and emptied behind it.
    data: PathBuf,
}

/// What a scenario found.
pub(crate) struct Findings {
    /// The first is compared with each of the others.
    contenders: Vec<String>,
    samples: Vec<Sample>,
}

/// Measures, prints the tables and writes the JSON.
pub(crate) fn run(options: &Options, data: &Path) -> io::Result<()> {
    let chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| {
            options.only.is_empty() || options.only.iter().any(|o| o == scenario.name)
        })
        .collect();
    if let Some(unknown) = options.only.iter().find(|o| SCENARIOS.iter().all(|s| s.name != **o)) {
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
        workspace().join(directory).join(format!("{date}-log.json"))
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
    /// Ottla under another name, with `settings` beside its defaults.
    fn ottla(&self, name: &str, settings: &[(&str, &str)]) -> io::Result<Recipe> {
        let directory = name.to_lowercase().replace([',', ' '], "-");
        let recipe = ottla(self.options, &self.data, &directory, settings)?;
        Ok(Recipe { name: name.to_owned(), ..recipe })
    }

    /// The versions of Apache Kafka that were asked for, with `settings` beside what is shipped.
    fn kafkas(&self, settings: &[(&str, &str)]) -> io::Result<Vec<Recipe>> {
        let versions = self.options.kafka(&kafka::VERSIONS[..1]).into_iter();
        versions.map(|version| kafka::recipe(version, &tools(), &self.data, settings)).collect()
    }

    /// `whole`, or a part of it where a run shall only show that it works.
    fn extent(&self, whole: usize) -> usize {
        if self.options.quick { (whole / 8).max(1) } else { whole }
    }

    fn rounds(&self, whole: usize) -> usize {
        if self.options.quick { 1 } else { self.options.repeat.unwrap_or(whole) }
    }

    fn seconds(&self, whole: u64) -> Duration {
        Duration::from_secs(if self.options.quick { 1 } else { whole })
    }

    /// What was written before shall not be written back while something is timed.
    fn settle(&self) -> io::Result<()> {
        run_tool(Command::new("sync").arg("--file-system").arg(&self.data)).map(drop)
    }
}

impl Findings {
    fn new(contenders: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let contenders = contenders.into_iter().map(Into::into).collect();
        Self { contenders, samples: Vec::new() }
    }

    fn add(&mut self, broker: usize, round: usize, cell: &str, metric: &'static str, value: f64) {
        eprintln!("{:<16} {round} {cell}: {value:.3} {metric}", self.contenders[broker]);
        self.samples.push(Sample { broker, round, cell: cell.to_owned(), metric, value });
    }

    /// Median and tail of microseconds, in milliseconds.
    fn add_latencies(&mut self, broker: usize, round: usize, cell: &str, of: &Histogram<u64>) {
        for (metric, quantile) in [("p50, ms", 0.5), ("p99, ms", 0.99)] {
            self.add(broker, round, cell, metric, of.value_at_quantile(quantile) as f64 / 1e3);
        }
    }
}

/// A B C, then C B A, and so on: what drifts over time falls on all of them alike.
fn turns(contenders: usize, round: usize) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..contenders).collect();
    if round % 2 == 1 {
        turns.reverse();
    }
    turns
}

/// Says which broker an error is about.
fn of<T>(recipe: &Recipe, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", recipe.name)))
}
