//! Clients that nobody here wrote, against a broker. See README.md.
#![allow(clippy::print_stdout, reason = "a command-line tool prints its tables")]
#![allow(
    clippy::disallowed_methods,
    reason = "it drives foreign programs from outside of the product: the machine's clock, \
              threads and sockets are the right ones"
)]

mod adopt;
mod broker;
mod client;
mod disk;
mod ensemble;
mod flights;
mod install;
mod kcat;
mod keeper;
mod keeper_clients;
mod keeper_kafka;
mod keeper_linear;
mod matrix;
mod namespace;
mod noise;
mod numbers;
mod power;
mod quorum;
mod records;
mod tools;
mod tree;
mod upkeep;
mod znodes;
mod zookeeper;

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use broker::{Broker, Target};
use install::Tools;

const USAGE: &str =
    "usage: conformance SUITE [OPTION]...
  SUITE                  install, clients, flights, tools, disk, adopt, keeper, keeper-clients, keeper-kafka,
                         keeper-upkeep, tree, znodes, ensemble, power, keeper-linear, or all
  --broker PATH          start this ottla binary; target/release/ottla by default
  --kafka 3.9|4          start Apache Kafka instead, the reference
  --bootstrap HOST:PORT  use a broker that runs already
  --only NAME,NAME       clients, keeper-clients: only these
  --rows N               flights: only the first N rows, and no consumer is killed
  --cuts N               power: so many cuts; $OTTLA_POWER_CUTS or 3 by default
  --seed N               power, keeper-linear: the draws of an earlier run
  --flush-before-ack true|false   power: only with log.flush.before.ack, or only without";

/// What this machine cannot run is no success: this exit code says so, as automake's does.
const NOT_RUN: u8 = 77;

/// A suite's word for a failure: this is a program for people, who read it.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// The command line.
struct Options {
    suite: String,
    target: Target,
    only: Option<Vec<String>>,
    rows: Option<usize>,
    power: power::Options,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/ottla");
        let target = Target::Ottla(default.into());
        let suite = args.next()?;
        let power = power::Options::from_environment()?;
        let mut options = Self { suite, target, only: None, rows: None, power };
        while let Some(option) = args.next() {
            let (option, value) = match option.split_once('=') {
                Some((option, value)) => (option.to_owned(), value.to_owned()),
                None => (option, args.next()?),
            };
            match option.as_str() {
                "--broker" => options.target = Target::Ottla(value.into()),
                "--bootstrap" => options.target = Target::Running(value),
                "--kafka" => {
                    let version = install::KAFKA.iter().find(|known| known.starts_with(&value))?;
                    options.target = Target::Kafka(version);
                }
                "--only" => options.only = Some(value.split(',').map(str::to_owned).collect()),
                "--rows" => options.rows = Some(value.parse().ok().filter(|&rows| rows > 0)?),
                "--cuts" => options.power.cuts = value.parse().ok().filter(|&cuts| cuts > 0)?,
                "--seed" => options.power.seed = Some(value.parse().ok()?),
                "--flush-before-ack" => options.power.flush_before_ack = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        Some(options)
    }
}

fn main() -> ExitCode {
    let suites = [
        "install",
        "clients",
        "flights",
        "tools",
        "keeper",
        "keeper-clients",
        "keeper-kafka",
        "keeper-upkeep",
        "tree",
        "znodes",
        "ensemble",
        "disk",
        "adopt",
        "power",
        "keeper-linear",
        "all",
    ];
    let Some(options) = Options::parse(env::args().skip(1))
        .filter(|options| suites.contains(&options.suite.as_str()))
    else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let lack = match options.suite.as_str() {
        "power" => power::missing(),
        "keeper-linear" => keeper_linear::missing(),
        _ => None,
    };
    if let Some(what) = lack {
        println!("not run: {what}");
        return ExitCode::from(NOT_RUN);
    }
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            println!("{failures} failures");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("conformance: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<usize> {
    if ["power", "keeper-linear"].contains(&&*options.suite) {
        let Target::Ottla(binary) = &options.target else {
            return Err(format!("{}: it has to start an ottla itself", options.suite).into());
        };
        return match options.suite.as_str() {
            "power" => power::run(binary, &options.power),
            _ => keeper_linear::run(binary, options.power.seed),
        };
    }
    let tools = Tools::install()?;
    if options.suite == "install" {
        return Ok(0);
    }
    // Milliseconds since the epoch; they also make the names of topics and groups new.
    let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_millis())?;
    let work = env::temp_dir().join(format!("ottla-conformance-{now}"));
    fs::create_dir_all(&work)?;
    let failures = run_suites(options, &tools, now, &work);
    fs::remove_dir_all(work)?;
    failures
}

fn run_suites(options: &Options, tools: &Tools, now: i64, work: &Path) -> Outcome<usize> {
    let runs = |suite: &str| options.suite == suite || options.suite == "all";
    let mut failures = 0;
    let no_broker = [
        "disk",
        "adopt",
        "keeper",
        "keeper-clients",
        "keeper-kafka",
        "keeper-upkeep",
        "tree",
        "znodes",
        "ensemble",
    ];
    if !no_broker.contains(&&*options.suite) {
        let clients = client::clients(options.only.as_deref())?;
        let broker = Broker::start(&options.target, tools)?;
        if runs("clients") {
            failures += matrix::run(&broker, tools, &clients, now, work)?;
        }
        if runs("tools") {
            failures += tools::run(&broker, tools, now)?;
        }
        if runs("flights") {
            failures += flights::run(&broker, tools, options.rows, now, work)?;
        }
    }
    // Both are about ZooKeeper: of a Kafka there is nothing to compare.
    if options.suite == "keeper" || runs("keeper") && matches!(options.target, Target::Ottla(_)) {
        failures += keeper::run(&options.target, tools)?;
    }
    if options.suite == "keeper-clients"
        || runs("keeper-clients") && matches!(options.target, Target::Ottla(_))
    {
        // Among all suites, the names are those of Kafka's clients.
        let only = options.only.as_deref().filter(|_| options.suite == "keeper-clients");
        failures += keeper_clients::run(&options.target, tools, only)?;
    }
    if options.suite == "keeper-kafka" {
        failures += keeper_kafka::run(&options.target, tools)?;
    }
    if options.suite == "keeper-upkeep" {
        failures += upkeep::run(&options.target, tools, work)?;
    }
    if options.suite == "tree" || runs("tree") && matches!(options.target, Target::Ottla(_)) {
        failures += tree::run(tools)?;
    }
    if options.suite == "adopt" || runs("adopt") && matches!(options.target, Target::Ottla(_)) {
        failures += adopt::run(&options.target, tools)?;
    }
    if options.suite == "znodes" || runs("znodes") && matches!(options.target, Target::Ottla(_)) {
        failures += znodes::run(&options.target, tools)?;
    }
    if options.suite == "ensemble" {
        failures += ensemble::run(&options.target, tools)?;
    }
    if runs("disk") {
        failures += disk::run(&options.target, tools, now, work)?;
    }
    Ok(failures)
}
