//! The repository's own tools: `cargo xtask COMMAND`.
#![allow(clippy::print_stdout, reason = "a command-line tool prints what it found")]
#![allow(
    clippy::disallowed_methods,
    reason = "not a part of the product: it has the machine's own clock and sockets"
)]

mod bench;
mod codegen;
mod mutants;
mod prove;
mod readme;
mod run;
mod suites;
mod test;
mod tidy;
mod workspace;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND
  test [--all]       every suite that needs Rust and a C compiler only; all: foreign clients too
  prove [SUITE]      one suite at its full length, with a report; without SUITE, their list
  prove simulation ARGUMENT...  the simulator with these arguments, without a report: --seed 17
  readme             what the README tells one to try, tried; needs kcat
  packages           the system's packages that foreign clients lack on this machine
  tidy [--update]    layers, banned calls, sizes, manifests, docs; update: what it can rewrite
  codegen [--check]  the protocol's messages from their schemas; check: they are up to date
  bench floor|kafka|log|keeper  measures beside the floor, beside Apache Kafka, of the log's
                     promises, beside Apache ZooKeeper; see bench/README.md";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let result = match args[..] {
        ["test"] => test::run(&root, false),
        ["test", "--all"] => test::run(&root, true),
        ["prove"] => {
            prove::list();
            Ok(())
        }
        ["prove", suite] => prove::run(&root, suite),
        ["prove", "simulation", ref args @ ..] => prove::simulate(&root, args),
        ["mutants"] => mutants::run(&root),
        ["readme"] => readme::run(&root),
        ["packages"] => {
            println!("{}", test::missing_packages().join(" "));
            Ok(())
        }
        ["tidy"] => tidy::run(&root, false),
        ["tidy", "--update"] => tidy::run(&root, true),
        ["codegen"] => codegen::run(&root, false),
        ["codegen", "--check"] => codegen::run(&root, true),
        ["bench", ref args @ ..] => bench::run(&root, args),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e}");
            ExitCode::FAILURE
        }
    }
}
