//! The suites: what each runs, and how much of CI's time is its own.

use std::time::Duration;

use crate::run::Line;
use crate::workspace::Workspace;

/// Who runs a suite, and on what machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Needs {
    /// `cargo xtask test`: Rust and a C compiler.
    Rust,
    /// `cargo xtask test --all`: also what [`crate::install`] asks for.
    ForeignClients,
}

/// What starts a suite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Program {
    /// `cargo test` in the profile of CI. At least one test has to run.
    Tests,
    /// This program.
    Xtask,
    /// `ottla-conformance`, against the broker that was built.
    Conformance,
    /// `ottla-simulation`.
    Simulation,
}

/// A row of the table.
pub(crate) struct Suite {
    pub(crate) name: &'static str,
    /// What it shows, for the list.
    pub(crate) shows: &'static str,
    pub(crate) needs: Needs,
    /// Seconds of CI's time on two cores, after the build. A suite over its share fails.
    share_s: u64,
    program: Program,
    args: &'static [&'static str],
    /// What makes it as long as `cargo xtask prove` wants it.
    full_env: &'static [(&'static str, &'static str)],
}

/// What comes before the suites, in seconds on two cores with nothing built yet.
pub(crate) const BUILD_SHARE_S: u64 = 14 * 60;
/// Fetching the foreign clients, where nothing is there yet.
pub(crate) const INSTALL_SHARE_S: u64 = 8 * 60;

/// All suites, in the order in which they run.
pub(crate) const SUITES: &[Suite] = &[
    Suite {
        name: "tidy",
        shows: "layers, banned calls, sizes, manifests and docs",
        needs: Needs::Rust,
        share_s: 10,
        program: Program::Xtask,
        args: &["tidy"],
        full_env: &[],
    },
    Suite {
        name: "codegen",
        shows: "the generated messages are those of the schemas",
        needs: Needs::Rust,
        share_s: 10,
        program: Program::Xtask,
        args: &["codegen", "--check"],
        full_env: &[],
    },
    Suite {
        name: "tests",
        shows: "the tests of every crate; proved with 50 times as many random cases",
        needs: Needs::Rust,
        share_s: 130,
        program: Program::Tests,
        args: &[
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
            "--",
            "--skip",
            "hostile::",
            "--skip",
            "kill::",
            "--skip",
            "crash_points::",
            "--skip",
            "linear::",
            "--skip",
            "quorum::all",
        ],
        full_env: &[("PROPTEST_CASES", "12800")],
    },
    Suite {
        name: "kill",
        shows: "what was acknowledged is there once and in order after kill -9; proved with 20 kills",
        needs: Needs::Rust,
        share_s: 30,
        program: Program::Tests,
        args: &["--test", "it", "--no-fail-fast", "--", "kill::"],
        full_env: &[("OTTLA_KILL_ROUNDS", "20")],
    },
    Suite {
        name: "power",
        shows: "what was acknowledged is there after a power cut; proved with 50 cuts",
        needs: Needs::Rust,
        share_s: 30,
        program: Program::Conformance,
        args: &["power"],
        full_env: &[("OTTLA_POWER_CUTS", "50")],
    },
    Suite {
        name: "keeper-linear",
        shows: "what clients of a quorum see is linearizable, whatever fails; proved for eight minutes",
        needs: Needs::Rust,
        share_s: 70,
        program: Program::Conformance,
        args: &["keeper-linear"],
        full_env: &[("OTTLA_LINEAR_ROUNDS", "8"), ("OTTLA_LINEAR_SECONDS", "60")],
    },
    Suite {
        name: "crash",
        shows: "a crash at any call of the disk takes nothing that is durable; proved at 100,000 points",
        needs: Needs::Rust,
        share_s: 25,
        program: Program::Tests,
        args: &["--test", "it", "--no-fail-fast", "--", "--nocapture", "crash_points::"],
        full_env: &[("OTTLA_CRASH_POINTS", "100000")],
    },
    Suite {
        name: "quorum",
        shows: "keepers agree, and what clients see is linearizable, under faults of a seed; proved with 10,000",
        needs: Needs::Rust,
        share_s: 25,
        program: Program::Tests,
        args: &["--test", "it", "--no-fail-fast", "--", "--nocapture", "linear::", "quorum::all"],
        full_env: &[("OTTLA_KEEPER_SEEDS", "10000")],
    },
    Suite {
        name: "simulation",
        shows: "servers keep their promises under all faults, seed by seed; proved with 20,000",
        needs: Needs::Rust,
        share_s: 200,
        program: Program::Simulation,
        args: &["--nodes", "1,3", "--first", "1000"],
        full_env: &[("OTTLA_SIMULATION_SEEDS", "20000")],
    },
    Suite {
        name: "hostile",
        shows: "broken and hostile bytes harm nobody but their sender",
        needs: Needs::Rust,
        share_s: 20,
        program: Program::Tests,
        args: &["--test", "it", "--no-fail-fast", "--", "hostile::"],
        full_env: &[("PROPTEST_CASES", "12800")],
    },
    Suite {
        name: "examples",
        shows: "the examples in the docs",
        needs: Needs::Rust,
        share_s: 20,
        program: Program::Tests,
        args: &["--doc"],
        full_env: &[],
    },
    Suite {
        name: "readme",
        shows: "what the README tells one to try",
        needs: Needs::ForeignClients,
        share_s: 20,
        program: Program::Xtask,
        args: &["readme"],
        full_env: &[],
    },
    Suite {
        name: "clients",
        shows: "foreign clients write and read each other's records",
        needs: Needs::ForeignClients,
        share_s: 100,
        program: Program::Conformance,
        args: &["clients"],
        full_env: &[],
    },
    Suite {
        name: "flights",
        shows: "every row of a year of flights, once and in order, through a group that loses a member",
        needs: Needs::ForeignClients,
        share_s: 60,
        program: Program::Conformance,
        args: &["flights"],
        full_env: &[],
    },
    Suite {
        name: "tools",
        shows: "Kafka's own command-line tools",
        needs: Needs::ForeignClients,
        share_s: 120,
        program: Program::Conformance,
        args: &["tools"],
        full_env: &[],
    },
    Suite {
        name: "keeper",
        shows: "the keeper answers as ZooKeeper does; proved with 40 seeds",
        needs: Needs::ForeignClients,
        share_s: 40,
        program: Program::Conformance,
        args: &["keeper"],
        full_env: &[("OTTLA_KEEPER_DRAWS", "40")],
    },
    Suite {
        name: "keeper-kafka",
        shows: "three brokers of Kafka 3.9 on three keepers, with keepers and brokers killed",
        needs: Needs::ForeignClients,
        share_s: 65,
        program: Program::Conformance,
        args: &["keeper-kafka"],
        full_env: &[],
    },
    Suite {
        name: "keeper-upkeep",
        shows: "Kafka 3.9 goes on when its tree moves from ZooKeeper to a keeper, and back",
        needs: Needs::ForeignClients,
        share_s: 50,
        program: Program::Conformance,
        args: &["keeper-upkeep"],
        full_env: &[],
    },
    Suite {
        name: "keeper-clients",
        shows: "foreign clients and recipes get from the keeper what they get from ZooKeeper; proved with 3.8 too",
        needs: Needs::ForeignClients,
        share_s: 55,
        program: Program::Conformance,
        args: &["keeper-clients"],
        full_env: &[("OTTLA_KEEPER_CLIENTS_LONG", "1")],
    },
    Suite {
        name: "tree",
        shows: "the tree keeps its contract in ZooKeeper, whose servers are killed; proved with 20 kills",
        needs: Needs::ForeignClients,
        share_s: 60,
        program: Program::Conformance,
        args: &["tree"],
        full_env: &[("OTTLA_TREE_KILLS", "20"), ("OTTLA_TREE_NODES", "100000")],
    },
    Suite {
        name: "znodes",
        shows: "the tree of znodes is the one that Kafka 3.9 writes, and each starts over the other's",
        needs: Needs::ForeignClients,
        share_s: 80,
        program: Program::Conformance,
        args: &["znodes"],
        full_env: &[],
    },
    Suite {
        name: "ensemble",
        shows: "a broker on servers of ZooKeeper, as it is, by SASL and by TLS; both are killed, one of Kafka becomes it",
        needs: Needs::ForeignClients,
        share_s: 160,
        program: Program::Conformance,
        args: &["ensemble"],
        full_env: &[],
    },
    Suite {
        name: "disk",
        shows: "partitions move between Kafka's directories and Ottla's; proved with 8 ways to stop",
        needs: Needs::ForeignClients,
        // Each of its writers waits for the disk some hundred times, one after the other.
        share_s: 130,
        program: Program::Conformance,
        args: &["disk"],
        full_env: &[("OTTLA_DISK_ROUNDS", "8")],
    },
    Suite {
        name: "adopt",
        shows: "Ottla starts over directories of Kafka 4 and of 3.9, and clients go on",
        needs: Needs::ForeignClients,
        share_s: 150,
        program: Program::Conformance,
        args: &["adopt"],
        full_env: &[],
    },
];

impl Suite {
    pub(crate) fn share(&self) -> Duration {
        Duration::from_secs(self.share_s)
    }

    /// The command of CI.
    pub(crate) fn line(&self, workspace: &Workspace) -> Line {
        match self.program {
            Program::Xtask => Line::cargo().args(["xtask"]).args(self.args),
            Program::Tests => {
                Line::cargo().args(["test", "--workspace", "--profile", "ci"]).args(self.args)
            }
            Program::Conformance => conformance(workspace)
                .args(self.args)
                .args(["--broker".as_ref(), workspace.program("ci", "ottla").as_os_str()]),
            Program::Simulation => {
                simulation(workspace).args(self.args).env(&[("OTTLA_SIMULATION_SEEDS", "900")])
            }
        }
    }

    /// The command of `cargo xtask prove`.
    pub(crate) fn full_line(&self, workspace: &Workspace) -> Line {
        self.line(workspace).env(self.full_env)
    }

    /// Whether success means that tests were run and passed.
    pub(crate) fn counts_tests(&self) -> bool {
        self.program == Program::Tests
    }
}

/// Everything that suites run, in one build: the programs as well as the tests.
pub(crate) fn build() -> Line {
    let kinds = ["--lib", "--bins", "--tests"];
    Line::cargo().args(["build", "--workspace", "--profile", "ci"]).args(kinds)
}

/// What is proved, and is no part of CI.
pub(crate) const PROVED_ONLY: &[Suite] = &[Suite {
    name: "mutants",
    shows: "the simulator finds what is built into the servers to be found, each within 2,000 seeds",
    needs: Needs::Rust,
    share_s: 0,
    program: Program::Xtask,
    args: &["mutants"],
    full_env: &[],
}];

/// The simulator.
pub(crate) fn simulation(workspace: &Workspace) -> Line {
    Line::new(workspace.program("ci", "ottla-simulation"))
}

/// The runner of foreign clients.
pub(crate) fn conformance(workspace: &Workspace) -> Line {
    Line::new(workspace.program("ci", "ottla-conformance"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_fit_into_the_time_of_ci() {
        let suites: u64 = SUITES.iter().map(|suite| suite.share_s).sum();
        assert!(suites <= 28 * 60, "{suites} s");
        // Formatting and clippy come first; they share the dependencies of the build.
        let lints = 10 * 60;
        assert!(lints + BUILD_SHARE_S + INSTALL_SHARE_S + suites <= 60 * 60);
    }

    #[test]
    fn suites_have_names_of_their_own() {
        let mut names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
