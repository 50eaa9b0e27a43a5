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

use std::io;
use std::path::Path;

use crate::process::Recipe;
use crate::scenario::{self, Bench, Findings, Scenario, turns};
use crate::{Options, kafka, ottla, tools};

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

/// Measures, prints the tables and writes the JSON.
pub(crate) fn run(options: &Options, data: &Path) -> io::Result<()> {
    scenario::run(options, data, "log", &SCENARIOS)
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
}

/// Says which broker an error is about.
fn of<T>(recipe: &Recipe, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", recipe.name)))
}
