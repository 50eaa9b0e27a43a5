//! `cargo xtask prove SUITE`: a suite at its full length, with a report for `docs/reports`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::{Line, Ran, tests_passed};
use crate::suites::{self, Needs, PROVED_ONLY, SUITES, Suite};
use crate::test;
use crate::workspace::{Workspace, output};

/// How many lines of a command's output a report keeps.
const TAIL_LINES: usize = 60;

/// The suites that can be proved.
pub(crate) fn list() {
    println!("usage: cargo xtask prove SUITE, which writes docs/reports/SUITE-DATE.md");
    for suite in SUITES.iter().chain(PROVED_ONLY) {
        println!("  {:<14} {}", suite.name, suite.shows);
    }
}

/// Runs the suite called `name` without a limit of time, and writes the report, whatever it says.
pub(crate) fn run(root: &Path, name: &str) -> Result<(), String> {
    let workspace = Workspace::read(root)?;
    let Some(suite) = SUITES.iter().chain(PROVED_ONLY).find(|suite| suite.name == name) else {
        list();
        return Err(format!("no suite {name:?}"));
    };
    test::build(&workspace, suite.needs == Needs::ForeignClients)?;
    // Before the run, which may be long: what is run is what is there now.
    let commit = commit(root)?;
    let line = suite.full_line(&workspace);
    println!("\n== {name}: {line}");
    let mut ran = line.run(&workspace.root, None).map_err(|e| format!("{line}: {e}"))?;
    if let Some(lack) = &ran.not_run {
        return Err(format!("{name} cannot run here: {lack}"));
    }
    if suite.counts_tests() && tests_passed(&ran.output) == 0 {
        ran.failure = ran.failure.or(Some("ran no test".to_owned()));
    }
    let date = date()?;
    let command = line.to_string();
    let text = report(suite, &commit, &command, &date, &machine()?, &ran);
    let path = format!("docs/reports/{name}-{date}.md");
    write(&workspace, &path, &text)?;
    println!("written to {path}");
    ran.failure.map_or(Ok(()), |why| Err(format!("{name}: {why}")))
}

/// Runs the simulator as one wants it: with a seed that failed, mostly.
pub(crate) fn simulate(root: &Path, args: &[&str]) -> Result<(), String> {
    let workspace = Workspace::read(root)?;
    let build = ["build", "--quiet", "--profile", "ci", "--package", "ottla-simulation"];
    for line in [Line::cargo().args(build), suites::simulation(&workspace).args(args)] {
        let ran = line.run(&workspace.root, None).map_err(|e| format!("{line}: {e}"))?;
        ran.failure.map_or(Ok(()), |why| Err(format!("{line}: {why}")))?;
    }
    Ok(())
}

fn report(
    suite: &Suite,
    commit: &str,
    command: &str,
    date: &str,
    machine: &str,
    ran: &Ran,
) -> String {
    let result = ran.failure.as_ref().map_or("passed".to_owned(), |why| format!("failed: {why}"));
    let lines: Vec<&str> = ran.output.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    format!(
        "# {}: {}\n\n\
         | | |\n|---|---|\n\
         | command | `{command}` |\n\
         | commit | {commit} |\n\
         | date | {date} (UTC) |\n\
         | machine | {machine} |\n\
         | took | {} s |\n\
         | result | {result} |\n\n\
         The end of the output:\n\n```text\n{tail}\n```\n",
        suite.name,
        suite.shows,
        ran.took.as_secs(),
    )
}

/// Writes a report without the paths of the machine that it was made on.
fn write(workspace: &Workspace, path: &str, text: &str) -> Result<(), String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let mut text = text
        .replace(&*workspace.target.to_string_lossy(), "target")
        .replace(&*workspace.root.to_string_lossy(), ".");
    if home.len() > 1 {
        text = text.replace(&home, "~");
    }
    let path = workspace.root.join(path);
    let directory = path.parent().unwrap_or(&workspace.root);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&path, text))
        .map_err(|e| format!("{}: {e}", path.display()))
}

fn commit(root: &Path) -> Result<String, String> {
    let git = |args: &[&str]| output(Command::new("git").current_dir(root).args(args));
    let commit = git(&["rev-parse", "HEAD"])?.trim().to_owned();
    let clean = git(&["status", "--porcelain"])?.is_empty();
    Ok(if clean { commit } else { format!("{commit}, with changes that are not committed") })
}

fn date() -> Result<String, String> {
    Ok(output(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?.trim().to_owned())
}

/// Processor, cores and kernel, from /proc.
fn machine() -> Result<String, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    let processors = read("/proc/cpuinfo")?;
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_err(|e| e.to_string())?;
    let kernel = read("/proc/sys/kernel/osrelease")?;
    Ok(format!("{model}, {cores} cores, Linux {}", kernel.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_report_says_what_was_run_and_keeps_the_end() {
        let output = (0..100).map(|n| format!("line {n}\n")).collect();
        let failure = Some("exit status: 1".to_owned());
        let ran = Ran { failure, not_run: None, took: Duration::from_secs(61), output };
        let text = report(&SUITES[0], "c0ffee", "cargo xtask tidy", "2026-01-31", "a box", &ran);
        for expected in ["c0ffee", "`cargo xtask tidy`", "2026-01-31", "a box", "61 s"] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(text.contains("failed: exit status: 1"), "{text}");
        assert!(!text.contains("line 39\n") && text.contains("line 40\n"), "the last 60 lines");
    }
}
