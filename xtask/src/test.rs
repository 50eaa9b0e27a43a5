//! `cargo xtask test`: the suites within their shares, and the names of those that did not run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::run::{Line, tests_passed};
use crate::suites::{self, BUILD_SHARE_S, INSTALL_SHARE_S, Needs, SUITES, Suite};
use crate::workspace::Workspace;

/// What is never part of a test run, and how to run it.
const ELSEWHERE: [(&str, &str); 4] = [
    ("full lengths", "cargo xtask prove, which lists the suites"),
    ("measurements", "cargo xtask bench floor, kafka, log or keeper"),
    ("fuzzing", "cargo +nightly fuzz run TARGET, of those in fuzz/fuzz_targets; needs cargo-fuzz"),
    ("other codecs", "cargo run --release --manifest-path oracle/Cargo.toml"),
];

/// What has to run for the foreign clients and the keepers' network, and Debian's packages with it.
const PROGRAMS: [(&[&str], &str); 9] = [
    (&["kcat", "-V"], "kcat"),
    (&["java", "-version"], "default-jre-headless"),
    (&["javac", "-version"], "default-jdk-headless"),
    (&["mvn", "--version"], "maven"),
    (&["node", "--version"], "nodejs"),
    (&["npm", "--version"], "npm"),
    (&["go", "version"], "golang-go"),
    (&["python3", "-c", "import ensurepip, venv"], "python3-venv"),
    (&["ip", "-V"], "iproute2"),
];

/// One line of the table at the end.
struct Row {
    name: &'static str,
    took: Duration,
    share: Duration,
    failure: Option<String>,
    not_run: Option<String>,
}

/// Runs the suites that need nothing but Rust and a C compiler, or `all`.
pub(crate) fn run(root: &Path, all: bool) -> Result<(), String> {
    let workspace = Workspace::read(root)?;
    let mut rows = Vec::new();
    if all {
        system_packages()?;
    }
    let ready = prepare(&workspace, all, &mut rows)?;
    let (chosen, left): (Vec<&Suite>, Vec<&Suite>) =
        SUITES.iter().partition(|suite| ready && (all || suite.needs == Needs::Rust));
    for suite in chosen {
        rows.push(run_suite(&workspace, suite)?);
    }
    print_table(&rows);
    print_left(&left, ready);
    let failed: Vec<&str> =
        rows.iter().filter(|row| row.failure.is_some()).map(|row| row.name).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

/// Builds, and with `foreign` installs the clients; says whether suites can run.
pub(crate) fn build(workspace: &Workspace, foreign: bool) -> Result<(), String> {
    let mut rows = Vec::new();
    if foreign {
        system_packages()?;
    }
    let ready = prepare(workspace, foreign, &mut rows)?;
    if ready { Ok(()) } else { Err("nothing can be run without these".to_owned()) }
}

fn prepare(workspace: &Workspace, foreign: bool, rows: &mut Vec<Row>) -> Result<bool, String> {
    let mut steps = vec![("build", suites::build(), BUILD_SHARE_S)];
    if foreign {
        let install = suites::conformance(workspace).args(["install"]);
        steps.push(("install", install, INSTALL_SHARE_S));
    }
    for (name, line, share_s) in steps {
        let row = run_line(workspace, name, &line, Duration::from_secs(share_s), false)?;
        let failed = row.failure.is_some();
        rows.push(row);
        if failed {
            return Ok(false);
        }
    }
    Ok(true)
}

fn run_suite(workspace: &Workspace, suite: &Suite) -> Result<Row, String> {
    let line = suite.line(workspace);
    run_line(workspace, suite.name, &line, suite.share(), suite.counts_tests())
}

fn run_line(
    workspace: &Workspace,
    name: &'static str,
    line: &Line,
    share: Duration,
    counts_tests: bool,
) -> Result<Row, String> {
    println!("\n== {name}: {line}");
    let ran = line.run(&workspace.root, Some(share)).map_err(|e| format!("{line}: {e}"))?;
    let none = counts_tests && tests_passed(&ran.output) == 0;
    let failure = ran.failure.or_else(|| none.then(|| "ran no test".to_owned()));
    Ok(Row { name, took: ran.took, share, failure, not_run: ran.not_run })
}

/// The system packages that foreign clients lack on this machine.
pub(crate) fn missing_packages() -> Vec<&'static str> {
    let runs = |program: &[&str]| {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let missing = PROGRAMS.iter().filter(|(program, _)| !runs(program));
    missing.map(|&(_, package)| package).collect()
}

/// Nothing is skipped for the lack of a program: one line says what to install.
fn system_packages() -> Result<(), String> {
    let missing = missing_packages();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("foreign clients need: sudo apt-get install -y {}", missing.join(" ")))
}

fn print_table(rows: &[Row]) {
    println!("\n{:<14} {:>8} {:>8}", "suite", "took s", "share s");
    for Row { name, took, share, failure, not_run } in rows {
        let result = match (failure, not_run) {
            (Some(why), _) => format!("FAILED: {why}"),
            (None, Some(lack)) => format!("NOT RUN: {lack}"),
            (None, None) => "ok".to_owned(),
        };
        println!("{name:<14} {:>8.1} {:>8} {result}", took.as_secs_f64(), share.as_secs());
    }
}

fn print_left(left: &[&Suite], ready: bool) {
    println!("\nNot run:");
    let how = if ready { "cargo xtask test --all" } else { "after what failed" };
    for suite in left {
        println!("  {:<14} {how}: {}", suite.name, suite.shows);
    }
    for (what, how) in ELSEWHERE {
        println!("  {what:<14} {how}");
    }
}
