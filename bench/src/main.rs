//! Ottla's measures: beside the floor, beside Apache Kafka and beside Apache ZooKeeper. See README.md.
#![allow(clippy::print_stdout, reason = "a command-line tool prints its tables")]
#![allow(
    clippy::disallowed_methods,
    reason = "a load comes from outside of the product: it has the machine's clock and sockets"
)]

mod comparison;
mod floor;
mod kafka;
mod keeper;
mod latency;
mod load;
mod log;
mod process;
mod report;
mod scenario;
mod wire;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use comparison::{Comparison, Extent};
use process::{Launch, Recipe, free_address};
use report::{Goal, Machine, Report};
use serde_json::{Value, json};

const USAGE: &str = "usage: ottla-bench floor|kafka|log|keeper [OPTION]...
  --broker PATH     the ottla binary; target/dist/ottla by default
  --repeat N        rounds that count; 5 beside the floor and 3 beside Kafka by default
  --kafka A,B       versions of Apache Kafka; 3.9.2,4.4.0 by default, for log 3.9.2 alone
  --zookeeper A     the version of Apache ZooKeeper; 3.8.4 by default
  --rt              latencies under SCHED_FIFO, where permitted: for a machine with other work
  --quick           an eighth of the bytes, one round: to see that it works, not to quote
  --out FILE        where the JSON goes
  --only A,B        log: these scenarios only, of disk, produce, flush, restart, segments, idle,
                    compaction and sendfile; keeper: of writes-1, writes-3, reads-1, reads-3,
                    watches, start, memory, snapshot and failover
  --gb N            log: what is recovered after a kill, in GB; 10 by default";

/// A run ends within twelve minutes, even on a machine with much other work.
const LONGEST: Duration = Duration::from_secs(8 * 60);

/// The command line.
struct Options {
    command: String,
    broker: PathBuf,
    repeat: Option<usize>,
    /// Versions; the command knows its own.
    kafka: Option<Vec<String>>,
    zookeeper: Option<String>,
    real_time: bool,
    quick: bool,
    out: Option<PathBuf>,
    /// Scenarios of `log` or `keeper`; all of them if empty.
    only: Vec<String>,
    /// What a broker recovers, in GB.
    gigabytes: usize,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self {
            command: args.next()?,
            broker: workspace().join("target/dist/ottla"),
            repeat: None,
            kafka: None,
            zookeeper: None,
            real_time: false,
            quick: false,
            out: None,
            only: Vec::new(),
            gigabytes: 10,
        };
        while let Some(option) = args.next() {
            match option.as_str() {
                "--broker" => options.broker = args.next()?.into(),
                "--repeat" => options.repeat = Some(args.next()?.parse().ok().filter(|&n| n > 0)?),
                "--kafka" => options.kafka = Some(list(&args.next()?)),
                "--zookeeper" => options.zookeeper = Some(args.next()?),
                "--rt" => options.real_time = true,
                "--quick" => options.quick = true,
                "--out" => options.out = Some(args.next()?.into()),
                "--only" => options.only = list(&args.next()?),
                "--gb" => options.gigabytes = args.next()?.parse().ok().filter(|&n| n > 0)?,
                _ => return None,
            }
        }
        Some(options)
    }

    /// The versions of Apache Kafka to measure, where none were named `default`.
    fn kafka<'a>(&'a self, default: &[&'a str]) -> Vec<&'a str> {
        match &self.kafka {
            Some(named) => named.iter().map(String::as_str).collect(),
            None => default.to_vec(),
        }
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    // A sleep may end 50 µs late by default. Threads inherit this; without it p50 is that worse.
    if let Err(error) = fs::write("/proc/self/timerslack_ns", "1") {
        eprintln!("latencies include the timer's slack: {error}");
    }
    let data = workspace().join(format!("target/bench/{}", std::process::id()));
    let outcome = match options.command.as_str() {
        "floor" => beside_floor(&options, &data),
        "kafka" => beside_kafka(&options, &data),
        "log" => log::run(&options, &data),
        "keeper" => keeper::run(&options, &data),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => {
            // What the brokers said; of use to nobody now.
            let _ = fs::remove_dir_all(&data);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ottla-bench: {error}\nwhat the brokers said is in {}", data.display());
            ExitCode::FAILURE
        }
    }
}

fn beside_floor(options: &Options, data: &Path) -> io::Result<()> {
    let extent = Extent {
        rounds: options.repeat.unwrap_or(5),
        longest: LONGEST,
        warm_up_rounds: 0,
        starts: 5,
        bytes_divisor: 1,
        latency_seconds: 5,
        real_time: options.real_time,
    };
    // The floor flushes nothing: what is compared is the way of a request.
    let no_flush = [("log.flush.before.ack", "false")];
    let recipes = [ottla(options, data, "ottla", &no_flush)?, floor::recipe(&tools(), data)?];
    compare(options, &recipes, extent, &floor::GOALS, "floor")
}

fn beside_kafka(options: &Options, data: &Path) -> io::Result<()> {
    let extent = Extent {
        rounds: options.repeat.unwrap_or(3),
        longest: LONGEST,
        // A JVM compiles what is hot: the first round shows several times its later cost, and
        // the second still a quarter more.
        warm_up_rounds: 2,
        starts: 3,
        bytes_divisor: 2,
        latency_seconds: 5,
        real_time: options.real_time,
    };
    let mut recipes = vec![ottla(options, data, "ottla", &[])?];
    for version in options.kafka(&kafka::VERSIONS) {
        recipes.push(kafka::recipe(version, &tools(), data, &[])?);
    }
    compare(options, &recipes, extent, &[], "kafka")
}

/// Measures, prints the table and writes the JSON.
fn compare(
    options: &Options,
    recipes: &[Recipe],
    mut extent: Extent,
    goals: &[Goal],
    what: &str,
) -> io::Result<()> {
    if options.quick {
        extent = Extent { rounds: 1, starts: 1, bytes_divisor: 8, latency_seconds: 2, ..extent };
    }
    let (machine, date) = (Machine::here()?, report::date()?);
    let outcome = Comparison::run(recipes, extent);
    for recipe in recipes {
        // What is left over is under target/ and does no harm.
        let _ = fs::remove_dir_all(&recipe.data);
    }
    let samples = outcome?;
    let brokers = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
    let report = Report { brokers, samples: &samples, goals };
    let out = options.out.clone().unwrap_or_else(|| {
        // Only a comparison with Kafka at its full extent is worth keeping.
        let kept = what == "kafka" && !options.quick;
        let directory = if kept { "bench/results" } else { "target/bench" };
        workspace().join(directory).join(format!("{date}-{what}.json"))
    });
    println!("{date}: {}\n\n{}", machine.caption(), report.markdown());
    write_json(&out, &machine, &date, report.json())
}

/// Writes what was measured, with when and where.
fn write_json(out: &Path, machine: &Machine, date: &str, mut measured: Value) -> io::Result<()> {
    measured["date"] = json!(date);
    measured["machine"] = machine.json();
    if let Some(directory) = out.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(out, format!("{measured:#}\n"))?;
    eprintln!("written to {}", out.display());
    Ok(())
}

/// Ottla with `settings`; it takes its configuration keys from the environment. `directory` under
/// `data` is its own.
fn ottla(
    options: &Options,
    data: &Path,
    directory: &str,
    settings: &[(&str, &str)],
) -> io::Result<Recipe> {
    let program = fs::canonicalize(&options.broker).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}", options.broker.display()))
    })?;
    let address = free_address()?;
    let data = data.join(directory);
    let key = |key: &str| format!("OTTLA_{}", key.replace('.', "_").to_uppercase());
    let mut env = vec![
        (key("listeners"), format!("PLAINTEXT://{address}").into()),
        (key("log.dirs"), data.clone().into()),
    ];
    env.extend(settings.iter().map(|&(name, value)| (key(name), value.into())));
    Ok(Recipe {
        name: "Ottla".to_owned(),
        address,
        format: None,
        start: Launch { program, args: vec!["start".into()], env },
        data,
        is_ready: wire::is_ready,
    })
}

fn tools() -> PathBuf {
    workspace().join("target/tools")
}

fn workspace() -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().unwrap_or(bench).to_owned()
}
