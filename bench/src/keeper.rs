//! `ottla-bench keeper`: the keeper beside Apache ZooKeeper, scenario by scenario.
//!
//! Owns: the list of scenarios and who is measured. Must not know: how they are measured.

mod ensemble;
mod failover;
mod load;
mod memory;
mod snapshot;
mod start;
mod throughput;
mod watches;
mod wire;
mod zookeeper;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::scenario::{self, Bench, Findings, Scenario, turns};
use crate::{Options, tools};
use ensemble::Ensemble;

/// What Kafka 3.9 ships; `--zookeeper` names another one.
pub(crate) const ZOOKEEPER: &str = "3.8.4";

const SCENARIOS: [Scenario; 9] = [
    Scenario { name: "writes-1", goals: &[], measure: throughput::writes_to_one },
    Scenario { name: "writes-3", goals: &[], measure: throughput::writes_to_three },
    Scenario { name: "reads-1", goals: &[], measure: throughput::reads_of_one },
    Scenario { name: "reads-3", goals: &[], measure: throughput::reads_of_three },
    Scenario { name: "watches", goals: &[], measure: watches::measure },
    Scenario { name: "start", goals: &[], measure: start::measure },
    Scenario { name: "memory", goals: &[], measure: memory::measure },
    Scenario { name: "snapshot", goals: &[], measure: snapshot::measure },
    Scenario { name: "failover", goals: &[], measure: failover::measure },
];

/// Measures, prints the tables and writes the JSON.
pub(crate) fn run(options: &Options, data: &Path) -> io::Result<()> {
    scenario::run(options, data, "keeper", &SCENARIOS)
}

impl Bench<'_> {
    /// The keeper and ZooKeeper, each of so many nodes; the keeper first. `settings` are
    /// ZooKeeper's, beside what is shipped.
    fn ensembles(&self, nodes: usize, settings: &[(&str, &str)]) -> io::Result<[Ensemble; 2]> {
        let version = self.options.zookeeper.as_deref().unwrap_or(ZOOKEEPER);
        let keeper = Ensemble::keeper(&self.program()?, &self.data, nodes)?;
        Ok([keeper, zookeeper::ensemble(version, &tools(), &self.data, nodes, settings)?])
    }

    fn program(&self) -> io::Result<PathBuf> {
        let broker = &self.options.broker;
        fs::canonicalize(broker)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", broker.display())))
    }
}

/// Findings about these.
fn findings(ensembles: &[Ensemble]) -> Findings {
    Findings::new(ensembles.iter().map(|ensemble| &*ensemble.name))
}

/// Says whom an error is about.
fn of<T>(ensemble: &Ensemble, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", ensemble.name)))
}
