//! The keeper beside ZooKeeper: the same requests, answer by answer.
//!
//! `clients/zookeeper/draw.py` draws requests of every kind from a seed, for three sessions that take
//! turns, and prints each answer and each event. Both servers begin empty; what they print must be
//! the same text, down to zxids and stats.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::broker::{Node, Target};
use crate::install::{Tools, ZOOKEEPER};

/// How many seeds, unless `OTTLA_KEEPER_DRAWS` says otherwise.
const SEEDS: u64 = 4;
const REQUESTS: &str = "1000";

/// Returns how many seeds were answered differently.
pub(crate) fn run(target: &Target, tools: &Tools) -> Outcome<usize> {
    let Target::Ottla(binary) = target else {
        return Err("keeper: it has to start the keeper itself, with an ottla".into());
    };
    let seeds = match env::var("OTTLA_KEEPER_DRAWS") {
        Ok(seeds) => seeds.parse()?,
        Err(_) => SEEDS,
    };
    let mut failures = 0;
    for seed in 1..=seeds {
        let ottla =
            transcript(Node::of(|address, home| keeper(binary, address, home))?, tools, seed)?;
        let server = |address: &str, home: &Path| zookeeper(tools.zookeeper(), "", address, home);
        let zookeeper = transcript(Node::of(server)?, tools, seed)?;
        let different = ottla.lines().zip(zookeeper.lines()).find(|(ours, theirs)| ours != theirs);
        match different {
            None if ottla.lines().count() == zookeeper.lines().count() => {
                println!(
                    "ok     keeper, seed {seed}: {} answers as ZooKeeper {ZOOKEEPER}",
                    ottla.lines().count()
                );
            }
            different => {
                let (ours, theirs) = different.unwrap_or(("one ends before the other", ""));
                println!("FAILED keeper, seed {seed}\n  ottla:     {ours}\n  ZooKeeper: {theirs}");
                failures += 1;
            }
        }
    }
    Ok(failures)
}

/// What a server answers, as text.
fn transcript(mut node: Node, tools: &Tools, seed: u64) -> Outcome<String> {
    node.start()?;
    let mut client = tools.python("zookeeper/draw.py");
    let output = client.arg(&node.bootstrap).arg(seed.to_string()).arg(REQUESTS).output()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("seed {seed} on {}: {errors}", node.bootstrap).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A keeper alone.
pub(crate) fn keeper(binary: &Path, address: &str, home: &Path) -> Outcome<Command> {
    let binary =
        fs::canonicalize(binary).map_err(|error| format!("{}: {error}", binary.display()))?;
    let mut command = Command::new(binary);
    command.args(["keeper", "start", "--listener", address, "--data-dir"]).arg(home.join("data"));
    Ok(command)
}

/// A ZooKeeper alone, in the JVM `command`, with `keys` of its configuration.
pub(crate) fn zookeeper(
    mut command: Command,
    keys: &str,
    address: &str,
    home: &Path,
) -> Outcome<Command> {
    let (host, port) = address.split_once(':').ok_or("not host:port")?;
    let data = home.join("data");
    let config = home.join("zoo.cfg");
    let text = format!(
        "tickTime=2000\ndataDir={}\nclientPort={port}\nclientPortAddress={host}\n\
         admin.enableServer=false\n{keys}",
        data.display()
    );
    fs::write(&config, text)?;
    // Nodes with a time to live have to be asked for.
    command.arg("-Dzookeeper.extendedTypesEnabled=true");
    command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(config);
    Ok(command)
}
