//! Three keepers of one quorum, as processes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Outcome;
use crate::broker::{End, Node, free_port, poll};

/// A quorum, at work.
pub(crate) struct Quorum {
    binary: PathBuf,
    keepers: Vec<Node>,
}

/// A keeper that says nothing for so long is not there.
const WORD_TIME: Duration = Duration::from_secs(2);

impl Quorum {
    /// Starts keepers on empty directories, and founds a quorum of them.
    pub(crate) fn start(binary: &Path, keepers: usize) -> Outcome<Self> {
        let binary =
            binary.canonicalize().map_err(|error| format!("{}: {error}", binary.display()))?;
        let mut voters = Vec::new();
        for id in 1..=keepers {
            voters.push(format!("{id}@127.0.0.1:{}", free_port()?));
        }
        let voters = voters.join(",");
        let mut quorum = Self { binary, keepers: Vec::new() };
        for id in 1..=keepers {
            let mut keeper = Node::of(|address, home| {
                let mut command = Command::new(&quorum.binary);
                command.args(["keeper", "start", "--id", &id.to_string(), "--voters", &voters]);
                command.args(["--listener", address, "--data-dir"]).arg(home.join("data"));
                Ok(command)
            })?;
            keeper.start()?;
            quorum.keepers.push(keeper);
        }
        let found = Command::new(&quorum.binary).args(["keeper", "found", &voters]).output()?;
        if !found.status.success() {
            return Err(String::from_utf8_lossy(&found.stderr).into());
        }
        Ok(quorum)
    }

    /// Where clients find them: `host:port,host:port`.
    pub(crate) fn connect(&self) -> String {
        let addresses: Vec<_> = self.keepers.iter().map(|keeper| &*keeper.bootstrap).collect();
        addresses.join(",")
    }

    /// Ends the keeper that leads, and tells which one it was.
    pub(crate) fn stop_leader(&mut self, end: End) -> Outcome<usize> {
        let leader = poll("a keeper that leads", || {
            Ok(self.keepers.iter().position(|keeper| mode(&keeper.bootstrap) == "leader"))
        })?;
        self.keepers[leader].stop(end)?;
        Ok(leader)
    }

    /// Starts a keeper again on what it left behind, and waits until it follows or leads.
    pub(crate) fn restart(&mut self, keeper: usize) -> Outcome<()> {
        let keeper = &mut self.keepers[keeper];
        keeper.start()?;
        poll("the keeper to be one of the quorum again", || {
            Ok(["leader", "follower"].contains(&&*mode(&keeper.bootstrap)).then_some(()))
        })
    }
}

/// What `srvr` says that a keeper is; empty if it serves nobody.
fn mode(address: &str) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(WORD_TIME))?;
        stream.write_all(b"srvr")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    let mode = answer.lines().find_map(|line| line.strip_prefix("Mode: "));
    mode.unwrap_or_default().to_owned()
}
