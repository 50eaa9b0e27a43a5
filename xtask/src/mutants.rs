//! `cargo xtask prove mutants`: faults that are built into the servers, and that the simulator has to find.
//!
//! A mutant is a patch in `crates/simulation/mutants`: a line that says what is wrong, and the change. It
//! is applied to a work tree of its own, so that nothing of it ever stands in the code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::Line;
use crate::workspace::{Workspace, output};

const PATCHES: &str = "crates/simulation/mutants";

/// A mutant that so many seeds do not find is not found.
const SEEDS: u64 = 2_000;

/// The patches, by name.
fn patches(root: &Path) -> Result<Vec<PathBuf>, String> {
    let listed = fs::read_dir(root.join(PATCHES)).map_err(|e| format!("{PATCHES}: {e}"))?;
    let paths = listed.flatten().map(|entry| entry.path());
    let mut patches: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "patch")).collect();
    patches.sort();
    Ok(patches)
}

fn name(patch: &Path) -> String {
    patch.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn git(directory: &Path, args: &[&str]) -> Result<String, String> {
    output(Command::new("git").current_dir(directory).args(args))
}

/// Those that do not fit the code any more.
pub(crate) fn stale(root: &Path) -> Result<Vec<PathBuf>, String> {
    let fits = |patch: &Path| git(root, &["apply", "--check", &patch.to_string_lossy()]).is_ok();
    Ok(patches(root)?.into_iter().filter(|patch| !fits(patch)).collect())
}

/// Builds one mutant after the other, and lets the simulator look for it.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let workspace = Workspace::read(root)?;
    let home = workspace.target.join("mutants");
    let tree = home.join("tree");
    let tree_text = tree.to_string_lossy().into_owned();
    if !tree.exists() {
        git(root, &["worktree", "prune"])?;
        git(root, &["worktree", "add", "--detach", &tree_text, "HEAD"])?;
    }
    let head = git(root, &["rev-parse", "HEAD"])?.trim().to_owned();
    git(&tree, &["checkout", "--quiet", "--force", "--detach", &head])?;
    let mut survivors = Vec::new();
    let mut table = String::from("| mutant | found by seed | what did not hold |\n|---|---|---|\n");
    for patch in patches(root)? {
        let name = name(&patch);
        println!("\n== mutant: {name}");
        let found = try_one(&tree, &home, &patch);
        git(&tree, &["checkout", "--quiet", "--force", "."])?;
        match found? {
            Some((seed, what)) => table += &format!("| {name} | {seed} | {what} |\n"),
            None => {
                table += &format!("| {name} | - | **not found by {SEEDS} seeds** |\n");
                survivors.push(name);
            }
        }
    }
    println!("\n{table}");
    match survivors.len() {
        0 => Ok(()),
        _ => Err(format!("not found: {}", survivors.join(", "))),
    }
}

/// The seed that finds a mutant, and what it finds.
fn try_one(tree: &Path, home: &Path, patch: &Path) -> Result<Option<(u64, String)>, String> {
    git(tree, &["apply", &patch.to_string_lossy()])?;
    let target = home.join("target");
    let env = [("CARGO_TARGET_DIR", &*target.to_string_lossy())].map(|(k, v)| (k, v.to_owned()));
    let env: Vec<(&str, &str)> = env.iter().map(|(key, value)| (*key, &**value)).collect();
    let build = ["build", "--quiet", "--profile", "ci", "--package", "ottla-simulation"];
    let built = Line::cargo().args(build).env(&env).run(tree, None);
    let built = built.map_err(|e| format!("cargo build: {e}"))?;
    if let Some(failure) = built.failure {
        return Err(format!("{} does not build: {failure}", name(patch)));
    }
    let seeds = SEEDS.to_string();
    let search = ["--first", "0", "--seeds", &seeds, "--until-failure"];
    let ran = Line::new(target.join("ci/ottla-simulation")).args(search).run(tree, None);
    let ran = ran.map_err(|e| format!("ottla-simulation: {e}"))?;
    Ok(ran.output.lines().find_map(finding))
}

/// `seed 17: "what should hold" does not hold: what is`.
fn finding(line: &str) -> Option<(u64, String)> {
    let (seed, what) = line.strip_prefix("seed ")?.split_once(": ")?;
    let (invariant, _) = what.split_once(" does not hold")?;
    Some((seed.parse().ok()?, invariant.trim_matches('"').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_simulator_finds_is_read() {
        let line = "seed 17: \"acknowledged is kept\" does not hold: t0-0 has lost 3.4 at 5";
        assert_eq!(finding(line), Some((17, "acknowledged is kept".to_owned())));
        assert_eq!(finding("2000 seeds from 0 on, of [1, 3] nodes: 0 runs failed"), None);
    }
}
