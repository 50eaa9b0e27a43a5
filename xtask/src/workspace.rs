//! The workspace as cargo sees it, and its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a crate of the workspace says about itself.
#[derive(Debug, Default)]
pub(crate) struct Package {
    /// `ottla-log`.
    pub(crate) name: String,
    pub(crate) licence: String,
    pub(crate) manifest: PathBuf,
    /// `lib.rs`, or `main.rs` where there is no library.
    pub(crate) entry: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A line of a crate's `[dependencies]`, `[dev-dependencies]` or `[build-dependencies]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) dev: bool,
    /// A crate of this workspace.
    pub(crate) local: bool,
}

/// What cargo knows.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

impl Workspace {
    /// Asks cargo for its own crates only: quick, and without a network.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let metadata = metadata(root, &["--no-deps"])?;
        let packages = array(&metadata, "packages").iter().map(package).collect();
        let directory = |key: &str| PathBuf::from(text(&metadata, key));
        Ok(Self {
            root: directory("workspace_root"),
            target: directory("target_directory"),
            packages,
        })
    }

    /// Where the profile of CI puts the program `name`.
    pub(crate) fn program(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(name)
    }
}

/// The names of all crates in the build, with those that each is linked with (neither dev nor
/// build dependencies).
pub(crate) type Graph = BTreeMap<String, Vec<String>>;

/// The graph of the host's platform. Downloads what is not there yet.
pub(crate) fn graph(root: &Path) -> Result<Graph, String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc -vV names no host")?;
    let metadata = metadata(root, &["--locked", "--filter-platform", host])?;
    let name = |package: &Value| (text(package, "id"), text(package, "name"));
    let names: BTreeMap<String, String> = array(&metadata, "packages").iter().map(name).collect();
    let linked = |edge: &&Value| array(edge, "dep_kinds").iter().any(|kind| kind["kind"].is_null());
    let node = |node: &Value| {
        let edges = array(node, "deps").iter().filter(linked);
        let edges = edges.map(|edge| names[&text(edge, "pkg")].clone()).collect();
        (names[&text(node, "id")].clone(), edges)
    };
    // Two versions of one crate share an entry: their edges are looked at together.
    let mut graph = Graph::new();
    for (name, edges) in array(&metadata["resolve"], "nodes").iter().map(node) {
        let edges: Vec<String> = edges;
        graph.entry(name).or_default().extend(edges);
    }
    Ok(graph)
}

/// Every file of the checkout as a path from its root, except what is built.
pub(crate) fn files(root: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    walk(root, Path::new(""), &mut found).map_err(|e| format!("{}: {e}", root.display()))?;
    found.sort();
    Ok(found)
}

/// What a program prints, its failure as text.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{program}: {e}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} failed ({}): {}", output.status, said.trim_end()));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{program}: {e}"))
}

/// The cargo that runs us.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

fn metadata(root: &Path, options: &[&str]) -> Result<Value, String> {
    let mut command = cargo(root);
    command.args(["metadata", "--format-version", "1"]).args(options);
    serde_json::from_str(&output(&mut command)?).map_err(|e| format!("cargo metadata: {e}"))
}

fn package(package: &Value) -> Package {
    let targets = array(package, "targets");
    let of_kind = |kind: &str| {
        targets.iter().find(|target| array(target, "kind").iter().any(|found| found == kind))
    };
    let entry = of_kind("lib").or_else(|| of_kind("bin"));
    Package {
        name: text(package, "name"),
        licence: text(package, "license"),
        manifest: text(package, "manifest_path").into(),
        entry: entry.map(|target| text(target, "src_path").into()).unwrap_or_default(),
        dependencies: array(package, "dependencies").iter().map(dependency).collect(),
    }
}

fn dependency(dependency: &Value) -> Dependency {
    Dependency {
        name: text(dependency, "name"),
        dev: dependency["kind"] == "dev",
        local: dependency["path"].is_string(),
    }
}

fn walk(root: &Path, at: &Path, found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(at))? {
        let entry = entry?;
        let name = entry.file_name();
        let path = at.join(&name);
        if !entry.file_type()?.is_dir() {
            found.push(path.to_string_lossy().into_owned());
        } else if !["target", ".git", "ottla-data"].iter().any(|skipped| name == *skipped) {
            walk(root, &path, found)?;
        }
    }
    Ok(())
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
