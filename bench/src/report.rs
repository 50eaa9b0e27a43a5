//! Samples as a table for people and as JSON for programs.
//!
//! Owns: medians, ratios pair by pair, goals, the machine's description. Must not know: brokers.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::process::Command;

use serde_json::{Value, json};

use crate::comparison::Sample;
use crate::process::run_tool;

/// What the first broker has to reach.
#[derive(Clone, Copy)]
pub(crate) struct Goal {
    /// The front of the cell's name.
    pub(crate) cell: &'static str,
    pub(crate) metric: &'static str,
    pub(crate) limit: Limit,
}

/// The kinds of goal.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// As a multiple of the second broker's value.
    MostTimes(f64),
    /// As a multiple of the second broker's value.
    LeastTimes(f64),
    /// In the metric's unit.
    Most(f64),
}

/// The outcome of a comparison. The first broker is the one that the others are compared with.
pub(crate) struct Report<'a> {
    pub(crate) brokers: Vec<&'a str>,
    pub(crate) samples: &'a [Sample],
    pub(crate) goals: &'a [Goal],
}

/// A line of the table.
struct Row<'a> {
    cell: &'a str,
    metric: &'static str,
    /// Per broker.
    medians: Vec<Option<f64>>,
    /// The first broker to each of the others: the median of the ratios round by round.
    ratios: Vec<Option<f64>>,
}

impl Report<'_> {
    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = Vec::new();
        for Sample { cell, metric, .. } in self.samples {
            if rows.iter().any(|row| row.cell == cell && row.metric == *metric) {
                continue;
            }
            let of = |broker: usize| -> Vec<&Sample> {
                let same =
                    |s: &&Sample| s.broker == broker && s.cell == *cell && s.metric == *metric;
                self.samples.iter().filter(same).collect()
            };
            let first = of(0);
            let ratios = (1..self.brokers.len()).map(|other| {
                let others = of(other);
                let pair = |ours: &&Sample| {
                    let theirs = others.iter().find(|theirs| theirs.round == ours.round)?;
                    (theirs.value > 0.0).then_some(ours.value / theirs.value)
                };
                median(first.iter().filter_map(pair).collect())
            });
            rows.push(Row {
                cell,
                metric,
                medians: (0..self.brokers.len())
                    .map(|broker| median(of(broker).iter().map(|sample| sample.value).collect()))
                    .collect(),
                ratios: ratios.collect(),
            });
        }
        rows
    }

    /// The goal of a row and whether it is met.
    fn verdict(&self, row: &Row<'_>) -> Option<(String, bool)> {
        let goal = self
            .goals
            .iter()
            .find(|goal| row.cell.starts_with(goal.cell) && row.metric == goal.metric)?;
        let (ratio, median) = (row.ratios.first().copied().flatten(), row.medians[0]);
        Some(match goal.limit {
            Limit::MostTimes(limit) => (format!("≤ {limit} ×"), ratio? <= limit),
            Limit::LeastTimes(limit) => (format!("≥ {limit} ×"), ratio? >= limit),
            Limit::Most(limit) => (format!("≤ {limit}"), median? <= limit),
        })
    }

    /// The table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let first = self.brokers[0];
        let mut header = vec!["what".to_owned(), "unit".to_owned()];
        header.extend(self.brokers.iter().map(|name| (*name).to_owned()));
        header.extend(self.brokers[1..].iter().map(|other| format!("{first} ÷ {other}")));
        if !self.goals.is_empty() {
            header.push("goal".to_owned());
        }
        let mut table = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
        for row in self.rows() {
            let mut line = vec![row.cell.to_owned(), row.metric.to_owned()];
            line.extend(row.medians.iter().chain(&row.ratios).map(|value| rounded(*value)));
            if !self.goals.is_empty() {
                line.push(self.verdict(&row).map_or_else(String::new, |(goal, met)| {
                    format!("{goal} {}", if met { "met" } else { "**missed**" })
                }));
            }
            // Infallible: a String takes everything.
            let _ = writeln!(table, "| {} |", line.join(" | "));
        }
        table
    }

    /// Each row and each sample.
    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows()
            .iter()
            .map(|row| {
                let goal = self.verdict(row).map(|(goal, met)| json!({ "goal": goal, "met": met }));
                json!({
                    "cell": row.cell, "metric": row.metric,
                    "medians": row.medians, "ratios": row.ratios, "goal": goal,
                })
            })
            .collect();
        let samples: Vec<Value> = self
            .samples
            .iter()
            .map(|sample| {
                json!({
                    "broker": self.brokers[sample.broker], "round": sample.round,
                    "cell": sample.cell, "metric": sample.metric, "value": sample.value,
                })
            })
            .collect();
        json!({ "brokers": self.brokers, "rows": rows, "samples": samples })
    }
}

/// What the figures were measured on.
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: f64,
    kernel: String,
    load: String,
}

impl Machine {
    /// Reads /proc.
    pub(crate) fn here() -> io::Result<Self> {
        let field = |file: &str, name: &str| -> io::Result<String> {
            let text = fs::read_to_string(file)?;
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            Ok(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal")?;
        let memory_kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name")?,
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: memory_kib / f64::from(1 << 20),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load: fs::read_to_string("/proc/loadavg")?.trim().to_owned(),
        })
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cores": self.cores, "memory_gib": self.memory_gib,
            "kernel": self.kernel, "load_before": self.load,
        })
    }

    /// One line for the table's caption.
    pub(crate) fn caption(&self) -> String {
        format!(
            "{}, {} cores, {:.0} GiB, Linux {}, load before {}",
            self.cpu, self.cores, self.memory_gib, self.kernel, self.load
        )
    }
}

/// Today in UTC, as in 2026-01-31.
pub(crate) fn date() -> io::Result<String> {
    run_tool(Command::new("date").args(["--utc", "+%Y-%m-%d"]))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 })
}

/// Three significant digits, or all of those before the point.
fn rounded(value: Option<f64>) -> String {
    let Some(value) = value else { return "–".to_owned() };
    let digits = if value > 0.0 { 2 - value.log10().floor() as i32 } else { 0 };
    format!("{value:.*}", digits.max(0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(broker: usize, round: usize, value: f64) -> Sample {
        Sample { broker, round, cell: "produce, large".to_owned(), metric: "CPU s/GB", value }
    }

    #[test]
    fn ratios_are_of_pairs_and_goals_are_of_ratios() {
        // The rounds differ more than the brokers do: the ratio of medians would be 3 / 4.
        let samples = [
            [sample(0, 0, 1.5), sample(1, 0, 1.0)],
            [sample(0, 1, 3.0), sample(1, 1, 4.0)],
            [sample(0, 2, 30.0), sample(1, 2, 20.0)],
        ]
        .concat();
        let report = |limit| {
            let goals =
                [Goal { cell: "produce", metric: "CPU s/GB", limit: Limit::MostTimes(limit) }];
            Report { brokers: vec!["Ottla", "floor"], samples: &samples, goals: &goals }.markdown()
        };
        let line = |goal| format!("| produce, large | CPU s/GB | 3.00 | 4.00 | 1.50 | {goal} |\n");
        assert!(report(1.6).ends_with(&line("≤ 1.6 × met")), "{}", report(1.6));
        assert!(report(1.4).ends_with(&line("≤ 1.4 × **missed**")), "{}", report(1.4));
    }

    #[test]
    fn three_digits_are_kept() {
        let rounded = |value| super::rounded(Some(value));
        assert_eq!(rounded(0.000_234_4), "0.000234");
        assert_eq!(rounded(1.6049), "1.60");
        assert_eq!(rounded(22.36), "22.4");
        assert_eq!(rounded(5381.4), "5381");
        assert_eq!(rounded(0.0), "0");
    }
}
