//! Nodes that are one service together: how they are started, who leads them, what they cost.
//!
//! Owns: the order in which nodes begin. Must not know: loads.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::wire;
use crate::process::{Launch, Process, Recipe, free_address, run_tool};

/// Nodes that are no ensemble by then will not be one.
const PATIENCE: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// How to start a service.
pub(crate) struct Ensemble {
    pub(crate) name: String,
    pub(crate) nodes: Vec<Recipe>,
    /// Makes one quorum of nodes that are new.
    pub(crate) found: Option<Launch>,
    /// Whether a JVM runs it, which can be asked to collect its garbage.
    pub(crate) is_java: bool,
}

impl Ensemble {
    /// Ottla's keeper; `program` is `ottla`.
    pub(crate) fn keeper(program: &Path, data: &Path, nodes: usize) -> io::Result<Self> {
        let peers: Vec<_> = (0..nodes).map(|_| free_address()).collect::<io::Result<_>>()?;
        let voters = peers.iter().zip(1..).map(|(peer, id)| format!("{id}@{peer}"));
        let voters = voters.collect::<Vec<_>>().join(",");
        let launch = |args: &[&str]| Launch {
            program: program.to_owned(),
            args: ["keeper"].iter().chain(args).map(Into::into).collect(),
            env: Vec::new(),
        };
        let node = |id: usize| {
            let (id, address) = (id.to_string(), free_address()?);
            let data = data.join(format!("keeper-{nodes}-{id}"));
            let mut start = launch(&["start", "--listener", &address.to_string(), "--data-dir"]);
            start.args.push(data.clone().into());
            if nodes > 1 {
                start.args.extend(["--id", &id, "--voters", &voters].map(Into::into));
            }
            Ok(Recipe {
                name: format!("keeper {id}"),
                address,
                data,
                format: None,
                start,
                is_ready: wire::is_ready,
            })
        };
        Ok(Self {
            name: "Ottla".to_owned(),
            nodes: (1..=nodes).map(node).collect::<io::Result<_>>()?,
            found: (nodes > 1).then(|| launch(&["found", &voters])),
            is_java: false,
        })
    }

    /// Starts all nodes on nothing; each has answered a first request when this returns.
    pub(crate) fn start(&self) -> io::Result<Running<'_>> {
        let mut running = Running { ensemble: self, nodes: Vec::new() };
        for recipe in &self.nodes {
            recipe.clear()?;
            running.nodes.push(Some(recipe.spawn()?));
        }
        if let Some(found) = &self.found {
            // It fails as long as a node does not listen yet.
            let mut command = Command::new(&found.program);
            retry(|| run_tool(command.args(&found.args)))?;
        }
        for (recipe, process) in self.nodes.iter().zip(&mut running.nodes) {
            process.as_mut().map_or(Ok(()), |process| recipe.await_answer(process))?;
        }
        Ok(running)
    }
}

/// A service at work; killed when dropped.
pub(crate) struct Running<'a> {
    ensemble: &'a Ensemble,
    /// None is one that was killed.
    nodes: Vec<Option<Process>>,
}

impl Running<'_> {
    fn alive(&self) -> impl Iterator<Item = &Process> {
        self.nodes.iter().flatten()
    }

    /// Of those that are alive; who leads is the first.
    pub(crate) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses: Vec<_> = self.alive().map(|process| process.address).collect();
        let leader = self.nodes[self.leader()?].as_ref().map(|process| process.address);
        addresses.sort_by_key(|&address| Some(address) != leader);
        Ok(addresses)
    }

    /// Which node leads, or is alone.
    pub(crate) fn leader(&self) -> io::Result<usize> {
        let leads = |process: &Option<Process>| {
            let mode = process.as_ref().and_then(|process| wire::mode(process.address).ok());
            mode.is_some_and(|mode| mode == "leader" || mode == "standalone")
        };
        retry(|| {
            self.nodes
                .iter()
                .position(leads)
                .ok_or_else(|| io::Error::other("no node says it leads"))
        })
    }

    /// Kills a node without a warning; the addresses of the others.
    pub(crate) fn kill(&mut self, node: usize) -> Vec<SocketAddr> {
        // To drop a process is to kill it.
        self.nodes[node] = None;
        self.alive().map(|process| process.address).collect()
    }

    /// Starts a node that was killed; it follows when this returns.
    pub(crate) fn restart(&mut self, node: usize) -> io::Result<()> {
        let process = self.nodes[node].insert(self.ensemble.nodes[node].resume()?);
        retry(|| match wire::mode(process.address)?.as_str() {
            "follower" => Ok(()),
            mode => Err(io::Error::other(format!("the restarted node is a {mode}"))),
        })
    }

    /// User and system CPU seconds since the start, of all nodes.
    pub(crate) fn cpu_seconds(&self) -> io::Result<f64> {
        self.alive().map(Process::cpu_seconds).sum()
    }

    /// Of the only node.
    pub(crate) fn process(&self) -> &Process {
        self.alive().next().expect("an ensemble has nodes")
    }
}

/// Until it succeeds, or patience ends.
fn retry<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => thread::sleep(PROBE_INTERVAL),
            outcome => return outcome,
        }
    }
}
