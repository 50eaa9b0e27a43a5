//! `cargo xtask bench floor|kafka|log|keeper`: the measures of `bench/`, with the binaries that are shipped.

use std::path::Path;

use crate::run::Line;
use crate::workspace::Workspace;

/// Builds with the profile `dist`, then measures; `args` go on to `ottla-bench`.
pub(crate) fn run(root: &Path, args: &[&str]) -> Result<(), String> {
    let workspace = Workspace::read(root)?;
    let packages = ["--package", "ottla", "--package", "ottla-bench"];
    let build = Line::cargo().args(["build", "--profile", "dist"]).args(packages);
    let broker = workspace.program("dist", "ottla");
    let measure = Line::new(workspace.program("dist", "ottla-bench"))
        .args(args)
        .args(["--broker".as_ref(), broker.as_os_str()]);
    for line in [build, measure] {
        let ran = line.run(&workspace.root, None).map_err(|e| format!("{line}: {e}"))?;
        if let Some(why) = ran.failure {
            return Err(format!("{line}: {why}"));
        }
    }
    Ok(())
}
