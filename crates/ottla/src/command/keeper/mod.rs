//! `ottla keeper`: the coordination service without a broker, and its quorum.

mod start;
mod tend;

use clap::{Args, Subcommand};

use crate::exit::Outcome;

#[derive(Args, Debug)]
pub(crate) struct KeeperArgs {
    #[command(subcommand)]
    command: KeeperCommand,
}

#[derive(Subcommand, Debug)]
enum KeeperCommand {
    /// Run a keeper, which ZooKeeper's clients can use, until it is told to stop
    Start(start::Start),
    /// Found a quorum of keepers that were started with new directories
    Found(tend::Found),
    /// Show who belongs to a quorum, and how each one is
    Status(tend::Status),
    /// Take a keeper into a quorum, also in the place of one whose disk was replaced
    Add(tend::Add),
    /// Let a keeper go from a quorum
    Remove(tend::Remove),
    /// Have a keeper write a snapshot of the tree now
    Snapshot(tend::Snapshot),
}

impl KeeperArgs {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            KeeperCommand::Start(start) => start.run(),
            KeeperCommand::Found(found) => super::block_on(found.run()),
            KeeperCommand::Status(status) => super::block_on(status.run()),
            KeeperCommand::Add(add) => super::block_on(add.run()),
            KeeperCommand::Remove(remove) => super::block_on(remove.run()),
            KeeperCommand::Snapshot(snapshot) => super::block_on(snapshot.run()),
        }
    }
}
