//! The simulator's command line.
#![allow(clippy::print_stdout, reason = "a command-line tool prints what it found")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use ottla_runtime::{Clock, SystemClock, task};
use ottla_simulation::{Outcome, Plan, run, shrink};

/// Runs the production servers on seeds.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many servers: a broker with a keeper, and keepers. Of several counts each seed runs with all.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 3])]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=7))]
    nodes: Vec<u8>,
    /// How many seeds; without it, as many as there is time for.
    #[arg(long, env = "OTTLA_SIMULATION_SEEDS")]
    seeds: Option<u64>,
    /// The first of them; without it, one that nobody has run before.
    #[arg(long, env = "OTTLA_SIMULATION_FIRST")]
    first: Option<u64>,
    /// How long seeds are run, where it is not said how many.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Ends with the first seed that fails.
    #[arg(long)]
    until_failure: bool,
    /// Runs one seed, and tells what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Leaves out the faults that do not matter to what is wrong with the seed.
    #[arg(long, requires = "seed")]
    shrink: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let failed = match arguments.seed {
        Some(seed) => {
            arguments.nodes.iter().filter(|&&nodes| replay(seed, nodes, arguments.shrink)).count()
        }
        None => search(&arguments),
    };
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns whether something is wrong.
fn replay(seed: u64, nodes: u8, is_shrunk: bool) -> bool {
    let mut plan = Plan::draw(seed, nodes);
    if is_shrunk {
        plan = shrink(&plan);
    }
    // What the servers log stands between what clients do.
    let logs = tracing_subscriber::fmt().without_time().with_writer(std::io::stderr).finish();
    let outcome = tracing::subscriber::with_default(logs, || run(&plan, true));
    println!(
        "\nseed {seed} of {nodes} nodes, trace {:016x}; what went wrong:\n{plan}",
        outcome.trace
    );
    tell(seed, nodes, &outcome);
    !outcome.violations.is_empty()
}

/// What was run so far.
#[derive(Default)]
struct Sum {
    next: AtomicU64,
    seeds: AtomicU64,
    failed: AtomicU64,
    events: AtomicU64,
    simulated_ms: AtomicU64,
}

/// Returns how many runs failed.
fn search(arguments: &Arguments) -> usize {
    let clock = SystemClock::new();
    // Who comes a second later runs seeds of their own.
    let first = arguments.first.unwrap_or_else(|| clock.wall_ms().unsigned_abs() / 1_000 * 10_000);
    let end = arguments.seeds.map_or(u64::MAX, |seeds| first + seeds);
    let time = arguments.seeds.is_none().then(|| Duration::from_secs(arguments.seconds));
    let sum = Sum { next: AtomicU64::new(first), ..Sum::default() };
    let is_over = |seed: u64| {
        let has_found = arguments.until_failure && sum.failed.load(Ordering::Relaxed) > 0;
        seed >= end || has_found || time.is_some_and(|time| clock.elapsed() >= time)
    };
    let work = || {
        loop {
            let seed = sum.next.fetch_add(1, Ordering::Relaxed);
            if is_over(seed) {
                return;
            }
            arguments.nodes.iter().for_each(|&nodes| one(seed, nodes, &sum));
            sum.seeds.fetch_add(1, Ordering::Relaxed);
        }
    };
    let threads = task::available_parallelism();
    let started = task::run_all("simulation", vec![&work; threads]);
    assert!(started.is_ok(), "no threads: {started:?}");
    let seconds = sum.simulated_ms.into_inner() as f64 / 1e3;
    let pace = seconds / clock.elapsed().as_secs_f64() / threads as f64;
    let (seeds, failed) = (sum.seeds.into_inner(), sum.failed.into_inner());
    println!(
        "{seeds} seeds from {first} on, of {:?} nodes: {failed} runs failed; {} events, {seconds:.0} s \
         simulated in {:.0} s on {threads} threads: {pace:.0} per second and thread",
        arguments.nodes,
        sum.events.into_inner(),
        clock.elapsed().as_secs_f64(),
    );
    failed as usize
}

fn one(seed: u64, nodes: u8, sum: &Sum) {
    let outcome = run(&Plan::draw(seed, nodes), false);
    sum.events.fetch_add(outcome.events, Ordering::Relaxed);
    sum.simulated_ms.fetch_add(outcome.simulated.as_millis() as u64, Ordering::Relaxed);
    if !outcome.violations.is_empty() {
        sum.failed.fetch_add(1, Ordering::Relaxed);
        tell(seed, nodes, &outcome);
    }
}

fn tell(seed: u64, nodes: u8, outcome: &Outcome) {
    for violation in &outcome.violations {
        println!("seed {seed}: \"{}\" does not hold: {}", violation.invariant, violation.what);
    }
    if !outcome.violations.is_empty() {
        println!("again: cargo xtask prove simulation --nodes {nodes} --seed {seed} --shrink");
    }
}
