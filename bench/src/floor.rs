//! Ottla beside the floor: the least work that a server of Kafka's protocol can do for a record.
//!
//! Owns: how the floor is built and started, and the goals. Must not know: how loads work.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::process::{Launch, Recipe, free_address, run_tool};
use crate::report::{Goal, Limit};
use crate::wire;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/floor/floor.c");

/// CPU per byte within 1.6 times the floor's, and a process that idles in 12 MiB.
pub(crate) const GOALS: [Goal; 4] = [
    Goal {
        cell: "produce, 1 KiB records, 100 KiB",
        metric: "CPU s/GB",
        limit: Limit::MostTimes(1.6),
    },
    Goal {
        cell: "produce, 1 KiB records, 16 KiB",
        metric: "CPU s/GB",
        limit: Limit::MostTimes(1.6),
    },
    Goal { cell: "fetch, 1 KiB records", metric: "CPU s/GB", limit: Limit::MostTimes(1.6) },
    Goal { cell: "memory", metric: "idle RSS, MiB", limit: Limit::Most(12.0) },
];

/// Compiles the floor into `tools` for this machine's processor.
pub(crate) fn recipe(tools: &Path, data: &Path) -> io::Result<Recipe> {
    std::fs::create_dir_all(tools)?;
    let program = tools.join("floor");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-march=native", "-Wall", "-Wextra", "-o"]).arg(&program).arg(SOURCE);
    run_tool(&mut gcc)?;
    let address = free_address()?;
    let data = data.join("floor");
    Ok(Recipe {
        name: "floor".to_owned(),
        address,
        format: None,
        start: Launch {
            program,
            args: vec![address.port().to_string().into(), data.clone().into()],
            env: Vec::new(),
        },
        data,
        is_ready: wire::is_ready,
    })
}
